//! The columns of a table: as its log says them, and as they are declared.
//!
//! ```text
//!  declared (SQL)            in the log        in the files
//!  TIMESTAMP(p)              timestamp_ntz     microseconds
//!  TIMESTAMP_LTZ(p)          timestamp         microseconds, UTC
//!  others                    of the same name  as they are
//! ```

use super::actions::Metadata;
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Place, Result, TableSpec};
use millstream_formats::parquet::{holds, plain};
use millstream_formats::types::sql_type;
use serde_json::{Value, json};
use std::sync::Arc;

/// A column as the log has it.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub of: Value,
    pub nullable: bool,
}

/// The columns that the log says the table has.
pub fn columns(metadata: &Metadata, shown: &str) -> Result<Vec<Column>> {
    let damaged = || {
        Error::data("the schema in the log of the table cannot be read")
            .at(Place(shown.to_owned()))
            .remedy("restore the folder _delta_log from a copy")
    };
    let schema: Value = serde_json::from_str(&metadata.schema_string).map_err(|_| damaged())?;
    let fields = schema.get("fields").and_then(Value::as_array).ok_or_else(damaged)?;
    fields
        .iter()
        .map(|field| {
            Some(Column {
                name: field.get("name")?.as_str()?.to_owned(),
                of: field.get("type")?.clone(),
                nullable: field.get("nullable").and_then(Value::as_bool).unwrap_or(true),
            })
        })
        .collect::<Option<_>>()
        .ok_or_else(damaged)
}

/// The type as a schema in a log has it.
fn type_in_log(of: &DataType) -> Option<Value> {
    Some(match of {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("binary"),
        DataType::Date32 => json!("date"),
        DataType::Decimal128(precision, scale) => json!(format!("decimal({precision},{scale})")),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => return None,
        DataType::Timestamp(_, None) => json!("timestamp_ntz"),
        DataType::Timestamp(_, Some(_)) => json!("timestamp"),
        DataType::List(item) => json!({
            "type": "array", "elementType": type_in_log(item.data_type())?, "containsNull": item.is_nullable()
        }),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => json!({
                "type": "map", "keyType": type_in_log(kv[0].data_type())?,
                "valueType": type_in_log(kv[1].data_type())?, "valueContainsNull": kv[1].is_nullable()
            }),
            _ => return None,
        },
        DataType::Struct(fields) => schema_in_log(fields).ok()?,
        _ => return None,
    })
}

/// A schema as a log has it.
///
/// # Errors
/// The table cannot have a column of such a type.
pub fn schema_in_log(fields: &Fields) -> Result<Value> {
    let fields = fields.iter().map(|field| {
        let of = type_in_log(field.data_type()).ok_or_else(|| no_such_type(field))?;
        Ok(json!({"name": field.name(), "type": of, "nullable": field.is_nullable(), "metadata": {}}))
    });
    Ok(json!({"type": "struct", "fields": fields.collect::<Result<Vec<_>>>()?}))
}

fn no_such_type(field: &Field) -> Error {
    let of = sql_type(field.data_type());
    let error = Error::sql(format!("`{}` is {of}, and a Delta table has no such type", field.name()));
    match field.data_type() {
        DataType::Timestamp(..) => {
            error.remedy("declare it with a precision of at most 6 and CAST it in the query: Delta keeps microseconds")
        }
        DataType::Time32(_) | DataType::Time64(_) => error.remedy("declare it as STRING and CAST it in the query"),
        _ => error.remedy("declare it, or the parts of it, as another type and CAST it in the query"),
    }
}

pub fn has_ntz(of: &DataType) -> bool {
    match of {
        DataType::Timestamp(_, None) => true,
        DataType::List(item) | DataType::Map(item, _) => has_ntz(item.data_type()),
        DataType::Struct(fields) => fields.iter().any(|f| has_ntz(f.data_type())),
        _ => false,
    }
}

