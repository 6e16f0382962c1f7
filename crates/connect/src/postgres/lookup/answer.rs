//! From rows of the server to columns.
//!
//! The server is asked for each value in one of a few forms that hold it without loss; here it becomes the declared type.
//! What does not fit is an error of the data, never cut or wrapped.

use arrow::array::*;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use millstream_core::{ByteSize, Error, Result};
use millstream_formats::types::sql_type;
use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Arc;
use tokio_postgres::Row;
use tokio_postgres::types::{FromSql, Type};

/// Bytes of one answer.
const ANSWER_BYTES_MAX: ByteSize = ByteSize::mib(256);

/// How a value is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadAs {
    Boolean,
    Long,
    Float,
    Double,
    /// A number of so many digits after the point, as a text.
    Decimal(i8),
    Text,
    Bytes,
    /// Days since 2000-01-01.
    Date,
    /// Microseconds of the day.
    Time,
    /// Microseconds since 2000-01-01.
    Moment {
        zone: bool,
    },
}

/// How values of a declared type are asked for; `None`: they cannot be.
pub fn read_as(declared: &DataType) -> Option<ReadAs> {
    Some(match declared {
        DataType::Boolean => ReadAs::Boolean,
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => ReadAs::Long,
        DataType::Float32 => ReadAs::Float,
        DataType::Float64 => ReadAs::Double,
        DataType::Decimal128(_, scale) => ReadAs::Decimal(*scale),
        DataType::Utf8 => ReadAs::Text,
        DataType::Binary => ReadAs::Bytes,
        DataType::Date32 => ReadAs::Date,
        DataType::Time32(TimeUnit::Millisecond) => ReadAs::Time,
        DataType::Timestamp(_, zone) => ReadAs::Moment { zone: zone.is_some() },
        _ => return None,
    })
}

impl ReadAs {
    /// The expression that gives the value in this form.
    pub fn sql(self, value: &str) -> String {
        match self {
            ReadAs::Boolean => format!("{value}::bool"),
            ReadAs::Long => format!("{value}::int8"),
            ReadAs::Float => format!("{value}::float4"),
            ReadAs::Double => format!("{value}::float8"),
            ReadAs::Decimal(scale) => format!("round({value}::numeric, {scale})::text"),
            ReadAs::Text => format!("{value}::text"),
            ReadAs::Bytes => format!("{value}::bytea"),
            ReadAs::Date => format!("{value}::date"),
            ReadAs::Time => format!("{value}::time"),
            ReadAs::Moment { zone: false } => format!("{value}::timestamp"),
            ReadAs::Moment { zone: true } => format!("{value}::timestamptz"),
        }
    }
}

/// Values of one column on their way in.
enum Values {
    Boolean(Vec<Option<bool>>),
    Long(Vec<Option<i64>>),
    Float(Vec<Option<f32>>),
    Double(Vec<Option<f64>>),
    Decimal(Vec<Option<i128>>),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

/// The rows of one answer, ordered by the keys they belong to.
pub struct Answer {
    pub rows: RecordBatch,
    /// For each row the number of its key.
    of: Vec<u32>,
}

/// An answer that is coming in.
pub struct Coming {
    schema: SchemaRef,
    columns: Vec<(ReadAs, Values)>,
    of: Vec<u32>,
    bytes: u64,
}

impl Answer {
    pub fn to(schema: &SchemaRef) -> Result<Coming> {
        let columns = schema.fields().iter().map(|f| {
            let read = read_as(f.data_type()).ok_or_else(|| Error::internal("a column that cannot be read"))?;
            let values = match read {
                ReadAs::Boolean => Values::Boolean(Vec::new()),
                ReadAs::Long | ReadAs::Date | ReadAs::Time | ReadAs::Moment { .. } => Values::Long(Vec::new()),
                ReadAs::Float => Values::Float(Vec::new()),
                ReadAs::Double => Values::Double(Vec::new()),
                ReadAs::Decimal(_) => Values::Decimal(Vec::new()),
                ReadAs::Text => Values::Text(StringBuilder::new()),
                ReadAs::Bytes => Values::Bytes(BinaryBuilder::new()),
            };
            Ok((read, values))
        });
        let columns = columns.collect::<Result<_>>()?;
        Ok(Coming { schema: schema.clone(), columns, of: Vec::new(), bytes: 0 })
    }

