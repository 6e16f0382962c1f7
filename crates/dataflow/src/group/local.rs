//! Aggregation before the exchange: the rows of a batch become one row for each key.
//!
//! ```text
//!  batch ──fewer keys than rows?──┬─ yes ──▶ keys, records of the calls ──▶ port 0: partials
//!                                 └─ no ───────────────────────────────────▶ port 1: as it is
//! ```
//!
//! Nothing is held back: a batch leaves in the step that brings it, so results come no later and a checkpoint finds nothing
//! here. Whether it pays is seen from the batches themselves: behind one that has nearly as many keys as rows, [`PASS_FOR_ROW`]
//! times as many rows go by untouched before a batch is looked at again.
//!
//! Split is what rows only add to, without a time to live, and where the state of every call is a record of fixed size: rows
//! that are taken back and groups that are forgotten count one by one, in their order.

use super::takes_back;
use crate::aggregate::{Accumulators, Groups, Plan};
use crate::graph;
use crate::local::LocalSpec;
use crate::operator::{Event, Operator, Output, ROWS_MAX};
use arrow::array::RecordBatch;
use arrow::datatypes::{Field, Schema, SchemaRef};
use millstream_core::{Batch, Error, Result};
use millstream_state::keys::{KeyCodec, KeyTable};
use std::sync::Arc;

/// It pays where a key has so many rows of a batch, on average.
const ROWS_FOR_KEY: usize = 2;

/// Rows that go by untouched for each row of a batch for which it has not paid.
const PASS_FOR_ROW: usize = 31;

/// Keys beyond which the tables of a batch are made anew instead of being emptied.
const KEYS_KEPT: usize = 1 << 16;

/// How a group aggregation is split in two; `None` where it cannot be.
pub fn split(node: &graph::GroupAggregate, input: &Schema) -> Option<LocalSpec> {
    if node.retracts || node.ttl.is_some() {
        return None;
    }
    let plan = Plan::new(&node.calls, &Arc::new(input.clone()), None, None).ok()?;
    if !plan.records_only() {
        return None;
    }
    Some(LocalSpec {
        partials: partials(node, &plan, input),
        keys: (0..node.keys.len()).collect(),
        raw_keys: node.keys.clone(),
    })
}

/// The columns of partials: the keys, then the records of the calls.
fn partials(node: &graph::GroupAggregate, plan: &Plan, input: &Schema) -> SchemaRef {
    let mut fields: Vec<Field> = node.keys.iter().map(|k| input.field(*k).clone()).collect();
    fields.extend(Accumulators::partial_fields(plan));
    Arc::new(Schema::new(fields))
}

/// Makes the local half of a node for which [`split`] gave `spec`.
pub fn build_local(node: &graph::GroupAggregate, input: &Schema, spec: &LocalSpec) -> Result<Box<dyn Operator>> {
    let input = Arc::new(input.clone());
    let plan = Plan::new(&node.calls, &input, None, node.order)?;
    let types: Vec<_> = node.keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
    let codec = KeyCodec::new(&types)?;
    Ok(Box::new(LocalGroups {
        keys: node.keys.clone(),
        table: codec.table(),
        codec,
        state: Accumulators::new(&plan),
        plan,
        schema: spec.partials.clone(),
        passing: 0,
        ids: Vec::new(),
    }))
}

struct LocalGroups {
    keys: Vec<usize>,
    codec: KeyCodec,
    plan: Arc<Plan>,
    table: KeyTable,
    state: Accumulators,
    schema: SchemaRef,
    /// Rows that are yet to go by untouched.
    passing: usize,
    ids: Vec<u32>,
}

impl LocalGroups {
    fn take_in(&mut self, batch: Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        if batch.kinds.as_ref().is_some_and(|kinds| kinds.values().iter().any(|kind| takes_back(*kind))) {
            return Err(Error::internal("a row is taken back where the plan says that none can be"));
        }
        let rows = batch.len();
        // A batch that is larger than what is left to pass says more than the ones before it.
        if self.passing >= rows {
            self.passing -= rows;
            return out.emit(1, batch);
        }
        let keys: Vec<_> = self.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let keys = self.codec.encode(&keys, rows)?;
        self.table.assign(&keys, 0..rows, &mut self.ids);
        let groups = self.table.len();
        let pays = groups * ROWS_FOR_KEY <= rows || self.keys.is_empty();
        if pays {
            self.state.resize(groups);
            let prepared = self.plan.prepare(&batch.rows)?;
            self.state.update(Groups::Each(&self.ids), &prepared, 0..rows)?;
            self.hand_on(out)?;
            self.state.clear();
        } else {
            self.passing = rows * PASS_FOR_ROW;
            out.emit(1, batch)?;
        }
        if groups > KEYS_KEPT {
            self.table = self.codec.table();
            self.state = Accumulators::new(&self.plan);
        } else {
            self.table.clear();
        }
        Ok(())
    }

    fn hand_on(&mut self, out: &mut dyn Output) -> Result<()> {
        let mut from = 0;
        while from < self.table.len() {
            let to = (from + ROWS_MAX).min(self.table.len());
            let mut columns = self.codec.decode(&self.table, from..to)?;
            columns.extend(self.state.partials(from..to));
            out.emit(0, Batch::from(RecordBatch::try_new(self.schema.clone(), columns)?))?;
            from = to;
        }
        Ok(())
    }
}

impl Operator for LocalGroups {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { batch, .. } => self.take_in(batch, out),
            Event::Watermark(domain, to) => out.advance(domain, to),
            Event::End => Ok(()),
        }
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes() + self.state.bytes() + self.ids.capacity() * 4
    }
}
