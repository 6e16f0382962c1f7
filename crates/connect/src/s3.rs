//! A bucket that speaks S3: how it is opened and asked, and what its errors mean.
//!
//! ```text
//!  s3://bucket/prefix + options + AWS_… ──▶ Access ──▶ object_store ──▶ HTTP   tried again with back-off and jitter
//! ```
//!
//! Calls block; the requests run on a thread of their own, which also notices that a server has closed a connection while
//! nobody asked for anything. So a caller may itself be inside an executor (batch jobs are).
//!
//! Stores of checkpoints and tables of files stand on this. Not here: what the requests look like and how they are signed
//! (`object_store`; but see `raw`), and what is in the bucket.

#[cfg(test)]
pub(crate) mod proxy;
mod uploads;

use crate::store::check_path;
use millstream_core::{Error, Place, Result, RetryPolicy};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::{HttpClient, HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{BackoffConfig, ClientConfigKey, RetryConfig};
use std::collections::BTreeMap;
use std::future::Future;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

/// Tries of one request, and for how long another one may begin.
pub(crate) const TRIES_MAX: usize = 8;
pub(crate) const TRYING_MAX: Duration = Duration::from_secs(60);

/// The same where a person waits, at the start of a job, or where the next beat comes anyhow: for the lock.
pub(crate) const LOCK_TRIES_MAX: usize = 6;
pub(crate) const LOCK_TRYING_MAX: Duration = Duration::from_secs(10);

/// From a request's start to the last byte of its answer. At 10 Mbit/s that is time for a file of 150 MB.
pub(crate) const REQUEST_MAX: Duration = Duration::from_secs(120);

/// The same for the lock, whose object is small.
pub(crate) const LOCK_REQUEST_MAX: Duration = Duration::from_secs(10);

/// Tries of a request whose answer was lost and that the client itself does not repeat.
pub(crate) const UNANSWERED: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(400), most: Duration::from_secs(5), tries_max: 4 };

/// Bytes of a server's answer that are shown where they are no error of S3.
pub(crate) const SHOWN_MAX: usize = 500;

/// Where the client looks for a bucket if nobody says it.
const REGION: &str = "us-east-1";

pub(crate) const ACCESS_KEY: &str = "s3.access-key";

/// Options as Flink names them, and what they are for the client.
const OPTIONS: [(&str, AmazonS3ConfigKey); 5] = [
    (ACCESS_KEY, AmazonS3ConfigKey::AccessKeyId),
    ("s3.secret-key", AmazonS3ConfigKey::SecretAccessKey),
    ("s3.session-token", AmazonS3ConfigKey::Token),
    ("s3.endpoint", AmazonS3ConfigKey::Endpoint),
    ("s3.endpoint.region", AmazonS3ConfigKey::Region),
];

/// Whether the bucket stands in the path and not in the host's name; most servers other than Amazon's want that.
pub(crate) const PATH_STYLE: &str = "s3.path-style-access";

/// A bucket, or what is below a prefix of it, with who asks.
pub(crate) struct Access {
    /// For what jobs write and read: patient.
    pub(crate) client: Client,
    /// For the lock: impatient.
    pub(crate) lock_client: Client,
    pub(crate) thread: Driver,
    pub(crate) bucket: String,
    /// Without `/` at either end; may be empty.
    pub(crate) prefix: String,
    /// Where a request goes that says nothing else; empty: Amazon.
    endpoint: String,
    region: String,
    /// For the requests that the client does not know.
    http: HttpClient,
    /// Never to be shown.
    secrets: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) s3: AmazonS3,
    /// For how long another try may begin.
    pub(crate) trying: Duration,
}

