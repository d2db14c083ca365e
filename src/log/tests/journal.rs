//! The journal: what only it has after a power cut is there again, and what is void of it is not.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use aquifer_model::ByteCount;
use aquifer_runtime::files::Disk;

use super::super::checkpoint::DirectoryFile;
use super::super::*;
use super::harness::*;

/// A house whose logs are synced by the journal alone, but where they must be.
fn house() -> House {
    let mut house = House::new();
    house.journal();
    house.options.journal_bytes = ByteCount::mib(1);
    house.options.checkpoint_bytes = ByteCount::mib(16);
    house.config.segment_bytes = ByteCount::mib(16);
    house
}

/// The logs of so many partitions, the journal made.
fn logs(house: &mut House, count: i32) -> Vec<Arc<Log>> {
    let wanted = (0..count).map(|number| house.wanted(number)).collect();
    let mut logs: Vec<Arc<Log>> =
        house.dir().open_many(wanted).into_iter().map(|(_, log)| log.unwrap()).collect();
    logs.sort_by_key(|log| log.partition().partition);
    // The first one that waits is worth it here.
    let journal = journal(house, 0);
    let is_in_use = || {
        append(&logs[0], batch(0, 1, 10));
        house.settle(&logs[0]);
        let bytes = Disk::host().read_if_exists(&journal).unwrap();
        bytes.is_some_and(|bytes| bytes.get(4096..).is_some_and(|bytes| bytes.starts_with(b"AQJE")))
    };
    while !is_in_use() {}
    logs
}

fn journal(house: &House, file: usize) -> PathBuf {
    house.folder.path().join(layout::JOURNAL).join(layout::JOURNAL_FILES[file])
}

fn is_journaled(house: &House) -> bool {
    DirectoryFile::decode(&house.read_file(&house.folder.path().join(layout::FORMAT))).unwrap().is_journaled
}

/// Does to a log's open segment the worst that a power cut can: of what was not synced there nothing stays, or with `as_zeros` only
/// the length. Gives how much that was.
#[track_caller]
fn lose(house: &House, partition: i32, as_zeros: bool) -> usize {
    let folder = house.log_folder().with_file_name(super::harness::partition(partition).to_string());
    let names = Disk::host().list(&folder).unwrap();
    let last = names.iter().filter(|entry| entry.name.ends_with(layout::LOG)).map(|entry| &entry.name).max();
    let path = folder.join(last.unwrap());
    let mut bytes = house.read_file(&path);
    let (size, kept) = (bytes.len(), house.faults.synced_bytes(&path) as usize);
    let kept = kept.min(size);
    if as_zeros {
        bytes[kept..].fill(0);
    } else {
        bytes.truncate(kept);
    }
    house.write_file(&path, &bytes);
    size - kept
}

/// Appends to each log, and has all of it synced, a few times over.
fn fill(house: &House, logs: &[Arc<Log>], rounds: u64) {
    for round in 0..rounds {
        for (seed, log) in logs.iter().enumerate() {
            append(log, batch(round * 100 + seed as u64, 2, 300));
        }
        logs.iter().for_each(|log| house.settle(log));
    }
}

#[track_caller]
fn check_reopened(house: &mut House, expected: &[Vec<u8>]) {
    let wanted = (0..expected.len() as i32).map(|number| house.wanted(number)).collect();
    for (partition, log) in house.dir().open_many(wanted) {
        let log = log.unwrap();
        assert_eq!(log.corruption(), None);
        assert!(read_all(&log) == expected[partition.partition.0 as usize], "{partition}");
    }
}

#[test]
fn what_the_journal_alone_had_is_there_again() {
    for as_zeros in [false, true] {
        let mut house = house();
        let logs = logs(&mut house, 5);
        fill(&house, &logs, 4);
        let expected: Vec<_> = logs.iter().map(|log| read_all(log)).collect();
        drop(logs);
        house.kill();
        let lost: usize = (0..5).map(|partition| lose(&house, partition, as_zeros)).sum();
        assert!(lost > expected[4].len(), "{lost} bytes were in the journal alone");
        house.cut_power();
        check_reopened(&mut house, &expected);
        // And all of it is where it belongs by now, synced.
        house.kill();
        Disk::host().remove_dir_all(&house.folder.path().join(layout::JOURNAL)).unwrap();
        for partition in 0..5 {
            lose(&house, partition, as_zeros);
        }
        house.cut_power();
        check_reopened(&mut house, &expected);
    }
}

