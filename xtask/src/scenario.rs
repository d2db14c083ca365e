//! Text in by real clients, into the bucket, off the local disk, and out again by other clients: every byte compared.

use crate::broker::Broker;
use crate::clients::{Client, Passed};
use crate::run::{self, command};
use crate::s3::{Kind, Store};
use crate::stages::Stages;
use crate::text::{self, Text};
use crate::{places, s3};
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::time::{Duration, Instant};

const PARTITIONS: usize = 4;
const TIERED_SHARE: f64 = 0.9;
const TIERED_DEADLINE: Duration = Duration::from_secs(300);
const WRITERS_TEXT_MB: u64 = 4;
/// Small segments, closed and dropped from the local disk soon, so that a short run sees what months do.
const SETTINGS: &[(&str, &str)] = &[
    ("log.segment.bytes", "1048576"),
    ("tier.roll.ms", "2000"),
    ("log.local.retention.ms", "1000"),
    ("log.retention.check.interval.ms", "500"),
];

/// One store, and whether all clients try it or kcat alone.
#[derive(Debug)]
pub(crate) struct Try<'a> {
    pub(crate) store: &'a str,
    pub(crate) url: String,
    pub(crate) clients: &'a [Client],
}

/// Runs one store's share of the scenario with a broker of its own.
pub(crate) fn run_on(stages: &mut Stages, binary: &Path, one: &Try<'_>, text: &Text) -> Result<()> {
    let mut broker = Broker::start(binary, one.store, &one.url, SETTINGS)?;
    broker.create_topic("history", PARTITIONS)?;
    write_history(&broker.bootstrap, "history", text)?;
    let share = broker.wait_until_tiered("history", TIERED_SHARE, TIERED_DEADLINE)?;
    stages.pass(&format!("{:.0}% of the bytes at least lie in the bucket alone", share * 100.0));

    each_reads(stages, &broker.bootstrap, "history", one.clients, text)?;
    if one.clients.len() > 1 {
        each_writes(
            stages,
            &broker.bootstrap,
            "writer",
            &|topic| broker.create_topic(topic, PARTITIONS),
            one.clients,
        )?;
    }
    broker.end()?;
    stages.pass("the broker ended in good order");
    run::run(command(binary, ["tier", "verify", "--object-store", &one.url]).envs(s3::KEYS))?;
    stages.pass("the bucket is as its manifests say");
    Ok(())
}

/// The same clients and comparisons against a broker that runs already, Apache Kafka for one: what shows that the rigs are right.
/// The topics must not be there, and the broker must make them, with four partitions, when they are asked for.
pub(crate) fn run_against(
    stages: &mut Stages,
    bootstrap: &str,
    clients: &[Client],
    text: &Text,
) -> Result<()> {
    let run = std::process::id();
    let create = |topic: &str| run::run(&mut command("kcat", ["-L", "-q", "-b", bootstrap, "-t", topic]));
    let history = format!("history-{run}");
    create(&history)?;
    write_history(bootstrap, &history, text)?;
    each_reads(stages, bootstrap, &history, clients, text)?;
    each_writes(stages, bootstrap, &format!("writer-{run}"), &create, clients)
}

fn write_history(bootstrap: &str, topic: &str, text: &Text) -> Result<()> {
    let start = Instant::now();
    Client::kcat().write(bootstrap, topic, "zstd", &text.path)?;
    let seconds = start.elapsed().as_secs_f64();
    println!("   kcat wrote {} records, {} bytes in {seconds:.1} s", text.records(), text.bytes);
    Ok(())
}

fn each_reads(
    stages: &mut Stages,
    bootstrap: &str,
    topic: &str,
    clients: &[Client],
    text: &Text,
) -> Result<()> {
    for client in clients.iter().filter(|client| client.reads()) {
        let start = Instant::now();
        let passed = client.read(bootstrap, topic, PARTITIONS)?;
        compare(&passed, text)
            .with_context(|| format!("what {} read is not what kcat wrote", client.name()))?;
        stages.pass(&format!(
            "{} read all of it back in {:.1} s",
            client.name(),
            start.elapsed().as_secs_f64()
        ));
    }
    Ok(())
}

