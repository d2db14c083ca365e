//! The envelope: what is written is read back, and what is not ours is refused.

use super::*;
use proptest::prelude::*;

const NOTE: Format = Format { name: "note", magic: *b"AQNT", version: 2 };

#[test]
fn what_is_sealed_opens_and_bytes_behind_it_are_left_alone() {
    let mut sealed = NOTE.seal(b"hello");
    sealed.extend_from_slice(b"more");
    assert_eq!(NOTE.open(&sealed), Ok((2, &b"hello"[..])));
}

#[test]
fn damage_is_named() {
    let sealed = NOTE.seal(b"hello");
    for cut in 0..sealed.len() {
        assert_eq!(NOTE.open(&sealed[..cut]), Err(FormatError::Short { format: "note" }), "cut at {cut}");
    }
    for at in 0..sealed.len() {
        for bit in 0..8 {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1 << bit;
            assert!(NOTE.open(&flipped).is_err(), "bit {bit} of byte {at}");
        }
    }
    let newer = Format { version: 3, ..NOTE }.seal(b"hello");
    assert_eq!(NOTE.open(&newer), Err(FormatError::Version { format: "note", found: 3, known: 2 }));
}

#[test]
fn unknown_optional_fields_are_kept_and_required_ones_refused() {
    let mut tags = Tags::default();
    tags.set_optional(7, Bytes::from_static(b"kept"));
    tags.set_required(1, Bytes::from_static(b"known"));
    let mut writer = Writer::new();
    writer.tags(&tags);
    let body = writer.finish();
    let read = NOTE.reader(&body).tags(&[1]).unwrap();
    assert_eq!(read, tags);
    assert_eq!(read.get(7).unwrap(), &Bytes::from_static(b"kept"));
    assert_eq!(NOTE.reader(&body).tags(&[]), Err(FormatError::RequiredField { format: "note", tag: 1 }));
}

#[test]
fn a_count_is_bounded_by_the_bytes_present() {
    let mut writer = Writer::new();
    writer.varint(u64::MAX);
    let body = writer.finish();
    assert_eq!(NOTE.reader(&body).list(1, Reader::u8), Err(FormatError::Short { format: "note" }));
    assert_eq!(NOTE.reader(&body).bytes(), Err(FormatError::Short { format: "note" }));
}

proptest! {
    #[test]
    fn bodies_round_trip(a: u64, b: i64, text: String, list: Vec<u32>, option: Option<i32>) {
        let mut writer = Writer::new();
        writer.varint(a);
        writer.i64(b);
        writer.string(&text);
        writer.list(&list, |writer, item| writer.u32(*item));
        writer.option(option, Writer::i32);
        let body = writer.finish();
        let mut reader = NOTE.reader(&body);
        prop_assert_eq!(reader.varint(), Ok(a));
        prop_assert_eq!(reader.i64(), Ok(b));
        prop_assert_eq!(reader.string(), Ok(&*text));
        prop_assert_eq!(reader.list(4, Reader::u32), Ok(list));
        prop_assert_eq!(reader.option(Reader::i32), Ok(option));
        prop_assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn no_bytes_make_a_reader_panic(bytes: Vec<u8>) {
        let _ = NOTE.open(&bytes);
        let mut reader = NOTE.reader(&bytes);
        let _ = reader.clone().tags(&[1, 2]);
        while reader.bytes().is_ok() {
            if reader.rest().is_empty() {
                break;
            }
        }
    }
}
