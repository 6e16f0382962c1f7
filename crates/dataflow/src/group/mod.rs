//! `GROUP BY keys` without a window: one row for each group, kept up to date.
//!
//! ```text
//!  rows ──keys──▶ group ids ──sort out──▶ rows that come, rows that are taken back ──▶ state of the groups
//!                                │                                                       │
//!                                └─ each touched group: its results before ──compare──▶ its results after ──▶ +I -U +U -D
//! ```
//!
//! One step tells of each group once, however many of its rows it brings: at most as it was and as it is, and nothing where the
//! two are the same. (Flink repeats an unchanged row where groups are forgotten in time; here that is nobody's business.) Groups
//! come in the order in which the step touched them. [`emit`] has the table of changes.
//!
//! Rows may be taken back. A group whose last row has gone is deleted and its state cleared, so the next row begins anew; a row
//! taken back from a group that is not there is passed over. What a group is therefore follows from its rows one by one, and
//! the batch that brings them means nothing: a row that empties a group makes all that came before it void, also within a batch.
//!
//! With a time to live a group is forgotten in silence ([`expiry`]): for a row whose mark has passed it there is no group, and
//! its result is inserted, not updated. Where this happens to a group that the same batch has touched before, the batch is cut;
//! and so it is where a new group is emptied, since whoever reads may still have the row of the one that was forgotten.
//!
//! Without keys there is one group. It is never deleted: it goes to COUNT 0 and NULLs, and is told of at the end of the input
//! even if no row ever came. It is never forgotten either: after its time to live it begins anew, as an update.
//!
//! Rows may come summed up, as partials that [`local`] has made of them: a partial is as many rows at once.
//!
//! What a checkpoint has of it stands in [`saved`].

mod emit;
mod expiry;
pub mod local;
#[cfg(test)]
mod model;
mod saved;
#[cfg(test)]
mod tests;

use crate::aggregate::{Accumulators, Groups, Plan, Prepared};
use crate::graph::{self, AggregateFunction};
use crate::operator::{Event, Operator, Output, Watermarks};
use crate::rows::time_column;
use crate::shelves;
use arrow::array::*;
use arrow::datatypes::{Schema, SchemaRef, TimestampMillisecondType};
use expiry::Expiry;
use millstream_core::{Batch, ChangeKind, Error, Millis, Result, TimeDomain, Watermark};
use millstream_state::keys::{KeyCodec, KeyTable};
use millstream_state::table::{Saver, TableDef};
use saved::{Changes, Tables};
use std::sync::Arc;

/// Groups below which nothing is gained by giving memory back.
const SHRINK_MIN: usize = 1024;

/// The operator of a node, which goes to disk by shelves. `input`, `output`: see [`GroupAggregate::new`]. `partials`: input 1
/// brings what [local halves](local) have summed up.
pub fn build(
    node: &graph::GroupAggregate,
    input: &SchemaRef,
    output: SchemaRef,
    partials: bool,
) -> Result<Box<dyn Operator>> {
    let (made, of, keys) = (node.clone(), input.clone(), node.keys.clone());
    let make: shelves::Make = Box::new(move || Ok(Box::new(GroupAggregate::new(&made, &of, output.clone())?)));
    if !partials {
        return shelves::wrap(make, std::slice::from_ref(input), &[&keys]);
    }
    let spec = local::split(node, input).ok_or_else(|| Error::internal("partials of what cannot be split"))?;
    shelves::wrap(make, &[input.clone(), spec.partials], &[&keys, &spec.keys])
}

/// The operator of [`graph::GroupAggregate`].
pub struct GroupAggregate {
    keys: Vec<usize>,
    codec: KeyCodec,
    plan: Arc<Plan>,
    table: KeyTable,
    state: Accumulators,
    retracts: bool,
    update_before: bool,
    /// No row leaves its group's results as they are.
    counts_rows: bool,
    output: SchemaRef,
    /// Without keys: the one group has been told of.
    exists: bool,
    ttl: Option<Ttl>,
    watermark: Watermark,
    /// What the step has touched, in the order of the first touch.
    touched: Vec<Touched>,
    /// By group: its place in `touched`, if it is there.
    slots: Vec<u32>,
    /// Groups that the step has left without rows.
    emptied: Vec<u32>,
    /// Scratch: the group of each row, and the rows that come and that are taken back.
    ids: Vec<u32>,
    adds: Vec<u32>,
    takes: Vec<u32>,
    tables: Tables,
    /// Where changes are kept track of.
    changes: Option<Changes>,
    /// The most groups since memory was last given back.
    most: usize,
}

