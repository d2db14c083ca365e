//! One connection that fetches: one request in flight, as a plain consumer has it, every batch looked at by its header alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use aquifer_model::batches::{Batches, Tail};
use aquifer_model::{BatchHeader, Offset};
use aquifer_protocol::ErrorCode;
use aquifer_runtime::clock::Clock;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::cli::bench::answers::{self, Fetched};
use crate::cli::bench::fetch_frame::{FetchFrame, FetchOptions};
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::link::{self, Answer, Answers, Requests};
use crate::cli::bench::load::Mark;
use crate::cli::bench::schedule::Window;
use crate::cli::bench::target::Leader;
use crate::cli::cluster::{PATIENCE, Topic};

/// How a connection fetches.
#[derive(Debug, Clone)]
pub(super) struct ReaderOptions {
    pub(super) fetch: FetchOptions,
    /// Whether each batch's checksum is computed.
    pub(super) checks_crc: bool,
    /// Whether offsets may be missing between batches.
    pub(super) allows_gaps: bool,
    /// Looks for batches that say when they were due.
    pub(super) marked: Option<Marked>,
}

/// Batches that say when they were due.
#[derive(Debug, Clone)]
pub(super) struct Marked {
    pub(super) mark: Mark,
    /// What their times count from.
    pub(super) from: Instant,
    pub(super) arrivals: Arc<Arrivals>,
}

/// How many marked batches have come, over all connections.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    seen: AtomicU64,
    changed: Notify,
}

impl Arrivals {
    /// Waits until so many have come.
    pub(super) async fn reach(&self, count: u64) {
        loop {
            let changed = self.changed.notified();
            if self.seen() >= count {
                return;
            }
            changed.await;
        }
    }

    pub(super) fn seen(&self) -> u64 {
        self.seen.load(Ordering::Acquire)
    }

    fn add(&self, count: u64) {
        self.seen.fetch_add(count, Ordering::AcqRel);
        self.changed.notify_waiters();
    }
}

/// A partition being read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Position {
    pub(super) partition: i32,
    pub(super) next: Offset,
    /// Exclusive; `None` reads on.
    pub(super) stop: Option<Offset>,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// When the answer that brought its first batches began to come.
    pub(super) first: Option<Instant>,
    /// When its last batches had come.
    pub(super) last: Option<Instant>,
}

impl Position {
    pub(super) fn new(partition: i32, next: Offset, stop: Option<Offset>) -> Position {
        Position { partition, next, stop, records: 0, bytes: 0, first: None, last: None }
    }

    fn is_done(&self) -> bool {
        self.stop.is_some_and(|stop| self.next >= stop)
    }
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Read {
    /// When the first request was sent.
    pub(super) began: Instant,
    /// Answers with batches that came within the window, as all numbers here but the positions'. Of `end_to_end` it is batches that
    /// were due in it.
    pub(super) fetches: u64,
    /// Answers without.
    pub(super) empty: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// From a request to all of its answer, of those that brought batches.
    pub(super) latencies: Latencies,
    /// From when a batch was due to when it was here.
    pub(super) end_to_end: Latencies,
    pub(super) positions: Vec<Position>,
}

/// A connection that fetches.
#[derive(Debug)]
pub(super) struct Reader {
    clock: Clock,
    requests: Requests,
    answers: Answers,
    topic: Arc<Topic>,
    version: i16,
    options: ReaderOptions,
    /// By partition.
    positions: Vec<Position>,
    read: Read,
}

impl Reader {
    /// Connects to the broker that leads these partitions.
    pub(super) async fn connect(
        clock: Clock,
        leader: &Leader,
        topic: &Arc<Topic>,
        positions: Vec<Position>,
        options: ReaderOptions,
    ) -> anyhow::Result<Reader> {
        let (requests, answers) = link::connect(&leader.address, clock).await?;
        let read = Read {
            began: clock.now(),
            fetches: 0,
            empty: 0,
            batches: 0,
            records: 0,
            bytes: 0,
            latencies: Latencies::new(),
            end_to_end: Latencies::new(),
            positions: Vec::new(),
        };
        let (topic, version) = (topic.clone(), leader.fetch_version);
        let mut positions = positions;
        positions.sort_by_key(|position| position.partition);
        Ok(Reader { clock, requests, answers, topic, version, options, positions, read })
    }

