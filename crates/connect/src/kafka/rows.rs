//! Makes rows of the records that have come for a partition.
//!
//! ```text
//!  record ─▶ bytes of keys, bytes of values, offsets, times … one behind the other ─▶ decoders ─▶ columns ─▶ rows
//! ```
//!
//! A record that gives no row in one of its parts gives none at all. What becomes of it then, the table's options say:
//! an error with its place, a bad row, or a count.

use super::layout::{Beside, Column, Reading};
use arrow::array::{
    ArrayRef, BooleanArray, Int8Array, Int32Array, Int64Array, MapArray, RecordBatch, RecordBatchOptions, StringArray,
    StructArray, TimestampMicrosecondArray, TimestampMillisecondArray, TimestampNanosecondArray, UInt32Array,
};
use arrow::array::{BinaryBuilder, StringBuilder};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{filter, filter_record_batch, take};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream_core::{BadRow, ChangeKind, Error, Place, Result, SourceRows};
use millstream_formats::OnBadRow;
use millstream_formats::bad::remedy;
use millstream_formats::records::{RecordDecoder, Records};
use rdkafka::message::{BorrowedMessage, Headers, Message, Timestamp};
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

/// The headers of a record.
type HeaderPairs = Vec<(String, Option<Vec<u8>>)>;

/// A part of the records that have come.
struct Gathered {
    decoder: Box<dyn RecordDecoder>,
    format: &'static str,
    on_bad_row: OnBadRow,
    bytes: Vec<u8>,
    records: Vec<Option<Range<usize>>>,
}

impl Gathered {
    fn push(&mut self, record: Option<&[u8]>) {
        let start = self.bytes.len();
        self.records.push(record.map(|record| {
            self.bytes.extend_from_slice(record);
            self.bytes.push(b'\n');
            start..start + record.len()
        }));
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
    }
}

/// Records of one partition that have come and are not rows yet.
pub struct Gather {
    reading: Arc<Reading>,
    topic: String,
    partition: i32,
    /// Added to the offset for [`Beside::Order`].
    order_base: i64,
    key: Option<Gathered>,
    value: Gathered,
    offsets: Vec<i64>,
    millis: Vec<i64>,
    time_types: Vec<&'static str>,
    headers: Vec<HeaderPairs>,
    with_times: bool,
    with_headers: bool,
    /// Records that have come since the last rows.
    count: usize,
    bytes: usize,
    skipped: u64,
}

impl Gather {
    pub fn new(
        reading: Arc<Reading>,
        (key_mode, value_mode): (OnBadRow, OnBadRow),
        topic: &str,
        partition: i32,
        order_base: i64,
    ) -> Result<Gather> {
        let gathered = |part: &super::layout::ReadPart, on_bad_row| -> Result<Gathered> {
            Ok(Gathered {
                decoder: part.format.decoder_beyond(&part.schema, &part.projection, &part.beyond, on_bad_row)?,
                format: part.format.name(),
                on_bad_row,
                bytes: Vec::new(),
                records: Vec::new(),
            })
        };
        Ok(Gather {
            key: reading.key.as_ref().map(|part| gathered(part, key_mode)).transpose()?,
            value: gathered(&reading.value, value_mode)?,
            with_times: reading.reads(Beside::Timestamp) || reading.reads(Beside::TimestampType),
            with_headers: reading.reads(Beside::Headers),
            reading,
            topic: topic.to_owned(),
            partition,
            order_base,
            offsets: Vec::new(),
            millis: Vec::new(),
            time_types: Vec::new(),
            headers: Vec::new(),
            count: 0,
            bytes: 0,
            skipped: 0,
        })
    }

