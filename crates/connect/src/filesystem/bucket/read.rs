//! An object read from front to back, by ranges.
//!
//! One range is being read and the next one is on its way, so [`RANGE_BYTES`] bound twice over what is held. Each request
//! asks for the version that was listed: of an object that is replaced meanwhile no half is read.

use super::super::list::FileInfo;
use super::Objects;
use millstream_core::{Error, Place, Result};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Bytes of one request. Larger ones gain little; what is held grows with them.
pub(super) const RANGE_BYTES: u64 = 4 << 20;

/// One version of an object, read in pieces.
#[derive(Clone)]
pub(super) struct Object {
    pub objects: Arc<Objects>,
    pub at: Path,
    pub size: u64,
    version: Option<String>,
}

/// A range that is on its way.
pub(super) struct Coming {
    range: Range<u64>,
    bytes: Receiver<object_store::Result<bytes::Bytes>>,
}

impl Object {
    pub fn new(objects: &Arc<Objects>, file: &FileInfo) -> Result<Object> {
        let at = objects.object(file)?;
        let size = file.size.unwrap_or_default();
        Ok(Object { objects: objects.clone(), at, size, version: file.version.clone() })
    }

    pub fn begin(&self, range: Range<u64>) -> Coming {
        let options = GetOptions {
            range: Some(GetRange::Bounded(range.clone())),
            if_match: self.version.clone(),
            ..GetOptions::default()
        };
        let (s3, at) = (self.objects.access.client.s3.clone(), self.at.clone());
        let bytes = self.objects.access.thread.begin(async move { s3.get_opts(&at, options).await?.bytes().await });
        Coming { range, bytes }
    }

    pub fn wait(&self, coming: Coming) -> Result<bytes::Bytes> {
        let shown = || Place(self.objects.shown(&self.at));
        let got = coming.bytes.recv().map_err(|_| Error::internal("the thread that speaks S3 has been lost"))?;
        let bytes = match got {
            Ok(bytes) => bytes,
            Err(object_store::Error::Precondition { .. }) => {
                return Err(Error::data(
                    "the object has been replaced since the job has listed it, and a part of each is no whole",
                )
                .at(shown())
                .remedy(
                    "put the object back as it was, or start the job afresh; write new rows under a new name instead \
                         of replacing an object",
                ));
            }
            Err(e @ object_store::Error::NotFound { .. }) if super::said(&e).0 != "NoSuchBucket" => {
                return Err(super::super::progress::vanished(std::path::Path::new(&shown().0)));
            }
            Err(e) => return Err(self.objects.access.failed("read", &self.at, &e)),
        };
        let wanted = coming.range.end - coming.range.start;
        if bytes.len() as u64 != wanted {
            return Err(Error::io(format!("the server gave {} bytes where {wanted} were asked for", bytes.len()))
                .at(shown())
                .remedy("see that nothing between here and the server cuts answers off, then run the job again"));
        }
        Ok(bytes)
    }
}

pub(in super::super) struct RangeReader {
    object: Object,
    /// Where the next request begins.
    next: u64,
    block: bytes::Bytes,
    ahead: Option<Coming>,
}

impl RangeReader {
    pub fn new(objects: &Arc<Objects>, file: &FileInfo, from: u64) -> Result<RangeReader> {
        let mut reader =
            RangeReader { object: Object::new(objects, file)?, next: from, block: bytes::Bytes::new(), ahead: None };
        reader.look_ahead();
        Ok(reader)
    }

    fn look_ahead(&mut self) {
        if self.next < self.object.size {
            let end = (self.next + RANGE_BYTES).min(self.object.size);
            self.ahead = Some(self.object.begin(self.next..end));
            self.next = end;
        }
    }
}

impl Read for RangeReader {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if self.block.is_empty() {
            let Some(coming) = self.ahead.take() else { return Ok(0) };
            self.block = self.object.wait(coming).map_err(io::Error::other)?;
            self.look_ahead();
        }
        let n = to.len().min(self.block.len());
        to[..n].copy_from_slice(&self.block.split_to(n));
        Ok(n)
    }
}
