//! Events as JSON lines: one object a line, told apart by its field `event`.

use std::io::{self, BufRead, Write};

use crate::event::Event;

/// Why a history cannot be read. A history that cannot be read proves nothing.
#[derive(Debug, thiserror::Error)]
pub enum LineError {
    /// The reading failed.
    #[error("line {line}: {error}")]
    Io {
        /// From 1.
        line: u64,
        /// How.
        error: io::Error,
    },
    /// A line is no event.
    #[error("line {line} is no event: {error}")]
    NoEvent {
        /// From 1.
        line: u64,
        /// Why.
        error: serde_json::Error,
    },
}

/// Writes an event and the end of its line.
pub fn write(to: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *to, event)?;
    to.write_all(b"\n")
}

/// The events of a history, in order. A last line without an end counts: half of an event is none.
pub fn read(from: impl BufRead) -> impl Iterator<Item = Result<Event, LineError>> {
    from.lines().zip(1..).map(|(text, line)| {
        let text = text.map_err(|error| LineError::Io { line, error })?;
        serde_json::from_str(&text).map_err(|error| LineError::NoEvent { line, error })
    })
}
