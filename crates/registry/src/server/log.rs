//! The topic with the state: read whole at the start, written in transactions.
//!
//! Two writers would give one id to two schemas. The transactional id is that of the topic, so a registry that starts takes over, and
//! the one before it fails at its next write. Confluent's registry does not know these transactions: it must not write at the same
//! time. If it does, its records are seen at our next write, and the topic is read anew.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use milena::Record as KafkaRecord;
use milena::{
    Acks, Client, Compression, ConfigResource, Isolation, NewTopic, Position, TransactionEnd,
    TransactionalProducer,
};

use super::error::{Cause, Error};
use super::record::Record;
use super::state::State;

pub(super) struct Log {
    client: Client,
    topic: String,
    producer: TransactionalProducer,
    /// Where the next record will be if nobody else writes.
    next: Option<i64>,
    /// Whether it is not known what came of the last write.
    is_unsure: bool,
}

/// What became of records.
#[derive(Debug)]
pub(super) enum Written {
    /// They are in the topic, with this timestamp.
    Next(i64),
    /// They are in the topic, after records of somebody else: the state was read anew.
    Anew(Box<State>),
}

/// Why records were not written.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// Another registry has taken over. It stays so.
    Fenced,
    /// A record is larger than brokers take.
    TooLarge,
    /// Nothing was written, because it was not known what had come of the write before. This is the state with it or without it.
    Stale(Box<State>),
    /// They are not in the topic, or may be.
    Failed(String),
}

/// Brokers take batches of 1 MiB by default (message.max.bytes); this leaves room for what is around a record.
const RECORD_BYTES_MAX: usize = 1_000_000;

impl Log {
    /// Takes over the topic, which is made if it does not exist, and reads it.
    pub(super) async fn open(
        client: Client,
        topic: &str,
        replication: Option<i16>,
    ) -> Result<(Self, State), Error> {
        make(&client, topic, replication).await?;
        let producer = client
            .transactional(format!("milena-registry-{topic}"))
            .compression(Compression::None)
            .settings(|settings| settings.acks = Acks::All)
            .build()
            .await?;
        let mut log = Self { client, topic: topic.into(), producer, next: None, is_unsure: false };
        // What an earlier registry left open was aborted when ours took over, so the end of what is committed is the end.
        let state = log.read().await?;
        Ok((log, state))
    }

    /// Reads the topic from its start to its end.
    async fn read(&mut self) -> Result<State, milena::Error> {
        let builder = self.client.consumer_direct().assign([(&self.topic, 0)], Position::Earliest);
        let mut consumer = builder.isolation(Isolation::ReadCommitted).until_end().build().await?;
        let mut state = State::default();
        while let Some(batch) = consumer.next().await? {
            for record in &batch {
                let Some(key) = record.key() else { continue };
                let own = Record { key: key.to_vec(), value: record.value().map(<[u8]>::to_vec) };
                if let Err(why) = state.apply(&own, record.timestamp_ms()) {
                    let (topic, offset) = (&self.topic, record.offset());
                    tracing::warn!(topic, offset, "a record of the topic of schemas is left alone: {why}");
                }
            }
        }
        self.next = consumer.position(&self.topic, 0);
        Ok(state)
    }

    /// Writes records, all or none of them.
    ///
    /// # Cancel safety
    /// If the future is dropped, the records may be written. It should not be.
    pub(super) async fn append(&mut self, records: &[Record]) -> Result<Written, Unwritten> {
        let bytes = |record: &Record| record.key.len() + record.value.as_ref().map_or(0, Vec::len);
        if records.iter().any(|record| bytes(record) > RECORD_BYTES_MAX) {
            return Err(Unwritten::TooLarge);
        }
        if self.is_unsure {
            self.producer.resolve().await.map_err(|error| failed(&error))?;
            let state = self.read().await.map_err(|error| failed(&error))?;
            self.is_unsure = false;
            return Err(Unwritten::Stale(Box::new(state)));
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = i64::try_from(now.as_millis()).unwrap_or(i64::MAX);
        // Dropped before its end, it is aborted.
        let transaction = self.producer.begin().await.map_err(|error| failed(&error))?;
        let mut deliveries = Vec::with_capacity(records.len());
        for record in records {
            let record = KafkaRecord::to(&self.topic)
                .partition(0)
                .key(record.key.as_slice())
                .value_or_null(record.value.as_deref())
                .timestamp_ms(now);
            deliveries.push(transaction.enqueue(record).await.map_err(|error| failed(&error))?);
        }
        if let Err(error) = transaction.commit().await {
            let is_committed = error.maybe_written()
                && matches!(self.producer.resolve().await, Ok(Some(TransactionEnd::Committed)));
            if !is_committed {
                self.is_unsure = error.maybe_written();
                return Err(failed(&error));
            }
        }
        let mut offsets = Vec::with_capacity(deliveries.len());
        for delivery in deliveries {
            offsets.push(delivery.await.ok().and_then(|receipt| receipt.offset()));
        }
        let first = offsets.first().copied().flatten();
        let is_alone = first.is_some() && first == self.next;
        if is_alone {
            // The end of the transaction has an offset, too.
            self.next = offsets.last().copied().flatten().map(|last| last + 2);
            return Ok(Written::Next(now));
        }
        match self.read().await {
            Ok(state) => Ok(Written::Anew(Box::new(state))),
            Err(error) => {
                self.is_unsure = true;
                Err(failed(&error))
            }
        }
    }

    /// Ends the producer, so that the next registry need not wait.
    pub(super) async fn close(self, within: std::time::Duration) -> Result<(), Error> {
        Ok(self.producer.close_within(within).await?)
    }
}

fn failed(error: &milena::Error) -> Unwritten {
    if error.is_fenced() {
        return Unwritten::Fenced;
    }
    Unwritten::Failed(error.to_string())
}

/// Makes the topic, or looks whether it is one that a state can be kept in.
async fn make(client: &Client, topic: &str, replication: Option<i16>) -> Result<(), Error> {
    let admin = client.admin();
    let new = NewTopic::new(topic).partitions(1).config("cleanup.policy", "compact");
    let new = match replication {
        Some(count) => new.replication(count),
        None => new,
    };
    match admin.create_topic(new).await {
        Ok(()) => return Ok(()),
        Err(error) if error.code_name() == Some("TOPIC_ALREADY_EXISTS") => {}
        Err(error) => return Err(error.into()),
    }
    let described = admin.describe_topics([topic]).await?;
    for (_, description) in described {
        let partitions = description?.partitions.len();
        if partitions != 1 {
            let why = format!(
                "the topic {topic} has {partitions} partitions: schemas are kept in one with 1 partition"
            );
            return Err(Cause::Topic(why).into());
        }
    }
    let configs = admin.describe_configs(&ConfigResource::Topic(topic.into())).await?;
    let configs: BTreeMap<_, _> = configs.into_iter().map(|entry| (entry.name, entry.value)).collect();
    let policy = configs.get("cleanup.policy").cloned().flatten();
    // One that Kafka may not describe is not refused.
    if policy.as_deref().is_some_and(|policy| policy != "compact") {
        let policy = policy.unwrap_or_default();
        let why = format!(
            "the topic {topic} has cleanup.policy={policy}: its schemas would be deleted; set it to compact"
        );
        return Err(Cause::Topic(why).into());
    }
    Ok(())
}
