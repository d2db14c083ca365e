//! What an open makes of torn tails, damage and lost files.

use std::io::ErrorKind;

use aquifer_model::batches::Batches;
use aquifer_model::{ByteCount, LeaderEpochs, Offset, OffsetRange};
use aquifer_runtime::files::Disk;

use super::super::damage::PageCache;
use super::super::*;
use super::harness::*;

/// A log killed with `batches` batches in one segment and no checkpoint since its start.
fn killed(batches: u64) -> (House, Vec<u8>) {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount::mib(10);
    house.options.checkpoint_bytes = ByteCount::mib(10);
    let log = house.log();
    for n in 0..batches {
        append(&log, batch(n, 2, 60));
    }
    house.settle(&log);
    let all = read_all(&log);
    house.kill();
    (house, all)
}

fn quarantined(house: &House) -> Vec<Vec<u8>> {
    let folder = house.folder.path().join(layout::QUARANTINE);
    let names = Disk::host().list(&folder).unwrap();
    names.iter().map(|entry| house.read_file(&folder.join(&entry.name))).collect()
}

/// After a failed sync the page cache shows what the device may not hold, in this run of the machine as after another.
#[test]
fn a_start_after_a_failure_believes_the_device_alone() {
    let mut house = House::new();
    let log = house.log();
    append(&log, batch(1, 1, 100));
    house.settle(&log);
    house.kill();
    let log = house.log();
    assert_eq!(house.dir().pages(), PageCache::Kept);
    let noted = house.opened().path().join(layout::FAILED);
    house.faults.fail_syncs(Some(ErrorKind::Other));
    append(&log, batch(2, 1, 100));
    let failure = house.dir().failure();
    house.wait("the failed sync", || failure.borrow().is_some());
    house.faults.fail_syncs(None);
    assert!(!house.read_file(&noted).is_empty(), "the next start is told");
    house.kill();
    assert_eq!(house.dir().pages(), PageCache::PerhapsLost);
    let wanted = house.wanted(0);
    for (_, opened) in house.dir().open_many(vec![wanted]) {
        opened.unwrap();
    }
    assert!(!Disk::host().exists(&noted).unwrap(), "what the failure left is dealt with");
    house.kill();
    assert_eq!(house.dir().pages(), PageCache::Kept);
}

#[test]
fn a_torn_tail_is_cut_at_the_last_whole_batch_and_kept_aside() {
    let (mut house, all) = killed(5);
    let path = house.file(0, layout::LOG);
    let ends: Vec<usize> =
        Batches::new(&all).map(|located| located.position + located.header.size()).collect();
    for cut in ends[2]..=all.len() {
        house.write_file(&path, &all[..cut]);
        let log = house.log();
        let whole = ends.iter().filter(|end| **end <= cut).count();
        assert_eq!(log.end(), offset(2 * whole as i64), "cut at {cut}");
        house.settle(&log);
        assert_eq!(log.corruption(), None);
        let torn = cut - ends[whole - 1];
        let findings = &log.recovery().findings;
        if torn == 0 {
            assert_eq!(*findings, []);
        } else {
            assert!(
                matches!(&findings[..], [RecoveryFinding::TornTail { position, bytes, quarantine: Some(_), .. }]
                if *position == ends[whole - 1] as u64 && bytes.get() == torn as u64),
                "{findings:?}"
            );
            assert!(quarantined(&house).contains(&all[ends[whole - 1]..cut].to_vec()));
        }
        assert_eq!(append(&log, batch(99, 1, 10)).base, offset(2 * whole as i64));
        house.kill();
        // Back to a log without a checkpoint behind its start.
        Disk::host().remove(&house.log_folder().join(layout::CHECKPOINT)).unwrap();
        Disk::host().remove(&house.file(0, layout::INDEX)).unwrap();
    }
}

