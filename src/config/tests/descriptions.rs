//! What DescribeConfigs tells.

use super::*;

const KAFKA_TOPIC_KEYS: &str = "cleanup.policy compression.gzip.level compression.lz4.level compression.type
    compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms
    follower.replication.throttled.replicas index.interval.bytes leader.replication.throttled.replicas local.retention.bytes
    local.retention.ms max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms message.timestamp.before.max.ms
    message.timestamp.type min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate
    remote.log.copy.disable remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms segment.bytes
    segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable";

#[test]
fn describe_tells_every_key_with_its_kafka_type() {
    let config = load(&[]);
    let topic = config.describe_topic(&Overrides::new());
    for (name, value_type) in [
        ("cleanup.policy", ValueType::List),
        ("compression.type", ValueType::String),
        ("max.message.bytes", ValueType::Int),
        ("min.cleanable.dirty.ratio", ValueType::Double),
        ("min.insync.replicas", ValueType::Int),
        ("preallocate", ValueType::Boolean),
        ("retention.bytes", ValueType::Long),
        ("retention.ms", ValueType::Long),
        ("segment.bytes", ValueType::Int),
        ("segment.index.bytes", ValueType::Int),
    ] {
        let told = topic.iter().find(|told| told.name == name).unwrap();
        assert_eq!(told.value_type, value_type, "{name}");
    }
    // Kafka 4.2 has these for every topic; tools compare them.
    let names: Vec<&str> = topic.iter().map(|told| told.name).collect();
    for name in KAFKA_TOPIC_KEYS.split_whitespace() {
        assert!(names.contains(&name), "topics have no {name}");
    }
    let broker = config.describe_broker();
    let told = |name: &str| broker.iter().find(|told| told.name == name).unwrap();
    assert_eq!((told("broker.rack").value.as_deref(), told("broker.rack").read_only), (None, true));
    assert_eq!(
        (told("message.max.bytes").value.as_deref(), told("message.max.bytes").read_only),
        (Some("1048588"), false)
    );
}
