//! Tables that bring changes: which there are below a node, and what is said of a change and not of its row.
//!
//! A table that tells a row once more when it is gone tells with it *when and where that was said*: the offset, the timestamp of
//! the record. The row had others when it was given. So nobody may look for the row by these columns. Where the table has a primary
//! key, the rows are remembered by it and taken back as they were; where it has none, such a query is refused.

use super::Lowering;
use arrow::datatypes::Schema;
use datafusion_physical_expr::utils::collect_columns;
use millstream_core::{Error, Result};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Changes, Node, NodeKind};
use std::collections::BTreeSet;

impl Lowering<'_, '_> {
    /// The first table below a node that brings changes, with nothing between that would make them new rows.
    pub fn changing_table(&self, node: usize) -> Option<&str> {
        self.below(node, &|kind| match kind {
            NodeKind::Source(s) if s.brings != Changes::Insert => Some(s.table.name.as_str()),
            _ => None,
        })
    }

    /// Whether rows below a node are taken back as their table tells them once more, and not as they were given.
    pub fn told_again(&self, node: usize) -> bool {
        let told = self.below(node, &|kind| match kind {
            NodeKind::Source(s) if s.brings == Changes::Retract => Some(""),
            _ => None,
        });
        told.is_some()
    }

    fn below<'s>(&'s self, node: usize, found: &impl Fn(&'s NodeKind) -> Option<&'s str>) -> Option<&'s str> {
        let node: &'s Node = &self.graph.nodes[node];
        if node.changes == Changes::Insert {
            return None;
        }
        found(&node.kind).or_else(|| node.inputs.iter().find_map(|input| self.below(input.node, found)))
    }

    /// # Errors
    /// A query that goes by what is said of a change, over a table without a primary key.
    pub fn check_of_change(&self) -> Result<()> {
        if self.of_change.is_empty() {
            return Ok(());
        }
        let mut columns: Vec<BTreeSet<usize>> = Vec::with_capacity(self.graph.nodes.len());
        for (i, node) in self.graph.nodes.iter().enumerate() {
            let input = |n: usize| node.inputs.get(n).map_or_else(BTreeSet::new, |input| columns[input.node].clone());
            let refuse = |said: &BTreeSet<usize>, n: usize| -> Result<()> {
                let Some(first) = said.first() else { return Ok(()) };
                let from = node.inputs[n].node;
                let schema: &Schema = &self.graph.nodes[from].schema;
                let table = self.changing_table(from).unwrap_or_default();
                let e = Error::sql(format!(
                    "`{}` says something of a change of `{table}` and not of its row: when the row is taken back it has another \
                     value, so the query would not find it",
                    schema.field(*first).name()
                ))
                .remedy(
                    "declare PRIMARY KEY (..) NOT ENFORCED on the table, and its rows are remembered and taken back as they were; \
                     or leave the column out",
                );
                // Planned before, so it is there.
                Err(match self.provider.table(table) {
                    Ok(declared) => e.at(declared.def.place.clone()),
                    Err(_) => e,
                })
            };
            let said = match &node.kind {
                NodeKind::Source(_) => self.of_change.get(&i).cloned().unwrap_or_default(),
                NodeKind::Calc(calc) => {
                    let said = input(0);
                    let reads = |e: &Expr| collect_columns(&e.physical).iter().any(|c| said.contains(&c.index()));
                    if calc.filter.as_ref().is_some_and(reads) {
                        refuse(&said, 0)?;
                    }
                    match &calc.columns {
                        None => said,
                        Some(made) => (0..made.len()).filter(|c| reads(&made[*c])).collect(),
                    }
                }
                NodeKind::Union => (0..node.inputs.len()).flat_map(input).collect(),
                // Versions are not looked for by what they are.
                NodeKind::TemporalJoin(_) => {
                    refuse(&input(0), 0)?;
                    BTreeSet::new()
                }
                NodeKind::Sink(_) => BTreeSet::new(),
                _ => {
                    for n in 0..node.inputs.len() {
                        refuse(&input(n), n)?;
                    }
                    BTreeSet::new()
                }
            };
            columns.push(said);
        }
        Ok(())
    }
}
