//! The words everyone speaks: time, batches, keys, places and remedies, and the traits of the outer world.
//!
//! ```text
//!  Source ──rows──▶ Batch (+ marks) ──▶ operators ──▶ Batch ──▶ Sink
//!                   Watermark ────────▶           ──▶
//! ```
//!
//! Nothing here does any work of its own: no thread, no I/O, no clock but the trait of one. Every other crate
//! may use this one, and this one uses none of ours.

pub mod batch;
pub mod bytes;
pub mod clock;
pub mod duration;
pub mod error;
pub mod key;
pub mod lookup;
pub mod metadata;
pub mod multiset;
pub mod rate;
pub mod retry;
pub mod sink;
pub mod source;
pub mod store;
pub mod table;
pub mod time;

pub use batch::{Batch, ChangeKind};
pub use bytes::ByteSize;
pub use clock::Clock;
pub use duration::{format_duration, parse_duration};
pub use error::{Error, ErrorKind, Place, Result};
pub use lookup::{Found, LookedUp, Lookup};
pub use rate::Allowance;
pub use retry::{RetryPolicy, Tries};
pub use sink::{Committable, Committer, JobRun, Prepared, Sink, SinkContext};
pub use source::{Backfill, BadRow, Behind, PartitionReader, Polled, SavedPartition, Source, SourceRows};
pub use store::{MemoryStore, Put, Stat, Store, Stored};
pub use table::{Connectors, TableSpec};
pub use time::{Millis, TimeDomain, Watermark};
