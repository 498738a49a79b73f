//! Reads spans of partitions to their ends.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Instant;

use milena::{Batch, Consumer, Isolation, OffsetAt, Position, Reset};

use super::selection::Wanted;
use crate::cluster::Connected;
use crate::commands::chosen::{Partition, look_up};
use crate::commands::topics::{check_partitions, describe_topic};
use crate::exit::{Exit, Failure};
use crate::progress::TICK;

/// The records of some partitions, each up to where it is to stop. Records of aborted transactions are no letters, and are not
/// read.
pub(super) struct Reader {
    consumer: Consumer,
    stops: BTreeMap<Partition, i64>,
    timeout: std::time::Duration,
    arrived_at: Instant,
}

impl Reader {
    pub(super) async fn open(
        cluster: &Connected,
        spans: impl IntoIterator<Item = (Partition, Range<i64>)>,
    ) -> Result<Self, Failure> {
        // A partition that loses its oldest records meanwhile is read from those that are left.
        let mut builder =
            cluster.client.consumer_direct().isolation(Isolation::ReadCommitted).reset(Reset::Earliest);
        let mut stops = BTreeMap::new();
        for ((topic, partition), span) in spans {
            if span.start < span.end {
                builder = builder.assign([(topic.as_str(), partition)], Position::Offset(span.start));
                stops.insert((topic, partition), span.end);
            }
        }
        let consumer = builder.build().await?;
        Ok(Self { consumer, stops, timeout: cluster.timeout, arrived_at: Instant::now() })
    }

    /// The next batch, and where its partition stops: records from there on are not wanted. None when all was read.
    ///
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Result<Option<(Batch, i64)>, Failure> {
        let mut tick = tokio::time::interval(TICK);
        while !self.stops.is_empty() {
            let batch = tokio::select! {
                biased;
                batch = self.consumer.next() => batch?,
                _ = tick.tick() => {
                    self.pass();
                    if self.arrived_at.elapsed() >= self.timeout {
                        return Err(self.stalled());
                    }
                    continue;
                }
            };
            let Some(batch) = batch else { break };
            self.arrived_at = Instant::now();
            let partition = (batch.topic().to_owned(), batch.partition());
            let Some(stop) = self.stops.get(&partition).copied() else { continue };
            if batch.next_offset() >= stop {
                self.finish(&partition)?;
            }
            return Ok(Some((batch, stop)));
        }
        Ok(None)
    }

    /// Reads no more of a partition.
    pub(super) fn finish(&mut self, partition: &Partition) -> Result<(), Failure> {
        if self.stops.remove(partition).is_some() {
            self.consumer.unassign([(partition.0.as_str(), partition.1)])?;
        }
        Ok(())
    }

    /// The time that passes while the caller does not read is no stall.
    pub(super) fn rested(&mut self) {
        self.arrived_at = Instant::now();
    }

    /// Finishes partitions whose last offsets have no records, such as transaction markers.
    fn pass(&mut self) {
        let consumer = &self.consumer;
        self.stops.retain(|(topic, partition), stop| {
            consumer.position(topic, *partition).is_none_or(|position| position < *stop)
        });
    }

    fn stalled(&self) -> Failure {
        let partitions: Vec<_> =
            self.stops.keys().map(|(topic, partition)| format!("{topic}/{partition}")).collect();
        let message = format!("nothing came for {:?}, although there is more to read", self.timeout);
        Failure::new(Exit::Unreachable, message)
            .hint(format!("Not read to the end: {}.", partitions.join(", ")))
    }
}

/// The beginning and the end of each partition: the offset after the last record that a consumer of committed records may see.
pub(super) async fn bounds(
    cluster: &Connected,
    partitions: impl IntoIterator<Item = Partition>,
) -> Result<BTreeMap<Partition, Range<i64>>, Failure> {
    let partitions = partitions.into_iter().collect();
    let admin = cluster.admin().isolation(Isolation::ReadCommitted);
    let beginnings = look_up(&admin, &partitions, OffsetAt::Earliest).await?;
    let ends = look_up(&admin, &partitions, OffsetAt::Latest).await?;
    let of = |offsets: &BTreeMap<Partition, i64>, partition: &Partition| {
        offsets.get(partition).copied().unwrap_or(0)
    };
    let bounds = partitions.into_iter().map(|partition| {
        let (start, end) = (of(&beginnings, &partition), of(&ends, &partition));
        (partition, start..end.max(start))
    });
    Ok(bounds.collect())
}

/// The partitions of a topic that are wanted, with what each holds.
pub(super) async fn held(
    cluster: &Connected,
    topic: &str,
    wanted: &Wanted,
) -> Result<BTreeMap<Partition, Range<i64>>, Failure> {
    let described = describe_topic(cluster, topic).await?;
    let all = || described.partitions.iter().map(|partition| partition.index).collect();
    let partitions: Vec<i32> = wanted.partitions.clone().unwrap_or_else(all);
    check_partitions(&described, partitions.iter().copied())?;
    bounds(cluster, partitions.into_iter().map(|partition| (topic.to_owned(), partition))).await
}

/// The spans of a topic that may have letters that are wanted.
pub(super) async fn spans(
    cluster: &Connected,
    topic: &str,
    wanted: &Wanted,
) -> Result<BTreeMap<Partition, Range<i64>>, Failure> {
    let mut held = held(cluster, topic, wanted).await?;
    // Timestamps need not ascend, so that a record after the first one at `until` may be older than it: only the start is narrowed.
    if let Some(ms) = wanted.since {
        let partitions = held.keys().cloned().collect();
        let admin = cluster.admin().isolation(Isolation::ReadCommitted);
        let starts = look_up(&admin, &partitions, OffsetAt::TimestampMs(ms)).await?;
        for (partition, span) in &mut held {
            // Without a record at or after the time there is nothing to read.
            span.start = starts.get(partition).map_or(span.end, |start| (*start).clamp(span.start, span.end));
        }
    }
    Ok(held)
}
