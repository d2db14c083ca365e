//! S3: where credentials come from, and the bucket's own settings.
//!
//! object_store carries the data. The AWS SDK gives what it lacks: the whole chain of credentials (environment, profiles,
//! web identity, instance roles), and requests about a bucket rather than its objects.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Once};
use std::time::Duration;

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::ProvideErrorMetadata;
use aws_sdk_s3::types::{
    AbortIncompleteMultipartUpload, BucketLifecycleConfiguration, BucketLocationConstraint,
    CreateBucketConfiguration, ExpirationStatus, LifecycleRule, LifecycleRuleFilter,
};
use aws_smithy_http_client::tls;
use object_store::aws::{AmazonS3Builder, AwsCredential};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use object_store::{BackoffConfig, ClientOptions, CredentialProvider, ObjectStore, RetryConfig};
use tokio::runtime::Handle;

use super::url::S3Location;
use super::{OpenError, StoreOptions};

/// Where a store that is not AWS is taken to be, unless it is told.
const REGION_DEFAULT: &str = "us-east-1";
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// After how many days a store drops the parts of an upload that nobody finished.
const ABANDONED_UPLOAD_DAYS: i32 = 1;
/// The name of our lifecycle rule, by which a second start finds it.
const LIFECYCLE_RULE: &str = "aquifer-abandoned-uploads";

/// A bucket seen through the SDK.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    client: aws_sdk_s3::Client,
    location: S3Location,
    region: String,
}

/// What asking for a bucket to exist did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// It was made.
    New,
    /// It was there.
    Existed,
}

/// Chooses ring for TLS, once for the process. reqwest panics without a choice, even where no TLS is spoken.
pub fn install_tls() {
    static ONCE: Once = Once::new();
    // An error says that the program has chosen already, which is as good.
    ONCE.call_once(|| drop(rustls::crypto::ring::default_provider().install_default()));
}

/// The data's side and the settings' side of a bucket.
pub(super) async fn open(
    location: &S3Location,
    options: &StoreOptions,
) -> Result<(Arc<dyn ObjectStore>, Bucket), OpenError> {
    install_tls();
    let config = sdk_config(location).await;
    let region = match (config.region(), &location.endpoint) {
        (Some(region), _) => region.as_ref().to_owned(),
        (None, Some(_)) => REGION_DEFAULT.to_owned(),
        (None, None) => return Err(OpenError::NoRegion { bucket: location.bucket.clone() }),
    };
    let data = data_store(location, &region, &config).await?;
    let client = sdk_client(location, &region, &config, options);
    Ok((data, Bucket { client, location: location.clone(), region }))
}

async fn sdk_config(location: &S3Location) -> SdkConfig {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::latest()).http_client(http);
    if let Some(region) = &location.region {
        loader = loader.region(Region::new(region.clone()));
    } else if location.endpoint.is_some() && std::env::var_os("AWS_REGION").is_none() {
        // Without this the SDK asks the metadata service of a cloud that is not there, for seconds.
        loader = loader.region(Region::new(REGION_DEFAULT));
    }
    loader.load().await
}

fn sdk_client(
    location: &S3Location,
    region: &str,
    config: &SdkConfig,
    options: &StoreOptions,
) -> aws_sdk_s3::Client {
    // By itself the SDK waits for an answer as long as the connection stands.
    let timeouts = TimeoutConfig::builder()
        .operation_attempt_timeout(options.attempt)
        .operation_timeout(options.deadline)
        .build();
    let mut builder = aws_sdk_s3::config::Builder::from(config)
        .region(Region::new(region.to_owned()))
        .timeout_config(timeouts);
    if let Some(endpoint) = &location.endpoint {
        builder = builder.endpoint_url(endpoint).force_path_style(true);
    }
    if location.anonymous {
        builder = builder.allow_no_auth();
    }
    aws_sdk_s3::Client::from_conf(builder.build())
}

async fn data_store(
    location: &S3Location,
    region: &str,
    config: &SdkConfig,
) -> Result<Arc<dyn ObjectStore>, OpenError> {
    // Retries and deadlines are the store's own, one layer up: two layers of them would multiply.
    let once =
        RetryConfig { backoff: BackoffConfig::default(), max_retries: 0, retry_timeout: Duration::ZERO };
    let client = ClientOptions::new()
        .with_allow_http(location.is_plain_http())
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_timeout_disabled();
    // AWS wants the bucket in the host's name, where TLS allows for it; others rarely have such names set up.
    let virtual_hosted = location.endpoint.is_none() && !location.bucket.contains('.');
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&location.bucket)
        .with_region(region)
        .with_virtual_hosted_style_request(virtual_hosted)
        .with_client_options(client)
        .with_http_connector(Connections(Handle::current()))
        .with_retry(once);
    if let Some(endpoint) = &location.endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    builder = match (location.anonymous, config.credentials_provider()) {
        (true, _) => builder.with_skip_signature(true),
        (false, Some(provider)) => builder.with_credentials(Arc::new(credentials(location, provider).await?)),
        (false, None) => {
            return Err(OpenError::NoCredentials { bucket: location.bucket.clone(), why: "none".to_owned() });
        }
    };
    let store = builder.build().map_err(|error| OpenError::BadUrl {
        url: format!("s3://{}", location.bucket),
        why: super::error::message(&error),
    })?;
    Ok(Arc::new(store))
}

/// Makes connections that are kept up, and read, by these threads, whoever makes requests over them.
#[derive(Debug)]
struct Connections(Handle);

impl HttpConnector for Connections {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(Requests { client, threads: self.0.clone() }))
    }
}

#[derive(Debug)]
struct Requests {
    client: HttpClient,
    threads: Handle,
}

