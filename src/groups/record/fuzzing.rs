//! What fuzzing does with the records of `__consumer_offsets`.

use aquifer_model::batch::HEADER_BYTES;
use bytes::Bytes;

use super::Record;

/// Inputs that come far: the length of a key, the key, the value. One of each kind, as the golden bytes in the tests have them.
pub(crate) const RECORDS: &[&str] = &[
    "0c0001000167000174000000070003000000000000002a0000000300016d00000000000003e8",
    "05000200016700030000000000050000000000000000000007d000000000",
    "0500030001670000000000070100080000000000000102",
    "05000400016700000100",
    "08000500016700016d00000269000263032f68030274027504742e2a0000ea600672616e676500",
    "08000500016700016d00000269000263010100000000000001001b0100002710030672616e6765040102030007737469636b79010000",
    "05000600016700000000000700",
    "08000700016700016d0000020000000000000000000000000000000a0300000001000000030000",
    "08000800016700016d0000000000050000000401020000000000000000000000000000000a0300000001000000030100090300000004000000050100",
    "0a00100001670003742e2a0000020274000000000000000000000000000003e800",
];

/// What is read is written as what is read again, and as no more than was said before.
pub(crate) fn record(bytes: &[u8]) {
    let [length, bytes @ ..] = bytes else { return };
    let (key, value) = bytes.split_at(usize::from(*length).min(bytes.len()));
    let value = (!value.is_empty()).then(|| Bytes::copy_from_slice(value));
    let Ok(Some(record)) = Record::parse(Bytes::copy_from_slice(key), value) else { return };
    let (Ok(key), Ok(value)) = (record.key(), record.value()) else { return };
    let bytes = HEADER_BYTES + key.len() + value.as_ref().map_or(0, Bytes::len);
    assert!(record.batch_bytes_max() >= bytes, "{record:?}");
    let again = Record::parse(key, value).expect("what was written here can be read");
    assert_eq!(again, Some(record));
}
