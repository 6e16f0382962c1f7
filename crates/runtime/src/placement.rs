//! Decides which task does what: how many tasks each node gets, where rows change hands, and where a local
//! aggregation before the exchange pays.
//!
//! Plain data in, plain data out. At parallelism 1 there is one stage and no exchange.

use arrow::datatypes::SchemaRef;
use millstream_core::{Connectors, Result};
use millstream_dataflow::graph::{Dataflow, Exchange, Input, Join, JoinScope, Node, NodeKind, Window};
use millstream_dataflow::local::{LocalSpec, Whole};
use std::fmt::Write;

/// A graph with its tasks.
#[derive(Debug, Clone)]
pub struct Placement {
    pub nodes: Vec<Placed>,
    /// In topological order.
    pub stages: Vec<Stage>,
    /// The job's, also where no stage has so many tasks.
    parallelism: usize,
}

/// A node as it is run.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The node's stable id; a local aggregation has that of its node with `-local`.
    pub id: String,
    pub label: String,
    pub work: Work,
    pub inputs: Vec<Input>,
    pub schema: SchemaRef,
    /// Tasks: 1 or the job's parallelism.
    pub tasks: usize,
    pub stage: usize,
}

#[derive(Debug, Clone)]
pub enum Work {
    /// A node of the graph as planned. `partials`: input 1 brings what a local aggregation has summed up.
    Node {
        kind: NodeKind,
        partials: bool,
    },
    LocalAggregate {
        of: Whole,
        spec: LocalSpec,
    },
}

/// Nodes that are joined by direct calls: one task of it runs on each of `tasks` workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    pub nodes: Vec<usize>,
    pub tasks: usize,
}

/// Places `dataflow` on `parallelism` workers.
pub fn place(dataflow: &Dataflow, parallelism: usize, connectors: &dyn Connectors) -> Result<Placement> {
    // Where a channel may go idle and come back, its rows are judged one by one as late or not.
    let judged = dataflow.nodes.iter().any(|n| match &n.kind {
        NodeKind::Source(s) => s.idle_timeout.is_some() || s.wall_clock_fallback.is_some(),
        _ => false,
    });
    let mut nodes: Vec<Placed> = Vec::with_capacity(dataflow.nodes.len());
    let mut place_of: Vec<usize> = Vec::with_capacity(dataflow.nodes.len());
    for node in &dataflow.nodes {
        let mut inputs: Vec<Input> =
            node.inputs.iter().map(|i| Input { node: place_of[i.node], ..i.clone() }).collect();
        if parallelism == 1 {
            inputs.iter_mut().for_each(|i| i.exchange = Exchange::Forward);
        }
        let feeders = inputs.iter().map(|i| nodes[i.node].tasks).max();
        let mut partials = false;
        let tasks = match (&node.kind, parallelism) {
            (_, 1) => 1,
            (NodeKind::Source(_), n) => n,
            (NodeKind::Values(_), _) => 1,
            (NodeKind::Limit(_), _) => gather(&mut inputs, &nodes),
            (NodeKind::Sink(sink), n) => {
                if connectors.single_writer(&sink.table) {
                    gather(&mut inputs, &nodes)
                } else {
                    feeders.unwrap_or(n)
                }
            }
            (NodeKind::WindowPanes(panes), n) => {
                let mut keys = panes.windows.keys.clone();
                if let Window::Attached { start, end } = panes.windows.window {
                    keys.extend([start, end]);
                }
                by_key(&mut inputs, &nodes, &keys, n)
            }
            (NodeKind::Over(over), n) => by_key(&mut inputs, &nodes, &over.keys, n),
            (NodeKind::GroupAggregate(a), n) => {
                partials = sum_up_first(&mut inputs, &mut nodes, node, Whole::Group(a.clone()));
                if partials { tasks_of(&a.keys, n) } else { by_key(&mut inputs, &nodes, &a.keys, n) }
            }
            (NodeKind::TopN(t), n) => by_key(&mut inputs, &nodes, &t.partition, n),
            (NodeKind::Deduplicate(d), n) => by_key(&mut inputs, &nodes, &d.keys, n),
            (NodeKind::UpsertMaterialize { keys, .. } | NodeKind::Normalize { keys, .. }, n) => {
                by_key(&mut inputs, &nodes, keys, n)
            }
            (NodeKind::Join(Join { scope: JoinScope::Broadcast { small, .. }, .. }), _) => {
                let tasks = nodes[inputs[1 - small].node].tasks;
                inputs[*small].exchange = if tasks == 1 { Exchange::Forward } else { Exchange::Broadcast };
                tasks
            }
            (NodeKind::Join(j), n) => both_by_key(&mut inputs, &nodes, &j.keys, n),
            (NodeKind::MultiJoin(j), n) => {
                inputs.iter_mut().zip(&j.keys).for_each(|(input, keys)| input.exchange = hash(keys));
                n
            }
            (NodeKind::TemporalJoin(j), n) => both_by_key(&mut inputs, &nodes, &j.keys, n),
            (NodeKind::WindowRows(rows), n) => match &rows.window {
                Window::Session { partition, .. } => by_key(&mut inputs, &nodes, partition, n),
                _ => feeders.unwrap_or(n),
            },
            (NodeKind::WindowAggregate(aggregate), n) => {
                let mut keys = aggregate.keys.clone();
                if let Window::Attached { start, end } = aggregate.window {
                    keys.extend([start, end]);
                }
                partials = !judged && sum_up_first(&mut inputs, &mut nodes, node, Whole::Window(aggregate.clone()));
                if partials { tasks_of(&keys, n) } else { by_key(&mut inputs, &nodes, &keys, n) }
            }
            (NodeKind::LookupJoin(_), n) => feeders.unwrap_or(n),
            (NodeKind::Calc(_) | NodeKind::Union | NodeKind::Unnest(_) | NodeKind::Expand(_), n) => {
                feeders.unwrap_or(n)
            }
        };
        for input in &mut inputs {
            if input.exchange == Exchange::Forward && nodes[input.node].tasks != tasks {
                input.exchange = Exchange::Single;
            }
        }
        // Where everything goes to one task there is no other.
        let all_to_one = !inputs.is_empty() && inputs.iter().all(|i| i.exchange == Exchange::Single);
        let tasks = if all_to_one { 1 } else { tasks };
        place_of.push(nodes.len());
        nodes.push(Placed {
            id: node.id.clone(),
            label: node.label.clone(),
            work: Work::Node { kind: node.kind.clone(), partials },
            inputs,
            schema: node.schema.clone(),
            tasks,
            stage: 0,
        });
    }
    part_from_small(&mut nodes);
    let stages = cut_into_stages(&mut nodes);
    Ok(Placement { nodes, stages, parallelism })
}

