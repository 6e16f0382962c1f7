//! A text held against a few constant words: `x = 'a'`, `LOWER(x) IN ('a', 'b')`.
//!
//! One pass over the text, with no text made for LOWER.

use super::{Physical, literal_text};
use arrow::array::{Array, AsArray, BooleanArray, BooleanBufferBuilder, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::expressions::{BinaryExpr, InListExpr};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// More words are looked up better by a hash, as they were.
const WORDS_MAX: usize = 8;

/// Whether a text is one of the words.
#[derive(Debug, Eq)]
pub struct InWords {
    of: Physical,
    words: Words,
}

/// Words that texts are compared with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Words {
    words: Vec<String>,
    /// Their lengths and bytes, where all are short.
    codes: Option<Vec<(usize, u128)>>,
    /// `LOWER` of the text is compared, not the text.
    lower: bool,
}

pub fn fuse(e: &Physical, input: &Schema) -> Result<Option<Physical>> {
    if let Some(either) = either(e) {
        return Ok(Some(Arc::new(either)));
    }
    let Some((of, words)) = test(e, input)? else { return Ok(None) };
    Ok(Some(Arc::new(InWords { of, words })))
}

/// `x = 'a' OR x = 'b'` as one test.
fn either(e: &Physical) -> Option<InWords> {
    let b = e.downcast_ref::<BinaryExpr>().filter(|b| *b.op() == Operator::Or)?;
    let (left, right) = (b.left().downcast_ref::<InWords>()?, b.right().downcast_ref::<InWords>()?);
    let words = [left.words.words.as_slice(), right.words.words.as_slice()].concat();
    let one = left.of.eq(&right.of) && left.words.lower == right.words.lower && words.len() <= WORDS_MAX;
    one.then(|| InWords { of: left.of.clone(), words: Words::new(words, left.words.lower) })
}

fn test(e: &Physical, input: &Schema) -> Result<Option<(Physical, Words)>> {
    let (of, words): (&Physical, Vec<&str>) = if let Some(b) = e.downcast_ref::<BinaryExpr>() {
        match (b.op(), literal_text(b.left()), literal_text(b.right())) {
            (Operator::Eq, None, Some(word)) => (b.left(), vec![word]),
            (Operator::Eq, Some(word), None) => (b.right(), vec![word]),
            _ => return Ok(None),
        }
    } else if let Some(list) = e.downcast_ref::<InListExpr>()
        && !list.negated()
        && (1..=WORDS_MAX).contains(&list.len())
    {
        // A NULL in the list makes NULL of "not found": that is left as it is.
        match list.list().iter().map(literal_text).collect::<Option<_>>() {
            Some(words) => (list.expr(), words),
            None => return Ok(None),
        }
    } else {
        return Ok(None);
    };
    let lowered = of.downcast_ref::<ScalarFunctionExpr>().filter(|f| f.name() == "lower" && f.args().len() == 1);
    let words = Words::new(words.into_iter().map(str::to_string).collect(), lowered.is_some());
    let of = lowered.map_or(of, |f| &f.args()[0]);
    Ok((of.data_type(input)? == DataType::Utf8).then(|| (of.clone(), words)))
}

impl Words {
    fn new(words: Vec<String>, lower: bool) -> Words {
        let code = |w: &String| (w.len() <= CODE_BYTES).then(|| (w.len(), short_code(w.as_bytes())));
        let codes = words.iter().map(code).collect();
        Words { words, codes, lower }
    }

    /// For each row, which word its text is; a NULL is what stands in its place.
    fn positions(&self, column: &StringArray, mut each: impl FnMut(usize, Option<usize>)) {
        let ascii = !self.lower || column.is_ascii();
        let (Some(codes), true) = (&self.codes, ascii) else {
            (0..column.len()).for_each(|row| each(row, self.position(column.value(row))));
            return;
        };
        // A text of 16 bytes at most is compared as one number. It is read with what follows it, which is cut off.
        let (data, ends) = (column.value_data(), column.value_offsets());
        for (row, bounds) in ends.windows(2).enumerate() {
            let (from, length) = (bounds[0] as usize, (bounds[1] - bounds[0]) as usize);
            if length > CODE_BYTES {
                each(row, None);
                continue;
            }
            let mut code = match data[from..].first_chunk() {
                Some(wide) => code_of(wide, length),
                None => short_code(&data[from..from + length]),
            };
            if self.lower {
                code = lower(code);
            }
            each(row, codes.iter().position(|c| *c == (length, code)));
        }
    }

