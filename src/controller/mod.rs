//! What changes the cluster: topics made, grown and deleted, and the bucket's copy of what they are.
//!
//! The controller only proposes; the metadata's `apply` judges.

/// Where replicas go: pure.
pub(crate) mod placement;
/// Topics made, grown, deleted.
pub(crate) mod topics;
/// The bucket's record of topics, and the end of deleted ones.
pub(crate) mod bucket;
