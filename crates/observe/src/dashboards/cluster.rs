//! The board and the alert rules of a cluster, as `milena exporter` sees it under milena's names.

use super::board::{Board, Panel, Row, Shown};
use super::expr::Scope;
use super::rules::{Rule, Severity};
use crate::exporter::names::{
    BROKERS, CATCH_UP, COMMITTED, DIR_BYTES, DIR_USABLE, DIR_VOLUME, END, FAILED, GROUP_STATUS, HELD_BACK,
    HELD_SECONDS, IN_SYNC, LAG, LAG_SECONDS, LEADER, LOOK_SECONDS, LOOKED_AT, MEMBERS, PARTITION_STATUS,
    PARTITIONS, REPLICAS, START, STATE, TOPIC_BYTES, UNPROCESSED, UP,
};
use crate::exporter::probe;

const ALL: Scope = Scope::BOARD;
const RULE: Scope = Scope::RULE;
/// Burrow's number of a group that stopped, and of the worst status of a group.
const STOP: u8 = 4;
const ERR: u8 = 3;

/// How much gauges that only count up grow a second.
fn pace(family: &milena::metrics::Family, by: &[&str]) -> String {
    format!("clamp_min(sum by ({}) (deriv({}[5m])), 0)", by.join(", "), ALL.gauge(family))
}

/// Replicas that are not in sync.
fn behind(scope: Scope, by: &[&str]) -> String {
    format!("{} - {}", scope.sum(&REPLICAS, by), scope.sum(&IN_SYNC, by))
}

pub(super) fn board() -> Board {
    Board {
        uid: "milena-cluster",
        title: "Milena: cluster",
        description: "Topics, groups and their lag, and a probe, as milena exporter sees them from outside.",
        rows: vec![
            Row {
                title: "Is the cluster whole?",
                panels: vec![
                    Panel::number("Brokers", Shown::Count, ALL.most(&BROKERS, &[])),
                    Panel::number("Partitions", Shown::Count, ALL.sum(&PARTITIONS, &[])),
                    Panel::number("Partitions without a leader", Shown::Count, leaderless(ALL)),
                    Panel::number("Replicas not in sync", Shown::Count, behind(ALL, &[])),
                ],
            },
            Row {
                title: "What is written and kept?",
                panels: vec![
                    Panel::lines("Records written", Shown::PerSecond, pace(&END, &["topic"]), "{{topic}}"),
                    Panel::lines(
                        "Records kept",
                        Shown::Count,
                        format!("{} - {}", ALL.sum(&END, &["topic"]), ALL.sum(&START, &["topic"])),
                        "{{topic}}",
                    )
                    .help("From the first offset to the last; gaps of compaction and transactions count."),
                    Panel::lines("Kept, in bytes", Shown::Bytes, ALL.sum(&TOPIC_BYTES, &["topic"]), "{{topic}}")
                        .help("All replicas together. The exporter needs the right Describe on the cluster to see them."),
                    Panel::lines(
                        "Disks of brokers",
                        Shown::Bytes,
                        ALL.sum(&DIR_BYTES, &["broker", "directory"]),
                        "{{broker}} {{directory}} used",
                    )
                    .and(ALL.least(&DIR_USABLE, &["broker", "directory"]), "{{broker}} {{directory}} free")
                    .help("What replicas take, and what is free on the volume; brokers before Kafka 3.3 do not tell the latter."),
                ],
            },
            Row {
                title: "Do transactions hold readers up?",
                panels: vec![
                    Panel::lines(
                        "Held back, in offsets",
                        Shown::Count,
                        ALL.sum(&HELD_BACK, &["topic"]),
                        "{{topic}}",
                    )
                    .help("From the last stable offset to the end: consumers with read_committed do not get these yet."),
                    Panel::lines("Held back, in time", Shown::Seconds, ALL.most(&HELD_SECONDS, &["topic"]), "{{topic}}")
                        .help("For how long the last stable offset has not moved."),
                ],
            },
            Row {
                title: "Do groups keep up?",
                panels: vec![
                    Panel::lines(
                        "Behind, in time",
                        Shown::Seconds,
                        ALL.most(&LAG_SECONDS, &["group", "topic"]),
                        "{{group}} {{topic}}",
                    ),
                    Panel::lines("Behind, in offsets", Shown::Count, ALL.sum(&LAG, &["group"]), "{{group}}")
                        .and(ALL.sum(&UNPROCESSED, &["group"]), "{{group}} not processed"),
                    Panel::lines(
                        "Until it has caught up",
                        Shown::Seconds,
                        ALL.most(&CATCH_UP, &["group"]),
                        "{{group}}",
                    ),
                    Panel::lines("Commits", Shown::PerSecond, pace(&COMMITTED, &["group"]), "{{group}}")
                        .help("How fast committed offsets rise."),
                ],
            },
            Row {
                title: "How are groups?",
                panels: vec![
                    Panel::lines("Status", Shown::Count, ALL.most(&GROUP_STATUS, &["group"]), "{{group}}")
                        .help("Burrow's: 1 well, 2 slower than what is written, 3 a partition stopped, stalled or went back."),
                    Panel::lines(
                        "Partitions that are not well",
                        Shown::Count,
                        format!("count by (group) ({} > 1) or sum by (group) ({}) * 0", ALL.gauge(&PARTITION_STATUS), ALL.gauge(&GROUP_STATUS)),
                        "{{group}}",
                    ),
                    Panel::lines("Members", Shown::Count, ALL.sum(&MEMBERS, &["group"]), "{{group}}"),
                    Panel::lines(
                        "Groups, by state",
                        Shown::Count,
                        ALL.sum(&STATE, &["state"]),
                        "{{state}}",
                    ),
                ],
            },
            Row {
                title: "Does a record get through?",
                panels: vec![
                    Panel::lines(
                        "From writing to reading",
                        Shown::Seconds,
                        ALL.quantile(0.99, &probe::END_TO_END, &[]),
                        "read, 99 %",
                    )
                    .and(ALL.quantile(0.99, &probe::ACK, &[]), "acknowledged, 99 %"),
                    Panel::lines("Probes", Shown::PerSecond, ALL.rate(&probe::WRITTEN, &[]), "written")
                        .and(ALL.rate(&probe::READ, &[]), "read")
                        .and(ALL.rate(&probe::FAILED, &[]), "not written")
                        .and(ALL.rate(&probe::LATE, &[]), "late")
                        .and(ALL.rate(&probe::LOST, &[]), "lost"),
                    Panel::lines("Time of a look at the cluster", Shown::Seconds, ALL.most(&LOOK_SECONDS, &[]), "")
                        .and(format!("time() - {}", ALL.least(&LOOKED_AT, &[])), "age of what is shown")
                        .and(ALL.rate(&FAILED, &[]), "failed looks a second")
                        .help("The exporter keeps what it saw at its last look; milena_exporter_up is 0 while looks fail."),
                ],
            },
        ],
    }
}

