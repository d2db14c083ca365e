//! The composition root: builds, wires, starts, stops. It decides nothing.
//!
//! Up, in this order, so that every error that an operator can mend is told before anything is changed: the sockets, the log
//! directory and its lock, the bucket, the metadata, the registration, the logs, and only then clients. Down in the opposite
//! order: clients first, logs last, so that the next start finds them closed in order.

/// From the configuration to what each module wants to be told.
mod options;
/// The bucket: opened, certified, adopted.
mod store;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aquifer_runtime::World;
use aquifer_runtime::budget::ByteBudget;
use aquifer_runtime::metrics::Registry;
use aquifer_runtime::sockets::{self, Listener};
use aquifer_runtime::tasks::{Failure, Pool, TaskGroup};
use aquifer_tiering::Tier;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::admin::groups::{GroupsSource, ToldMax};
use crate::admin::health::{Health, Readiness};
use crate::admin::http::{self, Admin};
pub use crate::admin::status::Report;
use crate::admin::status::StatusSource;
use crate::config::{self, Config};
use crate::controller::bucket::BucketRecords;
use crate::controller::topics::Topics;
use crate::groups::coordinator::Groups;
use crate::groups::metrics::GroupMetrics;
use crate::handlers::answer_memory::AnswerMemory;
use crate::handlers::context::Context;
use crate::handlers::fetch_session::FetchSessions;
use crate::handlers::metrics::HandlerMetrics;
use crate::lifecycle::{self, Registration};
use crate::log::{LogDir, OpenDirError};
use crate::metadata::{Metadata, ProposeError, StartError as MetadataError};
use crate::quotas::Quotas;
use crate::replica::cleaner::{Cleaner, CleanerMetrics};
use crate::replica::keeper::Keeper;
use crate::replica::mending::Mender;
use crate::replica::scrub::Scrubber;
use crate::replica::{ReplicaMetrics, Replicas};
use crate::server::dispatch::Dispatcher;
use crate::server::listener::Acceptor;
use crate::transactions::ids::ProducerIds;

pub use store::StoreError;

/// How long clients' connections may take to end once the broker stops.
const FRONT_PATIENCE: Duration = Duration::from_secs(10);
/// How long everything else may take.
const BACK_PATIENCE: Duration = Duration::from_secs(20);
/// The folder of the metadata, inside of the log directory.
const METADATA_DIR: &str = "metadata";

/// Why a broker did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", hint(error))]
    Listen {
        /// Which.
        address: String,
        /// Why.
        error: std::io::Error,
    },
    /// The data directory cannot be used.
    #[error(transparent)]
    LogDir(#[from] OpenDirError),
    /// The bucket cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The metadata cannot be read, or not be written.
    #[error("metadata: {0}")]
    Metadata(#[from] MetadataError),
    /// The cluster did not let the broker in.
    #[error("cannot register this broker: {0}")]
    Register(#[from] ProposeError),
    /// The machine gives nothing to run it by: no more open files, most likely.
    #[error("cannot start what runs in the background: {0}")]
    Background(std::io::Error),
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            " (another process has the port; choose another with --listen or `listeners`)"
        }
        std::io::ErrorKind::PermissionDenied => " (ports below 1024 need privileges)",
        _ => "",
    }
}

