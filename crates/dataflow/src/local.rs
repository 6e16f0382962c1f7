//! Aggregation in two halves: rows of one task become one row for each key before they change hands.
//!
//! ```text
//!  rows ──▶ local half ──▶ port 0: partials  ──exchange by key──▶ input 1 ┐
//!                └────────▶ port 1: rows as they are ──by key───▶ input 0 ┴─▶ the node itself
//! ```
//!
//! A key with half of all rows then costs its task a few partials. Where a half of windows lies and that of groups is theirs:
//! [`window::local`](crate::window), [`group`](crate::group).

use crate::graph::{GroupAggregate, WindowAggregate};
use crate::operator::Operator;
use crate::{group, window};
use arrow::datatypes::{Schema, SchemaRef};
use millstream_core::Result;

/// What the runtime needs to know to put a local half before an exchange.
#[derive(Debug, Clone)]
pub struct LocalSpec {
    /// Columns of port 0.
    pub partials: SchemaRef,
    /// The columns among them that the exchange hashes: the keys, then start and end of a window that rows bring along.
    /// Empty: all to one task.
    pub keys: Vec<usize>,
    /// The same columns of the raw rows of port 1.
    pub raw_keys: Vec<usize>,
}

/// A node that can be split.
#[derive(Debug, Clone)]
pub enum Whole {
    Window(WindowAggregate),
    Group(GroupAggregate),
}

impl Whole {
    /// How the node is split in two; `None` where it cannot be. `input`: columns of its rows.
    pub fn split(&self, input: &Schema) -> Option<LocalSpec> {
        match self {
            Whole::Window(node) => window::local::split(node, input),
            Whole::Group(node) => group::local::split(node, input),
        }
    }

    /// Makes the local half of a node for which [`Whole::split`] gave `spec`.
    pub fn build_local(&self, input: &Schema, spec: &LocalSpec) -> Result<Box<dyn Operator>> {
        match self {
            Whole::Window(node) => window::local::build_local(node, input, spec),
            Whole::Group(node) => group::local::build_local(node, input, spec),
        }
    }
}
