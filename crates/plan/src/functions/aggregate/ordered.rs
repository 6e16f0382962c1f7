//! Aggregates that look at the order of their rows: LISTAGG, FIRST_VALUE, LAST_VALUE.
//!
//! DataFusion's accumulators keep the ORDER BY values beside the rows, so that partial results merge in order. These take
//! them over and change what Flink does differently: NULLs are left out, and the name and the separator of LISTAGG.

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, FieldRef};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::AggregateOrderSensitivity;
use datafusion_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, ReversedUDAF, Signature, Volatility,
};
use datafusion_functions_aggregate::array_agg::array_agg_udaf;
use datafusion_functions_aggregate::first_last::{first_value_udaf, last_value_udaf};
use std::sync::Arc;

pub(super) fn functions() -> Vec<AggregateUDF> {
    vec![
        AggregateUDF::new_from_impl(ListAgg { signature: Signature::user_defined(Volatility::Immutable) }),
        AggregateUDF::new_from_impl(Taken { name: "first_value", of: first_value_udaf() }),
        AggregateUDF::new_from_impl(Taken { name: "last_value", of: last_value_udaf() }),
    ]
}

/// A function of DataFusion's under another name, with NULLs left out.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Taken {
    name: &'static str,
    of: Arc<AggregateUDF>,
}

impl AggregateUDFImpl for Taken {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        self.of.coerce_types(given)
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.of.return_type(given)
    }

    fn return_field(&self, given: &[FieldRef]) -> Result<FieldRef> {
        self.of.return_field(given)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.of.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.of.accumulator(AccumulatorArgs { ignore_nulls: true, ..args })
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        self.of.order_sensitivity()
    }

    fn with_beneficial_ordering(self: Arc<Self>, beneficial: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        let of = self.of.as_ref().clone().with_beneficial_ordering(beneficial)?;
        Ok(of.map(|of| Arc::new(Taken { name: self.name, of: Arc::new(of) }) as Arc<dyn AggregateUDFImpl>))
    }

    fn supports_null_handling_clause(&self) -> bool {
        self.of.supports_null_handling_clause()
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.of.documentation()
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        // The sorted input serves as it is; to turn FIRST around would need the other wrapper.
        ReversedUDAF::NotSupported
    }
}

/// LISTAGG(text[, separator]): ARRAY_AGG, joined at the end.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ListAgg {
    signature: Signature,
}

impl AggregateUDFImpl for ListAgg {
    fn name(&self) -> &str {
        "listagg"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let text = |t: &DataType| {
            matches!(t, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null)
                || matches!(t, DataType::Dictionary(_, v) if v.is_string())
        };
        match given {
            [value] if text(value) => Ok(vec![DataType::Utf8]),
            [value, separator] if text(value) && text(separator) => Ok(vec![DataType::Utf8, DataType::Utf8]),
            _ => plan_err!("LISTAGG takes (STRING[, separator]); CAST the value AS STRING"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let inputs = &args.input_fields[..1.min(args.input_fields.len())];
        array_agg_udaf().state_fields(StateFieldsArgs {
            input_fields: inputs,
            return_field: array_agg_udaf().return_field(inputs)?,
            ..args
        })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let separator = match args.exprs.get(1) {
            None => ",".to_string(),
            Some(expr) => {
                match expr.downcast_ref::<datafusion_physical_expr::expressions::Literal>().map(|l| l.value()) {
                    Some(value) => value.try_as_str().flatten().unwrap_or_default().to_string(),
                    None => return plan_err!("LISTAGG: the separator must be a constant"),
                }
            }
        };
        let fields = &args.expr_fields[..1.min(args.expr_fields.len())];
        let inner = array_agg_udaf().accumulator(AccumulatorArgs {
            return_field: array_agg_udaf().return_field(fields)?,
            ignore_nulls: true,
            exprs: &args.exprs[..1.min(args.exprs.len())],
            expr_fields: fields,
            ..args
        })?;
        // Ordered ones are given their ORDER BY columns after the arguments.
        Ok(Box::new(Joined { inner, separator, arguments: args.exprs.len() }))
    }

    fn order_sensitivity(&self) -> AggregateOrderSensitivity {
        array_agg_udaf().order_sensitivity()
    }

    fn with_beneficial_ordering(self: Arc<Self>, _: bool) -> Result<Option<Arc<dyn AggregateUDFImpl>>> {
        Ok(Some(self))
    }
}

#[derive(Debug)]
struct Joined {
    inner: Box<dyn Accumulator>,
    separator: String,
    /// How many of the columns are arguments; ARRAY_AGG knows the first only.
    arguments: usize,
}

impl Joined {
    fn columns(&self, values: &[ArrayRef]) -> Vec<ArrayRef> {
        values.iter().take(1).chain(values.iter().skip(self.arguments)).cloned().collect()
    }
}

impl Accumulator for Joined {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.update_batch(&self.columns(values))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.inner.retract_batch(&self.columns(values))
    }

    fn supports_retract_batch(&self) -> bool {
        self.inner.supports_retract_batch()
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.inner.merge_batch(states)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.inner.state()
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let ScalarValue::List(list) = self.inner.evaluate()? else {
            return internal_err!("ARRAY_AGG did not give an array");
        };
        if list.is_null(0) || list.value_length(0) == 0 {
            return Ok(ScalarValue::Utf8(None));
        }
        let values = list.value(0);
        let Some(texts) = super::super::kernel::Text::of(&values) else {
            return internal_err!("ARRAY_AGG gave an array of {}", values.data_type());
        };
        let parts: Vec<&str> = (0..values.len()).filter_map(|row| texts.at(row)).collect();
        if parts.is_empty() {
            return Ok(ScalarValue::Utf8(None));
        }
        Ok(ScalarValue::Utf8(Some(parts.join(&self.separator))))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size() + self.separator.len()
    }
}
