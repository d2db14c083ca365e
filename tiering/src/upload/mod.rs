//! A sealed segment's way into the bucket: verify, send, name.
//!
//! One path for every segment. Data first, then the manifest: a crash in between leaves an orphan, which the claim holder's sweep
//! removes; nobody reads it, since nothing names it. What is sent is verified batch by batch on its way, so that local
//! damage is found here and not in ten years.
//!
//! It does not know when a segment is due; see `plan` for which one is, and the caller for when.

/// What goes up next; pure.
pub mod plan;
mod source;

use std::collections::VecDeque;
use std::io;

use aquifer_model::{ByteCount, LeaderEpochs, Offset, OffsetRange, SealedSegment, TopicPartition};
use aquifer_runtime::budget::ByteBudget;
use aquifer_runtime::metrics::{Counter, Registry};
use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;

use crate::manifest::commit::{CommitError, ManifestWriter};
use crate::manifest::load::{ManifestError, Pages};
use crate::manifest::{Claim, Entry, Manifest, TieredUpTo};
use crate::object::scan::{Scan, ScanError, Scanned};
use crate::object::{BLOCK_BYTES, SegmentIndex};
use crate::options::Options;
use crate::path::{self, DataName, Key};
use crate::store::{Multipart, Sent, Store, StoreError};

use source::LogReader;
pub use source::SegmentSource;

/// How often a commit is made anew because an earlier write of this process turned up in its place.
const SUPERSEDED_MAX: usize = 3;

/// Why a segment is not in the bucket.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// The manifest refuses or could not be written; whether to try again is for the inner error to say.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// There is a hole between the tier and this segment.
    #[error("the tier ends at {tiered_end}, the segment starts at {base}")]
    Gap {
        /// Where the tier ends.
        tiered_end: Offset,
        /// Where the segment starts.
        base: Offset,
    },
    /// The tier's end lies within a batch of the segment, or in a hole of it.
    #[error("no batch of the segment {range} starts at the tier's end {tiered_end}")]
    Misaligned {
        /// Where the tier ends.
        tiered_end: Offset,
        /// The segment's.
        range: OffsetRange,
    },
    /// The local bytes are damaged: repair them from a replica, do not upload them.
    #[error("the local log is damaged: {0}")]
    LocalCorrupt(#[from] ScanError),
    /// The local file ends early.
    #[error("the local log ends at {position}, before its {end} bytes")]
    LocalShort {
        /// Where it ends.
        position: u64,
        /// Where it should.
        end: u64,
    },
    /// The local file cannot be read.
    #[error("the local log cannot be read: {0}")]
    LocalRead(io::Error),
    /// The store failed; nothing was named.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ManifestError> for UploadError {
    fn from(error: ManifestError) -> UploadError {
        UploadError::Commit(error.into())
    }
}

/// Counters of uploads. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct UploadMetrics {
    /// Segments named by a manifest.
    pub segments: Counter,
    /// Their logs' bytes.
    pub bytes: Counter,
    /// Attempts that failed.
    pub failures: Counter,
    /// Attempts that found local damage.
    pub corrupt: Counter,
}

impl UploadMetrics {
    /// Shows the counters to the outside.
    pub fn register(&self, registry: &mut Registry) {
        let name = |what: &str| format!("aquifer_tier_{what}");
        registry.register(name("uploaded_segments"), "Segments uploaded and named", self.segments.clone());
        registry.register(name("uploaded_bytes"), "Log bytes uploaded and named", self.bytes.clone());
        registry.register(name("upload_failures"), "Uploads that failed", self.failures.clone());
        registry.register(name("upload_corrupt"), "Uploads refused for local damage", self.corrupt.clone());
    }
}

/// Uploads; shared by all partitions, whose memory it bounds together.
#[derive(Debug)]
pub struct Uploader {
    store: Store,
    options: Options,
    budget: ByteBudget,
    metrics: UploadMetrics,
}

/// The part of a segment that the tier does not have.
struct Cut {
    range: OffsetRange,
    position: u64,
    end: u64,
    epochs: LeaderEpochs,
}

impl Uploader {
    /// Uploads to this store.
    pub fn new(store: Store, options: Options, metrics: UploadMetrics) -> Uploader {
        let budget = ByteBudget::new(options.upload_memory);
        Uploader { store, options, budget, metrics }
    }

    /// Uploads what the tier does not have of a segment, and names it. The proof is that of the commit; it is also given if
    /// there was nothing to do.
    pub async fn upload(
        &self,
        writer: &mut ManifestWriter,
        source: SegmentSource,
    ) -> Result<TieredUpTo, UploadError> {
        let outcome = self.try_upload(writer, source).await;
        match &outcome {
            Ok(_) => return outcome,
            Err(UploadError::LocalCorrupt(_) | UploadError::LocalShort { .. }) => self.metrics.corrupt.inc(),
            Err(_) => self.metrics.failures.inc(),
        };
        outcome
    }

