//! Makes rows up, with Flink's options.
//!
//! What row `i` holds depends on `i`, the column and the seed alone, never on batches or parallelism: at parallelism
//! `n`, partition `p` makes the rows `p`, `p + n`, `p + 2n` … So any number of tasks makes the same rows.
//! Timestamps are the exception, as in Flink: they are the clock's, or lie before it by up to `max-past`.
//! So a position is the number of a row, and a job restored at another parallelism keeps the partitions it had.

mod fields;

use crate::Connector;
use crate::options::{check_keys, number, only};
use crate::position;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use fields::Generator;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::table::TableUse;
use millstream_core::{
    Error, PartitionReader, Place, Polled, Result, SavedPartition, Sink, SinkContext, Source, TableSpec,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

pub struct Datagen;

const ROWS_PER_SECOND: &str = "rows-per-second";
const NUMBER_OF_ROWS: &str = "number-of-rows";
const SEED: &str = "millstream.seed";
const ROWS_PER_SECOND_DEFAULT: u64 = 10_000;
const ROWS_MAX: u64 = 8192;

/// What follows `fields.<name>.`.
const OF_FIELDS: [&str; 9] = ["kind", "min", "max", "length", "start", "end", "null-rate", "max-past", "var-len"];

impl Connector for Datagen {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        only(table, use_as, TableUse::Source)?;
        let mut known = vec![ROWS_PER_SECOND.to_owned(), NUMBER_OF_ROWS.to_owned(), SEED.to_owned()];
        for field in table.schema.fields() {
            known.extend(OF_FIELDS.iter().map(|key| format!("fields.{}.{key}", field.name())));
            known.extend(
                fields::nested_names(field)
                    .into_iter()
                    .flat_map(|name| OF_FIELDS.iter().map(move |key| format!("fields.{name}.{key}"))),
            );
        }
        check_keys(table, &known.iter().map(String::as_str).collect::<Vec<_>>())?;
        Plan::of(table).map(drop)
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        self.validate(table, TableUse::Source)?;
        Ok(Box::new(DatagenSource(Plan::of(table)?)))
    }

    fn open_sink(&self, table: &TableSpec, _context: &SinkContext) -> Result<Box<dyn Sink>> {
        only(table, TableUse::Sink, TableUse::Source)?;
        Err(Error::internal("datagen takes no rows"))
    }
}

#[derive(Debug, Clone)]
struct Plan {
    schema: SchemaRef,
    columns: Vec<Column>,
    /// `None`: as fast as may be.
    rows_per_second: Option<u64>,
    /// `None`: no end.
    rows: Option<u64>,
    seed: u64,
}

/// Where a partition goes on. Partitions stay as they were cut, so that each goes on with its own rows.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    /// The number of the next row.
    next: u64,
    /// How many partitions there are.
    of: u64,
    seed: u64,
}

#[derive(Debug, Clone)]
enum Column {
    Made(Box<Generator>),
    Order,
}

impl Plan {
    fn of(table: &TableSpec) -> Result<Plan> {
        let rows_per_second = number::<i64>(table, ROWS_PER_SECOND, "a whole number")?;
        let rows_per_second = match rows_per_second {
            None => Some(ROWS_PER_SECOND_DEFAULT),
            // Zero or less: no limit.
            Some(n) => u64::try_from(n).ok().filter(|&n| n > 0),
        };
        let seed = number::<u64>(table, SEED, "a whole number, 0 or more")?.unwrap_or(0);
        let mut rows = number::<u64>(table, NUMBER_OF_ROWS, "a whole number, 0 or more")?;
        let mut generators = Vec::with_capacity(table.schema.fields().len());
        for (n, field) in table.schema.fields().iter().enumerate() {
            let generator = Generator::of(table, field, field.name(), fields::mix(seed ^ (n as u64 + 1)))?;
            // A sequence that has come to its end ends the table, also where its column is not read.
            rows = match (rows, generator.rows()) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            generators.push(generator);
        }
        let wanted: Vec<usize> = table.projection.clone().unwrap_or_else(|| (0..generators.len()).collect());
        let mut columns: Vec<Column> = wanted.iter().map(|&i| Column::Made(Box::new(generators[i].clone()))).collect();
        let mut fields: Vec<Field> = wanted.iter().map(|&i| table.schema.field(i).clone()).collect();
        for (key, field) in &table.metadata {
            if key != ROW_ORDER {
                return Err(
                    Error::sql(format!("'datagen' has no metadata '{key}'")).remedy("leave the METADATA column out")
                );
            }
            columns.push(Column::Order);
            fields.push(field.clone());
        }
        Ok(Plan { schema: Arc::new(Schema::new(fields)), columns, rows_per_second, rows, seed })
    }
}

