//! A condition that stands for a clause which DataFusion does not know, on its way to lowering.

use arrow::datatypes::DataType;
use datafusion_common::Result;
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};

/// Taken out before anything is evaluated. Volatile, so that nothing folds it or moves it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Marker {
    name: &'static str,
    signature: Signature,
    /// What is said where it is evaluated all the same.
    stays: &'static str,
}

/// A BOOLEAN function of so many arguments.
pub fn marker(name: &'static str, arguments: usize, stays: &'static str) -> ScalarUDF {
    ScalarUDF::new_from_impl(Marker { name, signature: Signature::any(arguments, Volatility::Volatile), stays })
}

impl ScalarUDFImpl for Marker {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        datafusion_common::not_impl_err!("{}", self.stays)
    }
}
