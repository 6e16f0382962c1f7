//! Rows that wait for the next round, sorted out by shelf.
//!
//! ```text
//!  batch ──hash──▶ │ shelf 0 ..│ shelf 1 ..│ .. │  a segment, with the watermarks before it    ┐ in memory
//!  batch ──hash──▶ │ shelf 0 ..│ shelf 1 ..│ .. │                                             ┘
//!  many segments ──go_below──▶ a run: for each input and shelf one block, the segments' rows behind each other
//! ```

use super::stored::{File, FileWriter};
use crate::operator::{ROWS_MAX, Watermarks};
use arrow::array::{Array, ArrayRef, AsArray, Int8Array, Int64Array, RecordBatch, UInt32Array, new_null_array};
use arrow::compute::{concat, concat_batches};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef};
use millstream_core::key::hash_rows;
use millstream_core::{Batch, Error, Result};
use millstream_state::tier::{Spill, block_schema};
use std::sync::Arc;

/// Rows sorted by shelf; those of one shelf in the order in which they were.
pub(super) struct Order {
    pub rows: UInt32Array,
    /// Where the rows of each shelf begin, and where the last ones end.
    starts: Box<[u32]>,
}

impl Order {
    /// `keys`: the columns that the rows are exchanged by. `shelves`: a power of two.
    pub fn new(keys: &[ArrayRef], rows: usize, shelves: usize) -> Result<Order> {
        let mut hashes = Vec::new();
        hash_rows(keys, rows, &mut hashes)?;
        // The lower bits: key groups, which a task has few of, are made of the upper ones.
        let shelf = |hash: &u64| *hash as usize & (shelves - 1);
        let mut starts = vec![0u32; shelves + 1].into_boxed_slice();
        hashes.iter().for_each(|h| starts[shelf(h) + 1] += 1);
        (0..shelves).for_each(|at| starts[at + 1] += starts[at]);
        let mut next = starts.to_vec();
        let mut order = vec![0u32; rows];
        // One pass of a counting sort.
        for (row, hash) in hashes.iter().enumerate() {
            let place = &mut next[shelf(hash)];
            order[*place as usize] = row as u32;
            *place += 1;
        }
        Ok(Order { rows: order.into(), starts })
    }

    /// Where the rows of a shelf begin, and their number.
    pub fn of(&self, shelf: usize) -> (usize, usize) {
        range(&self.starts, shelf)
    }
}

fn range(starts: &[u32], shelf: usize) -> (usize, usize) {
    (starts[shelf] as usize, (starts[shelf + 1] - starts[shelf]) as usize)
}

/// A batch whose rows are sorted by shelf.
pub(super) struct Sorted {
    batch: Batch,
    starts: Box<[u32]>,
}

impl Sorted {
    pub fn new(batch: &Batch, keys: &[ArrayRef], shelves: usize) -> Result<Sorted> {
        let order = Order::new(keys, batch.len(), shelves)?;
        Ok(Sorted { batch: batch.take(&order.rows)?, starts: order.starts })
    }
}

/// What rows that came together have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub input: usize,
    /// What the operator had been handed before them.
    pub watermarks: Watermarks,
    /// Some of them have marks, and kinds.
    marked: bool,
    kinded: bool,
}

pub(super) struct Pile {
    runs: Vec<Run>,
    /// Behind those below.
    held: Vec<(Segment, Sorted)>,
    held_bytes: usize,
    below_bytes: u64,
    /// By shelf: rows that wait.
    rows: Vec<u64>,
}

/// Segments below.
struct Run {
    file: Arc<File>,
    /// Inputs that have rows in it, with the columns of their blocks. The block of the n-th of them and a shelf is
    /// `n * shelves + shelf`.
    inputs: Vec<(usize, Flat)>,
    segments: Vec<(Segment, Box<[u32]>)>,
}

impl Pile {
    pub fn new(shelves: usize) -> Pile {
        Pile { runs: Vec::new(), held: Vec::new(), held_bytes: 0, below_bytes: 0, rows: vec![0; shelves] }
    }

    pub fn is_empty(&self) -> bool {
        self.runs.is_empty() && self.held.is_empty()
    }

    /// Whether rows of a shelf wait.
    pub fn has(&self, shelf: usize) -> bool {
        self.rows[shelf] > 0
    }

