//! Answers to Produce and Fetch, read where they lie: no list is made of what is in them.
//!
//! An answer that says no more than that all is well costs no allocation. One that tells of an error is decoded again as a
//! whole by whoever wants the broker's words.

use aquifer_protocol::messages::fetch::FetchRequest;
use aquifer_protocol::messages::produce::ProduceRequest;
use aquifer_protocol::{DecodeError, ErrorCode, Message, Reader, Request, frame};
use bytes::Bytes;

/// The first versions with the fields of these names.
mod since {
    pub(super) const TOPIC_ID: i16 = 13;
    pub(super) const PRODUCE_APPEND_TIME: i16 = 2;
    pub(super) const PRODUCE_LOG_START: i16 = 5;
    pub(super) const PRODUCE_RECORD_ERRORS: i16 = 8;
    pub(super) const PRODUCE_THROTTLE: i16 = 1;
    pub(super) const FETCH_LOG_START: i16 = 5;
    pub(super) const FETCH_SESSION: i16 = 7;
    pub(super) const FETCH_PREFERRED: i16 = 11;
}

/// Bytes that an element of any list here has at least.
const ELEMENT_BYTES_MIN: usize = 1;

/// What became of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Produced {
    pub(super) partition: i32,
    pub(super) error: ErrorCode,
    /// Means nothing beside an error.
    pub(super) base_offset: i64,
}

/// What there is of a partition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Fetched {
    pub(super) partition: i32,
    pub(super) error: ErrorCode,
    pub(super) high_watermark: i64,
    /// -1 from brokers that do not say.
    pub(super) log_start: i64,
    /// Whole batches, and perhaps a part of one.
    pub(super) records: Bytes,
}

/// Reads an answer to Produce; gives its correlation id.
pub(super) fn produced(
    body: Bytes,
    version: i16,
    mut each: impl FnMut(Produced),
) -> Result<i32, DecodeError> {
    let (mut reader, correlation_id, flexible) = begin::<ProduceRequest>(body, version)?;
    reader.array(flexible, ELEMENT_BYTES_MIN, |reader| {
        skip_topic(reader, version, flexible)?;
        reader.array(flexible, ELEMENT_BYTES_MIN, |reader| {
            let (partition, error) = (reader.i32()?, reader.error_code()?);
            each(Produced { partition, error, base_offset: reader.i64()? });
            if version >= since::PRODUCE_APPEND_TIME {
                reader.i64()?;
            }
            if version >= since::PRODUCE_LOG_START {
                reader.i64()?;
            }
            if version >= since::PRODUCE_RECORD_ERRORS {
                reader.array(flexible, ELEMENT_BYTES_MIN, |reader| {
                    reader.i32()?;
                    reader.nullable_string(flexible)?;
                    end(reader, flexible)
                })?;
                reader.nullable_string(flexible)?;
            }
            end(reader, flexible)
        })?;
        end(reader, flexible)
    })?;
    if version >= since::PRODUCE_THROTTLE {
        reader.i32()?;
    }
    end(&mut reader, flexible)?;
    reader.expect_end()?;
    Ok(correlation_id)
}

/// Reads an answer to Fetch; gives its correlation id and the error of the whole.
pub(super) fn fetched(
    body: Bytes,
    version: i16,
    mut each: impl FnMut(Fetched),
) -> Result<(i32, ErrorCode), DecodeError> {
    let (mut reader, correlation_id, flexible) = begin::<FetchRequest>(body, version)?;
    reader.i32()?;
    let mut error = ErrorCode::NONE;
    if version >= since::FETCH_SESSION {
        error = reader.error_code()?;
        reader.i32()?;
    }
    reader.array(flexible, ELEMENT_BYTES_MIN, |reader| {
        skip_topic(reader, version, flexible)?;
        reader.array(flexible, ELEMENT_BYTES_MIN, |reader| {
            let (partition, error, high_watermark) = (reader.i32()?, reader.error_code()?, reader.i64()?);
            reader.i64()?;
            let log_start = if version >= since::FETCH_LOG_START { reader.i64()? } else { -1 };
            reader.nullable_array(flexible, ELEMENT_BYTES_MIN, |reader| {
                reader.i64()?;
                reader.i64()?;
                end(reader, flexible)
            })?;
            if version >= since::FETCH_PREFERRED {
                reader.i32()?;
            }
            let records = reader.nullable_bytes(flexible)?.unwrap_or_default();
            each(Fetched { partition, error, high_watermark, log_start, records });
            end(reader, flexible)
        })?;
        end(reader, flexible)
    })?;
    end(&mut reader, flexible)?;
    reader.expect_end()?;
    Ok((correlation_id, error))
}

