//! How a job comes back: finds the checkpoint to go on from, makes sure that no other run can go on too, and hands its
//! contents to the tasks.
//!
//! ```text
//!  manifests/…  ──newest──▶ n ──compare with the query──▶ create n + 1, of a new generation (the fence)
//!                                                         commit again what n had prepared
//!                                                         positions, tables, watermarks ──▶ tasks
//! ```

use super::files;
use super::{CheckpointConfig, Restore};
use crate::chain::keep_within;
use crate::sabotage::{Bug, on};
use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use millstream_checkpoint::Manifest;
use millstream_checkpoint::manifest::{FileRef, NodeState, TableState, is_savepoint, savepoint_path};
use millstream_checkpoint::recover::{FENCE_TRIES_MAX, Found, Recovery, Wanted, choose, superseded};
use millstream_core::key::{KEY_GROUPS, hash_rows, key_group, owner};
use millstream_core::{
    Batch, Committable, Error, Millis, Place, Put, Result, Stat, Store, Stored, TimeDomain, Watermark,
};
use millstream_dataflow::operator::{Operator, Watermarks};
use millstream_state::chain::{Desk, Pieces, each_alive};
use millstream_state::table::{Changes, TableDef, alive};
use millstream_state::tier::Share;
use std::ops::Range;
use std::sync::Arc;

/// What a job goes on from.
#[derive(Clone)]
pub(crate) struct Restored {
    pub store: Arc<dyn Store>,
    pub manifest: Arc<Manifest>,
}

/// The job taken over from whoever ran it before.
pub(crate) struct Taken {
    pub generation: u64,
    /// Of the fence.
    pub number: u64,
    /// The last epoch that is used up.
    pub epoch: u64,
    /// `None`: the job has never run.
    pub restored: Option<Restored>,
}

/// Every manifest in the store, read.
pub(crate) fn manifests(store: &dyn Store, listing: &[Stat]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for stat in listing.iter().filter(|s| Manifest::number_of(&s.path).is_some()) {
        // One that has gone since the listing was tidied up by another run.
        if let Some(bytes) = store.get(&stat.path)? {
            found.push(Found { path: stat.path.clone(), manifest: Manifest::from_json(&bytes) });
        }
    }
    Ok(found)
}

/// What there is to go on from, without taking it; `None`: the job has never run.
pub fn find(config: &CheckpointConfig, now: Millis) -> Result<Option<Recovery>> {
    let store = config.store.as_ref();
    let listing = store.list("")?;
    let wanted = match &config.restore {
        Restore::Latest => Wanted::Newest,
        Restore::Number(number) => Wanted::Number(*number),
        Restore::Savepoint(name) => {
            let path = savepoint_path(name);
            let Some(bytes) = store.get(&path)? else {
                let known = listing.iter().filter(|s| is_savepoint(&s.path));
                let known: Vec<&str> = known.map(|s| s.path["savepoints/".len()..].trim_end_matches(".json")).collect();
                let known =
                    if known.is_empty() { "there are none".into() } else { format!("there are {}", known.join(", ")) };
                return Err(Error::usage(format!("there is no savepoint `{name}`"))
                    .at(Place(store.name()))
                    .remedy(known));
            };
            Wanted::Savepoint(path, Box::new(Manifest::from_json(&bytes)))
        }
    };
    let recovery = choose(&config.job, &manifests(store, &listing)?, &listing, &wanted, now);
    let recovery = recovery.map_err(|e| e.at(Place(store.name())))?;
    if let Some(recovery) = &recovery
        && recovery.restore.key_groups != KEY_GROUPS
    {
        let what = format!("the job has {} key groups, this program {KEY_GROUPS}", recovery.restore.key_groups);
        return Err(Error::data(what)
            .at(Place(store.name()))
            .remedy("use the version of millstream that wrote the checkpoint"));
    }
    Ok(recovery)
}

