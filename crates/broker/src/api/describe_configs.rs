//! DescribeConfigs (32). KIP-133, KIP-226 (synonyms), KIP-569 (types and documentation).

use milena_messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::create_topics::Denial;
use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::acls::{Operation, Resource};
use crate::call::Call;
use crate::configs::{self, BrokerConfig, BrokerConfigs, Definition, Kind, Link, Overrides};
use crate::telemetry;

pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;
pub(super) const RESOURCE_CLIENT_METRICS: i8 = 16;

/// The one config that nodes do not share.
pub(super) const BROKER_ID: &str = "broker.id";

const SOURCE_TOPIC: i8 = 1;
const SOURCE_ALL_BROKERS: i8 = 3;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;
const SOURCE_CLIENT_METRICS: i8 = 7;

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeConfigs, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let (kind, name) = (resource.resource_type, &resource.resource_name);
        let allowed = check_configs(call, Operation::DescribeConfigs, kind, name);
        let described = allowed.and_then(|()| describe(call, &resource, request.include_synonyms));
        let (error_code, error_message, configs) = match described {
            Ok(configs) => (ErrorCode::NONE, None, configs),
            Err((code, reason)) => (code, Some(Str::from(reason)), Vec::new()),
        };
        DescribeConfigsResult {
            error_code,
            error_message,
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs,
            ..Default::default()
        }
    });
    DescribeConfigsResponse { results: results.collect(), ..Default::default() }
}

/// Whether the client may do this with the configs of a resource.
pub(super) fn check_configs(
    call: &Call<'_>,
    operation: Operation,
    resource_type: i8,
    name: &str,
) -> Result<(), Denial> {
    let allowed = match resource_type {
        RESOURCE_TOPIC => call.check(operation, Resource::Topic, name),
        RESOURCE_BROKER | RESOURCE_CLIENT_METRICS => call.check_cluster(operation),
        _ => Ok(()),
    };
    allowed.map_err(|code| (code, code.description().to_owned()))
}

/// The places where a topic's config has a value, for a topic that sets these configs itself. The first one holds.
pub(super) fn topic_chain(
    brokers: &BrokerConfigs,
    definition: &'static Definition,
    overrides: &Overrides,
) -> Vec<Link> {
    let own = overrides.get(definition.name);
    let own = own.map(|value| (SOURCE_TOPIC, definition.name, value.clone()));
    let of_broker =
        (!definition.broker.is_empty()).then(|| brokers.chain(BrokerConfig::OfTopics(definition)));
    own.into_iter().chain(of_broker.unwrap_or_default()).collect()
}

/// The value that holds and its source. Kafka has no link for some defaults.
pub(super) fn value_of(chain: &[Link], default: &'static str) -> (i8, Str) {
    match chain.first() {
        Some((source, _, value)) => (*source, Str::from(value.as_str())),
        None => (SOURCE_DEFAULT, Str::from_static(default)),
    }
}

type Described = Result<Vec<DescribeConfigsResourceResult>, Denial>;

fn describe(call: &Call<'_>, resource: &DescribeConfigsResource, synonyms: bool) -> Described {
    let keys = resource.configuration_keys.as_ref();
    // Both null and an empty list ask for all configs.
    let is_wanted =
        |name: &str| keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key == name));
    match resource.resource_type {
        RESOURCE_TOPIC => describe_topic(call, &resource.resource_name, is_wanted, synonyms),
        RESOURCE_BROKER => describe_broker(call, &resource.resource_name, is_wanted, synonyms),
        RESOURCE_CLIENT_METRICS => {
            describe_client_metrics(call, &resource.resource_name, is_wanted, synonyms)
        }
        other => Err((ErrorCode::INVALID_REQUEST, format!("Resource type {other} is not supported."))),
    }
}

