//! The seams to the outside world: each outside thing has one home, so that a simulated world can take its place.
//!
//! `clippy.toml` at the root bans the originals everywhere else, naming the replacement.

/// Time: the one that only goes forward, and the one on the wall.
pub mod clock;
/// Randomness: uuids and jitter.
pub mod rng;
/// Files and folders.
pub mod files;
/// Faults built in on purpose, in builds that ask for it.
pub mod planted;
/// Clock, randomness and files, as one handle to pass around.
pub mod world;
/// Tasks and threads: each has a name, an owner and an end.
pub mod tasks;
/// Waking up at a moment, to the microsecond.
pub mod alarm;
/// Sockets.
pub mod sockets;
/// Byte budgets: memory that many requests share.
pub mod budget;
/// Work that nobody waits for, held back to so many bytes a second.
pub mod pace;
/// Large buffers, used again.
pub mod buffers;
/// Metrics: what every module registers its own with.
pub mod metrics;

pub use world::World;