#[test]
fn a_torn_envelope_was_never_told_and_a_damaged_one_is_no_torn_tail() {
    for damage_last in [true, false] {
        let mut house = house();
        let logs = logs(&mut house, 2);
        fill(&house, &logs[1..], 1);
        let first = read_all(&logs[1]);
        fill(&house, &logs[1..], 2);
        let all = read_all(&logs[1]);
        drop(logs);
        house.kill();
        let journal = journal(&house, 0);
        let mut bytes = house.read_file(&journal);
        let is_whole = |block: &&[u8]| block.starts_with(b"AQJE");
        let envelopes = bytes.chunks(4096).position(|block| !is_whole(&block)).unwrap();
        assert!(envelopes >= 3, "{envelopes} envelopes, one block each");
        let damaged = if damage_last { envelopes - 1 } else { envelopes - 2 };
        bytes[damaged * 4096 + 500] ^= 1;
        house.write_file(&journal, &bytes);
        assert!(lose(&house, 1, false) > 0);
        house.cut_power();
        let wanted = house.wanted(1);
        let log = house.dir().open_many(vec![wanted]).pop().unwrap().1.unwrap();
        if damage_last {
            assert_eq!(log.corruption(), None);
            let kept = read_all(&log);
            assert!(kept.len() > first.len() && all.starts_with(&kept) && kept.len() < all.len());
        } else {
            let corruption = log.corruption().expect("what was acknowledged is gone").clone();
            assert!(corruption.what.contains("was acknowledged"), "{corruption}");
            assert_eq!(read_all(&log), first);
            assert!(log.append(client(batch(9, 1, 10), 0)).is_err());
            // Nothing in the log's bytes says so, and the journal is empty by now.
            drop(log);
            let log = again(&mut house, 1);
            assert_eq!(log.corruption().unwrap().what, corruption.what);
            log.discard_corrupt_tail().unwrap();
            append(&log, batch(9, 1, 10));
            drop(log);
            let log = again(&mut house, 1);
            assert_eq!(log.corruption(), None);
            log.truncate_to(offset(1)).unwrap();
        }
    }
}

/// The log of one partition after a kill.
fn again(house: &mut House, partition: i32) -> Arc<Log> {
    house.kill();
    let wanted = house.wanted(partition);
    house.dir().open_many(vec![wanted]).pop().unwrap().1.unwrap()
}

/// Nothing at the start of the one file that was filled is no sign that nothing was written.
#[test]
fn what_follows_a_damaged_start_of_the_journal_is_found() {
    let mut house = house();
    let logs = logs(&mut house, 3);
    fill(&house, &logs, 3);
    let expected: Vec<_> = logs.iter().map(|log| read_all(log)).collect();
    drop(logs);
    house.kill();
    let journal = journal(&house, 0);
    let mut bytes = house.read_file(&journal);
    bytes[..4096].fill(0);
    house.write_file(&journal, &bytes);
    let lost: usize = (0..3).map(|partition| lose(&house, partition, false)).sum();
    assert!(lost > 0);
    house.cut_power();
    check_reopened(&mut house, &expected);
}

/// A house of two logs that were filled and killed: harm was done to its journal, the second log's tail is torn, and the power cut.
fn torn_after(harm: impl FnOnce(&House)) -> House {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs, 2);
    let all = read_all(&logs[1]);
    drop(logs);
    house.kill();
    harm(&house);
    let log = house.log_folder().with_file_name(partition(1).to_string());
    let log = layout::segment_file(&log, offset(0), layout::LOG);
    house.write_file(&log, &all[..all.len() - 5]);
    house.cut_power();
    house
}

/// Its first envelope says how long it was; of a file without one, the other's does; and one of them always has one.
#[test]
fn a_journal_that_has_lost_its_end_is_no_shorter_one() {
    for (left, of_both) in [(0, false), (0, true), (4096, false), (4096 + 100, true)] {
        let mut house = torn_after(|house| {
            let mut files: Vec<_> = (0..2).map(|file| journal(house, file)).collect();
            // The one that has more in it is the last.
            files.sort_by_key(|file| {
                let bytes = house.read_file(file);
                bytes.len() - bytes.iter().rev().take_while(|byte| **byte == 0).count()
            });
            for file in files.iter().skip(if of_both { 0 } else { 1 }) {
                house.write_file(file, &house.read_file(file)[..left]);
            }
        });
        assert!(again(&mut house, 1).corruption().is_some(), "{left} bytes left, of both: {of_both}");
    }
}

/// A directory that had a journal and has none any more may have lost what nobody sees.
#[test]
fn with_the_journal_gone_no_torn_tail_is_cut() {
    let mut house = torn_after(|house| {
        Disk::host().remove_dir_all(&house.folder.path().join(layout::JOURNAL)).unwrap();
    });
    for _ in 0..2 {
        let log = again(&mut house, 1);
        assert!(log.corruption().is_some());
        assert!(
            house
                .read_file(&house.log_folder().with_file_name(partition(1).to_string()).join(layout::LOST))
                .len()
                > 5
        );
    }
}

