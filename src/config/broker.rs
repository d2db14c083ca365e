//! The configuration of a broker: the table of its keys, and what they come to.
//!
//! Each field names its key; the key's declaration, below, says the rest. Keys of the bucket stand in [`super::tier`], those
//! that are defaults for topics in [`super::topic`].

use std::path::PathBuf;
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount};

use super::groups::{self, Groups};
use super::key::{
    bytes, bytes_or_unlimited, choice, count, count_or, flag, fraction, list, millis, millis_or_unlimited,
    text,
};
use super::listener::{self, Endpoint, JoinError, Listener};
use super::quotas::{self, Quotas};
use super::reader::Reader;
use super::tier::{self, Tier};
use super::topic::{self, TopicConfig};
use super::units::{DAY, HOUR, INT_MAX, MIB, MINUTE, SECOND};

/// What holds for this broker.
#[derive(Debug, Clone, PartialEq)]
pub struct BrokerConfig {
    /// Which broker this is.
    pub node: Node,
    /// `listeners`, `advertised.listeners` and `listener.security.protocol.map`, put together; at least one.
    pub listeners: Vec<Listener>,
    /// Bounds of connections and of what comes in by them.
    pub connections: Connections,
    /// How topics come and go.
    pub topics: Topics,
    /// What holds for a topic that says nothing of its own.
    pub topic_defaults: TopicConfig,
    /// Bounds of answers to Fetch.
    pub fetch: Fetch,
    /// The local disk.
    pub log: Log,
    /// The bucket; `None` without `tier.object.store`.
    pub tier: Option<Tier>,
    /// The metadata log.
    pub raft: Raft,
    /// Consumer groups.
    pub groups: Groups,
    /// Client quotas.
    pub quotas: Quotas,
    /// `admin.listen`; `None` if turned off.
    pub admin: Option<Endpoint>,
    /// What the broker says of itself.
    pub logging: Logging,
}

/// Which broker this is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// `node.id`.
    pub id: BrokerId,
    /// `broker.rack`.
    pub rack: Option<String>,
}

/// Bounds of connections and of what comes in by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connections {
    /// `max.connections`; `None` for three eighths of what the process may open.
    pub count_max: Option<u32>,
    /// `max.connections.per.ip`; `None` for half of `max.connections`.
    pub per_address_max: Option<u32>,
    /// `connections.max.idle.ms`; `None` never closes.
    pub idle_max: Option<Duration>,
    /// `socket.request.max.bytes`.
    pub request_bytes_max: ByteCount,
    /// `socket.request.arrival.ms`.
    pub request_arrival_max: Duration,
    /// `queued.max.request.bytes`.
    pub queued_bytes_max: ByteCount,
    /// `queued.max.response.bytes`.
    pub answer_bytes_max: ByteCount,
}

/// How topics come and go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `auto.create.topics.enable`.
    pub auto_create: bool,
    /// `delete.topic.enable`.
    pub deletable: bool,
    /// `num.partitions`.
    pub partitions: u32,
    /// `default.replication.factor`.
    pub replication_factor: u32,
    /// `max.partitions`.
    pub partitions_max: u32,
    /// `max.partitions.creation.rate`, a second.
    pub partitions_rate_max: u32,
    /// `max.request.partition.size.limit`.
    pub described_max: u32,
}

/// Bounds of answers to Fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetch {
    /// `fetch.max.bytes`.
    pub bytes_max: ByteCount,
    /// `fetch.max.wait.ms`.
    pub wait_max: Duration,
    /// `max.incremental.fetch.session.cache.slots`.
    pub sessions_max: u32,
    /// `max.incremental.fetch.session.cache.partitions`.
    pub session_partitions_max: u32,
    /// `remote.fetch.max.wait.ms`.
    pub cold_wait_max: Duration,
    /// `remote.list.offsets.request.timeout.ms`.
    pub list_offsets_timeout: Duration,
}

