//! What a side of a join remembers, as a table.
//!
//! ```text
//!  left / right    [time]  keys  [$number]  other columns  [$copies]  [$matches]
//! ```
//!
//! Where rows are only added, and go with their time alone, the table is a log. Where a row may change or be taken back,
//! it has a number that is never given twice, so that the rows of one key keep their names wherever they are loaded.

use super::memory::Memory;
use crate::operator::ROWS_MAX;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Int64Type, SchemaRef};
use millstream_core::{Error, Millis, Result};
use millstream_state::table::{Saver, TableDef};
use std::collections::HashSet;
use std::sync::Arc;

/// The table of one side, and what it has to be told.
pub(super) struct Ledger {
    pub table: TableDef,
    input: SchemaRef,
    /// Columns of the input in the order of the table.
    order: Vec<usize>,
    /// Where the number stands; `None`: the table is a log.
    number: Option<usize>,
    copies: bool,
    matches: bool,
    /// By slot: the number of its row, where rows have numbers.
    numbers: Vec<i64>,
    next: i64,
    /// Numbers below have been saved.
    saved_below: i64,
    tracking: bool,
    /// Names of rows that a checkpoint has and that are gone.
    deleted: Vec<Vec<ArrayRef>>,
    /// Rows up to this time are gone, and a checkpoint may have them.
    dropped: Option<Millis>,
}

impl Ledger {
    /// `time`: the column by which rows go. `memory` says what is known of them. `named`: single rows may go, or change.
    pub fn new(
        name: &str,
        input: &SchemaRef,
        time: Option<usize>,
        keys: &[usize],
        memory: &Memory,
        named: bool,
    ) -> Ledger {
        let (copies, matches) = (memory.retracts(), memory.counted);
        let mut order: Vec<usize> = Vec::new();
        for column in time.iter().chain(keys).copied().chain(0..input.fields().len()) {
            if !order.contains(&column) {
                order.push(column);
            }
            if order.len() == input.fields().len() {
                break;
            }
        }
        let first: HashSet<usize> = time.iter().chain(keys).copied().collect();
        let number = named.then_some(first.len());
        let mut fields: Vec<Field> = Vec::new();
        for column in &order {
            let mut field = input.field(*column).clone();
            // Columns of an input may have one name; those of a file may not.
            if fields.iter().any(|f| f.name() == field.name()) {
                field = field.clone().with_name(format!("{}${column}", field.name()));
            }
            fields.push(field);
        }
        let whole = |name: &str| Field::new(name, DataType::Int64, true);
        if let Some(at) = number {
            fields.insert(at, whole("$number"));
        }
        fields.extend(copies.then(|| whole("$copies")));
        fields.extend(matches.then(|| whole("$matches")));
        let place = |key: &usize| order.iter().position(|c| c == key).unwrap_or_default();
        let table = TableDef::new(name, fields, number.map_or(0, |n| n + 1)).group_by(keys.iter().map(place));
        Ledger {
            table,
            input: input.clone(),
            order,
            number,
            copies,
            matches,
            numbers: Vec::new(),
            next: 0,
            saved_below: 0,
            tracking: false,
            deleted: Vec::new(),
            dropped: None,
        }
    }

    pub fn track(&mut self) {
        self.tracking = true;
    }

    /// Names for rows that have come.
    pub fn name(&mut self, slots: impl Iterator<Item = u32>) {
        if self.number.is_none() {
            return;
        }
        for slot in slots {
            let at = slot as usize;
            if self.numbers.len() <= at {
                self.numbers.resize(at + 1, 0);
            }
            self.numbers[at] = self.next;
            self.next += 1;
        }
    }

    /// Takes note of rows that are about to go.
    pub fn delete(&mut self, memory: &mut Memory, slots: &[u32]) -> Result<()> {
        let Some(number) = self.number.filter(|_| self.tracking) else { return Ok(()) };
        let saved = |s: &&u32| self.numbers[**s as usize] < self.saved_below;
        let slots: Vec<u32> = slots.iter().filter(saved).copied().collect();
        for slots in slots.chunks(ROWS_MAX) {
            let mut names = memory.rows.gather(slots, &self.order[..number])?;
            names.push(self.numbers_of(slots));
            self.deleted.push(names);
        }
        Ok(())
    }

