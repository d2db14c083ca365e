//! The four codecs that Kafka's clients compress batches with.
//!
//! The broker decompresses only where it must (full validation, compaction, tools); what producers sent is stored and served
//! as it came. Input is hostile: output is bounded by the caller, whatever the input claims.

use std::io::{self, Read, Write};

/// A codec, by the number that batches carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Stored as is.
    None,
    /// RFC 1952.
    Gzip,
    /// Snappy, raw or in the framing of the Java library (xerial), which most clients send.
    Snappy,
    /// LZ4 frames.
    Lz4,
    /// Zstandard frames.
    Zstd,
}

/// Why compressed bytes could not be expanded.
#[derive(Debug, thiserror::Error)]
pub enum DecompressError {
    /// The output would pass the caller's bound.
    #[error("decompressed records are larger than {0} bytes")]
    Large(usize),
    /// The bytes are not what the codec writes.
    #[error("compressed records are invalid: {0}")]
    Invalid(#[from] io::Error),
}

/// No reader expands the records of a batch to more, in bytes: what is larger is passed over, or refused where it comes in.
pub const EXPANDED_BYTES_MAX: usize = 128 << 20;

/// The start of xerial's framing: magic, then two version numbers.
const XERIAL_MAGIC: [u8; 8] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];
const XERIAL_HEADER_BYTES: usize = 16;
/// Largest zstd window accepted, as a power of two: 8 MiB, what every level up to 19 uses. More would let a small batch claim
/// much memory.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;

impl Compression {
    /// By the low three bits of a batch's attributes; `None` for 5 to 7.
    pub const fn from_bits(bits: u8) -> Option<Compression> {
        match bits {
            0 => Some(Compression::None),
            1 => Some(Compression::Gzip),
            2 => Some(Compression::Snappy),
            3 => Some(Compression::Lz4),
            4 => Some(Compression::Zstd),
            _ => None,
        }
    }

    /// The low three bits of a batch's attributes.
    pub const fn bits(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// Expands `bytes`, to at most `bytes_max`.
    pub fn decompress(self, bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
        match self {
            Compression::None if bytes.len() > bytes_max => Err(DecompressError::Large(bytes_max)),
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => read_bounded(flate2::read::MultiGzDecoder::new(bytes), bytes_max),
            Compression::Snappy => unsnap(bytes, bytes_max),
            Compression::Lz4 => read_bounded(lz4_flex::frame::FrameDecoder::new(bytes), bytes_max),
            Compression::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                read_bounded(decoder, bytes_max)
            }
        }
    }

    /// Compresses `bytes` at the codec's usual level.
    pub fn compress(self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => Ok(bytes.to_vec()),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes)?;
                encoder.finish()
            }
            Compression::Snappy => {
                let block = snap::raw::Encoder::new().compress_vec(bytes).map_err(io::Error::other)?;
                let length = u32::try_from(block.len()).map_err(io::Error::other)?;
                let mut out = Vec::with_capacity(XERIAL_HEADER_BYTES + 4 + block.len());
                out.extend_from_slice(&XERIAL_MAGIC);
                out.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
                out.extend_from_slice(&length.to_be_bytes());
                out.extend_from_slice(&block);
                Ok(out)
            }
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(bytes)?;
                encoder.finish().map_err(io::Error::other)
            }
            Compression::Zstd => zstd::stream::encode_all(bytes, 0),
        }
    }
}

impl std::fmt::Display for Compression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        })
    }
}

impl std::str::FromStr for Compression {
    type Err = UnknownCompression;

    fn from_str(text: &str) -> Result<Compression, UnknownCompression> {
        match text {
            "none" | "uncompressed" => Ok(Compression::None),
            "gzip" => Ok(Compression::Gzip),
            "snappy" => Ok(Compression::Snappy),
            "lz4" => Ok(Compression::Lz4),
            "zstd" => Ok(Compression::Zstd),
            _ => Err(UnknownCompression(text.to_owned())),
        }
    }
}

/// A name that is no codec's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown compression \"{0}\": use none, gzip, snappy, lz4 or zstd")]
pub struct UnknownCompression(String);

fn read_bounded(reader: impl Read, bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    let mut out = Vec::new();
    reader.take(bytes_max as u64 + 1).read_to_end(&mut out)?;
    if out.len() > bytes_max { Err(DecompressError::Large(bytes_max)) } else { Ok(out) }
}

fn unsnap(bytes: &[u8], bytes_max: usize) -> Result<Vec<u8>, DecompressError> {
    if !bytes.starts_with(&XERIAL_MAGIC) {
        let mut out = Vec::new();
        unsnap_block(bytes, bytes_max, &mut out)?;
        return Ok(out);
    }
    let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "snappy framing is cut short");
    let mut left = bytes.get(XERIAL_HEADER_BYTES..).ok_or_else(short)?;
    let mut out = Vec::new();
    while !left.is_empty() {
        let (length, rest) = left.split_first_chunk::<4>().ok_or_else(short)?;
        let (block, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or_else(short)?;
        unsnap_block(block, bytes_max, &mut out)?;
        left = rest;
    }
    Ok(out)
}

fn unsnap_block(block: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), DecompressError> {
    let length = snap::raw::decompress_len(block).map_err(io::Error::other)?;
    if out.len() + length > bytes_max {
        return Err(DecompressError::Large(bytes_max));
    }
    // Snappy cannot expand more than 64 bytes per 3 of input; a larger claim is a lie, not worth its memory.
    if length > 64 + block.len().saturating_mul(22) {
        return Err(
            io::Error::new(io::ErrorKind::InvalidData, "snappy block claims more than it can hold").into()
        );
    }
    let start = out.len();
    out.resize(start + length, 0);
    let written = snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(io::Error::other)?;
    out.truncate(start + written);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Compression; 5] =
        [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    #[test]
    fn every_codec_round_trips_within_its_bound_and_refuses_beyond_it() {
        for input in
            [vec![], b"x".to_vec(), vec![7; 100_000], (0..50_000u32).flat_map(u32::to_le_bytes).collect()]
        {
            for codec in ALL {
                let packed = codec.compress(&input).unwrap();
                assert_eq!(codec.decompress(&packed, input.len()).unwrap(), input, "{codec}");
                if !input.is_empty() {
                    let error = codec.decompress(&packed, input.len() - 1).unwrap_err();
                    assert!(matches!(error, DecompressError::Large(_)), "{codec}: {error}");
                }
            }
        }
    }

    #[test]
    fn raw_snappy_is_read_too() {
        let packed = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        assert_eq!(Compression::Snappy.decompress(&packed, 100).unwrap(), b"hello hello hello");
    }

    #[test]
    fn cut_and_flipped_input_never_panics_nor_passes_the_bound() {
        let input = vec![42; 10_000];
        for codec in ALL {
            let packed = codec.compress(&input).unwrap();
            for at in 0..packed.len().min(200) {
                let _ = codec.decompress(&packed[..at], 20_000);
                let mut flipped = packed.clone();
                flipped[at] ^= 0xff;
                if let Ok(out) = codec.decompress(&flipped, 20_000) {
                    assert!(out.len() <= 20_000);
                }
            }
        }
    }
}
