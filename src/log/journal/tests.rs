use aquifer_model::format::FormatError;
use aquifer_model::fuzzing::{of_next_version, with_unknown_field};
use aquifer_model::{Offset, PartitionIndex, TopicId};
use proptest::prelude::*;
use uuid::Uuid;

use super::envelope::{BLOCK_BYTES, Found, find_later, read};
use super::*;

const BLOCK: usize = BLOCK_BYTES as usize;

fn piece(partition: i32, position: u64, bytes: u32) -> Piece {
    let topic = TopicId::new(Uuid::from_u128(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef));
    let log = TopicPartition { topic, partition: PartitionIndex(partition) };
    Piece { log, segment: Offset::new(100).unwrap(), position, bytes }
}

/// An envelope of so many bytes, as it is written.
fn sealed(sequence: u64, bytes: usize) -> (Head, Vec<u8>, Vec<u8>) {
    let payload = vec![sequence as u8; bytes];
    let pieces = vec![piece(0, 7, 4), piece(3, 1 << 20, bytes as u32 - 4)];
    let head = Head { run: 9, sequence, pieces, crc: crc32c(&[&payload]), file_bytes: None };
    let mut all = [&head.encode()[..], &payload].concat();
    all.resize(all.len().next_multiple_of(BLOCK), 0);
    (head, payload, all)
}

/// A file with these bytes.
fn file(bytes: &[u8]) -> (tempfile::TempDir, File) {
    let folder = tempfile::tempdir().unwrap();
    let file = Disk::host().open_or_create(&folder.path().join("0")).unwrap();
    file.write_all_at(0, &mut [IoSlice::new(bytes)]).unwrap();
    (folder, file)
}

#[track_caller]
fn at(bytes: &[u8], position: u64) -> Result<Found, FormatError> {
    let (_folder, file) = file(bytes);
    read(&file, position, bytes.len() as u64).unwrap()
}

#[test]
fn an_envelope_is_as_it_was_and_is_read_as_it_was_written() {
    let (head, payload, all) = sealed(1, 100);
    let golden = include_str!("../golden/journal_envelope.hex");
    let hex: String = all[..all.len() - 4096 + 256].iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.trim());
    assert_eq!(Head::decode(&all), Ok(head.clone()));
    for bytes in [5, 3_000, 4_000, 10_000] {
        let (head, payload, mut all) = sealed(1, bytes);
        assert!(all.len() as u64 <= envelope::size(head.pieces.len(), bytes as u64));
        let next = all.len() as u64;
        all.extend_from_slice(&[7; BLOCK]);
        assert_eq!(at(&all, 0), Ok(Found::Envelope(head, payload, next)));
    }
    let two = [all, sealed(2, 100).2].concat();
    assert!(matches!(at(&two, BLOCK_BYTES), Ok(Found::Envelope(head, ..)) if head.sequence == 2));
    assert!(
        matches!(at(&two, 0), Ok(Found::Envelope(found, bytes, _)) if (&found, &bytes) == (&head, &payload))
    );
}

#[test]
fn a_file_begins_with_how_long_it_is() {
    let head = Head { run: 9, sequence: 2, pieces: Vec::new(), crc: crc32c(&[]), file_bytes: Some(1 << 20) };
    let golden = include_str!("../golden/journal_mark.hex");
    let hex: String = head.encode().iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.trim());
    let (_folder, file) = file(&[]);
    begin(&file, 1 << 20, 9, 2).unwrap();
    let found = read(&file, 0, BLOCK_BYTES).unwrap();
    assert_eq!(found, Ok(Found::Envelope(head, Vec::new(), BLOCK_BYTES)));
}

#[test]
fn what_is_torn_or_changed_is_none() {
    let (_, _, all) = sealed(1, 10_000);
    let is_nothing = |bytes: &[u8]| at(bytes, 0) == Ok(Found::Nothing);
    let size = all.len();
    for length in [0, 1, 15, 16, 60, 200, 4_096, 8_192] {
        assert!(is_nothing(&all[..length]), "{length}");
        let mut torn = all.clone();
        torn[length..].fill(0);
        assert!(is_nothing(&torn), "{length}");
    }
    for changed in [0, 4, 9, 12, 20, 30, 70, 5_000, 10_100] {
        let mut bytes = all.clone();
        bytes[changed] ^= 1;
        assert!(is_nothing(&bytes), "{changed}");
    }
    // But for what fills it up to a block.
    let mut bytes_behind = all;
    bytes_behind[size - 1] ^= 1;
    assert!(matches!(at(&bytes_behind, 0), Ok(Found::Envelope(..))));
    assert!(is_nothing(&[0; 3 * BLOCK]));
}

#[test]
fn one_of_a_newer_program_is_refused_by_name() {
    let (head, payload, _) = sealed(1, 100);
    let with = |head: Vec<u8>| at(&[&head[..], &payload].concat(), 0);
    let format = "journal envelope";
    assert_eq!(
        with(of_next_version(&head.encode())),
        Err(FormatError::Version { format, found: 2, known: 1 })
    );
    let required = with(with_unknown_field(&head.encode(), true));
    assert_eq!(required, Err(FormatError::RequiredField { format, tag: 100 }));
    assert!(matches!(with(with_unknown_field(&head.encode(), false)), Ok(Found::Envelope(..))));
    // What an earlier filling had there are a client's bytes, perhaps.
    let behind = [&[0; BLOCK][..], &of_next_version(&head.encode()), &payload].concat();
    assert_eq!(at(&behind, BLOCK_BYTES), Ok(Found::Nothing));
}

#[test]
fn a_later_one_of_the_same_filling_is_found_and_none_of_an_earlier_one() {
    let [old, broken, new] = [3, 11, 12].map(|sequence| sealed(sequence, 5_000).2);
    let size = |all: &[u8]| all.len() as u64;
    let later = |bytes: &[u8], last| {
        let (_folder, file) = file(bytes);
        find_later(&file, 0, size(bytes), (9, last)).unwrap()
    };
    let all = [&broken[..], &new, &old].concat();
    assert_eq!(later(&all, 10), Some(size(&broken)));
    assert_eq!(later(&all, 12), None);
    assert_eq!(later(&[&broken[..], &old, &old].concat(), 10), None);
    assert_eq!(later(&broken, 10), None);
}

/// Otherwise the journal would go from one file to the other for ever.
#[test]
fn what_is_taken_of_a_log_fits_into_an_empty_file() {
    for bytes in (0..200).map(|blocks| blocks * 2_048 + 7).chain([16 << 20, 1 << 30]) {
        let options = LogDirOptions { journal_bytes: ByteCount(bytes), ..LogDirOptions::default() };
        let size = file_bytes(&options);
        assert!(2 * size <= bytes);
        if size > 0 {
            let (_folders, files): (Vec<_>, Vec<_>) = [file(&[]), file(&[])].into_iter().unzip();
            let journal = Journal::over(files.try_into().unwrap(), size, 1, &options);
            let room = ENVELOPE_BYTES_MAX.min(size - BLOCK_BYTES);
            assert!(journal.log_bytes_max > 0 && envelope::size(1, journal.log_bytes_max) <= room, "{bytes}");
        }
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0..200usize, to: u8) {
        let (_, _, mut real) = sealed(1, 300);
        real[at] = to;
        for bytes in [real, bytes] {
            let (_folder, file) = file(&bytes);
            let _ = read(&file, 0, bytes.len() as u64).unwrap();
            let _ = find_later(&file, 0, bytes.len() as u64, (9, 0)).unwrap();
        }
    }
}