    pub fn len(&self) -> usize {
        self.count
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Records and fields left out so far because the table's options say so, and records that have no value.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    pub fn push(&mut self, record: &BorrowedMessage<'_>) {
        let (key, value) = (record.key(), record.payload());
        self.count += 1;
        self.bytes += key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        self.value.push(value);
        if let Some(keys) = &mut self.key {
            keys.push(key);
        }
        self.offsets.push(record.offset());
        if self.with_times {
            let (millis, kind) = match record.timestamp() {
                Timestamp::CreateTime(at) => (at, "CreateTime"),
                Timestamp::LogAppendTime(at) => (at, "LogAppendTime"),
                Timestamp::NotAvailable => (-1, "NoTimestampType"),
            };
            self.millis.push(millis);
            self.time_types.push(kind);
        }
        if self.with_headers {
            let found = record.headers().map(|all| {
                let mut pairs = HeaderPairs::with_capacity(all.count());
                for header in all.iter() {
                    let value = header.value.map(<[u8]>::to_vec);
                    // A map has each key once; of a header given twice the last one counts, as in Flink.
                    match pairs.iter_mut().find(|(key, _)| key == header.key) {
                        Some(pair) => pair.1 = value,
                        None => pairs.push((header.key.to_owned(), value)),
                    }
                }
                pairs
            });
            self.headers.push(found.unwrap_or_default());
        }
    }

    /// What has come, as rows.
    pub fn rows(&mut self) -> Result<SourceRows> {
        let made = self.make();
        self.key.iter_mut().for_each(Gathered::clear);
        self.value.clear();
        self.offsets.clear();
        self.millis.clear();
        self.time_types.clear();
        self.headers.clear();
        (self.count, self.bytes) = (0, 0);
        made
    }

    fn place(&self, record: usize) -> Place {
        Place(format!("{}[{}]@{}", self.topic, self.partition, self.offsets[record]))
    }

