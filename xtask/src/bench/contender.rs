//! The two that are measured: Aquifer, and real Apache Kafka from its own jars, each as one node on one core.
//!
//! Both get what is fair to them. Kafka has its stock flags but for the heap, which is fixed, and for what a JVM takes from the number
//! of cores, which it would otherwise guess differently inside of a core's bounds. What is synced, and when, is the lane's, the same
//! for both: figures of one lane are never set beside those of the other.

use crate::process;
use crate::run::{command, output, run};
use crate::server::{Server, free_port};
use crate::{http, places, tools};
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Kafka opens thousands of logs before it listens.
const READY_DEADLINE: Duration = Duration::from_secs(300);
/// Kafka closes each log by itself, and syncs it.
const END_DEADLINE: Duration = Duration::from_secs(300);
/// What a JVM says of its end that was asked to end (SIGTERM).
const JVM_TERMINATED: i32 = 143;
const DELETE_DEADLINE: Duration = Duration::from_secs(60);
/// What may be left of other topics than the one that was deleted: brokers have some of their own.
const DELETED_BYTES_MAX: u64 = 1 << 20;
/// The core that brokers run on.
pub(crate) const BROKER_CORE: &str = "0";
/// The core that the load runs on, and all else.
pub(crate) const LOAD_CORE: &str = "1";
/// What does neither for the moment may have both.
pub(crate) const BOTH_CORES: &str = "0,1";
pub(crate) const HEAP: &str = "2g";
/// Any, as long as it is always the same: Kafka's own form of it.
const CLUSTER_ID: &str = "MkU3OEVBNTcwNTJENDM2Qg";
/// Twice what a case holds open.
const CONNECTIONS_MAX: &str = "20000";
/// How often both look for what may leave the local disk, and how long what was deleted stays; their defaults are minutes.
const LOOK_EVERY_MS: &str = "500";

/// Who.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Who {
    Aquifer,
    Kafka,
}

impl Who {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Aquifer => "aquifer",
            Who::Kafka => "kafka",
        }
    }
}

/// When records are synced, and whether they leave the local disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lane {
    /// By the kernel, at its leisure: Kafka's default.
    NoSync,
    /// Before they are acknowledged.
    SyncBeforeAck,
    /// By the kernel; closed segments go to a folder that serves as a bucket, Kafka's by its own `LocalTieredStorage`.
    Tiered,
}

impl Lane {
    pub(crate) const ALL: [Lane; 3] = [Lane::NoSync, Lane::SyncBeforeAck, Lane::Tiered];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Lane::NoSync => "no sync",
            Lane::SyncBeforeAck => "sync before ack",
            Lane::Tiered => "no sync, tiered to a local folder",
        }
    }
}

/// Where both come from.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    pub(crate) aquifer: PathBuf,
    /// Kafka's jars.
    kafka: PathBuf,
    /// Those of its `LocalTieredStorage`.
    kafka_tiered: PathBuf,
    /// The threads that Kafka has for network and for requests.
    kafka_threads: (usize, usize),
}

/// One that runs.
#[derive(Debug)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    pub(crate) bootstrap: String,
    admin: String,
    /// When the process was started.
    began: Instant,
    start: Command,
    server: Server,
    log: PathBuf,
    aquifer: PathBuf,
    data: PathBuf,
}

impl Contender {
    /// Starts one with an empty data folder.
    pub(crate) fn start(who: Who, lane: Lane, programs: &Programs) -> Result<Contender> {
        let data = places::emptied(data(who)?)?;
        let log = places::log(&format!("bench-{}", who.name()))?;
        let port = free_port()?;
        let bootstrap = format!("127.0.0.1:{port}");
        let admin = format!("127.0.0.1:{}", free_port()?);
        let mut start = match who {
            Who::Aquifer => aquifer(programs, lane, &data, &bootstrap, &admin),
            Who::Kafka => kafka(programs, lane, &data, port)?,
        };
        let began = Instant::now();
        let server = Server::start(who.name(), &mut start, &log)?;
        let aquifer = programs.aquifer.clone();
        let mut contender = Contender { who, bootstrap, admin, began, start, server, log, aquifer, data };
        contender.wait_until_ready()?;
        Ok(contender)
    }

    /// Ends it in good order.
    pub(crate) fn stop(&mut self) -> Result<()> {
        let status = self.server.end_within(END_DEADLINE)?;
        let is_in_order = match self.who {
            Who::Aquifer => status.success(),
            Who::Kafka => status.code() == Some(JVM_TERMINATED),
        };
        ensure!(is_in_order, "{} ended with {status}", self.who.name());
        Ok(())
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) -> Result<()> {
        self.server.kill()
    }

    /// Starts it on what it has left, and waits for nothing.
    pub(crate) fn start_again(&mut self) -> Result<()> {
        self.began = Instant::now();
        self.server = Server::start(self.who.name(), &mut self.start, &self.log)?;
        Ok(())
    }

