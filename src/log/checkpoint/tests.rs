use aquifer_model::epochs::EpochStart;
use aquifer_model::format::crc32c;
use aquifer_model::fuzzing::{of_next_version, with_unknown_field};
use aquifer_model::{LeaderEpoch, ProducerEpoch, ProducerId};
use proptest::prelude::*;

use super::*;

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

fn epochs() -> LeaderEpochs {
    let start = |epoch, start| EpochStart { epoch: LeaderEpoch::new(epoch).unwrap(), start: offset(start) };
    LeaderEpochs::from_entries(vec![start(0, 0), start(4, 120)]).unwrap()
}

fn topic() -> TopicId {
    TopicId::new(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef))
}

fn partition_file() -> PartitionFile {
    let partition = TopicPartition { topic: topic(), partition: PartitionIndex(7) };
    PartitionFile { partition, topic: TopicName::new("orders").unwrap(), gaps_below: Some(offset(150)) }
}

/// As it was before it said where gaps may lie.
fn old_partition_file() -> PartitionFile {
    PartitionFile { gaps_below: None, ..partition_file() }
}

fn checkpoint() -> Checkpoint {
    let facts = |base, next| SealedFacts {
        range: OffsetRange { base: offset(base), next: offset(next) },
        bytes: ByteCount(4096),
        timestamp_max: Timestamp(1_700_000_000_000),
        sealed_at: Timestamp(1_700_000_000_500),
        aborted: 1,
    };
    Checkpoint {
        point: RecoveryPoint {
            segment: offset(200),
            position: 512,
            offset: offset(210),
            epochs: epochs(),
            producers: Bytes::from_static(b"producers"),
        },
        log_start: offset(0),
        local_start: offset(100),
        high_watermark: offset(205),
        sealed: vec![facts(100, 150), facts(150, 200)],
        discard: false,
        compaction: None,
        journal: None,
    }
}

fn directory(is_journaled: bool) -> DirectoryFile {
    DirectoryFile { uuid: topic().uuid(), is_journaled }
}

fn journaled_checkpoint() -> Checkpoint {
    Checkpoint { journal: Some(JournalMark { run: 7, sequence: 1_000 }), ..checkpoint() }
}

fn compacted_checkpoint() -> Checkpoint {
    let swapping = vec![offset(100), offset(150)];
    let compaction = CompactionProgress { clean_below: offset(130), gaps_below: offset(150), swapping };
    Checkpoint { compaction: Some(compaction), ..checkpoint() }
}

fn producers() -> Producers {
    use aquifer_model::batch::{BatchProducer, NewBatch};
    let producer = BatchProducer { id: ProducerId(9), epoch: ProducerEpoch(2), base_sequence: 40 };
    let mut header = NewBatch {
        compression: aquifer_model::compression::Compression::None,
        transactional: true,
        control: false,
        base_timestamp: Timestamp(50),
        max_timestamp: Timestamp(60),
        producer: Some(producer),
        record_count: 3,
    }
    .header(b"");
    header.place(offset(300), LeaderEpoch::ZERO);
    let mut producers = Producers::default();
    producers.note(&header, None, Timestamp(70));
    producers
}

