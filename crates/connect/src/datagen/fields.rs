//! What stands in a column: a sequence, or values drawn from a hash of the row's number.

use crate::options::{duration, number};
use arrow::array::types::*;
use arrow::array::*;
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_core::{Error, Result, TableSpec};
use millstream_formats::types::sql_type;
use std::sync::Arc;

const TEXT_LENGTH_DEFAULT: usize = 100;
const ITEMS_DEFAULT: usize = 3;
/// Keeps a slip in `length` from filling the memory.
const LENGTH_MAX: usize = 1 << 20;

/// Makes the values of one column, or of one part of a nested column.
#[derive(Debug, Clone)]
pub(super) struct Generator {
    data_type: DataType,
    values: Values,
    /// The share of NULLs, as a threshold of 2^32.
    nulls: u64,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Values {
    Sequence {
        start: i64,
        count: u64,
    },
    Whole {
        min: i64,
        span: u64,
    },
    Real {
        min: f64,
        max: f64,
    },
    Bool,
    /// Characters of text or bytes; `varying`: up to so many.
    Text {
        length: usize,
        varying: bool,
    },
    Time {
        max_past: u64,
    },
    List {
        items: Box<Generator>,
        length: usize,
        varying: bool,
    },
    Map {
        keys: Box<Generator>,
        values: Box<Generator>,
        length: usize,
    },
    Row(Vec<Generator>),
}

/// SplitMix64's finisher: neighbouring inputs give unrelated outputs.
/// G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", 2014.
pub(super) fn mix(x: u64) -> u64 {
    let mut z = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A number in `0..below` out of a random word.
fn below(word: u64, below: u64) -> u64 {
    ((u128::from(word) * u128::from(below)) >> 64) as u64
}

/// The option names of what is inside a nested column: `tags.element`, `m.key`, `m.value`, `r.<field>`.
pub(super) fn nested_names(field: &Field) -> Vec<String> {
    fn walk(name: &str, of: &DataType, out: &mut Vec<String>) {
        for (inner, of) in parts(name, of) {
            out.push(inner.clone());
            walk(&inner, &of, out);
        }
    }
    let mut out = Vec::new();
    walk(field.name(), field.data_type(), &mut out);
    out
}

fn parts(name: &str, of: &DataType) -> Vec<(String, DataType)> {
    match of {
        DataType::List(item) => vec![(format!("{name}.element"), item.data_type().clone())],
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => vec![
                (format!("{name}.key"), kv[0].data_type().clone()),
                (format!("{name}.value"), kv[1].data_type().clone()),
            ],
            _ => Vec::new(),
        },
        DataType::Struct(fields) => {
            fields.iter().map(|f| (format!("{name}.{}", f.name()), f.data_type().clone())).collect()
        }
        _ => Vec::new(),
    }
}

impl Generator {
    pub fn of(table: &TableSpec, field: &Field, name: &str, seed: u64) -> Result<Generator> {
        let key = |of: &str| format!("fields.{name}.{of}");
        let data_type = field.data_type().clone();
        let rate = number::<f64>(table, &key("null-rate"), "a number from 0 to 1")?.unwrap_or(0.0);
        if !(0.0..=1.0).contains(&rate) {
            return Err(
                Error::sql(format!("'{}' cannot be {rate}", key("null-rate"))).remedy("use a number from 0 to 1")
            );
        }
        if rate > 0.0 && !field.is_nullable() {
            return Err(Error::sql(format!("'{}' asks for NULLs in `{name}`, which is NOT NULL", key("null-rate")))
                .remedy("leave out one of the two"));
        }
        let length = number::<usize>(table, &key("length"), "a whole number")?;
        if length.is_some_and(|n| n > LENGTH_MAX) {
            return Err(
                Error::sql(format!("'{}' is more than {LENGTH_MAX}", key("length"))).remedy("use a smaller length")
            );
        }
        let varying = millstream_formats::options::flag(&table.options, &key("var-len"))?.unwrap_or(false);
        let inside = |name: &str, f: &Field, n: u64| Generator::of(table, f, name, mix(seed ^ (n << 32)));
        let kind = table.option(&key("kind")).unwrap_or("random");
        let values = match (kind, &data_type) {
            ("sequence", of) => sequence(table, name, of)?,
            ("random", DataType::Boolean) => Values::Bool,
            ("random", of) if whole_range(of).is_some() => {
                let (low, high) = whole_range(of).unwrap_or((0, 0));
                let scale = match of {
                    DataType::Decimal128(_, s) => 10f64.powi(i32::from(*s)),
                    _ => 1.0,
                };
                let bound = |which: &str| -> Result<Option<i64>> {
                    if scale == 1.0 {
                        return number(table, &key(which), "a whole number that the column can hold");
                    }
                    let bound = number::<f64>(table, &key(which), "a number that the column can hold")?;
                    Ok(bound.map(|b| (b * scale).round() as i64))
                };
                let (min, max) = (bound("min")?.unwrap_or(low), bound("max")?.unwrap_or(high));
                check_bounds(name, min <= max, min >= low && max <= high, of)?;
                Values::Whole { min, span: max.wrapping_sub(min) as u64 }
            }
            ("random", DataType::Float32 | DataType::Float64) => {
                let limit = if data_type == DataType::Float32 { f64::from(f32::MAX) } else { f64::MAX };
                let min = number::<f64>(table, &key("min"), "a number")?.unwrap_or(0.0);
                let max = number::<f64>(table, &key("max"), "a number")?.unwrap_or(limit);
                check_bounds(name, min <= max, min >= -limit && max <= limit, &data_type)?;
                Values::Real { min, max }
            }
            ("random", DataType::Utf8 | DataType::Binary) => {
                Values::Text { length: length.unwrap_or(TEXT_LENGTH_DEFAULT), varying }
            }
            ("random", DataType::Timestamp(..) | DataType::Date32 | DataType::Time32(_)) => {
                let max_past = duration(table, &key("max-past"))?.unwrap_or_default();
                Values::Time { max_past: u64::try_from(max_past.as_millis()).unwrap_or(u64::MAX) }
            }
            ("random", DataType::List(item)) => Values::List {
                items: Box::new(inside(&format!("{name}.element"), item, 1)?),
                length: length.unwrap_or(ITEMS_DEFAULT),
                varying,
            },
            ("random", DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(kv) if kv.len() == 2 => Values::Map {
                    keys: Box::new(inside(&format!("{name}.key"), &kv[0], 1)?),
                    values: Box::new(inside(&format!("{name}.value"), &kv[1], 2)?),
                    length: length.unwrap_or(ITEMS_DEFAULT),
                },
                _ => return Err(Error::internal("a map without keys and values")),
            },
            ("random", DataType::Struct(fields)) => Values::Row(
                fields
                    .iter()
                    .enumerate()
                    .map(|(n, f)| inside(&format!("{name}.{}", f.name()), f, n as u64 + 1))
                    .collect::<Result<_>>()?,
            ),
            ("random", other) => {
                return Err(Error::sql(format!("'datagen' cannot make up values of {}", sql_type(other)))
                    .remedy(format!("leave `{name}` out of the table")));
            }
            (other, _) => {
                return Err(
                    Error::sql(format!("'{}' cannot be '{other}'", key("kind"))).remedy("use 'random' or 'sequence'")
                );
            }
        };
        Ok(Generator { data_type, values, nulls: (rate * 4_294_967_296.0) as u64, seed })
    }

