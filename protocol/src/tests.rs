//! What holds of every message, in every version.

mod differential;
mod golden;
mod hostile;
mod round_trip;
mod zero_copy;

use bytes::Bytes;

use crate::{EncodeError, Message, Writer};

/// The body alone, in one piece.
fn encoded<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::bare();
    message.encode(&mut writer, version)?;
    Ok(writer.finish()?.into_bytes())
}
