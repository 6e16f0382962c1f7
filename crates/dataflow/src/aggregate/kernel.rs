//! Any other aggregate of DataFusion, as a kernel over state that we own.
//!
//! DataFusion's accumulators can neither show their state without losing it nor forget one group, so none of them
//! lives longer than a step: gather the touched groups' state, merge it into a fresh accumulator, update, take the
//! state out, scatter it back. What is kept between steps is the state columns' values, by group.

use super::input::Picked;
use super::ordered::explain;
use super::{Fold, Groups, PerGroup, Prepared, Side, each_row};
use arrow::array::*;
use arrow::buffer::NullBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use datafusion_common::ScalarValue;
use datafusion_expr::{EmitTo, GroupsAccumulator};
use datafusion_physical_expr::aggregate::AggregateFunctionExpr;
use millstream_core::{Error, Result};
use std::collections::HashMap;
use std::sync::Arc;

struct Kernel {
    function: Arc<AggregateFunctionExpr>,
    args: Vec<usize>,
    state: Vec<FieldRef>,
    grouped: bool,
}

/// The state columns' values of a group; `None` before its first row.
type State = Option<Vec<ScalarValue>>;

pub(super) fn kernel(
    function: Arc<AggregateFunctionExpr>,
    args: Vec<usize>,
) -> Result<Arc<dyn Fn() -> Box<dyn Side> + Send + Sync>> {
    let state = function.state_fields().map_err(explain)?;
    let grouped = function.groups_accumulator_supported();
    Ok(Arc::new(move || {
        PerGroup::boxed(Kernel { function: function.clone(), args: args.clone(), state: state.clone(), grouped })
    }))
}

impl Kernel {
    /// The arguments of the batch: the columns named by the call, or what the function's own expressions make.
    fn arguments(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let expressions = self.function.expressions();
        if expressions.len() == self.args.len() {
            return Ok(self.args.iter().map(|a| rows.column(*a).clone()).collect());
        }
        let value = |e: &Arc<dyn datafusion_physical_expr::PhysicalExpr>| {
            e.evaluate(rows).and_then(|v| v.into_array(rows.num_rows())).map_err(explain)
        };
        expressions.iter().map(value).collect()
    }

    /// State columns of these groups' states.
    fn gather<'a>(&self, states: impl Iterator<Item = &'a Vec<ScalarValue>> + Clone) -> Result<Vec<ArrayRef>> {
        (0..self.state.len())
            .map(|c| ScalarValue::iter_to_array(states.clone().map(|s| s[c].clone())).map_err(explain))
            .collect()
    }

    /// The state columns as fields of a struct. The library's own names hold the text of the query, which may change.
    fn saved_fields(&self) -> Fields {
        let field = |(at, f): (usize, &FieldRef)| Field::new(format!("state_{}", at + 1), f.data_type().clone(), true);
        self.state.iter().enumerate().map(field).collect()
    }

    /// A grouped accumulator holding these states as groups 0, 1, 2 .. The library takes every group that it has been
    /// told of for one with values, so groups without a state may only come behind them.
    fn grouped<'a>(&self, states: impl Iterator<Item = &'a Vec<ScalarValue>>) -> Result<Box<dyn GroupsAccumulator>> {
        let mut kernel = self.function.create_groups_accumulator().map_err(explain)?;
        let present: Vec<&Vec<ScalarValue>> = states.collect();
        if !present.is_empty() {
            let ids: Vec<usize> = (0..present.len()).collect();
            let columns = self.gather(present.into_iter())?;
            kernel.merge_batch(&columns, &ids, ids.len()).map_err(explain)?;
        }
        Ok(kernel)
    }

    fn single(&self, state: &State) -> Result<Box<dyn datafusion_expr::Accumulator>> {
        let mut kernel = self.function.create_accumulator().map_err(explain)?;
        if let Some(state) = state {
            kernel.merge_batch(&self.gather(std::iter::once(state))?).map_err(explain)?;
        }
        Ok(kernel)
    }

    fn scatter(&self, states: &mut [State], groups: &[usize], columns: &[ArrayRef], held: &mut usize) -> Result<()> {
        for (row, group) in groups.iter().enumerate() {
            let values = columns.iter().map(|c| ScalarValue::try_from_array(c, row).map_err(explain));
            let state = Some(values.collect::<Result<Vec<_>>>()?);
            *held = (*held + self.held(&state)).saturating_sub(self.held(&states[*group]));
            states[*group] = state;
        }
        Ok(())
    }
}

impl Fold for Kernel {
    type State = State;