fn begin<R: Request>(body: Bytes, version: i16) -> Result<(Reader, i32, bool), DecodeError> {
    let flexible = <R as Message>::FLEXIBLE_FROM.is_some_and(|from| version >= from);
    let mut reader = Reader::new(body);
    let correlation_id = reader.i32()?;
    if frame::response_header_version(R::KEY, version) >= 1 {
        reader.skip_tagged_fields()?;
    }
    Ok((reader, correlation_id, flexible))
}

/// There is one topic, the one that was asked for.
fn skip_topic(reader: &mut Reader, version: i16, flexible: bool) -> Result<(), DecodeError> {
    match version >= since::TOPIC_ID {
        true => reader.uuid().map(drop),
        false => reader.string(flexible).map(drop),
    }
}

fn end(reader: &mut Reader, flexible: bool) -> Result<(), DecodeError> {
    if flexible { reader.skip_tagged_fields() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use aquifer_protocol::messages::fetch::{
        AbortedTransaction, EpochEndOffset, FetchResponse, FetchableTopicResponse, PartitionData,
    };
    use aquifer_protocol::messages::produce::{
        BatchIndexAndErrorMessage, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
    };

    use super::*;
    use crate::cli::bench::tests::topic;

    fn body(segments: aquifer_protocol::Segments) -> Bytes {
        segments.into_bytes().slice(4..)
    }

    #[test]
    fn an_answer_to_produce_is_read_as_the_protocol_writes_it() {
        let topic = topic("t", 1);
        for version in 3..=13 {
            let one = |index: i32, error_code| PartitionProduceResponse {
                index,
                error_code,
                base_offset: i64::from(index) << 33,
                record_errors: vec![BatchIndexAndErrorMessage {
                    batch_index: 1,
                    batch_index_error_message: Some("no".into()),
                }],
                error_message: Some("because".into()),
                ..Default::default()
            };
            let answer = ProduceResponse {
                responses: vec![TopicProduceResponse {
                    name: topic.name.clone(),
                    topic_id: topic.id,
                    partition_responses: vec![one(4, ErrorCode::NONE), one(1, ErrorCode::INVALID_RECORD)],
                }],
                throttle_time_ms: 7,
                ..Default::default()
            };
            let body = body(frame::encode_response(&answer, version, 9).unwrap());
            let mut found = Vec::new();
            assert_eq!(produced(body.clone(), version, |one| found.push(one)), Ok(9));
            let expected =
                [(4, ErrorCode::NONE), (1, ErrorCode::INVALID_RECORD)].map(|(partition, error)| Produced {
                    partition,
                    error,
                    base_offset: i64::from(partition) << 33,
                });
            assert_eq!(found, expected, "version {version}");
            produced(body.slice(..body.len() - 1), version, |_| {}).unwrap_err();
        }
    }

    #[test]
    fn an_answer_to_fetch_is_read_as_the_protocol_writes_it() {
        let topic = topic("t", 1);
        for version in 4..=17 {
            let one = |partition_index: i32, records: &'static [u8]| PartitionData {
                partition_index,
                error_code: ErrorCode::NOT_LEADER_OR_FOLLOWER,
                high_watermark: 5,
                log_start_offset: if version >= 5 { 3 } else { -1 },
                aborted_transactions: Some(vec![AbortedTransaction { producer_id: 1, first_offset: 2 }]),
                diverging_epoch: EpochEndOffset { epoch: if version >= 12 { 4 } else { -1 }, end_offset: -1 },
                records: Bytes::from_static(records).into(),
                ..Default::default()
            };
            let answer = FetchResponse {
                error_code: ErrorCode::NONE,
                responses: vec![FetchableTopicResponse {
                    topic: topic.name.clone(),
                    topic_id: topic.id,
                    partitions: vec![one(4, b""), one(1, &[3; 5000])],
                }],
                ..Default::default()
            };
            let body = body(frame::encode_response(&answer, version, 9).unwrap());
            let mut found = Vec::new();
            let head = fetched(body.clone(), version, |one| found.push(one));
            assert_eq!(head, Ok((9, ErrorCode::NONE)), "version {version}");
            let expected = [(4, 0), (1, 5000)].map(|(partition, length)| Fetched {
                partition,
                error: ErrorCode::NOT_LEADER_OR_FOLLOWER,
                high_watermark: 5,
                log_start: if version >= 5 { 3 } else { -1 },
                records: Bytes::from(vec![3; length]),
            });
            assert_eq!(found, expected, "version {version}");
            fetched(body.slice(..body.len() - 1), version, |_| {}).unwrap_err();
        }
    }
}
