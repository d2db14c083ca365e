//! The bytes of manifests and pages.
//!
//! Both end in tagged fields, and so does each entry: a newer program may add to an entry without a new version of the format,
//! and what an older one does not know it carries along.

use aquifer_model::format::{Format, FormatError, Reader, Writer};
use aquifer_model::{
    BrokerId, ByteCount, LeaderEpoch, LeaderEpochs, Offset, OffsetRange, PartitionIndex, SealedSegment,
    Timestamp, TopicId, TopicPartition,
};

use super::{Claim, Entry, Manifest, ManifestVersion, PageRef, Removed, State};
use crate::cluster::Incarnation;
use crate::path::Key;

/// No manifest is longer; some 200,000 entries' worth.
pub const MANIFEST_BYTES_MAX: ByteCount = ByteCount::mib(32);
/// No page is longer.
pub const PAGE_BYTES_MAX: ByteCount = ByteCount::mib(32);

const MANIFEST: Format = Format { name: "manifest", magic: *b"AQMF", version: 1 };
const PAGE: Format = Format { name: "manifest page", magic: *b"AQMP", version: 1 };

/// The least bytes that an entry takes up, by which a count is bounded.
const ENTRY_BYTES_MIN: usize = 36;

impl Manifest {
    /// The manifest's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        body.uuid(self.partition.topic.uuid());
        body.i32(self.partition.partition.0);
        body.u64(self.version.0);
        body.u64(self.claim.incarnation.0);
        body.i32(self.claim.epoch.get());
        body.i32(self.claim.broker.0);
        body.uuid(self.claim.process);
        body.uuid(self.write);
        let mut before = 0;
        body.list(&self.claim_versions, |body, version| {
            body.varint(version.0 - before);
            before = version.0;
        });
        body.u8(match self.state {
            State::Live => 0,
            State::Deleted => 1,
        });
        body.i64(self.log_start.get());
        body.option(self.end, |body, end| body.i64(end.get()));
        body.list(&self.pages, write_page_ref);
        body.list(&self.entries, write_entry);
        body.list(&self.removed, |body, removed| {
            body.string(removed.object.as_str());
            body.i64(removed.at.0);
        });
        body.tags(&self.tags);
        MANIFEST.seal(&body.finish())
    }

    /// Reads what [`Manifest::encode`] wrote. Whether it makes sense as a whole is for [`super::invariants`] to say.
    pub fn decode(bytes: &[u8]) -> Result<Manifest, FormatError> {
        let (_, body) = MANIFEST.open(bytes)?;
        let mut body = MANIFEST.reader(body);
        let topic = TopicId::new(body.uuid()?);
        let partition = TopicPartition { topic, partition: PartitionIndex(body.i32()?) };
        let version = ManifestVersion(body.u64()?);
        let claim = Claim {
            incarnation: Incarnation(body.u64()?),
            epoch: LeaderEpoch::new(body.i32()?)
                .ok_or_else(|| MANIFEST.invalid("the claim's epoch is negative"))?,
            broker: BrokerId(body.i32()?),
            process: body.uuid()?,
        };
        let write = body.uuid()?;
        let mut before = 0u64;
        let claim_versions = body.list(1, |body| {
            before = before
                .checked_add(body.varint()?)
                .ok_or_else(|| MANIFEST.invalid("a version is too large"))?;
            Ok(ManifestVersion(before))
        })?;
        let state = match body.u8()? {
            0 => State::Live,
            1 => State::Deleted,
            _ => return Err(MANIFEST.invalid("the state is unknown")),
        };
        let manifest = Manifest {
            partition,
            version,
            claim,
            write,
            claim_versions,
            state,
            log_start: offset(&mut body)?,
            end: body.option(offset)?,
            pages: body.list(ENTRY_BYTES_MIN, read_page_ref)?,
            entries: body.list(ENTRY_BYTES_MIN, read_entry)?,
            removed: body.list(9, |body| Ok(Removed { object: key(body)?, at: Timestamp(body.i64()?) }))?,
            tags: body.tags(&[])?,
        };
        body.end()?;
        Ok(manifest)
    }
}

