//! The history of one run: what its clients wrote down, what the rig did and found itself, and the verdict on all of it.
//!
//! Everything lies in one folder of JSON lines, which stays: `cargo xtask check FOLDER` judges it again.

use crate::broker::Broker;
use crate::clients;
use crate::places;
use crate::run::command;
use anyhow::{Context, Result, ensure};
use aquifer_checker::{
    Checker, Event, Expiry, Number, Offset, Partition, Producer, Reader, Records, Report, Source, lines,
};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

/// What a value is filled up with; the Go program writes the same.
const PADDING: &[u8] = b"0123456789abcdef";
/// How long the audit of one partition may take.
const AUDIT_SECONDS: &str = "600";

#[derive(Debug)]
pub(crate) struct History {
    folder: PathBuf,
    rig: BufWriter<File>,
    audit_seconds: String,
}

impl History {
    /// An empty one.
    pub(crate) fn begin(name: &str) -> Result<History> {
        let folder = places::emptied(places::data()?.join(format!("history-{name}")))?;
        let rig = BufWriter::new(File::create(folder.join("rig.jsonl"))?);
        Ok(History { folder, rig, audit_seconds: AUDIT_SECONDS.to_owned() })
    }

    /// One that was written before, as it is.
    pub(crate) fn kept(name: &str) -> Result<History> {
        let folder = places::data()?.join(format!("history-{name}"));
        let rig = BufWriter::new(File::options().append(true).open(folder.join("rig.jsonl"))?);
        Ok(History { folder, rig, audit_seconds: AUDIT_SECONDS.to_owned() })
    }

    /// The same, with an audit that gives up sooner: for a broker that is expected to fail it.
    pub(crate) fn impatient(self, audit_seconds: u64) -> History {
        History { audit_seconds: audit_seconds.to_string(), ..self }
    }

    /// The file for what one client program sends, is told and reads.
    pub(crate) fn of(&self, client: &str) -> PathBuf {
        self.folder.join(format!("{client}.jsonl"))
    }

    pub(crate) fn note(&mut self, event: &Event) -> Result<()> {
        lines::write(&mut self.rig, event).context("writing the history")
    }

    /// Something is about to be done to the broker, or below it.
    pub(crate) fn fault(&mut self, what: &str) -> Result<()> {
        self.note(&Event::Fault { what: what.to_owned() })
    }

    /// A topic was made whose records never go.
    pub(crate) fn topic(&mut self, topic: &str, partitions: usize, expiry: Expiry) -> Result<()> {
        self.note(&Event::Topic { topic: topic.to_owned(), partitions: u32::try_from(partitions)?, expiry })
    }

    /// Another client than the one that wrote reads all of the topic.
    pub(crate) fn audit(&mut self, bootstrap: &str, topic: &str, partitions: usize) -> Result<()> {
        for index in 0..partitions {
            let bound = |which| clients::kcat_offset(bootstrap, topic, index, which);
            let (start, end) = match (bound("-2"), bound("-1")) {
                (Ok(start), Ok(end)) => (start, end),
                // An audit that was not made is a violation, and the checker's to tell.
                (Err(error), _) | (_, Err(error)) => {
                    println!("   no audit of {topic}-{index}: {error:#}");
                    continue;
                }
            };
            let partition = Partition { topic: topic.to_owned(), index: u32::try_from(index)? };
            let number = index.to_string();
            let mut kcat =
                command("timeout", [&self.audit_seconds, "kcat", "-C", "-b", bootstrap, "-t", topic]);
            kcat.args([
                "-p",
                &number,
                "-o",
                "beginning",
                "-e",
                "-c",
                &(end - start).max(1).to_string(),
                "-q",
            ]);
            kcat.args(["-X", "check.crcs=true", "-f", "%o\\t%s\\n"]);
            self.seek("kcat", &partition, start)?;
            if end > start {
                self.reads_of("kcat", kcat, &partition, Source::Audit)?;
            }
            self.note(&Event::Audited { partition, log_start: Offset(start), end: Offset(end) })?;
        }
        Ok(())
    }

