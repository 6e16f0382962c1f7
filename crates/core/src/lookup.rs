//! Tables that are asked for the rows of a key while a job runs, rather than read from end to end.
//!
//! ```text
//!  operator ── ask(keys of a batch) ──▶ Lookup ──▶ memory, or a server on a thread of its own
//!           ◀── answer, in the order of the asks: the rows, and which of them each key has
//! ```
//!
//! What a look-up says depends on when it is asked, unless the table never changes. Nothing here remembers anything that
//! a checkpoint would have to keep: whoever asks keeps the rows that wait, and lets no barrier pass them.

use crate::error::Result;
use crate::source::Source;
use arrow::array::{ArrayRef, RecordBatch};
use std::ops::Range;
use std::time::Duration;

/// A table that answers keys. Owned and driven by one task.
pub trait Lookup: Send {
    /// Asks for the rows of the keys of a batch: one column for each part of the key, one key for each row of them. Keys
    /// come in any number of copies, and NULL has no rows. Returns soon; what takes long goes on elsewhere.
    fn ask(&mut self, keys: &[ArrayRef]) -> Result<()>;

    /// The answer to the oldest ask that has none yet. `None`: it is not there. With `wait` it is waited for, within the
    /// bounds of the table's options; then there is one, or an error.
    fn answer(&mut self, wait: bool) -> Result<Option<Found>>;

    /// Bytes that are remembered to ask less often.
    fn bytes(&self) -> usize {
        0
    }
}

/// What a table holds under the keys of one ask.
#[derive(Debug, Clone)]
pub struct Found {
    /// In the columns that the table was opened for.
    pub rows: RecordBatch,
    /// For each key that was asked for: its rows, which stand together. Empty: there are none.
    pub ranges: Vec<Range<u32>>,
}

/// Opens a source from its beginning, each time anew.
pub type Reopen = Box<dyn Fn() -> Result<Box<dyn Source>> + Send + Sync>;

/// How a table is looked up.
pub enum LookedUp {
    /// It is read to its end and kept in memory, and read again by the first row that finds it older than `reload`.
    Whole { open: Reopen, reload: Option<Duration> },
    /// It is asked by key.
    Asked(Box<dyn Lookup>),
}
