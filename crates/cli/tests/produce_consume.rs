//! Records through the binary and back: what goes in comes out.

mod harness;

use harness::{Cluster, assert_fails};

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).expect("text")
}

#[test]
fn lines_come_back_as_lines() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let produced = cluster.run(&["produce", "t"], "one\n\nthree\r\nfour");
    assert_eq!((produced.code, produced.stderr.as_str()), (Some(0), "4 records acknowledged\n"));
    assert!(produced.stdout.is_empty());
    let unanswered = cluster.run(&["produce", "t", "--acks", "0", "-p", "0"], "five");
    assert_eq!(unanswered.stderr, "1 record sent, not acknowledged (acks=0)\n");
    assert_eq!(text(cluster.ok(&["consume", "t", "-e"], "")), "one\n\nthree\r\nfour\nfive\n");
    assert_eq!(text(cluster.ok(&["consume", "t", "-e", "-D", r"\0"], "")), "one\0\0three\r\0four\0five\0");
}

#[test]
fn keys_headers_and_nulls_are_kept_apart() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let args = ["produce", "t", "-K", ":", "-H", "h=1", "-H", "empty=", "-H", "null", "--null", "~", "-q"];
    let produced = cluster.run(&args, "k:v\nno key\n:empty key\nempty value:\n~:~\na:b:c\n");
    assert_eq!((produced.code, produced.stderr.as_str()), (Some(0), ""));
    let format = r"%K %k|%S %s|%h\n";
    let lines = text(cluster.ok(&["consume", "t", "-e", "-f", format, "--null", "~"], ""));
    let expect =
        ["1 k|1 v|", "-1 ~|6 no key|", "0 |9 empty key|", "11 empty value|0 |", "-1 ~|-1 ~|", "1 a|3 b:c|"]
            .map(|line| format!("{line}h=1,empty=,null=~\n"))
            .concat();
    assert_eq!(lines, expect);
}

