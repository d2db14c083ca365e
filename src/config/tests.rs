//! The rules of configuration, as tables of what goes in and what comes out.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount};

use super::reader::Reader;
use super::*;

const STORE: &str = "tier.object.store=memory:///";

fn sets(sets: &[&str]) -> Sources {
    Sources { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Sources::default() }
}

fn file(text: &str) -> Sources {
    Sources {
        file: Some(FileText { path: "a.toml".to_owned(), text: text.to_owned() }),
        ..Sources::default()
    }
}

fn load(given: &[&str]) -> Config {
    Config::load(sets(given)).unwrap()
}

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn refused(sources: Sources, expected: &str) {
    assert_eq!(Config::load(sources).unwrap_err().to_string(), expected);
}

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
        Retention { time: Some(week), bytes: None, local_time: Some(week), local_bytes: None }
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
    assert_eq!(topic.retention, Retention { time: None, bytes: None, local_time: day, local_bytes: None });
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
        let special = entry.allowed.contains(&format!(", or {} ", min - 1));
        assert_eq!(own_problem(min - 1), !special, "{key}={}", min - 1);
        assert!(own_problem(min - 2), "{key}={} is accepted", min - 2);
        if let Some(max) = max {
            assert!(!own_problem(max), "{key}={max} is refused");
            assert!(own_problem(max + 1), "{key}={} is accepted", max + 1);
        }
        checked += 1;
    }
    assert!(checked > 50, "only {checked} keys have bounds");
}

#[test]
fn each_place_goes_before_those_above_it() {
    let value = |sources: Sources| {
        let config = Config::load(sources).unwrap();
        let told = config.describe_broker().into_iter().find(|told| told.name == "num.partitions").unwrap();
        (config.broker().topics.partitions, told.source.to_string())
    };
    let mut sources = Sources::default();
    assert_eq!(value(sources.clone()), (1, "default".to_owned()));
    let command = CommandDefault { command: "aquifer dev", key: "num.partitions", value: "2".to_owned() };
    sources.command.push(command);
    assert_eq!(value(sources.clone()), (2, "default of aquifer dev".to_owned()));
    sources.file = file("num.partitions = 3").file;
    assert_eq!(value(sources.clone()), (3, "file a.toml".to_owned()));
    sources.environment = vec![
        ("AQUIFER_NUM_PARTITIONS".to_owned(), "4".to_owned()),
        ("AQUIFER_BOOTSTRAP".to_owned(), "localhost:9092".to_owned()),
        ("NUM_PARTITIONS".to_owned(), "40".to_owned()),
    ];
    assert_eq!(value(sources.clone()), (4, "environment AQUIFER_NUM_PARTITIONS".to_owned()));
    sources.flags.push(Flag { flag: "--partitions", key: "num.partitions", value: "5".to_owned() });
    assert_eq!(value(sources.clone()), (5, "flag --partitions".to_owned()));
    sources.sets = vec!["num.partitions=6".to_owned(), "num.partitions=7".to_owned()];
    assert_eq!(value(sources), (7, "flag --set".to_owned()));
}

#[test]
fn a_file_may_nest_quote_and_list() {
    let text = r#"
        node.id = 7
        listeners = ["PLAINTEXT://127.0.0.1:9092", "INSIDE://[::1]:9093"]
        listener.security.protocol.map = "PLAINTEXT:PLAINTEXT,INSIDE:PLAINTEXT"
        log.disk.high.watermark = 0.8
        delete.topic.enable = false
        max.connections = 100
        "max.connections.per.ip" = 10
        [log.segment]
        bytes = 2_097_152
    "#;
    let config = Config::load(file(text)).unwrap();
    let broker = config.broker();
    assert_eq!(broker.node.id, BrokerId(7));
    let names: Vec<String> = broker.listeners.iter().map(|l| format!("{}={}", l.name, l.bind)).collect();
    assert_eq!(names, ["PLAINTEXT=127.0.0.1:9092", "INSIDE=[::1]:9093"]);
    assert_eq!(broker.log.disk_high_watermark, 0.8);
    assert!(!broker.topics.deletable);
    assert_eq!((broker.connections.count_max, broker.connections.per_address_max), (100, 10));
    assert_eq!(broker.topic_defaults.segments.bytes_max, ByteCount::mib(2));
}

