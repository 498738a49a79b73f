//! Each alert rule fires because of a fault that is injected for real, and is resolved when the fault has ended. Real Prometheus
//! scrapes real clients, pipelines and exporters on embedded brokers, and real Alertmanager says which alerts there are. Where they
//! are missing nothing is tested.
//!
//! ```text
//!  fault (a broker, a client, a registry) ─▶ /metrics ─▶ Prometheus ─▶ Alertmanager ─▶ Stand: "fires", "is resolved"
//!  fault ...                              ─▶ /metrics ─▶    ▲
//!                                        milena dashboards ─┘ rules, of which times are divided by 30
//! ```
//!
//! All faults run at the same time, each under a job of its own. `MILENA_FAULT` runs those whose names contain it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "../harness/mod.rs"]
mod harness;

mod clients;
mod clusters;
mod pipelines;
mod stage;
mod world;

use stage::{Fault, fault};

/// Alerts whose fault cannot be injected here: the disk of the machine would have to be filled.
const WITHOUT_FAULT: [&str; 1] = ["MilenaDiskFull"];

/// The faults, and the alerts that each is to fire.
fn faults() -> Vec<Fault> {
    vec![
        fault("a-record-too-large", &["MilenaRecordsNotWritten"], clients::a_record_is_too_large),
        fault("slow-broker", &["MilenaProducerBlocked"], clients::a_slow_broker_fills_the_buffer),
        fault("hung-broker", &["MilenaProducerBlocked"], clients::a_broker_that_hangs_fills_the_buffer),
        fault("slow-consumer", &["MilenaConsumerBehind"], clients::a_consumer_is_slow),
        fault("no-taker", &["MilenaPartitionsStalled"], clients::nobody_takes_records),
        fault("flapping-member", &["MilenaGroupRebalances"], clients::a_member_comes_and_goes),
        fault("right-taken-away", &["MilenaCommitsFail"], clients::commits_are_refused),
        fault("held-batches", &["MilenaConsumerMemoryFull"], clients::batches_are_held),
        fault("broker-down", &["MilenaConnectionsFail"], clients::the_broker_is_down),
        fault("password-changed", &["MilenaConnectionsFail"], clients::the_password_is_another),
        fault("quota", &["MilenaThrottled"], clients::a_quota_throttles),
        fault("old-certificate", &["MilenaCertificateExpires"], clients::a_certificate_expires_soon),
        fault("cluster-down", &["MilenaExporterBlind"], clusters::the_cluster_is_down),
        fault(
            "silent-group",
            &["MilenaGroupBehind", "MilenaGroupStopped", "MilenaGroupUnwell"],
            clusters::a_group_commits_nothing,
        ),
        fault(
            "node-down",
            &["MilenaPartitionsOffline", "MilenaReplicasBehind"],
            clusters::one_of_two_nodes_is_down,
        ),
        fault("open-transaction", &["MilenaTransactionHangs"], clusters::a_transaction_stays_open),
        fault("probe-unread", &["MilenaProbeLost"], clusters::the_probe_is_not_read),
        fault("poison", &["MilenaDeadLetters", "MilenaDeadLetterRatio"], pipelines::records_are_poison),
        fault("old-letter", &["MilenaOldDeadLetters"], pipelines::a_dead_letter_is_old),
        fault("no-room-for-letters", &["MilenaPipelineHeld"], pipelines::dead_letters_cannot_be_written),
        fault("stuck-handler", &["MilenaRecordsStuck"], pipelines::a_handler_hangs),
        fault("always-later", &["MilenaRetryBacklog"], pipelines::retries_pile_up),
    ]
}

#[test]
fn an_injected_fault_fires_each_alert_and_its_end_resolves_it() {
    if harness::prometheus::is_installed() {
        stage::play(faults(), &WITHOUT_FAULT);
    }
}
