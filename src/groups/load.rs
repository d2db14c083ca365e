//! A book, read from its partition of `__consumer_offsets`.

use std::sync::Arc;

use aquifer_model::batches::{Batches, Located};
use aquifer_model::compression::Compression;
use aquifer_model::{ByteCount, Offset, record};
use aquifer_runtime::World;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::book::Book;
use super::effects::Now;
use super::metrics::GroupMetrics;
use super::record::{Record, RecordError};
use crate::log::AtLeast;
use crate::replica::Replica;
use crate::replica::error::ReadError;
use crate::replica::read::{Found, Isolation, ReadRequest};

/// Of the log, at a time.
const CHUNK: ByteCount = ByteCount::mib(4);
/// What a batch of records may come to, uncompressed; ours are not compressed, those of a copied topic may be.
const BATCH_BYTES_MAX: usize = 256 << 20;

/// Why a partition cannot be read.
#[derive(Debug, thiserror::Error)]
pub(super) enum LoadError {
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It lies in the bucket, where groups are not looked for.
    #[error("the records from offset {0} on are not on the local disk")]
    NotLocal(Offset),
    #[error("the batch at offset {0} cannot be read: {1}")]
    Batch(Offset, String),
}

/// Reads all that is acknowledged from `from` on into the book, and gives where it ends; less once it is cancelled.
pub(super) async fn load(
    replica: &Arc<Replica>,
    book: &mut Book,
    from: Offset,
    world: &World,
    metrics: &GroupMetrics,
    cancelled: &CancellationToken,
) -> Result<Offset, LoadError> {
    let mut next = from.max(replica.log().offsets().start);
    loop {
        let request = ReadRequest {
            offset: next.get(),
            bytes_max: CHUNK,
            at_least: AtLeast::OneBatch,
            isolation: Isolation::ReadUncommitted,
        };
        let batches = match replica.read::<Bytes>(request).await? {
            Found::Hot(batches) => batches,
            Found::Cold(_) => return Err(LoadError::NotLocal(next)),
        };
        if batches.size() == 0 || cancelled.is_cancelled() {
            return Ok(next);
        }
        let now = Now { at: world.clock.now(), wall: world.clock.wall() };
        for slice in batches.slices {
            for located in Batches::new(&slice) {
                if located.header.base_offset >= next {
                    take(book, &slice, &located, now, metrics)?;
                }
                next = next.max(located.header.next_offset());
            }
        }
        tokio::task::yield_now().await;
    }
}

fn take(
    book: &mut Book,
    slice: &Bytes,
    located: &Located,
    now: Now,
    metrics: &GroupMetrics,
) -> Result<(), LoadError> {
    let header = &located.header;
    let unreadable = |error: &dyn std::fmt::Display| LoadError::Batch(header.base_offset, error.to_string());
    if header.is_control() {
        return Ok(());
    }
    let body =
        slice.slice(located.position + aquifer_model::batch::HEADER_BYTES..located.position + header.size());
    let body = match header.compression() {
        Compression::None => body,
        compression => {
            compression.decompress(&body, BATCH_BYTES_MAX).map_err(|error| unreadable(&error))?.into()
        }
    };
    for stored in record::read(header, &body).map_err(|error| unreadable(&error))? {
        // Kafka's own records all have keys; what has none was written by somebody else, and says nothing here.
        let Some(key) = stored.key else { continue };
        match Record::parse(key, stored.value) {
            Ok(Some(record)) => book.replay(record, now),
            Ok(None) => {}
            // It means something, and to go on without it would be to serve less than was stored.
            Err(error @ RecordError::Version { .. }) => return Err(unreadable(&error)),
            // It never meant anything here; whoever wrote it must not keep all groups of the partition from being served.
            Err(RecordError::Decode(error)) => {
                metrics.records_skipped.inc();
                tracing::warn!(
                    batch = %header.base_offset,
                    %error,
                    "a record of __consumer_offsets cannot be read and is passed over"
                );
            }
        }
    }
    Ok(())
}