/// Closed before its first checkpoint, a segment is still all in the journal.
#[test]
fn a_segment_that_was_closed_and_never_synced_is_there_again() {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs, 3);
    let expected: Vec<_> = logs.iter().map(|log| read_all(log)).collect();
    let end = logs[1].end().get();
    drop(logs);
    house.kill();
    assert!(lose(&house, 1, false) > 0);
    // A name may reach the device before the bytes of the segment that it follows.
    let folder = house.log_folder().with_file_name(partition(1).to_string());
    assert!(!Disk::host().exists(&folder.join(layout::CHECKPOINT)).unwrap());
    house.write_file(&layout::segment_file(&folder, offset(end), layout::LOG), &[]);
    house.cut_power();
    check_reopened(&mut house, &expected);
}

/// Of a log whose checkpoint is damaged nobody knows what was cut off: what the journal has of it only fills what is missing.
#[test]
fn what_may_have_been_cut_off_overwrites_nothing() {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs, 3);
    logs[1].truncate_to(offset(2)).unwrap();
    let more = batch(60, 2, 300);
    append(&logs[1], more);
    let expected = read_all(&logs[1]);
    drop(logs);
    house.kill();
    let folder = house.log_folder().with_file_name(partition(1).to_string());
    let path = folder.join(layout::CHECKPOINT);
    let mut checkpoint = house.read_file(&path);
    checkpoint[20] ^= 1;
    house.write_file(&path, &checkpoint);
    let log = again(&mut house, 1);
    assert!(read_all(&log).starts_with(&expected));
}

/// With a part of the journal gone, bytes that never reached their file are no torn tail, for they may have been acknowledged.
#[test]
fn a_hole_that_a_damaged_journal_should_have_filled_is_damage() {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs[1..], 3);
    let all = read_all(&logs[1]);
    drop(logs);
    house.kill();
    let journal = journal(&house, 0);
    let mut bytes = house.read_file(&journal);
    let envelopes = bytes.chunks(4096).position(|block| !block.starts_with(b"AQJE")).unwrap();
    bytes[(envelopes - 2) * 4096 + 500] ^= 1;
    house.write_file(&journal, &bytes);
    let lost = lose(&house, 1, true);
    assert!(lost > all.len() / 2, "{lost}");
    // The envelope before the damaged one puts its own back.
    house.cut_power();
    let wanted = house.wanted(1);
    let log = house.dir().open_many(vec![wanted]).pop().unwrap().1.unwrap();
    assert!(log.corruption().is_some());
    let kept = read_all(&log);
    assert!(kept.len() < all.len() && all.starts_with(&kept));
    assert!(log.append(client(batch(9, 1, 10), 0)).is_err());
}

#[test]
fn what_was_cut_off_does_not_come_back() {
    let mut house = house();
    let logs = logs(&mut house, 3);
    fill(&house, &logs, 3);
    // A cut, with and without something behind it; and a log that starts anew.
    logs[1].truncate_to(offset(2)).unwrap();
    logs[2].truncate_to(offset(4)).unwrap();
    append(&logs[2], batch(77, 1, 20));
    house.settle(&logs[2]);
    logs[0]
        .restart_at(Restart {
            at: offset(100),
            log_start: offset(0),
            epochs: Default::default(),
            producers: Default::default(),
        })
        .unwrap();
    append(&logs[0], batch(78, 1, 20));
    house.settle(&logs[0]);
    let expected: Vec<_> = logs.iter().map(|log| read_all(log)).collect();
    drop(logs);
    house.kill();
    let lost: usize = (0..3).map(|partition| lose(&house, partition, false)).sum();
    assert!(lost > 0, "what was appended behind the cut went through the journal");
    house.cut_power();
    check_reopened(&mut house, &expected);
}

#[test]
fn a_log_that_was_made_again_has_nothing_of_the_one_before() {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs, 3);
    house.dir().delete(partition(1)).unwrap();
    let wanted = house.wanted(1);
    let again = house.dir().open_many(vec![wanted]).pop().unwrap().1.unwrap();
    let only = batch(50, 1, 20);
    append(&again, only.clone());
    house.settle(&again);
    let expected = [read_all(&logs[0]), read_all(&again)];
    assert_eq!(expected[1], placed(&only, 0, 0));
    drop((logs, again));
    house.kill();
    lose(&house, 1, false);
    house.cut_power();
    check_reopened(&mut house, &expected);
}

