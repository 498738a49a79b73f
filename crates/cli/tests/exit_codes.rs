//! The exit codes that `--help` promises, each from a real run.

mod harness;

use std::net::TcpListener;
use std::time::Instant;

use harness::{BINARY, Cluster, Process, assert_fails, milena, milena_with};

#[test]
fn wrong_usage_is_2() {
    for (args, says) in [
        (&["consume"][..], "<TOPIC>"),
        (&["produce", "t", "-z", "brotli"], "brotli"),
        (&["consume", "t", "-f", "%q"], "%q"),
        (&["consume", "t", "-o", "middle"], "middle"),
        (&["consume", "t", "-p", "x"], "x"),
        (&["consume", "t", "-J", "-f", "%s"], "--format"),
        (&["produce", "t", "-K", r"\x"], "hexadecimal"),
        (&["produce", "t", "-X", "linger.mss=5"], "linger.ms"),
        (&["broker", "--topic", "a:0"], "a:0"),
        (&["demo", "--rate", "x"], "x"),
        (&["demo", "--data", "/"], "directory"),
        (&["produce", "t", "--timeout", "1e9"], "2147483"),
        // What is empty, negative, too large or misspelt.
        (&["produce", "t", "-K", ""], "delimiter"),
        (&["produce", "t", "-p=-1"], "-1"),
        (&["produce", "t", "--timeout", "0"], "seconds"),
        (&["produce", "t", "--timeout=-1"], "seconds"),
        (&["produce", "t", "-X", "=5"], "NAME=VALUE"),
        (&["produce", "t", "-X", "acks"], "NAME=VALUE"),
        (&["produce", "t", "-X", "batch.size=-1"], "-1"),
        (&["produce", "t", "-X", "max.in.flight=0"], "least"),
        (&["produce", "t", "-X", "security.protocol=TLS"], "SASL_SSL"),
        (&["produce", "t", "-X", "ssl.truststore.location=/x"], "security.protocol"),
        (&["produce", "t", "-X", "sasl.username=x"], "security.protocol"),
        (&["produce", "t", "-b", ""], "empty"),
        (&["produce", "t", "-b", ":9092"], "host"),
        (&["produce", "t", "-b", "a:99999"], "65535"),
        (&["produce", "t", "/"], "directory"),
        (&["produce", "t", "-F", "/"], "directory"),
        (&["consume", "t", "-c", "-1"], "-1"),
        (&["consume", "t", "-o", "stored"], "stored"),
        (&["consume", "t", "-o", "@-1"], "-1"),
        (&["consume", "t", "-o", "@1700000000"], "2023-11-14T22:13:20Z"),
        (&["consume", "t", "--until", "@1700000000"], "1970-01-20"),
        (&["consume", "t", "-o", "0=e@1700000000000"], "e@"),
        (&["consume", "t", "-o", "e@1700000000000", "-e"], "--until"),
        (&["consume", "t", "-o", "5", "-o", "6"], "twice"),
        (&["topics", "create", "t", "-p", "0"], "0"),
        (&["topics", "create", "t", "-c", "x"], "NAME=VALUE"),
        (&["broker", "--host", ""], "--host"),
        (&["broker", "--advertised-host", "kafka:9092"], "without a port"),
        (&["broker", "--nodes", "3", "--port", "65534"], "65535"),
        (&["broker", "--port", "0", "--topic", "not/valid"], "not/valid"),
    ] {
        assert_fails(&milena(args), 2, says);
    }
}

#[test]
fn wrong_input_that_the_broker_refuses_is_2() {
    let cluster = Cluster::start(&[]);
    assert_fails(&cluster.run(&["topics", "create", "not/valid"], ""), 2, "not/valid");
    assert_fails(&cluster.run(&["topics", "create", ""], ""), 2, "");
    assert_fails(&cluster.run(&["topics", "create", "t", "-c", "no.such.config=1"], ""), 2, "no.such.config");
    assert_fails(&cluster.run(&["topics", "create", "t", "-r", "7"], ""), 2, "replica");
    assert_fails(&cluster.run(&["produce", "not/valid"], "x"), 2, "not/valid");
    assert_fails(&cluster.run(&["consume", "not/valid"], ""), 2, "not/valid");
    assert_fails(&cluster.run(&["topics", "describe", "not/valid"], ""), 2, "not/valid");
}

