
pub fn build(_: &crate::graph::WindowRows, _: &arrow::datatypes::Schema, _: &arrow::datatypes::Schema) -> millstream_core::Result<Box<dyn crate::operator::Operator>> { unimplemented!() }