struct DatagenSource(Plan);

impl Source for DatagenSource {
    fn schema(&self) -> SchemaRef {
        self.0.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.0.rows.is_some()
    }

    fn partitions(&mut self, parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let of = parallelism.max(1) as u64;
        Ok((0..of).map(|index| self.reader(index, index, of)).collect())
    }

    fn resume(&mut self, saved: &[SavedPartition], parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let Some(first) = saved.first() else { return self.partitions(parallelism) };
        let of = position::read::<Position>(first)?.of;
        let mut next: Vec<u64> = (0..of.min(PARTITIONS_MAX)).collect();
        for saved in saved {
            let position: Position = position::read(saved)?;
            let index = position.next.checked_rem(position.of).unwrap_or(u64::MAX);
            let slot = next.get_mut(usize::try_from(index).unwrap_or(usize::MAX));
            match slot {
                Some(slot) if position.of == of && saved.name == name(index) => *slot = position.next,
                _ => {
                    return Err(Error::data("the saved partitions of the generator do not belong together")
                        .at(Place(saved.name.clone()))
                        .remedy("start the job afresh"));
                }
            }
            if position.seed != self.0.seed {
                return Err(Error::usage(format!(
                    "the job was started with '{SEED}' = '{}' and is to go on with '{}'",
                    position.seed, self.0.seed
                ))
                .remedy("set it back, or start the job afresh"));
            }
        }
        Ok((0..of).zip(next).map(|(index, next)| self.reader(index, next, of)).collect())
    }

    fn replays(&self) -> bool {
        true
    }
}

/// More partitions than this are a damaged position.
const PARTITIONS_MAX: u64 = 1 << 16;

fn name(index: u64) -> String {
    format!("datagen-{index}")
}

impl DatagenSource {
    fn reader(&self, index: u64, next: u64, of: u64) -> Box<dyn PartitionReader> {
        Box::new(DatagenReader {
            name: name(index),
            plan: self.0.clone(),
            next,
            of,
            made: 0,
            began: None,
            rows_max: ROWS_MAX,
        })
    }
}

struct DatagenReader {
    name: String,
    plan: Plan,
    /// The number of the next row.
    next: u64,
    /// How many partitions there are.
    of: u64,
    /// Rows made since `began`.
    made: u64,
    began: Option<Instant>,
    /// Rows of one batch at most.
    rows_max: u64,
}

impl DatagenReader {
    /// How many rows may be made now.
    fn allowed(&mut self) -> u64 {
        let Some(rate) = self.plan.rows_per_second else { return self.rows_max };
        let began = *self.began.get_or_insert_with(Instant::now);
        // This partition's share. One row is due at once, so that something is seen from the start.
        let due = began.elapsed().as_nanos() * u128::from(rate) / (u128::from(self.of) * 1_000_000_000) + 1;
        let due = u64::try_from(due).unwrap_or(u64::MAX);
        due.saturating_sub(self.made).min(self.rows_max)
    }
}

impl PartitionReader for DatagenReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        let left = match self.plan.rows {
            Some(rows) if self.next >= rows => return Ok(Polled::End),
            Some(rows) => (rows - self.next).div_ceil(self.of),
            None => u64::MAX,
        };
        let count = self.allowed().min(left);
        if count == 0 {
            return Ok(Polled::Pending);
        }
        let numbers: Vec<u64> = (0..count).map(|n| self.next + n * self.of).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as i64;
        let columns: Vec<ArrayRef> = self
            .plan
            .columns
            .iter()
            .map(|column| match column {
                Column::Made(generator) => generator.make(&numbers, now),
                Column::Order => {
                    Ok(Arc::new(Int64Array::from_iter_values(numbers.iter().map(|&n| n as i64))) as ArrayRef)
                }
            })
            .collect::<Result<_>>()?;
        self.next += count * self.of;
        self.made += count;
        let options = RecordBatchOptions::new().with_row_count(Some(count as usize));
        Ok(Polled::Rows(RecordBatch::try_new_with_options(self.plan.schema.clone(), columns, &options)?.into()))
    }

    fn take_at_most(&mut self, rows: usize) {
        self.rows_max = (rows as u64).clamp(1, ROWS_MAX);
    }

    fn position(&self) -> Result<String> {
        position::write(&Position { next: self.next, of: self.of, seed: self.plan.seed })
    }
}
