//! Why a store cannot be opened, in words that say what to do.

use std::path::PathBuf;

/// Why a store cannot be opened or used. Each says what to do.
#[derive(Debug, Clone, thiserror::Error)]
pub enum OpenError {
    /// The URL cannot be read.
    #[error("object store URL {url}: {why}")]
    BadUrl {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// The folder is not there.
    #[error("object store folder {path} does not exist: create it, or correct the URL")]
    FolderMissing {
        /// The folder.
        path: PathBuf,
    },
    /// The folder cannot be made or entered.
    #[error("object store folder {path}: {why}; choose a folder that this user may write")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's words.
        why: String,
    },
    /// Nobody says where the bucket is.
    #[error("no region for bucket {bucket}: add ?region=.. to the URL or set AWS_REGION")]
    NoRegion {
        /// The bucket.
        bucket: String,
    },
    /// The chain of credentials ends with nothing.
    #[error(
        "no AWS credentials for bucket {bucket}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, \
         or give this machine a role ({why})"
    )]
    NoCredentials {
        /// The bucket.
        bucket: String,
        /// The SDK's words.
        why: String,
    },
    /// The bucket is not there.
    #[error("bucket {bucket} does not exist at {at}: create it, or correct the URL")]
    BucketMissing {
        /// The bucket.
        bucket: String,
        /// The endpoint, or AWS and the region.
        at: String,
    },
    /// Wrong keys.
    #[error(
        "the store at {at} does not accept these credentials: check AWS_ACCESS_KEY_ID and its secret ({why})"
    )]
    WrongCredentials {
        /// The endpoint, or AWS and the region.
        at: String,
        /// The store's words.
        why: String,
    },
    /// Keys without the right.
    #[error(
        "the credentials for {store} lack a permission; reading, writing, listing and deleting are needed ({why})"
    )]
    Permission {
        /// The store.
        store: String,
        /// The store's words.
        why: String,
    },
    /// The bucket is elsewhere.
    #[error("bucket {bucket} is in another region: correct ?region=.. in the URL ({why})")]
    WrongRegion {
        /// The bucket.
        bucket: String,
        /// The store's words.
        why: String,
    },
    /// Nobody answers.
    #[error("no answer from the store at {at}: check that it runs and can be reached from here ({why})")]
    Unreachable {
        /// The endpoint, or AWS and the region.
        at: String,
        /// The system's words.
        why: String,
    },
    /// The bucket could not be made.
    #[error("bucket {bucket} could not be created: {why}")]
    CreateBucket {
        /// The bucket.
        bucket: String,
        /// The store's words.
        why: String,
    },
    /// It answers, but not in a way that can be used.
    #[error("the store at {at} cannot be used: {why}")]
    Unusable {
        /// The endpoint, or AWS and the region.
        at: String,
        /// The store's words.
        why: String,
    },
}
