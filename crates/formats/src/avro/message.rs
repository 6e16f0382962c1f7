//! Records of a log: with the table's own schema, or with the number of theirs before them.

use super::read::{Outcome, Rows, Writer};
use super::schema::Schema;
use super::wire::Cursor;
use super::{AvroOptions, ConfluentOptions, parsed, schema_of, write};
use crate::records::{RecordDecoder, RecordEncoder, Records, each_record};
use crate::registry::{PREFIX_BYTES, Registered, Schemas, number, prefix};
use arrow::array::{BinaryArray, BinaryBuilder, Int8Array, RecordBatch};
use arrow::datatypes::{Schema as Columns, SchemaRef};
use millstream_core::{ChangeKind, Error, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Schemas that a decoder knows at a time. More are looked up again.
const SCHEMAS_MAX: usize = 1000;

/// Where a record's schema comes from.
enum Origin {
    Table(Box<Writer>),
    Number {
        schemas: Arc<dyn Schemas>,
        reader: Option<Arc<Schema>>,
        known: HashMap<u32, std::result::Result<Box<Writer>, String>>,
    },
}

pub struct AvroRecordDecoder {
    rows: Rows,
    origin: Origin,
}

fn wanted(schema: &SchemaRef, projection: &[usize]) -> SchemaRef {
    Arc::new(Columns::new(projection.iter().map(|&i| schema.field(i).clone()).collect::<Vec<_>>()))
}

impl AvroRecordDecoder {
    /// Records without a word about their schema: it is the table's.
    pub fn plain(options: &AvroOptions, schema: &SchemaRef, projection: &[usize]) -> Result<AvroRecordDecoder> {
        let rows = Rows::new(&wanted(schema, projection))?;
        let text = schema_of(schema.fields(), options.legacy_timestamps)?;
        let writer = Writer::new(&Registered::alone(text), None, rows.schema());
        let writer = writer.map_err(|why| Error::internal(format!("a table's own schema does not fit it: {why}")))?;
        Ok(AvroRecordDecoder { rows, origin: Origin::Table(Box::new(writer)) })
    }

    /// Records with the number of their schema before them.
    pub fn numbered(
        options: &ConfluentOptions,
        schemas: Arc<dyn Schemas>,
        schema: &SchemaRef,
        projection: &[usize],
    ) -> Result<AvroRecordDecoder> {
        let rows = Rows::new(&wanted(schema, projection))?;
        let origin = Origin::Number { schemas, reader: options.reader()?, known: HashMap::new() };
        Ok(AvroRecordDecoder { rows, origin })
    }

    /// Reads one record; what is wrong with it comes back as a sentence.
    fn read(&mut self, record: &[u8]) -> Result<std::result::Result<(), String>> {
        let (writer, from) = match &mut self.origin {
            Origin::Table(writer) => (&**writer, 0),
            Origin::Number { schemas, reader, known } => {
                let id = match number(record) {
                    Ok(id) => id,
                    Err(why) => return Ok(Err(why)),
                };
                if !known.contains_key(&id) {
                    if known.len() >= SCHEMAS_MAX {
                        known.clear();
                    }
                    let writer = match schemas.schema(id)? {
                        Ok(schema) => Writer::new(&schema, reader.as_ref(), self.rows.schema())
                            .map(Box::new)
                            .map_err(|why| format!("schema {id}: {why}")),
                        Err(why) => Err(why),
                    };
                    known.insert(id, writer);
                }
                match &known[&id] {
                    Ok(writer) => (&**writer, PREFIX_BYTES),
                    Err(why) => return Ok(Err(why.clone())),
                }
            }
        };
        let mut cursor = Cursor::new(record, from);
        Ok(match self.rows.read(writer, &mut cursor) {
            Outcome::Row if cursor.at < record.len() => {
                self.rows.forget_last();
                let more = record.len() - cursor.at;
                Err(format!("{more} bytes follow the last field of the record: it was written with another schema"))
            }
            Outcome::Row => Ok(()),
            Outcome::Fault(why) | Outcome::Damaged(why) => Err(why),
        })
    }
}

impl RecordDecoder for AvroRecordDecoder {
    fn columns(&self) -> &SchemaRef {
        self.rows.schema()
    }

    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let (faults, nulls) = each_record(bytes, records, |record| self.read(record))?;
        Ok(Records::new(self.rows.finish()?, faults, nulls, 0))
    }
}

pub struct AvroRecordEncoder {
    schema: Schema,
    /// What stands before each record.
    prefix: Vec<u8>,
}

impl AvroRecordEncoder {
    /// `declared`: the columns as the table has them, since whether one may be NULL is in the schema.
    pub fn plain(options: &AvroOptions, declared: &SchemaRef) -> Result<AvroRecordEncoder> {
        let schema = parsed(&schema_of(declared.fields(), options.legacy_timestamps)?, "avro")?;
        Ok(AvroRecordEncoder { schema, prefix: Vec::new() })
    }

    /// `id`: the number that the registry has given to [`ConfluentOptions::schema_text`].
    pub fn numbered(options: &ConfluentOptions, declared: &SchemaRef, id: u32) -> Result<AvroRecordEncoder> {
        let schema = parsed(&options.schema_text(declared)?, options.name)?;
        write::check(&schema, declared.fields())?;
        Ok(AvroRecordEncoder { schema, prefix: prefix(id).to_vec() })
    }
}

impl RecordEncoder for AvroRecordEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, kinds: Option<&Int8Array>) -> Result<BinaryArray> {
        let records = write::Records::new(&self.schema, rows)?;
        let mut out = BinaryBuilder::new();
        let mut record = Vec::new();
        for row in 0..rows.num_rows() {
            record.clear();
            record.extend_from_slice(&self.prefix);
            match records.write(row, &mut record) {
                Ok(()) => out.append_value(&record),
                // Of a row that goes, only its key need be known; nobody is told the rest.
                Err(_) if goes(kinds, row) => out.append_null(),
                Err(unfit) => return Err(unfit.error()),
            }
        }
        Ok(out.finish())
    }
}

/// Whether a row is taken away.
pub(crate) fn goes(kinds: Option<&Int8Array>, row: usize) -> bool {
    let kind = kinds.map(|kinds| ChangeKind::from_code(kinds.value(row)));
    matches!(kind, Some(ChangeKind::Delete | ChangeKind::UpdateBefore))
}
