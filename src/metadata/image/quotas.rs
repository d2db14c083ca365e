//! Client quotas: for whom, and how much. What a key means was checked before it was proposed; here it is carried.

use std::collections::BTreeMap;

/// One name, or whoever has none of their own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaName {
    /// Everyone who is not named.
    Default,
    /// This one.
    Named(String),
}

/// For whom a quota is: the combinations that Kafka has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaEntity {
    /// All clients of a user together.
    User(QuotaName),
    /// One client of a user.
    UserAndClient {
        /// The user.
        user: QuotaName,
        /// The name that the client gives itself.
        client_id: QuotaName,
    },
    /// One client, of whatever user.
    ClientId(QuotaName),
    /// All connections from one address, which is written as `IpAddr` writes it.
    Ip(QuotaName),
}

/// The quotas of one entity by Kafka's keys, such as `producer_byte_rate`. Each is finite and above zero.
pub type QuotaValues = BTreeMap<String, f64>;

/// All quotas. No entity without any.
pub type ClientQuotas = BTreeMap<QuotaEntity, QuotaValues>;

impl QuotaEntity {
    /// Its names.
    pub fn names(&self) -> impl Iterator<Item = &QuotaName> {
        let (first, second) = match self {
            QuotaEntity::User(name) | QuotaEntity::ClientId(name) | QuotaEntity::Ip(name) => (name, None),
            QuotaEntity::UserAndClient { user, client_id } => (user, Some(client_id)),
        };
        std::iter::once(first).chain(second)
    }
}
