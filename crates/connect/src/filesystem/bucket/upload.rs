//! A file on its way into a bucket.
//!
//! ```text
//!  write ─▶ held, up to PART_BYTES ─▶ a part on its way (at most PARTS_UNDER_WAY_MAX of a writer) ─▶ on the server
//!  end   ─▶ the last part ─▶ Uploaded ──wait──▶ all parts there ──complete──▶ an object
//! ```
//!
//! Only what lies between two parts is waited for, and only where too many are under way.

use super::Objects;
use crate::s3::until_answered;
use millstream_core::{Error, Result};
use object_store::PutPayload;
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path;
use std::io::{self, Write};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of a part. S3 wants 5 MiB at least, of all but the last.
pub(in super::super) const PART_BYTES: usize = 8 << 20;

/// Parts that an upload may have.
const PARTS_MAX: usize = 10_000;

/// Parts of one writer that are on their way: 32 MiB.
const PARTS_UNDER_WAY_MAX: usize = 4;

/// How long the aborts of a sink that ends badly are waited for. What they leave behind is seen by nobody.
const ABORT_MAX: Duration = Duration::from_secs(10);

/// How many parts of a writer may be on their way.
#[derive(Clone, Default)]
pub(in super::super) struct Slots(Arc<(Mutex<usize>, Condvar)>);

/// One of them; it is free again when this is dropped.
struct Slot(Slots);

impl Slots {
    fn take(&self) -> Slot {
        let (taken, changed) = &*self.0;
        let taken = taken.lock().unwrap_or_else(PoisonError::into_inner);
        let mut taken =
            changed.wait_while(taken, |n| *n >= PARTS_UNDER_WAY_MAX).unwrap_or_else(PoisonError::into_inner);
        *taken += 1;
        Slot(self.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let (taken, changed) = &*self.0.0;
        *taken.lock().unwrap_or_else(PoisonError::into_inner) -= 1;
        changed.notify_one();
    }
}

type Coming<T> = Receiver<object_store::Result<T>>;

pub(in super::super) struct Upload {
    objects: Arc<Objects>,
    at: Path,
    id: Id,
    slots: Slots,
    held: Vec<u8>,
    parts: Vec<Coming<PartId>>,
    size: u64,
    /// Handed on, or aborted.
    over: bool,
}

/// What the server calls the upload.
enum Id {
    Coming(Coming<String>),
    Known(String),
    Failed(Error),
}

impl Upload {
    pub fn begin(objects: &Arc<Objects>, at: Path, slots: &Slots) -> Upload {
        let (s3, to) = (objects.access.client.s3.clone(), at.clone());
        let id = Id::Coming(objects.access.thread.begin(async move {
            // The upload of a lost answer stays behind, and is cleaned away as those of a run that has died.
            until_answered(&to, || s3.create_multipart(&to)).await
        }));
        let (objects, slots) = (objects.clone(), slots.clone());
        Upload { objects, at, id, slots, held: Vec::new(), parts: Vec::new(), size: 0, over: false }
    }

    /// Bytes that are not on their way yet.
    pub fn held_bytes(&self) -> usize {
        self.held.len()
    }

    /// Whether it can take no more parts.
    pub fn is_full(&self) -> bool {
        self.parts.len() + 2 >= PARTS_MAX
    }

    fn id(&mut self) -> Result<String> {
        if let Id::Coming(coming) = &self.id {
            self.id = match coming.recv() {
                Ok(Ok(id)) => Id::Known(id),
                Ok(Err(e)) => Id::Failed(self.objects.access.failed("begin to write", &self.at, &e)),
                Err(_) => Id::Failed(lost()),
            };
        }
        match &self.id {
            Id::Known(id) => Ok(id.clone()),
            Id::Failed(e) => Err(e.clone()),
            Id::Coming(_) => Err(Error::internal("an upload that has just been begun is not known")),
        }
    }

    fn send_part(&mut self) -> Result<()> {
        let id = self.id()?;
        let bytes = std::mem::take(&mut self.held);
        let (s3, at, number) = (self.objects.access.client.s3.clone(), self.at.clone(), self.parts.len());
        self.size += bytes.len() as u64;
        let slot = self.slots.take();
        self.parts.push(self.objects.access.thread.begin(async move {
            let part = s3.put_part(&at, &id, number, PutPayload::from(bytes)).await;
            drop(slot);
            part
        }));
        Ok(())
    }

    /// Sends what is left. Nothing is waited for but that the upload has been begun.
    pub fn end(mut self) -> Result<Uploaded> {
        if !self.held.is_empty() || self.parts.is_empty() {
            self.send_part()?;
        }
        let id = self.id()?;
        self.over = true;
        let parts = std::mem::take(&mut self.parts);
        let (objects, at, size) = (self.objects.clone(), self.at.clone(), self.size);
        Ok(Uploaded { objects, at, id, parts, there: Vec::new(), size, about: None, kept: false })
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = bytes.len().min(PART_BYTES - self.held.len());
        self.held.extend_from_slice(&bytes[..n]);
        if self.held.len() >= PART_BYTES {
            self.send_part().map_err(io::Error::other)?;
        }
        Ok(n)
    }

