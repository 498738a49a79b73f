use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::*;

type Pair = (&'static str, &'static [u8]);

fn read(pairs: &[Pair]) -> Option<Letter<'static>> {
    Letter::read(pairs.iter().map(|(name, value)| Header::new(name, Some(*value))))
}

/// Where the letter came from, and why.
fn origin(letter: &Letter<'_>) -> String {
    let Letter {
        dialect,
        topic,
        partition,
        offset,
        timestamp_ms,
        reason,
        class,
        attempts,
        group,
        handler,
        ..
    } = letter;
    let number = |number: Option<i64>| number.map_or("-".into(), |number| number.to_string());
    let word = |text: &Option<Cow<'_, str>>| text.as_deref().unwrap_or("-").to_owned();
    format!(
        "{dialect} {}/{}@{} {} | {} | {} | {} | {} | {}",
        word(topic),
        number(partition.map(i64::from)),
        number(*offset),
        number(*timestamp_ms),
        word(class),
        word(reason),
        number(attempts.map(|attempts| attempts as i64)),
        word(group),
        word(handler),
    )
}

/// The names and encodings are those of each project's sources, which `dialect.rs` names.
#[test]
fn each_dialect_is_read() {
    let table: &[(&[Pair], &str)] = &[
        (
            &[
                ("trace", b"7f"),
                ("milena.dlq.topic", b"orders"),
                ("milena.dlq.partition", b"3"),
                ("milena.dlq.offset", b"42"),
                ("milena.dlq.timestamp", b"1700000000000"),
                ("milena.dlq.attempts", b"5"),
                ("milena.dlq.group", b"billing"),
                ("milena.dlq.handler", b"charge"),
                ("milena.dlq.class", b"poison"),
                ("milena.dlq.reason", b"no such customer"),
            ],
            "milena orders/3@42 1700000000000 | poison | no such customer | 5 | billing | charge",
        ),
        (
            // DeadLetterPublishingRecoverer.
            &[
                ("kafka_dlt-original-topic", b"orders"),
                ("kafka_dlt-original-partition", &[0, 0, 0, 3]),
                ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 42]),
                ("kafka_dlt-original-timestamp", &[0, 0, 1, 0x8b, 0xcf, 0xe5, 0x68, 0]),
                ("kafka_dlt-original-timestamp-type", b"CreateTime"),
                ("kafka_dlt-original-consumer-group", b"billing"),
                (
                    "kafka_dlt-exception-fqcn",
                    b"org.springframework.kafka.listener.ListenerExecutionFailedException",
                ),
                ("kafka_dlt-exception-cause-fqcn", b"java.lang.IllegalStateException"),
                ("kafka_dlt-exception-message", b"Listener failed"),
                ("kafka_dlt-exception-stacktrace", b"org.springframework...\n\tat a.B.c(B.java:1)"),
            ],
            "spring orders/3@42 1700000000000 | org.springframework.kafka.listener.ListenerExecutionFailedException \
             | Listener failed | - | billing | -",
        ),
        (
            // @RetryableTopic.
            &[
                ("kafka_original-topic", b"orders"),
                ("kafka_original-partition", &[0, 0, 0, 0]),
                ("kafka_original-offset", &[0, 0, 0, 1, 0, 0, 0, 0]),
                ("kafka_exception-fqcn", b"a.B"),
                ("kafka_exception-message", b"boom"),
                ("retry_topic-attempts", &[0, 0, 0, 3]),
                ("retry_topic-original-timestamp", &[1, 0x8b, 0xcf, 0xe5, 0x68, 0]),
                ("retry_topic-backoff-timestamp", &[1, 0x8b, 0xcf, 0xe5, 0x70, 0]),
            ],
            "spring orders/0@4294967296 1700000000000 | a.B | boom | 3 | - | -",
        ),
        (
            &[
                ("__connect.errors.topic", b"orders"),
                ("__connect.errors.partition", b"3"),
                ("__connect.errors.offset", b"42"),
                ("__connect.errors.connector.name", b"sink"),
                ("__connect.errors.task.id", b"0"),
                ("__connect.errors.stage", b"VALUE_CONVERTER"),
                ("__connect.errors.class.name", b"org.apache.kafka.connect.json.JsonConverter"),
                ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.DataException"),
                ("__connect.errors.exception.message", b"Converting byte[] to Kafka Connect data failed"),
                ("__connect.errors.exception.stacktrace", b"..."),
            ],
            "connect orders/3@42 - | org.apache.kafka.connect.errors.DataException \
             | Converting byte[] to Kafka Connect data failed | - | - | sink/0/VALUE_CONVERTER",
        ),
        (
            &[
                ("__streams.errors.exception", b"java.lang.IllegalStateException: boom: twice"),
                ("__streams.errors.message", b"boom: twice"),
                ("__streams.errors.stacktrace", b"..."),
                ("__streams.errors.topic", b"orders"),
                ("__streams.errors.partition", b"3"),
                ("__streams.errors.offset", b"42"),
            ],
            "streams orders/3@42 - | java.lang.IllegalStateException | boom: twice | - | - | -",
        ),
        (
            &[
                ("__dlq.errors.topic", b"orders"),
                ("__dlq.errors.partition", b"3"),
                ("__dlq.errors.offset", b"42"),
                ("__dlq.errors.group", b"billing"),
                ("__dlq.errors.delivery.count", b"5"),
                ("__dlq.errors.message", b"Offset rejected by client."),
            ],
            "share-group orders/3@42 - | - | Offset rejected by client. | 5 | billing | -",
        ),
        (
            &[
                ("dead-letter-exception-class-name", b"java.lang.RuntimeException"),
                ("dead-letter-reason", b"Something went wrong"),
                ("dead-letter-cause-class-name", b"java.io.IOException"),
                ("dead-letter-cause", b"no route"),
                ("dead-letter-topic", b"movies"),
                ("dead-letter-partition", b"0"),
                ("dead-letter-offset", b"7"),
                ("trace", b"7f"),
            ],
            "smallrye movies/0@7 - | java.lang.RuntimeException | Something went wrong | - | - | -",
        ),
        (
            &[
                ("delayed-retry-count", b"3"),
                ("delayed-retry-original-timestamp", b"1700000000000"),
                ("delayed-retry-topic", b"movies"),
                ("delayed-retry-partition", b"0"),
                ("delayed-retry-offset", b"7"),
                ("delayed-retry-reason", b"no"),
            ],
            "smallrye movies/0@7 1700000000000 | - | no | 3 | - | -",
        ),
        (
            &[
                ("source_topic", b"orders"),
                ("source_partition", b"3"),
                ("source_offset", b"42"),
                ("source_consumer_group", b"billing"),
                ("source_key", b"k"),
                ("source_attempts", b"2"),
            ],
            "karafka orders/3@42 - | - | - | 2 | billing | -",
        ),
        (
            &[
                ("_watermill_message_uuid", b"0190"),
                ("reason_poisoned", b"boom"),
                ("topic_poisoned", b"orders"),
                ("handler_poisoned", b"charge"),
                ("subscriber_poisoned", b"kafka.Subscriber"),
            ],
            "watermill orders/-@- - | - | boom | - | - | charge",
        ),
        (
            &[
                ("X-DLQ-Original-Topic", b"orders"),
                ("x-dlq-source-partition", b"3"),
                ("x-dlq-original-offset", b"42"),
                ("x-dlq-original-timestamp", b"1700000000000"),
                ("x-dlq-timestamp", b"1700000000999"),
                ("x-dlq-error-message", b"boom"),
                ("x-dlq-error-class", b"Unparseable"),
                ("x-dlq-retry-count", b"4"),
                ("x-dlq-source-app", b"charge"),
            ],
            "x-dlq orders/3@42 1700000000000 | Unparseable | boom | 4 | - | charge",
        ),
    ];
    for (headers, expect) in table {
        let letter = read(headers).unwrap_or_else(|| panic!("it is no letter: {expect}"));
        assert_eq!(origin(&letter), *expect);
        // What the dialect added can be told from what the record had.
        for (name, _) in *headers {
            let is_own = ["trace", "_watermill_message_uuid"].contains(name);
            assert_eq!(letter.dialect.owns(name.as_bytes()), !is_own, "{name}");
        }
    }
}

