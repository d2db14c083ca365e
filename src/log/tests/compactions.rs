//! What compaction leaves, and what is made of it afterwards.

use std::collections::BTreeMap;
use std::time::Duration;

use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset, Timestamp};

use super::super::*;
use super::harness::*;
use super::keyed::*;
use crate::config::Compaction;

const ALL: [Compression; 5] =
    [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

/// Sixty batches of three records each over ten keys, some of which are gone in the end.
fn fill(log: &Log, compression: Compression) {
    for round in 0..60 {
        let names: Vec<String> = (0..3).map(|n| format!("k{}", (round * 3 + n * 7) % 10)).collect();
        let value = format!("{round} {}", "v".repeat(30));
        let values = [Some(value.as_str()), (round % 9 != 8).then_some("x"), Some("y")];
        let records: Vec<(&str, Option<&str>)> = names.iter().map(String::as_str).zip(values).collect();
        append(log, keyed(&records, compression));
    }
}

/// The newest record of each key below `until`, and all from there on.
fn expected(all: &[(i64, String, Option<String>)], until: i64) -> Vec<(i64, String, Option<String>)> {
    let below = all.iter().filter(|(offset, ..)| *offset < until);
    let newest: BTreeMap<&str, i64> = below.map(|(offset, key, _)| (key.as_str(), *offset)).collect();
    let stays = |(offset, key, _): &&(i64, String, Option<String>)| {
        *offset >= until || newest[key.as_str()] == *offset
    };
    all.iter().filter(stays).cloned().collect()
}

#[test]
fn of_each_key_the_newest_record_stays_at_its_offset() {
    for compression in ALL {
        let mut house = keyed_house(compacted());
        let log = house.log();
        fill(&log, compression);
        let (all, before, end) = (shown(&log), table(&log), log.end());
        let closed = log.sealed_end().get();
        let segments = log.sealed_segments().len();
        assert!(segments > 3, "{segments}");
        let done = compact_all(&log);
        let left = expected(&all, closed);
        assert_eq!(shown(&log), left, "{compression}");
        assert_eq!((table(&log), log.end()), (before, end));
        assert_eq!((done.clean_below.get(), done.dropped as usize), (closed, all.len() - left.len()));
        assert!(done.bytes.1 < done.bytes.0);
        // What is left is little: small segments are one now.
        assert_eq!(log.sealed_segments().len(), 1);
        house.wait("the old files are gone", || names_with(&house, layout::LOG).len() == 2);
        let removed = |suffix| names_with(&house, suffix).is_empty();
        house.wait("nothing is left over", || removed(layout::CLEANED) && removed(layout::DELETED));
        super::model::check_indexes(&log);
        assert!(log.dirt(Offset::MAX).unwrap().is_none(), "all is clean");
        for stop in [false, true] {
            if stop {
                house.stop()
            } else {
                house.kill()
            }
            let log = house.log();
            assert_eq!((log.corruption(), shown(&log), log.end()), (None, left.clone(), end));
            assert!(log.dirt(Offset::MAX).unwrap().is_none());
        }
    }
}

#[test]
fn a_read_from_any_offset_begins_with_the_batch_that_holds_it_or_the_next_there_is() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    fill(&log, Compression::None);
    compact_all(&log);
    let batches = batches(&log);
    for from in 0..log.end().get() {
        let next = batches.iter().find(|(header, _)| header.last_offset().get() >= from).unwrap();
        for bytes_max in [0, 100, 1 << 20] {
            let read = Read { bytes_max: ByteCount(bytes_max), ..read_from(from) };
            let slice = log.read(read).unwrap();
            assert_eq!(slice.range.base, next.0.base_offset, "from {from}");
            let header = aquifer_model::BatchHeader::parse(&slice.bytes).unwrap();
            assert_eq!(header, next.0);
        }
        // Nothing of what a reader may not see yet.
        let until = Offset::new(from + 3).unwrap();
        let slice = log.read(Read { until, ..read_from(from) }).unwrap();
        assert!(slice.bytes.is_empty() || slice.range.next <= until);
    }
    // Every record is found by its time, and the newest of all.
    for record in records(&log) {
        let found = log.offset_for_timestamp(record.timestamp, Offset::MAX).unwrap().unwrap();
        assert!(found.timestamp == record.timestamp && found.offset <= record.offset);
    }
    assert!(log.max_timestamp(Offset::MAX).unwrap().is_some());
}

