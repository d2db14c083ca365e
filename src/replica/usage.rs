//! What the replicas of this broker take of its disk, for operators.

use std::path::PathBuf;

use aquifer_model::{ByteCount, TopicName, TopicPartition};
use aquifer_runtime::files::Space;
use aquifer_runtime::tasks;

use super::registry::Replicas;

/// The log directory at one moment.
#[derive(Debug, Clone)]
pub(crate) struct Usage {
    /// Where it is, from the root.
    pub(crate) path: PathBuf,
    /// How full its file system is; else why the directory cannot be used.
    pub(crate) space: Result<Space, String>,
    /// The replicas whose logs are open, by topic and partition.
    pub(crate) replicas: Vec<ReplicaUsage>,
}

/// One replica in it.
#[derive(Debug, Clone)]
pub(crate) struct ReplicaUsage {
    pub(crate) topic: TopicName,
    pub(crate) partition: TopicPartition,
    /// Bytes of its batches on this disk.
    pub(crate) size: ByteCount,
    /// Acknowledged records that it lacks.
    pub(crate) lag: u64,
}

impl Replicas {
    /// What lies in the log directory.
    pub(crate) async fn usage(&self) -> Usage {
        let logs = self.logs().clone();
        let failure = logs.failure().borrow().as_ref().map(ToString::to_string);
        let path = std::path::absolute(logs.path()).unwrap_or_else(|_| logs.path().to_owned());
        let space = match failure {
            Some(reason) => Err(reason),
            None => tasks::blocking(move || logs.space()).await.map_err(|error| error.to_string()),
        };
        let replicas = self.all().into_iter().map(|replica| {
            let (end, high_watermark) = (replica.log().end(), replica.high_watermark());
            ReplicaUsage {
                topic: replica.topic().clone(),
                partition: replica.partition(),
                size: replica.log().size(),
                lag: u64::try_from(high_watermark.get() - end.get()).unwrap_or(0),
            }
        });
        let mut replicas: Vec<ReplicaUsage> = replicas.collect();
        replicas.sort_by(|a, b| (&a.topic, a.partition).cmp(&(&b.topic, b.partition)));
        Usage { path, space, replicas }
    }
}
