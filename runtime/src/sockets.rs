//! Sockets.
//!
//! Built for the simulation, they are those of a simulated network.

#[cfg(not(feature = "sim"))]
mod host;
#[cfg(feature = "sim")]
mod simulated;

#[cfg(not(feature = "sim"))]
pub use host::{Listener, ReadHalf, Stream, WriteHalf, configure, listen, send_lent, send_with_more};
#[cfg(feature = "sim")]
pub use simulated::{Listener, ReadHalf, Stream, WriteHalf, configure, listen, send_lent, send_with_more};

/// The name that this machine has for itself.
pub fn machine_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
