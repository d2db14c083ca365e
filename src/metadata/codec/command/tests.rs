use std::collections::BTreeMap;

use aquifer_model::format::ENVELOPE_BYTES;
use aquifer_model::{BrokerId, LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::metadata::codec::samples::{arbitrary_command, endpoint};
use crate::metadata::command::QuotaChanges;
use crate::metadata::ids::{
    BrokerEpoch, BrokerIncarnation, ClusterId, DirectoryId, Incarnation, PartitionEpoch, RaftNodeId,
};
use crate::metadata::image::{QuotaEntity, QuotaName, Recovery, SecurityProtocol};

const TOPIC: TopicId = TopicId::new(Uuid::from_u128(0x70));
const PARTITION: TopicPartition = TopicPartition { topic: TOPIC, partition: PartitionIndex(3) };
const BROKER: BrokerRef = BrokerRef { broker: BrokerId(1), epoch: BrokerEpoch(5) };

/// One of each kind, in order of kind.
fn one_of_each() -> Vec<Command> {
    let text = str::to_owned;
    vec![
        Command::FormatCluster(FormatCluster {
            cluster: ClusterId::new(Uuid::from_u128(0xc1)),
            incarnation: Incarnation(0xa1),
            features: [(text("aquifer.version"), 1)].into(),
        }),
        Command::RegisterBroker(RegisterBroker {
            broker: BrokerId(1),
            incarnation: BrokerIncarnation(Uuid::from_u128(0xb1)),
            node: RaftNodeId(9),
            endpoints: vec![
                endpoint("PLAIN", 9092, SecurityProtocol::Plaintext),
                endpoint("TLS", 49093, SecurityProtocol::SaslSsl),
            ],
            rack: Some(text("r1")),
            directories: vec![DirectoryId(Uuid::from_u128(0xd1))],
            time: Timestamp(1_700_000_000_000),
        }),
        Command::UnfenceBroker(BROKER),
        Command::FenceBroker(BROKER),
        Command::ForfeitReplicas(ForfeitReplicas { broker: BROKER, partitions: vec![PARTITION] }),
        Command::CreateTopic(CreateTopic {
            id: TOPIC,
            name: TopicName::new("orders").unwrap(),
            partitions: vec![vec![BrokerId(1), BrokerId(2)], vec![BrokerId(2)]],
            configs: [(text("retention.ms"), text("-1"))].into(),
        }),
        Command::DeleteTopic(DeleteTopic { topic: TOPIC, remains: Remains::InTier, time: Timestamp(7) }),
        Command::ForgetTopic(TOPIC),
        Command::CreatePartitions(CreatePartitions {
            topic: TOPIC,
            existing: 300,
            added: vec![vec![BrokerId(1)]],
        }),
        Command::SetTopicConfigs(SetTopicConfigs {
            topic: TOPIC,
            changes: [(text("a"), Some(text("1"))), (text("b"), None)].into(),
            known: KnownConfigs::new(),
        }),
        Command::SetBrokerConfigs(SetBrokerConfigs {
            broker: Some(BrokerId(1)),
            changes: [(text("a"), None)].into(),
            known: KnownConfigs::new(),
        }),
        Command::ChangeIsr(ChangeIsr {
            partition: PARTITION,
            leader: BROKER,
            leader_epoch: LeaderEpoch::new(6).unwrap(),
            epoch: PartitionEpoch(7),
            isr: vec![(BrokerId(1), Some(BrokerEpoch(5))), (BrokerId(2), None)],
            recovery: Recovery::Recovering,
        }),
        Command::ChangeLeader(ChangeLeader {
            partition: PARTITION,
            epoch: PartitionEpoch(7),
            leader: BrokerId(2),
            election: Election::Unclean,
        }),
        Command::AllocateProducerIds(AllocateProducerIds { broker: BROKER, count: 1000 }),
        Command::SetFeatures(SetFeatures { levels: [(text("aquifer.version"), 2)].into() }),
        Command::SetClientQuotas(SetClientQuotas {
            changes: [
                (QuotaEntity::User(QuotaName::Default), [(text("a"), Some(1.5)), (text("b"), None)].into()),
                (
                    QuotaEntity::UserAndClient {
                        user: QuotaName::Named(text("u")),
                        client_id: QuotaName::Default,
                    },
                    [(text("a"), Some(1024.0))].into(),
                ),
                (QuotaEntity::ClientId(QuotaName::Named(text("c"))), QuotaChanges::new()),
                (QuotaEntity::Ip(QuotaName::Named(text("127.0.0.1"))), [(text("a"), None)].into()),
            ]
            .into(),
        }),
        Command::SetGroupConfigs(SetGroupConfigs {
            group: text("etl"),
            changes: [(text("a"), Some(text("1"))), (text("b"), None)].into(),
            known: KnownConfigs::new(),
        }),
    ]
}

/// Bytes that version 1 wrote. A line that changes is a cluster that no longer starts.
const GOLDEN: &str = include_str!("../golden/commands-v1.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn bytes_are_golden() {
    let golden: BTreeMap<&str, &str> = GOLDEN.lines().filter_map(|line| line.split_once(' ')).collect();
    let commands = one_of_each();
    let written: String =
        commands.iter().map(|command| format!("{} {}\n", command.name(), hex(&encode(command)))).collect();
    assert_eq!(golden.len(), commands.len(), "now written:\n{written}");
    for command in commands {
        let bytes = encode(&command);
        assert_eq!(golden.get(command.name()), Some(&&*hex(&bytes)), "{command}");
        assert_eq!(decode(&bytes), Ok(command));
    }
}

/// What a change of settings builds on came later than the rest of version 1, as a field that must be understood.
#[test]
fn what_changes_build_on_is_a_field_of_its_own() {
    let text = str::to_owned;
    let known: KnownConfigs = [(text("a"), Some(text("0"))), (text("b"), None)].into();
    for command in [
        Command::SetTopicConfigs(SetTopicConfigs {
            topic: TOPIC,
            changes: [(text("a"), Some(text("1")))].into(),
            known: known.clone(),
        }),
        Command::SetBrokerConfigs(SetBrokerConfigs {
            broker: None,
            changes: ConfigChanges::new(),
            known: known.clone(),
        }),
        Command::SetGroupConfigs(SetGroupConfigs {
            group: text("etl"),
            changes: ConfigChanges::new(),
            known,
        }),
    ] {
        let bytes = encode(&command);
        let written = hex(&bytes);
        assert!(written.ends_with("010109020161010130016200"), "{written}");
        assert_eq!(decode(&bytes), Ok(command));
    }
    // Where there is nothing to build on, it has no place.
    let mut tags = Tags::default();
    tags.set_required(TAG_KNOWN_CONFIGS, bytes::Bytes::from_static(&[0]));
    let mut more = Writer::new();
    write(&mut more, &Command::ForgetTopic(TOPIC));
    more.tags(&tags);
    assert!(decode(&FORMAT.seal(&more.finish())).is_err());
}

#[test]
fn cut_flipped_and_padded_bytes_are_refused() {
    for command in one_of_each() {
        let bytes = encode(&command);
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err(), "{command} cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x20;
            assert!(decode(&flipped).is_err(), "{command} flipped at {at}");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(decode(&longer).is_err(), "{command} with a byte behind it");
    }
}

#[test]
fn kinds_and_fields_of_newer_programs_are_refused() {
    let mut unknown_kind = Writer::new();
    unknown_kind.u8(200);
    unknown_kind.tags(&Tags::default());
    assert!(decode(&FORMAT.seal(&unknown_kind.finish())).is_err());

    let mut tags = Tags::default();
    tags.set_optional(0, bytes::Bytes::from_static(b"?"));
    let mut more = Writer::new();
    write(&mut more, &Command::ForgetTopic(TOPIC));
    more.tags(&tags);
    assert!(decode(&FORMAT.seal(&more.finish())).is_err(), "even an optional field");
}

proptest! {
    #[test]
    fn commands_round_trip(command in arbitrary_command()) {
        prop_assert_eq!(decode(&encode(&command)), Ok(command));
    }

    #[test]
    fn no_body_makes_the_decoder_panic(kind in 0u8..20, body: Vec<u8>) {
        let _ = decode(&FORMAT.seal(&[&[kind][..], &body].concat()));
    }

    #[test]
    fn no_change_of_a_body_makes_the_decoder_panic(command in arbitrary_command(), at: prop::sample::Index, value: u8) {
        let mut body = encode(&command).split_off(ENVELOPE_BYTES);
        let at = at.index(body.len());
        body[at] = value;
        let _ = decode(&FORMAT.seal(&body));
    }
}
