//! Records that say what has become of rows, in Avro: Debezium's, with schemas of a registry (`debezium-avro-confluent`).
//!
//! ```text
//!  0, id, {before, after, op, …} ──▶ before ROW<…>, after ROW<…>, op STRING ──▶ -U before, +U after
//! ```
//!
//! The envelope is read as a record of three columns, in which the rows' own columns lie, and of what is asked for beside them.
//! What the operations mean is as in [`changes`](crate::changes), and so is what a row by key need not say.

use super::ConfluentOptions;
use super::message::{AvroRecordDecoder, AvroRecordEncoder};
use crate::changes::{Beyond, Kept, Row, Wanted};
use crate::records::{Changes, RecordDecoder, RecordEncoder, Records};
use crate::registry::Schemas;
use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Int8Array, RecordBatch, RecordBatchOptions, StringArray, StructArray,
    UInt32Array,
};
use arrow::buffer::NullBuffer;
use arrow::compute::{concat, take};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use millstream_core::{ChangeKind, Error, Result};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// `before`, `after` and `op`.
const ROW_COLUMNS: usize = 3;

/// The columns of a record that tells what becomes of rows of `columns`.
pub fn envelope(columns: &Fields) -> SchemaRef {
    let row = DataType::Struct(columns.clone());
    Arc::new(Schema::new(vec![
        Field::new("before", row.clone(), true),
        Field::new("after", row, true),
        Field::new("op", DataType::Utf8, true),
    ]))
}

fn loose(fields: impl Iterator<Item = Field>) -> Fields {
    // What may be NULL in a row depends on what becomes of it.
    fields.map(|f| f.with_nullable(true)).collect()
}

pub struct AvroChangesDecoder {
    records: AvroRecordDecoder,
    kept: Kept,
    /// What is told beside the rows.
    wanted: Wanted,
    schema: SchemaRef,
    by_key: bool,
}

impl AvroChangesDecoder {
    pub fn new(
        options: &ConfluentOptions,
        schemas: Arc<dyn Schemas>,
        schema: &SchemaRef,
        projection: &[usize],
        beyond: &Beyond,
    ) -> Result<AvroChangesDecoder> {
        let wanted: Vec<Field> = projection.iter().map(|&i| schema.field(i).clone()).collect();
        let kept = Kept::new(&wanted, &beyond.by_key)?;
        let beside = Wanted::typed(options.name, &beyond.metadata)?;
        let told = envelope(&loose(wanted.into_iter()));
        let told = told.fields().iter().cloned().chain(beside.read().iter().cloned().map(Arc::new));
        let told = Arc::new(Schema::new(told.collect::<Fields>()));
        let all: Vec<usize> = (0..told.fields().len()).collect();
        let records = AvroRecordDecoder::numbered(options, schemas, &told, &all)?;
        let mut fields = kept.fields();
        fields.extend(beside.fields());
        Ok(AvroChangesDecoder {
            records,
            schema: Arc::new(Schema::new(fields)),
            kept,
            wanted: beside,
            by_key: !beyond.by_key.is_empty(),
        })
    }

    /// What a record does, by its operation: kinds, and whether the row is `after`.
    fn told(
        &self,
        op: Option<&str>,
        before: bool,
        after: bool,
    ) -> std::result::Result<Vec<(ChangeKind, bool)>, String> {
        let was = |what: &str| match before {
            true => Ok(()),
            false => Err(format!(
                "`before` is null in {what}, so it is not said which row that was. Let the database tell it (PostgreSQL: \
                 ALTER TABLE … REPLICA IDENTITY FULL){}",
                match self.by_key {
                    true => "",
                    false => {
                        ", or declare PRIMARY KEY (..) NOT ENFORCED and SET 'table.exec.source.cdc-events-duplicate' = \
                         'true', and rows are remembered here"
                    }
                }
            )),
        };
        let is = |op: &str| if after { Ok(()) } else { Err(format!("`after` is null, and `op` is {op}")) };
        match op {
            Some(op @ ("c" | "r")) => is(op).map(|()| vec![(ChangeKind::Insert, true)]),
            Some("u") => {
                is("u")?;
                if self.by_key && !before {
                    return Ok(vec![(ChangeKind::UpdateAfter, true)]);
                }
                was("an update")?;
                Ok(vec![(ChangeKind::UpdateBefore, false), (ChangeKind::UpdateAfter, true)])
            }
            Some("d") => was("a deletion").map(|()| vec![(ChangeKind::Delete, false)]),
            Some(other) => Err(format!("`op` is `{}`, and c, r, u, d are known", crate::bad::shown(other.as_bytes()))),
            None => Err("`op` is null".into()),
        }
    }
}

