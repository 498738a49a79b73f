//! The families of the client: the one table that dashboards, alert rules and docs/metrics.md are made from.
//!
//! Histograms of phases count each batch once, so that the phases of one batch add up to its time.

use super::{Family, Joined, Unit};

/// Defines the families, and lists them.
macro_rules! families {
    ($($(#[$doc:meta])* $name:ident = $family:expr;)*) => {
        $($(#[$doc])* pub static $name: Family = $family;)*

        /// All families of the client, in the order of docs/metrics.md.
        pub static FAMILIES: &[&Family] = &[$(&$name),*];
    };
}

families! {
    /// Records that brokers have acknowledged.
    PRODUCER_RECORDS = Family::counter("milena_producer_records_total", "Records that brokers have acknowledged, or that were written without waiting for that (acks=0).")
        .labelled(&["topic"], 0)
        .like_java("producer-topic-metrics record-send-total, record-send-rate");
    /// Bytes of acknowledged batches.
    PRODUCER_BYTES = Family::counter("milena_producer_bytes_total", "Bytes of the batches that brokers have acknowledged, as they were sent: compressed, with their headers.")
        .in_unit(Unit::Bytes)
        .labelled(&["topic"], 0)
        .like_java("producer-topic-metrics byte-total, byte-rate");
    /// Bytes of the same batches before compression.
    PRODUCER_UNCOMPRESSED_BYTES = Family::counter("milena_producer_uncompressed_bytes_total", "Bytes of the same batches before compression. Divided into milena_producer_bytes_total this is the compression rate.")
        .in_unit(Unit::Bytes)
        .labelled(&["topic"], 0)
        .like_java("producer-topic-metrics compression-rate");
    /// Records that failed.
    PRODUCER_RECORD_ERRORS = Family::counter("milena_producer_record_errors_total", "Records that failed for good, by the error.")
        .labelled(&["error", "topic"], 1)
        .like_java("producer-topic-metrics record-error-total, record-error-rate");
    /// Batches that are sent again.
    PRODUCER_RETRIES = Family::counter("milena_producer_retries_total", "Batches that are sent again, by the error of the attempt before.")
        .labelled(&["error"], 1)
        .like_java("producer-metrics record-retry-total, record-retry-rate");
    /// Records per batch.
    PRODUCER_BATCH_RECORDS = Family::histogram("milena_producer_batch_records", "Records per acknowledged batch.")
        .like_java("producer-metrics records-per-request-avg");
    /// Bytes per batch.
    PRODUCER_BATCH_BYTES = Family::histogram("milena_producer_batch_bytes", "Bytes per acknowledged batch, as it was sent.")
        .in_unit(Unit::Bytes)
        .like_java("producer-metrics batch-size-avg, batch-size-max");
    /// Where a batch's time goes.
    PRODUCER_PHASE_SECONDS = Family::histogram("milena_producer_phase_seconds", "Where the time of a batch goes. room: a task waited for memory before its record could join a batch; turn: a task waited because batches come faster than they are compressed; batch: open, from its first record on; compress: compressed, and the wait for a thread that does it; slot: ready, while its partition or broker had no place for another request; throttle: open or ready, while the broker took none because of a quota; retry: attempts before the last one, with the backoff between them; wire: queued at the connection until the system had taken the request; network: the round trip of the connection, as the fastest answers of late show it; broker: the rest of the time until the first byte of the answer. Room and turn count waits, and wire, network and broker each attempt that was answered.")
        .in_unit(Unit::Seconds)
        .labelled(&["phase"], 1)
        .like_java("producer-metrics record-queue-time-avg (batch to slot), bufferpool-wait-ratio (room), request-latency-avg (wire, broker)");
    /// From the first record until the batch is settled.
    PRODUCER_DELIVERY_SECONDS = Family::histogram("milena_producer_delivery_seconds", "From the first record of a batch until the batch is acknowledged or has failed, retries included.")
        .in_unit(Unit::Seconds);
    /// Memory for producing in use.
    PRODUCER_BUFFER_BYTES = Family::gauge("milena_producer_buffer_bytes", "Memory for producing in use: records that are not settled.")
        .in_unit(Unit::Bytes)
        .like_java("producer-metrics buffer-total-bytes less buffer-available-bytes");
    /// Memory for producing.
    PRODUCER_BUFFER_LIMIT_BYTES = Family::gauge("milena_producer_buffer_limit_bytes", "Memory for producing that may be in use.")
        .in_unit(Unit::Bytes)
        .like_java("producer-metrics buffer-total-bytes");
    /// How long tasks waited for room.
    PRODUCER_BLOCKED_SECONDS = Family::counter("milena_producer_blocked_seconds_total", "How long tasks have waited for memory to produce, together, those that wait now included.")
        .in_unit(Unit::Seconds)
        .like_java("producer-metrics bufferpool-wait-time-ns-total");

    /// Records that the application was given.
    CONSUMER_RECORDS = Family::counter("milena_consumer_records_total", "Records in the batches that the application has taken. Records of aborted transactions are not among them.")
        .labelled(&["topic"], 0)
        .like_java("consumer-fetch-manager-metrics records-consumed-total, records-consumed-rate");
    /// Bytes of batches that the application was given.
    CONSUMER_BYTES = Family::counter("milena_consumer_bytes_total", "Bytes of the batches that the application has taken, as they were fetched: compressed.")
        .in_unit(Unit::Bytes)
        .labelled(&["topic"], 0)
        .like_java("consumer-fetch-manager-metrics bytes-consumed-total, bytes-consumed-rate");
    /// Records per batch.
    CONSUMER_BATCH_RECORDS = Family::histogram("milena_consumer_batch_records", "Records per batch that the application has taken.")
        .like_java("consumer-fetch-manager-metrics records-per-request-avg");
    /// Bytes per fetch.
    CONSUMER_FETCH_BYTES = Family::histogram("milena_consumer_fetch_bytes", "Bytes of batches per answer to a fetch, without empty answers.")
        .in_unit(Unit::Bytes)
        .like_java("consumer-fetch-manager-metrics fetch-size-avg, fetch-size-max");
    /// Where a batch's time goes.
    CONSUMER_PHASE_SECONDS = Family::histogram("milena_consumer_phase_seconds", "Where the time goes. Per fetch that has batches, throttle: it waited because the broker takes no request, by a quota; network: the round trip of the connection; broker: the rest of the time until the first byte of the answer, in which the broker may wait for records; transfer: from the first byte to the last one. Per batch, queued: until the application took it; decompress: checking and decompressing it; application: from when the application took it until it was dropped.")
        .in_unit(Unit::Seconds)
        .labelled(&["phase"], 1)
        .like_java("consumer-fetch-manager-metrics fetch-latency-avg, fetch-latency-max (broker, transfer); consumer-metrics time-between-poll-avg (application)");
    /// From the records' timestamps until the application took them.
    CONSUMER_END_TO_END_SECONDS = Family::histogram("milena_consumer_end_to_end_seconds", "From the timestamps of records until the application took them. The first and the last timestamp of a batch stand for half of its records each. Timestamps in the future count as now.")
        .in_unit(Unit::Seconds)
        .labelled(&["topic"], 0);
    /// Bytes that wait for the application.
    CONSUMER_BUFFERED_BYTES = Family::gauge("milena_consumer_buffered_bytes", "Bytes of fetched batches that the application has not taken.")
        .in_unit(Unit::Bytes);
    /// Bytes that the application holds.
    CONSUMER_IN_USE_BYTES = Family::gauge("milena_consumer_in_use_bytes", "Bytes of fetched batches that the application has taken and not dropped.")
        .in_unit(Unit::Bytes);
    /// Bytes that small pieces hold.
    CONSUMER_PINNED_BYTES = Family::gauge("milena_consumer_pinned_bytes", "Memory that is kept by batches which the application has held for more than 10 s. A batch that was not compressed keeps the whole answer in which it came.")
        .in_unit(Unit::Bytes);
    /// Memory for consuming in use.
    CONSUMER_MEMORY_BYTES = Family::gauge("milena_consumer_memory_bytes", "Memory for fetching in use: answers that are expected, answers of which a batch is buffered or held, and decompressed batches that are held.")
        .in_unit(Unit::Bytes);
    /// Memory for consuming.
    CONSUMER_MEMORY_LIMIT_BYTES = Family::gauge("milena_consumer_memory_limit_bytes", "Memory for fetching that may be in use.")
        .in_unit(Unit::Bytes);
    /// How often fetching has stopped.
    CONSUMER_FETCH_STOPS = Family::counter("milena_consumer_fetch_stops_total", "Times that fetching has stopped because the application takes less than comes: of one partition, or of all.")
        .labelled(&["scope"], 1);
    /// For how long.
    CONSUMER_FETCH_STOPPED_SECONDS = Family::counter("milena_consumer_fetch_stopped_seconds_total", "How long fetching has stopped because of that. Two partitions that have stopped for a second count as two seconds.")
        .in_unit(Unit::Seconds)
        .labelled(&["scope"], 1);
    /// Records left to read.
    CONSUMER_LAG_RECORDS = Family::gauge("milena_consumer_lag_records", "Records between the consumer's position and the high watermark, as the newest batch told it. Of batches that are fetched, records are counted, without the gaps of compaction and transactions; of those that are not, offsets.")
        .labelled(&["topic", "partition"], 0)
        .like_java("consumer-fetch-manager-metrics records-lag, records-lag-max");
    /// How old the next record to take is.
    CONSUMER_LAG_SECONDS = Family::gauge("milena_consumer_lag_seconds", "How old the next record is that the application has not taken, by its timestamp; 0 if there is none. If it is not fetched yet, the last record that was taken stands for it.")
        .in_unit(Unit::Seconds)
        .labelled(&["topic", "partition"], 0)
        .joined(Joined::Most);
    /// Partitions whose batches nobody takes.
    CONSUMER_STALLED_PARTITIONS = Family::gauge("milena_consumer_stalled_partitions", "Partitions with a fetched batch that the application has not taken for 60 s (stall_after), and that are not paused.");
    /// Times that a partition became stalled.
    CONSUMER_STALLS = Family::counter("milena_consumer_stalls_total", "Times that a partition became stalled.")
        .labelled(&["topic"], 0);
    /// Partitions assigned.
    CONSUMER_ASSIGNED_PARTITIONS = Family::gauge("milena_consumer_assigned_partitions", "Partitions that consumers are assigned.")
        .like_java("consumer-coordinator-metrics assigned-partitions");
    /// Time of commits.
    CONSUMER_COMMIT_SECONDS = Family::histogram("milena_consumer_commit_seconds", "From sending a commit of offsets until its answer.")
        .in_unit(Unit::Seconds)
        .like_java("consumer-coordinator-metrics commit-latency-avg, commit-latency-max, commit-total");
    /// Failed commits.
    CONSUMER_COMMIT_ERRORS = Family::counter("milena_consumer_commit_errors_total", "Attempts to commit that failed, by the error.")
        .labelled(&["error"], 1)
        .like_java("consumer-coordinator-metrics failed-commit-total");
    /// Rebalances.
    CONSUMER_REBALANCES = Family::counter("milena_consumer_rebalances_total", "Rebalances, by what began them: join (the member was not in the group), revoke (the coordinator took partitions back), assign (it took none back), lost (the membership was lost).")
        .labelled(&["reason"], 1)
        .like_java("consumer-coordinator-metrics rebalance-total, failed-rebalance-total");
    /// Where the time of a rebalance goes.
    CONSUMER_REBALANCE_SECONDS = Family::histogram("milena_consumer_rebalance_seconds", "Where the time of a rebalance goes. revoke: the application gives partitions up, and their last commit; join: until all members have joined; sync: until the assignment is there (both in the classic protocol); start: from the assignment until the partitions are read, with the application's hook and the look-up of what is committed; total: from what began it to the assignment.")
        .in_unit(Unit::Seconds)
        .labelled(&["phase"], 1)
        .like_java("consumer-coordinator-metrics rebalance-latency-avg, partition-revoked-latency-avg, join-time-avg, sync-time-avg");

    /// Time of requests.
    REQUEST_SECONDS = Family::histogram("milena_request_seconds", "From giving a request to its connection until its answer was read, by API.")
        .in_unit(Unit::Seconds)
        .labelled(&["api"], 1)
        .like_java("producer-metrics request-latency-avg, request-latency-max (Produce); consumer-fetch-manager-metrics fetch-latency-avg, fetch-latency-max (Fetch)");
    /// Time of requests by broker.
    NODE_REQUEST_SECONDS = Family::histogram("milena_node_request_seconds", "The same of all APIs, by the id of the broker.")
        .in_unit(Unit::Seconds)
        .labelled(&["node"], 0)
        .like_java("request-latency-avg, request-latency-max of producer-node-metrics and consumer-node-metrics");
    /// Requests without an answer.
    REQUEST_ERRORS = Family::counter("milena_request_errors_total", "Requests on connections that have ended without their answer, by API and error.")
        .labelled(&["api", "error"], 2);
    /// Throttle.
    THROTTLE_SECONDS = Family::histogram("milena_throttle_seconds", "For how long brokers ordered to wait, for each answer that did, by API.")
        .in_unit(Unit::Seconds)
        .labelled(&["api"], 1)
        .like_java("producer-metrics produce-throttle-time-avg, consumer-fetch-manager-metrics fetch-throttle-time-avg");
    /// Open connections.
    CONNECTIONS = Family::gauge("milena_connections", "Open connections.")
        .like_java("connection-count");
    /// Connections opened.
    CONNECTIONS_OPENED = Family::counter("milena_connections_opened_total", "Connections that were opened and authenticated.")
        .like_java("connection-creation-total");
    /// Connections closed.
    CONNECTIONS_CLOSED = Family::counter("milena_connections_closed_total", "Connections that have ended after that: released (not needed any more), idle, broken.")
        .labelled(&["reason"], 1)
        .like_java("connection-close-total");
    /// Attempts to connect that failed.
    CONNECTION_FAILURES = Family::counter("milena_connection_failures_total", "Attempts to connect that failed, by error, those included for which there were no credentials.")
        .labelled(&["error"], 1)
        .like_java("failed-authentication-total");
    /// Time of connecting.
    CONNECT_SECONDS = Family::histogram("milena_connect_seconds", "From the begin of an attempt to connect until the connection could be used: name, TCP, TLS, versions, authentication.")
        .in_unit(Unit::Seconds);
    /// Re-authentications.
    REAUTHENTICATIONS = Family::counter("milena_reauthentications_total", "Connections that authenticated again before their session ended.")
        .like_java("successful-reauthentication-total");
    /// Bytes sent.
    SENT_BYTES = Family::counter("milena_sent_bytes_total", "Bytes of requests that were written to connections.")
        .in_unit(Unit::Bytes)
        .like_java("outgoing-byte-total");
    /// Bytes received.
    RECEIVED_BYTES = Family::counter("milena_received_bytes_total", "Bytes of answers that were read from connections.")
        .in_unit(Unit::Bytes)
        .like_java("incoming-byte-total");
    /// When certificates expire.
    CERTIFICATE_EXPIRY = Family::gauge("milena_certificate_expiry_timestamp_seconds", "When the certificate that expires first does, in seconds since 1970: the client's own, as its file is now, or that of a broker, as it was shown on a connection that is open.")
        .in_unit(Unit::Seconds)
        .labelled(&["of"], 1)
        .joined(Joined::Least);
    /// Memory in pools.
    POOL_BYTES = Family::gauge("milena_pool_bytes", "Memory of buffers, by pool (batches: answers and batches to send; decompressed) and state (in_use, or kept for the next time).")
        .in_unit(Unit::Bytes)
        .labelled(&["pool", "state"], 2);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Kind;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        for family in FAMILIES {
            let name = family.name;
            let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
            assert!(name.starts_with("milena_") && name.chars().all(is_plain), "{name}");
            assert_eq!(family.kind == Kind::Counter, name.ends_with("_total"), "{name}");
            let base = name.trim_end_matches("_total");
            assert!(base.ends_with(family.unit.name()), "{name} is in {}", family.unit.name());
            assert!(family.help.ends_with('.') && !family.help.contains('\n'), "{name}: {}", family.help);
            assert!(family.labels.iter().all(|label| label.chars().all(is_plain)), "{name}");
        }
    }

    #[test]
    fn a_name_stands_once() {
        let mut names: Vec<_> = FAMILIES.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
    }
}
