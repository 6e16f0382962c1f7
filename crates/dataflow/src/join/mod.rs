//! Rows of two inputs with each other.
//!
//! ```text
//!  [`regular`]    all with all, kept up to date        [`multi`]      the same of three or more inputs with one key
//!  [`broadcast`]  those that pass by with a small table that every task has
//!  [`interval`]   whose times are near each other
//!  [`window`]     of the same window, once             [`temporal`]   with the version that held at their time
//!  [`lookup`]     with what a table of the outer world says of their key, and no memory of its own
//!
//!           ┌─ how rows find each other: chains or runs by key ─┐
//!  batch ─▶ │ memory: the rows, in columns ([`store`])          │ ─▶ candidates ─▶ [`pairs`]: condition, outer rows ─▶ out
//!           └─ saved: the same as a table of the checkpoint ────┘
//! ```
//!
//! Every state belongs to one key, so an operator over some of the keys works alone; and so a join goes to disk by shelves of its
//! keys where memory is short. One without equal columns has no keys, and stays in memory.

mod broadcast;
mod held;
mod interval;
mod lookup;
mod memory;
mod multi;
mod pairs;
mod regular;
mod runs;
mod saved;
mod side;
mod store;
mod temporal;
mod window;

use crate::graph::{self, JoinScope};
use crate::operator::Operator;
use crate::shelves;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};

/// The operator of a [`graph::Join`].
pub fn join(spec: &graph::Join, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Box<dyn Operator>> {
    let [left, right] = inputs else { return Err(Error::internal("a join has two inputs")) };
    if spec.null_equals_null.len() != spec.keys.len() {
        return Err(Error::internal("a join has to say of each key whether NULL equals NULL"));
    }
    for (on_left, on_right) in &spec.keys {
        let (on_left, on_right) = (left.field(*on_left), right.field(*on_right));
        if on_left.data_type() != on_right.data_type() {
            return Err(Error::internal(format!(
                "a join compares `{}` of type {} with `{}` of type {}",
                on_left.name(),
                on_left.data_type(),
                on_right.name(),
                on_right.data_type()
            )));
        }
    }
    if let JoinScope::Broadcast { .. } = spec.scope {
        return join_in_memory(spec, inputs, output);
    }
    let keys = [spec.keys.iter().map(|k| k.0).collect::<Vec<_>>(), spec.keys.iter().map(|k| k.1).collect()];
    let (spec, of, output) = (spec.clone(), inputs.to_vec(), output.clone());
    shelves::wrap(Box::new(move || join_in_memory(&spec, &of, &output)), inputs, &[&keys[0], &keys[1]])
}

pub(crate) fn join_in_memory(
    spec: &graph::Join,
    inputs: &[SchemaRef],
    output: &SchemaRef,
) -> Result<Box<dyn Operator>> {
    Ok(match &spec.scope {
        JoinScope::Always { ttl, retracts } => {
            Box::new(regular::Regular::new(spec, ttl.as_ref(), *retracts, inputs, output)?)
        }
        JoinScope::Broadcast { small, retracts } => {
            Box::new(broadcast::Broadcast::new(spec, *small, *retracts, inputs, output)?)
        }
        JoinScope::Window { end, domain, .. } => Box::new(window::Window::new(spec, *end, *domain, inputs, output)?),
        JoinScope::Interval { times, domain, lower, upper } => {
            let bounds = interval::Bounds { times: *times, domain: *domain, lower: *lower, upper: *upper };
            Box::new(interval::Interval::new(spec, &bounds, inputs, output)?)
        }
    })
}

/// The operator of a [`graph::MultiJoin`].
pub fn multi(spec: &graph::MultiJoin, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Box<dyn Operator>> {
    let alike = [spec.keys.len(), spec.outer.len(), spec.retracts.len()].iter().all(|len| *len == inputs.len());
    if !alike || spec.outer.first() != Some(&false) {
        return Err(Error::internal("a join of several inputs has to say of each how it is joined"));
    }
    let types = |input: usize| spec.keys[input].iter().map(move |k| inputs[input].field(*k).data_type());
    if spec.keys[0].is_empty() || (1..inputs.len()).any(|input| !types(input).eq(types(0))) {
        return Err(Error::internal("a join of several inputs compares keys of one type"));
    }
    let keys: Vec<&[usize]> = spec.keys.iter().map(Vec::as_slice).collect();
    let (making, of, output) = (spec.clone(), inputs.to_vec(), output.clone());
    shelves::wrap(Box::new(move || multi_in_memory(&making, &of, &output)), inputs, &keys)
}

fn multi_in_memory(spec: &graph::MultiJoin, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Box<dyn Operator>> {
    Ok(Box::new(multi::Multi::new(spec, inputs, output)?))
}

/// The operator of a [`graph::TemporalJoin`].
pub fn temporal(spec: &graph::TemporalJoin, inputs: &[SchemaRef], output: &SchemaRef) -> Result<Box<dyn Operator>> {
    let keys = [spec.keys.iter().map(|k| k.0).collect::<Vec<_>>(), spec.keys.iter().map(|k| k.1).collect()];
    let (spec, of, output) = (spec.clone(), inputs.to_vec(), output.clone());
    shelves::wrap(Box::new(move || temporal_in_memory(&spec, &of, &output)), inputs, &[&keys[0], &keys[1]])
}

pub(crate) fn temporal_in_memory(
    spec: &graph::TemporalJoin,
    inputs: &[SchemaRef],
    output: &SchemaRef,
) -> Result<Box<dyn Operator>> {
    Ok(Box::new(temporal::Temporal::new(spec, inputs, output)?))
}

pub use lookup::{Steps, asking};

#[cfg(test)]
mod tests;
