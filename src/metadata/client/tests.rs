use std::path::Path;
use std::time::Instant;

use aquifer_model::{BrokerId, PartitionIndex, TopicId, TopicName, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::TaskGroup;
use uuid::Uuid;

use super::*;
use crate::metadata::codec::samples;
use crate::metadata::command::{BrokerRef, CreateTopic};
use crate::metadata::start::StartError;

const PATIENCE: Duration = Duration::from_secs(20);

async fn start_with(dir: &Path, options: Options) -> Result<(Metadata, TaskGroup), StartError> {
    let tasks = TaskGroup::new();
    let started =
        Metadata::start(&World::system(), dir, BrokerId(1), options, &tasks, &mut Registry::default()).await;
    Ok((started?, tasks))
}

async fn start(dir: &Path) -> (Metadata, TaskGroup) {
    start_with(dir, Options::default()).await.unwrap()
}

/// Registers and unfences broker 1.
async fn join(metadata: &Metadata) {
    let registration = samples::registration(1, metadata.node_id());
    let Outcome::Broker(epoch) = metadata.propose(Command::RegisterBroker(registration)).await.unwrap()
    else {
        panic!("a registration gives an epoch");
    };
    let broker = BrokerRef { broker: BrokerId(1), epoch };
    metadata.propose(Command::UnfenceBroker(broker)).await.unwrap();
}

fn create(number: u128) -> Command {
    Command::CreateTopic(CreateTopic {
        id: TopicId::new(Uuid::from_u128(1000 + number)),
        name: TopicName::new(&format!("topic-{number}")).unwrap(),
        partitions: vec![vec![BrokerId(1)]; 3],
        configs: [("retention.ms".to_owned(), number.to_string())].into(),
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_node_leads_at_once_and_shows_what_it_was_told_stands() {
    let dir = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let (metadata, tasks) = start(&dir.path().join("metadata")).await;
    assert!(metadata.is_controller());
    assert!(metadata.image().cluster().is_some());
    join(&metadata).await;
    let ready = began.elapsed();
    metadata.propose(create(1)).await.unwrap();
    assert_eq!(metadata.image().topic_named("topic-1").unwrap().partitions.len(), 3);
    assert!(matches!(
        metadata.propose(create(1)).await,
        Err(ProposeError::Rejected(Rejected::TopicExists(id))) if id == TopicId::new(Uuid::from_u128(1001))
    ));
    let began = Instant::now();
    for number in 100..200 {
        metadata.propose(create(number)).await.unwrap();
    }
    let one_by_one = began.elapsed() / 100;
    let began = Instant::now();
    let answers = metadata.propose_many((200..1200).map(create).collect()).await;
    let at_once = began.elapsed();
    assert!(answers.iter().all(Result::is_ok));
    println!("first command after {ready:?}; one by one {one_by_one:?} each; 1000 at once {at_once:?}");
    tasks.stop(PATIENCE).await.unwrap();
    assert_eq!(tasks.failure(), None);
    assert!(matches!(metadata.propose(create(2)).await, Err(ProposeError::Stopped(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_the_same_image_under_new_leader_epochs() {
    let dir = tempfile::tempdir().unwrap();
    let (metadata, _) = start(dir.path()).await;
    join(&metadata).await;
    metadata.propose_many((0..20).map(create).collect()).await;
    let (before, node) = (metadata.image(), metadata.node_id());
    metadata.shutdown().await;
    let (metadata, _) = start(dir.path()).await;
    assert_eq!(*metadata.image(), *before);
    assert_eq!(metadata.node_id(), node);
    join(&metadata).await;
    let at = TopicPartition { topic: TopicId::new(Uuid::from_u128(1003)), partition: PartitionIndex(0) };
    let (was, is) = (before.partition(at).unwrap(), metadata.image().partition(at).unwrap().clone());
    assert_eq!(is.leader, Some(BrokerId(1)));
    assert!(is.leader_epoch > was.leader_epoch);
    metadata.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_is_locked_out_until_the_first_has_closed() {
    let dir = tempfile::tempdir().unwrap();
    let (first, _) = start(dir.path()).await;
    assert!(matches!(start_with(dir.path(), Options::default()).await, Err(StartError::Locked(_))));
    first.shutdown().await;
    let (second, _) = start(dir.path()).await;
    second.shutdown().await;
}
