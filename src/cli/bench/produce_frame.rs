//! Produce requests that are encoded once.
//!
//! A request is text, a batch, text, a batch, ..., text. The texts (headers, names, lengths) never change and belong to the frame;
//! the batches are the same in all frames. So a request leaves as slices of what is there already, and nothing of it is copied
//! but into the socket. The correlation id never changes either: it says which frame an answer belongs to, and answers come
//! in the order of the requests.

use anyhow::{Context as _, ensure};
use aquifer_model::batch::HEADER_BYTES;
use aquifer_protocol::frame;
use aquifer_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use bytes::Bytes;

use crate::cli::bench::load::Head;
use crate::cli::cluster::{PATIENCE, Topic};

/// Slices that each batch adds to a request: its head, its records, the text behind.
const PARTS_PER_BATCH: usize = 3;

/// A request for some partitions.
#[derive(Debug)]
pub(super) struct ProduceFrame {
    /// One more than there are partitions.
    texts: Vec<Bytes>,
    partitions: Vec<i32>,
}

impl ProduceFrame {
    /// Encodes the request that carries a copy of `batch` to each of `partitions`.
    pub(super) fn new(
        version: i16,
        correlation_id: i32,
        topic: &Topic,
        partitions: &[i32],
        acks: i16,
        batch: &Bytes,
    ) -> anyhow::Result<ProduceFrame> {
        ensure!(batch.len() >= HEADER_BYTES, "a batch has a header");
        let request = request(topic, partitions, acks, batch);
        let client_id = Some("aquifer-bench".into());
        let encoded = frame::encode_request(&request, version, correlation_id, client_id)?.into_bytes();
        let mut texts = Vec::with_capacity(partitions.len() + 1);
        let mut at = 0;
        for _ in partitions {
            let head = &batch[..HEADER_BYTES];
            let found = encoded[at..].windows(HEADER_BYTES).position(|window| window == head);
            let found = at + found.context("a request holds its batches")?;
            texts.push(Bytes::copy_from_slice(&encoded[at..found]));
            at = found + batch.len();
        }
        texts.push(Bytes::copy_from_slice(&encoded[at..]));
        Ok(ProduceFrame { texts, partitions: partitions.to_vec() })
    }

    /// Which partitions it goes to, in its order.
    pub(super) fn partitions(&self) -> &[i32] {
        &self.partitions
    }

    /// The slice of that index, counted from 0, with these heads (one for each partition) over the same records; `None` behind the
    /// last.
    pub(super) fn part<'a>(&'a self, index: usize, heads: &'a [Head], records: &'a [u8]) -> Option<&'a [u8]> {
        let of = index / PARTS_PER_BATCH;
        match index % PARTS_PER_BATCH {
            0 => self.texts.get(of).map(|text| &text[..]),
            1 => (of < self.partitions.len()).then(|| &heads[of][..]),
            _ => (of < self.partitions.len()).then_some(records),
        }
    }
}

/// The request itself.
pub(super) fn request(topic: &Topic, partitions: &[i32], acks: i16, batch: &Bytes) -> ProduceRequest {
    let data = |index: &i32| PartitionProduceData { index: *index, records: batch.clone().into() };
    ProduceRequest {
        transactional_id: None,
        acks,
        timeout_ms: i32::try_from(PATIENCE.as_millis()).unwrap_or(i32::MAX),
        topic_data: vec![TopicProduceData {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_data: partitions.iter().map(data).collect(),
        }],
    }
}

#[cfg(test)]
mod tests {
    use aquifer_model::compression::Compression;
    use aquifer_model::{BatchHeader, ByteCount};
    use aquifer_protocol::frame::RequestHeader;
    use aquifer_protocol::{ApiKey, Message as _, Reader};
    use aquifer_runtime::world::World;

    use super::*;
    use crate::cli::bench::load::{Load, LoadOptions};
    use crate::cli::bench::tests::topic;

    /// What leaves is the request that was meant, in every version, with batches of every size.
    #[test]
    fn a_frame_is_the_request_with_these_heads() {
        for (version, batch_bytes) in
            [3, 8, 9, 12, 13].into_iter().flat_map(|v| [1, 400, 5000].map(|b| (v, b)))
        {
            let options = LoadOptions {
                record_bytes: ByteCount(10),
                batch_bytes: ByteCount(batch_bytes),
                has_keys: false,
                compression: Compression::None,
            };
            let load = Load::new(&World::system(), &options).unwrap();
            let topic = topic("t", 3);
            let frame = ProduceFrame::new(version, 5, &topic, &[2, 0, 1], -1, &load.batch()).unwrap();
            let producer = |base_sequence| aquifer_model::batch::BatchProducer {
                id: aquifer_model::ProducerId(3),
                epoch: aquifer_model::ProducerEpoch(0),
                base_sequence,
            };
            let heads = [10, 20, 30].map(|sequence| load.head(Some(producer(sequence)), load.records()));
            let mut bytes = Vec::new();
            let mut index = 0;
            while let Some(part) = frame.part(index, &heads, load.records()) {
                bytes.extend_from_slice(part);
                index += 1;
            }
            let (length, body) = bytes.split_first_chunk().unwrap();
            assert_eq!(usize::try_from(i32::from_be_bytes(*length)).unwrap(), body.len());
            let mut reader = Reader::new(Bytes::copy_from_slice(body));
            let header = RequestHeader::decode(&mut reader).unwrap();
            assert_eq!(
                (header.api_key, header.api_version, header.correlation_id),
                (ApiKey::Produce, version, 5)
            );
            let request = ProduceRequest::decode(&mut reader, version).unwrap();
            reader.expect_end().unwrap();
            assert_eq!(request.acks, -1);
            let [data] = &request.topic_data[..] else { panic!("one topic: {request:?}") };
            match version {
                13 => assert_eq!(data.topic_id, topic.id),
                _ => assert_eq!(data.name, topic.name),
            }
            let found: Vec<(i32, i32)> = data
                .partition_data
                .iter()
                .map(|partition| {
                    let batch = partition.records.clone().into_bytes();
                    let header = BatchHeader::parse(&batch).unwrap();
                    header.verify(&batch).unwrap();
                    assert_eq!(header.size(), batch.len());
                    (partition.index, header.producer().unwrap().base_sequence)
                })
                .collect();
            assert_eq!(found, [(2, 10), (0, 20), (1, 30)]);
        }
    }
}
