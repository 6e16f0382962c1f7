//! Puts nodes into the graph, each once: what is described alike and reads alike is one node.
//!
//! A node's id is a hash of what it does and of its inputs' ids, so editing one query of a job leaves the nodes of the
//! others as they are. It never counts.

use super::changes::{self, Key};
use super::expressions::is_work;
use arrow::datatypes::SchemaRef;
use datafusion_physical_expr::PhysicalExpr;
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    AggregateCall, AggregateFunction, Changes, Dataflow, Input, Node, NodeKind, OverFunction, WindowAggregate,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

#[derive(Default)]
pub struct Graph {
    pub nodes: Vec<Node>,
    /// Everything that tells two nodes apart, to their index.
    known: BTreeMap<String, usize>,
    ids: BTreeSet<String>,
    /// By node: its unique columns by which changes come in their order.
    pub keys: Vec<Vec<Key>>,
}

impl Graph {
    /// The index of this node: a new one, or the one that is there already and does the same.
    pub fn add(&mut self, label: String, kind: NodeKind, inputs: Vec<Input>, schema: SchemaRef) -> usize {
        let mut text = self.description(&label, &kind, &inputs);
        for i in &inputs {
            let _ = write!(text, " <- {}:{}:{:?}", self.nodes[i.node].id, i.port, i.exchange);
        }
        let key = format!("{text} | {} | {schema:?}", fingerprint(&kind));
        // Two readings of a random number, or two writers of a table, are two.
        let shareable = !is_volatile(&kind) && !matches!(kind, NodeKind::Sink(_));
        if shareable && let Some(&index) = self.known.get(&key) {
            return index;
        }
        let base = match &kind {
            NodeKind::Source(s) => format!("source-{}", s.table.name),
            NodeKind::Sink(s) => format!("sink-{}", s.table.name),
            _ => format!("{}-{:08x}", kind_name(&kind), xxh3_64(text.as_bytes()) as u32),
        };
        let mut id = base.clone();
        let mut twin = 1;
        while !self.ids.insert(id.clone()) {
            twin += 1;
            id = format!("{base}-{twin}");
        }
        let index = self.nodes.len();
        let changes: Vec<Changes> = inputs.iter().map(|i| self.nodes[i.node].changes).collect();
        let changes = changes::emitted(&kind, &changes);
        let of = |i: &Input| changes::Known {
            keys: &self.keys[i.node],
            width: self.nodes[i.node].schema.fields().len(),
            changes: self.nodes[i.node].changes,
        };
        let keys = changes::keys(&kind, &inputs.iter().map(of).collect::<Vec<_>>(), &schema);
        self.keys.push(keys);
        self.nodes.push(Node { id, label, kind, inputs, schema, changes });
        self.known.insert(key, index);
        index
    }

    /// What the node does in words that stay the same when columns move: names, not indexes.
    fn description(&self, label: &str, kind: &NodeKind, inputs: &[Input]) -> String {
        let exprs = |list: &[Expr]| {
            list.iter().map(|e| format!("{e:?}:{}", e.field.data_type())).collect::<Vec<_>>().join(", ")
        };
        let input = inputs.first().map(|i| &self.nodes[i.node].schema);
        let time = |column: usize| input.and_then(|s| s.fields().get(column)).map_or("", |f| f.name().as_str());
        match kind {
            NodeKind::Values(rows) => format!("values {rows:?}"),
            NodeKind::Calc(c) => format!(
                "calc where {} select {}",
                c.filter.as_ref().map_or("", |f| f.sql.as_str()),
                c.columns.as_deref().map_or_else(|| "*".into(), exprs)
            ),
            NodeKind::WindowRows(w) => format!("{label} {}", time(w.time.column)),
            NodeKind::WindowAggregate(w) => format!("{label} {}", time(w.time.column)),
            NodeKind::WindowPanes(w) => format!("{label} {}", time(w.windows.time.column)),
            NodeKind::Expand(e) => e.rows.iter().map(|r| exprs(r)).collect::<Vec<_>>().join("; "),
            NodeKind::Unnest(u) => format!("{label} {} {}", u.outer, u.with_ordinality),
            _ => label.to_string(),
        }
    }

    pub fn into_dataflow(self) -> Dataflow {
        Dataflow { nodes: self.nodes, late_output: None, bad_output: None }
    }
}

pub fn kind_name(kind: &NodeKind) -> &'static str {
    match kind {
        NodeKind::Source(_) => "source",
        NodeKind::Values(_) => "values",
        NodeKind::Calc(_) => "calc",
        NodeKind::Union => "union",
        NodeKind::WindowRows(_) => "window-rows",
        NodeKind::WindowAggregate(_) => "window-aggregate",
        NodeKind::WindowPanes(_) => "window-panes",
        NodeKind::Over(_) => "over",
        NodeKind::GroupAggregate(_) => "group-aggregate",
        NodeKind::Join(_) => "join",
        NodeKind::MultiJoin(_) => "multi-join",
        NodeKind::TemporalJoin(_) => "temporal-join",
        NodeKind::LookupJoin(_) => "lookup-join",
        NodeKind::TopN(_) => "top-n",
        NodeKind::Deduplicate(_) => "deduplicate",
        NodeKind::UpsertMaterialize { .. } => "upsert-materialize",
        NodeKind::Normalize { .. } => "normalize",
        NodeKind::Unnest(_) => "unnest",
        NodeKind::Expand(_) => "expand",
        NodeKind::Limit(_) => "limit",
        NodeKind::Sink(_) => "sink",
    }
}

