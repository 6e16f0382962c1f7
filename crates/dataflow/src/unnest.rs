//! `CROSS JOIN UNNEST(array)`: a row for each element of an array or a map.
//!
//! The element's columns follow the row's own: one column for a plain element, one for each field of a ROW, key and
//! value of a map, each value of a multiset as often as it is held, then the ordinality (1, 2, 3 …) where it is asked for. Output comes in pieces of bounded length:
//! one row may hold any number of elements.
//!
//! In place of an array, a number: the row so many times, and no column more. When such a row is updated in its number alone, only the
//! copies that come or go are told: a row that is there a million times costs no more than another.

use crate::graph;
use crate::operator::{Event, Operator, Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::{
    Array, ArrayRef, AsArray, DynComparator, Int8Array, Int32Array, Int64Array, StructArray, UInt32Array, UInt64Array,
    make_comparator,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{SortOptions, take};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use millstream_core::{Batch, ChangeKind, Error, Result, multiset};
use std::cmp::Ordering;
use std::sync::Arc;

pub struct Unnest {
    spec: graph::Unnest,
    output: SchemaRef,
}

/// A piece of output under way: which row, and which element, NULL for the lone row of an empty array.
#[derive(Default)]
struct Piece {
    rows: Vec<u32>,
    elements: Vec<Option<u64>>,
    ordinals: Vec<Option<i32>>,
}

impl Unnest {
    pub fn new(spec: &graph::Unnest, output: SchemaRef) -> Unnest {
        Unnest { spec: spec.clone(), output }
    }

    fn unnest(&self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        let array = self.spec.array.evaluate(&batch.rows)?;
        if let Some(counts) = array.as_primitive_opt::<Int64Type>() {
            return self.repeat(batch, counts, out);
        }
        let array = match multiset::element_of(array.data_type()) {
            Some(_) => Arc::new(multiset::elements(array.as_map())?),
            None => array,
        };
        let (elements, ranges) = elements_of(&array)?;
        let mut piece = Piece::default();
        // Row by row, because each row has its own number of elements; the elements are moved in columns.
        for (row, range) in ranges.enumerate() {
            let range = if array.is_null(row) { 0..0 } else { range };
            if range.is_empty() && self.spec.outer {
                piece.push(row, None, None);
            }
            for (nth, element) in range.enumerate() {
                let nth = i32::try_from(nth + 1).map_err(|_| Error::data("an array has more than 2^31 elements"))?;
                piece.push(row, Some(element as u64), Some(nth));
                if piece.rows.len() == ROWS_MAX {
                    self.emit(batch, &elements, std::mem::take(&mut piece), out)?;
                }
            }
            if piece.rows.len() >= ROWS_MAX {
                self.emit(batch, &elements, std::mem::take(&mut piece), out)?;
            }
        }
        if piece.rows.is_empty() { Ok(()) } else { self.emit(batch, &elements, piece, out) }
    }

    fn repeat(&self, batch: &Batch, counts: &Int64Array, out: &mut dyn Output) -> Result<()> {
        let kind =
            |row: usize| batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(row)));
        let times = |row: usize| if counts.is_null(row) { 0 } else { counts.value(row).max(0) };
        let same = self.same_but_for_the_count(batch);
        let (mut rows, mut kinds): (Vec<u32>, Vec<i8>) = (Vec::new(), Vec::new());
        let mut row = 0;
        // Row by row, because each comes so often as it says; the rows themselves are moved in columns.
        while row < batch.len() {
            let pair = row + 1 < batch.len()
                && (kind(row), kind(row + 1)) == (ChangeKind::UpdateBefore, ChangeKind::UpdateAfter)
                && same.iter().all(|same| same(row, row + 1).is_eq());
            let (change, copies) = match (pair, kind(row)) {
                (true, _) => {
                    row += 1;
                    let more = times(row) - times(row - 1);
                    (if more > 0 { ChangeKind::Insert } else { ChangeKind::Delete }, more.abs())
                }
                (false, ChangeKind::UpdateBefore | ChangeKind::Delete) => (ChangeKind::Delete, times(row)),
                (false, _) => (ChangeKind::Insert, times(row)),
            };
            for _ in 0..copies {
                rows.push(row as u32);
                kinds.push(change as i8);
                if rows.len() == ROWS_MAX {
                    self.emit_copies(batch, std::mem::take(&mut rows), std::mem::take(&mut kinds), out)?;
                }
            }
            row += 1;
        }
        if rows.is_empty() { Ok(()) } else { self.emit_copies(batch, rows, kinds, out) }
    }

    /// For each column but the count, how two of its rows compare; nothing where no row is updated.
    fn same_but_for_the_count(&self, batch: &Batch) -> Vec<DynComparator> {
        if batch.kinds.is_none() {
            return Vec::new();
        }
        let count = self.spec.array.as_column();
        let columns = batch.rows.columns().iter().enumerate().filter(|(i, _)| Some(*i) != count);
        // Where a type has no order, all copies go and all come.
        let comparator = |c: &ArrayRef| make_comparator(c, c, SortOptions::default());
        columns.map(|(_, c)| comparator(c).unwrap_or_else(|_| Box::new(|_, _| Ordering::Less))).collect()
    }

    fn emit_copies(&self, batch: &Batch, rows: Vec<u32>, kinds: Vec<i8>, out: &mut dyn Output) -> Result<()> {
        let len = rows.len();
        let taken = batch.take(&UInt32Array::from(rows))?;
        let rows = conform(&self.output, taken.rows.columns().to_vec(), len)?;
        let kinds = kinds.iter().any(|k| *k != ChangeKind::Insert as i8).then(|| Int8Array::from(kinds));
        out.emit(0, Batch { rows, marks: taken.marks, kinds })
    }

    fn emit(&self, batch: &Batch, elements: &[ArrayRef], piece: Piece, out: &mut dyn Output) -> Result<()> {
        let len = piece.rows.len();
        let taken = batch.take(&UInt32Array::from(piece.rows))?;
        let mut columns = taken.rows.columns().to_vec();
        let indices = UInt64Array::from(piece.elements);
        for column in elements {
            columns.push(take(column, &indices, None)?);
        }
        if self.spec.with_ordinality {
            columns.push(Arc::new(Int32Array::from(piece.ordinals)));
        }
        let rows = conform(&self.output, columns, len)?;
        out.emit(0, Batch { rows, marks: taken.marks, kinds: taken.kinds })
    }
}