    /// Another client goes to an offset and reads a few records from there.
    pub(crate) fn read_at(&mut self, bootstrap: &str, partition: &Partition, offset: u64) -> Result<()> {
        self.seek("seeker", partition, i64::try_from(offset)?)?;
        let Partition { topic, index } = partition;
        let (index, offset) = (index.to_string(), offset.to_string());
        let mut kcat = command("timeout", [&self.audit_seconds, "kcat", "-C", "-b", bootstrap, "-t", topic]);
        kcat.args(["-p", &index, "-o", &offset, "-e", "-c", "5", "-q", "-f", "%o\\t%s\\n"]);
        self.reads_of("seeker", kcat, partition, Source::Broker)
    }

    /// What the bucket alone holds of each partition.
    pub(crate) fn bucket(&mut self, broker: &Broker, topic: &str, partitions: usize) -> Result<()> {
        for index in 0..partitions {
            let partition = Partition { topic: topic.to_owned(), index: u32::try_from(index)? };
            let number = index.to_string();
            let mut cat = broker.tier(["cat", topic, &number, "--format", "{offset}\\t{value}\\n"]);
            cat.args(["--object-store", broker.object_store()]);
            self.seek("tier cat", &partition, 0)?;
            self.reads_of("tier cat", cat, &partition, Source::Bucket)?;
        }
        Ok(())
    }

    fn seek(&mut self, reader: &str, partition: &Partition, offset: i64) -> Result<()> {
        let (reader, offset) = (Reader(reader.to_owned()), Offset(offset));
        self.note(&Event::Seek { reader, partition: partition.clone(), offset })
    }

    /// Runs a program that prints `offset TAB value LF`, and notes what it read. One that fails is told; what it did not read is
    /// missing, and the checker sees that.
    fn reads_of(
        &mut self,
        reader: &str,
        mut program: Command,
        partition: &Partition,
        source: Source,
    ) -> Result<()> {
        let mut child = program
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {reader}"))?;
        let mut said = BufReader::with_capacity(1 << 20, child.stdout.take().context("asked for above")?);
        let mut reading = Reading::new(reader, partition, source);
        let mut line = Vec::new();
        while said.read_until(b'\n', &mut line)? > 0 {
            for event in reading.line(line.strip_suffix(b"\n").unwrap_or(&line))? {
                self.note(&event)?;
            }
            line.clear();
        }
        if let Some(event) = reading.end() {
            self.note(&event)?;
        }
        let status = child.wait()?;
        if !status.success() {
            println!("   {reader} ended with {status} on {partition}");
        }
        Ok(())
    }

    /// The verdict.
    pub(crate) fn report(mut self) -> Result<Report> {
        self.rig.flush()?;
        judge(&self.folder)
    }

    /// The verdict, printed; an error unless it is clean.
    pub(crate) fn must_be_clean(self) -> Result<Report> {
        let folder = self.folder.clone();
        let report = self.report()?;
        println!("   {}", report.to_string().replace('\n', "\n   "));
        ensure!(report.is_clean(), "the history breaks the log's word; it is kept in {}", folder.display());
        Ok(report)
    }
}

/// Judges a folder of histories.
pub(crate) fn judge(folder: &Path) -> Result<Report> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("listing {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
    files.sort();
    ensure!(!files.is_empty(), "{} holds no history (*.jsonl)", folder.display());
    let mut checker = Checker::new();
    for file in files {
        let lines = BufReader::new(File::open(&file).with_context(|| format!("opening {}", file.display()))?);
        checker.observe_lines(lines).with_context(|| format!("in {}", file.display()))?;
    }
    Ok(checker.finish())
}

/// Lines of one reader, put together into reads that are as long as they can be.
struct Reading<'a> {
    reader: Reader,
    partition: &'a Partition,
    source: Source,
    run: Option<(Records, i64)>,
}

