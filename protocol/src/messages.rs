//! The messages themselves: a module for each API, with its request, its response and the structs in them.
//!
//! Generated from `schema/` by the build script; names of structs and fields are Kafka's. A field's doc says in which versions
//! it exists when these are not all.

use crate::{ApiKey, ApiSchema, VersionRange};

/// What a generated module needs.
mod codec {
    pub(super) use crate::message::{decodable, encodable, not_in_version, required};
    pub(super) use crate::{
        ApiKey, DecodeError, EncodeError, ErrorCode, Message, Reader, Records, Request, Str, VersionRange,
        Writer,
    };
    pub(super) use bytes::Bytes;
    pub(super) use uuid::Uuid;
}

impl ApiKey {
    /// What this crate knows of the API; `None` if it has no messages for it.
    pub const fn schema(self) -> Option<&'static ApiSchema> {
        schema_of(self)
    }
}

include!(concat!(env!("OUT_DIR"), "/messages.rs"));
