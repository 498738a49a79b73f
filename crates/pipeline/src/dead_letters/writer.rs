//! Writes dead letters: one producer, and the topic that they go to.

use std::collections::BTreeMap;

use milena::{Client, ConfigResource, NewTopic, Producer, Receipt, RecordView};

use super::letter::{ADDED_BYTES_MAX, DeadLetter, Facts};
use crate::Failure;
use crate::exactly_once::Output;
use crate::retry_topics::Origin;
use crate::topics;

/// Where records go that could not be processed.
///
/// ```
/// use milena_pipeline::dead_letters::DeadLetters;
///
/// let dead_letters = DeadLetters::to("orders.dlq").create(true).handler("charge");
/// # let _ = dead_letters;
/// ```
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is given to a pipeline, or opened"]
pub struct DeadLetters {
    topic: String,
    creates: bool,
    handler: Option<String>,
}

impl DeadLetters {
    /// Dead letters go to `topic`, which must exist unless it is [created](Self::create).
    pub fn to(topic: impl Into<String>) -> Self {
        Self { topic: topic.into(), creates: false, handler: None }
    }

    /// Sets whether the topic is created if it does not exist, with as many partitions as the source topic that has most of them,
    /// and a `max.message.bytes` that has room for the added headers. Default: false.
    pub fn create(mut self, creates: bool) -> Self {
        self.creates = creates;
        self
    }

    /// Sets the handler's name, which the letters tell. Default: none.
    pub fn handler(mut self, name: impl Into<String>) -> Self {
        self.handler = Some(name.into());
        self
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Looks the topic up, creates it if it is to be created, and makes the producer. `sources` are the topics that the records
    /// come from; they must exist for the new topic to have their number of partitions.
    ///
    /// # Errors
    /// When the topic does not exist and is not to be created, when it cannot be created, or when the cluster does not answer.
    ///
    /// # Cancel safety
    /// If the future is dropped, there is no writer. The topic may have been created.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// # client.producer().build().await?.send(milena::Record::to("orders").key("42").value("created")).await?;
    /// use milena_pipeline::Failure;
    /// use milena_pipeline::dead_letters::{DeadLetters, Facts};
    ///
    /// let writer = DeadLetters::to("orders.dlq").create(true).open(&client, ["orders"]).await?;
    /// let mut consumer = client.consumer_direct().topic("orders").until_end().build().await?;
    /// while let Some(batch) = consumer.next().await? {
    ///     for record in &batch {
    ///         let failure = Failure::poison("no such customer");
    ///         let facts = Facts { group: "billing", handler: None, attempts: 1, first_ms: 0, last_ms: 0 };
    ///         writer.write(record, &failure, &facts).await?; // it is written when this returns
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn open<T: AsRef<str>>(
        &self,
        client: &Client,
        sources: impl IntoIterator<Item = T>,
    ) -> Result<DeadLetterWriter, milena::Error> {
        let admin = client.admin();
        let sources: Vec<String> = sources.into_iter().map(|topic| topic.as_ref().to_owned()).collect();
        if self.creates {
            self.create_topic(client, &sources).await?;
        }
        let described = topics::describe(&admin, std::slice::from_ref(&self.topic), self.creates).await?;
        let mut partition_count = 0;
        for (_, topic) in described {
            partition_count = topic?.partitions.len();
        }
        // The source took the record, so that with our headers it may be larger than what producers send by default.
        let record_bytes_max = max_message_bytes(client, &self.topic).await.unwrap_or(0);
        let producer = client
            .producer()
            .settings(|settings| settings.record_bytes_max = settings.record_bytes_max.max(record_bytes_max))
            .build()
            .await?;
        Ok(DeadLetterWriter {
            topic: self.topic.clone(),
            partition_count: i32::try_from(partition_count).unwrap_or(i32::MAX),
            handler: self.handler.clone(),
            producer,
        })
    }

    async fn create_topic(&self, client: &Client, sources: &[String]) -> Result<(), milena::Error> {
        let admin = client.admin();
        let mut new = NewTopic::new(&self.topic);
        let (mut partition_count, mut bytes_max) = (0, 0);
        for (name, topic) in admin.describe_topics(sources).await? {
            let Ok(topic) = topic else { continue };
            partition_count = partition_count.max(topic.partitions.len());
            bytes_max = bytes_max.max(max_message_bytes(client, &name).await.unwrap_or(0));
        }
        if let Some(count) = i32::try_from(partition_count).ok().filter(|count| *count > 0) {
            new = new.partitions(count);
        }
        if bytes_max > 0 {
            // The broker's limit is for the batch, whose one record grows by this at most.
            let bytes_max = bytes_max.saturating_add(ADDED_BYTES_MAX).min(i32::MAX as usize);
            new = new.config("max.message.bytes", bytes_max.to_string());
        }
        match admin.create_topic(new).await {
            Err(error) if error.code_name() == Some("TOPIC_ALREADY_EXISTS") => Ok(()),
            created => created,
        }
    }
}

impl From<&str> for DeadLetters {
    fn from(topic: &str) -> Self {
        Self::to(topic)
    }
}

impl From<String> for DeadLetters {
    fn from(topic: String) -> Self {
        Self::to(topic)
    }
}

/// The topic's `max.message.bytes`. None if it cannot be read, for example because this principal may not.
async fn max_message_bytes(client: &Client, topic: &str) -> Option<usize> {
    config_of(client, topic).await.get("max.message.bytes")?.parse().ok()
}

/// The topic's settings. None are there if they cannot be read.
pub(crate) async fn config_of(client: &Client, topic: &str) -> BTreeMap<String, String> {
    let resource = ConfigResource::Topic(topic.to_owned());
    let configs = client.admin().describe_configs(&resource).await.unwrap_or_default();
    configs.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect()
}

/// Writes dead letters to a topic. It comes from [`DeadLetters::open`], and is cheap to clone.
#[derive(Debug, Clone)]
pub struct DeadLetterWriter {
    topic: String,
    partition_count: i32,
    handler: Option<String>,
    producer: Producer,
}

impl DeadLetterWriter {
    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Writes a letter, and returns when all in-sync replicas have it: to the partition of the same number as the record's, or, if
    /// the topic had no such partition when it was opened, to the one that the key decides. Letters of several records may be
    /// written at the same time, and travel in one batch then.
    ///
    /// # Errors
    /// As [`Producer::send`]. The record must stay uncommitted then, or it is lost.
    ///
    /// # Cancel safety
    /// If the future is dropped, the letter may be written all the same.
    pub async fn write(
        &self,
        record: RecordView<'_>,
        failure: &Failure,
        facts: &Facts<'_>,
    ) -> Result<Receipt, milena::Error> {
        let output = self.output(record.clone(), &Origin::of(&record), failure, facts);
        let headers = output.borrowed_headers();
        self.producer.send(output.record(&self.topic, &headers)).await
    }

    pub(crate) fn partition_count(&self) -> i32 {
        self.partition_count
    }

    /// Writes what is not written in a transaction.
    pub(crate) fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The letter of a record, which may have come through retry topics.
    pub(crate) fn output(
        &self,
        record: RecordView<'_>,
        origin: &Origin<'_>,
        failure: &Failure,
        facts: &Facts<'_>,
    ) -> Output {
        let facts = Facts { handler: facts.handler.or(self.handler.as_deref()), ..*facts };
        let letter = DeadLetter::with_origin(record, origin, failure, &facts);
        let headers = letter.headers();
        let mut record = letter.record(&self.topic, &headers);
        if letter.source_partition() < self.partition_count {
            record = record.partition(letter.source_partition());
        }
        Output::copy_of(&record)
    }
}
