//! One run: a world from its seed, stepped until its clients are done.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::files::simulated::SimDisk;
use aquifer_tiering::store::set_memory;
use aquifer_tiering::testing::bucket::{BucketFaults, SimBucket};

use crate::crashpoints::{End, Trap};
use crate::history::History;
use crate::nemesis::{self, Blow};
use crate::node::Node;
use crate::outcome::Outcome;
use crate::seen::Seen;
use crate::workload::{self, Stage, World};
use crate::{dice::Dice, machine, zombies};

/// The simulated network's step: how long a message waits at least.
pub(crate) const TICK: Duration = Duration::from_millis(2);
/// How long a run may take, in simulated time.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(3_600);
/// How long clients work after the last blow.
const AFTERMATH: Duration = Duration::from_secs(3);
/// The machine's disk.
const DISK: ByteCount = ByteCount::mib(512);
/// Settings that make little data meet all that there is.
pub(crate) fn settings(dice: &mut Dice) -> Vec<String> {
    let mut one_of = |values: &[u64]| values[dice.below(values.len() as u64) as usize];
    vec![
        format!("tier.roll.ms={}", one_of(&[1_000, 2_000, 5_000, 15_000])),
        format!("tier.check.interval.ms={}", one_of(&[20, 100, 1_000])),
        format!("tier.manifest.entries.max={}", one_of(&[16, 24, 384])),
        "tier.manifest.page.entries=8".to_owned(),
        format!("tier.manifest.age.max.ms={}", one_of(&[100, 2_000, 10_000])),
        "tier.delete.grace.ms=15000".to_owned(),
        // Longer than the simulated bucket holds a request.
        "tier.late.write.max.ms=700000".to_owned(),
        format!("tier.upload.retry.backoff.max.ms={}", one_of(&[1_000, 10_000])),
        format!("log.retention.check.interval.ms={}", one_of(&[500, 5_000])),
        format!("log.segment.delete.delay.ms={}", one_of(&[0, 1_000, 20_000])),
        format!("log.journal.bytes={}", one_of(&[0, 32 << 10, 128 << 10])),
        "log.journal.logs.min=1".to_owned(),
        format!("log.journal.log.bytes.max={}", one_of(&[4 << 10, 16 << 10])),
        format!("log.read.lend.bytes.min={}", one_of(&[0, 1, 1_000])),
    ]
}

/// A network of its own.
pub(crate) fn network<'a>(seed: u64) -> turmoil::Sim<'a> {
    turmoil::Builder::new()
        .rng_seed(seed)
        .tick_duration(TICK)
        .min_message_latency(Duration::from_millis(1))
        .max_message_latency(Duration::from_millis(20))
        .simulation_duration(RUN_MAX)
        .tcp_capacity(4096)
        .build()
}

/// What ends what a blow began.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Relief {
    Boot,
    Room,
    BucketWell,
    BucketBack,
    Network,
    /// The operator changes the disk's cable and restarts.
    Restart,
}

/// What a run is of.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) seed: u64,
    /// At one operation the machine stops, and nothing else goes wrong; without it, the nemesis has its way.
    pub(crate) trap: Option<Trap>,
    /// With a twin of the node, and no other faults but the bucket's.
    pub(crate) is_haunted: bool,
}

/// A world under a nemesis.
struct Play<'a> {
    sim: turmoil::Sim<'a>,
    node: Node,
    bucket: SimBucket,
    history: History,
    world: World,
    dice: Dice,
    plan: VecDeque<(Duration, Blow)>,
    reliefs: Vec<(Duration, Relief)>,
    next: Option<Duration>,
    blows: u64,
    trap: Option<Trap>,
}

/// Runs a seed, in a thread that has not drawn any randomness yet.
pub(crate) fn run(scenario: Scenario, is_shown: bool) -> Outcome {
    // Before the world begins: whether its log is shown must change nothing in it.
    let seen = Seen::watch();
    machine::simulate(scenario.seed);
    let world = std::thread::Builder::new().name("world".to_owned());
    let run = world.spawn(move || in_world(scenario, is_shown, &seen));
    run.expect("a thread").join().expect("a run tells of its panics itself")
}

fn in_world(Scenario { seed, trap, is_haunted }: Scenario, is_shown: bool, seen: &Seen) -> Outcome {
    if is_haunted {
        return zombies::run(seed, is_shown, seen);
    }
    let history = History::new(is_shown);
    let mut dice = Dice::new(seed, "run");
    let bucket = SimBucket::new(dice.seed());
    set_memory(Arc::new(bucket.clone()));
    let disk = SimDisk::new(dice.seed(), DISK);
    let sets = settings(&mut dice);
    let node = Node::new("node", disk, &history, &sets, dice.seed());
    let world = World::new(seed, &node, &bucket, &history);
    let mut sim = network(dice.seed());
    let software = node.clone();
    sim.host("node", move || software.clone().run());
    sim.client("clients", workload::run(world.clone()));
    let plan = if trap.is_some() { VecDeque::new() } else { nemesis::plan(seed).into() };
    if let Some(trap) = trap {
        trap.set(node.disk(), &bucket);
    }
    let (reliefs, next, blows) = (Vec::new(), None, 0);
    let mut play = Play { sim, node, bucket, history, world, dice, plan, reliefs, next, blows, trap };
    play.play();
    play.finish(seed, seen)
}