#[test]
fn with_little_memory_it_takes_several_passes_and_comes_to_the_same() {
    let mut ample = keyed_house(compacted());
    let log = ample.log();
    fill(&log, Compression::Lz4);
    compact_all(&log);
    let wanted = shown(&log);
    for keys in [1, 2, 5, 9] {
        let mut house = keyed_house(compacted());
        let log = house.log();
        fill(&log, Compression::Lz4);
        let options = CompactOptions { keys_bytes_max: ByteCount(24 * (keys + 1)), load_factor: 0.9 };
        let mut passes = 0;
        let mut cleaned = Offset::ZERO;
        while let Some(done) = compact(&log, Offset::MAX, options).unwrap() {
            assert!(done.clean_below > cleaned, "each pass gets further");
            (cleaned, passes) = (done.clean_below, passes + 1);
            if passes == 3 {
                house.kill();
                break;
            }
        }
        let log = house.log();
        while let Some(done) = compact(&log, Offset::MAX, options).unwrap() {
            assert!(done.clean_below > cleaned);
            (cleaned, passes) = (done.clean_below, passes + 1);
        }
        assert!(passes > 2, "{passes} with room for {keys}");
        assert_eq!(shown(&log), wanted, "with room for {keys}");
    }
}

#[test]
fn nothing_goes_that_is_open_or_above_the_limit_or_too_young() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    append(&log, keyed(&[("a", Some("1")), ("a", Some("2"))], Compression::None));
    assert!(log.dirt(Offset::MAX).unwrap().is_none(), "the open segment is never compacted");
    log.roll().unwrap();
    append(&log, keyed(&[("a", Some("3"))], Compression::None));
    log.roll().unwrap();
    for limit in [0, 1] {
        assert!(log.dirt(offset(limit)).unwrap().is_none());
    }
    assert_eq!(log.dirt(offset(2)).unwrap().unwrap().range.next, offset(2));
    let lag_min = Duration::from_secs(3600);
    log.set_config(LogConfig {
        cleanup: Cleanup::Compact(Compaction { lag_min, ..compacted() }),
        ..house.config.clone()
    });
    assert!(log.dirt(Offset::MAX).unwrap().is_none());
    log.set_config(LogConfig { cleanup: Cleanup::Delete, ..house.config.clone() });
    assert!(log.dirt(Offset::MAX).unwrap().is_none());
    log.set_config(house.config.clone());
    compact(&log, offset(2), AMPLE).unwrap().unwrap();
    let expected = [(1, "a".to_owned(), Some("2".to_owned())), (2, "a".to_owned(), Some("3".to_owned()))];
    assert_eq!(shown(&log), expected);
}

#[test]
fn a_tombstone_stays_for_its_time_from_the_first_pass_that_met_it() {
    for (retention, stays) in [(Duration::from_secs(3600), true), (Duration::ZERO, false)] {
        for compression in ALL {
            let mut house = keyed_house(Compaction { delete_retention: retention, ..compacted() });
            let log = house.log();
            append(
                &log,
                keyed(&[("a", Some("1")), ("b", Some("2")), ("a", None), ("c", Some("3"))], compression),
            );
            let before = records(&log);
            seal_and_compact(&log);
            let (header, kept) = batches(&log).remove(0);
            assert_eq!(
                kept,
                before[1..],
                "only the value before the tombstone has gone, times and headers stay"
            );
            let horizon = header.delete_horizon().expect("the tombstone's time runs");
            let now = log.now();
            assert!(
                horizon <= now.plus(retention) && horizon.plus(Duration::from_secs(60)) > now.plus(retention)
            );
            // Another pass, for which there has to be something new.
            append(&log, keyed(&[("d", Some("4"))], compression));
            seal_and_compact(&log);
            let keys: Vec<String> = shown(&log).into_iter().map(|(_, key, _)| key).collect();
            let left = if stays { &["b", "a", "c", "d"][..] } else { &["b", "c", "d"] };
            assert_eq!(keys, left, "{compression} {retention:?}");
            if stays {
                assert_eq!(
                    batches(&log)[0].0.delete_horizon(),
                    Some(horizon),
                    "its time does not begin anew"
                );
            }
        }
    }
}

