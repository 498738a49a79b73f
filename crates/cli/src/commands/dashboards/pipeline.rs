//! The board and the alert rules of pipelines. They are here because `observe` does not know pipelines, nor they it.

use milena::metrics::Family;
use milena_observe::dashboards::{Board, Panel, Row, Rule, Scope, Severity, Shown};
use milena_pipeline::metrics::{
    ASIDE_FAILURES, CONCURRENCY, DEAD_LETTERS, EXPIRED_ATTEMPTS, FAILED_ATTEMPTS, FINISHED, HANDLER_SECONDS,
    HELD, OLDEST_DEAD_LETTER, RECORDS, RETRIES, RETRY_FINISHED, RETRY_WRITTEN, SKIPPED, STALLED_RECORDS,
};

const ALL: Scope = Scope::BOARD;
const RULE: Scope = Scope::RULE;
const GROUP: &[&str] = &["group"];

pub(super) fn board() -> Board {
    let rate =
        |title, family: &Family| Panel::lines(title, Shown::PerSecond, ALL.rate(family, GROUP), "{{group}}");
    Board {
        uid: "milena-pipeline",
        title: "Milena: pipeline",
        description: "What workers process, what fails, what is tried again, and what ends in the dead letters.",
        rows: vec![
            Row {
                title: "What is processed?",
                panels: vec![
                    Panel::lines("Records", Shown::PerSecond, ALL.rate(&RECORDS, GROUP), "{{group}} started")
                        .and(ALL.rate(&FINISHED, GROUP), "{{group}} finished"),
                    Panel::lines(
                        "Time of an attempt",
                        Shown::Seconds,
                        ALL.quantile(0.5, &HANDLER_SECONDS, GROUP),
                        "{{group}} half",
                    )
                    .and(ALL.quantile(0.99, &HANDLER_SECONDS, GROUP), "{{group}} 99 %")
                    .help("Attempts that end when they are first polled are not among them."),
                    Panel::lines(
                        "Places for records in work",
                        Shown::Count,
                        ALL.sum(&CONCURRENCY, GROUP),
                        "{{group}}",
                    ),
                ],
            },
            Row {
                title: "What fails?",
                panels: vec![
                    rate("Failed attempts", &FAILED_ATTEMPTS).and(ALL.rate(&EXPIRED_ATTEMPTS, GROUP), "{{group}} too slow"),
                    rate("Tried again in place", &RETRIES),
                    Panel::lines(
                        "In work for too long",
                        Shown::Count,
                        ALL.sum(&STALLED_RECORDS, GROUP),
                        "{{group}}",
                    ),
                ],
            },
            Row {
                title: "What is put aside?",
                panels: vec![
                    rate("Dead letters", &DEAD_LETTERS).and(ALL.rate(&SKIPPED, GROUP), "{{group}} skipped"),
                    Panel::lines(
                        "Written to retry topics",
                        Shown::PerSecond,
                        ALL.rate(&RETRY_WRITTEN, &["group", "delay"]),
                        "{{group}} {{delay}}",
                    ),
                    Panel::lines(
                        "Waiting in retry topics",
                        Shown::Count,
                        waiting(ALL, &["group", "delay"]),
                        "{{group}} {{delay}}",
                    )
                    .help("As the instances that run now have written and finished them. The lag of the group counts all."),
                    Panel::lines(
                        "Age of the oldest dead letter",
                        Shown::Seconds,
                        ALL.most(&OLDEST_DEAD_LETTER, GROUP),
                        "{{group}}",
                    ),
                    rate("Writes that failed", &ASIDE_FAILURES).and(ALL.sum(&HELD, GROUP), "{{group}} held up"),
                ],
            },
        ],
    }
}

/// Records that were written to retry topics and not finished.
fn waiting(scope: Scope, by: &[&str]) -> String {
    let total = |family: &Family| scope.total(family, by);
    format!("clamp_min({} - {}, 0)", total(&RETRY_WRITTEN), total(&RETRY_FINISHED))
}

pub(super) fn rules() -> Vec<Rule> {
    use Severity::{Critical, Warning};
    let who = ["job", "group"];
    let rule = |alert, severity, lasts, expr, summary| Rule { alert, expr, lasts, severity, summary };
    vec![
        rule(
            "MilenaDeadLetters",
            Warning,
            "0m",
            format!("{} > 0", RULE.growth(&DEAD_LETTERS, &who)),
            "{{ $labels.group }} has put {{ $value | humanize }} records into the dead letters within five minutes",
        ),
        rule(
            "MilenaDeadLetterRatio",
            Critical,
            "1m",
            format!("{} / {} > 0.01", RULE.rate(&DEAD_LETTERS, &who), RULE.rate(&FINISHED, &who)),
            "{{ $value | humanizePercentage }} of what {{ $labels.group }} finishes ends in the dead letters",
        ),
        rule(
            "MilenaOldDeadLetters",
            Warning,
            "0m",
            format!("{} > 86400", RULE.most(&OLDEST_DEAD_LETTER, &who)),
            "The oldest dead letter of {{ $labels.group }} waits for {{ $value | humanizeDuration }}",
        ),
        rule(
            "MilenaPipelineHeld",
            Critical,
            "1m",
            format!("{} > 0", RULE.most(&HELD, &who)),
            "{{ $labels.group }} starts nothing: a record that it has given up cannot be written elsewhere",
        ),
        rule(
            "MilenaRecordsStuck",
            Critical,
            "1m",
            format!("{} > 0", RULE.sum(&STALLED_RECORDS, &who)),
            "{{ $value }} records of {{ $labels.group }} are in work for too long",
        ),
        rule(
            "MilenaRetryBacklog",
            Warning,
            "10m",
            format!("{} > 10000", waiting(RULE, &["job", "group", "delay"])),
            "{{ $value | humanize }} records of {{ $labels.group }} wait in the retry topics of {{ $labels.delay }}",
        ),
    ]
}
