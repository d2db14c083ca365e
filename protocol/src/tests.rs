//! What holds of every message, in every version.

mod differential;
mod golden;
mod hostile;
mod memory;
mod nulls;
mod round_trip;

use bytes::Bytes;
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::test_runner::{Config, TestRunner};

use crate::{EncodeError, Message, Writer};

/// The body alone, in one piece.
fn encoded<M: Message>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::bare();
    message.encode(&mut writer, version)?;
    Ok(writer.finish()?.into_bytes())
}

/// Checks something for many streams of random bytes; what fails is shrunk, and told with the message and version.
fn for_any(name: &str, version: i16, check: impl Fn(&[u8])) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::with_cases(32) });
    let result = runner.run(&vec(any::<u8>(), 0..600), |random| {
        check(&random);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{name} version {version}: {failure}"));
}
