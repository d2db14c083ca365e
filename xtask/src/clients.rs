//! Real clients: installed at their pins, built, run. kcat directly, the others by the programs in `tests/clients/`, whose
//! README states what they share.

use crate::pins::{Pins, installed};
use crate::places;
use crate::run::{command, output, run, shown};
use crate::text::hex;
use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Longer than any read or write of these rigs may take.
const TIMEOUT_SECONDS: &str = "600";

/// One client library, ready to run.
#[derive(Debug, Clone)]
pub(crate) enum Client {
    Kcat,
    FranzGo { program: PathBuf },
    Java { version: String, jars: PathBuf },
    KafkaPython { python: PathBuf },
    KafkaJs { modules: PathBuf },
}

/// What passed of one partition, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) partition: usize,
    pub(crate) count: u64,
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) sha256: String,
}

/// All of them: kcat first, since the system brings it.
pub(crate) fn install() -> Result<Vec<Client>> {
    let pins = Pins::read()?;
    let mut clients = vec![Client::Kcat, franz_go()?];
    for version in &pins.java_kafka_clients {
        clients.push(java(version, &pins)?);
    }
    clients.push(kafka_python(&pins)?);
    clients.push(kafka_js(&pins)?);
    Ok(clients)
}

fn sources(of: &str) -> PathBuf {
    places::root().join("tests/clients").join(of)
}

fn franz_go() -> Result<Client> {
    Ok(Client::FranzGo { program: go_program()? })
}

/// The Go program, built once a run.
pub(crate) fn go_program() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(program) = BUILT.get() {
        return Ok(program.clone());
    }
    let program = places::tools().join("clients-go/clients");
    let mut go = command(places::root().join("xtask/go.sh"), ["build", "-mod=readonly", "-o"]);
    run(go.arg(&program).arg(".").current_dir(sources("go")))?;
    Ok(BUILT.get_or_init(|| program).clone())
}

fn java(version: &str, pins: &Pins) -> Result<Client> {
    let plugin = &pins.maven_dependency_plugin;
    let slf4j = &pins.java_slf4j_nop;
    let pin = format!("kafka-clients {version}, slf4j-nop {slf4j}, maven-dependency-plugin {plugin}");
    let jars = installed(&format!("clients-java-{version}"), &pin, |folder| {
        run(command("mvn", ["--quiet", "--batch-mode", "-f"]).arg(sources("java").join("pom.xml")).args([
            format!("-Dkafka.clients={version}"),
            format!("-Dslf4j.nop={slf4j}"),
            format!("-DoutputDirectory={}", folder.display()),
            format!("org.apache.maven.plugins:maven-dependency-plugin:{plugin}:copy-dependencies"),
        ]))
    })?;
    let client = Client::Java { version: version.to_owned(), jars };
    let mut javac = command("javac", ["-d"]);
    let Client::Java { jars, .. } = &client else { unreachable!("made above") };
    run(javac
        .arg(jars.join("classes"))
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(sources("java").join("Client.java")))?;
    Ok(client)
}

fn kafka_python(pins: &Pins) -> Result<Client> {
    let folder = installed("clients-python", &pins.python_clients.join(" "), |folder| {
        let venv = folder.join("venv");
        run(command("python3", ["-m", "venv"]).arg(&venv))?;
        run(command(venv.join("bin/pip"), ["install", "--quiet"]).args(&pins.python_clients))
    })?;
    Ok(Client::KafkaPython { python: folder.join("venv/bin/python") })
}

fn kafka_js(pins: &Pins) -> Result<Client> {
    let folder = installed("clients-javascript", &pins.javascript_clients.join(" "), |folder| {
        // No lock file: it would record where each package came from. The pins are exact.
        let flags = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent", "--prefix"];
        run(command("npm", flags).arg(folder).args(&pins.javascript_clients))
    })?;
    Ok(Client::KafkaJs { modules: folder.join("node_modules") })
}

impl Client {
    pub(crate) fn name(&self) -> String {
        match self {
            Client::Kcat => "kcat".to_owned(),
            Client::FranzGo { .. } => "franz-go".to_owned(),
            Client::Java { version, .. } => format!("java {version}"),
            Client::KafkaPython { .. } => "kafka-python".to_owned(),
            Client::KafkaJs { .. } => "kafkajs".to_owned(),
        }
    }

    /// Whether it can read partitions that are assigned by hand.
    pub(crate) fn reads(&self) -> bool {
        !matches!(self, Client::KafkaJs { .. })
    }

