//! Which fields of ROW columns a job reads: sources leave the others out.
//!
//! ```text
//!  bid ROW<auction, bidder, price, url, extra>      get_field(bid, auction), get_field(bid, price)
//!                                          ──▶  bid ROW<auction, price>
//! ```
//!
//! A column is cut down where everything that reads it names a field: the columns that the source computes, and the
//! [`Calc`](NodeKind::Calc)s right behind it. Whoever takes the row as a whole, were it only to ask whether it is NULL, gets
//! the whole of it. Expressions find fields by name, so they stay as they are.

use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef};
use datafusion_physical_expr::expressions::{Column, Literal};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use millstream_core::Connectors;
use millstream_dataflow::graph::{Dataflow, Exchange, NodeKind, SourceNode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Cuts the ROW columns of all sources down whose connectors find fields by name.
pub fn prune(dataflow: &mut Dataflow, connectors: &dyn Connectors) {
    for node in 0..dataflow.nodes.len() {
        let NodeKind::Source(source) = &dataflow.nodes[node].kind else { continue };
        if !connectors.finds_fields_by_name(&source.table) {
            continue;
        }
        let stored = source.table.schema.clone();
        let positions = source.table.projection.clone().unwrap_or_else(|| (0..stored.fields().len()).collect());
        for (raw, column) in positions.into_iter().enumerate() {
            if !matches!(stored.field(column).data_type(), DataType::Struct(_)) {
                continue;
            }
            if let Some(narrow) = uses(dataflow, node, raw).cut(stored.field(column)) {
                replace(dataflow, node, raw, column, &narrow);
            }
        }
    }
}

/// What is read of a value.
#[derive(Debug, Default, PartialEq, Eq)]
enum Use {
    /// Nothing so far.
    #[default]
    Nothing,
    Fields(BTreeMap<String, Use>),
    Whole,
}

impl Use {
    /// The fields of this path are read: of `bid`, then of what is in it. An empty path reads all.
    fn add(&mut self, path: &[&str]) {
        match (path, &mut *self) {
            (_, Use::Whole) => {}
            ([], _) => *self = Use::Whole,
            ([first, rest @ ..], Use::Fields(fields)) => fields.entry((*first).to_owned()).or_default().add(rest),
            (_, Use::Nothing) => {
                *self = Use::Fields(BTreeMap::new());
                self.add(path);
            }
        }
    }

    /// The field with only what is read of it, if that is less.
    fn cut(&self, field: &Field) -> Option<Field> {
        let (Use::Fields(used), DataType::Struct(fields)) = (self, field.data_type()) else { return None };
        let kept = fields.iter().filter_map(|f| {
            let within = used.get(f.name())?;
            Some(within.cut(f).map_or_else(|| f.clone(), Arc::new))
        });
        let kept: Fields = kept.collect();
        // A name that is there twice is left alone, and so is what nothing is known to be read of.
        let names_differ = used.len() == kept.len();
        (names_differ && kept != *fields).then(|| field.clone().with_data_type(DataType::Struct(kept)))
    }
}

/// What a job reads of column `raw` of the rows that a source reads.
fn uses(dataflow: &Dataflow, node: usize, raw: usize) -> Use {
    let mut all = Use::Nothing;
    let NodeKind::Source(source) = &dataflow.nodes[node].kind else { return Use::Whole };
    // Where it stands in the rows that the source hands on.
    let mut handed_on = Vec::new();
    match &source.computed {
        None => handed_on.push(raw),
        Some(columns) => {
            for (at, e) in columns.iter().enumerate() {
                match e.as_column() {
                    Some(c) if c == raw => handed_on.push(at),
                    _ => reads(&e.physical, raw, &mut all),
                }
            }
        }
    }
    for at in handed_on {
        if let Some(watermark) = &source.watermark {
            reads(&watermark.expression.physical, at, &mut all);
        }
        for reader in &dataflow.nodes {
            for input in reader.inputs.iter().filter(|input| input.node == node) {
                match (&reader.kind, &input.exchange) {
                    (NodeKind::Calc(calc), Exchange::Hash(keys)) if calc.columns.is_some() && keys.contains(&at) => {
                        all.add(&[]);
                    }
                    (NodeKind::Calc(calc), _) if calc.columns.is_some() => {
                        let columns = calc.columns.iter().flatten().chain(&calc.filter);
                        columns.for_each(|e| reads(&e.physical, at, &mut all));
                    }
                    _ => all.add(&[]),
                }
            }
        }
    }
    all
}

/// What an expression reads of a column.
fn reads(e: &Arc<dyn PhysicalExpr>, column: usize, all: &mut Use) {
    match path(e.as_ref()) {
        Some((of, path)) if of == column => all.add(&path),
        Some(_) => {}
        None => e.children().into_iter().for_each(|child| reads(child, column, all)),
    }
}

/// The column and the path of fields in it that an expression names and does nothing else.
fn path(e: &dyn PhysicalExpr) -> Option<(usize, Vec<&str>)> {
    if let Some(column) = e.downcast_ref::<Column>() {
        return Some((column.index(), Vec::new()));
    }
    let f = e.downcast_ref::<ScalarFunctionExpr>().filter(|f| f.name() == "get_field")?;
    let (of, names) = f.args().split_first()?;
    let (column, mut all) = path(of.as_ref())?;
    for name in names {
        all.push(name.downcast_ref::<Literal>()?.value().try_as_str()??);
    }
    Some((column, all))
}

/// Puts `narrow` in the place of a source's column, wherever its type stands.
fn replace(dataflow: &mut Dataflow, node: usize, raw: usize, column: usize, narrow: &Field) {
    let node = &mut dataflow.nodes[node];
    let NodeKind::Source(SourceNode { table, computed, .. }) = &mut node.kind else { return };
    table.schema = with(&table.schema, column, narrow.data_type());
    match computed {
        None => node.schema = with(&node.schema, raw, narrow.data_type()),
        Some(columns) => {
            for (at, e) in columns.iter_mut().enumerate().filter(|(_, e)| e.as_column() == Some(raw)) {
                e.field = e.field.clone().with_data_type(narrow.data_type().clone());
                node.schema = with(&node.schema, at, narrow.data_type());
            }
        }
    }
}

fn with(schema: &SchemaRef, column: usize, of: &DataType) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields[column] = Arc::new(fields[column].as_ref().clone().with_data_type(of.clone()));
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}
