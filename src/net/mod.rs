//! The wire below requests: frames on sockets, connections that we open ourselves, and the table of APIs.
//!
//! What a request means is not known here, only how it travels.

/// Turns of those with much to write.
pub(crate) mod write_turns;
/// Frames in and out of a byte stream: cancel-safe, and memory follows the bytes that arrive.
pub mod frame;
/// The table of APIs: what this broker advertises and serves.
pub(crate) mod api;
/// A connection to a broker, with many requests in flight.
pub mod peer;

pub use frame::{FrameReader, ReadFrameError};
pub use peer::{Answer, CallError, ConnectError, Peer, PeerOptions};