struct Ttl {
    /// The event-time column.
    time: usize,
    expiry: Expiry,
}

/// A group that a step has touched.
#[derive(Clone, Copy)]
struct Touched {
    group: u32,
    /// It has been told of, and not of its end.
    existed: bool,
    /// It is there however few rows it has.
    stays: bool,
    /// Its rows from now on.
    live: i64,
    /// Its state begins anew with this row of the batch: those before it are void.
    anew: Option<u32>,
}

impl Touched {
    fn exists(&self) -> bool {
        self.stays || self.live > 0
    }
}

/// A batch, and what is read of it.
struct Incoming<'a> {
    batch: &'a Batch,
    ids: &'a [u32],
    kinds: Option<&'a [i8]>,
    times: Option<&'a [Millis]>,
}

/// Whether this kind of row takes one back.
fn takes_back(kind: i8) -> bool {
    matches!(ChangeKind::from_code(kind), ChangeKind::UpdateBefore | ChangeKind::Delete)
}

impl GroupAggregate {
    /// `input`: columns of the rows; `output`: the keys, then one column for each call.
    pub fn new(node: &graph::GroupAggregate, input: &Schema, output: SchemaRef) -> Result<GroupAggregate> {
        let input = Arc::new(input.clone());
        let plan = match node.retracts {
            true => Plan::retracting(&node.calls, &input, node.order)?,
            false => Plan::new(&node.calls, &input, None, node.order)?,
        };
        let types: Vec<_> = node.keys.iter().map(|k| input.field(*k).data_type().clone()).collect();
        let codec = KeyCodec::new(&types)?;
        let ttl = match &node.ttl {
            None => None,
            Some(ttl) => {
                let time = *ttl.times.first().ok_or_else(|| Error::internal("a time to live without a time"))?;
                time_column(input.field(time).data_type(), input.field(time).name())?;
                Some(Ttl { time, expiry: Expiry::new(ttl.keep) })
            }
        };
        let counts_rows = node.calls.iter().any(|call| {
            matches!(call.function, AggregateFunction::Count) && call.args.is_empty() && call.filter.is_none()
        });
        Ok(GroupAggregate {
            keys: node.keys.clone(),
            table: codec.table(),
            codec,
            state: Accumulators::new(&plan),
            retracts: node.retracts,
            update_before: node.update_before,
            counts_rows,
            output,
            exists: false,
            tables: Tables::new(&node.keys, &plan, &input, ttl.is_some()),
            plan,
            ttl,
            watermark: Watermark::MIN,
            touched: Vec::new(),
            slots: Vec::new(),
            emptied: Vec::new(),
            ids: Vec::new(),
            adds: Vec::new(),
            takes: Vec::new(),
            changes: None,
            most: 0,
        })
    }

    fn keyed(&self) -> bool {
        !self.keys.is_empty()
    }

    fn take_in(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let keys: Vec<ArrayRef> = self.keys.iter().map(|k| batch.rows.column(*k).clone()).collect();
        let keys = self.codec.encode(&keys, batch.len())?;
        let mut ids = std::mem::take(&mut self.ids);
        self.table.assign(&keys, 0..batch.len(), &mut ids);
        self.make_room();
        let kinds = batch.kinds.as_ref().map(|k| &k.values()[..]);
        let kinds = kinds.filter(|kinds: &&[i8]| kinds.iter().any(|k| takes_back(*k)));
        if kinds.is_some() && !self.retracts {
            return Err(Error::internal("a row is taken back where the plan says that none can be"));
        }
        let incoming = Incoming { batch, ids: &ids, kinds, times: self.times(batch)? };
        let prepared = self.plan.prepare(&batch.rows)?;
        let mut from = 0;
        while from < batch.len() {
            let to = self.sort_out(&incoming, from);
            self.apply(&incoming, &prepared, from, to, out)?;
            from = to;
        }
        self.ids = ids;
        let mut emptied = std::mem::take(&mut self.emptied);
        emptied.retain(|group| self.state.rows(*group) == 0);
        self.remove(&mut emptied)?;
        emptied.clear();
        self.emptied = emptied;
        Ok(())
    }

