//! Each row with what a table of the outer world has under its key.
//!
//! ```text
//!  batch ─▶ ask its keys ─▶ waiting:  rows, watermark, rows, rows ─▶ answered? ─▶ pairs ─▶ condition ─▶ out
//!                                     └─ in the order in which they came, so a watermark never passes a row
//! ```
//!
//! Asking returns at once and other tasks go on while an answer is under way; a table in memory has answered by then. Rows
//! that wait are bounded: past that the oldest answer is waited for. Before a barrier everything is
//! ([`Operator::flush`]), so nothing of this is ever saved.
//!
//! The operator does not know what it asks: see [`Lookup`].

use super::pairs::{LEFT, RIGHT, Residual};
use super::store::NONE;
use crate::expr::Expr;
use crate::graph;
use crate::operator::{Event, Operator, Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use millstream_core::{Batch, Error, Found, Lookup, Result, TimeDomain, Watermark};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

/// Batches that wait for their answers, at the most.
const ASKS_MAX: usize = 8;

/// Bytes of the rows that wait, past which the oldest answer is waited for.
const WAITING_BYTES_MAX: usize = 16 << 20;

/// The operator of a [`graph::LookupJoin`] over a table that answers in the columns of its `looked_up`.
pub fn asking(
    spec: &graph::LookupJoin,
    table: Box<dyn Lookup>,
    input: &SchemaRef,
    output: &SchemaRef,
) -> Result<Box<dyn Operator>> {
    if spec.keys.is_empty() {
        return Err(Error::internal("a look-up without a key"));
    }
    let sides = [input.clone(), spec.looked_up.clone()];
    Ok(Box::new(Asking {
        outer: spec.outer,
        keys: spec.keys.iter().map(|(left, _)| *left).collect(),
        residual: spec.residual.as_ref().map(|r| Residual::new(r, &sides)).transpose()?,
        looked_up: spec.looked_up.clone(),
        output: output.clone(),
        table,
        waiting: VecDeque::new(),
        asks: 0,
        waiting_bytes: 0,
    }))
}

struct Asking {
    outer: bool,
    keys: Vec<usize>,
    residual: Option<Residual>,
    looked_up: SchemaRef,
    output: SchemaRef,
    table: Box<dyn Lookup>,
    waiting: VecDeque<Waiting>,
    /// Batches among what waits.
    asks: usize,
    waiting_bytes: usize,
}

enum Waiting {
    Rows(Batch),
    Watermark(TimeDomain, Watermark),
}

impl Operator for Asking {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => self.advance(domain, to, out),
            Event::End => self.answered(true, out).map(|_| ()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.waiting_bytes + self.table.bytes()
    }

    fn asks(&self) -> bool {
        true
    }

    fn answered(&mut self, wait: bool, out: &mut dyn Output) -> Result<bool> {
        let mut any = false;
        while self.hand_on(wait, out)? {
            any = true;
        }
        Ok(any)
    }

    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        self.answered(true, out).map(|_| ())
    }
}

impl Asking {
    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.kinds.is_some() {
            return Err(Error::internal("the left of a look-up join only inserts"));
        }
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        self.table.ask(&keys)?;
        self.asks += 1;
        self.waiting_bytes += batch.bytes();
        self.waiting.push_back(Waiting::Rows(batch));
        while self.asks > ASKS_MAX || self.waiting_bytes > WAITING_BYTES_MAX {
            self.hand_on(true, out)?;
        }
        self.answered(false, out).map(|_| ())
    }

    fn advance(&mut self, domain: TimeDomain, to: Watermark, out: &mut dyn Output) -> Result<()> {
        // What has been answered meanwhile goes first, so that no watermark is held for longer than its rows.
        self.answered(false, out)?;
        match self.waiting.back_mut() {
            None => out.advance(domain, to),
            Some(Waiting::Watermark(of, last)) if *of == domain => {
                *last = to;
                Ok(())
            }
            Some(_) => {
                self.waiting.push_back(Waiting::Watermark(domain, to));
                Ok(())
            }
        }
    }

    /// Hands on what has waited longest, if its answer is there. Returns whether it did.
    fn hand_on(&mut self, wait: bool, out: &mut dyn Output) -> Result<bool> {
        match self.waiting.front() {
            None => return Ok(false),
            Some(Waiting::Watermark(domain, to)) => {
                let (domain, to) = (*domain, *to);
                self.waiting.pop_front();
                out.advance(domain, to)?;
            }
            Some(Waiting::Rows(_)) => {
                let Some(found) = self.table.answer(wait)? else { return Ok(false) };
                let Some(Waiting::Rows(batch)) = self.waiting.pop_front() else {
                    return Err(Error::internal("an answer to no question"));
                };
                self.asks -= 1;
                self.waiting_bytes -= batch.bytes();
                Joining::new(self, &batch, &found)?.run(out)?;
            }
        }
        Ok(true)
    }
}

