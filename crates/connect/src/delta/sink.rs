//! The writers of a table.
//!
//! ```text
//!  new rows:  write ─▶ as stored ─▶ Parquet files that no log names ──prepare──▶ the epoch's committable
//!  by key:    write ─▶ held, the last of each key ──────────────────prepare──▶ the epoch's outbox
//! ```
//!
//! Without checkpoints a writer commits itself: its files at the end, its rows by key whenever it holds as many as it may.

use super::commit::{EpochCommitter, prepared};
use super::settings::Settings;
use super::stats;
use crate::compact::Held;
use crate::filesystem::{FileSink, chance, process_id};
use crate::outbox::Outbox;
use arrow::array::RecordBatch;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::SchemaRef;
use millstream_core::{
    Batch, Committable, Committer, Error, JobRun, Prepared, Result, Sink, SinkContext, TableSpec, Watermark,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// Tells the writers of this process apart.
static NEXT_NAME: AtomicU64 = AtomicU64::new(0);

pub fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let settings = Settings::of(table)?;
    let by_key = !table.primary_key.is_empty();
    if let Some(job) = &context.job {
        let sole = Sole::take(job, &settings, context.index)?;
        if by_key {
            let inner = Outbox::new(table, Held::new(table)?, settings.outbox_bytes_max);
            return Ok(Box::new(Owned { inner: Box::new(inner), _sole: sole }));
        }
        let files = files(&settings, context)?;
        return Ok(Box::new(Owned {
            inner: Box::new(Appender { settings, files, committer: None, done: false }),
            _sole: sole,
        }));
    }
    // A name that no other run has, and no other INSERT INTO of this one, for the files.
    let name = format!("{}-{:08x}-{}", process_id(), chance(), NEXT_NAME.fetch_add(1, Ordering::Relaxed));
    let job = JobRun { job: name, generation: 1, epoch: 0 };
    let committer = EpochCommitter::open(&settings, &job, false)?;
    if by_key {
        let held = Held::new(table)?;
        return Ok(Box::new(Upserter { settings, held, committer, epoch: 0, bytes: 0 }));
    }
    let context = SinkContext { job: Some(job), ..context.clone() };
    let files = files(&settings, &context)?;
    Ok(Box::new(Appender { settings, files, committer: Some(committer), done: false }))
}

fn files(settings: &Settings, context: &SinkContext) -> Result<FileSink> {
    Ok(FileSink::open(&settings.files, context)?.of_a_log(stats::of_file))
}

/// The columns as the files have them.
pub fn as_stored(rows: &RecordBatch, stored: &SchemaRef) -> Result<RecordBatch> {
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let columns = rows.columns().iter().zip(stored.fields()).map(|(column, field)| {
        cast_with_options(column, field.data_type(), &strict).map_err(|e| {
            Error::data(format!("a value of `{}` cannot be stored: {e}", field.name()))
                .remedy("leave such rows out, or CAST the column")
        })
    });
    Ok(RecordBatch::try_new(stored.clone(), columns.collect::<Result<Vec<_>>>()?)?)
}

/// A writer of new rows.
struct Appender {
    settings: Settings,
    files: FileSink,
    /// Where the job takes no checkpoints.
    committer: Option<EpochCommitter>,
    done: bool,
}

impl Sink for Appender {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.kinds.as_ref().is_some_and(|kinds| kinds.values().iter().any(|&k| k != 0)) {
            return Err(Error::sql(format!(
                "`{}` has no key and takes new rows only, and this query also changes rows that it has given before",
                self.settings.table.name
            ))
            .remedy("declare PRIMARY KEY (..) NOT ENFORCED: rows are then written by their key"));
        }
        let rows = as_stored(&batch.rows, &self.settings.files.schema)?;
        self.files.write(&rows.into())
    }

    fn flush(&mut self) -> Result<()> {
        self.files.flush()
    }

    fn finish(&mut self) -> Result<()> {
        if self.done {
            return Ok(());
        }
        if let Some(committer) = &mut self.committer {
            let committable = prepared(&mut self.files, 1)?;
            committer.commit(1, &[committable])?;
        }
        self.done = true;
        self.files.finish()
    }

    fn abort(&mut self) {
        self.files.abort();
        self.done = true;
    }

    fn advance(&mut self, to: Watermark) {
        self.files.advance(to);
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        self.files.prepare(epoch)
    }

    fn bytes(&self) -> u64 {
        self.files.bytes()
    }
}

/// The writer by key of a job without checkpoints.
struct Upserter {
    settings: Settings,
    held: Held,
    committer: EpochCommitter,
    /// Numbers the commits of this writer.
    epoch: u64,
    bytes: u64,
}

impl Upserter {
    fn send(&mut self) -> Result<()> {
        let outbox = self.held.take()?;
        self.bytes += outbox.iter().map(|b| b.bytes() as u64).sum::<u64>();
        self.epoch += 1;
        self.committer.commit(self.epoch, &[Committable { data: None, outbox }])
    }
}

impl Sink for Upserter {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.held.push(batch)?;
        let max = self.settings.outbox_bytes_max.0;
        if self.held.bytes() as u64 <= max {
            return Ok(());
        }
        self.held.compact()?;
        // Half, or the next row would have to compact all of it again.
        if self.held.bytes() as u64 <= max / 2 { Ok(()) } else { self.send() }
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.send()
    }

    fn abort(&mut self) {
        self.held.clear();
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// That a writer is the only one of its place: two INSERT INTO of a job would each commit the epoch, and the second would
/// find that it is there already.
struct Sole(String);

static WRITERS: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

impl Sole {
    fn take(job: &JobRun, settings: &Settings, index: usize) -> Result<Sole> {
        let Settings { table, root, .. } = settings;
        let name = format!("{}/{}/{}/{index} {root}", job.job, job.generation, table.name);
        let mut writers = WRITERS.lock().unwrap_or_else(PoisonError::into_inner);
        if writers.insert(name.clone()) {
            return Ok(Sole(name));
        }
        Err(Error::sql(format!("two INSERT INTO of this job write to the Delta table `{}`", table.name)).remedy(format!(
            "make one of them: INSERT INTO {} SELECT .. UNION ALL SELECT ..; or declare the table twice under two names",
            table.name
        )))
    }
}

impl Drop for Sole {
    fn drop(&mut self) {
        WRITERS.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
}

/// A writer with its place.
struct Owned {
    inner: Box<dyn Sink>,
    _sole: Sole,
}

impl Sink for Owned {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.inner.write(batch)
    }

    fn flush(&mut self) -> Result<()> {
        self.inner.flush()
    }

    fn finish(&mut self) -> Result<()> {
        self.inner.finish()
    }

    fn abort(&mut self) {
        self.inner.abort();
    }

    fn advance(&mut self, to: Watermark) {
        self.inner.advance(to);
    }

    fn prepare(&mut self, epoch: u64) -> Result<Prepared> {
        self.inner.prepare(epoch)
    }

    fn commits(&self) -> bool {
        self.inner.commits()
    }

    fn bytes(&self) -> u64 {
        self.inner.bytes()
    }
}