    /// Takes in what local halves have made of rows: keys and records.
    fn take_in_partials(&mut self, batch: &Batch, out: &mut dyn Output) -> Result<()> {
        if batch.is_empty() {
            return Ok(());
        }
        let (keys, records) = batch.rows.columns().split_at(self.keys.len());
        let keys = self.codec.encode(keys, batch.len())?;
        let mut ids = std::mem::take(&mut self.ids);
        self.table.assign(&keys, 0..batch.len(), &mut ids);
        self.make_room();
        self.touched.clear();
        ids.iter().for_each(|group| self.touch(*group));
        let old = if self.counts_rows && !self.update_before { None } else { Some(self.results_before()?) };
        self.state.merge_partials(&ids, records, 0..batch.len())?;
        self.ids = ids;
        self.tell(old, out)
    }

    /// The event times of a batch, where groups are forgotten by them.
    fn times<'a>(&self, batch: &'a Batch) -> Result<Option<&'a [Millis]>> {
        let Some(ttl) = &self.ttl else { return Ok(None) };
        let column = batch.rows.column(ttl.time);
        if column.null_count() > 0 {
            let name = batch.rows.schema_ref().field(ttl.time).name().clone();
            return Err(Error::data(format!("the time `{name}` of a row is NULL, so its group has no time to live"))
                .remedy("filter such rows with `IS NOT NULL`, or set table.exec.state.ttl to 0"));
        }
        Ok(Some(column.as_primitive::<TimestampMillisecondType>().values()))
    }

    /// Makes room for groups that have got an id.
    fn make_room(&mut self) {
        let groups = self.table.len();
        if groups <= self.state.groups() {
            return;
        }
        self.most = self.most.max(groups);
        self.state.resize(groups);
        self.slots.resize(groups, 0);
        if let Some(ttl) = &mut self.ttl {
            ttl.expiry.resize(groups);
        }
        if let Some(changes) = &mut self.changes {
            changes.resize(groups);
        }
    }

    // ---- Which rows count

    /// Finds out which groups the rows from `from` on touch, and which rows come and which are taken back. Returns where the
    /// batch has to be cut.
    fn sort_out(&mut self, rows: &Incoming<'_>, from: usize) -> usize {
        self.touched.clear();
        self.adds.clear();
        self.takes.clear();
        if rows.kinds.is_none() && rows.times.is_none() {
            let ids = if self.keyed() { rows.ids } else { &rows.ids[..1] };
            ids.iter().for_each(|group| self.touch(*group));
            return rows.ids.len();
        }
        let mut to = from;
        let mut voids = false;
        // Row by row: whether a row counts depends on those of its group before it.
        while to < rows.ids.len() {
            let group = rows.ids[to];
            let new = self.touched.len();
            let at = self.slot(group);
            if self.finds_nothing(group, at, rows.batch, to) {
                if at < new && self.keyed() {
                    break;
                }
                let t = &mut self.touched[at];
                voids = true;
                (t.live, t.anew) = (0, Some(to as u32));
                if !self.keys.is_empty() {
                    t.existed = false;
                }
            }
            let t = &mut self.touched[at];
            let back = rows.kinds.is_some_and(|kinds| takes_back(kinds[to]));
            // Of a group that may have been told of and forgotten, its end is news, even if it came and went in one step: it is
            // told as it is, then as it goes.
            if back && t.live == 1 && !t.existed && self.ttl.is_some() && !self.keys.is_empty() {
                break;
            }
            let row = to as u32;
            to += 1;
            if back && t.live == 0 {
                continue;
            }
            if let (Some(ttl), Some(times)) = (&mut self.ttl, rows.times) {
                match t.live {
                    0 => ttl.expiry.begin(group, times[to - 1]),
                    _ => ttl.expiry.touch(group, times[to - 1]),
                }
            }
            if !back {
                t.live += 1;
                t.stays |= self.keys.is_empty();
                self.adds.push(row);
                continue;
            }
            t.live -= 1;
            match t.live {
                0 => (t.anew, voids) = (Some(row + 1), true),
                _ => self.takes.push(row),
            }
        }
        if voids {
            let (touched, slots) = (&self.touched, &self.slots);
            let counts = |row: &u32| {
                let t = &touched[slots[rows.ids[*row as usize] as usize] as usize];
                t.anew.is_none_or(|anew| *row >= anew)
            };
            self.adds.retain(counts);
            self.takes.retain(counts);
        }
        to
    }

    /// A group gets rows.
    #[inline]
    fn touch(&mut self, group: u32) {
        let at = self.slot(group);
        let t = &mut self.touched[at];
        t.live = t.live.max(1);
        t.stays |= self.keys.is_empty();
    }

    /// The place of a group among those that are touched.
    #[inline]
    fn slot(&mut self, group: u32) -> usize {
        let at = self.slots[group as usize] as usize;
        if self.touched.get(at).is_some_and(|t| t.group == group) {
            return at;
        }
        let live = self.state.rows(group);
        let (existed, stays) = if self.keys.is_empty() { (self.exists, self.exists) } else { (live > 0, false) };
        self.slots[group as usize] = self.touched.len() as u32;
        self.touched.push(Touched { group, existed, stays, live, anew: None });
        self.touched.len() - 1
    }

    /// Whether a row's mark has passed the group that it would touch.
    fn finds_nothing(&self, group: u32, at: usize, batch: &Batch, row: usize) -> bool {
        let Some(ttl) = &self.ttl else { return false };
        self.touched[at].live > 0 && ttl.expiry.has_expired(group, batch.mark(row, self.watermark))
    }

    // ---- What becomes of the groups

    fn apply(
        &mut self,
        rows: &Incoming<'_>,
        prepared: &Prepared,
        from: usize,
        to: usize,
        out: &mut dyn Output,
    ) -> Result<()> {
        let plain = rows.kinds.is_none() && rows.times.is_none();
        let begins_anew: Vec<u32> = self.touched.iter().filter(|t| t.anew.is_some()).map(|t| t.group).collect();
        let all_change = self.counts_rows && !self.update_before && rows.kinds.is_none() && begins_anew.is_empty();
        let old = if all_change { None } else { Some(self.results_before()?) };
        if self.tables.has_parts() {
            self.note_gone(&begins_anew)?;
        }
        begins_anew.iter().for_each(|group| self.state.reset(*group));
        if plain {
            let groups = if self.keyed() { Groups::Each(rows.ids) } else { Groups::One };
            self.state.update(groups, prepared, from..to)?;
        } else if rows.kinds.is_none() && self.adds.len() == to - from {
            self.state.update(Groups::Each(&rows.ids[from..to]), prepared, from..to)?;
        } else {
            self.change(&rows.ids[from..to], from, prepared)?;
        }
        self.tell(old, out)
    }

    /// Tells of the touched groups, and notes what has become of them.
    fn tell(&mut self, old: Option<emit::Old>, out: &mut dyn Output) -> Result<()> {
        self.emit_changes(old, out)?;
        if self.keys.is_empty() {
            self.exists = self.touched.iter().any(Touched::exists);
        } else {
            self.emptied.extend(self.touched.iter().filter(|t| t.live == 0).map(|t| t.group));
        }
        if let Some(changes) = &mut self.changes {
            self.touched.iter().for_each(|t| changes.mark(t.group));
        }
        Ok(())
    }

    /// Adds the rows that come and takes back the others.
    fn change(&mut self, ids: &[u32], from: usize, prepared: &Prepared) -> Result<()> {
        let (adds, takes) = (std::mem::take(&mut self.adds), std::mem::take(&mut self.takes));
        if self.retracts {
            self.state.change(ids, from, prepared, &adds, &takes)?;
        } else {
            // Some rows are void: only where groups are forgotten within a batch. Runs of the others.
            let mut at = 0;
            while at < adds.len() {
                let first = adds[at] as usize;
                let mut end = at + 1;
                while end < adds.len() && adds[end] as usize == first + end - at {
                    end += 1;
                }
                let run = first..first + end - at;
                self.state.update(Groups::Each(&ids[run.start - from..run.end - from]), prepared, run)?;
                at = end;
            }
        }
        (self.adds, self.takes) = (adds, takes);
        Ok(())
    }

    /// Tells of the one group that never had a row.
    fn end(&mut self, out: &mut dyn Output) -> Result<()> {
        if self.keyed() || self.exists {
            return Ok(());
        }
        self.table.assign(&self.codec.encode(&[], 1)?, 0..1, &mut self.ids);
        self.make_room();
        self.touched.clear();
        let at = self.slot(0);
        self.touched[at].stays = true;
        self.emit_changes(None, out)?;
        self.exists = true;
        if let Some(changes) = &mut self.changes {
            changes.mark(0);
        }
        Ok(())
    }

    // ---- What is forgotten

    fn forget_expired(&mut self) -> Result<()> {
        // At the end of the input there is nobody left to find anything or not.
        if !self.keyed() || self.watermark == Watermark::MAX {
            return Ok(());
        }
        let Some(ttl) = &mut self.ttl else { return Ok(()) };
        let mut expired = ttl.expiry.expired(self.watermark);
        self.remove(&mut expired)
    }

    /// Removes groups and what is remembered of them.
    fn remove(&mut self, groups: &mut Vec<u32>) -> Result<()> {
        if groups.is_empty() || !self.keyed() {
            return Ok(());
        }
        // From the highest: what moves into the gap is then never one that has yet to go.
        groups.sort_unstable_by(|a, b| b.cmp(a));
        groups.dedup();
        self.note_gone(groups)?;
        for group in groups.iter() {
            self.table.swap_remove(*group);
            self.state.swap_remove(*group);
            if let Some(ttl) = &mut self.ttl {
                ttl.expiry.swap_remove(*group);
            }
            if let Some(changes) = &mut self.changes {
                changes.swap_remove(*group);
            }
        }
        self.slots.truncate(self.table.len());
        self.touched.clear();
        self.give_back();
        Ok(())
    }

    /// Gives memory back where most groups are gone.
    fn give_back(&mut self) {
        let groups = self.table.len();
        if self.most < SHRINK_MIN || groups > self.most / 4 {
            return;
        }
        // A new table has the same ids and room for no more.
        let mut table = self.codec.table();
        table.assign_all(&self.table, &mut Vec::new());
        self.table = table;
        self.state.shrink();
        self.slots.shrink_to_fit();
        if let Some(ttl) = &mut self.ttl {
            ttl.expiry.shrink();
        }
        if let Some(changes) = &mut self.changes {
            changes.shrink();
        }
        self.most = groups;
    }
}

