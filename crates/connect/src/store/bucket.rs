//! A bucket that speaks S3 as a store.
//!
//! ```text
//!  put, get, list, delete ──▶ object_store ──▶ HTTP     tried again with back-off where that may help
//!  put (create)           ──▶ If-None-Match: *          refused? then the object says whose put has made it
//!  lock                   ──▶ owner.json                written again every 15 s while its owner is alive
//! ```
//!
//! A create that got no answer may have succeeded, and the second try would find the name taken by ourselves. So every
//! object carries the name of the put that made it, and a taken name is ours if it carries that.
//!
//! Calls block; the requests run on a thread of the store's own, which also notices that a server has closed a connection
//! while nobody asked for anything. So a caller may itself be inside an executor (batch jobs are).
//!
//! Not here: what the requests look like and how they are signed (`object_store`), and the lock (`lock`).

mod lock;

use super::{Lock, OwnedStore, check_path, now};
use futures::TryStreamExt;
use millstream_core::{Error, Place, Put, Result, RetryPolicy, Stat, Store, Stored};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::client::{HttpError, HttpErrorKind};
use object_store::path::Path;
use object_store::{
    Attribute, BackoffConfig, ClientConfigKey, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    PutPayload, RetryConfig, UpdateVersion,
};
use std::collections::BTreeMap;
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Tries of one request, and for how long another one may begin.
const TRIES_MAX: usize = 8;
const TRYING_MAX: Duration = Duration::from_secs(60);

/// The same where a person waits, at the start of a job, or where the next beat comes anyhow: for the lock.
const LOCK_TRIES_MAX: usize = 6;
const LOCK_TRYING_MAX: Duration = Duration::from_secs(10);

/// From a request's start to the last byte of its answer. At 10 Mbit/s that is time for a file of 150 MB.
const REQUEST_MAX: Duration = Duration::from_secs(120);

/// The same for the lock, whose object is small.
const LOCK_REQUEST_MAX: Duration = Duration::from_secs(10);

/// Tries of a conditional put that nobody has answered; the client itself does not repeat those.
const UNANSWERED: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(400), most: Duration::from_secs(5), tries_max: 4 };

/// How often a running job looks for requests. A folder can be asked more often; a bucket takes money for each look.
const LISTEN_EVERY: Duration = Duration::from_secs(2);

/// Bytes of a server's answer that are shown where they are no error of S3.
const SHOWN_MAX: usize = 500;

/// The attribute with the name of the put.
const WRITER: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("millstream-put"));

const ACCESS_KEY: &str = "s3.access-key";

/// Options as Flink names them, and what they are for the client.
const OPTIONS: [(&str, AmazonS3ConfigKey); 5] = [
    (ACCESS_KEY, AmazonS3ConfigKey::AccessKeyId),
    ("s3.secret-key", AmazonS3ConfigKey::SecretAccessKey),
    ("s3.session-token", AmazonS3ConfigKey::Token),
    ("s3.endpoint", AmazonS3ConfigKey::Endpoint),
    ("s3.endpoint.region", AmazonS3ConfigKey::Region),
];

/// Whether the bucket stands in the path and not in the host's name; most servers other than Amazon's want that.
const PATH_STYLE: &str = "s3.path-style-access";

/// Objects below a prefix of a bucket.
pub struct Bucket {
    inner: Arc<Inner>,
}

struct Inner {
    /// For what jobs write and read: patient.
    client: Client,
    /// For the lock: impatient.
    lock_client: Client,
    thread: Driver,
    bucket: String,
    /// Without `/` at either end; may be empty.
    prefix: String,
    /// Where a request goes that says nothing else; empty: Amazon.
    endpoint: String,
    /// Never to be shown.
    secrets: Vec<String>,
}

#[derive(Clone)]
struct Client {
    s3: AmazonS3,
    /// For how long another try may begin.
    trying: Duration,
}

/// Whose put has made an object, where it says so, and the version it has.
struct Made {
    by: Option<String>,
    version: UpdateVersion,
}

impl Bucket {
    /// Opens `s3://bucket/prefix`. What the options do not say comes from the environment (`AWS_ACCESS_KEY_ID` and so on)
    /// or from the machine's role. Nothing is asked of the server yet.
    pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Bucket> {
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
        let secrets = [AmazonS3ConfigKey::SecretAccessKey, AmazonS3ConfigKey::Token, AmazonS3ConfigKey::AccessKeyId];
        let secrets: Vec<String> = secrets.into_iter().filter_map(value).collect();
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
            let built = builder.with_retry(retry).build().map_err(|e| {
                let said = without(&secrets, &e.to_string());
                Error::usage(format!("`s3://{bucket}` cannot be used: {said}")).remedy(
                    "check the environment variables that begin with AWS_, or the options that begin with 's3.'",
                )
            });
            built.map(|s3| Client { s3, trying })
        };
        let lock_client = client(LOCK_TRIES_MAX, LOCK_TRYING_MAX, LOCK_REQUEST_MAX)?;
        let client = client(TRIES_MAX, TRYING_MAX, REQUEST_MAX)?;
        let thread = Driver::start()?;
        Ok(Bucket { inner: Arc::new(Inner { client, lock_client, thread, bucket, prefix, endpoint, secrets }) })
    }
}

