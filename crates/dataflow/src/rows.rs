//! Small things that several operators do with rows: completing columns to a schema, showing a row to a person.

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, SchemaRef, TimeUnit};
use millstream_core::{Error, Result};
use millstream_state::table::TableDef;
use std::sync::Arc;

/// Columns under a schema. Where an expression has made another encoding of the declared type (a view of strings, say),
/// the column is cast; where it already fits, nothing is copied.
pub(crate) fn conform(schema: &SchemaRef, mut columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    if columns.len() != schema.fields().len() {
        let (have, want) = (columns.len(), schema.fields().len());
        return Err(Error::internal(format!("{have} columns came where {want} are declared")));
    }
    for (column, field) in columns.iter_mut().zip(schema.fields()) {
        if column.data_type() != field.data_type() {
            *column = arrow::compute::cast(column, field.data_type())?;
        }
        if !field.is_nullable() && column.null_count() > 0 {
            return Err(Error::data(format!("column `{}` is declared NOT NULL and holds NULL", field.name()))
                .remedy("declare the column without NOT NULL, or replace NULL with COALESCE"));
        }
    }
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema.clone(), columns, &options)?)
}

/// Rows by index, also of no columns.
pub(crate) fn take_rows(rows: &RecordBatch, indices: &UInt32Array) -> Result<RecordBatch> {
    if rows.num_columns() > 0 {
        return Ok(take_record_batch(rows, indices)?);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(indices.len()));
    Ok(RecordBatch::try_new_with_options(rows.schema(), Vec::new(), &options)?)
}

/// Fails unless the type is that of a time attribute.
pub(crate) fn time_column(of: &DataType, name: &str) -> Result<()> {
    match of {
        DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(()),
        other => Err(Error::internal(format!("the time attribute `{name}` has type {other}, not TIMESTAMP(3)"))),
    }
}

/// The columns of a table in the rows of a checkpoint, by their names.
pub(crate) fn saved_columns(table: &TableDef, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
    let column = |field: &Arc<Field>| {
        let column = rows.column_by_name(field.name()).ok_or_else(|| {
            Error::data(format!("the checkpoint's table `{}` has no column `{}`", table.name, field.name()))
                .remedy("restore with the query that the checkpoint was taken of, or start anew")
        })?;
        // What it was written to may know fewer types.
        match column.data_type() == field.data_type() {
            true => Ok(column.clone()),
            false => Ok(arrow::compute::cast(column, field.data_type())?),
        }
    };
    table.columns.fields().iter().map(column).collect()
}

/// One row as a JSON object, for a person to read.
pub(crate) fn row_as_json(rows: &RecordBatch, row: usize) -> Vec<u8> {
    let mut text = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::LineDelimited>(&mut text);
    let written = writer.write(&rows.slice(row, 1)).and_then(|()| writer.finish());
    drop(writer);
    match written {
        Ok(()) => text.trim_ascii_end().to_vec(),
        Err(e) => format!("(this row cannot be shown as JSON: {e})").into_bytes(),
    }
}
