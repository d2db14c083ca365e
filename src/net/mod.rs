//! Frames on sockets, connections to peers, and the table of APIs.

/// Frames on a socket.
pub(crate) mod frames;
