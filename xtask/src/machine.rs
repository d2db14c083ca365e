//! Programs that the system must have: looked for by running them, installed with apt where we are root, listed where not.

use crate::run::{command, output, run};
use anyhow::{Result, bail};
use std::process::Command;

/// What proves that a program is there, what it is called in a message, and the Debian package that brings it.
const NEEDED: &[(&[&str], &str, &str)] = &[
    (&["git", "--version"], "git", "git"),
    (&["curl", "--version"], "curl", "curl"),
    (&["kcat", "-V"], "kcat", "kcat"),
    (&["make", "--version"], "make, for librdkafka", "make"),
    (&["c++", "--version"], "a C++ compiler, for librdkafka", "g++"),
    (&["go", "version"], "Go (any version: an old one fetches its successor)", "golang-go"),
    (&["javac", "-version"], "a JDK, 17 or newer", "default-jdk-headless"),
    (&["mvn", "--version"], "Maven", "maven"),
    (&["node", "--version"], "Node.js, 14 or newer", "nodejs"),
    (&["npm", "--version"], "npm", "npm"),
    (&["python3", "--version"], "Python, 3.11 or newer", "python3"),
    (&["mkfs.ext4", "-V"], "mkfs.ext4", "e2fsprogs"),
    (&["mkfs.xfs", "-V"], "mkfs.xfs", "xfsprogs"),
    (&["losetup", "-V"], "losetup", "mount"),
    (&["python3", "-c", "import venv, ensurepip"], "Python's venv", "python3-venv"),
];

/// Makes sure of all of them, or fails with the list of what to install.
pub(crate) fn prepare() -> Result<()> {
    for tool in ["fmt", "clippy"] {
        if !works(&["cargo", tool, "--version"]) {
            bail!("cargo {tool} is missing: run `rustup component add rustfmt clippy`");
        }
    }
    let missing = missing();
    if missing.is_empty() {
        return versions();
    }
    let packages: Vec<&str> = missing.iter().map(|(_, _, package)| *package).collect();
    let root = output(&mut command("id", ["-u"])).is_ok_and(|id| id.trim() == "0");
    if !root || !works(&["apt-get", "--version"]) {
        let names: Vec<&str> = missing.iter().map(|(_, name, _)| *name).collect();
        bail!(
            "the tests need what this machine lacks: {}\non Debian or Ubuntu: sudo apt-get install {}",
            names.join(", "),
            packages.join(" ")
        );
    }
    run(&mut command("apt-get", ["update", "-q"]))?;
    let mut install = command("apt-get", ["install", "-q", "-y", "--no-install-recommends"]);
    run(install.args(&packages).env("DEBIAN_FRONTEND", "noninteractive"))?;
    let missing = self::missing();
    if let Some((probe, name, package)) = missing.first() {
        bail!("{name} is missing still after installing {package}: `{}` fails", probe.join(" "));
    }
    versions()
}

/// Fails unless the program of this package is there.
pub(crate) fn require(package: &str) -> Result<()> {
    let Some((probe, name, _)) = NEEDED.iter().find(|(.., known)| *known == package) else {
        bail!("no program is known to come with {package}");
    };
    if works(probe) {
        return Ok(());
    }
    bail!("this needs {name}: install {package}, or run `cargo xtask test` once")
}

type Program = (&'static [&'static str], &'static str, &'static str);

fn missing() -> Vec<Program> {
    NEEDED.iter().filter(|(probe, ..)| !works(probe)).copied().collect()
}

fn works(probe: &[&str]) -> bool {
    Command::new(probe[0]).args(&probe[1..]).output().is_ok_and(|done| done.status.success())
}

/// Those that are not pinned by us are at least on record.
fn versions() -> Result<()> {
    let kcat = output(&mut command("kcat", ["-V"]))?;
    println!(
        "   kcat: {}",
        kcat.lines().find(|line| line.starts_with("Version")).unwrap_or("version unknown")
    );
    for (program, argument) in
        [("go", "version"), ("node", "--version"), ("python3", "--version"), ("javac", "-version")]
    {
        println!("   {program}: {}", output(&mut command(program, [argument]))?.trim());
    }
    Ok(())
}
