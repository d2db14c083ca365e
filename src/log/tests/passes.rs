//! What comes in the way of a pass: another policy, a cut, a full disk, damage, batches that nobody can open.

use std::io::IoSlice;
use std::sync::Arc;

use aquifer_model::batch::{HEADER_BYTES, NewBatch};
use aquifer_model::compression::Compression;
use aquifer_model::{BatchHeader, ByteCount, Offset, Timestamp};
use aquifer_runtime::files::Disk;
use bytes::Bytes;

use super::super::*;
use super::harness::*;
use super::keyed::*;

/// Several mebibytes of few keys, so that a pass takes several steps; the newest of each key in closed segments.
fn large() -> (House, Arc<Log>) {
    let mut house = keyed_house(compacted());
    house.config.segment_bytes = ByteCount(700_000);
    let log = house.log();
    for round in 0..24 {
        let (value, stays) = (format!("{round} {}", "v".repeat(150_000)), format!("stays{round}"));
        let records = [("goes", Some("1")), (stays.as_str(), Some(value.as_str()))];
        append(&log, keyed(&records, Compression::None));
    }
    log.roll().unwrap();
    append(&log, keyed(&[("open", Some("1"))], Compression::None));
    (house, log)
}

/// A pass that has done so many steps, unless it has come to its end by then.
fn begun(log: &Arc<Log>, steps: usize) -> Option<Pass> {
    let dirt = log.dirt(Offset::MAX).unwrap().unwrap();
    let mut pass = log.compact(dirt, &compacted(), AMPLE);
    for _ in 0..steps {
        if pass.step().unwrap().done.is_some() {
            return None;
        }
    }
    Some(pass)
}

fn end(mut pass: Pass) -> Result<PassOutcome, CompactError> {
    loop {
        if let Some(done) = pass.step()?.done {
            return Ok(done);
        }
    }
}

fn bases(log: &Log) -> Vec<Offset> {
    log.sealed_segments().iter().map(|segment| segment.range.base).collect()
}

#[test]
fn a_pass_ends_with_its_policy() {
    for steps in 0.. {
        let (house, log) = large();
        let Some(pass) = begun(&log, steps) else {
            assert!(steps > 4, "it takes {steps} steps");
            return;
        };
        let before = bases(&log);
        log.set_config(LogConfig { cleanup: Cleanup::Delete, ..house.config.clone() });
        let outcome = end(pass);
        assert!(matches!(outcome, Err(CompactError::Overtaken)), "after {steps}: {outcome:?}");
        assert_eq!(bases(&log), before, "after {steps}: what is closed does not change any more");
        assert_eq!(log.damage(), []);
        house.wait("nothing is left over", || names_with(&house, layout::CLEANED).is_empty());
    }
}

/// What the keys of a pass say of newer values is void once these may have been cut off.
#[test]
fn a_pass_ends_with_a_cut() {
    for steps in 0.. {
        let (house, log) = large();
        let Some(pass) = begun(&log, steps) else {
            assert!(steps > 4, "it takes {steps} steps");
            return;
        };
        let last = log.sealed_segments().last().unwrap().range.base;
        log.truncate_to(last.next()).unwrap();
        append(&log, keyed(&[("other", Some("1"))], Compression::None));
        log.roll().unwrap();
        let left = shown(&log);
        let outcome = end(pass);
        assert!(matches!(outcome, Err(CompactError::Overtaken)), "after {steps}: {outcome:?}");
        assert_eq!(shown(&log), left, "after {steps}");
        assert!(house.opened().failure().borrow().is_none());
        compact_all(&log);
    }
}

#[test]
fn a_disk_that_fills_up_during_a_pass_costs_the_pass_and_nothing_else() {
    for steps in 0.. {
        let (house, log) = large();
        let before = table(&log);
        let Some(pass) = begun(&log, steps) else {
            assert!(steps > 4, "it takes {steps} steps");
            return;
        };
        house.faults.fail_writes(Some(std::io::ErrorKind::StorageFull));
        let outcome = end(pass);
        house.faults.fail_writes(None);
        assert!(
            matches!(outcome, Err(CompactError::Change(ChangeError::Full))),
            "after {steps}: {outcome:?}"
        );
        assert!(house.opened().failure().borrow().is_none());
        assert_eq!((table(&log), log.damage().len()), (before.clone(), 0));
        house.wait("nothing is left over", || names_with(&house, layout::CLEANED).is_empty());
        compact_all(&log);
        assert_eq!(table(&log), before);
    }
}