impl Inner {
    fn name(&self) -> String {
        match self.prefix.is_empty() {
            true => format!("s3://{}", self.bucket),
            false => format!("s3://{}/{}", self.bucket, self.prefix),
        }
    }

    fn location(&self, path: &str) -> Result<Path> {
        check_path(path)?;
        Path::parse(self.key(path))
            .map_err(|e| Error::internal(format!("`{path}` cannot be the name of an object in a store: {e}")))
    }

    fn key(&self, path: &str) -> String {
        if self.prefix.is_empty() { path.to_owned() } else { format!("{}/{path}", self.prefix) }
    }

    /// One request to write, repeated by the client where that cannot do harm.
    fn put(
        &self,
        client: &Client,
        at: &Path,
        bytes: &[u8],
        mode: PutMode,
        writer: &str,
    ) -> object_store::Result<UpdateVersion> {
        let mut options = PutOptions::from(mode);
        options.attributes.insert(WRITER, writer.to_owned().into());
        let (s3, at, payload) = (client.s3.clone(), at.clone(), PutPayload::from(bytes.to_vec()));
        let result = self.thread.wait(async move { s3.put_opts(&at, payload, options).await })?;
        Ok(UpdateVersion { e_tag: result.e_tag, version: result.version })
    }

    /// Writes if the condition of `mode` holds, and finds out whether it did where the answer was lost: see the module's
    /// story. `None`: the condition did not hold.
    fn put_if(
        &self,
        client: &Client,
        at: &Path,
        bytes: &[u8],
        mode: &PutMode,
        writer: &str,
    ) -> Result<Option<UpdateVersion>> {
        use object_store::Error as E;
        let (start, mut tries) = (Instant::now(), UNANSWERED.tries(at.as_ref()));
        loop {
            // What comes if this one fails too.
            let pause = tries.after_failure().filter(|_| start.elapsed() < client.trying);
            let again = pause.is_some();
            match self.put(client, at, bytes, mode.clone(), writer) {
                Ok(version) => return Ok(Some(version)),
                Err(e @ (E::AlreadyExists { .. } | E::Precondition { .. })) => match self.look(client, at)? {
                    Some(made) if made.by.as_deref() == Some(writer) => return Ok(Some(made.version)),
                    Some(_) => return Ok(None),
                    // Gone since; or a put and a removal at the same moment, where S3 asks for another try.
                    None if matches!(mode, PutMode::Create) && again => {}
                    None if matches!(mode, PutMode::Create) => return Err(self.failed("write", at, &e)),
                    None => return Ok(None),
                },
                Err(e) if unanswered(&e) && again => {}
                Err(e) => return Err(self.failed("write", at, &e)),
            }
            std::thread::sleep(pause.unwrap_or_default());
        }
    }

    /// An object without its bytes; `None`: it is not there.
    fn look(&self, client: &Client, at: &Path) -> Result<Option<Made>> {
        let (s3, to) = (client.s3.clone(), at.clone());
        let options = GetOptions { head: true, ..GetOptions::default() };
        match self.thread.wait(async move { s3.get_opts(&to, options).await }) {
            Ok(result) => Ok(Some(Made {
                by: result.attributes.get(&WRITER).map(|name| name.as_ref().to_owned()),
                version: UpdateVersion { e_tag: result.meta.e_tag, version: result.meta.version },
            })),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.failed("look at", at, &e)),
        }
    }

    fn delete(&self, client: &Client, at: &Path) -> object_store::Result<()> {
        let (s3, at) = (client.s3.clone(), at.clone());
        self.thread.wait(async move { s3.delete(&at).await })
    }

    fn place(&self, at: &Path) -> Place {
        Place(format!("s3://{}/{at}", self.bucket))
    }

    fn failed(&self, what: &str, at: &Path, e: &object_store::Error) -> Error {
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
            _ if matches!(
                code.as_str(),
                "InvalidAccessKeyId"
                    | "SignatureDoesNotMatch"
                    | "ExpiredToken"
                    | "InvalidToken"
                    | "RequestTimeTooSkewed"
            ) =>
            {
                "check the access key, the secret key and the session token (AWS_…), and this machine's clock"
            }
            E::Unauthenticated { .. } => "check the access key and the secret key (AWS_…), and this machine's clock",
            E::PermissionDenied { .. } => "allow s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket there",
            E::NotFound { .. } => "check the name of the bucket, AWS_REGION and AWS_ENDPOINT_URL",
            E::NotImplemented { .. } | E::NotSupported { .. } => {
                "use a server that knows conditional writes (If-None-Match), or a folder"
            }
            _ if code == "PermanentRedirect" || code == "AuthorizationHeaderMalformed" || said.contains("redirect") => {
                "the bucket is in another region: set AWS_REGION"
            }
            _ if code == "SlowDown" || said.contains("503") || said.contains("500 ") => {
                "the server is overloaded or ill: try again later; a job goes on where it was"
            }
            _ => "see that the server can be reached: AWS_ENDPOINT_URL, AWS_REGION, the network, a firewall",
        };
        error.remedy(remedy)
    }
}

