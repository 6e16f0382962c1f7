//! Makes the operator of a node.

use crate::calc::Calc;
use crate::expand::Expand;
use crate::graph::{Node, NodeKind};
use crate::limit::Limit;
use crate::operator::Operator;
use crate::over::Over;
use crate::union::Union;
use crate::unnest::Unnest;
use crate::window_rows::WindowRows;
use arrow::datatypes::SchemaRef;
use millstream_core::{Error, Result};

/// The operator of a node that stands between sources and sinks and does not aggregate windows: those have ways of
/// their own, [`SourceFeed`](crate::feed::SourceFeed), the runtime's sink and [`window`](crate::window).
///
/// `input`: the columns of the node's first input.
pub fn build(node: &Node, input: &SchemaRef) -> Result<Box<dyn Operator>> {
    let output = node.schema.clone();
    Ok(match &node.kind {
        NodeKind::Calc(calc) => Box::new(Calc::new(calc, output)?),
        NodeKind::Union => Box::new(Union::new(output)),
        NodeKind::WindowRows(rows) => Box::new(WindowRows::new(rows, input, output)?),
        NodeKind::Over(over) => Box::new(Over::new(over, input, output)?),
        NodeKind::Unnest(unnest) => Box::new(Unnest::new(unnest, output)),
        NodeKind::Expand(expand) => Box::new(Expand::new(expand, output)),
        NodeKind::Limit(rows) => Box::new(Limit::new(*rows)),
        NodeKind::Source(_) | NodeKind::WindowAggregate(_) | NodeKind::Sink(_) => {
            return Err(Error::internal(format!("the node `{}` is made in another way", node.label)));
        }
    })
}
