//! Producers that number what they send: InitProducerId, and what Produce makes of the numbers.

use std::collections::HashSet;

use aquifer_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};
use aquifer_protocol::{ErrorCode, Str};

use crate::batches::{records_of, sequenced};
use crate::client::{Client, Topic};
use crate::node::{Home, Node};

fn ask(transactional_id: Option<&str>) -> InitProducerIdRequest {
    InitProducerIdRequest {
        transactional_id: transactional_id.map(Str::from),
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    }
}

async fn new_id(client: &mut Client) -> i64 {
    let answer: InitProducerIdResponse = client.call(4, &ask(None)).await;
    assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::NONE, 0));
    answer.producer_id
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_producers_get_one_id_not_even_over_restarts() {
    let mut seen = HashSet::new();
    let home = Home::new(&[]);
    for _ in 0..3 {
        let node = home.start().await;
        let mut clients = [node.client().await, node.client().await];
        for number in 0..40 {
            let id = new_id(&mut clients[number % 2]).await;
            assert!(id >= 0 && seen.insert(id), "{id} was given out before");
        }
        for version in 0..=5 {
            let answer = clients[0].call(version, &ask(None)).await;
            assert_eq!((answer.error_code, answer.producer_epoch), (ErrorCode::NONE, 0), "v{version}");
            assert!(
                seen.insert(answer.producer_id),
                "v{version}: {} was given out before",
                answer.producer_id
            );
        }
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transactional_producers_are_refused() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    for version in 0..=5 {
        let answer = client.call(version, &ask(Some("txn"))).await;
        let code = answer.error_code;
        assert!(!code.is_none() && !code.is_retriable(), "v{version}: {code:?}");
        assert_eq!((answer.producer_id, answer.producer_epoch), (-1, -1), "v{version}");
    }
    node.stop().await;
}

/// What a producer sends (epoch, first sequence, count), and what it hears (code, offset).
type Step = (i16, i32, usize, ErrorCode, i64);

/// Plays the steps of one producer on a partition of its own. Whatever is a repeat or refused must not be written.
async fn check(client: &mut Client, topic: &Topic, partition: i32, steps: &[Step]) {
    let id = new_id(client).await;
    let mut end = client.end(topic, partition).await;
    for (number, &(epoch, sequence, count, expected, offset)) in steps.iter().enumerate() {
        let told = client.produce(topic, partition, &sequenced((id, epoch), sequence, count)).await;
        let words = told.error_message;
        assert_eq!(
            (told.error_code, told.base_offset),
            (expected, offset),
            "step {number} of {steps:?}: {words:?}"
        );
        if offset == end {
            end += count as i64;
        }
        assert_eq!(client.end(topic, partition).await, end, "step {number} of {steps:?}");
    }
}

const OK: ErrorCode = ErrorCode::NONE;
const GAP: ErrorCode = ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER;
const OLD: ErrorCode = ErrorCode::INVALID_PRODUCER_EPOCH;

#[tokio::test(flavor = "multi_thread")]
async fn sequences_are_kept_to() {
    let stories: &[&[Step]] = &[
        // A repeat is answered as the original was, whichever of the last five it is.
        &[
            (0, 0, 2, OK, 0),
            (0, 0, 2, OK, 0),
            (0, 2, 3, OK, 2),
            (0, 0, 2, OK, 0),
            (0, 2, 3, OK, 2),
            (0, 5, 1, OK, 5),
        ],
        // What is further back is not known any more; 46 is not said.
        &[
            (0, 0, 1, OK, 0),
            (0, 1, 1, OK, 1),
            (0, 2, 1, OK, 2),
            (0, 3, 1, OK, 3),
            (0, 4, 1, OK, 4),
            (0, 0, 1, OK, 0),
            (0, 5, 1, OK, 5),
            (0, 0, 1, GAP, -1),
            (0, 1, 1, OK, 1),
        ],
        // Gaps and half repeats.
        &[(0, 0, 2, OK, 0), (0, 3, 1, GAP, -1), (0, 0, 3, GAP, -1), (0, 1, 1, GAP, -1), (0, 2, 1, OK, 2)],
        // A new epoch begins at 0 and ends the old one.
        &[
            (0, 0, 2, OK, 0),
            (1, 2, 1, GAP, -1),
            (1, 0, 1, OK, 2),
            (0, 2, 1, OLD, -1),
            (0, 0, 2, OLD, -1),
            (1, 1, 1, OK, 3),
        ],
        // Whoever is not known may begin anywhere.
        &[(0, 17, 2, OK, 0), (0, 19, 1, OK, 2)],
        &[(3, 5, 1, OK, 0), (2, 0, 1, OLD, -1)],
        // After 2^31 - 1 comes 0, also in the middle of a batch.
        &[(0, i32::MAX, 1, OK, 0), (0, 0, 1, OK, 1), (0, i32::MAX, 1, OK, 0)],
        &[(0, i32::MAX - 1, 4, OK, 0), (0, 2, 1, OK, 4), (0, i32::MAX - 1, 4, OK, 0), (0, 0, 1, GAP, -1)],
    ];
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", stories.len() as i32, &[]).await;
    for (partition, steps) in (0..).zip(stories) {
        check(&mut client, &topic, partition, steps).await;
    }
    node.stop().await;
}

/// A retry may come after a restart. It is known again, whether the log was closed in order or not (see `kills`).
#[tokio::test(flavor = "multi_thread")]
async fn producers_are_remembered_over_a_restart() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let id = new_id(&mut client).await;
    let first = sequenced((id, 0), 0, 3);
    assert_eq!(client.append(&topic, 0, &first).await, 0);
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(client.append(&topic, 0, &first).await, 0, "a repeat");
    let gap = client.produce(&topic, 0, &sequenced((id, 0), 4, 1)).await;
    assert_eq!(gap.error_code, GAP);
    assert_eq!(client.append(&topic, 0, &sequenced((id, 0), 3, 1)).await, 3);
    assert_eq!(records_of(&client.fetch(&topic, 0, 0).await.records).len(), 4);
    node.stop().await;
}

/// Each partition counts for itself.
#[tokio::test(flavor = "multi_thread")]
async fn partitions_have_sequences_of_their_own() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    let id = new_id(&mut client).await;
    for partition in [0, 1] {
        assert_eq!(client.append(&topic, partition, &sequenced((id, 0), 0, 1)).await, 0);
        assert_eq!(client.append(&topic, partition, &sequenced((id, 0), 1, 1)).await, 1);
    }
    node.stop().await;
}