    async fn try_upload(
        &self,
        writer: &mut ManifestWriter,
        source: SegmentSource,
    ) -> Result<TieredUpTo, UploadError> {
        writer.settle_pending().await?;
        let manifest = writer.newest().clone();
        let Some(cut) = cut(&manifest, &source).await? else {
            return Ok(writer.proof());
        };
        let name = fresh_name(&self.store, cut.range.base, writer.claimed());
        let key = path::data_object(manifest.partition(), &name);
        let (entry, sent) = self.send(manifest.partition(), &name, key, cut, source).await?;
        writer.note_sent(sent);
        let bytes = entry.segment.log_bytes;
        let proof = self.name(writer, entry).await?;
        self.metrics.segments.inc();
        self.metrics.bytes.inc_by(bytes.get());
        Ok(proof)
    }

    /// Uploads a segment that is in the bucket already, but damaged, and names the new object in the place of the old one, which
    /// goes after its grace. `None` if the source is not of that segment, or the manifest names it no longer.
    pub async fn replace(
        &self,
        writer: &mut ManifestWriter,
        pages: &Pages,
        source: SegmentSource,
        damaged: &Entry,
    ) -> Result<Option<TieredUpTo>, UploadError> {
        writer.settle_pending().await?;
        let Some(cut) = cut_of(&source, damaged.range()).await? else { return Ok(None) };
        let partition = writer.newest().partition();
        let name = fresh_name(&self.store, cut.range.base, writer.claimed());
        // Nothing is sent that could not take the place: each attempt would leave an object that nothing names.
        let scanned = self.reader(&cut, &source).read_through().await?;
        let index = describe(partition, &name, &cut, source.clone(), scanned);
        if !is_same(&index.segment, index.log_crc, damaged) {
            return Ok(None);
        }
        let key = path::data_object(partition, &name);
        let (fresh, sent) = self.send(partition, &name, key, cut, source).await?;
        writer.note_sent(sent);
        if !is_same(&fresh.segment, fresh.log_crc, damaged) {
            // The file has changed since it was scanned. It is an orphan, and swept like one.
            return Ok(None);
        }
        let fresh = Entry { generation: damaged.generation, tags: damaged.tags.clone(), ..fresh };
        self.name_instead(writer, pages, &damaged.object, fresh).await
    }

    async fn name_instead(
        &self,
        writer: &mut ManifestWriter,
        pages: &Pages,
        damaged: &Key,
        fresh: Entry,
    ) -> Result<Option<TieredUpTo>, UploadError> {
        let now = self.store.clock().await?;
        let mut superseded = 0;
        loop {
            let manifest = writer.newest().clone();
            let next = match manifest.with_replaced(damaged, fresh.clone(), now) {
                Some(next) => next,
                None => {
                    let page = manifest.pages().iter().find(|page| page.range.contains(fresh.range().base));
                    let Some(page) = page else { return Ok(None) };
                    let entries = pages.get(manifest.partition(), page).await?;
                    let key = fresh_page(&self.store, &manifest, writer.claimed());
                    let replaced =
                        manifest.with_replaced_paged(page, &entries, damaged, fresh.clone(), (key, now));
                    let Some((next, page)) = replaced else { return Ok(None) };
                    writer.note_sent(self.store.put(&page.object, vec![page.bytes]).await?);
                    next
                }
            };
            match writer.commit(next).await {
                Err(CommitError::Superseded(_)) if superseded < SUPERSEDED_MAX => superseded += 1,
                outcome => return Ok(Some(outcome?)),
            }
        }
    }

    /// Names an uploaded segment, moving old entries into a page where the head has grown too long.
    async fn name(&self, writer: &mut ManifestWriter, entry: Entry) -> Result<TieredUpTo, UploadError> {
        let mut superseded = 0;
        loop {
            let manifest = writer.newest().clone();
            // Already named: by this commit, or the range by an earlier one of this process (then this object is an orphan).
            if manifest.end().is_some_and(|end| end >= entry.range().next) {
                return Ok(writer.proof());
            }
            let gap = |tiered_end| UploadError::Gap { tiered_end, base: entry.range().base };
            let next = manifest.with_entry(entry.clone()).map_err(|error| {
                let crate::manifest::change::ChangeError::NotNext { expected, .. } = error;
                gap(expected)
            })?;
            let page = fresh_page(&self.store, &manifest, writer.claimed());
            let (entries_max, page_entries) =
                (self.options.manifest_entries_max, self.options.manifest_page_entries);
            let (next, page) = next.spilled(entries_max, page_entries, page);
            if let Some(page) = page {
                writer.note_sent(self.store.put(&page.object, vec![page.bytes]).await?);
            }
            match writer.commit(next).await {
                Err(CommitError::Superseded(_)) if superseded < SUPERSEDED_MAX => superseded += 1,
                outcome => return Ok(outcome?),
            }
        }
    }

