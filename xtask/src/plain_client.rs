//! A client of a chosen name on one connection, with nothing between itself and the broker: it asks, and waits for the answer. What an answer says of throttling it does not look at.

use anyhow::{Context, Result, bail, ensure};
use aquifer_model::Timestamp;
use aquifer_model::batch::BatchHeader;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_protocol::frame::{decode_response, encode_request};
use aquifer_protocol::messages::alter_client_quotas::{
    AlterClientQuotasRequest, EntityData, EntryData, OpData,
};
use aquifer_protocol::messages::fetch::{FetchPartition, FetchRequest, FetchTopic};
use aquifer_protocol::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use aquifer_protocol::{Records, Request, Str};
use bytes::Bytes;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Longer than any rest that a broker prescribes here.
const PATIENCE: Duration = Duration::from_secs(60);
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Bytes that it reads at a time. Most kernels let nobody else have the core before a read is done, not even from one that gives way.
const READ_BYTES_MAX: usize = 16 << 10;
/// The last version of Fetch, and of Produce, in which topics have names.
const VERSION: i16 = 12;

#[derive(Debug)]
pub(crate) struct PlainClient {
    stream: TcpStream,
    name: Str,
}

impl PlainClient {
    pub(crate) fn connect(address: SocketAddr, name: &str) -> Result<PlainClient> {
        let stream = TcpStream::connect_timeout(&address, PATIENCE).context("connecting")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(PlainClient { stream, name: Str::from(name) })
    }

    /// Gives also how many bytes the request had, as quotas count it: without its length in front.
    pub(crate) fn ask<R: Request>(&mut self, request: &R, version: i16) -> Result<(R::Response, u64)> {
        let framed = encode_request(request, version, 1, Some(self.name.clone()))?.into_bytes();
        self.stream.write_all(&framed).with_context(|| format!("asking {}", R::NAME))?;
        let answer = answer::<R>(&mut self.stream, version);
        let answer = answer.with_context(|| format!("waiting for {}", R::NAME))?;
        Ok((answer, framed.len() as u64 - 4))
    }

    /// Appends with `acks=all`; gives the bytes of the request.
    pub(crate) fn produce(&mut self, topic: &str, partition: i32, records: Bytes) -> Result<u64> {
        let data = PartitionProduceData { index: partition, records: Records::from(records) };
        let topic = TopicProduceData {
            name: Str::from(topic),
            partition_data: vec![data],
            ..TopicProduceData::default()
        };
        let request =
            ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() };
        let (answer, bytes) = self.ask(&request, VERSION)?;
        let partition = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let partition = partition.context("an answer to Produce without its partition")?;
        ensure!(partition.error_code.is_none(), "produce: {}", partition.error_code);
        Ok(bytes)
    }

    /// Reads on from `offset` in the first partition of a topic; gives the bytes of records, and where to go on: at the beginning
    /// once the end is reached.
    pub(crate) fn fetch(&mut self, topic: &str, offset: i64, bytes_max: usize) -> Result<(u64, i64)> {
        let bytes_max = i32::try_from(bytes_max)?;
        let partition =
            FetchPartition { fetch_offset: offset, partition_max_bytes: bytes_max, ..Default::default() };
        let topic =
            FetchTopic { topic: Str::from(topic), partitions: vec![partition], ..FetchTopic::default() };
        let request = FetchRequest {
            max_bytes: bytes_max,
            min_bytes: 1,
            max_wait_ms: 500,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let (answer, _) = self.ask(&request, VERSION)?;
        let Some(topic) = answer.responses.first() else {
            // Withheld: again.
            return Ok((0, offset));
        };
        let partition = &topic.partitions[0];
        ensure!(partition.error_code.is_none(), "fetch: {}", partition.error_code);
        let bytes = partition.records.len() as u64;
        let next = behind(&partition.records.clone().into_bytes()).unwrap_or(offset);
        Ok((bytes, if next >= partition.high_watermark { 0 } else { next }))
    }

    pub(crate) fn set_quota(&mut self, client: &str, key: &str, value: f64) -> Result<()> {
        let entity =
            EntityData { entity_type: Str::from_static("client-id"), entity_name: Some(Str::from(client)) };
        let op = OpData { key: Str::from(key), value, remove: false };
        let entries = vec![EntryData { entity: vec![entity], ops: vec![op] }];
        let (answer, _) = self.ask(&AlterClientQuotasRequest { entries, validate_only: false }, 1)?;
        let entry = &answer.entries[0];
        if entry.error_code.is_none() {
            return Ok(());
        }
        bail!("{key} of {client}: {} {:?}", entry.error_code, entry.error_message)
    }
}

/// Reads the answer to a request of this kind.
pub(crate) fn answer<R: Request>(stream: &mut TcpStream, version: i16) -> io::Result<R::Response> {
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if length > ANSWER_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("an answer of {length} bytes")));
    }
    let mut answer = vec![0; length];
    for part in answer.chunks_mut(READ_BYTES_MAX) {
        stream.read_exact(part)?;
    }
    decode_response::<R>(Bytes::from(answer), version).map_err(io::Error::other)
}

/// The offset behind the last whole batch of these, if there is one.
fn behind(mut batches: &[u8]) -> Option<i64> {
    let mut next = None;
    while let Ok(header) = BatchHeader::parse(batches)
        && let Some(rest) = batches.get(header.size()..)
    {
        next = Some(header.next_offset().get());
        batches = rest;
    }
    next
}

/// A batch of one record of so many bytes.
pub(crate) fn batch(bytes: usize) -> Bytes {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut builder = BatchBuilder::new();
    let value = vec![b'q'; bytes];
    builder.push(Timestamp(i64::try_from(now.as_millis()).unwrap_or(i64::MAX)), None, Some(&value), &[]);
    Bytes::from(builder.finish(Compression::None).expect("nothing is compressed"))
}
