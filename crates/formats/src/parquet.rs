//! Parquet files.
//!
//! Columns go by name, and so do the fields of a ROW; only those that are asked for are read. A file's types need not be the declared ones: what
//! the declared type can hold without loss is converted (INT to BIGINT, a shorter DECIMAL to a longer one, any
//! timestamp to the declared precision, cut off as in Flink); everything else is an error that names file, column and
//! both types, before a row is read.

use crate::options::{Compression, ParquetOptions};
use crate::types::sql_type;
use arrow::array::types::*;
use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Place, Result};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriter;
use parquet::basic::{Compression as Codec, ZstdLevel};
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::ChunkReader;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes of a row group that a writer holds in memory before it writes it out.
const ROW_GROUP_BYTES_MAX: usize = 64 << 20;

/// Reads one Parquet file.
pub struct ParquetReader {
    name: String,
    schema: SchemaRef,
    /// Where each column of `schema` stands in what is read; `None`: the file has none of it.
    positions: Vec<Option<usize>>,
    reader: ParquetRecordBatchReader,
    rows_read: u64,
    rows_total: u64,
}

impl ParquetReader {
    /// Opens a file whose messages call it `name`, to read the columns of `schema`, `rows_max` at a time, from row `from`
    /// on.
    pub fn open(
        file: impl ChunkReader + 'static,
        name: &str,
        schema: &SchemaRef,
        from: u64,
        rows_max: usize,
    ) -> Result<ParquetReader> {
        ParquetReader::open_with(file, name, schema, from, rows_max, Absent::Refused)
    }

    /// The same, and says what a column is that the file does not have.
    pub fn open_with(
        file: impl ChunkReader + 'static,
        name: &str,
        schema: &SchemaRef,
        from: u64,
        rows_max: usize,
        absent: Absent,
    ) -> Result<ParquetReader> {
        let builder = guarded(name, || ParquetRecordBatchReaderBuilder::try_new(file))?;
        let stored = builder.schema().clone();
        let mut roots = Vec::with_capacity(schema.fields().len());
        for field in schema.fields() {
            let Some((root, found)) = stored.fields().find(field.name()) else {
                if absent == Absent::Null {
                    roots.push(None);
                    continue;
                }
                let known: Vec<&str> = stored.fields().iter().map(|f| f.name().as_str()).collect();
                let help = match did_you_mean(field.name(), known.iter().copied()) {
                    Some(guess) => format!("did you mean `{guess}`?"),
                    None => format!("the file has the columns {}", known.join(", ")),
                };
                return Err(Error::data(format!("the file has no column `{}`", field.name()))
                    .at(Place(name.to_owned()))
                    .remedy(help));
            };
            if !holds(field.data_type(), found.data_type()) {
                return Err(Error::data(format!(
                    "column `{}` is {} in the file, the table declares {}",
                    field.name(),
                    sql_type(found.data_type()),
                    sql_type(field.data_type())
                ))
                .at(Place(name.to_owned()))
                .remedy(format!(
                    "declare `{}` as {} and CAST it in the query",
                    field.name(),
                    sql_type(&plain(found.data_type()))
                )));
            }
            roots.push(Some(root));
        }
        let rows_total = u64::try_from(builder.metadata().file_metadata().num_rows()).unwrap_or_default();
        let parquet = builder.parquet_schema();
        let leaves = (0..parquet.num_columns()).filter(|leaf| {
            let root = parquet.get_column_root_idx(*leaf);
            let within = parquet.column(*leaf).path().parts().get(1..).unwrap_or_default().to_vec();
            let readers = schema.fields().iter().zip(&roots).filter(|(_, r)| **r == Some(root));
            readers.into_iter().any(|(field, _)| is_read(field.data_type(), &within))
        });
        let mask = ProjectionMask::leaves(parquet, leaves);
        // What is read comes in the order of the file.
        let mut in_order: Vec<usize> = roots.iter().flatten().copied().collect();
        in_order.sort_unstable();
        in_order.dedup();
        let positions = roots.iter().map(|r| r.map(|r| in_order.partition_point(|x| *x < r))).collect();
        let skipped = usize::try_from(from).map_err(|_| Error::internal("a row number beyond the memory"))?;
        // Row groups that lie before it as a whole are not read at all.
        let builder = builder.with_projection(mask).with_batch_size(rows_max).with_offset(skipped);
        let reader = guarded(name, || builder.build())?;
        Ok(ParquetReader {
            name: name.to_owned(),
            schema: schema.clone(),
            positions,
            reader,
            rows_read: from,
            rows_total,
        })
    }

