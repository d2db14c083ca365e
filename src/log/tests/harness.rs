//! A data directory that can be stopped, killed and damaged.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::batch::{BatchProducer, HEADER_BYTES};
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{
    BatchHeader, ByteCount, LeaderEpoch, Offset, PartitionIndex, ProducerEpoch, ProducerId, Timestamp,
    TopicId, TopicName, TopicPartition,
};
use aquifer_runtime::World;
use aquifer_runtime::files::{Disk, Faults};
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::TaskGroup;
use bytes::Bytes;
use uuid::Uuid;

use super::super::*;

/// How long anything may take before a test gives up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

pub(super) struct House {
    runtime: tokio::runtime::Runtime,
    pub(super) folder: tempfile::TempDir,
    pub(super) faults: Faults,
    pub(super) options: LogDirOptions,
    pub(super) config: LogConfig,
    open: Option<(Arc<LogDir>, TaskGroup)>,
}

impl House {
    /// Small segments, frequent index entries and checkpoints: many of everything from few bytes. No journal.
    pub(super) fn new() -> House {
        House {
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            folder: tempfile::tempdir().unwrap(),
            faults: Faults::default(),
            options: LogDirOptions {
                checkpoint_bytes: ByteCount::kib(2),
                recovery_bytes: ByteCount::ZERO,
                sync_threads: 2,
                reserve_bytes: ByteCount::kib(4),
                // It mends what a test has damaged; see `House::journal`.
                journal_bytes: ByteCount::ZERO,
                closing_reread_bytes_max: ByteCount::ZERO,
                // Tests damage files behind the log's back, in the page cache, which no device does; see `lends.rs`.
                lend_bytes_min: ByteCount::ZERO,
                ..LogDirOptions::default()
            },
            config: LogConfig {
                segment_bytes: ByteCount::kib(8),
                index_interval_bytes: ByteCount(256),
                ..LogConfig::default()
            },
            open: None,
        }
    }

    /// From the next open on there is a journal, a small one, as soon as anybody waits.
    pub(super) fn journal(&mut self) {
        self.options.journal_bytes = ByteCount::kib(64);
        self.options.journal_logs_min = 1;
        self.options.journal_log_bytes_max = ByteCount::kib(8);
    }

    pub(super) fn try_open(&mut self) -> Result<Arc<LogDir>, OpenDirError> {
        let world = World { disk: Disk::failing(self.faults.clone()), ..World::system() };
        let tasks = TaskGroup::new();
        let _entered = self.runtime.enter();
        let mut registry = Registry::default();
        let dir = LogDir::open(&world, self.folder.path(), self.options.clone(), &tasks, &mut registry)?;
        self.open = Some((dir.clone(), tasks));
        Ok(dir)
    }

    pub(super) fn dir(&mut self) -> Arc<LogDir> {
        if let Some((dir, _)) = &self.open {
            return dir.clone();
        }
        self.try_open().unwrap()
    }

    pub(super) fn opened(&self) -> Arc<LogDir> {
        self.open.as_ref().expect("it is open").0.clone()
    }

    pub(super) fn wanted(&self, number: i32) -> Wanted {
        Wanted {
            partition: partition(number),
            topic: TopicName::new("orders").unwrap(),
            config: self.config.clone(),
        }
    }

    pub(super) fn try_log(&mut self) -> Result<Arc<Log>, OpenLogError> {
        let wanted = self.wanted(0);
        let mut opened = self.dir().open_many(vec![wanted]);
        opened.pop().expect("one was asked for").1
    }

    pub(super) fn log(&mut self) -> Arc<Log> {
        self.try_log().unwrap()
    }

    /// A stop without a word: nothing is synced or written any more.
    pub(super) fn kill(&mut self) {
        if let Some((_, tasks)) = self.open.take() {
            self.runtime.block_on(tasks.stop(PATIENCE)).unwrap();
            assert_eq!(tasks.failure(), None);
        }
    }

    /// A stop of the whole machine, after which pages may be missing.
    pub(super) fn cut_power(&mut self) {
        self.kill();
        let boot = self.folder.path().join(layout::BOOT);
        self.write_file(&boot, &checkpoint::encode_boot("another"));
    }

    /// A stop as it should be.
    pub(super) fn stop(&mut self) {
        self.dir().close().unwrap();
        self.kill();
    }

    pub(super) fn log_folder(&self) -> PathBuf {
        self.folder.path().join(layout::TOPICS).join("orders").join(partition(0).to_string())
    }

    pub(super) fn file(&self, base: i64, extension: &str) -> PathBuf {
        layout::segment_file(&self.log_folder(), offset(base), extension)
    }

