//! Kafka's own command-line tools, as operators type them, against a broker: that each does what it is there for, and says so.

use crate::broker::Broker;
use crate::pins::{Pins, installed};
use crate::run::{command, run, shown};
use crate::stages::Stages;
use crate::{places, scenario};
use anyhow::{Context, Result, ensure};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

/// Longer than any of them may take on a busy machine.
const TIMEOUT_SECONDS: &str = "120";
const RECORDS: usize = 1000;

/// One call of a tool.
struct Call {
    /// Its main class.
    main: &'static str,
    words: &'static str,
    /// All of this stands in what it says.
    says: &'static [&'static str],
    ends: Ends,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    Well,
    /// Because what it asks for is refused.
    Badly,
}

const fn call(main: &'static str, words: &'static str, says: &'static [&'static str]) -> Call {
    Call { main, words, says, ends: Ends::Well }
}

const fn refused(main: &'static str, words: &'static str, says: &'static [&'static str]) -> Call {
    Call { main, words, says, ends: Ends::Badly }
}

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";
const OFFSETS: &str = "org.apache.kafka.tools.GetOffsetShell";
const LOG_DIRS: &str = "org.apache.kafka.tools.LogDirsCommand";
const FEATURES: &str = "org.apache.kafka.tools.FeatureCommand";
const CLUSTER: &str = "org.apache.kafka.tools.ClusterTool";
const API_VERSIONS: &str = "org.apache.kafka.tools.BrokerApiVersionsCommand";
const QUORUM: &str = "org.apache.kafka.tools.MetadataQuorumCommand";
const ELECTION: &str = "org.apache.kafka.tools.LeaderElectionCommand";
const PRODUCER: &str = "org.apache.kafka.tools.ConsoleProducer";
const CONSUMER: &str = "org.apache.kafka.tools.consumer.ConsoleConsumer";
const VERIFIABLE_PRODUCER: &str = "org.apache.kafka.tools.VerifiableProducer";
const PRODUCER_PERFORMANCE: &str = "org.apache.kafka.tools.ProducerPerformance";
const DELETE_RECORDS: &str = "org.apache.kafka.tools.DeleteRecordsCommand";

