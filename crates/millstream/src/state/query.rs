//! A checkpoint as SQL tables: what a job remembers, asked with the SQL that it is written in.
//!
//! ```text
//!  manifest ──▶ agg_2_slices, ..     each table of each node: the rows that are alive, over all tasks
//!           ──▶ partitions           how far each source has been read
//!           ──▶ checkpoint_files     which files hold what
//! ```
//!
//! Each is a table of a connector that exists in here only. Files are read when a query asks for their table, one task's
//! share after the other.

use crate::connectors::Tables;
use crate::program::Program;
use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use millstream_checkpoint::Manifest;
use millstream_checkpoint::manifest::{Chain, FileRef, NodeState, TableState};
use millstream_connect::Registry;
use millstream_core::source::{PartitionReader, Polled};
use millstream_core::table::{Brings, TableUse, Takes, cannot_be_looked_up};
use millstream_core::{
    Committer, Connectors, Error, ErrorKind, JobRun, LookedUp, Place, Result, Sink, SinkContext, Source, Store,
    TableSpec,
};
use millstream_plan::catalog::{ColumnDef, ColumnKind, Span, TableDef};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// The connector of the tables, and the option that says which of them it is.
const CONNECTOR: &str = "checkpoint";
const CONTENT: &str = "content";

/// Rows handed on at once.
const BATCH_ROWS: usize = 8192;

/// A table of a node under its name in SQL.
#[derive(Debug, Clone)]
pub struct SqlTable<'a> {
    pub name: String,
    pub node: &'a NodeState,
    pub table: &'a TableState,
}

/// The tables of a checkpoint's nodes by their names in SQL: the node's id and the table's name, with `_` for all that
/// would have to be quoted.
pub fn tables(manifest: &Manifest) -> Vec<SqlTable<'_>> {
    let mut named: Vec<SqlTable<'_>> = Vec::new();
    for (node, table) in manifest.nodes.iter().flat_map(|n| n.tables.iter().map(move |t| (n, t))) {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '_' };
        let mut name: String = format!("{}_{}", node.id, table.name).chars().map(plain).collect();
        if name.starts_with(|c: char| c.is_ascii_digit()) {
            name.insert(0, '_');
        }
        // Two ids may differ in nothing but what has become `_`.
        while named.iter().any(|t| t.name == name) {
            name.push('_');
        }
        named.push(SqlTable { name, node, table });
    }
    named
}

/// A program of `sql` over the tables of a checkpoint, and what opens them. To be run in batch mode.
///
/// # Errors
/// A mistake in the SQL, with the names of the tables there are; a file that is needed to know a table's columns.
pub fn query(store: &Arc<dyn Store>, manifest: &Manifest, sql: &str) -> Result<(Program, Tables)> {
    let mut program = Program::parse(sql, "query")?;
    program.catalog.settings.batch = true;
    let mut contents = BTreeMap::from([
        ("partitions".to_owned(), Content::Rows(partitions(manifest)?)),
        ("checkpoint_files".to_owned(), Content::Rows(files(manifest)?)),
    ]);
    for SqlTable { name, table, .. } in tables(manifest) {
        // Without columns it has no rows either: there is nothing to ask of it.
        if let Some(columns) = millstream_runtime::checkpoint::columns(store.as_ref(), table)? {
            contents.insert(name, Content::Table { columns: in_sql(&columns), table: table.clone() });
        }
    }
    for (name, content) in &contents {
        let place = Place(format!("{}, checkpoint {}", store.name(), manifest.number));
        program.catalog.tables.insert(name.clone(), declare(name, &content.columns(), place));
    }
    let names: Vec<String> = contents.keys().cloned().collect();
    let tables = Arc::new(Checkpoint { store: store.clone(), contents, others: Arc::new(Registry::default()) });
    let tables = Tables::over(tables);
    program.check(&tables).map_err(|e| with_names(e, &names))?;
    Ok((program, tables))
}

/// Whoever mistypes a name has no script to look it up in.
fn with_names(e: Error, names: &[String]) -> Error {
    let listed = |help: &str| names.iter().all(|name| help.contains(name.as_str()));
    if e.kind() != ErrorKind::Sql || e.help().is_some_and(listed) {
        return e;
    }
    let there = format!("the tables here are {}", names.join(", "));
    let remedy = e.help().map_or(there.clone(), |help| format!("{help}; {there}"));
    let with = Error::sql(e.what()).remedy(remedy);
    match e.place() {
        Some(place) => with.at(place.clone()),
        None => with,
    }
}