#[test]
fn all_problems_are_told_at_once() {
    let mut sources =
        file("log.segmnt.bytes = 5\nretention.ms = 5\nsegment.index.bytes = 5\nlog.segment.bytes = 5");
    sources.environment = vec![("AQUIFER_NUM_PARTITION".to_owned(), "4".to_owned())];
    sources.sets =
        ["node.id=x", "log.dirs=/a,/b", "log.cleanup.policy=compact", "nonsense"].map(str::to_owned).into();
    let problems = Config::load(sources).unwrap_err().to_string();
    let mut lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.remove(0), "9 problems in the configuration:");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"  flag --set: "nonsense" is no key=value"#,
            r#"  log.cleanup.policy = "compact" (flag --set): compaction is not supported yet: only "delete" or nothing is accepted"#,
            r#"  log.dirs = "/a,/b" (flag --set): several log directories are not supported yet: name one"#,
            r#"  log.segment.bytes = "5" (file a.toml): must be a whole number, 1048576 to 2147483647"#,
            r#"  log.segmnt.bytes (file a.toml): unknown key; did you mean log.segment.bytes?"#,
            r#"  node.id = "x" (flag --set): must be a whole number, 0 to 2147483647"#,
            r#"  num.partition (environment AQUIFER_NUM_PARTITION): unknown key; did you mean AQUIFER_NUM_PARTITIONS?"#,
            r#"  retention.ms (file a.toml): is a key of topics; the default that a broker has for it is log.retention.ms"#,
            r#"  segment.index.bytes (file a.toml): is a key of topics; the default that a broker has for it is log.index.size.max.bytes"#,
        ]
    );
}

