//! Reads: whole batches from an offset on.
//!
//! The lock is held only to find the segment and a position not behind the offset; then one read into one buffer, whose batches
//! are walked by their headers to find where the answer starts and ends. What is given was verified on its way from the file, or is
//! known to be what was verified before ([`Sound`](aquifer_runtime::files::Sound)): that each batch's checksum
//! is right, that its offset continues the one before, and that its leader epoch, which the checksum does not cover, is the one
//! that the log knows. Sound batches before a damaged one are given; a read that begins at it is an error. Where compaction has
//! been, a batch may leave out offsets behind the one before: a read from within such a gap gives the next batch there is, of
//! whichever segment. There the order of offsets alone says that a batch lies where it belongs, so one behind a gap is given only
//! if the next goes on behind it, and none that reaches beyond its segment.
//!
//! A read of a page that is not in memory waits for the device. [`Log::read_in_memory`] does not, and says so; whoever serves asks
//! it first, and reads away from the threads that serve if it must.
//!
//! A segment may be removed, or cut, while it is read. The file stays readable for as long as it is held; whether the bytes
//! still are the log's is decided afterwards, and if they may not be, the read starts anew.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::offset_index::{self, OffsetEntry};
use aquifer_model::{AbortedTxn, BatchHeader, ByteCount, LeaderEpoch, LeaderEpochs, Offset, OffsetRange};
use aquifer_runtime::files::{File, Look};
use aquifer_runtime::planted::{self, Planted};
use bytes::Bytes;

use super::error::{Corruption, ReadError};
use super::gaps::Gaps;
use super::handle::Log;
use super::index::Index;
use super::open_files::FileSlot;
use super::segment::Sealed;
use super::state::Condition;

/// How often a read starts anew because segments left while it ran. Each time they must have left again.
const ATTEMPTS_MAX: u32 = 8;

/// What lies closer to the end than this is in the page cache for readers, and is to stay.
const TAIL_BYTES: ByteCount = ByteCount::mib(64);

/// What is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Read {
    /// The batch that holds this offset is the first.
    pub from: Offset,
    /// No batch that reaches to or beyond this is given: the high watermark, the last stable offset, or the log's end.
    pub until: Offset,
    /// The most that is given.
    pub bytes_max: ByteCount,
    /// Whether that may be passed for the first batch.
    pub at_least: AtLeast,
    /// Whether aborted transactions are asked for.
    pub aborted: AbortedTxns,
}

/// Whether a first batch that is larger than the limit is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtLeast {
    /// The limit holds.
    Nothing,
    /// It is (KIP-74), so that a consumer cannot be stuck before a large batch.
    OneBatch,
}

/// Whether aborted transactions are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AbortedTxns {
    /// No.
    Skip,
    /// Those that overlap what is given.
    Include,
}

/// Whole batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slice<B = Bytes> {
    /// One behind the other, as stored.
    pub bytes: B,
    /// What they cover; the first may start before the offset asked for, or, behind a gap that compaction has left, after it.
    /// Empty at that offset if there are none.
    pub range: OffsetRange,
    /// Those that overlap `range`, if asked for.
    pub aborted: Vec<AbortedTxn>,
}

impl<B> Slice<B> {
    /// The same batches in another form.
    pub fn map<C>(self, change: impl FnOnce(B) -> C) -> Slice<C> {
        Slice { bytes: change(self.bytes), range: self.range, aborted: self.aborted }
    }
}

/// Where to look.
pub(super) struct Place {
    pub(super) slot: Arc<FileSlot>,
    pub(super) base: Offset,
    /// A batch starts at each of these, with this offset, if the index is right; the offset asked for is not before them. The
    /// last two are for when it is not, or the batch at the first is damaged: the entry before, and the segment's start.
    pub(super) floors: [OffsetEntry; 3],
    /// All batches below `until` end here or before.
    pub(super) ceiling: u64,
    /// Who led while the segment was written.
    pub(super) epochs: LeaderEpochs,
    gaps: Gaps,
    /// No batch reaches beyond this: where the segment ends.
    pub(super) end: Offset,
    rest: Rest,
}

