//! What is lent is what a read gives, and nothing is lent of which it is not known.

use std::io::IoSlice;
use std::sync::Arc;

use aquifer_model::batches::Batches;
use aquifer_model::{ByteCount, OffsetRange};
use aquifer_runtime::files::{Disk, Lent};

use super::super::*;
use super::harness::*;

/// Larger than what is judged too small to be walked.
const VALUE: usize = 5_000;

fn lending(least: u64) -> House {
    let mut house = House::new();
    house.options.lend_bytes_min = ByteCount(least);
    house.config.segment_bytes = ByteCount::mib(1);
    house
}

fn filled(house: &mut House, batches: u64) -> Arc<Log> {
    let log = house.log();
    for n in 0..batches {
        append(&log, batch(n, 1 + n as usize % 3, VALUE));
    }
    log
}

/// What was lent, and `None` if it was read.
fn lent(log: &Arc<Log>, read: Read) -> Option<Arc<Lent>> {
    match log.lend_in_memory(read).unwrap()?.bytes {
        Stored::Lent(lent) => Some(lent),
        Stored::Here(_) => None,
    }
}

/// As it lies in the file, without a look at it.
fn as_sent(lent: &Lent) -> Vec<u8> {
    assert!(lent.is_sound(0, lent.count()));
    lent.file().read_at(lent.position(0), lent.count()).unwrap()
}

#[test]
fn what_is_lent_is_what_a_read_gives() {
    let mut house = lending(1);
    house.config.segment_bytes = ByteCount::kib(64);
    let log = filled(&mut house, 40);
    assert!(log.sealed_segments().len() >= 2);
    let (end, bases) = (log.end().get(), house.bases().len());
    let (mut lent, mut read) = (0, 0);
    for from in 0..=end {
        for until in [from, from + 1, from + 7, end - 1, i64::MAX] {
            for bytes_max in [0, 100, 6_000, 40_000, 1 << 20] {
                for at_least in [AtLeast::Nothing, AtLeast::OneBatch] {
                    let (until, bytes_max) = (offset(until.max(0)), ByteCount(bytes_max));
                    let request = Read { until, bytes_max, at_least, ..read_from(from) };
                    // Once a segment's index is on disk alone, a read brings it back.
                    let (expected, given) = (0..bases)
                        .find_map(|_| {
                            Some((log.read(request).unwrap(), log.lend_in_memory(request).unwrap()?))
                        })
                        .expect("it is in memory");
                    assert_eq!(given.range, expected.range, "{request:?}");
                    assert_eq!(given.bytes.len(), expected.bytes.len(), "{request:?}");
                    match &given.bytes {
                        Stored::Here(bytes) => assert!(*bytes == expected.bytes, "{request:?}"),
                        Stored::Lent(lent) => assert!(as_sent(lent) == expected.bytes, "{request:?}"),
                    }
                    match given.bytes {
                        Stored::Lent(_) => lent += 1,
                        Stored::Here(bytes) if !bytes.is_empty() => {
                            assert_eq!(bytes_max, ByteCount::ZERO, "{request:?}");
                            read += 1;
                        }
                        Stored::Here(_) => {}
                    }
                }
            }
        }
    }
    assert!(lent > 1_000 && read > 0, "{lent} lent, {read} read");
}

#[test]
fn what_is_short_or_of_small_batches_or_not_to_be_lent_is_read() {
    let mut house = lending(20_000);
    let log = filled(&mut house, 5);
    assert!(
        lent(&log, Read { bytes_max: ByteCount(19_999), ..read_from(0) }).is_none(),
        "too little is wished"
    );
    assert!(lent(&log, read_from(7)).is_none(), "too little is there");
    assert_eq!(lent(&log, read_from(0)).unwrap().count() as u64, log.size().get());
    for n in 0..200 {
        append(&log, batch(n, 1, 150));
    }
    let from = log.end().get() - 195;
    assert!(lent(&log, read_from(from)).is_none(), "the batches are small");

    let mut house = lending(0);
    let log = filled(&mut house, 20);
    assert!(lent(&log, read_from(0)).is_none(), "nothing is ever lent");
}

