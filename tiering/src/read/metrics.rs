//! What is counted of reads.

use aquifer_runtime::metrics::{Counter, Gauge, Registry};

/// Counters of reads. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct ReadMetrics {
    /// Reads answered with data.
    pub reads: Counter,
    /// Reads answered with nothing, their load going on.
    pub pending: Counter,
    /// Bytes given to readers.
    pub bytes: Counter,
    /// Requests for chunks.
    pub chunk_gets: Counter,
    /// Bytes that they brought.
    pub chunk_bytes: Counter,
    /// Bytes of chunks in memory: being loaded, cached, or on their way to a client.
    pub memory: Gauge,
    /// Times that a load had waited for memory for long, and asked for some to be given back.
    pub memory_waits: Counter,
    /// Requests for footers and indexes.
    pub index_gets: Counter,
    /// Objects found damaged.
    pub corrupt: Counter,
    /// Objects that are named and not there.
    pub lost: Counter,
}

impl ReadMetrics {
    /// Shows the counters to the outside.
    pub fn register(&self, registry: &mut Registry) {
        let name = |what: &str| format!("aquifer_tier_read_{what}");
        registry.register(name("answers"), "Cold reads answered with data", self.reads.clone());
        registry.register(name("pending"), "Cold reads answered empty while loading", self.pending.clone());
        registry.register(name("bytes"), "Bytes given to cold readers", self.bytes.clone());
        registry.register(name("chunk_gets"), "Requests for chunks of logs", self.chunk_gets.clone());
        registry.register(name("chunk_bytes"), "Bytes of chunks of logs received", self.chunk_bytes.clone());
        registry.register(name("memory_bytes"), "Bytes of chunks of logs in memory", self.memory.clone());
        registry.register(
            name("memory_waits"),
            "Times that a load of a chunk had waited for memory for long, and asked for some to be given back",
            self.memory_waits.clone(),
        );
        registry.register(name("index_gets"), "Requests for footers and indexes", self.index_gets.clone());
        registry.register(name("corrupt"), "Objects found damaged: alarm", self.corrupt.clone());
        registry.register(name("lost"), "Named objects that are not there: alarm", self.lost.clone());
    }
}
