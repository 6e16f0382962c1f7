//! Tables: what an operator remembers, as a checkpoint holds it.
//!
//! ```text
//!  operator ──save──▶ Saver: puts, deletes, drops  = one piece of each table, at each barrier
//!                                                        │ written as Parquet, named in the manifest
//!  operator ◀─load── rows that are alive  ◀──[`alive`]── pieces of all barriers since the last whole one
//! ```
//!
//! How an operator lays out its memory is its own affair (hash tables, slices, logs); a table is the plain form of it
//! that outlives the process, that another parallelism can divide anew, and that any tool can read. The first piece of a
//! table is whole; each later one holds what has changed since the one before, row by row in the order of the changes.
//!
//! A row is named by its first `key` columns. A table without key columns is a log: its rows are only added, and
//! dropped many at a time.

use crate::room::{Held, SaveRoom};
use arrow::array::*;
use arrow::compute::{cast, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Error, Result};
use std::collections::HashSet;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Name of the column that says what a row of a piece does: a [`Change`].
pub const CHANGE: &str = "$change";

/// Name of the column with the row's key group.
pub const GROUP: &str = "$group";

/// What a row of a piece does to the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Change {
    /// The row is there from now on, in place of the one with the same key.
    Put = 0,
    /// The row with this key is gone.
    Delete = 1,
    /// All rows with the same first `part` columns are gone.
    DropPart = 2,
    /// All rows whose first column is at most this row's are gone.
    DropThrough = 3,
}

/// How a table looks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableDef {
    /// Unique in its operator, stable for ever: `slices`, `sessions`, `waiting`.
    pub name: String,
    /// Of the columns' meaning. A later version of the operator reads all earlier ones.
    pub version: u32,
    pub columns: SchemaRef,
    /// So many first columns name a row; 0: a log.
    pub key: usize,
    /// So many first columns name a part, whose rows can be dropped together; 0: no parts.
    pub part: usize,
    /// The columns whose hash gives a row's key group: those that the operator's input is exchanged by. Without any,
    /// the table belongs to task 0.
    pub group_by: Vec<usize>,
    /// Columns of whole numbers that pieces of earlier versions do not have: they are 0 in their rows.
    pub later: Vec<usize>,
}

impl TableDef {
    /// A table whose rows are named by their first `key` columns.
    pub fn new(name: &str, columns: Vec<Field>, key: usize) -> TableDef {
        // A row that deletes has its key alone.
        let columns = columns.into_iter().map(|f| f.with_nullable(true)).collect::<Vec<_>>();
        TableDef {
            name: name.to_owned(),
            version: 1,
            columns: Arc::new(Schema::new(columns)),
            key,
            part: 0,
            group_by: Vec::new(),
            later: Vec::new(),
        }
    }

    /// This is version `version`, and these columns have come since the first one.
    pub fn later(mut self, version: u32, columns: &[usize]) -> TableDef {
        self.version = version;
        self.later = columns.to_vec();
        self
    }

    /// A piece as this version would have written it.
    pub(crate) fn upgraded(&self, piece: &RecordBatch) -> Result<RecordBatch> {
        let missing = |c: &&usize| piece.column_by_name(self.columns.field(**c).name()).is_none();
        let missing: Vec<usize> = self.later.iter().filter(missing).copied().collect();
        if missing.is_empty() {
            return Ok(piece.clone());
        }
        let mut fields: Vec<Arc<Field>> = piece.schema().fields().iter().cloned().collect();
        let mut columns = piece.columns().to_vec();
        for column in missing {
            let field = &self.columns.fields()[column];
            let zeros: ArrayRef = Arc::new(Int64Array::from_value(0, piece.num_rows()));
            // Behind the column that says what a row does.
            fields.insert(column + 1, field.clone());
            columns.insert(column + 1, cast(&zeros, field.data_type())?);
        }
        Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
    }

    pub fn part(mut self, columns: usize) -> TableDef {
        self.part = columns;
        self
    }

