//! A cluster as a client sees it: brokers found from a few addresses, and who leads which partition.
//!
//! Nothing here retries but the finding of a broker: whether a request may be sent twice is for its caller to know.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aquifer_model::TopicName;
use aquifer_protocol::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use parking_lot::Mutex;
use tokio::time::Instant;
use uuid::Uuid;

use crate::config::Endpoint;
use crate::net::{CallError, ConnectError, Peer, PeerOptions};

/// How long a client looks for a leader, or waits for a topic, before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// First and longest pause between two tries.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// The first version of ListOffsets that knows of local disks.
pub const LOCAL_SINCE: i16 = 8;
/// The first version of Metadata that says whether topics may be created.
const CREATION_SINCE: i16 = 4;

/// A cluster's brokers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    world: World,
    tasks: TaskGroup,
    bootstrap: Vec<Endpoint>,
    options: PeerOptions,
    peers: Mutex<HashMap<(String, u16), Peer>>,
}

/// A topic as one answer of Metadata has it.
#[derive(Debug, Clone)]
pub struct Topic {
    /// Its name.
    pub name: Str,
    /// Its id; nil from brokers that have none.
    pub id: Uuid,
    /// By index, complete.
    pub partitions: Vec<Partition>,
}

/// A partition as one answer of Metadata has it.
#[derive(Debug, Clone)]
pub struct Partition {
    /// Its index.
    pub index: i32,
    /// Who leads it; `None` where nobody does.
    pub leader: Option<Endpoint>,
    /// Under which epoch; -1 from brokers that do not say.
    pub leader_epoch: i32,
    /// Broker ids.
    pub replicas: Vec<i32>,
    /// Broker ids.
    pub in_sync: Vec<i32>,
    /// The leader's broker id.
    pub leader_id: i32,
}

impl Cluster {
    /// A cluster to be found by any of these addresses.
    pub fn new(world: &World, tasks: &TaskGroup, bootstrap: Vec<Endpoint>, options: PeerOptions) -> Cluster {
        let peers = Mutex::new(HashMap::new());
        Cluster(Arc::new(Inner { world: world.clone(), tasks: tasks.clone(), bootstrap, options, peers }))
    }

    /// Clock and randomness.
    pub fn world(&self) -> &World {
        &self.0.world
    }

    /// Who owns what the client starts.
    pub fn tasks(&self) -> &TaskGroup {
        &self.0.tasks
    }

    /// A connection to the broker at `address`: one that is open, or a new one.
    pub async fn at(&self, address: &Endpoint) -> Result<Peer, ConnectError> {
        let key = (address.host.clone(), address.port);
        let known = self.0.peers.lock().get(&key).filter(|peer| !peer.is_closed()).cloned();
        if let Some(peer) = known {
            return Ok(peer);
        }
        let peer = Peer::connect(address, self.0.options.clone(), &self.0.tasks).await?;
        self.0.peers.lock().insert(key, peer.clone());
        Ok(peer)
    }

    /// A connection to any broker.
    pub async fn any(&self) -> anyhow::Result<Peer> {
        let mut failures = Vec::new();
        for address in &self.0.bootstrap {
            match self.at(address).await {
                Ok(peer) => return Ok(peer),
                Err(error) => failures.push(error.to_string()),
            }
        }
        bail!("{}", failures.join("; "))
    }

    /// Asks a broker what it knows of these topics; of all, for `None`.
    pub async fn metadata(&self, topics: Option<&[&str]>, create: bool) -> anyhow::Result<MetadataResponse> {
        let peer = self.any().await?;
        let named = |name: &&str| MetadataRequestTopic { name: Some(Str::from(*name)), ..Default::default() };
        let request = MetadataRequest {
            topics: topics.map(|topics| topics.iter().map(named).collect()),
            // Older brokers cannot be told not to.
            allow_auto_topic_creation: create || peer.version::<MetadataRequest>()? < CREATION_SINCE,
            ..Default::default()
        };
        Ok(peer.call(&request).await?)
    }