    /// Reads until all positions are at their stop or `end` is there; what comes before or behind the window is not counted.
    pub(super) async fn run(mut self, window: Window, end: impl Future<Output = ()>) -> anyhow::Result<Read> {
        self.read.began = self.clock.now();
        tokio::select! {
            biased;
            outcome = self.read_on(window) => outcome?,
            () = end => {}
        }
        Ok(Read { positions: self.positions, ..self.read })
    }

    async fn read_on(&mut self, window: Window) -> anyhow::Result<()> {
        let patience = Duration::from_millis(self.options.fetch.wait_max_ms.unsigned_abs().into()) + PATIENCE;
        let (mut id, mut came) = (0, self.clock.now());
        loop {
            let left = self.positions.iter().enumerate().filter(|(_, position)| !position.is_done());
            let left: Vec<usize> = left.map(|(at, _)| at).collect();
            if left.is_empty() {
                return Ok(());
            }
            let mut frame = FetchFrame::new(self.version, &self.topic, left.len(), &self.options.fetch)?;
            // Until one of them is done.
            let mut first = 0;
            while left.iter().all(|at| !self.positions[*at].is_done()) {
                for slot in 0..frame.slot_count() {
                    let position = &self.positions[left[(first + slot) % left.len()]];
                    frame.set(slot, position.partition, position.next);
                }
                id = i32::wrapping_add(id, 1);
                frame.set_correlation_id(id);
                let sent = self.clock.now();
                let answer = tokio::time::timeout(patience, self.ask(&frame)).await;
                let answer = answer.with_context(|| format!("no answer within {patience:?}"))??;
                let last = self.take(answer, id, sent, window)?;
                // Whoever came last is last next time.
                if let Some(place) = last.and_then(|last| left.binary_search(&last).ok()) {
                    first = (place + 1) % left.len();
                    came = sent;
                }
                // At the tail there may be nothing for long; before a stop there is something.
                let is_stuck = sent.duration_since(came) > patience;
                if is_stuck && let Some(stuck) = left.iter().find(|at| self.positions[**at].stop.is_some()) {
                    let Position { partition, next, .. } = self.positions[*stuck];
                    bail!("partition {partition}: nothing came from offset {next} on within {patience:?}");
                }
            }
        }
    }

    async fn ask(&mut self, frame: &FetchFrame) -> anyhow::Result<Answer> {
        let part = |index: usize| (index == 0).then(|| frame.bytes());
        while !self.requests.write_some(part).await? {}
        loop {
            if let Some(answer) = self.answers.take()? {
                return Ok(answer);
            }
            self.answers.read_some().await?;
        }
    }

    /// Takes in an answer; gives the last position, by index, that it has batches for.
    fn take(
        &mut self,
        answer: Answer,
        id: i32,
        sent: Instant,
        window: Window,
    ) -> anyhow::Result<Option<usize>> {
        let Answer { body, began } = answer;
        let now = self.clock.now();
        let end_to_end = &mut self.read.end_to_end;
        let mut taking =
            Taking { options: &self.options, window, began, now, end_to_end, taken: Taken::default() };
        let positions = &mut self.positions;
        let mut wrong = None;
        let head = answers::fetched(body, self.version, |fetched| {
            let partition = fetched.partition;
            let taken = match positions.binary_search_by_key(&partition, |position| position.partition) {
                Ok(at) => taking.take(at, &mut positions[at], fetched),
                Err(_) => Err(anyhow::anyhow!("was not asked for")),
            };
            if let Err(error) = taken {
                wrong.get_or_insert_with(|| error.context(format!("partition {partition}")));
            }
        });
        let (told_id, error) = head.context("an answer to Fetch cannot be read")?;
        ensure!(error.is_none(), "{}: {error}", self.topic.name);
        if let Some(wrong) = wrong {
            return Err(wrong.context(self.topic.name.to_string()));
        }
        ensure!(told_id == id, "an answer is to request {told_id} instead of {id}");
        let Taken { last, batches, records, bytes, marked } = taking.taken;
        if let Some(of) = &self.options.marked
            && marked > 0
        {
            of.arrivals.add(marked);
        }
        match window.contains(now) {
            true if batches > 0 => {
                self.read.fetches += 1;
                self.read.batches += batches;
                self.read.records += records;
                self.read.bytes += bytes;
                self.read.latencies.record(now.duration_since(sent));
            }
            true => self.read.empty += 1,
            false => {}
        }
        Ok(last)
    }
}

/// An answer that is being looked through.
struct Taking<'a> {
    options: &'a ReaderOptions,
    window: Window,
    began: Instant,
    now: Instant,
    end_to_end: &'a mut Latencies,
    taken: Taken,
}