    /// Rows of the file before the next one.
    pub fn rows_read(&self) -> u64 {
        self.rows_read
    }

    /// Rows of the whole file.
    pub fn rows_total(&self) -> u64 {
        self.rows_total
    }

    /// The next rows, or `None` at the end.
    pub fn next_rows(&mut self) -> Result<Option<RecordBatch>> {
        let reader = &mut self.reader;
        let Some(rows) =
            guarded(&self.name, || reader.next().transpose().map_err(parquet::errors::ParquetError::from))?
        else {
            return Ok(None);
        };
        let mut columns = Vec::with_capacity(self.positions.len());
        for (field, &at) in self.schema.fields().iter().zip(&self.positions) {
            let stored = match at {
                Some(at) => rows.column(at),
                None => &new_null_array(field.data_type(), rows.num_rows()),
            };
            let column = convert(stored, field.data_type()).map_err(|e| {
                Error::data(format!(
                    "column `{}` cannot be read as {}: {}",
                    field.name(),
                    sql_type(field.data_type()),
                    e.what()
                ))
                .at(Place(self.name.clone()))
            })?;
            if !field.is_nullable()
                && let Some(row) = (0..column.len()).find(|&r| column.null_count() > 0 && column.is_null(r))
            {
                return Err(Error::data(format!(
                    "column `{}` is NULL, the table declares {} NOT NULL",
                    field.name(),
                    sql_type(field.data_type())
                ))
                .at(Place::line(&self.name, self.rows_read + row as u64 + 1))
                .remedy("leave out NOT NULL in the declaration and filter the rows in the query"));
            }
            columns.push(column);
        }
        self.rows_read += rows.num_rows() as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

/// What a column is that a file does not have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// A mistake of the declaration.
    Refused,
    /// NULL in every row: the table has got the column after the file was written, and says so elsewhere.
    Null,
}

/// All rows of a file, as they are stored, of those leaves whose path is `wanted`: for files of a known structure that are
/// no tables of users.
pub fn each_batch(
    file: impl ChunkReader + 'static,
    name: &str,
    wanted: impl Fn(&[String]) -> bool,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<()> {
    let builder = guarded(name, || ParquetRecordBatchReaderBuilder::try_new(file))?;
    let parquet = builder.parquet_schema();
    let leaves = (0..parquet.num_columns()).filter(|leaf| wanted(parquet.column(*leaf).path().parts()));
    let mask = ProjectionMask::leaves(parquet, leaves);
    let mut reader = guarded(name, || builder.with_projection(mask).build())?;
    while let Some(rows) = guarded(name, || reader.next().transpose().map_err(parquet::errors::ParquetError::from))? {
        each(rows)?;
    }
    Ok(())
}

/// Runs a step of the Parquet library. On some damaged files it panics; for us that is one more damaged file.
fn guarded<T>(name: &str, step: impl FnOnce() -> Result<T, parquet::errors::ParquetError>) -> Result<T> {
    let why = match catch_unwind(AssertUnwindSafe(step)) {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(e)) => e.to_string(),
        Err(_) => "its structure is damaged".to_owned(),
    };
    Err(Error::data(format!("the file cannot be read as Parquet: {why}"))
        .at(Place(name.to_owned()))
        .remedy("check that the file is complete and that 'format' is right"))
}

/// Whether every value of `stored` fits into `declared`.
pub fn holds(declared: &DataType, stored: &DataType) -> bool {
    use DataType::*;
    // Digits before the point of the largest value of a type of whole numbers.
    let whole_digits = |of: &DataType| match of {
        Int8 | UInt8 => Some(3),
        Int16 | UInt16 => Some(5),
        Int32 | UInt32 => Some(10),
        Int64 => Some(19),
        UInt64 => Some(20),
        _ => None,
    };
    match (declared, stored) {
        (a, b) if a == b => true,
        (declared, Dictionary(_, value)) => holds(declared, value),
        (Int16, Int8 | UInt8) | (Int32, Int8 | Int16 | UInt8 | UInt16) => true,
        (Int64, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32) => true,
        (Float32, Int8 | Int16 | UInt8 | UInt16 | Float16) => true,
        (Float64, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32 | Float16 | Float32) => true,
        (Decimal128(p, s), Decimal32(p2, s2) | Decimal64(p2, s2) | Decimal128(p2, s2)) => {
            s >= s2 && i16::from(*p) - i16::from(*s) >= i16::from(*p2) - i16::from(*s2)
        }
        (Decimal128(p, s), whole) => whole_digits(whole).is_some_and(|digits| i16::from(*p) - i16::from(*s) >= digits),
        (Timestamp(..), Timestamp(..) | Date32) => true,
        (Time32(TimeUnit::Millisecond), Time32(_) | Time64(_)) => true,
        (Date32, Date64) => true,
        // A binary column may well hold text; whether it does shows at each value.
        (Utf8, LargeUtf8 | Utf8View | Binary | LargeBinary | BinaryView) => true,
        (Binary, LargeBinary | BinaryView | FixedSizeBinary(_) | Utf8 | LargeUtf8 | Utf8View) => true,
        (List(a), List(b) | LargeList(b) | FixedSizeList(b, _)) => holds(a.data_type(), b.data_type()),
        (Map(a, _), Map(b, _)) => match (a.data_type(), b.data_type()) {
            (Struct(a), Struct(b)) if a.len() == 2 && b.len() == 2 => {
                a.iter().zip(b).all(|(a, b)| holds(a.data_type(), b.data_type()))
            }
            _ => false,
        },
        (Struct(a), Struct(b)) => {
            a.iter().all(|a| b.find(a.name()).is_some_and(|(_, b)| holds(a.data_type(), b.data_type())))
        }
        _ => false,
    }
}

/// Whether a leaf is part of a column that is declared as this type: of a ROW, only the fields that are declared are read.
/// `path`: of the leaf, from the column on.
fn is_read(declared: &DataType, path: &[String]) -> bool {
    match (declared, path) {
        (DataType::Struct(fields), [name, path @ ..]) => {
            fields.find(name).is_some_and(|(_, f)| is_read(f.data_type(), path))
        }
        _ => true,
    }
}

/// The type that SQL can declare for what is stored.
pub fn plain(stored: &DataType) -> DataType {
    match stored {
        DataType::Dictionary(_, value) => plain(value),
        DataType::UInt8 => DataType::Int16,
        DataType::UInt16 => DataType::Int32,
        DataType::UInt32 => DataType::Int64,
        DataType::UInt64 => DataType::Decimal128(20, 0),
        DataType::LargeUtf8 | DataType::Utf8View => DataType::Utf8,
        DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => DataType::Binary,
        other => other.clone(),
    }
}

fn convert(column: &ArrayRef, to: &DataType) -> Result<ArrayRef> {
    match (column.data_type(), to) {
        (from, to) if from == to => Ok(column.clone()),
        (DataType::Timestamp(from, _), DataType::Timestamp(unit, zone)) => {
            // By hand: Arrow's cast turns times with a zone into that zone's wall clock, and cuts times before 1970
            // off upwards.
            let values: PrimitiveArray<Int64Type> = match from {
                TimeUnit::Second => column.as_primitive::<TimestampSecondType>().reinterpret_cast(),
                TimeUnit::Millisecond => column.as_primitive::<TimestampMillisecondType>().reinterpret_cast(),
                TimeUnit::Microsecond => column.as_primitive::<TimestampMicrosecondType>().reinterpret_cast(),
                TimeUnit::Nanosecond => column.as_primitive::<TimestampNanosecondType>().reinterpret_cast(),
            };
            let per_second = |unit: &TimeUnit| match unit {
                TimeUnit::Second => 1i64,
                TimeUnit::Millisecond => 1_000,
                TimeUnit::Microsecond => 1_000_000,
                TimeUnit::Nanosecond => 1_000_000_000,
            };
            let (a, b) = (per_second(from), per_second(unit));
            let values: PrimitiveArray<Int64Type> = if a >= b {
                values.unary(|v| v.div_euclid(a / b))
            } else {
                values.try_unary(|v| {
                    v.checked_mul(b / a).ok_or_else(|| {
                        arrow::error::ArrowError::ComputeError(format!("the time {v} {from:?}s is out of range"))
                    })
                })?
            };
            let zone = zone.clone();
            Ok(match unit {
                TimeUnit::Second => {
                    std::sync::Arc::new(values.reinterpret_cast::<TimestampSecondType>().with_timezone_opt(zone))
                        as ArrayRef
                }
                TimeUnit::Millisecond => {
                    std::sync::Arc::new(values.reinterpret_cast::<TimestampMillisecondType>().with_timezone_opt(zone))
                }
                TimeUnit::Microsecond => {
                    std::sync::Arc::new(values.reinterpret_cast::<TimestampMicrosecondType>().with_timezone_opt(zone))
                }
                TimeUnit::Nanosecond => {
                    std::sync::Arc::new(values.reinterpret_cast::<TimestampNanosecondType>().with_timezone_opt(zone))
                }
            })
        }
        _ => Ok(cast_with_options(column, to, &CastOptions { safe: false, ..CastOptions::default() })?),
    }
}

/// Writes one Parquet file.
pub struct ParquetWriter<W: Write + Send> {
    writer: ArrowWriter<W>,
}

impl<W: Write + Send> ParquetWriter<W> {
    pub fn new(out: W, schema: SchemaRef, options: &ParquetOptions) -> Result<ParquetWriter<W>> {
        let codec = match options.compression {
            Compression::None => Codec::UNCOMPRESSED,
            Compression::Snappy => Codec::SNAPPY,
            Compression::Zstd => Codec::ZSTD(ZstdLevel::default()),
        };
        let properties =
            WriterProperties::builder().set_compression(codec).set_created_by("millstream".to_owned()).build();
        Ok(ParquetWriter { writer: ArrowWriter::try_new(out, schema, Some(properties)).map_err(failed)? })
    }

    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.writer.write(rows).map_err(failed)?;
        if self.writer.in_progress_size() > ROW_GROUP_BYTES_MAX {
            self.writer.flush().map_err(failed)?;
        }
        Ok(())
    }

