//! The life of a job beyond its process: what it goes on from, who else may not, and what it still owes its sinks.

use crate::checkpoint::{
    CheckpointConfig, Memory, NodeMemory, Restored, SinkMemory, Taken, columns_of, commit_again, find, take_over,
};
use crate::placement::{Placed, Placement, Work, place};
use crate::sabotage::{Bug, on};
use crate::side::Which;
use millstream_checkpoint::compare::{NodeShape, TableShape, compare};
use millstream_core::{Clock, Committable, Committer, Connectors, Error, JobRun, Result, TableSpec};
use millstream_dataflow::graph::{Dataflow, NodeKind};
use millstream_state::table::{Saver, TableDef};
use millstream_state::view::View;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The life of a job beyond its process: what it goes on from, and who commits what it writes.
pub(crate) struct Life {
    pub config: CheckpointConfig,
    pub run: JobRun,
    pub restored: Option<Restored>,
    pub memory: Memory,
    pub committers: BTreeMap<String, Box<dyn Committer>>,
}

impl Life {
    /// Takes the job over from an earlier run, if there was one, and finishes what that had begun to commit.
    pub fn begin(
        config: &CheckpointConfig,
        dataflow: &Dataflow,
        placement: &Placement,
        connectors: &dyn Connectors,
        clock: &dyn Clock,
        pause: &dyn Fn(std::time::Duration),
    ) -> Result<Life> {
        let (nodes, tables) = remembered(dataflow, placement)?;
        if let Some(found) = find(config, clock.now())? {
            compare(&found.restore, &nodes).accept(config.drop_state)?;
        }
        let Taken { generation, number, epoch, restored } = take_over(config, placement.parallelism(), clock.now())?;
        let run = JobRun { job: config.job.clone(), generation, epoch };
        let mut memory = Memory {
            job: config.job.clone(),
            generation,
            epoch,
            number,
            parallelism: placement.parallelism(),
            nodes: Vec::with_capacity(placement.nodes.len()),
            sinks: BTreeMap::new(),
            latest: restored.as_ref().map(|r| r.manifest.as_ref().clone()),
            views: BTreeMap::new(),
            unseen: Vec::new(),
        };
        for (node, table) in &config.views {
            let (at, view) = view(placement, &tables, restored.as_ref(), node, table)?;
            memory.views.insert((at, table.clone()), Arc::new(view));
        }
        for (tables, node) in tables.iter().zip(&placement.nodes) {
            let saved = restored.as_ref().and_then(|r| r.node(&node.id).map(|n| (r, n)));
            let mut remembered = NodeMemory { id: node.id.clone(), label: node.label.clone(), ..NodeMemory::default() };
            if let Some((restored, saved)) = saved
                && restored.same_tasks(placement.parallelism())
            {
                remembered.restore(saved, tables);
            }
            memory.nodes.push(remembered);
        }
        let sinks = placement.nodes.iter().filter_map(|n| match &n.work {
            Work::Node { kind: NodeKind::Sink(sink), .. } => Some((n.id.as_str(), &sink.table)),
            _ => None,
        });
        let mut committers = BTreeMap::new();
        let mut kept: Vec<Committable> = Vec::new();
        for (id, table) in sinks.chain(sides(dataflow)) {
            memory.sinks.insert(id.to_owned(), SinkMemory { table: table.name.clone(), pending: Vec::new() });
            let Some(mut committer) = connectors.open_committer(table, &run)? else { continue };
            let mine = restored.as_ref().map(|r| r.committables(id)).transpose()?.unwrap_or_default();
            if !on(Bug::CommitNotRepeated) {
                commit_again(committer.as_mut(), &config.job, epoch, &mine, pause)?;
            }
            kept.extend(mine);
            committers.insert(id.to_owned(), committer);
        }
        // Only now: two sinks may write into one place, and neither may clean away what the other has yet to commit.
        for committer in committers.values_mut() {
            committer.clean(epoch, &kept)?;
        }
        Ok(Life { config: config.clone(), run, restored, memory, committers })
    }
}

