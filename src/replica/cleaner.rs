//! When which log is compacted, and how fast: the one task that does it.
//!
//! It looks over all partitions, takes the dirtiest that is due (first of all one that is overdue), and compacts it step by step,
//! no faster than it may. A log that cannot be compacted is left alone for a while, with a line and a metric, and the others go on:
//! a cleaner that dies of one bad segment lets every other log grow until the disk is full. A panic stops the broker, as
//! everywhere. That it is alive shows in `last_look`.
//!
//! Leader or not, every replica compacts its own log: what is left is a matter of the records and of time alone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::{Counter, Gauge, Registry, Table};
use aquifer_runtime::tasks::{self, TaskGroup};
use tokio::sync::watch;
use tokio::time::Instant;

use super::registry::Replicas;
use super::state::{Replica, Role};
use crate::config::{self, Compaction, Config};
use crate::log::{CompactError, CompactOptions, Dirt, Pass};

/// How long a log is left alone that could not be compacted; twice as long after each further failure.
const RETRY_MIN: Duration = Duration::from_secs(60);
const RETRY_MAX: Duration = Duration::from_secs(3600);

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct CleanerMetrics {
    passes: Counter,
    failures: Counter,
    read_bytes: Counter,
    written_bytes: Counter,
    dropped_records: Counter,
    unopened_batches: Counter,
    uncleanable: Gauge,
    dirtiest: Gauge,
    last_look: Gauge,
    last_pass: Gauge,
}

impl CleanerMetrics {
    pub(crate) fn register(registry: &mut Registry) -> CleanerMetrics {
        let metrics = CleanerMetrics::default();
        Table::under(registry, "aquifer_cleaner")
            .row("passes", "Compactions of a log that came to their end", &metrics.passes)
            .row("failures", "Compactions that failed and are tried again later", &metrics.failures)
            .row("read_bytes", "Bytes read by compaction", &metrics.read_bytes)
            .row("written_bytes", "Bytes written by compaction", &metrics.written_bytes)
            .row("dropped_records", "Records that compaction has dropped", &metrics.dropped_records)
            .row(
                "unopened_batches",
                "Batches that compaction cannot open and leaves as they are, each time that it meets them",
                &metrics.unopened_batches,
            )
            .row(
                "uncleanable_partitions",
                "Partitions whose last compaction failed and that are left alone for a while",
                &metrics.uncleanable,
            )
            .row(
                "dirtiest_percent",
                "Dirty share of the log with the largest, of what may be compacted by now",
                &metrics.dirtiest,
            )
            .row(
                "last_look_timestamp_seconds",
                "When the cleaner last looked for logs to compact; it does so between any two",
                &metrics.last_look,
            )
            .row("last_pass_timestamp_seconds", "When a compaction last came to its end", &metrics.last_pass);
        metrics
    }
}

/// Compacts logs, one at a time.
#[derive(Debug)]
pub(crate) struct Cleaner {
    replicas: Arc<Replicas>,
    /// Read each time: what compaction may use changes while the broker runs.
    configs: watch::Receiver<Config>,
    metrics: CleanerMetrics,
    world: World,
    group: TaskGroup,
}

/// A log that is due.
struct Due {
    replica: Arc<Replica>,
    dirt: Dirt,
    settings: Compaction,
}

/// What was found in a look over all logs.
#[derive(Default)]
struct Found {
    /// The one to begin with.
    due: Option<Due>,
    /// The largest dirty share.
    dirtiest: f64,
    /// Those that could not even be looked at.
    failed: Vec<(Arc<Replica>, CompactError)>,
}

impl Cleaner {
    pub(crate) fn new(
        replicas: Arc<Replicas>,
        metrics: CleanerMetrics,
        world: World,
        group: TaskGroup,
    ) -> Cleaner {
        let configs = replicas.watch_configs();
        Cleaner { replicas, configs, metrics, world, group }
    }

    /// Looks and compacts until the group is stopped.
    pub(crate) async fn run(mut self) {
        let mut failing = Failing::default();
        let mut throttle = Throttle::new(self.world.clock.now());
        while !self.group.cancelled().is_cancelled() {
            let Found { due, dirtiest, failed } = self.look(&failing).await;
            self.metrics.last_look.set(self.world.clock.wall().millis() / 1000);
            self.metrics.dirtiest.set((dirtiest * 100.0).round() as i64);
            for (replica, error) in failed {
                self.note_failure(&mut failing, &replica, &error);
            }
            match due {
                Some(due) => self.compact(due, &mut failing, &mut throttle).await,
                None => {
                    self.pause_until(self.world.clock.now() + self.settings().backoff).await;
                }
            }
            failing.retain(|partition| {
                self.replicas.get(partition).is_some_and(|replica| replica.config().compaction.is_some())
            });
            self.metrics.uncleanable.set(i64::try_from(failing.len()).unwrap_or(i64::MAX));
        }
    }

