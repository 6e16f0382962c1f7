//! Aggregates that keep values as they are: MIN and MAX of text, FIRST_VALUE and LAST_VALUE, LISTAGG and ARRAY_AGG.
//!
//! Order is by (time, place in the table), never by arrival. Rows that tie in both, which is possible where the input is a union
//! and has no one order, go by value. Lists of distinct values go by value alone, since which of several equal rows was the
//! first is not kept.

use super::input::Picked;
use super::{Fold, Groups, PerGroup, Prepared, Side, each_row};
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, Fields};
use datafusion_common::{DataFusionError, ScalarValue};
use millstream_core::{Error, Result};
use std::cmp::Ordering;
use std::sync::Arc;

pub(super) type Make = Arc<dyn Fn() -> Box<dyn Side> + Send + Sync>;

pub(super) fn explain(e: DataFusionError) -> Error {
    Error::data(e.strip_backtrace()).remedy("guard the argument of the aggregate, for example with a FILTER clause")
}

/// One value for each group; NULL where it has none.
fn column<'a>(kind: &DataType, values: impl Iterator<Item = Option<&'a ScalarValue>>) -> Result<ArrayRef> {
    if *kind == DataType::Utf8 {
        // What is usual, without a copy of each text.
        let text = |value: Option<&'a ScalarValue>| match value {
            Some(ScalarValue::Utf8(text)) => text.as_deref(),
            _ => None,
        };
        return Ok(Arc::new(values.map(text).collect::<StringArray>()));
    }
    let null = ScalarValue::try_new_null(kind).map_err(explain)?;
    let mut values = values.map(|v| v.cloned().unwrap_or_else(|| null.clone())).peekable();
    if values.peek().is_none() {
        return Ok(new_empty_array(kind));
    }
    ScalarValue::iter_to_array(values).map_err(explain)
}

fn value(input: &Prepared, column: usize, row: usize) -> Result<ScalarValue> {
    one(input.rows.column(column), row)
}

fn one(array: &ArrayRef, row: usize) -> Result<ScalarValue> {
    let mut value = ScalarValue::try_from_array(array, row).map_err(explain)?;
    // Nested values would keep the whole batch alive.
    value.compact();
    Ok(value)
}

/// A total order of the values of one type: NULL first, then by value, NaN last. Without an answer from the type (lists and
/// rows with a NULL inside), by what they print as: any order does, if it is always the same.
fn by_value(a: &ScalarValue, b: &ScalarValue) -> Ordering {
    let float = |v: &ScalarValue| match v {
        ScalarValue::Float64(v) => *v,
        ScalarValue::Float32(v) => v.map(f64::from),
        _ => None,
    };
    match (a.is_null(), b.is_null()) {
        (false, false) => {}
        (a, b) => return b.cmp(&a),
    }
    if let (Some(a), Some(b)) = (float(a), float(b)) {
        // The sign of zero and the bits of NaN are no values of their own, yet results show them.
        return a.partial_cmp(&b).filter(|o| o.is_ne()).unwrap_or_else(|| a.total_cmp(&b));
    }
    a.partial_cmp(b).unwrap_or_else(|| a.to_string().cmp(&b.to_string()))
}

/// What a value with its place in time and in the table is saved as.
fn placed_fields(value: &DataType) -> Fields {
    let place = |name| Field::new(name, DataType::Int64, true);
    Fields::from(vec![place("time"), place("order"), Field::new("value", value.clone(), true)])
}

/// Values with their places, in a struct of [`placed_fields`]; `None` is NULL.
fn place<'a>(
    kind: &DataType,
    items: impl Iterator<Item = Option<(i64, i64, Option<&'a ScalarValue>)>> + Clone,
) -> Result<StructArray> {
    let times: Int64Array = items.clone().map(|i| i.map(|i| i.0)).collect();
    let orders: Int64Array = items.clone().map(|i| i.map(|i| i.1)).collect();
    let values = column(kind, items.clone().map(|i| i.and_then(|i| i.2)))?;
    let valid = items.map(|i| i.is_some()).collect::<Vec<bool>>();
    Ok(StructArray::try_new(
        placed_fields(kind),
        vec![Arc::new(times), Arc::new(orders), values],
        Some(NullBuffer::from(valid)),
    )?)
}

