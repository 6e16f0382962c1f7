//! CASE between columns of numbers or times: first the number of the branch for each row, then each value from the column
//! of its branch. Nothing but these values is copied.

use super::branches::{BRANCHES_MAX, Branches};
use super::is_plain;
use super::reads::is_read;
use super::{Physical, literal};
use arrow::array::{Array, ArrayData, ArrayRef, RecordBatch, make_array};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{Result, internal_err};
use datafusion_expr::ColumnarValue;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::expressions::CaseExpr;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// `CASE WHEN test THEN column .. ELSE column END`.
#[derive(Debug)]
pub struct Pick {
    branches: Branches,
    /// Of each branch; the last one is for rows that no test holds for. `None` is NULL.
    values: Vec<Option<Physical>>,
    kind: DataType,
}

/// Types whose values are 8 bytes, whatever they mean.
fn fits(kind: &DataType) -> bool {
    use DataType::*;
    matches!(kind, Int64 | UInt64 | Float64 | Timestamp(..) | Date64 | Time64(_) | Duration(_))
}

pub fn fuse(e: &Physical, input: &Schema) -> Result<Option<Physical>> {
    let Some(case) = e.downcast_ref::<CaseExpr>() else { return Ok(None) };
    let (tests, values): (Vec<Physical>, Vec<Physical>) = case.when_then_expr().iter().cloned().unzip();
    let kind = case.data_type(input)?;
    if case.expr().is_some() || tests.len() > BRANCHES_MAX || !tests.iter().all(is_plain) || !fits(&kind) {
        return Ok(None);
    }
    let values = values.iter().map(Some).chain([case.else_expr()]);
    let value = |e: Option<&Physical>| -> Result<Option<Option<Physical>>> {
        Ok(match e {
            None => Some(None),
            Some(e) if literal(e).is_some_and(|v| v.is_null()) => Some(None),
            Some(e) if is_read(e, input) && e.data_type(input)? == kind => Some(Some(e.clone())),
            Some(_) => None,
        })
    };
    let Some(values) = values.map(value).collect::<Result<Option<Vec<_>>>>()? else { return Ok(None) };
    Ok(Some(Arc::new(Pick { branches: Branches::new(tests), values, kind })))
}

impl Pick {
    fn over(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let branches = self.branches.over(batch)?;
        let columns: Vec<Option<ArrayRef>> = (self.values.iter())
            .map(|v| v.as_ref().map(|v| v.evaluate(batch)?.into_array(batch.num_rows())).transpose())
            .collect::<Result<_>>()?;
        let data: Vec<Option<ArrayData>> = columns.iter().map(|c| c.as_ref().map(|c| c.to_data())).collect();
        // What stands at a NULL's place has no meaning, so NULL may take its values from any column.
        let Some(any) = data.iter().flatten().next() else {
            return Ok(arrow::array::new_null_array(&self.kind, batch.num_rows()));
        };
        let words = |d: &ArrayData| ScalarBuffer::<i64>::new(d.buffers()[0].clone(), d.offset(), d.len());
        let words: Vec<ScalarBuffer<i64>> = data.iter().map(|d| words(d.as_ref().unwrap_or(any))).collect();
        let words: Vec<&[i64]> = words.iter().map(|w| &w[..branches.len()]).collect();
        let picked: Vec<i64> = match words[..] {
            // All values of a row are read and one is taken, without a test that the processor could guess wrong.
            [a, b] => a.iter().zip(b).zip(&branches).map(|((a, b), of)| if *of == 0 { *a } else { *b }).collect(),
            [a, b, c] => {
                let rows = a.iter().zip(b).zip(c).zip(&branches);
                rows.map(|(((a, b), c), of)| {
                    let rest = if *of == 1 { *b } else { *c };
                    if *of == 0 { *a } else { rest }
                })
                .collect()
            }
            _ => branches.iter().enumerate().map(|(row, of)| words[usize::from(*of)][row]).collect(),
        };
        let made = ArrayData::builder(self.kind.clone())
            .len(branches.len())
            .add_buffer(ScalarBuffer::from(picked).into_inner())
            .nulls(self.nulls(&branches, &columns))
            .build()?;
        Ok(make_array(made))
    }

