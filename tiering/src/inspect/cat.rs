//! A partition's batches, from an offset on, straight out of the bucket.

use std::collections::VecDeque;
use std::sync::Arc;

use aquifer_model::batches::{Batches, Tail};
use aquifer_model::{ByteCount, Offset, TopicPartition};
use bytes::{Bytes, BytesMut};
use futures::stream::{BoxStream, StreamExt as _, unfold};

use super::InspectError;
use crate::manifest::load::{self, Pages};
use crate::manifest::locate::{self, Located};
use crate::manifest::{Entry, Manifest};
use crate::object::SegmentIndex;
use crate::read::ReadError;
use crate::read::index::read_index;
use crate::store::Store;

/// How much of a log is read at once; a multiple of the checksummed block.
const READ_BYTES: u64 = 8 << 20;
/// Memory for pages while reading.
const PAGES_BYTES: ByteCount = ByteCount::mib(4);

/// Gives whole batches, each as one slice, from the one that holds `from` (or the first that is left) to the tier's end. Ends
/// after an error.
pub fn cat(
    store: &Store,
    partition: TopicPartition,
    from: Offset,
) -> BoxStream<'static, Result<Bytes, InspectError>> {
    let pages = Pages::new(store.clone(), PAGES_BYTES);
    let cat = Cat {
        store: store.clone(),
        pages,
        partition,
        at: from,
        manifest: None,
        segment: None,
        ready: VecDeque::new(),
        ended: false,
    };
    unfold(cat, |mut cat| async move {
        let item = cat.next().await.transpose()?;
        cat.ended |= item.is_err();
        Some((item, cat))
    })
    .boxed()
}

struct Cat {
    store: Store,
    pages: Pages,
    partition: TopicPartition,
    at: Offset,
    manifest: Option<Arc<Manifest>>,
    segment: Option<Segment>,
    ready: VecDeque<Bytes>,
    ended: bool,
}

struct Segment {
    entry: Entry,
    index: SegmentIndex,
    position: u64,
    carried: BytesMut,
}

impl Cat {
    async fn next(&mut self) -> Result<Option<Bytes>, InspectError> {
        loop {
            if let Some(batch) = self.ready.pop_front() {
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            match &mut self.segment {
                Some(segment) if segment.position < segment.entry.segment.log_bytes.get() => {
                    self.ready = segment.read(&self.store, self.at).await?;
                }
                Some(segment) => {
                    self.at = segment.entry.range().next;
                    self.segment = None;
                }
                None => self.ended = !self.open().await?,
            }
        }
    }

    /// Opens the segment at the present offset; gives whether there is one.
    async fn open(&mut self) -> Result<bool, InspectError> {
        let manifest = match &self.manifest {
            Some(manifest) => manifest.clone(),
            None => match load::newest(&self.store, self.partition, None).await? {
                Some(manifest) => self.manifest.insert(manifest).clone(),
                None => return Ok(false),
            },
        };
        self.at = self.at.max(manifest.log_start());
        let entry = match locate::by_offset(&manifest, self.at) {
            Located::Nowhere => None,
            Located::Entry(entry) => Some(entry.clone()),
            Located::Page(page) => {
                let entries = self.pages.get(self.partition, page).await?;
                locate::entry_by_offset(&entries, self.at).cloned()
            }
        };
        let Some(entry) = entry else {
            return Ok(false);
        };
        let index = read_index(&self.store, &entry).await?;
        self.segment = Some(Segment { entry, index, position: 0, carried: BytesMut::new() });
        Ok(true)
    }
}

impl Segment {
    /// Reads on; gives the batches that are whole now and do not end before `from`.
    async fn read(&mut self, store: &Store, from: Offset) -> Result<VecDeque<Bytes>, InspectError> {
        let corrupt = |what: String| ReadError::Corrupt { key: self.entry.object.to_string(), what };
        let log_bytes = self.entry.segment.log_bytes.get();
        let count = READ_BYTES.min(log_bytes - self.position);
        let start = self.entry.position + self.position;
        let bytes = store.get_range(&self.entry.object, start..start + count).await?;
        self.index.verify(self.position, &bytes).map_err(|bad| corrupt(bad.to_string()))?;
        self.carried.extend_from_slice(&bytes);
        self.position += count;
        let mut walk = Batches::new(&self.carried);
        let found: Vec<_> = walk.by_ref().collect();
        match walk.tail() {
            Some(Tail::Invalid(error)) => return Err(corrupt(error.to_string()).into()),
            Some(Tail::Partial) if self.position == log_bytes => {
                return Err(corrupt("the log ends within a batch".to_owned()).into());
            }
            _ => {}
        }
        let whole = walk.position();
        let run = self.carried.split_to(whole).freeze();
        let late = found.iter().filter(|located| located.header.next_offset() > from);
        Ok(late
            .map(|located| run.slice(located.position..located.position + located.header.size()))
            .collect())
    }
}
