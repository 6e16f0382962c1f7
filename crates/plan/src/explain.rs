//! A job as a person reads it: `EXPLAIN` as text and as a Mermaid graph.
//!
//! Text stands the sinks at the left and the sources at the right end of the branches, as every database does. A node that
//! several others read is written once; afterwards its number stands for it.
//!
//! ```text
//! Sink(hourly)
//! └─ Calc(k, window_end, n)
//!    └─ WindowAggregate(TUMBLE 1 h, by k: n)
//!       └─ hash(k) ─ Source(bids)
//! ```

use crate::plan::Planned;
use arrow::datatypes::{DataType, Field};
use millstream_core::TableSpec;
use millstream_dataflow::graph::{Changes, Dataflow, Exchange, Input, Node, NodeKind, SideOutput};
use std::collections::BTreeMap;
use std::fmt::Write;

/// The graph as text, sinks first.
pub fn text(dataflow: &Dataflow) -> String {
    let mut readers = vec![0usize; dataflow.nodes.len()];
    for node in &dataflow.nodes {
        for input in &node.inputs {
            readers[input.node] += 1;
        }
    }
    let mut tree = Tree { dataflow, readers, numbers: BTreeMap::new(), out: String::new() };
    for (i, node) in dataflow.nodes.iter().enumerate() {
        if matches!(node.kind, NodeKind::Sink(_)) {
            tree.node(i, "", "", "");
        }
    }
    for (what, side) in [("late rows", &dataflow.late_output), ("bad rows", &dataflow.bad_output)] {
        if let Some(side) = side {
            let _ = writeln!(tree.out, "{what} go to {}", side_text(side));
        }
    }
    tree.out
}

fn side_text(side: &SideOutput) -> String {
    let names: Vec<&str> = side.table.schema.fields().iter().map(|f| f.name().as_str()).collect();
    format!("{}({})", side.table.name, names.join(", "))
}

struct Tree<'d> {
    dataflow: &'d Dataflow,
    readers: Vec<usize>,
    /// Nodes that are read several times and have been written, with the number that stands for them.
    numbers: BTreeMap<usize, usize>,
    out: String,
}

impl Tree<'_> {
    fn node(&mut self, index: usize, branch: &str, exchange: &str, below: &str) {
        if let Some(number) = self.numbers.get(&index) {
            let _ = writeln!(self.out, "{branch}{exchange}[{number}]");
            return;
        }
        let node = &self.dataflow.nodes[index];
        let mut number = String::new();
        if self.readers[index] > 1 {
            let n = self.numbers.len() + 1;
            self.numbers.insert(index, n);
            number = format!("[{n}] ");
        }
        let _ = writeln!(self.out, "{branch}{exchange}{number}{}", node.label);
        for line in details(node) {
            let _ = writeln!(self.out, "{below}   {}{line}", if node.inputs.is_empty() { "" } else { "│ " });
        }
        for (i, input) in node.inputs.iter().enumerate() {
            let last = i + 1 == node.inputs.len();
            let branch = format!("{below}{}", if last { "└─ " } else { "├─ " });
            let deeper = format!("{below}{}", if last { "   " } else { "│  " });
            self.node(input.node, &branch, &exchange_text(self.dataflow, input), &deeper);
        }
    }
}

/// What the label leaves out and a person may want to know.
fn details(node: &Node) -> Vec<String> {
    let mut lines = Vec::new();
    if node.changes != Changes::Insert && !matches!(node.kind, NodeKind::Sink(_)) {
        lines.push(format!("changes {}", node.changes.short()));
    }
    let reads = |table: &'_ TableSpec| -> Vec<String> {
        let columns = table.schema.fields();
        let stored = match &table.projection {
            Some(p) => p.iter().map(|i| column(&columns[*i])).collect(),
            None => columns.iter().map(|f| column(f)).collect::<Vec<_>>(),
        };
        stored.into_iter().chain(table.metadata.iter().map(|(_, f)| f.name().clone())).collect()
    };
    if let NodeKind::LookupJoin(join) = &node.kind {
        lines.push(format!("looks up {}", reads(&join.table).join(", ")));
    }
    let NodeKind::Source(source) = &node.kind else { return lines };
    let mut reads = reads(&source.table);
    if source.processing_time {
        reads.push("$proctime".into());
    }
    lines.push(format!("reads {}", reads.join(", ")));
    let computed = source.computed.iter().flatten().filter(|e| e.as_column().is_none());
    let computed: Vec<String> = computed.map(|e| format!("{} AS {}", e.field.name(), e.sql)).collect();
    if !computed.is_empty() {
        lines.push(format!("computes {}", computed.join(", ")));
    }
    if let Some(w) = &source.watermark {
        let column = node.schema.field(w.column).name();
        lines.push(match w.delay {
            Some(ms) => format!("watermark {column} - {ms} ms"),
            None => format!("watermark {}", w.expression.sql),
        });
        if source.row_watermarks {
            lines.push("$watermark before each row".into());
        }
    }
    lines
}

/// A column that is read, with the fields of a ROW.
fn column(field: &Field) -> String {
    match field.data_type() {
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|f| column(f)).collect();
            format!("{}({})", field.name(), fields.join(", "))
        }
        _ => field.name().clone(),
    }
}

fn exchange_text(dataflow: &Dataflow, input: &Input) -> String {
    match &input.exchange {
        Exchange::Forward => String::new(),
        Exchange::Single => "single ─ ".into(),
        Exchange::Broadcast => "broadcast ─ ".into(),
        Exchange::Hash(columns) => {
            let schema = &dataflow.nodes[input.node].schema;
            let names: Vec<&str> = columns.iter().map(|c| schema.field(*c).name().as_str()).collect();
            format!("hash({}) ─ ", names.join(", "))
        }
    }
}

/// A whole job: its graph, or in batch mode, which has none, its logical plans.
pub fn job(planned: &Planned) -> String {
    if !planned.dataflow.nodes.is_empty() {
        return text(&planned.dataflow);
    }
    let mut out = String::new();
    for s in &planned.statements {
        let _ = writeln!(out, "Sink({})\n{}", s.sink.name, s.logical.display_indent());
    }
    out
}

/// The graph for a Mermaid renderer, sources first.
pub fn mermaid(dataflow: &Dataflow) -> String {
    let mut out = String::from("flowchart LR\n");
    for (i, node) in dataflow.nodes.iter().enumerate() {
        let label = escaped(&node.label);
        let (open, close) = match node.kind {
            NodeKind::Source(_) | NodeKind::Values(_) | NodeKind::Sink(_) => ("[(", ")]"),
            _ => ("[", "]"),
        };
        let _ = writeln!(out, "  n{i}{open}\"{label}\"{close}");
    }
    for (i, node) in dataflow.nodes.iter().enumerate() {
        for input in &node.inputs {
            let exchange = exchange_text(dataflow, input);
            match exchange.strip_suffix(" ─ ") {
                Some(how) => {
                    let _ = writeln!(out, "  n{} -->|\"{}\"| n{i}", input.node, escaped(how));
                }
                None => {
                    let _ = writeln!(out, "  n{} --> n{i}", input.node);
                }
            }
        }
    }
    for (id, side) in [("late", &dataflow.late_output), ("bad", &dataflow.bad_output)] {
        if let Some(side) = side {
            let _ = writeln!(out, "  {id}[(\"{id} rows: {}\")]", escaped(&side.table.name));
        }
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('"', "&quot;").replace('<', "&lt;").replace('>', "&gt;")
}
