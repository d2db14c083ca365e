//! The admin port: `/live`, `/ready`, `/metrics`, `/api/status`, `/api/groups`. Plain HTTP, on loopback unless configured otherwise.
//!
//! It only reads. It must answer while everything else is in trouble, so nothing here waits for the bucket or for a disk, and for groups a
//! moment only.

/// Whether the broker is alive, and ready, and if not why.
pub(crate) mod health;
/// Its listener and its limits.
mod door;
/// How far groups have read.
pub(crate) mod groups;
/// The routes.
pub(crate) mod http;
/// What the broker knows of itself, as JSON.
pub(crate) mod status;