    /// Bases of the segment files on disk.
    pub(super) fn bases(&self) -> Vec<i64> {
        let names = Disk::host().list(&self.log_folder()).unwrap();
        let bases = names.iter().filter_map(|entry| layout::parse_segment_file(&entry.name, layout::LOG));
        bases.map(Offset::get).collect()
    }

    pub(super) fn read_file(&self, path: &std::path::Path) -> Vec<u8> {
        Disk::host().read(path).unwrap()
    }

    pub(super) fn write_file(&self, path: &std::path::Path, bytes: &[u8]) {
        Disk::host().write_atomic(path, bytes).unwrap();
    }

    pub(super) fn remove_file(&self, path: &std::path::Path) {
        assert!(Disk::host().exists(path).unwrap(), "{} is there", path.display());
        Disk::host().remove(path).unwrap();
    }

    /// Waits until all appended is durable.
    pub(super) fn settle(&self, log: &Log) {
        log.flush();
        let (end, mut synced) = (log.end(), log.synced());
        self.runtime.block_on(async {
            let reached = synced.wait_for(|synced| *synced >= end);
            tokio::time::timeout(PATIENCE, reached).await.expect("the log is synced in time").unwrap();
        });
    }

    /// Runs until `done`, or fails.
    pub(super) fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let waited = self.runtime.block_on(async {
            let poll = async {
                while !done() {
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
            };
            tokio::time::timeout(PATIENCE, poll).await
        });
        assert!(waited.is_ok(), "{what} in time");
    }
}

impl Drop for House {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.kill();
        }
    }
}

pub(super) fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::new(Uuid::from_u128(77)), partition: PartitionIndex(number) }
}

pub(super) fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

pub(super) fn epoch(number: i32) -> LeaderEpoch {
    LeaderEpoch::new(number).unwrap()
}

/// A batch of `count` records with values of `size` bytes, all different from other batches' by `seed`.
pub(super) fn batch(seed: u64, count: usize, size: usize) -> Bytes {
    filled(BatchBuilder::new(), seed, count, size)
}

/// The same, from an idempotent producer.
pub(super) fn sequenced(producer: i64, sequence: i32, count: usize) -> Bytes {
    let producer =
        BatchProducer { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: sequence };
    filled(BatchBuilder::new().with_producer(producer), sequence as u64, count, 50)
}

fn filled(mut builder: BatchBuilder, seed: u64, count: usize, size: usize) -> Bytes {
    let now = World::system().clock.wall();
    for n in 0..count {
        let value: Vec<u8> =
            (0..size).map(|at| (seed.wrapping_mul(31) + n as u64 * 7 + at as u64) as u8 | 1).collect();
        builder.push(Timestamp(now.0 - 1000 + (seed % 500) as i64), Some(b"key"), Some(&value), &[]);
    }
    builder.finish(Compression::None).unwrap().into()
}

/// A batch whose records have these timestamps, counted from now.
pub(super) fn timed(timestamps: &[i64], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new();
    for timestamp in timestamps {
        builder.push(Timestamp(*timestamp), None, Some(&[7; 40]), &[]);
    }
    builder.finish(compression).unwrap().into()
}

pub(super) fn client(records: Bytes, leader: i32) -> Append {
    Append { records, epoch: epoch(leader), origin: Origin::Client }
}

#[track_caller]
pub(super) fn append(log: &Log, records: Bytes) -> Appended {
    log.append(client(records, 0)).unwrap()
}

/// `sent` as it is stored.
pub(super) fn placed(sent: &[u8], base: i64, leader: i32) -> Vec<u8> {
    let mut header = BatchHeader::parse(sent).unwrap();
    header.place(offset(base), epoch(leader));
    [&header.to_bytes()[..], &sent[HEADER_BYTES..]].concat()
}

pub(super) fn read_from(from: i64) -> Read {
    Read {
        from: offset(from),
        until: Offset::MAX,
        bytes_max: ByteCount::mib(1),
        at_least: AtLeast::OneBatch,
        aborted: AbortedTxns::Skip,
    }
}

/// All of a log that is on this disk.
#[track_caller]
pub(super) fn read_all(log: &Log) -> Vec<u8> {
    let mut from = log.offsets().local_start.get();
    let mut all = Vec::new();
    loop {
        let slice = log.read(read_from(from)).unwrap();
        if slice.bytes.is_empty() {
            assert_eq!(slice.range.next, log.end());
            return all;
        }
        assert!(slice.range.base.get() <= from && slice.range.next.get() > from);
        from = slice.range.next.get();
        all.extend_from_slice(&slice.bytes);
    }
}
