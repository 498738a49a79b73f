//! Topics that a pipeline creates for itself.

use std::time::Duration;

use milena::{Admin, Error, TopicDescription};

/// How often, and how long after each other, topics are looked for that were just created: for ten seconds.
const LOOKS: u32 = 100;
const PAUSE: Duration = Duration::from_millis(100);

/// Describes topics. If they were created, by this member or by another one at the same time, it waits until the brokers know of them,
/// because the broker that is asked may hear of them later than the one that has created them.
pub(crate) async fn describe(
    admin: &Admin,
    topics: &[String],
    were_created: bool,
) -> Result<Vec<(String, Result<TopicDescription, Error>)>, Error> {
    let mut looks = if were_created { LOOKS } else { 1 };
    loop {
        let described = admin.describe_topics(topics).await?;
        looks -= 1;
        let is_missing = |error: &Error| error.code_name() == Some("UNKNOWN_TOPIC_OR_PARTITION");
        if looks == 0 || !described.iter().any(|(_, topic)| topic.as_ref().is_err_and(is_missing)) {
            return Ok(described);
        }
        tokio::time::sleep(PAUSE).await;
    }
}
