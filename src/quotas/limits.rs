//! Which quota holds for a client: Kafka's eight levels, for each kind of quota by itself. Pure.
//!
//! | | user | client id | whose use counts together |
//! |---|---|---|---|
//! | 1 | this one | this one | of this client of this user |
//! | 2 | this one | default | of this client of this user |
//! | 3 | this one | | of this user's clients |
//! | 4 | default | this one | of this client of this user |
//! | 5 | default | default | of this client of this user |
//! | 6 | default | | of this user's clients |
//! | 7 | | this one | of this client |
//! | 8 | | default | of this client |
//!
//! The first that is set holds. A default is never shared: each of those that it stands for has as much. A client that gives
//! itself no name is one of the default's, the same for all that have none; Kafka lets it go free.

use std::net::IpAddr;

use super::kind::Kind;
use crate::metadata::image::{ClientQuotas, QuotaEntity, QuotaName};

/// How much may be used, and who uses it together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    /// In the kind's unit.
    pub(super) per_second: f64,
    pub(super) shared: Shared,
}

/// Whose use counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shared {
    /// Of one client of one user.
    UserAndClient,
    /// Of all clients of one user.
    User,
    /// Of one client.
    ClientId,
}

/// The limit of a client; `None` if it has none.
pub(super) fn of_client(quotas: &ClientQuotas, kind: Kind, user: &str, client_id: &str) -> Option<Limit> {
    let names = |name: &str| [QuotaName::Named(name.to_owned()), QuotaName::Default];
    let mut levels = Vec::with_capacity(8);
    for user in names(user) {
        for client_id in names(client_id) {
            levels
                .push((QuotaEntity::UserAndClient { user: user.clone(), client_id }, Shared::UserAndClient));
        }
        levels.push((QuotaEntity::User(user), Shared::User));
    }
    levels.extend(names(client_id).map(|client_id| (QuotaEntity::ClientId(client_id), Shared::ClientId)));
    levels.into_iter().find_map(|(entity, shared)| {
        let per_second = *quotas.get(&entity)?.get(kind.key())?;
        Some(Limit { per_second, shared })
    })
}

/// The limit of an address: its own, or the default of those that have none; connections a second.
pub(super) fn of_address(quotas: &ClientQuotas, address: IpAddr) -> Option<f64> {
    let names = [QuotaName::Named(address.to_string()), QuotaName::Default];
    names
        .into_iter()
        .find_map(|name| quotas.get(&QuotaEntity::Ip(name))?.get(Kind::Connection.key()).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> QuotaName {
        QuotaName::Named(name.to_owned())
    }

    fn both(user: QuotaName, client_id: QuotaName) -> QuotaEntity {
        QuotaEntity::UserAndClient { user, client_id }
    }

    /// The eight levels for user `u` and client `c`, strongest first.
    fn levels() -> Vec<(QuotaEntity, Shared)> {
        use QuotaName::Default;
        vec![
            (both(named("u"), named("c")), Shared::UserAndClient),
            (both(named("u"), Default), Shared::UserAndClient),
            (QuotaEntity::User(named("u")), Shared::User),
            (both(Default, named("c")), Shared::UserAndClient),
            (both(Default, Default), Shared::UserAndClient),
            (QuotaEntity::User(Default), Shared::User),
            (QuotaEntity::ClientId(named("c")), Shared::ClientId),
            (QuotaEntity::ClientId(Default), Shared::ClientId),
        ]
    }

    #[test]
    fn the_first_of_eight_levels_holds() {
        let mut quotas = ClientQuotas::new();
        assert_eq!(of_client(&quotas, Kind::Produce, "u", "c"), None);
        // From the weakest on, each that is added goes before those that were there.
        for (place, (entity, shared)) in levels().into_iter().enumerate().rev() {
            let per_second = 1.0 + place as f64;
            quotas.insert(entity.clone(), [(Kind::Produce.key().to_owned(), per_second)].into());
            let expected = Some(Limit { per_second, shared });
            assert_eq!(of_client(&quotas, Kind::Produce, "u", "c"), expected, "{entity:?}");
        }
        assert_eq!(of_client(&quotas, Kind::Fetch, "u", "c"), None, "of another kind there is none");
        for (user, client_id, level) in
            [("u", "x", 2.0), ("x", "c", 4.0), ("x", "x", 5.0), ("u", "", 2.0), ("x", "", 5.0)]
        {
            let found = of_client(&quotas, Kind::Produce, user, client_id).unwrap();
            assert_eq!(found.per_second, level, "{user:?} {client_id:?}");
        }
    }

    #[test]
    fn a_level_holds_only_for_the_kinds_that_it_says() {
        let quotas = ClientQuotas::from([
            (both(named("u"), named("c")), [("consumer_byte_rate".to_owned(), 1.0)].into()),
            (QuotaEntity::User(QuotaName::Default), [("producer_byte_rate".to_owned(), 2.0)].into()),
        ]);
        let found = |kind| of_client(&quotas, kind, "u", "c").map(|limit| limit.per_second);
        assert_eq!(found(Kind::Fetch), Some(1.0));
        assert_eq!(found(Kind::Produce), Some(2.0));
        assert_eq!(found(Kind::Request), None);
    }

    #[test]
    fn an_address_has_its_own_limit_or_the_default() {
        let rate = |rate: f64| [("connection_creation_rate".to_owned(), rate)].into();
        let quotas = ClientQuotas::from([
            (QuotaEntity::Ip(named("10.0.0.1")), rate(5.0)),
            (QuotaEntity::Ip(named("::1")), rate(6.0)),
            (QuotaEntity::Ip(QuotaName::Default), rate(7.0)),
        ]);
        for (address, expected) in [("10.0.0.1", 5.0), ("0:0::1", 6.0), ("10.0.0.2", 7.0)] {
            assert_eq!(of_address(&quotas, address.parse().unwrap()), Some(expected), "{address}");
        }
        assert_eq!(of_address(&ClientQuotas::new(), "10.0.0.1".parse().unwrap()), None);
    }
}
