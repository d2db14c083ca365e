//! The keys of the bucket.
//!
//! Each field names its key; the key's declaration, below, says the rest.

use std::time::Duration;

use aquifer_model::ByteCount;
use url::Url;

use super::key::{bytes, count, millis, text};
use super::reader::Reader;
use super::units::{DAY, HOUR, MIB, MINUTE, SECOND};

/// The bucket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tier {
    /// `tier.object.store`.
    pub object_store: Url,
    /// `tier.check.interval.ms`.
    pub check_interval: Duration,
    /// `tier.roll.ms`.
    pub roll: Duration,
    /// `tier.delete.grace.ms`.
    pub delete_grace: Duration,
    /// `tier.late.write.max.ms`.
    pub late_write_max: Duration,
    /// `tier.expire.segments.max`.
    pub expire_segments_max: u32,
    /// `tier.index.interval.bytes`.
    pub index_interval: ByteCount,
    /// `tier.scrub.bytes.per.second`; zero for never.
    pub scrub_rate: ByteCount,
    /// `tier.scrub.interval.ms`.
    pub scrub_interval: Duration,
    /// How requests to the bucket are made.
    pub store: TierStore,
    /// How segments go up.
    pub upload: TierUpload,
    /// How the bucket's table of contents is kept.
    pub manifest: TierManifest,
    /// How history comes back.
    pub read: TierRead,
}

/// How requests to the bucket are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierStore {
    /// `tier.store.deadline.ms`.
    pub deadline: Duration,
    /// `tier.store.attempt.ms`.
    pub attempt: Duration,
    /// `tier.store.bytes.per.second.min`.
    pub bytes_per_second_min: ByteCount,
    /// `tier.store.backoff.ms`.
    pub backoff: Duration,
    /// `tier.store.backoff.max.ms`.
    pub backoff_max: Duration,
}

/// How segments go up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierUpload {
    /// `tier.upload.concurrency`.
    pub concurrency: u32,
    /// `tier.upload.deadline.ms`.
    pub deadline: Duration,
    /// `tier.upload.stall.ms`.
    pub stall: Duration,
    /// `tier.upload.retry.backoff.ms`.
    pub retry_min: Duration,
    /// `tier.upload.retry.backoff.max.ms`.
    pub retry_max: Duration,
    /// `tier.upload.multipart.threshold.bytes`.
    pub multipart_threshold: ByteCount,
    /// `tier.upload.part.bytes`.
    pub part_bytes: ByteCount,
    /// `tier.upload.parts.in.flight`.
    pub parts_in_flight: u32,
    /// `tier.upload.memory.bytes`.
    pub memory: ByteCount,
}

/// How the bucket's table of contents is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierManifest {
    /// `tier.manifest.entries.max`.
    pub entries_max: u32,
    /// `tier.manifest.page.entries`.
    pub page_entries: u32,
    /// `tier.manifest.age.max.ms`.
    pub age_max: Duration,
    /// `tier.manifest.commit.deadline.ms`.
    pub commit_deadline: Duration,
}

/// How history comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TierRead {
    /// `tier.cache.bytes`.
    pub cache: ByteCount,
    /// `tier.index.cache.bytes`.
    pub index_cache: ByteCount,
    /// `tier.read.chunk.bytes`.
    pub chunk: ByteCount,
    /// `tier.read.first.bytes`.
    pub first: ByteCount,
    /// `tier.read.loading.bytes`.
    pub loading: ByteCount,
    /// `tier.read.ahead.bytes.max`.
    pub ahead_max: ByteCount,
    /// `tier.read.ahead.horizon.ms`.
    pub ahead_horizon: Duration,
    /// `tier.read.ahead.total.bytes`.
    pub ahead_total: ByteCount,
    /// `tier.read.ahead.requests.max`.
    pub ahead_requests_max: u32,
    /// `tier.read.ahead.segments.max`.
    pub ahead_segments_max: u32,
    /// `tier.read.streams.max`.
    pub streams_max: u32,
    /// `tier.read.deadline.ms`.
    pub deadline: Duration,
}

