//! Records of a log: a message alone, or with the number of its schema before it.
//!
//! A registry's schema is a file with many messages. So behind the number stands which of them the record is: how many steps
//! there are, then for each the position among the file's messages, then among that one's, and so on. One step to the first
//! message, which is the usual case, is a single 0.

use super::plan::{Message, Missing};
use super::read::Rows;
use super::schema::{Described, position};
use super::wire::{Cursor, put_varint, zigzag};
use super::{ProtobufOptions, write};
use crate::avro::goes;
use crate::records::{RecordDecoder, RecordEncoder, Records, each_record};
use crate::registry::{PREFIX_BYTES, Schemas, number, prefix};
use arrow::array::{BinaryArray, BinaryBuilder, Int8Array, RecordBatch};
use arrow::datatypes::{Schema as Columns, SchemaRef};
use millstream_core::{Error, Result};
use prost_reflect::MessageDescriptor;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// Messages within messages that the place of one may name.
const STEPS_MAX: usize = 32;

/// Schemas that a decoder knows at a time. More are looked up again.
const SCHEMAS_MAX: usize = 1000;

/// Where a record's message type comes from.
enum Origin {
    Table(Box<Message>),
    Number { options: Box<ProtobufOptions>, schemas: Arc<dyn Schemas>, known: BTreeMap<u32, OfSchema> },
}

/// What is known of one schema: itself, and its messages by their place.
struct OfSchema {
    described: std::result::Result<Described, String>,
    messages: Vec<(Vec<usize>, std::result::Result<Message, String>)>,
}

/// How imports would have to call the schema of a record: as they do not.
const OF_RECORD: &str = "schema-of-the-record.proto";

/// Messages that are kept of one schema.
const MESSAGES_MAX: usize = 1000;

pub struct ProtobufDecoder {
    rows: Rows,
    origin: Origin,
}

fn wanted(schema: &SchemaRef, projection: &[usize]) -> SchemaRef {
    Arc::new(Columns::new(projection.iter().map(|&i| schema.field(i).clone()).collect::<Vec<_>>()))
}

impl ProtobufDecoder {
    pub fn plain(options: &ProtobufOptions, schema: &SchemaRef, projection: &[usize]) -> Result<ProtobufDecoder> {
        let rows = Rows::new(&wanted(schema, projection))?;
        let own = options.own()?;
        let message = Message::of(&own.message, rows.schema().fields(), "", options.rules(Missing::Refused))?;
        Ok(ProtobufDecoder { rows, origin: Origin::Table(Box::new(message)) })
    }

    /// Records with the number of their schema before them.
    pub fn numbered(
        options: &ProtobufOptions,
        schemas: Arc<dyn Schemas>,
        schema: &SchemaRef,
        projection: &[usize],
    ) -> Result<ProtobufDecoder> {
        let rows = Rows::new(&wanted(schema, projection))?;
        let origin = Origin::Number { options: Box::new(options.clone()), schemas, known: BTreeMap::new() };
        Ok(ProtobufDecoder { rows, origin })
    }