impl Play<'_> {
    fn play(&mut self) {
        loop {
            let now = self.sim.elapsed();
            machine::set_elapsed(now);
            self.bucket.advance(now);
            self.strike(now);
            match self.sim.step() {
                Ok(false) => {}
                Ok(true) => return,
                Err(error) => return self.history.broken(format!("the simulation ended: {error}")),
            }
        }
    }

    /// The machine has come to the operation at which it is to stop.
    fn spring(&mut self, trap: Trap, now: Duration) {
        let is_up = self.sim.is_host_running("node");
        let is_struck = self.bucket.take_strike() || (is_up && self.node.disk().is_off());
        if !is_struck {
            return;
        }
        self.blows += 1;
        self.history.fault("crash point");
        match trap.end {
            End::PowerCut => self.node.disk().power_cut(),
            End::Kill => self.node.disk().end_processes(),
        }
        self.down();
        self.reliefs.push((now + Duration::from_millis(500), Relief::Boot));
    }

    fn strike(&mut self, now: Duration) {
        if let Some(trap) = self.trap {
            self.spring(trap, now);
        }
        while let Some(at) = self.reliefs.iter().position(|(until, _)| *until <= now) {
            let (_, relief) = self.reliefs.remove(at);
            self.relieve(relief);
        }
        if self.world.stage() != Stage::Trouble {
            return;
        }
        let wait = self.plan.front().map_or(AFTERMATH, |(wait, _)| *wait);
        if *self.next.get_or_insert(now + wait) > now {
            return;
        }
        self.next = None;
        match self.plan.pop_front() {
            Some((_, blow)) => self.deal(blow, now),
            None => {
                for (_, relief) in std::mem::take(&mut self.reliefs) {
                    self.relieve(relief);
                }
                self.world.set_stage(Stage::Settling);
            }
        }
    }

    fn deal(&mut self, blow: Blow, now: Duration) {
        // A machine without power feels nothing.
        if !self.sim.is_host_running("node") && !matches!(blow, Blow::BucketFaults(..) | Blow::BucketAway(_))
        {
            return;
        }
        self.blows += 1;
        self.history.fault(blow.name());
        let disk = self.node.disk();
        let (relief, span) = match blow {
            Blow::PowerCut(span) => {
                disk.power_cut();
                self.down();
                (Relief::Boot, span)
            }
            Blow::Kill(span) => {
                disk.end_processes();
                self.down();
                (Relief::Boot, span)
            }
            Blow::Restart => return self.node.ask_restart(),
            Blow::SyncFails => {
                disk.fail_sync();
                (Relief::Restart, self.dice.millis(500..5_000))
            }
            Blow::WriteFails => {
                disk.fail_write();
                (Relief::Restart, self.dice.millis(500..5_000))
            }
            Blow::DiskFull(span) => {
                disk.resize(disk.used() + ByteCount(self.dice.below(100_000)));
                (Relief::Room, span)
            }
            Blow::BucketFaults(faults, span) => {
                self.bucket.set_faults(faults);
                (Relief::BucketWell, span)
            }
            Blow::BucketAway(span) => {
                self.bucket.set_away(true);
                (Relief::BucketBack, span)
            }
            Blow::Partition(span) => {
                self.sim.partition("clients", "node");
                (Relief::Network, span)
            }
        };
        self.reliefs.push((now + span, relief));
    }

    fn down(&mut self) {
        self.sim.crash("node");
        self.node.note_down();
    }

    fn relieve(&mut self, relief: Relief) {
        match relief {
            Relief::Boot if !self.sim.is_host_running("node") => {
                self.node.disk().power_on();
                self.sim.bounce("node");
            }
            Relief::Boot => {}
            Relief::Room => self.node.disk().resize(DISK),
            Relief::BucketWell => self.bucket.set_faults(BucketFaults::none()),
            Relief::BucketBack => self.bucket.set_away(false),
            Relief::Network => self.sim.repair("clients", "node"),
            Relief::Restart => {
                self.node.disk().heal();
                if !self.sim.is_host_running("node") {
                    return;
                }
                if self.dice.percent(50) {
                    self.node.disk().power_cut();
                } else {
                    self.node.disk().end_processes();
                }
                self.down();
                self.relieve(Relief::Boot);
            }
        }
    }

    fn finish(self, seed: u64, seen: &Seen) -> Outcome {
        let disk = self.node.disk().counts();
        self.history.mix((self.node.disk().fingerprint(), disk.operations));
        let mut outcome =
            Outcome::of(seed, &self.history, seen, disk, &self.bucket.counts(), &self.node, self.blows);
        outcome.node_requests = self.world.node_requests();
        outcome
    }
}
