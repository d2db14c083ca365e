//! Object store URLs: `file:///dir`, `memory:///`, `s3://bucket/prefix?region=..&endpoint=..`.

use std::path::PathBuf;

use url::Url;

/// Where a store is, read from its URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// A folder on this machine.
    Folder(PathBuf),
    /// This process' memory; gone with it.
    Memory,
    /// A bucket.
    S3(S3Location),
}

/// A bucket on S3 or what speaks like it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct S3Location {
    /// Its name.
    pub bucket: String,
    /// What all keys start with; may be empty.
    pub prefix: String,
    /// `region=`; otherwise as the AWS tools find it.
    pub region: Option<String>,
    /// `endpoint=`: another server than AWS.
    pub endpoint: Option<String>,
    /// `allow_http=true`: an endpoint without TLS that is not on this machine.
    pub allow_http: bool,
    /// `anonymous=true`: requests are not signed.
    pub anonymous: bool,
}

/// The whole list of what may follow the question mark.
const QUERY_KEYS: &str = "region, endpoint, allow_http, anonymous";

impl Location {
    /// Reads a URL; the error says what is wrong with it and how it should look.
    pub fn parse(text: &str) -> Result<Location, String> {
        let url = Url::parse(text).map_err(|error| {
            format!("{error}; it should look like s3://bucket/prefix, file:///folder or memory:///")
        })?;
        match url.scheme() {
            "file" => folder(&url),
            "memory" => Ok(Location::Memory),
            "s3" => s3(&url).map(Location::S3),
            other => Err(format!("the scheme {other}:// is not supported; s3://, file:// and memory:// are")),
        }
    }
}

fn folder(url: &Url) -> Result<Location, String> {
    if url.host().is_some() {
        return Err("a folder needs three slashes and an absolute path: file:///var/lib/bucket".to_owned());
    }
    if url.query().is_some() {
        return Err("a folder has no settings: nothing may follow a question mark".to_owned());
    }
    let path = url.to_file_path().map_err(|()| "the path is not one of this machine".to_owned())?;
    Ok(Location::Folder(path))
}

fn s3(url: &Url) -> Result<S3Location, String> {
    let bucket =
        url.host_str().filter(|host| !host.is_empty()).ok_or("the bucket's name is missing: s3://bucket")?;
    if url.username() != "" || url.password().is_some() {
        return Err("credentials do not belong in the URL; use the environment or an AWS profile".to_owned());
    }
    let mut location = S3Location {
        bucket: bucket.to_owned(),
        prefix: url.path().trim_matches('/').to_owned(),
        ..S3Location::default()
    };
    for (key, value) in url.query_pairs() {
        match &*key {
            "region" => location.region = Some(value.into_owned()),
            "endpoint" => location.endpoint = Some(endpoint(&value)?),
            "allow_http" => location.allow_http = truth(&key, &value)?,
            "anonymous" => location.anonymous = truth(&key, &value)?,
            other => return Err(format!("the setting {other} is unknown; there are {QUERY_KEYS}")),
        }
    }
    location.check_http()?;
    Ok(location)
}

fn endpoint(value: &str) -> Result<String, String> {
    let url = Url::parse(value)
        .map_err(|error| format!("endpoint {value}: {error}; it should look like https://host"))?;
    match url.scheme() {
        "http" | "https" => Ok(value.trim_end_matches('/').to_owned()),
        other => Err(format!("endpoint {value}: {other}:// is neither http:// nor https://")),
    }
}

fn truth(key: &str, value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{key}={value}: it should be true or false"))
}

impl S3Location {
    /// Whether the endpoint is spoken to without TLS.
    pub fn is_plain_http(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    fn check_http(&self) -> Result<(), String> {
        let endpoint = self.endpoint.as_deref().unwrap_or_default();
        let local = ["http://127.0.0.1", "http://localhost", "http://[::1]"]
            .iter()
            .any(|host| endpoint.starts_with(host));
        if self.is_plain_http() && !local && !self.allow_http {
            return Err(format!(
                "endpoint {endpoint} is not encrypted; add allow_http=true if that is meant"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locations_are_read_and_what_is_wrong_is_said() {
        assert_eq!(Location::parse("file:///var/b"), Ok(Location::Folder("/var/b".into())));
        assert_eq!(Location::parse("memory:///"), Ok(Location::Memory));
        let expected = S3Location {
            bucket: "b".into(),
            prefix: "a/c".into(),
            region: Some("eu-1".into()),
            endpoint: Some("http://127.0.0.1:9000".into()),
            ..S3Location::default()
        };
        let url = "s3://b/a/c/?region=eu-1&endpoint=http://127.0.0.1:9000/";
        assert_eq!(Location::parse(url), Ok(Location::S3(expected)));
        for (bad, word) in [
            ("bucket", "should look like"),
            ("gs://b", "not supported"),
            ("file://var/b", "three slashes"),
            ("s3:///b", "bucket"),
            ("s3://b?regoin=x", "regoin"),
            ("s3://b?endpoint=minio:9000", "endpoint"),
            ("s3://b?endpoint=http://minio:9000", "allow_http"),
            ("s3://key:secret@b", "credentials"),
            ("s3://b?allow_http=yes", "true or false"),
        ] {
            let error = Location::parse(bad).unwrap_err();
            assert!(error.contains(word), "{bad}: {error}");
        }
        assert!(Location::parse("s3://b?endpoint=http://minio:9000&allow_http=true").is_ok());
    }
}
