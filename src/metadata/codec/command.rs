//! Commands as bytes: what the Raft log holds and what travels between its nodes.
//!
//! Format `AQMC`, version 1: kind, then that kind's fields, then tagged fields. A command means the same to everyone who applies
//! it, so there is nothing in it that a reader might leave aside: any field unknown here refuses the command, even an optional
//! one. New kinds and fields are written only above a finalized feature level at which every node knows them
//! (`Command::level_min`).

use aquifer_model::format::{Format, FormatError, Tags, Writer};

use super::parts::{
    Source, write_brokers, write_directories, write_endpoints, write_map, write_quota_entity, write_recovery,
    write_topic, write_topic_partition,
};
use crate::metadata::command::{
    AllocateProducerIds, BrokerRef, ChangeIsr, ChangeLeader, Command, ConfigChanges, CreatePartitions,
    CreateTopic, DeleteTopic, Election, ForfeitReplicas, FormatCluster, KnownConfigs, RegisterBroker,
    Remains, SetBrokerConfigs, SetClientQuotas, SetFeatures, SetGroupConfigs, SetTopicConfigs,
};

/// The format of a command.
pub(in crate::metadata) const FORMAT: Format =
    Format { name: "metadata command", magic: *b"AQMC", version: 1 };

/// Kinds as stored. A kind that is no longer used leaves a gap.
mod kind {
    pub(super) const FORMAT_CLUSTER: u8 = 1;
    pub(super) const REGISTER_BROKER: u8 = 2;
    pub(super) const UNFENCE_BROKER: u8 = 3;
    pub(super) const FENCE_BROKER: u8 = 4;
    pub(super) const FORFEIT_REPLICAS: u8 = 5;
    pub(super) const CREATE_TOPIC: u8 = 6;
    pub(super) const DELETE_TOPIC: u8 = 7;
    pub(super) const FORGET_TOPIC: u8 = 8;
    pub(super) const CREATE_PARTITIONS: u8 = 9;
    pub(super) const SET_TOPIC_CONFIGS: u8 = 10;
    pub(super) const SET_BROKER_CONFIGS: u8 = 11;
    pub(super) const CHANGE_ISR: u8 = 12;
    pub(super) const CHANGE_LEADER: u8 = 13;
    pub(super) const ALLOCATE_PRODUCER_IDS: u8 = 14;
    pub(super) const SET_FEATURES: u8 = 15;
    pub(super) const SET_CLIENT_QUOTAS: u8 = 16;
    pub(super) const SET_GROUP_CONFIGS: u8 = 17;
}

/// Required: what a change of settings builds on.
const TAG_KNOWN_CONFIGS: u32 = 0;

/// A command as bytes.
pub(in crate::metadata) fn encode(command: &Command) -> Vec<u8> {
    let mut writer = Writer::new();
    write(&mut writer, command);
    writer.tags(&tags(command));
    FORMAT.seal(&writer.finish())
}

fn tags(command: &Command) -> Tags {
    let mut tags = Tags::default();
    if let Command::SetTopicConfigs(SetTopicConfigs { known, .. })
    | Command::SetBrokerConfigs(SetBrokerConfigs { known, .. })
    | Command::SetGroupConfigs(SetGroupConfigs { known, .. }) = command
        && !known.is_empty()
    {
        let mut writer = Writer::new();
        write_changes(&mut writer, known);
        tags.set_required(TAG_KNOWN_CONFIGS, writer.finish().into());
    }
    tags
}

