//! Memory for what members say of themselves, of all groups of this broker together.
//!
//! What a member says is copied once, into one piece. Its part of the budget is given back when the last of what was cut from that
//! piece is dropped: that is with the member, wherever it has gone meanwhile, since a group may change its protocol. So what may
//! outlive the member (a key of a map, say) has to be detached. Who finds no room is asked to come again; but whoever says as little as
//! most do always finds some, which is not counted, as little as all else that is remembered of a member. Neither is what was read
//! from `__consumer_offsets`: it had to fit into records.

use aquifer_model::ByteCount;
use aquifer_protocol::Str;
use aquifer_runtime::budget::{ByteBudget, BytePermit};
use bytes::Bytes;

use super::error::GroupError;

/// What a member may say uncounted.
const SMALL_BYTES: usize = 4096;

/// The budget (`group.members.bytes.max`).
#[derive(Debug)]
pub(crate) struct MemberMemory(ByteBudget);

/// What was copied, part by part.
#[derive(Debug)]
pub(crate) struct Kept {
    whole: Bytes,
    at: usize,
}

struct Counted {
    bytes: Vec<u8>,
    _permit: BytePermit,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl MemberMemory {
    pub(crate) fn new(bytes: ByteCount) -> MemberMemory {
        MemberMemory(ByteBudget::new(bytes))
    }

    /// Copies what a member says; it is taken again in the same order.
    pub(crate) fn keep<'a>(&self, said: impl Iterator<Item = &'a [u8]> + Clone) -> Result<Kept, GroupError> {
        let length: usize = said.clone().map(<[u8]>::len).sum();
        let mut bytes = Vec::with_capacity(length);
        if length <= SMALL_BYTES {
            said.for_each(|part| bytes.extend_from_slice(part));
            return Ok(Kept { whole: bytes.into(), at: 0 });
        }
        let permit = self.0.try_take(ByteCount(length as u64)).ok_or(GroupError::NoMemory)?;
        said.for_each(|part| bytes.extend_from_slice(part));
        Ok(Kept { whole: Bytes::from_owner(Counted { bytes, _permit: permit }), at: 0 })
    }
}

impl Kept {
    /// The copy of the next part, which is so long.
    pub(crate) fn take(&mut self, length: usize) -> Bytes {
        let from = self.at;
        self.at += length;
        self.whole.slice(from..self.at)
    }

    /// The copy of the next part, which is this text.
    pub(crate) fn take_text(&mut self, text: &Str) -> Str {
        Str::from_utf8(self.take(text.len())).expect("parts are taken in the order in which they were copied")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_comes_back_with_the_last_part() {
        let memory = MemberMemory::new(ByteCount::kib(16));
        let (name, words) = (Str::from("range"), vec![7; 10_000]);
        let said = || [&name.as_bytes()[..], &words[..]].into_iter();
        let mut kept = memory.keep(said()).expect("there is room");
        assert_eq!(memory.keep(said()).err(), Some(GroupError::NoMemory));
        let (copied, rest) = (kept.take_text(&name), kept.take(words.len()));
        assert_eq!((&copied, &rest[..]), (&name, &words[..]));
        drop((kept, rest));
        assert_eq!(memory.keep(said()).err(), Some(GroupError::NoMemory), "the name is kept");
        drop(copied);
        let all = memory.keep(said()).expect("there is room again");
        assert!(memory.keep(std::iter::once(&words[..4_000])).is_ok(), "who says little always finds room");
        drop(all);
    }
}
