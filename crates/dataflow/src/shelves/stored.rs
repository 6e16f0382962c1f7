//! Rows of an operator's tables, in memory and below.

use super::Kind;
use super::pile::Order;
use crate::operator::Operator;
use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Error, Result};
use millstream_state::table::{Saver, TableDef};
use millstream_state::tier::{Packing, Places, RunId, RunWriter, Spill, block_schema, compact, read_block};
use std::sync::Arc;

/// A run in scratch space. It goes with the last one that reads it.
pub(super) struct File {
    space: Arc<dyn Spill>,
    run: RunId,
    places: Places,
}

impl File {
    pub fn read(&self, at: usize, schema: &SchemaRef) -> Result<Option<RecordBatch>> {
        read_block(self.space.as_ref(), self.run, &self.places, at, schema)
    }

    /// Bytes in memory.
    pub fn bytes(&self) -> usize {
        self.places.bytes() + size_of::<File>()
    }
}

impl Drop for File {
    fn drop(&mut self) {
        self.space.remove(self.run);
    }
}

/// Writes a run of blocks.
pub(super) struct FileWriter<'a> {
    space: &'a Arc<dyn Spill>,
    writer: RunWriter<'a>,
    blocks: usize,
}

impl<'a> FileWriter<'a> {
    pub fn new(space: &'a Arc<dyn Spill>) -> Result<FileWriter<'a>> {
        Ok(FileWriter { space, writer: RunWriter::new(space.as_ref(), Packing::Plain)?, blocks: 0 })
    }

    /// Adds a block; its place in the run.
    pub fn push(&mut self, rows: Option<&RecordBatch>) -> Result<usize> {
        match rows.map(compact).transpose()? {
            Some(rows) => self.writer.push(Some(&rows))?,
            None => self.writer.push(None)?,
        }
        self.blocks += 1;
        Ok(self.blocks - 1)
    }

    pub fn finish(self) -> Result<Arc<File>> {
        let (run, places) = self.writer.finish()?;
        Ok(Arc::new(File { space: self.space.clone(), run, places }))
    }
}

/// Rows of one table, as they are loaded, or changes of it.
#[derive(Clone)]
pub(super) struct Block {
    table: usize,
    version: u32,
    bytes: usize,
    rows: Rows,
}

#[derive(Clone)]
enum Rows {
    Held(RecordBatch),
    Below { file: Arc<File>, at: usize, schema: SchemaRef },
}

impl Block {
    pub fn held(table: usize, version: u32, rows: RecordBatch) -> Block {
        Block { table, version, bytes: bytes_of(&rows), rows: Rows::Held(rows) }
    }

    fn read(&self) -> Result<Option<RecordBatch>> {
        match &self.rows {
            Rows::Held(rows) => Ok(Some(rows.clone())),
            Rows::Below { file, at, schema } => file.read(*at, schema),
        }
    }
}

fn bytes_of(rows: &RecordBatch) -> usize {
    Batch::from(rows.clone()).bytes()
}

fn decodes_as(rows: &RecordBatch) -> SchemaRef {
    block_schema(rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect())
}

/// Writes blocks below, all into one run.
fn write(space: &Arc<dyn Spill>, blocks: Vec<Block>) -> Result<Vec<Block>> {
    if blocks.is_empty() {
        return Ok(blocks);
    }
    let mut writer = FileWriter::new(space)?;
    let mut places = Vec::with_capacity(blocks.len());
    for block in &blocks {
        let rows = block.read()?;
        let schema = rows.as_ref().map(decodes_as);
        places.push((writer.push(rows.as_ref())?, schema));
    }
    let file = writer.finish()?;
    let below = |(block, (at, schema)): (Block, (usize, Option<SchemaRef>))| {
        let rows = Rows::Below { file: file.clone(), at, schema: schema? };
        Some(Block { rows, ..block })
    };
    Ok(blocks.into_iter().zip(places).filter_map(below).collect())
}

/// What an operator remembers: rows that are alive, in the order in which they were put.
#[derive(Clone, Default)]
pub(super) struct Stock {
    blocks: Vec<Block>,
    bytes: usize,
}

impl Stock {
    /// All that an operator remembers, with the names that it has been saved under.
    pub fn of(operator: &mut dyn Operator, tables: &[TableDef]) -> Result<Stock> {
        Stock::saved(operator, Saver::moving(), tables)
    }

    pub fn saved(operator: &mut dyn Operator, mut saver: Saver, tables: &[TableDef]) -> Result<Stock> {
        operator.save(&mut saver)?;
        let mut stock = Stock::default();
        for block in changes_of(saver, tables)? {
            let Some(rows) = block.read()? else { continue };
            if rows.column(0).as_primitive::<arrow::datatypes::Int8Type>().values().iter().any(|change| *change != 0) {
                return Err(Error::internal("an operator that was asked for everything has taken something back"));
            }
            let columns: Vec<usize> = (1..rows.num_columns()).collect();
            stock.push(Block::held(block.table, block.version, rows.project(&columns)?));
        }
        Ok(stock)
    }

