//! What commands and images have in common.

use std::collections::BTreeMap;

use aquifer_model::format::{FormatError, Reader, Tags, Writer};
use aquifer_model::{BrokerId, LeaderEpoch, PartitionIndex, Timestamp, TopicId, TopicName, TopicPartition};

use crate::metadata::ids::{
    BrokerEpoch, BrokerIncarnation, ClusterId, DirectoryId, Incarnation, PartitionEpoch, RaftNodeId,
};
use crate::metadata::image::{Endpoint, QuotaEntity, QuotaName, Recovery, SecurityProtocol};

/// What quotas are for, as stored.
const USER: u8 = 1;
const USER_AND_CLIENT: u8 = 2;
const CLIENT_ID: u8 = 3;
const IP: u8 = 4;

/// Reads one format: a [`Reader`] that knows the nouns of metadata.
pub(super) struct Source<'a> {
    pub(super) reader: Reader<'a>,
    pub(super) format: &'static str,
}

impl<'a> Source<'a> {
    pub(super) fn invalid(&self, what: &'static str) -> FormatError {
        FormatError::Invalid { format: self.format, what }
    }

    pub(super) fn list<T>(
        &mut self,
        item_bytes_min: usize,
        mut read: impl FnMut(&mut Source<'a>) -> Result<T, FormatError>,
    ) -> Result<Vec<T>, FormatError> {
        let format = self.format;
        self.reader.list(item_bytes_min, |reader| {
            let mut source = Source { reader: reader.clone(), format };
            let item = read(&mut source)?;
            *reader = source.reader;
            Ok(item)
        })
    }

    pub(super) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Source<'a>) -> Result<T, FormatError>,
    ) -> Result<Option<T>, FormatError> {
        match self.reader.u8()? {
            0 => Ok(None),
            1 => read(self).map(Some),
            _ => Err(self.invalid("an option is neither 0 nor 1")),
        }
    }

    pub(super) fn text(&mut self) -> Result<String, FormatError> {
        self.reader.string().map(str::to_owned)
    }

