//! Features that are finalized while a cluster runs (UpdateFeatures): what may change, and how a refusal is told.

use std::time::{Duration, Instant};

use milena_broker::Broker;
use milena_interop::raw::Raw;
use milena_interop::real;
use milena_messages::api_versions::ApiVersionsRequest;
use milena_messages::update_features::{FeatureUpdateKey, UpdateFeaturesRequest};

use super::{Asker, compare_with};

const TV: &str = "transaction.version";
const PATIENCE: Duration = Duration::from_secs(20);

/// The finalized level of transactions.
fn level(asker: &mut Asker) -> i16 {
    let request = ApiVersionsRequest {
        client_software_name: "t".into(),
        client_software_version: "1".into(),
        ..Default::default()
    };
    // What is finalized is told by the versions of a new connection.
    let mut raw = Raw::connect(&asker.bootstrap).unwrap();
    let features = raw.call(&request, 4).unwrap().finalized_features;
    features.iter().find(|of| *of.name == *TV).map_or(0, |of| of.max_version_level)
}

#[derive(Clone, Copy, Default)]
struct Update {
    feature: &'static str,
    level: i16,
    kind: i8,
    allows_downgrade: bool,
}

fn to(level: i16, kind: i8) -> Update {
    Update { feature: TV, level, kind, allows_downgrade: false }
}

fn update(asker: &mut Asker, what: &str, version: i16, updates: &[Update], validate_only: bool) {
    let feature = |of: &Update| FeatureUpdateKey {
        feature: of.feature.into(),
        max_version_level: of.level,
        allow_downgrade: of.allows_downgrade && version == 0,
        upgrade_type: if version == 0 { 1 } else { of.kind },
        ..Default::default()
    };
    let request = UpdateFeaturesRequest {
        timeout_ms: 10_000,
        feature_updates: updates.iter().map(feature).collect(),
        validate_only: validate_only && version > 0,
        ..Default::default()
    };
    let what = format!("{what} v{version}");
    let Some(answer) = asker.ask(&what, &request, version) else { return };
    let mut results: Vec<_> = answer
        .results
        .iter()
        .map(|of| (of.feature.to_string(), of.error_code, of.error_message.clone()))
        .collect();
    results.sort();
    let is_changed = answer.error_code.is_none() && !request.validate_only;
    let wanted = updates.iter().rfind(|of| is_changed && of.feature == TV).map(|of| of.level);
    // In real Kafka the broker learns of the change a moment after the controller has answered.
    let (mut level, started) = (level(asker), Instant::now());
    while wanted.is_some_and(|wanted| wanted != level) && started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
        level = self::level(asker);
    }
    asker.say(&what, (answer.error_code, results, level));
}

fn script(asker: &mut Asker) {
    for version in 0..=2 {
        update(asker, "nothing", version, &[], false);
        update(asker, "as it is", version, &[to(2, 1)], false);
        update(asker, "an upgrade that is too high", version, &[to(3, 1)], false);
        update(asker, "below zero", version, &[to(-1, 1)], false);
        update(asker, "down as an upgrade", version, &[to(1, 1)], false);
        update(
            asker,
            "a feature without a name",
            version,
            &[Update { feature: "", level: 1, kind: 1, ..Default::default() }],
            false,
        );
        update(
            asker,
            "an unknown feature",
            version,
            &[Update { feature: "no.such", level: 1, kind: 1, ..Default::default() }],
            false,
        );
        update(
            asker,
            "an unknown feature to zero",
            version,
            &[Update { feature: "no.such", level: 0, kind: 1, ..Default::default() }],
            false,
        );
        update(
            asker,
            "one good and one unknown",
            version,
            &[to(2, 1), Update { feature: "no.such", level: 1, kind: 1, ..Default::default() }],
            false,
        );
        update(asker, "twice", version, &[to(2, 1), to(2, 1)], false);
        update(
            asker,
            "group.version as it is",
            version,
            &[Update { feature: "group.version", level: 1, kind: 1, ..Default::default() }],
            false,
        );
    }
    update(asker, "down in version 0", 0, &[Update { allows_downgrade: true, ..to(1, 1) }], false);
    update(asker, "back up", 1, &[to(2, 1)], false);
    for version in 1..=2 {
        for kind in [0, 4, -1] {
            update(asker, &format!("type {kind}"), version, &[to(1, kind)], false);
        }
        for kind in 2..=3 {
            update(asker, &format!("down as type {kind}, only validated"), version, &[to(1, kind)], true);
            update(asker, &format!("as it is as type {kind}"), version, &[to(2, kind)], false);
            update(asker, &format!("too high as type {kind}"), version, &[to(3, kind)], false);
            update(asker, &format!("down as type {kind}"), version, &[to(1, kind)], false);
            update(asker, &format!("up as type {kind}"), version, &[to(2, kind)], false);
            update(asker, "up, only validated", version, &[to(2, 1)], true);
            update(asker, &format!("to zero as type {kind}"), version, &[to(0, kind)], false);
            update(asker, &format!("zero again as type {kind}"), version, &[to(0, kind)], false);
            update(asker, "up", version, &[to(2, 1)], false);
        }
    }
}

#[test]
fn the_version_of_transactions_is_changed_and_refused_as_kafka_does() {
    compare_with(real::alone().as_ref(), Broker::builder(), script);
}
