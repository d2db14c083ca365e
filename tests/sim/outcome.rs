//! What came of a run: one line that a process hands to the one that started it.

use std::collections::BTreeMap;

use aquifer_runtime::files::simulated::Counts;
use serde::{Deserialize, Serialize};

use crate::history::History;
use crate::node::Node;
use crate::seen::Seen;

/// What came of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Outcome {
    pub(crate) seed: u64,
    pub(crate) hash: u64,
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) read: u64,
    pub(crate) blows: u64,
    pub(crate) starts: u64,
    pub(crate) failed_starts: u64,
    pub(crate) fenced: u64,
    pub(crate) disk_operations: u64,
    pub(crate) disk_faults: u64,
    pub(crate) undone: u64,
    pub(crate) bucket_requests: u64,
    /// Of these, those before the bucket was looked into.
    pub(crate) node_requests: u64,
    pub(crate) bucket_faults: u64,
    pub(crate) simulated_ms: u64,
    pub(crate) violations: Vec<String>,
}

impl Outcome {
    /// Of a run that has ended.
    pub(crate) fn of(
        seed: u64,
        history: &History,
        seen: &Seen,
        disk: Counts,
        bucket: &BTreeMap<&'static str, u64>,
        node: &Node,
        blows: u64,
    ) -> Outcome {
        history.mix(bucket);
        let (report, broken, hash) = history.finish();
        let requests = bucket.get("requests").copied().unwrap_or(0);
        let told = report.told().map(|found| format!("{:?} {}: {}", found.kind, found.partition, found.what));
        Outcome {
            seed,
            hash,
            sent: report.sent,
            acked: report.acked,
            read: report.read,
            blows,
            starts: node.starts(),
            failed_starts: node.failed_starts(),
            fenced: seen.fenced(),
            disk_operations: disk.operations,
            disk_faults: disk.failures + disk.cuts,
            undone: disk.undone,
            bucket_requests: requests,
            node_requests: requests,
            bucket_faults: bucket.values().sum::<u64>() - requests,
            simulated_ms: u64::try_from(crate::machine::elapsed().as_millis()).unwrap_or(u64::MAX),
            violations: seen.panics().into_iter().chain(broken).chain(told).collect(),
        }
    }

    /// Of a run that told nothing.
    pub(crate) fn none(seed: u64) -> Outcome {
        Outcome {
            seed,
            hash: 0,
            sent: 0,
            acked: 0,
            read: 0,
            blows: 0,
            starts: 0,
            failed_starts: 0,
            fenced: 0,
            disk_operations: 0,
            disk_faults: 0,
            undone: 0,
            bucket_requests: 0,
            node_requests: 0,
            bucket_faults: 0,
            simulated_ms: 0,
            violations: Vec::new(),
        }
    }
}
