//! DescribeLogDirs: what lies in the log directory, and how much room is left beside it.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use aquifer_protocol::messages::describe_log_dirs::{
    DescribeLogDirsPartition, DescribeLogDirsRequest, DescribeLogDirsResponse, DescribeLogDirsResult,
    DescribeLogDirsTopic,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use crate::replica::usage::Usage;

/// Tells of the one log directory. What of a partition is only in the bucket does not count: it takes no room here.
pub(crate) async fn describe(
    context: Arc<Context>,
    request: DescribeLogDirsRequest,
) -> DescribeLogDirsResponse {
    let Usage { path, space, replicas } = context.replicas.usage().await;
    let mut result = DescribeLogDirsResult {
        log_dir: Str::from(path.to_string_lossy().into_owned()),
        ..DescribeLogDirsResult::default()
    };
    match space {
        Ok(space) => {
            let asked = request.topics.as_ref().map(|topics| {
                let all = topics
                    .iter()
                    .flat_map(|topic| topic.partitions.iter().map(|index| (&*topic.topic, *index)));
                all.collect::<HashSet<(&str, i32)>>()
            });
            let mut topics: BTreeMap<&str, Vec<DescribeLogDirsPartition>> = BTreeMap::new();
            for replica in &replicas {
                let (topic, partition_index) = (replica.topic.as_str(), replica.partition.partition.0);
                if asked.as_ref().is_none_or(|asked| asked.contains(&(topic, partition_index))) {
                    topics.entry(topic).or_default().push(DescribeLogDirsPartition {
                        partition_index,
                        partition_size: bytes(replica.size),
                        offset_lag: i64::try_from(replica.lag).unwrap_or(i64::MAX),
                        is_future_key: false,
                    });
                }
            }
            result.topics = topics
                .into_iter()
                .map(|(name, partitions)| DescribeLogDirsTopic { name: Str::from(name), partitions })
                .collect();
            result.total_bytes = bytes(space.total);
            result.usable_bytes = bytes(space.available);
        }
        Err(reason) => {
            tracing::debug!(reason, "asked for the log directory, which cannot be used");
            result.error_code = ErrorCode::KAFKA_STORAGE_ERROR;
        }
    }
    DescribeLogDirsResponse { results: vec![result], ..DescribeLogDirsResponse::default() }
}

fn bytes(count: aquifer_model::ByteCount) -> i64 {
    i64::try_from(count.get()).unwrap_or(i64::MAX)
}
