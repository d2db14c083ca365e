//! Frames: four bytes of length, a header, a message.
//!
//! A request's header begins with eight bytes that mean the same in every version of everything: API key, version, correlation
//! id. They are read first, so that a request that we do not speak (an unsupported version, an unknown key) can be told from
//! garbage and answered.

use bytes::Bytes;

use crate::{ApiKey, DecodeError, EncodeError, Message, Reader, Request, Segments, Str, Writer};

/// A length prefix that cannot be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("frame length {length} is negative")]
    Negative { length: i32 },
    #[error("frame of {length} bytes, at most {max} are allowed")]
    TooLarge { length: usize, max: usize },
}

/// The length that a frame claims, if it is one that may be read. Nothing should be allocated before this is asked.
pub fn check_frame_length(length: i32, max: usize) -> Result<usize, FrameError> {
    let length = usize::try_from(length).map_err(|_| FrameError::Negative { length })?;
    if length > max { Err(FrameError::TooLarge { length, max }) } else { Ok(length) }
}

/// What a client speaks that took our port for another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForeignProtocol {
    Http,
    Tls,
}

/// Whether what should be a frame's length is the beginning of something else. As a length it would be 369 MB or more, so no
/// frame of a bounded size is mistaken.
pub fn looks_like(first_four: [u8; 4]) -> Option<ForeignProtocol> {
    match &first_four {
        b"GET " | b"HEAD" | b"POST" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"TRAC" | b"CONN" => {
            Some(ForeignProtocol::Http)
        }
        [0x16, 0x03, ..] => Some(ForeignProtocol::Tls),
        _ => None,
    }
}

/// The eight bytes that every request begins with. Nothing is known yet of what they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestPrefix {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
}

/// Why a request goes no further than its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("malformed request header: {0}")]
    Malformed(#[from] DecodeError),
    /// No API of Kafka's, or one that this crate has no messages for.
    #[error("unknown api key {}", .0.api_key)]
    UnknownApiKey(RequestPrefix),
    /// An ApiVersions request is answered all the same, in version 0.
    #[error("unsupported version {} of api key {}", .0.api_version, .0.api_key)]
    UnsupportedVersion(RequestPrefix),
}

/// The header of a request that this crate has a message for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: ApiKey,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<Str>,
}

impl RequestHeader {
    pub fn decode(reader: &mut Reader) -> Result<RequestHeader, HeaderError> {
        let prefix = RequestPrefix {
            api_key: reader.i16()?,
            api_version: reader.i16()?,
            correlation_id: reader.i32()?,
        };
        let RequestPrefix { api_key, api_version, correlation_id } = prefix;
        let api_key = ApiKey::try_from(api_key).map_err(|_| HeaderError::UnknownApiKey(prefix))?;
        let schema = api_key.schema().ok_or(HeaderError::UnknownApiKey(prefix))?;
        if !schema.versions.contains(api_version) {
            return Err(HeaderError::UnsupportedVersion(prefix));
        }
        // Never compact, not even in a flexible header: a broker must find it in headers newer than it knows.
        let client_id = reader.nullable_string(false)?;
        if request_header_version(api_key, api_version) >= 2 {
            reader.skip_tagged_fields()?;
        }
        Ok(RequestHeader { api_key, api_version, correlation_id, client_id })
    }

    pub fn encode(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.i16(self.api_key.code());
        writer.i16(self.api_version);
        writer.i32(self.correlation_id);
        writer.nullable_string(false, self.client_id.as_ref())?;
        if request_header_version(self.api_key, self.api_version) >= 2 {
            writer.unsigned_varint(0);
        }
        Ok(())
    }
}

/// 2 where requests are flexible, else 1.
pub fn request_header_version(api_key: ApiKey, api_version: i16) -> i16 {
    if is_flexible(api_key, api_version) { 2 } else { 1 }
}

/// 1 where responses are flexible, else 0; 0 for ApiVersions, which must be understood by clients that are older.
pub fn response_header_version(api_key: ApiKey, api_version: i16) -> i16 {
    if api_key != ApiKey::ApiVersions && is_flexible(api_key, api_version) { 1 } else { 0 }
}

fn is_flexible(api_key: ApiKey, api_version: i16) -> bool {
    api_key.schema().is_some_and(|schema| schema.is_flexible(api_version))
}

/// A whole response, with its length in front.
pub fn encode_response<M: Message>(
    response: &M,
    api_version: i16,
    correlation_id: i32,
) -> Result<Segments, EncodeError> {
    let mut writer = Writer::frame();
    writer.i32(correlation_id);
    if response_header_version(M::KEY, api_version) >= 1 {
        writer.unsigned_varint(0);
    }
    response.encode(&mut writer, api_version)?;
    writer.finish()
}

/// A whole request, with its length in front.
pub fn encode_request<R: Request>(
    request: &R,
    api_version: i16,
    correlation_id: i32,
    client_id: Option<Str>,
) -> Result<Segments, EncodeError> {
    let mut writer = Writer::frame();
    RequestHeader { api_key: R::KEY, api_version, correlation_id, client_id }.encode(&mut writer)?;
    request.encode(&mut writer, api_version)?;
    writer.finish()
}

/// The request that a response answers, by which a client with many in flight finds out what the rest of the frame is.
pub fn correlation_id(frame: &[u8]) -> Result<i32, DecodeError> {
    match frame.first_chunk() {
        Some(bytes) => Ok(i32::from_be_bytes(*bytes)),
        None => Err(DecodeError::Truncated { at: 0, needed: 4, left: frame.len() }),
    }
}

/// The response to a request of this type and version, from a frame without its length.
pub fn decode_response<R: Request>(frame: Bytes, api_version: i16) -> Result<R::Response, DecodeError> {
    let mut reader = Reader::new(frame);
    reader.i32()?;
    if response_header_version(R::KEY, api_version) >= 1 {
        reader.skip_tagged_fields()?;
    }
    let response = R::Response::decode(&mut reader, api_version)?;
    reader.expect_end()?;
    Ok(response)
}

#[cfg(test)]
mod tests;
