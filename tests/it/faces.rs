//! The program as people type it: a node for development, and the commands that talk to it.

use std::time::Duration;

use aquifer_model::format::Format;
use aquifer_runtime::World;
use serde_json::Value;

use crate::admin::{get, metric};
use crate::batches::batch;
use crate::node::Home;
use crate::process::{Ended, Process};

/// Runs a command that must succeed; gives what it printed.
pub(crate) async fn run(home: &Home, broker: &str, args: &[&str], input: &str) -> String {
    let environment = [("AQUIFER_BOOTSTRAP", broker)];
    let process = Process::run_on(home, args, &environment, input.as_bytes());
    let Ended { code, stdout, stderr } = process.ended(&format!("{args:?}")).await;
    assert_eq!(code, Some(0), "{args:?}: {stdout}{stderr}");
    stdout
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_for_development_and_the_commands_that_talk_to_it() {
    let home = Home::new(&[]);
    let data = home.data();
    let data_dir = data.to_str().expect("a path of text");
    let args = ["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--data-dir", data_dir];
    let mut node = Process::run(&home, &args, &[]);
    let line = node.says("serving Kafka clients").await;
    let broker = line.rsplit_once("address=").expect("where").1.trim().to_owned();
    assert!(data.join("bucket").is_dir(), "the embedded bucket");

    run(&home, &broker, &["topic", "create", "t", "-p", "2", "-c", "retention.ms=60000"], "").await;
    run(&home, &broker, &["topic", "create", "t", "--if-not-exists"], "").await;
    assert!(run(&home, &broker, &["topic", "list"], "").await.contains('t'));
    let listed = run(&home, &broker, &["topic", "list", "--json"], "").await;
    let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
    assert!(listed.to_string().contains("\"t\""), "{listed}");
    assert!(run(&home, &broker, &["topic", "describe", "t"], "").await.contains("retention.ms"));

    let lines: Vec<String> = (0..1000).map(|number| format!("key{}:line {number}", number % 7)).collect();
    let text = lines.join("\n") + "\n";
    run(&home, &broker, &["produce", "t", "-K", ":", "-z", "zstd", "-q"], &text).await;
    let read =
        run(&home, &broker, &["consume", "t", "--from", "beginning", "-e", "-F", "{key}:{value}\\n"], "")
            .await;
    let mut read: Vec<&str> = read.lines().collect();
    let mut written: Vec<&str> = lines.iter().map(String::as_str).collect();
    read.sort_unstable();
    written.sort_unstable();
    assert_eq!(read, written, "every line came back");
    // What has one key is in one partition, in order.
    for partition in ["0", "1"] {
        let args = ["consume", "t", "-p", partition, "--from", "beginning", "-e", "-F", "{key} {value}\\n"];
        let ordered = run(&home, &broker, &args, "").await;
        for key in (0..7).map(|key| format!("key{key} line ")) {
            let numbers: Vec<u32> =
                ordered.lines().filter_map(|line| line.strip_prefix(&key)?.parse().ok()).collect();
            assert!(numbers.is_sorted(), "{key}: {numbers:?}");
        }
    }
    run(&home, &broker, &["topic", "delete", "t"], "").await;
    assert!(!run(&home, &broker, &["topic", "list", "--json"], "").await.contains("\"t\""));
    node.signal("TERM");
    assert_eq!(node.ended("SIGTERM").await.code, Some(0));
}

/// Runs a command, and gives the JSON that it printed.
pub(crate) async fn json(home: &Home, broker: &str, args: &[&str]) -> serde_json::Value {
    let printed = run(home, broker, args, "").await;
    serde_json::from_str(&printed).unwrap_or_else(|error| panic!("{args:?}: {error}: {printed}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn groups_are_seen_moved_and_deleted() {
    let home = Home::new(&["admin.listen=127.0.0.1:0", "offsets.topic.num.partitions=4"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    for partition in [0, 1] {
        client.append(&topic, partition, &batch(&["a"; 10])).await;
    }
    let broker = node.address().to_string();
    let reset = ["group", "reset-offsets", "g", "--topic", "t", "--to", "beginning"];
    let shown = run(&home, &broker, &reset, "").await;
    assert!(shown.contains("nothing was changed"), "{shown}");
    assert_eq!(json(&home, &broker, &["group", "list", "--json"]).await, serde_json::json!([]));

    run(&home, &broker, &[&reset[..], &["--execute"]].concat(), "").await;
    let listed = json(&home, &broker, &["group", "list", "--json"]).await;
    assert_eq!((&listed[0]["group"], &listed[0]["state"]), (&"g".into(), &"Empty".into()), "{listed}");
    // Kept within what there is.
    let by = ["group", "reset-offsets", "g", "--topic", "t:1", "--by", "99", "--execute", "--json"];
    let moved = json(&home, &broker, &by).await;
    let expected = serde_json::json!([{ "topic": "t", "partition": 1, "from": 0, "to": 10 }]);
    assert_eq!((&moved["done"], &moved["partitions"]), (&true.into(), &expected));
    let by = ["group", "reset-offsets", "g", "--topic", "t:0", "--by", "3", "--execute"];
    run(&home, &broker, &by, "").await;

    let described = json(&home, &broker, &["group", "describe", "g", "--json"]).await;
    let lags = |partitions: &serde_json::Value| -> Vec<u64> {
        partitions.as_array().expect("a list").iter().filter_map(|one| one["lag"].as_u64()).collect()
    };
    assert_eq!(lags(&described[0]["partitions"]), [7, 0], "{described}");
    let table = run(&home, &broker, &["group", "describe", "g"], "").await;
    assert!(table.contains("lag 7") && table.contains("local"), "{table}");

    let (_, told) = get(node.admin_address(), "/api/groups").await;
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    let group = &told["groups"][0];
    assert_eq!((&group["group"], &group["lag"], &group["members"]), (&"g".into(), &7.into(), &0.into()));
    assert_eq!(lags(&group["partitions"]), [7, 0]);
    let (_, metrics) = get(node.admin_address(), "/metrics").await;
    let lag = "aquifer_group_lag{group=\"g\",topic=\"t\",partition=\"0\"} 7";
    assert!(metrics.contains(lag), "{metrics}");

    assert_eq!(run(&home, &broker, &["group", "delete", "g"], "").await, "deleted g\n");
    assert!(run(&home, &broker, &["group", "delete", "g", "--if-exists"], "").await.contains("not there"));
    let (_, metrics) = get(node.admin_address(), "/metrics").await;
    assert!(!metrics.contains("group=\"g\""), "what is gone is no series any more");
    node.stop().await;
}

/// One whose log does not open has positions, and nobody to say where it ends.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_described_at_once_where_a_partition_says_nothing() {
    let home = Home::new(&["offsets.topic.num.partitions=4"]);
    let node = home.start().await;
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    for partition in [0, 1] {
        client.append(&topic, partition, &batch(&["a"; 10])).await;
    }
    let moves = ["group", "reset-offsets", "g", "--topic", "t", "--to", "3", "--execute"];
    run(&home, &node.address().to_string(), &moves, "").await;
    node.stop().await;
    let World { disk, clock, .. } = World::system();
    let folder = home.data().join("topics/t");
    let partitions = disk.list(&folder).expect("a folder for each partition");
    let second = partitions.iter().find(|entry| entry.name.ends_with("-1")).expect("partition 1");
    // As a newer program would leave it.
    let newer = Format { name: "checkpoint", magic: *b"AQCP", version: 2 }.seal(&[]);
    disk.write_atomic(&folder.join(&second.name).join("checkpoint"), &newer).expect("it is written");

    let node = home.start().await;
    let broker = node.address().to_string();
    let began = clock.now();
    let described = json(&home, &broker, &["group", "describe", "g", "--json"]).await;
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "it waited for {took:?}");
    let partitions = &described[0]["partitions"];
    for (key, expected) in [("offset", 3.into()), ("lag", 7.into()), ("unknown", Value::Null)] {
        assert_eq!(partitions[0][key], expected, "{key}: {described}");
    }
    for (key, expected) in [("offset", 3.into()), ("end", Value::Null), ("lag", Value::Null)] {
        assert_eq!(partitions[1][key], expected, "{key}: {described}");
    }
    let why = partitions[1]["unknown"].as_str().expect("a reason");
    let table = run(&home, &broker, &["group", "describe", "g"], "").await;
    let lines = ["lag 7, and unknown in 1 of 2 partitions", "where partition 1 of t begins and ends", why];
    assert!(lines.iter().all(|line| table.contains(line)), "{table}");
    node.stop().await;
}

/// What there is no room for is counted, so that a scrape is bounded whatever clients call their groups.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_groups_are_told_of_as_may_be() {
    let sets = ["admin.listen=127.0.0.1:0", "offsets.topic.num.partitions=2", "group.lag.groups.max=3"];
    let home = Home::new(&sets);
    let node = home.start().await;
    let mut client = node.client().await;
    client.create("t", 2, &[]).await;
    for group in ["a", "b", "c", "d", "e"] {
        let moves = ["group", "reset-offsets", group, "--topic", "t", "--to", "beginning", "--execute"];
        run(&home, &node.address().to_string(), &moves, "").await;
    }
    let (_, metrics) = get(node.admin_address(), "/metrics").await;
    let series = |name: &str| metrics.lines().filter(|line| line.starts_with(name)).count();
    assert_eq!((series("aquifer_group_members{"), series("aquifer_group_lag{")), (3, 6), "{metrics}");
    assert_eq!(metric(&node, "aquifer_groups_left_out").await, 2.0);
    assert_eq!(metric(&node, "aquifer_groups_lag_left_out").await, 4.0);
    let (_, told) = get(node.admin_address(), "/api/groups").await;
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let count = told["groups"].as_array().map(Vec::len);
    assert_eq!((count, &told["groups_left_out"], &told["left_out"]), (Some(3), &2.into(), &4.into()));
    node.stop().await;
}