impl Access {
    /// Opens `s3://bucket/prefix`. What the options do not say comes from the environment (`AWS_ACCESS_KEY_ID` and so on)
    /// or from the machine's role. Nothing is asked of the server yet.
    pub(crate) fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Access> {
        let Settings { builder, bucket, prefix, endpoint } = Settings::of(url, options)?;
        let value = |key| builder.get_config_value(&key).filter(|v| !v.is_empty());
        let region = value(AmazonS3ConfigKey::Region).unwrap_or_else(|| REGION.to_owned());
        let secrets = [AmazonS3ConfigKey::SecretAccessKey, AmazonS3ConfigKey::Token, AmazonS3ConfigKey::AccessKeyId];
        let secrets: Vec<String> = secrets.into_iter().filter_map(value).collect();
        let unusable = |e: object_store::Error| {
            let said = without(&secrets, &e.to_string());
            Error::usage(format!("`s3://{bucket}` cannot be used: {said}"))
                .remedy("check the environment variables that begin with AWS_, or the options that begin with 's3.'")
        };
        let http = uploads::http(|key| value(AmazonS3ConfigKey::Client(key)), REQUEST_MAX).map_err(unusable)?;
        let builder = builder.with_bucket_name(&bucket).with_conditional_put(S3ConditionalPut::ETagMatch);
        let client = |tries: usize, trying: Duration, request: Duration| {
            let timeout = AmazonS3ConfigKey::Client(ClientConfigKey::Timeout);
            let builder = builder.clone().with_config(timeout, format!("{}s", request.as_secs()));
            // Whoever writes `http://` has decided.
            let builder = match endpoint.starts_with("http://") {
                true => builder.with_allow_http(true),
                false => builder,
            };
            let retry =
                RetryConfig { backoff: BackoffConfig::default(), max_retries: tries - 1, retry_timeout: trying };
            let built = builder.with_retry(retry).build().map_err(unusable);
            built.map(|s3| Client { s3, trying })
        };
        let lock_client = client(LOCK_TRIES_MAX, LOCK_TRYING_MAX, LOCK_REQUEST_MAX)?;
        let client = client(TRIES_MAX, TRYING_MAX, REQUEST_MAX)?;
        let thread = Driver::start()?;
        Ok(Access { client, lock_client, thread, bucket, prefix, endpoint, region, http, secrets })
    }

    /// What can be said about a URL and options without opening anything.
    pub(crate) fn check(url: &str, options: &BTreeMap<String, String>) -> Result<()> {
        Settings::of(url, options).map(drop)
    }
}

/// What a URL, the options and the environment say.
struct Settings {
    builder: AmazonS3Builder,
    bucket: String,
    prefix: String,
    endpoint: String,
}

impl Settings {
    fn of(url: &str, options: &BTreeMap<String, String>) -> Result<Settings> {
        let (bucket, prefix) = parse(url)?;
        // Keys come from one place: a session token of the environment does not belong to the keys of the options.
        let mut builder = from_environment(!options.contains_key(ACCESS_KEY));
        for (name, value) in options {
            if let Some((_, key)) = OPTIONS.iter().find(|(known, _)| known == name) {
                builder = builder.with_config(*key, value);
            } else if name == PATH_STYLE {
                let path_style: bool = value.trim().parse().map_err(|_| {
                    Error::usage(format!("'{PATH_STYLE}' cannot be '{value}'")).remedy("use true or false")
                })?;
                builder = builder.with_virtual_hosted_style_request(!path_style);
            } else {
                let known = OPTIONS.iter().map(|(known, _)| *known).chain([PATH_STYLE]).collect::<Vec<_>>().join(", ");
                return Err(Error::usage(format!("S3 has no option '{name}'")).remedy(format!("it has {known}")));
            }
        }
        let value = |key| builder.get_config_value(&key).filter(|v| !v.is_empty());
        let endpoint = value(AmazonS3ConfigKey::S3Endpoint).or_else(|| value(AmazonS3ConfigKey::Endpoint));
        let endpoint = endpoint.unwrap_or_default();
        if endpoint.contains('@') {
            return Err(Error::usage("the address of a server that speaks S3 has more in it than a host and a port")
                .remedy("keys do not belong there: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"));
        }
        if !endpoint.is_empty() && !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
            return Err(Error::usage(format!("'{endpoint}' is no address of a server that speaks S3"))
                .remedy("begin it with https:// or http://; it is AWS_ENDPOINT_URL or 's3.endpoint'"));
        }
        Ok(Settings { builder, bucket, prefix, endpoint })
    }
}

impl Access {
    pub(crate) fn name(&self) -> String {
        match self.prefix.is_empty() {
            true => format!("s3://{}", self.bucket),
            false => format!("s3://{}/{}", self.bucket, self.prefix),
        }
    }

