//! How the fields of a message and the columns of a table go together: made once, before the first record.
//!
//! ```text
//!  descriptor × columns ─▶ Message: number of a field ─▶ column it goes to ─▶ how its bits are read
//! ```
//!
//! Columns go by the fields' names. A message may refer to itself; the columns do not, and a plan is as deep as they are.

use super::wire::{Wire, zigzag};
use crate::types::sql_type;
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result};
use prost_reflect::{Cardinality, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor, Syntax, Value};
use std::sync::Arc;

/// Numbers up to this one are looked up in a table, greater ones searched for.
const DENSE_NUMBERS: u32 = 256;

/// What is done with fields that a message does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    /// It is an error.
    Refused,
    /// The column is NULL: the message is that of another time.
    Null,
}

/// The rules that options set.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    pub missing: Missing,
    /// Whether what is absent is its default, and not NULL.
    pub defaults: bool,
}

/// A message whose fields become columns.
#[derive(Debug)]
pub(super) struct Message {
    pub name: String,
    /// The n-th is the index into `known` of the field with number n, or [`NOT_KNOWN`].
    dense: Vec<u16>,
    /// The others by their number.
    sparse: Vec<(u32, u16)>,
    known: Vec<Known>,
    /// One for each column.
    pub fields: Vec<FieldPlan>,
    /// Columns in it, those within others included.
    pub width: usize,
}

const NOT_KNOWN: u16 = u16::MAX;

/// A field that matters.
#[derive(Debug, Clone)]
pub(super) struct Known {
    /// The column it goes to.
    pub slot: Option<usize>,
    /// Columns that are absent where this field is there, since they are members of one oneof.
    pub others: Box<[usize]>,
}

/// How a field becomes a column.
#[derive(Debug)]
pub(super) struct FieldPlan {
    pub name: String,
    pub number: u32,
    pub shape: Shape,
    pub absent: Absent,
}

#[derive(Debug)]
pub(super) enum Shape {
    One(Read),
    List(Read),
    /// The key and the value, as fields of the message that an entry is.
    Map(Box<Message>),
    /// The message has no such field.
    Nothing,
}

/// What a column holds where its field is absent.
#[derive(Debug)]
pub(super) enum Absent {
    Null,
    /// This number, or the bytes.
    Value(u64, Vec<u8>),
    /// What a message without fields is; a list or a map without items.
    Empty,
    /// A record without it is none.
    Required,
}

#[derive(Debug)]
pub(super) enum Read {
    Bool,
    Number(Number),
    Float,
    Double,
    Text,
    Bytes,
    /// The name of the number.
    Symbol(Arc<Symbols>),
    /// The number itself.
    EnumNumber(Arc<Symbols>),
    Message(Box<Message>),
    /// `google.protobuf.Timestamp` in these parts of a second.
    Timestamp(i64),
    /// `google.protobuf.Int64Value` and its like: a message with one field, which is the value.
    Wrapped(Box<Message>),
}

/// The numbers and names of an enum.
#[derive(Debug)]
pub(super) struct Symbols {
    /// By number; where several names have one, the first that is declared.
    by_number: Vec<(i32, String)>,
    /// In proto2: a number that is not declared is as if it was not there.
    pub closed: bool,
}

impl Symbols {
    pub fn of(of: &EnumDescriptor) -> Symbols {
        let mut by_number: Vec<(i32, String)> = of.values().map(|v| (v.number(), v.name().to_owned())).collect();
        by_number.sort_by_key(|(number, _)| *number);
        by_number.dedup_by_key(|(number, _)| *number);
        Symbols { by_number, closed: of.parent_file().syntax() == Syntax::Proto2 }
    }

    #[inline]
    pub fn name(&self, number: i32) -> Option<&str> {
        let at = self.by_number.binary_search_by_key(&number, |(n, _)| *n).ok()?;
        Some(&self.by_number[at].1)
    }

    /// Whether a value of it is passed over.
    pub fn unknown(&self, bits: u64) -> bool {
        self.closed && self.name(bits as i32).is_none()
    }
}

