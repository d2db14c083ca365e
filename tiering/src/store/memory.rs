//! `memory:///`: a store that is gone with its process. In the simulation, the bucket of the simulated world.

use std::sync::Arc;

use object_store::ObjectStore;

#[cfg(not(feature = "sim"))]
pub(super) fn open() -> Arc<dyn ObjectStore> {
    Arc::new(object_store::memory::InMemory::new())
}

#[cfg(feature = "sim")]
pub(super) use simulated::open;
#[cfg(feature = "sim")]
pub use simulated::set_memory;

#[cfg(feature = "sim")]
mod simulated {
    use std::cell::RefCell;

    use super::{Arc, ObjectStore};

    thread_local! {
        static BUCKET: RefCell<Option<Arc<dyn ObjectStore>>> = const { RefCell::new(None) };
    }

    /// Makes this the store behind `memory:///` for all that run on this thread: every machine of a simulated world.
    pub fn set_memory(bucket: Arc<dyn ObjectStore>) {
        BUCKET.set(Some(bucket));
    }

    pub(in crate::store) fn open() -> Arc<dyn ObjectStore> {
        let bucket = BUCKET.with_borrow(Clone::clone);
        bucket.unwrap_or_else(|| Arc::new(object_store::memory::InMemory::new()))
    }
}
