//! What is known of a consumer anyway, for snapshots of metrics: nothing is counted for it while batches come and go.

use std::sync::Arc;
use std::time::Duration;

use milena_core::Instant;

use super::memory::TopicMemory;
use super::queue::Queue;
use super::shared::Shared;
use super::stalls::{Change, Look, OnStall, PartitionStall, Stalls};
use crate::metrics::{Collect, Sheet, families};

impl Shared {
    /// How each partition stands.
    fn looks(&self) -> Vec<Look> {
        let queues: Vec<_> = self.assigned().queues.values().cloned().collect();
        let look = |queue: &Arc<Queue>| Look {
            topic: Arc::clone(&queue.topic),
            partition: queue.partition,
            waiting: queue.inner().waiting().filter(|_| !queue.gate.is_paused()),
            in_work: queue.held.oldest_in_work(),
        };
        queues.iter().map(look).collect()
    }

    /// Counts and logs the partitions that have become stalled since the last call, and tells the program.
    pub(super) fn tell_stalls(&self, stalls: &mut Stalls, on_stall: Option<&OnStall>, now: Instant) {
        let metrics = self.client.0.metrics.as_ref();
        let unix = Duration::from_millis(self.client.0.clock.unix_ms().unsigned_abs());
        let (begun, changes) = stalls.look(&self.looks(), now, unix);
        if let Some(metrics) = metrics {
            begun.iter().for_each(|topic| metrics.consuming.note_stall(topic));
        }
        for change in changes {
            let stall = self.stall(change, now);
            if !stall.has_ended {
                tracing::warn!(target: "milena", "{stall}");
            }
            if let Some(on_stall) = on_stall {
                on_stall.tell(&stall);
            }
        }
    }

    /// What is known of a partition whose stall begins or ends.
    fn stall(&self, change: Change, now: Instant) -> PartitionStall {
        let key = (Arc::clone(&change.topic), change.partition);
        let queue = self.assigned().queues.get(&key).cloned();
        let (position, (buffered_bytes, _), buffered_records) = queue.map_or((None, (0, 0), 0), |queue| {
            let inner = queue.inner();
            (inner.position, inner.buffered(), inner.buffered_records())
        });
        PartitionStall { position, buffered_bytes, buffered_records, ..change.without_place(now) }
    }
}

impl Collect for Shared {
    fn collect(&self, sheet: &mut Sheet<'_>) {
        let (now, now_ms) = (self.client.0.clock.now(), self.client.0.clock.unix_ms());
        let memory = self.memory();
        let sum = |of: fn(&TopicMemory) -> usize| memory.topics.iter().map(of).sum::<usize>() as f64;
        sheet.gauge(&families::CONSUMER_BUFFERED_BYTES, &[], sum(|topic| topic.buffered_bytes));
        sheet.gauge(&families::CONSUMER_IN_USE_BYTES, &[], sum(|topic| topic.in_use_bytes));
        sheet.gauge(&families::CONSUMER_PINNED_BYTES, &[], sum(|topic| topic.pinned_bytes));
        let queues: Vec<_> = self.assigned().queues.values().cloned().collect();
        sheet.gauge(&families::CONSUMER_ASSIGNED_PARTITIONS, &[], queues.len() as f64);
        for queue in &queues {
            let Some((records, age_ms)) = queue.inner().lag(now_ms) else { continue };
            let partition = queue.partition.to_string();
            let labels = [&*queue.topic, &partition];
            sheet.gauge(&families::CONSUMER_LAG_RECORDS, &labels, records as f64);
            sheet.gauge(&families::CONSUMER_LAG_SECONDS, &labels, age_ms as f64 / 1000.0);
        }
        let stalled = self.looks().iter().filter(|look| look.is_waiting(self.stall_after, now)).count();
        sheet.gauge(&families::CONSUMER_STALLED_PARTITIONS, &[], stalled as f64);
        let flow = self.flow();
        for (scope, stops) in [("partition", flow.partitions), ("all", flow.all)] {
            sheet.counter(&families::CONSUMER_FETCH_STOPS, &[scope], stops.count as f64);
            sheet.counter(&families::CONSUMER_FETCH_STOPPED_SECONDS, &[scope], stops.time.as_secs_f64());
        }
    }
}
