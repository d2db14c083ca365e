//! What a store's failure means to the caller.
//!
//! object_store's errors are sorted here, once, by the only question that matters: did it happen? What did not happen may be
//! repeated blindly. What may have happened must be settled by looking, unless repeating it does no harm.

use std::error::Error;
use std::fmt;

use object_store::client::{HttpError, HttpErrorKind};

/// A kind of request, as metrics and messages name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelValue)]
pub enum Operation {
    /// A whole object, whose key is unique.
    Put,
    /// A whole object, unless its key is taken.
    Create,
    /// One part of a large object, or the opening or closing of one.
    Part,
    /// Bytes of an object.
    Get,
    /// Facts of an object.
    Head,
    /// Names.
    List,
    /// Removals, many in one request.
    Delete,
}

impl Operation {
    /// Every kind.
    pub const ALL: [Operation; 7] = [
        Operation::Put,
        Operation::Create,
        Operation::Part,
        Operation::Get,
        Operation::Head,
        Operation::List,
        Operation::Delete,
    ];
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Operation::Put => "put",
            Operation::Create => "create",
            Operation::Part => "multipart put",
            Operation::Get => "get",
            Operation::Head => "head",
            Operation::List => "list",
            Operation::Delete => "delete",
        })
    }
}

/// Why a store will go on refusing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, prometheus_client::encoding::EncodeLabelValue)]
pub enum Refusal {
    /// The bucket does not exist.
    BucketMissing,
    /// The keys are unknown to the store, or the signature made with them is wrong.
    Credentials,
    /// The keys are good but may not do this.
    Permission,
    /// The bucket lies in another region.
    Region,
    /// Anything else that the store calls the client's fault.
    Request,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::BucketMissing => "the bucket does not exist",
            Refusal::Credentials => "the store does not accept these credentials",
            Refusal::Permission => "these credentials do not permit it",
            Refusal::Region => "the bucket is in another region",
            Refusal::Request => "the store refuses the request",
        })
    }
}

/// What became of a request that did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// There is no such object.
    #[error("{key} is not there")]
    NotFound {
        /// Its key.
        key: String,
    },
    /// The key is taken: by a rival, or by an earlier attempt of the caller's own. Only reading it tells.
    #[error("{key} already exists")]
    AlreadyExists {
        /// The key.
        key: String,
    },
    /// Did not happen, and will not by repeating it: somebody has to change something.
    #[error("cannot {operation} {key}: {why}: {message}")]
    Refused {
        /// What was asked for.
        operation: Operation,
        /// Of what.
        key: String,
        /// What to change.
        why: Refusal,
        /// The store's words.
        message: String,
    },
    /// Did not happen; repeating it later is safe.
    #[error("cannot {operation} {key} now: {message}")]
    Unavailable {
        /// What was asked for.
        operation: Operation,
        /// Of what.
        key: String,
        /// The last attempt's error.
        message: String,
    },
    /// May have happened.
    #[error("cannot tell whether {operation} {key} succeeded: {message}")]
    Indeterminate {
        /// What was asked for.
        operation: Operation,
        /// Of what.
        key: String,
        /// The last attempt's error.
        message: String,
    },
    /// An object is larger than anything of its kind can be.
    #[error("{key} is {bytes} bytes long, at most {bytes_max} were expected")]
    TooLarge {
        /// Its key.
        key: String,
        /// Its length.
        bytes: u64,
        /// The bound.
        bytes_max: u64,
    },
    /// An object ends before what its manifest or its own footer says that it holds.
    #[error("{key} is {bytes} bytes long, its bytes up to {wanted} were asked for")]
    Short {
        /// Its key.
        key: String,
        /// Its length.
        bytes: u64,
        /// Behind the last byte that was asked for.
        wanted: u64,
    },
}

impl StoreError {
    /// Whether the same request may succeed later with nobody doing anything.
    pub fn is_transient(&self) -> bool {
        matches!(self, StoreError::Unavailable { .. } | StoreError::Indeterminate { .. })
    }

    /// Whether the object is missing.
    pub fn is_not_found(&self) -> bool {
        matches!(self, StoreError::NotFound { .. })
    }
}

/// Sorts an error of object_store.
pub(super) fn classify(operation: Operation, key: &str, error: object_store::Error) -> StoreError {
    use object_store::Error as E;
    let key = key.to_owned();
    let raw = raw_message(&error);
    let message = readable(&raw);
    let refused = |why| StoreError::Refused { operation, key: key.clone(), why, message: message.clone() };
    match &error {
        E::NotFound { .. } if raw.contains("NoSuchBucket") => refused(Refusal::BucketMissing),
        E::NotFound { .. } => StoreError::NotFound { key },
        // 409 and 412 alike. Of a create it says that the key is, or is about to be, taken.
        E::AlreadyExists { .. } | E::Precondition { .. } if operation == Operation::Create => {
            StoreError::AlreadyExists { key }
        }
        E::AlreadyExists { .. } => StoreError::Unavailable { operation, key, message },
        E::Unauthenticated { .. } => refused(Refusal::Credentials),
        E::PermissionDenied { .. } => refused(denial(&raw)),
        E::Generic { .. } => generic(operation, key, &error, &raw),
        E::JoinError { .. } => StoreError::Indeterminate { operation, key, message },
        _ => refused(Refusal::Request),
    }
}

