//! What is wrong with a configuration: all of it at once.
//!
//! An operator who fixes one line, restarts and meets the next complaint loses minutes that an outage does not have, so
//! nothing here stops at the first problem.

use std::fmt;

use super::source::Source;

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key as it was given; empty where the problem has none (a file that is no TOML).
    pub key: String,
    /// The value as it was given; `None` where the key itself is the problem.
    pub value: Option<String>,
    /// Where it was given.
    pub source: Source,
    /// What is allowed, or what to do: follows a colon, starts in lower case.
    pub why: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            return write!(f, "{}: {}", self.source, self.why);
        }
        match &self.value {
            Some(value) => write!(f, "{} = {value:?} ({}): {}", self.key, self.source, self.why),
            None => write!(f, "{} ({}): {}", self.key, self.source, self.why),
        }
    }
}

/// All that is wrong; at least one problem. Shown as one line if there is one, else as a heading and a line for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(Vec<Problem>);

impl Problems {
    /// `value`, unless there are problems.
    pub(super) fn or<T>(problems: Vec<Problem>, value: T) -> Result<T, Problems> {
        if problems.is_empty() { Ok(value) } else { Err(Problems(problems)) }
    }

    /// Each of them, in the order of the keys' sections.
    pub fn iter(&self) -> impl Iterator<Item = &Problem> {
        self.0.iter()
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [only] = self.0.as_slice() {
            return only.fmt(f);
        }
        write!(f, "{} problems in the configuration:", self.0.len())?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

impl std::error::Error for Problems {}
