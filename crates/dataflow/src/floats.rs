//! FLOAT and DOUBLE compared as Java does, and so Flink: next to NaN, `<>` is TRUE and every other comparison FALSE.
//!
//! Arrow compares by a total order with NaN at its end. That order stays where rows are sorted, grouped or joined by key;
//! expressions are given other comparisons once they are compiled, so columns of other types are not touched.
//!
//! An expression compared with itself is not compared: `x = x` is TRUE for NaN too, as in Flink, whose planner makes
//! `x IS NOT NULL` of it. There the total order says the same.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Float64Type, Schema};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, InListExpr, Literal, NotExpr};
use std::fmt;
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

/// The expression with its comparisons of floating-point numbers as Java's.
///
/// # Errors
/// The expression does not fit the columns, which is our mistake.
pub fn compared(expr: Physical, input: &Schema) -> Result<Physical> {
    let compared = expr.transform_up(|node| {
        if let Some(b) = node.downcast_ref::<BinaryExpr>()
            && is_comparison(*b.op())
            && is_float(b.left(), input)?
            && is_float(b.right(), input)?
            && !b.left().eq(b.right())
        {
            return Ok(Transformed::yes(Arc::new(Comparison { of: b.clone() }) as Physical));
        }
        if let Some(list) = node.downcast_ref::<InListExpr>()
            && !list.list().iter().all(is_number)
            && is_float(list.expr(), input)?
        {
            return Ok(Transformed::yes(one_by_one(list)));
        }
        Ok(Transformed::no(node))
    });
    compared.map(|t| t.data)
}

/// The comparisons that have another answer than the total order.
pub fn is_comparison(op: Operator) -> bool {
    use Operator::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
    matches!(op, Eq | NotEq | Lt | LtEq | Gt | GtEq)
}

fn is_float(e: &Physical, input: &Schema) -> Result<bool> {
    Ok(matches!(e.data_type(input)?, DataType::Float32 | DataType::Float64))
}

/// A constant that is no NaN: it may be looked up by its bits.
fn is_number(e: &Physical) -> bool {
    match e.downcast_ref::<Literal>().map(Literal::value) {
        Some(ScalarValue::Float64(value)) => value.is_none_or(|v| !v.is_nan()),
        Some(ScalarValue::Float32(value)) => value.is_none_or(|v| !v.is_nan()),
        other => other.is_some(),
    }
}

/// `x IN (a, b)` as `x = a OR x = b`.
fn one_by_one(list: &InListExpr) -> Physical {
    let equal = |item: &Physical| -> Physical {
        let of = BinaryExpr::new(list.expr().clone(), Operator::Eq, item.clone());
        if list.expr().eq(item) { Arc::new(of) } else { Arc::new(Comparison { of }) }
    };
    let any = list.list().iter().map(equal);
    let any = any.reduce(|l, r| Arc::new(BinaryExpr::new(l, Operator::Or, r)));
    let any = any.unwrap_or_else(|| Arc::new(Literal::new(ScalarValue::Boolean(Some(false)))));
    if list.negated() { Arc::new(NotExpr::new(any)) } else { any }
}

/// `left op right`, both of one floating-point type.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Comparison {
    of: BinaryExpr,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt(f)
    }
}

