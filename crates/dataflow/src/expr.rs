//! An expression over the columns of a batch.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::Field;
use datafusion_common::DataFusionError;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::Column;
use millstream_core::{Error, Result};
use std::fmt;
use std::sync::Arc;

/// A compiled expression with the field it makes. Columns are addressed by index in the input's schema.
#[derive(Clone)]
pub struct Expr {
    pub physical: Arc<dyn PhysicalExpr>,
    /// Name, type and nullability of the result.
    pub field: Field,
    /// The expression as SQL, for plans and messages.
    pub sql: String,
}

impl Expr {
    pub fn new(physical: Arc<dyn PhysicalExpr>, field: Field, sql: impl Into<String>) -> Expr {
        Expr { physical, field, sql: sql.into() }
    }

    /// Column `index` of `schema`, handed through.
    pub fn column(schema: &arrow::datatypes::Schema, index: usize) -> Expr {
        let field = schema.field(index).clone();
        let sql = field.name().clone();
        Expr { physical: Arc::new(Column::new(field.name(), index)), field, sql }
    }

    /// The index of the column that this expression hands through unchanged, if it is one.
    pub fn as_column(&self) -> Option<usize> {
        self.physical.downcast_ref::<Column>().map(Column::index)
    }

    /// One value for each row of the batch.
    pub fn evaluate(&self, rows: &RecordBatch) -> Result<ArrayRef> {
        if let Some(index) = self.as_column() {
            return Ok(rows.column(index).clone());
        }
        let value = self.physical.evaluate(rows).map_err(|e| self.explain(e))?;
        let array = value.into_array(rows.num_rows()).map_err(|e| self.explain(e))?;
        debug_assert_eq!(array.len(), rows.num_rows());
        Ok(array)
    }

    fn explain(&self, e: DataFusionError) -> Error {
        let what = e.strip_backtrace();
        Error::data(format!("{what}, in `{}`", self.sql)).remedy(
            "guard the expression, for example with TRY_CAST, NULLIF or CASE, or set the bad rows aside at the source",
        )
    }
}

impl fmt::Debug for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} AS {}", self.sql, self.field.name())
    }
}
