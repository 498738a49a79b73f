//! Real Prometheus and Alertmanager read the metrics, the dashboards' expressions and the alert rules. Where they are missing nothing
//! is tested.

mod harness;

use std::path::Path;
use std::time::Instant;

use harness::prometheus::{
    Server, free_address, get, is_installed, json, promtool, query, start_alertmanager, start_prometheus,
    until,
};
use harness::{Cluster, DEADLINE, milena};
use milena::metrics::{Family, Registry, Unit};
use serde_json::Value;

/// The expressions of all boards, with what is chosen on top of them filled in.
fn expressions(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(directory).expect("is there") {
        let path = file.expect("is there").path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let board: Value = serde_json::from_str(&std::fs::read_to_string(path).expect("text")).expect("JSON");
        let panels = board["panels"].as_array().expect("a list").iter();
        let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
        found.extend(targets.map(|target| target["expr"].as_str().expect("text").to_owned()));
    }
    let fill = |expr: String| {
        expr.replace("$job", ".*").replace("$instance", ".*").replace("$__rate_interval", "10s")
    };
    found.into_iter().map(fill).collect()
}

/// What a run without these faults has no series of.
const FAULTS: [&str; 12] = [
    "milena_producer_record_errors_total",
    "milena_producer_retries_total",
    "milena_consumer_commit_errors_total",
    "milena_request_errors_total",
    "milena_throttle_seconds",
    "milena_connection_failures_total",
    "milena_certificate_expiry_timestamp_seconds",
    "milena_connections_closed_total",
    "milena_consumer_stalls_total",
    // A transaction of the demo is open too shortly.
    "milena_cluster_partition_held_back",
    // The embedded broker does not tell how large its volume is.
    "milena_cluster_log_dir_usable_bytes",
    // Looked at too seldom for a run as short as this.
    "milena_pipeline_oldest_dead_letter_seconds",
];

#[test]
fn prometheus_scrapes_a_demo_whose_expressions_have_data_and_whose_alert_arrives() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let boards = directory.path().join("boards");
    let boards_text = boards.to_str().expect("text");
    let [metrics, exporter, prometheus, alertmanager] = [(); 4].map(|()| free_address());
    let cluster = Cluster::start(&["--topic", "probes:1"]);
    let demo = ["demo", "pipeline", "-n", "6000", "--seconds", "20", "--fault-rate", "20"];
    let demo = [&demo[..], &["--metrics", &metrics, "--dashboards", boards_text]].concat();
    let _demo = cluster.spawn(&demo, "");
    let _exporter = cluster.spawn(&["exporter", "-l", &exporter, "-i", "1", "--probe", "probes"], "");
    let rules = boards.join("milena.rules.yml");
    until(|| rules.exists().then_some(()));
    promtool(&["check", "rules", rules.to_str().expect("text")], "");

    let _alertmanager = start_alertmanager(directory.path(), &alertmanager);
    let jobs = [("demo", vec![metrics.clone(), exporter.clone()])];
    let _prometheus = start_prometheus(directory.path(), &prometheus, &alertmanager, &rules, &jobs);

    promtool(&["check", "metrics"], &until(|| get(&metrics, "/metrics")));
    promtool(&["check", "metrics"], &until(|| get(&exporter, "/metrics")));
    // The demo gives records up, and says so by an alert.
    let alert = until(|| {
        let alerts = json(&alertmanager, "/api/v2/alerts");
        let mut alerts = alerts.as_array()?.iter();
        alerts.find(|alert| alert["labels"]["alertname"] == "MilenaDeadLetters").cloned()
    });
    assert_eq!(alert["annotations"]["runbook_url"], "docs/alerts.md#milenadeadletters");
    // All of them at the same moment have data, but for those whose faults did not happen.
    let all = expressions(&boards);
    assert!(all.len() > 50, "{} expressions", all.len());
    let is_of_fault = |expr: &str| FAULTS.iter().any(|family| expr.contains(family));
    let (begun, mut fewest) = (Instant::now(), all.len());
    loop {
        let is_empty = |expr: &&String| query(&prometheus, expr).as_array().is_none_or(Vec::is_empty);
        let empty: Vec<&String> = all.iter().filter(is_empty).collect();
        let wrong: Vec<_> = empty.iter().filter(|expr| !is_of_fault(expr)).collect();
        fewest = fewest.min(wrong.len());
        if wrong.is_empty() {
            eprintln!("{} of {} expressions are about faults that did not happen", empty.len(), all.len());
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "at least {fewest} had no data, now {wrong:#?}");
    }
}

