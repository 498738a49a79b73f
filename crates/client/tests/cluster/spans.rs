//! What a program's hooks are told, and the trace contexts that records carry.

use std::sync::{Arc, Mutex};

use milena::trace::{Commit, Hooks, Received, TraceContext};
use milena::{Interceptor, SettledBatch};

use super::*;

/// Writes down what it is told. Each record is created in a span of its own, whose number is the length of its value.
#[derive(Debug, Default)]
struct Told {
    lines: Mutex<Vec<String>>,
    panics: bool,
}

fn context(span: u8) -> TraceContext {
    TraceContext::new([7; 16], [span; 8], 1).expect("valid").with_state("a=1").with_baggage("b=2")
}

impl Told {
    fn say(&self, line: String) {
        self.lines.lock().expect("whole").push(line);
        assert!(!self.panics, "of the program");
    }

    fn lines(&self, of: &str) -> Vec<String> {
        let lines = self.lines.lock().expect("whole");
        lines.iter().filter(|line| line.starts_with(of)).cloned().collect()
    }

    async fn eventually(&self, of: &str, count: usize) -> Vec<String> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while self.lines(of).len() < count {
            assert!(tokio::time::Instant::now() < deadline, "{of}: {:?}", self.lines);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        self.lines(of)
    }
}

impl Hooks for Told {
    fn created(&self, record: &Record<'_>) -> Option<TraceContext> {
        let length = record.value_bytes()?.len();
        let context = (length > 0).then(|| context(u8::try_from(length).unwrap_or(255)));
        assert!(!self.panics, "of the program");
        context
    }

    fn sent(&self, batch: &SettledBatch<'_>) {
        let spans: Vec<_> = batch.contexts.iter().map(|context| context.span_id()[0]).collect();
        let SettledBatch { topic, partition, records, result, client_id, .. } = batch;
        let result = result.map_err(Error::label);
        assert!(batch.began <= batch.ended);
        let is_known = batch.broker.is_some_and(|(host, port)| host == "127.0.0.1" && port > 0);
        self.say(format!("sent {topic} {partition} {records} {result:?} {client_id} {is_known} {spans:?}"));
    }

    fn received(&self, received: &Received<'_>) {
        let batch = received.batch;
        assert!(received.arrived <= received.taken);
        let records = batch.try_iter().map(|record| record.expect("readable"));
        let spans: Vec<_> = records.map(|of| TraceContext::of(&of).map(|of| of.span_id()[0])).collect();
        let Received { group, client_id, .. } = received;
        self.say(format!(
            "received {} {} {group:?} {client_id} {spans:?}",
            batch.topic(),
            batch.first_offset()
        ));
    }

    fn committed(&self, commit: &Commit<'_>) {
        let Commit { group, client_id, offsets, error, transactional_id, .. } = commit;
        assert!(commit.began <= commit.ended);
        let within = transactional_id.map_or_else(String::new, |id| format!(" in {id}"));
        self.say(format!("committed {group} {client_id} {offsets:?} {error:?}{within}"));
    }
}

async fn traced(told: &Arc<Told>) -> (Cluster, Client) {
    let builder = Broker::builder().group_initial_rebalance_delay(Duration::ZERO).batch_bytes_max(10_000);
    let cluster = builder.start().await.expect("started");
    cluster.create_topic("orders", 1).expect("created");
    let hooks: Arc<dyn Hooks> = Arc::<Told>::clone(told);
    let builder = Client::builder().bootstrap(cluster.bootstrap()).client_id("shop").trace(hooks);
    let client = builder.connect().await.expect("connected");
    (cluster, client)
}

#[tokio::test]
async fn batches_are_told_with_the_contexts_of_their_records_which_travel_in_headers() {
    let told = Arc::default();
    let (cluster, client) = traced(&told).await;
    let producer = client.producer().linger(Duration::from_secs(3)).build().await.expect("built");
    // One batch: the first record finds nothing in flight, so that it would leave alone without the time of lingering.
    let own = "00-0102030405060708090a0b0c0d0e0f10-0909090909090909-01";
    let broken = "00-0102030405060708090a0b0c0d0e0f10-0909090909090909";
    let mut deliveries = Vec::new();
    for record in [
        Record::to("orders").value("a").headers(&[Header::new("x", Some(b"1")); 9]),
        Record::to("orders").value("a"),
        Record::to("orders").value("aaa"),
        Record::to("orders").value("aa").header("traceparent", own),
        Record::to("orders").value("aa").header("traceparent", broken),
        Record::to("orders").value(""),
    ] {
        deliveries.push(producer.enqueue(record).await.expect("taken"));
    }
    producer.flush().await.expect("written");
    for delivery in deliveries {
        timeout(PATIENCE, delivery).await.expect("in time").expect("written");
    }
    let sent = told.lines("sent");
    let records: usize = sent.iter().filter_map(|line| line.split(' ').nth(3)?.parse::<usize>().ok()).sum();
    assert_eq!(records, 6, "{sent:?}");
    assert!(sent.iter().all(|line| line.contains("Ok(Some(") && line.contains(" shop true ")), "{sent:?}");
    let all = sent.join(" ");
    assert!([1, 2, 3, 9].iter().all(|span| all.contains(&span.to_string())), "{sent:?}");

    let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await.expect("built");
    let mut seen = Vec::new();
    while seen.len() < 6 {
        let batch =
            timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("joined");
        for record in &batch {
            let span = TraceContext::of(&record).map(|context| context.span_id()[0]);
            seen.push((span, record.headers().count()));
        }
        consumer.done(&batch);
    }
    let expected = [(Some(1), 12), (Some(1), 3), (Some(3), 3), (Some(9), 1), (Some(2), 4), (None, 0)];
    assert_eq!(seen, expected, "a context that cannot be read is no context");
    consumer.commit().await.expect("committed");
    let received = told.lines("received");
    assert!(received[0].starts_with("received orders 0 Some(\"billing\") shop [Some(1)"), "{received:?}");
    let committed = told.eventually("committed", 1).await;
    assert!(committed.last().expect("one").ends_with("shop [(\"orders\", 0, 6)] None"), "{committed:?}");
    drop(cluster);
}

