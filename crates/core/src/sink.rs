//! Where rows go.

use crate::batch::Batch;
use crate::error::Result;

/// One writer of a table. Owned and driven by one task.
///
/// What was written becomes visible as a whole with [`Sink::finish`] or, for sinks that have no end, at
/// [`Sink::flush`]. A sink that is dropped without `finish` leaves nothing behind that looks complete.
pub trait Sink: Send {
    fn write(&mut self, batch: &Batch) -> Result<()>;

    /// Hands on what is held back, where that is possible before the end (a terminal, a pipe). Called when the
    /// task has nothing else to do, and at least every second.
    fn flush(&mut self) -> Result<()>;

    /// The job has ended well: make everything visible.
    fn finish(&mut self) -> Result<()>;

    /// The job has failed: remove what is half written.
    fn abort(&mut self);

    /// Bytes written so far, where the sink counts them.
    fn bytes(&self) -> u64 {
        0
    }
}
