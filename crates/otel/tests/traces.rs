//! From a producer over the embedded broker to a pipeline: spans, their links, and the trace that goes on.

#![allow(clippy::disallowed_methods, reason = "tests run on tokio")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena::{Client, Record};
use milena_broker::{Broker, Cluster};
use milena_otel::Traces;
use milena_pipeline::{Failure, Pipeline, Retry};
use opentelemetry::baggage::BaggageExt as _;
use opentelemetry::trace::{
    FutureExt as _, SpanId, SpanKind, Status, TraceContextExt as _, TraceId, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue, Value};
use opentelemetry_sdk::trace::{InMemorySpanExporter, SdkTracerProvider, SpanData};
use tokio::sync::Notify;
use tower::{Layer as _, service_fn};

/// Nothing here takes this long.
const LIMIT: Duration = Duration::from_secs(60);

struct World {
    cluster: Cluster,
    exporter: InMemorySpanExporter,
    provider: SdkTracerProvider,
}

impl World {
    async fn new() -> Self {
        let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO).batch_bytes_max(10_000);
        let cluster = builder.start().await.expect("started");
        cluster.create_topic("orders", 1).expect("created");
        let exporter = InMemorySpanExporter::default();
        let provider = SdkTracerProvider::builder().with_simple_exporter(exporter.clone()).build();
        Self { cluster, exporter, provider }
    }

    async fn client(&self, traces: &Traces) -> Client {
        let builder = Client::builder().bootstrap(self.cluster.bootstrap()).client_id("shop");
        builder.trace(traces.hooks()).connect().await.expect("connected")
    }

    /// The context of a span of the program that has begun.
    fn span(&self, name: &'static str) -> Context {
        Context::new().with_span(self.provider.tracer("shop").start(name))
    }

    fn spans(&self, name: &str) -> Vec<SpanData> {
        let all = self.exporter.get_finished_spans().expect("exported");
        all.into_iter().filter(|span| span.name == name).collect()
    }

    async fn eventually(&self, name: &str, count: usize) -> Vec<SpanData> {
        let deadline = tokio::time::Instant::now() + LIMIT;
        loop {
            let spans = self.spans(name);
            if spans.len() >= count {
                return spans;
            }
            assert!(tokio::time::Instant::now() < deadline, "{name}: {spans:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn value<'a>(span: &'a SpanData, name: &str) -> Option<&'a Value> {
    span.attributes.iter().find(|of| of.key.as_str() == name).map(|of| &of.value)
}

fn text(span: &SpanData, name: &str) -> String {
    value(span, name).map_or_else(String::new, |value| value.as_str().into_owned())
}

/// Of a trace and a span, as numbers.
type Ids = (u128, u64);

fn pair(trace: TraceId, span: SpanId) -> Ids {
    (u128::from_be_bytes(trace.to_bytes()), u64::from_be_bytes(span.to_bytes()))
}

fn ids(context: &Context) -> Ids {
    let span = context.span();
    pair(span.span_context().trace_id(), span.span_context().span_id())
}

fn linked(span: &SpanData) -> Vec<Ids> {
    span.links.iter().map(|link| pair(link.span_context.trace_id(), link.span_context.span_id())).collect()
}

/// The trace of a span, and its parent.
fn parent(span: &SpanData) -> Ids {
    pair(span.span_context.trace_id(), span.parent_span_id)
}

#[tokio::test]
async fn a_batch_of_two_traces_links_to_both_and_each_record_continues_its_own() {
    let world = World::new().await;
    let traces = Traces::new(&world.provider).propagating().with_keys();
    let client = world.client(&traces).await;
    let producer = client.producer().linger(Duration::from_secs(3)).build().await.expect("built");
    let (ada, bob) = (world.span("ada"), world.span("bob"));
    let with_baggage = ada.with_baggage([KeyValue::new("user", "Ada L.")]);
    let mut deliveries = Vec::new();
    for (key, context) in [("1", &with_baggage), ("2", &bob), ("3", &with_baggage), ("4", &Context::new())] {
        let record = Record::to("orders").key(key).value_or_null((key != "2").then_some(b"created"));
        deliveries.push(producer.enqueue(record).with_context(context.clone()).await.expect("taken"));
    }
    producer.flush().await.expect("written");
    for delivery in deliveries {
        delivery.await.expect("written");
    }
    let sent = world.spans("send orders");
    // The first record may have left alone: there was nothing in flight.
    let of_records: i64 = sent
        .iter()
        .map(|span| match value(span, "messaging.batch.message_count") {
            Some(Value::I64(count)) => *count,
            other => panic!("{other:?}"),
        })
        .sum();
    assert_eq!(of_records, 4);
    let several = sent.iter().max_by_key(|span| span.links.len()).expect("a span");
    let mut links = linked(several);
    links.sort_unstable();
    let mut both = [ids(&ada), ids(&bob)];
    both.sort_unstable();
    assert_eq!(links, both);
    assert_eq!((&several.span_kind, several.parent_span_id), (&SpanKind::Client, SpanId::INVALID));
    for (name, expected) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "send"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", "orders"),
        ("messaging.destination.partition.id", "0"),
        ("messaging.client.id", "shop"),
        ("server.address", "127.0.0.1"),
        ("error.type", ""),
    ] {
        assert_eq!(text(several, name), expected, "{name}");
    }
    assert_eq!(several.instrumentation_scope.schema_url(), Some("https://opentelemetry.io/schemas/1.44.0"));
    assert!(several.start_time <= several.end_time);

    // The pipeline's handler runs within the trace of its record.
    let (seen, all) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Notify::new()));
    let handler = {
        let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
        service_fn(move |record: milena_pipeline::Record| {
            let (seen, all) = (Arc::clone(&seen), Arc::clone(&all));
            async move {
                tokio::task::yield_now().await;
                let context = Context::current();
                let user = context.baggage().get("user").map(|user| user.as_str().to_owned());
                let mut seen = seen.lock().expect("whole");
                seen.push((record.offset(), ids(&context).0, user));
                if seen.len() == 4 {
                    all.notify_one();
                }
                Ok::<(), Failure>(())
            }
        })
    };
    let handler = traces.layer().group("billing").layer(handler);
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"]));
    let running = pipeline.run(handler, async move { all.notified().await });
    tokio::time::timeout(LIMIT, running).await.expect("in time").expect("succeeds");

    let mut seen = seen.lock().expect("whole").clone();
    seen.sort_by_key(|(offset, ..)| *offset);
    let user = Some("Ada L.".to_owned());
    assert_eq!((seen[0].1, &seen[0].2), (ids(&ada).0, &user));
    assert_eq!((seen[1].1, &seen[1].2), (ids(&bob).0, &None));
    assert_eq!((seen[2].1, &seen[2].2), (ids(&ada).0, &user));
    assert!(seen[3].1 != ids(&ada).0 && seen[3].1 != 0, "a trace of its own");

    let mut processed = world.spans("process orders");
    processed.sort_by_key(|span| text(span, "messaging.kafka.message.key"));
    assert_eq!(processed.len(), 4);
    let second = &processed[1];
    assert_eq!(parent(second), ids(&bob));
    assert!(second.parent_span_is_remote && second.span_kind == SpanKind::Consumer);
    assert_eq!(linked(second), [ids(&bob)]);
    assert_eq!(value(second, "messaging.kafka.message.tombstone"), Some(&Value::Bool(true)));
    assert_eq!(value(second, "messaging.kafka.offset"), Some(&Value::I64(1)));
    assert_eq!(text(second, "messaging.consumer.group.name"), "billing");
    assert_eq!(text(second, "messaging.operation.type"), "process");
    assert_eq!((linked(&processed[3]), processed[3].parent_span_id), (vec![], SpanId::INVALID));

    let polled = world.spans("poll orders");
    let mut links: Vec<_> = polled.iter().flat_map(linked).collect();
    links.sort_unstable();
    links.dedup();
    assert_eq!(links, both);
    assert_eq!(text(&polled[0], "messaging.operation.type"), "receive");
    assert_eq!(text(&polled[0], "messaging.consumer.group.name"), "billing");
    let committed = world.eventually("commit orders", 1).await;
    let last = committed.last().expect("one");
    assert_eq!(text(last, "messaging.operation.type"), "settle");
    assert_eq!(value(last, "messaging.kafka.offset"), Some(&Value::I64(4)));
}

