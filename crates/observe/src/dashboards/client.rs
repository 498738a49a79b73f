//! The boards of a client: all of it, producing, consuming.

use milena::metrics::families::{
    CERTIFICATE_EXPIRY, CONNECT_SECONDS, CONNECTION_FAILURES, CONNECTIONS, CONNECTIONS_CLOSED,
    CONNECTIONS_OPENED, CONSUMER_ASSIGNED_PARTITIONS, CONSUMER_BATCH_RECORDS, CONSUMER_BUFFERED_BYTES,
    CONSUMER_BYTES, CONSUMER_COMMIT_ERRORS, CONSUMER_COMMIT_SECONDS, CONSUMER_END_TO_END_SECONDS,
    CONSUMER_FETCH_BYTES, CONSUMER_FETCH_STOPPED_SECONDS, CONSUMER_FETCH_STOPS, CONSUMER_IN_USE_BYTES,
    CONSUMER_LAG_RECORDS, CONSUMER_LAG_SECONDS, CONSUMER_MEMORY_BYTES, CONSUMER_MEMORY_LIMIT_BYTES,
    CONSUMER_PHASE_SECONDS, CONSUMER_PINNED_BYTES, CONSUMER_REBALANCE_SECONDS, CONSUMER_REBALANCES,
    CONSUMER_RECORDS, CONSUMER_STALLED_PARTITIONS, CONSUMER_STALLS, NODE_REQUEST_SECONDS, POOL_BYTES,
    PRODUCER_BATCH_BYTES, PRODUCER_BATCH_RECORDS, PRODUCER_BLOCKED_SECONDS, PRODUCER_BUFFER_BYTES,
    PRODUCER_BUFFER_LIMIT_BYTES, PRODUCER_BYTES, PRODUCER_DELIVERY_SECONDS, PRODUCER_PHASE_SECONDS,
    PRODUCER_RECORD_ERRORS, PRODUCER_RECORDS, PRODUCER_RETRIES, PRODUCER_UNCOMPRESSED_BYTES,
    REAUTHENTICATIONS, RECEIVED_BYTES, REQUEST_ERRORS, REQUEST_SECONDS, SENT_BYTES, THROTTLE_SECONDS,
};

use super::board::{Board, Panel, Row, Shown};
use super::expr::Scope;

const ALL: Scope = Scope::BOARD;

/// The boards whose series a client has.
pub(super) fn boards() -> Vec<Board> {
    vec![overview(), producer(), consumer()]
}

