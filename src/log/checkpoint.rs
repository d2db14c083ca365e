//! The small durable files of a log and of a data directory: their bytes, and what they mean.
//!
//! - `format` of a data directory: its uuid, and whether it has a journal. A newer version refuses to open.
//! - `boot` of a data directory: in which run of the operating system, and on which mount, it was last open, by which a crash of
//!   the process is told from one that cost the page cache.
//! - `partition` of a log: whose it is, and below which offset compaction may have left offsets out of it.
//! - `checkpoint` of a log: where recovery starts, with all that is needed there, and what is known of closed segments without
//!   opening them. Replaced as a whole, so that a crash leaves the old one or the new.
//! - `<offset>.snapshot` of a log: producers, leader epochs and log start as of that offset, which is a segment's base. They
//!   serve truncation, uploads, and recovery when the checkpoint is lost.

use aquifer_model::format::{Format, FormatError, Reader, Tags, Writer};
use aquifer_model::{
    ByteCount, LeaderEpochs, Offset, OffsetRange, PartitionIndex, SealedSegment, Timestamp, TopicId,
    TopicName, TopicPartition,
};
use bytes::Bytes;
use uuid::Uuid;

use super::producers::Producers;

const DIRECTORY: Format = Format { name: "log dir format", magic: *b"AQDR", version: 1 };
const BOOT: Format = Format { name: "boot file", magic: *b"AQBT", version: 1 };
const PARTITION: Format = Format { name: "partition file", magic: *b"AQPT", version: 1 };
const CHECKPOINT: Format = Format { name: "checkpoint", magic: *b"AQCP", version: 1 };
const SNAPSHOT: Format = Format { name: "producer snapshot", magic: *b"AQPS", version: 1 };

/// Required: what is on disk is no part of the log any more and must go before anything else is done.
const TAG_DISCARD: u32 = 0;
/// Required, for a program that does not know it would take the gaps between batches for damage: how far compaction has come.
const TAG_COMPACTED: u32 = 1;
/// Within that, optional: below which offset gaps may lie. A program that does not know it allows them everywhere.
const TAG_GAPS: u32 = 0;
/// Optional: which writes of the journal say nothing of the log any more. A program that does not know it does not open a directory
/// with a journal.
const TAG_JOURNAL: u32 = 2;
/// Of `format`, required: there is a journal, without which acknowledged records may be lost.
const TAG_JOURNALED: u32 = 0;
/// Of a partition file, optional: the same as within `compaction`, for when the checkpoint is lost.
const TAG_PARTITION_GAPS: u32 = 0;

/// The contents of `format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryFile {
    pub(crate) uuid: Uuid,
    /// Whether it has, or is about to have, a journal.
    pub(crate) is_journaled: bool,
}

impl DirectoryFile {
    pub(crate) fn encode(self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.uuid(self.uuid);
        let mut tags = Tags::default();
        if self.is_journaled {
            tags.set_required(TAG_JOURNALED, Bytes::new());
        }
        writer.tags(&tags);
        DIRECTORY.seal(&writer.finish())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<DirectoryFile, FormatError> {
        let (_, body) = DIRECTORY.open(bytes)?;
        let mut reader = DIRECTORY.reader(body);
        let uuid = reader.uuid()?;
        let is_journaled = reader.tags(&[TAG_JOURNALED])?.get(TAG_JOURNALED).is_some();
        reader.end()?;
        Ok(DirectoryFile { uuid, is_journaled })
    }
}

/// A place in what the journal of a directory was given in one opening of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JournalMark {
    /// Which opening.
    pub(crate) run: u64,
    /// Which write, from 1.
    pub(crate) sequence: u64,
}

impl JournalMark {
    fn encode(self) -> Bytes {
        let mut writer = Writer::new();
        writer.u64(self.run);
        writer.u64(self.sequence);
        writer.finish().into()
    }

    fn decode(bytes: &[u8]) -> Result<JournalMark, FormatError> {
        let mut reader = CHECKPOINT.reader(bytes);
        let mark = JournalMark { run: reader.u64()?, sequence: reader.u64()? };
        reader.end()?;
        Ok(mark)
    }
}

/// The bytes of `boot`.
pub(crate) fn encode_boot(id: &str) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.string(id);
    writer.tags(&Tags::default());
    BOOT.seal(&writer.finish())
}

/// The id in `boot`.
pub(crate) fn decode_boot(bytes: &[u8]) -> Result<String, FormatError> {
    let (_, body) = BOOT.open(bytes)?;
    let mut reader = BOOT.reader(body);
    let id = reader.string()?.to_owned();
    reader.tags(&[])?;
    reader.end()?;
    Ok(id)
}

/// The contents of `partition`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PartitionFile {
    pub(crate) partition: TopicPartition,
    pub(crate) topic: TopicName,
    /// No gap between batches ends above this; `None` in a file of a program that did not note it.
    pub(crate) gaps_below: Option<Offset>,
}

