//! Where compaction has left offsets out, the order of offsets is all that says where a batch belongs: what that still finds, and that
//! nothing else is taken for it.

use std::collections::BTreeMap;
use std::io::IoSlice;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aquifer_model::batches::Batches;
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, LeaderEpochs, Offset, PartitionIndex, TopicId, TopicName, TopicPartition};
use aquifer_runtime::files::Disk;

use super::super::*;
use super::harness::*;
use super::keyed::*;

/// A batch as it lies in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Laid {
    position: usize,
    base: i64,
    next: i64,
}

fn laid(file: &[u8]) -> Vec<Laid> {
    let batches = Batches::new(file).map(|located| Laid {
        position: located.position,
        base: located.header.base_offset.get(),
        next: located.header.next_offset().get(),
    });
    batches.collect()
}

/// Two segments that were compacted, one that was not, and an open one.
fn mixed(house: &mut House) -> Arc<Log> {
    house.config.segment_bytes = ByteCount(1200);
    let log = house.log();
    let write = |from: i64, to: i64| {
        for round in from..to {
            let stays = format!("stays{}", round / 2);
            let records = [("goes", Some("1")), (stays.as_str(), Some("2")), ("goes", Some("3"))];
            append(&log, keyed(&records[..1 + round as usize % 3], Compression::None));
        }
    };
    write(0, 60);
    log.roll().unwrap();
    compact_all(&log);
    write(60, 64);
    log.roll().unwrap();
    write(64, 74);
    house.settle(&log);
    assert!(log.sealed_segments().len() >= 3);
    log
}

fn poke(path: &Path, position: usize, bytes: &[u8]) {
    let file = Disk::host().open(path).unwrap();
    file.write_all_at(position as u64, &mut [IoSlice::new(bytes)]).unwrap();
}

/// Each batch of a segment with one bit of its base offset changed, and whether that can be told by the order of offsets.
fn flips(file: &[u8], gaps_below: i64, base: i64, next: i64) -> Vec<(Laid, i64, bool)> {
    let batches = laid(file);
    let mut flips = Vec::new();
    for (n, batch) in batches.iter().enumerate() {
        let before = n.checked_sub(1).map_or(base, |before| batches[before].next);
        let behind = batches.get(n + 1).map_or(next, |behind| behind.base);
        for bit in 0..64 {
            let to = batch.base ^ (1 << bit);
            let end = to.saturating_add(batch.next - batch.base);
            let in_order = to >= before && end <= behind;
            let gaps_are = |from: i64, to: i64| from == to || to <= gaps_below;
            let hidden = in_order && gaps_are(before, to) && gaps_are(end, behind);
            flips.push((*batch, to, !hidden));
        }
    }
    assert!(flips.iter().filter(|(.., told)| *told).count() > 64 * batches.len() / 2);
    flips
}

/// All batches as a reader gets them who goes on where the last read ended; (base, next).
fn read_through(log: &Log) -> Result<Vec<(i64, i64)>, ReadError> {
    let (mut from, mut found) = (log.offsets().local_start, Vec::new());
    while from < log.end() {
        let slice = log.read(Read { bytes_max: ByteCount(600), ..read_from(from.get()) })?;
        if slice.bytes.is_empty() {
            panic!("a reader at {from} would wait for ever");
        }
        found.extend(laid(&slice.bytes).iter().map(|batch| (batch.base, batch.next)));
        from = slice.range.next;
    }
    Ok(found)
}

#[test]
fn a_changed_base_offset_is_told_and_nothing_is_passed_over_for_it() {
    let mut house = keyed_house(compacted());
    let log = mixed(&mut house);
    let all = read_through(&log).unwrap();
    let gaps_below = log.state.lock().compacted.gaps_below.get();
    let (sealed_end, end) = (log.sealed_end(), log.end());
    assert!(gaps_below < log.sealed_segments().last().unwrap().range.base.next().get());
    let mut ranges: Vec<_> = log.sealed_segments().iter().map(|segment| segment.range).collect();
    ranges.push(aquifer_model::OffsetRange { base: sealed_end, next: end });
    for range in ranges {
        let (base, next) = (range.base.get(), range.next.get());
        let path = house.file(base, layout::LOG);
        let sound = house.read_file(&path);
        for (batch, to, told) in flips(&sound, gaps_below, base, next) {
            poke(&path, batch.position, &to.to_be_bytes());
            let what = format!("{} to {to} in {range}", batch.base);
            let read = read_through(&log);
            assert!(matches!(read, Err(ReadError::Corrupt(_))) || !told, "{what}: {read:?}");
            let looked = log.examine_whole(range.base).unwrap();
            assert_eq!(matches!(looked, Looked::Damaged(_)), told, "{what}: {looked:?}");
            poke(&path, batch.position, &batch.base.to_be_bytes());
            log.forget_damage(|_| true);
        }
    }
    assert_eq!(read_through(&log).unwrap(), all);
}

