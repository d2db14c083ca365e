//! Every message against the kafka-protocol crate, both ways, in every version that it knows.
//!
//! Versions that it lacks are in `golden.rs`.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use kafka_protocol::ResponseError;
use kafka_protocol::messages as theirs;
use kafka_protocol::protocol::{Decodable, Encodable, Message as TheirMessage};

use super::{encoded, for_any};
use crate::frame::{RequestHeader, response_header_version};
use crate::messages::*;
use crate::sample::{Sample, Sampler};
use crate::{ApiKey, DecodeError, EncodeError, ErrorCode, Message, Reader, Str, Writer};

/// Versions that only we know.
const OURS_ALONE: &[(&str, i16)] = &[
    ("DescribeLogDirsRequest", 5),
    ("DescribeLogDirsResponse", 5),
    ("ListOffsetsRequest", 11),
    ("ListOffsetsResponse", 11),
    ("OffsetCommitRequest", 10),
    ("OffsetFetchRequest", 10),
    ("ProduceRequest", 0),
    ("ProduceRequest", 1),
    ("ProduceRequest", 2),
    ("ProduceResponse", 0),
    ("ProduceResponse", 1),
    ("ProduceResponse", 2),
];

/// Messages with a field that may be null only since a version. Of these kafka-protocol takes null in older ones, too, as Kafka
/// does not; `nulls.rs` has them.
const NULL_SINCE: &[(&str, i16)] = &[
    ("DeleteTopicsResponse", 6),
    ("JoinGroupResponse", 7),
    ("MetadataRequest", 10),
    ("MetadataResponse", 12),
    ("OffsetFetchRequest", 2),
];

/// Tagged fields that are not ignorable. kafka-protocol drops them in versions without tagged fields, where Kafka refuses.
const TAGGED: &[&str] =
    &["replica_state", "diverging_epoch", "current_leader", "snapshot_id", "node_endpoints"];

