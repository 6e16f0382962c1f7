//! Nexmark: the auction house that stream processors are measured with, made on the spot.
//!
//! ```text
//!  epoch e = 50 events:  person │ auction │ auction │ auction │ 46 bids
//!  draws of the epoch :  0..2   │ 2..4    │ 4..6    │ 6..8    │ 8..100     (each a function of seed and number)
//!  partition i of n   :  the epochs with e % n == i, in time order
//! ```
//!
//! Every value is a function of (seed, event number) and of nothing else: the generator has no state that one event
//! hands to the next. So a column that is not asked for costs nothing and changes no other, a partition needs to
//! know nothing of the others, and the rows taken together do not depend on how many partitions there are.
//!
//! The distributions are those of the public generator (github.com/nexmark/nexmark): one person, three auctions and
//! 46 bids in 50 events; half of the bids on the hot auction and three quarters by the hot bidder; prices
//! `100 * 10^(6u)`; half of the bids by one of four hot channels; text padded to about 200, 500 and 100 bytes. Its
//! random numbers are not: those come one from the other and would have to be drawn for every column.
//!
//! Where the parts are: `options` reads the `WITH` clause, `layout` finds out what each declared column is,
//! `generator` makes columns, `source` cuts them into partitions and batches and holds the rate.

mod connector;
mod generator;
mod layout;
mod options;
mod source;
#[cfg(test)]
mod tests;

use layout::Layout;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::{Result, Source, TableSpec};
use options::Options;
use source::NexmarkSource;

pub use connector::Nexmark;
pub use options::OPTIONS;

/// The metadata keys that a nexmark table can be asked for: `$order` is the number of the event, from 0.
pub const METADATA: &[&str] = &[ROW_ORDER];

/// Checks the options and the columns without making a row.
pub fn validate(spec: &TableSpec) -> Result<()> {
    let options = Options::read(spec)?;
    Layout::of_all(spec, &options).map(|_| ())
}

/// Opens the table: `'nexmark.table'` chooses persons, auctions or bids; without it all of them come in one table,
/// in event order. Fails as [`validate`] does.
pub fn open(spec: &TableSpec) -> Result<Box<dyn Source>> {
    let options = Options::read(spec)?;
    let layout = Layout::of(spec, &options)?;
    Ok(Box::new(NexmarkSource::new(layout, options)))
}