/// Each client writes a topic, and a client of another family reads it.
fn each_writes(
    stages: &mut Stages,
    bootstrap: &str,
    name: &str,
    create_topic: &dyn Fn(&str) -> Result<()>,
    clients: &[Client],
) -> Result<()> {
    let text = text::gather("writers.txt", WRITERS_TEXT_MB, PARTITIONS)?;
    let readers: Vec<&Client> = clients.iter().filter(|client| client.reads()).collect();
    for (number, writer) in clients.iter().enumerate().filter(|(_, client)| !client.is_kcat()) {
        let codec = writer.codec();
        let topic = format!("{name}-{number}");
        create_topic(&topic)?;
        let wrote = writer.write(bootstrap, &topic, codec, &text.path)?;
        let records: u64 = wrote.iter().map(|passed| passed.count).sum();
        ensure!(records == text.records(), "{} wrote {records} of {} records", writer.name(), text.records());
        let reader = readers[(number + 2) % readers.len()];
        let mut read = reader.read(bootstrap, &topic, PARTITIONS)?;
        read.retain(|passed| passed.count > 0);
        ensure!(read == wrote, "{} wrote {wrote:#?}\nbut {} read {read:#?}", writer.name(), reader.name());
        stages.pass(&format!("{} wrote with {codec}, {} read the same", writer.name(), reader.name()));
    }
    Ok(())
}

/// Every record once, in order, at dense offsets from zero.
fn compare(passed: &[Passed], text: &Text) -> Result<()> {
    ensure!(
        passed.len() == text.partitions.len(),
        "{} partitions, not {}",
        passed.len(),
        text.partitions.len()
    );
    for (number, (passed, expected)) in passed.iter().zip(&text.partitions).enumerate() {
        let last = i64::try_from(expected.count)? - 1;
        let first = if expected.count == 0 { -1 } else { 0 };
        let expected =
            Passed { partition: number, count: expected.count, first, last, sha256: expected.sha256.clone() };
        ensure!(*passed == expected, "found {passed:?}\nexpected {expected:?}");
    }
    Ok(())
}

/// The text that the runs share.
pub(crate) fn text(size_mb: u64) -> Result<Text> {
    let text = text::gather("history.txt", size_mb, PARTITIONS)?;
    println!("   {} records, {} bytes in {}", text.records(), text.bytes, text.path.display());
    Ok(text)
}

/// A store by its name, empty, with the URL of one prefix in it; the server, if it needs one, ends when it is dropped.
pub(crate) fn store(name: &str, prefix: &str) -> Result<(Option<Store>, String)> {
    let kind = match name {
        "file" => {
            let folder = places::emptied(places::data()?.join(format!("bucket-{prefix}")))?;
            return Ok((None, format!("file://{}", folder.display())));
        }
        "minio" => Kind::MinIo,
        "localstack" => Kind::LocalStack,
        _ => bail!("no such store: '{name}' (file, localstack, minio)"),
    };
    kind.install()?;
    let server = kind.start()?;
    let url = server.url(prefix);
    Ok((Some(server), url))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text::Expected;

    #[test]
    fn a_missing_a_moved_and_a_changed_record_are_found() {
        let text = Text {
            path: "none".into(),
            bytes: 0,
            partitions: vec![
                Expected { count: 3, sha256: "ab".to_owned() },
                Expected { count: 0, sha256: "e".to_owned() },
            ],
        };
        let passed = |count, first, last, sha256: &str| {
            let empty = Passed { partition: 1, count: 0, first: -1, last: -1, sha256: "e".to_owned() };
            vec![Passed { partition: 0, count, first, last, sha256: sha256.to_owned() }, empty]
        };
        compare(&passed(3, 0, 2, "ab"), &text).expect("the same");
        for different in [passed(2, 0, 1, "ab"), passed(3, 1, 3, "ab"), passed(3, 0, 2, "cd")] {
            compare(&different, &text).expect_err("not the same");
        }
        compare(&passed(3, 0, 2, "ab")[..1], &text).expect_err("a partition less");
    }
}
