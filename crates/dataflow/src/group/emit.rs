//! From what groups were and are to the rows that say so.
//!
//! | before | after | rows |
//! |---|---|---|
//! | nothing | there | `+I` |
//! | there | there, other values | `-U` (where somebody asks for it), `+U` |
//! | there | there, same values | none |
//! | there | nothing | `-D`, with the values that it had |

use super::{GroupAggregate, Touched};
use crate::multiset::as_lists;
use crate::operator::{Output, ROWS_MAX};
use crate::rows::conform;
use arrow::array::*;
use arrow::compute::kernels::cmp::distinct;
use arrow::compute::{SortOptions, interleave, take};
use arrow::datatypes::DataType;
use millstream_core::{Batch, ChangeKind, Result};

/// Results of the groups that were there before.
pub(super) type Old = Vec<ArrayRef>;

/// Where a row's values are found.
const OLD: usize = 0;
const NEW: usize = 1;

impl GroupAggregate {
    /// The results of the touched groups as they are told of so far.
    pub(super) fn results_before(&self) -> Result<Old> {
        let ids: Vec<u32> = self.touched.iter().filter(|t| t.existed).map(|t| t.group).collect();
        self.state.finish_ids(&ids)
    }

    /// Emits what has become of the touched groups. `old` is `None` where every group that was there has changed, and nobody
    /// asks how it was.
    pub(super) fn emit_changes(&self, old: Option<Old>, out: &mut dyn Output) -> Result<()> {
        let ids: Vec<u32> = self.touched.iter().filter(|t| t.exists()).map(|t| t.group).collect();
        let new = self.state.finish_ids(&ids)?;
        let changed = match &old {
            Some(old) => self.changed(old, &new)?,
            None => BooleanArray::from(vec![true; self.touched.iter().filter(|t| t.existed).count()]),
        };
        let mut rows = Rows::with_capacity(self.touched.len() * 2);
        let (mut was, mut is) = (0, 0);
        for t in &self.touched {
            let Touched { group, existed, .. } = *t;
            match (existed, t.exists()) {
                (false, true) => rows.push(ChangeKind::Insert, group, (NEW, is)),
                (true, true) if changed.value(was) => {
                    if self.update_before && old.is_some() {
                        rows.push(ChangeKind::UpdateBefore, group, (OLD, was));
                    }
                    rows.push(ChangeKind::UpdateAfter, group, (NEW, is));
                }
                (true, false) => rows.push(ChangeKind::Delete, group, (OLD, was)),
                _ => {}
            }
            (was, is) = (was + usize::from(existed), is + usize::from(t.exists()));
        }
        self.emit_rows(rows, old.unwrap_or_default(), new, out)
    }

    /// By group that was there before: whether it is there and its results are others.
    fn changed(&self, old: &Old, new: &[ArrayRef]) -> Result<BooleanArray> {
        let (mut was, mut is) = (Vec::new(), Vec::new());
        let (mut olds, mut news) = (0u32, 0u32);
        for t in &self.touched {
            if t.existed && t.exists() {
                was.push(olds);
                is.push(news);
            }
            olds += u32::from(t.existed);
            news += u32::from(t.exists());
        }
        let both = was.len();
        let (all_old, all_new) = (both == olds as usize, both == news as usize);
        let (was, is) = (UInt32Array::from(was), UInt32Array::from(is));
        let mut differ = vec![false; both];
        for (old, new) in old.iter().zip(new) {
            let old = if all_old { old.clone() } else { take(old, &was, None)? };
            let new = if all_new { new.clone() } else { take(new, &is, None)? };
            if is_plain(old.data_type()) {
                let column = distinct(&old, &new)?;
                differ.iter_mut().zip(column.values()).for_each(|(all, one)| *all |= one);
            } else {
                let compare = make_comparator(&as_lists(&old), &as_lists(&new), SortOptions::default())?;
                differ.iter_mut().enumerate().for_each(|(i, all)| *all |= compare(i, i).is_ne());
            }
        }
        if all_old {
            return Ok(BooleanArray::from(differ));
        }
        let mut changed = vec![false; olds as usize];
        was.values().iter().zip(differ).for_each(|(at, differs)| changed[*at as usize] = differs);
        Ok(BooleanArray::from(changed))
    }

    fn emit_rows(&self, rows: Rows, old: Old, new: Vec<ArrayRef>, out: &mut dyn Output) -> Result<()> {
        let len = rows.kinds.len();
        if len == 0 {
            return Ok(());
        }
        let mut columns = self.codec.decode_ids(&self.table, &rows.groups)?;
        let as_it_is = len == new.first().map_or(0, |c| c.len())
            && rows.from.iter().enumerate().all(|(i, from)| *from == (NEW, i));
        for (call, new) in new.into_iter().enumerate() {
            columns.push(match old.get(call) {
                _ if as_it_is => new,
                Some(old) => interleave(&[old.as_ref(), new.as_ref()], &rows.from)?,
                None => take(&new, &UInt32Array::from_iter_values(rows.from.iter().map(|(_, i)| *i as u32)), None)?,
            });
        }
        let batch = conform(&self.output, columns, len)?;
        let inserts_only = rows.kinds.iter().all(|k| *k == ChangeKind::Insert as i8);
        let kinds = (!inserts_only).then(|| Int8Array::from(rows.kinds));
        let batch = Batch { rows: batch, marks: None, kinds };
        let mut from = 0;
        while from < len {
            let mut to = (from + ROWS_MAX).min(len);
            // A row as it was and as it is go together.
            let last = |to: usize| batch.kinds.as_ref().map_or(0, |k| k.value(to - 1));
            if to < len && to - from > 1 && last(to) == ChangeKind::UpdateBefore as i8 {
                to -= 1;
            }
            out.emit(0, batch.slice(from, to - from))?;
            from = to;
        }
        Ok(())
    }
}

/// Types that columns of are compared as a whole.
fn is_plain(kind: &DataType) -> bool {
    !kind.is_nested()
}

/// The rows to emit, each by what it does, whose it is and where its values stand.
struct Rows {
    kinds: Vec<i8>,
    groups: Vec<u32>,
    from: Vec<(usize, usize)>,
}

impl Rows {
    fn with_capacity(rows: usize) -> Rows {
        Rows { kinds: Vec::with_capacity(rows), groups: Vec::with_capacity(rows), from: Vec::with_capacity(rows) }
    }

    #[inline]
    fn push(&mut self, kind: ChangeKind, group: u32, from: (usize, usize)) {
        self.kinds.push(kind as i8);
        self.groups.push(group);
        self.from.push(from);
    }
}