    /// For each of so many keys, its rows.
    pub fn ranges(&self, keys: usize) -> Vec<Range<u32>> {
        let mut at = 0;
        let range = |key: u32| {
            let from = at;
            while self.of.get(at).is_some_and(|k| *k == key) {
                at += 1;
            }
            from as u32..at as u32
        };
        (0..keys as u32).map(range).collect()
    }
}

impl Coming {
    /// Takes in a row: the number of its key from 1, then the columns. By rows, since that is how they come.
    pub fn push(&mut self, row: &Row) -> Result<()> {
        let key: i64 = row.try_get(0).map_err(|e| unread("the number of a key", &e))?;
        let key = u32::try_from(key - 1).map_err(|_| Error::internal("a row of a key that was not asked for"))?;
        self.of.push(key);
        self.bytes += 4;
        for (n, (read, values)) in self.columns.iter_mut().enumerate() {
            let field = self.schema.field(n);
            let name = field.name();
            let wrong = |e: tokio_postgres::Error| unread(name, &e);
            self.bytes += 16;
            match values {
                Values::Boolean(v) => v.push(row.try_get(n + 1).map_err(wrong)?),
                Values::Float(v) => v.push(row.try_get(n + 1).map_err(wrong)?),
                Values::Double(v) => v.push(row.try_get(n + 1).map_err(wrong)?),
                Values::Text(v) => {
                    let text: Option<&str> = row.try_get(n + 1).map_err(wrong)?;
                    self.bytes += text.map_or(0, str::len) as u64;
                    v.append_option(text);
                }
                Values::Bytes(v) => {
                    let bytes: Option<&[u8]> = row.try_get(n + 1).map_err(wrong)?;
                    self.bytes += bytes.map_or(0, <[u8]>::len) as u64;
                    v.append_option(bytes);
                }
                Values::Decimal(v) => {
                    let text: Option<&str> = row.try_get(n + 1).map_err(wrong)?;
                    v.push(text.map(|t| decimal(t, field.data_type(), name)).transpose()?);
                }
                Values::Long(v) if *read == ReadAs::Long => v.push(row.try_get(n + 1).map_err(wrong)?),
                Values::Long(v) => {
                    let raw: Option<Raw> = row.try_get(n + 1).map_err(wrong)?;
                    v.push(raw.map(|raw| moment(raw, field.data_type(), name)).transpose()?);
                }
            }
        }
        if self.bytes > ANSWER_BYTES_MAX.0 {
            return Err(Error::data(format!(
                "PostgreSQL answers the keys of one batch with more than {ANSWER_BYTES_MAX} of rows"
            ))
            .remedy("look up by a key that has few rows, or declare fewer columns"));
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Answer> {
        let Coming { schema, columns, of, .. } = self;
        if !of.is_sorted() {
            return Err(Error::internal("the rows of an answer are out of order"));
        }
        let arrays = columns.into_iter().zip(schema.fields()).map(|((_, values), field)| -> Result<ArrayRef> {
            Ok(match values {
                Values::Boolean(v) => Arc::new(BooleanArray::from(v)),
                Values::Float(v) => Arc::new(Float32Array::from(v)),
                Values::Double(v) => Arc::new(Float64Array::from(v)),
                Values::Text(mut v) => Arc::new(v.finish()),
                Values::Bytes(mut v) => Arc::new(v.finish()),
                Values::Decimal(v) => Arc::new(Decimal128Array::from(v).with_data_type(field.data_type().clone())),
                Values::Long(v) => longs(v, field.data_type(), field.name())?,
            })
        });
        let rows = of.len();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let rows = RecordBatch::try_new_with_options(schema.clone(), arrays.collect::<Result<_>>()?, &options)?;
        Ok(Answer { rows, of })
    }
}

fn unread(column: &str, e: &tokio_postgres::Error) -> Error {
    let cause = e.source().map_or_else(|| e.to_string(), ToString::to_string);
    Error::data(format!("PostgreSQL's answer cannot be read, column `{column}`: {cause}"))
        .remedy("compare the columns of the table with those of its declaration")
}

fn does_not_fit(what: &str, column: &str, declared: &DataType) -> Error {
    Error::data(format!(
        "the column `{column}` of the looked-up table holds {what}, which {} does not hold",
        sql_type(declared)
    ))
    .remedy("declare the column with a wider type")
}

/// Whole numbers in the width that was declared; days and times as they are counted.
fn longs(values: Vec<Option<i64>>, declared: &DataType, column: &str) -> Result<ArrayRef> {
    macro_rules! narrow {
        ($array:ty, $to:ty) => {{
            let fit = |v: i64| <$to>::try_from(v).map_err(|_| does_not_fit(&v.to_string(), column, declared));
            let values = values.into_iter().map(|v| v.map(fit).transpose()).collect::<Result<Vec<_>>>()?;
            Arc::new(<$array>::from(values)) as ArrayRef
        }};
    }
    Ok(match declared {
        DataType::Int8 => narrow!(Int8Array, i8),
        DataType::Int16 => narrow!(Int16Array, i16),
        DataType::Int32 => narrow!(Int32Array, i32),
        DataType::Int64 => Arc::new(Int64Array::from(values)),
        DataType::Date32 => narrow!(Date32Array, i32),
        DataType::Time32(TimeUnit::Millisecond) => narrow!(Time32MillisecondArray, i32),
        DataType::Timestamp(unit, zone) => {
            let zone = zone.clone();
            match unit {
                TimeUnit::Second => Arc::new(TimestampSecondArray::from(values).with_timezone_opt(zone)),
                TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::from(values).with_timezone_opt(zone)),
                TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::from(values).with_timezone_opt(zone)),
                TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::from(values).with_timezone_opt(zone)),
            }
        }
        other => return Err(Error::internal(format!("whole numbers for a column of Arrow type {other}"))),
    })
}

