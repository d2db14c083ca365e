//! What files and folders are called.
//!
//! ```text
//! <log dir>/format                                    version and uuid of the directory
//! <log dir>/lock                                      held while a process has it open
//! <log dir>/clean                                     there from a clean stop until the next start
//! <log dir>/boot                                      which start of the machine it was last opened in
//! <log dir>/failed                                    there from a failure until a start has dealt with what it left
//! <log dir>/reserve                                   room for a checkpoint when the disk is full
//! <log dir>/journal/0 1                               what several logs have written, in turns, before it is synced where it belongs
//! <log dir>/quarantine/                               tails that were cut off, for an operator to look at
//! <log dir>/topics/<topic name>/<topic id>-<n>/       a partition
//!     lost                                            there while it lacks something that was acknowledged: what
//!     partition, checkpoint                           whose it is, and how far it may have gaps; where recovery starts
//!     <base offset>.log .index .snapshot              a segment, its indexes, the producers at its start
//! ...<anything>.deleted                               not needed any more; removed after a while, or at the next start
//! ...<anything>.tmp                                   a write that a crash interrupted; removed at the next start
//! <base offset>.log.cleaned .index.cleaned            what a compaction is about to put in the place of others; removed at the
//!                                                     next start, or put there if the checkpoint says so
//! ```

use std::path::{Path, PathBuf};

use aquifer_model::{Offset, PartitionIndex, TopicPartition};

pub(crate) const FORMAT: &str = "format";
pub(crate) const LOCK: &str = "lock";
pub(crate) const CLEAN: &str = "clean";
pub(crate) const BOOT: &str = "boot";
pub(crate) const FAILED: &str = "failed";
pub(crate) const RESERVE: &str = "reserve";
pub(crate) const JOURNAL: &str = "journal";
pub(crate) const JOURNAL_FILES: [&str; 2] = ["0", "1"];
pub(crate) const QUARANTINE: &str = "quarantine";
pub(crate) const TOPICS: &str = "topics";
pub(crate) const LOST: &str = "lost";
pub(crate) const PARTITION: &str = "partition";
pub(crate) const CHECKPOINT: &str = "checkpoint";
pub(crate) const LOG: &str = "log";
pub(crate) const INDEX: &str = "index";
pub(crate) const SNAPSHOT: &str = "snapshot";
pub(crate) const DELETED: &str = ".deleted";
pub(crate) const TEMPORARY: &str = ".tmp";
pub(crate) const CLEANED: &str = ".cleaned";

/// A segment's file. Twenty digits, so that names sort as offsets do.
pub(crate) fn segment_file(folder: &Path, base: Offset, extension: &str) -> PathBuf {
    folder.join(format!("{:020}.{extension}", base.get()))
}

/// The base offset in a segment file's name, if it is one of `extension`.
pub(crate) fn parse_segment_file(name: &str, extension: &str) -> Option<Offset> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let plain = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    plain.then(|| digits.parse().ok().and_then(Offset::new))?
}

/// The partition in a folder's name.
pub(crate) fn parse_partition(name: &str) -> Option<TopicPartition> {
    let (topic, partition) = name.rsplit_once('-')?;
    let plain = partition.bytes().all(|byte| byte.is_ascii_digit());
    let partition = PartitionIndex(partition.parse().ok().filter(|_| plain)?);
    Some(TopicPartition { topic: topic.parse().ok()?, partition })
}

/// `path` under the name of what is to be removed. Unique in its folder by `number`.
pub(crate) fn deleted(path: &Path, number: u64) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}{DELETED}"));
    PathBuf::from(name)
}

/// `path` under the name that it has until it takes that path's place, after a compaction.
pub(crate) fn cleaned(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(CLEANED);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_others_are_not_taken_for_ours() {
        let offset = Offset::new(1234).unwrap();
        let file = segment_file(Path::new("x"), offset, LOG);
        assert_eq!(file, Path::new("x/00000000000000001234.log"));
        let parse = |name: &str| parse_segment_file(name, LOG);
        assert_eq!(parse("00000000000000001234.log"), Some(offset));
        for name in [
            "1234.log",
            "00000000000000001234.index",
            "00000000000000001234",
            "-0000000000000001234.log",
            "xlog",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
        assert_eq!(parse("99999999999999999999.log"), None);
        let partition = "6ba7b810-9dad-11d1-80b4-00c04fd430c8-17";
        assert_eq!(parse_partition(partition).unwrap().to_string(), partition);
        for name in [
            "",
            "x-1",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8--1",
            "6ba7b810-9dad-11d1-80b4-00c04fd430c8-1.deleted",
        ] {
            assert_eq!(parse_partition(name), None, "{name}");
        }
    }
}