/// One of them.
fn placed(saved: &StructArray, row: usize) -> Result<(i64, i64, ScalarValue)> {
    let number = |at: usize| saved.column(at).as_primitive::<arrow::datatypes::Int64Type>().value(row);
    Ok((number(0), number(1), one(saved.column(2), row)?))
}

/// Bytes that a value holds on the heap, about.
fn heap(value: &ScalarValue) -> usize {
    value.size().saturating_sub(size_of::<ScalarValue>())
}

// ---- MIN and MAX of what does not fit a word

struct Extreme {
    column: usize,
    kind: DataType,
    least: bool,
}

pub(super) fn extreme(column: usize, kind: &DataType, least: bool) -> Make {
    let kind = kind.clone();
    Arc::new(move || PerGroup::boxed(Extreme { column, kind: kind.clone(), least }))
}

impl Extreme {
    fn wins(&self, order: Option<Ordering>) -> bool {
        order == Some(if self.least { Ordering::Less } else { Ordering::Greater })
    }
}

impl Fold for Extreme {
    type State = Option<ScalarValue>;

    fn update(
        &self,
        states: &mut [Self::State],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let array = input.rows.column(self.column);
        if let Some(texts) = array.as_string_opt::<i32>() {
            each_row(rows, groups, |i, g| {
                if texts.is_null(i) {
                    return;
                }
                let text = texts.value(i);
                match &mut states[g] {
                    Some(ScalarValue::Utf8(Some(best))) => {
                        if self.wins(text.partial_cmp(best.as_str())) {
                            *held = (*held + text.len()).saturating_sub(best.len());
                            best.clear();
                            best.push_str(text);
                        }
                    }
                    none => {
                        *held += text.len();
                        *none = Some(ScalarValue::Utf8(Some(text.to_string())));
                    }
                }
            });
            return Ok(());
        }
        let mut failed = Ok(());
        each_row(rows, groups, |i, g| {
            if array.is_null(i) || failed.is_err() {
                return;
            }
            match value(input, self.column, i) {
                Ok(value) => {
                    if states[g].as_ref().is_none_or(|best| self.wins(value.partial_cmp(best))) {
                        *held += heap(&value);
                        states[g] = Some(value);
                    }
                }
                Err(e) => failed = Err(e),
            }
        });
        failed
    }

    fn merge(&self, into: &mut Self::State, from: &Self::State) -> Result<()> {
        if let Some(other) = from
            && into.as_ref().is_none_or(|best| self.wins(other.partial_cmp(best)))
        {
            *into = Some(other.clone());
        }
        Ok(())
    }

    fn finish(&self, states: &[&Self::State]) -> Result<ArrayRef> {
        column(&self.kind, states.iter().map(|s| s.as_ref()))
    }

    fn held(&self, state: &Self::State) -> usize {
        state.as_ref().map_or(0, heap)
    }

    fn saved_type(&self) -> DataType {
        self.kind.clone()
    }

    fn encode(&self, states: &[&Self::State]) -> Result<ArrayRef> {
        self.finish(states)
    }

    fn decode(&self, saved: &ArrayRef, row: usize) -> Result<Self::State> {
        Ok(if saved.is_null(row) { None } else { Some(one(saved, row)?) })
    }
}

// ---- FIRST_VALUE and LAST_VALUE, of the values that are not NULL

struct Edge {
    column: usize,
    kind: DataType,
    first: bool,
}

#[derive(Clone, Default)]
struct EdgeState {
    order: Option<(i64, i64)>,
    value: Option<ScalarValue>,
    /// The row that has won so far, until its value is taken.
    pending: Option<u32>,
}

