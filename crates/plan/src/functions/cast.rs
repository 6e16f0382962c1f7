//! CAST between text and time, and between TIMESTAMP and TIMESTAMP_LTZ, as Flink does it.
//!
//! DataFusion's own casts write `2020-01-01T00:00:00` and know no session zone. [`FlinkCasts`] puts [`CastTo`] in the place of
//! those casts that would answer differently; all other casts stay what they are.

use super::kernel::Text;
use super::pattern::{read_date, read_time, read_timestamp};
use super::wall::{SECOND, Times, Wall, column_of};
use super::zone::SessionZone;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, StringBuilder, StructArray};
use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, TimeUnit};
use datafusion_common::config::ConfigOptions;
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, Result, ScalarValue, exec_err, internal_err};
use datafusion_expr::expr::{Cast, ScalarFunction, TryCast};
use datafusion_expr::expr_rewriter::FunctionRewrite;
use datafusion_expr::{
    ColumnarValue, Expr, ExprSchemable, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use millstream_core::multiset::element_of;
use std::fmt::Write;
use std::sync::Arc;

/// Turns the casts whose result depends on Flink's rules or on the session zone into calls of [`CastTo`].
///
/// To be run over every expression after type coercion, which adds casts of its own.
#[derive(Debug, Clone, Copy)]
pub struct FlinkCasts {
    pub zone: SessionZone,
}

impl FunctionRewrite for FlinkCasts {
    fn name(&self) -> &str {
        "flink_casts"
    }

    fn rewrite(&self, expr: Expr, schema: &DFSchema, _: &ConfigOptions) -> Result<Transformed<Expr>> {
        let (inner, to, lenient) = match &expr {
            Expr::Cast(Cast { expr, field, .. }) => (expr, field.data_type(), false),
            Expr::TryCast(TryCast { expr, field, .. }) => (expr, field.data_type(), true),
            _ => return Ok(Transformed::no(expr)),
        };
        if !self.differs(&inner.get_type(schema)?, to) {
            return Ok(Transformed::no(expr));
        }
        let cast = CastTo::new(to.clone(), self.zone, lenient);
        let call = ScalarFunction::new_udf(Arc::new(ScalarUDF::new_from_impl(cast)), vec![inner.as_ref().clone()]);
        Ok(Transformed::yes(Expr::ScalarFunction(call)))
    }
}

impl FlinkCasts {
    /// Whether Flink casts `from` to `to` in another way than Arrow does.
    fn differs(&self, from: &DataType, to: &DataType) -> bool {
        use DataType::{Boolean, Date32, Float32, Float64, Time32, Timestamp, Utf8};
        let text = from.is_string();
        match (from, to) {
            (from, Utf8 | DataType::Utf8View | DataType::LargeUtf8) => {
                from.is_temporal() || from.is_nested() || matches!(from, Float32 | Float64 | Boolean | DataType::Binary)
            }
            (_, Timestamp(..) | Date32 | Time32(TimeUnit::Millisecond)) if text => true,
            // Arrow cuts toward 1970. To more digits, and in UTC, its casts are right, and the optimizer sees through them.
            (Timestamp(a, za), Timestamp(b, zb)) => {
                digits(a) > digits(b) || (za.is_some() != zb.is_some() && self.zone != SessionZone::UTC)
            }
            (Date32, Timestamp(_, Some(_))) => self.zone != SessionZone::UTC,
            (Timestamp(_, _), Date32 | Time32(TimeUnit::Millisecond)) => true,
            // Field by field as they stand; Arrow goes by their names.
            (DataType::Struct(a), DataType::Struct(b)) => a.len() == b.len() && from != to,
            (DataType::List(a), DataType::List(b)) => self.differs(a.data_type(), b.data_type()),
            _ => false,
        }
    }
}

/// The digits after the point of a second.
fn digits(unit: &TimeUnit) -> usize {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

/// CAST (or, lenient, TRY_CAST) of one value to `target` in Flink's way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CastTo {
    /// With the type: what is computed from the same column by another cast is another thing, also where plans are shown.
    name: String,
    target: DataType,
    zone: SessionZone,
    lenient: bool,
    signature: Signature,
}

impl CastTo {
    pub fn new(target: DataType, zone: SessionZone, lenient: bool) -> CastTo {
        let name = format!("{}_as_{}", if lenient { "try_cast" } else { "cast" }, sql_type(&target));
        CastTo { name, target, zone, lenient, signature: Signature::any(1, Volatility::Immutable) }
    }

    fn cast(&self, array: &ArrayRef) -> Result<ArrayRef> {
        if self.target.is_string() {
            return Ok(arrow::compute::cast(&to_text(array, &self.zone)?, &self.target)?);
        }
        match (array.data_type(), &self.target) {
            (DataType::Struct(_), DataType::Struct(fields)) => {
                let from = array.as_struct();
                let columns = from.columns().iter().zip(fields).map(|(c, field)| self.part(c, field.data_type()));
                let columns = columns.collect::<Result<Vec<_>>>()?;
                return Ok(Arc::new(StructArray::try_new(fields.clone(), columns, from.nulls().cloned())?));
            }
            (DataType::List(_), DataType::List(item)) => {
                let from = array.as_list::<i32>();
                let items = self.part(from.values(), item.data_type())?;
                let made = ListArray::try_new(item.clone(), from.offsets().clone(), items, from.nulls().cloned())?;
                return Ok(Arc::new(made));
            }
            _ => {}
        }
        if let Some(text) = Text::of(array) {
            return column_of(array.len(), &self.target, &self.zone, |row| {
                let Some(text) = text.at(row) else { return Ok(None) };
                let trimmed = text.trim();
                let wall = match self.target {
                    DataType::Date32 => read_date(trimmed).map(|day| Wall { day, nanos: 0 }),
                    DataType::Time32(_) => read_time(trimmed).map(|nanos| Wall { day: 0, nanos }),
                    _ => read_timestamp(trimmed),
                };
                match wall {
                    None if !self.lenient => {
                        exec_err!("'{text}' cannot be cast to {}; use TRY_CAST to get NULL", sql_type(&self.target))
                    }
                    wall => Ok(wall),
                }
            });
        }
        let times = Times::of(array, &self.zone, false)?;
        // A time of day that is taken from a timestamp has whole seconds, as TIME has in Flink.
        let whole = matches!(self.target, DataType::Time32(_)) && matches!(array.data_type(), DataType::Timestamp(..));
        column_of(array.len(), &self.target, &self.zone, |row| {
            let wall = times.at(row);
            Ok(if whole { wall.map(|w| Wall { nanos: w.nanos / SECOND * SECOND, ..w }) } else { wall })
        })
    }
}

impl CastTo {
    /// A part of the value, in Flink's way where that is another than Arrow's.
    fn part(&self, array: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
        if array.data_type() == to {
            return Ok(array.clone());
        }
        if (FlinkCasts { zone: self.zone }).differs(array.data_type(), to) {
            return CastTo::new(to.clone(), self.zone, self.lenient).cast(array);
        }
        let options = CastOptions { safe: self.lenient, ..Default::default() };
        Ok(arrow::compute::cast_with_options(array, to, &options)?)
    }
}

impl ScalarUDFImpl for CastTo {
    fn name(&self) -> &str {
        &self.name
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        // A cast does not change the name of the column that it casts, as in DataFusion.
        match args.first() {
            Some(arg) => Ok(arg.schema_name().to_string()),
            None => internal_err!("a cast of nothing"),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.target.clone())
    }

    /// NULL for nothing but NULL, or, lenient, for what cannot be read.
    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let nullable = self.lenient || args.arg_fields.iter().any(|f| f.is_nullable());
        Ok(Arc::new(Field::new(&self.name, self.target.clone(), nullable)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        match args.args.first() {
            Some(ColumnarValue::Array(array)) => self.cast(array).map(ColumnarValue::Array),
            Some(ColumnarValue::Scalar(value)) => {
                let array = self.cast(&value.to_array()?)?;
                ScalarValue::try_from_array(&array, 0).map(ColumnarValue::Scalar)
            }
            None => internal_err!("a cast of nothing"),
        }
    }
}

/// Any column as text, in the way of Flink's CAST(x AS STRING). Columns of text come back as they are.
pub(super) fn to_text(array: &ArrayRef, zone: &SessionZone) -> Result<ArrayRef> {
    if array.data_type().is_string() {
        return Ok(array.clone());
    }
    let rows = array.len();
    let mut out = StringBuilder::with_capacity(rows, rows * 16);
    let mut buffer = String::new();
    let mut each = |write: &mut dyn FnMut(usize, &mut String)| {
        for row in 0..rows {
            if array.is_null(row) {
                out.append_null();
            } else {
                buffer.clear();
                write(row, &mut buffer);
                out.append_value(&buffer);
            }
        }
    };
    match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            each(&mut |row, out| out.push_str(if values.value(row) { "TRUE" } else { "FALSE" }));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            each(&mut |row, out| write_double(values.value(row), out));
        }
        DataType::Float32 => {
            let values = array.as_primitive::<Float32Type>();
            each(&mut |row, out| write_float(values.value(row), out));
        }
        DataType::Date32 | DataType::Time32(_) | DataType::Time64(_) | DataType::Timestamp(..) => {
            let times = Times::of(array, zone, false)?;
            let data_type = array.data_type();
            each(&mut |row, out| {
                if let Some(wall) = times.at(row) {
                    write_time(wall, data_type, out);
                }
            });
        }
        DataType::Binary => {
            let values = array.as_binary::<i32>();
            each(&mut |row, out| out.push_str(&String::from_utf8_lossy(values.value(row))));
        }
        DataType::List(_) => {
            let lists = array.as_list::<i32>();
            let items = to_text(lists.values(), zone)?;
            let Some(texts) = Text::of(&items) else { return internal_err!("items were not made text") };
            each(&mut |row, out| {
                out.push('[');
                let range = lists.value_offsets()[row] as usize..lists.value_offsets()[row + 1] as usize;
                for (i, at) in range.enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    out.push_str(texts.at(at).unwrap_or("NULL"));
                }
                out.push(']');
            });
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            let (keys, values) = (to_text(maps.keys(), zone)?, to_text(maps.values(), zone)?);
            let (Some(keys), Some(values)) = (Text::of(&keys), Text::of(&values)) else {
                return internal_err!("entries were not made text");
            };
            each(&mut |row, out| {
                out.push('{');
                let range = maps.value_offsets()[row] as usize..maps.value_offsets()[row + 1] as usize;
                for (i, at) in range.enumerate() {
                    let (key, value) = (keys.at(at).unwrap_or("NULL"), values.at(at).unwrap_or("NULL"));
                    let _ = write!(out, "{}{key}={value}", if i > 0 { ", " } else { "" });
                }
                out.push('}');
            });
        }
        DataType::Struct(_) => {
            let columns = array.as_struct().columns().iter().map(|c| to_text(c, zone)).collect::<Result<Vec<_>>>()?;
            each(&mut |row, out| {
                out.push('(');
                for (i, column) in columns.iter().enumerate() {
                    out.push_str(if i > 0 { ", " } else { "" });
                    out.push_str(Text::of(column).and_then(|t| t.at(row)).unwrap_or("NULL"));
                }
                out.push(')');
            });
        }
        _ => return Ok(arrow::compute::cast(array, &DataType::Utf8)?),
    }
    Ok(Arc::new(out.finish()))
}

