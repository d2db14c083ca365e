//! Random histories of a compacted log against a model: the records that were appended.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::super::*;
use super::harness::*;
use super::keyed::*;
use crate::config::Compaction;

#[derive(Debug, Clone)]
enum Step {
    Append {
        records: Vec<(u8, bool)>,
        codec: u8,
    },
    Sequenced {
        producer: i64,
        keys: Vec<u8>,
    },
    Roll,
    /// With memory for so many keys, over this part of the log.
    Compact {
        keys: u64,
        part: f64,
    },
    /// The process is gone after so many operations of a compaction.
    CompactAndDie {
        operations: u64,
    },
    Kill,
    CutPower,
    Stop,
    Trim(f64),
    LoseCheckpoint,
    LosePartitionFile,
    /// The topic is not to be compacted any more, or again.
    ChangePolicy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let records = prop::collection::vec((0..12u8, any::<bool>()), 1..6);
    let step = prop_oneof![
        14 => (records, 0..5u8).prop_map(|(records, codec)| Step::Append { records, codec }),
        4 => (0..3i64, prop::collection::vec(0..12u8, 1..4))
            .prop_map(|(producer, keys)| Step::Sequenced { producer, keys }),
        3 => Just(Step::Roll),
        5 => (1..20u64, 0.0..1.2f64).prop_map(|(keys, part)| Step::Compact { keys, part }),
        2 => (0..60u64).prop_map(|operations| Step::CompactAndDie { operations }),
        1 => Just(Step::Kill),
        1 => Just(Step::CutPower),
        1 => Just(Step::Stop),
        1 => (0.0..0.6f64).prop_map(Step::Trim),
        1 => Just(Step::LoseCheckpoint),
        1 => Just(Step::LosePartitionFile),
        1 => Just(Step::ChangePolicy),
    ];
    prop::collection::vec(step, 1..90)
}

struct Model {
    /// Key and value by offset.
    records: BTreeMap<i64, (String, Option<String>)>,
    sequences: BTreeMap<i64, i32>,
    end: i64,
    /// Whether tombstones may go once they have been met.
    forgets: bool,
}

fn run(forgets: bool, steps: Vec<Step>) {
    let delete_retention = std::time::Duration::from_secs(if forgets { 0 } else { 3600 });
    let mut house = keyed_house(Compaction { delete_retention, ..compacted() });
    house.config.segment_bytes = ByteCount(700);
    house.config.file_delete_delay_ms = std::time::Duration::ZERO;
    let compacted = house.config.cleanup;
    let mut model = Model { records: BTreeMap::new(), sequences: BTreeMap::new(), end: 0, forgets };
    for step in steps {
        perform(&mut house, &mut model, compacted, step);
        check(&house.log(), &model);
    }
    house.kill();
    check(&house.log(), &model);
}