/// What the words leave out: indexes, types, the expressions to the last bit.
fn fingerprint(kind: &NodeKind) -> String {
    let list = |e: &[Expr]| e.iter().map(|e| format!("{:?}", e.physical)).collect::<Vec<_>>().join(",");
    let call = |c: &AggregateCall| {
        let function = match &c.function {
            AggregateFunction::Kernel(k) => format!("{} {:?}", k.name(), k.fun()),
            other => format!("{other:?}"),
        };
        format!("{function}{:?}{}{:?}{:?}", c.args, c.distinct, c.filter, c.result)
    };
    let windowed = |w: &WindowAggregate| {
        let calls = w.calls.iter().map(call).collect::<Vec<_>>().join(";");
        format!("{:?}{:?}{:?}{}{:?}{calls}", w.window, w.time, w.keys, w.lateness, w.order)
    };
    match kind {
        NodeKind::Source(s) => format!("{s:?}"),
        NodeKind::Calc(c) => {
            format!("{:?} {:?}", c.filter.as_ref().map(|f| format!("{:?}", f.physical)), c.columns.as_deref().map(list))
        }
        NodeKind::WindowRows(w) => format!("{w:?}"),
        NodeKind::WindowAggregate(w) => windowed(w),
        NodeKind::WindowPanes(w) => {
            format!("{}{:?}{:?}{:?}{}", windowed(&w.windows), w.early, w.late, w.panes, w.update_before)
        }
        NodeKind::Over(o) => {
            let calls: Vec<String> = o
                .calls
                .iter()
                .map(|c| match &c.function {
                    OverFunction::Aggregate(a) => format!("{}{:?}", call(a), c.frame),
                    other => format!("{other:?}{:?}", c.frame),
                })
                .collect();
            format!("{:?}{}{:?}{:?}{}", o.keys, o.time, o.domain, o.order, calls.join(";"))
        }
        NodeKind::GroupAggregate(g) => {
            let calls = g.calls.iter().map(call).collect::<Vec<_>>().join(";");
            format!("{:?}{}{}{:?}{:?}{calls}", g.keys, g.retracts, g.update_before, g.ttl, g.order)
        }
        NodeKind::Join(j) => {
            let residual = j.residual.as_ref().map(|e| format!("{:?}", e.physical));
            format!("{:?}{:?}{:?}{residual:?}{:?}", j.kind, j.keys, j.null_equals_null, j.scope)
        }
        NodeKind::TemporalJoin(j) => {
            let residual = j.residual.as_ref().map(|e| format!("{:?}", e.physical));
            format!("{}{:?}{residual:?}{:?}{:?}{:?}", j.outer, j.keys, j.times, j.tolerance, j.order)
        }
        NodeKind::LookupJoin(j) => {
            let residual = j.residual.as_ref().map(|e| format!("{:?}", e.physical));
            let steps = j.steps.iter().map(|c| {
                let filter = c.filter.as_ref().map(|f| format!("{:?}", f.physical));
                format!("{filter:?}{:?}", c.columns.as_deref().map(list))
            });
            let steps = steps.collect::<Vec<_>>().join(";");
            format!("{:?}{steps}{}{:?}{residual:?}", j.table, j.outer, j.keys)
        }
        NodeKind::MultiJoin(j) => format!("{j:?}"),
        NodeKind::TopN(t) => format!("{t:?}"),
        NodeKind::Deduplicate(d) => format!("{d:?}"),
        NodeKind::UpsertMaterialize { keys, update_before } | NodeKind::Normalize { keys, update_before } => {
            format!("{keys:?}{update_before}")
        }
        NodeKind::Unnest(u) => format!("{:?}", u.array.physical),
        NodeKind::Expand(e) => e.rows.iter().map(|r| list(r)).collect::<Vec<_>>().join(";"),
        NodeKind::Values(_) | NodeKind::Union | NodeKind::Limit(_) | NodeKind::Sink(_) => String::new(),
    }
}

fn is_volatile(kind: &NodeKind) -> bool {
    match kind {
        NodeKind::Calc(c) => c.filter.iter().chain(c.columns.iter().flatten()).any(|e| volatile(&e.physical)),
        _ => false,
    }
}

/// Whether two evaluations may differ: `RAND()`, `UUID()`.
pub fn volatile(e: &Arc<dyn PhysicalExpr>) -> bool {
    is_work(e.as_ref()) && (e.is_volatile_node() || e.children().into_iter().any(volatile))
}
