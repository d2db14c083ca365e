//! The configuration of a topic, and the defaults that a broker has for it: one table for both.
//!
//! What [`TopicConfig`] shows is what holds: limits that follow from each other (local retention from total retention) are
//! worked out here, so that its readers need not know the rules. Each field names its key; the key's declaration, below, says
//! the rest.

use std::time::Duration;

use aquifer_model::ByteCount;

use super::key::{
    bytes, bytes_or_unlimited, choice, count, flag, fraction, list, millis, millis_or_unlimited, number,
};
use super::reader::Reader;
use super::source::Source;
use super::units::{DAY, GIB, HOUR, INT_MAX, MIB, MINUTE};
use super::values::{to_bytes, to_millis};

/// What holds for one topic.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    /// How long records are kept.
    pub retention: Retention,
    /// How older values of a key leave; `None` for a topic that is not compacted.
    pub compaction: Option<Compaction>,
    /// How the log is cut into files.
    pub segments: Segments,
    /// Which records are taken, and how.
    pub records: Records,
    /// `remote.storage.enable`: whether sealed segments go to the bucket.
    pub tiered: bool,
    /// `durability`.
    pub durability: Durability,
    /// `min.insync.replicas`; where the topic has fewer replicas, all of them.
    pub min_insync_replicas: u32,
}

/// How long records are kept; `None` is for ever, or without limit, which is also what a `cleanup.policy` without `delete` makes
/// of the totals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Whether `cleanup.policy` names `delete`.
    pub deletes: bool,
    /// `retention.ms`.
    pub time: Option<Duration>,
    /// `retention.bytes`, a partition.
    pub bytes: Option<ByteCount>,
    /// `local.retention.ms`, at most the total; on a topic that is not tiered, the total.
    pub local_time: Option<Duration>,
    /// `local.retention.bytes`, a partition, at most the total; on a topic that is not tiered, the total.
    pub local_bytes: Option<ByteCount>,
}

/// How older values of a key leave a compacted topic.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Compaction {
    /// `delete.retention.ms`: how long a tombstone stays once a pass has met it.
    pub delete_retention: Duration,
    /// `min.compaction.lag.ms`.
    pub lag_min: Duration,
    /// `max.compaction.lag.ms`; `None` for none.
    pub lag_max: Option<Duration>,
    /// `min.cleanable.dirty.ratio`.
    pub dirty_ratio_min: f64,
}

impl Default for Compaction {
    /// Kafka's.
    fn default() -> Compaction {
        Compaction {
            delete_retention: Duration::from_secs(24 * 60 * 60),
            lag_min: Duration::ZERO,
            lag_max: None,
            dirty_ratio_min: 0.5,
        }
    }
}

/// How the log is cut into files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// `segment.bytes`.
    pub bytes_max: ByteCount,
    /// `segment.ms`.
    pub age_max: Duration,
    /// `segment.jitter.ms`.
    pub jitter_max: Duration,
    /// `segment.index.bytes`.
    pub index_bytes_max: ByteCount,
    /// `index.interval.bytes`.
    pub index_interval: ByteCount,
    /// `file.delete.delay.ms`.
    pub delete_delay: Duration,
}

/// Which records are taken, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records {
    /// `max.message.bytes`: of a whole batch, as it came.
    pub batch_bytes_max: ByteCount,
    /// `record.validation`.
    pub validation: RecordValidation,
    /// `record.expanded.bytes.max`: of the records of a compressed batch that is looked into.
    pub expanded_bytes_max: ByteCount,
    /// `message.timestamp.type`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far behind the broker's clock a record's time may lie.
    pub timestamp_before_max: Duration,
    /// `message.timestamp.after.max.ms`: how far ahead of the broker's clock a record's time may lie.
    pub timestamp_after_max: Duration,
}

