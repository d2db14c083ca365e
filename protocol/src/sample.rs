//! Random values of every message, from a stream of random bytes. Once the bytes are used up, all that follows is zero, empty
//! or null: a shorter stream gives a smaller value, so a failing one shrinks well.

use bytes::Bytes;
use uuid::Uuid;

use crate::{ErrorCode, Message, Records, Str};

/// A type with random values that are valid in a given version of its API: fields that the version lacks have their default.
pub(crate) trait Sample: Sized {
    fn sample(sampler: &mut Sampler<'_>, version: i16) -> Self;
}

/// What is done with each message; a walk calls it once for every type.
pub(crate) trait Visitor {
    fn visit<M: Message + Sample>(&mut self);
}

/// What is done with each request; a walk calls it once for every API.
#[cfg(feature = "fuzzing")]
pub(crate) trait RequestVisitor {
    fn visit<R: crate::Request + Sample>(&mut self);
}

pub(crate) struct Sampler<'a> {
    random: &'a [u8],
}

impl<'a> Sampler<'a> {
    pub(crate) fn new(random: &'a [u8]) -> Sampler<'a> {
        Sampler { random }
    }

    fn byte(&mut self) -> u8 {
        let Some((byte, rest)) = self.random.split_first() else { return 0 };
        self.random = rest;
        *byte
    }

    fn below(&mut self, bound: u8) -> usize {
        usize::from(self.byte() % bound)
    }

    pub(crate) fn bool(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// Small numbers are as likely as extreme ones.
    pub(crate) fn integer<T: Integer>(&mut self) -> T {
        match self.byte() % 4 {
            0 => T::wrapped(i64::from(self.byte().cast_signed())),
            1 => T::MAX,
            2 => T::MIN,
            _ => T::wrapped(i64::from_be_bytes(self.array_of())),
        }
    }

    /// Any that equals itself.
    pub(crate) fn f64(&mut self) -> f64 {
        let number = f64::from_be_bytes(self.array_of());
        if number.is_nan() { 0.5 } else { number }
    }

    pub(crate) fn error_code(&mut self) -> ErrorCode {
        ErrorCode::new(self.integer())
    }

    pub(crate) fn uuid(&mut self) -> Uuid {
        Uuid::from_bytes(self.array_of())
    }

    pub(crate) fn string(&mut self) -> Str {
        let length = match self.byte() % 16 {
            0..4 => 0,
            // Where a compact length takes a second byte.
            15 => 120 + self.below(16),
            short => usize::from(short),
        };
        let letters: String = (0..length).map(|_| char::from(b'a' + self.byte() % 26)).collect();
        Str::from(if length % 5 == 4 { format!("{letters}é") } else { letters })
    }

    pub(crate) fn bytes(&mut self) -> Bytes {
        // On either side of what is copied and of what a varint of one byte holds.
        let length = [0, 1, 5, 126, 127, 128, 511, 512, 513, 700][self.below(10)];
        let fill = self.byte();
        Bytes::from((0..length).map(|place: usize| fill ^ (place as u8)).collect::<Vec<u8>>())
    }

    pub(crate) fn records(&mut self) -> Records {
        match self.byte() % 4 {
            0 => Records::NULL,
            1 => Records::EMPTY,
            2 => Records::from(self.bytes()),
            _ => Records::from(vec![self.bytes().into(), self.bytes().into(), self.bytes().into()]),
        }
    }

    pub(crate) fn option<T>(&mut self, some: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.byte() & 3 > 0).then(|| some(self))
    }

    pub(crate) fn array<T>(&mut self, mut element: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.below(4)).map(|_| element(self)).collect()
    }

    fn array_of<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }
}

pub(crate) trait Integer {
    const MIN: Self;
    const MAX: Self;
    fn wrapped(value: i64) -> Self;
}

impl Integer for i8 {
    const MIN: i8 = i8::MIN;
    const MAX: i8 = i8::MAX;
    fn wrapped(value: i64) -> i8 {
        value as i8
    }
}

impl Integer for i16 {
    const MIN: i16 = i16::MIN;
    const MAX: i16 = i16::MAX;
    fn wrapped(value: i64) -> i16 {
        value as i16
    }
}

impl Integer for u16 {
    const MIN: u16 = u16::MIN;
    const MAX: u16 = u16::MAX;
    fn wrapped(value: i64) -> u16 {
        value as u16
    }
}

impl Integer for i32 {
    const MIN: i32 = i32::MIN;
    const MAX: i32 = i32::MAX;
    fn wrapped(value: i64) -> i32 {
        value as i32
    }
}

impl Integer for i64 {
    const MIN: i64 = i64::MIN;
    const MAX: i64 = i64::MAX;
    fn wrapped(value: i64) -> i64 {
        value
    }
}

include!(concat!(env!("OUT_DIR"), "/samples.rs"));
