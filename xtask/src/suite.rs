//! The whole of `test`, `verify` and `fix`, and the client scenario alone.

use crate::clients::{self, Protocol};
use crate::flags::Flags;
use crate::mounted::Kind;
use crate::prove::away::{self, Absence};
use crate::prove::compaction::{self, Churn as Updates};
use crate::prove::groups::{self as crowds, Churn};
use crate::prove::hostile::{self, Siege};
use crate::prove::storefaults::{self, Strength};
use crate::prove::{Blows, corrupt, diskfault, kill9, planted, powercut, zombies};
use crate::run::{cargo, run};
use crate::s3::Kind as Server;
use crate::scenario::{self, Try};
use crate::stages::Stages;
use crate::{administration, built, groups, machine, mounted, simulation, tools};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Enough for dozens of segments in each partition; the full form is `cargo xtask clients --size-mb 300`.
const SIZE_MB: u64 = 40;
const STORES: &str = "file,localstack,minio";
/// Rounds of the short proofs; in full there are hundreds.
const KILLS: usize = 15;
const CUTS: usize = 8;
const STORE_FAULTS: u64 = 60;
const HARMED: usize = 40;
const HARM_SEED: u64 = 1;
const COMPACTING_CUTS: usize = 2;
const CHURN_SECONDS: u64 = 20;
const SIEGE_SECONDS: u64 = 25;
const PLANTED: &[&str] = &["ack-before-sync", "claim-unchecked"];
/// Where nothing can be mounted.
const PLANTED_UNMOUNTED: &[&str] = &["claim-unchecked"];

/// What CI runs.
pub(crate) fn test(flags: Flags) -> Result<()> {
    flags.end()?;
    let mut stages = Stages::default();
    let done = everything(&mut stages);
    stages.finish(done)
}

/// A stage that fails does not hide what the others would say; the first failure is the run's.
fn everything(stages: &mut Stages) -> Result<()> {
    stages.stage("programs of this machine", |_| machine::prepare())?;
    let checked = checks(stages);
    let tested = tests(stages);
    let tried = real_clients(stages, SIZE_MB, STORES, groups::PROTOCOLS, || built::broker("debug"));
    let operated = kafkas_tools(stages, || built::broker("debug"));
    let proved = proofs(stages);
    checked.and(tested).and(tried).and(operated).and(proved)
}

/// Short forms of what `cargo xtask prove` does in full, and two of the planted faults: one of the log's, one of the bucket's.
fn proofs(stages: &mut Stages) -> Result<()> {
    let binary = built::broker("debug")?;
    let killed = stages.stage("proof: kill -9", |stages| {
        kill9::run(&binary, "file", Blows::of(KILLS))?;
        stages.pass(&format!("nothing is lost, doubled or moved by {KILLS} kills"));
        Ok(())
    });
    let churned = stages.stage("proof: groups", |stages| {
        for protocol in ["classic", "consumer"] {
            crowds::run(&binary, &Churn::short(protocol, CHURN_SECONDS))?;
        }
        stages.pass("members come, leave and crash, and no partition has two owners");
        Ok(())
    });
    let returned = stages.stage("proof: a group that was away", |stages| {
        away::run(&binary, Absence::short(), &away::PROTOCOLS)?;
        stages
            .pass("a group that was away for months reads on from the bucket to the tail, every record once");
        Ok(())
    });
    let besieged = stages.stage("proof: hostile clients", |stages| {
        hostile::run(&binary, &Siege::short(SIEGE_SECONDS))?;
        stages.pass("a good client works on beside hostile ones");
        Ok(())
    });
    let harmed = stages.stage("proof: damaged files and objects", |stages| {
        corrupt::run(&binary, HARMED, HARM_SEED)?;
        stages.pass(&format!("each of {HARMED} and more damaged places is found, none served"));
        Ok(())
    });
    // A laptop without root has no file systems to break; it is told what it did not see.
    let mountable = mounted::check_machine(&[Kind::Ext4, Kind::Xfs]);
    let cuts = if mountable.is_ok() { COMPACTING_CUTS } else { 0 };
    let compacted = stages.stage("proof: compaction", |stages| {
        compaction::run(&binary, Updates::short(cuts))?;
        stages.pass("what was last said of each key outlives kills and power cuts of a broker that compacts");
        Ok(())
    });
    let (broken, planted) = match &mountable {
        Ok(()) => (broken_disks(stages, &binary), PLANTED),
        Err(missing) => {
            stages.impossible("proof: power cuts, failing and full disks", missing);
            (Ok(()), PLANTED_UNMOUNTED)
        }
    };
    let found = stages.stage("proof: planted faults", |stages| {
        planted::run(planted)?;
        stages.pass(&format!("{} found, and only where planted", planted.join(" and ")));
        Ok(())
    });
    let bucket = bad_buckets(stages, &binary);
    killed
        .and(churned)
        .and(returned)
        .and(besieged)
        .and(harmed)
        .and(compacted)
        .and(broken)
        .and(found)
        .and(bucket)
}

