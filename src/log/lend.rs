//! Reads for whoever sends what is read on: what need not be looked at is lent, and leaves straight from the page cache.
//!
//! That a part of a segment's file is sound in memory is known ([`Sound`](aquifer_runtime::files::Sound)): this process has written
//! it, or read and verified it. Then only the headers are walked, to find where the answer starts and ends. Whatever is not as a walk
//! expects is left to the ordinary read, which looks at all of it and says what is wrong.
//!
//! Only what is below the high watermark may be lent, since no cut takes that away: what was lent lies in the file until it is sent.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::batches::Batches;
use aquifer_model::{BatchHeader, ByteCount, LeaderEpochs, OffsetRange};
use aquifer_runtime::files::{File, Lent};
use bytes::Bytes;

use super::error::{Corruption, ReadError};
use super::handle::Log;
use super::read::{AbortedTxns, AtLeast, Gathered, Place, Read, Slice, Waits, foreign_epoch, gather};

/// Smaller batches than this, on average, are cheaper read at once than walked one by one.
const BATCH_BYTES_MIN: u64 = 4 << 10;
/// What is read at a time, where it is verified and not kept: it stays in the processor's cache, and memory of its size is used again.
const PIECE_BYTES: ByteCount = ByteCount::kib(256);

/// Whole batches: read, or lent.
#[derive(Debug, Clone)]
pub enum Stored {
    /// In memory.
    Here(Bytes),
    /// In a file.
    Lent(Arc<Lent>),
}

impl From<Bytes> for Stored {
    fn from(bytes: Bytes) -> Stored {
        Stored::Here(bytes)
    }
}