/// Which kind of 403 it is; S3 says so in the body only.
fn denial(message: &str) -> Refusal {
    let codes = [
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "ExpiredToken",
        "InvalidToken",
        "RequestTimeTooSkewed",
    ];
    if codes.iter().any(|code| message.contains(code)) { Refusal::Credentials } else { Refusal::Permission }
}

fn generic(operation: Operation, key: String, error: &object_store::Error, raw: &str) -> StoreError {
    let message = readable(raw);
    if let Some(kind) = http_error_kind(error) {
        return match kind {
            // The request never left.
            HttpErrorKind::Connect => StoreError::Unavailable { operation, key, message },
            // Also what object_store calls `Request`: a connection that was closed before it answered may have been heard.
            _ => StoreError::Indeterminate { operation, key, message },
        };
    }
    let why = match status(raw) {
        Some(408 | 429) => return StoreError::Unavailable { operation, key, message },
        // A listing's errors come as they are, unsorted.
        Some(404) if raw.contains("NoSuchBucket") => Refusal::BucketMissing,
        Some(401 | 403) => denial(raw),
        Some(400..=499) if denial(raw) == Refusal::Credentials => Refusal::Credentials,
        Some(400..=499) => Refusal::Request,
        _ if raw.contains("redirect without LOCATION") => Refusal::Region,
        Some(300..=399) => Refusal::Region,
        // A folder's words for what a bucket answers with 416.
        _ if raw.contains("Wanted range starting at") || raw.contains("Out of range of file") => {
            Refusal::Request
        }
        // Server errors and failed system calls of a local folder: either may come after the deed.
        _ => return StoreError::Indeterminate { operation, key, message },
    };
    StoreError::Refused { operation, key, why, message }
}

fn http_error_kind(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut current: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = current {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        current = error.source();
    }
    None
}

/// The status that object_store's text names: its error type is private.
fn status(message: &str) -> Option<u16> {
    let (_, rest) = message.split_once("status code: ")?;
    rest.get(..3)?.parse().ok()
}

/// An error and its causes, for people.
pub(super) fn message(error: &(dyn Error + 'static)) -> String {
    readable(&raw_message(error))
}

/// What S3 says in its answer, if it said something; otherwise all of it, up to a length.
fn readable(raw: &str) -> String {
    const MESSAGE_CHARS_MAX: usize = 600;
    let inside = |tag: &str| {
        let (_, rest) = raw.split_once(&format!("<{tag}>"))?;
        rest.split_once('<').map(|(text, _)| text)
    };
    match (inside("Code"), inside("Message")) {
        (Some(code), Some(words)) => format!("{code}: {words}"),
        (Some(code), None) => code.to_owned(),
        _ => raw.chars().take(MESSAGE_CHARS_MAX).collect(),
    }
}

/// An error and its causes, each once. Some causes repeat what their effects have said.
fn raw_message(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(cause) = current {
        let words = cause.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        current = cause.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic_with(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    #[test]
    fn a_failure_is_sorted_by_whether_it_happened() {
        let sorted = |text: &str| classify(Operation::Create, "k", generic_with(text));
        let status = |code: &str| sorted(&format!("Server returned non-2xx status code: {code}: <Error/>"));
        assert!(matches!(status("500 Internal Server Error"), StoreError::Indeterminate { .. }));
        assert!(matches!(status("503 Slow Down"), StoreError::Indeterminate { .. }));
        assert!(matches!(status("429 Too Many Requests"), StoreError::Unavailable { .. }));
        assert!(matches!(status("400 Bad Request"), StoreError::Refused { why: Refusal::Request, .. }));
        let skewed = sorted("non-2xx status code: 400 Bad Request: <Code>ExpiredToken</Code>");
        assert!(matches!(skewed, StoreError::Refused { why: Refusal::Credentials, .. }));
        let denied = sorted("non-2xx status code: 403 Forbidden: <Code>AccessDenied</Code>");
        assert!(matches!(denied, StoreError::Refused { why: Refusal::Permission, .. }));
        let words =
            sorted("status code: 403 F: <Error><Code>AccessDenied</Code><Message>no.</Message></Error>");
        assert_eq!(
            words.to_string(),
            "cannot create k: these credentials do not permit it: AccessDenied: no."
        );
        assert!(matches!(sorted("disk on fire"), StoreError::Indeterminate { .. }));
        let missing =
            object_store::Error::NotFound { path: "k".into(), source: "<Code>NoSuchBucket</Code>".into() };
        let missing = classify(Operation::Get, "k", missing);
        assert!(matches!(missing, StoreError::Refused { why: Refusal::BucketMissing, .. }));
    }
}
