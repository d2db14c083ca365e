//! Settings.

use super::*;

#[test]
fn settings_are_set_and_taken_back_within_bounds() {
    let changes = |changes: &[(&str, Option<&str>)]| -> ConfigChanges {
        changes.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    };
    let on_topic = |set| {
        Command::SetTopicConfigs(SetTopicConfigs {
            topic: topic(1001),
            changes: set,
            known: KnownConfigs::new(),
        })
    };
    let on_broker = |broker: Option<i32>, set| {
        Command::SetBrokerConfigs(SetBrokerConfigs {
            broker: broker.map(BrokerId),
            changes: set,
            known: KnownConfigs::new(),
        })
    };
    let image = check(
        vec![
            on_topic(changes(&[("retention.ms", Some("1")), ("segment.bytes", Some("2"))])),
            on_topic(changes(&[("retention.ms", None), ("segment.bytes", Some("3")), ("flush.ms", None)])),
        ],
        DONE,
    );
    assert_eq!(
        *image.topic(topic(1001)).unwrap().configs,
        [("segment.bytes".to_owned(), "3".to_owned())].into()
    );
    let image = check(
        vec![on_broker(None, changes(&[("a", Some("1"))])), on_broker(Some(4), changes(&[("a", Some("2"))]))],
        DONE,
    );
    assert_eq!(image.broker_configs(None)["a"], "1");
    assert_eq!(image.broker_configs(Some(BrokerId(4)))["a"], "2");
    assert!(image.broker_configs(Some(BrokerId(1))).is_empty());
    let cleared = check(
        vec![on_broker(None, changes(&[("a", Some("1"))])), on_broker(None, changes(&[("a", None)]))],
        DONE,
    );
    assert!(cleared.broker_configs.is_empty());

    let many: ConfigChanges = (0..=CONFIGS_MAX).map(|n| (format!("k{n}"), Some(String::new()))).collect();
    for (command, expected) in [
        (on_topic(many.clone()), Rejected::InvalidConfigs("there are too many")),
        (on_broker(None, many), Rejected::InvalidConfigs("there are too many")),
        (on_topic(changes(&[("", Some("1"))])), Rejected::InvalidConfigs("a key is empty or too long")),
        (
            on_topic(changes(&[("a", Some(&"x".repeat(CONFIG_VALUE_BYTES_MAX + 1)))])),
            Rejected::InvalidConfigs("a value is too long"),
        ),
        (on_broker(Some(9), changes(&[("a", Some("1"))])), Rejected::UnknownBroker(BrokerId(9))),
    ] {
        check(vec![command], Err(expected));
    }
}

#[test]
fn groups_have_settings_whether_they_are_there_or_not() {
    let on_group = |group: &str, key: &str, value: Option<&str>| {
        let changes = [(key.to_owned(), value.map(str::to_owned))].into();
        Command::SetGroupConfigs(SetGroupConfigs {
            group: group.to_owned(),
            changes,
            known: KnownConfigs::new(),
        })
    };
    let image = check(
        vec![
            on_group("g", "a", Some("1")),
            on_group("g", "b", Some("2")),
            on_group("h", "a", Some("3")),
            on_group("h", "a", None),
            on_group("i", "a", None),
        ],
        DONE,
    );
    assert_eq!(
        *image.group_configs("g"),
        [("a", "1"), ("b", "2")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    );
    assert_eq!(image.configured_groups().collect::<Vec<_>>(), ["g"]);
    let mut again = image.clone();
    ok(&mut again, on_group("g", "a", Some("1")));
    assert!(Arc::ptr_eq(&again.group_configs, &image.group_configs), "what changes nothing copies nothing");

    let nameless = "the name of the group is empty or too long";
    for (command, expected) in [
        (on_group("", "a", Some("1")), Err(Rejected::InvalidConfigs(nameless))),
        (on_group(&"g".repeat(GROUP_NAME_BYTES_MAX), "a", Some("1")), DONE),
        (
            on_group(&"g".repeat(GROUP_NAME_BYTES_MAX + 1), "a", Some("1")),
            Err(Rejected::InvalidConfigs(nameless)),
        ),
        (on_group("g", "", Some("1")), Err(Rejected::InvalidConfigs("a key is empty or too long"))),
    ] {
        check(vec![command], expected);
    }
    let mut full = cluster();
    for group in 0..CONFIGURED_GROUPS_MAX {
        ok(&mut full, on_group(&group.to_string(), "a", Some("1")));
    }
    let one_more = apply(&mut full.clone(), &on_group("g", "a", Some("1")));
    assert_eq!(one_more, Err(Rejected::InvalidConfigs("too many groups have settings of their own")));
    ok(&mut full, on_group("0", "b", Some("1")));
    ok(&mut full, on_group("g", "a", None));
}

/// Two who add to one list from the same knowledge: the second has to look again, or the first one's addition would be lost.
#[test]
fn settings_that_changed_meanwhile_are_not_overwritten() {
    let pairs = |pairs: &[(&str, Option<&str>)]| -> ConfigChanges {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
    };
    let on_topic = |changes: &[(&str, Option<&str>)], known: &[(&str, Option<&str>)]| {
        let (changes, known) = (pairs(changes), pairs(known));
        Command::SetTopicConfigs(SetTopicConfigs { topic: topic(1001), changes, known })
    };
    let on_broker = |changes: &[(&str, Option<&str>)], known: &[(&str, Option<&str>)]| {
        let (changes, known) = (pairs(changes), pairs(known));
        Command::SetBrokerConfigs(SetBrokerConfigs { broker: None, changes, known })
    };
    let first = [("list", Some("a"))];
    let stale = || Err(Rejected::StaleConfigs("list".to_owned()));
    for (changes, known, expected) in [
        (&[("list", Some("b"))][..], &[("list", None)][..], stale()),
        (&[("list", None)], &[("list", Some("b"))], stale()),
        // All or nothing.
        (&[("other", Some("1"))], &[("list", None)], stale()),
        (&[("list", Some("a,b"))], &[("list", Some("a"))], DONE),
        (&[("list", Some("b"))], &[("other", None)], DONE),
        // Whoever only sets knows nothing, and the last one counts.
        (&[("list", Some("b"))], &[], DONE),
    ] {
        let image =
            check(vec![on_topic(&first, &[("list", None)]), on_topic(changes, known)], expected.clone());
        let list = image.topic(topic(1001)).unwrap().configs.get("list").cloned();
        assert_eq!(list.as_deref() == Some("a"), expected != DONE, "{changes:?}");
        check(vec![on_broker(&first, &[("list", None)]), on_broker(changes, known)], expected);
    }
}
