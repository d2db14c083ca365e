//! What the broker knows of itself, as JSON, and the gauges that follow from it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{ByteCount, Timestamp, TopicPartition};
use aquifer_runtime::World;
use aquifer_runtime::metrics::{Family, Gauge, Registry, Table};
use aquifer_tiering::Tier;
use aquifer_tiering::tier::PartitionStatus;
use serde::Serialize;

use crate::log::SealedSum;
use crate::metadata::Metadata;
use crate::replica::{Replica, Replicas, Role, Unopened};

/// The whole answer of `/api/status`.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    cluster_id: Option<String>,
    broker_id: i32,
    topics: usize,
    partitions: Vec<PartitionView>,
    tier: Option<TierView>,
    totals: Totals,
}

/// What a broker holds, and what it asked of the bucket so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Bytes of records on the local disk.
    pub local: ByteCount,
    /// Bytes of records in the bucket.
    pub tiered: ByteCount,
    /// Sealed segments in the bucket, each an object.
    pub objects: u64,
    /// Requests made to the bucket since the start.
    pub requests: u64,
}

/// Sums over all partitions.
#[derive(Debug, Default, Clone, Copy, Serialize)]
pub(crate) struct Totals {
    /// Bytes on the local disk.
    local_bytes: u64,
    /// Bytes of records in the bucket.
    tiered_bytes: u64,
    /// Bytes of records whose only copy is in the bucket.
    only_tiered_bytes: u64,
    /// Sealed bytes that are not in the bucket yet.
    upload_lag_bytes: u64,
    /// Sealed segments that are not in the bucket yet.
    upload_lag_segments: usize,
    /// Age of the oldest of them, in milliseconds.
    upload_lag_ms: u64,
    /// Files and objects that are damaged and not mended.
    damaged: usize,
    /// The largest of the partitions': what losing all local disks now would cost of those that are tiered.
    exposed_ms: u64,
    /// Partitions that are not tiered: it would cost all of them.
    local_only: usize,
}

#[derive(Debug, Serialize)]
struct TierView {
    url: String,
}

/// One partition.
#[derive(Debug, Default, Serialize)]
struct PartitionView {
    topic: String,
    topic_id: String,
    partition: i32,
    /// Whether its records go to the bucket.
    tiered: bool,
    role: &'static str,
    /// Why it is offline.
    reason: Option<String>,
    leader_epoch: Option<i32>,
    log_start: i64,
    local_start: i64,
    high_watermark: i64,
    log_end: i64,
    local_bytes: u64,
    tiered_end: Option<i64>,
    tiered_bytes: u64,
    tiered_segments: u64,
    upload_lag_bytes: u64,
    upload_lag_segments: usize,
    upload_lag_ms: u64,
    /// If it is tiered: how long the oldest record that is only here has been only here, in milliseconds, at most.
    exposed_ms: u64,
    upload_failures: u32,
    upload_error: Option<String>,
    /// What of it is damaged and not mended, on this disk or in the bucket: which file or object, and what is wrong.
    damaged: Vec<String>,
}

#[derive(Debug, Clone, Default)]
struct Gauges {
    partitions: Gauge,
    offline: Gauge,
    recovering: Gauge,
    local_bytes: Gauge,
    tiered_bytes: Gauge,
    lag_bytes: Gauge,
    lag_segments: Gauge,
    lag_ms: Gauge,
    lag_bytes_of: Family<Vec<(String, String)>, Gauge>,
}

/// Where the answers come from.
pub(crate) struct StatusSource {
    broker: i32,
    metadata: Metadata,
    replicas: Arc<Replicas>,
    tier: Option<(Tier, String)>,
    world: World,
    gauges: Gauges,
}

