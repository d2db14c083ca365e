//! A listing under way, in order of keys; one that breaks is taken up behind the last key it gave.

use aquifer_model::{ByteCount, Timestamp};
use futures::stream::{self, BoxStream, StreamExt as _};
use object_store::ObjectMeta;

use super::error::{self, Operation, StoreError};
use super::{Location, ObjectFacts, Store};
use crate::path::{Key, Prefix};

/// Where a listing stands.
pub(super) struct Listing {
    store: Store,
    prefix: Prefix,
    after: Option<Key>,
    open: Option<BoxStream<'static, object_store::Result<ObjectMeta>>>,
    failed: bool,
}

impl Listing {
    pub(super) fn new(store: Store, prefix: Prefix, after: Option<Key>) -> Listing {
        Listing { store, prefix, after, open: None, failed: false }
    }

    pub(super) fn stream(self) -> BoxStream<'static, Result<ObjectFacts, StoreError>> {
        stream::unfold(self, |mut state| async move {
            let item = state.next().await?;
            Some((item, state))
        })
        .boxed()
    }

    async fn next(&mut self) -> Option<Result<ObjectFacts, StoreError>> {
        if self.failed {
            return None;
        }
        let mut retry = self.store.retry();
        loop {
            match self.attempt().await {
                Ok(item) => {
                    let item = item.map(facts);
                    self.after = item.as_ref().map(|item| item.key.clone());
                    return item.map(Ok);
                }
                Err(error) => {
                    self.open = None;
                    let outcome = if error.is_transient() { retry.pause(error).await } else { Err(error) };
                    if let Err(error) = outcome {
                        self.failed = true;
                        return Some(Err(error));
                    }
                }
            }
        }
    }

    async fn attempt(&mut self) -> Result<Option<ObjectMeta>, StoreError> {
        let (store, prefix) = (self.store.clone(), self.prefix.clone());
        if self.open.is_none() {
            // Counted and timed by the first page; object_store fetches the others as they are needed.
            let began = self.begin();
            self.open = Some(store.attempt(Operation::List, prefix.as_str(), 0, began).await?);
        }
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let next = tokio::time::timeout(store.0.options.attempt, open.next()).await;
        let message = || format!("no answer within {:?}", store.0.options.attempt);
        let key = || prefix.as_str().to_owned();
        match next {
            Ok(item) => {
                item.transpose().map_err(|error| error::classify(Operation::List, prefix.as_str(), error))
            }
            Err(_) => {
                Err(StoreError::Unavailable { operation: Operation::List, key: key(), message: message() })
            }
        }
    }

    /// Opens the stream and waits for its first item. A bucket lists in order; a folder does not and is small enough to sort.
    async fn begin(&mut self) -> object_store::Result<BoxStream<'static, object_store::Result<ObjectMeta>>> {
        let objects = &self.store.0.objects;
        let items = match &self.after {
            Some(after) => objects.list_with_offset(Some(self.prefix.path()), after.path()),
            None => objects.list(Some(self.prefix.path())),
        };
        // object_store's listings panic when asked again after their end.
        let mut items = items.fuse();
        if !matches!(self.store.0.location, Location::S3(_)) {
            let mut all = Vec::new();
            while let Some(item) = items.next().await {
                all.push(item?);
            }
            all.sort_by(|a, b| a.location.cmp(&b.location));
            return Ok(stream::iter(all).map(Ok).boxed());
        }
        let first = items.next().await.transpose()?;
        Ok(stream::iter(first).map(Ok).chain(items).boxed())
    }
}

pub(super) fn facts(meta: ObjectMeta) -> ObjectFacts {
    ObjectFacts {
        key: Key::from_path(meta.location),
        size: ByteCount(meta.size),
        modified: Timestamp(meta.last_modified.timestamp_millis()),
    }
}
