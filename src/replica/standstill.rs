//! Tells when a partition's uploads stand still.
//!
//! The watchdog judges; this brings it what it judges by, and says what an operator needs to know: what is being done and for how
//! long, the last error, and how much waits.

use aquifer_model::Offset;
use tokio::time::Instant;

use super::archive::ArchiveStatus;
use super::archiving::ArchiveRules;
use super::state::{Replica, Role};
use super::watchdog::Sight;

impl Replica {
    /// Looks whether uploads move, and tells if they do not. Gives whether they stand still, whatever the reason: a bucket that is
    /// away, a claim that was lost, a call that hangs, a task that is gone.
    pub(super) fn watch_uploads(&self, now: Instant, rules: &ArchiveRules) -> bool {
        let tiered_end = self.tiered_end();
        let has_work = match self.role() {
            Role::Recovering(_) => true,
            Role::Leader(_) => {
                self.config().tiered && self.has_segment_due(tiered_end.unwrap_or(Offset::ZERO))
            }
            Role::NotLeading | Role::Offline(_) => false,
        };
        let sight = self.archive().watchdog.lock().look(now, has_work, tiered_end, rules.stall_after);
        let (partition, topic) = (self.partition(), self.topic());
        match sight {
            Sight::Moving => false,
            Sight::Still => true,
            Sight::MovesAgain => {
                tracing::info!(%partition, %topic, "uploads move again");
                false
            }
            Sight::Tell { standing, again } => {
                if !again {
                    rules.metrics.stalls.inc();
                }
                let step = *self.archive().step.lock();
                let doing = step.map_or_else(
                    || "nothing".to_owned(),
                    |(step, since)| format!("{step}, for {:?}", now.duration_since(since)),
                );
                let ArchiveStatus { error, failures, fenced, .. } = self.archive_status();
                let waiting = self.upload_lag();
                tracing::error!(
                    %partition, %topic, ?standing, doing, failures, error, fenced = fenced.is_some(),
                    segments = waiting.segments, bytes = %waiting.bytes, "uploads stand still"
                );
                true
            }
        }
    }
}
