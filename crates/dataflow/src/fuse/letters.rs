//! `CHAR_LENGTH(REPLACE(x, 'c', ''))`: how SQL counts letters, by making a text without them. Here they are counted.

use super::{Physical, literal_text};
use arrow::array::{Array, AsArray, Int32Array, RecordBatch, StringArray};
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

/// Bytes that are counted in one byte, which more could overflow.
const CHUNK: usize = u8::MAX as usize;

/// How many bytes fulfil the condition. Sums of one byte each, so that the compiler counts many side by side.
#[inline]
fn count(text: &[u8], condition: impl Fn(u8) -> bool) -> usize {
    text.chunks(CHUNK).map(|bytes| usize::from(bytes.iter().map(|b| u8::from(condition(*b))).sum::<u8>())).sum()
}

impl Without {
    fn over(&self, text: &StringArray) -> Int32Array {
        let ascii = text.is_ascii();
        let one = |row: usize| {
            let bytes = text.value(row).as_bytes();
            // Each character has one byte that is no continuation of another.
            let characters = if ascii { bytes.len() } else { count(bytes, |b| (b as i8) >= -0x40) };
            (characters - count(bytes, |b| b == self.letter)) as i32
        };
        let counts: Vec<i32> = (0..text.len()).map(one).collect();
        Int32Array::new(counts.into(), text.nulls().cloned())
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
        Ok(ColumnarValue::Array(Arc::new(self.over(text))))
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
