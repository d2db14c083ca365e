//! DescribeTopicPartitions: what Metadata tells, page by page.

use aquifer_protocol::messages::describe_topic_partitions::{
    Cursor, DescribeTopicPartitionsRequest, DescribeTopicPartitionsResponse, TopicRequest,
};
use aquifer_protocol::{ErrorCode, Str};

use crate::client::Client;
use crate::node::Node;

async fn ask(
    client: &mut Client,
    topics: &[&str],
    limit: i32,
    cursor: Option<(&str, i32)>,
) -> DescribeTopicPartitionsResponse {
    let named = topics.iter().map(|name| TopicRequest { name: Str::from(*name) });
    let cursor = cursor.map(|(name, index)| Cursor { topic_name: Str::from(name), partition_index: index });
    let request =
        DescribeTopicPartitionsRequest { topics: named.collect(), response_partition_limit: limit, cursor };
    client.call(0, &request).await
}

/// Topic, partitions told of, error.
type Told = (String, Vec<i32>, ErrorCode);

fn told(answer: &DescribeTopicPartitionsResponse) -> (Vec<Told>, Option<(&str, i32)>) {
    let topics = answer.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| partition.partition_index).collect();
        (topic.name.as_deref().expect("a name").to_owned(), partitions, topic.error_code)
    });
    let next = answer.next_cursor.as_ref().map(|cursor| (&*cursor.topic_name, cursor.partition_index));
    (topics.collect(), next)
}

fn found(name: &str, partitions: &[i32]) -> Told {
    (name.to_owned(), partitions.to_vec(), ErrorCode::NONE)
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_cut_where_they_are_full_and_go_on_there() {
    let node = Node::start(&["max.request.partition.size.limit=4"]).await;
    let mut client = node.client().await;
    // Made in another order than that of their names.
    for (name, partitions) in [("c", 2), ("a", 3), ("b", 1)] {
        client.create(name, partitions, &[]).await;
    }
    let all = &[][..];
    for (topics, limit, cursor, expected, next) in [
        (all, 2, None, vec![found("a", &[0, 1])], Some(("a", 2))),
        (all, 2, Some(("a", 2)), vec![found("a", &[2]), found("b", &[0])], Some(("c", 0))),
        (all, 2, Some(("c", 0)), vec![found("c", &[0, 1])], None),
        (all, 3, None, vec![found("a", &[0, 1, 2])], Some(("b", 0))),
        // As many as the broker allows, however many are asked for; and never none.
        (all, 1000, None, vec![found("a", &[0, 1, 2]), found("b", &[0])], Some(("c", 0))),
        (all, 0, None, vec![found("a", &[0])], Some(("a", 1))),
        (all, -7, Some(("b", 0)), vec![found("b", &[0])], Some(("c", 0))),
        // A topic that went since the last page, and partitions that never were.
        (all, 4, Some(("bb", 5)), vec![found("c", &[0, 1])], None),
        (all, 4, Some(("c", 9)), vec![found("c", &[])], None),
        // Of topics named, in the order of names and each once.
        (&["c", "a", "c"], 4, None, vec![found("a", &[0, 1, 2]), found("c", &[0])], Some(("c", 1))),
        (&["c", "a"], 4, Some(("c", 1)), vec![found("c", &[1])], None),
    ] {
        let answer = ask(&mut client, topics, limit, cursor).await;
        assert_eq!(told(&answer), (expected, next), "{topics:?} {limit} {cursor:?}");
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_is_told_in_full_and_what_is_none_has_an_error() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let topic = client.create("t", 1, &[]).await;
    let answer = ask(&mut client, &["t", "none", "no/name"], 2000, None).await;
    let errors: Vec<(&str, ErrorCode)> =
        answer.topics.iter().map(|topic| (topic.name.as_deref().unwrap(), topic.error_code)).collect();
    assert_eq!(
        errors,
        [
            ("no/name", ErrorCode::INVALID_TOPIC_EXCEPTION),
            ("none", ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
            ("t", ErrorCode::NONE)
        ]
    );
    let told = &answer.topics[2];
    assert_eq!((told.topic_id, told.is_internal), (topic.id, false));
    assert_eq!(told.topic_authorized_operations, 0b1101_1111_1000, "everybody may do everything");
    let partition = &told.partitions[0];
    assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::NONE, 1));
    assert_eq!((&partition.replica_nodes[..], &partition.isr_nodes[..]), (&[1][..], &[1][..]));
    assert!(partition.offline_replicas.is_empty() && partition.leader_epoch >= 0);
    // The Java client does not get over null.
    assert_eq!(
        (&partition.eligible_leader_replicas, &partition.last_known_elr),
        (&Some(vec![]), &Some(vec![]))
    );
    // A cursor that no answer gave.
    for (topics, cursor) in [(&["t"][..], ("u", 0)), (&["t"], ("t", -1))] {
        let answer = ask(&mut client, topics, 2000, Some(cursor)).await;
        let codes: Vec<ErrorCode> = answer.topics.iter().map(|topic| topic.error_code).collect();
        assert_eq!(codes, [ErrorCode::INVALID_REQUEST], "{cursor:?}");
    }
    node.stop().await;
}
