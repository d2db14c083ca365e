//! Images as bytes: the body of a snapshot.
//!
//! It has no envelope of its own: the snapshot's (`AQMS`, in `raft::codec`) gives it version and checksum. Each part that may grow ends with tagged fields, which are kept when unknown and optional. Maps are
//! in order of key, so equal images have equal bytes. What is read is checked against the image's invariants: bytes with a good
//! checksum may still come from a program with a bug, and an image that is wrong must not be built upon.

use std::sync::Arc;

use aquifer_model::format::{FormatError, Reader, Tags, Writer};

use super::parts::{
    Source, write_brokers, write_directories, write_endpoints, write_map, write_quota_entity, write_recovery,
    write_topic,
};
use crate::metadata::image::{
    Broker, BrokerState, ClientQuotas, Cluster, DeletedTopic, GroupConfigs, Image, Partition, Topic,
};

const FORMAT: &str = "metadata image";
/// Required: client quotas, where there are any. A program that does not know them would not hold anyone to them.
const TAG_CLIENT_QUOTAS: u32 = 0;
/// Required: settings of groups, where there are any. A program that does not know them would not keep to them.
const TAG_GROUP_CONFIGS: u32 = 1;

/// An image as bytes.
pub(in crate::metadata) fn write(writer: &mut Writer, image: &Image) {
    writer.option(image.cluster, |writer, cluster| {
        writer.uuid(cluster.id.uuid());
        writer.u64(cluster.incarnation.0);
    });
    write_map(writer, &image.features, |writer, level| writer.i16(*level));
    writer.i64(image.broker_epoch_next);
    writer.i64(image.producer_id_next);
    writer.varint(image.brokers.len() as u64);
    for broker in image.brokers() {
        write_broker(writer, broker);
    }
    writer.varint(image.broker_configs.len() as u64);
    for (broker, configs) in image.broker_configs.iter() {
        writer.option(*broker, |writer, broker| writer.i32(broker.0));
        write_map(writer, configs, |writer, value| writer.string(value));
    }
    writer.varint(image.topic_count() as u64);
    for topic in image.topics() {
        write_whole_topic(writer, topic);
    }
    writer.varint(image.deleted.len() as u64);
    for deleted in image.deleted_topics() {
        write_deleted(writer, deleted);
    }
    writer.tags(&tags(image));
}

fn write_broker(writer: &mut Writer, broker: &Broker) {
    let Broker { id, epoch, incarnation, node, endpoints, rack, directories, state, registered, unknown } =
        broker;
    writer.i32(id.0);
    writer.i64(epoch.0);
    writer.uuid(incarnation.0);
    writer.u64(node.0);
    write_endpoints(writer, endpoints);
    writer.option(rack.as_deref(), Writer::string);
    write_directories(writer, directories);
    writer.u8(match state {
        BrokerState::Fenced => 0,
        BrokerState::Active => 1,
    });
    writer.i64(registered.millis());
    writer.tags(unknown);
}

fn write_whole_topic(writer: &mut Writer, topic: &Topic) {
    let Topic { id, name, revision, partitions, configs, unknown } = topic;
    write_topic(writer, *id);
    writer.string(name);
    writer.u64(*revision);
    write_map(writer, configs, |writer, value| writer.string(value));
    writer.list(partitions, |writer, partition| {
        let Partition { replicas, isr, leader, leader_epoch, epoch, recovery, unknown } = &**partition;
        write_brokers(writer, replicas);
        write_brokers(writer, isr);
        writer.option(*leader, |writer, leader| writer.i32(leader.0));
        writer.i32(leader_epoch.get());
        writer.i32(epoch.0);
        write_recovery(writer, *recovery);
        writer.tags(unknown);
    });
    writer.tags(unknown);
}

fn write_deleted(writer: &mut Writer, deleted: &DeletedTopic) {
    let DeletedTopic { id, name, revision, claims, time, unknown } = deleted;
    write_topic(writer, *id);
    writer.string(name);
    writer.u64(*revision);
    writer.list(claims, |writer, epoch| writer.i32(epoch.get()));
    writer.i64(time.millis());
    writer.tags(unknown);
}