    /// Reads all of a topic, from the earliest offset to the end as of now.
    pub(crate) fn read(&self, bootstrap: &str, topic: &str, partitions: usize) -> Result<Vec<Passed>> {
        match self {
            Client::Kcat => kcat_read(bootstrap, topic, partitions),
            _ => {
                let mut rig = self.rig("read", bootstrap, topic)?;
                parse(&output(&mut rig)?)
            }
        }
        .with_context(|| format!("{} reading {topic}", self.name()))
    }

    /// Produces the lines of a file with `acks=all`, idempotently where it can. What went where, unless it is kcat.
    pub(crate) fn write(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        lines: &Path,
    ) -> Result<Vec<Passed>> {
        let mut writer = match self {
            Client::Kcat => {
                let mut kcat =
                    command("timeout", [TIMEOUT_SECONDS, "kcat", "-P", "-b", bootstrap, "-t", topic]);
                kcat.args([
                    "-K",
                    "\\t",
                    "-z",
                    codec,
                    "-X",
                    "enable.idempotence=true",
                    "-X",
                    "partitioner=consistent_random",
                ]);
                kcat
            }
            _ => {
                let mut rig = self.rig("write", bootstrap, topic)?;
                rig.args(["--compression", codec]);
                rig
            }
        };
        let input = File::open(lines).with_context(|| format!("opening {}", lines.display()))?;
        let done = writer.stdin(input).output().with_context(|| format!("starting {}", shown(&writer)))?;
        let said = String::from_utf8_lossy(&done.stderr);
        ensure!(done.status.success(), "{} writing {topic} ended with {}: {said}", self.name(), done.status);
        parse(&String::from_utf8_lossy(&done.stdout))
    }

    /// A member of a group, until its stdin closes.
    pub(crate) fn group_rig(&self, bootstrap: &str, topic: &str, group: &str) -> Result<Command> {
        let mut rig = self.rig("group", bootstrap, topic)?;
        rig.args(["--group", group]);
        Ok(rig)
    }

    /// A member of a group whose coordinator assigns, if the client can be one.
    pub(crate) fn consumer_group_rig(
        &self,
        bootstrap: &str,
        topic: &str,
        group: &str,
    ) -> Result<Option<Command>> {
        match self {
            // Before 4.0 it was a preview.
            Client::Java { version, .. } if !version.starts_with("3.") => {
                let mut rig = self.group_rig(bootstrap, topic, group)?;
                rig.args(["--protocol", "consumer"]);
                Ok(Some(rig))
            }
            _ => Ok(None),
        }
    }

    /// Reads what a group has not read yet, as its one member, and commits that; kcat's way.
    pub(crate) fn read_as_group(&self, bootstrap: &str, topic: &str, group: &str) -> Result<Vec<Passed>> {
        ensure!(matches!(self, Client::Kcat), "{} has a rig for that", self.name());
        let mut kcat = command("timeout", [TIMEOUT_SECONDS, "kcat", "-b", bootstrap]);
        kcat.args(["-X", "auto.offset.reset=earliest", "-e", "-q", "-f", "%p\\t%o\\t%k\\t%s\\n"]);
        kcat.args(["-G", group, topic]);
        kcat_records(&output(&mut kcat)?)
    }

    fn rig(&self, what: &str, bootstrap: &str, topic: &str) -> Result<Command> {
        let mut rig = match self {
            Client::Kcat => bail!("kcat has no rig"),
            Client::FranzGo { program } => command(program, [what]),
            Client::Java { jars, .. } => {
                let mut java = command("java", ["-Xmx1g", "-cp"]);
                java.arg(format!("{}/classes:{}/*", jars.display(), jars.display())).args(["Client", what]);
                java
            }
            Client::KafkaPython { python } => {
                let mut rig = command(python, [sources("python").join("client.py")]);
                rig.arg(what);
                rig
            }
            Client::KafkaJs { modules } => {
                ensure!(what != "read", "kafkajs cannot assign partitions by hand");
                let mut node = command("node", [sources("javascript").join(format!("{what}.js"))]);
                node.env("NODE_PATH", modules);
                node
            }
        };
        rig.args(["--bootstrap", bootstrap, "--topic", topic, "--timeout", &format!("{TIMEOUT_SECONDS}s")]);
        Ok(rig)
    }
}

/// One partition after the other, each up to its end as it was at first: while someone produces, kcat alone would find no end.
fn kcat_read(bootstrap: &str, topic: &str, partitions: usize) -> Result<Vec<Passed>> {
    let bound = |partition, which| kcat_offset(bootstrap, topic, partition, which);
    let bounds: Vec<(i64, i64)> = (0..partitions)
        .map(|partition| Ok((bound(partition, "-2")?, bound(partition, "-1")?)))
        .collect::<Result<_>>()?;
    let read = |(partition, (start, end))| kcat_read_partition(bootstrap, topic, partition, end - start);
    bounds.into_iter().enumerate().map(read).collect()
}