/// What lies behind the last of the batches that may be looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Rest {
    /// Others, of this segment, which may not be given.
    Others,
    /// The log's end.
    Nothing,
    /// Another segment.
    Segment,
}

/// What a segment holds of an answer.
pub(super) enum Gathered<B = Bytes> {
    Batches(B, OffsetRange),
    /// The device would have to be waited for.
    NotInMemory,
    /// Not what may be given.
    Nothing,
    /// No batch from the offset on: compaction has emptied the rest of the segment, and the answer starts in the next.
    Beyond(Offset),
}

impl<B> Gathered<B> {
    pub(super) fn map<C>(self, change: impl FnOnce(B) -> C) -> Gathered<C> {
        match self {
            Gathered::Batches(batches, range) => Gathered::Batches(change(batches), range),
            Gathered::NotInMemory => Gathered::NotInMemory,
            Gathered::Nothing => Gathered::Nothing,
            Gathered::Beyond(next) => Gathered::Beyond(next),
        }
    }
}

/// Whether a read may wait for the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waits {
    IfItMust,
    Never,
}

/// A segment's file, as far as it may be waited for.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub(super) file: &'a File,
    path: &'a Path,
    waits: Waits,
    /// Whether what is known to be sound is not verified again.
    trusts: bool,
}

/// Part of a file.
struct Window {
    bytes: Bytes,
    look: Look,
}

impl Source<'_> {
    /// So many bytes, fewer at the end of the file; `None` if the device would have to be waited for.
    fn read_at(self, position: u64, count: usize) -> Result<Option<Window>, ReadError> {
        let read = match self.waits {
            Waits::IfItMust => self.file.read_and_look(position, count).map(Some),
            Waits::Never => match self.file.read_cached_and_look(position, count) {
                // A log may lie on another file system than its directory, by a link.
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(None),
                read => read,
            },
        };
        let read = read.map_err(|error| ReadError::of_read(self.path, position, error))?;
        Ok(read.map(|(bytes, look)| Window { bytes: bytes.into(), look }))
    }
}

enum Found {
    Empty,
    Tail(Place),
    Sealed(Arc<Sealed>, LeaderEpochs, Gaps),
}

impl Log {
    /// Whole batches from one segment; ask again from where they end for more. From the end itself on there is nothing, which
    /// is no error.
    pub fn read(&self, read: Read) -> Result<Slice, ReadError> {
        let slice = self.steadily(|| self.try_read(&read, Waits::IfItMust, gather))?;
        Ok(slice.expect("whoever may wait for the device is given what it has"))
    }

    /// The same without a wait for the device: `None` if not all of it is in memory. Where that cannot be told, what lies near the
    /// log's end is taken for it.
    pub fn read_in_memory(&self, read: Read) -> Result<Option<Slice>, ReadError> {
        if self.shared.tells_cached {
            self.steadily(|| self.try_read(&read, Waits::Never, gather))
        } else if self.is_far_behind(read.from) {
            Ok(None)
        } else {
            self.read(read).map(Some)
        }
    }

