//! A topic made, described, grown and deleted. The crate has AlterConfigs alone, which sets all that it is not given back to the
//! default, so that nothing is altered here.

use crate::options::Options;
use anyhow::{Context, Result, anyhow};
use futures_executor::block_on;
use rdkafka::admin::{
    AdminClient, AdminOptions, NewPartitions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult,
};
use rdkafka::client::DefaultClientContext;
use std::time::Duration;

/// For one answer of the broker.
const PATIENCE: Duration = Duration::from_secs(60);
/// As in the other rigs, and in `xtask/src/administration.rs`.
const CREATED: (&str, &str) = ("retention.ms", "3600000");
const PARTITIONS: usize = 2;
const MORE_PARTITIONS: usize = 4;
const LOOK_EVERY: Duration = Duration::from_millis(20);

pub fn admin(options: &Options) -> Result<()> {
    let topic = options.need("topic")?;
    let admin: AdminClient<DefaultClientContext> = options.client()?.create()?;
    let asked = AdminOptions::new();
    let (name, value) = CREATED;
    let new = NewTopic::new(topic, i32::try_from(PARTITIONS)?, TopicReplication::Fixed(1)).set(name, value);
    done(block_on(admin.create_topics([&new], &asked))?)?;
    tell(&admin, options, "created", PARTITIONS, Some(CREATED))?;
    done(block_on(admin.create_partitions([&NewPartitions::new(topic, MORE_PARTITIONS)], &asked))?)?;
    tell(&admin, options, "grown", MORE_PARTITIONS, None)?;
    done(block_on(admin.delete_topics(&[topic], &asked))?)?;
    tell(&admin, options, "deleted", 0, None)
}

fn done(results: Vec<TopicResult>) -> Result<()> {
    results
        .into_iter()
        .try_for_each(|result| result.map(drop).map_err(|(topic, code)| anyhow!("{topic}: {code}")))
}

/// Waits until the topic is as wanted, and then says how it is: Apache Kafka answers before its own metadata shows a change.
fn tell(
    admin: &AdminClient<DefaultClientContext>,
    options: &Options,
    step: &str,
    wanted: usize,
    config: Option<(&str, &str)>,
) -> Result<()> {
    let topic = options.need("topic")?;
    loop {
        let all = admin.inner().fetch_metadata(None, PATIENCE)?;
        let count = all.topics().iter().find(|found| found.name() == topic);
        let count = count.map_or(0, |found| found.partitions().len());
        let mut line = format!("{step} partitions={count}");
        let mut is_there = count == wanted;
        if let Some((name, value)) = config.filter(|_| count > 0) {
            let found = config_of(admin, topic, name)?;
            is_there &= found == value;
            line += &format!(" {name}={found}");
        }
        if is_there {
            println!("{line}");
            return Ok(());
        }
        options.check_deadline(&line)?;
        std::thread::sleep(LOOK_EVERY);
    }
}

fn config_of(admin: &AdminClient<DefaultClientContext>, topic: &str, name: &str) -> Result<String> {
    let asked = [ResourceSpecifier::Topic(topic)];
    let described = block_on(admin.describe_configs(&asked, &AdminOptions::new()))?;
    let resource = described.into_iter().next().context("no answer")?.map_err(|code| anyhow!("{code}"))?;
    let entry = resource.get(name).with_context(|| format!("no {name}"))?;
    entry.value.clone().with_context(|| format!("{name} has no value"))
}
