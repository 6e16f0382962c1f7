//! Prints rows as Flink does: `+I[a, 1, null]`, with the kind of change in front.

use crate::Connector;
use crate::options::{check_keys, only};
use millstream_core::table::{TableUse, Takes};
use millstream_core::{Batch, ChangeKind, Error, Result, Sink, SinkContext, Source, TableSpec};
use millstream_formats::options::flag;
use millstream_formats::text::Printer;
use std::io::{self, Write};

pub struct Print;

/// Bytes held back before they are written.
const HELD_BYTES_MAX: usize = 64 << 10;

impl Connector for Print {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        only(table, use_as, TableUse::Sink)?;
        check_keys(table, &["print-identifier", "standard-error"])?;
        flag(&table.options, "standard-error").map(drop)
    }

    fn takes(&self, _table: &TableSpec) -> Takes {
        Takes::All
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        only(table, TableUse::Source, TableUse::Sink)?;
        Err(Error::internal("print gives no rows"))
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        // Flink's rule: the identifier, and the task's number where there are several.
        let prefix = match (table.option("print-identifier").filter(|i| !i.is_empty()), context.writers > 1) {
            (Some(identifier), true) => format!("{identifier}:{}> ", context.index + 1),
            (Some(identifier), false) => format!("{identifier}> "),
            (None, true) => format!("{}> ", context.index + 1),
            (None, false) => String::new(),
        };
        let to = match flag(&table.options, "standard-error")? {
            Some(true) => Terminal::Stderr,
            _ => Terminal::Stdout,
        };
        Ok(Box::new(PrintSink { prefix, to, held: Vec::new(), bytes: 0 }))
    }
}

/// One of the two streams of the process. Several tables may write to it: each writes whole lines under its lock.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Terminal {
    Stdout,
    Stderr,
}

impl Terminal {
    pub fn write(self, bytes: &[u8]) -> Result<()> {
        let result = match self {
            Terminal::Stdout => {
                let mut out = io::stdout().lock();
                out.write_all(bytes).and_then(|()| out.flush())
            }
            Terminal::Stderr => io::stderr().lock().write_all(bytes),
        };
        result.map_err(|e| {
            let name = match self {
                Terminal::Stdout => "standard output",
                Terminal::Stderr => "standard error",
            };
            crate::filesystem::cannot("write to", name, &e)
        })
    }
}

struct PrintSink {
    prefix: String,
    to: Terminal,
    held: Vec<u8>,
    bytes: u64,
}

impl Sink for PrintSink {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        let printer = Printer::new(&batch.rows)?;
        // Row by row: a line is what is printed.
        for row in 0..batch.len() {
            let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(row)));
            self.held.extend_from_slice(self.prefix.as_bytes());
            self.held.extend_from_slice(kind.short().as_bytes());
            self.held.push(b'[');
            printer.write(row, &mut self.held);
            self.held.extend_from_slice(b"]\n");
            if self.held.len() >= HELD_BYTES_MAX {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        if !self.held.is_empty() {
            self.to.write(&self.held)?;
            self.bytes += self.held.len() as u64;
            self.held.clear();
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        self.flush()
    }

    /// What has been printed has been seen; what is held back goes with it, so that the last lines before a failure
    /// are not missing.
    fn abort(&mut self) {
        let _ = self.flush();
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
