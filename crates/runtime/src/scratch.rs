//! Scratch space in files: where operators put what does not fit into memory.
//!
//! ```text
//!  DIR/millstream-scratch-0.lock   held by this process as long as it lives
//!  DIR/millstream-scratch-0/run-7  one file for each run
//! ```
//!
//! Nothing in here outlives the process: the directory goes with it, and what a killed one has left is removed by the
//! next that uses the same place. It knows it by the lock, which nobody holds any more.

use crate::exchange::lock;
use millstream_core::{ByteSize, Error, Result};
use millstream_state::tier::{RunId, Spill};
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

const NAME: &str = "millstream-scratch-";

/// Directories that one place may hold: as many processes at once.
const DIRECTORIES_MAX: usize = 1024;

/// Files that are kept open. Others are opened for each use, so that a job of many runs needs no more of the system's
/// handles.
const OPEN_MAX: usize = 256;

/// Scratch space below a directory. The files come with the first run.
pub struct Scratch {
    place: PathBuf,
    state: Mutex<State>,
    next: AtomicU64,
    /// Bytes that lie there now.
    held: AtomicU64,
    /// Bytes written so far.
    written: AtomicU64,
}

#[derive(Default)]
struct State {
    directory: Option<Directory>,
    runs: HashMap<u64, Run>,
    open: usize,
}

struct Directory {
    path: PathBuf,
    lock_path: PathBuf,
    /// Locked. Never read, only held.
    _lock: File,
}

struct Run {
    file: Option<Arc<Mutex<File>>>,
    bytes: u64,
}

impl Scratch {
    /// In this directory, or where the system keeps what is temporary.
    pub fn new(place: Option<PathBuf>) -> Arc<Scratch> {
        Arc::new(Scratch {
            place: place.unwrap_or_else(std::env::temp_dir),
            state: Mutex::default(),
            next: AtomicU64::new(0),
            held: AtomicU64::new(0),
            written: AtomicU64::new(0),
        })
    }

    pub fn held(&self) -> u64 {
        self.held.load(Relaxed)
    }

    pub fn written(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// The same space; what is put into it this way is also counted in `held`.
    pub fn counted(self: &Arc<Scratch>, held: Arc<AtomicU64>) -> Arc<dyn Spill> {
        Arc::new(Counted { space: self.clone(), held, runs: Mutex::default() })
    }

    fn failed(&self, what: &str, e: &std::io::Error) -> Error {
        let held = ByteSize(self.held());
        Error::io(format!("cannot {what} the scratch directory {}: {e}; it holds {held}", self.place.display()))
            .remedy("free space there, choose another with --scratch, or give the job more --memory")
    }

    fn path(directory: &Directory, run: u64) -> PathBuf {
        directory.path.join(format!("run-{run}"))
    }

    /// The file of a run, opened.
    fn file(&self, run: RunId) -> Result<Arc<Mutex<File>>> {
        let state = lock(&self.state);
        let known = state.runs.get(&run.0).zip(state.directory.as_ref());
        let (known, directory) = known.ok_or_else(|| Error::internal("a run in scratch space that is not there"))?;
        if let Some(file) = &known.file {
            return Ok(file.clone());
        }
        let file = OpenOptions::new().read(true).append(true).open(Self::path(directory, run.0));
        Ok(Arc::new(Mutex::new(file.map_err(|e| self.failed("open a file in", &e))?)))
    }
}

/// One operator's way into scratch space.
struct Counted {
    space: Arc<Scratch>,
    held: Arc<AtomicU64>,
    /// Its runs, with their bytes.
    runs: Mutex<HashMap<u64, u64>>,
}

impl Spill for Counted {
    fn create(&self) -> Result<RunId> {
        let run = self.space.create()?;
        lock(&self.runs).insert(run.0, 0);
        Ok(run)
    }

