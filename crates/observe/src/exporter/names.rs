//! The names under which facts are exported.
//!
//! Status, time lag and what the exporter says of itself have milena's names always: other exporters have none for them.

use std::collections::BTreeMap;

use milena::metrics::{Family, Unit};

use super::facts::Facts;
use crate::exposition::page::Page;
use crate::lag::CatchUp;

/// Whose names metrics have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Names {
    /// `milena_cluster_group_lag` and so on.
    #[default]
    Milena,
    /// Those of [kafka_exporter](https://github.com/danielqsj/kafka_exporter), for its dashboards: `kafka_consumergroup_lag`.
    KafkaExporter,
    /// Those of [kminion](https://github.com/redpanda-data/kminion): `kminion_kafka_consumer_group_topic_partition_lag`.
    Kminion,
}

macro_rules! gauges {
    ($($name:ident = $text:literal [$($label:literal),*] $help:literal;)*) => {
        $(pub(crate) static $name: Family = Family::gauge($text, $help).labelled(&[$($label),*], 0);)*
    };
}

gauges! {
    UP = "milena_exporter_up" [] "Whether the last look at the cluster succeeded.";
    LOOKED_AT = "milena_exporter_looked_at_timestamp_seconds" [] "When the cluster was looked at last.";
    LEFT_OUT = "milena_exporter_left_out" [] "Partitions of groups that are not exported, because there are too many.";
    GROUP_STATUS = "milena_cluster_group_status" ["group"]
        "Burrow's status of a group: 0 NOTFOUND, 1 OK, 2 WARN, 3 ERR.";
    PARTITION_STATUS = "milena_cluster_group_partition_status" ["group", "topic", "partition"]
        "Burrow's status of a partition: 1 OK, 2 WARN, 4 STOP, 5 STALL, 6 REWIND.";

    BROKERS = "milena_cluster_brokers" [] "Brokers.";
    PARTITIONS = "milena_cluster_topic_partitions" ["topic"] "Partitions of a topic.";
    START = "milena_cluster_partition_start_offset" ["topic", "partition"] "The first offset.";
    END = "milena_cluster_partition_end_offset" ["topic", "partition"] "The offset after the last record.";
    LEADER = "milena_cluster_partition_leader" ["topic", "partition"] "The leader's id; -1 if there is none.";
    REPLICAS = "milena_cluster_partition_replicas" ["topic", "partition"] "Replicas.";
    IN_SYNC = "milena_cluster_partition_in_sync_replicas" ["topic", "partition"] "Replicas in sync.";
    STABLE_END = "milena_cluster_partition_stable_offset" ["topic", "partition"]
        "The last stable offset, at which read_committed consumers end.";
    HELD_BACK = "milena_cluster_partition_held_back" ["topic", "partition"]
        "Offsets from the last stable one to the end, which an open transaction holds back; only if there are some.";
    MEMBERS = "milena_cluster_group_members" ["group"] "Members of a group.";
    STATE = "milena_cluster_group_state" ["group", "state"] "1 for the state of a group.";
    COMMITTED = "milena_cluster_group_committed_offset" ["group", "topic", "partition"] "The committed offset.";
    LAG = "milena_cluster_group_lag" ["group", "topic", "partition"] "Offsets from the committed one to the end.";
    UNPROCESSED = "milena_cluster_group_unprocessed" ["group", "topic", "partition"]
        "The lag without what is finished above the committed offset.";

    KE_BROKERS = "kafka_brokers" [] "Number of Brokers in the Kafka Cluster.";
    KE_BROKER_INFO = "kafka_broker_info" ["id", "address"] "Information about the Kafka Broker.";
    KE_PARTITIONS = "kafka_topic_partitions" ["topic"] "Number of partitions for this Topic";
    KE_END = "kafka_topic_partition_current_offset" ["topic", "partition"] "Current Offset of a Broker at Topic/Partition";
    KE_START = "kafka_topic_partition_oldest_offset" ["topic", "partition"] "Oldest Offset of a Broker at Topic/Partition";
    KE_IN_SYNC = "kafka_topic_partition_in_sync_replica" ["topic", "partition"]
        "Number of In-Sync Replicas for this Topic/Partition";
    KE_LEADER = "kafka_topic_partition_leader" ["topic", "partition"] "Leader Broker ID of this Topic/Partition";
    KE_PREFERRED = "kafka_topic_partition_leader_is_preferred" ["topic", "partition"]
        "1 if Topic/Partition is using the Preferred Broker";
    KE_REPLICAS = "kafka_topic_partition_replicas" ["topic", "partition"] "Number of Replicas for this Topic/Partition";
    KE_UNDER = "kafka_topic_partition_under_replicated_partition" ["topic", "partition"]
        "1 if Topic/Partition is under Replicated";
    KE_COMMITTED = "kafka_consumergroup_current_offset" ["consumergroup", "topic", "partition"]
        "Current Offset of a ConsumerGroup at Topic/Partition";
    KE_COMMITTED_SUM = "kafka_consumergroup_current_offset_sum" ["consumergroup", "topic"]
        "Current Offset of a ConsumerGroup at Topic for all partitions";
    KE_LAG = "kafka_consumergroup_lag" ["consumergroup", "topic", "partition"]
        "Current Approximate Lag of a ConsumerGroup at Topic/Partition";
    KE_LAG_SUM = "kafka_consumergroup_lag_sum" ["consumergroup", "topic"]
        "Current Approximate Lag of a ConsumerGroup at Topic for all partitions";
    KE_MEMBERS = "kafka_consumergroup_members" ["consumergroup"] "Amount of members in a consumer group";

    KM_BROKER_INFO = "kminion_kafka_broker_info" ["broker_id", "address"] "Kafka broker information";
    KM_TOPIC_INFO = "kminion_kafka_topic_info" ["topic_name", "partition_count", "replication_factor"]
        "Info labels for a given topic";
    KM_END = "kminion_kafka_topic_partition_high_water_mark" ["topic_name", "partition_id"] "Partition High Water Mark";
    KM_START = "kminion_kafka_topic_partition_low_water_mark" ["topic_name", "partition_id"] "Partition Low Water Mark";
    KM_END_SUM = "kminion_kafka_topic_high_water_mark_sum" ["topic_name"]
        "Sum of all the topic's partition high water marks";
    KM_START_SUM = "kminion_kafka_topic_low_water_mark_sum" ["topic_name"] "Sum of all the topic's partition low water marks";
    KM_TOPIC_BYTES = "kminion_kafka_topic_log_dir_size_total_bytes" ["topic_name"]
        "The summed size in bytes of partitions for a given topic. This includes the used space for replica partitions.";
    KM_BROKER_BYTES = "kminion_kafka_broker_log_dir_size_total_bytes" ["broker_id", "address"]
        "The summed size in bytes of all log dirs for a given broker";
    KM_GROUP_INFO = "kminion_kafka_consumer_group_info"
        ["group_id", "protocol", "protocol_type", "state", "coordinator_id"]
        "Consumer Group info metrics. It will report 1 if the group is in the stable state, otherwise 0.";
    KM_MEMBERS = "kminion_kafka_consumer_group_members" ["group_id"] "Consumer Group member count metrics.";
    KM_OFFSET_SUM = "kminion_kafka_consumer_group_topic_offset_sum" ["group_id", "topic_name"]
        "The sum of all committed group offsets across all partitions in a topic";
    KM_PARTITION_LAG = "kminion_kafka_consumer_group_topic_partition_lag" ["group_id", "topic_name", "partition_id"]
        "The number of messages a consumer group is lagging behind the latest offset of a partition";
    KM_LAG = "kminion_kafka_consumer_group_topic_lag" ["group_id", "topic_name"]
        "The number of messages a consumer group is lagging behind across all partitions in a topic";
}