fn perform(house: &mut House, model: &mut Model, compacted: Cleanup, step: Step) {
    let log = house.log();
    match step {
        Step::Append { records, codec } => {
            let codec = Compression::from_bits(codec).unwrap();
            let records: Vec<(String, Option<String>)> = records
                .into_iter()
                .map(|(key, lives)| (format!("k{key}"), lives.then(|| format!("v{}", model.end))))
                .collect();
            let borrowed: Vec<_> =
                records.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            append(&log, keyed(&borrowed, codec));
            model.note(records);
        }
        Step::Sequenced { producer, keys } => {
            let records: Vec<(String, Option<String>)> =
                keys.into_iter().map(|key| (format!("k{key}"), Some(format!("p{}", model.end)))).collect();
            let borrowed: Vec<_> =
                records.iter().map(|(key, value)| (key.as_str(), value.as_deref())).collect();
            let sequence = model.sequences.entry(producer).or_default();
            append(&log, keyed_by(producer, *sequence, &borrowed));
            *sequence += borrowed.len() as i32;
            model.note(records);
        }
        Step::Roll => log.roll().unwrap(),
        Step::Compact { keys, part } => {
            let options = CompactOptions { keys_bytes_max: ByteCount(24 * (keys + 1)), load_factor: 0.9 };
            let limit = offset((model.end as f64 * part) as i64);
            compact(&log, limit, options).unwrap();
        }
        Step::CompactAndDie { operations } => {
            house.faults.stop_after(Some(operations));
            // It may come to its end, or not.
            let _ = compact(&log, Offset::MAX, AMPLE);
            drop(log);
            house.kill();
            house.faults.stop_after(None);
        }
        Step::Kill => house.kill(),
        Step::CutPower => house.cut_power(),
        Step::Stop => {
            drop(log);
            house.stop();
            let log = house.log();
            // Only of what is empty can it be in doubt whether it ever held anything.
            let is_blank = log.recovery().is_blank && log.end() == Offset::ZERO;
            assert_eq!(*log.recovery(), RecoveryReport { is_blank, ..RecoveryReport::default() });
        }
        Step::Trim(part) => {
            log.trim_local(offset((model.end as f64 * part) as i64)).unwrap();
            let start = log.offsets().local_start.get();
            model.records = model.records.split_off(&start);
            // Were the checkpoint lost before that, they would be found again.
            let first = log.bases()[0].get();
            house.wait("what was trimmed is gone", || house.bases().iter().all(|base| *base >= first));
        }
        Step::LosePartitionFile => {
            drop(log);
            house.kill();
            house.remove_file(&house.log_folder().join(layout::PARTITION));
        }
        Step::ChangePolicy => {
            let is_compacted = house.config.cleanup.compaction().is_some();
            house.config.cleanup = if is_compacted { Cleanup::Delete } else { compacted };
            log.set_config(house.config.clone());
        }
        Step::LoseCheckpoint => {
            drop(log);
            house.kill();
            let path = house.log_folder().join(layout::CHECKPOINT);
            aquifer_runtime::files::Disk::host().remove(&path).unwrap();
            // Without it nobody knows what was trimmed but by what is there.
            let start = house.log().offsets().local_start.get();
            model.records = model.records.split_off(&start);
        }
    }
}

impl Model {
    fn note(&mut self, records: Vec<(String, Option<String>)>) {
        for record in records {
            self.records.insert(self.end, record);
            self.end += 1;
        }
    }

    fn table(&self) -> BTreeMap<String, String> {
        let mut table = BTreeMap::new();
        for (key, value) in self.records.values() {
            match value {
                Some(value) => drop(table.insert(key.clone(), value.clone())),
                None => drop(table.remove(key)),
            }
        }
        table
    }
}

fn check(log: &std::sync::Arc<Log>, model: &Model) {
    assert_eq!((log.corruption(), log.end().get()), (None, model.end));
    let shown = shown(log);
    for (offset, key, value) in &shown {
        let sent = model.records.get(offset);
        assert_eq!(sent, Some(&(key.clone(), value.clone())), "offset {offset} holds what was sent");
    }
    assert_eq!(table(log), model.table());
    // Every key's newest record is there; one that says that the key is gone may be, too, once it was met.
    let held: BTreeSet<i64> = shown.iter().map(|(offset, ..)| *offset).collect();
    let newest: BTreeMap<&str, i64> =
        model.records.iter().map(|(offset, (key, _))| (key.as_str(), *offset)).collect();
    for (key, offset) in newest {
        let may_go = model.forgets && model.records[&offset].1.is_none();
        assert!(held.contains(&offset) || may_go, "{key} at {offset}");
    }
    super::model::check_indexes(log);
    for (producer, sequence) in &model.sequences {
        if *sequence > 0 {
            let gap = log.append(client(keyed_by(*producer, sequence + 1, &[("k0", None)]), 0));
            let known =
                matches!(gap, Err(AppendError::OutOfOrderSequence { expected, .. }) if expected == *sequence);
            assert!(known, "{gap:?}");
        }
    }
}

#[test]
fn random_histories_show_every_keys_newest_value_at_its_offset() {
    // More of them: AQUIFER_LOG_HISTORIES=1000 cargo test random_histories
    let cases = std::env::var("AQUIFER_LOG_HISTORIES")
        .map_or(60, |count| count.parse().expect("a number of histories"));
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&(any::<bool>(), steps()), |(forgets, steps)| {
        run(forgets, steps);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}
