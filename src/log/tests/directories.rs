//! Data directories: locks, formats, many logs, strays, deletion.

use aquifer_model::fuzzing::of_next_version;
use aquifer_model::{ByteCount, TopicName};
use aquifer_runtime::files::Disk;

use super::super::*;
use super::harness::*;
use crate::config::Durability;

#[test]
fn a_directory_has_one_process_and_one_identity() {
    let mut house = House::new();
    let dir = house.dir();
    let uuid = dir.uuid();
    assert!(dir.was_clean());
    let error = house.try_open().unwrap_err();
    assert!(matches!(&error, OpenDirError::Locked(path) if path == house.folder.path()), "{error}");
    assert!(error.to_string().contains("in use by another process"));
    drop(dir);
    house.kill();
    assert_eq!((house.dir().uuid(), house.dir().was_clean()), (uuid, false));
    house.stop();
    assert!(house.dir().was_clean());
}

#[test]
fn what_a_newer_program_wrote_is_refused_and_left_alone() {
    let mut house = House::new();
    append(&house.log(), batch(1, 1, 1));
    house.stop();
    let format = house.folder.path().join(layout::FORMAT);
    for path in
        [house.log_folder().join(layout::CHECKPOINT), house.log_folder().join(layout::PARTITION), format]
    {
        let bytes = house.read_file(&path);
        let newer = of_next_version(&bytes);
        house.write_file(&path, &newer);
        let message = match house.try_open() {
            Err(error) => error.to_string(),
            Ok(_) => house.try_log().unwrap_err().to_string(),
        };
        assert!(message.contains("use a newer aquifer"), "{message}");
        house.kill();
        assert_eq!(house.read_file(&path), newer);
        house.write_file(&path, &bytes);
    }
    assert_eq!(house.log().end(), offset(1));
}

#[test]
fn a_folder_of_another_partition_is_not_opened() {
    let mut house = House::new();
    house.log();
    house.stop();
    let topics = house.log_folder().parent().unwrap().to_owned();
    Disk::host().rename(&house.log_folder(), &topics.join(partition(3).to_string())).unwrap();
    let wanted = house.wanted(3);
    let error = house.dir().open_or_create(wanted).unwrap_err();
    assert!(matches!(error, OpenLogError::Mismatch { found, .. } if found == partition(0)), "{error}");
}

#[test]
fn logs_are_found_opened_together_deleted_and_made_again() {
    let mut house = House::new();
    let wanted: Vec<Wanted> = (0..20).map(|number| house.wanted(number)).collect();
    for (opened, log) in house.dir().open_many(wanted.clone()) {
        let log = log.unwrap();
        assert_eq!(log.partition(), opened);
        append(&log, batch(opened.partition.0 as u64, 1 + opened.partition.0 as usize, 10));
    }
    house.stop();
    let dir = house.dir();
    let found = dir.found().unwrap();
    assert_eq!(found.len(), 20);
    assert!(found.iter().all(|found| found.topic == TopicName::new("orders").unwrap()));
    assert!(dir.get(partition(4)).is_none());
    let opened = dir.open_many(wanted);
    assert_eq!(opened.len(), 20);
    for (partition, log) in opened {
        assert_eq!(log.unwrap().end(), offset(1 + i64::from(partition.partition.0)));
    }
    let log = dir.get(partition(4)).unwrap();
    assert!(std::sync::Arc::ptr_eq(&log, &dir.open_or_create(house.wanted(4)).unwrap()));

    // One that is open, one that is not, one that was never there.
    dir.delete(partition(4)).unwrap();
    dir.delete(partition(4)).unwrap();
    dir.delete(partition(99)).unwrap();
    assert_eq!(log.append(client(batch(1, 1, 1), 0)), Err(AppendError::Closed));
    assert!(matches!(log.read(read_from(0)), Err(ReadError::Closed)));
    assert!(dir.get(partition(4)).is_none());
    assert_eq!(dir.found().unwrap().len(), 19);
    let again = dir.open_or_create(house.wanted(4)).unwrap();
    assert_eq!(again.end(), offset(0));
    drop((log, again, dir));
    house.kill();
    house.dir().delete(partition(5)).unwrap();
    assert_eq!(house.dir().found().unwrap().len(), 19);
    house.kill();
    // The next start removes what is left of the deleted.
    let topic = house.log_folder().parent().unwrap().to_owned();
    house.dir();
    house.wait("removal", || Disk::host().list(&topic).unwrap().len() == 19);
}