    /// Runs `attempt` again if it failed while bytes left the log, or succeeded over bytes that did.
    pub(super) fn steadily<T>(&self, attempt: impl Fn() -> Result<T, ReadError>) -> Result<T, ReadError> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            let departures = self.departures.load(Ordering::Acquire);
            let outcome = attempt();
            if self.departures.load(Ordering::Acquire) == departures || attempts == ATTEMPTS_MAX {
                if let Err(ReadError::Corrupt(corruption)) = &outcome {
                    self.note_damage(corruption);
                }
                return outcome;
            }
        }
    }

    /// Once, with whatever `gather` makes of each segment.
    pub(super) fn try_read<B: From<Bytes>>(
        &self,
        read: &Read,
        waits: Waits,
        gather: impl Fn(Source<'_>, &Place, &Read, u64) -> Result<Gathered<B>, ReadError>,
    ) -> Result<Option<Slice<B>>, ReadError> {
        let nothing = Slice {
            bytes: B::from(Bytes::new()),
            range: OffsetRange { base: read.from, next: read.from },
            aborted: Vec::new(),
        };
        let interval = self.config().index_interval_bytes.get();
        let mut read = *read;
        let (bytes, range) = loop {
            let place = match self.find(read.from, read.until)? {
                Found::Empty => return Ok(Some(nothing)),
                Found::Tail(place) => place,
                Found::Sealed(sealed, epochs, gaps) => {
                    match self.place_in(&sealed, epochs, gaps, &read, waits)? {
                        Some(place) => place,
                        None => return Ok(None),
                    }
                }
            };
            let file = match waits {
                Waits::IfItMust => self.file(&place.slot)?,
                Waits::Never => match place.slot.opened() {
                    Some(file) => file,
                    None => return Ok(None),
                },
            };
            let trusts = self.shared.lends.is_some();
            let source = Source { file: &file, path: place.slot.path(), waits, trusts };
            match gather(source, &place, &read, interval)? {
                Gathered::Batches(bytes, range) => break (bytes, range),
                Gathered::NotInMemory => return Ok(None),
                Gathered::Nothing => return Ok(Some(nothing)),
                // Rises with each segment, so there is an end to it.
                Gathered::Beyond(next) => read.from = next,
            }
        };
        let aborted = match read.aborted {
            AbortedTxns::Skip => Vec::new(),
            AbortedTxns::Include if waits == Waits::Never => match self.aborted_in_memory(range)? {
                Some(aborted) => aborted,
                None => return Ok(None),
            },
            AbortedTxns::Include => self.aborted(range)?,
        };
        Ok(Some(Slice { bytes, range, aborted }))
    }

    /// The open file of a segment; that there is none is damage.
    pub(super) fn file(&self, slot: &Arc<FileSlot>) -> Result<File, ReadError> {
        let path = slot.path();
        self.shared.files.get(slot).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => damaged(path, 0, "the file is missing"),
            _ => ReadError::io(path, error),
        })
    }

    fn find(&self, from: Offset, until: Offset) -> Result<Found, ReadError> {
        let state = self.state.lock();
        if state.condition == Condition::Closed {
            return Err(ReadError::Closed);
        }
        if from < state.local_start {
            return Err(ReadError::BelowLocalStart { local_start: state.local_start });
        }
        let tail = &state.tail;
        if from > tail.end {
            return Err(ReadError::BeyondEnd { end: tail.end });
        }
        if from >= until || from == tail.end {
            return Ok(Found::Empty);
        }
        let gaps = state.compacted.gaps();
        if from < tail.base {
            return match state.sealed_at(from) {
                Some(sealed) => {
                    let OffsetRange { base, next } = sealed.facts.range;
                    Ok(Found::Sealed(sealed.clone(), tail.epochs.slice(base, next), gaps))
                }
                None => Err(ReadError::BelowLocalStart { local_start: state.local_start }),
            };
        }
        let entries = &tail.builder.index.offsets;
        let ceiling = offset_index::ceiling(entries, tail.base, until).map_or(tail.bytes, u64::from);
        Ok(Found::Tail(Place {
            slot: state.active.clone(),
            base: tail.base,
            floors: floors(entries, tail.base, from),
            ceiling,
            epochs: tail.epochs.slice(tail.base, tail.end),
            gaps,
            end: tail.end,
            rest: if ceiling == tail.bytes { Rest::Nothing } else { Rest::Others },
        }))
    }

    fn place_in(
        &self,
        sealed: &Sealed,
        epochs: LeaderEpochs,
        gaps: Gaps,
        read: &Read,
        waits: Waits,
    ) -> Result<Option<Place>, ReadError> {
        let OffsetRange { base, next } = sealed.facts.range;
        let bytes = sealed.facts.bytes.get();
        let show = |index: &Index| {
            let ceiling = offset_index::ceiling(&index.offsets, base, read.until).map_or(bytes, u64::from);
            Place {
                slot: sealed.log.clone(),
                base,
                floors: floors(&index.offsets, base, read.from),
                ceiling,
                epochs,
                gaps,
                end: next,
                rest: if ceiling == bytes { Rest::Segment } else { Rest::Others },
            }
        };
        match waits {
            Waits::IfItMust => self.with_index(sealed, show).map(Some),
            Waits::Never => Ok(self.with_loaded_index(sealed, show).ok()),
        }
    }

    /// About how many bytes lie between `from` and the log's end. Touches no file.
    pub(super) fn bytes_behind_tail(&self, from: Offset) -> ByteCount {
        self.bytes_from(from, Offset::MAX)
    }

    /// Whether what ends, or begins, at an offset is of no interest to those who read the log's end: it need not stay in the page cache.
    pub(super) fn is_far_behind(&self, next: Offset) -> bool {
        self.bytes_behind_tail(next) > TAIL_BYTES
    }

    /// About how many bytes lie in `[from, until)`; within a closed segment, and between index entries, in proportion to the
    /// offsets. Touches no file.
    pub fn bytes_from(&self, from: Offset, until: Offset) -> ByteCount {
        let state = self.state.lock();
        let tail = &state.tail;
        let until = until.min(tail.end);
        if from >= until {
            return ByteCount::ZERO;
        }
        let mut bytes = 0;
        if until > tail.base {
            let entries = &tail.builder.index.offsets;
            let to = offset_index::ceiling(entries, tail.base, until).map_or(tail.bytes, u64::from);
            let floor =
                if from <= tail.base { 0 } else { offset_index::floor(entries, tail.base, from).into() };
            bytes += to.saturating_sub(floor);
        }
        let first = state.sealed.partition_point(|sealed| sealed.facts.range.next <= from);
        for sealed in state.sealed.range(first..).take_while(|sealed| sealed.facts.range.base < until) {
            let range = sealed.facts.range;
            let part = range.next.min(until).since(range.base.max(from));
            let share =
                u128::from(sealed.facts.bytes.get()) * u128::from(part) / u128::from(range.count().max(1));
            bytes += share as u64;
        }
        ByteCount(bytes)
    }
}