#[test]
fn after_a_start_all_is_looked_at_once() {
    let mut house = lending(1);
    filled(&mut house, 10);
    house.stop();
    let log = house.log();
    let whole = log.read(read_from(0)).unwrap();
    assert!(whole.range.next.get() > 3);
    assert!(lent(&log, read_from(whole.range.next.get())).is_none(), "nobody has looked at it");
    assert!(as_sent(&lent(&log, read_from(0)).unwrap()) == whole.bytes, "it was read, and is sound");
    append(&log, batch(1, 1, VALUE));
    let last = log.end().get() - 1;
    assert!(lent(&log, read_from(last)).is_some(), "it was written by this process");
}

/// What the device has to be waited for is looked at in pieces, and lent like anything else.
#[test]
fn what_is_not_in_memory_is_verified_and_then_lent() {
    let mut house = lending(1);
    let log = filled(&mut house, 80);
    house.settle(&log);
    let request = read_from(3);
    let file = lent(&log, request).unwrap().file().clone();
    let whole = log.read(request).unwrap();
    assert!(whole.bytes.len() > 600 << 10, "several pieces");
    file.forget_clean_pages();
    assert!(log.lend_in_memory(request).unwrap().is_none(), "the device has to be waited for");
    let given = log.lend(request).unwrap();
    let Stored::Lent(all) = &given.bytes else { panic!("it was read") };
    assert_eq!(given.range, whole.range);
    assert!(as_sent(all) == whole.bytes);
    // Damage on the device: all before it, and whoever begins at it is told.
    file.forget_clean_pages();
    let path = house.file(0, layout::LOG);
    let sound = house.read_file(&path);
    let hit = Batches::new(&sound).nth(60).unwrap();
    let at = hit.position + 100;
    let device = Disk::host().open(&path).unwrap();
    device.write_all_at(at as u64, &mut [IoSlice::new(&[!sound[at]])]).unwrap();
    device.sync_data().unwrap();
    device.forget_clean_pages();
    let given = log.lend(request).unwrap();
    assert_eq!(given.range.next, hit.header.base_offset);
    let Stored::Lent(before) = &given.bytes else { panic!("it was read") };
    assert!(as_sent(before) == whole.bytes[..before.count()]);
    let at = read_from(hit.header.base_offset.get());
    assert!(matches!(log.lend(at), Err(ReadError::Corrupt(_))));
    assert_eq!(log.damage().len(), 1);

    let mut house = lending(1);
    let log = house.log();
    for n in 0..500 {
        append(&log, batch(n, 1, 150));
    }
    house.settle(&log);
    Disk::host().open(&house.file(0, layout::LOG)).unwrap().forget_clean_pages();
    let given = log.lend(read_from(0)).unwrap();
    assert!(matches!(given.bytes, Stored::Here(_)), "the batches are small");
    assert!(!given.bytes.is_empty());
}

#[test]
fn what_has_left_memory_is_looked_at_again() {
    let mut house = lending(1);
    let log = filled(&mut house, 10);
    house.settle(&log);
    let request = read_from(0);
    let (before, beside) = (lent(&log, request).unwrap(), lent(&log, request).unwrap());
    let (file, bytes) = (before.file().clone(), as_sent(&before));
    let count = before.count();
    file.forget_clean_pages();
    assert!(!before.is_sound(0, count), "the file system of the tests keeps what it was told to forget");
    assert!(log.lend_in_memory(request).unwrap().is_none(), "the device has to be waited for");
    // Somebody brings it back who does not verify it.
    assert_eq!(file.read_at(0, count).unwrap().len(), count);
    assert!(file.is_cached(0, count as u64).unwrap() && !before.is_sound(0, count));
    assert!(lent(&log, request).is_none(), "nobody knows what it is");
    assert!(as_sent(&lent(&log, request).unwrap()) == bytes, "that look was enough");
    // What was lent before, and is still to be sent.
    file.forget_clean_pages();
    assert!(before.read().unwrap() == bytes);
    assert!(before.is_sound(0, count) && beside.is_sound(0, count), "it was verified");
}

