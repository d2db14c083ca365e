//! Raft's own records as bytes: `AQRE`, an entry of the log; `AQRV`, the vote; `AQRP`, a position in the log (last purged, last
//! committed); `AQRO`, whose log this is; `AQMS`, a snapshot (position, members, and the image's bytes).
//!
//! Each is version 1, in an envelope with its own checksum, and ends with tagged fields, of which unknown optional ones are read
//! over: these records are not written again after they are read.

use std::collections::{BTreeMap, BTreeSet};

use aquifer_model::format::{Format, FormatError, Reader, Tags, Writer};
use openraft::EmptyNode;

use super::types::{Entry, LeaderId, LogId, Members, Payload, StoredMembers, Vote};
use crate::metadata::codec::{command, image};
use crate::metadata::ids::RaftNodeId;
use crate::metadata::image::Image;

pub(super) const ENTRY: Format = Format { name: "raft log entry", magic: *b"AQRE", version: 1 };
pub(super) const VOTE: Format = Format { name: "raft vote", magic: *b"AQRV", version: 1 };
pub(super) const POSITION: Format = Format { name: "raft log position", magic: *b"AQRP", version: 1 };
pub(super) const OWNER: Format = Format { name: "raft log owner", magic: *b"AQRO", version: 1 };
pub(super) const SNAPSHOT: Format = Format { name: "metadata snapshot", magic: *b"AQMS", version: 1 };

/// Kinds of payload as stored.
mod kind {
    pub(super) const BLANK: u8 = 0;
    pub(super) const COMMAND: u8 = 1;
    pub(super) const MEMBERS: u8 = 2;
}

fn seal(format: &Format, write: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer);
    writer.tags(&Tags::default());
    format.seal(&writer.finish())
}

fn open<'a, T>(
    format: &Format,
    bytes: &'a [u8],
    read: impl FnOnce(&mut Reader<'a>) -> Result<T, FormatError>,
) -> Result<T, FormatError> {
    let (_, body) = format.open(bytes)?;
    let mut reader = format.reader(body);
    let value = read(&mut reader)?;
    reader.tags(&[])?;
    reader.end()?;
    Ok(value)
}

pub(super) fn encode_entry(entry: &Entry) -> Vec<u8> {
    seal(&ENTRY, |writer| {
        write_log_id(writer, &entry.log_id);
        match &entry.payload {
            Payload::Blank => writer.u8(kind::BLANK),
            Payload::Normal(command) => {
                writer.u8(kind::COMMAND);
                writer.bytes(&command::encode(command));
            }
            Payload::Membership(members) => {
                writer.u8(kind::MEMBERS);
                write_members(writer, members);
            }
        }
    })
}

pub(super) fn decode_entry(bytes: &[u8]) -> Result<Entry, FormatError> {
    open(&ENTRY, bytes, |reader| {
        let log_id = read_log_id(reader)?;
        let payload = match reader.u8()? {
            kind::BLANK => Payload::Blank,
            kind::COMMAND => Payload::Normal(command::decode(reader.bytes()?)?),
            kind::MEMBERS => Payload::Membership(read_members(reader)?),
            _ => return Err(ENTRY.invalid("its kind is unknown here: use a newer aquifer")),
        };
        Ok(Entry { log_id, payload })
    })
}

pub(super) fn encode_vote(vote: &Vote) -> Vec<u8> {
    seal(&VOTE, |writer| {
        write_leader_id(writer, &vote.leader_id);
        writer.u8(u8::from(vote.committed));
    })
}

pub(super) fn decode_vote(bytes: &[u8]) -> Result<Vote, FormatError> {
    open(&VOTE, bytes, |reader| {
        let leader_id = read_leader_id(reader)?;
        let committed = match reader.u8()? {
            0 => false,
            1 => true,
            _ => return Err(VOTE.invalid("committed is neither 0 nor 1")),
        };
        Ok(Vote { leader_id, committed })
    })
}

pub(super) fn encode_position(position: &LogId) -> Vec<u8> {
    seal(&POSITION, |writer| write_log_id(writer, position))
}

pub(super) fn decode_position(bytes: &[u8]) -> Result<LogId, FormatError> {
    open(&POSITION, bytes, read_log_id)
}

pub(super) fn encode_owner(node: RaftNodeId) -> Vec<u8> {
    seal(&OWNER, |writer| writer.u64(node.0))
}

