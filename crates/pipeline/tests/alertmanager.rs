//! A real Alertmanager takes our alerts. Debian's package `prometheus-alertmanager` brings it; `.ci/run install` installs it. Where
//! it is missing nothing is tested.

#![cfg(all(feature = "webhook", target_os = "linux"))]

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use milena::http::{Http, HttpSettings, Request};
use milena_pipeline::alerts::{Alerts, Rule, Snapshot, Webhook};
use serde_json::Value;

const PROGRAM: &str = "prometheus-alertmanager";
const PATIENCE: Duration = Duration::from_secs(60);

/// It ends with the test.
struct Manager(Child);

impl Drop for Manager {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What is answered at an address, once `is_it` says that it is the right thing.
async fn until(address: &str, is_it: impl Fn(&Value) -> bool) -> Value {
    let http = Http::new(HttpSettings::default().http_to_loopback());
    let request = Request::get(address.parse().expect("a URL"));
    let asked = async {
        loop {
            if let Ok(response) = http.send(&request).await {
                let value = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
                if response.status() == 200 && is_it(&value) {
                    return value;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.expect("it comes to be so")
}

fn is_installed() -> bool {
    let run = Command::new(PROGRAM).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    let is_there = run.is_ok_and(|status| status.success());
    if !is_there {
        eprintln!("NOTE: nothing is tested, because {PROGRAM} is not installed");
    }
    is_there
}

#[tokio::test]
async fn alertmanager_shows_an_alert_until_it_is_resolved() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let config = directory.path().join("alertmanager.yml");
    std::fs::write(&config, "route: {receiver: none}\nreceivers: [{name: none}]\n").expect("written");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("bound").port();
    let child = Command::new(PROGRAM)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.path={}", directory.path().display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .arg("--cluster.listen-address=")
        .stderr(Stdio::null())
        .spawn()
        .expect("it is installed");
    let _manager = Manager(child);
    let address = format!("http://127.0.0.1:{port}");
    until(&format!("{address}/-/ready"), |_| true).await;

    let backlog: &'static Mutex<u64> = Box::leak(Box::new(Mutex::new(0)));
    let handle = Alerts::of("billing")
        .rule(Rule::retry_backlog(10).resolve_after(Duration::ZERO))
        .to(Webhook::alertmanager(&address).expect("a URL"))
        .every(Duration::from_millis(5))
        .watch_with(|| {
            let mut snapshot = Snapshot::default();
            snapshot.retry_backlog = *backlog.lock().expect("no panic");
            snapshot
        })
        .expect("rules");
    *backlog.lock().expect("no panic") = 11;
    let alerts = format!("{address}/api/v2/alerts");
    let shown = until(&alerts, |alerts| alerts.as_array().is_some_and(|alerts| alerts.len() == 1)).await;
    let of = |pointer: &str| shown.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
    assert_eq!(of("/0/labels/alertname"), "RetryBacklog");
    assert_eq!(of("/0/labels/pipeline"), "billing");
    assert_eq!(of("/0/annotations/summary"), "11 records wait for another attempt; the limit is 10");
    let opened = handle.open().remove(0);
    assert!(of("/0/startsAt") < of("/0/endsAt"), "{shown}");
    assert!(!opened.is_resolved());

    *backlog.lock().expect("no panic") = 0;
    until(&alerts, |alerts| alerts.as_array().is_some_and(Vec::is_empty)).await;
    let stats = handle.close(PATIENCE).await;
    assert_eq!((stats.opened, stats.resolved, stats.delivered, stats.failed_attempts), (1, 1, 2, 0));
}
