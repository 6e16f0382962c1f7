//! Does what a [`Rel`] has noted: filters, columns and windows become nodes.

use super::super::graph::volatile;
use super::super::window::{WindowKind, describe};
use super::{At, Lowering, Rel, Versioned, by, window_of};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream_core::{Error, Result};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Calc, Exchange, Input, NodeKind, WindowRows, WindowTime};
use std::sync::Arc;

impl Lowering<'_, '_> {
    /// Does what is noted: afterwards every column is a column of the node, and there is no filter. A pending window
    /// stays pending.
    pub fn settle(&mut self, rel: Rel) -> Result<Rel> {
        let mut wanted: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        if let Some(w) = &rel.window {
            wanted.push(w.time.clone());
            wanted.extend(w.partition.iter().cloned());
        }
        wanted.extend(rel.order.clone());
        wanted.extend(rel.clock.clone());
        wanted.extend(rel.watermark.clone());
        wanted.extend(rel.versions.iter().flat_map(Versioned::columns).cloned());
        let (node, at) = self.emit(&rel, &wanted)?;
        let schema = self.schema(node);
        let mut at = at.into_iter();
        let mut next = |e: &Expr| {
            let mut column = Expr::column(&schema, at.next().unwrap_or_default());
            column.field = column.field.with_name(e.field.name());
            column
        };
        let mut settled = Rel { node, filter: None, ..rel };
        for c in &mut settled.columns {
            if let At::Value(e) = &mut c.at {
                *e = next(e);
            }
        }
        if let Some(w) = &mut settled.window {
            w.time = next(&w.time);
            w.partition = w.partition.iter().map(&mut next).collect();
        }
        settled.order = settled.order.as_ref().map(&mut next);
        settled.clock = settled.clock.as_ref().map(&mut next);
        settled.watermark = settled.watermark.as_ref().map(&mut next);
        if let Some(v) = &mut settled.versions {
            v.columns_mut().for_each(|e| *e = next(e));
        }
        Ok(settled)
    }

    /// A node that has these expressions among its columns, and where. The node itself where it has just them.
    pub fn emit(&mut self, rel: &Rel, wanted: &[Expr]) -> Result<(usize, Vec<usize>)> {
        let width = self.schema(rel.node).fields().len();
        let plain: Option<Vec<usize>> = wanted.iter().map(Expr::as_column).collect();
        if let (None, Some(at)) = (&rel.filter, plain)
            && (0..width).all(|i| at.contains(&i))
        {
            return Ok((rel.node, at));
        }
        let mut columns: Vec<Expr> = Vec::new();
        let mut at = Vec::with_capacity(wanted.len());
        for e in wanted {
            let same = |c: &Expr| *c.physical == *e.physical && !volatile(&e.physical);
            at.push(columns.iter().position(same).unwrap_or_else(|| {
                columns.push(e.clone());
                columns.len() - 1
            }));
        }
        Ok((self.calc(rel.node, rel.filter.clone(), columns), at))
    }

    pub fn calc(&mut self, input: usize, filter: Option<Expr>, columns: Vec<Expr>) -> usize {
        let schema = Arc::new(Schema::new(columns.iter().map(|e| e.field.clone()).collect::<Vec<_>>()));
        let named = |e: &Expr| {
            if e.sql == *e.field.name() { e.sql.clone() } else { format!("{} AS {}", e.sql, e.field.name()) }
        };
        let mut label = columns.iter().map(named).collect::<Vec<_>>().join(", ");
        if let Some(f) = &filter {
            label = format!("{label} WHERE {}", f.sql);
        }
        let kind = NodeKind::Calc(Calc { filter, columns: Some(columns) });
        self.graph.add(format!("Calc({label})"), kind, vec![Input::forward(input)], schema)
    }

    /// A node whose columns are the columns of the rel, in order, under the names of `schema`.
    pub fn emit_exactly(&mut self, rel: Rel, schema: &Schema) -> Result<usize> {
        let rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        let mut columns: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        let input = self.schema(rel.node);
        for (e, f) in columns.iter_mut().zip(schema.fields()) {
            e.field = e.field.clone().with_name(f.name());
        }
        let as_is = rel.filter.is_none()
            && columns.len() == input.fields().len()
            && columns
                .iter()
                .enumerate()
                .all(|(i, e)| e.as_column() == Some(i) && e.field.name() == input.field(i).name());
        if as_is { Ok(rel.node) } else { Ok(self.calc(rel.node, rel.filter, columns)) }
    }

    /// Gives each row its windows: the bounds become columns.
    pub fn window_rows(&mut self, rel: Rel) -> Result<Rel> {
        let mut rel = self.settle(rel)?;
        let Some(pending) = rel.window.take() else { return Ok(rel) };
        let column = |e: &Expr| e.as_column().ok_or_else(|| Error::internal("a settled expression is no column"));
        let input = self.schema(rel.node);
        let time = column(&pending.time)?;
        let partition = pending.partition.iter().map(column).collect::<Result<Vec<_>>>()?;
        let order = rel.order.as_ref().map(column).transpose()?;
        let bound = DataType::Timestamp(TimeUnit::Millisecond, None);
        let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        let width = fields.len();
        fields.push(Field::new("window_start", bound.clone(), false));
        fields.push(Field::new("window_end", bound, false));
        fields.push(Field::new("window_time", input.field(time).data_type().clone(), false));
        let schema = Arc::new(Schema::new(fields));
        let exchange = match &pending.kind {
            WindowKind::Session { .. } if partition.is_empty() => Exchange::Single,
            WindowKind::Session { .. } => Exchange::Hash(partition.clone()),
            _ => Exchange::Forward,
        };
        let label = format!("WindowRows({}{})", describe(&pending.kind), by(&input, &partition));
        let kind = NodeKind::WindowRows(WindowRows {
            window: window_of(&pending.kind, partition),
            time: WindowTime { column: time, domain: pending.domain, zone: pending.zone },
            order,
        });
        let node = self.graph.add(label, kind, vec![Input { node: rel.node, port: 0, exchange }], schema.clone());
        rel.node = node;
        for c in &mut rel.columns {
            if let At::Window(part) = c.at {
                let index = width + part as usize;
                c.at = At::Value(Expr::column(&schema, index));
            }
        }
        let tests = std::mem::take(&mut rel.bounds_filter);
        self.apply_bounds_filter(rel, tests, |part| width + part)
    }
}