#[test]
fn a_record_without_such_headers_is_no_letter() {
    assert_eq!(read(&[]), None);
    assert_eq!(
        read(&[("trace", b"7f"), ("kafka_messageKey", b"k"), ("source_topic", b"a program's own")]),
        None
    );
    // A record that was replayed has left the dead letters.
    assert_eq!(read(&[("milena.dlq.replayed-from", b"orders.dlq/0/1"), ("milena.dlq.replays", b"1")]), None);
}

#[test]
fn the_last_writer_counts_unless_a_dialect_is_asked_for() {
    let pairs: &[Pair] = &[
        ("__connect.errors.topic", b"orders"),
        ("kafka_dlt-original-topic", b"orders.dlq"),
        ("kafka_dlt-exception-message", b"boom"),
    ];
    assert_eq!(read(pairs).unwrap().topic.as_deref(), Some("orders.dlq"));
    let headers = pairs.iter().map(|(name, value)| Header::new(name, Some(*value)));
    let connects = Letter::read_as(Dialect::Connect, headers).unwrap();
    assert_eq!((connects.topic.as_deref(), connects.reason), (Some("orders"), None));
}

#[test]
fn of_repeated_headers_the_first_origin_and_the_last_error_count() {
    // Spring appends the headers of each further failure (`appendOriginalHeaders`).
    let spring = read(&[
        ("kafka_dlt-original-topic", b"orders"),
        ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 1]),
        ("kafka_dlt-exception-message", b"first"),
        ("kafka_dlt-original-topic", b"orders-dlt"),
        ("kafka_dlt-original-offset", &[0, 0, 0, 0, 0, 0, 0, 2]),
        ("kafka_dlt-exception-message", b"second"),
    ])
    .unwrap();
    assert_eq!((spring.topic.as_deref(), spring.offset), (Some("orders"), Some(1)));
    assert_eq!(spring.reason.as_deref(), Some("second"));
    // SmallRye puts its headers before those of the record.
    let smallrye = read(&[
        ("dead-letter-topic", b"orders-dlt"),
        ("dead-letter-reason", b"second"),
        ("dead-letter-topic", b"orders"),
        ("dead-letter-reason", b"first"),
    ])
    .unwrap();
    assert_eq!((smallrye.topic.as_deref(), smallrye.reason.as_deref()), (Some("orders"), Some("second")));
}