pub(crate) static LOOK_SECONDS: Family =
    Family::gauge("milena_exporter_look_seconds", "How long the last look at the cluster took.")
        .in_unit(Unit::Seconds);
pub(crate) static FAILED: Family =
    Family::counter("milena_exporter_failed_looks_total", "Looks at the cluster that failed.");
pub(crate) static LAG_SECONDS: Family = Family::gauge(
    "milena_cluster_group_lag_seconds",
    "The age of the oldest record that the group has not finished.",
)
.in_unit(Unit::Seconds)
.labelled(&["group", "topic", "partition"], 0);
pub(crate) static CATCH_UP: Family = Family::gauge(
    "milena_cluster_group_catch_up_seconds",
    "When the group has read everything, at its pace.",
)
.in_unit(Unit::Seconds)
.labelled(&["group", "topic", "partition"], 0);

pub(crate) static HELD_SECONDS: Family = Family::gauge(
    "milena_cluster_partition_held_back_seconds",
    "For how long an open transaction has held records back, as far as it was watched; only if one does.",
)
.in_unit(Unit::Seconds)
.labelled(&["topic", "partition"], 0);
pub(crate) static PARTITION_BYTES: Family =
    Family::gauge("milena_cluster_partition_size_bytes", "Bytes of the leader's replica.")
        .in_unit(Unit::Bytes)
        .labelled(&["topic", "partition"], 0);