    /// Bytes of rows in memory.
    pub fn held(&self) -> usize {
        self.held_bytes
    }

    /// Bytes of rows, wherever they are.
    pub fn bytes(&self) -> u64 {
        self.held_bytes as u64 + self.below_bytes
    }

    /// Bytes in memory that say what lies where below.
    pub fn bytes_of_places(&self) -> usize {
        let segment = size_of::<Segment>() + (self.rows.len() + 1) * 4;
        self.runs.iter().map(|run| run.file.bytes() + run.segments.len() * segment).sum()
    }

    pub fn add(&mut self, input: usize, watermarks: Watermarks, sorted: Sorted) {
        for (shelf, rows) in self.rows.iter_mut().enumerate() {
            *rows += range(&sorted.starts, shelf).1 as u64;
        }
        self.held_bytes += sorted.batch.bytes() + sorted.starts.len() * 4;
        let (marked, kinded) = (sorted.batch.marks.is_some(), sorted.batch.kinds.is_some());
        self.held.push((Segment { input, watermarks, marked, kinded }, sorted));
    }

    /// Writes what is in memory into a run.
    pub fn go_below(&mut self, space: &Arc<dyn Spill>) -> Result<()> {
        if self.held.is_empty() {
            return Ok(());
        }
        let held = std::mem::take(&mut self.held);
        let mut present: Vec<usize> = held.iter().map(|(segment, _)| segment.input).collect();
        present.sort_unstable();
        present.dedup();
        let mut writer = FileWriter::new(space)?;
        let mut inputs = Vec::with_capacity(present.len());
        for input in present {
            let mine: Vec<_> = held.iter().filter(|(segment, _)| segment.input == input).collect();
            let flat = Flat {
                schema: mine[0].1.batch.rows.schema(),
                marks: mine.iter().any(|(s, _)| s.marked),
                kinds: mine.iter().any(|(s, _)| s.kinded),
            };
            let batches = mine.iter().map(|(_, sorted)| flat.flatten(&sorted.batch)).collect::<Result<Vec<_>>>()?;
            for shelf in 0..self.rows.len() {
                let slice = |(rows, (_, sorted)): (&RecordBatch, &&(Segment, Sorted))| {
                    let (from, len) = range(&sorted.starts, shelf);
                    rows.slice(from, len)
                };
                let slices: Vec<RecordBatch> = batches.iter().zip(&mine).map(slice).collect();
                writer.push(Some(&concat_batches(&flat.flat_schema(), &slices)?))?;
            }
            inputs.push((input, flat));
        }
        let segments = held.into_iter().map(|(segment, sorted)| (segment, sorted.starts)).collect();
        self.runs.push(Run { file: writer.finish()?, inputs, segments });
        self.below_bytes += self.held_bytes as u64;
        self.held_bytes = 0;
        Ok(())
    }

    /// The rows of a shelf in their order, in batches of those that came by the same watermarks.
    pub fn play(&self, shelf: usize, mut each: impl FnMut(Segment, Batch) -> Result<()>) -> Result<()> {
        let mut together = Together::default();
        for run in &self.runs {
            run.play(shelf, self.rows.len(), &mut |segment, batch| together.take(segment, batch, &mut each))?;
        }
        for (segment, sorted) in &self.held {
            let (from, len) = range(&sorted.starts, shelf);
            if len > 0 {
                together.take(*segment, sorted.batch.slice(from, len), &mut each)?;
            }
        }
        together.end(&mut each)
    }
}

/// Rows that came by the same watermarks, to be one batch: what is updated is then told of once.
#[derive(Default)]
struct Together {
    of: Option<Segment>,
    parts: Vec<Batch>,
    rows: usize,
}

impl Together {
    fn take(
        &mut self,
        segment: Segment,
        batch: Batch,
        each: &mut impl FnMut(Segment, Batch) -> Result<()>,
    ) -> Result<()> {
        if self.of != Some(segment) || self.rows + batch.len() > ROWS_MAX {
            self.end(each)?;
        }
        self.of = Some(segment);
        self.rows += batch.len();
        self.parts.push(batch);
        Ok(())
    }

