//! Files of a bucket that speaks S3.
//!
//! ```text
//!  reading   list ─▶ ranges, two ahead at most, each only of the version that was listed ─▶ `read`
//!  writing   rows ─▶ parts of an upload ──prepare──▶ all there, not complete ──commit──▶ complete: an object
//!                                                        └── no manifest names it ─▶ aborted by `clean`
//! ```
//!
//! A folder is what keys have in common up to a `/`. There is no folder without objects, so one that is watched need not be
//! there yet.
//!
//! **Uploads, not staged objects.** An object could also be written under a hidden name and copied at the commit. An upload
//! in parts is seen by no reader, whatever it takes for hidden; its bytes are stored once and not twice; and a commit is one
//! small request for each file, however large the file is. The price is a rule that aborts old uploads, which many buckets
//! have: it must leave them longer than the job may stand still.

mod commit;
mod parquet;
mod read;
mod upload;

pub(super) use commit::{ObjectCommitter, ObjectPart, mark};
pub(super) use parquet::Chunks;
pub(super) use read::RangeReader;
pub(super) use upload::{Slots, Upload, Uploaded};

use super::list::{FileInfo, hidden_name};
use crate::options::referenced;
use crate::s3::{Access, Client, said, until_answered};
use futures::TryStreamExt;
use glob::{MatchOptions, Pattern};
use millstream_core::{Error, Result, TableSpec};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

/// The options of a table that are those of a bucket, and which of them are secrets.
pub(super) const OPTIONS: [(&str, bool); 6] = [
    ("s3.access-key", true),
    ("s3.secret-key", true),
    ("s3.session-token", true),
    ("s3.endpoint", false),
    ("s3.endpoint.region", false),
    ("s3.path-style-access", false),
];

/// `*` stays within a part of the key, `**` does not.
const MATCHING: MatchOptions =
    MatchOptions { case_sensitive: true, require_literal_separator: true, require_literal_leading_dot: false };

/// The bucket of a table.
pub(super) struct Objects {
    pub access: Access,
    /// `s3://bucket/`
    root: String,
    /// Until when aborts of what a sink has begun are waited for; set by the first.
    aborts_until: OnceLock<Instant>,
}

/// Bucket and key of a URL.
fn split(path: &str) -> Result<(&str, &str)> {
    let rest = path.strip_prefix("s3://").unwrap_or(path);
    let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
    // What stands before an `@` may be a password, and is shown to nobody.
    if bucket.contains('@') || bucket.is_empty() {
        return Err(Error::sql("'path' names no bucket")
            .remedy("write 's3://bucket/prefix'; keys belong into the environment: AWS_ACCESS_KEY_ID and so on"));
    }
    Ok((bucket, key))
}

pub(super) fn check(table: &TableSpec, path: &str) -> Result<()> {
    let (_, key) = split(path)?;
    pattern(path, key)?;
    // The environment may be that of another machine here, so references are left as they are.
    let options = options(table, |_, value| Ok(value.to_owned()))?;
    Access::check(&url(path)?, &options)
}

fn url(path: &str) -> Result<String> {
    Ok(format!("s3://{}", split(path)?.0))
}

pub(super) fn options(
    table: &TableSpec,
    secret: impl Fn(&str, &str) -> Result<String>,
) -> Result<BTreeMap<String, String>> {
    let mut options = BTreeMap::new();
    for (name, is_secret) in OPTIONS {
        if let Some(value) = table.option(name) {
            let value = if is_secret { secret(name, value)? } else { value.to_owned() };
            options.insert(name.to_owned(), value);
        }
    }
    Ok(options)
}

/// The pattern that a key is, if it is one.
fn pattern(path: &str, key: &str) -> Result<Option<Pattern>> {
    if !super::list::has_wildcards(key) {
        return Ok(None);
    }
    Pattern::new(key).map(Some).map_err(|e| Error::sql(format!("'path' = '{path}' is not a valid pattern: {e}")))
}

impl Objects {
    pub fn open(table: &TableSpec) -> Result<Arc<Objects>> {
        let path = table.option(super::PATH).unwrap_or_default();
        let access = Access::open(&url(path)?, &options(table, referenced)?)?;
        let root = format!("s3://{}/", split(path)?.0);
        Ok(Arc::new(Objects { access, root, aborts_until: OnceLock::new() }))
    }

    /// The name of an object, as messages and metadata have it.
    pub fn shown(&self, at: &Path) -> String {
        format!("{}{at}", self.root)
    }

    /// The object that a file of a listing is.
    pub fn object(&self, file: &FileInfo) -> Result<Path> {
        let shown = file.shown();
        self.at(shown.strip_prefix(&self.root).unwrap_or(&shown))
    }

    /// The object of a key.
    pub fn at(&self, key: &str) -> Result<Path> {
        Path::parse(key).map_err(|e| {
            Error::sql(format!("'{}{key}' cannot be the name of an object: {e}", self.root))
                .remedy("use names without empty parts and without . and .. between the /")
        })
    }

