//! Consumer groups: who belongs to one, who gets what, and how far each has read.
//!
//! A group belongs to a partition of `__consumer_offsets` by the hash of its name, and is coordinated by the broker that leads
//! this partition. There, a *shard* holds all groups of that partition: a state that is a function of the partition's records
//! (and of clocks, which only ever cost a member its place), and one task that owns it. Each request is judged by the pure state
//! machines, what must outlive the broker is appended as records in Kafka's own format, and no answer leaves before they are
//! acknowledged. What was not written is as if it had never been: memory is taken back to what it was. Where that cannot be said,
//! the shard is dropped and read again.

/// Names, and how many members said each: pure.
pub(crate) mod counts;
/// What a group can refuse, and why.
pub(crate) mod error;
/// Memory for what members say of themselves.
pub(crate) mod memory;
/// Partitions of topics, as a set.
pub(crate) mod partitions;
/// Partitions that a member was given, each with the epoch in which it was.
pub(crate) mod grants;
/// What `__consumer_offsets` stores: Kafka's record formats.
pub(crate) mod record;
/// What a state machine wants done.
pub(crate) mod effects;
/// What a member says that it reads.
pub(crate) mod subscription;
/// What consumers of a classic group tell each other through their coordinator.
pub(crate) mod embedded;
/// Groups of the classic protocol: pure.
pub(crate) mod classic;
/// The cluster's topics, and those whose names match.
pub(crate) mod topics;
/// Groups whose coordinator assigns (KIP-848): pure.
pub(crate) mod consumer;
/// How far a group has read: pure.
pub(crate) mod positions;
/// Who belongs to a group, by either protocol.
pub(crate) mod members;
/// All groups of one partition of `__consumer_offsets`: pure.
pub(crate) mod book;
/// Records as batches that the log takes.
mod batches;
/// What is counted of groups.
pub(crate) mod metrics;
/// A book, read from its partition.
mod load;
/// An open book, and who waits for it.
mod desk;
/// One task that owns a book, its log and its clock.
pub(crate) mod shard;
/// The shards of this broker, and which group belongs to which.
pub(crate) mod coordinator;