/// Takes the job over: from now on no other run can write a manifest.
pub(crate) fn take_over(config: &CheckpointConfig, parallelism: usize, now: Millis) -> Result<Taken> {
    let store = config.store.as_ref();
    for _ in 0..FENCE_TRIES_MAX {
        let recovery = find(config, now)?;
        let fence = match &recovery {
            Some(recovery) => recovery.fence.clone(),
            None => Manifest::first(&config.job, KEY_GROUPS, parallelism, now),
        };
        let stored = store.put(&Manifest::path(fence.number), &fence.to_json(), Put::Create)?;
        // Where the other run was faster, look again.
        if stored == Stored::Exists || superseded(fence.number, &store.list("manifests/")?).is_some() {
            continue;
        }
        return Ok(Taken {
            generation: fence.generation,
            number: fence.number,
            epoch: fence.epoch,
            restored: recovery.map(|_| Restored { store: config.store.clone(), manifest: Arc::new(fence) }),
        });
    }
    Err(Error::io(format!("another run of job `{}` keeps writing checkpoints", config.job))
        .at(Place(store.name()))
        .remedy("stop it first: one run of a job at a time"))
}

impl Restored {
    pub fn node(&self, id: &str) -> Option<&NodeState> {
        self.manifest.nodes.iter().find(|n| n.id == id)
    }

    /// Whether the tasks of the node are those that were saved, so that their chains go on.
    pub fn same_tasks(&self, parallelism: usize) -> bool {
        self.manifest.parallelism == parallelism
    }

    /// What the node had been handed when it was saved: the least over its tasks.
    pub fn watermarks(node: &NodeState) -> Watermarks {
        watermarks(node.event_watermark, node.processing_watermark)
    }

    /// The same of one task of the saved run; the node's, where the manifest does not tell tasks apart.
    pub fn watermarks_of(node: &NodeState, task: usize) -> Watermarks {
        match node.shares.iter().find(|s| s.task == task) {
            Some(share) => watermarks(share.event_watermark, share.processing_watermark),
            None => Restored::watermarks(node),
        }
    }

    /// The furthest that any task of the node had come.
    pub fn furthest(node: &NodeState) -> Watermarks {
        let mut furthest = Restored::watermarks(node);
        for share in &node.shares {
            let Watermarks { event, processing } = watermarks(share.event_watermark, share.processing_watermark);
            furthest.advance(TimeDomain::Event, event);
            furthest.advance(TimeDomain::Processing, processing);
        }
        furthest
    }

    /// Loads what one task of the saved run remembered of a node, as far as it is `mine`.
    pub fn load(
        &self,
        node: &NodeState,
        operator: &mut dyn Operator,
        saved_task: usize,
        mine: &Mine<'_>,
    ) -> Result<()> {
        for def in operator.tables() {
            let Some(saved) = node.tables.iter().find(|t| t.name == def.name) else { continue };
            self.load_table(saved, &def, operator, saved_task, mine)
                .map_err(|e| e.at(Place(format!("table `{}` of {}", def.name, node.label))))?;
        }
        Ok(())
    }

    fn load_table(
        &self,
        saved: &TableState,
        def: &TableDef,
        operator: &mut dyn Operator,
        saved_task: usize,
        mine: &Mine<'_>,
    ) -> Result<()> {
        if def.group_by.is_empty() && mine.task > 0 {
            return Ok(());
        }
        for chain in saved.chains.iter().filter(|c| c.task == saved_task) {
            let files = files::Chain { store: self.store.as_ref(), files: &chain.pieces };
            let mut load = |rows: RecordBatch| -> Result<()> {
                let rows = match mine.all || def.group_by.is_empty() {
                    true => rows,
                    false => share(&rows, &def.group_by, mine.task, mine.tasks)?,
                };
                if rows.num_rows() > 0 {
                    operator.load(&def.name, saved.version, &rows)?;
                    keep_within(mine.share, operator)?;
                }
                Ok(())
            };
            match on(Bug::DropPartsIgnored) {
                true => each_alive(def, &WithoutDrops(files), mine.desk, &mut load)?,
                false => each_alive(def, &files, mine.desk, &mut load)?,
            }
        }
        Ok(())
    }