impl PhysicalExpr for Comparison {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.of.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        compare(*self.of.op(), &self.of.left().evaluate(batch)?, &self.of.right().evaluate(batch)?)
    }

    fn children(&self) -> Vec<&Physical> {
        vec![self.of.left(), self.of.right()]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Physical>) -> Result<Physical> {
        match <[Physical; 2]>::try_from(children) {
            Ok([left, right]) => Ok(Arc::new(Comparison { of: BinaryExpr::new(left, *self.of.op(), right) })),
            Err(other) => internal_err!("a comparison of {} values", other.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt_sql(f)
    }
}

/// Compares two columns or constants of one floating-point type.
///
/// # Errors
/// They are of another type, or `op` is no comparison, which is our mistake.
pub fn compare(op: Operator, left: &ColumnarValue, right: &ColumnarValue) -> Result<ColumnarValue> {
    match left.data_type() {
        DataType::Float64 => compare_as::<Float64Type>(op, left, right),
        DataType::Float32 => compare_as::<Float32Type>(op, left, right),
        other => internal_err!("floating-point numbers of type {other}"),
    }
}

fn compare_as<T: ArrowPrimitiveType>(op: Operator, left: &ColumnarValue, right: &ColumnarValue) -> Result<ColumnarValue>
where
    T::Native: PartialOrd,
{
    match op {
        Operator::Eq => by::<T>(left, right, |l, r| l == r),
        Operator::NotEq => by::<T>(left, right, |l, r| l != r),
        Operator::Lt => by::<T>(left, right, |l, r| l < r),
        Operator::LtEq => by::<T>(left, right, |l, r| l <= r),
        Operator::Gt => by::<T>(left, right, |l, r| l > r),
        Operator::GtEq => by::<T>(left, right, |l, r| l >= r),
        other => internal_err!("{other} is no comparison"),
    }
}

fn by<T: ArrowPrimitiveType>(
    left: &ColumnarValue,
    right: &ColumnarValue,
    holds: impl Fn(T::Native, T::Native) -> bool,
) -> Result<ColumnarValue> {
    let rows = match (left, right) {
        (ColumnarValue::Array(a), _) | (_, ColumnarValue::Array(a)) => a.len(),
        _ => 1,
    };
    let constants = matches!((left, right), (ColumnarValue::Scalar(_), ColumnarValue::Scalar(_)));
    let column = |v: &ColumnarValue| match v {
        ColumnarValue::Array(a) => Ok(a.clone()),
        ColumnarValue::Scalar(s) => s.to_array(),
    };
    let (l, r): (ArrayRef, ArrayRef) = (column(left)?, column(right)?);
    let (Some(l), Some(r)) = (l.as_primitive_opt::<T>(), r.as_primitive_opt::<T>()) else {
        return internal_err!("{} compared with {}", l.data_type(), r.data_type());
    };
    let known = |side: &PrimitiveArray<T>| side.is_valid(0).then(|| side.value(0));
    let made = match (left, right) {
        (ColumnarValue::Array(_), ColumnarValue::Scalar(_)) => match known(r) {
            Some(r) => BooleanArray::from_unary(l, |l| holds(l, r)),
            None => BooleanArray::new_null(rows),
        },
        (ColumnarValue::Scalar(_), ColumnarValue::Array(_)) => match known(l) {
            Some(l) => BooleanArray::from_unary(r, |r| holds(l, r)),
            None => BooleanArray::new_null(rows),
        },
        _ => BooleanArray::from_binary(l, r, holds),
    };
    if constants {
        return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&made, 0)?));
    }
    Ok(ColumnarValue::Array(Arc::new(made)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Float32Array, Float64Array};
    use arrow::datatypes::Field;
    use datafusion_physical_expr::expressions::{Column, in_list, lit};

    const NUMBERS: [Option<f64>; 8] =
        [Some(f64::NAN), Some(-f64::NAN), None, Some(1.0), Some(-0.0), Some(0.0), Some(f64::INFINITY), Some(-2.5)];

    /// Every pair of numbers, as `d` and `e`; as FLOAT, `f`.
    fn pairs() -> RecordBatch {
        let pairs = || NUMBERS.iter().flat_map(|d| NUMBERS.iter().map(|e| (*d, *e)));
        let columns: [(&str, ArrayRef); 3] = [
            ("d", Arc::new(pairs().map(|p| p.0).collect::<Float64Array>())),
            ("e", Arc::new(pairs().map(|p| p.1).collect::<Float64Array>())),
            ("f", Arc::new(pairs().map(|p| p.0.map(|d| d as f32)).collect::<Float32Array>())),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
    }

    fn column(name: &str) -> Physical {
        Arc::new(Column::new(name, ["d", "e", "f"].iter().position(|n| *n == name).unwrap()))
    }

    fn values(e: Physical, rows: &RecordBatch) -> Vec<Option<bool>> {
        let e = compared(e, &rows.schema()).unwrap();
        e.evaluate(rows).unwrap().into_array(rows.num_rows()).unwrap().as_boolean().iter().collect()
    }

    type Holds = fn(f64, f64) -> bool;

    const OPERATORS: [(Operator, Holds); 6] = [
        (Operator::Eq, |l, r| l == r),
        (Operator::NotEq, |l, r| l != r),
        (Operator::Lt, |l, r| l < r),
        (Operator::LtEq, |l, r| l <= r),
        (Operator::Gt, |l, r| l > r),
        (Operator::GtEq, |l, r| l >= r),
    ];

    #[test]
    fn next_to_nan_nothing_but_unequal_holds() {
        let rows = pairs();
        let side = |i: usize| rows.column(i).as_primitive::<Float64Type>().iter();
        for (op, holds) in OPERATORS {
            let wanted: Vec<_> = side(0).zip(side(1)).map(|(d, e)| Some(holds(d?, e?))).collect();
            let compare = |l: Physical, r: Physical| Arc::new(BinaryExpr::new(l, op, r)) as Physical;
            assert_eq!(values(compare(column("d"), column("e")), &rows), wanted, "d {op} e");
            for number in NUMBERS {
                let constant = || lit(ScalarValue::Float64(number));
                let wanted: Vec<_> = side(0).map(|d| Some(holds(d?, number?))).collect();
                assert_eq!(values(compare(column("d"), constant()), &rows), wanted, "d {op} {number:?}");
                let wanted: Vec<_> = side(0).map(|d| Some(holds(number?, d?))).collect();
                assert_eq!(values(compare(constant(), column("d")), &rows), wanted, "{number:?} {op} d");
                let single = lit(ScalarValue::Float32(number.map(|n| n as f32)));
                let wanted: Vec<_> = side(0).map(|d| Some(holds(d?, number?))).collect();
                assert_eq!(values(compare(column("f"), single), &rows), wanted, "f {op} {number:?}");
            }
        }
    }

    #[test]
    fn what_is_compared_with_itself_is_known_not_to_be_null() {
        let rows = pairs();
        let known = rows.column(0).as_primitive::<Float64Type>().iter();
        let known: Vec<_> = known.map(|d| d.map(|_| true)).collect();
        for op in [Operator::Eq, Operator::LtEq, Operator::GtEq] {
            assert_eq!(values(Arc::new(BinaryExpr::new(column("d"), op, column("d"))), &rows), known, "d {op} d");
        }
    }

    #[test]
    fn in_a_list_nan_is_not_found() {
        let rows = pairs();
        let list = |items: Vec<Physical>, negated| {
            let schema = rows.schema();
            values(in_list(column("d"), items, &negated, &schema).unwrap(), &rows)
        };
        let side = |i: usize| rows.column(i).as_primitive::<Float64Type>().iter();
        let wanted: Vec<_> = side(0).map(|d| Some(d? == 1.0)).collect();
        let items = || vec![lit(f64::NAN), lit(1.0)];
        assert_eq!(list(items(), false), wanted);
        assert_eq!(list(items(), true), wanted.iter().map(|v| v.map(|v| !v)).collect::<Vec<_>>());
        let either = |d: Option<f64>, e: Option<f64>| match (d? == 1.0, e.map(|e| d == Some(e))) {
            (true, _) => Some(true),
            (false, e) => e,
        };
        let wanted: Vec<_> = side(0).zip(side(1)).map(|(d, e)| either(d, e)).collect();
        assert_eq!(list(vec![lit(1.0), column("e")], false), wanted);
    }

    #[test]
    fn comparisons_of_other_types_stay_as_they_are() {
        let schema = Schema::new(vec![Field::new("n", DataType::Int64, true)]);
        let of: Physical = Arc::new(BinaryExpr::new(Arc::new(Column::new("n", 0)), Operator::Gt, lit(1i64)));
        assert!(Arc::ptr_eq(&of, &compared(of.clone(), &schema).unwrap()));
    }
}
