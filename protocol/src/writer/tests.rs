use super::*;
use crate::Reader;

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
    assert_eq!(segments.slices()[0], [0, 0, 0x03, 0xec, 0, 7, 0xe9, 0x07].as_slice());
    assert_eq!(segments.len(), 1008);
}

#[test]
fn long_slices_are_spliced_and_short_ones_copied() {
    let (long, short) =
        (Bytes::from(vec![1; COPIED_LENGTH_MAX + 1]), Bytes::from(vec![2; COPIED_LENGTH_MAX]));
    let mut writer = Writer::bare();
    writer.records(false, &Records::from(vec![long.clone(), short.clone(), long.clone()])).expect("encodes");
    let segments = writer.finish().expect("encodes");
    let lengths: Vec<usize> = segments.slices().iter().map(Bytes::len).collect();
    assert_eq!(lengths, [4, long.len(), short.len(), long.len()]);
    assert_eq!(segments.slices()[1].as_ptr(), long.as_ptr());
    assert_ne!(segments.slices()[2].as_ptr(), short.as_ptr());
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
fn segments_are_consumed_from_the_front() {
    use bytes::Buf;
    use std::io::IoSlice;

    let slices = [Bytes::from(vec![1; 600]), Bytes::from(vec![2; 700])];
    let mut writer = Writer::bare();
    writer.records(false, &Records::from(slices.to_vec())).expect("encodes");
    let mut segments = writer.finish().expect("encodes");
    let whole = segments.clone().into_bytes();

    let mut sent = Vec::new();
    for step in [1, 3, 599, 1, 2, 698] {
        let mut vectors = [IoSlice::new(&[]); 2];
        let filled = segments.chunks_vectored(&mut vectors);
        let offered: Vec<u8> = vectors[..filled].iter().flat_map(|vector| vector.to_vec()).collect();
        assert_eq!(offered[0], whole[sent.len()]);
        sent.extend_from_slice(&segments.copy_to_bytes(step));
    }
    assert_eq!(sent, whole);
    assert!(segments.is_empty() && segments.slices().is_empty() && segments.chunk().is_empty());
}