/// In this order: what one does the next sees.
const CALLS: &[Call] = &[
    call(
        TOPICS,
        "--create --topic ops --partitions 1 --config retention.ms=86400000",
        &["Created topic ops."],
    ),
    // Takes its records from stdin, as the one tool that does.
    call(PRODUCER, "--topic ops", &[]),
    call(TOPICS, "--alter --topic ops --partitions 3", &[]),
    call(
        TOPICS,
        "--describe --topic ops",
        &["PartitionCount: 3", "retention.ms=86400000", "Partition: 2\tLeader: 1\tReplicas: 1\tIsr: 1"],
    ),
    call(
        CONSUMER,
        "--topic ops --from-beginning --max-messages 1000 --timeout-ms 60000",
        &["record 0\n", "record 999\n", "Processed a total of 1000 messages"],
    ),
    call(OFFSETS, "--topic ops", &["ops:0:1000", "ops:1:0", "ops:2:0"]),
    call(OFFSETS, "--topic ops --time earliest", &["ops:0:0"]),
    call(
        CONFIGS,
        "--alter --entity-type topics --entity-name ops --add-config segment.ms=3600000",
        &["Completed"],
    ),
    call(
        CONFIGS,
        "--describe --entity-type topics --entity-name ops",
        &["segment.ms=3600000", "DYNAMIC_TOPIC_CONFIG:retention.ms=86400000"],
    ),
    call(
        CONFIGS,
        "--alter --entity-type brokers --entity-name 1 --add-config log.cleaner.backoff.ms=1000",
        &["Completed"],
    ),
    call(
        CONFIGS,
        "--alter --entity-type brokers --entity-default --add-config max.connections=900",
        &["Completed"],
    ),
    call(
        CONFIGS,
        "--describe --entity-type brokers",
        &[
            "DYNAMIC_BROKER_CONFIG:log.cleaner.backoff.ms=1000",
            "DYNAMIC_DEFAULT_BROKER_CONFIG:max.connections=900",
        ],
    ),
    refused(
        CONFIGS,
        "--alter --entity-type brokers --entity-name 1 --add-config num.io.threads=16",
        &["InvalidConfigurationException", "not supported"],
    ),
    // A group that is not there yet.
    call(
        CONFIGS,
        "--alter --entity-type groups --entity-name readers --add-config consumer.session.timeout.ms=50000,consumer.heartbeat.interval.ms=8000",
        &["Completed updating config for group readers."],
    ),
    call(
        CONFIGS,
        "--describe --entity-type groups --entity-name readers",
        &[
            "consumer.heartbeat.interval.ms=8000",
            "DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000, DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000",
        ],
    ),
    call(
        CONFIGS,
        "--alter --entity-type groups --entity-name readers --delete-config consumer.heartbeat.interval.ms",
        &["Completed"],
    ),
    call(
        CONFIGS,
        "--describe --entity-type groups",
        &["configs for group readers", "consumer.session.timeout.ms=50000"],
    ),
    refused(
        CONFIGS,
        "--alter --entity-type groups --entity-name readers --add-config share.session.timeout.ms=50000",
        &["InvalidConfigurationException", "not supported"],
    ),
    call(
        CONFIGS,
        "--alter --entity-type users --entity-name alice --add-config producer_byte_rate=1048576",
        &["Completed"],
    ),
    // Asks for credentials behind the quotas: of all users, and of one.
    call(CONFIGS, "--describe --entity-type users", &["'alice'", "producer_byte_rate=1048576.0"]),
    call(
        CONFIGS,
        "--describe --entity-type users --entity-name alice",
        &["Quota configs for user-principal 'alice' are producer_byte_rate=1048576.0"],
    ),
    refused(
        CONFIGS,
        "--alter --entity-type users --entity-name alice --add-config SCRAM-SHA-256=[password=secret]",
        &["UnsupportedVersionException"],
    ),
    call(LOG_DIRS, "--describe --topic-list ops", &["\"partition\":\"ops-0\"", "\"error\":null"]),
    call(FEATURES, "describe", &["aquifer.version"]),
    refused(FEATURES, "upgrade --feature aquifer.version=32000", &["Could not upgrade aquifer.version"]),
    call(CLUSTER, "cluster-id", &["Cluster ID: "]),
    call(CLUSTER, "list-endpoints", &["unfenced"]),
    call(API_VERSIONS, "", &["DescribeTopicPartitions(75): 0 [usable: 0]"]),
    call(QUORUM, "describe --status", &["LeaderId:               1", "MaxFollowerLag:         0"]),
    call(QUORUM, "describe --replication", &["Leader"]),
    call(
        ELECTION,
        "--election-type preferred --topic ops --partition 0",
        &["Valid replica already elected for partitions ops-0"],
    ),
    call(VERIFIABLE_PRODUCER, "--topic verified --max-messages 500 --throughput -1", &["\"acked\":500"]),
    call(
        PRODUCER_PERFORMANCE,
        "--topic fast --num-records 1000 --record-size 200 --throughput -1",
        &["1000 records sent"],
    ),
];

/// Runs all of them against a broker of its own.
pub(crate) fn run_on(stages: &mut Stages, binary: &Path) -> Result<()> {
    let jars = install()?;
    let (_server, url) = scenario::store("file", "tools")?;
    let broker = Broker::start(binary, "tools", &url, &[("offsets.topic.num.partitions", "1")])?;
    for one in CALLS {
        let tool = one.main.rsplit('.').next().unwrap_or(one.main);
        ask(&jars, &broker.bootstrap, one)?;
        stages.pass(format!("{tool} {}", one.words).trim());
    }
    deletion(stages, &jars, &broker.bootstrap)?;
    broker.end()
}

