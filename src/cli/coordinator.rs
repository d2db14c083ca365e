//! Groups as a client sees them: each asked of the broker that coordinates it.
//!
//! What a coordinator cannot say yet (it has just taken over and reads, or another has) is asked again until a deadline. All
//! that is asked here may be asked twice: a position that is stored again is the same position.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, anyhow, bail};
use aquifer_model::{Offset, TopicName};
use aquifer_protocol::messages::consumer_group_describe::{self, ConsumerGroupDescribeRequest};
use aquifer_protocol::messages::delete_groups::DeleteGroupsRequest;
use aquifer_protocol::messages::describe_groups::{self, DescribeGroupsRequest};
use aquifer_protocol::messages::find_coordinator::FindCoordinatorRequest;
use aquifer_protocol::messages::list_groups::{ListGroupsRequest, ListedGroup};
use aquifer_protocol::messages::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use aquifer_protocol::messages::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchResponse,
};
use aquifer_protocol::{ErrorCode, Reader, Str};
use bytes::Bytes;
use uuid::Uuid;

use crate::cli::cluster::{Cluster, Failure, PATIENCE, Patience};
use crate::config::Endpoint;
use crate::net::Peer;

/// Kafka's number for groups among what has a coordinator.
const KEY_TYPE_GROUP: i8 = 0;
/// The first version of FindCoordinator that takes many keys.
const MANY_KEYS_SINCE: i16 = 4;
/// The first version of OffsetFetch that takes many groups.
const MANY_GROUPS_SINCE: i16 = 8;
/// The first version of OffsetFetch that names topics by id alone.
const IDS_SINCE: i16 = 10;
/// A member of a group whose coordinator assigns that speaks the classic protocol.
const MEMBER_TYPE_CLASSIC: i8 = 0;
/// What a commit says that is no member's.
const NO_GENERATION: i32 = -1;

/// A group, of either protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// `classic`, where its members assign, or `consumer`, where the coordinator does.
    pub protocol: &'static str,
    /// Its state, in Kafka's word.
    pub state: String,
    /// Who says what each member reads.
    pub assignor: String,
    /// Who is in it.
    pub members: Vec<Member>,
}

/// A member of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its name, if it is a static one.
    pub instance: Option<String>,
    /// What it speaks: `classic`, also in a group whose coordinator assigns, or `consumer`.
    pub protocol: &'static str,
    /// Its client's id.
    pub client: String,
    /// Where it is.
    pub host: String,
    /// What it reads, by topic; `None` if that cannot be said.
    pub assigned: Option<BTreeMap<String, Vec<i32>>>,
}

/// The next offset that a group reads: by topic, by partition.
pub type Positions = BTreeMap<String, BTreeMap<i32, Offset>>;

/// All groups of the cluster, by name.
pub async fn list(cluster: &Cluster) -> anyhow::Result<Vec<ListedGroup>> {
    let metadata = cluster.metadata(Some(&[]), false).await?;
    let mut groups = Vec::new();
    for broker in &metadata.brokers {
        let address = endpoint(&broker.host, broker.port)?;
        let mut patience = Patience::new(cluster.world(), PATIENCE);
        groups.extend(loop {
            let answer = cluster.at(&address).await?.call(&ListGroupsRequest::default()).await?;
            match answer.error_code {
                ErrorCode::NONE => break answer.groups,
                error if error.is_retriable() && patience.pause().await => {}
                error => bail!("groups of {address}: {error}"),
            }
        });
    }
    groups.sort_by(|a, b| a.group_id.cmp(&b.group_id));
    Ok(groups)
}

/// A group and its members; `None` if there is no such group.
pub async fn describe(cluster: &Cluster, group: &str) -> anyhow::Result<Option<Group>> {
    asked(cluster, group, async |peer| {
        if peer.version::<ConsumerGroupDescribeRequest>().is_ok() {
            let request =
                ConsumerGroupDescribeRequest { group_ids: vec![group.into()], ..Default::default() };
            let mut answer = peer.call(&request).await?;
            let told = answer.groups.pop().ok_or_else(|| left_out(group))?;
            match told.error_code {
                ErrorCode::NONE => return Ok(Some(consumer_group(told))),
                // It is a classic one, or there are no others in this cluster.
                ErrorCode::GROUP_ID_NOT_FOUND | ErrorCode::UNSUPPORTED_VERSION => {}
                error => return Err(Failure::from(error)),
            }
        }
        let request = DescribeGroupsRequest { groups: vec![group.into()], ..Default::default() };
        let mut answer = peer.call(&request).await?;
        let told = answer.groups.pop().ok_or_else(|| left_out(group))?;
        match told.error_code {
            // Older versions have no error for it: to them it is a dead one.
            ErrorCode::GROUP_ID_NOT_FOUND => Ok(None),
            ErrorCode::NONE if &*told.group_state == "Dead" => Ok(None),
            ErrorCode::NONE => Ok(Some(classic_group(told))),
            error => Err(Failure::from(error)),
        }
    })
    .await
}

