use super::*;
use crate::{Elsewhere, Reader};

fn finished(writer: Writer) -> Bytes {
    writer.finish().expect("a short message").into_bytes()
}

#[test]
fn a_frame_begins_with_its_length() {
    let mut writer = Writer::frame();
    writer.i16(7);
    writer.records(true, &Records::from(Bytes::from(vec![9; 1000]))).expect("encodes");
    let segments = writer.finish().expect("encodes");
    // Two bytes of i16, two of length, a thousand of records.
    assert_eq!(segments.pieces()[0].here().unwrap(), [0, 0, 0x03, 0xec, 0, 7, 0xe9, 0x07].as_slice());
    assert_eq!(segments.len(), 1008);
}

#[test]
fn long_slices_are_spliced_and_short_ones_copied() {
    let (long, short) =
        (Bytes::from(vec![1; COPIED_LENGTH_MAX + 1]), Bytes::from(vec![2; COPIED_LENGTH_MAX]));
    let mut writer = Writer::bare();
    let pieces = [&long, &short, &long].map(|bytes| Piece::Here(bytes.clone()));
    writer.records(false, &Records::from(pieces.to_vec())).expect("encodes");
    let segments = writer.finish().expect("encodes");
    let lengths: Vec<usize> = segments.pieces().iter().map(Piece::len).collect();
    assert_eq!(lengths, [4, long.len(), short.len(), long.len()]);
    assert_eq!(segments.pieces()[1].here().unwrap().as_ptr(), long.as_ptr());
    assert_ne!(segments.pieces()[2].here().unwrap().as_ptr(), short.as_ptr());
}

#[test]
fn a_tagged_field_has_room_for_any_size() {
    for size in [0, 1, 127, 128, COPIED_LENGTH_MAX, COPIED_LENGTH_MAX + 1, 16_383, 16_384, 100_000] {
        let value = Bytes::from(vec![5; size]);
        let mut writer = Writer::bare();
        writer.unsigned_varint(2);
        for tag in [3, 200] {
            writer
                .tagged_field(tag, |writer| {
                    writer.i8(1);
                    writer.bytes(true, &value)?;
                    writer.i8(2);
                    Ok(())
                })
                .expect("encodes");
        }
        writer.i8(42);

        let mut reader = Reader::new(finished(writer));
        let mut read = Vec::new();
        let result = reader.tagged_fields(|reader, tag| {
            read.push((tag, reader.i8()?, reader.bytes(true)?, reader.i8()?));
            Ok(true)
        });
        assert_eq!(result, Ok(()));
        assert_eq!(read, [(3, 1, value.clone(), 2), (200, 1, value, 2)]);
        assert_eq!((reader.i8(), reader.remaining()), (Ok(42), 0));
    }
}

#[test]
fn a_string_too_long_is_refused() {
    let text = Str::from("a".repeat(STRING_LENGTH_MAX + 1));
    for flexible in [false, true] {
        let refused = EncodeError::StringTooLong { length: STRING_LENGTH_MAX + 1 };
        assert_eq!(Writer::bare().string(flexible, &text), Err(refused));
    }
}

#[test]
fn what_is_elsewhere_counts_and_is_told_apart_and_is_never_copied() {
    struct File(&'static str);

    let elsewhere = Elsewhere::new(std::sync::Arc::new(File("a log")), 10);
    assert_eq!(elsewhere.downcast::<File>().map(|file| file.0), Some("a log"));
    assert!(elsewhere.downcast::<String>().is_none());
    let piece = Piece::Elsewhere(elsewhere);
    let records = Records::from(vec![Bytes::from_static(b"ab").into(), piece.clone()]);
    assert_eq!((records.len(), &records), (12, &records.clone()));
    let other = Piece::Elsewhere(Elsewhere::new(std::sync::Arc::new(File("a log")), 10));
    assert_ne!(records, Records::from(vec![Bytes::from_static(b"ab").into(), other]));

    let mut writer = Writer::frame();
    writer.records(false, &records).expect("encodes");
    writer.i8(7);
    let segments = writer.finish().expect("encodes");
    let expected = [Bytes::from_static(&[0, 0, 0, 17, 0, 0, 0, 12, b'a', b'b']), Bytes::from_static(&[7])];
    let [head, tail] = expected.map(Piece::Here);
    assert_eq!(segments.pieces(), [head, piece, tail]);
    assert_eq!(segments.len(), 21);
}
