//! Which column of a table stands where in a record: in the key, in the value, or beside them (METADATA).

use super::options::{FORMAT, Part, Settings, VALUE_FORMAT};
use crate::options::by_key;
use crate::schemas::Registry;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use millstream_core::metadata::{ROW_ORDER, ltz_millis};
use millstream_core::{Error, Result, TableSpec};
use millstream_formats::avro::DEBEZIUM_CONFLUENT;
use millstream_formats::changes::{Beyond, ChangeFormat, metadata_in_avro};
use millstream_formats::records::RecordOptions;
use millstream_formats::registry::Schemas;
use std::sync::Arc;

/// What can be read beside key and value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beside {
    Topic,
    Partition,
    Offset,
    Timestamp,
    TimestampType,
    Headers,
    /// [`ROW_ORDER`].
    Order,
}

const BESIDE: [(&str, Beside); 7] = [
    ("topic", Beside::Topic),
    ("partition", Beside::Partition),
    ("offset", Beside::Offset),
    ("timestamp", Beside::Timestamp),
    ("timestamp-type", Beside::TimestampType),
    ("headers", Beside::Headers),
    (ROW_ORDER, Beside::Order),
];

impl Beside {
    fn of(key: &str) -> Option<Beside> {
        BESIDE.iter().find(|(name, _)| *name == key).map(|(_, beside)| *beside)
    }

    fn data_type(self) -> DataType {
        match self {
            Beside::Topic | Beside::TimestampType => DataType::Utf8,
            Beside::Partition => DataType::Int32,
            Beside::Offset | Beside::Order => DataType::Int64,
            Beside::Timestamp => ltz_millis(),
            Beside::Headers => {
                let pair = Fields::from(vec![
                    Field::new("key", DataType::Utf8, false),
                    Field::new("value", DataType::Binary, true),
                ]);
                DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
            }
        }
    }

    /// Whether a column may be declared like this: what can be made of the value without loss.
    fn fits(self, declared: &DataType) -> bool {
        match (self, declared) {
            (Beside::Partition, DataType::Int64) => true,
            (Beside::Timestamp, DataType::Timestamp(unit, Some(_))) => *unit != TimeUnit::Second,
            (Beside::Headers, DataType::Map(entries, _)) => match entries.data_type() {
                DataType::Struct(pair) => {
                    pair.len() == 2
                        && *pair[0].data_type() == DataType::Utf8
                        && *pair[1].data_type() == DataType::Binary
                }
                _ => false,
            },
            _ => *declared == self.data_type(),
        }
    }
}

/// What begins the keys of what the format of the value can say beside the rows.
const OF_VALUE: &str = "value.";

fn format_metadata(table: &TableSpec) -> Vec<Field> {
    match table.option(FORMAT).or(table.option(VALUE_FORMAT)) {
        Some(DEBEZIUM_CONFLUENT) => metadata_in_avro(),
        format => format.and_then(ChangeFormat::of).map_or_else(Vec::new, ChangeFormat::metadata),
    }
}

/// The metadata of a table, each with the declared type where the column can have it.
pub fn metadata(table: &TableSpec) -> Vec<Field> {
    let of_value = format_metadata(table).into_iter().map(|f| {
        let key = format!("{OF_VALUE}{}", f.name());
        let declared = table.metadata.iter().find(|(k, _)| *k == key).map(|(_, f)| f.data_type().clone());
        // Whether it fits is looked at where it is read.
        Field::new(key, declared.unwrap_or_else(|| f.data_type().clone()), true)
    });
    let keys = BESIDE.iter().filter(|(key, _)| *key != ROW_ORDER);
    keys.map(|(key, beside)| {
        let declared = table.metadata.iter().find(|(k, f)| k == key && beside.fits(f.data_type()));
        Field::new(*key, declared.map_or_else(|| beside.data_type(), |(_, f)| f.data_type().clone()), false)
    })
    .chain(of_value)
    .collect()
}