fn leaderless(scope: Scope) -> String {
    format!("count({} < 0) or vector(0)", scope.gauge(&LEADER))
}

pub(super) fn rules() -> Vec<Rule> {
    use Severity::{Critical, Warning};
    let rule = |alert, severity, lasts, expr, summary| Rule { alert, expr, lasts, severity, summary };
    vec![
        rule(
            "MilenaExporterBlind",
            Warning,
            "2m",
            format!("{} < 1", RULE.least(&UP, &["job", "instance"])),
            "{{ $labels.instance }} cannot look at its cluster",
        ),
        rule(
            "MilenaGroupBehind",
            Warning,
            "10m",
            format!("{} > 300", RULE.most(&LAG_SECONDS, &["job", "group", "topic"])),
            "{{ $labels.group }} is {{ $value | humanizeDuration }} behind in {{ $labels.topic }}",
        ),
        rule(
            "MilenaGroupStopped",
            Critical,
            "1m",
            format!("{} == {STOP}", RULE.gauge(&PARTITION_STATUS)),
            "{{ $labels.group }} has stopped committing {{ $labels.topic }}-{{ $labels.partition }}, and what is written waits",
        ),
        rule(
            "MilenaGroupUnwell",
            Warning,
            "5m",
            format!("{} >= {ERR}", RULE.gauge(&GROUP_STATUS)),
            "Partitions of {{ $labels.group }} stopped, stalled or went back",
        ),
        rule(
            "MilenaPartitionsOffline",
            Critical,
            "1m",
            format!("count by (job) ({} < 0) > 0", RULE.gauge(&LEADER)),
            "{{ $value }} partitions have no leader",
        ),
        rule(
            "MilenaReplicasBehind",
            Warning,
            "10m",
            format!("{} > 0", behind(RULE, &["job", "topic"])),
            "{{ $value }} replicas of {{ $labels.topic }} are not in sync",
        ),
        rule(
            "MilenaTransactionHangs",
            Warning,
            "0m",
            // Kafka's transaction.max.timeout.ms: no transaction that is looked after lasts longer.
            format!("{} > 900", RULE.most(&HELD_SECONDS, &["job", "topic", "partition"])),
            "A transaction has held {{ $labels.topic }}-{{ $labels.partition }} back for {{ $value | humanizeDuration }}",
        ),
        rule(
            "MilenaDiskFull",
            Critical,
            "5m",
            format!("{} / {} < 0.1", RULE.gauge(&DIR_USABLE), RULE.gauge(&DIR_VOLUME)),
            "{{ $value | humanizePercentage }} of {{ $labels.directory }} on broker {{ $labels.broker }} are free",
        ),
        rule(
            "MilenaProbeLost",
            Critical,
            "0m",
            format!("{} > 0", RULE.increase(&probe::LOST, &["job", "instance"])),
            "A record that was acknowledged did not come back to {{ $labels.instance }}",
        ),
    ]
}
