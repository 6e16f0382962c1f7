//! `CROSS JOIN UNNEST` as a plain relational plan: the collection becomes a list of rows, which DataFusion unnests.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray, StructArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Int64Type};
use datafusion::functions::core::expr_fn::get_field;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, DataFusionError, Result, ScalarValue};
use datafusion_expr::{
    ColumnarValue, Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature, Volatility, col,
};
use millstream_core::multiset;
use millstream_plan::plan::unnest::CrossUnnest;
use std::sync::Arc;

/// Replaces every `UNNEST` of `plan`.
pub fn lower(plan: LogicalPlan) -> Result<LogicalPlan> {
    let lowered = plan.transform_up(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        match extension.node.as_any().downcast_ref::<CrossUnnest>() {
            Some(unnest) => Ok(Transformed::yes(rows(unnest)?)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(lowered.data)
}

fn rows(unnest: &CrossUnnest) -> Result<LogicalPlan> {
    let input = unnest.input.as_ref().clone();
    let before = input.schema().fields().len();
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    // A number in place of an array: as many elements, which nobody reads.
    let counted = unnest.array.get_type(input.schema())? == DataType::Int64;
    let made = unnest.schema.fields().iter().skip(before);
    let copy = counted.then(|| Field::new("$copy", DataType::Boolean, true));
    let fields: Fields = made.map(|f| f.as_ref().clone().with_nullable(true)).chain(copy).collect();
    let elements = Elements { fields: fields.clone(), outer: unnest.outer, ordinality: unnest.with_ordinality };
    let element = ScalarUDF::new_from_impl(elements).call(vec![unnest.array.clone()]).alias("$element");
    let plan = LogicalPlanBuilder::from(input).project(columns.iter().cloned().chain([element]))?;
    let plan = plan.unnest_column(Column::new_unqualified("$element"))?;
    let parts = fields.iter().filter(|_| !counted).map(|f| {
        let part = get_field(col("$element"), f.name().as_str());
        part.alias_qualified(unnest.alias.clone(), f.name())
    });
    plan.project(columns.into_iter().chain(parts))?.build()
}

/// A collection as a list of rows of its elements' parts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Elements {
    fields: Fields,
    outer: bool,
    ordinality: bool,
}

impl Elements {
    fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", DataType::Struct(self.fields.clone()), true))
    }
}

impl ScalarUDFImpl for Elements {
    fn name(&self) -> &str {
        "unnest_elements"
    }

    fn signature(&self) -> &Signature {
        static ANY: std::sync::OnceLock<Signature> = std::sync::OnceLock::new();
        ANY.get_or_init(|| Signature::any(1, Volatility::Immutable))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::List(self.item()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = match &args.args[0] {
            ColumnarValue::Array(array) => array.clone(),
            ColumnarValue::Scalar(value) => ScalarValue::to_array_of_size(value, args.number_rows)?,
        };
        let array = match multiset::element_of(array.data_type()) {
            Some(_) => {
                let elements = multiset::elements(array.as_map());
                Arc::new(elements.map_err(|e| DataFusionError::External(Box::new(e)))?)
            }
            None => array,
        };
        let (offsets, values): (Vec<i32>, ArrayRef) = match array.data_type() {
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                (list.offsets().to_vec(), list.values().clone())
            }
            DataType::Int64 => {
                let mut offsets = vec![0i32];
                for count in array.as_primitive::<Int64Type>() {
                    let end = i64::from(offsets[offsets.len() - 1]) + count.unwrap_or(0).max(0);
                    let end = i32::try_from(end)
                        .map_err(|_| DataFusionError::Execution("a row comes more than 2^31 times".to_owned()))?;
                    offsets.push(end);
                }
                let copies = vec![true; offsets[offsets.len() - 1] as usize];
                (offsets, Arc::new(BooleanArray::from(copies)))
            }
            DataType::Map(..) => {
                let map = array.as_map();
                (map.offsets().to_vec(), Arc::new(map.entries().clone()))
            }
            other => return Err(DataFusionError::Plan(format!("UNNEST of {other}"))),
        };
        let mut picks: Vec<Option<u32>> = Vec::with_capacity(values.len());
        let mut numbers: Vec<Option<i32>> = Vec::with_capacity(values.len());
        let mut ends = vec![0i32];
        for row in 0..array.len() {
            let (from, to) = (offsets[row], offsets[row + 1]);
            let count = if array.is_null(row) { 0 } else { to - from };
            picks.extend((0..count).map(|i| Some((from + i) as u32)));
            numbers.extend((1..=count).map(Some));
            if count == 0 && self.outer {
                picks.push(None);
                numbers.push(None);
            }
            ends.push(picks.len() as i32);
        }
        let picked = take(&values, &UInt32Array::from(picks), None)?;
        let mut parts: Vec<ArrayRef> = match picked.as_struct_opt() {
            Some(parts) => parts.columns().to_vec(),
            None => vec![picked],
        };
        if self.ordinality {
            parts.push(Arc::new(Int32Array::from(numbers)));
        }
        let parts = parts.iter().zip(&self.fields).map(|(p, f)| arrow::compute::cast(p, f.data_type()));
        let elements = StructArray::new(self.fields.clone(), parts.collect::<Result<_, _>>()?, None);
        let list = ListArray::try_new(self.item(), OffsetBuffer::new(ends.into()), Arc::new(elements), None)?;
        Ok(ColumnarValue::Array(Arc::new(list)))
    }
}
