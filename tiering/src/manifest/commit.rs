//! The one place that writes versions: claim, commit, settle.
//!
//! A version is created, never overwritten. A create that did not plainly succeed (the key is taken, or no answer came) is settled
//! by reading that version: it carries my write uuid, or a rival's, or it is not there and the same bytes are sent again. A
//! writer never sends other bytes while a create of its own is unsettled: a write that is dropped half-way (its task was
//! cancelled, the store is away) stays *pending*, and is settled before anything else.
//!
//! Who finds another's version where its own should go is *fenced*: it may not write again under this claim, nor claim again
//! with it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{Offset, OffsetRange, TopicPartition};
use aquifer_runtime::planted::{self, Planted};
use bytes::Bytes;
use tokio::time::Instant;

use super::invariants::{self, Breach};
use super::load::{self, ManifestError};
use super::view::View;
use super::{Claim, Manifest, ManifestVersion};
use crate::path::{self, Key};
use crate::store::{Sent, Store, StoreError};

/// How often a claim may lose the race for a version to claims that it outranks.
const CLAIM_RACES_MAX: usize = 100;

/// Another writer holds the partition. Drop the claim; only a higher epoch may claim again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("fenced by {by}")]
pub struct Fenced {
    /// Who.
    pub by: Claim,
}

/// Why a claim was not won.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ClaimError {
    /// Somebody else's is higher, or was equal and first. Final.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The topic was deleted. Final.
    #[error("the partition was deleted")]
    Deleted,
    /// Try again.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// Why a commit failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    /// Somebody else holds the partition. Final.
    #[error(transparent)]
    Fenced(#[from] Fenced),
    /// The change would break the manifest; nothing was written.
    #[error("the change is refused: {0}")]
    Invalid(#[from] Breach),
    /// An earlier write of this process was found in its place. The newer manifest is known now: make the change anew.
    #[error("version {0} was there already")]
    Superseded(ManifestVersion),
    /// Not known to be committed; it is settled before the next commit. Try again.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
}

/// What a committed manifest holds. Only a commit or a load of a manifest makes one: local data may be dropped for what it
/// covers, and for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TieredUpTo {
    partition: TopicPartition,
    version: ManifestVersion,
    log_start: Offset,
    held: Option<OffsetRange>,
    end: Offset,
}

impl TieredUpTo {
    fn by(manifest: &Manifest) -> TieredUpTo {
        let end = manifest.end.unwrap_or(manifest.log_start);
        TieredUpTo {
            partition: manifest.partition,
            version: manifest.version,
            log_start: manifest.log_start,
            held: manifest.first().map(|base| OffsetRange { base, next: end }),
            end,
        }
    }

    /// Whose.
    pub fn partition(&self) -> TopicPartition {
        self.partition
    }

    /// By which version.
    pub fn version(&self) -> ManifestVersion {
        self.version
    }

    /// The first offset that may be read.
    pub fn log_start(&self) -> Offset {
        self.log_start
    }

    /// Behind the last tiered record.
    pub fn end(&self) -> Offset {
        self.end
    }

    /// Whether all of a range that may still be read is in the bucket.
    pub fn covers(&self, range: OffsetRange) -> bool {
        let base = range.base.max(self.log_start);
        range.next <= base || self.held.is_some_and(|held| held.base <= base && range.next <= held.next)
    }
}

/// The proof that a manifest gives which was read or committed.
pub(crate) fn proof_of(manifest: &Manifest) -> TieredUpTo {
    TieredUpTo::by(manifest)
}

/// The right to write one partition's manifest.
#[derive(Debug)]
pub struct ManifestWriter {
    store: Store,
    view: Arc<View>,
    claim: Claim,
    deadline: Duration,
    newest: Arc<Manifest>,
    /// Since when each object that waits for the end of its grace is known to be named no longer.
    removed_since: HashMap<Key, Instant>,
    pending: Option<Pending>,
    fenced: Option<Fenced>,
    doubt: bool,
}

/// A create whose outcome is not known.
#[derive(Debug, Clone)]
struct Pending {
    manifest: Arc<Manifest>,
    bytes: Bytes,
}

impl Pending {
    /// A version with a write uuid of its own.
    fn signed(store: &Store, draft: Manifest) -> Result<Pending, ManifestError> {
        let draft = Manifest { write: store.world().rng.uuid(), ..draft };
        invariants::check(&draft).map_err(|source| invalid(&draft, source))?;
        Ok(Pending::new(draft))
    }

    fn new(manifest: Manifest) -> Pending {
        let bytes = Bytes::from(manifest.encode());
        Pending { manifest: Arc::new(manifest), bytes }
    }
}

/// What a settled create came to.
enum Settled {
    Mine,
    Other(Arc<Manifest>),
}

