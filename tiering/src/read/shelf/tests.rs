use super::super::readers::Reader;
use super::*;
use aquifer_model::{PartitionIndex, TopicId};
use uuid::Uuid;

fn partition(number: i32) -> TopicPartition {
    TopicPartition { topic: TopicId::new(Uuid::from_u128(7)), partition: PartitionIndex(number) }
}

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

/// Segments of a thousand offsets and four chunks of 10 bytes.
fn mark(of: i32, number: u64) -> Shelfmark {
    let base = i64::try_from(number / 4).unwrap() * 1000;
    let segment = OffsetRange { base: offset(base), next: offset(base + 1000) };
    Shelfmark { partition: partition(of), segment, start: number % 4 * 10, length: 10 }
}

fn readers(of: &[(i32, &[u64])]) -> Positions {
    let reader = |number: &u64| {
        let Shelfmark { segment, start, .. } = mark(0, *number);
        Reader { at: (segment.base, start + 5), segment_next: segment.next }
    };
    of.iter().map(|(number, at)| (partition(*number), at.iter().map(reader).collect())).collect()
}

fn shelf_with(capacity: u64, chunks: &[u64]) -> Shelf<u64> {
    let mut shelf = Shelf::new(capacity);
    for chunk in chunks {
        assert_eq!(shelf.put(&mark(0, *chunk), *chunk, &Positions::new()), Vec::<u64>::new());
    }
    shelf
}

#[test]
fn without_readers_the_least_recently_used_goes() {
    let mut shelf = shelf_with(30, &[5, 1, 9]);
    shelf.used(&mark(0, 5));
    assert_eq!(shelf.put(&mark(1, 0), 100, &Positions::new()), [1]);
    assert_eq!(shelf.put(&mark(1, 1), 101, &Positions::new()), [9]);
    assert_eq!(shelf.put(&mark(1, 2), 102, &Positions::new()), [5]);
    assert_eq!(shelf.room_ahead(&Positions::new()), 30);
}

#[test]
fn what_nobody_is_to_come_to_can_be_spared() {
    let at = readers(&[(0, &[2])]);
    let mut shelf = shelf_with(60, &[0, 1, 2, 3]);
    shelf.used(&mark(0, 0));
    assert_eq!(shelf.spare(5, &at), [1], "the least recently used");
    assert_eq!(shelf.spare(50, &at), [0], "what a reader is in, and what lies ahead of it, stays");
    assert_eq!(shelf.spare(50, &at), Vec::<u64>::new());
    assert_eq!(shelf.room_ahead(&at), 60 - 20);
}

#[test]
fn what_is_behind_all_readers_goes_first_and_then_what_is_farthest_ahead_of_one() {
    let at = readers(&[(0, &[2, 5])]);
    let mut shelf = shelf_with(80, &[0, 1, 2, 3, 4, 5, 6, 7]);
    // The chunk that a reader is in is still wanted.
    assert_eq!(shelf.room_ahead(&at), 80 - 60);
    let going: Vec<u64> = (8..14).flat_map(|next| shelf.put(&mark(1, next), next + 100, &at)).collect();
    // 0 and 1 are spent, and so is what was shelved for a partition that nobody reads.
    assert_eq!(going, [0, 1, 108, 109, 110, 111]);
    shelf = shelf_with(60, &[2, 3, 4, 5, 6, 7]);
    assert_eq!(shelf.room_ahead(&at), 0);
    let going: Vec<u64> = [0, 1].into_iter().flat_map(|next| shelf.put(&mark(0, next), next, &at)).collect();
    // 4 and 7 are both twenty bytes ahead of the reader behind them; then what was just put behind all readers is spent.
    assert!(matches!(going[..], [4 | 7, 0]), "{going:?}");
}

#[test]
fn nobody_is_taken_to_want_what_lies_behind_a_missing_segment() {
    let at = readers(&[(0, &[1])]);
    let shelf = shelf_with(100, &[1, 5, 9]);
    assert_eq!(shelf.room_ahead(&at), 70, "a hole smaller than a segment is bridged");
    let shelf = shelf_with(100, &[1, 9]);
    assert_eq!(shelf.room_ahead(&at), 90, "a whole segment is missing");
    let shelf = shelf_with(100, &[9]);
    assert_eq!(shelf.room_ahead(&at), 100, "also between a reader and what lies ahead of it");
}

#[test]
fn what_is_on_its_way_takes_room_and_what_the_cache_dropped_does_not() {
    let mut shelf = shelf_with(100, &[0, 1]);
    shelf.expect(30);
    assert_eq!(shelf.room_ahead(&readers(&[(0, &[0])])), 50);
    shelf.expected(30);
    shelf.forget(&mark(0, 1), &77);
    assert_eq!(shelf.held, 20, "another chunk of that place");
    shelf.forget(&mark(0, 1), &1);
    assert_eq!(shelf.room_ahead(&readers(&[(0, &[0])])), 90);
    // A rewritten segment's chunk takes the place of the old one's.
    assert_eq!(shelf.put(&mark(0, 0), 55, &Positions::new()), [0]);
    assert_eq!(shelf.held, 10);
}

#[test]
fn a_chunk_larger_than_the_shelf_leaves_it_empty_but_for_itself() {
    let mut shelf = shelf_with(15, &[0]);
    let large = Shelfmark { length: 40, ..mark(0, 1) };
    assert_eq!(shelf.put(&large, 1, &Positions::new()), [0]);
    assert_eq!(shelf.held, 40);
    assert_eq!(shelf.put(&mark(0, 2), 2, &Positions::new()), [1]);
}
