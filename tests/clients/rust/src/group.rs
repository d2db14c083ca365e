//! A member of a group, from the earliest offset where nothing is committed, until stdin closes.

use crate::options::Options;
use crate::seen::Seen;
use anyhow::Result;
use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use std::collections::BTreeSet;
use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);
/// Records between two commits, at most.
const BATCH: usize = 10_000;

/// What the member has to read, told at every turn of a rebalance.
#[derive(Default)]
struct Owned(Mutex<BTreeSet<i32>>);

impl ClientContext for Owned {}

impl ConsumerContext for Owned {
    fn pre_rebalance(&self, _: &BaseConsumer<Self>, turn: &Rebalance<'_>) {
        let mut owned = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match turn {
            Rebalance::Assign(partitions) => {
                owned.extend(partitions.elements().iter().map(|partition| partition.partition()));
            }
            Rebalance::Revoke(partitions) => {
                for partition in partitions.elements() {
                    owned.remove(&partition.partition());
                }
            }
            // There is no way from here to the poll that leads here.
            Rebalance::Error(error) => {
                eprintln!("rdkafka: rebalance: {error}");
                std::process::exit(1);
            }
        }
        let numbers: Vec<String> = owned.iter().map(i32::to_string).collect();
        println!("assigned={}", numbers.join(","));
    }
}

pub fn group(options: &Options) -> Result<()> {
    let protocol = options.get("protocol").unwrap_or("classic");
    let mut config = options.client()?;
    config.set("group.id", options.need("group")?).set("group.protocol", protocol);
    config.set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
    if let Some(instance) = options.get("instance") {
        config.set("group.instance.id", instance);
    }
    if protocol == "classic" {
        config.set("partition.assignment.strategy", "cooperative-sticky").set("heartbeat.interval.ms", "500");
    }
    let consumer: BaseConsumer<Owned> = config.create_with_context(Owned::default())?;
    consumer.subscribe(&[options.need("topic")?])?;
    let leave = Arc::new(AtomicBool::new(false));
    let asked = leave.clone();
    std::thread::spawn(move || {
        // An error is as good as the end.
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
        asked.store(true, Ordering::Relaxed);
    });
    let (mut found, mut read) = (Seen::default(), 0);
    while !leave.load(Ordering::Relaxed) {
        options.check_deadline("not asked to leave")?;
        let mut wait = POLL;
        let mut batch = 0;
        while batch < BATCH
            && let Some(message) = consumer.poll(wait).transpose()?
        {
            found.add(&message)?;
            batch += 1;
            wait = Duration::ZERO;
        }
        if batch > 0 {
            consumer.commit_consumer_state(CommitMode::Sync)?;
            read += batch;
            println!("read={read}");
        }
    }
    // Closes it: it leaves, unless it is a static member.
    drop(consumer);
    found.print();
    Ok(())
}