    fn append(&self, run: RunId, bytes: &[u8]) -> Result<()> {
        self.space.append(run, bytes)?;
        // A run that somebody else has made, such as one that was restored, is counted from here on.
        *lock(&self.runs).entry(run.0).or_default() += bytes.len() as u64;
        self.held.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn read(&self, run: RunId, bytes: Range<u64>) -> Result<Vec<u8>> {
        self.space.read(run, bytes)
    }

    fn remove(&self, run: RunId) {
        if let Some(bytes) = lock(&self.runs).remove(&run.0) {
            self.held.fetch_sub(bytes, Relaxed);
        }
        self.space.remove(run);
    }
}

impl Spill for Scratch {
    fn create(&self) -> Result<RunId> {
        let mut state = lock(&self.state);
        if state.directory.is_none() {
            state.directory = Some(Directory::make(&self.place).map_err(|e| self.failed("make", &e))?);
        }
        let run = self.next.fetch_add(1, Relaxed);
        let path = Self::path(state.directory.as_ref().expect("made just now"), run);
        let file = OpenOptions::new().read(true).append(true).create_new(true).open(path);
        let file = file.map_err(|e| self.failed("make a file in", &e))?;
        let file = (state.open < OPEN_MAX).then(|| Arc::new(Mutex::new(file)));
        state.open += usize::from(file.is_some());
        state.runs.insert(run, Run { file, bytes: 0 });
        Ok(RunId(run))
    }

    fn append(&self, run: RunId, bytes: &[u8]) -> Result<()> {
        let file = self.file(run)?;
        lock(&file).write_all(bytes).map_err(|e| self.failed("write to", &e))?;
        if let Some(run) = lock(&self.state).runs.get_mut(&run.0) {
            run.bytes += bytes.len() as u64;
        }
        self.held.fetch_add(bytes.len() as u64, Relaxed);
        self.written.fetch_add(bytes.len() as u64, Relaxed);
        Ok(())
    }

    fn read(&self, run: RunId, bytes: Range<u64>) -> Result<Vec<u8>> {
        let file = self.file(run)?;
        let mut file = lock(&file);
        let mut read = vec![0; (bytes.end - bytes.start) as usize];
        let done = file.seek(SeekFrom::Start(bytes.start)).and_then(|_| file.read_exact(&mut read));
        done.map_err(|e| self.failed("read from", &e))?;
        Ok(read)
    }

