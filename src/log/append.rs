//! Appends: judge, place, write, note. The hot path.
//!
//! All that needs no state (parsing, checksum, framing) happens before the lock is taken. Under it: one look at the producer,
//! one vectored write to the page cache (the patched header from the stack, the rest by reference) and a few numbers. No byte
//! of a record is copied, and nothing is allocated but an index entry now and then.
//!
//! A write that fails leaves nothing: without space the partial batch is cut back and the append refused; any other error ends
//! the log dir.

use std::io::{self, IoSlice};
use std::sync::Arc;

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{BatchError, BatchHeader, ByteCount, LeaderEpoch, Offset, Timestamp};
use aquifer_runtime::files::File;
use bytes::Bytes;

use super::config::LogConfig;
use super::error::{AppendError, Corruption, FollowerAppendError, is_exhausted};
use super::handle::Log;
use super::producers::{Marker, Verdict};
use super::segment::marker_in;
use super::state::{Condition, Cuts, State};
use super::validate::{Origin, must_expand, validate};
use crate::config::{Durability, TimestampType};

/// What a leader appends.
#[derive(Debug, Clone)]
pub struct Append {
    /// One record batch, as the producer sent it; its base offset and leader epoch mean nothing.
    pub records: Bytes,
    /// The leader's epoch, at least the log's newest.
    pub epoch: LeaderEpoch,
    /// Who sends it.
    pub origin: Origin,
}

/// Where an append's records lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Offset of the first record.
    pub base: Offset,
    /// Offset of the last record; the log ended behind it.
    pub last: Offset,
    /// When they arrived, for a topic of `LogAppendTime`.
    pub log_append_time: Option<Timestamp>,
    /// Whether this append wrote them.
    pub outcome: Outcome,
    /// The log start offset.
    pub log_start: Offset,
    /// Of the log, when this was in it.
    pub cuts: Cuts,
}

/// Whether bytes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// They were.
    Written,
    /// An idempotent producer had sent the same batch before: the offsets are those of then.
    Duplicate,
}

/// Why nothing was written.
pub(super) enum Refusal {
    Full,
    Failed,
    Corrupt(Corruption),
    Closed,
}

impl From<Refusal> for AppendError {
    fn from(refusal: Refusal) -> AppendError {
        match refusal {
            Refusal::Full => AppendError::Full,
            Refusal::Failed => AppendError::Failed,
            Refusal::Corrupt(corruption) => AppendError::Corrupt(corruption),
            Refusal::Closed => AppendError::Closed,
        }
    }
}

impl From<Refusal> for FollowerAppendError {
    fn from(refusal: Refusal) -> FollowerAppendError {
        match refusal {
            Refusal::Full => FollowerAppendError::Full,
            Refusal::Failed => FollowerAppendError::Failed,
            Refusal::Corrupt(corruption) => FollowerAppendError::Corrupt(corruption),
            Refusal::Closed => FollowerAppendError::Closed,
        }
    }
}

impl Log {
    /// Appends one batch as the leader. On return it is in the page cache; [`Log::synced`] tells when it is on the device.
    /// Takes a few microseconds, unless the batch must be expanded ([`Log::append_away`]), so it may run on a thread that serves.
    pub fn append(&self, append: Append) -> Result<Appended, AppendError> {
        let Append { records, epoch, origin } = append;
        let config = self.config();
        let now = self.now();
        let mut header = validate(&records, origin, &config, now)?;
        let marker = marker_in(&header, &records);
        let mut state = self.state.lock();
        self.check_writable(&state)?;
        if let Some(current) = state.tail.epochs.latest().filter(|current| *current > epoch) {
            return Err(AppendError::StaleEpoch { current, found: epoch });
        }
        let arrival =
            |timestamp| (config.timestamp_type == TimestampType::LogAppendTime).then_some(timestamp);
        let (log_start, cuts) = (state.log_start, state.cuts);
        match state.tail.producers.judge(&header) {
            Verdict::New => {}
            Verdict::Duplicate { base, last, timestamp } => {
                self.shared.metrics.duplicate_batches.inc();
                let outcome = Outcome::Duplicate;
                let log_append_time = arrival(timestamp);
                return Ok(Appended { base, last, log_append_time, outcome, log_start, cuts });
            }
            refused => return Err(sequence_error(&header, refused)),
        }
        header.place(state.tail.end, epoch);
        self.make_room(&mut state, &config, &header, now)?;
        let position = state.tail.bytes;
        let head = header.to_bytes();
        let slices = &mut [IoSlice::new(&head), IoSlice::new(&records[HEADER_BYTES..])];
        let file = self.write(&state, position, slices)?;
        self.note(&mut state, &config, &header, marker, now);
        self.written(&mut state, &config, &file, 1, header.size() as u64);
        let (base, last) = (header.base_offset, header.last_offset());
        let (log_append_time, outcome) = (arrival(now), Outcome::Written);
        Ok(Appended { base, last, log_append_time, outcome, log_start, cuts })
    }

