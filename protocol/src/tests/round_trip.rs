//! What is encoded is what is decoded: every message, every version.

use super::{encoded, for_any};
use crate::sample::{Sample, Sampler, Visitor, every_message};
use crate::{DecodeError, EncodeError, Message, Reader, frame};

struct RoundTrip;

impl Visitor for RoundTrip {
    fn visit<M: Message + Sample>(&mut self) {
        for version in M::VERSIONS.iter() {
            for_any(M::NAME, version, |random| {
                let message = M::sample(&mut Sampler::new(random), version);
                let mut reader =
                    Reader::new(encoded(&message, version).expect("a sample is valid in its version"));
                assert_eq!(M::decode(&mut reader, version).as_ref(), Ok(&message));
                assert_eq!(reader.expect_end(), Ok(()));
            });
        }
    }
}

#[test]
fn a_message_survives_encoding_and_decoding() {
    every_message(&mut RoundTrip);
}

struct Unsupported;

impl Visitor for Unsupported {
    fn visit<M: Message + Sample>(&mut self) {
        for version in [-1, M::VERSIONS.min - 1, M::VERSIONS.max + 1, i16::MAX] {
            let refused = EncodeError::UnsupportedVersion { message: M::NAME, version };
            assert_eq!(encoded(&M::default(), version), Err(refused));
            let refused = DecodeError::UnsupportedVersion { message: M::NAME, version };
            assert_eq!(M::decode(&mut Reader::new(vec![0; 64].into()), version), Err(refused));
        }
    }
}

#[test]
fn a_version_beyond_the_schema_is_refused() {
    every_message(&mut Unsupported);
}

/// A value of a newer version either fits an older one, less what may be left out, or is refused; it never comes out garbled.
struct Older;

impl Visitor for Older {
    fn visit<M: Message + Sample>(&mut self) {
        let newest = M::VERSIONS.max;
        for version in M::VERSIONS.iter().filter(|version| *version < newest) {
            for_any(M::NAME, version, |random| {
                let message = M::sample(&mut Sampler::new(random), newest);
                match encoded(&message, version) {
                    Ok(bytes) => {
                        let mut reader = Reader::new(bytes.clone());
                        let less = M::decode(&mut reader, version).expect("what was written can be read");
                        assert_eq!(reader.expect_end(), Ok(()));
                        assert_eq!(encoded(&less, version), Ok(bytes));
                    }
                    Err(
                        EncodeError::FieldNotInVersion { version: named, .. }
                        | EncodeError::NullInVersion { version: named, .. },
                    ) => {
                        assert_eq!(named, version);
                    }
                    Err(other) => panic!("{other}"),
                }
            });
        }
    }
}

#[test]
fn a_value_fits_an_older_version_or_is_refused() {
    every_message(&mut Older);
}

#[test]
fn frames_carry_requests_and_responses() {
    use crate::messages::heartbeat::{HeartbeatRequest, HeartbeatResponse};
    use crate::{ErrorCode, Str};
    use bytes::Buf;

    for version in HeartbeatRequest::VERSIONS.iter() {
        let request = HeartbeatRequest { group_id: "readers".into(), generation_id: 4, ..Default::default() };
        let sent = frame::encode_request(&request, version, 99, Some(Str::from_static("me")));
        let mut sent = sent.expect("encodes").into_bytes();
        assert_eq!(sent.get_i32() as usize, sent.len());
        let mut reader = Reader::new(sent);
        let header = frame::RequestHeader::decode(&mut reader).expect("a header");
        assert_eq!((header.correlation_id, header.client_id), (99, Some(Str::from("me"))));
        assert_eq!(HeartbeatRequest::decode(&mut reader, header.api_version), Ok(request));
        assert_eq!(reader.expect_end(), Ok(()));

        let response =
            HeartbeatResponse { error_code: ErrorCode::REBALANCE_IN_PROGRESS, ..Default::default() };
        let mut received = frame::encode_response(&response, version, 99).expect("encodes").into_bytes();
        assert_eq!(received.get_i32() as usize, received.len());
        assert_eq!(frame::correlation_id(&received), Ok(99));
        assert_eq!(frame::decode_response::<HeartbeatRequest>(received.clone(), version), Ok(response));

        let longer = [&received[..], &[0]].concat();
        let trailing = DecodeError::TrailingBytes { at: received.len(), left: 1 };
        assert_eq!(frame::decode_response::<HeartbeatRequest>(longer.into(), version), Err(trailing));
    }
}
