//! From the configuration to what each module wants to be told.

use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount};
use aquifer_runtime::budget::ByteBudget;
use aquifer_runtime::clock::Clock;
use aquifer_runtime::sockets::Listener;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::StoreOptions;
use tokio::sync::watch;

use crate::config::{self, Config};
use crate::log::LogDirOptions;
use crate::metadata::image::{Endpoint, SecurityProtocol};
use crate::metadata::{self, Image, Metadata};
use crate::net::write_turns::WriteTurns;
use crate::quotas::{QuotaOptions, Windows};
use crate::replica::keeper::KeeperOptions;
use crate::replica::scrub::ScrubOptions;
use crate::server::connection::ConnectionLimits;
use crate::server::memory::RequestMemory;

/// "Never" for a timer.
const NEVER: Duration = Duration::from_secs(u32::MAX as u64);

pub(super) fn log_dir(config: &Config) -> LogDirOptions {
    let log = &config.broker().log;
    let defaults = LogDirOptions::default();
    LogDirOptions {
        recovery_threads: log.recovery_threads as usize,
        files_open_max: log.files_open_max.map_or_else(half_of_the_process_limit, |files| files as usize),
        index_cache_bytes: log.index_cache,
        checkpoint_bytes: log.checkpoint,
        recovery_bytes: log.recovery,
        producer_id_expiration_ms: log.producer_id_expiration,
        producer_ids_max: log.producer_ids_max as usize,
        producer_ids_total_max: log.producer_ids_total_max as usize,
        expansions_max: log.expansions_max as usize,
        journal_bytes: log.journal.bytes,
        journal_logs_min: log.journal.logs_min as usize,
        journal_log_bytes_max: log.journal.log_bytes_max,
        lend_bytes_min: log.lend_bytes_min,
        ..defaults
    }
}

/// Of the descriptors that the process may open, segments have half; connections have three eighths, and an eighth is left for
/// whatever else there is.
fn half_of_the_process_limit() -> usize {
    usize::try_from(aquifer_runtime::files::open_files_max() / 2).unwrap_or(usize::MAX)
}

pub(super) fn metadata(config: &Config) -> metadata::Options {
    let raft = &config.broker().raft;
    metadata::Options {
        heartbeat_interval: raft.heartbeat_interval,
        election_timeout_min: raft.election_timeout_min,
        election_timeout_max: raft.election_timeout_max,
        propose_timeout: raft.propose_timeout,
        snapshot_entries_max: u64::from(raft.snapshot_entries_max),
        snapshot_bytes_max: raft.snapshot_bytes_max,
        ..metadata::Options::default()
    }
}

pub(super) fn keeper(config: &Config) -> KeeperOptions {
    let broker = config.broker();
    let tier = broker.tier.as_ref();
    KeeperOptions {
        check_interval: tier.map_or(Duration::from_secs(1), |tier| tier.check_interval),
        roll_after: tier.map_or(NEVER, |tier| tier.roll),
        retention_interval: broker.log.retention_check_interval,
        uploads_max: tier.map_or(1, |tier| tier.upload.concurrency as usize),
        retry_min: tier.map_or(NEVER, |tier| tier.upload.retry_min),
        retry_max: tier.map_or(NEVER, |tier| tier.upload.retry_max),
        sweep_interval: tier.map_or(NEVER, |tier| tier.delete_grace),
        late_write_max: tier.map_or(Duration::ZERO, |tier| tier.late_write_max),
        upload_deadline: tier.map_or(NEVER, |tier| tier.upload.deadline),
        bytes_per_second_min: tier
            .map_or(aquifer_model::ByteCount::mib(1), |tier| tier.store.bytes_per_second_min),
        stall_after: tier.map_or(NEVER, |tier| tier.upload.stall),
    }
}

pub(super) fn scrub(config: &Config) -> ScrubOptions {
    let log = &config.broker().log;
    let tier = config.broker().tier.as_ref();
    let rate = |rate: ByteCount| (rate > ByteCount::ZERO).then_some(rate);
    ScrubOptions {
        local_rate: rate(log.scrub_rate),
        local_interval: log.scrub_interval,
        tier_rate: tier.and_then(|tier| rate(tier.scrub_rate)),
        tier_interval: tier.map_or(NEVER, |tier| tier.scrub_interval),
    }
}

pub(super) fn store(tier: &config::Tier) -> StoreOptions {
    let config::TierStore { deadline, attempt, bytes_per_second_min, backoff, backoff_max } = tier.store;
    StoreOptions { deadline, attempt, bytes_per_second_min, backoff, backoff_max }
}