#[test]
fn files_are_filled_in_turns_and_nothing_is_forgotten_that_is_not_synced() {
    let mut house = house();
    house.journal();
    let logs = logs(&mut house, 8);
    let mut starts = BTreeSet::new();
    for round in 0..40 {
        for (seed, log) in logs.iter().enumerate() {
            append(log, batch(round * 100 + seed as u64, 2, 500));
        }
        logs.iter().for_each(|log| house.settle(log));
        starts.insert(house.read_file(&journal(&house, 0))[..64].to_vec());
    }
    assert!(starts.len() > 3, "the first file was filled {} times", starts.len());
    // A turn may have had all of it synced just now.
    let last = layout::segment_file(&house.log_folder(), offset(0), layout::LOG);
    let is_settled = || house.faults.synced_bytes(&last) == house.read_file(&last).len() as u64;
    let mut expected: Vec<_> = logs.iter().map(|log| read_all(log)).collect();
    while is_settled() {
        append(&logs[0], batch(7, 1, 10));
        house.settle(&logs[0]);
        expected[0] = read_all(&logs[0]);
    }
    drop(logs);
    house.kill();
    let lost: usize = (0..8).map(|partition| lose(&house, partition, false)).sum();
    assert!(lost > 0);
    house.cut_power();
    check_reopened(&mut house, &expected);
}

#[test]
fn a_journal_of_another_size_is_put_where_it_belongs_and_goes() {
    for bytes in [0, 128 << 10] {
        let mut house = house();
        let logs = logs(&mut house, 2);
        fill(&house, &logs, 2);
        let expected: Vec<_> = logs.iter().map(|log| read_all(log)).collect();
        assert!(is_journaled(&house), "older programs are kept out");
        drop(logs);
        house.kill();
        assert!(lose(&house, 1, false) > 0);
        house.cut_power();
        house.options.journal_bytes = ByteCount(bytes);
        check_reopened(&mut house, &expected);
        if bytes == 0 {
            let wanted = house.wanted(0);
            let log = house.dir().open_many(vec![wanted]).pop().unwrap().1.unwrap();
            fill(&house, &[log], 3);
            assert!(!Disk::host().exists(&house.folder.path().join(layout::JOURNAL)).unwrap());
            assert!(!is_journaled(&house));
        } else {
            // By now somebody has waited.
            let made = journal(&house, 1);
            house.wait("the new one", || Disk::host().size_of(&made).unwrap() == Some(ByteCount(bytes / 2)));
        }
        house.stop();
    }
}

#[test]
fn without_room_for_a_journal_logs_are_synced_by_themselves() {
    let mut house = house();
    house.options.journal_bytes = ByteCount::mib(1 << 40);
    let wanted = (0..3).map(|number| house.wanted(number)).collect();
    let logs: Vec<_> = house.dir().open_many(wanted).into_iter().map(|(_, log)| log.unwrap()).collect();
    fill(&house, &logs, 3);
    house.wait("the refusal", || logs[0].shared.metrics.journal_missing.get() == 1);
    fill(&house, &logs, 1);
    assert!(!Disk::host().exists(&journal(&house, 0)).unwrap());
    assert!(!is_journaled(&house));
}

#[test]
fn a_failed_sync_of_the_journal_ends_the_directory() {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs, 1);
    let failure = house.dir().failure();
    house.faults.fail_syncs(Some(ErrorKind::Other));
    let (before, synced) = (logs[1].end(), logs[1].synced());
    append(&logs[1], batch(5, 1, 10));
    logs[1].flush();
    house.wait("the failure", || failure.borrow().is_some());
    let failure = failure.borrow().clone().unwrap();
    assert!(failure.what.contains("journal"), "{failure}");
    assert_eq!(*synced.borrow(), before, "nobody is told");
    house.faults.fail_syncs(None);
}

#[test]
fn a_journal_of_a_newer_program_keeps_the_directory_shut() {
    let mut house = house();
    let logs = logs(&mut house, 2);
    fill(&house, &logs, 1);
    drop(logs);
    house.kill();
    let path = journal(&house, 0);
    let bytes = house.read_file(&path);
    let length = u32::from_be_bytes(bytes[8..12].try_into().unwrap()) as usize + 16;
    let newer = aquifer_model::fuzzing::of_next_version(&bytes[..length]);
    house.write_file(&path, &[&newer[..], &bytes[length..]].concat());
    let error = house.try_open().unwrap_err();
    assert!(error.to_string().contains("journal envelope has version 2"), "{error}");
    // After a stop in order there is nothing in it that anybody needs.
    house.write_file(&path, &bytes);
    let wanted = (0..2).map(|number| house.wanted(number)).collect();
    house.dir().open_many(wanted);
    house.stop();
    house.write_file(&path, &[&newer[..], &bytes[length..]].concat());
    house.try_open().unwrap();
}
