//! A loopback of this process's own, for what is measured over it.
//!
//! Two reasons. Nothing else talks there; and the congestion control can be `cubic`, whatever the machine's default is: `bbr`
//! paces loopback, which costs half as much CPU again and a third of the throughput, on both sides of every comparison.

use crate::run::{command, output};
use anyhow::{Context, Result};
use std::os::unix::process::CommandExt;

/// Set in the process that already has one.
const INSIDE: &str = "XTASK_OWN_NETWORK";

/// `unshare` gives a loopback that is down; its routes say which congestion control connections over them use.
const ENTER: &str = "ip link set lo up \
    && ip route change local 127.0.0.0/8 dev lo src 127.0.0.1 table local congctl cubic \
    && ip route change local 127.0.0.1 dev lo src 127.0.0.1 table local congctl cubic \
    && exec \"$0\" \"$@\"";

/// Runs this very command again where loopback is its own, if this process may do that; else says so and goes on.
pub(crate) fn enter_own() -> Result<()> {
    if std::env::var_os(INSIDE).is_some() {
        return Ok(());
    }
    if output(&mut command("unshare", ["--net", "true"])).is_err() {
        println!("   no loopback of our own (not root?): figures depend on the machine's congestion control");
        return Ok(());
    }
    let this = std::env::current_exe().context("where is this program?")?;
    let mut again = command("unshare", ["--net", "sh", "-c", ENTER]);
    again.arg(this).args(std::env::args_os().skip(1)).env(INSIDE, "yes");
    Err(again.exec()).context("entering a network of our own")
}
