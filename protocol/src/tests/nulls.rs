//! Fields that may be null in some versions and must not in others: kafka-protocol does not tell these apart.

use super::encoded;
use crate::messages::delete_topics::{DeletableTopicResult, DeleteTopicsResponse};
use crate::messages::join_group::JoinGroupResponse;
use crate::messages::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseTopic,
};
use crate::messages::offset_fetch::OffsetFetchRequest;
use crate::{DecodeError, EncodeError, Message, Reader};

/// A message with null in one field fits these versions, as far as it reaches, and no others.
fn check<M: Message>(message: M, field: &'static str, since: i16, last: i16) {
    for version in M::VERSIONS.min..=last {
        match encoded(&message, version) {
            Ok(bytes) => {
                assert!(version >= since, "{} version {version} took null", M::NAME);
                assert_eq!(M::decode(&mut Reader::new(bytes), version).as_ref(), Ok(&message));
            }
            Err(EncodeError::NullInVersion { field: named, .. }) => {
                assert!(version < since, "{} version {version} refused null", M::NAME);
                assert_eq!(named, field);
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn null_is_allowed_since_a_version() {
    let deleted = DeletableTopicResult { name: None, ..Default::default() };
    check(DeleteTopicsResponse { responses: vec![deleted], ..Default::default() }, "name", 6, 6);
    check(JoinGroupResponse { protocol_name: None, ..Default::default() }, "protocol_name", 7, 9);
    check(MetadataRequest { topics: None, ..Default::default() }, "topics", 1, 13);
    let by_id = MetadataRequestTopic { name: None, ..Default::default() };
    check(MetadataRequest { topics: Some(vec![by_id]), ..Default::default() }, "name", 10, 13);
    let by_id = MetadataResponseTopic { name: None, ..Default::default() };
    check(MetadataResponse { topics: vec![by_id], ..Default::default() }, "name", 12, 13);
    check(OffsetFetchRequest { topics: None, ..Default::default() }, "topics", 2, 7);
}

#[test]
fn null_is_an_error_before() {
    let null_array = [0xff; 4];
    let refused = Err(DecodeError::UnexpectedNull { at: 0 });
    assert_eq!(MetadataRequest::decode(&mut Reader::new(null_array.to_vec().into()), 0), refused);
    // One topic, with null for a name.
    let null_name = [0, 0, 0, 1, 0xff, 0xff];
    let refused = Err(DecodeError::UnexpectedNull { at: 4 });
    assert_eq!(MetadataRequest::decode(&mut Reader::new(null_name.to_vec().into()), 1), refused);
}
