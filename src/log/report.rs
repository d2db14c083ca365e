//! What opening a log tells of itself.

use std::path::PathBuf;

use aquifer_model::ByteCount;

use super::error::Corruption;

/// What opening a log found and did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Bytes read again, with every checksum, because they lay behind the last checkpoint.
    pub reread: ByteCount,
    /// What was not as a clean stop leaves it.
    pub findings: Vec<RecoveryFinding>,
    /// There was nothing, and nothing that says that there never was: the log is new, or what it held is gone.
    pub is_blank: bool,
}

/// Something that a clean stop does not leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecoveryFinding {
    /// An unfinished tail, never acknowledged, was cut off; its bytes are in `quarantine`.
    TornTail {
        /// Which file.
        file: PathBuf,
        /// Where it was cut.
        position: u64,
        /// How much was cut, later segments included.
        bytes: ByteCount,
        /// Where the bytes are now, if they could be saved.
        quarantine: Option<PathBuf>,
    },
    /// Bytes that may have been acknowledged are damaged. The log takes no appends until that is settled.
    Corrupt(Corruption),
    /// The checkpoint was lost or damaged; recovery began earlier.
    CheckpointLost,
    /// The open segment's index was lost or damaged and was made anew.
    IndexRebuilt,
}
