//! A compacted topic that is updated time and again, its broker killed and its power cut while it compacts.
//!
//! In the end another client reads the topic from the beginning, and [`judge`] says whether that leads to what was last acknowledged
//! of each key. What is left on the disk is held to what the settings promise, and the broker's memory to a bound.
//!
//! A pass shows: while it reads keys, `aquifer_cleaner_read_bytes` grows alone; while it writes, files named `*.cleaned` lie in the
//! partition's folder, and one that is no longer there has just taken its place in the log.

use super::powercut;
use crate::broker::Broker;
use crate::clients::{kcat_compacted, kcat_offset};
use crate::flags::Flags;
use crate::history::History;
use crate::mounted::{Kind, Mounted, Noise, check_machine};
use crate::places;
use crate::soak::{Load, Soak};
use anyhow::{Context, Result, anyhow, ensure};
use aquifer_checker::{Event, Partition, lines};
use judge::{Judge, Run, Verdict, Written};
use reader::{Reader, Seen};
use std::collections::BTreeSet;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};
use updates::Updates;

/// The verdict.
mod judge;
/// Someone who reads meanwhile.
mod reader;
/// Which key each record is of.
mod updates;

const TOPIC: &str = "updates";
const VALUE_BYTES: u64 = 100;
const TOMBSTONE_ONE_IN: u64 = 8;
const SEGMENT_BYTES: u64 = 1 << 20;
/// In percent, of a log before it is compacted.
const DIRTY_PERCENT: u64 = 20;
/// How long a tombstone stays once it was met: passes that come later drop it.
const DELETE_RETENTION_MS: u64 = 1_000;
/// A record's frame, key and number, beside its padding; a batch's header, which one record alone may have.
const RECORD_BYTES_MAX: u64 = VALUE_BYTES + 48;
const BATCH_HEADER_BYTES: u64 = 61;
/// The most that a broker may take, whatever a log holds: its usual memory, and the room for keys.
const RESIDENT_BYTES_MAX: u64 = 256 << 20;
/// For the keys of a pass; a log with more is compacted in several.
const KEYS_BYTES: u64 = 512 << 10;
/// Of the image, which is sparse.
const IMAGE_MB: u64 = 16_384;
const LOOK: Duration = Duration::from_millis(1);
const POLL: Duration = Duration::from_millis(100);
/// How long the cleaner must do nothing to be done.
const IDLE: Duration = Duration::from_secs(2);
const PASS_DEADLINE: Duration = Duration::from_secs(60);
const CLEAN_DEADLINE: Duration = Duration::from_secs(300);

const PASSES: &str = "aquifer_cleaner_passes_total";
const READ_BYTES: &str = "aquifer_cleaner_read_bytes_total";
const WRITTEN_BYTES: &str = "aquifer_cleaner_written_bytes_total";
const FAILURES: &str = "aquifer_cleaner_failures_total";
const DIRTIEST: &str = "aquifer_cleaner_dirtiest_percent";

/// How it is done.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Churn {
    /// Over both parts.
    pub(crate) updates: u64,
    pub(crate) keys: u64,
    pub(crate) partitions: u32,
    pub(crate) seed: u64,
    /// Records a second; 0: as many as go.
    pub(crate) rate: u64,
    pub(crate) kills: usize,
    /// None: there is no second part.
    pub(crate) power_cuts: usize,
    /// What compaction may read and write a second, so that there is time to strike.
    pub(crate) cleaner_rate: u64,
}

impl Churn {
    /// Seconds long; without root there are no power cuts.
    pub(crate) fn short(power_cuts: usize) -> Churn {
        Churn {
            updates: 120_000,
            keys: 4_000,
            partitions: 2,
            seed: 1,
            rate: 20_000,
            kills: 3,
            power_cuts,
            cleaner_rate: 16 << 20,
        }
    }
}

/// When to strike.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// While it reads keys.
    Reading,
    /// While it writes a segment.
    Writing,
    /// As a segment takes the place of others.
    Swapping,
}

const MOMENTS: [Moment; 3] = [Moment::Writing, Moment::Swapping, Moment::Reading];

