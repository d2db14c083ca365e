//! An object that is written in parts.
//!
//! A crash, or dropping this before its end, leaves parts that cost money and show in no listing: the bucket's lifecycle rule and
//! the claim holder's sweep remove them.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::retry::{RetryContext, RetryFailure, RetryPolicy};
use object_store::{MultipartUpload, PutMultipartOptions, PutPayload};

use super::error::{Operation, StoreError};
use super::{Store, StoreOptions};
use crate::path::Key;

/// An upload under way.
#[derive(Debug)]
pub struct Multipart {
    store: Store,
    key: Key,
    upload: Box<dyn MultipartUpload>,
    sent: u64,
}

impl Multipart {
    pub(super) async fn begin(store: Store, key: Key) -> Result<Multipart, StoreError> {
        let policy = Arc::new(PartRetry { options: store.0.options.clone(), rng: store.0.world.rng.clone() });
        let begin = || {
            let options = PutMultipartOptions::default().with_retry_policy(policy.clone());
            store.0.objects.put_multipart_opts(key.path(), options)
        };
        let upload = store.repeat(Operation::Part, key.as_str(), 0, begin).await?;
        Ok(Multipart { store, key, upload, sent: 0 })
    }

    /// Sends the next part; the futures of several parts may run at once. Each part but the last must be equally long and at
    /// least 5 MiB. A part is repeated by itself until the store's deadline.
    pub fn part(
        &mut self,
        parts: Vec<Bytes>,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + 'static {
        let payload: PutPayload = parts.into_iter().collect();
        let size = payload.content_length() as u64;
        self.sent += size;
        let sending = self.upload.put_part(payload);
        let (store, key) = (self.store.clone(), self.key.clone());
        async move {
            // The repetitions happen inside, so one attempt here may last as long as they may.
            let patience =
                size + store.0.options.deadline.as_secs() * store.0.options.bytes_per_second_min.get();
            store.attempt(Operation::Part, key.as_str(), patience, sending).await
        }
    }

    /// Makes the object appear. After an error it may or may not exist.
    pub async fn complete(mut self) -> Result<(), StoreError> {
        let (store, key) = (self.store.clone(), self.key.clone());
        store.attempt(Operation::Part, key.as_str(), 0, self.upload.complete()).await?;
        store.0.metrics.sent.inc_by(self.sent);
        Ok(())
    }

    /// Drops the parts. What fails here is left to the sweep, with a log line.
    pub async fn abort(mut self) {
        let (store, key) = (self.store.clone(), self.key.clone());
        if let Err(error) = store.attempt(Operation::Part, key.as_str(), 0, self.upload.abort()).await {
            tracing::warn!(%error, %key, "a multipart upload could not be aborted; the sweep will find it");
        }
    }
}

/// When a part is sent again.
#[derive(Debug)]
struct PartRetry {
    options: StoreOptions,
    rng: aquifer_runtime::rng::Rng,
}

#[async_trait]
impl RetryPolicy for PartRetry {
    async fn retry(&self, context: RetryContext) -> bool {
        let hopeless = match context.failure {
            RetryFailure::Status(status) => status.is_client_error() && !matches!(status.as_u16(), 408 | 429),
            _ => false,
        };
        if hopeless || context.elapsed >= self.options.deadline {
            return false;
        }
        let doublings = u32::try_from(context.attempt.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
        let pause = self.options.backoff.saturating_mul(1 << doublings).min(self.options.backoff_max);
        tokio::time::sleep(self.rng.jittered(pause)).await;
        true
    }
}
