//! `milena verifiable-producer`.

use std::time::{Duration, Instant};

use milena::{Delivery, Producer, Record};
use serde::Serialize;
use tokio::sync::mpsc;

use super::{Connection, Nothing, tell_event};
use crate::exit::Failure;
use crate::interrupt::Interrupt;

/// Write increasing numbers to a topic, and tell each acknowledgement as a JSON line: for Kafka's system tests, in place of
/// Java's VerifiableProducer.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The topic
    #[arg(long)]
    topic: String,

    /// Stop after N records; -1 writes on until it is stopped
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    max_messages: i64,

    /// Write about N records a second; -1 writes as many as it can
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true)]
    throughput: i64,

    /// 0, 1 or -1 (all)
    #[arg(long, default_value_t = -1, allow_negative_numbers = true, value_parser = clap::value_parser!(i64).range(-1..=1))]
    acks: i64,

    /// The timestamp of the first record, in milliseconds since 1970; -1 for the present time
    #[arg(long, value_name = "MS", default_value_t = -1, allow_negative_numbers = true)]
    message_create_time: i64,

    /// Write PREFIX and a full stop before each number
    #[arg(long, value_name = "PREFIX")]
    value_prefix: Option<i32>,

    /// Give the records the keys 0 to N-1 in turn
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    repeating_keys: Option<u64>,

    #[command(flatten)]
    connection: Connection,
}

#[derive(Serialize)]
struct SendSuccess<'a> {
    key: Option<&'a str>,
    value: &'a str,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

#[derive(Serialize)]
struct SendError<'a> {
    key: Option<&'a str>,
    value: &'a str,
    topic: &'a str,
    /// Java's tool has the class of its exception here.
    exception: String,
    message: String,
}

#[derive(Serialize)]
struct ToolData {
    sent: u64,
    acked: u64,
    target_throughput: i64,
    avg_throughput: f64,
}

/// A record that was taken, or refused at once.
struct Sent {
    key: Option<String>,
    value: String,
    delivery: Result<Delivery, milena::Error>,
}

/// How many records may wait for their acknowledgements to be told.
const WAITING_MAX: usize = 10_000;

/// Runs the command.
pub(crate) async fn run(args: &Args, interrupt: &Interrupt) -> Result<(), Failure> {
    let began = Instant::now();
    let client = interrupt.or(args.connection.connect(&[("acks", args.acks.to_string())])).await?;
    let producer = interrupt.or(client.producer().build()).await?;
    tell_event("startup_complete", Nothing {})?;
    let (send, mut deliveries) = mpsc::channel(WAITING_MAX);
    let sending = async {
        tokio::select! {
            () = args.send(&producer, send, began) => {}
            () = interrupt.asked() => {}
        }
        // What was taken is acknowledged or fails, within its delivery timeout.
        producer.close().await
    };
    let telling = async {
        let (mut sent, mut acked) = (0, 0);
        while let Some(record) = deliveries.recv().await {
            sent += 1;
            acked += u64::from(args.tell(record).await?);
        }
        Ok::<_, Failure>((sent, acked))
    };
    let (closed, told) = tokio::join!(sending, telling);
    let (sent, acked) = told?;
    tell_event("shutdown_complete", Nothing {})?;
    let avg_throughput = acked as f64 / began.elapsed().as_secs_f64();
    tell_event("tool_data", ToolData { sent, acked, target_throughput: args.throughput, avg_throughput })?;
    closed.map_err(Failure::from)
}

impl Args {
    async fn send(&self, producer: &Producer, sent: mpsc::Sender<Sent>, began: Instant) {
        let count = u64::try_from(self.max_messages).unwrap_or(u64::MAX);
        for number in 0..count {
            let key = self.repeating_keys.map(|keys| (number % keys).to_string());
            let value = match self.value_prefix {
                Some(prefix) => format!("{prefix}.{number}"),
                None => number.to_string(),
            };
            let mut record = Record::to(&self.topic).value(&value);
            if let Some(key) = &key {
                record = record.key(key);
            }
            if self.message_create_time >= 0 {
                let since = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
                record = record.timestamp_ms(self.message_create_time.saturating_add(since));
            }
            let delivery = producer.enqueue(record).await;
            if sent.send(Sent { key, value, delivery }).await.is_err() {
                return;
            }
            if self.throughput > 0 {
                let due = began + Duration::from_secs_f64((number + 1) as f64 / self.throughput as f64);
                tokio::time::sleep_until(due.into()).await;
            }
        }
    }

    /// Tells what became of a record. Answers whether it was acknowledged.
    async fn tell(&self, Sent { key, value, delivery }: Sent) -> Result<bool, Failure> {
        let outcome = match delivery {
            Ok(delivery) => delivery.await,
            Err(error) => Err(error),
        };
        let (key, value, topic) = (key.as_deref(), value.as_str(), self.topic.as_str());
        match outcome {
            Ok(receipt) => {
                let (partition, offset) = (receipt.partition(), receipt.offset().unwrap_or(-1));
                tell_event("producer_send_success", SendSuccess { key, value, topic, partition, offset })?;
                Ok(true)
            }
            Err(error) => {
                let (exception, message) = (format!("{:?}", error.kind()), error.to_string());
                tell_event("producer_send_error", SendError { key, value, topic, exception, message })?;
                Ok(false)
            }
        }
    }
}
