//! Clients installed at their pins, and their rigs built: each once, into a folder of its own under the tools.

use super::{Client, Library};
use crate::pins::{Pins, installed};
use crate::places;
use crate::run::{cargo, command, run};
use anyhow::Result;
use std::path::PathBuf;
use std::sync::OnceLock;

/// What makes librdkafka's C build in a third of the time; a rig that runs for seconds needs no more.
const C_FLAGS: &str = "-O0 -g0";

/// All of them: kcat first, since the system brings it.
pub(crate) fn install() -> Result<Vec<Client>> {
    let pins = Pins::read()?;
    let go = go_programs()?;
    let mut clients = vec![
        Client::new(Library::Kcat, "kcat", Vec::<PathBuf>::new()),
        Client::new(Library::FranzGo, "franz-go", [go.join("clients")]),
        Client::new(Library::Sarama, "sarama", [go.join("sarama")]),
    ];
    for version in &pins.java_kafka_clients {
        clients.push(java(version, &pins)?);
    }
    clients.extend(python(&pins)?);
    clients.push(kafka_js(&pins)?);
    clients.push(rdkafka()?);
    Ok(clients)
}

fn sources(of: &str) -> PathBuf {
    places::root().join("tests/clients").join(of)
}

/// The program of franz-go, which also has the soaks and watches of proofs.
pub(crate) fn go_program() -> Result<PathBuf> {
    Ok(go_programs()?.join("clients"))
}

/// The folder of the Go programs, built once a run.
fn go_programs() -> Result<PathBuf> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if let Some(folder) = BUILT.get() {
        return Ok(folder.clone());
    }
    let folder = places::tools().join("clients-go");
    std::fs::create_dir_all(&folder)?;
    let mut go = command(places::root().join("xtask/go.sh"), ["build", "-mod=readonly", "-o"]);
    run(go.arg(&folder).args([".", "./sarama"]).current_dir(sources("go")))?;
    Ok(BUILT.get_or_init(|| folder).clone())
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
    let mut javac = command("javac", ["-d"]);
    javac.arg(jars.join("classes")).arg("-cp").arg(jars.join("*"));
    run(javac.args(["Client.java", "AdminRound.java"].map(|file| sources("java").join(file))))?;
    let class_path = format!("{}/classes:{}/*", jars.display(), jars.display());
    let rig = ["java", "-Xmx1g", "-cp", &class_path, "Client"];
    Ok(Client::new(Library::Java, &format!("java {version}"), rig))
}

/// They share one environment, and what each asks for is in the pins.
fn python(pins: &Pins) -> Result<Vec<Client>> {
    let folder = installed("clients-python", &pins.python_clients.join(" "), |folder| {
        let venv = folder.join("venv");
        run(command("python3", ["-m", "venv"]).arg(&venv))?;
        run(command(venv.join("bin/pip"), ["install", "--quiet"]).args(&pins.python_clients))
    })?;
    // -B: what it compiles would lie among the sources.
    let rig = |file| [folder.join("venv/bin/python"), "-B".into(), sources("python").join(file)];
    Ok(vec![
        Client::new(Library::KafkaPython, "kafka-python", rig("kafka_python.py")),
        Client::new(Library::Confluent, "confluent-kafka", rig("confluent.py")),
        Client::new(Library::Aiokafka, "aiokafka", rig("aio.py")),
    ])
}

fn kafka_js(pins: &Pins) -> Result<Client> {
    let folder = installed("clients-javascript", &pins.javascript_clients.join(" "), |folder| {
        // No lock file: it would record where each package came from. The pins are exact.
        let flags = ["install", "--no-package-lock", "--no-audit", "--no-fund", "--silent", "--prefix"];
        run(command("npm", flags).arg(folder).args(&pins.javascript_clients))
    })?;
    // The sources lie elsewhere, and node looks for a library beside and above them.
    let modules = format!("NODE_PATH={}", folder.join("node_modules").display());
    let rig = ["env".into(), modules.into(), "node".into(), sources("javascript").join("client.js")];
    Ok(Client::new(Library::KafkaJs, "kafkajs", rig))
}

fn rdkafka() -> Result<Client> {
    let folder = places::tools().join("clients-rust");
    let mut build = cargo(["build", "--quiet", "--locked", "--manifest-path"]);
    build.arg(sources("rust").join("Cargo.toml")).arg("--target-dir").arg(&folder);
    run(build.env("CFLAGS", C_FLAGS).env("CXXFLAGS", C_FLAGS))?;
    Ok(Client::new(Library::Rdkafka, "rdkafka", [folder.join("debug/clients-rust")]))
}