/// What ListOffsets says to a special timestamp: -2 is the start, -1 the end.
pub(crate) fn kcat_offset(bootstrap: &str, topic: &str, partition: usize, which: &str) -> Result<i64> {
    let asked = format!("{topic}:{partition}:{which}");
    let said = output(&mut command("kcat", ["-Q", "-b", bootstrap, "-t", &asked]))?;
    let offset = said.trim().rsplit(' ').next().unwrap_or_default();
    offset.parse().with_context(|| format!("kcat's answer '{said}'"))
}

/// kcat prints each record with its offset; hashing and the look at the offsets are ours. It stops after so many records, or at
/// the end of the partition if offsets have gaps.
fn kcat_read_partition(bootstrap: &str, topic: &str, partition: usize, records: i64) -> Result<Passed> {
    let mut passed = Passed { partition, count: 0, first: -1, last: -1, sha256: hex(&Sha256::digest(b"")) };
    if records == 0 {
        return Ok(passed);
    }
    let mut lines = Sha256::new();
    let number = partition.to_string();
    let mut kcat =
        command("timeout", [TIMEOUT_SECONDS, "kcat", "-C", "-b", bootstrap, "-t", topic, "-p", &number]);
    kcat.args(["-o", "beginning", "-e", "-c", &records.to_string(), "-q", "-X", "check.crcs=true"]);
    kcat.args(["-f", "%o\\t%k\\t%s\\n"]);
    let mut child = kcat.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("starting kcat")?;
    let mut said = BufReader::with_capacity(1 << 20, child.stdout.take().expect("asked for above"));
    let mut line = Vec::new();
    while said.read_until(b'\n', &mut line)? > 0 {
        let tab = line.iter().position(|byte| *byte == b'\t').context("a line of kcat has no offset")?;
        let offset: i64 = std::str::from_utf8(&line[..tab])?.parse().context("kcat's offset")?;
        ensure!(offset > passed.last, "partition {partition}: offset {offset} came after {}", passed.last);
        passed.first = if passed.count == 0 { offset } else { passed.first };
        passed.last = offset;
        passed.count += 1;
        lines.update(&line[tab + 1..]);
        line.clear();
    }
    let status = child.wait()?;
    ensure!(status.success(), "kcat ended with {status} on partition {partition}");
    passed.sha256 = hex(&lines.finalize());
    Ok(passed)
}

/// Lines of partition, offset, key and value, of all partitions mixed.
fn kcat_records(said: &str) -> Result<Vec<Passed>> {
    let mut found: BTreeMap<usize, (Passed, Sha256)> = BTreeMap::new();
    for line in said.split_terminator('\n') {
        let mut words = line.splitn(3, '\t');
        let partition: usize = words.next().unwrap_or_default().parse().context("kcat's partition")?;
        let offset: i64 =
            words.next().context("a line of kcat has no offset")?.parse().context("kcat's offset")?;
        let (passed, lines) = found.entry(partition).or_insert_with(|| {
            let nothing = Passed { partition, count: 0, first: offset, last: -1, sha256: String::new() };
            (nothing, Sha256::new())
        });
        ensure!(offset > passed.last, "partition {partition}: offset {offset} came after {}", passed.last);
        passed.last = offset;
        passed.count += 1;
        lines.update(words.next().unwrap_or_default());
        lines.update("\n");
    }
    let done = |(passed, lines): (Passed, Sha256)| Passed { sha256: hex(&lines.finalize()), ..passed };
    Ok(found.into_values().map(done).collect())
}

/// Lines such as `partition=0 count=12 first=0 last=11 sha256=…`.
pub(crate) fn parse(said: &str) -> Result<Vec<Passed>> {
    let field = |line: &str, name: &str| -> Result<String> {
        let mut fields = line.split_whitespace().filter_map(|field| field.split_once('='));
        let found =
            fields.find(|(found, _)| *found == name).with_context(|| format!("no {name} in '{line}'"))?;
        Ok(found.1.to_owned())
    };
    said.lines()
        .map(|line| {
            Ok(Passed {
                partition: field(line, "partition")?.parse()?,
                count: field(line, "count")?.parse()?,
                first: field(line, "first")?.parse()?,
                last: field(line, "last")?.parse()?,
                sha256: field(line, "sha256")?,
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_rig_prints_is_read_and_anything_else_refused() {
        let passed = parse("partition=3 count=2 first=7 last=8 sha256=ab\n").expect("a line");
        assert_eq!(passed, [Passed { partition: 3, count: 2, first: 7, last: 8, sha256: "ab".to_owned() }]);
        assert!(parse("partition=3 count=2 first=7 last=8\n").is_err());
        assert!(parse("warning: something\n").is_err());
    }
}
