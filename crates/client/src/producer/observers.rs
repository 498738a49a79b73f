//! Those who see each record before and after it is taken. A producer without any does nothing for them.

use std::sync::Arc;

use super::Interceptor;
use super::accumulator::{Accumulator, Appended, Memory, OpenBatch, Waited};
use crate::trace::{TraceContext, Tracing};
use crate::{Header, Record};

/// A trace context has at most this many headers.
const CONTEXT_HEADERS_MAX: usize = 3;
/// The headers of a record and its context that need no allocation.
const HEADERS_FEW: usize = 8;

/// Interceptors that want records, and the client's hooks.
pub(super) struct Observers {
    interceptors: Vec<Arc<dyn Interceptor>>,
    trace: Option<Tracing>,
}

impl Observers {
    /// None if nobody wants to see records.
    pub(super) fn of(interceptors: &[Arc<dyn Interceptor>], trace: Option<&Tracing>) -> Option<Box<Self>> {
        let wanting = interceptors.iter().filter(|interceptor| interceptor.wants_records());
        let interceptors: Vec<_> = wanting.cloned().collect();
        let is_any = !interceptors.is_empty() || trace.is_some();
        is_any.then(|| Box::new(Self { interceptors, trace: trace.cloned() }))
    }

    /// As [`Accumulator::append`], with the trace context in the record's headers.
    #[cold]
    pub(super) fn append<T>(
        &self,
        accumulator: &Accumulator,
        record: &Record<'_>,
        timestamp_ms: i64,
        memory: &Memory,
        waited: &mut Waited,
        take: impl FnOnce(&mut OpenBatch, u32) -> T,
    ) -> Appended<T> {
        let appended = self.with_context(record, |record, context| {
            accumulator.append(record, timestamp_ms, memory, waited, |batch, index| {
                if let Some(context) = context {
                    batch.contexts.add(context);
                }
                take(batch, index)
            })
        });
        if matches!(appended, Appended::Done(_)) {
            for interceptor in &self.interceptors {
                interceptor.taken(record, accumulator.partition);
            }
        }
        appended
    }

    /// The record as it is written, with its trace context.
    pub(super) fn with_context<T>(
        &self,
        record: &Record<'_>,
        of: impl FnOnce(&Record<'_>, Option<TraceContext>) -> T,
    ) -> T {
        match self.trace.as_ref().and_then(|trace| trace.created(record)) {
            None => of(record, None),
            Some((context, false)) => of(record, Some(context)),
            Some((context, true)) => {
                let (parent, own) = (context.parent(), record.header_slice());
                let parent = std::str::from_utf8(&parent).expect("digits and dashes");
                let all = own.iter().copied().chain(context.headers(parent));
                // Most records have few headers, which need no allocation.
                let mut few = [Header::new("", None); HEADERS_FEW];
                let many: Vec<_>;
                let headers = if own.len() + CONTEXT_HEADERS_MAX <= HEADERS_FEW {
                    let count = few.iter_mut().zip(all).map(|(place, header)| *place = header).count();
                    &few[..count]
                } else {
                    many = all.collect();
                    &many[..]
                };
                of(&record.with_headers(headers), Some(context.clone()))
            }
        }
    }
}
