//! Read views: other threads read what a table held at the last committed epoch, while its operator goes on.
//!
//! ```text
//!  operator ──save──▶ pieces ──epoch committed──▶ View::publish ──▶ ┌ 256 shards by key group, each sorted by key ┐
//!                                                                   └──────── View::get ◀── any thread ───────────┘
//! ```
//!
//! The worker never waits: it hands its pieces over as for any checkpoint. A publication locks the shards that it
//! changes, all of them before it changes the first; a read locks the shards that it needs, all of them before it reads the
//! first. So what one read sees is the state of one epoch, and neither waits longer than the other takes.
//!
//! What may be read is what is safe: a value that was seen is never taken back by a crash.

use crate::table::{Change, TableDef};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{DataType, Int8Type};
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::key::{KEY_GROUPS, hash_rows, key_group};
use millstream_core::{Error, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

/// Rows by the row encoding of their key columns, whose order is that of the keys; so a part is a range.
type Shard = BTreeMap<Box<[u8]>, Box<[u8]>>;

/// Shards under way to their next epoch, by key group.
type Locked<'a> = BTreeMap<u32, RwLockWriteGuard<'a, Shard>>;

/// The committed rows of one table, for readers.
pub struct View {
    table: TableDef,
    keys: RowConverter,
    rows: RowConverter,
    shards: Vec<RwLock<Shard>>,
    epoch: AtomicU64,
}

/// What a read found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The epoch whose state it is.
    pub epoch: u64,
    /// The rows that are there, in the order of the keys asked for, with all columns of the table.
    pub rows: RecordBatch,
    /// For each row the key that it answers, by its place in the question.
    pub of: Vec<u32>,
}

impl View {
    /// # Errors
    /// A log has no keys to look up.
    pub fn new(table: &TableDef) -> Result<View> {
        if table.key == 0 {
            return Err(Error::usage(format!(
                "the table `{}` has no key, so nothing can be looked up in it",
                table.name
            )));
        }
        let converter = |columns: usize| {
            let types = table.columns.fields().iter().take(columns).map(|f| SortField::new(f.data_type().clone()));
            RowConverter::new(types.collect())
        };
        Ok(View {
            keys: converter(table.key)?,
            rows: converter(table.columns.fields().len())?,
            table: table.clone(),
            shards: (0..KEY_GROUPS).map(|_| RwLock::default()).collect(),
            epoch: AtomicU64::new(0),
        })
    }

    pub fn table(&self) -> &TableDef {
        &self.table
    }

