//! What clients do: write and read while all goes wrong, then read everything back.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use aquifer_checker::{Event, Expiry, Partition};
use aquifer_model::ByteCount;
use aquifer_protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use aquifer_protocol::messages::delete_topics::{DeleteTopicState, DeleteTopicsRequest};
use aquifer_protocol::messages::metadata::{MetadataRequest, MetadataRequestTopic};
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::World as Seams;
use aquifer_runtime::clock::Clock;
use aquifer_tiering::inspect::{VerifyOptions, verify};
use aquifer_tiering::store::StoreMetrics;
use aquifer_tiering::testing::bucket::SimBucket;
use aquifer_tiering::{Store, StoreOptions};
use uuid::Uuid;

use tokio::task::AbortHandle;

use crate::client::{Client, pause};
use crate::dice::Dice;
use crate::history::History;
use crate::node::Node;
use crate::{producer, reader};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    /// Topics are made.
    Preparing,
    /// Clients work and things go wrong.
    Trouble,
    /// Nothing goes wrong any more; clients finish.
    Settling,
    /// All is read back.
    Auditing,
}

/// How long the node has to do what was asked of it before, once nothing goes wrong any more.
const SETTLE_MAX: Duration = Duration::from_secs(300);

/// How long what nothing names may stay in the bucket, once nothing goes wrong any more: requests that are held come in the end.
const ORPHANS_MAX: Duration = Duration::from_secs(120);
/// How long the bucket holds a request that comes late, at most.
const HELD_MAX: Duration = Duration::from_secs(700);

/// What the parts of a run share. Cheap to clone.
#[derive(Clone)]
pub(crate) struct World(Rc<Inner>);

struct Inner {
    seed: u64,
    node: Node,
    bucket: SimBucket,
    history: History,
    stage: Cell<Stage>,
    producers: Cell<u32>,
    node_requests: Cell<u64>,
}

/// Tells when something is over.
pub(crate) type Until = Rc<dyn Fn() -> bool>;

/// A topic.
#[derive(Debug, Clone)]
pub(crate) struct Topic {
    pub(crate) name: Str,
    pub(crate) id: Uuid,
    partitions: i32,
}

impl Topic {
    /// One of its partitions, as the history names it.
    pub(crate) fn partition(&self, index: i32) -> Partition {
        Partition { topic: self.name.to_string(), index: index.unsigned_abs() }
    }
}

impl World {
    pub(crate) fn new(seed: u64, node: &Node, bucket: &SimBucket, history: &History) -> World {
        let stage = Cell::new(Stage::Preparing);
        let (node, bucket, history) = (node.clone(), bucket.clone(), history.clone());
        let (producers, node_requests) = (Cell::new(0), Cell::new(0));
        World(Rc::new(Inner { seed, node, bucket, history, stage, producers, node_requests }))
    }

    pub(crate) fn seed(&self) -> u64 {
        self.0.seed
    }

    pub(crate) fn host(&self) -> &str {
        self.0.node.host()
    }

    pub(crate) fn history(&self) -> &History {
        &self.0.history
    }

    pub(crate) fn stage(&self) -> Stage {
        self.0.stage.get()
    }

    /// A number that no producer of this world has had.
    pub(crate) fn next_producer(&self) -> u32 {
        self.0.producers.replace(self.0.producers.get() + 1)
    }

    /// Requests to the bucket before it was looked into.
    pub(crate) fn node_requests(&self) -> u64 {
        self.0.node_requests.get()
    }

    /// Over when this stage has passed.
    fn until(&self, stage: Stage) -> Until {
        let world = self.clone();
        Rc::new(move || world.stage() > stage)
    }

    pub(crate) fn set_stage(&self, stage: Stage) {
        self.0.stage.set(stage);
    }
}