pub(super) fn edge(column: usize, kind: &DataType, first: bool) -> Make {
    let kind = kind.clone();
    Arc::new(move || PerGroup::boxed(Edge { column, kind: kind.clone(), first }))
}

impl Edge {
    /// Whether a value at this place goes before the best so far. The values are asked for only where places tie.
    fn wins(
        &self,
        order: (i64, i64),
        best: Option<(i64, i64)>,
        values: impl FnOnce() -> Result<Ordering>,
    ) -> Result<bool> {
        let Some(best) = best else { return Ok(true) };
        let by_place = order.cmp(&best);
        let ordering = if by_place.is_eq() { values()? } else { by_place };
        Ok(if self.first { ordering.is_lt() } else { ordering.is_gt() })
    }
}

impl Fold for Edge {
    type State = EdgeState;

    fn update(
        &self,
        states: &mut [EdgeState],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        // Rows that win in order beat each other; only the last winner's value is taken.
        let (mut touched, mut failed) = (Vec::new(), Ok(()));
        let nulls = input.rows.column(self.column).logical_nulls();
        each_row(rows, groups, |i, g| {
            if nulls.as_ref().is_some_and(|n| n.is_null(i)) {
                return;
            }
            let (order, state) = (input.order(i), &mut states[g]);
            let values = || {
                let new = value(input, self.column, i)?;
                let pending = state.pending.map(|row| value(input, self.column, row as usize)).transpose()?;
                Ok(pending.as_ref().or(state.value.as_ref()).map_or(Ordering::Greater, |best| by_value(&new, best)))
            };
            match self.wins(order, state.order, values) {
                Ok(true) => {
                    state.order = Some(order);
                    if state.pending.replace(i as u32).is_none() {
                        touched.push(g);
                    }
                }
                Ok(false) => {}
                Err(e) => failed = Err(e),
            }
        });
        failed?;
        for group in touched {
            let state = &mut states[group];
            if let Some(row) = state.pending.take() {
                let value = value(input, self.column, row as usize)?;
                *held = (*held + heap(&value)).saturating_sub(state.value.as_ref().map_or(0, heap));
                state.value = Some(value);
            }
        }
        Ok(())
    }

    fn merge(&self, into: &mut EdgeState, from: &EdgeState) -> Result<()> {
        let Some(order) = from.order else { return Ok(()) };
        let values = || match (&from.value, &into.value) {
            (Some(from), Some(into)) => Ok(by_value(from, into)),
            _ => Err(Error::internal("a first or last value has a place and no value")),
        };
        if self.wins(order, into.order, values)? {
            *into = from.clone();
        }
        Ok(())
    }

    fn finish(&self, states: &[&EdgeState]) -> Result<ArrayRef> {
        column(&self.kind, states.iter().map(|s| s.value.as_ref()))
    }

    fn held(&self, state: &EdgeState) -> usize {
        state.value.as_ref().map_or(0, heap)
    }

    fn saved_type(&self) -> DataType {
        DataType::Struct(placed_fields(&self.kind))
    }

    fn encode(&self, states: &[&EdgeState]) -> Result<ArrayRef> {
        let items = states.iter().map(|s| s.order.map(|(time, order)| (time, order, s.value.as_ref())));
        Ok(Arc::new(place(&self.kind, items)?))
    }

    fn decode(&self, saved: &ArrayRef, row: usize) -> Result<EdgeState> {
        if saved.is_null(row) {
            return Ok(EdgeState::default());
        }
        let (time, order, value) = placed(saved.as_struct(), row)?;
        Ok(EdgeState { order: Some((time, order)), value: Some(value), pending: None })
    }
}

// ---- LISTAGG and ARRAY_AGG

struct List {
    column: usize,
    /// Type of the argument.
    kind: DataType,
    /// `None` for LISTAGG.
    array: Option<DataType>,
    separator: String,
    by_value: bool,
}

type Item = (i64, i64, ScalarValue);

