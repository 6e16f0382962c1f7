//! What a record says beside its rows: when and where they changed.

use super::{ChangeFormat, ChangeOptions};
use crate::OnBadRow;
use crate::json::JsonDecoder;
use crate::options::JsonOptions;
use crate::records::{RECORDS_MAX, RecordDecoder};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::{DataType, Field, Fields, Schema, TimeUnit};
use millstream_core::metadata::ltz_millis;
use millstream_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Numbers of envelopes that cannot be read, and why.
pub type Faults = Vec<(usize, String)>;

/// A key, the way to its value in the envelope, and how that becomes a column.
struct Key {
    name: &'static str,
    path: &'static [&'static str],
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Text,
    Millis,
    /// Seconds since 1970, as Maxwell counts.
    Seconds,
    Texts,
    TextMap,
    NumberMap,
}

const DEBEZIUM: &[Key] = &[
    Key { name: "ingestion-timestamp", path: &["ts_ms"], kind: Kind::Millis },
    Key { name: "source.timestamp", path: &["source", "ts_ms"], kind: Kind::Millis },
    Key { name: "source.database", path: &["source", "db"], kind: Kind::Text },
    Key { name: "source.schema", path: &["source", "schema"], kind: Kind::Text },
    Key { name: "source.table", path: &["source", "table"], kind: Kind::Text },
    Key { name: "source.properties", path: &["source"], kind: Kind::TextMap },
];
const MAXWELL: &[Key] = &[
    Key { name: "database", path: &["database"], kind: Kind::Text },
    Key { name: "table", path: &["table"], kind: Kind::Text },
    Key { name: "primary-key-columns", path: &["primary_key_columns"], kind: Kind::Texts },
    Key { name: "ingestion-timestamp", path: &["ts"], kind: Kind::Seconds },
];
const CANAL: &[Key] = &[
    Key { name: "database", path: &["database"], kind: Kind::Text },
    Key { name: "table", path: &["table"], kind: Kind::Text },
    Key { name: "sql-type", path: &["sqlType"], kind: Kind::NumberMap },
    Key { name: "pk-names", path: &["pkNames"], kind: Kind::Texts },
    Key { name: "ingestion-timestamp", path: &["ts"], kind: Kind::Millis },
    Key { name: "event-timestamp", path: &["es"], kind: Kind::Millis },
];

fn keys(format: ChangeFormat) -> &'static [Key] {
    match format {
        ChangeFormat::Debezium => DEBEZIUM,
        ChangeFormat::Maxwell => MAXWELL,
        ChangeFormat::Canal => CANAL,
    }
}

impl Kind {
    fn data_type(self) -> DataType {
        let map = |value: DataType| {
            let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
            DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
        };
        match self {
            Kind::Text => DataType::Utf8,
            Kind::Millis | Kind::Seconds => ltz_millis(),
            Kind::Texts => DataType::List(Arc::new(Field::new("item", DataType::Utf8, true))),
            Kind::TextMap => map(DataType::Utf8),
            Kind::NumberMap => map(DataType::Int32),
        }
    }

    /// How it stands in the record.
    fn read_as(self, declared: &DataType) -> DataType {
        match self {
            Kind::Millis | Kind::Seconds => DataType::Int64,
            _ => declared.clone(),
        }
    }

    fn fits(self, declared: &DataType) -> bool {
        match (self, declared) {
            (Kind::Millis | Kind::Seconds, DataType::Timestamp(unit, Some(_))) => *unit != TimeUnit::Second,
            (_, declared) => same_but_for_names(&self.data_type(), declared),
        }
    }
}

fn same_but_for_names(a: &DataType, b: &DataType) -> bool {
    match (a, b) {
        (DataType::List(a), DataType::List(b)) => same_but_for_names(a.data_type(), b.data_type()),
        (DataType::Map(a, _), DataType::Map(b, _)) => same_but_for_names(a.data_type(), b.data_type()),
        (DataType::Struct(a), DataType::Struct(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_but_for_names(a.data_type(), b.data_type()))
        }
        (a, b) => a == b,
    }
}

