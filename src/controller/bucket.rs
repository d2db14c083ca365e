//! The bucket's record of topics, and the end of deleted ones.
//!
//! What a topic is called and how it is configured lies in the bucket from its first day, so that the bucket alone can be read,
//! and restored from. When a topic is deleted, each of its partitions gets a final manifest version, its objects go after their
//! grace, and a marker stays. All of this follows the metadata and may lag behind it: nobody waits for it, and what a crash or
//! an absent bucket interrupts is done again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use aquifer_model::TopicId;
use aquifer_runtime::tasks::TaskGroup;
use aquifer_tiering::Tier;
use aquifer_tiering::topic::{TopicRecord, TopicState};
use tokio::sync::watch;

use crate::config::Config;
use crate::metadata::image::{DeletedTopic, Topic};
use crate::metadata::{Command, Image, Metadata};

/// How long to wait before what failed is tried again, and before objects in their grace are looked at again.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

/// Keeps the bucket's records true.
#[derive(Debug)]
pub(crate) struct BucketRecords {
    metadata: Metadata,
    tier: Tier,
    config: watch::Receiver<Config>,
    recorded: HashMap<TopicId, Arc<Topic>>,
}

impl BucketRecords {
    pub(crate) fn new(metadata: Metadata, tier: Tier, config: watch::Receiver<Config>) -> BucketRecords {
        BucketRecords { metadata, tier, config, recorded: HashMap::new() }
    }

    /// Follows the metadata until the group is stopped.
    pub(crate) async fn run(mut self, group: TaskGroup) {
        let mut images = self.metadata.watch();
        loop {
            let image = images.borrow_and_update().clone();
            let settled = self.follow(&image).await;
            tokio::select! {
                () = group.cancelled().cancelled() => return,
                changed = images.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(AGAIN_AFTER), if !settled => {}
            }
        }
    }

    /// Does what there is to do; gives whether nothing is left.
    async fn follow(&mut self, image: &Image) -> bool {
        if !self.metadata.is_controller() {
            return true;
        }
        let mut settled = true;
        for topic in image.topics() {
            if self.recorded.get(&topic.id).is_none_or(|known| !Arc::ptr_eq(known, topic)) {
                settled &= self.record(topic).await;
            }
        }
        self.recorded.retain(|id, _| image.topic(*id).is_some());
        for topic in image.deleted_topics() {
            settled &= self.bury(topic).await;
        }
        settled
    }

    async fn record(&mut self, topic: &Arc<Topic>) -> bool {
        let (settings, _) = self.config.borrow().topic(&topic.configs);
        if settings.tiered {
            let record = TopicRecord {
                id: topic.id,
                name: topic.name.clone(),
                partitions: u32::try_from(topic.partitions.len()).unwrap_or(u32::MAX),
                configs: topic.configs.iter().map(|(key, value)| (key.clone(), value.clone())).collect(),
                state: TopicState::Live,
                revision: topic.revision,
            };
            if let Err(error) = self.tier.record_topic(&record).await {
                tracing::warn!(topic = %topic.name, %error, "cannot record a topic in the bucket, will try again");
                return false;
            }
        }
        self.recorded.insert(topic.id, topic.clone());
        true
    }

    /// Brings a deleted topic nearer to its end; gives whether it is there.
    async fn bury(&self, topic: &DeletedTopic) -> bool {
        let partitions = u32::try_from(topic.claims.len()).unwrap_or(u32::MAX);
        let record = TopicRecord {
            id: topic.id,
            name: topic.name.clone(),
            partitions,
            configs: Vec::new(),
            state: TopicState::Deleted,
            revision: topic.revision,
        };
        if let Err(error) = self.tier.record_topic(&record).await {
            tracing::warn!(topic = %topic.name, %error, "cannot record a topic's end in the bucket, will try again");
            return false;
        }
        if let Err(error) = self.tier.delete_topic(topic.id, partitions).await {
            tracing::warn!(topic = %topic.name, %error, "cannot mark a topic as deleted in the bucket, will try again");
            return false;
        }
        match self.tier.collect_deleted(topic.id, partitions).await {
            Err(error) => {
                tracing::warn!(topic = %topic.name, %error, "cannot remove a deleted topic's objects, will try again");
                false
            }
            Ok(collected) if collected.left > 0 => false,
            Ok(_) => match self.metadata.propose(Command::ForgetTopic(topic.id)).await {
                Ok(_) => true,
                Err(error) => {
                    tracing::warn!(topic = %topic.name, %error, "cannot forget a deleted topic, will try again");
                    false
                }
            },
        }
    }
}
