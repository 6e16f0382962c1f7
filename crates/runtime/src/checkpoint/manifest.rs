//! What the checkpoint thread knows of a job: the chains of files, positions and committables that the next manifest
//! will name.

use crate::side::SideRows;
use arrow::array::RecordBatch;
use millstream_checkpoint::Manifest;
use millstream_checkpoint::manifest::{
    Chain, CommittableState, FORMAT, FileRef, InFlight, NodeState, PartitionState, Share, SinkState, TableState,
};
use millstream_core::key::KEY_GROUPS;
use millstream_core::{Batch, Committable, Millis, Result, Watermark};
use millstream_dataflow::operator::Watermarks;
use millstream_state::table::TableDef;
use millstream_state::view::View;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// A chain of more pieces than this is merged into one.
const PIECES_MAX: usize = 16;

/// Whether a chain has grown long, or its changes outweigh what they change.
fn worth_merging(chain: &[FileRef]) -> bool {
    let Some(first) = chain.first() else { return false };
    // The files of one piece have one epoch and stand behind each other.
    let base = chain.iter().take_while(|f| f.whole == first.whole && f.epoch == first.epoch).count();
    let bytes = |files: &[FileRef]| files.iter().map(|f| f.bytes).sum::<u64>();
    let (base, changes) = chain.split_at(base);
    let pieces = 1 + changes.chunk_by(|a, b| a.epoch == b.epoch).count();
    let (base, changes) = (bytes(base), bytes(changes));
    pieces > PIECES_MAX || (pieces > 2 && changes > base.saturating_mul(2).max(1 << 20))
}

/// A task's save, with its rows in files.
#[derive(Default)]
pub(crate) struct Written {
    pub nodes: Vec<WrittenNode>,
    pub set_aside: Vec<SideRows>,
}

pub(crate) struct WrittenNode {
    pub node: usize,
    pub task: usize,
    pub watermarks: Watermarks,
    pub tables: Vec<TableDef>,
    /// By table: the files of the new piece, where there is one.
    pub files: BTreeMap<String, Vec<FileRef>>,
    pub whole: bool,
    pub partitions: Vec<PartitionState>,
    pub in_flight: Vec<InFlight>,
    /// With the rows of its outbox, so that they need not be read back.
    pub committable: Option<(CommittableState, Vec<Batch>)>,
    /// Of tables that others read: the rows of the new piece.
    pub viewed: Vec<(Arc<View>, RecordBatch)>,
}

/// Everything that the next manifest is made of.
pub(crate) struct Memory {
    pub job: String,
    pub generation: u64,
    /// The epoch that the job goes on from.
    pub epoch: u64,
    /// The last manifest's number.
    pub number: u64,
    pub parallelism: usize,
    pub nodes: Vec<NodeMemory>,
    pub sinks: BTreeMap<String, SinkMemory>,
    pub latest: Option<Manifest>,
    /// Tables that others read, by node and name.
    pub views: BTreeMap<(usize, String), Arc<View>>,
    /// What the next commit shows of them.
    pub unseen: Vec<(Arc<View>, RecordBatch)>,
}

#[derive(Default)]
pub(crate) struct NodeMemory {
    pub id: String,
    pub label: String,
    pub tasks: BTreeMap<usize, TaskMemory>,
    /// By name: how the table looks, and the chain of each task.
    pub tables: BTreeMap<String, (TableDef, BTreeMap<usize, Vec<FileRef>>)>,
}

pub(crate) struct TaskMemory {
    pub watermarks: Watermarks,
    pub partitions: Vec<PartitionState>,
    pub in_flight: Vec<InFlight>,
}

pub(crate) struct SinkMemory {
    pub table: String,
    /// Prepared and not yet committed.
    pub pending: Vec<(CommittableState, Vec<Batch>)>,
}

impl Memory {
    /// Takes in what a task saved; of one task, older saves first.
    pub fn apply(&mut self, written: Written) {
        for save in written.nodes {
            self.unseen.extend(save.viewed);
            let node = &mut self.nodes[save.node];
            for table in &save.tables {
                let (def, chains) =
                    node.tables.entry(table.name.clone()).or_insert_with(|| (table.clone(), BTreeMap::new()));
                *def = table.clone();
                let chain = chains.entry(save.task).or_default();
                if save.whole {
                    chain.clear();
                }
                chain.extend(save.files.get(&table.name).into_iter().flatten().cloned());
            }
            if let Some((state, rows)) = save.committable {
                let id = node.id.clone();
                if let Some(sink) = self.sinks.get_mut(&id) {
                    sink.pending.push((state, rows));
                }
            }
            let memory =
                TaskMemory { watermarks: save.watermarks, partitions: save.partitions, in_flight: save.in_flight };
            self.nodes[save.node].tasks.insert(save.task, memory);
        }
    }

    pub fn add_committable(&mut self, sink: &str, state: CommittableState, rows: Vec<Batch>) {
        if let Some(sink) = self.sinks.get_mut(sink) {
            sink.pending.push((state, rows));
        }
    }