/// One batch with its answer.
struct Joining<'a> {
    by: &'a Asking,
    batch: &'a Batch,
    found: &'a Found,
    /// Rows of the batch with rows that were found; `NONE`: with NULLs.
    rows: Vec<u32>,
    partners: Vec<u32>,
}

impl<'a> Joining<'a> {
    fn new(by: &'a Asking, batch: &'a Batch, found: &'a Found) -> Result<Joining<'a>> {
        if found.ranges.len() != batch.len() || found.rows.num_columns() != by.looked_up.fields().len() {
            return Err(Error::internal("a table has answered something else than it was asked"));
        }
        Ok(Joining { by, batch, found, rows: Vec::new(), partners: Vec::new() })
    }

    fn run(mut self, out: &mut dyn Output) -> Result<()> {
        match &self.by.residual {
            Some(residual) => self.test(residual, out)?,
            // Row by row, because each row has its own number of partners; the columns are moved by pieces.
            None => {
                for (row, range) in self.found.ranges.iter().enumerate() {
                    if range.is_empty() {
                        self.lonely(row as u32, out)?;
                    }
                    for partner in range.clone() {
                        self.push(row as u32, partner, out)?;
                    }
                }
            }
        }
        self.emit(out)
    }

    /// With a condition: candidates are tested by pieces, and a row is known to be alone when its last one has failed.
    fn test(&mut self, residual: &Residual, out: &mut dyn Output) -> Result<()> {
        let (mut rows, mut partners) = (Vec::new(), Vec::new());
        let (mut next, mut found_any) = (0, false);
        let last = self.found.ranges.len();
        for (row, range) in self.found.ranges.iter().enumerate() {
            for partner in range.clone() {
                rows.push(row as u32);
                partners.push(partner);
                if rows.len() == ROWS_MAX {
                    self.settle(residual, (&mut rows, &mut partners), row, (&mut next, &mut found_any), out)?;
                }
            }
        }
        self.settle(residual, (&mut rows, &mut partners), last, (&mut next, &mut found_any), out)
    }

    /// Tests the candidates. Every row before `until` has all of its candidates among those so far; `next` is the first
    /// row that has not been told of, and `found_any` whether it has a partner.
    fn settle(
        &mut self,
        residual: &Residual,
        (rows, partners): (&mut Vec<u32>, &mut Vec<u32>),
        until: usize,
        (next, found_any): (&mut u32, &mut bool),
        out: &mut dyn Output,
    ) -> Result<()> {
        let holds = self.holds(residual, rows, partners)?;
        for (i, (row, partner)) in rows.iter().zip(partners.iter()).enumerate() {
            self.end_rows(*row, (next, found_any), out)?;
            if holds.value(i) {
                *found_any = true;
                self.push(*row, *partner, out)?;
            }
        }
        rows.clear();
        partners.clear();
        self.end_rows(until as u32, (next, found_any), out)
    }

    /// Rows from `next` up to `until` have no further candidates.
    fn end_rows(&mut self, until: u32, (next, found_any): (&mut u32, &mut bool), out: &mut dyn Output) -> Result<()> {
        while *next < until {
            if !std::mem::take(found_any) {
                self.lonely(*next, out)?;
            }
            *next += 1;
        }
        Ok(())
    }

    fn holds(&self, residual: &Residual, rows: &[u32], partners: &[u32]) -> Result<BooleanArray> {
        let (rows, partners): (UInt32Array, UInt32Array) = (rows.to_vec().into(), partners.to_vec().into());
        let of = |batch: &RecordBatch, columns: &[usize], at: &UInt32Array| {
            columns.iter().map(|c| Ok(take(batch.column(*c), at, None)?)).collect::<Result<Vec<_>>>()
        };
        let columns = [
            of(&self.batch.rows, &residual.columns[LEFT], &rows)?,
            of(&self.found.rows, &residual.columns[RIGHT], &partners)?,
        ];
        residual.holds(columns, rows.len())
    }

    fn lonely(&mut self, row: u32, out: &mut dyn Output) -> Result<()> {
        if self.by.outer { self.push(row, NONE, out) } else { Ok(()) }
    }

    fn push(&mut self, row: u32, partner: u32, out: &mut dyn Output) -> Result<()> {
        self.rows.push(row);
        self.partners.push(partner);
        if self.rows.len() == ROWS_MAX { self.emit(out) } else { Ok(()) }
    }

    fn emit(&mut self, out: &mut dyn Output) -> Result<()> {
        let (rows, partners) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.partners));
        let len = rows.len();
        if len == 0 {
            return Ok(());
        }
        // Where each row has one partner, which is the common case, the rows stay as they are.
        let as_they_are = len == self.batch.len() && rows.iter().enumerate().all(|(i, row)| i as u32 == *row);
        let left = if as_they_are { self.batch.clone() } else { self.batch.take(&rows.into())? };
        let mut columns = left.rows.columns().to_vec();
        if self.found.rows.num_rows() == 0 {
            columns.extend(self.by.looked_up.fields().iter().map(|f| arrow::array::new_null_array(f.data_type(), len)));
        } else {
            let partners: UInt32Array = match partners.contains(&NONE) {
                false => partners.into(),
                true => partners.into_iter().map(|p| (p != NONE).then_some(p)).collect(),
            };
            for column in self.found.rows.columns() {
                columns.push(take(column, &partners, None)?);
            }
        }
        let rows = conform(&self.by.output, columns, len)?;
        out.emit(0, Batch { rows, marks: left.marks, kinds: None })
    }
}

