//! What `__consumer_offsets` stores, in Kafka's own formats, so that its tools read ours and a copied topic is understood.
//!
//! A key starts with the number of its kind, a value with the version of its layout. Kinds 0 and 1 are offsets, 2 is a classic
//! group, 3 to 8 and 16 are groups whose coordinator assigns ([`ConsumerRecord`]); a null value takes back what was said under its key. Of groups the newest layout is written that every Kafka since 2.3
//! reads, of offsets the one in which Kafka 4.1 says which topic it means, by id; all older ones are read. A kind that is not known here is skipped and kept, as Kafka does.

use aquifer_model::batch::HEADER_BYTES;
use aquifer_model::{LeaderEpoch, Timestamp, TopicId};
use aquifer_protocol::{DecodeError, EncodeError, Reader, Str, Writer};
use bytes::Bytes;

/// Groups whose coordinator assigns.
mod consumer;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzzing;

pub(crate) use consumer::{
    Classic, ConsumerRecord, Current, GroupEpoch, Matching, MemberState, Profile, Said,
};

const KIND_OFFSET_OLD: i16 = 0;
const KIND_OFFSET: i16 = 1;
const KIND_GROUP: i16 = 2;

/// Of a position whose topic's id is not known.
const OFFSET_VERSION_WITHOUT_ID: i16 = 3;
/// The one layout that holds a time of expiry; it has neither a leader epoch nor an id. Kafka writes it as well where it must.
const OFFSET_VERSION_EXPIRING: i16 = 1;
const OFFSET_VERSION_MAX: i16 = 4;
/// The tagged field of an offset's value that says which topic it means.
const TAG_TOPIC_ID: u32 = 0;
const GROUP_VERSION: i16 = 3;
const GROUP_VERSION_MAX: i16 = 4;
/// From here on, in both values, lengths are compact and tagged fields follow.
const FLEXIBLE_FROM: i16 = 4;
/// More than a record takes besides key and value, and these besides their strings and byte arrays.
const RECORD_BYTES_EXTRA: usize = 128;
/// The same of a member in a group's value.
const MEMBER_BYTES_EXTRA: usize = 32;
/// The fewest bytes of a member in a group's value.
const MEMBER_BYTES_MIN: usize = 8;

/// What one record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Record {
    /// How far a group has read a partition; `None`: forgotten.
    Offset { key: OffsetKey, value: Option<OffsetValue> },
    /// A classic group's generation and members; `None`: the group is gone.
    Group { group: Str, value: Option<GroupValue> },
    /// Something of a group whose coordinator assigns.
    Consumer(ConsumerRecord),
}

/// Whose position, and in what.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct OffsetKey {
    pub(crate) group: Str,
    pub(crate) topic: Str,
    pub(crate) partition: i32,
}

/// A committed position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OffsetValue {
    /// The next offset to read. Not checked against the log: what a client commits is its own affair.
    pub(crate) offset: i64,
    pub(crate) leader_epoch: Option<LeaderEpoch>,
    /// Of several topics that had the same name one after the other, the one that was read; `None` where an old broker did not say.
    pub(crate) topic_id: Option<TopicId>,
    pub(crate) metadata: Str,
    pub(crate) committed: Timestamp,
    /// When it is forgotten, if its client said so (OffsetCommit up to version 4).
    pub(crate) expires: Option<Timestamp>,
}

/// A generation of a classic group, as it was when its leader handed in the assignment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct GroupValue {
    pub(crate) protocol_type: Str,
    pub(crate) generation: i32,
    pub(crate) protocol: Option<Str>,
    pub(crate) leader: Option<Str>,
    /// Since when it is in the state that this record says, in milliseconds since 1970; -1 where an old broker did not say.
    pub(crate) state_since: i64,
    pub(crate) members: Vec<MemberValue>,
}

