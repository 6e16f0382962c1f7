//! Asks a table of PostgreSQL for the rows of keys.
//!
//! ```text
//!  ask ─▶ distinct keys ─▶ remembered? ── all of them ──────────────────────────────┐
//!                              └─ the others ─▶ thread: one query for all, retried ─▶ answer, in the order of the asks
//! ```
//!
//! The thread has a connection of its own, so whoever asked goes on meanwhile. A server that goes away is connected to again,
//! with longer and longer pauses; when the tries are used up, the job fails with what the server said last.

mod answer;
mod cache;
pub mod options;
mod query;

use super::options::Settings;
use super::session::Session;
use answer::Answer;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{concat_batches, take};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::row::{RowConverter, SortField};
use cache::{Cache, Rows};
use millstream_core::{Error, ErrorKind, Found, Lookup, Result, RetryPolicy, TableSpec};
use query::Query;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::time::{Duration, Instant};

/// Asks that the thread may have before it. Whoever asks bounds them too.
const ASKS_MAX: usize = 64;

/// Tries of a look-up. How many, the table's option says.
const RETRY: RetryPolicy = RetryPolicy { first: Duration::from_secs(1), most: Duration::from_secs(30), tries_max: 1 };

/// Opens a table to be looked up by these of the columns that it hands on.
pub fn open(table: &TableSpec, keys: &[usize]) -> Result<Box<dyn Lookup>> {
    let settings = Settings::of(table, true)?;
    let query = Query::new(table, keys)?;
    let schema = query.schema();
    let types = keys.iter().map(|k| SortField::new(schema.field(*k).data_type().clone())).collect();
    let columns = schema.fields().iter().map(|f| SortField::new(f.data_type().clone())).collect();
    let cache = settings.lookup.cache.clone().map(Cache::new);
    // What is wrong with the table is said now, not with the first row.
    let mut asker = Asker { settings, query, name: table.name.clone(), connected: None };
    asker.patiently(Asker::connect)?;
    let (asks, theirs) = sync_channel::<Vec<ArrayRef>>(ASKS_MAX);
    let (ours, answers) = sync_channel(ASKS_MAX);
    std::thread::Builder::new()
        .name("millstream-lookup".into())
        .spawn(move || asker.serve(&theirs, &ours))
        .map_err(|e| Error::io(format!("cannot start a thread to look `{}` up: {e}", table.name)))?;
    Ok(Box::new(Postgres {
        schema,
        keys: RowConverter::new(types)?,
        columns: RowConverter::new(columns)?,
        cache,
        asks,
        answers,
        pending: VecDeque::new(),
    }))
}

struct Postgres {
    schema: SchemaRef,
    keys: RowConverter,
    columns: RowConverter,
    cache: Option<Cache>,
    asks: SyncSender<Vec<ArrayRef>>,
    answers: Receiver<Result<Answer>>,
    pending: VecDeque<Pending>,
}

/// An ask without its answer.
struct Pending {
    /// For each key as it was asked for, which of the distinct ones it is; `None`: it has a NULL.
    of: Vec<Option<u32>>,
    /// For each distinct key what is remembered, or which one it is of those sent to the server.
    distinct: Vec<Known>,
    /// The keys that were sent, as the cache knows them.
    sent: Vec<Box<[u8]>>,
}

enum Known {
    Rows(Rows),
    Sent(u32),
}

impl Lookup for Postgres {
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<()> {
        let rows = self.keys.convert_columns(keys)?;
        let asked = keys.first().map_or(0, |k| k.len());
        let now = Instant::now();
        let mut known: HashMap<&[u8], u32> = HashMap::new();
        let encoded: Vec<_> = rows.iter().collect();
        let (mut of, mut distinct, mut sent) = (Vec::with_capacity(asked), Vec::new(), Vec::new());
        let mut first: Vec<u32> = Vec::new();
        // Key by key: each is looked for in a table.
        for (row, key) in encoded.iter().enumerate() {
            if keys.iter().any(|k| has_no_rows(k, row)) {
                of.push(None);
                continue;
            }
            let key = key.data();
            let next = distinct.len() as u32;
            let id = *known.entry(key).or_insert(next);
            of.push(Some(id));
            if id < next {
                continue;
            }
            distinct.push(match self.cache.as_mut().and_then(|c| c.get(key, now)) {
                Some(rows) => Known::Rows(rows),
                None => {
                    first.push(row as u32);
                    sent.push(Box::from(key));
                    Known::Sent(sent.len() as u32 - 1)
                }
            });
        }
        if !sent.is_empty() {
            let first = UInt32Array::from(first);
            let keys = keys.iter().map(|k| take(k, &first, None)).collect::<std::result::Result<_, _>>()?;
            self.asks.send(keys).map_err(|_| lost())?;
        }
        self.pending.push_back(Pending { of, distinct, sent });
        Ok(())
    }