pub(crate) static TOPIC_BYTES: Family =
    Family::gauge("milena_cluster_topic_size_bytes", "Bytes of all replicas of a topic.")
        .in_unit(Unit::Bytes)
        .labelled(&["topic"], 0);
pub(crate) static DIR_BYTES: Family =
    Family::gauge("milena_cluster_log_dir_size_bytes", "Bytes of the replicas in a directory of a broker.")
        .in_unit(Unit::Bytes)
        .labelled(&["broker", "directory"], 0);
pub(crate) static DIR_VOLUME: Family = Family::gauge(
    "milena_cluster_log_dir_volume_bytes",
    "How large the volume of a directory is; brokers before 3.3 do not tell.",
)
.in_unit(Unit::Bytes)
.labelled(&["broker", "directory"], 0);
pub(crate) static DIR_USABLE: Family = Family::gauge(
    "milena_cluster_log_dir_usable_bytes",
    "How much of the volume of a directory is free; brokers before 3.3 do not tell.",
)
.in_unit(Unit::Bytes)
.labelled(&["broker", "directory"], 0);
pub(crate) static DIR_ONLINE: Family =
    Family::gauge("milena_cluster_log_dir_online", "Whether the broker can use a directory.")
        .labelled(&["broker", "directory"], 0);

pub(super) fn write(facts: &Facts, names: Names, page: &mut Page) {
    page.gauge(&UP, &[], f64::from(u8::from(facts.is_up)));
    page.counter(&FAILED, &[], facts.failed_looks as f64);
    page.gauge(&LOOK_SECONDS, &[], facts.look_time.as_secs_f64());
    if facts.at_ms > 0 {
        page.gauge(&LOOKED_AT, &[], facts.at_ms as f64 / 1000.0);
    }
    page.gauge(&LEFT_OUT, &[], facts.left_out as f64);
    judged(facts, page);
    match names {
        Names::Milena => milena(facts, page),
        Names::KafkaExporter => kafka_exporter(facts, page),
        Names::Kminion => kminion(facts, page),
    }
}

/// What only this exporter has.
fn judged(facts: &Facts, page: &mut Page) {
    for (group, of) in &facts.groups {
        page.gauge(&GROUP_STATUS, &[group], f64::from(of.status().number()));
        for ((topic, partition), of) in &of.partitions {
            let partition = partition.to_string();
            let labels = &[group.as_str(), topic, &partition];
            let Some(report) = &of.report else { continue };
            page.gauge(&PARTITION_STATUS, labels, f64::from(report.status.number()));
            if let Some(lag) = report.time_lag {
                page.gauge(&LAG_SECONDS, labels, lag.time.as_secs_f64());
            }
            match report.catch_up {
                CatchUp::Done => page.gauge(&CATCH_UP, labels, 0.0),
                CatchUp::After(time) => page.gauge(&CATCH_UP, labels, time.as_secs_f64()),
                CatchUp::Never => page.gauge(&CATCH_UP, labels, f64::INFINITY),
                CatchUp::Unknown => {}
            }
        }
    }
}

