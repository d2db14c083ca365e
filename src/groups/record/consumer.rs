//! What is stored of a group whose coordinator assigns (KIP-848): kinds 3 to 8 and 16, each in the one layout that Kafka has.
//!
//! What a group is, is spread over many records, so that a change writes what changed and no more: one for its epoch, one for the
//! epoch of its target assignment, one for each regular expression, and three for each member. Kind 4 is an old broker's, which
//! stored what it knew of the topics; Kafka since 4.1 takes it back when it meets it, and so does Aquifer.

use aquifer_model::TopicId;
use aquifer_protocol::{DecodeError, EncodeError, Reader, Str, Writer};
use bytes::Bytes;

use super::super::grants::Grants;
use super::super::partitions::Partitions;
use super::{RecordError, detached, known};

const KIND_GROUP: i16 = 3;
const KIND_TOPICS: i16 = 4;
const KIND_MEMBER: i16 = 5;
const KIND_TARGET_EPOCH: i16 = 6;
const KIND_TARGET: i16 = 7;
const KIND_CURRENT: i16 = 8;
const KIND_PATTERN: i16 = 16;

/// All of these values have one layout so far, with tagged fields.
const VERSION: i16 = 0;
const FLEXIBLE: bool = true;
/// The tagged field of a group's value that says what it knows of its topics.
const TAG_METADATA_HASH: u32 = 0;
/// The tagged field of a member's value that one has that speaks the classic protocol; it may be null.
const TAG_CLASSIC: u32 = 0;
/// The fewest bytes of a classic protocol: no name, no metadata, no tagged fields.
const PROTOCOL_BYTES_MIN: usize = 3;
/// The tagged field of a topic in what a member was given that says when (KIP-1251): an epoch for each partition.
const TAG_GRANT_EPOCHS: u32 = 0;
/// The fewest bytes of a topic in a set of partitions: its id, no partitions, no tagged fields.
const TOPIC_BYTES_MIN: usize = 18;
/// More than a topic takes in a set of partitions besides these, and than a partition takes.
const TOPIC_BYTES_MAX: usize = 24;
const PARTITION_BYTES: usize = 4;
/// More than the epochs of a topic's grants take besides themselves: a tag, a length in bytes, a count.
const GRANT_BYTES_EXTRA: usize = 12;
/// More than the lengths before a string take.
const STRING_BYTES_EXTRA: usize = 5;
/// More than what only a classic member has takes besides its protocols: a tag, lengths, a session.
const CLASSIC_BYTES_EXTRA: usize = 24;

/// One record of a group whose coordinator assigns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConsumerRecord {
    pub(crate) group: Str,
    pub(crate) said: Said,
}

/// What it says; a value that is `None` takes back what was said under the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    Group(Option<GroupEpoch>),
    /// Whether there is a record of what an old broker knew of the topics.
    Topics(bool),
    Member {
        member: Str,
        value: Option<Profile>,
    },
    /// The group's epoch at which the target assignment was made.
    TargetEpoch(Option<i32>),
    Target {
        member: Str,
        value: Option<Partitions>,
    },
    Current {
        member: Str,
        value: Option<Current>,
    },
    Pattern {
        pattern: Str,
        value: Option<Matching>,
    },
}

/// Where a group is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct GroupEpoch {
    /// Rises whenever members, what they subscribe to, or its topics change.
    pub(crate) epoch: i32,
    /// Of the topics that it reads; another one is a reason to assign anew.
    pub(crate) metadata_hash: i64,
}

/// What a member says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Profile {
    pub(crate) instance: Option<Str>,
    pub(crate) rack: Option<Str>,
    pub(crate) client_id: Str,
    pub(crate) client_host: Str,
    /// The topics that it subscribes to by name, in order.
    pub(crate) topics: Vec<Str>,
    /// The regular expression that it subscribes to; none, or an empty one, if it does not.
    pub(crate) pattern: Option<Str>,
    /// How long it may take to give partitions back.
    pub(crate) rebalance_timeout_ms: i32,
    /// Its vote for an assignor.
    pub(crate) assignor: Option<Str>,
    /// If it speaks the classic protocol: what only that asks for.
    pub(crate) classic: Option<Classic>,
}

