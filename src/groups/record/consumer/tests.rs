use aquifer_model::batch::HEADER_BYTES;
use uuid::Uuid;

use super::super::Record;
use super::*;

fn text(text: &str) -> Str {
    Str::from(text)
}

fn partitions() -> Partitions {
    [(TopicId::new(Uuid::from_u128(0x0a)), 1), (TopicId::new(Uuid::from_u128(0x0a)), 3)].into_iter().collect()
}

/// The same, given in these epochs.
fn grants(first: i32, second: i32) -> Grants {
    let mut grants = Grants::default();
    for ((topic, index), epoch) in partitions().iter().zip([first, second]) {
        grants.insert(topic, index, epoch);
    }
    grants
}

/// One of each kind, with its key and its value.
fn all() -> Vec<(Said, &'static str, String)> {
    let profile = Profile {
        instance: Some(text("i")),
        rack: None,
        client_id: text("c"),
        client_host: text("/h"),
        topics: vec![text("t"), text("u")],
        pattern: Some(text("t.*")),
        rebalance_timeout_ms: 60_000,
        assignor: Some(text("range")),
        classic: None,
    };
    let protocols = vec![(text("range"), Bytes::from_static(&[1, 2, 3])), (text("sticky"), Bytes::new())];
    let classic = Profile {
        pattern: None,
        assignor: None,
        classic: Some(Classic { session_timeout_ms: 10_000, protocols }),
        ..profile.clone()
    };
    let current = Current {
        epoch: 5,
        previous_epoch: 4,
        state: MemberState::Unrevoked,
        assigned: grants(4, 5),
        revoking: Grants::default(),
    };
    let topic = "020000000000000000000000000000000a".to_owned() + "030000000100000003";
    let (set, given) = (topic.clone() + "00", topic + "0100" + "09" + "030000000400000005");
    let member = || text("m");
    vec![
        (
            Said::Group(Some(GroupEpoch { epoch: 7, metadata_hash: 258 })),
            "0003000167",
            "0000".to_owned() + "00000007" + "01" + "00" + "08" + "0000000000000102",
        ),
        (
            Said::Group(Some(GroupEpoch { epoch: 7, metadata_hash: 0 })),
            "0003000167",
            "0000".to_owned() + "00000007" + "00",
        ),
        (Said::Topics(true), "0004000167", "0000".to_owned() + "01" + "00"),
        (
            Said::Member { member: member(), value: Some(profile) },
            "000500016700016d",
            "0000".to_owned()
                + "0269"
                + "00"
                + "0263"
                + "032f68"
                + "03"
                + "0274"
                + "0275"
                + "04742e2a"
                + "0000ea60"
                + "0672616e6765"
                + "00",
        ),
        (
            Said::Member { member: member(), value: Some(classic) },
            "000500016700016d",
            "0000".to_owned()
                + "0269"
                + "00"
                + "0263"
                + "032f68"
                + "03"
                + "0274"
                + "0275"
                + "00"
                + "0000ea60"
                + "00"
                + "01"
                + "00"
                + "1b"
                + "01"
                + "00002710"
                + "03"
                + "0672616e6765"
                + "04010203"
                + "00"
                + "07737469636b79"
                + "01"
                + "00"
                + "00",
        ),
        (Said::TargetEpoch(Some(7)), "0006000167", "0000".to_owned() + "00000007" + "00"),
        (
            Said::Target { member: member(), value: Some(partitions()) },
            "000700016700016d",
            "0000".to_owned() + &set + "00",
        ),
        (
            Said::Current { member: member(), value: Some(current) },
            "000800016700016d",
            "0000".to_owned() + "00000005" + "00000004" + "01" + &given + "01" + "00",
        ),
        (
            Said::Pattern {
                pattern: text("t.*"),
                value: Some(Matching { topics: vec![text("t")], resolved: 1_000 }),
            },
            "00100001670003742e2a",
            "0000".to_owned() + "02" + "0274" + "0000000000000000" + "00000000000003e8" + "00",
        ),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn record(said: Said) -> Record {
    Record::Consumer(ConsumerRecord { group: text("g"), said })
}

/// Laid out by hand from Kafka's schemas, and the same as Kafka 4.3.1 writes; once written, for ever read.
#[test]
fn the_bytes_are_kafkas() {
    for (said, key, value) in all() {
        let record = record(said);
        let (found_key, found) = (record.key().expect("a key"), record.value().expect("a value"));
        let found = found.expect("no tombstone");
        assert_eq!((hex(&found_key).as_str(), hex(&found)), (key, value), "{record:?}");
        assert_eq!(
            Record::parse(found_key.clone(), Some(found.clone())).expect("ours"),
            Some(record.clone())
        );
        let bytes = HEADER_BYTES + found_key.len() + found.len() + 32;
        assert!(record.batch_bytes_max() >= bytes, "{record:?}");
    }
}

#[test]
fn what_is_taken_back_has_no_value() {
    let member = || text("m");
    let all = [
        Said::Group(None),
        Said::Topics(false),
        Said::Member { member: member(), value: None },
        Said::TargetEpoch(None),
        Said::Target { member: member(), value: None },
        Said::Current { member: member(), value: None },
        Said::Pattern { pattern: text("t.*"), value: None },
    ];
    for said in all {
        assert!(said.takes_back());
        let record = record(said);
        assert_eq!(record.value().expect("it can be told"), None);
        let key = record.key().expect("a key");
        assert_eq!(Record::parse(key, None).expect("ours"), Some(record));
    }
}

fn bytes(hex: &str) -> Bytes {
    let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
    (0..hex.len()).step_by(2).map(byte).collect::<Vec<u8>>().into()
}

fn current(value: &str) -> Result<Current, RecordError> {
    let key = record(Said::Current { member: text("m"), value: None }).key().expect("a key");
    match Record::parse(key, Some(bytes(value)))? {
        Some(Record::Consumer(ConsumerRecord { said: Said::Current { value: Some(value), .. }, .. })) => {
            Ok(value)
        }
        other => panic!("it is read as {other:?}"),
    }
}

/// Kafka before 4.3 does not say when a partition was given; one that is away has no epoch since which it was.
#[test]
fn grants_without_epochs_are_as_old_as_what_is_known() {
    let topic = "020000000000000000000000000000000a".to_owned() + "030000000100000003";
    let read = |epoch: &str, tagged: &str| {
        current(&("0000".to_owned() + epoch + "00000004" + "00" + &topic + tagged + "01" + "00"))
    };
    for (epoch, tagged, expected) in [
        ("00000005", "00", grants(5, 5)),
        // Null, and of another length.
        ("00000005", "01000100", grants(5, 5)),
        ("00000005", "0100050200000009", grants(5, 5)),
        ("fffffffe", "00", grants(0, 0)),
    ] {
        assert_eq!(read(epoch, tagged).expect("it is read").assigned, expected, "{epoch} {tagged}");
    }
}

/// Kafka may write null there.
#[test]
fn a_member_that_has_nothing_classic_is_none() {
    let key = record(Said::Member { member: text("m"), value: None }).key().expect("a key");
    let value = "0000".to_owned()
        + "00"
        + "00"
        + "01"
        + "01"
        + "01"
        + "00"
        + "00000000"
        + "00"
        + "01"
        + "00"
        + "01"
        + "ff";
    let read = Record::parse(key, Some(bytes(&value))).expect("it is read");
    assert_eq!(read, Some(record(Said::Member { member: text("m"), value: Some(Profile::default()) })));
}

#[test]
fn what_a_newer_broker_says_besides_is_passed_over() {
    let value = current("0000000000050000000400010100").expect("it is read");
    assert_eq!((value.epoch, value.previous_epoch), (5, 4));
    let besides = current("00000000000500000004000101010902abcd").expect("it is read");
    assert_eq!(besides, value);
    let unknown_state = current("0000000000050000000409010100");
    assert!(matches!(unknown_state, Err(RecordError::Version { version: 9, .. })));
}
