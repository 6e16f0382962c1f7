//! Columns that a source can add to its rows beside those that are stored: where and when a row came from.
//!
//! The planner asks for them by name in [`TableSpec::metadata`](crate::TableSpec); the source appends them behind
//! the physical columns, in the order asked for.

use arrow::datatypes::{DataType, TimeUnit};

/// `BIGINT NOT NULL`: the place of the row in its table, for ordering ties: source partition, then offset.
///
/// Grows along each partition and never depends on batches or parallelism. Files: rows counted through all files of
/// the table in path order. Kafka: partition in the upper 16 bits.
pub const ROW_ORDER: &str = "$order";

/// `TIMESTAMP_LTZ(3) NOT NULL`: the clock reading of the source task when it took the row in. `PROCTIME()` reads it.
/// The runtime fills it in; no source has to know it.
pub const PROCESSING_TIME: &str = "$proctime";

/// A `TIMESTAMP` of the event-time column's type: the watermark before the row, NULL before the first.
/// `CURRENT_WATERMARK` reads it. The source task fills it in; no source has to know it.
pub const ROW_WATERMARK: &str = "$watermark";

/// The Arrow type of `$proctime` and of every `TIMESTAMP_LTZ(3)`.
pub fn ltz_millis() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}
