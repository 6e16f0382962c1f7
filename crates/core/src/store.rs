//! A place for what has to outlive the process: checkpoints, outboxes, locks.
//!
//! A store holds whole objects under names such as `data/12-3-groups.parquet`. It promises little, so that a folder and
//! an object store both keep it: an object is there as a whole or not at all, and of two that create the same name
//! one learns that it came second.

use crate::error::Result;
use crate::time::Millis;

/// How an object is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Only if no object of that name is there.
    Create,
    /// Whatever is there gives way.
    Replace,
}

/// What became of a put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// It is there and will be after a crash.
    Yes,
    /// [`Put::Create`] only: an object of that name was there before.
    Exists,
}

/// An object as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    pub path: String,
    pub bytes: u64,
    /// When it was last written, in milliseconds since 1970, by the store's clock.
    pub modified: Millis,
}

/// Objects by name. Paths are relative to the store and divided by `/`.
pub trait Store: Send + Sync {
    /// Puts a whole object. When it returns `Yes`, the object survives a crash.
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored>;

    /// The object, or `None` where there is none of that name.
    fn get(&self, path: &str) -> Result<Option<Vec<u8>>>;

    /// All objects whose path begins with `prefix`, sorted by path.
    fn list(&self, prefix: &str) -> Result<Vec<Stat>>;

    /// Removes an object; one that is not there counts as removed.
    fn delete(&self, path: &str) -> Result<()>;

    /// What users call it: a folder or a URL without secrets.
    fn name(&self) -> String;
}

/// A store in memory: for programs that want checkpoints within one process, and for tests.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: std::sync::Mutex<std::collections::BTreeMap<String, Vec<u8>>>,
}

impl MemoryStore {
    fn objects(&self) -> std::sync::MutexGuard<'_, std::collections::BTreeMap<String, Vec<u8>>> {
        // A panic elsewhere leaves the map whole: each change is one insertion or removal.
        self.objects.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Store for MemoryStore {
    fn put(&self, path: &str, bytes: &[u8], how: Put) -> Result<Stored> {
        let mut objects = self.objects();
        if how == Put::Create && objects.contains_key(path) {
            return Ok(Stored::Exists);
        }
        objects.insert(path.to_owned(), bytes.to_vec());
        Ok(Stored::Yes)
    }

    fn get(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.objects().get(path).cloned())
    }

    fn list(&self, prefix: &str) -> Result<Vec<Stat>> {
        let stat =
            |(path, bytes): (&String, &Vec<u8>)| Stat { path: path.clone(), bytes: bytes.len() as u64, modified: 0 };
        Ok(self.objects().iter().filter(|(path, _)| path.starts_with(prefix)).map(stat).collect())
    }

    fn delete(&self, path: &str) -> Result<()> {
        self.objects().remove(path);
        Ok(())
    }

    fn name(&self) -> String {
        "memory".to_owned()
    }
}
