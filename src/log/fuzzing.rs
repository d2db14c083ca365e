//! What fuzz targets do with the files of a log, and what they start from.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::fuzzing::resealed;
use aquifer_model::{Offset, PartitionIndex, TopicId, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::Registry;
use uuid::Uuid;

use super::checkpoint::{Checkpoint, DirectoryFile, PartitionFile, Snapshot, decode_boot, encode_boot};
use super::config::{LogConfig, LogDirOptions};
use super::damage::PageCache;
use super::health::Health;
use super::index;
use super::journal::{self, replay};
use super::layout;
use super::metrics::Metrics;
use super::recovery::recover;
use super::shared::{Before, Past, Shared};
use super::state::Condition;

/// Golden small files, in hexadecimal.
pub(crate) const FILES: &[&str] = &[
    include_str!("golden/boot.hex"),
    include_str!("golden/checkpoint.hex"),
    include_str!("golden/checkpoint_discard.hex"),
    include_str!("golden/checkpoint_journal.hex"),
    include_str!("golden/format.hex"),
    include_str!("golden/format_journal.hex"),
    include_str!("golden/partition.hex"),
    include_str!("golden/snapshot.hex"),
];
/// A golden chunk of an index file, in hexadecimal.
pub(crate) const INDEX_CHUNK: &str = include_str!("golden/index_chunk.hex");

/// A small file: what is read, written and read again is the same.
pub(crate) fn file(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), resealed(bytes)].into_iter().flatten() {
        if let Ok(format) = DirectoryFile::decode(&bytes) {
            assert_eq!(DirectoryFile::decode(&format.encode()), Ok(format));
        }
        if let Ok(boot) = decode_boot(&bytes) {
            assert_eq!(decode_boot(&encode_boot(&boot)), Ok(boot));
        }
        if let Ok(file) = PartitionFile::decode(&bytes) {
            assert_eq!(PartitionFile::decode(&file.encode()), Ok(file));
        }
        if let Ok(checkpoint) = Checkpoint::decode(&bytes) {
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
        if let Ok(snapshot) = Snapshot::decode(&bytes) {
            assert_eq!(Snapshot::decode(&snapshot.encode()), Ok(snapshot));
        }
    }
}

/// An index file: what is taken of it is at its start, and is the same when only that is there.
pub(crate) fn index(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), resealed(bytes)].into_iter().flatten() {
        let Ok(loaded) = index::load(&bytes, Offset::ZERO, u64::MAX) else { continue };
        let taken = &bytes[..usize::try_from(loaded.file_bytes).expect("no more than there was")];
        assert_eq!(index::load(taken, Offset::ZERO, u64::MAX), Ok(loaded));
    }
}

/// The files of a partition: the first byte says which are there, the next four how long the segment and its index are, what
/// is left is the checkpoint. Recovery ends; what it leaves is found again to end at the same offset.
pub(crate) fn recovery(bytes: &[u8]) {
    let [present, a, b, c, d, files @ ..] = bytes else { return };
    let length = |high: &u8, low: &u8| usize::from(u16::from_be_bytes([*high, *low]));
    let (segment, rest) = files.split_at(length(a, b).min(files.len()));
    let (index, checkpoint) = rest.split_at(length(c, d).min(rest.len()));
    let home = Home::new();
    home.write(layout::LOG, segment, true);
    home.write(layout::INDEX, index, present & 1 == 1);
    home.write(layout::CHECKPOINT, checkpoint, present & 2 == 2);
    let pages = if present & 4 == 4 { PageCache::PerhapsLost } else { PageCache::Kept };
    let first = home.recover(pages);
    let again = home.recover(pages);
    assert_eq!(first.is_some(), again.is_some(), "what could be opened can be opened again");
    if let (Some(first), Some(again)) = (first, again) {
        assert_eq!(first, again, "the end and whether the log is sound");
    }
}

/// The journal of a directory: whatever lies in it, it is dealt with once.
pub(crate) fn journal(bytes: &[u8]) {
    let sound = journal::fuzzing::sound(bytes);
    for bytes in [Some(bytes.to_vec()), sound].into_iter().flatten() {
        let home = Home::new();
        let path = home.path.join(layout::JOURNAL).join(layout::JOURNAL_FILES[0]);
        home.world
            .disk
            .create_dir_all(&home.path.join(layout::JOURNAL))
            .expect("a temporary folder can be made");
        home.put(&path, &bytes);
        let (health, options) = (home.health(), LogDirOptions::default());
        let replay =
            || replay(&home.world, &home.path, true, false, PageCache::PerhapsLost, &options, &health);
        if replay().is_ok() {
            let put = replay().expect("what could be read can be read again");
            assert!(put.journal.is_none(), "one of another size is not used on");
        }
    }
}

/// Inputs for that which come far.
pub(crate) fn journal_seeds() -> Vec<Vec<u8>> {
    journal::fuzzing::envelopes(partition())
}

fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::new(Uuid::from_u128(1)), partition: PartitionIndex(0) }
}

/// A folder that is gone when it is dropped.
struct Home {
    world: World,
    path: PathBuf,
}

impl Home {
    fn new() -> Home {
        let world = World::system();
        let name = format!("aquifer-fuzz-{}-{:?}", std::process::id(), std::thread::current().id());
        let home = Home { world, path: std::env::temp_dir().join(name) };
        for folder in [home.partition(), home.path.join(layout::QUARANTINE)] {
            home.world.disk.create_dir_all(&folder).expect("a temporary folder can be made");
        }
        home
    }

    fn partition(&self) -> PathBuf {
        self.path.join(layout::TOPICS).join("orders").join(partition().to_string())
    }

    fn write(&self, what: &str, bytes: &[u8], is_there: bool) {
        let folder = self.partition();
        let path = match what {
            layout::CHECKPOINT => folder.join(layout::CHECKPOINT),
            extension => layout::segment_file(&folder, Offset::ZERO, extension),
        };
        if is_there {
            let sealed = if what == layout::LOG { None } else { resealed(bytes) };
            let bytes = sealed.unwrap_or_else(|| bytes.to_vec());
            self.put(&path, &bytes);
        }
    }

    fn health(&self) -> Health {
        Health::new(&self.world.disk, &self.path, Default::default())
    }

    fn put(&self, path: &Path, bytes: &[u8]) {
        let file = self.world.disk.open_or_create(path).expect("a file can be made");
        let mut slices = [std::io::IoSlice::new(bytes)];
        file.write_all_at(0, &mut slices).expect("a file can be written");
    }

    /// The log's end and whether it is sound, if it can be opened.
    fn recover(&self, pages: PageCache) -> Option<(Offset, bool)> {
        let metrics = Metrics::register(&mut Registry::default());
        let past = Past { before: Before::Killed, pages, journal_is_damaged: false };
        let options = LogDirOptions::default();
        let health = Arc::new(self.health());
        let shared = Shared::new(&self.world, &self.path, options, metrics, past, health, None);
        let found = recover(&shared, &self.partition(), partition(), &LogConfig::default(), None).ok()?;
        Some((found.tail.end, matches!(found.condition, Condition::Open)))
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.world.disk.remove_dir_all(&self.path).expect("a temporary folder can be removed");
    }
}
