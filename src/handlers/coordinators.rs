//! FindCoordinator: who coordinates a group.

use std::sync::Arc;

use aquifer_protocol::messages::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use aquifer_protocol::{ErrorCode, Str};

use super::context::Context;
use super::{cluster, errors};

/// From here on many are asked for at once.
const VERSION_MANY: i16 = 4;
const KEY_GROUP: i8 = 0;
const KEY_TRANSACTION: i8 = 1;

/// Finds coordinators; the first question of all has the topic of groups made.
pub(crate) async fn find(
    context: Arc<Context>,
    request: FindCoordinatorRequest,
    version: i16,
) -> FindCoordinatorResponse {
    if version >= VERSION_MANY {
        let mut coordinators = Vec::with_capacity(request.coordinator_keys.len());
        for key in request.coordinator_keys {
            coordinators.push(find_one(&context, key, request.key_type).await);
        }
        return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
    }
    let found = find_one(&context, request.key, request.key_type).await;
    FindCoordinatorResponse {
        error_code: found.error_code,
        error_message: found.error_message,
        node_id: found.node_id,
        host: found.host,
        port: found.port,
        ..FindCoordinatorResponse::default()
    }
}

async fn find_one(context: &Context, key: Str, key_type: i8) -> Coordinator {
    let refused = |key, error_code, error_message| Coordinator {
        key,
        node_id: -1,
        host: Str::EMPTY,
        port: -1,
        error_code,
        error_message,
    };
    match key_type {
        KEY_GROUP => {}
        KEY_TRANSACTION => {
            let words = errors::message(&"transactions are not supported");
            return refused(key, ErrorCode::UNSUPPORTED_VERSION, words);
        }
        other => {
            let words = errors::message(&format_args!("no coordinator is of type {other} here"));
            return refused(key, ErrorCode::INVALID_REQUEST, words);
        }
    }
    let leader = match context.groups.coordinator_of(&context.topics, &key).await {
        Ok(leader) => leader,
        Err(error) => {
            tracing::warn!(group = %key, %error, "the coordinator of a group cannot be told");
            return refused(key, errors::of_find(&error), errors::message(&error));
        }
    };
    let image = context.metadata.image();
    let mut endpoints = cluster::endpoints(&image, std::slice::from_ref(&leader.0));
    match endpoints.next() {
        Some((id, endpoint, _)) => Coordinator {
            key,
            node_id: id.0,
            host: Str::from(endpoint.host.as_str()),
            port: i32::from(endpoint.port),
            error_code: ErrorCode::NONE,
            error_message: None,
        },
        None => refused(key, ErrorCode::COORDINATOR_NOT_AVAILABLE, None),
    }
}
