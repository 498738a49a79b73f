//! IncrementalAlterConfigs (44): changes some configs of topics, brokers and subscriptions to metrics of clients. KIP-339, KIP-226,
//! KIP-714.

use std::collections::BTreeSet;
use std::sync::Arc;

use milena_messages::incremental_alter_configs::{
    AlterConfigsResourceResponse, AlterableConfig, IncrementalAlterConfigsRequest,
    IncrementalAlterConfigsResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::create_topics::Denial;
use super::describe_configs::{
    BROKER_ID, RESOURCE_BROKER, RESOURCE_CLIENT_METRICS, RESOURCE_TOPIC, check_configs,
};
use super::row::{Api, HEAVY_COSTLY_BYTES};
use crate::acls::Operation;
use crate::call::Call;
use crate::configs::{self, BrokerConfig, BrokerConfigs, Overrides};
use crate::quotas::NAME_BYTES_MAX;
use crate::state::State;
use crate::telemetry::ClientMetricsConfig;
use crate::topic::{self, Topic};

pub(super) const API: Api = Api {
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    ..Api::new(ApiKey::IncrementalAlterConfigs, |call, reader| call.answer(reader, handle))
};

/// The configs that a client wants changed of one resource.
pub(super) struct Wanted {
    pub(super) resource_type: i8,
    pub(super) name: Str,
    /// Whether configs that are not among the changes lose their values (AlterConfigs).
    pub(super) replaces: bool,
    pub(super) changes: Vec<Change>,
}

/// A config, what to do with it, and a value.
pub(super) struct Change {
    pub(super) name: Str,
    pub(super) operation: i8,
    pub(super) value: Option<Str>,
}

pub(super) const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

fn handle(call: &Call<'_>, request: IncrementalAlterConfigsRequest) -> IncrementalAlterConfigsResponse {
    let wanted = request.resources.into_iter().map(|resource| {
        let change = |config: AlterableConfig| Change {
            name: config.name,
            operation: config.config_operation,
            value: config.value,
        };
        let changes = resource.configs.into_iter().map(change).collect();
        let (resource_type, name) = (resource.resource_type, resource.resource_name);
        Wanted { resource_type, name, replaces: false, changes }
    });
    let wanted: Vec<Wanted> = wanted.collect();
    let altered = alter(call, &wanted, request.validate_only);
    let responses = wanted.into_iter().zip(altered).map(|(wanted, altered)| {
        let (error_code, reason) = altered.err().unzip();
        AlterConfigsResourceResponse {
            error_code: error_code.unwrap_or(ErrorCode::NONE),
            error_message: reason.map(Str::from),
            resource_type: wanted.resource_type,
            resource_name: wanted.name,
            ..Default::default()
        }
    });
    IncrementalAlterConfigsResponse { responses: responses.collect(), ..Default::default() }
}

/// Alters each resource whose changes are all right, and saves them with one write. Returns an outcome for each.
pub(super) fn alter(call: &Call<'_>, wanted: &[Wanted], validate_only: bool) -> Vec<Result<(), Denial>> {
    let mut state = call.parts.state_mut();
    let mut topics: Vec<(Arc<Topic>, Overrides)> = Vec::new();
    let mut brokers: Option<BrokerConfigs> = None;
    let (mut seen, mut twice) = (BTreeSet::new(), BTreeSet::new());
    for resource in wanted {
        if !seen.insert((resource.resource_type, &resource.name)) {
            twice.insert((resource.resource_type, &resource.name));
        }
    }
    let mut plan = |resource: &Wanted| {
        if twice.contains(&(resource.resource_type, &resource.name)) {
            return invalid("Each resource must appear at most once.".to_owned());
        }
        check_form(resource)?;
        check_configs(call, Operation::AlterConfigs, resource.resource_type, &resource.name)?;
        match resource.resource_type {
            RESOURCE_TOPIC => topics.push(plan_topic(&state, resource)?),
            RESOURCE_BROKER => {
                let configs = brokers.get_or_insert_with(|| state.configs().clone());
                plan_broker(&state, configs, resource)?;
            }
            // They are in a part of their own, which is altered after the state.
            RESOURCE_CLIENT_METRICS => {}
            other => return invalid(format!("Unknown resource type {other}")),
        }
        Ok(())
    };
    let mut outcomes: Vec<Result<(), Denial>> = wanted.iter().map(&mut plan).collect();
    if validate_only {
        drop(state);
        alter_client_metrics(call, wanted, &mut outcomes, true);
        return outcomes;
    }
    let is_about_brokers = brokers.is_some();
    if let Err(error) = state.alter(topics, brokers) {
        let reason = error.to_string();
        for outcome in outcomes.iter_mut().filter(|outcome| outcome.is_ok()) {
            *outcome = Err((ErrorCode::KAFKA_STORAGE_ERROR, reason.clone()));
        }
        return outcomes;
    }
    drop(state);
    if is_about_brokers {
        call.parts.settings_changed(call.now);
    }
    alter_client_metrics(call, wanted, &mut outcomes, false);
    outcomes
}

/// Alters the subscriptions to metrics of clients among the resources that were not refused.
fn alter_client_metrics(
    call: &Call<'_>,
    wanted: &[Wanted],
    outcomes: &mut [Result<(), Denial>],
    validate_only: bool,
) {
    for (resource, outcome) in wanted.iter().zip(outcomes) {
        if resource.resource_type != RESOURCE_CLIENT_METRICS || outcome.is_err() {
            continue;
        }
        let mut telemetry = call.parts.telemetry();
        let altered = plan_client_metrics(telemetry.overrides(&resource.name), resource);
        *outcome =
            altered.and_then(|overrides| telemetry.alter(resource.name.as_str(), overrides, validate_only));
    }
}

fn plan_client_metrics(present: Option<&Overrides>, resource: &Wanted) -> Result<Overrides, Denial> {
    if resource.name.is_empty() {
        return invalid("Subscription name can't be empty".to_owned());
    }
    if resource.name.len() > NAME_BYTES_MAX {
        return invalid(format!("A subscription's name has more than {NAME_BYTES_MAX} bytes"));
    }
    let mut overrides = present.filter(|_| !resource.replaces).cloned().unwrap_or_default();
    for change in &resource.changes {
        let config = ClientMetricsConfig::find(&change.name);
        let list = config.filter(|config| matches!(config.kind, configs::Kind::List(_)));
        if let Some(operation) = change.apply(&mut overrides, list.map(|config| config.default)) {
            let reason = format!("Can't {operation} to key {} because its type is not LIST.", change.name);
            return Err((ErrorCode::INVALID_CONFIG, reason));
        }
    }
    Ok(overrides)
}

/// Refuses what is wrong whatever the configs mean.
fn check_form(resource: &Wanted) -> Result<(), Denial> {
    let names: BTreeSet<&Str> = resource.changes.iter().map(|change| &change.name).collect();
    if names.len() < resource.changes.len() {
        return invalid("Error due to duplicate config keys".to_owned());
    }
    let is_null = |change: &&Change| change.operation != DELETE && change.value.is_none();
    let nulls: Vec<&str> =
        resource.changes.iter().filter(is_null).map(|change| change.name.as_str()).collect();
    if !nulls.is_empty() {
        return invalid(format!("Null value not supported for : {}", nulls.join(", ")));
    }
    match resource.changes.iter().find(|change| !(SET..=SUBTRACT).contains(&change.operation)) {
        Some(change) => invalid(format!("Unknown operations type {}", change.operation)),
        None => Ok(()),
    }
}

fn plan_topic(state: &State, resource: &Wanted) -> Result<(Arc<Topic>, Overrides), Denial> {
    let name = resource.name.as_str();
    let found = state.topic(name);
    let mut overrides = match found {
        Some(topic) if !resource.replaces => topic.overrides.clone(),
        _ => Overrides::new(),
    };
    for change in &resource.changes {
        let definition = configs::definition(&change.name);
        let list = definition.filter(|definition| definition.is_list()).map(|definition| definition.default);
        if let Some(operation) = change.apply(&mut overrides, list) {
            let reason = format!("Can't {operation} to key {} because its type is not LIST.", change.name);
            return Err((ErrorCode::INVALID_CONFIG, reason));
        }
    }
    if name.is_empty() {
        return invalid("Default topic resources are not allowed.".to_owned());
    }
    topic::check_name(name).map_err(|reason| (ErrorCode::INVALID_TOPIC_EXCEPTION, reason))?;
    let overrides = configs::check(&overrides).map_err(|reason| (ErrorCode::INVALID_CONFIG, reason))?;
    let unknown = || (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, format!("The topic '{name}' does not exist."));
    Ok((Arc::clone(found.ok_or_else(unknown)?), overrides))
}

/// Changes `configs`, if all changes are right.
fn plan_broker(state: &State, configs: &mut BrokerConfigs, resource: &Wanted) -> Result<(), Denial> {
    let name = resource.name.as_str();
    if !name.is_empty() {
        check_node(state, name)?;
    }
    let overrides = if name.is_empty() { &configs.all } else { &configs.one };
    let mut altered = if resource.replaces { Overrides::new() } else { overrides.clone() };
    for change in &resource.changes {
        let name = change.name.as_str();
        let config = match BrokerConfig::find(name) {
            Some(config) if config.is_dynamic() => config,
            None if name != BROKER_ID => return invalid(format!("This broker has no config {name}.")),
            _ => return invalid(format!("Cannot update these configs dynamically: [{name}]")),
        };
        let list = matches!(config.kind(), configs::Kind::List(_)).then(|| config.default());
        if let Some(operation) = change.apply(&mut altered, list) {
            let operation = operation.to_ascii_lowercase();
            let reason = format!("Config value {operation} is not allowed for config key: {name}");
            return Err((ErrorCode::INVALID_CONFIG, reason));
        }
        if let Some(value) = altered.get_mut(name) {
            *value = config.check(value).or_else(invalid)?;
        }
    }
    *(if name.is_empty() { &mut configs.all } else { &mut configs.one }) = altered;
    Ok(())
}

/// Refuses to alter one node's configs, unless it is the only one.
fn check_node(state: &State, name: &str) -> Result<(), Denial> {
    let Ok(id) = name.parse::<i32>() else {
        return invalid(format!("Node id must be an integer, but it is: {name}"));
    };
    match state.nodes.first_key_value() {
        Some((first, _)) if state.nodes.len() == 1 && *first != id => {
            invalid(format!("Unexpected broker id, expected {first}, but received {name}"))
        }
        _ if !state.nodes.contains_key(&id) => invalid(format!("There is no broker {name} in this cluster.")),
        _ if state.nodes.len() > 1 => invalid(
            "All brokers of this cluster are one process with one set of configs: alter them without a broker's \
             name."
                .to_owned(),
        ),
        _ => Ok(()),
    }
}

impl Change {
    /// Changes the config in `overrides`. `list` is the default of a config that is a list. Returns what cannot be done
    /// because the config is no list.
    fn apply(&self, overrides: &mut Overrides, list: Option<&str>) -> Option<&'static str> {
        let value = self.value.as_ref().map_or("", Str::as_str);
        let name = self.name.as_str();
        match (self.operation, list) {
            (SET, _) => {
                overrides.insert(name.to_owned(), value.to_owned());
            }
            (DELETE, _) => {
                overrides.remove(name);
            }
            (APPEND, None) => return Some("APPEND"),
            (_, None) => return Some("SUBTRACT"),
            (operation, Some(default)) => {
                let current = overrides.get(name).map_or(default, String::as_str);
                let words: Vec<&str> = value.split(',').collect();
                let mut kept: Vec<&str> = current.split(',').filter(|word| !word.is_empty()).collect();
                match operation {
                    APPEND => kept.extend(words),
                    _ => kept.retain(|word| !words.contains(word)),
                }
                let kept = kept.join(",");
                overrides.insert(name.to_owned(), kept);
            }
        }
        None
    }
}

fn invalid<T>(reason: String) -> Result<T, Denial> {
    Err((ErrorCode::INVALID_REQUEST, reason))
}