pub(super) fn listagg(column: usize, kind: &DataType, separator: &str, by_value: bool) -> Make {
    let (kind, separator) = (kind.clone(), separator.to_string());
    Arc::new(move || {
        let (kind, separator) = (kind.clone(), separator.clone());
        PerGroup::boxed(List { column, kind, array: None, separator, by_value })
    })
}

/// `list` is the type of the result.
pub(super) fn array_agg(column: usize, kind: &DataType, list: &DataType, by_value: bool) -> Make {
    let (kind, list) = (kind.clone(), list.clone());
    Arc::new(move || {
        let (kind, array) = (kind.clone(), Some(list.clone()));
        PerGroup::boxed(List { column, kind, array, separator: String::new(), by_value })
    })
}

impl Fold for List {
    type State = Vec<Item>;

    fn update(
        &self,
        states: &mut [Vec<Item>],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let array = input.rows.column(self.column);
        let mut failed = Ok(());
        each_row(rows, groups, |i, g| {
            // LISTAGG passes NULLs over; ARRAY_AGG keeps them.
            if failed.is_err() || (self.array.is_none() && array.is_null(i)) {
                return;
            }
            match value(input, self.column, i) {
                Ok(value) => {
                    *held += size_of::<Item>() + heap(&value);
                    let (time, order) = input.order(i);
                    states[g].push((time, order, value));
                }
                Err(e) => failed = Err(e),
            }
        });
        failed
    }

    fn merge(&self, into: &mut Vec<Item>, from: &Vec<Item>) -> Result<()> {
        into.extend_from_slice(from);
        Ok(())
    }

    fn finish(&self, states: &[&Vec<Item>]) -> Result<ArrayRef> {
        let sorted = |state: &Vec<Item>| -> Vec<Item> {
            let mut items = state.clone();
            items.sort_by(|a, b| match self.by_value {
                true => by_value(&a.2, &b.2),
                false => (a.0, a.1).cmp(&(b.0, b.1)).then_with(|| by_value(&a.2, &b.2)),
            });
            items
        };
        let Some(kind) = &self.array else {
            let text = |state: &&Vec<Item>| {
                let texts: Vec<String> = sorted(state).iter().map(|i| i.2.to_string()).collect();
                (!texts.is_empty()).then(|| texts.join(&self.separator))
            };
            return Ok(Arc::new(states.iter().map(text).collect::<StringArray>()));
        };
        let DataType::List(field) = kind else {
            return Err(Error::internal(format!("ARRAY_AGG makes lists, not {kind}")));
        };
        let sorted: Vec<Vec<Item>> = states.iter().map(|s| sorted(s)).collect();
        let values = column(field.data_type(), sorted.iter().flatten().map(|i| Some(&i.2)))?;
        let offsets = arrow::buffer::OffsetBuffer::from_lengths(sorted.iter().map(Vec::len));
        let valid: Vec<bool> = sorted.iter().map(|s| !s.is_empty()).collect();
        Ok(Arc::new(ListArray::try_new(field.clone(), offsets, values, Some(valid.into()))?))
    }

    fn held(&self, state: &Vec<Item>) -> usize {
        state.iter().map(|i| size_of::<Item>() + heap(&i.2)).sum()
    }

    fn saved_type(&self) -> DataType {
        DataType::List(self.saved_item())
    }

    fn encode(&self, states: &[&Vec<Item>]) -> Result<ArrayRef> {
        let items = states.iter().flat_map(|s| s.iter()).map(|i| Some((i.0, i.1, Some(&i.2))));
        let items = place(&self.kind, items)?;
        let offsets = OffsetBuffer::from_lengths(states.iter().map(|s| s.len()));
        Ok(Arc::new(ListArray::try_new(self.saved_item(), offsets, Arc::new(items), None)?))
    }

    fn decode(&self, saved: &ArrayRef, row: usize) -> Result<Vec<Item>> {
        let items = saved.as_list::<i32>().value(row);
        let items = items.as_struct();
        (0..items.len()).map(|at| placed(items, at)).collect()
    }
}

impl List {
    fn saved_item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", DataType::Struct(placed_fields(&self.kind)), true))
    }
}
