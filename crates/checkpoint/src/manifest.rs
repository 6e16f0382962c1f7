//! The manifest: one JSON object for each checkpoint, and the only truth about what is safe.
//!
//! ```text
//!  manifests/000000000042.json ──names──▶ data/41-3-agg-0-slices.parquet, data/42-3-agg-0-slices.parquet, ..
//!        ▲ created once, number by number: who finds the number taken has been replaced by another run
//!  savepoints/nightly.json    the same in a place where it stays until a user deletes it
//! ```
//!
//! A run writes number n + 1 only after it has read or written n itself, and only if nobody has written n + 1; and it
//! has written it only if no higher number is there afterwards ([`crate::recover::superseded`]; old numbers are deleted
//! and could be created again). So two runs of one job can never both go on, whatever they believe of each other.
//!
//! A file's name has its epoch and the generation of the run that wrote it ([`data_path`]). Two runs that save one epoch
//! never write to one name, and what no manifest can name any more is known by its epoch.

use millstream_core::{Error, Millis, Result};
use serde::{Deserialize, Serialize};

/// The version that this build writes. It reads all versions up to it.
pub const FORMAT: u32 = 1;

/// The version of this program, as manifests name it.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");

/// Bytes of a savepoint's name.
pub const SAVEPOINT_NAME_MAX: usize = 100;

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
    /// The same for each task: they differ where a barrier has overtaken watermarks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub shares: Vec<Share>,
    pub tables: Vec<TableState>,
    /// Of a source: its partitions.
    pub partitions: Vec<PartitionState>,
    /// Batches that were under way to the node when the barrier overtook them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub in_flight: Vec<InFlight>,
}

/// How far one task of a node had come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    pub task: usize,
    pub event_watermark: Option<Millis>,
    pub processing_watermark: Option<Millis>,
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
    /// Of a piece with everything that a task remembered in a table: its rows are there, and no two have one name.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
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
    /// The task that they were under way to.
    pub task: usize,
    pub input: usize,
    pub file: FileRef,
}

/// The name of a file that the run `generation` writes for `epoch`; `rest` tells its files apart and has the extension.
pub fn data_path(epoch: u64, generation: u64, rest: &str) -> String {
    format!("data/{epoch}-{generation}-{rest}")
}

/// The epoch of a file by its name; `None` where it is not one of [`data_path`].
pub fn epoch_of(path: &str) -> Option<u64> {
    path.strip_prefix("data/")?.split_once('-')?.0.parse().ok()
}

/// Where the savepoint of this name is stored: a manifest.
pub fn savepoint_path(name: &str) -> String {
    format!("savepoints/{name}.json")
}

/// Whether a path is that of a savepoint.
pub fn is_savepoint(path: &str) -> bool {
    path.strip_prefix("savepoints/").is_some_and(|name| name.ends_with(".json"))
}

/// Checks a savepoint's name: letters, digits, `-`, `_` and, not in front, `.`.
pub fn check_savepoint_name(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if !name.is_empty() && name.len() <= SAVEPOINT_NAME_MAX && !name.starts_with('.') && name.chars().all(fits) {
        return Ok(());
    }
    Err(Error::usage(format!("a savepoint cannot be called `{name}`"))
        .remedy(format!("use at most {SAVEPOINT_NAME_MAX} letters, digits, `-`, `_` and `.`, such as before-upgrade")))
}

impl Manifest {
    /// Of a job that has never run: what its first run creates before anything else, so that there is one first run.
    pub fn first(job: &str, key_groups: u32, parallelism: usize, now: Millis) -> Manifest {
        Manifest {
            format: FORMAT,
            number: 1,
            job: job.to_owned(),
            generation: 1,
            epoch: 0,
            written: now,
            key_groups,
            parallelism,
            finished: false,
            nodes: Vec::new(),
            sinks: Vec::new(),
            program: PROGRAM.to_owned(),
        }
    }

