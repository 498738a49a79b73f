//! Layers around small services, on a clock that tests move.

mod support {
    include!("support/records.rs");
}

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use milena_pipeline::layers::{
    CallOutcome, CircuitBreaker, CircuitOpen, CircuitState, Deduplicate, KeyOf, Measure, Observe, PerKey,
    RateLimit, Retrying, TimedOut, Timeout, Trace,
};
use milena_pipeline::{Class, Failure, Record, Retry, Span};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, ServiceBuilder, ServiceExt as _, service_fn};

fn ten() -> Vec<Record> {
    let contents: Vec<support::Contents<'_>> = vec![("a", "x", &[]); 10];
    support::records(&contents)
}

/// A service that does what `handle` does, and can be cloned.
fn service<F, R>(
    handle: F,
) -> impl Service<Record, Response = (), Error = Failure, Future: Send> + Clone + Send + 'static
where
    F: Fn(Record) -> R + Clone + Send + 'static,
    R: Future<Output = Result<(), Failure>> + Send + 'static,
{
    service_fn(handle)
}

fn elapsed_ms(since: Instant) -> u128 {
    since.elapsed().as_millis()
}

#[tokio::test(start_paused = true)]
async fn a_call_that_takes_too_long_fails_and_its_future_is_dropped() {
    let record = support::record("a", "x");
    let held = Arc::new(());
    let inner = Arc::clone(&held);
    let mut service = Timeout::new(2.s()).layer(service(move |_| {
        let held = Arc::clone(&inner);
        async move {
            sleep(if Arc::strong_count(&held) > 3 { 1.s() } else { 1.hours() }).await;
            Ok(())
        }
    }));
    let begun = Instant::now();
    let failure = service.call(record.clone()).await.expect_err("it is late");
    assert_eq!((elapsed_ms(begun), failure.class()), (2000, Class::Retriable));
    assert_eq!(failure.downcast_ref::<TimedOut>().expect("late").limit(), 2.s());
    assert_eq!(failure.to_string(), "the handler took longer than its limit of 2s");
    assert_eq!(Arc::strong_count(&held), 2, "only the service has it");
    let _more = [Arc::clone(&held), Arc::clone(&held)];
    service.call(record).await.expect("it is in time");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_failed_is_called_again_as_the_policy_says() {
    let record = support::record("a", "x");
    let attempts: Arc<Mutex<Vec<(u32, u128)>>> = Arc::default();
    let (seen, begun) = (Arc::clone(&attempts), Instant::now());
    let inner = service(move |record: Record| {
        seen.lock().expect("no panic").push((record.attempt(), elapsed_ms(begun)));
        async move { if record.attempt() == 9 { Ok(()) } else { Err(Failure::retriable("no")) } }
    });
    let retry = Retry::exponential(100.ms(), 300.ms()).no_jitter();
    let mut service = Retrying::new(retry.attempts(4)).layer(inner);
    let failure = service.ready().await.expect("ready").call(record).await.expect_err("four attempts fail");
    assert_eq!(failure.class(), Class::Retriable);
    assert_eq!(*attempts.lock().expect("no panic"), [(1, 0), (2, 100), (3, 300), (4, 600)]);
}

#[tokio::test(start_paused = true)]
async fn a_class_that_a_rule_gives_comes_out_of_the_retry_layer() {
    let record = support::record("a", "x");
    let retry = Retry::fixed(1.s()).classify::<std::fmt::Error>(Class::Poison);
    let retry = retry.classify::<std::num::TryFromIntError>(Class::Fatal);
    let class = async |error: fn() -> Failure| {
        let mut service = Retrying::new(retry.clone()).layer(service(move |_| async move { Err(error()) }));
        service.call(record.clone()).await.expect_err("it fails").class()
    };
    assert_eq!(class(|| std::fmt::Error.into()).await, Class::Poison);
    assert_eq!(class(|| u8::try_from(300u32).expect_err("too large").into()).await, Class::Fatal);
}

#[tokio::test(start_paused = true)]
async fn retries_of_the_layer_wait_for_the_budget() {
    let record = support::record("a", "x");
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let inner = service(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        async { Err(Failure::retriable("no")) }
    });
    let retry = Retry::fixed(1.ms()).without_limit().elapsed_max(60.s()).budget(0);
    Retrying::new(retry).layer(inner).call(record).await.expect_err("a minute is over");
    // 100 in each ten seconds, and the first.
    let calls = calls.load(Ordering::Relaxed);
    assert!((590..=610).contains(&calls), "{calls}");
}

