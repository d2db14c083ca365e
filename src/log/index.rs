//! A segment's indexes: built as batches are appended, kept in a file beside the segment, cached when the segment is closed.
//!
//! Offset index, time index and aborted transactions live in one `.index` file, written in *chunks*: each chunk is an envelope
//! of its own and adds the entries for the batches since the one before. A checkpoint first appends a chunk up to its own
//! position, so that a restart loads the chunks and walks only what lies behind. A chunk that a crash cut short fails its
//! checksum and is cut off; the batches behind the last good one are walked again. What the file says is a function of the
//! batches in order, and of nothing else: a file that is lost is made anew from the segment.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use aquifer_model::format::{Format, FormatError, Reader, Tags, Writer};
use aquifer_model::offset_index::OffsetEntry;
use aquifer_model::time_index::TimeEntry;
use aquifer_model::{AbortedTxn, BatchHeader, ByteCount, Offset, ProducerId, Timestamp};
use aquifer_runtime::planted::{self, Planted};
use parking_lot::Mutex;

const FORMAT: Format = Format { name: "segment index", magic: *b"AQIX", version: 1 };

/// The indexes of one segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    pub(crate) offsets: Vec<OffsetEntry>,
    pub(crate) times: Vec<TimeEntry>,
    pub(crate) aborted: Vec<AbortedTxn>,
}

impl Index {
    fn weight(&self) -> u64 {
        let entries = self.offsets.len() * size_of::<OffsetEntry>()
            + self.times.len() * size_of::<TimeEntry>()
            + self.aborted.len() * size_of::<AbortedTxn>();
        (entries + size_of::<Index>()) as u64
    }
}

/// What the next entry depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Running {
    /// Bytes since the last entry.
    pub(crate) unindexed: u64,
    /// Newest timestamp so far, [`Timestamp::NONE`] if there is none.
    pub(crate) timestamp_max: Timestamp,
    /// The batch that brought it, relative to the segment's base.
    pub(crate) timestamp_max_at: u32,
    /// Timestamp of the first batch, for rolling by time.
    pub(crate) timestamp_first: Option<Timestamp>,
    /// When the first batch came, by the broker's clock.
    pub(crate) since: Option<Timestamp>,
}

impl Running {
    const START: Running = Running {
        unindexed: 0,
        timestamp_max: Timestamp::NONE,
        timestamp_max_at: 0,
        timestamp_first: None,
        since: None,
    };
}

/// The indexes of a segment that still grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IndexBuilder {
    pub(crate) index: Index,
    pub(crate) running: Running,
}

impl IndexBuilder {
    pub(crate) fn new() -> IndexBuilder {
        IndexBuilder { index: Index::default(), running: Running::START }
    }

    /// Takes note of a batch at `position`, `relative` to the segment's base.
    pub(crate) fn note(
        &mut self,
        header: &BatchHeader,
        relative: u32,
        position: u32,
        interval: ByteCount,
        now: Timestamp,
    ) {
        let running = &mut self.running;
        if running.since.is_none() {
            running.since = Some(now);
            running.timestamp_first = Some(header.max_timestamp()).filter(|first| *first != Timestamp::NONE);
        }
        if header.max_timestamp() > running.timestamp_max {
            running.timestamp_max = header.max_timestamp();
            running.timestamp_max_at = relative;
        }
        if running.unindexed > interval.get() {
            running.unindexed = 0;
            self.index.offsets.push(OffsetEntry { relative, position });
            self.note_time();
        }
        self.running.unindexed += header.size() as u64;
    }

    /// The last entry of a closed segment tells its newest timestamp.
    pub(crate) fn note_time(&mut self) {
        let Running { timestamp_max: timestamp, timestamp_max_at: relative, .. } = self.running;
        let rises = self.index.times.last().is_none_or(|last| last.timestamp < timestamp);
        if timestamp != Timestamp::NONE && rises {
            self.index.times.push(TimeEntry { timestamp, relative });
        }
    }

    /// Whether a further entry would outgrow `bytes_max` in either index.
    pub(crate) fn is_full(&self, bytes_max: ByteCount) -> bool {
        let most = (self.index.offsets.len() * aquifer_model::offset_index::ENTRY_BYTES)
            .max(self.index.times.len() * aquifer_model::time_index::ENTRY_BYTES);
        (most + aquifer_model::time_index::ENTRY_BYTES) as u64 > bytes_max.get()
    }

