//! Client quotas: what is set is told, survives, and is kept to: the client is answered at once, told how long to rest, and not
//! read from before that; its neighbours notice nothing. How exactly it is kept to over a while, `cargo xtask prove quotas`
//! measures.

use std::time::Duration;

use aquifer_protocol::messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasResponse, EntityData, EntryData, OpData,
};
use aquifer_protocol::messages::api_versions::ApiVersionsRequest;
use aquifer_protocol::messages::create_partitions::{CreatePartitionsRequest, CreatePartitionsTopic};
use aquifer_protocol::messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};
use aquifer_protocol::messages::delete_topics::DeleteTopicsRequest;
use aquifer_protocol::messages::describe_client_quotas::{ComponentData, DescribeClientQuotasRequest};
use aquifer_protocol::messages::fetch::FetchRequest;
use aquifer_protocol::{ErrorCode, Str};
use aquifer_runtime::World;

use crate::admin::metric;
use crate::batches::batch_of_bytes;
use crate::client::{
    Client, Topic, creatable, eventually, fetch_request, only_fetched, only_produced, produce_request, wanted,
};
use crate::node::{Home, Node};

const USER: &str = "user";
const CLIENT: &str = "client-id";
const IP: &str = "ip";
const PRODUCE: &str = "producer_byte_rate";
const FETCH: &str = "consumer_byte_rate";
const REQUEST: &str = "request_percentage";
const MUTATION: &str = "controller_mutation_rate";
const CONNECTION: &str = "connection_creation_rate";

/// Two windows of a second: one second's worth may be used at once.
const SHORT: &[&str] = &["quota.window.num=2", "controller.quota.window.num=2", "admin.listen=127.0.0.1:0"];

