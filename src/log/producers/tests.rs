use aquifer_model::LeaderEpoch;
use aquifer_model::batch::{BatchProducer, NewBatch};
use aquifer_model::compression::Compression;

use super::*;

const NOW: Timestamp = Timestamp(5_000);

struct Batch {
    producer: i64,
    epoch: i16,
    sequence: i32,
    count: u32,
    offset: i64,
    transactional: bool,
    control: bool,
}

const BATCH: Batch =
    Batch { producer: 7, epoch: 0, sequence: 0, count: 1, offset: 0, transactional: false, control: false };

fn header(batch: &Batch) -> BatchHeader {
    let producer = BatchProducer {
        id: ProducerId(batch.producer),
        epoch: ProducerEpoch(batch.epoch),
        base_sequence: batch.sequence,
    };
    let mut header = NewBatch {
        compression: Compression::None,
        transactional: batch.transactional,
        control: batch.control,
        base_timestamp: NOW,
        max_timestamp: NOW,
        producer: Some(producer),
        record_count: batch.count,
    }
    .header(b"");
    header.place(offset(batch.offset), LeaderEpoch::ZERO);
    header
}

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

fn note(producers: &mut Producers, batch: Batch) {
    assert_eq!(producers.note(&header(&batch), None, NOW), None);
}

#[track_caller]
fn check(producers: &Producers, epoch: i16, sequence: i32, count: u32, expected: Verdict) {
    assert_eq!(producers.judge(&header(&Batch { epoch, sequence, count, ..BATCH })), expected);
}

#[test]
fn sequences_continue_repeat_or_are_refused() {
    let mut producers = Producers::default();
    check(&producers, 3, 99, 1, Verdict::New);
    for n in 0..7 {
        note(
            &mut producers,
            Batch { epoch: 3, sequence: n * 10, count: 10, offset: i64::from(n) * 100, ..BATCH },
        );
    }
    let duplicate =
        |n: i64| Verdict::Duplicate { base: offset(n * 100), last: offset(n * 100 + 9), timestamp: NOW };
    check(&producers, 3, 70, 5, Verdict::New);
    check(&producers, 3, 60, 10, duplicate(6));
    check(&producers, 3, 20, 10, duplicate(2));
    // Only five are remembered, and only whole batches are duplicates.
    check(&producers, 3, 10, 10, Verdict::OutOfOrder { expected: 70 });
    check(&producers, 3, 60, 9, Verdict::OutOfOrder { expected: 70 });
    check(&producers, 3, 71, 1, Verdict::OutOfOrder { expected: 70 });
    check(&producers, 2, 70, 1, Verdict::Fenced { current: ProducerEpoch(3) });
    check(&producers, 4, 70, 1, Verdict::OutOfOrder { expected: 0 });
    check(&producers, 4, 0, 1, Verdict::New);
    note(&mut producers, Batch { epoch: 4, offset: 900, ..BATCH });
    check(&producers, 4, 60, 10, Verdict::OutOfOrder { expected: 1 });
}

#[test]
fn sequences_wrap_to_zero() {
    let mut producers = Producers::default();
    note(&mut producers, Batch { sequence: i32::MAX - 1, count: 2, ..BATCH });
    check(&producers, 0, 0, 1, Verdict::New);
    note(&mut producers, Batch { sequence: 0, offset: 2, ..BATCH });
    let mut producers = Producers::default();
    note(&mut producers, Batch { sequence: i32::MAX, count: 3, ..BATCH });
    check(&producers, 0, 2, 1, Verdict::New);
    let again = Verdict::Duplicate { base: offset(0), last: offset(2), timestamp: NOW };
    check(&producers, 0, i32::MAX, 3, again);
}

fn end(producers: &mut Producers, producer: i64, at: i64, ending: Ending) -> Option<AbortedTxn> {
    let batch =
        Batch { producer, epoch: 0, sequence: -1, offset: at, transactional: true, control: true, ..BATCH };
    producers.note(&header(&batch), Some(Marker { ending, coordinator_epoch: 1 }), NOW)
}

