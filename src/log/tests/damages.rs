//! Bytes that change on the disk below an open log: never served, found, mended.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::Path;
use std::sync::Arc;

use aquifer_model::batches::Batches;
use aquifer_model::{ByteCount, Offset, OffsetRange};
use aquifer_runtime::files::Disk;
use bytes::Bytes;

use super::super::*;
use super::harness::*;

/// A log of several closed segments.
fn filled(house: &mut House) -> Arc<Log> {
    house.config.segment_bytes = ByteCount(6000);
    let log = house.log();
    for n in 0..40u64 {
        append(&log, batch(n, 1 + n as usize % 3, [20, 300, 90, 700][n as usize % 4]));
    }
    house.settle(&log);
    assert!(log.sealed_segments().len() >= 3);
    log
}

/// Writes below the log, into the file that it has open.
fn poke(path: &Path, position: usize, bytes: &[u8]) {
    let file = Disk::host().open(path).unwrap();
    file.write_all_at(position as u64, &mut [IoSlice::new(bytes)]).unwrap();
}

/// Looks at one segment to its end.
fn look(log: &Arc<Log>, base: Offset) -> Looked {
    let mut examination = log.examine(base).unwrap().expect("there is such a segment");
    loop {
        match examination.go_on(ByteCount(1000)).unwrap() {
            Looked::More(_) => {}
            looked => return looked,
        }
    }
}

/// Writes a copy of a segment over it.
fn mend(log: &Arc<Log>, range: OffsetRange, copy: &[u8]) -> Result<(), MendError> {
    let mut mending = log.mend(range.base)?.expect("there is such a segment");
    for part in copy.chunks(700) {
        mending.write(&[Bytes::copy_from_slice(part)])?;
    }
    mending.finish()
}

#[test]
fn no_byte_that_changes_on_disk_is_served_nor_passed_over_in_silence() {
    let mut house = House::new();
    let log = filled(&mut house);
    let all = read_all(&log);
    let segment = log.sealed_segments()[1].clone();
    let path = house.file(segment.range.base.get(), layout::LOG);
    let sound = house.read_file(&path);
    let batches: Vec<(OffsetRange, std::ops::Range<usize>)> = Batches::new(&sound)
        .map(|located| {
            let range = OffsetRange { base: located.header.base_offset, next: located.header.next_offset() };
            (range, located.position..located.position + located.header.size())
        })
        .collect();
    let starts: BTreeMap<Offset, usize> =
        Batches::new(&all).map(|located| (located.header.base_offset, located.position)).collect();
    // All of each header, and some of each body.
    let places = batches.iter().flat_map(|(_, bytes)| {
        let body = (bytes.start + 61..bytes.end).step_by(97);
        (bytes.start..bytes.start + 61).chain(body)
    });
    for (n, at) in places.enumerate() {
        poke(&path, at, &[sound[at] ^ (1 << (n % 8))]);
        let hit = batches.iter().find(|(_, bytes)| bytes.contains(&at)).unwrap().0;
        assert!(matches!(log.read(read_from(hit.base.get())), Err(ReadError::Corrupt(_))), "byte {at}");
        // From every offset: what was written, or an error.
        for from in segment.range.base.get()..segment.range.next.get() {
            let Ok(slice) = log.read(read_from(from)) else { continue };
            assert!(!slice.bytes.is_empty(), "byte {at}, offset {from}: a reader would wait for ever");
            assert!(slice.range.next <= hit.base || slice.range.base >= hit.next, "byte {at}, offset {from}");
            assert!(all[starts[&slice.range.base]..].starts_with(&slice.bytes), "byte {at}, offset {from}");
        }
        assert!(matches!(look(&log, segment.range.base), Looked::Damaged(_)), "byte {at}");
        poke(&path, at, &sound[at..=at]);
        log.forget_damage(|_| true);
    }
    assert!(matches!(look(&log, segment.range.base), Looked::Sound(_)));
    assert_eq!(read_all(&log), all);
}

