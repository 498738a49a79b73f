//! A sample of a topic: its last records, of all partitions alike.

use std::collections::BTreeMap;
use std::time::Duration;

use milena::{Batch, Consumer, OffsetAt, Position, RecordView};

use super::sample::{Sample, Sampled, Stored};
use crate::cluster::Connected;
use crate::commands::topics::describe_topic;
use crate::exit::{Exit, Failure};
use crate::units::Count;

/// How much to take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) records_max: u64,
    pub(super) bytes_max: usize,
    /// How long to read.
    pub(super) time: Duration,
}

/// The last records of `topic`.
///
/// # Errors
/// When the topic does not exist or has no records, or none came in time.
pub(super) async fn take(cluster: &Connected, topic: &str, limits: Limits) -> Result<Sample, Failure> {
    let starts = starts(cluster, topic, limits.records_max).await?;
    let mut builder = cluster.client.consumer_direct().until_end();
    for (partition, start) in &starts {
        builder = builder.assign([(topic, *partition)], Position::Offset(*start));
    }
    let mut consumer = builder.build().await?;
    let mut taking = Taking::new(limits.bytes_max / starts.len().max(1));
    let read = tokio::time::timeout(limits.time, taking.read(&mut consumer, topic)).await;
    let is_late = match read {
        Ok(ended) => ended.map(|()| false)?,
        Err(_) => true,
    };
    let sample = taking.sample(topic, is_late);
    if !sample.records.is_empty() {
        return Ok(sample);
    }
    Err(match is_late {
        true => Failure::new(
            Exit::Unreachable,
            format!("no record of topic {topic:?} came within {:?}", limits.time),
        )
        .hint("Give it more with --time."),
        // Transaction markers have offsets, and so have records that compaction removed.
        false => no_records(topic),
    })
}

fn no_records(topic: &str) -> Failure {
    Failure::not_found(format!("topic {topic:?} has no records to measure"))
        .hint("Write some first, or measure a file with --file.")
}

/// Where to begin in each partition that has records.
async fn starts(cluster: &Connected, topic: &str, records_max: u64) -> Result<BTreeMap<i32, i64>, Failure> {
    let described = describe_topic(cluster, topic).await?;
    let admin = cluster.admin();
    let mut bounds = Vec::new();
    for at in [OffsetAt::Earliest, OffsetAt::Latest] {
        let partitions = described.partitions.iter().map(|partition| (topic, partition.index));
        let found = admin.list_offsets(partitions, at).await?;
        let found = found.into_iter().map(|((_, partition), offset)| Ok((partition, offset?.unwrap_or(0))));
        bounds.push(found.collect::<Result<BTreeMap<i32, i64>, Failure>>()?);
    }
    let [earliest, latest] = &bounds[..] else { return Ok(BTreeMap::new()) };
    let with_records = |(partition, end): (&i32, &i64)| {
        let begin = earliest.get(partition).copied().unwrap_or(0);
        (begin < *end).then_some((*partition, begin, *end))
    };
    let spans: Vec<_> = latest.iter().filter_map(with_records).collect();
    if spans.is_empty() {
        return Err(no_records(topic));
    }
    let each = i64::try_from(records_max / spans.len() as u64).unwrap_or(i64::MAX).max(1);
    Ok(spans
        .into_iter()
        .map(|(partition, begin, end)| (partition, begin.max(end.saturating_sub(each))))
        .collect())
}

/// What was read so far.
struct Taking {
    by_partition: BTreeMap<i32, (Vec<Sampled>, usize)>,
    stored: Vec<Stored>,
    /// Of each partition.
    bytes_max: usize,
    is_cut: bool,
}

impl Taking {
    fn new(bytes_max: usize) -> Self {
        Self { by_partition: BTreeMap::new(), stored: Vec::new(), bytes_max, is_cut: false }
    }

    /// Reads to the end, or to as many bytes of each partition as are wanted.
    ///
    /// # Cancel safety
    /// What was taken before stays.
    async fn read(&mut self, consumer: &mut Consumer, topic: &str) -> Result<(), Failure> {
        while let Some(batch) = consumer.next().await? {
            let partition = batch.partition();
            let is_full = self.add(&batch);
            drop(batch);
            if is_full {
                self.is_cut = true;
                consumer.unassign([(topic, partition)])?;
            }
        }
        Ok(())
    }

    /// Adds a batch. Answers whether the partition has enough.
    fn add(&mut self, batch: &Batch) -> bool {
        let codec = batch.compression();
        let at = self.stored.iter().position(|one| one.codec == codec).unwrap_or_else(|| {
            self.stored.push(Stored { codec, batch_count: 0, bytes: 0, plain_bytes: 0 });
            self.stored.len() - 1
        });
        let stored = &mut self.stored[at];
        stored.batch_count += 1;
        stored.bytes += batch.encoded_bytes() as u64;
        stored.plain_bytes += batch.bytes() as u64;
        let (records, bytes) = self.by_partition.entry(batch.partition()).or_default();
        for record in batch {
            if *bytes >= self.bytes_max {
                return true;
            }
            let record = sampled(&record);
            *bytes += record.bytes();
            records.push(record);
        }
        *bytes >= self.bytes_max
    }

    fn sample(self, topic: &str, is_late: bool) -> Sample {
        let partitions = self.by_partition.len();
        let records: Vec<_> = self.by_partition.into_values().flat_map(|(records, _)| records).collect();
        let s = if partitions == 1 { "" } else { "s" };
        let source = format!("topic {topic}, {} partition{s}", Count(partitions as u64));
        let end = match (is_late, self.is_cut) {
            (true, _) => Some("more did not come in time".to_owned()),
            (_, true) => Some("--sample-bytes takes no more".to_owned()),
            _ => None,
        };
        Sample { records, stored: self.stored, source, end }
    }
}

fn sampled(record: &RecordView<'_>) -> Sampled {
    Sampled {
        partition: record.partition(),
        timestamp: record.timestamp_ms().unwrap_or(0),
        key: record.key().map(Into::into),
        value: record.value().map(Into::into),
        headers: record.headers().map(|header| (header.key.into(), header.value.map(Into::into))).collect(),
    }
}