/// A table that others read, with what the checkpoint holds of it.
fn view(
    placement: &Placement,
    tables: &[Vec<TableDef>],
    restored: Option<&Restored>,
    node: &str,
    table: &str,
) -> Result<(usize, View)> {
    let at = placement.nodes.iter().position(|n| n.id == node);
    let def = at.and_then(|at| tables[at].iter().find(|t| t.name == table));
    let (Some(at), Some(def)) = (at, def) else {
        let known = placement.nodes.iter().zip(tables);
        let known: Vec<String> = known.flat_map(|(n, t)| t.iter().map(|t| format!("{} {}", n.id, t.name))).collect();
        return Err(Error::usage(format!("there is no table `{table}` of a node `{node}` to read"))
            .remedy(format!("there are {}", known.join(", "))));
    };
    let view = View::new(def)?;
    if let Some((restored, saved)) = restored.and_then(|r| r.node(node).map(|n| (r, n))) {
        let rows = restored.rows(saved, def)?;
        let mut saver = Saver::new(true);
        rows.iter().try_for_each(|batch| saver.put(def, batch.columns().to_vec()))?;
        let pieces: Vec<_> = saver.into_pieces().into_iter().map(|p| p.rows).collect();
        view.publish(restored.manifest.epoch, &pieces)?;
    }
    Ok((at, view))
}

/// What a job over `dataflow` would remember, without starting it or opening a table: for
/// [`compare`](millstream_checkpoint::compare::compare) with a checkpoint.
pub fn shapes(dataflow: &Dataflow, connectors: &dyn Connectors, parallelism: usize) -> Result<Vec<NodeShape>> {
    let placement = place(dataflow, parallelism, connectors)?;
    Ok(remembered(dataflow, &placement)?.0)
}

/// The outputs of rows set aside: what stands for their node in a checkpoint, and where they go.
fn sides(dataflow: &Dataflow) -> impl Iterator<Item = (&str, &TableSpec)> {
    let sides = [(Which::Late, &dataflow.late_output), (Which::Bad, &dataflow.bad_output)];
    sides.into_iter().filter_map(|(which, side)| Some((which.id(), &side.as_ref()?.table)))
}

/// All nodes that a checkpoint may know, the placement's first; and the tables of each node of the placement.
fn remembered(dataflow: &Dataflow, placement: &Placement) -> Result<(Vec<NodeShape>, Vec<Vec<TableDef>>)> {
    let of_nodes = placement.nodes.iter().map(|node| shape(node, placement)).collect::<Result<Vec<_>>>()?;
    let (mut nodes, tables): (Vec<NodeShape>, Vec<_>) = of_nodes.into_iter().unzip();
    nodes.extend(sides(dataflow).map(|(id, table)| NodeShape {
        id: id.to_owned(),
        label: format!("Sink({})", table.name),
        tables: Vec::new(),
        is_source: false,
        is_sink: true,
    }));
    Ok((nodes, tables))
}

fn shape(node: &Placed, placement: &Placement) -> Result<(NodeShape, Vec<TableDef>)> {
    let inputs: Vec<_> = node.inputs.iter().map(|i| placement.schema_of(i)).collect();
    let (source, sink) = match &node.work {
        Work::Node { kind: NodeKind::Source(_) | NodeKind::Values(_), .. } => (true, false),
        Work::Node { kind: NodeKind::Sink(_), .. } => (false, true),
        _ => (false, false),
    };
    let tables = match &node.work {
        // What waits in it for an answer is gone before every barrier.
        Work::Node { kind: NodeKind::LookupJoin(_), .. } => Vec::new(),
        Work::Node { kind, partials } if !source && !sink => {
            millstream_dataflow::build(kind, &inputs, &node.schema, *partials)?.tables()
        }
        _ => Vec::new(),
    };
    let table = |def: &TableDef| TableShape {
        name: def.name.clone(),
        version: def.version,
        columns: columns_of(def),
        key: def.key,
    };
    let shape = NodeShape {
        id: node.id.clone(),
        label: node.label.clone(),
        tables: tables.iter().map(table).collect(),
        is_source: source,
        is_sink: sink,
    };
    Ok((shape, tables))
}