/// Whole numbers, as they are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Number {
    Int32,
    Uint32,
    Sint32,
    Fixed32,
    Sfixed32,
    Int64,
    Uint64,
    Sint64,
    Fixed64,
    Sfixed64,
}

impl Number {
    pub fn of(kind: &Kind) -> Option<Number> {
        Some(match kind {
            Kind::Int32 => Number::Int32,
            Kind::Uint32 => Number::Uint32,
            Kind::Sint32 => Number::Sint32,
            Kind::Fixed32 => Number::Fixed32,
            Kind::Sfixed32 => Number::Sfixed32,
            Kind::Int64 => Number::Int64,
            Kind::Uint64 => Number::Uint64,
            Kind::Sint64 => Number::Sint64,
            Kind::Fixed64 => Number::Fixed64,
            Kind::Sfixed64 => Number::Sfixed64,
            _ => return None,
        })
    }

    pub fn wire(self) -> Wire {
        match self {
            Number::Fixed32 | Number::Sfixed32 => Wire::Fixed32,
            Number::Fixed64 | Number::Sfixed64 => Wire::Fixed64,
            _ => Wire::Varint,
        }
    }

    /// Whether it has 64 bits.
    pub fn long(self) -> bool {
        matches!(self, Number::Int64 | Number::Uint64 | Number::Sint64 | Number::Fixed64 | Number::Sfixed64)
    }

    pub fn unsigned(self) -> bool {
        matches!(self, Number::Uint32 | Number::Uint64 | Number::Fixed32 | Number::Fixed64)
    }

    /// The value of these bits; of more than 32 the lower ones count where the type has no more. An error has what is too
    /// great for 63 bits.
    #[inline]
    pub fn value(self, bits: u64) -> std::result::Result<i64, u64> {
        match self {
            Number::Int32 | Number::Sfixed32 => Ok(i64::from(bits as i32)),
            Number::Uint32 | Number::Fixed32 => Ok(i64::from(bits as u32)),
            Number::Sint32 => Ok(zigzag(bits & 0xffff_ffff)),
            Number::Int64 | Number::Sfixed64 => Ok(bits as i64),
            Number::Sint64 => Ok(zigzag(bits)),
            Number::Uint64 | Number::Fixed64 => i64::try_from(bits).map_err(|_| bits),
        }
    }

    fn bits(self, value: i64) -> u64 {
        match self {
            Number::Sint32 | Number::Sint64 => ((value << 1) ^ (value >> 63)) as u64,
            _ => value as u64,
        }
    }
}

impl Read {
    /// How its bytes are found; items of a list may also be packed.
    pub fn wire(&self) -> Wire {
        match self {
            Read::Bool | Read::Symbol(_) | Read::EnumNumber(_) => Wire::Varint,
            Read::Number(number) => number.wire(),
            Read::Float => Wire::Fixed32,
            Read::Double => Wire::Fixed64,
            _ => Wire::Counted,
        }
    }

    /// Whether these bits are as if they were not there.
    #[inline]
    pub fn passed_over(&self, bits: u64) -> bool {
        match self {
            Read::Symbol(symbols) | Read::EnumNumber(symbols) => symbols.unknown(bits),
            _ => false,
        }
    }
}

impl Message {
    pub fn of(message: &MessageDescriptor, columns: &Fields, within: &str, rules: Rules) -> Result<Message> {
        let fields =
            columns.iter().map(|column| FieldPlan::of(message, column, within, rules)).collect::<Result<_>>()?;
        Ok(Message::with(message, fields))
    }

