//! `Segments`: an encoded message, as the byte slices that leave by one vectored write.
//!
//! Invariant: no slice is empty, and `next` is the first one that has bytes left.

use std::io::IoSlice;

use bytes::{Buf, Bytes};

/// Bytes in order, cut where record batches were spliced in. As a [`Buf`] it is consumed from the front.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segments {
    slices: Vec<Bytes>,
    next: usize,
    remaining: usize,
}

impl Segments {
    pub(crate) fn new(slices: Vec<Bytes>) -> Segments {
        let remaining = slices.iter().map(Bytes::len).sum();
        Segments { slices, next: 0, remaining }
    }

    /// Bytes left.
    pub fn len(&self) -> usize {
        self.remaining
    }

    pub fn is_empty(&self) -> bool {
        self.remaining == 0
    }

    /// What is left.
    pub fn slices(&self) -> &[Bytes] {
        &self.slices[self.next..]
    }

    /// Puts another message behind what is left, so that both leave by one write.
    pub fn append(&mut self, next: Segments) {
        self.remaining += next.remaining;
        self.slices.extend(next.slices.into_iter().skip(next.next));
    }

    /// What is left in one piece; a copy unless it is one slice. For tests and for small messages.
    pub fn into_bytes(mut self) -> Bytes {
        match self.slices() {
            [one] => one.clone(),
            _ => self.copy_to_bytes(self.remaining),
        }
    }
}

impl Buf for Segments {
    fn remaining(&self) -> usize {
        self.remaining
    }

    fn chunk(&self) -> &[u8] {
        self.slices().first().map(Bytes::as_ref).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, target: &mut [IoSlice<'a>]) -> usize {
        let pairs = target.iter_mut().zip(self.slices());
        pairs.map(|(target, slice)| *target = IoSlice::new(slice)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.remaining, "advanced by {count} of {} bytes", self.remaining);
        self.remaining -= count;
        while count > 0 {
            let slice = &mut self.slices[self.next];
            let step = count.min(slice.len());
            slice.advance(step);
            count -= step;
            if slice.is_empty() {
                // Sent is sent: the batch need not be kept until the last byte of its answer has left.
                *slice = Bytes::new();
                self.next += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_of_one_goes_before_what_is_left_of_the_next() {
        let of = |parts: [&'static str; 2]| Segments::new(parts.map(Bytes::from).to_vec());
        let (mut first, mut second) = (of(["ab", "cd"]), of(["ef", "gh"]));
        first.advance(1);
        second.advance(3);
        first.append(second);
        assert_eq!(first.len(), 4);
        assert_eq!(first.into_bytes(), "bcdh");
    }
}
