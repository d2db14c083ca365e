//! Reads, against a plain model and beside trims and cuts.

use aquifer_model::batches::Batches;
use aquifer_model::{ByteCount, Offset, OffsetRange};

use super::super::*;
use super::harness::*;

/// Base, next, bytes.
type Batch = (i64, i64, Vec<u8>);

/// A log of three segments and the batches in it.
fn filled(house: &mut House) -> (std::sync::Arc<Log>, Vec<Batch>) {
    house.config.segment_bytes = ByteCount(6000);
    let log = house.log();
    for n in 0..40u64 {
        append(&log, batch(n, 1 + n as usize % 3, [20, 300, 90, 700][n as usize % 4]));
    }
    assert!(log.sealed_segments().len() >= 2);
    let all = read_all(&log);
    let batches = Batches::new(&all).map(|located| {
        let header = located.header;
        let bytes = all[located.position..located.position + header.size()].to_vec();
        (header.base_offset.get(), header.next_offset().get(), bytes)
    });
    let batches = batches.collect();
    (log, batches)
}

/// What a read should give, from the batches and the segments' bases.
fn expected(batches: &[Batch], bases: &[i64], read: &Read) -> Vec<u8> {
    let segment = bases.iter().filter(|base| **base <= read.from.get()).max().copied().unwrap();
    let next = bases.iter().filter(|base| **base > segment).min().copied().unwrap_or(i64::MAX);
    let max = read.bytes_max.get() as usize;
    let mut out = Vec::new();
    for (base, end, bytes) in batches {
        if *end <= read.from.get() || *base >= next {
            continue;
        }
        let first = out.is_empty();
        if *end > read.until.get()
            || (out.len() + bytes.len() > max && !(first && read.at_least == AtLeast::OneBatch))
        {
            break;
        }
        out.extend_from_slice(bytes);
    }
    out
}

#[test]
fn every_read_gives_the_whole_batches_that_fit() {
    let mut house = House::new();
    let (log, batches) = filled(&mut house);
    let (bases, end) = (house.bases(), log.end().get());
    for round in 0..2 {
        let log = house.log();
        let (mut in_memory, mut elsewhere) = (0, 0);
        for from in 0..=end {
            for until in [from, from + 1, from + 7, end - 1, end, i64::MAX] {
                for bytes_max in [0, 100, 1000, 2500, 1 << 20] {
                    for at_least in [AtLeast::Nothing, AtLeast::OneBatch] {
                        let (until, bytes_max) = (offset(until.max(0)), ByteCount(bytes_max));
                        let read = Read { until, bytes_max, at_least, ..read_from(from) };
                        let without_waiting = log.read_in_memory(read).unwrap();
                        let slice = log.read(read).unwrap();
                        match without_waiting {
                            Some(same) => {
                                assert_eq!(same, slice, "{read:?}");
                                in_memory += 1;
                            }
                            None => elsewhere += 1,
                        }
                        assert!(
                            slice.bytes == expected(&batches, &bases, &read),
                            "{read:?} gave {}",
                            slice.range
                        );
                        let mut walk = Batches::new(&slice.bytes);
                        let next =
                            walk.by_ref().last().map_or(from, |located| located.header.next_offset().get());
                        assert_eq!(slice.range.next, offset(next));
                    }
                }
            }
        }
        assert!(in_memory > 0, "nothing was in memory");
        if round == 0 {
            assert!(
                elsewhere <= bases.len(),
                "all but indexes of closed segments is in memory, and these from their first use on"
            );
            // And again from indexes on disk, with one file open at a time.
            house.options.files_open_max = 1;
            house.options.index_cache_bytes = ByteCount(1);
            house.stop();
        } else {
            let told = log.shared.tells_cached;
            assert_eq!(
                elsewhere > 0,
                told,
                "neither closed files nor indexes on disk are in memory, where that is told"
            );
        }
    }
}

#[test]
fn reads_outside_of_the_log_say_where_it_is() {
    let mut house = House::new();
    let (log, batches) = filled(&mut house);
    let end = log.end();
    assert!(
        matches!(log.read(read_from(end.get() + 1)), Err(ReadError::BeyondEnd { end: found }) if found == end)
    );
    assert_eq!(log.read(read_from(end.get())).unwrap().range, OffsetRange { base: end, next: end });
    let segment = log.sealed_segments()[1].range;
    log.trim_local(segment.base).unwrap();
    let local_start = segment.base;
    for from in [0, local_start.get() - 1] {
        let error = log.read(read_from(from)).unwrap_err();
        assert!(
            matches!(error, ReadError::BelowLocalStart { local_start: found } if found == local_start),
            "{error}"
        );
    }
    let slice = log.read(read_from(local_start.get())).unwrap();
    assert_eq!(slice.range, segment);
    drop(batches);
    house.stop();
    assert!(matches!(log.read(read_from(end.get() - 1)), Err(ReadError::Closed)));
}

