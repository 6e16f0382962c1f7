//! A folder as a store.
//!
//! ```text
//!  put: .tmp/<pid>-<n> ──write, sync──▶ link (create) or rename (replace) to its name ──▶ sync the folder
//!                                          └─ the name is taken: came second
//! ```
//!
//! A file appears under its name only when all its bytes are on the disk, and by one step that the file system takes or
//! leaves as a whole. A process that dies in between leaves a file in `.tmp` that no listing shows; the next one to take
//! the lock removes it once it is old.

use super::{Lock, OWNER, OwnedStore, Owner, check_path, millis};
use millstream_core::{Error, Place, Put, Result, Stat, Store, Stored};
use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Where files are written before they get their name. Hidden, and in the same file system as the rest.
const TEMPORARY: &str = ".tmp";

/// Files in [`TEMPORARY`] that are older belong to no put that still goes on.
const TEMPORARY_AGE_MAX: Duration = Duration::from_secs(3_600);

/// Folders within folders that a listing looks through.
const DEPTH_MAX: usize = 16;

/// Tells the temporary files of this process apart.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

/// Objects as files below a folder.
#[derive(Debug, Clone)]
pub struct Folder {
    root: PathBuf,
}

impl Folder {
    /// Opens the folder; makes it where it is missing.
    pub fn open(path: impl AsRef<Path>) -> Result<Folder> {
        let path = path.as_ref();
        let root = std::path::absolute(path).map_err(|e| failed("find", path, &e))?;
        make_folders(&root)?;
        Ok(Folder { root })
    }

    fn file(&self, path: &str) -> Result<PathBuf> {
        check_path(path)?;
        Ok(self.root.join(path))
    }

    /// A new file that only this call knows of, with these bytes safely in it.
    fn write_temporary(&self, bytes: &[u8]) -> Result<PathBuf> {
        let folder = self.root.join(TEMPORARY);
        make_folders(&folder)?;
        let (path, mut file) = loop {
            let name = format!("{}-{}", std::process::id(), NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed));
            let path = folder.join(name);
            match File::options().write(true).create_new(true).open(&path) {
                Ok(file) => break (path, file),
                // Left behind by a process that had our number before.
                Err(e) if e.kind() == ErrorKind::AlreadyExists => {}
                Err(e) => return Err(failed("create", &path, &e)),
            }
        };
        match file.write_all(bytes).and_then(|()| file.sync_all()) {
            Ok(()) => Ok(path),
            Err(e) => {
                remove_quietly(&path);
                Err(failed("write", &path, &e))
            }
        }
    }

    /// Removes what processes that died in the middle of a put left behind.
    fn sweep(&self) -> Result<()> {
        let folder = self.root.join(TEMPORARY);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(failed("list", &folder, &e)),
        };
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", &folder, &e))?;
            let age = entry.metadata().and_then(|m| m.modified()).ok().and_then(|at| at.elapsed().ok());
            if age.is_some_and(|age| age > TEMPORARY_AGE_MAX) {
                remove_quietly(&entry.path());
            }
        }
        Ok(())
    }

    fn list_into(&self, folder: &Path, name: &str, prefix: &str, depth: usize, into: &mut Vec<Stat>) -> Result<()> {
        let entries = match fs::read_dir(folder) {
            Ok(entries) => entries,
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            Err(e) => return Err(failed("list", folder, &e)),
        };
        if depth > DEPTH_MAX {
            return Err(Error::io(format!("{} is nested deeper than {DEPTH_MAX} folders", folder.display()))
                .remedy("give checkpoints a folder of their own"));
        }
        for entry in entries {
            let entry = entry.map_err(|e| failed("list", folder, &e))?;
            // A name that is no text is none of ours.
            let Ok(part) = entry.file_name().into_string() else { continue };
            let path = if name.is_empty() { part } else { format!("{name}/{part}") };
            if check_path(&path).is_err() {
                continue;
            }
            let metadata = match entry.path().metadata() {
                Ok(metadata) => metadata,
                // Removed since it was listed.
                Err(e) if e.kind() == ErrorKind::NotFound => continue,
                Err(e) => return Err(failed("look at", &entry.path(), &e)),
            };
            if metadata.is_dir() {
                let below = format!("{path}/");
                if below.starts_with(prefix) || prefix.starts_with(&below) {
                    self.list_into(&entry.path(), &path, prefix, depth + 1, into)?;
                }
            } else if path.starts_with(prefix) {
                let modified = metadata.modified().map_err(|e| failed("look at", &entry.path(), &e))?;
                into.push(Stat { path, bytes: metadata.len(), modified: millis(modified) });
            }
        }
        Ok(())
    }
}

