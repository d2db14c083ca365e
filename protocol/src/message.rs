//! What all messages have in common, and the checks that generated code calls.

use std::fmt;

use crate::{ApiKey, DecodeError, EncodeError, Reader, Writer};

/// A request's or a response's body. Values are in the fields; what does not fit a version is told when it is encoded.
pub trait Message: Clone + fmt::Debug + Default + PartialEq {
    const NAME: &'static str;
    const KEY: ApiKey;
    const VERSIONS: VersionRange;
    /// The first version with compact lengths and tagged fields.
    const FLEXIBLE_FROM: Option<i16>;

    /// Leaves the reader behind the message; whether bytes may follow is the caller's to say ([`Reader::expect_end`]).
    fn decode(reader: &mut Reader, version: i16) -> Result<Self, DecodeError>;

    fn encode(&self, writer: &mut Writer, version: i16) -> Result<(), EncodeError>;

    /// The field in which an answer says for how many milliseconds its client is throttled (KIP-219); `None` in messages that
    /// have none. In versions without the field what is set here is left out.
    fn throttle_time_ms(&mut self) -> Option<&mut i32> {
        None
    }
}

/// A message that asks for another.
pub trait Request: Message {
    type Response: Message;
}

/// Versions of an API, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VersionRange {
    pub min: i16,
    pub max: i16,
}

impl VersionRange {
    pub const fn contains(self, version: i16) -> bool {
        self.min <= version && version <= self.max
    }

    pub fn iter(self) -> impl DoubleEndedIterator<Item = i16> {
        self.min..=self.max
    }

    /// The versions in both ranges, if there are any: what two peers can talk in.
    pub fn intersection(self, other: VersionRange) -> Option<VersionRange> {
        let common = VersionRange { min: self.min.max(other.min), max: self.max.min(other.max) };
        (common.min <= common.max).then_some(common)
    }
}

impl fmt::Display for VersionRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.min, self.max)
    }
}

/// What this crate can encode and decode of an API. What a broker advertises may be less.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiSchema {
    pub key: ApiKey,
    pub versions: VersionRange,
    /// The first version with compact lengths and tagged fields.
    pub flexible_from: Option<i16>,
}

impl ApiSchema {
    pub const fn is_flexible(&self, version: i16) -> bool {
        match self.flexible_from {
            Some(from) => version >= from,
            None => false,
        }
    }
}

pub(crate) fn decodable<M: Message>(version: i16) -> Result<(), DecodeError> {
    if M::VERSIONS.contains(version) {
        Ok(())
    } else {
        Err(DecodeError::UnsupportedVersion { message: M::NAME, version })
    }
}

pub(crate) fn encodable<M: Message>(version: i16) -> Result<(), EncodeError> {
    if M::VERSIONS.contains(version) {
        Ok(())
    } else {
        Err(EncodeError::UnsupportedVersion { message: M::NAME, version })
    }
}

#[cold]
pub(crate) fn not_in_version(message: &'static str, field: &'static str, version: i16) -> EncodeError {
    EncodeError::FieldNotInVersion { message, field, version }
}

pub(crate) fn required<'a, T>(
    value: Option<&'a T>,
    message: &'static str,
    field: &'static str,
    version: i16,
) -> Result<&'a T, EncodeError> {
    value.ok_or(EncodeError::NullInVersion { message, field, version })
}
