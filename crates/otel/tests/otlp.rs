//! Metrics over OTLP, as a collector reads them: OpenTelemetry's own definitions decode what is sent.

#![allow(clippy::disallowed_methods, reason = "tests run on tokio")]

use std::time::{Duration, SystemTime};

use milena::metrics::{Family, OTHER, Registry, Unit};
use milena::{Client, Record};
use milena_broker::Broker;
use milena_otel::otlp::{Exporter, Push, encode};
use opentelemetry::trace::{
    Link, Span as _, SpanContext, SpanId, SpanKind, Status, TraceContextExt as _, TraceFlags, TraceId,
    TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Array, Context, Value};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    HistogramDataPoint, Metric, NumberDataPoint, metric, number_data_point,
};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use prost::Message as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

/// Nothing here takes this long.
const LIMIT: Duration = Duration::from_secs(60);

/// Takes one request after the other, and answers with this status. Sends each with its head.
async fn collector(statuses: Vec<u16>) -> (String, tokio::sync::mpsc::UnboundedReceiver<(String, Vec<u8>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = format!("http://{}", listener.local_addr().expect("bound"));
    let (taken, requests) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for status in statuses {
            let (mut stream, _) = listener.accept().await.expect("connected");
            let mut bytes = Vec::new();
            let (head, length) = loop {
                let mut more = [0; 4096];
                let count = stream.read(&mut more).await.expect("read");
                bytes.extend_from_slice(&more[..count]);
                let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                let length: usize = length.expect("a length").trim().parse().expect("a number");
                bytes.drain(..end + 4);
                break (head, length);
            };
            while bytes.len() < length {
                let mut more = [0; 4096];
                let count = stream.read(&mut more).await.expect("read");
                bytes.extend_from_slice(&more[..count]);
            }
            let _ = taken.send((head, bytes));
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (address, requests)
}

fn decoded(body: &[u8]) -> ExportMetricsServiceRequest {
    ExportMetricsServiceRequest::decode(body).expect("a request of OTLP")
}

fn metrics(request: &ExportMetricsServiceRequest) -> &[Metric] {
    &request.resource_metrics[0].scope_metrics[0].metrics
}

fn find<'a>(request: &'a ExportMetricsServiceRequest, name: &str) -> &'a Metric {
    let found = metrics(request).iter().find(|metric| metric.name == name);
    found.unwrap_or_else(|| {
        panic!("no {name} in {:?}", metrics(request).iter().map(|of| &of.name).collect::<Vec<_>>())
    })
}

fn attribute(list: &[KeyValue], name: &str) -> String {
    let found =
        list.iter().find(|pair| pair.key == name).and_then(|pair| pair.value.as_ref()?.value.as_ref());
    match found {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(other) => panic!("{other:?}"),
        None => String::new(),
    }
}

fn sums(metric: &Metric) -> &[NumberDataPoint] {
    match metric.data.as_ref() {
        Some(metric::Data::Sum(sum)) => {
            assert!(sum.is_monotonic && sum.aggregation_temporality == 2, "cumulative");
            &sum.data_points
        }
        other => panic!("{other:?}"),
    }
}

fn histograms(metric: &Metric) -> &[HistogramDataPoint] {
    match metric.data.as_ref() {
        Some(metric::Data::Histogram(histogram)) => {
            assert_eq!(histogram.aggregation_temporality, 2, "cumulative");
            &histogram.data_points
        }
        other => panic!("{other:?}"),
    }
}

