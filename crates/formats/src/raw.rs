//! Records that are the value of one column and nothing else: text, bytes, or a number in its binary form.
//!
//! As in Flink: the table has one column beside those of the key and METADATA; a record without bytes (a tombstone) is
//! NULL, and NULL is written as one.

use crate::bad::{Fault, shown};
use crate::records::{RecordDecoder, RecordEncoder, Records};
use crate::types::sql_type;
use arrow::array::types::*;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BinaryBuilder, BooleanArray, Int8Array, RecordBatch, RecordBatchOptions,
};
use arrow::array::{ArrowPrimitiveType, PrimitiveArray, StringArray};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RawOptions {
    /// `raw.endianness`: `big-endian` (false, default) or `little-endian`.
    pub little_endian: bool,
}

impl RawOptions {
    pub fn parse(options: &BTreeMap<String, String>) -> Result<RawOptions> {
        let get = |key: &str| options.get(key).map(String::as_str);
        if let Some(charset) = get("raw.charset").filter(|c| !c.eq_ignore_ascii_case("utf-8")) {
            return Err(Error::sql(format!("'raw.charset' cannot be '{charset}'"))
                .remedy("only UTF-8 is read as text; declare the column BYTES for anything else"));
        }
        Ok(RawOptions {
            little_endian: match get("raw.endianness") {
                None | Some("big-endian") => false,
                Some("little-endian") => true,
                Some(other) => {
                    return Err(Error::sql(format!("'raw.endianness' cannot be '{other}'"))
                        .remedy("use 'big-endian' or 'little-endian'"));
                }
            },
        })
    }
}

/// That the columns are one, of a type that has a raw form.
pub(crate) fn check(schema: &SchemaRef) -> Result<()> {
    let [field] = &schema.fields()[..] else {
        let names: Vec<String> = schema.fields().iter().map(|f| format!("`{}`", f.name())).collect();
        return Err(Error::sql(format!(
            "a raw record is one column, and this table has {}: {}",
            names.len(),
            if names.is_empty() { "none".into() } else { names.join(", ") }
        ))
        .remedy("declare one column beside those of the key and METADATA, or use another format"));
    };
    match field.data_type() {
        DataType::Utf8
        | DataType::Binary
        | DataType::Boolean
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64 => Ok(()),
        other => Err(Error::sql(format!("column `{}` is {}, which has no raw form", field.name(), sql_type(other)))
            .remedy("declare it STRING, BYTES, BOOLEAN, a whole number, FLOAT or DOUBLE")),
    }
}

pub struct RawDecoder {
    options: RawOptions,
    /// The one column, whether or not it is asked for.
    column: Arc<arrow::datatypes::Field>,
    schema: SchemaRef,
}

impl RawDecoder {
    pub fn new(options: RawOptions, schema: &SchemaRef, projection: &[usize]) -> Result<RawDecoder> {
        check(schema)?;
        let wanted: Vec<_> = projection.iter().map(|&i| schema.fields()[i].clone()).collect();
        Ok(RawDecoder { options, column: schema.fields()[0].clone(), schema: Arc::new(Schema::new(wanted)) })
    }
}

/// Numbers with a fixed width.
trait Fixed: ArrowPrimitiveType {
    const BYTES: usize;
    fn read(bytes: &[u8], little_endian: bool) -> Self::Native;
    fn write(value: Self::Native, little_endian: bool, out: &mut Vec<u8>);
}

macro_rules! fixed {
    ($($t:ty),*) => {$(
        impl Fixed for $t {
            const BYTES: usize = size_of::<<$t as ArrowPrimitiveType>::Native>();
            fn read(bytes: &[u8], little_endian: bool) -> Self::Native {
                let bytes = bytes.try_into().expect("the width was looked at");
                if little_endian { <Self::Native>::from_le_bytes(bytes) } else { <Self::Native>::from_be_bytes(bytes) }
            }
            fn write(value: Self::Native, little_endian: bool, out: &mut Vec<u8>) {
                out.extend_from_slice(&if little_endian { value.to_le_bytes() } else { value.to_be_bytes() });
            }
        }
    )*};
}
fixed!(Int8Type, Int16Type, Int32Type, Int64Type, Float32Type, Float64Type);

/// The records that are left once those that cannot be read are out.
struct Good<'a> {
    bytes: &'a [u8],
    records: Vec<Option<&'a Range<usize>>>,
    faults: Vec<Fault>,
}