#[tokio::test(start_paused = true)]
async fn few_calls_run_at_a_time_for_each_key_and_in_order() {
    let contents: Vec<support::Contents<'_>> = vec![
        ("a", "0", &[("tenant", "t1")]),
        ("b", "1", &[("tenant", "t1")]),
        ("c", "2", &[("tenant", "t1")]),
        ("d", "3", &[("tenant", "t2")]),
        ("e", "4", &[]),
        ("f", "5", &[]),
        ("g", "6", &[]),
    ];
    let records = support::records(&contents);
    let begun = Instant::now();
    let started: Arc<Mutex<Vec<(String, u128)>>> = Arc::default();
    let seen = Arc::clone(&started);
    let inner = service(move |record: Record| {
        let value = String::from_utf8_lossy(record.value().unwrap_or_default()).into_owned();
        seen.lock().expect("no panic").push((value, elapsed_ms(begun)));
        async {
            sleep(1.s()).await;
            Ok(())
        }
    });
    let service = PerKey::new(KeyOf::header("tenant"), 1).layer(inner);
    let mut calls = JoinSet::new();
    for record in records {
        let mut service = service.clone();
        calls.spawn(async move { service.ready().await?.call(record).await });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("no panic").expect("done");
    }
    let mut started = started.lock().expect("no panic").clone();
    started.sort();
    let ms = [0, 1000, 2000, 0, 0, 0, 0];
    let expected: Vec<_> = ms.iter().enumerate().map(|(value, ms)| (value.to_string(), *ms)).collect();
    assert_eq!(started, expected);
}

