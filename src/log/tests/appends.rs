//! Appends: what a leader takes, refuses and repeats, and what a failing disk makes of it.

use std::io::ErrorKind;

use aquifer_model::batches::Batches;

use super::super::*;
use super::harness::*;
use crate::config::{Durability, TimestampType};
use aquifer_model::{ByteCount, LeaderEpoch, Offset, ProducerId, Timestamp};
use bytes::Bytes;
use std::time::Duration;

#[test]
fn offsets_are_dense_and_the_bytes_are_the_producers() {
    let mut house = House::new();
    let log = house.log();
    let mut expected = Vec::new();
    let mut base = 0;
    for n in 0..40 {
        let count = 1 + n % 4;
        let sent = batch(n as u64, count, 30);
        // What a producer says of the place means nothing.
        let appended = append(&log, placed(&sent, 999, 55).into());
        assert_eq!((appended.base, appended.last), (offset(base), offset(base + count as i64 - 1)));
        assert_eq!((appended.outcome, appended.log_append_time), (Outcome::Written, None));
        expected.extend(placed(&sent, base, 0));
        base += count as i64;
    }
    assert_eq!(log.end(), offset(base));
    assert!(log.sealed_segments().is_empty() || house.bases().len() > 1);
    assert_eq!(read_all(&log), expected);
}

#[test]
fn segments_roll_by_size_time_index_and_on_demand() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(1000);
    let log = house.log();
    for n in 0..10 {
        append(&log, batch(n, 1, 300));
    }
    let sizes: Vec<u64> = log.sealed_segments().iter().map(|segment| segment.log_bytes.get()).collect();
    assert!(sizes.iter().all(|size| *size <= 1000), "{sizes:?}");
    assert_eq!(sizes.len(), 4);

    log.roll().unwrap();
    log.roll().unwrap();
    assert_eq!(log.sealed_segments().len(), 5);
    assert_eq!(log.active_since(), None);

    // By record time.
    log.set_config(LogConfig {
        segment_ms: Duration::from_millis(100),
        timestamp_after_max_ms: None,
        ..LogConfig::default()
    });
    let none = aquifer_model::compression::Compression::None;
    for (timestamp, segments) in [(5_000, 5), (5_100, 5), (5_101, 6), (5_300, 7)] {
        append(&log, timed(&[timestamp], none));
        assert_eq!(log.sealed_segments().len(), segments, "at {timestamp}");
    }
    assert!(log.active_since().is_some());

    // By a full index: ten entries of twelve bytes, one for each batch but the first.
    let interval = ByteCount(1);
    log.set_config(LogConfig {
        segment_index_bytes: ByteCount(40),
        index_interval_bytes: interval,
        ..LogConfig::default()
    });
    log.roll().unwrap();
    let before = log.sealed_segments().len();
    for n in 0..9 {
        append(&log, timed(&[10_000 + n], none));
    }
    assert_eq!(log.sealed_segments().len() - before, 2);
}

#[test]
fn the_synced_end_follows_by_itself_or_when_asked() {
    let mut house = House::new();
    let log = house.log();
    append(&log, batch(1, 3, 10));
    house.wait("sync", || log.synced_end() == offset(3));

    log.set_config(LogConfig { durability: Durability::Replicated, ..house.config.clone() });
    append(&log, batch(2, 1, 10));
    append(&log, batch(3, 1, 10));
    assert_eq!(log.synced_end(), offset(3));
    house.settle(&log);
    assert_eq!(log.synced_end(), offset(5));
    // A checkpoint's bytes are synced without being asked.
    for n in 0..4 {
        append(&log, batch(n, 1, 600));
    }
    house.wait("sync", || log.synced_end() > offset(5));
}

#[test]
fn a_producers_retry_is_no_second_record_whatever_happened_between() {
    type Interruption = fn(&mut House);
    let interruptions: [(&str, Interruption); 3] =
        [("none", |_| ()), ("stop", House::stop), ("kill", House::kill)];
    for (name, interrupt) in interruptions {
        let mut house = House::new();
        for n in 0..8 {
            append(&house.log(), sequenced(5, n * 3, 3));
            append(&house.log(), sequenced(6, n * 3, 3));
        }
        interrupt(&mut house);
        let log = house.log();
        assert_eq!(log.producer_count(), 2, "{name}");
        let again = append(&log, sequenced(5, 12, 3));
        assert_eq!(
            (again.outcome, again.base, again.last),
            (Outcome::Duplicate, offset(24), offset(26)),
            "{name}"
        );
        assert_eq!(log.end(), offset(48));
        let gap = log.append(client(sequenced(5, 27, 3), 0)).unwrap_err();
        let producer = ProducerId(5);
        assert_eq!(gap, AppendError::OutOfOrderSequence { producer, expected: 24, found: 27 }, "{name}");
        assert_eq!(append(&log, sequenced(5, 24, 3)).base, offset(48));
    }
}

