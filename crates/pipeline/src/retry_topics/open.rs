//! Looks the retry topics up when a pipeline starts, and creates those that are missing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use milena::{Client, NewTopic};
use rustc_hash::FxHashMap;

use super::{Retries, RetryTopics, Source, Tier, millis};
use crate::control::TierCounts;
use crate::dead_letters::{ADDED_BYTES_MAX, config_of};
use crate::error::PipelineError;
use crate::topics;

/// More tiers than anyone needs: each is a topic.
const TIERS_MAX: usize = 16;
/// The longest name of a topic.
const NAME_BYTES_MAX: usize = 249;
/// The least retention of a topic that is created here, beyond its delay: a pipeline that is down for so long loses nothing.
const RETENTION_MIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

impl RetryTopics {
    /// # Errors
    /// When the delays or a topic's name cannot be, a topic is missing or has another number of partitions than its source, or the
    /// cluster refuses.
    pub(crate) async fn open(
        &self,
        client: &Client,
        group: &Arc<str>,
        sources: &[String],
    ) -> Result<Retries, PipelineError> {
        self.check()?;
        if sources.is_empty() {
            return Err(wrong(
                "the consumer names no topic with subscribe(), so that none has a retry topic",
            ));
        }
        let counts: Vec<_> = self.delays.iter().map(|delay| Arc::new(TierCounts::new(*delay))).collect();
        let admin = client.admin();
        let mut of_sources = FxHashMap::default();
        let mut tiers = FxHashMap::default();
        let described = admin.describe_topics(sources).await.map_err(PipelineError::of_client)?;
        for (source, topic) in described {
            let partition_count = topic.map_err(PipelineError::of_client)?.partitions.len();
            let source: Arc<str> = Arc::from(source);
            let mut topics = Vec::new();
            for (index, delay) in self.delays.iter().enumerate() {
                let topic = self.topic(&source, group, *delay)?;
                if sources.contains(&topic) {
                    let why = format!("the consumer subscribes to {topic:?} itself, which is a retry topic");
                    return Err(wrong(&why));
                }
                let (group, source, counts) =
                    (Arc::clone(group), Arc::clone(&source), Arc::clone(&counts[index]));
                let tier = Tier { source, group, index, counts, attempts: self.attempts };
                tiers.insert(topic.clone(), Arc::new(tier));
                topics.push(topic);
            }
            let partition_count = i32::try_from(partition_count).unwrap_or(i32::MAX);
            of_sources.insert(source, Source { partition_count, topics });
        }
        let mut record_bytes_max = 0;
        for (name, source) in &of_sources {
            let configs = self.provide(client, name, source).await?;
            let bytes = configs.iter().filter_map(|of| of.get("max.message.bytes")?.parse::<usize>().ok());
            record_bytes_max = bytes.chain([record_bytes_max]).max().unwrap_or_default();
        }
        let producer = client
            .producer()
            .settings(|settings| settings.record_bytes_max = settings.record_bytes_max.max(record_bytes_max))
            .build()
            .await
            .map_err(PipelineError::of_client)?;
        Ok(Retries { group: Arc::clone(group), counts, sources: of_sources, tiers, producer })
    }

    fn check(&self) -> Result<(), PipelineError> {
        let delays = &self.delays;
        if delays.is_empty() || delays.len() > TIERS_MAX {
            let count = delays.len();
            return Err(wrong(&format!("there are {count} tiers, and there may be 1 to {TIERS_MAX}")));
        }
        for (index, delay) in delays.iter().enumerate() {
            if delay.is_zero() || delay.subsec_nanos() % 1_000_000 > 0 {
                return Err(wrong(&format!("a delay is {delay:?}, which is not a number of milliseconds")));
            }
            if delays[..index].contains(delay) {
                return Err(wrong(&format!("two tiers have the delay {delay:?}, and would be one topic")));
            }
        }
        Ok(())
    }

    fn topic(&self, source: &str, group: &str, delay: Duration) -> Result<String, PipelineError> {
        let name = self.name.as_deref().unwrap_or(group);
        let topic = format!("{source}.{name}.retry.{}", text_of(delay));
        let is_legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if name.is_empty() || !name.chars().all(is_legal) || topic.len() > NAME_BYTES_MAX {
            return Err(wrong(&format!(
                "{topic:?} cannot be the name of a topic: set another name instead of {name:?} with named()"
            )));
        }
        Ok(topic)
    }

