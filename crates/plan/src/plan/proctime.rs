//! `PROCTIME()`: the time at which the source took the row in.

use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use millstream_core::metadata::ltz_millis;

pub const NAME: &str = "proctime";

/// Stands for the column that the source adds: lowering replaces it, so it is never evaluated.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ProcTime {
    signature: Signature,
}

pub fn proctime() -> ScalarUDF {
    ScalarUDF::new_from_impl(ProcTime { signature: Signature::nullary(Volatility::Volatile) })
}

impl ScalarUDFImpl for ProcTime {
    fn name(&self) -> &str {
        NAME
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(ltz_millis())
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion_common::not_impl_err!("PROCTIME() inside an expression: read it as a column of its own first")
    }
}
