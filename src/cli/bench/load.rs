//! A batch of records that is made once and sent many times, and the header that each copy of it gets.
//!
//! All copies share their records. A header is the same in all, too, unless the producer numbers what it sends or the batch says
//! when it was due; then it is made anew, with its checksum, for each.

use anyhow::Context as _;
use aquifer_model::batch::{BatchProducer, HEADER_BYTES, NewBatch};
use aquifer_model::builder::BatchBuilder;
use aquifer_model::compression::Compression;
use aquifer_model::{BatchHeader, ByteCount};
use aquifer_runtime::world::World;
use bytes::Bytes;

/// What the records' values hold at least where they say when they were due: who sent it, and when.
pub(super) const MARK_BYTES: usize = 16;
const RUN_BYTES: usize = 8;
const KEY_BYTES: usize = 8;

/// A batch's header.
pub(super) type Head = [u8; HEADER_BYTES];

/// What a batch is made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct LoadOptions {
    /// Bytes of each record's value.
    pub(super) record_bytes: ByteCount,
    /// Bytes of a batch, uncompressed, header included; a larger record has a batch to itself.
    pub(super) batch_bytes: ByteCount,
    /// Whether records have keys.
    pub(super) has_keys: bool,
    /// How they are compressed.
    pub(super) compression: Compression,
}

/// A batch.
#[derive(Debug)]
pub(super) struct Load {
    new: NewBatch,
    /// All that follows the header.
    records: Bytes,
    mark: Mark,
}

impl Load {
    /// Makes the batch: of random bytes, which nothing compresses, or, where it is to be compressed, of values whose second half
    /// repeats the first, which all codecs make about half as long.
    pub(super) fn new(world: &World, options: &LoadOptions) -> anyhow::Result<Load> {
        let random = |bytes: &mut [u8]| {
            for chunk in bytes.chunks_mut(size_of::<u64>()) {
                chunk.copy_from_slice(&world.rng.number().to_be_bytes()[..chunk.len()]);
            }
        };
        let bytes_max = usize::try_from(options.batch_bytes.get())?.saturating_sub(HEADER_BYTES);
        let timestamp = world.clock.wall();
        let mut value = vec![0; usize::try_from(options.record_bytes.get())?];
        let mut key = [0; KEY_BYTES];
        let mut first_value = None;
        let mut builder = BatchBuilder::new();
        loop {
            random(&mut value);
            random(&mut key);
            if options.compression != Compression::None {
                let (whole, half) = (value.len(), value.len() / 2);
                value.copy_within(..half, whole - half);
            }
            first_value.get_or_insert_with(|| value.clone());
            let before = builder.size();
            builder.push(timestamp, options.has_keys.then_some(&key[..]), Some(&value), &[]);
            // The next takes as much, or a byte or two more for its number.
            let next = builder.size() - before + 2;
            if builder.size() + next > bytes_max {
                break;
            }
        }
        let batch = Bytes::from(builder.finish(options.compression)?);
        let header = BatchHeader::parse(&batch)?;
        let records = batch.slice(HEADER_BYTES..);
        let new = NewBatch {
            compression: options.compression,
            transactional: false,
            control: false,
            base_timestamp: header.base_timestamp(),
            max_timestamp: header.max_timestamp(),
            producer: None,
            record_count: header.record_count(),
        };
        let mark = Mark::find(&records, &first_value.unwrap_or_default());
        Ok(Load { new, records, mark })
    }

    /// Records of a batch.
    pub(super) fn record_count(&self) -> u32 {
        self.new.record_count
    }

    /// Bytes of a batch, header included.
    pub(super) fn size(&self) -> ByteCount {
        ByteCount((HEADER_BYTES + self.records.len()) as u64)
    }

    /// All that follows the header.
    pub(super) fn records(&self) -> &Bytes {
        &self.records
    }

    /// The header of a copy, by this producer if any, with these records: the load's own, or a copy with another mark.
    pub(super) fn head(&self, producer: Option<BatchProducer>, records: &[u8]) -> Head {
        NewBatch { producer, ..self.new }.header(records).to_bytes()
    }

    /// A whole copy.
    pub(super) fn batch(&self) -> Bytes {
        Bytes::from([&self.head(None, &self.records)[..], &self.records].concat())
    }

    /// Where copies say when they were due; fails where values are too short for it, or compressed.
    pub(super) fn mark(&self) -> anyhow::Result<Mark> {
        let has_room = self.mark.place.is_some() && self.new.compression == Compression::None;
        has_room.then_some(self.mark).with_context(|| {
            format!("records that say when they were sent have {MARK_BYTES} bytes and more, uncompressed")
        })
    }
}

