use aquifer_model::batch::NewBatch;
use aquifer_model::compression::Compression;

use super::*;

const INTERVAL: ByteCount = ByteCount(100);
const NOW: Timestamp = Timestamp(77);

fn header(timestamp: i64) -> BatchHeader {
    NewBatch {
        compression: Compression::None,
        transactional: false,
        control: false,
        base_timestamp: Timestamp(timestamp),
        max_timestamp: Timestamp(timestamp),
        producer: None,
        record_count: 1,
    }
    .header(&[0; 39])
}

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

/// Batches of 100 bytes, one record each, with these timestamps.
fn built(timestamps: &[i64]) -> IndexBuilder {
    let mut builder = IndexBuilder::new();
    for (n, timestamp) in (0u32..).zip(timestamps) {
        builder.note(&header(*timestamp), n, n * 100, INTERVAL, NOW);
        if n % 3 == 2 {
            let (first, last) = (offset(i64::from(n)), offset(i64::from(n) + 1));
            builder.index.aborted.push(AbortedTxn { producer: ProducerId(1), first, last, stable: last });
        }
    }
    builder
}

#[test]
fn an_entry_comes_after_an_interval_of_bytes_and_times_only_rise() {
    let builder = built(&[5, 4, 9, 3, 8, 20]);
    let positions: Vec<u32> = builder.index.offsets.iter().map(|entry| entry.position).collect();
    assert_eq!(positions, [200, 400]);
    let times: Vec<(i64, u32)> =
        builder.index.times.iter().map(|entry| (entry.timestamp.0, entry.relative)).collect();
    assert_eq!(times, [(9, 2)]);
    let mut closed = builder;
    closed.note_time();
    assert_eq!(closed.index.times.last().map(|entry| (entry.timestamp.0, entry.relative)), Some((20, 5)));
    closed.note_time();
    assert_eq!(closed.index.times.len(), 2);
    assert!(!closed.is_full(ByteCount(36)));
    assert!(closed.is_full(ByteCount(35)));
}

/// A file of chunks, one for each of the batch counts in `at`.
fn file(timestamps: &[i64], at: &[usize]) -> (Vec<u8>, Vec<usize>) {
    let mut from = IndexMark::start(offset(0));
    let (mut bytes, mut ends) = (Vec::new(), Vec::new());
    for count in at {
        let builder = built(&timestamps[..*count]);
        let to = builder.mark(*count as u64 * 100, offset(*count as i64));
        bytes.extend(builder.chunk(&from, &to));
        ends.push(bytes.len());
        from = to;
    }
    (bytes, ends)
}

#[test]
fn chunks_add_up_to_what_was_built_and_only_sound_ones_count() {
    let timestamps: Vec<i64> = (0..50).map(|n| n * 7 % 31).collect();
    let at = [1, 10, 10, 33, 50];
    let (bytes, ends) = file(&timestamps, &at);
    for (count, end) in at.iter().zip(&ends) {
        let position = *count as u64 * 100;
        let loaded = load(&bytes, offset(0), position).unwrap();
        assert_eq!(loaded.builder, built(&timestamps[..*count]), "up to {count}");
        assert_eq!((loaded.mark.position, loaded.mark.next), (position, offset(*count as i64)));
        assert_eq!(load(&bytes[..*end], offset(0), u64::MAX).unwrap().builder, built(&timestamps[..*count]));
    }
    for cut in 0..bytes.len() {
        let whole = ends.iter().filter(|end| **end <= cut).count();
        let loaded = load(&bytes[..cut], offset(0), u64::MAX).unwrap();
        let expected = whole.checked_sub(1).map_or(0, |last| ends[last]);
        assert_eq!(loaded.file_bytes, expected as u64, "cut at {cut}");
    }
    for flip in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[flip] ^= 0x40;
        // Either it is a newer version's, or it ends the file.
        if let Ok(loaded) = load(&bytes, offset(0), u64::MAX) {
            assert!(loaded.file_bytes <= flip as u64, "flipped {flip}");
        }
    }
}

#[test]
fn the_cache_holds_what_fits_and_drops_the_longest_unused() {
    let index = Arc::new(built(&[0; 100]).index);
    let cache = IndexCache::new(ByteCount(index.weight() * 3));
    for segment in 0..3 {
        cache.insert(segment, index.clone());
    }
    assert!(cache.get(0).is_some());
    cache.insert(3, index.clone());
    assert!(cache.get(1).is_none());
    for segment in [0, 2, 3] {
        assert!(cache.get(segment).is_some(), "{segment}");
    }
    cache.insert(2, index.clone());
    cache.remove(0);
    cache.insert(4, index);
    assert!([2, 3, 4].iter().all(|segment| cache.get(*segment).is_some()));
    assert_eq!(cache.held.lock().by_use.len(), 3);
}

/// For the test of durable bytes.
pub(crate) fn golden_chunk() -> Vec<u8> {
    let builder = built(&[5, 4, 9, 3]);
    builder.chunk(&IndexMark::start(offset(0)), &builder.mark(400, offset(4)))
}
