//! The generator under the name `nexmark` among the connectors.

use super::{METADATA, open, validate};
use crate::Connector;
use crate::options::only;
use arrow::datatypes::{DataType, Field};
use millstream_core::table::TableUse;
use millstream_core::{Result, Sink, SinkContext, Source, TableSpec};

pub struct Nexmark;

impl Connector for Nexmark {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        only(table, use_as, TableUse::Source)?;
        validate(table)
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        Ok(METADATA.iter().map(|key| Field::new(*key, DataType::Int64, false)).collect())
    }

    fn finds_fields_by_name(&self, _: &TableSpec) -> bool {
        true
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        open(table)
    }

    fn open_sink(&self, table: &TableSpec, _context: &SinkContext) -> Result<Box<dyn Sink>> {
        only(table, TableUse::Sink, TableUse::Source)?;
        Err(millstream_core::Error::internal("a generator takes no rows"))
    }
}
