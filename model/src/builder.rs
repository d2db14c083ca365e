//! Batches made here: for tools, tests and control records.

use std::io;

use crate::batch::{BatchProducer, HEADER_BYTES, NewBatch};
use crate::compression::Compression;
use crate::record::put_varint;
use crate::time::Timestamp;

/// Collects records, then makes one batch of them.
#[derive(Debug, Clone, Default)]
pub struct BatchBuilder {
    records: Vec<u8>,
    count: u32,
    base_timestamp: Option<Timestamp>,
    timestamp_max: Option<Timestamp>,
    producer: Option<BatchProducer>,
    scratch: Vec<u8>,
}

impl BatchBuilder {
    /// No records yet.
    pub fn new() -> BatchBuilder {
        BatchBuilder::default()
    }

    /// Makes the batch part of an idempotent producer's sequence.
    #[must_use]
    pub fn with_producer(mut self, producer: BatchProducer) -> BatchBuilder {
        self.producer = Some(producer);
        self
    }

    /// Adds a record.
    pub fn push(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[(&[u8], Option<&[u8]>)],
    ) {
        let base = *self.base_timestamp.get_or_insert(timestamp);
        self.timestamp_max = self.timestamp_max.max(Some(timestamp));
        let body = &mut self.scratch;
        body.clear();
        body.push(0);
        put_varint(body, timestamp.0.wrapping_sub(base.0));
        put_varint(body, i64::from(self.count));
        put_nullable(body, key);
        put_nullable(body, value);
        put_varint(body, headers.len() as i64);
        for (key, value) in headers {
            put_nullable(body, Some(key));
            put_nullable(body, *value);
        }
        put_varint(&mut self.records, self.scratch.len() as i64);
        self.records.extend_from_slice(&self.scratch);
        self.count += 1;
    }

    /// How many records it holds.
    pub fn record_count(&self) -> u32 {
        self.count
    }

    /// How many bytes its records take up, uncompressed.
    pub fn size(&self) -> usize {
        self.records.len()
    }

    /// The batch, at offset 0; fails only if the codec does.
    ///
    /// # Panics
    /// If no record was added.
    pub fn finish(self, compression: Compression) -> io::Result<Vec<u8>> {
        let packed = match compression {
            Compression::None => self.records,
            _ => compression.compress(&self.records)?,
        };
        let header = NewBatch {
            compression,
            transactional: false,
            control: false,
            base_timestamp: self.base_timestamp.unwrap_or(Timestamp::NONE),
            max_timestamp: self.timestamp_max.unwrap_or(Timestamp::NONE),
            producer: self.producer,
            record_count: self.count,
        }
        .header(&packed);
        let mut out = Vec::with_capacity(HEADER_BYTES + packed.len());
        out.extend_from_slice(&header.to_bytes());
        out.extend_from_slice(&packed);
        Ok(out)
    }
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        None => put_varint(out, -1),
        Some(bytes) => {
            put_varint(out, bytes.len() as i64);
            out.extend_from_slice(bytes);
        }
    }
}
