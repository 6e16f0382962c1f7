//! Makes the part files of an epoch visible, once.
//!
//! ```text
//!  writers: .part-… .inprogress ─prepare─▶ closed, synced ──▶ manifest ─commit─▶ part-… ─▶ _SUCCESS
//!                                                     a crash here: the manifest names it, or `clean` removes it
//! ```
//!
//! A part's name tells the job, the table, the run, the writer and a number, so no two runs write to the same file, and
//! what a run left behind is known by its name. To commit is to rename; a file that has its name already is done.
//!
//! Renames come one after the other: who looks in the middle of a commit sees a part of the epoch. For a folder of
//! PARTITIONED BY, `_SUCCESS` says that all of it is there.

use super::partition::{Folders, Waiting, watermark_of};
use super::sink::process_id;
use super::{cannot, list};
use crate::position;
use millstream_core::{Committable, Committer, Error, JobRun, Millis, Place, Result};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// When rows become visible, and what a crash does to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Guarantee {
    /// At the commit of their epoch, each once.
    ExactlyOnce,
    /// When their epoch is saved; again after a crash in the moments before the manifest is written.
    AtLeastOnce,
    /// As soon as their file is full or old enough; on the disk when the system likes.
    None,
}

/// What a writer hands over at a barrier.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Parts<P> {
    pub parts: Vec<P>,
    /// Who it was, and how far its input had come: for partitions that wait for the watermark of all writers.
    #[serde(default, skip_serializing_if = "is_first")]
    pub writer: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Millis>,
}

fn is_first(writer: &usize) -> bool {
    *writer == 0
}

impl<P> Default for Parts<P> {
    fn default() -> Parts<P> {
        Parts { parts: Vec::new(), writer: 0, watermark: None }
    }
}

/// A file that is complete. Its paths count from the folder of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PartFile {
    pub hidden: String,
    pub name: String,
    pub size: u64,
    /// See [`About`](super::write::About).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
}

/// What the names of a writer's parts begin with.
pub(super) fn prefix(job: &JobRun, table: &str, writer: usize) -> String {
    format!("{}{}-{writer}", of_job(job, table), job.generation)
}

/// Two tables of a job may share a folder; neither may take the other's parts for its own.
fn of_job(job: &JobRun, table: &str) -> String {
    // FNV-1a: the same in every version, which the hash of the standard library need not be.
    let hash = table.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    format!("part-{}-{hash:08x}-", job.job)
}

pub(super) fn hidden(name: &str) -> String {
    format!(".{name}.inprogress")
}

/// Brings the contents of files, and that they are there, to the disk.
pub(super) fn sync(root: &Path, parts: &[PartFile]) -> Result<()> {
    for part in parts {
        let path = root.join(&part.hidden);
        File::open(&path)
            .and_then(|file| file.sync_all())
            .map_err(|e| cannot("write", &path.display().to_string(), &e))?;
    }
    // The folders may be new themselves, up to that of the table.
    let mut folders = BTreeSet::new();
    for part in parts {
        let path = root.join(&part.hidden);
        folders.extend(path.ancestors().skip(1).take_while(|f| f.starts_with(root)).map(Path::to_owned));
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))?;
    // So may that of the table be, unless what is above it may not even be looked into.
    match root.parent().map(open_folder) {
        Some(Ok(above)) => above.sync_all().map_err(|e| cannot("write", &root.display().to_string(), &e)),
        _ => Ok(()),
    }
}

