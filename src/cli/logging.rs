//! The process's own log lines: for people or as JSON, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{Logging, LoggingFormat};

/// Sends log lines to standard error from here on. Once a process; a second call changes nothing.
pub fn start(logging: &Logging) {
    // The configuration has checked it; a filter that it should not have let pass says nothing rather than too much.
    let filter = EnvFilter::builder().parse_lossy(&logging.level);
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match logging.format {
        LoggingFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LoggingFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    // Only a subscriber that is there already makes this fail, and it does as well.
    drop(started);
}

/// What commands say of themselves: what goes wrong.
pub fn for_commands() -> Logging {
    Logging { format: LoggingFormat::Human, level: "warn".to_owned() }
}
