//! Records inside a batch: framing that is right, and each way in which it can be wrong.

use super::*;
use crate::batch::{BatchError, HEADER_BYTES};
use crate::builder::BatchBuilder;
use crate::compression::Compression;
use proptest::prelude::*;

type Parts = (Option<Vec<u8>>, Option<Vec<u8>>, i64, Vec<(Vec<u8>, Option<Vec<u8>>)>);

fn build(records: &[Parts]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (key, value, timestamp, headers) in records {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            headers.iter().map(|(k, v)| (&k[..], v.as_deref())).collect();
        builder.push(Timestamp(*timestamp), key.as_deref(), value.as_deref(), &headers);
    }
    builder.finish(Compression::None).unwrap()
}

proptest! {
    #[test]
    fn what_is_built_checks_and_reads_back(
        records in proptest::collection::vec(
            (any::<Option<Vec<u8>>>(), any::<Option<Vec<u8>>>(), -1_000_000_000_000i64..1_000_000_000_000,
             proptest::collection::vec((any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..3)), 1..20),
    ) {
        let bytes = Bytes::from(build(&records));
        let header = BatchHeader::parse(&bytes).unwrap();
        prop_assert_eq!(header.verify(&bytes), Ok(()));
        prop_assert_eq!(header.size(), bytes.len());
        let body = bytes.slice(HEADER_BYTES..);
        let checked = check(&header, &body).unwrap();
        prop_assert_eq!(checked.timestamp_max, header.max_timestamp());
        prop_assert_eq!(checked.timestamp_max.0, records.iter().map(|r| r.2).max().unwrap());
        prop_assert_eq!(checked.keyless, records.iter().position(|r| r.0.is_none()).map(|at| at as u32));
        let read = read(&header, &body).unwrap();
        prop_assert_eq!(read.len(), records.len());
        for (index, (record, (key, value, timestamp, headers))) in read.iter().zip(&records).enumerate() {
            prop_assert_eq!(record.offset.get(), index as i64);
            prop_assert_eq!(record.timestamp.0, *timestamp);
            prop_assert_eq!(record.key.as_deref(), key.as_deref());
            prop_assert_eq!(record.value.as_deref(), value.as_deref());
            prop_assert_eq!(record.headers.len(), headers.len());
        }
    }

    #[test]
    fn no_bytes_make_the_check_panic(bytes: Vec<u8>, count in 1u32..100) {
        let header = crate::batch::NewBatch {
            compression: Compression::None, transactional: false, control: false,
            base_timestamp: Timestamp(0), max_timestamp: Timestamp(0), producer: None, record_count: count,
        }.header(&bytes);
        let _ = check(&header, &bytes);
        let _ = read(&header, &Bytes::from(bytes));
    }

    #[test]
    fn the_header_round_trips(bytes in proptest::collection::vec(any::<u8>(), HEADER_BYTES)) {
        let mut bytes = bytes;
        bytes[16] = 2;
        if let Ok(header) = BatchHeader::parse(&bytes) {
            let mut expected = bytes.clone();
            if header.leader_epoch.is_none() {
                expected[12..16].copy_from_slice(&(-1i32).to_be_bytes());
            }
            prop_assert_eq!(&header.to_bytes()[..], &expected[..]);
        }
    }
}

#[test]
fn lies_about_the_records_are_found() {
    let record = |n: u8| (Some(vec![n]), Some(vec![n; 10]), 1000, vec![]);
    let bytes = build(&[record(1), record(2)]);
    let header = BatchHeader::parse(&bytes).unwrap();
    let body = &bytes[HEADER_BYTES..];
    let one = body.len() / 2;
    assert_eq!(check(&header, &body[..one]), Err(RecordError::Count { found: 1, stated: 2 }));
    let three = [body, &body[..one]].concat();
    assert_eq!(check(&header, &three), Err(RecordError::Count { found: 3, stated: 2 }));
    let twice_the_first = [&body[..one], &body[..one]].concat();
    assert_eq!(check(&header, &twice_the_first), Err(RecordError::OffsetDelta(1, 0)));
    assert_eq!(check(&header, &body[..body.len() - 1]), Err(RecordError::Framing(1)));
}

#[test]
fn placing_keeps_the_checksum_and_stamping_renews_it() {
    let mut bytes = build(&[(None, Some(b"v".to_vec()), 1000, vec![])]);
    let mut header = BatchHeader::parse(&bytes).unwrap();
    header.place(Offset::new(77).unwrap(), crate::LeaderEpoch::new(3).unwrap());
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    assert_eq!(BatchHeader::parse(&bytes).unwrap().verify(&bytes), Ok(()));
    header.stamp(Timestamp(5000), &bytes[HEADER_BYTES..]);
    assert!(matches!(header.verify(&bytes), Err(BatchError::Checksum { .. })));
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    assert_eq!(header.verify(&bytes), Ok(()));
    assert!(header.is_log_append_time());
    assert_eq!(header.max_timestamp(), Timestamp(5000));
}

#[test]
fn old_message_formats_are_named() {
    let mut message = vec![0; 40];
    message[16] = 1;
    assert_eq!(BatchHeader::parse(&message), Err(BatchError::Magic(1)));
    assert_eq!(BatchHeader::parse(&message[..10]), Err(BatchError::Short));
}

#[test]
fn the_first_record_of_a_time_is_found_or_the_batch_that_cannot_be_opened() {
    let mut builder = BatchBuilder::new();
    for timestamp in [10, 30, 20, 40] {
        builder.push(Timestamp(timestamp), None, Some(b"value"), &[]);
    }
    let all = OffsetRange { base: Offset::ZERO, next: Offset::new(4).unwrap() };
    let late = OffsetRange { base: Offset::new(2).unwrap(), ..all };
    for codec in [Compression::None, Compression::Lz4] {
        let bytes = builder.clone().finish(codec).unwrap();
        let header = BatchHeader::parse(&bytes).unwrap();
        let find = |timestamp, within| {
            let found = first_at_or_after(&header, &bytes[HEADER_BYTES..], Timestamp(timestamp), within);
            found.map(|(offset, timestamp)| (offset.get(), timestamp.0))
        };
        assert_eq!(find(5, all), Some((0, 10)));
        assert_eq!(find(11, all), Some((1, 30)));
        assert_eq!(find(11, late), Some((2, 20)));
        assert_eq!(find(41, all), None);
        if codec != Compression::None {
            let unreadable = |timestamp, within| {
                let found = first_at_or_after(&header, b"no lz4", Timestamp(timestamp), within);
                found.map(|(offset, timestamp)| (offset.get(), timestamp.0))
            };
            assert_eq!(unreadable(11, all), Some((0, 40)), "whoever starts there misses nothing");
            assert_eq!(unreadable(11, late), Some((2, 40)));
            assert_eq!(unreadable(41, all), None);
        }
    }
}
