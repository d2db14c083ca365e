//! Where values come from, and how they are written there.

use super::*;

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
    assert_eq!((broker.connections.count_max, broker.connections.per_address_max), (Some(100), Some(10)));
    assert_eq!(broker.topic_defaults.segments.bytes_max, ByteCount::mib(2));
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
