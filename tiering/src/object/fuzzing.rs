//! A tail with the checksums that it should have, whatever else is in it.

use super::*;

/// In the footer's body: where the list of parts starts.
const PARTS_AT: usize = 16 + 4 + 8 + 8 + 8 + 8 + 4 + 4;

/// These bytes with a trailer that fits, and with right checksums of the footer and of each part that is there.
pub(crate) fn resealed(tail: &[u8]) -> Option<Vec<u8>> {
    let mut out = tail.to_vec();
    let trailer = out.len().checked_sub(TRAILER_BYTES)?;
    let footer_bytes = Reader::new(FOOTER.name, &out[trailer..]).u32().ok()? as usize;
    let footer = trailer.checked_sub(footer_bytes)?;
    for (at, crc) in sums(&out[footer..trailer], &out[..footer]).unwrap_or_default() {
        out[footer + at..][..4].copy_from_slice(&crc.to_be_bytes());
    }
    let sealed = aquifer_model::fuzzing::resealed(&out[footer..trailer])?;
    out[footer..trailer].copy_from_slice(&sealed);
    let length = u32::try_from(out.len()).ok()?;
    out[trailer + 4..trailer + 8].copy_from_slice(&length.to_be_bytes());
    out[trailer + 8..].copy_from_slice(&END);
    Some(out)
}

/// Where in the footer a part's checksum lies, and what it should be; the first part is the log, which is not here.
fn sums(footer: &[u8], parts: &[u8]) -> Result<Vec<(usize, u32)>, FormatError> {
    let list = footer.get(aquifer_model::format::ENVELOPE_BYTES + PARTS_AT..).unwrap_or_default();
    let mut reader = Reader::new(FOOTER.name, list);
    let mut log_bytes = None;
    let sums = reader.list(23, |reader| {
        reader.varint()?;
        let (position, length) = (reader.u64()?, reader.u64()?);
        let at = footer.len() - reader.rest().len();
        let (crc, _, _) = (reader.u32()?, reader.u8()?, reader.u8()?);
        let start = position.saturating_sub(*log_bytes.get_or_insert(length));
        let bytes = usize::try_from(start).ok().and_then(|start| parts.get(start..));
        let bytes = bytes.and_then(|bytes| bytes.get(..usize::try_from(length).ok()?));
        Ok((at, if position == 0 { crc } else { bytes.map_or(crc, |bytes| crc32c(&[bytes])) }))
    })?;
    Ok(sums)
}