impl<'a> Good<'a> {
    /// `wrong` says what is wrong with a record's bytes, if anything is.
    fn of(
        bytes: &'a [u8],
        records: &'a [Option<Range<usize>>],
        nullable: bool,
        wrong: impl Fn(&[u8]) -> Option<String>,
    ) -> Self {
        let mut good = Good { bytes, records: Vec::with_capacity(records.len()), faults: Vec::new() };
        for (record, at) in records.iter().enumerate() {
            let reason = match at {
                None if nullable => None,
                None => Some("the record is NULL, the table declares its column NOT NULL".to_owned()),
                Some(at) => wrong(&bytes[at.clone()]),
            };
            match reason {
                None => good.records.push(at.as_ref()),
                Some(reason) => {
                    good.faults.push(Fault { record, line: 0, reason, raw: at.clone().unwrap_or_default() });
                }
            }
        }
        good
    }

    fn values(&self) -> impl Iterator<Item = Option<&'a [u8]>> + '_ {
        self.records.iter().map(|at| at.map(|at| &self.bytes[at.clone()]))
    }
}

impl RecordDecoder for RawDecoder {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let (nullable, little) = (self.column.is_nullable(), self.options.little_endian);
        let name = self.column.name();
        let declared = sql_type(self.column.data_type());
        let width = |wanted: usize| {
            let (name, declared) = (name.clone(), declared.clone());
            move |found: &[u8]| {
                (found.len() != wanted)
                    .then(|| format!("column `{name}` is {declared} of {wanted} bytes, the record has {}", found.len()))
            }
        };
        fn numbers<T: Fixed>(good: &Good<'_>, little: bool) -> ArrayRef {
            Arc::new(good.values().map(|v| v.map(|v| T::read(v, little))).collect::<PrimitiveArray<T>>())
        }
        macro_rules! number {
            ($t:ty) => {{
                let good = Good::of(bytes, records, nullable, width(<$t>::BYTES));
                (numbers::<$t>(&good, little), good.faults)
            }};
        }
        let (column, faults): (ArrayRef, Vec<Fault>) = match self.column.data_type() {
            DataType::Utf8 => {
                let good = Good::of(bytes, records, nullable, |found| {
                    std::str::from_utf8(found)
                        .is_err()
                        .then(|| format!("column `{name}` holds `{}`, which is not UTF-8", shown(found)))
                });
                let text = good.values().map(|v| v.map(|v| std::str::from_utf8(v).expect("looked at")));
                (Arc::new(text.collect::<StringArray>()), good.faults)
            }
            DataType::Binary => {
                let good = Good::of(bytes, records, nullable, |_| None);
                (Arc::new(good.values().collect::<BinaryArray>()), good.faults)
            }
            DataType::Boolean => {
                let good = Good::of(bytes, records, nullable, width(1));
                (Arc::new(good.values().map(|v| v.map(|v| v[0] != 0)).collect::<BooleanArray>()), good.faults)
            }
            DataType::Int8 => number!(Int8Type),
            DataType::Int16 => number!(Int16Type),
            DataType::Int32 => number!(Int32Type),
            DataType::Int64 => number!(Int64Type),
            DataType::Float32 => number!(Float32Type),
            DataType::Float64 => number!(Float64Type),
            other => return Err(Error::internal(format!("{other} has no raw form"))),
        };
        let options = RecordBatchOptions::new().with_row_count(Some(column.len()));
        let columns = if self.schema.fields().is_empty() { Vec::new() } else { vec![column] };
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(Records::new(rows, faults, Vec::new(), 0))
    }
}

pub struct RawEncoder(RawOptions);

impl RawEncoder {
    pub fn new(options: RawOptions) -> RawEncoder {
        RawEncoder(options)
    }
}

impl RecordEncoder for RawEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, _: Option<&Int8Array>) -> Result<BinaryArray> {
        let column = rows.column(0);
        let little = self.0.little_endian;
        fn numbers<T: Fixed>(column: &ArrayRef, little: bool) -> BinaryArray {
            let mut out = BinaryBuilder::with_capacity(column.len(), column.len() * T::BYTES);
            let mut scratch = Vec::with_capacity(T::BYTES);
            for value in column.as_primitive::<T>() {
                scratch.clear();
                value.into_iter().for_each(|v| T::write(v, little, &mut scratch));
                out.append_option(value.map(|_| &scratch));
            }
            out.finish()
        }
        Ok(match column.data_type() {
            DataType::Binary => column.as_binary::<i32>().clone(),
            DataType::Utf8 => BinaryArray::from(column.as_string::<i32>().clone()),
            DataType::Boolean => column.as_boolean().iter().map(|v| v.map(|v| [u8::from(v)])).collect(),
            DataType::Int8 => numbers::<Int8Type>(column, little),
            DataType::Int16 => numbers::<Int16Type>(column, little),
            DataType::Int32 => numbers::<Int32Type>(column, little),
            DataType::Int64 => numbers::<Int64Type>(column, little),
            DataType::Float32 => numbers::<Float32Type>(column, little),
            DataType::Float64 => numbers::<Float64Type>(column, little),
            other => return Err(Error::internal(format!("{other} has no raw form"))),
        })
    }
}