/// The type that the files have for a declared one.
fn stored_type(of: &DataType) -> DataType {
    let stored = |field: &Field, name: &str| {
        Arc::new(field.clone().with_name(name).with_data_type(stored_type(field.data_type())))
    };
    match of {
        DataType::Timestamp(_, zone) => DataType::Timestamp(TimeUnit::Microsecond, zone.clone()),
        // Named as the Parquet standard has it.
        DataType::List(item) => DataType::List(stored(item, "element")),
        DataType::Map(entries, sorted) => match entries.data_type() {
            DataType::Struct(kv) if kv.len() == 2 => {
                let kv = DataType::Struct(vec![stored(&kv[0], "key"), stored(&kv[1], "value")].into());
                DataType::Map(Arc::new(Field::new("key_value", kv, false)), *sorted)
            }
            _ => of.clone(),
        },
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(|f| stored(f, f.name())).collect()),
        _ => of.clone(),
    }
}

/// The columns of the declaration as the files have them.
pub fn stored(declared: &Schema) -> SchemaRef {
    let of = |f: &Arc<Field>| f.as_ref().clone().with_data_type(stored_type(f.data_type()));
    Arc::new(Schema::new(declared.fields().iter().map(of).collect::<Vec<_>>()))
}

/// The type in memory of one in a log; `None`: there is none.
fn type_of(of: &Value) -> Option<DataType> {
    let nullable = |key: &str| of.get(key).and_then(Value::as_bool).unwrap_or(true);
    Some(match (of.as_str(), of.get("type").and_then(Value::as_str)) {
        (Some("boolean"), _) => DataType::Boolean,
        (Some("byte"), _) => DataType::Int8,
        (Some("short"), _) => DataType::Int16,
        (Some("integer"), _) => DataType::Int32,
        (Some("long"), _) => DataType::Int64,
        (Some("float"), _) => DataType::Float32,
        (Some("double"), _) => DataType::Float64,
        (Some("string"), _) => DataType::Utf8,
        (Some("binary"), _) => DataType::Binary,
        (Some("date"), _) => DataType::Date32,
        (Some("timestamp"), _) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        (Some("timestamp_ntz"), _) => DataType::Timestamp(TimeUnit::Microsecond, None),
        (Some(decimal), _) => {
            let digits = decimal.strip_prefix("decimal(")?.strip_suffix(')')?;
            let (precision, scale) = digits.split_once(',')?;
            DataType::Decimal128(precision.trim().parse().ok()?, scale.trim().parse().ok()?)
        }
        (None, Some("array")) => {
            let item = type_of(of.get("elementType")?)?;
            DataType::List(Arc::new(Field::new("element", item, nullable("containsNull"))))
        }
        (None, Some("map")) => {
            let key = Field::new("key", type_of(of.get("keyType")?)?, false);
            let value = Field::new("value", type_of(of.get("valueType")?)?, nullable("valueContainsNull"));
            let kv = DataType::Struct(vec![key, value].into());
            DataType::Map(Arc::new(Field::new("key_value", kv, false)), false)
        }
        (None, Some("struct")) => {
            let fields = of.get("fields")?.as_array()?.iter().map(|field| {
                let nullable = field.get("nullable").and_then(Value::as_bool).unwrap_or(true);
                Some(Field::new(field.get("name")?.as_str()?, type_of(field.get("type")?)?, nullable))
            });
            DataType::Struct(fields.collect::<Option<Vec<_>>>()?.into())
        }
        _ => return None,
    })
}

/// A type of a log as SQL says it.
fn shown_type(of: &Value) -> String {
    match type_of(of) {
        Some(known) => sql_type(&known),
        None => of.as_str().map_or_else(|| of.to_string(), str::to_owned),
    }
}

fn declared_as(column: &Column) -> String {
    let not_null = if column.nullable { "" } else { " NOT NULL" };
    format!("declare it as {}{not_null}", shown_type(&column.of))
}