#[tokio::test]
async fn a_batch_of_one_trace_is_a_part_of_it() {
    let world = World::new().await;
    let traces = Traces::new(&world.provider).propagating();
    let client = world.client(&traces).await;
    let producer = client.producer().build().await.expect("built");
    let ada = world.span("ada");
    producer.send(Record::to("orders").value("created")).with_context(ada.clone()).await.expect("written");
    let sent = world.eventually("send orders", 1).await;
    assert_eq!(parent(&sent[0]), ids(&ada));
    assert_eq!(value(&sent[0], "messaging.kafka.offset"), Some(&Value::I64(0)));

    // A group of records, and a batch, have links only.
    let mut consumer = client.consumer_direct().topic("orders").until_end().build().await.expect("built");
    let batch = consumer.next().await.expect("read").expect("a record");
    drop(traces.process_batch(&batch));
    let group = service_fn(|_: Vec<milena_pipeline::Record>| async { Ok::<(), Failure>(()) });
    let mut group = traces.group_layer().layer(group);
    let records: Vec<_> = batch.share().records().map(milena_pipeline::Record::from).collect();
    tower::Service::call(&mut group, records).await.expect("succeeds");
    tower::Service::call(&mut group, Vec::new()).await.expect("succeeds");
    let processed = world.spans("process orders");
    assert_eq!(processed.len(), 2, "nothing is nothing's span");
    for span in processed {
        assert_eq!(linked(&span), [ids(&ada)]);
    }
}

#[tokio::test]
async fn failures_have_their_type_and_status() {
    let world = World::new().await;
    let traces = Traces::new(&world.provider);
    let client = world.client(&traces).await;
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("orders").value(vec![1; 20_000])).await.expect_err("too large");
    let sent = world.eventually("send orders", 1).await;
    assert_eq!(text(&sent[0], "error.type"), "MESSAGE_TOO_LARGE");
    assert!(
        matches!(&sent[0].status, Status::Error { description } if description.contains("MESSAGE_TOO_LARGE"))
    );
    assert!(sent[0].links.is_empty());

    let ada = world.span("ada");
    producer.send(Record::to("orders").value("a")).with_context(ada.clone()).await.expect("written");
    let all = Arc::new(Notify::new());
    let handler = {
        let all = Arc::clone(&all);
        service_fn(move |_: milena_pipeline::Record| {
            all.notify_one();
            async { Err::<(), _>(Failure::poison("it is bad")) }
        })
    };
    let pipeline = Pipeline::new(client.consumer("billing").subscribe(["orders"])).retry(Retry::never());
    let running = pipeline.run(traces.layer().layer(handler), async move { all.notified().await });
    let _given_up = tokio::time::timeout(LIMIT, running).await.expect("in time");
    let processed = world.eventually("process orders", 1).await;
    assert_eq!(text(&processed[0], "error.type"), std::any::type_name::<Failure>());
    assert!(
        matches!(&processed[0].status, Status::Error { description } if description.contains("it is bad"))
    );
    assert!(linked(&processed[0]).is_empty(), "nothing is written into records unless it is asked for");
}