/// A member of a stored generation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MemberValue {
    pub(crate) member_id: Str,
    pub(crate) instance: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecordError {
    #[error(transparent)]
    Decode(#[from] DecodeError),
    #[error("version {version} of {what} is not known here: a newer broker wrote it")]
    Version { what: &'static str, version: i16 },
}

impl Record {
    /// The record's key.
    pub(crate) fn key(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::bare();
        match self {
            Record::Consumer(record) => return record.key(),
            Record::Offset { key, .. } => {
                writer.i16(KIND_OFFSET);
                writer.string(false, &key.group)?;
                writer.string(false, &key.topic)?;
                writer.i32(key.partition);
            }
            Record::Group { group, .. } => {
                writer.i16(KIND_GROUP);
                writer.string(false, group)?;
            }
        }
        Ok(writer.finish()?.into_bytes())
    }

    /// The record's value; `None` is a tombstone.
    pub(crate) fn value(&self) -> Result<Option<Bytes>, EncodeError> {
        let mut writer = Writer::bare();
        match self {
            Record::Consumer(record) => return record.value(),
            Record::Offset { value: None, .. } | Record::Group { value: None, .. } => return Ok(None),
            Record::Offset { value: Some(value), .. } => value.write(&mut writer)?,
            Record::Group { value: Some(value), .. } => value.write(&mut writer)?,
        }
        Ok(Some(writer.finish()?.into_bytes()))
    }

    /// The most bytes that a batch with nothing else in it takes.
    pub(crate) fn batch_bytes_max(&self) -> usize {
        let said = match self {
            Record::Offset { key, value } => {
                let metadata = value.as_ref().map_or(0, |value| value.metadata.len());
                key.group.len() + key.topic.len() + metadata
            }
            Record::Group { group, value } => group.len() + value.as_ref().map_or(0, GroupValue::bytes_max),
            Record::Consumer(record) => record.bytes_max(),
        };
        HEADER_BYTES + RECORD_BYTES_EXTRA + said
    }

    /// The most bytes that a batch of these takes.
    pub(crate) fn batch_bytes_max_of<'a>(records: impl IntoIterator<Item = &'a Record>) -> usize {
        let each = records.into_iter().map(|record| record.batch_bytes_max() - HEADER_BYTES);
        HEADER_BYTES + each.sum::<usize>()
    }

    /// Reads a stored record; `None` if it is of a kind that is not known here.
    pub(crate) fn parse(key: Bytes, value: Option<Bytes>) -> Result<Option<Record>, RecordError> {
        let mut reader = Reader::new(key);
        Ok(Some(match reader.i16()? {
            KIND_OFFSET_OLD | KIND_OFFSET => Record::Offset {
                key: OffsetKey {
                    group: reader.string(false)?.detached(),
                    topic: reader.string(false)?.detached(),
                    partition: reader.i32()?,
                },
                value: value.map(OffsetValue::read).transpose()?,
            },
            KIND_GROUP => Record::Group {
                group: reader.string(false)?.detached(),
                value: value.map(GroupValue::read).transpose()?,
            },
            kind => return Ok(ConsumerRecord::parse(kind, &mut reader, value)?.map(Record::Consumer)),
        }))
    }
}

impl OffsetValue {
    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        let version = match (self.expires, self.topic_id) {
            (Some(_), _) => OFFSET_VERSION_EXPIRING,
            (None, None) => OFFSET_VERSION_WITHOUT_ID,
            (None, Some(_)) => OFFSET_VERSION_MAX,
        };
        let flexible = version >= FLEXIBLE_FROM;
        writer.i16(version);
        writer.i64(self.offset);
        if version != OFFSET_VERSION_EXPIRING {
            writer.i32(self.leader_epoch.map_or(-1, LeaderEpoch::get));
        }
        writer.string(flexible, &self.metadata)?;
        writer.i64(self.committed.0);
        if let Some(expires) = self.expires {
            writer.i64(expires.0);
        }
        if let Some(topic) = self.topic_id.filter(|_| flexible) {
            writer.unsigned_varint(1);
            writer.tagged_field(TAG_TOPIC_ID, |writer| {
                writer.uuid(topic.uuid());
                Ok(())
            })?;
        }
        Ok(())
    }

    fn read(value: Bytes) -> Result<OffsetValue, RecordError> {
        let mut reader = Reader::new(value);
        let version = known(&mut reader, "a committed offset", OFFSET_VERSION_MAX)?;
        let flexible = version >= FLEXIBLE_FROM;
        let offset = reader.i64()?;
        let leader_epoch = if version >= 3 { LeaderEpoch::new(reader.i32()?) } else { None };
        let metadata = reader.string(flexible)?.detached();
        let committed = Timestamp(reader.i64()?);
        let expires = if version == 1 { Some(reader.i64()?).filter(|time| *time >= 0) } else { None };
        let mut topic_id = None;
        if flexible {
            reader.tagged_fields(|reader, tag| {
                let is_known = tag == TAG_TOPIC_ID;
                if is_known {
                    topic_id = Some(TopicId::new(reader.uuid()?)).filter(|id| *id != TopicId::ZERO);
                }
                Ok(is_known)
            })?;
        }
        let expires = expires.map(Timestamp);
        Ok(OffsetValue { offset, leader_epoch, topic_id, metadata, committed, expires })
    }
}