/// Declares and reads the keys of the bucket.
pub(super) fn read(r: &mut Reader<'_>) -> Option<Tier> {
    r.section("Tier");
    let object_store = r.read(
        text("tier.object.store", "", "a URL: `s3://`, `file:///` or `memory:///`", parse_object_store).doc(
            "The bucket that sealed segments go to: `s3://bucket/prefix?region=..&endpoint=..`, `file:///dir` or \
             `memory:///`. A folder must exist, unless it lies inside of `log.dirs`. Without it there is no tier, and the other \
             keys of this section have no effect. Credentials are found as AWS tools find theirs.",
        ),
    );
    let has_store = object_store.is_some();
    // Without a bucket the keys are still declared and checked, against a place that nobody goes to.
    let nowhere = || Url::parse("memory:///").expect("a constant");
    let tier = Tier {
        object_store: object_store.unwrap_or_else(nowhere),
        check_interval: r.read(millis("tier.check.interval.ms", SECOND).range(10, MINUTE).doc(
            "Milliseconds between two looks for segments to seal, to upload and to drop from the local disk.",
        )),
        roll: r.read(millis("tier.roll.ms", 10 * MINUTE).at_least(SECOND).doc(
            "Age in milliseconds at which a tiered topic's open segment is sealed, so that idle topics reach the bucket.",
        )),
        delete_grace: r.read(millis("tier.delete.grace.ms", 5 * MINUTE).at_least(SECOND).doc(
            "Milliseconds that an object outlives its deletion, by the bucket's clock, for readers that still know of it.",
        )),
        late_write_max: r.read(millis("tier.late.write.max.ms", HOUR).at_least(0).doc(
            "Milliseconds after which a write to the bucket that was not answered can no longer arrive there. For so long a deleted \
             topic is looked at again, besides its grace: nobody else would find what a late write brings.",
        )),
        expire_segments_max: r.read(
            count("tier.expire.segments.max", 256)
                .range(1, 100_000)
                .doc("Segments of a partition that retention drops from the bucket in one step."),
        ),
        index_interval: r.read(
            bytes("tier.index.interval.bytes", 32 << 10)
                .range(4096, 16 * MIB)
                .doc("Bytes of log between two entries of an object's index."),
        ),
        scrub_rate: r.read(bytes("tier.scrub.bytes.per.second", 4 * MIB).doc(
            "Bytes that are read from the bucket and verified in a second, in search of damage, by each broker for the partitions that \
             it leads; a request for each 8 MiB. 0: none.",
        )),
        scrub_interval: r.read(millis("tier.scrub.interval.ms", 30 * DAY).at_least(SECOND).doc(
            "Milliseconds from the start of one search of the bucket to the start of the next, at least. Each start of the broker \
             begins one.",
        )),
        store: read_store(r),
        upload: read_upload(r),
        manifest: read_manifest(r),
        read: read_read(r),
    };
    blame(r, &tier);
    has_store.then_some(tier)
}

fn parse_object_store(text: &str) -> Result<Option<Url>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let url = Url::parse(text)
        .map_err(|error| format!("is no URL ({error}): use s3://, file:/// or memory:///"))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "s3" if host.is_empty() => Err("names no bucket: use s3://bucket/prefix".to_owned()),
        "file" if !host.is_empty() => {
            Err(format!("an absolute path has three slashes: file:///{host}{}", url.path()))
        }
        "file" if url.path() == "/" => Err("names no directory: use file:///dir".to_owned()),
        "s3" | "file" | "memory" if !url.username().is_empty() || url.password().is_some() => {
            Err("must not hold credentials: they are found as AWS tools find theirs".to_owned())
        }
        "s3" | "file" | "memory" => Ok(Some(url)),
        scheme => Err(format!("scheme {scheme:?} is not supported: use s3://, file:/// or memory:///")),
    }
}

