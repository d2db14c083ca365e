//! What can happen, as clients saw it. The serialised form is what client programs write; see `tests/clients/README.md`.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A partition of a topic. A topic that was deleted and made again is another one, and must get another name here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition {
    /// Its topic's name.
    pub topic: String,
    /// Its number.
    pub index: u32,
}

/// A producer's session: one identity from its first record to its last. Whoever starts over is another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Producer(pub u32);

/// The place of a record among all that its producer sent to its partition, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Number(pub u64);

/// An offset as a broker told it: any number, since what it tells is what is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Offset(pub i64);

/// Whoever reads, by name: a consumer, or a tool that looks into files or into the bucket.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Reader(pub String);

/// Records of one producer to one partition with consecutive numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// Who sent them.
    pub producer: Producer,
    /// The first one's number.
    pub first: Number,
    /// How many.
    pub count: u32,
}

/// Where a read found its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A broker gave them, and the reader cannot tell from where.
    Broker,
    /// A broker gave them from its local log.
    Hot,
    /// A broker gave them from the bucket.
    Cold,
    /// They lay in the files of a broker.
    Local,
    /// They lay in the bucket.
    Bucket,
    /// The reading of the whole log at the end, which says what was kept.
    Audit,
}

/// Whether records of a topic may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// Its history never ends: each log starts at offset 0.
    Never,
    /// Retention, or whoever deletes records, may raise the log start.
    Allowed,
}

/// How a producer sends again what was not answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Retries {
    /// Idempotently, which is what a producer does that did not say otherwise: each record lands once, and in order.
    Idempotent,
    /// As new records: they may land twice, and behind later ones.
    Plain,
}

/// A segment as a manifest names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its first offset.
    pub base: Offset,
    /// Behind its last one.
    pub next: Offset,
    /// The object that holds it.
    pub object: String,
    /// How long that object is at least.
    pub bytes: u64,
}

/// An object as the bucket lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// How long it has been there.
    pub age_ms: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A topic is there. Without this, records of it may go, and only partitions that were written to are audited.
    Topic {
        /// Its name.
        topic: String,
        /// How many partitions it has.
        partitions: u32,
        /// Whether its records may go.
        expiry: Expiry,
    },
    /// How a producer retries.
    Session {
        /// Who.
        producer: Producer,
        /// How.
        retries: Retries,
    },
    /// A session ended before its time: the broker said that what it acknowledged is not what it holds.
    Broken {
        /// Whose.
        producer: Producer,
        /// In which partition.
        partition: Partition,
        /// What it was told.
        what: String,
    },
    /// Records were handed to a client library, or to a socket.
    Sent {
        /// To which partition.
        partition: Partition,
        /// Which ones.
        records: Records,
    },
    /// Records were acknowledged with all guarantees.
    Acked {
        /// In which partition.
        partition: Partition,
        /// Which ones.
        records: Records,
        /// The first one's offset.
        offset: Offset,
    },
    /// Records were refused with an error that says that they were not written.
    Refused {
        /// By which partition.
        partition: Partition,
        /// Which ones.
        records: Records,
    },
    /// Whether records were written is unknown, and stays so.
    Unknown {
        /// To which partition.
        partition: Partition,
        /// Which ones.
        records: Records,
    },
    /// A reader goes elsewhere: what it reads next begins at this offset or, where the log starts later, there.
    Seek {
        /// Who.
        reader: Reader,
        /// In which partition.
        partition: Partition,
        /// Where to.
        offset: Offset,
    },
    /// Records were read at consecutive offsets.
    Read {
        /// By whom.
        reader: Reader,
        /// From which partition.
        partition: Partition,
        /// The first one's offset.
        offset: Offset,
        /// Which ones.
        records: Records,
        /// Where they were found.
        source: Source,
    },
    /// Something was read that no producer of this history can have written.
    Foreign {
        /// By whom.
        reader: Reader,
        /// From which partition.
        partition: Partition,
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        what: String,
    },
    /// A reader was told where a log starts, where it ends, or both: with a fetch or by ListOffsets.
    Marks {
        /// Who.
        reader: Reader,
        /// Of which partition.
        partition: Partition,
        /// The log start offset.
        log_start: Option<Offset>,
        /// The high watermark.
        high_watermark: Option<Offset>,
    },
    /// A reader was told that an offset is out of range.
    Denied {
        /// Who.
        reader: Reader,
        /// In which partition.
        partition: Partition,
        /// Which offset.
        offset: Offset,
    },
    /// Something was done to the broker or to what lies below it.
    Fault {
        /// What, in a word or two; the report counts each.
        what: String,
    },
    /// The whole log was read, all of it by reads of [`Source::Audit`], and this is where it starts and ends.
    Audited {
        /// Of which partition.
        partition: Partition,
        /// The log start offset.
        log_start: Offset,
        /// The high watermark.
        end: Offset,
    },
    /// The newest manifest of a partition.
    Manifest {
        /// Whose.
        partition: Partition,
        /// Oldest first.
        segments: Vec<Segment>,
        /// What else it names, or keeps for its grace.
        others: Vec<String>,
        /// When it was read, by whoever looks into the bucket.
        at_ms: u64,
    },
    /// Objects of a partition, except for its manifests.
    Listing {
        /// Whose.
        partition: Partition,
        /// All of them.
        objects: Vec<Object>,
        /// How long an object may be there that nothing names, and must be there once nothing names it any more.
        grace_ms: u64,
        /// When it began, by the same clock as that of the manifests.
        at_ms: u64,
    },
}

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {}", self.0)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