/// The local disk.
#[derive(Debug, Clone, PartialEq)]
pub struct Log {
    /// `log.dirs`.
    pub dir: PathBuf,
    /// `log.retention.check.interval.ms`.
    pub retention_check_interval: Duration,
    /// `num.recovery.threads.per.data.dir`.
    pub recovery_threads: u32,
    /// `background.disk.threads.max`.
    pub background_threads_max: u32,
    /// `log.files.open.max`; `None` for half of what the process may open.
    pub files_open_max: Option<u32>,
    /// `log.index.cache.bytes`.
    pub index_cache: ByteCount,
    /// `log.checkpoint.bytes`.
    pub checkpoint: ByteCount,
    /// `log.recovery.bytes`.
    pub recovery: ByteCount,
    /// `log.disk.high.watermark`, a share of the file system.
    pub disk_high_watermark: f64,
    /// `producer.id.expiration.ms`.
    pub producer_id_expiration: Duration,
    /// `log.scrub.bytes.per.second`; zero for never.
    pub scrub_rate: ByteCount,
    /// `log.scrub.interval.ms`.
    pub scrub_interval: Duration,
    /// `log.read.lend.bytes.min`; zero for none.
    pub lend_bytes_min: ByteCount,
    /// `log.producer.ids.max`.
    pub producer_ids_max: u32,
    /// `log.producer.ids.total.max`.
    pub producer_ids_total_max: u32,
    /// `log.record.expansions.max`.
    pub expansions_max: u32,
    /// What one sync makes durable of several logs.
    pub journal: Journal,
    /// What compacts the logs of topics that ask for it.
    pub cleaner: Cleaner,
}

/// What one sync makes durable of several logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Journal {
    /// `log.journal.bytes`; zero for none.
    pub bytes: ByteCount,
    /// `log.journal.logs.min`.
    pub logs_min: u32,
    /// `log.journal.log.bytes.max`.
    pub log_bytes_max: ByteCount,
}

/// What compacts the logs of topics that ask for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleaner {
    /// `log.cleaner.dedupe.buffer.size`.
    pub dedupe_buffer: ByteCount,
    /// `log.cleaner.io.buffer.load.factor`.
    pub load_factor: f64,
    /// `log.cleaner.io.max.bytes.per.second`; `None` for no limit.
    pub bytes_per_second_max: Option<ByteCount>,
    /// `log.cleaner.backoff.ms`.
    pub backoff: Duration,
}

/// The metadata log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Raft {
    /// `raft.heartbeat.interval.ms`.
    pub heartbeat_interval: Duration,
    /// `raft.election.timeout.min.ms`.
    pub election_timeout_min: Duration,
    /// `raft.election.timeout.max.ms`.
    pub election_timeout_max: Duration,
    /// `raft.propose.timeout.ms`.
    pub propose_timeout: Duration,
    /// `raft.snapshot.entries.max`.
    pub snapshot_entries_max: u32,
    /// `raft.snapshot.bytes.max`.
    pub snapshot_bytes_max: ByteCount,
}

/// What the broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logging {
    /// `logging.format`.
    pub format: LoggingFormat,
    /// `logging.level`: a level, or directives such as `info,aquifer::replica=debug`.
    pub level: String,
}

/// How a line of the broker's own log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoggingFormat {
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// Declares and reads all of a broker's keys.
pub(super) fn read(r: &mut Reader<'_>) -> BrokerConfig {
    let node = read_node(r);
    let listeners = read_listeners(r);
    let connections = read_connections(r);
    let fetch = read_fetch(r);
    let topics = read_topics(r);
    let log = read_log(r);
    let tier = tier::read(r);
    let topic_defaults = topic::read(r, tier.is_some());
    let groups = groups::read(r);
    let quotas = quotas::read(r);
    let raft = read_raft(r);
    let admin = read_admin(r);
    let logging = read_logging(r);
    BrokerConfig {
        node,
        listeners,
        connections,
        topics,
        topic_defaults,
        fetch,
        log,
        tier,
        groups,
        quotas,
        raft,
        admin,
        logging,
    }
}