fn write(writer: &mut Writer, command: &Command) {
    match command {
        Command::FormatCluster(FormatCluster { cluster, incarnation, features }) => {
            writer.u8(kind::FORMAT_CLUSTER);
            writer.uuid(cluster.uuid());
            writer.u64(incarnation.0);
            write_map(writer, features, |writer, level| writer.i16(*level));
        }
        Command::RegisterBroker(command) => {
            writer.u8(kind::REGISTER_BROKER);
            write_registration(writer, command);
        }
        Command::UnfenceBroker(broker) => {
            writer.u8(kind::UNFENCE_BROKER);
            write_broker_ref(writer, *broker);
        }
        Command::FenceBroker(broker) => {
            writer.u8(kind::FENCE_BROKER);
            write_broker_ref(writer, *broker);
        }
        Command::ForfeitReplicas(ForfeitReplicas { broker, partitions }) => {
            writer.u8(kind::FORFEIT_REPLICAS);
            write_broker_ref(writer, *broker);
            writer.list(partitions, |writer, partition| write_topic_partition(writer, *partition));
        }
        Command::CreateTopic(CreateTopic { id, name, partitions, configs }) => {
            writer.u8(kind::CREATE_TOPIC);
            write_topic(writer, *id);
            writer.string(name);
            writer.list(partitions, |writer, replicas| write_brokers(writer, replicas));
            write_map(writer, configs, |writer, value| writer.string(value));
        }
        Command::DeleteTopic(DeleteTopic { topic, remains, time }) => {
            writer.u8(kind::DELETE_TOPIC);
            write_topic(writer, *topic);
            writer.u8(match remains {
                Remains::Nothing => 0,
                Remains::InTier => 1,
            });
            writer.i64(time.millis());
        }
        Command::ForgetTopic(topic) => {
            writer.u8(kind::FORGET_TOPIC);
            write_topic(writer, *topic);
        }
        Command::CreatePartitions(CreatePartitions { topic, existing, added }) => {
            writer.u8(kind::CREATE_PARTITIONS);
            write_topic(writer, *topic);
            writer.varint(*existing as u64);
            writer.list(added, |writer, replicas| write_brokers(writer, replicas));
        }
        Command::SetTopicConfigs(SetTopicConfigs { topic, changes, known: _ }) => {
            writer.u8(kind::SET_TOPIC_CONFIGS);
            write_topic(writer, *topic);
            write_changes(writer, changes);
        }
        Command::SetBrokerConfigs(SetBrokerConfigs { broker, changes, known: _ }) => {
            writer.u8(kind::SET_BROKER_CONFIGS);
            writer.option(*broker, |writer, broker| writer.i32(broker.0));
            write_changes(writer, changes);
        }
        Command::SetGroupConfigs(SetGroupConfigs { group, changes, known: _ }) => {
            writer.u8(kind::SET_GROUP_CONFIGS);
            writer.string(group);
            write_changes(writer, changes);
        }
        Command::SetClientQuotas(SetClientQuotas { changes }) => {
            writer.u8(kind::SET_CLIENT_QUOTAS);
            writer.varint(changes.len() as u64);
            for (entity, changes) in changes {
                write_quota_entity(writer, entity);
                write_map(writer, changes, |writer, value| {
                    writer.option(*value, |writer, value| writer.u64(value.to_bits()));
                });
            }
        }
        Command::ChangeIsr(command) => {
            writer.u8(kind::CHANGE_ISR);
            write_change_isr(writer, command);
        }
        Command::ChangeLeader(ChangeLeader { partition, epoch, leader, election }) => {
            writer.u8(kind::CHANGE_LEADER);
            write_topic_partition(writer, *partition);
            writer.i32(epoch.0);
            writer.i32(leader.0);
            writer.u8(match election {
                Election::Clean => 0,
                Election::Unclean => 1,
            });
        }
        Command::AllocateProducerIds(AllocateProducerIds { broker, count }) => {
            writer.u8(kind::ALLOCATE_PRODUCER_IDS);
            write_broker_ref(writer, *broker);
            writer.u32(*count);
        }
        Command::SetFeatures(SetFeatures { levels }) => {
            writer.u8(kind::SET_FEATURES);
            write_map(writer, levels, |writer, level| writer.i16(*level));
        }
    }
}

fn write_registration(writer: &mut Writer, command: &RegisterBroker) {
    let RegisterBroker { broker, incarnation, node, endpoints, rack, directories, time } = command;
    writer.i32(broker.0);
    writer.uuid(incarnation.0);
    writer.u64(node.0);
    write_endpoints(writer, endpoints);
    writer.option(rack.as_deref(), Writer::string);
    write_directories(writer, directories);
    writer.i64(time.millis());
}

fn write_change_isr(writer: &mut Writer, command: &ChangeIsr) {
    let ChangeIsr { partition, leader, leader_epoch, epoch, isr, recovery } = command;
    write_topic_partition(writer, *partition);
    write_broker_ref(writer, *leader);
    writer.i32(leader_epoch.get());
    writer.i32(epoch.0);
    writer.list(isr, |writer, (member, epoch)| {
        writer.i32(member.0);
        writer.option(*epoch, |writer, epoch| writer.i64(epoch.0));
    });
    write_recovery(writer, *recovery);
}

fn write_broker_ref(writer: &mut Writer, broker: BrokerRef) {
    writer.i32(broker.broker.0);
    writer.i64(broker.epoch.0);
}

fn write_changes(writer: &mut Writer, changes: &ConfigChanges) {
    write_map(writer, changes, |writer, value| writer.option(value.as_deref(), Writer::string));
}

/// The command in `bytes`, which hold nothing else.
pub(in crate::metadata) fn decode(bytes: &[u8]) -> Result<Command, FormatError> {
    let (_, body) = FORMAT.open(bytes)?;
    if aquifer_model::format::ENVELOPE_BYTES + body.len() != bytes.len() {
        return Err(FORMAT.invalid("bytes are left over at the end"));
    }
    let mut source = Source { reader: FORMAT.reader(body), format: FORMAT.name };
    let mut command = read(&mut source)?;
    let found = source.reader.tags(&[TAG_KNOWN_CONFIGS])?;
    if let Command::SetTopicConfigs(SetTopicConfigs { known, .. })
    | Command::SetBrokerConfigs(SetBrokerConfigs { known, .. })
    | Command::SetGroupConfigs(SetGroupConfigs { known, .. }) = &mut command
        && let Some(bytes) = found.get(TAG_KNOWN_CONFIGS)
    {
        let mut source = Source { reader: FORMAT.reader(bytes), format: FORMAT.name };
        *known = read_changes(&mut source)?;
        source.reader.end()?;
    }
    if found != tags(&command) {
        return Err(FORMAT.invalid("a field is unknown here: use a newer aquifer"));
    }
    source.reader.end()?;
    Ok(command)
}

