//! Lookups by time, against brute force.

use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset, Timestamp};
use std::time::Duration;

use super::super::*;
use super::harness::*;

/// Segments with timestamps that go up and down, in batches of all kinds.
fn filled(house: &mut House) -> (std::sync::Arc<Log>, Vec<i64>) {
    house.config.segment_bytes = ByteCount(2000);
    house.config.timestamp_after_max_ms = None;
    // Times of tests are small numbers, which segments must not be rolled by.
    house.config.segment_ms = Duration::MAX;
    let log = house.log();
    let mut timestamps = Vec::new();
    for n in 0..40i64 {
        let some: Vec<i64> = (0..1 + n % 4).map(|m| (n * 50 + m * 37 - (n % 5) * 90).max(1)).collect();
        let codec = [Compression::None, Compression::Zstd, Compression::Lz4][n as usize % 3];
        append(&log, timed(&some, codec));
        timestamps.extend(some);
    }
    assert!(log.sealed_segments().len() > 1);
    (log, timestamps)
}

#[test]
fn lookups_by_time_find_the_first_record_as_a_walk_would() {
    let mut house = House::new();
    let (_, timestamps) = filled(&mut house);
    for round in 0..2 {
        let log = house.log();
        for until in [timestamps.len(), 50, 1, 0] {
            for wanted in (-5..2100).step_by(3) {
                let expected = timestamps[..until].iter().position(|timestamp| *timestamp >= wanted);
                let found = log.offset_for_timestamp(Timestamp(wanted), offset(until as i64)).unwrap();
                assert_eq!(
                    found.map(|found| found.offset.get()),
                    expected.map(|at| at as i64),
                    "{wanted} below {until}"
                );
                if let Some(found) = found {
                    assert_eq!(found.timestamp.0, timestamps[found.offset.get() as usize]);
                    assert_eq!(found.epoch, Some(epoch(0)));
                }
            }
            let newest = timestamps[..until].iter().max();
            let expected =
                newest.map(|newest| timestamps[..until].iter().position(|timestamp| timestamp == newest));
            let found = log.max_timestamp(offset(until as i64)).unwrap();
            assert_eq!(
                found.map(|found| Some(found.offset.get() as usize)),
                expected,
                "newest below {until}"
            );
        }
        if round == 0 {
            house.stop();
        }
    }
}

#[test]
fn what_is_not_on_this_disk_is_not_found() {
    let mut house = House::new();
    let (log, timestamps) = filled(&mut house);
    log.advance_start(offset(33)).unwrap();
    let found = log.offset_for_timestamp(Timestamp(0), Offset::MAX).unwrap().unwrap();
    assert_eq!(found.offset, offset(33));
    assert_eq!(found.timestamp.0, timestamps[33]);
    assert_eq!(log.offset_for_timestamp(Timestamp(i64::MAX), Offset::MAX).unwrap(), None);
}

#[test]
fn a_log_without_timestamps_has_no_newest() {
    let mut house = House::new();
    let log = house.log();
    assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), None);
    append(&log, timed(&[Timestamp::NONE.0; 3], Compression::None));
    assert_eq!(log.max_timestamp(Offset::MAX).unwrap(), None);
    assert_eq!(log.offset_for_timestamp(Timestamp(0), Offset::MAX).unwrap(), None);
}

/// No checksum covers a batch's offset.
#[test]
fn a_batch_out_of_its_place_is_damage_and_no_answer() {
    let mut house = House::new();
    let log = house.log();
    for n in 0..5 {
        append(&log, timed(&[100 + n], Compression::None));
    }
    house.stop();
    let path = house.file(0, layout::LOG);
    let mut bytes = house.read_file(&path);
    let fourth = bytes.len() / 5 * 3;
    bytes[fourth + 7] = 77;
    house.write_file(&path, &bytes);
    let log = house.log();
    let found = log.offset_for_timestamp(Timestamp(101), Offset::MAX).unwrap().unwrap();
    assert_eq!(found.offset, offset(1));
    for (wanted, until) in [(103, Offset::MAX), (103, offset(5)), (104, Offset::MAX)] {
        let found = log.offset_for_timestamp(Timestamp(wanted), until);
        assert!(matches!(found, Err(ReadError::Corrupt(_))), "{wanted} below {until}: {found:?}");
    }
}
