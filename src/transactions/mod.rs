//! Producers' identities. Transactions come with a later issue.

/// Ids for idempotent producers.
pub(crate) mod ids;