    /// Bytes of memory that the rows not yet written take.
    pub fn held_bytes(&self) -> usize {
        self.writer.memory_size()
    }

    /// Writes the rows held back, as a row group of their own.
    pub fn flush(&mut self) -> Result<()> {
        self.writer.flush().map_err(failed)
    }

    /// Bytes written and held back.
    pub fn bytes(&self) -> usize {
        self.writer.bytes_written() + self.writer.in_progress_size()
    }

    /// Where the file goes.
    pub fn out(&self) -> &W {
        self.writer.inner()
    }

    /// Writes the end of the file, and gives what it says there of its row groups.
    pub fn finish_with_footer(mut self) -> Result<(W, Vec<RowGroupMetaData>)> {
        self.flush()?;
        let footer = self.writer.flushed_row_groups().to_vec();
        Ok((self.finish()?, footer))
    }

    /// Writes the end of the file.
    pub fn finish(self) -> Result<W> {
        self.writer.into_inner().map_err(failed)
    }
}

fn failed(e: parquet::errors::ParquetError) -> Error {
    // What the writer behind has to say about it is better than how the library tells it.
    if let parquet::errors::ParquetError::External(cause) = &e
        && let Some(io) = cause.downcast_ref::<std::io::Error>()
        && let Some(error) = io.get_ref().and_then(|inner| inner.downcast_ref::<Error>())
    {
        return error.clone();
    }
    Error::io(e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::*;
    use arrow::datatypes::{Field, Schema};
    use parquet::file::reader::{FileReader, SerializedFileReader};
    use proptest::prelude::*;
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;

    fn file_of(rows: &RecordBatch, compression: Compression) -> std::fs::File {
        let file = tempfile::tempfile().expect("a temporary file");
        let copy = file.try_clone().expect("a second handle");
        let mut writer =
            ParquetWriter::new(copy, rows.schema(), &ParquetOptions { compression }).expect("types are known");
        writer.write(rows).expect("written");
        writer.finish().expect("finished");
        file
    }

    fn read(file: std::fs::File, schema: &SchemaRef) -> Result<Vec<RecordBatch>> {
        let mut reader = ParquetReader::open(file, "in.parquet", schema, 0, 5)?;
        let mut all = Vec::new();
        while let Some(rows) = reader.next_rows()? {
            all.push(rows);
        }
        Ok(all)
    }

    fn one(name: &str, array: ArrayRef) -> RecordBatch {
        RecordBatch::try_from_iter([(name, array)]).expect("one column")
    }

    fn declared(name: &str, of: DataType) -> SchemaRef {
        Arc::new(Schema::new(vec![Field::new(name, of, true)]))
    }

    #[test]
    fn what_fits_without_loss_is_converted() {
        let file = file_of(&one("a", Arc::new(Int32Array::from(vec![1, -2]))), Compression::Zstd);
        let rows = read(file, &declared("a", DataType::Int64)).expect("INT fits BIGINT");
        assert_eq!(rows[0].column(0).as_primitive::<Int64Type>().values(), &[1, -2]);

        let micros = TimestampMicrosecondArray::from(vec![1_500, -1]).with_timezone("America/New_York");
        let file = file_of(&one("a", Arc::new(micros)), Compression::Snappy);
        let rows =
            read(file, &declared("a", DataType::Timestamp(TimeUnit::Millisecond, None))).expect("a time is a time");
        assert_eq!(rows[0].column(0).as_primitive::<TimestampMillisecondType>().values(), &[1, -1]);
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_file_column_and_types() {
        let rows = one("price", Arc::new(Int64Array::from(vec![1])));
        let e = read(file_of(&rows, Compression::None), &declared("price", DataType::Int32)).expect_err("too wide");
        assert_eq!(
            e.to_string(),
            "column `price` is BIGINT in the file, the table declares INT\n  at in.parquet\n  \
             help: declare `price` as BIGINT and CAST it in the query"
        );
        let e =
            read(file_of(&rows, Compression::None), &declared("prise", DataType::Int64)).expect_err("no such column");
        assert_eq!(e.help(), Some("did you mean `price`?"));
    }

    #[test]
    fn of_a_row_only_the_fields_that_are_declared_are_read() {
        let row = |fields: Vec<(&str, ArrayRef)>| {
            let fields =
                fields.into_iter().map(|(name, a)| (Arc::new(Field::new(name, a.data_type().clone(), true)), a));
            Arc::new(StructArray::from(fields.collect::<Vec<_>>())) as ArrayRef
        };
        let ints = |values: [i32; 3]| Arc::new(Int32Array::from(values.to_vec())) as ArrayRef;
        let long = Arc::new(StringArray::from_iter_values((0..3).map(|i| i.to_string().repeat(100_000)))) as ArrayRef;
        let inner = row(vec![("x", ints([1, 2, 3])), ("long", long.clone())]);
        let whole = one("r", row(vec![("a", ints([4, 5, 6])), ("long", long), ("c", inner), ("b", ints([7, 8, 9]))]));
        let field = |name: &str, of: DataType| Field::new(name, of, true);
        let file = file_of(&whole, Compression::None);
        // What lies in the file of the other fields would be an error to whoever reads it.
        let parquet = SerializedFileReader::new(file.try_clone().expect("a second handle")).expect("a Parquet file");
        for column in parquet.metadata().row_group(0).columns() {
            if column.column_path().string().contains("long") {
                let (from, bytes) = column.byte_range();
                file.write_all_at(&vec![0xff; bytes as usize], from).expect("overwritten");
            }
        }
        // In another order, and one of them wider than it is stored.
        let c = DataType::Struct(vec![field("x", DataType::Int64)].into());
        let of = DataType::Struct(vec![field("b", DataType::Int32), field("c", c)].into());
        let read = read(file, &declared("r", of)).expect("it is read");
        let r = read[0].column(0).as_struct();
        assert_eq!(r.column(0).as_primitive::<Int32Type>().values().to_vec(), [7, 8, 9]);
        assert_eq!(r.column(1).as_struct().column(0).as_primitive::<Int64Type>().values().to_vec(), [1, 2, 3]);
        assert_eq!((r.num_columns(), r.column(1).as_struct().num_columns()), (2, 1));
    }

    #[test]
    fn no_column_asked_for_still_counts_rows() {
        let file = file_of(&one("a", Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5, 6, 7]))), Compression::Snappy);
        let rows = read(file, &Arc::new(Schema::empty())).expect("nothing is asked for");
        assert_eq!(rows.iter().map(RecordBatch::num_rows).sum::<usize>(), 7);
    }

    #[test]
    fn a_damaged_file_is_an_error_and_no_panic() {
        use std::io::{Read, Seek, SeekFrom};
        let rows = one("i", Arc::new(Int32Array::from_iter_values(0..500)));
        let mut good = Vec::new();
        let mut file = file_of(&rows, Compression::Snappy);
        file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_end(&mut good)).expect("read back");
        std::panic::set_hook(Box::new(|_| {}));
        for at in (0..good.len()).step_by(3) {
            let mut bytes = good.clone();
            bytes[at] ^= 0xff;
            let mut file = tempfile::tempfile().expect("a temporary file");
            file.write_all(&bytes).expect("written");
            crate::fuzz::parquet(file);
        }
        let _ = std::panic::take_hook();
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]
        #[test]
        fn what_is_written_reads_back(rows in crate::csv::tests_rows()) {
            let back = read(file_of(&rows, Compression::Zstd), &rows.schema()).expect("read back");
            let back = arrow::compute::concat_batches(&rows.schema(), &back).expect("one schema");
            prop_assert_eq!(back, rows);
        }

        #[test]
        fn columns_are_read_in_the_order_asked_for(rows in crate::csv::tests_rows()) {
            let wanted = Arc::new(rows.schema().project(&[4, 0, 1]).expect("columns"));
            let back = read(file_of(&rows, Compression::Snappy), &wanted).expect("read back");
            let back = arrow::compute::concat_batches(&wanted, &back).expect("one schema");
            prop_assert_eq!(back, rows.project(&[4, 0, 1]).expect("columns"));
        }
    }
}
