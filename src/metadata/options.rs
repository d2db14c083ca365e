//! What can be set.

use std::time::Duration;

use aquifer_model::ByteCount;

/// How metadata runs on this node. Other nodes need not agree.
#[derive(Debug, Clone)]
pub struct Options {
    /// A leader is heard of this often. 300 ms.
    pub heartbeat_interval: Duration,
    /// A leader that was not heard of for this long, or up to [`Options::election_timeout_max`], is replaced. 1 s. A sole voter
    /// does not wait for it.
    pub election_timeout_min: Duration,
    /// See [`Options::election_timeout_min`]. 2 s.
    pub election_timeout_max: Duration,
    /// A start that does not end by then fails: no leader was found, or the disk hangs. 60 s.
    pub start_timeout: Duration,
    /// A proposal that has no verdict by then is answered so; it may still take effect. 30 s.
    pub propose_timeout: Duration,
    /// Proposals at a time; further ones wait. 1024.
    pub proposals_max: u32,
    /// A command's bytes. 4 MiB.
    pub command_bytes_max: ByteCount,
    /// A snapshot is taken when this many entries were appended since the last. 10,000.
    pub snapshot_entries_max: u64,
    /// A snapshot is taken when this many bytes were appended since the last, as Kafka's
    /// `metadata.log.max.record.bytes.between.snapshots`. 20 MiB. The log, on disk and in memory, holds about twice that.
    pub snapshot_bytes_max: ByteCount,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            heartbeat_interval: Duration::from_millis(300),
            election_timeout_min: Duration::from_secs(1),
            election_timeout_max: Duration::from_secs(2),
            start_timeout: Duration::from_secs(60),
            propose_timeout: Duration::from_secs(30),
            proposals_max: 1024,
            command_bytes_max: ByteCount::mib(4),
            snapshot_entries_max: 10_000,
            snapshot_bytes_max: ByteCount::mib(20),
        }
    }
}

impl Options {
    pub(super) fn raft(&self) -> openraft::Config {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        openraft::Config {
            cluster_name: "metadata".to_owned(),
            heartbeat_interval: millis(self.heartbeat_interval),
            election_timeout_min: millis(self.election_timeout_min),
            election_timeout_max: millis(self.election_timeout_max),
            enable_pre_vote: Some(true),
            // A node that was wiped is another node; it never comes back as the one it was.
            allow_log_reversion: Some(false),
            // A leader that comes back in its old term may lack entries that it had sent out before they were durable here, and
            // would give their places to others.
            enable_leader_restore: Some(false),
            // Both are `keeper`'s, by bytes as well as entries.
            snapshot_policy: openraft::SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            ..openraft::Config::default()
        }
    }
}