pub(super) fn decode_owner(bytes: &[u8]) -> Result<RaftNodeId, FormatError> {
    open(&OWNER, bytes, |reader| reader.u64().map(RaftNodeId))
}

/// A snapshot: the image after all entries up to a place in the log, and the members at that place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SnapshotFile {
    /// `None` before the first entry.
    pub(super) applied: Option<LogId>,
    pub(super) members: StoredMembers,
    pub(super) image: Image,
}

impl SnapshotFile {
    /// What its file is named by.
    pub(super) fn index(&self) -> u64 {
        self.applied.map_or(0, |applied| applied.index)
    }
}

/// A snapshot larger than this is not written: the envelope's length is four bytes, and a million partitions take some 100 MB.
const SNAPSHOT_BYTES_MAX: usize = 2 << 30;

/// `None` if it would be larger than a snapshot may be.
pub(super) fn encode_snapshot(snapshot: &SnapshotFile) -> Option<Vec<u8>> {
    let mut body = Writer::new();
    image::write(&mut body, &snapshot.image);
    let body = body.finish();
    if body.len() > SNAPSHOT_BYTES_MAX {
        return None;
    }
    Some(seal(&SNAPSHOT, |writer| {
        writer.option(snapshot.applied.as_ref(), write_log_id);
        writer.option(snapshot.members.log_id().as_ref(), write_log_id);
        write_members(writer, snapshot.members.membership());
        writer.bytes(&body);
    }))
}

/// Where a snapshot stands and who its members are, with the whole checksum checked but the image left alone.
pub(super) fn decode_snapshot_head(bytes: &[u8]) -> Result<(Option<LogId>, StoredMembers), FormatError> {
    let (_, body) = SNAPSHOT.open(bytes)?;
    read_snapshot_head(&mut SNAPSHOT.reader(body))
}

fn read_snapshot_head(reader: &mut Reader<'_>) -> Result<(Option<LogId>, StoredMembers), FormatError> {
    let applied = reader.option(read_log_id)?;
    let decided = reader.option(read_log_id)?;
    Ok((applied, StoredMembers::new(decided, read_members(reader)?)))
}

pub(super) fn decode_snapshot(bytes: &[u8]) -> Result<SnapshotFile, FormatError> {
    open(&SNAPSHOT, bytes, |reader| {
        let (applied, members) = read_snapshot_head(reader)?;
        let image = image::read(reader.bytes()?)?;
        Ok(SnapshotFile { applied, members, image })
    })
}

fn write_leader_id(writer: &mut Writer, leader: &LeaderId) {
    writer.u64(leader.term);
    writer.u64(leader.node_id);
}

fn read_leader_id(reader: &mut Reader<'_>) -> Result<LeaderId, FormatError> {
    Ok(LeaderId { term: reader.u64()?, node_id: reader.u64()? })
}

fn write_log_id(writer: &mut Writer, position: &LogId) {
    write_leader_id(writer, &position.leader_id);
    writer.u64(position.index);
}

fn read_log_id(reader: &mut Reader<'_>) -> Result<LogId, FormatError> {
    Ok(LogId { leader_id: read_leader_id(reader)?, index: reader.u64()? })
}

/// Sets of voters (two during a change), then all nodes, each with tagged fields of its own.
fn write_members(writer: &mut Writer, members: &Members) {
    writer.list(members.get_joint_config(), |writer, voters| {
        writer.varint(voters.len() as u64);
        for voter in voters {
            writer.u64(*voter);
        }
    });
    let nodes: Vec<u64> = members.nodes().map(|(node, EmptyNode {})| *node).collect();
    writer.list(&nodes, |writer, node| {
        writer.u64(*node);
        writer.tags(&Tags::default());
    });
}

fn read_members(reader: &mut Reader<'_>) -> Result<Members, FormatError> {
    let voters =
        reader.list(1, |reader| Ok(reader.list(8, Reader::u64)?.into_iter().collect::<BTreeSet<u64>>()))?;
    let nodes = reader.list(9, |reader| {
        let node = reader.u64()?;
        reader.tags(&[])?;
        Ok((node, EmptyNode {}))
    })?;
    let nodes: BTreeMap<u64, EmptyNode> = nodes.into_iter().collect();
    if voters.is_empty() && nodes.is_empty() {
        return Ok(Members::default());
    }
    Members::new(voters, nodes).map_err(|_| ENTRY.invalid("the members are inconsistent"))
}
