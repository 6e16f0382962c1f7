//! JSON in text: reading by path, testing, making.
//!
//! NULL, empty and erroneous answers follow the arguments after the path, which stand for the clauses `RETURNING`, `ON EMPTY`
//! and `ON ERROR`; without them NULL answers both. Keys come out in alphabetical order, as Flink writes them.

mod make;
mod number;
mod path;

use super::kernel::{Call, Function, JSON_MARK, Kind, Memo, some};
use arrow::array::ArrayRef;
use arrow::datatypes::{DataType, Float64Type, Int32Type};
use datafusion_common::{Result, exec_err, plan_err};
use datafusion_expr::ReturnFieldArgs;
use path::{Found, Path};
use serde_json::Value;

pub(super) fn functions() -> Vec<Function> {
    use DataType::{Boolean, Utf8};
    use Kind::{Any, Text};
    vec![
        Function::new("json_value", &[Text, Text, Text, Text, Any, Text, Any], Utf8, json_value)
            .optional(5)
            .returns_by_constants(returning),
        Function::new("json_query", &[Text, Text, Text, Text, Text], Utf8, json_query).optional(3).makes_json(),
        Function::new("json_exists", &[Text, Text, Text], Boolean, json_exists).optional(1),
        Function::new("is_json", &[Text, Text], Boolean, is_json).optional(1),
        Function::new("json_quote", &[Text], Utf8, make::json_quote),
        Function::new("json_unquote", &[Text], Utf8, make::json_unquote),
        Function::new("json_string", &[Any], Utf8, make::json_string).makes_json(),
        Function::new("json", &[Text], Utf8, make::json).makes_json(),
        Function::new("json_object", &[], Utf8, |c| make::json_object(c, false)).rest(Any).makes_json(),
        Function::new("json_object_absent_on_null", &[], Utf8, |c| make::json_object(c, true)).rest(Any).makes_json(),
        Function::new("json_array", &[], Utf8, |c| make::json_array(c, true)).rest(Any).makes_json(),
        Function::new("json_array_null_on_null", &[], Utf8, |c| make::json_array(c, false)).rest(Any).makes_json(),
    ]
}

/// What a clause `ON EMPTY` or `ON ERROR` wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    Null,
    Error,
    Default,
    EmptyArray,
    EmptyObject,
    True,
    False,
}

fn answer(c: &Call, i: usize, otherwise: Answer) -> Result<Answer> {
    if !c.has(i) {
        return Ok(otherwise);
    }
    let word = c.constant_text(i, "ON EMPTY or ON ERROR clause")?.unwrap_or("NULL");
    Ok(match word.to_ascii_uppercase().as_str() {
        "NULL" | "UNKNOWN" => Answer::Null,
        "ERROR" => Answer::Error,
        "DEFAULT" => Answer::Default,
        "EMPTY ARRAY" => Answer::EmptyArray,
        "EMPTY OBJECT" => Answer::EmptyObject,
        "TRUE" => Answer::True,
        "FALSE" => Answer::False,
        _ => return plan_err!("{}: `{word}` is no answer ON EMPTY or ON ERROR", c.name.to_uppercase()),
    })
}

fn returning(args: &ReturnFieldArgs) -> Result<DataType> {
    let name = match args.scalar_arguments.get(2) {
        None => return Ok(DataType::Utf8),
        Some(Some(name)) => name.try_as_str().flatten().unwrap_or("STRING"),
        Some(None) => return plan_err!("JSON_VALUE: the type to return must be a constant"),
    };
    Ok(match name.to_ascii_uppercase().as_str() {
        "STRING" | "VARCHAR" => DataType::Utf8,
        "BOOLEAN" => DataType::Boolean,
        "INTEGER" | "INT" => DataType::Int32,
        "DOUBLE" => DataType::Float64,
        _ => {
            return plan_err!(
                "JSON_VALUE can return STRING, BOOLEAN, INTEGER or DOUBLE, not {name}; CAST what it returns"
            );
        }
    })
}

