//! Filter, then compute: `SELECT expressions FROM input WHERE condition`.
//!
//! A column that is handed through is shared, not copied. Where the filter drops rows, only the columns that the
//! expressions read are filtered, of a ROW only the fields, and the expressions see what is left.

use crate::expr::Expr;
use crate::fuse::fuse;
use crate::fuse::parts::Parts;
use crate::fuse::reads::Reads;
use crate::graph;
use crate::operator::{Event, Operator, Output};
use crate::rows::conform;
use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch};
use arrow::compute::FilterBuilder;
use arrow::datatypes::{DataType, Int8Type, Int64Type, Schema, SchemaRef};
use datafusion_common::DataFusionError;
use millstream_core::{Batch, Error, Result};
use std::sync::Arc;

/// Keeps the rows where the filter holds (NULL does not) and makes the columns of them.
pub struct Calc {
    filter: Option<Expr>,
    /// `None`: all columns as they are.
    columns: Option<Columns>,
    output: SchemaRef,
}

struct Columns {
    /// Over the whole input.
    whole: Work,
    /// What the expressions read of the input, columns and fields of ROW columns, and the expressions over that alone.
    reads: Vec<Expr>,
    narrow_input: SchemaRef,
    narrow: Work,
}

/// Expressions over one batch.
struct Work {
    exprs: Vec<Expr>,
    /// Texts that several of the expressions cut parts out of, and where each of these finds its part.
    parts: Vec<Parts>,
    places: Vec<Option<(usize, usize)>>,
}

impl Calc {
    /// `input`: the columns taken in; `output`: the columns handed on, as the graph's node says.
    pub fn new(spec: &graph::Calc, input: &Schema, output: SchemaRef) -> Result<Calc> {
        if let Some(filter) = &spec.filter
            && *filter.field.data_type() != DataType::Boolean
        {
            let found = filter.field.data_type();
            return Err(Error::internal(format!("the condition `{}` has type {found}, not BOOLEAN", filter.sql)));
        }
        let filter = spec.filter.as_ref().map(|f| fuse(f, input)).transpose()?;
        let columns = spec.columns.as_deref().map(|c| Columns::new(c, input)).transpose()?;
        Ok(Calc { filter, columns, output })
    }

    fn compute(&self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let Some(filter) = &self.filter else { return self.emit_whole(batch, out) };
        let condition = filter.evaluate(&batch.rows)?;
        let keep = condition.as_boolean();
        match keep.true_count() {
            0 => Ok(()),
            all if all == batch.len() => self.emit_whole(batch, out),
            some => self.emit_some(&batch, keep, some, out),
        }
    }

    fn emit_whole(&self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        let columns = match &self.columns {
            None => batch.rows.columns().to_vec(),
            Some(c) => c.whole.evaluate(&batch.rows)?,
        };
        out.emit(0, batch.with_rows(conform(&self.output, columns, batch.len())?))
    }

    fn emit_some(&self, batch: &Batch, keep: &BooleanArray, rows: usize, out: &mut dyn Output) -> Result<()> {
        let keep = FilterBuilder::new(keep).optimize().build();
        let columns: Vec<ArrayRef> = match &self.columns {
            None => batch.rows.columns().iter().map(|c| keep.filter(c)).collect::<Result<_, _>>()?,
            Some(c) => {
                let read = |e: &Expr| Ok(keep.filter(&e.evaluate(&batch.rows)?)?);
                let read = c.reads.iter().map(read).collect::<Result<Vec<_>>>()?;
                c.narrow.evaluate(&conform(&c.narrow_input, read, rows)?)?
            }
        };
        let marks = batch.marks.as_ref().map(|m| keep.filter(m)).transpose()?;
        let kinds = batch.kinds.as_ref().map(|k| keep.filter(k)).transpose()?;
        out.emit(
            0,
            Batch {
                rows: conform(&self.output, columns, rows)?,
                marks: marks.map(|m| m.as_primitive::<Int64Type>().clone()),
                kinds: kinds.map(|k| k.as_primitive::<Int8Type>().clone()),
            },
        )
    }
}

impl Columns {
    fn new(whole: &[Expr], input: &Schema) -> Result<Columns> {
        let mut reads = Reads::default();
        let narrow = |e: &Expr| {
            let narrow = reads.narrow(&e.physical, Some(input))?;
            Ok(Expr::new(narrow, e.field.clone(), e.sql.clone()))
        };
        let misfit = |e: DataFusionError| Error::internal(format!("what expressions read: {e}"));
        let narrow = whole.iter().map(narrow).collect::<Result<Vec<_>, _>>().map_err(misfit)?;
        let narrow_input = Arc::new(reads.schema(input).map_err(misfit)?);
        let narrow = Work::new(&narrow, &narrow_input)?;
        let reads = reads.exprs.into_iter().zip(narrow_input.fields()).map(|(e, field)| {
            let sql = e.to_string();
            Expr::new(e, field.as_ref().clone(), sql)
        });
        Ok(Columns { whole: Work::new(whole, input)?, reads: reads.collect(), narrow_input, narrow })
    }
}

impl Work {
    fn new(exprs: &[Expr], input: &Schema) -> Result<Work> {
        let exprs = exprs.iter().map(|e| fuse(e, input)).collect::<Result<Vec<_>>>()?;
        let physical: Vec<_> = exprs.iter().map(|e| e.physical.clone()).collect();
        let (parts, places) = Parts::gather(&physical, input);
        Ok(Work { exprs, parts, places })
    }

    /// One column for each expression.
    fn evaluate(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>> {
        let parts: Vec<Vec<ArrayRef>> =
            self.parts.iter().map(|p| p.evaluate(rows)).collect::<Result<_, _>>().map_err(|e| {
                Error::data(e.strip_backtrace()).remedy("read smaller batches from the source, or shorter texts")
            })?;
        let one = |(e, place): (&Expr, &Option<(usize, usize)>)| match place {
            Some((text, part)) => Ok(parts[*text][*part].clone()),
            None => e.evaluate(rows),
        };
        self.exprs.iter().zip(&self.places).map(one).collect()
    }
}

impl Operator for Calc {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.compute(batch, out),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }
}
