//! Commands that are run to their end, shown as they are run.

use crate::places;
use anyhow::{Context, Result, ensure};
use std::ffi::OsStr;
use std::process::{Command, Stdio};

/// `program` with `arguments`, to be refined.
pub(crate) fn command<S: AsRef<OsStr>>(
    program: impl AsRef<OsStr>,
    arguments: impl IntoIterator<Item = S>,
) -> Command {
    let mut command = Command::new(program);
    command.args(arguments);
    command
}

/// What `cargo run` tells this program about itself. A build script that asks for one of these is run again when it changes, and what
/// depends on it is built again: five minutes, in turn by `cargo build` and by what is built from here.
const ABOUT_US: [&str; 2] = ["CARGO_PKG_", "CARGO_MANIFEST_"];

/// The cargo that runs this, in the repository.
pub(crate) fn cargo<S: AsRef<OsStr>>(words: impl IntoIterator<Item = S>) -> Command {
    let mut cargo = command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()), words);
    cargo.current_dir(places::root());
    for (name, _) in std::env::vars_os() {
        if ABOUT_US.iter().any(|ours| name.as_encoded_bytes().starts_with(ours.as_bytes())) {
            cargo.env_remove(name);
        }
    }
    cargo
}

/// Runs it with its output on ours; fails unless it ends with 0.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    println!("   $ {}", shown(command));
    let status =
        command.stdin(Stdio::null()).status().with_context(|| format!("starting {}", shown(command)))?;
    ensure!(status.success(), "{} ended with {status}", shown(command));
    Ok(())
}

/// Runs it with its output caught: returned if it ends with 0, part of the error if not.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let done =
        command.stdin(Stdio::null()).output().with_context(|| format!("starting {}", shown(command)))?;
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    ensure!(
        done.status.success(),
        "{} ended with {}: {}{said}",
        shown(command),
        done.status,
        String::from_utf8_lossy(&done.stderr)
    );
    Ok(said)
}

/// The command as one would type it, as far as that helps to read it.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or_default().to_owned();
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}
