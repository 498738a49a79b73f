//! Dead letters that Spring Kafka and Kafka Streams write with their own classes are read by `milena dlq`, and go back.

use milena_interop::embedded::Embedded;
use milena_interop::partner::{are_here, dead_letters};
use milena_interop::raw::Raw;

use super::programs::{milena, succeed};

const SPRING: &str = "  origin   orders/1@42
  error    org.springframework.kafka.listener.ListenerExecutionFailedException: Listener failed; no such customer
  cause    java.lang.IllegalStateException
";
const RECORD: &str = "  key      42
  value    created
  header   trace = 7f
";

#[test]
fn letters_of_springs_and_streams_own_classes_are_read_and_go_back() {
    if !are_here(&["java", "javac", "mvn"]) {
        return;
    }
    let broker = Embedded::start(1);
    let bootstrap = broker.bootstrap();
    let mut raw = Raw::connect(bootstrap).unwrap();
    for topic in ["orders", "spring-dlt", "spring-twice-dlt", "retryable-dlt", "streams-dlq"] {
        raw.create_topic(topic, 3).unwrap();
    }
    let mut letters = dead_letters().unwrap();
    letters.arg(bootstrap);
    succeed(letters);

    let show = |topic: &str, args: &[&str]| {
        let shown = milena(&[&["dlq", "show", topic, "-b", bootstrap], args].concat());
        // The first line has the time.
        shown.split_once('\n').map(|(_, rest)| rest.to_owned()).unwrap()
    };
    let spring = format!("{SPRING}  group    billing\n{RECORD}");
    assert_eq!(show("spring-dlt", &["-p", "0", "--error", "no such customer"]), spring);
    assert_eq!(
        show("retryable-dlt", &[]),
        format!("{SPRING}  tried    2 times\n  group    billing\n{RECORD}")
    );
    let twice = show("spring-twice-dlt", &[]);
    assert!(twice.contains("origin   orders/1@42\n"), "{twice}");
    assert!(twice.contains("Listener failed; the second failure\n"), "{twice}");
    let streams =
        format!("  origin   orders/1@42\n  error    java.lang.IllegalStateException: not JSON\n{RECORD}");
    assert_eq!(show("streams-dlq", &[]), streams);

    for topic in ["spring-dlt", "spring-twice-dlt", "retryable-dlt", "streams-dlq"] {
        milena(&["dlq", "replay", topic, "-b", bootstrap]);
    }
    let records = milena(&["consume", "orders", "-e", "-b", bootstrap, "-f", "%p %k %s %h\\n"]);
    let lines: Vec<_> = records.lines().collect();
    assert_eq!(lines.len(), 5, "{records}");
    for line in lines {
        // Nothing of their headers is left.
        let headers = line.strip_prefix("1 42 created ").unwrap_or_else(|| panic!("{line}"));
        let headers: Vec<_> = headers.split(',').filter(|header| *header != "trace=7f").collect();
        let [from, replays] = headers[..] else { panic!("{line}") };
        assert!(from.starts_with("milena.dlq.replayed-from=") && replays == "milena.dlq.replays=1", "{line}");
    }
}
