//! COLLECT: the values that are not NULL, each with how often it is there.

use super::numbers::first;
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, ListArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int64Type};
use datafusion_common::{DataFusionError, Result, ScalarValue, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::format_state_name;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use millstream_core::Error;
use millstream_core::multiset::multiset_of;
use millstream_dataflow::multiset::{Counts, Values, bytes, change};
use std::sync::Arc;

pub(super) fn functions() -> Vec<AggregateUDF> {
    vec![AggregateUDF::new_from_impl(Collect { signature: Signature::user_defined(Volatility::Immutable) })]
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Collect {
    signature: Signature,
}

impl AggregateUDFImpl for Collect {
    fn name(&self) -> &str {
        "collect"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        match given {
            [DataType::Null] => plan_err!("COLLECT of NULL has no type; CAST it"),
            [DataType::LargeUtf8 | DataType::Utf8View] => Ok(vec![DataType::Utf8]),
            [DataType::Dictionary(_, values)] => self.coerce_types(&[values.as_ref().clone()]),
            [one] => Ok(vec![one.clone()]),
            _ => plan_err!("COLLECT takes one value, not {} arguments", given.len()),
        }
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        match given {
            [one] => Ok(multiset_of(one)),
            _ => plan_err!("COLLECT takes one value, not {} arguments", given.len()),
        }
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let value = args.input_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        let field = Field::new(format_state_name(args.name, "counts"), DataType::List(counts_item(&value)), true);
        Ok(vec![Arc::new(field)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let kind = args.expr_fields.first().map_or(DataType::Null, |f| f.data_type().clone());
        let multiset = args.return_field.data_type().clone();
        let values = Values::new(&kind).map_err(external)?;
        Ok(Box::new(Collector { once: args.is_distinct, kind, multiset, values, counts: Counts::new() }))
    }

    fn default_value(&self, multiset: &DataType) -> Result<ScalarValue> {
        empty(multiset)
    }
}

/// What is left where nothing was collected.
fn empty(multiset: &DataType) -> Result<ScalarValue> {
    let Some(kind) = millstream_core::multiset::element_of(multiset) else {
        return plan_err!("COLLECT makes multisets, not {multiset}");
    };
    let held = Values::new(kind).and_then(|values| values.held([Counts::new()].iter())?.into_column(multiset));
    ScalarValue::try_from_array(&held.map_err(external)?, 0)
}

fn external(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

fn counts_fields(value: &DataType) -> Fields {
    Fields::from(vec![Field::new("value", value.clone(), true), Field::new("count", DataType::Int64, true)])
}

fn counts_item(value: &DataType) -> FieldRef {
    Arc::new(Field::new("item", DataType::Struct(counts_fields(value)), true))
}

struct Collector {
    /// DISTINCT: each value counts once.
    once: bool,
    kind: DataType,
    multiset: DataType,
    values: Values,
    counts: Counts,
}

impl std::fmt::Debug for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Collector").field("once", &self.once).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Collector {
    fn change(&mut self, values: &[ArrayRef], by: i64) -> Result<()> {
        let column = first(values)?;
        let keys = self.values.keys(column).map_err(external)?;
        let nulls = column.logical_nulls();
        for row in (0..column.len()).filter(|row| nulls.as_ref().is_none_or(|n| n.is_valid(*row))) {
            change(&mut self.counts, keys.row(row).data(), by);
        }
        Ok(())
    }
}

impl Accumulator for Collector {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = first(states)?.as_list::<i32>();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            let entries = lists.value(row);
            let entries = entries.as_struct();
            let keys = self.values.keys(entries.column(0)).map_err(external)?;
            for (key, count) in keys.iter().zip(entries.column(1).as_primitive::<Int64Type>().values()) {
                change(&mut self.counts, key.data(), *count);
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let held = self.values.held(std::iter::once(&self.counts)).map_err(external)?;
        let columns: Vec<ArrayRef> = vec![held.values, Arc::new(Int64Array::from(held.counts))];
        let entries = StructArray::try_new(counts_fields(&self.kind), columns, None)?;
        let ends = OffsetBuffer::from_lengths(held.lengths);
        let list = ListArray::try_new(counts_item(&self.kind), ends, Arc::new(entries), None)?;
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let mut held = self.values.held(std::iter::once(&self.counts)).map_err(external)?;
        if self.once {
            held.counts.fill(1);
        }
        ScalarValue::try_from_array(&held.into_column(&self.multiset).map_err(external)?, 0)
    }

    fn size(&self) -> usize {
        size_of_val(self) + bytes(&self.counts)
    }
}
