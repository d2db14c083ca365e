//! Real clients: installed at their pins, built, run. kcat directly, the others by the programs in `tests/clients/`, whose
//! README states what they share.

use crate::run::{command, output, shown};
use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::Command;

/// Installed, and their rigs built.
mod install;
/// kcat, which needs no rig.
mod kcat;
/// What a rig says of a partition.
mod passed;

pub(crate) use install::{go_program, install};
pub(crate) use kcat::{compacted as kcat_compacted, offset as kcat_offset};
pub(crate) use passed::{Passed, parse};

/// Longer than any read or write of these rigs may take.
const TIMEOUT_SECONDS: &str = "600";
/// The same for the few requests of an admin's round.
const ADMIN_TIMEOUT_SECONDS: &str = "60";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Library {
    Kcat,
    FranzGo,
    Sarama,
    Java,
    KafkaPython,
    Confluent,
    Aiokafka,
    KafkaJs,
    Rdkafka,
}

/// How members and coordinator agree on who reads what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// JoinGroup and SyncGroup; members assign.
    Classic,
    /// ConsumerGroupHeartbeat (KIP-848); the broker assigns.
    Consumer,
}

/// Who joins which group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Membership<'a> {
    pub(crate) group: &'a str,
    pub(crate) protocol: Protocol,
    /// `group.instance.id`, of a static member.
    pub(crate) instance: Option<&'a str>,
}

/// One client library, ready to run.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    library: Library,
    name: String,
    /// What starts its rig; what that is to do comes behind. kcat has none.
    rig: Vec<OsString>,
}

impl Protocol {
    /// As clients call it, in `group.protocol`.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Protocol::Classic => "classic",
            Protocol::Consumer => "consumer",
        }
    }
}

impl Client {
    fn new(library: Library, name: &str, rig: impl IntoIterator<Item = impl Into<OsString>>) -> Client {
        Client { library, name: name.to_owned(), rig: rig.into_iter().map(Into::into).collect() }
    }

    /// The system's kcat, which writes what others are to read.
    pub(crate) fn kcat() -> Client {
        Client::new(Library::Kcat, "kcat", Vec::<OsString>::new())
    }

    /// With its version, where more than one is tried.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn is_kcat(&self) -> bool {
        self.library == Library::Kcat
    }

    /// Whether it can read partitions that are assigned by hand.
    pub(crate) fn reads(&self) -> bool {
        self.library != Library::KafkaJs
    }

    /// Whether it has an admin client.
    pub(crate) fn administers(&self) -> bool {
        self.library != Library::Kcat
    }

    /// Whether it can alter one setting of a topic and leave the others as they are (IncrementalAlterConfigs).
    pub(crate) fn alters(&self) -> bool {
        use Library::{Aiokafka, KafkaJs, Kcat, Rdkafka};
        !matches!(self.library, Kcat | KafkaJs | Aiokafka | Rdkafka)
    }

    /// Whether it knows static members. (kcat does, but has no rig that stays; franz-go 1.22 leaves a group of KIP-848 for a while
    /// without its `group.instance.id`, which Kafka refuses.)
    pub(crate) fn has_static_members(&self, protocol: Protocol) -> bool {
        match self.library {
            Library::Kcat | Library::KafkaJs => false,
            Library::FranzGo => protocol == Protocol::Classic,
            _ => true,
        }
    }

    pub(crate) fn speaks(&self, protocol: Protocol) -> bool {
        match (protocol, self.library) {
            (Protocol::Classic, _)
            | (Protocol::Consumer, Library::FranzGo | Library::Confluent | Library::Rdkafka) => true,
            // In 3.x it is a preview.
            (Protocol::Consumer, Library::Java) => self.name.starts_with("java 4"),
            (Protocol::Consumer, _) => false,
        }
    }

    /// Whether a group of it may be rolled from one protocol to the other: it speaks both, and its classic members say what they have.
    pub(crate) fn migrates(&self) -> bool {
        self.library == Library::Java && self.speaks(Protocol::Consumer)
    }

    /// What it compresses with: between them they cover all codecs, and kafkajs knows gzip alone.
    pub(crate) fn codec(&self) -> &'static str {
        match self.library {
            Library::KafkaJs | Library::Sarama => "gzip",
            Library::FranzGo => "snappy",
            Library::KafkaPython | Library::Confluent => "zstd",
            Library::Kcat | Library::Java | Library::Aiokafka | Library::Rdkafka => "lz4",
        }
    }

    /// Reads all of a topic, from the earliest offset to the end as of now.
    pub(crate) fn read(&self, bootstrap: &str, topic: &str, partitions: usize) -> Result<Vec<Passed>> {
        ensure!(self.reads(), "{} cannot assign partitions by hand", self.name);
        match self.library {
            Library::Kcat => kcat::read(bootstrap, topic, partitions),
            _ => output(&mut self.rig("read", bootstrap, topic, TIMEOUT_SECONDS)?)
                .and_then(|said| parse(&said)),
        }
        .with_context(|| format!("{} reading {topic}", self.name))
    }

    /// Produces the lines of a file with `acks=all`, idempotently where it can. What went where, unless it is kcat.
    pub(crate) fn write(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        lines: &Path,
    ) -> Result<Vec<Passed>> {
        let mut writer = match self.library {
            Library::Kcat => kcat::writer(bootstrap, topic, codec),
            _ => {
                let mut rig = self.rig("write", bootstrap, topic, TIMEOUT_SECONDS)?;
                rig.args(["--compression", codec]);
                rig
            }
        };
        let input = File::open(lines).with_context(|| format!("opening {}", lines.display()))?;
        let done = writer.stdin(input).output().with_context(|| format!("starting {}", shown(&writer)))?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{} writing {topic} ended with {}: {said}", self.name, done.status);
        parse(&String::from_utf8_lossy(&done.stdout))
    }

    /// A member of a group, until its stdin closes.
    pub(crate) fn member(&self, bootstrap: &str, topic: &str, one: Membership<'_>) -> Result<Command> {
        let mut rig = self.rig("group", bootstrap, topic, TIMEOUT_SECONDS)?;
        rig.args(["--group", one.group, "--protocol", one.protocol.name()]);
        if let Some(instance) = one.instance {
            rig.args(["--instance", instance]);
        }
        Ok(rig)
    }

    /// Reads what a group has not read yet, as its one member, and commits that; kcat's way.
    pub(crate) fn read_as_group(&self, bootstrap: &str, topic: &str, group: &str) -> Result<Vec<Passed>> {
        ensure!(self.is_kcat(), "{} has a rig for that", self.name);
        kcat::read_as_group(bootstrap, topic, group)
    }

    /// Makes a topic, looks at it, changes it and deletes it; gives what it said at each step.
    pub(crate) fn administer(&self, bootstrap: &str, topic: &str) -> Result<String> {
        output(&mut self.rig("admin", bootstrap, topic, ADMIN_TIMEOUT_SECONDS)?)
    }

    fn rig(&self, what: &str, bootstrap: &str, topic: &str, timeout_seconds: &str) -> Result<Command> {
        let Some((program, words)) = self.rig.split_first() else { bail!("{} has no rig", self.name) };
        let mut rig = command(program, words);
        rig.args([what, "--bootstrap", bootstrap, "--topic", topic]);
        rig.args(["--timeout", &format!("{timeout_seconds}s")]);
        Ok(rig)
    }
}
