//! The manifest: one JSON object for each checkpoint, and the only truth about what is safe.
//!
//! ```text
//!  manifests/000000000042.json ──names──▶ data/41-2-0-slices.parquet, data/42-2-0-slices.parquet, ..
//!        ▲ created once, number by number: who finds the number taken has been replaced by another run
//! ```
//!
//! Numbers have no gap. A run writes number n + 1 only after it has read or written n itself, and only if nobody has
//! written n + 1: so two runs of one job can never both go on, whatever they believe of each other.

use millstream_core::{Error, Millis, Result};
use serde::{Deserialize, Serialize};

/// The version that this build writes. It reads all versions up to it.
pub const FORMAT: u32 = 1;

/// A checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub format: u32,
    /// The place in the sequence of the job's manifests, from 1.
    pub number: u64,
    /// The job's lasting name.
    pub job: String,
    /// Which start of the job has written it.
    pub generation: u64,
    /// The epoch that it completes. Grows with `number`, but may skip: an epoch can be given up.
    pub epoch: u64,
    /// When it was written, in milliseconds since 1970.
    pub written: Millis,
    /// Key groups, fixed at the job's first start.
    pub key_groups: u32,
    pub parallelism: usize,
    /// The job had read all its input: there is nothing to go on with.
    pub finished: bool,
    pub nodes: Vec<NodeState>,
    /// What the sinks have to commit for this epoch.
    pub sinks: Vec<SinkState>,
    /// Version of the program that wrote it.
    pub program: String,
}

/// What one node of the graph remembers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// The node's stable id.
    pub id: String,
    /// For people: what the node does.
    pub label: String,
    /// Watermarks that the node had been handed: the least over its tasks. `None`: none yet.
    pub event_watermark: Option<Millis>,
    pub processing_watermark: Option<Millis>,
    pub tables: Vec<TableState>,
    /// Of a source: its partitions.
    pub partitions: Vec<PartitionState>,
    /// Batches that were under way to the node when the barrier overtook them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlight>,
}

/// A table of a node, over all tasks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableState {
    pub name: String,
    pub version: u32,
    /// `name TYPE, ..`: for people, and to see that the columns are still those of the operator.
    pub columns: Vec<String>,
    pub key: usize,
    pub part: usize,
    /// The chains of the tasks that saved it.
    pub chains: Vec<Chain>,
}

/// The pieces of one task's share of a table, oldest first; the first one is whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chain {
    pub task: usize,
    pub pieces: Vec<FileRef>,
}

/// A file of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub path: String,
    pub epoch: u64,
    pub rows: u64,
    pub bytes: u64,
    /// xxh3 of the file's bytes, in hexadecimal.
    pub hash: String,
}

/// A partition of a source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionState {
    pub name: String,
    /// As the reader wrote it.
    pub position: String,
    /// What the partition has promised. `None`: nothing yet.
    pub watermark: Option<Millis>,
    /// Rows handed on, for the places of bad rows.
    pub rows: u64,
    pub idle: bool,
    pub ended: bool,
}

/// What the writers of one sink prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// Id of the sink's node; `$late` and `$bad` for the outputs of rows set aside.
    pub id: String,
    pub table: String,
    pub committables: Vec<CommittableState>,
}

/// What one writer prepared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommittableState {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outbox: Option<FileRef>,
}

/// Batches on their way to an input of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InFlight {
    pub input: usize,
    pub file: FileRef,
}

impl Manifest {
    /// Where the manifest of this number is stored.
    pub fn path(number: u64) -> String {
        format!("manifests/{number:012}.json")
    }

    /// The number of a manifest's path; `None` where it is none.
    pub fn number_of(path: &str) -> Option<u64> {
        path.strip_prefix("manifests/")?.strip_suffix(".json")?.parse().ok()
    }

    /// Readable JSON.
    pub fn to_json(&self) -> Vec<u8> {
        let mut json = serde_json::to_vec_pretty(self).expect("plain data has a JSON form");
        json.push(b'\n');
        json
    }

    /// # Errors
    /// What is read is no manifest, or one of a later version. The caller knows the path.
    pub fn from_json(bytes: &[u8]) -> Result<Manifest> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
        }
        let damaged = |e: serde_json::Error| {
            Error::data(format!("the manifest is damaged or none of ours: {e}"))
                .remedy("restore an older checkpoint with --restore-at, or repair the store from a copy")
        };
        let head: Head = serde_json::from_slice(bytes).map_err(damaged)?;
        if head.format > FORMAT {
            return Err(Error::data(format!("the manifest has format {}, this program knows {FORMAT}", head.format))
                .remedy("use the version of millstream that wrote it, or a later one"));
        }
        serde_json::from_slice(bytes).map_err(damaged)
    }

    /// Every file of the store that this checkpoint needs.
    pub fn files(&self) -> impl Iterator<Item = &FileRef> {
        let tables = self.nodes.iter().flat_map(|n| &n.tables).flat_map(|t| &t.chains).flat_map(|c| &c.pieces);
        let in_flight = self.nodes.iter().flat_map(|n| &n.in_flight).map(|f| &f.file);
        let outboxes = self.sinks.iter().flat_map(|s| &s.committables).filter_map(|c| c.outbox.as_ref());
        tables.chain(in_flight).chain(outboxes)
    }
}
