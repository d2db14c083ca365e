//! Clients' connections: accept, read requests, answer in order.

/// One client's connection.
pub(crate) mod connection;
/// From a request's bytes to a handler, and from its answer to bytes.
pub(crate) mod dispatch;
/// The listening socket and its limits.
pub(crate) mod listener;
