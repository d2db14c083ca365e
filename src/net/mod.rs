//! The wire below requests: frames on sockets, and connections that we open ourselves.
//!
//! What a request means is not known here, only how it travels.

/// Frames in and out of a byte stream.
pub mod frame;
/// A connection to a broker, with many requests in flight.
pub mod peer;

pub use frame::{ReadFrameError, read_frame};
pub use peer::{Answer, CallError, ConnectError, Peer, PeerOptions};
