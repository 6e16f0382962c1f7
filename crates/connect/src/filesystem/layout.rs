//! What the rows of a table of files are made of: the columns of the files, what the folders' names say, and what is known of a
//! file.

use super::list::{FileInfo, partition_value};
use crate::options::by_key;
use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMillisecondArray, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{Error, Place, Result, TableSpec};
use millstream_formats::changes::Beyond;
use millstream_formats::types::sql_type;
use std::sync::Arc;

/// What the rows are made of.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// Columns of the rows handed on.
    pub schema: SchemaRef,
    pub columns: Vec<Column>,
    /// The columns of the files, as declared: all but those of PARTITIONED BY.
    pub stored: SchemaRef,
    /// Those of them that are read.
    pub projection: Vec<usize>,
    /// What only formats of changes give.
    pub beyond: Beyond,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Column {
    /// The n-th column that the decoder gives.
    Stored(usize),
    /// From the names of the folders.
    Folder(String),
    Order,
    Path,
    Name,
    Size,
    Modified,
}

impl Layout {
    pub fn of(table: &TableSpec) -> Result<Layout> {
        let all = table.schema.fields();
        let from_folder = |name: &str| table.partitioned_by.iter().any(|p| p == name);
        let stored: Vec<_> = all.iter().filter(|f| !from_folder(f.name())).cloned().collect();
        let stored = Schema::new(stored);
        let wanted: Vec<usize> = table.projection.clone().unwrap_or_else(|| (0..all.len()).collect());
        let (mut fields, mut columns, mut projection) = (Vec::new(), Vec::new(), Vec::new());
        let by_key = by_key(table);
        for i in wanted {
            // By key, of a row that is gone its key alone is known.
            let field = &all[i];
            let loose = !by_key.is_empty() && !by_key.contains(field.name());
            columns.push(if from_folder(field.name()) {
                Column::Folder(field.name().clone())
            } else {
                projection.push(stored.index_of(field.name())?);
                Column::Stored(projection.len() - 1)
            });
            fields.push(field.as_ref().clone().with_nullable(field.is_nullable() || loose));
        }
        for (key, field) in &table.metadata {
            columns.push(match key.as_str() {
                ROW_ORDER => Column::Order,
                "file.path" => Column::Path,
                "file.name" => Column::Name,
                "file.size" => Column::Size,
                "file.modification-time" => Column::Modified,
                other => {
                    return Err(Error::sql(format!("files have no metadata '{other}'"))
                        .remedy("there are file.path, file.name, file.size and file.modification-time"));
                }
            });
            fields.push(field.clone());
        }
        // A row stays in its folder.
        let by_key = by_key.into_iter().filter(|name| !from_folder(name)).collect();
        let beyond = Beyond { by_key, ..Beyond::default() };
        Ok(Layout { schema: Arc::new(Schema::new(fields)), columns, stored: Arc::new(stored), projection, beyond })
    }

    /// The columns of the files that are read.
    pub fn read(&self) -> Result<SchemaRef> {
        Ok(Arc::new(self.stored.project(&self.projection)?))
    }
}

/// The value that a column has in all rows of a file, as a column of one row.
pub(super) fn constant(column: &Column, field: &Field, file: &FileInfo) -> Result<Option<ArrayRef>> {
    let value: ArrayRef = match column {
        Column::Stored(_) | Column::Order => return Ok(None),
        Column::Path => Arc::new(StringArray::from(vec![file.shown()])),
        Column::Name => {
            let name = file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Arc::new(StringArray::from(vec![name]))
        }
        Column::Size => Arc::new(Int64Array::from(vec![file.size.map(|s| s as i64)])),
        Column::Modified => Arc::new(TimestampMillisecondArray::from(vec![file.modified]).with_timezone("UTC")),
        Column::Folder(name) => {
            let logged = file.logged.as_ref().and_then(|l| l.partition.get(name).cloned());
            let value = logged.or_else(|| partition_value(&file.path, name)).ok_or_else(|| {
                Error::data(format!("no folder above the file gives the partition column `{name}`"))
                    .at(Place(file.shown()))
                    .remedy(format!(
                        "put the file into a folder named `{name}=…`, or leave `{name}` out of PARTITIONED BY"
                    ))
            })?;
            match value {
                None => new_null_array(field.data_type(), 1),
                Some(value) => folder_value(&value, field, file)?,
            }
        }
    };
    if value.is_null(0) && !field.is_nullable() {
        return Err(Error::data(format!("`{}` is NULL for this file and is declared NOT NULL", field.name()))
            .at(Place(file.shown()))
            .remedy("leave out NOT NULL in the declaration"));
    }
    if value.data_type() == field.data_type() {
        return Ok(Some(value));
    }
    cast_with_options(&value, field.data_type(), &CastOptions { safe: false, ..CastOptions::default() })
        .map(Some)
        .map_err(|_| {
            Error::sql(format!("the metadata column `{}` cannot be {}", field.name(), sql_type(field.data_type())))
                .remedy(format!("declare it as {}", sql_type(value.data_type())))
        })
}

/// Reads the value of a partition column as a CSV field would be read.
fn folder_value(value: &str, field: &Field, file: &FileInfo) -> Result<ArrayRef> {
    use millstream_formats::text::{parse_date, parse_timestamp};
    let wrong = || {
        Error::data(format!(
            "the {} says `{}` = `{value}`, the table declares {}",
            if file.logged.is_some() { "table's log" } else { "folder of the file" },
            field.name(),
            sql_type(field.data_type())
        ))
        .at(Place(file.shown()))
        .remedy(if file.logged.is_some() {
            "declare the column as the table has it, or as STRING"
        } else {
            "rename the folder, or declare the column as STRING"
        })
    };
    let text: ArrayRef = Arc::new(StringArray::from(vec![value]));
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    match field.data_type() {
        DataType::Utf8 => Ok(text),
        DataType::Date32 => {
            let days = parse_date(value.as_bytes()).ok_or_else(wrong)?;
            Ok(Arc::new(arrow::array::Date32Array::from(vec![days])))
        }
        DataType::Timestamp(unit, zone) => {
            let at = parse_timestamp(value.as_bytes(), TimeUnit::Nanosecond).ok_or_else(wrong)?;
            let at: ArrayRef =
                Arc::new(arrow::array::TimestampNanosecondArray::from(vec![at]).with_timezone_opt(zone.clone()));
            cast_with_options(&at, &DataType::Timestamp(*unit, zone.clone()), &strict).map_err(|_| wrong())
        }
        other => cast_with_options(&text, other, &strict).map_err(|_| wrong()),
    }
}
