//! What a Top-N remembers, as tables.
//!
//! ```text
//!  rows      [end of the window,] partition columns, all other columns | count      rows that are kept
//!  touched   partition columns | time                                               with a time to live alone
//! ```
//!
//! A row is named by all its columns and stands in the table once, with how many such rows there are. A save has the rows
//! of which there are more or fewer than at the last one; windows that have closed go by their end.

use super::TopN;
use super::partitions::NEVER;
use crate::operator::ROWS_MAX;
use crate::over::words::Words;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef, TimeUnit};
use millstream_core::{Error, Result, Watermark};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

pub(super) struct Tables {
    rows: TableDef,
    touched: Option<TableDef>,
    /// Column of the input that each column of `rows` is; `count` comes behind them.
    layout: Vec<usize>,
    /// What `rows` has been told to drop.
    dropped: Watermark,
}

impl Tables {
    /// `keys`: columns that make a partition, without repeats; `exchange`: those that the input is exchanged by.
    pub fn new(input: &SchemaRef, keys: &[usize], exchange: &[usize], end: Option<usize>, touched: bool) -> Tables {
        let mut layout: Vec<usize> = Vec::with_capacity(input.fields().len());
        for column in end.into_iter().chain(keys.iter().copied()).chain(0..input.fields().len()) {
            if !layout.contains(&column) {
                layout.push(column);
            }
        }
        let place = |column: &usize| layout.iter().position(|c| c == column).unwrap_or_default();
        let mut fields: Vec<Field> = layout.iter().map(|c| input.field(*c).clone()).collect();
        fields.push(Field::new("$count", DataType::Int64, false));
        let part = usize::from(end.is_some());
        let rows = TableDef::new("rows", fields, layout.len()).part(part).group_by(exchange.iter().map(place));
        let touched = touched.then(|| {
            let mut fields: Vec<Field> = keys.iter().map(|k| input.field(*k).clone()).collect();
            if fields.is_empty() {
                fields.push(Field::new("$all", DataType::Int64, false));
            }
            let named = fields.len();
            fields.push(Field::new("$touched", DataType::Timestamp(TimeUnit::Millisecond, None), false));
            let place = |column: &usize| keys.iter().position(|k| k == column).unwrap_or_default();
            TableDef::new("touched", fields, named).group_by(exchange.iter().map(place))
        });
        Tables { rows, touched, layout, dropped: Watermark::MIN }
    }

    pub fn all(&self) -> Vec<TableDef> {
        std::iter::once(&self.rows).chain(&self.touched).cloned().collect()
    }
}

impl TopN {
    pub(super) fn save_tables(&mut self, saver: &mut Saver) -> Result<()> {
        self.settle_log(true);
        if let Some((_, domain)) = self.window {
            let watermark = self.watermarks.of(domain);
            if !saver.whole() && watermark > self.tables.dropped {
                // A window that ends 1 ms behind the watermark is closed.
                saver.drop_through(&self.tables.rows, watermark.0.saturating_add(1))?;
            }
            self.tables.dropped = watermark;
        }
        if saver.whole() {
            // Those of all partitions together: most have few, and a piece costs as much as hundreds of rows.
            let mut rows: Vec<(&[u8], i64)> = Vec::new();
            for group in 0..self.partitions.len() as u32 {
                let mut before: Option<&[u8]> = None;
                for row in self.partitions.part(group).from(0) {
                    match rows.last_mut() {
                        Some((_, count)) if before == Some(row) => *count += 1,
                        _ => {
                            if rows.len() == ROWS_MAX {
                                self.put_rows(saver, &rows)?;
                                rows.clear();
                            }
                            rows.push((row, 1));
                        }
                    }
                    before = Some(row);
                }
            }
            self.put_rows(saver, &rows)?;
        } else if let Some(log) = &self.log {
            let counted = log.iter().map(|(group, row)| (row, self.partitions.part(group).count(row) as i64));
            let (put, gone): (Vec<_>, Vec<_>) = counted.partition(|(_, count)| *count > 0);
            for rows in gone.chunks(ROWS_MAX) {
                saver.delete(&self.tables.rows, self.saved_columns(rows)?)?;
            }
            for rows in put.chunks(ROWS_MAX) {
                self.put_rows(saver, rows)?;
            }
        }
        self.log.iter_mut().for_each(|log| log.clear());
        self.save_touched(saver)
    }

