//! Topics made, grown, deleted: checks what was asked for, proposes it, and waits until this broker has carried it out, so that a
//! client that is told yes can produce at once.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ids::TopicNameError;
use aquifer_model::{BrokerId, TopicId, TopicName};
use aquifer_runtime::World;
use aquifer_runtime::metrics::{Counter, Registry, Table};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::placement::{TooFewBrokers, place};
use crate::config::Config;
use crate::metadata::apply::{TOPIC_PARTITIONS_MAX, apply};
use crate::metadata::command::{CreatePartitions, CreateTopic, DeleteTopic, Remains};
use crate::metadata::image::{BrokerState, Configs, Topic};
use crate::metadata::{Command, Image, Metadata, ProposeError, Rejected};
use crate::quotas::bucket::TokenBucket;
use crate::quotas::kind::Kind;
use crate::quotas::mutations::{Mutations, Strictness};
use crate::replica::Replicas;

/// How long the creation of a topic on first use may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// After a rest as many partitions may come or go at once as else in so long (`max.partitions.creation.rate`).
const BURST: Duration = Duration::from_secs(100);
/// What a request says for "the broker's default".
const DEFAULT: i32 = -1;

/// Why a change of topics was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TopicError {
    #[error(transparent)]
    Name(#[from] TopicNameError),
    #[error("topic name collides with {existing:?}: '.' and '_' are one in metrics")]
    Collides { existing: TopicName },
    #[error("topic {0:?} exists already")]
    Exists(TopicName),
    #[error("no such topic")]
    Unknown,
    #[error("no topic has this id")]
    UnknownId,
    #[error("{0}")]
    Partitions(String),
    #[error("{0}")]
    ReplicationFactor(String),
    #[error("{0}")]
    Assignment(String),
    #[error("{0}")]
    Request(String),
    #[error("{0}")]
    Config(String),
    #[error("there may be {max} partitions in all (max.partitions)")]
    TooManyPartitions { max: u32 },
    #[error("too many partitions come and go ({limit}); try again in {} ms", .wait.as_millis())]
    TooFast { limit: &'static str, wait: Duration },
    #[error("deletion of topics is disabled (delete.topic.enable)")]
    DeletionDisabled,
    #[error("accepted, but not carried out in time")]
    NotCarriedOut,
    #[error(transparent)]
    Propose(#[from] ProposeError),
}

/// Whether to do it, and until when to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Execution {
    /// Only say whether it would be done.
    ValidateOnly,
    /// Do it.
    For(Instant),
}

/// A topic to be made. -1 partitions or replicas are the broker's defaults.
#[derive(Debug, Clone)]
pub(crate) struct NewTopic {
    pub(crate) name: String,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    /// Replicas by partition, in place of the two numbers.
    pub(crate) assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub(crate) configs: Configs,
}

/// A topic that was made, or would be.
#[derive(Debug, Clone)]
pub(crate) struct Created {
    pub(crate) id: TopicId,
    pub(crate) partitions: i32,
    pub(crate) replication_factor: i16,
    pub(crate) configs: Configs,
}

/// More partitions for a topic.
#[derive(Debug, Clone)]
pub(crate) struct Growth {
    pub(crate) name: String,
    /// How many there shall be in all.
    pub(crate) partitions: i32,
    /// Replicas of the new ones, in order.
    pub(crate) assignments: Option<Vec<Vec<BrokerId>>>,
}

/// A topic that was deleted.
#[derive(Debug, Clone)]
pub(crate) struct Deleted {
    pub(crate) id: TopicId,
    pub(crate) name: TopicName,
}

/// Makes, grows and deletes topics.
#[derive(Debug)]
pub(crate) struct Topics {
    metadata: Metadata,
    replicas: Arc<Replicas>,
    config: watch::Receiver<Config>,
    world: World,
    rate: Mutex<TokenBucket>,
    metrics: TopicMetrics,
}

#[derive(Debug, Clone, Default)]
struct TopicMetrics {
    refused_full: Counter,
    refused_rate: Counter,
}

impl NewTopic {
    /// As the broker's defaults have it.
    pub(crate) fn by_default(name: &str) -> NewTopic {
        NewTopic {
            name: name.to_owned(),
            partitions: DEFAULT,
            replication_factor: -1,
            assignments: BTreeMap::new(),
            configs: Configs::new(),
        }
    }
}

impl Topics {
    pub(crate) fn new(
        metadata: Metadata,
        replicas: Arc<Replicas>,
        config: watch::Receiver<Config>,
        world: World,
        registry: &mut Registry,
    ) -> Topics {
        let metrics = TopicMetrics::default();
        Table::under(registry, "aquifer_topics")
            .row("refused_full", "Changes of topics refused for max.partitions", &metrics.refused_full)
            .row(
                "refused_rate",
                "Changes of topics refused for max.partitions.creation.rate",
                &metrics.refused_rate,
            );
        let per_second = f64::from(config.borrow().broker().topics.partitions_rate_max);
        let rate = Mutex::new(TokenBucket::full(BURST, per_second, world.clock.now()));
        Topics { metadata, replicas, config, world, rate, metrics }
    }

    /// How long a creation on first use may take.
    pub(crate) fn patience(&self) -> Execution {
        Execution::For(self.world.clock.now() + PATIENCE)
    }

    /// Makes a topic.
    pub(crate) async fn create(
        &self,
        mut new: NewTopic,
        execution: Execution,
        mutations: &mut Mutations,
    ) -> Result<Created, TopicError> {
        let name = TopicName::new(&new.name)?;
        let image = self.metadata.image();
        // `apply` judges this again; here it is for the words.
        if image.topic_named(&name).is_some() {
            return Err(TopicError::Exists(name));
        }
        let config = self.config.borrow().clone();
        // What is refused for its number is refused before anything is looked at: there may be many of them.
        self.has_room(&image, &config, 1)?;
        if matches!(execution, Execution::For(_)) {
            self.is_in_time(&mut self.rate.lock(), &config, mutations)?;
        }
        new.configs = config.for_new_topic(&new.configs);
        config.check_topic(&new.configs).map_err(|problems| TopicError::Config(problems.to_string()))?;
        let partitions = self.assign(&image, &config, &new)?;
        let created = Created {
            id: TopicId::new(self.world.rng.uuid()),
            partitions: i32::try_from(partitions.len()).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(partitions.first().map_or(0, Vec::len)).unwrap_or(i16::MAX),
            configs: new.configs.clone(),
        };
        self.admit(&image, &config, created.partitions, execution, mutations)?;
        let command =
            Command::CreateTopic(CreateTopic { id: created.id, name, partitions, configs: new.configs });
        let Execution::For(deadline) = execution else {
            judge(&image, &command)?;
            return Ok(created);
        };
        self.metadata.propose(command).await.map_err(explain)?;
        self.wait(created.id, deadline).await?;
        Ok(created)
    }

    /// Whether so many more partitions may come. Those who ask at once may exceed the bound by what they bring: it is no promise.
    fn admit(
        &self,
        image: &Image,
        config: &Config,
        more: i32,
        execution: Execution,
        mutations: &mut Mutations,
    ) -> Result<(), TopicError> {
        let more = usize::try_from(more).unwrap_or(0);
        self.has_room(image, config, more)?;
        match execution {
            Execution::ValidateOnly => Ok(()),
            Execution::For(_) => self.pace(config, more, mutations),
        }
    }

    fn has_room(&self, image: &Image, config: &Config, more: usize) -> Result<(), TopicError> {
        let max = config.broker().topics.partitions_max;
        if image.partition_count() + more > max as usize {
            self.metrics.refused_full.inc();
            return Err(TopicError::TooManyPartitions { max });
        }
        Ok(())
    }

    /// Takes its time for so many partitions.
    fn pace(&self, config: &Config, partitions: usize, mutations: &mut Mutations) -> Result<(), TopicError> {
        let per_second = f64::from(config.broker().topics.partitions_rate_max);
        let now = self.world.clock.now();
        let mut rate = self.rate.lock();
        self.is_in_time(&mut rate, config, mutations)?;
        rate.take(partitions, per_second, now);
        if mutations.strictness() == Strictness::Permissive {
            mutations.rest(rate.debt(per_second, now), now);
        }
        drop(rate);
        mutations.pay(partitions, now);
        Ok(())
    }

    /// By what this client may do, and by what all of them together may. Those who do not know to try again later are let through
    /// while both are in debt, but not without end.
    fn is_in_time(
        &self,
        rate: &mut TokenBucket,
        config: &Config,
        mutations: &mut Mutations,
    ) -> Result<(), TopicError> {
        let per_second = f64::from(config.broker().topics.partitions_rate_max);
        let now = self.world.clock.now();
        let too_fast = |limit, wait| TopicError::TooFast { limit, wait };
        mutations.admit(now).map_err(|wait| too_fast(Kind::Mutation.key(), wait))?;
        let debt = rate.debt(per_second, now);
        let debt_max = match mutations.strictness() {
            Strictness::Strict | Strictness::Incidental => Duration::ZERO,
            Strictness::Permissive => BURST,
        };
        if debt > debt_max {
            self.metrics.refused_rate.inc();
            // Who names a missing topic in a Metadata request must not be kept from producing for what others have made.
            if mutations.strictness() != Strictness::Incidental {
                mutations.rest(debt, now);
            }
            return Err(too_fast("max.partitions.creation.rate", debt));
        }
        Ok(())
    }

    fn assign(
        &self,
        image: &Image,
        config: &Config,
        new: &NewTopic,
    ) -> Result<Vec<Vec<BrokerId>>, TopicError> {
        if !new.assignments.is_empty() {
            if new.partitions != DEFAULT || i32::from(new.replication_factor) != DEFAULT {
                let words =
                    "either partitions and replication factor or an assignment can be given, not both";
                return Err(TopicError::Request(words.to_owned()));
            }
            let dense = new.assignments.keys().zip(0..).all(|(partition, expected)| *partition == expected);
            if !dense {
                return Err(TopicError::Assignment(
                    "partitions must be assigned from 0 without gaps".to_owned(),
                ));
            }
            return Ok(new.assignments.values().cloned().collect());
        }
        let defaults = &config.broker().topics;
        let partitions = match new.partitions {
            DEFAULT => defaults.partitions as usize,
            count if count > 0 => countable(count as usize)?,
            count => return Err(TopicError::Partitions(format!("a topic cannot have {count} partitions"))),
        };
        let replicas = match i32::from(new.replication_factor) {
            DEFAULT => defaults.replication_factor as usize,
            factor if factor > 0 => factor as usize,
            factor => {
                return Err(TopicError::ReplicationFactor(format!("replication factor cannot be {factor}")));
            }
        };
        place(&in_service(image), partitions, replicas, self.world.rng.number())
            .map_err(|error: TooFewBrokers| TopicError::ReplicationFactor(error.to_string()))
    }

    /// Adds partitions.
    pub(crate) async fn grow(
        &self,
        growth: Growth,
        execution: Execution,
        mutations: &mut Mutations,
    ) -> Result<(), TopicError> {
        let image = self.metadata.image();
        let topic = image.topic_named(&growth.name).ok_or(TopicError::Unknown)?;
        let existing = topic.partitions.len();
        let wanted = usize::try_from(growth.partitions).unwrap_or(0);
        if wanted <= existing {
            let words = format!(
                "the topic has {existing} partitions; it can only get more, not {}",
                growth.partitions
            );
            return Err(TopicError::Partitions(words));
        }
        let wanted = countable(wanted)?;
        let added = match growth.assignments {
            Some(added) if added.len() != wanted - existing => {
                let words =
                    format!("{} partitions are added, {} are assigned", wanted - existing, added.len());
                return Err(TopicError::Assignment(words));
            }
            Some(added) => added,
            None => {
                let replicas = topic.partitions.first().map_or(1, |partition| partition.replicas.len());
                place(&in_service(&image), wanted - existing, replicas, self.world.rng.number())
                    .map_err(|error| TopicError::ReplicationFactor(error.to_string()))?
            }
        };
        let id = topic.id;
        let config = self.config.borrow().clone();
        let more = i32::try_from(added.len()).unwrap_or(i32::MAX);
        self.admit(&image, &config, more, execution, mutations)?;
        let command = Command::CreatePartitions(CreatePartitions { topic: id, existing, added });
        let Execution::For(deadline) = execution else { return judge(&image, &command).map_err(named) };
        self.metadata.propose(command).await.map_err(explain).map_err(named)?;
        self.wait(id, deadline).await
    }

    /// Deletes a topic by name.
    pub(crate) async fn delete_named(
        &self,
        name: &str,
        deadline: Instant,
        mutations: &mut Mutations,
    ) -> Result<Deleted, TopicError> {
        let image = self.metadata.image();
        let topic = image.topic_named(name).ok_or(TopicError::Unknown)?;
        self.delete_known(topic, deadline, mutations).await.map_err(named)
    }

    /// Deletes a topic by id.
    pub(crate) async fn delete(
        &self,
        id: TopicId,
        deadline: Instant,
        mutations: &mut Mutations,
    ) -> Result<Deleted, TopicError> {
        let image = self.metadata.image();
        let topic = image.topic(id).ok_or(TopicError::UnknownId)?;
        self.delete_known(topic, deadline, mutations).await
    }

    async fn delete_known(
        &self,
        topic: &Topic,
        deadline: Instant,
        mutations: &mut Mutations,
    ) -> Result<Deleted, TopicError> {
        let config = self.config.borrow().clone();
        if !config.broker().topics.deletable {
            return Err(TopicError::DeletionDisabled);
        }
        self.pace(&config, topic.partitions.len(), mutations)?;
        let (settings, _) = config.topic(&topic.configs);
        let remains = if settings.tiered { Remains::InTier } else { Remains::Nothing };
        let command = DeleteTopic { topic: topic.id, remains, time: self.world.clock.wall() };
        self.metadata.propose(Command::DeleteTopic(command)).await.map_err(explain)?;
        self.wait(topic.id, deadline).await?;
        Ok(Deleted { id: topic.id, name: topic.name.clone() })
    }

    async fn wait(&self, topic: TopicId, deadline: Instant) -> Result<(), TopicError> {
        let image = self.metadata.image();
        if self.replicas.carried_out(&image, topic, deadline).await {
            Ok(())
        } else {
            Err(TopicError::NotCarriedOut)
        }
    }
}

/// Refuses what `apply` would refuse, too, but only after each of two billion partitions had been given its replicas.
fn countable(partitions: usize) -> Result<usize, TopicError> {
    if partitions > TOPIC_PARTITIONS_MAX {
        let max = TOPIC_PARTITIONS_MAX;
        let refused = Rejected::InvalidPartitionCount { count: partitions, max };
        return Err(TopicError::Partitions(refused.to_string()));
    }
    Ok(partitions)
}

/// Brokers that may be given replicas.
fn in_service(image: &Image) -> Vec<BrokerId> {
    image.brokers().filter(|broker| broker.state == BrokerState::Active).map(|broker| broker.id).collect()
}

/// What would become of a command if it were proposed: asked of the judge, over a copy of what there is.
fn judge(image: &Image, command: &Command) -> Result<(), TopicError> {
    let judged = apply(&mut image.clone(), command);
    judged.map(drop).map_err(|rejected| explain(rejected.into()))
}

/// Who named a topic that has gone meanwhile is not told of an id: older clients do not know that error.
fn named(error: TopicError) -> TopicError {
    match error {
        TopicError::UnknownId => TopicError::Unknown,
        other => other,
    }
}

/// Gives the refusals that a client meets in earnest words of their own.
fn explain(error: ProposeError) -> TopicError {
    match error {
        ProposeError::Rejected(Rejected::NameCollides(existing)) => TopicError::Collides { existing },
        ProposeError::Rejected(Rejected::UnknownTopic) => TopicError::UnknownId,
        ProposeError::Rejected(rejected @ Rejected::InvalidPartitionCount { .. }) => {
            TopicError::Partitions(rejected.to_string())
        }
        ProposeError::Rejected(rejected @ Rejected::TooManyPartitions { .. }) => {
            TopicError::Partitions(rejected.to_string())
        }
        other => TopicError::Propose(other),
    }
}