fn milena(facts: &Facts, page: &mut Page) {
    page.gauge(&BROKERS, &[], facts.brokers.len() as f64);
    for of in &facts.log_dirs {
        let broker = of.broker.to_string();
        let labels = &[broker.as_str(), &of.path];
        page.gauge(&DIR_ONLINE, labels, f64::from(u8::from(of.is_online)));
        page.gauge(&DIR_BYTES, labels, of.replica_bytes as f64);
        for (family, bytes) in [(&DIR_VOLUME, of.total_bytes), (&DIR_USABLE, of.usable_bytes)] {
            if let Some(bytes) = bytes {
                page.gauge(family, labels, bytes as f64);
            }
        }
    }
    for (topic, bytes) in &facts.topic_bytes {
        page.gauge(&TOPIC_BYTES, &[topic], *bytes as f64);
    }
    for (topic, partitions) in &facts.topics {
        page.gauge(&PARTITIONS, &[topic], partitions.len() as f64);
        for of in partitions {
            let index = of.index.to_string();
            let labels = &[&**topic, &index];
            let mut offset = |family, offset: Option<i64>| {
                if let Some(offset) = offset {
                    page.gauge(family, labels, offset as f64);
                }
            };
            offset(&START, of.start);
            offset(&END, of.end);
            offset(&STABLE_END, of.stable_end);
            if let Some((held_back, since_ms)) = of.held_back().zip(of.held_since_ms) {
                page.gauge(&HELD_BACK, labels, held_back as f64);
                page.gauge(&HELD_SECONDS, labels, facts.at_ms.saturating_sub(since_ms) as f64 / 1000.0);
            }
            if let Some(bytes) = of.bytes {
                page.gauge(&PARTITION_BYTES, labels, bytes as f64);
            }
            page.gauge(&LEADER, labels, f64::from(of.leader.unwrap_or(-1)));
            page.gauge(&REPLICAS, labels, of.replicas.len() as f64);
            page.gauge(&IN_SYNC, labels, of.in_sync as f64);
        }
    }
    for (group, of) in &facts.groups {
        page.gauge(&MEMBERS, &[group], of.members as f64);
        page.gauge(&STATE, &[group, &of.state], 1.0);
        for ((topic, partition), of) in &of.partitions {
            let partition = partition.to_string();
            let labels = &[group.as_str(), topic, &partition];
            page.gauge(&COMMITTED, labels, of.committed as f64);
            if let Some((lag, unprocessed)) = of.report.and_then(|report| report.lag.zip(report.unprocessed))
            {
                page.gauge(&LAG, labels, lag as f64);
                page.gauge(&UNPROCESSED, labels, unprocessed as f64);
            }
        }
    }
}

fn kafka_exporter(facts: &Facts, page: &mut Page) {
    page.gauge(&KE_BROKERS, &[], facts.brokers.len() as f64);
    for (id, address) in &facts.brokers {
        // Its value is the id there.
        page.gauge(&KE_BROKER_INFO, &[&id.to_string(), address], f64::from(*id));
    }
    for (topic, partitions) in &facts.topics {
        page.gauge(&KE_PARTITIONS, &[topic], partitions.len() as f64);
        for of in partitions {
            let index = of.index.to_string();
            let labels = &[&**topic, &index];
            let mut offset = |family, offset: Option<i64>| {
                if let Some(offset) = offset {
                    page.gauge(family, labels, offset as f64);
                }
            };
            offset(&KE_START, of.start);
            offset(&KE_END, of.end);
            let is_preferred = of.leader.is_some() && of.replicas.first().copied() == of.leader;
            let is_under = of.in_sync < of.replicas.len();
            page.gauge(&KE_LEADER, labels, f64::from(of.leader.unwrap_or(-1)));
            page.gauge(&KE_PREFERRED, labels, f64::from(u8::from(is_preferred)));
            page.gauge(&KE_REPLICAS, labels, of.replicas.len() as f64);
            page.gauge(&KE_IN_SYNC, labels, of.in_sync as f64);
            page.gauge(&KE_UNDER, labels, f64::from(u8::from(is_under)));
        }
    }
    for (group, of) in &facts.groups {
        page.gauge(&KE_MEMBERS, &[group], of.members as f64);
        for ((topic, partition), of) in &of.partitions {
            let partition = partition.to_string();
            let labels = &[group.as_str(), topic, &partition];
            page.gauge(&KE_COMMITTED, labels, of.committed as f64);
            // It has -1 for a lag that is not known.
            let lag = of.report.and_then(|report| report.lag);
            page.gauge(&KE_LAG, labels, lag.map_or(-1.0, |lag| lag as f64));
        }
        for (topic, sums) in sums(of) {
            page.gauge(&KE_COMMITTED_SUM, &[group, topic], sums.committed as f64);
            page.gauge(&KE_LAG_SUM, &[group, topic], sums.lag as f64);
        }
    }
}