#[test]
fn an_older_leader_appends_nothing() {
    let mut house = House::new();
    let log = house.log();
    log.append(client(batch(1, 2, 10), 3)).unwrap();
    let error = log.append(client(batch(2, 2, 10), 2)).unwrap_err();
    assert_eq!(error, AppendError::StaleEpoch { current: epoch(3), found: epoch(2) });
    log.begin_epoch(epoch(5));
    log.begin_epoch(epoch(4));
    assert_eq!(log.latest_epoch(), Some(epoch(5)));
    log.append(client(batch(2, 2, 10), 6)).unwrap();
    let entries: Vec<(i32, i64)> =
        log.epochs().entries().iter().map(|entry| (entry.epoch.get(), entry.start.get())).collect();
    assert_eq!(entries, [(3, 0), (6, 2)]);
    assert_eq!(log.epoch_end(epoch(4)).map(|end| (end.epoch, end.end)), Some((epoch(3), offset(2))));
    assert_eq!(log.epoch_at(offset(3)), Some(epoch(6)));
}

#[test]
fn the_time_of_arrival_is_told_and_stored() {
    let mut house = House::new();
    house.config.timestamp_type = TimestampType::LogAppendTime;
    let log = house.log();
    let appended = append(&log, batch(1, 2, 10));
    let bytes = read_all(&log);
    let header = aquifer_model::BatchHeader::parse(&bytes).unwrap();
    assert_eq!(Some(header.max_timestamp()), appended.log_append_time);
    assert_eq!(header.verify(&bytes), Ok(()));
}

#[test]
fn a_full_disk_refuses_and_leaves_nothing_behind() {
    let mut house = House::new();
    let log = house.log();
    append(&log, batch(1, 1, 100));
    house.settle(&log);
    let size = house.read_file(&house.file(0, layout::LOG)).len();
    house.faults.fail_writes(Some(ErrorKind::StorageFull));
    assert_eq!(log.append(client(batch(2, 1, 100), 0)), Err(AppendError::Full));
    assert_eq!(house.read_file(&house.file(0, layout::LOG)).len(), size);
    house.faults.fail_writes(None);
    assert_eq!(append(&log, batch(2, 1, 100)).base, offset(1));
    house.kill();
    let log = house.log();
    assert_eq!(log.recovery().findings, []);
    assert_eq!(
        read_all(&log),
        [placed(&batch_bytes(&log, 0), 0, 0), placed(&batch_bytes(&log, 1), 1, 0)].concat()
    );
    assert_eq!(log.end(), offset(2));
}

/// A power cut may undo the cut of a refused batch's part as it may undo any write, and the segment may be closed by then.
#[test]
fn the_cut_after_a_refused_batch_is_synced() {
    let mut house = House::new();
    let log = house.log();
    append(&log, batch(1, 1, 100));
    house.settle(&log);
    house.faults.fail_writes(Some(ErrorKind::StorageFull));
    assert_eq!(log.append(client(batch(2, 1, 100), 0)), Err(AppendError::Full));
    house.faults.fail_writes(None);
    let failure = house.dir().failure();
    house.faults.fail_syncs(Some(ErrorKind::Other));
    log.flush();
    house.wait("the sync of the cut", || failure.borrow().is_some());
}

fn batch_bytes(log: &Log, at: usize) -> Vec<u8> {
    let all = read_all(log);
    let located = Batches::new(&all).nth(at).unwrap();
    all[located.position..located.position + located.header.size()].to_vec()
}

