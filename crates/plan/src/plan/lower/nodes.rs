//! Nodes that are neither windows nor calculations: arrays, unions, limits, rows in the text.

use super::super::unnest::CrossUnnest;
use super::Bound;
use super::{At, Col, Lowering, Rel, is_work};
use arrow::array::{RecordBatch, RecordBatchOptions, new_empty_array};
use arrow::compute::concat;
use arrow::datatypes::{Field, Schema};
use datafusion_physical_expr::PhysicalExpr;
use millstream_core::{Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Exchange, Input, NodeKind, Unnest};
use std::sync::Arc;

impl Lowering<'_, '_> {
    pub fn unnest(&mut self, rel: Rel, unnest: &CrossUnnest) -> Result<Rel> {
        let mut rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        let input = unnest.input.schema();
        let one = std::slice::from_ref(&unnest.array);
        if rel.filter.is_some()
            || self.repeats_work(&rel, input, one)?
            || rel.columns.iter().any(|c| c.value().is_some_and(|e| is_work(e.physical.as_ref())))
        {
            rel = self.settle(rel)?;
        }
        let array = self.value(&rel, input, &unnest.array, "array")?;
        // Rows are copied for each element, so only the columns that are needed go in.
        let mut wanted: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        wanted.extend(rel.order.clone());
        wanted.push(array.clone());
        let order = rel.order.is_some();
        let (node, at) = self.emit(&rel, &wanted)?;
        let schema = self.schema(node);
        let array = Expr::column(&schema, at[at.len() - 1]);
        for (c, i) in rel.columns.iter_mut().zip(&at) {
            let name = c.value().map(|e| e.field.name().clone()).unwrap_or_default();
            let mut e = Expr::column(&schema, *i);
            e.field = e.field.with_name(name);
            c.at = At::Value(e);
        }
        rel.order = order.then(|| Expr::column(&schema, at[at.len() - 2]));
        (rel.clock, rel.watermark) = (None, None);
        let width = schema.fields().len();
        let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        fields.extend(unnest.schema.fields().iter().skip(input.fields().len()).map(|f| f.as_ref().clone()));
        let out = Arc::new(Schema::new(fields));
        let label = format!("Unnest({})", array.sql);
        let kind = NodeKind::Unnest(Unnest { array, outer: unnest.outer, with_ordinality: unnest.with_ordinality });
        rel.node = self.graph.add(label, kind, vec![Input::forward(node)], out.clone());
        rel.filter = None;
        rel.columns.extend((width..out.fields().len()).map(|i| Col::plain(Expr::column(&out, i))));
        Ok(rel)
    }

    pub fn union(&mut self, inputs: Vec<Rel>, schema: &Schema) -> Result<Rel> {
        let mut times: Vec<Option<TimeDomain>> = Vec::new();
        let mut bounds: Vec<Option<Bound>> = Vec::new();
        let mut ports = Vec::with_capacity(inputs.len());
        for (n, rel) in inputs.into_iter().enumerate() {
            let of = |c: &Col| c.bound.map(|b| Bound { window: 0, ..b });
            if n == 0 {
                times = rel.columns.iter().map(|c| c.time).collect();
                bounds = rel.columns.iter().map(of).collect();
            }
            // A column follows a clock, or bounds a window, only where it does in every input.
            for (i, c) in rel.columns.iter().enumerate() {
                times[i] = times[i].filter(|t| c.time == Some(*t));
                bounds[i] = bounds[i].filter(|b| of(c) == Some(*b));
            }
            let node = self.emit_exactly(rel, schema)?;
            ports.push(node);
        }
        let out = self.union_schema(&ports, schema);
        let ports = ports.into_iter().map(Input::forward).collect();
        let node = self.graph.add("Union".into(), NodeKind::Union, ports, out.clone());
        let window = self.next_window();
        let columns = (0..out.fields().len()).map(|i| Col {
            at: At::Value(Expr::column(&out, i)),
            time: times[i],
            bound: bounds[i].map(|b| Bound { window, ..b }),
        });
        Ok(Rel { node, columns: columns.collect(), ..Rel::default() })
    }

    pub fn limit(&mut self, rel: Rel, rows: u64) -> Result<Rel> {
        let rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        self.insert_only(&rel, "LIMIT without ORDER BY")?;
        let mut rel = self.settle(rel)?;
        let schema = self.schema(rel.node);
        let input = Input { node: rel.node, port: 0, exchange: Exchange::Single };
        rel.node = self.graph.add(format!("Limit({rows})"), NodeKind::Limit(rows), vec![input], schema);
        Ok(rel)
    }

    /// A few rows that stand in the text.
    pub fn values(&mut self, schema: &Schema, rows: Vec<Vec<Arc<dyn PhysicalExpr>>>) -> Result<Rel> {
        let fields: Vec<Field> =
            schema.fields().iter().map(|f| Field::new(f.name(), f.data_type().clone(), true)).collect();
        let schema = Arc::new(Schema::new(fields));
        let one = RecordBatchOptions::new().with_row_count(Some(1));
        let none = RecordBatch::try_new_with_options(Arc::new(Schema::empty()), Vec::new(), &one)?;
        let mut columns = Vec::with_capacity(schema.fields().len());
        for (i, field) in schema.fields().iter().enumerate() {
            let mut cells = Vec::with_capacity(rows.len());
            for row in &rows {
                let cell = row[i].evaluate(&none).and_then(|v| v.into_array(1)).map_err(|e| self.compiler.fail(e))?;
                cells.push(arrow::compute::cast(&cell, field.data_type())?);
            }
            let cells: Vec<&dyn arrow::array::Array> = cells.iter().map(AsRef::as_ref).collect();
            columns.push(if cells.is_empty() { new_empty_array(field.data_type()) } else { concat(&cells)? });
        }
        let count = RecordBatchOptions::new().with_row_count(Some(rows.len()));
        let batch = RecordBatch::try_new_with_options(schema.clone(), columns, &count)?;
        let label = format!("Values({} {})", rows.len(), if rows.len() == 1 { "row" } else { "rows" });
        let node = self.graph.add(label, NodeKind::Values(batch), Vec::new(), schema.clone());
        let columns = (0..schema.fields().len()).map(|i| Col::plain(Expr::column(&schema, i)));
        Ok(Rel { node, columns: columns.collect(), ..Rel::default() })
    }
}
