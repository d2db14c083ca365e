//! All of a topic, of partitions that are assigned by hand, up to the end as it is at the start.

use crate::options::Options;
use crate::seen::Seen;
use anyhow::{Context, Result, ensure};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Message, Offset, TopicPartitionList};
use std::collections::BTreeMap;
use std::time::Duration;

/// For one answer of the broker.
const PATIENCE: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(500);

pub fn read(options: &Options) -> Result<()> {
    let topic = options.need("topic")?;
    let mut config = options.client()?;
    // It wants a group also where it joins none. A reset would skip or repeat records in silence.
    config.set("group.id", "none").set("enable.auto.commit", "false").set("auto.offset.reset", "error");
    let consumer: BaseConsumer = config.set("check.crcs", "true").create()?;
    let known = consumer.fetch_metadata(Some(topic), PATIENCE)?;
    let partitions = known.topics().first().context("no such topic")?.partitions();
    let wanted = options.get("partition").unwrap_or("all");
    let (mut found, mut assigned, mut left) = (Seen::default(), TopicPartitionList::new(), BTreeMap::new());
    let mut chosen = 0;
    for number in partitions.iter().map(|partition| partition.id()) {
        if wanted != "all" && wanted != number.to_string() {
            continue;
        }
        chosen += 1;
        let (start, end) = consumer.fetch_watermarks(topic, number, PATIENCE)?;
        let start = bound(options.get("from"), "earliest", start)?;
        let end = bound(options.get("until"), "end", end)?;
        found.expect(number);
        if start < end {
            assigned.add_partition_offset(topic, number, Offset::Offset(start))?;
            left.insert(number, end);
        }
    }
    ensure!(chosen > 0, "topic {topic} has no partition {wanted}");
    consumer.assign(&assigned)?;
    while !left.is_empty() {
        options.check_deadline("not at the end")?;
        match consumer.poll(POLL).transpose()? {
            Some(message) if left.get(&message.partition()).is_some_and(|end| message.offset() < *end) => {
                found.add(&message)?;
                if message.offset() + 1 == left[&message.partition()] {
                    left.remove(&message.partition());
                }
            }
            Some(_) => {}
            // The last offsets may hold no record, and then none comes that says so.
            None => {
                for at in consumer.position()?.elements() {
                    if let Offset::Offset(next) = at.offset()
                        && left.get(&at.partition()).is_some_and(|end| next >= *end)
                    {
                        left.remove(&at.partition());
                    }
                }
            }
        }
    }
    found.print();
    Ok(())
}

fn bound(given: Option<&str>, own: &str, found: i64) -> Result<i64> {
    match given {
        Some(offset) if offset != own => offset.parse().with_context(|| format!("offset '{offset}'")),
        _ => Ok(found),
    }
}