    /// How many rows there are at most.
    pub fn rows(&self) -> Option<u64> {
        match self.values {
            Values::Sequence { count, .. } => Some(count),
            _ => None,
        }
    }

    /// The values of the rows with these numbers; `now` in milliseconds.
    pub fn make(&self, rows: &[u64], now: i64) -> Result<ArrayRef> {
        // The loops below go by rows: a made-up value is nothing but a function of its row's number.
        let word = |row: &u64| mix(self.seed ^ mix(*row));
        let nulls = (self.nulls > 0).then(|| {
            NullBuffer::from_iter(rows.iter().map(|row| (mix(self.seed ^ !mix(*row)) & 0xffff_ffff) >= self.nulls))
        });
        let array: ArrayRef = match &self.values {
            Values::Sequence { start, .. } => self.whole(rows.iter().map(|&row| start.wrapping_add_unsigned(row)))?,
            Values::Whole { min, span } => self.whole(rows.iter().map(|row| match span.checked_add(1) {
                Some(count) => min.wrapping_add_unsigned(below(word(row), count)),
                None => word(row) as i64,
            }))?,
            Values::Real { min, max } => {
                let value = |row: &u64| {
                    let part = (word(row) >> 11) as f64 / (1u64 << 53) as f64;
                    // Apart, since the difference may be more than a number can hold.
                    min * (1.0 - part) + max * part
                };
                match self.data_type {
                    DataType::Float32 => Arc::new(Float32Array::from_iter_values(rows.iter().map(|r| value(r) as f32))),
                    _ => Arc::new(Float64Array::from_iter_values(rows.iter().map(value))),
                }
            }
            Values::Bool => Arc::new(BooleanArray::from_iter(rows.iter().map(|row| Some(word(row) >> 63 == 1)))),
            Values::Text { length, varying } => self.text(rows, *length, *varying),
            Values::Time { max_past } => {
                let at = rows.iter().map(|row| match max_past.checked_add(1) {
                    Some(1) | None => now,
                    Some(count) => now.saturating_sub_unsigned(below(word(row), count)),
                });
                self.times(at)?
            }
            Values::List { items, length, varying } => {
                let lengths: Vec<usize> = rows
                    .iter()
                    .map(|row| if *varying { below(word(row), *length as u64 + 1) as usize } else { *length })
                    .collect();
                let values = items.make(&numbers(rows, &lengths), now)?;
                let DataType::List(field) = &self.data_type else { return Err(wrong()) };
                Arc::new(ListArray::try_new(field.clone(), OffsetBuffer::from_lengths(lengths), values, nulls.clone())?)
            }
            Values::Map { keys, values, length } => {
                let lengths = vec![*length; rows.len()];
                let inner = numbers(rows, &lengths);
                let DataType::Map(entries, sorted) = &self.data_type else { return Err(wrong()) };
                let DataType::Struct(kv) = entries.data_type() else { return Err(wrong()) };
                let columns = vec![keys.make(&inner, now)?, values.make(&inner, now)?];
                let inside = StructArray::try_new_with_length(kv.clone(), columns, None, inner.len())?;
                let offsets = OffsetBuffer::from_lengths(lengths);
                Arc::new(MapArray::try_new(entries.clone(), offsets, inside, nulls.clone(), *sorted)?)
            }
            Values::Row(fields) => {
                let columns = fields.iter().map(|f| f.make(rows, now)).collect::<Result<Vec<_>>>()?;
                let DataType::Struct(declared) = &self.data_type else { return Err(wrong()) };
                Arc::new(StructArray::try_new_with_length(declared.clone(), columns, nulls.clone(), rows.len())?)
            }
        };
        match nulls {
            Some(nulls) if array.nulls().is_none() => {
                Ok(make_array(array.to_data().into_builder().nulls(Some(nulls)).build()?))
            }
            _ => Ok(array),
        }
    }

