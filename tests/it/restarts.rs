//! What a broker still knows after it stopped, was killed, or lost its local logs: everything that it acknowledged, once, in
//! order, at its offset; and who wrote it.

use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::init_producer_id::InitProducerIdRequest;
use aquifer_protocol::messages::produce::ProduceRequest;
use aquifer_runtime::World;
use bytes::Bytes;

use crate::admin::metric;
use crate::batches::{records_of, sequenced};
use crate::client::{Client, Pipelined, Topic, eventually, only_produced, produce_request};
use crate::node::{Home, Node};
use crate::process::BrokerProcess;
use crate::tier::{Contents, all_is_cold, bucket_is_sound, contents, read, write};

/// Batches that an idempotent producer may have in flight.
const IN_FLIGHT_MAX: i64 = 5;

async fn producer_id(client: &mut Client) -> i64 {
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: 60_000,
        producer_id: -1,
        producer_epoch: -1,
    };
    let answer = client.call(5, &request).await;
    assert_eq!(answer.error_code, ErrorCode::NONE);
    answer.producer_id
}

/// All that is checked of a partition after a start: start, end, contents, and that it goes on.
async fn is_whole(node: &Node, topic: &Topic, expected: &Contents, last: &Bytes) {
    let mut client = node.client().await;
    assert_eq!(client.list_offset(topic, 0, -2).await.offset, expected.start);
    assert_eq!(client.end(topic, 0).await, expected.end);
    assert!(read(&mut client, topic, 0, expected.start, expected.end).await.same_as(expected));
    let told = client.produce(topic, 0, last).await;
    assert_eq!(
        (told.error_code, told.base_offset),
        (ErrorCode::NONE, expected.end - 1),
        "a repeat is known again"
    );
    assert_eq!(client.end(topic, 0).await, expected.end);
}

/// Waits until the bucket has told where the log ends, so that this broker leads again.
async fn leads(client: &mut Client, topic: &Topic) {
    eventually("the broker leads", async || {
        let code = client.list_offset(topic, 0, -1).await.error_code;
        assert!(code.is_none() || code.is_retriable(), "{code:?}");
        code.is_none().then_some(())
    })
    .await;
}

