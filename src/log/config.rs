//! What a topic's configuration means to its logs, and what a data directory is told at its start.
//!
//! Values only: where they come from, what they are called in files and which bounds they have is the config layer's business.
//! Each field names the Kafka key that it is.

use std::time::Duration;

use aquifer_model::{ByteCount, Offset};

use crate::config::{Compaction, Durability, RecordValidation, TimestampType, TopicConfig};

/// A topic's settings, as its logs need them. May be replaced at run time.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is closed before it would grow beyond this. Default 1 GiB, at most 2 GiB - 1.
    pub segment_bytes: ByteCount,
    /// `segment.ms`: a segment is closed once its records span more than this. Default 7 days.
    pub segment_ms: Duration,
    /// `segment.jitter.ms`: up to this much is taken off `segment.ms`, so that partitions do not all roll at once. Default 0.
    pub segment_jitter_ms: Duration,
    /// `segment.index.bytes`: a segment is closed when its offset or time index would outgrow this. Default 10 MiB.
    pub segment_index_bytes: ByteCount,
    /// `index.interval.bytes`: one index entry for about this many bytes of batches. Default 4096.
    pub index_interval_bytes: ByteCount,
    /// `max.message.bytes`: the largest batch taken from a client. Default 1 MiB and 12 bytes.
    pub max_message_bytes: ByteCount,
    /// `message.timestamp.type`. Default `CreateTime`.
    pub timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how old a producer's timestamp may be; `None` for any. Default `None`.
    pub timestamp_before_max_ms: Option<Duration>,
    /// `message.timestamp.after.max.ms`: how far in the future it may be; `None` for any. Default 1 hour.
    pub timestamp_after_max_ms: Option<Duration>,
    /// `durability` (ours): when a record counts as kept by this replica; with `replicated` the device follows within a
    /// checkpoint's bytes. Default `fsync`.
    pub durability: Durability,
    /// `record.validation` (ours): how far compressed batches are looked into. Default `framing`.
    pub record_validation: RecordValidation,
    /// `record.expanded.bytes.max` (ours): what the records of a compressed batch may come to where it is looked into. Default
    /// 64 MiB.
    pub record_expanded_bytes_max: ByteCount,
    /// `cleanup.policy`: a compacted topic refuses records without a key and validates fully. Default `delete`.
    pub cleanup: Cleanup,
    /// `file.delete.delay.ms`: how long removed files stay for those who are still reading them. Default 1 minute.
    pub file_delete_delay_ms: Duration,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        let day = Duration::from_secs(24 * 60 * 60);
        LogConfig {
            segment_bytes: ByteCount::mib(1024),
            segment_ms: 7 * day,
            segment_jitter_ms: Duration::ZERO,
            segment_index_bytes: ByteCount::mib(10),
            index_interval_bytes: ByteCount::kib(4),
            max_message_bytes: ByteCount((1 << 20) + 12),
            timestamp_type: TimestampType::CreateTime,
            timestamp_before_max_ms: None,
            timestamp_after_max_ms: Some(Duration::from_secs(60 * 60)),
            durability: Durability::Fsync,
            record_validation: RecordValidation::Framing,
            record_expanded_bytes_max: ByteCount::mib(64),
            cleanup: Cleanup::Delete,
            file_delete_delay_ms: Duration::from_secs(60),
        }
    }
}

/// How old records leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Cleanup {
    /// A segment at a time, by age or size.
    Delete,
    /// A key's older values go; segments by age or size, too, where the topic asks for both.
    Compact(Compaction),
}

impl Cleanup {
    /// How a log is to be compacted, if it is.
    pub(crate) fn compaction(self) -> Option<Compaction> {
        match self {
            Cleanup::Delete => None,
            Cleanup::Compact(compaction) => Some(compaction),
        }
    }

    /// How far the compaction of a log has come that has just begun to be compacted; `None` if it is not to be.
    pub(crate) fn start(self) -> Option<Offset> {
        self.compaction().map(|_| Offset::ZERO)
    }
}

