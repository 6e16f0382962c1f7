//! CASE between constant texts: first the number of the branch for each row, then one column from these.
//!
//! Conditions that cost little and cannot fail are asked of whole batches, where CASE would copy the rows that are left
//! after each of them. Only an ELSE that computes something sees its rows alone.

use super::is_plain;
use super::some_rows::SomeRows;
use super::text::TextColumn;
use super::words::FirstWord;
use super::{Physical, literal};
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, ScalarValue, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::CaseExpr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// More branches are left as they are.
const BRANCHES_MAX: usize = 64;

/// `CASE WHEN test THEN 'text' ... ELSE otherwise END`.
#[derive(Debug)]
pub struct Choice {
    tests: Vec<Physical>,
    /// Where all tests hold one text against words.
    first_word: Option<FirstWord>,
    /// Of each branch; `None` is NULL. The last one is for rows that no test holds for, unless `otherwise` computes it.
    texts: Vec<Option<String>>,
    otherwise: Option<SomeRows>,
}

pub fn fuse(e: &Physical, input: &Schema) -> Result<Option<Physical>> {
    let Some(case) = e.downcast_ref::<CaseExpr>() else { return Ok(None) };
    let (tests, values): (Vec<Physical>, Vec<Physical>) = case.when_then_expr().iter().cloned().unzip();
    if case.expr().is_some()
        || tests.len() > BRANCHES_MAX
        || !tests.iter().all(is_plain)
        || case.data_type(input)? != DataType::Utf8
    {
        return Ok(None);
    }
    let text = |e: &Physical| match literal(e) {
        Some(ScalarValue::Utf8(text)) => Some(text.clone()),
        _ => None,
    };
    let Some(mut texts) = values.iter().map(text).collect::<Option<Vec<_>>>() else { return Ok(None) };
    let otherwise = match case.else_expr() {
        None => {
            texts.push(None);
            None
        }
        Some(e) => match text(e) {
            Some(text) => {
                texts.push(text);
                None
            }
            None if e.data_type(input)? == DataType::Utf8 => Some(SomeRows::new(e.clone())?),
            None => return Ok(None),
        },
    };
    Ok(Some(Arc::new(Choice { first_word: FirstWord::new(&tests), tests, texts, otherwise })))
}

impl Choice {
    /// The first test that holds, for each row; the number of tests where none does.
    fn branches(&self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let none = self.tests.len() as u8;
        if let Some(words) = &self.first_word {
            return words.over(batch, none);
        }
        let rows = batch.num_rows();
        let mut branch = vec![none; rows];
        let mut open = BooleanBuffer::new_set(rows);
        for (i, test) in self.tests.iter().enumerate() {
            let holds = test.evaluate(batch)?.into_array(rows)?;
            let holds = holds.as_boolean();
            let mut hit = holds.values() & &open;
            if let Some(nulls) = holds.nulls() {
                hit = &hit & nulls.inner();
            }
            for row in hit.set_indices() {
                branch[row] = i as u8;
            }
            open = &open & &!&hit;
        }
        Ok(branch)
    }

    fn over(&self, batch: &RecordBatch) -> Result<StringArray> {
        let branches = self.branches(batch)?;
        let computed = match &self.otherwise {
            None => None,
            Some(otherwise) => {
                let none = self.tests.len() as u8;
                let chosen = BooleanBuffer::collect_bool(branches.len(), |row| branches[row] == none);
                match chosen.count_set_bits() {
                    0 => None,
                    count => Some(otherwise.evaluate(batch, &BooleanArray::new(chosen, None), count)?),
                }
            }
        };
        let computed = computed.as_ref().map(|c| c.as_string::<i32>());
        let bytes = branches.len() * 8 + computed.map_or(0, |c| c.value_data().len());
        let mut out = TextColumn::with_capacity(branches.len(), bytes);
        let mut next = 0;
        // Row by row: each has a text of its own length.
        for branch in branches {
            match (self.texts.get(usize::from(branch)), computed) {
                (Some(Some(text)), _) => out.push(text),
                (None, Some(computed)) if computed.is_valid(next) => {
                    out.push(computed.value(next));
                    next += 1;
                }
                (None, Some(_)) => {
                    out.push_null();
                    next += 1;
                }
                (Some(None), _) | (None, None) => out.push_null(),
            }
        }
        out.finish()
    }
}

impl PartialEq for Choice {
    fn eq(&self, other: &Choice) -> bool {
        let otherwise = |c: &Choice| c.otherwise.as_ref().map(|o| o.whole.clone());
        self.tests == other.tests && self.texts == other.texts && otherwise(self) == otherwise(other)
    }
}

impl Eq for Choice {}

impl Hash for Choice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.tests.hash(state);
        self.texts.hash(state);
        self.otherwise.as_ref().map(|o| &o.whole).hash(state);
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CASE")?;
        for (test, text) in self.tests.iter().zip(&self.texts) {
            write!(f, " WHEN {test} THEN {text:?}")?;
        }
        match (&self.otherwise, self.texts.last()) {
            (Some(otherwise), _) => write!(f, " ELSE {} END", otherwise.whole),
            (None, text) => write!(f, " ELSE {text:?} END"),
        }
    }
}

impl PhysicalExpr for Choice {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        match &self.otherwise {
            Some(otherwise) if otherwise.whole.nullable(input)? => Ok(true),
            _ => Ok(self.texts.contains(&None)),
        }
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.over(batch)?)))
    }

    fn children(&self) -> Vec<&Physical> {
        self.tests.iter().chain(self.otherwise.as_ref().map(|o| &o.whole)).collect()
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Physical>) -> Result<Physical> {
        if children.len() < self.tests.len() {
            return internal_err!("a CASE without its tests");
        }
        let otherwise = children.split_off(self.tests.len()).pop().map(SomeRows::new).transpose()?;
        let (tests, texts) = (children, self.texts.clone());
        Ok(Arc::new(Choice { first_word: FirstWord::new(&tests), tests, texts, otherwise }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
