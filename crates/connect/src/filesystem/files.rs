//! Where the files of a table are: on this machine or in a bucket.

use super::list::{self, FileInfo};
use super::{PATH, cannot};
use crate::options::required;
use millstream_core::{Error, Result, TableSpec};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

#[cfg(feature = "s3")]
use super::bucket::{Objects, RangeReader};
#[cfg(feature = "s3")]
use std::sync::Arc;

/// Whether a path is one of a bucket.
pub(super) fn in_bucket(path: &str) -> bool {
    path.starts_with("s3://")
}

#[derive(Clone)]
pub(super) enum Files {
    Local,
    #[cfg(feature = "s3")]
    Bucket(Arc<Objects>),
}

impl Files {
    pub fn of(table: &TableSpec) -> Result<Files> {
        match in_bucket(required(table, PATH, "data/orders")?) {
            false => Ok(Files::Local),
            #[cfg(feature = "s3")]
            true => Ok(Files::Bucket(Objects::open(table)?)),
            #[cfg(not(feature = "s3"))]
            true => Err(without_s3(table.option(PATH).unwrap_or_default())),
        }
    }

    /// The files that a path stands for, in the order of their paths, each once.
    pub fn list(&self, path: &str) -> Result<Vec<FileInfo>> {
        match self {
            Files::Local => list::files(path),
            #[cfg(feature = "s3")]
            Files::Bucket(objects) => objects.list(path),
        }
    }

    /// A file from byte `from` on.
    pub fn open(&self, file: &FileInfo, from: u64) -> Result<Box<dyn Read>> {
        match self {
            Files::Local => {
                let failed = |e: &std::io::Error| cannot("read", &file.shown(), e);
                let mut open = File::open(&file.path).map_err(|e| failed(&e))?;
                if from > 0 {
                    open.seek(SeekFrom::Start(from)).map_err(|e| failed(&e))?;
                }
                Ok(Box::new(open))
            }
            #[cfg(feature = "s3")]
            Files::Bucket(objects) => Ok(Box::new(RangeReader::new(objects, file, from)?)),
        }
    }
}

/// What is checked at the declaration of a table whose path is one of a bucket.
#[cfg(feature = "s3")]
pub(super) fn check_bucket(table: &TableSpec, path: &str) -> Result<()> {
    super::bucket::check(table, path)
}

#[cfg(not(feature = "s3"))]
pub(super) fn check_bucket(_table: &TableSpec, path: &str) -> Result<()> {
    Err(without_s3(path))
}

#[cfg(not(feature = "s3"))]
fn without_s3(path: &str) -> Error {
    Error::sql(format!("'path' = '{path}': this program was built without the feature `s3`"))
        .remedy("build it with --features s3, or use a path of this machine")
}

/// The error of this crate that an error of a reader or writer carries, where it does.
pub(super) fn carried(e: &std::io::Error) -> Option<Error> {
    e.get_ref()?.downcast_ref::<Error>().cloned()
}