/// The clients, from the first topic to the last look into the bucket.
pub(crate) async fn run(world: World) -> turmoil::Result {
    let mut client = Client::new(world.host());
    let mut dice = Dice::new(world.seed(), "workload");
    let endless = ("endless", Expiry::Never, dice.within(1..4) as i32, vec![("local.retention.ms", "1")]);
    let brief =
        ("brief", Expiry::Allowed, 1, vec![("local.retention.ms", "1000"), ("retention.ms", "30000")]);
    let mut topics = Vec::new();
    for (name, expiry, partitions, configs) in [endless, brief] {
        topics.push(create(&world, &mut client, name, partitions, expiry, &configs).await);
    }
    let mut tasks = tokio::task::JoinSet::new();
    let mut writing = Vec::new();
    world.set_stage(Stage::Trouble);
    let (trouble, settling) = (world.until(Stage::Trouble), world.until(Stage::Settling));
    for topic in &topics {
        for index in 0..topic.partitions {
            let (world, topic) = (|| world.clone(), || topic.clone());
            writing.push(tasks.spawn_local(producer::run(world(), topic(), index, trouble.clone())));
            tasks.spawn_local(reader::tail(world(), topic(), index, settling.clone()));
            tasks.spawn_local(reader::wander(world(), topic(), index, settling.clone()));
        }
    }
    // Waited for, like those who write: its last deletion comes before the audit.
    writing.push(tasks.spawn_local(reader::shorten(world.clone(), topics[1].clone(), 0, trouble.clone())));
    writing.push(tasks.spawn_local(mayflies(world.clone())));
    finish(&world, &topics, &writing).await;
    Ok(())
}

/// The clients of a node that has a twin.
pub(crate) async fn haunted(world: World) -> turmoil::Result {
    let mut client = Client::new(world.host());
    let configs = [("local.retention.ms", "1")];
    let topic = create(&world, &mut client, "endless", 2, Expiry::Never, &configs).await;
    let mut tasks = tokio::task::JoinSet::new();
    let mut writing = Vec::new();
    world.set_stage(Stage::Trouble);
    let (trouble, settling) = (world.until(Stage::Trouble), world.until(Stage::Settling));
    for index in 0..topic.partitions {
        let (world, topic) = (|| world.clone(), || topic.clone());
        writing.push(tasks.spawn_local(producer::run(world(), topic(), index, trouble.clone())));
        tasks.spawn_local(reader::tail(world(), topic(), index, settling.clone()));
        tasks.spawn_local(reader::wander(world(), topic(), index, settling.clone()));
    }
    finish(&world, &[topic], &writing).await;
    Ok(())
}

/// Waits until nothing goes wrong any more and all is written and uploaded; then reads all back and looks into the bucket.
async fn finish(world: &World, topics: &[Topic], writing: &[AbortHandle]) {
    while world.stage() <= Stage::Trouble {
        pause().await;
    }
    let done = async {
        while writing.iter().any(|task| !task.is_finished()) {
            pause().await;
        }
        while world.0.node.report().is_none_or(|report| report.local != ByteCount::ZERO) {
            pause().await;
        }
    };
    if tokio::time::timeout(SETTLE_MAX, done).await.is_err() {
        let waiting = writing.iter().filter(|task| !task.is_finished()).count();
        world.history().broken(format!(
            "not settled {SETTLE_MAX:?} after the last fault: {waiting} writers wait, the node says {:?}",
            world.0.node.report()
        ));
    }
    world.set_stage(Stage::Auditing);
    for topic in topics {
        for index in 0..topic.partitions {
            let read = reader::audit(world, topic, index);
            if tokio::time::timeout(SETTLE_MAX, read).await.is_err() {
                world.history().broken(format!("{} is not read back", topic.partition(index)));
            }
        }
    }
    let audited = Clock::system().now();
    while world.0.bucket.in_flight() > 0 && audited.elapsed() < HELD_MAX {
        pause().await;
    }
    world.0.node_requests.set(world.0.bucket.counts().get("requests").copied().unwrap_or(0));
    // A new claim looks for what the last ones left.
    world.0.node.ask_restart();
    look_into_bucket(world).await;
}

