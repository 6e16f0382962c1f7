//! From rows and the partners that may be theirs to the rows that come out: the part that all joins share.
//!
//! ```text
//!  row 0: candidates 7 3 9 ─┐  at most ROWS_MAX    residual over     in order: pairs, then     pieces of at most
//!  row 1: none              ├─ candidates     ──▶  all of them  ──▶  what the end of a row ──▶ ROWS_MAX rows
//!  row 2: candidates 3 ..  ─┘  at a time           at once           means for it
//! ```
//!
//! A row with a million partners is cut like any other run of candidates. What comes out is in the order in which rows
//! came one by one: an outer row with NULLs is taken back before its first pair comes out, and comes out again behind the
//! last pair that is taken back.

use super::memory::{Act, Memory};
use super::store::NONE;
use crate::expr::Expr;
use crate::graph::JoinKind;
use crate::operator::{Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_physical_expr::expressions::Column;
use datafusion_physical_expr::utils::collect_columns;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result};
use std::sync::Arc;

pub(super) const LEFT: usize = 0;
pub(super) const RIGHT: usize = 1;

/// What the kind of a join means, and its columns.
pub(super) struct Shape {
    pub kind: JoinKind,
    pub inputs: [SchemaRef; 2],
    pub output: SchemaRef,
    residual: Option<Residual>,
    /// Pairs are told at once and outer rows taken back; otherwise an outer row comes out once it can have no partner.
    pub revises: bool,
}

/// A condition over the columns that it uses alone.
pub(super) struct Residual {
    condition: Expr,
    /// Of each side, the columns that it uses.
    pub columns: [Vec<usize>; 2],
    schema: SchemaRef,
}

impl Shape {
    pub fn new(
        kind: JoinKind,
        inputs: &[SchemaRef],
        output: &SchemaRef,
        residual: Option<&Expr>,
        revises: bool,
    ) -> Result<Shape> {
        let [left, right] = inputs else { return Err(Error::internal("a join has two inputs")) };
        let inputs = [left.clone(), right.clone()];
        let residual = residual.map(|r| Residual::new(r, &inputs)).transpose()?;
        Ok(Shape { kind, inputs, output: output.clone(), residual, revises })
    }

    /// Rows of this side that have no partner come out.
    pub fn lonely(&self, side: usize) -> bool {
        match self.kind {
            JoinKind::Inner | JoinKind::Semi => false,
            JoinKind::Left | JoinKind::Anti | JoinKind::Mark => side == LEFT,
            JoinKind::Right => side == RIGHT,
            JoinKind::Full => true,
        }
    }

    /// Rows of this side come out, once, when they have a partner.
    pub fn chosen(&self, side: usize) -> bool {
        matches!(self.kind, JoinKind::Semi | JoinKind::Mark) && side == LEFT
    }

    /// A row of this side has to know whether it has partners.
    pub fn counted(&self, side: usize) -> bool {
        self.lonely(side) || self.chosen(side)
    }

    /// Pairs come out.
    pub fn pairs(&self) -> bool {
        !matches!(self.kind, JoinKind::Semi | JoinKind::Anti | JoinKind::Mark)
    }

    /// Rows of the left come out with a mark: whether they have a partner.
    fn marks(&self) -> bool {
        self.kind == JoinKind::Mark
    }

    /// Rows without a partner: of the left with NULLs in place of the right, or the other way round.
    pub fn padded(&self, side: usize, mut columns: Vec<ArrayRef>, rows: usize) -> Result<Batch> {
        if self.marks() {
            columns.push(Arc::new(BooleanArray::from(vec![false; rows])));
        }
        if !self.pairs() {
            return Ok(conform(&self.output, columns, rows)?.into());
        }
        let other = self.inputs[1 - side].fields().iter();
        let nulls = other.map(|f| arrow::array::new_null_array(f.data_type(), rows));
        let all = match side {
            LEFT => columns.into_iter().chain(nulls).collect(),
            _ => nulls.chain(columns).collect(),
        };
        Ok(conform(&self.output, all, rows)?.into())
    }

