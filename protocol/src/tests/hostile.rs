//! No bytes make decoding panic, and nothing that was cut short passes for whole.

use super::{encoded, for_any};
use crate::sample::{Sample, Sampler, Visitor, every_message};
use crate::{Message, Reader};

struct Garbage;

impl Visitor for Garbage {
    fn visit<M: Message + Sample>(&mut self) {
        for version in M::VERSIONS.iter() {
            for_any(M::NAME, version, |random| {
                let _ = M::decode(&mut Reader::new(random.to_vec().into()), version);
            });
        }
    }
}

#[test]
fn garbage_gives_an_error_or_a_value() {
    every_message(&mut Garbage);
}

struct Mutated;

impl Visitor for Mutated {
    fn visit<M: Message + Sample>(&mut self) {
        for version in M::VERSIONS.iter() {
            for_any(M::NAME, version, |random| {
                let (edits, random) = random.split_at(random.len().min(16));
                let message = M::sample(&mut Sampler::new(random), version);
                let mut bytes =
                    encoded(&message, version).expect("a sample is valid in its version").to_vec();
                for edit in edits.chunks_exact(4) {
                    let place = usize::from(u16::from_be_bytes([edit[0], edit[1]])) % (bytes.len() + 1);
                    match edit[2] % 3 {
                        0 => bytes.insert(place, edit[3]),
                        1 => bytes.truncate(place),
                        _ => bytes[place.saturating_sub(1)..]
                            .iter_mut()
                            .take(1)
                            .for_each(|byte| *byte = edit[3]),
                    }
                }
                let _ = M::decode(&mut Reader::new(bytes.into()), version);
            });
        }
    }
}

#[test]
fn a_damaged_message_gives_an_error_or_a_value() {
    every_message(&mut Mutated);
}

struct CutShort;

impl Visitor for CutShort {
    fn visit<M: Message + Sample>(&mut self) {
        for version in M::VERSIONS.iter() {
            for_any(M::NAME, version, |random| {
                let message = M::sample(&mut Sampler::new(random), version);
                let bytes = encoded(&message, version).expect("a sample is valid in its version");
                let cut = random.first().copied().unwrap_or_default();
                for length in [0, bytes.len().saturating_sub(1), usize::from(cut) % bytes.len().max(1)] {
                    let result = M::decode(&mut Reader::new(bytes.slice(..length)), version);
                    assert!(result.is_err() || length == bytes.len(), "{length} of {} bytes", bytes.len());
                }
            });
        }
    }
}

#[test]
fn a_message_cut_short_is_an_error() {
    every_message(&mut CutShort);
}
