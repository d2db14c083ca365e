//! One partition: what was said of each offset, and what became of each record.
//!
//! Both are dense tables, about 20 bytes a record. An offset keeps the first record that it was said to show, and who said so;
//! every later statement is held against that. Whatever needs all statements is judged at the end, so that the order between
//! clients does not matter.

use std::collections::BTreeMap;

use crate::event::{Expiry, Number, Offset, Partition, Producer, Reader, Records, Retries, Source};
use crate::names::{IS_PRODUCER, Names, Value};
use crate::pages::{NUMBERS_MAX, Pages};
use crate::report::{Kind, Report};

/// What was said of an offset.
mod said {
    pub(super) const ACKED: u8 = 1;
    /// A broker's local log or its files showed it.
    pub(super) const LOCAL: u8 = 2;
    /// The bucket showed it.
    pub(super) const TIERED: u8 = 4;
}

/// What is known of a record.
mod fate {
    pub(super) const SENT: u8 = 1;
    pub(super) const ACKED: u8 = 2;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const UNKNOWN: u8 = 8;
    pub(super) const READ: u8 = 16;
}

/// Where the last audit found a log to start and to end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audit {
    pub(crate) log_start: i64,
    end: i64,
}

/// What a producer sent to this partition.
#[derive(Debug, Default)]
struct Session {
    /// Where each record was first said to be, plus one.
    offsets: Pages<u64>,
    fates: Pages<u8>,
    plain: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Log {
    values: Pages<Value>,
    witnesses: Pages<u16>,
    said: Pages<u8>,
    /// The number of the audit that read each offset last, in a circle from 1 to 255.
    audited: Pages<u8>,
    sessions: BTreeMap<u16, Session>,
    audit: Option<Audit>,
    audits: u8,
}

/// What one client says of one offset.
#[derive(Debug, Clone, Copy)]
struct Statement {
    offset: u64,
    value: Value,
    witness: u16,
    said: u8,
    fate: u8,
}

impl Log {
    pub(crate) fn note_fate(
        &mut self,
        fate: Fate,
        records: Records,
        partition: &Partition,
        names: &mut Names,
        report: &mut Report,
    ) {
        let Some(numbers) = numbers(records, partition, report) else { return };
        let session = self.sessions.entry(names.producer(records.producer)).or_default();
        let bit = match fate {
            Fate::Sent => fate::SENT,
            Fate::Refused => fate::REFUSED,
            Fate::Unknown => fate::UNKNOWN,
        };
        numbers.for_each(|number| *session.fates.cell(number) |= bit);
    }

    pub(crate) fn note_retries(&mut self, producer: Producer, retries: Retries, names: &mut Names) {
        self.sessions.entry(names.producer(producer)).or_default().plain = retries == Retries::Plain;
    }

    /// Records were acknowledged at consecutive offsets.
    pub(crate) fn acked(
        &mut self,
        records: Records,
        offset: Offset,
        partition: &Partition,
        names: &mut Names,
        report: &mut Report,
    ) {
        let witness = names.producer(records.producer) | IS_PRODUCER;
        self.state(records, offset, (witness, said::ACKED, fate::ACKED), partition, names, report);
    }

    /// Records were read at consecutive offsets.
    pub(crate) fn read(
        &mut self,
        records: Records,
        (offset, source): (Offset, Source),
        reader: &Reader,
        partition: &Partition,
        names: &mut Names,
        report: &mut Report,
    ) {
        let said = match source {
            Source::Broker | Source::Audit => 0,
            Source::Hot | Source::Local => said::LOCAL,
            Source::Cold | Source::Bucket => said::TIERED,
        };
        let witness = names.reader(reader);
        let stated = self.state(records, offset, (witness, said, fate::READ), partition, names, report);
        if stated && source == Source::Audit {
            let audit = self.audits % u8::MAX + 1;
            let from = offset.0.cast_unsigned();
            (from..from + u64::from(records.count)).for_each(|offset| *self.audited.cell(offset) = audit);
        }
        report.read += u64::from(records.count);
    }

    pub(crate) fn end_audit(&mut self, log_start: Offset, end: Offset) {
        self.audit = Some(Audit { log_start: log_start.0, end: end.0 });
        self.audits = self.audits % u8::MAX + 1;
    }

    pub(crate) fn audit(&self) -> Option<Audit> {
        self.audit
    }

    /// False: the offsets are nonsense.
    fn state(
        &mut self,
        records: Records,
        offset: Offset,
        (witness, said, fate): (u16, u8, u8),
        partition: &Partition,
        names: &mut Names,
        report: &mut Report,
    ) -> bool {
        let Some(numbers) = numbers(records, partition, report) else { return false };
        if !is_plausible(offset, records.count) {
            report.add(Kind::Absurd, partition, || {
                format!("{} offset {offset} for {} records", names.witness(witness), records.count)
            });
            return false;
        }
        let producer = names.producer(records.producer);
        for (offset, number) in (offset.0.cast_unsigned()..).zip(numbers) {
            let value = Value::new(producer, number);
            let statement = Statement { offset, value, witness, said, fate };
            self.hold_against_offset(statement, partition, names, report);
            self.hold_against_record(statement, partition, names, report);
        }
        true
    }

