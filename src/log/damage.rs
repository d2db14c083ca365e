//! Is it a torn tail, or corruption? Decided where recovery meets bytes that are no sound batch. Pure, over a source of bytes.
//!
//! A crash can only lose what was never written back, and none of that was acknowledged. What was written back and acknowledged
//! must never be cut off. The two are told apart by what follows and by what is there:
//!
//! - Nothing valid follows: a torn tail. The last write was cut short, or the power went before it reached the device.
//! - Something valid follows, and the damage has *holes*: whole sectors, or the rest of the one in which the damaged batch starts,
//!   that read as zeros. That is what sectors look like that never reached the device while later ones did, as happens to a large
//!   write that a power cut interrupts. One sync covers a whole file, so nothing behind a hole was acknowledged either: a torn tail.
//! - Something valid follows, and the damage has no holes: bytes were changed after they were written. Corruption.
//!
//! Where neither machine nor mount are others since the bytes were written, the page cache has lost nothing and there are no holes: zeros
//! are then what a producer sent, or damage. A write that a kill interrupts ends early; a batch that is there at its full length
//! was written, and if it is not sound it was changed since.

use std::io;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{BatchHeader, LeaderEpoch, Offset};

/// How far behind the damage something valid is searched for: as much as may lie behind a checkpoint.
pub(crate) const SEARCH_BYTES_MAX: u64 = 64 << 20;
/// The least that a device writes as one.
const SECTOR_BYTES: u64 = 512;
/// Fewer zeros than this, where a batch starts or the file ends within a sector, say nothing: a small offset starts with zeros too.
/// More cannot start a batch, since its length lies in them.
const HOLE_BYTES_MIN: usize = 12;
/// Bytes looked at in one go.
const WINDOW_BYTES: usize = 1 << 20;

/// What damage is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Damage {
    /// Never acknowledged; is cut off.
    Torn,
    /// Perhaps acknowledged; stays, and stops the log.
    Corrupt,
}

/// Whether bytes that were written but not synced may have been lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PageCache {
    /// The machine may have restarted since, or the file system have been mounted anew.
    PerhapsLost,
    /// Only the process has.
    Kept,
}

/// What a sound batch behind the damage must continue.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lineage {
    /// The log's end before the damage.
    pub(crate) end: Offset,
    /// Its newest epoch.
    pub(crate) epoch: Option<LeaderEpoch>,
}

/// The bytes from the damage to the end of its segment.
pub(crate) trait Source {
    /// Up to `count` bytes at `position`; fewer only at the end.
    fn bytes(&mut self, position: u64, count: usize) -> io::Result<Vec<u8>>;
}

/// Judges damage at `position` of a segment of `size` bytes. `followed` says whether a later segment goes on with sound batches.
pub(crate) fn judge(
    source: &mut impl Source,
    position: u64,
    size: u64,
    lineage: Lineage,
    followed: bool,
    pages: PageCache,
) -> io::Result<Damage> {
    if pages == PageCache::Kept && is_whole(source, position, size)? {
        return Ok(Damage::Corrupt);
    }
    let end = size.min(position + SEARCH_BYTES_MAX);
    let (follower, looked_to) = match find_follower(source, position, end, lineage)? {
        Some(follower) => (true, follower),
        None => (followed, end),
    };
    let torn = !follower || (pages == PageCache::PerhapsLost && has_hole(source, position, looked_to, size)?);
    if torn { Ok(Damage::Torn) } else { Ok(Damage::Corrupt) }
}

/// Whether the whole batch at `position` is the one of offset `end` but for its first bytes, which read as zeros up to the end of
/// their sector: one that never reached the device, though all that came behind it did. Base offset and length lie in these bytes
/// and are under no checksum, and a length's first bytes are zeros anyway, so that the rest makes a sound batch of another place.
pub(crate) fn has_lost_its_start(source: &mut impl Source, position: u64, end: Offset) -> io::Result<bool> {
    let lost = (SECTOR_BYTES - position % SECTOR_BYTES) as usize;
    if lost >= HOLE_BYTES_MIN {
        return Ok(false);
    }
    let start = source.bytes(position, HOLE_BYTES_MIN)?;
    let (Some(zeros), Some(base)) = (start.get(..lost), start.get(..size_of::<i64>())) else {
        return Ok(false);
    };
    let mut written = end.get().to_be_bytes();
    let of_base = lost.min(written.len());
    written[..of_base].fill(0);
    Ok(zeros.iter().all(|byte| *byte == 0) && *base == written)
}