/// All segment files, by path.
fn logs(house: &House) -> BTreeMap<PathBuf, Vec<u8>> {
    let names = names_with(house, layout::LOG);
    names
        .iter()
        .map(|name| house.log_folder().join(name))
        .map(|path| (path.clone(), house.read_file(&path)))
        .collect()
}

fn quarantined(house: &House) -> usize {
    Disk::host().list(&house.folder.path().join(layout::QUARANTINE)).map_or(0, |entries| entries.len())
}

#[test]
fn a_changed_base_offset_that_recovery_meets_costs_no_batch() {
    let mut house = keyed_house(compacted());
    let log = mixed(&mut house);
    let gaps_below = log.state.lock().compacted.gaps_below.get();
    let sealed_end = log.sealed_end().get();
    let (end, first) = (log.end().get(), log.sealed_segments()[0].range);
    drop(log);
    house.kill();
    let folder = house.log_folder();
    let files: BTreeMap<PathBuf, Vec<u8>> = Disk::host()
        .list(&folder)
        .unwrap()
        .into_iter()
        .map(|entry| folder.join(entry.name))
        .map(|path| (path.clone(), house.read_file(&path)))
        .collect();
    for (base, next) in [(sealed_end, end), (first.base.get(), first.next.get())] {
        let path = house.file(base, layout::LOG);
        for (n, (batch, to, _)) in flips(&files[&path], gaps_below, base, next).into_iter().enumerate() {
            // A few of each batch's: each costs a start.
            if n % 29 != 0 {
                continue;
            }
            for lost in 0..3 {
                for (path, bytes) in &files {
                    let is_small = [layout::INDEX, layout::SNAPSHOT]
                        .iter()
                        .any(|end| path.extension().is_some_and(|found| found == *end));
                    let goes = (lost > 0 && path.ends_with(layout::CHECKPOINT)) || (lost > 1 && is_small);
                    match goes {
                        true => Disk::host().remove(path).unwrap(),
                        false => house.write_file(path, bytes),
                    }
                }
                poke(&path, batch.position, &to.to_be_bytes());
                let before = logs(&house);
                if n % 2 == 0 {
                    house.cut_power();
                }
                let what = format!("{} to {to}, lost {lost}", batch.base);
                let log = house.log();
                let read = read_through(&log);
                drop(log);
                house.kill();
                assert_eq!(quarantined(&house), 0, "{what}: {read:?}");
                assert_eq!(logs(&house), before, "{what}: {read:?}");
            }
        }
    }
}

/// Offset, key and value of each record.
type Kept = Vec<(i64, String, Option<String>)>;

/// A log that was compacted, and is not to be any more.
fn once_compacted() -> (House, Kept, Offset) {
    let mut house = keyed_house(compacted());
    let log = mixed(&mut house);
    let (all, end) = (shown(&log), log.end());
    house.config.cleanup = Cleanup::Delete;
    (house, all, end)
}

/// Its gaps are no damage, whichever of the two files that say so is lost.
#[test]
fn a_log_that_was_compacted_once_is_found_again_without_its_checkpoint() {
    for lost in 0..4 {
        let (mut house, all, end) = once_compacted();
        house.kill();
        let folder = house.log_folder();
        let partition = folder.join(layout::PARTITION);
        match lost {
            0 => house.remove_file(&folder.join(layout::CHECKPOINT)),
            1 => house.remove_file(&partition),
            // And all that says anything else.
            2 => {
                for name in [names_with(&house, layout::SNAPSHOT), names_with(&house, layout::INDEX)].concat()
                {
                    house.remove_file(&folder.join(name));
                }
                house.remove_file(&folder.join(layout::CHECKPOINT));
            }
            // As a program has left it that did not note its gaps.
            _ => {
                let file = checkpoint::PartitionFile::decode(&house.read_file(&partition)).unwrap();
                assert!(file.gaps_below.is_some_and(|below| below > Offset::ZERO));
                let old = checkpoint::PartitionFile { gaps_below: None, ..file };
                house.write_file(&partition, &old.encode());
                house.remove_file(&folder.join(layout::CHECKPOINT));
            }
        }
        for _ in 0..2 {
            house.cut_power();
            let log = house.log();
            assert_eq!((log.corruption(), log.end()), (None, end), "lost {lost}");
            assert_eq!(shown(&log), all, "lost {lost}");
            assert!(
                log.bases().into_iter().all(|base| matches!(log.examine_whole(base), Ok(Looked::Sound(_))))
            );
            assert_eq!(log.damage(), [], "lost {lost}");
            let file = checkpoint::PartitionFile::decode(&house.read_file(&partition)).unwrap();
            assert!(file.gaps_below.is_some_and(|below| below > Offset::ZERO), "lost {lost}");
            drop(log);
            house.kill();
        }
    }
}

