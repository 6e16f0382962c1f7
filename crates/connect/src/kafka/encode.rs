//! Makes records of rows.

use super::layout::{WritePart, Writing};
use crate::compact::takes_away;
use arrow::array::{Array, AsArray, BinaryArray, Int64Array, MapArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, TimeUnit};
use millstream_core::{Batch, Error, Result};
use millstream_formats::records::RecordEncoder;
use rdkafka::message::{Header, OwnedHeaders};

struct EncodePart {
    part: WritePart,
    encoder: Box<dyn RecordEncoder>,
}

impl EncodePart {
    fn of(part: &WritePart) -> Result<EncodePart> {
        let id = match (part.format.numbered_schema(&part.declared)?, &part.registry) {
            (Some(text), Some(registry)) => Some(registry.register(&text)?),
            _ => None,
        };
        Ok(EncodePart { part: part.clone(), encoder: part.format.encoder_as(&part.declared, id)? })
    }

    fn encode(&mut self, batch: &Batch) -> Result<BinaryArray> {
        let columns = self.part.columns.iter().map(|&c| batch.rows.column(c).clone()).collect();
        self.encoder.encode_records(&RecordBatch::try_new(self.part.schema.clone(), columns)?, batch.kinds.as_ref())
    }
}

pub struct Encode {
    key: Option<EncodePart>,
    value: EncodePart,
    timestamp: Option<usize>,
    headers: Option<usize>,
    /// Rows that are taken away become records without a value.
    tombstones: bool,
}

/// Records, in columns.
pub struct Encoded {
    key: Option<BinaryArray>,
    value: BinaryArray,
    gone: Option<Vec<bool>>,
    millis: Option<Int64Array>,
    headers: Option<MapArray>,
}

impl Encode {
    pub fn new(writing: &Writing, tombstones: bool) -> Result<Encode> {
        Ok(Encode {
            key: writing.key.as_ref().map(EncodePart::of).transpose()?,
            value: EncodePart::of(&writing.value)?,
            timestamp: writing.timestamp,
            headers: writing.headers,
            tombstones,
        })
    }

    pub fn encode(&mut self, batch: &Batch) -> Result<Encoded> {
        let rows = &batch.rows;
        let millis = match self.timestamp {
            None => None,
            Some(c) => {
                let zone = match rows.column(c).data_type() {
                    DataType::Timestamp(_, zone) => zone.clone(),
                    other => return Err(Error::internal(format!("a timestamp as {other}"))),
                };
                let millis = cast(rows.column(c), &DataType::Timestamp(TimeUnit::Millisecond, zone))?;
                Some(cast(&millis, &DataType::Int64)?.as_primitive().clone())
            }
        };
        let gone = (self.tombstones && batch.kinds.is_some())
            .then(|| (0..batch.len()).map(|row| takes_away(batch, row)).collect());
        Ok(Encoded {
            key: self.key.as_mut().map(|key| key.encode(batch)).transpose()?,
            value: self.value.encode(batch)?,
            gone,
            millis,
            headers: self.headers.map(|c| rows.column(c).as_map().clone()),
        })
    }
}

impl Encoded {
    pub fn len(&self) -> usize {
        self.value.len()
    }

    /// Whether keys and values are all that there is to the records.
    pub fn is_plain(&self) -> bool {
        self.millis.is_none() && self.headers.is_none()
    }

    pub fn key(&self, row: usize) -> Option<&[u8]> {
        self.key.as_ref().filter(|k| k.is_valid(row)).map(|k| k.value(row))
    }

    /// `None`: a tombstone.
    pub fn value(&self, row: usize) -> Option<&[u8]> {
        let gone = self.gone.as_ref().is_some_and(|gone| gone[row]);
        (!gone && self.value.is_valid(row)).then(|| self.value.value(row))
    }

    /// `None`: when it is sent.
    pub fn millis(&self, row: usize) -> Option<i64> {
        self.millis.as_ref().filter(|m| m.is_valid(row)).map(|m| m.value(row))
    }

    pub fn headers(&self, row: usize) -> Option<OwnedHeaders> {
        let map = self.headers.as_ref().filter(|m| m.is_valid(row))?;
        let pairs = map.value(row);
        let (keys, values) = (pairs.column(0).as_string::<i32>(), pairs.column(1).as_binary::<i32>());
        let mut headers = OwnedHeaders::new_with_capacity(pairs.len());
        for n in 0..pairs.len() {
            let value = values.is_valid(n).then(|| values.value(n));
            headers = headers.insert(Header { key: keys.value(n), value });
        }
        Some(headers)
    }
}