impl GroupValue {
    fn bytes_max(&self) -> usize {
        let length = |text: &Option<Str>| text.as_ref().map_or(0, |text| text.len());
        let of_member = |member: &MemberValue| {
            let MemberValue { member_id, instance, client_id, client_host, subscription, assignment, .. } =
                member;
            let names = member_id.len() + length(instance) + client_id.len() + client_host.len();
            MEMBER_BYTES_EXTRA + names + subscription.len() + assignment.len()
        };
        let names = self.protocol_type.len() + length(&self.protocol) + length(&self.leader);
        names + self.members.iter().map(of_member).sum::<usize>()
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.i16(GROUP_VERSION);
        writer.string(false, &self.protocol_type)?;
        writer.i32(self.generation);
        writer.nullable_string(false, self.protocol.as_ref())?;
        writer.nullable_string(false, self.leader.as_ref())?;
        writer.i64(self.state_since);
        writer.array(false, &self.members, |writer, member| member.write(writer))
    }

    fn read(value: Bytes) -> Result<GroupValue, RecordError> {
        let mut reader = Reader::new(value);
        let version = known(&mut reader, "a group", GROUP_VERSION_MAX)?;
        let flexible = version >= FLEXIBLE_FROM;
        Ok(GroupValue {
            protocol_type: reader.string(flexible)?.detached(),
            generation: reader.i32()?,
            protocol: detached(reader.nullable_string(flexible)?),
            leader: detached(reader.nullable_string(flexible)?),
            state_since: if version >= 2 { reader.i64()? } else { -1 },
            members: reader.array(flexible, MEMBER_BYTES_MIN, |reader| MemberValue::read(reader, version))?,
        })
    }
}

impl MemberValue {
    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.string(false, &self.member_id)?;
        writer.nullable_string(false, self.instance.as_ref())?;
        writer.string(false, &self.client_id)?;
        writer.string(false, &self.client_host)?;
        writer.i32(self.rebalance_timeout_ms);
        writer.i32(self.session_timeout_ms);
        writer.bytes(false, &self.subscription)?;
        writer.bytes(false, &self.assignment)
    }

    fn read(reader: &mut Reader, version: i16) -> Result<MemberValue, DecodeError> {
        let flexible = version >= FLEXIBLE_FROM;
        let member_id = reader.string(flexible)?.detached();
        let instance = if version >= 3 { detached(reader.nullable_string(flexible)?) } else { None };
        let client_id = reader.string(flexible)?.detached();
        let client_host = reader.string(flexible)?.detached();
        let rebalance_timeout_ms = if version >= 1 { Some(reader.i32()?) } else { None };
        let session_timeout_ms = reader.i32()?;
        let member = MemberValue {
            member_id,
            instance,
            client_id,
            client_host,
            rebalance_timeout_ms: rebalance_timeout_ms.unwrap_or(session_timeout_ms),
            session_timeout_ms,
            subscription: Bytes::copy_from_slice(&reader.bytes(flexible)?),
            assignment: Bytes::copy_from_slice(&reader.bytes(flexible)?),
        };
        if flexible {
            reader.skip_tagged_fields()?;
        }
        Ok(member)
    }
}

fn known(reader: &mut Reader, what: &'static str, max: i16) -> Result<i16, RecordError> {
    let version = reader.i16()?;
    if (0..=max).contains(&version) { Ok(version) } else { Err(RecordError::Version { what, version }) }
}

/// Of a batch's buffer, which may be far larger, nothing must be kept.
fn detached(text: Option<Str>) -> Option<Str> {
    text.map(|text| text.detached())
}

#[cfg(test)]
mod tests;
