//! ApiVersions: what this broker speaks.

use aquifer_protocol::messages::api_versions::{
    ApiVersion, ApiVersionsRequest, ApiVersionsResponse, FinalizedFeatureKey, SupportedFeatureKey,
};
use aquifer_protocol::{ErrorCode, Str};

use crate::net::api;

/// The longest client name or version that is not nonsense, in bytes.
const SOFTWARE_NAME_MAX: usize = 255;

/// Kafka's features (KIP-584) that every broker of this version has, and the level that they are at: by them its clients and tools
/// know what they may ask for. None can be set to another level here.
const FEATURES: &[(&str, i16)] = &[
    // Groups whose coordinator assigns (KIP-848).
    ("group.version", 1),
];

/// Lists the APIs. From version 3 on the client says what it is; Kafka refuses names that could not go into a metric.
pub(crate) fn handle(request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let named = version < 3
        || (is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version));
    answer(if named { ErrorCode::NONE } else { ErrorCode::INVALID_REQUEST })
}

/// What a client gets that asks in a version unknown here: the error, in version 0, and the range that it may use.
pub(crate) fn unsupported() -> ApiVersionsResponse {
    let own = api::APIS.iter().filter(|api| api.key == aquifer_protocol::ApiKey::ApiVersions);
    ApiVersionsResponse {
        error_code: ErrorCode::UNSUPPORTED_VERSION,
        api_keys: own.map(listed).collect(),
        ..ApiVersionsResponse::default()
    }
}

fn answer(error_code: ErrorCode) -> ApiVersionsResponse {
    let api_keys = if error_code.is_none() { api::APIS.iter().map(listed).collect() } else { Vec::new() };
    ApiVersionsResponse {
        error_code,
        api_keys,
        supported_features: FEATURES
            .iter()
            .map(|(name, level)| SupportedFeatureKey {
                name: Str::from_static(name),
                min_version: *level,
                max_version: *level,
            })
            .collect(),
        finalized_features_epoch: 0,
        finalized_features: FEATURES
            .iter()
            .map(|(name, level)| FinalizedFeatureKey {
                name: Str::from_static(name),
                max_version_level: *level,
                min_version_level: *level,
            })
            .collect(),
        ..ApiVersionsResponse::default()
    }
}

fn listed(api: &api::Api) -> ApiVersion {
    ApiVersion { api_key: api.key.code(), min_version: api.advertised.min, max_version: api.advertised.max }
}

fn is_software_name(text: &str) -> bool {
    let inner = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.');
    !text.is_empty()
        && text.len() <= SOFTWARE_NAME_MAX
        && text.bytes().all(inner)
        && text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric)
        && text.as_bytes().last().is_some_and(u8::is_ascii_alphanumeric)
}
