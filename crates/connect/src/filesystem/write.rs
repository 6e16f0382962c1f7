//! One file that is being written: rows are encoded and packed, and go to a file or into an upload.

use super::files::carried;
use super::{Packing, cannot};
use crate::print::Terminal;
use arrow::datatypes::SchemaRef;
use flate2::write::GzEncoder;
use millstream_core::{Batch, Error, Place, Result};
use millstream_formats::parquet::ParquetWriter;
use millstream_formats::{Encoder, FormatOptions, encoder};
use parquet::file::metadata::RowGroupMetaData;
use std::fs::File;
use std::io::{self, Write};
use std::path::Path;

#[cfg(feature = "s3")]
use super::bucket::{Upload, Uploaded};

/// Text held back before it is written.
const HELD_BYTES_MAX: usize = 256 << 10;

/// Where the bytes go.
pub(super) enum Out {
    File(File),
    #[cfg(feature = "s3")]
    Object(Box<Upload>),
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Out::File(file) => file.write(bytes),
            #[cfg(feature = "s3")]
            Out::Object(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Out::File(file) => file.flush(),
            #[cfg(feature = "s3")]
            Out::Object(upload) => upload.flush(),
        }
    }
}

pub(super) enum Writer {
    Text { encoder: Box<dyn Encoder>, out: Pack, held: Vec<u8>, bytes: u64 },
    Parquet(Box<ParquetWriter<Out>>),
}

pub(super) enum Pack {
    Plain(Out),
    Gzip(GzEncoder<Out>),
    Zstd(zstd::stream::write::Encoder<'static, Out>),
    Stdout,
}

/// What is kept of the footer of a Parquet file, for a table that keeps a log of its files.
pub(crate) type About = fn(&[RowGroupMetaData], &SchemaRef) -> Result<String>;

/// A file that is written to its end.
pub(super) struct Written {
    pub bytes: u64,
    /// Of a Parquet file.
    pub footer: Option<Vec<RowGroupMetaData>>,
    #[cfg(feature = "s3")]
    pub uploaded: Option<Uploaded>,
}

impl Writer {
    /// `out`: `None` is standard output.
    pub fn new(out: Option<Out>, target: &Path, options: &FormatOptions, schema: &SchemaRef) -> Result<Writer> {
        let shown = target.display().to_string();
        if let FormatOptions::Parquet(options) = options {
            let out = out.ok_or_else(|| Error::internal("Parquet on a stream"))?;
            let writer = ParquetWriter::new(out, schema.clone(), options).map_err(|e| at(e, target))?;
            return Ok(Writer::Parquet(Box::new(writer)));
        }
        let out = match (out, Packing::of(&shown)) {
            (None, _) => Pack::Stdout,
            (Some(out), Packing::Plain) => Pack::Plain(out),
            (Some(out), Packing::Gzip) => Pack::Gzip(GzEncoder::new(out, flate2::Compression::default())),
            (Some(out), Packing::Zstd) => {
                Pack::Zstd(zstd::stream::write::Encoder::new(out, 0).map_err(|e| failed(&shown, &e))?)
            }
        };
        let mut encoder = encoder(options, schema)?;
        let mut held = Vec::new();
        encoder.start(&mut held)?;
        Ok(Writer::Text { encoder, out, held, bytes: 0 })
    }

    pub fn write(&mut self, batch: &Batch, target: &Path) -> Result<()> {
        match self {
            Writer::Parquet(writer) => writer.write(&batch.rows).map_err(|e| at(e, target)),
            Writer::Text { encoder, out, held, bytes } => {
                encoder.encode(batch, held)?;
                if held.len() >= HELD_BYTES_MAX { put(out, held, bytes, target) } else { Ok(()) }
            }
        }
    }

    pub fn bytes(&self) -> u64 {
        match self {
            Writer::Parquet(writer) => writer.bytes() as u64,
            Writer::Text { held, bytes, .. } => bytes + held.len() as u64,
        }
    }

