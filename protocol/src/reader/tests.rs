use super::*;

fn reader(bytes: &[u8]) -> Reader {
    Reader::new(Bytes::copy_from_slice(bytes))
}

type Read<'a> = Result<Option<&'a str>, DecodeError>;

#[test]
fn strings_are_checked() {
    let long_fixed = [&[0x7f, 0xff][..], &[b'a'; 0x7fff]].concat();
    let long_compact = [&[0x80, 0x80, 0x02][..], &[b'a'; 0x7fff]].concat();
    let too_long = [&[0x81, 0x80, 0x02][..], &[b'a'; 0x8000]].concat();
    let text = "a".repeat(0x7fff);
    let cases: &[(bool, &[u8], Read<'_>)] = &[
        (false, &[0, 0], Ok(Some(""))),
        (false, &[0, 2, 0xc3, 0xa9], Ok(Some("é"))),
        (false, &[0xff, 0xff], Ok(None)),
        (false, &[0xff, 0xfe], Err(DecodeError::NegativeLength { at: 0, length: -2 })),
        (false, &[0, 2, 0xc3], Err(DecodeError::Truncated { at: 2, needed: 2, left: 1 })),
        (false, &[0, 1, 0xc3], Err(DecodeError::NotUtf8 { at: 0 })),
        (false, &[0], Err(DecodeError::Truncated { at: 0, needed: 2, left: 1 })),
        (false, &long_fixed, Ok(Some(&text))),
        (true, &[0], Ok(None)),
        (true, &[1], Ok(Some(""))),
        (true, &[3, b'h', b'i'], Ok(Some("hi"))),
        (true, &[3, b'h'], Err(DecodeError::Truncated { at: 1, needed: 2, left: 1 })),
        (true, &long_compact, Ok(Some(&text))),
        (true, &too_long, Err(DecodeError::StringTooLong { at: 0, length: 0x8000 })),
        (
            true,
            &[0xff, 0xff, 0xff, 0xff, 0x0f],
            Err(DecodeError::StringTooLong { at: 0, length: 0xffff_fffe }),
        ),
    ];
    for (flexible, bytes, expected) in cases {
        let read = reader(bytes).nullable_string(*flexible);
        assert_eq!(read, expected.map(|text| text.map(Str::from)), "{:?}", &bytes[..bytes.len().min(8)]);
    }
    assert_eq!(reader(&[0]).string(true), Err(DecodeError::UnexpectedNull { at: 0 }));
}

#[test]
fn varints_have_at_most_32_bits() {
    let cases: &[(&[u8], Result<u32, DecodeError>)] = &[
        (&[0], Ok(0)),
        (&[0x7f], Ok(127)),
        (&[0x80, 0x01], Ok(128)),
        (&[0xff, 0xff, 0xff, 0xff, 0x0f], Ok(u32::MAX)),
        // Longer than it need be, which Kafka takes, too.
        (&[0x80, 0x80, 0x00], Ok(0)),
        (&[0xff, 0xff, 0xff, 0xff, 0x1f], Err(DecodeError::VarintTooLong { at: 0 })),
        (&[0x80, 0x80, 0x80, 0x80, 0x80, 0x00], Err(DecodeError::VarintTooLong { at: 0 })),
        (&[0x80, 0x80], Err(DecodeError::Truncated { at: 2, needed: 1, left: 0 })),
    ];
    for (bytes, expected) in cases {
        assert_eq!(reader(bytes).unsigned_varint(), *expected, "{bytes:?}");
    }
}

#[test]
fn bytes_lie_within_the_frame() {
    let claims_two_gigabytes = DecodeError::Truncated { at: 4, needed: 0x7fff_ffff, left: 1 };
    assert_eq!(reader(&[0x7f, 0xff, 0xff, 0xff, 0]).bytes(false), Err(claims_two_gigabytes));
    let claims_four = DecodeError::Truncated { at: 5, needed: 0xffff_fffe, left: 1 };
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]).bytes(true), Err(claims_four));
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff]).nullable_bytes(false), Ok(None));
    assert_eq!(reader(&[0xff, 0xff, 0xff, 0xff]).records(false), Ok(Records::NULL));
    assert_eq!(reader(&[0, 0, 0, 0]).records(false), Ok(Records::EMPTY));
    let negative = DecodeError::NegativeLength { at: 0, length: i32::MIN };
    assert_eq!(reader(&[0x80, 0, 0, 0]).nullable_bytes(false), Err(negative));
}

#[test]
fn arrays_are_no_longer_than_their_bytes() {
    assert_eq!(reader(&[3, 0, 5, 0, 6]).array(true, 2, Reader::i16), Ok(vec![5, 6]));
    let beyond = DecodeError::ArrayBeyondFrame { at: 0, length: 2, left: 3 };
    assert_eq!(reader(&[3, 0, 5, 0]).array(true, 2, Reader::i16), Err(beyond));
    assert_eq!(reader(&[0]).nullable_array(true, 2, Reader::i16), Ok(None));
    assert_eq!(reader(&[0]).array(true, 2, Reader::i16), Err(DecodeError::UnexpectedNull { at: 0 }));
    // As a caller's least size may be wrong, its elements are still read one by one.
    let truncated = DecodeError::Truncated { at: 5, needed: 2, left: 0 };
    assert_eq!(reader(&[4, 0, 5, 0, 6]).array(true, 0, Reader::i16), Err(truncated));
}

#[test]
fn tagged_fields_are_read_or_passed_over() {
    // Three fields: tag 1 (an i16), tag 9 (unknown, two bytes), tag 2 (an i8).
    let section = [3, 1, 2, 0, 7, 9, 2, 0xff, 0xff, 2, 1, 8];
    let mut fields = (0, 0);
    let mut reader_of = reader(&section);
    let result = reader_of.tagged_fields(|reader, tag| {
        match tag {
            1 => fields.0 = reader.i16()?,
            2 => fields.1 = reader.i8()?,
            _ => return Ok(false),
        }
        Ok(true)
    });
    assert_eq!((result, fields, reader_of.remaining()), (Ok(()), (7, 8), 0));
    let mut skipped = reader(&section);
    assert_eq!((skipped.skip_tagged_fields(), skipped.remaining()), (Ok(()), 0));
}

#[test]
fn a_tagged_field_is_as_long_as_it_says() {
    let read = |reader: &mut Reader, _: u32| reader.i16().map(|_| true);
    let within = DecodeError::Truncated { at: 3, needed: 2, left: 1 };
    assert_eq!(reader(&[1, 0, 1, 0, 7]).tagged_fields(read), Err(within), "not a byte beyond its own end");
    let too_long = DecodeError::TaggedFieldTooLong { at: 3, tag: 0, unread: 1 };
    assert_eq!(reader(&[1, 0, 3, 0, 7, 0]).tagged_fields(read), Err(too_long));
    let beyond_frame = DecodeError::Truncated { at: 7, needed: 0xffff_ffff, left: 1 };
    assert_eq!(reader(&[1, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 0]).skip_tagged_fields(), Err(beyond_frame));
    let too_many = DecodeError::TooManyTaggedFields { at: 0, count: 10_001 };
    assert_eq!(reader(&[0x91, 0x4e]).skip_tagged_fields(), Err(too_many));
}
