//! AND and OR by turns: one side goes first, and the others are asked only where they still matter.
//!
//! `f(y) OR x = 'a'` is true where `x = 'a'` is, whatever `f` says. What goes first cannot fail and costs little, so it
//! does no harm on rows that the query would not have asked it for. Where all sides of an AND are like that, the first of
//! them goes first, and the others see all rows unless it leaves few.

use super::Physical;
use super::is_plain;
use super::some_rows::SomeRows;
use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::{BooleanBuffer, MutableBuffer};
use arrow::compute::{and_kleene, or_kleene};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, internal_err};
use datafusion_expr::{ColumnarValue, Operator};
use datafusion_physical_expr::expressions::BinaryExpr;
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// To copy what is read of the rows that are open pays where they are this few of all: one of so many.
const FEW: usize = 4;

/// `first AND rest` or `first OR rest`.
#[derive(Debug)]
pub struct Open {
    first: Physical,
    rest: SomeRows,
    /// `rest` cannot fail and costs little, too.
    plain: bool,
    and: bool,
}

pub fn fuse(e: &Physical, input: &Schema) -> Result<Option<Physical>> {
    let Some(b) = e.downcast_ref::<BinaryExpr>() else { return Ok(None) };
    if !matches!(b.op(), Operator::And | Operator::Or) {
        return Ok(None);
    }
    let mut sides = Vec::new();
    flatten(e, *b.op(), &mut sides);
    let (mut first, mut rest): (Vec<Physical>, Vec<Physical>) = sides.into_iter().partition(is_plain);
    let plain = rest.is_empty() && *b.op() == Operator::And;
    if plain {
        rest = first.split_off(1);
    } else if !rest.iter().any(calls) {
        return Ok(None);
    }
    let together = |sides: Vec<Physical>| {
        sides.into_iter().reduce(|left, right| Arc::new(BinaryExpr::new(left, *b.op(), right)) as Physical)
    };
    let (Some(first), Some(rest)) = (together(first), together(rest)) else { return Ok(None) };
    let rest = SomeRows::new(rest, Some(input))?;
    Ok(Some(Arc::new(Open { first, rest, plain, and: *b.op() == Operator::And })))
}

/// Whether a function is called that costs. For less, to copy the rows that are open would not pay.
fn calls(e: &Physical) -> bool {
    !is_plain(e) && (e.is::<ScalarFunctionExpr>() || e.children().into_iter().any(calls))
}

/// The sides of a chain of one operator, from the left. What has been rearranged below comes apart again.
fn flatten(e: &Physical, op: Operator, into: &mut Vec<Physical>) {
    if let Some(b) = e.downcast_ref::<BinaryExpr>()
        && *b.op() == op
    {
        flatten(b.left(), op, into);
        flatten(b.right(), op, into);
    } else if let Some(o) = e.downcast_ref::<Open>()
        && o.and == (op == Operator::And)
    {
        flatten(&o.first, op, into);
        flatten(&o.rest.whole, op, into);
    } else {
        into.push(e.clone());
    }
}

impl Open {
    /// Whether both sides cannot fail and cost little.
    pub fn is_plain(&self) -> bool {
        self.plain
    }

    fn over(&self, batch: &RecordBatch) -> Result<BooleanArray> {
        let first = self.first.evaluate(batch)?.into_array(batch.num_rows())?;
        let first = first.as_boolean();
        // A NULL is open in both: NULL OR TRUE is TRUE, NULL AND FALSE is FALSE.
        let mut open = if self.and { first.values().clone() } else { !first.values() };
        if let Some(nulls) = first.nulls() {
            open = &open | &!nulls.inner();
        }
        let count = open.count_set_bits();
        if count == 0 {
            return Ok(first.clone());
        }
        let rest = if self.plain && count > batch.num_rows() / FEW {
            self.rest.whole.evaluate(batch)?.into_array(batch.num_rows())?.as_boolean().clone()
        } else {
            let rest = self.rest.evaluate(batch, &BooleanArray::new(open.clone(), None), count)?;
            spread(rest.as_boolean(), &open)
        };
        Ok(if self.and { and_kleene(first, &rest)? } else { or_kleene(first, &rest)? })
    }
}

/// Puts the values where `at` has its ones; FALSE elsewhere, where the other side decides alone.
fn spread(values: &BooleanArray, at: &BooleanBuffer) -> BooleanArray {
    if values.len() == at.len() {
        return values.clone();
    }
    let bits = |from: &BooleanBuffer| {
        let mut bits = MutableBuffer::from_len_zeroed(at.len().div_ceil(8));
        for (i, row) in at.set_indices().enumerate() {
            if from.value(i) {
                arrow::util::bit_util::set_bit(bits.as_slice_mut(), row);
            }
        }
        BooleanBuffer::new(bits.into(), 0, at.len())
    };
    let nulls = values.nulls().map(|n| &bits(n.inner()) | &!at);
    BooleanArray::new(bits(values.values()), nulls.map(Into::into))
}

impl PartialEq for Open {
    fn eq(&self, other: &Open) -> bool {
        self.first.eq(&other.first) && self.rest.whole.eq(&other.rest.whole) && self.and == other.and
    }
}

impl Eq for Open {}

impl Hash for Open {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.first.hash(state);
        self.rest.whole.hash(state);
        self.and.hash(state);
    }
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.first, if self.and { "AND" } else { "OR" }, self.rest.whole)
    }
}

impl PhysicalExpr for Open {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        Ok(self.first.nullable(input)? || self.rest.whole.nullable(input)?)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(Arc::new(self.over(batch)?)))
    }

    fn children(&self) -> Vec<&Physical> {
        vec![&self.first, &self.rest.whole]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Physical>) -> Result<Physical> {
        match <[Physical; 2]>::try_from(children) {
            Ok([first, rest]) => {
                Ok(Arc::new(Open { first, rest: SomeRows::new(rest, None)?, plain: self.plain, and: self.and }))
            }
            Err(other) => internal_err!("{} sides of AND or OR", other.len()),
        }
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}
