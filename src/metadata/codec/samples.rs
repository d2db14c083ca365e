//! Commands to test with.

use std::collections::BTreeMap;

use aquifer_model::{BrokerId, LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName, TopicPartition};
use proptest::prelude::*;
use uuid::Uuid;

use crate::metadata::apply::apply;
use crate::metadata::command::*;
use crate::metadata::ids::{
    BrokerEpoch, BrokerIncarnation, ClusterId, DirectoryId, Incarnation, PartitionEpoch, RaftNodeId,
};
use crate::metadata::image::{Configs, Endpoint, Image, QuotaEntity, QuotaName, Recovery, SecurityProtocol};

/// A registration of a process that never registered before.
pub(in crate::metadata) fn registration(broker: i32, node: RaftNodeId) -> RegisterBroker {
    static PROCESSES: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    let process = PROCESSES.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    RegisterBroker {
        broker: BrokerId(broker),
        incarnation: BrokerIncarnation(Uuid::from_u128(u128::from(process))),
        node,
        endpoints: vec![endpoint("PLAINTEXT", 9092, SecurityProtocol::Plaintext)],
        rack: None,
        directories: vec![DirectoryId(Uuid::from_u128(0xd1))],
        time: Timestamp(1_700_000_000_000),
    }
}

pub(in crate::metadata) fn endpoint(listener: &str, port: u16, security: SecurityProtocol) -> Endpoint {
    Endpoint { listener: listener.to_owned(), host: "localhost".to_owned(), port, security }
}

/// Any command, about few enough brokers and topics that many of them stand.
pub(in crate::metadata) fn arbitrary_command() -> impl Strategy<Value = Command> {
    prop_oneof![
        1 => (any::<u8>(), any::<u8>(), levels()).prop_map(|(cluster, incarnation, features)| {
            Command::FormatCluster(FormatCluster {
                cluster: ClusterId::new(Uuid::from_u128(cluster.into())),
                incarnation: Incarnation(incarnation.into()),
                features,
            })
        }),
        4 => register_broker(),
        12 => broker_ref().prop_map(Command::UnfenceBroker),
        3 => broker_ref().prop_map(Command::FenceBroker),
        2 => (broker_ref(), prop::collection::vec(topic_partition(), 0..4))
            .prop_map(|(broker, partitions)| Command::ForfeitReplicas(ForfeitReplicas { broker, partitions })),
        8 => (topic(), "[a-d._]{2,4}", replicas(), configs()).prop_filter_map(
            "a name of dots",
            |(id, name, partitions, configs)| {
                let name = TopicName::new(&name).ok()?;
                Some(Command::CreateTopic(CreateTopic { id, name, partitions, configs }))
            }
        ),
        3 => (topic(), any::<bool>(), any::<i64>()).prop_map(|(topic, tiered, time)| {
            let remains = if tiered { Remains::InTier } else { Remains::Nothing };
            Command::DeleteTopic(DeleteTopic { topic, remains, time: Timestamp(time) })
        }),
        3 => topic().prop_map(Command::ForgetTopic),
        3 => (topic(), 0usize..4, replicas())
            .prop_map(|(topic, existing, added)| Command::CreatePartitions(CreatePartitions { topic, existing, added })),
        2 => (topic(), changes(), known())
            .prop_map(|(topic, changes, known)| Command::SetTopicConfigs(SetTopicConfigs { topic, changes, known })),
        2 => (prop::option::of(broker()), changes(), known())
            .prop_map(|(broker, changes, known)| Command::SetBrokerConfigs(SetBrokerConfigs { broker, changes, known })),
        2 => ("[g-h]{0,2}", changes(), known())
            .prop_map(|(group, changes, known)| Command::SetGroupConfigs(SetGroupConfigs { group, changes, known })),
        2 => quota_changes().prop_map(|changes| Command::SetClientQuotas(SetClientQuotas { changes })),
        14 => change_isr(),
        10 => (topic_partition(), 0i32..5, broker(), any::<bool>()).prop_map(|(partition, epoch, leader, clean)| {
            let election = if clean { Election::Clean } else { Election::Unclean };
            Command::ChangeLeader(ChangeLeader { partition, epoch: PartitionEpoch(epoch), leader, election })
        }),
        2 => (broker_ref(), 0u32..2000)
            .prop_map(|(broker, count)| Command::AllocateProducerIds(AllocateProducerIds { broker, count })),
        1 => levels().prop_map(|levels| Command::SetFeatures(SetFeatures { levels })),
    ]
}

