//! `Reader`: a cursor over one frame.
//!
//! Every length on the wire is a claim. It is held against the bytes that are left before anything is allocated or sliced, so
//! that six bytes cannot ask for 154 GB; memory grows with elements that were really read. Any bytes give a value or an error,
//! never a panic. Strings, bytes and records are slices of the frame, which they keep alive.
//!
//! What this bounds is one array and one field; how large a frame may be is the server's to say.

use std::ops::Range;

use bytes::Bytes;
use uuid::Uuid;

use crate::{ErrorCode, Records, Str};

/// Elements of one array. Kafka 4.4 has the same bound.
pub const ARRAY_LENGTH_MAX: usize = 1_000_000;
/// Tagged fields in one section. Kafka 4.4 has the same bound.
pub const TAGGED_FIELDS_MAX: u32 = 10_000;
/// Bytes of one string; its length is an i16 in versions that are not flexible.
pub const STRING_LENGTH_MAX: usize = i16::MAX as usize;
/// Memory reserved for an array before its first element is read. A large array grows by doubling, as its elements come in.
const ARRAY_RESERVE_BYTES_MAX: usize = 64 * 1024;

/// Why bytes are no message. Positions are counted from the start of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    #[error("{needed} bytes needed at position {at}, {left} left")]
    Truncated { at: usize, needed: usize, left: usize },
    #[error("length {length} at position {at} is negative")]
    NegativeLength { at: usize, length: i32 },
    #[error("null at position {at}, where none is allowed")]
    UnexpectedNull { at: usize },
    #[error("string of {length} bytes at position {at}, at most {STRING_LENGTH_MAX} are allowed")]
    StringTooLong { at: usize, length: usize },
    #[error("string at position {at} is not utf-8")]
    NotUtf8 { at: usize },
    #[error("array of {length} elements at position {at}, more than the {left} bytes left can hold")]
    ArrayBeyondFrame { at: usize, length: usize, left: usize },
    #[error("array of {length} elements at position {at}, at most {ARRAY_LENGTH_MAX} are allowed")]
    ArrayTooLong { at: usize, length: usize },
    #[error("varint at position {at} is longer than 32 bits")]
    VarintTooLong { at: usize },
    #[error("array of {length} elements at position {at}, at most {left} more are allowed in this message")]
    TooManyElements { at: usize, length: usize, left: usize },
    #[error("{count} tagged fields at position {at}, at most {TAGGED_FIELDS_MAX} are allowed")]
    TooManyTaggedFields { at: usize, count: u32 },
    #[error("tagged field {tag} at position {at} is {unread} bytes longer than its value")]
    TaggedFieldTooLong { at: usize, tag: u32, unread: usize },
    #[error("{left} bytes after the end of the message at position {at}")]
    TrailingBytes { at: usize, left: usize },
    #[error("{message} has no version {version}")]
    UnsupportedVersion { message: &'static str, version: i16 },
}

/// Reads values off a frame, from front to back.
#[derive(Debug)]
pub struct Reader {
    frame: Bytes,
    at: usize,
    /// One past the last byte that may be read; inside a tagged field, that field's end. Never beyond the frame.
    end: usize,
    /// Elements of arrays that may be read yet.
    elements_left: usize,
}

impl Reader {
    pub fn new(frame: Bytes) -> Reader {
        let end = frame.len();
        Reader { frame, at: 0, end, elements_left: usize::MAX }
    }

    /// Bounds the elements of all arrays together. Decoded they take many times the few bytes that the smallest have on the
    /// wire, so that for what strangers send, the bytes that are there are no bound of memory.
    #[must_use]
    pub fn with_elements_max(self, elements_max: usize) -> Reader {
        Reader { elements_left: elements_max, ..self }
    }

    /// Bytes not read yet.
    pub fn remaining(&self) -> usize {
        self.end - self.at
    }

