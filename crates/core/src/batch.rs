//! What travels between operators: rows in columns, with what time says of them.

use crate::time::{Millis, Watermark};
use arrow::array::{Array, BooleanArray, Int8Array, Int64Array, RecordBatch, UInt32Array};
use arrow::compute::{filter, filter_record_batch, take, take_record_batch};
use arrow::error::ArrowError;

/// What a row does to the table that the stream describes. Flink's four kinds, with its short names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum ChangeKind {
    Insert = 0,
    UpdateBefore = 1,
    UpdateAfter = 2,
    Delete = 3,
}

impl ChangeKind {
    pub fn from_code(code: i8) -> ChangeKind {
        match code {
            1 => ChangeKind::UpdateBefore,
            2 => ChangeKind::UpdateAfter,
            3 => ChangeKind::Delete,
            _ => ChangeKind::Insert,
        }
    }

    /// `+I`, `-U`, `+U` or `-D`, as Flink prints them.
    pub fn short(self) -> &'static str {
        match self {
            ChangeKind::Insert => "+I",
            ChangeKind::UpdateBefore => "-U",
            ChangeKind::UpdateAfter => "+U",
            ChangeKind::Delete => "-D",
        }
    }
}

/// Rows in columns.
///
/// `marks` makes lateness independent of how the stream is cut into batches: `marks[i]` is the watermark
/// *before* row `i` on the channel that the batch came by. A source adds it only where a row of the batch may be
/// late (its time is at or below its mark); `None` says that no row of the batch can be late by rows of the
/// same batch, and the watermark last handed on decides alone.
#[derive(Debug, Clone)]
pub struct Batch {
    pub rows: RecordBatch,
    pub marks: Option<Int64Array>,
    /// `ChangeKind` codes; `None` means that every row is an insert.
    pub kinds: Option<Int8Array>,
}

impl From<RecordBatch> for Batch {
    fn from(rows: RecordBatch) -> Batch {
        Batch { rows, marks: None, kinds: None }
    }
}

impl Batch {
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.num_rows() == 0
    }

    /// Bytes held by the columns' buffers, counted without sharing.
    pub fn bytes(&self) -> usize {
        let slices: usize = self.rows.columns().iter().map(|c| slice_bytes(c.as_ref())).sum();
        slices + self.marks.as_ref().map_or(0, |m| m.len() * 8) + self.kinds.as_ref().map_or(0, |k| k.len())
    }

    /// The same rows, marks and kinds under other columns (of the same length).
    pub fn with_rows(&self, rows: RecordBatch) -> Batch {
        Batch { rows, marks: self.marks.clone(), kinds: self.kinds.clone() }
    }

    /// The watermark before row `i`, given the one last handed on by the input.
    #[inline]
    pub fn mark(&self, i: usize, input: Watermark) -> Watermark {
        match &self.marks {
            None => input,
            Some(marks) => Watermark(marks.value(i).max(input.0)),
        }
    }

    pub fn slice(&self, from: usize, len: usize) -> Batch {
        Batch {
            rows: self.rows.slice(from, len),
            marks: self.marks.as_ref().map(|m| m.slice(from, len)),
            kinds: self.kinds.as_ref().map(|k| k.slice(from, len)),
        }
    }

    /// Keeps the rows where `keep` is true; NULL counts as false.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Batch, ArrowError> {
        let rows = filter_record_batch(&self.rows, keep)?;
        let marks = match &self.marks {
            Some(m) => Some(int64(filter(m, keep)?.as_ref())),
            None => None,
        };
        let kinds = match &self.kinds {
            Some(k) => Some(int8(filter(k, keep)?.as_ref())),
            None => None,
        };
        Ok(Batch { rows, marks, kinds })
    }

    /// The rows at `indices`, in that order.
    pub fn take(&self, indices: &UInt32Array) -> Result<Batch, ArrowError> {
        let rows = take_record_batch(&self.rows, indices)?;
        let marks = match &self.marks {
            Some(m) => Some(int64(take(m, indices, None)?.as_ref())),
            None => None,
        };
        let kinds = match &self.kinds {
            Some(k) => Some(int8(take(k, indices, None)?.as_ref())),
            None => None,
        };
        Ok(Batch { rows, marks, kinds })
    }

    /// Raises every mark to at least `floor` and lowers it to at most `ceiling`: what a channel's marks mean
    /// behind a merge of several channels.
    pub fn clamp_marks(&mut self, floor: Millis, ceiling: Millis) {
        if let Some(marks) = &self.marks {
            self.marks = Some(marks.iter().map(|m| m.map(|m| m.min(ceiling).max(floor))).collect());
        }
    }
}

fn int64(array: &dyn Array) -> Int64Array {
    Int64Array::from(array.to_data())
}

fn int8(array: &dyn Array) -> Int8Array {
    Int8Array::from(array.to_data())
}

/// Bytes of the part of the buffers that the array's own slice covers.
fn slice_bytes(array: &dyn Array) -> usize {
    array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_array_memory_size())
}