    fn with(message: &MessageDescriptor, fields: Vec<FieldPlan>) -> Message {
        let slot = |number: u32| fields.iter().position(|f| f.number == number && !matches!(f.shape, Shape::Nothing));
        let (mut dense, mut sparse, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for field in message.fields() {
            let own = slot(field.number());
            let oneof = field.containing_oneof();
            let others: Box<[usize]> = oneof
                .iter()
                .flat_map(|o| o.fields().map(|f| f.number()).collect::<Vec<_>>())
                .filter(|number| *number != field.number())
                .filter_map(slot)
                .collect();
            if own.is_none() && others.is_empty() {
                continue;
            }
            let Ok(at) = u16::try_from(known.len()) else { continue };
            known.push(Known { slot: own, others });
            if field.number() < DENSE_NUMBERS {
                let number = field.number() as usize;
                if dense.len() <= number {
                    dense.resize(number + 1, NOT_KNOWN);
                }
                dense[number] = at;
            } else {
                sparse.push((field.number(), at));
            }
        }
        sparse.sort_unstable();
        let width = fields.iter().map(FieldPlan::width).sum();
        Message { name: message.full_name().to_owned(), dense, sparse, known, fields, width }
    }

    /// What is to be done with the field of this number; `None`: it is passed over.
    #[inline]
    pub fn known(&self, number: u32) -> Option<&Known> {
        let at = match self.dense.get(number as usize) {
            Some(at) => *at,
            None if self.sparse.is_empty() => return None,
            None => self.sparse[self.sparse.binary_search_by_key(&number, |(n, _)| *n).ok()?].1,
        };
        self.known.get(at as usize)
    }
}

impl FieldPlan {
    fn width(&self) -> usize {
        1 + match &self.shape {
            Shape::One(Read::Message(inner)) => inner.width,
            _ => 0,
        }
    }

