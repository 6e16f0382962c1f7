//! The writers of a table.
//!
//! ```text
//!  exactly once:   write ─▶ held ──prepare──▶ the epoch's outbox (checkpoint) ──▶ commit.rs
//!  otherwise:      write ─▶ held ──rows, bytes, interval, prepare or finish──▶ one transaction
//! ```
//!
//! Without exactly-once a transaction whose end was not heard of is sent again: rows may come twice, and with a key that
//! changes nothing.

use super::compact::Held;
use super::load::load;
use super::options::{GUARANTEE, Guarantee, OUTBOX_BYTES, Settings};
use super::session::Session;
use super::target::Target;
use millstream_core::{Batch, ByteSize, Error, ErrorKind, Prepared, Result, Sink, SinkContext, TableSpec};
use std::time::{Duration, Instant};

/// Bytes held back before they are sent, whatever the number of rows.
const FLUSH_BYTES_MAX: usize = 8 << 20;

/// The wait before a second try; each further one waits as much longer, as in Flink.
const BACK_OFF: Duration = Duration::from_secs(1);

/// Whether the epochs of this table wait in an outbox for the committer.
pub fn commits(settings: &Settings, checkpoints: bool) -> Result<bool> {
    match settings.guarantee {
        Some(Guarantee::ExactlyOnce) if !checkpoints => {
            Err(Error::sql(format!("'{GUARANTEE}' = 'exactly-once' needs checkpoints, and this job takes none"))
                .remedy("SET 'execution.checkpointing.interval' = '10 s', or take the option out: exactly-once is the default where there are checkpoints"))
        }
        Some(Guarantee::ExactlyOnce) | None => Ok(checkpoints),
        Some(Guarantee::AtLeastOnce | Guarantee::None) => Ok(false),
    }
}

pub fn open(table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
    let settings = Settings::of(table, true)?;
    let held = Held::new(table)?;
    if commits(&settings, context.job.is_some())? {
        // The committer holds the connection, and has checked the table.
        let bytes_max = settings.outbox_bytes_max;
        return Ok(Box::new(Outbox { table: table.name.clone(), held, bytes_max, bytes: 0 }));
    }
    let mut direct = Direct { settings, table: table.clone(), held, since: None, connected: None, bytes: 0 };
    direct.connect()?;
    Ok(Box::new(direct))
}

struct Outbox {
    table: String,
    held: Held,
    bytes_max: ByteSize,
    bytes: u64,
}

impl Sink for Outbox {
    fn write(&mut self, batch: &Batch) -> Result<()> {
        self.held.push(batch)?;
        if self.held.bytes() as u64 <= self.bytes_max.0 {
            return Ok(());
        }
        self.held.compact()?;
        // Half, or the next row would have to compact all of it again.
        if self.held.bytes() as u64 <= self.bytes_max.0 / 2 {
            return Ok(());
        }
        Err(Error::usage(format!(
            "an epoch has more rows for `{}` than a writer may hold: {} of {}",
            self.table,
            ByteSize(self.held.bytes() as u64),
            self.bytes_max
        ))
        .remedy(format!(
            "take checkpoints more often ('execution.checkpointing.interval'), raise '{OUTBOX_BYTES}', or set '{GUARANTEE}' = 'at-least-once'"
        )))
    }

    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn finish(&mut self) -> Result<()> {
        if self.held.rows() == 0 {
            return Ok(());
        }
        Err(Error::internal(format!("`{}` was ended with rows that no epoch has", self.table)))
    }

    fn abort(&mut self) {
        self.held.clear();
    }

    fn prepare(&mut self, _epoch: u64) -> Result<Prepared> {
        let outbox = self.held.take()?;
        self.bytes += outbox.iter().map(|b| b.bytes() as u64).sum::<u64>();
        Ok(Prepared { outbox, ..Prepared::default() })
    }

    fn bytes(&self) -> u64 {
        self.bytes
    }
}

struct Direct {
    settings: Settings,
    table: TableSpec,
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
        let mut tries = 0;
        loop {
            match self.try_send() {
                Ok(sent) => {
                    self.bytes += sent;
                    self.held.clear();
                    self.since = None;
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Io && tries < self.settings.retries => {
                    tries += 1;
                    std::thread::sleep(BACK_OFF * tries);
                }
                Err(e) => return Err(e),
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
