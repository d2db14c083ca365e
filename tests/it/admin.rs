//! The admin port: what probes, scrapers and people at three in the morning ask.

use std::net::SocketAddr;

use aquifer_runtime::sockets::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::client::{eventually, in_time};
use crate::node::{Home, Node};
use crate::tier::{all_is_cold, contents, write};

/// Status and body of a GET, by the few bytes that HTTP needs.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    in_time(path, async {
        let mut stream = Stream::connect(address).await.expect("the admin port is open");
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("text comes back");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    })
    .await
}

/// One of the metrics, without labels.
pub(crate) async fn metric(node: &Node, name: &str) -> f64 {
    let (_, metrics) = get(node.admin_address(), "/metrics").await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("{name} is not among the metrics:\n{metrics}"));
    value.parse().expect("a number")
}

#[tokio::test(flavor = "multi_thread")]
async fn probes_metrics_and_status_answer() {
    let node = Home::tiered(&["admin.listen=127.0.0.1:0"]).start().await;
    let admin = node.admin_address();
    assert_eq!(get(admin, "/live").await.0, 200);
    assert_eq!(get(admin, "/ready").await.0, 200);
    assert_eq!(get(admin, "/nothing").await.0, 404);
    let mut client = node.client().await;
    let topic = client.create("t", 2, &[]).await;
    let written = contents(0, &write(&mut client, &topic, 0, 1_200_000, 41).await);
    all_is_cold(&node, written.bytes).await;

    let (status, metrics) = get(admin, "/metrics").await;
    assert_eq!(status, 200);
    assert!(metrics.trim_end().ends_with("# EOF"), "the text format ends so");
    let value = |name: &str| {
        let line = metrics.lines().find(|line| line.split([' ', '{']).next() == Some(name));
        let line = line.unwrap_or_else(|| panic!("{name} is not among the metrics:\n{metrics}"));
        line.rsplit(' ').next().and_then(|value| value.parse::<f64>().ok()).expect("a number")
    };
    let explained = include_str!("../../docs/operations.md");
    let unexplained: Vec<&str> = metrics
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .filter(|name| !explained.contains(&format!("`{name}`")))
        .collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not say what these mean: {unexplained:?}");
    assert_eq!(value("aquifer_replica_partitions"), 2.0);
    assert_eq!(value("aquifer_replica_partitions_offline"), 0.0);
    assert_eq!(value("aquifer_replica_upload_lag_bytes"), 0.0);
    assert_eq!(value("aquifer_replica_tiered_bytes"), written.bytes as f64);

    let status = eventually("no lag", async || {
        let (code, body) = get(admin, "/api/status").await;
        assert_eq!(code, 200);
        let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
        (status["totals"]["upload_lag_bytes"] == 0).then_some(status)
    })
    .await;
    assert_eq!((&status["broker_id"], &status["topics"]), (&1.into(), &1.into()));
    let partitions = status["partitions"].as_array().expect("a list");
    assert_eq!(partitions.len(), 2);
    let first = partitions.iter().find(|partition| partition["partition"] == 0).expect("partition 0");
    for (key, expected) in [
        ("high_watermark", written.end),
        ("log_end", written.end),
        ("log_start", 0),
        ("local_start", written.end),
        ("tiered_end", written.end),
        ("local_bytes", 0),
    ] {
        assert_eq!(first[key], expected, "{key}: {first}");
    }
    assert_eq!((first["topic"].as_str(), first["role"].as_str()), (Some("t"), Some("leader")));
    node.stop().await;
}

#[test]
fn the_dashboard_shows_what_is_explained() {
    let explained = include_str!("../../docs/operations.md");
    let dashboard = include_str!("../../docs/grafana.json");
    let _: serde_json::Value = serde_json::from_str(dashboard).expect("JSON");
    let words = dashboard.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let shown: std::collections::BTreeSet<&str> =
        words.filter(|word| word.starts_with("aquifer_")).map(base_name).collect();
    assert!(shown.len() > 20, "{shown:?}");
    let unexplained: Vec<&&str> =
        shown.iter().filter(|name| !explained.contains(&format!("`{name}`"))).collect();
    assert!(unexplained.is_empty(), "docs/operations.md does not say what these mean: {unexplained:?}");
}

/// A metric's name without what the text format adds to counters and histograms.
fn base_name(series: &str) -> &str {
    ["_total", "_bucket"].iter().find_map(|suffix| series.strip_suffix(suffix)).unwrap_or(series)
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_does_not_keep_a_broker_from_stopping_in_order() {
    let node = Home::new(&["admin.listen=127.0.0.1:0"]).start().await;
    let mut stream = Stream::connect(node.admin_address()).await.expect("the admin port is open");
    stream.write_all(b"GET /live HT").await.expect("it is sent");
    assert_eq!(get(node.admin_address(), "/live").await.0, 200);
    node.stop().await;
    drop(stream);
}
