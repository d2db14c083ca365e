//! Large buffers of one size, used again and again.
//!
//! Memory fresh from the system costs more to touch than to fill: the kernel zeroes it page by page, and a virtual machine may
//! have to get each page back from its host first. So these buffers are mapped by themselves, with huge pages where the kernel
//! has them, and go back to their pool rather than to the system.
//!
//! A buffer's bytes are whatever its last user left: who takes one fills it before anybody reads it.

use std::sync::Arc;

use aquifer_model::ByteCount;
use memmap2::{Advice, MmapMut};
use parking_lot::Mutex;

/// A pool of buffers. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Buffers(Arc<Pool>);

#[derive(Debug)]
struct Pool {
    length: usize,
    kept_max: usize,
    kept: Mutex<Vec<MmapMut>>,
}

/// A buffer; goes back to its pool when dropped.
#[derive(Debug)]
pub struct Buffer(Memory);

#[derive(Debug)]
enum Memory {
    /// `None` only while it is dropped.
    Pooled(Option<MmapMut>, Arc<Pool>),
    Own(Vec<u8>),
}

impl Buffers {
    /// A pool of buffers of `length` bytes, which keeps unused ones up to `kept_max` bytes.
    pub fn new(length: ByteCount, kept_max: ByteCount) -> Buffers {
        let length = usize::try_from(length.get()).unwrap_or(usize::MAX);
        let kept_max = usize::try_from(kept_max.get()).unwrap_or(usize::MAX) / length.max(1);
        Buffers(Arc::new(Pool { length, kept_max, kept: Mutex::default() }))
    }

    /// A buffer of `length` bytes. Of another length than the pool's it is memory of its own.
    pub fn take(&self, length: usize) -> Buffer {
        if length != self.0.length {
            return Buffer(Memory::Own(vec![0; length]));
        }
        let kept = self.0.kept.lock().pop();
        match kept.or_else(|| map(length)) {
            Some(map) => Buffer(Memory::Pooled(Some(map), self.0.clone())),
            None => Buffer(Memory::Own(vec![0; length])),
        }
    }
}

/// Fresh memory; `None` where the system gives none this way, which the allocator may still have.
fn map(length: usize) -> Option<MmapMut> {
    let map = MmapMut::map_anon(length).ok()?;
    // A kernel without huge pages says no, and small ones do as well.
    #[cfg(target_os = "linux")]
    drop(map.advise(Advice::HugePage));
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
            Memory::Own(bytes) => bytes,
        }
    }
}

impl AsMut<[u8]> for Buffer {
    fn as_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            Memory::Pooled(map, _) => map.as_deref_mut().unwrap_or_default(),
            Memory::Own(bytes) => bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_and_no_more_are_kept_than_asked_for() {
        let buffers = Buffers::new(ByteCount::kib(64), ByteCount::kib(128));
        let mut taken: Vec<Buffer> = (0..3).map(|_| buffers.take(64 << 10)).collect();
        for buffer in &mut taken {
            assert_eq!(buffer.as_ref().len(), 64 << 10);
            buffer.as_mut().fill(7);
        }
        drop(taken);
        assert_eq!(buffers.0.kept.lock().len(), 2);
        let again = buffers.take(64 << 10);
        assert!(again.as_ref().iter().all(|byte| *byte == 7), "fresh memory would be zero");
        assert_eq!(buffers.0.kept.lock().len(), 1);
        let other = buffers.take(10);
        assert_eq!(other.as_ref(), [0; 10]);
        drop(other);
        assert_eq!(buffers.0.kept.lock().len(), 1, "only its own come back");
    }
}