impl StatusSource {
    pub(crate) fn new(
        broker: i32,
        metadata: Metadata,
        replicas: Arc<Replicas>,
        tier: Option<(Tier, String)>,
        world: World,
        registry: &mut Registry,
    ) -> StatusSource {
        let gauges = Gauges::default();
        Table::under(registry, "aquifer_replica")
            .row("partitions", "Partitions on this broker", &gauges.partitions)
            .row("partitions_offline", "Partitions that are not served", &gauges.offline)
            .row(
                "partitions_recovering",
                "Partitions that wait for the bucket to say where they end",
                &gauges.recovering,
            )
            .row("local_bytes", "Bytes of logs on the local disk", &gauges.local_bytes)
            .row("tiered_bytes", "Bytes of records in the bucket", &gauges.tiered_bytes)
            .row("upload_lag_bytes", "Sealed bytes that are not in the bucket yet", &gauges.lag_bytes)
            .row(
                "upload_lag_segments",
                "Sealed segments that are not in the bucket yet",
                &gauges.lag_segments,
            )
            .row(
                "upload_lag_milliseconds",
                "Age of the oldest sealed segment not in the bucket",
                &gauges.lag_ms,
            )
            .row(
                "topic_upload_lag_bytes",
                "Sealed bytes not in the bucket yet, by topic",
                &gauges.lag_bytes_of,
            );
        StatusSource { broker, metadata, replicas, tier, world, gauges }
    }

    /// How it all is now.
    pub(crate) fn status(&self) -> Status {
        let image = self.metadata.image();
        let partitions = self.partitions();
        Status {
            version: env!("CARGO_PKG_VERSION"),
            cluster_id: image.cluster().map(|cluster| cluster.id.to_string()),
            broker_id: self.broker,
            topics: image.topic_count(),
            totals: totals(&partitions),
            partitions,
            tier: self.tier.as_ref().map(|(_, url)| TierView { url: url.clone() }),
        }
    }

    /// The sums, and the requests made to the bucket.
    pub(crate) fn report(&self) -> Report {
        let partitions = self.partitions();
        let totals = totals(&partitions);
        Report {
            local: ByteCount(totals.local_bytes),
            tiered: ByteCount(totals.tiered_bytes),
            objects: partitions.iter().map(|partition| partition.tiered_segments).sum(),
            requests: self.tier.as_ref().map_or(0, |(tier, _)| tier.store().metrics().requests_total()),
        }
    }

    /// Sets the gauges that are looked up rather than kept; called at each scrape.
    pub(crate) fn refresh_gauges(&self) {
        let partitions = self.partitions();
        let totals = totals(&partitions);
        let gauges = &self.gauges;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        gauges.partitions.set(number(partitions.len() as u64));
        gauges
            .offline
            .set(number(partitions.iter().filter(|partition| partition.role == "offline").count() as u64));
        gauges
            .recovering
            .set(number(partitions.iter().filter(|partition| partition.role == "recovering").count() as u64));
        gauges.local_bytes.set(number(totals.local_bytes));
        gauges.tiered_bytes.set(number(totals.tiered_bytes));
        gauges.lag_bytes.set(number(totals.upload_lag_bytes));
        gauges.lag_segments.set(number(totals.upload_lag_segments as u64));
        gauges.lag_ms.set(number(totals.upload_lag_ms));
        gauges.lag_bytes_of.clear();
        for partition in &partitions {
            let label = vec![("topic".to_owned(), partition.topic.clone())];
            gauges.lag_bytes_of.get_or_create(&label).inc_by(number(partition.upload_lag_bytes));
        }
    }

    fn partitions(&self) -> Vec<PartitionView> {
        let tiered = self.tier.as_ref().map(|(tier, _)| tier.status()).unwrap_or_default();
        let tiered: HashMap<TopicPartition, PartitionStatus> =
            tiered.into_iter().map(|status| (status.partition, status)).collect();
        let mut replicas = self.replicas.all();
        replicas.sort_by_cached_key(|replica| (replica.topic().clone(), replica.partition().partition));
        let mut damage: HashMap<TopicPartition, Vec<String>> = HashMap::new();
        for damaged in self.tier.as_ref().map(|(tier, _)| tier.damage()).unwrap_or_default() {
            damage
                .entry(damaged.partition)
                .or_default()
                .push(format!("{}: {}", damaged.object, damaged.what));
        }
        let views = replicas.iter().map(|replica| {
            let mut view = self.view(replica, tiered.get(&replica.partition()));
            view.damaged.extend(damage.remove(&replica.partition()).unwrap_or_default());
            view
        });
        // Those without a log come last: they have no more to tell than why.
        views.chain(self.replicas.unopened().into_iter().map(unopened)).collect()
    }

