use super::change::ChangeError;
use super::codec::{decode_page, encode_page};
use super::invariants::{Breach, check, check_step};
use super::locate::{self, Located};
use super::*;
use crate::path::{self, DataName};
use aquifer_model::{EpochStart, PartitionIndex, TopicId};
use proptest::prelude::*;

pub(crate) fn partition() -> TopicPartition {
    TopicPartition { topic: TopicId::new(Uuid::from_u128(0xa)), partition: PartitionIndex(2) }
}

fn offset(number: i64) -> Offset {
    Offset::new(number).unwrap()
}

fn epoch(number: i32) -> LeaderEpoch {
    LeaderEpoch::new(number).unwrap()
}

fn name(base: i64) -> DataName {
    DataName {
        base: offset(base),
        incarnation: 1,
        epoch: epoch(3),
        unique: Uuid::from_u128(base as u128 + 1),
    }
}

fn page_key(number: i64) -> Key {
    path::page(partition(), &name(number))
}

pub(crate) fn entry(base: i64, next: i64) -> Entry {
    let segment = SealedSegment {
        range: OffsetRange { base: offset(base), next: offset(next) },
        log_bytes: ByteCount(1_000),
        timestamp_max: Timestamp(base * 10),
        sealed_at: Timestamp(77),
        epochs: LeaderEpochs::from_entries(vec![EpochStart { epoch: epoch(3), start: offset(base) }])
            .unwrap(),
    };
    Entry::new(segment, path::data_object(partition(), &name(base)), ByteCount(1_500), 0xdead_beef)
}

fn claim(number: i32) -> Claim {
    Claim {
        incarnation: Incarnation::FIRST,
        epoch: epoch(number),
        broker: BrokerId(1),
        process: Uuid::from_u128(0x50 + number as u128),
    }
}

