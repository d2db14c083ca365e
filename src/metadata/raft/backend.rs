//! A file as redb wants it, over the file seam: a simulated disk can take its place.

use std::io::{self, IoSlice};

use aquifer_model::ByteCount;
use aquifer_runtime::files::File;

/// redb's storage.
#[derive(Debug)]
pub(crate) struct Backend(pub(crate) File);

impl redb::StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.size()?.get())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_size(ByteCount(len))
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(offset, &mut [IoSlice::new(data)])
    }
}
