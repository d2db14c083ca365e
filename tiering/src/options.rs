//! Every bound and interval, as the `tier.*` keys set them.
//!
//! One struct, so that a reader finds each limit with its reason in one place. The configuration above fills it; tests and
//! tools take [`Options::default`].

use std::time::Duration;

use aquifer_model::ByteCount;

/// The tier's settings. Each field's doc starts with its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// `tier.upload.multipart.threshold.bytes`: a segment whose object is larger goes up in parts. Below it one request does, and its
    /// bytes are held in memory until it ends.
    pub upload_multipart_threshold: ByteCount,
    /// `tier.upload.part.bytes`: the size of a part; S3 wants at least 5 MiB and at most 10,000 parts. Each is billed as a PUT.
    pub upload_part_bytes: ByteCount,
    /// `tier.upload.parts.in.flight`: parts of one segment on their way at once.
    pub upload_parts_in_flight: usize,
    /// `tier.upload.memory.bytes`: bytes of all uploads that may be held at once; further uploads wait.
    pub upload_memory: ByteCount,
    /// `tier.index.interval.bytes`: an index entry in the object for about each so many bytes of log. Coarser than the local
    /// one: a reader has the whole chunk at hand and scans the rest.
    pub index_interval: ByteCount,

    /// `tier.manifest.entries.max`: entries in a manifest's head; above it the oldest move to a page.
    pub manifest_entries_max: usize,
    /// `tier.manifest.page.entries`: entries in a page; below `manifest_entries_max`.
    pub manifest_page_entries: usize,
    /// `tier.manifest.age.max.ms`: how old a reader's manifest may be before a newer one is sent for, where this process is not
    /// its writer. Must stay below `delete_grace`. Zero: readers wait for the newest each time.
    pub manifest_age_max: Duration,
    /// `tier.manifest.commit.deadline.ms`: how long a commit is settled and retried before it is given back as failed.
    pub commit_deadline: Duration,

    /// `tier.read.chunk.bytes`: what one GET brings once a reader is sequential; a multiple of 1 MiB.
    pub chunk_bytes: ByteCount,
    /// `tier.read.first.bytes`: what the first GET of a reader brings, so that it is answered early; divides `chunk_bytes`.
    pub chunk_bytes_first: ByteCount,
    /// `tier.cache.bytes`: chunks kept in memory.
    pub cache_bytes: ByteCount,
    /// `tier.index.cache.bytes`: footers and indexes kept in memory.
    pub index_cache_bytes: ByteCount,
    /// `tier.read.loading.bytes`: chunks being loaded, or no longer cached but still on their way to a client.
    pub loading_bytes: ByteCount,
    /// `tier.read.ahead.bytes.max`: how far one sequential reader is read ahead of.
    pub ahead_bytes_max: ByteCount,
    /// `tier.read.ahead.horizon.ms`: how far in time; a reader that takes its time has no more loaded ahead of it than it takes in
    /// so long, but for two chunks.
    pub ahead_horizon: Duration,
    /// `tier.read.ahead.total.bytes`: the same over all readers, who share it evenly; at most two thirds of the cache, lest
    /// read-ahead evicts what it has just brought.
    pub ahead_bytes_total: ByteCount,
    /// `tier.read.ahead.requests.max`: requests for read-ahead in flight at once, over all readers. What a reader waits for is
    /// not held up by it.
    pub ahead_requests_max: usize,
    /// `tier.read.ahead.segments.max`: segments that one reader is read ahead into, however small they are.
    pub ahead_segments_max: usize,
    /// `tier.read.streams.max`: sequential readers remembered; beyond it the longest idle is forgotten.
    pub streams_max: usize,
    /// `tier.read.deadline.ms`: how long a store that fails is retried behind empty answers before a reader is told.
    pub read_deadline: Duration,

    /// `tier.delete.grace.ms`: how long an object outlives its name in the manifest, by the store's clock.
    pub delete_grace: Duration,
    /// `tier.late.write.max.ms`: how long after it was sent a write may still reach the bucket.
    pub late_write_max: Duration,
    /// `tier.expire.segments.max`: segments that one manifest version drops at most.
    pub expire_segments_max: usize,
}

