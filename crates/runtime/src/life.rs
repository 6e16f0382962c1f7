//! The life of a job beyond its process: what it goes on from, who else may not, and what it still owes its sinks.

use crate::checkpoint::{
    CheckpointConfig, Memory, NodeMemory, Restored, SinkMemory, Taken, columns_of, commit_again, find, take_over,
};
use crate::placement::{Placement, Work};
use crate::sabotage::{Bug, on};
use crate::side::Which;
use millstream_checkpoint::compare::{NodeShape, TableShape, compare};
use millstream_core::{Clock, Committable, Committer, Connectors, JobRun, Result, TableSpec};
use millstream_dataflow::graph::{Dataflow, NodeKind};
use millstream_state::table::TableDef;
use std::collections::BTreeMap;

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
        let (nodes, tables): (Vec<NodeShape>, Vec<_>) = shapes(placement)?.into_iter().unzip();
        let sides = [(Which::Late, &dataflow.late_output), (Which::Bad, &dataflow.bad_output)];
        let sides = sides.into_iter().filter_map(|(which, side)| Some((which.id(), &side.as_ref()?.table)));
        let side = |(id, table): (&str, &TableSpec)| NodeShape {
            id: id.to_owned(),
            label: format!("Sink({})", table.name),
            tables: Vec::new(),
            is_source: false,
            is_sink: true,
        };
        if let Some(found) = find(config, clock.now())? {
            let all: Vec<NodeShape> = nodes.iter().cloned().chain(sides.clone().map(side)).collect();
            compare(&found.restore, &all).accept(config.drop_state)?;
        }
        let Taken { generation, number, epoch, restored, .. } =
            take_over(config, placement.parallelism(), clock.now())?;
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
        };
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
        for (id, table) in sinks.chain(sides) {
            memory.sinks.insert(id.to_owned(), SinkMemory { table: table.name.clone(), pending: Vec::new() });
            let Some(mut committer) = connectors.open_committer(table, &run)? else { continue };
            let mine = restored.as_ref().map(|r| r.committables(id)).transpose()?.unwrap_or_default();
            if !on(Bug::CommitNotRepeated) {
                commit_again(committer.as_mut(), epoch, &mine, pause)?;
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

/// The tables of each node, in the order of the placement.
fn shapes(placement: &Placement) -> Result<Vec<(NodeShape, Vec<TableDef>)>> {
    let shape = |node: &crate::placement::Placed| -> Result<(NodeShape, Vec<TableDef>)> {
        let inputs: Vec<_> = node.inputs.iter().map(|i| placement.schema_of(i)).collect();
        let (source, sink) = match &node.work {
            Work::Node { kind: NodeKind::Source(_) | NodeKind::Values(_), .. } => (true, false),
            Work::Node { kind: NodeKind::Sink(_), .. } => (false, true),
            _ => (false, false),
        };
        let tables = match &node.work {
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
    };
    placement.nodes.iter().map(shape).collect()
}