impl Store for Bucket {
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored> {
        let inner = &self.inner;
        let (at, writer) = (inner.location(path)?, put_name());
        match how {
            Put::Create => match inner.put_if(&inner.client, &at, bytes, &PutMode::Create, &writer)? {
                Some(_) => Ok(Stored::Yes),
                None => Ok(Stored::Exists),
            },
            Put::Replace => match inner.put(&inner.client, &at, bytes, PutMode::Overwrite, &writer) {
                Ok(_) => Ok(Stored::Yes),
                Err(e) => Err(inner.failed("write", &at, &e)),
            },
        }
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let at = self.inner.location(path)?;
        let (s3, to) = (self.inner.client.s3.clone(), at.clone());
        match self.inner.thread.wait(async move { s3.get(&to).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes.into())),
            // A bucket that is not there is no empty one.
            Err(e @ object_store::Error::NotFound { .. }) if said(&e).0 != "NoSuchBucket" => Ok(None),
            Err(e) => Err(self.inner.failed("read", &at, &e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stat>> {
        // The client lists by whole parts of a path; the rest of the prefix is ours to compare.
        let folder = prefix.rsplit_once('/').map_or("", |(folder, _)| folder);
        let below = self.inner.key(folder);
        let below = Path::parse(below.trim_end_matches('/'))
            .map_err(|e| Error::internal(format!("`{prefix}` cannot be listed: {e}")))?;
        let (s3, of) = (self.inner.client.s3.clone(), below.clone());
        let all = self.inner.thread.wait(async move { s3.list(Some(&of)).try_collect::<Vec<_>>().await });
        let all = all.map_err(|e| self.inner.failed("list", &below, &e))?;
        let own = if self.inner.prefix.is_empty() { String::new() } else { format!("{}/", self.inner.prefix) };
        let mut stats: Vec<Stat> = all
            .into_iter()
            .filter_map(|meta| {
                let path = meta.location.as_ref().strip_prefix(&own)?.to_owned();
                (path.starts_with(prefix) && check_path(&path).is_ok()).then(|| Stat {
                    path,
                    bytes: meta.size,
                    modified: meta.last_modified.timestamp_millis(),
                })
            })
            .collect();
        stats.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(stats)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let at = self.inner.location(path)?;
        match self.inner.delete(&self.inner.client, &at) {
            Ok(()) => Ok(()),
            Err(e @ object_store::Error::NotFound { .. }) if said(&e).0 != "NoSuchBucket" => Ok(()),
            Err(e) => Err(self.inner.failed("remove", &at, &e)),
        }
    }

    fn name(&self) -> String {
        self.inner.name()
    }
}

impl OwnedStore for Bucket {
    fn lock(&self, owner: &str) -> Result<Lock> {
        lock::take(&self.inner, owner)
    }

    fn listen_every(&self) -> Duration {
        LISTEN_EVERY
    }
}

/// A thread that drives requests until it is dropped.
struct Driver {
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

    /// What a request comes to. The calling thread waits, and is no part of the executor.
    fn wait<T: Send + 'static>(&self, request: impl Future<Output = T> + Send + 'static) -> T {
        let (answer, answered) = std::sync::mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = answer.send(request.await);
        });
        answered.recv().expect("the thread lives as long as the store, and requests do not panic")
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

/// Whether nobody knows what a request has done: it was sent, and no answer came. The client does not repeat those that
/// have a condition; what it has repeated itself is not meant.
fn unanswered(e: &object_store::Error) -> bool {
    let mut cause: Option<&dyn std::error::Error> = Some(e);
    while let Some(error) = cause {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return !matches!(http.kind(), HttpErrorKind::Connect | HttpErrorKind::Request);
        }
        cause = error.source();
    }
    false
}

/// A name that no other put has.
fn put_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // Two processes that share number and clock differ in the seed.
    format!("{:x}-{:x}-{next}-{:016x}", std::process::id(), now(), RandomState::new().hash_one(next))
}

fn parse(url: &str) -> Result<(String, String)> {
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
fn said(e: &object_store::Error) -> (String, String) {
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
fn without(secrets: &[String], text: &str) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
}

#[cfg(test)]
mod tests;