    fn remove(&self, run: RunId) {
        let mut state = lock(&self.state);
        let Some(gone) = state.runs.remove(&run.0) else { return };
        state.open -= usize::from(gone.file.is_some());
        self.held.fetch_sub(gone.bytes, Relaxed);
        if let Some(directory) = &state.directory {
            // What stays goes with the directory.
            let _ = fs::remove_file(Self::path(directory, run.0));
        }
    }
}

impl Directory {
    /// A directory of this process alone, below `place`. Those of processes that are gone are removed on the way.
    fn make(place: &Path) -> std::io::Result<Directory> {
        fs::create_dir_all(place)?;
        let mut own = None;
        for at in 0..DIRECTORIES_MAX {
            let path = place.join(format!("{NAME}{at}"));
            let lock_path = place.join(format!("{NAME}{at}.lock"));
            if own.is_some() && !lock_path.exists() {
                continue;
            }
            let lock = match OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path) {
                Ok(lock) => lock,
                // Another user's.
                Err(e) if e.kind() == ErrorKind::PermissionDenied && own.is_none() => continue,
                Err(_) if own.is_some() => continue,
                Err(e) => return Err(e),
            };
            if lock.try_lock().is_err() {
                continue;
            }
            // Its owner may have removed the file since it was opened, and another may have made one of that name: a lock on
            // what is no longer there keeps nobody out.
            if !is_at(&lock, &lock_path) {
                continue;
            }
            match fs::remove_dir_all(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => return Err(e),
                _ => {}
            }
            if own.is_none() {
                fs::create_dir(&path)?;
                own = Some(Directory { path, lock_path, _lock: lock });
            } else {
                let _ = fs::remove_file(&lock_path);
            }
        }
        own.ok_or_else(|| std::io::Error::other(format!("{DIRECTORIES_MAX} processes use it already")))
    }
}

/// Whether an open file is the one of this path.
#[cfg(unix)]
fn is_at(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let same = |a: &fs::Metadata, b: &fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    matches!((open.metadata(), fs::metadata(path)), (Ok(a), Ok(b)) if same(&a, &b))
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
        let _ = fs::remove_file(&self.lock_path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(place: &Path) -> Vec<String> {
        let entries = fs::read_dir(place).unwrap();
        let mut names: Vec<_> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn runs_are_read_back_and_nothing_is_left() {
        let place = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(Some(place.path().join("below")));
        assert!(!place.path().join("below").exists(), "nothing is made before it is needed");
        // More than are kept open.
        let runs: Vec<RunId> = (0..OPEN_MAX + 10).map(|_| scratch.create().unwrap()).collect();
        for (at, run) in runs.iter().enumerate() {
            scratch.append(*run, format!("first {at}, ").as_bytes()).unwrap();
            scratch.append(*run, b"second").unwrap();
        }
        for (at, run) in runs.iter().enumerate() {
            let first = format!("first {at}, ").len() as u64;
            assert_eq!(scratch.read(*run, first..first + 6).unwrap(), b"second");
            assert!(scratch.read(*run, first..first + 7).is_err(), "past the end");
        }
        assert!(scratch.held() > 0);
        runs.iter().for_each(|run| scratch.remove(*run));
        assert_eq!(scratch.held(), 0);
        assert!(scratch.read(runs[0], 0..1).is_err());
        drop(scratch);
        assert_eq!(names(&place.path().join("below")), Vec::<String>::new());
    }

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_live_one_uses_is_not() {
        let place = tempfile::tempdir().unwrap();
        let left = place.path().join(format!("{NAME}0"));
        fs::create_dir(&left).unwrap();
        fs::write(left.join("run-3"), b"left over").unwrap();
        fs::write(place.path().join(format!("{NAME}0.lock")), b"").unwrap();
        fs::create_dir(place.path().join(format!("{NAME}1"))).unwrap();
        fs::write(place.path().join(format!("{NAME}1.lock")), b"").unwrap();
        let first = Scratch::new(Some(place.path().to_owned()));
        let run = first.create().unwrap();
        first.append(run, b"mine").unwrap();
        assert_eq!(names(place.path()), [format!("{NAME}0"), format!("{NAME}0.lock")]);
        assert_eq!(names(&left), ["run-0"]);
        let second = Scratch::new(Some(place.path().to_owned()));
        second.create().unwrap();
        assert_eq!(names(place.path()).len(), 4, "beside the first");
        assert_eq!(first.read(run, 0..4).unwrap(), b"mine");
        drop((first, second));
        assert_eq!(names(place.path()), Vec::<String>::new());
    }

    #[test]
    fn who_comes_while_others_go_takes_nothing_from_them() {
        let place = tempfile::tempdir().unwrap();
        let come_and_go = || {
            for _ in 0..300 {
                let scratch = Scratch::new(Some(place.path().to_owned()));
                let run = scratch.create().unwrap_or_else(|e| panic!("{e}"));
                scratch.append(run, b"mine").unwrap_or_else(|e| panic!("{e}"));
                scratch.create().unwrap_or_else(|e| panic!("{e}"));
                assert_eq!(scratch.read(run, 0..4).unwrap_or_else(|e| panic!("{e}")), b"mine");
            }
        };
        std::thread::scope(|scope| (0..8).for_each(|_| drop(scope.spawn(come_and_go))));
    }

    #[cfg(unix)]
    #[test]
    fn a_file_that_was_made_anew_is_another() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("lock");
        let open = File::create(&path).unwrap();
        assert!(is_at(&open, &path));
        fs::remove_file(&path).unwrap();
        assert!(!is_at(&open, &path));
        File::create(&path).unwrap();
        assert!(!is_at(&open, &path));
    }

    #[test]
    fn an_error_names_the_directory_and_the_remedy() {
        let place = tempfile::tempdir().unwrap();
        let file = place.path().join("a-file");
        fs::write(&file, b"").unwrap();
        let error = Scratch::new(Some(file)).create().unwrap_err();
        assert!(error.what().contains("a-file"), "{error}");
        assert!(error.help().unwrap().contains("--scratch"), "{error}");
    }
}
