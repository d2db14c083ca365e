//! One connection that produces: some requests in flight, each sent when it is due, every answer checked.

use std::collections::VecDeque;
use std::sync::Arc;

use anyhow::{Context as _, bail, ensure};
use aquifer_model::batch::BatchProducer;
use aquifer_model::{ProducerEpoch, ProducerId};
use aquifer_protocol::frame;
use aquifer_protocol::messages::produce::{PartitionProduceResponse, ProduceRequest};
use aquifer_runtime::alarm::Alarms;
use aquifer_runtime::clock::Clock;
use bytes::Bytes;
use tokio::time::Instant;

use crate::cli::bench::answers::{self, Produced};
use crate::cli::bench::latency::Latencies;
use crate::cli::bench::link::{self, Answers, Requests};
use crate::cli::bench::load::{Head, Load, Mark};
use crate::cli::bench::produce_frame::ProduceFrame;
use crate::cli::bench::schedule::{Due, Schedule, Window};
use crate::cli::bench::target::Leader;
use crate::cli::cluster::Topic;

/// How a connection produces.
#[derive(Debug, Clone, Copy)]
pub(super) struct WriterOptions {
    /// As on the wire: 1 the leader, -1 all in-sync replicas.
    pub(super) acks: i16,
    /// Requests on their way at once.
    pub(super) in_flight_max: usize,
    /// Batches in a request, each for another partition.
    pub(super) batches_max: usize,
    /// Numbers its batches, under this id.
    pub(super) producer: Option<(ProducerId, ProducerEpoch)>,
    /// Each batch says when it was due, counted from this moment.
    pub(super) marked_from: Option<Instant>,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Written {
    /// Within the window, as all numbers here but those that say otherwise.
    pub(super) requests: u64,
    pub(super) batches: u64,
    pub(super) records: u64,
    pub(super) bytes: u64,
    /// Whether in the window or not.
    pub(super) requests_ever: u64,
    pub(super) batches_ever: u64,
    /// From when a request was due to its answer.
    pub(super) latencies: Latencies,
    /// From when a request was due to when it was begun.
    pub(super) late: Latencies,
    /// Of requests that were due and never sent, from then until the last answer had come: the least that they would have waited.
    pub(super) unsent: Latencies,
}

/// A connection that produces.
#[derive(Debug)]
pub(super) struct Writer {
    clock: Clock,
    requests: Requests,
    answers: Answers,
    alarms: Alarms,
    topic: Arc<Topic>,
    version: i16,
    options: WriterOptions,
    load: Arc<Load>,
    frames: Vec<ProduceFrame>,
    /// For each frame what is known of its partitions, in its order.
    lanes: Vec<Vec<Lane>>,
    /// Of the request that is being sent.
    heads: Vec<Head>,
    /// A copy of the load's with a mark of their own; empty without marks.
    marked: Vec<u8>,
    mark: Option<(Mark, Instant)>,
    written: Written,
}

/// A partition of one frame.
#[derive(Debug, Clone, Copy)]
struct Lane {
    /// The next sequence number, where batches are numbered.
    sequence: i32,
    /// The least that the next batch's offset may be.
    offset_min: i64,
}

/// A request on its way.
#[derive(Debug, Clone, Copy)]
struct Sent {
    frame: usize,
    due: Instant,
}

impl Writer {
    /// Connects to a broker and prepares requests for all that it leads.
    pub(super) async fn connect(
        (clock, alarms): (Clock, Alarms),
        leader: &Leader,
        topic: &Arc<Topic>,
        load: &Arc<Load>,
        options: WriterOptions,
    ) -> anyhow::Result<Writer> {
        let (requests, answers) = link::connect(&leader.address, clock).await?;
        let batch = load.batch();
        let mut frames = Vec::new();
        for (number, partitions) in leader.partitions.chunks(options.batches_max.max(1)).enumerate() {
            let (version, id) = (leader.produce_version, i32::try_from(number)?);
            frames.push(ProduceFrame::new(version, id, topic, partitions, options.acks, &batch)?);
        }
        let lane = Lane { sequence: 0, offset_min: 0 };
        let lanes = frames.iter().map(|frame| vec![lane; frame.partitions().len()]).collect();
        let mark =
            options.marked_from.map(|from| Ok::<_, anyhow::Error>((load.mark()?, from))).transpose()?;
        let head = load.head(None, load.records());
        Ok(Writer {
            clock,
            requests,
            answers,
            alarms,
            topic: topic.clone(),
            version: leader.produce_version,
            options,
            load: load.clone(),
            heads: vec![head; frames.first().map_or(0, |frame| frame.partitions().len())],
            frames,
            lanes,
            marked: if mark.is_some() { load.records().to_vec() } else { Vec::new() },
            mark,
            written: Written {
                requests: 0,
                batches: 0,
                records: 0,
                bytes: 0,
                requests_ever: 0,
                batches_ever: 0,
                latencies: Latencies::new(),
                late: Latencies::new(),
                unsent: Latencies::new(),
            },
        })
    }

    /// Records that a request holds, on average.
    pub(super) fn records_per_request(&self) -> f64 {
        let batches: usize = self.frames.iter().map(|frame| frame.partitions().len()).sum();
        batches as f64 / self.frames.len() as f64 * f64::from(self.load.record_count())
    }