    pub fn group_by(mut self, columns: impl IntoIterator<Item = usize>) -> TableDef {
        self.group_by = columns.into_iter().collect();
        self
    }

    /// A piece that puts these rows: all columns of the table.
    pub fn put(&self, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
        changed(self, Change::Put, columns)
    }

    /// The columns of a piece: the change, then the table's.
    pub fn piece_schema(&self) -> SchemaRef {
        let change = Arc::new(Field::new(CHANGE, DataType::Int8, false));
        Arc::new(Schema::new(std::iter::once(change).chain(self.columns.fields().iter().cloned()).collect::<Vec<_>>()))
    }
}

/// A piece of a table, as saved at one barrier.
#[derive(Debug, Clone)]
pub struct Piece {
    pub table: TableDef,
    /// With the column [`CHANGE`] in front.
    pub rows: RecordBatch,
}

/// Columns of rows to put, batch by batch.
pub type Batches = Box<dyn Iterator<Item = Result<Vec<ArrayRef>>> + Send>;

/// Changes of a table with the column [`CHANGE`] in front, batch by batch.
pub type Changes = Box<dyn Iterator<Item = Result<RecordBatch>> + Send>;

/// Changes that are read when the file is written and not at the barrier: those that lie in scratch space and will not be
/// other ones any more.
pub struct Later {
    pub table: TableDef,
    changes: Box<dyn Fn() -> Changes + Send>,
}

impl Later {
    pub(crate) fn new(table: TableDef, changes: impl Fn() -> Changes + Send + 'static) -> Later {
        Later { table, changes: Box::new(changes) }
    }

    /// The rows, with the column [`CHANGE`] in front. Read anew each time: a file may have to be written again.
    pub fn read(&self) -> Changes {
        (self.changes)()
    }
}

/// Takes down what an operator remembers, at a barrier.
pub struct Saver {
    whole: bool,
    /// See [`Saver::moving`].
    moves: bool,
    pieces: Vec<Piece>,
    /// What is read later, for whoever can; otherwise it is read at once.
    later: Option<Vec<Later>>,
    /// What was taken down first and has gone below, and what the rest takes of the room.
    below: Vec<Later>,
    held: Option<Held>,
    rows: u64,
}

/// What a saver has taken down. Of each table, in this order: what has gone below, the pieces, what is read later.
#[derive(Default)]
pub struct Saved {
    pub below: Vec<Later>,
    pub pieces: Vec<Piece>,
    pub later: Vec<Later>,
    /// What the pieces take of the room for saves, where there is one.
    pub held: Option<Held>,
}

/// Rows of a piece: the change, then the columns, of which those that are not given are NULL.
fn changed(table: &TableDef, change: Change, mut columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    let rows = columns.first().map_or(0, |c| c.len());
    for field in table.columns.fields().iter().skip(columns.len()) {
        columns.push(new_null_array(field.data_type(), rows));
    }
    columns.insert(0, Arc::new(Int8Array::from_value(change as i8, rows)));
    Ok(RecordBatch::try_new(table.piece_schema(), columns)?)
}

impl Saver {
    /// `whole`: everything is asked for; otherwise what has changed since the last save.
    pub fn new(whole: bool) -> Saver {
        Saver { whole, moves: false, pieces: Vec::new(), later: None, below: Vec::new(), held: None, rows: 0 }
    }

    /// Asks for everything, for an operator that goes on in this one's place, in the same chain of changes: every row keeps
    /// the name that it has been saved under. Called when nothing has changed since the last save, or where nobody saves.
    pub fn moving() -> Saver {
        Saver { moves: true, ..Saver::new(true) }
    }

    /// Whether rows that have a name have to keep it. Otherwise a whole save may give new ones.
    pub fn moves(&self) -> bool {
        self.moves
    }

    /// As [`Saver::new`], for whoever takes [`Saver::into_saved`].
    pub fn reading_later(whole: bool) -> Saver {
        Saver { later: Some(Vec::new()), ..Saver::new(whole) }
    }

