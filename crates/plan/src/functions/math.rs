//! Numbers: where Flink's types or rounding differ from DataFusion's.

use super::kernel::{Call, Function, Kind, some};
use arrow::array::{Array, ArrayRef, AsArray, Decimal128Array, PrimitiveArray, new_empty_array};
use arrow::compute::kernels::numeric::rem;
use arrow::datatypes::{DataType, Decimal128Type, Float32Type, Float64Type, Int64Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::ReturnFieldArgs;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    use DataType::Float64;
    use Kind::{Double, Long, Number};
    vec![
        Function::new("e", &[], Float64, |c| c.make::<Float64Type>(|_| Ok(Some(std::f64::consts::E)))),
        Function::new("log", &[Double, Double], Float64, log).optional(1),
        // Of a negative number it is NaN, as LN is.
        Function::new("sqrt", &[Double], Float64, |c| {
            let x = c.doubles(0)?;
            c.make::<Float64Type>(|row| Ok(x.at(row).map(f64::sqrt)))
        }),
        Function::new("power", &[Double, Double], Float64, power).alias("pow"),
        Function::new("mod", &[Number, Number], Float64, modulo).returns(modulo_type),
        Function::new("sign", &[Number], Float64, sign).returns(own_type).alias("signum"),
        Function::new("ceil", &[Number], Float64, |c| to_whole(c, true)).returns(whole_type).alias("ceiling"),
        Function::new("floor", &[Number], Float64, |c| to_whole(c, false)).returns(whole_type),
        Function::new("round", &[Number, Long], Float64, |c| round(c, false)).optional(1).returns_by_constants(rounded),
        Function::new("truncate", &[Number, Long], Float64, |c| round(c, true))
            .optional(1)
            .returns_by_constants(rounded)
            .alias("trunc"),
    ]
}

/// LOG(x) is the natural logarithm, LOG(base, x) the one to a base.
fn log(c: &Call) -> Result<ArrayRef> {
    let first = c.doubles(0)?;
    if !c.has(1) {
        return c.make::<Float64Type>(|row| Ok(first.at(row).map(f64::ln)));
    }
    let x = c.doubles(1)?;
    c.make::<Float64Type>(|row| Ok(Some(some!(x.at(row)).ln() / some!(first.at(row)).ln())))
}

fn power(c: &Call) -> Result<ArrayRef> {
    let (base, exponent) = (c.doubles(0)?, c.doubles(1)?);
    c.make::<Float64Type>(|row| Ok(Some(some!(base.at(row)).powf(some!(exponent.at(row))))))
}

fn own_type(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(data_type) => Ok(data_type.clone()),
        None => plan_err!("an argument is missing"),
    }
}

/// The type in which both sides of MOD are worked on: integers as BIGINT, DECIMALs as they are, all else as DOUBLE.
fn modulo_in(types: &[DataType]) -> Option<DataType> {
    let decimal = |t: &DataType| matches!(t, DataType::Decimal128(..));
    match types {
        [a, b] if a.is_integer() && b.is_integer() => Some(DataType::Int64),
        [a, b] if decimal(a) && decimal(b) => None,
        _ => Some(DataType::Float64),
    }
}

fn modulo_type(types: &[DataType]) -> Result<DataType> {
    match (modulo_in(types), types) {
        (Some(DataType::Int64), [_, divisor]) => Ok(divisor.clone()),
        (Some(other), _) => Ok(other),
        (None, [a, b]) => Ok(rem(&new_empty_array(a), &new_empty_array(b))?.data_type().clone()),
        _ => plan_err!("MOD takes two numbers"),
    }
}

/// The remainder has the sign of the dividend.
fn modulo(c: &Call) -> Result<ArrayRef> {
    let types = [c.args[0].data_type().clone(), c.args[1].data_type().clone()];
    let (mut a, mut b) = (c.whole(0)?, c.whole(1)?);
    if let Some(wide) = modulo_in(&types) {
        (a, b) = (arrow::compute::cast(&a, &wide)?, arrow::compute::cast(&b, &wide)?);
    }
    Ok(arrow::compute::cast(&rem(&a, &b)?, c.returns)?)
}

