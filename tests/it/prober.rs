//! Every API that the broker advertises, in every version, asked well-formed requests of all kinds; and everything that it does not
//! advertise.
//!
//! What is asked follows from what is advertised, which is the broker's own table: an API that is added is probed without a line
//! here, and one without messages or without a handler fails.

use aquifer_protocol::frame::{self, RequestHeader};
use aquifer_protocol::fuzzing::{Probe, probes};
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::find_coordinator::FindCoordinatorRequest;
use aquifer_protocol::messages::produce::ProduceRequest;
use aquifer_protocol::{ApiKey, ErrorCode, Message as _, Reader, VersionRange};
use bytes::Bytes;

use crate::api_versions::request_bytes;
use crate::batches::Dice;
use crate::client::{Client, eventually};
use crate::node::Node;

/// Requests by API and version, besides an empty one.
const RANDOM_REQUESTS: u64 = 12;
/// Enough for a value in each field.
const RANDOM_BYTES: usize = 300;

async fn advertised(client: &mut Client) -> Vec<(ApiKey, VersionRange)> {
    let answer = client.call(2, &ApiVersionsRequest::default()).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    let apis = answer.api_keys.iter().map(|api| {
        let key = ApiKey::try_from(api.api_key).expect("only APIs of Kafka's are advertised");
        (key, VersionRange { min: api.min_version, max: api.max_version })
    });
    apis.collect()
}

fn probe_of(key: ApiKey) -> Probe {
    let probe = probes().into_iter().find(|probe| probe.key == key);
    probe.unwrap_or_else(|| panic!("{key} is advertised and has no messages"))
}

fn random_bytes(seed: u64) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    (0..RANDOM_BYTES).map(|_| dice.below(256) as u8).collect()
}

/// A Produce that asks for no acknowledgement gets no answer; everything else does.
fn is_answered(key: ApiKey, version: i16, request: &Bytes) -> bool {
    if key != ApiKey::Produce {
        return true;
    }
    let mut reader = Reader::new(request.slice(4..));
    RequestHeader::decode(&mut reader).expect("a header of ours");
    ProduceRequest::decode(&mut reader, version).expect("a request of ours").acks != 0
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_advertised_is_answered_in_its_version_and_the_connection_lives() {
    // What a random request may wait for, or make, is bounded.
    let sets = [
        "fetch.max.wait.ms=1",
        "offsets.topic.num.partitions=1",
        "max.partitions=12",
        "delete.topic.enable=false",
    ];
    let node = Node::start(&sets).await;
    let mut client = node.client().await;
    client.create("a", 2, &[]).await;
    // Groups' requests get as far as a group only where there is a coordinator.
    let find = FindCoordinatorRequest { key: "g".into(), ..FindCoordinatorRequest::default() };
    eventually("a coordinator", async || client.call(3, &find).await.error_code.is_none().then_some(()))
        .await;
    let apis = advertised(&mut client).await;
    assert!(apis.len() > 30, "only {} APIs", apis.len());
    let mut correlation_id = 0;
    for (key, range) in apis {
        let probe = probe_of(key);
        for version in range.iter() {
            for seed in 0..=RANDOM_REQUESTS {
                let random = if seed == 0 { Vec::new() } else { random_bytes(seed * 1000 + version as u64) };
                correlation_id += 1;
                let what = format!("{key} v{version}, request {seed}");
                let request = (probe.request)(version, correlation_id, &random);
                let request = request.unwrap_or_else(|error| panic!("{what} cannot be written: {error}"));
                if !is_answered(key, version, &request) {
                    continue;
                }
                client.send_bytes(&request).await;
                let answer = client.receive_frame().await;
                let answer = answer.unwrap_or_else(|| panic!("{what}: the connection was closed"));
                assert_eq!(frame::correlation_id(&answer), Ok(correlation_id), "{what}");
                let checked = (probe.check)(answer.clone(), version);
                checked.unwrap_or_else(|error| {
                    panic!("{what} is answered by something else: {error}\n{answer:02x?}")
                });
            }
        }
    }
    node.stop().await;
}

/// Kafka closes the connection there. Here it lives, and the client is told: ApiVersions in version 0, as in Kafka, everything else by
/// the bare error.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_not_advertised_gets_error_35_and_the_connection_lives() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let apis = advertised(&mut client).await;
    let range_of = |key: i16| apis.iter().find(|(api, _)| api.code() == key).map(|(_, range)| *range);
    let keys = (-3..130).chain([500, i16::MIN, i16::MAX]);
    let (mut correlation_id, mut unknown, mut too_new) = (0, 0, 0);
    for key in keys {
        let versions = match range_of(key) {
            Some(range) => {
                too_new += 1;
                vec![-1, range.min - 1, range.max + 1, i16::MAX, i16::MIN]
            }
            None => {
                unknown += 1;
                vec![-1, 0, 1, i16::MAX]
            }
        };
        for version in versions {
            correlation_id += 1;
            client.send_bytes(&request_bytes(key, version, correlation_id, b"\x00\x01what\xffever")).await;
            let what = format!("key {key} v{version}");
            let answer = client.receive_frame().await;
            let answer = answer.unwrap_or_else(|| panic!("{what}: the connection was closed"));
            assert_eq!(frame::correlation_id(&answer), Ok(correlation_id), "{what}");
            if key == ApiKey::ApiVersions.code() {
                let told = frame::decode_response::<ApiVersionsRequest>(answer, 0).expect("version 0");
                assert_eq!(told.error_code, ErrorCode::UNSUPPORTED_VERSION, "{what}");
            } else {
                assert_eq!(
                    answer.slice(4..),
                    ErrorCode::UNSUPPORTED_VERSION.code().to_be_bytes()[..],
                    "{what}"
                );
            }
        }
    }
    assert!(unknown > 80 && too_new == apis.len(), "{unknown} unknown keys, {too_new} known ones");
    assert_eq!(advertised(&mut client).await, apis, "the same connection goes on");
    node.stop().await;
}

/// No answer, and no end of the connection either.
#[tokio::test(flavor = "multi_thread")]
async fn a_produce_that_asks_for_no_acknowledgement_gets_none() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let probe = probe_of(ApiKey::Produce);
    for version in 3..=probe.versions.max {
        let request = (probe.request)(version, 7, &[]).expect("an empty request");
        assert!(!is_answered(ApiKey::Produce, version, &request));
        client.send_bytes(&request).await;
        advertised(&mut client).await;
    }
    node.stop().await;
}
