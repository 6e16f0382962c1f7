//! Where rows go: the tables that a job writes to, and which changes they take.

use super::super::placed::placed;
use super::super::{PlannedStatement, UPDATES, changes};
use super::{Lowering, refuse, says_proctime, says_watermark};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_sql::sqlparser::ast;
use millstream_core::table::Takes;
use millstream_core::{Error, Result};
use millstream_dataflow::graph::{Changes, Dataflow, Exchange, Input, Node, NodeKind, SinkNode};
use std::sync::Arc;

impl Lowering<'_, '_> {
    /// Adds the nodes of a statement. Its sink comes with [`Lowering::finish`].
    pub fn statement(&mut self, statement: &PlannedStatement, query: &ast::Query) -> Result<()> {
        self.clock = says_proctime(&statement.logical);
        self.watermarks = says_watermark(&statement.logical);
        let lowered = refuse::refuse_unknown(&statement.logical).and_then(|()| self.lower(&statement.logical, false));
        let lowered = lowered.and_then(|rel| self.hints.end().map(|()| rel));
        let rel = lowered.map_err(|e| self.locate(e, query).at(statement.place.clone()))?;
        let node = self.emit_exactly(rel, &statement.sink.schema)?;
        match self.sinks.iter_mut().find(|(s, _)| s.table.name == statement.sink.name) {
            Some((_, nodes)) => nodes.push(node),
            None => {
                let sink = SinkNode { table: statement.sink.clone(), not_null: statement.not_null };
                self.sinks.push((sink, vec![node]));
            }
        }
        Ok(())
    }

    /// The whole job. A table that several statements write to has one sink.
    pub fn finish(mut self) -> Result<Dataflow> {
        for (mut sink, mut nodes) in std::mem::take(&mut self.sinks) {
            if nodes.len() > 1 {
                let ports = nodes.iter().map(|n| Input::forward(*n)).collect();
                let schema = self.union_schema(&nodes, &sink.table.schema);
                nodes = vec![self.graph.add("Union".into(), NodeKind::Union, ports, schema)];
            }
            let schema = self.schema(nodes[0]);
            let label = format!("Sink({})", sink.table.name);
            let input = self.sink_input(&sink, nodes[0])?;
            if sink.table.connector() == "result" && self.graph.nodes[nodes[0]].changes != Changes::Insert {
                sink.table.options.insert(UPDATES.into(), "true".into());
            }
            self.graph.add(label, NodeKind::Sink(sink), vec![input], schema);
        }
        self.check_of_change()?;
        let mut dataflow = self.graph.into_dataflow();
        drop_unread(&mut dataflow.nodes);
        let takes: Vec<Option<Takes>> = dataflow
            .nodes
            .iter()
            .map(|n| match &n.kind {
                NodeKind::Sink(sink) => Some(self.connectors.takes(&sink.table)),
                _ => None,
            })
            .collect();
        changes::settle(&mut dataflow.nodes, |sink| takes[sink] != Some(Takes::Upserts));
        Ok(dataflow)
    }

    /// How rows get to a table that is written to.
    ///
    /// # Errors
    /// A result that is updated, for a table that can only add rows.
    pub fn sink_input(&mut self, sink: &SinkNode, node: usize) -> Result<Input> {
        if self.graph.nodes[node].changes == Changes::Insert {
            return Ok(Input::forward(node));
        }
        let at = |e: Error| match &sink.table.place {
            Some(place) => e.at(place.clone()),
            None => e,
        };
        match self.connectors.takes(&sink.table) {
            Takes::All => Ok(Input::forward(node)),
            Takes::Retractions if self.graph.nodes[node].changes == Changes::Upsert => Err(at(Error::sql(format!(
                "windows with allowed lateness say only what replaces a result, and `{}` has to be told what it replaces",
                sink.table.name
            ))
            .remedy(
                "SET 'table.exec.emit.allow-lateness' = '0 ms', write EMIT .. RETRACTING, or write by key ('upsert-kafka', 'jdbc', 'delta')",
            ))),
            Takes::Retractions => Ok(Input::forward(node)),
            Takes::Inserts if matches!(self.graph.nodes[node].kind, NodeKind::WindowAggregate(_)) => {
                // Late rows within the allowed lateness may never come.
                Ok(Input::forward(node))
            }
            Takes::Inserts if self.tells_panes(node) => Err(at(Error::sql(format!(
                "EMIT updates what it has told (RETRACTING), and `{}` ('{}') can only add rows",
                sink.table.name,
                sink.table.connector()
            ))
            .remedy(
                "add DISCARDING or ACCUMULATING to EMIT, so that each pane is a new row, or write to a table with a PRIMARY KEY \
                 that takes updates ('jdbc', 'delta')",
            ))),
            Takes::Inserts => Err(at(Error::sql(format!(
                "the result is updated while rows come, and `{}` ('{}') can only add rows",
                sink.table.name,
                sink.table.connector()
            ))
            .remedy(
                "write to a table with a PRIMARY KEY that takes updates ('jdbc', 'delta'), or aggregate by windows, whose results are \
                 final; a plain SELECT and 'print' show the changes",
            ))),
            Takes::Upserts => {
                let schema = self.schema(node);
                let key: Option<changes::Key> =
                    sink.table.primary_key.iter().map(|name| schema.index_of(name).ok()).collect();
                let key = key.ok_or_else(|| Error::internal("a primary key that is no column of its table"))?;
                let columns: Vec<usize> = key.iter().copied().collect();
                if self.graph.keys[node].iter().any(|k| k.is_subset(&key)) {
                    let in_order = placed(&self.graph.nodes, node).iter().any(|p| p.is_subset(&key));
                    let exchange = if in_order { Exchange::Forward } else { Exchange::Hash(columns) };
                    return Ok(Input { node, port: 0, exchange });
                }
                // Rows of one key of the table come from several of the query, in any order.
                let names = sink.table.primary_key.join(", ");
                let exchange = Exchange::Hash(columns.clone());
                let kind = NodeKind::UpsertMaterialize { keys: columns, update_before: true };
                let input = Input { node, port: 0, exchange };
                let node = self.graph.add(format!("UpsertMaterialize(by {names})"), kind, vec![input], schema);
                Ok(Input::forward(node))
            }
        }
    }

    /// The names and types of `schema`; a column may be NULL where it may be in one of the inputs.
    pub fn union_schema(&self, inputs: &[usize], schema: &Schema) -> SchemaRef {
        let fields = schema.fields().iter().enumerate().map(|(i, f)| {
            let nullable = inputs.iter().any(|n| self.graph.nodes[*n].schema.field(i).is_nullable());
            Field::new(f.name(), f.data_type().clone(), nullable)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// Takes out the nodes that no table that is written to depends on: what was lowered to be looked into alone.
fn drop_unread(nodes: &mut Vec<Node>) {
    let mut read: Vec<bool> = nodes.iter().map(|n| matches!(n.kind, NodeKind::Sink(_))).collect();
    // Inputs come before who reads them, so one pass from the end sees every reader first.
    for (i, node) in nodes.iter().enumerate().rev() {
        if read[i] {
            node.inputs.iter().for_each(|input| read[input.node] = true);
        }
    }
    let mut before = 0;
    let places = read.iter().map(|r| {
        before += usize::from(*r);
        before - usize::from(*r)
    });
    let places: Vec<usize> = places.collect();
    let mut kept = read.iter();
    nodes.retain(|_| kept.next().copied().unwrap_or(true));
    nodes.iter_mut().flat_map(|n| n.inputs.iter_mut()).for_each(|input| input.node = places[input.node]);
}
