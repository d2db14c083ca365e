//! Sealed segments in object storage: what makes the history endless.
//!
//! A sealed segment becomes one immutable object; a manifest per partition names what exists; a reader brings it back by the
//! same offsets. This crate knows no Kafka request, no replica and no Raft: it is handed files and epochs, and gives back
//! proofs of what is stored and slices of what was asked for.
//!
//! Modules in layer order: a module imports only from those declared above it.

/// Every bound and interval, as the `tier.*` keys set them.
pub mod options;
/// The only builder and parser of object keys.
pub mod path;
/// A bucket, or a folder that stands in for one: retries, deadlines, meanings of errors.
pub mod store;
/// Who this process is to the bucket, and the marker of the cluster that owns it.
pub mod cluster;
/// The record of a topic: name, configuration, life.
pub mod topic;
/// The bytes of a sealed segment's object.
pub mod object;
/// What exists of a partition: entries, pages, claims, versions.
pub mod manifest;
/// A sealed segment's way into the bucket.
pub mod upload;
/// What is known to be damaged.
pub mod damage;
/// A range's way back: locate, fetch, read ahead.
pub mod read;
/// Is what a manifest names in the bucket as it was uploaded?
pub mod examine;
/// What goes: retention, removed objects, orphans.
pub mod gc;
/// The façade: partitions, their claims and their readers.
pub mod tier;
/// A bucket looked at without a broker: list, verify, replay.
pub mod inspect;
/// A faulty store, and the suite that every store must pass.
#[cfg(feature = "testing")]
pub mod testing;
/// What fuzz targets do with the bytes that come from a bucket.
#[cfg(feature = "fuzzing")]
pub mod fuzzing;

pub use cluster::{Identity, Incarnation};
pub use manifest::{Claim, Manifest, ManifestVersion, TieredUpTo};
pub use options::Options;
pub use store::{Store, StoreOptions};
pub use tier::{Metrics, Setup, Tier};
