//! `ErrorCode`: the number by which a response says what went wrong.
//!
//! A newtype and no enum: a peer may be newer than we are, and a code without a name must pass through. Which code is answered
//! when is not known here.

use std::fmt;

/// One of Kafka's error codes; 0 is [`ErrorCode::NONE`].
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ErrorCode(i16);

impl ErrorCode {
    pub const fn new(code: i16) -> ErrorCode {
        ErrorCode(code)
    }

    pub const fn code(self) -> i16 {
        self.0
    }

    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Kafka's name, as in `NOT_LEADER_OR_FOLLOWER`.
    pub const fn name(self) -> &'static str {
        match self.known_name() {
            Some(name) => name,
            None => "UNRECOGNIZED",
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} ({})", self.name(), self.0)
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

include!(concat!(env!("OUT_DIR"), "/error_codes.rs"));
