//! The transaction of the epoch that runs: writers send rows into it as they come, so that little is left to do when the epoch's
//! checkpoint is safe.
//!
//! ```text
//!  committer:  open ───────────────────────────────────── close ─▶ is all that was sent the epoch's? ─▶ the rest, the note, commit
//!  writer 0:     rows, rows, rows, prepare │ (sealed)       │                        └─ no: abort, all from the outboxes
//!  writer 1:     rows, rows, rows, rows, rows, prepare │    │
//! ```
//!
//! What counts are the outboxes in the checkpoint; the transaction only saves the time to send them. So whatever becomes of it
//! (the brokers gave it up, another run took the id, a record was not taken), nothing is lost with it.
//!
//! What a writer gives between two barriers is a *part*, with a number that is never given again in a run. Its rows stand in its
//! outbox in the order in which they are sent, so that of each part it is enough to know how many of its rows were sent:
//! the committer sends those behind them. The number stands in the checkpoint beside the outbox, with the run and the writer.
//!
//! Always true:
//! - A transaction is committed only if each part that has rows in it is among those that are to be committed: see
//!   [`Sent::of_others`]. Rows of the next epoch, or of an epoch that nobody saved, are seen by no reader.
//! - One part of each writer at most is sent into a transaction: the writer is sealed by its barrier, also where an epoch is
//!   given up and the transaction goes on. What it gives then waits in its outbox.
//! - After `close` nothing is sent any more: it waits for those who are sending, and takes away what they could send with.

use super::produce::Produce;
use millstream_core::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, TryLockError, Weak};
use std::time::{Duration, Instant};

/// The rows of one writer between two barriers; stands in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Part {
    /// See [`Running::run`].
    pub run: u64,
    pub writer: usize,
    /// Counts the barriers of the writer.
    pub part: u64,
}

impl Part {
    pub fn write(&self) -> Result<String> {
        crate::position::write(self)
    }

    /// `None`: nobody has said what the outbox is a part of.
    pub fn parse(data: Option<&String>) -> Option<Part> {
        crate::position::parse(data?, "an outbox").ok()
    }
}

/// What a transaction holds.
#[derive(Debug, Default)]
pub struct Sent {
    /// Of each writer the part that it sends, and how many of its rows are sent.
    parts: BTreeMap<usize, (u64, u64)>,
    /// Since when there are rows in it: from then on the brokers count.
    since: Option<Instant>,
    /// Nobody knows what it holds, and why not.
    unknown: Option<Error>,
}

impl Sent {
    /// How many rows of a part were sent.
    pub fn rows_of(&self, part: &Part) -> u64 {
        self.parts.get(&part.writer).filter(|(of, _)| *of == part.part).map_or(0, |(_, rows)| *rows)
    }

    /// Whether it holds rows of others than `parts`.
    pub fn of_others(&self, parts: &[Part]) -> bool {
        let theirs = |writer: usize, part: u64| parts.iter().any(|p| p.writer == writer && p.part == part);
        self.parts.iter().any(|(&writer, &(part, rows))| rows > 0 && !theirs(writer, part))
    }

    pub fn is_empty(&self) -> bool {
        self.unknown.is_none() && self.parts.values().all(|(_, rows)| *rows == 0)
    }

    fn age(&self) -> Duration {
        self.since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    pub fn unknown(&self) -> Option<&Error> {
        self.unknown.as_ref()
    }

    /// How many rows of its part a writer has sent; `None`: it may not send any more.
    fn begin(&mut self, writer: usize, part: u64) -> Option<u64> {
        let (of, rows) = *self.parts.entry(writer).or_insert((part, 0));
        (of == part && self.unknown.is_none()).then_some(rows)
    }

    fn end(&mut self, writer: usize, part: u64, sent: Result<u64>) {
        match sent {
            Ok(0) => {}
            Ok(rows) => {
                self.parts.insert(writer, (part, rows));
                self.since.get_or_insert_with(Instant::now);
            }
            Err(e) => self.unknown = Some(e),
        }
    }
}

struct Open {
    produce: Arc<Produce>,
    sent: Mutex<Sent>,
}

impl Open {
    fn sent(&self) -> MutexGuard<'_, Sent> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the committer of a table and its writers share.
pub struct Running {
    /// Tells parts of this run of the committer from those of all others.
    pub run: u64,
    /// How long rows are sent into a transaction at most. One that is older may be given up by the brokers at any moment.
    pub age_max: Duration,
    open: RwLock<Option<Open>>,
}

impl Running {
    pub fn new(run: u64, age_max: Duration) -> Running {
        Running { run, age_max, open: RwLock::new(None) }
    }

    /// From now on writers send into the transaction that has been begun.
    pub fn open(&self, produce: &Arc<Produce>) {
        let open = Open { produce: produce.clone(), sent: Mutex::default() };
        *self.open.write().unwrap_or_else(PoisonError::into_inner) = Some(open);
    }

