//! Which branch of a CASE a row takes, as a number.

use super::words::FirstWord;
use super::{Physical, literal};
use arrow::array::{Array, AsArray, PrimitiveArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{ArrowPrimitiveType, DataType, Int32Type, Int64Type};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::BinaryExpr;

/// More branches are left as they are.
pub const BRANCHES_MAX: usize = 64;

/// With more numbers than this, to compare each row with each of them costs more than to ask the tests.
const NUMBERS_MAX: usize = 8;

/// Tests in turn, which cost little and cannot fail: they are asked of whole batches, where CASE would copy the rows that
/// are left after each of them.
#[derive(Debug)]
pub struct Branches {
    pub tests: Vec<Physical>,
    alike: Alike,
}

/// Tests that look at one value, which is looked at once.
#[derive(Debug)]
enum Alike {
    No,
    Words(FirstWord),
    Numbers(FirstNumber),
}

/// `of = 0`, then `of = 1`, ..
#[derive(Debug)]
struct FirstNumber {
    of: Physical,
    numbers: Vec<i64>,
}

impl Branches {
    pub fn new(tests: Vec<Physical>) -> Branches {
        let alike = match FirstWord::new(&tests) {
            Some(words) => Alike::Words(words),
            None => FirstNumber::new(&tests).map_or(Alike::No, Alike::Numbers),
        };
        Branches { tests, alike }
    }

    /// What a row has that no test holds for.
    pub fn none(&self) -> u8 {
        self.tests.len() as u8
    }

    /// The first test that holds, for each row; [`Branches::none`] where none does.
    pub fn over(&self, batch: &RecordBatch) -> Result<Vec<u8>> {
        match &self.alike {
            Alike::Words(words) => words.over(batch, self.none()),
            Alike::Numbers(numbers) => match numbers.over(batch, self.none())? {
                Some(branches) => Ok(branches),
                None => self.in_turn(batch),
            },
            Alike::No => self.in_turn(batch),
        }
    }

    fn in_turn(&self, batch: &RecordBatch) -> Result<Vec<u8>> {
        let rows = batch.num_rows();
        let mut branch = vec![self.none(); rows];
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
}

impl FirstNumber {
    fn new(tests: &[Physical]) -> Option<FirstNumber> {
        let compared = |e: &Physical| {
            let b = e.downcast_ref::<BinaryExpr>().filter(|b| *b.op() == Operator::Eq)?;
            let number = match literal(b.right())? {
                ScalarValue::Int32(Some(n)) => i64::from(*n),
                ScalarValue::Int64(Some(n)) => *n,
                _ => return None,
            };
            Some((b.left().clone(), number))
        };
        let tests: Vec<(Physical, i64)> = tests.iter().map(compared).collect::<Option<_>>()?;
        let of = tests.first()?.0.clone();
        let alike = tests.len() <= NUMBERS_MAX && tests.iter().all(|t| t.0.eq(&of));
        alike.then(|| FirstNumber { of, numbers: tests.iter().map(|t| t.1).collect() })
    }

    /// `None`: the values are of another type than the constants.
    fn over(&self, batch: &RecordBatch, none: u8) -> Result<Option<Vec<u8>>> {
        let of = self.of.evaluate(batch)?.into_array(batch.num_rows())?;
        Ok(match of.data_type() {
            DataType::Int32 => self.among(of.as_primitive::<Int32Type>(), |n| i32::try_from(n).ok(), none),
            DataType::Int64 => self.among(of.as_primitive::<Int64Type>(), Some, none),
            _ => None,
        })
    }

    fn among<T: ArrowPrimitiveType>(
        &self,
        of: &PrimitiveArray<T>,
        number: impl Fn(i64) -> Option<T::Native>,
        none: u8,
    ) -> Option<Vec<u8>> {
        let numbers: Vec<T::Native> = self.numbers.iter().map(|n| number(*n)).collect::<Option<_>>()?;
        let mut branches = vec![none; of.len()];
        // The last first, so that of two tests for one number the first stands.
        for (i, number) in numbers.iter().enumerate().rev() {
            let rows = branches.iter_mut().zip(of.values());
            rows.for_each(|(branch, value)| *branch = if value == number { i as u8 } else { *branch });
        }
        if let Some(nulls) = of.nulls().filter(|n| n.null_count() > 0) {
            let rows = branches.iter_mut().zip(nulls);
            rows.for_each(|(branch, known)| *branch = if known { *branch } else { none });
        }
        Some(branches)
    }
}
