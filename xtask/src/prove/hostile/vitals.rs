//! A broker's resident memory and sockets over time.

use crate::broker::Broker;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Less than this says nothing: memory goes up and down with each batch that is opened.
const HALF_MIN: Duration = Duration::from_secs(30);

/// What the looks of some time found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Level {
    pub(super) median_mb: u64,
    /// What a tenth of the looks were below.
    pub(super) tenth_mb: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Look {
    at: Duration,
    resident_bytes: u64,
    pub(super) sockets: usize,
}

/// All looks, in their order.
#[derive(Debug)]
pub(super) struct Vitals {
    began: Instant,
    looks: Vec<Look>,
}

impl Vitals {
    pub(super) fn begin() -> Vitals {
        Vitals { began: Instant::now(), looks: Vec::new() }
    }

    pub(super) fn look(&mut self, broker: &Broker) -> Result<Look> {
        let look = Look {
            at: self.began.elapsed(),
            resident_bytes: broker.resident_bytes()?,
            sockets: broker.sockets()?,
        };
        self.looks.push(look);
        Ok(look)
    }

    pub(super) fn last_mb(&self) -> u64 {
        self.looks.last().map_or(0, |look| look.resident_mb())
    }

    pub(super) fn peak_mb(&self) -> u64 {
        self.looks.iter().map(|look| mb(look.resident_bytes)).max().unwrap_or_default()
    }

    /// The two halves of the time from `settled` on.
    pub(super) fn halves(&self, settled: Duration) -> Result<[Level; 2]> {
        let last = self.looks.last().map_or(Duration::ZERO, |look| look.at);
        let half = last.saturating_sub(settled) / 2;
        ensure!(half >= HALF_MIN, "{last:?} are too short to tell what memory does after {settled:?}");
        let level = |from: Duration, to: Duration| {
            let looks = self.looks.iter().filter(|look| look.at >= from && look.at <= to);
            Level::of(looks.map(|look| look.resident_bytes).collect())
        };
        Ok([level(settled, settled + half), level(settled + half, last)])
    }
}

impl Look {
    pub(super) fn resident_mb(self) -> u64 {
        mb(self.resident_bytes)
    }
}

impl Level {
    fn of(mut bytes: Vec<u64>) -> Level {
        bytes.sort_unstable();
        Level { median_mb: mb(bytes[bytes.len() / 2]), tenth_mb: mb(bytes[bytes.len() / 10]) }
    }
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}