    /// The same, for batches of any kind: one that must be expanded is looked into away from the threads that serve, a few at a
    /// time.
    pub async fn append_away(self: &Arc<Self>, append: Append) -> Result<Appended, AppendError> {
        if !must_expand(&append.records, &self.config()) {
            return self.append(append);
        }
        self.expanding(move |log| log.append(append)).await
    }

    /// Appends what a leader sent: whole batches that continue this log exactly, with their offsets and epochs; in a log that is
    /// compacted, or was, with gaps where its leader has some. On an error the
    /// batches before the refused one may be in the log, whole. Blocks where there are gaps that the log did not know of: that
    /// there may be some has to be durable before they are.
    pub fn append_as_follower(&self, records: &Bytes) -> Result<Appended, FollowerAppendError> {
        let config = self.config();
        let now = self.now();
        let mut headers = Vec::new();
        let mut position = 0;
        while position < records.len() {
            let header = BatchHeader::parse(&records[position..])?;
            header.verify(&records[position..])?;
            headers.push((position, header));
            position += header.size();
        }
        let (Some((_, first)), Some((_, last))) = (headers.first(), headers.last()) else {
            return Err(BatchError::Short.into());
        };
        let (base, last) = (first.base_offset, last.last_offset());
        let mut state = self.state.lock();
        self.check_writable(&state)?;
        let gaps_below = check_lineage(&state, &headers)?;
        if gaps_below > state.compacted.gaps_below {
            drop(state);
            self.expect_gaps(gaps_below)?;
            state = self.state.lock();
            // It may have been cut meanwhile.
            self.check_writable(&state)?;
            check_lineage(&state, &headers)?;
            state.compacted.gaps_below = state.compacted.gaps_below.max(gaps_below);
        }
        let mut left = &headers[..];
        while let Some((from, first)) = left.first() {
            self.make_room(&mut state, &config, first, now)?;
            let run = self.run_within_segment(&state, &config, left);
            let to = left.get(run).map_or(records.len(), |(position, _)| *position);
            let bytes = &records[*from..to];
            let position = state.tail.bytes;
            let file = self.write(&state, position, &mut [IoSlice::new(bytes)])?;
            for (position, header) in &left[..run] {
                let marker = marker_in(header, &records[*position..*position + header.size()]);
                self.note(&mut state, &config, header, marker, now);
            }
            self.written(&mut state, &config, &file, run as u64, bytes.len() as u64);
            left = &left[run..];
        }
        let (outcome, log_start, cuts) = (Outcome::Written, state.log_start, state.cuts);
        Ok(Appended { base, last, log_append_time: None, outcome, log_start, cuts })
    }

    /// How many of `headers` go into the open segment; at least the first, for which there is room.
    fn run_within_segment(
        &self,
        state: &State,
        config: &LogConfig,
        headers: &[(usize, BatchHeader)],
    ) -> usize {
        let mut bytes = state.tail.bytes;
        let fits = |(_, header): &&(usize, BatchHeader)| {
            bytes += header.size() as u64;
            bytes <= config.segment_bytes.get() && state.tail.reaches(header.last_offset())
        };
        headers.iter().take_while(fits).count().max(1)
    }

    pub(super) fn check_writable(&self, state: &State) -> Result<(), Refusal> {
        if self.shared.health.has_failed() {
            return Err(Refusal::Failed);
        }
        match &state.condition {
            Condition::Open => Ok(()),
            Condition::Corrupt(corruption) => Err(Refusal::Corrupt(corruption.clone())),
            Condition::Closed => Err(Refusal::Closed),
        }
    }

    /// Closes the open segment if the batch should start a new one. One behind a gap that no index reaches over starts one that
    /// begins with it, and leaves an empty one before.
    fn make_room(
        &self,
        state: &mut State,
        config: &LogConfig,
        batch: &BatchHeader,
        now: Timestamp,
    ) -> Result<(), Refusal> {
        if state.tail.bytes > 0 && self.is_due(state, config, batch, now) {
            self.roll_locked(state, config, now)?;
        }
        if state.tail.bytes == 0 && !state.tail.reaches(batch.last_offset()) {
            state.tail.end = batch.base_offset;
            self.roll_locked(state, config, now)?;
        }
        Ok(())
    }

