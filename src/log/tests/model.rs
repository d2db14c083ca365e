//! Random histories against a model: a list of batches, a start, and what was synced.

use aquifer_model::{ByteCount, LeaderEpochs, Offset};
use aquifer_runtime::files::Disk;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use super::harness::*;
use crate::config::Durability;

#[derive(Debug, Clone)]
enum Step {
    Append {
        count: usize,
        size: usize,
    },
    Sequenced {
        producer: i64,
        count: usize,
    },
    NewLeader,
    Roll,
    Settle,
    Truncate(f64),
    Trim(f64),
    Advance(f64),
    Stop,
    /// A power cut that leaves this part of what was not synced.
    PowerCut {
        left: f64,
        hole: bool,
    },
    Lookups,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let part = 0.0..1.0f64;
    let step = prop_oneof![
        12 => (1..5usize, 1..400usize).prop_map(|(count, size)| Step::Append { count, size }),
        6 => (0..3i64, 1..4usize).prop_map(|(producer, count)| Step::Sequenced { producer, count }),
        1 => Just(Step::Append { count: 3, size: 3000 }),
        2 => Just(Step::NewLeader),
        1 => Just(Step::Roll),
        2 => Just(Step::Settle),
        1 => part.clone().prop_map(Step::Truncate),
        1 => part.clone().prop_map(Step::Trim),
        1 => part.clone().prop_map(Step::Advance),
        1 => Just(Step::Stop),
        2 => (part, any::<bool>()).prop_map(|(left, hole)| Step::PowerCut { left, hole }),
        1 => Just(Step::Lookups),
    ];
    prop::collection::vec(step, 1..80)
}

struct Batch {
    base: i64,
    next: i64,
    leader: i32,
    bytes: Vec<u8>,
    producer: Option<(i64, i32, usize)>,
}

#[derive(Default)]
struct Model {
    batches: Vec<Batch>,
    /// First base that the log ever had on this disk since.
    start: i64,
    log_start: i64,
    end: i64,
    leader: i32,
    seed: u64,
}

impl Model {
    /// A cut within a batch takes all of it, even where the log's start lies within it too.
    fn truncate(&mut self, end: i64) {
        let first_gone = self.batches.iter().find(|batch| batch.next > end);
        self.end = first_gone.map_or(self.end, |batch| batch.base);
        self.batches.retain(|batch| batch.next <= end);
        self.start = self.start.min(self.end);
        self.log_start = self.log_start.min(self.end);
    }

    fn next_sequence(&self, producer: i64) -> i32 {
        let last =
            self.batches.iter().rev().filter_map(|batch| batch.producer).find(|(id, ..)| *id == producer);
        last.map_or(0, |(_, sequence, count)| sequence + count as i32)
    }

    fn position(&self, part: f64) -> i64 {
        self.start + ((self.end - self.start) as f64 * part).round() as i64
    }
}

fn run(durability: Durability, journaled: bool, steps: Vec<Step>) {
    let mut house = House::new();
    if journaled {
        house.journal();
    }
    house.config.durability = durability;
    house.config.segment_bytes = ByteCount::kib(10);
    house.config.file_delete_delay_ms = std::time::Duration::ZERO;
    let mut model = Model::default();
    for step in steps {
        perform(&mut house, &mut model, &step);
        check(&house.log(), &model);
    }
    house.kill();
    let log = house.log();
    assert_eq!(log.corruption(), None);
    check(&log, &model);
}

fn perform(house: &mut House, model: &mut Model, step: &Step) {
    let log = house.log();
    match step {
        Step::Append { count, size } => {
            model.seed += 1;
            take(&log, model, batch(model.seed, *count, *size), None);
        }
        Step::Sequenced { producer, count } => {
            let sequence = model.next_sequence(*producer);
            let records = sequenced(*producer, sequence, *count);
            take(&log, model, records, Some((*producer, sequence, *count)));
        }
        Step::NewLeader => {
            model.leader += 1;
            log.begin_epoch(epoch(model.leader));
        }
        Step::Roll => log.roll().unwrap(),
        Step::Settle => house.settle(&log),
        Step::Truncate(part) => {
            let to = model.position(*part);
            log.truncate_to(offset(to)).unwrap();
            model.truncate(to);
        }
        Step::Trim(part) => {
            log.trim_local(offset(model.position(*part))).unwrap();
            let start = log.offsets().local_start.get();
            assert!(
                start == model.start
                    || model.batches.iter().any(|batch| batch.base == start)
                    || start == model.end
            );
            model.start = start;
        }
        Step::Advance(part) => {
            let to = model.position(*part);
            log.advance_start(offset(to)).unwrap();
            if to > model.log_start {
                (model.log_start, model.start) = (to, to.max(model.start));
            }
        }
        Step::Stop => {
            drop(log);
            house.stop();
            let log = house.log();
            // Only of what is empty can it be in doubt whether it ever held anything.
            let is_blank = log.recovery().is_blank && log.end() == Offset::ZERO;
            assert_eq!(*log.recovery(), RecoveryReport { is_blank, ..RecoveryReport::default() });
        }
        Step::PowerCut { left, hole } => {
            house.cut_power();
            let synced = log.synced_end().get();
            drop(log);
            lose(house, *left, *hole);
            let log = house.log();
            assert_eq!(log.corruption(), None, "{:?}", log.recovery());
            let end = log.end().get();
            assert!(end >= synced && end <= model.end, "{synced} <= {end} <= {}", model.end);
            model.truncate(end);
            assert_eq!(model.end, end, "the end lies between batches");
        }
        Step::Lookups => {
            let newest = log.max_timestamp(Offset::MAX).unwrap();
            if let Some(newest) = newest {
                let found = log.offset_for_timestamp(newest.timestamp, Offset::MAX).unwrap();
                assert_eq!(found, Some(newest));
            }
        }
    }
}

