//! `ApiKey`: what a request asks for, by Kafka's number and name.

use std::fmt;

include!(concat!(env!("OUT_DIR"), "/api_keys.rs"));

impl ApiKey {
    pub const fn code(self) -> i16 {
        self as i16
    }
}

/// A number that no API of Kafka's has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no API has key {0}")]
pub struct UnknownApiKey(pub i16);

impl TryFrom<i16> for ApiKey {
    type Error = UnknownApiKey;

    fn try_from(code: i16) -> Result<ApiKey, UnknownApiKey> {
        ApiKey::from_code(code).ok_or(UnknownApiKey(code))
    }
}

impl fmt::Display for ApiKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}