#[test]
fn what_was_never_compacted_has_no_gaps_with_or_without_a_checkpoint() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(1200);
    let log = house.log();
    for n in 0..30 {
        append(&log, batch(n, 2, 40));
    }
    house.settle(&log);
    let second = log.sealed_segments()[1].range.base.get();
    drop(log);
    house.stop();
    let path = house.file(second, layout::LOG);
    let bytes = house.read_file(&path);
    let cut = laid(&bytes)[2].position;
    // A batch is missing: nothing else is wrong with the segment.
    house.write_file(&path, &[&bytes[..cut], &bytes[laid(&bytes)[3].position..]].concat());
    for name in [names_with(&house, layout::SNAPSHOT), names_with(&house, layout::INDEX)].concat() {
        house.remove_file(&house.log_folder().join(name));
    }
    house.remove_file(&house.log_folder().join(layout::CHECKPOINT));
    assert!(house.log().corruption().is_some());
}

fn follower() -> (House, Arc<Log>) {
    let mut house = keyed_house(compacted());
    let log = house.log();
    (house, log)
}

fn sent(base: i64) -> bytes::Bytes {
    placed(&keyed(&[("a", Some("1"))], Compression::None), base, 0).into()
}

#[test]
fn a_gap_that_no_index_reaches_over_starts_another_segment() {
    let (mut house, log) = follower();
    let far = [0, 1, 1 << 33, (1 << 33) + 5, 3 << 33];
    for base in far {
        log.append_as_follower(&sent(base)).unwrap();
    }
    let mut log = log;
    for how in 0..3 {
        let found: Vec<i64> = shown(&log).iter().map(|(offset, ..)| *offset).collect();
        assert_eq!((log.corruption(), found), (None, far.to_vec()), "{how}");
        drop(log);
        match how {
            0 => house.kill(),
            1 => house.cut_power(),
            _ => house.stop(),
        }
        log = house.log();
    }
    append(&log, keyed(&[("b", Some("1"))], Compression::None));
}

#[test]
fn where_a_follower_was_cut_there_are_no_gaps_any_more() {
    let (mut house, log) = follower();
    for base in [0, 1, 500, 1000] {
        log.append_as_follower(&sent(base)).unwrap();
    }
    let mark = |house: &House| {
        let file = house.read_file(&house.log_folder().join(layout::PARTITION));
        checkpoint::PartitionFile::decode(&file).unwrap().gaps_below
    };
    assert_eq!(mark(&house), Some(offset(1000)), "before any of it is synced");
    log.truncate_to(offset(2)).unwrap();
    assert_eq!(mark(&house), Some(offset(2)));
    // It leads now.
    for _ in 0..4 {
        append(&log, keyed(&[("a", Some("2"))], Compression::None));
    }
    house.settle(&log);
    let path = house.file(0, layout::LOG);
    let batches = laid(&house.read_file(&path));
    poke(&path, batches[3].position, &(3i64 + 64).to_be_bytes());
    assert!(matches!(log.read(read_from(3)), Err(ReadError::Corrupt(_))));
    drop(log);
    house.cut_power();
    let log = house.log();
    assert_eq!((log.corruption().is_some(), log.end()), (true, offset(3)));
    let at = offset(9_000);
    let epochs = LeaderEpochs::default();
    log.restart_at(Restart { at, log_start: at, epochs, producers: bytes::Bytes::new() }).unwrap();
    assert_eq!(mark(&house), Some(Offset::ZERO));
}

/// A segment that comes back from elsewhere has its gaps where the log may have some, and nowhere else.
#[test]
fn a_segment_with_gaps_is_mended_by_its_copy() {
    let mut house = keyed_house(compacted());
    let log = mixed(&mut house);
    let all = shown(&log);
    for segment in log.sealed_segments() {
        let range = segment.range;
        let path = house.file(range.base.get(), layout::LOG);
        let sound = house.read_file(&path);
        poke(&path, 30, &[!sound[30]]);
        assert!(matches!(log.examine_whole(range.base), Ok(Looked::Damaged(_))));
        let mend = |copy: &[u8]| {
            let mut mending = log.mend(range.base)?.expect("there is such a segment");
            mending.write(&[bytes::Bytes::copy_from_slice(copy)])?;
            mending.finish()
        };
        let second = laid(&sound)[1];
        let mut changed = sound.clone();
        changed[second.position..second.position + 8]
            .copy_from_slice(&(second.base + (1 << 20)).to_be_bytes());
        assert!(matches!(mend(&changed), Err(MendError::Copy { .. })));
        mend(&sound).unwrap();
        assert_eq!(log.damage(), []);
    }
    assert_eq!(shown(&log), all);
}

/// The file of a partition names its log, whatever else it says.
#[test]
fn a_damaged_partition_file_is_written_anew_with_all_that_it_said() {
    let mut house = keyed_house(compacted());
    let log = mixed(&mut house);
    let path = house.log_folder().join(layout::PARTITION);
    let sound = house.read_file(&path);
    house.write_file(&path, &sound[..sound.len() - 1]);
    log.examine_log_books().unwrap();
    assert_eq!(house.read_file(&path), sound);
    let file = checkpoint::PartitionFile::decode(&sound).unwrap();
    let partition =
        TopicPartition { topic: TopicId::new(uuid::Uuid::from_u128(77)), partition: PartitionIndex(0) };
    assert_eq!((file.partition, file.topic), (partition, TopicName::new("orders").unwrap()));
}