    /// A text-keyed map; keys must rise, so that equal maps have equal bytes.
    pub(super) fn map<T>(
        &mut self,
        mut read: impl FnMut(&mut Source<'a>) -> Result<T, FormatError>,
    ) -> Result<BTreeMap<String, T>, FormatError> {
        let entries = self.list(2, |source| Ok((source.text()?, read(source)?)))?;
        self.rising(entries)
    }

    /// A map of entries whose keys must rise.
    pub(super) fn rising<K: Ord, V>(&self, entries: Vec<(K, V)>) -> Result<BTreeMap<K, V>, FormatError> {
        if !entries.windows(2).all(|pair| pair[0].0 < pair[1].0) {
            return Err(self.invalid("the keys of a map do not rise"));
        }
        Ok(entries.into_iter().collect())
    }

    /// A number that can be compared, by its bits.
    pub(super) fn number(&mut self) -> Result<f64, FormatError> {
        let number = f64::from_bits(self.reader.u64()?);
        if number.is_finite() { Ok(number) } else { Err(self.invalid("a number is none")) }
    }

    pub(super) fn quota_entity(&mut self) -> Result<QuotaEntity, FormatError> {
        Ok(match self.reader.u8()? {
            USER => QuotaEntity::User(self.quota_name()?),
            USER_AND_CLIENT => {
                QuotaEntity::UserAndClient { user: self.quota_name()?, client_id: self.quota_name()? }
            }
            CLIENT_ID => QuotaEntity::ClientId(self.quota_name()?),
            IP => QuotaEntity::Ip(self.quota_name()?),
            _ => return Err(self.invalid("a quota's entity is unknown")),
        })
    }

    fn quota_name(&mut self) -> Result<QuotaName, FormatError> {
        Ok(self.option(Source::text)?.map_or(QuotaName::Default, QuotaName::Named))
    }

    pub(super) fn tags(&mut self) -> Result<Tags, FormatError> {
        self.reader.tags(&[])
    }

    pub(super) fn broker(&mut self) -> Result<BrokerId, FormatError> {
        self.reader.i32().map(BrokerId)
    }

    pub(super) fn brokers(&mut self) -> Result<Vec<BrokerId>, FormatError> {
        self.list(4, Source::broker)
    }

    pub(super) fn broker_epoch(&mut self) -> Result<BrokerEpoch, FormatError> {
        self.reader.i64().map(BrokerEpoch)
    }

    pub(super) fn incarnation(&mut self) -> Result<Incarnation, FormatError> {
        self.reader.u64().map(Incarnation)
    }

    pub(super) fn broker_incarnation(&mut self) -> Result<BrokerIncarnation, FormatError> {
        self.reader.uuid().map(BrokerIncarnation)
    }

    pub(super) fn directories(&mut self) -> Result<Vec<DirectoryId>, FormatError> {
        self.list(16, |source| source.reader.uuid().map(DirectoryId))
    }

    pub(super) fn cluster_id(&mut self) -> Result<ClusterId, FormatError> {
        self.reader.uuid().map(ClusterId::new)
    }

    pub(super) fn node(&mut self) -> Result<RaftNodeId, FormatError> {
        self.reader.u64().map(RaftNodeId)
    }

    pub(super) fn leader_epoch(&mut self) -> Result<LeaderEpoch, FormatError> {
        let epoch = self.reader.i32()?;
        LeaderEpoch::new(epoch).ok_or(self.invalid("a leader epoch is negative"))
    }

    pub(super) fn partition_epoch(&mut self) -> Result<PartitionEpoch, FormatError> {
        self.reader.i32().map(PartitionEpoch)
    }

    pub(super) fn topic(&mut self) -> Result<TopicId, FormatError> {
        self.reader.uuid().map(TopicId::new)
    }

    pub(super) fn topic_name(&mut self) -> Result<TopicName, FormatError> {
        let name = self.reader.string()?;
        TopicName::new(name).map_err(|_| self.invalid("a topic's name is not allowed"))
    }

    pub(super) fn topic_partition(&mut self) -> Result<TopicPartition, FormatError> {
        let topic = self.topic()?;
        Ok(TopicPartition { topic, partition: PartitionIndex(self.reader.i32()?) })
    }

    pub(super) fn time(&mut self) -> Result<Timestamp, FormatError> {
        self.reader.i64().map(Timestamp)
    }

    pub(super) fn recovery(&mut self) -> Result<Recovery, FormatError> {
        match self.reader.u8()? {
            0 => Ok(Recovery::Recovered),
            1 => Ok(Recovery::Recovering),
            _ => Err(self.invalid("a recovery state is unknown")),
        }
    }

    pub(super) fn endpoints(&mut self) -> Result<Vec<Endpoint>, FormatError> {
        self.list(5, |source| {
            let (listener, host) = (source.text()?, source.text()?);
            let port = source.reader.i16()?.cast_unsigned();
            let security = match source.reader.u8()? {
                0 => SecurityProtocol::Plaintext,
                1 => SecurityProtocol::Ssl,
                2 => SecurityProtocol::SaslPlaintext,
                3 => SecurityProtocol::SaslSsl,
                _ => return Err(source.invalid("a security protocol is unknown")),
            };
            Ok(Endpoint { listener, host, port, security })
        })
    }
}

pub(super) fn write_map<T>(
    writer: &mut Writer,
    map: &BTreeMap<String, T>,
    mut write: impl FnMut(&mut Writer, &T),
) {
    writer.varint(map.len() as u64);
    for (key, value) in map {
        writer.string(key);
        write(writer, value);
    }
}

pub(super) fn write_brokers(writer: &mut Writer, brokers: &[BrokerId]) {
    writer.list(brokers, |writer, broker| writer.i32(broker.0));
}

pub(super) fn write_topic(writer: &mut Writer, topic: TopicId) {
    writer.uuid(topic.uuid());
}

pub(super) fn write_topic_partition(writer: &mut Writer, partition: TopicPartition) {
    write_topic(writer, partition.topic);
    writer.i32(partition.partition.0);
}

pub(super) fn write_recovery(writer: &mut Writer, recovery: Recovery) {
    writer.u8(match recovery {
        Recovery::Recovered => 0,
        Recovery::Recovering => 1,
    });
}

pub(super) fn write_directories(writer: &mut Writer, directories: &[DirectoryId]) {
    writer.list(directories, |writer, directory| writer.uuid(directory.0));
}

pub(super) fn write_endpoints(writer: &mut Writer, endpoints: &[Endpoint]) {
    writer.list(endpoints, |writer, endpoint| {
        writer.string(&endpoint.listener);
        writer.string(&endpoint.host);
        writer.i16(endpoint.port.cast_signed());
        writer.u8(match endpoint.security {
            SecurityProtocol::Plaintext => 0,
            SecurityProtocol::Ssl => 1,
            SecurityProtocol::SaslPlaintext => 2,
            SecurityProtocol::SaslSsl => 3,
        });
    });
}

pub(super) fn write_quota_entity(writer: &mut Writer, entity: &QuotaEntity) {
    writer.u8(match entity {
        QuotaEntity::User(_) => USER,
        QuotaEntity::UserAndClient { .. } => USER_AND_CLIENT,
        QuotaEntity::ClientId(_) => CLIENT_ID,
        QuotaEntity::Ip(_) => IP,
    });
    for name in entity.names() {
        let named = match name {
            QuotaName::Default => None,
            QuotaName::Named(name) => Some(name.as_str()),
        };
        writer.option(named, Writer::string);
    }
}
