//! Numbers that the tables of keys are written in.

/// A mebibyte in bytes.
pub(super) const MIB: i64 = 1 << 20;
/// A gibibyte in bytes.
pub(super) const GIB: i64 = 1 << 30;
/// A second in milliseconds.
pub(super) const SECOND: i64 = 1000;
/// A minute in milliseconds.
pub(super) const MINUTE: i64 = 60 * SECOND;
/// An hour in milliseconds.
pub(super) const HOUR: i64 = 60 * MINUTE;
/// A day in milliseconds.
pub(super) const DAY: i64 = 24 * HOUR;
/// Kafka's bound for what it calls an int.
pub(super) const INT_MAX: i64 = i32::MAX as i64;