fn take(log: &Log, model: &mut Model, records: bytes::Bytes, producer: Option<(i64, i32, usize)>) {
    let appended = log.append(client(records.clone(), model.leader)).unwrap();
    assert_eq!((appended.base.get(), appended.outcome), (model.end, Outcome::Written));
    let bytes = placed(&records, model.end, model.leader);
    let next = appended.last.get() + 1;
    model.batches.push(Batch { base: model.end, next, leader: model.leader, bytes, producer });
    model.end = next;
    if producer.is_some() {
        let again = log.append(client(records, model.leader)).unwrap();
        assert_eq!(
            (again.base, again.last, again.outcome),
            (appended.base, appended.last, Outcome::Duplicate)
        );
    }
}

/// Does to the files what a power cut may do to what was not synced: leaves this part of it.
fn lose(house: &House, left: f64, hole: bool) {
    let files: Vec<_> = house.bases().into_iter().map(|base| house.file(base, layout::LOG)).collect();
    let mut found = Vec::new();
    for path in files {
        let bytes = house.read_file(&path);
        let synced = house.faults.synced_bytes(&path).min(bytes.len() as u64) as usize;
        found.push((path, bytes, synced));
    }
    let unsynced: usize = found.iter().map(|(_, bytes, synced)| bytes.len() - synced).sum();
    let mut left = (unsynced as f64 * left) as usize;
    for (path, mut bytes, synced) in found {
        let size = bytes.len();
        let kept = left.min(size - synced);
        left -= kept;
        let stays = synced + kept;
        if stays == size {
            continue;
        }
        if hole {
            // Sectors from here on never came, but for the last page.
            let stays = if kept == 0 { stays } else { stays.next_multiple_of(512) };
            let until = (size - 1) / 4096 * 4096;
            if stays < until {
                bytes[stays..until].fill(0);
            }
        } else {
            bytes.truncate(stays);
        }
        house.write_file(&path, &bytes);
        if bytes.is_empty() && path != house.file(0, layout::LOG) {
            // The name may have been lost with the bytes.
            Disk::host().remove(&path).unwrap();
        }
    }
}

fn check(log: &Log, model: &Model) {
    let offsets = log.offsets();
    assert_eq!((offsets.start.get(), offsets.local_start.get()), (model.log_start, model.start));
    assert_eq!(offsets.end.get(), model.end);
    assert!(offsets.synced <= offsets.end);
    let visible = model.batches.iter().filter(|batch| batch.next > model.start);
    let bytes: Vec<u8> = visible.flat_map(|batch| batch.bytes.iter().copied()).collect();
    assert!(read_all(log) == bytes, "the bytes are those of the model");
    check_epochs(log, model);
    check_indexes(log);
    for producer in 0..3 {
        let known =
            model.batches.iter().rev().filter_map(|batch| batch.producer.map(|producer| (batch, producer)));
        if let Some((batch, (_, sequence, count))) = known.into_iter().find(|(_, (id, ..))| *id == producer) {
            let again = log.append(client(sequenced(producer, sequence, count), i32::MAX - 1)).unwrap();
            assert_eq!((again.outcome, again.base.get()), (Outcome::Duplicate, batch.base));
        }
    }
}

/// Epochs are those of the batches, but for ones that have written nothing yet.
fn check_epochs(log: &Log, model: &Model) {
    let mut rescan = LeaderEpochs::new();
    for batch in &model.batches {
        rescan.assign(epoch(batch.leader), offset(batch.base));
    }
    let epochs = log.epochs();
    for batch in model.batches.iter().filter(|batch| batch.next > model.start) {
        assert_eq!(epochs.epoch_at(offset(batch.next - 1)), rescan.epoch_at(offset(batch.next - 1)));
    }
}

/// Every index is what a walk of its segment gives.
pub(super) fn check_indexes(log: &Log) {
    let sealed: Vec<_> = log.state.lock().sealed.iter().cloned().collect();
    let nothing = |base| checkpoint::Snapshot { offset: base, ..checkpoint::Snapshot::default() };
    for sealed in &sealed {
        let range = sealed.facts.range;
        let mut walked =
            log.replay(&nothing(range.base), &sealed.log, sealed.facts.bytes.get(), range.next).unwrap();
        walked.builder.note_time();
        assert_eq!((walked.end, walked.bytes), (range.next, sealed.facts.bytes.get()));
        log.with_index(sealed, |index| assert_eq!(*index, walked.builder.index)).unwrap();
        assert_eq!(walked.builder.running.timestamp_max, sealed.facts.timestamp_max);
    }
    let (tail, active) = {
        let state = log.state.lock();
        (state.tail.clone(), state.active.clone())
    };
    let walked = log.replay(&nothing(tail.base), &active, tail.bytes, tail.end).unwrap();
    assert_eq!(walked.builder.index, tail.builder.index);
    assert_eq!(walked.builder.running.unindexed, tail.builder.running.unindexed);
}

#[test]
fn random_histories_keep_what_was_synced_and_nothing_else_appears() {
    // More of them: AQUIFER_LOG_HISTORIES=1000 cargo test random_histories
    let cases = std::env::var("AQUIFER_LOG_HISTORIES")
        .map_or(60, |count| count.parse().expect("a number of histories"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome =
        TestRunner::new(config).run(&(any::<bool>(), any::<bool>(), steps()), |(fsync, journaled, steps)| {
            run(if fsync { Durability::Fsync } else { Durability::Replicated }, journaled, steps);
            Ok(())
        });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