impl Store for Folder {
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored> {
        let file = self.file(path)?;
        let folder = file.parent().expect("an object's file is below the root");
        make_folders(folder)?;
        let temporary = self.write_temporary(bytes)?;
        let named = match how {
            // Linking is the one step of every file system that fails when the name is taken.
            Put::Create => fs::hard_link(&temporary, &file),
            Put::Replace => fs::rename(&temporary, &file),
        };
        if named.is_err() || how == Put::Create {
            remove_quietly(&temporary);
        }
        match named {
            Ok(()) => {}
            Err(e) if how == Put::Create && e.kind() == ErrorKind::AlreadyExists => return Ok(Stored::Exists),
            // FAT says that it is not permitted; a plain file could be written there a moment ago.
            Err(e)
                if how == Put::Create && matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::PermissionDenied) =>
            {
                return Err(Error::io(format!("cannot link {}: {e}", file.display()))
                    .remedy("keep the checkpoints on a disk with hard links that this user may write to"));
            }
            Err(e) => return Err(failed("create", &file, &e)),
        }
        sync_folder(folder)?;
        Ok(Stored::Yes)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let file = self.file(path)?;
        match fs::read(&file) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(None),
            Err(e) => Err(failed("read", &file, &e)),
        }
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stat>> {
        let mut stats = Vec::new();
        self.list_into(&self.root, "", prefix, 0, &mut stats)?;
        stats.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        Ok(stats)
    }

    fn delete(&self, path: &str) -> Result<()> {
        let file = self.file(path)?;
        match fs::remove_file(&file) {
            Ok(()) => Ok(()),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(()),
            Err(e) => Err(failed("remove", &file, &e)),
        }
    }

    fn name(&self) -> String {
        self.root.display().to_string()
    }
}

impl OwnedStore for Folder {
    /// The lock is the operating system's: it ends with the process, so that nobody has to clean up after a crash. The
    /// file says who has it. Over NFS it holds between machines too; over other shared folders it may not.
    fn lock(&self, owner: &str) -> Result<Lock> {
        let path = self.root.join(OWNER);
        let open = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let mut file = open.map_err(|e| failed("open", &path, &e))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                // Whoever took the lock a moment ago may not have written who it is.
                let holder =
                    file.read_to_string(&mut text).ok().and_then(|_| serde_json::from_str::<Owner>(&text).ok());
                let holder = holder.map_or_else(|| "another process".to_owned(), |owner| owner.to_string());
                return Err(Error::usage(format!("the checkpoints in {} are in use by {holder}", self.name()))
                    .at(Place(path.display().to_string()))
                    .remedy("end that process first, or give this job a place of its own for its checkpoints"));
            }
            Err(TryLockError::Error(e)) => return Err(failed("lock", &path, &e)),
        }
        let write = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(&Owner::this_process(owner).to_json())?;
            file.sync_all()
        };
        write(&mut file).map_err(|e| failed("write", &path, &e))?;
        self.sweep()?;
        Ok(Lock { _held: Box::new(Held(file)) })
    }
}

/// The file of a lock, locked.
struct Held(File);

impl Drop for Held {
    fn drop(&mut self) {
        // The file stays: were it removed, one process could lock the old file and another a new one. That nobody has
        // it any more is only for people, and so is a failure here.
        let _ = self.0.set_len(0);
        let _ = self.0.unlock();
    }
}

/// Makes a folder and those above it, so that they survive a crash.
fn make_folders(folder: &Path) -> Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let above = folder.parent();
    if let Some(above) = above.filter(|a| !a.as_os_str().is_empty()) {
        make_folders(above)?;
    }
    match fs::create_dir(folder) {
        Ok(()) => {}
        // Somebody else has just made it; a file of that name is found out below.
        Err(e) if e.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
        Err(e) if e.kind() == ErrorKind::AlreadyExists => {
            return Err(Error::io(format!("{} is a file, and a folder is needed", folder.display()))
                .remedy("name another folder for the checkpoints, or move the file away"));
        }
        Err(e) => return Err(failed("create the folder", folder, &e)),
    }
    above.map_or(Ok(()), sync_folder)
}

/// A new name in a folder survives a crash only once the folder itself is on the disk.
fn sync_folder(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    if cfg!(windows) {
        return Ok(()); // Folders cannot be opened there; the file system's journal orders names.
    }
    match File::open(folder).and_then(|f| f.sync_all()) {
        Ok(()) => Ok(()),
        // Some network file systems have no such thing: what they promise, they promise at the rename.
        Err(e) if matches!(e.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        Err(e) => Err(failed("sync", folder, &e)),
    }
}

/// A temporary file that stays behind is swept away later.
fn remove_quietly(path: &Path) {
    let _ = fs::remove_file(path);
}

pub(super) fn failed(what: &str, path: &Path, e: &io::Error) -> Error {
    let error = Error::io(format!("cannot {what} {}: {e}", path.display()));
    match e.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            error.remedy("make room on that disk, keep fewer checkpoints, or move them to a larger one")
        }
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
            error.remedy("let this user write there, or keep the checkpoints in another folder")
        }
        ErrorKind::NotADirectory => error.remedy("a file is in the way: move it, or name another folder"),
        _ => error,
    }
}
