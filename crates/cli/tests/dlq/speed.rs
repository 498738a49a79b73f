//! How fast letters are replayed. It asserts no time: `cargo test --release -p milena-cli --test dlq -- --ignored --nocapture speed`.

use std::time::Instant;

use milena::{Header, Record};

use super::harness::Cluster;
use super::{block_on, connect, text};

const COUNT: u32 = 300_000;

#[test]
#[ignore = "a measurement"]
fn speed_of_a_replay() {
    block_on(async {
        let cluster = Cluster::start(&["--topic", "orders.dlq:6", "--topic", "orders:6"]);
        let client = connect(&cluster).await;
        let producer = client.producer().build().await.expect("built");
        let value = [b'x'; 100];
        for n in 0..COUNT {
            let (key, partition) = (n.to_string(), (n % 6).to_string());
            let headers = [
                ("milena.dlq.topic", "orders"),
                ("milena.dlq.partition", &partition),
                ("milena.dlq.offset", &key),
                ("milena.dlq.attempts", "5"),
                ("milena.dlq.group", "billing"),
                ("milena.dlq.class", "retriable"),
                ("milena.dlq.reason", "charging failed: no route to host"),
            ];
            let headers = headers.map(|(name, value)| Header::new(name, Some(value.as_bytes())));
            let partition = i32::try_from(n % 6).expect("small");
            let record =
                Record::to("orders.dlq").partition(partition).key(&key).value(&value).headers(&headers);
            producer.post(record).await.expect("taken");
        }
        producer.flush().await.expect("written");
        let directory = tempfile::tempdir().expect("made");
        let audit = directory.path().join("audit.jsonl").display().to_string();
        for (what, args) in [
            ("plain", &["--as", "plain"][..]),
            ("with an audit", &["--as", "audit", "--audit", &audit]),
            ("with a jq program", &["--as", "map", "--map", ".headers += [{key: \"x\", value: \"y\"}]"]),
        ] {
            let began = Instant::now();
            let counts = text(cluster.ok(&[&["dlq", "replay", "orders.dlq", "--json"], args].concat(), ""));
            let seconds = began.elapsed().as_secs_f64();
            assert!(counts.contains(&format!("\"replayed\":{COUNT}")), "{counts}");
            println!("{what}: {COUNT} letters in {seconds:.2} s, {:.0}/s", f64::from(COUNT) / seconds);
        }
    });
}
