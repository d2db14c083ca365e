//! The wire below requests: frames on sockets, connections that we open ourselves, and the table of APIs.
//!
//! What a request means is not known here, only how it travels.

/// Turns of those with much to write.
pub(crate) mod write_turns;
/// Messages into a byte stream: without a copy, and the large ones in turns.
pub(crate) mod write;
/// Frames from a byte stream: cancel-safe, and memory follows the bytes that arrive.
pub mod frame;
/// The table of APIs: what this broker advertises and serves.
pub(crate) mod api;
/// A connection to a broker, with many requests in flight.
pub mod peer;

pub use frame::{FrameReader, ReadFrameError};
pub use peer::{Answer, CallError, ConnectError, Peer, PeerOptions};