fn register_broker() -> impl Strategy<Value = Command> {
    let securities = prop::sample::select(vec![
        SecurityProtocol::Plaintext,
        SecurityProtocol::Ssl,
        SecurityProtocol::SaslPlaintext,
        SecurityProtocol::SaslSsl,
    ]);
    let endpoints = prop::collection::vec(("[A-Z]{1,2}", 0u16..9, securities), 1..3);
    // Mostly a data directory of its own.
    let node = prop_oneof![9 => Just(None), 1 => (0u64..5).prop_map(Some)];
    (broker(), 0u128..6, node, endpoints, prop::option::of("[a-z]{0,2}"), any::<i64>()).prop_map(
        |(broker, incarnation, node, endpoints, rack, time)| {
            let node = node.unwrap_or(u64::from(broker.0.unsigned_abs()));
            Command::RegisterBroker(RegisterBroker {
                broker,
                incarnation: BrokerIncarnation(Uuid::from_u128(incarnation)),
                node: RaftNodeId(node),
                endpoints: endpoints
                    .into_iter()
                    .map(|(listener, port, security)| endpoint(&listener, 1000 * port, security))
                    .collect(),
                rack,
                directories: vec![DirectoryId(Uuid::from_u128(incarnation)); node as usize % 3],
                time: Timestamp(time),
            })
        },
    )
}

fn change_isr() -> impl Strategy<Value = Command> {
    let members = prop::collection::vec((broker(), prop::option::of((0i64..9).prop_map(BrokerEpoch))), 0..4);
    (topic_partition(), broker_ref(), 0i32..4, 0i32..5, members, prop::bool::weighted(0.9)).prop_map(
        |(partition, leader, leader_epoch, epoch, isr, recovered)| {
            Command::ChangeIsr(ChangeIsr {
                partition,
                leader,
                leader_epoch: LeaderEpoch::new(leader_epoch).unwrap(),
                epoch: PartitionEpoch(epoch),
                isr,
                recovery: if recovered { Recovery::Recovered } else { Recovery::Recovering },
            })
        },
    )
}

fn broker() -> impl Strategy<Value = BrokerId> {
    prop_oneof![20 => 0i32..4, 1 => Just(-1)].prop_map(BrokerId)
}

fn broker_ref() -> impl Strategy<Value = BrokerRef> {
    (broker(), 0i64..9).prop_map(|(broker, epoch)| BrokerRef { broker, epoch: BrokerEpoch(epoch) })
}

fn topic() -> impl Strategy<Value = TopicId> {
    (1u128..6).prop_map(|id| TopicId::new(Uuid::from_u128(id)))
}

fn topic_partition() -> impl Strategy<Value = TopicPartition> {
    (topic(), prop_oneof![9 => 0i32..3, 1 => Just(-1)])
        .prop_map(|(topic, partition)| TopicPartition { topic, partition: PartitionIndex(partition) })
}

fn replicas() -> impl Strategy<Value = Vec<Vec<BrokerId>>> {
    let distinct = prop::sample::subsequence((0..4).map(BrokerId).collect::<Vec<_>>(), 1..4).prop_shuffle();
    let any = prop::collection::vec(broker(), 0..4);
    prop_oneof![
        9 => prop::collection::vec(distinct, 1..4),
        1 => prop::collection::vec(any, 0..4),
    ]
}

fn configs() -> impl Strategy<Value = Configs> {
    prop::collection::btree_map("[a-c]{1,2}|d?", ".{0,3}", 0..3)
}

fn changes() -> impl Strategy<Value = ConfigChanges> {
    prop::collection::btree_map("[a-c]{1,2}|d?", prop::option::of(".{0,3}"), 0..3)
}

