//! A whole number times a decimal constant.
//!
//! The number needs no cast to a decimal first: 64 bits by 64 bits fit 128, so the product is exact and cannot overflow.
//! And where the product is only compared with a constant, the constant is divided instead, once.

use super::{Physical, literal};
use crate::floats::is_comparison;
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type, Schema};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, Literal};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// `of * factor`, as a decimal of this precision and scale.
#[derive(Debug, Eq)]
pub struct Scaled {
    /// INT or BIGINT.
    of: Physical,
    /// The unscaled constant.
    factor: i64,
    precision: u8,
    scale: i8,
}

pub fn fuse(e: &Physical, input: &Schema) -> Result<Option<Physical>> {
    if let Some(b) = e.downcast_ref::<BinaryExpr>() {
        return match b.op() {
            Operator::Multiply => product(b, input),
            op if is_comparison(*op) => comparison(b, input),
            _ => Ok(None),
        };
    }
    // A cast to fewer digits that all products have is no work.
    let Some(cast) = e.downcast_ref::<CastExpr>() else { return Ok(None) };
    let Some(scaled) = cast.expr().downcast_ref::<Scaled>() else { return Ok(None) };
    let DataType::Decimal128(precision, scale) = *cast.cast_type() else { return Ok(None) };
    if scale != scaled.scale || !scaled.fits(precision, input)? {
        return Ok(None);
    }
    Ok(Some(Arc::new(Scaled { of: scaled.of.clone(), precision, ..*scaled })))
}

/// How far from 0 a value of this type can be; `None` for types that are not multiplied here.
fn farthest(data_type: &DataType) -> Option<i128> {
    match data_type {
        DataType::Int32 => Some(1 << 31),
        DataType::Int64 => Some(1 << 63),
        _ => None,
    }
}

fn product(b: &BinaryExpr, input: &Schema) -> Result<Option<Physical>> {
    let (cast, constant) = match (literal(b.left()), literal(b.right())) {
        (None, Some(constant)) => (b.left(), constant),
        (Some(constant), None) => (b.right(), constant),
        _ => return Ok(None),
    };
    let Some(cast) = cast.downcast_ref::<CastExpr>() else { return Ok(None) };
    let (DataType::Decimal128(digits, 0), ScalarValue::Decimal128(Some(factor), _, _)) = (cast.cast_type(), constant)
    else {
        return Ok(None);
    };
    // A cast to fewer digits than the type can have may fail.
    let whole = farthest(&cast.expr().data_type(input)?).is_some_and(|far| far < 10i128.pow(u32::from(*digits)));
    let (Ok(factor), DataType::Decimal128(precision, scale)) = (i64::try_from(*factor), b.data_type(input)?) else {
        return Ok(None);
    };
    Ok(whole.then(|| Arc::new(Scaled { of: cast.expr().clone(), factor, precision, scale }) as Physical))
}

/// `of * factor < constant` to `of < constant / factor`, rounded so that no row changes sides.
fn comparison(b: &BinaryExpr, input: &Schema) -> Result<Option<Physical>> {
    let (side, op, constant) = match (literal(b.left()), literal(b.right())) {
        (None, Some(constant)) => (b.left(), *b.op(), constant),
        (Some(constant), None) => match b.op().swap() {
            Some(op) => (b.right(), op, constant),
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    let ScalarValue::Decimal128(Some(bound), _, bound_scale) = *constant else { return Ok(None) };
    let Some(scaled) = side.downcast_ref::<Scaled>() else { return Ok(None) };
    if bound_scale != scaled.scale || scaled.factor == 0 {
        return Ok(None);
    }
    let mut factor = i128::from(scaled.factor);
    let (mut op, mut bound) = (op, bound);
    if factor < 0 {
        (factor, bound) = (-factor, -bound);
        op = match op {
            Operator::Lt => Operator::Gt,
            Operator::LtEq => Operator::GtEq,
            Operator::Gt => Operator::Lt,
            Operator::GtEq => Operator::LtEq,
            other => other,
        };
    }
    let floor = bound.div_euclid(factor);
    let bound = match op {
        Operator::Gt | Operator::LtEq => floor,
        Operator::GtEq | Operator::Lt => floor + i128::from(floor * factor != bound),
        _ => return Ok(None),
    };
    let bound = match scaled.of.data_type(input)? {
        DataType::Int64 => i64::try_from(bound).ok().map(|b| ScalarValue::Int64(Some(b))),
        DataType::Int32 => i32::try_from(bound).ok().map(|b| ScalarValue::Int32(Some(b))),
        _ => None,
    };
    Ok(bound.map(|b| Arc::new(BinaryExpr::new(scaled.of.clone(), op, Arc::new(Literal::new(b)))) as Physical))
}

impl Scaled {
    /// Whether no product has more digits than this.
    fn fits(&self, precision: u8, input: &Schema) -> Result<bool> {
        let far = farthest(&self.of.data_type(input)?);
        Ok(far.is_some_and(|far| {
            far * i128::from(self.factor).abs() < 10i128.checked_pow(u32::from(precision)).unwrap_or(i128::MAX)
        }))
    }

    fn over(&self, column: &ArrayRef) -> Result<Decimal128Array> {
        let factor = i128::from(self.factor);
        // What stands in the place of a NULL is multiplied too and means nothing.
        let products: Vec<i128> = match column.data_type() {
            DataType::Int64 => {
                column.as_primitive::<Int64Type>().values().iter().map(|v| i128::from(*v) * factor).collect()
            }
            DataType::Int32 => {
                column.as_primitive::<Int32Type>().values().iter().map(|v| i128::from(*v) * factor).collect()
            }
            other => return internal_err!("a product of {other}"),
        };
        let products = Decimal128Array::try_new(products.into(), column.nulls().cloned())?;
        Ok(products.with_precision_and_scale(self.precision, self.scale)?)
    }
}

impl PartialEq for Scaled {
    fn eq(&self, other: &Scaled) -> bool {
        self.of.eq(&other.of)
            && (self.factor, self.precision, self.scale) == (other.factor, other.precision, other.scale)
    }
}

impl Hash for Scaled {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.hash(state);
        (self.factor, self.precision, self.scale).hash(state);
    }
}

impl fmt::Display for Scaled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} * {}e-{}", self.of, self.factor, self.scale)
    }
}

impl PhysicalExpr for Scaled {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Decimal128(self.precision, self.scale))
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.of.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let column = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(ColumnarValue::Array(Arc::new(self.over(&column)?)))
    }

    fn children(&self) -> Vec<&Physical> {
        vec![&self.of]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Physical>) -> Result<Physical> {
        match children.pop() {
            Some(of) => Ok(Arc::new(Scaled { of, ..*self })),
            None => internal_err!("a product without its number"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.fmt_sql(f)?;
        write!(f, " * {}e-{}", self.factor, self.scale)
    }
}