/// The sector in which the last batch's header begins never reached the device, and the next ones did: base offset and length are under
/// no checksum, so that the batch is whole, and of another place.
#[test]
fn a_batch_that_begins_in_a_sector_that_was_lost_is_a_torn_tail() {
    // Of fewer bytes than eight only a large offset notices; `damage.rs` tries those.
    for (lost, followed) in [(8, false), (8, true), (11, false)] {
        let mut house = House::new();
        house.config.segment_bytes = ByteCount::mib(10);
        house.options.checkpoint_bytes = ByteCount::mib(10);
        let log = house.log();
        append(&log, batch(1, 2, 60));
        let fits = |size: &usize| {
            let end = log.size().get() + batch(2, 1, *size).len() as u64;
            end % 512 == 512 - lost
        };
        append(&log, batch(2, 1, (0..1_024).find(fits).expect("every size is met")));
        let (position, end) = (log.size().get(), log.end());
        append(&log, batch(3, 1, 2_000));
        if followed {
            append(&log, batch(4, 1, 100));
        }
        house.settle(&log);
        house.kill();
        let path = house.file(0, layout::LOG);
        let mut bytes = house.read_file(&path);
        bytes[position as usize..(position + lost) as usize].fill(0);
        house.write_file(&path, &bytes);
        house.cut_power();
        let log = house.log();
        assert_eq!((log.corruption(), log.end()), (None, end), "{lost} bytes, followed: {followed}");
        assert_eq!(append(&log, batch(5, 1, 10)).base, end);
        house.kill();
    }
}

#[test]
fn damage_that_sound_batches_follow_stops_the_log_and_touches_nothing() {
    let (mut house, all) = killed(8);
    let path = house.file(0, layout::LOG);
    let third = Batches::new(&all).nth(3).unwrap();
    for at in [0, 8, 16, 20, 40, 100] {
        let mut damaged = all.clone();
        damaged[third.position + at] ^= 0x21;
        house.write_file(&path, &damaged);
        let log = house.log();
        let corruption = log.corruption().expect("the damage is found");
        assert_eq!(
            (corruption.file.clone(), corruption.position),
            (path.clone(), third.position as u64),
            "byte {at}"
        );
        assert_eq!(log.recovery().findings, [RecoveryFinding::Corrupt(corruption.clone())]);
        assert_eq!(log.end(), third.header.base_offset);
        assert_eq!(read_all(&log), all[..third.position]);
        assert_eq!(log.append(client(batch(1, 1, 1), 0)), Err(AppendError::Corrupt(corruption.clone())));
        let follower = log.append_as_follower(&all.clone().into());
        assert_eq!(follower, Err(FollowerAppendError::Corrupt(corruption)));
        house.kill();
        assert_eq!(house.read_file(&path), damaged);
    }
    // Whoever has the records elsewhere may give these up.
    let log = house.log();
    log.discard_corrupt_tail().unwrap();
    assert_eq!(log.corruption(), None);
    assert_eq!(quarantined(&house).last().map(Vec::len), Some(all.len() - third.position));
    let appended = log.append_as_follower(&all[third.position..].to_vec().into()).unwrap();
    assert_eq!(appended.base, third.header.base_offset);
    assert_eq!(read_all(&log), all);
    house.kill();
    assert_eq!(read_all(&house.log()), all);
}

#[test]
fn truncating_before_the_damage_makes_a_log_sound() {
    let (mut house, all) = killed(8);
    let third = Batches::new(&all).nth(3).unwrap();
    let mut damaged = all.clone();
    damaged[third.position + 70] ^= 1;
    house.write_file(&house.file(0, layout::LOG), &damaged);
    let log = house.log();
    assert!(log.corruption().is_some());
    log.truncate_to(Offset::MAX).unwrap();
    assert_eq!((log.corruption(), log.end()), (None, third.header.base_offset));
    log.append_as_follower(&all[third.position..].to_vec().into()).unwrap();
    house.stop();
    assert_eq!(read_all(&house.log()), all);
}