#[test]
fn the_last_batch_of_a_producer_stays_and_so_does_the_last_of_all() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    append(&log, keyed_by(1, 0, &[("a", Some("1"))]));
    append(&log, keyed_by(1, 1, &[("a", Some("2")), ("b", Some("2"))]));
    append(&log, keyed_by(2, 0, &[("a", Some("3"))]));
    append(&log, keyed(&[("a", Some("4")), ("b", Some("4"))], Compression::Zstd));
    log.roll().unwrap();
    append(&log, keyed(&[("a", Some("5")), ("b", Some("5"))], Compression::Zstd));
    compact_all(&log);
    let left: Vec<(i64, i64, usize)> = batches(&log)
        .iter()
        .map(|(header, records)| (header.base_offset.get(), header.last_offset().get(), records.len()))
        .collect();
    assert_eq!(left, [(1, 2, 0), (3, 3, 0), (4, 5, 2), (6, 7, 2)]);
    log.roll().unwrap();
    append(&log, keyed(&[("c", Some("1"))], Compression::Zstd));
    compact_all(&log);
    // The batch that was the last of all before has gone by now.
    let bases: Vec<i64> = batches(&log).iter().map(|(header, _)| header.base_offset.get()).collect();
    assert_eq!(bases, [1, 3, 6, 8]);
    for lost in [false, true] {
        house.kill();
        if lost {
            // Whoever has to start from the batches alone knows the producers' sequences.
            for name in names_with(&house, layout::SNAPSHOT) {
                house.remove_file(&house.log_folder().join(name));
            }
            house.remove_file(&house.log_folder().join(layout::CHECKPOINT));
        }
        let log = house.log();
        assert_eq!(log.corruption(), None);
        let again = log.append(client(keyed_by(1, 1, &[("a", Some("2")), ("b", Some("2"))]), 0)).unwrap();
        assert_eq!((again.outcome, again.base), (Outcome::Duplicate, offset(1)));
        let gap = log.append(client(keyed_by(2, 2, &[("a", Some("2"))]), 0));
        assert!(matches!(gap, Err(AppendError::OutOfOrderSequence { expected: 1, .. })));
    }
    let log = house.log();
    append(&log, keyed_by(2, 1, &[("x", Some("1"))]));
}

#[test]
fn a_follower_takes_the_gaps_of_its_leader_and_a_dense_log_does_not() {
    let mut leader = keyed_house(compacted());
    let log = leader.log();
    fill(&log, Compression::Gzip);
    compact_all(&log);
    let mut follower = keyed_house(compacted());
    let mut dense = House::new();
    let (copy, refusing) = (follower.log(), dense.log());
    let mut from = Offset::ZERO;
    while from < log.end() {
        let slice = log.read(read_from(from.get())).unwrap();
        let appended = copy.append_as_follower(&slice.bytes).unwrap();
        assert_eq!(appended.last.next(), slice.range.next);
        from = slice.range.next;
        let refused = refusing.append_as_follower(&slice.bytes);
        assert!(matches!(refused, Err(FollowerAppendError::Gap { .. })), "{refused:?}");
    }
    assert_eq!((shown(&copy), copy.end()), (shown(&log), log.end()));
    follower.kill();
    let copy = follower.log();
    assert_eq!((copy.corruption(), shown(&copy), copy.end()), (None, shown(&log), log.end()));
    // Cut anywhere, it ends there or before the batch that holds the offset, and goes on where its leader does.
    for end in (0..log.end().get()).rev().step_by(7) {
        copy.truncate_to(offset(end)).unwrap();
        let holder = batches(&log).into_iter().find(|(header, _)| header.last_offset().get() >= end).unwrap();
        assert_eq!(copy.end(), holder.0.base_offset.min(offset(end)));
        let slice = log.read(read_from(copy.end().get())).unwrap();
        copy.append_as_follower(&slice.bytes).unwrap();
        assert_eq!(copy.end(), slice.range.next);
        while copy.end() < log.end() {
            copy.append_as_follower(&log.read(read_from(copy.end().get())).unwrap().bytes).unwrap();
        }
        assert_eq!(shown(&copy), shown(&log));
    }
}

