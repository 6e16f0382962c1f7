//! From a node of the graph to the operator that does its work.

use crate::graph::NodeKind;
use crate::normalize;
use crate::operator::Operator;
use crate::{calc, deduplicate, expand, group, join, limit, over, top_n, union, unnest, upsert, window, window_rows};
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};

/// The operator of one task of a node.
///
/// `inputs`: columns of each input; `output`: columns that it emits. `partials`: input 1 of an aggregation brings what a
/// [local half](crate::local) has summed up.
///
/// # Errors
/// A column type that the operator has no way with. Sources and sinks are no operators: asking for one is our mistake.
pub fn build(kind: &NodeKind, inputs: &[SchemaRef], output: &SchemaRef, partials: bool) -> Result<Box<dyn Operator>> {
    let input = inputs.first().ok_or_else(|| Error::internal("an operator without input"));
    Ok(match kind {
        NodeKind::Calc(calc) => Box::new(calc::Calc::new(calc, input?, output.clone())?),
        NodeKind::Union => Box::new(union::Union::new(output.clone())),
        NodeKind::Unnest(unnest) => Box::new(unnest::Unnest::new(unnest, output.clone())),
        NodeKind::Expand(expand) => Box::new(expand::Expand::new(expand, output.clone())),
        NodeKind::Limit(rows) => Box::new(limit::Limit::new(*rows)),
        NodeKind::WindowRows(rows) => window_rows::build(rows, input?, output.clone())?,
        NodeKind::WindowAggregate(aggregate) => window::build(aggregate, input?, partials)?,
        NodeKind::WindowPanes(panes) => window::panes::build(panes, input?)?,
        NodeKind::Over(over) => over::build(over, input?, output.clone())?,
        NodeKind::GroupAggregate(group) => group::build(group, input?, output.clone(), partials)?,
        NodeKind::Join(join) => join::join(join, inputs, output)?,
        NodeKind::MultiJoin(join) => join::multi(join, inputs, output)?,
        NodeKind::TemporalJoin(join) => join::temporal(join, inputs, output)?,
        NodeKind::TopN(top) => top_n::build(top, input?, output.clone())?,
        NodeKind::Deduplicate(spec) => deduplicate::build(spec, input?, output.clone())?,
        NodeKind::UpsertMaterialize { keys, update_before } => {
            upsert::build(keys, *update_before, input?, output.clone())?
        }
        NodeKind::Normalize { keys, update_before } => normalize::build(keys, *update_before, input?, output.clone())?,
        NodeKind::Source(_) | NodeKind::Values(_) | NodeKind::Sink(_) => {
            return Err(Error::internal("sources and sinks are no operators"));
        }
        NodeKind::LookupJoin(_) => return Err(Error::internal("a look-up join needs the table that it asks")),
    })
}