#[test]
fn json_lines_make_the_round_trip() {
    let cluster = Cluster::start(&["--topic", "a:3", "--topic", "b:3"]);
    let input = [
        r#"{"partition":0,"timestamp":1700000000000,"key":"k","value":"v"}"#,
        r#"{"partition":1,"timestamp":1700000000001,"key":null,"value":null}"#,
        r#"{"partition":2,"timestamp":1700000000002,"key":"","value":""}"#,
        r#"{"partition":2,"timestamp":1700000000003,"key_base64":"/wD/","value_base64":"gA=="}"#,
        r#"{"partition":0,"timestamp":1700000000004,"key":"quote\"\n","value":"é\u0000","headers":[{"key":"h","value":"1"},{"key":"h","value":null},{"key":"","value_base64":"/w=="}]}"#,
    ]
    .join("\n");
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        cluster.ok(&["produce", "a", "--json", "-z", codec], input.as_str());
    }
    let read = |topic| {
        let mut lines: Vec<_> =
            text(cluster.ok(&["consume", topic, "-e", "--json"], "")).lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    let a = read("a");
    assert_eq!(a.len(), 25);
    let first = r#"{"topic":"a","partition":0,"offset":0,"timestamp":1700000000000,"key":"k","value":"v"}"#;
    assert_eq!(a[0], first);
    cluster.ok(&["produce", "b", "--json"], cluster.ok(&["consume", "a", "-e", "--json"], ""));
    let b: Vec<_> = read("b").iter().map(|line| line.replace(r#""topic":"b""#, r#""topic":"a""#)).collect();
    assert_eq!(a, b);
}

#[test]
fn output_is_named_as_in_other_commands() {
    let cluster = Cluster::start(&["--topic", "t"]);
    cluster.ok(&["produce", "t"], "one\ntwo\n");
    let lines = text(cluster.ok(&["consume", "t", "-e", "--json"], ""));
    assert_eq!(text(cluster.ok(&["consume", "t", "-e", "-o", "json"], "")), lines);
    let second = text(cluster.ok(&["consume", "t", "-e", "-o", "json", "-o", "1"], ""));
    assert_eq!(Some(second.trim_end()), lines.lines().nth(1));
    let of_group = ["consume", "t", "-g", "readers", "-c", "1", "-o", "json", "-o", "beginning"];
    assert_eq!(Some(text(cluster.ok(&of_group, "")).trim_end()), lines.lines().next());
    let run = cluster.run(&["consume", "t", "-e", "-o", "json", "-f", "%s"], "");
    assert_fails(&run, 2, "-o json and --format each set what is written");
}

#[test]
fn a_wrong_json_line_is_named_and_what_was_before_it_is_counted() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let run = cluster.run(
        &["produce", "t", "--json"],
        "{\"value\":\"1\"}\n{\"value\":\"2\"}\n{\"vale\":\"3\"}\n{\"value\":\"4\"}\n",
    );
    assert_fails(&run, 3, "line 3: unknown field `vale`");
    assert!(run.stderr.contains("2 records acknowledged"), "{}", run.stderr);
    assert_eq!(text(cluster.ok(&["consume", "t", "-e"], "")), "1\n2\n");
    let run = cluster.run(&["produce", "t", "--json"], "{}\n");
    assert_fails(&run, 2, "line 1: value is missing");
}

#[test]
fn offsets_by_number_and_relative() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    let lines: String = (0..10).map(|i| format!("{i}\n")).collect();
    for partition in ["0", "1"] {
        cluster.ok(&["produce", "t", "-p", partition], lines.as_str());
    }
    let read = |args: &[&str]| {
        let mut all = vec!["consume", "t", "-f", "%p:%s "];
        all.extend(args);
        let mut records: Vec<_> = text(cluster.ok(&all, "")).split_whitespace().map(str::to_owned).collect();
        records.sort();
        records.join(" ")
    };
    assert_eq!(read(&["-e", "-o", "8"]), "0:8 0:9 1:8 1:9");
    assert_eq!(read(&["-e", "-o", "-1"]), "0:9 1:9");
    assert_eq!(read(&["-e", "-o", "-99", "-p", "1"]).split(' ').count(), 10);
    assert_eq!(read(&["-e", "-o", "0=9,1=-2"]), "0:9 1:8 1:9");
    assert_eq!(read(&["-e", "-o", "end"]), "");
    assert_eq!(read(&["-e", "-o", "10"]), "");
    assert_eq!(read(&["-o", "3", "--until", "5"]), "0:3 0:4 1:3 1:4");
    assert_eq!(read(&["-o", "3", "--to", "0=4,1=-6"]), "0:3 1:3");
    assert_eq!(read(&["-p", "0", "-c", "3"]), "0:0 0:1 0:2");
    assert_eq!(read(&["-c", "0"]), "");
    assert_fails(&cluster.run(&["consume", "t", "-o", "11", "-e"], ""), 4, "offset 11");
    assert_fails(&cluster.run(&["consume", "t", "-p", "2", "-e"], ""), 4, "partition 2");
    assert_fails(&cluster.run(&["consume", "t", "-o", "5=0", "-e"], ""), 4, "partition 5");
}

#[test]
fn offsets_by_time() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let lines: String = (0..10)
        .map(|i| format!("{{\"value\":\"{i}\",\"timestamp\":{}}}\n", 1_700_000_000_000_i64 + i * 1000))
        .collect();
    cluster.ok(&["produce", "t", "--json"], lines);
    let read = |args: &[&str]| {
        let mut all = vec!["consume", "t", "-f", "%s"];
        all.extend(args);
        text(cluster.ok(&all, ""))
    };
    assert_eq!(read(&["-e", "-o", "@1700000007000"]), "789");
    assert_eq!(read(&["-e", "-o", "@1700000006001"]), "789");
    assert_eq!(read(&["-e", "-o", "@2023-11-14T22:13:28Z"]), "89");
    assert_eq!(read(&["-e", "-o", "@1800000000000"]), "");
    assert_eq!(read(&["-e", "-o", "@-1h"]), "");
    assert_eq!(read(&["-o", "@1700000003000", "--until", "@1700000005000"]), "34");
    assert_eq!(read(&["--until", "@now"]), "0123456789");
}

