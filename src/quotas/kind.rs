//! Kafka's keys of quotas: what each limits, for whom, and which values it takes.

use crate::metadata::image::QuotaEntity;

/// What a quota is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    /// Bytes of Produce requests a second.
    Produce,
    /// Bytes of answers to Fetch a second.
    Fetch,
    /// Time of the broker's threads, in hundredths of one thread.
    Request,
    /// Partitions made and deleted a second.
    Mutation,
    /// Connections a second from one address.
    Connection,
}

/// Which numbers a key takes, all of them above zero.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Numbers {
    Any,
    Whole { max: f64 },
}

/// Values that differ by less from a whole number are one, as in Kafka.
const WHOLE: f64 = 1e-6;

impl Kind {
    /// All of them.
    pub(crate) const ALL: [Kind; 5] =
        [Kind::Produce, Kind::Fetch, Kind::Request, Kind::Mutation, Kind::Connection];

    /// What Kafka calls it.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Kind::Produce => "producer_byte_rate",
            Kind::Fetch => "consumer_byte_rate",
            Kind::Request => "request_percentage",
            Kind::Mutation => "controller_mutation_rate",
            Kind::Connection => "connection_creation_rate",
        }
    }

    fn is_for(self, entity: &QuotaEntity) -> bool {
        matches!(entity, QuotaEntity::Ip(_)) == (self == Kind::Connection)
    }

    fn numbers(self) -> Numbers {
        match self {
            Kind::Produce | Kind::Fetch => Numbers::Whole { max: i64::MAX as f64 },
            Kind::Request | Kind::Mutation => Numbers::Any,
            Kind::Connection => Numbers::Whole { max: f64::from(i32::MAX) },
        }
    }
}

/// Why `entity` cannot have the quota `key` of this value; `Err` has the words.
pub(crate) fn check(entity: &QuotaEntity, key: &str, value: f64) -> Result<(), String> {
    let Some(kind) = Kind::ALL.into_iter().find(|kind| kind.key() == key && kind.is_for(entity)) else {
        return Err(format!("{key} is no quota of such an entity"));
    };
    if value <= 0.0 {
        return Err(format!("{key} must be above zero"));
    }
    if !value.is_finite() {
        return Err(format!("{key} must be a number"));
    }
    match kind.numbers() {
        Numbers::Whole { max } if value > max => Err(format!("{key} is at most {max}")),
        Numbers::Whole { .. } if value % 1.0 > WHOLE => Err(format!("{key} must be a whole number")),
        Numbers::Whole { .. } | Numbers::Any => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::image::QuotaName;

    #[test]
    fn each_key_has_its_entities_and_its_numbers() {
        let client = QuotaEntity::ClientId(QuotaName::Default);
        let both = QuotaEntity::UserAndClient { user: QuotaName::Default, client_id: QuotaName::Default };
        let address = QuotaEntity::Ip(QuotaName::Default);
        for (entity, key, value, refused) in [
            (&client, "producer_byte_rate", 1024.0, None),
            (&both, "consumer_byte_rate", 1.0, None),
            (&client, "request_percentage", 0.5, None),
            (&client, "controller_mutation_rate", 0.001, None),
            (&address, "connection_creation_rate", 2_147_483_647.0, None),
            (&client, "producer_byte_rate", 0.0, Some("must be above zero")),
            (&client, "request_percentage", -1.0, Some("must be above zero")),
            (&client, "request_percentage", f64::NAN, Some("must be a number")),
            (&client, "request_percentage", f64::INFINITY, Some("must be a number")),
            (&client, "producer_byte_rate", 1.5, Some("must be a whole number")),
            (&client, "producer_byte_rate", 1e19, Some("is at most")),
            (&address, "connection_creation_rate", 2_147_483_648.0, Some("is at most")),
            (&address, "connection_creation_rate", 0.5, Some("must be a whole number")),
            (&client, "connection_creation_rate", 1.0, Some("is no quota of such an entity")),
            (&address, "producer_byte_rate", 1.0, Some("is no quota of such an entity")),
            (&both, "leader.replication.throttled.rate", 1.0, Some("is no quota of such an entity")),
        ] {
            let found = check(entity, key, value);
            match refused {
                None => assert_eq!(found, Ok(()), "{key} {value}"),
                Some(words) => assert!(found.unwrap_err().contains(words), "{key} {value}"),
            }
        }
    }
}
