//! Cuts, restarts, trims: where a log begins and ends after them.

use aquifer_model::batches::Batches;
use aquifer_model::{ByteCount, LeaderEpochs, Offset};
use bytes::Bytes;

use super::super::*;
use super::harness::*;

#[test]
fn a_cut_takes_producers_epochs_and_indexes_with_it() {
    // Every target in a log of several segments, with and without a checkpoint near.
    for checkpoint_bytes in [500, 1 << 20] {
        for target in 0..=60i64 {
            let mut house = House::new();
            house.config.segment_bytes = ByteCount(2500);
            house.options.checkpoint_bytes = ByteCount(checkpoint_bytes);
            let log = house.log();
            for n in 0..30 {
                log.append(client(sequenced(7, n * 2, 2), n / 7)).unwrap();
            }
            let all = read_all(&log);
            log.truncate_to(offset(target)).unwrap();
            let end = target - target % 2;
            assert_eq!(log.end(), offset(end), "target {target}");
            assert!(log.synced_end() == log.end() || target == 60);
            let kept: usize =
                Batches::new(&all).take(end as usize / 2).map(|located| located.header.size()).sum();
            assert_eq!(read_all(&log), all[..kept]);
            let newest = (end > 0).then(|| epoch((end as i32 / 2 - 1) / 7));
            assert_eq!(log.latest_epoch(), newest);
            if target % 7 == 0 {
                house.kill();
            }
            let log = house.log();
            assert_eq!((log.end(), log.latest_epoch()), (offset(end), newest), "target {target}");
            if end > 0 {
                let again = log.append(client(sequenced(7, end as i32 - 2, 2), 9)).unwrap();
                assert_eq!((again.outcome, again.base), (Outcome::Duplicate, offset(end - 2)));
            }
            let next = log.append(client(sequenced(7, end as i32, 2), 9)).unwrap();
            assert_eq!((next.outcome, next.base), (Outcome::Written, offset(end)));
            house.kill();
            let log = house.log();
            assert_eq!(log.end(), offset(end + 2));
            assert_eq!(read_all(&log)[..kept], all[..kept]);
        }
    }
}

#[test]
fn a_cut_at_or_behind_the_end_changes_nothing_and_one_before_the_start_is_refused() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(500);
    let log = house.log();
    for n in 0..10 {
        append(&log, batch(n, 1, 200));
    }
    for end in [10, 11, 1000] {
        log.truncate_to(offset(end)).unwrap();
        assert_eq!(log.end(), offset(10));
    }
    log.trim_local(offset(6)).unwrap();
    let local_start = log.offsets().local_start;
    assert!(local_start > Offset::ZERO);
    let refused = log.truncate_to(offset(local_start.get() - 1));
    assert!(matches!(refused, Err(ChangeError::BelowLocalStart { .. })));
    log.truncate_to(local_start).unwrap();
    assert_eq!(log.end(), local_start);
    append(&log, batch(1, 1, 10));
    house.kill();
    assert_eq!(house.log().end(), local_start.next());
}

#[test]
fn a_log_starts_anew_where_the_bucket_ends() {
    let mut source = House::new();
    source.config.segment_bytes = ByteCount(1500);
    let log = source.log();
    for n in 0..20 {
        log.append(client(sequenced(3, n * 2, 2), n / 8)).unwrap();
    }
    let segment = log.sealed_segments()[1].clone();
    let parts = log.sealed_parts(segment.range.base).unwrap().unwrap();
    let at = segment.range.next;
    let epochs = log.epochs().slice(Offset::ZERO, at);
    let restart = Restart { at, log_start: offset(1), epochs: epochs.clone(), producers: parts.producers };

    let mut house = House::new();
    let log = house.log();
    for n in 0..50 {
        append(&log, batch(n, 1, 300));
    }
    log.restart_at(restart.clone()).unwrap();
    for round in 0..2 {
        let log = house.log();
        let starts = LogOffsets { start: offset(1), local_start: at, end: at, synced: at };
        assert_eq!((log.offsets(), log.epochs()), (starts, epochs.clone()), "round {round}");
        assert_eq!((log.sealed_segments(), log.high_watermark_hint()), (Vec::new(), at));
        assert_eq!(house.bases(), [at.get()]);
        assert!(matches!(log.read(read_from(0)), Err(ReadError::BelowLocalStart { .. })));
        house.kill();
    }
    let log = house.log();
    let last = at.get() as i32 - 2;
    let again = log.append(client(sequenced(3, last, 2), 9)).unwrap();
    assert_eq!((again.outcome, again.base), (Outcome::Duplicate, offset(at.get() - 2)));
    assert_eq!(log.append(client(sequenced(3, last + 2, 2), 9)).unwrap().base, at);
    let nonsense = Restart { producers: Bytes::from_static(b"nonsense"), ..restart };
    assert!(matches!(log.restart_at(nonsense), Err(ChangeError::Snapshot(_))));
}

