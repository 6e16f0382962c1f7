//! How values of the schema they were written with become columns of the table: settled once for each schema.
//!
//! ```text
//!  writer's record   id long, note string, tags array<string>
//!                     │         ╳ passed over   │
//!  columns           id BIGINT    added INT   tags ARRAY<STRING>
//!                                  └ in the reader's schema alone: its default; in neither: NULL
//! ```
//!
//! As Avro resolves schemas, with the table's columns in the reader's place: fields go by name, or by an alias of the reader's
//! schema where one is given; numbers may widen; `string` and `bytes` are the same bytes. Names of records do not count, since
//! a table has none. Beyond that an `enum` is a STRING, a `fixed` is BYTES, and times and decimals become the declared ones by what
//! their logical types say. Every disagreement is a sentence with both types in it.

use super::schema::{Field as AvroField, Kind, Logical, NodeId, Schema};
use super::wire::{put_counted, put_long};
use crate::types::sql_type;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::Value;
use std::sync::Arc;

/// How one value is read into its column.
#[derive(Debug, Clone)]
pub(super) enum Read {
    /// It is no bytes, and NULL.
    Null,
    Boolean,
    Int,
    Long,
    /// A time: the number times the first, or divided by the second.
    Time {
        multiply: i64,
        divide: i64,
    },
    Float,
    Double,
    /// `text`: it has to be UTF-8.
    Counted {
        text: bool,
    },
    Fixed {
        size: usize,
        text: bool,
    },
    Enum(Arc<[String]>),
    /// `size`: of a fixed. The unscaled value is multiplied to have the declared scale.
    Decimal {
        size: Option<usize>,
        multiply: i128,
        below: i128,
    },
    List(Box<Read>),
    Map(Box<Read>),
    Record(ReadRecord),
    Union(Vec<Branch>),
}

#[derive(Debug, Clone)]
pub(super) enum Branch {
    Read(Read),
    /// A value of this branch cannot stand in the column, and why.
    Unfit(NodeId, String),
}

#[derive(Debug, Clone)]
pub(super) struct ReadRecord {
    /// The writer's fields in their order.
    pub steps: Vec<Step>,
    /// Columns that the writer does not have.
    pub absent: Vec<Absent>,
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Read(usize, Read),
    Skip(NodeId),
}

#[derive(Debug, Clone)]
pub(super) struct Absent {
    pub column: usize,
    /// `None`: NULL.
    pub default: Option<FieldDefault>,
}

/// A default as bytes, and how they are read.
#[derive(Debug, Clone)]
pub(super) struct FieldDefault {
    pub bytes: Arc<[u8]>,
    pub read: Box<Read>,
    pub schema: Arc<Schema>,
}

/// How records of `writer` become rows of `columns`.
pub(super) fn record(writer: &Schema, reader: Option<&Arc<Schema>>, columns: &Fields) -> Result<ReadRecord, String> {
    let Some(fields) = writer.fields(writer.value_of(writer.root)) else {
        return Err(format!("the schema is {}, and a row is a record", writer.describe(writer.root)));
    };
    if let Kind::Union(_) = writer.node(writer.root).kind {
        return Err(format!("the schema is {}, and a row is a record and no union", writer.describe(writer.root)));
    }
    let resolver = Resolver { writer, reader };
    resolver.record(fields, reader.map(|r| r.value_of(r.root)), columns, "")
}

struct Resolver<'a> {
    writer: &'a Schema,
    reader: Option<&'a Arc<Schema>>,
}