/// What a member said when it joined by the classic protocol, and is held to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Classic {
    pub(crate) session_timeout_ms: i32,
    /// What it can do, best first, each with its words for a leader.
    pub(crate) protocols: Vec<(Str, Bytes)>,
}

/// Where a member is on its way to what it shall read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Current {
    pub(crate) epoch: i32,
    /// The one before, which a member still knows that was not reached by the answer.
    pub(crate) previous_epoch: i32,
    pub(crate) state: MemberState,
    pub(crate) assigned: Grants,
    /// What it must stop to read before anybody else may begin.
    pub(crate) revoking: Grants,
}

/// Kafka's words, and its numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum MemberState {
    /// It has all that is its own at its epoch.
    #[default]
    Stable = 0,
    /// It has yet to give something back.
    Unrevoked = 1,
    /// It waits for what others have yet to give back.
    Unreleased = 2,
}

/// Topics that a regular expression matched.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Matching {
    /// In order.
    pub(crate) topics: Vec<Str>,
    /// In milliseconds since 1970.
    pub(crate) resolved: i64,
}

impl Said {
    /// Whether it says that something is no more.
    pub(crate) fn takes_back(&self) -> bool {
        match self {
            Said::Group(value) => value.is_none(),
            Said::Topics(is_there) => !is_there,
            Said::Member { value, .. } => value.is_none(),
            Said::TargetEpoch(value) => value.is_none(),
            Said::Target { value, .. } => value.is_none(),
            Said::Current { value, .. } => value.is_none(),
            Said::Pattern { value, .. } => value.is_none(),
        }
    }
}

impl ConsumerRecord {
    pub(super) fn key(&self) -> Result<Bytes, EncodeError> {
        let mut writer = Writer::bare();
        let (kind, more) = match &self.said {
            Said::Group(_) => (KIND_GROUP, None),
            Said::Topics(_) => (KIND_TOPICS, None),
            Said::Member { member, .. } => (KIND_MEMBER, Some(member)),
            Said::TargetEpoch(_) => (KIND_TARGET_EPOCH, None),
            Said::Target { member, .. } => (KIND_TARGET, Some(member)),
            Said::Current { member, .. } => (KIND_CURRENT, Some(member)),
            Said::Pattern { pattern, .. } => (KIND_PATTERN, Some(pattern)),
        };
        writer.i16(kind);
        writer.string(false, &self.group)?;
        if let Some(more) = more {
            writer.string(false, more)?;
        }
        Ok(writer.finish()?.into_bytes())
    }

    pub(super) fn value(&self) -> Result<Option<Bytes>, EncodeError> {
        let mut writer = Writer::bare();
        writer.i16(VERSION);
        match &self.said {
            Said::Group(None)
            | Said::Topics(false)
            | Said::Member { value: None, .. }
            | Said::TargetEpoch(None)
            | Said::Target { value: None, .. }
            | Said::Current { value: None, .. }
            | Said::Pattern { value: None, .. } => return Ok(None),
            Said::Group(Some(value)) => {
                writer.i32(value.epoch);
                if value.metadata_hash != 0 {
                    writer.unsigned_varint(1);
                    writer.tagged_field(TAG_METADATA_HASH, |writer| {
                        writer.i64(value.metadata_hash);
                        Ok(())
                    })?;
                    return Ok(Some(writer.finish()?.into_bytes()));
                }
            }
            Said::Topics(true) => writer.array(FLEXIBLE, &[(); 0], |_, ()| Ok(()))?,
            Said::Member { value: Some(value), .. } => {
                value.write(&mut writer)?;
                if let Some(classic) = &value.classic {
                    writer.unsigned_varint(1);
                    writer.tagged_field(TAG_CLASSIC, |writer| {
                        writer.nullable_struct(Some(classic), |writer, classic| classic.write(writer))
                    })?;
                    return Ok(Some(writer.finish()?.into_bytes()));
                }
            }
            Said::TargetEpoch(Some(epoch)) => writer.i32(*epoch),
            Said::Target { value: Some(value), .. } => write_partitions(&mut writer, value)?,
            Said::Current { value: Some(value), .. } => {
                writer.i32(value.epoch);
                writer.i32(value.previous_epoch);
                writer.i8(value.state as i8);
                write_grants(&mut writer, &value.assigned)?;
                write_grants(&mut writer, &value.revoking)?;
            }
            Said::Pattern { value: Some(value), .. } => {
                writer.array(FLEXIBLE, &value.topics, |writer, topic| writer.string(FLEXIBLE, topic))?;
                // By which Kafka knows how new the topics are that it looked at; of none of its own.
                writer.i64(0);
                writer.i64(value.resolved);
            }
        }
        // No tagged fields.
        writer.unsigned_varint(0);
        Ok(Some(writer.finish()?.into_bytes()))
    }