/// Whether the batch at `position` is there at the length that its header says.
fn is_whole(source: &mut impl Source, position: u64, size: u64) -> io::Result<bool> {
    let head = source.bytes(position, HEADER_BYTES)?;
    Ok(BatchHeader::parse(&head).is_ok_and(|header| position + header.size() as u64 <= size))
}

/// Where the next sound batch starts.
fn find_follower(
    source: &mut impl Source,
    position: u64,
    end: u64,
    lineage: Lineage,
) -> io::Result<Option<u64>> {
    let mut at = position + 1;
    while at < end {
        let window = source.bytes(at, WINDOW_BYTES + HEADER_BYTES)?;
        let starts = window.len().saturating_sub(HEADER_BYTES - 1).min(WINDOW_BYTES);
        for start in 0..starts {
            // The magic is the cheapest thing to look at.
            if window[start + 16] != 2 {
                continue;
            }
            let Ok(header) = BatchHeader::parse(&window[start..]) else { continue };
            let found = at + start as u64;
            if continues(&header, lineage) && found + header.size() as u64 <= end {
                let batch = source.bytes(found, header.size())?;
                if header.verify(&batch).is_ok() {
                    return Ok(Some(found));
                }
            }
        }
        if starts == 0 {
            break;
        }
        at += starts as u64;
    }
    Ok(None)
}

fn continues(header: &BatchHeader, lineage: Lineage) -> bool {
    header.base_offset > lineage.end && header.leader_epoch.is_some() && header.leader_epoch >= lineage.epoch
}

