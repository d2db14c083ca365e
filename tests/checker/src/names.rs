//! Producers and readers by small numbers, and records by one number: what a table can hold of them.

use std::collections::HashMap;

use crate::event::{Producer, Reader};

/// Indexes of this size name producers and readers, instead of whole names with every record.
const NAMES_MAX: usize = 1 << 15;
/// Tells a witness that is a producer from one that is a reader.
pub(crate) const IS_PRODUCER: u16 = 1 << 15;
const NUMBER_BITS: u32 = 48;

/// Producers and readers by small numbers.
#[derive(Debug, Default)]
pub(crate) struct Names {
    producers: Vec<Producer>,
    producer_indexes: HashMap<Producer, u16>,
    readers: Vec<Reader>,
    reader_indexes: HashMap<Reader, u16>,
}

impl Names {
    pub(crate) fn producer(&mut self, producer: Producer) -> u16 {
        *self.producer_indexes.entry(producer).or_insert_with(|| {
            assert!(self.producers.len() < NAMES_MAX, "a history has at most {NAMES_MAX} sessions");
            self.producers.push(producer);
            self.producers.len() as u16 - 1
        })
    }

    pub(crate) fn reader(&mut self, reader: &Reader) -> u16 {
        if let Some(index) = self.reader_indexes.get(reader) {
            return *index;
        }
        assert!(self.readers.len() < NAMES_MAX, "a history has at most {NAMES_MAX} readers");
        let index = self.readers.len() as u16;
        self.readers.push(reader.clone());
        self.reader_indexes.insert(reader.clone(), index);
        index
    }

    pub(crate) fn witness(&self, witness: u16) -> String {
        match witness & IS_PRODUCER {
            0 => format!("{} read", self.readers[usize::from(witness)]),
            _ => format!("{} was told", self.producers[usize::from(witness ^ IS_PRODUCER)]),
        }
    }

    pub(crate) fn value(&self, value: Value) -> String {
        format!("record {} of {}", value.number(), self.producers[usize::from(value.producer())])
    }
}

/// A record by its producer's index and its number. Zero is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Value(u64);

impl Value {
    pub(crate) fn new(producer: u16, number: u64) -> Value {
        Value((u64::from(producer) + 1) << NUMBER_BITS | number)
    }

    pub(crate) fn is_none(self) -> bool {
        self == Value::default()
    }

    pub(crate) fn producer(self) -> u16 {
        (self.0 >> NUMBER_BITS) as u16 - 1
    }

    pub(crate) fn number(self) -> u64 {
        self.0 & ((1 << NUMBER_BITS) - 1)
    }
}
