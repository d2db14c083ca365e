//! What was typed or configured wrongly, and what stands in a broker's way: the message, and the exit code. 2 is for what the
//! one who typed it can mend by typing something else, 1 for what is wrong with the world.

use std::net::SocketAddr;
use std::time::Duration;

use aquifer_runtime::World;
use aquifer_runtime::sockets;

use crate::client::{Client, in_time};
use crate::node::Home;
use crate::process::{BrokerProcess, Process, broker_args};

/// Runs the program, which must end with this code and say all of these words. Nothing may go to standard output, where
/// scripts look for data.
async fn check(home: &Home, args: &[&str], environment: &[(&str, &str)], code: i32, words: &[&str]) {
    let ended = Process::run(home, args, environment).ended(&format!("{args:?}")).await;
    assert_eq!(ended.code, Some(code), "{args:?}: {}", ended.stderr);
    for word in words {
        assert!(
            ended.stderr.contains(word),
            "{args:?} {environment:?}: {word:?} is not in: {}",
            ended.stderr
        );
    }
    assert!(!ended.stderr.contains("panicked"), "{args:?}: {}", ended.stderr);
    assert_eq!(ended.stdout, "", "{args:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_configured_wrongly_is_said_and_ends_with_2() {
    let home = Home::new(&[]);
    for (set, words) in [
        ("log.segment.byte=1", &["log.segment.byte", "--set", "did you mean log.segment.bytes?"][..]),
        ("retention.ms=1", &["retention.ms", "log.retention.ms"]),
        (
            "log.segment.bytes=many",
            &["log.segment.bytes", "\"many\"", "a whole number, 1048576 to 2147483647"],
        ),
        ("log.segment.bytes=1", &["log.segment.bytes", "1048576"]),
        ("auto.create.topics.enable=maybe", &["auto.create.topics.enable", "\"maybe\""]),
        ("nonsense", &["nonsense", "key=value"]),
        ("log.cleanup.policy=shrink", &["log.cleanup.policy", "is no cleanup policy"]),
        ("ssl.keystore.location=/k", &["ssl.keystore.location", "TLS"]),
        ("listeners=SSL://127.0.0.1:0", &["listeners", "SSL"]),
        ("listeners=127.0.0.1:0", &["listeners"]),
        ("log.dirs=/a,/b", &["log.dirs", "not supported yet"]),
        (
            "tier.object.store=http://bucket",
            &["tier.object.store", "http", "s3://", "file:///", "memory:///"],
        ),
        ("tier.object.store=bucket", &["tier.object.store", "is no URL"]),
        ("tier.object.store=file://bucket/dir", &["tier.object.store", "file:///bucket/dir"]),
        ("tier.object.store=s3://", &["tier.object.store", "names no bucket"]),
        ("tier.roll.ms=1", &["tier.roll.ms"]),
        ("logging.level=loud", &["logging.level"]),
    ] {
        check(&home, &broker_args(&home, &["--set", set]), &[], 2, words).await;
    }
    let variable = [("AQUIFER_LOG_SEGMENT_BYTE", "1")];
    check(&home, &broker_args(&home, &[]), &variable, 2, &["AQUIFER_LOG_SEGMENT_BYTES"]).await;
    check(&home, &["dev", "--set", "num.partition=1"], &[], 2, &["num.partitions"]).await;
    check(&home, &["dev", "--listen", "nowhere"], &[], 2, &["nowhere"]).await;
    check(&home, &["broke"], &[], 2, &["broker"]).await;
    assert!(!home.data().exists(), "nothing is touched before the configuration is right");
}

/// Two mistakes are told together, so that mending them takes one round.
#[tokio::test(flavor = "multi_thread")]
async fn all_that_is_wrong_is_said_at_once() {
    let home = Home::new(&["log.segment.byte=1", "num.partitions=none"]);
    check(&home, &broker_args(&home, &[]), &[], 2, &["log.segment.bytes", "num.partitions"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_in_a_url_are_refused_and_not_repeated() {
    let home = Home::new(&[]);
    let args = broker_args(&home, &["--set", "tier.object.store=s3://key:hush@bucket/"]);
    let ended = Process::run(&home, &args, &[]).ended("a URL with credentials").await;
    assert_eq!(ended.code, Some(2), "{}", ended.stderr);
    assert!(ended.stderr.contains("must not hold credentials"), "{}", ended.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_files_are_named_with_what_is_wrong_in_them() {
    let home = Home::new(&[]);
    let file = home.path().join("aquifer.toml");
    let name = file.to_str().expect("a path of text").to_owned();
    let args = ["broker", "--config", &name];
    for (text, words) in [
        (None, &["cannot read", "No such file"][..]),
        (Some("log.segment.byte = 1\n"), &["log.segment.byte", "did you mean log.segment.bytes?"]),
        (Some("[log]\nsegment.bytes = \"many\"\n"), &["log.segment.bytes", "many"]),
        (Some("num.partitions = 1\nlog.segment.bytes = \n"), &["line 2"]),
        (Some("num.partitions = 1\nnum.partitions = 2\n"), &["line 2"]),
    ] {
        if let Some(text) = text {
            World::system().disk.write_atomic(&file, text.as_bytes()).expect("a file is written");
        }
        check(&home, &args, &[], 2, &[&[name.as_str()], words].concat()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ports_in_use_are_said_and_end_with_1() {
    let home = Home::new(&[]);
    let taken = sockets::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let port = taken.local_addr().expect("an address").port();
    let listeners = format!("listeners=PLAINTEXT://127.0.0.1:{port}");
    let admin = format!("admin.listen=127.0.0.1:{port}");
    let words = [&format!("127.0.0.1:{port}"), "another process has the port"];
    for set in [&listeners, &admin] {
        check(&home, &broker_args(&home, &["--set", set]), &[], 1, &words).await;
    }
    assert!(!home.data().exists(), "nothing is touched before the ports are had");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_directory_belongs_to_one_process() {
    let home = Home::new(&[]);
    let first = BrokerProcess::start(&home).await;
    let data = home.data().display().to_string();
    check(&home, &broker_args(&home, &[]), &[], 1, &[&data, "another process"]).await;
    let mut client: Client = first.client().await;
    client.create("the-first-goes-on", 1, &[]).await;
    // Even a first that did not end in order leaves no lock behind.
    first.kill();
    let again = BrokerProcess::start(&home).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_should_be_a_directory_and_is_none() {
    let home = Home::new(&[]);
    let file = home.path().join("file");
    World::system().disk.write_atomic(&file, b"no directory").expect("a file is written");
    let file = file.to_str().expect("a path of text");
    let data = format!("log.dirs={file}");
    let words = [file, "is a file and not a directory", "log.dirs"];
    check(&home, &broker_args(&home, &["--set", &data]), &[], 1, &words).await;
    let data = format!("log.dirs={file}/data");
    check(&home, &broker_args(&home, &["--set", &data]), &[], 1, &words).await;
    let bucket = format!("tier.object.store=file://{file}");
    check(
        &home,
        &broker_args(&home, &["--set", &bucket]),
        &[],
        1,
        &[&format!("object store folder {file}"), "ot a directory"],
    )
    .await;
}

/// Whoever goes back to an older program is told which file is too new for it, and nothing is changed.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_newer_program_wrote_is_refused_by_name() {
    let home = Home::tiered(&[]);
    let broker = BrokerProcess::start(&home).await;
    broker.process.signal("TERM");
    assert_eq!(broker.process.ended("a first start").await.code, Some(0));
    let disk = World::system().disk;
    let marker = file_with(&home.bucket(), b"AQCM");
    for file in [home.data().join("format"), home.data().join("metadata/node"), marker] {
        let bytes = disk.read(&file).expect("a file of the first start");
        let newer = aquifer_model::fuzzing::of_next_version(&bytes);
        disk.write_atomic(&file, &newer).expect("a file is written");
        let name = file.file_name().and_then(|name| name.to_str()).expect("a name of text");
        let words = [name, "has version 2, this program knows up to 1", "use a newer aquifer"];
        check(&home, &broker_args(&home, &[]), &[], 1, &words).await;
        assert_eq!(disk.read(&file).expect("it is still there"), newer, "nothing was written");
        disk.write_atomic(&file, &bytes).expect("a file is written");
    }
    drop(BrokerProcess::start(&home).await);
}

/// The file under `folder` that begins with these bytes.
fn file_with(folder: &std::path::Path, magic: &[u8]) -> std::path::PathBuf {
    let disk = World::system().disk;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in disk.list(&folder).expect("a folder") {
            let path = folder.join(&entry.name);
            if entry.is_dir {
                folders.push(path);
            } else if disk.read(&path).expect("a file").starts_with(magic) {
                return path;
            }
        }
    }
    panic!("nothing in {} begins with {magic:?}", folder.display())
}

/// A folder that is not there is rather a mistyped one, or a disk that was not mounted. One inside of the data directory is made
/// with it, as is whatever one who only tries things out asks for.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_a_missing_folder_is_not_made_up() {
    let mut home = Home::new(&[]);
    let missing = home.path().join("mistyped");
    let url = format!("file://{}", missing.display());
    let set = format!("tier.object.store={url}");
    let words =
        [missing.to_str().expect("a path of text"), "does not exist", "create it, or correct the URL"];
    check(&home, &broker_args(&home, &["--set", &set]), &[], 1, &words).await;
    let listed = ["tier", "ls", "--object-store", &url];
    check(&home, &listed, &[], 1, &words).await;
    assert!(!missing.exists());
    let data = home.data().display().to_string();
    let dev = ["dev", "--listen", "127.0.0.1:0", "--admin", "", "--data-dir", &data, "--object-store", &url];
    let mut process = Process::run(&home, &dev, &[]);
    process.says("ready").await;
    assert!(missing.exists(), "to try things out");
    process.signal("TERM");
    assert_eq!(process.ended("dev").await.code, Some(0));
    // The embedded bucket of another data directory.
    let other = home.path().join("other");
    home.set(&[
        &format!("log.dirs={}", other.display()),
        &format!("tier.object.store=file://{}", other.join("bucket").display()),
    ]);
    let broker = BrokerProcess::start(&home).await;
    assert!(other.join("bucket").exists());
    drop(broker);
}

/// What lies in the bucket would be taken for gone: by retention, by whoever reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_has_records_in_a_bucket_does_not_start_without_it() {
    let home = Home::tiered(&[]);
    let broker = BrokerProcess::start(&home).await;
    broker.process.signal("TERM");
    assert_eq!(broker.process.ended("a first start").await.code, Some(0));
    let data = format!("log.dirs={}", home.data().display());
    let bucket = home.bucket().display().to_string();
    let without = Home::new(&[&data]);
    let words = ["tier.object.store is not set", &bucket, "store-adopted"];
    check(&without, &broker_args(&without, &[]), &[], 1, &words).await;
    let empty = tempfile::tempdir().expect("a temporary folder");
    let other = format!("tier.object.store=file://{}", empty.path().display());
    let words = ["there is no cluster marker in this bucket"];
    check(&home, &broker_args(&home, &["--set", &other]), &[], 1, &words).await;
    assert!(home.data().join("clean").exists(), "a start that was refused is no crash");
    drop(BrokerProcess::start(&home).await);
}

/// Nothing was promised to anybody yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_waits_can_be_ended() {
    let home = Home::new(&[]);
    // It takes connections, and says nothing.
    let silent = sockets::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = silent.local_addr().expect("an address");
    let url = format!("tier.object.store=s3://bucket/prefix?region=us-east-1&endpoint=http://{address}");
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    let starting = Process::run(&home, &broker_args(&home, &["--set", &url]), &keys);
    let asked = in_time("the broker asks for the bucket", silent.accept()).await;
    starting.signal("TERM");
    let ended = starting.ended("a start that waits").await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(ended.stderr.contains("the start is given up"), "{}", ended.stderr);
    drop(asked);
}

/// A bucket that was never seen to work and cannot be reached: the start fails, and soon.
#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_cannot_be_reached_fails_a_first_start() {
    let home = Home::new(&[]);
    let nobody = sockets::listen(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let address = nobody.local_addr().expect("an address");
    drop(nobody);
    let url = format!("tier.object.store=s3://bucket/prefix?region=us-east-1&endpoint=http://{address}");
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "hush")];
    check(
        &home,
        &broker_args(&home, &["--set", &url]),
        &keys,
        1,
        &[&format!("http://{address}"), "no answer"],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_without_a_broker_say_where_they_looked() {
    let home = Home::new(&[]);
    let clock = World::system().clock;
    for args in [
        &["topic", "list"][..],
        &["topic", "create", "t"],
        &["topic", "describe", "t"],
        &["consume", "t"],
        &["produce", "t"],
    ] {
        let began = clock.now();
        let args = [args, &["--bootstrap", "127.0.0.1:1"]].concat();
        check(&home, &args, &[], 1, &["127.0.0.1:1"]).await;
        assert!(
            began.elapsed() < Duration::from_secs(20),
            "{args:?}: whoever mistyped an address waits for ever"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn signals_stop_a_broker_in_order() {
    for signal in ["TERM", "INT"] {
        let home = Home::new(&[]);
        let broker = BrokerProcess::start(&home).await;
        let mut client = broker.client().await;
        client.create("t", 1, &[]).await;
        broker.process.signal(signal);
        client.expect_closed(signal).await;
        let ended = broker.process.ended(signal).await;
        assert_eq!(ended.code, Some(0), "{signal}: {}", ended.stderr);
        assert!(ended.stderr.contains("stopped in order"), "{signal}: {}", ended.stderr);
    }
}
