//! What expressions read of a batch: whole columns, and fields of ROW columns.
//!
//! An expression that is asked for some rows has only what it reads copied for them: of a ROW with ten fields the one
//! that is compared, not all ten.

use super::{Physical, literal};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::Result;
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_physical_expr::ScalarFunctionExpr;
use datafusion_physical_expr::expressions::Column;
use std::sync::Arc;

/// What some expressions read, each once, in the order in which it was met.
#[derive(Debug, Default)]
pub struct Reads {
    pub exprs: Vec<Physical>,
}

impl Reads {
    /// The expression over what it reads, as columns by their rank in `self`, which what is not there yet is added to.
    /// Without the columns of the `input`, whole columns are read.
    pub fn narrow(&mut self, expr: &Physical, input: Option<&Schema>) -> Result<Physical> {
        let moved = expr.clone().transform_down(|e| {
            if !input.map_or(e.is::<Column>(), |input| is_read(&e, input)) {
                return Ok(Transformed::no(e));
            }
            let known = self.exprs.iter().position(|known| known.as_ref() == e.as_ref());
            let rank = known.unwrap_or_else(|| {
                self.exprs.push(e);
                self.exprs.len() - 1
            });
            let column = Column::new(&name(rank), rank);
            Ok(Transformed::new(Arc::new(column), true, TreeNodeRecursion::Jump))
        })?;
        Ok(moved.data)
    }

    /// The columns that narrowed expressions are evaluated over.
    pub fn schema(&self, input: &Schema) -> Result<Schema> {
        let field = |(rank, e): (usize, &Physical)| {
            let field = e.return_field(input)?;
            Ok(Field::new(name(rank), field.data_type().clone(), field.is_nullable()))
        };
        Ok(Schema::new(self.exprs.iter().enumerate().map(field).collect::<Result<Vec<_>>>()?))
    }
}

/// What the column of this rank is called.
pub fn name(rank: usize) -> String {
    rank.to_string()
}

/// A column, or a field of a ROW column: what costs nothing to get at.
pub fn is_read(e: &Physical, input: &Schema) -> bool {
    e.is::<Column>()
        || field_of(e).is_some_and(|row| is_read(row, input) && matches!(row.data_type(input), Ok(DataType::Struct(_))))
}

/// What a field with a constant name is taken out of. One of several names may be that of an entry of a MAP, which has to
/// be looked for.
pub fn field_of(e: &Physical) -> Option<&Physical> {
    let f = e.downcast_ref::<ScalarFunctionExpr>().filter(|f| f.name() == "get_field")?;
    match f.args() {
        [row, name] if literal(name).is_some() => Some(row),
        _ => None,
    }
}