/// A page's bytes.
pub fn encode_page(partition: TopicPartition, entries: &[Entry]) -> Vec<u8> {
    let mut body = Writer::new();
    body.uuid(partition.topic.uuid());
    body.i32(partition.partition.0);
    body.list(entries, write_entry);
    body.tags(&aquifer_model::format::Tags::default());
    PAGE.seal(&body.finish())
}

/// Reads what [`encode_page`] wrote.
pub fn decode_page(bytes: &[u8]) -> Result<(TopicPartition, Vec<Entry>), FormatError> {
    let (_, body) = PAGE.open(bytes)?;
    let mut body = PAGE.reader(body);
    let topic = TopicId::new(body.uuid()?);
    let partition = TopicPartition { topic, partition: PartitionIndex(body.i32()?) };
    let entries = body.list(ENTRY_BYTES_MIN, read_entry)?;
    body.tags(&[])?;
    body.end()?;
    Ok((partition, entries))
}

fn write_entry(body: &mut Writer, entry: &Entry) {
    write_range(body, entry.segment.range);
    body.varint(entry.segment.log_bytes.get());
    body.i64(entry.segment.timestamp_max.0);
    body.i64(entry.segment.sealed_at.0);
    entry.segment.epochs.write(body);
    body.string(entry.object.as_str());
    body.varint(entry.position);
    body.varint(entry.image_bytes.get());
    body.u32(entry.log_crc);
    body.varint(u64::from(entry.generation));
    body.tags(&entry.tags);
}

fn read_entry(body: &mut Reader<'_>) -> Result<Entry, FormatError> {
    Ok(Entry {
        segment: SealedSegment {
            range: read_range(body)?,
            log_bytes: ByteCount(body.varint()?),
            timestamp_max: Timestamp(body.i64()?),
            sealed_at: Timestamp(body.i64()?),
            epochs: LeaderEpochs::read(body)?,
        },
        object: key(body)?,
        position: body.varint()?,
        image_bytes: ByteCount(body.varint()?),
        log_crc: body.u32()?,
        generation: u32_varint(body)?,
        tags: body.tags(&[])?,
    })
}

fn write_page_ref(body: &mut Writer, page: &PageRef) {
    body.string(page.object.as_str());
    write_range(body, page.range);
    body.varint(u64::from(page.entries));
    body.varint(page.log_bytes.get());
    body.i64(page.timestamp_max.0);
    page.epochs.write(body);
    body.u32(page.crc);
    body.tags(&page.tags);
}

fn read_page_ref(body: &mut Reader<'_>) -> Result<PageRef, FormatError> {
    Ok(PageRef {
        object: key(body)?,
        range: read_range(body)?,
        entries: u32_varint(body)?,
        log_bytes: ByteCount(body.varint()?),
        timestamp_max: Timestamp(body.i64()?),
        epochs: LeaderEpochs::read(body)?,
        crc: body.u32()?,
        tags: body.tags(&[])?,
    })
}

fn write_range(body: &mut Writer, range: OffsetRange) {
    body.i64(range.base.get());
    body.varint(range.count());
}

fn read_range(body: &mut Reader<'_>) -> Result<OffsetRange, FormatError> {
    let base = offset(body)?;
    let count = i64::try_from(body.varint()?).ok();
    let next = count.and_then(|count| base.get().checked_add(count)).and_then(Offset::new);
    Ok(OffsetRange { base, next: next.ok_or_else(|| MANIFEST.invalid("a range ends behind all offsets"))? })
}

fn offset(body: &mut Reader<'_>) -> Result<Offset, FormatError> {
    Offset::new(body.i64()?).ok_or_else(|| MANIFEST.invalid("an offset is negative"))
}

fn u32_varint(body: &mut Reader<'_>) -> Result<u32, FormatError> {
    u32::try_from(body.varint()?).map_err(|_| MANIFEST.invalid("a count is too large"))
}

fn key(body: &mut Reader<'_>) -> Result<Key, FormatError> {
    Key::parse(body.string()?).ok_or_else(|| MANIFEST.invalid("an object's key is no key"))
}