    /// Memory that rows take which are to become a row group.
    pub fn row_group_bytes(&self) -> usize {
        match self {
            Writer::Parquet(writer) => writer.held_bytes(),
            Writer::Text { .. } => 0,
        }
    }

    /// Writes rows that wait to become a row group as one.
    pub fn end_row_group(&mut self, target: &Path) -> Result<()> {
        match self {
            Writer::Parquet(writer) => writer.flush().map_err(|e| at(e, target)),
            Writer::Text { .. } => Ok(()),
        }
    }

    /// Hands on what is held back, to whoever reads a stream.
    pub fn flush(&mut self, target: &Path) -> Result<()> {
        match self {
            Writer::Text { encoder, out, held, bytes } => {
                encoder.drain(held)?;
                put(out, held, bytes, target)
            }
            Writer::Parquet(_) => Ok(()),
        }
    }

    #[cfg(feature = "s3")]
    pub fn upload(&self) -> Option<&Upload> {
        let out = match self {
            Writer::Parquet(writer) => writer.out(),
            Writer::Text { out: Pack::Plain(out), .. } => out,
            Writer::Text { out: Pack::Gzip(out), .. } => out.get_ref(),
            Writer::Text { out: Pack::Zstd(out), .. } => out.get_ref(),
            Writer::Text { out: Pack::Stdout, .. } => return None,
        };
        match out {
            Out::Object(upload) => Some(upload),
            Out::File(_) => None,
        }
    }

    /// `durable`: a file is to get a name, so its contents must be on the disk first.
    pub fn finish(self, target: &Path, durable: bool) -> Result<Written> {
        let shown = || target.display().to_string();
        let (out, bytes, footer) = match self {
            Writer::Parquet(writer) => {
                let bytes = writer.bytes() as u64;
                let (out, footer) = writer.finish_with_footer().map_err(|e| at(e, target))?;
                (Some(out), bytes, Some(footer))
            }
            Writer::Text { mut encoder, mut out, mut held, mut bytes } => {
                encoder.drain(&mut held)?;
                put(&mut out, &mut held, &mut bytes, target)?;
                let out = match out {
                    Pack::Plain(out) => Ok(Some(out)),
                    Pack::Gzip(out) => out.finish().map(Some),
                    Pack::Zstd(out) => out.finish().map(Some),
                    Pack::Stdout => Ok(None),
                };
                (out.map_err(|e| failed(&shown(), &e))?, bytes, None)
            }
        };
        #[cfg(feature = "s3")]
        let mut uploaded = None;
        match out {
            Some(Out::File(file)) if durable => file.sync_all().map_err(|e| failed(&shown(), &e))?,
            Some(Out::File(_)) | None => {}
            #[cfg(feature = "s3")]
            Some(Out::Object(upload)) => uploaded = Some(upload.end()?),
        }
        Ok(Written {
            bytes,
            footer,
            #[cfg(feature = "s3")]
            uploaded,
        })
    }
}

fn put(out: &mut Pack, held: &mut Vec<u8>, bytes: &mut u64, target: &Path) -> Result<()> {
    if held.is_empty() {
        return Ok(());
    }
    let written = match out {
        Pack::Plain(out) => out.write_all(held),
        Pack::Gzip(out) => out.write_all(held),
        Pack::Zstd(out) => out.write_all(held),
        Pack::Stdout => return Terminal::Stdout.write(held).map(|()| forget(held, bytes)),
    };
    written.map_err(|e| failed(&target.display().to_string(), &e))?;
    forget(held, bytes);
    Ok(())
}

fn forget(held: &mut Vec<u8>, bytes: &mut u64) {
    *bytes += held.len() as u64;
    held.clear();
}

fn failed(shown: &str, e: &io::Error) -> Error {
    carried(e).unwrap_or_else(|| cannot("write", shown, e))
}

fn at(e: Error, target: &Path) -> Error {
    // One of a bucket knows where it was and what to do.
    if e.place().is_some() {
        return e;
    }
    e.at(Place(target.display().to_string())).remedy("check that there is room on the disk")
}