#[tokio::test(start_paused = true)]
async fn calls_are_spread_over_the_second_after_a_burst() {
    let records = ten();
    let begun = Instant::now();
    let service = RateLimit::per_second(10).burst(3).layer(service(|_| async { Ok(()) }));
    sleep(1.s()).await;
    let mut times = Vec::new();
    // Workers share the limit.
    let mut workers = [service.clone(), service];
    for (index, record) in records.into_iter().enumerate() {
        let worker = &mut workers[index % 2];
        worker.ready().await.expect("ready").call(record).await.expect("done");
        times.push(elapsed_ms(begun) / 100);
    }
    assert_eq!(times, [10, 10, 10, 11, 12, 13, 14, 15, 16, 17]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_dropped_gives_its_token_back() {
    let record = support::record("a", "x");
    let service = RateLimit::every(10.s()).layer(service(|_| async { Ok(()) }));
    let begun = Instant::now();
    for _ in 0..5 {
        let mut ready = service.clone();
        ready.ready().await.expect("ready");
    }
    let mut worker = service.clone();
    worker.ready().await.expect("ready").call(record.clone()).await.expect("done");
    assert_eq!(elapsed_ms(begun), 0);
    worker.ready().await.expect("ready").call(record).await.expect("done");
    assert_eq!(elapsed_ms(begun), 10_000);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_key_was_processed_is_done_already() {
    let record = support::record_with("a", "x", &[("id", "7")]);
    let without = support::record("a", "x");
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let inner = service(move |_| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(1.s()).await;
            // The first of all fails.
            if call == 0 { Err(Failure::retriable("no")) } else { Ok(()) }
        }
    });
    let layer = Deduplicate::by(KeyOf::header("id")).window(10.s());
    let service = layer.layer(inner);
    let call = |record: &Record| {
        let (mut service, record) = (service.clone(), record.clone());
        async move { service.ready().await?.call(record).await }
    };
    // While the first is in work the two others wait; when it has failed, the next one is no duplicate.
    let (first, second, third) = tokio::join!(call(&record), call(&record), call(&record));
    assert!(first.is_err() && second.is_ok() && third.is_ok());
    assert_eq!((calls.load(Ordering::Relaxed), layer.duplicates()), (2, 1));
    sleep(10.s()).await;
    call(&record).await.expect("done");
    assert_eq!((calls.load(Ordering::Relaxed), layer.duplicates()), (2, 2));
    sleep(1.ms()).await;
    call(&record).await.expect("done");
    assert_eq!((calls.load(Ordering::Relaxed), layer.duplicates()), (3, 2));
    for _ in 0..2 {
        call(&without).await.expect("done");
    }
    assert_eq!((calls.load(Ordering::Relaxed), layer.duplicates()), (5, 2));
}

#[tokio::test]
async fn keys_are_those_of_the_record_its_headers_or_its_position() {
    let contents: Vec<support::Contents<'_>> =
        vec![("a", "x", &[("id", "1"), ("id", "2")]), ("a", "y", &[("id", "2")]), ("b", "x", &[("id", "1")])];
    let records = support::records(&contents);
    let duplicates = async |key: KeyOf| {
        let layer = Deduplicate::by(key);
        let mut service = layer.layer(service(|_| async { Ok(()) }));
        for record in &records {
            service.ready().await.expect("ready").call(record.clone()).await.expect("done");
        }
        layer.duplicates()
    };
    assert_eq!(duplicates(KeyOf::record_key()).await, 1);
    assert_eq!(duplicates(KeyOf::header("id")).await, 1);
    assert_eq!(duplicates(KeyOf::header("other")).await, 0);
    assert_eq!(duplicates(KeyOf::position()).await, 0);
    assert_eq!(duplicates(KeyOf::function(|record| Some(record.topic().len()))).await, 2);
}

#[tokio::test(start_paused = true)]
async fn an_open_circuit_takes_no_records_and_puts_none_aside() {
    let records = ten();
    let is_up = Arc::new(AtomicBool::new(false));
    let (up, calls) = (Arc::clone(&is_up), Arc::new(AtomicU32::new(0)));
    let counted = Arc::clone(&calls);
    let inner = service(move |_| {
        counted.fetch_add(1, Ordering::Relaxed);
        let is_up = up.load(Ordering::Relaxed);
        async move { if is_up { Ok(()) } else { Err(Failure::poison("no")) } }
    });
    let layer = CircuitBreaker::new().calls_min(4).open_for(10.s()).probes(2);
    let handle = layer.handle();
    let service = layer.layer(inner);

    let mut first = service.clone();
    for record in &records[..3] {
        let failure = first.ready().await.expect("ready").call(record.clone()).await.expect_err("it is down");
        assert_eq!((failure.class(), failure.is_counted()), (Class::Poison, true));
    }
    assert_eq!((handle.state(), handle.calls()), (CircuitState::Closed, (0, 3)));
    // Another worker is ready before the circuit opens.
    let mut second = service.clone();
    second.ready().await.expect("ready");
    let failure = first.ready().await.expect("ready").call(records[3].clone()).await.expect_err("it is down");
    assert_eq!((failure.class(), failure.is_counted()), (Class::Retriable, false));
    assert_eq!(handle.state(), CircuitState::Open { left: 10.s() });
    let failure = second.call(records[4].clone()).await.expect_err("it has opened since");
    assert!(failure.downcast_ref::<CircuitOpen>().is_some() && !failure.is_counted());
    assert_eq!(calls.load(Ordering::Relaxed), 4);

    // After ten seconds two probes go, which fail, and a third waits for what they say.
    let begun = Instant::now();
    let mut workers = [service.clone(), service.clone(), service.clone()];
    let [one, two, three] = &mut workers;
    let third = tokio::spawn({
        let (mut three, record) = (three.clone(), records[7].clone());
        async move {
            sleep(11.s()).await;
            three.ready().await?.call(record).await
        }
    });
    one.ready().await.expect("ready");
    two.ready().await.expect("ready");
    assert_eq!((elapsed_ms(begun), handle.state()), (10_000, CircuitState::HalfOpen));
    sleep(2.s()).await;
    for (worker, record) in [(one, &records[5]), (two, &records[6])] {
        let failure = worker.call(record.clone()).await.expect_err("it is down");
        assert!(!failure.is_counted());
    }
    assert_eq!(handle.state(), CircuitState::Open { left: 10.s() });
    assert_eq!(calls.load(Ordering::Relaxed), 6);

    // The next probes succeed.
    is_up.store(true, Ordering::Relaxed);
    third.await.expect("no panic").expect("it is up");
    assert_eq!(elapsed_ms(begun), 22_000);
    three.ready().await.expect("ready").call(records[8].clone()).await.expect("it is up");
    assert_eq!((handle.state(), handle.calls()), (CircuitState::Closed, (0, 0)));
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_is_given_up_lets_another_through() {
    let record = support::record("a", "x");
    let layer = CircuitBreaker::new().calls_min(1).open_for(1.s()).probes(1);
    let handle = layer.handle();
    let stuck = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&stuck);
    let service = layer.layer(service(move |_| {
        let call = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match call {
                0 => Err(Failure::retriable("no")),
                1 => std::future::pending().await,
                _ => Ok(()),
            }
        }
    }));
    let mut worker = service.clone();
    worker.ready().await.expect("ready").call(record.clone()).await.expect_err("it fails");
    let probe = worker.ready().await.expect("ready").call(record.clone());
    let probe = tokio::spawn(probe);
    let next = tokio::spawn({
        let mut service = service.clone();
        async move { service.ready().await?.call(record).await }
    });
    sleep(1.hours()).await;
    assert!(!next.is_finished());
    probe.abort();
    next.await.expect("no panic").expect("it succeeds");
    assert_eq!(handle.state(), CircuitState::Closed);
}

