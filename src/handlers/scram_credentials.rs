//! DescribeUserScramCredentials (KIP-554).
//!
//! Nobody can log in yet, so that nobody has a credential and none can be set: AlterUserScramCredentials is not served. It is served
//! to say so, since `kafka-configs` asks for it whenever it describes users, behind their quotas.

use std::collections::BTreeMap;

use aquifer_protocol::messages::describe_user_scram_credentials::{
    DescribeUserScramCredentialsRequest, DescribeUserScramCredentialsResponse,
    DescribeUserScramCredentialsResult,
};
use aquifer_protocol::{ErrorCode, Str};

use super::errors;

/// Tells of the users that are named, each once; of all, which is of nobody, if none is.
pub(crate) fn describe(
    request: &DescribeUserScramCredentialsRequest,
) -> DescribeUserScramCredentialsResponse {
    let mut named: BTreeMap<&Str, usize> = BTreeMap::new();
    for user in request.users.iter().flatten() {
        *named.entry(&user.name).or_default() += 1;
    }
    let told = |(user, count): (&Str, usize)| {
        let (error_code, words) = match count {
            1 => (ErrorCode::RESOURCE_NOT_FOUND, "the user has no SCRAM credential: there are none here yet"),
            _ => (ErrorCode::DUPLICATE_RESOURCE, "the request names this user more than once"),
        };
        DescribeUserScramCredentialsResult {
            user: user.clone(),
            error_code,
            error_message: errors::message(&words),
            credential_infos: Vec::new(),
        }
    };
    DescribeUserScramCredentialsResponse {
        error_message: None,
        results: named.into_iter().map(told).collect(),
        ..DescribeUserScramCredentialsResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use aquifer_protocol::messages::describe_user_scram_credentials::UserName;

    use super::*;

    #[test]
    fn nobody_has_a_credential_and_whoever_is_named_twice_is_told_that() {
        let named = |users: &[&str]| {
            let users = users.iter().map(|user| UserName { name: Str::from(*user) });
            DescribeUserScramCredentialsRequest { users: Some(users.collect()) }
        };
        let (none, twice) = (ErrorCode::RESOURCE_NOT_FOUND, ErrorCode::DUPLICATE_RESOURCE);
        for (request, expected) in [
            (DescribeUserScramCredentialsRequest { users: None }, vec![]),
            (named(&[]), vec![]),
            (named(&["b", "a"]), vec![("a", none), ("b", none)]),
            (named(&["a", "b", "a", "a"]), vec![("a", twice), ("b", none)]),
        ] {
            let answer = describe(&request);
            assert_eq!(answer.error_code, ErrorCode::NONE);
            let told: Vec<(&str, ErrorCode)> =
                answer.results.iter().map(|result| (&*result.user, result.error_code)).collect();
            assert_eq!(told, expected);
            assert!(answer.results.iter().all(|result| result.error_message.is_some()));
        }
    }
}