impl ManifestWriter {
    /// Claims a partition. A repeated claim of this process resumes where the first one stands.
    pub async fn claim(
        store: Store,
        view: Arc<View>,
        claim: Claim,
        deadline: Duration,
    ) -> Result<ManifestWriter, ClaimError> {
        let mut races = 0;
        loop {
            let newest = view.refresh().await?;
            let draft = match &newest {
                Some(newest) => match after(newest, claim)? {
                    Some(draft) => draft,
                    None => return Ok(ManifestWriter::holding(store, view, claim, deadline, newest.clone())),
                },
                None => Manifest::first_of(view.partition(), claim),
            };
            let pending = Pending::signed(&store, draft)?;
            // Lost to a rival or to time: the next look says whether what is newest outranks this claim.
            let stood = stands(&store, &view, &pending, deadline).await?;
            match stood {
                Stood::Newest => {
                    return Ok(ManifestWriter::holding(store, view, claim, deadline, pending.manifest));
                }
                Stood::Lost(_) if races < CLAIM_RACES_MAX => races += 1,
                Stood::Lost(by) => return Err(Fenced { by }.into()),
            }
        }
    }

    /// Claims a partition and writes its last version in one, so that no half of it can be left. Whoever finds it deleted is
    /// content.
    pub async fn delete(
        store: &Store,
        view: &View,
        claim: Claim,
        deadline: Duration,
    ) -> Result<(), ClaimError> {
        let mut races = 0;
        loop {
            let draft = match view.refresh().await? {
                Some(newest) if newest.is_deleted() => return Ok(()),
                Some(newest) => match after(&newest, claim)? {
                    Some(draft) => draft.deleted(),
                    None => newest.next_version(newest.write).deleted(),
                },
                None => Manifest::first_of(view.partition(), claim).deleted(),
            };
            let pending = Pending::signed(store, draft)?;
            match stands(store, view, &pending, deadline).await? {
                Stood::Newest => return Ok(()),
                Stood::Lost(_) if races < CLAIM_RACES_MAX => races += 1,
                Stood::Lost(by) => return Err(Fenced { by }.into()),
            }
        }
    }

    fn holding(
        store: Store,
        view: Arc<View>,
        claim: Claim,
        deadline: Duration,
        newest: Arc<Manifest>,
    ) -> ManifestWriter {
        view.note(newest.clone());
        view.set_written_here(true);
        let (removed_since, pending, fenced) = (HashMap::new(), None, None);
        let mut writer = ManifestWriter {
            store,
            view,
            claim,
            deadline,
            newest: newest.clone(),
            removed_since,
            pending,
            fenced,
            doubt: false,
        };
        writer.adopt(newest);
        writer
    }

    /// The newest committed version.
    pub fn newest(&self) -> &Arc<Manifest> {
        &self.newest
    }

    /// Under which claim.
    pub fn claimed(&self) -> Claim {
        self.claim
    }

    /// What the newest committed version proves.
    pub fn proof(&self) -> TieredUpTo {
        TieredUpTo::by(&self.newest)
    }

    /// This version is committed, and what it says counts from now.
    fn adopt(&mut self, newest: Arc<Manifest>) {
        let now = self.store.world().clock.now();
        let mut known = std::mem::take(&mut self.removed_since);
        let removed = newest.removed().iter().map(|removed| removed.object.clone());
        self.removed_since = removed
            .map(|object| {
                let since = known.remove(&object).unwrap_or(now);
                (object, since)
            })
            .collect();
        self.newest = newest;
    }

    /// How long at least an object has been named by no committed version. A version may have been made long before it could be
    /// committed, so that the time in it says too much.
    pub(crate) fn removed_for(&self, object: &Key) -> Duration {
        let now = self.store.world().clock.now();
        self.removed_since.get(object).map_or(Duration::ZERO, |since| now.duration_since(*since))
    }

    /// An object was written under this claim that an earlier request may write again, later.
    pub(crate) fn note_sent(&mut self, sent: Sent) {
        self.doubt |= sent == Sent::Repeatedly;
    }

    /// Whether there was such an object since the last call.
    pub(crate) fn take_doubt(&mut self) -> bool {
        std::mem::take(&mut self.doubt)
    }

    /// Settles what an earlier commit has left open. After it, [`ManifestWriter::newest`] is what changes build on.
    pub async fn settle_pending(&mut self) -> Result<(), CommitError> {
        if let Some(fenced) = self.fenced {
            return Err(fenced.into());
        }
        let Some(pending) = self.pending.clone() else {
            return Ok(());
        };
        match settle(&self.store, &pending, self.deadline).await? {
            Settled::Mine => {
                self.pending = None;
                self.adopt(pending.manifest.clone());
                self.view.note(pending.manifest);
                Ok(())
            }
            Settled::Other(found) => {
                self.pending = None;
                self.collided(found)
            }
        }
    }