#[derive(Default)]
struct Checked {
    messages: usize,
    ours_alone: Vec<(&'static str, i16)>,
}

#[test]
fn our_bytes_are_those_of_kafka_protocol() {
    let mut checked = Checked::default();
    both::<alter_client_quotas::AlterClientQuotasRequest, theirs::AlterClientQuotasRequest>(&mut checked);
    both::<alter_client_quotas::AlterClientQuotasResponse, theirs::AlterClientQuotasResponse>(&mut checked);
    both::<alter_configs::AlterConfigsRequest, theirs::AlterConfigsRequest>(&mut checked);
    both::<alter_configs::AlterConfigsResponse, theirs::AlterConfigsResponse>(&mut checked);
    both::<api_versions::ApiVersionsRequest, theirs::ApiVersionsRequest>(&mut checked);
    both::<api_versions::ApiVersionsResponse, theirs::ApiVersionsResponse>(&mut checked);
    both::<consumer_group_describe::ConsumerGroupDescribeRequest, theirs::ConsumerGroupDescribeRequest>(
        &mut checked,
    );
    both::<consumer_group_describe::ConsumerGroupDescribeResponse, theirs::ConsumerGroupDescribeResponse>(
        &mut checked,
    );
    both::<consumer_group_heartbeat::ConsumerGroupHeartbeatRequest, theirs::ConsumerGroupHeartbeatRequest>(
        &mut checked,
    );
    both::<consumer_group_heartbeat::ConsumerGroupHeartbeatResponse, theirs::ConsumerGroupHeartbeatResponse>(
        &mut checked,
    );
    both::<create_partitions::CreatePartitionsRequest, theirs::CreatePartitionsRequest>(&mut checked);
    both::<create_partitions::CreatePartitionsResponse, theirs::CreatePartitionsResponse>(&mut checked);
    both::<create_topics::CreateTopicsRequest, theirs::CreateTopicsRequest>(&mut checked);
    both::<create_topics::CreateTopicsResponse, theirs::CreateTopicsResponse>(&mut checked);
    both::<delete_groups::DeleteGroupsRequest, theirs::DeleteGroupsRequest>(&mut checked);
    both::<delete_groups::DeleteGroupsResponse, theirs::DeleteGroupsResponse>(&mut checked);
    both::<delete_records::DeleteRecordsRequest, theirs::DeleteRecordsRequest>(&mut checked);
    both::<delete_records::DeleteRecordsResponse, theirs::DeleteRecordsResponse>(&mut checked);
    both::<delete_topics::DeleteTopicsRequest, theirs::DeleteTopicsRequest>(&mut checked);
    both::<delete_topics::DeleteTopicsResponse, theirs::DeleteTopicsResponse>(&mut checked);
    both::<describe_client_quotas::DescribeClientQuotasRequest, theirs::DescribeClientQuotasRequest>(
        &mut checked,
    );
    both::<describe_client_quotas::DescribeClientQuotasResponse, theirs::DescribeClientQuotasResponse>(
        &mut checked,
    );
    both::<describe_cluster::DescribeClusterRequest, theirs::DescribeClusterRequest>(&mut checked);
    both::<describe_cluster::DescribeClusterResponse, theirs::DescribeClusterResponse>(&mut checked);
    both::<describe_configs::DescribeConfigsRequest, theirs::DescribeConfigsRequest>(&mut checked);
    both::<describe_configs::DescribeConfigsResponse, theirs::DescribeConfigsResponse>(&mut checked);
    both::<describe_groups::DescribeGroupsRequest, theirs::DescribeGroupsRequest>(&mut checked);
    both::<describe_groups::DescribeGroupsResponse, theirs::DescribeGroupsResponse>(&mut checked);
    both::<describe_log_dirs::DescribeLogDirsRequest, theirs::DescribeLogDirsRequest>(&mut checked);
    both::<describe_log_dirs::DescribeLogDirsResponse, theirs::DescribeLogDirsResponse>(&mut checked);
    both::<describe_producers::DescribeProducersRequest, theirs::DescribeProducersRequest>(&mut checked);
    both::<describe_producers::DescribeProducersResponse, theirs::DescribeProducersResponse>(&mut checked);
    both::<describe_quorum::DescribeQuorumRequest, theirs::DescribeQuorumRequest>(&mut checked);
    both::<describe_quorum::DescribeQuorumResponse, theirs::DescribeQuorumResponse>(&mut checked);
    both::<describe_topic_partitions::DescribeTopicPartitionsRequest, theirs::DescribeTopicPartitionsRequest>(
        &mut checked,
    );
    both::<describe_topic_partitions::DescribeTopicPartitionsResponse, theirs::DescribeTopicPartitionsResponse>(
        &mut checked,
    );
    both::<
        describe_user_scram_credentials::DescribeUserScramCredentialsRequest,
        theirs::DescribeUserScramCredentialsRequest,
    >(&mut checked);
    both::<
        describe_user_scram_credentials::DescribeUserScramCredentialsResponse,
        theirs::DescribeUserScramCredentialsResponse,
    >(&mut checked);
    both::<elect_leaders::ElectLeadersRequest, theirs::ElectLeadersRequest>(&mut checked);
    both::<elect_leaders::ElectLeadersResponse, theirs::ElectLeadersResponse>(&mut checked);
    both::<fetch::FetchRequest, theirs::FetchRequest>(&mut checked);
    both::<fetch::FetchResponse, theirs::FetchResponse>(&mut checked);
    both::<find_coordinator::FindCoordinatorRequest, theirs::FindCoordinatorRequest>(&mut checked);
    both::<find_coordinator::FindCoordinatorResponse, theirs::FindCoordinatorResponse>(&mut checked);
    both::<heartbeat::HeartbeatRequest, theirs::HeartbeatRequest>(&mut checked);
    both::<heartbeat::HeartbeatResponse, theirs::HeartbeatResponse>(&mut checked);
    both::<incremental_alter_configs::IncrementalAlterConfigsRequest, theirs::IncrementalAlterConfigsRequest>(
        &mut checked,
    );
    both::<incremental_alter_configs::IncrementalAlterConfigsResponse, theirs::IncrementalAlterConfigsResponse>(
        &mut checked,
    );
    both::<init_producer_id::InitProducerIdRequest, theirs::InitProducerIdRequest>(&mut checked);
    both::<init_producer_id::InitProducerIdResponse, theirs::InitProducerIdResponse>(&mut checked);
    both::<join_group::JoinGroupRequest, theirs::JoinGroupRequest>(&mut checked);
    both::<join_group::JoinGroupResponse, theirs::JoinGroupResponse>(&mut checked);
    both::<leave_group::LeaveGroupRequest, theirs::LeaveGroupRequest>(&mut checked);
    both::<leave_group::LeaveGroupResponse, theirs::LeaveGroupResponse>(&mut checked);
    both::<list_config_resources::ListConfigResourcesRequest, theirs::ListConfigResourcesRequest>(
        &mut checked,
    );
    both::<list_config_resources::ListConfigResourcesResponse, theirs::ListConfigResourcesResponse>(
        &mut checked,
    );
    both::<list_groups::ListGroupsRequest, theirs::ListGroupsRequest>(&mut checked);
    both::<list_groups::ListGroupsResponse, theirs::ListGroupsResponse>(&mut checked);
    both::<list_offsets::ListOffsetsRequest, theirs::ListOffsetsRequest>(&mut checked);
    both::<list_offsets::ListOffsetsResponse, theirs::ListOffsetsResponse>(&mut checked);
    both::<metadata::MetadataRequest, theirs::MetadataRequest>(&mut checked);
    both::<metadata::MetadataResponse, theirs::MetadataResponse>(&mut checked);
    both::<offset_commit::OffsetCommitRequest, theirs::OffsetCommitRequest>(&mut checked);
    both::<offset_commit::OffsetCommitResponse, theirs::OffsetCommitResponse>(&mut checked);
    both::<offset_delete::OffsetDeleteRequest, theirs::OffsetDeleteRequest>(&mut checked);
    both::<offset_delete::OffsetDeleteResponse, theirs::OffsetDeleteResponse>(&mut checked);
    both::<offset_fetch::OffsetFetchRequest, theirs::OffsetFetchRequest>(&mut checked);
    both::<offset_fetch::OffsetFetchResponse, theirs::OffsetFetchResponse>(&mut checked);
    both::<offset_for_leader_epoch::OffsetForLeaderEpochRequest, theirs::OffsetForLeaderEpochRequest>(
        &mut checked,
    );
    both::<offset_for_leader_epoch::OffsetForLeaderEpochResponse, theirs::OffsetForLeaderEpochResponse>(
        &mut checked,
    );
    both::<produce::ProduceRequest, theirs::ProduceRequest>(&mut checked);
    both::<produce::ProduceResponse, theirs::ProduceResponse>(&mut checked);
    both::<sasl_authenticate::SaslAuthenticateRequest, theirs::SaslAuthenticateRequest>(&mut checked);
    both::<sasl_authenticate::SaslAuthenticateResponse, theirs::SaslAuthenticateResponse>(&mut checked);
    both::<sasl_handshake::SaslHandshakeRequest, theirs::SaslHandshakeRequest>(&mut checked);
    both::<sasl_handshake::SaslHandshakeResponse, theirs::SaslHandshakeResponse>(&mut checked);
    both::<sync_group::SyncGroupRequest, theirs::SyncGroupRequest>(&mut checked);
    both::<sync_group::SyncGroupResponse, theirs::SyncGroupResponse>(&mut checked);
    both::<update_features::UpdateFeaturesRequest, theirs::UpdateFeaturesRequest>(&mut checked);
    both::<update_features::UpdateFeaturesResponse, theirs::UpdateFeaturesResponse>(&mut checked);
    assert_eq!(checked.messages, 2 * APIS.len(), "a message was added: check it here");
    assert_eq!(checked.ours_alone, OURS_ALONE, "these have no second opinion: give them golden bytes");
}

fn both<Ours, Theirs>(checked: &mut Checked)
where
    Ours: Message + Sample,
    Theirs: Decodable + Encodable + TheirMessage + Debug,
{
    checked.messages += 1;
    the_same_fits_older_versions::<Ours, Theirs>();
    for version in Ours::VERSIONS.iter() {
        if !(Theirs::VERSIONS.min..=Theirs::VERSIONS.max).contains(&version) {
            checked.ours_alone.push((Ours::NAME, version));
            continue;
        }
        for_any(Ours::NAME, version, |random| {
            let ours = Ours::sample(&mut Sampler::new(random), version);
            let bytes = encoded(&ours, version).expect("a sample is valid in its version");
            let again = through_theirs::<Theirs>(&bytes, version);
            assert_eq!(again, bytes, "ours first, theirs second");
            assert_eq!(Ours::decode(&mut Reader::new(again), version), Ok(ours));
            if !NULL_SINCE.iter().any(|(name, since)| *name == Ours::NAME && version < *since) {
                null_is_refused_by_both::<Ours, Theirs>(&bytes, version);
            }
        });
    }
}

/// What of a newest value fits an older version, and what is refused: that is, which fields are ignorable.
fn the_same_fits_older_versions<Ours, Theirs>()
where
    Ours: Message + Sample,
    Theirs: Decodable + Encodable + TheirMessage,
{
    let newest = Ours::VERSIONS.max.min(Theirs::VERSIONS.max);
    for version in Ours::VERSIONS.min.max(Theirs::VERSIONS.min)..newest {
        for_any(Ours::NAME, version, |random| {
            let ours = Ours::sample(&mut Sampler::new(random), newest);
            let mut bytes = encoded(&ours, newest).expect("a sample is valid in its version");
            let theirs = Theirs::decode(&mut bytes, newest).expect("kafka-protocol reads what we wrote");
            let mut theirs_older = BytesMut::new();
            let theirs_result = theirs.encode(&mut theirs_older, version);
            match encoded(&ours, version) {
                Ok(older) => assert_eq!(theirs_result.ok().map(|()| theirs_older), Some(older.into())),
                Err(EncodeError::NullInVersion { .. }) => {} // `nulls.rs` says why.
                Err(EncodeError::FieldNotInVersion { field, .. }) if TAGGED.contains(&field) => {}
                Err(refused) => assert!(theirs_result.is_err(), "kafka-protocol takes it: {refused}"),
            }
        });
    }
}

fn through_theirs<Theirs: Decodable + Encodable + Debug>(bytes: &Bytes, version: i16) -> Bytes {
    let mut left = bytes.clone();
    let theirs = Theirs::decode(&mut left, version).expect("kafka-protocol reads what we wrote");
    assert_eq!(left.len(), 0, "kafka-protocol reads all that we wrote");
    // It would pass them on as they are, and so hide a wrong tag.
    let unknown =
        format!("{theirs:?}").replace("unknown_tagged_fields: {}", "").contains("unknown_tagged_fields");
    assert!(!unknown, "kafka-protocol knows all tags that we wrote: {theirs:?}");
    let mut again = BytesMut::new();
    theirs.encode(&mut again, version).expect("kafka-protocol writes what it read");
    again.freeze()
}

/// Wherever we take null for an error, kafka-protocol does, too. (The other way round, a sample that is null would fail.)
///
/// An empty value becomes null without anything else moving, and our error tells whether this was a place for it.
fn null_is_refused_by_both<Ours: Message, Theirs: Decodable>(bytes: &Bytes, version: i16) {
    let is_flexible = Ours::FLEXIBLE_FROM.is_some_and(|from| version >= from);
    let forms: &[(&[u8], &[u8])] =
        if is_flexible { &[(&[1], &[0])] } else { &[(&[0; 2], &[0xff; 2]), (&[0; 4], &[0xff; 4])] };
    for (empty, null) in forms {
        for at in (0..bytes.len()).filter(|at| bytes[*at..].starts_with(empty)) {
            let nulled = Bytes::from([&bytes[..at], null, &bytes[at + empty.len()..]].concat());
            let ours = Ours::decode(&mut Reader::new(nulled.clone()), version);
            if ours == Err(DecodeError::UnexpectedNull { at }) {
                let theirs = Theirs::decode(&mut nulled.clone(), version);
                assert!(theirs.is_err(), "kafka-protocol allows null at {at} of {bytes:?}");
            }
        }
    }
}

#[test]
fn headers_are_those_of_kafka_protocol() {
    for schema in APIS {
        let theirs_key = theirs::ApiKey::try_from(schema.key.code()).expect("kafka-protocol knows the api");
        for api_version in schema.versions.iter() {
            let ours = RequestHeader {
                api_key: schema.key,
                api_version,
                correlation_id: 7,
                client_id: (api_version % 2 == 0).then(|| Str::from("a client")),
            };
            let mut writer = Writer::bare();
            ours.encode(&mut writer).expect("a valid header");
            let bytes = writer.finish().expect("a short one").into_bytes();

            let version = theirs_key.request_header_version(api_version);
            assert_eq!(
                through_theirs::<theirs::RequestHeader>(&bytes, version),
                bytes,
                "{} {api_version}",
                schema.key
            );
            assert_eq!(RequestHeader::decode(&mut Reader::new(bytes)), Ok(ours));
            assert_eq!(
                response_header_version(schema.key, api_version),
                theirs_key.response_header_version(api_version)
            );
        }
    }
}

#[test]
fn names_are_those_of_kafka_protocol() {
    for key in ApiKey::ALL {
        if let Ok(theirs) = theirs::ApiKey::try_from(key.code()) {
            assert_eq!(format!("{theirs:?}"), key.name());
        }
    }
    for code in ErrorCode::ALL {
        match ResponseError::try_from_code(code.code()) {
            None => assert_eq!(*code, ErrorCode::NONE),
            Some(ResponseError::Unknown(unknown)) => assert_eq!(unknown, 133, "newer than kafka-protocol"),
            Some(theirs) => {
                let letters = |name: &str| name.replace('_', "").to_lowercase();
                assert_eq!(letters(&format!("{theirs:?}")), letters(code.name()));
                // The Java client retries these; kafka-protocol has them as final.
                let is_known_difference = *code == ErrorCode::CONCURRENT_TRANSACTIONS;
                assert!(theirs.is_retriable() == code.is_retriable() || is_known_difference, "{code}");
            }
        }
    }
}
