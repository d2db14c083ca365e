//! A node and its twin, which somebody started on a copy of its data directory, write to one bucket: each start of either takes
//! the claim from the other, machines freeze in the middle of an upload and thaw after their twin's restart, and writes reach the
//! bucket minutes late. Only the node has clients. Whatever it acknowledged must be read back in the end, and the bucket be sound.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::ByteCount;
use aquifer_runtime::files::simulated::SimDisk;
use aquifer_tiering::store::set_memory;
use aquifer_tiering::testing::bucket::{BucketFaults, SimBucket};

use crate::dice::Dice;
use crate::history::History;
use crate::node::Node;
use crate::outcome::Outcome;
use crate::run::{RUN_MAX, TICK, network, settings};
use crate::seen::Seen;
use crate::workload::{self, Stage, World};
use crate::{machine, nemesis};

const DISK: ByteCount = ByteCount::mib(512);
/// How long after the last event the twin lives on.
const AFTERMATH: Duration = Duration::from_secs(20);
/// The node has this long to get the claim back and to upload, before it is started once more.
const NUDGE_EVERY: Duration = Duration::from_secs(20);

/// What happens to one of the two.
#[derive(Debug, Clone, Copy)]
enum Event {
    /// The twin is started on a copy of the node's disk; one that runs already is started anew.
    Twin,
    RestartNode,
    KillNode(Duration),
    /// It stands still, its clients with it, while the bucket and the twin go on.
    FreezeNode(Duration),
    FreezeTwin(Duration),
    BucketFaults(BucketFaults, Duration),
}

fn plan(dice: &mut Dice) -> VecDeque<(Duration, Event)> {
    let mut plan: VecDeque<_> = [(dice.millis(1_000..6_000), Event::Twin)].into();
    for _ in 0..dice.within(3..10) {
        let event = match dice.below(12) {
            0..3 => Event::Twin,
            3 => Event::RestartNode,
            4 => Event::KillNode(dice.millis(100..3_000)),
            5..8 => Event::FreezeNode(dice.millis(500..120_000)),
            8 => Event::FreezeTwin(dice.millis(500..120_000)),
            _ => Event::BucketFaults(nemesis::faults(dice), dice.millis(1_000..20_000)),
        };
        plan.push_back((dice.millis(100..8_000), event));
    }
    plan
}

struct Haunt<'a> {
    node: Node,
    node_sim: turmoil::Sim<'a>,
    node_frozen_until: Duration,
    node_boots_at: Option<Duration>,
    twin: Option<(Node, turmoil::Sim<'a>)>,
    twins: u64,
    twin_frozen_until: Duration,
    bucket: SimBucket,
    bucket_well_at: Option<Duration>,
    history: History,
    world: World,
    dice: Dice,
    sets: Vec<String>,
    events: u64,
}

/// Runs a seed.
pub(crate) fn run(seed: u64, is_shown: bool, seen: &Seen) -> Outcome {
    let history = History::new(is_shown);
    let mut dice = Dice::new(seed, "zombies");
    let bucket = SimBucket::new(dice.seed());
    set_memory(Arc::new(bucket.clone()));
    let sets = settings(&mut dice);
    let node = Node::new("node", SimDisk::new(dice.seed(), DISK), &history, &sets, dice.seed());
    let world = World::new(seed, &node, &bucket, &history);
    let mut node_sim = network(dice.seed());
    let software = node.clone();
    node_sim.host("node", move || software.clone().run());
    node_sim.client("clients", workload::haunted(world.clone()));
    let plan = plan(&mut dice);
    let mut haunt = Haunt {
        node,
        node_sim,
        node_frozen_until: Duration::ZERO,
        node_boots_at: None,
        twin: None,
        twins: 0,
        twin_frozen_until: Duration::ZERO,
        bucket,
        bucket_well_at: None,
        history,
        world,
        dice,
        sets,
        events: 0,
    };
    haunt.play(plan);
    haunt.finish(seed, seen)
}

