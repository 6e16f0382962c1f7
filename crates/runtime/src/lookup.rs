//! Tables that are looked up: asked by key through their connector, or read whole and kept here.
//!
//! ```text
//!  source ─ read to its end ─▶ rows sorted by key, one index ─▶ shared by all tasks of the node
//!                              └─ older than the option says: the next task to ask reads anew, the others wait
//! ```
//!
//! A table that is read whole answers at once, so rows that look into it wait for nothing.

use crate::placement::{Placement, Work};
use arrow::array::{Array, ArrayRef, RecordBatch, UInt32Array, new_empty_array};
use arrow::compute::{concat_batches, take_record_batch};
use arrow::datatypes::SchemaRef;
use millstream_core::lookup::Reopen;
use millstream_core::{ByteSize, Clock, Connectors, Error, Found, LookedUp, Lookup, Polled, Result};
use millstream_dataflow::graph::{self, NodeKind};
use millstream_dataflow::join::Steps;
use millstream_state::keys::{KeyCodec, KeyTable};
use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What one looked-up table may take of the memory, its index not counted.
const TABLE_BYTES_MAX: ByteSize = ByteSize::mib(1024);

/// Rows of one looked-up table: what a row number holds.
const TABLE_ROWS_MAX: usize = u32::MAX as usize - 1;

/// How long to wait before a source that has nothing yet is asked again.
const PAUSE: Duration = Duration::from_millis(1);

/// Opens the tables that the nodes of a job look up, by (node, task). `wanted`: whether there is such a task.
pub(crate) fn open(
    placement: &Placement,
    connectors: &dyn Connectors,
    clock: &Arc<dyn Clock>,
    wanted: impl Fn(usize, usize) -> bool,
) -> Result<BTreeMap<(usize, usize), Box<dyn Lookup>>> {
    let mut opened = BTreeMap::new();
    for (index, node) in placement.nodes.iter().enumerate() {
        let Work::Node { kind: NodeKind::LookupJoin(join), .. } = &node.work else { continue };
        let mut shared: Option<Arc<Shared>> = None;
        for task in (0..node.tasks).filter(|t| wanted(index, *t)) {
            let table: Box<dyn Lookup> = match &shared {
                Some(shared) => Box::new(Kept::of(shared, false)),
                None => match open_one(join, connectors, clock)? {
                    One::Asked(table) => table,
                    One::Kept(table) => Box::new(Kept::of(shared.insert(Arc::new(table)), true)),
                },
            };
            opened.insert((index, task), table);
        }
    }
    Ok(opened)
}

enum One {
    Asked(Box<dyn Lookup>),
    Kept(Shared),
}

fn open_one(join: &graph::LookupJoin, connectors: &dyn Connectors, clock: &Arc<dyn Clock>) -> Result<One> {
    let stored = join.stored_keys();
    // Where a key is computed the table can only be kept: the planner has seen to it that it is.
    let keys: Vec<usize> = stored.iter().flatten().copied().collect();
    match connectors.open_lookup(&join.table, &keys)? {
        LookedUp::Asked(table) if stored.iter().all(Option::is_some) => {
            let columns = columns_of(join)?;
            Ok(One::Asked(Steps::new(join, &columns).after(table)))
        }
        LookedUp::Asked(_) => Err(Error::internal("a table is asked for a key that it does not store")),
        LookedUp::Whole { open, reload } => {
            let shared = Shared {
                name: join.table.name.clone(),
                steps: Steps::new(join, &columns_of(join)?),
                schema: join.looked_up.clone(),
                keys: join.keys.iter().map(|(_, key)| *key).collect(),
                open,
                reload: reload.map(|r| u64::try_from(r.as_nanos()).unwrap_or(u64::MAX)),
                clock: clock.clone(),
                content: Mutex::new(Content { table: Arc::default(), read_at: 0 }),
            };
            let table = shared.read().map_err(|e| match &join.table.place {
                Some(place) => e.at(place.clone()),
                None => e,
            })?;
            let read_at = shared.clock.monotonic_nanos();
            *lock(&shared.content) = Content { table: Arc::new(table), read_at };
            Ok(One::Kept(shared))
        }
    }
}

/// The columns that the table hands on.
fn columns_of(join: &graph::LookupJoin) -> Result<SchemaRef> {
    let stored = match &join.table.projection {
        Some(columns) => join.table.schema.project(columns)?,
        None => join.table.schema.as_ref().clone(),
    };
    let fields = stored.fields().iter().map(|f| f.as_ref().clone());
    let metadata = join.table.metadata.iter().map(|(_, f)| f.clone());
    Ok(Arc::new(arrow::datatypes::Schema::new(fields.chain(metadata).collect::<Vec<_>>())))
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // What it holds is put there whole.
    mutex.lock().unwrap_or_else(|p| p.into_inner())
}

/// A table in memory, for all tasks of a node.
struct Shared {
    name: String,
    steps: Steps,
    /// The columns that come of the steps, and those of them that it is looked up by.
    schema: SchemaRef,
    keys: Vec<usize>,
    open: Reopen,
    /// In nanoseconds.
    reload: Option<u64>,
    clock: Arc<dyn Clock>,
    content: Mutex<Content>,
}

struct Content {
    table: Arc<Table>,
    read_at: u64,
}

/// The rows of a table, those of a key beside each other, in the order in which they were read.
#[derive(Default)]
struct Table {
    /// `None`: it has never been read.
    index: Option<Index>,
    bytes: usize,
}

struct Index {
    codec: KeyCodec,
    keys: KeyTable,
    /// Where the rows of a key begin, by its id, and behind the last one where they end.
    starts: Vec<u32>,
    rows: RecordBatch,
}

