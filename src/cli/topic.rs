//! `aquifer topic`: create, list, describe, alter, delete.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, bail};
use aquifer_model::{Offset, Timestamp, TopicName};
use aquifer_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use aquifer_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use aquifer_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use aquifer_protocol::messages::describe_configs::{DescribeConfigsRequest, DescribeConfigsResource};
use aquifer_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use aquifer_protocol::messages::list_offsets::ListOffsetsRequest;
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use clap::{ArgGroup, Args, Subcommand};
use serde_json::{Value, json};

use crate::cli::client::{ClientArgs, parse_pair, parse_topic};
use crate::cli::cluster::{Cluster, LOCAL_SINCE, Topic};
use crate::cli::consumer::{EARLIEST, EARLIEST_LOCAL, LATEST, offsets};
use crate::cli::output::{Output, Table};

/// How long a broker may take to create, change or delete.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(30);
/// Kafka's number for a topic among the things that have a configuration.
const RESOURCE_TOPIC: i8 = 2;
/// Kafka's number for a value that a topic has of its own.
const SOURCE_TOPIC: i8 = 1;
/// Kafka's numbers for the ways to alter.
const OPERATION_SET: i8 = 0;
const OPERATION_DELETE: i8 = 1;

/// Topics
#[derive(Debug, Args)]
pub struct TopicArgs {
    #[command(flatten)]
    client: ClientArgs,
    #[command(subcommand)]
    command: TopicCommand,
}

#[derive(Debug, Subcommand)]
enum TopicCommand {
    /// Create a topic
    Create(Create),
    /// List all topics
    List(List),
    /// Show topics' partitions, where their records lie, and their configuration
    Describe(Describe),
    /// Change a topic's configuration or add partitions
    Alter(Alter),
    /// Delete topics, with all their records
    Delete(Delete),
}

#[derive(Debug, Args)]
struct Create {
    /// Its name
    #[arg(value_parser = parse_topic)]
    topic: TopicName,
    /// How many partitions; without it, the broker's num.partitions
    #[arg(long, short)]
    partitions: Option<i32>,
    /// How many replicas; without it, the broker's default.replication.factor
    #[arg(long, short)]
    replication_factor: Option<i16>,
    /// Configuration; may be given several times
    #[arg(long = "config", short, value_parser = parse_pair, value_name = "KEY=VALUE")]
    configs: Vec<(String, String)>,
    /// Be content with a topic that is there already
    #[arg(long)]
    if_not_exists: bool,
}

#[derive(Debug, Args)]
struct List {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Describe {
    /// Their names
    #[arg(required = true, value_parser = parse_topic)]
    topics: Vec<TopicName>,
    /// Show every configuration key, not only those that the topic has a value of its own for
    #[arg(long)]
    all_configs: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("change").required(true).multiple(true)))]
struct Alter {
    /// Its name
    #[arg(value_parser = parse_topic)]
    topic: TopicName,
    /// Set a configuration key; may be given several times
    #[arg(long, short, group = "change", value_parser = parse_pair, value_name = "KEY=VALUE")]
    set: Vec<(String, String)>,
    /// Give a configuration key its default again; may be given several times
    #[arg(long, short, group = "change", value_name = "KEY")]
    unset: Vec<String>,
    /// Add partitions until there are so many
    #[arg(long, short, group = "change")]
    partitions: Option<i32>,
}

#[derive(Debug, Args)]
struct Delete {
    /// Their names
    #[arg(required = true, value_parser = parse_topic)]
    topics: Vec<TopicName>,
    /// Be content with topics that are not there
    #[arg(long)]
    if_exists: bool,
}