    async fn send(
        &self,
        partition: TopicPartition,
        name: &DataName,
        key: Key,
        cut: Cut,
        source: SegmentSource,
    ) -> Result<(Entry, Sent), UploadError> {
        let log_bytes = cut.end - cut.position;
        let reader = self.reader(&cut, &source);
        let describe = |scanned: Scanned| describe(partition, name, &cut, source.clone(), scanned);
        let single = log_bytes <= self.options.upload_multipart_threshold.get();
        let (index, tail_bytes, sent) = if single {
            self.send_whole(&key, reader, log_bytes, describe).await?
        } else {
            let (index, tail_bytes) = self.send_parts(&key, reader, describe).await?;
            // An upload in parts is completed once: a request that comes later finds none.
            (index, tail_bytes, Sent::Once)
        };
        let image_bytes = index.segment.log_bytes + ByteCount(tail_bytes as u64);
        Ok((Entry::new(index.segment, key, image_bytes, index.log_crc), sent))
    }

    fn reader(&self, cut: &Cut, source: &SegmentSource) -> LogReader {
        let scan = Scan::new(cut.range, cut.epochs.clone(), self.options.index_interval);
        LogReader::new(source.log.clone(), cut.position, cut.end, scan)
    }

    /// One request. Its bytes are held until it ends.
    async fn send_whole(
        &self,
        key: &Key,
        reader: LogReader,
        log_bytes: u64,
        describe: impl FnOnce(Scanned) -> SegmentIndex,
    ) -> Result<(SegmentIndex, usize, Sent), UploadError> {
        let _held = self.budget.take(ByteCount(log_bytes)).await;
        let bytes = usize::try_from(log_bytes).unwrap_or(usize::MAX);
        let (reader, mut pieces) = reader.read(bytes).await?;
        let index = describe(reader.finish()?);
        let tail = index.encode_tail();
        let tail_bytes = tail.len();
        pieces.push(tail.into());
        let sent = self.store.put(key, pieces).await?;
        Ok((index, tail_bytes, sent))
    }