#[test]
fn a_log_filter_that_is_none_is_2() {
    for wanted in ["nonsense", "warn,nonsense", "milena=loud"] {
        let run = milena_with(&["topics", "list"], &[("MILENA_LOG", wanted)]);
        assert_fails(&run, 2, "MILENA_LOG");
    }
}

#[test]
fn a_misspelt_cluster_in_the_environment_is_2_and_properties_come_before_it() {
    let args = ["topics", "list", "--timeout", "5"];
    assert_fails(&milena_with(&args, &[("MILENA_BOOTSTRAP", "a:b")]), 2, "a:b");
    let named = [&args[..], &["-X", "bootstrap.servers=c:d"]].concat();
    assert_fails(&milena_with(&named, &[("MILENA_BOOTSTRAP", "a:b")]), 2, "c:d");
}

#[test]
fn what_is_not_there_is_4() {
    let cluster = Cluster::start(&[]);
    assert_fails(&cluster.run(&["consume", "nowhere"], ""), 4, "nowhere");
    assert_fails(&cluster.run(&["produce", "nowhere"], "x\n"), 4, "nowhere");
    assert_fails(&cluster.run(&["topics", "describe", "nowhere"], ""), 4, "nowhere");
    assert_fails(&cluster.run(&["topics", "delete", "nowhere"], ""), 4, "nowhere");
    assert_fails(&cluster.run(&["produce", "t", "/no/such/file"], ""), 4, "/no/such/file");
    assert_fails(&milena(&["demo", "--data", "/no/such/file"]), 4, "/no/such/file");
    assert_fails(&milena(&["topics", "list", "-F", "/no/such/file"]), 4, "/no/such/file");
    // Whoever deletes a topic is not told to create it.
    let run = cluster.run(&["topics", "delete", "nowhere"], "");
    assert!(!run.stderr.contains("reate"), "{}", run.stderr);
}

#[test]
fn nobody_there_is_6_and_soon() {
    // Bound and not listening: the port is ours, and connections to it are refused.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = listener.local_addr().unwrap().to_string();
    drop(listener);
    for args in [&["topics", "list"][..], &["consume", "t"], &["produce", "t"], &["demo"]] {
        let started = Instant::now();
        let run = milena(&[args, &["--bootstrap", &nobody, "--timeout", "5"]].concat());
        assert_fails(&run, 6, &nobody);
        assert!(started.elapsed().as_secs() < 20, "{args:?} took {:?}", started.elapsed());
    }
}

#[test]
fn a_silent_peer_is_6_at_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let run = milena(&["topics", "list", "-b", &address, "--timeout", "1"]);
    assert_fails(&run, 6, &address);
}

#[test]
fn help_and_version_are_0() {
    for args in [&["--help"][..], &["--version"], &["consume", "--help"], &["demo", "-h"]] {
        let run = milena(args);
        assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""), "{args:?}");
    }
    let help = String::from_utf8(milena(&["--help"]).stdout).unwrap();
    for line in ["  6  timeout, or the cluster cannot be reached", "130  interrupted (Ctrl-C)"] {
        assert!(help.contains(line), "{help}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_stderr_changes_no_exit_code() {
    let cluster = Cluster::start(&["--topic", "t"]);
    let gone = "127.0.0.1:1";
    for (args, code) in [
        (format!("topics list -b {gone} --timeout 2"), 6),
        (format!("topics describe nowhere -b {}", cluster.bootstrap), 4),
        (format!("produce t /dev/null -X group.id=g -b {}", cluster.bootstrap), 0),
    ] {
        let script = format!("exec {BINARY} {args} 2>/dev/full");
        let mut process = Process::spawn_program("sh", &["-c", &script]);
        process.close_stdin();
        assert_eq!(process.wait().code, Some(code), "{args}");
    }
}

#[test]
fn a_transactional_id_is_refused_where_nothing_is_transactional() {
    let cluster = Cluster::start(&[]);
    cluster.ok(&["topics", "create", "t"], "");
    assert_fails(&cluster.run(&["produce", "t", "-X", "transactional.id=a"], "x\n"), 2, "transactional.id=a");
}