    /// Which word the text is.
    fn position(&self, text: &str) -> Option<usize> {
        if !self.lower {
            return self.words.iter().position(|w| w == text);
        }
        // Lower case may have another length, and be ASCII where the text is not (the Kelvin sign).
        let text = text.to_lowercase();
        self.words.iter().position(|w| *w == text)
    }
}

/// Bytes that one code holds.
const CODE_BYTES: usize = 16;

/// The first `length` bytes, at most 16, as a number.
#[inline]
fn code_of(wide: &[u8; CODE_BYTES], length: usize) -> u128 {
    let all = u128::from_le_bytes(*wide);
    // Shifted by all of its bits, a number would stay as it is.
    all & u128::MAX.checked_shr(8 * (CODE_BYTES - length) as u32).unwrap_or(0)
}

fn short_code(text: &[u8]) -> u128 {
    let mut wide = [0; CODE_BYTES];
    wide[..text.len()].copy_from_slice(text);
    u128::from_le_bytes(wide)
}

/// Sixteen ASCII characters in lower case.
#[inline]
fn lower(code: u128) -> u128 {
    const fn each(byte: u8) -> u128 {
        u128::from_le_bytes([byte; CODE_BYTES])
    }
    // The highest bit of a byte says: at least `A`, and not past `Z`. No byte carries into the next.
    let upper = (code + each(0x80 - b'A')) & !(code + each(0x7f - b'Z')) & each(0x80);
    code | (upper >> 2)
}

impl InWords {
    fn column(&self, batch: &RecordBatch) -> Result<StringArray> {
        let column = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        match column.as_string_opt::<i32>() {
            Some(text) => Ok(text.clone()),
            None => internal_err!("words of {}", column.data_type()),
        }
    }

    fn over(&self, column: &StringArray) -> BooleanArray {
        let mut found = BooleanBufferBuilder::new(column.len());
        self.words.positions(column, |_, word| found.append(word.is_some()));
        BooleanArray::new(found.finish(), column.nulls().cloned())
    }
}

impl PartialEq for InWords {
    fn eq(&self, other: &InWords) -> bool {
        self.of.eq(&other.of) && self.words == other.words
    }
}

impl Hash for InWords {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.of.hash(state);
        self.words.hash(state);
    }
}

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lower = if self.words.lower { "lower" } else { "" };
        write!(f, "{lower}({}) IN {:?}", self.of, self.words.words)
    }
}

impl PhysicalExpr for InWords {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        self.of.nullable(input)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.over(&self.column(batch)?))))
    }

    fn children(&self) -> Vec<&Physical> {
        vec![&self.of]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Physical>) -> Result<Physical> {
        match children.pop() {
            Some(of) => Ok(Arc::new(InWords { of, words: self.words.clone() })),
            None => internal_err!("words without a text"),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

/// Tests of one and the same text, in turn: which of them is the first to hold.
#[derive(Debug)]
pub struct FirstWord {
    of: Physical,
    words: Words,
    /// The test that each word belongs to.
    test: Vec<u8>,
}

impl FirstWord {
    /// Where all of these are tests of one text.
    pub fn new(tests: &[Physical]) -> Option<FirstWord> {
        let tests: Vec<&InWords> = tests.iter().map(|t| t.downcast_ref::<InWords>()).collect::<Option<_>>()?;
        let first = tests.first()?;
        let alike = |t: &&InWords| t.of.eq(&first.of) && t.words.lower == first.words.lower;
        if !tests.iter().all(alike) || tests.iter().map(|t| t.words.words.len()).sum::<usize>() > WORDS_MAX {
            return None;
        }
        let numbered = |(i, t): (usize, &&InWords)| std::iter::repeat_n(i as u8, t.words.words.len());
        let test = tests.iter().enumerate().flat_map(numbered).collect();
        let words = tests.iter().flat_map(|t| t.words.words.iter().cloned()).collect();
        Some(FirstWord { of: first.of.clone(), words: Words::new(words, first.words.lower), test })
    }

    /// The test that holds first, for each row; `none` where none does.
    pub fn over(&self, batch: &RecordBatch, none: u8) -> Result<Vec<u8>> {
        let column = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(column) = column.as_string_opt::<i32>() else {
            return internal_err!("words of {}", column.data_type());
        };
        let mut tests = vec![none; column.len()];
        self.words.positions(column, |row, word| {
            if let Some(word) = word
                && column.is_valid(row)
            {
                tests[row] = self.test[word];
            }
        });
        Ok(tests)
    }
}
