//! A broker's resident memory and sockets over time.

use crate::broker::Broker;
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

/// The looks of so long make one figure: it goes up and down with each batch that is opened.
const WINDOW: Duration = Duration::from_secs(60);

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

    /// Resident MB from `settled` on, and in the end: the medians of a minute.
    pub(super) fn settled_and_end_mb(&self, settled: Duration) -> Result<(u64, u64)> {
        let last = self.looks.last().map_or(Duration::ZERO, |look| look.at);
        ensure!(
            last >= settled + 2 * WINDOW,
            "{last:?} are too short to tell what memory does after {settled:?}"
        );
        let within = |from: Duration| {
            let looks = self.looks.iter().filter(move |look| look.at >= from && look.at < from + WINDOW);
            median_mb(looks.map(|look| look.resident_bytes).collect())
        };
        Ok((within(settled), within(last.saturating_sub(WINDOW))))
    }
}

impl Look {
    pub(super) fn resident_mb(self) -> u64 {
        mb(self.resident_bytes)
    }
}

fn median_mb(mut bytes: Vec<u64>) -> u64 {
    bytes.sort_unstable();
    mb(bytes[bytes.len() / 2])
}

fn mb(bytes: u64) -> u64 {
    bytes / 1_000_000
}