#[test]
fn what_was_damaged_on_the_device_is_not_served() {
    let mut house = lending(1);
    let log = filled(&mut house, 10);
    house.settle(&log);
    let (before, beside) = (lent(&log, read_from(0)).unwrap(), lent(&log, read_from(0)).unwrap());
    let (file, path) = (before.file().clone(), before.file().path().to_owned());
    let first = log.read(Read { bytes_max: ByteCount::ZERO, ..read_from(0) }).unwrap();
    let position = first.bytes.len() as u64 + 100;
    let [byte] = file.read_at(position, 1).unwrap()[..] else { panic!("it is one byte") };
    file.write_all_at(position, &mut [std::io::IoSlice::new(&[byte ^ 1])]).unwrap();
    file.sync_data().unwrap();
    file.forget_clean_pages();
    let error = before.read().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidData);
    assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    assert_eq!(log.damage().len(), 1, "whoever mends knows of it");
    assert!(file.is_cached(0, before.count() as u64).unwrap());
    assert!(!beside.is_sound(0, beside.count()), "and nobody else sends it");
    assert!(lent(&log, read_from(0)).is_none(), "it has come back from the device");
    let given = lent(&log, read_from(0)).unwrap();
    assert_eq!(given.count(), first.bytes.len(), "what lies before the damage, and nothing of it");
    assert!(matches!(log.lend_in_memory(read_from(first.range.next.get())), Err(ReadError::Corrupt(_))));
}

/// Those who go through a whole segment bring back what has left memory.
#[test]
fn what_others_bring_back_is_not_known_and_what_they_find_in_memory_is() {
    let mut house = lending(1);
    let log = filled(&mut house, 20);
    house.settle(&log);
    let request = read_from(0);
    log.read(request).unwrap();
    let file = lent(&log, request).unwrap().file().clone();
    for is_in_memory in [true, false] {
        if !is_in_memory {
            file.sync_data().unwrap();
            file.forget_clean_pages();
        }
        let scrubbed = log.examine_whole(log.bases()[0]).unwrap();
        assert!(matches!(scrubbed, Looked::Sound(_)), "{scrubbed:?}");
        assert_eq!(lent(&log, request).is_some(), is_in_memory);
    }
    // Of two who read at a time neither knows, and a checkpoint may read as well.
    assert!((0..50).any(|_| log.read(request).is_ok() && lent(&log, request).is_some()));
}

#[test]
fn what_was_cut_is_not_lent() {
    let mut house = lending(1);
    let log = filled(&mut house, 6);
    let end = log.end();
    let whole = lent(&log, read_from(0)).unwrap();
    assert_eq!(whole.count() as u64, log.size().get());
    let middle = log.read(Read { bytes_max: ByteCount::kib(20), ..read_from(0) }).unwrap().range.next;
    assert!(middle < end);
    log.truncate_to(middle).unwrap();
    assert!(!whole.is_sound(0, whole.count()));
    for n in 0..3 {
        append(&log, batch(100 + n, 1, VALUE));
    }
    let from_middle = log.read(read_from(middle.get())).unwrap();
    let given = log.lend_in_memory(read_from(middle.get())).unwrap().unwrap();
    assert_eq!(given.range, from_middle.range);
    assert_eq!(given.range, OffsetRange { base: middle, next: log.end() });
    let Stored::Lent(lent) = given.bytes else { panic!("it was just written") };
    assert!(as_sent(&lent) == from_middle.bytes);
}