fn declare(name: &str, columns: &Schema, place: Place) -> TableDef {
    let column = |field: &Arc<Field>| ColumnDef {
        name: field.name().clone(),
        kind: ColumnKind::Physical { data_type: field.data_type().clone(), nullable: true },
        comment: None,
        span: Span::default(),
    };
    let options = [("connector", CONNECTOR), (CONTENT, name)];
    TableDef {
        name: name.to_owned(),
        columns: columns.fields().iter().map(column).collect(),
        watermark: None,
        primary_key: Vec::new(),
        partitioned_by: Vec::new(),
        options: options.into_iter().map(|(k, v)| (k.to_owned(), v.to_owned())).collect(),
        like: None,
        place,
    }
}

/// The columns with types that SQL has. All values fit.
fn in_sql(columns: &Schema) -> SchemaRef {
    let of = |t: &DataType| match t {
        DataType::FixedSizeBinary(_) | DataType::LargeBinary | DataType::BinaryView => DataType::Binary,
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        other => other.clone(),
    };
    let fields = columns.fields().iter().map(|f| Field::new(f.name(), of(f.data_type()), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn partitions(manifest: &Manifest) -> Result<RecordBatch> {
    let all: Vec<_> = manifest.nodes.iter().flat_map(|n| n.partitions.iter().map(move |p| (n, p))).collect();
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    // The end of all time is no time that SQL can show.
    let mark = |at: Option<i64>| at.filter(|at| (i64::MIN + 1..i64::MAX).contains(at));
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("node", Arc::new(StringArray::from_iter_values(all.iter().map(|(n, _)| &n.id))) as ArrayRef, true),
        ("name", Arc::new(StringArray::from_iter_values(all.iter().map(|(_, p)| &p.name))), true),
        ("position", Arc::new(StringArray::from_iter_values(all.iter().map(|(_, p)| &p.position))), true),
        ("rows", Arc::new(Int64Array::from_iter_values(all.iter().map(|(_, p)| number(p.rows)))), true),
        (
            "watermark",
            Arc::new(all.iter().map(|(_, p)| mark(p.watermark)).collect::<TimestampMillisecondArray>()),
            true,
        ),
        ("ended", Arc::new(all.iter().map(|(_, p)| Some(p.ended)).collect::<BooleanArray>()), true),
    ])?)
}

fn files(manifest: &Manifest) -> Result<RecordBatch> {
    // Node, table, task, place in the chain, file.
    type Row<'a> = (&'a NodeState, Option<&'a TableState>, usize, Option<i64>, &'a FileRef);
    let mut all: Vec<Row<'_>> = Vec::new();
    for node in &manifest.nodes {
        for table in &node.tables {
            for chain in &table.chains {
                let pieces = (0..).zip(&chain.pieces);
                all.extend(pieces.map(|(piece, file)| (node, Some(table), chain.task, Some(piece), file)));
            }
        }
        all.extend(node.in_flight.iter().map(|f| (node, None, f.task, None, &f.file)));
    }
    let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
    Ok(RecordBatch::try_from_iter_with_nullable([
        ("node", Arc::new(StringArray::from_iter_values(all.iter().map(|f| &f.0.id))) as ArrayRef, true),
        ("name", Arc::new(all.iter().map(|f| f.1.map(|t| &t.name)).collect::<StringArray>()), true),
        ("task", Arc::new(Int64Array::from_iter_values(all.iter().map(|f| f.2 as i64))), true),
        ("piece", Arc::new(all.iter().map(|f| f.3).collect::<Int64Array>()), true),
        ("path", Arc::new(StringArray::from_iter_values(all.iter().map(|f| &f.4.path))), true),
        ("epoch", Arc::new(Int64Array::from_iter_values(all.iter().map(|f| number(f.4.epoch)))), true),
        ("rows", Arc::new(Int64Array::from_iter_values(all.iter().map(|f| number(f.4.rows)))), true),
        ("bytes", Arc::new(Int64Array::from_iter_values(all.iter().map(|f| number(f.4.bytes)))), true),
    ])?)
}

/// What a table holds.
#[derive(Clone)]
enum Content {
    Rows(RecordBatch),
    Table { columns: SchemaRef, table: TableState },
}

impl Content {
    fn columns(&self) -> SchemaRef {
        match self {
            Content::Rows(rows) => rows.schema(),
            Content::Table { columns, .. } => columns.clone(),
        }
    }
}

