//! Where rows come from.
//!
//! ```text
//!  Source (one for each table) ──partitions──▶ PartitionReader (one for each partition; owned by one task)
//!                                                 └─ poll ─▶ Rows | Pending | End
//! ```
//!
//! A partition is what has an order of its own: a Kafka partition, one share of a generator, or *all* files of a
//! file table in path order. Watermarks belong to partitions.

use crate::error::{Error, Place, Result};
use crate::time::{Millis, Watermark};
use arrow::array::{Int8Array, RecordBatch};
use arrow::datatypes::SchemaRef;

/// A table that can be read. Opened once for a job.
pub trait Source: Send {
    /// Columns of the rows handed on: the projected physical columns, then the metadata columns asked for.
    fn schema(&self) -> SchemaRef;

    /// Whether every partition ends by itself.
    fn bounded(&self) -> bool;

    /// The partitions' readers. `parallelism` is how many tasks will share them: a source whose partitions are not
    /// given from outside (a generator) may cut itself into that many. What the rows are, taken together, may not
    /// depend on it.
    fn partitions(&mut self, parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>>;

    /// The readers of partitions as a checkpoint names them, each at its position, and readers of partitions that have
    /// come since, from their beginning. Together they give what an undisturbed run would still have given.
    ///
    /// `parallelism` may differ from the run that was saved. The saved partitions stay what they were.
    fn resume(&mut self, saved: &[SavedPartition], parallelism: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        let _ = (saved, parallelism);
        Err(Error::usage("this source cannot be read again from a position, so a job over it cannot be restored"))
    }

    /// What a checkpoint holds of partitions that have ended, before [`Source::resume`]: a source whose partitions build
    /// on each other may need to know where one of them has ended. No reader is made of them.
    fn recall(&mut self, ended: &[SavedPartition]) -> Result<()> {
        let _ = ended;
        Ok(())
    }

    /// Whether what was read can be read again from a position. A job over a source that cannot loses what it had read
    /// and not yet written when it crashes.
    fn replays(&self) -> bool {
        false
    }
}

/// A partition as a checkpoint knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedPartition {
    /// [`PartitionReader::name`].
    pub name: String,
    /// [`PartitionReader::position`].
    pub position: String,
}

/// Reads one partition, in its order. Owned and driven by one task.
pub trait PartitionReader: Send {
    /// The partition's name, for messages and metrics.
    fn name(&self) -> &str;

    /// The next rows, as many as are there, up to about 8,192. Returns soon: where nothing has arrived it says
    /// [`Polled::Pending`]; decoding happens in here, I/O that may block long belongs on a thread of the reader's own.
    fn poll(&mut self) -> Result<Polled>;

    /// Rows that this reader has left out so far because the table's option says so (`csv.ignore-parse-errors`),
    /// and fields that became NULL by it: for a counter, so that nothing is dropped in silence.
    fn skipped(&self) -> u64 {
        0
    }

    /// What is there to be read and has not been handed on yet, as far as it is known without asking anyone: this is
    /// called now and then between two polls, and must not wait. Empty where that means nothing (a generator).
    fn behind(&self) -> Behind {
        Behind::default()
    }

    /// From the next poll on, no more rows than this at once, at least 1. Said before each poll of a table whose rate is
    /// limited. A reader that cannot cut its batches gives them whole: then it is asked again so much later.
    fn take_at_most(&mut self, rows: usize) {
        let _ = rows;
    }

    /// Where reading would go on: everything handed on so far lies before it, and nothing else. JSON, small, and
    /// understood by later versions. Cheap: asked at every barrier.
    fn position(&self) -> Result<String> {
        Err(Error::usage(format!("the source of partition {} has no positions, so it cannot be saved", self.name())))
    }

