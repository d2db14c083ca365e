//! Two tasks that keep a node's metadata in order: one bounds the log by snapshots, one watches over Raft itself.

use aquifer_runtime::tasks::TaskGroup;
use openraft::Raft;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::Fatal;
use tokio::sync::watch;

use super::metrics::Metrics;
use super::options::Options;
use super::raft::log::Appended;
use super::raft::machine::Machine;
use super::raft::types::Types;

/// The Raft node of this process.
pub(super) type Node = Raft<Types, Machine>;

/// When to take a snapshot, and what of the log may go.
#[derive(Debug)]
pub(super) struct Schedule {
    entries_max: u64,
    bytes_max: u64,
    /// What had been appended when the newest snapshot was asked for.
    asked: Appended,
    /// The newest snapshot that there is.
    newest: Option<u64>,
}

impl Schedule {
    /// Begins with the newest snapshot, and what of the log it covers.
    pub(super) fn new(options: &Options, newest: Option<u64>, covered: Appended) -> Schedule {
        Schedule {
            entries_max: options.snapshot_entries_max.max(1),
            bytes_max: options.snapshot_bytes_max.get().max(1),
            asked: covered,
            newest,
        }
    }

    /// So much was appended by now: whether to ask for a snapshot. Raft leaves the wish aside while another is being built, so it
    /// is expressed anew after each interval, whether the last one came true or not.
    fn on_appended(&mut self, total: Appended) -> bool {
        let entries = total.entries.saturating_sub(self.asked.entries);
        let bytes = total.bytes.saturating_sub(self.asked.bytes);
        let due = entries >= self.entries_max || bytes >= self.bytes_max;
        if due {
            self.asked = total;
        }
        due
    }

    /// A snapshot is there: up to where the log is no longer needed, which is the snapshot before it.
    fn on_snapshot(&mut self, index: u64) -> Option<u64> {
        let before = self.newest.replace(index);
        before.filter(|before| *before < index)
    }
}

/// Takes snapshots and lets go of the log behind the one before the newest, until the log is closed.
pub(super) async fn bound_log(node: Node, mut schedule: Schedule, mut appended: watch::Receiver<Appended>) {
    // Raft's own knowledge, not that of the files: it lets go of nothing behind a snapshot that it has not heard of.
    let mut states = node.metrics();
    loop {
        let total = *appended.borrow_and_update();
        let snapshot = states.borrow_and_update().snapshot.map(|position| position.index);
        if let Some(index) = snapshot
            && schedule.newest != Some(index)
            && let Some(upto) = schedule.on_snapshot(index)
            && node.trigger().purge_log(upto).await.is_err()
        {
            return;
        }
        if schedule.on_appended(total) && node.trigger().snapshot().await.is_err() {
            return;
        }
        let ended = tokio::select! {
            changed = appended.changed() => changed.is_err(),
            changed = states.changed() => changed.is_err(),
        };
        if ended {
            return;
        }
    }
}

/// Stops Raft when the group is asked to stop; brings the group down when Raft stops by itself: a broker whose metadata stands
/// still would serve what is no longer true.
pub(super) async fn watch_over(node: Node, tasks: TaskGroup, metrics: Metrics) {
    let mut states = node.metrics();
    loop {
        let (leads, state, alone) = {
            let now = states.borrow_and_update();
            let alone = now.membership_config.nodes().all(|(other, _)| other == node.node_id());
            (now.state.is_leader(), now.running_state.clone(), alone)
        };
        // There is nobody to send a heartbeat to or to hear one from: an idle node of one need not wake up for it.
        node.runtime_config().tick(!(alone && leads));
        metrics.leader.set(i64::from(leads));
        match state {
            Ok(()) => {}
            Err(Fatal::Stopped) => return,
            Err(error) => {
                // The group reports it and stops the broker.
                panic!("metadata cannot go on: {error}");
            }
        }
        tokio::select! {
            () = tasks.cancelled().cancelled() => {
                if let Err(error) = node.shutdown().await {
                    tracing::warn!(%error, "metadata did not stop cleanly");
                }
                metrics.leader.set(0);
                return;
            }
            changed = states.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

#[cfg(test)]
mod tests;