    fn whole(&self, values: impl Iterator<Item = i64>) -> Result<ArrayRef> {
        Ok(match &self.data_type {
            DataType::Int8 => Arc::new(Int8Array::from_iter_values(values.map(|v| v as i8))),
            DataType::Int16 => Arc::new(Int16Array::from_iter_values(values.map(|v| v as i16))),
            DataType::Int32 => Arc::new(Int32Array::from_iter_values(values.map(|v| v as i32))),
            DataType::Int64 => Arc::new(Int64Array::from_iter_values(values)),
            DataType::Float32 => Arc::new(Float32Array::from_iter_values(values.map(|v| v as f32))),
            DataType::Float64 => Arc::new(Float64Array::from_iter_values(values.map(|v| v as f64))),
            DataType::Utf8 => Arc::new(StringArray::from_iter_values(values.map(|v| v.to_string()))),
            DataType::Decimal128(precision, scale) => Arc::new(
                Decimal128Array::from_iter_values(values.map(i128::from))
                    .with_precision_and_scale(*precision, *scale)?,
            ),
            _ => return Err(wrong()),
        })
    }

    fn text(&self, rows: &[u64], length: usize, varying: bool) -> ArrayRef {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let length_of = |row: u64| match varying {
            true => 1 + below(mix(self.seed ^ !row), length.max(1) as u64) as usize,
            false => length,
        };
        // Sixteen characters out of every word, as Flink's strings of hexadecimal digits.
        let fill = |row: u64, n: usize, out: &mut Vec<u8>| {
            out.clear();
            let mut at = mix(self.seed ^ mix(row));
            while out.len() < n {
                let mut word = at;
                for _ in 0..16.min(n - out.len()) {
                    out.push(HEX[(word & 15) as usize]);
                    word >>= 4;
                }
                at = mix(at);
            }
        };
        let mut one = Vec::with_capacity(length);
        if self.data_type == DataType::Binary {
            let mut builder = BinaryBuilder::with_capacity(rows.len(), rows.len() * length);
            for &row in rows {
                fill(row, length_of(row), &mut one);
                builder.append_value(&one);
            }
            return Arc::new(builder.finish());
        }
        let mut builder = StringBuilder::with_capacity(rows.len(), rows.len() * length);
        for &row in rows {
            fill(row, length_of(row), &mut one);
            builder.append_value(std::str::from_utf8(&one).expect("hexadecimal digits are ASCII"));
        }
        Arc::new(builder.finish())
    }

