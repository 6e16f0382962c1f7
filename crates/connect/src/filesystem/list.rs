//! Which files a path stands for, and in what order.

use super::cannot;
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::UNIX_EPOCH;

/// Folders nested deeper than this are a loop of links.
const DEPTH_MAX: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileInfo {
    pub path: PathBuf,
    pub size: Option<u64>,
    /// Milliseconds since 1970.
    pub modified: Option<i64>,
    /// What tells this version of an object from others; files of this machine have none.
    pub version: Option<String>,
    /// Of a table that keeps a log of its files: what the log says of this one.
    pub logged: Option<Arc<Logged>>,
}

/// What a table's log says of a file.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Logged {
    /// The values of the partition columns as texts; `None` is NULL.
    pub partition: BTreeMap<String, Option<String>>,
}

impl FileInfo {
    pub fn stdin() -> FileInfo {
        FileInfo { path: PathBuf::from("-"), size: None, modified: None, version: None, logged: None }
    }

    /// How messages and metadata call it.
    pub fn shown(&self) -> String {
        if self.path.as_os_str() == "-" {
            return "stdin".into();
        }
        self.path.display().to_string()
    }
}

/// The path without `file://`.
pub(crate) fn local_path(path: &str) -> &str {
    path.strip_prefix("file://").unwrap_or(path)
}

pub(super) fn is_pattern(path: &str) -> bool {
    let path = local_path(path);
    has_wildcards(path) && fs::symlink_metadata(path).is_err()
}

pub(super) fn has_wildcards(path: &str) -> bool {
    path.contains(['*', '?', '['])
}

/// The files that `path` stands for, in the order of their paths, each once. A path that names nothing is an error; a
/// folder or pattern without files is not.
pub(super) fn files(path: &str) -> Result<Vec<FileInfo>> {
    let path = local_path(path);
    let mut found = Vec::new();
    if is_pattern(path) {
        let matches =
            glob::glob(path).map_err(|e| Error::sql(format!("'path' = '{path}' is not a valid pattern: {e}")))?;
        for entry in matches {
            match entry {
                Ok(entry) if !left_out(&entry) => collect(&entry, 0, &mut found)?,
                Ok(_) => {}
                Err(e) => return Err(cannot("read", &e.path().display().to_string(), e.error())),
            }
        }
    } else {
        collect(Path::new(path), 0, &mut found)?;
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found.dedup_by(|a, b| a.path == b.path);
    Ok(found)
}

/// Hidden files, marks such as `_SUCCESS`, and files that are still being written.
pub(super) fn left_out(path: &Path) -> bool {
    hidden_name(&path.file_name().unwrap_or_default().to_string_lossy())
}

pub(super) fn hidden_name(name: &str) -> bool {
    name.starts_with(['.', '_']) || name.ends_with(".tmp") || name.ends_with(".inprogress")
}

fn collect(path: &Path, depth: usize, found: &mut Vec<FileInfo>) -> Result<()> {
    let shown = || path.display().to_string();
    let about = match fs::metadata(path) {
        Ok(about) => about,
        // Gone between the listing and now: then it is not there. Not so for the path that the table names.
        Err(e) if depth > 0 && e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(cannot("read", &shown(), &e)),
    };
    if !about.is_dir() {
        let modified = about.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok());
        found.push(FileInfo {
            path: path.to_owned(),
            size: about.is_file().then_some(about.len()),
            modified: modified.map(|t| t.as_millis() as i64),
            version: None,
            logged: None,
        });
        return Ok(());
    }
    if depth > DEPTH_MAX {
        return Err(Error::io(format!("{} is nested deeper than {DEPTH_MAX} folders", shown()))
            .remedy("look for a link that leads back into its own folder"));
    }
    for entry in fs::read_dir(path).map_err(|e| cannot("read the folder", &shown(), &e))? {
        let entry = entry.map_err(|e| cannot("read the folder", &shown(), &e))?.path();
        if !left_out(&entry) {
            collect(&entry, depth + 1, found)?;
        }
    }
    Ok(())
}

/// The values of the `key=value` folders above a file. A value of `__DEFAULT_PARTITION__` stands for NULL.
pub(super) fn partition_value(path: &Path, key: &str) -> Option<Option<String>> {
    let folders = path.parent()?.components();
    let value = folders.rev().find_map(|folder| {
        let (name, value) = folder.as_os_str().to_str()?.split_once('=')?;
        (unescape(name) == key).then(|| unescape(value))
    })?;
    Some((value != DEFAULT_PARTITION && value != "__HIVE_DEFAULT_PARTITION__").then_some(value))
}

pub(crate) const DEFAULT_PARTITION: &str = "__DEFAULT_PARTITION__";

/// A text as part of a folder's name: what has a meaning in paths becomes `%` and two hexadecimal digits, as in Flink.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_control() || "\"#%'*/:=?\\{}[]^".contains(c) {
            out.push_str(&format!("%{:02X}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    // A name of dots alone would be another folder.
    if out.chars().all(|c| c == '.') { out.replace('.', "%2E") } else { out }
}

pub(crate) fn unescape(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => {
                out.push(byte);
                at += 3;
            }
            None => {
                out.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_out_of_folder_names() {
        for value in ["a/b=c", "ä 1", "100%", "..", "%41", "2013-01-01 10:00:00"] {
            let path = PathBuf::from(format!("out/day={}/part-0.csv", escape(value)));
            assert_eq!(partition_value(&path, "day"), Some(Some(value.to_owned())));
            assert_eq!(path.components().count(), 3);
        }
        let path = PathBuf::from("out/day=__DEFAULT_PARTITION__/x");
        assert_eq!(partition_value(&path, "day"), Some(None));
        assert_eq!(partition_value(&path, "hour"), None);
    }
}