/// When a record is acknowledged to `acks=all`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Once it is on the disks of the in-sync replicas.
    Fsync,
    /// Once it is in the page caches of the in-sync replicas: Kafka's own promise.
    Replicated,
}

/// How closely records are looked at before they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordValidation {
    /// Uncompressed batches record by record, compressed ones by their header.
    Framing,
    /// Compressed batches are opened and walked as well.
    Full,
}

/// Which time a record bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampType {
    /// When its producer made it.
    CreateTime,
    /// When the leader appended it.
    LogAppendTime,
}

/// Declares and reads a topic's keys. `tier` says whether the broker has one.
pub(super) fn read(r: &mut Reader<'_>, tier: bool) -> TopicConfig {
    r.section("Retention and tier");
    let (tiered, says_tiered) = read_tiered(r, tier);
    let policies = read_policies(r);
    let says_policy = *r.last_source() == Source::Topic;
    // What it merely inherits is not its fault: what is tiered stays so, and is not compacted.
    if tiered && policies.compact && (says_tiered || says_policy) {
        r.blame("cleanup.policy", COMPACTED_AND_TIERED.to_owned());
    }
    let retention = read_retention(r, tier, tiered, policies);
    r.section("Segments");
    let segments = read_segments(r);
    r.section("Records");
    let records = read_records(r);
    r.section("Durability and replicas");
    let durability = r.read(
        choice("durability", vec![("fsync", Durability::Fsync), ("replicated", Durability::Replicated)])
            .synonym("log.durability")
            .doc(
                "What `acks=all` waits for: `fsync`, that the in-sync replicas have the records on disk, so that they survive \
                 a power cut of all nodes at once; `replicated`, that the replicas have them in memory, as in Kafka.",
            ),
    );
    let min_insync_replicas = r.read(
        count("min.insync.replicas", 1)
            .at_least(1)
            .synonym("min.insync.replicas")
            .doc("In-sync replicas below which writes with `acks=all` are refused."),
    );
    declare_replication(r);
    r.section("Compaction");
    let compaction = read_compaction(r);
    // What is tiered stays tiered, whatever the brokers' default for the policy becomes.
    let compaction = Some(compaction).filter(|_| policies.compact && !tiered);
    TopicConfig { retention, compaction, segments, records, tiered, durability, min_insync_replicas }
}

/// Why a policy is refused that a later version will take.
const COMPACTED_AND_TIERED: &str =
    "a topic cannot be compacted and tiered at once yet: its remote.storage.enable has to be false";

/// What `cleanup.policy` says.
#[derive(Debug, Clone, Copy, Default)]
struct Policies {
    delete: bool,
    compact: bool,
}

fn read_policies(r: &mut Reader<'_>) -> Policies {
    r.read(
        list("cleanup.policy", "delete", "`delete`, `compact`, both, or nothing to keep all records for ever", policies)
            .synonym("log.cleanup.policy")
            .doc(
                "What lets records go: `delete`, the topic's retention; `compact`, a newer record with the same key. A \
                 compacted topic takes no record without a key, and is made with `remote.storage.enable=false`.",
            ),
    )
}

/// Whether it is tiered, and whether that is its own word.
fn read_tiered(r: &mut Reader<'_>, tier: bool) -> (bool, bool) {
    let mut enable = flag("remote.storage.enable", tier)
        .topic_only()
        .default_note("`true` on brokers with a tier, else `false`")
        .doc("Whether sealed segments go to the bucket. A tiered topic stays tiered.");
    if !tier {
        enable = enable.only_default("the brokers have no tier: set tier.object.store");
    }
    let tiered = r.read(enable);
    let is_own = *r.last_source() == Source::Topic;
    const PAUSE: &str = "uploads of a single topic cannot be stopped yet";
    r.declare(
        flag("remote.log.copy.disable", false)
            .topic_only()
            .only_default(PAUSE)
            .doc("Whether a tiered topic stops uploading and keeps what it has in the bucket."),
    );
    r.declare(
        flag("remote.log.delete.on.disable", false)
            .topic_only()
            .only_default("a tiered topic stays tiered")
            .doc("Whether turning `remote.storage.enable` off deletes what the topic has in the bucket."),
    );
    (tiered, is_own)
}

