//! Reads a table as it is at one version.
//!
//! The log names the files, and what the partition columns are in each of them; the files themselves are read as any folder of
//! Parquet files is. A position holds the version with the place in its files, so a job that goes on reads the same files,
//! whatever the table has become meanwhile.

use super::actions::{Add, Snapshot};
use super::log::{AsOf, Log};
use super::settings::Settings;
use super::{protocol, schema};
use crate::filesystem::{FileInfo, FileSource, Logged};
use crate::position;
use arrow::datatypes::SchemaRef;
use millstream_core::{Behind, Error, PartitionReader, Place, Polled, Result, SavedPartition, Source, TableSpec};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub struct DeltaSource {
    settings: Settings,
    at: Pinned,
}

/// One version, opened.
struct Pinned {
    version: u64,
    is_empty: bool,
    files: FileSource,
}

/// The bytes of a URI.
fn decoded(path: &str) -> Option<String> {
    let (bytes, mut out, mut at) = (path.as_bytes(), Vec::with_capacity(path.len()), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            out.push(u8::from_str_radix(path.get(at + 1..at + 3)?, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

/// A file of a table as a file that is read.
pub fn file_info(add: &Add, settings: &Settings, partition_columns: &[String]) -> Result<FileInfo> {
    let scheme = |first: &str| first.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    let elsewhere = add.path.starts_with('/') || add.path.split_once(':').is_some_and(|(first, _)| scheme(first));
    let path = decoded(&add.path).filter(|_| !elsewhere).ok_or_else(|| {
        Error::data(format!("the table has a file elsewhere, `{}`, as shallow clones do, which is not read", add.path))
            .at(Place(settings.root.clone()))
            .remedy("make a full copy of the table (CREATE TABLE .. AS SELECT)")
    })?;
    // An empty text stands for NULL.
    let value = |column: &String| add.partition_values.get(column).cloned().flatten().filter(|text| !text.is_empty());
    let partition = partition_columns.iter().map(|column| (column.clone(), value(column))).collect();
    let path = match settings.root.starts_with("s3://") {
        true => PathBuf::from(format!("{}/{path}", settings.root)),
        false => Path::new(&settings.root).join(path),
    };
    Ok(FileInfo {
        path,
        size: u64::try_from(add.size).ok(),
        modified: Some(add.modification_time),
        version: None,
        logged: Some(Arc::new(Logged { partition })),
    })
}

/// The files of a table as a table of files.
pub fn files_spec(settings: &Settings, schema: SchemaRef, snapshot: &Snapshot) -> TableSpec {
    TableSpec { schema, partitioned_by: snapshot.metadata.partition_columns.clone(), ..settings.files.clone() }
}

fn open_at(settings: &Settings, as_of: AsOf) -> Result<Pinned> {
    let missing = || {
        Error::io(format!("there is no Delta table at '{}': it has no folder _delta_log with commits", settings.root))
            .remedy("check 'path'; a table is made by the first job that writes to it")
    };
    // To look for it is not to make it.
    if !settings.root.starts_with("s3://") && !Path::new(&settings.root).join("_delta_log").is_dir() {
        return Err(missing());
    }
    let log = Log::open(&settings.root, &settings.bucket_options()?)?;
    let snapshot = log.load(as_of)?.ok_or_else(missing)?;
    protocol::check_read(&snapshot, &log.shown)?;
    schema::check_read(&settings.table, &snapshot.metadata, &log.shown)?;
    // Times are read as they are declared, and not as the sink would store them.
    let spec = files_spec(settings, settings.table.schema.clone(), &snapshot);
    let columns = &snapshot.metadata.partition_columns;
    let files: Vec<FileInfo> = snapshot.files().map(|add| file_info(add, settings, columns)).collect::<Result<_>>()?;
    Ok(Pinned { version: snapshot.version, is_empty: files.is_empty(), files: FileSource::of_files(&spec, files)? })
}

impl DeltaSource {
    pub fn open(table: &TableSpec) -> Result<DeltaSource> {
        let settings = Settings::of(table)?;
        let at = open_at(&settings, settings.as_of)?;
        Ok(DeltaSource { settings, at })
    }

    fn reader(&self, mut readers: Vec<Box<dyn PartitionReader>>) -> Vec<Box<dyn PartitionReader>> {
        let inner = readers.pop();
        vec![Box::new(DeltaReader { name: self.settings.root.clone(), version: self.at.version, inner })]
    }
}

#[derive(Serialize, Deserialize)]
struct Position {
    version: u64,
    /// Where reading goes on among the files of that version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    files: Option<String>,
}

impl Source for DeltaSource {
    fn schema(&self) -> SchemaRef {
        self.at.files.schema()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let readers = if self.at.is_empty { Vec::new() } else { self.at.files.partitions(parallelism)? };
        Ok(self.reader(readers))
    }

    fn resume(&mut self, saved: &[SavedPartition], parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let [saved] = saved else { return self.partitions(parallelism) };
        if saved.name != self.settings.root {
            return Err(Error::usage(format!(
                "the job has read '{}' and is now to go on in '{}'",
                saved.name, self.settings.root
            ))
            .remedy("set 'path' back, or start the job afresh"));
        }
        let position: Position = position::read(saved)?;
        if position.version != self.at.version {
            self.at = open_at(&self.settings, AsOf::Version(position.version))?;
        }
        let readers = match position.files {
            Some(position) => {
                self.at.files.resume(&[SavedPartition { name: saved.name.clone(), position }], parallelism)?
            }
            None => Vec::new(),
        };
        Ok(self.reader(readers))
    }

    fn replays(&self) -> bool {
        true
    }
}

/// Reads the files of one version.
struct DeltaReader {
    name: String,
    version: u64,
    /// `None`: the version has no files.
    inner: Option<Box<dyn PartitionReader>>,
}

impl PartitionReader for DeltaReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        self.inner.as_mut().map_or(Ok(Polled::End), |inner| inner.poll())
    }

    fn behind(&self) -> Behind {
        self.inner.as_ref().map_or(Behind::default(), |inner| inner.behind())
    }

    fn take_at_most(&mut self, rows: usize) {
        if let Some(inner) = &mut self.inner {
            inner.take_at_most(rows);
        }
    }

    fn position(&self) -> Result<String> {
        let files = self.inner.as_ref().map(|inner| inner.position()).transpose()?;
        position::write(&Position { version: self.version, files })
    }

    fn bytes_done(&self) -> Option<(u64, u64)> {
        self.inner.as_ref().and_then(|inner| inner.bytes_done())
    }
}
