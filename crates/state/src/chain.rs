//! Reads the rows of a chain that are alive, holding little of it.
//!
//! ```text
//!  1  the columns that name rows  ──▶ entries (change, name, number of the row), sorted out by a hash of the name
//!                                     into parts that fit into memory: scratch space holds the others
//!  2  part by part                ──▶ one bit for each row of the chain: the last word on its name, and it puts
//!  3  all columns                 ──▶ rows whose bit is set and that no later drop takes, in the order of the chain
//! ```
//!
//! A chain that is small is read at once by [`alive`], which is also what decides here about a part: there is one rule for
//! what is alive. Rows come in the order in which they were put, whatever the parts.
//!
//! A chain most often begins with a piece that holds everything, each row once, and goes on with changes that are few beside
//! it. Then there is nothing to sort out: the names in the changes are held, each with the number of its last word, and the
//! rows in front of them are asked whether theirs is among these.
//!
//! Drops take many rows by one, so they are not sorted out: they are kept, each part and each time with the number of the
//! last drop. Where they are too many for that, the parts that they drop are what entries are sorted out by, and they come
//! along as entries.
//!
//! Not held to the bound: one bit for each row, a part of which nearly all rows have one name, and what a piece's reader
//! holds.

use crate::room::Run;
use crate::table::{ByXxh3, Change, Changes, TableDef, alive, alive_of, without_change};
use crate::tier::{Packing, RunWriter, Spill, block_schema, compact};
use arrow::array::{ArrayRef, AsArray, BooleanArray, Int8Array, PrimitiveArray, RecordBatch, UInt32Array, UInt64Array};
use arrow::compute::{cast, concat_batches, filter_record_batch, take_record_batch};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Batch, Error, Result};
use std::collections::HashMap;
use std::hash::BuildHasherDefault;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// A chain that takes one part in so many of the memory is read at once: to find what is alive takes several times its
/// bytes.
const WHOLE_SHARE: usize = 4;

/// A chain that seems to be so many times too large is.
const SURELY: usize = 2;

/// What entries take before they are sorted out, and a part at most: one part in so many of the memory.
const ENTRIES_SHARE: usize = 4;

/// Parts at most. With more their blocks become too small; a part is then larger than it should be.
const PARTS_MAX: usize = 4096;

/// Column of an entry: the number of the row in its chain.
const NUMBER: &str = "$number";

/// The pieces of one task's table, oldest first. Each is read several times.
pub trait Pieces {
    fn pieces(&self) -> usize;

    /// Rows of some pieces.
    fn rows_of(&self, pieces: Range<usize>) -> u64;

    /// Rows of all pieces.
    fn rows(&self) -> u64 {
        self.rows_of(0..self.pieces())
    }

    /// So many first pieces together have no name twice, and only put rows. 0: that is not known.
    fn once(&self) -> usize;

    /// The rows of a piece, batch by batch. Of the columns only those with these names, as far as it has them.
    fn read(&self, piece: usize, columns: Option<&[&str]>) -> Result<Changes>;
}

/// The memory that reading a chain may take, and the scratch space for what it has no place for.
#[derive(Clone, Copy)]
pub struct Desk<'a> {
    pub bytes_max: usize,
    pub space: &'a Arc<dyn Spill>,
}

/// Hands on the rows of a chain that are alive, batch by batch, without [`CHANGE`](crate::table::CHANGE) and in the order in
/// which they were put.
pub fn each_alive(
    table: &TableDef,
    pieces: &dyn Pieces,
    desk: Desk<'_>,
    take: &mut dyn FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    if let Some(rows) = small(pieces, desk)? {
        return alive(table, &rows)?.into_iter().try_for_each(take);
    }
    let living = Living::find(table, pieces, desk)?;
    let mut number = 0;
    for piece in 0..pieces.pieces() {
        for rows in pieces.read(piece, None)? {
            let rows = table.upgraded(&rows?)?;
            let keep = living.of(&rows, number)?;
            number += rows.num_rows() as u64;
            let rows = filter_record_batch(&without_change(&rows)?, &keep)?;
            if rows.num_rows() > 0 {
                take(rows)?;
            }
        }
    }
    Ok(())
}

