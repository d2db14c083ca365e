//! DescribeClientQuotas and AlterClientQuotas (KIP-546, KIP-612).

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use aquifer_protocol::messages::alter_client_quotas::{
    self, AlterClientQuotasRequest, AlterClientQuotasResponse, AlteredEntryData, OpData,
};
use aquifer_protocol::messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData, EntryData,
    ValueData,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::errors;
use crate::metadata::apply::{QUOTA_NAME_BYTES_MAX, apply};
use crate::metadata::command::{QuotaChanges, SetClientQuotas};
use crate::metadata::image::{QuotaEntity, QuotaName, QuotaValues};
use crate::metadata::{Command, ProposeError};
use crate::quotas::kind;

/// What Kafka calls the parts of an entity.
const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

/// Why a filter is refused.
struct Refused {
    code: ErrorCode,
    words: String,
}

impl Refused {
    fn invalid(words: impl Into<String>) -> Refused {
        Refused { code: ErrorCode::INVALID_REQUEST, words: words.into() }
    }
}

/// What is wanted of one part of an entity.
enum Match {
    /// This name, or the default.
    Exact(QuotaName),
    /// Any name, or the default.
    Any,
}

/// Tells quotas, of those entities that have some.
pub(crate) fn describe(
    context: &Context,
    request: &DescribeClientQuotasRequest,
) -> DescribeClientQuotasResponse {
    let mut response =
        DescribeClientQuotasResponse { entries: None, error_message: None, ..Default::default() };
    match filter(&request.components) {
        Ok(filter) => {
            let image = context.metadata.image();
            let found = image
                .client_quotas()
                .iter()
                .filter(|(entity, _)| matches(&parts(entity), &filter, request.strict));
            response.entries = Some(found.map(|(entity, values)| told(entity, values)).collect());
        }
        Err(refused) => {
            response.error_code = refused.code;
            response.error_message = errors::message(&refused.words);
        }
    }
    response
}

fn filter(components: &[ComponentData]) -> Result<BTreeMap<&str, Match>, Refused> {
    const EXACT: i8 = 0;
    const DEFAULT: i8 = 1;
    const ANY: i8 = 2;
    let mut filter = BTreeMap::new();
    for component in components {
        let part = &*component.entity_type;
        if part.is_empty() {
            return Err(Refused::invalid("a part of the filter has no entity type"));
        }
        if filter.contains_key(part) {
            return Err(Refused::invalid(format!("the filter has two parts for {part}")));
        }
        if ![USER, CLIENT_ID, IP].contains(&part) {
            let words = format!("an entity has no {part:?}, but a user, a client-id or an ip");
            return Err(Refused { code: ErrorCode::UNSUPPORTED_VERSION, words });
        }
        let wanted = match (component.match_type, component.match_name.as_deref()) {
            (EXACT, Some(name)) => Match::Exact(QuotaName::Named(as_stored(part, name))),
            (DEFAULT, None) => Match::Exact(QuotaName::Default),
            (ANY, None) => Match::Any,
            (EXACT, None) => return Err(Refused::invalid("an exact match needs a name to match")),
            (DEFAULT | ANY, Some(_)) => {
                return Err(Refused::invalid("only an exact match has a name to match"));
            }
            (other, _) => return Err(Refused::invalid(format!("there is no match type {other}"))),
        };
        filter.insert(part, wanted);
    }
    if filter.contains_key(IP) && filter.len() > 1 {
        return Err(Refused::invalid("an ip goes with neither a user nor a client-id"));
    }
    Ok(filter)
}

fn parts(entity: &QuotaEntity) -> Vec<(&'static str, &QuotaName)> {
    match entity {
        QuotaEntity::User(user) => vec![(USER, user)],
        QuotaEntity::UserAndClient { user, client_id } => vec![(USER, user), (CLIENT_ID, client_id)],
        QuotaEntity::ClientId(client_id) => vec![(CLIENT_ID, client_id)],
        QuotaEntity::Ip(ip) => vec![(IP, ip)],
    }
}

/// Whether an entity has every part that is wanted; if `strict`, no other.
fn matches(parts: &[(&str, &QuotaName)], filter: &BTreeMap<&str, Match>, strict: bool) -> bool {
    let has = |(part, wanted): (&&str, &Match)| {
        parts.iter().any(|(own, name)| {
            own == part
                && match wanted {
                    Match::Exact(exact) => *name == exact,
                    Match::Any => true,
                }
        })
    };
    filter.iter().all(has) && (!strict || parts.len() == filter.len())
}

fn told(entity: &QuotaEntity, values: &QuotaValues) -> EntryData {
    let entity = parts(entity).into_iter().map(|(part, name)| EntityData {
        entity_type: Str::from_static(part),
        entity_name: match name {
            QuotaName::Default => None,
            QuotaName::Named(name) => Some(Str::from(name.as_str())),
        },
    });
    let values = values.iter().map(|(key, value)| ValueData { key: Str::from(key.as_str()), value: *value });
    EntryData { entity: entity.collect(), values: values.collect() }
}

