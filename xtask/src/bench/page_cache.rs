//! A page cache that is kept full of clean pages.
//!
//! Writes then take pages that the machine has already. Memory that it has given back to its host costs 2 to 3 s of processor time
//! a GB when it is first touched, ten times what is measured here, and it is given back as soon as a file is deleted: so the file
//! that fills the cache is kept for as long as measuring takes.

use crate::places;
use anyhow::{Context, Result};
use std::fs::File;
use std::io::{Read, Write};
use std::path::PathBuf;

/// Left free. The programs that are measured take what they need from the pages that fill the rest.
const LEFT_FREE: u64 = 1 << 30;
const CHUNK: usize = 8 << 20;

/// The file that fills it; removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Full {
    file: PathBuf,
    bytes: u64,
}

impl Full {
    /// Fills it: takes half a minute.
    pub(crate) fn fill() -> Result<Full> {
        let file = places::data()?.join("page-cache");
        places::removed_file(&file)?;
        let bytes = available()?.saturating_sub(LEFT_FREE);
        let full = Full { file, bytes };
        println!("   filling the page cache: {}", full.shown());
        let mut out =
            File::create(&full.file).with_context(|| format!("creating {}", full.file.display()))?;
        let chunk = vec![0x5a; CHUNK];
        for _ in 0..bytes / CHUNK as u64 {
            out.write_all(&chunk).context("filling the page cache")?;
        }
        out.sync_all().context("filling the page cache")?;
        full.touch()?;
        Ok(full)
    }

    /// How much it is.
    pub(crate) fn shown(&self) -> String {
        format!("{:.1} GB", self.bytes as f64 / 1e9)
    }

    /// Has all of it in memory again, as far as it fits.
    pub(crate) fn touch(&self) -> Result<()> {
        let mut file = File::open(&self.file).with_context(|| format!("opening {}", self.file.display()))?;
        let mut chunk = vec![0; CHUNK];
        while file.read(&mut chunk).context("reading what fills the page cache")? > 0 {}
        Ok(())
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        if let Err(error) = places::removed_file(&self.file) {
            eprintln!("{error:#}");
        }
    }
}

/// Memory that nobody uses, or the page cache alone.
fn available() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("reading /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"));
    let kib: u64 = line.context("no MemAvailable")?.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib << 10)
}
