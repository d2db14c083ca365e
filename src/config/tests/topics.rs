//! What topics are configured to.

use super::*;

#[test]
fn a_topics_config_goes_before_the_brokers() {
    let config = load(&["log.segment.bytes=2097152", "log.durability=replicated"]);
    let topic = config.check_topic(&overrides(&[("segment.bytes", " 3145728 ")])).unwrap();
    assert_eq!(topic.segments.bytes_max, ByteCount::mib(3));
    assert_eq!(topic.durability, Durability::Replicated);
    assert_eq!(&config.check_topic(&Overrides::new()).unwrap(), &config.broker().topic_defaults);
}

#[test]
fn local_retention_follows_from_the_total() {
    let day = Duration::from_secs(24 * 3600);
    let hour = Duration::from_secs(3600);
    let local = |brokers: &[&str], topics: &[(&str, &str)]| {
        let retention = load(brokers).check_topic(&overrides(topics)).unwrap().retention;
        (retention.local_time, retention.local_bytes)
    };
    assert_eq!(local(&[STORE], &[]), (Some(day), None));
    // What a topic inherits yields to what it sets.
    assert_eq!(local(&[STORE], &[("retention.ms", "3600000")]), (Some(hour), None));
    assert_eq!(
        local(&[STORE, "log.local.retention.ms=-1"], &[("retention.ms", "3600000")]),
        (Some(hour), None)
    );
    assert_eq!(
        local(&[STORE], &[("local.retention.ms", "-2"), ("retention.ms", "3600000")]),
        (Some(hour), None)
    );
    assert_eq!(local(&[STORE], &[("local.retention.ms", "-1")]), (None, None));
    assert_eq!(local(&[STORE], &[("retention.bytes", "5000")]), (Some(day), Some(ByteCount(5000))));
    // A topic that is not tiered has its total on disk.
    let plain =
        &[("remote.storage.enable", "false"), ("retention.ms", "3600000"), ("local.retention.ms", "7200000")];
    assert_eq!(local(&[STORE], plain), (Some(hour), None));
    // Without a policy records stay for ever, in the bucket.
    let kept = load(&[STORE])
        .check_topic(&overrides(&[("cleanup.policy", ""), ("retention.ms", "3600000")]))
        .unwrap();
    assert_eq!(
        kept.retention,
        Retention { deletes: false, time: None, bytes: None, local_time: Some(hour), local_bytes: None }
    );
}

#[test]
fn topics_configs_that_are_not_allowed() {
    let tiered = load(&[STORE]);
    let plain = load(&[]);
    for (config, given, expected) in [
        (
            &tiered,
            &[("retention.ms", "1000"), ("local.retention.ms", "2000")][..],
            r#"local.retention.ms = "2000" (topic): must not exceed retention.ms"#,
        ),
        (
            &tiered,
            &[("retention.bytes", "1000"), ("local.retention.bytes", "-1")],
            r#"local.retention.bytes = "-1" (topic): must not exceed retention.bytes"#,
        ),
        (
            &plain,
            &[("remote.storage.enable", "true")],
            r#"remote.storage.enable = "true" (topic): only the default "false" is accepted: the brokers have no tier: set tier.object.store"#,
        ),
        (
            &tiered,
            &[("cleanup.policy", "compact,delete"), ("remote.storage.enable", "true")],
            r#"cleanup.policy = "compact,delete" (topic): a topic cannot be compacted and tiered at once yet: its remote.storage.enable has to be false"#,
        ),
        (
            &plain,
            &[("segment.bytes", "1048575")],
            r#"segment.bytes = "1048575" (topic): must be a whole number, 1048576 to 2147483647"#,
        ),
        (
            &plain,
            &[("flush.ms", "1")],
            r#"flush.ms = "1" (topic): only the default "9223372036854775807" is accepted: whether and when records are synced is set by `durability`"#,
        ),
        (
            &plain,
            &[("preallocate", "TRUE")],
            r#"preallocate = "TRUE" (topic): only the default "false" is accepted: segments grow as they are written"#,
        ),
        (
            &plain,
            &[("leader.replication.throttled.replicas", "*")],
            r#"leader.replication.throttled.replicas = "*" (topic): only the default "" is accepted: replication is not throttled yet"#,
        ),
        (
            &plain,
            &[("min.compaction.lag.ms", "9"), ("max.compaction.lag.ms", "8")],
            r#"min.compaction.lag.ms = "9" (topic): must not exceed max.compaction.lag.ms"#,
        ),
        (
            &plain,
            &[("retention.mss", "1")],
            "retention.mss (topic): unknown key of a topic; did you mean retention.ms?",
        ),
        (
            &plain,
            &[("log.segment.bytes", "1")],
            "log.segment.bytes (topic): is a key of brokers; a topic calls it segment.bytes",
        ),
        (
            &plain,
            &[("message.format.version", "2.8")],
            "message.format.version (topic): not supported: Kafka 4 has it no more",
        ),
    ] {
        assert_eq!(config.check_topic(&overrides(given)).unwrap_err().to_string(), expected);
    }
}

