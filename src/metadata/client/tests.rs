use std::path::Path;

use aquifer_model::{BrokerId, PartitionIndex, TopicId, TopicName, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::TaskGroup;
use uuid::Uuid;

use super::*;
use crate::metadata::codec::samples;
use crate::metadata::command::{
    BrokerRef, CreateTopic, KnownConfigs, SetClientQuotas, SetFeatures, SetGroupConfigs,
};
use crate::metadata::image::{QuotaEntity, QuotaName};
use crate::metadata::raft::log::LogError;
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
    let clock = World::system().clock;
    let began = clock.now();
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
    let began = clock.now();
    for number in 100..200 {
        metadata.propose(create(number)).await.unwrap();
        assert!(metadata.image().topic_named(&format!("topic-{number}")).is_some());
    }
    let one_by_one = began.elapsed() / 100;
    let began = clock.now();
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_proposed_together_are_judged_one_by_one() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { proposals_max: 2, command_bytes_max: ByteCount::kib(1), ..Options::default() };
    let (metadata, _) = start_with(dir.path(), options).await.unwrap();
    join(&metadata).await;
    let Command::CreateTopic(mut large) = create(9) else { panic!("a topic") };
    large.configs.insert("x".to_owned(), "y".repeat(1024));
    let large = Command::CreateTopic(large);
    let commands = vec![create(1), create(1), large.clone(), create(2), create(3), create(3)];
    let answers = metadata.propose_many(commands).await;
    let kinds: Vec<&str> = answers
        .iter()
        .map(|answer| match answer {
            Ok(Outcome::Done) => "done",
            Err(ProposeError::Rejected(Rejected::TopicExists(_))) => "exists",
            Err(ProposeError::TooLarge { .. }) => "large",
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(kinds, ["done", "exists", "large", "done", "done", "exists"]);
    assert!(matches!(metadata.propose(large).await, Err(ProposeError::TooLarge { .. })));
    assert_eq!(metadata.propose_many(Vec::new()).await, []);
    metadata.shutdown().await;
}

fn files(dir: &Path, ending: &str) -> Vec<String> {
    let entries = World::system().disk.list(dir).unwrap();
    entries.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(ending)).collect()
}

fn damage(path: &Path) {
    let file = World::system().disk.open(path).unwrap();
    file.write_all_at(100, &mut [std::io::IoSlice::new(b"damage")]).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshots_bound_the_log_and_one_of_them_may_be_lost() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { snapshot_entries_max: 50, ..Options::default() };
    let again = || start_with(dir.path(), options.clone());
    let (metadata, _) = again().await.unwrap();
    join(&metadata).await;
    for round in 0..10 {
        metadata.propose_many((round * 40..(round + 1) * 40).map(create).collect()).await;
    }
    let bounded = async {
        while files(dir.path(), ".snapshot").len() != 2 || metadata.0.metrics.log_entries() > 150 {
            metadata.propose(create(0)).await.unwrap_err();
        }
    };
    tokio::time::timeout(PATIENCE, bounded).await.unwrap();
    let before = metadata.image();
    assert_eq!(before.topic_count(), 400);
    metadata.shutdown().await;

    let (metadata, _) = again().await.unwrap();
    assert_eq!(*metadata.image(), *before);
    metadata.shutdown().await;

    let newest = files(dir.path(), ".snapshot").pop().unwrap();
    damage(&dir.path().join(newest));
    let (metadata, _) = again().await.unwrap();
    assert_eq!(*metadata.image(), *before, "the older snapshot and the log lead there too");
    assert_eq!(files(dir.path(), ".damaged").len(), 1);
    metadata.shutdown().await;

    for name in files(dir.path(), ".snapshot") {
        damage(&dir.path().join(name));
    }
    let error = again().await.unwrap_err();
    assert!(matches!(error, StartError::SnapshotMissing { newest: None, .. }), "{error}");
}

/// Starts again and again while the files of the one before are still being closed.
async fn start_after_kill(dir: &Path) -> (Metadata, TaskGroup) {
    let started = async {
        loop {
            match start_with(dir, Options { snapshot_entries_max: 20, ..Options::default() }).await {
                Err(StartError::Locked(_)) => tokio::task::yield_now().await,
                other => return other.unwrap(),
            }
        }
    };
    tokio::time::timeout(PATIENCE, started).await.unwrap()
}

/// A node is stopped dead at any moment: all that it had said stands, and nothing that it had not been asked for.
#[test]
fn what_was_acknowledged_outlives_a_node_that_is_dropped_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let acknowledged = Arc::new(std::sync::atomic::AtomicU64::new(0));
    let mut resumed = 0;
    for round in 0..12u64 {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let (said, seen) = std::sync::mpsc::channel();
        let (path, counter) = (dir.path().to_owned(), Arc::clone(&acknowledged));
        let body = async move {
            let (metadata, _) = start_after_kill(&path).await;
            join(&metadata).await;
            let known = metadata.image().topic_count() as u64;
            let acknowledged = counter.load(std::sync::atomic::Ordering::SeqCst);
            // One more may have been on its way.
            assert!((acknowledged..=acknowledged + 1).contains(&known), "{known} of {acknowledged}");
            for number in known.. {
                metadata.propose(create(u128::from(number))).await.unwrap();
                counter.store(number + 1, std::sync::atomic::Ordering::SeqCst);
                if said.send(()).is_err() {
                    return;
                }
            }
        };
        let task = runtime.spawn(body);
        for _ in 0..=round * 3 {
            seen.recv_timeout(PATIENCE).expect("the node goes on");
        }
        runtime.shutdown_background();
        drop(task);
        resumed += 1;
    }
    assert_eq!(resumed, 12);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_start_refuses_what_it_must_not_build_upon() {
    let world = World::system();
    let formed = tempfile::tempdir().unwrap();
    let dir = formed.path();
    let (metadata, _) = start(dir).await;
    let node = metadata.node_id();
    metadata.shutdown().await;
    let start_again = async || start_with(dir, Options::default()).await.map(|_| ()).unwrap_err();
    let (node_file, log, aside) = (dir.join("node"), dir.join("raft.redb"), dir.join("aside"));

    let tasks = TaskGroup::new();
    let other =
        Metadata::start(&world, dir, BrokerId(2), Options::default(), &tasks, &mut Registry::default()).await;
    assert!(matches!(other, Err(StartError::OtherBroker { found: BrokerId(1), .. })));

    world.disk.rename(&log, &aside).unwrap();
    assert!(matches!(start_again().await, StartError::LogMissing(_)));
    world.disk.write_atomic(&log, b"").unwrap();
    assert!(matches!(start_again().await, StartError::LogMissing(_)));
    let strange = tempfile::tempdir().unwrap();
    let (metadata, _) = start(strange.path()).await;
    metadata.shutdown().await;
    world.disk.rename(&strange.path().join("raft.redb"), &log).unwrap();
    assert!(matches!(start_again().await, StartError::Log { source: LogError::Owner { .. }, .. }));
    world.disk.write_atomic(&log, b"no database").unwrap();
    assert!(matches!(start_again().await, StartError::Log { source: LogError::Database(_), .. }));
    world.disk.rename(&aside, &log).unwrap();

    world.disk.rename(&node_file, &aside).unwrap();
    assert!(matches!(start_again().await, StartError::NodeFileMissing(_)));
    world.disk.write_atomic(&node_file, b"no node file").unwrap();
    assert!(matches!(start_again().await, StartError::NodeFile { .. }));
    world.disk.rename(&aside, &node_file).unwrap();

    let (metadata, _) = start(dir).await;
    assert_eq!(metadata.node_id(), node);
    metadata.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn formatting_that_was_cut_short_begins_again_under_the_same_ids() {
    let world = World::system();
    let dir = tempfile::tempdir().unwrap();
    let (metadata, _) = start(dir.path()).await;
    let (id, cluster) = (metadata.node_id(), *metadata.image().cluster().unwrap());
    metadata.shutdown().await;
    let formed = crate::metadata::node::Node::read(&world.disk, dir.path()).unwrap().unwrap();
    let forming =
        crate::metadata::node::Node { stage: crate::metadata::node::Stage::Forming, ..formed.clone() };
    for log in [None, Some(&b"half a database"[..])] {
        forming.write(&world.disk, dir.path()).unwrap();
        world.disk.remove(&dir.path().join("raft.redb")).unwrap();
        if let Some(bytes) = log {
            world.disk.write_atomic(&dir.path().join("raft.redb"), bytes).unwrap();
        }
        let (metadata, _) = start(dir.path()).await;
        assert_eq!((metadata.node_id(), *metadata.image().cluster().unwrap()), (id, cluster));
        metadata.shutdown().await;
        let now = crate::metadata::node::Node::read(&world.disk, dir.path()).unwrap();
        assert_eq!(now, Some(formed.clone()));
    }
}

/// An older program may run here again for as long as the level says so; and one that is older than the level does not start.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_older_programs_cannot_read_is_not_written_before_the_level_is_raised() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("metadata");
    let (metadata, tasks) = start(&path).await;
    let level = |level: i16| {
        Command::SetFeatures(SetFeatures { levels: [(VERSION_FEATURE.to_owned(), level)].into() })
    };
    let commands = || {
        let changes = [("consumer.session.timeout.ms".to_owned(), Some("45000".to_owned()))].into();
        let entity = QuotaEntity::ClientId(QuotaName::Default);
        let quotas = [(entity, [("producer_byte_rate".to_owned(), Some(1.0))].into())];
        vec![
            Command::SetGroupConfigs(SetGroupConfigs {
                group: "g".to_owned(),
                changes,
                known: KnownConfigs::new(),
            }),
            Command::SetClientQuotas(SetClientQuotas { changes: quotas.into() }),
        ]
    };
    // As a cluster that was made by a program without them.
    metadata.propose(level(1)).await.unwrap();
    for (command, name) in commands().into_iter().zip(["SetGroupConfigs", "SetClientQuotas"]) {
        let expected = ProposeError::Level { command: name, needed: 2, finalized: 1 };
        assert_eq!(metadata.propose(command).await, Err(expected));
    }
    let refused = metadata.propose_many(commands()).await;
    assert!(refused.iter().all(|answer| matches!(answer, Err(ProposeError::Level { .. }))), "{refused:?}");
    metadata.propose(level(2)).await.unwrap();
    assert_eq!(metadata.propose_many(commands()).await, [Ok(Outcome::Done), Ok(Outcome::Done)]);
    metadata.propose(level(3)).await.unwrap();
    tasks.stop(PATIENCE).await.unwrap();
    let Err(StartError::Features(error)) = start_with(&path, Options::default()).await else {
        panic!("a cluster at a level that nobody here knows");
    };
    assert_eq!(error.to_string(), "aquifer.version: level 3 is not known here, only 1 to 2");
}
