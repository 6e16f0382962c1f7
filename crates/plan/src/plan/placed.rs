//! Which columns decide on what task a row is.
//!
//! Rows that are equal in these columns go through one task, one behind the other. What is written by a key that they are part of is
//! therefore in order already, and needs no exchange.

use super::changes::Key;
use millstream_dataflow::graph::{JoinKind, Node, NodeKind, Window, WindowPanes};

/// Sets of columns of a node, each of which decides alone. Empty: none is known; an empty set: all rows are on one task.
pub fn placed(nodes: &[Node], node: usize) -> Vec<Key> {
    let through = |i: usize| nodes[node].inputs.get(i).map_or_else(Vec::new, |input| placed(nodes, input.node));
    let key = |columns: &[usize]| vec![columns.iter().copied().collect::<Key>()];
    match &nodes[node].kind {
        NodeKind::Calc(calc) => match &calc.columns {
            None => through(0),
            Some(columns) => {
                let to = |c: &usize| columns.iter().position(|e| e.as_column() == Some(*c));
                through(0).iter().filter_map(|key| key.iter().map(to).collect::<Option<Key>>()).collect()
            }
        },
        NodeKind::Unnest(_) | NodeKind::LookupJoin(_) => through(0),
        NodeKind::GroupAggregate(g) => vec![(0..g.keys.len()).collect()],
        // Windows that stand in columns are divided by them too; these follow the keys.
        NodeKind::WindowAggregate(w) | NodeKind::WindowPanes(WindowPanes { windows: w, .. }) => {
            let bounds = if matches!(w.window, Window::Attached { .. }) { 2 } else { 0 };
            vec![(0..w.keys.len() + bounds).collect()]
        }
        NodeKind::WindowRows(w) => match &w.window {
            Window::Session { partition, .. } => key(partition),
            _ => through(0),
        },
        NodeKind::TopN(t) => key(&t.partition),
        NodeKind::Deduplicate(d) => key(&d.keys),
        NodeKind::Over(o) => key(&o.keys),
        NodeKind::UpsertMaterialize { keys, .. } | NodeKind::Normalize { keys, .. } => key(keys),
        NodeKind::Limit(_) => vec![Key::new()],
        NodeKind::TemporalJoin(j) => vec![j.keys.iter().map(|k| k.0).collect()],
        NodeKind::Join(j) => {
            let width = nodes[nodes[node].inputs[0].node].schema.fields().len();
            let left = j.keys.iter().map(|k| k.0).collect();
            let right = j.keys.iter().map(|k| k.1 + width).collect();
            match j.kind {
                JoinKind::Inner => vec![left, right],
                // An outer row has NULLs in place of the other side.
                JoinKind::Left | JoinKind::Semi | JoinKind::Anti | JoinKind::Mark => vec![left],
                JoinKind::Right => vec![right],
                JoinKind::Full if j.keys.is_empty() => vec![left],
                JoinKind::Full => Vec::new(),
            }
        }
        // Made of joins when all rows are placed.
        NodeKind::MultiJoin(_)
        | NodeKind::Source(_)
        | NodeKind::Values(_)
        | NodeKind::Union
        | NodeKind::Expand(_)
        | NodeKind::Sink(_) => Vec::new(),
    }
}