fn snapshot() -> Snapshot {
    Snapshot { offset: offset(303), log_start: offset(3), epochs: epochs(), producers: producers() }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The bytes of today must be readable for ever: whoever changes one of these changes a durable format, and needs a new version.
#[test]
fn durable_bytes_are_as_they_were() {
    let mut changed = Vec::new();
    for (name, bytes, golden) in [
        ("format", directory(false).encode(), include_str!("../golden/format.hex")),
        ("format with a journal", directory(true).encode(), include_str!("../golden/format_journal.hex")),
        ("old partition", old_partition_file().encode(), include_str!("../golden/partition.hex")),
        ("partition", partition_file().encode(), include_str!("../golden/partition_gaps.hex")),
        ("boot", encode_boot("8e5c0a1d"), include_str!("../golden/boot.hex")),
        ("checkpoint", checkpoint().encode(), include_str!("../golden/checkpoint.hex")),
        (
            "discarding checkpoint",
            Checkpoint { discard: true, ..checkpoint() }.encode(),
            include_str!("../golden/checkpoint_discard.hex"),
        ),
        (
            "checkpoint of a compacted log",
            compacted_checkpoint().encode(),
            include_str!("../golden/checkpoint_gaps.hex"),
        ),
        (
            "checkpoint with the journal's mark",
            journaled_checkpoint().encode(),
            include_str!("../golden/checkpoint_journal.hex"),
        ),
        ("snapshot", snapshot().encode(), include_str!("../golden/snapshot.hex")),
        ("index chunk", crate::log::index::golden_chunk(), include_str!("../golden/index_chunk.hex")),
    ] {
        if hex(&bytes) != golden.trim() {
            changed.push(format!("{name}: {}", hex(&bytes)));
        }
    }
    assert!(changed.is_empty(), "{changed:#?}");
}

/// Before compaction noted where it leaves gaps, they could lie anywhere in what was written so far.
#[test]
fn what_older_programs_wrote_says_nothing_of_gaps() {
    let bytes = |hex: &str| -> Vec<u8> {
        let digits = hex.trim().as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    };
    let old = Checkpoint::decode(&bytes(include_str!("../golden/checkpoint_compacted.hex"))).unwrap();
    let mut expected = compacted_checkpoint();
    expected.compaction.as_mut().unwrap().gaps_below = old.point.offset;
    assert_eq!(old, expected);
    let old = PartitionFile::decode(&bytes(include_str!("../golden/partition.hex")));
    assert_eq!(old, Ok(old_partition_file()));
}

#[test]
fn what_was_written_is_read() {
    for directory in [false, true].map(directory) {
        assert_eq!(DirectoryFile::decode(&directory.encode()), Ok(directory));
    }
    assert_eq!(decode_boot(&encode_boot("8e5c0a1d")).as_deref(), Ok("8e5c0a1d"));
    for file in [partition_file(), old_partition_file()] {
        assert_eq!(PartitionFile::decode(&file.encode()), Ok(file));
    }
    for discard in [false, true] {
        for checkpoint in [checkpoint(), compacted_checkpoint(), journaled_checkpoint()] {
            let checkpoint = Checkpoint { discard, ..checkpoint };
            assert_eq!(Checkpoint::decode(&checkpoint.encode()), Ok(checkpoint));
        }
    }
    assert_eq!(Snapshot::decode(&snapshot().encode()), Ok(snapshot()));
}

#[test]
fn a_checkpoint_whose_segments_do_not_join_is_refused() {
    let mut gap = checkpoint();
    gap.sealed[0].range.next = offset(149);
    let mut short = checkpoint();
    short.point.segment = offset(201);
    let mut backwards = checkpoint();
    backwards.point.offset = offset(199);
    for wrong in [gap, short, backwards] {
        assert!(Checkpoint::decode(&wrong.encode()).is_err());
    }
}

#[test]
fn a_newer_version_is_refused_by_name() {
    let error = Checkpoint::decode(&of_next_version(&checkpoint().encode())).unwrap_err();
    assert_eq!(
        error.to_string(),
        "checkpoint has version 2, this program knows up to 1: use a newer aquifer"
    );
}

/// Each small file, by what reads it.
#[test]
fn what_newer_programs_add_is_read_over_or_refused_by_name() {
    type Read = fn(&[u8]) -> Result<(), FormatError>;
    let files: [(&str, Vec<u8>, Read); 6] = [
        ("log dir format", directory(false).encode(), |b| DirectoryFile::decode(b).map(drop)),
        ("partition file", old_partition_file().encode(), |b| PartitionFile::decode(b).map(drop)),
        ("boot file", encode_boot("8e5c0a1d"), |b| decode_boot(b).map(drop)),
        ("checkpoint", checkpoint().encode(), |b| Checkpoint::decode(b).map(drop)),
        ("producer snapshot", snapshot().encode(), |b| Snapshot::decode(b).map(drop)),
        ("segment index", crate::log::index::golden_chunk(), |b| {
            let loaded = crate::log::index::load(b, Offset::ZERO, u64::MAX)?;
            assert_eq!(loaded.file_bytes, b.len() as u64, "nothing of it is taken for damage");
            Ok(())
        }),
    ];
    for (format, bytes, read) in files {
        assert_eq!(read(&with_unknown_field(&bytes, false)), Ok(()), "{format}");
        let required = Err(FormatError::RequiredField { format, tag: 100 });
        assert_eq!(read(&with_unknown_field(&bytes, true)), required);
        assert_eq!(read(&of_next_version(&bytes)), Err(FormatError::Version { format, found: 2, known: 1 }));
    }
}

/// `bytes` with one byte of its body changed, under a checksum that holds.
fn forged(mut bytes: Vec<u8>, at: usize, to: u8) -> Vec<u8> {
    let at = 16 + at % (bytes.len() - 16);
    bytes[at] = to;
    let crc = crc32c(&[&bytes[..12], &bytes[16..]]);
    bytes[12..16].copy_from_slice(&crc.to_be_bytes());
    bytes
}

proptest! {
    #[test]
    fn no_bytes_make_a_decoder_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<usize>(), to: u8) {
        let real = [
            directory(true).encode(),
            partition_file().encode(),
            encode_boot("8e5c0a1d"),
            checkpoint().encode(),
            compacted_checkpoint().encode(),
            journaled_checkpoint().encode(),
            snapshot().encode(),
            crate::log::index::golden_chunk(),
        ];
        for bytes in real.into_iter().map(|real| forged(real, at, to)).chain([bytes]) {
            let _ = DirectoryFile::decode(&bytes);
            let _ = decode_boot(&bytes);
            let _ = PartitionFile::decode(&bytes);
            let _ = Checkpoint::decode(&bytes);
            let _ = Snapshot::decode(&bytes);
            let _ = crate::log::index::load(&bytes, Offset::ZERO, u64::MAX);
        }
    }
}
