//! One letter of each dialect, with the names and encodings of its writer's sources.

use super::harness::Cluster;
use super::{EPOCH_MS, connect, write};

pub(crate) struct Sample {
    pub(crate) topic: &'static str,
    pub(crate) headers: &'static [(&'static str, &'static [u8])],
}

pub(crate) const SAMPLES: &[Sample] = &[
    Sample {
        topic: "milena.dlq",
        headers: &[
            ("trace", b"7f"),
            ("milena.dlq.topic", b"orders"),
            ("milena.dlq.partition", b"1"),
            ("milena.dlq.offset", b"42"),
            ("milena.dlq.timestamp", b"1600000000000"),
            ("milena.dlq.attempts", b"5"),
            ("milena.dlq.letters", b"2"),
            ("milena.dlq.first", b"1600000001000"),
            ("milena.dlq.last", b"1600000009000"),
            ("milena.dlq.group", b"billing"),
            ("milena.dlq.handler", b"charge"),
            ("milena.dlq.class", b"retriable"),
            ("milena.dlq.reason", b"charging failed"),
            ("milena.dlq.cause", b"no route to 10.0.0.7"),
        ],
    },
    Sample {
        topic: "spring-dlt",
        headers: &[
            ("trace", b"7f"),
            ("kafka_dlt-original-topic", b"orders"),
            ("kafka_dlt-original-partition", &[0, 0, 0, 1]),
            ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
            ("kafka_dlt-original-timestamp", &[0, 0, 1, 0x74, 0x87, 0x6e, 0x80, 0]),
            ("kafka_dlt-original-timestamp-type", b"CreateTime"),
            ("kafka_dlt-original-consumer-group", b"billing"),
            (
                "kafka_dlt-exception-fqcn",
                b"org.springframework.kafka.listener.ListenerExecutionFailedException",
            ),
            ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_dlt-exception-message", b"Listener failed; no such customer 42"),
            ("kafka_dlt-exception-stacktrace", b"org.springframework.kafka...\n\tat a.B.c(B.java:1)\n"),
        ],
    },
    Sample {
        topic: "retryable-dlt",
        headers: &[
            ("kafka_original-topic", b"orders"),
            ("kafka_original-partition", &[0, 0, 0, 1]),
            ("kafka_original-offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
            ("kafka_exception-fqcn", b"java.lang.IllegalStateException"),
            ("kafka_exception-message", b"no such customer 43"),
            ("retry_topic-attempts", &[0, 0, 0, 3]),
            ("retry_topic-original-timestamp", &[1, 0x74, 0x87, 0x6e, 0x80, 0]),
        ],
    },
    Sample {
        topic: "connect.dlq",
        headers: &[
            ("trace", b"7f"),
            ("__connect.errors.topic", b"orders"),
            ("__connect.errors.partition", b"1"),
            ("__connect.errors.offset", b"42"),
            ("__connect.errors.connector.name", b"sink"),
            ("__connect.errors.task.id", b"0"),
            ("__connect.errors.stage", b"VALUE_CONVERTER"),
            ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
            ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
            ("__connect.errors.exception.message", b"Converting byte[] to Kafka Connect data failed"),
            ("__connect.errors.exception.stacktrace", b"..."),
        ],
    },
    Sample {
        topic: "streams-dlq",
        headers: &[
            ("__streams.errors.exception", b"java.lang.IllegalStateException: boom"),
            ("__streams.errors.message", b"boom"),
            ("__streams.errors.stacktrace", b"..."),
            ("__streams.errors.topic", b"orders"),
            ("__streams.errors.partition", b"1"),
            ("__streams.errors.offset", b"42"),
        ],
    },
    Sample {
        topic: "dlq.billing",
        headers: &[
            ("__dlq.errors.topic", b"orders"),
            ("__dlq.errors.partition", b"1"),
            ("__dlq.errors.offset", b"42"),
            ("__dlq.errors.group", b"billing"),
            ("__dlq.errors.delivery.count", b"5"),
            ("__dlq.errors.message", b"Offset rejected by client."),
        ],
    },
    Sample {
        topic: "dead-letter-topic-orders",
        headers: &[
            ("dead-letter-exception-class-name", b"java.lang.RuntimeException"),
            ("dead-letter-reason", b"Something went wrong"),
            ("dead-letter-cause-class-name", b"java.io.IOException"),
            ("dead-letter-cause", b"no route"),
            ("dead-letter-topic", b"orders"),
            ("dead-letter-partition", b"1"),
            ("dead-letter-offset", b"42"),
            ("trace", b"7f"),
        ],
    },
    Sample {
        topic: "karafka-dlq",
        headers: &[
            ("trace", b"7f"),
            ("source_topic", b"orders"),
            ("source_partition", b"1"),
            ("source_offset", b"42"),
            ("source_consumer_group", b"billing"),
            ("source_key", b"the customer"),
            ("source_attempts", b"2"),
            ("source_trace_id", b"0190"),
        ],
    },
    Sample {
        topic: "poison",
        headers: &[
            ("_watermill_message_uuid", b"0190"),
            ("reason_poisoned", b"boom"),
            ("topic_poisoned", b"orders"),
            ("handler_poisoned", b"charge"),
            ("subscriber_poisoned", b"kafka.Subscriber"),
        ],
    },
    Sample {
        // A topic whose name does not say what it has.
        topic: "quarantine",
        headers: &[
            ("x-dlq-original-topic", b"orders"),
            ("x-dlq-original-partition", b"1"),
            ("x-dlq-original-offset", b"42"),
            ("x-dlq-error-message", b"boom\x1b[2J"),
            ("x-dlq-error-class", b"Unparseable"),
            ("x-dlq-retry-count", b"4"),
        ],
    },
];

/// A cluster with one letter in each topic, and topics without letters.
pub(crate) async fn cluster() -> Cluster {
    let mut args =
        vec!["--topic".to_owned(), "orders:3".to_owned(), "--topic".to_owned(), "empty.dlq:1".to_owned()];
    for sample in SAMPLES {
        args.extend(["--topic".to_owned(), format!("{}:1", sample.topic)]);
    }
    let args: Vec<_> = args.iter().map(String::as_str).collect();
    let cluster = Cluster::start(&args);
    let client = connect(&cluster).await;
    write(&client, "orders", 0, ("k", "v"), &[("trace", b"7f")], EPOCH_MS).await;
    for (index, sample) in SAMPLES.iter().enumerate() {
        let at = EPOCH_MS + 1000 * i64::try_from(index).expect("few");
        write(&client, sample.topic, 0, ("42", r#"{"id": 42, "amount": 1.50}"#), sample.headers, at).await;
    }
    cluster
}
