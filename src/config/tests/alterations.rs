//! Changes at run time.

use super::*;

#[test]
fn altering_a_topic_gives_new_strings_or_all_problems() {
    use Alteration::{Append, Delete, Set, Subtract};
    let config = load(&[STORE]);
    let stored = overrides(&[("retention.ms", "1000"), ("from.the.future", "1")]);
    let text = str::to_owned;
    let alter = |alterations: &[(&str, Alteration)]| {
        let named: Vec<_> =
            alterations.iter().map(|(key, alteration)| (text(key), alteration.clone())).collect();
        config.alter_topic(&stored, &named).map_err(|problems| problems.to_string())
    };
    let forget = ("from.the.future", Delete);
    assert_eq!(
        alter(&[
            forget.clone(),
            ("retention.ms", Set(text(" 0500 "))),
            ("cleanup.policy", Subtract(text("delete")))
        ]),
        Ok(overrides(&[("cleanup.policy", ""), ("retention.ms", "500")]))
    );
    assert_eq!(
        alter(&[
            forget.clone(),
            ("retention.ms", Delete),
            ("segment.ms", Delete),
            ("cleanup.policy", Append(text("delete")))
        ]),
        Ok(overrides(&[("cleanup.policy", "delete")]))
    );
    for (alterations, expected) in [
        (&[("retention.ms", Set(text("5")))][..], "from.the.future (topic): unknown key of a topic"),
        (
            &[forget.clone(), ("retention.ms", Append(text("5")))],
            r#"retention.ms = "5" (topic): is no list: items cannot be added to it or taken from it"#,
        ),
        (
            &[forget.clone(), ("segment.ms", Delete), ("segment.ms", Set(text("5")))],
            r#"segment.ms = "5" (topic): is altered twice"#,
        ),
        (
            &[forget.clone(), ("segment.mss", Delete)],
            "segment.mss (topic): unknown key of a topic; did you mean segment.ms?",
        ),
        (
            &[forget.clone(), ("cleanup.policy", Append(text("compact")))],
            r#"cleanup.policy = "delete,compact" (topic): a topic cannot be compacted and tiered at once yet: its remote.storage.enable has to be false"#,
        ),
        (
            &[forget.clone(), ("remote.storage.enable", Set(text("false")))],
            r#"remote.storage.enable = "false" (topic): a tiered topic stays tiered: part of its records are only in the bucket"#,
        ),
    ] {
        assert_eq!(alter(alterations), Err(text(expected)));
    }
}

#[test]
fn a_topic_that_is_compacted_later_stays_outside_of_a_bucket_that_comes() {
    let set = |key: &str, value: &str| [(key.to_owned(), Alteration::Set(value.to_owned()))];
    let (plain, tiered) = (load(&[]), load(&[STORE]));
    let compacted = plain.alter_topic(&overrides(&[]), &set("cleanup.policy", "compact")).unwrap();
    assert_eq!(compacted, overrides(&[("cleanup.policy", "compact"), ("remote.storage.enable", "false")]));
    let topic = tiered.check_topic(&compacted).unwrap();
    assert!(topic.compaction.is_some() && !topic.tiered);
    // One that is tiered, and inherits another policy, can be altered as before.
    let compacting = load(&[STORE, "log.cleanup.policy=compact"]);
    let altered = compacting.alter_topic(&overrides(&[]), &set("retention.ms", "5")).unwrap();
    assert_eq!(altered, overrides(&[("retention.ms", "5")]));
}

