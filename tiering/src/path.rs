//! The only builder and parser of object keys.
//!
//! ```text
//! cluster/<number>                                              whose bucket this is
//! topics/<topic id>/<incarnation>-<revision>                    a topic's name and configuration
//! partitions/<topic id>/<partition>/manifest/<version>          what exists of a partition
//! partitions/<topic id>/<partition>/pages/<base>-<incarnation>.<epoch>-<uuid>.page
//! partitions/<topic id>/<partition>/data/<base>-<incarnation>.<epoch>-<uuid>.seg
//! probe/<uuid>/<name>                                           what a certification or a look at the store's clock leaves
//! ```
//!
//! Numbers are zero-padded, so that a listing in order of names is one in order of numbers. Every data key ends in a fresh
//! uuid: a key is never written twice, so what a reader has cached of it is true for ever. Topic ids are random and lead, which
//! spreads topics over a store's prefixes; one topic's prefix gives thousands of requests a second, and at 8 MiB each that is
//! more than any reader here takes, so there is no hash in front and a listing stays legible.

use std::fmt;
use std::str::FromStr;

use aquifer_model::{LeaderEpoch, Offset, PartitionIndex, TopicId, TopicPartition};
use object_store::path::Path;
use uuid::Uuid;

/// The name of an object, below the store's root.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Path);

/// The part of a key up to a slash.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Prefix(Path);

/// Names a data object or a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DataName {
    /// First offset of what it holds.
    pub base: Offset,
    /// The writer's cluster incarnation.
    pub incarnation: u64,
    /// The writer's leader epoch.
    pub epoch: LeaderEpoch,
    /// Fresh for each attempt.
    pub unique: Uuid,
}

/// How names of data objects end.
pub const DATA_SUFFIX: &str = ".seg";
/// Longest key that is read back from stored bytes, in bytes; S3's limit.
const KEY_BYTES_MAX: usize = 1024;

impl Key {
    /// Takes a key that was stored in a manifest; `None` if no key of ours looks like it.
    pub fn parse(text: &str) -> Option<Key> {
        if text.is_empty() || text.len() > KEY_BYTES_MAX {
            return None;
        }
        let path = Path::parse(text).ok()?;
        (path.as_ref() == text).then_some(Key(path))
    }

    /// As the store wants it.
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn from_path(path: Path) -> Key {
        Key(path)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    /// What stands behind the last slash.
    pub fn name(&self) -> &str {
        self.0.filename().unwrap_or_default()
    }
}

impl Prefix {
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The text, without a slash at the end.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }

