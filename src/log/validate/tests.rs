use aquifer_model::batch::{BatchProducer, NewBatch};
use aquifer_model::builder::BatchBuilder;
use aquifer_model::{ProducerEpoch, ProducerId};

use super::*;
use crate::config::Compaction;
use crate::log::Cleanup;

const NOW: Timestamp = Timestamp(1_700_000_000_000);

fn batch(compression: Compression, records: &[(i64, Option<&str>)]) -> Vec<u8> {
    let mut builder = BatchBuilder::new();
    for (timestamp, key) in records {
        builder.push(Timestamp(NOW.0 + timestamp), key.map(str::as_bytes), Some(b"value"), &[]);
    }
    builder.finish(compression).unwrap()
}

#[track_caller]
fn check(config: &LogConfig, batch: Vec<u8>, expected: Result<(), AppendError>) {
    let found = validate(&Bytes::from(batch), Origin::Client, config, NOW).map(|_| ());
    assert_eq!(found, expected);
}

fn good() -> Vec<u8> {
    batch(Compression::None, &[(0, Some("k")), (1, None)])
}

#[test]
fn sizes_and_shapes_are_bounded() {
    let config = LogConfig::default();
    check(&config, good(), Ok(()));
    let size = ByteCount(good().len() as u64);
    let max = ByteCount(size.get() - 1);
    check(&LogConfig { max_message_bytes: size, ..LogConfig::default() }, good(), Ok(()));
    check(
        &LogConfig { max_message_bytes: max, ..LogConfig::default() },
        good(),
        Err(AppendError::TooLarge { size, max }),
    );
    check(
        &LogConfig { segment_bytes: max, ..LogConfig::default() },
        good(),
        Err(AppendError::SegmentTooLarge { size, max }),
    );
    check(&config, Vec::new(), Err(InvalidRecords::Empty.into()));
    check(&config, [good(), good()].concat(), Err(InvalidRecords::SeveralBatches.into()));
    check(&config, good()[..70].to_vec(), Err(BatchError::Short.into()));
    let mut old = good();
    old[16] = 1;
    check(&config, old, Err(BatchError::Magic(1).into()));
}

#[test]
fn every_flipped_bit_under_the_checksum_is_found() {
    for at in 17..good().len() {
        let mut bytes = good();
        bytes[at] ^= 0x10;
        let found = validate(&Bytes::from(bytes), Origin::Client, &LogConfig::default(), NOW);
        assert!(matches!(found, Err(AppendError::Batch(_))), "byte {at}: {found:?}");
    }
}

/// A batch with a sound checksum over whatever header.
fn forged(new: NewBatch, records: &[u8]) -> Vec<u8> {
    [&new.header(records).to_bytes()[..], records].concat()
}

#[test]
fn what_only_brokers_write_is_refused_from_clients() {
    let good = good();
    let header = BatchHeader::parse(&good).unwrap();
    let records = Bytes::copy_from_slice(&good[HEADER_BYTES..]);
    let new = NewBatch {
        compression: Compression::None,
        transactional: false,
        control: true,
        base_timestamp: header.base_timestamp(),
        max_timestamp: header.max_timestamp(),
        producer: None,
        record_count: 2,
    };
    let config = LogConfig::default();
    check(&config, forged(new, &records), Err(InvalidRecords::Control.into()));
    let found = validate(&forged(new, &records).into(), Origin::Coordinator, &config, NOW);
    assert!(found.is_ok(), "{found:?}");
    let mut horizon = forged(NewBatch { control: false, ..new }, &records);
    horizon[22] |= 1 << 6;
    let crc = aquifer_model::format::crc32c(&[&horizon[21..]]);
    horizon[17..21].copy_from_slice(&crc.to_be_bytes());
    check(&config, horizon, Err(InvalidRecords::DeleteHorizon.into()));
    let producer = BatchProducer { id: ProducerId(1), epoch: ProducerEpoch(0), base_sequence: -1 };
    let unnumbered = NewBatch { control: false, producer: Some(producer), ..new };
    check(&config, forged(unnumbered, &records), Err(InvalidRecords::Sequence(-1).into()));
    let stated = 3;
    let short = NewBatch { control: false, record_count: stated, ..new };
    let error = record::RecordError::Count { found: 2, stated };
    check(&config, forged(short, &records), Err(InvalidRecords::Record(error).into()));
}

