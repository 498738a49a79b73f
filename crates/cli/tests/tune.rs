//! `milena tune codec` on topics and files: sizes, what the topic has now, limits, wrong input. No speed is looked at.

mod harness;

use std::io::Write as _;
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use harness::{Cluster, Process, assert_fails, milena, milena_in};
use serde_json::Value;

fn file_of(text: &str) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file
}

/// Records of a shop, which compress well.
fn orders(count: usize) -> String {
    (0..count)
        .map(|n| {
            format!(
                "{{\"id\":{n},\"customer\":\"customer-{}\",\"total\":{}.5,\"paid\":{},\"city\":\"{}\"}}\n",
                n * 7919 % 500,
                n * 31 % 997,
                n % 3 == 0,
                ["Praha", "Brno", "Ostrava", "Plzen"][n % 4],
            )
        })
        .collect()
}

/// Bytes without a pattern, as lines.
fn noise(lines: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut bytes = Vec::new();
    for _ in 0..lines {
        for _ in 0..100 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let byte = state.to_le_bytes()[3];
            bytes.push(if byte == b'\n' { 0 } else { byte });
        }
        bytes.push(b'\n');
    }
    bytes
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(bytes)))
}

fn codec<'a>(report: &'a Value, name: &str, level: Option<i64>) -> &'a Value {
    let codecs = report["codecs"].as_array().expect("codecs");
    let found = codecs.iter().find(|one| one["codec"] == name && one["level"].as_i64() == level);
    found.unwrap_or_else(|| panic!("no {name} {level:?} in {codecs:?}"))
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// It ends earlier: few codecs are known well after a second.
const QUICK: &[&str] = &["--time", "20", "-c", "lz4", "-c", "gzip:6", "-c", "zstd:1", "-o", "json"];

