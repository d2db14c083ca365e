//! What fuzz targets do with the bytes that come from a bucket, and what they start from.
//!
//! Each input is tried as it is, and again under checksums that hold: a checksum guards against accidents, not against
//! somebody who can write to the bucket.

use aquifer_model::fuzzing::resealed;
use bytes::Bytes;

use crate::cluster::ClusterMarker;
use crate::manifest::codec::{decode_page, encode_page};
use crate::manifest::{Manifest, invariants};
use crate::object::{self, SegmentIndex};
use crate::topic::TopicRecord;

/// Golden tails of objects, in hexadecimal.
pub const TAILS: &[&str] = &[include_str!("../tests/golden/tail-1.hex")];
/// Golden manifests, pages, topics' records and markers, in hexadecimal.
pub const RECORDS: &[&str] = &[
    include_str!("../tests/golden/manifest-1.hex"),
    include_str!("../tests/golden/manifest-paged-1.hex"),
    include_str!("../tests/golden/page-1.hex"),
    include_str!("../tests/golden/topic-1.hex"),
    include_str!("../tests/golden/marker-1.hex"),
];

/// The tail of an object: read, written and read again it is the same; looking a block up in it ends.
///
/// # Panics
/// If it is not.
pub fn tail(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), object::fuzzing::resealed(bytes)].into_iter().flatten() {
        let Ok(index) = SegmentIndex::decode_tail(&Bytes::from(bytes)) else { continue };
        assert_eq!(SegmentIndex::decode_tail(&index.encode_tail().into()).as_ref(), Ok(&index));
        let _ = index.verify(0, &[1, 2, 3]);
        let _ = index.verify_sums(u64::MAX - 1, &[7, 7]);
    }
}

/// A manifest, a page, a topic's record or a marker: what is read, written and read again is the same.
///
/// # Panics
/// If it is not.
pub fn record(bytes: &[u8]) {
    for bytes in [Some(bytes.to_vec()), resealed(bytes)].into_iter().flatten() {
        if let Ok(manifest) = Manifest::decode(&bytes)
            // Versions of a claim are written as differences, so those that fall cannot be; the invariants refuse them.
            && invariants::check(&manifest).is_ok()
        {
            assert_eq!(Manifest::decode(&manifest.encode()), Ok(manifest));
        }
        if let Ok((partition, entries)) = decode_page(&bytes) {
            assert_eq!(decode_page(&encode_page(partition, &entries)), Ok((partition, entries)));
        }
        if let Ok(topic) = TopicRecord::decode(&bytes) {
            assert_eq!(TopicRecord::decode(&topic.encode()), Ok(topic));
        }
        if let Ok(marker) = ClusterMarker::decode(&bytes) {
            assert_eq!(ClusterMarker::decode(&marker.encode()), Ok(marker));
        }
    }
}
