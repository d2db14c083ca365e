//! Names, and how many members said each.

use std::collections::BTreeMap;

use aquifer_protocol::Str;

/// The counts. What nobody says is not among them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts(BTreeMap<Str, usize>);

impl Counts {
    /// Counts a member that says it.
    pub(crate) fn add(&mut self, name: &Str) {
        match self.0.get_mut(name) {
            Some(count) => *count += 1,
            // It may outlive the member whose memory it is in.
            None => {
                self.0.insert(name.detached(), 1);
            }
        }
    }

    /// Counts it no more.
    pub(crate) fn remove(&mut self, name: &Str) {
        if let Some(count) = self.0.get_mut(name) {
            *count -= 1;
            if *count == 0 {
                self.0.remove(name);
            }
        }
    }

    /// How many say it.
    pub(crate) fn of(&self, name: &Str) -> usize {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// What somebody says.
    pub(crate) fn names(&self) -> impl Iterator<Item = &Str> {
        self.0.keys()
    }
}