    /// Pieces go below where the room has no place for them. For whoever takes [`Saver::into_saved`].
    pub fn within(self, room: Arc<SaveRoom>) -> Saver {
        Saver { held: Some(Held::nothing(room)), ..self }
    }

    /// Whether everything is asked for, and not only what has changed.
    pub fn whole(&self) -> bool {
        self.whole
    }

    /// Rows taken down so far, but for those that are read later.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Rows that are there: all columns of the table.
    pub fn put(&mut self, table: &TableDef, columns: Vec<ArrayRef>) -> Result<()> {
        self.push(table, Change::Put, columns)
    }

    /// Rows that are there and will not change, to be read when they are needed.
    pub fn put_later(&mut self, table: &TableDef, batches: impl Fn() -> Batches + Send + 'static) -> Result<()> {
        let of = table.clone();
        self.push_later(table, move || {
            let of = of.clone();
            Box::new(batches().map(move |columns| columns.and_then(|columns| changed(&of, Change::Put, columns))))
        })
    }

    /// Changes that another saver has taken down, to be read when they are needed. They come behind everything that is
    /// pushed at once.
    pub fn push_later(&mut self, table: &TableDef, changes: impl Fn() -> Changes + Send + 'static) -> Result<()> {
        if let Some(later) = &mut self.later {
            later.push(Later::new(table.clone(), changes));
            return Ok(());
        }
        changes().try_for_each(|rows| self.keep(Piece { table: table.clone(), rows: rows? }))
    }

    fn keep(&mut self, piece: Piece) -> Result<()> {
        let full = self.held.as_mut().is_some_and(|held| held.take(&piece.rows));
        self.rows += piece.rows.num_rows() as u64;
        self.pieces.push(piece);
        if let Some(held) = self.held.as_mut().filter(|_| full) {
            self.below.extend(held.go_below(std::mem::take(&mut self.pieces))?);
        }
        Ok(())
    }

    /// Rows that are gone: their key columns.
    pub fn delete(&mut self, table: &TableDef, key: Vec<ArrayRef>) -> Result<()> {
        debug_assert_eq!(key.len(), table.key);
        self.push(table, Change::Delete, key)
    }

    /// Parts that are gone: their part columns.
    pub fn drop_parts(&mut self, table: &TableDef, part: Vec<ArrayRef>) -> Result<()> {
        debug_assert_eq!(part.len(), table.part);
        self.push(table, Change::DropPart, part)
    }

    /// Rows whose first column, a number or a time, is at most `last` are gone.
    pub fn drop_through(&mut self, table: &TableDef, last: i64) -> Result<()> {
        let last: ArrayRef = Arc::new(Int64Array::from(vec![last]));
        let last = cast(&last, table.columns.field(0).data_type())?;
        self.push(table, Change::DropThrough, vec![last])
    }

    fn push(&mut self, table: &TableDef, change: Change, columns: Vec<ArrayRef>) -> Result<()> {
        if columns.first().is_none_or(|c| c.is_empty()) {
            return Ok(());
        }
        let rows = changed(table, change, columns)?;
        self.keep(Piece { table: table.clone(), rows })
    }

    /// What was taken down, wherever it is.
    pub fn into_saved(self) -> Saved {
        Saved { below: self.below, pieces: self.pieces, later: self.later.unwrap_or_default(), held: self.held }
    }

    /// What was taken down, in its order; a table may have several pieces.
    pub fn into_pieces(self) -> Vec<Piece> {
        let all = self.later.is_none() && self.held.is_none();
        assert!(all, "rows that are read later are lost: `into_saved` has them");
        self.pieces
    }
}

/// The rows that are alive after all `pieces` of one task's table, oldest first, as batches without [`CHANGE`] and in
/// the order in which they were put.
///
/// From the newest change to the oldest: a row counts if nothing newer has replaced, deleted or dropped it.
pub fn alive(table: &TableDef, pieces: &[RecordBatch]) -> Result<Vec<RecordBatch>> {
    let pieces: Vec<RecordBatch> = pieces.iter().map(|p| table.upgraded(p)).collect::<Result<_>>()?;
    alive_of(table, &pieces, pieces.len() == 1)
}

