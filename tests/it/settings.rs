//! AlterConfigs, ListConfigResources, and settings of brokers that change while they run.

use aquifer_protocol::messages::alter_configs::{AlterConfigsRequest, AlterConfigsResource, AlterableConfig};
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::describe_log_dirs::DescribeLogDirsRequest;
use aquifer_protocol::messages::describe_producers::{DescribeProducersRequest, TopicRequest};
use aquifer_protocol::messages::list_config_resources::ListConfigResourcesRequest;
use aquifer_protocol::{ErrorCode, Str};

use crate::batches::{batch_of_bytes, sequenced};
use crate::client::{Client, eventually};
use crate::compaction::keyed;
use crate::configs::{
    BROKER, DELETE, GROUP, SET, SOURCE_BROKER, SOURCE_CLUSTER, SOURCE_DEFAULT, SOURCE_TOPIC, TOPIC, alter,
    value,
};
use crate::node::Node;

fn whole((kind, name): (i8, &str), configs: &[(&str, Option<&str>)]) -> AlterConfigsResource {
    let config = |(name, value): &(&str, Option<&str>)| AlterableConfig {
        name: Str::from(*name),
        value: value.map(Str::from),
    };
    AlterConfigsResource {
        resource_type: kind,
        resource_name: Str::from(name),
        configs: configs.iter().map(config).collect(),
    }
}