fn unknown(table: &TableSpec, key: &str) -> Error {
    let of_value = format_metadata(table).into_iter().map(|f| format!("{OF_VALUE}{}", f.name()));
    let beside = BESIDE.iter().map(|(k, _)| k.to_string()).filter(|k| k != ROW_ORDER);
    let known = beside.chain(of_value).collect::<Vec<_>>().join(", ");
    Error::sql(format!("'{}' has no metadata '{key}'", table.connector())).remedy(format!("there are {known}"))
}

/// Where a column of the rows comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Column {
    /// The n-th column that the decoder of the key gives.
    Key(usize),
    Value(usize),
    Beside(Beside),
}

/// One part of the records that are read.
#[derive(Debug, Clone)]
pub struct ReadPart {
    pub format: RecordOptions,
    /// All columns that it holds, as the format calls them.
    pub schema: SchemaRef,
    /// Those of them that are wanted.
    pub projection: Vec<usize>,
    /// What only formats of changes give.
    pub beyond: Beyond,
}

/// How rows are made of records.
#[derive(Debug, Clone)]
pub struct Reading {
    pub schema: SchemaRef,
    pub columns: Vec<Column>,
    pub key: Option<ReadPart>,
    pub value: ReadPart,
    /// A record replaces the row of its key, or says that it is gone.
    pub upsert: bool,
}

fn part_schema(table: &TableSpec, part: &Part) -> SchemaRef {
    let fields = part.columns.iter().zip(&part.names);
    let fields: Vec<Field> = fields.map(|(&i, name)| table.schema.field(i).clone().with_name(name)).collect();
    Arc::new(Schema::new(fields))
}

impl Reading {
    pub fn of(table: &TableSpec, settings: &Settings) -> Result<Reading> {
        let read = |part: &Part| -> Result<ReadPart> {
            let schema = part_schema(table, part);
            part.format.check(&schema)?;
            let schemas = part.registry.clone().map(|registry| registry as Arc<dyn Schemas>);
            let beyond = Beyond { schemas, ..Beyond::default() };
            Ok(ReadPart { format: part.format.clone(), schema, projection: Vec::new(), beyond })
        };
        let upsert = settings.upsert;
        let by_key = if upsert { table.primary_key.clone() } else { by_key(table) };
        let mut value = read(&settings.value)?;
        if upsert && matches!(value.format, RecordOptions::Raw(_)) {
            // A record without a value says that the row is gone.
            let loose: Vec<Field> =
                value.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            value.schema = Arc::new(Schema::new(loose));
        }
        if value.format.tells_changes() {
            let in_value = |name: &&String| value.schema.index_of(name).is_ok();
            value.beyond.by_key = by_key.iter().filter(in_value).cloned().collect();
        }
        let mut key = settings.key.as_ref().map(read).transpose()?;
        let wanted: Vec<usize> = table.projection.clone().unwrap_or_else(|| (0..table.schema.fields().len()).collect());
        let (mut fields, mut columns) = (Vec::new(), Vec::new());
        for i in wanted {
            // A column of both is read from the value, as in Flink; but by key there may be none.
            let in_value = settings.value.columns.iter().position(|&c| c == i);
            let in_key = settings.key.as_ref().and_then(|key| key.columns.iter().position(|&c| c == i));
            let in_value = in_value.filter(|_| !upsert || in_key.is_none());
            columns.push(match (in_value, in_key, &mut key) {
                (Some(at), _, _) => {
                    value.projection.push(at);
                    Column::Value(value.projection.len() - 1)
                }
                (None, Some(at), Some(key)) => {
                    key.projection.push(at);
                    Column::Key(key.projection.len() - 1)
                }
                _ => return Err(Error::internal(format!("column {i} of `{}` is in no part of a record", table.name))),
            });
            // Of a row that is gone, its key alone is known.
            let field = table.schema.field(i).clone();
            let loose = !by_key.is_empty() && !by_key.contains(field.name());
            fields.push(field.clone().with_nullable(field.is_nullable() || loose));
        }
        let format_keys = format_metadata(table);
        for (name, field) in &table.metadata {
            if let Some(key) = name.strip_prefix(OF_VALUE).filter(|key| format_keys.iter().any(|f| f.name() == key)) {
                value.beyond.metadata.push((key.to_owned(), field.clone()));
                columns.push(Column::Value(value.projection.len() + value.beyond.metadata.len() - 1));
                fields.push(field.clone());
                continue;
            }
            let beside = Beside::of(name).ok_or_else(|| unknown(table, name))?;
            if !beside.fits(field.data_type()) {
                return Err(Error::sql(format!("column `{}` cannot hold the metadata '{name}'", field.name()))
                    .remedy(format!("declare it {}", millstream_formats::types::sql_type(&beside.data_type()))));
            }
            columns.push(Column::Beside(beside));
            fields.push(field.clone());
        }
        if value.format.tells_changes() {
            // What does not fit is to be known before anything is opened.
            value.format.decoder_beyond(&value.schema, &value.projection, &value.beyond, Default::default())?;
        }
        // A key that no column is read from is not looked at.
        let key = key.filter(|k| !k.projection.is_empty());
        Ok(Reading { schema: Arc::new(Schema::new(fields)), columns, key, value, upsert })
    }

