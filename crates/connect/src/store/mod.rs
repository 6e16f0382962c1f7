//! Where checkpoints are kept.
//!
//! ```text
//!  ./checkpoints, file:///var/lib/job ──▶ Folder      plain files
//!  s3://bucket/prefix                 ──▶ Bucket      objects, where the feature s3 is on
//! ```
//!
//! Every store keeps what [`Store`] promises: an object is there as a whole or not at all, and of two that create the same
//! name one learns that it came second. That alone is what makes a job safe from another run of itself. The lock is a
//! courtesy on top of it: it tells a person at the start that the job runs already, and where.

#[cfg(feature = "s3")]
pub(crate) mod bucket;
mod folder;

#[cfg(feature = "s3")]
pub use bucket::Bucket;
pub use folder::Folder;

use millstream_core::{Error, Result, Store};
use std::collections::BTreeMap;
use std::time::Duration;

/// The name of the lock's object. It belongs to the store and is in no listing.
const OWNER: &str = "owner.json";

/// A store that can be locked against a second live process.
pub trait OwnedStore: Store {
    /// Takes the lock, or says who has it. It lasts until the [`Lock`] is dropped or the process ends, however it ends.
    /// `owner` is what the other one gets to read: the command or the job.
    fn lock(&self, owner: &str) -> Result<Lock>;

    /// How often it is to be looked into for something new. A look into a folder costs little.
    fn listen_every(&self) -> Duration {
        Duration::from_millis(50)
    }
}

/// Held while a store is ours.
pub struct Lock {
    _held: Box<dyn Send + Sync>,
}

/// Opens the store that a URL names: a path or `file://` is a folder and is made where it is missing; `s3://` is a
/// bucket that must be there, which is found out with the first request.
///
/// # Errors
/// The URL is of no kind that is known, an option is unknown, or the folder cannot be made.
pub fn open(url: &str, options: &BTreeMap<String, String>) -> Result<Box<dyn OwnedStore>> {
    let path = match url.split_once("://") {
        None => url,
        Some(("file", rest)) => match rest.strip_prefix("localhost").unwrap_or(rest) {
            path if path.starts_with('/') => path,
            _ => {
                return Err(Error::usage(format!("`{url}` names a host, and a folder is on this one"))
                    .remedy("write file:///path with three slashes, or the path alone"));
            }
        },
        Some(("s3", _)) => return open_s3(url, options),
        Some((scheme, _)) => {
            return Err(Error::usage(format!("checkpoints cannot be kept in `{scheme}://`"))
                .remedy("use a folder, or a bucket that speaks S3: s3://bucket/prefix"));
        }
    };
    if path.trim().is_empty() {
        return Err(Error::usage("the place for checkpoints is empty").remedy("name a folder or s3://bucket/prefix"));
    }
    if let Some(option) = options.keys().next() {
        return Err(Error::usage(format!("a folder has no option '{option}'")).remedy("leave it out"));
    }
    Ok(Box::new(Folder::open(path)?))
}

#[cfg(feature = "s3")]
fn open_s3(url: &str, options: &BTreeMap<String, String>) -> Result<Box<dyn OwnedStore>> {
    Ok(Box::new(Bucket::open(url, options)?))
}

#[cfg(not(feature = "s3"))]
fn open_s3(url: &str, _: &BTreeMap<String, String>) -> Result<Box<dyn OwnedStore>> {
    Err(Error::usage(format!("`{url}`: this program was built without the feature `s3`"))
        .remedy("build it with --features s3, or use a folder"))
}

/// Who holds a lock, as the other one reads it.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Owner {
    pid: u32,
    host: String,
    /// What the process number counts in; see [`numbering`].
    #[serde(default)]
    numbering: String,
    started: String,
    command: String,
}

impl Owner {
    fn this_process(command: &str) -> Owner {
        Owner {
            pid: std::process::id(),
            host: host(),
            numbering: numbering(),
            started: millstream_core::time::format_millis(now()),
            command: command.to_owned(),
        }
    }

    fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("plain data has a JSON form");
        json.push(b'\n');
        json
    }
}

impl std::fmt::Display for Owner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "process {} on {}, since {} UTC: {}", self.pid, self.host, self.started, self.command)
    }
}

/// Milliseconds since 1970.
pub(crate) fn now() -> millstream_core::Millis {
    millis(std::time::SystemTime::now())
}

fn millis(at: std::time::SystemTime) -> millstream_core::Millis {
    at.duration_since(std::time::UNIX_EPOCH).map_or(0, |d| i64::try_from(d.as_millis()).unwrap_or(i64::MAX))
}

/// The name of this machine, for people.
fn host() -> String {
    let linux = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let named = linux.or_else(|| std::env::var("HOSTNAME").ok()).map(|name| name.trim().to_owned());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| "an unnamed host".to_owned())
}

/// Tells apart the numberings of processes that one machine may have (of containers); empty where there is one only.
fn numbering() -> String {
    std::fs::read_link("/proc/self/ns/pid").map(|to| to.display().to_string()).unwrap_or_default()
}

/// Checks the name of an object: the parts between `/` are plain and not hidden.
///
/// # Errors
/// Our own mistake: names are made by the engine.
pub(crate) fn check_path(path: &str) -> Result<()> {
    let plain = |part: &str| {
        !part.is_empty() && !part.starts_with('.') && !part.contains(|c: char| c == '\\' || c == '\0' || c.is_control())
    };
    if path != OWNER && path.split('/').all(plain) {
        return Ok(());
    }
    Err(Error::internal(format!("`{path}` cannot be the name of an object in a store")))
}

#[cfg(test)]
mod tests;