fn classic_group(told: describe_groups::DescribedGroup) -> Group {
    let members = told.members.into_iter().map(|member| Member {
        id: member.member_id.to_string(),
        instance: member.group_instance_id.map(String::from),
        protocol: "classic",
        client: member.client_id.to_string(),
        host: member.client_host.to_string(),
        assigned: assigned(&member.member_assignment),
    });
    Group {
        name: told.group_id.to_string(),
        protocol: "classic",
        state: told.group_state.to_string(),
        assignor: told.protocol_data.to_string(),
        members: members.collect(),
    }
}

fn consumer_group(told: consumer_group_describe::DescribedGroup) -> Group {
    let members = told.members.into_iter().map(|member| {
        let topics = member.assignment.topic_partitions.into_iter();
        Member {
            id: member.member_id.to_string(),
            instance: member.instance_id.map(String::from),
            // Version 0 does not say, and has -1.
            protocol: if member.member_type == MEMBER_TYPE_CLASSIC { "classic" } else { "consumer" },
            client: member.client_id.to_string(),
            host: member.client_host.to_string(),
            assigned: Some(topics.map(|topic| (topic.topic_name.to_string(), topic.partitions)).collect()),
        }
    });
    Group {
        name: told.group_id.to_string(),
        protocol: "consumer",
        state: told.group_state.to_string(),
        assignor: told.assignor_name.to_string(),
        members: members.collect(),
    }
}

/// A group's positions in all topics; none if there is no such group.
pub async fn positions(cluster: &Cluster, group: &str) -> anyhow::Result<Positions> {
    let found = asked(cluster, group, async |peer| {
        let version = peer.version::<OffsetFetchRequest>()?;
        let request = if version >= MANY_GROUPS_SINCE {
            let wanted =
                OffsetFetchRequestGroup { group_id: group.into(), topics: None, ..Default::default() };
            OffsetFetchRequest { groups: vec![wanted], ..Default::default() }
        } else {
            OffsetFetchRequest { group_id: group.into(), topics: None, ..Default::default() }
        };
        let answer = peer.call(&request).await?;
        let (error, partitions) = flat(answer);
        match error {
            ErrorCode::NONE => Ok((version, partitions)),
            ErrorCode::GROUP_ID_NOT_FOUND => Ok((version, Vec::new())),
            error => Err(Failure::from(error)),
        }
    })
    .await?;
    let (version, partitions) = found;
    let names = if version >= IDS_SINCE { names(cluster).await? } else { HashMap::new() };
    let mut positions = Positions::new();
    for Fetched { topic, id, partition, offset, error } in partitions {
        if !error.is_none() {
            bail!("the position in {topic}, partition {partition}: {error}");
        }
        let topic = if version >= IDS_SINCE { names.get(&id).cloned() } else { Some(topic.to_string()) };
        // -1 is no position; a topic without a name was deleted meanwhile.
        if let (Some(topic), Some(offset)) = (topic, Offset::new(offset)) {
            positions.entry(topic).or_default().insert(partition, offset);
        }
    }
    Ok(positions)
}

/// Stores positions for a group that has no members.
pub async fn commit(
    cluster: &Cluster,
    group: &str,
    positions: &BTreeMap<TopicName, BTreeMap<i32, Offset>>,
) -> anyhow::Result<()> {
    let mut topics = Vec::new();
    for (name, partitions) in positions {
        let topic_id = cluster.topic(name, false).await?.id;
        let partitions = partitions.iter().map(|(index, offset)| OffsetCommitRequestPartition {
            partition_index: *index,
            committed_offset: offset.get(),
            committed_metadata: Some(Str::EMPTY),
            ..Default::default()
        });
        let partitions = partitions.collect();
        topics.push(OffsetCommitRequestTopic { name: name.as_str().into(), topic_id, partitions });
    }
    let request = OffsetCommitRequest {
        group_id: group.into(),
        generation_id_or_member_epoch: NO_GENERATION,
        topics,
        ..Default::default()
    };
    asked(cluster, group, async |peer| {
        let answer = peer.call(&request).await?;
        let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
        match partitions.map(|partition| partition.error_code).find(|error| !error.is_none()) {
            None => Ok(()),
            // What is answered of one who is no member while others are.
            Some(ErrorCode::UNKNOWN_MEMBER_ID) => Err(Failure::Fatal("the group has members".to_owned())),
            Some(error) => Err(Failure::from(error)),
        }
    })
    .await
}

/// Deletes a group and its positions; false if there is no such group.
pub async fn delete(cluster: &Cluster, group: &str) -> anyhow::Result<bool> {
    asked(cluster, group, async |peer| {
        let request = DeleteGroupsRequest { groups_names: vec![group.into()] };
        let answer = peer.call(&request).await?;
        let told = answer.results.first().ok_or_else(|| left_out(group))?;
        match told.error_code {
            ErrorCode::NONE => Ok(true),
            ErrorCode::GROUP_ID_NOT_FOUND => Ok(false),
            ErrorCode::NON_EMPTY_GROUP => Err(Failure::Fatal("it has members".to_owned())),
            error => Err(Failure::from(error)),
        }
    })
    .await
}