impl Operator for GroupAggregate {
    fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
        match event {
            Event::Batch { input: 1.., batch } => self.take_in_partials(&batch, out),
            Event::Batch { batch, .. } => self.take_in(&batch, out),
            Event::Watermark(domain, to) => {
                if domain == TimeDomain::Event && to > self.watermark {
                    self.watermark = to;
                    self.forget_expired()?;
                }
                out.advance(domain, to)
            }
            Event::End => self.end(out),
        }
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
            + self.state.bytes()
            + self.slots.capacity() * 4
            + self.touched.capacity() * size_of::<Touched>()
            + self.ttl.as_ref().map_or(0, |ttl| ttl.expiry.bytes())
            + self.changes.as_ref().map_or(0, Changes::bytes)
    }

    /// A group is forgotten in silence.
    fn due(&self, _: TimeDomain) -> Option<Watermark> {
        None
    }

    fn tables(&self) -> Vec<TableDef> {
        self.tables.all()
    }

    fn track_changes(&mut self) {
        self.changes.get_or_insert_default();
        self.state.track();
    }

    fn save(&mut self, saver: &mut Saver) -> Result<()> {
        self.save_tables(saver)
    }

    fn load(&mut self, table: &str, _: u32, rows: &RecordBatch) -> Result<()> {
        self.load_table(table, rows)
    }

    fn resume(&mut self, watermarks: Watermarks) -> Result<()> {
        self.watermark = watermarks.of(TimeDomain::Event);
        Ok(())
    }
}
