//! Each row once for each list of expressions: how GROUPING SETS come about.

use crate::graph;
use crate::operator::{Event, Operator, Output};
use crate::rows::conform;
use arrow::datatypes::SchemaRef;
use millstream_core::Result;

pub struct Expand {
    spec: graph::Expand,
    output: SchemaRef,
}

impl Expand {
    pub fn new(spec: &graph::Expand, output: SchemaRef) -> Expand {
        Expand { spec: spec.clone(), output }
    }
}

impl Operator for Expand {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => {
                for exprs in &self.spec.rows {
                    let columns = exprs.iter().map(|e| e.evaluate(&batch.rows)).collect::<Result<_>>()?;
                    out.emit(0, batch.with_rows(conform(&self.output, columns, batch.len())?))?;
                }
                Ok(())
            }
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }
}