    /// Produces by the schedule, and waits for the last answer.
    pub(super) async fn run(mut self, mut schedule: Schedule, window: Window) -> anyhow::Result<Written> {
        let mut in_flight: VecDeque<Sent> = VecDeque::with_capacity(self.options.in_flight_max);
        let mut is_sending = false;
        let mut next = 0;
        loop {
            let now = self.clock.now();
            let mut wake = None;
            if !is_sending && in_flight.len() < self.options.in_flight_max {
                match schedule.due(now) {
                    Due::Now(due) => {
                        self.prepare(next, due);
                        if window.contains(due) {
                            self.written.late.record(now.duration_since(due));
                        }
                        in_flight.push_back(Sent { frame: next, due });
                        next = (next + 1) % self.frames.len();
                        is_sending = true;
                    }
                    Due::At(moment) => wake = Some(moment),
                    Due::Over if in_flight.is_empty() => break,
                    Due::Over => {}
                }
            }
            let Writer { requests, answers, alarms, frames, heads, marked, load, .. } = &mut self;
            let (frames, heads) = (&*frames, &*heads);
            let records: &[u8] = if marked.is_empty() { load.records() } else { marked };
            let sending = in_flight.back().map_or(0, |sent| sent.frame);
            tokio::select! {
                biased;
                read = answers.read_some(), if !in_flight.is_empty() => {
                    read?;
                    self.take_answers(&mut in_flight, window)?;
                }
                wrote = requests.write_some(|part| frames[sending].part(part, heads, records)), if is_sending => {
                    is_sending = !wrote?;
                }
                () = alarms.until(wake.unwrap_or(now)), if wake.is_some() => {}
            }
        }
        let now = self.clock.now();
        while let Some(due) = schedule.missed() {
            if window.contains(due) {
                self.written.unsent.record(now.saturating_duration_since(due));
            }
        }
        Ok(self.written)
    }

    /// Makes the heads of the next request, where they are not all the same for ever.
    fn prepare(&mut self, frame: usize, due: Instant) {
        if self.mark.is_none() && self.options.producer.is_none() {
            return;
        }
        if let Some((mark, from)) = &self.mark {
            let since = due.saturating_duration_since(*from).as_nanos();
            mark.set(&mut self.marked, u64::try_from(since).unwrap_or(u64::MAX));
        }
        let records: &[u8] = if self.marked.is_empty() { self.load.records() } else { &self.marked };
        for (head, lane) in self.heads.iter_mut().zip(&mut self.lanes[frame]) {
            let base_sequence = lane.sequence;
            let producer =
                self.options.producer.map(|(id, epoch)| BatchProducer { id, epoch, base_sequence });
            *head = self.load.head(producer, records);
            lane.sequence = next_sequence(base_sequence, self.load.record_count());
        }
    }

    fn take_answers(&mut self, in_flight: &mut VecDeque<Sent>, window: Window) -> anyhow::Result<()> {
        let now = self.clock.now();
        while let Some(answer) = self.answers.take()? {
            let sent = in_flight.pop_front().context("an answer came that nothing had asked for")?;
            self.check(sent.frame, answer.body)?;
            let batches = self.frames[sent.frame].partitions().len() as u64;
            self.written.requests_ever += 1;
            self.written.batches_ever += batches;
            if window.contains(now) {
                self.written.requests += 1;
                self.written.batches += batches;
                self.written.records += batches * u64::from(self.load.record_count());
                self.written.bytes += batches * self.load.size().get();
            }
            if window.contains(sent.due) {
                self.written.latencies.record(now.saturating_duration_since(sent.due));
            }
        }
        Ok(())
    }

    /// Fails unless the answer says of each partition that its batch was appended, behind the one before.
    fn check(&mut self, frame: usize, body: Bytes) -> anyhow::Result<()> {
        let (partitions, lanes) = (self.frames[frame].partitions(), &mut self.lanes[frame]);
        let records = i64::from(self.load.record_count());
        let mut wrong = None;
        let mut told = 0;
        let id =
            answers::produced(body.clone(), self.version, |Produced { partition, error, base_offset }| {
                // Most brokers answer in the order of the request.
                let is_next = partitions.get(told) == Some(&partition);
                let found = if is_next {
                    Some(told)
                } else {
                    partitions.iter().position(|index| *index == partition)
                };
                told += 1;
                let Some(lane) = found.map(|at| &mut lanes[at]) else {
                    wrong = Some(format!("partition {partition} was not asked for"));
                    return;
                };
                if !error.is_none() {
                    wrong = Some(format!("partition {partition}: {error}"));
                } else if base_offset < lane.offset_min {
                    let least = lane.offset_min;
                    wrong = Some(format!(
                        "partition {partition}: offset {base_offset} where {least} or more was due"
                    ));
                }
                lane.offset_min = base_offset.saturating_add(records);
            })
            .context("an answer to Produce cannot be read")?;
        if let Some(wrong) = wrong {
            bail!("{}: {wrong}{}", self.topic.name, words(body, self.version));
        }
        ensure!(
            told == partitions.len(),
            "an answer tells of {told} partitions instead of {}",
            partitions.len()
        );
        ensure!(usize::try_from(id) == Ok(frame), "an answer is to request {id} instead of {frame}");
        Ok(())
    }
}

/// What the broker says of its errors.
fn words(body: Bytes, version: i16) -> String {
    let Ok(answer) = frame::decode_response::<ProduceRequest>(body, version) else { return String::new() };
    let partitions = answer.responses.into_iter().flat_map(|topic| topic.partition_responses);
    let said = |told: PartitionProduceResponse| {
        let of_record = told.record_errors.into_iter().find_map(|record| record.batch_index_error_message);
        told.error_message.or(of_record)
    };
    let words = partitions.filter(|told| !told.error_code.is_none()).find_map(said);
    words.map_or(String::new(), |words| format!(": {words}"))
}

/// Sequences run to 2^31 - 1, and 0 comes after.
fn next_sequence(sequence: i32, records: u32) -> i32 {
    let next = (i64::from(sequence) + i64::from(records)) % (i64::from(i32::MAX) + 1);
    i32::try_from(next).expect("the remainder is below 2^31")
}