/// `yyyy-MM-dd`, `HH:mm:ss[.SSS]` or both, with at least as many digits of the second as the type has.
fn write_time(wall: Wall, data_type: &DataType, out: &mut String) {
    let (year, month, day) = wall.civil();
    let mut least = 0;
    if !matches!(data_type, DataType::Time32(_) | DataType::Time64(_)) {
        let _ = write!(out, "{year:04}-{month:02}-{day:02}");
    }
    if *data_type == DataType::Date32 {
        return;
    }
    if let DataType::Timestamp(unit, _) = data_type {
        out.push(' ');
        least = digits(unit);
    }
    let seconds = wall.nanos / SECOND;
    let _ = write!(out, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    let fraction = wall.nanos % SECOND;
    if least > 0 || fraction != 0 {
        let mut text = format!("{fraction:09}");
        while text.len() > least && text.ends_with('0') {
            text.pop();
        }
        out.push('.');
        out.push_str(&text);
    }
}

/// As Java's `Double.toString`: at least one digit after the point, an exponent below 1e-3 and from 1e7 on.
pub(super) fn write_double(value: f64, out: &mut String) {
    write_java(value == 0.0, value.abs(), value.is_sign_negative(), &format!("{:e}", value.abs()), out);
}

fn write_float(value: f32, out: &mut String) {
    let shortest = format!("{:e}", value.abs());
    write_java(value == 0.0, f64::from(value.abs()), value.is_sign_negative(), &shortest, out);
}

/// `shortest` is the number in the form `1.25e-7`.
fn write_java(zero: bool, magnitude: f64, negative: bool, shortest: &str, out: &mut String) {
    if magnitude.is_nan() {
        return out.push_str("NaN");
    }
    out.push_str(if negative { "-" } else { "" });
    if magnitude.is_infinite() {
        return out.push_str("Infinity");
    }
    if zero {
        return out.push_str("0.0");
    }
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((shortest, "0"));
    if (1e-3..1e7).contains(&magnitude) {
        let digits: String = mantissa.chars().filter(|c| *c != '.').collect();
        let exponent: i32 = exponent.parse().unwrap_or(0);
        if exponent < 0 {
            out.push_str("0.");
            out.extend(std::iter::repeat_n('0', (-exponent - 1) as usize));
            out.push_str(&digits);
        } else {
            let whole = exponent as usize + 1;
            for at in 0..whole {
                out.push(digits[at.min(digits.len())..].chars().next().unwrap_or('0'));
            }
            out.push('.');
            out.push_str(if digits.len() > whole { &digits[whole..] } else { "0" });
        }
        return;
    }
    out.push_str(mantissa);
    out.push_str(if mantissa.contains('.') { "E" } else { ".0E" });
    out.push_str(exponent);
}

/// The type as SQL writes it.
pub(super) fn sql_type(data_type: &DataType) -> String {
    use DataType::*;
    match data_type {
        Null => "NULL".to_string(),
        Boolean => "BOOLEAN".to_string(),
        Int8 => "TINYINT".to_string(),
        Int16 => "SMALLINT".to_string(),
        Int32 => "INT".to_string(),
        Int64 => "BIGINT".to_string(),
        Float32 => "FLOAT".to_string(),
        Float64 => "DOUBLE".to_string(),
        Utf8 | LargeUtf8 | Utf8View => "STRING".to_string(),
        Binary | LargeBinary | BinaryView => "BYTES".to_string(),
        Date32 => "DATE".to_string(),
        Time32(_) | Time64(_) => "TIME(0)".to_string(),
        Decimal128(p, s) => format!("DECIMAL({p}, {s})"),
        Timestamp(unit, zone) => {
            format!("TIMESTAMP{}({})", if zone.is_some() { "_LTZ" } else { "" }, digits(unit))
        }
        List(item) => format!("ARRAY<{}>", sql_type(item.data_type())),
        Map(entries, _) => match (element_of(data_type), entries.data_type()) {
            (Some(element), _) => format!("MULTISET<{}>", sql_type(element)),
            (None, Struct(f)) if f.len() == 2 => {
                format!("MAP<{}, {}>", sql_type(f[0].data_type()), sql_type(f[1].data_type()))
            }
            (None, other) => other.to_string(),
        },
        Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|f| format!("`{}` {}", f.name(), sql_type(f.data_type()))).collect();
            format!("ROW<{}>", fields.join(", "))
        }
        other => other.to_string(),
    }
}
