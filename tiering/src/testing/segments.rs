//! Segments made for tests: real batches in a real file.

use std::path::Path;

use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{
    BatchHeader, ByteCount, EpochStart, LeaderEpoch, LeaderEpochs, Offset, OffsetRange, SealedSegment,
    Timestamp,
};
use aquifer_runtime::World;
use bytes::Bytes;

use crate::upload::SegmentSource;

/// What a test's segment is like.
#[derive(Debug, Clone, Copy)]
pub struct Recipe {
    /// Its first offset.
    pub base: i64,
    /// How many batches.
    pub batches: u32,
    /// Records in each.
    pub records: u32,
    /// Bytes of each record's value.
    pub value_bytes: usize,
    /// Who wrote it.
    pub epoch: i32,
    /// Timestamp of its first record; each batch is a second later, each record a millisecond.
    pub timestamp: i64,
    /// How its batches are compressed.
    pub compression: Compression,
}

impl Recipe {
    /// Ten batches of ten small records.
    pub fn small(base: i64) -> Recipe {
        Recipe {
            base,
            batches: 10,
            records: 10,
            value_bytes: 100,
            epoch: 0,
            timestamp: 1_000_000 + base * 100,
            compression: Compression::None,
        }
    }

    /// The first offset behind it.
    pub fn next(&self) -> i64 {
        self.base + i64::from(self.batches) * i64::from(self.records)
    }

    /// The log's bytes.
    pub fn log(&self) -> Vec<u8> {
        let mut log = Vec::new();
        for batch in 0..self.batches {
            let offset = self.base + i64::from(batch) * i64::from(self.records);
            log.extend_from_slice(&self.batch(offset, self.timestamp + i64::from(batch) * 1_000));
        }
        log
    }

    fn batch(&self, offset: i64, timestamp: i64) -> Vec<u8> {
        let mut builder = BatchBuilder::new();
        for record in 0..i64::from(self.records) {
            let number = offset + record;
            // Bytes that differ by offset and do not compress to nothing.
            let mut state = number.unsigned_abs().wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
            let mut value = Vec::with_capacity(self.value_bytes + 8);
            while value.len() < self.value_bytes {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                value.extend_from_slice(&state.to_be_bytes());
            }
            value.truncate(self.value_bytes);
            builder.push(Timestamp(timestamp + record), Some(&number.to_be_bytes()), Some(&value), &[]);
        }
        let mut bytes = builder.finish(self.compression).expect("compressing in memory does not fail");
        let mut header = BatchHeader::parse(&bytes).expect("a built batch parses");
        header.place(offset_of(offset), epoch_of(self.epoch));
        bytes[..aquifer_model::batch::HEADER_BYTES].copy_from_slice(&header.to_bytes());
        bytes
    }

    /// The segment, its log written into a folder.
    pub fn source(&self, folder: &Path) -> SegmentSource {
        let log = self.log();
        let world = World::system();
        let path = folder.join(format!("{:020}-{}.log", self.base, world.rng.uuid()));
        let file = world.disk.create_new(&path).expect("a test's folder can be written");
        file.write_all_at(0, &mut [std::io::IoSlice::new(&log)]).expect("a test's folder has room");
        SegmentSource {
            segment: SealedSegment {
                range: OffsetRange { base: offset_of(self.base), next: offset_of(self.next()) },
                log_bytes: ByteCount(log.len() as u64),
                timestamp_max: Timestamp(
                    self.timestamp + i64::from(self.batches - 1) * 1_000 + i64::from(self.records - 1),
                ),
                sealed_at: Timestamp(self.timestamp),
                epochs: LeaderEpochs::from_entries(vec![EpochStart {
                    epoch: epoch_of(self.epoch),
                    start: offset_of(self.base),
                }])
                .expect("one entry is in order"),
            },
            log: file,
            aborted: Vec::new(),
            producers: Bytes::from(format!("producers at {}", self.next())),
        }
    }
}

/// An offset.
///
/// # Panics
/// For a negative number.
pub fn offset_of(number: i64) -> Offset {
    Offset::new(number).expect("tests use offsets of 0 or more")
}

/// A leader epoch.
///
/// # Panics
/// For a negative number.
pub fn epoch_of(number: i32) -> LeaderEpoch {
    LeaderEpoch::new(number).expect("tests use epochs of 0 or more")
}
