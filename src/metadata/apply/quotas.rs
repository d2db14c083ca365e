//! Client quotas. What their keys mean was checked before they were proposed; here only their size is, and that they are numbers
//! that can be compared.

use std::sync::Arc;

use super::{CLIENT_QUOTAS_MAX, QUOTA_KEYS_MAX, QUOTA_NAME_BYTES_MAX, TEXT_BYTES_MAX};
use crate::metadata::command::SetClientQuotas;
use crate::metadata::image::{Image, QuotaEntity, QuotaName};
use crate::metadata::verdict::{Outcome, Rejected};

pub(super) fn set_client_quotas(image: &mut Image, command: &SetClientQuotas) -> Result<Outcome, Rejected> {
    let mut quotas = (*image.client_quotas).clone();
    for (entity, changes) in &command.changes {
        check_names(entity)?;
        let mut values = quotas.remove(entity).unwrap_or_default();
        for (key, value) in changes {
            match value {
                Some(value) => values.insert(key.clone(), *value),
                None => values.remove(key),
            };
        }
        if values.len() > QUOTA_KEYS_MAX {
            return Err(Rejected::InvalidQuotas("there are too many for one entity"));
        }
        if values.keys().any(|key| key.is_empty() || key.len() > TEXT_BYTES_MAX) {
            return Err(Rejected::InvalidQuotas("a key is empty or too long"));
        }
        if !values.values().all(|value| value.is_finite() && *value > 0.0) {
            return Err(Rejected::InvalidQuotas("a value is not a number above zero"));
        }
        if !values.is_empty() {
            quotas.insert(entity.clone(), values);
        }
    }
    if quotas.len() > CLIENT_QUOTAS_MAX {
        return Err(Rejected::InvalidQuotas("there are too many"));
    }
    if quotas != *image.client_quotas {
        image.client_quotas = Arc::new(quotas);
    }
    Ok(Outcome::Done)
}

fn check_names(entity: &QuotaEntity) -> Result<(), Rejected> {
    let unusable = |name: &QuotaName| matches!(name, QuotaName::Named(name) if name.is_empty() || name.len() > QUOTA_NAME_BYTES_MAX);
    if entity.names().any(unusable) {
        return Err(Rejected::InvalidQuotas("a name is empty or too long"));
    }
    Ok(())
}