    pub(crate) fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    pub(crate) fn place(&self, at: &Path) -> Place {
        Place(format!("s3://{}/{at}", self.bucket))
    }

    pub(crate) fn failed(&self, what: &str, at: &Path, e: &object_store::Error) -> Error {
        let (code, said) = said(e);
        let said = without(&self.secrets, &said);
        let server = if self.endpoint.is_empty() { "Amazon S3" } else { &self.endpoint };
        // Without keys the client asks the machine it runs on for its role.
        if said.contains("169.254.169.254") || said.contains("/latest/api/token") {
            return Error::usage(format!("there are no credentials for {}: this machine has no role", self.name()))
                .remedy(
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; the profiles of ~/.aws/credentials are not read",
                );
        }
        if code == "NoSuchBucket" {
            return Error::usage(format!("there is no bucket `{}` on {server}", self.bucket))
                .at(self.place(at))
                .remedy("make the bucket first, or check its name and AWS_REGION or AWS_ENDPOINT_URL");
        }
        use object_store::Error as E;
        let error = Error::io(format!("cannot {what} an object of {}: {said}", self.name())).at(self.place(at));
        let remedy = match e {
            _ if matches!(code.as_str(), "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken") => {
                "check the access key, the secret key and the session token (AWS_…), and this machine's clock"
            }
            _ if code == "ExpiredToken" || code == "TokenRefreshRequired" => {
                "the session token has expired: set a new AWS_SESSION_TOKEN with its keys and run the job again; it goes on \
                 where it was"
            }
            _ if code == "RequestTimeTooSkewed" => {
                "this machine's clock and the server's differ by more than S3 allows (15 minutes): set the clock, for example \
                 with NTP"
            }
            E::Unauthenticated { .. } => "check the access key and the secret key (AWS_…), and this machine's clock",
            E::PermissionDenied { .. } => {
                "allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there; for tables that are written also \
                 s3:AbortMultipartUpload, s3:ListMultipartUploadParts and s3:ListBucketMultipartUploads"
            }
            E::NotFound { .. } => "check the name of the bucket, AWS_REGION and AWS_ENDPOINT_URL",
            E::NotImplemented { .. } | E::NotSupported { .. } => {
                "use a server that knows conditional writes (If-None-Match), or a folder"
            }
            _ if code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || said.contains("redirect") => {
                "the bucket is in another region: set AWS_REGION"
            }
            _ if matches!(code.as_str(), "SlowDown" | "ServiceUnavailable" | "InternalError")
                || said.contains(": 503 ")
                || said.contains(": 500 ") =>
            {
                "the server is overloaded or ill: try again later; a job goes on where it was"
            }
            _ => "see that the server can be reached: AWS_ENDPOINT_URL, AWS_REGION, the network, a firewall",
        };
        error.remedy(remedy)
    }
}

/// A thread that drives requests until it is dropped.
pub(crate) struct Driver {
    runtime: tokio::runtime::Handle,
    /// Dropped first: that ends the thread.
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Driver {
    fn start() -> Result<Driver> {
        let failed = |e: std::io::Error| Error::io(format!("cannot start the thread that speaks S3: {e}"));
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build().map_err(failed)?;
        let (handle, (stop, stopped)) = (runtime.handle().clone(), tokio::sync::oneshot::channel::<()>());
        let thread = std::thread::Builder::new().name("s3".to_owned()).spawn(move || {
            // Ends with an error once the sender is dropped, which is what is waited for.
            let _ = runtime.block_on(stopped);
        });
        Ok(Driver { runtime: handle, stop: Some(stop), thread: Some(thread.map_err(failed)?) })
    }

    /// Begins a request; what it comes to arrives by itself.
    pub(crate) fn begin<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> Receiver<T> {
        let (answer, answered) = sync_channel(1);
        self.runtime.spawn(async move {
            let _ = answer.send(request.await);
        });
        answered
    }

    /// What a request comes to. The calling thread waits, and is no part of the executor.
    pub(crate) fn wait<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> T {
        self.begin(request).recv().expect("the thread lives as long as the store, and requests do not panic")
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A request that may be made twice, made again where its answer was lost. Most are repeated by the client; not those whose
/// answer breaks off after its head.
pub(crate) async fn until_answered<T, F: Future<Output = object_store::Result<T>>>(
    at: &Path,
    request: impl Fn() -> F,
) -> object_store::Result<T> {
    let mut tries = UNANSWERED.tries(at.as_ref());
    loop {
        let result = request().await;
        match tries.after_failure() {
            Some(pause) if result.as_ref().is_err_and(unanswered) => tokio::time::sleep(pause).await,
            _ => return result,
        }
    }
}

/// Whether nobody knows what a request has done: it was sent, and no answer came, or not all of it. The client does not
/// repeat those that have a condition; what it has repeated itself is not meant.
pub(crate) fn unanswered(e: &object_store::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return !matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Request);
        }
        cause = error.source();
    }
    false
}