/// Mostly nothing, so that many stand.
fn known() -> impl Strategy<Value = KnownConfigs> {
    prop_oneof![3 => Just(KnownConfigs::new()), 1 => changes()]
}

fn quota_changes() -> impl Strategy<Value = BTreeMap<QuotaEntity, QuotaChanges>> {
    let value = prop_oneof![9 => 0.5f64..9.0, 1 => Just(0.0), 1 => Just(-1.5)];
    let changes = prop::collection::btree_map("[a-c]|d?", prop::option::of(value), 0..3);
    prop::collection::btree_map(quota_entity(), changes, 0..3)
}

fn quota_entity() -> impl Strategy<Value = QuotaEntity> {
    let name =
        || prop::option::of("[a-b]").prop_map(|name| name.map_or(QuotaName::Default, QuotaName::Named));
    prop_oneof![
        name().prop_map(QuotaEntity::User),
        (name(), name()).prop_map(|(user, client_id)| QuotaEntity::UserAndClient { user, client_id }),
        name().prop_map(QuotaEntity::ClientId),
        name().prop_map(QuotaEntity::Ip),
    ]
}

fn levels() -> impl Strategy<Value = BTreeMap<String, i16>> {
    prop::collection::btree_map("[a-c]{1,2}|d?", -1i16..4, 0..3)
}

/// An image that has something of everything.
pub(in crate::metadata) fn full_image() -> Image {
    let mut image = Image::default();
    let topic = |id: u128, name: &str, replicas: &[i32]| {
        Command::CreateTopic(CreateTopic {
            id: TopicId::new(Uuid::from_u128(id)),
            name: TopicName::new(name).unwrap(),
            partitions: vec![replicas.iter().copied().map(BrokerId).collect(); 2],
            configs: [("retention.ms".to_owned(), "-1".to_owned())].into(),
        })
    };
    let broker = |broker: i32| RegisterBroker {
        incarnation: BrokerIncarnation(Uuid::from_u128(broker.unsigned_abs().into())),
        rack: (broker == 1).then(|| "r1".to_owned()),
        ..registration(broker, RaftNodeId(broker.unsigned_abs().into()))
    };
    let at = |broker: i32| BrokerRef { broker: BrokerId(broker), epoch: BrokerEpoch(i64::from(broker) - 1) };
    let set = |broker: Option<i32>| {
        let changes = [("log.retention.ms".to_owned(), Some("5".to_owned()))].into();
        Command::SetBrokerConfigs(SetBrokerConfigs {
            broker: broker.map(BrokerId),
            changes,
            known: KnownConfigs::new(),
        })
    };
    for command in [
        Command::FormatCluster(FormatCluster {
            cluster: ClusterId::new(Uuid::from_u128(0xc1)),
            incarnation: Incarnation(0xa1),
            features: [("aquifer.version".to_owned(), 1)].into(),
        }),
        Command::RegisterBroker(broker(1)),
        Command::RegisterBroker(broker(2)),
        Command::UnfenceBroker(at(1)),
        Command::UnfenceBroker(at(2)),
        topic(1001, "a.b", &[1, 2]),
        topic(1002, "gone", &[2]),
        Command::FenceBroker(at(2)),
        Command::DeleteTopic(DeleteTopic {
            topic: TopicId::new(Uuid::from_u128(1002)),
            remains: Remains::InTier,
            time: Timestamp(7),
        }),
        set(None),
        set(Some(2)),
        Command::AllocateProducerIds(AllocateProducerIds { broker: at(1), count: 1000 }),
    ] {
        apply(&mut image, &command).unwrap();
    }
    image
}

/// Whatever some commands, on top of [`full_image`], make of it.
pub(in crate::metadata) fn arbitrary_image() -> impl Strategy<Value = Image> {
    prop::collection::vec(arbitrary_command(), 0..30).prop_map(|commands| {
        let mut image = full_image();
        for command in &commands {
            // Refused or not.
            let _ = apply(&mut image, command);
        }
        image
    })
}
