//! stub
pub mod local {
    use crate::graph::WindowAggregate;
    use crate::operator::Operator;
    use arrow::datatypes::{Schema, SchemaRef};
    use millstream_core::Result;
    #[derive(Debug, Clone)]
    pub struct LocalSpec { pub partial_keys: Vec<usize>, pub partial_schema: SchemaRef, pub raw_schema: SchemaRef }
    pub fn split(_: &WindowAggregate, _: &Schema) -> Option<LocalSpec> { None }
    pub fn build(_: &LocalSpec, _: &Schema) -> Result<Box<dyn Operator>> { unimplemented!() }
}
pub fn build(_: &crate::graph::WindowAggregate, _: &arrow::datatypes::Schema, _: bool) -> millstream_core::Result<Box<dyn crate::operator::Operator>> { unimplemented!() }
