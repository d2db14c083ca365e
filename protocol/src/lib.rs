//! Kafka's wire protocol: its messages and its frames, in every version that Aquifer speaks.
//!
//! Bytes in, values out, and back. There is no I/O here, no clock and no state, and nothing is known of what a message means.
//! Messages are generated at build time from the notation in `schema/`; everything else is written by hand:
//!
//! - decoding slices the frame and copies nothing; it allocates by the bytes that are there, never by what they claim, and
//!   returns an error for whatever is no valid message (it never panics);
//! - encoding yields [`Segments`], in which record batches are the very pieces that went in;
//! - a value that the chosen version cannot carry is an error, unless Kafka calls its field ignorable.
//!
//! Modules are in layer order: each uses only those above it.

/// A cheap string: UTF-8 in a slice of the frame.
pub mod string;
/// Bytes that are here, or that are taken from elsewhere as a message is sent.
pub mod piece;
/// Record batches as the wire has them: bytes in pieces, or null.
pub mod records;
/// Kafka's error codes, by name.
pub mod error_code;
/// What a request asks for.
pub mod api_key;
/// From bytes to values, within the bounds of the frame.
pub mod reader;
/// The list of pieces that a message leaves as.
pub mod segments;
/// From values to segments.
pub mod writer;
/// What all messages have in common.
pub mod message;
/// The messages themselves, a module for each API.
pub mod messages;
/// Frames, and the headers of requests and responses.
pub mod frame;

/// Random values of every message.
#[cfg(any(test, feature = "fuzzing"))]
mod sample;
/// What fuzz targets do with messages.
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod tests;

pub use api_key::ApiKey;
pub use error_code::ErrorCode;
pub use message::{ApiSchema, Message, Request, VersionRange};
pub use piece::{Elsewhere, Piece};
pub use reader::{DecodeError, Reader};
pub use records::Records;
pub use segments::Segments;
pub use string::Str;
pub use writer::{EncodeError, Writer};