/// What one part came to.
#[derive(Debug)]
struct Row {
    what: &'static str,
    blows: usize,
    /// After so many blows a segment was found half written.
    half_way: usize,
    passes: usize,
    verdict: Verdict,
    written_bytes: u64,
    disk_bytes: u64,
    disk_bytes_max: u64,
    resident_bytes: u64,
    seconds: f64,
}

pub(crate) fn main(binary: &Path, mut flags: Flags) -> Result<()> {
    let churn = Churn {
        updates: flags.take("updates", 5_000_000)?,
        keys: flags.take("keys", 100_000)?,
        partitions: flags.take("partitions", 4)?,
        seed: flags.take("seed", 1)?,
        rate: flags.take("rate", 50_000)?,
        kills: flags.take("kills", 12)?,
        power_cuts: flags.take("powercuts", 6)?,
        cleaner_rate: flags.take("cleaner-rate", 64 << 20)?,
    };
    flags.end()?;
    ensure!(
        churn.partitions > 0 && churn.keys.is_multiple_of(u64::from(churn.partitions) * 10),
        "each of {} partitions has a tenth of its keys in each part: --keys is no multiple of that",
        churn.partitions
    );
    run(binary, churn)
}

pub(crate) fn run(binary: &Path, churn: Churn) -> Result<()> {
    let parts = if churn.power_cuts > 0 { 2 } else { 1 };
    println!(
        "   {} updates of {} keys in {} partitions, seed {}, one in {TOMBSTONE_ONE_IN} a tombstone",
        churn.updates, churn.keys, churn.partitions, churn.seed
    );
    let folder = places::emptied(places::data()?.join("compaction"))?;
    let mut rows = vec![Part { binary, churn, updates: churn.updates / parts, folder }.run(
        "kill -9",
        churn.kills,
        None,
    )?];
    if churn.power_cuts > 0 {
        check_machine(&[Kind::Ext4])?;
        let mut disk = Mounted::make("compaction", Kind::Ext4, &places::data()?, IMAGE_MB)?;
        let folder = disk.point().to_owned();
        let part = Part { binary, churn, updates: churn.updates / parts, folder };
        rows.push(part.run("power cut", churn.power_cuts, Some(&mut disk))?);
        disk.unmount()?;
    }
    table(&rows);
    let faults: Vec<&String> = rows.iter().flat_map(|row| &row.verdict.faults).collect();
    ensure!(faults.is_empty(), "seed {}: {} faults, the first: {}", churn.seed, faults.len(), faults[0]);
    let blows: usize = rows.iter().map(|row| row.blows).sum();
    let half_way: usize = rows.iter().map(|row| row.half_way).sum();
    // A third of them waits for that, and may come a moment too late.
    ensure!(half_way * 5 >= blows, "only {half_way} of {blows} blows left a segment half written");
    for row in &rows {
        let Row { what, blows, passes, disk_bytes, disk_bytes_max, resident_bytes, .. } = row;
        ensure!(passes > blows, "{what}: no more than {passes} passes came to their end");
        ensure!(
            disk_bytes <= disk_bytes_max,
            "{what}: {disk_bytes} bytes are left on the disk, more than {disk_bytes_max}"
        );
        ensure!(
            *resident_bytes <= RESIDENT_BYTES_MAX,
            "{what}: the broker had {resident_bytes} bytes of memory, more than {RESIDENT_BYTES_MAX}"
        );
    }
    Ok(())
}

/// One broker, struck in one way.
#[derive(Debug)]
struct Part<'a> {
    binary: &'a Path,
    churn: Churn,
    updates: u64,
    /// Where its data and its bucket lie.
    folder: PathBuf,
}

