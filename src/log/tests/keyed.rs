//! Records with keys, and what a reader makes of them.

use std::collections::BTreeMap;

use aquifer_model::batch::{BatchProducer, HEADER_BYTES};
use aquifer_model::batches::Batches;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::record::{self, Record};
use aquifer_model::{BatchHeader, ByteCount, Offset, ProducerEpoch, ProducerId};
use aquifer_runtime::World;
use bytes::Bytes;

use super::super::*;
use super::harness::*;
use crate::config::Compaction;

/// Memory for more keys than any test has.
pub(super) const AMPLE: CompactOptions =
    CompactOptions { keys_bytes_max: ByteCount::mib(1), load_factor: 0.9 };

/// Of a compacted topic that drops what it may at once.
pub(super) fn compacted() -> Compaction {
    Compaction { dirty_ratio_min: 0.0, ..Compaction::default() }
}

/// A house with small segments whose one topic is compacted.
pub(super) fn keyed_house(settings: Compaction) -> House {
    let mut house = House::new();
    house.config.cleanup = Cleanup::Compact(settings);
    house.config.segment_bytes = ByteCount(1500);
    house
}

/// A batch of (key, value); no value is a tombstone.
pub(super) fn keyed(records: &[(&str, Option<&str>)], compression: Compression) -> Bytes {
    fill(BatchBuilder::new(), records, compression)
}

/// The same, from an idempotent producer.
pub(super) fn keyed_by(producer: i64, sequence: i32, records: &[(&str, Option<&str>)]) -> Bytes {
    let producer =
        BatchProducer { id: ProducerId(producer), epoch: ProducerEpoch(0), base_sequence: sequence };
    fill(BatchBuilder::new().with_producer(producer), records, Compression::None)
}

fn fill(mut builder: BatchBuilder, records: &[(&str, Option<&str>)], compression: Compression) -> Bytes {
    let now = World::system().clock.wall();
    for (key, value) in records {
        builder.push(
            now,
            Some(key.as_bytes()),
            value.map(str::as_bytes),
            &[("h", "v")].map(|(k, v)| (k.as_bytes(), Some(v.as_bytes()))),
        );
    }
    builder.finish(compression).unwrap().into()
}

/// All batches on this disk, verified, as a reader gets them who goes on where the last read ended.
pub(super) fn batches(log: &Log) -> Vec<(BatchHeader, Vec<Record>)> {
    let mut from = log.offsets().local_start;
    let mut found = Vec::new();
    loop {
        let slice = log.read(read_from(from.get())).unwrap();
        if slice.bytes.is_empty() {
            return found;
        }
        assert!(slice.range.next > from, "{} from {from}", slice.range);
        let mut last = from;
        for located in Batches::new(&slice.bytes) {
            let header = located.header;
            let batch = slice.bytes.slice(located.position..located.position + header.size());
            header.verify(&batch).unwrap();
            assert!(header.next_offset() > last && (header.base_offset >= last || last == from));
            last = header.next_offset();
            found.push((header, records_of(&header, &batch)));
        }
        assert_eq!(last, slice.range.next);
        from = slice.range.next;
    }
}

fn records_of(header: &BatchHeader, batch: &Bytes) -> Vec<Record> {
    let body = batch.slice(HEADER_BYTES..);
    let body = match header.compression() {
        Compression::None => body,
        codec => codec.decompress(&body, 1 << 20).unwrap().into(),
    };
    record::read(header, &body).unwrap()
}

/// All records.
pub(super) fn records(log: &Log) -> Vec<Record> {
    batches(log).into_iter().flat_map(|(_, records)| records).collect()
}

/// (offset, key, value) of all records that are no markers.
pub(super) fn shown(log: &Log) -> Vec<(i64, String, Option<String>)> {
    let data = batches(log).into_iter().filter(|(header, _)| !header.is_control());
    let text = |bytes: Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    data.flat_map(|(_, records)| records)
        .map(|record| (record.offset.get(), record.key.map(text).unwrap_or_default(), record.value.map(text)))
        .collect()
}

/// What a reader who reads all knows in the end.
pub(super) fn table(log: &Log) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for (_, key, value) in shown(log) {
        match value {
            Some(value) => drop(table.insert(key, value)),
            None => drop(table.remove(&key)),
        }
    }
    table
}

/// A whole pass, if there is something to do.
pub(super) fn compact(
    log: &std::sync::Arc<Log>,
    limit: Offset,
    options: CompactOptions,
) -> Result<Option<PassOutcome>, CompactError> {
    let Some(dirt) = log.dirt(limit)? else { return Ok(None) };
    let settings = log.config().cleanup.compaction().unwrap();
    let mut pass = log.compact(dirt, &settings, options);
    loop {
        if let Some(done) = pass.step()?.done {
            return Ok(Some(done));
        }
    }
}

/// A whole pass over all that is closed.
#[track_caller]
pub(super) fn compact_all(log: &std::sync::Arc<Log>) -> PassOutcome {
    compact(log, Offset::MAX, AMPLE).unwrap().expect("there is something to compact")
}

/// Closes the open segment, so that it can be compacted, and compacts.
#[track_caller]
pub(super) fn seal_and_compact(log: &std::sync::Arc<Log>) -> PassOutcome {
    log.roll().unwrap();
    compact_all(log)
}

/// Names in the log's folder that end like this.
pub(super) fn names_with(house: &House, end: &str) -> Vec<String> {
    let names = aquifer_runtime::files::Disk::host().list(&house.log_folder()).unwrap();
    names.into_iter().map(|entry| entry.name).filter(|name| name.ends_with(end)).collect()
}
