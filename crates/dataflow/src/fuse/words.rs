//! A text held against a few constant words: `x = 'a'`, `LOWER(x) IN ('a', 'b')`.
//!
//! One pass over the text, with no text made for LOWER.

use super::{Physical, literal_text};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
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
    let mut words = left.words.clone();
    words.words.extend_from_slice(&right.words.words);
    let one = left.of.eq(&right.of) && left.words.lower == right.words.lower && words.words.len() <= WORDS_MAX;
    one.then(|| InWords { of: left.of.clone(), words })
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
    let words = Words { words: words.into_iter().map(str::to_string).collect(), lower: lowered.is_some() };
    let of = lowered.map_or(of, |f| &f.args()[0]);
    Ok((of.data_type(input)? == DataType::Utf8).then(|| (of.clone(), words)))
}

impl Words {
    /// Which word the text is.
    #[inline]
    fn position(&self, text: &str, ascii: bool) -> Option<usize> {
        if !self.lower {
            return self.words.iter().position(|w| w == text);
        }
        if ascii || text.is_ascii() {
            let same = |w: &String| {
                w.len() == text.len() && w.bytes().zip(text.bytes()).all(|(w, t)| w == t.to_ascii_lowercase())
            };
            return self.words.iter().position(same);
        }
        // Lower case may have another length, and be ASCII where the text is not (the Kelvin sign).
        let text = text.to_lowercase();
        self.words.iter().position(|w| *w == text)
    }
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
        let ascii = self.words.lower && column.is_ascii();
        let found = arrow::buffer::BooleanBuffer::collect_bool(column.len(), |row| {
            // What stands in the place of a NULL is a text too.
            self.words.position(column.value(row), ascii).is_some()
        });
        BooleanArray::new(found, column.nulls().cloned())
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
        let mut all = FirstWord {
            of: first.of.clone(),
            words: Words { words: Vec::new(), lower: first.words.lower },
            test: Vec::new(),
        };
        for (i, t) in tests.iter().enumerate() {
            for word in &t.words.words {
                all.words.words.push(word.clone());
                all.test.push(i as u8);
            }
        }
        Some(all)
    }

    /// The test that holds first, for each row; `none` where none does.
    pub fn over(&self, batch: &RecordBatch, none: u8) -> Result<Vec<u8>> {
        let column = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        let Some(column) = column.as_string_opt::<i32>() else {
            return internal_err!("words of {}", column.data_type());
        };
        let ascii = self.words.lower && column.is_ascii();
        let first = |row: usize| match self.words.position(column.value(row), ascii) {
            Some(word) if column.is_valid(row) => self.test[word],
            _ => none,
        };
        Ok((0..column.len()).map(first).collect())
    }
}