impl Part<'_> {
    fn run(&self, what: &'static str, blows: usize, mut disk: Option<&mut Mounted>) -> Result<Row> {
        let began = Instant::now();
        let Churn { keys, partitions, seed, rate, cleaner_rate, .. } = self.churn;
        let updates =
            Updates { keys: keys / u64::from(partitions), seed, tombstone_one_in: TOMBSTONE_ONE_IN };
        let mut broker = self.start(cleaner_rate)?;
        let mut history = History::begin("compaction")?;
        let more = [
            ("keys", updates.keys.to_string()),
            ("tombstone-one-in", TOMBSTONE_ONE_IN.to_string()),
            ("seed", seed.to_string()),
        ];
        let load = Load { topic: TOPIC, producer: 1, rate, value_bytes: VALUE_BYTES };
        let mut soak = Soak::start_with(&broker.bootstrap, load, &more, &history.of("soak"))?;
        let reader = Reader::start(&broker.bootstrap, TOPIC, partitions, updates);

        let (mut half_way, mut resident_bytes) = (0, 0);
        let mut noise = disk.as_deref().map(Noise::on);
        for blow in 0..blows {
            // Spread over all that is written.
            let wanted = self.updates * (blow as u64 + 1) / (blows as u64 + 1);
            soak.wait_for_more(wanted.saturating_sub(soak.acked()?))?;
            self.wait_for(MOMENTS[blow % MOMENTS.len()], &broker)?;
            resident_bytes = resident_bytes.max(broker.resident_bytes_max()?);
            history.fault(what)?;
            match disk.as_deref_mut() {
                None => {
                    broker.kill()?;
                    half_way += usize::from(!self.cleaned()?.is_empty());
                }
                Some(disk) => {
                    half_way += usize::from(!self.cleaned()?.is_empty());
                    powercut::cut(&mut broker, disk, &mut noise)?;
                }
            }
            broker.start_again()?;
            soak.wait_for_more(1)?;
        }
        soak.wait_for_more(self.updates.saturating_sub(soak.acked()?))?;
        soak.end()?.whole()?;
        drop(noise);
        let Seen { records, readings } = reader.end()?;
        wait_until_clean(&broker)?;
        let disk_bytes = self.disk_bytes()?;
        resident_bytes = resident_bytes.max(broker.resident_bytes_max()?);
        let (verdict, written_bytes) = self.audit(&broker, updates, &history.of("soak"))?;
        println!(
            "   {what}: meanwhile a reader has read {records} records and come to the end {readings} times"
        );
        println!("   {what}: {}", verdict.to_string().replace('\n', "\n   "));
        ensure!(
            broker.metric(FAILURES)? == 0,
            "a log could not be compacted, see {}",
            broker.log().display()
        );
        let passes = compacted(broker.log())?.len();
        broker.end()?;
        Ok(Row {
            what,
            blows,
            half_way,
            passes,
            verdict,
            written_bytes,
            disk_bytes,
            disk_bytes_max: disk_bytes_max(updates.keys) * u64::from(partitions),
            resident_bytes,
            seconds: began.elapsed().as_secs_f64(),
        })
    }

    fn start(&self, cleaner_rate: u64) -> Result<Broker> {
        let bucket = places::emptied(self.folder.join("bucket"))?;
        let url = format!("file://{}", bucket.display());
        let (rate, keys) = (cleaner_rate.to_string(), KEYS_BYTES.to_string());
        let settings = [
            ("log.cleaner.backoff.ms", "50"),
            ("log.cleaner.io.max.bytes.per.second", &rate),
            ("log.cleaner.dedupe.buffer.size", &keys),
        ];
        let broker = Broker::start_in(self.binary, "compaction", &self.folder.join("data"), &url, &settings)?;
        let topic = [
            "cleanup.policy=compact".to_owned(),
            "remote.storage.enable=false".to_owned(),
            "min.compaction.lag.ms=0".to_owned(),
            format!("segment.bytes={SEGMENT_BYTES}"),
            format!("min.cleanable.dirty.ratio={}", DIRTY_PERCENT as f64 / 100.0),
            format!("delete.retention.ms={DELETE_RETENTION_MS}"),
        ];
        let topic: Vec<&str> = topic.iter().map(String::as_str).collect();
        broker.create_topic_with(TOPIC, self.churn.partitions as usize, &topic)?;
        Ok(broker)
    }

    /// Waits until a pass has come to its end since the last start, and another one is there.
    fn wait_for(&self, moment: Moment, broker: &Broker) -> Result<()> {
        let deadline = Instant::now() + PASS_DEADLINE;
        let (mut before, mut is_warm) = (BTreeSet::new(), false);
        let mut counted = (broker.metric(READ_BYTES)?, broker.metric(WRITTEN_BYTES)?);
        while Instant::now() < deadline {
            let cleaned = self.cleaned()?;
            if !is_warm {
                is_warm = broker.metric(PASSES)? > 0;
                sleep(LOOK);
                continue;
            }
            match moment {
                Moment::Writing if !cleaned.is_empty() => return Ok(()),
                Moment::Swapping if before.difference(&cleaned).next().is_some() => return Ok(()),
                Moment::Reading => {
                    let now = (broker.metric(READ_BYTES)?, broker.metric(WRITTEN_BYTES)?);
                    if now.0 > counted.0 && now.1 == counted.1 && cleaned.is_empty() {
                        return Ok(());
                    }
                    counted = now;
                }
                Moment::Writing | Moment::Swapping => {}
            }
            before = cleaned;
            sleep(LOOK);
        }
        Err(anyhow!("no pass within {PASS_DEADLINE:?}: {moment:?}, see {}", broker.log().display()))
    }

    /// The folders of the topic's partitions.
    fn partitions(&self) -> Result<Vec<PathBuf>> {
        let topic = self.folder.join("data/topics").join(TOPIC);
        let listed = std::fs::read_dir(&topic).with_context(|| format!("listing {}", topic.display()))?;
        Ok(listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?)
    }

    /// The files that passes are writing, or were.
    fn cleaned(&self) -> Result<BTreeSet<PathBuf>> {
        let mut found = BTreeSet::new();
        for folder in self.partitions()? {
            for entry in std::fs::read_dir(&folder)? {
                let path = entry?.path();
                if path.extension().is_some_and(|extension| extension == "cleaned") {
                    found.insert(path);
                }
            }
        }
        Ok(found)
    }

    /// Bytes of the topic's segments.
    fn disk_bytes(&self) -> Result<u64> {
        let mut bytes = 0;
        for folder in self.partitions()? {
            for entry in std::fs::read_dir(&folder)? {
                let entry = entry?;
                if entry.path().extension().is_some_and(|extension| extension == "log") {
                    bytes += entry.metadata()?.len();
                }
            }
        }
        Ok(bytes)
    }

    /// Another client reads all of it, and it is held against what was acknowledged. Gives the bytes of all keys and values, too.
    fn audit(&self, broker: &Broker, updates: Updates, history: &Path) -> Result<(Verdict, u64)> {
        let (mut all, mut bytes) = (Verdict::default(), 0);
        let events =
            std::fs::File::open(history).with_context(|| format!("opening {}", history.display()))?;
        let events: Vec<Event> = lines::read(BufReader::new(events)).collect::<Result<_, _>>()?;
        for index in 0..self.churn.partitions {
            let partition = Partition { topic: TOPIC.to_owned(), index };
            let written = written(&events, partition, updates).map_err(|what| anyhow!(what))?;
            bytes += written.bytes(VALUE_BYTES);
            let mut judge = Judge::new(&written);
            kcat_compacted(&broker.bootstrap, TOPIC, index, |offset, key, value| {
                judge.read(offset, key, value);
            })?;
            let end = kcat_offset(&broker.bootstrap, TOPIC, index as usize, "-1")?;
            let passes = compacted(broker.log())?;
            let clean_below =
                passes.iter().filter(|pass| pass.partition == index).map(|pass| pass.clean_below);
            let verdict = judge.finish(clean_below.max().unwrap_or(0));
            all.add(verdict, index);
            if written.end() != end {
                all.faults.push(format!("{TOPIC}-{index} ends at {end}, and should at {}", written.end()));
            }
        }
        Ok((all, bytes))
    }
}