#[test]
fn a_stored_topic_that_is_no_longer_allowed_still_has_a_config() {
    let stored = overrides(&[
        ("remote.storage.enable", "true"),
        ("segment.bytes", "2097152"),
        ("from.the.future", "1"),
    ]);
    let (topic, problems) = load(&[]).topic(&stored);
    assert_eq!(topic.segments.bytes_max, ByteCount::mib(2));
    assert!(!topic.tiered);
    let keys: Vec<&str> = problems.iter().map(|problem| problem.key.as_str()).collect();
    assert_eq!(keys, ["remote.storage.enable", "from.the.future"]);
}

#[test]
fn a_compacted_topic_is_made_outside_of_the_bucket_and_one_that_is_in_it_stays() {
    let compact = [("cleanup.policy", "compact")];
    let (tiered, plain) = (load(&[STORE]), load(&[]));
    let outside = overrides(&[compact[0], ("remote.storage.enable", "false")]);
    for config in [&tiered, &plain] {
        assert_eq!(config.for_new_topic(&overrides(&compact)), outside);
        assert_eq!(config.for_new_topic(&overrides(&[])), overrides(&[]));
        let topic = config.check_topic(&outside).unwrap();
        assert_eq!((topic.compaction, topic.tiered), (Some(Compaction::default()), false));
        // Compacted alone, it is kept for ever; with `delete`, by its retention.
        assert_eq!(topic.retention.time, None);
        let both = overrides(&[("cleanup.policy", "compact, delete"), ("retention.ms", "5")]);
        let both = config.check_topic(&config.for_new_topic(&both)).unwrap();
        assert_eq!(both.retention.time, Some(Duration::from_millis(5)));
        assert!(both.compaction.is_some());
    }
    // What asks for both is refused; what the brokers' default would make so stays in the bucket.
    let both = overrides(&[compact[0], ("remote.storage.enable", "true")]);
    assert_eq!(tiered.for_new_topic(&both), both);
    assert!(tiered.check_topic(&both).is_err());
    let compacting = load(&[STORE, "log.cleanup.policy=compact"]);
    let (topic, problems) = compacting.topic(&overrides(&[]));
    assert_eq!((topic.tiered, topic.compaction, problems.len()), (true, None, 0));
    assert_eq!(compacting.for_new_topic(&overrides(&[])), overrides(&[("remote.storage.enable", "false")]));
    let settings = [
        ("delete.retention.ms", "1"),
        ("min.compaction.lag.ms", "2"),
        ("max.compaction.lag.ms", "3"),
        ("min.cleanable.dirty.ratio", "0.25"),
    ];
    let set = plain.check_topic(&overrides(&[&compact[..], &settings].concat())).unwrap().compaction.unwrap();
    let millis = Duration::from_millis;
    let expected = Compaction {
        delete_retention: millis(1),
        lag_min: millis(2),
        lag_max: Some(millis(3)),
        dirty_ratio_min: 0.25,
    };
    assert_eq!(set, expected);
}