fn read_retention(r: &mut Reader<'_>, tier: bool, tiered: bool, policies: Policies) -> Retention {
    let (time_default, local_default) = if tier { (-1, DAY) } else { (7 * DAY, AS_TOTAL) };
    let time = r.read(
        millis_or_unlimited("retention.ms", time_default)
            .synonym("log.retention.ms")
            .alias("log.retention.minutes", MINUTE)
            .alias("log.retention.hours", HOUR)
            .default_note("-1 on brokers with a tier, else 604800000 (7 days)")
            .doc("Milliseconds that records are kept, locally and in the bucket; -1 for ever."),
    );
    let bytes = r.read(
        bytes_or_unlimited("retention.bytes", -1)
            .synonym("log.retention.bytes")
            .doc("Bytes that a partition keeps, locally and in the bucket together; -1 for no limit."),
    );
    const LOCAL_DOCS: Option<(i64, &str)> = Some((AS_TOTAL, "the total"));
    let local_time = r.read(
        number("local.retention.ms", local_default, LOCAL_DOCS)
            .at_least(-1)
            .synonym("log.local.retention.ms")
            .default_note("86400000 (24 hours) on brokers with a tier, else -2")
            .doc(
                "Milliseconds that records of a tiered topic stay on local disk once they are in the bucket; -2: as \
                 `retention.ms`. Never more than `retention.ms`.",
            ),
    );
    let local_time = r.local_limit("local.retention.ms", local_time, "retention.ms", time, to_millis, tiered);
    let local_bytes = r.read(
        number("local.retention.bytes", AS_TOTAL, LOCAL_DOCS).at_least(-1).synonym("log.local.retention.bytes").doc(
            "Bytes of a tiered partition that stay on local disk once they are in the bucket; -2: as `retention.bytes`. \
             Never more than `retention.bytes`.",
        ),
    );
    let local_bytes =
        r.local_limit("local.retention.bytes", local_bytes, "retention.bytes", bytes, to_bytes, tiered);
    let (time, bytes) = if policies.delete { (time, bytes) } else { (None, None) };
    let deletes = policies.delete;
    match tiered {
        true => Retention { deletes, time, bytes, local_time, local_bytes },
        false => Retention { deletes, time, bytes, local_time: time, local_bytes: bytes },
    }
}

/// `local.retention.*`: as long as the total.
const AS_TOTAL: i64 = -2;
/// `local.retention.*`: no limit of its own.
const UNLIMITED: i64 = -1;

impl Reader<'_> {
    /// What the local limit just read comes to. One that a topic sets beside a smaller total is refused, as Kafka does; one
    /// that it merely inherits yields to its total instead, or no topic could lower its retention alone.
    fn local_limit<T: Ord + Copy>(
        &mut self,
        local_name: &str,
        local: i64,
        total_name: &str,
        total: Option<T>,
        of: fn(i64) -> T,
        tiered: bool,
    ) -> Option<T> {
        let is_own = *self.last_source() == Source::Topic;
        let own = (local >= 0).then(|| of(local));
        let exceeds = match (own, total) {
            (Some(own), Some(total)) => own > total,
            (None, Some(_)) => local == UNLIMITED,
            (_, None) => false,
        };
        if exceeds && is_own && tiered {
            self.blame(local_name, format!("must not exceed {total_name}"));
        }
        match (own, total) {
            (Some(own), Some(total)) => Some(own.min(total)),
            (own, total) => own.or(total),
        }
    }
}

