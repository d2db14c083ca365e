//! Clients' connections: accept, read requests, answer in order.

/// Memory for requests on their way in, of all connections together.
pub(crate) mod memory;
/// Requests as they arrive on one connection.
mod arrivals;
/// Why a connection ends.
mod ended;
/// How much of a thread's time something takes.
mod meter;
/// From a request's bytes to a handler, and from its answer to bytes.
pub(crate) mod dispatch;
/// One client's connection.
pub(crate) mod connection;
/// The listening socket and its limits.
pub(crate) mod listener;
