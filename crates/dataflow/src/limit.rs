//! `LIMIT n`: the first rows that arrive, and no more.

use crate::operator::{Event, Operator, Output};
use arrow::array::{AsArray, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int64Type};
use millstream_core::{Error, Result};
use millstream_state::table::{Saver, TableDef};
use std::sync::Arc;

/// Hands on `most` rows. It runs as one task.
pub struct Limit {
    most: u64,
    passed: u64,
    /// How many of these the last checkpoint knows of.
    saved: u64,
}

impl Limit {
    pub fn new(rows: u64) -> Limit {
        Limit { most: rows, passed: 0, saved: 0 }
    }

    /// True once every further row is dropped.
    pub fn reached(&self) -> bool {
        self.left() == 0
    }

    fn left(&self) -> u64 {
        self.most.saturating_sub(self.passed)
    }

    /// The rows passed so far, and not those left: the limit may have changed when it is read.
    fn table(&self) -> TableDef {
        TableDef::new("passed", vec![Field::new("rows", DataType::Int64, true)], 0)
    }
}

impl Operator for Limit {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => {
                let take = self.left().min(batch.len() as u64);
                self.passed += take;
                match take as usize {
                    0 => Ok(()),
                    n if n == batch.len() => out.emit(0, batch),
                    n => out.emit(0, batch.slice(0, n)),
                }
            }
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    fn tables(&self) -> Vec<TableDef> {
        vec![self.table()]
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        if !saver.whole() && self.passed == self.saved {
            return Ok(());
        }
        let number = |rows: u64| i64::try_from(rows).unwrap_or(i64::MAX);
        if !saver.whole() {
            saver.drop_through(&self.table(), number(self.saved))?;
        }
        self.saved = self.passed;
        saver.put(&self.table(), vec![Arc::new(Int64Array::from_value(number(self.passed), 1))])
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        let passed = rows.columns().first().and_then(|c| c.as_primitive_opt::<Int64Type>());
        let (Some(passed), "passed") = (passed, table) else {
            return Err(Error::internal(format!("there is no table `{table}` to load")));
        };
        self.passed = passed.values().iter().fold(self.passed, |most, rows| most.max(*rows as u64));
        self.saved = self.passed;
        Ok(())
    }
}
