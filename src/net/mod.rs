//! The wire below requests: frames on sockets, connections that we open ourselves, and the table of APIs.
//!
//! What a request means is not known here, only how it travels.

/// Frames on a socket, for a server: cancel-safe, bounded before anything is allocated.
pub(crate) mod frames;
/// The table of APIs: what this broker advertises and serves.
pub(crate) mod api;
/// Frames in and out of a byte stream.
pub mod frame;
/// A connection to a broker, with many requests in flight.
pub mod peer;

pub use frame::{ReadFrameError, read_frame};
pub use peer::{Answer, CallError, ConnectError, Peer, PeerOptions};
