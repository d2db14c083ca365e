//! What fuzz targets, and tests of durable formats, need to come past a checksum.

use crate::format::{ENVELOPE_BYTES, Tags, Writer, crc32c};

/// These bytes with the length and the checksum that their envelope should have: what lies behind a checksum is reached by
/// whoever can write one. `None` for less than an envelope.
pub fn resealed(bytes: &[u8]) -> Option<Vec<u8>> {
    let body = bytes.get(ENVELOPE_BYTES..)?;
    let mut out = bytes.to_vec();
    out[8..12].copy_from_slice(&u32::try_from(body.len()).ok()?.to_be_bytes());
    let crc = crc32c(&[&out[..12], body]);
    out[12..16].copy_from_slice(&crc.to_be_bytes());
    Some(out)
}

/// A tag that no format uses.
const TAG_UNKNOWN: u32 = 100;

/// What a newer program would have written: these bytes, whose body ends without tagged fields, with one that is unknown here.
///
/// # Panics
/// If the body does not end so.
pub fn with_unknown_field(bytes: &[u8], required: bool) -> Vec<u8> {
    let (last, rest) = bytes.split_last().expect("an envelope");
    assert_eq!(*last, 0, "no tagged fields at the end");
    let mut tags = Tags::default();
    let value = bytes::Bytes::from_static(b"?");
    if required {
        tags.set_required(TAG_UNKNOWN, value)
    } else {
        tags.set_optional(TAG_UNKNOWN, value)
    }
    let mut writer = Writer::new();
    writer.tags(&tags);
    resealed(&[rest, &writer.finish()].concat()).expect("no shorter than it was")
}

/// The same bytes as the next version, which a newer program writes.
///
/// # Panics
/// For less than an envelope.
pub fn of_next_version(bytes: &[u8]) -> Vec<u8> {
    let mut newer = bytes.to_vec();
    newer[5] += 1;
    resealed(&newer).expect("no shorter than it was")
}