#[test]
fn pages_that_a_power_cut_kept_from_the_device_are_a_torn_tail() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount::mib(10);
    house.options.checkpoint_bytes = ByteCount::mib(10);
    let log = house.log();
    for n in 0..6 {
        append(&log, batch(n, 4, 1000));
    }
    let mut all = read_all(&log);
    house.settle(&log);
    house.kill();
    let second = Batches::new(&all).nth(1).unwrap();
    let end = second.position + second.header.size();
    all[second.position..end.div_ceil(4096) * 4096 - 4096].fill(0);
    house.write_file(&house.file(0, layout::LOG), &all);
    // The process alone may stop as it likes: no page is lost by that.
    assert!(house.log().corruption().is_some());
    // This is no damage that a start has found before.
    house.remove_file(&house.log_folder().join(layout::LOST));
    house.cut_power();
    let log = house.log();
    assert_eq!((log.corruption(), log.end()), (None, second.header.base_offset));
}

/// To a start after a reboot it would look like a tail that was never synced.
#[test]
fn damage_that_was_found_stays_so_until_the_bytes_are_back() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount::mib(10);
    house.options.checkpoint_bytes = ByteCount::mib(10);
    house.options.closing_reread_bytes_max = ByteCount::mib(10);
    let log = house.log();
    for n in 0..4 {
        append(&log, batch(n, 2, 60));
    }
    let all = read_all(&log);
    house.stop();
    let path = house.file(0, layout::LOG);
    let note = house.log_folder().join(layout::LOST);
    let third = Batches::new(&all).nth(2).unwrap();
    let last = Batches::new(&all).nth(3).unwrap();
    let changed = |position: usize| {
        let mut changed = all.clone();
        changed[position + 70] ^= 1;
        changed
    };
    let damaged = changed(last.position);
    for round in 0..3 {
        house.write_file(&path, &damaged);
        let corruption = house.log().corruption().expect("it was closed in order, so all of it was synced");
        assert_eq!((corruption.file, corruption.position), (path.clone(), last.position as u64));
        assert_eq!(house.log().end(), last.header.base_offset);
        house.cut_power();
        assert!(house.read_file(&path) == damaged, "round {round}");
    }
    // Gone is not back, nor is a part.
    let without_last = all[..last.position].to_vec();
    for without in [without_last, changed(third.position), all[..all.len() - 1].to_vec()] {
        house.write_file(&path, &without);
        assert!(house.log().corruption().is_some());
        house.cut_power();
        assert!(house.read_file(&path) == without);
    }
    house.write_file(&path, &all);
    let log = house.log();
    assert_eq!((log.corruption(), read_all(&log) == all), (None, true));
    assert!(!Disk::host().exists(&note).unwrap());
    // What was not synced is a torn tail as ever.
    append(&log, batch(9, 2, 60));
    house.cut_power();
    let whole = house.read_file(&path);
    house.write_file(&path, &whole[..whole.len() - 5]);
    let log = house.log();
    assert_eq!((log.corruption(), read_all(&log) == all), (None, true));
    assert!(!Disk::host().exists(&note).unwrap());
}

#[test]
fn a_restart_reads_again_only_what_lies_behind_the_checkpoint() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount::kib(64);
    house.options.checkpoint_bytes = ByteCount::kib(16);
    let log = house.log();
    for n in 0..400 {
        append(&log, batch(n, 1, 1000));
        if n % 10 == 0 {
            house.settle(&log);
        }
    }
    house.settle(&log);
    let all = read_all(&log);
    house.wait("checkpoint", || log.books.lock().point.offset >= offset(370));
    house.kill();
    let log = house.log();
    let reread = log.recovery().reread;
    assert!(reread <= ByteCount::kib(48) && reread > ByteCount::ZERO, "{reread}");
    assert_eq!(log.recovery().findings, []);
    assert_eq!(read_all(&log), all);
    house.stop();
    let log = house.log();
    assert!(house.dir().was_clean());
    assert_eq!(*log.recovery(), RecoveryReport::default());
    assert_eq!(read_all(&log), all);
}