    fn hold_against_offset(
        &mut self,
        new: Statement,
        partition: &Partition,
        names: &Names,
        report: &mut Report,
    ) {
        let value = self.values.cell(new.offset);
        let before = self.said.cell(new.offset);
        if value.is_none() {
            *value = new.value;
            *self.witnesses.cell(new.offset) = new.witness;
        } else if *value != new.value {
            let one_each = |a, b| *before & a != 0 && new.said & b != 0;
            let kind = if (*before | new.said) & said::ACKED != 0 {
                Kind::Moved
            } else if one_each(said::LOCAL, said::TIERED) || one_each(said::TIERED, said::LOCAL) {
                Kind::TierUnequal
            } else {
                Kind::TwoValues
            };
            let first = self.witnesses.get(new.offset);
            report.add(kind, partition, || {
                format!(
                    "offset {}: {} {}, {} {}",
                    new.offset,
                    names.witness(first),
                    names.value(*value),
                    names.witness(new.witness),
                    names.value(new.value)
                )
            });
        }
        *before |= new.said;
    }

    fn hold_against_record(
        &mut self,
        new: Statement,
        partition: &Partition,
        names: &Names,
        report: &mut Report,
    ) {
        let session = self.sessions.entry(new.value.producer()).or_default();
        let number = new.value.number();
        *session.fates.cell(number) |= new.fate;
        let at = session.offsets.cell(number);
        if *at == 0 {
            *at = new.offset + 1;
        } else if *at != new.offset + 1 && !session.plain {
            let first = *at - 1;
            report.add(Kind::Doubled, partition, || {
                format!(
                    "{} is said to be at offset {first} and, as {} it, at offset {}",
                    names.value(new.value),
                    names.witness(new.witness),
                    new.offset
                )
            });
        }
    }

    /// What can be said only now that all is known.
    pub(crate) fn finish(&self, expiry: Expiry, partition: &Partition, names: &Names, report: &mut Report) {
        for (producer, session) in &self.sessions {
            self.finish_session(*producer, session, partition, names, report);
        }
        let Some(Audit { log_start, end }) = self.audit else {
            report.add(Kind::Unaudited, partition, || "nobody read the whole log at the end".to_owned());
            return;
        };
        if expiry == Expiry::Never && log_start > 0 {
            report.add(Kind::StartRaised, partition, || format!("the log starts at offset {log_start}"));
        }
        let newest = self.audits;
        let is_kept = |offset| self.audited.get(offset) == newest;
        let start = u64::try_from(log_start).unwrap_or(0);
        for (offset, said) in self.said.iter().filter(|(_, said)| said & said::ACKED != 0) {
            if !is_kept(offset) && (expiry == Expiry::Never || offset >= start) {
                report.add(Kind::Lost, partition, || {
                    let (value, witness) = (self.values.get(offset), self.witnesses.get(offset));
                    let (value, witness) = (names.value(value), names.witness(witness));
                    let and = if said & (said::LOCAL | said::TIERED) == 0 { "" } else { ", and it was read" };
                    format!("offset {offset}: {witness} {value}{and}; the log is [{log_start}, {end})")
                });
            }
        }
        let end = u64::try_from(end).unwrap_or(0).min(NUMBERS_MAX);
        let mut missing = (start..end).filter(|offset| !is_kept(*offset));
        if let Some(first) = missing.next() {
            let count = missing.count() + 1;
            report.add(Kind::Gap, partition, || {
                format!("the audit of [{log_start}, {end}) missed {count} offsets, first {first}")
            });
        }
        report.audited += (start..end).filter(|offset| is_kept(*offset)).count() as u64;
    }

    fn finish_session(
        &self,
        producer: u16,
        session: &Session,
        partition: &Partition,
        names: &Names,
        report: &mut Report,
    ) {
        let mut before = 0;
        for (number, fate) in session.fates.iter().filter(|(_, fate)| *fate != 0) {
            let has = |bit| fate & bit != 0;
            let value = || names.value(Value::new(producer, number));
            report.sent += u64::from(has(fate::SENT));
            report.acked += u64::from(has(fate::ACKED));
            report.refused += u64::from(has(fate::REFUSED));
            report.unknown += u64::from(has(fate::SENT) && !has(fate::ACKED | fate::REFUSED));
            let offset = session.offsets.get(number);
            if !has(fate::SENT) && has(fate::READ | fate::ACKED) {
                report.add(Kind::Foreign, partition, || {
                    format!("offset {}: {} was never sent", offset - 1, value())
                });
            }
            if has(fate::REFUSED) && has(fate::READ | fate::ACKED) {
                report.add(Kind::RefusedYetThere, partition, || {
                    format!("offset {}: {} was refused", offset - 1, value())
                });
            }
            if offset == 0 || session.plain {
                continue;
            }
            if offset < before {
                report.add(Kind::Reordered, partition, || {
                    format!("{} is at offset {}, one before it at {}", value(), offset - 1, before - 1)
                });
            }
            before = offset;
        }
    }
}

/// What a producer says of its records, apart from where they are.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fate {
    Sent,
    Refused,
    Unknown,
}

pub(crate) fn is_plausible(offset: Offset, count: u32) -> bool {
    u64::try_from(offset.0).is_ok_and(|offset| offset + u64::from(count) <= NUMBERS_MAX)
}

/// The numbers of records; `None`, and a violation, if no run can reach them.
fn numbers(
    records: Records,
    partition: &Partition,
    report: &mut Report,
) -> Option<impl Iterator<Item = u64> + use<>> {
    let Records { producer, first: Number(first), count } = records;
    let end = first.checked_add(u64::from(count)).filter(|end| *end <= NUMBERS_MAX);
    if end.is_none() {
        report.add(Kind::Absurd, partition, || format!("{count} records of {producer} from number {first}"));
    }
    Some(first..end?)
}
