//! What an operator is: a machine that is stepped with events and pushes what comes of them.

use arrow::array::{Int64Array, RecordBatch};
use millstream_core::{Batch, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::table::{Saver, TableDef};
use millstream_state::tier::Spill;
use std::sync::Arc;

/// What happens to an operator. Watermarks have been merged over all inputs before they get here.
#[derive(Debug)]
pub enum Event {
    /// Rows of input `input` (0 for operators with one input).
    Batch { input: usize, batch: Batch },
    /// The watermark of a time domain has advanced to this. It never goes back.
    Watermark(TimeDomain, Watermark),
    /// Every input has ended. Both watermarks have been `MAX` before. Nothing comes after it.
    End,
}

/// Where an operator puts what comes of a step. A push goes down the chain at once, so an operator that emits a lot
/// emits it in pieces of at most [`ROWS_MAX`] rows and holds no more than one of them.
pub trait Output {
    /// Rows for whoever reads output `port` (0 for operators with one output).
    fn emit(&mut self, port: usize, batch: Batch) -> Result<()>;

    /// Hands the watermark on. Last in its step, on purpose: whoever sees this watermark has already seen every
    /// result it completed.
    fn advance(&mut self, domain: TimeDomain, to: Watermark) -> Result<()>;

    /// Rows that are late everywhere in this operator: they go to the late output and to a counter.
    fn set_aside(&mut self, late: LateRows) -> Result<()>;
}

/// Rows in one emitted batch, at the most.
pub const ROWS_MAX: usize = 8_192;

/// Rows that came after all their windows had closed, with what they were judged by.
#[derive(Debug, Clone)]
pub struct LateRows {
    /// The rows, in the columns of the operator's input.
    pub rows: RecordBatch,
    /// Time of each row, in milliseconds of the operator's time domain.
    pub times: Int64Array,
    /// The watermark that each row was judged by.
    pub watermarks: Int64Array,
    /// Why, as a sentence for the late output, such as "window [a, b) closed at watermark w".
    pub reason: String,
}

/// A node of the graph at work, for one share of the keys.
pub trait Operator: Send {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()>;

    /// Bytes of what the operator remembers, for metrics and bounds. Cheap: called once for each batch.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Scratch space for what is cold, before anything is loaded. Without it an operator keeps all it remembers in memory.
    fn spill_to(&mut self, space: Arc<dyn Spill>) {
        let _ = space;
    }

    /// Gives back about so many bytes of memory, as far as the operator can: what it has made for speed alone, then what
    /// it has touched least goes to scratch space. Between steps, and between loads. What comes out is the same.
    fn shed(&mut self, bytes: usize) -> Result<()> {
        let _ = bytes;
        Ok(())
    }

    /// The least watermark of this domain at which a step would emit or set aside anything; `None`: nothing waits for one.
    /// It may be less than that, where it is not known. For operators that [go to disk by shelves](crate::shelves).
    fn due(&self, domain: TimeDomain) -> Option<Watermark> {
        let _ = domain;
        Some(Watermark::MIN)
    }

    /// By how much it hands this domain's watermark on behind what it has been handed, `MAX` aside. For operators that
    /// [go to disk by shelves](crate::shelves).
    fn behind(&self, domain: TimeDomain) -> Millis {
        let _ = domain;
        0
    }

    /// How far it has gone by itself, beyond what it has been handed: a mark is a watermark that has been promised. What it
    /// saves stands at the further of the two.
    fn reached(&self) -> Watermarks {
        Watermarks::NONE
    }

    /// Does what has been put off because doing it now and then is cheaper than each time. Called when there is nothing
    /// else to do, when it has been put off for long, and before the channel is said to be idle.
    fn catch_up(&mut self, out: &mut dyn Output) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// Pushes out what must not wait behind a barrier, since it is not remembered in a table (rows that a local
    /// aggregation holds). Called right before each [`Operator::save`].
    fn flush(&mut self, out: &mut dyn Output) -> Result<()> {
        let _ = out;
        Ok(())
    }

    /// Whether the operator asks outside, so that rows wait in it for answers: see [`Operator::answered`].
    fn asks(&self) -> bool {
        false
    }

    /// Pushes out what has been answered; with `wait`, everything that waits, as soon as it has been. Returns whether
    /// anything came out. Called at every turn of the task, and with `wait` before the channel is said to be idle.
    fn answered(&mut self, wait: bool, out: &mut dyn Output) -> Result<bool> {
        let _ = (wait, out);
        Ok(false)
    }

    /// The tables that the operator remembers in. None: it remembers nothing but watermarks.
    fn tables(&self) -> Vec<TableDef> {
        Vec::new()
    }

    /// From now on, keep track of what changes between two saves. Called once, before the first event, in jobs that
    /// take checkpoints; in others nobody should pay for it.
    fn track_changes(&mut self) {}

    /// Takes down what has changed since the last save, or everything where the saver asks for it. What is taken down
    /// is a copy: the operator goes on at once.
    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        let _ = saver;
        Ok(())
    }

    /// Takes in rows of one of its tables as they were saved, in columns of [`TableDef::columns`]: those alive, in the
    /// order in which they were put, and only those of this task's key groups. `version` is that of the table when it
    /// was saved. Called before the first event, any number of times; nothing of it counts as a change.
    fn load(&mut self, table: &str, version: u32, rows: &RecordBatch) -> Result<()> {
        let _ = (version, rows);
        Err(Error::internal(format!("there is no table `{table}` to load")))
    }

    /// Rows of a table as for [`Operator::load`], which another operator of the same task will load: where operators share
    /// what names their rows, these names have been given. For operators that [go to disk by shelves](crate::shelves).
    fn take_names(&mut self, table: &str, rows: &RecordBatch) -> Result<()> {
        let _ = (table, rows);
        Ok(())
    }

    /// Everything has been loaded. The watermarks are those that the operator had been handed when it was saved (the
    /// least of them over the tasks of that run).
    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        let _ = watermarks;
        Ok(())
    }
}

/// The watermarks of both domains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    pub event: Watermark,
    pub processing: Watermark,
}

impl Watermarks {
    /// Nothing has been promised yet.
    pub const NONE: Watermarks = Watermarks { event: Watermark::MIN, processing: Watermark::MIN };

    pub fn of(&self, domain: TimeDomain) -> Watermark {
        match domain {
            TimeDomain::Event => self.event,
            TimeDomain::Processing => self.processing,
        }
    }

    /// Takes note of a watermark that was handed on.
    pub fn advance(&mut self, domain: TimeDomain, to: Watermark) {
        match domain {
            TimeDomain::Event => self.event = self.event.max(to),
            TimeDomain::Processing => self.processing = self.processing.max(to),
        }
    }

    /// The further of the two, domain by domain.
    pub fn advance_to(&mut self, other: Watermarks) {
        self.event = self.event.max(other.event);
        self.processing = self.processing.max(other.processing);
    }
}
