//! Reads all files of a table as one partition.

use super::list::{FileInfo, files, local_path, partition_value};
use super::read::{Ahead, Next, Piece, Plan};
use super::{MONITOR_INTERVAL, PATH, cannot, format_options};
use crate::options::{BAD_ROWS, duration, required};
use arrow::array::{
    Array, ArrayRef, Int64Array, RecordBatch, RecordBatchOptions, StringArray, TimestampMillisecondArray, UInt32Array,
    new_null_array,
};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{BadRow, Error, PartitionReader, Place, Polled, Result, Source, SourceRows, TableSpec};
use millstream_formats::parquet::ParquetReader;
use millstream_formats::types::sql_type;
use millstream_formats::{Decoder, Format, FormatOptions, OnBadRow, decoder};
use std::fs::File;
use std::sync::Arc;
use std::time::Duration;

const ROWS_MAX: usize = 8192;

/// Blocks that have arrived are decoded together up to this many bytes, so that under load batches are full.
const GATHER_BYTES_MAX: usize = 1 << 20;

/// Endings of packed files that would only be seen as millions of bad rows.
const FOREIGN: [&str; 8] = ["7z", "br", "bz2", "lz4", "snappy", "sz", "xz", "zip"];

/// How long `poll` waits for the reading thread before it says that nothing is there.
const PATIENCE: Duration = Duration::from_micros(200);

pub(super) struct FileSource {
    table: TableSpec,
    options: FormatOptions,
    layout: Layout,
    plan: Plan,
}

