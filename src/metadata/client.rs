//! The handle by which the broker reads and changes metadata.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Offset};
use futures::StreamExt as _;
use openraft::async_runtime::watch::WatchReceiver as _;
use openraft::errors::{ClientWriteError, Fatal, RaftError};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::codec::command::encode;
use super::command::Command;
use super::features::{self, VERSION_FEATURE};
use super::ids::RaftNodeId;
use super::image::Image;
use super::keeper::Node;
use super::metrics::Metrics;
use super::options::Options;
use super::quorum::Quorum;
use super::raft::types::Types;
use super::verdict::{Outcome, Rejected};

/// How long files may take to close.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// The cluster's metadata, as this node knows it. Cheap to clone.
#[derive(Clone)]
pub struct Metadata(Arc<Inner>);

struct Inner {
    raft: Node,
    id: RaftNodeId,
    images: watch::Receiver<Arc<Image>>,
    options: Options,
    in_flight: Semaphore,
    closed: CancellationToken,
    metrics: Metrics,
}

impl fmt::Debug for Metadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metadata").field("id", &self.0.id).finish_non_exhaustive()
    }
}

/// Why a command has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// It was judged and refused: it did not happen.
    #[error(transparent)]
    Rejected(#[from] Rejected),
    /// It was not proposed: too many bytes.
    #[error("the command has {bytes}, at most {max} are allowed")]
    TooLarge {
        /// As many it has.
        bytes: ByteCount,
        /// As many it may have.
        max: ByteCount,
    },
    /// It was not proposed: programs that cannot read it may be part of the cluster, or come back to it.
    #[error(
        "{command} needs {VERSION_FEATURE} {needed}, and the cluster is at {finalized}; once no older aquifer shall run in it any more, kafka-features.sh upgrade --feature {VERSION_FEATURE}={needed} raises it"
    )]
    Level {
        /// What it is called.
        command: &'static str,
        /// From this level on it may be.
        needed: i16,
        /// The level as it is.
        finalized: i16,
    },
    /// It was not proposed: another node leads, or none. Try there, or later.
    #[error("this node does not lead the metadata; {}", leader.map_or("nobody is known to".to_owned(), |l| format!("raft node {l} does")))]
    NotLeader {
        /// Who leads, if it is known.
        leader: Option<RaftNodeId>,
    },
    /// Leadership was lost on the way: it may have happened, now or later.
    #[error("leadership was lost before the command's outcome was known: {0}")]
    Unknown(String),
    /// No verdict in time: it may have happened, now or later.
    #[error("no verdict after {waited:?}; the command may still take effect")]
    Timeout {
        /// As long it was waited for.
        waited: Duration,
    },
    /// This node's metadata has stopped: it may have happened.
    #[error("the metadata of this node has stopped: {0}")]
    Stopped(String),
}

impl Metadata {
    pub(super) fn new(
        raft: Node,
        id: RaftNodeId,
        images: watch::Receiver<Arc<Image>>,
        options: Options,
        closed: CancellationToken,
        metrics: Metrics,
    ) -> Metadata {
        let in_flight = Semaphore::new(options.proposals_max.max(1) as usize);
        Metadata(Arc::new(Inner { raft, id, images, options, in_flight, closed, metrics }))
    }

    /// The newest image. Never waits.
    pub fn image(&self) -> Arc<Image> {
        Arc::clone(&self.0.images.borrow())
    }

