//! Leaders elected because an operator asks for it.
//!
//! Who shall lead is a pure choice from the image; `apply` judges it again, and whoever changed the partition meanwhile makes the
//! choice start over.

use aquifer_model::{BrokerId, PartitionIndex, TopicPartition};
use tokio::time::Instant;

use crate::metadata::command::{ChangeLeader, Election};
use crate::metadata::image::BrokerState;
use crate::metadata::{Command, Image, Metadata, ProposeError, Rejected};

/// How often a choice starts over because the partition has changed.
const TRIES_MAX: u32 = 10;

/// Which leader is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ElectionKind {
    /// The first of the replicas, if it is in sync.
    Preferred,
    /// For a partition without a leader, any replica that is there: what it lacks is lost, unless the bucket holds it.
    Unclean,
}

/// Why there is no new leader.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ElectionError {
    #[error("no topic is called {0:?}")]
    UnknownTopic(String),
    #[error("topic {topic} has no partition {index}")]
    UnknownPartition { topic: String, index: i32 },
    /// It is as the asker wants it.
    #[error("broker {0} leads already")]
    NotNeeded(BrokerId),
    #[error("the preferred leader, broker {0}, is not in sync or not there")]
    PreferredNotAvailable(BrokerId),
    #[error("no replica is there to lead")]
    NoneAvailable,
    /// It may have been elected.
    #[error("not decided in time")]
    Timeout,
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Elects a leader for a partition.
pub(crate) async fn elect(
    metadata: &Metadata,
    (topic, index): (&str, i32),
    kind: ElectionKind,
    deadline: Instant,
) -> Result<(), ElectionError> {
    let mut tries = 0;
    loop {
        let change = choose(&metadata.image(), (topic, index), kind)?;
        let (partition, leader) = (change.partition, change.leader);
        tries += 1;
        let proposed = metadata.propose(Command::ChangeLeader(change));
        match tokio::time::timeout_at(deadline, proposed).await {
            Ok(Ok(_)) => {
                tracing::info!(%partition, topic, %leader, ?kind, "a leader was elected because somebody asked for it");
                return Ok(());
            }
            Ok(Err(ProposeError::Rejected(Rejected::StalePartitionEpoch { .. }))) if tries < TRIES_MAX => {}
            Ok(Err(ProposeError::Rejected(Rejected::AlreadyLeader(leader)))) => {
                return Err(ElectionError::NotNeeded(leader));
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(ElectionError::Timeout),
        }
    }
}

/// Who shall lead.
fn choose(
    image: &Image,
    (topic, index): (&str, i32),
    kind: ElectionKind,
) -> Result<ChangeLeader, ElectionError> {
    let found = image.topic_named(topic).ok_or_else(|| ElectionError::UnknownTopic(topic.to_owned()))?;
    let at = TopicPartition { topic: found.id, partition: PartitionIndex(index) };
    let unknown = || ElectionError::UnknownPartition { topic: topic.to_owned(), index };
    let partition = found.partition(at.partition).ok_or_else(unknown)?;
    let active = |broker: &BrokerId| image.broker(*broker).is_some_and(|it| it.state == BrokerState::Active);
    let preferred = *partition.replicas.first().expect("a partition has a replica");
    let (leader, election) = match (kind, partition.leader) {
        (ElectionKind::Preferred, Some(leader)) if leader == preferred => {
            return Err(ElectionError::NotNeeded(leader));
        }
        (ElectionKind::Preferred, _) if partition.isr.contains(&preferred) && active(&preferred) => {
            (preferred, Election::Clean)
        }
        (ElectionKind::Preferred, _) => return Err(ElectionError::PreferredNotAvailable(preferred)),
        (ElectionKind::Unclean, Some(leader)) => return Err(ElectionError::NotNeeded(leader)),
        (ElectionKind::Unclean, None) => {
            let in_sync = partition.replicas.iter().find(|id| partition.isr.contains(id) && active(id));
            match in_sync.or_else(|| partition.replicas.iter().find(|id| active(id))) {
                Some(leader) => (*leader, Election::Unclean),
                None => return Err(ElectionError::NoneAvailable),
            }
        }
    };
    Ok(ChangeLeader { partition: at, epoch: partition.epoch, leader, election })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use aquifer_model::{Timestamp, TopicId, TopicName};
    use uuid::Uuid;

    use super::*;
    use crate::metadata::apply::apply;
    use crate::metadata::command::{BrokerRef, CreateTopic, FormatCluster, RegisterBroker};
    use crate::metadata::image::{Endpoint, SecurityProtocol};
    use crate::metadata::{BrokerEpoch, BrokerIncarnation, ClusterId, Incarnation, RaftNodeId};

    /// Brokers 1 to 3 and topic `t`, whose partition 0 lies on 1, 2, 3 and partition 1 on 2 alone; then those that are named were
    /// fenced, and came back, one after the other.
    fn image(gone: &[i32], back: &[i32]) -> Image {
        let mut image = Image::default();
        let mut commands = vec![Command::FormatCluster(FormatCluster {
            cluster: ClusterId::new(Uuid::from_u128(1)),
            incarnation: Incarnation::FIRST,
            features: BTreeMap::new(),
        })];
        commands.extend((1..=3).map(|id| Command::RegisterBroker(registration(id))));
        commands.extend((1..=3).map(|id| Command::UnfenceBroker(at(id))));
        commands.push(Command::CreateTopic(CreateTopic {
            id: TopicId::new(Uuid::from_u128(7)),
            name: TopicName::new("t").unwrap(),
            partitions: vec![[1, 2, 3].map(BrokerId).to_vec(), vec![BrokerId(2)]],
            configs: BTreeMap::new(),
        }));
        commands.extend(gone.iter().map(|id| Command::FenceBroker(at(*id))));
        commands.extend(back.iter().map(|id| Command::UnfenceBroker(at(*id))));
        for command in commands {
            apply(&mut image, &command).unwrap_or_else(|rejected| panic!("{command:?}: {rejected}"));
        }
        image
    }

    fn registration(id: i32) -> RegisterBroker {
        let endpoint = Endpoint {
            listener: "PLAINTEXT".to_owned(),
            host: "localhost".to_owned(),
            port: 9092,
            security: SecurityProtocol::Plaintext,
        };
        RegisterBroker {
            broker: BrokerId(id),
            incarnation: BrokerIncarnation(Uuid::from_u128(id.unsigned_abs().into())),
            node: RaftNodeId(id.unsigned_abs().into()),
            endpoints: vec![endpoint],
            rack: None,
            directories: Vec::new(),
            time: Timestamp(0),
        }
    }

    fn at(id: i32) -> BrokerRef {
        BrokerRef { broker: BrokerId(id), epoch: BrokerEpoch(i64::from(id) - 1) }
    }

    #[test]
    fn a_leader_is_chosen_where_one_is_wanted_and_can_be_had() {
        use ElectionKind::{Preferred, Unclean};
        let no_partition = |index| Err(ElectionError::UnknownPartition { topic: "t".to_owned(), index });
        let whole = || image(&[], &[]);
        for (image, at, kind, expected) in [
            (whole(), ("t", 0), Preferred, Err(ElectionError::NotNeeded(BrokerId(1)))),
            (whole(), ("t", 0), Unclean, Err(ElectionError::NotNeeded(BrokerId(1)))),
            (whole(), ("t", 2), Preferred, no_partition(2)),
            (whole(), ("t", -1), Unclean, no_partition(-1)),
            (whole(), ("u", 0), Preferred, Err(ElectionError::UnknownTopic("u".to_owned()))),
            (image(&[1], &[]), ("t", 0), Preferred, Err(ElectionError::PreferredNotAvailable(BrokerId(1)))),
            // Back, but not in sync yet.
            (image(&[1], &[1]), ("t", 0), Preferred, Err(ElectionError::PreferredNotAvailable(BrokerId(1)))),
            (image(&[1], &[]), ("t", 0), Unclean, Err(ElectionError::NotNeeded(BrokerId(2)))),
            (image(&[2], &[]), ("t", 1), Unclean, Err(ElectionError::NoneAvailable)),
            // 3 was the last in sync, and only 1 came back.
            (image(&[1, 2, 3], &[1]), ("t", 0), Unclean, Ok((BrokerId(1), Election::Unclean))),
        ] {
            let chosen = choose(&image, at, kind);
            let told = chosen.as_ref().map(|change| (change.leader, change.election));
            assert_eq!(told, expected.as_ref().copied(), "{at:?} {kind:?}");
            if let Ok(change) = chosen {
                apply(&mut image.clone(), &Command::ChangeLeader(change)).expect("what is chosen stands");
            }
        }
    }
}
