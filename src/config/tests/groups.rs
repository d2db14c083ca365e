//! What groups are configured to.

use super::*;

const SESSION: &str = "consumer.session.timeout.ms";
const HEARTBEAT: &str = "consumer.heartbeat.interval.ms";

#[test]
fn altering_a_group_gives_new_strings_or_all_problems() {
    use Alteration::{Append, Delete, Set};
    let config = load(&["group.consumer.max.heartbeat.interval.ms=50000"]);
    let text = str::to_owned;
    let alter = |stored: &[(&str, &str)], alterations: &[(&str, Alteration)]| {
        let named: Vec<_> =
            alterations.iter().map(|(key, alteration)| (text(key), alteration.clone())).collect();
        config.alter_group(&overrides(stored), &named).map_err(|problems| problems.to_string())
    };
    let set = |key, value: &str| (key, Set(text(value)));
    let both = [(SESSION, "50000"), (HEARTBEAT, "8000")];
    for (stored, alterations, expected) in [
        (&[][..], vec![set(SESSION, " 050000 ")], &[(SESSION, "50000")][..]),
        (
            &[],
            vec![set(SESSION, "45000"), set(HEARTBEAT, "5000")],
            &[(SESSION, "45000"), (HEARTBEAT, "5000")],
        ),
        (&both, vec![(SESSION, Delete)], &[(HEARTBEAT, "8000")]),
        (&both, vec![(SESSION, Delete), (HEARTBEAT, Delete)], &[]),
        (&[("from.the.future", "1")], vec![("from.the.future", Delete)], &[]),
    ] {
        assert_eq!(alter(stored, &alterations), Ok(overrides(expected)), "{alterations:?}");
    }
    for (stored, alterations, expected) in [
        (
            &[][..],
            vec![set(SESSION, "44999")],
            r#"consumer.session.timeout.ms = "44999" (group): must lie between group.consumer.min.session.timeout.ms and group.consumer.max.session.timeout.ms (45000 to 60000)"#,
        ),
        (
            &[],
            vec![set(HEARTBEAT, "4999")],
            r#"consumer.heartbeat.interval.ms = "4999" (group): must lie between group.consumer.min.heartbeat.interval.ms and group.consumer.max.heartbeat.interval.ms (5000 to 50000)"#,
        ),
        (
            &[],
            vec![set(HEARTBEAT, "soon")],
            r#"consumer.heartbeat.interval.ms = "soon" (group): must be a whole number, 1 to 2147483647"#,
        ),
        (
            &[],
            vec![set(HEARTBEAT, "45000")],
            r#"consumer.heartbeat.interval.ms = "45000" (group): must be shorter than the session (45000)"#,
        ),
        (
            &[(HEARTBEAT, "47000"), (SESSION, "48000")],
            vec![(SESSION, Delete)],
            r#"consumer.heartbeat.interval.ms = "47000" (group): must be shorter than the session (45000)"#,
        ),
        (
            &[],
            vec![(SESSION, Append(text("1")))],
            r#"consumer.session.timeout.ms = "1" (group): is no list: items cannot be added to it or taken from it"#,
        ),
        (
            &[],
            vec![set("share.session.timeout.ms", "45000")],
            r#"share.session.timeout.ms = "45000" (group): not supported: a group is no share group and no streams group: there are none yet"#,
        ),
        (
            &[],
            vec![set("consumer.assignment.interval.ms", "0")],
            r#"consumer.assignment.interval.ms = "0" (group): not supported: members are assigned anew by the next heartbeat, on the spot"#,
        ),
        (
            &[],
            vec![set("group.consumer.session.timeout.ms", "45000")],
            r#"group.consumer.session.timeout.ms = "45000" (group): is a key of brokers; a group calls it consumer.session.timeout.ms"#,
        ),
        (
            &[],
            vec![set("consumer.session.timeout", "45000")],
            r#"consumer.session.timeout = "45000" (group): unknown key of a group; did you mean consumer.session.timeout.ms?"#,
        ),
        (&[], vec![set("retention.ms", "1")], r#"retention.ms = "1" (group): unknown key of a group"#),
        (
            &[("from.the.future", "1")],
            vec![set(SESSION, "45000")],
            "from.the.future (group): unknown key of a group",
        ),
    ] {
        assert_eq!(alter(stored, &alterations), Err(text(expected)), "{alterations:?}");
    }
    // Where the brokers' own interval is as long as the session that a group asks for.
    let slow = load(&[
        "group.consumer.max.heartbeat.interval.ms=50000",
        "group.consumer.heartbeat.interval.ms=50000",
        "group.consumer.session.timeout.ms=60000",
    ]);
    let short = slow.alter_group(&Overrides::new(), &[(text(SESSION), Set(text("50000")))]).unwrap_err();
    assert_eq!(
        short.to_string(),
        r#"consumer.session.timeout.ms = "50000" (group): must be longer than the time between two heartbeats (50000)"#
    );
}

#[test]
fn a_groups_time_goes_before_the_brokers_and_keeps_to_their_bounds() {
    let config = load(&["group.consumer.session.timeout.ms=50000"]);
    let time = config.broker().groups.consumer.session_timeout;
    for (own, seconds) in [
        (&[][..], 50),
        (&[(HEARTBEAT, "8000")], 50),
        (&[(SESSION, "55000")], 55),
        // As another broker may have stored it.
        (&[(SESSION, "1")], 45),
        (&[(SESSION, "9000000")], 60),
        (&[(SESSION, "long")], 50),
    ] {
        assert_eq!(time.of(&overrides(own)), Duration::from_secs(seconds), "{own:?}");
    }
}

#[test]
fn a_member_is_heard_of_before_its_session_ends() {
    let own = overrides(&[(SESSION, "48000")]);
    for (heartbeat, expected) in [("5000", 5), ("47000", 47), ("48000", 16), ("50000", 16)] {
        let config = load(&[
            "group.consumer.max.heartbeat.interval.ms=50000",
            "group.consumer.session.timeout.ms=60000",
            &format!("group.consumer.heartbeat.interval.ms={heartbeat}"),
        ]);
        let groups = config.broker().groups.consumer.clone();
        assert_eq!(groups.heartbeat_of(&own), Duration::from_secs(expected), "{heartbeat}");
    }
}

#[test]
fn a_group_is_described_by_its_keys_alone() {
    let config = load(&["group.consumer.session.timeout.ms=50000"]);
    let described = config.describe_group(&overrides(&[(SESSION, "55000")]));
    let told: Vec<(&str, Option<&str>, &Source)> =
        described.iter().map(|key| (key.name, key.value.as_deref(), &key.source)).collect();
    let (default, set, own) = (&Source::Default, &Source::Set, &Source::Group);
    assert_eq!(told, [(HEARTBEAT, Some("5000"), default), (SESSION, Some("55000"), own)]);
    let synonyms = |key: usize| -> Vec<(&str, &Source)> {
        described[key].synonyms.iter().map(|setting| (setting.name, &setting.source)).collect()
    };
    assert_eq!(synonyms(0), [("group.consumer.heartbeat.interval.ms", default)]);
    let of_brokers = "group.consumer.session.timeout.ms";
    assert_eq!(synonyms(1), [(SESSION, own), (of_brokers, set), (of_brokers, default)]);
    assert!(described.iter().all(|key| !key.read_only));
}