fn floors(entries: &[OffsetEntry], base: Offset, from: Offset) -> [OffsetEntry; 3] {
    let start = OffsetEntry { relative: 0, position: 0 };
    let floor = offset_index::floor_entry(entries, base, from);
    let before = match floor.relative.checked_sub(1) {
        Some(relative) => offset_index::floor_entry(entries, base, base.plus(relative.into())),
        None => start,
    };
    [floor, before, start]
}

/// The batches that answer a read, from a file.
pub(super) fn gather(
    source: Source<'_>,
    place: &Place,
    read: &Read,
    interval: u64,
) -> Result<Gathered, ReadError> {
    let path = source.path;
    let [floor, others @ ..] = &place.floors;
    let mut others = others.iter();
    let begin = |floor: &OffsetEntry| {
        let (position, expected) = (u64::from(floor.position), place.base.plus(floor.relative.into()));
        // Whether what is expected is the index's word, rather than where the batch before ends.
        (position, expected, position > 0)
    };
    let (mut position, mut expected, mut by_index) = begin(floor);
    // The offset is at most an index interval and a batch behind the floor.
    let wanted = read.bytes_max.get().saturating_add(interval).max(HEADER_BYTES as u64);
    'walk: loop {
        let count = wanted.min(place.ceiling.saturating_sub(position));
        let Some(window) = source.read_at(position, usize::try_from(count).unwrap_or(usize::MAX))? else {
            return Ok(Gathered::NotInMemory);
        };
        let buffer = &window.bytes;
        let cut_short = (buffer.len() as u64) < count;
        let mut at = 0;
        loop {
            let header = header_at(buffer, at, path, position, place.ceiling);
            // The index names the very batch that lies there.
            let gaps = if by_index { Gaps::NEVER } else { place.gaps };
            let is_expected = match &header {
                Ok(header) => header.is_none_or(|header| {
                    gaps.allow(expected, header.base_offset) && header.next_offset() <= place.end
                }),
                Err(_) => false,
            };
            if by_index
                && !is_expected
                && !planted::is(Planted::IndexTrusted)
                && let Some(before) = others.next()
            {
                // An index is a hint: one that leads astray costs a longer walk, never a record.
                tracing::debug!(path = %path.display(), offset = %read.from, "an index entry leads to something else than it says");
                (position, expected, by_index) = begin(before);
                continue 'walk;
            }
            let Some(header) = header? else { break };
            if !by_index && !is_expected {
                let what =
                    format!("a batch of offset {} does not continue the one before", header.base_offset);
                return Err(damaged(path, position + at as u64, &what));
            }
            if header.next_offset() > read.from {
                let is_behind_gap = header.base_offset > expected;
                let first = First { position: position + at as u64, at, header, is_behind_gap };
                return take(source, place, read, window, first);
            }
            (expected, by_index) = (header.next_offset(), false);
            at += header.size();
        }
        if cut_short && buffer.len().saturating_sub(at) < HEADER_BYTES {
            return Err(damaged(path, position + buffer.len() as u64, "the file ends early"));
        }
        position += at as u64;
        if position >= place.ceiling {
            let gap_end = if place.rest == Rest::Others { read.from.next() } else { place.end };
            if !place.gaps.allow(expected, gap_end) {
                let what = format!("no batch holds offset {}", read.from);
                return Err(damaged(path, position, &what));
            }
            return Ok(match place.rest {
                Rest::Others | Rest::Nothing => Gathered::Nothing,
                Rest::Segment => Gathered::Beyond(place.end),
            });
        }
        // The rest of the buffer was no whole header: go on from there, or past a batch larger than the buffer.
    }
}