    /// Several requests, a few at once.
    async fn send_parts(
        &self,
        key: &Key,
        reader: LogReader,
        describe: impl FnOnce(Scanned) -> SegmentIndex,
    ) -> Result<(SegmentIndex, usize), UploadError> {
        // All at once and for all of it: parts that each waited for room while others hold it could wait for ever.
        let held_parts = self.options.upload_parts_in_flight as u64 + 2;
        let _held = self.budget.take(ByteCount(held_parts * self.options.upload_part_bytes.get())).await;
        let mut upload = self.store.multipart(key).await?;
        match self.send_parts_of(&mut upload, reader, describe).await {
            Ok((index, tail_bytes)) => {
                let size = index.segment.log_bytes + ByteCount(tail_bytes as u64);
                if let Err(error) = upload.complete().await {
                    self.confirm(key, size, error).await?;
                }
                Ok((index, tail_bytes))
            }
            Err(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    async fn send_parts_of(
        &self,
        upload: &mut Multipart,
        mut reader: LogReader,
        describe: impl FnOnce(Scanned) -> SegmentIndex,
    ) -> Result<(SegmentIndex, usize), UploadError> {
        let part_len = usize::try_from(self.options.upload_part_bytes.get()).unwrap_or(usize::MAX);
        let mut sending = FuturesUnordered::new();
        let mut waiting = Waiting::default();
        loop {
            let (rest, pieces) = reader.read(part_len).await?;
            reader = rest;
            if pieces.is_empty() {
                break;
            }
            waiting.push_all(pieces);
            // A part goes once more than a part waits, so that the last one is never empty.
            if let Some(part) = waiting.take_full(part_len) {
                sending.push(upload.part(part));
            }
            while sending.len() >= self.options.upload_parts_in_flight {
                sending.next().await.transpose()?;
            }
        }
        let index = describe(reader.finish()?);
        let tail = index.encode_tail();
        let tail_bytes = tail.len();
        waiting.push_all(vec![tail.into()]);
        while let Some(sent) = sending.next().await {
            sent?;
        }
        while let Some(part) = waiting.take_full(part_len) {
            upload.part(part).await?;
        }
        upload.part(waiting.take_rest()).await?;
        Ok((index, tail_bytes))
    }

    /// A completion that was not answered: the object is there, or it is not.
    async fn confirm(&self, key: &Key, size: ByteCount, error: StoreError) -> Result<(), UploadError> {
        match self.store.head(key).await {
            Ok(facts) if facts.size == size => Ok(self.store.harden(key).await?),
            _ => Err(error.into()),
        }
    }
}

/// Pieces that wait for a part to be full.
#[derive(Default)]
struct Waiting {
    pieces: VecDeque<Bytes>,
    bytes: usize,
}

impl Waiting {
    fn push_all(&mut self, pieces: Vec<Bytes>) {
        self.bytes += pieces.iter().map(Bytes::len).sum::<usize>();
        self.pieces.extend(pieces);
    }

    /// A part of exactly `part_len`, if more than that waits.
    fn take_full(&mut self, part_len: usize) -> Option<Vec<Bytes>> {
        if self.bytes <= part_len {
            return None;
        }
        let mut part = Vec::new();
        let mut missing = part_len;
        while missing > 0 {
            let mut piece = self.pieces.pop_front()?;
            if piece.len() > missing {
                self.pieces.push_front(piece.split_off(missing));
            }
            missing -= piece.len();
            part.push(piece);
        }
        self.bytes -= part_len;
        Some(part)
    }

    fn take_rest(&mut self) -> Vec<Bytes> {
        self.bytes = 0;
        std::mem::take(&mut self.pieces).into()
    }
}

/// A name that was never used, for what this claim is about to write.
fn fresh_name(store: &Store, base: Offset, claim: Claim) -> DataName {
    let unique = store.world().rng.uuid();
    DataName { base, incarnation: claim.incarnation.0, epoch: claim.epoch, unique }
}

/// The key of a page that this claim is about to write.
pub(crate) fn fresh_page(store: &Store, manifest: &Manifest, claim: Claim) -> Key {
    let name = fresh_name(store, manifest.first().unwrap_or(Offset::ZERO), claim);
    path::page(manifest.partition(), &name)
}

/// Whether a local segment is the one that was uploaded once. When it was sealed here says nothing.
fn is_same(segment: &SealedSegment, log_crc: u32, uploaded: &Entry) -> bool {
    let segment = SealedSegment { sealed_at: uploaded.segment.sealed_at, ..segment.clone() };
    segment == uploaded.segment && log_crc == uploaded.log_crc
}

/// What of the segment is missing in the tier; `None` if nothing is.
async fn cut(manifest: &Manifest, source: &SegmentSource) -> Result<Option<Cut>, UploadError> {
    let SealedSegment { range, log_bytes, ref epochs, .. } = source.segment;
    let whole = || Cut { range, position: 0, end: log_bytes.get(), epochs: epochs.clone() };
    match manifest.end() {
        None => Ok(Some(whole())),
        Some(end) if end == range.base => Ok(Some(whole())),
        Some(end) if end >= range.next => Ok(None),
        Some(tiered_end) if tiered_end < range.base => Err(UploadError::Gap { tiered_end, base: range.base }),
        Some(tiered_end) => {
            let found = source::find_batch(source.log.clone(), log_bytes, tiered_end).await?;
            let position = found.ok_or(UploadError::Misaligned { tiered_end, range })?;
            let range = OffsetRange { base: tiered_end, next: range.next };
            Ok(Some(Cut {
                range,
                position,
                end: log_bytes.get(),
                epochs: epochs.slice(range.base, range.next),
            }))
        }
    }
}

/// The part of a local segment that an object in the bucket holds; `None` if it does not hold all of that, or goes on behind it:
/// the producers that come with it are those at its own end.
async fn cut_of(source: &SegmentSource, range: OffsetRange) -> Result<Option<Cut>, UploadError> {
    let SealedSegment { range: whole, log_bytes, ref epochs, .. } = source.segment;
    if range.next != whole.next || range.base < whole.base {
        return Ok(None);
    }
    let position = match range.base == whole.base {
        true => Some(0),
        false => source::find_batch(source.log.clone(), log_bytes, range.base).await?,
    };
    let epochs = epochs.slice(range.base, range.next);
    Ok(position.map(|position| Cut { range, position, end: log_bytes.get(), epochs }))
}

fn describe(
    partition: TopicPartition,
    name: &DataName,
    cut: &Cut,
    source: SegmentSource,
    scanned: Scanned,
) -> SegmentIndex {
    let SegmentSource { segment, log: _, aborted, producers } = source;
    let overlaps = |txn: &aquifer_model::AbortedTxn| txn.overlaps(cut.range.base, cut.range.next);
    SegmentIndex {
        partition,
        segment: SealedSegment {
            range: cut.range,
            log_bytes: scanned.log_bytes,
            timestamp_max: scanned.timestamp_max,
            sealed_at: segment.sealed_at,
            epochs: cut.epochs.clone(),
        },
        uploader: name.epoch,
        log_crc: scanned.log_crc,
        block_bytes: BLOCK_BYTES,
        block_crcs: scanned.block_crcs,
        offsets: scanned.offsets,
        times: scanned.times,
        aborted: aborted.into_iter().filter(overlaps).collect(),
        producers,
    }
}