fn read(source: &mut Source<'_>) -> Result<Command, FormatError> {
    Ok(match source.reader.u8()? {
        kind::FORMAT_CLUSTER => Command::FormatCluster(FormatCluster {
            cluster: source.cluster_id()?,
            incarnation: source.incarnation()?,
            features: source.map(|source| source.reader.i16())?,
        }),
        kind::REGISTER_BROKER => Command::RegisterBroker(RegisterBroker {
            broker: source.broker()?,
            incarnation: source.broker_incarnation()?,
            node: source.node()?,
            endpoints: source.endpoints()?,
            rack: source.option(Source::text)?,
            directories: source.directories()?,
            time: source.time()?,
        }),
        kind::UNFENCE_BROKER => Command::UnfenceBroker(read_broker_ref(source)?),
        kind::FENCE_BROKER => Command::FenceBroker(read_broker_ref(source)?),
        kind::FORFEIT_REPLICAS => Command::ForfeitReplicas(ForfeitReplicas {
            broker: read_broker_ref(source)?,
            partitions: source.list(20, Source::topic_partition)?,
        }),
        kind::CREATE_TOPIC => Command::CreateTopic(CreateTopic {
            id: source.topic()?,
            name: source.topic_name()?,
            partitions: source.list(1, Source::brokers)?,
            configs: source.map(Source::text)?,
        }),
        kind::DELETE_TOPIC => Command::DeleteTopic(DeleteTopic {
            topic: source.topic()?,
            remains: match source.reader.u8()? {
                0 => Remains::Nothing,
                1 => Remains::InTier,
                _ => return Err(source.invalid("what remains is unknown")),
            },
            time: source.time()?,
        }),
        kind::FORGET_TOPIC => Command::ForgetTopic(source.topic()?),
        kind::CREATE_PARTITIONS => Command::CreatePartitions(CreatePartitions {
            topic: source.topic()?,
            existing: {
                let count = source.reader.varint()?;
                usize::try_from(count).map_err(|_| source.invalid("a count is too large"))?
            },
            added: source.list(1, Source::brokers)?,
        }),
        kind::SET_TOPIC_CONFIGS => Command::SetTopicConfigs(SetTopicConfigs {
            topic: source.topic()?,
            changes: read_changes(source)?,
            known: KnownConfigs::new(),
        }),
        kind::SET_BROKER_CONFIGS => Command::SetBrokerConfigs(SetBrokerConfigs {
            broker: source.option(Source::broker)?,
            changes: read_changes(source)?,
            known: KnownConfigs::new(),
        }),
        kind::CHANGE_ISR => Command::ChangeIsr(ChangeIsr {
            partition: source.topic_partition()?,
            leader: read_broker_ref(source)?,
            leader_epoch: source.leader_epoch()?,
            epoch: source.partition_epoch()?,
            isr: source.list(5, |source| Ok((source.broker()?, source.option(Source::broker_epoch)?)))?,
            recovery: source.recovery()?,
        }),
        kind::CHANGE_LEADER => Command::ChangeLeader(ChangeLeader {
            partition: source.topic_partition()?,
            epoch: source.partition_epoch()?,
            leader: source.broker()?,
            election: match source.reader.u8()? {
                0 => Election::Clean,
                1 => Election::Unclean,
                _ => return Err(source.invalid("an election is unknown")),
            },
        }),
        kind::ALLOCATE_PRODUCER_IDS => Command::AllocateProducerIds(AllocateProducerIds {
            broker: read_broker_ref(source)?,
            count: source.reader.u32()?,
        }),
        kind::SET_FEATURES => {
            Command::SetFeatures(SetFeatures { levels: source.map(|source| source.reader.i16())? })
        }
        kind::SET_CLIENT_QUOTAS => {
            let changes = source.list(3, |source| {
                Ok((source.quota_entity()?, source.map(|source| source.option(Source::number))?))
            })?;
            Command::SetClientQuotas(SetClientQuotas { changes: source.rising(changes)? })
        }
        kind::SET_GROUP_CONFIGS => Command::SetGroupConfigs(SetGroupConfigs {
            group: source.text()?,
            changes: read_changes(source)?,
            known: KnownConfigs::new(),
        }),
        _ => return Err(source.invalid("its kind is unknown here: use a newer aquifer")),
    })
}

fn read_broker_ref(source: &mut Source<'_>) -> Result<BrokerRef, FormatError> {
    Ok(BrokerRef { broker: source.broker()?, epoch: source.broker_epoch()? })
}

fn read_changes(source: &mut Source<'_>) -> Result<ConfigChanges, FormatError> {
    source.map(|source| source.option(Source::text))
}

#[cfg(test)]
mod tests;