fn read_node(r: &mut Reader<'_>) -> Node {
    r.section("Node");
    Node {
        id: BrokerId(
            r.read(
                count("node.id", 1)
                    .doc("This broker's id: unlike any other's in the cluster, and its for life."),
            )
            .cast_signed(),
        ),
        rack: r.read(
            text("broker.rack", "", "", |rack| Ok((!rack.is_empty()).then(|| rack.to_owned())))
                .doc("The rack or zone that this broker stands in, as told to clients."),
        ),
    }
}

fn read_listeners(r: &mut Reader<'_>) -> Vec<Listener> {
    r.section("Listeners and connections");
    const SYNTAX: &str = "`NAME://host:port`, between commas";
    let listeners = r.read(list("listeners", "PLAINTEXT://:9092", SYNTAX, listener::parse_listeners).doc(
        "Where clients connect. Without a host, on every address of the machine; port 0 takes a free one.",
    ));
    let advertised = r.read(
        list("advertised.listeners", "", SYNTAX, listener::parse_advertised)
            .default_note("as `listeners`; the machine's name for a listener without a host")
            .doc("Under which addresses clients reach the listeners."),
    );
    const PROTOCOLS: &str = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL";
    let plain = r.read(
        list(
            "listener.security.protocol.map",
            PROTOCOLS,
            "`NAME:PLAINTEXT`, between commas",
            listener::parse_protocols,
        )
        .doc("What a listener of a name speaks. Only PLAINTEXT is supported yet."),
    );
    match listener::join(listeners, &advertised, &plain) {
        Ok(listeners) => listeners,
        Err(JoinError::Listeners(why)) => {
            r.blame("listeners", why);
            Vec::new()
        }
        Err(JoinError::Advertised(why)) => {
            r.blame("advertised.listeners", why);
            Vec::new()
        }
    }
}

fn read_connections(r: &mut Reader<'_>) -> Connections {
    Connections {
        count_max: r.read(
            count_or("max.connections", "three eighths of what the process may open")
                .at_least(1)
                .dynamic()
                .doc("Connections at a time. Kafka has no limit by default."),
        ),
        per_address_max: r.read(
            count_or("max.connections.per.ip", "half of `max.connections`").at_least(1).dynamic().doc(
                "Connections at a time from one address; by default none can take all. Kafka has no limit by default.",
            ),
        ),
        idle_max: r.read(
            millis_or_unlimited("connections.max.idle.ms", 10 * MINUTE)
                .doc("Milliseconds without a request after which a connection is closed; -1 for never."),
        ),
        request_bytes_max: r.read(
            bytes("socket.request.max.bytes", 100 * MIB)
                .range(1024, INT_MAX)
                .doc("Largest request in bytes; a connection that announces a larger one is closed."),
        ),
        request_arrival_max: r.read(
            millis("socket.request.arrival.ms", 30 * SECOND).range(100, HOUR).doc(
                "Milliseconds that the next part of a request may take to arrive, and as many more as it needs at 64 KiB a \
                 second; its connection is then closed. While others wait for memory for theirs it is 3 seconds.",
            ),
        ),
        queued_bytes_max: r.read(
            bytes("queued.max.request.bytes", 256 * MIB)
                .at_least(MIB)
                .doc("Bytes of requests held at a time, over all connections; more wait in the sockets. Kafka has no limit."),
        ),
        answer_bytes_max: r.read(
            bytes("queued.max.response.bytes", 256 * MIB)
                .at_least(MIB)
                .doc("Bytes of records in answers at a time, over all connections; once they are spent, 64 answers of a batch each go beyond."),
        ),
    }
}