impl Haunt<'_> {
    fn play(&mut self, mut plan: VecDeque<(Duration, Event)>) {
        let mut now = Duration::ZERO;
        let mut next = None;
        let mut nudge_at = Duration::MAX;
        while now < RUN_MAX {
            machine::set_elapsed(now);
            self.bucket.advance(now);
            self.revive(now);
            if self.world.stage() == Stage::Trouble && self.node_frozen_until <= now {
                let wait = plan.front().map_or(AFTERMATH, |(wait, _)| *wait);
                if *next.get_or_insert(now + wait) <= now {
                    next = None;
                    match plan.pop_front() {
                        Some((_, event)) => self.happen(event, now),
                        None => {
                            self.rest(now);
                            nudge_at = now + NUDGE_EVERY;
                        }
                    }
                }
            }
            if nudge_at <= now && self.world.stage() == Stage::Settling {
                self.node.ask_restart();
                nudge_at = now + NUDGE_EVERY;
            }
            match self.step(now) {
                Ok(false) => now += TICK,
                Ok(true) => return,
                Err(error) => return self.history.broken(format!("the simulation ended: {error}")),
            }
        }
        self.history.broken(format!("no end within {RUN_MAX:?}"));
    }

    fn step(&mut self, now: Duration) -> turmoil::Result<bool> {
        if let Some((_, sim)) = self.twin.as_mut().filter(|_| self.twin_frozen_until <= now) {
            sim.step()?;
        }
        if self.node_frozen_until <= now { self.node_sim.step() } else { Ok(false) }
    }

    fn revive(&mut self, now: Duration) {
        if self.node_boots_at.take_if(|at| *at <= now).is_some() {
            self.node.disk().power_on();
            self.node_sim.bounce("node");
        }
        if self.bucket_well_at.take_if(|at| *at <= now).is_some() {
            self.bucket.set_faults(BucketFaults::none());
        }
    }

    fn happen(&mut self, event: Event, now: Duration) {
        self.events += 1;
        match event {
            Event::Twin => {
                self.history.fault("twin");
                self.twins += 1;
                // Of the node as it is now, so that the twin holds nothing that the node does not.
                let (name, disk) = (format!("twin-{}", self.twins), self.node.disk().duplicate());
                let node = Node::new(&name, disk, &self.history, &self.sets, self.dice.seed());
                let mut sim = network(self.dice.seed());
                let software = node.clone();
                sim.host(name, move || software.clone().run());
                self.twin = Some((node, sim));
            }
            Event::RestartNode => {
                self.history.fault("restart");
                self.node.ask_restart();
            }
            Event::KillNode(span) if self.node_boots_at.is_none() => {
                self.history.fault("kill");
                self.node.disk().end_processes();
                self.node_sim.crash("node");
                self.node.note_down();
                self.node_boots_at = Some(now + span);
            }
            Event::KillNode(_) => {}
            Event::FreezeNode(span) => {
                self.history.fault("node frozen");
                self.node_frozen_until = now + span;
            }
            Event::FreezeTwin(span) => {
                self.history.fault("twin frozen");
                self.twin_frozen_until = now + span;
            }
            Event::BucketFaults(faults, span) => {
                self.history.fault("bucket faults");
                self.bucket.set_faults(faults);
                self.bucket_well_at = Some(now + span);
            }
        }
    }

    /// Somebody finds the twin and switches it off.
    fn rest(&mut self, now: Duration) {
        if let Some((node, _)) = &self.twin {
            node.disk().end_processes();
        }
        self.twin = None;
        self.bucket_well_at = Some(now);
        self.revive(now);
        if self.node_boots_at.is_some() {
            self.node_boots_at = Some(now);
            self.revive(now);
        }
        self.world.set_stage(Stage::Settling);
    }

    fn finish(self, seed: u64, seen: &Seen) -> Outcome {
        self.history.mix((self.node.disk().fingerprint(), seen.fenced()));
        let disk = self.node.disk().counts();
        Outcome::of(seed, &self.history, seen, disk, &self.bucket.counts(), &self.node, self.events)
    }
}
