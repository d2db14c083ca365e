//! Real text: the sources and documentation of the crates that this build fetched, a line a record, keyed by file name.
//!
//! Each record is a line `key TAB value`. What a keyed producer must make of it is known beforehand: librdkafka puts a key
//! into partition `crc32(key) % partitions`, in order; so the SHA-256 of each partition's lines is an answer that no client
//! had a hand in.

use crate::places;
use anyhow::{Context, Result, ensure};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

const ENDINGS: &[&str] = &["rs", "md", "txt", "toml", "json", "h", "c"];
/// Longer lines are generated tables, not text.
const LINE_BYTES_MAX: usize = 100_000;
const MB: u64 = 1_000_000;

/// A file of records, and what each partition must hold once it is produced.
#[derive(Debug)]
pub(crate) struct Text {
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    pub(crate) partitions: Vec<Expected>,
}

/// What a partition must hold: records, and the SHA-256 of their lines `key TAB value LF` in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Expected {
    pub(crate) count: u64,
    pub(crate) sha256: String,
}

impl Text {
    pub(crate) fn records(&self) -> u64 {
        self.partitions.iter().map(|partition| partition.count).sum()
    }
}

/// Writes about `size_mb` of it to `name`, under the test data.
pub(crate) fn gather(name: &str, size_mb: u64, partitions: usize) -> Result<Text> {
    let path = places::data()?.join(name);
    let mut text = Splitter::new(BufWriter::new(File::create(&path)?), partitions);
    for root in roots() {
        walk(&root, &root, size_mb * MB, &mut text)?;
    }
    ensure!(text.bytes >= size_mb * MB, "found only {} MB of text in {:?}", text.bytes / MB, roots());
    let (bytes, partitions) = text.finish()?;
    Ok(Text { path, bytes, partitions })
}

/// The crates that this build has fetched, then what the Rust toolchain and the system bring.
fn roots() -> Vec<PathBuf> {
    let home = std::env::var("HOME").unwrap_or_default();
    let cargo = std::env::var("CARGO_HOME").unwrap_or_else(|_| format!("{home}/.cargo"));
    let rustup = std::env::var("RUSTUP_HOME").unwrap_or_else(|_| format!("{home}/.rustup"));
    let roots = [
        format!("{cargo}/registry/src"),
        format!("{rustup}/toolchains"),
        "/usr/share/doc".into(),
        "/usr/include".into(),
    ];
    roots.iter().map(PathBuf::from).filter(|root| root.is_dir()).collect()
}

fn walk<W: Write>(root: &Path, folder: &Path, bytes_max: u64, text: &mut Splitter<W>) -> Result<()> {
    let mut entries: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("listing {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    entries.sort();
    for path in entries {
        if text.bytes >= bytes_max {
            return Ok(());
        }
        let meta = path.symlink_metadata()?;
        if meta.is_dir() {
            walk(root, &path, bytes_max, text)?;
        } else if meta.is_file()
            && ENDINGS.iter().any(|ending| path.extension().is_some_and(|found| found == *ending))
        {
            let key = path.strip_prefix(root).expect("walked from root").to_string_lossy().into_owned();
            text.file(&key, &std::fs::read(&path).with_context(|| format!("reading {}", path.display()))?)?;
        }
    }
    Ok(())
}

struct Splitter<W> {
    out: W,
    bytes: u64,
    partitions: Vec<(u64, Sha256)>,
}

impl<W: Write> Splitter<W> {
    fn new(out: W, partitions: usize) -> Splitter<W> {
        Splitter { out, bytes: 0, partitions: vec![(0, Sha256::new()); partitions] }
    }

    fn file(&mut self, key: &str, content: &[u8]) -> Result<()> {
        // kcat reads a key up to the first tab, and lines as C strings.
        if key.contains(['\t', '\n']) || content.contains(&0) {
            return Ok(());
        }
        let partition = crc32(key.as_bytes()) as usize % self.partitions.len();
        let (count, hash) = &mut self.partitions[partition];
        let mut records = Vec::with_capacity(content.len() * 2);
        for line in content.split(|byte| *byte == b'\n').filter(|line| line.len() <= LINE_BYTES_MAX) {
            records.extend_from_slice(key.as_bytes());
            records.push(b'\t');
            records.extend_from_slice(line);
            records.push(b'\n');
            *count += 1;
        }
        hash.update(&records);
        self.bytes += records.len() as u64;
        self.out.write_all(&records).context("writing the text")
    }

    fn finish(mut self) -> Result<(u64, Vec<Expected>)> {
        self.out.flush()?;
        let partitions = self
            .partitions
            .into_iter()
            .map(|(count, hash)| Expected { count, sha256: hex(&hash.finalize()) });
        Ok((self.bytes, partitions.collect()))
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a String takes all");
        text
    })
}

/// The CRC-32 of zlib, bit by bit: it runs once a file.
fn crc32(bytes: &[u8]) -> u32 {
    let crc = bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg()))
    });
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_where_librdkafka_puts_them() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn lines_are_split_by_key_and_hashed_in_order() {
        let mut out = Vec::new();
        let mut text = Splitter::new(&mut out, 2);
        text.file("a", b"one\n\ttwo").expect("written");
        text.file("b\tc", b"no").expect("left out");
        text.file("d", b"zero\0").expect("left out");
        let (bytes, partitions) = text.finish().expect("finished");
        assert_eq!((out.as_slice(), bytes), (&b"a\tone\na\t\ttwo\n"[..], 13));
        let full = crc32(b"a") as usize % 2;
        assert_eq!(
            partitions[full],
            Expected { count: 2, sha256: hex(&Sha256::digest(b"a\tone\na\t\ttwo\n")) }
        );
        assert_eq!(partitions[1 - full], Expected { count: 0, sha256: hex(&Sha256::digest(b"")) });
    }
}
