//! The rules of configuration, as tables of what goes in and what comes out; here is what the files share.

mod alterations;
mod descriptions;
mod groups;
mod problems;
mod sources;
mod tables;
mod topics;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use aquifer_model::{BrokerId, ByteCount};

use super::reader::Reader;
use super::*;

const STORE: &str = "tier.object.store=memory:///";

fn sets(sets: &[&str]) -> Sources {
    Sources { sets: sets.iter().map(|set| (*set).to_owned()).collect(), ..Sources::default() }
}

fn file(text: &str) -> Sources {
    Sources {
        file: Some(FileText { path: "a.toml".to_owned(), text: text.to_owned() }),
        ..Sources::default()
    }
}

fn load(given: &[&str]) -> Config {
    Config::load(sets(given)).unwrap()
}

fn overrides(pairs: &[(&str, &str)]) -> Overrides {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[track_caller]
fn refused(sources: Sources, expected: &str) {
    assert_eq!(Config::load(sources).unwrap_err().to_string(), expected);
}
