//! Alert rules as Prometheus reads them.

use std::fmt::Write as _;

use milena::metrics::families::{
    CERTIFICATE_EXPIRY, CONNECTION_FAILURES, CONSUMER_COMMIT_ERRORS, CONSUMER_LAG_SECONDS,
    CONSUMER_REBALANCES, CONSUMER_STALLED_PARTITIONS, PRODUCER_BLOCKED_SECONDS, PRODUCER_RECORD_ERRORS,
    THROTTLE_SECONDS,
};

use super::client::consumer_memory;
use super::expr::Scope;

/// An alert rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its name. docs/alerts.md has a part of the same name that says what to do.
    pub alert: &'static str,
    /// PromQL: what is not as it should be.
    pub expr: String,
    /// For how long it has to be so, such as `5m`.
    pub lasts: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong, in one line. It may name labels as Prometheus' templates do.
    pub summary: &'static str,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Someone has to look at it today.
    Warning,
    /// Someone has to look at it now.
    Critical,
}

impl Severity {
    fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

const RULE: Scope = Scope::RULE;
const WHO: &[&str] = &["job", "instance"];

/// The rules about a client.
pub(super) fn client() -> Vec<Rule> {
    use Severity::{Critical, Warning};
    let rule = |alert, severity, lasts, expr, summary| Rule { alert, expr, lasts, severity, summary };
    vec![
        rule(
            "MilenaRecordsNotWritten",
            Critical,
            "0m",
            format!("{} > 0", RULE.growth(&PRODUCER_RECORD_ERRORS, &["job", "instance", "error", "topic"])),
            "{{ $labels.instance }} could not write records to {{ $labels.topic }}: {{ $labels.error }}",
        ),
        rule(
            "MilenaProducerBlocked",
            Warning,
            "5m",
            format!("{} > 0.5", RULE.rate(&PRODUCER_BLOCKED_SECONDS, WHO)),
            "Tasks of {{ $labels.instance }} wait for memory before they can write",
        ),
        rule(
            "MilenaConsumerBehind",
            Warning,
            "10m",
            format!("{} > 300", RULE.most(&CONSUMER_LAG_SECONDS, &["job", "topic"])),
            "{{ $labels.job }} is {{ $value | humanizeDuration }} behind in {{ $labels.topic }}",
        ),
        rule(
            "MilenaPartitionsStalled",
            Critical,
            "1m",
            format!("{} > 0", RULE.sum(&CONSUMER_STALLED_PARTITIONS, WHO)),
            "{{ $labels.instance }} has records of {{ $value }} partitions that it does not take",
        ),
        rule(
            "MilenaGroupRebalances",
            Warning,
            "0m",
            format!("{} > 5", RULE.over("10m").increase(&CONSUMER_REBALANCES, WHO)),
            "The group of {{ $labels.instance }} has rebalanced more than five times in ten minutes",
        ),
        rule(
            "MilenaCommitsFail",
            Warning,
            "5m",
            format!("{} > 0", RULE.rate(&CONSUMER_COMMIT_ERRORS, &["job", "instance", "error"])),
            "Commits of {{ $labels.instance }} fail: {{ $labels.error }}",
        ),
        rule(
            "MilenaConsumerMemoryFull",
            Warning,
            "5m",
            format!("{} > 0.95", consumer_memory(RULE)),
            "{{ $labels.instance }} holds {{ $value | humanizePercentage }} of its memory for consuming",
        ),
        rule(
            "MilenaConnectionsFail",
            Critical,
            "2m",
            format!("{} > 0", RULE.over("2m").rate(&CONNECTION_FAILURES, &["job", "instance", "error"])),
            "{{ $labels.instance }} cannot connect to brokers: {{ $labels.error }}",
        ),
        rule(
            "MilenaThrottled",
            Warning,
            "5m",
            format!("{} > 0.1", RULE.rate_of_sum(&THROTTLE_SECONDS, &["job", "instance", "api"])),
            "A quota holds up {{ $labels.instance }} for {{ $value | humanizePercentage }} of the time ({{ $labels.api }})",
        ),
        rule(
            "MilenaCertificateExpires",
            Warning,
            "0m",
            format!("{} - time() < 14 * 86400", RULE.least(&CERTIFICATE_EXPIRY, &["job", "instance", "of"])),
            "A certificate ({{ $labels.of }}) that {{ $labels.instance }} uses expires in {{ $value | humanizeDuration }}",
        ),
    ]
}

/// A file of rules under one group. `runbooks`: the address of docs/alerts.md.
pub fn to_prometheus(group: &str, rules: &[Rule], runbooks: &str) -> String {
    let mut text = String::new();
    let quoted = |value: &str| serde_json::Value::from(value).to_string();
    let mut line = |indent: usize, line: String| {
        let _ = writeln!(text, "{:indent$}{line}", "");
    };
    line(0, "groups:".into());
    line(2, format!("- name: {}", quoted(group)));
    line(4, "rules:".into());
    for rule in rules {
        line(6, format!("- alert: {}", rule.alert));
        line(8, format!("expr: {}", quoted(&rule.expr)));
        line(8, format!("for: {}", rule.lasts));
        line(8, "labels:".into());
        line(10, format!("severity: {}", rule.severity.name()));
        line(8, "annotations:".into());
        line(10, format!("summary: {}", quoted(rule.summary)));
        line(10, format!("runbook_url: {}", quoted(&format!("{runbooks}#{}", rule.alert.to_lowercase()))));
    }
    text
}
