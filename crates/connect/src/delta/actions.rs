//! What the log of a table is made of: one action on each line of a commit, and what they add up to.
//!
//! Names and meaning are those of the Delta protocol. Keys that are not known here are left alone: whoever has to know them
//! is told so by the protocol action, see [`protocol`](super::protocol).

use millstream_core::{Error, Millis, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Bytes of actions that are held of one table: about two million files.
pub const SNAPSHOT_BYTES_MAX: usize = 1 << 30;

/// What an action takes in memory beside its texts.
const ACTION_BYTES: usize = 256;

/// A line of a commit. Exactly one of these is there.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit_info: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Protocol>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta_data: Option<Metadata>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub txn: Option<Txn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add: Option<Add>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove: Option<Remove>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_metadata: Option<DomainMetadata>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    pub min_reader_version: i32,
    pub min_writer_version: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reader_features: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer_features: Option<Vec<String>>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Metadata {
    pub id: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    pub format: Format,
    pub schema_string: String,
    #[serde(default)]
    pub partition_columns: Vec<String>,
    #[serde(default)]
    pub configuration: BTreeMap<String, Option<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_time: Option<i64>,
}

impl Metadata {
    pub fn property(&self, key: &str) -> Option<&str> {
        self.configuration.get(key).and_then(|v| v.as_deref())
    }

    pub fn is_on(&self, key: &str) -> bool {
        self.property(key).is_some_and(|v| v.eq_ignore_ascii_case("true"))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Format {
    pub provider: String,
    #[serde(default)]
    pub options: BTreeMap<String, Option<String>>,
}

/// How far an application has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Txn {
    pub app_id: String,
    pub version: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_updated: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Add {
    /// As a URI: relative to the table, percent-encoded.
    pub path: String,
    #[serde(default)]
    pub partition_values: BTreeMap<String, Option<String>>,
    pub size: i64,
    #[serde(default)]
    pub modification_time: i64,
    #[serde(default)]
    pub data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stats: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tags: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Remove {
    pub path: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_timestamp: Option<i64>,
    #[serde(default)]
    pub data_change: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_file_metadata: Option<bool>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition_values: Option<BTreeMap<String, Option<String>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion_vector: Option<DeletionVector>,
}

/// Rows of a file that are deleted: where they are said.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeletionVector {
    pub storage_type: String,
    pub path_or_inline_dv: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<i32>,
    #[serde(default)]
    pub size_in_bytes: i32,
    #[serde(default)]
    pub cardinality: i64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DomainMetadata {
    pub domain: String,
    pub configuration: String,
    #[serde(default)]
    pub removed: bool,
}

/// A file with other rows deleted is another one.
type FileKey = (String, String);

fn key(path: &str, deleted: Option<&DeletionVector>) -> FileKey {
    let deleted = deleted.map(|d| format!("{}{}@{}", d.storage_type, d.path_or_inline_dv, d.offset.unwrap_or(-1)));
    (path.to_owned(), deleted.unwrap_or_default())
}

/// A table at one version.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    pub version: u64,
    pub protocol: Protocol,
    pub metadata: Metadata,
    files: BTreeMap<FileKey, Add>,
    removed: BTreeMap<FileKey, Remove>,
    pub txns: BTreeMap<String, Txn>,
    domains: BTreeMap<String, DomainMetadata>,
    bytes: usize,
}

/// Actions on their way to be a snapshot: protocol and metadata may come behind files.
#[derive(Debug, Default)]
pub struct Replay {
    protocol: Option<Protocol>,
    metadata: Option<Metadata>,
    files: BTreeMap<FileKey, Add>,
    removed: BTreeMap<FileKey, Remove>,
    txns: BTreeMap<String, Txn>,
    domains: BTreeMap<String, DomainMetadata>,
    bytes: usize,
}

fn texts(values: &BTreeMap<String, Option<String>>) -> usize {
    values.iter().map(|(k, v)| k.len() + v.as_ref().map_or(0, String::len) + 64).sum()
}

fn bytes_of(add: &Add) -> usize {
    ACTION_BYTES + 2 * add.path.len() + add.stats.as_ref().map_or(0, String::len) + texts(&add.partition_values)
}

fn bytes_of_removed(remove: &Remove) -> usize {
    ACTION_BYTES + 2 * remove.path.len() + remove.partition_values.as_ref().map_or(0, texts)
}

impl Replay {
    pub fn take(&mut self, line: Line) -> Result<()> {
        if let Some(add) = line.add {
            let key = key(&add.path, add.deletion_vector.as_ref());
            if let Some(gone) = self.removed.remove(&key) {
                self.bytes -= bytes_of_removed(&gone);
            }
            self.bytes += bytes_of(&add);
            if let Some(before) = self.files.insert(key, add) {
                self.bytes -= bytes_of(&before);
            }
        }
        if let Some(remove) = line.remove {
            let key = key(&remove.path, remove.deletion_vector.as_ref());
            if let Some(gone) = self.files.remove(&key) {
                self.bytes -= bytes_of(&gone);
            }
            self.bytes += bytes_of_removed(&remove);
            if let Some(before) = self.removed.insert(key, remove) {
                self.bytes -= bytes_of_removed(&before);
            }
        }
        if let Some(txn) = line.txn {
            self.txns.insert(txn.app_id.clone(), txn);
        }
        if let Some(domain) = line.domain_metadata {
            self.domains.insert(domain.domain.clone(), domain);
        }
        if line.protocol.is_some() {
            self.protocol = line.protocol;
        }
        if line.meta_data.is_some() {
            self.metadata = line.meta_data;
        }
        if self.bytes > SNAPSHOT_BYTES_MAX {
            return Err(Error::data(format!(
                "the log of the table names more files than may be held at a time: {} so far, of {SNAPSHOT_BYTES_MAX} bytes",
                self.files.len() + self.removed.len()
            ))
            .remedy("make fewer and larger files of them (OPTIMIZE), or cut the table in two"));
        }
        Ok(())
    }

    pub fn at(self, version: u64) -> Result<Snapshot> {
        let Replay { protocol: Some(protocol), metadata: Some(metadata), files, removed, txns, domains, bytes } = self
        else {
            return Err(Error::data("the log of the table has no protocol or no metadata: it is damaged")
                .remedy("restore the folder _delta_log from a copy"));
        };
        Ok(Snapshot { version, protocol, metadata, files, removed, txns, domains, bytes })
    }
}

impl Snapshot {
    /// The table one commit later.
    pub fn apply(&mut self, lines: Vec<Line>) -> Result<()> {
        let mut replay = Replay {
            protocol: Some(self.protocol.clone()),
            metadata: Some(self.metadata.clone()),
            files: std::mem::take(&mut self.files),
            removed: std::mem::take(&mut self.removed),
            txns: std::mem::take(&mut self.txns),
            domains: std::mem::take(&mut self.domains),
            bytes: self.bytes,
        };
        lines.into_iter().try_for_each(|line| replay.take(line))?;
        *self = replay.at(self.version + 1)?;
        Ok(())
    }

    /// The files that make up the table, in the order of their paths.
    pub fn files(&self) -> impl Iterator<Item = &Add> {
        self.files.values()
    }

    /// How far an application has come.
    pub fn epoch_of(&self, app: &str) -> Option<i64> {
        self.txns.get(app).map(|txn| txn.version)
    }

    /// Everything that a reader without the commits before needs. Files that were removed before `forget` are left out:
    /// nobody may be reading them any more.
    pub fn lines(&self, forget: Millis) -> Vec<Line> {
        let line = Line::default;
        let mut lines = vec![
            Line { protocol: Some(self.protocol.clone()), ..line() },
            Line { meta_data: Some(self.metadata.clone()), ..line() },
        ];
        lines.extend(self.txns.values().map(|txn| Line { txn: Some(txn.clone()), ..line() }));
        let domains = self.domains.values().filter(|d| !d.removed);
        lines.extend(domains.map(|d| Line { domain_metadata: Some(d.clone()), ..line() }));
        let kept = self.removed.values().filter(|r| r.deletion_timestamp.unwrap_or_default() > forget);
        // What a checkpoint says changes no data: it was all there before.
        lines.extend(kept.map(|r| Line { remove: Some(Remove { data_change: false, ..r.clone() }), ..line() }));
        lines
            .extend(self.files.values().map(|a| Line { add: Some(Add { data_change: false, ..a.clone() }), ..line() }));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(json: &str) -> Line {
        serde_json::from_str(json).expect("an action")
    }

    #[test]
    fn a_file_whose_deleted_rows_change_stays_whatever_the_order_of_the_two_actions() {
        let dv = |at: i32| {
            format!(r#"{{"storageType":"u","pathOrInlineDv":"x","offset":{at},"sizeInBytes":1,"cardinality":1}}"#)
        };
        let add = |at| {
            format!(
                r#"{{"add":{{"path":"a","partitionValues":{{}},"size":1,"dataChange":true,"deletionVector":{}}}}}"#,
                dv(at)
            )
        };
        let remove = |at| format!(r#"{{"remove":{{"path":"a","dataChange":true,"deletionVector":{}}}}}"#, dv(at));
        for second in [[add(2), remove(1)], [remove(1), add(2)]] {
            let mut replay = Replay::default();
            replay.take(line(&add(1))).expect("taken");
            second.iter().for_each(|text| replay.take(line(text)).expect("taken"));
            let left: Vec<_> =
                replay.files.values().map(|a| a.deletion_vector.as_ref().and_then(|d| d.offset)).collect();
            assert_eq!(left, [Some(2)]);
        }
    }

    #[test]
    fn what_is_held_is_counted_up_and_down() {
        let mut replay = Replay::default();
        replay.take(line(r#"{"add":{"path":"a","size":1,"stats":"{}"}}"#)).expect("taken");
        let with_one = replay.bytes;
        replay.take(line(r#"{"add":{"path":"b","size":1}}"#)).expect("taken");
        replay.take(line(r#"{"remove":{"path":"b","dataChange":true}}"#)).expect("taken");
        replay.take(line(r#"{"add":{"path":"b","size":1}}"#)).expect("taken");
        replay.take(line(r#"{"remove":{"path":"b","dataChange":true}}"#)).expect("taken");
        replay.take(line(r#"{"unknown":{"path":"b"}}"#)).expect("left alone");
        assert_eq!(replay.bytes, with_one + ACTION_BYTES + 2);
        let e = replay.at(0).expect_err("no protocol");
        assert!(e.what().contains("no protocol"), "{e}");
    }
}