    fn put_rows(&self, saver: &mut Saver, rows: &[(&[u8], i64)]) -> Result<()> {
        let mut columns = self.saved_columns(rows)?;
        columns.push(Arc::new(rows.iter().map(|r| r.1).collect::<Int64Array>()));
        saver.put(&self.tables.rows, columns)
    }

    /// All columns but the count.
    fn saved_columns(&self, rows: &[(&[u8], i64)]) -> Result<Vec<ArrayRef>> {
        let columns = self.rows.decode(rows.iter().map(|r| self.ranking.plain(r.0)))?;
        Ok(self.tables.layout.iter().map(|c| columns[*c].clone()).collect())
    }

    fn save_touched(&mut self, saver: &mut Saver) -> Result<()> {
        let (Some(table), Some(ttl)) = (&self.tables.touched, &mut self.partitions.ttl) else { return Ok(()) };
        let (mut groups, forgotten) = (ttl.take_dirty(), std::mem::take(&mut ttl.forgotten));
        if saver.whole() {
            groups = (0..ttl.touched.len() as u32).collect();
        } else {
            // Before those that are there: a partition may have come back.
            forgotten.into_iter().try_for_each(|keys| saver.delete(table, keys))?;
        }
        groups.retain(|group| ttl.touched[*group as usize] != NEVER);
        for groups in groups.chunks(ROWS_MAX) {
            let touched = self.partitions.ttl.iter().flat_map(|ttl| groups.iter().map(|g| ttl.touched[*g as usize]));
            let touched = TimestampMillisecondArray::from_iter_values(touched);
            let mut columns = self.partitions.key_columns(groups)?;
            columns.push(Arc::new(touched));
            saver.put(table, columns)?;
        }
        Ok(())
    }

    pub(super) fn load_table(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        match table {
            "rows" => self.load_rows(rows),
            "touched" if self.tables.touched.is_some() => self.load_touched(rows),
            _ => Err(Error::internal(format!("there is no table `{table}` to load"))),
        }
    }

    fn load_rows(&mut self, saved: &RecordBatch) -> Result<()> {
        let counts = saved.columns().last().and_then(|c| c.as_primitive_opt::<Int64Type>());
        let Some(counts) = counts.filter(|_| saved.num_columns() == self.tables.layout.len() + 1) else {
            return Err(Error::internal("a saved row is its columns and a count"));
        };
        let mut columns: Vec<Option<ArrayRef>> = vec![None; self.tables.layout.len()];
        for (column, saved) in self.tables.layout.iter().zip(saved.columns()) {
            columns[*column] = Some(saved.clone());
        }
        let rows = RecordBatch::try_new(self.input.clone(), columns.into_iter().flatten().collect())?;
        self.partitions.assign(&rows)?;
        let places: Vec<u64> = (0..rows.num_rows()).map(|i| self.partitions.place(i)).collect();
        let keys = self.order.encode(&rows)?;
        let encoded = self.encode(&rows, &keys, &places)?;
        let ends = self.window.map(|(end, _)| Words::of(rows.column(end))).transpose()?;
        for at in 0..rows.num_rows() {
            let group = self.partitions.group_of(at);
            let empty = self.partitions.part(group).is_empty();
            self.partitions.change(group, |part| part.insert(encoded.row(at), counts.value(at).max(0) as usize));
            if let Some(ends) = ends.as_ref().filter(|_| empty) {
                self.partitions.open(ends[at], group);
            }
        }
        Ok(())
    }

    fn load_touched(&mut self, saved: &RecordBatch) -> Result<()> {
        let (keys, times) = saved.columns().split_at(saved.num_columns().saturating_sub(1));
        let times = times.first().ok_or_else(|| Error::internal("a touched partition has a time"))?;
        let times = Words::of(times)?;
        self.partitions.assign_keys(keys, saved.num_rows())?;
        for (at, time) in times.iter().enumerate() {
            let group = self.partitions.group_of(at);
            self.partitions.ttl.iter_mut().for_each(|ttl| ttl.touch(group, *time, false));
        }
        Ok(())
    }
}