/// Why a broker did not stop in order. Nothing acknowledged is lost; the next start takes longer.
#[derive(Debug, thiserror::Error)]
pub enum StopError {
    /// A part did not end in time.
    #[error(transparent)]
    Timeout(#[from] aquifer_runtime::tasks::StopTimeout),
    /// The logs could not be closed.
    #[error("cannot close the logs: {0}")]
    Logs(#[from] crate::log::ChangeError),
    /// A part panicked.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// A running broker.
pub struct Broker {
    addresses: Vec<SocketAddr>,
    admin: Option<SocketAddr>,
    health: Health,
    /// Clients' connections, and the admin port.
    front: TaskGroup,
    /// What works by itself: uploads, retention, records.
    back: TaskGroup,
    /// What all of it stands on: the log directory's threads, the metadata.
    base: TaskGroup,
    /// Outlives the tasks that run by it.
    background: Pool,
    metadata: Metadata,
    logs: Arc<LogDir>,
    status: Arc<StatusSource>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts a broker; clients are served when this returns. Needs a multi-threaded tokio runtime.
    pub async fn start(config: Config, world: World) -> Result<Broker, StartError> {
        if let Err(error) = aquifer_runtime::files::raise_open_files_max() {
            tracing::warn!(%error, "the limit of open files stays as low as it is");
        }
        let mut registry = Registry::default();
        let (front, back, base) = (TaskGroup::new(), TaskGroup::new(), TaskGroup::new());
        let health = Health::starting("starting");
        let sockets = Sockets::bind(config.broker())?;
        let threads = tokio::runtime::Handle::current().metrics().num_workers();
        let for_disk = config.broker().log.background_threads_max as usize;
        let background = Pool::start("background", threads, for_disk).map_err(StartError::Background)?;
        let mut opened = None;
        let started = Started {
            opened: &mut opened,
            config,
            world,
            registry: &mut registry,
            back: &back,
            base: &base,
            background: &background,
            threads,
            health: &health,
        };
        let parts = started.assemble(&sockets).await;
        let parts = match parts {
            Ok(parts) => parts,
            Err(error) => {
                // What was started must not outlive the attempt: its locks would be in the way of the next.
                let _ = back.stop(BACK_PATIENCE).await;
                // Or the next start would take this end for a crash.
                if let Some(logs) = opened
                    && let Err(error) = aquifer_runtime::tasks::blocking(move || logs.close()).await
                {
                    tracing::warn!(%error, "cannot close the logs");
                }
                let _ = base.stop(BACK_PATIENCE).await;
                return Err(error);
            }
        };
        let addresses = sockets.addresses();
        let status = Arc::new(parts.status);
        let admin = sockets.admin.as_ref().and_then(|listener| listener.local_addr().ok());
        for (listener, _) in sockets.clients {
            front.spawn("acceptor", parts.acceptor.clone().run(listener, front.clone()));
        }
        if let Some(listener) = sockets.admin {
            let admin = Admin {
                health: health.clone(),
                registry: Arc::new(registry),
                status: status.clone(),
                groups: Arc::new(parts.standings),
                scraping: Arc::default(),
            };
            front.spawn("admin", http::serve(listener, admin, front.clone()));
        }
        health.set(Readiness::Ready);
        Ok(Broker {
            addresses,
            admin,
            health,
            front,
            back,
            base,
            background,
            metadata: parts.metadata,
            logs: parts.logs,
            status,
        })
    }

    /// Where clients are served.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Where the admin port is, if it is on.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What it holds, and what it asked of the bucket so far.
    pub fn report(&self) -> Report {
        self.status.report()
    }

    /// Waits until a part of the broker has failed; it must then be stopped.
    pub async fn failed(&self) {
        tokio::select! {
            () = self.front.cancelled().cancelled() => {}
            () = self.back.cancelled().cancelled() => {}
            () = self.base.cancelled().cancelled() => {}
        }
    }

    /// Stops in order.
    pub async fn stop(self) -> Result<(), StopError> {
        self.health.set(Readiness::NotReady("stopping"));
        let front = self.front.stop(FRONT_PATIENCE).await;
        let back = self.back.stop(BACK_PATIENCE).await;
        // Nobody appends any more; the committer that the logs close by is still there.
        let logs = self.logs.clone();
        let closed = aquifer_runtime::tasks::blocking(move || logs.close()).await;
        self.metadata.shutdown().await;
        let base = self.base.stop(BACK_PATIENCE).await;
        if let Some(failure) = self.front.failure().or(self.back.failure()).or(self.base.failure()) {
            return Err(failure.into());
        }
        front?;
        back?;
        base?;
        closed?;
        drop(self.background);
        Ok(())
    }
}

/// The listening sockets, bound before anything else is done.
struct Sockets {
    clients: Vec<(Listener, config::Listener)>,
    admin: Option<Listener>,
}

impl Sockets {
    fn bind(config: &config::BrokerConfig) -> Result<Sockets, StartError> {
        let mut clients = Vec::new();
        for listener in &config.listeners {
            clients.push((bind(&listener.bind)?, listener.clone()));
        }
        let admin = config.admin.as_ref().map(bind).transpose()?;
        Ok(Sockets { clients, admin })
    }

    fn addresses(&self) -> Vec<SocketAddr> {
        self.clients.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect()
    }
}

fn bind(endpoint: &config::Endpoint) -> Result<Listener, StartError> {
    let failed = |error| StartError::Listen { address: endpoint.to_string(), error };
    let host = if endpoint.host.is_empty() { "0.0.0.0" } else { &endpoint.host };
    let mut addresses = (host, endpoint.port).to_socket_addrs().map_err(failed)?;
    let none = || failed(std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address"));
    let address = addresses.next().ok_or_else(none)?;
    sockets::listen(address).map_err(failed)
}

struct Started<'a> {
    /// Where the logs are told to whoever has to close them if this fails.
    opened: &'a mut Option<Arc<LogDir>>,
    config: Config,
    world: World,
    registry: &'a mut Registry,
    back: &'a TaskGroup,
    base: &'a TaskGroup,
    background: &'a Pool,
    /// How many serve.
    threads: usize,
    health: &'a Health,
}

struct Parts {
    acceptor: Arc<Acceptor>,
    status: StatusSource,
    standings: GroupsSource,
    metadata: Metadata,
    logs: Arc<LogDir>,
}

impl Started<'_> {
    async fn assemble(mut self, sockets: &Sockets) -> Result<Parts, StartError> {
        let logs = self.open_logs().await?;
        *self.opened = Some(logs.clone());
        let broker = self.config.broker().node.id;
        let store =
            store::open(&self.config, &self.world, logs.path(), self.background, self.registry).await?;
        self.not_ready("reading the metadata");
        let metadata_dir: PathBuf = logs.path().join(METADATA_DIR);
        let raft = options::metadata(&self.config);
        let metadata =
            Metadata::start(&self.world, &metadata_dir, broker, raft, self.base, self.registry).await?;
        let registration = Registration {
            broker,
            endpoints: options::endpoints(&sockets.clients),
            rack: self.config.broker().node.rack.clone(),
            directories: vec![logs.uuid()],
        };
        let registered = lifecycle::register(&self.world, &metadata, registration).await?;
        let configs = options::follow_configs(self.config.clone(), &metadata, broker, self.back);
        let tier = match store {
            Some(store) => {
                let tasks = self.back.within(self.background);
                Some(store.into_tier(&self.config, &self.world, &metadata, &tasks, self.registry).await?)
            }
            None => None,
        };
        self.not_ready("opening the logs");
        let counted = ReplicaMetrics::register(self.registry);
        let replicas =
            Replicas::new(self.world.clone(), broker, logs.clone(), tier.clone(), configs.clone(), counted);
        replicas.open(&metadata).await;
        lifecycle::enter(&metadata, registered).await?;
        // Now it leads: clients that come at once are not turned away.
        replicas.follow(&metadata, self.back).await;
        let cleaning = CleanerMetrics::register(self.registry);
        self.start_keepers(&replicas, tier.as_ref(), &metadata, &configs, cleaning);
        let url = self.config.broker().tier.as_ref().map(|tier| tier.object_store.to_string());
        let status = StatusSource::new(
            broker.0,
            metadata.clone(),
            replicas.clone(),
            tier.clone().zip(url),
            self.world.clone(),
            self.registry,
        );
        let counted = GroupMetrics::register(self.registry);
        let groups = self.start_groups(&metadata, replicas.clone(), configs.clone(), counted);
        let standings = GroupsSource::new(
            groups.clone(),
            metadata.clone(),
            replicas.clone(),
            ToldMax {
                groups: self.config.broker().groups.lag_groups_max as usize,
                positions: self.config.broker().groups.lag_partitions_max as usize,
            },
            self.registry,
        );
        let acceptor = self.front_door(&metadata, replicas, tier, configs, groups);
        Ok(Parts { acceptor, status, standings, metadata, logs })
    }

    async fn open_logs(&mut self) -> Result<Arc<LogDir>, StartError> {
        self.not_ready("opening the data directory");
        let path = self.config.broker().log.dir.clone();
        Ok(LogDir::open(&self.world, &path, options::log_dir(&self.config), self.base, self.registry)?)
    }

    fn start_keepers(
        &mut self,
        replicas: &Arc<Replicas>,
        tier: Option<&Tier>,
        metadata: &Metadata,
        configs: &watch::Receiver<Config>,
        cleaning: CleanerMetrics,
    ) {
        let tasks = self.back.within(self.background);
        let options = options::keeper(&self.config);
        let rules = options.archive_rules(replicas);
        let keeper = Keeper::new(replicas.clone(), tier.cloned(), options, self.world.clone(), tasks.clone());
        tasks.spawn_lasting("keeper", keeper.run());
        let scrub = options::scrub(&self.config);
        Scrubber::new(replicas.clone(), tier.cloned(), scrub, self.world.clone(), tasks.clone()).start();
        let cleaner = Cleaner::new(replicas.clone(), cleaning, self.world.clone(), tasks.clone());
        tasks.spawn_lasting("cleaner", cleaner.run());
        if let Some(tier) = tier {
            Mender::new(replicas.clone(), tier.clone(), rules, self.world.clone()).start(&tasks);
            let records = BucketRecords::new(
                metadata.clone(),
                tier.clone(),
                configs.clone(),
                self.world.clone(),
                self.registry,
            );
            tasks.spawn("bucket-records", records.run(tasks.clone()));
        }
    }

    fn front_door(
        &mut self,
        metadata: &Metadata,
        replicas: Arc<Replicas>,
        tier: Option<Tier>,
        configs: watch::Receiver<Config>,
        groups: Arc<Groups>,
    ) -> Arc<Acceptor> {
        let quotas = Arc::new(Quotas::new(options::quotas(&self.config), self.registry));
        quotas.follow(metadata.clone(), self.world.clock, self.back);
        let broker = self.config.broker();
        let answers = AnswerMemory::new(broker.connections.answer_bytes_max);
        if let Some(tier) = tier.clone() {
            answers.make_way_for(tier, self.world.clock, self.back);
        }
        let context = Arc::new(Context {
            broker: broker.node.id,
            world: self.world.clone(),
            config: configs.clone(),
            metadata: metadata.clone(),
            replicas: replicas.clone(),
            tier,
            topics: Topics::new(
                metadata.clone(),
                replicas,
                configs.clone(),
                self.world.clone(),
                self.registry,
            ),
            groups,
            quotas,
            producer_ids: ProducerIds::new(broker.node.id),
            sessions: Mutex::new(FetchSessions::new(
                broker.fetch.sessions_max as usize,
                broker.fetch.session_partitions_max as usize,
            )),
            answers,
            metrics: HandlerMetrics::register(self.registry),
        });
        let dispatcher = Arc::new(Dispatcher::new(context, self.registry));
        let budget = ByteBudget::new(broker.connections.queued_bytes_max);
        let limits = options::connections(&self.config, budget, self.threads, self.world.clock);
        Arc::new(Acceptor::new(dispatcher, limits, configs, self.registry))
    }

    fn start_groups(
        &self,
        metadata: &Metadata,
        replicas: Arc<Replicas>,
        configs: watch::Receiver<Config>,
        metrics: GroupMetrics,
    ) -> Arc<Groups> {
        let groups = Groups::new(metadata.clone(), replicas, configs, self.world.clone(), metrics);
        groups.follow(self.back);
        groups
    }

    fn not_ready(&self, reason: &'static str) {
        self.health.set(Readiness::NotReady(reason));
    }
}
