//! A page cache that is kept full of clean pages.
//!
//! Writes then take pages that the machine has already. Memory that it has given back to its host costs 2 to 5 s of processor time
//! a GB when it is first touched, three to ten times what is measured here, and it is given back as soon as a file is deleted or a program
//! ends. So the file that fills the cache is kept for as long as measuring takes, and before each measurement is written over, on from where that
//! ended last, until next to nothing is free. It is written in pieces as large as a broker's batches: what is taken back of smaller ones does not hang
//! together, and a broker whose writes have to make do with it takes twice the time for 64 KiB. But for large ones the kernel takes back
//! more than it needs, and leaves that free; so the last of it is written in small ones.

use crate::places;
use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// With no more than this part of memory free, the kernel takes back pages of files before it hands out others.
const FREE_PART: u64 = 64;
/// The most that is written to have so little free, in sizes of what is free: what the kernel keeps all the same is told.
const WRITTEN_MAX: u64 = 2;
const PIECE: usize = 256 << 10;
/// For the rest, once as much as was free has been written in pieces of that size.
const SMALL_PIECE: usize = 16 << 10;
/// So much is written, and synced, before it is looked again at what is free.
const STEP: u64 = 64 << 20;

/// The file that fills it; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Full {
    file: PathBuf,
    bytes: u64,
    /// Where the next step begins.
    at: u64,
    /// The most that was left free.
    left: u64,
}

impl Full {
    /// Fills it: takes a minute or two.
    pub(crate) fn fill() -> Result<Full> {
        let file = places::data()?.join("page-cache");
        places::removed_file(&file)?;
        println!("   filling the page cache");
        File::create(&file).with_context(|| format!("creating {}", file.display()))?;
        let mut full = Full { file, bytes: 0, at: 0, left: 0 };
        full.touch()?;
        full.left = 0;
        Ok(full)
    }

    /// How much it is, and how much was not.
    pub(crate) fn shown(&self) -> String {
        format!("{:.1} GB, of memory at most {} MB free", self.bytes as f64 / 1e9, self.left / 1_000_000)
    }

    /// Has next to nothing be free again. Where a lap over the file is not enough, the file grows, to the size of memory.
    pub(crate) fn touch(&mut self) -> Result<()> {
        let writing = || format!("writing {}", self.file.display());
        let file = File::options().write(true).open(&self.file).with_context(writing)?;
        let piece = [0x5a; PIECE];
        let (memory, free_before) = (meminfo("MemTotal")?, meminfo("MemFree")?);
        let mut written = 0;
        loop {
            let free = meminfo("MemFree")?;
            if free <= memory / FREE_PART || written > WRITTEN_MAX * free_before {
                self.left = self.left.max(free);
                return Ok(());
            }
            if self.at == self.bytes && (written < self.bytes || self.bytes >= memory) {
                self.at = 0;
            }
            let piece = if written < free_before { &piece[..] } else { &piece[..SMALL_PIECE] };
            for at in (self.at..self.at + STEP).step_by(piece.len()) {
                file.write_all_at(piece, at).with_context(writing)?;
            }
            file.sync_data().with_context(writing)?;
            self.at += STEP;
            self.bytes = self.bytes.max(self.at);
            written += STEP;
        }
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        if let Err(error) = places::removed_file(&self.file) {
            eprintln!("{error:#}");
        }
    }
}

/// Bytes of memory that the kernel tells by this name.
fn meminfo(name: &str) -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib: u64 =
        line.with_context(|| format!("no {name}"))?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