    /// Where the file and this stand together.
    pub(crate) fn mark(&self, position: u64, next: Offset) -> IndexMark {
        IndexMark {
            position,
            next,
            offsets: self.index.offsets.len(),
            times: self.index.times.len(),
            aborted: self.index.aborted.len(),
            running: self.running,
        }
    }

    /// The chunk that adds to a file at `from` what lies up to `to`.
    pub(crate) fn chunk(&self, from: &IndexMark, to: &IndexMark) -> Vec<u8> {
        let mut writer = Writer::new();
        writer.u64(to.position);
        writer.i64(to.next.get());
        writer.u64(to.running.unindexed);
        writer.i64(to.running.timestamp_max.0);
        writer.u32(to.running.timestamp_max_at);
        writer.option(to.running.timestamp_first, |writer, timestamp| writer.i64(timestamp.0));
        writer.option(to.running.since, |writer, timestamp| writer.i64(timestamp.0));
        writer.list(&self.index.offsets[from.offsets..to.offsets], |writer, entry| {
            writer.u32(entry.relative);
            writer.u32(entry.position);
        });
        writer.list(&self.index.times[from.times..to.times], |writer, entry| {
            writer.i64(entry.timestamp.0);
            writer.u32(entry.relative);
        });
        writer.list(&self.index.aborted[from.aborted..to.aborted], |writer, entry| {
            writer.i64(entry.producer.0);
            writer.i64(entry.first.get());
            writer.i64(entry.last.get());
            writer.i64(entry.stable.get());
        });
        writer.tags(&Tags::default());
        FORMAT.seal(&writer.finish())
    }
}

/// How much of a segment an index covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexMark {
    /// All batches before this position, in bytes.
    pub(crate) position: u64,
    /// All records before this offset.
    pub(crate) next: Offset,
    offsets: usize,
    times: usize,
    aborted: usize,
    running: Running,
}

impl IndexMark {
    /// Of an empty segment at `base`.
    pub(crate) fn start(base: Offset) -> IndexMark {
        IndexMark { position: 0, next: base, offsets: 0, times: 0, aborted: 0, running: Running::START }
    }
}

/// How much of a segment's index is in its file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WrittenIndex {
    pub(crate) base: Offset,
    pub(crate) mark: IndexMark,
    pub(crate) bytes: u64,
}

impl WrittenIndex {
    pub(crate) fn none(base: Offset) -> WrittenIndex {
        WrittenIndex { base, mark: IndexMark::start(base), bytes: 0 }
    }
}

/// What an index file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) builder: IndexBuilder,
    pub(crate) mark: IndexMark,
    /// Length of the chunks taken; the file is cut here before more is added.
    pub(crate) file_bytes: u64,
}

/// Reads the chunks of a file, of a segment at `base`, as far as they are sound and cover no more than `position_max`.
pub(crate) fn load(bytes: &[u8], base: Offset, position_max: u64) -> Result<Loaded, FormatError> {
    let mut loaded = Loaded { builder: IndexBuilder::new(), mark: IndexMark::start(base), file_bytes: 0 };
    let mut left = bytes;
    while !left.is_empty() {
        let body = match FORMAT.open(left) {
            Ok((_, body)) => body,
            Err(FormatError::Checksum { .. }) if planted::is(Planted::IndexTrusted) => {
                let length = u32::from_be_bytes([left[8], left[9], left[10], left[11]]);
                &left[aquifer_model::format::ENVELOPE_BYTES..][..length as usize]
            }
            // A newer program's chunk must not be taken for damage and written anew.
            Err(error @ FormatError::Version { .. }) => return Err(error),
            Err(_) => break,
        };
        let size = aquifer_model::format::ENVELOPE_BYTES + body.len();
        match loaded.extend(body, position_max) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error @ FormatError::RequiredField { .. }) => return Err(error),
            Err(_) => break,
        }
        loaded.file_bytes += size as u64;
        left = &left[size..];
    }
    Ok(loaded)
}

