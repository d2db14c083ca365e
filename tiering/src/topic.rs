//! The record of a topic: name, configuration, life.
//!
//! What a restore needs besides the data, and what keeps a deleted topic from coming back. Each change is a new object whose
//! name carries (incarnation, revision); the highest is the truth, so a late write by a deposed controller changes nothing.
//! Older revisions are removed after a newer one is there; a crash in between leaves them, unread, to the next change.

use aquifer_model::format::{Format, FormatError, Tags, Writer};
use aquifer_model::{ByteCount, TopicId, TopicName};
use bytes::Bytes;
use futures::TryStreamExt as _;

use crate::cluster::Incarnation;
use crate::path::{self, Key};
use crate::store::{Store, StoreError};

const RECORD: Format = Format { name: "topic record", magic: *b"AQTR", version: 1 };
const RECORD_BYTES_MAX: ByteCount = ByteCount::mib(1);

/// Whether a topic lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopicState {
    /// It does.
    Live,
    /// It was deleted, and stays so.
    Deleted,
}

/// A topic, as a restore would make it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicRecord {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// How many partitions it has.
    pub partitions: u32,
    /// The configuration set on it, by key.
    pub configs: Vec<(String, String)>,
    /// Whether it lives.
    pub state: TopicState,
    /// Rises with each change: the position of the change in the cluster's metadata log.
    pub revision: u64,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// It makes no sense.
    #[error("{key}: {source}")]
    Format {
        /// Its key.
        key: String,
        /// What is wrong.
        source: FormatError,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl TopicRecord {
    /// The record's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Writer::new();
        body.uuid(self.id.uuid());
        body.string(&self.name);
        body.u32(self.partitions);
        body.list(&self.configs, |body, (key, value)| {
            body.string(key);
            body.string(value);
        });
        body.u8(match self.state {
            TopicState::Live => 0,
            TopicState::Deleted => 1,
        });
        body.u64(self.revision);
        body.tags(&Tags::default());
        RECORD.seal(&body.finish())
    }

    /// Reads what [`TopicRecord::encode`] wrote.
    pub fn decode(bytes: &[u8]) -> Result<TopicRecord, FormatError> {
        let (_, body) = RECORD.open(bytes)?;
        let mut body = RECORD.reader(body);
        let record = TopicRecord {
            id: TopicId::new(body.uuid()?),
            name: TopicName::new(body.string()?).map_err(|_| RECORD.invalid("the name is no topic name"))?,
            partitions: body.u32()?,
            configs: body.list(2, |body| Ok((body.string()?.to_owned(), body.string()?.to_owned())))?,
            state: match body.u8()? {
                0 => TopicState::Live,
                1 => TopicState::Deleted,
                _ => return Err(RECORD.invalid("the state is unknown")),
            },
            revision: body.u64()?,
        };
        // Each revision is written whole by whoever knows all of it, so unknown fields are not carried over.
        body.tags(&[])?;
        body.end()?;
        Ok(record)
    }
}

/// Writes a revision. Repeating it is harmless.
pub async fn record(store: &Store, incarnation: Incarnation, record: &TopicRecord) -> Result<(), StoreError> {
    let key = path::topic_revision(record.id, incarnation.0, record.revision);
    store.put(&key, vec![Bytes::from(record.encode())]).await?;
    let all: Vec<_> = store.list(&path::topic(record.id), None).try_collect().await?;
    let older: Vec<Key> = all.into_iter().map(|facts| facts.key).filter(|other| *other < key).collect();
    store.delete(older).await
}

/// The newest record of a topic.
pub async fn read(store: &Store, id: TopicId) -> Result<Option<TopicRecord>, TopicError> {
    let all: Vec<_> = store.list(&path::topic(id), None).try_collect().await?;
    let Some(newest) = all.iter().rev().find(|facts| path::parse_topic_revision(&facts.key).is_some()) else {
        return Ok(None);
    };
    let bytes = store.get(&newest.key, RECORD_BYTES_MAX).await?;
    let record = TopicRecord::decode(&bytes);
    record.map(Some).map_err(|source| TopicError::Format { key: newest.key.to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_record_keeps_its_bytes() {
        let record = TopicRecord {
            id: TopicId::new(Uuid::from_u128(1)),
            name: TopicName::new("orders").unwrap(),
            partitions: 4,
            configs: vec![("retention.ms".into(), "-1".into())],
            state: TopicState::Deleted,
            revision: 9,
        };
        let bytes = record.encode();
        assert_eq!(TopicRecord::decode(&bytes), Ok(record));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        // What is in buckets already must be read for ever: these bytes never change.
        assert_eq!(hex, include_str!("../tests/golden/topic-1.hex").trim());

        use aquifer_model::fuzzing::{of_next_version, with_unknown_field};
        let format = "topic record";
        assert!(TopicRecord::decode(&with_unknown_field(&bytes, false)).is_ok());
        let required = TopicRecord::decode(&with_unknown_field(&bytes, true));
        assert_eq!(required, Err(FormatError::RequiredField { format, tag: 100 }));
        let newer = TopicRecord::decode(&of_next_version(&bytes));
        assert_eq!(newer, Err(FormatError::Version { format, found: 2, known: 1 }));
    }
}