/// JSON_VALUE(json, path[, type[, on_empty, default[, on_error, default]]]).
fn json_value(c: &Call) -> Result<ArrayRef> {
    let (on_empty, on_error) = (answer(c, 3, Answer::Null)?, answer(c, 5, Answer::Null)?);
    let default = |i: usize| c.has(i).then(|| arrow::compute::cast(&c.args[i], c.returns)).transpose();
    let (if_empty, if_error) = (default(4)?, default(6)?);
    // The rows that a default answers, beside the values that the documents answer.
    let mut defaults: Vec<Option<(usize, usize)>> = vec![None; c.rows];
    let mut value = |row: usize| -> Result<Option<Value>> {
        let found = match find(c, row)? {
            None => return Ok(None),
            Some(found) => found,
        };
        let (answer, argument, array, why) = match found {
            Ok(Found::One(Value::Null)) => return Ok(None),
            Ok(Found::One(value)) if !value.is_object() && !value.is_array() => match convert(value, c.returns) {
                Some(value) => return Ok(Some(value)),
                None => (on_error, 6, &if_error, "the value is of another type than asked for".to_string()),
            },
            Ok(Found::Nothing) => (on_empty, 4, &if_empty, "nothing is there".to_string()),
            // What is no scalar is nothing for a path that is lax.
            Ok(_) if is_lax(c, row)? => (on_empty, 4, &if_empty, "nothing is there".to_string()),
            Ok(_) => (on_error, 6, &if_error, "there is no single scalar value".to_string()),
            Err(why) => (on_error, 6, &if_error, why),
        };
        match answer {
            Answer::Default if array.is_some() => {
                defaults[row] = Some((argument, if c.constant[argument] { 0 } else { row }));
                Ok(None)
            }
            Answer::Error => exec_err!("JSON_VALUE: {why}"),
            _ => Ok(None),
        }
    };
    let made = match c.returns {
        DataType::Boolean => c.make_bools(|row| Ok(value(row)?.and_then(|v| v.as_bool())))?,
        DataType::Int32 => c.make::<Int32Type>(|row| Ok(value(row)?.and_then(|v| v.as_i64()).map(|v| v as i32)))?,
        DataType::Float64 => c.make::<Float64Type>(|row| Ok(value(row)?.and_then(|v| v.as_f64())))?,
        _ => c.make_text(|row, out| {
            match some!(value(row)?) {
                Value::String(text) => out.push_str(&text),
                // The parser took its digits away.
                Value::Number(n) if n.is_f64() => out.push_str(&digits(c, row)?.unwrap_or_else(|| n.to_string())),
                other => out.push_str(&other.to_string()),
            }
            Ok(Some(()))
        })?,
    };
    if defaults.iter().all(Option::is_none) {
        return Ok(made);
    }
    let empty = arrow::array::new_empty_array(c.returns);
    let sources =
        [made.as_ref(), if_empty.as_ref().unwrap_or(&empty).as_ref(), if_error.as_ref().unwrap_or(&empty).as_ref()];
    let picks: Vec<(usize, usize)> = defaults
        .iter()
        .enumerate()
        .map(|(row, default)| default.map_or((0, row), |(argument, at)| (argument / 2 - 1, at)))
        .collect();
    Ok(arrow::compute::interleave(&sources, &picks)?)
}

fn is_lax(c: &Call, row: usize) -> Result<bool> {
    let path = c.text(1)?.at(row).unwrap_or_default().trim_start();
    Ok(path.get(..4).is_some_and(|mode| mode.eq_ignore_ascii_case("lax ")))
}

/// The number at the path, with the digits that stand in the document.
fn digits(c: &Call, row: usize) -> Result<Option<String>> {
    let (text, path) = (some!(c.text(0)?.at(row)), some!(c.text(1)?.at(row)));
    Ok(match find_in(&number::quoted(text), path)? {
        Ok(Found::One(Value::String(number))) => Some(number::decimal(&number)),
        _ => None,
    })
}

/// The value if it is, or can be read as, one of the wanted type.
fn convert(value: Value, to: &DataType) -> Option<Value> {
    match (to, value) {
        (DataType::Boolean, Value::Bool(b)) => Some(Value::Bool(b)),
        (DataType::Boolean, Value::String(s)) => s.to_ascii_lowercase().parse().ok().map(Value::Bool),
        (DataType::Int32, Value::Number(n)) => {
            n.as_i64().or_else(|| n.as_f64().map(|f| f as i64)).filter(|n| i32::try_from(*n).is_ok()).map(Value::from)
        }
        (DataType::Int32, Value::String(s)) => s.trim().parse::<i32>().ok().map(Value::from),
        (DataType::Float64, Value::Number(n)) => n.as_f64().map(Value::from),
        (DataType::Float64, Value::String(s)) => s.trim().parse::<f64>().ok().map(Value::from),
        (DataType::Utf8, value) => Some(value),
        _ => None,
    }
}

thread_local! {
    /// The last path read: a constant path is read once, not once for each row.
    static LAST_PATH: std::cell::RefCell<Memo<Path>> = std::cell::RefCell::new(Memo::new());
}