/// Several segments, producers and leaders.
fn rich(house: &mut House) -> std::sync::Arc<Log> {
    house.config.segment_bytes = ByteCount(3000);
    let log = house.log();
    for n in 0..40 {
        log.append(client(sequenced(i64::from(n) % 3, n / 3 * 2, 2), n / 15)).unwrap();
        log.append(client(batch(n as u64, 1, 100), n / 15)).unwrap();
    }
    house.settle(&log);
    house.wait("checkpoint", || log.books.lock().point.offset > offset(60));
    log
}

type Essence = (Vec<u8>, LogOffsets, LeaderEpochs, Vec<(OffsetRange, ByteCount, i64)>);

/// What a log is, but for when its segments were closed.
fn essence(log: &Log) -> Essence {
    let segments = log.sealed_segments().into_iter();
    let segments =
        segments.map(|segment| (segment.range, segment.log_bytes, segment.timestamp_max.0)).collect();
    (read_all(log), log.offsets(), log.epochs(), segments)
}

#[test]
fn lost_checkpoints_indexes_and_snapshots_are_made_anew() {
    type Loss = fn(&House);
    let remove = |house: &House, extension: &str| {
        for base in house.bases() {
            Disk::host().remove(&house.file(base, extension)).unwrap();
        }
    };
    let losses: [(&str, Loss); 8] = [
        ("checkpoint", |house| house.remove_file(&house.log_folder().join(layout::CHECKPOINT))),
        ("damaged checkpoint", |house| {
            let path = house.log_folder().join(layout::CHECKPOINT);
            let mut bytes = house.read_file(&path);
            bytes[30] ^= 1;
            house.write_file(&path, &bytes);
        }),
        ("indexes", |_| ()),
        ("damaged indexes", |house| {
            for base in house.bases() {
                let path = house.file(base, layout::INDEX);
                if let Some(mut bytes) = Disk::host().read_if_exists(&path).unwrap() {
                    bytes[20] ^= 1;
                    house.write_file(&path, &bytes);
                }
            }
        }),
        ("snapshots", |_| ()),
        ("partition file", |house| house.remove_file(&house.log_folder().join(layout::PARTITION))),
        ("checkpoint and snapshots", |house| house.remove_file(&house.log_folder().join(layout::CHECKPOINT))),
        ("all but the batches", |house| {
            house.remove_file(&house.log_folder().join(layout::CHECKPOINT));
            house.remove_file(&house.log_folder().join(layout::PARTITION));
        }),
    ];
    for (what, lose) in losses {
        for clean in [false, true] {
            let mut house = House::new();
            let log = rich(&mut house);
            let before = essence(&log);
            if clean {
                house.stop()
            } else {
                house.kill()
            };
            lose(&house);
            if what.contains("index") || what.contains("all") {
                remove(&house, layout::INDEX);
            }
            if what.contains("snapshots") || what.contains("all") {
                remove(&house, layout::SNAPSHOT);
            }
            let log = house.log();
            let found = essence(&log);
            assert!(found == before, "{what}, clean {clean}: {:?} became {:?}", before.1, found.1);
            assert_eq!(log.corruption(), None);
            let lost = log.recovery().findings.contains(&RecoveryFinding::CheckpointLost);
            assert_eq!(lost, what.contains("checkpoint") || what.contains("all"), "{what}");
            // Producers are known as before: these were the last of each.
            for producer in 0..3 {
                let last =
                    log.append(client(sequenced(producer, [26, 24, 24][producer as usize], 2), 9)).unwrap();
                assert_eq!(last.outcome, Outcome::Duplicate, "{what}: producer {producer}");
            }
            for segment in log.sealed_segments() {
                let parts = log.sealed_parts(segment.range.base).unwrap().unwrap();
                assert_eq!(parts.facts, segment);
                let snapshot = checkpoint::Snapshot::decode(&parts.producers).unwrap();
                assert_eq!(snapshot.offset, segment.range.next);
            }
            log.truncate_to(offset(60)).unwrap();
            house.kill();
            assert_eq!(house.log().end(), offset(60), "{what}");
        }
    }
}

