//! How a node's metadata comes up: a fresh directory is formatted as a cluster of one voter, another is opened.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::BrokerId;
use aquifer_model::format::Tags;
use aquifer_runtime::World;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::tasks::{TaskGroup, blocking};
use openraft::metrics::WaitError;
use tokio_util::sync::CancellationToken;

use super::client::{Metadata, ProposeError};
use super::command::{Command, FormatCluster};
use super::features;
use super::ids::{ClusterId, Incarnation, RaftNodeId};
use super::keeper::{self, Schedule};
use super::metrics::Metrics;
use super::node::{self, Node, NodeFileError, Stage};
use super::options::Options;
use super::raft::backend::Backend;
use super::raft::log::{Held, Log, LogError};
use super::raft::machine::Machine;
use super::raft::network::NoTransport;
use super::raft::snapshots::Snapshots;

/// Why metadata does not start. Nothing was lost; a second start may follow.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file or folder cannot be used.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses the directory.
    #[error("{path} is in use by another process", path = .0.display())]
    Locked(PathBuf),
    /// The node file cannot be used.
    #[error("{path}: {source}", path = path.display())]
    NodeFile {
        /// Which.
        path: PathBuf,
        /// Why.
        source: NodeFileError,
    },
    /// There is a log but no node file.
    #[error("{path} is missing although there is a metadata log: restore it, or move the whole directory away", path = .0.display())]
    NodeFileMissing(PathBuf),
    /// There is a node file but no log, or one with nothing in it.
    #[error(
        "{path} is missing or empty although this node was formatted: restore it, or move the whole directory away, and the node \
         comes back as a new one",
        path = .0.display()
    )]
    LogMissing(PathBuf),
    /// The directory is another broker's.
    #[error("{path} belongs to broker {found}, but node.id is {configured}", path = path.display())]
    OtherBroker {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: BrokerId,
        /// Who this is.
        configured: BrokerId,
    },
    /// The log does not open.
    #[error("{path}: {source}", path = path.display())]
    Log {
        /// Where it is.
        path: PathBuf,
        /// Why.
        source: LogError,
    },
    /// The log's beginning was let go, and no snapshot that can be read covers it.
    #[error(
        "no metadata snapshot in {dir} covers the log, which begins behind index {purged} (newest good snapshot: {newest:?}); \
         damaged ones end in .damaged",
        dir = dir.display()
    )]
    SnapshotMissing {
        /// Where snapshots are.
        dir: PathBuf,
        /// The last index that the log no longer has.
        purged: u64,
        /// The index of the newest snapshot that can be read.
        newest: Option<u64>,
    },
    /// The log holds another cluster's metadata than the node file says.
    #[error(
        "the metadata is that of cluster {found:?}, the node file's is {expected}: files of two nodes were mixed"
    )]
    OtherCluster {
        /// The log's.
        found: Option<ClusterId>,
        /// The node file's.
        expected: ClusterId,
    },
    /// The cluster is ahead of this program.
    #[error("this program is too old for the cluster, which was raised beyond it: {0}; use a newer aquifer")]
    Features(#[source] features::FeatureError),
    /// Raft does not start or stopped.
    #[error("metadata cannot start: {0}")]
    Raft(String),
    /// No leader, or not all of the log applied.
    #[error("metadata did not become ready within {waited:?}: {state}")]
    Timeout {
        /// As long it was tried.
        waited: Duration,
        /// As far it came.
        state: String,
    },
    /// The first command failed.
    #[error("the cluster cannot be formatted: {0}")]
    Format(#[source] ProposeError),
}

impl Metadata {
    /// Opens the metadata in `dir`, or formats it there if the directory is fresh or missing: then this is a cluster of its own,
    /// of one voter. Returns once the image holds all that was ever committed and, if this is the only voter, this node leads.
    ///
    /// Ends, with its files closed, when `tasks` is cancelled; brings `tasks` down if it cannot go on.
    pub async fn start(
        world: &World,
        dir: &Path,
        broker: BrokerId,
        options: Options,
        tasks: &TaskGroup,
        registry: &mut Registry,
    ) -> Result<Metadata, StartError> {
        let metrics = Metrics::new(registry);
        let place = Place { world: world.clone(), dir: dir.to_owned(), broker };
        let closed = CancellationToken::new();
        let opened = {
            let (place, metrics, tasks) = (place.clone(), metrics.clone(), tasks.clone());
            let held = closed.clone();
            blocking(move || place.open(&tasks, metrics, held)).await?
        };
        let Opened { node, log, machine, snapshots } = opened;
        let watch = machine.watch();
        let newest = snapshots.newest();
        let covered = newest.map(|index| log.size_upto(index)).unwrap_or_default();
        let schedule = Schedule::new(&options, newest, covered);
        let appended = log.appended();

        let config =
            Arc::new(options.raft().validate().map_err(|error| StartError::Raft(error.to_string()))?);
        let raft = keeper::Node::new(node.id.0, config, NoTransport, log, machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;
        tasks.spawn("metadata", keeper::watch_over(raft.clone(), tasks.clone(), metrics.clone()));
        tasks.spawn("metadata-snapshots", keeper::bound_log(raft.clone(), schedule, appended));

        let patience = options.start_timeout;
        let metadata = Metadata::new(raft.clone(), node.id, watch, options, closed, metrics);
        let ready = bring_up(&metadata, &raft, &place, node, patience).await;
        match ready {
            Ok(()) => Ok(metadata),
            Err(error) => {
                metadata.shutdown().await;
                Err(error)
            }
        }
    }
}

/// Elects where nobody else can, waits for the image to be whole, and formats what is being formed.
async fn bring_up(
    metadata: &Metadata,
    raft: &keeper::Node,
    place: &Place,
    node: Node,
    patience: Duration,
) -> Result<(), StartError> {
    let failed = |error: &dyn std::fmt::Display| StartError::Raft(error.to_string());
    if node.stage == Stage::Forming {
        raft.initialize(BTreeSet::from([node.id.0])).await.map_err(|error| failed(&error))?;
    } else if raft.voter_ids().eq([node.id.0]) {
        // Nobody else could lead: no reason to wait for a timeout.
        raft.trigger().elect(false).await.map_err(|error| failed(&error))?;
    }
    let alone = raft.voter_ids().eq([node.id.0]) || node.stage == Stage::Forming;
    let waiting = raft.wait(Some(patience));
    let whole = waiting.metrics(
        |now| {
            let applied = now.last_applied.as_ref();
            // The first entry of the newest term is applied, and so is everything before it.
            let current = applied.is_some_and(|applied| applied.leader_id.term == now.current_term);
            current && now.current_leader.is_some() && (!alone || now.state.is_leader())
        },
        "metadata to be whole",
    );
    match whole.await {
        Ok(_) => {}
        Err(WaitError::Timeout(waited, state)) => return Err(StartError::Timeout { waited, state }),
        Err(error @ WaitError::ShuttingDown) => return Err(failed(&error)),
    }
    if node.stage == Stage::Forming {
        let features = features::newest();
        let format = FormatCluster { cluster: node.cluster, incarnation: node.incarnation, features };
        metadata.propose(Command::FormatCluster(format)).await.map_err(StartError::Format)?;
        let (place, formed) = (place.clone(), Node { stage: Stage::Formed, ..node });
        return blocking(move || place.write_node(&formed)).await;
    }
    let found = metadata.image().cluster().map(|cluster| cluster.id);
    if found != Some(node.cluster) {
        return Err(StartError::OtherCluster { found, expected: node.cluster });
    }
    features::check(metadata.image().features()).map_err(StartError::Features)
}

/// Where a node lives.
#[derive(Clone)]
struct Place {
    world: World,
    dir: PathBuf,
    broker: BrokerId,
}

/// What was found there.
struct Opened {
    node: Node,
    log: Log,
    machine: Machine,
    snapshots: Snapshots,
}

impl Place {
    fn log_path(&self) -> PathBuf {
        self.dir.join("raft.redb")
    }

    fn io<T>(path: &Path, done: io::Result<T>) -> Result<T, StartError> {
        done.map_err(|source| StartError::Io { path: path.to_owned(), source })
    }

    fn write_node(&self, node: &Node) -> Result<(), StartError> {
        let written = node.write(&self.world.disk, &self.dir);
        written.map_err(|source| StartError::NodeFile { path: node::path(&self.dir), source })
    }

    /// Opens all files. Blocks.
    fn open(
        &self,
        tasks: &TaskGroup,
        metrics: Metrics,
        closed: CancellationToken,
    ) -> Result<Opened, StartError> {
        let disk = &self.world.disk;
        Self::io(&self.dir, disk.create_dir_all(&self.dir))?;
        let lock = self.dir.join("raft.lock");
        let Some(held) = Self::io(&lock, disk.lock(&lock))? else {
            return Err(StartError::Locked(self.dir.clone()));
        };
        let node = self.node()?;
        let path = self.log_path();
        let file = Self::io(&path, disk.open_or_create(&path))?;
        Self::io(&self.dir, disk.sync_dir(&self.dir))?;
        // The last process may have stopped because a sync failed: then the page cache shows what the device does not hold.
        file.forget_clean_pages();
        let snapshots = Snapshots::new(disk.clone(), &self.dir, metrics.clone());
        let held = Held { _lock: Some(held), _closed: closed.drop_guard() };
        let log = Log::open(Backend(file), node.id, tasks, self.world.clock, metrics.clone(), held)
            .map_err(|source| StartError::Log { path: path.clone(), source })?;
        if node.stage == Stage::Formed && log.is_empty() {
            return Err(StartError::LogMissing(path));
        }
        let machine = Self::io(&self.dir, Machine::open(snapshots.clone(), metrics))?;
        if let Some(purged) = log.purged() {
            let newest = machine.applied().map(|applied| applied.index);
            if newest.is_none_or(|newest| newest < purged.index) {
                return Err(StartError::SnapshotMissing {
                    dir: self.dir.clone(),
                    purged: purged.index,
                    newest,
                });
            }
        }
        Ok(Opened { node, log, machine, snapshots })
    }

    /// Who lives here; begins to format what is fresh. Blocks.
    fn node(&self) -> Result<Node, StartError> {
        let disk = &self.world.disk;
        let path = self.log_path();
        let has_log = Self::io(&path, disk.exists(&path))?;
        let read = Node::read(disk, &self.dir);
        let found = read.map_err(|source| StartError::NodeFile { path: node::path(&self.dir), source })?;
        let Some(node) = found else {
            if has_log {
                return Err(StartError::NodeFileMissing(node::path(&self.dir)));
            }
            let rng = &self.world.rng;
            let node = Node {
                stage: Stage::Forming,
                cluster: ClusterId::new(rng.uuid()),
                incarnation: Incarnation::FIRST,
                broker: self.broker,
                id: RaftNodeId(rng.number().max(1)),
                unknown: Tags::default(),
            };
            self.write_node(&node)?;
            return Ok(node);
        };
        if node.broker != self.broker {
            let (path, configured) = (self.dir.clone(), self.broker);
            return Err(StartError::OtherBroker { path, found: node.broker, configured });
        }
        match node.stage {
            Stage::Formed if !has_log => Err(StartError::LogMissing(path)),
            Stage::Formed => Ok(node),
            Stage::Forming => {
                Self::io(&path, disk.remove(&path))?;
                Ok(node)
            }
        }
    }
}
