//! AlterClientQuotas (49): sets and removes quotas. KIP-546, KIP-612 (connections of addresses).

use std::collections::{BTreeMap, BTreeSet};

use milena_messages::alter_client_quotas::{
    AlterClientQuotasRequest, AlterClientQuotasRequestEntryData, AlterClientQuotasResponse,
    AlterClientQuotasResponseEntityData, AlterClientQuotasResponseEntryData, OpData,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::Operation;
use crate::call::Call;
use crate::quotas::{self, Change, Entity, Key, Kind, NAME_BYTES_MAX, Name, Quotas};

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::AlterClientQuotas, |call, reader| call.answer(reader, handle))
};

/// The names in a request, by their types. A type that comes twice has the last name, as in Kafka.
type Names = BTreeMap<String, Option<String>>;

type Denial = (ErrorCode, String);

fn handle(call: &Call<'_>, request: AlterClientQuotasRequest) -> AlterClientQuotasResponse {
    let outcomes = match call.check_cluster(Operation::AlterConfigs) {
        Err(code) => {
            let denied = Err((code, "Cluster authorization failed.".to_owned()));
            request.entries.iter().map(|entry| (names(entry), denied.clone())).collect()
        }
        Ok(()) => call.parts.alter_quotas(call.now.instant, |quotas| alter(quotas, &request)),
    };
    let entries = outcomes.into_iter().map(|(names, outcome)| answered(names, outcome)).collect();
    AlterClientQuotasResponse { entries, ..Default::default() }
}

fn alter(quotas: &mut Quotas, request: &AlterClientQuotasRequest) -> BTreeMap<Names, Result<(), Denial>> {
    let mut outcomes = BTreeMap::new();
    let mut changes = Vec::new();
    for entry in &request.entries {
        let names = names(entry);
        // An entity that comes twice is refused, and the changes of its first entry are made, as in Kafka.
        let outcome = match outcomes.contains_key(&names) || has_repeated_key(&entry.ops) {
            true => invalid(format!("Ignoring duplicate entity {names:?}")),
            false => plan(quotas, &names, &entry.ops).map(|change| changes.push(change)),
        };
        outcomes.insert(names, outcome);
    }
    if request.validate_only || changes.is_empty() {
        return outcomes;
    }
    if let Err(error) = quotas.alter(changes) {
        tracing::error!(%error, "cannot keep the quotas");
        let code = ErrorCode::KAFKA_STORAGE_ERROR;
        let done = outcomes.values_mut().filter(|outcome| outcome.is_ok());
        done.for_each(|outcome| *outcome = Err((code, code.description().to_owned())));
    }
    outcomes
}

fn names(entry: &AlterClientQuotasRequestEntryData) -> Names {
    let parts = entry.entity.iter();
    parts
        .map(|part| (part.entity_type.to_string(), part.entity_name.as_ref().map(ToString::to_string)))
        .collect()
}

fn has_repeated_key(ops: &[OpData]) -> bool {
    let mut keys = BTreeSet::new();
    !ops.iter().all(|op| keys.insert(&*op.key))
}

fn invalid<T>(message: impl Into<String>) -> Result<T, Denial> {
    Err((ErrorCode::INVALID_REQUEST, message.into()))
}

/// The changes that an entry asks for.
fn plan(quotas: &Quotas, names: &Names, ops: &[OpData]) -> Result<(Entity, Vec<Change>), Denial> {
    let entity = read_entity(names)?;
    let mut changes = Vec::new();
    for op in ops {
        // A quota that is removed need not exist.
        let key = Key::named(&op.key);
        if op.remove {
            changes.extend(key.map(|key| (key, None)));
            continue;
        }
        let of_addresses = entity.get(Kind::Ip).is_some();
        let Some(key) = key.filter(|key| key.is_of_addresses() == of_addresses) else {
            return invalid(format!("Invalid configuration key {}", op.key));
        };
        key.check(op.value).or_else(invalid)?;
        changes.push((key, Some(op.value)));
    }
    if !quotas.has(&entity) && !quotas.has_room() {
        return Err((ErrorCode::POLICY_VIOLATION, "This broker keeps no more quotas.".to_owned()));
    }
    Ok((entity, changes))
}

fn read_entity(names: &Names) -> Result<Entity, Denial> {
    let mut entity = Entity::default();
    for (kind, name) in names {
        let Some(known) = Kind::named(kind) else {
            return invalid(format!("Unhandled client quota entity type: {kind}"));
        };
        if name.as_ref().is_some_and(String::is_empty) {
            return invalid(format!("Empty {kind} not supported"));
        }
        if name.as_ref().is_some_and(|name| name.len() > NAME_BYTES_MAX) {
            return invalid(format!("A name has more than {NAME_BYTES_MAX} bytes"));
        }
        entity.set(known, Name::of(name.as_deref()));
    }
    match entity.get(Kind::Ip) {
        Some(_) if entity.iter().count() > 1 => {
            invalid("Invalid quota entity combination, IP entity shouldnot be combined with User or ClientId")
        }
        Some(Name::Is(ip)) => match quotas::address(ip) {
            Some(address) => {
                entity.set(Kind::Ip, Name::Is(address));
                Ok(entity)
            }
            // Kafka takes names of hosts, too, and asks for their addresses.
            None => invalid(format!("{ip} is not a valid IP or resolvable host.")),
        },
        _ if entity == Entity::default() => invalid("Invalid empty client quota entity"),
        _ => Ok(entity),
    }
}

fn answered(names: Names, outcome: Result<(), Denial>) -> AlterClientQuotasResponseEntryData {
    let part = |(kind, name): (String, Option<String>)| AlterClientQuotasResponseEntityData {
        entity_type: kind.into(),
        entity_name: name.map(Into::into),
        ..Default::default()
    };
    let (code, message) = outcome.err().unzip();
    AlterClientQuotasResponseEntryData {
        error_code: code.unwrap_or(ErrorCode::NONE),
        error_message: message.map(Into::into),
        entity: names.into_iter().map(part).collect(),
        ..Default::default()
    }
}