    fn end(&mut self, each: &mut impl FnMut(Segment, Batch) -> Result<()>) -> Result<()> {
        let (Some(segment), mut parts) = (self.of.take(), std::mem::take(&mut self.parts)) else { return Ok(()) };
        self.rows = 0;
        let last = parts.pop().ok_or_else(|| Error::internal("rows of a pile that are none"))?;
        if parts.is_empty() {
            return each(segment, last);
        }
        parts.push(last);
        let rows = concat_batches(&parts[0].rows.schema(), parts.iter().map(|p| &p.rows))?;
        let marks: Vec<&dyn Array> = parts.iter().filter_map(|p| p.marks.as_ref()).map(|m| m as &dyn Array).collect();
        let kinds: Vec<&dyn Array> = parts.iter().filter_map(|p| p.kinds.as_ref()).map(|k| k as &dyn Array).collect();
        // Of a segment all have marks or none has, and so it is with kinds.
        let marks = segment.marked.then(|| concat(&marks)).transpose()?.map(|m| m.as_primitive::<Int64Type>().clone());
        let kinds = segment.kinded.then(|| concat(&kinds)).transpose()?.map(|k| k.as_primitive::<Int8Type>().clone());
        each(segment, Batch { rows, marks, kinds })
    }
}

impl Run {
    fn play(&self, shelf: usize, shelves: usize, each: &mut impl FnMut(Segment, Batch) -> Result<()>) -> Result<()> {
        let mut blocks = Vec::with_capacity(self.inputs.len());
        for (nth, (_, flat)) in self.inputs.iter().enumerate() {
            let rows = self.file.read(nth * shelves + shelf, &flat.block_schema())?;
            blocks.push((rows, 0));
        }
        let mut segments = self.segments.iter().map(|(s, starts)| (*s, range(starts, shelf).1)).filter(|s| s.1 > 0);
        let mut next = segments.next();
        while let Some((segment, mut len)) = next {
            next = segments.next();
            // What came by the same watermarks is one batch.
            while let Some((other, more)) = next
                && other == segment
                && len + more <= ROWS_MAX
            {
                len += more;
                next = segments.next();
            }
            let nth = self.inputs.iter().position(|(input, _)| *input == segment.input).expect("its rows are there");
            let (rows, from) = &mut blocks[nth];
            let rows = rows.as_ref().expect("its rows are there");
            each(segment, self.inputs[nth].1.unflatten(&rows.slice(*from, len), segment)?)?;
            *from += len;
        }
        Ok(())
    }
}

/// A batch as columns alone.
struct Flat {
    schema: SchemaRef,
    marks: bool,
    kinds: bool,
}

impl Flat {
    fn fields(&self) -> Vec<Field> {
        let mut fields: Vec<Field> = self.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(self.marks.then(|| Field::new("$mark", DataType::Int64, true)));
        fields.extend(self.kinds.then(|| Field::new("$kind", DataType::Int8, true)));
        fields
    }

    fn flat_schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.fields()))
    }

    fn block_schema(&self) -> SchemaRef {
        block_schema(self.fields())
    }

    fn flatten(&self, batch: &Batch) -> Result<RecordBatch> {
        let mut columns = batch.rows.columns().to_vec();
        if self.marks {
            let none = || new_null_array(&DataType::Int64, batch.len());
            columns.push(batch.marks.as_ref().map_or_else(none, |m| Arc::new(m.clone()) as ArrayRef));
        }
        if self.kinds {
            let none = || new_null_array(&DataType::Int8, batch.len());
            columns.push(batch.kinds.as_ref().map_or_else(none, |k| Arc::new(k.clone()) as ArrayRef));
        }
        Ok(RecordBatch::try_new(self.flat_schema(), columns)?)
    }

    fn unflatten(&self, rows: &RecordBatch, segment: Segment) -> Result<Batch> {
        let width = self.schema.fields().len();
        let marks: Option<Int64Array> = segment.marked.then(|| rows.column(width).as_primitive::<Int64Type>().clone());
        let kinds = width + usize::from(self.marks);
        let kinds: Option<Int8Array> = segment.kinded.then(|| rows.column(kinds).as_primitive::<Int8Type>().clone());
        let rows = RecordBatch::try_new(self.schema.clone(), rows.columns()[..width].to_vec())?;
        Ok(Batch { rows, marks, kinds })
    }
}