/// What the environment says, as Amazon's own programs read it. A variable that is empty says nothing.
fn from_environment(with_keys: bool) -> AmazonS3Builder {
    use AmazonS3ConfigKey as K;
    std::env::vars_os().fold(AmazonS3Builder::new(), |builder, (name, value)| {
        let (Some(name), Some(value)) = (name.to_str(), value.to_str()) else { return builder };
        if !name.starts_with("AWS_") || value.is_empty() {
            return builder;
        }
        match name.to_ascii_lowercase().parse() {
            Ok(K::AccessKeyId | K::SecretAccessKey | K::Token) if !with_keys => builder,
            Ok(key) => builder.with_config(key, value),
            Err(_) => builder,
        }
    })
}

pub(crate) fn parse(url: &str) -> Result<(String, String)> {
    // Whatever stands before an `@` may be a password.
    let shown = url.split(['?', '#']).next().unwrap_or_default().rsplit('@').next().unwrap_or_default();
    let wrong = |what: &str| {
        Error::usage(format!("`{shown}` {what}"))
            .remedy("write s3://bucket/prefix; keys belong into the environment: AWS_ACCESS_KEY_ID and so on")
    };
    let rest = url.strip_prefix("s3://").ok_or_else(|| wrong("is no URL of a bucket"))?;
    if rest.contains(['@', '?', '#']) {
        return Err(wrong("has more in it than a bucket and a prefix"));
    }
    let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    let prefix = prefix.trim_matches('/');
    if bucket.is_empty() {
        return Err(wrong("names no bucket"));
    }
    if !bucket.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_')) {
        return Err(wrong("has a bucket whose name cannot be one"));
    }
    // Each part is checked as names of objects are: no empty and no hidden ones, which a listing would not show.
    if !prefix.is_empty() {
        check_path(prefix).map_err(|_| wrong("has a prefix with a part that is empty or begins with a dot"))?;
        Path::parse(prefix).map_err(|e| wrong(&format!("has a prefix that cannot be one: {e}")))?;
    }
    Ok((bucket.to_owned(), prefix.to_owned()))
}

/// The code of an error of S3, where it is one, and what is to be shown. Of S3's XML only the code and the message: the
/// rest may repeat the request with its headers.
pub(crate) fn said(e: &object_store::Error) -> (String, String) {
    let text = e.to_string();
    if let Some(start) = text.find("<Error>").or_else(|| text.find("<?xml")) {
        let element = |name: &str| {
            let rest = &text[start..];
            let from = rest.find(&format!("<{name}>"))? + name.len() + 2;
            let to = rest[from..].find("</")?;
            Some(rest[from..from + to].trim().to_owned())
        };
        if let Some(code) = element("Code") {
            let said = element("Message").map_or_else(|| code.clone(), |message| format!("{code}: {message}"));
            return (code, said);
        }
    }
    // The library shows the outermost error; the innermost is what happened, such as a connection that was refused.
    let mut deepest: &dyn std::error::Error = e;
    while let Some(cause) = deepest.source() {
        deepest = cause;
    }
    let cause = deepest.to_string();
    let shown = text.floor_char_boundary(SHOWN_MAX.min(text.len()));
    let said = if text.contains(&cause) { text[..shown].to_owned() } else { format!("{}: {cause}", &text[..shown]) };
    (String::new(), said)
}

/// A text without secrets.
pub(crate) fn without(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}
