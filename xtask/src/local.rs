//! What the log files of a stopped broker hold, for the history: the local copy, to be held against the bucket's.

use crate::history::History;
use anyhow::{Context, Result, ensure};
use aquifer_checker::{Partition, Source};
use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::batches::Batches;
use aquifer_model::record;
use bytes::Bytes;
use std::io::Write as _;
use std::path::{Path, PathBuf};

/// Notes all that is left of a topic in a data directory. Its records are not compressed, as the soak's are not.
pub(crate) fn note(data: &Path, topic: &str, history: &mut History) -> Result<()> {
    let mut found = 0;
    for folder in listed(&data.join("topics").join(topic))? {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let index = name.rsplit_once('-').and_then(|(_, index)| index.parse().ok());
        let partition =
            Partition { topic: topic.to_owned(), index: index.context("a folder that is no partition's")? };
        let mut lines = Vec::new();
        for file in
            listed(&folder)?.iter().filter(|file| file.extension().is_some_and(|ending| ending == "log"))
        {
            let bytes =
                Bytes::from(std::fs::read(file).with_context(|| format!("reading {}", file.display()))?);
            let mut end = 0;
            for located in Batches::new(&bytes) {
                end = located.position + located.header.size();
                let records = bytes.slice(located.position + HEADER_BYTES..end);
                for record in record::read(&located.header, &records)? {
                    write!(lines, "{}\t", record.offset)?;
                    lines.extend_from_slice(record.value.as_deref().unwrap_or_default());
                    lines.push(b'\n');
                }
            }
            ensure!(end == bytes.len(), "{} holds no batch from byte {end} on", file.display());
        }
        found += 1;
        history.read_lines("log files", &lines[..], &partition, Source::Local)?;
    }
    ensure!(found > 0, "{} has no folder of {topic}", data.display());
    Ok(())
}

/// By name, which for segments is by offset.
fn listed(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("listing {}", folder.display()))?;
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.map(|entry| entry.path())).collect::<std::io::Result<_>>()?;
    paths.sort();
    Ok(paths)
}