#[test]
fn a_restart_that_a_crash_interrupted_is_finished() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(500);
    let log = house.log();
    for n in 0..10 {
        append(&log, batch(n, 1, 200));
    }
    let before = log.books.lock().point.clone();
    house.stop();
    // As after the first step: the books say that all on disk is void, and there is a segment at the very offset.
    let at = offset(house.bases()[2]);
    let point = checkpoint::RecoveryPoint {
        segment: at,
        position: 0,
        offset: at,
        epochs: LeaderEpochs::new(),
        ..before
    };
    let void = checkpoint::Checkpoint {
        point,
        log_start: Offset::ZERO,
        local_start: at,
        high_watermark: at,
        sealed: Vec::new(),
        discard: true,
        compaction: None,
        journal: None,
    };
    house.write_file(&house.log_folder().join(layout::CHECKPOINT), &void.encode());
    let mut end = at;
    for round in 0..4 {
        let log = house.log();
        assert_eq!((log.offsets().local_start, log.end()), (at, end), "round {round}");
        // What comes behind it stays, however the process ends.
        append(&log, batch(round, 1, 200));
        end = log.end();
        if round % 2 == 0 {
            house.kill()
        } else {
            house.stop()
        };
    }
}

#[test]
fn the_start_moves_up_durably_and_what_lies_below_goes() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(700);
    house.config.file_delete_delay_ms = std::time::Duration::ZERO;
    let log = house.log();
    for n in 0..20 {
        append(&log, batch(n, 1, 200));
    }
    let first = log.sealed_segments()[0].range;
    for start in [1, first.next.get() - 1, first.next.get(), 11, 11, 4] {
        log.advance_start(offset(start)).unwrap();
        let expected = offset(start.max(log.offsets().start.get()));
        assert_eq!((log.offsets().start, log.offsets().local_start), (expected, expected));
        house.kill();
        let log = house.log();
        assert_eq!(
            (log.offsets().start, log.offsets().local_start, log.end()),
            (expected, expected, offset(20))
        );
    }
    let log = house.log();
    assert!(matches!(log.advance_start(offset(21)), Err(ChangeError::Ahead { end }) if end == offset(20)));
    assert!(house.bases()[0] > 0);
    log.advance_start(offset(20)).unwrap();
    house.wait("removal", || house.bases().len() == 1);
    assert!(log.read(read_from(20)).unwrap().bytes.is_empty());
    append(&log, batch(1, 1, 200));
    assert_eq!(log.read(read_from(20)).unwrap().range.next, offset(21));
}

#[test]
fn trimming_keeps_the_start_and_says_what_it_freed() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(700);
    let log = house.log();
    for n in 0..20 {
        log.append(client(batch(n, 1, 200), n as i32 / 5)).unwrap();
    }
    let epochs = log.epochs();
    let segments = log.sealed_segments();
    assert_eq!(
        log.trim_local(segments[0].range.next.get().checked_sub(1).and_then(Offset::new).unwrap()).unwrap(),
        ByteCount::ZERO
    );
    let freed = log.trim_local(segments[2].range.next).unwrap();
    assert_eq!(freed, segments[..3].iter().map(|segment| segment.log_bytes).sum());
    let all = read_all(&log);
    let removed = house.file(0, layout::LOG);
    // Readers of the removed files have them for a while.
    assert!(aquifer_runtime::files::Disk::host().exists(&removed).unwrap());
    for _ in 0..2 {
        let log = house.log();
        assert_eq!((log.offsets().start, log.offsets().local_start), (Offset::ZERO, segments[2].range.next));
        assert_eq!((log.epochs(), log.sealed_segments()), (epochs.clone(), segments[3..].to_vec()));
        assert_eq!(read_all(&log), all);
        house.kill();
    }
    house.log();
    assert!(!aquifer_runtime::files::Disk::host().exists(&removed).unwrap());
}

