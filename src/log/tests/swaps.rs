//! A compaction that a crash interrupts: whatever it leaves of files and names, the log opens with every key's newest value.

use std::collections::BTreeMap;
use std::time::Duration;

use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset};
use aquifer_runtime::files::Disk;

use super::super::*;
use super::harness::*;
use super::keyed::*;

type Shown = Vec<(i64, String, Option<String>)>;

/// Values of few keys, and some that stay: what is left of it takes several segments.
fn filled() -> House {
    let mut house = keyed_house(compacted());
    house.config.segment_bytes = ByteCount(1000);
    house.config.file_delete_delay_ms = Duration::ZERO;
    let log = house.log();
    for round in 0..40 {
        let (stays, goes) = (format!("stays{round}"), format!("goes{}", round % 3));
        let value = Some("some value that takes some room");
        let records = [(goes.as_str(), value), (stays.as_str(), value), (goes.as_str(), Some("2"))];
        append(&log, keyed(&records[..1 + round % 3], Compression::None));
    }
    append(&log, keyed(&[("open", Some("1"))], Compression::None));
    log.roll().unwrap();
    append(&log, keyed(&[("open", Some("2"))], Compression::None));
    house.stop();
    house
}

/// What a whole pass leaves.
fn wanted() -> (Shown, BTreeMap<String, String>) {
    let mut house = filled();
    let log = house.log();
    compact_all(&log);
    assert!(log.sealed_segments().len() > 2, "{}", log.sealed_segments().len());
    (shown(&log), table(&log))
}

#[test]
fn a_crash_at_any_operation_loses_nothing_and_the_next_pass_gets_there() {
    let (wanted, table_wanted) = wanted();
    let mut house = filled();
    let before = files(&house);
    for operations in 0.. {
        lay(&house, &before);
        let log = house.log();
        let (all, end) = (shown(&log), log.end());
        house.faults.stop_after(Some(operations));
        let outcome = compact(&log, Offset::MAX, AMPLE);
        drop(log);
        house.kill();
        house.faults.stop_after(None);
        let log = house.log();
        assert_eq!((log.corruption(), log.end()), (None, end), "stopped after {operations}");
        let found = shown(&log);
        assert!(found.iter().all(|record| all.contains(record)), "stopped after {operations}");
        assert!(wanted.iter().all(|record| found.contains(record)), "stopped after {operations}");
        assert_eq!(table(&log), table_wanted);
        house.wait("nothing is left over", || names_with(&house, layout::CLEANED).is_empty());
        assert_eq!(
            house.bases().len(),
            log.sealed_segments().len() + 1,
            "no file that the log does not know"
        );
        compact(&log, Offset::MAX, AMPLE).unwrap();
        assert_eq!(shown(&log), wanted);
        super::model::check_indexes(&log);
        drop(log);
        house.kill();
        assert_eq!(shown(&house.log()), wanted);
        house.kill();
        if outcome.is_ok() {
            assert!(operations > 20, "it takes {operations} operations");
            return;
        }
    }
}

/// The checkpoint that decides a swap names files beside the log; it must not when others begin to be written there.
#[test]
fn a_crash_at_any_operation_of_the_pass_behind_a_swap_loses_nothing() {
    let (mut house, before, ..) = one_swap();
    for restarts in [false, true] {
        for operations in 0.. {
            lay(&house, &before);
            let mut log = house.log();
            compact_all(&log);
            append(&log, keyed(&[("goes0", Some("3"))], Compression::None));
            log.roll().unwrap();
            if restarts {
                drop(log);
                house.kill();
                log = house.log();
            }
            let wanted = table(&log);
            house.faults.stop_after(Some(operations));
            let outcome = compact(&log, Offset::MAX, AMPLE);
            drop(log);
            house.kill();
            house.faults.stop_after(None);
            let log = house.log();
            let what = format!("stopped after {operations}, restarted before: {restarts}");
            assert_eq!(log.corruption(), None, "{what}");
            assert_eq!(table(&log), wanted, "{what}");
            super::model::check_indexes(&log);
            drop(log);
            house.kill();
            // A look within the millisecond of the last record may find nothing that is old enough.
            if matches!(outcome, Ok(Some(_))) {
                assert!(operations > 10, "it takes {operations} operations");
                break;
            }
        }
    }
}

type Files = BTreeMap<String, Vec<u8>>;

fn files(house: &House) -> Files {
    let names = Disk::host().list(&house.log_folder()).unwrap();
    let read = |name: &String| house.read_file(&house.log_folder().join(name));
    let names = names.into_iter().map(|entry| entry.name).filter(|name| !name.ends_with(layout::DELETED));
    names.map(|name| (name.clone(), read(&name))).collect()
}

fn lay(house: &House, files: &Files) {
    Disk::host().remove_dir_all(&house.log_folder()).unwrap();
    Disk::host().create_dir_all(&house.log_folder()).unwrap();
    for (name, bytes) in files {
        house.write_file(&house.log_folder().join(name), bytes);
    }
}

/// One swap of all closed segments for one new: the files before it and after it.
fn one_swap() -> (House, Files, Files, Shown) {
    let mut house = filled();
    let before = files(&house);
    house.config.segment_bytes = ByteCount::mib(1);
    let log = house.log();
    compact_all(&log);
    let wanted = shown(&log);
    assert_eq!(log.sealed_segments().len(), 1);
    drop(log);
    house.kill();
    let after = files(&house);
    (house, before, after, wanted)
}