/// Whether some of `[from, to)` reads as if it had never been written. `size` is where the file ends.
fn has_hole(source: &mut impl Source, from: u64, to: u64, size: u64) -> io::Result<bool> {
    let mut at = from;
    while at < to {
        let window = source.bytes(at, WINDOW_BYTES)?;
        let window = &window[..window.len().min((to - at) as usize)];
        let mut start = 0;
        while start < window.len() {
            let position = at + start as u64;
            let sector_end = (position / SECTOR_BYTES + 1) * SECTOR_BYTES;
            let end = window.len().min(start + (sector_end - position) as usize);
            // A sector that holds the start of something sound has been written.
            let is_own = at + end as u64 == sector_end || at + end as u64 == size;
            let sector = &window[start..end];
            if is_own && sector.len() >= HOLE_BYTES_MIN && sector.iter().all(|byte| *byte == 0) {
                return Ok(true);
            }
            start = end;
        }
        if window.is_empty() {
            break;
        }
        at += window.len() as u64;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use aquifer_model::Timestamp;
    use aquifer_model::builder::BatchBuilder;
    use aquifer_model::compression::Compression;

    use super::*;

    impl Source for Vec<u8> {
        fn bytes(&mut self, position: u64, count: usize) -> io::Result<Vec<u8>> {
            let from = (position as usize).min(self.len());
            Ok(self[from..(from + count).min(self.len())].to_vec())
        }
    }

    fn batch(offset: i64, value: usize) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        builder.push(Timestamp(1), None, Some(&vec![7; value]), &[]);
        let bytes = builder.finish(Compression::None).unwrap();
        let mut header = BatchHeader::parse(&bytes).unwrap();
        header.place(Offset::new(offset).unwrap(), LeaderEpoch::new(3).unwrap());
        [&header.to_bytes()[..], &bytes[HEADER_BYTES..]].concat()
    }

    #[track_caller]
    fn check(mut bytes: Vec<u8>, position: u64, followed: bool, expected: Damage) {
        let lineage = Lineage { end: Offset::ZERO, epoch: LeaderEpoch::new(3) };
        let size = bytes.len() as u64;
        let mut judge = |pages| judge(&mut bytes, position, size, lineage, followed, pages).unwrap();
        assert_eq!(judge(PageCache::PerhapsLost), expected);
        // Without a restart of the machine no zeros excuse anything.
        if expected == Damage::Corrupt {
            assert_eq!(judge(PageCache::Kept), Damage::Corrupt);
        }
    }

    #[test]
    fn what_nothing_follows_is_torn_and_changed_bytes_before_sound_ones_are_corruption() {
        let (first, second) = (batch(0, 10_000), batch(1, 100));
        // A kill costs the end of a write, never its middle.
        let kept = |mut bytes: Vec<u8>| {
            let lineage = Lineage { end: Offset::ZERO, epoch: LeaderEpoch::new(3) };
            let size = bytes.len() as u64;
            judge(&mut bytes, 0, size, lineage, false, PageCache::Kept).unwrap()
        };
        let mut changed = first.clone();
        changed[500] ^= 1;
        assert_eq!(kept(changed.clone()), Damage::Corrupt);
        assert_eq!(kept(changed[..9_000].to_vec()), Damage::Torn);
        let flipped = |at: usize| {
            let mut bytes = [first.clone(), second.clone()].concat();
            bytes[at] ^= 1;
            bytes
        };
        for at in [0, 8, 11, 16, 17, 30, 61, 500, 9_000] {
            check(flipped(at), 0, false, Damage::Corrupt);
            check(flipped(at)[..first.len()].to_vec(), 0, false, Damage::Torn);
            check(flipped(at)[..first.len()].to_vec(), 0, true, Damage::Corrupt);
        }
        check(first[..5_000].to_vec(), 0, false, Damage::Torn);
        check(vec![0; 5_000], 0, true, Damage::Torn);
        // An older leader's batch, or one of an offset that was there before, continues nothing.
        let mut old = batch(1, 10);
        old[12..16].copy_from_slice(&2i32.to_be_bytes());
        check([flipped(500)[..first.len()].to_vec(), old].concat(), 0, false, Damage::Torn);
        check([flipped(500)[..first.len()].to_vec(), batch(0, 10)].concat(), 0, false, Damage::Torn);
    }

    #[test]
    fn a_batch_that_lost_a_few_bytes_at_the_end_of_a_sector_is_told_from_one_of_another_place() {
        let offset = Offset::new(0x0102_0304).unwrap();
        for before in 0..20 {
            let position = 512 - before;
            let mut bytes = [vec![9; position], batch(offset.get(), 1_000)].concat();
            let judge = |bytes: &mut Vec<u8>| has_lost_its_start(bytes, position as u64, offset).unwrap();
            // Where only zeros were lost it is what it was; the walk has nothing to ask then.
            bytes[position..512].fill(0);
            assert_eq!(
                judge(&mut bytes),
                (1..12).contains(&before),
                "{before} bytes before the end of a sector"
            );
            let last = position + 7;
            bytes[last] ^= 0x40;
            assert!(!judge(&mut bytes), "{before}: another offset");
        }
        let mut short = vec![0; 508 + 6];
        assert!(!has_lost_its_start(&mut short, 508, offset).unwrap());
    }

    #[test]
    fn pages_that_never_reached_the_device_make_a_torn_tail_whatever_follows() {
        let lead = batch(0, 3_000);
        let position = lead.len();
        let damaged = batch(0, 10_000);
        let whole = [lead, damaged, batch(1, 100)].concat();
        for hole in [position..4096, position..3584, 4096..8192, 7680..8192, 4096..12_288] {
            let mut bytes = whole.clone();
            bytes[hole].fill(0);
            check(bytes.clone(), position as u64, false, Damage::Torn);
            let lineage = Lineage { end: Offset::ZERO, epoch: LeaderEpoch::new(3) };
            let size = bytes.len() as u64;
            let kept = judge(&mut bytes, position as u64, size, lineage, false, PageCache::Kept).unwrap();
            assert_eq!(kept, Damage::Corrupt);
        }
        for change in [position + 20..4000, 4100..4600, 7700..8192, 8150..8192] {
            let mut bytes = whole.clone();
            bytes[change].fill(0);
            check(bytes, position as u64, false, Damage::Corrupt);
        }
    }
}
