//! A log with partitions that can be read again from any offset, as Kafka's can.
//!
//! Where a batch ends and when a partition has nothing to give is the dice's choice at each poll; what the rows are is
//! not. A partition may fall silent at a place of its own until the others have been read: then it becomes idle.

use crate::workload::{Entry, Log};
use crate::world::{Run, World};
use arrow::array::{
    ArrayRef, BooleanArray, Decimal128Array, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray,
    TimestampMillisecondArray,
};
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{
    BadRow, Error, PartitionReader, Place, Polled, Result, SavedPartition, Source, SourceRows, TableSpec,
};
use std::sync::Arc;

/// Bits of a row's order that count its offset.
const OFFSET_BITS: u32 = 32;

/// A table of the log.
pub struct LogSource {
    world: Arc<World>,
    run: Arc<Run>,
    log: Arc<Log>,
    schema: SchemaRef,
}

impl LogSource {
    pub fn new(world: Arc<World>, run: Arc<Run>, log: Arc<Log>, table: &TableSpec) -> LogSource {
        let all = table.schema.fields();
        let projected: Vec<_> = match &table.projection {
            None => all.iter().cloned().collect(),
            Some(columns) => columns.iter().map(|c| all[*c].clone()).collect(),
        };
        let metadata = table.metadata.iter().map(|(_, field)| Arc::new(field.clone()));
        let schema = Arc::new(Schema::new(projected.into_iter().chain(metadata).collect::<Vec<_>>()));
        LogSource { world, run, log, schema }
    }

    fn reader(&self, partition: usize, next: usize) -> Box<dyn PartitionReader> {
        Box::new(Reader {
            world: self.world.clone(),
            run: self.run.clone(),
            log: self.log.clone(),
            schema: self.schema.clone(),
            name: partition.to_string(),
            partition,
            next,
        })
    }
}

impl Source for LogSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        (0..self.log.partitions.len()).for_each(|p| self.run.has_read((self.log.source, p), 0));
        Ok((0..self.log.partitions.len()).map(|p| self.reader(p, 0)).collect())
    }

    fn resume(&mut self, saved: &[SavedPartition], _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let place = |name: &str| saved.iter().find(|s| s.name == name);
        let number = |text: &str| {
            text.parse::<usize>().map_err(|_| Error::internal(format!("`{text}` is no offset of the simulated log")))
        };
        for s in saved {
            self.run.has_read((self.log.source, number(&s.name)?), number(&s.position)?);
        }
        // A log knows of all its partitions; the engine knows which of them have ended.
        let all = 0..self.log.partitions.len();
        all.map(|p| Ok(self.reader(p, place(&p.to_string()).map_or(Ok(0), |s| number(&s.position))?))).collect()
    }

    fn replays(&self) -> bool {
        true
    }
}

struct Reader {
    world: Arc<World>,
    run: Arc<Run>,
    log: Arc<Log>,
    schema: SchemaRef,
    name: String,
    partition: usize,
    next: usize,
}

impl Reader {
    fn entries(&self) -> &[Entry] {
        &self.log.partitions[self.partition].entries
    }

    /// Whether all other partitions have been read to their end.
    fn others_are_read(&self) -> bool {
        let read = self.run.read();
        // One that the run has not begun to read had ended before it.
        let done =
            |p: usize| read.get(&(self.log.source, p)).is_none_or(|next| *next >= self.log.partitions[p].entries.len());
        (0..self.log.partitions.len()).all(|p| p == self.partition || done(p))
    }

    fn rows(&self, entries: &[Entry], first: usize) -> Result<SourceRows> {
        let mut bad = Vec::new();
        let mut good = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            match entry {
                Entry::Row(row) => good.push((first + i, row)),
                Entry::Bad(raw) => bad.push(BadRow {
                    place: Place(format!("{}[{}]@{}", self.log.name, self.partition, first + i)),
                    reason: "it is no row".to_owned(),
                    raw: raw.clone().into_bytes(),
                }),
            }
        }
        let column = |name: &str| -> Result<ArrayRef> {
            Ok(match name {
                "k" => Arc::new(Int32Array::from_iter(good.iter().map(|(_, r)| r.k))),
                "g" => Arc::new(StringArray::from_iter(good.iter().map(|(_, r)| r.g))),
                "v" => Arc::new(Int32Array::from_iter(good.iter().map(|(_, r)| r.v))),
                "d" => Arc::new(Float64Array::from_iter(good.iter().map(|(_, r)| r.d))),
                "m" => {
                    Arc::new(Decimal128Array::from_iter(good.iter().map(|(_, r)| r.m)).with_precision_and_scale(10, 2)?)
                }
                "b" => Arc::new(BooleanArray::from_iter(good.iter().map(|(_, r)| r.b))),
                "ts" => Arc::new(TimestampMillisecondArray::from_iter(good.iter().map(|(_, r)| r.ts))),
                ROW_ORDER => {
                    let partition = ((self.log.source as i64) << 8 | self.partition as i64) << OFFSET_BITS;
                    Arc::new(Int64Array::from_iter_values(good.iter().map(|(at, _)| partition | *at as i64)))
                }
                other => return Err(Error::internal(format!("the simulated log has no column `{other}`"))),
            })
        };
        let columns = self.schema.fields().iter().map(|f| column(f.name())).collect::<Result<Vec<_>>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(good.len()));
        let rows = RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?;
        Ok(SourceRows { bytes: entries.len() as u64 * 40, rows, kinds: None, bad })
    }
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        let partition = &self.log.partitions[self.partition];
        let (end, silent_at) = (partition.entries.len(), partition.silent_at);
        let silent = silent_at == Some(self.next) && !self.others_are_read();
        let mut core = self.world.core();
        let pause = silent || core.dice.chance(partition.pauses);
        if pause {
            core.trace.note(format_args!("run {} poll {}[{}]: nothing", self.run.number, self.log.name, self.name));
            return Ok(Polled::Pending);
        }
        if self.next >= end {
            core.trace.note(format_args!("run {} poll {}[{}]: end", self.run.number, self.log.name, self.name));
            return Ok(Polled::End);
        }
        let stop = silent_at.filter(|at| *at > self.next).unwrap_or(end);
        let most = core.dice.one(&[1, 3, 20, 60]);
        let to = (self.next + core.dice.between(1, most) as usize).min(stop);
        core.trace
            .note(format_args!("run {} poll {}[{}]: {}..{to}", self.run.number, self.log.name, self.name, self.next));
        drop(core);
        let rows = self.rows(&self.entries()[self.next..to], self.next)?;
        self.next = to;
        self.run.has_read((self.log.source, self.partition), to);
        Ok(Polled::Rows(rows))
    }

    fn position(&self) -> Result<String> {
        Ok(self.next.to_string())
    }
}