/// The whole chain, if it is small.
fn small(pieces: &dyn Pieces, desk: Desk<'_>) -> Result<Option<Vec<RecordBatch>>> {
    let (mut bytes, mut all) = (0, Vec::new());
    for piece in 0..pieces.pieces() {
        for rows in pieces.read(piece, None)? {
            let rows = rows?;
            bytes += bytes_of(&rows);
            // As much as the first rows take, all of them might take. The others are not read to find out that they do.
            let likely = if all.is_empty() { bytes as u64 / rows.num_rows().max(1) as u64 * pieces.rows() } else { 0 };
            if bytes.max(likely as usize / SURELY) > desk.bytes_max / WHOLE_SHARE {
                return Ok(None);
            }
            all.push(rows);
        }
    }
    Ok(Some(all))
}

fn bytes_of(rows: &RecordBatch) -> usize {
    Batch::from(rows.clone()).bytes()
}

/// Which rows of a chain are alive.
struct Living {
    last: Last,
    drops: Drops,
}

/// Which rows are the last word on their names.
enum Last {
    /// All: rows have no names.
    All,
    /// Those with a bit.
    Bits(Bits),
    /// Those whose name has this number, and all that it does not know.
    Words(Words),
}

/// The names in changes, and which row has the last word on each.
struct Words {
    names: RowConverter,
    columns: usize,
    last: HashMap<Box<[u8]>, u64, BuildHasherDefault<ByXxh3>>,
    bytes: usize,
}

/// Bytes of a name in a map, beside its own: what points to it, its number, its place.
const NAME_BYTES: usize = 64;

impl Words {
    fn take(&mut self, rows: &RecordBatch, first: u64) -> Result<()> {
        let names = self.names.convert_columns(&rows.columns()[1..=self.columns])?;
        // Row by row: of equal names the last one counts.
        for (row, change) in changes_of(rows).values().iter().enumerate().filter(|(_, change)| **change < 2) {
            debug_assert!(*change == Change::Put as i8 || *change == Change::Delete as i8);
            let name = names.row(row);
            let name: &[u8] = name.as_ref();
            if self.last.insert(name.into(), first + row as u64).is_none() {
                self.bytes += name.len() + NAME_BYTES;
            }
        }
        Ok(())
    }

    /// Takes out rows that are not the last word.
    fn strike(&self, rows: &RecordBatch, first: u64, keep: &mut [bool]) -> Result<()> {
        let names = self.names.convert_columns(&rows.columns()[1..=self.columns])?;
        for (row, keep) in keep.iter_mut().enumerate().filter(|(_, keep)| **keep) {
            let name = names.row(row);
            let name: &[u8] = name.as_ref();
            *keep = self.last.get(name).is_none_or(|last| *last == first + row as u64);
        }
        Ok(())
    }
}

impl Living {
    fn find(table: &TableDef, pieces: &dyn Pieces, desk: Desk<'_>) -> Result<Living> {
        if let Some(living) = Living::of_few_changes(table, pieces, desk)? {
            return Ok(living);
        }
        let by_name = Sorting { table, pieces, desk, by: table.key, drops_within: desk.bytes_max / ENTRIES_SHARE };
        match by_name.run()? {
            Some(living) => Ok(living),
            // Too many drops to be held: then the parts that they drop are many, and rows can be sorted out by them.
            None => Sorting { by: table.part, drops_within: usize::MAX, ..by_name }
                .run()?
                .ok_or_else(|| Error::internal("drops that are sorted out are not too many")),
        }
    }

    /// Where the pieces behind a first one, which has everything once, are few enough to be held.
    fn of_few_changes(table: &TableDef, pieces: &dyn Pieces, desk: Desk<'_>) -> Result<Option<Living>> {
        let once = pieces.once();
        if once == 0 || table.key == 0 {
            return Ok(None);
        }
        let entry = entry(table);
        let wanted = lead(&entry);
        let mut drops = Drops::of(table)?;
        let (names, last) = (names(table, table.key)?, HashMap::default());
        let mut words = Words { names, columns: table.key, last, bytes: 0 };
        let mut number = pieces.rows_of(0..once);
        for piece in once..pieces.pieces() {
            for rows in pieces.read(piece, Some(&wanted))? {
                let rows = entry.upgraded(&rows?)?;
                drops.take(&rows, number, true)?;
                words.take(&rows, number)?;
                if drops.bytes + words.bytes > desk.bytes_max / ENTRIES_SHARE {
                    return Ok(None);
                }
                number += rows.num_rows() as u64;
            }
        }
        Ok(Some(Living { last: Last::Words(words), drops }))
    }