    /// Creates what is missing of a source's retry topics, and checks what is there. Answers with their settings.
    async fn provide(
        &self,
        client: &Client,
        name: &str,
        source: &Source,
    ) -> Result<Vec<BTreeMap<String, String>>, PipelineError> {
        let admin = client.admin();
        if self.creates {
            let config = config_of(client, name).await;
            for (topic, delay) in source.topics.iter().zip(&self.delays) {
                let new = new_topic(topic, source.partition_count, &config, *delay);
                match admin.create_topic(new).await {
                    Err(error) if error.code_name() == Some("TOPIC_ALREADY_EXISTS") => {}
                    created => created.map_err(PipelineError::of_client)?,
                }
            }
        }
        let (mut missing, mut configs) = (Vec::new(), Vec::new());
        let described = topics::describe(&admin, &source.topics, self.creates).await;
        let described = described.map_err(PipelineError::of_client)?;
        for ((topic, described), delay) in described.into_iter().zip(&self.delays) {
            let count = match described {
                Err(error) if error.code_name() == Some("UNKNOWN_TOPIC_OR_PARTITION") => {
                    missing.push(topic);
                    continue;
                }
                described => described.map_err(PipelineError::of_client)?.partitions.len(),
            };
            let expected = source.partition_count;
            if usize::try_from(expected).is_ok_and(|expected| expected != count) {
                return Err(wrong(&format!(
                    "the retry topic {topic:?} has {count} partitions and its source {name:?} has {expected}: give it the same \
                     number"
                )));
            }
            let config = config_of(client, &topic).await;
            check_config(&topic, &config, *delay)?;
            configs.push(config);
        }
        if missing.is_empty() {
            return Ok(configs);
        }
        let missing = missing.join(", ");
        Err(wrong(&format!(
            "these retry topics do not exist: {missing}; create them with {} partitions, or have them created with create(true)",
            source.partition_count
        )))
    }
}

fn new_topic(
    name: &str,
    partition_count: i32,
    source: &BTreeMap<String, String>,
    delay: Duration,
) -> NewTopic {
    let mut new = NewTopic::new(name).partitions(partition_count).config("cleanup.policy", "delete");
    if let Some(bytes) = source.get("max.message.bytes").and_then(|bytes| bytes.parse::<usize>().ok()) {
        // The broker's limit is for the batch, whose one record grows by this at most.
        let bytes = bytes.saturating_add(ADDED_BYTES_MAX).min(i32::MAX as usize);
        new = new.config("max.message.bytes", bytes.to_string());
    }
    let of_source = source.get("retention.ms").and_then(|ms| ms.parse::<i64>().ok()).unwrap_or_default();
    let retention_ms = match of_source {
        // It keeps records for ever, and so does its retry topic.
        ..0 => -1,
        ms => ms.max(millis(RETENTION_MIN)).saturating_add(millis(delay)),
    };
    new.config("retention.ms", retention_ms.to_string())
}

/// # Errors
/// When the topic would lose records before they are tried.
fn check_config(
    topic: &str,
    config: &BTreeMap<String, String>,
    delay: Duration,
) -> Result<(), PipelineError> {
    if config.get("cleanup.policy").is_some_and(|policy| policy.contains("compact")) {
        return Err(wrong(&format!(
            "the retry topic {topic:?} is compacted, which removes records of a key that has a later one: set its \
             cleanup.policy to \"delete\""
        )));
    }
    let retention_ms = config.get("retention.ms").and_then(|ms| ms.parse::<i64>().ok());
    match retention_ms.filter(|ms| *ms >= 0 && *ms <= millis(delay)) {
        None => Ok(()),
        Some(ms) => Err(wrong(&format!(
            "the retry topic {topic:?} keeps records for {ms} ms, which is not longer than its delay of {delay:?}: set its \
             retention.ms higher"
        ))),
    }
}

fn wrong(why: &str) -> PipelineError {
    PipelineError::setting(&format!("retry topics: {why}"))
}

/// A delay as a part of a topic's name, in the largest unit that says it whole.
fn text_of(delay: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")];
    let ms = delay.as_millis();
    let unit = UNITS.iter().find(|(unit, _)| ms.is_multiple_of(*unit));
    unit.map_or_else(|| format!("{ms}ms"), |(unit, name)| format!("{}{name}", ms / unit))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Span;

    #[test]
    fn a_delay_is_said_in_its_largest_unit() {
        let said = [1.ms(), 1_500.ms(), 90.s(), 60.s(), 120.minutes(), 36.hours(), 2.days()].map(text_of);
        assert_eq!(said, ["1ms", "1500ms", "90s", "1m", "2h", "36h", "2d"]);
    }

    #[test]
    fn a_group_whose_name_no_topic_may_have_needs_another() {
        let topics = RetryTopics::tiers([1.s()]);
        assert_eq!(topics.topic("orders", "billing", 1.s()).expect("a name"), "orders.billing.retry.1s");
        for group in ["", "billing of mine", "bílling", &"g".repeat(240)] {
            assert!(topics.topic("orders", group, 1.s()).is_err(), "{group:?}");
            let named = topics.clone().named("b").topic("orders", group, 1.s()).expect("a name");
            assert_eq!(named, "orders.b.retry.1s");
        }
    }

    #[test]
    fn tiers_that_cannot_be_are_refused() {
        for (delays, why) in [
            (vec![], "there are 0 tiers"),
            (vec![1.s(); 2], "two tiers have the delay 1s"),
            ((1..18).map(Span::s).collect(), "there are 17 tiers"),
            (vec![Duration::ZERO], "a delay is 0ns"),
            (vec![1.us()], "a delay is 1µs"),
        ] {
            let error = RetryTopics::tiers(delays).check().unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn a_topic_that_would_lose_records_is_refused() {
        let config = |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for (config, is_fine) in [
            (config("cleanup.policy", "compact,delete"), false),
            (config("cleanup.policy", "delete"), true),
            (config("retention.ms", "60000"), false),
            (config("retention.ms", "60001"), true),
            (config("retention.ms", "-1"), true),
            (BTreeMap::new(), true),
        ] {
            assert_eq!(check_config("t", &config, 60.s()).is_ok(), is_fine, "{config:?}");
        }
    }
}
