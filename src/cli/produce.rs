//! `aquifer produce`: a record for each line of standard input.

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use anyhow::Context as _;
use aquifer_model::{ByteCount, TopicName};
use aquifer_runtime::tasks::TaskGroup;
use clap::{Args, ValueEnum};
use tokio::sync::mpsc;

use crate::cli::client::{ClientArgs, parse_pair, parse_topic};
use crate::cli::cluster::Cluster;
use crate::cli::codec::Codec;
use crate::cli::producer::{self, NewRecord, Producer, ProducerOptions, Written};

/// How long a record waits for others to share its batch, when input comes slowly.
const LINGER: Duration = Duration::from_millis(5);
/// Lines handed over at a time, and how many such heaps may wait.
const LINES_MAX: usize = 1000;
const HEAPS_MAX: usize = 8;
/// The most that a batch is asked to be: with its last record it stays below 2 GiB.
const BATCH_BYTES_MAX: u64 = 1 << 30;
/// Longest line. A record this size needs a topic whose `max.message.bytes` allows it.
const LINE_BYTES_MAX: u64 = 64 << 20;

/// Writes a record for each line of standard input
#[derive(Debug, Args)]
pub struct ProduceArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Topic to write to; created if the broker creates topics on demand
    #[arg(value_parser = parse_topic)]
    topic: TopicName,
    /// What separates a line's key from its value; without it, records have no key
    #[arg(long, short = 'K', value_name = "TEXT")]
    key_separator: Option<String>,
    /// Write all records to this partition instead of by key
    #[arg(long, short, value_name = "INDEX")]
    partition: Option<i32>,
    /// Header of all records; may be given several times
    #[arg(long, short = 'H', value_parser = parse_pair, value_name = "NAME=VALUE")]
    header: Vec<(String, String)>,
    /// Who must have a record before it counts as written
    #[arg(long, value_enum, default_value = "all")]
    acks: Acks,
    /// How batches are compressed
    #[arg(long, short = 'z', value_enum, default_value = "none")]
    compression: Codec,
    /// Bytes of records at which a batch is sent, uncompressed
    #[arg(long, default_value_t = ProducerOptions::default().batch_bytes.get(), value_parser = clap::value_parser!(u64).range(1..=BATCH_BYTES_MAX), value_name = "BYTES")]
    batch_bytes: u64,
    /// Say nothing at the end
    #[arg(long, short)]
    quiet: bool,
}

/// Who must have a record.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Acks {
    /// All in-sync replicas; each record is written once
    #[value(alias = "-1")]
    All,
    /// The leader
    #[value(name = "1")]
    Leader,
    /// Nobody
    #[value(name = "0")]
    Nobody,
}

impl ProduceArgs {
    fn options(&self) -> ProducerOptions {
        ProducerOptions {
            acks: match self.acks {
                Acks::All => producer::Acks::All,
                Acks::Leader => producer::Acks::Leader,
                Acks::Nobody => producer::Acks::Nobody,
            },
            compression: self.compression.into(),
            batch_bytes: ByteCount(self.batch_bytes),
            ..ProducerOptions::default()
        }
    }

    /// Runs the command.
    pub async fn run(self, world: &aquifer_runtime::world::World, tasks: &TaskGroup) -> anyhow::Result<()> {
        let cluster = self.client.cluster(world, tasks);
        let producer = Producer::open(&cluster, &self.topic, self.options()).await?;
        let (heaps, lines) = mpsc::channel(HEAPS_MAX);
        // The thread ends with the input or the channel; one that waits for a terminal ends with the process.
        tasks.spawn_thread("stdin", async move { read_lines(&heaps).await })?;
        let began = world.clock.now();
        let written = self.write_all(&cluster, producer, lines).await?;
        if !self.quiet {
            let seconds = world.clock.now().duration_since(began).as_secs_f64();
            eprintln!(
                "{} records written to {}, {} in {seconds:.1} s",
                written.records, self.topic, written.bytes
            );
        }
        Ok(())
    }