impl Resolver<'_> {
    /// `within`: what stands before the names in messages.
    fn record(
        &self,
        written: &[AvroField],
        reader: Option<NodeId>,
        columns: &Fields,
        within: &str,
    ) -> Result<ReadRecord, String> {
        let reader_fields = match (self.reader, reader) {
            (Some(schema), Some(id)) => schema.fields(id),
            _ => None,
        };
        let of_reader = |column: &Field| reader_fields.and_then(|f| f.iter().find(|f| f.name == *column.name()));
        // By their names first, so that an alias takes no field that a column is named after.
        let mut taken: Vec<Option<usize>> =
            written.iter().map(|f| columns.iter().position(|c| *c.name() == f.name)).collect();
        for (column, field) in columns.iter().enumerate() {
            if taken.contains(&Some(column)) {
                continue;
            }
            let alias = of_reader(field).and_then(|f| {
                written.iter().enumerate().position(|(n, w)| taken[n].is_none() && f.aliases.contains(&w.name))
            });
            // A field that was renamed still says what it was called.
            let renamed =
                || written.iter().enumerate().position(|(n, w)| taken[n].is_none() && w.aliases.contains(field.name()));
            if let Some(n) = alias.or_else(renamed) {
                taken[n] = Some(column);
            }
        }
        let mut steps = Vec::with_capacity(written.len());
        for (field, column) in written.iter().zip(&taken) {
            steps.push(match column {
                None => Step::Skip(field.node),
                Some(column) => {
                    let declared = &columns[*column];
                    let path = format!("{within}{}", declared.name());
                    let reader = of_reader(declared).map(|f| f.node);
                    Step::Read(*column, self.value(field.node, reader, declared.data_type(), &path)?)
                }
            });
        }
        let mut absent = Vec::new();
        for (column, declared) in columns.iter().enumerate() {
            if taken.contains(&Some(column)) {
                continue;
            }
            let path = format!("{within}{}", declared.name());
            let default = match (of_reader(declared), self.reader) {
                (Some(AvroField { default: Some(value), node, .. }), Some(schema)) => {
                    let mut bytes = Vec::new();
                    put_default(schema, *node, value, &mut bytes, 0).map_err(|e| format!("field `{path}`: {e}"))?;
                    let own = Resolver { writer: schema, reader: None };
                    let read = own.value(*node, None, declared.data_type(), &path)?;
                    Some(FieldDefault { bytes: bytes.into(), read: Box::new(read), schema: schema.clone() })
                }
                _ if declared.is_nullable() => None,
                _ => {
                    return Err(format!(
                        "the field `{path}` is not in the schema the record was written with, it has no default, and the \
                         table declares it {} NOT NULL",
                        sql_type(declared.data_type())
                    ));
                }
            };
            absent.push(Absent { column, default });
        }
        Ok(ReadRecord { steps, absent })
    }

    fn value(&self, id: NodeId, reader: Option<NodeId>, declared: &DataType, path: &str) -> Result<Read, String> {
        let node = self.writer.node(id);
        let reader = match (self.reader, reader) {
            (Some(schema), Some(id)) => Some(schema.value_of(id)),
            _ => None,
        };
        let unfit = |why: &str| {
            Err(format!(
                "the field `{path}` was written as {}, the table declares {}{why}",
                self.writer.describe(id),
                sql_type(declared)
            ))
        };
        use DataType as D;
        Ok(match (&node.kind, declared) {
            (Kind::Union(branches), _) => {
                let mut read = Vec::with_capacity(branches.len());
                for &branch in branches {
                    read.push(match self.value(branch, reader, declared, path) {
                        Ok(one) => Branch::Read(one),
                        Err(why) => Branch::Unfit(branch, why),
                    });
                }
                let fits = |(b, id): (&Branch, &NodeId)| {
                    matches!(b, Branch::Read(_)) && self.writer.node(*id).kind != Kind::Null
                };
                if !read.iter().zip(branches).any(fits) {
                    let values = branches.iter().filter(|b| self.writer.node(**b).kind != Kind::Null).count();
                    match read.into_iter().zip(branches).find(|(b, _)| matches!(b, Branch::Unfit(..))) {
                        // Of a type that may be null, that type is what is wrong.
                        Some((Branch::Unfit(_, why), _)) if values == 1 => return Err(why),
                        Some(_) => return unfit(""),
                        None => return Ok(Read::Union(vec![Branch::Read(Read::Null); branches.len()])),
                    }
                }
                Read::Union(read)
            }
            (Kind::Null, _) => Read::Null,
            (Kind::Boolean, D::Boolean) => Read::Boolean,
            (Kind::Int, D::Int8 | D::Int16 | D::Int32 | D::Int64 | D::Float32 | D::Float64) => Read::Int,
            (Kind::Int, D::Date32) if matches!(node.logical, None | Some(Logical::Date)) => Read::Int,
            (Kind::Int | Kind::Long, D::Time32(to) | D::Time64(to)) => match node.logical {
                Some(Logical::Time(from)) => scaled(from, *to),
                None if node.kind == Kind::Int => scaled(TimeUnit::Millisecond, *to),
                _ => return unfit(""),
            },
            (Kind::Long, D::Timestamp(to, _)) => match node.logical {
                Some(Logical::Timestamp(from)) => scaled(from, *to),
                // As in Flink, a plain number counts milliseconds.
                None => scaled(TimeUnit::Millisecond, *to),
                _ => return unfit(""),
            },
            (Kind::Long, D::Int64 | D::Float32 | D::Float64) => Read::Long,
            (Kind::Long, D::Int8 | D::Int16 | D::Int32) => return unfit(": declare it BIGINT"),
            (Kind::Float, D::Float32 | D::Float64) => Read::Float,
            (Kind::Double, D::Float64) => Read::Double,
            (Kind::Double, D::Float32) => return unfit(": declare it DOUBLE"),
            (Kind::Bytes | Kind::Fixed { .. }, D::Decimal128(precision, scale)) => {
                let Some(Logical::Decimal { scale: from, .. }) = node.logical else { return unfit("") };
                let more = i64::from(*scale) - i64::from(from);
                let (Ok(more), true) = (u32::try_from(more), more <= 38) else {
                    return unfit(": digits behind the point would be lost");
                };
                let size = match node.kind {
                    Kind::Fixed { size, .. } => Some(size),
                    _ => None,
                };
                let below = 10i128.checked_pow(u32::from(*precision)).unwrap_or(i128::MAX);
                Read::Decimal { size, multiply: 10i128.pow(more), below }
            }
            (Kind::Bytes, D::Binary | D::Utf8) if node.logical.is_none() => {
                Read::Counted { text: *declared == D::Utf8 }
            }
            // What is text is UTF-8 already; as BYTES it is what it is.
            (Kind::String, D::Binary | D::Utf8) => Read::Counted { text: *declared == D::Utf8 },
            (Kind::Fixed { size, .. }, D::Binary | D::Utf8) if node.logical.is_none() => {
                Read::Fixed { size: *size, text: *declared == D::Utf8 }
            }
            (Kind::Enum { symbols, .. }, D::Utf8) => Read::Enum(symbols.clone().into()),
            (Kind::Array(item), D::List(field)) => {
                let reader = self.inner(reader, |k| if let Kind::Array(item) = k { Some(*item) } else { None });
                Read::List(Box::new(self.value(*item, reader, field.data_type(), &format!("{path}[]"))?))
            }
            (Kind::Map(value), D::Map(entries, _)) => {
                let D::Struct(pair) = entries.data_type() else { return unfit("") };
                let [key, to] = &pair[..] else { return unfit("") };
                if *key.data_type() != D::Utf8 {
                    return unfit(": keys of Avro's maps are STRING");
                }
                let reader = self.inner(reader, |k| if let Kind::Map(value) = k { Some(*value) } else { None });
                Read::Map(Box::new(self.value(*value, reader, to.data_type(), &format!("{path}[]"))?))
            }
            (Kind::Record { fields, .. }, D::Struct(columns)) => {
                Read::Record(self.record(fields, reader, columns, &format!("{path}."))?)
            }
            _ => return unfit(""),
        })
    }

    fn inner(&self, reader: Option<NodeId>, of: impl Fn(&Kind) -> Option<NodeId>) -> Option<NodeId> {
        self.reader.zip(reader).and_then(|(schema, id)| of(&schema.node(id).kind))
    }
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

