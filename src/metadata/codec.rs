//! Metadata as bytes that last: commands in the log, images in snapshots.
//!
//! One file per format. Numbers given to kinds and variants are never given anew.

/// Commands.
pub(super) mod command;
/// Images.
pub(super) mod image;
/// What both have in common.
mod parts;

#[cfg(test)]
pub(super) mod samples;