#[test]
fn a_damaged_segment_is_replaced_by_a_copy_of_it_and_by_nothing_else() {
    let mut house = House::new();
    let log = filled(&mut house);
    let (all, segments) = (read_all(&log), log.sealed_segments());
    let range = segments[1].range;
    let path = house.file(range.base.get(), layout::LOG);
    let sound = house.read_file(&path);
    let other = house.read_file(&house.file(segments[2].range.base.get(), layout::LOG));
    for damage in [None, Some(0), Some(900)] {
        match damage {
            Some(at) => poke(&path, at, b"something else"),
            // Cut short below an open log.
            None => Disk::host().open(&path).unwrap().set_size(ByteCount(500)).unwrap(),
        }
        assert!(matches!(look(&log, range.base), Looked::Damaged(found) if found.file == path));
        assert_eq!((log.damage().len(), log.damaged_segments()), (1, vec![range]));
        let half = sound[..sound.len() / 2].to_vec();
        let mut changed = sound.clone();
        changed[700] ^= 1;
        for wrong in [other.clone(), half, changed, [sound.clone(), other.clone()].concat()] {
            assert!(matches!(mend(&log, range, &wrong), Err(MendError::Copy { .. })));
            assert_eq!(log.damage().len(), 1);
        }
        mend(&log, range, &sound).unwrap();
        assert_eq!(log.damage(), []);
        assert!(matches!(look(&log, range.base), Looked::Sound(_)));
        assert!(read_all(&log) == all);
        assert!(house.read_file(&path) == sound);
    }
    house.kill();
    assert!(read_all(&house.log()) == all, "and after a restart");
}

#[test]
fn the_small_files_are_written_anew_from_what_they_are_made_from() {
    let mut house = House::new();
    let log = filled(&mut house);
    house.stop();
    drop(log);
    let log = house.log();
    let segment = log.sealed_segments()[1].clone();
    let base = segment.range.base;
    let looks = |log: &Arc<Log>| {
        log.examine_log_books().unwrap();
        log.examine_books(base).unwrap();
    };
    looks(&log);
    assert_eq!(log.damage(), []);
    let files = [
        house.file(base.get(), layout::INDEX),
        house.file(base.get(), layout::SNAPSHOT),
        house.log_folder().join(layout::CHECKPOINT),
        house.log_folder().join(layout::PARTITION),
    ];
    for file in files {
        let sound = house.read_file(&file);
        for at in [0, 5, 9, 13, 20, sound.len() - 1] {
            let mut changed = sound.clone();
            changed[at] ^= 4;
            house.write_file(&file, &changed);
            let before = log.shared.metrics.corruptions.get();
            looks(&log);
            let found = log.shared.metrics.corruptions.get() - before;
            assert_eq!((found, log.damage()), (1, vec![]), "{} byte {at}", file.display());
            assert_ne!(house.read_file(&file), changed, "{} byte {at}", file.display());
        }
    }
    // What they say now is what they said.
    let all = read_all(&log);
    house.kill();
    let log = house.log();
    assert_eq!((log.corruption(), log.recovery().findings.len()), (None, 0));
    assert!(read_all(&log) == all);
}

#[test]
fn what_is_trimmed_or_deleted_is_not_damaged_any_more() {
    let mut house = House::new();
    let log = filled(&mut house);
    let segment = log.sealed_segments()[0].clone();
    poke(&house.file(0, layout::LOG), 70, &[1, 2, 3, 4]);
    assert!(matches!(look(&log, segment.range.base), Looked::Damaged(_)));
    assert_eq!(log.damaged_segments(), [segment.range]);
    log.trim_local(segment.range.next).unwrap();
    assert_eq!((log.damage(), log.damaged_segments()), (vec![], vec![]));
    assert_eq!(log.shared.metrics.damaged_files.get(), 0);
}

