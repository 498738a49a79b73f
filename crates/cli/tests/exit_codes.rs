//! The exit codes that `--help` promises, each from a real run.

mod harness;

use std::net::TcpListener;
use std::time::Instant;

use harness::{Cluster, assert_fails, milena};

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
    ] {
        assert_fails(&milena(args), 2, says);
    }
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
