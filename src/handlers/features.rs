//! UpdateFeatures; what ApiVersions tells of features.

use std::sync::Arc;

use aquifer_protocol::messages::api_versions::{FinalizedFeatureKey, SupportedFeatureKey};
use aquifer_protocol::messages::update_features::{
    FeatureUpdateKey, UpdatableFeatureResult, UpdateFeaturesRequest, UpdateFeaturesResponse,
};
use aquifer_protocol::{ErrorCode, Str};
use tokio::time::Duration;

use super::context::Context;
use super::errors;
use crate::metadata::command::SetFeatures;
use crate::metadata::features::{Direction, FEATURES, FeatureUpdate, judge};
use crate::metadata::{Command, Image};

/// From here on a client says which way a level shall go, and may have the change judged alone.
const VERSION_DIRECTION: i16 = 1;
/// Up to here an answer tells of each feature.
const VERSION_RESULTS_MAX: i16 = 1;
/// From here on clients understand that a feature's least level is 0 (KAFKA-17011).
const VERSION_LEVEL_0: i16 = 4;

/// Changes finalized levels: all that are named, or none.
pub(crate) async fn update(
    context: Arc<Context>,
    request: UpdateFeaturesRequest,
    version: i16,
) -> UpdateFeaturesResponse {
    let mut response = UpdateFeaturesResponse { error_message: None, ..UpdateFeaturesResponse::default() };
    match change(&context, &request, version).await {
        Ok(()) if version <= VERSION_RESULTS_MAX => {
            let result = |update: &FeatureUpdateKey| UpdatableFeatureResult {
                feature: update.feature.clone(),
                error_code: ErrorCode::NONE,
                error_message: None,
            };
            response.results = request.feature_updates.iter().map(result).collect();
        }
        Ok(()) => {}
        Err((error_code, words)) => {
            response.error_code = error_code;
            response.error_message = errors::message(&words);
        }
    }
    response
}

async fn change(
    context: &Context,
    request: &UpdateFeaturesRequest,
    version: i16,
) -> Result<(), (ErrorCode, String)> {
    let updates = request.feature_updates.iter().map(|update| wanted(update, version));
    let updates: Vec<FeatureUpdate> = updates.collect::<Result<_, _>>()?;
    let levels = judge(context.metadata.image().features(), &updates)
        .map_err(|error| (errors::of_features(&error), format!("no feature is changed: {error}")))?;
    if request.validate_only || levels.is_empty() {
        return Ok(());
    }
    let command = Command::SetFeatures(SetFeatures { levels: levels.clone() });
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    match tokio::time::timeout(timeout, context.metadata.propose(command)).await {
        Ok(Ok(_)) => {
            tracing::info!(?levels, "levels of features were changed");
            Ok(())
        }
        Ok(Err(error)) => Err((errors::of_propose(&error), error.to_string())),
        Err(_) => Err((ErrorCode::REQUEST_TIMED_OUT, "not decided in time; it may yet happen".to_owned())),
    }
}

fn wanted(update: &FeatureUpdateKey, version: i16) -> Result<FeatureUpdate, (ErrorCode, String)> {
    let direction = match (version >= VERSION_DIRECTION, update.upgrade_type, update.allow_downgrade) {
        (true, 1, _) | (false, _, false) => Direction::Upgrade,
        // Safe or not: see there.
        (true, 2 | 3, _) | (false, _, true) => Direction::Downgrade,
        (true, other, _) => {
            let words = format!("{}: there is no kind of upgrade {other}", &*update.feature);
            return Err((ErrorCode::INVALID_UPDATE_VERSION, words));
        }
    };
    Ok(FeatureUpdate { name: update.feature.to_string(), level: update.max_version_level, direction })
}

/// What this program knows.
pub(super) fn supported(version: i16) -> Vec<SupportedFeatureKey> {
    // Older clients cannot read a least level of 0.
    let least = if version >= VERSION_LEVEL_0 { 0 } else { 1 };
    let told = FEATURES.iter().map(|feature| SupportedFeatureKey {
        name: Str::from_static(feature.name),
        min_version: feature.level_min.max(least),
        max_version: feature.level_max,
    });
    told.collect()
}

/// What the cluster has agreed on.
pub(super) fn finalized(image: &Image) -> Vec<FinalizedFeatureKey> {
    let told = image.features().iter().map(|(name, level)| FinalizedFeatureKey {
        name: Str::from(name.as_str()),
        max_version_level: *level,
        // Kafka has no use for it any more, and sends the same twice.
        min_version_level: *level,
    });
    told.collect()
}