#[test]
fn brokers_change_at_run_time_only_what_takes_effect() {
    let config = load(&["log.retention.ms=1000"]);
    let set = |key: &str, value: &str| [(key.to_owned(), Alteration::Set(value.to_owned()))];
    let cluster = config.alter_broker(BrokerScope::Cluster, &set("log.retention.ms", "2000")).unwrap();
    let (config, problems) = config.with_dynamic(&cluster, &Overrides::new());
    assert_eq!(problems, []);
    let broker = config.alter_broker(BrokerScope::Broker, &set("log.retention.ms", "3000")).unwrap();
    assert_eq!(broker, overrides(&[("log.retention.ms", "3000")]));
    let (config, _) = config.with_dynamic(&cluster, &broker);
    assert_eq!(config.broker().topic_defaults.retention.time, Some(Duration::from_secs(3)));
    for (key, expected) in [
        ("num.partitions", "is read when the broker starts: set it in its configuration and start it anew"),
        (
            "log.retention.hours",
            "is read when the broker starts: set it in its configuration and start it anew",
        ),
        (
            "num.io.threads",
            "not supported: Aquifer sizes its threads and socket buffers by the machine, and its queues in bytes by \
             queued.max.request.bytes; only \"8\" is accepted",
        ),
        ("retention.ms", "is a key of topics; the default that a broker has for it is log.retention.ms"),
        ("log.retention.mss", "unknown key; did you mean log.retention.ms?"),
    ] {
        let problems = config.alter_broker(BrokerScope::Broker, &set(key, "1")).unwrap_err();
        assert_eq!(problems.to_string(), format!("{key} = \"1\" (dynamic, this broker): {expected}"));
    }
    // What DescribeConfigs tells of a topic: every place that had a say, strongest first.
    let told = config.describe_topic(&overrides(&[("retention.ms", "4000")]));
    let told = told.into_iter().find(|told| told.name == "retention.ms").unwrap();
    assert_eq!((told.value.as_deref(), &told.source, told.read_only), (Some("4000"), &Source::Topic, false));
    let chain: Vec<String> =
        told.synonyms.iter().map(|s| format!("{} {} {}", s.name, s.value, s.source)).collect();
    assert_eq!(
        chain,
        [
            "retention.ms 4000 topic",
            "log.retention.ms 3000 dynamic, this broker",
            "log.retention.ms 2000 dynamic, all brokers",
            "log.retention.ms 1000 flag --set",
            "log.retention.ms 604800000 default",
        ]
    );
    let told: Vec<(&str, Option<String>)> =
        config.describe_cluster().into_iter().map(|d| (d.name, d.value)).collect();
    assert_eq!(told, [("log.retention.ms", Some("2000".to_owned()))]);
}

/// Tools show synonyms under their names: hours must not be told in milliseconds.
#[test]
fn a_synonym_is_told_in_its_own_unit() {
    let config = load(&["log.retention.hours= 2 "]);
    let broker = config.describe_broker();
    let told = broker.iter().find(|told| told.name == "log.retention.ms").unwrap();
    assert_eq!(told.value.as_deref(), Some("7200000"));
    let given: Vec<(&str, &str)> = told.synonyms.iter().map(|s| (s.name, &*s.given)).collect();
    assert_eq!(given, [("log.retention.hours", "2"), ("log.retention.ms", "604800000")]);
}

/// What Kafka can change while it runs, of what there is here, and what an operator with a full disk wants to.
#[test]
fn these_of_a_brokers_own_keys_change_at_run_time() {
    let config = load(&[]);
    let broker = config.describe_broker();
    let is_own = |name: &&str| config.entries().iter().any(|e| e.broker == Some(*name) && e.topic.is_none());
    let dynamic = broker.iter().filter(|told| !told.read_only).map(|told| told.name).filter(is_own);
    assert_eq!(
        dynamic.collect::<Vec<&str>>(),
        [
            "log.cleaner.backoff.ms",
            "log.cleaner.dedupe.buffer.size",
            "log.cleaner.io.buffer.load.factor",
            "log.cleaner.io.max.bytes.per.second",
            "log.disk.high.watermark",
            "max.connections",
            "max.connections.per.ip",
            "producer.id.expiration.ms",
            "remote.fetch.max.wait.ms",
            "remote.list.offsets.request.timeout.ms",
        ]
    );
}
