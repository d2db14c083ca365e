//! Clock, randomness and files, as one handle to pass around.

use crate::clock::Clock;
use crate::files::Disk;
use crate::rng::Rng;

/// What a module needs of the world outside. Cheap to clone.
#[derive(Debug, Clone)]
pub struct World {
    /// Time.
    pub clock: Clock,
    /// Randomness.
    pub rng: Rng,
    /// Files.
    pub disk: Disk,
}

impl World {
    /// The machine itself.
    pub fn system() -> World {
        World { clock: Clock::system(), rng: Rng::system(), disk: Disk::host() }
    }
}