    /// A part of less than 5 MiB can only be the last one, so what is held stays held.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let id = match &self.id {
            Id::Known(id) => Some(id.clone()),
            Id::Coming(coming) => coming.recv_timeout(self.objects.abort_time()).ok().and_then(Result::ok),
            Id::Failed(_) => None,
        };
        if let Some(id) = id {
            self.objects.abort_soon(&self.at, &id, &self.parts);
        }
    }
}

/// A file whose parts are there or on their way, and which is not complete. Dropped, it is aborted.
pub(in super::super) struct Uploaded {
    pub objects: Arc<Objects>,
    pub at: Path,
    pub id: String,
    parts: Vec<Coming<PartId>>,
    /// Those that are there.
    there: Vec<PartId>,
    pub size: u64,
    /// See [`About`](super::super::write::About).
    pub about: Option<String>,
    kept: bool,
}

impl Uploaded {
    pub fn parts(&self) -> usize {
        self.there.len() + self.parts.len()
    }

    /// From here on it is the checkpoint's.
    pub fn keep(&mut self) {
        self.kept = true;
    }

    /// Until all parts are there.
    pub fn settle(&mut self) -> Result<()> {
        for part in std::mem::take(&mut self.parts) {
            match part.recv() {
                Ok(Ok(part)) => self.there.push(part),
                Ok(Err(e)) => return Err(self.objects.access.failed("write", &self.at, &e)),
                Err(_) => return Err(lost()),
            }
        }
        Ok(())
    }

    /// Makes it an object.
    pub fn complete(mut self) -> Result<()> {
        self.settle()?;
        self.objects.complete(&self.at, &self.id, std::mem::take(&mut self.there), self.size)?;
        self.kept = true;
        Ok(())
    }
}

impl Drop for Uploaded {
    fn drop(&mut self) {
        if !self.kept {
            self.objects.abort_soon(&self.at, &self.id, &self.parts);
        }
    }
}

impl Objects {
    /// That an upload can be begun there, and taken back.
    pub fn probe(&self, at: &Path) -> Result<()> {
        let (s3, to) = (self.access.lock_client.s3.clone(), at.clone());
        let begun = self.access.thread.wait(async move { until_answered(&to, || s3.create_multipart(&to)).await });
        let id = begun.map_err(|e| self.access.failed("begin to write", at, &e))?;
        self.abort(at, &id)
    }

    /// Makes an upload an object. That it has become one already is what was wanted.
    pub(super) fn complete(&self, at: &Path, id: &str, parts: Vec<PartId>, size: u64) -> Result<()> {
        let (s3, to, of) = (self.access.client.s3.clone(), at.clone(), id.to_owned());
        let completed = self
            .access
            .thread
            .wait(async move { until_answered(&to, || s3.complete_multipart(&to, &of, parts.clone())).await });
        let e = match completed {
            Ok(_) => return Ok(()),
            Err(e) => e,
        };
        // The answer to the first try may have been lost.
        match self.look(&self.access.client, at)? {
            Some(meta) if meta.size == size && super::said(&e).0 == "NoSuchUpload" => Ok(()),
            _ => Err(self.access.failed("complete", at, &e)),
        }
    }

    /// Takes an upload back; that there is none is what is wanted.
    pub(super) fn abort(&self, at: &Path, id: &str) -> Result<()> {
        let (s3, to, of) = (self.access.client.s3.clone(), at.clone(), id.to_owned());
        match self.access.thread.wait(async move { s3.abort_multipart(&to, &of).await }) {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(e) => Err(self.access.failed("take back", at, &e)),
        }
    }

    /// How long aborts are still waited for.
    fn abort_time(&self) -> Duration {
        let until = self.aborts_until.get_or_init(|| Instant::now() + ABORT_MAX);
        until.saturating_duration_since(Instant::now())
    }

    /// Takes an upload back, as far as that goes without much waiting.
    fn abort_soon(&self, at: &Path, id: &str, parts: &[Coming<PartId>]) {
        // A part that arrives after the abort would stay.
        for part in parts {
            let _ = part.recv_timeout(self.abort_time());
        }
        let (s3, to, of) = (self.access.lock_client.s3.clone(), at.clone(), id.to_owned());
        let done = self.access.thread.begin(async move { s3.abort_multipart(&to, &of).await });
        let _ = done.recv_timeout(self.abort_time());
    }
}

fn lost() -> Error {
    Error::internal("the thread that speaks S3 has been lost")
}
