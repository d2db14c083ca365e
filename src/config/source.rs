//! Where a value came from, and the layers that values lie in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A command's own default, such as the embedded bucket of `aquifer dev`.
    Command(&'static str),
    /// The configuration file, by its path.
    File(Arc<str>),
    /// An environment variable, by its name.
    Environment(Arc<str>),
    /// A flag of the command line, such as `--listen`.
    Flag(&'static str),
    /// `--set key=value`.
    Set,
    /// Set for all brokers at run time.
    DynamicCluster,
    /// Set for this broker at run time.
    DynamicBroker,
    /// Set for one topic at run time.
    Topic,
    /// Set for one group at run time.
    Group,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Default => f.write_str("default"),
            Source::Command(command) => write!(f, "default of {command}"),
            Source::File(path) => write!(f, "file {path}"),
            Source::Environment(variable) => write!(f, "environment {variable}"),
            Source::Flag(flag) => write!(f, "flag {flag}"),
            Source::Set => f.write_str("flag --set"),
            Source::DynamicCluster => f.write_str("dynamic, all brokers"),
            Source::DynamicBroker => f.write_str("dynamic, this broker"),
            Source::Topic => f.write_str("topic"),
            Source::Group => f.write_str("group"),
        }
    }
}

/// A value as it was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) text: String,
    pub(super) source: Source,
}

/// Values by key that share one precedence.
pub(super) type Layer = BTreeMap<String, Given>;

/// Strings by key: how what is set for topics, groups and brokers is stored and travel.
pub type Overrides = BTreeMap<String, String>;

/// A layer of values that all come from `source`.
pub(super) fn layer(values: &Overrides, source: &Source) -> Layer {
    let given = |text: &String| Given { text: text.clone(), source: source.clone() };
    values.iter().map(|(key, text)| (key.clone(), given(text))).collect()
}