/// Settings that cannot work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} is {value}: {why}")]
pub struct OptionsError {
    /// The key to change.
    pub key: &'static str,
    /// Its value.
    pub value: String,
    /// What it should be.
    pub why: &'static str,
}

impl Options {
    /// Checks what a single setting's bounds cannot say.
    pub fn check(&self) -> Result<(), OptionsError> {
        let rule = |holds: bool, key, value: &dyn std::fmt::Debug, why| {
            if holds { Ok(()) } else { Err(OptionsError { key, value: format!("{value:?}"), why }) }
        };
        let part = self.upload_part_bytes;
        rule(part >= ByteCount::mib(5), "tier.upload.part.bytes", &part, "S3 takes no parts below 5 MiB")?;
        let held = ByteCount((self.upload_parts_in_flight as u64 + 2) * part.get())
            .max(self.upload_multipart_threshold);
        let memory = self.upload_memory;
        rule(
            memory >= held,
            "tier.upload.memory.bytes",
            &memory,
            "one upload must fit: all its parts in flight, and two",
        )?;
        let page = self.manifest_page_entries;
        let fits = 0 < page && page < self.manifest_entries_max;
        rule(fits, "tier.manifest.page.entries", &page, "it must be below tier.manifest.entries.max")?;
        let grace = self.delete_grace;
        let outlives = grace > self.manifest_age_max;
        rule(
            outlives,
            "tier.delete.grace.ms",
            &grace,
            "it must exceed tier.manifest.age.max.ms, or readers lose objects",
        )?;
        let ahead = self.ahead_bytes_total;
        let stays = ahead.get() <= self.cache_bytes.get() / 3 * 2;
        rule(
            stays,
            "tier.read.ahead.total.bytes",
            &ahead,
            "it must be at most two thirds of tier.cache.bytes",
        )?;
        let loading = self.loading_bytes;
        rule(loading >= self.chunk_bytes, "tier.read.loading.bytes", &loading, "a chunk must fit")
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            upload_multipart_threshold: ByteCount::mib(64),
            upload_part_bytes: ByteCount::mib(32),
            upload_parts_in_flight: 3,
            upload_memory: ByteCount::mib(256),
            index_interval: ByteCount::kib(32),
            manifest_entries_max: 384,
            manifest_page_entries: 256,
            manifest_age_max: Duration::from_secs(10),
            commit_deadline: Duration::from_secs(60),
            chunk_bytes: ByteCount::mib(8),
            chunk_bytes_first: ByteCount::mib(1),
            cache_bytes: ByteCount::mib(384),
            index_cache_bytes: ByteCount::mib(64),
            loading_bytes: ByteCount::mib(256),
            ahead_bytes_max: ByteCount::mib(192),
            ahead_horizon: Duration::from_secs(2),
            ahead_bytes_total: ByteCount::mib(256),
            ahead_requests_max: 64,
            ahead_segments_max: 32,
            streams_max: 4096,
            read_deadline: Duration::from_secs(30),
            delete_grace: Duration::from_secs(300),
            late_write_max: Duration::from_secs(3_600),
            expire_segments_max: 256,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_work_together_is_named() {
        assert_eq!(Options::default().check(), Ok(()));
        let error =
            Options { delete_grace: Duration::from_secs(1), ..Options::default() }.check().unwrap_err();
        assert_eq!(error.key, "tier.delete.grace.ms");
        let error = Options { cache_bytes: ByteCount::mib(64), ..Options::default() }.check().unwrap_err();
        assert_eq!(error.key, "tier.read.ahead.total.bytes");
        let error = Options { upload_memory: ByteCount::mib(64), ..Options::default() }.check().unwrap_err();
        assert!(
            error.to_string().starts_with("tier.upload.memory.bytes is 67108864: one upload must fit"),
            "{error}"
        );
    }
}
