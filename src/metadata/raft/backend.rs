//! A file as redb wants it, over the file seam: a simulated disk can take its place.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;

use aquifer_model::ByteCount;
use aquifer_runtime::files::File;
use parking_lot::Mutex;
use redb::StorageBackend;

/// What a [`Glance`] keeps writes in.
const PAGE_BYTES: usize = 4096;

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

/// Storage to look at: what is written to it is kept in memory, and lost with it.
///
/// redb mends what it finds damaged by going back to an older commit, if it can, and says so only once. To a vote that was
/// promised, that is a lie; so nothing that it mends may reach the file before somebody has agreed.
pub(super) struct Glance<B> {
    below: Arc<B>,
    over: Mutex<Over>,
}

#[derive(Default)]
struct Over {
    length: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

impl<B> fmt::Debug for Glance<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Glance")
    }
}

impl<B: StorageBackend> Glance<B> {
    pub(super) fn new(below: Arc<B>) -> io::Result<Glance<B>> {
        let over = Over { length: below.len()?, pages: BTreeMap::new() };
        Ok(Glance { below, over: Mutex::new(over) })
    }

    /// A page as it is below; zeros behind its end.
    fn page_below(&self, number: u64) -> io::Result<Vec<u8>> {
        let mut page = vec![0; PAGE_BYTES];
        let start = number * PAGE_BYTES as u64;
        let count = self.below.len()?.saturating_sub(start).min(PAGE_BYTES as u64) as usize;
        self.below.read(start, &mut page[..count])?;
        Ok(page)
    }

    /// Does something with each page of a range: the page's number, where in it, where in the range.
    fn each_page(
        offset: u64,
        count: usize,
        mut visit: impl FnMut(u64, usize, usize, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < count {
            let at = offset + done as u64;
            let within = (at % PAGE_BYTES as u64) as usize;
            let length = (PAGE_BYTES - within).min(count - done);
            visit(at / PAGE_BYTES as u64, within, done, length)?;
            done += length;
        }
        Ok(())
    }
}

impl<B: StorageBackend> StorageBackend for Glance<B> {
    fn len(&self) -> io::Result<u64> {
        Ok(self.over.lock().length)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let over = self.over.lock();
        if offset + out.len() as u64 > over.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Self::each_page(offset, out.len(), |number, within, done, length| {
            let part = &mut out[done..done + length];
            match over.pages.get(&number) {
                Some(page) => part.copy_from_slice(&page[within..within + length]),
                None => part.copy_from_slice(&self.page_below(number)?[within..within + length]),
            }
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.over.lock().length = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut over = self.over.lock();
        over.length = over.length.max(offset + data.len() as u64);
        Self::each_page(offset, data.len(), |number, within, done, length| {
            let page = match over.pages.entry(number) {
                std::collections::btree_map::Entry::Occupied(page) => page.into_mut(),
                std::collections::btree_map::Entry::Vacant(place) => place.insert(self.page_below(number)?),
            };
            page[within..within + length].copy_from_slice(&data[done..done + length]);
            Ok(())
        })
    }
}

/// The same storage again, once it was looked at.
#[derive(Debug)]
pub(super) struct Shared<B>(pub(super) Arc<B>);

impl<B: StorageBackend> StorageBackend for Shared<B> {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}