#[async_trait]
impl HttpService for Requests {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let mut call = pin!(self.client.execute(request));
        // A connection's task starts where it is made. What it reads comes through its own short queue, as ever.
        poll_fn(|context| {
            let _there = self.threads.enter();
            call.as_mut().poll(context)
        })
        .await
    }
}

/// Asks the chain once, so that missing credentials are said at the start and by that name.
async fn credentials(location: &S3Location, provider: SharedCredentialsProvider) -> Result<Chain, OpenError> {
    let chain = Chain(provider);
    let missing = |why| OpenError::NoCredentials { bucket: location.bucket.clone(), why };
    chain.0.provide_credentials().await.map_err(|error| missing(super::error::message(&error)))?;
    Ok(chain)
}

/// The SDK's chain of credentials, which caches and renews them, as object_store asks for them.
#[derive(Debug)]
struct Chain(SharedCredentialsProvider);

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> object_store::Result<Arc<AwsCredential>> {
        let found = self.0.provide_credentials().await;
        let found = found.map_err(|error| object_store::Error::Unauthenticated {
            path: String::new(),
            source: super::error::message(&error).into(),
        })?;
        Ok(Arc::new(AwsCredential {
            key_id: found.access_key_id().to_owned(),
            secret_key: found.secret_access_key().to_owned(),
            token: found.session_token().map(str::to_owned),
        }))
    }
}

impl Bucket {
    /// Makes the bucket where there is none.
    pub(super) async fn create(&self) -> Result<Created, OpenError> {
        let mut request = self.client.create_bucket().bucket(&self.location.bucket);
        if self.region != REGION_DEFAULT {
            let place = BucketLocationConstraint::from(self.region.as_str());
            let place = CreateBucketConfiguration::builder().location_constraint(place).build();
            request = request.create_bucket_configuration(place);
        }
        match request.send().await {
            Ok(_) => Ok(Created::New),
            Err(error) if error.code() == Some("BucketAlreadyOwnedByYou") => Ok(Created::Existed),
            Err(error) => {
                Err(OpenError::CreateBucket { bucket: self.location.bucket.clone(), why: words(&error) })
            }
        }
    }

    /// Lets the store drop the parts of uploads that were never finished. Rules that others set are kept. Best effort: a store
    /// without lifecycle rules, or credentials without the right, cost a log line.
    pub(super) async fn set_lifecycle(&self) {
        if let Err(why) = self.try_set_lifecycle().await {
            tracing::info!(
                bucket = self.location.bucket,
                why,
                "the bucket takes no rule for abandoned multipart uploads: only this broker's sweep removes them"
            );
        }
    }

    async fn try_set_lifecycle(&self) -> Result<(), String> {
        let bucket = &self.location.bucket;
        let mut rules = match self.client.get_bucket_lifecycle_configuration().bucket(bucket).send().await {
            Ok(found) => found.rules.unwrap_or_default(),
            Err(error) if error.code() == Some("NoSuchLifecycleConfiguration") => Vec::new(),
            Err(error) => return Err(words(&error)),
        };
        if rules.iter().any(|rule| rule.id() == Some(LIFECYCLE_RULE)) {
            return Ok(());
        }
        let abort =
            AbortIncompleteMultipartUpload::builder().days_after_initiation(ABANDONED_UPLOAD_DAYS).build();
        let rule = LifecycleRule::builder()
            .id(LIFECYCLE_RULE)
            .status(ExpirationStatus::Enabled)
            .filter(LifecycleRuleFilter::builder().prefix(&self.location.prefix).build())
            .abort_incomplete_multipart_upload(abort)
            .build()
            .map_err(|error| error.to_string())?;
        rules.push(rule);
        let rules = BucketLifecycleConfiguration::builder().set_rules(Some(rules)).build();
        let rules = rules.map_err(|error| error.to_string())?;
        let request =
            self.client.put_bucket_lifecycle_configuration().bucket(bucket).lifecycle_configuration(rules);
        request.send().await.map_err(|error| words(&error))?;
        tracing::info!(bucket, days = ABANDONED_UPLOAD_DAYS, "the bucket drops abandoned multipart uploads");
        Ok(())
    }

    /// Ends multipart uploads below a prefix that began before `before` (milliseconds, by the store's clock). Gives how many.
    pub(super) async fn abort_uploads(&self, prefix: &str, before: i64) -> Result<u64, String> {
        let full = match self.location.prefix.as_str() {
            "" => prefix.to_owned(),
            root => format!("{root}/{prefix}"),
        };
        let bucket = &self.location.bucket;
        let listed = self.client.list_multipart_uploads().bucket(bucket).prefix(full).send().await;
        let listed = listed.map_err(|error| words(&error))?;
        let mut aborted = 0;
        // One page, of a thousand at most: what it leaves, the next round finds.
        for upload in listed.uploads() {
            let began = upload.initiated().and_then(|at| at.to_millis().ok());
            let (Some(began), Some(key), Some(id)) = (began, upload.key(), upload.upload_id()) else {
                continue;
            };
            if began < before {
                let request = self.client.abort_multipart_upload().bucket(bucket).key(key).upload_id(id);
                request.send().await.map_err(|error| words(&error))?;
                aborted += 1;
            }
        }
        Ok(aborted)
    }
}

/// What S3 says; where it said nothing, what went wrong on the way.
fn words(error: &(impl ProvideErrorMetadata + std::error::Error + 'static)) -> String {
    match (error.code(), error.message()) {
        (Some(code), Some(message)) => format!("{code}: {message}"),
        (Some(code), None) => code.to_owned(),
        _ => super::error::message(error),
    }
}