    /// Fails if it has ended by itself.
    pub(crate) fn is_running(&mut self) -> Result<()> {
        self.server.is_running()
    }

    fn wait_until_ready(&mut self) -> Result<()> {
        let Contender { who, admin, bootstrap, .. } = self;
        self.server.wait_for("ready", READY_DEADLINE, || {
            let is_ready = match who {
                Who::Aquifer => http::get(admin, "/ready").is_ok_and(|answer| answer.status == 200),
                Who::Kafka => TcpStream::connect(&*bootstrap).is_ok(),
            };
            Ok(is_ready.then_some(()))
        })
    }

    /// How long ago the process was started.
    pub(crate) fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> Result<SocketAddr> {
        self.bootstrap.parse().with_context(|| format!("{} is no address", self.bootstrap))
    }

    /// Makes a topic, and tells how long after the start that was. Kafka's listener is open before its controller takes requests, so
    /// this may be tried again for a while.
    pub(crate) fn create_topic(&self, topic: &str, partitions: usize, settings: &[&str]) -> Result<Duration> {
        let until = Instant::now() + READY_DEADLINE;
        loop {
            let mut create = self.ask(["topic", "create", topic, "--partitions"]);
            create.arg(partitions.to_string());
            create.args(settings.iter().flat_map(|setting| ["--config", setting]));
            match output(&mut create) {
                Ok(_) => return Ok(self.age()),
                // An attempt before had its effect, and no answer.
                Err(error) if format!("{error:#}").contains("TOPIC_ALREADY_EXISTS") => return Ok(self.age()),
                Err(error) if Instant::now() > until => return Err(error),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// Deletes a topic, and waits until its segments are gone from the local disk.
    pub(crate) fn delete_topic(&self, topic: &str) -> Result<()> {
        output(&mut self.ask(["topic", "delete", topic]))?;
        let until = Instant::now() + DELETE_DEADLINE;
        while self.segment_bytes()? > DELETED_BYTES_MAX {
            ensure!(Instant::now() < until, "{topic} is still on the disk of {}", self.who.name());
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(())
    }

    /// Aquifer's command line, on the load's core, asking this one.
    pub(crate) fn ask<const N: usize>(&self, words: [&str; N]) -> Command {
        let mut ask = command("taskset", ["-c", LOAD_CORE]);
        ask.arg(&self.aquifer).args(words).env("AQUIFER_BOOTSTRAP", &self.bootstrap);
        ask
    }

    pub(crate) fn cpu(&self) -> Result<Duration> {
        process::cpu(self.server.id())
    }

    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        process::resident_bytes(self.server.id())
    }

    /// The bytes of all segments on its local disk; those in the folder that serves as a bucket are not.
    pub(crate) fn segment_bytes(&self) -> Result<u64> {
        bytes(&segments(&self.data.join(LOGS))?)
    }

    /// The bytes of all that is in the folder that serves as a bucket.
    pub(crate) fn bucket_bytes(&self) -> Result<u64> {
        bytes(&files(&self.data.join(BUCKET))?)
    }

    /// Has the page cache forget its segments on the local disk.
    pub(crate) fn forget_pages(&self) -> Result<()> {
        for path in segments(&self.data.join(LOGS))? {
            let file = File::open(&path).with_context(|| format!("opening {}", path.display()))?;
            // What is not written yet cannot be forgotten.
            file.sync_all()?;
            rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed)?;
        }
        Ok(())
    }

    /// Ends it at once, and takes its data away.
    pub(crate) fn end(mut self) -> Result<()> {
        self.server.kill()?;
        places::removed(&self.data)
    }
}

/// Where one has its data.
pub(crate) fn data(who: Who) -> Result<PathBuf> {
    Ok(places::data()?.join(format!("bench-{}", who.name())))
}

/// In a contender's data folder.
const LOGS: &str = "logs";
const BUCKET: &str = "bucket";

/// Both name them alike.
fn segments(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = files(folder)?;
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    Ok(files)
}

/// All files below a folder, which need not be there.
fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = match std::fs::read_dir(&folder) {
            // It has gone meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries.with_context(|| format!("listing {}", folder.display()))?,
        };
        for entry in entries {
            let entry = entry?;
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            if is_folder { &mut folders } else { &mut found }.push(entry.path());
        }
    }
    Ok(found)
}

/// Of those that are there still.
fn bytes(files: &[PathBuf]) -> Result<u64> {
    Ok(files.iter().filter_map(|file| std::fs::metadata(file).ok()).map(|metadata| metadata.len()).sum())
}