/// Sets quotas, and takes them back. Each entry is judged alone; those that are sound are all set, or none is.
pub(crate) async fn alter(
    context: Arc<Context>,
    request: AlterClientQuotasRequest,
) -> AlterClientQuotasResponse {
    let entities: Vec<Result<QuotaEntity, String>> =
        request.entries.iter().map(|entry| entity(&entry.entity)).collect();
    let mut counts: HashMap<&QuotaEntity, usize> = HashMap::new();
    for entity in entities.iter().flatten() {
        *counts.entry(entity).or_default() += 1;
    }
    let mut changes = BTreeMap::new();
    let mut outcomes = Vec::with_capacity(request.entries.len());
    for (entry, entity) in request.entries.iter().zip(&entities) {
        let judged = match entity {
            Ok(entity) if counts[entity] > 1 => {
                Err("the request names this entity more than once".to_owned())
            }
            Ok(entity) => changes_of(entity, &entry.ops).map(|own| (entity.clone(), own)),
            Err(words) => Err(words.clone()),
        };
        outcomes.push(match judged {
            Ok((entity, own)) => {
                changes.insert(entity, own);
                Ok(())
            }
            Err(words) => Err(words),
        });
    }
    let set = set(&context, changes, request.validate_only).await;
    let answered = request.entries.into_iter().zip(outcomes).map(|(entry, outcome)| {
        let (error_code, error_message) = match (outcome, &set) {
            (Err(words), _) => (ErrorCode::INVALID_REQUEST, errors::message(&words)),
            (Ok(()), Err(error)) => (errors::of_propose(error), errors::message(error)),
            (Ok(()), Ok(())) => (ErrorCode::NONE, None),
        };
        AlteredEntryData { error_code, error_message, entity: entry.entity }
    });
    AlterClientQuotasResponse { entries: answered.collect(), ..Default::default() }
}

async fn set(
    context: &Context,
    changes: BTreeMap<QuotaEntity, QuotaChanges>,
    validate_only: bool,
) -> Result<(), ProposeError> {
    if changes.is_empty() {
        return Ok(());
    }
    let command = Command::SetClientQuotas(SetClientQuotas { changes });
    if validate_only {
        context.metadata.check(&command)?;
        let mut image = (*context.metadata.image()).clone();
        return apply(&mut image, &command).map(drop).map_err(ProposeError::Rejected);
    }
    context.metadata.propose(command).await?;
    // Whoever is told yes finds it in force.
    context.quotas.refresh(&context.metadata);
    Ok(())
}

fn entity(parts: &[alter_client_quotas::EntityData]) -> Result<QuotaEntity, String> {
    let mut named: BTreeMap<&str, QuotaName> = BTreeMap::new();
    for part in parts {
        let kind = &*part.entity_type;
        if ![USER, CLIENT_ID, IP].contains(&kind) {
            return Err(format!("an entity has no {kind:?}, but a user, a client-id or an ip"));
        }
        let name = match part.entity_name.as_deref() {
            None => QuotaName::Default,
            Some("") => return Err(format!("the {kind} has an empty name")),
            Some(name) if name.len() > QUOTA_NAME_BYTES_MAX => {
                return Err(format!("a {kind} with quotas has at most {QUOTA_NAME_BYTES_MAX} bytes"));
            }
            Some(name) if kind == IP && name.parse::<IpAddr>().is_err() => {
                return Err(format!("{name:?} is no address; names of hosts are not looked up"));
            }
            Some(name) => QuotaName::Named(as_stored(kind, name)),
        };
        if named.insert(kind, name).is_some() {
            return Err(format!("the entity has its {kind} twice"));
        }
    }
    match (named.remove(USER), named.remove(CLIENT_ID), named.remove(IP)) {
        (Some(user), Some(client_id), None) => Ok(QuotaEntity::UserAndClient { user, client_id }),
        (Some(user), None, None) => Ok(QuotaEntity::User(user)),
        (None, Some(client_id), None) => Ok(QuotaEntity::ClientId(client_id)),
        (None, None, Some(ip)) => Ok(QuotaEntity::Ip(ip)),
        (None, None, None) => Err("the entity is empty".to_owned()),
        (_, _, Some(_)) => Err("an ip goes with neither a user nor a client-id".to_owned()),
    }
}

/// Addresses have one way to be written.
fn as_stored(part: &str, name: &str) -> String {
    match name.parse::<IpAddr>() {
        Ok(address) if part == IP => address.to_canonical().to_string(),
        Ok(_) | Err(_) => name.to_owned(),
    }
}

fn changes_of(entity: &QuotaEntity, ops: &[OpData]) -> Result<QuotaChanges, String> {
    let mut changes = QuotaChanges::new();
    for op in ops {
        let value = if op.remove {
            None
        } else {
            kind::check(entity, &op.key, op.value)?;
            Some(op.value)
        };
        if changes.insert(op.key.to_string(), value).is_some() {
            return Err(format!("{} is there twice", &*op.key));
        }
    }
    Ok(changes)
}