impl PartitionFile {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.uuid(self.partition.topic.uuid());
        writer.i32(self.partition.partition.0);
        writer.string(&self.topic);
        let mut tags = Tags::default();
        if let Some(below) = self.gaps_below {
            tags.set_optional(TAG_PARTITION_GAPS, offset_value(below));
        }
        writer.tags(&tags);
        PARTITION.seal(&writer.finish())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<PartitionFile, FormatError> {
        let (_, body) = PARTITION.open(bytes)?;
        let mut reader = PARTITION.reader(body);
        let topic = TopicId::new(reader.uuid()?);
        let partition = TopicPartition { topic, partition: PartitionIndex(reader.i32()?) };
        let topic =
            TopicName::new(reader.string()?).map_err(|_| PARTITION.invalid("it holds no topic name"))?;
        let tags = reader.tags(&[TAG_PARTITION_GAPS])?;
        reader.end()?;
        let gaps_below = tags.get(TAG_PARTITION_GAPS).map(|value| offset_of(PARTITION, value)).transpose()?;
        Ok(PartitionFile { partition, topic, gaps_below })
    }
}

fn offset_value(offset: Offset) -> Bytes {
    let mut writer = Writer::new();
    writer.i64(offset.get());
    writer.finish().into()
}

fn offset_of(format: Format, value: &[u8]) -> Result<Offset, FormatError> {
    let mut reader = format.reader(value);
    let offset = Offset::new(reader.i64()?).ok_or(format.invalid("an offset is negative"))?;
    reader.end()?;
    Ok(offset)
}

/// What is known of a closed segment without opening it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SealedFacts {
    pub(crate) range: OffsetRange,
    pub(crate) bytes: ByteCount,
    pub(crate) timestamp_max: Timestamp,
    pub(crate) sealed_at: Timestamp,
    /// How many transactions its markers abort: mostly none, and then its index need not be loaded to know.
    pub(crate) aborted: u32,
}

impl SealedFacts {
    /// With its part of the log's epochs.
    pub(crate) fn describe(&self, epochs: &LeaderEpochs) -> SealedSegment {
        SealedSegment {
            range: self.range,
            log_bytes: self.bytes,
            timestamp_max: self.timestamp_max,
            sealed_at: self.sealed_at,
            epochs: epochs.slice(self.range.base, self.range.next),
        }
    }
}

/// All before this is durable; recovery reads what lies behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RecoveryPoint {
    /// Base of the segment that was open.
    pub(crate) segment: Offset,
    /// Where in it recovery starts, in bytes.
    pub(crate) position: u64,
    /// The log's end there.
    pub(crate) offset: Offset,
    /// The leaders so far.
    pub(crate) epochs: LeaderEpochs,
    /// The producers there, as [`Producers::write`] wrote them.
    pub(crate) producers: Bytes,
}

/// How far the compaction of a log has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct CompactionProgress {
    /// Below this every key stands once.
    pub(crate) clean_below: Offset,
    /// No gap between batches ends above this.
    pub(crate) gaps_below: Offset,
    /// Closed segments, by their bases, whose files may lie beside their places still; see `compaction/swap.rs`.
    pub(crate) swapping: Vec<Offset>,
}

impl CompactionProgress {
    fn encode(&self) -> Bytes {
        let mut writer = Writer::new();
        writer.i64(self.clean_below.get());
        writer.list(&self.swapping, |writer, base| writer.i64(base.get()));
        let mut tags = Tags::default();
        tags.set_optional(TAG_GAPS, offset_value(self.gaps_below));
        writer.tags(&tags);
        writer.finish().into()
    }

    /// Of a checkpoint at `end`. One that does not say where gaps may lie was written by a program that took them anywhere.
    fn decode(bytes: &[u8], end: Offset) -> Result<CompactionProgress, FormatError> {
        let mut reader = CHECKPOINT.reader(bytes);
        let clean_below = offset(&mut reader)?;
        let swapping = reader.list(8, offset)?;
        let tags = reader.tags(&[TAG_GAPS])?;
        reader.end()?;
        let gaps_below = tags.get(TAG_GAPS).map(|value| offset_of(CHECKPOINT, value)).transpose()?;
        Ok(CompactionProgress { clean_below, gaps_below: gaps_below.unwrap_or(end), swapping })
    }
}

/// The contents of `checkpoint`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) point: RecoveryPoint,
    pub(crate) log_start: Offset,
    /// Segments that end at or before this are no part of the log any more.
    pub(crate) local_start: Offset,
    pub(crate) high_watermark: Offset,
    /// Closed segments, oldest first, up to the one that was open.
    pub(crate) sealed: Vec<SealedFacts>,
    /// What is on disk is void: the log is to start empty at the recovery point.
    pub(crate) discard: bool,
    /// `None` for a log that never was to be compacted.
    pub(crate) compaction: Option<CompactionProgress>,
    /// What the journal was given before this is void: it was cut off, or was of another log of this name.
    pub(crate) journal: Option<JournalMark>,
}