    /// Writes a change, made to [`ManifestWriter::newest`], as the next version.
    pub async fn commit(&mut self, draft: Manifest) -> Result<TieredUpTo, CommitError> {
        self.settle_pending().await?;
        let mut next = draft.next_version(self.store.world().rng.uuid());
        next.claim = self.claim;
        if draft.version != self.newest.version {
            return Err(CommitError::Superseded(self.newest.version));
        }
        invariants::check(&next)?;
        invariants::check_step(&self.newest, &next)?;
        // Pending before it is sent: whoever drops this future midway leaves it to be settled.
        self.pending = Some(Pending::new(next));
        self.settle_pending().await?;
        Ok(self.proof())
    }

    /// Another version lies where this writer's should go.
    fn collided(&mut self, found: Arc<Manifest>) -> Result<(), CommitError> {
        self.view.note(found.clone());
        if found.claim == self.claim || planted::is(Planted::ClaimUnchecked) {
            // An earlier writer of this very process and epoch, dropped in the middle of a commit.
            let version = found.version;
            self.adopt(found);
            return Err(CommitError::Superseded(version));
        }
        let fenced = Fenced { by: found.claim };
        tracing::warn!(partition = %self.view.partition(), claim = %self.claim, by = %fenced.by, "fenced");
        self.fenced = Some(fenced);
        self.view.set_written_here(false);
        Err(fenced.into())
    }
}

impl Drop for ManifestWriter {
    fn drop(&mut self) {
        self.view.set_written_here(false);
    }
}

/// The version that claims what `newest` leaves; `None` if it carries this very claim.
pub(super) fn after(newest: &Manifest, claim: Claim) -> Result<Option<Manifest>, ClaimError> {
    if newest.is_deleted() {
        return Err(ClaimError::Deleted);
    }
    match newest.claim.rank(&claim) {
        std::cmp::Ordering::Less => Ok(Some(newest.claimed_by(claim))),
        std::cmp::Ordering::Equal if newest.claim == claim => Ok(None),
        _ if planted::is(Planted::ClaimUnchecked) => Ok(Some(newest.claimed_by(claim))),
        _ => Err(Fenced { by: newest.claim }.into()),
    }
}

fn invalid(manifest: &Manifest, source: Breach) -> ManifestError {
    let key = path::manifest(manifest.partition, manifest.version.0).to_string();
    ManifestError::Invalid { key, source }
}

/// What a claim's first version came to.
enum Stood {
    Newest,
    Lost(Claim),
}

/// Creates a claim's first version, and makes sure that it is the newest. Whoever was held up between the look at the newest
/// version and the create may have filled the hole that a superseded and removed version has left: that claims nothing, and
/// what lies there is swept like any other superseded version. (A holder cannot meet such a hole: the versions next to a claim
/// stay.)
async fn stands(
    store: &Store,
    view: &View,
    pending: &Pending,
    deadline: Duration,
) -> Result<Stood, ManifestError> {
    if let Settled::Other(rival) = settle(store, pending, deadline).await? {
        return Ok(Stood::Lost(rival.claim));
    }
    let newest = view.refresh().await?;
    let newest = newest.as_deref().unwrap_or(&pending.manifest);
    if newest.version == pending.manifest.version { Ok(Stood::Newest) } else { Ok(Stood::Lost(newest.claim)) }
}

/// Creates a version, or finds out what became of it. The same bytes are sent until they or others are there.
async fn settle(store: &Store, pending: &Pending, deadline: Duration) -> Result<Settled, ManifestError> {
    let (partition, version) = (pending.manifest.partition, pending.manifest.version);
    let key = path::manifest(partition, version.0);
    let until = store.world().clock.now() + deadline;
    loop {
        let error = match store.put_new(&key, pending.bytes.clone()).await {
            Ok(()) => return Ok(Settled::Mine),
            Err(_) if planted::is(Planted::ManifestCreateRetried) => {
                store.put(&key, vec![pending.bytes.clone()]).await.map_err(ManifestError::from)?;
                return Ok(Settled::Mine);
            }
            Err(error @ (StoreError::AlreadyExists { .. } | StoreError::Indeterminate { .. })) => {
                match load::version(store, partition, version).await? {
                    Some(found) if found.write == pending.manifest.write => {
                        store.harden(&key).await.map_err(ManifestError::from)?;
                        return Ok(Settled::Mine);
                    }
                    Some(found) => return Ok(Settled::Other(found)),
                    None => error,
                }
            }
            Err(error) if error.is_transient() => error,
            Err(error) => return Err(error.into()),
        };
        let pause = store.world().rng.jittered(SETTLE_PAUSE);
        if store.world().clock.now() + pause >= until {
            return Err(error.into());
        }
        tokio::time::sleep(pause).await;
    }
}

/// Between two looks at a version that is neither there nor could be written.
const SETTLE_PAUSE: Duration = Duration::from_millis(200);