    /// Whether the open segment has to be closed before this batch.
    fn is_due(&self, state: &State, config: &LogConfig, batch: &BatchHeader, now: Timestamp) -> bool {
        let tail = &state.tail;
        let running = &tail.builder.running;
        let waited = match running.timestamp_first {
            Some(first) if batch.max_timestamp() != Timestamp::NONE => batch.max_timestamp().since(first),
            _ => running.since.map_or(std::time::Duration::ZERO, |since| now.since(since)),
        };
        tail.bytes + batch.size() as u64 > config.segment_bytes.get()
            || waited > config.segment_ms.saturating_sub(state.jitter)
            || tail.builder.is_full(config.segment_index_bytes)
            || !tail.reaches(batch.last_offset())
    }

    /// Writes at the open segment's end.
    fn write(&self, state: &State, position: u64, slices: &mut [IoSlice<'_>]) -> Result<File, Refusal> {
        let health = &self.shared.health;
        let refuse = |operation: &str, error: &io::Error| {
            if is_exhausted(error) {
                self.shared.metrics.refused_full.inc();
                return Refusal::Full;
            }
            health.fail(state.active.path(), operation, error);
            Refusal::Failed
        };
        let file = self.shared.files.get(&state.active).map_err(|error| refuse("open of", &error))?;
        if let Err(error) = file.write_all_at(position, slices) {
            let refusal = refuse("write to", &error);
            // Part of the batch may have been written; nothing must be left behind the end.
            if let Err(error) = file.set_size(ByteCount(position)) {
                health.fail(state.active.path(), "cut of", &error);
                return Err(Refusal::Failed);
            }
            // The cut is a write, too: until it is synced a power cut may bring the part back, behind the end of what may be a
            // closed segment by then.
            self.sync.note_cut_back(state.tail.base, &file);
            return Err(refusal);
        }
        Ok(file)
    }

    fn note(
        &self,
        state: &mut State,
        config: &LogConfig,
        header: &BatchHeader,
        marker: Option<Marker>,
        now: Timestamp,
    ) {
        state.tail.note(header, marker, config.index_interval_bytes, now);
        let options = &self.shared.options;
        let producers = &mut state.tail.producers;
        let max = options.producer_ids_max.min(state.producer_share.settle(producers.len()));
        if producers.len() > max {
            let forgotten = producers.forget(now, self.shared.producer_id_expiration(), max);
            self.shared.metrics.forgotten_producers.inc_by(forgotten as u64);
            let _room_for_these = state.producer_share.settle(producers.len());
        }
    }

    /// Tells the committer of bytes written.
    fn written(&self, state: &mut State, config: &LogConfig, file: &File, batches: u64, bytes: u64) {
        self.sync.note_written(state.tail.base, file, state.tail.bytes, state.tail.end);
        if let Some(sound) = file.sound() {
            sound.add_written(state.tail.bytes - bytes..state.tail.bytes);
        }
        self.shared.metrics.appended_batches.inc_by(batches);
        self.shared.metrics.appended_bytes.inc_by(bytes);
        state.uncaptured.add(bytes);
        let due = state.uncaptured.is_due(&self.shared.options);
        if due {
            self.capture(state);
        }
        if config.durability == Durability::Fsync {
            self.shared.committer.request(&self.sync);
        } else if due {
            self.shared.committer.request_settled(&self.sync);
        }
    }
}

fn sequence_error(header: &BatchHeader, verdict: Verdict) -> AppendError {
    let producer = header.producer().expect("only a producer's batch is refused for its sequence");
    match verdict {
        Verdict::OutOfOrder { expected } => {
            AppendError::OutOfOrderSequence { producer: producer.id, expected, found: producer.base_sequence }
        }
        Verdict::Fenced { current } => {
            AppendError::ProducerFenced { producer: producer.id, current, found: producer.epoch }
        }
        Verdict::New | Verdict::Duplicate { .. } => unreachable!("these are no refusals"),
    }
}

/// Offsets must continue, and epochs never go back. Gives where the last gap ends, if there are any that the log does not know of.
fn check_lineage(state: &State, headers: &[(usize, BatchHeader)]) -> Result<Offset, FollowerAppendError> {
    let mut expected = state.tail.end;
    let mut current = state.tail.epochs.latest();
    let mut gaps_below = Offset::ZERO;
    for (_, header) in headers {
        let found = header.base_offset;
        let may_be_gap = state.compacted.is_or_was() && found > expected;
        if found != expected && !may_be_gap {
            return Err(FollowerAppendError::Gap { expected, found });
        }
        if may_be_gap {
            gaps_below = gaps_below.max(found);
        }
        if header.leader_epoch.is_none() || header.leader_epoch < current {
            return Err(FollowerAppendError::EpochBackwards { current, found: header.leader_epoch });
        }
        expected = header.next_offset();
        current = header.leader_epoch;
    }
    Ok(gaps_below)
}
