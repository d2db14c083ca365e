//! The tables of keys: defaults, bounds, units, order.

use super::*;

#[test]
fn without_anything_set_a_broker_is_as_kafka_has_it() {
    let config = load(&[]);
    let broker = config.broker();
    assert_eq!(broker.node, Node { id: BrokerId(1), rack: None });
    let any = Endpoint { host: String::new(), port: 9092 };
    let listener = Listener { name: "PLAINTEXT".to_owned(), bind: any.clone(), advertised: any };
    assert_eq!(broker.listeners, [listener]);
    assert_eq!(broker.tier, None);
    assert_eq!(broker.log.dir, PathBuf::from("aquifer-data"));
    assert_eq!(broker.log.files_open_max, None);
    let week = Duration::from_secs(7 * 24 * 3600);
    let topic = &broker.topic_defaults;
    assert_eq!(
        topic.retention,
        Retention { deletes: true, time: Some(week), bytes: None, local_time: Some(week), local_bytes: None }
    );
    assert!(!topic.tiered);
    assert_eq!(topic.segments.bytes_max, ByteCount::mib(1024));
    assert_eq!(topic.records.batch_bytes_max, ByteCount(1_048_588));
    assert_eq!(topic.durability, Durability::Fsync);
    assert_eq!(topic.min_insync_replicas, 1);
}

#[test]
fn with_a_tier_history_does_not_end() {
    let topic = load(&[STORE]).broker().topic_defaults.clone();
    let day = Some(Duration::from_secs(24 * 3600));
    assert_eq!(
        topic.retention,
        Retention { deletes: true, time: None, bytes: None, local_time: day, local_bytes: None }
    );
    assert!(topic.tiered);
}

/// The keys of a table without what belongs to one: names are used once, all are documented, sections are whole.
#[test]
fn the_tables_are_in_order() {
    let mut reader = Reader::of_broker(&[]);
    super::broker::read(&mut reader);
    let reading = reader.finish();
    assert_eq!(reading.problems, []);
    let (mut names, mut topics, mut sections) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
    for entry in &reading.entries {
        for name in entry.broker_names() {
            assert!(names.insert(name), "{name} is declared twice");
            assert!(!name.contains('_'), "{name} cannot be told from a dotted key in the environment");
        }
        assert!(entry.topic.is_none_or(|name| topics.insert(name)), "{:?} is declared twice", entry.topic);
        assert!(entry.doc.ends_with('.'), "{:?} has no doc", entry.broker);
        for (why, refused) in super::refused::reference() {
            let is_refused = |name| refused.iter().any(|(refused, _)| *refused == name);
            assert!(
                !entry.broker_names().any(is_refused),
                "{:?} is declared, and refused: {why}",
                entry.broker
            );
        }
        if sections.last() != Some(&entry.section) {
            assert!(!sections.contains(&entry.section), "section {} is in two pieces", entry.section);
            sections.push(entry.section);
        }
    }
}

/// Each number's bounds, taken from the key's own words, hold exactly: an end passes, one further does not.
#[test]
fn bounds_hold_at_both_ends() {
    let mut reader = Reader::of_broker(&[]);
    super::broker::read(&mut reader);
    let mut checked = 0;
    for entry in reader.finish().entries {
        let (Some(key), None) = (entry.broker, entry.fixed) else { continue };
        if !matches!(entry.value_type, ValueType::Int | ValueType::Long) {
            continue;
        }
        let words = entry.allowed.split(", or ").next().unwrap();
        let (min, max): (i64, Option<i64>) = match words.strip_prefix("at least ") {
            Some(min) => (min.parse().unwrap(), None),
            None => {
                let (min, max) = words.split_once(" to ").unwrap();
                (min.parse().unwrap(), Some(max.parse().unwrap()))
            }
        };
        let own_problem = |value: i64| {
            let loaded = Config::load(sets(&[&format!("{key}={value}")]));
            let bounds = format!("must be a whole number, {}", entry.allowed);
            loaded.err().is_some_and(|problems| problems.iter().any(|problem| problem.why == bounds))
        };
        assert!(!own_problem(min), "{key}={min} is refused");
        for below in min - 2..min {
            let special = entry.allowed.contains(&format!(", or {below} "));
            assert_eq!(own_problem(below), !special, "{key}={below}");
        }
        if let Some(max) = max {
            assert!(!own_problem(max), "{key}={max} is refused");
            assert!(own_problem(max + 1), "{key}={} is accepted", max + 1);
        }
        checked += 1;
    }
    assert!(checked > 50, "only {checked} keys have bounds");
}

#[test]
fn coarser_units_count_where_the_finer_is_not_given() {
    let retention = |given: &[&str]| load(given).broker().topic_defaults.retention.time;
    assert_eq!(retention(&["log.retention.hours=2"]), Some(Duration::from_secs(7200)));
    assert_eq!(
        retention(&["log.retention.hours=2", "log.retention.minutes=3"]),
        Some(Duration::from_secs(180))
    );
    assert_eq!(retention(&["log.retention.hours=2", "log.retention.ms=4"]), Some(Duration::from_millis(4)));
    assert_eq!(retention(&["log.retention.hours=-1"]), None);
    // The stronger place wins even in the coarser unit.
    let mut sources = file("log.retention.ms = 4");
    sources.sets.push("log.retention.hours=2".to_owned());
    let config = Config::load(sources).unwrap();
    assert_eq!(config.broker().topic_defaults.retention.time, Some(Duration::from_secs(7200)));
}
