//! What decoding and encoding allocate, counted by an allocator of our own: little for what is honest, no more for what is not.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;

use super::for_any;
use crate::messages::fetch::{FetchRequest, FetchResponse, FetchableTopicResponse, PartitionData};
use crate::messages::metadata::MetadataRequest;
use crate::messages::produce::{PartitionProduceData, ProduceRequest, TopicProduceData};
use crate::sample::{Sample, Visitor, every_message};
use crate::{DecodeError, Message, Piece, Reader, Records, Writer, frame};

const MIB: usize = 1024 * 1024;

thread_local! {
    static ALLOCATIONS: Cell<Allocations> = const { Cell::new(Allocations { count: 0, bytes: 0 }) };
}

#[derive(Clone, Copy, Debug)]
struct Allocations {
    count: usize,
    bytes: usize,
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: the system's allocator does the work; counting touches a thread-local cell that never allocates.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|cell| {
            let Allocations { count, bytes } = cell.get();
            cell.set(Allocations { count: count + 1, bytes: bytes + layout.size() });
        });
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }
}

/// Runs it, and says what this thread allocated meanwhile.
fn counted<T>(run: impl FnOnce() -> T) -> (T, Allocations) {
    let before = ALLOCATIONS.get();
    let value = run();
    let after = ALLOCATIONS.get();
    (value, Allocations { count: after.count - before.count, bytes: after.bytes - before.bytes })
}

#[test]
fn six_bytes_cannot_ask_for_154_gigabytes() {
    let body = Bytes::from_static(&[0x7f, 0xff, 0xff, 0xff, 0, 0]);
    let (result, allocated) = counted(|| MetadataRequest::decode(&mut Reader::new(body), 1));
    assert_eq!(result, Err(DecodeError::ArrayBeyondFrame { at: 0, length: i32::MAX as usize, left: 2 }));
    assert_eq!(allocated.bytes, 0);
}

#[test]
fn a_million_and_one_elements_are_too_many() {
    let count = 1_000_001_i32;
    let body = [&count.to_be_bytes()[..], &vec![0; 2 * MIB]].concat();
    let mut reader = Reader::new(body.into());
    let (result, allocated) = counted(|| MetadataRequest::decode(&mut reader, 1));
    assert_eq!(result, Err(DecodeError::ArrayTooLong { at: 0, length: 1_000_001 }));
    assert_eq!(allocated.bytes, 0);
}

#[test]
fn an_array_that_breaks_off_has_reserved_little() {
    // A count that the frame could hold, but its second element is not what it should be.
    let body = [&900_000_i32.to_be_bytes()[..], &[0, 1, b'a', 0x80, 0], &vec![0; 4 * MIB]].concat();
    let mut reader = Reader::new(body.into());
    let (result, allocated) = counted(|| MetadataRequest::decode(&mut reader, 1));
    assert_eq!(result, Err(DecodeError::NegativeLength { at: 7, length: -0x8000 }));
    assert!(allocated.bytes <= 128 * 1024, "{allocated:?}");
}

struct Garbage;

impl Visitor for Garbage {
    fn visit<M: Message + Sample>(&mut self) {
        for version in M::VERSIONS.iter() {
            for_any(M::NAME, version, |random| {
                // Lengths that promise much, now and then.
                let body: Vec<u8> =
                    random.iter().map(|byte| if byte % 3 == 0 { 0x7f } else { byte % 3 }).collect();
                let mut reader = Reader::new(body.into());
                let (_, allocated) = counted(|| M::decode(&mut reader, version));
                assert!(allocated.bytes <= 512 * 1024, "{allocated:?}");
            });
        }
    }
}

#[test]
fn garbage_makes_nobody_allocate() {
    every_message(&mut Garbage);
}

fn produce_request(batch: &Bytes) -> ProduceRequest {
    let partition = PartitionProduceData { index: 3, records: Records::from(batch.clone()) };
    let topic =
        TopicProduceData { name: "rivers".into(), partition_data: vec![partition], ..Default::default() };
    ProduceRequest { acks: -1, timeout_ms: 30_000, topic_data: vec![topic], ..Default::default() }
}

#[test]
fn decoding_a_produce_of_a_mebibyte_copies_nothing() {
    let batch = Bytes::from(vec![7; MIB]);
    let body = super::encoded(&produce_request(&batch), 11).expect("encodes");
    let frame = body.clone();
    let (request, allocated) = counted(|| ProduceRequest::decode(&mut Reader::new(body), 11));
    let records = &request.expect("decodes").topic_data[0].partition_data[0].records;
    assert_eq!(records.pieces(), [Piece::Here(batch)]);
    let decoded = records.pieces()[0].here().expect("it came in the frame").as_ptr_range();
    assert!(frame.as_ptr_range().start <= decoded.start && decoded.end <= frame.as_ptr_range().end);
    assert!(allocated.count <= 3 && allocated.bytes <= 1024, "{allocated:?}");
}

#[test]
fn encoding_a_fetch_of_two_mebibytes_copies_nothing() {
    let slices = [Bytes::from(vec![1; MIB]), Bytes::from(vec![2; MIB])];
    let partition = PartitionData {
        high_watermark: 9,
        records: Records::from(slices.clone().map(Piece::Here).to_vec()),
        ..Default::default()
    };
    let topic =
        FetchableTopicResponse { topic: "rivers".into(), partitions: vec![partition], ..Default::default() };
    let response = FetchResponse { responses: vec![topic], ..Default::default() };

    let (segments, allocated) = counted(|| frame::encode_response(&response, 12, 5));
    let segments = segments.expect("encodes");
    let sent = segments.pieces().iter().map(|piece| piece.here().expect("all is here").as_ptr());
    let sent: Vec<*const u8> = sent.collect();
    assert_eq!(sent.len(), 4, "head, batch, batch, tail");
    assert_eq!(sent[1..3], [slices[0].as_ptr(), slices[1].as_ptr()]);
    assert!(allocated.count <= 5 && allocated.bytes <= 2048, "{allocated:?}");

    let received = frame::decode_response::<FetchRequest>(segments.into_bytes().slice(4..), 12);
    assert_eq!(received, Ok(response));
}

#[test]
fn a_response_without_records_is_one_segment() {
    let mut writer = Writer::frame();
    FetchResponse::default().encode(&mut writer, 12).expect("encodes");
    assert_eq!(writer.finish().expect("short").pieces().len(), 1);
}
