//! Transactions in a compacted log: what a reader of committed records sees of them does not change, whatever goes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aquifer_model::batch::{BatchProducer, HEADER_BYTES, NewBatch};
use aquifer_model::batches::Batches;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{AbortedTxn, ByteCount, ProducerEpoch, ProducerId, Timestamp, record};
use bytes::Bytes;

use super::super::producers::{Ending, Marker};
use super::super::*;
use super::harness::*;
use super::keyed::*;
use crate::config::Compaction;

/// What a producer does.
#[derive(Debug, Clone, Copy)]
enum Act {
    /// Sends a value for a key.
    Put(i64, &'static str),
    Commit(i64),
    Abort(i64),
    /// The open segment is closed.
    Roll,
}

use Act::{Abort, Commit, Put, Roll};

const ACTS: [Act; 30] = [
    Put(1, "a"),
    Put(2, "a"),
    Roll,
    Commit(1),
    Put(1, "b"),
    Abort(2),
    Roll,
    Put(3, "c"),
    Put(2, "c"),
    Roll,
    Abort(3),
    Put(1, "a"),
    Commit(1),
    Commit(2),
    Roll,
    // Nothing of it stays but its end.
    Put(4, "d"),
    Commit(4),
    Roll,
    Put(3, "d"),
    Put(2, "b"),
    Commit(3),
    Roll,
    Abort(2),
    Put(5, "e"),
    Roll,
    Abort(5),
    Put(1, "c"),
    Commit(1),
    Put(6, "d"),
    Abort(6),
];

fn perform(log: &Log, sequences: &mut BTreeMap<i64, i32>, act: Act, value: usize) {
    let (producer, control, key) = match act {
        Roll => return log.roll().unwrap(),
        Put(producer, key) => (producer, None, key.as_bytes().to_vec()),
        Commit(producer) => (producer, Some(1i16), [0i16.to_be_bytes(), 1i16.to_be_bytes()].concat()),
        Abort(producer) => (producer, Some(0), [0i16.to_be_bytes(), 0i16.to_be_bytes()].concat()),
    };
    let value = if control.is_some() { vec![0, 0, 0, 0, 0, 3] } else { format!("v{value}").into_bytes() };
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(5), Some(&key), Some(&value), &[]);
    let plain = builder.finish(Compression::None).unwrap();
    let sequence = sequences.entry(producer).or_default();
    let base_sequence = if control.is_some() { -1 } else { *sequence };
    let header = NewBatch {
        compression: Compression::None,
        transactional: true,
        control: control.is_some(),
        base_timestamp: Timestamp(5),
        max_timestamp: Timestamp(5),
        producer: Some(BatchProducer { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence }),
        record_count: 1,
    }
    .header(&plain[HEADER_BYTES..]);
    *sequence += i32::from(control.is_none());
    let records = Bytes::from([&header.to_bytes()[..], &plain[HEADER_BYTES..]].concat());
    log.append(Append { records, epoch: epoch(0), origin: Origin::Coordinator }).unwrap();
}

/// What a reader of committed records knows in the end, by Kafka's own rule of what to leave out; and how many markers it met.
fn committed(log: &Log) -> (BTreeMap<String, String>, usize) {
    let (mut table, mut markers) = (BTreeMap::new(), 0);
    let mut from = log.offsets().local_start;
    loop {
        let read = Read { aborted: AbortedTxns::Include, bytes_max: ByteCount(300), ..read_from(from.get()) };
        let slice = log.read(read).unwrap();
        if slice.bytes.is_empty() {
            return (table, markers);
        }
        from = slice.range.next;
        let mut aborted: Vec<AbortedTxn> = slice.aborted;
        aborted.sort_by_key(|transaction| std::cmp::Reverse(transaction.first));
        let mut leaving: BTreeSet<i64> = BTreeSet::new();
        for located in Batches::new(&slice.bytes) {
            let header = located.header;
            let body = slice.bytes.slice(located.position + HEADER_BYTES..located.position + header.size());
            let producer = header.producer().unwrap().id.0;
            while aborted.last().is_some_and(|transaction| transaction.first <= header.last_offset()) {
                leaving.insert(aborted.pop().unwrap().producer.0);
            }
            for record in record::read(&header, &body).unwrap() {
                let (key, value) = (record.key.unwrap(), record.value.unwrap());
                if header.is_control() {
                    markers += 1;
                    if matches!(Marker::parse(&key, &value), Some(marker) if marker.ending == Ending::Abort) {
                        leaving.remove(&producer);
                    }
                } else if !leaving.contains(&producer) {
                    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
                    table.insert(text(key), text(value));
                }
            }
        }
    }
}

#[test]
fn what_is_committed_stays_and_what_is_aborted_never_shows() {
    for retention in [Duration::ZERO, Duration::from_secs(3600)] {
        let mut house = keyed_house(Compaction { delete_retention: retention, ..compacted() });
        house.config.file_delete_delay_ms = Duration::ZERO;
        let mut sequences = BTreeMap::new();
        for (n, act) in ACTS.into_iter().enumerate() {
            perform(&house.log(), &mut sequences, act, n);
        }
        let log = house.log();
        assert_eq!(log.first_unstable(log.end()), None);
        let (wanted, markers) = committed(&log);
        let expected = [("a", "v11"), ("b", "v4"), ("c", "v26"), ("d", "v18")];
        let expected: BTreeMap<String, String> =
            expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
        assert_eq!(wanted, expected);
        log.roll().unwrap();
        drop(log);
        let mut least = markers;
        for pass in 0..5 {
            let log = house.log();
            // Something new, so that there is something to do.
            append(&log, keyed_by(9, pass, &[("z", Some("1"))]));
            log.roll().unwrap();
            let until = log.sealed_end();
            compact(&log, until, AMPLE).unwrap();
            let (mut found, left) = committed(&log);
            found.remove("z");
            assert_eq!(found, wanted, "pass {pass}");
            assert!(left <= least, "pass {pass}");
            least = left;
            let end = log.end();
            drop(log);
            match pass % 3 {
                0 => house.kill(),
                1 => house.stop(),
                _ => {
                    house.kill();
                    house.remove_file(&house.log_folder().join(layout::CHECKPOINT));
                    for name in names_with(&house, layout::SNAPSHOT) {
                        house.remove_file(&house.log_folder().join(name));
                    }
                }
            }
            let log = house.log();
            assert_eq!((log.corruption(), log.end(), log.first_unstable(end)), (None, end, None));
            let (mut found, _) = committed(&log);
            found.remove("z");
            assert_eq!(found, wanted, "after pass {pass}");
            // Whoever goes on with a sequence is known still.
            for (producer, sequence) in &sequences {
                let again = keyed_by(*producer, sequence + 1, &[("a", Some("x"))]);
                let refused = log.append(client(again, 0));
                assert!(
                    matches!(refused, Err(AppendError::OutOfOrderSequence { expected, .. }) if expected == *sequence),
                    "producer {producer} after pass {pass}: {refused:?}"
                );
            }
        }
        match retention.is_zero() {
            // Each producer's last marker stays for what it says of the producer.
            true => assert!(least < markers, "{least} of {markers}"),
            false => assert_eq!(least, markers, "their time is not over"),
        }
    }
}