    /// The most bytes of its strings and sets.
    pub(super) fn bytes_max(&self) -> usize {
        let said = match &self.said {
            Said::Group(_) | Said::Topics(_) | Said::TargetEpoch(_) => 0,
            Said::Member { member, value } => member.len() + value.as_ref().map_or(0, Profile::bytes_max),
            Said::Target { member, value } => member.len() + value.as_ref().map_or(0, partitions_bytes_max),
            Said::Current { member, value } => {
                let of =
                    |value: &Current| grants_bytes_max(&value.assigned) + grants_bytes_max(&value.revoking);
                member.len() + value.as_ref().map_or(0, of)
            }
            Said::Pattern { pattern, value } => {
                let of = |value: &Matching| strings_bytes_max(&value.topics);
                pattern.len() + value.as_ref().map_or(0, of)
            }
        };
        self.group.len() + said
    }

    /// Reads a record whose key begins with `kind`; `None` if that is none of these.
    pub(super) fn parse(
        kind: i16,
        key: &mut Reader,
        value: Option<Bytes>,
    ) -> Result<Option<ConsumerRecord>, RecordError> {
        if !(KIND_GROUP..=KIND_CURRENT).contains(&kind) && kind != KIND_PATTERN {
            return Ok(None);
        }
        let group = key.string(false)?.detached();
        let mut more = || Ok::<Str, DecodeError>(key.string(false)?.detached());
        let said = match kind {
            KIND_GROUP => Said::Group(read(value, "a group's epoch", GroupEpoch::read)?),
            KIND_TOPICS => Said::Topics(value.is_some()),
            KIND_MEMBER => Said::Member { member: more()?, value: read(value, "a member", Profile::read)? },
            KIND_TARGET_EPOCH => {
                let epoch = |reader: &mut Reader| reader.i32().map_err(RecordError::from);
                Said::TargetEpoch(read(value, "a target assignment's epoch", epoch)?)
            }
            KIND_TARGET => {
                let partitions = |reader: &mut Reader| read_partitions(reader).map_err(RecordError::from);
                Said::Target { member: more()?, value: read(value, "a target assignment", partitions)? }
            }
            KIND_CURRENT => {
                Said::Current { member: more()?, value: read(value, "an assignment", Current::read)? }
            }
            _ => Said::Pattern {
                pattern: more()?,
                value: read(value, "a regular expression's topics", Matching::read)?,
            },
        };
        Ok(Some(ConsumerRecord { group, said }))
    }
}

fn read<T>(
    value: Option<Bytes>,
    what: &'static str,
    read: impl FnOnce(&mut Reader) -> Result<T, RecordError>,
) -> Result<Option<T>, RecordError> {
    let Some(value) = value else { return Ok(None) };
    let mut reader = Reader::new(value);
    known(&mut reader, what, VERSION)?;
    read(&mut reader).map(Some)
}

impl GroupEpoch {
    fn read(reader: &mut Reader) -> Result<GroupEpoch, RecordError> {
        let mut value = GroupEpoch { epoch: reader.i32()?, metadata_hash: 0 };
        reader.tagged_fields(|reader, tag| {
            let is_known = tag == TAG_METADATA_HASH;
            if is_known {
                value.metadata_hash = reader.i64()?;
            }
            Ok(is_known)
        })?;
        Ok(value)
    }
}