fn describe_topic(
    call: &Call<'_>,
    name: &str,
    is_wanted: impl Fn(&str) -> bool,
    synonyms: bool,
) -> Described {
    crate::topic::check_name(name).map_err(|reason| (ErrorCode::INVALID_TOPIC_EXCEPTION, reason))?;
    let state = call.parts.state();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topic = state.topic(name).ok_or_else(|| (unknown, unknown.description().to_owned()))?;
    let wanted = configs::TOPIC.iter().filter(|definition| is_wanted(definition.name));
    let described = wanted.map(|definition| {
        let chain = topic_chain(state.configs(), definition, &topic.overrides);
        let (source, value) = value_of(&chain, definition.default);
        result(definition.name, definition.kind, source, Some(value), synonyms.then_some(chain))
    });
    Ok(described.collect())
}

fn describe_broker(
    call: &Call<'_>,
    name: &str,
    is_wanted: impl Fn(&str) -> bool,
    synonyms: bool,
) -> Described {
    let state = call.parts.state();
    // The empty name asks for what was altered for all brokers.
    let is_all = name.is_empty();
    if !is_all && !name.parse().is_ok_and(|node: i32| state.nodes.contains_key(&node)) {
        return Err((ErrorCode::INVALID_REQUEST, format!("There is no broker {name} in this cluster.")));
    }
    let mut described = Vec::new();
    for config in BrokerConfig::all().into_iter().filter(|config| is_wanted(config.name())) {
        let mut chain = state.configs().chain(config);
        if is_all {
            chain.retain(|(source, ..)| *source == SOURCE_ALL_BROKERS);
            if chain.is_empty() {
                continue;
            }
        }
        let (source, value) = match chain.first() {
            Some((source, _, value)) => (*source, Some(Str::from(value.as_str()))),
            None => (SOURCE_DEFAULT, None),
        };
        let chain = synonyms.then_some(chain);
        described.push(DescribeConfigsResourceResult {
            read_only: !config.is_dynamic(),
            ..result(config.name(), config.kind(), source, value, chain)
        });
    }
    if !is_all && is_wanted(BROKER_ID) {
        let chain = vec![(SOURCE_STATIC_BROKER, BROKER_ID, name.to_owned())];
        let value = Some(Str::from(name));
        described.push(DescribeConfigsResourceResult {
            read_only: true,
            ..result(BROKER_ID, Kind::Int, SOURCE_STATIC_BROKER, value, synonyms.then_some(chain))
        });
    }
    Ok(described)
}

/// The configs of a subscription to metrics of clients. One that does not exist has the defaults, as in Kafka.
fn describe_client_metrics(
    call: &Call<'_>,
    name: &str,
    is_wanted: impl Fn(&str) -> bool,
    synonyms: bool,
) -> Described {
    if name.is_empty() {
        return Err((
            ErrorCode::INVALID_REQUEST,
            "Client metrics subscription name must not be empty".to_owned(),
        ));
    }
    let telemetry = call.parts.telemetry();
    let overrides = telemetry.overrides(name);
    let wanted = telemetry::CONFIGS.iter().filter(|config| is_wanted(config.name));
    let described = wanted.map(|config| {
        let own = overrides.and_then(|overrides| overrides.get(config.name));
        let own = own.map(|value| (SOURCE_CLIENT_METRICS, config.name, value.clone()));
        let default = (SOURCE_DEFAULT, config.name, config.default.to_owned());
        let chain: Vec<Link> = own.into_iter().chain([default]).collect();
        let (source, value) = value_of(&chain, config.default);
        result(config.name, config.kind, source, Some(value), synonyms.then_some(chain))
    });
    Ok(described.collect())
}

fn result(
    name: &'static str,
    kind: Kind,
    config_source: i8,
    value: Option<Str>,
    synonyms: Option<Vec<Link>>,
) -> DescribeConfigsResourceResult {
    let synonym = |(source, name, value): Link| DescribeConfigsSynonym {
        name: Str::from_static(name),
        value: Some(value.into()),
        source,
        ..Default::default()
    };
    DescribeConfigsResourceResult {
        name: Str::from_static(name),
        value,
        config_source,
        config_type: kind.number(),
        synonyms: synonyms.into_iter().flatten().map(synonym).collect(),
        ..Default::default()
    }
}
