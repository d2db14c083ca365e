//! A faulty store, and the suite that every store must pass.
//!
//! For tests here and in the crates above.

/// A bucket in a simulated world.
pub mod bucket;
/// A store that fails as stores do.
pub mod faulty;
/// Segments made for tests.
pub mod segments;
/// What every store must pass.
pub mod suite;