#[test]
fn a_files_lines_are_compared_and_sizes_are_those_of_the_codec() {
    let lines = orders(2000);
    let file = file_of(&lines);
    let path = file.path().to_str().expect("text");
    let run = milena(&[&["tune", "codec", "--file", path][..], QUICK].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report = json(&run.stdout);
    assert!(
        report["source"].as_str().is_some_and(|source| source.ends_with(": each line is a value")),
        "{report}"
    );
    assert_eq!(report["record_count"], 2000);
    assert_eq!(report["bytes"], lines.len() - 2000);
    assert_eq!(report["is_debug_build"], cfg!(debug_assertions));

    // The records in one batch, of which each takes ten bytes or so more than its value.
    let none = codec(&report, "none", None);
    let plain = number(&none["record_bytes"]);
    let value = (lines.len() - 2000) as f64 / 2000.0;
    assert!((value + 6.0..value + 12.0).contains(&plain), "{plain} for values of {value}");
    assert!((number(&none["ratio"]) - 1.0).abs() < 1e-9);

    let mut gzip = GzEncoder::new(Vec::new(), Compression::new(6));
    gzip.write_all(lines.as_bytes()).expect("compressed");
    let independent = gzip.finish().expect("compressed").len() as f64 / 2000.0;
    let measured = number(&codec(&report, "gzip", Some(6))["record_bytes"]);
    // The same lines, with a length, times and an offset each.
    assert!((independent * 0.9..independent + 8.0).contains(&measured), "{measured} and {independent}");

    let goals: Vec<_> = report["advice"].as_array().expect("advice").iter().map(|one| &one["goal"]).collect();
    assert_eq!(goals, ["size", "throughput", "latency"]);
    let size = &report["advice"][0];
    assert_ne!(size["codec"], "none");
    assert_eq!(size["settings"]["compression.type"], size["codec"]);
    assert!(size["reason"].as_str().is_some_and(|reason| reason.contains("times smaller")), "{size}");
    assert_eq!((&report["now"], &size["saved_of_now"]), (&Value::Array(Vec::new()), &Value::Null));
}

#[test]
fn a_topic_is_measured_in_batches_of_its_size_and_compared_with_what_it_has() {
    let cluster = Cluster::start(&["--topic", "orders:3"]);
    let args = ["produce", "orders", "-K", ":", "-X", "compression.type=lz4", "-H", "h=1", "-q"];
    let lines: String = orders(3000).lines().enumerate().map(|(n, line)| format!("k{n}:{line}\n")).collect();
    cluster.ok(&args, lines);
    let report = json(&cluster.ok(&[&["tune", "codec", "--topic", "orders"][..], QUICK].concat(), ""));
    assert_eq!(report["source"], "topic orders, 3 partitions");
    assert_eq!((&report["record_count"], &report["sample_end"]), (&Value::from(3000), &Value::Null));
    let now = report["now"].as_array().expect("what the topic has");
    assert!(now.iter().any(|one| one["codec"] == "lz4"), "{now:?}");
    let (bytes, plain) = now.iter().fold((0.0, 0.0), |sum, one| {
        (sum.0 + number(&one["bytes"]), sum.1 + number(&one["uncompressed_bytes"]))
    });
    let batches: f64 = now.iter().map(|one| number(&one["batch_count"])).sum();
    assert!((number(&report["batch_bytes_max"]) - plain / batches).abs() <= 1.0, "{report}");
    // What the topic has is told of the same records.
    assert!((number(&report["now_record_bytes"]) - bytes / 3000.0).abs() < 2.0, "{report}");
    let saved = number(&report["advice"][0]["saved_of_now"]);
    assert!(saved > 0.0, "gzip and zstd are smaller than lz4: {report}");

    let run = cluster.run(
        &["tune", "codec", "-t", "orders", "--time", "20", "--batch-bytes", "16384", "-c", "zstd:3"],
        "",
    );
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = String::from_utf8(run.stdout).expect("text");
    for says in [
        "topic orders, 3 partitions: 3 000 records",
        "now: lz4 in ",
        "\nzstd 3 ",
        "\nFor the fewest bytes: zstd 3. ",
        "    compression.type=zstd\n",
        "fewer bytes than the topic has now.",
        "ratios by the size of batches: 1.02 kB: zstd 3 ",
    ] {
        assert!(text.contains(says), "{says:?} is not in:\n{text}");
    }
    assert_eq!(text.contains("This is a debug build"), cfg!(debug_assertions), "{text}");
}

#[test]
fn records_that_do_not_compress_stay_as_they_are() {
    let cluster = Cluster::start(&["--topic", "noise"]);
    cluster.ok(&["produce", "noise", "-q"], noise(500));
    let report = json(&cluster.ok(&[&["tune", "codec", "--topic", "noise"][..], QUICK].concat(), ""));
    for advice in report["advice"].as_array().expect("advice") {
        assert_eq!(advice["codec"], "none");
        let reason = advice["reason"].as_str().expect("a reason");
        assert!(reason.starts_with("no codec makes batches 1.1 times smaller"), "{reason}");
    }
}

#[test]
fn what_consume_writes_is_read_from_a_pipe() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    cluster.ok(&["produce", "t", "-K", ":", "-q"], "a:one\nb:two\nc:three\n");
    let lines = String::from_utf8(cluster.ok(&["consume", "t", "-e", "--json"], "")).expect("text");
    let run = milena_in(&[&["tune", "codec", "-f", "-"][..], QUICK].concat(), &lines);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report = json(&run.stdout);
    assert_eq!(report["source"], "stdin: records as milena consume --json writes them");
    assert_eq!((&report["record_count"], &report["bytes"]), (&Value::from(3), &Value::from(14)));
}

#[test]
fn the_sample_and_the_time_have_limits() {
    let cluster = Cluster::start(&["--topic", "t:2"]);
    cluster.ok(&["produce", "t", "-q"], orders(4000));
    let args = ["tune", "codec", "-t", "t", "-o", "json", "--time", "20", "-c", "lz4"];
    let report = json(&cluster.ok(&[&args[..], &["-n", "100"]].concat(), ""));
    assert!((1..=100).contains(&report["record_count"].as_u64().expect("a count")), "{report}");
    let report = json(&cluster.ok(&[&args[..], &["--sample-bytes", "20000"]].concat(), ""));
    assert!((20_000..20_400).contains(&report["bytes"].as_u64().expect("bytes")), "{report}");
    assert_eq!(report["sample_end"], "--sample-bytes takes no more");

    // Batches that take much longer than there is time do not delay the answer.
    let file = file_of(&orders(60_000));
    let path = file.path().to_str().expect("text");
    let begin = Instant::now();
    let run = milena(&[
        "tune",
        "codec",
        "-f",
        path,
        "--time",
        "0.5",
        "-o",
        "json",
        "-c",
        "zstd:1..22",
        "-c",
        "lz4",
    ]);
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
    let known = run.code == Some(0) || run.stderr.contains("nothing could be measured in this time");
    assert!(known, "{:?} {}", run.code, run.stderr);
    if run.code == Some(0) {
        let seconds = number(&json(&run.stdout)["seconds"]);
        assert!(seconds < 10.0, "{seconds}");
    }
}

