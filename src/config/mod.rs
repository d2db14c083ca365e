//! Configuration: every key once.
//!
//! A key is declared where it is read: [`broker`] and [`topic`] are tables whose rows are at once documentation, bounds,
//! default and the field that is filled. From one pass over them come the typed configuration, the answers to DescribeConfigs,
//! `--print-config` and `docs/configuration.md`.
//!
//! Precedence, weakest first: default, a command's own default, file, environment, flags, `--set`, what was set for all
//! brokers at run time, for this broker at run time, for the topic or the group. Nothing that Kafka knows is accepted and
//! ignored: a key that is not honoured is refused with the reason.
//!
//! This knows texts and numbers. It opens no file and resolves no name, and does not know who reads what it says.

/// What is wrong with a configuration.
mod problem;
/// Where a value came from.
mod source;
/// What a key's values may be.
mod values;
/// All that is known of one setting.
mod key;
/// Numbers that the tables are written in.
mod units;
/// Reads declared keys from layers of given values.
mod reader;
/// Addresses that a broker listens on.
mod listener;
/// A topic's keys.
mod topic;
/// The keys of the bucket.
mod tier;
/// The keys of groups whose coordinator assigns.
mod consumer_groups;
/// The keys of consumer groups.
mod groups;
/// The keys of client quotas.
mod quotas;
/// A broker's keys.
mod broker;
/// Kafka's keys that are not honoured.
mod refused;
/// Keys that nothing has read.
mod unknown;
/// File, environment, flags.
mod input;
/// A configuration with its sources, and what follows from it for topics.
mod resolved;
/// What DescribeConfigs tells.
mod describe;
/// Changes at run time.
mod alter;
/// `--print-config`.
mod print;
/// The reference of all keys.
mod reference;
#[cfg(test)]
mod tests;

pub use alter::{Alteration, BrokerScope};
pub use broker::{
    BrokerConfig, Cleaner, Connections, Fetch, Log, Logging, LoggingFormat, Node, Raft, Topics,
};
pub use consumer_groups::{Assignor, Assignors, ConsumerGroups, GroupTime, Migration};
pub use describe::Described;
pub use groups::Groups;
pub use input::{CommandDefault, FileText, Flag, Sources};
pub use listener::{Endpoint, Listener};
pub use problem::{Problem, Problems};
pub use quotas::Quotas;
pub use reader::Setting;
pub use reference::reference;
pub use resolved::Config;
pub use source::{Overrides, Source};
pub use tier::{Tier, TierManifest, TierRead, TierStore, TierUpload};
pub use topic::{
    Compaction, Durability, RecordValidation, Records, Retention, Segments, TimestampType, TopicConfig,
};
pub use values::ValueType;