/// Where a power cut may find a file of the new segment.
#[derive(Debug, Clone, Copy)]
enum At {
    BesideTheOld,
    Beside,
    InPlace,
}

#[test]
fn whichever_names_a_power_cut_keeps_once_it_is_decided_the_swap_is_finished() {
    let (mut house, before, after, wanted) = one_swap();
    let first = |extension: &str| format!("{:020}.{extension}", 0);
    let swallowed: Vec<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    assert!(swallowed.len() > 6, "{swallowed:?}");
    let places = [At::BesideTheOld, At::Beside, At::InPlace];
    for (log_at, index_at) in places.into_iter().flat_map(|log| places.map(|index| (log, index))) {
        for left in 0..4 {
            let mut files = after.clone();
            for (extension, at) in [(layout::LOG, log_at), (layout::INDEX, index_at)] {
                let name = first(extension);
                if matches!(at, At::BesideTheOld | At::Beside) {
                    let new = files.remove(&name).unwrap();
                    files.insert(format!("{name}{}", layout::CLEANED), new);
                }
                if matches!(at, At::BesideTheOld) {
                    files.insert(name.clone(), before[&name].clone());
                }
            }
            for (at, name) in swallowed.iter().enumerate() {
                if left == 3 || (left > 0 && at % 3 == left) {
                    files.insert((*name).clone(), before[*name].clone());
                }
            }
            lay(&house, &files);
            house.cut_power();
            let log = house.log();
            assert_eq!(log.corruption(), None, "{log_at:?} {index_at:?} {left}");
            assert_eq!(shown(&log), wanted, "{log_at:?} {index_at:?} {left}");
            assert!(names_with(&house, layout::CLEANED).is_empty());
            assert_eq!(house.bases().len(), 2, "{log_at:?} {index_at:?} {left}");
            let there = |name: &&&String| Disk::host().exists(&house.log_folder().join(name)).unwrap();
            assert_eq!(swallowed.iter().find(there), None, "{log_at:?} {index_at:?} {left}");
            super::model::check_indexes(&log);
            append(&log, keyed(&[("more", Some("1"))], Compression::None));
            drop(log);
            house.kill();
        }
    }
}

#[test]
fn before_it_is_decided_the_swap_is_undone() {
    let (mut house, before, after, _) = one_swap();
    for part in [0, 100, usize::MAX] {
        let mut files = before.clone();
        for extension in [layout::LOG, layout::INDEX] {
            let name = format!("{:020}.{extension}", 0);
            let bytes = &after[&name];
            files.insert(format!("{name}{}", layout::CLEANED), bytes[..part.min(bytes.len())].to_vec());
        }
        lay(&house, &files);
        house.cut_power();
        let log = house.log();
        assert_eq!(log.corruption(), None);
        assert!(names_with(&house, layout::CLEANED).is_empty());
        assert!(log.sealed_segments().len() > 2);
        assert!(compact_all(&log).dropped > 0, "nothing was compacted yet");
        drop(log);
        house.kill();
    }
}

/// Two faults at once; the segments say enough of themselves.
#[test]
fn with_the_checkpoint_lost_a_compacted_log_is_found_again() {
    let (mut house, before, after, wanted) = one_swap();
    let swallowed: Vec<&String> = before.keys().filter(|name| !after.contains_key(*name)).collect();
    for (beside, left, index) in [
        (false, false, true),
        (false, true, true),
        (true, true, true),
        (true, false, true),
        (false, false, false),
    ] {
        let mut files = after.clone();
        files.remove(layout::CHECKPOINT).unwrap();
        if beside {
            for extension in [layout::LOG, layout::INDEX] {
                let name = format!("{:020}.{extension}", 0);
                let new = files.remove(&name).unwrap();
                files.insert(format!("{name}{}", layout::CLEANED), new);
            }
        }
        if !index {
            // And the snapshots with it, so that all is walked again.
            files.retain(|name, _| name.ends_with(layout::LOG));
        }
        if left {
            let left = swallowed.iter().filter(|name| index || name.ends_with(layout::LOG));
            files.extend(left.map(|name| ((*name).clone(), before[*name].clone())));
        }
        lay(&house, &files);
        house.cut_power();
        let log = house.log();
        let what = format!("beside {beside}, left {left}, index {index}");
        assert_eq!(log.corruption(), None, "{what}");
        assert_eq!(shown(&log), wanted, "{what}");
        super::model::check_indexes(&log);
        drop(log);
        house.kill();
        assert_eq!(shown(&house.log()), wanted, "{what}");
        house.kill();
    }
}

/// Three faults at once: what a segment was to swallow may also be all that there is of those offsets, if the last base offset of the
/// segment before it was changed. No file goes then.
#[test]
fn without_indexes_too_nothing_is_taken_for_swallowed() {
    let (mut house, before, after, wanted) = one_swap();
    let mut files = after.clone();
    files.retain(|name, _| name.ends_with(layout::LOG));
    let left = before.iter().filter(|(name, _)| name.ends_with(layout::LOG) && !after.contains_key(*name));
    files.extend(left.map(|(name, bytes)| (name.clone(), bytes.clone())));
    lay(&house, &files);
    house.cut_power();
    let log = house.log();
    assert!(log.corruption().is_some());
    let read = log.read(read_from(0)).unwrap();
    assert!(!read.bytes.is_empty());
    drop(log);
    house.kill();
    for (name, bytes) in files {
        assert_eq!(house.read_file(&house.log_folder().join(&name)), bytes, "{name}");
    }
    assert!(!wanted.is_empty());
}