/// The bytes of a variable-length number with seven bits in each.
fn varint(number: u64) -> usize {
    (1..).find(|bytes| number >> (7 * bytes) == 0).expect("it ends")
}

#[test]
fn json_is_compared_with_avro_and_protobuf() {
    let lines = orders(2000);
    let file = file_of(&lines);
    let run = milena(&[&["tune", "codec", "-f", file.path().to_str().expect("text")][..], QUICK].concat());
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let formats = &json(&run.stdout)["formats"];
    assert_eq!((&formats["not_compared"], &formats["value_count"]), (&Value::Null, &Value::from(2000)));
    // What the two formats' specifications say of such values, with what names the schema.
    let (mut avro, mut protobuf) = (0, 0);
    for line in lines.lines() {
        let value: Value = serde_json::from_str(line).expect("JSON");
        let id = value["id"].as_u64().expect("a number");
        let texts: usize =
            ["customer", "city"].iter().map(|name| value[name].as_str().expect("text").len()).sum();
        avro += 5 + varint(id * 2) + (2 + texts) + 8 + 1;
        // Zero and false are left out.
        let id = if id == 0 { 0 } else { 1 + varint(id) };
        let paid = if value["paid"] == true { 2 } else { 0 };
        protobuf += 6 + id + (4 + texts) + 9 + paid;
    }
    let sizes: Vec<_> = formats["formats"].as_array().expect("formats").iter().collect();
    let expect = [("JSON", lines.len() - 2000), ("Avro", avro), ("Protobuf", protobuf)];
    assert_eq!(sizes.len(), expect.len(), "{formats}");
    for (format, (name, bytes)) in sizes.iter().zip(expect) {
        assert_eq!(format["format"], name);
        let value = number(&format["value_bytes"]);
        assert!((value - bytes as f64 / 2000.0).abs() < 1e-6, "{name}: {value} and {bytes}");
        let codecs = format["record_bytes"].as_array().expect("codecs");
        let names: Vec<_> = codecs.iter().map(|one| &one["codec"]).collect();
        assert_eq!(names, ["none", "lz4", "zstd"]);
        assert!(number(&codecs[2]["bytes"]) < number(&codecs[0]["bytes"]), "{format}");
    }
    for name in ["Avro", "Protobuf"] {
        assert_eq!(formats["schemas"][name]["is_inferred"], true, "{formats}");
    }
    let advice = formats["advice"].as_array().expect("advice");
    let needs: Vec<_> = advice.iter().map(|one| &one["need"]).collect();
    assert_eq!(needs, ["readability", "latency", "size"]);
    assert_eq!(advice[0]["format"], "JSON");
}

#[test]
fn records_that_name_a_schema_are_read_with_the_given_one() {
    let schema = tempfile::Builder::new().suffix(".avsc").tempfile().expect("a file");
    let text = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;
    std::fs::write(schema.path(), text).expect("written");
    // 0, the schema's id in four bytes, and 7.
    let line = |offset| {
        format!(
            "{{\"topic\":\"t\",\"partition\":0,\"offset\":{offset},\"timestamp\":5,\"key\":null,\"value_base64\":\"AAAAAAEO\"}}\n"
        )
    };
    let lines: String = (0..50).map(line).collect();
    let args = ["tune", "codec", "-f", "-", "--schema", schema.path().to_str().expect("text")];
    let run = milena_in(&[&args[..], QUICK].concat(), &lines);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let formats = &json(&run.stdout)["formats"];
    let sizes: Vec<_> =
        formats["formats"].as_array().expect("formats").iter().map(|one| &one["value_bytes"]).collect();
    assert_eq!(sizes, [8.0, 6.0, 8.0], "{formats}");
    let is_inferred = |name: &str| &formats["schemas"][name]["is_inferred"];
    assert_eq!((is_inferred("Avro"), is_inferred("Protobuf")), (&Value::Bool(false), &Value::Bool(true)));

    let run = milena_in(&[&["tune", "codec", "-f", "-"][..], QUICK].concat(), &lines);
    let why = json(&run.stdout)["formats"]["not_compared"].as_str().expect("why").to_owned();
    assert!(why.contains("no JSON objects"), "{why}");
}

