//! Which streams update what they have said, which columns tell their rows apart, and who has to see the row as it was.
//!
//! ```text
//!  down the graph:   which kinds of rows does a node emit, and which columns are unique among the rows that stand
//!  back up:          does anybody behind need -U? A table that replaces rows by their key does not
//! ```
//!
//! Flink's planner calls the first ModifyKind and upsert keys, the second UpdateKind.

use arrow::datatypes::Schema;
use millstream_core::TimeDomain;
use millstream_dataflow::graph::{Changes, Join, JoinKind, JoinScope, Keep, Node, NodeKind, Panes, TopNScope};
use std::collections::BTreeSet;

/// Columns that together are unique among the rows that stand. Of a node, several such sets may be known.
pub type Key = BTreeSet<usize>;

/// Sets of unique columns that are kept of one node: joins multiply them.
const KEYS_MAX: usize = 8;

/// The kinds of rows that a node emits whose inputs bring `inputs`.
pub fn emitted(kind: &NodeKind, inputs: &[Changes]) -> Changes {
    let most = inputs.iter().copied().max().unwrap_or_default();
    match kind {
        NodeKind::Source(s) => s.brings,
        NodeKind::Values(_) => Changes::Insert,
        NodeKind::Calc(_) | NodeKind::Union | NodeKind::Unnest(_) | NodeKind::Expand(_) | NodeKind::Sink(_) => most,
        // Windows with allowed lateness say the new result alone.
        NodeKind::WindowAggregate(w) if w.lateness > 0 => Changes::Upsert,
        NodeKind::WindowPanes(w) if w.panes == Panes::Retracting => updates(w.update_before),
        NodeKind::WindowPanes(_) => Changes::Insert,
        NodeKind::WindowRows(_) | NodeKind::WindowAggregate(_) | NodeKind::Over(_) | NodeKind::Limit(_) => {
            Changes::Insert
        }
        // DISTINCT over rows that stay.
        NodeKind::GroupAggregate(g) if g.calls.is_empty() && !g.retracts && g.ttl.is_none() => Changes::Insert,
        NodeKind::GroupAggregate(g) => updates(g.update_before),
        NodeKind::Join(Join { scope: JoinScope::Always { .. }, kind, .. }) => match kind {
            JoinKind::Inner | JoinKind::Semi => most,
            // A row without a partner is told at once, and taken back when one comes.
            JoinKind::Left | JoinKind::Right | JoinKind::Full | JoinKind::Anti | JoinKind::Mark => Changes::Retract,
        },
        // What passes by comes out as it came in.
        NodeKind::Join(Join { scope: JoinScope::Broadcast { small, .. }, .. }) => {
            inputs.get(1 - small).copied().unwrap_or_default()
        }
        NodeKind::MultiJoin(j) if j.outer.contains(&true) => Changes::Retract,
        NodeKind::MultiJoin(_) => most,
        NodeKind::Join(_) | NodeKind::TemporalJoin(_) | NodeKind::LookupJoin(_) => Changes::Insert,
        NodeKind::TopN(t) => match t.scope {
            TopNScope::Window { .. } => Changes::Insert,
            // Without a rank a row is not updated, it comes and goes.
            TopNScope::Always { .. } => updates(t.update_before || t.rank.is_none()),
        },
        NodeKind::UpsertMaterialize { update_before, .. } | NodeKind::Normalize { update_before, .. } => {
            updates(*update_before)
        }
        NodeKind::Deduplicate(d) => match (d.keep, d.domain) {
            (Keep::First, TimeDomain::Event | TimeDomain::Processing) => Changes::Insert,
            (Keep::Last, _) => updates(d.update_before),
        },
    }
}

fn updates(update_before: bool) -> Changes {
    if update_before { Changes::Retract } else { Changes::Upsert }
}

/// What is known of an input of a node.
pub struct Known<'k> {
    pub keys: &'k [Key],
    /// Its number of columns.
    pub width: usize,
    pub changes: Changes,
}