#[test]
fn damaged_headers_are_told_and_never_served() {
    for (what, at) in [("magic", 16), ("offset", 7), ("length", 10)] {
        let mut house = House::new();
        let (log, batches) = filled(&mut house);
        house.settle(&log);
        let path = house.file(0, layout::LOG);
        let position: usize = batches[..3].iter().map(|(.., bytes)| bytes.len()).sum();
        let mut bytes = house.read_file(&path);
        bytes[position + at] ^= 0x11;
        // In place: the log has the file open.
        let file = aquifer_runtime::files::Disk::host().open(&path).unwrap();
        file.write_all_at(0, &mut [std::io::IoSlice::new(&bytes)]).unwrap();
        let from = batches[3].0;
        match log.read(read_from(from)) {
            Err(ReadError::Corrupt(corruption)) => {
                assert_eq!((corruption.file, corruption.position), (path, position as u64), "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
        // What lies before is served still, up to there.
        assert_eq!(log.read(read_from(0)).unwrap().range.next, offset(from), "{what}");
    }
}

#[test]
fn sizes_are_estimated_without_a_file() {
    let mut house = House::new();
    let (log, batches) = filled(&mut house);
    let total: usize = batches.iter().map(|(.., bytes)| bytes.len()).sum();
    let (start, end) = (Offset::ZERO, log.end());
    assert_eq!(log.bytes_from(start, end), ByteCount(total as u64));
    assert_eq!(log.bytes_behind_tail(start), log.size());
    assert_eq!(log.bytes_behind_tail(end), ByteCount::ZERO);
    let mut previous = total as u64;
    for from in 0..end.get() {
        let left = log.bytes_behind_tail(offset(from)).get();
        assert!(left <= previous && left > 0, "from {from}");
        previous = left;
    }
}

#[test]
fn reads_go_on_while_segments_come_and_go() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(2000);
    house.config.file_delete_delay_ms = std::time::Duration::ZERO;
    house.options.files_open_max = 2;
    let log = house.log();
    for n in 0..20 {
        append(&log, batch(n, 1, 300));
    }
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut from = 0;
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    match log.read(read_from(from)) {
                        Ok(slice) if slice.bytes.is_empty() => from = log.offsets().local_start.get(),
                        Ok(slice) => {
                            let mut walk = Batches::new(&slice.bytes);
                            for located in walk.by_ref() {
                                let (position, header) = (located.position, located.header);
                                assert_eq!(header.verify(&slice.bytes[position..]), Ok(()));
                            }
                            assert_eq!(walk.tail(), Some(aquifer_model::batches::Tail::Whole));
                            from = slice.range.next.get();
                        }
                        Err(ReadError::BelowLocalStart { local_start }) => from = local_start.get(),
                        Err(ReadError::BeyondEnd { .. }) => from = log.offsets().local_start.get(),
                        Err(other) => panic!("{other}"),
                    }
                }
            });
        }
        for n in 0..400u64 {
            append(&log, batch(n, 1, 300));
            let end = log.end().get();
            if n % 20 == 7 {
                log.trim_local(offset(end - 15)).unwrap();
            }
            if n % 50 == 33 {
                log.truncate_to(offset(end - 5)).unwrap();
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

#[test]
fn an_index_that_leads_too_far_costs_a_walk_and_no_record() {
    let mut house = House::new();
    let (log, batches) = filled(&mut house);
    {
        // Sound by all that can be seen of it, and wrong: early offsets at late positions.
        let mut state = log.state.lock();
        let entries = &mut state.tail.builder.index.offsets;
        assert!(entries.len() > 1, "there are entries to change");
        for (relative, entry) in (1..).zip(entries) {
            entry.relative = relative;
        }
    }
    let bases = house.bases();
    for from in bases[bases.len() - 1]..log.end().get() {
        let read = read_from(from);
        let slice = log.read(read).unwrap();
        assert!(slice.bytes == expected(&batches, &bases, &read), "{read:?} gave {}", slice.range);
    }
}
