//! DescribeConfigs, IncrementalAlterConfigs.

use aquifer_protocol::messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult,
};
use aquifer_protocol::messages::incremental_alter_configs::{
    AlterConfigsResource, AlterableConfig, IncrementalAlterConfigsRequest,
};
use aquifer_protocol::{ErrorCode, Str};

use crate::batches::batch_of_bytes;
use crate::client::{Client, eventually};
use crate::node::Node;

pub(crate) const TOPIC: i8 = 2;
pub(crate) const BROKER: i8 = 4;
pub(crate) const GROUP: i8 = 32;

pub(crate) const SOURCE_TOPIC: i8 = 1;
pub(crate) const SOURCE_BROKER: i8 = 2;
pub(crate) const SOURCE_CLUSTER: i8 = 3;
const SOURCE_STATIC: i8 = 4;
pub(crate) const SOURCE_DEFAULT: i8 = 5;
pub(crate) const SOURCE_GROUP: i8 = 8;

pub(crate) const SET: i8 = 0;
pub(crate) const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

async fn describe(
    client: &mut Client,
    version: i16,
    kind: i8,
    name: &str,
    keys: Option<&[&str]>,
) -> DescribeConfigsResult {
    let resource = DescribeConfigsResource {
        resource_type: kind,
        resource_name: Str::from(name),
        configuration_keys: keys.map(|keys| keys.iter().map(|key| Str::from(*key)).collect()),
    };
    let request = DescribeConfigsRequest {
        resources: vec![resource],
        include_synonyms: true,
        include_documentation: version >= 3,
    };
    client.call(version, &request).await.results.remove(0)
}

/// Value and source of one key.
pub(crate) async fn value(client: &mut Client, kind: i8, name: &str, key: &str) -> (Option<String>, i8) {
    let mut answer = describe(client, 4, kind, name, Some(&[key])).await;
    assert_eq!((answer.error_code, answer.configs.len()), (ErrorCode::NONE, 1), "{key} of {name:?}");
    let config = answer.configs.remove(0);
    (config.value.map(String::from), config.config_source)
}

/// Alters one resource; `(key, operation, value)`.
pub(crate) async fn alter(
    client: &mut Client,
    (kind, name): (i8, &str),
    changes: &[(&str, i8, Option<&str>)],
    validate_only: bool,
) -> ErrorCode {
    let configs = changes.iter().map(|(key, operation, value)| AlterableConfig {
        name: Str::from(*key),
        config_operation: *operation,
        value: value.map(Str::from),
    });
    let resource = AlterConfigsResource {
        resource_type: kind,
        resource_name: Str::from(name),
        configs: configs.collect(),
    };
    let mut codes = Vec::new();
    let request = IncrementalAlterConfigsRequest { resources: vec![resource], validate_only };
    let answer = client.call(1, &request).await;
    for told in answer.responses {
        assert_eq!((told.resource_type, &*told.resource_name), (kind, name));
        assert_eq!(told.error_message.is_some(), !told.error_code.is_none(), "{changes:?}");
        codes.push(told.error_code);
    }
    let [code] = codes[..] else { panic!("one resource was altered: {codes:?}") };
    code
}

/// Sets a topic's config, which must succeed.
pub(crate) async fn set(client: &mut Client, topic: &str, key: &str, value: &str) {
    let code = alter(client, (TOPIC, topic), &[(key, SET, Some(value))], false).await;
    assert_eq!(code, ErrorCode::NONE, "{key}={value}");
}

