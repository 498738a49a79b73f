//! Spans as a message of OTLP. It is pure.

use opentelemetry::trace::{Link, SpanContext, SpanId, SpanKind, Status};
use opentelemetry::{Array, InstrumentationScope, KeyValue, Value};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;

use super::proto::Message;
use super::unix_nanos;

/// The message `ExportTraceServiceRequest`.
pub(super) fn request(batch: &[SpanData], resource: &Resource) -> Vec<u8> {
    // Spans of few scopes come in any order.
    let mut scopes: Vec<(&InstrumentationScope, Vec<&SpanData>)> = Vec::new();
    for span in batch {
        let scope = &span.instrumentation_scope;
        match scopes.iter_mut().find(|(known, _)| *known == scope) {
            Some((_, spans)) => spans.push(span),
            None => scopes.push((scope, vec![span])),
        }
    }
    let mut request = Message::default();
    request.message(1, |all| {
        all.message(1, |message| {
            for (name, value) in resource {
                message.message(1, |pair| {
                    pair.text(1, name.as_str());
                    pair.message(2, |to| any(to, value));
                });
            }
        });
        for (scope, spans) in scopes {
            all.message(2, |of_scope| {
                of_scope.message(1, |message| {
                    message.text(1, scope.name());
                    message.text(2, scope.version().unwrap_or_default());
                    attributes(message, 3, scope.attributes());
                });
                spans.iter().for_each(|data| of_scope.message(2, |message| span(message, data)));
                of_scope.text(3, scope.schema_url().unwrap_or_default());
            });
        }
        all.text(3, resource.schema_url().unwrap_or_default());
    });
    request.finish()
}

fn span(to: &mut Message, data: &SpanData) {
    ids(to, &data.span_context);
    if data.parent_span_id != SpanId::INVALID {
        to.bytes(4, &data.parent_span_id.to_bytes());
    }
    to.text(5, &data.name);
    to.number(
        6,
        match data.span_kind {
            SpanKind::Internal => 1,
            SpanKind::Server => 2,
            SpanKind::Client => 3,
            SpanKind::Producer => 4,
            SpanKind::Consumer => 5,
        },
    );
    to.fixed(7, unix_nanos(data.start_time));
    to.fixed(8, unix_nanos(data.end_time));
    attributes(to, 9, &data.attributes);
    to.number(10, data.dropped_attributes_count.into());
    for event in &data.events.events {
        to.message(11, |message| {
            message.fixed(1, unix_nanos(event.timestamp));
            message.text(2, &event.name);
            attributes(message, 3, &event.attributes);
            message.number(4, event.dropped_attributes_count.into());
        });
    }
    to.number(12, data.events.dropped_count.into());
    data.links.links.iter().for_each(|link| to.message(13, |message| self::link(message, link)));
    to.number(14, data.links.dropped_count.into());
    to.message(15, |status| match &data.status {
        Status::Unset => {}
        Status::Ok => status.number(3, 1),
        Status::Error { description } => {
            status.text(2, description);
            status.number(3, 2);
        }
    });
}

fn link(to: &mut Message, link: &Link) {
    ids(to, &link.span_context);
    attributes(to, 4, &link.attributes);
    to.number(5, link.dropped_attributes_count.into());
}

/// Trace, span and state have the same numbers in spans and links.
fn ids(to: &mut Message, context: &SpanContext) {
    to.bytes(1, &context.trace_id().to_bytes());
    to.bytes(2, &context.span_id().to_bytes());
    to.text(3, &context.trace_state().header());
}

fn attributes<'a>(to: &mut Message, field: u8, list: impl IntoIterator<Item = &'a KeyValue>) {
    for KeyValue { key, value, .. } in list {
        to.message(field, |pair| {
            pair.text(1, key.as_str());
            pair.message(2, |to| any(to, value));
        });
    }
}

/// A value of any type. What the API may add later is written as text.
fn any(to: &mut Message, value: &Value) {
    match value {
        Value::Bool(value) => to.number(2, u64::from(*value)),
        Value::I64(value) => to.number(3, value.cast_unsigned()),
        Value::F64(value) => to.double(4, *value),
        Value::Array(array) => to.message(5, |list| match array {
            Array::Bool(values) => {
                values.iter().for_each(|value| list.message(1, |to| any(to, &(*value).into())));
            }
            Array::I64(values) => {
                values.iter().for_each(|value| list.message(1, |to| any(to, &(*value).into())));
            }
            Array::F64(values) => {
                values.iter().for_each(|value| list.message(1, |to| any(to, &(*value).into())));
            }
            Array::String(values) => {
                values.iter().for_each(|value| list.message(1, |to| any(to, &value.clone().into())));
            }
            _ => {}
        }),
        other => to.bytes(1, other.as_str().as_bytes()),
    }
}
