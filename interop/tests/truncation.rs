//! An unclean election on three brokers of real Kafka: records that a consumer has read are gone, and others are in their place
//! (KIP-320).

use std::time::Duration;

use milena::{Client, Consumer, Error, NewTopic, Position, Producer, Record, Reset};
use milena_interop::real;
use tokio::time::{Instant, sleep, timeout};
use xtask::kafka::{Cluster, NEWEST};

const TOPIC: &str = "cut";
/// Each wait ends long before, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(120);

async fn write(producer: &Producer, prefix: &str, count: usize) {
    for index in 0..count {
        let value = format!("{prefix}-{index}");
        timeout(PATIENCE, producer.send(Record::to(TOPIC).value(&value))).await.expect("in time").unwrap();
    }
}

/// The next `count` records: offset and value.
async fn read(consumer: &mut Consumer, count: usize) -> Result<Vec<(i64, String)>, Error> {
    let mut records = Vec::new();
    while records.len() < count {
        let batch = timeout(PATIENCE, consumer.next()).await.expect("in time")?.expect("assigned");
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        records.extend(batch.iter().map(|record| (record.offset(), text(record.value()))));
    }
    Ok(records)
}

/// Leader, and how many replicas are in sync.
async fn placement(client: &Client) -> (Option<i32>, usize) {
    let described = client.admin().describe_topics([TOPIC]).await;
    let Ok(described) = described else { return (None, 0) };
    let Some((_, Ok(topic))) = described.into_iter().next() else { return (None, 0) };
    let partition = &topic.partitions[0];
    (partition.leader, partition.isr.len())
}

async fn until(client: &Client, what: &str, is_so: impl Fn(Option<i32>, usize) -> bool) {
    let since = Instant::now();
    loop {
        let (leader, in_sync) = placement(client).await;
        if is_so(leader, in_sync) {
            return;
        }
        assert!(since.elapsed() < PATIENCE, "{what}: leader {leader:?}, {in_sync} in sync");
        sleep(Duration::from_millis(100)).await;
    }
}

async fn client(bootstrap: &str) -> Client {
    // A broker that is stopped where it is answers nothing, and closes nothing.
    let builder = Client::builder().bootstrap(bootstrap).request_timeout(Duration::from_secs(3));
    builder.connect().await.unwrap()
}

async fn reader(client: &Client, reset: Reset) -> Consumer {
    client.consumer_direct().assign([(TOPIC, 0)], Position::Earliest).reset(reset).build().await.unwrap()
}

async fn cut_off(kafka: &Cluster) {
    let bootstrap = kafka.bootstrap();
    let writer = client(&bootstrap).await;
    let topic = NewTopic::new(TOPIC).partitions(1).replication(2);
    let topic = topic.config("min.insync.replicas", "1").config("unclean.leader.election.enable", "true");
    writer.admin().create_topics([topic]).await.unwrap().remove(0).1.unwrap();
    until(&writer, "two replicas", |leader, in_sync| leader.is_some() && in_sync == 2).await;
    let described = writer.admin().describe_topics([TOPIC]).await.unwrap().remove(0).1.unwrap();
    let leader = described.partitions[0].leader.unwrap();
    let replicas = &described.partitions[0].replicas;
    let follower = *replicas.iter().find(|replica| **replica != leader).unwrap();
    let [leader, follower] = [leader, follower].map(|id| usize::try_from(id).unwrap());

    let producer = writer.producer().build().await.unwrap();
    write(&producer, "both", 10).await;
    let reading = client(&bootstrap).await;
    let (mut lenient, mut strict) =
        (reader(&reading, Reset::Latest).await, reader(&reading, Reset::Fail).await);
    read(&mut lenient, 10).await.unwrap();

    // The follower falls behind, and the leader alone takes more records, which both consumers read.
    kafka.pause(follower).unwrap();
    until(&writer, "the follower is out of sync", |_, in_sync| in_sync == 1).await;
    write(&producer, "lost", 10).await;
    assert_eq!(read(&mut lenient, 10).await.unwrap()[9], (19, "lost-9".to_owned()));
    read(&mut strict, 20).await.unwrap();

    // Only the follower is left. It never had most of these records.
    kafka.kill(leader).unwrap();
    kafka.resume(follower).unwrap();
    let elected = i32::try_from(follower).unwrap();
    let writer = client(&bootstrap).await;
    until(&writer, "an unclean election", |leader, _| leader == Some(elected)).await;
    let producer = writer.producer().build().await.unwrap();
    write(&producer, "new", 15).await;

    let records = read(&mut lenient, 15).await.unwrap();
    let from = records[0].0;
    println!("the log was cut off at offset {from}");
    assert!((10..20).contains(&from), "{records:?}");
    let expected: Vec<_> = (0..15).map(|index| (from + index, format!("new-{index}"))).collect();
    assert_eq!(records, expected, "all that is in their place is read, from the first offset that differs");
    let error = read(&mut strict, 1).await.expect_err("without a reset policy it is told");
    assert_eq!(error.code_name(), Some("OFFSET_OUT_OF_RANGE"), "{error}");
    assert!(error.to_string().contains(&from.to_string()), "{error}");
}

#[test]
fn records_that_an_unclean_election_replaced_are_read_or_told() {
    if let Some(program) = xtask::kafka::missing_program() {
        return real::skip(&format!("real Kafka cannot be started: {program} is not installed"));
    }
    let settings = [
        "replica.lag.time.max.ms=2000",
        "broker.session.timeout.ms=3000",
        "broker.heartbeat.interval.ms=500",
    ];
    let kafka = Cluster::start_with(3, NEWEST, &settings.map(String::from)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(cut_off(&kafka));
}
