//! `Records`: the record batches of one partition in a Produce or a Fetch.
//!
//! What is decoded is one slice of the frame. What is encoded may be many slices (hot segments, cached chunks), which leave as
//! they are: `Writer` splices them into its segments. Nothing here looks into a batch.

use std::fmt;

use bytes::Bytes;

/// Bytes in slices, or null (which is also the default, as it is Kafka's).
#[derive(Clone, Default)]
pub struct Records(Slices);

#[derive(Clone, Default)]
enum Slices {
    #[default]
    Null,
    /// Most answers hold one slice; it takes no allocation.
    One(Bytes),
    Many(Vec<Bytes>),
}

impl Records {
    pub const NULL: Records = Records(Slices::Null);
    /// No bytes, yet not null: what a Fetch that found nothing answers.
    pub const EMPTY: Records = Records(Slices::One(Bytes::new()));

    pub fn is_null(&self) -> bool {
        matches!(self.0, Slices::Null)
    }

    /// Null is empty, too.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// In bytes.
    pub fn len(&self) -> usize {
        self.slices().iter().map(Bytes::len).sum()
    }

    pub fn slices(&self) -> &[Bytes] {
        match &self.0 {
            Slices::Null => &[],
            Slices::One(slice) => std::slice::from_ref(slice),
            Slices::Many(slices) => slices,
        }
    }

    /// All bytes in one piece, which costs a copy only if there are several slices. Null gives no bytes.
    pub fn into_bytes(self) -> Bytes {
        match self.0 {
            Slices::Null => Bytes::new(),
            Slices::One(slice) => slice,
            Slices::Many(slices) => Bytes::from(slices.concat()),
        }
    }
}

impl From<Bytes> for Records {
    fn from(slice: Bytes) -> Records {
        Records(Slices::One(slice))
    }
}

impl From<Vec<Bytes>> for Records {
    fn from(slices: Vec<Bytes>) -> Records {
        Records(Slices::Many(slices))
    }
}

impl From<Option<Bytes>> for Records {
    fn from(slice: Option<Bytes>) -> Records {
        slice.map(Records::from).unwrap_or_default()
    }
}

/// The same bytes are the same records, however they are cut.
impl PartialEq for Records {
    fn eq(&self, other: &Records) -> bool {
        self.is_null() == other.is_null()
            && match (self.slices(), other.slices()) {
                ([one], [other]) => one == other,
                (many, others) => many.iter().flatten().eq(others.iter().flatten()),
            }
    }
}

impl fmt::Debug for Records {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Slices::Null => out.write_str("null"),
            Slices::One(_) | Slices::Many(_) => {
                write!(out, "{} bytes in {} slices", self.len(), self.slices().len())
            }
        }
    }
}
