//! Parts of a text between delimiters: what SPLIT_INDEX answers, for several indexes in one pass.

use super::text::TextColumn;
use super::{Physical, literal, literal_text};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_physical_expr::ScalarFunctionExpr;
use std::sync::Arc;

/// The parts wanted of one text. More than this, or further on, are cut out one by one.
const PARTS_MAX: usize = 16;

/// `SPLIT_INDEX(of, delimiter, index)` for some indexes.
#[derive(Debug, Clone)]
pub struct Parts {
    of: Physical,
    /// ASCII.
    delimiter: u8,
    /// For each part of the text, up to the last one wanted, where it goes among the results.
    wanted: Vec<Option<usize>>,
    results: usize,
}

/// One call: the text, the delimiter, the index.
fn call(e: &Physical, input: &Schema) -> Option<(Physical, u8, usize)> {
    let f = e.downcast_ref::<ScalarFunctionExpr>()?;
    let [of, delimiter, index] = f.args() else { return None };
    let [delimiter] = literal_text(delimiter)?.as_bytes() else { return None };
    let ScalarValue::Int64(Some(index)) = literal(index)? else { return None };
    let index = usize::try_from(*index).ok().filter(|i| *i < PARTS_MAX)?;
    let text =
        f.name() == "split_index" && *f.return_type() == DataType::Utf8 && of.data_type(input).ok()? == DataType::Utf8;
    text.then(|| (of.clone(), *delimiter, index))
}

impl Parts {
    /// Which of the expressions are parts of the same text as another one, put together: for each text its parts, and
    /// for each expression which text and which part of it.
    pub fn gather(exprs: &[Physical], input: &Schema) -> (Vec<Parts>, Vec<Option<(usize, usize)>>) {
        let calls: Vec<_> = exprs.iter().map(|e| call(e, input)).collect();
        let mut all: Vec<Parts> = Vec::new();
        let mut places = vec![None; exprs.len()];
        for (place, this) in places.iter_mut().zip(&calls) {
            let Some((of, delimiter, index)) = this else { continue };
            let alike = |other: &(Physical, u8, usize)| other.0.eq(of) && other.1 == *delimiter;
            if calls.iter().flatten().filter(|c| alike(c)).count() < 2 {
                continue;
            }
            let known = all.iter().position(|p| p.of.eq(of) && p.delimiter == *delimiter);
            let at = known.unwrap_or_else(|| {
                all.push(Parts { of: of.clone(), delimiter: *delimiter, wanted: Vec::new(), results: 0 });
                all.len() - 1
            });
            let parts = &mut all[at];
            if parts.wanted.len() <= *index {
                parts.wanted.resize(index + 1, None);
            }
            let result = *parts.wanted[*index].get_or_insert_with(|| {
                parts.results += 1;
                parts.results - 1
            });
            *place = Some((at, result));
        }
        (all, places)
    }

    /// The columns, in the order of their results.
    pub fn evaluate(&self, batch: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let column = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        match column.as_string_opt::<i32>() {
            Some(text) => self.over(text),
            None => internal_err!("parts of {}", column.data_type()),
        }
    }

    fn over(&self, column: &StringArray) -> Result<Vec<ArrayRef>> {
        let rows = column.len();
        let mut out: Vec<TextColumn> = (0..self.results).map(|_| TextColumn::with_capacity(rows, rows * 16)).collect();
        for row in 0..rows {
            // NULL and the empty text have no parts.
            let text = if column.is_valid(row) { column.value(row) } else { "" };
            let mut from = if text.is_empty() { None } else { Some(0) };
            for wanted in &self.wanted {
                let Some(start) = from else {
                    if let Some(result) = wanted {
                        out[*result].push_null();
                    }
                    continue;
                };
                let end = part_end(text.as_bytes(), start, self.delimiter);
                if let Some(result) = wanted {
                    out[*result].push_part(text, start, end.unwrap_or(text.len()));
                }
                from = end.map(|end| end + 1);
            }
        }
        out.into_iter().map(|c| Ok(Arc::new(c.finish()?) as ArrayRef)).collect()
    }
}

/// Where the part that begins at `start` ends, if a delimiter ends it. Byte by byte: the parts of a path are short, and
/// a search is set up anew for each.
#[inline]
fn part_end(text: &[u8], start: usize, delimiter: u8) -> Option<usize> {
    text[start..].iter().position(|b| *b == delimiter).map(|at| start + at)
}

/// Part `index` (from 0) between ASCII delimiters.
pub fn nth_part(text: &str, delimiter: u8, index: usize) -> Option<&str> {
    let mut start = 0;
    for _ in 0..index {
        start = part_end(text.as_bytes(), start, delimiter)? + 1;
    }
    let end = part_end(text.as_bytes(), start, delimiter).unwrap_or(text.len());
    Some(&text[start..end])
}
