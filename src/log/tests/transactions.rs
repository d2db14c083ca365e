//! Aborted transactions and the last stable offset.

use aquifer_model::batch::{BatchProducer, HEADER_BYTES, NewBatch};
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{
    AbortedTxn, BatchHeader, ByteCount, Offset, OffsetRange, ProducerEpoch, ProducerId, Timestamp,
};
use bytes::Bytes;

use super::super::*;
use super::harness::*;

fn part_of_txn(producer: i64, sequence: i32, control: Option<i16>) -> Append {
    let mut builder = BatchBuilder::new();
    match control {
        None => builder.push(Timestamp(5), None, Some(&[1; 200]), &[]),
        Some(kind) => {
            let key = [0i16.to_be_bytes(), kind.to_be_bytes()].concat();
            builder.push(Timestamp(5), Some(&key), Some(&[0, 0, 0, 0, 0, 3]), &[]);
        }
    }
    let plain = builder.finish(Compression::None).unwrap();
    let records = &plain[HEADER_BYTES..];
    let header = NewBatch {
        compression: Compression::None,
        transactional: true,
        control: control.is_some(),
        base_timestamp: Timestamp(5),
        max_timestamp: Timestamp(5),
        producer: Some(BatchProducer {
            id: ProducerId(producer),
            epoch: ProducerEpoch(0),
            base_sequence: sequence,
        }),
        record_count: 1,
    }
    .header(records);
    let records = Bytes::from([&header.to_bytes()[..], records].concat());
    assert!(BatchHeader::parse(&records).is_ok());
    Append { records, epoch: epoch(0), origin: Origin::Coordinator }
}

const ABORT: Option<i16> = Some(0);
const COMMIT: Option<i16> = Some(1);

#[test]
fn open_and_aborted_transactions_outlive_segments_and_restarts() {
    let mut house = House::new();
    house.config.segment_bytes = ByteCount(900);
    let steps: [(i64, i32, Option<i16>); 14] = [
        (1, 0, None),    // 0
        (2, 0, None),    // 1
        (1, 1, None),    // 2
        (3, 0, None),    // 3
        (2, -1, ABORT),  // 4: aborts [1, 4]
        (1, 2, None),    // 5
        (4, 0, None),    // 6
        (4, -1, COMMIT), // 7
        (1, -1, ABORT),  // 8: aborts [0, 8]
        (2, 1, None),    // 9
        (2, -1, COMMIT), // 10
        (3, 1, None),    // 11
        (5, 0, None),    // 12
        (5, -1, ABORT),  // 13: aborts [12, 13]
    ];
    for (producer, sequence, control) in steps {
        house.log().append(part_of_txn(producer, sequence, control)).unwrap();
    }
    let end = offset(14);
    let txn = |producer, first, last, stable| AbortedTxn {
        producer: ProducerId(producer),
        first: offset(first),
        last: offset(last),
        stable: offset(stable),
    };
    let aborted = [txn(2, 1, 4, 0), txn(1, 0, 8, 3), txn(5, 12, 13, 3)];
    for stop in [None, Some(House::kill as fn(&mut House)), Some(House::stop), Some(House::kill)] {
        if let Some(stop) = stop {
            stop(&mut house);
        }
        let log = house.log();
        assert!(log.sealed_segments().len() > 2);
        // Producer 3's transaction is open.
        assert_eq!(log.first_unstable(end), Some(offset(3)));
        for from in 0..14 {
            for next in from + 1..=14 {
                let range = OffsetRange { base: offset(from), next: offset(next) };
                let expected: Vec<_> =
                    aborted.iter().filter(|txn| txn.overlaps(range.base, range.next)).copied().collect();
                assert_eq!(log.aborted(range).unwrap(), expected, "{range}");
            }
            let slice = log.read(Read { aborted: AbortedTxns::Include, ..read_from(from) }).unwrap();
            let overlapping = aborted.iter().filter(|txn| txn.overlaps(slice.range.base, slice.range.next));
            assert_eq!(slice.aborted, overlapping.copied().collect::<Vec<_>>());
        }
    }
    let log = house.log();
    let parts = log.sealed_parts(Offset::ZERO).unwrap().unwrap();
    assert_eq!(parts.aborted, aborted[..2]);
    // A cut brings a transaction back that it has no end for any more.
    log.truncate_to(offset(8)).unwrap();
    assert_eq!(log.first_unstable(offset(8)), Some(Offset::ZERO));
    let range = OffsetRange { base: Offset::ZERO, next: offset(8) };
    assert_eq!(log.aborted(range).unwrap(), aborted[..1]);
    log.append(part_of_txn(1, -1, COMMIT)).unwrap();
    assert_eq!(log.aborted(range).unwrap(), aborted[..1]);
    assert_eq!(log.first_unstable(offset(9)), Some(offset(3)));
}

#[test]
fn a_client_may_not_end_a_transaction() {
    let mut house = House::new();
    let append = Append { origin: Origin::Client, ..part_of_txn(1, -1, COMMIT) };
    assert_eq!(house.log().append(append), Err(AppendError::Invalid(InvalidRecords::Control)));
}