#[test]
fn compressed_records_are_looked_into_only_where_asked() {
    let garbage = NewBatch {
        compression: Compression::Gzip,
        transactional: false,
        control: false,
        base_timestamp: NOW,
        max_timestamp: NOW,
        producer: None,
        record_count: 1,
    };
    let config = LogConfig::default();
    check(&config, forged(garbage, b"no gzip"), Ok(()));
    for config in [
        LogConfig { record_validation: RecordValidation::Full, ..config.clone() },
        LogConfig { cleanup: Cleanup::Compact(Compaction::default()), ..config },
    ] {
        let found = validate(&forged(garbage, b"no gzip").into(), Origin::Client, &config, NOW);
        assert!(matches!(found, Err(AppendError::Invalid(InvalidRecords::Compressed(_)))), "{found:?}");
    }
}

#[test]
fn a_compacted_topic_needs_keys() {
    let config = LogConfig { cleanup: Cleanup::Compact(Compaction::default()), ..LogConfig::default() };
    for codec in [Compression::None, Compression::Lz4] {
        check(&config, batch(codec, &[(0, Some("a")), (0, Some("b"))]), Ok(()));
        check(&config, batch(codec, &[(0, Some("a")), (0, None)]), Err(InvalidRecords::Keyless(1).into()));
    }
}

#[test]
fn timestamps_are_bounded_and_the_records_named() {
    let config = LogConfig {
        timestamp_before_max_ms: Some(Duration::from_millis(100)),
        timestamp_after_max_ms: Some(Duration::from_millis(50)),
        ..LogConfig::default()
    };
    let issue = |index, timestamp| TimestampIssue { index, timestamp: Timestamp(NOW.0 + timestamp) };
    let none = Timestamp::NONE.0 - NOW.0;
    check(&config, batch(Compression::None, &[(-100, None), (50, None), (none, None)]), Ok(()));
    let errors = vec![issue(1, -101), issue(3, 51)];
    let wrong = [(0, None), (-101, None), (0, None), (51, None)];
    check(&config, batch(Compression::None, &wrong), Err(AppendError::Timestamp { errors: errors.clone() }));
    check(&config, batch(Compression::Zstd, &wrong), Err(AppendError::Timestamp { errors: Vec::new() }));
    let full = LogConfig { record_validation: RecordValidation::Full, ..config };
    check(&full, batch(Compression::Zstd, &wrong), Err(AppendError::Timestamp { errors }));
    let arrival = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..full };
    check(&arrival, batch(Compression::None, &wrong), Ok(()));
}

#[test]
fn the_time_of_arrival_is_stamped_under_a_new_checksum() {
    let config = LogConfig { timestamp_type: TimestampType::LogAppendTime, ..LogConfig::default() };
    for codec in [Compression::None, Compression::Snappy] {
        let sent = batch(codec, &[(-5, None), (-4, None)]);
        let header = validate(&sent.clone().into(), Origin::Client, &config, NOW).unwrap();
        assert_eq!((header.max_timestamp(), header.is_log_append_time()), (NOW, true));
        let stored = [&header.to_bytes()[..], &sent[HEADER_BYTES..]].concat();
        assert_eq!(header.verify(&stored), Ok(()));
        check(&LogConfig::default(), stored, Err(AppendError::Timestamp { errors: Vec::new() }));
    }
}

#[test]
fn a_header_that_lies_about_its_newest_record_is_put_right() {
    let sent = good();
    let mut header = BatchHeader::parse(&sent).unwrap();
    header.correct_max_timestamp(Timestamp(NOW.0 - 77), &sent[HEADER_BYTES..]);
    let lying = [&header.to_bytes()[..], &sent[HEADER_BYTES..]].concat();
    let stored = validate(&lying.into(), Origin::Client, &LogConfig::default(), NOW).unwrap();
    assert_eq!(stored.to_bytes(), BatchHeader::parse(&sent).unwrap().to_bytes());
}
