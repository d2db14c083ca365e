use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::files::Disk;
use aquifer_runtime::metrics::Registry;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::metadata::codec::samples::full_image;
use crate::metadata::command::{Command, FormatCluster};
use crate::metadata::ids::RaftNodeId;
use crate::metadata::raft::log::Held;
use crate::metadata::raft::log::Log;
use crate::metadata::raft::network::NoTransport;
use crate::metadata::raft::platter::Platter;
use crate::metadata::raft::snapshots::Snapshots;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn snapshots_follow_entries_or_bytes_and_the_log_goes_one_snapshot_later() {
    let options =
        Options { snapshot_entries_max: 10, snapshot_bytes_max: ByteCount(1000), ..Options::default() };
    let total = |entries, bytes| Appended { entries, bytes };
    let mut schedule = Schedule::new(&options, None, total(0, 0));
    assert!(!schedule.on_appended(total(9, 999)));
    assert!(schedule.on_appended(total(10, 999)));
    assert_eq!(schedule.on_snapshot(12), None, "the only snapshot is not relied upon");
    assert!(!schedule.on_appended(total(19, 1998)));
    assert!(schedule.on_appended(total(11, 1999)), "by bytes");
    assert!(!schedule.on_appended(total(20, 2000)));
    assert!(schedule.on_appended(total(21, 2000)), "again, although none came");
    assert_eq!(schedule.on_snapshot(25), Some(12));
    assert_eq!(schedule.on_snapshot(25), None);
}

/// A Raft node on a disk that can be made to fail.
async fn node_on(platter: &Platter, dir: &tempfile::TempDir, tasks: &TaskGroup, voters: &[u64]) -> Node {
    let metrics = Metrics::new(&mut Registry::default());
    let held = Held { _lock: None, _closed: CancellationToken::new().drop_guard() };
    let log =
        Log::open(platter.clone(), RaftNodeId(7), tasks, Clock::system(), metrics.clone(), held).unwrap();
    let machine =
        Machine::open(Snapshots::new(Disk::host(), dir.path(), metrics.clone()), metrics.clone()).unwrap();
    let config = Arc::new(Options::default().raft().validate().unwrap());
    let node = Node::new(7, config, NoTransport, log, machine).await.unwrap();
    tasks.spawn("metadata", watch_over(node.clone(), tasks.clone(), metrics));
    node.initialize(voters.iter().copied().collect::<BTreeSet<u64>>()).await.unwrap();
    node
}

fn format() -> Command {
    let cluster = *full_image().cluster().unwrap();
    let features = Default::default();
    Command::FormatCluster(FormatCluster { cluster: cluster.id, incarnation: cluster.incarnation, features })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_cannot_be_written_brings_the_broker_down() {
    let (platter, dir, tasks) = (Platter::default(), tempfile::tempdir().unwrap(), TaskGroup::new());
    let node = node_on(&platter, &dir, &tasks, &[7]).await;
    node.wait(Some(PATIENCE)).state(openraft::ServerState::Leader, "alone").await.unwrap();
    node.client_write(format()).await.unwrap().data.unwrap();
    platter.fail();
    assert!(node.client_write(format()).await.is_err());
    tokio::time::timeout(PATIENCE, tasks.cancelled().cancelled()).await.unwrap();
    let failure = tasks.failure().unwrap();
    assert_eq!(failure.task, "metadata");
    assert!(failure.message.contains("the disk is gone"), "{failure}");
    tasks.stop(PATIENCE).await.unwrap();
}

/// Nobody can be asked yet: a node with others among its voters must not take their silence for consent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_voters_does_not_elect_itself() {
    let (platter, dir, tasks) = (Platter::default(), tempfile::tempdir().unwrap(), TaskGroup::new());
    let node = node_on(&platter, &dir, &tasks, &[7, 8]).await;
    for pre_vote in [false, true] {
        node.trigger().elect(pre_vote).await.unwrap();
    }
    // An answer from the core, behind both elections.
    let leads = node.with_raft_state(|state| state.server_state).await.unwrap();
    assert_ne!(leads, openraft::ServerState::Leader);
    assert!(node.client_write(format()).await.is_err());
    tasks.stop(PATIENCE).await.unwrap();
    assert_eq!(tasks.failure(), None);
}