/// What was in it.
#[derive(Default)]
struct Taken {
    /// The last position with batches, by index.
    last: Option<usize>,
    batches: u64,
    records: u64,
    bytes: u64,
    marked: u64,
}

impl Taking<'_> {
    fn take(&mut self, at: usize, position: &mut Position, fetched: Fetched) -> anyhow::Result<()> {
        match fetched.error {
            ErrorCode::NONE => {}
            ErrorCode::OFFSET_OUT_OF_RANGE => bail!(
                "there is no offset {}: it begins at {} and ends at {}",
                position.next,
                fetched.log_start,
                fetched.high_watermark
            ),
            error => bail!("{error}"),
        }
        let mut batches = Batches::new(&fetched.records);
        let mut count = 0;
        for located in batches.by_ref() {
            let header = located.header;
            if position.stop.is_some_and(|stop| header.base_offset >= stop) {
                // The rest was written since.
                position.next = position.next.max(header.base_offset);
                break;
            }
            let batch = &fetched.records[located.position..located.position + header.size()];
            let records = follow(position, &header, self.options.allows_gaps)?;
            if self.options.checks_crc {
                header.verify(batch).with_context(|| format!("offset {}", header.base_offset))?;
            }
            if let Some(marked) = &self.options.marked
                && let Some(due_ns) = marked.mark.read(batch)
            {
                self.taken.marked += 1;
                let due = marked.from + Duration::from_nanos(due_ns);
                if self.window.contains(due) {
                    self.end_to_end.record(self.now.saturating_duration_since(due));
                }
            }
            count += 1;
            self.taken.records += records;
            self.taken.bytes += header.size() as u64;
            position.records += records;
            position.bytes += header.size() as u64;
        }
        if count > 0 {
            self.taken.last = Some(at);
            self.taken.batches += count;
            position.first.get_or_insert(self.began);
            position.last = Some(self.now);
            return Ok(());
        }
        match batches.tail() {
            Some(Tail::Invalid(error)) => Err(error).context(format!("from offset {} on", position.next)),
            Some(Tail::Partial) => {
                bail!("no whole batch came from offset {} on: --fetch-bytes is too small", position.next)
            }
            Some(Tail::Whole) | None => Ok(()),
        }
    }
}

