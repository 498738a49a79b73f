//! What is done above a committed offset, on real Kafka: after `kill -9`, and of a group that Confluent's Parallel Consumer had before.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use milena::{Client, Consumer, NewTopic, Protocol, Record};
use milena_interop::partner;
use milena_interop::real;
use tokio::runtime::Runtime;
use tokio::time::timeout;
use xtask::kafka::process;

/// Longer than the session of a member that was killed.
const PATIENCE: Duration = Duration::from_secs(120);

async fn fill(bootstrap: &str, topic: &str, count: usize) -> Client {
    let client = Client::connect(bootstrap).await.unwrap();
    let new = NewTopic::new(topic).partitions(1).replication(1);
    client.admin().create_topics([new]).await.unwrap().remove(0).1.unwrap();
    let producer = client.producer().build().await.unwrap();
    for index in 0..count {
        producer.post(Record::to(topic).value(index.to_string())).await.unwrap();
    }
    producer.flush().await.unwrap();
    client
}

async fn member(client: &Client, group: &str, topic: &str) -> Consumer {
    let builder = client.consumer(group).subscribe([topic]).keep_finished().manual_commits();
    builder.protocol(Protocol::Classic).build().await.unwrap()
}

/// The offsets of the records that come until `end`, each of them once.
async fn read_to(consumer: &mut Consumer, topic: &str, end: i64) -> BTreeSet<i64> {
    let mut offsets = BTreeSet::new();
    let reading = async {
        while consumer.position(topic, 0).is_none_or(|position| position < end) {
            // Of what is passed over nothing is returned.
            let Ok(next) = timeout(Duration::from_millis(100), consumer.next()).await else { continue };
            for record in &next.unwrap().unwrap() {
                assert!(offsets.insert(record.offset()), "{} came twice", record.offset());
            }
        }
    };
    timeout(PATIENCE, reading).await.expect("in time");
    offsets
}

fn offsets(list: &str) -> BTreeSet<i64> {
    list.split(',').map(|offset| offset.parse().unwrap()).collect()
}

/// A process that is killed when this is dropped.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // On Unix this is SIGKILL.
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn after_kill_9_only_what_was_not_committed_as_done_comes_again() {
    const COUNT: usize = 40_000;
    let Some(kafka) = real::kafka() else { return };
    let runtime = Runtime::new().unwrap();
    let topic = "keeping-killed";
    let bootstrap = kafka.bootstrap();
    let client = runtime.block_on(fill(&bootstrap, topic, COUNT));
    let mut command = Command::new(env!("CARGO_BIN_EXE_keeper"));
    command.args([&bootstrap, topic, topic, &COUNT.to_string(), "15"]).stdout(Stdio::piped());
    let mut keeper = Killed(command.spawn().unwrap());
    let lines = BufReader::new(keeper.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines: Vec<_> = lines.take_while(|line| line != "waiting").collect();
    let [committed, later] = &lines[..] else { panic!("{lines:?}") };
    let committed = offsets(committed.strip_prefix("committed\t").unwrap());
    let later = offsets(later.strip_prefix("later\t").unwrap());
    assert_eq!((committed.len(), later.len()), (COUNT / 2, COUNT / 80));
    drop(keeper);

    runtime.block_on(async {
        let mut consumer = member(&client, topic, topic).await;
        let again = read_to(&mut consumer, topic, COUNT as i64).await;
        let expected: BTreeSet<_> = (0..COUNT as i64).filter(|offset| !committed.contains(offset)).collect();
        assert_eq!(again, expected);
        assert!(later.is_subset(&again) && again.contains(&0));
    });
}

#[test]
fn a_group_of_parallel_consumer_goes_on_where_it_was() {
    const COUNT: i64 = 5_000;
    const EVERY: i64 = 97;
    if !partner::are_here(&["java", "javac", "mvn"]) {
        return;
    }
    let Some(kafka) = real::kafka() else { return };
    let runtime = Runtime::new().unwrap();
    let topic = "keeping-moved";
    let bootstrap = kafka.bootstrap();
    let client = runtime.block_on(fill(&bootstrap, topic, COUNT as usize));
    let mut command = partner::parallel_consumer().unwrap();
    command.args([&bootstrap, topic, topic, &COUNT.to_string(), &EVERY.to_string()]);
    let output = process::run(command, None, Duration::from_secs(120)).unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("closed\n"), "{said}{errors}");
    let done: BTreeSet<i64> = said
        .lines()
        .filter_map(|line| line.strip_prefix("done\t"))
        .map(|offset| offset.parse().unwrap())
        .collect();
    assert_eq!(done.len() as i64, COUNT - (COUNT + EVERY - 1) / EVERY);

    runtime.block_on(async {
        let mut consumer = member(&client, topic, topic).await;
        let stored = consumer.committed([(topic, 0)]).await.unwrap().remove(0).1.expect("it has committed");
        assert!(stored.offset == 0 && stored.metadata.is_some(), "{stored:?}");
        let stuck: BTreeSet<_> = (0..COUNT).step_by(EVERY as usize).collect();
        assert_eq!(read_to(&mut consumer, topic, COUNT).await, stuck);
    });
}