    fn of(message: &MessageDescriptor, column: &FieldRef, within: &str, rules: Rules) -> Result<FieldPlan> {
        let name = column.name();
        let path = format!("{within}{name}");
        let Some(field) = message.get_field_by_name(name) else {
            if rules.missing == Missing::Null {
                return Ok(FieldPlan { name: name.clone(), number: 0, shape: Shape::Nothing, absent: Absent::Null });
            }
            return Err(no_field(message, name, &path));
        };
        let shape = shape(&field, column, &path, rules)?;
        let absent = match &shape {
            _ if field.is_required() => Absent::Required,
            // What may not be NULL is there without items.
            Shape::List(_) | Shape::Map(_) if rules.defaults || !column.is_nullable() => Absent::Empty,
            Shape::List(_) | Shape::Map(_) => Absent::Null,
            Shape::One(Read::Message(_) | Read::Timestamp(_) | Read::Wrapped(_)) if rules.defaults => Absent::Empty,
            Shape::One(_) if matches!(field.kind(), Kind::Message(_)) => Absent::Null,
            // A field of proto3 that is not `optional` is never absent: its default is not written.
            Shape::One(_) if rules.defaults || !field.supports_presence() => default_of(&field),
            _ => Absent::Null,
        };
        Ok(FieldPlan { name: name.clone(), number: field.number(), shape, absent })
    }
}

/// That the message has no field for a column.
pub(super) fn no_field(message: &MessageDescriptor, name: &str, path: &str) -> Error {
    let names: Vec<String> = message.fields().map(|f| f.name().to_owned()).collect();
    let guess = did_you_mean(name, names.iter().map(String::as_str));
    let remedy = match guess {
        Some(guess) => format!("did you mean `{guess}`? Columns have the names of fields"),
        None => format!("columns have the names of fields: {}", names.join(", ")),
    };
    Error::sql(format!("the message {} has no field `{name}` for the column `{path}`", message.full_name()))
        .remedy(remedy)
}

fn shape(field: &FieldDescriptor, column: &FieldRef, path: &str, rules: Rules) -> Result<Shape> {
    if field.is_group() {
        return Err(Error::sql(format!(
            "column `{path}` is a group in {}, and groups are passed over",
            field.parent_message().full_name()
        ))
        .remedy("leave the column out"));
    }
    match column.data_type() {
        DataType::Map(entries, _) if field.is_map() => {
            let Kind::Message(entry) = field.kind() else { return Err(unfit(field, column, path)) };
            let DataType::Struct(pair) = entries.data_type() else { return Err(unfit(field, column, path)) };
            let [key, value] = &pair[..] else { return Err(unfit(field, column, path)) };
            let plan = |field: FieldDescriptor, column: &FieldRef, what: &str| -> Result<FieldPlan> {
                let path = format!("{path}{what}");
                let read = read(&field, column, &path, rules)?;
                // An entry without its value has the default one.
                let absent = match &read {
                    Read::Message(_) | Read::Timestamp(_) | Read::Wrapped(_) => Absent::Empty,
                    _ => default_of(&field),
                };
                let name = column.name().clone();
                Ok(FieldPlan { name, number: field.number(), shape: Shape::One(read), absent })
            };
            let key = plan(entry.map_entry_key_field(), key, "{key}")?;
            let value = plan(entry.map_entry_value_field(), value, "{}")?;
            Ok(Shape::Map(Box::new(Message::with(&entry, vec![key, value]))))
        }
        DataType::List(item) if field.is_list() => read(field, item, &format!("{path}[]"), rules).map(Shape::List),
        _ if field.is_map() || field.is_list() => Err(unfit(field, column, path)),
        _ => read(field, column, path, rules).map(Shape::One),
    }
}

fn read(field: &FieldDescriptor, column: &FieldRef, path: &str, rules: Rules) -> Result<Read> {
    use DataType as D;
    let of = column.data_type();
    if let Some(number) = Number::of(&field.kind()) {
        return match holds(number, of) {
            true => Ok(Read::Number(number)),
            false => Err(unfit(field, column, path)),
        };
    }
    Ok(match (field.kind(), of) {
        (Kind::Bool, D::Boolean) => Read::Bool,
        (Kind::Float, D::Float32 | D::Float64) => Read::Float,
        (Kind::Double, D::Float64) => Read::Double,
        (Kind::String, D::Utf8) => Read::Text,
        (Kind::Bytes, D::Binary) => Read::Bytes,
        (Kind::Enum(of), D::Utf8) => Read::Symbol(Arc::new(Symbols::of(&of))),
        (Kind::Enum(of), D::Int8 | D::Int16 | D::Int32 | D::Int64) => Read::EnumNumber(Arc::new(Symbols::of(&of))),
        (Kind::Message(inner), D::Struct(fields)) => {
            Read::Message(Box::new(Message::of(&inner, fields, &format!("{path}."), rules)?))
        }
        (Kind::Message(inner), D::Timestamp(unit, _)) if inner.full_name() == TIMESTAMP => {
            Read::Timestamp(per_second(*unit))
        }
        (Kind::Message(inner), _) if wrapped(&inner).is_some() => {
            let value = wrapped(&inner).expect("looked at");
            let Ok(read) = read(&value, column, path, rules) else { return Err(unfit(field, column, path)) };
            let plan = FieldPlan {
                name: value.name().to_owned(),
                number: value.number(),
                shape: Shape::One(read),
                absent: default_of(&value),
            };
            Read::Wrapped(Box::new(Message::with(&inner, vec![plan])))
        }
        _ => return Err(unfit(field, column, path)),
    })
}

pub(super) const TIMESTAMP: &str = "google.protobuf.Timestamp";

pub(super) fn per_second(unit: arrow::datatypes::TimeUnit) -> i64 {
    use arrow::datatypes::TimeUnit::*;
    match unit {
        Second => 1,
        Millisecond => 1_000,
        Microsecond => 1_000_000,
        Nanosecond => 1_000_000_000,
    }
}

/// The one field of a message that is there so that a number or a text may be absent.
pub(super) fn wrapped(message: &MessageDescriptor) -> Option<FieldDescriptor> {
    const WRAPPERS: [&str; 9] = ["Double", "Float", "Int64", "UInt64", "Int32", "UInt32", "Bool", "String", "Bytes"];
    let name = message.full_name().strip_prefix("google.protobuf.")?.strip_suffix("Value")?;
    WRAPPERS.contains(&name).then(|| message.get_field_by_name("value")).flatten()
}

/// Digits of the greatest number of 64 bits.
const LONG_DIGITS: u8 = 20;

/// Whether a column is for numbers of this type. Of a narrower one each value is looked at.
pub(super) fn holds(number: Number, of: &DataType) -> bool {
    match of {
        DataType::Int8 | DataType::Int16 | DataType::Int32 => !number.long(),
        DataType::Int64 => true,
        DataType::Decimal128(precision, 0) => *precision >= LONG_DIGITS,
        _ => false,
    }
}

fn default_of(field: &FieldDescriptor) -> Absent {
    match field.default_value() {
        Value::Bool(v) => Absent::Value(u64::from(v), Vec::new()),
        Value::I32(v) => {
            let bits = Number::of(&field.kind()).map_or(v as u64, |n| n.bits(i64::from(v)));
            Absent::Value(bits, Vec::new())
        }
        Value::I64(v) => Absent::Value(Number::of(&field.kind()).map_or(v as u64, |n| n.bits(v)), Vec::new()),
        Value::U32(v) => Absent::Value(u64::from(v), Vec::new()),
        Value::U64(v) => Absent::Value(v, Vec::new()),
        Value::F32(v) => Absent::Value(u64::from(v.to_bits()), Vec::new()),
        Value::F64(v) => Absent::Value(v.to_bits(), Vec::new()),
        Value::EnumNumber(v) => Absent::Value(v as u64, Vec::new()),
        Value::String(v) => Absent::Value(0, v.into_bytes()),
        Value::Bytes(v) => Absent::Value(0, v.to_vec()),
        Value::Message(_) | Value::List(_) | Value::Map(_) => Absent::Empty,
    }
}

/// The column that fits a field, as SQL writes it.
pub(super) fn column_for(field: &FieldDescriptor) -> String {
    let one = |field: &FieldDescriptor| match field.kind() {
        Kind::Bool => "BOOLEAN".to_owned(),
        Kind::Float => "FLOAT".into(),
        Kind::Double => "DOUBLE".into(),
        Kind::String => "STRING".into(),
        Kind::Bytes => "BYTES".into(),
        Kind::Enum(_) => "STRING or INT".into(),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => "INT".into(),
        Kind::Uint32 | Kind::Fixed32 => "BIGINT".into(),
        Kind::Uint64 | Kind::Fixed64 => "BIGINT or DECIMAL(20, 0)".into(),
        Kind::Message(m) if m.full_name() == TIMESTAMP => {
            "TIMESTAMP(3), TIMESTAMP_LTZ(3) or ROW<seconds BIGINT, nanos INT>".into()
        }
        Kind::Message(m) => format!("ROW<…> with fields of {}", m.full_name()),
        _ => "BIGINT".into(),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            format!("MAP<{}, {}>", one(&entry.map_entry_key_field()), one(&entry.map_entry_value_field()))
        }
        _ if field.is_list() => format!("ARRAY<{}>", one(field)),
        _ => one(field),
    }
}

/// The type of a field, as its file writes it.
pub(super) fn described(field: &FieldDescriptor) -> String {
    let one = |field: &FieldDescriptor| match field.kind() {
        Kind::Message(m) => m.full_name().to_owned(),
        Kind::Enum(e) => format!("enum {}", e.full_name()),
        scalar => format!("{scalar:?}").to_lowercase(),
    };
    match field.kind() {
        Kind::Message(entry) if field.is_map() => {
            format!("map<{}, {}>", one(&entry.map_entry_key_field()), one(&entry.map_entry_value_field()))
        }
        _ if field.cardinality() == Cardinality::Repeated => format!("repeated {}", one(field)),
        _ => one(field),
    }
}

pub(super) fn unfit(field: &FieldDescriptor, column: &Field, path: &str) -> Error {
    Error::sql(format!(
        "column `{path}` is {}, and the field `{}` of {} is {}",
        sql_type(column.data_type()),
        field.name(),
        field.parent_message().full_name(),
        described(field)
    ))
    .remedy(format!("declare it {}", column_for(field)))
}
