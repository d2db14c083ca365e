//! InitProducerId: an id for an idempotent producer.

use std::sync::Arc;

use aquifer_protocol::ErrorCode;
use aquifer_protocol::messages::init_producer_id::{InitProducerIdRequest, InitProducerIdResponse};

use super::context::Context;
use super::errors;

/// Gives out an id. Transactions are refused until they work: a producer that was told yes would believe in a promise that
/// nobody keeps.
pub(crate) async fn init(context: Arc<Context>, request: InitProducerIdRequest) -> InitProducerIdResponse {
    let mut response =
        InitProducerIdResponse { producer_id: -1, producer_epoch: -1, ..InitProducerIdResponse::default() };
    if request.transactional_id.is_some() {
        tracing::info!("a transactional producer was refused: transactions are not supported");
        response.error_code = ErrorCode::UNSUPPORTED_VERSION;
        return response;
    }
    match context.producer_ids.next(&context.metadata).await {
        Ok(id) => {
            response.producer_id = id.0;
            response.producer_epoch = 0;
        }
        Err(error) => response.error_code = errors::of_no_producer_id(&error),
    }
    response
}