#[test]
fn what_cannot_be_read_is_left_out() {
    let letter = read(&[
        ("__connect.errors.topic", b""),
        ("__connect.errors.partition", b"-1"),
        ("__connect.errors.offset", b"99999999999999999999"),
        ("__connect.errors.exception.message", b"caf\xe9"),
    ])
    .unwrap();
    assert_eq!((letter.topic, letter.partition, letter.offset), (None, None, None));
    assert_eq!(letter.reason.as_deref(), Some("caf\u{fffd}"));
    let null = Letter::read([Header::new("reason_poisoned", None)]).unwrap();
    assert_eq!(null.reason, None);
    let short =
        read(&[("kafka_dlt-original-offset", b""), ("kafka_dlt-original-partition", &[0; 9])]).unwrap();
    assert_eq!((short.offset, short.partition), (None, None));
}

#[test]
fn long_texts_are_cut_between_characters() {
    let value = "é".repeat(TEXT_BYTES_MAX).into_bytes();
    let value = &[b"x", &value[..]].concat();
    let letter = Letter::read([Header::new("reason_poisoned", Some(value))]).unwrap();
    let reason = letter.reason.unwrap();
    assert_eq!(reason.len(), TEXT_BYTES_MAX - 1);
    assert!(!reason.contains('\u{fffd}'));
}

#[test]
fn names_are_read_back() {
    for dialect in Dialect::ALL {
        assert_eq!(dialect.name().parse(), Ok(dialect));
    }
    assert!("kafka".parse::<Dialect>().unwrap_err().contains("share-group"));
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    const KNOWN: &[&str] = &[
        "milena.dlq.topic",
        "milena.dlq.cause",
        "kafka_dlt-original-partition",
        "kafka_exception-cause-fqcn",
        "__connect.errors.stage",
        "__streams.errors.exception",
        "dead-letter-offset",
        "source_topic",
        "source_partition",
        "source_offset",
        "reason_poisoned",
        "x-dlq-",
        "X-DLQ-Source-Topic",
        "retry_topic-attempts",
    ];
    prop_oneof![
        proptest::sample::select(KNOWN).prop_map(|name| name.as_bytes().to_vec()),
        vec(any::<u8>(), 0..20),
    ]
}

proptest! {
    #[test]
    fn no_headers_make_it_panic(
        headers in vec((name(), option::of(prop_oneof![vec(any::<u8>(), 0..40), vec(any::<u8>(), 16_000..16_500)])), 0..12)
    ) {
        let headers = || headers.iter().map(|(key, value)| Header { key, value: value.as_deref() });
        let letter = Letter::read(headers());
        for dialect in Dialect::ALL {
            let one = Letter::read_as(dialect, headers());
            if letter.as_ref().is_some_and(|letter| letter.dialect == dialect) {
                prop_assert_eq!(&letter, &one);
            }
            if let Some(one) = one {
                prop_assert!(one.causes.len() <= CAUSES_MAX);
                prop_assert!(one.reason.is_none_or(|reason| reason.len() <= 3 * TEXT_BYTES_MAX));
                prop_assert!(one.handler.is_none_or(|handler| handler.len() <= 5 * TEXT_BYTES_MAX));
            }
        }
    }
}
