//! `milena dev` and `milena registry`, as processes.

mod harness;

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use harness::{Cluster, Process, milena};

/// Asks a registry. The answer is its status and its body.
fn ask(url: &str, method: &str, path: &str, body: &str) -> (u16, String) {
    let address = url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).expect("connects");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .expect("is written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).expect("a status");
    (status.parse().expect("a number"), body.to_owned())
}

#[test]
fn dev_is_a_broker_and_a_registry_whose_schemas_stay() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().to_str().expect("text");
    let args = ["dev", "--port", "0", "--registry-port", "0", "--data-dir", path, "--topic", "orders:2"];
    let mut dev = Process::spawn(&args, "");
    let (bootstrap, url) = (dev.stdout_line(), dev.stdout_line());
    let schema = r#"{"schema":"\"string\""}"#;
    let (status, body) = ask(&url, "POST", "/subjects/orders-value/versions", schema);
    assert!(status == 200 && body.contains(r#""id":1"#), "{status} {body}");
    let topics = String::from_utf8(milena(&["topics", "list", "-b", &bootstrap]).stdout).expect("text");
    assert!(topics.contains("orders") && topics.contains("_schemas"), "{topics}");
    dev.interrupt();
    let run = dev.wait();
    assert_eq!((run.code, run.stderr.as_str()), (Some(0), ""));

    let mut dev = Process::spawn(&args, "");
    let (_, url) = (dev.stdout_line(), dev.stdout_line());
    assert_eq!(ask(&url, "GET", "/subjects/orders-value/versions", ""), (200, "[1]".into()));
    assert_eq!(ask(&url, "GET", "/schemas/ids/1/schema", ""), (200, "\"string\"".into()));
}

#[test]
fn a_registry_runs_on_any_cluster() {
    let cluster = Cluster::start(&[]);
    let mut registry = cluster.spawn_open(&["registry", "--listen", "127.0.0.1:0", "--topic", "mine"]);
    let url = registry.stdout_line();
    assert_eq!(ask(&url, "GET", "/subjects", ""), (200, "[]".into()));
    let open = cluster.run(&["registry", "--listen", "0.0.0.0:0"], "");
    assert!(open.code == Some(2) && open.stderr.contains("--allow-anyone"), "{}", open.stderr);
    let taken = url.strip_prefix("http://").expect("a URL");
    let taken = cluster.run(&["registry", "--listen", taken], "");
    assert!(taken.code == Some(1) && taken.stderr.contains("takes a free port"), "{}", taken.stderr);
    registry.interrupt();
    assert_eq!(registry.wait().code, Some(0));
}