pub(super) fn tier(tier: &config::Tier) -> aquifer_tiering::Options {
    let config::Tier { upload, manifest, read, .. } = tier;
    aquifer_tiering::Options {
        upload_multipart_threshold: upload.multipart_threshold,
        upload_part_bytes: upload.part_bytes,
        upload_parts_in_flight: upload.parts_in_flight as usize,
        upload_memory: upload.memory,
        index_interval: tier.index_interval,
        manifest_entries_max: manifest.entries_max as usize,
        manifest_page_entries: manifest.page_entries as usize,
        manifest_age_max: manifest.age_max,
        commit_deadline: manifest.commit_deadline,
        chunk_bytes: read.chunk,
        chunk_bytes_first: read.first,
        cache_bytes: read.cache,
        index_cache_bytes: read.index_cache,
        loading_bytes: read.loading,
        ahead_bytes_max: read.ahead_max,
        ahead_horizon: read.ahead_horizon,
        ahead_bytes_total: read.ahead_total,
        ahead_requests_max: read.ahead_requests_max as usize,
        ahead_segments_max: read.ahead_segments_max as usize,
        streams_max: read.streams_max as usize,
        read_deadline: read.deadline,
        delete_grace: tier.delete_grace,
        late_write_max: tier.late_write_max,
        expire_segments_max: tier.expire_segments_max as usize,
    }
}

/// Of a broker with so many threads that serve.
pub(super) fn connections(
    config: &Config,
    budget: ByteBudget,
    threads: usize,
    clock: Clock,
) -> ConnectionLimits {
    let connections = &config.broker().connections;
    ConnectionLimits {
        frame_bytes_max: connections.request_bytes_max,
        requests: RequestMemory::new(budget, connections.request_arrival_max),
        idle_max: connections.idle_max.unwrap_or(NEVER),
        write_turns: WriteTurns::new(threads, clock),
    }
}

pub(super) fn quotas(config: &Config) -> QuotaOptions {
    let config::Quotas { windows, window_size, mutation_windows, mutation_window_size, clients_max } =
        config.broker().quotas;
    QuotaOptions {
        windows: Windows { count: windows, size: window_size },
        mutation_windows: Windows { count: mutation_windows, size: mutation_window_size },
        clients_max: clients_max as usize,
    }
}

/// What clients are told: the configured address, with the machine's name and the port that was bound where it leaves them open.
pub(super) fn endpoints(listeners: &[(Listener, config::Listener)]) -> Vec<Endpoint> {
    let advertised = listeners.iter().map(|(socket, listener)| {
        let bound = socket.local_addr().ok();
        let host = match listener.advertised.host.as_str() {
            "" => machine_name(),
            host => host.to_owned(),
        };
        let port = match listener.advertised.port {
            0 => bound.map_or(0, |address| address.port()),
            port => port,
        };
        Endpoint { listener: listener.name.clone(), host, port, security: SecurityProtocol::Plaintext }
    });
    advertised.collect()
}

fn machine_name() -> String {
    aquifer_runtime::sockets::machine_name()
}

/// The configuration in force, with what is set at run time, as a watch.
pub(super) fn follow_configs(
    config: Config,
    metadata: &Metadata,
    broker: BrokerId,
    group: &TaskGroup,
) -> watch::Receiver<Config> {
    let mut images = metadata.watch();
    let with_dynamic = move |image: &Image| {
        let (config, problems) =
            config.with_dynamic(image.broker_configs(None), image.broker_configs(Some(broker)));
        for problem in problems {
            tracing::warn!(%problem, "a setting made at run time is not allowed here and has no effect");
        }
        config
    };
    let dynamic =
        move |image: &Image| (image.broker_configs(None).clone(), image.broker_configs(Some(broker)).clone());
    let mut known = dynamic(&images.borrow());
    let first = with_dynamic(&images.borrow_and_update());
    let (sender, receiver) = watch::channel(first);
    let cancelled = group.cancelled().clone();
    group.spawn("config", async move {
        loop {
            tokio::select! {
                () = cancelled.cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
            }
            let image = images.borrow_and_update().clone();
            // Whoever follows goes through all topics: not for each change of the metadata.
            let now = dynamic(&image);
            if now != known {
                known = now;
                sender.send_replace(with_dynamic(&image));
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tools that need no broker have no configuration, and shall be as patient as a broker by default.
    #[test]
    fn a_store_is_as_patient_as_it_is_configured_and_by_default_as_it_would_be_by_itself() {
        let configured = |sets: &[&str]| {
            let sets = [&["tier.object.store=memory:///"], sets].concat();
            let sets = sets.into_iter().map(str::to_owned).collect();
            let config = Config::load(config::Sources { sets, ..Default::default() }).unwrap();
            store(config.broker().tier.as_ref().unwrap())
        };
        assert_eq!(configured(&[]), StoreOptions::default());
        let impatient = configured(&[
            "tier.store.deadline.ms=2000",
            "tier.store.attempt.ms=1000",
            "tier.store.bytes.per.second.min=65536",
            "tier.store.backoff.ms=5",
            "tier.store.backoff.max.ms=7",
        ]);
        let expected = StoreOptions {
            deadline: Duration::from_secs(2),
            attempt: Duration::from_secs(1),
            bytes_per_second_min: aquifer_model::ByteCount::kib(64),
            backoff: Duration::from_millis(5),
            backoff_max: Duration::from_millis(7),
        };
        assert_eq!(impatient, expected);
    }
}