struct First {
    /// In the file.
    position: u64,
    /// In the buffer.
    at: usize,
    header: BatchHeader,
    is_behind_gap: bool,
}

/// From the first batch of the answer on, as much as may be given.
fn take(
    source: Source<'_>,
    place: &Place,
    read: &Read,
    window: Window,
    first: First,
) -> Result<Gathered, ReadError> {
    let path = source.path;
    let base = first.header.base_offset;
    let bytes_max = usize::try_from(read.bytes_max.get()).unwrap_or(usize::MAX);
    let size = first.header.size();
    if size > bytes_max && read.at_least == AtLeast::Nothing {
        return Ok(Gathered::Nothing);
    }
    let (Window { bytes: buffer, look }, at) = if first.at + size <= window.bytes.len() {
        (window, first.at)
    } else {
        // Its look is over: of two at a time neither would know what it has seen.
        drop(window);
        let left = usize::try_from(place.ceiling - first.position).unwrap_or(usize::MAX);
        let Some(again) = source.read_at(first.position, size.max(bytes_max).min(left))? else {
            return Ok(Gathered::NotInMemory);
        };
        (again, 0)
    };
    if buffer.len() < at + size {
        return Err(damaged(path, first.position, "the file ends within a batch"));
    }
    let start = first.position - at as u64;
    // What was known to be sound before it was read, and still is, need not be looked at again.
    let known = if source.trusts { look.end_of_known(first.position) } else { None };
    let unsound = |header: &BatchHeader, at: usize| {
        let is_known = known.is_some_and(|end| start + (at + header.size()) as u64 <= end);
        unsound(header, &buffer[at..], place, is_known)
    };
    if let Some(what) = unsound(&first.header, at) {
        return Err(damaged(path, first.position, &what));
    }
    if first.is_behind_gap {
        let position = first.position + size as u64;
        let head = match buffer.get(at + size..at + size + HEADER_BYTES) {
            Some(head) => head.to_vec(),
            None => {
                let count = HEADER_BYTES.min(place.ceiling.saturating_sub(position) as usize);
                let Some(head) = source.read_at(position, count)? else { return Ok(Gathered::NotInMemory) };
                head.bytes.to_vec()
            }
        };
        if goes_back(&head, &first.header) {
            let what = format!("a batch of offset {base} is followed by an earlier one");
            return Err(damaged(path, first.position, &what));
        }
    }
    // Not before it is known to be true: a reader must not wait for ever for what a damaged header says.
    if first.header.next_offset() > read.until {
        return Ok(Gathered::Nothing);
    }
    let mut next = first.header.next_offset();
    let mut to = at + size;
    // What follows is taken as far as it is sound: a read that begins at the damage is the one to be told.
    while let Ok(Some(header)) = header_at(&buffer, to, path, start, place.ceiling) {
        let end = to + header.size();
        if end > buffer.len() || end - at > bytes_max || header.next_offset() > read.until {
            break;
        }
        if !place.gaps.allow(next, header.base_offset)
            || header.next_offset() > place.end
            || unsound(&header, to).is_some()
        {
            break;
        }
        // Where that cannot be seen here, the read that begins with it looks further.
        let is_last = start + end as u64 >= place.ceiling;
        if header.base_offset > next
            && !is_last
            && buffer.get(end..end + HEADER_BYTES).is_none_or(|head| goes_back(head, &header))
        {
            break;
        }
        next = header.next_offset();
        to = end;
    }
    look.verified(first.position..start + to as u64);
    Ok(Gathered::Batches(buffer.slice(at..to), OffsetRange { base, next }))
}