fn open_folder(folder: &Path) -> io::Result<File> {
    // The parent of a relative path without folders is the empty path.
    File::open(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    open_folder(folder)
        .and_then(|file| file.sync_all())
        .map_err(|e| cannot("write into the folder", &folder.display().to_string(), &e))
}

/// Gives parts their names, whether or not some have them already.
pub(super) fn show(root: &Path, parts: &[PartFile]) -> Result<()> {
    for part in parts {
        let (hidden, name) = (root.join(&part.hidden), root.join(&part.name));
        match fs::metadata(&hidden) {
            Ok(about) if about.len() == part.size => {
                fs::rename(&hidden, &name).map_err(|e| cannot("name", &name.display().to_string(), &e))?;
            }
            Ok(about) => {
                return Err(Error::data(format!(
                    "the file holds {} bytes, and {} were written: it is damaged",
                    about.len(),
                    part.size
                ))
                .at(Place(hidden.display().to_string()))
                .remedy("restore it from a copy, or restore the job from an earlier checkpoint"));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(cannot("read", &hidden.display().to_string(), &e));
            }
            Err(_) if name.exists() => {}
            Err(_) => {
                return Err(Error::data(format!(
                    "neither {} nor {} is there, and the job has saved rows in it",
                    hidden.display(),
                    name.display()
                ))
                .remedy(
                    "if whoever reads the table has taken the file away, put an empty file of the second name in its \
                     place; if not, restore it from a copy",
                ));
            }
        }
    }
    Ok(())
}

/// Writes the mark of completeness into folders.
pub(super) fn mark(folders: &BTreeSet<PathBuf>, success: &str) -> Result<()> {
    for folder in folders {
        let path = folder.join(success);
        File::create(&path)
            .and_then(|file| file.sync_all())
            .map_err(|e| cannot("write", &path.display().to_string(), &e))?;
        sync_folder(folder)?;
    }
    Ok(())
}

pub(super) struct FileCommitter {
    pub root: PathBuf,
    pub table: String,
    pub job: JobRun,
    pub guarantee: Guarantee,
    pub waiting: Option<Waiting>,
    /// How many folders lie between that of the table and the files.
    pub depth: usize,
}

impl Committer for FileCommitter {
    fn commit(&mut self, _epoch: u64, committables: &[Committable]) -> Result<()> {
        let (mut folders, mut writers) = (BTreeSet::new(), Vec::new());
        for committable in committables {
            let Parts { parts, writer, watermark } = self.parts(committable)?;
            if self.guarantee == Guarantee::ExactlyOnce {
                show(&self.root, &parts)?;
            }
            writers.push((writer, watermark));
            folders.extend(
                parts.iter().map(|part| part.name.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned()),
            );
        }
        folders.iter().try_for_each(|folder| sync_folder(&self.root.join(folder)))?;
        let Some(mut waiting) = self.waiting.take() else { return Ok(()) };
        let done = waiting.commit(folders, watermark_of(writers.into_iter()), crate::store::now(), self);
        self.waiting = Some(waiting);
        done
    }

    fn clean(&mut self, _epoch: u64, kept: &[Committable]) -> Result<()> {
        let mut keep = HashSet::new();
        for committable in kept {
            // That of another table of the job may be one of a bucket, and names no file.
            if let Ok(parts) = self.parts(committable) {
                keep.extend(parts.parts.into_iter().map(|part| self.root.join(part.hidden)));
            }
        }
        self.clean_folder(&self.root, self.depth, &keep)
    }
}

impl FileCommitter {
    fn parts(&self, committable: &Committable) -> Result<Parts<PartFile>> {
        match &committable.data {
            Some(text) => position::parse(text, &self.table),
            None => Ok(Parts::default()),
        }
    }

    fn clean_folder(&self, folder: &Path, depth: usize, keep: &HashSet<PathBuf>) -> Result<()> {
        let failed = |e: &io::Error| cannot("read the folder", &folder.display().to_string(), e);
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed(&e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed(&e))?;
            let (path, name) = (entry.path(), entry.file_name());
            if depth > 0 && !list::left_out(&path) && entry.file_type().is_ok_and(|t| t.is_dir()) {
                self.clean_folder(&path, depth - 1, keep)?;
            } else if name.to_str().is_some_and(|name| self.is_leftover(name) || is_old_probe(name))
                && !keep.contains(&path)
            {
                match fs::remove_file(&path) {
                    Err(e) if e.kind() != io::ErrorKind::NotFound => {
                        return Err(cannot("remove", &path.display().to_string(), &e));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Whether a file was left behind by an earlier run of this job.
    fn is_leftover(&self, name: &str) -> bool {
        let name = name.strip_prefix('.').and_then(|n| n.strip_suffix(".inprogress"));
        name.is_some_and(|name| leftover(&self.job, &self.table, name))
    }
}

/// Whether a part is one of an earlier run of this job. Later runs are none of ours: should there be one, this run is the
/// one that ought to be gone.
pub(super) fn leftover(job: &JobRun, table: &str, name: &str) -> bool {
    let Some(rest) = name.strip_prefix(&of_job(job, table)) else { return false };
    let numbers: Vec<&str> = rest.split_once('.').map_or(rest, |(stem, _)| stem).split('-').collect();
    let numbers: Option<Vec<u64>> = numbers.iter().map(|n| n.parse().ok()).collect();
    matches!(numbers.as_deref(), Some([generation, _, _]) if *generation < job.generation)
}

/// What a sink tries a place with at its start: a name that tells the process.
pub(super) fn probe(process: &str) -> String {
    format!(".probe-{process}-")
}

/// Whether another process has tried the place. Should it live, it is about to remove it itself.
pub(super) fn is_old_probe(name: &str) -> bool {
    name.starts_with(".probe-") && !name.starts_with(&probe(process_id()))
}

/// What the names of notes about partitions that wait begin with; a generation follows.
pub(super) fn note(job: &JobRun, table: &str) -> String {
    format!(".waiting-{}", of_job(job, table))
}

impl Folders for FileCommitter {
    fn mark(&self, folder: &str, success: &str) -> Result<()> {
        mark(&BTreeSet::from([self.root.join(folder)]), success)
    }

    fn notes(&self) -> Result<Vec<(u64, String)>> {
        let prefix = note(&self.job, &self.table);
        let failed = |e: &io::Error| cannot("read the folder", &self.root.display().to_string(), e);
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(failed(&e)),
        };
        let mut notes = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|e| failed(&e))?;
            let name = entry.file_name();
            // Half a note, of a run that ended while it wrote.
            let half = name.to_str().and_then(|n| n.strip_prefix(&prefix)).and_then(|n| n.strip_suffix(".tmp"));
            if half.and_then(|n| n.parse().ok()).is_some_and(|generation: u64| generation < self.job.generation) {
                let _ = fs::remove_file(entry.path());
            }
            let generation = name.to_str().and_then(|n| n.strip_prefix(&prefix)).and_then(|n| n.parse().ok());
            if let Some(generation) = generation {
                match fs::read_to_string(entry.path()) {
                    Ok(text) => notes.push((generation, text)),
                    Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                    Err(e) => return Err(cannot("read", &entry.path().display().to_string(), &e)),
                }
            }
        }
        Ok(notes)
    }

    fn write_note(&self, generation: u64, text: &str) -> Result<()> {
        let name = self.root.join(format!("{}{generation}", note(&self.job, &self.table)));
        let hidden = name.with_extension("tmp");
        File::create(&hidden)
            .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&hidden, &name))
            .map_err(|e| cannot("write", &name.display().to_string(), &e))?;
        sync_folder(&self.root)
    }

    fn remove_note(&self, generation: u64) -> Result<()> {
        let name = self.root.join(format!("{}{generation}", note(&self.job, &self.table)));
        match fs::remove_file(&name) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(cannot("remove", &name.display().to_string(), &e)),
            _ => Ok(()),
        }
    }
}