impl Profile {
    /// The most bytes that it takes.
    pub(crate) fn bytes_max(&self) -> usize {
        let Profile { instance, rack, client_id, client_host, topics, pattern, assignor, classic, .. } = self;
        let nullable = [instance, rack, pattern, assignor];
        let named = nullable.into_iter().flatten().chain([client_id, client_host]);
        let named = named.map(|text| text.len() + STRING_BYTES_EXTRA).sum::<usize>();
        named + strings_bytes_max(topics) + classic.as_ref().map_or(0, Classic::bytes_max)
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.nullable_string(FLEXIBLE, self.instance.as_ref())?;
        writer.nullable_string(FLEXIBLE, self.rack.as_ref())?;
        writer.string(FLEXIBLE, &self.client_id)?;
        writer.string(FLEXIBLE, &self.client_host)?;
        writer.array(FLEXIBLE, &self.topics, |writer, topic| writer.string(FLEXIBLE, topic))?;
        writer.nullable_string(FLEXIBLE, self.pattern.as_ref())?;
        writer.i32(self.rebalance_timeout_ms);
        writer.nullable_string(FLEXIBLE, self.assignor.as_ref())
    }

    fn read(reader: &mut Reader) -> Result<Profile, RecordError> {
        let mut profile = Profile {
            instance: detached(reader.nullable_string(FLEXIBLE)?),
            rack: detached(reader.nullable_string(FLEXIBLE)?),
            client_id: reader.string(FLEXIBLE)?.detached(),
            client_host: reader.string(FLEXIBLE)?.detached(),
            topics: read_strings(reader)?,
            pattern: detached(reader.nullable_string(FLEXIBLE)?),
            rebalance_timeout_ms: reader.i32()?,
            assignor: detached(reader.nullable_string(FLEXIBLE)?),
            classic: None,
        };
        reader.tagged_fields(|reader, tag| {
            let is_known = tag == TAG_CLASSIC;
            if is_known {
                profile.classic = reader.nullable_struct(Classic::read)?;
            }
            Ok(is_known)
        })?;
        Ok(profile)
    }
}

impl Classic {
    fn bytes_max(&self) -> usize {
        let of = |(name, metadata): &(Str, Bytes)| name.len() + metadata.len() + 3 * STRING_BYTES_EXTRA;
        CLASSIC_BYTES_EXTRA + self.protocols.iter().map(of).sum::<usize>()
    }

    fn write(&self, writer: &mut Writer) -> Result<(), EncodeError> {
        writer.i32(self.session_timeout_ms);
        writer.array(FLEXIBLE, &self.protocols, |writer, (name, metadata)| {
            writer.string(FLEXIBLE, name)?;
            writer.bytes(FLEXIBLE, metadata)?;
            writer.unsigned_varint(0);
            Ok(())
        })?;
        writer.unsigned_varint(0);
        Ok(())
    }

    fn read(reader: &mut Reader) -> Result<Classic, DecodeError> {
        let session_timeout_ms = reader.i32()?;
        let protocols = reader.array(FLEXIBLE, PROTOCOL_BYTES_MIN, |reader| {
            let name = reader.string(FLEXIBLE)?.detached();
            let metadata = Bytes::copy_from_slice(&reader.bytes(FLEXIBLE)?);
            reader.skip_tagged_fields()?;
            Ok((name, metadata))
        })?;
        reader.skip_tagged_fields()?;
        Ok(Classic { session_timeout_ms, protocols })
    }
}

impl Current {
    fn read(reader: &mut Reader) -> Result<Current, RecordError> {
        let (epoch, previous_epoch) = (reader.i32()?, reader.i32()?);
        let state = match reader.i8()? {
            0 => MemberState::Stable,
            1 => MemberState::Unrevoked,
            2 => MemberState::Unreleased,
            // To go on without it could be to give what it reads to another.
            newer => {
                return Err(RecordError::Version { what: "a member's state", version: i16::from(newer) });
            }
        };
        let (assigned, revoking) = (read_grants(reader, epoch)?, read_grants(reader, epoch)?);
        Ok(Current { epoch, previous_epoch, state, assigned, revoking })
    }
}

impl Matching {
    fn read(reader: &mut Reader) -> Result<Matching, RecordError> {
        let topics = read_strings(reader)?;
        let _version = reader.i64()?;
        Ok(Matching { topics, resolved: reader.i64()? })
    }
}

