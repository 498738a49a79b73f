//! What is known of a consumer anyway, for snapshots of metrics: nothing is counted for it while batches come and go.

use std::sync::Arc;

use milena_core::Instant;

use super::memory::TopicMemory;
use super::queue::Queue;
use super::shared::Shared;
use super::stalls::{Look, Stalls};
use crate::metrics::{Collect, Sheet, families};

impl Shared {
    /// Since when each partition's first batch waits.
    fn looks(&self) -> Vec<Look> {
        let queues: Vec<_> = self.assigned().queues.values().cloned().collect();
        let look = |queue: &Arc<Queue>| Look {
            topic: Arc::clone(&queue.topic),
            partition: queue.partition,
            waiting_since: queue.inner().waiting_since().filter(|_| !queue.gate.is_paused()),
        };
        queues.iter().map(look).collect()
    }

    /// Counts and logs the partitions that have become stalled since the last call.
    pub(super) fn tell_stalls(&self, stalls: &mut Stalls, now: Instant) {
        let Some(metrics) = &self.client.0.metrics else { return };
        for Look { topic, partition, waiting_since } in stalls.look(self.looks(), now) {
            metrics.consuming.note_stall(&topic);
            let seconds = waiting_since.map_or(0, |since| (now - since).as_secs());
            tracing::warn!(
                target: "milena",
                "partition {partition} of topic {topic:?} is stalled: a fetched batch of it has waited for {seconds} s, and the \
                 application takes none"
            );
        }
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
        let stalled = self.looks().iter().filter(|look| look.is_stalled(now)).count();
        sheet.gauge(&families::CONSUMER_STALLED_PARTITIONS, &[], stalled as f64);
        let flow = self.flow();
        for (scope, stops) in [("partition", flow.partitions), ("all", flow.all)] {
            sheet.counter(&families::CONSUMER_FETCH_STOPS, &[scope], stops.count as f64);
            sheet.counter(&families::CONSUMER_FETCH_STOPPED_SECONDS, &[scope], stops.time.as_secs_f64());
        }
    }
}