fn read_fetch(r: &mut Reader<'_>) -> Fetch {
    r.section("Fetch");
    Fetch {
        bytes_max: r.read(
            bytes("fetch.max.bytes", 55 * MIB)
                .range(1024, INT_MAX)
                .doc("Bytes of records in an answer to Fetch, whatever the client asks for. A first batch may be larger."),
        ),
        wait_max: r.read(
            millis("fetch.max.wait.ms", 5 * MINUTE)
                .range(1, INT_MAX)
                .doc("Milliseconds that a Fetch waits for data at most, whatever the client asks for."),
        ),
        sessions_max: r.read(
            count("max.incremental.fetch.session.cache.slots", 1000).doc("Incremental fetch sessions kept at a time."),
        ),
        session_partitions_max: r.read(
            count("max.incremental.fetch.session.cache.partitions", 200_000).doc(
                "Partitions that all of these remember together, at some 200 bytes each; a client that finds no room is served \
                 without a session.",
            ),
        ),
        cold_wait_max: r.read(
            millis("remote.fetch.max.wait.ms", 500)
                .range(1, INT_MAX)
                .dynamic()
                .doc("Milliseconds that a Fetch waits for data from the bucket before it answers with what it has."),
        ),
        list_offsets_timeout: r.read(
            millis("remote.list.offsets.request.timeout.ms", 30 * SECOND)
                .range(1, INT_MAX)
                .dynamic()
                .doc("Milliseconds that a lookup of an offset waits for the bucket; the client then asks again."),
        ),
    }
}

fn read_topics(r: &mut Reader<'_>) -> Topics {
    r.section("Topics");
    Topics {
        auto_create: r.read(flag("auto.create.topics.enable", true).doc(
            "Whether a topic that a client asks for by name comes into being, if the client wants that too.",
        )),
        deletable: r.read(flag("delete.topic.enable", true).doc("Whether topics can be deleted.")),
        partitions: r.read(
            count("num.partitions", 1)
                .at_least(1)
                .doc("Partitions of a topic that is created automatically or without a number of them."),
        ),
        replication_factor: r.read(
            count("default.replication.factor", 1)
                .range(1, i64::from(i16::MAX))
                .doc("Replicas of a topic that is created automatically or without a number of them."),
        ),
        partitions_max: r.read(
            count("max.partitions", 20_000)
                .at_least(1)
                .doc("Partitions of all topics together; topics and partitions beyond are refused. Kafka has no limit."),
        ),
        partitions_rate_max: r.read(
            count("max.partitions.creation.rate", 100).at_least(1).doc(
                "Partitions that may be made or deleted in a second over a longer while; after a rest, 100 seconds' worth at \
                 once. What is beyond is refused, to be tried again. Kafka has no limit by default.",
            ),
        ),
        described_max: r.read(
            count("max.request.partition.size.limit", 2000)
                .at_least(1)
                .doc("Partitions that one answer to DescribeTopicPartitions tells of, whatever the client asks for; it asks again for more."),
        ),
    }
}

