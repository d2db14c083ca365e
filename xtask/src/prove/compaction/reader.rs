//! A reader that reads the topic from its start to its end, again and again, while it is compacted and its broker struck. What was
//! acknowledged it does not know, but what it reads must ascend, and each value must be one that was written to its key.

use super::updates::Updates;
use crate::clients::kcat_compacted;
use crate::reading::identify;
use anyhow::{Context, Result, anyhow, ensure};
use aquifer_checker::Partition;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

const PAUSE: Duration = Duration::from_millis(200);

/// It reads until it is ended.
#[derive(Debug)]
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<Seen>>>,
}

/// What it has seen.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Seen {
    pub(super) records: u64,
    /// Partitions that were read to their end.
    pub(super) readings: u64,
}

/// What one reading of a partition has to be.
#[derive(Debug)]
struct Reading<'a> {
    partition: &'a Partition,
    updates: Updates,
    last_offset: i64,
    fault: Option<String>,
}

impl Reader {
    pub(super) fn start(bootstrap: &str, topic: &str, partitions: u32, updates: Updates) -> Reader {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopping, bootstrap, topic) = (stop.clone(), bootstrap.to_owned(), topic.to_owned());
        let thread = spawn(move || {
            let mut seen = Seen::default();
            for index in (0..partitions).cycle() {
                if stopping.load(Ordering::Relaxed) {
                    break;
                }
                let partition = Partition { topic: topic.clone(), index };
                let mut reading = Reading { partition: &partition, updates, last_offset: -1, fault: None };
                let read = kcat_compacted(&bootstrap, &topic, index, |offset, key, value| {
                    seen.records += 1;
                    reading.read(offset, key, value);
                });
                if let Some(fault) = reading.fault {
                    return Err(anyhow!("a reader of {partition} meanwhile: {fault}"));
                }
                // While the broker is away it gives up, and begins anew.
                seen.readings += u64::from(read.is_ok());
                sleep(PAUSE);
            }
            Ok(seen)
        });
        Reader { stop, thread: Some(thread) }
    }

    /// Ends it; fails if something was wrong with what it read, or if it read nothing.
    pub(super) fn end(mut self) -> Result<Seen> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it is ended once")?;
        let seen = thread.join().map_err(|_| anyhow!("the reader panicked"))??;
        ensure!(seen.records > 0, "the reader has read nothing: {seen:?}");
        Ok(seen)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Reading<'_> {
    fn read(&mut self, offset: i64, key: &[u8], value: Option<&[u8]>) {
        let wrong = if offset <= self.last_offset {
            Some(format!("came after {}", self.last_offset))
        } else {
            value.and_then(|value| self.value(key, value))
        };
        self.last_offset = offset;
        if self.fault.is_none() {
            self.fault = wrong.map(|wrong| format!("offset {offset} {wrong}"));
        }
    }

    fn value(&self, key: &[u8], value: &[u8]) -> Option<String> {
        let number = match identify(self.partition, value) {
            Ok((_, number)) => number,
            Err(what) => return Some(format!("holds {what}")),
        };
        let update = self.updates.of(self.partition.index, number);
        let is_its_own = !update.is_tombstone && key == update.key.to_string().as_bytes();
        (!is_its_own).then(|| format!("holds record {number} under the key {}", String::from_utf8_lossy(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_back_or_lies_under_another_key_is_found() {
        let partition = Partition { topic: "t".to_owned(), index: 2 };
        let updates = Updates { keys: 10, seed: 3, tombstone_one_in: 4 };
        let fault = |records: &[(i64, &str, Option<&str>)]| {
            let mut reading = Reading { partition: &partition, updates, last_offset: -1, fault: None };
            for (offset, key, value) in records {
                reading.read(*offset, key.as_bytes(), value.map(str::as_bytes));
            }
            reading.fault
        };
        assert_eq!(
            fault(&[(3, "0", Some("1 2 0 0123")), (9, "7", None), (11, "4", Some("1 2 4 0123"))]),
            None
        );
        assert!(fault(&[(3, "0", Some("1 2 0 0123")), (3, "1", Some("1 2 1 0123"))]).is_some());
        assert!(fault(&[(3, "1", Some("1 2 0 0123"))]).is_some(), "another's value");
        assert!(fault(&[(3, "0", Some("1 2 0 0129"))]).is_some(), "a changed byte");
        let tombstone = (10..).find(|number| updates.of(2, *number).is_tombstone).expect("one in four");
        let key = updates.of(2, tombstone).key.to_string();
        let value = format!("1 2 {tombstone} 0");
        assert!(fault(&[(3, key.as_str(), Some(value.as_str()))]).is_some(), "a value that was none");
    }
}
