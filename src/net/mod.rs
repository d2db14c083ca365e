//! Frames on sockets, connections to peers, and the table of APIs.

/// Frames on a socket.
pub(crate) mod frames;
/// The table of APIs: what this broker advertises and serves.
pub(crate) mod api;