/// Topics that are made, written to, read and deleted, one after the other.
async fn mayflies(world: World) {
    let mut dice = Dice::new(world.seed(), "mayflies");
    let mut client = Client::new(world.host());
    for number in 0.. {
        tokio::time::sleep(dice.millis(500..8_000)).await;
        if world.stage() > Stage::Trouble {
            return;
        }
        let name = format!("mayfly-{number}");
        let topic =
            create(&world, &mut client, &name, 1, Expiry::Never, &[("local.retention.ms", "1")]).await;
        let ends = Clock::system().now() + dice.millis(500..8_000);
        let until: Until = Rc::new(move || Clock::system().now() > ends);
        producer::run(world.clone(), topic.clone(), 0, until).await;
        reader::audit(&world, &topic, 0).await;
        delete(&mut client, &topic).await;
    }
}

async fn delete(client: &mut Client, topic: &Topic) {
    let topics = vec![DeleteTopicState { name: Some(topic.name.clone()), ..Default::default() }];
    let topic_names = vec![topic.name.clone()];
    let request = DeleteTopicsRequest { topics, topic_names, timeout_ms: 30_000 };
    loop {
        let mut answer = client.call(&request).await;
        let error = answer.responses.pop().expect("the topic that was asked for is answered").error_code;
        match error {
            // An answer that was lost, before.
            ErrorCode::NONE | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION => return,
            error if error.is_retriable() => pause().await,
            error => panic!("{}: {error:?}", topic.name),
        }
    }
}

/// Every byte of the bucket, as an operator would look; what nothing names must go in time.
async fn look_into_bucket(world: &World) {
    let seams = Seams::system();
    let store = Store::open("memory:///", StoreOptions::default(), seams, StoreMetrics::default()).await;
    let store = store.expect("the simulated bucket opens");
    let began = Clock::system().now();
    loop {
        let report = match verify(&store, VerifyOptions::default().deep()).await {
            Err(error) => return world.history().broken(format!("the bucket cannot be verified: {error}")),
            Ok(report) => report,
        };
        for problem in &report.problems {
            world.history().broken(format!("the bucket: {problem:?}"));
        }
        world.history().mix((report.segments, report.log_bytes, report.batches));
        if !report.problems.is_empty() || report.orphans.is_empty() {
            return;
        }
        if began.elapsed() > ORPHANS_MAX {
            return world.history().broken(format!("orphans stay in the bucket: {:?}", report.orphans));
        }
        tokio::time::sleep(Duration::from_secs(10)).await;
    }
}

/// Makes a topic, and sees that it is there: a creation that was not answered may have happened.
pub(crate) async fn create(
    world: &World,
    client: &mut Client,
    name: &str,
    partitions: i32,
    expiry: Expiry,
    configs: &[(&str, &str)],
) -> Topic {
    let config = |(name, value): &(&str, &str)| CreatableTopicConfig {
        name: Str::from(*name),
        value: Some(Str::from(*value)),
    };
    let creatable = CreatableTopic {
        name: Str::from(name),
        num_partitions: partitions,
        replication_factor: 1,
        assignments: Vec::new(),
        configs: configs.iter().map(config).collect(),
    };
    let request = CreateTopicsRequest { topics: vec![creatable], ..Default::default() };
    loop {
        let mut answer = client.call(&request).await;
        let error = answer.topics.pop().expect("the topic that was asked for is answered").error_code;
        if error == ErrorCode::NONE || error == ErrorCode::TOPIC_ALREADY_EXISTS {
            break;
        }
        assert!(error.is_retriable(), "{name}: {error:?}");
        pause().await;
    }
    let topic = find(client, name, partitions).await;
    let partitions = partitions.unsigned_abs();
    world.history().tell(&Event::Topic { topic: name.to_owned(), partitions, expiry });
    topic
}

async fn find(client: &mut Client, name: &str, partitions: i32) -> Topic {
    loop {
        let wanted = MetadataRequestTopic { name: Some(Str::from(name)), ..Default::default() };
        let request = MetadataRequest { topics: Some(vec![wanted]), ..Default::default() };
        let answer = client.call(&request).await;
        if let Some(topic) = answer.topics.into_iter().find(|topic| topic.error_code.is_none()) {
            return Topic { name: Str::from(name), id: topic.topic_id, partitions };
        }
        pause().await;
    }
}