/// Opens the tables of a checkpoint, and leaves all others to their connectors: a query may write what it finds.
struct Checkpoint {
    store: Arc<dyn Store>,
    contents: BTreeMap<String, Content>,
    others: Arc<dyn Connectors>,
}

impl Checkpoint {
    fn content(&self, table: &TableSpec) -> Option<&Content> {
        if table.connector() != CONNECTOR {
            return None;
        }
        self.contents.get(table.option(CONTENT)?)
    }
}

impl Connectors for Checkpoint {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        match (self.content(table), use_as) {
            (None, _) => self.others.validate(table, use_as),
            (Some(_), TableUse::Source) => Ok(()),
            (Some(_), TableUse::Lookup) => Err(cannot_be_looked_up(table)),
            (Some(_), TableUse::Sink) => Err(Error::usage("the tables of a checkpoint cannot be written")
                .remedy("declare a table of your own with CREATE TABLE and write into that")),
        }
    }

    fn metadata(&self, table: &TableSpec) -> Result<Vec<Field>> {
        if self.content(table).is_some() { Ok(Vec::new()) } else { self.others.metadata(table) }
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        self.others.takes(table)
    }

    fn brings(&self, table: &TableSpec) -> Brings {
        self.others.brings(table)
    }

    fn single_writer(&self, table: &TableSpec) -> bool {
        self.others.single_writer(table)
    }

    fn asked_by_key(&self, table: &TableSpec) -> bool {
        self.others.asked_by_key(table)
    }

    fn open_lookup(&self, table: &TableSpec, keys: &[usize]) -> Result<LookedUp> {
        self.others.open_lookup(table, keys)
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        let Some(content) = self.content(table) else { return self.others.open_source(table) };
        let wanted = table.projection.clone().unwrap_or_else(|| (0..table.schema.fields().len()).collect());
        let schema = Arc::new(table.schema.project(&wanted)?);
        let reader = match content.clone() {
            Content::Rows(rows) => {
                Reader { ready: VecDeque::from([rows]), ..self.reader(table, schema.clone(), wanted) }
            }
            Content::Table { table: mut state, .. } => Reader {
                chains: std::mem::take(&mut state.chains).into(),
                table: Some(state),
                ..self.reader(table, schema.clone(), wanted)
            },
        };
        Ok(Box::new(Opened { schema, reader: Some(reader) }))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        self.others.open_sink(table, context)
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        self.others.open_committer(table, job)
    }
}

impl Checkpoint {
    fn reader(&self, table: &TableSpec, schema: SchemaRef, wanted: Vec<usize>) -> Reader {
        Reader {
            name: table.name.clone(),
            store: self.store.clone(),
            schema,
            wanted,
            table: None,
            chains: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }
}

struct Opened {
    schema: SchemaRef,
    /// Until it is handed on.
    reader: Option<Reader>,
}

impl Source for Opened {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok(self.reader.take().into_iter().map(|r| Box::new(r) as Box<dyn PartitionReader>).collect())
    }
}

struct Reader {
    name: String,
    store: Arc<dyn Store>,
    schema: SchemaRef,
    /// Columns of what is read, in the order of `schema`.
    wanted: Vec<usize>,
    table: Option<TableState>,
    /// Still to be read.
    chains: VecDeque<Chain>,
    /// Read and not yet handed on.
    ready: VecDeque<RecordBatch>,
}

impl PartitionReader for Reader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        loop {
            if let Some(rows) = self.ready.pop_front() {
                if rows.num_rows() > BATCH_ROWS {
                    self.ready.push_front(rows.slice(BATCH_ROWS, rows.num_rows() - BATCH_ROWS));
                }
                return self.hand_on(&rows.slice(0, rows.num_rows().min(BATCH_ROWS))).map(|r| Polled::Rows(r.into()));
            }
            match (self.chains.pop_front(), &self.table) {
                (Some(chain), Some(table)) => {
                    self.ready = millstream_runtime::checkpoint::rows(self.store.as_ref(), table, &chain)?.into();
                }
                _ => return Ok(Polled::End),
            }
        }
    }
}

impl Reader {
    fn hand_on(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let column = |(at, field): (&usize, &Arc<Field>)| cast(rows.column(*at), field.data_type());
        let columns = self.wanted.iter().zip(self.schema.fields()).map(column).collect::<Result<Vec<_>, _>>()?;
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?)
    }
}
