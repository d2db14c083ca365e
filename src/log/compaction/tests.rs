//! Which records stay of a log with transactions, told batch by batch.

use std::collections::{HashMap, HashSet};

use aquifer_model::batch::{BatchProducer, HEADER_BYTES, NewBatch};
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{
    AbortedTxn, BatchHeader, ByteCount, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Timestamp, record,
};

use super::super::producers::LastBatch;
use super::judge::{Aborted, Judge};
use super::key_map::{KeyMap, Put, Room};
use super::thin::{Emptied, Fate, Left, thin};

const NOW: Timestamp = Timestamp(10_000);
const HORIZON: Timestamp = Timestamp(10_100);
const PRODUCER: ProducerId = ProducerId(7);

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

/// What a batch is of.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Plain,
    Transaction,
    Marker,
}

/// Records of (key, value) from this offset on; no value is a tombstone.
fn batch(at: i64, kind: Kind, compression: Compression, records: &[(&str, Option<&str>)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (number, (key, value)) in (0..).zip(records) {
        builder.push(Timestamp(1_000 + number), Some(key.as_bytes()), value.map(str::as_bytes), &[]);
    }
    let plain = builder.finish(Compression::None).unwrap();
    let packed = match compression {
        Compression::None => plain[HEADER_BYTES..].to_vec(),
        codec => codec.compress(&plain[HEADER_BYTES..]).unwrap(),
    };
    let producer = BatchProducer { id: PRODUCER, epoch: ProducerEpoch(0), base_sequence: 0 };
    let mut header = NewBatch {
        compression,
        transactional: kind != Kind::Plain,
        control: kind == Kind::Marker,
        base_timestamp: Timestamp(1_000),
        max_timestamp: Timestamp(1_000 + records.len() as i64 - 1),
        producer: Some(producer).filter(|_| kind != Kind::Plain),
        record_count: records.len() as u32,
    }
    .header(&packed);
    header.place(offset(at), LeaderEpoch::new(4).unwrap());
    [&header.to_bytes()[..], &packed].concat()
}

fn header_of(batch: &[u8]) -> BatchHeader {
    let header = BatchHeader::parse(batch).unwrap();
    header.verify(batch).unwrap();
    assert_eq!(header.size(), batch.len());
    header
}

/// A judge that has read keys up to `until`, where these are the newest offsets.
fn judge(newest: &[(&str, i64)], until: i64) -> Judge {
    let room = Room { bytes_max: ByteCount::kib(64), load_factor: 0.9, keys: 100 };
    let mut keys = KeyMap::new(room, (1, 2));
    for (key, at) in newest {
        assert_eq!(keys.put(key.as_bytes(), offset(*at)), Put::Held);
    }
    Judge {
        keys,
        until: offset(until),
        now: NOW,
        horizon: HORIZON,
        last: HashMap::new(),
        in_transaction: HashSet::new(),
        keyless: 0,
    }
}

fn judged(judge: &mut Judge, batch: &[u8], aborted: &Aborted) -> Left {
    judge.judge(&header_of(batch), batch, aborted).unwrap().0
}

/// (offset, timestamp, key) of what is left.
fn left_of(left: &Left) -> Vec<(i64, i64, String)> {
    let Left::Changed(bytes) = left else { panic!("it is {left:?}") };
    let header = header_of(bytes);
    let body = bytes::Bytes::copy_from_slice(&bytes[HEADER_BYTES..]);
    let body = match header.compression() {
        Compression::None => body,
        codec => codec.decompress(&body, 1 << 20).unwrap().into(),
    };
    let key = |record: &record::Record| String::from_utf8(record.key.clone().unwrap().to_vec()).unwrap();
    let records = record::read(&header, &body).unwrap();
    records.iter().map(|record| (record.offset.get(), record.timestamp.0, key(record))).collect()
}

#[test]
fn what_stays_of_a_batch_keeps_its_offsets_its_times_and_its_codec() {
    let records = [("a", Some("1")), ("b", Some("2")), ("c", Some("3"))];
    for codec in
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd]
    {
        let before = batch(10, Kind::Plain, codec, &records);
        let mut judge = judge(&[("a", 99), ("b", 11), ("c", 99)], 100);
        let left = judged(&mut judge, &before, &Aborted::default());
        assert_eq!(left_of(&left), [(11, 1_001, "b".to_owned())]);
        let Left::Changed(bytes) = left else { unreachable!("looked at above") };
        let (old, new) = (header_of(&before), header_of(&bytes));
        assert_eq!((new.base_offset, new.last_offset()), (old.base_offset, old.last_offset()));
        assert_eq!((new.leader_epoch, new.compression()), (old.leader_epoch, codec));
        assert_eq!((new.record_count(), new.max_timestamp()), (1, Timestamp(1_001)));
    }
}