    /// Of rows that begin with this number.
    fn of(&self, rows: &RecordBatch, first: u64) -> Result<BooleanArray> {
        let changes = changes_of(rows);
        let puts = |row: usize| changes.value(row) == Change::Put as i8;
        let mut keep: Vec<bool> = (0..rows.num_rows()).map(puts).collect();
        match &self.last {
            Last::All => {}
            Last::Bits(bits) => {
                keep.iter_mut().enumerate().for_each(|(row, keep)| *keep &= bits.get(first + row as u64))
            }
            Last::Words(words) if words.last.is_empty() => {}
            Last::Words(words) => words.strike(rows, first, &mut keep)?,
        }
        self.drops.strike(rows, first, &mut keep)?;
        Ok(BooleanArray::from(keep))
    }
}

fn changes_of(rows: &RecordBatch) -> &Int8Array {
    rows.column(0).as_primitive::<Int8Type>()
}

/// One bit for each row.
struct Bits(Vec<u64>);

impl Bits {
    fn get(&self, at: u64) -> bool {
        self.0.get((at / 64) as usize).is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    fn set(&mut self, at: u64) {
        let word = (at / 64) as usize;
        if word >= self.0.len() {
            self.0.resize(word + 1, 0);
        }
        self.0[word] |= 1 << (at % 64);
    }
}

/// What has been dropped, and when last.
#[derive(Default)]
struct Drops {
    /// Reads the part of a row; `None` for a table without parts.
    names: Option<RowConverter>,
    columns: usize,
    parts: HashMap<Box<[u8]>, u64, BuildHasherDefault<ByXxh3>>,
    /// By which row, and through which first column. Falling: one that goes no further than a later one says nothing.
    through: Vec<(u64, i64)>,
    bytes: usize,
}

impl Drops {
    fn of(table: &TableDef) -> Result<Drops> {
        let names = (table.part > 0).then(|| names(table, table.part)).transpose()?;
        Ok(Drops { names, columns: table.part, ..Drops::default() })
    }

    /// Takes down the drops among rows that begin with this number; parts only if `parts`.
    fn take(&mut self, rows: &RecordBatch, first: u64, parts: bool) -> Result<()> {
        let changes = changes_of(rows);
        if parts && changes.values().contains(&(Change::DropPart as i8)) {
            let names = self.parts_of(rows)?;
            for row in (0..rows.num_rows()).filter(|row| changes.value(*row) == Change::DropPart as i8) {
                let name = names.row(row);
                let name: &[u8] = name.as_ref();
                if self.parts.insert(name.into(), first + row as u64).is_none() {
                    self.bytes += name.len() + NAME_BYTES;
                }
            }
        }
        if changes.values().contains(&(Change::DropThrough as i8)) {
            let firsts = firsts(rows)?;
            for row in (0..rows.num_rows()).filter(|row| changes.value(*row) == Change::DropThrough as i8) {
                let through = firsts.value(row);
                while self.through.last().is_some_and(|(_, before)| *before <= through) {
                    self.through.pop();
                }
                self.through.push((first + row as u64, through));
            }
        }
        Ok(())
    }

    fn parts_of(&self, rows: &RecordBatch) -> Result<Rows> {
        let names = self.names.as_ref().ok_or_else(|| Error::data("a part of a table without parts is dropped"))?;
        Ok(names.convert_columns(&rows.columns()[1..=self.columns])?)
    }