/// Replaces the configuration of resources; gives their error codes.
async fn replace(
    client: &mut Client,
    version: i16,
    resources: &[AlterConfigsResource],
    validate_only: bool,
) -> Vec<ErrorCode> {
    let request = AlterConfigsRequest { resources: resources.to_vec(), validate_only };
    let answer = client.call(version, &request).await;
    assert_eq!(answer.responses.len(), resources.len());
    let told = answer.responses.iter().zip(resources).map(|(told, asked)| {
        assert_eq!((told.resource_type, &told.resource_name), (asked.resource_type, &asked.resource_name));
        assert_eq!(told.error_message.is_some(), !told.error_code.is_none());
        told.error_code
    });
    told.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replacement_does_not_name_goes_back_to_its_default() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    for version in 0..=2 {
        let name = format!("v{version}");
        client.create(&name, 1, &[("retention.ms", "1000"), ("segment.ms", "2000")]).await;
        let topic = (TOPIC, &*name);
        let new = whole(topic, &[("retention.ms", Some("3000")), ("max.message.bytes", Some("5000"))]);
        assert_eq!(replace(&mut client, version, std::slice::from_ref(&new), true).await, [ErrorCode::NONE]);
        assert_eq!(
            value(&mut client, TOPIC, &name, "segment.ms").await.0.as_deref(),
            Some("2000"),
            "only judged"
        );
        assert_eq!(replace(&mut client, version, &[new], false).await, [ErrorCode::NONE]);
        for (key, expected, source) in [
            ("retention.ms", "3000", SOURCE_TOPIC),
            ("max.message.bytes", "5000", SOURCE_TOPIC),
            ("segment.ms", "604800000", SOURCE_DEFAULT),
        ] {
            let told = value(&mut client, TOPIC, &name, key).await;
            assert_eq!(told, (Some(expected.to_owned()), source), "v{version} {key}");
        }
        assert_eq!(replace(&mut client, version, &[whole(topic, &[])], false).await, [ErrorCode::NONE]);
        assert_eq!(value(&mut client, TOPIC, &name, "retention.ms").await.1, SOURCE_DEFAULT, "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_cannot_be_changes_nothing() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[("retention.ms", "1000")]).await;
    let topic = (TOPIC, "t");
    let good = whole(topic, &[("retention.ms", Some("5"))]);
    let (invalid, request) = (ErrorCode::INVALID_CONFIG, ErrorCode::INVALID_REQUEST);
    for (resources, expected) in [
        (vec![whole(topic, &[("no.such.key", Some("1"))])], vec![invalid]),
        (vec![whole(topic, &[("retention.ms", Some("soon"))])], vec![invalid]),
        (vec![whole(topic, &[("retention.ms", None)])], vec![request]),
        (vec![whole(topic, &[("retention.ms", Some("5")), ("retention.ms", Some("6"))])], vec![request]),
        (vec![good.clone(), good.clone()], vec![request, request]),
        (vec![whole((TOPIC, "none"), &[])], vec![ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]),
        (vec![whole((BROKER, "2"), &[])], vec![request]),
        (vec![whole((BROKER, "1"), &[("node.id", Some("1"))])], vec![invalid]),
        (vec![whole((8, "1"), &[])], vec![request]),
    ] {
        for validate_only in [true, false] {
            let told = replace(&mut client, 2, &resources, validate_only).await;
            assert_eq!(told, expected, "{resources:?}");
        }
        assert_eq!(value(&mut client, TOPIC, "t", "retention.ms").await.0.as_deref(), Some("1000"));
    }
    // Each resource is judged alone.
    let wrong = whole((TOPIC, "none"), &[]);
    assert_eq!(
        replace(&mut client, 2, &[wrong, good], false).await,
        [ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::NONE]
    );
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms").await.0.as_deref(), Some("5"));
    node.stop().await;
}

/// As `kafka-configs` goes about it: for all brokers, for one over that, and back again; each is in force once it is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_brokers_settings_change_at_once_and_come_back_after_a_restart() {
    const KEY: &str = "remote.fetch.max.wait.ms";
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let set = |value| [(KEY, SET, Some(value))];
    let delete = [(KEY, DELETE, None)];
    let (all, one) = ((BROKER, ""), (BROKER, "1"));
    for (resource, change, expected, source) in [
        (all, &set("700")[..], "700", SOURCE_CLUSTER),
        (one, &set("800"), "800", SOURCE_BROKER),
        (all, &set("900"), "800", SOURCE_BROKER),
        (one, &delete, "900", SOURCE_CLUSTER),
        (all, &delete, "500", SOURCE_DEFAULT),
        (one, &set("1000"), "1000", SOURCE_BROKER),
    ] {
        assert_eq!(alter(&mut client, resource, change, false).await, ErrorCode::NONE);
        let told = value(&mut client, BROKER, "1", KEY).await;
        assert_eq!(told, (Some(expected.to_owned()), source), "{resource:?} {change:?}");
    }
    // The whole of it at once, and what is not named goes.
    let whole_one = whole(one, &[("max.connections", Some("50"))]);
    assert_eq!(replace(&mut client, 2, &[whole_one], false).await, [ErrorCode::NONE]);
    assert_eq!(value(&mut client, BROKER, "1", KEY).await.1, SOURCE_DEFAULT);
    let node = node.restart().await;
    let mut client = node.client().await;
    let told = value(&mut client, BROKER, "1", "max.connections").await;
    assert_eq!(told, (Some("50".to_owned()), SOURCE_BROKER));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_of_connections_take_effect_while_the_broker_runs() {
    let node = Node::start(&[]).await;
    let mut first = node.client().await;
    let served = async |client: &mut Client| client.call(0, &ApiVersionsRequest::default()).await;
    served(&mut first).await;
    let per_address = [("max.connections.per.ip", SET, Some("1"))];
    assert_eq!(alter(&mut first, (BROKER, ""), &per_address, false).await, ErrorCode::NONE);
    node.client().await.expect_closed("one is open").await;
    // Whoever is in stays in, and can mend it.
    let more = [("max.connections.per.ip", SET, Some("2"))];
    assert_eq!(alter(&mut first, (BROKER, ""), &more, false).await, ErrorCode::NONE);
    served(&mut node.client().await).await;
    let in_all = [("max.connections", SET, Some("1"))];
    assert_eq!(alter(&mut first, (BROKER, "1"), &in_all, false).await, ErrorCode::NONE);
    node.client().await.expect_closed("one is open").await;
    node.stop().await;
}

/// What this broker is set to goes before what all are, for topics, too.
#[tokio::test(flavor = "multi_thread")]
async fn a_default_for_topics_can_be_one_brokers_own() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let large = batch_of_bytes(5000);
    for (resource, bytes) in [((BROKER, ""), "900000"), ((BROKER, "1"), "1000")] {
        let change = [("message.max.bytes", SET, Some(bytes))];
        assert_eq!(alter(&mut client, resource, &change, false).await, ErrorCode::NONE);
    }
    eventually("the broker's own default holds", async || {
        let code = client.produce(&topic, 0, &large).await.error_code;
        (code == ErrorCode::MESSAGE_TOO_LARGE).then_some(())
    })
    .await;
    let told = value(&mut client, TOPIC, "t", "max.message.bytes").await;
    assert_eq!(told, (Some("1000".to_owned()), SOURCE_BROKER));
    node.stop().await;
}

/// Sooner than it would have looked again by what it was set to before.
#[tokio::test(flavor = "multi_thread")]
async fn a_cleaner_that_sleeps_is_woken_by_its_settings() {
    let node = Node::start(&["log.cleaner.backoff.ms=3600000", "log.segment.bytes=1048576"]).await;
    let mut client = node.client().await;
    let configs = [("cleanup.policy", "compact"), ("min.cleanable.dirty.ratio", "0.01")];
    let topic = client.create("t", 1, &configs).await;
    for _ in 0..50 {
        client.append(&topic, 0, &keyed(&[("same", Some("value"))], 50_000)).await;
    }
    let size = async |client: &mut Client| {
        let answer = client.call(4, &DescribeLogDirsRequest { topics: None }).await;
        answer.results[0].topics[0].partitions[0].partition_size
    };
    let before = size(&mut client).await;
    assert!(before > 2_000_000, "{before}");
    let change = [("log.cleaner.backoff.ms", SET, Some("10"))];
    assert_eq!(alter(&mut client, (BROKER, "1"), &change, false).await, ErrorCode::NONE);
    eventually("compaction", async || (size(&mut client).await < before / 2).then_some(())).await;
    node.stop().await;
}

/// Producers that write no more are forgotten by what is set now, not by what was when the log was opened.
#[tokio::test(flavor = "multi_thread")]
async fn producers_are_forgotten_by_the_setting_in_force() {
    let node = Node::start(&["log.segment.bytes=1048576"]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    client.append(&topic, 0, &sequenced((9, 0), 0, 1)).await;
    let known = async |client: &mut Client| {
        let topics = vec![TopicRequest { name: Str::from("t"), partition_indexes: vec![0] }];
        let answer = client.call(0, &DescribeProducersRequest { topics }).await;
        answer.topics[0].partitions[0].active_producers.len()
    };
    let fill = async |client: &mut Client| {
        for _ in 0..3 {
            client.append(&topic, 0, &batch_of_bytes(600_000)).await;
        }
    };
    // A segment that closes is an occasion to forget.
    fill(&mut client).await;
    assert_eq!(known(&mut client).await, 1);
    let change = [("producer.id.expiration.ms", SET, Some("1"))];
    assert_eq!(alter(&mut client, (BROKER, ""), &change, false).await, ErrorCode::NONE);
    eventually("it is forgotten", async || {
        fill(&mut client).await;
        (known(&mut client).await == 0).then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_groups_settings_are_replaced_as_a_whole() {
    const SESSION: &str = "consumer.session.timeout.ms";
    const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let group = (GROUP, "g");
    for (configs, expected) in [
        (&[(SESSION, Some("50000")), (HEARTBEAT, Some("8000"))][..], ErrorCode::NONE),
        (&[(HEARTBEAT, Some("1"))], ErrorCode::INVALID_CONFIG),
        (&[(HEARTBEAT, Some("9000"))], ErrorCode::NONE),
    ] {
        assert_eq!(replace(&mut client, 2, &[whole(group, configs)], false).await, [expected], "{configs:?}");
    }
    assert_eq!(value(&mut client, GROUP, "g", SESSION).await.1, SOURCE_DEFAULT);
    assert_eq!(value(&mut client, GROUP, "g", HEARTBEAT).await.0.as_deref(), Some("9000"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn resources_are_listed_by_kind() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    for group in ["h", "g"] {
        let longer = [("consumer.session.timeout.ms", SET, Some("50000"))];
        assert_eq!(alter(&mut client, (GROUP, group), &longer, false).await, ErrorCode::NONE);
    }
    for (version, kinds, expected, code) in [
        (1, &[][..], vec![(BROKER, "1"), (TOPIC, "t"), (GROUP, "g"), (GROUP, "h")], ErrorCode::NONE),
        (1, &[TOPIC], vec![(TOPIC, "t")], ErrorCode::NONE),
        (1, &[BROKER, 16], vec![(BROKER, "1")], ErrorCode::NONE),
        (1, &[GROUP], vec![(GROUP, "g"), (GROUP, "h")], ErrorCode::NONE),
        // Of log levels and clients' metrics there are none.
        (1, &[8, 16], vec![], ErrorCode::NONE),
        (1, &[TOPIC, 5], vec![], ErrorCode::UNSUPPORTED_VERSION),
        // Clients' metrics alone.
        (0, &[], vec![], ErrorCode::NONE),
    ] {
        let request = ListConfigResourcesRequest { resource_types: kinds.to_vec() };
        let answer = client.call(version, &request).await;
        assert_eq!(answer.error_code, code, "v{version} {kinds:?}");
        let told = answer.config_resources.iter().map(|told| (told.resource_type, &*told.resource_name));
        assert_eq!(told.collect::<Vec<_>>(), expected, "v{version} {kinds:?}");
    }
    node.stop().await;
}
