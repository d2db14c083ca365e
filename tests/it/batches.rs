//! Record batches, right and wrong, and what is in those that come back.

use aquifer_model::batch::{BatchHeader, BatchProducer, HEADER_BYTES};
use aquifer_model::batches::Batches;
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{ProducerEpoch, ProducerId, Timestamp, record};
use aquifer_protocol::Records;
use aquifer_runtime::World;
use bytes::Bytes;

/// Milliseconds since 1970, by the clock that the broker has.
pub(crate) fn now() -> i64 {
    World::system().clock.wall().0
}

/// A batch with a record for each value, all of this moment.
pub(crate) fn batch(values: &[&str]) -> Bytes {
    let now = now();
    let records: Vec<(i64, &str)> = values.iter().map(|value| (now, *value)).collect();
    batch_at(&records)
}

/// A batch with a record for each time and value.
pub(crate) fn batch_at(records: &[(i64, &str)]) -> Bytes {
    compressed(records, Compression::None)
}

pub(crate) fn compressed(records: &[(i64, &str)], compression: Compression) -> Bytes {
    Bytes::from(builder(records).finish(compression).expect("it can be compressed"))
}

/// A batch whose one record is of so many bytes.
pub(crate) fn batch_of_bytes(size: usize) -> Bytes {
    let value = vec![b'x'; size];
    let mut builder = BatchBuilder::new();
    builder.push(Timestamp(now()), None, Some(&value), &[]);
    Bytes::from(builder.finish(Compression::None).expect("nothing is compressed"))
}

/// A batch of `count` records of an idempotent producer.
pub(crate) fn sequenced(producer: (i64, i16), base_sequence: i32, count: usize) -> Bytes {
    let now = now();
    let values: Vec<String> =
        (0..count).map(|index| format!("{producer:?} {base_sequence}+{index}")).collect();
    let records: Vec<(i64, &str)> = values.iter().map(|value| (now, value.as_str())).collect();
    let producer =
        BatchProducer { id: ProducerId(producer.0), epoch: ProducerEpoch(producer.1), base_sequence };
    Bytes::from(
        builder(&records).with_producer(producer).finish(Compression::None).expect("nothing is compressed"),
    )
}

fn builder(records: &[(i64, &str)]) -> BatchBuilder {
    let mut builder = BatchBuilder::new();
    for (time, value) in records {
        builder.push(Timestamp(*time), None, Some(value.as_bytes()), &[]);
    }
    builder
}

/// The batch with some of its bytes changed, and a checksum that fits.
pub(crate) fn edited(batch: &Bytes, edit: impl FnOnce(&mut [u8])) -> Bytes {
    let mut bytes = batch.to_vec();
    edit(&mut bytes);
    let mut header = BatchHeader::parse(&bytes).expect("a header after all");
    header.set_checksum(&bytes[HEADER_BYTES..]);
    bytes[..HEADER_BYTES].copy_from_slice(&header.to_bytes());
    Bytes::from(bytes)
}

/// The batch with one bit of its last byte flipped, and the checksum as it was.
pub(crate) fn damaged(batch: &Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    *bytes.last_mut().expect("a batch has bytes") ^= 1;
    Bytes::from(bytes)
}

/// One batch behind the other.
pub(crate) fn joined(batches: &[&Bytes]) -> Bytes {
    Bytes::from(batches.iter().flat_map(|batch| batch.iter().copied()).collect::<Vec<u8>>())
}

/// Offsets and values of all records in whole batches, each of which must be sound.
pub(crate) fn records_of(records: &Records) -> Vec<(i64, String)> {
    let bytes = records.clone().into_bytes();
    let mut found = Vec::new();
    for located in Batches::new(&bytes) {
        let whole = bytes.slice(located.position..located.position + located.header.size());
        located.header.verify(&whole).expect("a stored batch is sound");
        let body = whole.slice(HEADER_BYTES..);
        let body = match located.header.compression() {
            Compression::None => body,
            codec => Bytes::from(codec.decompress(&body, 64 << 20).expect("a stored batch can be opened")),
        };
        for record in record::read(&located.header, &body).expect("a stored batch can be read") {
            let value = record.value.expect("tests write values");
            found.push((record.offset.get(), String::from_utf8(value.to_vec()).expect("tests write text")));
        }
    }
    found
}

/// The headers of all whole batches.
pub(crate) fn headers_of(records: &Records) -> Vec<BatchHeader> {
    let bytes = records.clone().into_bytes();
    Batches::new(&bytes).map(|located| located.header).collect()
}

/// The values of all records.
pub(crate) fn values_of(records: &Records) -> Vec<String> {
    records_of(records).into_iter().map(|(_, value)| value).collect()
}

/// Numbers that look random, the same each time.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        Dice(seed | 1)
    }

    /// A number below `count`, 0 for none.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % count.max(1) as u64) as usize
    }
}

/// A batch of about so many bytes that do not compress, of this moment.
pub(crate) fn noisy(dice: &mut Dice, bytes: usize, compression: Compression) -> Bytes {
    const RECORD_BYTES: usize = 1000;
    let mut builder = BatchBuilder::new();
    let now = now();
    for _ in 0..bytes.div_ceil(RECORD_BYTES) {
        let value: Vec<u8> =
            (0..RECORD_BYTES / 4).flat_map(|_| (dice.below(1 << 32) as u32).to_le_bytes()).collect();
        builder.push(Timestamp(now), None, Some(&value), &[]);
    }
    Bytes::from(builder.finish(compression).expect("it can be compressed"))
}
