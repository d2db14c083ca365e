//! Reads for whoever sends what is read on: what need not be looked at is lent, and leaves straight from the page cache.
//!
//! That a part of a segment's file is sound in memory is known ([`Sound`](super::sound::Sound)): this process has written it, or
//! read and verified it. Then only the headers are walked, to find where the answer starts and ends. Whatever is not as a walk
//! expects is left to the ordinary read, which looks at all of it and says what is wrong.
//!
//! Only what is below the high watermark may be lent, since no cut takes that away: what was lent lies in the file until it is sent.

use std::io;
use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{BatchHeader, LeaderEpochs, OffsetRange};
use aquifer_runtime::files::{File, Lent};
use bytes::Bytes;

use super::error::ReadError;
use super::handle::Log;
use super::metrics::Metrics;
use super::open_files::FileSlot;
use super::read::{AtLeast, Gathered, Place, Read, Slice, foreign_epoch, gather};

/// Smaller batches than this, on average, are cheaper read at once than walked one by one.
const BATCH_BYTES_MIN: u64 = 4 << 10;
/// How many batches a walk has passed before it judges their size.
const BATCHES_JUDGED: u64 = 8;

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

    /// The bytes, for whoever looks into them after all. May block.
    pub fn read(&self) -> io::Result<Bytes> {
        match self {
            Stored::Here(bytes) => Ok(bytes.clone()),
            Stored::Lent(lent) => lent.read().map(Bytes::from),
        }
    }
}

impl Log {
    /// As [`Log::read_in_memory`]; but what is known to be sound, and is long enough for it to pay, is lent. For what is below the
    /// high watermark.
    pub fn lend_in_memory(&self, read: Read) -> Result<Option<Slice<Stored>>, ReadError> {
        let shared = &self.shared;
        let least = shared.options.lend_bytes_min.get();
        if least == 0 || !shared.tells_cached {
            return Ok(self.read_in_memory(read)?.map(|slice| slice.map(Stored::Here)));
        }
        self.steadily(|| {
            self.try_read_in_memory(&read, |source, place, read, interval| {
                if let Some((lent, range)) = lend(source.file, place, read, least, interval, &shared.metrics)
                {
                    return Ok(Gathered::Batches(Stored::Lent(Arc::new(lent)), range));
                }
                gather(source, place, read, interval).map(|gathered| gathered.map(Stored::Here))
            })
        })
    }
}

/// The batches that answer a read, if they need not be looked at and are `least` bytes or more.
fn lend(
    file: &File,
    place: &Place,
    read: &Read,
    least: u64,
    interval: u64,
    metrics: &Metrics,
) -> Option<(Lent, OffsetRange)> {
    let [floor, ..] = &place.floors;
    let mut position = u64::from(floor.position);
    let mut next = place.base.plus(floor.relative.into());
    let sound = &place.slot.sound;
    let ceiling = sound.end_from(position)?.min(place.ceiling);
    let left = ceiling.saturating_sub(position);
    // The offset is at most an index interval and a batch behind the floor.
    let reach = read.bytes_max.get().saturating_add(interval).min(left);
    if read.bytes_max.get().min(left) < least || !sound.check(file, position, reach) {
        return None;
    }
    let checked = position + reach;
    let mut first = None;
    let mut batches = 0;
    loop {
        let mut head = [0; HEADER_BYTES];
        if position + HEADER_BYTES as u64 > ceiling {
            break;
        }
        if !file.read_exact_cached_at(position, &mut head).ok()? {
            return None;
        }
        let header = BatchHeader::parse(&head).ok()?;
        let end = position + header.size() as u64;
        if header.base_offset != next
            || header.next_offset() > place.end
            || header.leader_epoch != place.epochs.epoch_at(next)
        {
            return None;
        }
        if end > ceiling {
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
            if batches == BATCHES_JUDGED && end - start < batches * BATCH_BYTES_MIN {
                return None;
            }
        }
        (position, next) = (end, header.next_offset());
    }
    let (start, base) = first?;
    let (bytes, range) = (position - start, OffsetRange { base, next });
    // A first batch may reach beyond what was looked at.
    if bytes < least || position > checked && !sound.check(file, start, bytes) {
        return None;
    }
    metrics.lent_bytes.inc_by(bytes);
    let again = Again {
        file: file.clone(),
        slot: place.slot.clone(),
        position: start,
        bytes: usize::try_from(bytes).ok()?,
        range,
        epochs: place.epochs.slice(base, next),
        reread: metrics.lent_reread_bytes.clone(),
    };
    Some((Lent::new(file.clone(), start, again.bytes, move || again.read()), range))
}

/// What was lent, to be read after all.
struct Again {
    file: File,
    slot: Arc<FileSlot>,
    position: u64,
    bytes: usize,
    range: OffsetRange,
    epochs: LeaderEpochs,
    reread: aquifer_runtime::metrics::Counter,
}

impl Again {
    /// All of it, if it still is what it was.
    fn read(&self) -> io::Result<Vec<u8>> {
        self.slot.sound.withdraw();
        self.reread.inc_by(self.bytes as u64);
        let read = self.file.read_at(self.position, self.bytes)?;
        self.verify(&read).map_err(|what| {
            let path = self.slot.path().display();
            let what = format!("{path} at {}, which was to be sent: {what}", self.position);
            io::Error::new(io::ErrorKind::InvalidData, what)
        })?;
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
        if next != self.range.next || read.len() != self.bytes {
            return Err(format!("it ends at offset {next}, not at {}", self.range.next));
        }
        Ok(())
    }
}
