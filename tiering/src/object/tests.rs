use super::scan::{Scan, ScanError};
use super::*;
use crate::testing::segments::{Recipe, epoch_of, offset_of};
use aquifer_model::compression::Compression;
use aquifer_model::{EpochStart, ProducerId};
use proptest::prelude::*;
use uuid::Uuid;

fn range(recipe: &Recipe) -> OffsetRange {
    OffsetRange { base: offset_of(recipe.base), next: offset_of(recipe.next()) }
}

fn epochs(recipe: &Recipe) -> LeaderEpochs {
    let start = EpochStart { epoch: epoch_of(recipe.epoch), start: offset_of(recipe.base) };
    LeaderEpochs::from_entries(vec![start]).unwrap()
}

fn scan(recipe: &Recipe, log: &[u8], piece: usize) -> Result<scan::Scanned, ScanError> {
    let mut scan = Scan::new(range(recipe), epochs(recipe), ByteCount::kib(4));
    for piece in log.chunks(piece) {
        scan.feed(piece)?;
    }
    scan.finish()
}

fn index(recipe: &Recipe) -> SegmentIndex {
    let scanned = scan(recipe, &recipe.log(), 1 << 20).unwrap();
    SegmentIndex {
        partition: TopicPartition { topic: TopicId::new(Uuid::from_u128(5)), partition: PartitionIndex(1) },
        segment: SealedSegment {
            range: range(recipe),
            log_bytes: scanned.log_bytes,
            timestamp_max: scanned.timestamp_max,
            sealed_at: Timestamp(99),
            epochs: epochs(recipe),
        },
        uploader: epoch_of(7),
        log_crc: scanned.log_crc,
        block_bytes: BLOCK_BYTES,
        block_crcs: scanned.block_crcs,
        offsets: scanned.offsets,
        times: scanned.times,
        aborted: vec![AbortedTxn {
            producer: ProducerId(4),
            first: offset_of(1),
            last: offset_of(3),
            stable: offset_of(4),
        }],
        producers: Bytes::from_static(b"producers"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in buckets already must be read for ever: these bytes never change.
#[test]
fn golden_bytes_are_read() {
    let mut index = index(&Recipe { batches: 3, records: 2, ..Recipe::small(0) });
    index.log_crc = 0xdead_beef;
    index.block_crcs = vec![0xcafe_f00d];
    let tail = index.encode_tail();
    assert_eq!(hex(&tail), include_str!("../../tests/golden/tail-1.hex").trim());
    assert_eq!(SegmentIndex::decode_tail(&tail.into()), Ok(index));
}

#[test]
fn a_tail_is_found_from_the_end_of_an_image() {
    let recipe = Recipe::small(1_000);
    let index = index(&recipe);
    let tail = index.encode_tail();
    let image = [recipe.log(), tail.clone()].concat();
    assert_eq!(SegmentIndex::decode_tail(&image.into()), Ok(index));
    let last = Bytes::from(tail.clone()).slice(tail.len() - 40..);
    assert_eq!(SegmentIndex::decode_tail(&last), Err(TailError::More(ByteCount(tail.len() as u64))));
    for cut in 0..tail.len() {
        assert!(SegmentIndex::decode_tail(&Bytes::from(tail[..cut].to_vec())).is_err(), "cut at {cut}");
    }
}

#[test]
fn every_flipped_bit_of_a_tail_is_seen() {
    let index = index(&Recipe { batches: 2, ..Recipe::small(0) });
    let tail = index.encode_tail();
    for at in 0..tail.len() {
        for bit in 0..8 {
            let mut flipped = tail.clone();
            flipped[at] ^= 1 << bit;
            assert!(SegmentIndex::decode_tail(&flipped.into()).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn blocks_are_verified_by_themselves() {
    let recipe = Recipe { batches: 30, value_bytes: 10_000, ..Recipe::small(0) };
    let (index, log) = (index(&recipe), recipe.log());
    let block = BLOCK_BYTES as usize;
    assert!(log.len() > 2 * block, "the log has several blocks");
    assert_eq!(index.verify(0, &log), Ok(()));
    assert_eq!(index.verify(block as u64, &log[block..]), Ok(()));
    assert_eq!(index.verify(block as u64, &log[block..2 * block]), Ok(()));
    let sums = |pieces: &[&[u8]]| {
        let mut sums = BlockSums::default();
        pieces.iter().for_each(|piece| sums.update(piece));
        sums.finish()
    };
    let (first, rest) = log[block..].split_at(block + 5);
    assert_eq!(index.verify_sums(block as u64, &sums(&[first, rest])), Ok(()));
    assert!(index.verify_sums(block as u64, &sums(&[rest, first])).is_err());
    let other = SegmentIndex { block_bytes: BLOCK_BYTES / 2, ..index.clone() };
    assert!(other.verify_sums(0, &sums(&[&log])).is_err(), "sums of other blocks");
    let mut flipped = log.clone();
    flipped[block + 5] ^= 1;
    assert_eq!(index.verify(0, &flipped), Err(BadBlock { position: block as u64 }));
    assert_eq!(index.verify(0, &flipped[..block]), Ok(()));
    // Behind the last block there is nothing that could be right.
    assert!(index.verify(64 * block as u64, &log[..10]).is_err());
}

#[test]
fn the_scan_refuses_what_must_not_stay_for_ever() {
    let recipe = Recipe::small(50);
    let log = recipe.log();
    for at in (21..log.len()).step_by(37) {
        let mut flipped = log.clone();
        flipped[at] ^= 0x10;
        // Some bytes lie outside of the checksum; of these the offset is checked by itself, and the epoch.
        let unchecked = (0..log.len()).step_by(log.len() / 10).any(|start| (start..start + 21).contains(&at));
        assert!(unchecked || scan(&recipe, &flipped, 512).is_err(), "byte {at}");
    }
    assert!(matches!(scan(&recipe, &log[..log.len() - 1], 512), Err(ScanError::Cut { .. })));
    let shifted = Recipe { base: 49, batches: 10, ..recipe };
    assert!(matches!(scan(&shifted, &log, 512), Err(ScanError::Offset { .. })));
    let other = Recipe { epoch: 1, ..recipe };
    assert!(matches!(scan(&other, &log, 512), Err(ScanError::Epoch { .. })));
    let twice = [&log[..], &log[..]].concat();
    assert!(matches!(scan(&recipe, &twice, 512), Err(ScanError::Offset { .. })));
}

proptest! {
    #[test]
    fn the_scan_does_not_care_how_the_log_is_cut(piece in 1usize..5_000, value_bytes in 0usize..3_000) {
        let recipe = Recipe { value_bytes, compression: Compression::Lz4, ..Recipe::small(10) };
        let log = recipe.log();
        prop_assert_eq!(scan(&recipe, &log, piece), scan(&recipe, &log, usize::MAX));
    }

    #[test]
    fn no_bytes_make_the_decoders_panic(bytes: Vec<u8>, flip in 0usize..2_000, bit in 0u8..8) {
        let _ = SegmentIndex::decode_tail(&bytes.clone().into());
        let recipe = Recipe::small(0);
        let _ = scan(&recipe, &bytes, 100);
        // Damage to the footer behind a right checksum.
        let index = index(&Recipe { batches: 2, ..recipe });
        let tail = index.encode_tail();
        let footer_bytes = u32::from_be_bytes([0, 1, 2, 3].map(|at| tail[tail.len() - TRAILER_BYTES + at])) as usize;
        let start = tail.len() - TRAILER_BYTES - footer_bytes;
        let mut body = tail[start + aquifer_model::format::ENVELOPE_BYTES..tail.len() - TRAILER_BYTES].to_vec();
        let at = flip % body.len();
        body[at] ^= 1 << bit;
        let mut forged = tail[..start].to_vec();
        forged.extend_from_slice(&FOOTER.seal(&body));
        forged.extend_from_slice(&tail[tail.len() - TRAILER_BYTES..]);
        let _ = SegmentIndex::decode_tail(&forged.into());
    }
}