#[test]
fn a_compacted_log_can_be_cut_trimmed_and_started_anew() {
    let mut house = keyed_house(compacted());
    house.config.file_delete_delay_ms = Duration::ZERO;
    let log = house.log();
    fill(&log, Compression::None);
    compact_all(&log);
    let all = shown(&log);
    let cleaned = log.sealed_end();
    // Into the compacted part: what is left of it is open again, and dirty behind.
    let cut = cleaned.get() / 2;
    log.truncate_to(offset(cut)).unwrap();
    let end = log.end();
    let kept: Vec<_> = all.iter().filter(|(at, ..)| *at < end.get()).cloned().collect();
    assert!(end.get() <= cut && shown(&log) == kept);
    append(&log, keyed(&[("k1", Some("new")), ("k1", Some("newer"))], Compression::None));
    house.kill();
    let log = house.log();
    assert_eq!(shown(&log).len(), kept.len() + 2);
    seal_and_compact(&log);
    assert_eq!(table(&log)["k1"], "newer");
    let start = log.sealed_end();
    append(&log, keyed(&[("z", Some("1"))], Compression::None));
    log.trim_local(start).unwrap();
    assert_eq!(shown(&log).len(), 1);
    log.roll().unwrap();
    log.advance_start(log.end()).unwrap();
    house.kill();
    let log = house.log();
    assert!(shown(&log).is_empty());
    let at = offset(10_000);
    let restart = Restart { at, log_start: at, epochs: Default::default(), producers: bytes::Bytes::new() };
    log.restart_at(restart).unwrap();
    append(&log, keyed(&[("a", Some("1")), ("a", Some("2"))], Compression::None));
    seal_and_compact(&log);
    house.kill();
    assert_eq!(shown(&house.log()), [(10_001, "a".to_owned(), Some("2".to_owned()))]);
}

#[test]
fn records_without_a_key_are_refused_and_those_from_before_go() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    log.set_config(LogConfig { cleanup: Cleanup::Delete, ..house.config.clone() });
    append(&log, timed(&[0, 0], Compression::None));
    append(&log, keyed(&[("a", Some("1"))], Compression::Snappy));
    log.set_config(house.config.clone());
    let refused = log.append(client(timed(&[0], Compression::Zstd), 0));
    assert!(matches!(refused, Err(AppendError::Invalid(InvalidRecords::Keyless(0)))), "{refused:?}");
    let done = seal_and_compact(&log);
    assert_eq!((done.dropped, done.keyless), (2, 2));
    assert_eq!(shown(&log), [(2, "a".to_owned(), Some("1".to_owned()))]);
}

#[test]
fn a_log_that_is_no_longer_to_be_compacted_keeps_its_gaps() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    fill(&log, Compression::None);
    compact_all(&log);
    let left = shown(&log);
    house.config.cleanup = Cleanup::Delete;
    for _ in 0..2 {
        house.kill();
        let log = house.log();
        assert_eq!((log.corruption(), shown(&log)), (None, left.clone()));
        log.set_config(house.config.clone());
        assert!(matches!(log.dirt(Offset::MAX), Ok(None)));
    }
}

#[test]
fn damage_is_told_and_left_as_it_is_and_a_full_disk_is_no_failure() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    fill(&log, Compression::None);
    let (all, second) = (shown(&log), log.sealed_segments()[1].range.base.get());
    house.faults.fail_writes(Some(std::io::ErrorKind::StorageFull));
    let full = compact(&log, Offset::MAX, AMPLE);
    assert!(matches!(full, Err(CompactError::Change(ChangeError::Full))), "{full:?}");
    house.faults.fail_writes(None);
    assert_eq!(shown(&log), all);
    house.wait("nothing is left over", || names_with(&house, layout::CLEANED).is_empty());
    let path = house.file(second, layout::LOG);
    let sound = house.read_file(&path);
    let mut bytes = sound.clone();
    bytes[200] ^= 1;
    // Through the file that the log holds open.
    let overwrite = |bytes: &[u8]| {
        let file = aquifer_runtime::files::Disk::host().open(&path).unwrap();
        file.write_all_at(0, &mut [std::io::IoSlice::new(bytes)]).unwrap();
    };
    overwrite(&bytes);
    let damaged = compact(&log, Offset::MAX, AMPLE);
    assert!(
        matches!(&damaged, Err(CompactError::Read(ReadError::Corrupt(corruption))) if corruption.file == path),
        "{damaged:?}"
    );
    house.wait("nothing is left over", || names_with(&house, layout::CLEANED).is_empty());
    overwrite(&sound);
    assert_eq!(shown(&log), all);
    compact_all(&log);
    assert_eq!(shown(&log), expected(&all, log.sealed_end().get()));
}

