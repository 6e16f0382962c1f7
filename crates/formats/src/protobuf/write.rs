//! Rows as messages: row by row, since that is what the format is.
//!
//! NULL is a field that is absent. Fields are written in the order of their numbers, whatever order the columns have. What
//! goes where is looked up once for each batch.

use super::plan::{Number, holds, no_field, per_second, unfit, wrapped};
use super::wire::{Wire, put_counted, put_tag, put_varint, put_within};
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use millstream_core::{Error, Result};
use prost_reflect::{EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Syntax};

/// The values of one field.
struct Put<'a> {
    path: String,
    number: u32,
    nulls: Option<&'a NullBuffer>,
    /// A value that is the default of its type is not written.
    omits_default: bool,
    required: bool,
    values: Values<'a>,
}

enum Values<'a> {
    Boolean(&'a BooleanArray),
    Number(Number, Whole<'a>),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Symbol(&'a StringArray, EnumDescriptor),
    EnumNumber(Whole<'a>, EnumDescriptor),
    /// Times in these parts of a second.
    Timestamp(&'a [i64], i64),
    Wrapped(Box<Put<'a>>),
    List {
        ends: &'a [i32],
        packed: bool,
        items: Box<Put<'a>>,
    },
    Map(&'a [i32], Box<[Put<'a>; 2]>),
    Message(Message<'a>),
}

/// A column of whole numbers.
enum Whole<'a> {
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    I128(&'a [i128]),
}

impl<'a> Whole<'a> {
    fn of(column: &'a ArrayRef) -> Option<Whole<'a>> {
        Some(match column.data_type() {
            DataType::Int8 => Whole::I8(column.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Whole::I16(column.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Whole::I32(column.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Whole::I64(column.as_primitive::<Int64Type>().values()),
            DataType::Decimal128(_, 0) => Whole::I128(column.as_primitive::<Decimal128Type>().values()),
            _ => return None,
        })
    }

    #[inline]
    fn get(&self, row: usize) -> i128 {
        match self {
            Whole::I8(v) => i128::from(v[row]),
            Whole::I16(v) => i128::from(v[row]),
            Whole::I32(v) => i128::from(v[row]),
            Whole::I64(v) => i128::from(v[row]),
            Whole::I128(v) => v[row],
        }
    }
}

/// The fields of a message, by number.
struct Message<'a> {
    fields: Vec<Put<'a>>,
    /// For each of them, those of its oneof whose columns stand behind its own: where one of them is not NULL, this one is
    /// not written.
    rivals: Vec<Vec<usize>>,
}

/// Rows that can be written one by one.
pub(super) struct Records<'a> {
    message: Message<'a>,
    /// What is written in the place of a NULL that is an item or a value of a map.
    null_literal: Option<&'a str>,
}

/// Why a row cannot be written.
pub(super) struct Unfit(String);

impl Unfit {
    pub fn error(self) -> Error {
        Error::data(self.0).remedy("leave such rows out, or make the value fit with COALESCE or CAST")
    }
}

type Done = std::result::Result<(), Unfit>;

impl<'a> Records<'a> {
    pub fn new(
        message: &MessageDescriptor,
        rows: &'a RecordBatch,
        null_literal: Option<&'a str>,
    ) -> Result<Records<'a>> {
        let message = Message::of(message, rows.schema_ref().fields(), rows.columns(), "")?;
        Ok(Records { message, null_literal })
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Done {
        self.message.write(row, self.null_literal, out)
    }
}

/// That rows of these columns can be written as such messages.
pub(super) fn check(message: &MessageDescriptor, fields: &Fields) -> Result<()> {
    let columns: Vec<ArrayRef> = fields.iter().map(|f| arrow::array::new_empty_array(f.data_type())).collect();
    Message::of(message, fields, &columns, "").map(drop)
}

impl<'a> Message<'a> {
    fn of(
        message: &MessageDescriptor,
        fields: &'a Fields,
        columns: &'a [ArrayRef],
        within: &str,
    ) -> Result<Message<'a>> {
        for field in message.fields().filter(FieldDescriptor::is_required) {
            if !fields.iter().any(|column| column.name() == field.name()) {
                return Err(Error::sql(format!(
                    "the field `{within}{}` of {} is required, and is no column of the table",
                    field.name(),
                    message.full_name()
                ))
                .remedy("add the column"));
            }
        }
        // In the order of columns, which oneofs go by.
        let mut puts: Vec<(Put<'a>, usize, Option<String>)> = Vec::with_capacity(fields.len());
        for (n, (column, values)) in fields.iter().zip(columns).enumerate() {
            let path = format!("{within}{}", column.name());
            let Some(field) = message.get_field_by_name(column.name()) else {
                return Err(no_field(message, column.name(), &path));
            };
            let oneof = field.containing_oneof().map(|o| o.full_name().to_owned());
            puts.push((Put::of(&field, column, values, path)?, n, oneof));
        }
        puts.sort_by_key(|(put, ..)| put.number);
        let rivals = puts.iter().map(|(_, n, oneof)| {
            let behind = puts.iter().enumerate().filter(|(_, (_, m, of))| oneof.is_some() && of == oneof && m > n);
            behind.map(|(at, _)| at).collect()
        });
        let rivals = rivals.collect();
        Ok(Message { fields: puts.into_iter().map(|(put, ..)| put).collect(), rivals })
    }

    fn write(&self, row: usize, literal: Option<&str>, out: &mut Vec<u8>) -> Done {
        for (put, rivals) in self.fields.iter().zip(&self.rivals) {
            if rivals.is_empty() || rivals.iter().all(|&r| self.fields[r].is_null(row)) {
                put.write(row, literal, out)?;
            }
        }
        Ok(())
    }
}

impl<'a> Put<'a> {
    fn of(field: &FieldDescriptor, column: &'a Field, values: &'a ArrayRef, path: String) -> Result<Put<'a>> {
        if field.is_group() {
            return Err(Error::sql(format!("column `{path}` is a group of {}", field.parent_message().full_name()))
                .remedy("leave the column out: groups are not written"));
        }
        let refused = || unfit(field, column, &path);
        let found = match column.data_type() {
            DataType::Map(entries, _) if field.is_map() => {
                let Kind::Message(entry) = field.kind() else { return Err(refused()) };
                let DataType::Struct(pair) = entries.data_type() else { return Err(refused()) };
                let map = values.as_map();
                let put = |field: FieldDescriptor, n: usize, values: &'a ArrayRef, what: &str| {
                    Put::single(&field, &pair[n], values, format!("{path}{what}"))
                };
                let key = put(entry.map_entry_key_field(), 0, map.keys(), "{key}")?;
                let value = put(entry.map_entry_value_field(), 1, map.values(), "{}")?;
                Values::Map(map.value_offsets(), Box::new([key, value]))
            }
            DataType::List(item) if field.is_list() => {
                let list = values.as_list::<i32>();
                let items = Put::single(field, item, list.values(), format!("{path}[]"))?;
                Values::List { ends: list.value_offsets(), packed: field.is_packed(), items: Box::new(items) }
            }
            _ if field.is_map() || field.is_list() => return Err(refused()),
            _ => {
                let mut put = Put::single(field, column, values, path)?;
                put.omits_default = !field.supports_presence();
                put.required = field.is_required();
                return Ok(put);
            }
        };
        let number = field.number();
        Ok(Put { path, number, nulls: values.nulls(), omits_default: false, required: false, values: found })
    }

    /// One value of the field's type, even where the field is repeated.
    fn single(field: &FieldDescriptor, column: &'a Field, values: &'a ArrayRef, path: String) -> Result<Put<'a>> {
        use DataType as D;
        let refused = || unfit(field, column, &path);
        let found = match (field.kind(), column.data_type()) {
            (Kind::Bool, D::Boolean) => Values::Boolean(values.as_boolean()),
            (Kind::Float, D::Float32) => Values::F32(values.as_primitive::<Float32Type>().values()),
            (Kind::Double, D::Float64) => Values::F64(values.as_primitive::<Float64Type>().values()),
            (Kind::String, D::Utf8) => Values::Text(values.as_string::<i32>()),
            (Kind::Bytes, D::Binary) => Values::Bytes(values.as_binary::<i32>()),
            (Kind::Enum(of), D::Utf8) => Values::Symbol(values.as_string::<i32>(), of),
            (Kind::Enum(of), D::Int8 | D::Int16 | D::Int32 | D::Int64) => {
                Values::EnumNumber(Whole::of(values).ok_or_else(refused)?, of)
            }
            (Kind::Message(inner), D::Struct(fields)) => {
                let columns = values.as_struct().columns();
                Values::Message(Message::of(&inner, fields, columns, &format!("{path}."))?)
            }
            (Kind::Message(inner), D::Timestamp(unit, _)) if inner.full_name() == super::plan::TIMESTAMP => {
                let parts = match unit {
                    TimeUnit::Second => values.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => values.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => values.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => values.as_primitive::<TimestampNanosecondType>().values(),
                };
                Values::Timestamp(parts, per_second(*unit))
            }
            (Kind::Message(inner), _) => {
                let Some(value) = wrapped(&inner) else { return Err(refused()) };
                let mut put = Put::single(&value, column, values, path.clone()).map_err(|_| refused())?;
                put.omits_default = true;
                Values::Wrapped(Box::new(put))
            }
            (kind, of) => match (Number::of(&kind), Whole::of(values)) {
                (Some(number), Some(whole)) if holds(number, of) => Values::Number(number, whole),
                _ => return Err(refused()),
            },
        };
        let number = field.number();
        Ok(Put { path, number, nulls: values.nulls(), omits_default: false, required: false, values: found })
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|n| n.is_null(row))
    }

    /// Writes the field with its tag, or nothing where it is absent.
    fn write(&self, row: usize, literal: Option<&str>, out: &mut Vec<u8>) -> Done {
        if self.is_null(row) {
            return match self.required {
                true => Err(Unfit(format!("column `{}` is NULL, and its field is required", self.path))),
                false => Ok(()),
            };
        }
        match &self.values {
            Values::List { ends, packed, items } => {
                let range = ends[row] as usize..ends[row + 1] as usize;
                if *packed {
                    if range.is_empty() {
                        return Ok(());
                    }
                    put_tag(self.number, Wire::Counted, out);
                    return put_within(out, |out| {
                        range.into_iter().try_for_each(|n| items.write_item(n, literal, out))
                    });
                }
                for n in range {
                    put_tag(self.number, items.wire(), out);
                    items.write_item(n, literal, out)?;
                }
            }
            Values::Map(ends, pair) => {
                let [key, value] = pair.as_ref();
                for n in ends[row] as usize..ends[row + 1] as usize {
                    put_tag(self.number, Wire::Counted, out);
                    put_within(out, |out| {
                        put_tag(1, key.wire(), out);
                        key.write_item(n, None, out)?;
                        put_tag(2, value.wire(), out);
                        value.write_item(n, literal, out)
                    })?;
                }
            }
            _ if self.omits_default && self.is_default(row) => {}
            _ => {
                put_tag(self.number, self.wire(), out);
                self.write_value(row, literal, out)?;
            }
        }
        Ok(())
    }

    /// Writes an item of a list, or a key or value of a map, without a tag.
    fn write_item(&self, row: usize, literal: Option<&str>, out: &mut Vec<u8>) -> Done {
        if !self.is_null(row) {
            return self.write_value(row, literal, out);
        }
        let Some(literal) = literal else {
            return Err(Unfit(format!(
                "column `{}` is NULL, and neither a repeated field nor a map can hold one; with \
                 'protobuf.write-null-string-literal' the text given there, or the default of another type, is written instead",
                self.path
            )));
        };
        match &self.values {
            Values::Text(_) => put_counted(literal.as_bytes(), out),
            Values::EnumNumber(_, of) | Values::Symbol(_, of) => {
                put_varint(i64::from(of.default_value().number()) as u64, out);
            }
            _ => match self.wire() {
                Wire::Fixed32 => out.extend_from_slice(&[0; 4]),
                Wire::Fixed64 => out.extend_from_slice(&[0; 8]),
                // The number 0, or the length of nothing.
                _ => out.push(0),
            },
        }
        Ok(())
    }

    fn wire(&self) -> Wire {
        match &self.values {
            Values::Boolean(_) | Values::Symbol(..) | Values::EnumNumber(..) => Wire::Varint,
            Values::Number(number, _) => number.wire(),
            Values::F32(_) => Wire::Fixed32,
            Values::F64(_) => Wire::Fixed64,
            _ => Wire::Counted,
        }
    }

    fn is_default(&self, row: usize) -> bool {
        match &self.values {
            Values::Boolean(v) => !v.value(row),
            Values::Number(_, v) | Values::EnumNumber(v, _) => v.get(row) == 0,
            // Not -0.0, which is another value.
            Values::F32(v) => v[row].to_bits() == 0,
            Values::F64(v) => v[row].to_bits() == 0,
            Values::Text(v) => v.value(row).is_empty(),
            Values::Bytes(v) => v.value(row).is_empty(),
            Values::Symbol(v, of) => of.get_value_by_name(v.value(row)).is_some_and(|v| v.number() == 0),
            _ => false,
        }
    }

    fn write_value(&self, row: usize, literal: Option<&str>, out: &mut Vec<u8>) -> Done {
        match &self.values {
            Values::Boolean(v) => out.push(u8::from(v.value(row))),
            Values::Number(number, v) => self.write_number(*number, v.get(row), out)?,
            Values::F32(v) => out.extend_from_slice(&v[row].to_le_bytes()),
            Values::F64(v) => out.extend_from_slice(&v[row].to_le_bytes()),
            Values::Text(v) => put_counted(v.value(row).as_bytes(), out),
            Values::Bytes(v) => put_counted(v.value(row), out),
            Values::Symbol(v, of) => {
                let text = v.value(row);
                let open = of.parent_file().syntax() == Syntax::Proto3;
                let number = match of.get_value_by_name(text) {
                    Some(value) => value.number(),
                    None => text.parse().ok().filter(|_| open).ok_or_else(|| self.no_symbol(text, of))?,
                };
                put_varint(i64::from(number) as u64, out);
            }
            Values::EnumNumber(v, of) => {
                let number = i32::try_from(v.get(row)).ok();
                let open = of.parent_file().syntax() == Syntax::Proto3;
                let number = number.filter(|n| open || of.get_value(*n).is_some());
                let number = number.ok_or_else(|| self.no_symbol(&v.get(row).to_string(), of))?;
                put_varint(i64::from(number) as u64, out);
            }
            Values::Timestamp(v, per_second) => {
                let (seconds, part) = (v[row].div_euclid(*per_second), v[row].rem_euclid(*per_second));
                put_within(out, |out| {
                    for (number, value) in [(1, seconds), (2, part * (1_000_000_000 / per_second))] {
                        if value != 0 {
                            put_tag(number, Wire::Varint, out);
                            put_varint(value as u64, out);
                        }
                    }
                    Ok(())
                })?;
            }
            Values::Wrapped(inner) => put_within(out, |out| inner.write(row, literal, out))?,
            Values::Message(message) => put_within(out, |out| message.write(row, literal, out))?,
            Values::List { .. } | Values::Map(..) => self.write(row, literal, out)?,
        }
        Ok(())
    }

    fn no_symbol(&self, found: &str, of: &EnumDescriptor) -> Unfit {
        Unfit(format!("column `{}` holds `{found}`, which the enum {} does not have", self.path, of.full_name()))
    }

    #[inline]
    fn write_number(&self, number: Number, value: i128, out: &mut Vec<u8>) -> Done {
        let fits = match (number.long(), number.unsigned()) {
            (false, false) => i32::try_from(value).is_ok(),
            (false, true) => u32::try_from(value).is_ok(),
            (true, false) => i64::try_from(value).is_ok(),
            (true, true) => u64::try_from(value).is_ok(),
        };
        if !fits {
            let kind = format!("{number:?}").to_lowercase();
            return Err(Unfit(format!("column `{}` holds {value}, which no {kind} can be", self.path)));
        }
        let bits = value as u64;
        match number {
            Number::Fixed32 | Number::Sfixed32 => out.extend_from_slice(&(bits as u32).to_le_bytes()),
            Number::Fixed64 | Number::Sfixed64 => out.extend_from_slice(&bits.to_le_bytes()),
            Number::Sint32 | Number::Sint64 => {
                let value = bits as i64;
                put_varint(((value << 1) ^ (value >> 63)) as u64, out);
            }
            _ => put_varint(bits, out),
        }
        Ok(())
    }
}
