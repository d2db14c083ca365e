//! What clients saw, judged as it grows and hashed: two runs of one seed must see the same.

use std::cell::RefCell;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::rc::Rc;

use aquifer_checker::{Checker, Event, Report};

/// A history. Cheap to clone; clones are the same history.
#[derive(Clone, Default)]
pub(crate) struct History(Rc<RefCell<Told>>);

#[derive(Default)]
struct Told {
    checker: Checker,
    /// Its keys are fixed, unlike those of a map.
    hasher: DefaultHasher,
    broken: Vec<String>,
    is_shown: bool,
}

impl History {
    /// `is_shown`: every event is also printed.
    pub(crate) fn new(is_shown: bool) -> History {
        let history = History::default();
        history.0.borrow_mut().is_shown = is_shown;
        history
    }

    /// Takes note of an event.
    pub(crate) fn tell(&self, event: &Event) {
        let mut told = self.0.borrow_mut();
        let line = serde_json::to_string(event).expect("an event has a JSON form");
        let at = turmoil::sim_elapsed().unwrap_or_else(crate::machine::elapsed);
        (at, &line).hash(&mut told.hasher);
        if told.is_shown {
            println!("{:>10.4} {line}", at.as_secs_f64());
        }
        told.checker.observe(event);
    }

    /// Takes note of something done to the broker.
    pub(crate) fn fault(&self, what: &str) {
        self.tell(&Event::Fault { what: what.to_owned() });
    }

    /// Takes note of something that must not be and that no client sees.
    pub(crate) fn broken(&self, what: String) {
        let mut told = self.0.borrow_mut();
        what.hash(&mut told.hasher);
        if told.is_shown {
            println!("broken: {what}");
        }
        told.broken.push(what);
    }

    /// Adds something else to the hash.
    pub(crate) fn mix(&self, what: impl std::hash::Hash) {
        what.hash(&mut self.0.borrow_mut().hasher);
    }

    /// The verdict: the checker's report, what else was broken, the hash.
    pub(crate) fn finish(&self) -> (Report, Vec<String>, u64) {
        let told = std::mem::take(&mut *self.0.borrow_mut());
        (told.checker.finish(), told.broken, told.hasher.finish())
    }
}