    /// Reads one record; what is wrong with it comes back as a sentence.
    fn read(&mut self, record: &[u8]) -> Result<std::result::Result<(), String>> {
        let (options, schemas, known) = match &mut self.origin {
            Origin::Table(message) => return Ok(self.rows.read(message, record)),
            Origin::Number { options, schemas, known } => (options, schemas, known),
        };
        let (id, steps, from) = match number(record).and_then(|id| place(record).map(|(steps, from)| (id, steps, from)))
        {
            Ok(found) => found,
            Err(why) => return Ok(Err(why)),
        };
        if !known.contains_key(&id) {
            if known.len() >= SCHEMAS_MAX {
                known.clear();
            }
            let described = match schemas.schema(id)? {
                Ok(schema) => {
                    let found = |name: &str| Ok(schema.reference(name).map(str::to_owned));
                    Described::of_sources(OF_RECORD, schema.text.clone(), found)
                        .map_err(|why| format!("schema {id}: {why}"))
                }
                Err(why) => Err(why),
            };
            known.insert(id, OfSchema { described, messages: Vec::new() });
        }
        let Some(schema) = known.get_mut(&id) else { return Err(Error::internal("a schema that was kept is gone")) };
        // Few: a topic has few types of messages.
        let at = match schema.messages.iter().position(|(at, _)| *at == steps) {
            Some(at) => at,
            None => {
                if schema.messages.len() >= MESSAGES_MAX {
                    schema.messages.clear();
                }
                let columns = self.rows.schema().fields();
                let message = schema.described.as_ref().map_err(String::clone).and_then(|described| {
                    let message = described.at(&steps).map_err(|why| format!("schema {id}: {why}"))?;
                    fits(options, &message)?;
                    Message::of(&message, columns, "", options.rules(Missing::Null))
                        .map_err(|e| format!("schema {id}: {}", e.what()))
                });
                schema.messages.push((steps, message));
                schema.messages.len() - 1
            }
        };
        Ok(match &schema.messages[at].1 {
            Ok(message) => self.rows.read(message, &record[from..]),
            Err(why) => Err(why.clone()),
        })
    }
}

/// That a record's message is the one that the table names, if it names one.
fn fits(options: &ProtobufOptions, message: &MessageDescriptor) -> std::result::Result<(), String> {
    let own = options.described.as_ref().map(|own| own.message.full_name());
    match own.or(options.message_name.as_deref()) {
        Some(name) if name != message.full_name() => {
            Err(format!("the record is a {}, and the table reads {name}", message.full_name()))
        }
        _ => Ok(()),
    }
}

/// Which message of its schema a record is, and where it begins.
fn place(record: &[u8]) -> std::result::Result<(Vec<usize>, usize), String> {
    let mut cursor = Cursor { bytes: record, at: PREFIX_BYTES };
    let mut next = || {
        let value = cursor.varint().map_err(|d| d.0)?;
        usize::try_from(zigzag(value)).map_err(|_| "a position is negative")
    };
    let mut steps = || {
        let count = next()?;
        if count > STEPS_MAX {
            return Err("it is nested too deep");
        }
        if count == 0 { Ok(vec![0]) } else { (0..count).map(|_| next()).collect() }
    };
    let steps = steps().map_err(|why| format!("the record does not say which message of its schema it is: {why}"))?;
    Ok((steps, cursor.at))
}

impl RecordDecoder for ProtobufDecoder {
    fn columns(&self) -> &SchemaRef {
        self.rows.schema()
    }

    fn decode_records(&mut self, bytes: &[u8], records: &[Option<Range<usize>>]) -> Result<Records> {
        let (faults, nulls) = each_record(bytes, records, |record| self.read(record))?;
        Ok(Records::new(self.rows.finish()?, faults, nulls, 0))
    }
}

pub struct ProtobufEncoder {
    message: MessageDescriptor,
    null_literal: Option<String>,
    /// What stands before each record.
    prefix: Vec<u8>,
}

impl ProtobufEncoder {
    /// `id`: the number that the registry has given to the schema, for records that name it.
    pub fn new(options: &ProtobufOptions, declared: &SchemaRef, id: Option<u32>) -> Result<ProtobufEncoder> {
        options.check_written(declared)?;
        let message = options.own()?.message.clone();
        let mut before = Vec::new();
        if let Some(id) = id {
            before.extend_from_slice(&prefix(id));
            match &position(&message)[..] {
                [0] => before.push(0),
                steps => {
                    // Zigzag: twice the number.
                    put_varint(2 * steps.len() as u64, &mut before);
                    steps.iter().for_each(|step| put_varint(2 * *step as u64, &mut before));
                }
            }
        }
        Ok(ProtobufEncoder { message, null_literal: options.null_literal.clone(), prefix: before })
    }
}

impl RecordEncoder for ProtobufEncoder {
    fn encode_records(&mut self, rows: &RecordBatch, kinds: Option<&Int8Array>) -> Result<BinaryArray> {
        let records = write::Records::new(&self.message, rows, self.null_literal.as_deref())?;
        let mut out = BinaryBuilder::with_capacity(rows.num_rows(), 0);
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