/// A page that has left costs whoever comes by a look, once.
#[test]
fn what_was_read_through_once_is_known_again() {
    let mut house = lending(1);
    house.config.segment_bytes = ByteCount::mib(64);
    house.config.index_interval_bytes = ByteCount::kib(4);
    let log = filled(&mut house, 1_500);
    house.settle(&log);
    let file = lent(&log, read_from(0)).unwrap().file().clone();
    let pass = || {
        let (mut from, mut read, mut lent) = (0, 0, 0);
        loop {
            let request = Read { bytes_max: ByteCount::kib(500), ..read_from(from) };
            let slice = match log.lend_in_memory(request).unwrap() {
                Some(slice) => slice,
                None => log.read(request).unwrap().map(Stored::Here),
            };
            if slice.bytes.is_empty() {
                return (read, lent);
            }
            match slice.bytes {
                Stored::Here(bytes) => read += bytes.len(),
                Stored::Lent(part) => lent += part.count(),
            }
            from = slice.range.next.get();
        }
    };
    // The kernel may drop a page by itself, but not each time.
    let is_all_known = || (0..10).any(|_| pass().0 == 0);
    assert!(is_all_known(), "it was just written");
    for pages in [5_000_000..5_100_000, 0..8_192, 0..1 << 30] {
        file.sync_data().unwrap();
        file.advise_unneeded(pages.start, pages.end - pages.start);
        let (first, second) = (pass(), pass());
        // What was left out between two reads from the device is looked at the second time.
        assert!(first.0 > 0 && second.0 < first.0 / 2, "{pages:?}: {first:?} {second:?}");
        assert!(is_all_known(), "{pages:?}");
    }
}

/// A short answer is read, and verified only if it is not known.
#[test]
fn what_is_known_is_not_verified_again_and_all_else_is() {
    for (least, is_verified) in [(0, true), (1 << 20, false)] {
        let mut house = lending(least);
        let log = filled(&mut house, 3);
        house.settle(&log);
        // In the page cache, where no device does it.
        let other = Disk::host().open(&house.file(0, layout::LOG)).unwrap();
        let [byte] = other.read_at(200, 1).unwrap()[..] else { panic!("it is one byte") };
        other.write_all_at(200, &mut [std::io::IoSlice::new(&[byte ^ 1])]).unwrap();
        let found = log.lend_in_memory(read_from(0));
        assert_eq!(matches!(found, Err(ReadError::Corrupt(_))), is_verified, "{found:?}");
        other.sync_data().unwrap();
        other.forget_clean_pages();
        let found = log.read(read_from(0));
        assert!(matches!(found, Err(ReadError::Corrupt(_))), "it has come from the device");
        let found = log.lend_in_memory(read_from(0));
        assert!(matches!(found, Err(ReadError::Corrupt(_))), "and is not known any more");
    }
}

/// Several epochs, and a log whose file was closed meanwhile.
#[test]
fn what_is_known_outlives_a_closed_file_and_a_change_of_leaders() {
    let mut house = lending(1);
    house.options.files_open_max = 1;
    house.config.segment_bytes = ByteCount::kib(64);
    let log = house.log();
    for n in 0..20 {
        log.append(client(batch(n, 1, VALUE), n as i32 / 3)).unwrap();
    }
    assert!(log.sealed_segments().len() == 1);
    for from in [0, 15, 0, 15] {
        let read = log.read(read_from(from)).unwrap();
        // A checkpoint may take the place of the one file that is open, or read as well.
        let before = (0..50).find_map(|_| log.read(read_from(from)).ok().and(lent(&log, read_from(from))));
        let before = before.expect("it is read, and then known");
        assert!(as_sent(&before) == read.bytes, "from {from}");
        before.file().sync_data().unwrap();
        before.file().forget_clean_pages();
        assert!(before.read().unwrap() == read.bytes, "from {from}");
    }
}
