//! Changes on their way out.

use super::{Columns, RowBytes};
use crate::operator::{Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::{Int8Array, Int64Array};
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, ChangeKind, Result};
use std::sync::Arc;

/// Changes on their way out, gathered into batches of [`ROWS_MAX`] rows.
pub(crate) struct Changes {
    output: SchemaRef,
    /// The rank is the last column.
    ranked: bool,
    rows: Columns,
    kinds: Vec<i8>,
    ranks: Vec<i64>,
}

impl Changes {
    pub fn new(codec: &RowBytes, output: SchemaRef, ranked: bool) -> Changes {
        Changes { output, ranked, rows: codec.columns(), kinds: Vec::new(), ranks: Vec::new() }
    }

    /// Sends out what is held where the next `rows` rows, which belong together, would not find room.
    pub fn make_room(&mut self, rows: usize, codec: &RowBytes, out: &mut dyn Output) -> Result<()> {
        if self.kinds.len() + rows > ROWS_MAX { self.flush(codec, out) } else { Ok(()) }
    }

    pub fn push(&mut self, kind: ChangeKind, row: &[u8], rank: u64) {
        self.rows.push(row);
        self.kinds.push(kind as i8);
        if self.ranked {
            self.ranks.push(i64::try_from(rank).unwrap_or(i64::MAX));
        }
    }

    pub fn flush(&mut self, codec: &RowBytes, out: &mut dyn Output) -> Result<()> {
        if self.kinds.is_empty() {
            return Ok(());
        }
        let mut columns = self.rows.finish(codec)?;
        if self.ranked {
            columns.push(Arc::new(Int64Array::from(std::mem::take(&mut self.ranks))));
        }
        let kinds = std::mem::take(&mut self.kinds);
        let rows = conform(&self.output, columns, kinds.len())?;
        let inserts = kinds.iter().all(|k| *k == ChangeKind::Insert as i8);
        out.emit(0, Batch { rows, marks: None, kinds: (!inserts).then(|| Int8Array::from(kinds)) })
    }

    pub fn bytes(&self) -> usize {
        self.rows.bytes() + self.kinds.capacity() + self.ranks.capacity() * 8
    }
}