#[test]
fn a_failed_write_or_sync_ends_the_directory_and_no_sync_is_tried_again() {
    for sync in [false, true] {
        let mut house = House::new();
        let log = house.log();
        let wanted = house.wanted(1);
        let other = house.dir().open_or_create(wanted).unwrap();
        append(&log, batch(1, 1, 100));
        append(&other, batch(1, 1, 100));
        house.settle(&log);
        house.settle(&other);
        if sync {
            house.faults.fail_syncs(Some(ErrorKind::Other));
            append(&log, batch(2, 1, 100));
        } else {
            house.faults.fail_writes(Some(ErrorKind::Other));
            assert_eq!(log.append(client(batch(2, 1, 100), 0)), Err(AppendError::Failed));
        }
        let failure = house.dir().failure();
        house.wait("failure", || failure.borrow().is_some());
        // The disk seems well again; its pages are lost nevertheless.
        house.faults.fail_syncs(None);
        house.faults.fail_writes(None);
        for log in [&log, &other] {
            assert_eq!(log.append(client(batch(3, 1, 100), 0)), Err(AppendError::Failed));
            log.flush();
            assert!(matches!(log.truncate_to(Offset::ZERO), Err(ChangeError::Failed)));
        }
        assert!(house.dir().close().is_err());
        assert_eq!((log.synced_end(), other.synced_end()), (offset(1), offset(1)));
        let wanted = house.wanted(2);
        assert!(matches!(house.dir().open_or_create(wanted), Err(OpenLogError::Failed)));
        house.kill();
        assert!(!house.dir().was_clean());
        assert!(house.log().end() >= offset(1));
    }
}

#[test]
fn followers_take_what_continues_exactly() {
    let mut leader = House::new();
    let log = leader.log();
    for n in 0..60 {
        log.append(client(batch(n, 1 + n as usize % 3, 200), n as i32 / 20)).unwrap();
    }
    let all = read_all(&log);
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(3000);
    let follower = house.log();
    let bytes = Bytes::from(all.clone());
    let batches: Vec<usize> = Batches::new(&all).map(|located| located.position).collect();
    let (first, second) = (bytes.slice(..batches[25]), bytes.slice(batches[25]..));

    let gap = follower.append_as_follower(&second).unwrap_err();
    assert!(matches!(gap, FollowerAppendError::Gap { expected: Offset::ZERO, .. }), "{gap:?}");
    let appended = follower.append_as_follower(&first).unwrap();
    assert_eq!(appended.base, Offset::ZERO);
    assert!(matches!(follower.append_as_follower(&first), Err(FollowerAppendError::Gap { .. })));
    assert!(follower.append_as_follower(&second.slice(..second.len() - 1)).is_err());
    let mut flipped = second.to_vec();
    flipped[100] ^= 1;
    assert!(matches!(follower.append_as_follower(&flipped.into()), Err(FollowerAppendError::Batch(_))));
    let end = follower.end().get();
    let old = placed(&batch(1, 1, 10), end, 0);
    let expected =
        FollowerAppendError::EpochBackwards { current: Some(epoch(1)), found: Some(LeaderEpoch::ZERO) };
    assert_eq!(follower.append_as_follower(&old.into()), Err(expected));
    assert_eq!(follower.end(), offset(end));
    follower.append_as_follower(&second).unwrap();

    assert_eq!(read_all(&follower), all);
    assert_eq!(follower.epochs(), log.epochs());
    assert!(follower.sealed_segments().len() > 3);
    house.kill();
    assert_eq!(read_all(&house.log()), all);
    assert!(follower.append_as_follower(&Bytes::new()).is_err());
}

#[test]
fn a_reader_never_waits_for_a_timestamp_to_pass() {
    // `segment.ms` with a batch that has no timestamp goes by the broker's clock.
    let mut house = House::new();
    house.config.segment_ms = Duration::ZERO;
    let log = house.log();
    let none = aquifer_model::compression::Compression::None;
    append(&log, timed(&[Timestamp::NONE.0], none));
    house.wait("a millisecond", || {
        append(&log, timed(&[Timestamp::NONE.0], none));
        !log.sealed_segments().is_empty()
    });
}

#[test]
fn without_descriptors_appends_are_refused_and_the_directory_lives() {
    let mut house = House::new();
    house.options.files_open_max = 1;
    let log = house.log();
    let wanted = house.wanted(1);
    let other = house.dir().open_or_create(wanted).unwrap();
    for log in [&log, &other] {
        append(log, batch(1, 1, 10));
        house.settle(log);
    }
    // The first log's file was closed for the other's.
    house.faults.exhaust_descriptors(true);
    assert_eq!(log.append(client(batch(2, 1, 10), 0)), Err(AppendError::Full));
    assert!(matches!(log.read(read_from(0)), Err(ReadError::Io { .. })));
    house.faults.exhaust_descriptors(false);
    assert_eq!(append(&log, batch(2, 1, 10)).base, offset(1));
    assert_eq!(house.dir().failure().borrow().clone(), None);
}