#[test]
fn a_log_that_is_deleted_closed_or_trimmed_meanwhile_ends_its_pass_and_nothing_else() {
    for how in 0..3 {
        let mut house = keyed_house(compacted());
        let log = house.log();
        fill(&log, Compression::None);
        let all = shown(&log);
        for steps in 0..2 {
            let Some(dirt) = log.dirt(Offset::MAX).unwrap() else { break };
            let mut pass = log.compact(dirt, &compacted(), AMPLE);
            for _ in 0..steps {
                pass.step().unwrap();
            }
            match how {
                0 => house.dir().delete(partition(0)).unwrap(),
                1 => house.dir().close().unwrap(),
                _ => drop(log.trim_local(log.sealed_segments()[0].range.next).unwrap()),
            }
            let outcome = loop {
                match pass.step() {
                    Ok(step) if step.done.is_none() => {}
                    outcome => break outcome,
                }
            };
            // What was done before it was asked to end may have been all, and of a trimmed segment nothing is missed but its keys.
            let may_end = steps > 0 || how == 2;
            assert!(matches!(outcome, Err(CompactError::Overtaken)) || may_end, "{how}: {outcome:?}");
            if how == 2 {
                let left = log.offsets().local_start.get();
                let newest: BTreeMap<&str, &(i64, String, Option<String>)> =
                    all.iter().map(|record| (record.1.as_str(), record)).collect();
                let shown = shown(&log);
                assert!(newest.values().all(|newest| newest.0 < left || shown.contains(newest)), "{shown:?}");
            }
            assert!(house.dir().failure().borrow().is_none());
        }
        house.kill();
        assert_eq!(house.log().corruption(), None);
    }
}

#[test]
fn the_time_of_the_first_dirty_record_makes_a_pass_overdue() {
    let lag_max = Some(Duration::from_millis(500));
    let mut house = keyed_house(Compaction { lag_max, dirty_ratio_min: 1.0, ..Compaction::default() });
    let log = house.log();
    append(&log, timed_keyed(-400));
    log.roll().unwrap();
    let settings = log.config().cleanup.compaction().unwrap();
    assert!(!log.dirt(Offset::MAX).unwrap().unwrap().is_due(&settings));
    append(&log, timed_keyed(-700));
    log.roll().unwrap();
    assert!(!log.dirt(Offset::MAX).unwrap().unwrap().is_due(&settings), "the first counts");
    house.wait("it is overdue", || log.dirt(Offset::MAX).unwrap().unwrap().is_due(&settings));
}

fn timed_keyed(ago: i64) -> bytes::Bytes {
    let now = aquifer_runtime::World::system().clock.wall();
    let mut builder = aquifer_model::builder::BatchBuilder::new();
    builder.push(Timestamp(now.0 + ago), Some(b"k"), Some(b"v"), &[]);
    builder.finish(Compression::None).unwrap().into()
}

#[test]
fn who_reads_meanwhile_sees_every_batch_in_order() {
    let mut house = keyed_house(compacted());
    let log = house.log();
    fill(&log, Compression::None);
    let (wanted, reader) = (table(&log), log.clone());
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            for _ in 0..40 {
                assert_eq!(table(&reader), wanted);
                reader.offset_for_timestamp(Timestamp(0), Offset::MAX).unwrap().unwrap();
            }
        });
        let mut round = 0;
        while !reading.is_finished() {
            // The same again, so that there is something to do.
            append(&log, keyed(&[("k1", table(&log).get("k1").map(String::as_str))], Compression::None));
            seal_and_compact(&log);
            round += 1;
        }
        assert!(round > 0);
        reading.join().unwrap();
    });
}