impl Shared {
    /// The table as it is now, read again where it has to be.
    fn current(&self) -> Result<Arc<Table>> {
        let mut content = lock(&self.content);
        if let Some(reload) = self.reload
            && self.clock.monotonic_nanos().saturating_sub(content.read_at) >= reload
        {
            content.table = Arc::new(self.read()?);
            content.read_at = self.clock.monotonic_nanos();
        }
        Ok(content.table.clone())
    }

    fn read(&self) -> Result<Table> {
        let mut batches: Vec<RecordBatch> = Vec::new();
        let (mut rows, mut bytes) = (0usize, 0u64);
        for mut reader in (self.open)()?.partitions(1)? {
            loop {
                match reader.poll()? {
                    Polled::End => break,
                    Polled::Pending => std::thread::sleep(PAUSE),
                    Polled::Rows(read) => {
                        let batch = self.steps.take(read.rows, &mut [])?;
                        rows += batch.num_rows();
                        bytes += batch.get_array_memory_size() as u64;
                        if bytes > TABLE_BYTES_MAX.0 || rows > TABLE_ROWS_MAX {
                            return Err(Error::usage(format!(
                                "the table `{}` is looked up in memory, and takes more than {TABLE_BYTES_MAX} of it",
                                self.name
                            ))
                            .remedy(
                                "put it into PostgreSQL and look it up there ('jdbc'), which is asked by key, or read \
                                 fewer of its columns",
                            ));
                        }
                        batches.push(batch);
                    }
                }
            }
        }
        let rows = match batches.first() {
            Some(first) => concat_batches(&first.schema(), &batches)?,
            None => {
                let none = self.schema.fields().iter().map(|f| new_empty_array(f.data_type()));
                let fields = self.schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true));
                let schema = Arc::new(arrow::datatypes::Schema::new(fields.collect::<Vec<_>>()));
                RecordBatch::try_new(schema, none.collect())?
            }
        };
        drop(batches);
        Table::new(rows, &self.keys)
    }
}

impl Table {
    /// Sorts rows by their keys. Those with NULL in their key are never found.
    fn new(rows: RecordBatch, keys: &[usize]) -> Result<Table> {
        let columns: Vec<ArrayRef> = keys.iter().map(|k| rows.column(*k).clone()).collect();
        let types: Vec<_> = columns.iter().map(|c| c.data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let (mut table, mut ids) = (codec.table(), Vec::new());
        table.assign(&codec.encode(&columns, rows.num_rows())?, 0..rows.num_rows(), &mut ids);
        let has_null = |row: usize| columns.iter().any(|c| c.is_null(row));
        let nulls = columns.iter().any(|c| c.null_count() > 0);
        // A counting sort: how many rows each key has, where they begin, and then each row to its place.
        let mut starts = vec![0u32; table.len() + 1];
        for (row, id) in ids.iter().enumerate() {
            if !(nulls && has_null(row)) {
                starts[*id as usize + 1] += 1;
            }
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        let mut places = vec![0u32; starts[table.len()] as usize];
        let mut next = starts.clone();
        for (row, id) in ids.iter().enumerate() {
            if !(nulls && has_null(row)) {
                places[next[*id as usize] as usize] = row as u32;
                next[*id as usize] += 1;
            }
        }
        let in_place = places.len() == rows.num_rows() && places.iter().enumerate().all(|(i, row)| i as u32 == *row);
        let rows = if in_place { rows } else { take_record_batch(&rows, &UInt32Array::from(places))? };
        let bytes = rows.get_array_memory_size() + table.bytes() + starts.len() * 4;
        Ok(Table { index: Some(Index { codec, keys: table, starts, rows }), bytes })
    }

    fn find(&self, keys: &[ArrayRef]) -> Result<Found> {
        let Some(Index { codec, keys: table, starts, rows }) = &self.index else {
            return Err(Error::internal("a table is looked up before it has been read"));
        };
        let asked = keys.first().map_or(0, |k| k.len());
        let mut ids = Vec::with_capacity(asked);
        table.find_all(&codec.encode(keys, asked)?, &mut ids);
        let range = |id: u32| match id {
            KeyTable::UNKNOWN => 0..0,
            id => starts[id as usize]..starts[id as usize + 1],
        };
        Ok(Found { rows: rows.clone(), ranges: ids.into_iter().map(range).collect() })
    }
}

/// One task's way to a table in memory.
struct Kept {
    shared: Arc<Shared>,
    /// Where it is read once, without asking whether it has to be read again.
    once: Option<Arc<Table>>,
    answers: VecDeque<Found>,
    /// One of the tasks counts the table as its own.
    counts: bool,
    bytes: usize,
}

impl Kept {
    fn of(shared: &Arc<Shared>, counts: bool) -> Kept {
        let table = lock(&shared.content).table.clone();
        let bytes = table.bytes;
        let once = shared.reload.is_none().then_some(table);
        Kept { shared: shared.clone(), once, answers: VecDeque::new(), counts, bytes }
    }
}

impl Lookup for Kept {
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<()> {
        let found = match &self.once {
            Some(table) => table.find(keys)?,
            None => {
                let table = self.shared.current()?;
                self.bytes = table.bytes;
                table.find(keys)?
            }
        };
        self.answers.push_back(found);
        Ok(())
    }

    fn answer(&mut self, _: bool) -> Result<Option<Found>> {
        match self.answers.pop_front() {
            Some(found) => Ok(Some(found)),
            None => Err(Error::internal("nothing has been asked")),
        }
    }

    fn bytes(&self) -> usize {
        if self.counts { self.bytes } else { 0 }
    }
}