/// All keys of a format, with their types.
pub fn fields(format: ChangeFormat) -> Vec<Field> {
    keys(format).iter().map(|key| Field::new(key.name, key.kind.data_type(), true)).collect()
}

/// What Debezium's envelopes say in Avro: all but what has no type that is known beforehand.
pub fn typed_fields() -> Vec<Field> {
    let typed = DEBEZIUM.iter().filter(|key| !is_whole_of_parts(key));
    typed.map(|key| Field::new(key.name, key.kind.data_type(), true)).collect()
}

/// Which of it is asked for, and what of an envelope has to be read for that.
pub struct Wanted {
    columns: Vec<(&'static Key, Field)>,
    /// The members of the envelope that are read, and the columns that they are read as.
    roots: Vec<&'static str>,
    read: Vec<Field>,
}

/// Reads such columns out of JSON.
pub struct Beside {
    decoder: JsonDecoder,
    wanted: Wanted,
}

impl Wanted {
    /// Of envelopes in Avro; see [`typed_fields`].
    pub fn typed(format: &str, wanted: &[(String, Field)]) -> Result<Wanted> {
        Wanted::new(DEBEZIUM.iter().filter(|key| !is_whole_of_parts(key)).collect(), format, wanted)
    }

    fn new(keys: Vec<&'static Key>, format: &str, wanted: &[(String, Field)]) -> Result<Wanted> {
        let mut columns: Vec<(&'static Key, Field)> = Vec::new();
        for (name, field) in wanted {
            let Some(key) = keys.iter().copied().find(|key| key.name == name) else {
                let known: Vec<&str> = keys.iter().map(|key| key.name).collect();
                return Err(Error::sql(format!("'{format}' has no metadata '{name}'"))
                    .remedy(format!("there are {}", known.join(", "))));
            };
            if !key.kind.fits(field.data_type()) {
                let fits = crate::types::sql_type(&key.kind.data_type());
                return Err(Error::sql(format!("column `{}` cannot hold the metadata '{name}'", field.name()))
                    .remedy(format!("declare it {fits}")));
            }
            columns.push((key, field.clone()));
        }
        // A member with parts is read once, as a ROW of those that are asked for; what is asked for as a whole is a MAP, under a
        // member of its own.
        let mut roots: Vec<&'static str> = Vec::new();
        let mut fields: Vec<Field> = Vec::new();
        let all = columns.iter().filter(|(key, _)| !is_whole_of_parts(key));
        for (key, field) in all {
            let leaf = Field::new(key.path[key.path.len() - 1], key.kind.read_as(field.data_type()), true);
            match key.path {
                [root] if !roots.contains(root) => {
                    roots.push(root);
                    fields.push(leaf);
                }
                [root, _] => {
                    let at = roots.iter().position(|r| r == root).unwrap_or_else(|| {
                        roots.push(root);
                        fields.push(Field::new(*root, DataType::Struct(Fields::empty()), true));
                        roots.len() - 1
                    });
                    if let DataType::Struct(parts) = fields[at].data_type()
                        && parts.find(leaf.name()).is_none()
                    {
                        let parts: Fields = parts.iter().cloned().chain([Arc::new(leaf)]).collect();
                        fields[at] = Field::new(*root, DataType::Struct(parts), true);
                    }
                }
                _ => {}
            }
        }
        if let Some((key, _)) = columns.iter().find(|(key, _)| is_whole_of_parts(key))
            && roots.contains(&key.path[0])
        {
            return Err(Error::sql(format!(
                "the metadata '{}' has what the others of `{}` have",
                key.name, key.path[0]
            ))
            .remedy("read it alone, and take the others out of the map"));
        }
        for (key, field) in columns.iter().filter(|(key, _)| is_whole_of_parts(key)) {
            if !roots.contains(&key.path[0]) {
                roots.push(key.path[0]);
                fields.push(Field::new(key.path[0], field.data_type().clone(), true));
            }
        }
        Ok(Wanted { columns, roots, read: fields })
    }

    /// The columns that an envelope is read as.
    pub fn read(&self) -> &[Field] {
        &self.read
    }

    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.columns.iter().map(|(_, field)| field.clone())
    }

