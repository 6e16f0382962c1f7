//! The lock of a bucket: an object that its owner writes again and again while it is alive.
//!
//! ```text
//!  nobody ──create──▶ held ──a beat every 15 s──▶ held ──given back──▶ nobody
//!                      └── no beat for a minute, or the process is seen to be gone ──▶ another may replace it
//! ```
//!
//! Each beat changes the object's bytes and with them its version, so whoever takes a lock over replaces the very object
//! that it found dead: an owner that has beaten since keeps it. The age goes by two clocks, ours and the server's, so the
//! lock may err. It is a courtesy to people; what is safe rests on the manifests' creates, which are the same conditional
//! write: whoever takes the lock tries at once whether this server knows it.

use super::put_name;
use crate::s3::Access;
use crate::store::{Lock, OWNER, Owner, host, now, numbering};
use millstream_core::{Error, Millis, Result};
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, UpdateVersion};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

/// How often a live owner writes its object.
const BEAT: Duration = Duration::from_secs(15);

/// An owner that has not written for so long is dead: four beats.
const DEAD_AFTER: Millis = 60_000;

/// What the lock's object holds.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Held {
    #[serde(flatten)]
    pub(super) owner: Owner,
    /// How often it has been written again.
    #[serde(default)]
    pub(super) beat: u64,
    /// The put that took it: no two owners write the same bytes.
    #[serde(default)]
    pub(super) taken_by: String,
}

impl Held {
    pub(super) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec_pretty(self).expect("plain data has a JSON form")
    }
}

/// Takes the lock, or says who has it.
pub(super) fn take(inner: &Arc<Access>, owner: &str) -> Result<Lock> {
    take_beating(inner, owner, BEAT)
}

pub(super) fn take_beating(inner: &Arc<Access>, owner: &str, every: Duration) -> Result<Lock> {
    let at = Path::parse(inner.key(OWNER)).map_err(|e| Error::internal(e.to_string()))?;
    let writer = put_name();
    let held = Held { owner: Owner::this_process(owner), beat: 0, taken_by: writer.clone() };
    let json = held.to_json();
    let version = match inner.put_if(&inner.lock_client, &at, &json, &PutMode::Create, &writer)? {
        Some(version) => version,
        None => take_over(inner, &at, &json, &writer)?,
    };
    check_conditions(inner, &at, &json)?;
    let stop = Arc::new((Mutex::new(false), Condvar::new()));
    let beat = Beat { inner: inner.clone(), at, held, writer, version, every, stop: stop.clone() };
    let thread = std::thread::Builder::new().name("checkpoint-lock".to_owned()).spawn(move || beat.run());
    let thread = thread.map_err(|e| Error::io(format!("cannot start a thread: {e}")))?;
    Ok(Lock { _held: Box::new(Beating { stop, thread: Some(thread) }) })
}

/// Replaces the object of an owner that is dead.
fn take_over(inner: &Access, at: &Path, json: &[u8], writer: &str) -> Result<UpdateVersion> {
    let (s3, to) = (inner.lock_client.s3.clone(), at.clone());
    let got = inner.thread.wait(async move {
        let got = s3.get(&to).await?;
        Ok((got.meta.clone(), got.bytes().await?))
    });
    let mode = match got {
        Ok((meta, bytes)) => {
            let age = now().saturating_sub(meta.last_modified.timestamp_millis());
            let holder = serde_json::from_slice::<Held>(&bytes).ok().map(|held| held.owner);
            if age < DEAD_AFTER && !holder.as_ref().is_some_and(gone) {
                return Err(in_use(inner, holder, at, age));
            }
            PutMode::Update(UpdateVersion { e_tag: meta.e_tag, version: meta.version })
        }
        // Given back since.
        Err(object_store::Error::NotFound { .. }) => PutMode::Create,
        Err(e) => return Err(inner.failed("read", at, &e)),
    };
    inner.put_if(&inner.lock_client, at, json, &mode, writer)?.ok_or_else(|| in_use(inner, None, at, 0))
}

/// A server that does not know conditional writes takes them for plain ones. Two runs of a job would both write the same
/// checkpoint there, so it is no place for any.
fn check_conditions(inner: &Access, at: &Path, json: &[u8]) -> Result<()> {
    match inner.put_if(&inner.lock_client, at, json, &PutMode::Create, &put_name())? {
        None => Ok(()),
        Some(_) => {
            let _ = inner.delete(&inner.lock_client, at);
            Err(Error::usage(format!("the server of {} ignores `If-None-Match`", inner.name()))
                .at(inner.place(at))
                .remedy("use a server that knows conditional writes (Amazon S3, MinIO, Cloudflare R2), or a folder"))
        }
    }
}

fn in_use(inner: &Access, holder: Option<Owner>, at: &Path, age: Millis) -> Error {
    let holder = holder.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
    let age = age.max(0) / 1000;
    Error::usage(format!("the checkpoints in {} are in use by {holder}; alive {age} s ago", inner.name()))
        .at(inner.place(at))
        .remedy("end that process first, or name another place; if its machine has crashed, try again in a minute")
}

/// Keeps a lock while its owner is alive.
struct Beat {
    inner: Arc<Access>,
    at: Path,
    held: Held,
    writer: String,
    version: UpdateVersion,
    every: Duration,
    stop: Arc<(Mutex<bool>, Condvar)>,
}

impl Beat {
    fn run(mut self) {
        let (stopped, changed) = &*self.stop.clone();
        let mut guard = stopped.lock().expect("no holder of this lock panics");
        while !*guard {
            let (woken, waited) = changed.wait_timeout(guard, self.every).expect("no holder of this lock panics");
            guard = woken;
            if waited.timed_out() && !*guard {
                drop(guard);
                if !self.beat() {
                    return;
                }
                guard = stopped.lock().expect("no holder of this lock panics");
            }
        }
        drop(guard);
        // Only if it is still ours; that another one takes it in between is as unlikely as it is harmless.
        let client = &self.inner.lock_client;
        if let Ok(Some(made)) = self.inner.look(client, &self.at)
            && made.by.as_deref() == Some(&self.writer)
        {
            let _ = self.inner.delete(client, &self.at);
        }
    }

    /// Writes the object again. False: somebody took us for dead and has the lock now; the manifests decide who goes on.
    fn beat(&mut self) -> bool {
        self.held.beat += 1;
        let mode = PutMode::Update(self.version.clone());
        match self.inner.put_if(&self.inner.lock_client, &self.at, &self.held.to_json(), &mode, &self.writer) {
            Ok(Some(version)) => {
                self.version = version;
                true
            }
            Ok(None) => false,
            // The server is away: until it is back, nobody else can take the lock either.
            Err(_) => true,
        }
    }
}

/// Tells the thread of a lock to give it back.
struct Beating {
    stop: Arc<(Mutex<bool>, Condvar)>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Beating {
    fn drop(&mut self) {
        *self.stop.0.lock().expect("no holder of this lock panics") = true;
        self.stop.1.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Whether an owner was a process that we would see and do not. Containers number their processes anew, and may share the
/// name of their host: what is not of our own numbering may be alive.
fn gone(owner: &Owner) -> bool {
    let visible = owner.host == host() && !owner.numbering.is_empty() && owner.numbering == numbering();
    visible && !std::path::Path::new(&format!("/proc/{}", owner.pid)).exists()
}
