//! What passed of each partition, in the order of offsets, as lines `key TAB value LF`.

use anyhow::{Context, Result, ensure};
use rdkafka::Message;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Default)]
pub struct Seen(BTreeMap<i32, One>);

struct One {
    count: u64,
    first: i64,
    last: i64,
    lines: Sha256,
}

impl Seen {
    /// The line of a partition, also if nothing comes of it.
    pub fn expect(&mut self, partition: i32) {
        self.of(partition);
    }

    fn of(&mut self, partition: i32) -> &mut One {
        self.0.entry(partition).or_insert_with(|| One { count: 0, first: -1, last: -1, lines: Sha256::new() })
    }

    pub fn add(&mut self, message: &impl Message) -> Result<()> {
        let (partition, offset) = (message.partition(), message.offset());
        let one = self.of(partition);
        ensure!(offset > one.last, "partition {partition}: offset {offset} came after {}", one.last);
        one.first = if one.count == 0 { offset } else { one.first };
        one.last = offset;
        one.count += 1;
        one.lines.update(message.key().context("a record has no key")?);
        one.lines.update(b"\t");
        one.lines.update(message.payload().unwrap_or_default());
        one.lines.update(b"\n");
        Ok(())
    }

    pub fn print(self) {
        for (partition, One { count, first, last, lines }) in self.0 {
            let sha256 = lines.finalize().iter().fold(String::new(), |mut text, byte| {
                write!(text, "{byte:02x}").expect("a String takes all");
                text
            });
            println!("partition={partition} count={count} first={first} last={last} sha256={sha256}");
        }
    }
}
