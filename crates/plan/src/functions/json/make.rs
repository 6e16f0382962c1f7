//! Making JSON text from columns of any type.

use super::is_made_json;
use crate::functions::cast::to_text;
use crate::functions::kernel::{Call, Text, some};
use crate::functions::zone::SessionZone;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::DataType;
use datafusion_common::{Result, exec_err, internal_err, plan_err};
use serde_json::{Map, Value};

/// A column, ready to give a JSON value for each row.
enum Maker {
    Null,
    Text(ArrayRef),
    /// Text that is JSON already.
    Json(ArrayRef),
    Bool(arrow::array::BooleanArray),
    /// Numbers, as they are written.
    Number(ArrayRef),
    Bytes(ArrayRef),
    List(arrow::array::ListArray, Box<Maker>),
    Fields(arrow::array::StructArray, Vec<(String, Maker)>),
    Entries(arrow::array::MapArray, ArrayRef, Box<Maker>),
}

impl Maker {
    fn of(array: &ArrayRef, is_json: bool, zone: &SessionZone) -> Result<Maker> {
        Ok(match array.data_type() {
            DataType::Null => Maker::Null,
            t if t.is_string() && is_json => Maker::Json(array.clone()),
            t if t.is_string() => Maker::Text(array.clone()),
            DataType::Boolean => Maker::Bool(array.as_boolean().clone()),
            t if t.is_numeric() => Maker::Number(to_text(array, zone)?),
            DataType::Binary => Maker::Bytes(array.clone()),
            t if t.is_temporal() => Maker::Text(to_text(array, zone)?),
            DataType::List(_) => {
                let list = array.as_list::<i32>().clone();
                let items = Maker::of(list.values(), false, zone)?;
                Maker::List(list, Box::new(items))
            }
            DataType::Struct(fields) => {
                let rows = array.as_struct().clone();
                let columns = fields
                    .iter()
                    .zip(rows.columns())
                    .map(|(f, c)| Ok((f.name().clone(), Maker::of(c, false, zone)?)))
                    .collect::<Result<_>>()?;
                Maker::Fields(rows, columns)
            }
            DataType::Map(..) => {
                let map = array.as_map().clone();
                let (keys, values) = (to_text(map.keys(), zone)?, Maker::of(map.values(), false, zone)?);
                Maker::Entries(map, keys, Box::new(values))
            }
            other => return plan_err!("{other} cannot be written as JSON"),
        })
    }

    fn value(&self, row: usize) -> Result<Value> {
        let text = |array: &ArrayRef| Text::of(array).and_then(|t| t.at(row)).map(str::to_string);
        Ok(match self {
            Maker::Null => Value::Null,
            Maker::Text(array) => text(array).map_or(Value::Null, Value::String),
            Maker::Json(array) => match text(array) {
                None => Value::Null,
                Some(text) => match serde_json::from_str(&text) {
                    Ok(value) => value,
                    Err(e) => return exec_err!("`{text}` is no JSON: {e}"),
                },
            },
            Maker::Bool(array) => {
                if array.is_null(row) {
                    Value::Null
                } else {
                    Value::Bool(array.value(row))
                }
            }
            Maker::Number(array) => match text(array) {
                None => Value::Null,
                // NaN and the infinities are no JSON numbers; they are written as text.
                Some(text) => serde_json::from_str(&text).unwrap_or(Value::String(text)),
            },
            Maker::Bytes(array) => {
                let bytes = array.as_binary::<i32>();
                if bytes.is_null(row) { Value::Null } else { Value::String(base64(bytes.value(row))) }
            }
            Maker::List(list, items) => {
                if list.is_null(row) {
                    return Ok(Value::Null);
                }
                let range = list.value_offsets()[row] as usize..list.value_offsets()[row + 1] as usize;
                Value::Array(range.map(|at| items.value(at)).collect::<Result<_>>()?)
            }
            Maker::Fields(rows, columns) => {
                if rows.is_null(row) {
                    return Ok(Value::Null);
                }
                let fields = columns.iter().map(|(name, maker)| Ok((name.clone(), maker.value(row)?)));
                Value::Object(fields.collect::<Result<_>>()?)
            }
            Maker::Entries(map, keys, values) => {
                if map.is_null(row) {
                    return Ok(Value::Null);
                }
                let Some(keys) = Text::of(keys) else { return internal_err!("keys were not made text") };
                let range = map.value_offsets()[row] as usize..map.value_offsets()[row + 1] as usize;
                let entries = range.map(|at| Ok((keys.at(at).unwrap_or_default().to_string(), values.value(at)?)));
                Value::Object(entries.collect::<Result<_>>()?)
            }
        })
    }
}