/// The columns of a table as a list for a message.
fn listed(columns: &[Column]) -> String {
    columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn unknown(name: &str, columns: &[Column]) -> Error {
    let known = columns.iter().map(|c| c.name.as_str());
    let help = match did_you_mean(name, known) {
        Some(guess) => format!("did you mean `{guess}`? The table has {}", listed(columns)),
        None => format!("the table has {}", listed(columns)),
    };
    Error::data(format!("the table has no column `{name}`")).remedy(help)
}

/// That the declared columns can be read from the table.
pub fn check_read(spec: &TableSpec, metadata: &Metadata, shown: &str) -> Result<()> {
    let place = || Place(shown.to_owned());
    let columns = columns(metadata, shown)?;
    for field in spec.schema.fields() {
        let Some(column) = columns.iter().find(|c| c.name == *field.name()) else {
            return Err(unknown(field.name(), &columns).at(place()));
        };
        let found = type_of(&column.of);
        if !found.as_ref().is_some_and(|found| holds(field.data_type(), found)) {
            let error = Error::data(format!(
                "column `{}` of the table is {}, and it is declared as {}",
                field.name(),
                shown_type(&column.of),
                sql_type(field.data_type())
            ));
            return Err(error.at(place()).remedy(match found {
                Some(found) => {
                    format!("declare `{}` as {} and CAST it in the query", field.name(), sql_type(&plain(&found)))
                }
                None => "leave the column out of the declaration: such values cannot be read".to_owned(),
            }));
        }
    }
    if spec.partitioned_by.is_empty() { Ok(()) } else { check_partitions(spec, metadata, shown) }
}

/// That rows of the declared columns are rows of the table.
pub fn check_write(spec: &TableSpec, metadata: &Metadata, shown: &str) -> Result<()> {
    let place = || Place(shown.to_owned());
    let columns = columns(metadata, shown)?;
    for field in spec.schema.fields() {
        let Some(column) = columns.iter().find(|c| c.name == *field.name()) else {
            return Err(unknown(field.name(), &columns).at(place()));
        };
        let declared = type_in_log(field.data_type()).ok_or_else(|| no_such_type(field))?;
        if !same(&declared, &column.of) {
            return Err(Error::data(format!(
                "column `{}` of the table is {}, and it is declared as {}",
                field.name(),
                shown_type(&column.of),
                sql_type(field.data_type())
            ))
            .at(place())
            .remedy(format!("{} and CAST it in the query, or write to another table", declared_as(column))));
        }
        if field.is_nullable() && !column.nullable {
            return Err(Error::data(format!(
                "column `{}` of the table is NOT NULL, and it is declared without that",
                field.name()
            ))
            .at(place())
            .remedy(declared_as(column)));
        }
    }
    if let Some(column) = columns.iter().find(|c| spec.schema.index_of(&c.name).is_err()) {
        return Err(Error::data(format!("the table has a column `{}`, which is not declared", column.name))
            .at(place())
            .remedy(format!("declare `{}` {} and write NULL to it, if need be", column.name, shown_type(&column.of))));
    }
    check_partitions(spec, metadata, shown)
}

fn check_partitions(spec: &TableSpec, metadata: &Metadata, shown: &str) -> Result<()> {
    if spec.partitioned_by == metadata.partition_columns {
        return Ok(());
    }
    let written = |columns: &[String]| match columns {
        [] => "without partitions".to_owned(),
        columns => format!("PARTITIONED BY ({})", columns.join(", ")),
    };
    Err(Error::data(format!(
        "the table is {}, and it is declared {}",
        written(&metadata.partition_columns),
        written(&spec.partitioned_by)
    ))
    .at(Place(shown.to_owned()))
    .remedy(match metadata.partition_columns.as_slice() {
        [] => "leave out PARTITIONED BY".to_owned(),
        columns => format!("declare it {}", written(columns)),
    }))
}

/// Whether two types are the same but for what may be NULL within them.
fn same(a: &Value, b: &Value) -> bool {
    const PARTS: [&str; 4] = ["type", "elementType", "keyType", "valueType"];
    match (a, b) {
        (Value::Object(a_map), Value::Object(b_map)) => {
            let parts = PARTS.iter().all(|part| match (a_map.get(*part), b_map.get(*part)) {
                (None, None) => true,
                (Some(a), Some(b)) => same(a, b),
                _ => false,
            });
            let fields = |of: &Value| of.get("fields").and_then(Value::as_array).cloned().unwrap_or_default();
            let (a, b) = (fields(a), fields(b));
            parts
                && a.len() == b.len()
                && a.iter().zip(&b).all(|(a, b)| {
                    a.get("name") == b.get("name")
                        && matches!((a.get("type"), b.get("type")), (Some(a), Some(b)) if same(a, b))
                })
        }
        (Value::String(a), Value::String(b)) => a.replace(' ', "") == b.replace(' ', ""),
        _ => a == b,
    }
}
