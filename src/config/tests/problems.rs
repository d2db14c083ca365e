//! What is wrong, in words.

use super::*;

#[test]
fn all_problems_are_told_at_once() {
    let mut sources =
        file("log.segmnt.bytes = 5\nretention.ms = 5\nsegment.index.bytes = 5\nlog.segment.bytes = 5");
    sources.environment = vec![("AQUIFER_NUM_PARTITION".to_owned(), "4".to_owned())];
    sources.sets =
        ["node.id=x", "log.dirs=/a,/b", "log.cleanup.policy=shrink", "nonsense"].map(str::to_owned).into();
    let problems = Config::load(sources).unwrap_err().to_string();
    let mut lines: Vec<&str> = problems.lines().collect();
    assert_eq!(lines.remove(0), "9 problems in the configuration:");
    lines.sort_unstable();
    assert_eq!(
        lines,
        [
            r#"  flag --set: "nonsense" is no key=value"#,
            r#"  log.cleanup.policy = "shrink" (flag --set): "shrink" is no cleanup policy: only "delete", "compact", both or nothing is accepted"#,
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