    /// What compaction may use.
    fn settings(&self) -> config::Cleaner {
        self.configs.borrow().broker().log.cleaner
    }

    /// Waits, but no longer than until the settings change: an hour's pause must not outlast the wish for a shorter one. Gives whether
    /// they did.
    async fn pause_until(&mut self, until: Instant) -> bool {
        tokio::select! {
            () = self.group.cancelled().cancelled() => false,
            () = tokio::time::sleep_until(until) => false,
            Ok(()) = self.configs.changed() => true,
        }
    }

    /// Finds what to compact next.
    async fn look(&self, failing: &Failing) -> Found {
        let now = self.world.clock.now();
        let open = |replica: &Arc<Replica>| matches!(replica.role(), Role::Leader(_) | Role::NotLeading);
        let mut replicas = self.replicas.all();
        replicas.retain(|replica| {
            replica.config().compaction.is_some()
                && open(replica)
                && failing.may_be_tried(replica.partition(), now)
        });
        if replicas.is_empty() {
            return Found::default();
        }
        tasks::blocking(move || {
            let mut found = Found::default();
            for replica in replicas {
                match look_at(&replica) {
                    Ok(None) => {}
                    Ok(Some((dirt, settings))) => found.consider(Due { replica, dirt, settings }),
                    Err(error) => found.failed.push((replica, error)),
                }
            }
            found
        })
        .await
    }

    /// Compacts a log, as fast as that may go.
    async fn compact(&mut self, due: Due, failing: &mut Failing, throttle: &mut Throttle) {
        let Due { replica, dirt, settings } = due;
        let (partition, topic) = (replica.partition(), replica.topic());
        tracing::debug!(%partition, %topic, ?dirt, "compacting a log");
        let config::Cleaner { dedupe_buffer, load_factor, .. } = self.settings();
        let memory = CompactOptions { keys_bytes_max: dedupe_buffer, load_factor };
        let mut pass = replica.log().compact(dirt, &settings, memory);
        let outcome = loop {
            if self.group.cancelled().is_cancelled() {
                return;
            }
            let (back, outcome) = tasks::blocking(move || step(pass)).await;
            pass = back;
            let step = match outcome {
                Ok(step) => step,
                Err(error) => break Err(error),
            };
            self.metrics.read_bytes.inc_by(step.read.get());
            self.metrics.written_bytes.inc_by(step.written.get());
            if let Some(done) = step.done {
                break Ok(done);
            }
            let now = self.world.clock.now();
            let rate = self.settings().bytes_per_second_max;
            if let Some(until) = throttle.spend(step.read + step.written, rate, now)
                && self.pause_until(until).await
            {
                *throttle = Throttle::new(self.world.clock.now());
            }
        };
        match outcome {
            Ok(done) => {
                failing.forget(partition);
                self.metrics.passes.inc();
                self.metrics.dropped_records.inc_by(done.dropped);
                self.metrics.last_pass.set(self.world.clock.wall().millis() / 1000);
                let (before, after) = done.bytes;
                tracing::info!(%partition, %topic, cleaned = %done.clean_below, %before, %after, dropped = done.dropped, "compacted a log");
                self.metrics.unopened_batches.inc_by(done.unopened);
                if done.unopened > 0 {
                    tracing::warn!(%partition, %topic, batches = done.unopened, "batches that cannot be opened stay as their producer made them, and all their records with them");
                }
                if done.keyless > 0 {
                    tracing::warn!(%partition, %topic, keyless = done.keyless, "records without a key went: they were written before the topic was compacted");
                }
            }
            Err(CompactError::Overtaken) => {
                tracing::debug!(%partition, %topic, "a log was changed while it was compacted");
                // Not at once: what changes it may go on for a while, and nothing is lost by waiting.
                self.pause_until(self.world.clock.now() + self.settings().backoff).await;
            }
            Err(error) => self.note_failure(failing, &replica, &error),
        }
    }

    fn note_failure(&self, failing: &mut Failing, replica: &Replica, error: &CompactError) {
        self.metrics.failures.inc();
        let pause = failing.note(replica.partition(), self.world.clock.now());
        tracing::error!(
            partition = %replica.partition(), topic = %replica.topic(), %error, retry_in = ?pause,
            "a log cannot be compacted and grows meanwhile; others go on"
        );
    }
}

fn step(mut pass: Pass) -> (Pass, Result<crate::log::Step, CompactError>) {
    let outcome = pass.step();
    (pass, outcome)
}