    /// The newest image, and word of each newer one. Keep the last one that was dealt with and compare by
    /// [`super::delta::Delta::between`]: images in between may be skipped, changes may not be lost.
    pub fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.0.images.clone()
    }

    /// This node in Raft, which is also its data directory.
    pub fn node_id(&self) -> RaftNodeId {
        self.0.id
    }

    /// Whether this node leads the metadata, as far as it knows: another may have been elected already. What it proposes as such
    /// is judged on its own merits.
    pub fn is_controller(&self) -> bool {
        self.0.raft.is_leader()
    }

    /// Who votes, who follows, and how far each has come, as far as this node knows.
    pub fn quorum(&self) -> Quorum {
        Quorum::of(&self.0.raft.metrics().borrow_watched())
    }

    /// Where in the metadata log this node is: it rises with each change. Ask before the image, which is never older then.
    pub fn position(&self) -> Offset {
        let applied = self.0.raft.metrics().borrow_watched().last_applied.as_ref().map(|log| log.index);
        let index = applied.and_then(|index| i64::try_from(index).ok()).unwrap_or(0);
        Offset::new(index).expect("it is not negative")
    }

    /// Proposes a command and waits for the verdict. Once it is `Ok`, [`Metadata::image`] shows the command's effect. Dropping the
    /// future does not take the command back.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        self.check(&command)?;
        let proposed = async {
            let _permit = self.0.in_flight.acquire().await;
            self.0.raft.client_write(command).await
        };
        let error = match tokio::time::timeout(self.0.options.propose_timeout, proposed).await {
            Ok(Ok(answer)) => return answer.data.map_err(ProposeError::Rejected),
            Ok(Err(RaftError::APIError(error))) => not_written(error),
            Ok(Err(RaftError::Fatal(error))) => ProposeError::Stopped(error.to_string()),
            Err(_) => self.timeout(),
        };
        self.0.metrics.proposals_failed.inc();
        Err(error)
    }

    /// Proposes commands at once, so that they share a sync. Each is judged by itself, in order; one that is refused does not stop
    /// those behind it. As many answers as commands.
    pub async fn propose_many(&self, commands: Vec<Command>) -> Vec<Result<Outcome, ProposeError>> {
        let mut answers = Vec::with_capacity(commands.len());
        let mut left = commands.into_iter().peekable();
        while left.peek().is_some() {
            let some: Vec<Command> =
                left.by_ref().take(self.0.options.proposals_max.max(1) as usize).collect();
            answers.extend(self.propose_batch(some).await);
        }
        answers
    }

    async fn propose_batch(&self, commands: Vec<Command>) -> Vec<Result<Outcome, ProposeError>> {
        let mut answers: Vec<Result<Outcome, ProposeError>> =
            commands.iter().map(|command| self.check(command).map(|()| Outcome::Done)).collect();
        let fit = answers.iter().filter(|answer| answer.is_ok()).count();
        let passed = commands
            .into_iter()
            .zip(&answers)
            .filter(|(_, checked)| checked.is_ok())
            .map(|(command, _)| command);
        let passed: Vec<Command> = passed.collect();
        if passed.is_empty() {
            return answers;
        }
        let mut verdicts = Vec::with_capacity(fit);
        let proposed = async {
            let _permits = self.0.in_flight.acquire_many(u32::try_from(fit).unwrap_or(u32::MAX)).await;
            let mut stream = self.0.raft.client_write_many(passed).await?;
            while let Some(verdict) = stream.next().await {
                verdicts.push(match verdict? {
                    Ok(answer) => answer.response.map_err(ProposeError::Rejected),
                    Err(error) => Err(not_written(error)),
                });
            }
            Ok::<(), Fatal<Types>>(())
        };
        let end = match tokio::time::timeout(self.0.options.propose_timeout, proposed).await {
            Ok(Ok(())) => ProposeError::Stopped("it answered too few commands".to_owned()),
            Ok(Err(error)) => ProposeError::Stopped(error.to_string()),
            Err(_) => self.timeout(),
        };
        let mut verdicts = verdicts.into_iter();
        for answer in answers.iter_mut().filter(|answer| answer.is_ok()) {
            *answer = verdicts.next().unwrap_or_else(|| Err(end.clone()));
            if answer.as_ref().is_err_and(|error| !matches!(error, ProposeError::Rejected(_))) {
                self.0.metrics.proposals_failed.inc();
            }
        }
        answers
    }

    /// Whether a command may be proposed at all; what becomes of it then is `apply`'s to judge.
    pub fn check(&self, command: &Command) -> Result<(), ProposeError> {
        let (needed, finalized) = (command.level_min(), features::version(self.image().features()));
        if needed > finalized {
            return Err(ProposeError::Level { command: command.name(), needed, finalized });
        }
        let (bytes, max) = (ByteCount(encode(command).len() as u64), self.0.options.command_bytes_max);
        if bytes > max { Err(ProposeError::TooLarge { bytes, max }) } else { Ok(()) }
    }

    fn timeout(&self) -> ProposeError {
        ProposeError::Timeout { waited: self.0.options.propose_timeout }
    }

    /// Stops, and returns once the files are closed.
    pub async fn shutdown(&self) {
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::warn!(%error, "metadata did not stop cleanly");
        }
        if tokio::time::timeout(CLOSE_PATIENCE, self.0.closed.cancelled()).await.is_err() {
            tracing::warn!("the metadata log did not close within {CLOSE_PATIENCE:?}");
        }
    }
}

fn not_written(error: ClientWriteError<Types>) -> ProposeError {
    match error {
        ClientWriteError::ForwardToLeader(to) => {
            ProposeError::NotLeader { leader: to.leader_id.map(RaftNodeId) }
        }
        error @ (ClientWriteError::LogEntryDiscarded(_)
        | ClientWriteError::ChangeMembershipError(_)
        | ClientWriteError::PreconditionFailed(_)) => ProposeError::Unknown(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
