//! `milena broker` and `milena topics`, as processes.

mod harness;

use std::io::Write as _;
use std::net::TcpStream;

use harness::{BINARY, Cluster, Process, assert_fails, milena, milena_in};

#[test]
fn acknowledged_records_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["--data-dir", dir.path().to_str().unwrap()];
    let lines: String = (0..10_000).map(|i| format!("key {i}:value {i}\n")).collect();
    let cluster = Cluster::start(&[&args[..], &["--topic", "t:3"]].concat());
    cluster.ok(&["produce", "t", "-K:", "-z", "lz4"], lines.as_str());
    cluster.kill();

    let cluster = Cluster::start(&args);
    let read = String::from_utf8(cluster.ok(&["consume", "t", "-e", "-K:"], "")).unwrap();
    let mut expect: Vec<_> = lines.lines().collect();
    let mut found: Vec<_> = read.lines().collect();
    expect.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, expect);
    // And it goes on where it was.
    cluster.ok(&["produce", "t", "-p", "0"], "after\n");
    assert_eq!(cluster.ok(&["consume", "t", "-p", "0", "-o", "-1", "-e"], ""), b"after\n");
}

#[test]
fn ctrl_c_stops_a_broker_cleanly() {
    let cluster = Cluster::start(&["--nodes", "3", "--topic", "t"]);
    assert_eq!(cluster.bootstrap.split(',').count(), 3);
    cluster.interrupt();
    let run = cluster.wait();
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));
}

#[test]
fn topics_are_made_described_and_unmade() {
    let cluster = Cluster::start(&["--nodes", "3"]);
    let ok = |args: &[&str]| String::from_utf8(cluster.ok(args, "")).unwrap();
    ok(&["topics", "create", "orders", "-p", "4", "-r", "3", "-c", "max.message.bytes=2000000"]);
    ok(&["topics", "create", "payments"]);
    cluster.ok(&["produce", "orders", "-p", "2"], "a\nb\n");

    let names: Vec<_> =
        ok(&["topics", "list"]).lines().map(|l| l.split_whitespace().next().unwrap().to_owned()).collect();
    assert_eq!(names, ["orders", "payments"]);
    let listed: Vec<serde_json::Value> =
        ok(&["topics", "list", "--json"]).lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!((&listed[0]["topic"], &listed[0]["partition_count"]), (&"orders".into(), &4.into()));

    let described: serde_json::Value =
        serde_json::from_str(&ok(&["topics", "describe", "orders", "--json"])).unwrap();
    assert_eq!(described["configs"]["max.message.bytes"]["value"], "2000000");
    let partitions = described["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 4);
    assert_eq!(partitions[2]["end_offset"], 2);
    assert!(partitions.iter().all(|p| p["replicas"].as_array().unwrap().len() == 3));
    let text = ok(&["topics", "describe", "orders"]);
    assert!(text.contains("max.message.bytes=2000000"), "{text}");

    assert_fails(&cluster.run(&["topics", "create", "orders"], ""), 1, "orders");
    ok(&["topics", "create", "orders", "--if-not-exists"]);
    assert_fails(&cluster.run(&["topics", "create", "not/valid"], ""), 2, "not/valid");
    // One of two: the exit code says partly, and the message which.
    let run = cluster.run(&["topics", "delete", "nowhere", "payments"], "");
    assert_eq!(run.code, Some(3), "{}", run.stderr);
    assert!(run.stderr.contains("nowhere"), "{}", run.stderr);
    assert!(run.stderr.contains("1 of 2 deleted: payments."), "{}", run.stderr);
    let run = cluster.run(&["topics", "create", "a", "orders", "c"], "");
    assert_fails(&run, 3, "orders");
    assert!(run.stderr.contains("2 of 3 created: a, c."), "{}", run.stderr);
    ok(&["topics", "delete", "a", "c"]);
    ok(&["topics", "delete", "orders"]);
    ok(&["topics", "delete", "orders", "--if-exists"]);
    assert_eq!(ok(&["topics", "list"]), "");
}

#[test]
fn a_broker_listens_where_a_name_says_and_advertises_another() {
    let cluster = Cluster::start(&["--host", "localhost", "--topic", "t"]);
    assert!(cluster.bootstrap.starts_with("127.0.0.1:") || cluster.bootstrap.starts_with("[::1]:"));
    cluster.ok(&["produce", "t"], "one\n");

    let cluster = Cluster::start(&[
        "--host",
        "0.0.0.0",
        "--allow-anyone",
        "--advertised-host",
        "localhost",
        "--topic",
        "t",
    ]);
    assert!(cluster.bootstrap.starts_with("localhost:"), "{}", cluster.bootstrap);
    // Reached by another name, it names the one that it was told to: only records get there by that.
    let port = cluster.bootstrap.rsplit(':').next().unwrap();
    let produced = milena_in(&["produce", "t", "-b", &format!("127.0.0.1:{port}")], "one\n");
    assert_eq!(produced.code, Some(0), "{}", produced.stderr);
    assert_eq!(cluster.ok(&["consume", "t", "-e"], ""), b"one\n");
}

#[test]
fn a_broker_that_advertises_this_machine_alone_says_so() {
    let mut broker = Process::spawn(&["broker", "--host", "0.0.0.0", "--port", "0", "--allow-anyone"], "");
    assert!(broker.stdout_line().starts_with("127.0.0.1:"));
    broker.stderr_line_with("--advertised-host");
}

#[test]
fn a_broker_prints_what_clients_push() {
    let mut broker = Process::spawn(&["broker", "--port", "0", "--client-metrics", "0.2"], "");
    let bootstrap = broker.stdout_line();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let builder = milena::Client::builder().bootstrap(bootstrap.trim()).client_id("shop");
    let client = runtime.block_on(builder.metrics(&milena::metrics::Registry::new()).connect()).unwrap();
    let pushed: serde_json::Value = serde_json::from_str(&broker.stdout_line()).unwrap();
    assert_eq!((&pushed["client_id"], &pushed["last"]), (&"shop".into(), &false.into()));
    let metrics = pushed["metrics"].as_array().unwrap();
    assert!(metrics.iter().any(|metric| metric["name"] == "milena.connections"), "{pushed}");
    drop(client);
    assert_fails(
        &milena(&["broker", "--port", "0", "--client-metrics", "0.01"]),
        2,
        "interval must be between",
    );
}

#[test]
fn a_broker_lets_everyone_in_only_if_it_is_told_to() {
    let run = milena(&["broker", "--host", "0.0.0.0", "--port", "0"]);
    assert_fails(&run, 2, "need not authenticate");
}

#[test]
fn a_broker_with_users_and_tls_listens_for_other_machines_too() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("users"), "alice:hunter2\nbob:hunter2\n").unwrap();
    std::fs::write(path("wrong"), "alice:hunter2\nhunter2\n").unwrap();
    let (users, wrong, ca) = (path("users"), path("wrong"), path("ca.pem"));
    let args = ["broker", "--port", "0", "--host", "0.0.0.0", "--sasl", "plain,scram"];
    let run = milena(&[&args[..], &["--users", &wrong]].concat());
    assert_fails(&run, 2, "line 2 is not NAME:PASSWORD");
    assert!(!run.stderr.contains("hunter2"), "{}", run.stderr);
    assert_fails(&milena(&args), 2, "MILENA_BROKER_USERS");
    let rest = ["--users", &users, "--tls", &ca, "--acl", "--super-user", "User:alice"];
    let mut broker = Process::spawn(&[&args[..], &rest].concat(), "");
    assert!(broker.stdout_line().starts_with("127.0.0.1:"));
    let pem = std::fs::read_to_string(&ca).unwrap();
    assert!(pem.starts_with("-----BEGIN CERTIFICATE-----"), "{pem}");
}

