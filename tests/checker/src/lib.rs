//! One judge for every proof: a history of what clients sent, what they were told and what they read goes in, and every way in
//! which a log broke its word comes out.
//!
//! It knows nothing of the broker that it judges: no format, no socket, no clock. A history comes from a simulation, event by
//! event, or from client programs as JSON lines; a kept history can be judged again.
//!
//! **A history.** Producers number their records, densely from 0 in each partition, and write the number into the record, so that
//! whoever reads it knows which one it is. Events of one client come in the order in which it saw them; between clients
//! no order is assumed, so their files may be read one after the other.
//!
//! Modules in layer order: a module imports only from those declared above it.

/// What can happen, as clients saw it.
pub mod event;
/// Events as JSON lines.
pub mod lines;
/// A table over dense numbers that costs what it holds.
mod pages;
/// Producers and readers by small numbers.
mod names;
/// What was found.
pub mod report;
/// One partition: what was said of each offset, and what became of each record.
mod partition;
/// One reader of a partition: what it may see next.
mod reader;
/// Manifests against each other and against the listing of the bucket.
mod bucket;
/// All of it together.
mod checker;

pub use checker::Checker;
pub use event::{
    Event, Expiry, Number, Object, Offset, Partition, Producer, Reader, Records, Retries, Segment, Source,
};
pub use report::{Kind, Report, Violation};