fn policies(named: &[&str]) -> Result<Policies, String> {
    let mut policies = Policies::default();
    for policy in named {
        match *policy {
            "delete" => policies.delete = true,
            "compact" => policies.compact = true,
            other => {
                return Err(format!(
                    "{other:?} is no cleanup policy: only \"delete\", \"compact\", both or nothing is accepted"
                ));
            }
        }
    }
    Ok(policies)
}

fn read_segments(r: &mut Reader<'_>) -> Segments {
    let segments = Segments {
        bytes_max: r.read(
            bytes("segment.bytes", GIB)
                .range(MIB, INT_MAX)
                .synonym("log.segment.bytes")
                .doc("Bytes at which a segment is sealed and the next begun."),
        ),
        age_max: r.read(
            millis("segment.ms", 7 * DAY)
                .at_least(1)
                .synonym("log.roll.ms")
                .alias("log.roll.hours", HOUR)
                .doc("Age in milliseconds of a segment's first record at which the segment is sealed, full or not."),
        ),
        jitter_max: r.read(
            millis("segment.jitter.ms", 0)
                .synonym("log.roll.jitter.ms")
                .alias("log.roll.jitter.hours", HOUR)
                .doc("Milliseconds that are taken off `segment.ms`, at most and at random, so that not all roll at once."),
        ),
        index_bytes_max: r.read(
            bytes("segment.index.bytes", 10 * MIB)
                .range(4, INT_MAX)
                .synonym("log.index.size.max.bytes")
                .doc("Bytes of index at which a segment is sealed."),
        ),
        index_interval: r.read(
            bytes("index.interval.bytes", 4096)
                .range(0, INT_MAX)
                .synonym("log.index.interval.bytes")
                .doc("Bytes of log between two entries of an index."),
        ),
        delete_delay: r.read(
            millis("file.delete.delay.ms", MINUTE)
                .synonym("log.segment.delete.delay.ms")
                .doc("Milliseconds between the decision to delete a local segment and the deletion of its files."),
        ),
    };
    r.declare(
        flag("preallocate", false)
            .synonym("log.preallocate")
            .only_default("segments grow as they are written")
            .doc("Whether a segment's file gets its full size at once."),
    );
    const FLUSH: &str = "whether and when records are synced is set by `durability`";
    r.declare(
        number("flush.messages", i64::MAX, None)
            .at_least(1)
            .synonym("log.flush.interval.messages")
            .only_default(FLUSH)
            .doc("Records between two syncs of a log."),
    );
    r.declare(
        number("flush.ms", i64::MAX, None)
            .synonym("log.flush.interval.ms")
            .only_default(FLUSH)
            .doc("Milliseconds between two syncs of a log."),
    );
    segments
}

fn read_records(r: &mut Reader<'_>) -> Records {
    let records = Records {
        batch_bytes_max: r.read(
            bytes("max.message.bytes", MIB + 12)
                .range(0, INT_MAX)
                .synonym("message.max.bytes")
                .doc("Largest record batch in bytes, as its producer compressed it."),
        ),
        validation: r.read(
            choice("record.validation", vec![("framing", RecordValidation::Framing), ("full", RecordValidation::Full)])
                .synonym("log.record.validation")
                .doc(
                    "How closely batches are checked before they are kept: `framing` walks the records of uncompressed \
                     batches and takes compressed ones by their header; `full` opens compressed ones as well.",
                ),
        ),
        expanded_bytes_max: r.read(
            bytes("record.expanded.bytes.max", 64 * MIB)
                .range(MIB, 128 * MIB)
                .synonym("log.record.expanded.bytes.max")
                .doc(
                    "Bytes that the records of a compressed batch may have once it is opened, where it is; one that holds more is \
                     refused. Its consumers would need as much memory at once.",
                ),
        ),
        timestamp_type: r.read(
            choice("message.timestamp.type", vec![
                ("CreateTime", TimestampType::CreateTime),
                ("LogAppendTime", TimestampType::LogAppendTime),
            ])
            .synonym("log.message.timestamp.type")
            .doc("Which time a record bears: its producer's, or that of its append."),
        ),
        timestamp_before_max: r.read(
            millis("message.timestamp.before.max.ms", i64::MAX)
                .synonym("log.message.timestamp.before.max.ms")
                .doc("Milliseconds that a record's time may lie behind the broker's clock, for `CreateTime`."),
        ),
        timestamp_after_max: r.read(
            millis("message.timestamp.after.max.ms", HOUR)
                .synonym("log.message.timestamp.after.max.ms")
                .doc("Milliseconds that a record's time may lie ahead of the broker's clock, for `CreateTime`."),
        ),
    };
    declare_recompression(r);
    records
}