    fn key(&self, name: &str) -> Key {
        Key(self.0.clone().join(name))
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn prefix(text: String) -> Prefix {
    Prefix(Path::from(text))
}

/// Where the cluster's marker lies.
pub fn cluster() -> Prefix {
    prefix("cluster".to_owned())
}

/// One version of the cluster's marker.
pub fn cluster_version(number: u64) -> Key {
    cluster().key(&format!("{number:020}"))
}

/// Where all topics' records lie.
pub fn topics() -> Prefix {
    prefix("topics".to_owned())
}

/// Where one topic's records lie.
pub fn topic(topic: TopicId) -> Prefix {
    prefix(format!("topics/{topic}"))
}

/// One revision of a topic's record.
pub fn topic_revision(id: TopicId, incarnation: u64, revision: u64) -> Key {
    topic(id).key(&format!("{incarnation:020}-{revision:020}"))
}

/// Reads the name of a topic's record back: incarnation and revision.
pub fn parse_topic_revision(key: &Key) -> Option<(u64, u64)> {
    let (incarnation, revision) = key.name().split_once('-')?;
    Some((padded(incarnation)?, padded(revision)?))
}

/// Where all partitions lie, a folder for each topic.
pub fn partitions() -> Prefix {
    prefix("partitions".to_owned())
}

/// Where a topic's partitions lie.
pub fn topic_partitions(topic: TopicId) -> Prefix {
    prefix(format!("partitions/{topic}"))
}

/// Where all of a partition lies.
pub fn partition(id: TopicPartition) -> Prefix {
    prefix(format!("partitions/{}/{}", id.topic, id.partition))
}

/// Where a partition's manifest versions lie.
pub fn manifests(id: TopicPartition) -> Prefix {
    prefix(format!("{}/manifest", partition(id).as_str()))
}

/// One version of a partition's manifest.
pub fn manifest(id: TopicPartition, version: u64) -> Key {
    manifests(id).key(&format!("{version:020}"))
}

/// Reads a manifest's version back from its key.
pub fn parse_version(key: &Key) -> Option<u64> {
    padded(key.name())
}

/// Where a partition's pages lie.
pub fn pages(id: TopicPartition) -> Prefix {
    prefix(format!("{}/pages", partition(id).as_str()))
}

/// A page of older entries.
pub fn page(id: TopicPartition, name: &DataName) -> Key {
    pages(id).key(&format!("{}.page", name.text()))
}

/// Where a partition's data lies.
pub fn data(id: TopicPartition) -> Prefix {
    prefix(format!("{}/data", partition(id).as_str()))
}

/// A data object.
pub fn data_object(id: TopicPartition, name: &DataName) -> Key {
    data(id).key(&format!("{}{DATA_SUFFIX}", name.text()))
}

impl DataName {
    fn text(&self) -> String {
        let DataName { base, incarnation, epoch, unique } = self;
        format!("{:020}-{incarnation:010}.{:010}-{unique}", base.get(), epoch.get())
    }
}

/// Reads a data object's or a page's name back.
pub fn parse_data(key: &Key) -> Option<DataName> {
    let name = key.name();
    let name = name.strip_suffix(DATA_SUFFIX).or_else(|| name.strip_suffix(".page"))?;
    let (base, rest) = name.split_once('-')?;
    let (writer, unique) = rest.split_once('-')?;
    let (incarnation, epoch) = writer.split_once('.')?;
    Some(DataName {
        base: Offset::new(i64::from_str(base).ok()?)?,
        incarnation: u64::from_str(incarnation).ok()?,
        epoch: LeaderEpoch::new(i32::from_str(epoch).ok()?)?,
        unique: Uuid::parse_str(unique).ok()?,
    })
}

/// Where all probes' objects lie.
pub fn probes() -> Prefix {
    prefix("probe".to_owned())
}

/// Where one probe's objects lie.
pub fn probe(unique: Uuid) -> Prefix {
    prefix(format!("probe/{unique}"))
}

/// One object of a probe.
pub fn probe_object(unique: Uuid, name: &str) -> Key {
    probe(unique).key(name)
}

/// Reads the name of a folder below [`partitions`] or [`topics`].
pub fn parse_topic(name: &str) -> Option<TopicId> {
    TopicId::from_str(name).ok()
}

/// Reads the name of a folder below [`topic_partitions`].
pub fn parse_partition(topic: TopicId, name: &str) -> Option<TopicPartition> {
    let partition = PartitionIndex(i32::from_str(name).ok().filter(|number| *number >= 0)?);
    Some(TopicPartition { topic, partition })
}

fn padded(text: &str) -> Option<u64> {
    (text.len() == 20).then(|| u64::from_str(text).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id() -> TopicPartition {
        TopicPartition { topic: TopicId::new(Uuid::from_u128(7)), partition: PartitionIndex(3) }
    }

    #[test]
    fn names_are_read_back_and_the_layout_stays() {
        let name = DataName {
            base: Offset::new(1_234).unwrap(),
            incarnation: 1,
            epoch: LeaderEpoch::new(5).unwrap(),
            unique: Uuid::from_u128(9),
        };
        let key = data_object(id(), &name);
        assert_eq!(
            key.as_str(),
            "partitions/00000000-0000-0000-0000-000000000007/3/data/\
             00000000000000001234-0000000001.0000000005-00000000-0000-0000-0000-000000000009.seg"
        );
        assert_eq!(parse_data(&key), Some(name));
        assert_eq!(Key::parse(key.as_str()), Some(key));
        assert_eq!(parse_version(&manifest(id(), 42)), Some(42));
        assert_eq!(parse_topic_revision(&topic_revision(id().topic, 2, 7)), Some((2, 7)));
        assert_eq!(parse_partition(id().topic, "3"), Some(id()));
    }

    #[test]
    fn what_is_no_key_of_ours_is_refused() {
        for bad in ["", "/a", "a//b", "a/../b", "a/./b", &"x".repeat(1025)] {
            assert_eq!(Key::parse(bad), None, "{bad}");
        }
        for bad in ["x", "1-2-3.seg", "1-1.-5-00000000-0000-0000-0000-000000000009.seg"] {
            assert_eq!(parse_data(&data(id()).key(bad)), None, "{bad}");
        }
        assert_eq!(parse_version(&manifests(id()).key("42")), None);
        assert_eq!(parse_partition(id().topic, "-1"), None);
    }
}
