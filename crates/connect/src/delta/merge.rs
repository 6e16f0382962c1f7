//! An epoch of changes by key, worked into the files of a table (copy on write).
//!
//! ```text
//!  keys of the epoch ─▶ files whose bounds let one of them be there ─▶ read their key columns: which rows are hit?
//!                                                                       └─ none: the file stays as it is
//!                                                                       └─ all:  removed
//!                                                                       └─ some: removed, its other rows written anew
//!  rows of the epoch that are to be there ─▶ new files
//! ```
//!
//! Held in memory are the rows of the epoch, which the outbox bounds, and of the files some thousand rows at a time. A file
//! is chosen by what the log says of it, so keys that come in order (numbers, times) look into few of them.

use super::actions::{Add, Line, Remove};
use super::settings::Settings;
use super::sink::as_stored;
use super::source::{file_info, files_spec};
use super::stats::Stats;
use super::table::Table;
use crate::compact::{Held, takes_away};
use crate::filesystem::FileSource;
use crate::store::now;
use arrow::array::{ArrayRef, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{CastOptions, cast_with_options, filter_record_batch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{OwnedRow, RowConverter, SortField};
use millstream_core::{Batch, Error, Polled, Result, Source, TableSpec};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

/// How long the thread that reads a file is waited for between two looks.
const PATIENCE: Duration = Duration::from_millis(1);

/// Writes rows into files, and gives the actions that add them.
pub trait WriteFiles: FnOnce(&mut Rows<'_>) -> Result<Vec<Line>> {}
impl<F: FnOnce(&mut Rows<'_>) -> Result<Vec<Line>>> WriteFiles for F {}

/// Hands rows on, batch by batch.
pub type Rows<'a> = dyn FnMut(&mut dyn FnMut(&Batch) -> Result<()>) -> Result<()> + 'a;

/// The actions that bring a table to what it is after these changes.
pub fn lines(table: &Table, changes: &[Batch], write: impl WriteFiles) -> Result<Vec<Line>> {
    let settings = &table.settings;
    let mut held = Held::new(&settings.table)?;
    changes.iter().try_for_each(|batch| held.push(batch))?;
    let changes = held.take()?;
    let keys = Keys::of(settings, &changes)?;
    let (mut removed, mut rewritten) = (Vec::new(), Vec::new());
    for add in table.snapshot.files() {
        if !keys.may_be_in(add) {
            continue;
        }
        let (hits, rows) = keys.count_in(table, add)?;
        if hits > 0 {
            removed.push(remove(add));
            if hits < rows {
                rewritten.push(add);
            }
        }
    }
    let stays = |batch: &Batch| BooleanArray::from_iter((0..batch.len()).map(|row| Some(!takes_away(batch, row))));
    let added = changes.iter().map(|batch| {
        let kept = filter_record_batch(&batch.rows, &stays(batch))?;
        as_stored(&kept, &settings.files.schema)
    });
    let added = added.collect::<Result<Vec<_>>>()?;
    if rewritten.is_empty() && added.iter().all(|rows| rows.num_rows() == 0) {
        return Ok(removed);
    }
    let mut lines = removed;
    lines.extend(write(&mut |each| {
        for add in &rewritten {
            keys.read(table, add, None, &mut |rows| {
                let keep: BooleanArray = keys.hit(rows)?.iter().map(|hit| hit.map(|hit| !hit)).collect();
                each(&filter_record_batch(rows, &keep)?.into())
            })?;
        }
        added.iter().filter(|rows| rows.num_rows() > 0).try_for_each(|rows| each(&rows.clone().into()))
    })?);
    Ok(lines)
}

fn remove(add: &Add) -> Line {
    Line {
        remove: Some(Remove {
            path: add.path.clone(),
            deletion_timestamp: Some(now()),
            data_change: true,
            extended_file_metadata: Some(true),
            partition_values: Some(add.partition_values.clone()),
            size: Some(add.size),
            deletion_vector: add.deletion_vector.clone(),
        }),
        ..Line::default()
    }
}

/// The keys of an epoch.
struct Keys {
    /// Where the key columns are in the table's schema.
    columns: Vec<usize>,
    schema: SchemaRef,
    converter: RowConverter,
    /// As `converter` writes them.
    all: HashSet<Box<[u8]>>,
    /// For each column of the key: its values, in order, to be compared with the bounds of files.
    sorted: Vec<Sorted>,
}

struct Sorted {
    name: String,
    of: DataType,
    converter: RowConverter,
    values: Vec<OwnedRow>,
}

impl Keys {
    fn of(settings: &Settings, changes: &[Batch]) -> Result<Keys> {
        let TableSpec { schema, .. } = &settings.files;
        let columns: Vec<usize> =
            settings.table.primary_key.iter().map(|c| Ok(schema.index_of(c)?)).collect::<Result<_>>()?;
        let sort_field = |&c: &usize| SortField::new(schema.field(c).data_type().clone());
        let converter = RowConverter::new(columns.iter().map(sort_field).collect())?;
        let mut all = HashSet::new();
        let mut sorted = Vec::with_capacity(columns.len());
        for c in &columns {
            sorted.push(Sorted {
                name: schema.field(*c).name().clone(),
                of: schema.field(*c).data_type().clone(),
                converter: RowConverter::new(vec![sort_field(c)])?,
                values: Vec::new(),
            });
        }
        for batch in changes {
            let rows = as_stored(&batch.rows, schema)?;
            let of_key: Vec<ArrayRef> = columns.iter().map(|&c| rows.column(c).clone()).collect();
            all.extend(converter.convert_columns(&of_key)?.iter().map(|row| Box::from(row.as_ref())));
            for (sorted, column) in sorted.iter_mut().zip(&of_key) {
                let rows = sorted.converter.convert_columns(std::slice::from_ref(column))?;
                sorted.values.extend(rows.iter().map(|row| row.owned()));
            }
        }
        for sorted in &mut sorted {
            sorted.values.sort_unstable();
            sorted.values.dedup();
        }
        Ok(Keys { columns, schema: schema.clone(), converter, all, sorted })
    }

    /// Whether a row with one of the keys can be in a file, by what the log says of it.
    fn may_be_in(&self, add: &Add) -> bool {
        let stats = Stats::parse(add.stats.as_deref());
        self.sorted.iter().all(|column| match add.partition_values.get(&column.name) {
            Some(value) => column.may_be(value.as_deref()),
            None => match stats.bounds(&column.name, &column.of) {
                Some((least, greatest)) => column.may_be_between(least, greatest),
                None => true,
            },
        })
    }

    /// Which rows have one of the keys. `rows` has all columns of the table.
    fn hit(&self, rows: &RecordBatch) -> Result<BooleanArray> {
        self.hit_by(&self.columns.iter().map(|&c| rows.column(c).clone()).collect::<Vec<_>>())
    }

    fn hit_by(&self, of_key: &[ArrayRef]) -> Result<BooleanArray> {
        // By rows: each has a key of its own.
        let rows = self.converter.convert_columns(of_key)?;
        Ok(rows.iter().map(|row| Some(self.all.contains(row.as_ref()))).collect())
    }

    /// How many rows of a file have one of the keys, and how many it has at all.
    fn count_in(&self, table: &Table, add: &Add) -> Result<(usize, usize)> {
        let (mut hits, mut all) = (0, 0);
        self.read(table, add, Some(self.columns.clone()), &mut |rows| {
            hits += self.hit_by(rows.columns())?.true_count();
            all += rows.num_rows();
            Ok(())
        })?;
        Ok((hits, all))
    }

    /// Reads a file of the table.
    fn read(
        &self,
        table: &Table,
        add: &Add,
        projection: Option<Vec<usize>>,
        each: &mut dyn FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let mut spec = files_spec(&table.settings, self.schema.clone(), &table.snapshot);
        spec.projection = projection;
        let file = file_info(add, &table.settings, &spec.partitioned_by)?;
        let mut source = FileSource::of_files(&spec, vec![file])?;
        let mut readers = source.partitions(1)?;
        let reader = readers.first_mut().ok_or_else(|| Error::internal("a file without a reader"))?;
        loop {
            match reader.poll()? {
                Polled::Rows(rows) => each(&rows.rows)?,
                Polled::Pending => std::thread::sleep(PATIENCE),
                Polled::End => return Ok(()),
            }
        }
    }
}

impl Sorted {
    fn row(&self, value: ArrayRef) -> Option<OwnedRow> {
        let rows = self.converter.convert_columns(&[value]).ok()?;
        Some(rows.row(0).owned())
    }

    /// Whether the value of a partition column is among the keys. What cannot be read may be anything.
    fn may_be(&self, value: Option<&str>) -> bool {
        // No key is NULL.
        let Some(value) = value.filter(|text| !text.is_empty()) else { return false };
        // Times and dates are written in more than one way.
        if !matches!(self.of, DataType::Utf8 | DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64) {
            return true;
        }
        let text: ArrayRef = Arc::new(StringArray::from(vec![value]));
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let value = cast_with_options(&text, &self.of, &strict).ok().and_then(|value| self.row(value));
        value.is_none_or(|value| self.values.binary_search(&value).is_ok())
    }

    fn may_be_between(&self, least: ArrayRef, greatest: ArrayRef) -> bool {
        match (self.row(least), self.row(greatest)) {
            (Some(least), Some(greatest)) => {
                let first = self.values.partition_point(|value| *value < least);
                self.values.get(first).is_some_and(|value| *value <= greatest)
            }
            _ => true,
        }
    }
}