/// What a data directory is told when it is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogDirOptions {
    /// `num.recovery.threads.per.data.dir`: how many logs are opened side by side. Default 2.
    pub recovery_threads: usize,
    /// `log.files.open.max`: how many descriptors of segments are kept; colder ones are closed. Default 4096.
    pub files_open_max: usize,
    /// `log.index.cache.bytes`: memory for indexes of closed segments. Default 64 MiB.
    pub index_cache_bytes: ByteCount,
    /// `log.checkpoint.bytes` (ours): a log's recovery point moves on after this many bytes, or two to four times as many while all logs
    /// together have at most `recovery_bytes` behind theirs. Read again after a crash is this much and what came while the last
    /// checkpoint was synced and written, seldom more than as much again. Default 16 MiB.
    pub checkpoint_bytes: ByteCount,
    /// `log.recovery.bytes` (ours): see `checkpoint_bytes`. Default 1 GiB.
    pub recovery_bytes: ByteCount,
    /// `log.closing.reread.bytes.max` (ours): a log that is closed with at most this much behind its checkpoint leaves it at that.
    /// Reading it again takes less time than writing a checkpoint, of which a broker with thousands of logs would have to write
    /// thousands before it can stop. Default 64 KiB.
    pub closing_reread_bytes_max: ByteCount,
    /// `log.sync.threads`: how many logs are synced side by side; the file system makes one commit of what comes together.
    /// Default 4.
    pub sync_threads: usize,
    /// `log.journal.bytes` (ours): the size of the journal, which takes what several logs have written so that one sync serves them.
    /// 0 for none. Default 256 MiB.
    pub journal_bytes: ByteCount,
    /// `log.journal.logs.min` (ours): the journal is made once so many logs wait to be synced at the same time. Default 4.
    pub journal_logs_min: usize,
    /// `log.journal.log.bytes.max` (ours): a log with more than this to be made durable is synced by itself. Default 256 KiB.
    pub journal_log_bytes_max: ByteCount,
    /// `log.read.lend.bytes.min` (ours): what a reader is given of a partition is lent from the page cache if it is so much, and known
    /// to be sound. 0: nothing is, and all is verified each time. Default 192 KiB.
    pub lend_bytes_min: ByteCount,
    /// `log.reserve.bytes` (ours): room held back on the device, so that segments can be dropped when it is full. Default 4 MiB.
    pub reserve_bytes: ByteCount,
    /// `producer.id.expiration.ms`: how long an idle idempotent producer is remembered, until [`super::LogDir`] is told otherwise.
    /// Default 1 day.
    pub producer_id_expiration_ms: Duration,
    /// `log.producer.ids.max` (ours): how many idempotent producers a partition remembers; beyond, the longest idle are
    /// forgotten. Default 10,000.
    pub producer_ids_max: usize,
    /// `log.producer.ids.total.max` (ours): the same over all partitions of the directory. Default 200,000.
    pub producer_ids_total_max: usize,
    /// `log.record.expansions.max` (ours): how many compressed batches are looked into side by side. Default 2.
    pub expansions_max: usize,
}

impl Default for LogDirOptions {
    fn default() -> LogDirOptions {
        LogDirOptions {
            recovery_threads: 2,
            files_open_max: 4096,
            index_cache_bytes: ByteCount::mib(64),
            checkpoint_bytes: ByteCount::mib(16),
            recovery_bytes: ByteCount::mib(1024),
            closing_reread_bytes_max: ByteCount::kib(64),
            sync_threads: 4,
            journal_bytes: ByteCount::mib(256),
            journal_logs_min: 4,
            journal_log_bytes_max: ByteCount::kib(256),
            lend_bytes_min: ByteCount::kib(192),
            reserve_bytes: ByteCount::mib(4),
            producer_id_expiration_ms: Duration::from_secs(24 * 60 * 60),
            producer_ids_max: 10_000,
            producer_ids_total_max: 200_000,
            expansions_max: 2,
        }
    }
}

impl From<&TopicConfig> for LogConfig {
    fn from(topic: &TopicConfig) -> LogConfig {
        // As in Kafka: only what is closed is compacted, so a segment must not stay open for longer than that may take.
        let lag_max = topic.compaction.and_then(|compaction| compaction.lag_max);
        LogConfig {
            segment_bytes: topic.segments.bytes_max,
            segment_ms: lag_max.map_or(topic.segments.age_max, |lag| lag.min(topic.segments.age_max)),
            segment_jitter_ms: topic.segments.jitter_max,
            segment_index_bytes: topic.segments.index_bytes_max,
            index_interval_bytes: topic.segments.index_interval,
            max_message_bytes: topic.records.batch_bytes_max,
            timestamp_type: topic.records.timestamp_type,
            timestamp_before_max_ms: Some(topic.records.timestamp_before_max),
            timestamp_after_max_ms: Some(topic.records.timestamp_after_max),
            durability: topic.durability,
            record_validation: topic.records.validation,
            record_expanded_bytes_max: topic.records.expanded_bytes_max,
            cleanup: topic.compaction.map_or(Cleanup::Delete, Cleanup::Compact),
            file_delete_delay_ms: topic.segments.delete_delay,
        }
    }
}
