//! UpdateFeatures (57): finalizes another version of a feature while the cluster runs, as `kafka-features.sh` asks for. KIP-584,
//! KIP-1022 (one refusal refuses all). The next start has the version of the builder again.

use std::collections::BTreeMap;

use milena_messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use milena_messages::{ApiKey, ErrorCode};
use milena_wire::Str;

use super::api_versions::{Feature, GROUPS, TRANSACTIONS, features};
use super::row::{Api, COSTLY_ELEMENTS_MAX};
use crate::acls::Operation;
use crate::call::Call;

pub(super) const API: Api = Api {
    elements_max: COSTLY_ELEMENTS_MAX,
    ..Api::new(ApiKey::UpdateFeatures, |call, reader| call.answer(reader, handle))
};

/// The types of updates.
const UPGRADE: i8 = 1;
const SAFE_DOWNGRADE: i8 = 2;
const UNSAFE_DOWNGRADE: i8 = 3;

fn handle(call: &Call<'_>, request: UpdateFeaturesRequest) -> UpdateFeaturesResponse {
    if let Err(error_code) = call.check_cluster(Operation::Alter) {
        let error_message = Some(Str::from_static(error_code.description()));
        return UpdateFeaturesResponse { error_code, error_message, ..Default::default() };
    }
    let known = features(call);
    // Of a feature that is named twice the last update counts.
    let updates: BTreeMap<&str, &FeatureUpdateKey> =
        request.feature_updates.iter().map(|update| (&*update.feature, update)).collect();
    for update in updates.values() {
        let feature = known.iter().find(|feature| feature.name == &*update.feature);
        if let Err(why) = check(feature, update) {
            let text = format!(
                "no feature was updated, because {:?} cannot have level {}: {why}",
                update.feature.as_str(),
                update.max_version_level
            );
            return UpdateFeaturesResponse {
                error_code: ErrorCode::INVALID_UPDATE_VERSION,
                error_message: Some(text.into()),
                ..Default::default()
            };
        }
    }
    if let Some(update) = updates.get(TRANSACTIONS).filter(|_| !request.validate_only)
        && let Err(error) = call.parts.set_transaction_version(update.max_version_level)
    {
        return UpdateFeaturesResponse {
            error_code: ErrorCode::FEATURE_UPDATE_FAILED,
            error_message: Some(error.to_string().into()),
            ..Default::default()
        };
    }
    let result = |update: &FeatureUpdateKey| UpdatableFeatureResult {
        feature: update.feature.clone(),
        // Kafka names the code that means success.
        error_message: Some(Str::from_static(ErrorCode::NONE.name())),
        ..Default::default()
    };
    // From version 2 on there is one code for all of them.
    let results = match call.envelope.version {
        0 | 1 => request.feature_updates.iter().map(result).collect(),
        _ => Vec::new(),
    };
    UpdateFeaturesResponse { results, ..Default::default() }
}

/// Whether a feature may have the level of an update; otherwise why not.
fn check(feature: Option<&Feature>, update: &FeatureUpdateKey) -> Result<(), String> {
    let level = update.max_version_level;
    let Some(feature) = feature else { return Err("this broker does not have the feature".to_owned()) };
    if !(0..=feature.max).contains(&level) {
        return Err(format!("its levels are from 0 to {}", feature.max));
    }
    let is_downgrade = match update.upgrade_type {
        UPGRADE => false,
        SAFE_DOWNGRADE | UNSAFE_DOWNGRADE => true,
        other => return Err(format!("there is no upgrade type {other}")),
    };
    let present = feature.level;
    if level < present && !is_downgrade {
        return Err(format!("its level is {present}, and only a downgrade lowers it"));
    }
    if level > present && is_downgrade {
        return Err(format!("its level is {present}, which no downgrade raises"));
    }
    if feature.name == GROUPS && level != present {
        return Err("the groups of this broker cannot do without it".to_owned());
    }
    Ok(())
}
