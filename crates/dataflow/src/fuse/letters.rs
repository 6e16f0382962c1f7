//! `CHAR_LENGTH(REPLACE(x, 'c', ''))`: how SQL counts letters, by making a text without them. Here they are counted.

use super::{Physical, literal_text};
use arrow::array::{Array, AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// The number of characters other than `letter`.
#[derive(Debug, Eq)]
pub struct Without {
    of: Physical,
    /// ASCII.
    letter: u8,
}

pub fn fuse(e: &Physical, input: &Schema) -> Result<Option<Physical>> {
    let called = |e: &'_ Physical, name: &str| e.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| f.name() == name);
    let args = |e: &Physical| e.downcast_ref::<ScalarFunctionExpr>().map(|f| f.args().to_vec()).unwrap_or_default();
    if !called(e, "char_length") || e.data_type(input)? != DataType::Int32 {
        return Ok(None);
    }
    let [replace] = args(e).try_into().unwrap_or_else(|_| [e.clone()]);
    if !called(&replace, "replace") {
        return Ok(None);
    }
    let Ok([of, letter, with]) = <[Physical; 3]>::try_from(args(&replace)) else { return Ok(None) };
    let Some(([letter], "")) = literal_text(&letter).map(str::as_bytes).zip(literal_text(&with)) else {
        return Ok(None);
    };
    let known = letter.is_ascii() && of.data_type(input)? == DataType::Utf8;
    Ok(known.then(|| Arc::new(Without { of: of.clone(), letter: *letter }) as Physical))
}

impl Without {
    fn count(&self, text: &str) -> i32 {
        let bytes = text.as_bytes();
        // Bytes that begin a character, but for the letter. Two passes that the compiler makes vectors of.
        let characters = bytes.iter().filter(|b| (**b as i8) >= -0x40).count();
        let letters = bytes.iter().filter(|b| **b == self.letter).count();
        (characters - letters) as i32
    }
}

impl PartialEq for Without {
    fn eq(&self, other: &Without) -> bool {
        self.of.eq(&other.of) && self.letter == other.letter
    }
}

impl Hash for Without {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.hash(state);
        self.letter.hash(state);
    }
}

impl fmt::Display for Without {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "char_length(replace({}, '{}', ''))", self.of, char::from(self.letter))
    }
}

impl PhysicalExpr for Without {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Int32)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.of.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        let column = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(text) = column.as_string_opt::<i32>() else {
            return internal_err!("letters of {}", column.data_type());
        };
        let counts: Vec<i32> = (0..text.len()).map(|row| self.count(text.value(row))).collect();
        Ok(ColumnarValue::Array(Arc::new(Int32Array::new(counts.into(), text.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Physical> {
        vec![&self.of]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Physical>) -> Result<Physical> {
        match children.pop() {
            Some(of) => Ok(Arc::new(Without { of, letter: self.letter })),
            None => internal_err!("letters without a text"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
