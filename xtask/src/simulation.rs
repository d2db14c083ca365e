//! The simulation of one node: seeds, zombies, crash points. Each in short form with the tests, and in full as a proof.

use crate::flags::Flags;
use crate::run::{cargo, run};
use anyhow::Result;

/// With the tests, dependencies are those that the other tests were built with.
const BUILD: [&str; 6] = ["test", "--workspace", "--features", "aquifer/sim", "--test", "sim"];

/// The short form of all.
pub(crate) fn short() -> Result<()> {
    simulate("dev", &["--seeds", "30"])?;
    simulate("dev", &["--zombies", "--seeds", "10"])?;
    simulate("dev", &["--crashpoints", "40"])
}

/// Any seeds under any faults: `--seeds N --from S`, or one told in full: `--seed S`.
pub(crate) fn seeds(mut flags: Flags) -> Result<()> {
    one_or_many(&mut flags, "10000", &[])?;
    flags.end()
}

/// The node and a twin that was started on a copy of its data.
pub(crate) fn zombies(mut flags: Flags) -> Result<()> {
    one_or_many(&mut flags, "1000", &["--zombies"])?;
    flags.end()
}

fn one_or_many(flags: &mut Flags, usual: &str, kind: &[&str]) -> Result<()> {
    let seed: String = flags.take("seed", String::new())?;
    let seeds: String = flags.take("seeds", usual.to_owned())?;
    let from: String = flags.take("from", "1".to_owned())?;
    match seed.as_str() {
        "" => simulate("sim", &[kind, &["--seeds", &seeds, "--from", &from]].concat()),
        seed => simulate("sim", &[kind, &["--seed", seed]].concat()),
    }
}

/// A crash at each operation of a short workload, or at every so-manieth.
pub(crate) fn crashpoints(mut flags: Flags) -> Result<()> {
    let every: String = flags.take("every", "1".to_owned())?;
    flags.end()?;
    simulate("sim", &["--crashpoints", &every])
}

/// The tier against a simulated bucket, until so many requests went wrong. Not a node, and no network: writers and readers alone.
pub(crate) fn store_faults(mut flags: Flags) -> Result<()> {
    let faults: u64 = flags.take("faults", 100_000)?;
    let seed: u64 = flags.take("seed", 1)?;
    flags.end()?;
    let mut test = cargo(["test", "--workspace", "--profile", "sim", "--test", "storefaults"]);
    test.args(["--", "--nocapture"]);
    run(test.env("AQUIFER_STORE_FAULTS", faults.to_string()).env("AQUIFER_STORE_SEED", seed.to_string()))
}

fn simulate(profile: &str, words: &[&str]) -> Result<()> {
    run(cargo(BUILD).args(["--profile", profile, "--"]).args(words))
}