/// Moves a position behind a batch, which must follow what was read before; gives how many records it adds.
fn follow(position: &mut Position, header: &BatchHeader, allows_gaps: bool) -> anyhow::Result<u64> {
    let (next, base) = (position.next, header.base_offset);
    ensure!(header.next_offset() > next, "offset {base} comes again, where {next} was due");
    ensure!(base <= next || allows_gaps, "offset {base} follows where {next} was due");
    // Reading may begin within a batch, and nowhere else.
    ensure!(
        base >= next || position.last.is_none() && position.records == 0,
        "offset {base} comes again, where {next} was due"
    );
    position.next = header.next_offset();
    if header.is_control() {
        return Ok(0);
    }
    let before = next.since(base);
    Ok(u64::from(header.record_count()).saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use aquifer_model::Timestamp;
    use aquifer_model::builder::BatchBuilder;
    use aquifer_model::compression::Compression;
    use bytes::Bytes;

    use super::*;

    fn header(base: i64, records: u32) -> BatchHeader {
        let mut builder = BatchBuilder::new();
        (0..records).for_each(|_| builder.push(Timestamp(1), None, Some(b"v"), &[]));
        let mut header = BatchHeader::parse(&builder.finish(Compression::None).unwrap()).unwrap();
        header.base_offset = Offset::new(base).unwrap();
        header
    }

    /// Reads batches (base offset, records) from `start` on; the records in all, or what is wrong.
    fn check(start: i64, batches: &[(i64, u32)], allows_gaps: bool, expected: Result<u64, &str>) {
        let mut position = Position::new(0, Offset::new(start).unwrap(), None);
        let read = batches.iter().try_fold(0, |sum, (base, records)| {
            let added = follow(&mut position, &header(*base, *records), allows_gaps)?;
            position.records += added;
            Ok::<u64, anyhow::Error>(sum + added)
        });
        match (read, expected) {
            (Ok(records), expected) => assert_eq!(Ok(records), expected, "{batches:?}"),
            (Err(error), Err(expected)) => assert!(error.to_string().contains(expected), "{error}"),
            (Err(error), Ok(_)) => panic!("{batches:?}: {error}"),
        }
    }

    #[test]
    fn offsets_follow_one_another() {
        check(0, &[(0, 3), (3, 1), (4, 2)], false, Ok(6));
        check(2, &[(0, 3), (3, 1)], false, Ok(2));
        check(0, &[(0, 3), (4, 1)], false, Err("offset 4 follows where 3 was due"));
        check(0, &[(0, 3), (4, 1)], true, Ok(4));
        check(0, &[(0, 3), (0, 3)], true, Err("offset 0 comes again, where 3 was due"));
        check(0, &[(0, 3), (2, 3)], false, Err("offset 2 comes again, where 3 was due"));
        check(5, &[(0, 3)], false, Err("offset 0 comes again, where 5 was due"));
    }

    #[test]
    fn a_batch_that_was_damaged_is_found_if_checksums_are_checked() {
        let mut builder = BatchBuilder::new();
        builder.push(Timestamp(1), None, Some(b"value"), &[]);
        let mut batch = builder.finish(Compression::None).unwrap();
        *batch.last_mut().unwrap() ^= 1;
        let fetch = FetchOptions {
            wait_max_ms: 1,
            bytes_min: 1,
            partition_bytes_max: aquifer_model::ByteCount::kib(1),
            answer_bytes_max: aquifer_model::ByteCount::kib(1),
        };
        for (records, checks_crc, expected) in [
            (batch.clone(), false, None),
            (batch.clone(), true, Some("checksum")),
            (batch[..batch.len() - 1].to_vec(), false, Some("--fetch-bytes is too small")),
            (vec![0; 100], false, Some("magic")),
        ] {
            let options = ReaderOptions { fetch, checks_crc, allows_gaps: false, marked: None };
            let mut position = Position::new(0, Offset::ZERO, None);
            let fetched = Fetched {
                partition: 0,
                error: ErrorCode::NONE,
                high_watermark: 1,
                log_start: 0,
                records: Bytes::from(records),
            };
            let now = Clock::system().now();
            let window = Window::after(now, Duration::ZERO, Duration::ZERO);
            let (options, end_to_end) = (&options, &mut Latencies::new());
            let taken = Taken::default();
            let mut taking = Taking { options, window, began: now, now, end_to_end, taken };
            let taken = taking.take(0, &mut position, fetched);
            let told = taken.err().map(|error| format!("{error:#}"));
            assert_eq!(told.is_some(), expected.is_some(), "{told:?}");
            assert!(told.unwrap_or_default().contains(expected.unwrap_or_default()), "{expected:?}");
        }
    }
}