impl TopicArgs {
    /// Runs the command.
    pub async fn run(self, world: &World, tasks: &TaskGroup) -> anyhow::Result<()> {
        let cluster = self.client.cluster(world, tasks);
        let mut out = Output::stdout();
        match self.command {
            TopicCommand::Create(command) => create(&cluster, command, &mut out).await?,
            TopicCommand::List(command) => list(&cluster, &command, &mut out).await?,
            TopicCommand::Describe(command) => describe(&cluster, &command, &mut out).await?,
            TopicCommand::Alter(command) => alter(&cluster, command, &mut out).await?,
            TopicCommand::Delete(command) => delete(&cluster, &command, &mut out).await?,
        }
        out.flush()?;
        Ok(())
    }
}

/// An error with the broker's own words where it has some.
fn refusal(error: ErrorCode, message: Option<&Str>) -> String {
    match message {
        Some(message) if !message.is_empty() => format!("{message} ({error})"),
        _ => error.to_string(),
    }
}

fn timeout_ms() -> i32 {
    i32::try_from(CHANGE_TIMEOUT.as_millis()).unwrap_or(i32::MAX)
}

async fn create(cluster: &Cluster, command: Create, out: &mut Output) -> anyhow::Result<()> {
    let config = |(key, value): &(String, String)| CreatableTopicConfig {
        name: key.as_str().into(),
        value: Some(value.as_str().into()),
    };
    let wanted = CreatableTopic {
        name: command.topic.as_str().into(),
        num_partitions: command.partitions.unwrap_or(-1),
        replication_factor: command.replication_factor.unwrap_or(-1),
        assignments: Vec::new(),
        configs: command.configs.iter().map(config).collect(),
    };
    let request =
        CreateTopicsRequest { topics: vec![wanted], timeout_ms: timeout_ms(), validate_only: false };
    let answer = cluster.any().await?.call(&request).await?;
    let created = answer.topics.first().context("the answer leaves the topic out")?;
    match created.error_code {
        ErrorCode::NONE => {
            let partitions = match created.num_partitions {
                1 => " with 1 partition".to_owned(),
                count if count > 1 => format!(" with {count} partitions"),
                _ => String::new(),
            };
            out.line(format!("created {}{partitions}", command.topic))?;
            Ok(())
        }
        ErrorCode::TOPIC_ALREADY_EXISTS if command.if_not_exists => {
            out.line(format!("{} is there already", command.topic))?;
            Ok(())
        }
        error => bail!("cannot create {}: {}", command.topic, refusal(error, created.error_message.as_ref())),
    }
}

async fn list(cluster: &Cluster, command: &List, out: &mut Output) -> anyhow::Result<()> {
    let metadata = cluster.metadata(None, false).await?;
    let mut topics: Vec<(Topic, bool)> =
        metadata.topics.iter().map(|topic| (Topic::of(&metadata, topic), topic.is_internal)).collect();
    topics.sort_by(|(a, _), (b, _)| a.name.as_str().cmp(b.name.as_str()));
    if command.json {
        let shown = topics.iter().map(|(topic, is_internal)| {
            json!({
                "name": topic.name.as_str(),
                "id": topic.id.to_string(),
                "partitions": topic.partitions.len(),
                "replicas": replicas(topic),
                "is_internal": is_internal,
            })
        });
        out.json(&shown.collect())?;
        return Ok(());
    }
    let mut table = Table::new(&["TOPIC", "PARTITIONS", "REPLICAS", "ID"]);
    for (topic, _) in &topics {
        table.row([
            topic.name.to_string(),
            topic.partitions.len().to_string(),
            replicas(topic).to_string(),
            topic.id.to_string(),
        ]);
    }
    out.table(&table)?;
    Ok(())
}

fn replicas(topic: &Topic) -> usize {
    topic.partitions.iter().map(|partition| partition.replicas.len()).max().unwrap_or(0)
}

/// A topic, as told by describe.
struct Described {
    topic: Topic,
    starts: BTreeMap<i32, Option<Offset>>,
    /// Empty from brokers that do not tell.
    local_starts: BTreeMap<i32, Option<Offset>>,
    ends: BTreeMap<i32, Option<Offset>>,
    configs: Vec<Config>,
}

struct Config {
    name: String,
    value: Option<String>,
    is_own: bool,
}