/// The one tool that takes a file.
fn deletion(stages: &mut Stages, jars: &Path, bootstrap: &str) -> Result<()> {
    let file = places::data()?.join("records-to-delete.json");
    let wanted = r#"{"version":1,"partitions":[{"topic":"ops","partition":0,"offset":400}]}"#;
    std::fs::write(&file, wanted).with_context(|| format!("writing {}", file.display()))?;
    let words = format!("--offset-json-file {}", file.display());
    let said = tool(jars, bootstrap, DELETE_RECORDS, &words, Ends::Well)?;
    ensure!(said.contains("low_watermark: 400"), "kafka-delete-records said: {said}");
    ask(jars, bootstrap, &call(OFFSETS, "--topic ops --time earliest", &["ops:0:400"]))?;
    stages.pass("DeleteRecordsCommand");
    Ok(())
}

fn ask(jars: &Path, bootstrap: &str, call: &Call) -> Result<()> {
    let said = tool(jars, bootstrap, call.main, call.words, call.ends)?;
    for wanted in call.says {
        ensure!(said.contains(wanted), "{} {} does not say '{wanted}' but: {said}", call.main, call.words);
    }
    Ok(())
}

/// Runs a tool to its end; gives all that it says.
fn tool(jars: &Path, bootstrap: &str, main: &str, words: &str, ends: Ends) -> Result<String> {
    let mut java =
        command("timeout", [TIMEOUT_SECONDS, "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp"]);
    let (address, words) = (["--bootstrap-server", bootstrap], words.split_whitespace());
    java.arg(jars.join("*")).arg(main);
    // Most want the address before a subcommand, and this one behind it.
    match main {
        CLUSTER => java.args(words).args(address),
        _ => java.args(address).args(words),
    };
    let name = shown(&java);
    java.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = java.spawn().with_context(|| format!("starting {name}"))?;
    let mut stdin = child.stdin.take().expect("asked for above");
    if main == PRODUCER {
        let lines: String = (0..RECORDS).map(|number| format!("record {number}\n")).collect();
        stdin.write_all(lines.as_bytes()).with_context(|| format!("writing to {name}"))?;
    }
    drop(stdin);
    let done = child.wait_with_output().with_context(|| format!("waiting for {name}"))?;
    let said = [done.stdout, done.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    let well = done.status.success();
    ensure!(well == (ends == Ends::Well), "{name} ended with {}: {said}", done.status);
    Ok(said)
}

/// Kafka's jars: its tools, and with them its server.
pub(crate) fn install() -> Result<PathBuf> {
    let pins = Pins::read()?;
    let Pins { java_kafka_tools: tools, java_slf4j_nop: slf4j, .. } = &pins;
    let pin = format!("kafka-tools {tools}, slf4j-nop {slf4j}");
    fetched(&pins, &format!("kafka-tools-{tools}"), &pin, "tools.xml", &[])
}

/// Those of its store in a local folder, and nothing that they build on: Kafka has that itself.
pub(crate) fn install_tiered() -> Result<PathBuf> {
    let pins = Pins::read()?;
    let tools = &pins.java_kafka_tools;
    let alone = ["-DexcludeTransitive=true"];
    fetched(&pins, &format!("kafka-tiered-{tools}"), &format!("kafka-tiered {tools}"), "tiered.xml", &alone)
}

/// The jars that a list of `tests/clients/java` names.
fn fetched(pins: &Pins, name: &str, pin: &str, list: &str, words: &[&str]) -> Result<PathBuf> {
    let Pins { java_kafka_tools: tools, java_slf4j_nop: slf4j, maven_dependency_plugin: plugin, .. } = pins;
    installed(name, &format!("{pin}, maven-dependency-plugin {plugin}"), |folder| {
        let pom = places::root().join("tests/clients/java").join(list);
        let mut fetch = command("mvn", ["--quiet", "--batch-mode", "-f"]);
        fetch.arg(pom).args(words).args([
            format!("-Dkafka.tools={tools}"),
            format!("-Dslf4j.nop={slf4j}"),
            format!("-DoutputDirectory={}", folder.display()),
            format!("org.apache.maven.plugins:maven-dependency-plugin:{plugin}:copy-dependencies"),
        ]);
        run(&mut fetch)
    })
}