/// A manifest with segments of ten offsets each.
fn manifest(segments: i64) -> Manifest {
    let mut manifest = Manifest::first_of(partition(), claim(3));
    for segment in 0..segments {
        manifest = manifest.with_entry(entry(segment * 10, segment * 10 + 10)).unwrap();
    }
    manifest
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What is in buckets already must be read for ever: these bytes never change.
#[test]
fn golden_bytes_are_read() {
    let mut golden = manifest(2).claimed_by(claim(4));
    golden.write = Uuid::from_u128(0xb);
    golden.removed.push(Removed { object: page_key(5), at: Timestamp(123) });
    let fixture = include_str!("../../tests/golden/manifest-1.hex");
    assert_eq!(hex(&golden.encode()), fixture.trim());
    assert_eq!(Manifest::decode(&golden.encode()), Ok(golden.clone()));
    let (paged, page) = golden.spilled(1, 1, page_key(0));
    let fixture = include_str!("../../tests/golden/page-1.hex");
    assert_eq!(hex(&page.unwrap().bytes), fixture.trim());
    let fixture = include_str!("../../tests/golden/manifest-paged-1.hex");
    assert_eq!(hex(&paged.encode()), fixture.trim());
    assert_eq!(Manifest::decode(&paged.encode()), Ok(paged));
}

#[test]
fn entries_are_added_at_the_end_only() {
    let full = manifest(2);
    for base in [10, 19, 21] {
        let error = full.with_entry(entry(base, 40)).unwrap_err();
        assert_eq!(error, ChangeError::NotNext { expected: offset(20), found: offset(base) });
    }
    let late = Manifest::first_of(partition(), claim(1)).with_entry(entry(500, 510)).unwrap();
    assert_eq!((late.log_start(), late.end()), (offset(500), Some(offset(510))));
}

#[test]
fn only_a_manifest_that_names_nothing_skips() {
    let full = manifest(2);
    assert_eq!(full.skipped_to(offset(50)), full, "records would be missing in the middle");
    let emptied = full.without_oldest(2, Timestamp(5));
    assert_eq!(emptied.skipped_to(offset(20)), emptied, "it ends there already");
    let skipped = emptied.skipped_to(offset(50));
    assert_eq!((skipped.log_start(), skipped.end()), (offset(50), Some(offset(50))));
    let next = skipped.next_version(Uuid::from_u128(9));
    check(&next).unwrap();
    check_step(&emptied, &next).unwrap();
    check(&next.with_entry(entry(50, 60)).unwrap()).unwrap();
    assert_eq!(
        next.with_entry(entry(20, 30)).unwrap_err(),
        ChangeError::NotNext { expected: offset(50), found: offset(20) }
    );
}

#[test]
fn pages_take_the_oldest_and_give_them_up_in_turn() {
    let (paged, page) = manifest(5).spilled(4, 3, page_key(0));
    let page = page.unwrap();
    assert_eq!((paged.pages.len(), paged.entries.len(), paged.segments()), (1, 2, 5));
    assert_eq!(check(&paged), Ok(()));
    assert_eq!(locate::by_offset(&paged, offset(29)), Located::Page(&paged.pages[0]));
    assert_eq!(locate::by_offset(&paged, offset(30)), Located::Entry(&paged.entries[0]));
    assert_eq!(locate::by_offset(&paged, offset(50)), Located::Nowhere);
    let (trimmed, rest) = paged.without_oldest_paged(&page.entries, 2, page_key(1), Timestamp(5));
    assert_eq!(rest.unwrap().entries, [entry(20, 30)]);
    assert_eq!((trimmed.log_start(), trimmed.removed.len()), (offset(20), 3));
    assert_eq!(check_step(&paged, &Manifest { version: ManifestVersion(2), ..trimmed.clone() }), Ok(()));
    let (emptied, none) = trimmed.without_oldest_paged(&[entry(20, 30)], 1, page_key(2), Timestamp(6));
    assert!(none.is_none() && emptied.pages.is_empty());
    assert_eq!(emptied.first(), Some(offset(30)));
    assert_eq!(check(&emptied), Ok(()));
}

#[test]
fn what_breaks_an_invariant_is_named() {
    let broken = |change: fn(&mut Manifest)| {
        let mut manifest = manifest(3);
        change(&mut manifest);
        check(&manifest).unwrap_err().0
    };
    for (change, expected) in [
        ((|m| drop(m.entries.remove(1))) as fn(&mut Manifest), "entries are not contiguous"),
        (|m| m.end = Some(offset(31)), "the end is not that of the last entry"),
        (|m| m.log_start = offset(31), "the log start lies outside of what is named"),
        (
            |m| m.entries[1].object = m.entries[0].object.clone(),
            "an object is named twice, or named and removed",
        ),
        (
            |m| m.removed.push(Removed { object: m.entries[0].object.clone(), at: Timestamp(0) }),
            "an object is named twice, or named and removed",
        ),
        (|m| m.entries[1].image_bytes = ByteCount(10), "an image is shorter than its log"),
        (|m| m.claim_versions.push(ManifestVersion(9)), "claim versions do not rise up to this version"),
        (|m| m.state = State::Deleted, "a deleted partition names segments"),
        (|m| m.entries[1].segment.epochs = LeaderEpochs::new(), "an entry's epochs do not start with it"),
    ] {
        assert_eq!(broken(change), expected);
    }
    let old = manifest(2);
    let next = old.next_version(Uuid::from_u128(1));
    assert_eq!(check_step(&old, &next), Ok(()));
    for (next, expected) in [
        (old.clone(), "the version is not the next"),
        (Manifest { claim: claim(2), ..next.clone() }, "the claim is outranked"),
        (Manifest { end: Some(offset(10)), ..next.clone() }, "the end goes back"),
        (
            Manifest { entries: vec![old.entries[0].clone()], ..next.clone() },
            "an object vanishes without grace",
        ),
        (Manifest { claim_versions: vec![], ..next }, "a claim version is forgotten"),
    ] {
        assert_eq!(check_step(&old, &next), Err(Breach(expected)));
    }
}

#[test]
fn versions_that_fence_are_pinned() {
    let mut manifest = manifest(0);
    manifest.version = ManifestVersion(20);
    manifest.claim_versions = [1, 5, 6, 12].map(ManifestVersion).to_vec();
    let pinned: Vec<u64> = (1..=20).filter(|version| manifest.pins(ManifestVersion(*version))).collect();
    assert_eq!(pinned, [1, 4, 5, 6, 11, 12]);
}

#[test]
fn fields_of_newer_programs_are_carried() {
    let mut newer = manifest(1);
    newer.tags.set_optional(40, bytes::Bytes::from_static(b"kept"));
    newer.entries[0].tags.set_optional(41, bytes::Bytes::from_static(b"too"));
    let read = Manifest::decode(&newer.encode()).unwrap();
    assert_eq!(read.with_entry(entry(10, 20)).unwrap().entries[0].tags, newer.entries[0].tags);
    assert_eq!(read.tags, newer.tags);
    newer.entries[0].tags.set_required(41, bytes::Bytes::from_static(b"new"));
    assert!(Manifest::decode(&newer.encode()).is_err());
}

#[test]
fn manifests_and_pages_of_newer_programs_are_refused_by_name() {
    use aquifer_model::format::FormatError;
    use aquifer_model::fuzzing::{of_next_version, with_unknown_field};
    type Read = fn(&[u8]) -> Result<(), FormatError>;
    let page = encode_page(partition(), &[entry(0, 10)]);
    let both: [(&str, Vec<u8>, Read); 2] = [
        ("manifest", manifest(2).encode(), |bytes| Manifest::decode(bytes).map(drop)),
        ("manifest page", page, |bytes| decode_page(bytes).map(drop)),
    ];
    for (format, bytes, read) in both {
        assert_eq!(read(&with_unknown_field(&bytes, false)), Ok(()), "{format}");
        let required = Err(FormatError::RequiredField { format, tag: 100 });
        assert_eq!(read(&with_unknown_field(&bytes, true)), required);
        assert_eq!(read(&of_next_version(&bytes)), Err(FormatError::Version { format, found: 2, known: 1 }));
    }
}

/// Any sequence of changes.
#[derive(Debug, Clone)]
enum Change {
    Add(i64),
    Claim,
    Start(i64),
    Drop(usize),
    Forget,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let change = prop_oneof![
        4 => (1i64..50).prop_map(Change::Add),
        1 => Just(Change::Claim),
        1 => (0i64..600).prop_map(Change::Start),
        1 => (1usize..5).prop_map(Change::Drop),
        1 => Just(Change::Forget),
    ];
    prop::collection::vec(change, 1..60)
}

proptest! {
    /// Whatever is changed in whatever order: each version holds its invariants, each step too, bytes round-trip, and every offset
    /// between log start and end is found in exactly the segment that covers it.
    #[test]
    fn every_path_of_changes_keeps_the_invariants(changes in changes()) {
        let mut now = Manifest::first_of(partition(), claim(3));
        let mut pages: Vec<(Key, Vec<Entry>)> = Vec::new();
        let mut fresh = 0;
        for change in changes {
            fresh += 1;
            let end = now.end().unwrap_or(Offset::ZERO).get();
            let draft = match change {
                Change::Add(count) => {
                    let mut added = entry(end, end + count);
                    added.object = path::data_object(partition(), &DataName { unique: Uuid::from_u128(fresh), ..name(end) });
                    let (next, page) = now.with_entry(added).unwrap().spilled(4, 3, page_key(1_000 + fresh as i64));
                    pages.extend(page.map(|page| (page.object, page.entries)));
                    next
                }
                Change::Claim => Manifest { claim: claim(now.claim.epoch.get() + 1), ..now.clone() },
                Change::Start(start) => now.with_log_start(offset(start)),
                Change::Drop(count) => match now.pages.first() {
                    None => now.without_oldest(count, Timestamp(1)),
                    Some(first) => {
                        let (_, entries) = pages.iter().find(|(key, _)| *key == first.object).unwrap().clone();
                        let key = page_key(1_000 + fresh as i64);
                        let (next, page) = now.without_oldest_paged(&entries, count, key, Timestamp(1));
                        pages.extend(page.map(|page| (page.object, page.entries)));
                        next
                    }
                },
                Change::Forget => now.without_removed(&now.removed.iter().map(|r| r.object.clone()).collect::<Vec<_>>()),
            };
            let next = if matches!(change, Change::Claim) {
                now.claimed_by(draft.claim)
            } else {
                draft.next_version(Uuid::from_u128(fresh))
            };
            prop_assert_eq!(check(&next), Ok(()));
            prop_assert_eq!(check_step(&now, &next), Ok(()));
            let decoded = Manifest::decode(&next.encode());
            prop_assert_eq!(decoded.as_ref(), Ok(&next));
            now = next;
        }
        let end = now.end().unwrap_or(Offset::ZERO).get();
        for number in now.log_start().get()..end {
            let covered = match locate::by_offset(&now, offset(number)) {
                Located::Entry(entry) => entry.range(),
                Located::Page(page) => {
                    let (_, entries) = pages.iter().find(|(key, _)| *key == page.object).unwrap();
                    locate::entry_by_offset(entries, offset(number)).unwrap().range()
                }
                Located::Nowhere => OffsetRange { base: Offset::ZERO, next: Offset::ZERO },
            };
            prop_assert!(covered.contains(offset(number)), "{} is covered by {}", number, covered);
        }
        prop_assert_eq!(locate::by_offset(&now, offset(end)), Located::Nowhere);
    }

    #[test]
    fn no_bytes_make_a_decoder_panic(bytes: Vec<u8>, flip in 0usize..4_000, bit in 0u8..8) {
        let _ = Manifest::decode(&bytes);
        let _ = decode_page(&bytes);
        // Damage behind a right checksum: the body alone, as if an attacker had sealed it.
        for good in [manifest(3).encode(), encode_page(partition(), &manifest(3).entries)] {
            let mut body = good[aquifer_model::format::ENVELOPE_BYTES..].to_vec();
            let at = flip % body.len();
            body[at] ^= 1 << bit;
            for (magic, name) in [(*b"AQMF", "manifest"), (*b"AQMP", "page")] {
                let format = aquifer_model::format::Format { name, magic, version: 1 };
                let _ = Manifest::decode(&format.seal(&body)).map(|manifest| check(&manifest));
                let _ = decode_page(&format.seal(&body));
            }
        }
    }
}
