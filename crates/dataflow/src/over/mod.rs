//! stub
pub fn build(_: &crate::graph::Over, _: &arrow::datatypes::Schema) -> millstream_core::Result<Box<dyn crate::operator::Operator>> { unimplemented!() }
