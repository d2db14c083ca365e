use super::*;

#[test]
fn lengths_are_bounded() {
    assert_eq!(check_frame_length(0, 100), Ok(0));
    assert_eq!(check_frame_length(100, 100), Ok(100));
    assert_eq!(check_frame_length(101, 100), Err(FrameError::TooLarge { length: 101, max: 100 }));
    let two_gigabytes = FrameError::TooLarge { length: 0x7fff_ffff, max: 100 };
    assert_eq!(check_frame_length(i32::MAX, 100), Err(two_gigabytes));
    assert_eq!(check_frame_length(-1, 100), Err(FrameError::Negative { length: -1 }));
}

#[test]
fn other_protocols_are_recognized() {
    for verb in [b"GET ", b"HEAD", b"POST", b"PUT ", b"DELE", b"OPTI", b"PATC", b"TRAC", b"CONN"] {
        assert_eq!(looks_like(*verb), Some(ForeignProtocol::Http));
    }
    assert_eq!(looks_like([0x16, 0x03, 0x01, 0x02]), Some(ForeignProtocol::Tls));
    assert_eq!(looks_like([0, 0, 0x16, 0x03]), None);
    assert_eq!(looks_like(100_i32.to_be_bytes()), None);
}

/// Reads a header off these bytes.
fn header(bytes: &[u8]) -> Result<RequestHeader, HeaderError> {
    RequestHeader::decode(&mut Reader::new(Bytes::copy_from_slice(bytes)))
}

#[test]
fn a_request_that_we_do_not_speak_is_told_from_garbage() {
    let unsupported = RequestPrefix { api_key: 18, api_version: 99, correlation_id: 7 };
    assert_eq!(
        header(&[0, 18, 0, 99, 0, 0, 0, 7, 0xde, 0xad]),
        Err(HeaderError::UnsupportedVersion(unsupported))
    );
    let negative = RequestPrefix { api_version: -1, ..unsupported };
    assert_eq!(header(&[0, 18, 0xff, 0xff, 0, 0, 0, 7]), Err(HeaderError::UnsupportedVersion(negative)));

    let unknown = RequestPrefix { api_key: 9999, api_version: 0, correlation_id: 7 };
    assert_eq!(header(&[0x27, 0x0f, 0, 0, 0, 0, 0, 7]), Err(HeaderError::UnknownApiKey(unknown)));
    let no_schema = RequestPrefix { api_key: ApiKey::ControlledShutdown.code(), ..unknown };
    assert_eq!(header(&[0, 7, 0, 0, 0, 0, 0, 7]), Err(HeaderError::UnknownApiKey(no_schema)));

    let short = DecodeError::Truncated { at: 4, needed: 4, left: 3 };
    assert_eq!(header(&[0, 18, 0, 0, 0, 0, 0]), Err(HeaderError::Malformed(short)));
    let no_client_id = DecodeError::Truncated { at: 8, needed: 2, left: 0 };
    assert_eq!(header(&[0, 18, 0, 0, 0, 0, 0, 7]), Err(HeaderError::Malformed(no_client_id)));
}

#[test]
fn a_flexible_header_still_has_a_client_id_of_fixed_length() {
    let header = RequestHeader {
        api_key: ApiKey::Metadata,
        api_version: 12,
        correlation_id: 7,
        client_id: Some("me".into()),
    };
    let mut writer = Writer::bare();
    header.encode(&mut writer).expect("encodes");
    let golden = [0, 3, 0, 12, 0, 0, 0, 7, 0, 2, b'm', b'e', 0];
    assert_eq!(writer.finish().expect("short").into_bytes(), golden.as_slice());

    // With a tagged field that we do not know: tag 5, of three bytes.
    let newer = [&golden[..12], &[1, 5, 3, 9, 9, 9]].concat();
    assert_eq!(super::tests::header(&newer), Ok(header));
}

#[test]
fn responses_to_api_versions_have_the_oldest_header() {
    for version in 0..=4 {
        assert_eq!(response_header_version(ApiKey::ApiVersions, version), 0);
    }
    assert_eq!(request_header_version(ApiKey::ApiVersions, 2), 1);
    assert_eq!(request_header_version(ApiKey::ApiVersions, 3), 2);
    assert_eq!(response_header_version(ApiKey::Metadata, 8), 0);
    assert_eq!(response_header_version(ApiKey::Metadata, 9), 1);
    assert_eq!(request_header_version(ApiKey::SaslHandshake, 1), 1);
}