    /// All live rows of a table of a node.
    pub fn rows(&self, node: &NodeState, def: &TableDef) -> Result<Vec<RecordBatch>> {
        let Some(saved) = node.tables.iter().find(|t| t.name == def.name) else { return Ok(Vec::new()) };
        let mut rows = Vec::new();
        for chain in &saved.chains {
            let pieces = chain.pieces.iter().map(|f| files::read(self.store.as_ref(), f));
            let pieces: Vec<RecordBatch> = pieces.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
            rows.extend(alive(def, &pieces)?);
        }
        Ok(rows)
    }

    /// Batches that were under way to a task of the saved run, by input.
    pub fn in_flight(&self, node: &NodeState, saved_task: usize) -> Result<Vec<(usize, Batch)>> {
        let mut batches = Vec::new();
        if on(Bug::InFlightForgotten) {
            return Ok(batches);
        }
        for under_way in node.in_flight.iter().filter(|f| f.task == saved_task) {
            for flat in files::read(self.store.as_ref(), &under_way.file)? {
                batches.push((under_way.input, files::unflatten(&flat)?));
            }
        }
        Ok(batches)
    }

    /// What the writers of a sink had prepared.
    pub fn committables(&self, sink: &str) -> Result<Vec<Committable>> {
        let Some(state) = self.manifest.sinks.iter().find(|s| s.id == sink) else { return Ok(Vec::new()) };
        let outbox = |file: &FileRef| -> Result<Vec<Batch>> {
            files::read(self.store.as_ref(), file)?.iter().map(files::unflatten).collect()
        };
        let committable = |c: &millstream_checkpoint::manifest::CommittableState| -> Result<Committable> {
            let outbox = c.outbox.as_ref().map(outbox).transpose()?.unwrap_or_default();
            Ok(Committable { data: c.data.clone(), outbox })
        };
        state.committables.iter().map(committable).collect()
    }
}

/// Which share of a node's rows a task owns.
pub(crate) struct Mine<'a> {
    pub task: usize,
    pub tasks: usize,
    /// All that its namesake in the saved run had.
    pub all: bool,
    /// Of the job's memory: what is loaded has to fit too.
    pub share: &'a Share,
    /// For what is read.
    pub desk: Desk<'a>,
}

fn watermarks(event: Option<Millis>, processing: Option<Millis>) -> Watermarks {
    let of = |at: Option<Millis>| at.map_or(Watermark::MIN, Watermark);
    Watermarks { event: of(event), processing: of(processing) }
}

/// The rows whose key group the task owns.
pub(crate) fn share(rows: &RecordBatch, group_by: &[usize], task: usize, tasks: usize) -> Result<RecordBatch> {
    let columns: Vec<ArrayRef> = group_by.iter().map(|c| rows.column(*c).clone()).collect();
    let mut hashes = Vec::new();
    hash_rows(&columns, rows.num_rows(), &mut hashes)?;
    let task = if on(Bug::WrongTask) { (task + 1) % tasks } else { task };
    let mine: BooleanArray = hashes.iter().map(|h| Some(owner(key_group(*h), tasks as u32) == task as u32)).collect();
    Ok(filter_record_batch(rows, &mine)?)
}

/// For [`Bug::DropPartsIgnored`].
struct WithoutDrops<'a>(files::Chain<'a>);

impl Pieces for WithoutDrops<'_> {
    fn pieces(&self) -> usize {
        self.0.pieces()
    }

    fn rows_of(&self, pieces: Range<usize>) -> u64 {
        self.0.rows_of(pieces)
    }

    fn once(&self) -> usize {
        self.0.once()
    }

    fn read(&self, piece: usize, columns: Option<&[&str]>) -> Result<Changes> {
        Ok(Box::new(self.0.read(piece, columns)?.map(|rows| without_drops(&rows?))))
    }
}

fn without_drops(piece: &RecordBatch) -> Result<RecordBatch> {
    use arrow::array::AsArray;
    let changes = piece.column(0).as_primitive::<arrow::datatypes::Int8Type>();
    let stay: BooleanArray = changes.values().iter().map(|c| Some(*c < 2)).collect();
    Ok(filter_record_batch(piece, &stay)?)
}