    /// Rows of one side out of their memory, padded, in pieces.
    pub fn emit_padded(&self, side: usize, memory: &mut Memory, slots: &[u32], out: &mut dyn Output) -> Result<()> {
        let columns: Vec<usize> = (0..self.inputs[side].fields().len()).collect();
        for slots in slots.chunks(ROWS_MAX) {
            out.emit(0, self.padded(side, memory.rows.gather(slots, &columns)?, slots.len())?)?;
        }
        Ok(())
    }
}

impl Residual {
    pub fn new(condition: &Expr, inputs: &[SchemaRef; 2]) -> Result<Residual> {
        let left = inputs[LEFT].fields().len();
        let mut used: Vec<usize> = collect_columns(&condition.physical).iter().map(Column::index).collect();
        used.sort_unstable();
        used.dedup();
        let narrowed = condition.physical.clone().transform_down(|e| {
            let Some(column) = e.downcast_ref::<Column>() else { return Ok(Transformed::no(e)) };
            let at = used.binary_search(&column.index()).unwrap_or_default();
            Ok(Transformed::yes(Arc::new(Column::new(column.name(), at)) as _))
        });
        let narrowed = narrowed.map_err(|e| Error::internal(format!("the condition of a join: {e}")))?.data;
        let (on_left, on_right): (Vec<usize>, Vec<usize>) = used.into_iter().partition(|c| *c < left);
        let columns = [on_left, on_right.into_iter().map(|c| c - left).collect::<Vec<usize>>()];
        let fields = (0..2).flat_map(|side| columns[side].iter().map(move |c| (side, *c)));
        let fields: Vec<_> = fields.map(|(s, c)| inputs[s].field(c).clone().with_nullable(true)).collect();
        Ok(Residual {
            condition: Expr::new(narrowed, condition.field.clone(), condition.sql.clone()),
            columns,
            schema: Arc::new(Schema::new(fields)),
        })
    }

    /// For each pair, whether the condition holds.
    pub fn holds(&self, columns: [Vec<ArrayRef>; 2], pairs: usize) -> Result<BooleanArray> {
        let options = RecordBatchOptions::new().with_row_count(Some(pairs));
        let columns = columns.into_iter().flatten().collect();
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        let held = self.condition.evaluate(&rows)?;
        if *held.data_type() != DataType::Boolean {
            return Err(Error::internal(format!("the condition of a join is {}, not BOOLEAN", held.data_type())));
        }
        let held = held.as_boolean();
        Ok(match held.null_count() {
            0 => held.clone(),
            // NULL is not true.
            _ => arrow::compute::prep_null_mask_filter(held),
        })
    }
}

/// A batch of one side on its way through the rows of the other.
///
/// For each row that acts, in order: [`Probe::candidate`] for each that may be its partner, then [`Probe::end_row`]. Then
/// [`Probe::finish`].
pub(super) struct Probe<'a> {
    shape: &'a Shape,
    /// The side of the batch.
    side: usize,
    batch: &'a RecordBatch,
    acts: &'a [Act],
    own: Option<&'a mut Memory>,
    other: &'a mut Memory,
    out: &'a mut dyn Output,
    /// Candidates: rows of the batch with slots of the other side.
    rows: Vec<u32>,
    slots: Vec<u32>,
    /// Rows that have ended, and the candidates before their ends.
    ended: Vec<(u32, u32)>,
    /// Partners so far of the row under way.
    found: u32,
    /// What comes out: rows of the batch with slots of the other side, `NONE` for NULLs.
    out_rows: Vec<u32>,
    out_slots: Vec<u32>,
    out_kinds: Vec<i8>,
    /// Of a mark join: whether the row that comes out has a partner.
    out_matched: Vec<bool>,
    /// What the rows that come out are judged by further on: the watermark handed on before the row that brought them.
    marks: Option<&'a [Millis]>,
    out_marks: Vec<Millis>,
    /// Every candidate is a pair that comes out, and nothing else does.
    plain: bool,
    all: [Vec<usize>; 2],
}