/// The unique columns of what a node emits, whose columns are `schema`, such that the changes of one key come in order.
///
/// A row that is updated may move to another task, where its new state comes out before its old one is taken back. So of a node
/// whose rows are divided by some columns, only those keys are left that have them among theirs, unless the rows stay as they are.
pub fn keys(kind: &NodeKind, inputs: &[Known<'_>], schema: &Schema) -> Vec<Key> {
    let of = |i: usize| inputs.get(i).map_or(&[][..], |input| input.keys);
    let stays = |i: usize| inputs.get(i).is_some_and(|input| input.changes == Changes::Insert);
    let in_order = |i: usize, divided: &Key| -> Vec<Key> {
        of(i).iter().filter(|key| stays(i) || divided.is_subset(key)).cloned().collect()
    };
    let mut keys: Vec<Key> = match kind {
        NodeKind::Calc(calc) => match &calc.columns {
            None => of(0).to_vec(),
            Some(columns) => {
                let to = |c: &usize| columns.iter().position(|e| e.as_column() == Some(*c));
                of(0).iter().filter_map(|key| key.iter().map(to).collect::<Option<Key>>()).collect()
            }
        },
        NodeKind::Sink(_) | NodeKind::Limit(_) | NodeKind::Over(_) => of(0).to_vec(),
        // The columns of the aggregation: keys, then start, end and time.
        NodeKind::WindowAggregate(w) => vec![(0..w.keys.len() + 2).collect()],
        NodeKind::WindowPanes(w) if w.panes == Panes::Retracting => vec![(0..w.windows.keys.len() + 2).collect()],
        // A window and key has a row for each of its panes.
        NodeKind::WindowPanes(_) => Vec::new(),
        NodeKind::GroupAggregate(g) => vec![(0..g.keys.len()).collect()],
        NodeKind::Deduplicate(d) => vec![d.keys.iter().copied().collect()],
        NodeKind::UpsertMaterialize { keys, .. } | NodeKind::Normalize { keys, .. } => {
            vec![keys.iter().copied().collect()]
        }
        NodeKind::TopN(t) => {
            let partition: Key = t.partition.iter().copied().collect();
            let mut keys = in_order(0, &partition);
            if let (Some(_), Some(input)) = (&t.rank, inputs.first())
                && matches!(t.function, millstream_dataflow::graph::RankFunction::RowNumber)
            {
                keys.push(partition.iter().copied().chain([input.width]).collect());
            }
            // One row for each partition.
            if t.from == t.to && matches!(t.function, millstream_dataflow::graph::RankFunction::RowNumber) {
                keys.push(partition);
            }
            keys
        }
        NodeKind::Join(j) if matches!(j.kind, JoinKind::Semi | JoinKind::Anti | JoinKind::Mark) => {
            in_order(0, &j.keys.iter().map(|k| k.0).collect())
        }
        NodeKind::Join(j) => {
            let width = inputs.first().map_or(0, |input| input.width);
            let left = in_order(0, &j.keys.iter().map(|k| k.0).collect());
            let right = in_order(1, &j.keys.iter().map(|k| k.1).collect());
            let joined = |key: &Key, side: fn(&(usize, usize)) -> usize| {
                key.iter().all(|c| j.keys.iter().any(|pair| side(pair) == *c))
            };
            let shifted = |key: &Key| -> Key { key.iter().map(|c| c + width).collect() };
            let mut keys = Vec::new();
            // Each row of one side meets one of the other at most: its own key will do. An outer row has NULLs in the other.
            if right.iter().any(|k| joined(k, |p| p.1)) && matches!(j.kind, JoinKind::Inner | JoinKind::Left) {
                keys.extend(left.iter().cloned());
            }
            if left.iter().any(|k| joined(k, |p| p.0)) && matches!(j.kind, JoinKind::Inner | JoinKind::Right) {
                keys.extend(right.iter().map(shifted));
            }
            for l in &left {
                keys.extend(right.iter().map(|r| l.iter().copied().chain(shifted(r)).collect::<Key>()));
            }
            keys
        }
        NodeKind::TemporalJoin(j) => in_order(0, &j.keys.iter().map(|k| k.0).collect()),
        // Each row finds one at most where it asks for the table's own key.
        NodeKind::LookupJoin(j) => {
            let asked: BTreeSet<usize> = j.stored_keys().into_iter().flatten().collect();
            let column = |i: usize| j.table.projection.as_ref().map_or(Some(&i), |p| p.get(i)).copied();
            let names: BTreeSet<&str> =
                asked.into_iter().filter_map(column).map(|c| j.table.schema.field(c).name().as_str()).collect();
            let unique = !j.table.primary_key.is_empty();
            if unique && j.table.primary_key.iter().all(|k| names.contains(k.as_str())) {
                of(0).to_vec()
            } else {
                Vec::new()
            }
        }
        // Declared, and not enforced: taken at its word, as in Flink.
        NodeKind::Source(s) if !s.table.primary_key.is_empty() => {
            let key: Option<Key> = s.table.primary_key.iter().map(|name| schema.index_of(name).ok()).collect();
            key.into_iter().collect()
        }
        // Made of joins when all keys are known.
        NodeKind::MultiJoin(_)
        | NodeKind::Source(_)
        | NodeKind::Values(_)
        | NodeKind::Union
        | NodeKind::WindowRows(_)
        | NodeKind::Unnest(_)
        | NodeKind::Expand(_) => Vec::new(),
    };
    keys.sort_by_key(Key::len);
    keys.dedup();
    keys.truncate(KEYS_MAX);
    keys
}

/// Tells each node whether it has to emit `-U`, and what it then emits. `sink_needs` says it of the sinks, by index.
pub fn settle(nodes: &mut [Node], sink_needs: impl Fn(usize) -> bool) {
    let mut needed = vec![false; nodes.len()];
    for i in (0..nodes.len()).rev() {
        let node = &nodes[i];
        let asks = match &node.kind {
            NodeKind::Sink(_) => sink_needs(i),
            // A row that passes no more has to be taken back by its old columns.
            NodeKind::Calc(calc) => needed[i] || calc.filter.is_some(),
            NodeKind::Union | NodeKind::Expand(_) => needed[i],
            _ => true,
        };
        for input in &node.inputs {
            needed[input.node] |= asks;
        }
    }
    for i in 0..nodes.len() {
        match &mut nodes[i].kind {
            NodeKind::GroupAggregate(g) => g.update_before = needed[i],
            NodeKind::WindowPanes(w) => w.update_before = needed[i],
            NodeKind::TopN(t) => t.update_before = needed[i],
            NodeKind::Deduplicate(d) => d.update_before = needed[i],
            NodeKind::UpsertMaterialize { update_before, .. } | NodeKind::Normalize { update_before, .. } => {
                *update_before = needed[i];
            }
            _ => {}
        }
        let inputs: Vec<Changes> = nodes[i].inputs.iter().map(|input| nodes[input.node].changes).collect();
        nodes[i].changes = emitted(&nodes[i].kind, &inputs);
    }
}