fn read_log(r: &mut Reader<'_>) -> Log {
    r.section("Local log");
    Log {
        dir: r.read(
            text("log.dirs", "aquifer-data", "one directory", parse_dir)
                .alias("log.dir", 1)
                .doc("Where local segments and metadata lie. One directory: several are not supported yet."),
        ),
        retention_check_interval: r.read(
            millis("log.retention.check.interval.ms", 5 * MINUTE)
                .at_least(1)
                .doc("Milliseconds between two looks for segments that are past their retention."),
        ),
        recovery_threads: r.read(
            count("num.recovery.threads.per.data.dir", 2)
                .at_least(1)
                .doc("Threads that open logs at start."),
        ),
        background_threads_max: r.read(count("background.disk.threads.max", 16).range(2, 512).doc(
            "Threads that wait for a disk at a time, for upkeep and for a bucket that is a folder. More such work waits for its turn.",
        )),
        files_open_max: r.read(
            count_or("log.files.open.max", "half of what the process may open")
                .doc("Segment files open at a time; beyond it the longest unused are closed."),
        ),
        index_cache: r.read(
            bytes("log.index.cache.bytes", 64 * MIB)
                .doc("Memory in bytes for the indexes of closed segments that are read."),
        ),
        checkpoint: r.read(bytes("log.checkpoint.bytes", 16 * MIB).range(64 << 10, INT_MAX).doc(
            "Bytes that are written to a partition until its recovery point moves on; a start after a crash reads again what lies behind \
             it. Two to four times as many while all partitions together have at most `log.recovery.bytes` behind theirs.",
        )),
        recovery: r.read(bytes("log.recovery.bytes", 1024 * MIB).doc(
            "Bytes of all partitions together for a start after a crash to read again, as long as none has more than four times \
             `log.checkpoint.bytes`. Beyond, each moves its recovery point on after `log.checkpoint.bytes`.",
        )),
        disk_high_watermark: r.read(fraction("log.disk.high.watermark", 0.9, 0.1, 1.0).dynamic().doc(
            "Share of the file system in use, as `df` counts, above which segments that are in the bucket leave local disk ahead of \
             `local.retention.*`, and then writes of clients are refused.",
        )),
        producer_id_expiration: r.read(
            millis("producer.id.expiration.ms", DAY)
                .range(1, INT_MAX)
                .dynamic()
                .doc("Milliseconds after a producer's last write to a partition when its sequence is forgotten."),
        ),
        scrub_rate: r.read(
            bytes("log.scrub.bytes.per.second", 8 * MIB)
                .doc("Bytes of local segments that are verified in a second, in search of damage. 0: none."),
        ),
        scrub_interval: r.read(millis("log.scrub.interval.ms", 7 * DAY).at_least(SECOND).doc(
            "Milliseconds from the start of one search of all local segments to the start of the next, at least. Each start of the \
             broker begins one.",
        )),
        producer_ids_max: r.read(
            count("log.producer.ids.max", 10_000).at_least(16).doc(
                "Idempotent producers that a partition remembers; beyond, the longest idle are forgotten ahead of their time.",
            ),
        ),
        producer_ids_total_max: r.read(
            count("log.producer.ids.total.max", 200_000).at_least(16).doc(
                "The same over all partitions, at some 300 bytes each; beyond, a partition that a new one comes to forgets its \
                 longest idle.",
            ),
        ),
        expansions_max: r.read(count("log.record.expansions.max", 2).range(1, 1024).doc(
            "Compressed batches that are opened at a time to look at their records, over all partitions; more wait. Each takes a \
             thread and up to twice `record.expanded.bytes.max` of memory.",
        )),
        lend_bytes_min: r.read(bytes("log.read.lend.bytes.min", 192 << 10).range(0, INT_MAX).doc(
            "Bytes of a partition in an answer from which on they leave straight from the page cache (`sendfile`), if this process has \
             written them, or read and verified them, and they have not left it since; below it they are copied, but not verified again \
             either. 0: all that is served is copied and verified each time, as on Linux before 6.5.",
        )),
        journal: read_journal(r),
        cleaner: read_cleaner(r),
    }
}

fn read_journal(r: &mut Reader<'_>) -> Journal {
    Journal {
        bytes: r.read(bytes("log.journal.bytes", 256 * MIB).range(0, 1 << 40).doc(
            "Size of the journal: two files that take in turns what several partitions have written, so that one sync makes all of \
             it durable. The larger, the seldomer partitions are synced by themselves. Below 32 KiB, as 0: none, each partition is synced by itself.",
        )),
        logs_min: r.read(count("log.journal.logs.min", 4).range(1, 1 << 20).doc(
            "The journal is made once so many partitions wait to be synced at the same time.",
        )),
        log_bytes_max: r.read(
            bytes("log.journal.log.bytes.max", 256 << 10)
                .range(4 << 10, 2 * MIB)
                .doc("Bytes of a partition beyond which it is synced by itself: what goes through the journal is written twice."),
        ),
    }
}

fn read_cleaner(r: &mut Reader<'_>) -> Cleaner {
    Cleaner {
        dedupe_buffer: r.read(
            bytes("log.cleaner.dedupe.buffer.size", 128 * MIB)
                .range(64 << 10, INT_MAX)
                .dynamic()
                .doc(
                    "Most memory that compaction takes for the keys of a log, 24 bytes each; a log with more is compacted in \
                     several passes. Taken while a pass runs, and only as much as its log needs.",
                ),
        ),
        load_factor: r.read(
            fraction("log.cleaner.io.buffer.load.factor", 0.9, 0.1, 0.9)
                .dynamic()
                .doc("Share of `log.cleaner.dedupe.buffer.size` that is filled: the fuller, the more keys a pass holds, and the slower it is."),
        ),
        bytes_per_second_max: r.read(
            bytes_or_unlimited("log.cleaner.io.max.bytes.per.second", -1)
                .range(1, i64::MAX)
                .dynamic()
                .doc("Bytes a second that compaction reads and writes, together and at most; -1 for no limit."),
        ),
        backoff: r.read(
            millis("log.cleaner.backoff.ms", 15 * SECOND)
                .at_least(1)
                .dynamic()
                .doc("Milliseconds between two looks for logs to compact while there are none."),
        ),
    }
}