/// Whether what follows a batch starts before its end: one of the two is not what its header says. What is no batch at all is told
/// by whoever comes to it.
fn goes_back(following: &[u8], batch: &BatchHeader) -> bool {
    BatchHeader::parse(following).is_ok_and(|following| following.base_offset < batch.next_offset())
}

/// What is wrong with a batch, at the start of `bytes`, that its header alone does not show. Of one that is known to be sound only its
/// epoch may be.
fn unsound(header: &BatchHeader, bytes: &[u8], place: &Place, is_known: bool) -> Option<String> {
    if !is_known && let Err(error) = header.verify(bytes) {
        return Some(error.to_string());
    }
    let known = place.epochs.epoch_at(header.base_offset);
    (header.leader_epoch != known).then(|| foreign_epoch(header, known))
}

/// Says that a batch is of another leader than the log knows.
pub(super) fn foreign_epoch(header: &BatchHeader, known: Option<LeaderEpoch>) -> String {
    let number = |epoch: Option<LeaderEpoch>| epoch.map_or(-1, LeaderEpoch::get);
    let (found, known) = (number(header.leader_epoch), number(known));
    format!("a batch of offset {} has leader epoch {found}, the log knows {known}", header.base_offset)
}

/// The header at `at`, if all of it is in the buffer.
fn header_at(
    buffer: &[u8],
    at: usize,
    path: &Path,
    start: u64,
    file_end: u64,
) -> Result<Option<BatchHeader>, ReadError> {
    let position = start + at as u64;
    let Some(bytes) = buffer.get(at..at.saturating_add(HEADER_BYTES)) else {
        if at < buffer.len() && position + HEADER_BYTES as u64 > file_end {
            return Err(damaged(path, position, "the file ends within a batch header"));
        }
        return Ok(None);
    };
    let header = BatchHeader::parse(bytes).map_err(|error| damaged(path, position, &error.to_string()))?;
    if position + header.size() as u64 > file_end {
        return Err(damaged(path, position, "a batch reaches beyond the end of its segment"));
    }
    Ok(Some(header))
}

pub(super) fn damaged(path: &Path, position: u64, what: &str) -> ReadError {
    Corruption { file: path.to_owned(), position, what: what.to_owned() }.into()
}