fn sign(c: &Call) -> Result<ArrayRef> {
    let array = c.whole(0)?;
    Ok(match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Arc::new(values.unary::<_, Float64Type>(|v| if v == 0.0 || v.is_nan() { v } else { v.signum() }))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            Arc::new(values.unary::<_, Float32Type>(|v| if v == 0.0 || v.is_nan() { v } else { v.signum() }))
        }
        DataType::Decimal128(precision, scale) => {
            let one = 10i128.pow((*scale).max(0) as u32);
            let signs = array.as_primitive::<Decimal128Type>().unary::<_, Decimal128Type>(|v| v.signum() * one);
            // A DECIMAL(2, 2) cannot hold 1.
            Arc::new(signs.with_precision_and_scale(*precision, *scale)?)
        }
        _ => {
            let longs = arrow::compute::cast(&array, &DataType::Int64)?;
            let signs: ArrayRef = Arc::new(longs.as_primitive::<Int64Type>().unary::<_, Int64Type>(i64::signum));
            arrow::compute::cast(&signs, c.returns)?
        }
    })
}

fn whole_type(types: &[DataType]) -> Result<DataType> {
    Ok(match own_type(types)? {
        DataType::Decimal128(precision, scale) if scale > 0 => DataType::Decimal128(precision, 0),
        other => other,
    })
}

fn to_whole(c: &Call, up: bool) -> Result<ArrayRef> {
    let array = c.whole(0)?;
    Ok(match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            Arc::new(values.unary::<_, Float64Type>(|v| if up { v.ceil() } else { v.floor() }))
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            Arc::new(values.unary::<_, Float32Type>(|v| if up { v.ceil() } else { v.floor() }))
        }
        DataType::Decimal128(_, scale) if *scale > 0 => {
            let unit = 10i128.pow(*scale as u32);
            let floor = |v: i128| v.div_euclid(unit);
            let values = array.as_primitive::<Decimal128Type>();
            decimals(values.unary(|v| if up { -floor(-v) } else { floor(v) }), c.returns)?
        }
        _ => array,
    })
}

pub(super) fn decimals(values: PrimitiveArray<Decimal128Type>, data_type: &DataType) -> Result<ArrayRef> {
    let (precision, scale) = match data_type {
        DataType::Decimal128(precision, scale) => (*precision, *scale),
        other => return plan_err!("{other} is no DECIMAL"),
    };
    let values: Decimal128Array = values.with_precision_and_scale(precision, scale)?;
    if values.validate_decimal_precision(precision).is_err() {
        return exec_err!("a result does not fit DECIMAL({precision}, {scale}); CAST the argument to a wider DECIMAL");
    }
    Ok(Arc::new(values))
}

/// A DECIMAL rounded to a constant number of digits gets that scale; all other numbers keep their type.
fn rounded(args: &ReturnFieldArgs) -> Result<DataType> {
    let given = match args.arg_fields.first() {
        Some(field) => field.data_type().clone(),
        None => return plan_err!("ROUND takes a number"),
    };
    let DataType::Decimal128(precision, scale) = given else { return Ok(given) };
    let digits = match args.scalar_arguments.get(1) {
        None => 0,
        Some(Some(digits)) => match digits.cast_to(&DataType::Int64)? {
            datafusion_common::ScalarValue::Int64(Some(digits)) => digits,
            _ => i64::from(scale),
        },
        Some(None) => return Ok(DataType::Decimal128(precision, scale)),
    };
    if digits >= i64::from(scale) {
        return Ok(DataType::Decimal128(precision, scale));
    }
    let kept = digits.max(0) as i8;
    Ok(DataType::Decimal128((1 + i16::from(precision) - i16::from(scale) + i16::from(kept)).clamp(1, 38) as u8, kept))
}