/// What a partition's producer was told.
fn written(events: &[Event], partition: Partition, updates: Updates) -> Result<Written, String> {
    let (mut runs, mut sent) = (Vec::new(), 0);
    for event in events {
        match event {
            Event::Acked { partition: of, records, offset } if *of == partition => {
                let count = u64::from(records.count);
                runs.push(Run { offset: offset.0, number: records.first.0, count });
            }
            Event::Sent { partition: of, records } if *of == partition => sent += u64::from(records.count),
            _ => {}
        }
    }
    Written::new(partition, updates, runs, sent)
}

/// The most that a partition may hold once the cleaner has nothing to do: a clean part with each key once, at worst in a batch of its
/// own, dirty segments up to their share, and the segment that is open.
fn disk_bytes_max(keys: u64) -> u64 {
    let clean = keys * (RECORD_BYTES_MAX + BATCH_HEADER_BYTES) + BATCH_HEADER_BYTES;
    clean * 100 / (100 - DIRTY_PERCENT) + SEGMENT_BYTES
}

/// Waits until the cleaner has nothing to do.
fn wait_until_clean(broker: &Broker) -> Result<()> {
    let deadline = Instant::now() + CLEAN_DEADLINE;
    let (mut read, mut since) = (broker.metric(READ_BYTES)?, Instant::now());
    while since.elapsed() < IDLE || broker.metric(DIRTIEST)? > DIRTY_PERCENT {
        ensure!(
            Instant::now() < deadline,
            "the cleaner is not done within {CLEAN_DEADLINE:?}, see {}",
            broker.log().display()
        );
        sleep(POLL);
        let now = broker.metric(READ_BYTES)?;
        if now != read {
            (read, since) = (now, Instant::now());
        }
    }
    Ok(())
}