impl Checkpoint {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.i64(self.point.segment.get());
        writer.u64(self.point.position);
        writer.i64(self.point.offset.get());
        writer.i64(self.log_start.get());
        writer.i64(self.local_start.get());
        writer.i64(self.high_watermark.get());
        writer.list(&self.sealed, |writer, facts| {
            writer.i64(facts.range.base.get());
            writer.i64(facts.range.next.get());
            writer.u64(facts.bytes.get());
            writer.i64(facts.timestamp_max.0);
            writer.i64(facts.sealed_at.0);
            writer.u32(facts.aborted);
            writer.tags(&Tags::default());
        });
        self.point.epochs.write(&mut writer);
        writer.bytes(&self.point.producers);
        let mut tags = Tags::default();
        if self.discard {
            tags.set_required(TAG_DISCARD, Bytes::new());
        }
        if let Some(compaction) = &self.compaction {
            tags.set_required(TAG_COMPACTED, compaction.encode());
        }
        if let Some(mark) = self.journal {
            tags.set_optional(TAG_JOURNAL, mark.encode());
        }
        writer.tags(&tags);
        CHECKPOINT.seal(&writer.finish())
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Checkpoint, FormatError> {
        let (_, body) = CHECKPOINT.open(bytes)?;
        let mut reader = CHECKPOINT.reader(body);
        let segment = offset(&mut reader)?;
        let position = reader.u64()?;
        let end = offset(&mut reader)?;
        let log_start = offset(&mut reader)?;
        let local_start = offset(&mut reader)?;
        let high_watermark = offset(&mut reader)?;
        let sealed = reader.list(45, |reader| {
            let facts = SealedFacts {
                range: OffsetRange { base: offset(reader)?, next: offset(reader)? },
                bytes: ByteCount(reader.u64()?),
                timestamp_max: Timestamp(reader.i64()?),
                sealed_at: Timestamp(reader.i64()?),
                aborted: reader.u32()?,
            };
            reader.tags(&[])?;
            Ok(facts)
        })?;
        let epochs = LeaderEpochs::read(&mut reader)?;
        let producers = Bytes::copy_from_slice(reader.bytes()?);
        let tags = reader.tags(&[TAG_DISCARD, TAG_COMPACTED, TAG_JOURNAL])?;
        let discard = tags.get(TAG_DISCARD).is_some();
        let compaction = tags.get(TAG_COMPACTED).map(|value| CompactionProgress::decode(value, end));
        let compaction = compaction.transpose()?;
        let journal = tags.get(TAG_JOURNAL).map(|value| JournalMark::decode(value)).transpose()?;
        reader.end()?;
        let joined = sealed.windows(2).all(|pair| pair[0].range.next == pair[1].range.base)
            && sealed.last().is_none_or(|last| last.range.next == segment);
        if !joined || end < segment {
            return Err(CHECKPOINT.invalid("its segments do not join"));
        }
        let point = RecoveryPoint { segment, position, offset: end, epochs, producers };
        Ok(Checkpoint { point, log_start, local_start, high_watermark, sealed, discard, compaction, journal })
    }
}

/// The contents of a `.snapshot`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// State as of this offset.
    pub(crate) offset: Offset,
    pub(crate) log_start: Offset,
    pub(crate) epochs: LeaderEpochs,
    pub(crate) producers: Producers,
}

impl Snapshot {
    pub(crate) fn encode(&self) -> Vec<u8> {
        encode_snapshot(self.offset, self.log_start, &self.epochs, &self.producers)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Snapshot, FormatError> {
        let (_, body) = SNAPSHOT.open(bytes)?;
        let mut reader = SNAPSHOT.reader(body);
        let snapshot = Snapshot {
            offset: offset(&mut reader)?,
            log_start: offset(&mut reader)?,
            epochs: LeaderEpochs::read(&mut reader)?,
            producers: Producers::read(&mut reader)?,
        };
        reader.tags(&[])?;
        reader.end()?;
        Ok(snapshot)
    }
}

/// The bytes of a snapshot, from its parts.
pub(crate) fn encode_snapshot(
    offset: Offset,
    log_start: Offset,
    epochs: &LeaderEpochs,
    producers: &Producers,
) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i64(offset.get());
    writer.i64(log_start.get());
    epochs.write(&mut writer);
    producers.write(&mut writer);
    writer.tags(&Tags::default());
    SNAPSHOT.seal(&writer.finish())
}

fn offset(reader: &mut Reader<'_>) -> Result<Offset, FormatError> {
    Offset::new(reader.i64()?).ok_or(CHECKPOINT.invalid("an offset is negative"))
}

#[cfg(test)]
mod tests;