    fn nulls(&self, branches: &[u8], columns: &[Option<ArrayRef>]) -> Option<NullBuffer> {
        if columns.iter().all(|c| c.as_ref().is_some_and(|c| c.null_count() == 0)) {
            return None;
        }
        // Of each branch the rows that have it, and of these the ones whose value is known: 64 rows are a word.
        let mut known = vec![0u64; branches.len().div_ceil(64)];
        for (branch, column) in columns.iter().enumerate() {
            let Some(column) = column else { continue };
            let rows = known.iter_mut().zip(branches.chunks(64).map(|of| equal(of, branch as u8)));
            match column.nulls() {
                None => rows.for_each(|(known, here)| *known |= here),
                Some(nulls) => {
                    let valid = nulls.inner().bit_chunks();
                    rows.zip(valid.iter_padded()).for_each(|((known, here), valid)| *known |= here & valid);
                }
            }
        }
        let known = BooleanBuffer::new(ScalarBuffer::from(known).into_inner(), 0, branches.len());
        Some(NullBuffer::new(known)).filter(|nulls| nulls.null_count() > 0)
    }
}

/// Which of up to 64 bytes are this one, as bits. Eight at a time: a byte of a word is 0 where they are equal, and its highest
/// bit then moves to the bit of its place.
fn equal(bytes: &[u8], to: u8) -> u64 {
    const LOW: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let to = u64::from(to).wrapping_mul(0x0101_0101_0101_0101);
    let eight = |bytes: &[u8]| {
        let mut word = [0xff; 8];
        word[..bytes.len()].copy_from_slice(bytes);
        let differs = u64::from_le_bytes(word) ^ to;
        let zero = !(((differs & LOW) + LOW) | differs | LOW);
        (zero >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56
    };
    bytes.chunks(8).enumerate().fold(0, |bits, (i, bytes)| bits | eight(bytes) << (8 * i))
}

impl PartialEq for Pick {
    fn eq(&self, other: &Pick) -> bool {
        self.branches.tests == other.branches.tests && self.values == other.values
    }
}

impl Eq for Pick {}

impl Hash for Pick {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.branches.tests.hash(state);
        self.values.hash(state);
    }
}

impl fmt::Display for Pick {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CASE")?;
        let told = |v: &Option<Physical>| v.as_ref().map_or_else(|| "NULL".to_owned(), |v| v.to_string());
        for (test, value) in self.branches.tests.iter().zip(&self.values) {
            write!(f, " WHEN {test} THEN {}", told(value))?;
        }
        write!(f, " ELSE {} END", self.values.last().map_or_else(String::new, told))
    }
}

impl PhysicalExpr for Pick {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(self.kind.clone())
    }

    fn nullable(&self, input: &Schema) -> Result<bool> {
        let nullable = |v: &Option<Physical>| v.as_ref().map_or(Ok(true), |v| v.nullable(input));
        self.values.iter().map(nullable).try_fold(false, |any, one| Ok(any | one?))
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        Ok(ColumnarValue::Array(self.over(batch)?))
    }

    fn children(&self) -> Vec<&Physical> {
        self.branches.tests.iter().chain(self.values.iter().flatten()).collect()
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Physical>) -> Result<Physical> {
        let mut children = children.into_iter();
        let tests: Vec<Physical> = children.by_ref().take(self.branches.tests.len()).collect();
        let values: Vec<Option<Physical>> =
            self.values.iter().map(|v| v.as_ref().and_then(|_| children.next())).collect();
        if tests.len() < self.branches.tests.len()
            || values.iter().flatten().count() < self.values.iter().flatten().count()
        {
            return internal_err!("a CASE without its tests or values");
        }
        Ok(Arc::new(Pick { branches: Branches::new(tests), values, kind: self.kind.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_bytes_are_bits_at_their_place() {
        let mut state = 7u32;
        for len in 0..=64usize {
            let bytes: Vec<u8> = (0..len)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    [0, 1, 2, 64, 63][(state >> 24) as usize % 5]
                })
                .collect();
            for to in [0, 1, 2, 63, 64] {
                let wanted = bytes.iter().enumerate().map(|(i, b)| u64::from(*b == to) << i).sum::<u64>();
                assert_eq!(equal(&bytes, to), wanted, "{to} in {bytes:?}");
            }
        }
    }
}