    /// The epoch that was published last.
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Number of rows. Of one epoch only while nothing is published.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|s| s.read().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows what has changed up to this epoch: pieces of all tasks, each task's in their order.
    pub fn publish(&self, epoch: u64, pieces: &[RecordBatch]) -> Result<()> {
        // What can fail comes first: a publication is seen as a whole or not at all.
        let mut prepared = Vec::with_capacity(pieces.len());
        let mut touched = BTreeSet::new();
        for piece in pieces {
            let change = Prepared::new(self, piece)?;
            touched.extend(change.shards());
            prepared.push(change);
        }
        let mut locked: Locked<'_> = touched
            .into_iter()
            .map(|group| (group, self.shards[group as usize].write().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        for change in &prepared {
            change.apply(&mut locked);
        }
        self.epoch.store(epoch, Ordering::Release);
        Ok(())
    }

    /// The rows of these keys, given as the table's key columns.
    pub fn get(&self, keys: &[ArrayRef]) -> Result<Found> {
        let wanted = keys.first().map_or(0, |k| k.len());
        let fits = keys.len() == self.table.key
            && keys.iter().zip(self.table.columns.fields()).all(|(k, f)| k.data_type() == f.data_type());
        if !fits {
            let types: Vec<String> = self.table.columns.fields()[..self.table.key]
                .iter()
                .map(|f| format!("{} {}", f.name(), f.data_type()))
                .collect();
            return Err(Error::usage(format!("the key of `{}` is {}", self.table.name, types.join(", "))));
        }
        let encoded = self.keys.convert_columns(keys)?;
        let groups = self.groups(keys, wanted)?;
        let shards: BTreeMap<u32, _> = groups
            .iter()
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|group| (*group, self.shards[*group as usize].read().unwrap_or_else(PoisonError::into_inner)))
            .collect();
        let epoch = self.epoch();
        let parser = self.rows.parser();
        let (mut found, mut of) = (Vec::new(), Vec::new());
        for (at, group) in groups.iter().enumerate() {
            if let Some(row) = shards[group].get(encoded.row(at).data()) {
                found.push(parser.parse(row));
                of.push(at as u32);
            }
        }
        let columns = self.rows.convert_rows(found)?;
        Ok(Found { epoch, rows: RecordBatch::try_new(self.table.columns.clone(), columns)?, of })
    }

    /// The key group of each row; all in the first where the table belongs to one task.
    fn groups(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<u32>> {
        // By columns of the key alone: others need not be known to look a row up.
        if self.table.group_by.is_empty() || self.table.group_by.iter().any(|c| *c >= self.table.key) {
            return Ok(vec![0; rows]);
        }
        let columns: Vec<ArrayRef> = self.table.group_by.iter().map(|c| columns[*c].clone()).collect();
        let mut hashes = Vec::new();
        hash_rows(&columns, rows, &mut hashes)?;
        Ok(hashes.into_iter().map(key_group).collect())
    }
}

/// A piece, encoded.
struct Prepared {
    changes: Vec<i8>,
    groups: Vec<u32>,
    keys: Rows,
    rows: Rows,
    /// Row encodings of the first columns, for what drops many rows.
    parts: Rows,
    firsts: Rows,
}

impl Prepared {
    fn new(view: &View, piece: &RecordBatch) -> Result<Prepared> {
        let columns = &piece.columns()[1..];
        let some = |n: usize| -> Result<Rows> {
            let types: Vec<DataType> = columns.iter().take(n).map(|c| c.data_type().clone()).collect();
            let converter = RowConverter::new(types.into_iter().map(SortField::new).collect())?;
            Ok(converter.convert_columns(&columns[..n])?)
        };
        Ok(Prepared {
            changes: piece.column(0).as_primitive::<Int8Type>().values().to_vec(),
            groups: view.groups(columns, piece.num_rows())?,
            keys: view.keys.convert_columns(&columns[..view.table.key])?,
            rows: view.rows.convert_columns(columns)?,
            parts: some(view.table.part.max(1))?,
            firsts: some(1)?,
        })
    }

    fn shards(&self) -> BTreeSet<u32> {
        let by_key = |c: &i8| *c == Change::Put as i8 || *c == Change::Delete as i8;
        match self.changes.iter().all(by_key) {
            true => self.groups.iter().copied().collect(),
            false => (0..KEY_GROUPS).collect(),
        }
    }

    /// Row by row, since what a row does depends on those before it.
    fn apply(&self, locked: &mut Locked<'_>) {
        for (row, change) in self.changes.iter().enumerate() {
            match change {
                0 => {
                    if let Some(shard) = locked.get_mut(&self.groups[row]) {
                        shard.insert(self.keys.row(row).data().into(), self.rows.row(row).data().into());
                    }
                }
                1 => {
                    if let Some(shard) = locked.get_mut(&self.groups[row]) {
                        shard.remove(self.keys.row(row).data());
                    }
                }
                2 => {
                    let part = self.parts.row(row).data();
                    locked.values_mut().for_each(|s| remove(s, part, |key| key.starts_with(part)));
                }
                _ => {
                    let last = self.firsts.row(row).data();
                    let through = |key: &[u8]| key <= last || key.starts_with(last);
                    locked.values_mut().for_each(|s| remove(s, &[], through));
                }
            }
        }
    }
}

/// Removes the run of keys from `from` on for which `goes` holds.
fn remove(shard: &mut Shard, from: &[u8], goes: impl Fn(&[u8]) -> bool) {
    let run = shard.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)).take_while(|(key, _)| goes(key));
    let gone: Vec<Box<[u8]>> = run.map(|(key, _)| key.clone()).collect();
    gone.iter().for_each(|key| drop(shard.remove(key)));
}