impl Stored {
    /// How many bytes.
    pub fn len(&self) -> usize {
        match self {
            Stored::Here(bytes) => bytes.len(),
            Stored::Lent(lent) => lent.count(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Log {
    /// As [`Log::read_in_memory`]; but what is known to be sound, and is long enough for it to pay, is lent. For what is below the
    /// high watermark.
    pub fn lend_in_memory(self: &Arc<Self>, read: Read) -> Result<Option<Slice<Stored>>, ReadError> {
        let Some(least) = self.shared.lends else {
            return Ok(self.read_in_memory(read)?.map(|slice| slice.map(Stored::Here)));
        };
        self.steadily(|| {
            self.try_read(&read, Waits::Never, |source, place, read, interval| {
                if let Some((lent, range)) = self.lend_from(source.file, place, read, least.get(), interval) {
                    return Ok(Gathered::Batches(Stored::Lent(Arc::new(lent)), range));
                }
                gather(source, place, read, interval).map(|gathered| gathered.map(Stored::Here))
            })
        })
    }

    /// As [`Log::read`]; but what is long enough for it to pay is read and verified piece by piece, and then lent.
    pub fn lend(self: &Arc<Self>, read: Read) -> Result<Slice<Stored>, ReadError> {
        if self.shared.lends.is_some_and(|least| read.bytes_max >= least) {
            self.verify(&read);
            if let Some(slice) = self.lend_in_memory(read)? {
                return Ok(slice);
            }
        }
        Ok(self.read(read)?.map(Stored::Here))
    }

    /// Looks at what a read would give, as far as it is sound. Whoever reads it then is told of the rest.
    fn verify(&self, read: &Read) {
        let mut piece = Read { at_least: AtLeast::OneBatch, aborted: AbortedTxns::Skip, ..*read };
        let mut left = read.bytes_max;
        while left > ByteCount::ZERO {
            piece.bytes_max = PIECE_BYTES.min(left);
            let Ok(Slice { bytes, range, .. }) = self.read(piece) else { return };
            let length = bytes.len() as u64;
            if length == 0 || length < Batches::new(&bytes).count() as u64 * BATCH_BYTES_MIN {
                return;
            }
            left = left.saturating_sub(ByteCount(length));
            piece.from = range.next;
        }
    }

    /// The batches that answer a read, if they need not be looked at and are `least` bytes or more.
    fn lend_from(
        self: &Arc<Self>,
        file: &File,
        place: &Place,
        read: &Read,
        least: u64,
        interval: u64,
    ) -> Option<(Lent, OffsetRange)> {
        let [floor, ..] = &place.floors;
        let mut position = u64::from(floor.position);
        let mut next = place.base.plus(floor.relative.into());
        let ceiling = file.sound()?.end_from(position)?.min(place.ceiling);
        // The offset is at most an index interval and a batch behind the floor.
        let left = ceiling.saturating_sub(position);
        let reach = read.bytes_max.get().saturating_add(interval).min(left);
        if read.bytes_max.get().min(left) < least || !file.is_cached(position, reach).ok()? {
            return None;
        }
        let mut first = None;
        let mut batches = 0;
        while position + HEADER_BYTES as u64 <= ceiling {
            let mut head = [0; HEADER_BYTES];
            if !file.read_exact_known_at(position, &mut head).ok()? {
                return None;
            }
            let header = BatchHeader::parse(&head).ok()?;
            let end = position + header.size() as u64;
            let continues = header.base_offset == next
                && header.next_offset() <= place.end
                && header.leader_epoch == place.epochs.epoch_at(next);
            if !continues || end > ceiling {
                break;
            }
            if header.next_offset() > read.from {
                let (start, _) = *first.get_or_insert((position, next));
                let fits = end - start <= read.bytes_max.get()
                    || start == position && read.at_least == AtLeast::OneBatch;
                if !fits || header.next_offset() > read.until {
                    break;
                }
                batches += 1;
                if batches > 1 && end - start < batches * BATCH_BYTES_MIN {
                    return None;
                }
            }
            (position, next) = (end, header.next_offset());
        }
        let (start, base) = first?;
        let (bytes, range) = (position - start, OffsetRange { base, next });
        if bytes < least {
            return None;
        }
        let count = usize::try_from(bytes).ok()?;
        let again = Again {
            departures: self.departures.load(Ordering::Acquire),
            log: self.clone(),
            file: file.clone(),
            position: start,
            count,
            range,
            epochs: place.epochs.slice(base, next),
        };
        // Whether it is sound and in memory still is asked again, and only then counts, as it is sent.
        let lent = Lent::new(file.clone(), start, count, move || again.read());
        self.shared.metrics.lent_bytes.inc_by(bytes);
        Some((lent, range))
    }
}

/// What was lent, to be read after all.
struct Again {
    log: Arc<Log>,
    /// Of the log, when it was lent: once something has left it, this may have.
    departures: u64,
    file: File,
    position: u64,
    count: usize,
    range: OffsetRange,
    epochs: LeaderEpochs,
}

impl Again {
    /// All of it, if it still is what it was.
    fn read(&self) -> io::Result<Vec<u8>> {
        self.log.shared.metrics.lent_reread_bytes.inc_by(self.count as u64);
        let (read, look) = self.file.read_and_look(self.position, self.count)?;
        if let Err(what) = self.verify(&read) {
            let (file, position) = (self.file.path().to_owned(), self.position);
            let corruption = Corruption { file, position, what };
            if self.log.departures.load(Ordering::Acquire) == self.departures {
                self.log.note_damage(&corruption);
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, corruption.to_string()));
        }
        look.verified(self.position..self.position + self.count as u64);
        Ok(read)
    }

    fn verify(&self, read: &[u8]) -> Result<(), String> {
        let mut next = self.range.base;
        let mut left = read;
        while !left.is_empty() {
            let header = BatchHeader::parse(left).map_err(|error| error.to_string())?;
            header.verify(left).map_err(|error| error.to_string())?;
            if header.base_offset != next {
                return Err(format!("a batch of offset {} where {next} belongs", header.base_offset));
            }
            let known = self.epochs.epoch_at(next);
            if header.leader_epoch != known {
                return Err(foreign_epoch(&header, known));
            }
            (left, next) = (&left[header.size()..], header.next_offset());
        }
        if next != self.range.next || read.len() != self.count {
            return Err(format!("it ends at offset {next}, not at {}", self.range.next));
        }
        Ok(())
    }
}
