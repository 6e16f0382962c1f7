//! The parts of a Parquet object that a query needs.
//!
//! ```text
//!  footer ─▶ where the wanted columns lie in each row group ─▶ windows of them, the first of all columns at once
//! ```
//!
//! The reader asks page by page, column after column. Asked of a server like that, each page would be a request; so a miss
//! brings a window of the column, and of the others of its row group, which will be asked for next. Windows never reach over
//! the end of a wanted column, unless so little lies between two of them that another request would cost more.

use super::super::list::FileInfo;
use super::Objects;
use super::read::Object;
use bytes::Bytes;
use millstream_core::{Error, Result};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaDataReader;
use parquet::file::reader::{ChunkReader, Length};
use std::io::{self, Read};
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of windows that are held.
const HELD_BYTES_MAX: u64 = 32 << 20;

/// Bytes of one window, where there is room for one of each column.
const WINDOW_BYTES_MAX: u64 = 4 << 20;
const WINDOW_BYTES_MIN: u64 = 64 << 10;

/// Unwanted bytes between two wanted columns that are read rather than asked around.
const GAP_BYTES_MAX: u64 = 64 << 10;

/// Bytes from the end that are read first: the footer of most files.
const FOOTER_BYTES: u64 = 64 << 10;

#[derive(Clone)]
pub(in super::super) struct Chunks(Arc<Inner>);

struct Inner {
    object: Object,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Where wanted columns lie, by row group, in order.
    extents: Vec<Vec<Range<u64>>>,
    window: u64,
    /// The row group whose columns have been begun all at once.
    begun: Option<usize>,
    /// What is held, the least lately used first.
    held: Vec<(u64, Bytes)>,
    /// What went wrong; the reader would tell it as damage of the file.
    failed: Option<Error>,
}

impl Chunks {
    /// Opens an object of which the columns of these names will be read.
    pub fn open(objects: &Arc<Objects>, file: &FileInfo, columns: &[String]) -> Result<Chunks> {
        let state = Mutex::new(State { window: WINDOW_BYTES_MAX, ..State::default() });
        let chunks = Chunks(Arc::new(Inner { object: Object::new(objects, file)?, state }));
        // Whatever is wrong with the footer, the reader finds it as well, and tells it better.
        if let Ok(metadata) = ParquetMetaDataReader::new().parse_and_finish(&chunks) {
            let mut state = chunks.state();
            for group in metadata.row_groups() {
                let wanted = |path: &[String]| path.first().is_some_and(|root| columns.contains(root));
                let wanted = group.columns().iter().filter(|c| wanted(c.column_path().parts()));
                let mut extents: Vec<Range<u64>> = wanted
                    .map(|column| column.byte_range())
                    .map(|(start, length)| start..start.saturating_add(length))
                    .collect();
                extents.sort_unstable_by_key(|e| e.start);
                state.extents.push(joined(extents));
            }
            let most = state.extents.iter().map(Vec::len).max().unwrap_or_default().max(1) as u64;
            state.window = (HELD_BYTES_MAX / (2 * most)).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        }
        match chunks.failed() {
            Some(e) => Err(e),
            None => Ok(chunks),
        }
    }

