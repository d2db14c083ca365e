//! What a power cut leaves and what it takes.

use std::path::Path;

use super::*;
use crate::files::host::Entry;

const DIR: &str = "/data";

fn disk(seed: u64) -> SimDisk {
    let disk = SimDisk::new(seed, ByteCount::mib(1));
    disk.create_dir_all(Path::new(DIR)).unwrap();
    disk
}

fn write(disk: &SimDisk, name: &str, at: u64, bytes: &[u8]) -> SimFile {
    let file = disk.open_or_create(&Path::new(DIR).join(name)).unwrap();
    file.write_all_at(at, &mut [io::IoSlice::new(bytes)]).unwrap();
    file
}

fn read(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
    disk.read_if_exists(&Path::new(DIR).join(name)).unwrap()
}

#[test]
fn what_was_synced_stays_and_of_the_rest_some_beginning_or_some_sectors() {
    let (mut lost, mut kept, mut torn, mut holes) = (0, 0, 0, 0);
    for seed in 0..400 {
        let disk = disk(seed);
        let file = write(&disk, "log", 0, &[1; 2048]);
        file.sync_data().unwrap();
        disk.sync_dir(Path::new(DIR)).unwrap();
        write(&disk, "log", 2048, &[2; 2048]);
        assert_eq!(file.size().unwrap(), ByteCount(4096));
        disk.power_cut();
        disk.power_on();
        assert!(file.size().is_err(), "an open file does not outlive the machine");
        let bytes = read(&disk, "log").unwrap();
        assert_eq!(bytes[..2048], [1; 2048]);
        let rest = &bytes[2048..];
        assert!(rest.chunks(512).all(|sector| sector.iter().all(|byte| *byte == sector[0])));
        match rest.len() {
            0 => lost += 1,
            2048 if rest.iter().all(|byte| *byte == 2) => kept += 1,
            _ if rest.contains(&0) => holes += 1,
            _ => torn += 1,
        }
    }
    assert!(lost > 0 && kept > 0 && torn > 0 && holes > 0, "{lost} {kept} {torn} {holes}");
}

#[test]
fn a_name_that_was_not_synced_may_go_and_a_rename_shows_the_old_or_the_new() {
    let (mut gone, mut there, mut old, mut new) = (0, 0, 0, 0);
    for seed in 0..200 {
        let disk = disk(seed);
        disk.write_atomic(&Path::new(DIR).join("note"), b"old").unwrap();
        write(&disk, "fresh", 0, b"x").sync_data().unwrap();
        disk.replace(&Path::new(DIR).join("note"), b"new").unwrap();
        disk.power_cut();
        disk.power_on();
        match read(&disk, "fresh") {
            None => gone += 1,
            Some(bytes) => {
                assert_eq!(bytes, b"x");
                there += 1;
            }
        }
        match read(&disk, "note").unwrap().as_slice() {
            b"old" => old += 1,
            b"new" => new += 1,
            other => panic!("{other:?}"),
        }
    }
    assert!(gone > 0 && there > 0 && old > 0 && new > 0, "{gone} {there} {old} {new}");
}

#[test]
fn a_failed_sync_drops_the_pages_and_the_next_one_lies() {
    let disk = disk(1);
    let file = write(&disk, "log", 0, b"first");
    file.sync_data().unwrap();
    disk.sync_dir(Path::new(DIR)).unwrap();
    write(&disk, "log", 0, b"other");
    disk.fail_sync();
    assert!(file.sync_data().is_err());
    file.sync_data().unwrap();
    assert_eq!(read(&disk, "log").unwrap(), b"other");
    disk.power_cut();
    disk.power_on();
    assert_eq!(read(&disk, "log").unwrap(), b"first");
}

#[test]
fn pages_whose_sync_failed_are_forgotten_when_asked_and_dirty_ones_are_not() {
    let disk = disk(1);
    let file = write(&disk, "log", 0, b"first");
    file.sync_data().unwrap();
    write(&disk, "log", 0, b"other");
    disk.fail_sync();
    assert!(file.sync_data().is_err());
    write(&disk, "log", 5, b"+dirty");
    file.forget_clean_pages();
    assert_eq!(read(&disk, "log").unwrap(), b"first+dirty");
}

#[test]
fn a_full_disk_takes_what_it_can_and_a_broken_one_half() {
    let disk = disk(1);
    disk.resize(ByteCount(100));
    let file = disk.create_new(&Path::new(DIR).join("log")).unwrap();
    let error = file.write_all_at(0, &mut [io::IoSlice::new(&[1; 150])]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.size().unwrap(), ByteCount(100));
    disk.resize(ByteCount::mib(1));
    disk.fail_write();
    assert!(file.write_all_at(100, &mut [io::IoSlice::new(&[1; 50])]).is_err());
    assert_eq!(file.size().unwrap(), ByteCount(125));
}

#[test]
fn the_power_goes_at_the_operation_asked_for() {
    for (moment, size) in [(Moment::Before, 0), (Moment::Within, 5), (Moment::After, 10)] {
        let disk = disk(1);
        let file = disk.create_new(&Path::new(DIR).join("log")).unwrap();
        disk.stop_at(disk.counts().operations + 1, moment);
        assert!(file.write_all_at(0, &mut [io::IoSlice::new(&[1; 10])]).is_err());
        assert!(disk.is_off() && file.size().is_err());
        let state = disk.0.lock();
        assert_eq!(state.contents.values().map(Content::size).sum::<u64>(), size, "{moment:?}");
    }
}

#[test]
fn folders_are_listed_renamed_and_removed_whole_and_a_lock_excludes() {
    let disk = disk(1);
    let (a, b) = (Path::new("/data/a"), Path::new("/data/b"));
    disk.create_dir_all(&a.join("deep")).unwrap();
    write(&disk, "a/one", 0, b"1");
    write(&disk, "a/deep/two", 0, b"2");
    disk.rename(a, b).unwrap();
    let entry = |name: &str, is_dir| Entry { name: name.to_owned(), is_dir };
    assert_eq!(disk.list(b).unwrap(), [entry("deep", true), entry("one", false)]);
    assert!(disk.is_dir(&b.join("deep")) && !disk.is_dir(&b.join("one")) && !disk.exists(a).unwrap());
    assert!(disk.create_new(&a.join("none")).is_err(), "no such folder");
    let held = disk.lock(&b.join("lock")).unwrap();
    assert!(held.is_some() && disk.lock(&b.join("lock")).unwrap().is_none());
    drop(held);
    assert!(disk.lock(&b.join("lock")).unwrap().is_some());
    disk.remove_dir_all(b).unwrap();
    assert!(disk.list(Path::new(DIR)).unwrap().is_empty());
    let copy = disk.duplicate();
    write(&disk, "mine", 0, b"x");
    assert!(copy.list(Path::new(DIR)).unwrap().is_empty());
}

#[test]
fn the_same_seed_leaves_the_same_bytes() {
    let run = |seed| {
        let disk = disk(seed);
        for n in 0..20u8 {
            write(&disk, &format!("log-{}", n % 3), u64::from(n) * 700, &[n; 1500]);
            if n % 5 == 0 {
                disk.sync_dir(Path::new(DIR)).unwrap();
            }
        }
        disk.power_cut();
        disk.power_on();
        disk.fingerprint()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