    fn times(&self, millis: impl Iterator<Item = i64>) -> Result<ArrayRef> {
        Ok(match &self.data_type {
            DataType::Date32 => {
                Arc::new(Date32Array::from_iter_values(millis.map(|at| at.div_euclid(86_400_000) as i32)))
            }
            DataType::Time32(TimeUnit::Millisecond) => {
                Arc::new(Time32MillisecondArray::from_iter_values(millis.map(|at| at.rem_euclid(86_400_000) as i32)))
            }
            DataType::Timestamp(unit, zone) => {
                fn of<T: ArrowTimestampType>(
                    millis: impl Iterator<Item = i64>,
                    by: i64,
                    zone: Option<Arc<str>>,
                ) -> ArrayRef {
                    let values = millis.map(|at| at.saturating_mul(by));
                    Arc::new(PrimitiveArray::<T>::from_iter_values(values).with_timezone_opt(zone))
                }
                match unit {
                    TimeUnit::Second => {
                        of::<TimestampSecondType>(millis.map(|at| at.div_euclid(1000)), 1, zone.clone())
                    }
                    TimeUnit::Millisecond => of::<TimestampMillisecondType>(millis, 1, zone.clone()),
                    TimeUnit::Microsecond => of::<TimestampMicrosecondType>(millis, 1_000, zone.clone()),
                    TimeUnit::Nanosecond => of::<TimestampNanosecondType>(millis, 1_000_000, zone.clone()),
                }
            }
            _ => return Err(wrong()),
        })
    }
}

/// Numbers for the items of lists: each made from its row's number and its place, so that they too are the same at any
/// parallelism.
fn numbers(rows: &[u64], lengths: &[usize]) -> Vec<u64> {
    rows.iter().zip(lengths).flat_map(|(&row, &n)| (0..n as u64).map(move |i| mix(row).wrapping_add(i))).collect()
}

fn wrong() -> Error {
    Error::internal("a generator of another type than its column")
}

/// The least and the greatest value of a type that is made as a whole number.
fn whole_range(of: &DataType) -> Option<(i64, i64)> {
    match of {
        DataType::Int8 => Some((i64::from(i8::MIN), i64::from(i8::MAX))),
        DataType::Int16 => Some((i64::from(i16::MIN), i64::from(i16::MAX))),
        DataType::Int32 => Some((i64::from(i32::MIN), i64::from(i32::MAX))),
        DataType::Int64 => Some((i64::MIN, i64::MAX)),
        DataType::Decimal128(precision, _) => {
            let high = 10i64.checked_pow(u32::from(*precision)).map_or(i64::MAX, |p| p - 1);
            Some((-high, high))
        }
        _ => None,
    }
}

fn check_bounds(name: &str, ordered: bool, within: bool, of: &DataType) -> Result<()> {
    if !ordered {
        return Err(Error::sql(format!("'fields.{name}.min' is greater than 'fields.{name}.max'"))
            .remedy(format!("set both; what is not set is the limit of {}", sql_type(of))));
    }
    if !within {
        return Err(Error::sql(format!("'fields.{name}.min' or 'max' is beyond what {} can hold", sql_type(of)))
            .remedy("use a smaller range or a wider type"));
    }
    Ok(())
}

fn sequence(table: &TableSpec, name: &str, of: &DataType) -> Result<Values> {
    let numeric = whole_range(of).is_some() || matches!(of, DataType::Float32 | DataType::Float64 | DataType::Utf8);
    if !numeric {
        return Err(Error::sql(format!("`{name}` is {}, and a sequence is made of numbers", sql_type(of)))
            .remedy(format!("use 'fields.{name}.kind' = 'random'")));
    }
    let bound = |which: &str| -> Result<i64> {
        let key = format!("fields.{name}.{which}");
        number(table, &key, "a whole number")?.ok_or_else(|| {
            Error::sql(format!("a sequence needs 'fields.{name}.start' and 'fields.{name}.end'"))
                .remedy(format!("add '{key}' = '…'"))
        })
    };
    let (start, end) = (bound("start")?, bound("end")?);
    let (low, high) = match of {
        DataType::Decimal128(..) => (i64::MIN, i64::MAX),
        of => whole_range(of).unwrap_or((i64::MIN, i64::MAX)),
    };
    check_bounds(name, start <= end, start >= low && end <= high, of)?;
    let count = (end.wrapping_sub(start) as u64).saturating_add(1);
    Ok(Values::Sequence { start, count })
}
