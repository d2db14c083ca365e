//! Fetch requests that are encoded once, and into which partitions and offsets are written anew for each.
//!
//! A request has a slot for each partition. Which partition is in which slot may change each time: a broker fills an answer in
//! the order of the request, so that who is always last would starve. Requests are made without a session.

use anyhow::{Context as _, ensure};
use aquifer_model::{ByteCount, Offset};
use aquifer_protocol::frame;
use aquifer_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};

use crate::cli::cluster::Topic;

/// Where each request has its correlation id: behind length, API key and version.
const CORRELATION_ID_AT: usize = 8;
/// Stands for the offset of slot 0 until one is set, and those after it for others; no text holds such bytes.
const PLACEHOLDER: i64 = 0xF1E2_D3C4_B5A6_0000_u64 as i64;
/// The first version in which a leader epoch stands between partition and offset.
const EPOCH_SINCE: i16 = 9;

/// How a topic is fetched.
#[derive(Debug, Clone, Copy)]
pub(super) struct FetchOptions {
    /// How long a broker may wait for `bytes_min`.
    pub(super) wait_max_ms: i32,
    /// What an answer should hold at least.
    pub(super) bytes_min: i32,
    /// Bytes of one partition in an answer.
    pub(super) partition_bytes_max: ByteCount,
    /// Bytes of an answer.
    pub(super) answer_bytes_max: ByteCount,
}

/// A request for so many partitions.
#[derive(Debug)]
pub(super) struct FetchFrame {
    bytes: Vec<u8>,
    slots: Vec<Slot>,
}

/// Where in the bytes.
#[derive(Debug)]
struct Slot {
    partition: usize,
    offset: usize,
}

impl FetchFrame {
    /// Encodes a request with `count` slots, all of which are to be set.
    pub(super) fn new(
        version: i16,
        topic: &Topic,
        count: usize,
        options: &FetchOptions,
    ) -> anyhow::Result<FetchFrame> {
        let to_i32 = |bytes: ByteCount| i32::try_from(bytes.get()).unwrap_or(i32::MAX);
        let count = i32::try_from(count)?;
        let slot = |index: i32| FetchPartition {
            partition: index,
            fetch_offset: PLACEHOLDER + i64::from(index),
            partition_max_bytes: to_i32(options.partition_bytes_max),
            ..Default::default()
        };
        let request = FetchRequest {
            max_wait_ms: options.wait_max_ms,
            min_bytes: options.bytes_min,
            max_bytes: to_i32(options.answer_bytes_max),
            topics: vec![FetchTopic {
                topic: topic.name.clone(),
                topic_id: topic.id,
                partitions: (0..count).map(slot).collect(),
            }],
            ..Default::default()
        };
        let encoded = frame::encode_request(&request, version, 0, Some("aquifer-bench".into()))?.into_bytes();
        let between = if version >= EPOCH_SINCE { size_of::<i32>() } else { 0 };
        let mut slots = Vec::new();
        let mut from = 0;
        for index in 0..count {
            let placeholder = (PLACEHOLDER + i64::from(index)).to_be_bytes();
            let found = encoded[from..].windows(placeholder.len()).position(|window| window == placeholder);
            let offset = from + found.context("a request holds its offsets")?;
            let partition = offset - between - size_of::<i32>();
            ensure!(encoded[partition..].starts_with(&index.to_be_bytes()), "a request holds its partitions");
            from = offset + placeholder.len();
            slots.push(Slot { partition, offset });
        }
        Ok(FetchFrame { bytes: encoded.to_vec(), slots })
    }

    /// How many slots there are.
    pub(super) fn slot_count(&self) -> usize {
        self.slots.len()
    }

    /// Puts a partition into a slot, to be read from `offset` on.
    pub(super) fn set(&mut self, slot: usize, partition: i32, offset: Offset) {
        let Slot { partition: partition_at, offset: offset_at } = self.slots[slot];
        put(&mut self.bytes, partition_at, &partition.to_be_bytes());
        put(&mut self.bytes, offset_at, &offset.get().to_be_bytes());
    }

    /// Sets the number by which its answer is known.
    pub(super) fn set_correlation_id(&mut self, id: i32) {
        put(&mut self.bytes, CORRELATION_ID_AT, &id.to_be_bytes());
    }

    /// The request, its length in front.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

#[cfg(test)]
mod tests {
    use aquifer_protocol::frame::RequestHeader;
    use aquifer_protocol::{Message as _, Reader};
    use bytes::Bytes;

    use super::*;
    use crate::cli::bench::tests::topic;

    #[test]
    fn slots_are_where_the_protocol_has_them_in_every_version() {
        let options = FetchOptions {
            wait_max_ms: 500,
            bytes_min: 1,
            partition_bytes_max: ByteCount::kib(64),
            answer_bytes_max: ByteCount::mib(4),
        };
        let topic = topic("t", 3);
        for version in 4..=17 {
            let mut frame = FetchFrame::new(version, &topic, 3, &options).unwrap();
            assert_eq!(frame.slot_count(), 3);
            let wanted = [(2, 1 << 40), (7, 0), (0, 5)];
            for (slot, (partition, offset)) in wanted.into_iter().enumerate() {
                frame.set(slot, partition, Offset::new(offset).unwrap());
            }
            frame.set_correlation_id(77);
            let mut reader = Reader::new(Bytes::copy_from_slice(&frame.bytes()[4..]));
            assert_eq!(RequestHeader::decode(&mut reader).unwrap().correlation_id, 77);
            let request = FetchRequest::decode(&mut reader, version).unwrap();
            reader.expect_end().unwrap();
            assert_eq!((request.max_wait_ms, request.min_bytes, request.max_bytes), (500, 1, 4 << 20));
            assert_eq!(request.session_epoch, -1);
            let found = request.topics[0].partitions.iter().map(|slot| {
                assert_eq!(slot.partition_max_bytes, 64 << 10);
                (slot.partition, slot.fetch_offset)
            });
            assert_eq!(found.collect::<Vec<_>>(), wanted, "version {version}");
        }
    }
}