    /// The next manifest.
    pub fn manifest(&self, epoch: u64, now: Millis, finished: bool) -> Manifest {
        let sink = |(id, sink): (&String, &SinkMemory)| SinkState {
            id: id.clone(),
            table: sink.table.clone(),
            committables: sink.pending.iter().map(|(state, _)| state.clone()).collect(),
        };
        Manifest {
            format: FORMAT,
            number: self.number + 1,
            job: self.job.clone(),
            generation: self.generation,
            epoch,
            written: now,
            key_groups: KEY_GROUPS,
            parallelism: self.parallelism,
            finished,
            nodes: self.nodes.iter().map(NodeMemory::state).collect(),
            sinks: self.sinks.iter().map(sink).collect(),
            program: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    pub fn written(&mut self, manifest: &Manifest) {
        self.number = manifest.number;
        self.latest = Some(manifest.clone());
    }

    pub fn sinks_to_commit(&self) -> VecDeque<String> {
        self.sinks.iter().filter(|(_, s)| !s.pending.is_empty()).map(|(id, _)| id.clone()).collect()
    }

    pub fn to_commit(&self, sink: &str) -> Vec<Committable> {
        let pending = self.sinks.get(sink).map_or(&[][..], |s| &s.pending);
        pending.iter().map(|(state, rows)| Committable { data: state.data.clone(), outbox: rows.clone() }).collect()
    }

    /// The sinks have shown the epoch, and now the views do.
    pub fn committed(&mut self, epoch: u64) -> Result<()> {
        self.sinks.values_mut().for_each(|s| s.pending.clear());
        let unseen = std::mem::take(&mut self.unseen);
        for view in self.views.values() {
            let mine = unseen.iter().filter(|(of, _)| Arc::ptr_eq(of, view)).map(|(_, rows)| rows.clone());
            view.publish(epoch, &mine.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// Chains that are worth merging: node, task, table, files.
    pub fn chains_to_merge(&self) -> Vec<(usize, usize, TableDef, Vec<FileRef>)> {
        let mut found = Vec::new();
        for (at, node) in self.nodes.iter().enumerate() {
            for (def, chains) in node.tables.values() {
                for (task, chain) in chains.iter().filter(|(_, c)| worth_merging(c)) {
                    found.push((at, *task, def.clone(), chain.clone()));
                }
            }
        }
        found
    }

    /// What `pieces`, the first files of a chain, hold now stands in `files`; without any, nothing of them is alive.
    pub fn merged(&mut self, node: usize, task: usize, table: &str, pieces: &[FileRef], files: Vec<FileRef>) {
        let Some(chain) = self.nodes[node].tables.get_mut(table).and_then(|(_, c)| c.get_mut(&task)) else { return };
        if chain.len() >= pieces.len() && chain[..pieces.len()] == *pieces {
            chain.splice(..pieces.len(), files);
        }
    }
}

impl NodeMemory {
    /// Goes on with the chains of a checkpoint.
    pub fn restore(&mut self, saved: &NodeState, defs: &[TableDef]) {
        for def in defs {
            if let Some(table) = saved.tables.iter().find(|t| t.name == def.name) {
                let chains = table.chains.iter().map(|c| (c.task, c.pieces.clone())).collect();
                self.tables.insert(def.name.clone(), (def.clone(), chains));
            }
        }
    }

    fn state(&self) -> NodeState {
        let least = |of: fn(&Watermarks) -> Watermark| {
            let least = self.tasks.values().map(|t| of(&t.watermarks)).min().unwrap_or(Watermark::MIN);
            (least > Watermark::MIN).then_some(least.0)
        };
        let share = |(task, memory): (&usize, &TaskMemory)| {
            let some = |at: Watermark| (at > Watermark::MIN).then_some(at.0);
            let Watermarks { event, processing } = memory.watermarks;
            Share { task: *task, event_watermark: some(event), processing_watermark: some(processing) }
        };
        let table = |(name, (def, chains)): (&String, &(TableDef, BTreeMap<usize, Vec<FileRef>>))| TableState {
            name: name.clone(),
            version: def.version,
            columns: columns_of(def),
            key: def.key,
            part: def.part,
            chains: chains.iter().map(|(task, pieces)| Chain { task: *task, pieces: pieces.clone() }).collect(),
        };
        NodeState {
            id: self.id.clone(),
            label: self.label.clone(),
            event_watermark: least(|w| w.event),
            processing_watermark: least(|w| w.processing),
            shares: self.tasks.iter().map(share).collect(),
            tables: self.tables.iter().map(table).collect(),
            partitions: self.tasks.values().flat_map(|t| t.partitions.iter().cloned()).collect(),
            in_flight: self.tasks.values().flat_map(|t| t.in_flight.iter().cloned()).collect(),
        }
    }
}

/// The columns of a table, for people and for comparison.
pub(crate) fn columns_of(def: &TableDef) -> Vec<String> {
    def.columns.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The files of a chain, by epoch and bytes.
    fn chain(whole: &[(u64, u64)], changes: &[(u64, u64)]) -> Vec<FileRef> {
        let file = |&(epoch, bytes): &(u64, u64), whole| FileRef {
            path: String::new(),
            epoch,
            rows: 1,
            bytes,
            hash: String::new(),
            whole,
        };
        whole.iter().map(|f| file(f, true)).chain(changes.iter().map(|f| file(f, false))).collect()
    }

    #[test]
    fn the_files_of_one_piece_count_as_one() {
        let whole = [(1, 1 << 20); 40];
        assert!(!worth_merging(&[]));
        assert!(!worth_merging(&chain(&whole, &[])), "a large piece is many files");
        assert!(!worth_merging(&chain(&whole, &[(2, 10), (2, 10), (3, 10), (4, 10)])));
        let changes: Vec<(u64, u64)> = (2..=17).map(|epoch| (epoch, 10)).collect();
        assert!(worth_merging(&chain(&whole, &changes)), "long");
        assert!(worth_merging(&chain(&whole, &[(2, 41 << 20), (3, 41 << 20)])), "heavy");
    }

    #[test]
    fn what_was_merged_for_an_epoch_is_not_what_changed_in_it() {
        let heavy = chain(&[(7, 1 << 20)], &[(7, 2 << 20), (8, 1 << 20)]);
        assert!(worth_merging(&heavy), "three times what it changes");
    }
}
