//! What a reader printed, `offset TAB value` a line, as events: which record each value says that it is.

use anyhow::{Context, Result};
use aquifer_checker::{Event, Number, Offset, Partition, Producer, Reader, Records, Source};

/// What a value is filled up with; the Go program writes the same.
const PADDING: &[u8] = b"0123456789abcdef";
/// Lines of one reader, put together into reads that are as long as they can be.
pub(crate) struct Reading<'a> {
    reader: Reader,
    partition: &'a Partition,
    source: Source,
    run: Option<(Records, i64)>,
}

impl Reading<'_> {
    pub(crate) fn new<'a>(reader: &str, partition: &'a Partition, source: Source) -> Reading<'a> {
        Reading { reader: Reader(reader.to_owned()), partition, source, run: None }
    }

    pub(crate) fn line(&mut self, line: &[u8]) -> Result<Vec<Event>> {
        let tab = line.iter().position(|byte| *byte == b'\t').context("a line has no offset")?;
        let offset: i64 = std::str::from_utf8(&line[..tab])?.parse().context("an offset")?;
        let (producer, number) = match identify(self.partition, &line[tab + 1..]) {
            Ok(identity) => identity,
            Err(what) => {
                let mut events: Vec<Event> = self.end().into_iter().collect();
                let (reader, partition) = (self.reader.clone(), self.partition.clone());
                events.push(Event::Foreign { reader, partition, offset: Offset(offset), what });
                return Ok(events);
            }
        };
        if let Some((records, start)) = &mut self.run
            && records.producer == producer
            && records.first.0 + u64::from(records.count) == number
            && *start + i64::from(records.count) == offset
            && records.count < u32::MAX
        {
            records.count += 1;
            return Ok(Vec::new());
        }
        let ended = self.end();
        self.run = Some((Records { producer, first: Number(number), count: 1 }, offset));
        Ok(ended.into_iter().collect())
    }

    pub(crate) fn end(&mut self) -> Option<Event> {
        let (records, offset) = self.run.take()?;
        let (reader, partition) = (self.reader.clone(), self.partition.clone());
        Some(Event::Read { reader, partition, offset: Offset(offset), records, source: self.source })
    }
}

/// Which record a value says that it is: `producer partition number padding`, each byte as it was sent.
pub(crate) fn identify(partition: &Partition, value: &[u8]) -> Result<(Producer, u64), String> {
    let other =
        || format!("a value of other make: {}", String::from_utf8_lossy(&value[..value.len().min(40)]));
    let mut parts = value.splitn(4, |byte| *byte == b' ');
    let mut number = || -> Option<u64> { std::str::from_utf8(parts.next()?).ok()?.parse().ok() };
    let (Some(producer), Some(told), Some(number)) = (number(), number(), number()) else {
        return Err(other());
    };
    let padding = parts.next().ok_or_else(other)?;
    let producer = Producer(u32::try_from(producer).map_err(|_| other())?);
    if told != u64::from(partition.index) {
        return Err(format!("a value sent to partition {told}"));
    }
    if padding.iter().zip(PADDING.iter().cycle()).any(|(found, sent)| found != sent) {
        return Err(format!("record {number} of {producer} with a changed byte"));
    }
    Ok((producer, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> Partition {
        Partition { topic: "t".to_owned(), index: 3 }
    }

    #[test]
    fn a_value_says_who_sent_it_and_any_changed_byte_shows() {
        assert_eq!(identify(&partition(), b"1 3 17 0123456789abcdef012"), Ok((Producer(1), 17)));
        for (bad, why) in [
            (&b"1 2 17 0123"[..], "a value sent to partition 2"),
            (b"1 3 17 0133", "record 17 of producer 1 with a changed byte"),
            (b"1 3 x 0123", "a value of other make: 1 3 x 0123"),
            (b"", "a value of other make: "),
        ] {
            assert_eq!(identify(&partition(), bad), Err(why.to_owned()));
        }
    }

    #[test]
    fn lines_become_reads_as_long_as_they_can_be() {
        let partition = partition();
        let mut reading = Reading::new("r", &partition, Source::Audit);
        let mut events = Vec::new();
        for line in ["5\t1 3 0 01", "6\t1 3 1 01", "7\t1 3 3 01", "8\tx", "9\t1 3 4 0"] {
            events.extend(reading.line(line.as_bytes()).expect("a line"));
        }
        events.extend(reading.end());
        let read = |offset, first, count| Event::Read {
            reader: Reader("r".to_owned()),
            partition: partition.clone(),
            offset: Offset(offset),
            records: Records { producer: Producer(1), first: Number(first), count },
            source: Source::Audit,
        };
        let foreign = Event::Foreign {
            reader: Reader("r".to_owned()),
            partition: partition.clone(),
            offset: Offset(8),
            what: "a value of other make: x".to_owned(),
        };
        assert_eq!(events, [read(5, 0, 2), read(7, 3, 1), foreign, read(9, 4, 1)]);
        assert!(reading.line(b"no tab").is_err());
    }
}