async fn describe(cluster: &Cluster, command: &Describe, out: &mut Output) -> anyhow::Result<()> {
    let mut shown = Vec::new();
    for name in &command.topics {
        let mut described = describe_one(cluster, name).await?;
        described.configs.retain(|config| config.is_own || command.all_configs);
        if command.json {
            shown.push(described.as_json());
        } else {
            if name != &command.topics[0] {
                out.line("")?;
            }
            described.print(out)?;
        }
    }
    if command.json {
        out.json(&Value::from(shown))?;
    }
    Ok(())
}

async fn describe_one(cluster: &Cluster, name: &TopicName) -> anyhow::Result<Described> {
    let topic = cluster.topic(name, false).await?;
    let partitions: Vec<i32> = topic.partitions.iter().map(|partition| partition.index).collect();
    let of = |timestamp: Timestamp| offsets(cluster, name, &partitions, timestamp);
    let tells_local = cluster.any().await?.version::<ListOffsetsRequest>()? >= LOCAL_SINCE;
    Ok(Described {
        starts: of(EARLIEST).await?,
        local_starts: if tells_local { of(EARLIEST_LOCAL).await? } else { BTreeMap::new() },
        ends: of(LATEST).await?,
        configs: configs(cluster, name).await?,
        topic,
    })
}

async fn configs(cluster: &Cluster, name: &TopicName) -> anyhow::Result<Vec<Config>> {
    let resource = DescribeConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: name.as_str().into(),
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest { resources: vec![resource], ..Default::default() };
    let answer = cluster.any().await?.call(&request).await?;
    let told = answer.results.into_iter().next().context("the answer leaves the topic out")?;
    if !told.error_code.is_none() {
        bail!(
            "cannot read the configuration of {name}: {}",
            refusal(told.error_code, told.error_message.as_ref())
        );
    }
    let configs = told.configs.into_iter().map(|config| Config {
        name: config.name.to_string(),
        value: config.value.map(|value| value.to_string()),
        is_own: config.config_source == SOURCE_TOPIC,
    });
    Ok(configs.collect())
}

impl Described {
    fn print(&self, out: &mut Output) -> std::io::Result<()> {
        let topic = &self.topic;
        out.line(format!("topic {}, id {}", topic.name, topic.id))?;
        for Config { name, value, .. } in &self.configs {
            out.line(format!("  {name} = {}", value.as_deref().unwrap_or_default()))?;
        }
        let mut table = Table::new(&[
            "PARTITION",
            "LEADER",
            "REPLICAS",
            "IN-SYNC",
            "START",
            "LOCAL-START",
            "END",
            "OFFSETS",
        ]);
        for partition in &topic.partitions {
            let start = at(&self.starts, partition.index);
            let end = at(&self.ends, partition.index);
            let shown = |offset: Option<Offset>| offset.map_or_else(String::new, |offset| offset.to_string());
            table.row([
                partition.index.to_string(),
                partition.leader_id.to_string(),
                ids(&partition.replicas),
                ids(&partition.in_sync),
                shown(start),
                shown(at(&self.local_starts, partition.index)),
                shown(end),
                end.unwrap_or(Offset::ZERO).since(start.unwrap_or(Offset::ZERO)).to_string(),
            ]);
        }
        out.table(&table)
    }

    fn as_json(&self) -> Value {
        let partitions = self.topic.partitions.iter().map(|partition| {
            let offset = |offsets| at(offsets, partition.index).map(Offset::get);
            json!({
                "partition": partition.index,
                "leader": partition.leader_id,
                "leader_epoch": partition.leader_epoch,
                "replicas": partition.replicas,
                "in_sync": partition.in_sync,
                "start": offset(&self.starts),
                "local_start": offset(&self.local_starts),
                "end": offset(&self.ends),
            })
        });
        let configs = self
            .configs
            .iter()
            .map(|config| json!({ "name": config.name, "value": config.value, "is_own": config.is_own }));
        json!({
            "name": self.topic.name.as_str(),
            "id": self.topic.id.to_string(),
            "configs": configs.collect::<Value>(),
            "partitions": partitions.collect::<Value>(),
        })
    }
}

