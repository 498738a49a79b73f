//! Allocations per record, both ways: none.

use milena::{Client, Header, Position, Record};
use milena_broker::Broker;

const RECORDS: usize = 20_000;
/// A batch costs some, and so does waiting; a record must not.
const PER_RECORD_MAX: f64 = 0.02;

/// Everything runs on this thread, so broker, connections and driver are counted as well, between the two marks.
fn check(what: &str, allocations: u64) {
    let per_record = allocations as f64 / RECORDS as f64;
    assert!(per_record < PER_RECORD_MAX, "{what}: {allocations} allocations for {RECORDS} records");
}

/// Allocations on this thread while `future` is polled; other tasks run between its polls.
async fn allocations<T>(future: impl Future<Output = T>) -> (T, u64) {
    let mut future = Box::pin(future);
    let mut count = 0;
    let output = std::future::poll_fn(|cx| {
        let mut poll = None;
        count += allocation_counter::measure(|| poll = Some(future.as_mut().poll(cx))).count_total;
        poll.expect("polled")
    })
    .await;
    (output, count)
}

#[tokio::test]
async fn records_cost_no_allocations() {
    let cluster = Broker::builder().start().await.expect("started");
    cluster.create_topic("t", 6).expect("created");
    let client = Client::connect(cluster.bootstrap()).await.expect("connected");
    let producer = client.producer().build().await.expect("built");
    producer.send(Record::to("t").partition(0).value("warm")).await.expect("written");
    let value = [b'v'; 100];

    let ((), count) = allocations(async {
        for index in 0..RECORDS {
            let key = (index as u64).to_be_bytes();
            let record = Record::to("t").key(&key).value(&value);
            producer.post(record.clone().header("h", "1")).await.expect("taken");
            let headers = [Header::new("h", Some(b"1")), Header::new("i", None)];
            producer.post(record.headers(&headers)).await.expect("taken");
        }
    })
    .await;
    check("post, keyed, with headers", count);
    producer.flush().await.expect("flushed");

    let ((), count) = allocations(async {
        for _ in 0..RECORDS {
            drop(producer.enqueue(Record::to("t").value(&value)).await.expect("taken"));
        }
    })
    .await;
    check("enqueue, unkeyed", count);
    producer.flush().await.expect("flushed");

    let assigned = (0..6).map(|partition| ("t", partition));
    let mut consumer =
        client.consumer_direct().assign(assigned, Position::Earliest).build().await.expect("built");
    let (mut bytes, mut seen, mut count) = (0, 0, 0);
    while seen < 2 * RECORDS {
        let (batch, of_next) = allocations(consumer.next()).await;
        let batch = batch.expect("read").expect("assigned");
        count += of_next;
        count += allocation_counter::measure(|| {
            for record in &batch {
                bytes += record.value().map_or(0, <[u8]>::len) + record.headers().count();
                seen += 1;
            }
        })
        .count_total;
    }
    assert!(bytes > 2 * RECORDS * 100);
    check("next and iterate", count / 2);
}