fn overview() -> Board {
    Board {
        uid: "milena-client",
        title: "Milena: client",
        description: "Whether a client is well: what passes through it, what fails, and what it waits for.",
        rows: vec![
            Row {
                title: "What passes through it?",
                panels: vec![
                    Panel::lines(
                        "Records",
                        Shown::PerSecond,
                        ALL.rate(&PRODUCER_RECORDS, &["job"]),
                        "{{job}} written",
                    )
                    .and(ALL.rate(&CONSUMER_RECORDS, &["job"]), "{{job}} read"),
                    Panel::lines(
                        "Bytes of all requests and answers",
                        Shown::BytesPerSecond,
                        ALL.rate(&SENT_BYTES, &["job"]),
                        "{{job}} sent",
                    )
                    .and(ALL.rate(&RECEIVED_BYTES, &["job"]), "{{job}} received"),
                ],
            },
            Row {
                title: "What fails?",
                panels: vec![
                    Panel::lines(
                        "Records that were not written",
                        Shown::PerSecond,
                        ALL.rate(&PRODUCER_RECORD_ERRORS, &["error"]),
                        "{{error}}",
                    )
                    .help("Each of them was reported to the application as failed."),
                    Panel::lines(
                        "Commits that failed",
                        Shown::PerSecond,
                        ALL.rate(&CONSUMER_COMMIT_ERRORS, &["error"]),
                        "{{error}}",
                    ),
                    Panel::lines(
                        "Requests without an answer",
                        Shown::PerSecond,
                        ALL.rate(&REQUEST_ERRORS, &["api", "error"]),
                        "{{api}} {{error}}",
                    ),
                ],
            },
            Row {
                title: "How fast do brokers answer?",
                panels: vec![
                    Panel::lines(
                        "Requests",
                        Shown::PerSecond,
                        ALL.rate(&REQUEST_SECONDS, &["api"]),
                        "{{api}}",
                    ),
                    Panel::lines(
                        "Time of a request, 99th percentile",
                        Shown::Seconds,
                        ALL.quantile(0.99, &REQUEST_SECONDS, &["api"]),
                        "{{api}}",
                    )
                    .help("A fetch waits at the broker until there are records: up to fetch.max.wait.ms is no fault."),
                    Panel::lines(
                        "Time of a request by broker, 99th percentile",
                        Shown::Seconds,
                        ALL.quantile(0.99, &NODE_REQUEST_SECONDS, &["node"]),
                        "broker {{node}}",
                    )
                    .help("Fetches are among them. Look for one broker that is slower than all other ones."),
                    Panel::lines(
                        "Ordered to wait",
                        Shown::Share,
                        ALL.rate_of_sum(&THROTTLE_SECONDS, &["api"]),
                        "{{api}}",
                    )
                    .help("The share of the time for which quotas hold the client up, by API."),
                ],
            },
            Row {
                title: "Are its connections well?",
                panels: vec![
                    Panel::lines("Open connections", Shown::Count, ALL.sum(&CONNECTIONS, &["job"]), "{{job}}"),
                    Panel::lines(
                        "Opened, closed, failed",
                        Shown::PerSecond,
                        ALL.rate(&CONNECTIONS_OPENED, &[]),
                        "opened",
                    )
                    .and(ALL.rate(&CONNECTIONS_CLOSED, &["reason"]), "closed: {{reason}}")
                    .and(ALL.rate(&CONNECTION_FAILURES, &["error"]), "failed: {{error}}")
                    .and(ALL.rate(&REAUTHENTICATIONS, &[]), "authenticated again"),
                    Panel::lines(
                        "Time to connect, 99th percentile",
                        Shown::Seconds,
                        ALL.quantile(0.99, &CONNECT_SECONDS, &["job"]),
                        "{{job}}",
                    ),
                    Panel::number(
                        "Until a certificate expires",
                        Shown::Seconds,
                        format!("{} - time()", ALL.least(&CERTIFICATE_EXPIRY, &["of"])),
                    ),
                ],
            },
            Row {
                title: "Where is its memory?",
                panels: vec![
                    Panel::stacked(
                        "Held",
                        Shown::Bytes,
                        ALL.sum(&PRODUCER_BUFFER_BYTES, &[]),
                        "to be written",
                    )
                    .and(ALL.sum(&CONSUMER_BUFFERED_BYTES, &[]), "fetched, not taken")
                    .and(ALL.sum(&CONSUMER_IN_USE_BYTES, &[]), "in the application")
                    .and(ALL.sum(&CONSUMER_PINNED_BYTES, &[]), "held for more than 10 s"),
                    Panel::lines(
                        "Share of the limit",
                        Shown::Share,
                        share_of(&PRODUCER_BUFFER_BYTES, &PRODUCER_BUFFER_LIMIT_BYTES),
                        "producing",
                    )
                    .and(consumer_memory(ALL), "consuming"),
                    Panel::stacked(
                        "Buffers of pools",
                        Shown::Bytes,
                        ALL.sum(&POOL_BYTES, &["pool", "state"]),
                        "{{pool}} {{state}}",
                    ),
                ],
            },
        ],
    }
}

fn share_of(part: &milena::metrics::Family, whole: &milena::metrics::Family) -> String {
    format!("{} / {}", ALL.sum(part, &[]), ALL.sum(whole, &[]))
}

/// The share of the memory for consuming that is in use.
pub(super) fn consumer_memory(scope: Scope) -> String {
    let by = ["job", "instance"];
    format!("{} / {}", scope.sum(&CONSUMER_MEMORY_BYTES, &by), scope.sum(&CONSUMER_MEMORY_LIMIT_BYTES, &by))
}

