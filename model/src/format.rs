//! The envelope of every durable format: what it is, which version, how long, checksum, then the body.
//!
//! ```text
//! magic (4 bytes) | version (u16) | reserved, 0 (u16) | body length (u32) | CRC-32C of the 12 bytes before and the body (u32) | body
//! ```
//!
//! Integers are big-endian, as in Kafka's own bytes. A body ends with *tagged fields*, by which a version may grow without a
//! new version number: a reader keeps an unknown *optional* field and writes it back, and refuses an unknown *required* one.
//! A version above the reader's is refused by name, never guessed at.
//!
//! Each format has one owning file that uses this one; this file knows no format. Bytes come from disks and buckets, so
//! everything here is bounded by the bytes present and returns errors, never panics.

use bytes::Bytes;
use uuid::Uuid;

/// The length of an envelope without its body, in bytes.
pub const ENVELOPE_BYTES: usize = 16;

/// A format's name and the newest version of it that this program writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// What a person calls it, for messages.
    pub name: &'static str,
    /// The first four bytes.
    pub magic: [u8; 4],
    /// The newest version known.
    pub version: u16,
}

/// Why bytes are not what they should be. None of these is worth a retry on the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// It ends too early, or a length inside points past the end.
    #[error("{format} is cut short")]
    Short {
        /// Which format was expected.
        format: &'static str,
    },
    /// It starts with other bytes.
    #[error("this is no {format}")]
    Magic {
        /// Which format was expected.
        format: &'static str,
    },
    /// It was written by a newer program.
    #[error("{format} has version {found}, this program knows up to {known}: use a newer aquifer")]
    Version {
        /// Which format was expected.
        format: &'static str,
        /// The version in the bytes.
        found: u16,
        /// The newest version known here.
        known: u16,
    },
    /// It was changed after it was written.
    #[error("{format} has a wrong checksum")]
    Checksum {
        /// Which format was expected.
        format: &'static str,
    },
    /// A field that must be understood is not.
    #[error("{format} has the required field {tag}, unknown here: use a newer aquifer")]
    RequiredField {
        /// Which format was expected.
        format: &'static str,
        /// The field's tag.
        tag: u32,
    },
    /// The checksum holds but a field makes no sense.
    #[error("{format} is invalid: {what}")]
    Invalid {
        /// Which format was expected.
        format: &'static str,
        /// The field and what is wrong with it.
        what: &'static str,
    },
}

impl Format {
    /// Wraps a body, at the newest version.
    ///
    /// # Panics
    /// For a body of 4 GiB or more; each owner of a format bounds its bodies far below.
    pub fn seal(&self, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len()).expect("durable bodies are bounded far below 4 GiB");
        let mut out = Vec::with_capacity(ENVELOPE_BYTES + body.len());
        out.extend_from_slice(&self.magic);
        out.extend_from_slice(&self.version.to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&length.to_be_bytes());
        let crc = crc32c(&[&out, body]);
        out.extend_from_slice(&crc.to_be_bytes());
        out.extend_from_slice(body);
        out
    }

    /// Checks the envelope at the start of `bytes`; gives the version and the body. Bytes after the body are left alone.
    pub fn open<'a>(&self, bytes: &'a [u8]) -> Result<(u16, &'a [u8]), FormatError> {
        let format = self.name;
        if bytes.len() >= 4 && bytes[..4] != self.magic {
            return Err(FormatError::Magic { format });
        }
        if bytes.len() < ENVELOPE_BYTES {
            return Err(FormatError::Short { format });
        }
        let number = |at: usize| u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let found = u16::from_be_bytes([bytes[4], bytes[5]]);
        let length = number(8) as usize;
        let Some(body) = bytes[ENVELOPE_BYTES..].get(..length) else {
            return Err(FormatError::Short { format });
        };
        // First, since a version that was damaged is no newer program's.
        if crc32c(&[&bytes[..12], body]) != number(12) {
            return Err(FormatError::Checksum { format });
        }
        if found > self.version {
            return Err(FormatError::Version { format, found, known: self.version });
        }
        Ok((found, body))
    }

    /// How long the body is of what starts with `bytes`, by its own account; `None` if that is not of this format.
    pub fn length(&self, bytes: &[u8]) -> Option<u32> {
        let start = bytes.first_chunk::<ENVELOPE_BYTES>().filter(|start| start[..4] == self.magic)?;
        Some(u32::from_be_bytes([start[8], start[9], start[10], start[11]]))
    }

    /// A reader of a body of this format.
    pub fn reader<'a>(&self, body: &'a [u8]) -> Reader<'a> {
        Reader { format: self.name, left: body }
    }

    /// An error about a field's value.
    pub fn invalid(&self, what: &'static str) -> FormatError {
        FormatError::Invalid { format: self.name, what }
    }
}