    /// Nobody sends any more; what there is in the transaction. `None`: none was open.
    pub fn close(&self) -> Option<Sent> {
        let open = self.open.write().unwrap_or_else(PoisonError::into_inner).take();
        open.map(|open| open.sent.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    /// How long ago the first rows were sent.
    pub fn age(&self) -> Duration {
        self.read().as_ref().map_or(Duration::ZERO, |open| open.sent().age())
    }

    /// The writers' barriers are over, and there was nothing to commit: they may send again.
    pub fn unseal(&self) {
        if let Some(open) = &*self.read() {
            open.sent().parts.retain(|_, (_, rows)| *rows > 0);
        }
    }

    /// Lets a writer send rows of its part, if it may now. `send` is told how many have been sent, and says how many that are
    /// when it returns. It must not wait: whoever wants to commit waits for it.
    pub fn offer(&self, writer: usize, part: u64, send: impl FnOnce(&Produce, u64) -> Result<u64>) {
        match self.open.try_read() {
            Ok(open) => Self::offer_to(self.age_max, open, writer, part, send),
            Err(TryLockError::Poisoned(open)) => Self::offer_to(self.age_max, open.into_inner(), writer, part, send),
            // It is being opened or closed. The rows wait.
            Err(TryLockError::WouldBlock) => {}
        }
    }

    fn offer_to(
        age_max: Duration,
        open: RwLockReadGuard<'_, Option<Open>>,
        writer: usize,
        part: u64,
        send: impl FnOnce(&Produce, u64) -> Result<u64>,
    ) {
        let Some(open) = &*open else { return };
        // Not held while rows are sent: of this writer nobody else changes anything.
        let begun = {
            let mut sent = open.sent();
            if sent.age() > age_max { None } else { sent.begin(writer, part) }
        };
        if let Some(from) = begun {
            let ended = send(&open.produce, from);
            open.sent().end(writer, part, ended);
        }
    }

    /// The writer's barrier: what it gives from now on is no part of this transaction.
    pub fn seal(&self, writer: usize, part: u64) {
        if let Some(open) = &*self.read() {
            open.sent().begin(writer, part);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Option<Open>> {
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The transactions of a process, by the transactional id and the run of the job: where writers find that of their table.
#[derive(Default)]
pub struct AllRunning(Mutex<BTreeMap<(String, u64), Weak<Running>>>);

impl AllRunning {
    pub fn add(&self, id: &str, generation: u64, running: &Arc<Running>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, running| running.strong_count() > 0);
        all.insert((id.to_owned(), generation), Arc::downgrade(running));
    }

    pub fn find(&self, id: &str, generation: u64) -> Option<Arc<Running>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&(id.to_owned(), generation)).and_then(Weak::upgrade)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(writer: usize, part: u64) -> Part {
        Part { run: 7, writer, part }
    }

    #[test]
    fn a_writer_sends_one_part_and_is_sealed_by_its_barrier() {
        let mut sent = Sent::default();
        assert_eq!(sent.begin(0, 4), Some(0));
        sent.end(0, 4, Ok(10));
        assert_eq!(sent.begin(0, 4), Some(10), "it goes on behind what was sent");
        assert_eq!(sent.begin(0, 5), None, "its barrier has passed");
        // A part without a row seals too: what comes behind it is of the next epoch.
        assert_eq!((sent.begin(1, 8), sent.begin(1, 9)), (Some(0), None));
        assert_eq!((sent.rows_of(&part(0, 4)), sent.rows_of(&part(0, 5)), sent.rows_of(&part(1, 8))), (10, 0, 0));
    }

    #[test]
    fn rows_of_parts_that_are_not_to_be_committed_are_found() {
        let mut sent = Sent::default();
        assert!(sent.is_empty() && !sent.of_others(&[]));
        sent.begin(1, 3);
        assert!(sent.is_empty() && !sent.of_others(&[]), "no row, no harm");
        sent.end(1, 3, Ok(2));
        assert!(!sent.is_empty() && sent.of_others(&[]));
        assert!(sent.of_others(&[part(0, 3), part(1, 2), part(1, 4)]));
        assert!(!sent.of_others(&[part(1, 2), part(1, 3)]));
    }

    #[test]
    fn where_it_is_not_known_what_was_sent_nothing_more_is() {
        let mut sent = Sent::default();
        sent.begin(0, 1);
        sent.end(0, 1, Err(Error::io("a record was not taken")));
        assert!(sent.unknown().is_some() && !sent.is_empty());
        assert_eq!((sent.begin(0, 1), sent.begin(1, 1)), (None, None));
    }

    #[test]
    fn writers_find_the_transaction_of_their_run_alone() {
        let all = AllRunning::default();
        let running = Arc::new(Running::new(7, Duration::from_secs(1)));
        all.add("a", 1, &running);
        assert_eq!(all.find("a", 1).map(|r| r.run), Some(7));
        assert!(all.find("a", 2).is_none() && all.find("b", 1).is_none());
        drop(running);
        assert!(all.find("a", 1).is_none());
    }
}