fn number(point: &NumberDataPoint) -> f64 {
    match point.value {
        Some(number_data_point::Value::AsDouble(value)) => value,
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_kinds_of_series_are_what_they_were() {
    static SALES: Family = Family::counter("shop_sales_total", "Sales.").labelled(&["city"], 0);
    static SEATS: Family = Family::gauge("shop_seats", "Seats.");
    static WAITED: Family = Family::histogram("shop_wait_seconds", "Waiting.").in_unit(Unit::Seconds);
    static SILENT: Family = Family::counter("shop_silent_total", "Nothing.");
    let registry = Registry::new();
    registry.know(&[&SILENT]);
    registry.counter(&SALES, &["Kiel"]).add(300);
    registry.counter(&SALES, &["Ulm"]).add(1);
    registry.gauge(&SEATS, &[]).add(-5);
    let waited = registry.histogram(&WAITED, &[]);
    for seconds in [0.0002, 0.02, 0.02, 1000.0] {
        waited.record_duration(Duration::from_secs_f64(seconds));
    }
    let (start, now) =
        (SystemTime::UNIX_EPOCH + Duration::from_secs(7), SystemTime::UNIX_EPOCH + Duration::from_secs(9));
    let request = decoded(&encode(&registry.snapshot(), &[("service.name", "shöp")], start, now));

    let of_program = &request.resource_metrics[0].resource.as_ref().expect("one").attributes;
    assert_eq!(attribute(of_program, "service.name"), "shöp");
    assert_eq!(request.resource_metrics[0].schema_url, "https://opentelemetry.io/schemas/1.44.0");
    assert_eq!(metrics(&request).len(), 3, "without series there is nothing to tell");
    let sales = find(&request, "shop_sales_total");
    assert_eq!((&*sales.description, &*sales.unit), ("Sales.", "1"));
    let points: Vec<_> =
        sums(sales).iter().map(|point| (attribute(&point.attributes, "city"), number(point))).collect();
    assert_eq!(points, [("Kiel".to_owned(), 300.0), ("Ulm".to_owned(), 1.0)]);
    assert_eq!(
        (sums(sales)[0].start_time_unix_nano, sums(sales)[0].time_unix_nano),
        (7_000_000_000, 9_000_000_000)
    );
    match find(&request, "shop_seats").data.as_ref() {
        Some(metric::Data::Gauge(gauge)) => assert_eq!(number(&gauge.data_points[0]), -5.0),
        other => panic!("{other:?}"),
    }
    let waited = find(&request, "shop_wait_seconds");
    let point = &histograms(waited)[0];
    assert_eq!((&*waited.unit, point.count), ("s", 4));
    assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    assert_eq!(point.bucket_counts.iter().sum::<u64>(), 4);
    assert_eq!(point.bucket_counts.last(), Some(&1), "above all bounds");
    assert!((point.sum.expect("a sum") / 1000.0 - 1.0).abs() < 0.02);
    assert!((point.max.expect("the highest") / 1000.0 - 1.0).abs() < 0.02);
}

#[tokio::test]
async fn a_collector_gets_what_a_client_counts_under_the_names_of_the_conventions() {
    let (address, mut requests) = collector(vec![503, 200, 200]).await;
    let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO);
    let cluster = builder.start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let registry = Registry::with_series_max(100);
    let client = Client::builder().bootstrap(cluster.bootstrap()).metrics(&registry).connect().await;
    let client = client.expect("connected");
    let producer = client.producer().build().await.expect("built");
    for _ in 0..3 {
        producer.send(Record::to("orders").value("created")).await.expect("written");
    }
    let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await.expect("built");
    let mut records = 0;
    while records < 3 {
        let batch = tokio::time::timeout(LIMIT, consumer.next())
            .await
            .expect("in time")
            .expect("read")
            .expect("joined");
        records += batch.iter().count();
        consumer.done(&batch);
    }
    consumer.commit().await.expect("committed");

    let push = Push::to(&address)
        .expect("an address")
        .every(Duration::from_millis(20))
        .attribute("service.name", "shop");
    let pushing = push.header("authorization", "Bearer s3cret").start(&registry);
    // The first one is refused, and the next one has all of it.
    let mut last = None;
    for _ in 0..2 {
        last = tokio::time::timeout(LIMIT, requests.recv()).await.expect("in time");
    }
    let (head, body) = last.expect("a request");
    assert!(head.starts_with("post /v1/metrics http/1.1"), "{head}");
    assert!(
        head.contains("content-type: application/x-protobuf")
            && head.contains("authorization: bearer s3cret")
    );
    tokio::time::timeout(LIMIT, pushing.stop()).await.expect("in time").expect("taken");

    let request = decoded(&body);
    let sent = &sums(find(&request, "messaging.client.sent.messages"))[0];
    assert_eq!(number(sent), 3.0);
    for (name, expected) in [
        ("messaging.system", "kafka"),
        ("messaging.operation.name", "send"),
        ("messaging.destination.name", "orders"),
        ("error.type", ""),
    ] {
        assert_eq!(attribute(&sent.attributes, name), expected, "{name}");
    }
    assert_eq!(number(&sums(find(&request, "messaging.client.consumed.messages"))[0]), 3.0);
    let operations = histograms(find(&request, "messaging.client.operation.duration"));
    let of = |name| {
        operations.iter().find(|point| attribute(&point.attributes, "messaging.operation.name") == name)
    };
    let send = of("send").expect("sent");
    assert_eq!((send.count, send.explicit_bounds.len()), (3, 14), "the buckets of the conventions");
    assert!(of("commit").is_some_and(|commit| commit.count > 0));
    find(&request, "milena_producer_phase_seconds");
}

#[tokio::test]
async fn errors_and_topics_without_room_are_told_as_such() {
    let registry = Registry::new();
    let errors = &milena::metrics::families::PRODUCER_RECORD_ERRORS;
    registry.counter(errors, &["MESSAGE_TOO_LARGE", OTHER]).add(2);
    let now = SystemTime::now();
    let request = decoded(&encode(&registry.snapshot(), &[], now, now));
    let point = &sums(find(&request, "messaging.client.sent.messages"))[0];
    assert_eq!(attribute(&point.attributes, "error.type"), "MESSAGE_TOO_LARGE");
    assert_eq!(attribute(&point.attributes, "messaging.destination.name"), "", "no topic has this name");

    let (address, _requests) = collector(vec![400]).await;
    let pushing = Push::to(&address).expect("an address").start(&registry);
    let error = tokio::time::timeout(LIMIT, pushing.stop()).await.expect("in time").expect_err("refused");
    assert!(error.to_string().contains("answered 400"), "{error}");
    assert!(Push::to("no address").is_err());
    let shown = format!("{:?}", Push::to(&address).expect("one").header("authorization", "s3cret"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

fn bytes<const N: usize>(bytes: &[u8]) -> [u8; N] {
    bytes.try_into().expect("an id")
}

#[tokio::test(flavor = "multi_thread")]
async fn spans_are_sent_as_they_are() {
    let (address, mut requests) = collector(vec![200, 400]).await;
    let exporter = Exporter::to(&address).expect("an address").header("authorization", "Bearer s3cret");
    assert!(!format!("{exporter:?}").contains("s3cret"));
    let resource = Resource::builder_empty().with_service_name("shop").build();
    let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
    let tracer = provider.tracer("of the test");
    let parent = Context::new().with_span(tracer.start("parent"));
    let state: TraceState = "a=1".parse().expect("valid");
    let other = SpanContext::new(
        TraceId::from_bytes([7; 16]),
        SpanId::from_bytes([8; 8]),
        TraceFlags::SAMPLED,
        true,
        state,
    );
    let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
    let mut span = tracer
        .span_builder("child")
        .with_kind(SpanKind::Consumer)
        .with_start_time(begin)
        .with_links(vec![Link::with_context(other)])
        .with_attributes([
            opentelemetry::KeyValue::new("text", ""),
            opentelemetry::KeyValue::new("number", -5),
            opentelemetry::KeyValue::new("half", 0.5),
            opentelemetry::KeyValue::new("flag", true),
            opentelemetry::KeyValue::new("list", Value::Array(Array::I64(vec![1, 300]))),
        ])
        .start_with_context(&tracer, &parent);
    span.add_event("met", vec![opentelemetry::KeyValue::new("who", "Ada")]);
    span.set_status(Status::error("it is bad"));
    span.end_with_timestamp(begin + Duration::from_secs(2));
    let flushing = provider.clone();
    tokio::task::spawn_blocking(move || flushing.force_flush()).await.expect("ends").expect("taken");

    let (head, body) =
        tokio::time::timeout(LIMIT, requests.recv()).await.expect("in time").expect("a request");
    assert!(
        head.starts_with("post /v1/traces http/1.1") && head.contains("authorization: bearer s3cret"),
        "{head}"
    );
    let request = ExportTraceServiceRequest::decode(&*body).expect("a request of OTLP");
    let [all] = &request.resource_spans[..] else { panic!("{request:?}") };
    assert_eq!(attribute(&all.resource.as_ref().expect("one").attributes, "service.name"), "shop");
    let [scope] = &all.scope_spans[..] else { panic!("{request:?}") };
    assert_eq!(scope.scope.as_ref().expect("one").name, "of the test");
    let [sent] = &scope.spans[..] else { panic!("{request:?}") };
    let of_parent = parent.span();
    let of_parent = of_parent.span_context();
    assert_eq!(bytes::<16>(&sent.trace_id), of_parent.trace_id().to_bytes());
    assert_eq!(bytes::<8>(&sent.parent_span_id), of_parent.span_id().to_bytes());
    assert_eq!(bytes::<8>(&sent.span_id), span.span_context().span_id().to_bytes());
    assert_eq!((&*sent.name, sent.kind), ("child", 5));
    assert_eq!((sent.start_time_unix_nano, sent.end_time_unix_nano), (1_000_000_000_000, 1_002_000_000_000));
    let [link] = &sent.links[..] else { panic!("{sent:?}") };
    assert_eq!((bytes::<16>(&link.trace_id), bytes::<8>(&link.span_id)), ([7; 16], [8; 8]));
    assert_eq!(link.trace_state, "a=1");
    let [event] = &sent.events[..] else { panic!("{sent:?}") };
    assert_eq!((&*event.name, attribute(&event.attributes, "who")), ("met", "Ada".into()));
    let status = sent.status.as_ref().expect("one");
    assert_eq!((&*status.message, status.code), ("it is bad", 2));
    let values: Vec<_> =
        sent.attributes.iter().map(|pair| pair.value.clone().and_then(|any| any.value)).collect();
    assert_eq!(values[0], Some(any_value::Value::StringValue(String::new())));
    assert_eq!(values[1], Some(any_value::Value::IntValue(-5)));
    assert_eq!(values[2], Some(any_value::Value::DoubleValue(0.5)));
    assert_eq!(values[3], Some(any_value::Value::BoolValue(true)));
    let Some(any_value::Value::ArrayValue(list)) = &values[4] else { panic!("{values:?}") };
    let numbers: Vec<_> = list.values.iter().map(|any| any.value.clone()).collect();
    assert_eq!(numbers, [1, 300].map(|number| Some(any_value::Value::IntValue(number))));

    // What the collector refuses is an error, which the SDK tells.
    drop(parent);
    let refused = tokio::task::spawn_blocking(move || provider.force_flush()).await.expect("ends");
    let error = refused.expect_err("refused").to_string();
    assert!(error.contains("answered 400"), "{error}");
}

#[test]
fn outside_of_a_runtime_an_exporter_says_so() {
    assert!(Exporter::to("http://localhost:4318").is_err());
}