    /// What went wrong with a request, if one did.
    pub fn failed(&self) -> Option<Error> {
        self.state().failed.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// At least one byte from `start` on, and `length` if they are to come in one piece.
    fn some(&self, start: u64, length: u64) -> Result<Bytes> {
        let mut state = self.state();
        if let Some(bytes) = state.find(start, length) {
            return Ok(bytes);
        }
        let result = self.fetch(&mut state, start, length);
        if let Err(e) = &result {
            state.failed = Some(e.clone());
        }
        result
    }

    fn fetch(&self, state: &mut State, start: u64, length: u64) -> Result<Bytes> {
        let (object, size) = (&self.0.object, self.0.object.size);
        let group = state.extents.iter().position(|group| group.iter().any(|e| e.contains(&start)));
        let Some(group) = group else {
            // The footer; of a small file the end may be all of it, and so are its columns.
            let from = start.min(size.saturating_sub(FOOTER_BYTES));
            let range = if state.extents.is_empty() { from..size } else { start..start + length.max(1) };
            let bytes = object.wait(object.begin(range.start..range.end.min(size)))?;
            state.hold(range.start, bytes.clone());
            return Ok(bytes.slice((start - range.start) as usize..));
        };
        let (window, begun) = (state.window, state.begun == Some(group));
        let of = |extent: &Range<u64>| match extent.contains(&start) {
            true => Some(start..(start + window.max(length)).min(extent.end.max(start + length))),
            false if !begun && extent.start > start => Some(extent.start..(extent.start + window).min(extent.end)),
            false => None,
        };
        let wanted: Vec<Range<u64>> = state.extents[group].iter().filter_map(of).collect();
        state.begun = Some(group);
        let coming: Vec<_> = wanted.iter().map(|range| object.begin(range.clone())).collect();
        let mut mine = None;
        for (range, coming) in wanted.iter().zip(coming) {
            let bytes = object.wait(coming)?;
            if range.contains(&start) {
                mine = Some(bytes.clone());
            }
            state.hold(range.start, bytes);
        }
        mine.ok_or_else(|| Error::internal("a window without the byte that was asked for"))
    }
}

impl State {
    fn find(&mut self, start: u64, length: u64) -> Option<Bytes> {
        let covers = |(from, bytes): &(u64, Bytes)| {
            let end = from + bytes.len() as u64;
            *from <= start && start < end && start + length <= end
        };
        let at = self.held.iter().rposition(covers)?;
        let (from, bytes) = self.held.remove(at);
        self.held.push((from, bytes.clone()));
        Some(bytes.slice((start - from) as usize..))
    }

    fn hold(&mut self, from: u64, bytes: Bytes) {
        self.held.push((from, bytes));
        let mut sum: u64 = self.held.iter().map(|(_, b)| b.len() as u64).sum();
        while sum > HELD_BYTES_MAX && self.held.len() > 1 {
            sum -= self.held.remove(0).1.len() as u64;
        }
    }
}

/// Ranges with those made one that all but touch and are small together.
fn joined(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut out: Vec<Range<u64>> = Vec::with_capacity(ranges.len());
    for range in ranges {
        match out.last_mut() {
            Some(last)
                if range.start <= last.end.saturating_add(GAP_BYTES_MAX)
                    && range.end.saturating_sub(last.start) <= WINDOW_BYTES_MAX =>
            {
                last.end = last.end.max(range.end);
            }
            _ => out.push(range),
        }
    }
    out
}

impl Length for Chunks {
    fn len(&self) -> u64 {
        self.0.object.size
    }
}

impl ChunkReader for Chunks {
    type T = From;

    fn get_read(&self, start: u64) -> parquet::errors::Result<From> {
        Ok(From { chunks: self.clone(), at: start })
    }

    fn get_bytes(&self, start: u64, length: usize) -> parquet::errors::Result<Bytes> {
        if start.checked_add(length as u64).is_none_or(|end| end > self.len()) {
            return Err(ParquetError::EOF(format!("{length} bytes from {start} on are more than the object holds")));
        }
        if length == 0 {
            return Ok(Bytes::new());
        }
        let bytes = self.some(start, length as u64).map_err(|e| ParquetError::External(Box::new(e)))?;
        Ok(bytes.slice(..length))
    }
}

/// An object from a place on.
pub(in super::super) struct From {
    chunks: Chunks,
    at: u64,
}

impl Read for From {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        if to.is_empty() || self.at >= self.chunks.len() {
            return Ok(0);
        }
        let bytes = self.chunks.some(self.at, 1).map_err(io::Error::other)?;
        let n = to.len().min(bytes.len());
        to[..n].copy_from_slice(&bytes[..n]);
        self.at += n as u64;
        Ok(n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_that_all_but_touch_are_one_request_and_others_are_not() {
        let gap = GAP_BYTES_MAX;
        assert_eq!(joined(vec![0..10, 10..30, 31..40]), vec![Range { start: 0, end: 40 }]);
        assert_eq!(joined(vec![0..10, 11 + gap..12 + gap]), [0..10, 11 + gap..12 + gap]);
        assert_eq!(joined(vec![0..WINDOW_BYTES_MAX, WINDOW_BYTES_MAX..2 * WINDOW_BYTES_MAX]).len(), 2);
    }
}