    fn update(
        &self,
        states: &mut [State],
        input: &Prepared,
        rows: &Picked<'_>,
        groups: Groups<'_>,
        held: &mut usize,
    ) -> Result<()> {
        let mut local: HashMap<usize, usize> = HashMap::new();
        let (mut touched, mut ids, mut picked) = (Vec::new(), Vec::new(), Vec::new());
        each_row(rows, groups, |i, g| {
            let id = *local.entry(g).or_insert_with(|| {
                touched.push(g);
                touched.len() - 1
            });
            ids.push(id);
            picked.push(i as u32);
        });
        if picked.is_empty() {
            return Ok(());
        }
        let picked = UInt32Array::from(picked);
        let arguments: Vec<ArrayRef> =
            self.arguments(&input.rows)?.iter().map(|a| Ok(take(a, &picked, None)?)).collect::<Result<_>>()?;
        if self.grouped {
            let mut order: Vec<usize> = (0..touched.len()).collect();
            order.sort_by_key(|id| states[touched[*id]].is_none());
            let mut place = vec![0; order.len()];
            order.iter().enumerate().for_each(|(at, id)| place[*id] = at);
            ids.iter_mut().for_each(|id| *id = place[*id]);
            let touched: Vec<usize> = order.iter().map(|id| touched[*id]).collect();
            let mut kernel = self.grouped(touched.iter().filter_map(|g| states[*g].as_ref()))?;
            kernel.update_batch(&arguments, &ids, None, touched.len()).map_err(explain)?;
            let columns = kernel.state(EmitTo::All).map_err(explain)?;
            return self.scatter(states, &touched, &columns, held);
        }
        let mut members: Vec<Vec<u32>> = vec![Vec::new(); touched.len()];
        ids.iter().enumerate().for_each(|(row, id)| members[*id].push(row as u32));
        for (group, rows) in touched.iter().zip(members) {
            let rows = UInt32Array::from(rows);
            let mine: Vec<ArrayRef> = arguments.iter().map(|a| Ok(take(a, &rows, None)?)).collect::<Result<_>>()?;
            let mut kernel = self.single(&states[*group])?;
            kernel.update_batch(&mine).map_err(explain)?;
            let state = Some(kernel.state().map_err(explain)?);
            *held = (*held + self.held(&state)).saturating_sub(self.held(&states[*group]));
            states[*group] = state;
        }
        Ok(())
    }

    fn merge(&self, into: &mut State, from: &State) -> Result<()> {
        let Some(other) = from else { return Ok(()) };
        if into.is_none() {
            *into = Some(other.clone());
            return Ok(());
        }
        let columns = self.gather(std::iter::once(other))?;
        if self.grouped {
            let mut kernel = self.grouped(into.iter())?;
            kernel.merge_batch(&columns, &[0], 1).map_err(explain)?;
            let state = kernel.state(EmitTo::All).map_err(explain)?;
            return self.scatter(std::slice::from_mut(into), &[0], &state, &mut 0);
        }
        let mut kernel = self.single(into)?;
        kernel.merge_batch(&columns).map_err(explain)?;
        *into = Some(kernel.state().map_err(explain)?);
        Ok(())
    }

    fn finish(&self, states: &[&State]) -> Result<ArrayRef> {
        let kind = self.function.field().data_type().clone();
        if states.is_empty() {
            return Ok(new_empty_array(&kind));
        }
        if self.grouped {
            let present = states.iter().filter(|s| s.is_some()).count();
            let value = self.function.default_value(&kind).map_err(explain)?;
            if present == 0 {
                return value.to_array_of_size(states.len()).map_err(explain);
            }
            let mut kernel = self.grouped(states.iter().filter_map(|s| s.as_ref()))?;
            let values = kernel.evaluate(EmitTo::All).map_err(explain)?;
            if present == states.len() {
                return Ok(values);
            }
            // Those without values have the result of no rows.
            let value = value.to_array_of_size(1).map_err(explain)?;
            let value = arrow::compute::cast(&value, values.data_type())?;
            let all = arrow::compute::concat(&[&values, &value])?;
            let mut next = 0..present as u32;
            let of = |state: &&State| state.as_ref().and_then(|_| next.next()).unwrap_or(present as u32);
            return Ok(take(&all, &UInt32Array::from_iter_values(states.iter().map(of)), None)?);
        }
        let values = states.iter().map(|s| self.single(s)?.evaluate().map_err(explain)).collect::<Result<Vec<_>>>()?;
        ScalarValue::iter_to_array(values).map_err(explain)
    }

    fn held(&self, state: &State) -> usize {
        state.as_ref().map_or(0, |s| s.iter().map(ScalarValue::size).sum())
    }

    fn saved_type(&self) -> DataType {
        DataType::Struct(self.saved_fields())
    }

    fn encode(&self, states: &[&State]) -> Result<ArrayRef> {
        let fields = self.saved_fields();
        let column = |at: usize| {
            let kind = fields[at].data_type();
            let null = ScalarValue::try_new_null(kind).map_err(explain)?;
            let values = states.iter().map(|s| s.as_ref().map_or_else(|| null.clone(), |s| s[at].clone()));
            let values = ScalarValue::iter_to_array(values).map_err(explain)?;
            if values.data_type() == kind {
                return Ok(values);
            }
            Ok(arrow::compute::cast(&values, kind)?)
        };
        let columns = (0..fields.len()).map(column).collect::<Result<Vec<_>>>()?;
        let valid = states.iter().map(|s| s.is_some()).collect::<Vec<bool>>();
        Ok(Arc::new(StructArray::try_new(fields, columns, Some(NullBuffer::from(valid)))?))
    }

    fn decode(&self, saved: &ArrayRef, row: usize) -> Result<State> {
        if saved.is_null(row) {
            return Ok(None);
        }
        let columns = saved.as_struct().columns();
        if columns.len() != self.state.len() {
            return Err(Error::internal(format!("the state of `{}` has other columns", self.function.name())));
        }
        let values = columns.iter().map(|c| {
            let mut value = ScalarValue::try_from_array(c, row).map_err(explain)?;
            // A nested value would keep all rows alive.
            value.compact();
            Ok(value)
        });
        Ok(Some(values.collect::<Result<_>>()?))
    }
}