static PAID: Family = Family::histogram("shop_payment_seconds", "How long a payment took.")
    .in_unit(Unit::Seconds)
    .labelled(&["bank"], 0);

#[tokio::test(flavor = "multi_thread")]
async fn quantiles_of_native_histograms_are_those_of_the_values() {
    if !is_installed() {
        return;
    }
    let registry = Registry::new();
    let (even, skewed) = (registry.histogram(&PAID, &["even"]), registry.histogram(&PAID, &["skewed"]));
    // Even over five powers of ten, and most of them small with a long tail.
    let exact = |record: &dyn Fn(u64), value: &dyn Fn(f64) -> f64| {
        let values: Vec<f64> =
            (0..10_000).map(|number| value((f64::from(number) + 0.5) / 10_000.0)).collect();
        values.iter().for_each(|seconds| record((seconds * 1e9) as u64));
        values[9900]
    };
    let expected = [
        ("even", exact(&|nanos| even.record(nanos), &|part| 1e-4 * 1e5_f64.powf(part))),
        ("skewed", exact(&|nanos| skewed.record(nanos), &|part| 0.002 / (1.0 - part))),
    ];
    let server = milena_observe::serve("127.0.0.1:0", registry).await.expect("listens");
    let (directory, prometheus) = (tempfile::tempdir().expect("a directory"), free_address());
    let config = directory.path().join("prometheus.yml");
    let text = format!(
        "global: {{scrape_interval: 500ms}}\n\
         scrape_configs: [{{job_name: shop, static_configs: [{{targets: [{:?}]}}]}}]\n",
        server.address().to_string()
    );
    std::fs::write(&config, text).expect("is written");
    let _prometheus = Server::start(
        "prometheus",
        &[
            format!("--config.file={}", config.display()),
            format!("--web.listen-address={prometheus}"),
            format!("--storage.tsdb.path={}", directory.path().join("series").display()),
            "--enable-feature=native-histograms".into(),
        ],
    );
    // It asks and waits, and the server is on this runtime.
    let asked = tokio::task::spawn_blocking(move || {
        let ask = |expr: &str| {
            let found = query(&prometheus, expr);
            found[0]["value"][1].as_str().and_then(|value| value.parse::<f64>().ok())
        };
        for (bank, p99) in expected {
            let of = format!("shop_payment_seconds{{bank=\"{bank}\"}}");
            // Only native histograms have this.
            assert_eq!(until(|| ask(&format!("histogram_count({of})"))), 10_000.0);
            let found = until(|| ask(&format!("histogram_quantile(0.99, {of})")));
            let error = found / p99 - 1.0;
            eprintln!(
                "{bank}: p99 is {p99:.4} s, and Prometheus says {found:.4} s, {:.2} % off",
                error * 100.0
            );
            // Ours are within 1.6 %, and a bucket of schema 5 is 2.2 % wide.
            assert!(error.abs() < 0.038, "{bank}: {found} in place of {p99}");
            let sum = ask(&format!("histogram_sum({of})")).expect("has one");
            assert!(sum > 0.0);
        }
        // It took the native buckets in place of the classic ones.
        assert_eq!(ask("count(shop_payment_seconds_bucket)"), None);
    });
    asked.await.expect("ends");
    drop(server);
}

/// What makes an alert, and what its labels are: `series` for ten minutes, and `after` for an hour.
struct Case {
    alert: &'static str,
    severity: &'static str,
    labels: &'static str,
    series: &'static [(&'static str, &'static str, &'static str)],
}

