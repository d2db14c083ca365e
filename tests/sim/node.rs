//! The node: the real broker on a simulated machine, started again by its supervisor whenever it ends.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use aquifer::broker::{Broker, Report};
use aquifer::config::{Config, Sources};
use aquifer_model::Timestamp;
use aquifer_runtime::World;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::files::Disk;
use aquifer_runtime::files::simulated::SimDisk;
use aquifer_runtime::rng::Rng;

use crate::history::History;
use crate::machine::EPOCH_SECONDS;

/// Where it listens.
pub(crate) const PORT: u16 = 9092;
/// Where its data lies on its disk.
const DATA: &str = "/data";
/// The supervisor's pause before it starts the broker again.
const RESTART_PAUSE: Duration = Duration::from_secs(1);
/// Between two looks at what the broker says of itself.
const REPORT_EVERY: Duration = Duration::from_millis(200);

/// What a node's lives have in common. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Node(Rc<Inner>);

struct Inner {
    host: String,
    pub(crate) disk: SimDisk,
    history: History,
    sets: Vec<String>,
    seeds: RefCell<crate::dice::Dice>,
    report: Cell<Option<Report>>,
    starts: Cell<u64>,
    failed_starts: Cell<u64>,
    stop_asked: Cell<bool>,
}

impl Node {
    pub(crate) fn new(host: &str, disk: SimDisk, history: &History, sets: &[String], seed: u64) -> Node {
        Node(Rc::new(Inner {
            host: host.to_owned(),
            disk,
            history: history.clone(),
            sets: sets.to_vec(),
            seeds: RefCell::new(crate::dice::Dice::new(seed, host)),
            report: Cell::new(None),
            starts: Cell::new(0),
            failed_starts: Cell::new(0),
            stop_asked: Cell::new(false),
        }))
    }

    pub(crate) fn disk(&self) -> &SimDisk {
        &self.0.disk
    }

    pub(crate) fn host(&self) -> &str {
        &self.0.host
    }

    /// What the broker said of itself last; nothing while it is down.
    pub(crate) fn report(&self) -> Option<Report> {
        self.0.report.get()
    }

    pub(crate) fn starts(&self) -> u64 {
        self.0.starts.get()
    }

    pub(crate) fn failed_starts(&self) -> u64 {
        self.0.failed_starts.get()
    }

    /// Has it stop in order, and start again.
    pub(crate) fn ask_restart(&self) {
        self.0.stop_asked.set(true);
    }

    /// It is down.
    pub(crate) fn note_down(&self) {
        self.0.report.set(None);
    }

    fn config(&self) -> Config {
        let host = &self.0.host;
        let mut sets = vec![
            format!("listeners=PLAINTEXT://0.0.0.0:{PORT}"),
            format!("advertised.listeners=PLAINTEXT://{host}:{PORT}"),
            "admin.listen=".to_owned(),
            format!("log.dirs={DATA}"),
            "tier.object.store=memory:///".to_owned(),
        ];
        sets.extend(self.0.sets.iter().cloned());
        Config::load(Sources { sets, ..Sources::default() }).expect("a sound configuration")
    }

    fn world(&self) -> World {
        let elapsed = crate::machine::elapsed();
        let start = Timestamp(EPOCH_SECONDS as i64 * 1000).plus(elapsed);
        World {
            clock: Clock::simulated(start),
            rng: Rng::seeded(self.0.seeds.borrow_mut().seed()),
            disk: Disk::Simulated(self.0.disk.clone()),
        }
    }

    /// The supervisor. Ends with the machine.
    pub(crate) async fn run(self) -> turmoil::Result {
        loop {
            self.0.stop_asked.set(false);
            match Box::pin(Broker::start(self.config(), self.world())).await {
                Ok(broker) => {
                    self.0.starts.set(self.0.starts.get() + 1);
                    self.watch(&broker).await;
                    self.note_down();
                    if let Err(error) = broker.stop().await {
                        tracing::warn!(%error, "did not stop in order");
                    }
                }
                Err(error) => {
                    self.0.failed_starts.set(self.0.failed_starts.get() + 1);
                    tracing::warn!(%error, "did not start");
                    self.0.history.mix(error.to_string());
                }
            }
            tokio::time::sleep(RESTART_PAUSE).await;
        }
    }

    /// Until it fails or is to stop.
    async fn watch(&self, broker: &Broker) {
        let mut failed = std::pin::pin!(broker.failed());
        while !self.0.stop_asked.get() {
            self.0.report.set(Some(broker.report()));
            if tokio::time::timeout(REPORT_EVERY, &mut failed).await.is_ok() {
                return;
            }
        }
    }
}