/// Puts a local half before the exchange of an aggregation where that pays, whose inputs are then raw rows and partials.
fn sum_up_first(inputs: &mut Vec<Input>, nodes: &mut Vec<Placed>, node: &Node, of: Whole) -> bool {
    let from = inputs[0].node;
    if nodes[from].tasks == 1 {
        return false;
    }
    let Some(spec) = of.split(&nodes[from].schema) else { return false };
    let (raw_keys, partial_keys) = (spec.raw_keys.clone(), spec.keys.clone());
    nodes.push(Placed {
        id: format!("{}-local", node.id),
        label: format!("Local{}", node.label),
        schema: spec.partials.clone(),
        work: Work::LocalAggregate { of, spec },
        tasks: nodes[from].tasks,
        // Before the exchange, whatever the plan asks for: that is its point.
        inputs: vec![Input { exchange: Exchange::Forward, ..inputs[0].clone() }],
        stage: 0,
    });
    let local = nodes.len() - 1;
    let raw = Input { node: local, port: 1, exchange: hash(&raw_keys) };
    let summed = Input { node: local, port: 0, exchange: hash(&partial_keys) };
    *inputs = vec![raw, summed];
    true
}

/// Tasks for these keys.
fn tasks_of(keys: &[usize], parallelism: usize) -> usize {
    if keys.is_empty() { 1 } else { parallelism }
}

fn hash(keys: &[usize]) -> Exchange {
    if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.to_vec()) }
}

/// One task: everything to it.
fn gather(inputs: &mut [Input], nodes: &[Placed]) -> usize {
    for input in inputs {
        if nodes[input.node].tasks > 1 {
            input.exchange = Exchange::Single;
        }
    }
    1
}

/// One task for each share of the keys; one in all where there is no key.
fn by_key(inputs: &mut [Input], nodes: &[Placed], keys: &[usize], parallelism: usize) -> usize {
    if keys.is_empty() {
        return gather(inputs, nodes);
    }
    for input in inputs {
        input.exchange = hash(keys);
    }
    parallelism
}

