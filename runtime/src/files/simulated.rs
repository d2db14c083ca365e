//! A disk in memory that loses what was not synced.
//!
//! Of each file it knows what processes see and what the device holds; between the two lie the writes that no sync has covered
//! yet. Names are the same: a folder's changes reach the device with [`SimDisk::sync_dir`]. A power cut leaves what was synced and, by
//! the seed, some of the rest: a beginning of the writes, or any sectors of them, and a beginning of each folder's changes.
//!
//! Failures as real ones: a sync that fails has dropped the pages, so that the next one succeeds without them while reads
//! still show them; a full disk refuses; a device may stop for good at any one operation, before it, after it, or within.
//!
//! Deterministic: the same seed and the same calls leave the same bytes.

/// The calls, as the host's disk has them.
mod disk;
/// One file's bytes.
mod content;
/// Names.
mod names;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::ByteCount;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

use content::Content;
use names::{Names, Node};

pub use disk::{SimFile, SimLock};

/// The least that a device writes as one.
const SECTOR_BYTES: usize = 512;
/// What Linux tells apart the runs of a machine by.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A disk. Cheap to clone; clones are the same disk.
#[derive(Debug, Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

/// Names a file whatever it is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Inode(u64);

#[derive(Debug)]
struct State {
    rng: StdRng,
    names: Names,
    contents: BTreeMap<Inode, Content>,
    inodes: u64,
    locks: BTreeSet<PathBuf>,
    capacity: u64,
    /// Raised by each end of the processes that use it: what they had open is of no use any more.
    life: u64,
    /// Raised by each power cut.
    boots: u64,
    power: Power,
    faults: Faults,
    counts: Counts,
}

/// Whether the device still does anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// It goes at this operation.
    Until(u64, Moment),
    Off,
}

/// When, within an operation, the power goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moment {
    /// Nothing of it happened.
    Before,
    /// It happened, and nobody was told.
    After,
    /// Some of it happened.
    Within,
}

/// Failures that wait for the next call of their kind.
#[derive(Debug, Clone, Copy, Default)]
struct Faults {
    write: bool,
    sync: bool,
}

/// What a disk was asked for and what went wrong, so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Operations that change something or make it durable.
    pub operations: u64,
    /// Syncs, of files and folders.
    pub syncs: u64,
    /// Calls that failed on purpose, and those refused for want of room.
    pub failures: u64,
    /// Power cuts.
    pub cuts: u64,
    /// Writes and changes of names that power cuts undid.
    pub undone: u64,
}