impl Found {
    /// One row for each key asked for, NULL throughout where there is none.
    pub fn in_full(&self, asked: usize) -> Result<RecordBatch> {
        let mut at: Vec<Option<u32>> = vec![None; asked];
        self.of.iter().enumerate().for_each(|(row, key)| at[*key as usize] = Some(row as u32));
        let at = UInt32Array::from(at);
        let columns = self.rows.columns().iter().map(|c| take(c, &at, None)).collect::<Result<Vec<_>, _>>()?;
        Ok(RecordBatch::try_new(self.rows.schema(), columns)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::{Saver, alive};
    use arrow::array::Int64Array;
    use arrow::datatypes::{Field, Int64Type};
    use std::sync::Arc;

    fn table() -> TableDef {
        let fields = ["end", "who", "n"].map(|n| Field::new(n, DataType::Int64, false));
        TableDef::new("slices", fields.to_vec(), 2).part(1).group_by([1])
    }

    fn column(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    }

    fn pieces(act: impl FnOnce(&mut Saver)) -> Vec<RecordBatch> {
        let mut saver = Saver::new(false);
        act(&mut saver);
        saver.into_pieces().into_iter().map(|p| p.rows).collect()
    }

    fn all(view: &View) -> Vec<i64> {
        let keys = (0..4).flat_map(|end| (0..50).map(move |who| (end, who)));
        let (ends, whos): (Vec<i64>, Vec<i64>) = keys.unzip();
        let found = view.get(&[column(ends), column(whos)]).unwrap();
        let numbers = |c: usize| found.rows.column(c).as_primitive::<Int64Type>().values().to_vec();
        (0..found.rows.num_rows()).map(|i| numbers(0)[i] * 10_000 + numbers(1)[i] * 100 + numbers(2)[i]).collect()
    }

    #[test]
    fn a_view_shows_what_the_table_holds() {
        let (table, view) = (table(), View::new(&table()).unwrap());
        let mut chain = Vec::new();
        let steps: [&dyn Fn(&mut Saver); 5] = [
            &|s| {
                s.put(
                    &table,
                    vec![column((0..200).map(|i| i / 50)), column((0..200).map(|i| i % 50)), column(vec![1; 200])],
                )
                .unwrap()
            },
            &|s| s.delete(&table, vec![column([1, 3]), column([7, 49])]).unwrap(),
            &|s| s.drop_parts(&table, vec![column([2])]).unwrap(),
            &|s| s.put(&table, vec![column([2, 3]), column([5, 5]), column([2, 2])]).unwrap(),
            &|s| s.drop_through(&table, 1).unwrap(),
        ];
        for (epoch, step) in (1..).zip(steps) {
            let new = pieces(step);
            chain.extend(new.clone());
            view.publish(epoch, &new).unwrap();
            let rows = alive(&table, &chain).unwrap();
            let mut wanted: Vec<i64> = rows
                .iter()
                .flat_map(|b| {
                    let numbers = |c: usize| b.column(c).as_primitive::<Int64Type>().values().to_vec();
                    let (e, w, n) = (numbers(0), numbers(1), numbers(2));
                    (0..b.num_rows()).map(move |i| e[i] * 10_000 + w[i] * 100 + n[i])
                })
                .collect();
            wanted.sort_unstable();
            assert_eq!(all(&view), wanted, "epoch {epoch}");
            assert_eq!((view.epoch(), view.len()), (epoch, wanted.len()));
        }
        assert!(view.get(&[column([1])]).is_err(), "a part of a key is no key");
        let full = view.get(&[column([0, 2]), column([0, 5])]).unwrap().in_full(2).unwrap();
        assert!(full.column(2).is_null(0) && full.column(2).is_valid(1));
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "readers on threads of their own are what is tested")]
    fn concurrent_readers_see_one_epoch_at_a_time_and_never_go_back() {
        const KEYS: i64 = 500;
        const EPOCHS: u64 = 200;
        let (table, view) = (table(), View::new(&table()).unwrap());
        let publish = |epoch: u64| {
            // In two pieces, as two tasks would hand them over.
            let half = |from: i64, to: i64| {
                let n = (to - from) as usize;
                pieces(|s| {
                    let ends = column(vec![0; n]);
                    s.put(&table, vec![ends, column(from..to), column(vec![epoch as i64; n])]).unwrap();
                })
            };
            let both: Vec<_> = half(0, KEYS / 2).into_iter().chain(half(KEYS / 2, KEYS)).collect();
            view.publish(epoch, &both).unwrap();
        };
        publish(1);
        std::thread::scope(|threads| {
            let readers: Vec<_> = (0..3)
                .map(|_| {
                    threads.spawn(|| {
                        let (mut last, mut reads) = (0, 0u64);
                        while last < EPOCHS as i64 {
                            let found = view.get(&[column(vec![0; KEYS as usize]), column(0..KEYS)]).unwrap();
                            let values = found.rows.column(2).as_primitive::<Int64Type>().values();
                            assert_eq!(values.len(), KEYS as usize);
                            assert!(values.iter().all(|v| *v == values[0]), "two epochs in one read");
                            assert!(values[0] >= last, "from epoch {last} back to {}", values[0]);
                            last = values[0];
                            reads += 1;
                        }
                        reads
                    })
                })
                .collect();
            (2..=EPOCHS).for_each(publish);
            assert!(readers.into_iter().all(|r| r.join().unwrap() > 0));
        });
    }
}
