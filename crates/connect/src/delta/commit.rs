//! Makes the epochs of a table visible, each as one commit of its log.
//!
//! ```text
//!  writers: files, no log names them ──prepare──▶ manifest ──commit──▶ files are whole ─▶ one commit: txn + all of them
//!  by key:  rows, in the checkpoint  ──prepare──▶ manifest ──commit──▶ merge ─────────▶ one commit: txn, remove, add
//! ```
//!
//! A file that no commit names is seen by nobody, so readers see an epoch as a whole or not at all.

use super::actions::{Add, Line};
use super::merge;
use super::settings::Settings;
use super::table::{App, Operation, Table};
use crate::filesystem::{DEFAULT_PARTITION, Filesystem, Parts, unescape};
use crate::percent;
use crate::position;
use crate::store::now;
use crate::{Connector, filesystem};
use millstream_core::{Batch, Committable, Committer, Error, JobRun, Prepared, Result, Sink, SinkContext};
use serde::Deserialize;
use std::collections::BTreeMap;

/// A file as a sink of files hands it over, on this machine or in a bucket.
#[derive(Debug, Deserialize)]
struct Part {
    name: String,
    size: u64,
    #[serde(default)]
    about: Option<String>,
}

/// Commits epochs, or, without checkpoints, what is there at the end.
pub struct EpochCommitter {
    settings: Settings,
    job: JobRun,
    /// `None`: the job takes no checkpoints, and nothing is noted.
    app: Option<App>,
    /// `None`: the last commit has failed, and what is known of the table is not relied upon.
    table: Option<Table>,
    /// Makes files whole.
    files: Box<dyn Committer>,
}

impl EpochCommitter {
    /// Opens the table. Without checkpoints `job` is a name for the files alone.
    pub fn open(settings: &Settings, job: &JobRun, checkpoints: bool) -> Result<EpochCommitter> {
        let table = Table::open(settings)?;
        let app = checkpoints.then(|| App::of(job, &settings.table.name));
        if let Some(app) = &app {
            table.check_not_ahead(app)?;
        }
        let files = Filesystem.open_committer(&settings.files, job)?;
        let files = files.ok_or_else(|| Error::internal("a folder of files without a committer"))?;
        Ok(EpochCommitter { settings: settings.clone(), job: job.clone(), app, table: Some(table), files })
    }

    fn try_commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        if self.table.is_none() {
            self.table = Some(Table::open(&self.settings)?);
        }
        let table = self.table.as_mut().expect("opened just now");
        table.refresh(self.app.as_ref())?;
        if self.app.as_ref().is_some_and(|app| table.has(app, epoch)) {
            // Not to be touched again: whoever cleans the table up may have taken its files away since.
            return Ok(());
        }
        let app = self.app.as_ref().map(|app| (app, epoch));
        if self.settings.table.primary_key.is_empty() {
            self.files.commit(epoch, committables)?;
            let adds = committables.iter().map(|c| adds(c, &self.settings)).collect::<Result<Vec<_>>>()?.concat();
            return table.commit(app, Operation::Append, |_| Ok(adds.clone()));
        }
        let batches: Vec<Batch> = committables.iter().flat_map(|c| c.outbox.iter().cloned()).collect();
        let (settings, job, files) = (&self.settings, &self.job, &mut self.files);
        table.commit(app, Operation::Upsert, |table| {
            merge::lines(table, &batches, |rows| write_files(settings, job, epoch, files.as_mut(), rows))
        })
    }
}

impl Committer for EpochCommitter {
    fn commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        let empty = |c: &Committable| c.data.is_none() && c.outbox.iter().all(Batch::is_empty);
        if committables.iter().all(empty) {
            return Ok(());
        }
        let done = self.try_commit(epoch, committables);
        if done.is_err() {
            // Whatever is known of the table: the next try begins anew.
            self.table = None;
        }
        done
    }

    fn clean(&mut self, epoch: u64, kept: &[Committable]) -> Result<()> {
        self.files.clean(epoch, kept)
    }
}

/// Writes rows into files outside of an epoch's writers, and gives what the log has to say of them.
fn write_files(
    settings: &Settings,
    job: &JobRun,
    epoch: u64,
    files: &mut dyn Committer,
    rows: &mut merge::Rows<'_>,
) -> Result<Vec<Line>> {
    // Named after the epoch, so that no file of another one is ever written to. What an earlier try of this epoch has left
    // is in no commit, and may be written over.
    let index = usize::try_from(epoch).map_err(|_| Error::internal(format!("{epoch} is no epoch")))?;
    let context = SinkContext { index, writers: index.saturating_add(1), job: Some(job.clone()) };
    let mut sink = filesystem::FileSink::open(&settings.files, &context)?.of_a_log(super::stats::of_file);
    rows(&mut |batch| sink.write(batch))?;
    let committable = prepared(&mut sink, epoch)?;
    files.commit(epoch, std::slice::from_ref(&committable))?;
    adds(&committable, settings)
}

/// Ends what a sink has written so far, and waits until it is safe.
pub fn prepared(sink: &mut dyn Sink, epoch: u64) -> Result<Committable> {
    let Prepared { committable, settle, .. } = sink.prepare(epoch)?;
    settle.map_or(Ok(()), |settle| settle())?;
    Ok(Committable { data: committable, outbox: Vec::new() })
}

/// The actions that add the files of a committable.
fn adds(committable: &Committable, settings: &Settings) -> Result<Vec<Line>> {
    let Some(text) = &committable.data else { return Ok(Vec::new()) };
    let parts: Parts<Part> = position::parse(text, &settings.table.name)?;
    let add = |part: Part| Line {
        add: Some(Add {
            path: encoded(&part.name),
            partition_values: partition_values(&part.name, settings),
            size: i64::try_from(part.size).unwrap_or(i64::MAX),
            modification_time: now(),
            data_change: true,
            stats: part.about,
            ..Add::default()
        }),
        ..Line::default()
    };
    Ok(parts.parts.into_iter().map(add).collect())
}

/// A name as a URI. `=` has a meaning in none of its parts, and people look for it.
fn encoded(name: &str) -> String {
    let parts = name.split('/').map(|part| percent::encoded(part).replace("%3D", "="));
    parts.collect::<Vec<_>>().join("/")
}

/// What the folders of a file that was written here say of its rows.
fn partition_values(name: &str, settings: &Settings) -> BTreeMap<String, Option<String>> {
    let folders = name.split('/').filter_map(|folder| folder.split_once('='));
    let value = |value: &str| (value != DEFAULT_PARTITION).then(|| unescape(value));
    let given: BTreeMap<String, Option<String>> = folders.map(|(k, v)| (unescape(k), value(v))).collect();
    let of = |column: &String| (column.clone(), given.get(column).cloned().flatten());
    settings.table.partitioned_by.iter().map(of).collect()
}
