//! What fuzz targets do with messages, and what they start from; requests of every API for whoever speaks to a broker.

use bytes::Bytes;

use crate::sample::{RequestVisitor, Sample, Sampler, Visitor, every_message, every_request};
use crate::{ApiKey, DecodeError, EncodeError, Message, Reader, Request, Str, VersionRange, Writer, frame};

/// A message of the kind that the first byte chooses, requests and responses alike, in the version that the second does:
/// decoding the rest ends, and what it gives is encoded to bytes that decode to the same.
///
/// # Panics
/// If it does not.
pub fn message(bytes: &[u8]) {
    let [kind, version, body @ ..] = bytes else { return };
    let mut kinds = Count(0);
    every_message(&mut kinds);
    let (kind, version) = (usize::from(*kind) % kinds.0, usize::from(*version));
    every_message(&mut Chosen { kind, seen: 0, version, body: Bytes::copy_from_slice(body) });
}

/// One input for each kind in each version: a value with something in every field.
pub fn messages() -> Vec<Vec<u8>> {
    let mut seeds = Seeds::default();
    every_message(&mut seeds);
    seeds.made
}

/// An API without its types: makes requests, and knows what they are answered by.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    pub key: ApiKey,
    pub versions: VersionRange,
    /// A frame with a request in a version, under a correlation id, whose fields follow from random bytes. Without any, all of them
    /// are zero, empty or null.
    pub request: fn(i16, i32, &[u8]) -> Result<Bytes, EncodeError>,
    /// Whether a frame, without its length, is an answer to that request in that version, to the last byte.
    pub check: fn(Bytes, i16) -> Result<(), DecodeError>,
}

/// One for each API, in order of key.
pub fn probes() -> Vec<Probe> {
    let mut probes = Probes(Vec::new());
    every_request(&mut probes);
    probes.0
}

struct Probes(Vec<Probe>);

impl RequestVisitor for Probes {
    fn visit<R: Request + Sample>(&mut self) {
        let (request, check) = (probe::<R>, check_answer::<R>);
        self.0.push(Probe { key: R::KEY, versions: R::VERSIONS, request, check });
    }
}

fn probe<R: Request + Sample>(
    version: i16,
    correlation_id: i32,
    random: &[u8],
) -> Result<Bytes, EncodeError> {
    let request = R::sample(&mut Sampler::new(random), version);
    let client_id = Some(Str::from_static("probe"));
    Ok(frame::encode_request(&request, version, correlation_id, client_id)?.into_bytes())
}

fn check_answer<R: Request>(body: Bytes, version: i16) -> Result<(), DecodeError> {
    frame::decode_response::<R>(body, version).map(drop)
}

struct Count(usize);

impl Visitor for Count {
    fn visit<M: Message + Sample>(&mut self) {
        self.0 += 1;
    }
}

struct Chosen {
    kind: usize,
    seen: usize,
    version: usize,
    body: Bytes,
}

impl Visitor for Chosen {
    fn visit<M: Message + Sample>(&mut self) {
        if self.kind == self.seen {
            let versions: Vec<i16> = M::VERSIONS.iter().collect();
            round_trip::<M>(&self.body, versions[self.version % versions.len()]);
        }
        self.seen += 1;
    }
}

fn round_trip<M: Message>(body: &Bytes, version: i16) {
    let Ok(message) = M::decode(&mut Reader::new(body.clone()), version) else { return };
    let first = encoded(&message, version).expect("what was decoded can be encoded");
    let again = M::decode(&mut Reader::new(first.clone()), version).expect("what was encoded can be decoded");
    // Bytes rather than values: a float that is no number does not equal itself.
    assert_eq!(encoded(&again, version), Ok(first), "{} version {version}", M::NAME);
}

fn encoded<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::bare();
    message.encode(&mut writer, version)?;
    Ok(writer.finish()?.into_bytes())
}

#[derive(Default)]
struct Seeds {
    kinds: u8,
    made: Vec<Vec<u8>>,
}

impl Visitor for Seeds {
    fn visit<M: Message + Sample>(&mut self) {
        // Any bytes will do that are neither all the same nor of a short period.
        let choices: Vec<u8> = (1..200u8).map(|place| place.wrapping_mul(place) ^ self.kinds).collect();
        for (index, version) in (0u8..).zip(M::VERSIONS.iter()) {
            let message = M::sample(&mut Sampler::new(&choices), version);
            let body = encoded(&message, version).expect("a sample is valid in its version");
            self.made.push([&[self.kinds, index][..], &body].concat());
        }
        self.kinds += 1;
    }
}
