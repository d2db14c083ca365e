//! Where partitions begin and end, as far as their leaders say so now: for whoever would rather be told that something is not known
//! than wait until it is.

use std::collections::BTreeMap;
use std::time::Duration;

use aquifer_model::{Offset, Timestamp};
use aquifer_protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use futures::future::join_all;

use crate::cli::cluster::{Cluster, Failure, Topic};
use crate::config::Endpoint;

/// How long a leader has to answer: it looks into its memory, or into the first bytes of a file.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// A place in each partition, if there is one there; or why that cannot be said now.
pub type Places = BTreeMap<i32, Result<Option<Offset>, String>>;

/// Asks the leaders, as `topic` names them, once for the offsets that belong to `timestamp`. All partitions are in the answer.
pub async fn places(cluster: &Cluster, topic: &Topic, partitions: &[i32], timestamp: Timestamp) -> Places {
    let mut places = Places::new();
    let mut by_leader: Vec<(&Endpoint, Vec<ListOffsetsPartition>)> = Vec::new();
    for index in partitions {
        let found = topic.partitions.iter().find(|partition| partition.index == *index);
        let leader = match found.map(|partition| (partition.leader.as_ref(), partition.leader_epoch)) {
            Some((Some(leader), epoch)) => Ok((leader, epoch)),
            Some((None, _)) => Err("it has no leader"),
            None => Err("the topic has no such partition any more"),
        };
        match leader {
            Err(why) => drop(places.insert(*index, Err(why.to_owned()))),
            Ok((leader, current_leader_epoch)) => {
                let wanted = ListOffsetsPartition {
                    partition_index: *index,
                    current_leader_epoch,
                    timestamp: timestamp.millis(),
                };
                match by_leader.iter_mut().find(|(other, _)| *other == leader) {
                    Some((_, partitions)) => partitions.push(wanted),
                    None => by_leader.push((leader, vec![wanted])),
                }
            }
        }
    }
    let asked =
        by_leader.into_iter().map(|(leader, partitions)| of_leader(cluster, leader, topic, partitions));
    places.extend(join_all(asked).await.into_iter().flatten());
    places
}

async fn of_leader(
    cluster: &Cluster,
    leader: &Endpoint,
    topic: &Topic,
    partitions: Vec<ListOffsetsPartition>,
) -> Places {
    let indexes: Vec<i32> = partitions.iter().map(|partition| partition.partition_index).collect();
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic { name: topic.name.clone(), partitions }],
        timeout_ms: i32::try_from(ANSWER_MAX.as_millis()).unwrap_or(i32::MAX),
        ..Default::default()
    };
    let answer = async {
        let peer = cluster.at(leader).await?;
        Ok::<_, Failure>(peer.send(&request).await?.within(ANSWER_MAX).await?)
    };
    let mut places = Places::new();
    match answer.await {
        Ok(answer) => {
            for told in answer.topics.into_iter().flat_map(|topic| topic.partitions) {
                let place = match told.error_code {
                    error if error.is_none() => Ok(Offset::new(told.offset)),
                    error => Err(format!("its leader says {error}")),
                };
                places.insert(told.partition_index, place);
            }
        }
        Err(Failure::Transient(why) | Failure::Fatal(why)) => {
            places.extend(indexes.iter().map(|index| (*index, Err(why.clone()))));
        }
    }
    for index in indexes {
        places.entry(index).or_insert_with(|| Err("its leader's answer leaves it out".to_owned()));
    }
    places
}