#[test]
fn nothing_is_taken_after_the_close() {
    let mut house = House::new();
    let log = house.log();
    append(&log, batch(1, 1, 1));
    house.dir().close().unwrap();
    house.dir().close().unwrap();
    assert_eq!(log.append(client(batch(1, 1, 1), 0)), Err(AppendError::Closed));
    assert!(matches!(log.truncate_to(offset(0)), Err(ChangeError::Closed)));
    assert!(house.try_log().is_ok(), "one that is open is given as it is");
    let wanted = house.wanted(1);
    assert!(matches!(house.dir().open_or_create(wanted), Err(OpenLogError::Failed)));
}

#[test]
fn a_restart_of_the_machine_is_dealt_with_even_if_the_process_dies_over_it() {
    let mut house = House::new();
    let pages = |house: &House| house.opened().pages();
    house.log();
    assert_eq!(pages(&house), damage::PageCache::PerhapsLost);
    house.kill();
    house.log();
    assert_eq!(pages(&house), damage::PageCache::Kept);
    house.cut_power();
    for _ in 0..2 {
        // Before any log was opened.
        house.dir();
        assert_eq!(pages(&house), damage::PageCache::PerhapsLost);
        house.kill();
    }
    house.log();
    assert_eq!(pages(&house), damage::PageCache::PerhapsLost);
    house.kill();
    house.log();
    assert_eq!(pages(&house), damage::PageCache::Kept);
}

/// A checkpoint each for thousands of small logs would keep a broker from stopping; that they have none must not show.
#[test]
fn what_was_closed_in_order_is_known_to_be_durable_without_a_sync() {
    let mut house = House::new();
    house.options.closing_reread_bytes_max = ByteCount::kib(64);
    append(&house.log(), batch(1, 3, 100));
    house.stop();
    let dir = house.dir();
    house.faults.fail_syncs(Some(std::io::ErrorKind::Other));
    let log = house.log();
    assert!(log.recovery().reread > ByteCount::ZERO);
    assert_eq!(log.offsets().synced, offset(3));
    assert!(dir.failure().borrow().is_none());
    house.faults.fail_syncs(None);
}

#[test]
fn what_a_kill_left_behind_is_durable_once_the_logs_are_open() {
    const LOGS: i32 = 40;
    let mut house = House::new();
    house.options.checkpoint_bytes = ByteCount::mib(1);
    house.config.durability = Durability::Replicated;
    let wanted: Vec<Wanted> = (0..LOGS).map(|number| house.wanted(number)).collect();
    for (_, log) in house.dir().open_many(wanted.clone()) {
        append(&log.unwrap(), batch(1, 3, 2000));
    }
    house.kill();
    for (partition, log) in house.dir().open_many(wanted) {
        let log = log.unwrap();
        assert!(log.recovery().reread > ByteCount::ZERO);
        assert_eq!((log.offsets().synced, log.end()), (offset(3), offset(3)), "{partition}");
    }
    house.kill();
    // Where the device fails over it, that is known before anybody leads.
    let dir = house.dir();
    let wanted = house.wanted(0);
    house.faults.fail_syncs(Some(std::io::ErrorKind::Other));
    dir.open_many(vec![wanted]);
    assert!(dir.failure().borrow().is_some());
    house.faults.fail_syncs(None);
}

#[test]
fn a_log_that_could_not_be_opened_after_a_kill_was_not_closed_in_order() {
    let mut house = House::new();
    append(&house.log(), batch(1, 3, 100));
    house.kill();
    let path = house.log_folder().join(layout::PARTITION);
    let bytes = house.read_file(&path);
    house.write_file(&path, &of_next_version(&bytes));
    assert!(house.try_log().is_err());
    house.stop();
    house.write_file(&path, &bytes);
    assert!(!house.dir().was_clean());
    house.log();
    house.stop();
    assert!(house.dir().was_clean());
    assert!(house.try_log().is_ok());
}

#[test]
fn deleting_a_log_that_is_being_synced_harms_no_other() {
    let mut house = House::new();
    house.config.segment_bytes = aquifer_model::ByteCount(500);
    house.config.file_delete_delay_ms = std::time::Duration::ZERO;
    let keeper = house.log();
    for round in 0..30 {
        let wanted = house.wanted(1 + round % 3);
        let log = house.dir().open_or_create(wanted).unwrap();
        for n in 0..5 {
            append(&log, batch(n, 1, 200));
            append(&keeper, batch(n, 1, 20));
        }
        house.dir().delete(log.partition()).unwrap();
    }
    house.settle(&keeper);
    assert_eq!(house.dir().failure().borrow().clone(), None);
    assert_eq!(house.dir().found().unwrap().len(), 1);
}
