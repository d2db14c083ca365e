//! The program as people type it: a node for development, and the commands that talk to it.

use crate::node::Home;
use crate::process::{Ended, Process};

/// Runs a command that must succeed; gives what it printed.
async fn run(home: &Home, broker: &str, args: &[&str], input: &str) -> String {
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
