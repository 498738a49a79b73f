//! DescribeClientQuotas (48): the quotas that match a filter. KIP-546.

use std::collections::BTreeMap;

use milena_messages::describe_client_quotas::{
    ComponentData, DescribeClientQuotasRequest, DescribeClientQuotasResponse, EntityData, EntryData,
    ValueData,
};
use milena_messages::{ApiKey, ErrorCode};

use super::row::Api;
use crate::acls::Operation;
use crate::call::Call;
use crate::quotas::{self, Entity, Key, Kind, Name};

pub(super) const API: Api = Api {
    is_repeatable: true,
    // The answer may have ten thousand entities.
    is_heavy: |_, _| true,
    ..Api::new(ApiKey::DescribeClientQuotas, |call, reader| call.answer(reader, handle))
};

/// How a kind of names is to match.
#[derive(Debug)]
enum Match {
    Is(Name),
    /// Any name, and the default.
    Any,
}

/// What a filter asks of an entity.
type Filter = BTreeMap<Kind, Match>;

fn handle(call: &Call<'_>, request: DescribeClientQuotasRequest) -> DescribeClientQuotasResponse {
    let failed = |error_code, message: Option<String>| DescribeClientQuotasResponse {
        error_code,
        error_message: message.map(Into::into),
        entries: None,
        ..Default::default()
    };
    if let Err(code) = call.check_cluster(Operation::DescribeConfigs) {
        return failed(code, None);
    }
    let filter = match read(&request.components) {
        Ok(filter) => filter,
        Err((code, message)) => return failed(code, Some(message)),
    };
    let quotas = call.parts.quotas();
    let matching = quotas.iter().filter(|(entity, _)| matches(entity, &filter, request.strict));
    let entries = matching.map(|(entity, of_entity)| described(entity, of_entity)).collect();
    DescribeClientQuotasResponse { entries: Some(entries), ..Default::default() }
}

fn read(components: &[ComponentData]) -> Result<Filter, (ErrorCode, String)> {
    let mut filter = Filter::new();
    let invalid = |message: String| (ErrorCode::INVALID_REQUEST, message);
    for component in components {
        let name = &component.entity_type;
        if name.is_empty() {
            return Err(invalid("Invalid empty entity type.".to_owned()));
        }
        let Some(kind) = Kind::named(name) else {
            return Err((ErrorCode::UNSUPPORTED_VERSION, format!("Unsupported entity type {name}")));
        };
        if filter.contains_key(&kind) {
            return Err(invalid(format!("Entity type {name} cannot appear more than once in the filter.")));
        }
        let set = |what| {
            Err(invalid(format!("Request specified MATCH_TYPE_{what}, but also specified a match string.")))
        };
        let matched = match (component.match_type, component.r#match.as_deref()) {
            (0, Some(name)) => {
                let address = Some(name).filter(|_| kind == Kind::Ip).and_then(quotas::address);
                Match::Is(Name::Is(address.unwrap_or_else(|| name.to_owned())))
            }
            (0, None) => {
                let what = "Request specified MATCH_TYPE_EXACT, but set match string to null.";
                return Err(invalid(what.to_owned()));
            }
            (1, None) => Match::Is(Name::Default),
            (1, Some(_)) => return set("DEFAULT"),
            (2, None) => Match::Any,
            (2, Some(_)) => return set("SPECIFIED"),
            (other, _) => return Err(invalid(format!("Unknown match type {other}"))),
        };
        filter.insert(kind, matched);
    }
    if filter.contains_key(&Kind::Ip) && filter.len() > 1 {
        let what = "Invalid entity filter component combination. IP filter component should not be used with user or \
                    clientId filter component.";
        return Err(invalid(what.to_owned()));
    }
    Ok(filter)
}

fn matches(entity: &Entity, filter: &Filter, is_strict: bool) -> bool {
    let is_met = |(kind, matched): (&Kind, &Match)| match (entity.get(*kind), matched) {
        (None, _) => false,
        (Some(_), Match::Any) => true,
        (Some(name), Match::Is(wanted)) => name == wanted,
    };
    (!is_strict || entity.iter().count() == filter.len()) && filter.iter().all(is_met)
}

fn described(entity: &Entity, of_entity: &BTreeMap<Key, f64>) -> EntryData {
    let part = |(kind, name): (Kind, &Name)| EntityData {
        entity_type: kind.name().into(),
        entity_name: name.text().map(Into::into),
        ..Default::default()
    };
    let value =
        |(key, &value): (&Key, &f64)| ValueData { key: key.name().into(), value, ..Default::default() };
    EntryData {
        entity: entity.iter().map(part).collect(),
        values: of_entity.iter().map(value).collect(),
        ..Default::default()
    }
}