/// Each alert comes and goes. `promtool` plays the series: values each 15 seconds, 40 while it lasts and 240 after it.
const CASES: &[Case] = &[
    Case {
        alert: "MilenaRecordsNotWritten",
        severity: "critical",
        labels: r#"error="TIMEOUT",instance="i",job="j",topic="t""#,
        series: &[(
            r#"milena_producer_record_errors_total{job="j",instance="i",error="TIMEOUT",topic="t"}"#,
            // The first error makes the series, and there is no other.
            "_x30 1x10",
            "1x240",
        )],
    },
    Case {
        alert: "MilenaProducerBlocked",
        severity: "warning",
        labels: r#"instance="i",job="j""#,
        series: &[(r#"milena_producer_blocked_seconds_total{job="j",instance="i"}"#, "0+15x40", "600x240")],
    },
    Case {
        alert: "MilenaConsumerBehind",
        severity: "warning",
        labels: r#"job="j",topic="t""#,
        series: &[(
            r#"milena_consumer_lag_seconds{job="j",instance="i",topic="t",partition="0"}"#,
            "301x60",
            "0x240",
        )],
    },
    Case {
        alert: "MilenaPartitionsStalled",
        severity: "critical",
        labels: r#"instance="i",job="j""#,
        series: &[(r#"milena_consumer_stalled_partitions{job="j",instance="i"}"#, "1x40", "0x240")],
    },
    Case {
        alert: "MilenaGroupRebalances",
        severity: "warning",
        labels: r#"instance="i",job="j""#,
        series: &[(
            r#"milena_consumer_rebalances_total{job="j",instance="i",reason="revoke"}"#,
            "0+1x40",
            "40x240",
        )],
    },
    Case {
        alert: "MilenaCommitsFail",
        severity: "warning",
        labels: r#"error="E",instance="i",job="j""#,
        series: &[(
            r#"milena_consumer_commit_errors_total{job="j",instance="i",error="E"}"#,
            "0+1x40",
            "40x240",
        )],
    },
    Case {
        alert: "MilenaConsumerMemoryFull",
        severity: "warning",
        labels: r#"instance="i",job="j""#,
        series: &[
            (r#"milena_consumer_memory_bytes{job="j",instance="i"}"#, "99x40", "5x240"),
            (r#"milena_consumer_memory_limit_bytes{job="j",instance="i"}"#, "100x40", "100x240"),
        ],
    },
    Case {
        alert: "MilenaConnectionsFail",
        severity: "critical",
        labels: r#"error="E",instance="i",job="j""#,
        series: &[(
            r#"milena_connection_failures_total{job="j",instance="i",error="E"}"#,
            "0+1x40",
            "40x240",
        )],
    },
    Case {
        alert: "MilenaThrottled",
        severity: "warning",
        labels: r#"api="Fetch",instance="i",job="j""#,
        series: &[(r#"milena_throttle_seconds_sum{job="j",instance="i",api="Fetch"}"#, "0+3x40", "120x240")],
    },
    Case {
        alert: "MilenaCertificateExpires",
        severity: "warning",
        labels: r#"instance="i",job="j",of="client""#,
        series: &[(
            r#"milena_certificate_expiry_timestamp_seconds{job="j",instance="i",of="client"}"#,
            "86400x40",
            "31536000x240",
        )],
    },
    Case {
        alert: "MilenaExporterBlind",
        severity: "warning",
        labels: r#"instance="i",job="j""#,
        series: &[(r#"milena_exporter_up{job="j",instance="i"}"#, "0x40", "1x240")],
    },
    Case {
        alert: "MilenaGroupBehind",
        severity: "warning",
        labels: r#"group="g",job="j",topic="t""#,
        series: &[(
            r#"milena_cluster_group_lag_seconds{job="j",instance="i",group="g",topic="t",partition="0"}"#,
            "301x60",
            "0x240",
        )],
    },
    Case {
        alert: "MilenaGroupStopped",
        severity: "critical",
        labels: r#"group="g",instance="i",job="j",partition="0",topic="t""#,
        series: &[(
            r#"milena_cluster_group_partition_status{job="j",instance="i",group="g",topic="t",partition="0"}"#,
            "4x40",
            "1x240",
        )],
    },
    Case {
        alert: "MilenaGroupUnwell",
        severity: "warning",
        labels: r#"group="g",instance="i",job="j""#,
        series: &[(r#"milena_cluster_group_status{job="j",instance="i",group="g"}"#, "3x40", "1x240")],
    },
    Case {
        alert: "MilenaPartitionsOffline",
        severity: "critical",
        labels: r#"job="j""#,
        series: &[(
            r#"milena_cluster_partition_leader{job="j",instance="i",topic="t",partition="0"}"#,
            "-1x40",
            "1x240",
        )],
    },
    Case {
        alert: "MilenaReplicasBehind",
        severity: "warning",
        labels: r#"job="j",topic="t""#,
        series: &[
            (
                r#"milena_cluster_partition_replicas{job="j",instance="i",topic="t",partition="0"}"#,
                "3x60",
                "3x240",
            ),
            (
                r#"milena_cluster_partition_in_sync_replicas{job="j",instance="i",topic="t",partition="0"}"#,
                "2x60",
                "3x240",
            ),
        ],
    },
    Case {
        alert: "MilenaTransactionHangs",
        severity: "warning",
        labels: r#"job="j",partition="0",topic="t""#,
        series: &[(
            r#"milena_cluster_partition_held_back_seconds{job="j",instance="i",topic="t",partition="0"}"#,
            "901x40",
            "0x240",
        )],
    },
    Case {
        alert: "MilenaDiskFull",
        severity: "critical",
        labels: r#"broker="1",directory="/d",instance="i",job="j""#,
        series: &[
            (
                r#"milena_cluster_log_dir_usable_bytes{job="j",instance="i",broker="1",directory="/d"}"#,
                "9x40",
                "90x240",
            ),
            (
                r#"milena_cluster_log_dir_volume_bytes{job="j",instance="i",broker="1",directory="/d"}"#,
                "100x40",
                "100x240",
            ),
        ],
    },
    Case {
        alert: "MilenaProbeLost",
        severity: "critical",
        labels: r#"instance="i",job="j""#,
        series: &[(r#"milena_probe_lost_total{job="j",instance="i"}"#, "0+1x40", "40x240")],
    },
    Case {
        alert: "MilenaDeadLetters",
        severity: "warning",
        labels: r#"group="g",job="j""#,
        series: &[(
            r#"milena_pipeline_dead_letters_total{job="j",instance="i",group="g"}"#,
            "0+1x40",
            "40x240",
        )],
    },
    Case {
        alert: "MilenaDeadLetterRatio",
        severity: "critical",
        labels: r#"group="g",job="j""#,
        series: &[
            (r#"milena_pipeline_dead_letters_total{job="j",instance="i",group="g"}"#, "0+1x40", "40x240"),
            (r#"milena_pipeline_finished_total{job="j",instance="i",group="g"}"#, "0+50x40", "2000+50x240"),
        ],
    },
    Case {
        alert: "MilenaOldDeadLetters",
        severity: "warning",
        labels: r#"group="g",job="j""#,
        series: &[(
            r#"milena_pipeline_oldest_dead_letter_seconds{job="j",instance="i",group="g"}"#,
            "90000x40",
            "0x240",
        )],
    },
    Case {
        alert: "MilenaPipelineHeld",
        severity: "critical",
        labels: r#"group="g",job="j""#,
        series: &[(r#"milena_pipeline_held{job="j",instance="i",group="g"}"#, "1x40", "0x240")],
    },
    Case {
        alert: "MilenaRecordsStuck",
        severity: "critical",
        labels: r#"group="g",job="j""#,
        series: &[(r#"milena_pipeline_stalled_records{job="j",instance="i",group="g"}"#, "1x40", "0x240")],
    },
    Case {
        alert: "MilenaRetryBacklog",
        severity: "warning",
        labels: r#"delay="5s",group="g",job="j""#,
        series: &[
            (
                r#"milena_pipeline_retry_topic_written_total{job="j",instance="i",group="g",delay="5s"}"#,
                "20000x60",
                "20000x240",
            ),
            (
                r#"milena_pipeline_retry_topic_finished_total{job="j",instance="i",group="g",delay="5s"}"#,
                "0x60",
                "20000x240",
            ),
        ],
    },
];

#[test]
fn each_alert_fires_and_is_resolved() {
    if !is_installed() {
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().to_str().expect("text");
    let run = milena(&["dashboards", path]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    let text = std::fs::read_to_string(directory.path().join("milena.rules.yml")).expect("text");
    for line in text.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(CASES.iter().any(|case| case.alert == line), "{line} is not tested");
    }
    let mut tests = "rule_files: [milena.rules.yml]\nevaluation_interval: 15s\ntests:\n".to_owned();
    for Case { alert, severity, labels, series } in CASES {
        let firing = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}");
        tests += "- interval: 15s\n  input_series:\n";
        let quoted = |text: &str| Value::from(text).to_string();
        for (name, during, after) in *series {
            let values = quoted(&format!("{during} {after}"));
            tests += &format!("  - {{series: {}, values: {values}}}\n", quoted(name));
        }
        let told = quoted(&format!(
            "ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",severity=\"{severity}\",{labels}}}"
        ));
        tests += "  promql_expr_test:\n";
        // Some lasts fifteen minutes, and looks back for ten.
        let at = if during_minutes(series) > 10 { 14 } else { 9 };
        tests += &format!(
            "  - {{expr: {}, eval_time: {at}m, exp_samples: [{{labels: {told}, value: 1}}]}}\n",
            quoted(&firing)
        );
        tests += &format!("  - {{expr: {}, eval_time: 60m, exp_samples: []}}\n", quoted(&firing));
    }
    let file = directory.path().join("tests.yml");
    std::fs::write(&file, tests).expect("is written");
    promtool(&["test", "rules", file.to_str().expect("text")], "");
}

/// For how long the series of an alert are as they should not be.
fn during_minutes(series: &[(&str, &str, &str)]) -> usize {
    let count = series[0].1.rsplit('x').next().expect("a count");
    count.parse::<usize>().expect("a number") / 4
}