    /// The next manifest, with all that this one holds: a new run creates it before anything else, and from then on the
    /// run that wrote this one can write no other. What sinks have to commit stays in it and is committed again.
    pub fn fenced(&self, generation: u64, now: Millis) -> Manifest {
        Manifest {
            format: FORMAT,
            number: self.number + 1,
            generation,
            written: now,
            program: PROGRAM.to_owned(),
            ..self.clone()
        }
    }

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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn file(path: &str, epoch: u64) -> FileRef {
        FileRef { path: path.to_owned(), epoch, rows: 10, bytes: 100, hash: "0".to_owned(), whole: false }
    }

    /// A manifest whose one table has one chain of these pieces.
    pub(crate) fn manifest(number: u64, epoch: u64, pieces: Vec<FileRef>) -> Manifest {
        let table = TableState {
            name: "slices".to_owned(),
            version: 1,
            columns: vec!["end BIGINT".to_owned(), "count BIGINT".to_owned()],
            key: 1,
            part: 1,
            chains: vec![Chain { task: 0, pieces }],
        };
        let node = NodeState {
            id: "agg".to_owned(),
            label: "count by window".to_owned(),
            event_watermark: Some(7),
            processing_watermark: None,
            shares: Vec::new(),
            tables: vec![table],
            partitions: Vec::new(),
            in_flight: Vec::new(),
        };
        Manifest { number, epoch, nodes: vec![node], ..Manifest::first("clicks", 256, 1, 1_000) }
    }

    #[test]
    fn it_reads_back_as_it_was_written() {
        let mut written = manifest(3, 9, vec![file("data/9-1-a", 9)]);
        written.nodes[0].in_flight.push(InFlight { task: 0, input: 1, file: file("data/9-1-f", 9) });
        written.nodes[0].partitions.push(PartitionState {
            name: "orders[3]".to_owned(),
            position: "918273".to_owned(),
            watermark: None,
            rows: 5,
            idle: true,
            ended: false,
        });
        let data = CommittableState { data: Some("part-1".to_owned()), outbox: None };
        let outbox = CommittableState { data: None, outbox: Some(file("data/9-1-o", 9)) };
        let sink = SinkState { id: "out".to_owned(), table: "counts".to_owned(), committables: vec![data, outbox] };
        written.sinks.push(sink);
        let json = written.to_json();
        assert_eq!(Manifest::from_json(&json).unwrap(), written);
        let files: Vec<_> = written.files().map(|f| f.path.as_str()).collect();
        assert_eq!(files, ["data/9-1-a", "data/9-1-f", "data/9-1-o"]);
        for at in 0..json.len() - 2 {
            assert!(Manifest::from_json(&json[..at]).is_err(), "torn at {at}");
        }
        let later = String::from_utf8(json).unwrap().replace("\"format\": 1", "\"format\": 2");
        let e = Manifest::from_json(later.as_bytes()).unwrap_err();
        assert!(e.what().contains("format 2") && e.help().is_some(), "{e}");
    }

    #[test]
    fn names_say_their_number_and_epoch() {
        assert_eq!(Manifest::number_of(&Manifest::path(42)), Some(42));
        assert_eq!(Manifest::number_of(&Manifest::path(u64::MAX)), Some(u64::MAX));
        assert_eq!(Manifest::number_of("manifests/notes.json"), None);
        assert_eq!(epoch_of(&data_path(41, 3, "agg-0-slices.parquet")), Some(41));
        for none in ["data/notes.txt", "data/x-1", "manifests/1-1", "1-1"] {
            assert_eq!(epoch_of(none), None, "{none}");
        }
        assert!(is_savepoint(&savepoint_path("nightly")));
        check_savepoint_name("before-v1.2_final").unwrap();
        for bad in ["", "../up", ".hidden", "a b", "a/b", &"x".repeat(SAVEPOINT_NAME_MAX + 1)] {
            assert!(check_savepoint_name(bad).is_err(), "{bad}");
        }
    }
}
