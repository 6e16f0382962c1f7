//! Results as bytes: what was told of a group, to be compared with what is to be told, and taken back.

use crate::aggregate::Plan;
use crate::graph::Panes;
use crate::row_bytes::{self, RowBytes};
use crate::rows::conform;
use arrow::array::ArrayRef;
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::{Error, Result};
use std::sync::Arc;

/// What was told of a group.
pub(in crate::window) type Told = Box<[u8]>;

/// How results become bytes.
pub(in crate::window) struct Results {
    schema: SchemaRef,
    /// `None`: there are no calls, and every result is the same.
    codec: Option<RowBytes>,
}

/// Results as bytes, one for each group.
pub(in crate::window) struct Encoded(Option<row_bytes::Encoded>);

impl Encoded {
    pub fn row(&self, at: usize) -> &[u8] {
        self.0.as_ref().map_or(&[], |rows| rows.row(at))
    }
}

impl Results {
    pub fn new(plan: &Plan, panes: Panes) -> Result<Results> {
        let fields: Vec<_> = plan.results().map(|f| f.clone().with_nullable(true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let codec = match schema.fields().is_empty() {
            true => None,
            false => Some(RowBytes::new(&schema, &[]).map_err(|e| {
                let how = match panes {
                    Panes::Discarding => "gathered",
                    Panes::Accumulating | Panes::Retracting => "compared with what was told before",
                };
                Error::sql(format!("EMIT: a result with these columns cannot be {how} ({})", e.what()))
                    .remedy("leave out aggregates whose results are MAP, or EMIT")
            })?),
        };
        Ok(Results { schema, codec })
    }

    /// Names and types of the results.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    pub fn encode(&self, results: Vec<ArrayRef>, rows: usize) -> Result<Encoded> {
        let Some(codec) = &self.codec else { return Ok(Encoded(None)) };
        Ok(Encoded(Some(codec.encode(&conform(&self.schema, results, rows)?)?)))
    }

    pub fn decode<'a>(&self, rows: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        self.codec.as_ref().map_or(Ok(Vec::new()), |codec| codec.decode(rows))
    }
}