fn base64(bytes: &[u8]) -> String {
    let mut out = String::new();
    crate::functions::encode::write_base64(bytes, &mut out);
    out
}

fn makers(c: &Call) -> Result<Vec<Maker>> {
    (0..c.args.len()).map(|i| Maker::of(&c.args[i], is_made_json(c, i), c.zone)).collect()
}

/// NULL for NULL.
pub(super) fn json_string(c: &Call) -> Result<ArrayRef> {
    let maker = Maker::of(&c.args[0], is_made_json(c, 0), c.zone)?;
    c.make_text(|row, out| {
        let row = if c.constant[0] { 0 } else { row };
        match maker.value(row)? {
            Value::Null => Ok(None),
            value => {
                out.push_str(&value.to_string());
                Ok(Some(()))
            }
        }
    })
}

/// JSON_QUOTE(text): the text as a JSON string.
pub(super) fn json_quote(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    c.make_text(|row, out| {
        out.push_str(&Value::from(some!(text.at(row))).to_string());
        Ok(Some(()))
    })
}

/// JSON_UNQUOTE(text): what a JSON string says. What is none comes back as it is.
pub(super) fn json_unquote(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    c.make_text(|row, out| {
        let text = some!(text.at(row));
        match serde_json::from_str::<Value>(text) {
            Ok(Value::String(said)) => out.push_str(&said),
            _ => out.push_str(text),
        }
        Ok(Some(()))
    })
}

/// JSON(text): the text is JSON, to be put into JSON_OBJECT or JSON_ARRAY as it is.
pub(super) fn json(c: &Call) -> Result<ArrayRef> {
    let text = c.text(0)?;
    c.pick_text(|row| {
        let text = some!(text.at(row));
        match serde_json::from_str::<Value>(text) {
            Ok(_) => Ok(Some(text)),
            Err(e) => exec_err!("JSON: `{text}` is no JSON: {e}"),
        }
    })
}

pub(super) fn json_object(c: &Call, absent: bool) -> Result<ArrayRef> {
    if c.args.len() % 2 == 1 {
        return plan_err!("JSON_OBJECT takes keys and values in turn; the last key has no value");
    }
    let makers = makers(c)?;
    c.make_text(|row, out| {
        let mut object = Map::new();
        for (i, pair) in makers.chunks_exact(2).enumerate() {
            let at = |argument: usize| if c.constant[argument] { 0 } else { row };
            let Value::String(key) = pair[0].value(at(2 * i))? else {
                return exec_err!("JSON_OBJECT: key {} is no text", i + 1);
            };
            let value = pair[1].value(at(2 * i + 1))?;
            if !(absent && value.is_null()) {
                object.insert(key, value);
            }
        }
        out.push_str(&Value::Object(object).to_string());
        Ok(Some(()))
    })
}

pub(super) fn json_array(c: &Call, absent: bool) -> Result<ArrayRef> {
    let makers = makers(c)?;
    c.make_text(|row, out| {
        let mut items = Vec::with_capacity(makers.len());
        for (i, maker) in makers.iter().enumerate() {
            let value = maker.value(if c.constant[i] { 0 } else { row })?;
            if !(absent && value.is_null()) {
                items.push(value);
            }
        }
        out.push_str(&Value::Array(items).to_string());
        Ok(Some(()))
    })
}