#[test]
fn a_closed_segment_that_is_missing_or_short_is_told_and_keeps_nobody_from_anything_else() {
    for missing in [true, false] {
        let mut house = House::new();
        let log = rich(&mut house);
        let (end, segment) = (log.end(), log.sealed_segments()[1].clone());
        house.stop();
        let path = house.file(segment.range.base.get(), layout::LOG);
        if missing {
            house.remove_file(&path);
        } else {
            let bytes = house.read_file(&path);
            house.write_file(&path, &bytes[..bytes.len() - 1]);
        }
        let log = house.log();
        let files = |log: &Log| log.damage().into_iter().map(|damage| damage.file).collect::<Vec<_>>();
        assert_eq!((log.corruption(), files(&log)), (None, vec![path.clone()]));
        log.append(client(batch(1, 1, 1), 2)).unwrap();
        let last = segment.range.next.get() - 1;
        assert!(matches!(log.read(read_from(last)), Err(ReadError::Corrupt(damage)) if damage.file == path));
        for sound in [segment.range.base.get() - 1, segment.range.next.get(), end.get()] {
            assert!(!log.read(read_from(sound)).unwrap().bytes.is_empty());
        }
        house.stop();
        // Not forgotten, whatever was written since.
        let log = house.log();
        assert_eq!(files(&log), [path]);
        log.truncate_to(segment.range.base).unwrap();
        assert_eq!((files(&log), log.end()), (vec![], segment.range.base));
    }
}

/// It may have held what was acknowledged since it was begun.
#[test]
fn an_open_segment_that_is_missing_at_its_start_is_told() {
    let mut house = House::new();
    let log = house.log();
    for n in 0..5 {
        append(&log, batch(n, 1, 200));
    }
    log.roll().unwrap();
    let next = log.end();
    house.stop();
    assert_eq!(house.bases(), [0, next.get()]);
    house.remove_file(&house.file(next.get(), layout::LOG));
    for round in 0..2 {
        let log = house.log();
        assert!(log.corruption().is_some(), "round {round}");
        assert_eq!(log.end(), next);
        house.kill();
    }
}

#[test]
fn a_file_shorter_than_what_was_synced_is_corruption() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount::mib(1);
    let log = house.log();
    for n in 0..20 {
        append(&log, batch(n, 1, 100));
    }
    house.stop();
    let path = house.file(0, layout::LOG);
    let bytes = house.read_file(&path);
    house.write_file(&path, &bytes[..bytes.len() - 1]);
    let log = house.log();
    assert_eq!(log.corruption().map(|corruption| corruption.file), Some(path));
    assert_eq!(log.end(), offset(20));
    // What is lost cannot be settled by cutting behind it.
    assert!(matches!(log.truncate_to(Offset::MAX), Err(ChangeError::Corrupt(_))));
    assert!(matches!(log.discard_corrupt_tail(), Err(ChangeError::Corrupt(_))));
    assert!(log.corruption().is_some());
    log.truncate_to(offset(19)).unwrap();
    assert_eq!((log.corruption(), log.end()), (None, offset(19)));
    append(&log, batch(1, 1, 10));
    house.kill();
    assert_eq!(house.log().end(), offset(20));
}

#[test]
fn the_high_watermark_is_remembered_as_a_hint() {
    let mut house = House::new();
    let log = house.log();
    append(&log, batch(1, 5, 10));
    log.note_high_watermark(offset(4));
    house.stop();
    assert_eq!(house.log().high_watermark_hint(), offset(4));
    house.log().note_high_watermark(offset(400));
    append(&house.log(), batch(1, 1, 10));
    house.stop();
    assert_eq!(house.log().high_watermark_hint(), offset(6));
}