    async fn write_all(
        &self,
        cluster: &Cluster,
        mut producer: Producer,
        mut heaps: mpsc::Receiver<std::io::Result<Vec<Vec<u8>>>>,
    ) -> anyhow::Result<Written> {
        let headers: Vec<(&[u8], Option<&[u8]>)> =
            self.header.iter().map(|(name, value)| (name.as_bytes(), Some(value.as_bytes()))).collect();
        loop {
            let heap = match tokio::time::timeout(LINGER, heaps.recv()).await {
                Ok(Some(heap)) => heap.context("cannot read standard input")?,
                Ok(None) => return producer.finish().await,
                Err(_) => {
                    producer.push().await?;
                    match heaps.recv().await {
                        Some(heap) => heap.context("cannot read standard input")?,
                        None => return producer.finish().await,
                    }
                }
            };
            let timestamp = cluster.world().clock.wall();
            for line in &heap {
                let (key, value) = split(line, self.key_separator.as_deref())?;
                let record = NewRecord { key, value: Some(value), headers: &headers, timestamp };
                producer.send(self.partition, record).await?;
            }
        }
    }
}

fn split<'a>(line: &'a [u8], separator: Option<&str>) -> anyhow::Result<(Option<&'a [u8]>, &'a [u8])> {
    let Some(separator) = separator.map(str::as_bytes).filter(|separator| !separator.is_empty()) else {
        return Ok((None, line));
    };
    let at = line.windows(separator.len()).position(|window| window == separator);
    let shown = || String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
    let at = at.with_context(|| format!("a line has no key separator: {}", shown()))?;
    Ok((Some(&line[..at]), &line[at + separator.len()..]))
}

/// Reads lines until the input or its reader ends. What the input's buffer holds goes over at once, so that a line that was
/// typed does not wait for a thousand more.
async fn read_lines(heaps: &mpsc::Sender<std::io::Result<Vec<Vec<u8>>>>) {
    let mut input = BufReader::with_capacity(256 << 10, std::io::stdin());
    loop {
        let mut heap = Vec::new();
        let ended = loop {
            match read_line(&mut input) {
                Ok(Some(line)) => heap.push(line),
                Ok(None) => break true,
                Err(error) => {
                    drop(heaps.send(Ok(heap)).await);
                    drop(heaps.send(Err(error)).await);
                    return;
                }
            }
            if heap.len() >= LINES_MAX || !input.buffer().contains(&b'\n') {
                break false;
            }
        };
        if heaps.send(Ok(heap)).await.is_err() || ended {
            return;
        }
    }
}

/// A line without its end; `None` at the end of the input.
fn read_line(input: &mut impl std::io::BufRead) -> std::io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let read = std::io::Read::take(&mut *input, LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    if read == 0 {
        return Ok(None);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if read as u64 == LINE_BYTES_MAX {
        return Err(std::io::Error::other(format!("a line is longer than {LINE_BYTES_MAX} bytes")));
    }
    Ok(Some(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_split_at_its_first_separator() {
        for (line, separator, expected) in [
            ("a:b:c", None, Some((None, "a:b:c"))),
            ("a:b:c", Some(":"), Some((Some("a"), "b:c"))),
            ("a=>b", Some("=>"), Some((Some("a"), "b"))),
            (":b", Some(":"), Some((Some(""), "b"))),
            ("ab", Some(":"), None),
            ("ab", Some(""), Some((None, "ab"))),
        ] {
            let found = split(line.as_bytes(), separator).ok();
            let expected = expected.map(|(key, value)| (key.map(str::as_bytes), value.as_bytes()));
            assert_eq!(found, expected, "{line} by {separator:?}");
        }
    }

    #[test]
    fn lines_end_with_the_input_too() {
        let mut input = &b"a\n\nbc"[..];
        let mut lines = Vec::new();
        while let Some(line) = read_line(&mut input).unwrap() {
            lines.push(String::from_utf8(line).unwrap());
        }
        assert_eq!(lines, ["a", "", "bc"]);
    }
}