fn at(offsets: &BTreeMap<i32, Option<Offset>>, partition: i32) -> Option<Offset> {
    offsets.get(&partition).copied().flatten()
}

fn ids(brokers: &[i32]) -> String {
    brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

async fn alter(cluster: &Cluster, command: Alter, out: &mut Output) -> anyhow::Result<()> {
    if !command.set.is_empty() || !command.unset.is_empty() {
        alter_configs(cluster, &command).await?;
        out.line(format!("changed the configuration of {}", command.topic))?;
    }
    if let Some(count) = command.partitions {
        add_partitions(cluster, &command.topic, count).await?;
        out.line(format!("{} has {count} partitions", command.topic))?;
    }
    Ok(())
}

async fn alter_configs(cluster: &Cluster, command: &Alter) -> anyhow::Result<()> {
    let set = command.set.iter().map(|(key, value)| AlterableConfig {
        name: key.as_str().into(),
        config_operation: OPERATION_SET,
        value: Some(value.as_str().into()),
    });
    let unset = command.unset.iter().map(|key| AlterableConfig {
        name: key.as_str().into(),
        config_operation: OPERATION_DELETE,
        value: None,
    });
    let resource = AlterConfigsResource {
        resource_type: RESOURCE_TOPIC,
        resource_name: command.topic.as_str().into(),
        configs: set.chain(unset).collect(),
    };
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only: false };
    let answer = cluster.any().await?.call(&request).await?;
    let told = answer.responses.first().context("the answer leaves the topic out")?;
    match told.error_code {
        ErrorCode::NONE => Ok(()),
        error => bail!("cannot change {}: {}", command.topic, refusal(error, told.error_message.as_ref())),
    }
}

async fn add_partitions(cluster: &Cluster, name: &TopicName, count: i32) -> anyhow::Result<()> {
    let topic = CreatePartitionsTopic { name: name.as_str().into(), count, assignments: None };
    let request =
        CreatePartitionsRequest { topics: vec![topic], timeout_ms: timeout_ms(), validate_only: false };
    let answer = cluster.any().await?.call(&request).await?;
    let told = answer.results.first().context("the answer leaves the topic out")?;
    match told.error_code {
        ErrorCode::NONE => Ok(()),
        error => bail!("cannot add partitions to {name}: {}", refusal(error, told.error_message.as_ref())),
    }
}

async fn delete(cluster: &Cluster, command: &Delete, out: &mut Output) -> anyhow::Result<()> {
    let names: Vec<Str> = command.topics.iter().map(|name| Str::from(name.as_str())).collect();
    let named = |name: &Str| DeleteTopicState { name: Some(name.clone()), ..Default::default() };
    let request = DeleteTopicsRequest {
        topics: names.iter().map(named).collect(),
        topic_names: names.clone(),
        timeout_ms: timeout_ms(),
    };
    let peer = cluster.any().await?;
    let answer = peer.call(&trim(request, peer.version::<DeleteTopicsRequest>()?)).await?;
    let mut failures = Vec::new();
    for told in &answer.responses {
        let name = told.name.clone().unwrap_or_default();
        match told.error_code {
            ErrorCode::NONE => out.line(format!("deleted {name}"))?,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION if command.if_exists => {
                out.line(format!("{name} is not there"))?
            }
            error => failures
                .push(format!("cannot delete {name}: {}", refusal(error, told.error_message.as_ref()))),
        }
    }
    if failures.is_empty() { Ok(()) } else { bail!("{}", failures.join("; ")) }
}

/// Topics are named in one field or another, by version.
fn trim(mut request: DeleteTopicsRequest, version: i16) -> DeleteTopicsRequest {
    const STATES_SINCE: i16 = 6;
    if version >= STATES_SINCE {
        request.topic_names.clear()
    } else {
        request.topics.clear()
    }
    request
}
