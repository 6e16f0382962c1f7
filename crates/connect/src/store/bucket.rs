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
//! Not here: how a bucket is opened and asked and what its errors mean (`s3`), and the lock (`lock`).

mod lock;

use super::{Lock, OwnedStore, check_path, now};
use crate::s3::{Access, Client, UNANSWERED, said, unanswered};
use futures::TryStreamExt;
use millstream_core::{Error, Put, Result, Stat, Store, Stored};
use object_store::path::Path;
use object_store::{
    Attribute, GetOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload, UpdateVersion,
};
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a running job looks for requests. A folder can be asked more often; a bucket takes money for each look.
const LISTEN_EVERY: Duration = Duration::from_secs(2);

/// The attribute with the name of the put.
const WRITER: Attribute = Attribute::Metadata(std::borrow::Cow::Borrowed("millstream-put"));

/// Objects below a prefix of a bucket.
pub struct Bucket {
    inner: Arc<Access>,
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
        Ok(Bucket { inner: Arc::new(Access::open(url, options)?) })
    }
}

impl Access {
    fn location(&self, path: &str) -> Result<Path> {
        check_path(path)?;
        Path::parse(self.key(path))
            .map_err(|e| Error::internal(format!("`{path}` cannot be the name of an object in a store: {e}")))
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

/// A name that no other put has.
pub(crate) fn put_name() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    // Two processes that share number and clock differ in the seed.
    format!("{:x}-{:x}-{next}-{:016x}", std::process::id(), now(), RandomState::new().hash_one(next))
}

#[cfg(test)]
pub(crate) mod tests;
