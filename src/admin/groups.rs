//! How far the groups that this broker coordinates have read: `/api/groups`, and the gauges of lag.
//!
//! The end of a partition is known where it is led. Of a partition that another broker leads the position is told, and no lag.

use std::sync::Arc;
use std::time::Duration;

use aquifer_model::{PartitionIndex, TopicPartition};
use aquifer_runtime::metrics::{Family, Gauge, Registry, Table};
use futures::future::join_all;
use serde::Serialize;
use tokio::time::timeout;

use crate::groups::book::{Standing, Standings};
use crate::groups::coordinator::Groups;
use crate::metadata::{Image, Metadata};
use crate::replica::Replicas;

/// How long a shard has to answer. One that waits for a disk is left out rather than waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The whole answer of `/api/groups`.
#[derive(Debug, Default, Serialize)]
pub(crate) struct GroupViews {
    groups: Vec<GroupView>,
    /// Groups that are not among them (`group.lag.groups.max`).
    groups_left_out: usize,
    /// Positions that are not among them (`group.lag.partitions.max`).
    left_out: usize,
    /// Partitions of `__consumer_offsets` that did not answer in time; their groups are not among them.
    silent: usize,
}

/// One group.
#[derive(Debug, Serialize)]
struct GroupView {
    group: String,
    state: &'static str,
    members: usize,
    /// Records that are left to read in all partitions whose end is known.
    lag: u64,
    partitions: Vec<PositionView>,
}

#[derive(Debug, Serialize)]
struct PositionView {
    topic: String,
    partition: i32,
    offset: i64,
    end: Option<i64>,
    lag: Option<u64>,
}

type Labels = Vec<(&'static str, String)>;

#[derive(Debug, Clone, Default)]
struct Gauges {
    lag: Family<Labels, Gauge>,
    members: Family<Labels, Gauge>,
    groups_left_out: Gauge,
    left_out: Gauge,
    silent: Gauge,
}

/// Where the answers come from.
pub(crate) struct GroupsSource {
    groups: Arc<Groups>,
    metadata: Metadata,
    replicas: Arc<Replicas>,
    max: ToldMax,
    gauges: Gauges,
}

/// The most that is told of at once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ToldMax {
    /// `group.lag.groups.max`.
    pub(crate) groups: usize,
    /// `group.lag.partitions.max`.
    pub(crate) positions: usize,
}

impl GroupsSource {
    pub(crate) fn new(
        groups: Arc<Groups>,
        metadata: Metadata,
        replicas: Arc<Replicas>,
        max: ToldMax,
        registry: &mut Registry,
    ) -> GroupsSource {
        let gauges = Gauges::default();
        Table::under(registry, "aquifer_group")
            .row("lag", "Records that a group has left to read, by partition", &gauges.lag)
            .row("members", "Members of a group", &gauges.members);
        Table::under(registry, "aquifer_groups")
            .row(
                "left_out",
                "Groups without members and lags here, for group.lag.groups.max",
                &gauges.groups_left_out,
            )
            .row(
                "lag_left_out",
                "Positions without a lag here, for group.lag.partitions.max",
                &gauges.left_out,
            )
            .row(
                "lag_silent",
                "Partitions of __consumer_offsets that did not say how far groups are",
                &gauges.silent,
            );
        GroupsSource { groups, metadata, replicas, max, gauges }
    }

    /// How far all groups are now.
    pub(crate) async fn views(&self) -> GroupViews {
        let ToldMax { groups: groups_max, positions: positions_max } = self.max;
        let shards = self.groups.shards();
        let asked = shards.iter().map(|shard| {
            timeout(PATIENCE, shard.ask(move |book, _, _| book.standings(groups_max, positions_max)))
        });
        let image = self.metadata.image();
        let mut views = GroupViews::default();
        let mut room = positions_max;
        for answer in join_all(asked).await {
            match answer {
                Ok(Ok(Standings { groups, groups_left_out, positions_left_out })) => {
                    views.groups_left_out += groups_left_out;
                    views.left_out += positions_left_out;
                    for standing in groups {
                        if views.groups.len() >= groups_max {
                            views.groups_left_out += 1;
                            views.left_out += standing.positions.len();
                            continue;
                        }
                        let shown = standing.positions.len().min(room);
                        views.left_out += standing.positions.len() - shown;
                        room -= shown;
                        views.groups.push(self.view(&image, standing, shown));
                    }
                }
                // Another broker's by now; or it reads, or waits.
                Ok(Err(_)) | Err(_) => views.silent += 1,
            }
        }
        views.groups.sort_by(|a, b| a.group.cmp(&b.group));
        views
    }

    /// Sets the gauges; called at each scrape.
    pub(crate) async fn refresh_gauges(&self) {
        let GroupViews { groups, groups_left_out, left_out, silent } = self.views().await;
        let number = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        let gauges = &self.gauges;
        gauges.groups_left_out.set(number(groups_left_out as u64));
        gauges.left_out.set(number(left_out as u64));
        gauges.silent.set(number(silent as u64));
        gauges.lag.clear();
        gauges.members.clear();
        for view in groups {
            let labels = vec![("group", view.group.clone())];
            gauges.members.get_or_create(&labels).set(number(view.members as u64));
            for position in view.partitions {
                let Some(lag) = position.lag else { continue };
                let labels = vec![
                    ("group", view.group.clone()),
                    ("topic", position.topic),
                    ("partition", position.partition.to_string()),
                ];
                gauges.lag.get_or_create(&labels).set(number(lag));
            }
        }
    }

    fn view(&self, image: &Image, standing: Standing, shown: usize) -> GroupView {
        let Standing { group, state, members, positions } = standing;
        let partitions = positions.into_iter().take(shown).map(|(topic, partition, offset)| {
            let end = self.end(image, &topic, partition);
            let lag = end.map(|end| u64::try_from(end.saturating_sub(offset)).unwrap_or(0));
            PositionView { topic: topic.to_string(), partition, offset, end, lag }
        });
        let partitions: Vec<PositionView> = partitions.collect();
        let lag = partitions.iter().filter_map(|position| position.lag).sum();
        GroupView { group: group.to_string(), state, members, lag, partitions }
    }

    /// Where readers of a partition are stopped now, if that is known here.
    fn end(&self, image: &Image, topic: &str, partition: i32) -> Option<i64> {
        let topic = image.topic_named(topic)?.id;
        let replica = self.replicas.get(TopicPartition { topic, partition: PartitionIndex(partition) })?;
        Some(replica.high_watermark().get())
    }
}