fn declare_recompression(r: &mut Reader<'_>) {
    const WHY: &str = "batches are kept as their producer compressed them, the broker never recompresses";
    r.declare(
        text_as_is("compression.type", "producer")
            .synonym("compression.type")
            .only_default(WHY)
            .doc("How batches are compressed at rest."),
    );
    for (name, default) in
        [("compression.gzip.level", -1), ("compression.lz4.level", 9), ("compression.zstd.level", 3)]
    {
        r.declare(
            number(name, default, None)
                .range(i64::from(i32::MIN), INT_MAX)
                .synonym(name)
                .only_default(WHY)
                .doc("Level of a recompression."),
        );
    }
}

fn text_as_is(name: &'static str, default: &str) -> super::key::Key<String> {
    super::key::text(name, default, "", |text| Ok(text.to_owned()))
}

fn declare_replication(r: &mut Reader<'_>) {
    r.declare(
        flag("unclean.leader.election.enable", false)
            .synonym("unclean.leader.election.enable")
            .only_default("leaders are not elected among replicas yet")
            .doc(
                "Whether a replica that lacks acknowledged records may become leader when no other is left.",
            ),
    );
    for name in ["leader.replication.throttled.replicas", "follower.replication.throttled.replicas"] {
        r.declare(
            list(name, "", "", |_| Ok(()))
                .topic_only()
                .only_default("replication is not throttled yet")
                .doc("Replicas whose replication is throttled."),
        );
    }
}

/// As in Kafka, these mean nothing to a topic that is not compacted. They are kept because tools set them on all topics alike.
fn read_compaction(r: &mut Reader<'_>) -> Compaction {
    let delete_retention = r.read(
        millis("delete.retention.ms", DAY)
            .synonym("log.cleaner.delete.retention.ms")
            .doc(
                "Milliseconds that a compacted topic keeps a tombstone once a pass has met it: how long a reader may take from \
                 the start of the topic to its end without missing that a key is gone. Without effect on other topics.",
            ),
    );
    let lag_min = r.read(
        millis("min.compaction.lag.ms", 0)
            .synonym("log.cleaner.min.compaction.lag.ms")
            .doc("Milliseconds before a record may be compacted away. Without effect on topics that are not compacted."),
    );
    let lag_max = r.read(
        millis("max.compaction.lag.ms", i64::MAX)
            .at_least(1)
            .synonym("log.cleaner.max.compaction.lag.ms")
            .doc(
                "Milliseconds until a record is compacted, however small the dirty share. Without effect on topics that are \
                 not compacted.",
            ),
    );
    if lag_min > lag_max {
        r.blame("min.compaction.lag.ms", "must not exceed max.compaction.lag.ms".to_owned());
    }
    let dirty_ratio_min = r.read(
        fraction("min.cleanable.dirty.ratio", 0.5, 0.0, 1.0)
            .synonym("log.cleaner.min.cleanable.ratio")
            .doc("Share of a log that is dirty before it is compacted. Without effect on topics that are not compacted."),
    );
    let lag_max = Some(lag_max).filter(|lag| *lag < to_millis(i64::MAX));
    Compaction { delete_retention, lag_min, lag_max, dirty_ratio_min }
}