/// A batch of these records that says that it is compressed, and is not.
fn unopenable(records: &Bytes) -> Bytes {
    let body = &records[HEADER_BYTES..];
    let header = BatchHeader::parse(records).unwrap();
    let new = NewBatch {
        compression: Compression::Zstd,
        transactional: false,
        control: false,
        base_timestamp: Timestamp(5),
        max_timestamp: Timestamp(5),
        producer: None,
        record_count: header.record_count(),
    };
    Bytes::from([&new.header(body).to_bytes()[..], body].concat())
}

#[test]
fn a_batch_that_nobody_can_open_stays_as_it_is_and_keeps_nothing_else_from_being_compacted() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    // As it is taken by a topic that is not compacted yet.
    log.set_config(LogConfig { cleanup: Cleanup::Delete, ..house.config.clone() });
    append(&log, keyed(&[("a", Some("1")), ("b", Some("1"))], Compression::None));
    let sent = unopenable(&keyed(&[("a", Some("2")), ("b", Some("2"))], Compression::None));
    append(&log, sent.clone());
    append(&log, keyed(&[("a", Some("3"))], Compression::None));
    log.roll().unwrap();
    log.set_config(house.config.clone());
    for _ in 0..2 {
        let done = seal_and_compact(&log);
        assert_eq!(done.unopened, 1);
        let all = read_all(&log);
        let bases: Vec<(i64, u32)> = aquifer_model::batches::Batches::new(&all)
            .map(|located| (located.header.base_offset.get(), located.header.record_count()))
            .collect();
        assert_eq!(bases[..3], [(0, 1), (2, 2), (4, 1)], "b's one that can be read is b's newest");
        let kept = log.read(read_from(2)).unwrap().bytes;
        assert!(kept.starts_with(&placed(&sent, 2, 0)), "it is as it was sent");
        assert_eq!(log.damage(), []);
        append(&log, keyed(&[("c", Some("1"))], Compression::None));
    }
}

#[test]
fn damage_that_a_pass_meets_is_noted_and_over_once_it_is_gone() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    for round in 0..40 {
        let value = format!("{round} {}", "v".repeat(30));
        append(&log, keyed(&[("a", Some(value.as_str())), ("b", Some("1"))], Compression::None));
    }
    log.roll().unwrap();
    let path = house.file(log.sealed_segments()[1].range.base.get(), layout::LOG);
    let sound = house.read_file(&path);
    let poke = |at: usize, byte: u8| {
        let file = Disk::host().open(&path).unwrap();
        file.write_all_at(at as u64, &mut [IoSlice::new(&[byte])]).unwrap();
    };
    // A base offset, which no checksum covers; a leader epoch; a record.
    for at in [5, 7, 15, 200] {
        poke(at, sound[at] ^ 1);
        let damaged = compact(&log, Offset::MAX, AMPLE);
        assert!(matches!(&damaged, Err(CompactError::Read(ReadError::Corrupt(_)))), "{at}: {damaged:?}");
        assert_eq!(log.damage().iter().map(|damage| &damage.file).collect::<Vec<_>>(), [&path], "{at}");
        poke(at, sound[at]);
    }
    compact_all(&log);
    assert_eq!(log.damage(), [], "the pass has read it whole, and its file is another");
}

/// Of two readers one may hold a segment that a pass has replaced meanwhile.
#[test]
fn whoever_reads_a_replaced_segment_leaves_the_index_of_the_new_one_alone() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    for round in 0..40 {
        append(
            &log,
            keyed(&[("a", Some("some value")), (&format!("k{}", round % 9), Some("1"))], Compression::None),
        );
    }
    log.roll().unwrap();
    let old = log.state.lock().sealed[0].clone();
    // Open, so that its bytes are there for as long as it is held.
    log.file(&old.log).unwrap();
    house.settle(&log);
    compact_all(&log);
    let path = house.file(0, layout::INDEX);
    let index = house.read_file(&path);
    let rebuilt = log.shared.metrics.rebuilt_indexes.get();
    let _ = log.with_index(&old, |_| ());
    assert!(!log.renew_index(&old).unwrap_or(false));
    assert_eq!(house.read_file(&path), index);
    assert_eq!(log.shared.metrics.rebuilt_indexes.get(), rebuilt, "nothing was lost");
    super::model::check_indexes(&log);
}