    /// Readers of partitions that have come since the source was opened, each handed out once. Cheap: asked whenever this
    /// reader is. Whoever drives this reader drives those as well, until the job starts again.
    fn found(&mut self) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok(Vec::new())
    }

    /// The watermark that the rows handed on by this reader have come to. Told after each of its polls that gave rows.
    fn reached(&mut self, watermark: Watermark) {
        let _ = watermark;
    }

    /// Asked after [`Polled::Pending`]: a watermark that this partition keeps to although nothing has come of it, because
    /// it waits for something that it knows. Such a partition is not silent, and no time-out takes it out of the minimum.
    fn promises(&self) -> Option<Watermark> {
        None
    }

    /// After [`Polled::End`]: no later run will find more of this partition either, also where a run ends with what is there.
    fn ended_for_good(&self) -> bool {
        false
    }

    /// Where the rows of this reader come from several streams, each with an order of its own: how far in event time the
    /// slowest of them is behind the fastest; `Millis::MAX` while nothing is known of one. The watermark stays behind by as
    /// much, so that no stream is late by another. The same reader gives it always or never. Asked after each poll.
    fn lag(&self) -> Option<Millis> {
        None
    }

    /// Bytes that are done with, of those that there are, where both are known. Cheap.
    fn bytes_done(&self) -> Option<(u64, u64)> {
        None
    }

    /// How far the bounded history is read that the rows of this reader, or of those before it, come from. Cheap: asked
    /// after each poll.
    fn backfill(&self) -> Option<Backfill> {
        None
    }

    /// The job has saved this position and will never go back behind it: what was kept for that may go.
    fn committed(&mut self, position: &str) -> Result<()> {
        let _ = position;
        Ok(())
    }
}

/// What waits in front of a reader. `None`: not known, or not counted in this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Behind {
    /// Rows, or records that may become rows. An upper bound where some of them will not.
    pub rows: Option<u64>,
    pub files: Option<u64>,
    /// As they lie there, packed or not.
    pub bytes: Option<u64>,
}

/// How far a bounded history has been read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backfill {
    /// Bytes of its files that are done with.
    pub done_bytes: u64,
    /// Bytes of all its files.
    pub all_bytes: u64,
    /// All its rows have been handed on. Until then results lack what is still to be read.
    pub complete: bool,
}

impl Backfill {
    /// In percent; 100 only when it is complete.
    pub fn percent(&self) -> u8 {
        if self.complete {
            return 100;
        }
        let percent = u128::from(self.done_bytes) * 100 / u128::from(self.all_bytes.max(1));
        percent.min(99) as u8
    }

    /// Of two histories together.
    pub fn with(self, other: Backfill) -> Backfill {
        Backfill {
            done_bytes: self.done_bytes + other.done_bytes,
            all_bytes: self.all_bytes + other.all_bytes,
            complete: self.complete && other.complete,
        }
    }
}

#[derive(Debug)]
pub enum Polled {
    Rows(SourceRows),
    /// Nothing now; ask again. The driver waits a little (about a millisecond) before it does.
    Pending,
    /// This partition has ended and will give nothing more.
    End,
}

#[derive(Debug)]
pub struct SourceRows {
    pub rows: RecordBatch,
    /// What each row does, as [`ChangeKind`](crate::ChangeKind) codes; `None`: every row is an insert. Only of tables that
    /// bring changes.
    pub kinds: Option<Int8Array>,
    /// Rows that could not be read, set aside. Empty when the table's option says to fail on them.
    pub bad: Vec<BadRow>,
    /// Bytes read from outside for these rows.
    pub bytes: u64,
}

impl From<RecordBatch> for SourceRows {
    fn from(rows: RecordBatch) -> SourceRows {
        let bytes = rows.get_array_memory_size() as u64;
        SourceRows { rows, kinds: None, bad: Vec::new(), bytes }
    }
}

/// A row that could not be read: nothing is lost, it goes to the bad-row output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    pub place: Place,
    pub reason: String,
    /// The bytes as they came.
    pub raw: Vec<u8>,
}