#[test]
fn all_that_an_upload_needs_is_the_segments_own() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(3000);
    let log = house.log();
    for n in 0..60 {
        log.append(client(sequenced(i64::from(n % 2), n / 2, 1), n / 20)).unwrap();
    }
    house.settle(&log);
    let all = read_all(&log);
    let mut position = 0;
    for round in 0..2 {
        let log = house.log();
        for segment in log.sealed_segments() {
            let parts = log.sealed_parts(segment.range.base).unwrap().unwrap();
            let bytes = parts.log.read_at(0, segment.log_bytes.get() as usize).unwrap();
            if round == 0 {
                assert_eq!(bytes, all[position..position + bytes.len()]);
                position += bytes.len();
            }
            assert_eq!(segment.epochs, log.epochs().slice(segment.range.base, segment.range.next));
            // The indexes are those that a walk of the bytes gives.
            let mut builder = index::IndexBuilder::new();
            let mut newest = aquifer_model::Timestamp::NONE;
            for located in Batches::new(&bytes) {
                let relative = located.header.base_offset.since(segment.range.base) as u32;
                let interval = house.config.index_interval_bytes;
                builder.note(&located.header, relative, located.position as u32, interval, newest);
                newest = newest.max(located.header.max_timestamp());
            }
            builder.note_time();
            assert_eq!(parts.offset_index, aquifer_model::offset_index::encode(&builder.index.offsets));
            assert_eq!(parts.time_index, aquifer_model::time_index::encode(&builder.index.times));
            assert!(builder.index.offsets.len() > 2);
            assert_eq!((segment.timestamp_max, parts.aborted), (newest, Vec::new()));
            let snapshot = checkpoint::Snapshot::decode(&parts.producers).unwrap();
            assert_eq!((snapshot.offset, snapshot.producers.len()), (segment.range.next, 2));
            assert_eq!(snapshot.epochs, log.epochs().slice(Offset::ZERO, segment.range.next));
        }
        assert!(log.sealed_parts(offset(1)).unwrap().is_none());
        assert_eq!(log.sealed_containing(offset(0)).map(|segment| segment.range.base), Some(Offset::ZERO));
        assert_eq!(log.sealed_containing(offset(59)), None);
        house.stop();
    }
}

#[test]
fn segments_can_be_dropped_from_a_full_disk() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(700);
    let log = house.log();
    for n in 0..20 {
        append(&log, batch(n, 1, 200));
    }
    house.settle(&log);
    let disk = aquifer_runtime::files::Disk::host();
    let reserve = house.folder.path().join(layout::RESERVE);
    let size = house.options.reserve_bytes;
    house.wait("reserve", || disk.size_of(&reserve).unwrap() == Some(size));
    house.faults.fail_writes(Some(std::io::ErrorKind::StorageFull));
    let below = log.sealed_segments()[2].range.next;
    assert!(matches!(log.trim_local(below), Err(ChangeError::Full)));
    assert_eq!(disk.size_of(&reserve).unwrap(), Some(ByteCount::ZERO));
    assert_eq!((log.offsets().local_start, read_all(&log).is_empty()), (Offset::ZERO, false));
    // The room given back is all that was missing.
    house.faults.fail_writes(None);
    log.trim_local(below).unwrap();
    assert_eq!(log.offsets().local_start, below);
    house.wait("reserve", || disk.size_of(&reserve).unwrap() == Some(size));
}

#[test]
fn a_cut_at_the_end_takes_an_epoch_without_records() {
    let mut house = House::new();
    let log = house.log();
    log.append(client(batch(1, 5, 10), 4)).unwrap();
    log.begin_epoch(epoch(5));
    log.truncate_to(offset(6)).unwrap();
    assert_eq!(log.latest_epoch(), Some(epoch(5)));
    log.truncate_to(offset(5)).unwrap();
    assert_eq!((log.latest_epoch(), log.end()), (Some(epoch(4)), offset(5)));
    let more = placed(&batch(2, 1, 10), 5, 4);
    log.append_as_follower(&more.into()).unwrap();
}

#[test]
fn a_segment_never_spans_more_offsets_than_its_index_can_hold() {
    let mut house = House::new();
    let log = house.log();
    let mut base = 0;
    for _ in 0..5 {
        // What compaction leaves of a batch: few records, many offsets.
        let mut thinned = placed(&batch(1, 1, 10), base, 0);
        thinned[23..27].copy_from_slice(&i32::MAX.to_be_bytes());
        let crc = aquifer_model::format::crc32c(&[&thinned[21..]]);
        thinned[17..21].copy_from_slice(&crc.to_be_bytes());
        base = log.append_as_follower(&thinned.into()).unwrap().last.get() + 1;
    }
    let spans: Vec<u64> = log.sealed_segments().iter().map(|segment| segment.range.count()).collect();
    assert_eq!(spans, [1 << 32, 1 << 32]);
    house.kill();
    assert_eq!(house.log().end(), offset(base));
}