#[test]
fn kcats_times_are_where_to_start_and_where_to_stop() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let lines: String = (0..10)
        .map(|i| format!("{{\"value\":\"{i}\",\"timestamp\":{}}}\n", 1_700_000_000_000_i64 + i * 1000))
        .collect();
    cluster.ok(&["produce", "t", "--json"], lines);
    let read = |args: &[&str]| text(cluster.ok(&[&["consume", "t", "-f", "%s"], args].concat(), ""));
    assert_eq!(read(&["-o", "s@1700000003000", "-o", "e@1700000005000"]), "34");
    assert_eq!(read(&["-o", "e@1700000002000"]), "01");
    assert_eq!(read(&["-e", "-o", "s@1700000008000"]), "89");
}

#[test]
fn a_topic_is_created_by_asking_for_it_where_that_is_asked_for() {
    const CREATE: [&str; 2] = ["-X", "allow.auto.create.topics=true"];
    let cluster = Cluster::start(&[]);
    for args in [&["produce", "a"][..], &["consume", "b", "-e"], &["topics", "describe", "c"]] {
        assert_fails(&cluster.run(args, "x\n"), 4, "does not exist");
        let run = cluster.run(&[args, &CREATE].concat(), "x\n");
        assert_eq!(run.code, Some(0), "{args:?}: {}", run.stderr);
    }
    assert_eq!(text(cluster.ok(&["consume", "a", "-e"], "")), "x\n");
    assert_eq!(text(cluster.ok(&["topics", "list"], "")).lines().count(), 3);
}

#[test]
#[cfg(target_os = "linux")]
fn an_input_without_an_end_does_not_fill_the_memory() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut producing = cluster.spawn_open(&["produce", "t", "-"]);
    producing.write("first\n");
    producing.write_rest("x".repeat(64 << 20));
    let run = producing.wait();
    assert_fails(&run, 3, "line 2: it is longer than ");
    assert!(run.stderr.contains("1 record acknowledged"), "{}", run.stderr);
}

#[test]
fn settings_come_from_a_file_and_errors_name_its_line() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("client.properties");
    let path = file.to_str().unwrap();
    let bootstrap = &cluster.bootstrap;
    let write = |text: &str| std::fs::write(&file, text).unwrap();
    write(&format!(
        "# of the team\nbootstrap.servers = {bootstrap}\nacks: ALL\nenable.idempotence=True\n\
         security.protocol=PLAINTEXT\nmetrics.num.samples=2\nmetrics.sample.window.ms=30000\ngroup.id=billing\nretries=3\n\
         key.serializer=org.apache.kafka.common.serialization.StringSerializer\n"
    ));
    // Told once, in one line, however many there are.
    for (args, stdin) in
        [(&["produce", "t"][..], "one\n"), (&["consume", "t", "-e"], ""), (&["topics", "list"], "")]
    {
        let run = harness::milena_in(&[args, &["-F", path]].concat(), stdin);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        let told = run.stderr.lines().filter(|line| line.contains("without effect here"));
        let (of_group, told): (Vec<_>, Vec<_>) = told.partition(|line| line.contains("group.id"));
        assert_eq!(told.len(), 1, "{}", run.stderr);
        // A group has an effect on what reads in it.
        assert_eq!(of_group.len(), usize::from(args[0] == "consume"), "{}", run.stderr);
        assert!(
            told[0].starts_with("warning: ")
                && told[0].contains("metrics.num.samples, metrics.sample.window.ms ("),
            "{told:?}"
        );
        assert!(told[0].contains("retries (") && !told[0].contains("serializer"), "{told:?}");
    }
    // The command line has the last word.
    let run = harness::milena_in(&["produce", "t", "-F", path, "-X", "linger.mss=5"], "two\n");
    assert_fails(&run, 2, "linger.ms");
    write("bootstrap.servers=nowhere.invalid:1\nsecurity.protocol=SSL\n");
    let overridden = ["-X", "security.protocol=plaintext", "-b", bootstrap];
    let run = harness::milena_in(&[&["produce", "t", "-F", path], &overridden[..]].concat(), "two\n");
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    write("bootstrap.servers=nowhere.invalid:1\nsecurity.protocol=TLS\n");
    let run = harness::milena_in(&["produce", "t", "-F", path], "three\n");
    assert_fails(&run, 2, &format!("{path}, line 2: setting the property \"security.protocol\""));
    write("acks=1\n\n=5\n");
    let run = harness::milena_in(&["produce", "t", "-F", path], "three\n");
    assert_fails(&run, 2, &format!("{path}, line 3"));
    // The demo runs against the cluster that a file names.
    write(&format!("bootstrap.servers={bootstrap}\n"));
    let run = harness::milena(&["demo", "-n", "100", "-F", path, "--json"]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(text(run.stdout).contains(&format!("1 node at {bootstrap}")));
}

