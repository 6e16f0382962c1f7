//! What an operator is: a machine that is stepped with events and pushes what comes of them.

use arrow::array::{Int64Array, RecordBatch};
use millstream_core::{Batch, Result, TimeDomain, Watermark};

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
}
