//! What is harmed: a broker's data directory and its bucket, made once, copied back before each round.
//!
//! Three topics of some partitions each, in many small segments: *both* lies on the local disk and in the bucket, *here* on the local
//! disk alone, *away* in the bucket alone. What they hold was written by an idempotent producer and judged by the checker; it
//! is the truth that every later read is held against.

use super::super::{POLL, TIERED_DEADLINE};
use super::reader::{Line, read_all};
use crate::broker::Broker;
use crate::history::History;
use crate::places;
use crate::run::command;
use crate::soak::{Load, Soak};
use anyhow::{Context, Result, ensure};
use aquifer_checker::Expiry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// A topic: its name, how many partitions, and where it lies.
pub(super) const BOTH: Topic = Topic { name: "both", partitions: 8 };
pub(super) const HERE: Topic = Topic { name: "here", partitions: 4 };
pub(super) const AWAY: Topic = Topic { name: "away", partitions: 4 };
pub(super) const TOPICS: [Topic; 3] = [BOTH, HERE, AWAY];
/// How long each topic is written to.
const WRITING: Duration = Duration::from_secs(12);
const RATE: u64 = 1_500;
const VALUE_BYTES: u64 = 200;
const LEAVING_DEADLINE: Duration = Duration::from_secs(60);
/// Segments close within a second; nothing leaves but where a topic says so; heads of manifests are short, so that there are pages; what
/// is acknowledged goes through a journal that is soon full.
const SETTINGS: [(&str, &str); 12] = [
    ("log.journal.logs.min", "1"),
    ("log.journal.bytes", "2097152"),
    ("log.roll.ms", "400"),
    ("tier.roll.ms", "1000"),
    ("tier.check.interval.ms", "200"),
    ("log.local.retention.ms", "-1"),
    ("log.local.retention.bytes", "-1"),
    ("log.retention.check.interval.ms", "300"),
    ("log.index.interval.bytes", "1024"),
    ("tier.manifest.entries.max", "16"),
    ("tier.manifest.page.entries", "8"),
    ("raft.snapshot.entries.max", "8"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Topic {
    pub(super) name: &'static str,
    pub(super) partitions: usize,
}

/// A topic's name and a partition's number.
pub(super) type Id = (&'static str, usize);

/// What each partition holds.
pub(super) type Truth = BTreeMap<Id, Vec<Line>>;

#[derive(Debug)]
pub(super) struct World {
    root: PathBuf,
    pub(super) truth: Truth,
    /// Where each partition's segments start.
    pub(super) bases: BTreeMap<Id, Vec<i64>>,
}

impl World {
    /// Makes it.
    pub(super) fn make(binary: &Path) -> Result<World> {
        let root = places::emptied(places::data()?.join("corrupt"))?;
        let mut world = World { root, truth: Truth::new(), bases: BTreeMap::new() };
        std::fs::create_dir_all(world.bucket())?;
        let mut broker = world.start(binary, "corrupt-make", &[])?;
        let mut history = History::begin("corrupt")?;
        let mut soaks = Vec::new();
        for (producer, topic) in (1..).zip(TOPICS) {
            let settings = match topic {
                HERE => &["remote.storage.enable=false"][..],
                AWAY => &["local.retention.ms=1"],
                _ => &[],
            };
            broker.create_topic_with(topic.name, topic.partitions, settings)?;
            history.topic(topic.name, topic.partitions, Expiry::Never)?;
            let load = Load { topic: topic.name, producer, rate: RATE, value_bytes: VALUE_BYTES };
            soaks.push(Soak::start(&broker.bootstrap, load, &history.of(topic.name))?);
        }
        sleep(WRITING);
        for soak in soaks {
            soak.end()?.whole()?;
        }
        // What is open closes by its age, and only then all of it can be away.
        world.wait_until_away(&broker)?;
        broker.wait_until_no_lag(TIERED_DEADLINE)?;
        for topic in TOPICS {
            history.audit(&broker.bootstrap, topic.name, topic.partitions)?;
            for partition in 0..topic.partitions {
                let read = read_all(&broker.bootstrap, topic.name, partition, 0, TIERED_DEADLINE)?;
                ensure!(!read.is_empty(), "{}-{partition} holds nothing", topic.name);
                world.truth.insert((topic.name, partition), read);
            }
        }
        history.must_be_clean()?;
        broker.kill()?;
        world.copy("data", "killed-data")?;
        world.copy("bucket", "killed-bucket")?;
        broker.start_again()?;
        broker.end()?;
        world.find_bases()?;
        world.copy("data", "kept-data")?;
        world.copy("bucket", "kept-bucket")?;
        Ok(world)
    }

    /// Starts a broker on it.
    pub(super) fn start(&self, binary: &Path, name: &str, more: &[(&str, &str)]) -> Result<Broker> {
        let settings: Vec<(&str, &str)> = SETTINGS.iter().chain(more).copied().collect();
        let url = format!("file://{}", self.bucket().display());
        Broker::start_in(binary, name, &self.data(), &url, &settings)
    }

    pub(super) fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    pub(super) fn bucket(&self) -> PathBuf {
        self.root.join("bucket")
    }

    /// Where the unharmed form of a file lies.
    pub(super) fn kept(&self, file: &Path) -> Result<PathBuf> {
        let inside = file.strip_prefix(&self.root).context("a file of the data directory or the bucket")?;
        let mut parts = inside.components();
        let first = parts.next().context("a folder")?.as_os_str().to_string_lossy().into_owned();
        Ok(self.root.join(format!("kept-{first}")).join(parts.as_path()))
    }

    /// Makes all as it was when a broker had stopped in order.
    pub(super) fn restore(&self) -> Result<()> {
        self.copy("kept-data", "data")?;
        self.copy("kept-bucket", "bucket")
    }

    /// The same as it was when a broker had been killed: the next one will look into its journal.
    pub(super) fn restore_killed(&self) -> Result<()> {
        self.copy("killed-data", "data")?;
        self.copy("killed-bucket", "bucket")
    }

    fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.root.join(from), self.root.join(to));
        places::removed(&to)?;
        // In silence, but for errors.
        let status = command("cp", ["-a"]).arg(&from).arg(&to).status()?;
        ensure!(status.success(), "cp of {} ended with {status}", from.display());
        Ok(())
    }

    /// The folder of a partition in the data directory.
    pub(super) fn folder(&self, (topic, partition): Id) -> Result<PathBuf> {
        let ending = format!("-{partition}");
        let folders = listed(&self.data().join("topics").join(topic))?;
        let found = folders.into_iter().find(|folder| folder.to_string_lossy().ends_with(&ending));
        found.with_context(|| format!("no folder of {topic}-{partition}"))
    }

    /// The folder of a partition in the bucket.
    pub(super) fn bucket_folder(&self, id: Id) -> Result<PathBuf> {
        let folder = self.folder(id)?;
        let name = folder.file_name().context("a name")?.to_string_lossy().into_owned();
        let (topic, partition) = name.rsplit_once('-').context("a topic's id and a number")?;
        Ok(self.bucket().join("partitions").join(topic).join(partition))
    }

    /// An object's key.
    pub(super) fn key(&self, file: &Path) -> Option<String> {
        Some(file.strip_prefix(self.bucket()).ok()?.to_string_lossy().into_owned())
    }

    fn find_bases(&mut self) -> Result<()> {
        for topic in TOPICS {
            for partition in 0..topic.partitions {
                let id = (topic.name, partition);
                let mut files = listed(&self.folder(id)?)?;
                files.retain(|file| file.extension().is_some_and(|ending| ending == "log"));
                if topic != HERE {
                    files.extend(listed(&self.bucket_folder(id)?.join("data"))?);
                }
                let mut bases: Vec<i64> = files
                    .iter()
                    .filter_map(|file| file.file_name()?.to_string_lossy().get(..20)?.parse().ok())
                    .collect();
                bases.sort_unstable();
                bases.dedup();
                self.bases.insert(id, bases);
            }
        }
        Ok(())
    }

    /// Waits until nothing but empty open segments of one topic is left on the local disk.
    fn wait_until_away(&self, broker: &Broker) -> Result<()> {
        let began = Instant::now();
        while broker.local_bytes(AWAY.name)? > 0 {
            ensure!(began.elapsed() < LEAVING_DEADLINE, "{} does not leave the local disk", AWAY.name);
            sleep(POLL);
        }
        Ok(())
    }
}

/// By name, which for segments is by offset.
pub(super) fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