/// A bucket that fails, and processes that have lost it to others.
fn bad_buckets(stages: &mut Stages, binary: &Path) -> Result<()> {
    let failed = stages.stage("proof: store faults", |stages| {
        storefaults::run(binary, Strength::short(STORE_FAULTS))?;
        stages.pass(&format!("nor by {STORE_FAULTS} faults of a bucket"));
        Ok(())
    });
    let met = stages.stage("proof: zombies", |stages| {
        zombies::short(binary)?;
        stages.pass("and who has lost a claim writes nothing");
        Ok(())
    });
    failed.and(met)
}

/// What needs file systems of its own.
fn broken_disks(stages: &mut Stages, binary: &Path) -> Result<()> {
    let mut cut = Ok(());
    for kind in [Kind::Ext4, Kind::Xfs] {
        let one = stages.stage(&format!("proof: power cuts on {}", kind.name()), |stages| {
            powercut::run(binary, kind, Blows::of(CUTS))?;
            stages.pass(&format!("nor by {CUTS} power cuts on {}", kind.name()));
            Ok(())
        });
        cut = cut.and(one);
    }
    let failed = stages.stage("proof: failing and full disks", |stages| {
        diskfault::run(binary)?;
        stages.pass("nor by a disk whose syncs fail, or one that is full");
        Ok(())
    });
    cut.and(failed)
}

fn tests(stages: &mut Stages) -> Result<()> {
    stages.stage("install MinIO", |_| Server::MinIo.install())?;
    stages.stage("install LocalStack", |_| Server::LocalStack.install())?;
    stages.stage("unit and store tests", |stages| {
        let (minio, localstack) = (Server::MinIo.start()?, Server::LocalStack.start()?);
        let urls = format!("{} {}", minio.url("suite"), localstack.url("suite"));
        let mut test = cargo(["test", "--workspace", "--no-fail-fast"]);
        stages.cargo_test(test.env("AQUIFER_TEST_S3_URLS", urls).envs(crate::s3::KEYS))
    })?;
    stages.stage("simulation of a node", |_| simulation::short())
}

/// The quick part. Writes nothing but what cargo builds.
pub(crate) fn verify(flags: Flags) -> Result<()> {
    flags.end()?;
    let mut stages = Stages::default();
    let checked = checks(&mut stages);
    let tested = stages.stage("unit tests", |stages| {
        stages.cargo_test(&mut cargo(["test", "--workspace", "--lib", "--bins", "--no-fail-fast"]))
    });
    stages.finish(checked.and(tested))
}

