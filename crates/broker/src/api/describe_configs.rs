//! DescribeConfigs (32). KIP-133, KIP-226 (synonyms), KIP-569 (types and documentation).

use milena_messages::describe_configs::{
    DescribeConfigsRequest, DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResponse,
    DescribeConfigsResult, DescribeConfigsSynonym,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::row::{Api, COSTLY_ELEMENTS_MAX, HEAVY_COSTLY_BYTES};
use crate::call::Call;
use crate::configs::{self, Definition, Kind, Overrides, TopicRules};

const RESOURCE_TOPIC: i8 = 2;
const RESOURCE_BROKER: i8 = 4;

const SOURCE_TOPIC: i8 = 1;
const SOURCE_STATIC_BROKER: i8 = 4;
const SOURCE_DEFAULT: i8 = 5;

/// The value of a config, and DescribeConfigs' number for its source.
pub(super) struct Value {
    pub(super) text: Str,
    pub(super) source: i8,
}

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    is_heavy: |_, bytes| bytes > HEAVY_COSTLY_BYTES,
    is_repeatable: true,
    ..Api::new(ApiKey::DescribeConfigs, |call, reader| call.answer(reader, handle))
};

fn handle(call: &Call<'_>, request: DescribeConfigsRequest) -> DescribeConfigsResponse {
    let results = request.resources.into_iter().map(|resource| {
        let described = describe(call, &resource, request.include_synonyms);
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

/// The value of one config of a topic that sets these configs itself.
pub(super) fn topic_value(call: &Call<'_>, definition: &Definition, overrides: &Overrides) -> Value {
    if let Some(text) = overrides.get(definition.name) {
        return Value { text: Str::from(text.as_str()), source: SOURCE_TOPIC };
    }
    match call.parts.settings.topic_defaults.get(definition.name) {
        Some(text) if text != definition.default => {
            Value { text: Str::from(text.as_str()), source: SOURCE_STATIC_BROKER }
        }
        _ => Value { text: Str::from_static(definition.default), source: SOURCE_DEFAULT },
    }
}

type Described = Result<Vec<DescribeConfigsResourceResult>, (ErrorCode, String)>;

fn describe(call: &Call<'_>, resource: &DescribeConfigsResource, synonyms: bool) -> Described {
    let keys = resource.configuration_keys.as_ref();
    // Both null and an empty list ask for all configs.
    let is_wanted =
        |name: &str| keys.is_none_or(|keys| keys.is_empty() || keys.iter().any(|key| key == name));
    match resource.resource_type {
        RESOURCE_TOPIC => describe_topic(call, &resource.resource_name, is_wanted, synonyms),
        RESOURCE_BROKER => describe_broker(call, &resource.resource_name, is_wanted),
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
    let topic = call.parts.state().topic(name).cloned();
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
    let topic = topic.ok_or_else(|| (unknown, unknown.description().to_owned()))?;
    let wanted = configs::TOPIC.iter().filter(|definition| is_wanted(definition.name));
    Ok(wanted
        .map(|definition| {
            let value = topic_value(call, definition, &topic.overrides);
            let synonym = |value: &Value| DescribeConfigsSynonym {
                name: Str::from_static(definition.name),
                value: Some(value.text.clone()),
                source: value.source,
                ..Default::default()
            };
            let mut chain = Vec::new();
            if synonyms {
                chain.push(synonym(&value));
                if value.source == SOURCE_TOPIC {
                    chain.push(synonym(&topic_value(call, definition, &Overrides::new())));
                }
            }
            DescribeConfigsResourceResult {
                synonyms: chain,
                ..result(definition.name, definition.kind, value)
            }
        })
        .collect())
}

fn describe_broker(call: &Call<'_>, name: &str, is_wanted: impl Fn(&str) -> bool) -> Described {
    let known = name.parse().is_ok_and(|node: i32| call.parts.state().nodes.contains_key(&node));
    // The empty name asks for the configs that were set dynamically for all brokers. There are none here.
    if name.is_empty() {
        return Ok(Vec::new());
    }
    if !known {
        return Err((ErrorCode::INVALID_REQUEST, format!("There is no broker {name} in this cluster.")));
    }
    let settings = &call.parts.settings;
    let rules = TopicRules::new(&Overrides::new(), &settings.topic_defaults);
    let all = [
        ("auto.create.topics.enable", Kind::Bool, settings.auto_create_topics.to_string()),
        ("broker.id", Kind::Int, name.to_owned()),
        ("default.replication.factor", Kind::Int, settings.replication_default.to_string()),
        ("fetch.max.bytes", Kind::Int, settings.fetch_bytes_max.to_string()),
        ("log.segment.bytes", Kind::Int, rules.segment_bytes.to_string()),
        ("max.incremental.fetch.session.cache.slots", Kind::Int, settings.fetch_sessions_max.to_string()),
        ("message.max.bytes", Kind::Int, rules.batch_bytes_max.to_string()),
        ("num.partitions", Kind::Int, settings.partitions_default.to_string()),
    ];
    let wanted = all.into_iter().filter(|(name, ..)| is_wanted(name));
    Ok(wanted
        .map(|(name, kind, text)| {
            let value = Value { text: text.into(), source: SOURCE_STATIC_BROKER };
            DescribeConfigsResourceResult { read_only: true, ..result(name, kind, value) }
        })
        .collect())
}

fn result(name: &'static str, kind: Kind, value: Value) -> DescribeConfigsResourceResult {
    DescribeConfigsResourceResult {
        name: Str::from_static(name),
        value: Some(value.text),
        config_source: value.source,
        config_type: kind.number(),
        ..Default::default()
    }
}