/// Where a batch says when it was due: in the first bytes of its first value, behind random ones that no other run has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    run: [u8; RUN_BYTES],
    /// In the records; `None` in a value too short.
    place: Option<usize>,
}

impl Mark {
    fn find(records: &[u8], first_value: &[u8]) -> Mark {
        let run = first_value.first_chunk().copied().unwrap_or_default();
        let place = records.windows(RUN_BYTES).position(|window| window == run);
        Mark { run, place: place.filter(|_| first_value.len() >= MARK_BYTES) }
    }

    /// Writes into a copy of the records when it was due, in nanoseconds of the run.
    pub(super) fn set(&self, records: &mut [u8], due_ns: u64) {
        let Some(place) = self.place else { return };
        let bytes = due_ns.to_be_bytes();
        records[place + RUN_BYTES..][..bytes.len()].copy_from_slice(&bytes);
    }

    /// When a batch that came back was due; `None` for a batch of anybody else.
    pub(super) fn read(&self, batch: &[u8]) -> Option<u64> {
        let (run, rest) = batch.get(HEADER_BYTES + self.place?..)?.split_first_chunk::<RUN_BYTES>()?;
        let due_ns = rest.first_chunk()?;
        (*run == self.run).then(|| u64::from_be_bytes(*due_ns))
    }
}

#[cfg(test)]
mod tests {
    use aquifer_model::{ProducerEpoch, ProducerId, record};

    use super::*;

    fn options(record_bytes: u64, batch_bytes: u64) -> LoadOptions {
        LoadOptions {
            record_bytes: ByteCount(record_bytes),
            batch_bytes: ByteCount(batch_bytes),
            has_keys: false,
            compression: Compression::None,
        }
    }

    /// Every copy is a sound batch of the records asked for.
    fn check(options: LoadOptions, records: u32) {
        let load = Load::new(&World::system(), &options).unwrap();
        assert_eq!(load.record_count(), records, "{options:?}");
        let numbered =
            |base_sequence| BatchProducer { id: ProducerId(7), epoch: ProducerEpoch(1), base_sequence };
        for producer in [None, Some(numbered(0)), Some(numbered(i32::MAX))] {
            let batch = [&load.head(producer, load.records())[..], load.records()].concat();
            let header = BatchHeader::parse(&batch).unwrap();
            header.verify(&batch).unwrap();
            assert_eq!(header.size(), batch.len());
            assert_eq!((header.producer(), header.record_count()), (producer, records));
            let packed = load.records().clone();
            let opened = match options.compression {
                Compression::None => packed,
                codec => Bytes::from(codec.decompress(&packed, 1 << 30).unwrap()),
            };
            record::check(&header, &opened).unwrap();
            for record in record::read(&header, &opened).unwrap() {
                assert_eq!(record.key.is_some(), options.has_keys);
                assert_eq!(record.value.unwrap().len() as u64, options.record_bytes.get());
            }
        }
    }

    #[test]
    fn batches_hold_what_fits_and_are_sound_whoever_sends_them() {
        check(options(100, 1), 1);
        check(options(0, 200), 19);
        check(options(1024, 64 << 10), 63);
        check(LoadOptions { has_keys: true, ..options(100, 16 << 10) }, 138);
        for compression in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let options = LoadOptions { compression, ..options(1000, 64 << 10) };
            check(options, 64);
            let size = Load::new(&World::system(), &options).unwrap().size().get();
            assert!((24 << 10..48 << 10).contains(&size), "{compression}: {size} bytes of 64 KiB");
        }
    }

    #[test]
    fn a_batch_says_when_it_was_due_and_only_to_its_own_run() {
        let [load, other] = [(), ()].map(|()| Load::new(&World::system(), &options(16, 100)).unwrap());
        let (mark, mut records) = (load.mark().unwrap(), load.records().to_vec());
        for due_ns in [0, 1, u64::MAX] {
            mark.set(&mut records, due_ns);
            let batch = [&load.head(None, &records)[..], &records].concat();
            BatchHeader::parse(&batch).unwrap().verify(&batch).unwrap();
            assert_eq!(mark.read(&batch), Some(due_ns));
            assert_eq!(other.mark().unwrap().read(&batch), None);
        }
        assert_eq!(mark.read(&records[..10]), None);
        Load::new(&World::system(), &options(15, 100)).unwrap().mark().unwrap_err();
    }
}