    /// Takes out rows that a later row drops.
    fn strike(&self, rows: &RecordBatch, first: u64, keep: &mut [bool]) -> Result<()> {
        if !self.parts.is_empty() {
            let names = self.parts_of(rows)?;
            for (row, keep) in keep.iter_mut().enumerate().filter(|(_, keep)| **keep) {
                let name = names.row(row);
                let name: &[u8] = name.as_ref();
                *keep = self.parts.get(name).is_none_or(|dropped| *dropped < first + row as u64);
            }
        }
        // Of the drops behind a row, the first in the list goes furthest.
        let behind = |row: u64| self.through.get(self.through.partition_point(|(number, _)| *number < row));
        if behind(first).is_some() {
            let firsts = firsts(rows)?;
            for (row, keep) in keep.iter_mut().enumerate().filter(|(_, keep)| **keep) {
                *keep = behind(first + row as u64).is_none_or(|(_, through)| firsts.value(row) > *through);
            }
        }
        Ok(())
    }
}

fn firsts(rows: &RecordBatch) -> Result<PrimitiveArray<Int64Type>> {
    Ok(cast(rows.column(1), &DataType::Int64)?.as_primitive::<Int64Type>().clone())
}

fn names(table: &TableDef, columns: usize) -> Result<RowConverter> {
    let fields = (0..columns).map(|c| SortField::new(table.columns.field(c).data_type().clone())).collect();
    Ok(RowConverter::new(fields)?)
}

/// Sorts the rows of a chain out by their first columns.
#[derive(Clone, Copy)]
struct Sorting<'a> {
    table: &'a TableDef,
    pieces: &'a dyn Pieces,
    desk: Desk<'a>,
    /// Entries of the same first `by` columns come into one part; 0: no entries are needed.
    by: usize,
    /// Bytes of drops of parts that are held; `usize::MAX`: none, they are entries.
    drops_within: usize,
}

impl Sorting<'_> {
    /// `None`: the drops are too many to be held.
    fn run(self) -> Result<Option<Living>> {
        let drops_held = self.drops_within < usize::MAX;
        let entry = entry(self.table);
        let wanted = lead(&entry);
        let mut drops = Drops::of(self.table)?;
        let mut parts: Option<Parts<'_>> = None;
        let mut number = 0;
        for piece in 0..self.pieces.pieces() {
            for rows in self.pieces.read(piece, Some(&wanted))? {
                let rows = entry.upgraded(&rows?)?;
                drops.take(&rows, number, drops_held)?;
                if drops.bytes > self.drops_within {
                    return Ok(None);
                }
                let numbers: ArrayRef =
                    Arc::new(UInt64Array::from_iter_values(number..number + rows.num_rows() as u64));
                number += rows.num_rows() as u64;
                if self.by == 0 {
                    continue;
                }
                let mut columns = rows.columns().to_vec();
                columns.push(numbers);
                let entries = RecordBatch::try_new(entry.piece_schema(), columns)?;
                let parts = match &mut parts {
                    Some(parts) => parts,
                    none => none.insert(Parts::new(&self, &entry, &entries)?),
                };
                let is_entry = |change: i8| change < 2 || !drops_held && change == Change::DropPart as i8;
                let mask: BooleanArray = changes_of(&entries).values().iter().map(|c| Some(is_entry(*c))).collect();
                parts.push(filter_record_batch(&entries, &mask)?)?;
            }
        }
        let last = match parts {
            None => Last::All,
            Some(parts) => Last::Bits(parts.last_words(&entry)?),
        };
        Ok(Some(Living { last, drops }))
    }
}

/// The table of entries: the columns that name a row, a part and a time, and the number of the row.
fn entry(table: &TableDef) -> TableDef {
    let lead = table.key.max(table.part).max(1);
    let mut fields: Vec<Arc<Field>> = table.columns.fields().iter().take(lead).cloned().collect();
    fields.push(Arc::new(Field::new(NUMBER, DataType::UInt64, true)));
    let later = table.later.iter().copied().filter(|c| *c < lead).collect();
    TableDef { columns: Arc::new(Schema::new(fields)), later, ..table.clone() }
}

/// The columns of a piece that entries are made of.
fn lead(entry: &TableDef) -> Vec<&str> {
    let fields = entry.columns.fields();
    let names = fields.iter().take(fields.len() - 1).map(|f| f.name().as_str());
    std::iter::once(crate::table::CHANGE).chain(names).collect()
}

/// Entries by part.
struct Parts<'a> {
    desk: Desk<'a>,
    names: RowConverter,
    by: usize,
    /// A power of two.
    count: usize,
    /// Not sorted out yet.
    held: Vec<RecordBatch>,
    held_bytes: usize,
    /// Each has a block for each part.
    runs: Vec<(Run, SchemaRef)>,
}