fn kminion(facts: &Facts, page: &mut Page) {
    for (id, address) in &facts.brokers {
        page.gauge(&KM_BROKER_INFO, &[&id.to_string(), address], 1.0);
        let of_broker = || facts.log_dirs.iter().filter(|of| of.broker == *id);
        if of_broker().next().is_some() {
            let bytes: u64 = of_broker().map(|of| of.replica_bytes).sum();
            page.gauge(&KM_BROKER_BYTES, &[&id.to_string(), address], bytes as f64);
        }
    }
    for (topic, bytes) in &facts.topic_bytes {
        page.gauge(&KM_TOPIC_BYTES, &[topic], *bytes as f64);
    }
    for (topic, partitions) in &facts.topics {
        let replicas = partitions.iter().map(|of| of.replicas.len()).max().unwrap_or(0);
        page.gauge(&KM_TOPIC_INFO, &[topic, &partitions.len().to_string(), &replicas.to_string()], 1.0);
        page.gauge(&KM_START_SUM, &[topic], partitions.iter().filter_map(|of| of.start).sum::<i64>() as f64);
        page.gauge(&KM_END_SUM, &[topic], partitions.iter().filter_map(|of| of.end).sum::<i64>() as f64);
        for of in partitions {
            let index = of.index.to_string();
            let labels = &[&**topic, &index];
            if let Some((start, end)) = of.start.zip(of.end) {
                page.gauge(&KM_START, labels, start as f64);
                page.gauge(&KM_END, labels, end as f64);
            }
        }
    }
    for (group, of) in &facts.groups {
        let is_stable = f64::from(u8::from(of.state == "Stable"));
        let coordinator = of.coordinator.to_string();
        let labels = [group, &of.assignor, &of.protocol_type, &of.state, coordinator.as_str()];
        page.gauge(&KM_GROUP_INFO, &labels, is_stable);
        page.gauge(&KM_MEMBERS, &[group], of.members as f64);
        for ((topic, partition), of) in &of.partitions {
            if let Some(lag) = of.report.and_then(|report| report.lag) {
                page.gauge(&KM_PARTITION_LAG, &[group, topic, &partition.to_string()], lag as f64);
            }
        }
        for (topic, sums) in sums(of) {
            page.gauge(&KM_OFFSET_SUM, &[group, topic], sums.committed as f64);
            page.gauge(&KM_LAG, &[group, topic], sums.lag as f64);
        }
    }
}

#[derive(Default)]
struct Sums {
    committed: i64,
    lag: u64,
}

fn sums(of: &super::facts::GroupFacts) -> BTreeMap<&str, Sums> {
    let mut by_topic: BTreeMap<&str, Sums> = BTreeMap::new();
    for ((topic, _), of) in &of.partitions {
        let sums = by_topic.entry(topic).or_default();
        sums.committed = sums.committed.saturating_add(of.committed);
        sums.lag = sums.lag.saturating_add(of.report.and_then(|report| report.lag).unwrap_or(0));
    }
    by_topic
}