/// The same of pieces of the table's own version. `once`: rows that are only put have names of their own.
pub(crate) fn alive_of(table: &TableDef, pieces: &[RecordBatch], once: bool) -> Result<Vec<RecordBatch>> {
    let keys = Names::new(table, table.key, pieces, once)?;
    let parts = Names::new(table, table.part, pieces, once)?;
    let mut seen: HashSet<&[u8], BuildHasherDefault<ByXxh3>> = HashSet::default();
    let mut dropped: HashSet<&[u8], BuildHasherDefault<ByXxh3>> = HashSet::default();
    let mut through = i64::MIN;
    let mut batches = Vec::with_capacity(pieces.len());
    for (at, piece) in pieces.iter().enumerate().rev() {
        let changes = piece.column(0).as_primitive::<arrow::datatypes::Int8Type>().values();
        let columns = without_change(piece)?;
        let firsts = match changes.contains(&(Change::DropThrough as i8)) || through > i64::MIN {
            true => {
                Some(cast(columns.column(0), &DataType::Int64)?.as_primitive::<arrow::datatypes::Int64Type>().clone())
            }
            false => None,
        };
        let plain = firsts.is_none() && dropped.is_empty() && changes.iter().all(|c| *c == Change::Put as i8);
        if plain && (table.key == 0 || once) {
            batches.push(columns);
            continue;
        }
        let mut keep = vec![false; piece.num_rows()];
        // Row by row: whether a row is alive depends on each row behind it.
        for row in (0..piece.num_rows()).rev() {
            match changes[row] {
                0 => {
                    let gone = firsts.as_ref().is_some_and(|f| f.value(row) <= through)
                        || (!dropped.is_empty() && dropped.contains(parts.get(at, row)));
                    // The oldest piece need not be remembered, unless it names a row twice.
                    keep[row] = (table.key == 0 || seen.insert(keys.get(at, row))) && !gone;
                }
                1 => {
                    seen.insert(keys.get(at, row));
                }
                2 => {
                    dropped.insert(parts.get(at, row));
                }
                3 => through = through.max(firsts.as_ref().map_or(i64::MIN, |f| f.value(row))),
                other => return Err(Error::data(format!("a row of table `{}` has the change {other}", table.name))),
            }
        }
        let kept = filter_record_batch(&columns, &BooleanArray::from(keep))?;
        if kept.num_rows() > 0 {
            batches.push(kept);
        }
    }
    batches.reverse();
    Ok(batches)
}

/// The columns of the table.
pub(crate) fn without_change(piece: &RecordBatch) -> Result<RecordBatch> {
    Ok(piece.project(&(1..piece.num_columns()).collect::<Vec<_>>())?)
}

/// The first columns of each row, as bytes that can be compared.
struct Names {
    rows: Vec<Rows>,
}

impl Names {
    fn new(table: &TableDef, columns: usize, pieces: &[RecordBatch], once: bool) -> Result<Names> {
        if columns == 0 || (once && columns == table.key && table.part == 0) && all_puts(&pieces[0]) {
            return Ok(Names { rows: Vec::new() });
        }
        let fields = (0..columns).map(|c| SortField::new(table.columns.field(c).data_type().clone())).collect();
        let converter = RowConverter::new(fields)?;
        let rows = pieces.iter().map(|p| converter.convert_columns(&p.columns()[1..=columns]));
        Ok(Names { rows: rows.collect::<Result<_, _>>()? })
    }

    fn get(&self, piece: usize, row: usize) -> &[u8] {
        self.rows.get(piece).map_or(&[], |rows| {
            let row = rows.row(row);
            // The row's bytes live as long as `rows`; `Row::data` ties them to the row.
            row.data()
        })
    }
}

