//! `aquifer consume`: records to standard output.

use std::time::Duration;

use anyhow::{Context as _, bail};
use aquifer_model::batches::Batches;
use aquifer_model::record::{self, Record};
use aquifer_model::{BatchHeader, Offset, Timestamp, TopicName};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use bytes::Bytes;
use clap::Args;

use crate::cli::client::{ClientArgs, parse_topic};
use crate::cli::consumer::{Consumer, ConsumerOptions, Fetched, Start, Stop};
use crate::cli::format::Format;
use crate::cli::output::Output;

/// What a compressed batch may open to.
const BATCH_BYTES_MAX: usize = 1 << 30;

/// Reads records to standard output
#[derive(Debug, Args)]
pub struct ConsumeArgs {
    #[command(flatten)]
    client: ClientArgs,
    /// Topic to read
    #[arg(value_parser = parse_topic)]
    topic: TopicName,
    /// Partition to read; may be given several times; without it, all
    #[arg(long, short, value_name = "INDEX")]
    partition: Vec<i32>,
    /// Where to start: beginning, end, an offset, -N for N records before the end, @MILLISECONDS since 1970, or @-15m for a time
    /// ago (s, m, h, d)
    #[arg(long, short, default_value = "end", value_parser = parse_from, allow_hyphen_values = true, value_name = "WHERE")]
    from: From,
    /// Stop after so many records
    #[arg(long, short, value_name = "NUMBER")]
    count: Option<u64>,
    /// Stop at what is the end when reading begins
    #[arg(long, short)]
    exit_at_end: bool,
    /// What to print of a record: {topic} {partition} {offset} {timestamp} {key} {value} {headers}, \n, \t
    #[arg(long, short = 'F', default_value = "{value}\\n", value_parser = Format::parse, value_name = "TEMPLATE")]
    format: Format,
    /// Print a JSON object a line
    #[arg(long, conflicts_with = "format")]
    json: bool,
}

/// Where to start, as typed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    Start(Start),
    Ago(Duration),
}

fn parse_from(text: &str) -> Result<From, String> {
    let wrong = || format!("{text:?} is none of beginning, end, an offset, -N, @MILLISECONDS, @-15m");
    let start = match text {
        "beginning" => Start::Beginning,
        "end" => Start::End,
        _ => {
            if let Some(ago) = text.strip_prefix("@-") {
                return parse_duration(ago).map(From::Ago).ok_or_else(wrong);
            }
            if let Some(millis) = text.strip_prefix('@') {
                let millis: u64 = millis.parse().map_err(|_| wrong())?;
                Start::Since(Timestamp(i64::try_from(millis).map_err(|_| wrong())?))
            } else if let Some(back) = text.strip_prefix('-') {
                Start::BeforeEnd(back.parse().map_err(|_| wrong())?)
            } else {
                Start::At(text.parse().ok().and_then(Offset::new).ok_or_else(wrong)?)
            }
        }
    };
    Ok(From::Start(start))
}

/// Reads a number with one of the units s, m, h and d.
fn parse_duration(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

impl ConsumeArgs {
    /// Runs the command.
    pub async fn run(self, world: &World, tasks: &TaskGroup) -> anyhow::Result<()> {
        let start = match self.from {
            From::Start(start) => start,
            From::Ago(ago) => {
                let millis = i64::try_from(ago.as_millis()).unwrap_or(i64::MAX);
                Start::Since(Timestamp(world.clock.wall().millis().saturating_sub(millis).max(0)))
            }
        };
        let stop = if self.exit_at_end { Stop::AtEnd } else { Stop::Never };
        let cluster = self.client.cluster(world, tasks);
        let options = ConsumerOptions::default();
        let mut consumer =
            Consumer::open(&cluster, &self.topic, &self.partition, start, stop, options).await?;
        let format = if self.json { Format::Json } else { self.format };
        let mut out = Output::stdout();
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(fetched) = consumer.next().await? else { break };
            for record in records_of(&fetched)? {
                format.write(&mut out, &self.topic, fetched.partition, &record)?;
                left -= 1;
                if left == 0 {
                    break;
                }
            }
            out.flush()?;
        }
        out.flush()?;
        Ok(())
    }
}

/// The records of fetched batches from the offset asked for on; markers of transactions are left out.
pub fn records_of(fetched: &Fetched) -> anyhow::Result<Vec<Record>> {
    let mut records = Vec::new();
    for located in Batches::new(&fetched.batches).collect::<Vec<_>>() {
        let header = located.header;
        let batch = fetched.batches.slice(located.position..located.position + header.size());
        let at = || format!("partition {}, batch at offset {}", fetched.partition, header.base_offset);
        header.verify(&batch).with_context(at)?;
        if !header.is_control() {
            let opened = open_batch(&header, &batch).with_context(at)?;
            records.extend(opened.into_iter().filter(|record| record.offset >= fetched.from));
        }
    }
    Ok(records)
}

fn open_batch(header: &BatchHeader, batch: &Bytes) -> anyhow::Result<Vec<Record>> {
    let packed = batch.slice(aquifer_model::batch::HEADER_BYTES..);
    let records = match header.compression() {
        aquifer_model::compression::Compression::None => packed,
        codec => Bytes::from(codec.decompress(&packed, BATCH_BYTES_MAX)?),
    };
    match record::read(header, &records) {
        Ok(records) => Ok(records),
        Err(error) => bail!(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_are_read_as_typed() {
        let at = |offset| Offset::new(offset).unwrap();
        for (text, expected) in [
            ("beginning", Some(From::Start(Start::Beginning))),
            ("end", Some(From::Start(Start::End))),
            ("0", Some(From::Start(Start::At(at(0))))),
            ("12", Some(From::Start(Start::At(at(12))))),
            ("-5", Some(From::Start(Start::BeforeEnd(5)))),
            ("@1700000000000", Some(From::Start(Start::Since(Timestamp(1_700_000_000_000))))),
            ("@-90s", Some(From::Ago(Duration::from_secs(90)))),
            ("@-2d", Some(From::Ago(Duration::from_secs(172_800)))),
            ("@-2w", None),
            ("@-", None),
            ("@", None),
            ("--5", None),
            ("earliest", None),
            ("9223372036854775808", None),
        ] {
            assert_eq!(parse_from(text).ok(), expected, "{text}");
        }
    }
}
