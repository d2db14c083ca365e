//! `Writer`: values to `Segments`.
//!
//! All that is not records goes into one buffer; records are remembered by the place where they belong and are never copied,
//! unless they are so short that a slice of their own would cost more. In the end the buffer is cut at these places, so a
//! whole message takes a handful of allocations however many fields it has. The buffer stays in one piece until then: lengths
//! that are known late (of the frame, of a tagged field) are patched in place.

use bytes::Bytes;
use uuid::Uuid;

use crate::piece::Piece;
use crate::reader::STRING_LENGTH_MAX;
use crate::{ErrorCode, Records, Segments, Str};

/// Shorter records and bytes are copied: an entry of an I/O vector and a reference count cost about as much.
pub const COPIED_LENGTH_MAX: usize = 512;
const CAPACITY: usize = 256;
const FRAME_LENGTH_SIZE: usize = 4;

/// Why a value cannot be written in the version asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
    #[error("{message} has no {field} in version {version}, yet it is set")]
    FieldNotInVersion { message: &'static str, field: &'static str, version: i16 },
    #[error("{message}.{field} must not be null in version {version}")]
    NullInVersion { message: &'static str, field: &'static str, version: i16 },
    #[error("string of {length} bytes, at most {STRING_LENGTH_MAX} are allowed")]
    StringTooLong { length: usize },
    #[error("{length} is too large for a length on the wire")]
    LengthTooLarge { length: usize },
}

/// Collects one message.
#[derive(Debug)]
pub struct Writer {
    buffer: Vec<u8>,
    splices: Vec<Splice>,
    /// Bytes in all splices.
    spliced: usize,
    is_frame: bool,
}

#[derive(Debug)]
struct Splice {
    /// How much of the buffer comes before it.
    at: usize,
    piece: Piece,
}

impl Writer {
    /// For a message by itself.
    pub fn bare() -> Writer {
        Writer { buffer: Vec::with_capacity(CAPACITY), splices: Vec::new(), spliced: 0, is_frame: false }
    }

    /// For a frame: four bytes of length come first.
    pub fn frame() -> Writer {
        let mut writer = Writer::bare();
        writer.is_frame = true;
        writer.buffer.extend_from_slice(&[0; FRAME_LENGTH_SIZE]);
        writer
    }