/// ROUND (half away from zero) or, `cut`, TRUNCATE (toward zero) to a number of digits, which may be negative.
fn round(c: &Call, cut: bool) -> Result<ArrayRef> {
    let digits = c.optional_longs(1)?;
    let digits = |row: usize| match &digits {
        Some(digits) => digits.at(row).map(|d| d.clamp(-400, 400) as i32),
        None => Some(0),
    };
    let array = &c.args[0];
    let place = |row: usize| if c.constant[0] { 0 } else { row };
    Ok(match array.data_type() {
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            c.make::<Float64Type>(|row| {
                let at = place(row);
                Ok(if values.is_null(at) {
                    None
                } else {
                    Some(round_double(values.value(at), some!(digits(row)), cut))
                })
            })?
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            c.make::<Float32Type>(|row| {
                let (at, digits) = (place(row), some!(digits(row)));
                if values.is_null(at) {
                    return Ok(None);
                }
                // By the digits that the FLOAT is written with, not by those of the DOUBLE it is equal to.
                let written: f64 = values.value(at).to_string().parse().unwrap_or(f64::NAN);
                Ok(Some(round_double(written, digits, cut) as f32))
            })?
        }
        DataType::Decimal128(_, scale) => {
            let values = array.as_primitive::<Decimal128Type>();
            let (scale, kept) = (
                i32::from(*scale),
                match c.returns {
                    DataType::Decimal128(_, kept) => i32::from(*kept),
                    _ => 0,
                },
            );
            let made = (0..c.rows).map(|row| {
                let digits = digits(row)?;
                let value = values.is_valid(place(row)).then(|| values.value(place(row)))?;
                let value = round_whole(value, scale - digits, cut);
                Some(value / 10i128.pow((scale - kept).max(0) as u32))
            });
            decimals(made.collect(), c.returns)?
        }
        _ => {
            let longs = arrow::compute::cast(array, &DataType::Int64)?;
            let longs = longs.as_primitive::<Int64Type>();
            let made: PrimitiveArray<Int64Type> = (0..c.rows)
                .map(|row| {
                    let digits = digits(row)?;
                    let value = longs.is_valid(place(row)).then(|| longs.value(place(row)))?;
                    i64::try_from(round_whole(i128::from(value), -digits, cut)).ok()
                })
                .collect();
            arrow::compute::cast_with_options(
                &made,
                c.returns,
                &arrow::compute::CastOptions { safe: false, ..Default::default() },
            )?
        }
    })
}

/// `value` with its last `digits` digits made zero.
fn round_whole(value: i128, digits: i32, cut: bool) -> i128 {
    if digits <= 0 {
        return value;
    }
    if digits > 38 {
        return 0;
    }
    let unit = 10i128.pow(digits as u32);
    let rest = value % unit;
    let down = value - rest;
    if !cut && rest.abs() >= unit - rest.abs() { down + unit * value.signum() } else { down }
}

/// By the decimal digits that the number is written with, as Java's `BigDecimal.valueOf`: 1.005 becomes 1.01.
fn round_double(value: f64, digits: i32, cut: bool) -> f64 {
    if !value.is_finite() || value == 0.0 {
        return value;
    }
    if (0..=15).contains(&digits) && value.abs() < 1e15 {
        let unit = 10f64.powi(digits);
        let scaled = value * unit;
        // Away from where the decision falls, the product is good enough; both numbers are then exact, and so
        // their quotient is the nearest double. Near it the digits decide.
        let rest = (scaled - scaled.trunc()).abs();
        let near = if cut { rest.min(1.0 - rest) } else { (rest - 0.5).abs() };
        if scaled.abs() < 4e15 && near > 1e-3 && scaled.abs() < 1e12 {
            return if cut { scaled.trunc() / unit } else { scaled.round() / unit };
        }
    }
    let text = decimal_text(value.abs(), digits, cut);
    let rounded: f64 = text.parse().unwrap_or(value.abs());
    if value < 0.0 { -rounded } else { rounded }
}

/// A number that is not negative, with `digits` digits after the point, rounded half up.
pub(super) fn half_up_text(value: f64, digits: usize) -> String {
    decimal_text(value, digits as i32, false)
}

fn decimal_text(value: f64, digits: i32, cut: bool) -> String {
    let text = value.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    let mut all: Vec<u8> = std::iter::once(b'0').chain(whole.bytes()).chain(fraction.bytes()).collect();
    let point = all.len() - fraction.len();
    let kept = point as i64 + i64::from(digits);
    if kept < 1 {
        all = b"00".to_vec();
        return String::from_utf8(all).unwrap_or_default();
    }
    let kept = kept as usize;
    let up = !cut && all.get(kept).is_some_and(|d| *d >= b'5');
    all.truncate(kept);
    all.resize(kept.max(point), b'0');
    if up {
        let mut at = kept;
        while at > 0 {
            at -= 1;
            if all[at] == b'9' {
                all[at] = b'0';
            } else {
                all[at] += 1;
                break;
            }
        }
    }
    let all = String::from_utf8(all).unwrap_or_default();
    let (whole, fraction) = all.split_at(point);
    let whole = whole.trim_start_matches('0');
    let whole = if whole.is_empty() { "0" } else { whole };
    if digits > 0 { format!("{whole}.{fraction}") } else { whole.to_string() }
}
