//! A broker's resident memory and sockets over time.

use crate::broker::Broker;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// Looks that make one figure: a single one may hit a peak.
const WINDOW: usize = 20;

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

    pub(super) fn peak_mb(&self) -> u64 {
        self.looks.iter().map(|look| mb(look.resident_bytes)).max().unwrap_or_default()
    }

    /// Resident MB from `settled` on, and at the end: the median of the looks there.
    pub(super) fn settled_and_end_mb(&self, settled: Duration) -> Result<(u64, u64)> {
        let first = self.looks.iter().position(|look| look.at >= settled).unwrap_or(self.looks.len());
        let settled = &self.looks[first..];
        ensure!(settled.len() >= 2 * WINDOW, "{} looks after it settled are too few", settled.len());
        let (begin, end) = (&settled[..WINDOW], &settled[settled.len() - WINDOW..]);
        Ok((median_mb(begin), median_mb(end)))
    }
}

impl Look {
    pub(super) fn resident_mb(self) -> u64 {
        mb(self.resident_bytes)
    }
}

fn median_mb(looks: &[Look]) -> u64 {
    let mut bytes: Vec<u64> = looks.iter().map(|look| look.resident_bytes).collect();
    bytes.sort_unstable();
    mb(bytes[bytes.len() / 2])
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}
