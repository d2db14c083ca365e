//! Faults that are built in on purpose, to show that the proofs find them: each is a mistake that would lose, double or mix up
//! records. They exist only in a build with the feature `planted`, which nothing turns on but `cargo xtask prove planted`; in
//! every other build [`is`] is a constant, and what it guards is not compiled in.
//!
//! One fault a process, by its name in the environment variable `PLANTED_FAULT`; without it there is none.

/// A fault, in the order of the table that `cargo xtask prove planted` prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Planted {
    /// The high watermark follows the page cache, not the device.
    AckBeforeSync,
    /// A local segment goes before a manifest names its object.
    TrimBeforeManifest,
    /// Recovery cuts off all that lies behind the checkpoint.
    TailCutBelowSynced,
    /// A create of a manifest version that was not plainly answered is sent again without a condition, and believed.
    ManifestCreateRetried,
    /// A writer goes on over a version that carries another's claim.
    ClaimUnchecked,
    /// Retention removes objects first, and then writes the manifest that no longer names them.
    ObjectDeletedFirst,
    /// Cached chunks are found by partition number and offset, whatever topic they are of.
    CacheOfDeletedTopic,
    /// Recovery forgets what the checkpoint knew of producers.
    ProducerSnapshotDropped,
    /// A failed sync is tried again, and the second answer believed.
    FsyncRetried,
    /// Index entries are used whether or not their checksum holds and they lead to the offset.
    IndexTrusted,
    /// What the journal holds is not put where it belongs at a start.
    JournalNotReplayed,
}

/// Whether this process has the fault.
#[cfg(not(feature = "planted"))]
#[inline(always)]
pub const fn is(_: Planted) -> bool {
    false
}

/// Whether this process has the fault.
///
/// # Panics
/// If the environment names a fault that there is none of: a proof of nothing must not pass for one.
#[cfg(feature = "planted")]
pub fn is(fault: Planted) -> bool {
    *PLANTED == Some(fault)
}

#[cfg(feature = "planted")]
static PLANTED: std::sync::LazyLock<Option<Planted>> = std::sync::LazyLock::new(|| {
    let name = std::env::var("PLANTED_FAULT").ok()?;
    let fault = match name.as_str() {
        "ack-before-sync" => Planted::AckBeforeSync,
        "trim-before-manifest" => Planted::TrimBeforeManifest,
        "tail-cut-below-synced" => Planted::TailCutBelowSynced,
        "manifest-create-retried" => Planted::ManifestCreateRetried,
        "claim-unchecked" => Planted::ClaimUnchecked,
        "object-deleted-first" => Planted::ObjectDeletedFirst,
        "cache-of-deleted-topic" => Planted::CacheOfDeletedTopic,
        "producer-snapshot-dropped" => Planted::ProducerSnapshotDropped,
        "fsync-retried" => Planted::FsyncRetried,
        "index-trusted" => Planted::IndexTrusted,
        "journal-not-replayed" => Planted::JournalNotReplayed,
        other => panic!("no such planted fault: '{other}'"),
    };
    tracing::error!(?fault, "this program has a planted fault: it will lose or mix up records");
    Some(fault)
});