struct Seen(Mutex<Vec<(CallOutcome, Duration)>>);

impl Observe for &'static Seen {
    fn started(&self, record: &Record) {
        assert_eq!(record.key(), Some(&b"a"[..]));
    }

    fn finished(&self, outcome: CallOutcome, took: Duration) {
        self.0.lock().expect("no panic").push((outcome, took));
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_how_they_end() {
    static SEEN: Seen = Seen(Mutex::new(Vec::new()));
    let records = ten();
    let measure = Measure::new().observe(&SEEN);
    let calls = AtomicU32::new(0);
    let mut service = measure.layer(service_fn(|_: Record| {
        let call = calls.fetch_add(1, Ordering::Relaxed);
        async move {
            sleep(100.ms()).await;
            match call {
                0 => Ok(()),
                1 => Err(Failure::retriable("no")),
                2 => Err(Failure::poison("no")),
                3 => Err(Failure::fatal("no")),
                _ => std::future::pending().await,
            }
        }
    }));
    for record in &records[..4] {
        let _ = service.ready().await.expect("ready").call(record.clone()).await;
    }
    let dropped = service.ready().await.expect("ready").call(records[4].clone());
    let running = service.ready().await.expect("ready").call(records[5].clone());
    drop(dropped);
    let counts = measure.counts();
    assert_eq!((counts.started, counts.succeeded, counts.failed()), (6, 1, 3));
    assert_eq!((counts.retriable, counts.poison, counts.fatal, counts.dropped), (1, 1, 1, 1));
    assert_eq!((counts.in_work(), counts.took), (1, 400.ms()));
    drop(running);
    let seen = SEEN.0.lock().expect("no panic").clone();
    assert_eq!(
        seen[..2],
        [(CallOutcome::Succeeded, 100.ms()), (CallOutcome::Failed(Class::Retriable), 100.ms())]
    );
    assert_eq!((seen.len(), seen[4]), (6, (CallOutcome::Dropped, Duration::ZERO)));
}

/// Remembers the fields of spans named "process", and how often they were entered.
#[derive(Default)]
struct Spans {
    fields: Mutex<Vec<String>>,
    entered: AtomicU32,
}

impl tracing::Subscriber for &'static Spans {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.is_span() && (metadata.target(), metadata.name()) == ("milena", "process")
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        struct Fields<'a>(&'a mut Vec<String>);
        impl tracing::field::Visit for Fields<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                self.0.push(format!("{field}={value:?}"));
            }
        }
        span.record(&mut Fields(&mut self.fields.lock().expect("no panic")));
        tracing::span::Id::from_u64(1)
    }

    fn enter(&self, _: &tracing::span::Id) {
        self.entered.fetch_add(1, Ordering::Relaxed);
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

#[tokio::test]
async fn a_call_runs_in_a_span_that_names_the_record_and_shows_nothing_of_it() {
    let record = support::record("hunter2", "hunter2");
    let spans: &'static Spans = Box::leak(Box::default());
    let _default = tracing::subscriber::set_default(spans);
    let mut service = Trace::new().layer(service(|_| async {
        tokio::task::yield_now().await;
        Ok(())
    }));
    service.call(record).await.expect("done");
    let expected = [
        "messaging.destination.name=\"orders\"",
        "messaging.destination.partition.id=0",
        "messaging.kafka.offset=0",
        "attempt=1",
    ];
    assert_eq!(*spans.fields.lock().expect("no panic"), expected);
    // The call, two polls, and the drop.
    assert!(spans.entered.load(Ordering::Relaxed) >= 3);
}

/// All of them together, by `tower`'s builder, with layers of its own between them.
#[tokio::test(start_paused = true)]
async fn layers_compose_with_those_of_tower() {
    let record = support::record_with("a", "x", &[("id", "7")]);
    let (deduplicate, measure) = (Deduplicate::by(KeyOf::header("id")), Measure::new());
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let service = ServiceBuilder::new()
        .layer(Trace::new())
        .layer(deduplicate.clone())
        .layer(CircuitBreaker::new())
        .layer(Retrying::new(Retry::fixed(1.s()).attempts(3)))
        .layer(RateLimit::per_second(10))
        .layer(measure.clone())
        .timeout(5.s())
        .concurrency_limit(2)
        .map_err(Failure::into_error)
        .layer(PerKey::new(KeyOf::record_key(), 1))
        .layer(Timeout::new(9.s()))
        .service(service(move |_| {
            let attempt = counted.fetch_add(1, Ordering::Relaxed);
            async move {
                match attempt {
                    0 => std::future::pending().await,
                    1 => Err(Failure::retriable("no")),
                    _ => Ok(()),
                }
            }
        }));
    fn is_of_a_pipeline<S>(service: S) -> S
    where
        S: Service<Record, Response = (), Error = Failure, Future: Send + 'static> + Clone + Send + 'static,
    {
        service
    }
    let mut service = is_of_a_pipeline(service);
    service.ready().await.expect("ready").call(record.clone()).await.expect("the third attempt");
    service.ready().await.expect("ready").call(record).await.expect("a duplicate");
    assert_eq!((attempts.load(Ordering::Relaxed), deduplicate.duplicates()), (3, 1));
    let counts = measure.counts();
    // The timeout of tower is an error like others.
    assert_eq!((counts.started, counts.succeeded, counts.retriable), (3, 1, 2));

    // A class passes through tower's layers.
    let mut service = ServiceBuilder::new()
        .layer(Measure::new())
        .timeout(5.s())
        .map_err(Failure::into_error)
        .service(service_fn(|_: Record| async { Err(Failure::poison("never")) }));
    let failure = service.call(support::record("a", "x")).await.expect_err("it fails");
    assert_eq!((failure.class(), failure.to_string()), (Class::Poison, "never".into()));
}