    /// An error if bytes are left over.
    pub fn expect_end(&self) -> Result<(), DecodeError> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(DecodeError::TrailingBytes { at: self.at, left }),
        }
    }

    /// Moves past the next bytes, and says where they lie.
    fn skip(&mut self, length: usize) -> Result<Range<usize>, DecodeError> {
        let (at, left) = (self.at, self.remaining());
        if length > left {
            return Err(DecodeError::Truncated { at, needed: length, left });
        }
        self.at += length;
        Ok(at..self.at)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let Some(bytes) = self.frame[self.at..self.end].first_chunk::<N>() else {
            return Err(DecodeError::Truncated { at: self.at, needed: N, left: self.remaining() });
        };
        self.at += N;
        Ok(*bytes)
    }

    /// Any byte but 0 is true, as in Kafka.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        Ok(self.i8()? != 0)
    }

    pub fn i8(&mut self) -> Result<i8, DecodeError> {
        Ok(i8::from_be_bytes(self.fixed()?))
    }

    pub fn i16(&mut self) -> Result<i16, DecodeError> {
        Ok(i16::from_be_bytes(self.fixed()?))
    }

    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_be_bytes(self.fixed()?))
    }

    pub fn i32(&mut self) -> Result<i32, DecodeError> {
        Ok(i32::from_be_bytes(self.fixed()?))
    }

    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        Ok(i64::from_be_bytes(self.fixed()?))
    }

    pub fn f64(&mut self) -> Result<f64, DecodeError> {
        Ok(f64::from_be_bytes(self.fixed()?))
    }

    pub fn uuid(&mut self) -> Result<Uuid, DecodeError> {
        Ok(Uuid::from_bytes(self.fixed()?))
    }

    pub fn error_code(&mut self) -> Result<ErrorCode, DecodeError> {
        Ok(ErrorCode::new(self.i16()?))
    }

    /// Seven bits a byte, the lowest first; the top bit says that more follow.
    pub fn unsigned_varint(&mut self) -> Result<u32, DecodeError> {
        let at = self.at;
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.fixed()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && bits > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(DecodeError::VarintTooLong { at })
    }

    pub fn string(&mut self, flexible: bool) -> Result<Str, DecodeError> {
        let at = self.at;
        self.nullable_string(flexible)?.ok_or(DecodeError::UnexpectedNull { at })
    }

    pub fn nullable_string(&mut self, flexible: bool) -> Result<Option<Str>, DecodeError> {
        let at = self.at;
        let length = if flexible {
            self.compact_length()?
        } else {
            let length = self.i16()?;
            length_of(i32::from(length), at)?
        };
        let Some(length) = length else { return Ok(None) };
        if length > STRING_LENGTH_MAX {
            return Err(DecodeError::StringTooLong { at, length });
        }
        let place = self.skip(length)?;
        Str::from_utf8(self.frame.slice(place)).map(Some).map_err(|_| DecodeError::NotUtf8 { at })
    }

    pub fn bytes(&mut self, flexible: bool) -> Result<Bytes, DecodeError> {
        let at = self.at;
        self.nullable_bytes(flexible)?.ok_or(DecodeError::UnexpectedNull { at })
    }

    pub fn nullable_bytes(&mut self, flexible: bool) -> Result<Option<Bytes>, DecodeError> {
        let Some(length) = self.length(flexible)? else { return Ok(None) };
        let place = self.skip(length)?;
        Ok(Some(self.frame.slice(place)))
    }

    pub fn records(&mut self, flexible: bool) -> Result<Records, DecodeError> {
        Ok(Records::from(self.nullable_bytes(flexible)?))
    }

    /// An array whose elements take at least `element_size_min` bytes each.
    pub fn array<T>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        read: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let at = self.at;
        self.nullable_array(flexible, element_size_min, read)?.ok_or(DecodeError::UnexpectedNull { at })
    }

    pub fn nullable_array<T>(
        &mut self,
        flexible: bool,
        element_size_min: usize,
        mut read: impl FnMut(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<Vec<T>>, DecodeError> {
        let at = self.at;
        let Some(length) = self.length(flexible)? else { return Ok(None) };
        let left = self.remaining();
        if length > left / element_size_min.max(1) {
            return Err(DecodeError::ArrayBeyondFrame { at, length, left });
        }
        if length > ARRAY_LENGTH_MAX {
            return Err(DecodeError::ArrayTooLong { at, length });
        }
        let Some(elements_left) = self.elements_left.checked_sub(length) else {
            return Err(DecodeError::TooManyElements { at, length, left: self.elements_left });
        };
        self.elements_left = elements_left;
        let reserved_max = ARRAY_RESERVE_BYTES_MAX / size_of::<T>().max(1);
        let mut array = Vec::with_capacity(length.min(reserved_max));
        for _ in 0..length {
            array.push(read(self)?);
        }
        Ok(Some(array))
    }

    /// A struct that may be null: a byte below 0 says that it is.
    pub fn nullable_struct<T>(
        &mut self,
        read: impl FnOnce(&mut Reader) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.i8()? < 0 { Ok(None) } else { read(self).map(Some) }
    }

    /// Reads a section of tagged fields. `read` takes a field that it knows and returns true; any other is passed over.
    pub fn tagged_fields(
        &mut self,
        mut read: impl FnMut(&mut Reader, u32) -> Result<bool, DecodeError>,
    ) -> Result<(), DecodeError> {
        let at = self.at;
        let count = self.unsigned_varint()?;
        if count > TAGGED_FIELDS_MAX {
            return Err(DecodeError::TooManyTaggedFields { at, count });
        }
        for _ in 0..count {
            let tag = self.unsigned_varint()?;
            let size = self.unsigned_varint()? as usize;
            let (start, field_end, outer_end) = (self.at, self.at.saturating_add(size), self.end);
            if field_end > outer_end {
                return Err(DecodeError::Truncated { at: start, needed: size, left: self.remaining() });
            }
            self.end = field_end;
            let is_known = read(self, tag)?;
            if is_known && self.remaining() > 0 {
                return Err(DecodeError::TaggedFieldTooLong { at: start, tag, unread: self.remaining() });
            }
            self.at = field_end;
            self.end = outer_end;
        }
        Ok(())
    }

    pub fn skip_tagged_fields(&mut self) -> Result<(), DecodeError> {
        self.tagged_fields(|_, _| Ok(false))
    }

    /// The length of an array or of bytes; `None` is null.
    fn length(&mut self, flexible: bool) -> Result<Option<usize>, DecodeError> {
        let at = self.at;
        if flexible { self.compact_length() } else { length_of(self.i32()?, at) }
    }

    /// One more than the length, and 0 for null.
    fn compact_length(&mut self) -> Result<Option<usize>, DecodeError> {
        Ok(self.unsigned_varint()?.checked_sub(1).map(|length| length as usize))
    }
}

/// -1 is null.
fn length_of(length: i32, at: usize) -> Result<Option<usize>, DecodeError> {
    match length {
        -1 => Ok(None),
        length => usize::try_from(length).map(Some).map_err(|_| DecodeError::NegativeLength { at, length }),
    }
}

#[cfg(test)]
mod tests;