    fn make(&mut self) -> Result<SourceRows> {
        let value = self.value.decoder.decode_records(&self.value.bytes, &self.value.records)?;
        let key = match &mut self.key {
            None => None,
            // A record without a key has NULL in the columns of the key, where that may be.
            Some(key) => Some(key.decoder.decode_records(&key.bytes, &key.records)?),
        };
        let mut bad = Vec::new();
        let faulty: BTreeSet<usize> = value.faults.iter().map(|f| f.0).collect();
        // By key, a record without a value is one too.
        let mut out = if self.reading.upsert { faulty.clone() } else { value.left_out.iter().copied().collect() };
        let mut skipped = value.skipped + self.judge(&self.value, &value.faults, &mut bad)?;
        let mut keyless: Vec<usize> = Vec::new();
        if let (Some(gathered), Some(read)) = (&self.key, &key) {
            let faults: BTreeSet<usize> = read.faults.iter().map(|f| f.0).collect();
            let nullable = !self.reading.upsert && gathered.decoder.columns().fields().iter().all(|f| f.is_nullable());
            keyless = read.left_out.iter().copied().filter(|r| !faults.contains(r)).collect();
            let mut key_faults = read.faults.clone();
            if !nullable {
                key_faults.extend(
                    keyless
                        .iter()
                        .map(|&r| (r, "the record has no key, the table declares its columns NOT NULL".to_owned())),
                );
                keyless.clear();
            }
            skipped += read.skipped + self.judge(gathered, &key_faults, &mut bad)?;
            out.extend(key_faults.iter().map(|f| f.0));
        }
        // A record that both parts complain of is one bad row.
        bad.sort_by_key(|(record, _)| *record);
        bad.dedup_by_key(|(record, _)| *record);
        let bad = bad.into_iter().map(|(_, row)| row).collect();
        if self.reading.upsert || value.changes.is_some() {
            self.skipped += skipped;
            let (rows, kinds) = self.changes(&value, key.as_ref(), &out)?;
            return Ok(SourceRows { rows, kinds: Some(kinds), bad, bytes: self.bytes as u64 });
        }
        // Records without a value, where the format makes no row of that.
        skipped += value.left_out.iter().filter(|r| !faulty.contains(r)).count() as u64;
        self.skipped += skipped;

        let keep: Option<BooleanArray> =
            (!out.is_empty()).then(|| (0..self.count).map(|r| Some(!out.contains(&r))).collect());
        let values = only_kept(&value.rows, &value.left_out, &out, self.count)?;
        let keys = match &key {
            None => None,
            Some(read) => {
                let rows = with_nulls(read, &keyless, self.count)?;
                let left: Vec<usize> =
                    read.left_out.iter().copied().filter(|r| keyless.binary_search(r).is_err()).collect();
                Some(only_kept(&rows, &left, &out, self.count)?)
            }
        };
        let mut columns = Vec::with_capacity(self.reading.columns.len());
        for (column, field) in self.reading.columns.iter().zip(self.reading.schema.fields()) {
            columns.push(match column {
                Column::Value(n) => values.column(*n).clone(),
                Column::Key(n) => keys.as_ref().expect("the key is read where a column is its").column(*n).clone(),
                Column::Beside(beside) => {
                    let all = self.beside(*beside, field)?;
                    match &keep {
                        Some(keep) => filter(&all, keep)?,
                        None => all,
                    }
                }
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(values.num_rows()));
        let rows = RecordBatch::try_new_with_options(self.reading.schema.clone(), columns, &options)?;
        Ok(SourceRows { rows, kinds: None, bad, bytes: self.bytes as u64 })
    }

    /// The rows of records that tell changes, by their values or by key, but for those of the records in `out`.
    fn changes(
        &self,
        value: &Records,
        key: Option<&Records>,
        out: &BTreeSet<usize>,
    ) -> Result<(RecordBatch, Int8Array)> {
        // For each row: its record, its row among the values, what it does.
        let (mut of, mut values, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
        match &value.changes {
            Some(changes) => {
                for (row, record) in changes.of.iter().enumerate().filter(|(_, r)| !out.contains(&(**r as usize))) {
                    of.push(*record);
                    values.push(Some(row as u32));
                    kinds.push(changes.kinds.value(row));
                }
            }
            None => {
                let mut row = 0u32;
                for record in 0..self.count {
                    let given = value.left_out.binary_search(&record).is_err();
                    let gone = self.value.records[record].is_none();
                    if !out.contains(&record) {
                        of.push(record as u32);
                        values.push((given && !gone).then_some(row));
                        kinds.push(if gone { ChangeKind::Delete } else { ChangeKind::UpdateAfter } as i8);
                    }
                    row += u32::from(given);
                }
            }
        }
        let keys: Option<UInt32Array> = key.map(|read| {
            let mut next = 0u32;
            let by_record = (0..self.count).map(|record| {
                let given = read.left_out.binary_search(&record).is_err();
                next += u32::from(given);
                given.then(|| next - 1)
            });
            let by_record: Vec<Option<u32>> = by_record.collect();
            of.iter().map(|record| by_record[*record as usize]).collect()
        });
        let (values, of) = (UInt32Array::from(values), UInt32Array::from(of));
        let mut columns = Vec::with_capacity(self.reading.columns.len());
        for (column, field) in self.reading.columns.iter().zip(self.reading.schema.fields()) {
            columns.push(match (column, key, &keys) {
                (Column::Value(n), ..) => take(value.rows.column(*n), &values, None)?,
                (Column::Key(n), Some(key), Some(keys)) => take(key.rows.column(*n), keys, None)?,
                (Column::Key(_), ..) => return Err(Error::internal("a column of a key that is not read")),
                (Column::Beside(beside), ..) => take(&self.beside(*beside, field)?, &of, None)?,
            });
        }
        let options = RecordBatchOptions::new().with_row_count(Some(of.len()));
        let rows = RecordBatch::try_new_with_options(self.reading.schema.clone(), columns, &options)?;
        Ok((rows, kinds.into()))
    }

    /// Deals with the faults of a part as the table's options say; returns how many records that leaves out in silence.
    fn judge(&self, part: &Gathered, faults: &[(usize, String)], bad: &mut Vec<(usize, BadRow)>) -> Result<u64> {
        match part.on_bad_row {
            OnBadRow::Skip => return Ok(faults.len() as u64),
            OnBadRow::SetAside => bad.extend(faults.iter().map(|(record, reason)| {
                let raw = part.records[*record].clone().map_or_else(Vec::new, |at| part.bytes[at].to_vec());
                (*record, BadRow { place: self.place(*record), reason: reason.clone(), raw })
            })),
            OnBadRow::Fail => {
                if let Some((record, reason)) = faults.iter().min_by_key(|f| f.0) {
                    return Err(Error::data(reason.clone())
                        .at(self.place(*record))
                        .remedy(remedy("record", part.format)));
                }
            }
        }
        Ok(0)
    }

    fn beside(&self, beside: Beside, field: &Field) -> Result<ArrayRef> {
        Ok(match beside {
            Beside::Topic => Arc::new(StringArray::from_iter_values((0..self.count).map(|_| &self.topic))),
            Beside::Partition if *field.data_type() == DataType::Int64 => {
                Arc::new(Int64Array::from_value(i64::from(self.partition), self.count))
            }
            Beside::Partition => Arc::new(Int32Array::from_value(self.partition, self.count)),
            Beside::Offset => Arc::new(Int64Array::from_iter_values(self.offsets.iter().copied())),
            Beside::Order => Arc::new(Int64Array::from_iter_values(self.offsets.iter().map(|o| self.order_base + o))),
            Beside::TimestampType => Arc::new(StringArray::from_iter_values(self.time_types.iter())),
            Beside::Timestamp => {
                let DataType::Timestamp(unit, zone) = field.data_type() else {
                    return Err(Error::internal(format!("a timestamp as {}", field.data_type())));
                };
                let times = |factor: i64| self.millis.iter().map(move |m| m.saturating_mul(factor));
                match unit {
                    TimeUnit::Nanosecond => Arc::new(
                        TimestampNanosecondArray::from_iter_values(times(1_000_000)).with_timezone_opt(zone.clone()),
                    ),
                    TimeUnit::Microsecond => Arc::new(
                        TimestampMicrosecondArray::from_iter_values(times(1_000)).with_timezone_opt(zone.clone()),
                    ),
                    _ => {
                        Arc::new(TimestampMillisecondArray::from_iter_values(times(1)).with_timezone_opt(zone.clone()))
                    }
                }
            }
            Beside::Headers => self.header_column(field)?,
        })
    }

    fn header_column(&self, field: &Field) -> Result<ArrayRef> {
        let DataType::Map(entries, sorted) = field.data_type() else {
            return Err(Error::internal(format!("headers as {}", field.data_type())));
        };
        let DataType::Struct(pair) = entries.data_type() else {
            return Err(Error::internal("a map without entries"));
        };
        let (mut keys, mut values) = (StringBuilder::new(), BinaryBuilder::new());
        for (key, value) in self.headers.iter().flatten() {
            keys.append_value(key);
            values.append_option(value.as_deref());
        }
        let columns: Vec<ArrayRef> = vec![Arc::new(keys.finish()), Arc::new(values.finish())];
        let lengths = OffsetBuffer::from_lengths(self.headers.iter().map(Vec::len));
        let pairs = StructArray::try_new(pair.clone(), columns, None)?;
        Ok(Arc::new(MapArray::try_new(entries.clone(), lengths, pairs, None, *sorted)?))
    }
}

/// Of the rows that a part gave for all records but `left_out`, those whose record is not in `out`.
fn only_kept(rows: &RecordBatch, left_out: &[usize], out: &BTreeSet<usize>, records: usize) -> Result<RecordBatch> {
    if out.len() == left_out.len() {
        return Ok(rows.clone());
    }
    let given = (0..records).filter(|r| left_out.binary_search(r).is_err());
    let keep: BooleanArray = given.map(|r| Some(!out.contains(&r))).collect();
    Ok(filter_record_batch(rows, &keep)?)
}

/// The rows of the keys with NULLs for the records that have none.
fn with_nulls(read: &Records, keyless: &[usize], records: usize) -> Result<RecordBatch> {
    if keyless.is_empty() {
        return Ok(read.rows.clone());
    }
    // Which row of the keys belongs to each record that has one, or is to have NULLs.
    let mut next = 0u32;
    let mut at = Vec::with_capacity(records);
    for record in 0..records {
        if keyless.binary_search(&record).is_ok() {
            at.push(None);
        } else if read.left_out.binary_search(&record).is_err() {
            at.push(Some(next));
            next += 1;
        }
    }
    let at = UInt32Array::from(at);
    let columns = read.rows.columns().iter().map(|c| Ok(take(c, &at, None)?)).collect::<Result<_>>()?;
    let fields: Vec<Field> = read.rows.schema().fields().iter().map(|f| f.as_ref().clone()).collect();
    Ok(RecordBatch::try_new(Arc::new(Schema::new(fields)), columns)?)
}