fn checks(stages: &mut Stages) -> Result<()> {
    let formatted = stages.stage("format", |_| run(&mut cargo(["fmt", "--all", "--check", "--", "-l"])));
    let tidy = stages.stage("tidy", |stages| {
        stages.cargo_test(&mut cargo(["test", "--package", "xtask", "--test", "tidy"]))
    });
    let clippy = stages.stage("clippy", |_| {
        run(&mut cargo(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    formatted.and(tidy).and(clippy)
}

/// What a machine can do about what `verify` finds.
pub(crate) fn fix(flags: Flags) -> Result<()> {
    flags.end()?;
    run(&mut cargo(["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"]))?;
    run(&mut cargo(["fmt", "--all"]))
}

/// The client scenario alone, in whatever size.
pub(crate) fn clients(mut flags: Flags) -> Result<()> {
    let size_mb = flags.take("size-mb", SIZE_MB)?;
    let stores: String = flags.take("stores", STORES.to_owned())?;
    let profile: String = flags.take("broker", "debug".to_owned())?;
    let binary: PathBuf = flags.take("binary", PathBuf::new())?;
    let bootstrap: String = flags.take("bootstrap", String::new())?;
    let protocols = protocols(&flags.take("protocols", String::new())?)?;
    flags.end()?;
    let mut stages = Stages::default();
    let done =
        stages.stage("programs of this machine", |_| machine::prepare()).and_then(|()| {
            match bootstrap.as_str() {
                "" => real_clients(&mut stages, size_mb, &stores, &protocols, || {
                    built::or_given(&profile, binary)
                }),
                bootstrap => against(&mut stages, size_mb, bootstrap, &protocols),
            }
        });
    stages.finish(done)
}

/// Kafka's own tools alone.
pub(crate) fn tools(mut flags: Flags) -> Result<()> {
    let profile: String = flags.take("broker", "debug".to_owned())?;
    let binary: PathBuf = flags.take("binary", PathBuf::new())?;
    flags.end()?;
    let mut stages = Stages::default();
    let done = kafkas_tools(&mut stages, || built::or_given(&profile, binary));
    stages.finish(done)
}

fn kafkas_tools(stages: &mut Stages, binary: impl FnOnce() -> Result<PathBuf>) -> Result<()> {
    stages.stage("Kafka's own tools", |stages| tools::run_on(stages, &binary()?))
}

/// By their names, between commas; none: those that this broker serves.
fn protocols(names: &str) -> Result<Vec<Protocol>> {
    if names.is_empty() {
        return Ok(groups::PROTOCOLS.to_vec());
    }
    let known = |name| [Protocol::Classic, Protocol::Consumer].into_iter().find(|one| one.name() == name);
    names.split(',').map(|name| known(name).with_context(|| format!("no such protocol: '{name}'"))).collect()
}

fn against(stages: &mut Stages, size_mb: u64, bootstrap: &str, protocols: &[Protocol]) -> Result<()> {
    let clients = stages.stage("install clients", |_| clients::install())?;
    let text = stages.stage("gather text", |_| scenario::text(size_mb))?;
    stages.stage(&format!("real clients against {bootstrap}"), |stages| {
        scenario::run_against(stages, bootstrap, &clients, &text)?;
        administration::run_against(stages, bootstrap, &clients)?;
        groups::run_against(stages, bootstrap, &clients, protocols)
    })
}

fn real_clients(
    stages: &mut Stages,
    size_mb: u64,
    stores: &str,
    protocols: &[Protocol],
    binary: impl FnOnce() -> Result<PathBuf>,
) -> Result<()> {
    let clients = stages.stage("install clients", |_| clients::install())?;
    let binary = stages.stage("build the broker", |_| binary())?;
    let text = stages.stage("gather text", |_| scenario::text(size_mb))?;
    let mut done = Ok(());
    for store in stores.split(',') {
        let one = stages.stage(&format!("real clients on {store}"), |stages| {
            let (_server, url) = scenario::store(store, "clients")?;
            let clients = if store == "minio" { &clients[..] } else { &clients[..1] };
            scenario::run_on(stages, &binary, &Try { store, url, clients }, &text)
        });
        done = done.and(one);
    }
    let administered = stages.stage("admins of real clients", |stages| {
        let (_server, url) = scenario::store("file", "administration")?;
        administration::run_on(stages, &binary, &url, &clients)
    });
    let shared = stages.stage("groups of real clients", |stages| {
        let (_server, url) = scenario::store("file", "groups")?;
        groups::run_on(stages, &binary, &url, &clients, protocols)
    });
    done.and(administered).and(shared)
}