impl<'a> Parts<'a> {
    fn new(sorting: &Sorting<'a>, entry: &TableDef, first: &RecordBatch) -> Result<Parts<'a>> {
        let width = bytes_of(first) as u64 / first.num_rows().max(1) as u64 + 1;
        let parts = (sorting.pieces.rows() * width).div_ceil(Parts::bytes_max(sorting.desk) as u64);
        Ok(Parts {
            desk: sorting.desk,
            names: names(entry, sorting.by)?,
            by: sorting.by,
            count: (parts.next_power_of_two() as usize).min(PARTS_MAX),
            held: Vec::new(),
            held_bytes: 0,
            runs: Vec::new(),
        })
    }

    fn bytes_max(desk: Desk<'_>) -> usize {
        (desk.bytes_max / ENTRIES_SHARE).max(1)
    }

    fn push(&mut self, entries: RecordBatch) -> Result<()> {
        self.held_bytes += bytes_of(&entries);
        self.held.push(entries);
        if self.held_bytes > Parts::bytes_max(self.desk) { self.go_below() } else { Ok(()) }
    }

    /// Writes what is held, sorted out by part.
    fn go_below(&mut self) -> Result<()> {
        let Some(first) = self.held.first() else { return Ok(()) };
        let entries = concat_batches(&first.schema(), &self.held)?;
        (self.held, self.held_bytes) = (Vec::new(), 0);
        let names = self.names.convert_columns(&entries.columns()[1..=self.by])?;
        let of = |row: usize| {
            let name = names.row(row);
            xxh3_64(name.as_ref()) as usize & (self.count - 1)
        };
        let mut rows: Vec<(u32, u32)> = (0..entries.num_rows()).map(|row| (of(row) as u32, row as u32)).collect();
        drop(names);
        rows.sort_unstable();
        let sorted = take_record_batch(&entries, &UInt32Array::from_iter_values(rows.iter().map(|r| r.1)))?;
        drop(entries);
        let mut writer = RunWriter::new(self.desk.space.as_ref(), Packing::Plain)?;
        let mut from = 0;
        for part in 0..self.count {
            let to = from + rows[from..].partition_point(|r| r.0 as usize <= part);
            writer.push(Some(&compact(&sorted.slice(from, to - from))?))?;
            from = to;
        }
        let (run, places) = writer.finish()?;
        let schema = block_schema(sorted.schema().fields().iter().map(|f| f.as_ref().clone()).collect());
        self.runs.push((Run { space: self.desk.space.clone(), run, places }, schema));
        Ok(())
    }

    /// The rows that are the last word on their names, and put.
    fn last_words(mut self, entry: &TableDef) -> Result<Bits> {
        let mut bits = Bits(Vec::new());
        let mut settle = |entries: &[RecordBatch]| -> Result<()> {
            for rows in alive_of(entry, entries, false)? {
                let numbers = rows.column(rows.num_columns() - 1).as_primitive::<UInt64Type>();
                numbers.values().iter().for_each(|number| bits.set(*number));
            }
            Ok(())
        };
        if self.runs.is_empty() {
            settle(&self.held)?;
            return Ok(bits);
        }
        self.go_below()?;
        for part in 0..self.count {
            let blocks = self.runs.iter().map(|(run, schema)| run.read(part, schema));
            let blocks: Vec<RecordBatch> = blocks.filter_map(Result::transpose).collect::<Result<_>>()?;
            // Within a block as well as from block to block, entries stand in the order of the chain.
            settle(&blocks)?;
        }
        Ok(bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Saver;
    use crate::tier::MemorySpace;
    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    /// Pieces in memory, read in small batches, and how many of the first ones have each name once.
    struct Held(Vec<RecordBatch>, usize, usize);

    impl Pieces for Held {
        fn pieces(&self) -> usize {
            self.0.len()
        }

        fn rows_of(&self, pieces: Range<usize>) -> u64 {
            self.0[pieces].iter().map(|p| p.num_rows() as u64).sum()
        }

        fn once(&self) -> usize {
            self.2
        }

        fn read(&self, piece: usize, columns: Option<&[&str]>) -> Result<Changes> {
            let (rows, step) = (self.0[piece].clone(), self.1);
            let rows = match columns {
                None => rows,
                Some(names) => {
                    let schema = rows.schema();
                    let wanted: Vec<usize> = (0..rows.num_columns())
                        .filter(|at| names.contains(&schema.field(*at).name().as_str()))
                        .collect();
                    rows.project(&wanted)?
                }
            };
            let cuts: Vec<usize> = (0..rows.num_rows()).step_by(step).collect();
            Ok(Box::new(cuts.into_iter().map(move |at| Ok(rows.slice(at, step.min(rows.num_rows() - at))))))
        }
    }

    fn numbers(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    }

    fn texts(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(StringArray::from_iter_values(values.into_iter().map(|v| format!("name {v}"))))
    }

    fn table(key: usize, part: usize) -> TableDef {
        let fields = vec![
            Field::new("at", DataType::Int64, true),
            Field::new("name", DataType::Utf8, true),
            Field::new("value", DataType::Int64, true),
        ];
        TableDef::new("slices", fields, key).part(part)
    }

    fn piece(act: impl FnOnce(&mut Saver)) -> RecordBatch {
        let mut saver = Saver::new(false);
        act(&mut saver);
        let rows: Vec<RecordBatch> = saver.into_pieces().into_iter().map(|p| p.rows).collect();
        concat_batches(&rows[0].schema(), &rows).unwrap()
    }

    fn collected(table: &TableDef, pieces: &Held, bytes_max: usize) -> (RecordBatch, Arc<MemorySpace>) {
        let space = Arc::new(MemorySpace::default());
        let scratch: Arc<dyn Spill> = space.clone();
        let mut all = Vec::new();
        let mut take = |rows| {
            all.push(rows);
            Ok(())
        };
        each_alive(table, pieces, Desk { bytes_max, space: &scratch }, &mut take).unwrap();
        (concat_batches(&table.columns, &all).unwrap(), space)
    }

    fn check(table: &TableDef, pieces: &Held, bytes_max: usize) -> Arc<MemorySpace> {
        let wanted = concat_batches(&table.columns, &alive(table, &pieces.0).unwrap()).unwrap();
        let (got, space) = collected(table, pieces, bytes_max);
        assert_eq!(got, wanted, "with {bytes_max} bytes");
        assert_eq!(space.runs(), 0, "scratch space is given back");
        space
    }

    /// Each later piece changes a part of what the first one puts.
    fn long() -> Held {
        let table = table(2, 1);
        let mut pieces = vec![piece(|s| {
            s.put(&table, vec![numbers((0..20_000).map(|i| i / 100)), texts(0..20_000), numbers(0..20_000)]).unwrap()
        })];
        for round in 1..6 {
            pieces.push(piece(|s| {
                s.drop_parts(&table, vec![numbers([round * 7, round * 11])]).unwrap();
                let changed = || (0..20_000).filter(move |i| i % (round + 2) == 0);
                s.put(
                    &table,
                    vec![numbers(changed().map(|i| i / 100)), texts(changed()), numbers(changed().map(|i| i + round))],
                )
                .unwrap();
                s.delete(&table, vec![numbers([150, 151]), texts([15_000 + round, 15_100 + round])]).unwrap();
                s.drop_through(&table, round).unwrap();
            }));
        }
        Held(pieces, 1000, 0)
    }

    #[test]
    fn a_long_chain_is_read_in_parts() {
        for table in [table(2, 1), table(2, 2), table(1, 1)] {
            let few = check(&table, &long(), 64 << 20);
            assert_eq!(few.created(), 0, "it is small");
            let space = check(&table, &long(), 100_000);
            assert!(space.created() > 3, "{} runs", space.created());
        }
    }

    #[test]
    fn few_changes_of_a_whole_need_no_scratch_space() {
        for table in [table(2, 1), table(2, 2), table(1, 1)] {
            let whole =
                piece(|s| s.put(&table, vec![numbers(0..20_000), texts(0..20_000), numbers(0..20_000)]).unwrap());
            let names = |n: &[i64]| [numbers(n.to_vec()), texts(n.to_vec())][..table.key].to_vec();
            let changes = piece(|s| {
                s.drop_parts(&table, [numbers([17, 4_000]), texts([17, 4_000])][..table.part].to_vec()).unwrap();
                s.put(&table, vec![numbers([17, 18, 30_000]), texts([17, 18, 30_000]), numbers([1, 2, 3])]).unwrap();
                s.delete(&table, names(&[19, 30_000, 40_000])).unwrap();
                s.put(&table, vec![numbers([18]), texts([18]), numbers([4])]).unwrap();
                s.drop_through(&table, 10).unwrap();
            });
            let again = piece(|s| s.put(&table, vec![numbers([5, 19]), texts([5, 19]), numbers([5, 6])]).unwrap());
            let cut = vec![whole.slice(0, 9_000), whole.slice(9_000, 11_000), changes, again];
            let space = check(&table, &Held(cut.clone(), 1000, 2), 100_000);
            assert_eq!(space.created(), 0);
            // More names than may be held.
            let many =
                piece(|s| s.put(&table, vec![numbers(5_000..9_000), texts(5_000..9_000), numbers(0..4_000)]).unwrap());
            let space = check(&table, &Held([cut, vec![many]].concat(), 1000, 2), 100_000);
            assert!(space.created() > 0);
        }
    }

    #[test]
    fn a_log_needs_no_scratch_space() {
        for table in [table(0, 0), table(0, 1)] {
            let rows =
                piece(|s| s.put(&table, vec![numbers(0..20_000), texts(0..20_000), numbers(0..20_000)]).unwrap());
            let dropped = piece(|s| {
                s.drop_through(&table, 12_000).unwrap();
                s.put(&table, vec![numbers([3]), texts([3]), numbers([3])]).unwrap();
                s.drop_through(&table, 2).unwrap();
            });
            let space = check(&table, &Held(vec![rows.clone(), dropped, rows], 777, 0), 50_000);
            assert_eq!(space.created(), 0);
        }
    }

    #[test]
    fn drops_that_are_too_many_are_sorted_out_as_well() {
        for table in [table(2, 1), table(0, 1)] {
            let put =
                || piece(|s| s.put(&table, vec![numbers(0..20_000), texts(0..20_000), numbers(0..20_000)]).unwrap());
            let gone = piece(|s| s.drop_parts(&table, vec![numbers((0..20_000).filter(|i| i % 3 > 0))]).unwrap());
            let space = check(&table, &Held(vec![put(), gone.clone(), put(), gone], 1000, 0), 100_000);
            assert!(space.created() > 3, "{} runs", space.created());
        }
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
            12 => (0i64..8, 0i64..8, 0i64..100).prop_map(|(p, k, v)| Move::Put(p, k, v)),
            3 => (0i64..8, 0i64..8).prop_map(|(p, k)| Move::Delete(p, k)),
            2 => (0i64..8).prop_map(Move::Drop),
            1 => (0i64..4).prop_map(Move::Through),
            3 => Just(Move::Cut),
        ];
        prop::collection::vec(one, 1..120)
    }

    proptest! {
        #[test]
        fn what_is_alive_does_not_depend_on_the_memory(
            moves in moves(), key in 0usize..=2, part in 0usize..=2, bytes_max in 4usize..4000, step in 1usize..9,
        ) {
            let table = table(key, part);
            let (mut pieces, mut saver) = (Vec::new(), Saver::new(true));
            let cut = |saver: &mut Saver, pieces: &mut Vec<RecordBatch>| {
                let done = std::mem::replace(saver, Saver::new(false));
                pieces.extend(done.into_pieces().into_iter().map(|p| p.rows));
            };
            for m in moves {
                match m {
                    Move::Put(p, k, v) => saver.put(&table, vec![numbers([p]), texts([k]), numbers([v])]).unwrap(),
                    Move::Delete(p, k) if key > 0 => {
                        saver.delete(&table, [numbers([p]), texts([k])][..key].to_vec()).unwrap();
                    }
                    Move::Drop(p) if part > 0 => {
                        saver.drop_parts(&table, [numbers([p]), texts([p])][..part].to_vec()).unwrap();
                    }
                    Move::Through(t) => saver.drop_through(&table, t).unwrap(),
                    Move::Cut => cut(&mut saver, &mut pieces),
                    _ => {}
                }
            }
            cut(&mut saver, &mut pieces);
            // A single piece is taken at its word: there, rows of one name would all stay.
            prop_assume!(pieces.len() > 1);
            // What names a part names the rows of it too.
            prop_assume!(key == 0 || part <= key);
            check(&table, &Held(pieces.clone(), step, 0), bytes_max);
            // The same behind a piece that has everything once.
            let first = piece(|s| s.put(&table, vec![numbers(0..8), texts(0..8), numbers(0..8)]).unwrap());
            check(&table, &Held([vec![first], pieces].concat(), step, 1), bytes_max);
        }
    }
}
