//! Large buffers of one size, used again and again.
//!
//! Memory fresh from the system costs more to touch than to fill: the kernel zeroes it page by page, and a virtual machine may
//! have to get each page back from its host first, which for a buffer may come to 20 ms. So these buffers are mapped by themselves,
//! with huge pages where the kernel has them, touched where nobody waits for the thread, and go back to their pool rather than to the
//! system.
//!
//! A buffer's bytes are whatever its last user left: who takes one fills it before anybody reads it.

use std::sync::Arc;

use aquifer_model::ByteCount;
use memmap2::{Advice, MmapMut};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::tasks::blocking;

/// What is touched in one go.
#[cfg(target_os = "linux")]
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Less than this is cheaper from the allocator.
const MAPPED_BYTES_MIN: usize = 256 << 10;

/// A pool of buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    length: usize,
    kept_max: usize,
    kept: Mutex<Vec<MmapMut>>,
    /// Fresh memory is touched for one buffer of the pool at a time: it takes a core for as long.
    touching: Semaphore,
}

/// A buffer; goes back to its pool when dropped.
#[derive(Debug)]
pub struct Buffer(Memory);

#[derive(Debug)]
enum Memory {
    /// `None` only while it is dropped.
    Pooled(Option<MmapMut>, Arc<Pool>),
    Own(MmapMut),
    /// It is small, or the system has given none by itself.
    Allocated(Vec<u8>),
}

impl Buffers {
    /// A pool of buffers of `length` bytes, which keeps unused ones up to `kept_max` bytes.
    pub fn new(length: ByteCount, kept_max: ByteCount) -> Buffers {
        let length = usize::try_from(length.get()).unwrap_or(usize::MAX);
        let kept_max = usize::try_from(kept_max.get()).unwrap_or(usize::MAX) / length.max(1);
        Buffers(Arc::new(Pool { length, kept_max, kept: Mutex::default(), touching: Semaphore::new(1) }))
    }

    /// A buffer of `length` bytes. Of another length than the pool's it is memory of its own.
    pub async fn take(&self, length: usize) -> Buffer {
        let is_of_pool = length == self.0.length;
        let kept = || if is_of_pool { self.0.kept.lock().pop() } else { None };
        let mut memory = kept();
        if memory.is_none() && length >= MAPPED_BYTES_MIN {
            // What a reader waits for is mostly shorter than the pool's, and not held up by those.
            let turn = if is_of_pool { self.0.touching.acquire().await.ok() } else { None };
            // One may have come back meanwhile.
            memory = kept();
            if memory.is_none() {
                memory = blocking(move || map(length)).await;
            }
            drop(turn);
        }
        Buffer(match memory {
            Some(map) if is_of_pool => Memory::Pooled(Some(map), self.0.clone()),
            Some(map) => Memory::Own(map),
            None => Memory::Allocated(vec![0; length]),
        })
    }
}

/// Fresh memory, touched; `None` where the system gives none this way, which the allocator may still have. Blocks.
fn map(length: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(length).ok()?;
    #[cfg(target_os = "linux")]
    {
        // A kernel without huge pages says no, and small ones do as well.
        drop(map.advise(Advice::HugePage));
        for start in (0..length).step_by(HUGE_PAGE_BYTES) {
            let step = HUGE_PAGE_BYTES.min(length - start);
            if map.advise_range(Advice::PopulateWrite, start, step).is_err() {
                // A kernel before 5.14: it is touched as it is filled.
                break;
            }
            // Others may want the core.
            std::thread::yield_now();
        }
    }
    Some(map)
}

impl Drop for Memory {
    fn drop(&mut self) {
        if let Memory::Pooled(map, pool) = self {
            let mut kept = pool.kept.lock();
            if kept.len() < pool.kept_max {
                kept.extend(map.take());
            }
        }
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        match &self.0 {
            Memory::Pooled(map, _) => map.as_deref().unwrap_or_default(),
            Memory::Own(map) => map,
            Memory::Allocated(bytes) => bytes,
        }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Pooled(map, _) => map.as_deref_mut().unwrap_or_default(),
            Memory::Own(map) => map,
            Memory::Allocated(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_buffer_is_used_again_and_no_more_are_kept_than_asked_for() {
        const LENGTH: usize = 256 << 10;
        let buffers = Buffers::new(ByteCount::kib(256), ByteCount::kib(512));
        let mut taken = Vec::new();
        for _ in 0..3 {
            taken.push(buffers.take(LENGTH).await);
        }
        for buffer in &mut taken {
            assert_eq!(buffer.as_ref().len(), LENGTH);
            buffer.as_mut().fill(7);
        }
        drop(taken);
        assert_eq!(buffers.0.kept.lock().len(), 2);
        let again = buffers.take(LENGTH).await;
        assert!(again.as_ref().iter().all(|byte| *byte == 7), "fresh memory would be zero");
        assert_eq!(buffers.0.kept.lock().len(), 1);
        for length in [10, 3 * LENGTH] {
            let other = buffers.take(length).await;
            assert!(other.as_ref() == vec![0; length]);
        }
        assert_eq!(buffers.0.kept.lock().len(), 1, "only its own come back");
    }
}