#[test]
fn a_copy_that_is_given_up_leaves_nothing() {
    let mut house = House::new();
    let log = filled(&mut house);
    let range = log.sealed_segments()[1].range;
    let path = house.file(range.base.get(), layout::LOG);
    let sound = house.read_file(&path);
    // A checkpoint on its way has a name like theirs.
    let segment = path.file_name().unwrap().to_str().unwrap();
    let is_copy = |name: &str| name.starts_with(segment) && name.ends_with(layout::TEMPORARY);
    let copies = |house: &House| {
        let entries = Disk::host().list(&house.log_folder()).unwrap();
        entries.into_iter().filter(|entry| is_copy(&entry.name)).count()
    };
    poke(&path, 900, b"something else");
    assert!(matches!(look(&log, range.base), Looked::Damaged(_)));
    // The bucket went away.
    let mut mending = log.mend(range.base).unwrap().unwrap();
    mending.write(&[Bytes::copy_from_slice(&sound[..500])]).unwrap();
    assert_eq!(copies(&house), 1);
    drop(mending);
    house.wait("what is left of the copy is removed", || copies(&house) == 0);
    // The disk is full.
    house.faults.fail_writes(Some(std::io::ErrorKind::StorageFull));
    assert!(matches!(mend(&log, range, &sound), Err(MendError::Io { .. })));
    house.faults.fail_writes(None);
    house.wait("what is left of the copy is removed", || copies(&house) == 0);
    // It was the copy of something else.
    assert!(matches!(mend(&log, range, &sound[..500]), Err(MendError::Copy { .. })));
    house.wait("what is left of the copy is removed", || copies(&house) == 0);
    mend(&log, range, &sound).unwrap();
    assert_eq!(log.damage(), vec![]);
    house.wait("nothing is left of the copy", || copies(&house) == 0);
}

#[test]
fn a_log_that_is_deleted_while_it_is_looked_at_is_not_damaged() {
    let mut house = House::new();
    house.options.files_open_max = 2;
    let log = filled(&mut house);
    let bases = log.bases();
    let mut begun = log.examine(bases[0]).unwrap().unwrap();
    poke(&house.file(bases[0].get(), layout::LOG), 900, b"something else");
    poke(&house.file(bases[1].get(), layout::LOG), 900, b"something else");
    assert!(matches!(look(&log, bases[1]), Looked::Damaged(_)));
    assert_eq!(log.shared.metrics.damaged_files.get(), 1);
    house.dir().delete(log.partition()).unwrap();
    for base in bases {
        assert!(log.examine(base).unwrap().is_none());
        log.examine_books(base).unwrap();
    }
    log.examine_log_books().unwrap();
    assert_eq!(begun.go_on(ByteCount(u64::MAX)).unwrap(), Looked::Gone);
    // A reader that was under way.
    log.note_damage(&Corruption { file: log.path().join("x"), position: 0, what: "late".to_owned() });
    assert_eq!((log.damage(), log.shared.metrics.damaged_files.get()), (vec![], 0));
}

#[test]
fn what_is_sound_again_is_damaged_no_longer_and_every_byte_of_it_was_read() {
    let mut house = House::new();
    let log = filled(&mut house);
    let segment = log.sealed_segments()[1].clone();
    let path = house.file(segment.range.base.get(), layout::LOG);
    let sound = house.read_file(&path);
    poke(&path, 70, &[!sound[70]]);
    assert!(matches!(look(&log, segment.range.base), Looked::Damaged(_)));
    assert_eq!(log.damage().len(), 1);
    poke(&path, 70, &sound[70..71]);
    let mut examination = log.examine(segment.range.base).unwrap().unwrap();
    let mut told = ByteCount::ZERO;
    loop {
        match examination.go_on(ByteCount(1000)).unwrap() {
            Looked::More(bytes) => told += bytes,
            Looked::Sound(bytes) => break told += bytes,
            looked => panic!("{looked:?}"),
        }
    }
    assert_eq!((told, log.damage()), (segment.log_bytes, vec![]));
}