/// What is dirty in a log. An idle log's open segment, which no append would close, is closed once its records are overdue.
fn look_at(replica: &Replica) -> Result<Option<(Dirt, Compaction)>, CompactError> {
    let Some(settings) = replica.config().compaction else { return Ok(None) };
    let log = replica.log();
    let overdue = |since| settings.lag_max.is_some_and(|lag| replica.world().clock.wall().since(since) > lag);
    if log.active_since().is_some_and(overdue)
        && let Err(error) = log.roll()
    {
        // Its closed segments can be compacted all the same, and whoever appends is told.
        tracing::warn!(partition = %replica.partition(), topic = %replica.topic(), %error, "cannot seal a segment");
    }
    Ok(log.dirt(replica.last_stable())?.map(|dirt| (dirt, settings)))
}

impl Found {
    fn consider(&mut self, candidate: Due) {
        self.dirtiest = self.dirtiest.max(candidate.dirt.ratio);
        let urgency = |due: &Due| (due.dirt.is_overdue, due.dirt.ratio);
        if candidate.dirt.is_due(&candidate.settings)
            && self.due.as_ref().is_none_or(|first| urgency(first) < urgency(&candidate))
        {
            self.due = Some(candidate);
        }
    }
}

/// Logs that could not be compacted, and until when they are left alone.
#[derive(Debug, Default)]
struct Failing(HashMap<TopicPartition, (Instant, Duration)>);

impl Failing {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn may_be_tried(&self, partition: TopicPartition, now: Instant) -> bool {
        self.0.get(&partition).is_none_or(|(until, _)| *until <= now)
    }

    /// Notes one more failure; gives how long it is left alone.
    fn note(&mut self, partition: TopicPartition, now: Instant) -> Duration {
        let pause = self.0.get(&partition).map_or(RETRY_MIN, |(_, pause)| (*pause * 2).min(RETRY_MAX));
        self.0.insert(partition, (now + pause, pause));
        pause
    }

    fn forget(&mut self, partition: TopicPartition) {
        self.0.remove(&partition);
    }

    /// Forgets those that are not to be compacted any more.
    fn retain(&mut self, is_to_be_compacted: impl Fn(TopicPartition) -> bool) {
        self.0.retain(|partition, _| is_to_be_compacted(*partition));
    }
}

/// Spreads bytes over time.
#[derive(Debug)]
struct Throttle {
    /// When all that was spent so far has been waited for.
    settled: Instant,
}

impl Throttle {
    fn new(now: Instant) -> Throttle {
        Throttle { settled: now }
    }

    /// Notes bytes, of which there may be so many a second; gives until when to wait before more are spent.
    fn spend(&mut self, bytes: ByteCount, per_second: Option<ByteCount>, now: Instant) -> Option<Instant> {
        let per_second = per_second?.get().max(1);
        let cost = Duration::from_secs_f64(bytes.get() as f64 / per_second as f64);
        self.settled = self.settled.max(now) + cost;
        Some(self.settled)
    }
}

#[cfg(test)]
mod tests {
    use aquifer_model::{PartitionIndex, TopicId};
    use uuid::Uuid;

    use super::*;

    #[tokio::test]
    async fn bytes_are_spread_and_idle_time_is_not_saved_up() {
        let start = aquifer_runtime::clock::Clock::system().now();
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut throttle = Throttle::new(start);
        let rate = Some(ByteCount(1_000));
        for (now, bytes, until) in
            [(0, 500, 500), (100, 500, 1_000), (1_000, 0, 1_000), (5_000, 1_000, 6_000)]
        {
            assert_eq!(throttle.spend(ByteCount(bytes), rate, at(now)), Some(at(until)));
        }
        assert_eq!(throttle.spend(ByteCount::mib(1), None, start), None);
        assert_eq!(throttle.spend(ByteCount(100), Some(ByteCount(100)), at(6_000)), Some(at(7_000)));
    }

    #[tokio::test]
    async fn a_log_that_fails_is_left_alone_for_longer_each_time() {
        let start = aquifer_runtime::clock::Clock::system().now();
        let of = |number| TopicPartition {
            topic: TopicId::new(Uuid::from_u128(1)),
            partition: PartitionIndex(number),
        };
        let mut failing = Failing::default();
        assert!(failing.may_be_tried(of(0), start));
        assert_eq!(failing.note(of(0), start), RETRY_MIN);
        assert!(!failing.may_be_tried(of(0), start) && failing.may_be_tried(of(1), start));
        assert!(failing.may_be_tried(of(0), start + RETRY_MIN));
        let pauses: Vec<Duration> = (0..10).map(|_| failing.note(of(0), start)).collect();
        assert!(pauses.is_sorted() && pauses[0] == RETRY_MIN * 2 && pauses[9] == RETRY_MAX);
        failing.retain(|partition| partition != of(0));
        assert_eq!(failing.len(), 0);
        failing.note(of(1), start);
        failing.forget(of(1));
        assert!(failing.may_be_tried(of(1), start));
    }
}