    fn view(&self, replica: &Replica, tiered: Option<&PartitionStatus>) -> PartitionView {
        let offsets = replica.log().offsets();
        let (role, reason, epoch) = match replica.role() {
            Role::Leader(epoch) => ("leader", None, Some(epoch.get())),
            Role::Recovering(epoch) => ("recovering", None, Some(epoch.get())),
            Role::NotLeading => ("not leading", None, None),
            Role::Offline(reason) => ("offline", Some(reason), None),
        };
        let is_tiered = self.tier.is_some() && replica.config().tiered;
        let lag = if is_tiered { replica.upload_lag() } else { SealedSum::default() };
        let archive = replica.archive_status();
        let now = self.world.clock.wall();
        let partition = replica.partition();
        PartitionView {
            topic: replica.topic().to_string(),
            topic_id: partition.topic.to_string(),
            partition: partition.partition.0,
            tiered: is_tiered,
            role,
            reason,
            leader_epoch: epoch,
            log_start: offsets.start.get(),
            local_start: offsets.local_start.get(),
            high_watermark: replica.high_watermark().get(),
            log_end: offsets.end.get(),
            local_bytes: replica.log().size().get(),
            tiered_end: archive.tiered_end.map(aquifer_model::Offset::get),
            tiered_bytes: tiered.map_or(0, |status| status.log_bytes.get()),
            tiered_segments: tiered.map_or(0, |status| status.segments),
            upload_lag_bytes: lag.bytes.get(),
            upload_lag_segments: lag.segments,
            upload_lag_ms: lag.oldest.map_or(0, |oldest| now.since(oldest).as_millis() as u64),
            exposed_ms: if is_tiered { exposed(replica, &lag, now).as_millis() as u64 } else { 0 },
            upload_failures: archive.failures,
            upload_error: archive.error,
            damaged: replica.log().damage().iter().map(ToString::to_string).collect(),
        }
    }
}

fn unopened(one: Unopened) -> PartitionView {
    PartitionView {
        topic: one.topic.to_string(),
        topic_id: one.partition.topic.to_string(),
        partition: one.partition.partition.0,
        role: "offline",
        reason: Some(one.reason),
        ..PartitionView::default()
    }
}

/// How long the oldest record that is only local has been so, at most: a segment that waits was filled before it was sealed, for
/// as long as the one that is open now at the least.
fn exposed(replica: &Replica, lag: &SealedSum, now: Timestamp) -> Duration {
    let open = replica.log().active_since().map_or(Duration::ZERO, |since| now.since(since));
    lag.oldest.map_or(open, |oldest| now.since(oldest) + open)
}

fn totals(partitions: &[PartitionView]) -> Totals {
    let mut totals = Totals::default();
    for partition in partitions {
        totals.local_bytes += partition.local_bytes;
        totals.tiered_bytes += partition.tiered_bytes;
        totals.damaged += partition.damaged.len();
        totals.upload_lag_bytes += partition.upload_lag_bytes;
        totals.upload_lag_segments += partition.upload_lag_segments;
        totals.upload_lag_ms = totals.upload_lag_ms.max(partition.upload_lag_ms);
        totals.exposed_ms = totals.exposed_ms.max(partition.exposed_ms);
        totals.local_only += usize::from(!partition.tiered);
        // What is in both places is counted once: the rest of the tiered bytes has no other copy.
        let in_both = ByteCount(partition.local_bytes).saturating_sub(ByteCount(partition.upload_lag_bytes));
        totals.only_tiered_bytes += ByteCount(partition.tiered_bytes).saturating_sub(in_both).get();
    }
    totals
}
