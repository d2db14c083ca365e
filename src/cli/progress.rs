//! How far a long command has come: bars on a terminal, a line a step elsewhere.

use std::io::IsTerminal as _;
use std::time::Duration;

use aquifer_model::ByteCount;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// How often a bar is drawn anew.
const TICK: Duration = Duration::from_millis(100);
const BAR: &str = "{msg:<12} {bar:32} {bytes:>11} of {total_bytes:<11} {bytes_per_sec}";
const SPINNER: &str = "{msg:<12} {spinner} {elapsed}";

/// One step of a command, on standard error.
#[derive(Debug)]
pub struct Step {
    name: &'static str,
    /// `None` where nobody watches.
    bar: Option<ProgressBar>,
}

impl Step {
    /// Begins a step of so many bytes; without a number, one that takes its time.
    pub fn begin(name: &'static str, total: Option<ByteCount>) -> Step {
        if !std::io::stderr().is_terminal() {
            return Step { name, bar: None };
        }
        let (bar, template) = match total {
            Some(total) => (ProgressBar::new(total.get()), BAR),
            None => (ProgressBar::new_spinner(), SPINNER),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar.set_style(ProgressStyle::with_template(template).expect("the template is a constant"));
        bar.set_message(name);
        bar.enable_steady_tick(TICK);
        Step { name, bar: Some(bar) }
    }

    /// Says how much is done of it.
    pub fn set(&self, done: ByteCount) {
        if let Some(bar) = &self.bar {
            bar.set_position(done.get());
        }
    }

    /// Ends the step with what came of it.
    pub fn end(self, outcome: impl std::fmt::Display) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
        eprintln!("{:<12} {outcome}", self.name);
    }
}
