//! What is encoded is what is decoded: every message, every version.

use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};

use super::encoded;
use crate::sample::{Sample, Sampler, Visitor, every_message};
use crate::{EncodeError, Message, Reader};

struct RoundTrip;

impl Visitor for RoundTrip {
    fn visit<M: Message + Sample>(&mut self) {
        for version in M::VERSIONS.iter() {
            let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(64) });
            let result = runner.run(&vec(any::<u8>(), 0..600), |random| {
                let message = M::sample(&mut Sampler::new(&random), version);
                let mut reader =
                    Reader::new(encoded(&message, version).expect("a sample is valid in its version"));
                assert_eq!(M::decode(&mut reader, version).as_ref(), Ok(&message));
                assert_eq!(reader.expect_end(), Ok(()));
                Ok(())
            });
            result.unwrap_or_else(|failure| panic!("{} version {version}: {failure}", M::NAME));
        }
    }
}

#[test]
fn a_message_survives_encoding_and_decoding() {
    every_message(&mut RoundTrip);
}

struct Unsupported;

impl Visitor for Unsupported {
    fn visit<M: Message + Sample>(&mut self) {
        for version in [-1, M::VERSIONS.min - 1, M::VERSIONS.max + 1, i16::MAX] {
            let refused = EncodeError::UnsupportedVersion { message: M::NAME, version };
            assert_eq!(encoded(&M::default(), version), Err(refused));
            assert!(M::decode(&mut Reader::new([0; 64].as_slice().into()), version).is_err());
        }
    }
}

#[test]
fn a_version_beyond_the_schema_is_refused() {
    every_message(&mut Unsupported);
}
