//! From what has been found in the records to columns.

use super::ChangeOptions;
use super::beside::Beside;
use super::kept::Kept;
use super::scan::{Row, Scan, Scanner};
use crate::bad::{Fault, settle};
use crate::json::JsonDecoder;
use crate::lines::{Cut, Lines, too_long};
use crate::options::JsonOptions;
use crate::records::{Changes, RECORDS_MAX, RecordDecoder, Records};
use crate::registry::Schemas;
use crate::{Decoded, Decoder, Mark, OnBadRow, RECORD_BYTES_MAX};
use arrow::array::{ArrayRef, Int8Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::Result;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// What a decoder of changes gives beyond the columns of the rows; and what only some decoders need.
#[derive(Debug, Clone, Default)]
pub struct Beyond {
    /// What a record says beside its rows ([`ChangeFormat::metadata`](super::ChangeFormat::metadata)), by key, and the columns
    /// that it becomes. They come behind those of the rows.
    pub metadata: Vec<(String, Field)>,
    /// The columns of the primary key, where rows are remembered by it: see the module. All of them are read.
    pub by_key: Vec<String>,
    /// Who knows the schemas that records name by a number (`avro-confluent`).
    pub schemas: Option<Arc<dyn Schemas>>,
}

/// Reads records, or lines, of changes.
pub struct ChangesDecoder {
    options: ChangeOptions,
    /// What is handed on.
    schema: SchemaRef,
    kept: Kept,
    scanner: Scanner,
    scan: Scan,
    columns: JsonDecoder,
    beside: Option<Beside>,
    on_bad_row: OnBadRow,
    file: String,
    lines: Lines,
}

/// What became of some records.
struct Read {
    rows: RecordBatch,
    kinds: Int8Array,
    /// The record of each row.
    of: Vec<u32>,
    /// By record.
    faults: BTreeMap<u32, String>,
    skipped: u64,
}

impl ChangesDecoder {
    pub fn new(
        options: &ChangeOptions,
        schema: &SchemaRef,
        projection: &[usize],
        beyond: &Beyond,
        on_bad_row: OnBadRow,
    ) -> Result<ChangesDecoder> {
        let loose: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
        let loose = Arc::new(Schema::new(loose));
        let wanted: Vec<Field> = projection.iter().map(|&i| schema.field(i).clone()).collect();
        let kept = Kept::new(&wanted, &beyond.by_key)?;
        let beside = Beside::new(options, &beyond.metadata, on_bad_row)?;
        let names = wanted.iter().map(|f| f.name().clone()).collect();
        let mut fields = kept.fields();
        fields.extend(beside.iter().flat_map(Beside::fields));
        let json = JsonOptions { fail_on_missing_field: false, ..options.json.clone() };
        Ok(ChangesDecoder {
            scanner: Scanner::new(options, names, !beyond.by_key.is_empty())?,
            options: options.clone(),
            schema: Arc::new(Schema::new(fields)),
            kept,
            scan: Scan::default(),
            columns: JsonDecoder::new(json, &loose, projection, on_bad_row)?,
            beside,
            on_bad_row,
            file: String::new(),
            lines: Lines::default(),
        })
    }

    /// Reads records that are whole, under the numbers that they go by.
    fn read(&mut self, bytes: &[u8], records: impl Iterator<Item = (u32, Range<usize>)>) -> Result<Read> {
        self.scan.clear();
        let mut faults = BTreeMap::new();
        let (mut envelopes, mut owners) = (Vec::new(), Vec::new());
        for (record, at) in records {
            match self.scanner.record(bytes, at, record, &mut self.scan) {
                Ok(Some(envelope)) => {
                    envelopes.push(envelope);
                    owners.push(record);
                }
                Ok(None) => {}
                Err(why) => {
                    faults.insert(record, why);
                }
            }
        }
        let (objects, at, skipped) = self.objects(bytes, &mut faults)?;
        let mut metadata = Vec::new();
        if let Some(beside) = &mut self.beside {
            let (columns, wrong) = beside.read(bytes, &envelopes)?;
            for (n, why) in wrong {
                faults.entry(owners[n]).or_insert(why);
            }
            metadata = columns;
        }
        let mut rows = std::mem::take(&mut self.scan.rows);
        rows.retain(|row| !faults.contains_key(&row.record));
        let mut columns = self.gather(&objects, &at, &rows)?;
        self.kept.keep(&mut columns, &mut rows, &mut faults)?;
        if !metadata.is_empty() {
            let envelope = |row: &Row| owners.binary_search(&row.record).ok().map(|n| n as u32);
            let at: UInt32Array = rows.iter().map(envelope).collect();
            for column in metadata {
                columns.push(take(&column, &at, None)?);
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(Read {
            rows: RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?,
            kinds: rows.iter().map(|row| row.kind as i8).collect::<Vec<_>>().into(),
            of: rows.iter().map(|row| row.record).collect(),
            faults,
            skipped,
        })
    }

    /// The objects as rows, and which row each of them is.
    fn objects(&mut self, bytes: &[u8], faults: &mut BTreeMap<u32, String>) -> Result<(RecordBatch, Vec<u32>, u64)> {
        let (mut batches, mut at, mut skipped, mut next) = (Vec::new(), Vec::new(), 0, 0);
        let all: Vec<Option<Range<usize>>> = self.scan.objects.iter().cloned().map(Some).collect();
        for (n, some) in all.chunks(RECORDS_MAX).enumerate() {
            let read = self.columns.decode_records(bytes, some)?;
            for (object, why) in read.faults {
                faults.entry(self.scan.owners[n * RECORDS_MAX + object]).or_insert(why);
            }
            let mut left_out = read.left_out.into_iter().peekable();
            for object in 0..some.len() {
                if left_out.next_if_eq(&object).is_some() {
                    at.push(NOWHERE);
                } else {
                    at.push(next);
                    next += 1;
                }
            }
            skipped += read.skipped;
            batches.push(read.rows);
        }
        let schema = self.columns.columns();
        let rows = match batches.len() {
            0 => RecordBatch::new_empty(schema.clone()),
            1 => batches.swap_remove(0),
            _ if schema.fields().is_empty() => {
                let options = RecordBatchOptions::new().with_row_count(Some(next as usize));
                RecordBatch::try_new_with_options(schema.clone(), Vec::new(), &options)?
            }
            _ => concat_batches(schema, &batches)?,
        };
        Ok((rows, at, skipped))
    }

    /// The columns of the rows: of an object that is only a part, the rest comes of the other one.
    fn gather(&self, objects: &RecordBatch, at: &[u32], rows: &[Row]) -> Result<Vec<ArrayRef>> {
        let plain = |row: &Row| at[row.object as usize];
        let partial = rows.iter().any(|row| row.partial.is_some());
        if !partial && rows.len() == objects.num_rows() && rows.iter().zip(0..).all(|(row, i)| plain(row) == i) {
            return Ok(objects.columns().to_vec());
        }
        let whole = UInt32Array::from_iter_values(rows.iter().map(plain));
        let columns = objects.columns().iter().enumerate().map(|(c, column)| {
            if !partial {
                return Ok(take(column, &whole, None)?);
            }
            let of = rows.iter().map(|row| match row.partial {
                Some(p) if !self.scan.present[p.present + c] => at[p.rest as usize],
                _ => plain(row),
            });
            Ok(take(column, &UInt32Array::from_iter_values(of), None)?)
        });
        columns.collect()
    }
}

/// Where an object is that could not be read.
const NOWHERE: u32 = u32::MAX;

impl RecordDecoder for ChangesDecoder {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let mut long = Vec::new();
        // A tombstone has nothing to tell: that a row is gone has been said before it.
        let told = (0u32..).zip(records).filter_map(|(record, at)| Some((record, at.clone()?)));
        let told: Vec<(u32, Range<usize>)> =
            told.filter(|(_, at)| !bytes[at.clone()].trim_ascii().is_empty()).collect();
        let fits = told.into_iter().filter(|(record, at)| {
            let fits = at.len() <= RECORD_BYTES_MAX;
            if !fits {
                long.push((*record as usize, too_long(0, 0, at.start).reason));
            }
            fits
        });
        let fits: Vec<(u32, Range<usize>)> = fits.collect();
        let read = self.read(bytes, fits.into_iter())?;
        let mut faults: Vec<(usize, String)> =
            read.faults.into_iter().map(|(record, why)| (record as usize, why)).chain(long).collect();
        faults.sort_by_key(|f| f.0);
        let left_out = faults.iter().map(|f| f.0).collect();
        let Read { rows, kinds, of, skipped, .. } = read;
        Ok(Records { rows, changes: Some(Changes { kinds, of }), faults, left_out, skipped })
    }
}

impl Decoder for ChangesDecoder {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn start(&mut self, name: &str) {
        self.file = name.to_owned();
        self.lines = Lines::default();
    }

    fn mark(&self) -> Mark {
        self.lines.mark()
    }

    fn resume(&mut self, name: &str, mark: &Mark) -> Result<()> {
        self.file = name.to_owned();
        self.lines = Lines::resumed(mark);
        Ok(())
    }

    fn decode(&mut self, bytes: &[u8], last: bool, rows_max: usize) -> Result<Decoded> {
        let Cut { lines, mut faults, consumed } = self.lines.cut(bytes, last, rows_max);
        let read = self.read(bytes, lines.iter().map(|line| (line.record as u32, line.bytes.clone())))?;
        let mut skipped = read.skipped;
        for line in &lines {
            if let Some(reason) = read.faults.get(&(line.record as u32)) {
                let (record, raw) = (line.record, line.bytes.clone());
                faults.push(Fault { record, line: line.number, reason: reason.clone(), raw });
            }
        }
        faults.sort_by_key(|f| f.record);
        let format = self.options.format.name();
        let bad = settle(faults, bytes, &self.file, format, self.on_bad_row, &mut skipped)?;
        Ok(Decoded { rows: read.rows, kinds: Some(read.kinds), bad, skipped, consumed })
    }
}
