//! `aquifer bench`: each of its runs does what it says, and says what went wrong.

use serde_json::Value;

use crate::faces::{json, run};
use crate::node::Home;
use crate::process::Process;

fn number(report: &Value, field: &str) -> u64 {
    report[field].as_u64().unwrap_or_else(|| panic!("{field} of {report}"))
}

/// All that a report tells is there and makes sense.
fn check(report: &Value) {
    assert_eq!(number(report, "errors"), 0);
    for field in ["records", "bytes", "requests", "latencies"] {
        assert!(number(report, field) > 0, "{field} of {report}");
    }
    let of = |field: &str| report[field].as_f64().unwrap_or_else(|| panic!("{field} of {report}"));
    let quantiles = ["p50_ms", "p90_ms", "p99_ms", "p999_ms", "max_ms"].map(of);
    assert!(quantiles[0] > 0.0 && quantiles.is_sorted(), "{report}");
    let per_second = of("records_per_s") * of("seconds");
    assert!((per_second / of("records") - 1.0).abs() < 1e-6, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_produced_flat_out_is_replayed_and_consumed() {
    let home = Home::new(&[]);
    let node = home.start().await;
    let broker = node.address().to_string();
    let load = ["--record-size", "100", "--batch-bytes", "4096", "--seconds", "1", "--warmup", "0", "--json"];
    let target = ["bench", "produce", "--topic", "t", "--create", "--partitions", "3", "--connections", "2"];
    let mut written = 0;
    for more in [&["--in-flight", "4"][..], &["--idempotent", "--batches", "2", "--acks", "1", "--keyed"]] {
        let produced = json(&home, &broker, &[&target[..], &load, more].concat()).await;
        check(&produced);
        let all = number(&produced, "acknowledged");
        assert!(all >= number(&produced, "records") + 3, "and a record in each partition before: {produced}");
        written += all;
    }

    let replayed = json(&home, &broker, &["bench", "replay", "--topic", "t", "--check-crc", "--json"]).await;
    check(&replayed);
    let records = number(&replayed, "records");
    assert_eq!(records, written);
    let by_partition = replayed["by_partition"].as_array().expect("a list");
    assert_eq!(by_partition.iter().map(|one| number(one, "records")).sum::<u64>(), records);
    assert!(by_partition.iter().all(|one| one["first_byte_ms"].as_f64() > Some(0.0)), "{replayed}");
    let table = run(&home, &broker, &["bench", "replay", "--topic", "t", "--connections", "1"], "").await;
    assert!(
        table.contains("FIRST-BYTE-MS") && table.contains(&by_partition[2]["records"].to_string()),
        "{table}"
    );

    // Small fetches of one partition, and two consumers of the same.
    let small = ["--fetch-bytes", "8192", "--partitions", "1", "--seconds", "1", "--warmup", "0", "--json"];
    let consume = ["bench", "consume", "--topic", "t", "--consumers", "2"];
    let consumed = json(&home, &broker, &[&consume[..], &small].concat()).await;
    check(&consumed);
    assert!(number(&consumed, "bytes") <= 8192 * number(&consumed, "requests"), "{consumed}");
    let most = 2 * number(&by_partition[0], "records");
    assert!(number(&consumed, "records") <= most, "{consumed}: more than there is");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_fixed_rate_every_request_that_was_due_counts() {
    let home = Home::new(&[]);
    let node = home.start().await;
    let broker = node.address().to_string();
    let load = ["--record-size", "100", "--batch-bytes", "1", "--rate", "500", "--seconds", "1", "--json"];
    let target = ["--topic", "t", "--create", "--partitions", "2", "--warmup", "0.2"];
    let produce = ["bench", "produce", "--connections", "2"];
    let produced = json(&home, &broker, &[&produce[..], &target, &load].concat()).await;
    check(&produced);
    assert_eq!(number(&produced, "latencies"), 500, "{produced}");
    assert_eq!(number(&produced, "batch_records"), 1, "{produced}");

    let consume = ["bench", "consume", "--end-to-end", "--consumers", "2"];
    let seen = json(&home, &broker, &[&consume[..], &target, &load].concat()).await;
    check(&seen);
    assert_eq!(number(&seen, "latencies"), 2 * 500 - number(&seen, "unsent"), "{seen}");
    assert!(seen["produce_p50_ms"].as_f64() > Some(0.0), "{seen}");
    node.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_ends_a_bench_and_is_told() {
    let home = Home::new(&[]);
    let node = home.start().await;
    let broker = node.address().to_string();
    let create = ["--create", "--config", "max.message.bytes=2000"];
    let cases: [(&[&str], &str); 4] = [
        (&["bench", "replay", "--topic", "none", "--json"], "does not exist"),
        (&["bench", "produce", "--topic", "t", "--json"], "does not exist"),
        // The first record is taken, a batch is not.
        (&[&["bench", "produce", "--topic", "t", "--json"], &create[..]].concat(), "MESSAGE_TOO_LARGE"),
        (&["bench", "consume", "--topic", "t", "--partitions", "2", "--json"], "fewer than the 2 asked for"),
    ];
    for (args, expected) in cases {
        let process = Process::run(&home, args, &[("AQUIFER_BOOTSTRAP", &broker)]);
        let ended = process.ended(expected).await;
        assert_eq!(ended.code, Some(1), "{args:?}: {ended:?}");
        assert!(ended.stderr.contains(expected), "{args:?}: {ended:?}");
        let told: Value = serde_json::from_str(&ended.stdout).expect("JSON");
        assert_eq!(number(&told, "errors"), 1);
        assert!(told["error"].as_str().expect("words").contains(expected), "{told}");
    }
    node.stop().await;
}