    /// Rows up to this time are gone.
    pub fn drop_through(&mut self, time: Millis) {
        if self.tracking {
            self.dropped = self.dropped.max(Some(time));
        }
    }

    fn numbers_of(&self, slots: &[u32]) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(slots.iter().map(|s| self.numbers[*s as usize])))
    }

    pub fn save(&mut self, memory: &mut Memory, saver: &mut Saver) -> Result<()> {
        self.save_drops(saver)?;
        self.save_rows(memory, saver)
    }

    /// Takes down rows of a log that are kept elsewhere.
    pub fn put(&self, rows: &RecordBatch, saver: &mut Saver) -> Result<()> {
        saver.put(&self.table, self.order.iter().map(|c| rows.column(*c).clone()).collect())
    }

    /// Takes down what has gone.
    pub fn save_drops(&mut self, saver: &mut Saver) -> Result<()> {
        let (dropped, deleted) = (self.dropped.take(), std::mem::take(&mut self.deleted));
        if saver.whole() {
            return Ok(());
        }
        if let Some(through) = dropped {
            saver.drop_through(&self.table, through)?;
        }
        deleted.into_iter().try_for_each(|names| saver.delete(&self.table, names))
    }

    /// Takes down the rows that have come or changed, or all.
    pub fn save_rows(&mut self, memory: &mut Memory, saver: &mut Saver) -> Result<()> {
        let mut slots = match memory.take_dirty().filter(|_| !saver.whole()) {
            Some(slots) => slots,
            None => memory.rows.live_slots(),
        };
        slots.retain(|s| memory.rows.is_live(*s));
        self.saved_below = self.next;
        for slots in slots.chunks(ROWS_MAX) {
            let mut columns = memory.rows.gather(slots, &self.order)?;
            if let Some(at) = self.number {
                columns.insert(at, self.numbers_of(slots));
            }
            if self.copies {
                let copies = slots.iter().map(|s| i64::from(memory.copies(*s)));
                columns.push(Arc::new(Int64Array::from_iter_values(copies)));
            }
            if self.matches {
                let matches = slots.iter().map(|s| i64::from(memory.matches[*s as usize]));
                columns.push(Arc::new(Int64Array::from_iter_values(matches)));
            }
            saver.put(&self.table, columns)?;
        }
        Ok(())
    }

    /// Rows of the table in the columns of the input, without what is known of them beside.
    pub fn in_input_columns(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if rows.num_columns() != self.table.columns.fields().len() {
            return Err(Error::data(format!("table `{}` has other columns than the join", self.table.name)));
        }
        let skip = |at: usize| at + usize::from(self.number.is_some_and(|n| at >= n));
        let mut columns = Vec::with_capacity(self.order.len());
        for column in 0..self.order.len() {
            let at = self.order.iter().position(|c| *c == column).unwrap_or_default();
            columns.push(rows.column(skip(at)).clone());
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.input.clone(), columns, &options)?)
    }

    /// Takes rows of the table in. What comes back are they in the columns of the input, and their slots.
    pub fn load(&mut self, memory: &mut Memory, saved: &RecordBatch) -> Result<(RecordBatch, Vec<u32>)> {
        let rows = self.in_input_columns(saved)?;
        let whole = |at: usize| -> Result<Vec<i64>> {
            let column = saved.column(at).as_primitive_opt::<Int64Type>().filter(|c| c.null_count() == 0);
            let column = column.ok_or_else(|| Error::data("a row of a join's table has no number"))?;
            Ok(column.values().to_vec())
        };
        let last = saved.num_columns();
        let matches = self.matches.then(|| whole(last - 1)).transpose()?;
        let copies = self.copies.then(|| whole(last - 1 - usize::from(self.matches))).transpose()?;
        let slots = memory.load(rows.clone(), copies.as_deref(), matches.as_deref())?;
        if let Some(at) = self.number {
            let numbers = whole(at)?;
            self.name(slots.iter().copied());
            for (slot, number) in slots.iter().zip(numbers) {
                self.numbers[*slot as usize] = number;
                self.next = self.next.max(number.saturating_add(1));
            }
            self.saved_below = self.next;
        }
        Ok((rows, slots))
    }

    pub fn bytes(&self) -> usize {
        let deleted = self.deleted.iter().flatten().map(|c| c.get_array_memory_size()).sum::<usize>();
        self.numbers.capacity() * 8 + deleted
    }
}