fn parse_dir(text: &str) -> Result<PathBuf, String> {
    match text {
        "" => Err("must name a directory".to_owned()),
        _ if text.contains(',') => Err("several log directories are not supported yet: name one".to_owned()),
        _ => Ok(PathBuf::from(text)),
    }
}

fn read_raft(r: &mut Reader<'_>) -> Raft {
    r.section("Metadata");
    let raft = Raft {
        heartbeat_interval: r.read(
            millis("raft.heartbeat.interval.ms", 500)
                .range(10, MINUTE)
                .doc("Milliseconds between two signs of life of the controller."),
        ),
        election_timeout_min: r.read(
            millis("raft.election.timeout.min.ms", 1500)
                .range(20, HOUR)
                .doc("Milliseconds without a sign of life after which a new controller may be elected."),
        ),
        election_timeout_max: r.read(
            millis("raft.election.timeout.max.ms", 3000)
                .range(20, HOUR)
                .doc("The same, at most: each node draws its own patience between the two."),
        ),
        propose_timeout: r.read(
            millis("raft.propose.timeout.ms", 30 * SECOND)
                .range(100, HOUR)
                .doc("Milliseconds that a change of metadata may take until it counts as failed."),
        ),
        snapshot_entries_max: r.read(
            count("raft.snapshot.entries.max", 10_000)
                .at_least(1)
                .doc("Changes after which a snapshot of the metadata is written."),
        ),
        snapshot_bytes_max: r.read(
            bytes("raft.snapshot.bytes.max", 64 * MIB)
                .at_least(64 << 10)
                .doc("Bytes of changes after which a snapshot of the metadata is written."),
        ),
    };
    if raft.heartbeat_interval >= raft.election_timeout_min {
        r.blame("raft.heartbeat.interval.ms", "must be below raft.election.timeout.min.ms".to_owned());
    }
    if raft.election_timeout_min >= raft.election_timeout_max {
        r.blame("raft.election.timeout.min.ms", "must be below raft.election.timeout.max.ms".to_owned());
    }
    raft
}

fn read_admin(r: &mut Reader<'_>) -> Option<Endpoint> {
    r.section("Administration and logging");
    let parse = |text: &str| if text.is_empty() { Ok(None) } else { Endpoint::parse(text).map(Some) };
    r.read(
        text("admin.listen", "127.0.0.1:9640", "`host:port`, or nothing to turn it off", parse)
            .doc("Where `/live`, `/ready`, `/metrics` and `/api` are served over HTTP. Whoever reaches it may read it."),
    )
}

fn read_logging(r: &mut Reader<'_>) -> Logging {
    Logging {
        format: r.read(
            choice("logging.format", vec![("human", LoggingFormat::Human), ("json", LoggingFormat::Json)])
                .doc("How the broker logs: lines for people, or one JSON object a line."),
        ),
        level: r.read(
            text(
                "logging.level",
                "info,openraft=warn",
                "`error`, `warn`, `info`, `debug`, `trace`, or `target=level` between commas",
                parse_level,
            )
            .doc("What the broker logs."),
        ),
    }
}

fn parse_level(text: &str) -> Result<String, String> {
    let is_level = |text: &str| LEVELS.contains(&text.to_ascii_lowercase().as_str());
    // To the filter, a misspelled level is a target whose every line is wanted.
    let right = text.split(',').all(|directive| match directive.rsplit_once('=') {
        Some((_, level)) => is_level(level.trim()),
        None => is_level(directive.trim()),
    });
    match tracing_subscriber::EnvFilter::builder().parse(text) {
        Ok(_) if right => Ok(text.to_owned()),
        _ => Err("must be error, warn, info, debug, trace, or target=level between commas".to_owned()),
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