#[test]
fn a_tombstone_stays_until_the_time_that_the_first_pass_wrote_into_its_batch() {
    let before = batch(0, Kind::Plain, Compression::None, &[("a", None), ("b", Some("1"))]);
    let newest = [("a", 0), ("b", 1)];
    let left = judged(&mut judge(&newest, 100), &before, &Aborted::default());
    let met = [(0, 1_000, "a".to_owned()), (1, 1_001, "b".to_owned())];
    assert_eq!(left_of(&left), met, "their times are what they were");
    let Left::Changed(marked) = left else { unreachable!("looked at above") };
    assert_eq!(header_of(&marked).delete_horizon(), Some(HORIZON));
    assert_eq!(judged(&mut judge(&newest, 100), &marked, &Aborted::default()), Left::Whole);
    let mut later = Judge { now: HORIZON, ..judge(&newest, 100) };
    assert_eq!(left_of(&judged(&mut later, &marked, &Aborted::default())), met[1..]);
}

#[test]
fn an_aborted_transaction_goes_and_its_marker_after_it() {
    let data = batch(0, Kind::Transaction, Compression::None, &[("a", Some("1"))]);
    let marker = batch(1, Kind::Marker, Compression::None, &[("m", Some("abort"))]);
    let transaction = AbortedTxn { producer: PRODUCER, first: offset(0), last: offset(1), stable: offset(2) };
    let aborted = Aborted::new(&[transaction]);
    let mut pass = judge(&[("a", 0)], 100);
    assert_eq!(judged(&mut pass, &data, &aborted), Left::Nothing, "though it is its key's newest");
    assert_eq!(judged(&mut pass, &marker, &aborted), Left::Whole, "its transaction was there yet");
    // The next pass finds the marker alone, and gives it a tombstone's time.
    let Left::Changed(marked) = judged(&mut judge(&[], 100), &marker, &aborted) else {
        panic!("its time begins")
    };
    assert_eq!(header_of(&marked).delete_horizon(), Some(HORIZON));
    let mut later = Judge { now: HORIZON, ..judge(&[], 100) };
    assert_eq!(judged(&mut later, &marked, &aborted), Left::Nothing);
    // One of the same producer that was committed stays.
    let committed = batch(5, Kind::Transaction, Compression::None, &[("a", Some("2"))]);
    assert_eq!(judged(&mut judge(&[("a", 5)], 100), &committed, &aborted), Left::Whole);
}

#[test]
fn the_last_batch_of_a_producer_and_the_last_of_all_stay_empty() {
    let data = batch(0, Kind::Transaction, Compression::None, &[("a", Some("1")), ("b", Some("1"))]);
    for (last, until, stays) in [
        (None, 100, false),
        (Some(LastBatch::Records(offset(1))), 100, true),
        (Some(LastBatch::Records(offset(9))), 100, false),
        (Some(LastBatch::Marker(ProducerEpoch(0))), 100, false),
        (None, 2, true),
    ] {
        let mut judge = judge(&[("a", 50), ("b", 50)], until);
        judge.last.extend(last.map(|last| (PRODUCER, last)));
        match judged(&mut judge, &data, &Aborted::default()) {
            Left::Changed(bytes) if stays => {
                let header = header_of(&bytes);
                assert_eq!((header.record_count(), header.next_offset()), (0, offset(2)));
                assert_eq!(header.producer(), header_of(&data).producer());
                assert_eq!(header.max_timestamp(), Timestamp::NONE);
            }
            left => assert_eq!((left, stays), (Left::Nothing, false), "{last:?} {until}"),
        }
    }
}

#[test]
fn from_where_the_keys_end_all_stays() {
    let beyond = batch(10, Kind::Plain, Compression::None, &[("a", Some("1"))]);
    assert_eq!(judged(&mut judge(&[("a", 50)], 10), &beyond, &Aborted::default()), Left::Whole);
    let across = batch(9, Kind::Plain, Compression::None, &[("a", Some("1")), ("a", Some("2"))]);
    let left = judged(&mut judge(&[("a", 50)], 10), &across, &Aborted::default());
    assert_eq!(left_of(&left), [(10, 1_001, "a".to_owned())]);
}

#[test]
fn a_batch_whose_records_are_not_what_its_header_says_is_told() {
    let mut bytes = batch(0, Kind::Plain, Compression::None, &[("a", Some("1"))]);
    bytes.truncate(HEADER_BYTES + 3);
    let header = BatchHeader::parse(&batch(0, Kind::Plain, Compression::None, &[("a", Some("1"))])).unwrap();
    assert!(thin(&header, &bytes, Emptied::Goes, HORIZON, |_| Fate::Stays).is_err());
}

#[test]
fn a_batch_is_of_the_transaction_of_its_producer_that_it_lies_in() {
    let transaction = |producer, first, last| AbortedTxn {
        producer: ProducerId(producer),
        first: offset(first),
        last: offset(last),
        stable: offset(last),
    };
    let aborted = Aborted::new(&[
        transaction(7, 10, 19),
        transaction(8, 0, 25),
        transaction(7, 30, 30),
        transaction(7, 31, 50),
    ]);
    for (at, held) in [
        (0, false),
        (9, false),
        (10, true),
        (19, true),
        (20, false),
        (29, false),
        (30, true),
        (31, true),
        (50, true),
        (51, false),
    ] {
        let of = |kind| header_of(&batch(at, kind, Compression::None, &[("a", Some("1"))]));
        assert_eq!(aborted.hold(&of(Kind::Transaction)), held, "{at}");
        assert!(!aborted.hold(&of(Kind::Plain)), "{at}");
    }
}