    pub fn reads(&self, beside: Beside) -> bool {
        self.columns.contains(&Column::Beside(beside))
    }
}

/// One part of the records that are written.
#[derive(Debug, Clone)]
pub struct WritePart {
    pub format: RecordOptions,
    /// Its columns among those of the rows.
    pub columns: Vec<usize>,
    pub schema: SchemaRef,
    /// The same as the table declares it: which of them may be NULL.
    pub declared: SchemaRef,
    pub registry: Option<Arc<Registry>>,
}

/// How records are made of rows.
#[derive(Debug, Clone)]
pub struct Writing {
    pub key: Option<WritePart>,
    pub value: WritePart,
    pub timestamp: Option<usize>,
    pub headers: Option<usize>,
}

impl Writing {
    pub fn of(table: &TableSpec, settings: &Settings) -> Result<Writing> {
        let write = |part: &Part| -> Result<WritePart> {
            let declared = part_schema(table, part);
            part.format.check_written(&declared)?;
            // What may be NULL has been looked at before; of a row that goes, only the key counts.
            let loose: Vec<Field> = declared.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
            let schema = Arc::new(Schema::new(loose));
            Ok(WritePart {
                format: part.format.clone(),
                columns: part.columns.clone(),
                schema,
                declared,
                registry: part.registry.clone(),
            })
        };
        let mut writing = Writing {
            key: settings.key.as_ref().map(write).transpose()?,
            value: write(&settings.value)?,
            timestamp: None,
            headers: None,
        };
        for (name, field) in &table.metadata {
            let at = table.schema.index_of(field.name())?;
            match Beside::of(name) {
                Some(Beside::Timestamp) if Beside::Timestamp.fits(field.data_type()) => writing.timestamp = Some(at),
                Some(Beside::Headers) if Beside::Headers.fits(field.data_type()) => writing.headers = Some(at),
                Some(beside @ (Beside::Timestamp | Beside::Headers)) => {
                    return Err(Error::sql(format!("column `{}` cannot be the metadata '{name}'", field.name()))
                        .remedy(format!("declare it {}", millstream_formats::types::sql_type(&beside.data_type()))));
                }
                Some(_) => {
                    return Err(cannot_be_written(name, field));
                }
                None if name.starts_with(OF_VALUE) => return Err(cannot_be_written(name, field)),
                None => return Err(unknown(table, name)),
            }
        }
        Ok(writing)
    }
}

fn cannot_be_written(name: &str, field: &Field) -> Error {
    Error::sql(format!("the metadata '{name}' can be read and not written"))
        .remedy(format!("declare it VIRTUAL: `{}` … METADATA FROM '{name}' VIRTUAL", field.name()))
}