fn scaled(from: TimeUnit, to: TimeUnit) -> Read {
    let (from, to) = (per_second(from), per_second(to));
    Read::Time { multiply: (to / from).max(1), divide: (from / to).max(1) }
}

/// How deep a default may be nested.
const DEFAULT_DEPTH_MAX: usize = 64;

/// A default value of a schema, from JSON to the bytes that it would have been written as.
fn put_default(schema: &Schema, id: NodeId, value: &Value, out: &mut Vec<u8>, depth: usize) -> Result<(), String> {
    let wrong = || format!("`{value}` is no default for {}", schema.describe(id));
    if depth > DEFAULT_DEPTH_MAX || out.len() > crate::RECORD_BYTES_MAX {
        return Err("its default is too large".into());
    }
    // Bytes are written with one character for each of them.
    let latin = |text: &str| text.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect::<Option<Vec<u8>>>();
    match &schema.node(id).kind {
        Kind::Null if value.is_null() => {}
        Kind::Boolean => out.push(u8::from(value.as_bool().ok_or_else(wrong)?)),
        Kind::Int => put_long(value.as_i64().filter(|v| i32::try_from(*v).is_ok()).ok_or_else(wrong)?, out),
        Kind::Long => put_long(value.as_i64().ok_or_else(wrong)?, out),
        Kind::Float => out.extend_from_slice(&(value.as_f64().ok_or_else(wrong)? as f32).to_le_bytes()),
        Kind::Double => out.extend_from_slice(&value.as_f64().ok_or_else(wrong)?.to_le_bytes()),
        Kind::String => put_counted(value.as_str().ok_or_else(wrong)?.as_bytes(), out),
        Kind::Bytes => put_counted(&value.as_str().and_then(latin).ok_or_else(wrong)?, out),
        Kind::Fixed { size, .. } => {
            let bytes = value.as_str().and_then(latin).filter(|b| b.len() == *size).ok_or_else(wrong)?;
            out.extend_from_slice(&bytes);
        }
        Kind::Enum { symbols, .. } => {
            let at = value.as_str().and_then(|s| symbols.iter().position(|symbol| symbol == s));
            put_long(at.ok_or_else(wrong)? as i64, out);
        }
        Kind::Union(branches) => {
            // Of the first type; newer versions of Avro let it be of any.
            let begin = out.len();
            for (n, branch) in branches.iter().enumerate() {
                put_long(n as i64, out);
                if put_default(schema, *branch, value, out, depth + 1).is_ok() {
                    return Ok(());
                }
                out.truncate(begin);
            }
            return Err(wrong());
        }
        Kind::Array(item) => {
            let items = value.as_array().ok_or_else(wrong)?;
            if !items.is_empty() {
                put_long(items.len() as i64, out);
                items.iter().try_for_each(|v| put_default(schema, *item, v, out, depth + 1))?;
            }
            put_long(0, out);
        }
        Kind::Map(item) => {
            let entries = value.as_object().ok_or_else(wrong)?;
            if !entries.is_empty() {
                put_long(entries.len() as i64, out);
                for (key, v) in entries {
                    put_counted(key.as_bytes(), out);
                    put_default(schema, *item, v, out, depth + 1)?;
                }
            }
            put_long(0, out);
        }
        Kind::Record { fields, .. } => {
            for field in fields {
                let given = value.as_object().ok_or_else(wrong)?.get(&field.name).or(field.default.as_ref());
                put_default(schema, field.node, given.ok_or_else(wrong)?, out, depth + 1)?;
            }
        }
        Kind::Null => return Err(wrong()),
    }
    Ok(())
}