    /// Bytes so far.
    pub fn len(&self) -> usize {
        self.buffer.len() + self.spliced
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn finish(mut self) -> Result<Segments, EncodeError> {
        if self.is_frame {
            let length = length_i32(self.len() - FRAME_LENGTH_SIZE)?;
            self.buffer[..FRAME_LENGTH_SIZE].copy_from_slice(&length.to_be_bytes());
        }
        let buffer = Bytes::from(self.buffer);
        let mut pieces = Vec::with_capacity(2 * self.splices.len() + 1);
        let mut cut = 0;
        for Splice { at, piece } in self.splices {
            if at > cut {
                pieces.push(Piece::Here(buffer.slice(cut..at)));
                cut = at;
            }
            pieces.push(piece);
        }
        if buffer.len() > cut {
            pieces.push(Piece::Here(buffer.slice(cut..)));
        }
        Ok(Segments::new(pieces))
    }

    pub fn bool(&mut self, value: bool) {
        self.i8(i8::from(value));
    }

    pub fn i8(&mut self, value: i8) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i16(&mut self, value: i16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u16(&mut self, value: u16) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i32(&mut self, value: i32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn u32(&mut self, value: u32) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn i64(&mut self, value: i64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn f64(&mut self, value: f64) {
        self.buffer.extend_from_slice(&value.to_be_bytes());
    }

    pub fn uuid(&mut self, value: Uuid) {
        self.buffer.extend_from_slice(value.as_bytes());
    }

    pub fn error_code(&mut self, value: ErrorCode) {
        self.i16(value.code());
    }

    pub fn unsigned_varint(&mut self, value: u32) {
        let (bytes, length) = varint(value);
        self.buffer.extend_from_slice(&bytes[..length]);
    }

    pub fn string(&mut self, flexible: bool, value: &Str) -> Result<(), EncodeError> {
        let length = value.len();
        if length > STRING_LENGTH_MAX {
            return Err(EncodeError::StringTooLong { length });
        }
        // Both fit, since no string is longer than an i16 can say.
        if flexible {
            self.unsigned_varint(length as u32 + 1)
        } else {
            self.i16(length as i16)
        }
        self.buffer.extend_from_slice(value.as_bytes());
        Ok(())
    }

    pub fn nullable_string(&mut self, flexible: bool, value: Option<&Str>) -> Result<(), EncodeError> {
        match value {
            Some(value) => return self.string(flexible, value),
            None if flexible => self.unsigned_varint(0),
            None => self.i16(-1),
        }
        Ok(())
    }

    pub fn bytes(&mut self, flexible: bool, value: &Bytes) -> Result<(), EncodeError> {
        self.length(flexible, Some(value.len()))?;
        self.splice_bytes(value);
        Ok(())
    }

    pub fn nullable_bytes(&mut self, flexible: bool, value: Option<&Bytes>) -> Result<(), EncodeError> {
        match value {
            Some(value) => self.bytes(flexible, value),
            None => self.length(flexible, None),
        }
    }

    pub fn records(&mut self, flexible: bool, value: &Records) -> Result<(), EncodeError> {
        self.length(flexible, (!value.is_null()).then(|| value.len()))?;
        for piece in value.pieces() {
            match piece {
                Piece::Here(bytes) => self.splice_bytes(bytes),
                Piece::Elsewhere(_) => self.splice(piece.clone()),
            }
        }
        Ok(())
    }

    pub fn array<T>(
        &mut self,
        flexible: bool,
        elements: &[T],
        mut write: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.length(flexible, Some(elements.len()))?;
        elements.iter().try_for_each(|element| write(self, element))
    }

    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        elements: Option<&[T]>,
        write: impl FnMut(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match elements {
            Some(elements) => self.array(flexible, elements, write),
            None => self.length(flexible, None),
        }
    }

    pub fn nullable_struct<T>(
        &mut self,
        value: Option<&T>,
        write: impl FnOnce(&mut Writer, &T) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        match value {
            Some(value) => {
                self.i8(1);
                write(self, value)
            }
            None => {
                self.i8(-1);
                Ok(())
            }
        }
    }

    /// A tag, the size of its value, the value. The size is written last; nearly always one byte holds it, and one is left
    /// free. Otherwise the value moves up to make room.
    pub fn tagged_field(
        &mut self,
        tag: u32,
        write: impl FnOnce(&mut Writer) -> Result<(), EncodeError>,
    ) -> Result<(), EncodeError> {
        self.unsigned_varint(tag);
        let (place, splices) = (self.buffer.len(), self.splices.len());
        self.i8(0);
        let before = self.len();
        write(self)?;
        let size = u32::try_from(self.len() - before)
            .map_err(|_| EncodeError::LengthTooLarge { length: self.len() - before })?;
        let (bytes, length) = varint(size);
        self.buffer.splice(place..=place, bytes[..length].iter().copied());
        for splice in &mut self.splices[splices..] {
            splice.at += length - 1;
        }
        Ok(())
    }

    /// The length of an array or of bytes; `None` is null.
    fn length(&mut self, flexible: bool, length: Option<usize>) -> Result<(), EncodeError> {
        let length = length.map(length_i32).transpose()?;
        match length {
            // An i32 that is not negative leaves room for one more.
            Some(length) if flexible => self.unsigned_varint(length.unsigned_abs() + 1),
            None if flexible => self.unsigned_varint(0),
            length => self.i32(length.unwrap_or(-1)),
        }
        Ok(())
    }

    fn splice_bytes(&mut self, bytes: &Bytes) {
        if bytes.len() <= COPIED_LENGTH_MAX {
            self.buffer.extend_from_slice(bytes);
        } else {
            self.splice(Piece::Here(bytes.clone()));
        }
    }

    fn splice(&mut self, piece: Piece) {
        self.spliced += piece.len();
        self.splices.push(Splice { at: self.buffer.len(), piece });
    }
}

fn length_i32(length: usize) -> Result<i32, EncodeError> {
    i32::try_from(length).map_err(|_| EncodeError::LengthTooLarge { length })
}

/// Seven bits a byte, the lowest first; the top bit says that more follow.
fn varint(mut value: u32) -> ([u8; 5], usize) {
    let mut bytes = [0; 5];
    let mut length = 0;
    loop {
        let low = (value & 0x7f) as u8;
        value >>= 7;
        bytes[length] = if value == 0 { low } else { low | 0x80 };
        length += 1;
        if value == 0 {
            return (bytes, length);
        }
    }
}

#[cfg(test)]
mod tests;
