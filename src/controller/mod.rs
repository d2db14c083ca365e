//! What changes the cluster: topics made, grown and deleted, leaders elected, and the bucket's copy of what topics are.
//!
//! The controller only proposes; the metadata's `apply` judges.

/// Where replicas go: pure.
pub(crate) mod placement;
/// Topics made, grown, deleted.
pub(crate) mod topics;
/// Leaders elected because an operator asks for it.
pub(crate) mod elections;
/// The bucket's record of topics, and the end of deleted ones.
pub(crate) mod bucket;
