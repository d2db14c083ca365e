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
    };
    let current = Current {
        epoch: 5,
        previous_epoch: 4,
        state: MemberState::Unrevoked,
        assigned: partitions(),
        revoking: Partitions::default(),
    };
    let set = "020000000000000000000000000000000a".to_owned() + "030000000100000003" + "00";
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
        (Said::TargetEpoch(Some(7)), "0006000167", "0000".to_owned() + "00000007" + "00"),
        (
            Said::Target { member: member(), value: Some(partitions()) },
            "000700016700016d",
            "0000".to_owned() + &set + "00",
        ),
        (
            Said::Current { member: member(), value: Some(current) },
            "000800016700016d",
            "0000".to_owned() + "00000005" + "00000004" + "01" + &set + "01" + "00",
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

/// Laid out by hand from Kafka's schemas, and the same as Kafka 4.1.1 writes; once written, for ever read.
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

#[test]
fn what_a_newer_broker_says_besides_is_passed_over() {
    let set = "020000000000000000000000000000000a".to_owned() + "030000000100000003";
    // The epochs at which partitions were assigned (KIP-1251).
    let value = "0000".to_owned()
        + "00000005"
        + "00000004"
        + "00"
        + &set
        + "01"
        + "0009"
        + "030000000500000005"
        + "01"
        + "00";
    let bytes: Vec<u8> = (0..value.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&value[at..at + 2], 16).expect("hex"))
        .collect();
    let key = record(Said::Current { member: text("m"), value: None }).key().expect("a key");
    let Ok(Some(Record::Consumer(ConsumerRecord { said: Said::Current { value: Some(value), .. }, .. }))) =
        Record::parse(key.clone(), Some(bytes.into()))
    else {
        panic!("it cannot be read");
    };
    assert_eq!((value.epoch, value.assigned), (5, partitions()));
    let unknown_state = [0, 0, 0, 0, 0, 5, 0, 0, 0, 4, 9, 1, 1, 0];
    let refused = Record::parse(key, Some(Bytes::copy_from_slice(&unknown_state)));
    assert!(matches!(refused, Err(RecordError::Version { version: 9, .. })));
}
