//! CASE between constant texts: first the number of the branch for each row, then one column from these.
//!
//! Only an ELSE that computes something sees its rows alone.

use super::branches::{BRANCHES_MAX, Branches};
use super::is_plain;
use super::some_rows::SomeRows;
use super::text::TextColumn;
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

/// `CASE WHEN test THEN 'text' ... ELSE otherwise END`.
#[derive(Debug)]
pub struct Choice {
    branches: Branches,
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
            None if e.data_type(input)? == DataType::Utf8 => Some(SomeRows::new(e.clone(), Some(input))?),
            None => return Ok(None),
        },
    };
    Ok(Some(Arc::new(Choice { branches: Branches::new(tests), texts, otherwise })))
}

impl Choice {
    fn over(&self, batch: &RecordBatch) -> Result<StringArray> {
        let branches = self.branches.over(batch)?;
        let computed = match &self.otherwise {
            None => None,
            Some(otherwise) => {
                let none = self.branches.none();
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
        self.branches.tests == other.branches.tests && self.texts == other.texts && otherwise(self) == otherwise(other)
    }
}

impl Eq for Choice {}

impl Hash for Choice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.branches.tests.hash(state);
        self.texts.hash(state);
        self.otherwise.as_ref().map(|o| &o.whole).hash(state);
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CASE")?;
        for (test, text) in self.branches.tests.iter().zip(&self.texts) {
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
        self.branches.tests.iter().chain(self.otherwise.as_ref().map(|o| &o.whole)).collect()
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Physical>) -> Result<Physical> {
        if children.len() < self.branches.tests.len() {
            return internal_err!("a CASE without its tests");
        }
        let otherwise = children.split_off(self.branches.tests.len()).pop();
        let otherwise = otherwise.map(|e| SomeRows::new(e, None)).transpose()?;
        Ok(Arc::new(Choice { branches: Branches::new(children), texts: self.texts.clone(), otherwise }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