/// A pass that came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pass {
    partition: u32,
    clean_below: i64,
}

/// What the broker's log says of passes.
fn compacted(log: &Path) -> Result<Vec<Pass>> {
    let said = std::fs::read_to_string(log).with_context(|| format!("reading {}", log.display()))?;
    Ok(said.lines().filter_map(pass).collect())
}

fn pass(line: &str) -> Option<Pass> {
    let (_, told) = line.split_once("compacted a log ")?;
    let field = |name: &str| told.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    let partition = field("topic").filter(|topic| *topic == TOPIC).and_then(|_| field("partition"))?;
    let (_, index) = partition.rsplit_once('-')?;
    Some(Pass { partition: index.parse().ok()?, clean_below: field("cleaned")?.parse().ok()? })
}

fn table(rows: &[Row]) {
    let mb = |bytes: u64| format!("{:.1}", bytes as f64 / 1e6);
    println!(
        "   {:<10} {:>9} {:>7} {:>8} {:>6} {:>8} {:>10} {:>8} {:>8} {:>8} {:>6}",
        "blow",
        "updates",
        "blows",
        "half way",
        "passes",
        "there",
        "written MB",
        "disk MB",
        "at most",
        "peak MB",
        "s"
    );
    for row in rows {
        println!(
            "   {:<10} {:>9} {:>7} {:>8} {:>6} {:>8} {:>10} {:>8} {:>8} {:>8} {:>6.0}",
            row.what,
            row.verdict.written,
            row.blows,
            row.half_way,
            row.passes,
            row.verdict.there,
            mb(row.written_bytes),
            mb(row.disk_bytes),
            mb(row.disk_bytes_max),
            mb(row.resident_bytes),
            row.seconds
        );
    }
    println!(
        "   the broker's memory may be {} MB at most; written are keys and values alone",
        RESIDENT_BYTES_MAX / 1_000_000
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_broker_says_of_a_pass_is_read_and_other_topics_are_not() {
        let said = "2026-11-29T00:39:19Z  INFO aquifer::replica::cleaner: compacted a log partition=f0e1d2c3-0000-4000-8000-000000000000-3 topic=updates cleaned=4711 before=9 after=5 dropped=4";
        assert_eq!(pass(said), Some(Pass { partition: 3, clean_below: 4711 }));
        assert_eq!(pass(&said.replace("topic=updates", "topic=__consumer_offsets")), None);
        assert_eq!(pass("INFO aquifer: ready"), None);
    }

    #[test]
    fn what_may_be_left_grows_with_the_keys_and_not_with_what_was_written() {
        assert_eq!(disk_bytes_max(0), SEGMENT_BYTES + BATCH_HEADER_BYTES * 100 / 80);
        let per_key = (disk_bytes_max(1_000) - disk_bytes_max(0)) / 1_000;
        assert!((RECORD_BYTES_MAX..RECORD_BYTES_MAX * 2).contains(&per_key), "{per_key}");
    }
}
