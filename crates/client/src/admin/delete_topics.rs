//! `DeleteTopics`: deletes topics with all their records.

use milena_core::Failure;
use milena_core::calls::{DELETE_TOPICS, Row};
use milena_messages::delete_topics::{DeletableTopicResult, DeleteTopicsRequest, DeleteTopicsResponse};

use super::Admin;
use crate::Error;
use crate::calls::{Answers, ApiCall};

struct DeleteTopics {
    timeout_ms: i32,
}

impl ApiCall for DeleteTopics {
    const ROW: &'static Row = &DELETE_TOPICS;
    type Request = DeleteTopicsRequest;
    type Item = String;
    type Key = String;
    type Found = ();

    fn key(&self, name: &String) -> String {
        name.clone()
    }

    fn request(&self, names: &[&String]) -> DeleteTopicsRequest {
        DeleteTopicsRequest {
            topic_names: names.iter().map(|name| name.as_str().into()).collect(),
            timeout_ms: self.timeout_ms,
            ..Default::default()
        }
    }

    fn answers(&self, response: DeleteTopicsResponse) -> Answers<String, ()> {
        let answer = |topic: &DeletableTopicResult| {
            let deleted = Failure::check(topic.error_code, topic.error_message.as_deref());
            Some((topic.name.as_ref()?.to_string(), deleted))
        };
        response.responses.iter().filter_map(answer).collect()
    }
}

impl Admin {
    /// Deletes topics with all their records. There is one result per topic, in the order given.
    ///
    /// # Errors
    /// When the request as a whole failed; [`Error::maybe_written`] tells whether topics may have been deleted although it did.
    ///
    /// # Cancel safety
    /// See [`Admin`].
    pub async fn delete_topics<T: AsRef<str>>(
        &self,
        names: impl IntoIterator<Item = T>,
    ) -> Result<Vec<(String, Result<(), Error>)>, Error> {
        let names: Vec<String> = names.into_iter().map(|name| name.as_ref().to_owned()).collect();
        let call = DeleteTopics { timeout_ms: self.timeout_ms() };
        let deleted = self.call(&call, &names, self.deadline()).await.finish_whole();
        let deleted = deleted.map_err(|failure| Error::new("deleting topics", failure))?;
        // Producers and consumers of these topics learn that they are gone.
        self.client.cluster_changed();
        let result = |(name, deleted): (String, Result<(), Failure>)| {
            let deleted = deleted.map_err(|failure| Error::new(format!("deleting topic {name:?}"), failure));
            (name, deleted)
        };
        Ok(names.into_iter().zip(deleted).map(result).collect())
    }
}
