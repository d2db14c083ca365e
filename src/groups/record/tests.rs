use aquifer_protocol::Segments;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn offset() -> Record {
    let key = OffsetKey { group: Str::from("g"), topic: Str::from("t"), partition: 7 };
    let value = OffsetValue {
        offset: 42,
        leader_epoch: LeaderEpoch::new(3),
        topic_id: None,
        metadata: Str::from("m"),
        committed: Timestamp(1_000),
        expires: None,
    };
    Record::Offset { key, value: Some(value) }
}

fn with_topic_id() -> Record {
    let Record::Offset { key, value: Some(value) } = offset() else { unreachable!() };
    let topic_id = Some(TopicId::new(uuid::Uuid::from_u128(0x0a0b)));
    Record::Offset { key, value: Some(OffsetValue { topic_id, ..value }) }
}

fn group() -> Record {
    let member = MemberValue {
        member_id: Str::from("a"),
        instance: Some(Str::from("i")),
        client_id: Str::from("c"),
        client_host: Str::from("/h"),
        rebalance_timeout_ms: 60_000,
        session_timeout_ms: 10_000,
        subscription: Bytes::from_static(&[1, 2]),
        assignment: Bytes::from_static(&[3]),
    };
    let value = GroupValue {
        protocol_type: Str::from("consumer"),
        generation: 5,
        protocol: Some(Str::from("range")),
        leader: Some(Str::from("a")),
        state_since: 2_000,
        members: vec![member],
    };
    Record::Group { group: Str::from("g"), value: Some(value) }
}

fn back(record: &Record) -> Option<Record> {
    let (key, value) = (record.key().expect("a key"), record.value().expect("a value"));
    Record::parse(key, value).expect("it was written here")
}

#[test]
fn what_is_written_is_read() {
    for record in [offset(), with_topic_id(), group()] {
        assert_eq!(back(&record).as_ref(), Some(&record));
        let (key, value) = (record.key().expect("a key"), record.value().expect("a value"));
        let bytes = key.len() + value.map_or(0, |value| value.len());
        assert!(record.batch_bytes_max() >= HEADER_BYTES + bytes + 32, "{record:?}");
    }
    let Record::Offset { key, .. } = offset() else { unreachable!() };
    let tombstone = Record::Offset { key, value: None };
    assert_eq!(back(&tombstone), Some(tombstone));
}

/// Laid out by hand from Kafka's schemas; once written, for ever read.
#[test]
fn the_bytes_are_kafkas() {
    let record = offset();
    assert_eq!(hex(&record.key().expect("a key")), "0001".to_owned() + "000167" + "000174" + "00000007");
    let value = record.value().expect("a value").expect("no tombstone");
    let expected = "0003".to_owned() + "000000000000002a" + "00000003" + "00016d" + "00000000000003e8";
    assert_eq!(hex(&value), expected);

    let value = with_topic_id().value().expect("a value").expect("no tombstone");
    let fields = "0004".to_owned() + "000000000000002a" + "00000003" + "026d" + "00000000000003e8";
    let tagged = "010010".to_owned() + "00000000000000000000000000000a0b";
    assert_eq!(hex(&value), fields + &tagged);

    let record = group();
    assert_eq!(hex(&record.key().expect("a key")), "0002".to_owned() + "000167");
    let value = record.value().expect("a value").expect("no tombstone");
    let expected = "0003".to_owned()
        + "0008636f6e73756d6572"
        + "00000005"
        + "000572616e6765"
        + "000161"
        + "00000000000007d0"
        + "00000001"
        + "000161"
        + "000169"
        + "000163"
        + "00022f68"
        + "0000ea60"
        + "00002710"
        + "00000002"
        + "0102"
        + "00000001"
        + "03";
    assert_eq!(hex(&value), expected);
}

#[test]
fn older_layouts_are_read() {
    let key = offset().key().expect("a key");
    let mut writer = Writer::bare();
    writer.i16(1);
    writer.i64(9);
    writer.string(false, &Str::from("m")).expect("short");
    writer.i64(1_000);
    writer.i64(2_000);
    let value = writer.finish().map(Segments::into_bytes).expect("small");
    let Ok(Some(Record::Offset { value: Some(value), .. })) = Record::parse(key, Some(value)) else {
        panic!("version 1 of an offset is not read");
    };
    assert_eq!((value.offset, value.leader_epoch, value.expires), (9, None, Some(Timestamp(2_000))));
    let expiring = Record::Offset {
        key: OffsetKey { group: Str::from("g"), topic: Str::from("t"), partition: 7 },
        value: Some(value),
    };
    assert_eq!(back(&expiring), Some(expiring));
}

#[test]
fn what_a_newer_broker_wrote_is_told_apart() {
    let unknown_kind = Record::parse(Bytes::from_static(&[0, 99, 1, 2, 3]), None);
    assert!(matches!(unknown_kind, Ok(None)));
    let key = group().key().expect("a key");
    let newer = Record::parse(key, Some(Bytes::from_static(&[0, 9, 0])));
    assert!(matches!(newer, Err(RecordError::Version { version: 9, .. })));
}