/// Days from 1970-01-01 to 2000-01-01, where PostgreSQL begins to count, and the microseconds of them.
const DAYS_TO_2000: i64 = 10_957;
const MICROS_TO_2000: i64 = DAYS_TO_2000 * 86_400_000_000;

/// A date, a time of day or a moment in the units of its declared type. Cut, not rounded, as everywhere.
fn moment(Raw(raw): Raw, declared: &DataType, column: &str) -> Result<i64> {
    let infinite = raw == i64::MAX || raw == i64::MIN;
    let moment = match declared {
        DataType::Date32 => raw.checked_add(DAYS_TO_2000),
        DataType::Time32(_) => Some(raw.div_euclid(1_000)),
        DataType::Timestamp(unit, _) => raw.checked_add(MICROS_TO_2000).and_then(|micros| match unit {
            TimeUnit::Second => Some(micros.div_euclid(1_000_000)),
            TimeUnit::Millisecond => Some(micros.div_euclid(1_000)),
            TimeUnit::Microsecond => Some(micros),
            TimeUnit::Nanosecond => micros.checked_mul(1_000),
        }),
        other => return Err(Error::internal(format!("a time for a column of Arrow type {other}"))),
    };
    let what = if infinite { "infinity" } else { "a time too far away" };
    moment.filter(|_| !infinite).ok_or_else(|| does_not_fit(what, column, declared))
}

/// Digits with the scale of the declared type, as PostgreSQL has rounded them: `-12.50`.
fn decimal(text: &str, declared: &DataType, column: &str) -> Result<i128> {
    let DataType::Decimal128(precision, scale) = declared else {
        return Err(Error::internal(format!("digits for a column of Arrow type {declared}")));
    };
    let no = || does_not_fit(text, column, declared);
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |t| (true, t));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.len() != usize::try_from(*scale).unwrap_or_default() {
        return Err(no());
    }
    let mut value = 0i128;
    for digit in whole.bytes().chain(fraction.bytes()) {
        // NaN and infinity have no digits.
        let digit = digit.checked_sub(b'0').filter(|d| *d < 10).ok_or_else(no)?;
        value = value.checked_mul(10).and_then(|v| v.checked_add(i128::from(digit))).ok_or_else(no)?;
    }
    if value >= 10i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX) {
        return Err(no());
    }
    Ok(if negative { -value } else { value })
}

/// Days or microseconds as PostgreSQL counts them.
#[derive(Clone, Copy)]
struct Raw(i64);

impl<'a> FromSql<'a> for Raw {
    fn from_sql(of: &Type, raw: &'a [u8]) -> std::result::Result<Raw, Box<dyn StdError + Sync + Send>> {
        if *of == Type::DATE {
            let days = i32::from_be_bytes(raw.try_into()?);
            return Ok(Raw(match days {
                i32::MAX => i64::MAX,
                i32::MIN => i64::MIN,
                days => i64::from(days),
            }));
        }
        Ok(Raw(i64::from_be_bytes(raw.try_into()?)))
    }

    fn accepts(of: &Type) -> bool {
        matches!(*of, Type::DATE | Type::TIME | Type::TIMESTAMP | Type::TIMESTAMPTZ)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_read_to_the_last_one_or_not_at_all() {
        let of = |text: &str, p, s| decimal(text, &DataType::Decimal128(p, s), "c");
        assert_eq!(of("-12.50", 4, 2).expect("fits"), -1250);
        assert_eq!(of("0", 10, 0).expect("fits"), 0);
        assert_eq!(of(&"9".repeat(38), 38, 0).expect("fits"), 10i128.pow(38) - 1);
        for (text, p, s) in [("100.00", 4, 2), ("NaN", 4, 2), ("Infinity", 38, 0), ("1.5", 4, 2)] {
            let e = of(text, p, s).expect_err(text);
            assert!(e.what().contains(text) && e.what().contains("`c`"), "{e}");
        }
        assert!(of(&"9".repeat(39), 38, 0).is_err());
    }

    #[test]
    fn moments_are_counted_from_1970_and_cut() {
        let ms = DataType::Timestamp(TimeUnit::Millisecond, None);
        assert_eq!(moment(Raw(-MICROS_TO_2000 - 1), &ms, "c").expect("fits"), -1);
        assert_eq!(moment(Raw(-DAYS_TO_2000), &DataType::Date32, "c").expect("fits"), 0);
        let ns = DataType::Timestamp(TimeUnit::Nanosecond, None);
        for (raw, of, what) in [
            (i64::MAX, &ms, "infinity"),
            (i64::MIN, &DataType::Date32, "infinity"),
            (i64::MAX / 2, &ns, "too far away"),
        ] {
            let e = moment(Raw(raw), of, "c").expect_err(what);
            assert!(e.what().contains(what), "{e}");
        }
    }
}