fn find<'a>(result: &'a DescribeConfigsResult, key: &str) -> &'a DescribeConfigsResourceResult {
    let found = result.configs.iter().find(|config| &*config.name == key);
    found.unwrap_or_else(|| panic!("{key} is not described"))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_describes_values_and_where_they_come_from() {
    let node = Node::start(&["log.segment.bytes=2097152"]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[("max.message.bytes", "5000")]).await;
    for version in 1..=4 {
        let answer = describe(&mut client, version, TOPIC, "t", None).await;
        assert_eq!((answer.error_code, &*answer.resource_name), (ErrorCode::NONE, "t"), "v{version}");
        for (key, expected, source, synonyms) in [
            (
                "max.message.bytes",
                "5000",
                SOURCE_TOPIC,
                vec![("max.message.bytes", SOURCE_TOPIC), ("message.max.bytes", SOURCE_DEFAULT)],
            ),
            (
                "segment.bytes",
                "2097152",
                SOURCE_STATIC,
                vec![("log.segment.bytes", SOURCE_STATIC), ("log.segment.bytes", SOURCE_DEFAULT)],
            ),
            ("cleanup.policy", "delete", SOURCE_DEFAULT, vec![("log.cleanup.policy", SOURCE_DEFAULT)]),
        ] {
            let config = find(&answer, key);
            assert_eq!(
                (config.value.as_deref(), config.config_source),
                (Some(expected), source),
                "v{version} {key}"
            );
            let told: Vec<(&str, i8)> =
                config.synonyms.iter().map(|synonym| (&*synonym.name, synonym.source)).collect();
            assert_eq!(told, synonyms, "v{version} {key}");
            assert!(!config.read_only && !config.is_sensitive, "v{version} {key}");
            let has_docs = config.documentation.as_deref().is_some_and(|docs| docs.len() > 20);
            assert_eq!(has_docs, version >= 3, "v{version} {key}");
            assert_eq!(config.config_type != 0, version >= 3, "v{version} {key}");
        }
        let broker = describe(&mut client, version, BROKER, "1", None).await;
        let segment = find(&broker, "log.segment.bytes");
        assert_eq!(
            (segment.value.as_deref(), segment.config_source),
            (Some("2097152"), SOURCE_STATIC),
            "v{version}"
        );
        assert!(find(&broker, "node.id").read_only, "v{version}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_is_asked_for_is_described() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let asked = ["retention.ms", "no.such.key"];
    let answer = describe(&mut client, 4, TOPIC, "t", Some(&asked)).await;
    let names: Vec<&str> = answer.configs.iter().map(|config| &*config.name).collect();
    assert_eq!((answer.error_code, names), (ErrorCode::NONE, vec!["retention.ms"]));
    // An empty list is all, as a missing one is.
    let all = describe(&mut client, 4, TOPIC, "t", Some(&[])).await;
    assert_eq!(all, describe(&mut client, 4, TOPIC, "t", None).await);
    let quiet = DescribeConfigsRequest {
        resources: vec![DescribeConfigsResource {
            resource_type: TOPIC,
            resource_name: Str::from("t"),
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let answer = client.call(4, &quiet).await;
    assert!(answer.results[0].configs.len() > 10);
    let is_quiet =
        |config: &DescribeConfigsResourceResult| config.synonyms.is_empty() && config.documentation.is_none();
    assert!(answer.results[0].configs.iter().all(is_quiet));
    for (kind, name, expected) in [
        (TOPIC, "none", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (BROKER, "2", ErrorCode::INVALID_REQUEST),
        (BROKER, "x", ErrorCode::INVALID_REQUEST),
        (TOPIC, "no/name", ErrorCode::INVALID_TOPIC_EXCEPTION),
        (TOPIC, "", ErrorCode::INVALID_TOPIC_EXCEPTION),
        // Log levels and clients' metrics: Kafka's, and not ours.
        (8, "1", ErrorCode::INVALID_REQUEST),
        (16, "m", ErrorCode::INVALID_REQUEST),
        (GROUP, "", ErrorCode::INVALID_REQUEST),
        (GROUP, "there.is.none", ErrorCode::NONE),
        (99, "t", ErrorCode::INVALID_REQUEST),
        (BROKER, "", ErrorCode::NONE),
    ] {
        let answer = describe(&mut client, 4, kind, name, None).await;
        assert_eq!(answer.error_code, expected, "{kind} {name:?}");
        assert_eq!(answer.error_message.is_some(), !expected.is_none(), "{kind} {name:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_take_effect_at_once() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let large = batch_of_bytes(5000);
    assert_eq!(client.append(&topic, 0, &large).await, 0);
    let lower = [("max.message.bytes", SET, Some("1000"))];
    assert_eq!(alter(&mut client, (TOPIC, "t"), &lower, true).await, ErrorCode::NONE);
    assert_eq!(client.append(&topic, 0, &large).await, 1, "only validated");
    assert_eq!(alter(&mut client, (TOPIC, "t"), &lower, false).await, ErrorCode::NONE);
    assert_eq!(
        value(&mut client, TOPIC, "t", "max.message.bytes").await,
        (Some("1000".to_owned()), SOURCE_TOPIC)
    );
    assert_eq!(client.produce(&topic, 0, &large).await.error_code, ErrorCode::MESSAGE_TOO_LARGE);
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(
        client.produce(&topic, 0, &large).await.error_code,
        ErrorCode::MESSAGE_TOO_LARGE,
        "and are kept"
    );
    assert_eq!(
        alter(&mut client, (TOPIC, "t"), &[("max.message.bytes", DELETE, None)], false).await,
        ErrorCode::NONE
    );
    assert_eq!(client.append(&topic, 0, &large).await, 2);
    assert_eq!(value(&mut client, TOPIC, "t", "max.message.bytes").await.1, SOURCE_DEFAULT);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_for_all_topics_takes_effect() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let large = batch_of_bytes(5000);
    let cluster = (BROKER, "");
    let lower = [("message.max.bytes", SET, Some("1000"))];
    assert_eq!(alter(&mut client, cluster, &lower, false).await, ErrorCode::NONE);
    eventually("the new default holds", async || {
        let code = client.produce(&topic, 0, &large).await.error_code;
        (code == ErrorCode::MESSAGE_TOO_LARGE).then_some(())
    })
    .await;
    assert_eq!(
        value(&mut client, TOPIC, "t", "max.message.bytes").await,
        (Some("1000".to_owned()), SOURCE_CLUSTER)
    );
    assert_eq!(
        value(&mut client, BROKER, "1", "message.max.bytes").await,
        (Some("1000".to_owned()), SOURCE_CLUSTER)
    );
    assert_eq!(
        alter(&mut client, cluster, &[("message.max.bytes", DELETE, None)], false).await,
        ErrorCode::NONE
    );
    eventually("the old default holds", async || {
        client.produce(&topic, 0, &large).await.error_code.is_none().then_some(())
    })
    .await;
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_are_appended_to_and_subtracted_from() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let key = "cleanup.policy";
    for (operation, text, expected, code) in [
        (SUBTRACT, "delete", "", ErrorCode::NONE),
        (APPEND, "delete", "delete", ErrorCode::NONE),
        (APPEND, "delete", "delete", ErrorCode::NONE),
        (APPEND, "shrink", "delete", ErrorCode::INVALID_CONFIG),
        (APPEND, "compact", "delete,compact", ErrorCode::NONE),
        (SUBTRACT, "compact", "delete", ErrorCode::NONE),
        (SUBTRACT, "nothing", "delete", ErrorCode::NONE),
    ] {
        let change = [(key, operation, Some(text))];
        assert_eq!(alter(&mut client, (TOPIC, "t"), &change, false).await, code, "{change:?}");
        assert_eq!(value(&mut client, TOPIC, "t", key).await.0.as_deref(), Some(expected), "{change:?}");
    }
    node.stop().await;
}

/// Each builds on what it finds, and whoever was too late looks again: nobody is refused for that, nor anybody's change lost.
#[tokio::test(flavor = "multi_thread")]
async fn additions_and_subtractions_at_once_all_count() {
    const CLIENTS: usize = 8;
    const ROUNDS: usize = 10;
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let work = (0..CLIENTS).map(async |_| {
        let mut client = node.client().await;
        for _ in 0..ROUNDS {
            for operation in [SUBTRACT, APPEND] {
                let change = [("cleanup.policy", operation, Some("delete"))];
                assert_eq!(alter(&mut client, (TOPIC, "t"), &change, false).await, ErrorCode::NONE);
            }
        }
    });
    futures::future::join_all(work).await;
    assert_eq!(value(&mut client, TOPIC, "t", "cleanup.policy").await.0.as_deref(), Some("delete"));
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_that_cannot_be_are_refused_and_change_nothing() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let before = describe(&mut client, 4, TOPIC, "t", None).await;
    let topic = (TOPIC, "t");
    let (invalid, request) = (ErrorCode::INVALID_CONFIG, ErrorCode::INVALID_REQUEST);
    let good = ("retention.ms", SET, Some("1000"));
    let cases = [
        (topic, vec![("no.such.key", SET, Some("1"))], invalid),
        (topic, vec![("retention.ms", SET, Some("soon"))], invalid),
        (topic, vec![("segment.bytes", SET, Some("1"))], invalid),
        (topic, vec![("cleanup.policy", SET, Some("shrink"))], invalid),
        (topic, vec![("retention.ms", APPEND, Some("1"))], invalid),
        (topic, vec![("retention.ms", SUBTRACT, Some("1"))], invalid),
        (topic, vec![("retention.ms", SET, None)], request),
        (topic, vec![("retention.ms", 9, Some("1"))], request),
        // One that is wrong spoils those that are right.
        (topic, vec![good, ("no.such.key", SET, Some("1"))], invalid),
        (topic, vec![good, good], request),
        ((TOPIC, "none"), vec![good], ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ((BROKER, "2"), vec![("message.max.bytes", SET, Some("1000"))], request),
        ((BROKER, "1"), vec![("node.id", SET, Some("2"))], invalid),
        ((BROKER, ""), vec![("no.such.key", SET, Some("2"))], invalid),
        ((99, "t"), vec![good], request),
    ];
    for (resource, changes, expected) in cases {
        for validate_only in [true, false] {
            let code = alter(&mut client, resource, &changes, validate_only).await;
            assert_eq!(code, expected, "{resource:?} {changes:?}");
        }
    }
    assert_eq!(describe(&mut client, 4, TOPIC, "t", None).await, before);
    node.stop().await;
}

/// Nobody could tell which was meant to be last, so none is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_resource_that_is_named_twice_is_not_changed_at_all() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    client.create("t", 1, &[]).await;
    let resource = |value: &str| AlterConfigsResource {
        resource_type: TOPIC,
        resource_name: Str::from("t"),
        configs: vec![AlterableConfig {
            name: Str::from("retention.ms"),
            config_operation: SET,
            value: Some(Str::from(value)),
        }],
    };
    let resources = vec![resource("1000"), resource("2000")];
    let answer = client.call(1, &IncrementalAlterConfigsRequest { resources, validate_only: false }).await;
    let codes: Vec<ErrorCode> = answer.responses.iter().map(|told| told.error_code).collect();
    assert_eq!(codes, [ErrorCode::INVALID_REQUEST; 2]);
    assert_eq!(value(&mut client, TOPIC, "t", "retention.ms").await.1, SOURCE_DEFAULT);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_have_settings_of_their_own_over_those_of_brokers() {
    const SESSION: &str = "consumer.session.timeout.ms";
    const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";
    let node = Node::start(&["group.consumer.heartbeat.interval.ms=6000"]).await;
    let mut client = node.client().await;
    let group = (GROUP, "g");
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(value(&mut client, GROUP, "g", SESSION).await, (text("45000"), SOURCE_DEFAULT));
    assert_eq!(value(&mut client, GROUP, "g", HEARTBEAT).await, (text("6000"), SOURCE_STATIC));
    let longer = [(SESSION, SET, Some("50000"))];
    assert_eq!(alter(&mut client, group, &longer, true).await, ErrorCode::NONE);
    assert_eq!(value(&mut client, GROUP, "g", SESSION).await.1, SOURCE_DEFAULT, "only validated");
    assert_eq!(alter(&mut client, group, &longer, false).await, ErrorCode::NONE);
    for version in 1..=4 {
        let answer = describe(&mut client, version, GROUP, "g", None).await;
        let names: Vec<&str> = answer.configs.iter().map(|config| &*config.name).collect();
        assert_eq!(names, [HEARTBEAT, SESSION], "v{version}");
        let session = find(&answer, SESSION);
        assert_eq!((session.value.as_deref(), session.config_source), (Some("50000"), SOURCE_GROUP));
        let told: Vec<(&str, i8)> =
            session.synonyms.iter().map(|synonym| (&*synonym.name, synonym.source)).collect();
        let of_brokers = ("group.consumer.session.timeout.ms", SOURCE_DEFAULT);
        assert_eq!(told, [(SESSION, SOURCE_GROUP), of_brokers], "v{version}");
        assert!(!session.read_only && !session.is_sensitive, "v{version}");
    }
    let (invalid, request) = (ErrorCode::INVALID_CONFIG, ErrorCode::INVALID_REQUEST);
    let long_name = "g".repeat(1025);
    for (resource, changes, expected) in [
        (group, vec![(SESSION, SET, Some("44999"))], invalid),
        (group, vec![(SESSION, SET, Some("60001"))], invalid),
        (group, vec![(HEARTBEAT, SET, Some("4999"))], invalid),
        (group, vec![(HEARTBEAT, SET, Some("15001"))], invalid),
        (group, vec![(HEARTBEAT, SET, Some("soon"))], invalid),
        (group, vec![(HEARTBEAT, APPEND, Some("1"))], invalid),
        (group, vec![(HEARTBEAT, SET, None)], request),
        // One that is wrong spoils those that are right.
        (
            group,
            vec![(SESSION, SET, Some("55000")), ("share.session.timeout.ms", SET, Some("45000"))],
            invalid,
        ),
        (group, vec![("streams.num.standby.replicas", SET, Some("1"))], invalid),
        (group, vec![("consumer.assignment.interval.ms", SET, Some("0"))], invalid),
        (group, vec![("retention.ms", SET, Some("1"))], invalid),
        ((GROUP, ""), longer.to_vec(), request),
        ((GROUP, long_name.as_str()), longer.to_vec(), request),
    ] {
        for validate_only in [true, false] {
            let code = alter(&mut client, resource, &changes, validate_only).await;
            assert_eq!(code, expected, "{resource:?} {changes:?}");
        }
    }
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(value(&mut client, GROUP, "g", SESSION).await, (text("50000"), SOURCE_GROUP), "it is kept");
    assert_eq!(value(&mut client, GROUP, "h", SESSION).await.1, SOURCE_DEFAULT, "for this one alone");
    // As Kafka's own client has it, which sends an empty value.
    assert_eq!(alter(&mut client, group, &[(SESSION, DELETE, Some(""))], false).await, ErrorCode::NONE);
    assert_eq!(value(&mut client, GROUP, "g", SESSION).await, (text("45000"), SOURCE_DEFAULT));
    node.stop().await;
}
