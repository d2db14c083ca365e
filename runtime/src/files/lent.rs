//! Part of a file, lent to whoever sends it.

use std::fmt;
use std::io;

use super::File;

/// Part of a file that is sent from the page cache as it is, without a look at it, for as long as it is known to be sound there. Once
/// that is not known any more, it has to be read and verified anew.
pub struct Lent {
    file: File,
    position: u64,
    count: usize,
    read: Box<dyn Fn() -> io::Result<Vec<u8>> + Send + Sync>,
}

impl Lent {
    /// `read` reads and verifies all of it, and may block.
    pub fn new(
        file: File,
        position: u64,
        count: usize,
        read: impl Fn() -> io::Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Lent {
        Lent { file, position, count, read: Box::new(read) }
    }

    /// Of which file.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Where in the file byte `at` of it lies.
    pub fn position(&self, at: usize) -> u64 {
        self.position + at as u64
    }

    /// How many bytes.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether these bytes of it are in the page cache, and known to be sound there. To be asked directly before they are sent.
    pub fn is_sound(&self, at: usize, count: usize) -> bool {
        let (position, count) = (self.position(at), count as u64);
        // Where the kernel cannot tell, nothing is known.
        self.file.sound().is_some_and(|sound| sound.covers(position, count))
            && self.file.is_cached(position, count).unwrap_or(false)
    }

    /// All of it, read and verified. Blocks.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        (self.read)()
    }
}

impl fmt::Debug for Lent {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Lent { file, position, count, .. } = self;
        write!(out, "{count} bytes of {} from {position} on", file.path().display())
    }
}
