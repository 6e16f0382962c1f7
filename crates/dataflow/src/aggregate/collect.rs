//! COLLECT over rows that stay. Where rows may be taken back, [`bag`](super::bag) has the counts.

use super::input::Picked;
use super::ordered::Make;
use super::{Fold, Groups, PerGroup, Prepared, each_row};
use crate::multiset::{Counts, Values, bytes, change, entry_bytes};
use arrow::array::*;
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use millstream_core::Result;
use std::sync::Arc;

struct Collect {
    column: usize,
    kind: DataType,
    values: Arc<Values>,
    multiset: DataType,
}

/// `kind` is the type of the argument, `multiset` that of the result.
pub(super) fn collect(column: usize, kind: &DataType, multiset: &DataType) -> Result<Make> {
    let (kind, multiset, values) = (kind.clone(), multiset.clone(), Arc::new(Values::new(kind)?));
    Ok(Arc::new(move || {
        let (kind, multiset, values) = (kind.clone(), multiset.clone(), values.clone());
        PerGroup::boxed(Collect { column, kind, values, multiset })
    }))
}

impl Collect {
    fn saved_fields(&self) -> Fields {
        Fields::from(vec![Field::new("value", self.kind.clone(), true), Field::new("count", DataType::Int64, true)])
    }

    fn saved_item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", DataType::Struct(self.saved_fields()), true))
    }
}

impl Fold for Collect {
    type State = Counts;

    fn update(
        &self,
        states: &mut [Counts],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let column = input.rows.column(self.column);
        let nulls = column.logical_nulls();
        let (mut picked, mut of): (Vec<u32>, Vec<usize>) = (Vec::new(), Vec::new());
        each_row(rows, groups, |i, group| {
            if nulls.as_ref().is_none_or(|n| n.is_valid(i)) {
                picked.push(i as u32);
                of.push(group);
            }
        });
        if picked.is_empty() {
            return Ok(());
        }
        let keys = self.values.keys(&take(column, &UInt32Array::from(picked), None)?)?;
        for (key, group) in keys.iter().zip(of) {
            let (counts, key) = (&mut states[group], key.data());
            let before = counts.len();
            change(counts, key, 1);
            *held += if counts.len() > before { entry_bytes(key) } else { 0 };
        }
        Ok(())
    }

    fn merge(&self, into: &mut Counts, from: &Counts) -> Result<()> {
        from.iter().for_each(|(key, count)| change(into, key, *count));
        Ok(())
    }

    fn unmerge(&self, into: &mut Counts, from: &Counts) {
        from.iter().for_each(|(key, count)| change(into, key, -count));
    }

    fn finish(&self, states: &[&Counts]) -> Result<ArrayRef> {
        self.values.held(states.iter().copied())?.into_column(&self.multiset)
    }

    fn held(&self, state: &Counts) -> usize {
        bytes(state)
    }

    fn saved_type(&self) -> DataType {
        DataType::List(self.saved_item())
    }

    fn encode(&self, states: &[&Counts]) -> Result<ArrayRef> {
        let held = self.values.held(states.iter().copied())?;
        let columns: Vec<ArrayRef> = vec![held.values, Arc::new(Int64Array::from(held.counts))];
        let entries = StructArray::try_new(self.saved_fields(), columns, None)?;
        let ends = OffsetBuffer::from_lengths(held.lengths);
        Ok(Arc::new(ListArray::try_new(self.saved_item(), ends, Arc::new(entries), None)?))
    }

    fn decode(&self, saved: &ArrayRef, row: usize) -> Result<Counts> {
        let entries = saved.as_list::<i32>().value(row);
        let entries = entries.as_struct();
        let keys = self.values.keys(entries.column(0))?;
        let counts = entries.column(1).as_primitive::<Int64Type>();
        Ok(keys.iter().zip(counts.values()).map(|(key, count)| (key.data().into(), *count)).collect())
    }
}