impl Piece {
    fn push(&mut self, row: usize, element: Option<u64>, ordinal: Option<i32>) {
        self.rows.push(row as u32);
        self.elements.push(element);
        self.ordinals.push(ordinal);
    }
}

type Ranges<'a> = Box<dyn Iterator<Item = std::ops::Range<usize>> + 'a>;

/// The columns of all elements, and the range of each row's.
fn elements_of(array: &ArrayRef) -> Result<(Vec<ArrayRef>, Ranges<'_>)> {
    match array.data_type() {
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let offsets = list.value_offsets().windows(2).map(|w| w[0] as usize..w[1] as usize);
            Ok((columns_of(list.values())?, Box::new(offsets)))
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let offsets = list.value_offsets().windows(2).map(|w| w[0] as usize..w[1] as usize);
            Ok((columns_of(list.values())?, Box::new(offsets)))
        }
        DataType::FixedSizeList(_, size) => {
            let (list, size) = (array.as_fixed_size_list(), *size as usize);
            let ranges = (0..list.len()).map(move |i| i * size..(i + 1) * size);
            Ok((columns_of(list.values())?, Box::new(ranges)))
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let offsets = map.value_offsets().windows(2).map(|w| w[0] as usize..w[1] as usize);
            Ok((vec![map.keys().clone(), map.values().clone()], Box::new(offsets)))
        }
        other => Err(Error::sql(format!("UNNEST needs an ARRAY, a MAP or a MULTISET, and was given {other}"))),
    }
}

/// A ROW gives its fields, NULL throughout where the ROW is NULL.
fn columns_of(elements: &ArrayRef) -> Result<Vec<ArrayRef>> {
    let Some(rows) = elements.as_any().downcast_ref::<StructArray>() else { return Ok(vec![elements.clone()]) };
    rows.columns().iter().map(|c| with_nulls(c, rows.nulls())).collect()
}

fn with_nulls(column: &ArrayRef, nulls: Option<&NullBuffer>) -> Result<ArrayRef> {
    let Some(nulls) = nulls.filter(|n| n.null_count() > 0) else { return Ok(column.clone()) };
    let both = NullBuffer::union(Some(nulls), column.nulls());
    let data = column.to_data().into_builder().nulls(both).build()?;
    Ok(arrow::array::make_array(data))
}

impl Operator for Unnest {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.unnest(&batch, out),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }
}
