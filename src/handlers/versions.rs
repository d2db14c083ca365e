//! ApiVersions: what this broker speaks.

use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::api_versions::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};

use super::context::Context;
use super::features;
use crate::net::api;

/// The longest client name or version that is not nonsense, in bytes.
const SOFTWARE_NAME_MAX: usize = 255;

/// Lists the APIs. From version 3 on the client says what it is; Kafka refuses names that could not go into a metric.
pub(crate) fn handle(context: &Context, request: &ApiVersionsRequest, version: i16) -> ApiVersionsResponse {
    let named = version < 3
        || (is_software_name(&request.client_software_name)
            && is_software_name(&request.client_software_version));
    if !named {
        return ApiVersionsResponse {
            error_code: ErrorCode::INVALID_REQUEST,
            ..ApiVersionsResponse::default()
        };
    }
    // The position first: of two answers the one with the higher epoch must not tell of older levels.
    let epoch = context.metadata.position();
    let image = context.metadata.image();
    ApiVersionsResponse {
        api_keys: api::APIS.iter().map(listed).collect(),
        supported_features: features::supported(version),
        finalized_features_epoch: epoch.get(),
        finalized_features: features::finalized(&image),
        ..ApiVersionsResponse::default()
    }
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