impl SimDisk {
    /// An empty one of this size. All its choices come from the seed.
    pub fn new(seed: u64, capacity: ByteCount) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            rng: StdRng::seed_from_u64(seed),
            names: Names::default(),
            contents: BTreeMap::new(),
            inodes: 0,
            locks: BTreeSet::new(),
            capacity: capacity.get(),
            life: 0,
            boots: 1,
            power: Power::On,
            faults: Faults::default(),
            counts: Counts::default(),
        })))
    }

    /// A disk of its own with the same on it: what someone gets who copies a running machine's disk.
    pub fn duplicate(&self) -> SimDisk {
        let mut state = self.0.lock();
        let copy = SimDisk::new(state.rng.next_u64(), ByteCount(state.capacity));
        {
            let mut copied = copy.0.lock();
            copied.names = state.names.clone();
            copied.contents = state.contents.clone();
            copied.inodes = state.inodes;
            // Another machine.
            copied.boots = state.boots + 1_000;
        }
        copy
    }

    /// So far.
    pub fn counts(&self) -> Counts {
        self.0.lock().counts
    }

    /// The next write fails, half done, as on a broken device.
    pub fn fail_write(&self) {
        self.0.lock().faults.write = true;
    }

    /// The next sync fails and drops what it should have written; those after it succeed and know nothing of it.
    pub fn fail_sync(&self) {
        self.0.lock().faults.sync = true;
    }

    /// Changes the size of the device.
    pub fn resize(&self, capacity: ByteCount) {
        self.0.lock().capacity = capacity.get();
    }

    /// Bytes in files.
    pub fn used(&self) -> ByteCount {
        ByteCount(self.0.lock().used())
    }

    /// The power goes at the operation of this number, counted as [`Counts::operations`] from 1.
    pub fn stop_at(&self, operation: u64, moment: Moment) {
        self.0.lock().power = Power::Until(operation, moment);
    }

    /// Whether it has stopped.
    pub fn is_off(&self) -> bool {
        self.0.lock().power == Power::Off
    }

    /// The processes that used it are gone, and nothing is done until [`SimDisk::power_on`]; what they wrote is as they left it.
    pub fn end_processes(&self) {
        let mut state = self.0.lock();
        state.life += 1;
        state.locks.clear();
        state.power = Power::Off;
    }

    /// The power goes: what was not synced is lost, or some of it. Nothing is done until [`SimDisk::power_on`].
    pub fn power_cut(&self) {
        self.end_processes();
        let mut state = self.0.lock();
        state.boots += 1;
        state.counts.cuts += 1;
        let State { rng, names, contents, counts, .. } = &mut *state;
        counts.undone += names.cut(rng);
        let kept: BTreeSet<Inode> = names.now().filter_map(Node::inode).collect();
        contents.retain(|inode, _| kept.contains(inode));
        for content in contents.values_mut() {
            counts.undone += content.cut(rng);
        }
    }

    /// The machine is on again.
    pub fn power_on(&self) {
        self.0.lock().power = Power::On;
    }

    /// No failure waits any more.
    pub fn heal(&self) {
        self.0.lock().faults = Faults::default();
    }

    /// A hash over all names and bytes that the device holds.
    pub fn fingerprint(&self) -> u64 {
        use std::hash::{Hash as _, Hasher as _};
        let state = self.0.lock();
        // Its keys are fixed, unlike a HashMap's.
        let mut hasher = std::hash::DefaultHasher::default();
        for (path, node) in state.names.durable() {
            path.hash(&mut hasher);
            if let Some(content) = node.inode().and_then(|inode| state.contents.get(&inode)) {
                content.durable().hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// What becomes of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Whole,
    /// Done as far as that goes, and then the power is off.
    Last(Moment),
}

impl Fate {
    /// What the caller hears of it, if it hears anything.
    fn told(self) -> io::Result<()> {
        match self {
            Fate::Whole => Ok(()),
            Fate::Last(_) => Err(off()),
        }
    }
}

impl State {
    /// Counts an operation and says how far it gets.
    fn begin(&mut self) -> io::Result<Fate> {
        self.counts.operations += 1;
        match self.power {
            Power::Off => Err(off()),
            Power::Until(number, moment) if self.counts.operations >= number => {
                self.power = Power::Off;
                Ok(Fate::Last(moment))
            }
            Power::Until(..) | Power::On => Ok(Fate::Whole),
        }
    }

    /// Whether a look at the device is answered.
    fn look(&self) -> io::Result<()> {
        if self.power == Power::Off { Err(off()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        let inodes = self.names.now().filter_map(Node::inode);
        inodes.filter_map(|inode| self.contents.get(&inode)).map(Content::size).sum()
    }

    fn room(&self) -> u64 {
        self.capacity.saturating_sub(self.used())
    }

    fn make_file(&mut self, path: &Path) {
        self.inodes += 1;
        let inode = Inode(self.inodes);
        self.contents.insert(inode, Content::default());
        self.names.put(path, Node::File(inode));
    }

    fn boot_id(&self) -> Vec<u8> {
        format!("00000000-0000-4000-8000-{:012}\n", self.boots).into_bytes()
    }
}

fn off() -> io::Error {
    io::Error::other("the device has lost power")
}

fn broken() -> io::Error {
    rustix::io::Errno::IO.into()
}
