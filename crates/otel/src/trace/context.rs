//! Trace contexts of OpenTelemetry and of records' headers, made of each other.

use milena::RecordView;
use milena::trace::TraceContext;
use opentelemetry::Context;
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};

use super::baggage;

/// What the context `of` puts into headers; none outside of a span.
pub(super) fn current(of: &Context) -> Option<TraceContext> {
    if !of.has_active_span() {
        return None;
    }
    let span = of.span();
    let span = span.span_context();
    let flags = span.trace_flags().to_u8();
    let context = TraceContext::new(span.trace_id().to_bytes(), span.span_id().to_bytes(), flags)?;
    let context = context.with_state(&span.trace_state().header());
    Some(context.with_baggage(&baggage::write(of.baggage())))
}

/// A record's span, as that of a remote parent.
pub(super) fn span_context(context: &TraceContext) -> SpanContext {
    let state = context.state().and_then(|state| state.parse::<TraceState>().ok()).unwrap_or_default();
    let (trace_id, span_id) =
        (TraceId::from_bytes(context.trace_id()), SpanId::from_bytes(context.span_id()));
    let sampled = TraceFlags::new(context.flags()) & TraceFlags::SAMPLED;
    SpanContext::new(trace_id, span_id, sampled, true, state)
}

/// The context that a record carries, with its baggage; none if it carries none.
pub(super) fn remote(record: &RecordView<'_>) -> Option<(TraceContext, Context)> {
    let carried = TraceContext::of(record)?;
    let mut context = Context::new().with_remote_span_context(span_context(&carried));
    if let Some(text) = carried.baggage() {
        context = context.with_baggage(baggage::read(text));
    }
    Some((carried, context))
}
