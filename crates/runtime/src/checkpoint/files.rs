//! Files of a checkpoint: pieces of tables, outboxes, batches under way.

use arrow::array::{ArrayRef, Int8Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use millstream_checkpoint::manifest::FileRef;
use millstream_core::{Batch, Error, Place, Put, Result, Store};
use millstream_state::chain::Pieces;
use millstream_state::parquet;
use millstream_state::table::Changes;
use std::ops::Range;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// Column of a batch's change kinds and of its marks, in files that hold batches.
const KIND: &str = "$kind";
const MARK: &str = "$mark";

/// Writes rows into new files, none of which grows far beyond so many bytes. Without rows there is none.
pub struct Writer<'a> {
    store: &'a dyn Store,
    epoch: u64,
    /// Gives each file a path of its own.
    path: &'a mut dyn FnMut() -> String,
    encoder: parquet::Encoder,
    files: Vec<FileRef>,
}

impl<'a> Writer<'a> {
    pub fn new(
        store: &'a dyn Store,
        epoch: u64,
        encoder: parquet::Encoder,
        path: &'a mut dyn FnMut() -> String,
    ) -> Writer<'a> {
        Writer { store, epoch, path, encoder, files: Vec::new() }
    }

    pub fn push(&mut self, rows: &RecordBatch) -> Result<()> {
        let Writer { store, epoch, path, encoder, files } = self;
        encoder.push(rows, &mut |bytes, rows| put(*store, path(), *epoch, &bytes, rows).map(|file| files.push(file)))
    }

    pub fn finish(mut self) -> Result<Vec<FileRef>> {
        let Writer { store, epoch, path, encoder, files } = &mut self;
        encoder.finish(&mut |bytes, rows| put(*store, path(), *epoch, &bytes, rows).map(|file| files.push(file)))?;
        Ok(self.files)
    }
}

fn put(store: &dyn Store, path: String, epoch: u64, bytes: &[u8], rows: u64) -> Result<FileRef> {
    let hash = format!("{:016x}", xxh3_64(bytes));
    // A file of the same name can only be left over from a run that was replaced before its manifest.
    store.put(&path, bytes, Put::Replace)?;
    Ok(FileRef { path, epoch, rows, bytes: bytes.len() as u64, hash, whole: false })
}

/// Reads a file back and makes sure that it is what was written.
pub fn read(store: &dyn Store, file: &FileRef) -> Result<Vec<RecordBatch>> {
    parquet::decode(fetch(store, file)?).map_err(|e| e.at(place(store, file)))
}

/// The files of a chain.
pub struct Chain<'a> {
    pub store: &'a dyn Store,
    pub files: &'a [FileRef],
}

impl Pieces for Chain<'_> {
    fn pieces(&self) -> usize {
        self.files.len()
    }

    fn rows_of(&self, pieces: Range<usize>) -> u64 {
        self.files[pieces].iter().map(|f| f.rows).sum()
    }

    fn once(&self) -> usize {
        self.files.iter().take_while(|f| f.whole).count()
    }

    fn read(&self, piece: usize, columns: Option<&[&str]>) -> Result<Changes> {
        let file = &self.files[piece];
        let at = place(self.store, file);
        let rows = parquet::decode_each(fetch(self.store, file)?, columns).map_err(|e| e.at(at.clone()))?;
        Ok(Box::new(rows.map(move |rows| rows.map_err(|e| e.at(at.clone())))))
    }
}

fn place(store: &dyn Store, file: &FileRef) -> Place {
    Place(format!("{}/{}", store.name(), file.path))
}

fn fetch(store: &dyn Store, file: &FileRef) -> Result<Vec<u8>> {
    let place = || place(store, file);
    let remedy = "restore an older checkpoint with --restore-at, or bring the file back from a copy";
    let Some(bytes) = store.get(&file.path)? else {
        return Err(Error::data("a file of the checkpoint is missing").at(place()).remedy(remedy));
    };
    let hash = format!("{:016x}", xxh3_64(&bytes));
    if bytes.len() as u64 != file.bytes || hash != file.hash {
        let what = format!("a file of the checkpoint is damaged: {} bytes, {} expected", bytes.len(), file.bytes);
        return Err(Error::data(what).at(place()).remedy(remedy));
    }
    Ok(bytes)
}

/// A batch with its kinds and marks as columns, so that a file can hold it.
pub fn flatten(batch: &Batch) -> Result<RecordBatch> {
    let rows = batch.len();
    let kinds = batch.kinds.clone().unwrap_or_else(|| Int8Array::from_value(0, rows));
    let marks = match &batch.marks {
        Some(marks) => marks.clone(),
        None => Int64Array::new_null(rows),
    };
    let mut fields: Vec<_> = batch.rows.schema().fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(KIND, DataType::Int8, false)));
    fields.push(Arc::new(Field::new(MARK, DataType::Int64, true)));
    let mut columns: Vec<ArrayRef> = batch.rows.columns().to_vec();
    columns.push(Arc::new(kinds));
    columns.push(Arc::new(marks));
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}

/// The inverse of [`flatten`].
pub fn unflatten(flat: &RecordBatch) -> Result<Batch> {
    use arrow::array::{Array, AsArray};
    let width = flat.num_columns().saturating_sub(2);
    let damaged = || Error::data("a file of the checkpoint does not hold batches");
    let kinds = flat.column_by_name(KIND).and_then(|c| c.as_primitive_opt::<arrow::datatypes::Int8Type>());
    let marks = flat.column_by_name(MARK).and_then(|c| c.as_primitive_opt::<arrow::datatypes::Int64Type>());
    let (kinds, marks) = (kinds.ok_or_else(damaged)?, marks.ok_or_else(damaged)?);
    let rows = flat.project(&(0..width).collect::<Vec<_>>())?;
    Ok(Batch {
        rows,
        kinds: kinds.values().iter().any(|k| *k != 0).then(|| kinds.clone()),
        marks: (marks.null_count() == 0).then(|| marks.clone()),
    })
}