/// What is made of the columns that a looked-up table hands on, before anybody sees them.
#[derive(Clone)]
pub struct Steps(Vec<Step>);

#[derive(Clone)]
struct Step {
    filter: Option<Expr>,
    columns: Option<Vec<Expr>>,
    schema: SchemaRef,
}

impl Steps {
    /// `table`: the columns that the table hands on.
    pub fn new(spec: &graph::LookupJoin, table: &SchemaRef) -> Steps {
        let mut schema = table.clone();
        let steps = spec.steps.iter().map(|calc| {
            if let Some(columns) = &calc.columns {
                let fields = columns.iter().map(|e| e.field.clone().with_nullable(true));
                schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            }
            Step { filter: calc.filter.clone(), columns: calc.columns.clone(), schema: schema.clone() }
        });
        Steps(steps.collect())
    }

    /// Takes the steps. `ranges` are kept pointing at their rows, of which fewer may be left.
    pub fn take(&self, mut rows: RecordBatch, ranges: &mut [Range<u32>]) -> Result<RecordBatch> {
        for step in &self.0 {
            if let Some(filter) = &step.filter {
                let keep = filter.evaluate(&rows)?;
                if *keep.data_type() != DataType::Boolean {
                    return Err(Error::internal(format!("a condition is {}, not BOOLEAN", keep.data_type())));
                }
                let keep = prep_null_mask_filter(keep.as_boolean());
                let mut before = Vec::with_capacity(keep.len() + 1);
                let mut kept = 0u32;
                before.push(kept);
                before.extend(keep.values().iter().map(|k| {
                    kept += u32::from(k);
                    kept
                }));
                for range in ranges.iter_mut() {
                    *range = before[range.start as usize]..before[range.end as usize];
                }
                rows = filter_record_batch(&rows, &keep)?;
            }
            if let Some(columns) = &step.columns {
                let columns = columns.iter().map(|e| e.evaluate(&rows)).collect::<Result<Vec<_>>>()?;
                rows = conform(&step.schema, columns, rows.num_rows())?;
            }
        }
        Ok(rows)
    }

    /// The columns that come of the last step, for a table that hands on `table`.
    pub fn schema(&self, table: &SchemaRef) -> SchemaRef {
        self.0.last().map_or_else(|| table.clone(), |s| s.schema.clone())
    }

    /// A table that takes these steps with each of its answers.
    pub fn after(self, table: Box<dyn Lookup>) -> Box<dyn Lookup> {
        if self.0.is_empty() { table } else { Box::new(Stepped { table, steps: self }) }
    }
}

struct Stepped {
    table: Box<dyn Lookup>,
    steps: Steps,
}

impl Lookup for Stepped {
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<()> {
        self.table.ask(keys)
    }

    fn answer(&mut self, wait: bool) -> Result<Option<Found>> {
        let Some(Found { rows, mut ranges }) = self.table.answer(wait)? else { return Ok(None) };
        let rows = self.steps.take(rows, &mut ranges)?;
        Ok(Some(Found { rows, ranges }))
    }

    fn bytes(&self) -> usize {
        self.table.bytes()
    }
}
