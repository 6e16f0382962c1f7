//! Tables that rows are written into: one with transactions, one of files.
//!
//! ```text
//!  ledger   rows ──outbox of the manifest──▶ commit: rows and (job, epoch) in one transaction
//!  files    rows ──▶ staged file ──settle: safe──▶ commit: renamed, one by one      clean: what nobody names is removed
//! ```
//!
//! Both keep the contract of `core::sink` and nothing more: before `settle` a staged file does not survive a crash, and
//! between two renames there may be one.

use crate::world::{File, Kind, Run, World};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{Batch, ChangeKind, Committable, Committer, Error, JobRun, Prepared, Result, Sink, SinkContext};
use std::sync::Arc;

/// Between the columns of a row's text.
pub const BETWEEN: char = '|';

/// How a table makes rows visible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableKind {
    Ledger,
    Files,
}

/// A row of a batch as text, column by column.
fn texts(batch: &Batch) -> Result<Vec<String>> {
    let options = FormatOptions::new().with_null("NULL");
    let columns = batch.rows.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &options));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let mut rows = Vec::with_capacity(batch.len());
    for row in 0..batch.len() {
        let mut text = String::new();
        for (at, column) in columns.iter().enumerate() {
            if at > 0 {
                text.push(BETWEEN);
            }
            let value = column.value(row).try_to_string()?;
            text.push_str(&value);
        }
        if let Some(kinds) = &batch.kinds
            && kinds.value(row) != 0
        {
            text.push_str(ChangeKind::from_code(kinds.value(row)).short());
        }
        rows.push(text);
    }
    Ok(rows)
}

/// One writer of a table.
pub struct Writer {
    world: Arc<World>,
    run: Arc<Run>,
    table: String,
    kind: TableKind,
    /// In jobs with checkpoints; names its files.
    job: Option<JobRun>,
    index: usize,
    /// Not prepared yet.
    batches: Vec<Batch>,
    /// The staged file that is being written.
    file: Option<String>,
    files: usize,
}

impl Writer {
    pub fn new(world: Arc<World>, run: Arc<Run>, table: &str, kind: TableKind, context: &SinkContext) -> Writer {
        let (job, index) = (context.job.clone(), context.index);
        Writer { world, run, table: table.to_owned(), kind, job, index, batches: Vec::new(), file: None, files: 0 }
    }

    fn stages(&self) -> bool {
        self.kind == TableKind::Files && self.job.is_some()
    }

    fn next_file(&mut self) -> String {
        self.files += 1;
        let generation = self.job.as_ref().map_or(0, |j| j.generation);
        format!("{generation:04}-{}-{}-{}", self.run.number, self.index, self.files)
    }
}

impl Sink for Writer {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if !self.stages() {
            self.batches.push(batch.clone());
            return Ok(());
        }
        let rows = texts(batch)?;
        let file = match &self.file {
            Some(file) => file.clone(),
            None => self.next_file(),
        };
        self.file = Some(file.clone());
        let what = format_args!("write {} rows into {}/{file}", rows.len(), self.table);
        self.world.act(&self.run, Kind::Write, what, |core| {
            let table = core.tables.entry(self.table.clone()).or_default();
            let staged = File { rows: Vec::new(), safe: false, run: self.run.number };
            table.staged.entry(file.clone()).or_insert(staged).rows.extend(rows);
            Ok(())
        })
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        let rows: Vec<String> = self.batches.iter().map(texts).collect::<Result<Vec<_>>>()?.concat();
        self.batches.clear();
        self.world.act(&self.run, Kind::Write, format_args!("finish {}: {} rows", self.table, rows.len()), |core| {
            core.tables.entry(self.table.clone()).or_default().rows.extend(rows);
            Ok(())
        })
    }

    fn abort(&mut self) {
        self.batches.clear();
        if let Some(file) = self.file.take() {
            // A file that stays is cleaned away by the next run.
            let _ = self.world.act(&self.run, Kind::Read, format_args!("remove {}/{file}", self.table), |core| {
                core.tables.entry(self.table.clone()).or_default().staged.remove(&file);
                Ok(())
            });
        }
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        self.world
            .note(format_args!("run {} prepare {} writer {} for {epoch}", self.run.number, self.table, self.index));
        if !self.stages() {
            let outbox = std::mem::take(&mut self.batches);
            return Ok(Prepared { committable: None, outbox, settle: None });
        }
        let Some(file) = self.file.take() else { return Ok(Prepared::default()) };
        let (world, run, table, name) = (self.world.clone(), self.run.clone(), self.table.clone(), file.clone());
        let settle = move || {
            world.act(&run, Kind::Write, format_args!("sync {table}/{name}"), |core| {
                match core.tables.entry(table.clone()).or_default().staged.get_mut(&name) {
                    Some(file) => file.safe = true,
                    None => return Err(Error::io(format!("{table}/{name} is not there to be synced"))),
                }
                Ok(())
            })
        };
        Ok(Prepared { committable: Some(file), outbox: Vec::new(), settle: Some(Box::new(settle)) })
    }

    fn commits(&self) -> bool {
        self.job.is_some()
    }
}

/// What makes the epochs of a table visible.
pub struct TableCommitter {
    pub world: Arc<World>,
    pub run: Arc<Run>,
    pub table: String,
    pub kind: TableKind,
    pub generation: u64,
}

impl TableCommitter {
    fn rename(&self, file: &str) -> Result<()> {
        self.world.act(&self.run, Kind::Write, format_args!("rename {}/{file}", self.table), |core| {
            let table = core.tables.entry(self.table.clone()).or_default();
            match table.staged.remove(file) {
                Some(content) => drop(table.shown.insert(file.to_owned(), content)),
                None if table.shown.contains_key(file) => {}
                None => return Err(Error::data(format!("{}/{file} is to be shown and is not there", self.table))),
            }
            Ok(())
        })
    }
}

impl Committer for TableCommitter {
    fn commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        if self.kind == TableKind::Files {
            return committables.iter().filter_map(|c| c.data.as_ref()).try_for_each(|file| self.rename(file));
        }
        let batches = committables.iter().flat_map(|c| &c.outbox);
        let rows = batches.map(texts).collect::<Result<Vec<_>>>()?.concat();
        let what = format_args!("commit {} of epoch {epoch}: {} rows", self.table, rows.len());
        self.world.act(&self.run, Kind::Write, what, |core| {
            let table = core.tables.entry(self.table.clone()).or_default();
            if epoch > table.epoch {
                table.rows.extend(rows);
                table.epoch = epoch;
            }
            Ok(())
        })
    }

    fn clean(&mut self, epoch: u64, kept: &[Committable]) -> Result<()> {
        if self.kind == TableKind::Ledger {
            return Ok(());
        }
        let mine = format!("{:04}-", self.generation);
        self.world.act(&self.run, Kind::Write, format_args!("clean {} after epoch {epoch}", self.table), |core| {
            let is_kept = |file: &str| kept.iter().any(|c| c.data.as_deref() == Some(file));
            let table = core.tables.entry(self.table.clone()).or_default();
            table.staged.retain(|file, _| is_kept(file) || *file >= mine);
            Ok(())
        })
    }
}