/// CRC-32C (Castagnoli) over the parts in turn, as Kafka's batches use it.
pub fn crc32c(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// Builds a body.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// An empty body.
    pub fn new() -> Writer {
        Writer::default()
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.out.push(value);
    }

    /// Two bytes.
    pub fn i16(&mut self, value: i16) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn u32(&mut self, value: u32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Four bytes.
    pub fn i32(&mut self, value: i32) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn u64(&mut self, value: u64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Eight bytes.
    pub fn i64(&mut self, value: i64) {
        self.out.extend_from_slice(&value.to_be_bytes());
    }

    /// Seven bits a byte, least first: 1 to 10 bytes.
    pub fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self, value: Uuid) {
        self.out.extend_from_slice(value.as_bytes());
    }

    /// A length as varint, then the bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.varint(value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A length as varint, then UTF-8.
    pub fn string(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// 0, or 1 and the value.
    pub fn option<T>(&mut self, value: Option<T>, write: impl FnOnce(&mut Writer, T)) {
        match value {
            None => self.u8(0),
            Some(value) => {
                self.u8(1);
                write(self, value);
            }
        }
    }

    /// A count as varint, then each item.
    pub fn list<T>(&mut self, items: &[T], mut write: impl FnMut(&mut Writer, &T)) {
        self.varint(items.len() as u64);
        for item in items {
            write(self, item);
        }
    }

    /// The tagged fields; every body, and every entry that may grow by itself, ends with them.
    pub fn tags(&mut self, tags: &Tags) {
        self.varint(tags.0.len() as u64);
        for tag in &tags.0 {
            self.varint(u64::from(tag.number) << 1 | u64::from(tag.required));
            self.bytes(&tag.value);
        }
    }

    /// The finished body.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }
}

/// Reads a body. Every error names the format.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    format: &'static str,
    left: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader for bytes that are not wrapped in an envelope.
    pub fn new(format: &'static str, bytes: &'a [u8]) -> Reader<'a> {
        Reader { format, left: bytes }
    }

    /// What has not been read.
    pub fn rest(&self) -> &'a [u8] {
        self.left
    }

    /// The next `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], FormatError> {
        let Some((taken, left)) = self.left.split_at_checked(count) else {
            return Err(FormatError::Short { format: self.format });
        };
        self.left = left;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N)?);
        Ok(out)
    }

    /// One byte.
    pub fn u8(&mut self) -> Result<u8, FormatError> {
        Ok(self.array::<1>()?[0])
    }

    /// Two bytes.
    pub fn i16(&mut self) -> Result<i16, FormatError> {
        Ok(i16::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn u32(&mut self) -> Result<u32, FormatError> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// Four bytes.
    pub fn i32(&mut self) -> Result<i32, FormatError> {
        Ok(i32::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn u64(&mut self) -> Result<u64, FormatError> {
        Ok(u64::from_be_bytes(self.array()?))
    }

    /// Eight bytes.
    pub fn i64(&mut self) -> Result<i64, FormatError> {
        Ok(i64::from_be_bytes(self.array()?))
    }

    /// A varint of at most 10 bytes.
    pub fn varint(&mut self) -> Result<u64, FormatError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(self.invalid("a varint is too long"))
    }

    /// Sixteen bytes.
    pub fn uuid(&mut self) -> Result<Uuid, FormatError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    /// Length-prefixed bytes.
    pub fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let length = self.length()?;
        self.take(length)
    }

    /// Length-prefixed UTF-8.
    pub fn string(&mut self) -> Result<&'a str, FormatError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| self.invalid("a text is not UTF-8"))
    }

    /// 0, or 1 and the value.
    pub fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<'a>) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        match self.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.invalid("an option is neither 0 nor 1")),
        }
    }

    /// A counted list; `item_bytes_min` (at least 1) bounds the count by the bytes present.
    pub fn list<T>(
        &mut self,
        item_bytes_min: usize,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let count = self.length()?;
        if count > self.left.len() / item_bytes_min.max(1) {
            return Err(FormatError::Short { format: self.format });
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(read(self)?);
        }
        Ok(items)
    }

    /// The tagged fields. `known` lists the tags that the caller understands; an unknown required one is an error.
    pub fn tags(&mut self, known: &[u32]) -> Result<Tags, FormatError> {
        let mut previous = None;
        let tags = self.list(2, |reader| {
            let head = reader.varint()?;
            let number = u32::try_from(head >> 1).map_err(|_| reader.invalid("a tag is too large"))?;
            let required = head & 1 == 1;
            if previous.is_some_and(|previous| previous >= number) {
                return Err(reader.invalid("tags are out of order"));
            }
            previous = Some(number);
            if required && !known.contains(&number) {
                return Err(FormatError::RequiredField { format: reader.format, tag: number });
            }
            let value = Bytes::copy_from_slice(reader.bytes()?);
            Ok(Tag { number, required, value })
        })?;
        Ok(Tags(tags))
    }

    /// Fails unless everything was read.
    pub fn end(&self) -> Result<(), FormatError> {
        if self.left.is_empty() { Ok(()) } else { Err(self.invalid("bytes are left over at the end")) }
    }

    fn length(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.varint()?).map_err(|_| FormatError::Short { format: self.format })
    }

    fn invalid(&self, what: &'static str) -> FormatError {
        FormatError::Invalid { format: self.format, what }
    }
}

/// Tagged fields, in ascending order of tag: those understood and those only carried along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags(Vec<Tag>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Tag {
    number: u32,
    required: bool,
    value: Bytes,
}

impl Tags {
    /// The value of a field.
    pub fn get(&self, number: u32) -> Option<&Bytes> {
        self.0.iter().find(|tag| tag.number == number).map(|tag| &tag.value)
    }

    /// Sets a field that a reader may ignore.
    pub fn set_optional(&mut self, number: u32, value: Bytes) {
        self.set(Tag { number, required: false, value });
    }

    /// Sets a field that a reader must understand.
    pub fn set_required(&mut self, number: u32, value: Bytes) {
        self.set(Tag { number, required: true, value });
    }

    /// Takes a field out.
    pub fn take(&mut self, number: u32) -> Option<Bytes> {
        let at = self.0.iter().position(|tag| tag.number == number)?;
        Some(self.0.remove(at).value)
    }

    fn set(&mut self, tag: Tag) {
        match self.0.binary_search_by_key(&tag.number, |tag| tag.number) {
            Ok(at) => self.0[at] = tag,
            Err(at) => self.0.insert(at, tag),
        }
    }
}

#[cfg(test)]
mod tests;
