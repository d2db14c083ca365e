//! One file's bytes: as processes see them, as the device holds them, and the writes between.

use std::collections::BTreeMap;
use std::io::IoSlice;

use rand::RngExt as _;
use rand::rngs::StdRng;

use super::SECTOR_BYTES;

/// A file's bytes.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
}

#[derive(Debug, Clone)]
enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Resize(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write { at, bytes } => write(to, *at, bytes),
            Change::Resize(size) => to.resize(*size, 0),
        }
    }
}

fn write(to: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    let end = at + bytes.len();
    if to.len() < end {
        to.resize(end, 0);
    }
    to[at..end].copy_from_slice(bytes);
}

impl Content {
    pub(super) fn size(&self) -> u64 {
        self.seen.len() as u64
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn write(&mut self, at: usize, slices: &[IoSlice<'_>]) {
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        self.change(Change::Write { at, bytes });
    }

    pub(super) fn resize(&mut self, size: usize) {
        self.change(Change::Resize(size));
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// A sync that failed: the pages count as clean from now on, and never reach the device.
    pub(super) fn drop_dirty(&mut self) {
        self.unsynced.clear();
    }

    /// What is clean is read from the device again; what is dirty is as it was.
    pub(super) fn forget_clean(&mut self) {
        let size = self.seen.len();
        self.seen.clone_from(&self.durable);
        for change in &self.unsynced {
            change.apply(&mut self.seen);
        }
        // The length is no page.
        self.seen.resize(size, 0);
    }

    /// A sync during which the power went.
    pub(super) fn sync_some(&mut self, rng: &mut StdRng) {
        let before = std::mem::take(&mut self.unsynced);
        keep(&mut self.durable, &before, rng);
    }

    /// Leaves what the device holds and, by the seed, some of what was on its way there. Gives how many changes are lost.
    pub(super) fn cut(&mut self, rng: &mut StdRng) -> u64 {
        let unsynced = std::mem::take(&mut self.unsynced);
        let kept = keep(&mut self.durable, &unsynced, rng);
        self.seen.clone_from(&self.durable);
        (unsynced.len() - kept) as u64
    }
}

/// Applies some of the changes; gives how many are whole.
fn keep(durable: &mut Vec<u8>, changes: &[Change], rng: &mut StdRng) -> usize {
    if changes.is_empty() {
        return 0;
    }
    match rng.random_range(0..4) {
        0 => 0,
        // As they were made, up to somewhere within one of them.
        1 | 2 => {
            let kept = rng.random_range(0..=changes.len());
            for change in &changes[..kept] {
                change.apply(durable);
            }
            if let Some(Change::Write { at, bytes }) = changes.get(kept) {
                // The device writes sectors, so what is torn ends where one does.
                let sectors = at / SECTOR_BYTES + rng.random_range(0..=bytes.len() / SECTOR_BYTES);
                let torn = (sectors * SECTOR_BYTES).saturating_sub(*at).min(bytes.len());
                write(durable, *at, &bytes[..torn]);
            }
            kept
        }
        // In any order: some pages were written back early, some late, others not.
        _ => scatter(durable, changes, rng),
    }
}

/// Does, sector by sector, a beginning of the changes: a sector goes to the device as it is at some time. Gives how many changes
/// are whole.
fn scatter(durable: &mut Vec<u8>, changes: &[Change], rng: &mut StdRng) -> usize {
    let mut upto: BTreeMap<usize, usize> = BTreeMap::new();
    let mut kept = 0;
    for (number, change) in changes.iter().enumerate() {
        let Change::Write { at, bytes } = change else {
            change.apply(durable);
            kept += 1;
            continue;
        };
        let (mut from, mut whole) = (0, true);
        while from < bytes.len() {
            let sector = (at + from) / SECTOR_BYTES;
            let to = ((sector + 1) * SECTOR_BYTES - at).min(bytes.len());
            let upto = *upto.entry(sector).or_insert_with(|| match rng.random_range(0..4) {
                0 | 1 => 0,
                2 => changes.len(),
                _ => rng.random_range(0..=changes.len()),
            });
            if number < upto {
                write(durable, at + from, &bytes[from..to]);
            } else {
                whole = false;
            }
            from = to;
        }
        kept += usize::from(whole);
    }
    kept
}
