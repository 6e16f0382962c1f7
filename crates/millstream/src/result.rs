//! Where the rows of a plain `SELECT` go: to whoever runs the program.

use arrow::datatypes::SchemaRef;
use millstream_core::{Batch, Result, Sink};
use std::sync::Arc;

/// Takes the rows of a `SELECT` as they come. Called from one worker thread.
pub trait ResultRows: Send + Sync {
    /// Called once, before the first row, also when there is none.
    fn start(&self, schema: &SchemaRef) -> Result<()>;

    fn rows(&self, batch: &Batch) -> Result<()>;

    /// Show what is held back.
    fn flush(&self) -> Result<()>;

    /// No row comes any more.
    fn finish(&self) -> Result<()>;
}

/// The sink in front of a [`ResultRows`].
pub struct ResultSink {
    rows: Arc<dyn ResultRows>,
    schema: SchemaRef,
    started: bool,
}

impl ResultSink {
    pub fn new(rows: Arc<dyn ResultRows>, schema: &SchemaRef) -> ResultSink {
        ResultSink { rows, schema: schema.clone(), started: false }
    }

    fn start(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.started, true) { Ok(()) } else { self.rows.start(&self.schema) }
    }
}

impl Sink for ResultSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.start()?;
        self.rows.rows(batch)
    }

    fn flush(&mut self) -> Result<()> {
        if self.started { self.rows.flush() } else { Ok(()) }
    }

    fn finish(&mut self) -> Result<()> {
        self.start()?;
        self.rows.finish()
    }

    fn abort(&mut self) {
        // What was shown cannot be taken back; what is held back is shown, so that it helps to understand the error.
        let _ = self.flush();
    }
}