/// Parts of an entity; without a name it is the default.
type Entity<'a> = &'a [(&'a str, Option<&'a str>)];
/// Keys, and what they are set to; `None` takes back.
type Ops<'a> = &'a [(&'a str, Option<f64>)];

fn entry(entity: Entity<'_>, ops: Ops<'_>) -> EntryData {
    let part = |(kind, name): &(&str, Option<&str>)| EntityData {
        entity_type: Str::from(*kind),
        entity_name: name.map(Str::from),
    };
    let op = |(key, value): &(&str, Option<f64>)| OpData {
        key: Str::from(*key),
        value: value.unwrap_or_default(),
        remove: value.is_none(),
    };
    EntryData { entity: entity.iter().map(part).collect(), ops: ops.iter().map(op).collect() }
}

async fn alter(client: &mut Client, entries: Vec<EntryData>) -> AlterClientQuotasResponse {
    client.call(1, &AlterClientQuotasRequest { entries, validate_only: false }).await
}

async fn set(client: &mut Client, entity: Entity<'_>, ops: Ops<'_>) {
    let [answer] =
        <[_; 1]>::try_from(alter(client, vec![entry(entity, ops)]).await.entries).expect("one answer");
    assert_eq!(answer.error_code, ErrorCode::NONE, "{:?}", answer.error_message);
}

/// What is set of the entities that match, as `part=name,part= key=value`.
async fn described(
    client: &mut Client,
    version: i16,
    components: &[(&str, i8, Option<&str>)],
    strict: bool,
) -> Vec<String> {
    let component = |(part, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
        entity_type: Str::from(*part),
        match_type: *match_type,
        match_name: name.map(Str::from),
    };
    let components = components.iter().map(component).collect();
    let answer = client.call(version, &DescribeClientQuotasRequest { components, strict }).await;
    assert_eq!((answer.error_code, answer.error_message), (ErrorCode::NONE, None));
    let lines = answer.entries.expect("no error").into_iter().map(|entry| {
        let parts = entry.entity.iter().map(|part| {
            format!("{}={}", &*part.entity_type, part.entity_name.as_deref().unwrap_or_default())
        });
        let values = entry.values.iter().map(|value| format!("{}={}", &*value.key, value.value));
        format!("{} {}", parts.collect::<Vec<_>>().join(","), values.collect::<Vec<_>>().join(","))
    });
    let mut lines: Vec<String> = lines.collect();
    lines.sort_unstable();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_set_told_and_taken_back_and_survive() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let entries = vec![
        entry(&[(USER, Some("u"))], &[(PRODUCE, Some(1024.0)), (FETCH, Some(2048.0))]),
        entry(&[(USER, None), (CLIENT, Some("c"))], &[(REQUEST, Some(12.5))]),
        entry(&[(USER, Some("u")), (CLIENT, Some("c"))], &[(MUTATION, Some(0.5))]),
        entry(&[(CLIENT, None)], &[(PRODUCE, Some(1.0))]),
        entry(&[(IP, Some("0:0::1"))], &[(CONNECTION, Some(100.0))]),
    ];
    let answer = alter(&mut client, entries).await;
    assert!(answer.entries.iter().all(|entry| entry.error_code.is_none()), "{answer:?}");
    assert_eq!(answer.entries[4].entity[0].entity_name.as_deref(), Some("0:0::1"), "as it was named");

    let user = "user=u consumer_byte_rate=2048,producer_byte_rate=1024";
    let default_and_client = "user=,client-id=c request_percentage=12.5";
    let both = "user=u,client-id=c controller_mutation_rate=0.5";
    let default_client = "client-id= producer_byte_rate=1";
    let address = "ip=::1 connection_creation_rate=100";
    let (exact, default, any) = (0, 1, 2);
    let node = node.restart().await;
    let mut client = node.client().await;
    for version in [0, 1] {
        for (components, strict, expected) in [
            (&[][..], false, &[user, default_and_client, both, default_client, address][..]),
            (&[], true, &[]),
            (&[(USER, exact, Some("u"))], false, &[user, both]),
            (&[(USER, exact, Some("u"))], true, &[user]),
            (&[(USER, default, None)], false, &[default_and_client]),
            (&[(USER, any, None)], false, &[user, default_and_client, both]),
            (&[(USER, any, None), (CLIENT, any, None)], true, &[default_and_client, both]),
            (&[(CLIENT, default, None)], false, &[default_client]),
            (&[(IP, any, None)], false, &[address]),
            (&[(IP, exact, Some("::1"))], true, &[address]),
            (&[(IP, exact, Some("0:0:0::1"))], true, &[address]),
            (&[(CLIENT, exact, Some("x"))], false, &[]),
        ] {
            let mut expected = expected.to_vec();
            expected.sort_unstable();
            assert_eq!(
                described(&mut client, version, components, strict).await,
                expected,
                "{components:?} {strict}"
            );
        }
    }
    set(&mut client, &[(USER, Some("u"))], &[(PRODUCE, None), (FETCH, Some(4096.0)), ("unknown", None)])
        .await;
    set(&mut client, &[(CLIENT, None)], &[(PRODUCE, None)]).await;
    let left = described(&mut client, 1, &[(USER, exact, Some("u")), (CLIENT, any, None)], true).await;
    assert_eq!(left, [both]);
    let left = described(&mut client, 1, &[(USER, exact, Some("u"))], true).await;
    assert_eq!(left, ["user=u consumer_byte_rate=4096"]);
    assert!(described(&mut client, 1, &[(CLIENT, any, None)], true).await.is_empty());
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_quota_is_said_and_the_sound_ones_are_set() {
    let node = Node::start(&[]).await;
    let mut client = node.client().await;
    let long = "x".repeat(1025);
    let one = &[(PRODUCE, Some(1.0))][..];
    for (entity, ops, words) in [
        (&[][..], one, "the entity is empty"),
        (&[("group", Some("g"))], one, "no \"group\""),
        (&[(USER, Some(""))], one, "the user has an empty name"),
        (&[(USER, Some("u")), (USER, None)], one, "its user twice"),
        (&[(IP, Some("::1")), (USER, None)], &[(CONNECTION, Some(1.0))], "goes with neither"),
        (&[(IP, Some("example.org"))], &[(CONNECTION, Some(1.0))], "is no address"),
        (&[(CLIENT, Some(long.as_str()))], one, "at most 1024 bytes"),
        (&[(IP, None)], one, "producer_byte_rate is no quota"),
        (&[(USER, None)], &[(CONNECTION, Some(1.0))], "connection_creation_rate is no quota"),
        (&[(USER, None)], &[("retention.ms", Some(1.0))], "retention.ms is no quota"),
        (&[(USER, None)], &[(PRODUCE, Some(0.0))], "must be above zero"),
        (&[(USER, None)], &[(REQUEST, Some(-0.5))], "must be above zero"),
        (&[(USER, None)], &[(REQUEST, Some(f64::NAN))], "must be a number"),
        (&[(USER, None)], &[(FETCH, Some(1.5))], "must be a whole number"),
        (&[(USER, None)], &[(FETCH, Some(1.0)), (FETCH, None)], "consumer_byte_rate is there twice"),
    ] {
        let sound = entry(&[(CLIENT, Some("sound"))], one);
        let [refused, set] =
            <[_; 2]>::try_from(alter(&mut client, vec![entry(entity, ops), sound]).await.entries).unwrap();
        assert_eq!(refused.error_code, ErrorCode::INVALID_REQUEST, "{words}");
        let said = refused.error_message.expect("words");
        assert!(said.contains(words), "{:?} in {:?}", words, &*said);
        assert_eq!((set.error_code, set.error_message), (ErrorCode::NONE, None));
        let all = described(&mut client, 1, &[], false).await;
        assert_eq!(all, ["client-id=sound producer_byte_rate=1"], "{words}");
    }
    // An entity that is named twice: neither counts.
    let twice = [Some(5.0), None].map(|value| entry(&[(USER, None)], &[(PRODUCE, value)]));
    let answer = alter(&mut client, twice.to_vec()).await;
    assert!(answer.entries.iter().all(|entry| entry.error_code == ErrorCode::INVALID_REQUEST));
    // Only judged.
    let entries = vec![
        entry(&[(USER, None)], &[(PRODUCE, Some(5.0))]),
        entry(&[(USER, Some("u"))], &[(PRODUCE, Some(-5.0))]),
    ];
    let judged = client.call(1, &AlterClientQuotasRequest { entries, validate_only: true }).await;
    let codes: Vec<_> = judged.entries.iter().map(|entry| entry.error_code).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::INVALID_REQUEST]);
    assert_eq!(described(&mut client, 1, &[], false).await.len(), 1, "nothing was set");

    for (components, code) in [
        (vec![("", 2, None)], ErrorCode::INVALID_REQUEST),
        (vec![(USER, 2, None), (USER, 1, None)], ErrorCode::INVALID_REQUEST),
        (vec![("group", 2, None)], ErrorCode::UNSUPPORTED_VERSION),
        (vec![(USER, 0, None)], ErrorCode::INVALID_REQUEST),
        (vec![(USER, 1, Some("u"))], ErrorCode::INVALID_REQUEST),
        (vec![(USER, 2, Some("u"))], ErrorCode::INVALID_REQUEST),
        (vec![(USER, 3, None)], ErrorCode::INVALID_REQUEST),
        (vec![(USER, 2, None), (IP, 2, None)], ErrorCode::INVALID_REQUEST),
    ] {
        let component = |(part, match_type, name): &(&str, i8, Option<&str>)| ComponentData {
            entity_type: Str::from(*part),
            match_type: *match_type,
            match_name: name.map(Str::from),
        };
        let request = DescribeClientQuotasRequest {
            components: components.iter().map(component).collect(),
            strict: false,
        };
        let answer = client.call(1, &request).await;
        assert_eq!((answer.error_code, answer.entries), (code, None), "{components:?}");
        assert!(answer.error_message.is_some());
    }
    node.stop().await;
}

/// How long something takes.
async fn time<T>(what: impl Future<Output = T>) -> (T, Duration) {
    let clock = World::system().clock;
    let began = clock.now();
    let done = what.await;
    (done, clock.now() - began)
}

fn ms(millis: i32) -> Duration {
    Duration::from_millis(u64::try_from(millis).expect("no time is below zero"))
}

/// Asks for something that costs nothing; gives how long that took.
async fn ask(client: &mut Client) -> Duration {
    time(client.call(2, &ApiVersionsRequest::default())).await.1
}

async fn produce(client: &mut Client, topic: &Topic, bytes: usize) -> i32 {
    let answer = client.call(12, &produce_request(topic, 0, -1, batch_of_bytes(bytes))).await;
    let throttle = answer.throttle_time_ms;
    assert_eq!(only_produced(answer).error_code, ErrorCode::NONE);
    throttle
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_is_answered_at_once_and_then_muted_and_its_neighbour_is_not() {
    let node = Node::start(SHORT).await;
    let mut admin = node.client().await;
    let topic = admin.create("t", 1, &[]).await;
    set(&mut admin, &[(CLIENT, Some("noisy"))], &[(PRODUCE, Some(20_000.0))]).await;
    let mut noisy = Client::connect_as(node.address(), "noisy").await;
    let mut quiet = Client::connect_as(node.address(), "quiet").await;
    assert_eq!(produce(&mut noisy, &topic, 10_000).await, 0, "within what may be used at once");
    let (throttle, answered_in) = time(produce(&mut noisy, &topic, 90_000)).await;
    // 100,000 bytes are five seconds' worth, of which one is free; some hundreds are the request's own.
    assert!((3_500..4_200).contains(&throttle), "{throttle}");
    assert!(answered_in < ms(throttle), "the answer does not wait: {answered_in:?}");
    let neighbour = async {
        for _ in 0..20 {
            assert_eq!(produce(&mut quiet, &topic, 10_000).await, 0);
        }
    };
    let (waited, ((), neighbour_took)) = tokio::join!(ask(&mut noisy), time(neighbour));
    assert!(neighbour_took < waited, "its neighbour has sent 200,000 bytes meanwhile");
    assert!(waited > ms(throttle) - answered_in - Duration::from_millis(200), "{waited:?} of {throttle} ms");
    assert_eq!(metric(&node, r#"aquifer_quotas_throttled_total{quota="producer_byte_rate"}"#).await, 1.0);

    // Who asks for no answer is muted all the same.
    noisy.send(12, &produce_request(&topic, 0, 0, batch_of_bytes(60_000))).await;
    assert!(ask(&mut noisy).await > Duration::from_millis(500));
    // Another connection of the same client uses the same quota; a change holds at once.
    let mut again = Client::connect_as(node.address(), "noisy").await;
    assert!(produce(&mut again, &topic, 40_000).await > 0);
    set(&mut admin, &[(CLIENT, Some("noisy"))], &[(PRODUCE, None)]).await;
    let mut again = Client::connect_as(node.address(), "noisy").await;
    assert_eq!(produce(&mut again, &topic, 100_000).await, 0);
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_over_quota_is_empty_and_its_session_goes_on() {
    let node = Node::start(SHORT).await;
    let mut admin = node.client().await;
    let topic = admin.create("t", 1, &[]).await;
    for _ in 0..4 {
        admin.append(&topic, 0, &batch_of_bytes(15_000)).await;
    }
    set(&mut admin, &[(CLIENT, None)], &[(FETCH, Some(20_000.0))]).await;
    let mut reader = Client::connect_as(node.address(), "reader").await;
    // At most what may be used at once is read, and with it a session begins.
    let open = FetchRequest { session_epoch: 0, ..fetch_request(vec![wanted(&topic, 0, 0)]) };
    let first = reader.call(12, &open).await;
    assert_eq!((first.error_code, first.throttle_time_ms), (ErrorCode::NONE, 0));
    let session_id = first.session_id;
    assert!(session_id > 0);
    let size = only_fetched(first).records.len();
    assert!((15_000..20_000).contains(&size), "{size}");
    let next = |epoch| FetchRequest {
        session_id,
        session_epoch: epoch,
        ..fetch_request(vec![wanted(&topic, 0, 1)])
    };
    let withheld = reader.call(12, &next(1)).await;
    assert_eq!((withheld.error_code, withheld.session_id), (ErrorCode::NONE, session_id));
    assert!(withheld.responses.is_empty() && withheld.throttle_time_ms > 0, "{withheld:?}");
    // What was withheld does not count, so that it comes once its client has rested.
    let mut epoch = 1;
    let answer = eventually("records", async || {
        epoch += 1;
        let answer = reader.call(12, &next(epoch)).await;
        assert_eq!(answer.error_code, ErrorCode::NONE);
        (!answer.responses.is_empty()).then_some(answer)
    })
    .await;
    assert_eq!(only_fetched(answer).records.len(), size);
    // Others have as much, each of their own; of a batch larger than that, the first is sent, and paid for.
    admin.append(&topic, 0, &batch_of_bytes(50_000)).await;
    let mut other = Client::connect_as(node.address(), "other").await;
    let large = other.call(12, &fetch_request(vec![wanted(&topic, 0, 4)])).await;
    assert!((1_300..1_600).contains(&large.throttle_time_ms), "{}", large.throttle_time_ms);
    assert!(only_fetched(large).records.len() > 50_000);
    node.stop().await;
}

async fn create(client: &mut Client, version: i16, name: &str, partitions: i32) -> CreateTopicsResponse {
    let topics = vec![creatable(name, partitions, &[])];
    client.call(version, &CreateTopicsRequest { topics, timeout_ms: 10_000, ..Default::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_topics_are_refused_in_new_versions_and_slowed_down_in_old_ones() {
    let node = Node::start(SHORT).await;
    let mut admin = node.client().await;
    set(&mut admin, &[(CLIENT, Some("new"))], &[(MUTATION, Some(2.0))]).await;
    set(&mut admin, &[(CLIENT, Some("old"))], &[(MUTATION, Some(2.0))]).await;
    let mut new = Client::connect_as(node.address(), "new").await;
    // Two seconds' worth are four; who finds one left is let through whole.
    let answer = create(&mut new, 7, "a", 10).await;
    assert_eq!((answer.topics[0].error_code, answer.throttle_time_ms), (ErrorCode::NONE, 0));
    let answer = create(&mut new, 7, "b", 1).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::THROTTLING_QUOTA_EXCEEDED);
    let throttle = answer.throttle_time_ms;
    assert!((1..=3_000).contains(&throttle), "{throttle}");
    assert!(ask(&mut new).await > ms(throttle) / 2, "muted, too");
    let answer = create(&mut new, 7, "b", 2).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE, "after its rest");

    let mut old = Client::connect_as(node.address(), "old").await;
    let answer = create(&mut old, 5, "c", 10).await;
    assert_eq!(answer.topics[0].error_code, ErrorCode::NONE);
    assert!((1..=3_000).contains(&answer.throttle_time_ms), "{}", answer.throttle_time_ms);
    // As it is muted, by other connections of the same client: all are carried out.
    let mut old = Client::connect_as(node.address(), "old").await;
    let topics = vec![CreatePartitionsTopic { name: Str::from("c"), count: 12, assignments: None }];
    let grow = CreatePartitionsRequest { topics, timeout_ms: 10_000, ..Default::default() };
    let answer = old.call(2, &grow).await;
    assert_eq!(answer.results[0].error_code, ErrorCode::NONE);
    assert!(answer.throttle_time_ms > 0);
    let mut old = Client::connect_as(node.address(), "old").await;
    let delete =
        DeleteTopicsRequest { topic_names: vec![Str::from("c")], timeout_ms: 10_000, ..Default::default() };
    let answer = old.call(4, &delete).await;
    assert_eq!(answer.responses[0].error_code, ErrorCode::NONE);
    let debt = answer.throttle_time_ms;
    assert!(debt > 2_000, "{debt}");
    // By then the same client is refused in the versions that know the word for it.
    let refused = ErrorCode::THROTTLING_QUOTA_EXCEEDED;
    let mut old = Client::connect_as(node.address(), "old").await;
    let grow = CreatePartitionsRequest {
        topics: vec![CreatePartitionsTopic { name: Str::from("a"), count: 11, assignments: None }],
        ..grow
    };
    assert_eq!(old.call(3, &grow).await.results[0].error_code, refused);
    let mut old = Client::connect_as(node.address(), "old").await;
    let delete = DeleteTopicsRequest { topic_names: vec![Str::from("a")], ..delete };
    assert_eq!(old.call(5, &delete).await.responses[0].error_code, refused);
    let mut quiet = Client::connect_as(node.address(), "quiet").await;
    assert_eq!(create(&mut quiet, 7, "d", 20).await.throttle_time_ms, 0, "a neighbour is not");
    assert!(
        metric(&node, r#"aquifer_quotas_throttled_total{quota="controller_mutation_rate"}"#).await >= 6.0
    );
    node.stop().await;
}

/// The broker's own bound on how fast partitions come is met in old versions by a code that they know.
#[tokio::test(flavor = "multi_thread")]
async fn too_many_partitions_are_refused_in_each_versions_words() {
    let node = Node::start(&["max.partitions.creation.rate=1"]).await;
    // A hundred are free; old versions may owe as many.
    for (version, name, partitions, expected) in [
        (7, "a", 150, ErrorCode::NONE),
        (7, "b", 1, ErrorCode::THROTTLING_QUOTA_EXCEEDED),
        (5, "c", 150, ErrorCode::NONE),
        (5, "d", 1, ErrorCode::POLICY_VIOLATION),
    ] {
        // Each is muted for a minute or more afterwards.
        let mut client = node.client().await;
        let answer = create(&mut client, version, name, partitions).await;
        assert_eq!(answer.topics[0].error_code, expected, "{name}");
        assert_eq!(answer.throttle_time_ms > 0, name != "a", "{name}: {}", answer.throttle_time_ms);
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn time_and_connections_have_quotas_too() {
    let node = Node::start(SHORT).await;
    let mut admin = node.client().await;
    // Less than any request takes; a rest is never longer than a window.
    set(&mut admin, &[(CLIENT, Some("busy"))], &[(REQUEST, Some(1e-6))]).await;
    let mut busy = Client::connect_as(node.address(), "busy").await;
    let answer = busy.call(2, &ApiVersionsRequest::default()).await;
    assert_eq!(answer.throttle_time_ms, 1000);
    assert!(ask(&mut busy).await > Duration::from_millis(800));

    set(&mut admin, &[(IP, Some("127.0.0.1"))], &[(CONNECTION, Some(1.0))]).await;
    let mut first = node.client().await;
    ask(&mut first).await;
    let mut second = node.client().await;
    let ((), closed_in) = time(second.expect_closed("its address has connected just now")).await;
    assert!(closed_in > Duration::from_millis(100), "it is closed after its rest: {closed_in:?}");
    assert!(
        metric(&node, r#"aquifer_quotas_throttled_total{quota="connection_creation_rate"}"#).await >= 1.0
    );
    ask(&mut admin).await;
    set(&mut admin, &[(IP, Some("127.0.0.1"))], &[(CONNECTION, None)]).await;
    for _ in 0..5 {
        ask(&mut node.client().await).await;
    }
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_quota_is_shared_and_holds_after_a_restart() {
    let home = Home::new(SHORT);
    let node = home.start().await;
    let mut admin = node.client().await;
    let topic = admin.create("t", 1, &[]).await;
    set(&mut admin, &[(USER, Some("ANONYMOUS"))], &[(PRODUCE, Some(10_000.0))]).await;
    let node = node.restart().await;
    // All clients of the user share it.
    let mut one = Client::connect_as(node.address(), "one").await;
    let mut other = Client::connect_as(node.address(), "other").await;
    assert_eq!(produce(&mut one, &topic, 9_000).await, 0);
    assert!(produce(&mut other, &topic, 9_000).await > 0);
    node.stop().await;
}