    /// The columns that were asked for, of those that were read.
    pub fn columns(&self, read: &[ArrayRef]) -> Result<Vec<ArrayRef>> {
        let columns = self.columns.iter().map(|(key, field)| {
            let root = self.roots.iter().position(|r| *r == key.path[0]).unwrap_or_default();
            let column = match key.path {
                [_, part] => {
                    let whole = read[root].as_struct();
                    let part = whole.column_by_name(part).ok_or_else(|| Error::internal("a part that was not read"))?;
                    // Where there is no `source`, it has no parts.
                    match whole.nulls() {
                        None => part.clone(),
                        Some(_) => arrow::compute::nullif(part, &arrow::compute::is_null(whole)?)?,
                    }
                }
                _ => read[root].clone(),
            };
            match key.kind {
                Kind::Millis => times(column.as_primitive(), 1, field.data_type()),
                Kind::Seconds => times(column.as_primitive(), 1000, field.data_type()),
                _ => Ok(column),
            }
        });
        columns.collect()
    }
}

impl Beside {
    /// `wanted`: keys, and the columns that they become. `None` where nothing is wanted.
    pub fn new(options: &ChangeOptions, wanted: &[(String, Field)], on_bad_row: OnBadRow) -> Result<Option<Beside>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let wanted = Wanted::new(keys(options.format).iter().collect(), options.format.name(), wanted)?;
        let schema = Arc::new(Schema::new(wanted.read.clone()));
        let read: Vec<usize> = (0..schema.fields().len()).collect();
        let decoder = JsonDecoder::new(JsonOptions::default(), &schema, &read, on_bad_row)?;
        Ok(Some(Beside { decoder, wanted }))
    }

    pub fn fields(&self) -> impl Iterator<Item = Field> + '_ {
        self.wanted.fields()
    }

    /// The columns of these envelopes, a value for each; and the numbers of those that cannot be read, with the reason.
    pub fn read(&mut self, bytes: &[u8], envelopes: &[Range<usize>]) -> Result<(Vec<ArrayRef>, Faults)> {
        let (mut batches, mut faults, mut at, mut next) = (Vec::new(), Vec::new(), Vec::new(), 0u32);
        let all: Vec<Option<Range<usize>>> = envelopes.iter().cloned().map(Some).collect();
        for (n, some) in all.chunks(RECORDS_MAX).enumerate() {
            let read = self.decoder.decode_records(bytes, some)?;
            for envelope in 0..some.len() {
                let there = read.left_out.binary_search(&envelope).is_err();
                at.push(there.then_some(next));
                next += u32::from(there);
            }
            faults.extend(read.faults.into_iter().map(|(at, why)| (n * RECORDS_MAX + at, why)));
            batches.push(read.rows);
        }
        let mut rows = match batches.len() {
            0 => RecordBatch::new_empty(self.decoder.columns().clone()),
            1 => batches.swap_remove(0),
            _ => concat_batches(self.decoder.columns(), &batches)?,
        };
        if !faults.is_empty() {
            rows = take_record_batch(&rows, &UInt32Array::from(at))?;
        }
        Ok((self.wanted.columns(rows.columns())?, faults))
    }
}

/// A key that stands for a member whose parts have keys too.
fn is_whole_of_parts(key: &Key) -> bool {
    matches!(key.kind, Kind::TextMap)
}

fn times(numbers: &Int64Array, factor: i64, declared: &DataType) -> Result<ArrayRef> {
    let millis: TimestampMillisecondArray = numbers.unary(|n: i64| n.saturating_mul(factor));
    let DataType::Timestamp(_, zone) = declared else {
        return Err(Error::internal(format!("a timestamp as {declared}")));
    };
    let millis = millis.with_timezone_opt(zone.clone());
    // A time that the finer type does not reach is none.
    Ok(arrow::compute::cast(&millis, declared)?)
}
