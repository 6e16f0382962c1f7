//! The schema that a table's columns have where nobody gives one: Flink's (`AvroSchemaConverter`).

use crate::types::sql_type;
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use millstream_core::{Error, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The name that Flink gives to rows.
const NAMESPACE: &str = "org.apache.flink.avro.generated";
const NAME: &str = "record";

/// The schema of rows of these columns, as JSON. `legacy`: TIMESTAMP is `timestamp-…`, as Flink has it by default; else it is
/// `local-timestamp-…`.
pub fn schema_of(fields: &Fields, legacy: bool) -> Result<String> {
    let mut deriving = Deriving { legacy, names: BTreeSet::new() };
    let mut root = deriving.record(fields, NAME, "")?;
    root["namespace"] = json!(NAMESPACE);
    Ok(root.to_string())
}

struct Deriving {
    legacy: bool,
    /// Names that are taken: `a_b` may be a column, and a field of another one.
    names: BTreeSet<String>,
}

impl Deriving {
    fn record(&mut self, fields: &Fields, name: &str, within: &str) -> Result<Value> {
        let mut free = name.to_owned();
        for n in 2.. {
            if self.names.insert(free.clone()) {
                break;
            }
            free = format!("{name}_{n}");
        }
        let mut out = Vec::with_capacity(fields.len());
        for field in fields {
            let path = format!("{within}{}", field.name());
            check_name(field.name(), &path)?;
            let of = self.value(field, &format!("{name}_{}", field.name()), &path)?;
            out.push(match field.is_nullable() {
                // With a default, so that readers take a row of before the column was there.
                true => json!({"name": field.name(), "type": of, "default": null}),
                false => json!({"name": field.name(), "type": of}),
            });
        }
        Ok(json!({"type": "record", "name": free, "fields": out}))
    }

    fn value(&mut self, field: &Field, name: &str, path: &str) -> Result<Value> {
        let of = self.plain(field.data_type(), name, path)?;
        Ok(if field.is_nullable() { json!(["null", of]) } else { of })
    }

    fn plain(&mut self, of: &DataType, name: &str, path: &str) -> Result<Value> {
        let refused = |why: &str, remedy: &str| {
            Err(Error::sql(format!("column `{path}` is {}, {why}", sql_type(of))).remedy(remedy.to_owned()))
        };
        Ok(match of {
            DataType::Null => json!("null"),
            DataType::Boolean => json!("boolean"),
            DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
            DataType::Int64 => json!("long"),
            DataType::Float32 => json!("float"),
            DataType::Float64 => json!("double"),
            DataType::Utf8 => json!("string"),
            DataType::Binary => json!("bytes"),
            DataType::Date32 => json!({"type": "int", "logicalType": "date"}),
            DataType::Time32(_) => json!({"type": "int", "logicalType": "time-millis"}),
            DataType::Time64(_) => json!({"type": "long", "logicalType": "time-micros"}),
            DataType::Timestamp(unit, zone) => {
                let digits = match unit {
                    TimeUnit::Second | TimeUnit::Millisecond => "millis",
                    TimeUnit::Microsecond => "micros",
                    TimeUnit::Nanosecond => {
                        return refused(
                            "and Avro's times have at most six digits",
                            "declare it TIMESTAMP(6), or CAST it",
                        );
                    }
                };
                let local = if zone.is_none() && !self.legacy { "local-" } else { "" };
                json!({"type": "long", "logicalType": format!("{local}timestamp-{digits}")})
            }
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                json!({"type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale})
            }
            DataType::List(item) => {
                json!({"type": "array", "items": self.value(item, name, &format!("{path}[]"))?})
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 && *pair[0].data_type() == DataType::Utf8 => {
                    json!({"type": "map", "values": self.value(&pair[1], name, &format!("{path}[]"))?})
                }
                _ => return refused("and keys of Avro's maps are text", "CAST its keys to STRING"),
            },
            DataType::Struct(fields) => self.record(fields, name, &format!("{path}."))?,
            _ => return refused("which Avro has no type for", "declare it as another type, or CAST it"),
        })
    }
}

fn check_name(name: &str, path: &str) -> Result<()> {
    let fits = |(n, c): (usize, char)| c.is_ascii_alphabetic() || c == '_' || (n > 0 && c.is_ascii_digit());
    if !name.is_empty() && name.chars().enumerate().all(fits) {
        return Ok(());
    }
    Err(Error::sql(format!("column `{path}` has a name that Avro's fields cannot have"))
        .remedy("use letters, digits and '_', and no digit first"))
}