    fn answer(&mut self, wait: bool) -> Result<Option<Found>> {
        let Some(pending) = self.pending.front() else {
            return Err(Error::internal("nothing has been asked"));
        };
        let answer = match pending.sent.is_empty() {
            true => None,
            false if wait => Some(self.answers.recv().map_err(|_| lost())??),
            false => match self.answers.try_recv() {
                Ok(answer) => Some(answer?),
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(lost()),
            },
        };
        let Some(pending) = self.pending.pop_front() else { return Ok(None) };
        self.found(&pending, answer).map(Some)
    }

    fn bytes(&self) -> usize {
        self.cache.as_ref().map_or(0, Cache::bytes)
    }
}

impl Postgres {
    /// What was remembered and what was answered, as one.
    fn found(&mut self, pending: &Pending, answer: Option<Answer>) -> Result<Found> {
        let answered: Vec<Range<u32>> = answer.as_ref().map(|a| a.ranges(pending.sent.len())).unwrap_or_default();
        if let (Some(cache), Some(answer)) = (&mut self.cache, &answer) {
            let (rows, now) = (self.columns.convert_columns(answer.rows.columns())?, Instant::now());
            for (key, range) in pending.sent.iter().zip(&answered) {
                let of_key = range.clone().map(|row| Box::from(rows.row(row as usize).data()));
                cache.put(key, of_key.collect(), now);
            }
        }
        // Those that were answered come first, then those that were remembered.
        let mut end = answer.as_ref().map_or(0, |a| a.rows.num_rows() as u32);
        let mut remembered: Vec<&[u8]> = Vec::new();
        let distinct: Vec<Range<u32>> = pending
            .distinct
            .iter()
            .map(|known| match known {
                Known::Sent(at) => answered[*at as usize].clone(),
                Known::Rows(rows) => {
                    remembered.extend(rows.iter().map(|r| r.as_ref()));
                    let from = end;
                    end += rows.len() as u32;
                    from..end
                }
            })
            .collect();
        let mut parts: Vec<RecordBatch> = answer.map(|a| a.rows).into_iter().collect();
        if !remembered.is_empty() || parts.is_empty() {
            let parser = self.columns.parser();
            let columns = self.columns.convert_rows(remembered.into_iter().map(|r| parser.parse(r)))?;
            parts.push(RecordBatch::try_new(self.schema.clone(), columns)?);
        }
        let rows = if parts.len() == 1 { parts.remove(0) } else { concat_batches(&self.schema, &parts)? };
        let ranges = pending.of.iter().map(|id| id.map_or(0..0, |id| distinct[id as usize].clone())).collect();
        Ok(Found { rows, ranges })
    }
}

/// NULL equals nothing, and no text of PostgreSQL holds a NUL.
fn has_no_rows(key: &ArrayRef, row: usize) -> bool {
    key.is_null(row) || *key.data_type() == DataType::Utf8 && key.as_string::<i32>().value(row).contains('\0')
}

fn lost() -> Error {
    Error::internal("the thread that asks PostgreSQL has been lost")
}

/// The near end of the connection, on a thread of its own.
struct Asker {
    settings: Settings,
    query: Query,
    name: String,
    connected: Option<(Session, query::Prepared)>,
}

impl Asker {
    fn serve(mut self, asks: &Receiver<Vec<ArrayRef>>, answers: &SyncSender<Result<Answer>>) {
        while let Ok(keys) = asks.recv() {
            let answer = self.patiently(|asker| asker.ask(&keys));
            if answers.send(answer).is_err() {
                // Nobody waits any more.
                return;
            }
        }
    }

    /// Tries, and tries again where that may help.
    fn patiently<T>(&mut self, mut work: impl FnMut(&mut Asker) -> Result<T>) -> Result<T> {
        let policy = RetryPolicy { tries_max: self.settings.lookup.retries.saturating_add(1), ..RETRY };
        let mut tries = policy.tries(&self.name);
        loop {
            match work(self) {
                Err(e) if e.kind() == ErrorKind::Io => {
                    // In whatever state it is: the next try begins anew.
                    self.connected = None;
                    let Some(pause) = tries.after_failure() else {
                        let what = format!(
                            "`{}` cannot be looked up, tried {} times: {}",
                            self.name,
                            tries.failed(),
                            e.what()
                        );
                        let help = e.help().unwrap_or("see that the server is well");
                        let more = format!("{help}; '{}' says how often it is tried again", options::MAX_RETRIES);
                        return Err(Error::io(what).remedy(more));
                    };
                    std::thread::sleep(pause);
                }
                other => return other,
            }
        }
    }

    fn connect(&mut self) -> Result<()> {
        if self.connected.is_none() {
            let mut session = Session::connect(&self.settings)?;
            let (query, settings) = (&self.query, &self.settings);
            let prepared = session.run(async |link| query.prepare(link, settings).await)?;
            self.connected = Some((session, prepared));
        }
        Ok(())
    }

    fn ask(&mut self, keys: &[ArrayRef]) -> Result<Answer> {
        self.connect()?;
        let Some((session, prepared)) = &mut self.connected else {
            return Err(Error::internal("connected just now"));
        };
        let query = &self.query;
        session.run(async |link| query.ask(link, prepared, keys).await)
    }
}