/// As [`by_key`], with a key column of each of two inputs.
fn both_by_key(inputs: &mut [Input], nodes: &[Placed], keys: &[(usize, usize)], parallelism: usize) -> usize {
    if keys.is_empty() {
        return gather(inputs, nodes);
    }
    let sides: [Vec<usize>; 2] = keys.iter().copied().unzip::<_, _, Vec<_>, Vec<_>>().into();
    for (input, keys) in inputs.iter_mut().zip(&sides) {
        input.exchange = hash(keys);
    }
    parallelism
}

/// A broadcast join leaves the stage of its large side where the small side comes out of that stage: tasks that wait for room
/// in their own queues would wait for ever.
fn part_from_small(nodes: &mut [Placed]) {
    for at in 0..nodes.len() {
        let Work::Node { kind: NodeKind::Join(join), .. } = &nodes[at].work else { continue };
        let JoinScope::Broadcast { small, .. } = join.scope else { continue };
        if nodes[at].inputs[small].exchange == Exchange::Forward {
            continue;
        }
        let keys = join.keys.iter().map(|k| if small == 0 { k.1 } else { k.0 }).collect();
        let (mut before, mut todo) = (vec![false; nodes.len()], vec![nodes[at].inputs[small].node]);
        while let Some(node) = todo.pop() {
            if !std::mem::replace(&mut before[node], true) {
                todo.extend(nodes[node].inputs.iter().map(|i| i.node));
            }
        }
        let group = forward_groups(nodes);
        if (0..nodes.len()).any(|node| before[node] && group[node] == group[at]) {
            nodes[at].inputs[1 - small].exchange = Exchange::Hash(keys);
        }
    }
}

/// For each node the first of those that `Forward` joins it to.
fn forward_groups(nodes: &[Placed]) -> Vec<usize> {
    let mut group: Vec<usize> = (0..nodes.len()).collect();
    fn root(group: &[usize], mut of: usize) -> usize {
        while group[of] != of {
            of = group[of];
        }
        of
    }
    for (i, node) in nodes.iter().enumerate() {
        for input in node.inputs.iter().filter(|i| i.exchange == Exchange::Forward) {
            let (a, b) = (root(&group, input.node), root(&group, i));
            group[a.max(b)] = a.min(b);
        }
    }
    (0..nodes.len()).map(|i| root(&group, i)).collect()
}

/// Nodes joined by `Forward` belong to one stage. Nodes stay in topological order, and so do stages: by the latest of
/// their nodes' depths in exchanges.
fn cut_into_stages(nodes: &mut [Placed]) -> Vec<Stage> {
    let roots = forward_groups(nodes);
    // Longest way from a source, counted in exchanges, over the graph of stages.
    let mut depth = vec![0usize; nodes.len()];
    for _ in 0..nodes.len() {
        for (i, node) in nodes.iter().enumerate() {
            for input in node.inputs.iter().filter(|i| i.exchange != Exchange::Forward) {
                depth[roots[i]] = depth[roots[i]].max(depth[roots[input.node]] + 1);
            }
        }
    }
    let mut order: Vec<usize> = (0..nodes.len()).filter(|i| roots[*i] == *i).collect();
    order.sort_by_key(|r| (depth[*r], *r));
    let mut stages = Vec::with_capacity(order.len());
    for (index, r) in order.into_iter().enumerate() {
        let members: Vec<usize> = (0..nodes.len()).filter(|i| roots[*i] == r).collect();
        for m in &members {
            nodes[*m].stage = index;
        }
        stages.push(Stage { tasks: nodes[r].tasks, nodes: members });
    }
    stages
}

impl Placement {
    /// Columns of what an input brings.
    pub fn schema_of(&self, input: &Input) -> SchemaRef {
        let from = &self.nodes[input.node];
        match &from.work {
            // Its second port hands rows on as they came.
            Work::LocalAggregate { .. } if input.port == 1 => self.schema_of(&from.inputs[0]),
            _ => from.schema.clone(),
        }
    }

    /// Tasks of the stage that has most.
    pub fn parallelism(&self) -> usize {
        self.parallelism
    }

    /// One line for each node, for tests and for `EXPLAIN`.
    pub fn text(&self) -> String {
        let mut out = String::new();
        for (index, stage) in self.stages.iter().enumerate() {
            let _ = writeln!(out, "stage {index} x{}", stage.tasks);
            for n in &stage.nodes {
                let node = &self.nodes[*n];
                let inputs: Vec<String> =
                    node.inputs.iter().map(|i| format!("{}.{} {:?}", i.node, i.port, i.exchange)).collect();
                let _ = writeln!(out, "  {n} {} <- [{}]", node.label, inputs.join(", "));
            }
        }
        out
    }
}