fn aquifer(programs: &Programs, lane: Lane, data: &Path, bootstrap: &str, admin: &str) -> Command {
    let mut start = command("taskset", ["-c", BROKER_CORE]);
    start.arg(&programs.aquifer).args(["dev", "--listen", bootstrap, "--admin", admin, "--data-dir"]);
    start.arg(data.join(LOGS));
    start.arg("--object-store").arg(format!("file://{}", data.join(BUCKET).display()));
    let durability = match lane {
        Lane::NoSync | Lane::Tiered => "replicated",
        Lane::SyncBeforeAck => "fsync",
    };
    let mut settings = vec![
        ("log.durability", durability),
        ("max.connections", CONNECTIONS_MAX),
        ("max.connections.per.ip", CONNECTIONS_MAX),
        ("log.segment.delete.delay.ms", LOOK_EVERY_MS),
    ];
    if lane == Lane::Tiered {
        settings.push(("log.retention.check.interval.ms", LOOK_EVERY_MS));
    }
    for (key, value) in settings {
        start.arg("--set").arg(format!("{key}={value}"));
    }
    start
}

fn kafka(programs: &Programs, lane: Lane, data: &Path, port: u16) -> Result<Command> {
    let (network, io) = programs.kafka_threads;
    let io = match lane {
        // They wait for the disk.
        Lane::SyncBeforeAck => 2 * io,
        Lane::NoSync | Lane::Tiered => io,
    };
    let controller = free_port()?;
    let mut text = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
         listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
         controller.listener.names=CONTROLLER\ninter.broker.listener.name=PLAINTEXT\n\
         listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n\
         offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
         transaction.state.log.min.isr=1\nshare.coordinator.state.topic.replication.factor=1\n\
         share.coordinator.state.topic.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n\
         log.segment.delete.delay.ms={LOOK_EVERY_MS}\n\
         num.network.threads={network}\nnum.io.threads={io}\nlog.dirs={}\n",
        data.join(LOGS).display()
    );
    match lane {
        Lane::NoSync => {}
        Lane::SyncBeforeAck => text.push_str("log.flush.interval.messages=1\n"),
        Lane::Tiered => text.push_str(&kafka_tiered(programs, data)),
    }
    let config = data.join("server.properties");
    std::fs::write(&config, text).with_context(|| format!("writing {}", config.display()))?;
    let jars = programs.kafka.join("*");
    let mut format = command("java", ["-Xmx256m", "-cp"]);
    format.arg(&jars).args([
        "kafka.tools.StorageTool",
        "format",
        "--ignore-formatted",
        "-t",
        CLUSTER_ID,
        "-c",
    ]);
    output(format.arg(&config))?;
    let mut start = command("taskset", ["-c", BROKER_CORE, "java", "-server"]);
    start.args([&format!("-Xms{HEAP}"), &format!("-Xmx{HEAP}")]);
    // As bin/kafka-run-class.sh has them.
    start.args(["-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35"]);
    start.args([
        "-XX:+ExplicitGCInvokesConcurrent",
        "-Djava.awt.headless=true",
        "-XX:ActiveProcessorCount=1",
    ]);
    start.arg("-cp").arg(jars).arg("kafka.Kafka").arg(config);
    Ok(start)
}

/// As its quick start for tiered storage has it, but for how often it looks.
fn kafka_tiered(programs: &Programs, data: &Path) -> String {
    let (jars, bucket) = (programs.kafka_tiered.join("*"), data.join(BUCKET));
    format!(
        "remote.log.storage.system.enable=true\n\
         remote.log.storage.manager.class.name=org.apache.kafka.server.log.remote.storage.LocalTieredStorage\n\
         remote.log.storage.manager.class.path={}\nremote.log.storage.manager.impl.prefix=rsm.config.\n\
         rsm.config.dir={}\nremote.log.metadata.manager.listener.name=PLAINTEXT\n\
         rlmm.config.remote.log.metadata.topic.replication.factor=1\n\
         rlmm.config.remote.log.metadata.topic.num.partitions=1\n\
         remote.log.manager.task.interval.ms={LOOK_EVERY_MS}\nlog.retention.check.interval.ms={LOOK_EVERY_MS}\n\
         log.initial.task.delay.ms={LOOK_EVERY_MS}\n",
        jars.display(),
        bucket.display()
    )
}

/// Installs what is measured against, and builds what is measured.
pub(crate) fn programs(aquifer: PathBuf, kafka_threads: (usize, usize)) -> Result<Programs> {
    let (kafka, kafka_tiered) = (tools::install()?, tools::install_tiered()?);
    run(&mut command("java", ["-version"]))?;
    ensure!(aquifer.is_file(), "{} is not there", aquifer.display());
    Ok(Programs { aquifer, kafka, kafka_tiered, kafka_threads })
}

/// Whether `aquifer bench` knows these words: of an unknown one it complains before it complains that no topic was named.
pub(crate) fn understands(aquifer: &Path, words: &str) -> Result<()> {
    let mut bench = command(aquifer, ["bench"]);
    let said =
        bench.args(words.split(' ')).output().with_context(|| format!("running {}", aquifer.display()))?;
    let said = String::from_utf8_lossy(&said.stderr);
    ensure!(said.contains("not provided") && said.contains("--topic"), "aquifer bench {words}: {said}");
    Ok(())
}