fn write_partitions(writer: &mut Writer, partitions: &Partitions) -> Result<(), EncodeError> {
    let topics: Vec<(TopicId, Vec<i32>)> =
        partitions.topics().map(|(topic, indexes)| (topic, indexes.iter().copied().collect())).collect();
    writer.array(FLEXIBLE, &topics, |writer, (topic, indexes)| {
        writer.uuid(topic.uuid());
        writer.array(FLEXIBLE, indexes, |writer, index| {
            writer.i32(*index);
            Ok(())
        })?;
        writer.unsigned_varint(0);
        Ok(())
    })
}

fn read_partitions(reader: &mut Reader) -> Result<Partitions, DecodeError> {
    let topics = reader.array(FLEXIBLE, TOPIC_BYTES_MIN, |reader| {
        let topic = TopicId::new(reader.uuid()?);
        let indexes = reader.array(FLEXIBLE, PARTITION_BYTES, Reader::i32)?;
        reader.skip_tagged_fields()?;
        Ok((topic, indexes))
    })?;
    let all =
        topics.into_iter().flat_map(|(topic, indexes)| indexes.into_iter().map(move |index| (topic, index)));
    Ok(all.collect())
}

fn write_grants(writer: &mut Writer, grants: &Grants) -> Result<(), EncodeError> {
    let topics: Vec<_> = grants.topics().collect();
    writer.array(FLEXIBLE, &topics, |writer, (topic, indexes)| {
        let (indexes, epochs): (Vec<i32>, Vec<i32>) = indexes.iter().unzip();
        let number = |writer: &mut Writer, number: &i32| {
            writer.i32(*number);
            Ok(())
        };
        writer.uuid(topic.uuid());
        writer.array(FLEXIBLE, &indexes, number)?;
        writer.unsigned_varint(1);
        writer.tagged_field(TAG_GRANT_EPOCHS, |writer| writer.array(FLEXIBLE, &epochs, number))
    })
}

/// A broker before Kafka 4.3 does not say when it gave a partition: at the latest when the member reached the epoch that it has. One
/// that is away has none.
fn read_grants(reader: &mut Reader, epoch: i32) -> Result<Grants, DecodeError> {
    let mut grants = Grants::default();
    reader.array(FLEXIBLE, TOPIC_BYTES_MIN, |reader| {
        let topic = TopicId::new(reader.uuid()?);
        let indexes = reader.array(FLEXIBLE, PARTITION_BYTES, Reader::i32)?;
        let mut epochs = None;
        reader.tagged_fields(|reader, tag| {
            let is_known = tag == TAG_GRANT_EPOCHS;
            if is_known {
                epochs = reader.nullable_array(FLEXIBLE, PARTITION_BYTES, Reader::i32)?;
            }
            Ok(is_known)
        })?;
        let epochs = epochs.filter(|epochs| epochs.len() == indexes.len());
        for (at, index) in indexes.into_iter().enumerate() {
            let given = epochs.as_ref().map_or(epoch.max(0), |epochs| epochs[at]);
            grants.insert(topic, index, given);
        }
        Ok(())
    })?;
    Ok(grants)
}

fn grants_bytes_max(grants: &Grants) -> usize {
    let of = |indexes: usize| TOPIC_BYTES_MAX + GRANT_BYTES_EXTRA + 2 * indexes * PARTITION_BYTES;
    grants.topics().map(|(_, indexes)| of(indexes.len())).sum()
}

fn partitions_bytes_max(partitions: &Partitions) -> usize {
    let topics = partitions.topics();
    topics.map(|(_, indexes)| TOPIC_BYTES_MAX + indexes.len() * PARTITION_BYTES).sum()
}

fn read_strings(reader: &mut Reader) -> Result<Vec<Str>, DecodeError> {
    reader.array(FLEXIBLE, 1, |reader| Ok(reader.string(FLEXIBLE)?.detached()))
}

fn strings_bytes_max(strings: &[Str]) -> usize {
    strings.iter().map(|text| text.len() + STRING_BYTES_EXTRA).sum()
}

#[cfg(test)]
mod tests;