impl RecordDecoder for AvroChangesDecoder {
    fn columns(&self) -> &SchemaRef {
        &self.schema
    }

    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let read = self.records.decode_records(bytes, records)?;
        let mut faults: BTreeMap<u32, String> = read.faults.into_iter().map(|(r, why)| (r as u32, why)).collect();
        let (before, after, op) = (read.rows.column(0), read.rows.column(1), read.rows.column(2).as_string::<i32>());
        let count = read.rows.num_rows();
        let mut rows = Vec::with_capacity(count);
        // A tombstone has nothing to tell: that a row is gone has been said before it.
        let told = (0..records.len()).filter(|r| read.left_out.binary_search(r).is_err());
        for (n, record) in told.enumerate() {
            let record = record as u32;
            let op = op.is_valid(n).then(|| op.value(n));
            match self.told(op, before.is_valid(n), after.is_valid(n)) {
                Ok(told) => rows.extend(told.into_iter().map(|(kind, is)| {
                    // Rows that were stand before those that are.
                    let object = (n + if is { count } else { 0 }) as u32;
                    Row { record, kind, object, partial: None }
                })),
                Err(why) => {
                    faults.insert(record, why);
                }
            }
        }
        let at = UInt32Array::from_iter_values(rows.iter().map(|row| row.object));
        let pairs = before.as_struct().columns().iter().zip(after.as_struct().columns());
        let mut columns = pairs
            .map(|(was, is)| Ok(take(&concat(&[was.as_ref(), is.as_ref()])?, &at, None)?))
            .collect::<Result<Vec<ArrayRef>>>()?;
        // What an envelope says is said of each of its rows.
        let of = UInt32Array::from_iter_values(rows.iter().map(|row| row.object % (count.max(1) as u32)));
        for column in self.wanted.columns(&read.rows.columns()[ROW_COLUMNS..])? {
            columns.push(take(&column, &of, None)?);
        }
        self.kept.keep(&mut columns, &mut rows, &mut faults)?;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        Ok(Records {
            rows: RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?,
            changes: Some(Changes {
                kinds: rows.iter().map(|row| row.kind as i8).collect::<Vec<_>>().into(),
                of: rows.iter().map(|row| row.record).collect(),
            }),
            left_out: faults.keys().map(|r| *r as usize).collect(),
            faults: faults.into_iter().map(|(r, why)| (r as usize, why)).collect(),
            skipped: 0,
        })
    }
}

/// As in Flink, an update is two records: what it replaces is deleted, what it puts there is new.
pub struct AvroChangesEncoder(AvroRecordEncoder);

impl AvroChangesEncoder {
    pub fn new(options: &ConfluentOptions, declared: &SchemaRef, id: u32) -> Result<AvroChangesEncoder> {
        AvroRecordEncoder::numbered(options, &envelope(declared.fields()), id).map(AvroChangesEncoder)
    }
}

impl RecordEncoder for AvroChangesEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, kinds: Option<&Int8Array>) -> Result<BinaryArray> {
        if rows.num_columns() == 0 {
            return Err(Error::internal("changes of rows without columns"));
        }
        let goes = |row: usize| {
            let kind = kinds.map_or(ChangeKind::Insert, |kinds| ChangeKind::from_code(kinds.value(row)));
            matches!(kind, ChangeKind::UpdateBefore | ChangeKind::Delete)
        };
        let goes: Vec<bool> = (0..rows.num_rows()).map(goes).collect();
        let fields = loose(rows.schema_ref().fields().iter().map(|f| f.as_ref().clone()));
        let side = |gone: bool| -> Result<ArrayRef> {
            let valid = NullBuffer::from(goes.iter().map(|g| *g == gone).collect::<Vec<_>>());
            Ok(Arc::new(StructArray::try_new(fields.clone(), rows.columns().to_vec(), Some(valid))?))
        };
        let op: StringArray = goes.iter().map(|g| Some(if *g { "d" } else { "c" })).collect();
        let records = RecordBatch::try_new(envelope(&fields), vec![side(true)?, side(false)?, Arc::new(op)])?;
        self.0.encode_records(&records, None)
    }
}