#[test]
fn what_comes_later_is_read_as_it_comes() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    let mut consumer = cluster.spawn(&["consume", "t"], "");
    for i in 0..3 {
        cluster.ok(&["produce", "t"], format!("line {i}\n"));
        assert_eq!(consumer.stdout_line(), format!("line {i}"));
    }
    consumer.interrupt();
    let run = consumer.wait();
    assert_eq!((run.code, run.stderr.as_str()), (Some(130), ""));
}

#[test]
fn what_is_typed_leaves_at_once_and_ctrl_c_tells_how_much_did() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let mut consumer = cluster.spawn(&["consume", "t"], "");
    let mut producer = cluster.spawn_open(&["produce", "t"]);
    for line in ["one", "two"] {
        producer.write(&format!("{line}\nhalf of the next"));
        producer.write("\n");
        assert_eq!(consumer.stdout_line(), line);
        assert_eq!(consumer.stdout_line(), "half of the next");
    }
    producer.interrupt();
    let run = producer.wait();
    assert_eq!(run.code, Some(130));
    assert_eq!(run.stderr, "error: interrupted: 4 records acknowledged; the rest was not sent\n");
}

#[test]
fn records_that_cannot_be_written_are_counted_and_named() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    let large = "x".repeat(2_000_000);
    let run = cluster.run(&["produce", "t"], format!("one\ntwo\n{large}\nfour\n"));
    assert_fails(&run, 3, "line 3: ");
    assert!(run.stderr.contains("2 records acknowledged; the rest was not sent"), "{}", run.stderr);
    assert_fails(&cluster.run(&["produce", "t"], large), 2, "line 1: ");
    let run =
        cluster.run(&["produce", "t", "--json"], "{\"value\":\"1\"}\n{\"value\":\"2\",\"partition\":2}\n");
    assert_fails(&run, 3, "line 2: ");
    assert_fails(&cluster.run(&["produce", "t", "-p", "2"], "x"), 4, "partition 2");
}

#[test]
fn the_record_for_which_a_batch_is_refused_is_named() {
    let cluster = Cluster::start(&["--topic", "t"]);
    // One of a thousand is of the year 2100, which brokers refuse.
    let line = |i: u64| match i {
        500 => "{\"value\":\"x\",\"timestamp\":4102444800000}\n".to_owned(),
        _ => "{\"value\":\"x\"}\n".to_owned(),
    };
    // Its batch must hold others, and the first batch leaves as soon as it has a record: a few attempts.
    let is_clear = (0..20).any(|_| {
        let run = cluster.run(&["produce", "t", "--json"], (1..=1000).map(line).collect::<String>());
        assert_ne!(run.code, Some(0));
        assert!(run.stderr.contains("line 500: "), "{}", run.stderr);
        !run.stderr.contains(" 1 failed")
    });
    assert!(is_clear, "it was always alone in its batch");
}

#[test]
fn a_closed_pipe_ends_well_and_quietly() {
    let cluster = Cluster::start(&["--topic", "t"]);
    // More than a pipe and our own buffer hold.
    let lines: String = (0..100_000).map(|i| format!("line {i}\n")).collect();
    cluster.ok(&["produce", "t"], lines);
    let mut consumer = cluster.spawn(&["consume", "t"], "");
    assert_eq!(consumer.stdout_line(), "line 0");
    consumer.close_stdout();
    let run = consumer.wait();
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn keys_choose_partitions_as_the_java_client_does() {
    let cluster = Cluster::start(&["--topic", "t:3"]);
    // murmur2 of these keys, modulo 3, as org.apache.kafka.common.utils.Utils computes them.
    cluster.ok(&["produce", "t", "-K:"], "21:a\nfoobar:b\na-little-bit-long-string:c\n");
    let mut lines: Vec<_> =
        text(cluster.ok(&["consume", "t", "-e", "-f", r"%k %p\n"], "")).lines().map(str::to_owned).collect();
    lines.sort();
    let partition = |murmur2: i32| (murmur2 & 0x7fff_ffff) % 3;
    assert_eq!(
        lines,
        [
            format!("21 {}", partition(-973_932_308)),
            format!("a-little-bit-long-string {}", partition(-985_981_536)),
            format!("foobar {}", partition(-790_332_482)),
        ]
    );
}

/// CRC-32C bit by bit, so that the test's own arithmetic is not the one it tests.
fn crc32c(bytes: &[u8]) -> u32 {
    let shift = |crc: u32, _| if crc & 1 == 1 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
    !bytes.iter().fold(!0, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), shift))
}