fn read_store(r: &mut Reader<'_>) -> TierStore {
    TierStore {
        deadline: r.read(
            millis("tier.store.deadline.ms", 30 * SECOND)
                .range(SECOND, 60 * MINUTE)
                .doc("Milliseconds that a failing request to the bucket is repeated for before whoever made it is told."),
        ),
        attempt: r.read(millis("tier.store.attempt.ms", 10 * SECOND).range(100, 10 * MINUTE).doc(
            "Milliseconds that one attempt of a small request may take; at most `tier.store.deadline.ms`.",
        )),
        bytes_per_second_min: r.read(
            bytes("tier.store.bytes.per.second.min", MIB)
                .range(4096, 1024 * MIB)
                .doc("An attempt that moves bytes may take as much longer as they need at this many a second."),
        ),
        backoff: r.read(
            millis("tier.store.backoff.ms", 50)
                .range(1, MINUTE)
                .doc("Milliseconds before a request is repeated for the first time; doubles with each failure in a row."),
        ),
        backoff_max: r.read(
            millis("tier.store.backoff.max.ms", 3 * SECOND)
                .range(1, 10 * MINUTE)
                .doc("Most milliseconds before a request is repeated; at least `tier.store.backoff.ms`."),
        ),
    }
}

fn read_upload(r: &mut Reader<'_>) -> TierUpload {
    const PART_MIN: i64 = 5 * MIB;
    const PUT_MAX: i64 = 5 << 30;
    TierUpload {
        concurrency: r.read(
            count("tier.upload.concurrency", 4)
                .range(1, 1024)
                .doc("Partitions that upload at a time; each uploads its segments one after the other."),
        ),
        retry_min: r.read(
            millis("tier.upload.retry.backoff.ms", SECOND).range(10, MINUTE).doc(
                "Milliseconds before a failed upload is tried again; doubles with each failure in a row.",
            ),
        ),
        retry_max: r.read(
            millis("tier.upload.retry.backoff.max.ms", 30 * SECOND)
                .range(10, 60 * MINUTE)
                .doc("Most milliseconds before a failed upload is tried again."),
        ),
        deadline: r.read(
            millis("tier.upload.deadline.ms", 10 * MINUTE)
                .range(SECOND, 24 * 60 * MINUTE)
                .doc("Milliseconds that one upload, claim or sweep may take, besides what its bytes need at \
                      `tier.store.bytes.per.second.min`; it is then given up and tried again."),
        ),
        stall: r.read(
            millis("tier.upload.stall.ms", 10 * MINUTE)
                .range(SECOND, 24 * 60 * MINUTE)
                .doc("Milliseconds after which a partition that has something to upload, and uploads nothing, is told of as \
                      standing still."),
        ),
        multipart_threshold: r.read(
            bytes("tier.upload.multipart.threshold.bytes", 64 * MIB)
                .range(PART_MIN, PUT_MAX)
                .doc("Bytes above which an object goes up in parts."),
        ),
        part_bytes: r.read(
            bytes("tier.upload.part.bytes", 32 * MIB)
                .range(PART_MIN, PUT_MAX)
                .doc("Bytes of a part. Each part is billed as a request."),
        ),
        parts_in_flight: r.read(
            count("tier.upload.parts.in.flight", 3)
                .range(1, 64)
                .doc("Parts of one object on their way at a time."),
        ),
        memory: r.read(
            bytes("tier.upload.memory.bytes", 256 * MIB)
                .at_least(PART_MIN)
                .doc("Bytes that uploads hold in memory at a time; more uploads wait."),
        ),
    }
}

fn read_manifest(r: &mut Reader<'_>) -> TierManifest {
    TierManifest {
        entries_max: r.read(
            count("tier.manifest.entries.max", 384)
                .range(16, 10_000)
                .doc("Segments that a manifest lists itself; above it the oldest move to a page."),
        ),
        page_entries: r.read(
            count("tier.manifest.page.entries", 256)
                .range(8, 10_000)
                .doc("Segments in a page; fewer than `tier.manifest.entries.max`."),
        ),
        age_max: r.read(millis("tier.manifest.age.max.ms", 10 * SECOND).at_least(100).doc(
            "Milliseconds after which a reader that does not lead a partition reads its manifest anew.",
        )),
        commit_deadline: r.read(
            millis("tier.manifest.commit.deadline.ms", MINUTE)
                .at_least(SECOND)
                .doc("Milliseconds that one write of a manifest is tried for; the upload then starts over."),
        ),
    }
}

