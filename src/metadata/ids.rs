//! Who and what, as far as only metadata names it; the rest is in `aquifer_model::ids`.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// A cluster's identity for life, restores included. Shown as Kafka shows its own: 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClusterId(Uuid);

/// A text is no cluster id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("\"{0}\" is no cluster id: expected 22 characters of URL-safe base64")]
pub struct ClusterIdError(String);

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

impl ClusterId {
    /// Wraps a uuid.
    pub const fn new(uuid: Uuid) -> ClusterId {
        ClusterId(uuid)
    }

    /// The uuid itself.
    pub const fn uuid(self) -> Uuid {
        self.0
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // 128 bits are 21 whole characters and 2 bits, which the last character carries in its upper end.
        let bits = self.0.as_u128();
        let text: String = (0..22)
            .map(|at| {
                let six = if at < 21 { bits >> (122 - 6 * at) } else { bits << 4 };
                char::from(BASE64[(six & 0x3f) as usize])
            })
            .collect();
        f.write_str(&text)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ClusterId {
    type Err = ClusterIdError;

    fn from_str(text: &str) -> Result<ClusterId, ClusterIdError> {
        let error = || ClusterIdError(text.to_owned());
        if text.len() != 22 {
            return Err(error());
        }
        let mut bits = 0u128;
        for (at, character) in text.bytes().enumerate() {
            let six = BASE64.iter().position(|&known| known == character).ok_or_else(error)? as u128;
            bits = if at < 21 { bits << 6 | six } else { bits << 2 | six >> 4 };
            if at == 21 && six & 0xf != 0 {
                return Err(error());
            }
        }
        Ok(ClusterId(Uuid::from_u128(bits)))
    }
}

/// One life of a cluster: formatting begins the first, each restore from a bucket another, one higher. What the bucket holds of
/// an older life yields to a newer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(pub u64);

impl Incarnation {
    /// That of a cluster that was formatted, not restored.
    pub const FIRST: Incarnation = Incarnation(1);
}

/// One life of a broker's process, chosen by it at random.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BrokerIncarnation(pub Uuid);

/// A log directory's identity, written into it when it was made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DirectoryId(pub Uuid);

/// Counts registrations in the whole cluster, from 0: a later registration of a broker has a higher one and fences the earlier.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct BrokerEpoch(pub i64);

impl fmt::Display for BrokerEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Counts the changes of a partition's metadata, from 0: leader, in-sync set, replicas, recovery.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionEpoch(pub i32);

impl PartitionEpoch {
    /// A new partition's.
    pub const ZERO: PartitionEpoch = PartitionEpoch(0);

    /// The epoch after this one. Stays at the last, which a change each second reaches in 68 years.
    #[must_use]
    pub const fn next(self) -> PartitionEpoch {
        PartitionEpoch(self.0.saturating_add(1))
    }
}

impl fmt::Display for PartitionEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A voter or learner in Raft. Not a broker id: it is drawn at random once per formatted data directory and never reused, so that
/// a wiped node cannot vote as the one it was and undo what that one had promised.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RaftNodeId(pub u64);

impl fmt::Display for RaftNodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cluster_ids_look_like_kafkas_and_parse_back() {
        for bytes in [[0; 16], [0xff; 16], *b"0123456789abcdef"] {
            let id = ClusterId::new(Uuid::from_bytes(bytes));
            let text = id.to_string();
            assert_eq!(text.len(), 22);
            assert_eq!(text.parse(), Ok(id));
        }
        assert_eq!(
            ClusterId::new(Uuid::from_bytes(*b"0123456789abcdef")).to_string(),
            "MDEyMzQ1Njc4OWFiY2RlZg"
        );
        for wrong in ["", "MDEyMzQ1Njc4OWFiY2RlZ", "MDEyMzQ1Njc4OWFiY2RlZ!", "MDEyMzQ1Njc4OWFiY2RlZh"] {
            assert_eq!(wrong.parse::<ClusterId>(), Err(ClusterIdError(wrong.to_owned())), "{wrong}");
        }
    }
}