#[test]
fn a_batch_that_holds_less_than_it_promises_is_an_error_and_not_the_end() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let cluster = Cluster::start(&[&args[..], &["--topic", "t"]].concat());
    cluster.ok(&["produce", "t"], "one\n");
    cluster.interrupt();
    cluster.wait();

    let log = dir.path().join("t-0/00000000000000000000.log");
    let mut batch = std::fs::read(&log).unwrap();
    // Last offset delta and record count, as of five records.
    batch[23..27].copy_from_slice(&4_i32.to_be_bytes());
    batch[57..61].copy_from_slice(&5_i32.to_be_bytes());
    let crc = crc32c(&batch[21..]).to_be_bytes();
    batch[17..21].copy_from_slice(&crc);
    std::fs::write(&log, batch).unwrap();

    let cluster = Cluster::start(&args);
    let run = cluster.run(&["consume", "t", "-e"], "");
    assert_eq!(run.code, Some(1), "{}", run.stderr);
    assert!(run.stderr.contains("partition 0 of topic \"t\""), "{}", run.stderr);
    assert!(!run.stderr.contains("panicked"), "{}", run.stderr);
}

#[test]
fn filters_choose_records_before_they_are_counted() {
    let cluster = Cluster::start(&["--topic", "t:1"]);
    let lines: String = (0..30)
        .map(|i| {
            let (key, city, time) = (i % 3, ["Praha", "Brno"][i % 2], 1_700_000_000_000_u64 + i as u64);
            format!(
                "{{\"key\":\"{key}\",\"value\":\"{i} {city}\",\"timestamp\":{time},\"headers\":[{{\"key\":\"h\",\"value\":\"{}\"}}]}}\n",
                i % 5
            )
        })
        .collect();
    cluster.ok(&["produce", "t", "--json"], lines);
    let read = |args: &[&str]| {
        let all = [&["consume", "t", "-f", "%o "], args].concat();
        text(cluster.ok(&all, "")).trim_end().to_owned()
    };
    assert_eq!(read(&["-e", "--grep", "^1.*Praha"]), "10 12 14 16 18");
    assert_eq!(read(&["-e", "--grep", "(?i)PRAHA", "--key", "0"]), "0 6 12 18 24");
    assert_eq!(read(&["-e", "--key", "0", "--header", "h=2"]), "12 27");
    assert_eq!(read(&["-e", "-H", "h", "-H", "h=2", "--grep", "Brno"]), "7 17 27");
    assert_eq!(read(&["-e", "--key", "nobody"]), "");
    // The count is that of the records written, and ends it although there is no end.
    assert_eq!(read(&["-c", "2", "--key", "2", "--from", "10"]), "11 14");
    let times = ["--from", "2023-11-14T22:13:20.010Z", "--to", "@1700000000020", "-p", "0"];
    assert_eq!(read(&[&times[..], &["--key", "1"]].concat()), "10 13 16 19");
    assert_eq!(read(&["--from", "-1h", "--to", "now"]), "");
    assert_eq!(read(&["-e", "--isolation", "read_committed", "--key", "0", "-H", "h=2"]), "12 27");
    for (args, says) in [
        (&["--grep", "("][..], "--grep"),
        (&["--header", "=1"], "no name"),
        (&["--isolation", "snapshot"], "read_committed"),
        (&["--from", "-1x"], "-1h30m"),
    ] {
        assert_fails(&cluster.run(&[&["consume", "t"], args].concat(), ""), 2, says);
    }
}
