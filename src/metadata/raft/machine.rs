//! Raft's state machine: applies commands, publishes the image, answers. It holds no logic.
//!
//! The image lives in memory; snapshots of it and the log behind them are what lasts. A batch of entries is published as one new
//! image, and only then are their proposers answered: whoever was told that a command stands finds it in the image.

use std::io;
use std::sync::Arc;

use aquifer_runtime::tasks::blocking;
use bytes::Bytes;
use futures::{Stream, TryStreamExt as _};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot, SnapshotMeta};
use openraft::{EmptyNode, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::codec::{self, SnapshotFile};
use super::snapshots::Snapshots;
use super::types::{LeaderId, LogId, Payload, StoredMembers, Types};
use crate::metadata::apply::apply;
use crate::metadata::image::Image;
use crate::metadata::metrics::Metrics;
use crate::metadata::verdict::Outcome;

type Meta = SnapshotMeta<LeaderId, u64, EmptyNode>;
type Whole = Snapshot<LeaderId, u64, EmptyNode, Bytes>;

/// The state machine.
pub(crate) struct Machine {
    image: Image,
    applied: Option<LogId>,
    members: StoredMembers,
    published: watch::Sender<Arc<Image>>,
    snapshots: Snapshots,
    metrics: Metrics,
}

impl Machine {
    /// Begins from the newest good snapshot. Blocks.
    pub(crate) fn open(snapshots: Snapshots, metrics: Metrics) -> io::Result<Machine> {
        let (applied, members, image) = match snapshots.load()? {
            Some((_, SnapshotFile { applied, members, image })) => (applied, members, image),
            None => (None, StoredMembers::default(), Image::default()),
        };
        let published = watch::Sender::new(Arc::new(image.clone()));
        metrics.image_size(&image);
        Ok(Machine { image, applied, members, published, snapshots, metrics })
    }

    /// The newest image, and word of each newer one.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<Image>> {
        self.published.subscribe()
    }

    /// The last entry that the image has.
    pub(crate) fn applied(&self) -> Option<LogId> {
        self.applied
    }

    fn publish(&self) {
        self.metrics.image_size(&self.image);
        self.published.send_replace(Arc::new(self.image.clone()));
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembers)> {
        Ok((self.applied, self.members.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<Types>>> + Unpin + OptionalSend,
    {
        let mut answers = Vec::new();
        let mut changed = false;
        while let Some((entry, responder)) = entries.try_next().await? {
            let verdict = match entry.payload {
                Payload::Blank => Ok(Outcome::Done),
                Payload::Membership(members) => {
                    self.members = StoredMembers::new(Some(entry.log_id), members);
                    Ok(Outcome::Done)
                }
                Payload::Normal(command) => {
                    let verdict = apply(&mut self.image, &command);
                    if let Err(rejected) = &verdict {
                        tracing::debug!(index = entry.log_id.index, %command, %rejected, "rejected");
                        self.metrics.commands_rejected.inc();
                    }
                    changed |= verdict.is_ok();
                    self.metrics.commands_applied.inc();
                    verdict
                }
            };
            self.applied = Some(entry.log_id);
            answers.extend(responder.map(|responder| (responder, verdict)));
        }
        if changed {
            self.publish();
        }
        for (responder, verdict) in answers {
            responder.send(verdict);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder {
            image: self.image.clone(),
            applied: self.applied,
            members: self.members.clone(),
            snapshots: self.snapshots.clone(),
        }
    }

    async fn install_snapshot(&mut self, meta: &Meta, snapshot: Bytes) -> io::Result<()> {
        let invalid = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
        let file = codec::decode_snapshot(&snapshot).map_err(|error| invalid(error.to_string()))?;
        if meta.last_log_id != file.applied || meta.last_membership != file.members {
            return Err(invalid("a metadata snapshot is not the one that was announced".to_owned()));
        }
        self.snapshots.save_bytes(file.index(), snapshot).await?;
        self.image = file.image;
        self.applied = file.applied;
        self.members = file.members;
        self.publish();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Whole>> {
        let snapshots = self.snapshots.clone();
        let current = blocking(move || snapshots.current()).await?;
        Ok(current.map(|(snapshot, (last_log_id, last_membership))| Whole {
            meta: Meta { last_log_id, last_membership },
            snapshot,
        }))
    }
}

/// An image on its way to a file.
pub(crate) struct Builder {
    image: Image,
    applied: Option<LogId>,
    members: StoredMembers,
    snapshots: Snapshots,
}

impl RaftSnapshotBuilder<Types> for Builder {
    type SnapshotData = Bytes;

    async fn build_snapshot(&mut self) -> io::Result<Whole> {
        let applied = self.applied;
        let members = self.members.clone();
        let meta = Meta { last_log_id: applied, last_membership: members.clone() };
        let file = SnapshotFile { applied, members, image: self.image.clone() };
        let snapshot = self.snapshots.save(file).await?;
        Ok(Whole { meta, snapshot })
    }
}
