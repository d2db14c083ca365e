//! `aquifer consume`: records to standard output.

use anyhow::{Context as _, bail};
use aquifer_model::batches::Batches;
use aquifer_model::record::{self, Record};
use aquifer_model::{BatchHeader, TopicName};
use aquifer_runtime::tasks::TaskGroup;
use aquifer_runtime::world::World;
use bytes::Bytes;
use clap::Args;

use crate::cli::client::{ClientArgs, parse_topic};
use crate::cli::consumer::{Consumer, ConsumerOptions, Fetched, Stop};
use crate::cli::format::Format;
use crate::cli::output::Output;
use crate::cli::whence::Whence;

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
    #[arg(long, short, default_value = "end", value_parser = Whence::parse, allow_hyphen_values = true, value_name = "WHERE")]
    from: Whence,
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

impl ConsumeArgs {
    /// Runs the command.
    pub async fn run(self, world: &World, tasks: &TaskGroup) -> anyhow::Result<()> {
        let start = self.from.at(world.clock.wall());
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