#[test]
fn a_data_directory_that_cannot_be_used_is_named() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let path = file.path().to_str().unwrap();
    assert_fails(&milena(&["broker", "--port", "0", "--data-dir", path]), 1, path);
}

#[test]
#[cfg(unix)]
fn a_disk_that_is_full_is_named_with_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    // Files may have 32 KiB; what is beyond is an error, as on a full disk.
    let script =
        format!("trap '' XFSZ; ulimit -f 64; exec {} broker --port 0 --topic t --data-dir {data}", BINARY);
    let mut broker = Process::spawn_program("sh", &["-c", &script]);
    let bootstrap = broker.stdout_line();
    let large = ["x".repeat(60_000), "\n".into()].concat();
    let run = milena_in(&["produce", "t", "-b", &bootstrap, "--timeout", "3"], &large);
    assert_ne!(run.code, Some(0));
    let line = broker.stderr_line_with("storage failed");
    assert!(line.contains(dir.path().join("t-0").to_str().unwrap()), "{line}");
}

#[test]
fn a_broker_says_what_clients_ask_for_in_vain() {
    let mut broker = Process::spawn(&["broker", "--port", "0"], "");
    let mut client = TcpStream::connect(broker.stdout_line()).unwrap();
    // AlterReplicaLogDirs (34) v2, correlation id 7, client id `x`; what follows does not matter.
    let request = [0, 34, 0, 2, 0, 0, 0, 7, 0, 1, b'x', 0];
    client.write_all(&[&(request.len() as u32).to_be_bytes()[..], &request].concat()).unwrap();
    let line = broker.stderr_line_with("does not serve");
    assert!(line.starts_with("warning: ") && line.contains("AlterReplicaLogDirs"), "{line}");
}

#[test]
fn configs_are_set_by_kafkas_names() {
    let cluster = Cluster::start(&["-c", "num.partitions=3", "--config", "group.min.session.timeout.ms=100"]);
    cluster.ok(&["topics", "create", "t"], "");
    let described = String::from_utf8(cluster.ok(&["topics", "describe", "t", "--json"], "")).unwrap();
    let described: serde_json::Value = serde_json::from_str(&described).unwrap();
    assert_eq!(described["partitions"].as_array().map(Vec::len), Some(3));
    for (config, why) in [
        ("no.such.config=1", "no.such.config"),
        ("group.min.session.timeout.ms=soon", "soon"),
        ("group.consumer.migration.policy=sideways", "sideways"),
    ] {
        assert_fails(&milena(&["broker", "--port", "0", "-c", config]), 2, why);
    }
}