/// What the path finds in the document; `None` where either is NULL. The inner error is one of the document.
fn find(c: &Call, row: usize) -> Result<Option<Result<Found, String>>> {
    let (text, path) = (some!(c.text(0)?.at(row)), some!(c.text(1)?.at(row)));
    find_in(text, path).map(Some)
}

fn find_in(text: &str, path: &str) -> Result<Result<Found, String>> {
    LAST_PATH.with_borrow_mut(|last| {
        let path = last.get(path, Path::parse)?;
        Ok(match serde_json::from_str(text) {
            Ok(document) => path.find(document),
            Err(e) => Err(format!("the text is no JSON: {e}")),
        })
    })
}

/// JSON_QUERY(json, path[, wrapper[, on_empty[, on_error]]]).
fn json_query(c: &Call) -> Result<ArrayRef> {
    let wrapper = if c.has(2) { c.constant_text(2, "wrapper")?.unwrap_or("WITHOUT") } else { "WITHOUT" };
    let (conditional, unconditional) = match wrapper.to_ascii_uppercase().trim_end_matches(" ARRAY WRAPPER") {
        "WITHOUT" => (false, false),
        "CONDITIONAL" | "WITH CONDITIONAL" => (true, false),
        "UNCONDITIONAL" | "WITH" | "WITH UNCONDITIONAL" => (false, true),
        _ => {
            return plan_err!(
                "JSON_QUERY: `{wrapper}` is no wrapper; there are WITHOUT, CONDITIONAL and UNCONDITIONAL"
            );
        }
    };
    let (on_empty, on_error) = (answer(c, 3, Answer::Null)?, answer(c, 4, Answer::Null)?);
    c.make_text(|row, out| {
        let (answer, why) = match some!(find(c, row)?) {
            Ok(Found::Nothing) => (on_empty, "nothing is there".to_string()),
            Err(why) => (on_error, why),
            Ok(found) => {
                let value = found.into_value();
                let value = match (&value, unconditional, conditional) {
                    (Value::Null, false, false) => return Ok(None),
                    (_, true, _) => Value::Array(vec![value]),
                    (Value::Array(_), _, true) => value,
                    (_, _, true) => Value::Array(vec![value]),
                    _ => value,
                };
                if value.is_array() || value.is_object() {
                    out.push_str(&value.to_string());
                    return Ok(Some(()));
                }
                (on_error, "the value is a scalar; ask for a wrapper".to_string())
            }
        };
        match answer {
            Answer::EmptyArray => out.push_str("[]"),
            Answer::EmptyObject => out.push_str("{}"),
            Answer::Error => return exec_err!("JSON_QUERY: {why}"),
            _ => return Ok(None),
        }
        Ok(Some(()))
    })
}

fn json_exists(c: &Call) -> Result<ArrayRef> {
    let on_error = answer(c, 2, Answer::False)?;
    c.make_bools(|row| {
        Ok(match some!(find(c, row)?) {
            Ok(Found::Nothing | Found::One(Value::Null)) => Some(false),
            Ok(Found::Many(values)) => Some(!values.is_empty()),
            Ok(Found::One(_)) => Some(true),
            Err(why) => match on_error {
                Answer::True => Some(true),
                Answer::Null => None,
                Answer::Error => return exec_err!("JSON_EXISTS: {why}"),
                _ => Some(false),
            },
        })
    })
}

/// IS JSON [VALUE | SCALAR | ARRAY | OBJECT]: FALSE for NULL.
fn is_json(c: &Call) -> Result<ArrayRef> {
    let kind =
        if c.has(1) { c.constant_text(1, "kind")?.unwrap_or("VALUE").to_ascii_uppercase() } else { "VALUE".into() };
    let text = c.text(0)?;
    let test: fn(&Value) -> bool = match kind.as_str() {
        "VALUE" => |_| true,
        "SCALAR" => |v| !v.is_array() && !v.is_object(),
        "ARRAY" => Value::is_array,
        "OBJECT" => Value::is_object,
        _ => return plan_err!("IS JSON {kind}: there are VALUE, SCALAR, ARRAY and OBJECT"),
    };
    c.make_bools(|row| {
        let value = text.at(row).and_then(|text| serde_json::from_str::<Value>(text).ok());
        Ok(Some(value.is_some_and(|value| test(&value))))
    })
}

fn is_made_json(c: &Call, i: usize) -> bool {
    c.fields.get(i).is_some_and(|f| f.metadata().contains_key(JSON_MARK))
}