#[tokio::test]
async fn offsets_in_a_transaction_are_told_with_its_id() {
    let told = Arc::<Told>::default();
    let (_cluster, client) = traced(&told).await;
    let mut producer = client.transactional("billing-1").build().await.expect("built");
    client
        .producer()
        .build()
        .await
        .expect("built")
        .send(Record::to("orders").value("a"))
        .await
        .expect("written");
    let builder = client.consumer("billing").subscribe(["orders"]).manual_commits();
    let mut consumer = builder.build().await.expect("built");
    let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("joined");
    consumer.done(&batch);
    let transaction = timeout(PATIENCE, producer.begin()).await.expect("in time").expect("begun");
    timeout(PATIENCE, transaction.commit_offsets(&consumer)).await.expect("in time").expect("taken along");
    timeout(PATIENCE, transaction.commit()).await.expect("in time").expect("committed");
    let committed = told.eventually("committed", 1).await;
    assert_eq!(committed, ["committed billing shop [(\"orders\", 0, 1)] None in billing-1"]);
}

#[tokio::test]
async fn a_failed_batch_is_told_with_its_error() {
    let told = Arc::<Told>::default();
    let (_cluster, client) = traced(&told).await;
    let producer = client.producer().build().await.expect("built");
    producer
        .send(Record::to("orders").value(&[b'x'; 20_000]))
        .await
        .expect_err("larger than the topic takes");
    let sent = told.eventually("sent", 1).await;
    assert_eq!(sent, ["sent orders 0 1 Err(\"MESSAGE_TOO_LARGE\") shop true [255]"]);
}

#[tokio::test]
async fn hooks_that_panic_lose_nothing() {
    let told = Arc::new(Told { panics: true, ..Told::default() });
    let (_cluster, client) = traced(&told).await;
    let producer = client.producer().build().await.expect("built");
    for _ in 0..2 {
        timeout(PATIENCE, producer.send(Record::to("orders").value("a")))
            .await
            .expect("in time")
            .expect("written");
    }
    let mut consumer = client.consumer("billing").subscribe(["orders"]).build().await.expect("built");
    let batch = timeout(PATIENCE, consumer.next()).await.expect("in time").expect("read").expect("joined");
    consumer.done(&batch);
    drop(batch);
    timeout(PATIENCE, consumer.close()).await.expect("in time").expect("committed");
    assert!(!told.lines("committed").is_empty());
}

/// The room that a record waits for has its trace context, too: otherwise it would wait for the same room without end.
#[tokio::test]
async fn records_with_a_context_wait_for_room_and_get_it() {
    let told = Arc::<Told>::default();
    let (cluster, _) = traced(&told).await;
    let hooks: Arc<dyn Hooks> = Arc::<Told>::clone(&told);
    let builder = Client::builder().bootstrap(cluster.bootstrap()).memory_bytes_max(128 << 10).trace(hooks);
    let client = builder.connect().await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    let value = [b'x'; 4000];
    for _ in 0..200 {
        timeout(PATIENCE, producer.post(Record::to("orders").value(&value)))
            .await
            .expect("in time")
            .expect("taken");
    }
    producer.flush().await.expect("written");
    let sent = told.lines("sent");
    let records: usize = sent.iter().filter_map(|line| line.split(' ').nth(3)?.parse::<usize>().ok()).sum();
    assert_eq!(records, 200);
}

#[tokio::test]
async fn interceptors_are_told_times_and_broker_without_hooks() {
    #[derive(Debug, Default)]
    struct Times(Mutex<Vec<(bool, usize)>>);
    impl Interceptor for Times {
        fn settled(&self, batch: &SettledBatch<'_>) {
            let is_whole = batch.broker.is_some() && batch.began <= batch.ended;
            self.0.lock().expect("whole").push((is_whole, batch.contexts.len()));
        }
    }
    let (_cluster, client) = start(1, &[("orders", 1)]).await;
    let times = Arc::<Times>::default();
    let producer = client.producer().interceptor(times.clone()).build().await.expect("built");
    producer.send(Record::to("orders").value("a")).await.expect("written");
    producer.flush().await.expect("written");
    assert_eq!(*times.0.lock().expect("whole"), [(true, 0)]);
}