/// A topic with some megabytes, the last record of which is an idempotent producer's.
async fn filled(client: &mut Client, name: &str) -> (Topic, Contents, Bytes, i64) {
    let topic = client.create(name, 1, &[]).await;
    let mut batches = write(client, &topic, 0, 2_500_000, 21).await;
    let id = producer_id(client).await;
    let last = sequenced((id, 0), 0, 1);
    client.append(&topic, 0, &last).await;
    batches.push(last.clone());
    (topic, contents(0, &batches), last, id)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_and_a_start_lose_nothing_hot_or_cold() {
    // Once with nothing but history in the bucket, once with all of it on the local disk.
    for local_retention in ["1", "-1"] {
        let home = Home::tiered(&[&format!("log.local.retention.ms={local_retention}")]);
        let node = home.start().await;
        let mut client = node.client().await;
        let (topic, expected, last, id) = filled(&mut client, "t").await;
        if local_retention == "1" {
            all_is_cold(&node, expected.bytes).await;
        }
        let node = node.restart().await;
        is_whole(&node, &topic, &expected, &last).await;
        let node = node.restart().await;
        is_whole(&node, &topic, &expected, &last).await;
        let mut client = node.client().await;
        assert_eq!(client.append(&topic, 0, &sequenced((id, 0), 1, 1)).await, expected.end, "and it goes on");
        let gap = client.produce(&topic, 0, &sequenced((id, 0), 3, 1)).await;
        assert_eq!(gap.error_code, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
        node.stop().await;
    }
}

/// Local logs are gone, the metadata is not: what the bucket has is the log, at the same offsets.
#[tokio::test(flavor = "multi_thread")]
async fn local_logs_that_are_lost_come_back_from_the_bucket() {
    let home = Home::tiered(&[]);
    let node = home.start().await;
    let mut client = node.client().await;
    let (topic, expected, last, id) = filled(&mut client, "t").await;
    all_is_cold(&node, expected.bytes).await;
    let home = node.stop().await;
    World::system().disk.remove_dir_all(&home.data().join("topics")).expect("the logs' folder");
    let node = home.start().await;
    let mut client = node.client().await;
    leads(&mut client, &topic).await;
    is_whole(&node, &topic, &expected, &last).await;
    assert_eq!(client.append(&topic, 0, &sequenced((id, 0), 1, 1)).await, expected.end);
    let node = node.restart().await;
    let mut client = node.client().await;
    assert_eq!(client.end(&topic, 0).await, expected.end + 1);
    node.stop().await;
}

/// A log that cannot be opened, and whose folder is then moved out of the way under the running broker: what is opened in its place
/// knows nothing, and asks the bucket before it leads, though the broker is started again while that is away.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_moved_away_because_it_cannot_be_opened_comes_back_from_the_bucket() {
    let home = Home::tiered(&["admin.listen=127.0.0.1:0"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let (topic, expected, last, id) = filled(&mut client, "t").await;
    all_is_cold(&node, expected.bytes).await;
    let mut home = node.stop().await;
    // It must not be the keeper's claim that mends a log that leads too soon.
    home.set(&["tier.check.interval.ms=2000"]);
    let disk = World::system().disk;
    let logs = home.data().join("topics").join("t");
    let log = logs.join(&disk.list(&logs).expect("the topic's folder").remove(0).name);
    disk.remove(&log.join("partition")).expect("the file that says whose it is");
    disk.create_dir_all(&log.join("partition")).expect("a folder in its place");
    let node = home.start().await;
    let mut client = node.client().await;
    assert_eq!(client.list_offset(&topic, 0, -1).await.error_code, ErrorCode::KAFKA_STORAGE_ERROR);
    // Of all partitions the bucket only says from now on that it cannot say anything.
    let (partitions, away) = (home.bucket().join("partitions"), home.path().join("partitions-away"));
    disk.rename(&partitions, &away).expect("the bucket's folder of partitions");
    drop(disk.create_new(&partitions).expect("a file in its place"));
    disk.rename(&log, &home.path().join("log-away")).expect("the log's folder");
    eventually("the log is opened", async || {
        (metric(&node, "aquifer_replica_partitions_unopened").await == 0.0).then_some(())
    })
    .await;
    let waits = async |client: &mut Client| {
        let code = client.list_offset(&topic, 0, -1).await.error_code;
        assert!(!code.is_none() && code.is_retriable(), "{code:?}");
    };
    waits(&mut client).await;
    let node = node.restart().await;
    let mut client = node.client().await;
    waits(&mut client).await;
    disk.remove(&partitions).expect("it was made above");
    disk.rename(&away, &partitions).expect("it was put there above");
    leads(&mut client, &topic).await;
    is_whole(&node, &topic, &expected, &last).await;
    assert_eq!(client.append(&topic, 0, &sequenced((id, 0), 1, 1)).await, expected.end);
    node.stop().await;
}

/// A machine that dies and takes its disk with it: what had reached the bucket is the log, and nothing else is made up.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_costs_what_was_not_uploaded() {
    let home = Home::tiered(&["tier.roll.ms=3600000"]);
    let broker = BrokerProcess::start(&home).await;
    let mut client = broker.client().await;
    let topic = client.create("t", 1, &[]).await;
    let batches = write(&mut client, &topic, 0, 3_500_000, 22).await;
    // Three segments are full and go; the open one does not.
    let tiered = eventually("three segments are uploaded", async || {
        let ends = client.list_offset(&topic, 0, -6).await.offset;
        let size =
            (0..=batches.len()).map(|count| contents(0, &batches[..count])).find(|part| part.end == ends);
        size.filter(|part| part.bytes > 2_500_000)
    })
    .await;
    assert!(tiered.end < contents(0, &batches).end);
    broker.kill();
    World::system().disk.remove_dir_all(&home.data().join("topics")).expect("the logs' folder");
    let node = home.start().await;
    let mut client = node.client().await;
    leads(&mut client, &topic).await;
    assert_eq!(client.list_offset(&topic, 0, -2).await.offset, 0);
    assert_eq!(client.end(&topic, 0).await, tiered.end);
    assert!(read(&mut client, &topic, 0, 0, tiered.end).await.same_as(&tiered));
    assert_eq!(client.fetch(&topic, 0, tiered.end + 1).await.error_code, ErrorCode::OFFSET_OUT_OF_RANGE);
    let more = write(&mut client, &topic, 0, 100_000, 23).await;
    let more = contents(tiered.end, &more);
    assert!(
        read(&mut client, &topic, 0, tiered.end, more.end).await.same_as(&more),
        "and it goes on from there"
    );
    bucket_is_sound(&node.stop().await).await;
}

/// A producer with as much in flight as it may have, and a broker that is killed under it again and again. What was
/// acknowledged is there, once, in order, at the offset that was told; what was in flight is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_keeps_what_it_acknowledged_once() {
    const ROUNDS: i64 = 4;
    const RECORDS: usize = 40;
    let home = Home::tiered(&[]);
    let mut topic = Topic::named("t");
    let mut id = -1;
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let broker = BrokerProcess::start(&home).await;
        if round == 0 {
            let mut client = broker.client().await;
            topic = client.create("t", 1, &[]).await;
            id = producer_id(&mut client).await;
        }
        // A batch's sequence is its offset: this producer is the only one.
        let batch = |number: i64| sequenced((id, 0), (number * RECORDS as i64) as i32, RECORDS);
        let mut writer: Pipelined<ProduceRequest> = Pipelined::connect(broker.address).await;
        let mut sent = acknowledged;
        let goal = acknowledged + 300 + round * 37;
        while acknowledged < goal {
            while sent < acknowledged + IN_FLIGHT_MAX {
                writer.send(11, &produce_request(&topic, 0, -1, batch(sent))).await;
                sent += 1;
            }
            let told = only_produced(writer.receive().await);
            let expected = (ErrorCode::NONE, acknowledged * RECORDS as i64);
            assert_eq!((told.error_code, told.base_offset), expected, "round {round}");
            acknowledged += 1;
        }
        broker.kill();
    }
    let broker = BrokerProcess::start(&home).await;
    let mut client = broker.client().await;
    let end = client.end(&topic, 0).await;
    let whole = RECORDS as i64;
    assert!(
        end % whole == 0 && end >= acknowledged * whole && end < (acknowledged + IN_FLIGHT_MAX) * whole,
        "{end}"
    );
    let mut next = 0;
    while next < end {
        for (offset, value) in records_of(&client.fetch(&topic, 0, next).await.records) {
            // A batch comes whole, even from its middle.
            if offset >= next {
                let batch = offset / whole * whole;
                assert_eq!(value, format!("{:?} {batch}+{}", (id, 0), offset - batch));
                assert_eq!(offset, next);
                next += 1;
            }
        }
    }
    broker.process.signal("TERM");
    assert_eq!(broker.process.ended("SIGTERM").await.code, Some(0));
}

/// Topics, configurations and ids are as durable as records: an answer is a promise.
#[tokio::test(flavor = "multi_thread")]
async fn a_killed_broker_keeps_its_topics() {
    let home = Home::new(&[]);
    let mut topics: Vec<Topic> = Vec::new();
    for round in 0..3 {
        let broker = BrokerProcess::start(&home).await;
        let mut client = broker.client().await;
        for topic in &topics {
            assert_eq!(client.end(topic, 0).await, 1, "{:?}", topic.name);
        }
        let topic = client.create(&format!("t{round}"), 1, &[]).await;
        let doomed = format!("doomed{round}");
        client.create(&doomed, 1, &[]).await;
        crate::topics::delete_by_name(&mut client, &doomed).await;
        client.append(&topic, 0, &sequenced((1, 0), 0, 1)).await;
        topics.push(topic);
        broker.kill();
    }
    let node = home.start().await;
    let mut client = node.client().await;
    for round in 0..3 {
        let told = client.list_offset(&Topic::named(&format!("doomed{round}")), 0, -1).await;
        assert_eq!(told.error_code, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }
    node.stop().await;
}
