//! `CreateTopics`: creates topics.

use milena_core::Failure;
use milena_core::calls::{CREATE_TOPICS, Row};
use milena_messages::create_topics::{CreateTopicsRequest, CreateTopicsResponse};

use super::{Admin, NewTopic};
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct CreateTopics {
    timeout_ms: i32,
}

impl ApiCall for CreateTopics {
    const ROW: &'static Row = &CREATE_TOPICS;
    type Request = CreateTopicsRequest;
    type Item = NewTopic;
    type Key = String;
    type Found = ();

    fn key(&self, topic: &NewTopic) -> String {
        topic.name().to_owned()
    }

    fn request(&self, topics: &[&NewTopic]) -> CreateTopicsRequest {
        CreateTopicsRequest {
            topics: topics.iter().map(|topic| topic.to_request()).collect(),
            timeout_ms: self.timeout_ms,
            ..Default::default()
        }
    }

    fn answers(&self, response: CreateTopicsResponse) -> Answers<String, ()> {
        let answers = response.topics.iter().map(|topic| {
            (topic.name.to_string(), Failure::check(topic.error_code, topic.error_message.as_deref()))
        });
        answers.collect()
    }
}

impl Admin {
    /// Creates one topic, and waits until it can be used.
    ///
    /// # Errors
    /// As [`create_topics`](Self::create_topics), and when this topic was refused.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_topic(&self, topic: NewTopic) -> Result<(), Error> {
        let (_, made) = self.create_topics([topic]).await?.remove(0);
        made
    }

    /// Creates topics, and waits until each topic that was created can be used. There is one result per topic, in the order
    /// given.
    ///
    /// # Errors
    /// When the request as a whole failed; [`Error::maybe_written`] tells whether topics may have been created although it did.
    /// When a topic is to have no partitions or no replicas; no topic is created then.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn create_topics(
        &self,
        topics: impl IntoIterator<Item = NewTopic>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let topics: Vec<_> = topics.into_iter().collect();
        topics.iter().try_for_each(NewTopic::check)?;
        let deadline = self.deadline();
        let call = CreateTopics { timeout_ms: self.timeout_ms() };
        let made = self.call(&call, &topics, deadline).await.finish_whole();
        let made = made.map_err(|failure| Error::new("creating topics", failure))?;
        let mut results = Vec::with_capacity(topics.len());
        for (topic, made) in topics.iter().zip(made) {
            let doing = || format!("creating topic {:?}", topic.name());
            let mut made = made.map_err(|failure| Error::new(doing(), failure));
            if made.is_ok() {
                // Brokers learn of a new topic one after another. The caller should not find it missing at the next one.
                let wait = self.within(self.client.topic_made(topic.name(), deadline)).await;
                made = wait.map(drop).map_err(|failure| Error::with_maybe_written(doing(), failure, true));
            }
            results.push((topic.name().to_owned(), made));
        }
        Ok(results)
    }
}