/// What a member was told to read, as groups of consumers write it; `None` if it is something else.
fn assigned(bytes: &Bytes) -> Option<BTreeMap<String, Vec<i32>>> {
    let mut reader = Reader::new(bytes.clone());
    // All versions begin alike; what later ones add follows.
    let _version = reader.i16().ok()?;
    let topics = reader.array(false, 6, |reader| {
        let topic = reader.string(false)?;
        let partitions = reader.array(false, 4, Reader::i32)?;
        Ok((topic.to_string(), partitions))
    });
    Some(topics.ok()?.into_iter().collect())
}

/// A partition in an answer to OffsetFetch, of any version.
struct Fetched {
    topic: Str,
    id: Uuid,
    partition: i32,
    offset: i64,
    error: ErrorCode,
}

/// The answer's error, and its partitions. It is of one group, in the one form or the other.
fn flat(answer: OffsetFetchResponse) -> (ErrorCode, Vec<Fetched>) {
    let mut error = answer.error_code;
    let mut all = Vec::new();
    let mut take = |topic: &Str, id, partition, offset, error| {
        all.push(Fetched { topic: topic.clone(), id, partition, offset, error });
    };
    for topic in &answer.topics {
        for at in &topic.partitions {
            take(&topic.name, Uuid::nil(), at.partition_index, at.committed_offset, at.error_code);
        }
    }
    for group in &answer.groups {
        error = group.error_code;
        for topic in &group.topics {
            for at in &topic.partitions {
                take(&topic.name, topic.topic_id, at.partition_index, at.committed_offset, at.error_code);
            }
        }
    }
    (error, all)
}

/// All topics' names by their ids.
async fn names(cluster: &Cluster) -> anyhow::Result<HashMap<Uuid, String>> {
    let metadata = cluster.metadata(None, false).await?;
    let named =
        metadata.topics.into_iter().filter_map(|topic| Some((topic.topic_id, topic.name?.to_string())));
    Ok(named.collect())
}

/// Asks a group's coordinator, whoever it is by then, until it says.
async fn asked<T>(
    cluster: &Cluster,
    group: &str,
    ask: impl AsyncFn(Peer) -> Result<T, Failure>,
) -> anyhow::Result<T> {
    let mut patience = Patience::new(cluster.world(), PATIENCE);
    loop {
        let answer = match coordinator(cluster, group).await {
            Ok(peer) => ask(peer).await,
            Err(failure) => Err(failure),
        };
        match answer {
            Ok(found) => return Ok(found),
            Err(Failure::Transient(why)) if patience.pause().await => {
                tracing::debug!(group, why, "asking again");
            }
            Err(Failure::Transient(why) | Failure::Fatal(why)) => {
                return Err(anyhow!(why)).with_context(|| format!("group {group}"));
            }
        }
    }
}

async fn coordinator(cluster: &Cluster, group: &str) -> Result<Peer, Failure> {
    // No broker at all is told at once: an address that is mistyped does not get better.
    let any = cluster.any().await.map_err(|error| Failure::Fatal(format!("{error:#}")))?;
    let request = if any.version::<FindCoordinatorRequest>()? >= MANY_KEYS_SINCE {
        let coordinator_keys = vec![group.into()];
        FindCoordinatorRequest { key_type: KEY_TYPE_GROUP, coordinator_keys, ..Default::default() }
    } else {
        FindCoordinatorRequest { key: group.into(), ..Default::default() }
    };
    let mut answer = any.call(&request).await?;
    let (error, host, port) = match answer.coordinators.pop() {
        Some(found) => (found.error_code, found.host, found.port),
        None => (answer.error_code, answer.host, answer.port),
    };
    if !error.is_none() {
        return Err(Failure::from(error));
    }
    let address = endpoint(&host, port).map_err(|error| Failure::Fatal(error.to_string()))?;
    Ok(cluster.at(&address).await?)
}

fn endpoint(host: &str, port: i32) -> anyhow::Result<Endpoint> {
    let port = u16::try_from(port).with_context(|| format!("{host} has no port {port}"))?;
    Ok(Endpoint { host: host.to_owned(), port })
}

fn left_out(group: &str) -> Failure {
    Failure::Fatal(format!("the answer leaves {group} out"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_consumer_was_told_to_read_is_read_of_any_version() {
        // Version 1: topic "t", partitions 0 and 2, no user data, and what a later version may add.
        let bytes = b"\0\x01\0\0\0\x01\0\x01t\0\0\0\x02\0\0\0\0\0\0\0\x02\xff\xff\xff\xff!";
        let told = assigned(&Bytes::from_static(bytes)).unwrap();
        assert_eq!(told, BTreeMap::from([("t".to_owned(), vec![0, 2])]));
        assert_eq!(assigned(&Bytes::new()), None);
        assert_eq!(assigned(&Bytes::from_static(b"\0\x01\0\0\0\x05")), None);
    }
}
