//! Which rows of changes are handed on, whoever told of them.

use super::scan::Row;
use crate::types::sql_type;
use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::kernels::cmp::not_distinct;
use arrow::compute::take;
use arrow::datatypes::Field;
use millstream_core::{ChangeKind, Error, Result};
use std::collections::BTreeMap;

/// What is known of the rows' columns.
pub(crate) struct Kept {
    wanted: Vec<Field>,
    /// Which of them may not be NULL: in any row, in a row that is there.
    never_null: Vec<usize>,
    not_null: Vec<usize>,
    by_key: Vec<usize>,
}

impl Kept {
    /// `by_key`: see [`Beyond::by_key`](super::Beyond::by_key).
    pub fn new(wanted: &[Field], by_key: &[String]) -> Result<Kept> {
        let by_key = by_key.iter().map(|name| {
            let at = wanted.iter().position(|f| f.name() == name);
            at.ok_or_else(|| Error::internal(format!("the key column `{name}` is not read")))
        });
        let by_key = by_key.collect::<Result<Vec<usize>>>()?;
        let declared: Vec<usize> = (0..wanted.len()).filter(|&i| !wanted[i].is_nullable()).collect();
        let (never_null, not_null) = match by_key.is_empty() {
            true => (declared, Vec::new()),
            false => (by_key.clone(), declared.into_iter().filter(|i| !by_key.contains(i)).collect()),
        };
        Ok(Kept { wanted: wanted.to_vec(), never_null, not_null, by_key })
    }

    /// The columns as they are handed on.
    pub fn fields(&self) -> Vec<Field> {
        let fields = self.wanted.iter().enumerate();
        fields.map(|(i, f)| f.clone().with_nullable(!self.never_null.contains(&i))).collect()
    }

    /// Leaves only the rows that are handed on. What is wrong with the others is added to the faults, by record.
    pub fn keep(
        &self,
        columns: &mut Vec<ArrayRef>,
        rows: &mut Vec<Row>,
        faults: &mut BTreeMap<u32, String>,
    ) -> Result<()> {
        let mut keep = vec![true; rows.len()];
        if !self.by_key.is_empty() {
            self.moved(columns, rows, &mut keep)?;
        }
        self.look_for_nulls(columns, rows, &mut keep, faults);
        if keep.contains(&false) {
            let left: UInt32Array = (0..rows.len() as u32).filter(|i| keep[*i as usize]).collect::<Vec<_>>().into();
            *columns = columns.iter().map(|c| take(c, &left, None)).collect::<std::result::Result<_, _>>()?;
            let mut keep = keep.into_iter();
            rows.retain(|_| keep.next().unwrap_or_default());
        }
        Ok(())
    }

    /// By key: what an update replaces is known already, but for a row that it moves to another key, which is gone there.
    fn moved(&self, columns: &[ArrayRef], rows: &mut [Row], keep: &mut [bool]) -> Result<()> {
        let pairs = rows.len().saturating_sub(1);
        let mut same = vec![true; pairs];
        let mut known = vec![true; rows.len()];
        for &key in &self.by_key {
            let column = &columns[key];
            let equal = not_distinct(&column.slice(0, pairs), &column.slice(rows.len() - pairs, pairs))?;
            same.iter_mut().zip(equal.iter()).for_each(|(same, equal)| *same &= equal == Some(true));
            known.iter_mut().enumerate().for_each(|(row, known)| *known &= column.is_valid(row));
        }
        for (i, row) in rows.iter_mut().enumerate().filter(|(_, row)| row.kind == ChangeKind::UpdateBefore) {
            // The new row stands behind it.
            if known[i] && !same.get(i).copied().unwrap_or_default() {
                row.kind = ChangeKind::Delete;
            } else {
                keep[i] = false;
            }
        }
        Ok(())
    }

    /// Makes faults of NULLs where none may be.
    fn look_for_nulls(
        &self,
        columns: &[ArrayRef],
        rows: &[Row],
        keep: &mut [bool],
        faults: &mut BTreeMap<u32, String>,
    ) {
        let before = faults.len();
        let suspects = self.never_null.iter().map(|c| (*c, false)).chain(self.not_null.iter().map(|c| (*c, true)));
        for (c, gone_may) in suspects.filter(|(c, _)| columns[*c].null_count() > 0) {
            for (i, row) in rows.iter().enumerate() {
                if keep[i] && columns[c].is_null(i) && !(gone_may && row.kind == ChangeKind::Delete) {
                    let field = &self.wanted[c];
                    let declared = sql_type(field.data_type());
                    let why = || format!("column `{}` is NULL, the table declares {declared} NOT NULL", field.name());
                    faults.entry(row.record).or_insert_with(why);
                }
            }
        }
        if faults.len() > before {
            rows.iter().zip(keep).for_each(|(row, keep)| *keep &= !faults.contains_key(&row.record));
        }
    }
}