#[test]
fn a_single_problem_is_a_single_line() {
    for (set, expected) in [
        ("xyz.abc=1", "xyz.abc (flag --set): unknown key"),
        ("delete.topic.enable=yes", r#"delete.topic.enable = "yes" (flag --set): must be true or false"#),
        ("log.durability=sync", r#"log.durability = "sync" (flag --set): must be fsync or replicated"#),
        (
            "log.disk.high.watermark=90",
            r#"log.disk.high.watermark = "90" (flag --set): must be a number, 0.1 to 1"#,
        ),
        (
            "log.disk.high.watermark=NaN",
            r#"log.disk.high.watermark = "NaN" (flag --set): must be a number, 0.1 to 1"#,
        ),
        (
            "log.retention.ms=-2",
            r#"log.retention.ms = "-2" (flag --set): must be a whole number, at least 0, or -1 for no limit"#,
        ),
        (
            "logging.level=inof",
            r#"logging.level = "inof" (flag --set): must be error, warn, info, debug, trace, or target=level between commas"#,
        ),
        (
            "compression.type=zstd",
            r#"compression.type = "zstd" (flag --set): only the default "producer" is accepted: batches are kept as their producer compressed them, the broker never recompresses"#,
        ),
        (
            "log.flush.interval.messages=1",
            r#"log.flush.interval.messages = "1" (flag --set): only the default "9223372036854775807" is accepted: whether and when records are synced is set by `durability`"#,
        ),
        (
            "num.io.threads=16",
            r#"num.io.threads = "16" (flag --set): not supported: Aquifer sizes its threads and socket buffers by the machine, and its queues in bytes by queued.max.request.bytes; only "8" is accepted"#,
        ),
        (
            "ssl.keystore.location=/k",
            r#"ssl.keystore.location = "/k" (flag --set): not supported: TLS, SASL and ACLs are not there yet"#,
        ),
        (
            "zookeeper.connect=z:2181",
            r#"zookeeper.connect = "z:2181" (flag --set): not supported: Kafka 4 has it no more"#,
        ),
        ("listeners=", r#"listeners = "" (flag --set): must name at least one listener"#),
        (
            "listeners=localhost:9092",
            r#"listeners = "localhost:9092" (flag --set): "localhost:9092" is no NAME://host:port"#,
        ),
        (
            "listeners=SSL://:9093",
            r#"listeners = "SSL://:9093" (flag --set): listener SSL: TLS and SASL are not supported yet, only PLAINTEXT is"#,
        ),
        (
            "listeners=A://:9093",
            r#"listeners = "A://:9093" (flag --set): listener A has no protocol: add A:PLAINTEXT to listener.security.protocol.map"#,
        ),
        (
            "listeners=PLAINTEXT://::1:9093",
            r#"listeners = "PLAINTEXT://::1:9093" (flag --set): "::1:9093": an IPv6 address stands in brackets"#,
        ),
        (
            "listeners=PLAINTEXT://a:99999",
            r#"listeners = "PLAINTEXT://a:99999" (flag --set): "a:99999" has no port between 0 and 65535"#,
        ),
        (
            "advertised.listeners=PLAINTEXT://0.0.0.0:1",
            r#"advertised.listeners = "PLAINTEXT://0.0.0.0:1" (flag --set): clients cannot connect to 0.0.0.0:1: advertise a name or an address of this machine"#,
        ),
        (
            "advertised.listeners=B://a:1",
            r#"advertised.listeners = "B://a:1" (flag --set): listener B is not among `listeners`"#,
        ),
        (
            "listener.security.protocol.map=PLAINTEXT:SSL",
            r#"listener.security.protocol.map = "PLAINTEXT:SSL" (flag --set): "PLAINTEXT:SSL": TLS and SASL are not supported yet, only PLAINTEXT is"#,
        ),
        (
            "tier.object.store=bucket",
            r#"tier.object.store = "bucket" (flag --set): is no URL (relative URL without a base): use s3://, file:/// or memory:///"#,
        ),
        (
            "tier.object.store=ftp://bucket",
            r#"tier.object.store = "ftp://bucket" (flag --set): scheme "ftp" is not supported: use s3://, file:/// or memory:///"#,
        ),
        (
            "tier.object.store=file://dir/x",
            r#"tier.object.store = "file://dir/x" (flag --set): an absolute path has three slashes: file:///dir/x"#,
        ),
        (
            "tier.object.store=s3:///x",
            r#"tier.object.store = "s3:///x" (flag --set): names no bucket: use s3://bucket/prefix"#,
        ),
        (
            "tier.object.store=s3://a:b@c/x",
            r#"tier.object.store = "s3://a:b@c/x" (flag --set): must not hold credentials: they are found as AWS tools find theirs"#,
        ),
        (
            "tier.delete.grace.ms=5000",
            r#"tier.delete.grace.ms = "5000" (flag --set): must exceed tier.manifest.age.max.ms, or readers meet deleted objects"#,
        ),
        (
            "raft.heartbeat.interval.ms=2000",
            r#"raft.heartbeat.interval.ms = "2000" (flag --set): must be below raft.election.timeout.min.ms"#,
        ),
        (
            "tier.store.attempt.ms=40000",
            r#"tier.store.attempt.ms = "40000" (flag --set): must not exceed tier.store.deadline.ms"#,
        ),
        (
            "tier.store.backoff.ms=4000",
            r#"tier.store.backoff.ms = "4000" (flag --set): must not exceed tier.store.backoff.max.ms"#,
        ),
        (
            "tier.read.first.bytes=3000000",
            r#"tier.read.first.bytes = "3000000" (flag --set): must divide tier.read.chunk.bytes"#,
        ),
    ] {
        refused(sets(&[set]), expected);
    }
}

#[test]
fn kafkas_values_that_are_ours_anyway_are_accepted() {
    load(&[
        "num.io.threads=8",
        "process.roles=broker,controller",
        "log.cleaner.enable=true",
        "compression.type=producer",
    ]);
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    refused(
        file("node.id = 1\nlisteners = PLAINTEXT"),
        "file a.toml: line 2: string values must be quoted, expected literal string",
    );
    let problem =
        Config::load(file("max.connections = 1\nmax.connections.per.ip = 2")).unwrap_err().to_string();
    assert!(problem.starts_with("file a.toml: line 2: "), "{problem}");
    assert!(problem.ends_with(r#"must be quoted, as in "max.connections.per.ip" = 10"#), "{problem}");
    refused(
        file("\"node.id\" = 1\n[node]\nid = 2"),
        "node.id (file a.toml): is given twice, once quoted and once as a table",
    );
    refused(
        file("node.id = 2020-01-01"),
        "node.id (file a.toml): must be a number, true, false, a text or a list of texts",
    );
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
        Retention { time: None, bytes: None, local_time: Some(hour), local_bytes: None }
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
            &plain,
            &[("cleanup.policy", "compact,delete")],
            r#"cleanup.policy = "compact,delete" (topic): compaction is not supported yet: only "delete" or nothing is accepted"#,
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
            r#"cleanup.policy = "delete,compact" (topic): compaction is not supported yet: only "delete" or nothing is accepted"#,
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

const KAFKA_TOPIC_KEYS: &str = "cleanup.policy compression.gzip.level compression.lz4.level compression.type
    compression.zstd.level delete.retention.ms file.delete.delay.ms flush.messages flush.ms
    follower.replication.throttled.replicas index.interval.bytes leader.replication.throttled.replicas local.retention.bytes
    local.retention.ms max.compaction.lag.ms max.message.bytes message.timestamp.after.max.ms message.timestamp.before.max.ms
    message.timestamp.type min.cleanable.dirty.ratio min.compaction.lag.ms min.insync.replicas preallocate
    remote.log.copy.disable remote.log.delete.on.disable remote.storage.enable retention.bytes retention.ms segment.bytes
    segment.index.bytes segment.jitter.ms segment.ms unclean.leader.election.enable";

#[test]
fn what_is_printed_is_a_configuration_file() {
    let given =
        [STORE, "log.retention.hours=2", "max.connections.per.ip=3", "broker.rack=a\"b", "num.partitions=12"];
    let config = load(&given);
    let printed = config.print();
    let again = Config::load(file(&printed)).unwrap();
    assert_eq!(config.broker(), again.broker());
    let line = |start: &str| printed.lines().find(|line| line.starts_with(start)).unwrap().to_owned();
    assert!(line("log.retention.ms ").ends_with("# flag --set, as log.retention.hours"));
    assert!(line("num.partitions = 12 ").ends_with("  # flag --set"));
    assert!(line("\"max.connections.per.ip\" = 3 ").ends_with("  # flag --set"));
    assert!(line("fetch.max.bytes = 57671680 ").ends_with("  # default"));
    let json = config.print_json();
    let told = json.as_array().unwrap().iter().find(|told| told["key"] == "num.partitions").unwrap();
    assert_eq!(
        told.to_string(),
        r#"{"is_default":false,"key":"num.partitions","source":"flag --set","value":"12"}"#
    );
}
