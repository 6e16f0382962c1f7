//! Makes the uploads of an epoch objects, once.
//!
//! ```text
//!  writers: parts of uploads ─prepare─▶ all on the server ──▶ manifest ─commit─▶ complete: objects ─▶ _SUCCESS
//!                                                    a crash here: the manifest names them, or `clean` aborts them
//! ```
//!
//! An upload that is complete is no upload any more: asked again, the server knows none, and an object of that name and size
//! is there. That is what a second commit finds, so it changes nothing. Before an upload is completed, the server says which
//! parts it has; one that has been lost is found here and not by whoever reads the object.

use super::super::commit::{Guarantee, Parts, is_old_probe, leftover};
use super::super::partition::{Folders, Waiting, watermark_of};
use super::Objects;
use crate::position;
use millstream_core::{Committable, Committer, Error, JobRun, Place, Result};
use object_store::multipart::PartId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Uploads that are completed at a time.
const AT_A_TIME: usize = 8;

/// An upload whose parts are all there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct ObjectPart {
    /// Counts from the prefix of the table.
    pub name: String,
    pub upload: String,
    pub parts: usize,
    pub size: u64,
    /// See [`About`](super::super::write::About).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

pub(in super::super) struct ObjectCommitter {
    pub objects: Arc<Objects>,
    /// The prefix of the table.
    pub root: String,
    pub table: String,
    pub job: JobRun,
    pub guarantee: Guarantee,
    pub waiting: Option<Waiting>,
}

impl Committer for ObjectCommitter {
    fn commit(&mut self, _epoch: u64, committables: &[Committable]) -> Result<()> {
        let (mut all, mut writers) = (Vec::new(), Vec::new());
        for committable in committables {
            let parts = self.parts(committable)?;
            writers.push((parts.writer, parts.watermark));
            all.extend(parts.parts);
        }
        if self.guarantee == Guarantee::ExactlyOnce {
            self.complete_all(&all)?;
        }
        let folders: BTreeSet<String> =
            all.iter().filter_map(|p| p.name.rsplit_once('/')).map(|(folder, _)| folder.to_owned()).collect();
        let Some(mut waiting) = self.waiting.take() else { return Ok(()) };
        let done = waiting.commit(folders, watermark_of(writers.into_iter()), crate::store::now(), self);
        self.waiting = Some(waiting);
        done
    }

    fn clean(&mut self, _epoch: u64, kept: &[Committable]) -> Result<()> {
        let mut keep = HashSet::new();
        for committable in kept {
            // That of another table of the job may be one of local files, and names no upload.
            if let Ok(parts) = self.parts(committable) {
                keep.extend(parts.parts.into_iter().map(|part| part.upload));
            }
        }
        let prefix = if self.root.is_empty() { String::new() } else { format!("{}/", self.root) };
        for upload in self.objects.access.uploads(&prefix)? {
            let name = upload.key.rsplit('/').next().unwrap_or_default();
            let is_old = leftover(&self.job, &self.table, name) || is_old_probe(name);
            if is_old && !keep.contains(&upload.id) {
                self.objects.abort(&self.objects.at(&upload.key)?, &upload.id)?;
            }
        }
        Ok(())
    }
}

impl ObjectCommitter {
    fn parts(&self, committable: &Committable) -> Result<Parts<ObjectPart>> {
        match &committable.data {
            Some(text) => position::parse(text, &self.table),
            None => Ok(Parts::default()),
        }
    }

    fn key(&self, name: &str) -> String {
        if self.root.is_empty() { name.to_owned() } else { format!("{}/{name}", self.root) }
    }

    fn complete_all(&self, parts: &[ObjectPart]) -> Result<()> {
        let (next, failed) = (AtomicUsize::new(0), Mutex::new(None));
        std::thread::scope(|scope| {
            for _ in 0..AT_A_TIME.min(parts.len()) {
                scope.spawn(|| {
                    while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(e) = self.complete(part) {
                            failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(e);
                            // No use in going on with the others: the epoch is committed again as a whole.
                            next.store(parts.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    fn complete(&self, part: &ObjectPart) -> Result<()> {
        let at = self.objects.at(&self.key(&part.name))?;
        let shown = || Place(self.objects.shown(&at));
        let Some(there) = self.objects.access.parts(&at, &part.upload)? else {
            return match self.objects.look(&self.objects.access.client, &at)? {
                Some(meta) if meta.size == part.size => Ok(()),
                Some(meta) => Err(Error::data(format!(
                    "the object holds {} bytes, and {} were written: it is another one",
                    meta.size, part.size
                ))
                .at(shown())
                .remedy("see who else writes there; then restore the job from an earlier checkpoint")),
                None => Err(Error::data(
                    "neither the upload nor the object is there, and the job has saved rows in it",
                )
                .at(shown())
                .remedy(
                    "if whoever reads the table has taken the object away, put one of as many bytes in its place; if a rule of \
                     the bucket aborts uploads, let it leave them longer, and restore the job from an earlier checkpoint",
                )),
            };
        };
        let size: u64 = there.iter().map(|p| p.size).sum();
        let in_order = there.iter().enumerate().all(|(n, p)| p.number == n + 1);
        if there.len() != part.parts || size != part.size || !in_order {
            return Err(Error::data(format!(
                "the upload has {} parts with {size} bytes on the server, and {} with {} were written: some are lost",
                there.len(),
                part.parts,
                part.size
            ))
            .at(shown())
            .remedy("restore the job from an earlier checkpoint; the server has lost what it had confirmed"));
        }
        let there = there.into_iter().map(|p| PartId { content_id: p.etag }).collect();
        self.objects.complete(&at, &part.upload, there, part.size)
    }

    /// What the names of this table's notes begin with.
    fn note(&self) -> String {
        super::super::commit::note(&self.job, &self.table)
    }
}

impl Folders for ObjectCommitter {
    fn mark(&self, folder: &str, success: &str) -> Result<()> {
        self.objects.put(&self.objects.at(&self.key(&format!("{folder}/{success}")))?, Vec::new())
    }

    fn notes(&self) -> Result<Vec<(u64, String)>> {
        let mut notes = Vec::new();
        for name in self.objects.names_in(&self.objects.at(&self.root)?)? {
            let generation = name.strip_prefix(&self.note()).and_then(|n| n.parse().ok());
            if let Some(generation) = generation
                && let Some(bytes) = self.objects.get(&self.objects.at(&self.key(&name))?)?
            {
                notes.push((generation, String::from_utf8_lossy(&bytes).into_owned()));
            }
        }
        Ok(notes)
    }

    fn write_note(&self, generation: u64, text: &str) -> Result<()> {
        let at = self.objects.at(&self.key(&format!("{}{generation}", self.note())))?;
        self.objects.put(&at, text.as_bytes().to_vec())
    }

    fn remove_note(&self, generation: u64) -> Result<()> {
        self.objects.delete(&self.objects.at(&self.key(&format!("{}{generation}", self.note())))?)
    }
}

/// Marks folders at the end of a job without checkpoints.
pub(in super::super) fn mark(objects: &Objects, root: &str, folders: &BTreeSet<String>, success: &str) -> Result<()> {
    for folder in folders {
        let key = if root.is_empty() { folder.clone() } else { format!("{root}/{folder}") };
        objects.put(&objects.at(&format!("{key}/{success}"))?, Vec::new())?;
    }
    Ok(())
}
