//! Turns groups into result rows: keys, window_start, window_end, window_time, one column for each call.

use super::table::{Grouping, Table};
use crate::graph;
use crate::operator::{Output, ROWS_MAX};
use crate::zone::Zone;
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::{Batch, ChangeKind, Millis, Result};
use std::sync::Arc;

pub(super) struct Emitter {
    schema: SchemaRef,
    zone: Zone,
    /// Type of `window_time`.
    time: DataType,
}

fn constant(value: Millis, rows: usize, kind: &DataType) -> ArrayRef {
    let zone = match kind {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    Arc::new(TimestampMillisecondArray::from_value(value, rows).with_timezone_opt(zone))
}

pub(super) fn times(values: Vec<Millis>, kind: &DataType) -> ArrayRef {
    let zone = match kind {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    Arc::new(TimestampMillisecondArray::from(values).with_timezone_opt(zone))
}

/// Results with a window each: ids of their keys and of their state.
pub(super) struct Each<'a> {
    pub windows: &'a [(Millis, Millis)],
    pub keys: &'a [u32],
    pub groups: &'a [u32],
}

/// Results of one window: ids of their keys, the columns of the calls, and what they do (`None`: they are new).
pub(super) struct Changed<'a> {
    pub keys: &'a [u32],
    pub results: Vec<ArrayRef>,
    pub kinds: Option<Int8Array>,
}

pub(super) const PLAIN: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

impl Emitter {
    pub fn new(node: &graph::WindowAggregate, input: &Schema, zone: &Zone) -> Emitter {
        let time = match input.fields().get(node.time.column).map(|f| f.data_type()) {
            Some(kind @ DataType::Timestamp(TimeUnit::Millisecond, _)) => kind.clone(),
            _ => PLAIN,
        };
        let mut fields: Vec<Field> = node.keys.iter().map(|k| input.field(*k).clone()).collect();
        fields.push(Field::new("window_start", PLAIN, false));
        fields.push(Field::new("window_end", PLAIN, false));
        fields.push(Field::new("window_time", time.clone(), false));
        fields.extend(node.calls.iter().map(|c| c.result.clone()));
        Emitter { schema: Arc::new(Schema::new(fields)), zone: *zone, time }
    }

    fn push(
        &self,
        mut columns: Vec<ArrayRef>,
        window: [ArrayRef; 3],
        results: Vec<ArrayRef>,
        rows: usize,
        again: bool,
        out: &mut dyn Output,
    ) -> Result<()> {
        columns.extend(window);
        columns.extend(results);
        let mut batch = Batch::from(crate::rows::conform(&self.schema, columns, rows)?);
        batch.kinds = again.then(|| Int8Array::from_value(ChangeKind::UpdateAfter as i8, rows));
        out.emit(0, batch)
    }

    /// The result of a window, in pieces.
    pub fn emit(
        &self,
        grouping: &Grouping,
        table: &Table,
        window: (Millis, Millis),
        out: &mut dyn Output,
    ) -> Result<()> {
        if table.len() == 0 {
            return Ok(());
        }
        // The three columns are the same for every row of the window: made once, cut for each piece.
        let most = table.len().min(ROWS_MAX);
        let columns = self.window(window, most);
        let mut from = 0;
        while from < table.len() {
            let to = (from + ROWS_MAX).min(table.len());
            let window = columns.each_ref().map(|c| c.slice(0, to - from));
            let keys = grouping.codec.decode(&table.keys, from..to)?;
            self.push(keys, window, table.state.finish(from..to)?, to - from, false, out)?;
            from = to;
        }
        Ok(())
    }

    fn window(&self, (start, end): (Millis, Millis), rows: usize) -> [ArrayRef; 3] {
        let at = self.zone.to_epoch(end.saturating_sub(1));
        [constant(start, rows, &PLAIN), constant(end, rows, &PLAIN), constant(at, rows, &self.time)]
    }

    /// The new results of some groups of a window that has been emitted before.
    pub fn emit_again(
        &self,
        grouping: &Grouping,
        table: &Table,
        window: (Millis, Millis),
        groups: &[u32],
        out: &mut dyn Output,
    ) -> Result<()> {
        for ids in groups.chunks(ROWS_MAX) {
            let keys = grouping.codec.decode_ids(&table.keys, ids)?;
            self.push(keys, self.window(window, ids.len()), table.state.finish_ids(ids)?, ids.len(), true, out)?;
        }
        Ok(())
    }

    /// Rows of a window, each with a change of its own.
    pub fn emit_changes(
        &self,
        grouping: &Grouping,
        table: &Table,
        window: (Millis, Millis),
        Changed { keys, results, kinds }: Changed<'_>,
        out: &mut dyn Output,
    ) -> Result<()> {
        let mut columns = grouping.codec.decode_ids(&table.keys, keys)?;
        columns.extend(self.window(window, keys.len()));
        columns.extend(results);
        let rows = crate::rows::conform(&self.schema, columns, keys.len())?;
        out.emit(0, Batch { rows, marks: None, kinds })
    }

    fn windows(&self, windows: &[(Millis, Millis)]) -> [ArrayRef; 3] {
        let ends = windows.iter().map(|w| self.zone.to_epoch(w.1.saturating_sub(1)));
        [
            times(windows.iter().map(|w| w.0).collect(), &PLAIN),
            times(windows.iter().map(|w| w.1).collect(), &PLAIN),
            times(ends.collect(), &self.time),
        ]
    }

    /// Rows with a window and a change each.
    pub fn emit_changes_each(
        &self,
        grouping: &Grouping,
        table: &Table,
        windows: &[(Millis, Millis)],
        Changed { keys, results, kinds }: Changed<'_>,
        out: &mut dyn Output,
    ) -> Result<()> {
        let mut columns = grouping.codec.decode_ids(&table.keys, keys)?;
        columns.extend(self.windows(windows));
        columns.extend(results);
        let rows = crate::rows::conform(&self.schema, columns, keys.len())?;
        out.emit(0, Batch { rows, marks: None, kinds })
    }

    /// Results of windows of their own.
    pub fn emit_each(
        &self,
        grouping: &Grouping,
        table: &Table,
        Each { windows, keys, groups }: Each<'_>,
        again: bool,
        out: &mut dyn Output,
    ) -> Result<()> {
        for from in (0..groups.len()).step_by(ROWS_MAX) {
            let range = from..(from + ROWS_MAX).min(groups.len());
            let window = self.windows(&windows[range.clone()]);
            let columns = grouping.codec.decode_ids(&table.keys, &keys[range.clone()])?;
            let results = table.state.finish_ids(&groups[range.clone()])?;
            self.push(columns, window, results, range.len(), again, out)?;
        }
        Ok(())
    }
}
