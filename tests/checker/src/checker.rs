//! All of it together: takes events, gives the report.

use std::collections::BTreeMap;
use std::io::BufRead;

use crate::bucket::Bucket;
use crate::event::{Event, Expiry, Offset, Partition, Producer, Reader, Records, Retries};
use crate::lines::{self, LineError};
use crate::names::Names;
use crate::partition::{Fate, Log, is_plausible};
use crate::reader::Position;
use crate::report::{Kind, Report};

/// Judges a history while it grows.
#[derive(Debug, Default)]
pub struct Checker {
    report: Report,
    names: Names,
    topics: BTreeMap<String, Expiry>,
    partitions: BTreeMap<Partition, Place>,
    plain: Vec<Producer>,
}

/// One partition, from all sides.
#[derive(Debug, Default)]
struct Place {
    log: Log,
    readers: BTreeMap<Reader, Position>,
    bucket: Bucket,
}

impl Place {
    fn reader(&mut self, reader: &Reader) -> &mut Position {
        if !self.readers.contains_key(reader) {
            self.readers.insert(reader.clone(), Position::default());
        }
        self.readers.get_mut(reader).expect("inserted above")
    }
}

impl Checker {
    /// Before anything happened.
    pub fn new() -> Checker {
        Checker::default()
    }

    /// Judges all events of a client's lines.
    pub fn observe_lines(&mut self, from: impl BufRead) -> Result<(), LineError> {
        lines::read(from).try_for_each(|event| event.map(|event| self.observe(&event)))
    }

    /// Judges one event, and keeps what later ones are held against.
    pub fn observe(&mut self, event: &Event) {
        self.report.events += 1;
        match event {
            Event::Topic { topic, partitions, expiry } => {
                self.topics.insert(topic.clone(), *expiry);
                for index in 0..*partitions {
                    self.place(&Partition { topic: topic.clone(), index });
                }
            }
            Event::Session { producer, retries: Retries::Plain } => self.plain.push(*producer),
            Event::Session { producer: _, retries: Retries::Idempotent } => {}
            Event::Broken { producer, partition, what } => {
                self.place(partition);
                self.report.add(Kind::SessionBroken, partition, || format!("{producer} was told: {what}"));
            }
            Event::Sent { partition, records } => self.fate(Fate::Sent, partition, *records),
            Event::Refused { partition, records } => self.fate(Fate::Refused, partition, *records),
            Event::Unknown { partition, records } => self.fate(Fate::Unknown, partition, *records),
            Event::Acked { partition, records, offset } => {
                let (place, names, report) = self.parts(partition, Some(records.producer));
                place.log.acked(*records, *offset, partition, names, report);
            }
            Event::Seek { reader, partition, offset } => {
                self.place(partition).reader(reader).seek(*offset);
            }
            Event::Read { reader, partition, offset, records, source } => {
                let (place, names, report) = self.parts(partition, Some(records.producer));
                place.log.read(*records, (*offset, *source), reader, partition, names, report);
                place.reader(reader).read(*offset, records.count, (reader, partition), report);
            }
            Event::Foreign { reader, partition, offset, what } => {
                let (place, _, report) = self.parts(partition, None);
                report.add(Kind::Foreign, partition, || format!("offset {offset}: {reader} read {what}"));
                place.reader(reader).read(*offset, 1, (reader, partition), report);
            }
            Event::Marks { reader, partition, log_start, high_watermark } => {
                let (place, _, report) = self.parts(partition, None);
                place.reader(reader).marks(*log_start, *high_watermark, (reader, partition), report);
            }
            Event::Denied { reader, partition, offset } => {
                self.place(partition).reader(reader).denied(*offset)
            }
            Event::Fault { what } => *self.report.faults.entry(what.clone()).or_default() += 1,
            Event::Audited { partition, log_start, end } => self.audited(partition, *log_start, *end),
            Event::Manifest { partition, segments, others, at_ms } => {
                let (place, _, report) = self.parts(partition, None);
                place.bucket.manifest(segments, (others, *at_ms), partition, report);
            }
            Event::Listing { partition, objects, grace_ms, at_ms } => {
                let (place, _, report) = self.parts(partition, None);
                place.bucket.listing(objects, (*grace_ms, *at_ms), partition, report);
            }
        }
    }

    /// The verdict.
    pub fn finish(mut self) -> Report {
        for (partition, place) in &self.partitions {
            let expiry = self.topics.get(&partition.topic).copied().unwrap_or(Expiry::Allowed);
            place.log.finish(expiry, partition, &self.names, &mut self.report);
            place.bucket.finish(partition, &mut self.report);
            let start = match (expiry, place.log.audit()) {
                (Expiry::Never, _) | (_, None) => 0,
                (Expiry::Allowed, Some(audit)) => audit.log_start,
            };
            for (reader, position) in &place.readers {
                position.finish(start, (reader, partition), &mut self.report);
            }
        }
        self.report
    }

    fn fate(&mut self, fate: Fate, partition: &Partition, records: Records) {
        let (place, names, report) = self.parts(partition, Some(records.producer));
        place.log.note_fate(fate, records, partition, names, report);
    }

    fn audited(&mut self, partition: &Partition, log_start: Offset, end: Offset) {
        let (place, _, report) = self.parts(partition, None);
        if log_start > end || !is_plausible(log_start, 0) || !is_plausible(end, 0) {
            report.add(Kind::Absurd, partition, || format!("the log is [{log_start}, {end})"));
            return;
        }
        place.log.end_audit(log_start, end);
    }

    fn place(&mut self, partition: &Partition) -> &mut Place {
        self.parts(partition, None).0
    }

    fn parts(
        &mut self,
        partition: &Partition,
        producer: Option<Producer>,
    ) -> (&mut Place, &mut Names, &mut Report) {
        if !self.partitions.contains_key(partition) {
            self.partitions.insert(partition.clone(), Place::default());
        }
        let place = self.partitions.get_mut(partition).expect("inserted above");
        if let Some(producer) = producer.filter(|producer| self.plain.contains(producer)) {
            place.log.note_retries(producer, Retries::Plain, &mut self.names);
        }
        (place, &mut self.names, &mut self.report)
    }
}

#[cfg(test)]
mod tests;