/// What the rows are made of.
#[derive(Debug, Clone)]
struct Layout {
    /// Columns of the rows handed on.
    schema: SchemaRef,
    columns: Vec<Column>,
    /// The columns of the files, as declared: all but those of PARTITIONED BY.
    stored: SchemaRef,
    /// Those of them that are read.
    projection: Vec<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Column {
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
    fn of(table: &TableSpec) -> Result<Layout> {
        let all = table.schema.fields();
        let from_folder = |name: &str| table.partitioned_by.iter().any(|p| p == name);
        let stored: Vec<_> = all.iter().filter(|f| !from_folder(f.name())).cloned().collect();
        let stored = Schema::new(stored);
        let wanted: Vec<usize> = table.projection.clone().unwrap_or_else(|| (0..all.len()).collect());
        let (mut fields, mut columns, mut projection) = (Vec::new(), Vec::new(), Vec::new());
        for i in wanted {
            let field = &all[i];
            columns.push(if from_folder(field.name()) {
                Column::Folder(field.name().clone())
            } else {
                projection.push(stored.index_of(field.name())?);
                Column::Stored(projection.len() - 1)
            });
            fields.push(field.as_ref().clone());
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
        Ok(Layout { schema: Arc::new(Schema::new(fields)), columns, stored: Arc::new(stored), projection })
    }
}

impl FileSource {
    pub fn open(table: &TableSpec) -> Result<FileSource> {
        let options = format_options(table)?;
        let path = required(table, PATH, "data/orders")?;
        let interval = duration(table, MONITOR_INTERVAL)?;
        let first = if path == "-" { Vec::new() } else { files(path)? };
        if first.is_empty() && interval.is_none() && path != "-" {
            return Err(Error::io(format!("'path' = '{path}' names no file")).remedy(format!(
                "files whose names begin with . or _ and those that end with .tmp or .inprogress do not count; to wait \
                 for files that are still to come, set '{MONITOR_INTERVAL}' = '1 s'"
            )));
        }
        let plan = Plan { path: path.to_owned(), interval, contents: options.format() != Format::Parquet, first };
        Ok(FileSource { table: table.clone(), layout: Layout::of(table)?, options, plan })
    }
}

impl Source for FileSource {
    fn schema(&self) -> SchemaRef {
        self.layout.schema.clone()
    }

    fn bounded(&self) -> bool {
        self.plan.interval.is_none()
    }

    fn partitions(&mut self, _parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let on_bad_row = match self.table.option(BAD_ROWS) {
            Some(_) => OnBadRow::SetAside,
            None if self.options.ignore_parse_errors() => OnBadRow::Skip,
            None => OnBadRow::Fail,
        };
        let contents = match &self.options {
            FormatOptions::Parquet(_) => Contents::Parquet {
                schema: Arc::new(self.layout.stored.project(&self.layout.projection)?),
                reader: None,
            },
            text => Contents::Text(Text {
                decoder: decoder(text, &self.layout.stored, &self.layout.projection, on_bad_row)?,
                bytes: Vec::new(),
                from: 0,
                wanted: 0,
                last: false,
            }),
        };
        Ok(vec![Box::new(FileReader {
            name: local_path(&self.plan.path).to_owned(),
            layout: self.layout.clone(),
            ahead: Ahead::start(self.plan.clone())?,
            contents,
            file: None,
            order: 0,
            skipped: 0,
            over: false,
        })])
    }
}

struct FileReader {
    name: String,
    layout: Layout,
    ahead: Ahead,
    contents: Contents,
    file: Option<OpenFile>,
    /// Rows handed on so far, through all files.
    order: i64,
    skipped: u64,
    /// There are no more files.
    over: bool,
}

enum Contents {
    Text(Text),
    Parquet { schema: SchemaRef, reader: Option<ParquetReader> },
}

/// Bytes that have arrived and are not decoded yet.
struct Text {
    decoder: Box<dyn Decoder>,
    bytes: Vec<u8>,
    /// Where in `bytes` what is not decoded begins.
    from: usize,
    /// The decoder needs at least so many bytes before it is asked again.
    wanted: usize,
    /// The file has no more.
    last: bool,
}

/// What is the same for all rows of a file.
struct OpenFile {
    /// One-row columns, for those of the layout that come from the file as a whole.
    constants: Vec<Option<ArrayRef>>,
}

/// What is to be done next.
enum Step {
    Emit(SourceRows),
    Again,
    NeedMore,
}

impl FileReader {
    fn begin(&mut self, file: FileInfo) -> Result<()> {
        let mut constants = Vec::with_capacity(self.layout.columns.len());
        for (column, field) in self.layout.columns.iter().zip(self.layout.schema.fields()) {
            constants.push(constant(column, field, &file)?);
        }
        self.file = Some(OpenFile { constants });
        match &mut self.contents {
            Contents::Text(text) => {
                let ending = file.path.extension().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
                if FOREIGN.contains(&ending.as_str()) {
                    return Err(Error::data(format!("files packed as .{ending} cannot be read"))
                        .at(Place(file.shown()))
                        .remedy("unpack the file, or pack it with gzip or zstd"));
                }
                text.decoder.start(&file.shown());
                text.bytes.clear();
                text.from = 0;
                text.wanted = 1;
                text.last = false;
            }
            Contents::Parquet { schema, reader } => {
                let shown = file.shown();
                let open = File::open(&file.path).map_err(|e| cannot("read", &shown, &e))?;
                *reader = Some(ParquetReader::open(open, &shown, schema, ROWS_MAX)?);
            }
        }
        Ok(())
    }

    /// Works on what has arrived.
    fn step(&mut self) -> Result<Step> {
        match &mut self.contents {
            Contents::Parquet { reader: None, .. } => Ok(Step::NeedMore),
            Contents::Parquet { reader: Some(open), .. } => match open.next_rows()? {
                Some(rows) => {
                    let bytes = rows.get_array_memory_size() as u64;
                    self.emit(rows, Vec::new(), bytes)
                }
                None => {
                    self.contents.end();
                    self.file = None;
                    Ok(Step::Again)
                }
            },
            Contents::Text(text) => {
                let left = text.bytes.len() - text.from;
                if self.file.is_none() || (left < text.wanted && !text.last) {
                    return Ok(Step::NeedMore);
                }
                if left == 0 && text.last {
                    self.file = None;
                    return Ok(Step::Again);
                }
                let decoded = text.decoder.decode(&text.bytes[text.from..], text.last, ROWS_MAX)?;
                text.from += decoded.consumed;
                self.skipped += decoded.skipped;
                if decoded.consumed == 0 {
                    if text.last {
                        return Err(Error::internal("the decoder leaves bytes at the end of a file"));
                    }
                    // Twice as many before the next try: a long record must not be looked at again for every block.
                    text.wanted = if left < GATHER_BYTES_MAX { left + 1 } else { left * 2 };
                    return Ok(Step::NeedMore);
                }
                text.wanted = 1;
                if decoded.rows.num_rows() == 0 && decoded.bad.is_empty() {
                    return Ok(Step::Again);
                }
                self.emit(decoded.rows, decoded.bad, decoded.consumed as u64)
            }
        }
    }

    /// Completes rows with what comes from elsewhere than the file's contents.
    fn emit(&mut self, stored: RecordBatch, bad: Vec<BadRow>, bytes: u64) -> Result<Step> {
        let count = stored.num_rows();
        let Some(file) = &self.file else { return Err(Error::internal("rows without a file")) };
        let mut columns: Vec<ArrayRef> = Vec::with_capacity(self.layout.columns.len());
        let mut zeros: Option<UInt32Array> = None;
        for (column, constant) in self.layout.columns.iter().zip(&file.constants) {
            columns.push(match (column, constant) {
                (Column::Stored(n), _) => stored.column(*n).clone(),
                (Column::Order, _) => Arc::new(Int64Array::from_iter_values(self.order..self.order + count as i64)),
                (_, Some(constant)) => {
                    take(constant, zeros.get_or_insert_with(|| UInt32Array::from(vec![0; count])), None)?
                }
                (_, None) => return Err(Error::internal("a column without a value")),
            });
        }
        self.order += count as i64;
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let rows = RecordBatch::try_new_with_options(self.layout.schema.clone(), columns, &options)?;
        Ok(Step::Emit(SourceRows { rows, bad, bytes }))
    }

    /// Takes in a piece.
    fn take(&mut self, piece: Piece) -> Result<()> {
        match piece {
            Piece::Begin(file) => self.begin(file),
            Piece::Failed(e) => Err(e),
            Piece::Over => Err(Error::internal("the end of all files inside of one")),
            Piece::Bytes(bytes) => {
                if let Contents::Text(text) = &mut self.contents {
                    text.add(bytes);
                }
                Ok(())
            }
            Piece::End => {
                if let Contents::Text(text) = &mut self.contents {
                    text.last = true;
                }
                Ok(())
            }
        }
    }

    /// Whether the next piece may be asked for before what is there has been worked off.
    fn gathers(&self) -> bool {
        match &self.contents {
            Contents::Text(text) => {
                self.file.is_some() && !text.last && text.bytes.len() - text.from < GATHER_BYTES_MAX.max(text.wanted)
            }
            Contents::Parquet { .. } => false,
        }
    }
}

impl Contents {
    fn end(&mut self) {
        if let Contents::Parquet { reader, .. } = self {
            *reader = None;
        }
    }
}

impl Text {
    fn add(&mut self, block: Vec<u8>) {
        if self.from == self.bytes.len() {
            self.bytes = block;
        } else {
            self.bytes.drain(..self.from);
            self.bytes.extend_from_slice(&block);
        }
        self.from = 0;
    }
}

impl PartitionReader for FileReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        loop {
            // What has arrived meanwhile goes together with what is left, so that under load batches are full.
            while self.gathers() {
                match self.ahead.next(Duration::ZERO) {
                    Next::Piece(piece) => self.take(piece)?,
                    Next::Nothing => break,
                    Next::Over => return Err(Error::internal("a file without an end")),
                }
            }
            match self.step()? {
                Step::Emit(rows) => return Ok(Polled::Rows(rows)),
                Step::Again => continue,
                Step::NeedMore if self.over => return Ok(Polled::End),
                Step::NeedMore => {}
            }
            match self.ahead.next(PATIENCE) {
                Next::Piece(piece) => self.take(piece)?,
                Next::Nothing => return Ok(Polled::Pending),
                Next::Over => self.over = true,
            }
        }
    }

    fn skipped(&self) -> u64 {
        self.skipped
    }
}

/// The value that a column has in all rows of a file, as a column of one row.
fn constant(column: &Column, field: &Field, file: &FileInfo) -> Result<Option<ArrayRef>> {
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
            let value = partition_value(&file.path, name).ok_or_else(|| {
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
            "the folder of the file says `{}` = `{value}`, the table declares {}",
            field.name(),
            sql_type(field.data_type())
        ))
        .at(Place(file.shown()))
        .remedy("rename the folder, or declare the column as STRING")
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