#[test]
fn records_that_name_a_schema_are_read_with_the_registrys() {
    let mut dev = Process::spawn(&["dev", "--port", "0", "--registry-port", "0"], "");
    let (_bootstrap, url) = (dev.stdout_line(), dev.stdout_line());
    let schema = tempfile::Builder::new().suffix(".avsc").tempfile().expect("a file");
    let text = r#"{"type":"record","name":"Order","fields":[{"name":"id","type":"long"}]}"#;
    std::fs::write(schema.path(), text).expect("written");
    let path = schema.path().to_str().expect("text");
    let run = milena(&["schema", "register", "orders-value", path, "--registry", &url]);
    assert_eq!(String::from_utf8_lossy(&run.stdout), "orders-value version 1 id 1\n", "{}", run.stderr);
    let framed = |id: &str| {
        format!("{{\"topic\":\"t\",\"partition\":0,\"offset\":1,\"timestamp\":5,\"key\":null,\"value_base64\":\"{id}\"}}\n")
            .repeat(50)
    };
    let args = [&["tune", "codec", "-f", "-", "--registry"][..], &[&url], QUICK].concat();
    let run = milena_in(&args, &framed("AAAAAAEO"));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let formats = &json(&run.stdout)["formats"];
    let sizes: Vec<_> =
        formats["formats"].as_array().expect("formats").iter().map(|one| &one["value_bytes"]).collect();
    assert_eq!(sizes, [8.0, 6.0, 8.0], "{formats}");
    assert_eq!(formats["schemas"]["Avro"]["is_inferred"], false, "{formats}");

    // What the registry does not say is said, and codecs are compared nevertheless.
    let run = milena_in(&args, &framed("AAAAAAkO"));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let report = json(&run.stdout);
    let why = report["formats"]["not_compared"].as_str().expect("why");
    assert!(
        why.contains('9') && report["codecs"].as_array().is_some_and(|codecs| !codecs.is_empty()),
        "{why}"
    );
}

#[test]
fn what_has_no_schema_is_said() {
    let args = ["tune", "codec", "-f", "-", "--time", "20", "-c", "lz4"];
    let run = milena_in(&args, &"{\"a\":1}\n{\"a\":\"x\"}\n".repeat(50));
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = String::from_utf8(run.stdout).expect("text");
    let says = "Avro was not measured: field \"a\" is a number in one record and text in another.";
    assert!(text.contains(says), "{text}");
    let run = milena_in(&args, &"{\"a\":1}\ntext\n".repeat(50));
    let text = String::from_utf8(run.stdout).expect("text");
    assert!(text.contains("Formats were not compared: 50 of 100 values are JSON objects."), "{text}");
}

#[test]
fn wrong_input_is_named() {
    let cluster = Cluster::start(&["--topic", "empty"]);
    let tune = |args: &[&str]| cluster.run(&[&["tune", "codec"][..], args].concat(), "");
    assert_fails(&tune(&["-t", "missing"]), 4, "topic \"missing\"");
    assert_fails(&tune(&["-t", "empty"]), 4, "topic \"empty\" has no records to measure");
    assert_fails(&tune(&[]), 2, "--topic <TOPIC>");
    assert_fails(&tune(&["-t", "empty", "-f", "x"]), 2, "cannot be used with");
    assert_fails(&tune(&["-t", "empty", "-c", "brotli"]), 2, "is not a compression");
    assert_fails(&tune(&["-t", "empty", "--network", "fast"]), 2, "write bits per second");
    assert_fails(&milena(&["tune", "codec", "-f", "/no/such/file"]), 4, "cannot open /no/such/file");
    assert_fails(&milena_in(&["tune", "codec", "-f", "-"], "\n"), 2, "stdin has no line to measure");
    let file = file_of("no schema");
    let path = file.path().to_str().expect("text");
    assert_fails(&tune(&["-t", "empty", "--schema", "/no/such/file"]), 4, "cannot read /no/such/file");
    assert_fails(&tune(&["-t", "empty", "--schema", path]), 2, "--schema takes an Avro schema");
    let other = "{\"topic\":\"t\",\"partition\":0,\"offset\":0,\"timestamp\":0,\"value\":\"v\"}\nv\n";
    assert_fails(&milena_in(&["tune", "codec", "-f", "-"], other), 2, "stdin, line 2: ");
}
