//! `CreatePartitions`: adds partitions to topics.

use std::time::Duration;

use milena_core::Failure;
use milena_core::calls::{CREATE_PARTITIONS, Row};
use milena_messages::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsResponse, CreatePartitionsTopic,
};

use super::Admin;
use crate::Error;
use crate::calls::{Answers, ApiCall};

/// How many partitions a topic is to have, for [`Admin::create_partitions`].
///
/// ```
/// let grown = milena::NewPartitions::total("orders", 12);
/// # let _ = grown;
/// ```
#[derive(Debug, Clone)]
#[must_use = "partitions are created by Admin::create_partitions"]
pub struct NewPartitions {
    topic: String,
    total: i32,
    replicas: Option<Vec<Vec<i32>>>,
}

impl NewPartitions {
    /// `topic` is to have `total` partitions, those that it has already included.
    pub fn total(topic: impl Into<String>, total: i32) -> Self {
        Self { topic: topic.into(), total, replicas: None }
    }

    /// Sets the brokers of each new partition, in order, the preferred leader first. Default: the cluster chooses them.
    pub fn replicas<R: IntoIterator<Item = i32>>(mut self, of_each: impl IntoIterator<Item = R>) -> Self {
        self.replicas = Some(of_each.into_iter().map(|replicas| replicas.into_iter().collect()).collect());
        self
    }

    fn doing(&self) -> String {
        format!("adding partitions to topic {:?}", self.topic)
    }

    fn check(&self) -> Result<(), Error> {
        if self.total < 1 {
            let why = format!("a topic has at least 1 partition, not {} partitions", self.total);
            return Err(Error::caller(self.doing(), why));
        }
        Ok(())
    }

    fn to_request(&self) -> CreatePartitionsTopic {
        let assignment = |replicas: &Vec<i32>| CreatePartitionsAssignment {
            broker_ids: replicas.clone(),
            ..Default::default()
        };
        let assignments = self.replicas.as_ref().map(|of_each| of_each.iter().map(assignment).collect());
        let (name, count) = (self.topic.as_str().into(), self.total);
        CreatePartitionsTopic { name, count, assignments, ..Default::default() }
    }
}

struct CreatePartitions {
    timeout_ms: i32,
    validate_only: bool,
}

impl ApiCall for CreatePartitions {
    const ROW: &'static Row = &CREATE_PARTITIONS;
    type Request = CreatePartitionsRequest;
    type Item = NewPartitions;
    type Key = String;
    type Found = ();

    fn key(&self, wanted: &NewPartitions) -> String {
        wanted.topic.clone()
    }

    fn request(&self, wanted: &[&NewPartitions]) -> CreatePartitionsRequest {
        let topics = wanted.iter().map(|wanted| wanted.to_request()).collect();
        let Self { timeout_ms, validate_only } = *self;
        CreatePartitionsRequest { topics, timeout_ms, validate_only, ..Default::default() }
    }

    fn answers(&self, response: CreatePartitionsResponse) -> Answers<String, ()> {
        let answers = response.results.iter().map(|topic| {
            (topic.name.to_string(), Failure::check(topic.error_code, topic.error_message.as_deref()))
        });
        answers.collect()
    }
}

impl Admin {
    /// Adds partitions to topics, and waits until they can be used. There is one result per topic, in the order given. Java's
    /// client calls it `createPartitions` (KIP-195).
    ///
    /// Records with keys go to other partitions from then on: the partition of a key depends on how many there are.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let cluster = milena_broker::Broker::builder().start().await?;
    /// # cluster.create_topic("orders", 2)?;
    /// # let client = milena::Client::connect(cluster.bootstrap()).await?;
    /// use milena::NewPartitions;
    ///
    /// let admin = client.admin();
    /// for (topic, grown) in admin.create_partitions([NewPartitions::total("orders", 6)]).await? {
    ///     grown?;
    ///     println!("{topic} has 6 partitions");
    /// }
    /// let (_, fewer) = admin.create_partitions([NewPartitions::total("orders", 3)]).await?.remove(0);
    /// assert_eq!(fewer.unwrap_err().code_name(), Some("INVALID_PARTITIONS"));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the request as a whole failed; [`Error::maybe_written`] tells whether partitions may have been added although it did.
    /// When a topic is to have no partitions; nothing is changed then. A topic's own result says that it does not exist, has
    /// that many partitions already, or that the replicas cannot be as they were given.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_partitions(
        &self,
        topics: impl IntoIterator<Item = NewPartitions>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let (topics, made) = self.ask_for_partitions(topics, false).await?;
        self.client.cluster_changed();
        let mut results = Vec::with_capacity(topics.len());
        for (wanted, mut made) in topics.into_iter().zip(made) {
            if made.is_ok() {
                // Brokers learn of new partitions one after another, as of a new topic.
                made = self.partition_made(&wanted).await;
            }
            results.push((wanted.topic, made));
        }
        Ok(results)
    }

    /// Asks whether [`create_partitions`](Self::create_partitions) would succeed, and changes nothing.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn validate_partitions(
        &self,
        topics: impl IntoIterator<Item = NewPartitions>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let (topics, checked) = self.ask_for_partitions(topics, true).await?;
        Ok(topics.into_iter().map(|wanted| wanted.topic).zip(checked).collect())
    }

    async fn ask_for_partitions(
        &self,
        topics: impl IntoIterator<Item = NewPartitions>,
        validate_only: bool,
    ) -> Result<(Vec<NewPartitions>, Vec<Result<(), Error>>), Error> {
        let topics: Vec<_> = topics.into_iter().collect();
        topics.iter().try_for_each(NewPartitions::check)?;
        let call = CreatePartitions { timeout_ms: self.timeout_ms(), validate_only };
        let made = self.call(&call, &topics, self.deadline()).await.finish_whole();
        // A question changes nothing, although it is asked as the order is given.
        let error = |doing: String, failure: Failure| {
            let maybe_written = !validate_only && failure.may_have_acted();
            Error::with_maybe_written(doing, failure, maybe_written)
        };
        let made = made.map_err(|failure| error("adding partitions".into(), failure))?;
        let made = topics.iter().zip(made);
        let made = made.map(|(wanted, made)| made.map_err(|failure| error(wanted.doing(), failure)));
        let made = made.collect();
        Ok((topics, made))
    }

    /// Waits until the metadata has the last one of the new partitions.
    async fn partition_made(&self, wanted: &NewPartitions) -> Result<(), Error> {
        let clock = &self.client.0.clock;
        let (deadline, last) = (self.deadline(), wanted.total - 1);
        let until = deadline.min(clock.after(self.client.0.settings.client.unknown_topic_wait));
        let failed = |failure| Error::with_maybe_written(wanted.doing(), failure, true);
        loop {
            let known = self.within(self.client.partition_made(&wanted.topic, last, deadline)).await;
            if known.map_err(failed)?.topic.partition(last).is_some() {
                return Ok(());
            }
            // The broker that was asked has not heard of them yet.
            if clock.now() >= until {
                return Err(failed(Failure::NoRoute("no broker shows the new partitions yet".into())));
            }
            self.within(clock.sleep_until(Some(clock.after(ASK_AGAIN)))).await;
        }
    }
}

/// The time between two questions for new partitions.
const ASK_AGAIN: Duration = Duration::from_millis(50);
