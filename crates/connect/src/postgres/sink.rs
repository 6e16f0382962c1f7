//! The writers of a table.
//!
//! ```text
//!  exactly once:   write ─▶ held ──prepare──▶ the epoch's outbox (checkpoint) ──▶ commit.rs
//!  otherwise:      write ─▶ held ──rows, bytes, interval, prepare or finish──▶ one transaction
//! ```
//!
//! Without exactly-once a transaction whose end was not heard of is sent again: rows may come twice, and with a key that
//! changes nothing.

use super::load::load;
use super::options::{Guarantee, Settings};
use super::session::Session;
use super::target::Target;
use crate::compact::Held;
use crate::outbox::Outbox;
use millstream_core::{Batch, ErrorKind, Prepared, Result, RetryPolicy, Sink, SinkContext, TableSpec};
use std::time::{Duration, Instant};

/// Bytes held back before they are sent, whatever the number of rows.
const FLUSH_BYTES_MAX: usize = 8 << 20;

/// Tries of a transaction. How many, the table's option says.
const RETRY: RetryPolicy = RetryPolicy { first: Duration::from_secs(1), most: Duration::from_secs(30), tries_max: 1 };

pub fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let settings = Settings::of(table, true)?;
    let held = Held::new(table)?;
    if Guarantee::commits(settings.guarantee, context.job.is_some())? {
        // The committer holds the connection, and has checked the table.
        return Ok(Box::new(Outbox::new(table, held, settings.outbox_bytes_max)));
    }
    let name = format!("{}/{}", table.name, context.index);
    let mut direct = Direct { settings, table: table.clone(), name, held, since: None, connected: None, bytes: 0 };
    direct.connect()?;
    Ok(Box::new(direct))
}

struct Direct {
    settings: Settings,
    table: TableSpec,
    /// Tells this writer from others of its table.
    name: String,
    held: Held,
    /// When the oldest row held came.
    since: Option<Instant>,
    connected: Option<(Session, Target)>,
    bytes: u64,
}

/// Connects and holds the table against its declaration.
pub fn connect(settings: &Settings, table: &TableSpec) -> Result<(Session, Target)> {
    let mut session = Session::connect(settings)?;
    let target = session.run(async |link| Target::resolve(link, settings, table).await)?;
    Ok((session, target))
}

impl Direct {
    fn connect(&mut self) -> Result<()> {
        if self.connected.is_none() {
            self.connected = Some(connect(&self.settings, &self.table)?);
        }
        Ok(())
    }

    fn send(&mut self) -> Result<()> {
        if self.held.rows() == 0 {
            return Ok(());
        }
        self.held.compact()?;
        let policy = RetryPolicy { tries_max: self.settings.retries.saturating_add(1), ..RETRY };
        let mut tries = policy.tries(&self.name);
        loop {
            match self.try_send() {
                Ok(sent) => {
                    self.bytes += sent;
                    self.held.clear();
                    self.since = None;
                    return Ok(());
                }
                Err(e) => match tries.after_failure() {
                    Some(pause) if e.kind() == ErrorKind::Io => std::thread::sleep(pause),
                    _ => return Err(e),
                },
            }
        }
    }

    fn try_send(&mut self) -> Result<u64> {
        self.connect()?;
        let (session, target) = self.connected.as_mut().expect("connected just now");
        let batches = self.held.compacted()?;
        let sent = session.transaction(async |link| load(link, target, batches).await);
        if sent.is_err() {
            // In whatever state it is: the next try begins anew.
            self.connected = None;
        }
        sent
    }
}

impl Sink for Direct {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.held.push(batch)?;
        if self.held.rows() > 0 {
            self.since.get_or_insert_with(Instant::now);
        }
        if self.held.rows() >= self.settings.flush_rows || self.held.bytes() >= FLUSH_BYTES_MAX {
            return self.send();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<()> {
        match (self.since, self.settings.flush_interval) {
            (Some(since), Some(interval)) if since.elapsed() >= interval => self.send(),
            _ => Ok(()),
        }
    }

    fn finish(&mut self) -> Result<()> {
        self.send()
    }

    fn abort(&mut self) {
        self.held.clear();
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        // `none` promises nothing, so a barrier does not wait for the server.
        if self.settings.guarantee != Some(Guarantee::None) {
            self.send()?;
        }
        Ok(Prepared::default())
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}