    /// A topic all of whose partitions have a leader. Waits while one has none, and, where `create` lets the broker create the
    /// topic, until it is there.
    pub async fn topic(&self, name: &TopicName, create: bool) -> anyhow::Result<Topic> {
        let mut patience = Patience::new(&self.0.world, PATIENCE);
        loop {
            let error = match self.topic_once(name, create).await {
                Ok(topic) => match topic.partitions.iter().find(|partition| partition.leader.is_none()) {
                    None => return Ok(topic),
                    Some(partition) => Refusal::Later(format!("partition {} has no leader", partition.index)),
                },
                Err(error) => error,
            };
            match error {
                Refusal::Later(why) if patience.pause().await => {
                    tracing::debug!(topic = %name, why, "trying again")
                }
                Refusal::Later(why) | Refusal::Never(why) => bail!("topic {name}: {why}"),
            }
        }
    }

    async fn topic_once(&self, name: &TopicName, create: bool) -> Result<Topic, Refusal> {
        // No broker at all is told at once: an address that is mistyped does not get better.
        let metadata = self.metadata(Some(&[name.as_str()]), create).await;
        let metadata = metadata.map_err(|error| Refusal::Never(format!("{error:#}")))?;
        let found = metadata.topics.iter().find(|topic| topic.name.as_deref() == Some(name.as_str()));
        let found = found.ok_or_else(|| Refusal::Never("the broker's answer leaves it out".to_owned()))?;
        match found.error_code {
            ErrorCode::NONE => Ok(Topic::of(&metadata, found)),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if !create => {
                Err(Refusal::Never("does not exist".to_owned()))
            }
            error if error.is_retriable() => Err(Refusal::Later(error.to_string())),
            error => Err(Refusal::Never(error.to_string())),
        }
    }
}

enum Refusal {
    Later(String),
    Never(String),
}

impl Topic {
    /// Reads a topic out of an answer.
    pub fn of(metadata: &MetadataResponse, topic: &MetadataResponseTopic) -> Topic {
        let address = |node: i32| {
            let broker = metadata.brokers.iter().find(|broker| broker.node_id == node)?;
            Some(Endpoint { host: broker.host.to_string(), port: u16::try_from(broker.port).ok()? })
        };
        let partitions = topic.partitions.iter().map(|partition| Partition {
            index: partition.partition_index,
            leader: address(partition.leader_id),
            leader_epoch: partition.leader_epoch,
            leader_id: partition.leader_id,
            replicas: partition.replica_nodes.clone(),
            in_sync: partition.isr_nodes.clone(),
        });
        let mut partitions: Vec<Partition> = partitions.collect();
        partitions.sort_by_key(|partition| partition.index);
        Topic { name: topic.name.clone().unwrap_or_default().detached(), id: topic.topic_id, partitions }
    }

    /// The partition of this index.
    pub fn partition(&self, index: i32) -> anyhow::Result<&Partition> {
        let found = self.partitions.iter().find(|partition| partition.index == index);
        found.with_context(|| {
            format!("topic {} has no partition {index}, only {}", self.name, self.partitions.len())
        })
    }
}

/// Tries again until a deadline, with growing pauses.
#[derive(Debug)]
pub struct Patience {
    world: World,
    deadline: Instant,
    pause: Duration,
}

impl Patience {
    /// Until `patience` from now.
    pub fn new(world: &World, patience: Duration) -> Patience {
        Patience { world: world.clone(), deadline: world.clock.now() + patience, pause: PAUSE_MIN }
    }

    /// Waits before another try; false where there is no time left for one.
    pub async fn pause(&mut self) -> bool {
        let pause = self.world.rng.jittered(self.pause);
        if self.world.clock.now() + pause >= self.deadline {
            return false;
        }
        tokio::time::sleep(pause).await;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
        true
    }
}

/// What to do about a failed call to a leader.
#[derive(Debug)]
pub enum Failure {
    /// Find the leader anew and try again.
    Transient(String),
    /// Trying again will not help.
    Fatal(String),
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Failure {
        if error.is_of_connection() {
            Failure::Transient(error.to_string())
        } else {
            Failure::Fatal(error.to_string())
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        Failure::Transient(error.to_string())
    }
}

impl From<ErrorCode> for Failure {
    fn from(error: ErrorCode) -> Failure {
        if error.is_retriable() {
            Failure::Transient(error.to_string())
        } else {
            Failure::Fatal(error.to_string())
        }
    }
}