#[test]
fn a_closed_segment_that_ends_early_is_a_torn_tail_only_after_a_power_cut() {
    let mut house = House::new();
    house.options.checkpoint_bytes = ByteCount::mib(1);
    let log = house.log();
    for n in 0..4 {
        append(&log, batch(n, 1, 100));
    }
    house.settle(&log);
    house.kill();
    // As if the log had rolled, and the older file had lost its end.
    let path = house.file(0, layout::LOG);
    let all = house.read_file(&path);
    let last = Batches::new(&all).last().unwrap();
    let before_last = Batches::new(&all).nth(2).unwrap();
    house.write_file(&path, &all[..before_last.position]);
    house.write_file(&house.file(3, layout::LOG), &all[last.position..]);
    assert!(house.log().corruption().is_some());
    // This is no damage that a start has found before.
    house.remove_file(&house.log_folder().join(layout::LOST));
    house.cut_power();
    let log = house.log();
    assert_eq!((log.corruption(), log.end()), (None, offset(2)));
    assert_eq!(house.bases(), [0]);
    assert!(quarantined(&house).contains(&all[last.position..].to_vec()));
}

#[test]
fn whatever_happens_to_its_files_a_log_opens_or_says_why_and_nothing_panics() {
    let mut template = House::new();
    rich(&mut template);
    template.kill();
    let folder = template.log_folder();
    let names = Disk::host().list(&folder).unwrap();
    let files: Vec<(String, Vec<u8>)> = names
        .iter()
        .map(|entry| (entry.name.clone(), template.read_file(&folder.join(&entry.name))))
        .collect();
    let rng = aquifer_runtime::rng::Rng::seeded(7);
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(3000);
    for round in 0..250 {
        let below = |count: usize| (rng.number() % count.max(1) as u64) as usize;
        let mut damaged = files.clone();
        for _ in 0..1 + below(2) {
            let at = below(damaged.len());
            let (name, bytes) = &mut damaged[at];
            let position = below(bytes.len());
            match below(5) {
                0 => bytes.truncate(position),
                1 => bytes.extend((0..below(300)).map(|n| n as u8)),
                2 => bytes[position..].fill(0),
                3 => name.push('x'),
                _ if bytes.is_empty() => {}
                _ => bytes[position] ^= 1 << below(8),
            }
        }
        let _ = Disk::host().remove_dir_all(&house.log_folder());
        Disk::host().create_dir_all(&house.log_folder()).unwrap();
        for (name, bytes) in &damaged {
            house.write_file(&house.log_folder().join(name), bytes);
        }
        if round % 2 == 0 {
            house.cut_power();
        }
        let Ok(log) = house.try_log() else {
            house.kill();
            continue;
        };
        walk(&log);
        let _ = log.append(client(batch(1, 1, 10), 1_000));
        let _ = log.offset_for_timestamp(aquifer_model::Timestamp(0), Offset::MAX);
        let _ = log.max_timestamp(Offset::MAX);
        for segment in log.sealed_segments() {
            let _ = log.sealed_parts(segment.range.base);
        }
        let _ = log.truncate_to(offset(below(100) as i64));
        let _ = log.discard_corrupt_tail();
        let _ = log.advance_start(offset(below(100) as i64));
        walk(&log);
        let end = log.end();
        let sound = log.corruption().is_none();
        house.stop();
        if let Ok(log) = house.try_log() {
            assert!(!sound || log.end() == end, "round {round}: {end} became {}", log.end());
            walk(&log);
        }
        house.kill();
    }
}

/// Reads as far as it goes; what is served is batches that join.
fn walk(log: &Log) {
    let mut from = log.offsets().local_start;
    while let Ok(slice) = log.read(read_from(from.get())) {
        if slice.bytes.is_empty() {
            break;
        }
        let mut walk = Batches::new(&slice.bytes);
        let mut next = slice.range.base;
        for located in walk.by_ref() {
            assert_eq!(located.header.base_offset, next);
            next = located.header.next_offset();
        }
        assert_eq!((walk.tail(), next), (Some(aquifer_model::batches::Tail::Whole), slice.range.next));
        from = slice.range.next;
    }
}