impl Loaded {
    /// Adds a chunk; `false` if it covers too much.
    fn extend(&mut self, body: &[u8], position_max: u64) -> Result<bool, FormatError> {
        let mut reader = FORMAT.reader(body);
        let position = reader.u64()?;
        let next = offset(&mut reader)?;
        if position > position_max {
            return Ok(false);
        }
        let running = Running {
            unindexed: reader.u64()?,
            timestamp_max: Timestamp(reader.i64()?),
            timestamp_max_at: reader.u32()?,
            timestamp_first: reader.option(|reader| reader.i64().map(Timestamp))?,
            since: reader.option(|reader| reader.i64().map(Timestamp))?,
        };
        let offsets =
            reader.list(8, |reader| Ok(OffsetEntry { relative: reader.u32()?, position: reader.u32()? }))?;
        let times = reader.list(12, |reader| {
            Ok(TimeEntry { timestamp: Timestamp(reader.i64()?), relative: reader.u32()? })
        })?;
        let aborted = reader.list(32, |reader| {
            Ok(AbortedTxn {
                producer: ProducerId(reader.i64()?),
                first: offset(reader)?,
                last: offset(reader)?,
                stable: offset(reader)?,
            })
        })?;
        reader.tags(&[])?;
        reader.end()?;
        let index = &mut self.builder.index;
        let rises = position >= self.mark.position
            && next >= self.mark.next
            && rising(index.offsets.last(), &offsets, |a, b| {
                a.relative < b.relative && a.position < b.position
            })
            && rising(index.times.last(), &times, |a, b| {
                a.timestamp < b.timestamp && a.relative < b.relative
            })
            && offsets.last().is_none_or(|last| u64::from(last.position) < position);
        if !rises {
            return Err(FORMAT.invalid("entries are out of order"));
        }
        index.offsets.extend(offsets);
        index.times.extend(times);
        index.aborted.extend(aborted);
        self.builder.running = running;
        self.mark = self.builder.mark(position, next);
        Ok(true)
    }
}

fn rising<T>(before: Option<&T>, entries: &[T], less: impl Fn(&T, &T) -> bool) -> bool {
    let joins = before.zip(entries.first()).is_none_or(|(before, first)| less(before, first));
    joins && entries.windows(2).all(|pair| less(&pair[0], &pair[1]))
}

fn offset(reader: &mut Reader<'_>) -> Result<Offset, FormatError> {
    Offset::new(reader.i64()?).ok_or(FORMAT.invalid("an offset is negative"))
}

/// Indexes of closed segments, as many as fit; the longest unused go first.
#[derive(Debug)]
pub(crate) struct IndexCache {
    bytes_max: u64,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    by_segment: HashMap<u64, (Arc<Index>, u64)>,
    by_use: BTreeMap<u64, u64>,
    bytes: u64,
    uses: u64,
}

impl IndexCache {
    pub(crate) fn new(bytes_max: ByteCount) -> IndexCache {
        IndexCache { bytes_max: bytes_max.get(), held: Mutex::new(Held::default()) }
    }

    /// By the segment's number, which is unique in the process.
    pub(crate) fn get(&self, segment: u64) -> Option<Arc<Index>> {
        let mut guard = self.held.lock();
        let held = &mut *guard;
        let (index, used) = held.by_segment.get_mut(&segment)?;
        held.by_use.remove(used);
        held.uses += 1;
        *used = held.uses;
        held.by_use.insert(held.uses, segment);
        Some(index.clone())
    }

    pub(crate) fn insert(&self, segment: u64, index: Arc<Index>) {
        let mut guard = self.held.lock();
        let held = &mut *guard;
        held.remove(segment);
        held.uses += 1;
        held.bytes += index.weight();
        held.by_segment.insert(segment, (index, held.uses));
        held.by_use.insert(held.uses, segment);
        while held.bytes > self.bytes_max
            && held.by_segment.len() > 1
            && let Some((_, coldest)) = held.by_use.first_key_value()
        {
            let coldest = *coldest;
            held.remove(coldest);
        }
    }

    pub(crate) fn remove(&self, segment: u64) {
        self.held.lock().remove(segment);
    }
}

impl Held {
    fn remove(&mut self, segment: u64) {
        if let Some((index, used)) = self.by_segment.remove(&segment) {
            self.bytes -= index.weight();
            self.by_use.remove(&used);
        }
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::golden_chunk;
