//! Who a data directory belongs to: `<dir>/node`.
//!
//! The file is the first thing that formatting writes and, with another word in it, the last. So a directory is in one of three
//! states, and a start acts on each: no file (fresh, unless there is a log: then the file was lost, and a person must say what
//! happened); `forming` (a crash while formatting: nothing was promised, the log is made anew under the same ids); `formed` (the
//! log must be there: a node that lost it and went on would vote as one who promised nothing).
//!
//! Format `AQND`, version 1.

use std::io;
use std::path::{Path, PathBuf};

use aquifer_model::BrokerId;
use aquifer_model::format::{Format, FormatError, Tags, Writer};
use aquifer_runtime::files::Disk;

use super::ids::{ClusterId, Incarnation, RaftNodeId};

const FORMAT: Format = Format { name: "node file", magic: *b"AQND", version: 1 };

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub(super) stage: Stage,
    pub(super) cluster: ClusterId,
    pub(super) incarnation: Incarnation,
    pub(super) broker: BrokerId,
    pub(super) id: RaftNodeId,
    pub(super) unknown: Tags,
}

/// How far formatting has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    Forming,
    Formed,
}

/// The node file of `dir`.
pub(super) fn path(dir: &Path) -> PathBuf {
    dir.join("node")
}

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NodeFileError {
    /// It cannot be read or written.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Its bytes are damaged or too new.
    #[error(transparent)]
    Format(#[from] FormatError),
}

impl Node {
    /// Reads the file; `None` if there is none.
    pub(super) fn read(disk: &Disk, dir: &Path) -> Result<Option<Node>, NodeFileError> {
        let bytes = disk.read_if_exists(&path(dir))?;
        Ok(bytes.map(|bytes| Node::decode(&bytes)).transpose()?)
    }

    /// Writes the file; durable on return.
    pub(super) fn write(&self, disk: &Disk, dir: &Path) -> Result<(), NodeFileError> {
        Ok(disk.write_atomic(&path(dir), &self.encode())?)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let Node { stage, cluster, incarnation, broker, id, unknown } = self;
        let mut writer = Writer::new();
        writer.u8(match stage {
            Stage::Forming => 0,
            Stage::Formed => 1,
        });
        writer.uuid(cluster.uuid());
        writer.u64(incarnation.0);
        writer.i32(broker.0);
        writer.u64(id.0);
        writer.tags(unknown);
        FORMAT.seal(&writer.finish())
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Node, FormatError> {
        let (_, body) = FORMAT.open(bytes)?;
        let mut reader = FORMAT.reader(body);
        let node = Node {
            stage: match reader.u8()? {
                0 => Stage::Forming,
                1 => Stage::Formed,
                _ => return Err(FORMAT.invalid("its stage is unknown")),
            },
            cluster: ClusterId::new(reader.uuid()?),
            incarnation: Incarnation(reader.u64()?),
            broker: BrokerId(reader.i32()?),
            id: RaftNodeId(reader.u64()?),
            unknown: reader.tags(&[])?,
        };
        reader.end()?;
        Ok(node)
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn bytes_are_golden_and_damage_is_seen() {
        let node = Node {
            stage: Stage::Formed,
            cluster: ClusterId::new(Uuid::from_u128(0xc1)),
            incarnation: Incarnation(0xa1),
            broker: BrokerId(7),
            id: RaftNodeId(0x0102_0304_0506_0708),
            unknown: Tags::default(),
        };
        let bytes = node.encode();
        let golden = concat!(
            "41514e440001000000000026",
            "CRC",
            "01",
            "000000000000000000000000000000c1",
            "00000000000000a1",
            "00000007",
            "0102030405060708",
            "00",
        );
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, golden.replace("CRC", &hex[24..32]));
        assert_eq!(Node::decode(&bytes), Ok(node));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            assert!(Node::decode(&flipped).is_err(), "byte {at}");
        }
    }
}