fn read_read(r: &mut Reader<'_>) -> TierRead {
    TierRead {
        cache: r.read(
            bytes("tier.cache.bytes", 384 * MIB).doc(
                "Memory in bytes for data that came from the bucket. What no reader is still to come to goes first.",
            ),
        ),
        index_cache: r.read(
            bytes("tier.index.cache.bytes", 64 * MIB).doc("Memory in bytes for footers and indexes of objects."),
        ),
        chunk: r.read(
            bytes("tier.read.chunk.bytes", 8 * MIB)
                .range(MIB, 64 * MIB)
                .doc("Bytes of one GET of a sequential reader; a multiple of 1 MiB."),
        ),
        first: r.read(
            bytes("tier.read.first.bytes", MIB)
                .range(64 << 10, 64 * MIB)
                .doc("Bytes of a reader's first GET, so that it is answered early; divides `tier.read.chunk.bytes`."),
        ),
        loading: r.read(
            bytes("tier.read.loading.bytes", 256 * MIB)
                .at_least(16 * MIB)
                .doc("Bytes on their way from the bucket, or from the cache to a client, at a time."),
        ),
        ahead_max: r.read(
            bytes("tier.read.ahead.bytes.max", 192 * MIB).doc("Bytes that one sequential reader is read ahead of, at most."),
        ),
        ahead_horizon: r.read(
            millis("tier.read.ahead.horizon.ms", 2 * SECOND)
                .range(100, MINUTE)
                .doc("How far in time a reader is read ahead of, in milliseconds: no further than what it takes in as long, by its own pace, but for two chunks."),
        ),
        ahead_total: r.read(
            bytes("tier.read.ahead.total.bytes", 256 * MIB)
                .doc("The same over all readers; at most two thirds of `tier.cache.bytes`."),
        ),
        ahead_requests_max: r.read(
            count("tier.read.ahead.requests.max", 64)
                .range(1, 4096)
                .doc("Requests for read-ahead in flight at a time, over all readers. What a reader waits for passes them."),
        ),
        ahead_segments_max: r.read(
            count("tier.read.ahead.segments.max", 32)
                .range(1, 1024)
                .doc("Segments that one reader is read ahead into, however small they are."),
        ),
        streams_max: r.read(
            count("tier.read.streams.max", 4096).at_least(1).doc("Sequential readers that are remembered at a time."),
        ),
        deadline: r.read(
            millis("tier.read.deadline.ms", 2 * MINUTE)
                .at_least(SECOND)
                .doc("Milliseconds that a bucket which fails is retried before readers get an error, which they retry."),
        ),
    }
}

/// What must hold between the tier's keys.
fn blame(r: &mut Reader<'_>, tier: &Tier) {
    let Tier { store, manifest, read, upload, .. } = tier;
    if store.attempt > store.deadline {
        r.blame("tier.store.attempt.ms", "must not exceed tier.store.deadline.ms".to_owned());
    }
    if store.backoff > store.backoff_max {
        r.blame("tier.store.backoff.ms", "must not exceed tier.store.backoff.max.ms".to_owned());
    }
    if tier.delete_grace <= manifest.age_max {
        r.blame(
            "tier.delete.grace.ms",
            "must exceed tier.manifest.age.max.ms, or readers meet deleted objects".to_owned(),
        );
    }
    if manifest.page_entries >= manifest.entries_max {
        r.blame("tier.manifest.page.entries", "must be below tier.manifest.entries.max".to_owned());
    }
    if upload.part_bytes > upload.memory {
        r.blame("tier.upload.part.bytes", "must not exceed tier.upload.memory.bytes".to_owned());
    }
    if read.chunk.get() % MIB as u64 != 0 {
        r.blame("tier.read.chunk.bytes", "must be a multiple of 1048576".to_owned());
    }
    if read.chunk.get() % read.first.get() != 0 {
        r.blame("tier.read.first.bytes", "must divide tier.read.chunk.bytes".to_owned());
    }
    if read.ahead_total.get() > read.cache.get() / 3 * 2 {
        r.blame("tier.read.ahead.total.bytes", "must not exceed two thirds of tier.cache.bytes".to_owned());
    }
}