/// Reads what [`write`] wrote; `body` holds nothing else.
pub(in crate::metadata) fn read(body: &[u8]) -> Result<Image, FormatError> {
    let mut source = Source { reader: Reader::new(FORMAT, body), format: FORMAT };
    let mut image = Image {
        cluster: source
            .option(|source| Ok(Cluster { id: source.cluster_id()?, incarnation: source.incarnation()? }))?,
        features: Arc::new(source.map(|source| source.reader.i16())?),
        broker_epoch_next: source.reader.i64()?,
        producer_id_next: source.reader.i64()?,
        brokers: {
            let brokers = source.list(4 + 8 + 16 + 8 + 5, read_broker)?;
            let brokers = brokers.into_iter().map(|broker| (broker.id, Arc::new(broker)));
            Arc::new(source.rising(brokers.collect())?)
        },
        broker_configs: {
            let configs =
                source.list(2, |source| Ok((source.option(Source::broker)?, source.map(Source::text)?)))?;
            Arc::new(source.rising(configs)?)
        },
        ..Image::default()
    };
    for topic in source.list(27, read_topic)? {
        if !image.insert_topic(Arc::new(topic)) {
            return Err(source.invalid("a topic's id or name is there twice"));
        }
    }
    for deleted in source.list(35, read_deleted)? {
        if image.deleted.insert(deleted.id, Arc::new(deleted)).is_some() {
            return Err(source.invalid("a deleted topic is there twice"));
        }
    }
    image.unknown = source.reader.tags(&[TAG_CLIENT_QUOTAS, TAG_GROUP_CONFIGS])?;
    source.reader.end()?;
    if let Some(bytes) = image.unknown.take(TAG_CLIENT_QUOTAS) {
        image.client_quotas = Arc::new(read_client_quotas(&bytes)?);
    }
    if let Some(bytes) = image.unknown.take(TAG_GROUP_CONFIGS) {
        image.group_configs = Arc::new(read_group_configs(&bytes)?);
    }
    if let Some(flaw) = image.flaw() {
        tracing::error!(flaw, "a metadata image breaks its own rules");
        return Err(source.invalid("it breaks the rules of an image; the log says which"));
    }
    Ok(image)
}

/// Fields that came later than the rest, beside those that are not known here.
fn tags(image: &Image) -> Tags {
    let mut tags = image.unknown.clone();
    if !image.client_quotas.is_empty() {
        let mut writer = Writer::new();
        writer.varint(image.client_quotas.len() as u64);
        for (entity, values) in image.client_quotas.iter() {
            write_quota_entity(&mut writer, entity);
            write_map(&mut writer, values, |writer, value| writer.u64(value.to_bits()));
        }
        tags.set_required(TAG_CLIENT_QUOTAS, writer.finish().into());
    }
    if !image.group_configs.is_empty() {
        let mut writer = Writer::new();
        write_map(&mut writer, &image.group_configs, |writer, configs| {
            write_map(writer, configs, |writer, value| writer.string(value));
        });
        tags.set_required(TAG_GROUP_CONFIGS, writer.finish().into());
    }
    tags
}

fn read_client_quotas(bytes: &[u8]) -> Result<ClientQuotas, FormatError> {
    let mut source = Source { reader: Reader::new(FORMAT, bytes), format: FORMAT };
    let entries = source.list(3, |source| Ok((source.quota_entity()?, source.map(Source::number)?)))?;
    source.reader.end()?;
    source.rising(entries)
}

fn read_group_configs(bytes: &[u8]) -> Result<GroupConfigs, FormatError> {
    let mut source = Source { reader: Reader::new(FORMAT, bytes), format: FORMAT };
    let configs = source.map(|source| source.map(Source::text))?;
    source.reader.end()?;
    Ok(configs)
}

fn read_broker(source: &mut Source<'_>) -> Result<Broker, FormatError> {
    Ok(Broker {
        id: source.broker()?,
        epoch: source.broker_epoch()?,
        incarnation: source.broker_incarnation()?,
        node: source.node()?,
        endpoints: source.endpoints()?,
        rack: source.option(Source::text)?,
        directories: source.directories()?,
        state: match source.reader.u8()? {
            0 => BrokerState::Fenced,
            1 => BrokerState::Active,
            _ => return Err(source.invalid("a broker's state is unknown")),
        },
        registered: source.time()?,
        unknown: source.tags()?,
    })
}

fn read_topic(source: &mut Source<'_>) -> Result<Topic, FormatError> {
    Ok(Topic {
        id: source.topic()?,
        name: source.topic_name()?,
        revision: source.reader.u64()?,
        configs: Arc::new(source.map(Source::text)?),
        partitions: source.list(13, |source| {
            Ok(Arc::new(Partition {
                replicas: source.brokers()?,
                isr: source.brokers()?,
                leader: source.option(Source::broker)?,
                leader_epoch: source.leader_epoch()?,
                epoch: source.partition_epoch()?,
                recovery: source.recovery()?,
                unknown: source.tags()?,
            }))
        })?,
        unknown: source.tags()?,
    })
}

fn read_deleted(source: &mut Source<'_>) -> Result<DeletedTopic, FormatError> {
    Ok(DeletedTopic {
        id: source.topic()?,
        name: source.topic_name()?,
        revision: source.reader.u64()?,
        claims: source.list(4, Source::leader_epoch)?,
        time: source.time()?,
        unknown: source.tags()?,
    })
}

#[cfg(test)]
mod tests;