fn producer() -> Board {
    let phases = |q| ALL.quantile(q, &PRODUCER_PHASE_SECONDS, &["phase"]);
    Board {
        uid: "milena-producer",
        title: "Milena: producer",
        description: "What is written, and which phase of writing takes the time.",
        rows: vec![
            Row {
                title: "What is written?",
                panels: vec![
                    Panel::lines(
                        "Records acknowledged",
                        Shown::PerSecond,
                        ALL.rate(&PRODUCER_RECORDS, &["topic"]),
                        "{{topic}}",
                    ),
                    Panel::lines(
                        "Bytes acknowledged",
                        Shown::BytesPerSecond,
                        ALL.rate(&PRODUCER_BYTES, &["topic"]),
                        "{{topic}}",
                    ),
                    Panel::lines(
                        "Compression",
                        Shown::Factor,
                        format!(
                            "{} / {}",
                            ALL.rate(&PRODUCER_UNCOMPRESSED_BYTES, &["topic"]),
                            ALL.rate(&PRODUCER_BYTES, &["topic"])
                        ),
                        "{{topic}}",
                    )
                    .help("Bytes before compression for each byte that is sent."),
                ],
            },
            Row {
                title: "Which phase is slow?",
                panels: vec![
                    Panel::stacked(
                        "Mean time of a batch, by phase",
                        Shown::Seconds,
                        ALL.mean(&PRODUCER_PHASE_SECONDS, &["phase"]),
                        "{{phase}}",
                    )
                    .help(
                        "room: waiting for memory. turn: waiting for the compressors. batch: open, at most linger.ms unless it fills. compress: compressing. slot: \
                         waiting for a request in flight to be answered. wire: until the kernel has taken it. broker: until the \
                         first byte of the answer.",
                    ),
                    Panel::lines("99th percentile, by phase", Shown::Seconds, phases(0.99), "{{phase}}"),
                    Panel::lines(
                        "From record to acknowledgement",
                        Shown::Seconds,
                        ALL.quantile(0.5, &PRODUCER_DELIVERY_SECONDS, &[]),
                        "half",
                    )
                    .and(ALL.quantile(0.99, &PRODUCER_DELIVERY_SECONDS, &[]), "99 %")
                    .and(ALL.quantile(0.999, &PRODUCER_DELIVERY_SECONDS, &[]), "99.9 %"),
                ],
            },
            Row {
                title: "Are batches full?",
                panels: vec![
                    Panel::lines(
                        "Records per batch",
                        Shown::Count,
                        ALL.mean(&PRODUCER_BATCH_RECORDS, &["job"]),
                        "{{job}} mean",
                    )
                    .and(ALL.quantile(0.99, &PRODUCER_BATCH_RECORDS, &["job"]), "{{job}} 99 %"),
                    Panel::lines(
                        "Bytes per batch",
                        Shown::Bytes,
                        ALL.mean(&PRODUCER_BATCH_BYTES, &["job"]),
                        "{{job}} mean",
                    )
                    .and(ALL.quantile(0.99, &PRODUCER_BATCH_BYTES, &["job"]), "{{job}} 99 %"),
                    Panel::lines(
                        "Tasks that wait for room",
                        Shown::Count,
                        ALL.rate(&PRODUCER_BLOCKED_SECONDS, &["job"]),
                        "{{job}}",
                    )
                    .help("On average: 1 means that one task waits for memory all the time."),
                ],
            },
            Row {
                title: "What fails?",
                panels: vec![
                    Panel::lines(
                        "Batches sent again",
                        Shown::PerSecond,
                        ALL.rate(&PRODUCER_RETRIES, &["error"]),
                        "{{error}}",
                    ),
                    Panel::lines(
                        "Records that were not written",
                        Shown::PerSecond,
                        ALL.rate(&PRODUCER_RECORD_ERRORS, &["error", "topic"]),
                        "{{topic}}: {{error}}",
                    ),
                ],
            },
        ],
    }
}

