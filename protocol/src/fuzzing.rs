//! What fuzz targets do with messages, and what they start from.

use bytes::Bytes;

use crate::sample::{Sample, Sampler, Visitor, every_message};
use crate::{EncodeError, Message, Reader, Writer};

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
