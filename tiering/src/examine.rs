//! Is a segment in the bucket what was uploaded? Its footer and indexes, and every byte of its log.
//!
//! Asked by the broker's scrub, at its pace, and by `tier verify`. Nothing of it goes through the readers' cache: what is looked
//! at is what the bucket holds now.

use aquifer_model::{ByteCount, TopicPartition};
use aquifer_runtime::pace::Pace;

use crate::manifest::Entry;
use crate::object::SegmentIndex;
use crate::object::scan::Scan;
use crate::read::ReadError;
use crate::read::index::read_index;
use crate::store::{Store, StoreError};

/// How much of a log is read at once.
const READ_BYTES: u64 = 8 << 20;

/// What is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault(pub(crate) String);

/// What reading a log showed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Counted {
    pub(crate) bytes: u64,
    pub(crate) batches: u64,
}

/// Reads a segment's footer and indexes. The outer error is the store's, the inner one the object's.
pub(crate) async fn tail(
    store: &Store,
    partition: TopicPartition,
    entry: &Entry,
) -> Result<Result<SegmentIndex, Fault>, ReadError> {
    let index = match read_index(store, entry).await {
        Ok(index) => index,
        Err(error @ (ReadError::Unavailable { .. } | ReadError::Stopping)) => return Err(error),
        Err(error) => return Ok(Err(Fault(error.to_string()))),
    };
    if index.partition != partition {
        return Ok(Err(Fault(format!("the object is one of {}", index.partition))));
    }
    Ok(Ok(index))
}

/// Reads a segment's log. The outer error is the store's, the inner one the object's.
pub(crate) async fn log(
    store: &Store,
    entry: &Entry,
    index: &SegmentIndex,
    pace: &mut Pace,
    counted: &mut Counted,
) -> Result<Result<(), Fault>, StoreError> {
    let log_bytes = entry.segment.log_bytes.get();
    let mut scan = Scan::new(entry.range(), entry.segment.epochs.clone(), ByteCount::mib(1));
    let mut at = 0;
    while at < log_bytes {
        let count = READ_BYTES.min(log_bytes - at);
        let start = entry.position + at;
        let bytes = store.get_range(&entry.object, start..start + count).await?;
        if let Err(error) = scan.feed(&bytes) {
            return Ok(Err(Fault(error.to_string())));
        }
        at += count;
        counted.bytes += count;
        pace.spent(ByteCount(count)).await;
    }
    Ok(match scan.finish() {
        Err(error) => Err(Fault(error.to_string())),
        Ok(scanned) if scanned.log_crc != entry.log_crc || scanned.block_crcs != index.block_crcs => {
            Err(Fault("the log has a wrong checksum".to_owned()))
        }
        Ok(scanned) => {
            counted.batches += scanned.batches;
            Ok(())
        }
    })
}
