//! `UNION ALL`: the rows of all inputs, under the columns of the first.
//!
//! The watermarks of the inputs have been merged before they get here, and so have the marks of their rows.

use crate::operator::{Event, Operator, Output};
use crate::rows::conform;
use arrow::datatypes::SchemaRef;
use millstream_core::Result;

pub struct Union {
    output: SchemaRef,
}

impl Union {
    pub fn new(output: SchemaRef) -> Union {
        Union { output }
    }
}

impl Operator for Union {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => {
                let rows = conform(&self.output, batch.rows.columns().to_vec(), batch.len())?;
                out.emit(0, batch.with_rows(rows))
            }
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }
}