impl Reading<'_> {
    fn new<'a>(reader: &str, partition: &'a Partition, source: Source) -> Reading<'a> {
        Reading { reader: Reader(reader.to_owned()), partition, source, run: None }
    }

    fn line(&mut self, line: &[u8]) -> Result<Vec<Event>> {
        let tab = line.iter().position(|byte| *byte == b'\t').context("a line has no offset")?;
        let offset: i64 = std::str::from_utf8(&line[..tab])?.parse().context("an offset")?;
        let (producer, number) = match identify(self.partition, &line[tab + 1..]) {
            Ok(identity) => identity,
            Err(what) => {
                let mut events: Vec<Event> = self.end().into_iter().collect();
                let (reader, partition) = (self.reader.clone(), self.partition.clone());
                events.push(Event::Foreign { reader, partition, offset: Offset(offset), what });
                return Ok(events);
            }
        };
        if let Some((records, start)) = &mut self.run
            && records.producer == producer
            && records.first.0 + u64::from(records.count) == number
            && *start + i64::from(records.count) == offset
            && records.count < u32::MAX
        {
            records.count += 1;
            return Ok(Vec::new());
        }
        let ended = self.end();
        self.run = Some((Records { producer, first: Number(number), count: 1 }, offset));
        Ok(ended.into_iter().collect())
    }

    fn end(&mut self) -> Option<Event> {
        let (records, offset) = self.run.take()?;
        let (reader, partition) = (self.reader.clone(), self.partition.clone());
        Some(Event::Read { reader, partition, offset: Offset(offset), records, source: self.source })
    }
}

/// Which record a value says that it is: `producer partition number padding`, each byte as it was sent.
fn identify(partition: &Partition, value: &[u8]) -> Result<(Producer, u64), String> {
    let other =
        || format!("a value of other make: {}", String::from_utf8_lossy(&value[..value.len().min(40)]));
    let mut parts = value.splitn(4, |byte| *byte == b' ');
    let mut number = || -> Option<u64> { std::str::from_utf8(parts.next()?).ok()?.parse().ok() };
    let (Some(producer), Some(told), Some(number)) = (number(), number(), number()) else {
        return Err(other());
    };
    let padding = parts.next().ok_or_else(other)?;
    let producer = Producer(u32::try_from(producer).map_err(|_| other())?);
    if told != u64::from(partition.index) {
        return Err(format!("a value sent to partition {told}"));
    }
    if padding.iter().zip(PADDING.iter().cycle()).any(|(found, sent)| found != sent) {
        return Err(format!("record {number} of {producer} with a changed byte"));
    }
    Ok((producer, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition { topic: "t".to_owned(), index: 3 }
    }

    #[test]
    fn a_value_says_who_sent_it_and_any_changed_byte_shows() {
        assert_eq!(identify(&partition(), b"1 3 17 0123456789abcdef012"), Ok((Producer(1), 17)));
        for (bad, why) in [
            (&b"1 2 17 0123"[..], "a value sent to partition 2"),
            (b"1 3 17 0133", "record 17 of producer 1 with a changed byte"),
            (b"1 3 x 0123", "a value of other make: 1 3 x 0123"),
            (b"", "a value of other make: "),
        ] {
            assert_eq!(identify(&partition(), bad), Err(why.to_owned()));
        }
    }

    #[test]
    fn lines_become_reads_as_long_as_they_can_be() {
        let partition = partition();
        let mut reading = Reading::new("r", &partition, Source::Audit);
        let mut events = Vec::new();
        for line in ["5\t1 3 0 01", "6\t1 3 1 01", "7\t1 3 3 01", "8\tx", "9\t1 3 4 0"] {
            events.extend(reading.line(line.as_bytes()).expect("a line"));
        }
        events.extend(reading.end());
        let read = |offset, first, count| Event::Read {
            reader: Reader("r".to_owned()),
            partition: partition.clone(),
            offset: Offset(offset),
            records: Records { producer: Producer(1), first: Number(first), count },
            source: Source::Audit,
        };
        let foreign = Event::Foreign {
            reader: Reader("r".to_owned()),
            partition: partition.clone(),
            offset: Offset(8),
            what: "a value of other make: x".to_owned(),
        };
        assert_eq!(events, [read(5, 0, 2), read(7, 3, 1), foreign, read(9, 4, 1)]);
        assert!(reading.line(b"no tab").is_err());
    }
}