fn consumer() -> Board {
    Board {
        uid: "milena-consumer",
        title: "Milena: consumer group",
        description: "Whether consumers keep up, which phase of reading takes the time, and how the group behaves.",
        rows: vec![
            Row {
                title: "Does it keep up?",
                panels: vec![
                    Panel::lines(
                        "Behind, in time",
                        Shown::Seconds,
                        ALL.most(&CONSUMER_LAG_SECONDS, &["topic"]),
                        "{{topic}}",
                    )
                    .help("The age of the newest record that was taken of the partition that is furthest behind."),
                    Panel::lines(
                        "Behind, in records",
                        Shown::Count,
                        ALL.sum(&CONSUMER_LAG_RECORDS, &["topic"]),
                        "{{topic}}",
                    ),
                    Panel::lines(
                        "Partitions furthest behind",
                        Shown::Count,
                        format!("topk(10, {})", ALL.most(&CONSUMER_LAG_RECORDS, &["topic", "partition"])),
                        "{{topic}}-{{partition}}",
                    ),
                ],
            },
            Row {
                title: "What is read?",
                panels: vec![
                    Panel::lines(
                        "Records",
                        Shown::PerSecond,
                        ALL.rate(&CONSUMER_RECORDS, &["topic"]),
                        "{{topic}}",
                    ),
                    Panel::lines(
                        "Bytes",
                        Shown::BytesPerSecond,
                        ALL.rate(&CONSUMER_BYTES, &["topic"]),
                        "{{topic}}",
                    ),
                    Panel::lines(
                        "From timestamp to application",
                        Shown::Seconds,
                        ALL.quantile(0.5, &CONSUMER_END_TO_END_SECONDS, &["topic"]),
                        "{{topic}} half",
                    )
                    .and(ALL.quantile(0.99, &CONSUMER_END_TO_END_SECONDS, &["topic"]), "{{topic}} 99 %"),
                ],
            },
            Row {
                title: "Which phase is slow?",
                panels: vec![
                    Panel::stacked(
                        "Mean time, by phase",
                        Shown::Seconds,
                        ALL.mean(&CONSUMER_PHASE_SECONDS, &["phase"]),
                        "{{phase}}",
                    )
                    .help(
                        "Of a fetch, throttle: held up by a quota; network: the round trip; broker: until the first byte, which is long when \
                         there is nothing to read; transfer: until the last. Of a batch, queued: until the application takes it; \
                         decompress: decompressing; application: until it is dropped.",
                    ),
                    Panel::lines(
                        "99th percentile, by phase",
                        Shown::Seconds,
                        ALL.quantile(0.99, &CONSUMER_PHASE_SECONDS, &["phase"]),
                        "{{phase}}",
                    ),
                    Panel::lines(
                        "Stalled partitions",
                        Shown::Count,
                        ALL.sum(&CONSUMER_STALLED_PARTITIONS, &["job"]),
                        "{{job}}",
                    )
                    .and(ALL.increase(&CONSUMER_STALLS, &["topic"]), "{{topic}} became stalled")
                    .help("Partitions that have records which nobody takes."),
                ],
            },
            Row {
                title: "How do batches look?",
                panels: vec![
                    Panel::lines(
                        "Fetching stopped",
                        Shown::Count,
                        ALL.rate(&CONSUMER_FETCH_STOPPED_SECONDS, &["scope"]),
                        "{{scope}} at a time",
                    )
                    .and(ALL.rate(&CONSUMER_FETCH_STOPS, &["scope"]), "{{scope}} stops a second")
                    .help("Fetching stops while the application takes less than comes. That bounds memory and is no fault."),
                    Panel::lines(
                        "Records per batch",
                        Shown::Count,
                        ALL.mean(&CONSUMER_BATCH_RECORDS, &["job"]),
                        "{{job}}",
                    ),
                    Panel::lines(
                        "Bytes per fetch",
                        Shown::Bytes,
                        ALL.mean(&CONSUMER_FETCH_BYTES, &["job"]),
                        "{{job}} mean",
                    )
                    .and(ALL.quantile(0.99, &CONSUMER_FETCH_BYTES, &["job"]), "{{job}} 99 %"),
                ],
            },
            Row {
                title: "Is the group calm?",
                panels: vec![
                    Panel::lines(
                        "Assigned partitions",
                        Shown::Count,
                        ALL.sum(&CONSUMER_ASSIGNED_PARTITIONS, &["instance"]),
                        "{{instance}}",
                    ),
                    Panel::lines(
                        "Rebalances",
                        Shown::Count,
                        ALL.increase(&CONSUMER_REBALANCES, &["reason"]),
                        "{{reason}}",
                    ),
                    Panel::lines(
                        "Time of a rebalance, by phase",
                        Shown::Seconds,
                        ALL.mean(&CONSUMER_REBALANCE_SECONDS, &["phase"]),
                        "{{phase}}",
                    ),
                    Panel::lines(
                        "Time of a commit",
                        Shown::Seconds,
                        ALL.quantile(0.99, &CONSUMER_COMMIT_SECONDS, &["job"]),
                        "{{job}} 99 %",
                    ),
                ],
            },
        ],
    }
}
