//! The table of APIs: what this broker advertises, and what it serves.
//!
//! Only what works stands here. The one exception is Produce, advertised from version 0 because some releases of librdkafka take
//! a broker that does not for one without compression (KAFKA-18659); its versions 0 to 2 are answered with
//! `UNSUPPORTED_VERSION`, and the connection lives.

use aquifer_protocol::{ApiKey, VersionRange};

/// A row.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Api {
    pub(crate) key: ApiKey,
    pub(crate) advertised: VersionRange,
}

const fn api(key: ApiKey, min: i16, max: i16) -> Api {
    Api { key, advertised: VersionRange { min, max } }
}

/// Every API served, in the order of keys.
pub(crate) const APIS: &[Api] = &[
    api(ApiKey::Produce, 0, 13),
    api(ApiKey::Fetch, 4, 18),
    api(ApiKey::ListOffsets, 1, 11),
    api(ApiKey::Metadata, 0, 13),
    api(ApiKey::OffsetCommit, 2, 10),
    api(ApiKey::OffsetFetch, 1, 10),
    api(ApiKey::FindCoordinator, 0, 6),
    api(ApiKey::JoinGroup, 0, 9),
    api(ApiKey::Heartbeat, 0, 4),
    api(ApiKey::LeaveGroup, 0, 5),
    api(ApiKey::SyncGroup, 0, 5),
    api(ApiKey::DescribeGroups, 0, 6),
    api(ApiKey::ListGroups, 0, 5),
    api(ApiKey::ApiVersions, 0, 4),
    api(ApiKey::CreateTopics, 2, 7),
    api(ApiKey::DeleteTopics, 1, 6),
    api(ApiKey::DeleteRecords, 0, 2),
    api(ApiKey::InitProducerId, 0, 5),
    api(ApiKey::OffsetForLeaderEpoch, 2, 4),
    api(ApiKey::DescribeConfigs, 1, 4),
    api(ApiKey::AlterConfigs, 0, 2),
    api(ApiKey::DescribeLogDirs, 1, 5),
    api(ApiKey::CreatePartitions, 0, 3),
    api(ApiKey::DeleteGroups, 0, 2),
    api(ApiKey::ElectLeaders, 0, 2),
    api(ApiKey::IncrementalAlterConfigs, 0, 1),
    api(ApiKey::OffsetDelete, 0, 0),
    api(ApiKey::DescribeClientQuotas, 0, 1),
    api(ApiKey::AlterClientQuotas, 0, 1),
    api(ApiKey::DescribeUserScramCredentials, 0, 0),
    api(ApiKey::DescribeQuorum, 0, 2),
    api(ApiKey::UpdateFeatures, 0, 2),
    api(ApiKey::DescribeCluster, 0, 2),
    api(ApiKey::DescribeProducers, 0, 0),
    api(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    api(ApiKey::ConsumerGroupDescribe, 0, 1),
    api(ApiKey::ListConfigResources, 0, 1),
    api(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// Whether a version of an API is served.
pub(crate) fn is_served(key: ApiKey, version: i16) -> bool {
    APIS.iter().any(|api| api.key == key && api.advertised.contains(version))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_can_be_read_and_written() {
        for api in APIS {
            let schema = api.key.schema().expect("an advertised API has a schema");
            assert!(schema.versions.contains(api.advertised.min), "{}", api.key);
            assert!(schema.versions.contains(api.advertised.max), "{}", api.key);
        }
        assert!(is_served(ApiKey::Fetch, 4));
        assert!(!is_served(ApiKey::Fetch, 3));
        assert!(!is_served(ApiKey::ShareFetch, 1));
    }
}