impl<'a> Probe<'a> {
    pub fn new(
        shape: &'a Shape,
        side: usize,
        batch: &'a RecordBatch,
        acts: &'a [Act],
        own: Option<&'a mut Memory>,
        other: &'a mut Memory,
        out: &'a mut dyn Output,
    ) -> Probe<'a> {
        let retracts = own.as_ref().is_some_and(|o| o.retracts()) || other.retracts();
        // Rows that are not remembered may take back what came of them all the same.
        let goes = own.is_none() && acts.iter().any(|a| a.sign < 0);
        let plain = shape.kind == JoinKind::Inner && shape.residual.is_none() && !retracts && !goes;
        Probe {
            shape,
            side,
            batch,
            acts,
            own,
            other,
            out,
            rows: Vec::new(),
            slots: Vec::new(),
            ended: Vec::new(),
            found: 0,
            out_rows: Vec::new(),
            out_slots: Vec::new(),
            out_kinds: Vec::new(),
            out_matched: Vec::new(),
            marks: None,
            out_marks: Vec::new(),
            plain,
            all: [0, 1].map(|s| (0..shape.inputs[s].fields().len()).collect()),
        }
    }

    /// The same with marks, one for each row of the batch, for what comes out.
    pub fn with_marks(mut self, marks: Option<&'a [Millis]>) -> Probe<'a> {
        self.marks = marks;
        self
    }

    /// A row of the other side whose partners are known, as far as anybody asks.
    #[inline]
    pub fn is_matched(&self, slot: u32) -> bool {
        self.other.counted && !self.other.recounted && self.other.matches[slot as usize] > 0
    }

    #[inline]
    pub fn candidate(&mut self, row: usize, slot: u32) -> Result<()> {
        self.rows.push(row as u32);
        self.slots.push(slot);
        if self.rows.len() >= ROWS_MAX { self.settle() } else { Ok(()) }
    }

    #[inline]
    pub fn end_row(&mut self, row: usize) {
        if !self.plain {
            self.ended.push((row as u32, self.rows.len() as u32));
        }
    }

    pub fn finish(mut self) -> Result<()> {
        self.settle()?;
        self.emit()
    }

    /// Decides about the candidates.
    fn settle(&mut self) -> Result<()> {
        if self.plain {
            std::mem::swap(&mut self.rows, &mut self.out_rows);
            std::mem::swap(&mut self.slots, &mut self.out_slots);
            if let Some(marks) = self.marks {
                self.out_marks.extend(self.out_rows.iter().map(|row| marks[*row as usize]));
            }
            return self.emit();
        }
        let holds = match &self.shape.residual {
            Some(residual) if !self.rows.is_empty() => {
                let rows: UInt32Array = self.rows.clone().into();
                let mut columns = [Vec::new(), Vec::new()];
                for column in &residual.columns[self.side] {
                    columns[self.side].push(take(self.batch.column(*column), &rows, None)?);
                }
                columns[1 - self.side] = self.other.rows.gather(&self.slots, &residual.columns[1 - self.side])?;
                Some(residual.holds(columns, self.rows.len())?)
            }
            _ => None,
        };
        let (rows, slots) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.slots));
        let ended = std::mem::take(&mut self.ended);
        let mut at = 0;
        // Pair by pair: each may be the first or the last of an outer row, which decides what else comes out.
        for (row, end) in ended.iter().copied().chain([(NONE, rows.len() as u32)]) {
            while at < end as usize {
                if holds.as_ref().is_none_or(|h| h.value(at)) {
                    self.pair(rows[at], slots[at])?;
                }
                at += 1;
            }
            if row != NONE {
                self.end(row)?;
            }
        }
        (self.rows, self.slots, self.ended) = (rows, slots, ended);
        self.rows.clear();
        self.slots.clear();
        self.ended.clear();
        Ok(())
    }

    fn pair(&mut self, row: u32, slot: u32) -> Result<()> {
        let comes = self.acts[row as usize].sign > 0;
        let (on, off) = match comes {
            true => (ChangeKind::Insert, ChangeKind::Delete),
            false => (ChangeKind::Delete, ChangeKind::Insert),
        };
        let there = 1 - self.side;
        let copies = self.other.copies(slot);
        self.found = self.found.saturating_add(copies);
        let mut turns = false;
        if self.other.counted {
            let matches = &mut self.other.matches[slot as usize];
            let before = *matches;
            if comes && (before == 0 || self.other.recounted) {
                *matches = before.saturating_add(1);
            } else if !comes {
                *matches = before.saturating_sub(1);
            }
            let after = *matches;
            turns = (before == 0) != (after == 0);
            if before != after {
                self.other.touch(slot);
            }
        }
        let lonely = turns && self.shape.revises && self.shape.lonely(there);
        if comes && lonely {
            self.push(row, (NONE, slot), off, false, copies)?;
        }
        if self.shape.pairs() {
            self.push(row, (row, slot), on, true, copies)?;
        } else if turns && self.shape.chosen(there) {
            self.push(row, (NONE, slot), on, true, copies)?;
        }
        if !comes && lonely {
            self.push(row, (NONE, slot), off, false, copies)?;
        }
        Ok(())
    }

    /// All partners of the row are known.
    fn end(&mut self, row: u32) -> Result<()> {
        let found = std::mem::take(&mut self.found);
        let act = self.acts[row as usize];
        let mut known = found;
        if let Some(own) = self.own.as_mut().filter(|o| o.counted && act.slot != NONE) {
            let matches = &mut own.matches[act.slot as usize];
            if act.fresh {
                *matches = if own.recounted { found } else { found.min(1) };
            } else {
                known = *matches;
            }
        }
        let (kind, lonely) = match act.sign > 0 {
            // What time to live has taken away still stands among the results, so a copy is chosen as the first was;
            // but no outer row may vanish. A marked row comes once, whatever it is.
            true if self.shape.marks() => (ChangeKind::Insert, known == 0 && !act.waits),
            true => (ChangeKind::Insert, found == 0 && !act.waits),
            false => (ChangeKind::Delete, known == 0),
        };
        if (lonely && self.shape.lonely(self.side)) || (known > 0 && self.shape.chosen(self.side)) {
            self.push(row, (row, NONE), kind, known > 0, 1)?;
        }
        Ok(())
    }

    /// A row of the result, brought by one of the batch.
    fn push(&mut self, by: u32, (row, slot): (u32, u32), kind: ChangeKind, matched: bool, times: u32) -> Result<()> {
        for _ in 0..times {
            if self.shape.marks() {
                self.out_matched.push(matched);
            }
            if let Some(marks) = self.marks {
                self.out_marks.push(marks[by as usize]);
            }
            self.out_rows.push(row);
            self.out_slots.push(slot);
            self.out_kinds.push(kind as i8);
            if self.out_rows.len() >= ROWS_MAX {
                self.emit()?;
            }
        }
        Ok(())
    }

    fn emit(&mut self) -> Result<()> {
        let rows = self.out_rows.len();
        if rows == 0 {
            return Ok(());
        }
        let wanted = |side: usize| side == LEFT || self.shape.pairs();
        let mut columns = [Vec::new(), Vec::new()];
        if wanted(1 - self.side) {
            columns[1 - self.side] = self.other.rows.gather(&self.out_slots, &self.all[1 - self.side])?;
        }
        if wanted(self.side) {
            let as_they_came = || self.out_rows.iter().enumerate().all(|(at, row)| at as u32 == *row);
            if rows == self.batch.num_rows() && as_they_came() {
                columns[self.side] = self.batch.columns().to_vec();
            } else {
                let indices: UInt32Array = match self.out_rows.contains(&NONE) {
                    false => std::mem::take(&mut self.out_rows).into(),
                    true => self.out_rows.iter().map(|r| (*r != NONE).then_some(*r)).collect(),
                };
                let taken = self.batch.columns().iter().map(|c| take(c, &indices, None));
                columns[self.side] = taken.collect::<Result<_, _>>()?;
            }
        }
        let mut columns: Vec<ArrayRef> = columns.into_iter().flatten().collect();
        if self.shape.marks() {
            columns.push(Arc::new(BooleanArray::from(std::mem::take(&mut self.out_matched))));
        }
        let rows = conform(&self.shape.output, columns, rows)?;
        let kinds = match self.out_kinds.iter().all(|k| *k == ChangeKind::Insert as i8) {
            true => None,
            false => Some(Int8Array::from(std::mem::take(&mut self.out_kinds))),
        };
        self.out_rows.clear();
        self.out_slots.clear();
        self.out_kinds.clear();
        let marks = self.marks.is_some().then(|| std::mem::take(&mut self.out_marks).into());
        self.out.emit(0, Batch { rows, marks, kinds })
    }
}