fn all_puts(piece: &RecordBatch) -> bool {
    piece.column(0).as_primitive::<arrow::datatypes::Int8Type>().values().iter().all(|c| *c == Change::Put as i8)
}

/// Hashes byte strings by xxh3, the same in every run.
#[derive(Default)]
pub(crate) struct ByXxh3(u64);

impl Hasher for ByXxh3 {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ xxh3_64(bytes);
    }

    // The length of a slice: its bytes say enough.
    fn write_usize(&mut self, _: usize) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn counts() -> TableDef {
        let fields = ["end", "who", "count"].map(|n| Field::new(n, DataType::Int64, false));
        TableDef::new("slices", fields.to_vec(), 2).part(1)
    }

    fn column(values: &[i64]) -> ArrayRef {
        Arc::new(Int64Array::from(values.to_vec()))
    }

    fn rows(batches: &[RecordBatch]) -> Vec<Vec<i64>> {
        let row = |b: &RecordBatch, r: usize| {
            b.columns().iter().map(|c| c.as_primitive::<arrow::datatypes::Int64Type>().value(r)).collect()
        };
        batches.iter().flat_map(|b| (0..b.num_rows()).map(move |r| row(b, r))).collect()
    }

    fn piece(act: impl FnOnce(&mut Saver)) -> Vec<RecordBatch> {
        let mut saver = Saver::new(false);
        act(&mut saver);
        saver.into_pieces().into_iter().map(|p| p.rows).collect()
    }

    #[test]
    fn the_newest_change_of_a_row_wins() {
        let table = counts();
        let mut pieces =
            piece(|s| s.put(&table, vec![column(&[10, 10, 20]), column(&[1, 2, 1]), column(&[5, 6, 7])]).unwrap());
        assert_eq!(rows(&alive(&table, &pieces).unwrap()).len(), 3);
        pieces.extend(piece(|s| {
            s.drop_parts(&table, vec![column(&[10])]).unwrap();
            s.put(&table, vec![column(&[20, 30]), column(&[1, 1]), column(&[8, 9])]).unwrap();
        }));
        assert_eq!(rows(&alive(&table, &pieces).unwrap()), [[20, 1, 8], [30, 1, 9]]);
        pieces.extend(piece(|s| s.delete(&table, vec![column(&[30]), column(&[1])]).unwrap()));
        assert_eq!(rows(&alive(&table, &pieces).unwrap()), [[20, 1, 8]]);
        pieces.extend(piece(|s| s.put(&table, vec![column(&[10]), column(&[2]), column(&[1])]).unwrap()));
        assert_eq!(rows(&alive(&table, &pieces).unwrap()), [[20, 1, 8], [10, 2, 1]], "a part may come again");
        pieces.extend(piece(|s| s.drop_through(&table, 10).unwrap()));
        assert_eq!(rows(&alive(&table, &pieces).unwrap()), [[20, 1, 8]]);
    }

    #[test]
    fn rows_that_are_read_later_are_those_that_are_read_at_once() {
        let table = counts();
        let rows_of = || -> Batches {
            let batch = |end: i64| Ok(vec![column(&[end, end]), column(&[1, 2]), column(&[5, 6])]);
            Box::new((0..3).map(batch))
        };
        let (mut at_once, mut later) = (Saver::new(true), Saver::reading_later(true));
        at_once.put_later(&table, rows_of).unwrap();
        later.put_later(&table, rows_of).unwrap();
        let Saved { pieces, later: streams, .. } = later.into_saved();
        assert!(pieces.is_empty());
        let wanted: Vec<RecordBatch> = at_once.into_pieces().into_iter().map(|p| p.rows).collect();
        assert_eq!(wanted.len(), 3);
        for again in 0..2 {
            let read: Vec<RecordBatch> = streams[0].read().map(|b| b.unwrap()).collect();
            assert_eq!(read, wanted, "read {again} times before");
        }
    }

    #[test]
    fn a_log_keeps_equal_rows() {
        let table = TableDef::new("waiting", vec![Field::new("at", DataType::Int64, false)], 0);
        let mut pieces = piece(|s| s.put(&table, vec![column(&[1, 1, 2, 5])]).unwrap());
        pieces.extend(piece(|s| {
            s.drop_through(&table, 1).unwrap();
            s.put(&table, vec![column(&[2, 3])]).unwrap();
        }));
        assert_eq!(rows(&alive(&table, &pieces).unwrap()), [[2], [5], [2], [3]]);
    }

    #[test]
    fn pieces_of_an_earlier_version_go_on_in_a_later_one() {
        let first = counts();
        let mut pieces = piece(|s| s.put(&first, vec![column(&[10, 20]), column(&[1, 1]), column(&[5, 7])]).unwrap());
        let fields = ["end", "run", "who", "count"].map(|n| Field::new(n, DataType::Int64, false));
        let later = TableDef::new("slices", fields.to_vec(), 3).part(2).later(2, &[1]);
        assert_eq!(rows(&alive(&later, &pieces).unwrap()), [[10, 0, 1, 5], [20, 0, 1, 7]]);
        pieces.extend(piece(|s| {
            s.drop_parts(&later, vec![column(&[20]), column(&[0])]).unwrap();
            s.put(&later, vec![column(&[10, 10]), column(&[0, 1]), column(&[1, 1]), column(&[6, 8])]).unwrap();
        }));
        assert_eq!(rows(&alive(&later, &pieces).unwrap()), [[10, 0, 1, 6], [10, 1, 1, 8]]);
    }

    #[derive(Debug, Clone)]
    enum Move {
        Put(i64, i64, i64),
        Delete(i64, i64),
        Drop(i64),
        Through(i64),
        Cut,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            6 => (0i64..6, 0i64..6, 0i64..100).prop_map(|(p, k, v)| Move::Put(p, k, v)),
            2 => (0i64..6, 0i64..6).prop_map(|(p, k)| Move::Delete(p, k)),
            1 => (0i64..6).prop_map(Move::Drop),
            1 => (0i64..3).prop_map(Move::Through),
            2 => Just(Move::Cut),
        ];
        prop::collection::vec(one, 0..80)
    }

    proptest! {
        #[test]
        fn what_is_alive_is_what_a_map_would_hold(moves in moves()) {
            let table = counts();
            let (mut map, mut pieces, mut saver) = (BTreeMap::new(), Vec::new(), Saver::new(true));
            for m in moves {
                match m {
                    Move::Put(p, k, v) => {
                        map.insert((p, k), v);
                        saver.put(&table, vec![column(&[p]), column(&[k]), column(&[v])]).unwrap();
                    }
                    Move::Delete(p, k) => {
                        map.remove(&(p, k));
                        saver.delete(&table, vec![column(&[p]), column(&[k])]).unwrap();
                    }
                    Move::Drop(p) => {
                        map.retain(|(part, _), _| *part != p);
                        saver.drop_parts(&table, vec![column(&[p])]).unwrap();
                    }
                    Move::Through(t) => {
                        map.retain(|(part, _), _| *part > t);
                        saver.drop_through(&table, t).unwrap();
                    }
                    Move::Cut => {
                        let done = std::mem::replace(&mut saver, Saver::new(false));
                        pieces.extend(done.into_pieces().into_iter().map(|p| p.rows));
                        // A piece that has been merged stands for those it was made of.
                        let merged = alive(&table, &pieces).unwrap();
                        let mut again = Saver::new(true);
                        merged.iter().for_each(|b| again.put(&table, b.columns().to_vec()).unwrap());
                        pieces = again.into_pieces().into_iter().map(|p| p.rows).collect();
                    }
                }
            }
            pieces.extend(saver.into_pieces().into_iter().map(|p| p.rows));
            let mut got = rows(&alive(&table, &pieces).unwrap());
            got.sort();
            let wanted: Vec<Vec<i64>> = map.into_iter().map(|((p, k), v)| vec![p, k, v]).collect();
            prop_assert_eq!(got, wanted);
        }
    }
}