    pub fn push(&mut self, block: Block) {
        self.bytes += block.bytes;
        self.blocks.push(block);
    }

    /// Bytes of the rows, wherever they are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The same below.
    pub fn written(self, space: &Arc<dyn Spill>) -> Result<Stock> {
        Ok(Stock { blocks: write(space, self.blocks)?, bytes: self.bytes })
    }

    /// Hands all rows over, table by table, as a restore does.
    pub fn load_into(mut self, operator: &mut dyn Operator, tables: &[TableDef]) -> Result<()> {
        // Stable: the rows of a table stay in their order.
        self.blocks.sort_by_key(|block| block.table);
        for block in self.blocks {
            if let Some(rows) = block.read()? {
                operator.load(&tables[block.table].name, block.version, &rows)?;
            }
        }
        Ok(())
    }

    /// Divides the rows by shelf, below.
    pub fn divide(self, kind: &Kind, shelves: &mut [Stock]) -> Result<()> {
        if self.blocks.is_empty() {
            return Ok(());
        }
        let mut writer = FileWriter::new(kind.space()?)?;
        let mut places = Vec::new();
        for block in self.blocks {
            let Some(rows) = block.read()? else { continue };
            let columns: Vec<ArrayRef> =
                kind.tables[block.table].group_by.iter().map(|c| rows.column(*c).clone()).collect();
            let order = Order::new(&columns, rows.num_rows(), shelves.len())?;
            let sorted = take_record_batch(&rows, &order.rows)?;
            let schema = decodes_as(&sorted);
            for shelf in 0..shelves.len() {
                let (from, len) = order.of(shelf);
                if len > 0 {
                    let rows = sorted.slice(from, len);
                    places.push((
                        shelf,
                        block.table,
                        block.version,
                        bytes_of(&rows),
                        writer.push(Some(&rows))?,
                        schema.clone(),
                    ));
                }
            }
        }
        let file = writer.finish()?;
        for (shelf, table, version, bytes, at, schema) in places {
            let rows = Rows::Below { file: file.clone(), at, schema };
            shelves[shelf].push(Block { table, version, bytes, rows });
        }
        Ok(())
    }
}

/// What a saver has taken down, each with the table that it belongs to.
fn changes_of(saver: Saver, tables: &[TableDef]) -> Result<Vec<Block>> {
    let block = |piece: millstream_state::table::Piece| {
        let at = tables.iter().position(|t| t.name == piece.table.name);
        let at = at.ok_or_else(|| Error::internal(format!("`{}` is no declared table", piece.table.name)))?;
        Ok(Block::held(at, piece.table.version, piece.rows))
    };
    saver.into_pieces().into_iter().map(block).collect()
}

/// What an operator has changed since it was saved, below.
pub(super) fn write_changes(
    space: &Arc<dyn Spill>,
    operator: &mut dyn Operator,
    tables: &[TableDef],
) -> Result<Vec<Block>> {
    let mut saver = Saver::new(false);
    operator.save(&mut saver)?;
    write(space, changes_of(saver, tables)?)
}

/// Hands changes to a checkpoint, in their order; what lies below is read when it is written.
pub(super) fn push_changes(changes: Vec<Block>, tables: &[TableDef], saver: &mut Saver) -> Result<()> {
    for (at, table) in tables.iter().enumerate() {
        let of_table: Vec<Block> = changes.iter().filter(|b| b.table == at).cloned().collect();
        if of_table.is_empty() {
            continue;
        }
        let as_saved = table.piece_schema();
        saver.push_later(table, move || {
            let as_saved = as_saved.clone();
            let read = move |block: Block| {
                let rows = block.read().transpose()?;
                Some(rows.and_then(|rows| Ok(RecordBatch::try_new(as_saved.clone(), rows.columns().to_vec())?)))
            };
            Box::new(of_table.clone().into_iter().filter_map(read))
        })?;
    }
    Ok(())
}

/// Hands everything that a shelf has below to a checkpoint.
pub(super) fn push_rows(stock: &Stock, tables: &[TableDef], saver: &mut Saver) -> Result<()> {
    for (at, table) in tables.iter().enumerate() {
        let of_table: Vec<Block> = stock.blocks.iter().filter(|b| b.table == at).cloned().collect();
        if !of_table.is_empty() {
            saver.put_later(table, move || {
                let columns = |block: Block| block.read().transpose().map(|r| r.map(|rows| rows.columns().to_vec()));
                Box::new(of_table.clone().into_iter().filter_map(columns))
            })?;
        }
    }
    Ok(())
}
