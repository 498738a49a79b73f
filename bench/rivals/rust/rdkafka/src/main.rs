//! Drives rdkafka, which binds librdkafka.
//!
//! As their documentation advises. To produce: `ThreadedProducer`, results by delivery callback (a `ProducerContext`);
//! single records by `FutureProducer`. To consume: `BaseConsumer::poll` (`StreamConsumer` costs more), partitions
//! assigned at offset `Beginning`; a slow partition by `split_partition_queue`. librdkafka's INTRODUCTION, "High throughput": batches and
//! linger as everybody's here, and no bound on how many records a batch holds but its bytes. A record is kept by
//! `detach`.

use std::process::ExitCode;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use driver::{Client, Consume, Job, Measured, Measuring, Producing, Records, Results, Settings, Sink};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer, DefaultConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message, OwnedMessage};
use rdkafka::producer::{
    BaseRecord, FutureProducer, FutureRecord, Producer as _, ProducerContext, ThreadedProducer,
};
use rdkafka::{Offset, TopicPartitionList};

fn main() -> ExitCode {
    driver::run::<Rdkafka>()
}

struct Rdkafka;

impl Client for Rdkafka {
    const NAME: &'static str = "rdkafka";
    type Producer = Sender;
    type Consumer = Receiver;

    fn beneath() -> Option<String> {
        Some(format!("librdkafka {}", rdkafka::util::get_rdkafka_version().1))
    }

    async fn producer(job: &Job, producing: &Producing, settings: &mut Settings) -> anyhow::Result<Sender> {
        settings.extend(producing.properties());
        Ok(Sender { producer: config(job, settings).create()?, topic: job.topic.clone() })
    }

    async fn produce(
        job: &Job,
        producing: &Producing,
        records: Records,
        results: &Arc<Results>,
        settings: &mut Settings,
    ) -> anyhow::Result<Measured> {
        settings.extend(producing.properties());
        settings.insert("batch.num.messages".into(), "1000000".into());
        let producer: ThreadedProducer<Counting> =
            config(job, settings).create_with_context(Counting(results.clone()))?;
        let measuring = Measuring::start();
        for record in records {
            let mut unsent = BaseRecord::to(&job.topic).payload(record.value);
            unsent.key = record.key;
            while let Err((error, refused)) = producer.send(unsent) {
                if error != KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull) {
                    return Err(error.into());
                }
                thread::sleep(QUEUE_FULL_WAIT);
                unsent = refused;
            }
        }
        producer.flush(FLUSH)?;
        Ok(measuring.stop())
    }

    async fn consumer(job: &Job, consume: &Consume, settings: &mut Settings) -> anyhow::Result<Receiver> {
        settings.extend(consume.fetching.properties());
        settings.insert("enable.auto.commit".into(), "false".into());
        // The default of a second is how long a partition rests whenever 100 000 records are ahead of us, which with
        // fetches of this size they soon are: three times slower at 100 bytes, for the same memory.
        settings.insert("fetch.queue.backoff.ms".into(), "5".into());
        // librdkafka wants a group even where partitions are assigned by hand; nobody joins it.
        settings.insert("group.id".into(), "bench".into());
        let consumer: Arc<BaseConsumer> = Arc::new(config(job, settings).create()?);
        let mut assignment = TopicPartitionList::new();
        let count = match consume.partitions {
            Some(count) => count,
            None => partition_count(&consumer, &job.topic)?,
        };
        assign(&mut assignment, &job.topic, count)?;
        if let Some(topic) = &consume.idle_topic {
            assign(&mut assignment, topic, partition_count(&consumer, topic)?)?;
        }
        consumer.assign(&assignment)?;
        if let Some(partition) = consume.pause {
            let mut paused = TopicPartitionList::new();
            paused.add_partition(&job.topic, partition);
            consumer.pause(&paused)?;
        }
        if let Some(partition) = consume.slow {
            let queue = consumer.split_partition_queue(&job.topic, partition).context("no such partition")?;
            thread::spawn(move || read_slowly(&queue));
        }
        Ok(Receiver(consumer))
    }
}

fn config(job: &Job, settings: &Settings) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &job.bootstrap);
    for (name, value) in settings {
        config.set(name, value);
    }
    config
}

fn partition_count(consumer: &BaseConsumer, topic: &str) -> anyhow::Result<i32> {
    let metadata = consumer.fetch_metadata(Some(topic), FLUSH)?;
    let topic = metadata.topics().first().context("no metadata")?;
    if let Some(error) = topic.error() {
        bail!("{}: {:?}", topic.name(), RDKafkaErrorCode::from(error));
    }
    Ok(i32::try_from(topic.partitions().len())?)
}

fn assign(assignment: &mut TopicPartitionList, topic: &str, count: i32) -> anyhow::Result<()> {
    for partition in 0..count {
        assignment.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    Ok(())
}

/// A partition in the hands of a worker who takes a millisecond for each record. Ends with the process.
fn read_slowly(queue: &PartitionQueue<DefaultConsumerContext>) {
    loop {
        if queue.poll(WAIT).is_some() {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Counts the result of each record.
struct Counting(Arc<Results>);

impl ClientContext for Counting {}

impl ProducerContext for Counting {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        self.0.count(result.as_ref().map_err(|(error, _)| error));
    }
}

struct Sender {
    producer: FutureProducer,
    topic: String,
}

impl driver::Producer for Sender {
    async fn enqueue(
        &self,
        value: Bytes,
    ) -> anyhow::Result<impl Future<Output = anyhow::Result<()>> + Send + 'static> {
        let record = FutureRecord::<(), [u8]>::to(&self.topic).payload(&value);
        let delivery = self.producer.send_result(record).map_err(|(error, _)| error)?;
        Ok(async { delivery.await?.map(drop).map_err(|(error, _)| error.into()) })
    }
}

struct Receiver(Arc<BaseConsumer>);

impl driver::Consumer for Receiver {
    type Kept = OwnedMessage;

    async fn poll(&mut self, sink: &mut impl Sink<OwnedMessage>) -> anyhow::Result<()> {
        let Some(message) = self.0.poll(WAIT) else { return Ok(()) };
        let message = message?;
        sink.take(message.partition(), message.payload().unwrap_or_default(), || message.detach());
        Ok(())
    }
}

/// How long to wait for a record before looking around.
const WAIT: Duration = Duration::from_millis(100);
const FLUSH: Duration = Duration::from_secs(60);
/// `FutureProducer` waits a hundred times as long, and then the queue is empty.
const QUEUE_FULL_WAIT: Duration = Duration::from_millis(1);