#[test]
fn transactions_hold_back_the_stable_offset_until_their_marker_is_replicated() {
    let mut producers = Producers::default();
    assert_eq!(producers.first_unstable(offset(0)), None);
    for (producer, at) in [(1, 0), (2, 10), (3, 20)] {
        note(&mut producers, Batch { producer, offset: at, transactional: true, ..BATCH });
    }
    assert_eq!(producers.first_unstable(offset(21)), Some(offset(0)));
    assert_eq!(end(&mut producers, 2, 30, Ending::Commit), None);
    let aborted =
        AbortedTxn { producer: ProducerId(1), first: offset(0), last: offset(31), stable: offset(20) };
    assert_eq!(end(&mut producers, 1, 31, Ending::Abort), Some(aborted));
    assert_eq!(producers.first_unstable(offset(30)), Some(offset(0)));
    assert_eq!(producers.first_unstable(offset(31)), Some(offset(0)));
    assert_eq!(producers.first_unstable(offset(32)), Some(offset(20)));
    // A marker without records, as a coordinator writes to a partition that got none.
    assert_eq!(end(&mut producers, 9, 40, Ending::Abort), None);
    assert_eq!(end(&mut producers, 3, 41, Ending::Commit), None);
    assert_eq!(producers.first_unstable(offset(42)), None);
    // After a marker the sequence goes on.
    check(&producers, 0, 5, 1, Verdict::New);
}

#[test]
fn the_idle_are_forgotten_but_not_within_a_transaction() {
    let mut producers = Producers::default();
    for n in 0..100 {
        let batch = Batch { producer: n, offset: n, transactional: n == 0, ..BATCH };
        producers.note(&header(&batch), None, Timestamp(n));
    }
    let day = Duration::from_secs(86_400);
    assert_eq!(producers.forget(Timestamp(100), day, 100), 0);
    assert_eq!(producers.len(), 100);
    assert_eq!(producers.forget(Timestamp(100), day, 64), 40);
    assert_eq!(producers.len(), 60);
    assert!(
        producers.entries.contains_key(&ProducerId(0)) && producers.entries.contains_key(&ProducerId(99))
    );
    assert_eq!(producers.forget(Timestamp(90).plus(day), day, 64), 0);
    assert_eq!(producers.len(), 10);
}

#[test]
fn bytes_round_trip_and_any_bytes_are_survived() {
    let mut producers = Producers::default();
    for n in 0..20 {
        note(
            &mut producers,
            Batch { producer: n % 4, sequence: n as i32 / 4, offset: n, transactional: n % 4 < 2, ..BATCH },
        );
    }
    end(&mut producers, 0, 30, Ending::Abort);
    let mut writer = Writer::new();
    producers.write(&mut writer);
    let body = writer.finish();
    let mut reader = Reader::new("test", &body);
    assert_eq!(Producers::read(&mut reader).as_ref(), Ok(&producers));
    assert!(reader.end().is_ok());
    for cut in 0..body.len() {
        assert!(Producers::read(&mut Reader::new("test", &body[..cut])).is_err(), "cut at {cut}");
    }
    assert_eq!(
        Marker::parse(&[0, 0, 0, 1], &[0, 0, 0, 0, 0, 9]),
        Some(Marker { ending: Ending::Commit, coordinator_epoch: 9 })
    );
    for (key, value) in [(&[0, 0, 0, 2][..], &[0; 6][..]), (&[], &[]), (&[0, 0, 0, 1], &[0; 5])] {
        assert_eq!(Marker::parse(key, value), None);
    }
}

#[test]
fn what_names_a_producer_or_the_start_of_a_transaction_twice_is_refused() {
    let read = |named: &[(i64, Option<i64>)]| {
        let mut writer = Writer::new();
        writer.list(named, |writer, (id, first)| {
            writer.i64(*id);
            Entry { txn_first: first.map(offset), ..Entry::new(ProducerEpoch(0)) }.write(writer);
        });
        writer.list(&[], |_, _: &EndedTxn| {});
        Producers::read(&mut Reader::new("test", &writer.finish()))
    };
    let sound = read(&[(1, Some(5)), (2, Some(6)), (3, None), (4, None)]).expect("each is named once");
    assert_eq!((sound.len(), sound.open.len()), (4, 2));
    for twice in [[(1, Some(5)), (1, None)], [(1, None), (1, None)], [(1, Some(5)), (2, Some(5))]] {
        assert!(matches!(read(&twice), Err(FormatError::Invalid { .. })), "{twice:?}");
    }
}
