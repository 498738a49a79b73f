//! Real Prometheus and Alertmanager as processes. Debian's packages `prometheus` and `prometheus-alertmanager` bring them;
//! `.ci/run install` installs them.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::DEADLINE;

/// Whether the programs are there.
pub fn is_installed() -> bool {
    let is_there = |program: &str| {
        let run = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        run.is_ok_and(|status| status.success())
    };
    let all = ["prometheus", "promtool", "prometheus-alertmanager"];
    let missing: Vec<&str> = all.into_iter().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        eprintln!("NOTE: nothing is tested, because {missing:?} are not installed");
    }
    missing.is_empty()
}

/// A program that ends when this is dropped.
pub struct Server(Child);

impl Server {
    pub fn start(program: &str, args: &[String]) -> Self {
        let mut command = Command::new(program);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self(command.spawn().expect("starts"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("has one").to_string()
}

/// The body of the answer, or nothing if nobody answers yet.
pub fn get(address: &str, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(DEADLINE)).ok()?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    (head.split(' ').nth(1)? == "200").then(|| body.to_owned())
}

pub fn json(address: &str, path: &str) -> Value {
    let body = until(|| get(address, path));
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"))
}

/// Waits for something to be there.
pub fn until<T>(find: impl Fn() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = find() {
            return found;
        }
        assert!(begun.elapsed() < DEADLINE, "it did not come");
        std::thread::sleep(Duration::from_millis(50));
    }
}

pub fn query(address: &str, expr: &str) -> Value {
    let mut encoded = String::new();
    for byte in expr.bytes() {
        write!(encoded, "%{byte:02x}").expect("is written");
    }
    let answer = json(address, &format!("/api/v1/query?query={encoded}"));
    assert_eq!(answer["status"], "success", "{expr}: {answer}");
    answer["data"]["result"].clone()
}

pub fn promtool(args: &[&str], stdin: &str) {
    let mut command = Command::new("promtool");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut tool = command.spawn().expect("starts");
    tool.stdin.take().expect("is piped").write_all(stdin.as_bytes()).expect("is read");
    let ended = tool.wait_with_output().expect("ends");
    let told = [ended.stdout, ended.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(ended.status.success(), "promtool {args:?}: {told}");
}

/// Starts Alertmanager at this address. It notifies nobody, and shows what it is told.
pub fn start_alertmanager(directory: &Path, address: &str) -> Server {
    let config = directory.join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: nobody}\nreceivers: [{name: nobody}]\n").expect("is written");
    let args = [
        format!("--config.file={}", config.display()),
        format!("--web.listen-address={address}"),
        format!("--storage.path={}", directory.join("alerts").display()),
        "--cluster.listen-address=".into(),
    ];
    Server::start("prometheus-alertmanager", &args)
}

/// Starts Prometheus at this address. It asks the targets of each job and evaluates the rules twice a second.
pub fn start_prometheus(
    directory: &Path,
    address: &str,
    alertmanager: &str,
    rules: &Path,
    jobs: &[(&str, Vec<String>)],
) -> Server {
    let mut config = format!(
        "global: {{scrape_interval: 500ms, evaluation_interval: 500ms}}\n\
         rule_files: [{rules:?}]\n\
         alerting: {{alertmanagers: [{{static_configs: [{{targets: [{alertmanager:?}]}}]}}]}}\n\
         scrape_configs:\n"
    );
    for (job, targets) in jobs {
        writeln!(config, "- {{job_name: {job}, static_configs: [{{targets: {targets:?}}}]}}")
            .expect("is written");
    }
    let path = directory.join("prometheus.yml");
    std::fs::write(&path, config).expect("is written");
    promtool(&["check", "config", path.to_str().expect("text")], "");
    let args = [
        format!("--config.file={}", path.display()),
        format!("--web.listen-address={address}"),
        format!("--storage.tsdb.path={}", directory.join("series").display()),
    ];
    Server::start("prometheus", &args)
}

/// Whether it can be asked by now.
pub fn is_ready(address: &str) -> bool {
    get(address, "/-/ready").is_some()
}