    /// The key of a path of this bucket.
    pub fn key<'a>(&self, path: &'a str) -> &'a str {
        path.strip_prefix(&self.root).unwrap_or_default().trim_matches('/')
    }

    /// The objects that `path` stands for, in the order of their keys.
    ///
    /// # Errors
    /// The bucket is not there, or may not be listed. A prefix without objects is none.
    pub fn list(&self, path: &str) -> Result<Vec<FileInfo>> {
        let key = split(path)?.1.trim_matches('/');
        let pattern = pattern(path, key)?;
        let folder = match &pattern {
            Some(_) => {
                let literal = &key[..key.find(['*', '?', '[']).unwrap_or(key.len())];
                literal.rsplit_once('/').map_or("", |(folder, _)| folder)
            }
            None => key,
        };
        let folder = self.at(folder)?;
        let mut all = self.below(&self.access.client, &folder)?;
        if pattern.is_none() && !key.is_empty() {
            // The path may also be one object, which lies below no folder of its name.
            all.extend(self.look(&self.access.client, &folder)?);
        }
        let is_wanted = |meta: &ObjectMeta| {
            let key = meta.location.as_ref();
            // Some tools mark a folder by an empty object of its name.
            let marks_folder = meta.size == 0 && !key.rsplit('/').next().unwrap_or_default().contains('.');
            let named = match &pattern {
                // As on a disk: a pattern may name the file, or a folder above it.
                Some(pattern) => std::iter::successors(Some(key), |k| k.rsplit_once('/').map(|(above, _)| above))
                    .any(|above| pattern.matches_with(above, MATCHING)),
                None => true,
            };
            let below = key.strip_prefix(folder.as_ref()).unwrap_or(key);
            // What the table names is meant, whatever its name looks like.
            named && !marks_folder && (below.is_empty() || !below.split('/').any(hidden_name))
        };
        all.retain(is_wanted);
        let mut files: Vec<FileInfo> = all.into_iter().map(|meta| self.info(meta)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        files.dedup_by(|a, b| a.path == b.path);
        Ok(files)
    }

    fn info(&self, meta: ObjectMeta) -> FileInfo {
        FileInfo {
            path: PathBuf::from(self.shown(&meta.location)),
            size: Some(meta.size),
            modified: Some(meta.last_modified.timestamp_millis()),
            version: meta.e_tag,
            logged: None,
        }
    }

    /// All objects below a folder.
    fn below(&self, client: &Client, folder: &Path) -> Result<Vec<ObjectMeta>> {
        let (s3, of) = (client.s3.clone(), folder.clone());
        let all = self
            .access
            .thread
            .wait(async move { until_answered(&of, || s3.list(Some(&of)).try_collect::<Vec<_>>()).await });
        all.map_err(|e| self.access.failed("list", folder, &e))
    }

    /// The names of the objects that are in a folder themselves, and not in one below it.
    pub fn names_in(&self, folder: &Path) -> Result<Vec<String>> {
        let (s3, of) = (self.access.client.s3.clone(), folder.clone());
        let listed =
            self.access.thread.wait(async move { until_answered(&of, || s3.list_with_delimiter(Some(&of))).await });
        let listed = listed.map_err(|e| self.access.failed("list", folder, &e))?;
        Ok(listed.objects.iter().filter_map(|meta| meta.location.filename().map(str::to_owned)).collect())
    }

    /// An object without its bytes, if it is there.
    pub fn look(&self, client: &Client, at: &Path) -> Result<Option<ObjectMeta>> {
        let (s3, of) = (client.s3.clone(), at.clone());
        match self.access.thread.wait(async move { s3.head(&of).await }) {
            Ok(meta) => Ok(Some(meta)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(e) => Err(self.access.failed("look at", at, &e)),
        }
    }

    pub fn put(&self, at: &Path, bytes: Vec<u8>) -> Result<()> {
        let (s3, to) = (self.access.client.s3.clone(), at.clone());
        let put = self.access.thread.wait(async move { s3.put(&to, PutPayload::from(bytes)).await });
        put.map(|_| ()).map_err(|e| self.access.failed("write", at, &e))
    }

    pub fn get(&self, at: &Path) -> Result<Option<Vec<u8>>> {
        let (s3, of) = (self.access.client.s3.clone(), at.clone());
        match self.access.thread.wait(async move { s3.get(&of).await?.bytes().await }) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(e @ object_store::Error::NotFound { .. }) if said(&e).0 != "NoSuchBucket" => Ok(None),
            Err(e) => Err(self.access.failed("read", at, &e)),
        }
    }

    pub fn delete(&self, at: &Path) -> Result<()> {
        let (s3, of) = (self.access.client.s3.clone(), at.clone());
        match self.access.thread.wait(async move { s3.delete(&of).await }) {
            Err(e) if !matches!(e, object_store::Error::NotFound { .. }) => Err(self.access.failed("remove", at, &e)),
            _ => Ok(()),
        }
    }
}
