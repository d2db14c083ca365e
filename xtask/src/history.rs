//! The history of one run: what its clients wrote down, what the rig did and found itself, and the verdict on all of it.
//!
//! Everything lies in one folder of JSON lines, which stays: `cargo xtask check FOLDER` judges it again.

use crate::broker::Broker;
use crate::clients;
use crate::places;
use crate::reading::Reading;
use crate::run::command;
use anyhow::{Context, Result, ensure};
use aquifer_checker::{Checker, Event, Expiry, Offset, Partition, Reader, Report, Source, lines};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

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
        let said = BufReader::with_capacity(1 << 20, child.stdout.take().context("asked for above")?);
        self.read_lines(reader, said, partition, source)?;
        let status = child.wait()?;
        if !status.success() {
            println!("   {reader} ended with {status} on {partition}");
        }
        Ok(())
    }

    /// Notes what a reader read, given as lines `offset TAB value LF`.
    pub(crate) fn read_lines(
        &mut self,
        reader: &str,
        mut said: impl BufRead,
        partition: &Partition,
        source: Source,
    ) -> Result<()> {
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
