//! Aggregates over columns, by group id.
//!
//! ```text
//!  calls ──Plan──▶ cells (fixed size, one record for each group)   COUNT, SUM, AVG, MIN, MAX of plain types
//!                ├▶ distinct sets (shared by the calls on one argument)   any call with DISTINCT
//!                ├▶ sides (one state for each group)   text, lists, multisets, sketches, moments, DataFusion's kernels
//!                └▶ bags (values and their counts)   where rows may be taken back: MIN, MAX, DISTINCT, lists, multisets
//! ```
//!
//! The records of fixed-size cells lie one behind the other, so a group costs one cache line or two however many
//! aggregates there are. Calls share cells: AVG and SUM of one column have one sum, and every count of values that
//! are not NULL is the count of rows less the count of NULLs, which costs nothing while there are none.
//!
//! A plan for rows that may be taken back ([`Plan::retracting`]) has neither cells of MIN and MAX nor distinct sets: both would
//! have to know what is left. It reads [`bag`]s instead.
//!
//! Always true: the result depends on the rows alone, never on their order or on how they were cut and merged. Ties
//! of FIRST_VALUE and its kind go by (time, order); float sums are exact.

mod bag;
mod cells;
mod collect;
mod distinct;
mod fold;
mod input;
mod kernel;
mod ordered;
mod retract;
mod saved;
mod sketch;
#[cfg(test)]
mod tests;

pub use bag::BagRows;
pub(crate) use bag::canonical;
pub use input::Prepared;
pub use saved::Names;

use crate::graph::{AggregateCall, AggregateFunction};
use arrow::array::*;
use arrow::datatypes::{DataType, Field, Schema};
use bag::{BagRead, BagSet, BagSpec};
use cells::{Cell, CellKind};
use distinct::{DistinctSet, DistinctSpec};
use fold::{Fold, PerGroup};
use input::{LaneKind, LaneSpec, Pick, Picked};
use millstream_core::{Error, Result};
use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

/// Which group each row of a range belongs to.
#[derive(Clone, Copy)]
pub enum Groups<'a> {
    /// All rows are in group 0.
    One,
    /// One id for each row of the range.
    Each(&'a [u32]),
}

/// How the calls of one query are computed. Made once, shared by all its accumulators.
pub struct Plan {
    schema: Arc<Schema>,
    calls: Vec<Call>,
    cells: Vec<Cell>,
    /// Words of one record.
    stride: usize,
    /// A record of a group that has no rows yet.
    blank: Vec<u64>,
    lanes: Vec<LaneSpec>,
    /// Columns of FILTER clauses.
    filters: Vec<usize>,
    distincts: Vec<DistinctSpec>,
    bags: Vec<BagSpec>,
    sides: Vec<SideSpec>,
    /// Rows may be taken back.
    retracts: bool,
    /// Cells and sides in the order in which the calls asked for them: that of their columns in a table.
    layout: Vec<Part>,
    time: Option<usize>,
    order: Option<usize>,
}

#[derive(Clone, Copy)]
enum Part {
    Cell(usize),
    Side(usize),
}

struct Call {
    finish: Finish,
    result: Field,
}

enum Finish {
    Count(Present),
    Sum(usize, Present),
    Avg(usize, Present),
    Extreme(usize, Present),
    Side(usize),
    Bag(usize, BagRead),
}

/// How many values count: those of `base` less those of `nulls`, both cells.
#[derive(Clone, Copy)]
struct Present {
    base: usize,
    nulls: Option<usize>,
}

struct SideSpec {
    /// What it is of, for the name of its column: `min_title`.
    name: String,
    pick: Pick,
    make: Arc<dyn Fn() -> Box<dyn Side> + Send + Sync>,
    invertible: bool,
    mergeable: bool,
}

/// State of varying size, by group id.
trait Side: Send {
    fn resize(&mut self, groups: usize);
    fn update(&mut self, input: &Prepared, rows: &Picked<'_>, groups: Groups<'_>) -> Result<()>;
    /// Takes rows back.
    fn take(&mut self, input: &Prepared, rows: &Picked<'_>, groups: Groups<'_>) -> Result<()>;
    /// Group `i` of `from`, which is of the same make, joins group `into[i]`.
    fn merge(&mut self, into: &[u32], from: &dyn Side, away: bool) -> Result<()>;
    fn merge_within(&mut self, into: u32, from: u32) -> Result<()>;
    fn reset(&mut self, group: u32);
    fn swap_remove(&mut self, group: u32);
    /// Gives back memory that is not used.
    fn shrink(&mut self);
    fn finish(&self, groups: &mut dyn Iterator<Item = usize>) -> Result<ArrayRef>;
    /// Type of the column that the states are saved in.
    fn saved_type(&self) -> DataType;
    fn save(&self, groups: &[u32]) -> Result<ArrayRef>;
    /// Row `i` of a column that `save` made is the state of group `groups[i]`.
    fn load(&mut self, groups: &[u32], column: &ArrayRef) -> Result<()>;
    fn bytes(&self) -> usize;
    fn as_any(&self) -> &dyn Any;
}

impl Plan {
    /// Plans the calls over rows of `schema`. `time` and `order` are the columns that order-sensitive calls go by.
    pub fn new(
        calls: &[AggregateCall],
        schema: &Arc<Schema>,
        time: Option<usize>,
        order: Option<usize>,
    ) -> Result<Arc<Plan>> {
        Plan::of(calls, schema, time, order, false)
    }

    /// The same over rows that may be taken back, with [`Accumulators::change`]. Order-sensitive calls go by `order` alone,
    /// and by value where there is none. What it makes is not merged.
    pub fn retracting(calls: &[AggregateCall], schema: &Arc<Schema>, order: Option<usize>) -> Result<Arc<Plan>> {
        Plan::of(calls, schema, None, order, true)
    }

    fn of(
        calls: &[AggregateCall],
        schema: &Arc<Schema>,
        time: Option<usize>,
        order: Option<usize>,
        retracts: bool,
    ) -> Result<Arc<Plan>> {
        let mut plan = Plan {
            schema: schema.clone(),
            calls: Vec::new(),
            cells: vec![Cell { kind: CellKind::Count, at: 0, lane: 0, pick: Pick::All }],
            stride: 1,
            blank: vec![0],
            lanes: Vec::new(),
            filters: Vec::new(),
            distincts: Vec::new(),
            bags: Vec::new(),
            sides: Vec::new(),
            retracts,
            layout: vec![Part::Cell(0)],
            time,
            order,
        };
        for call in calls {
            let finish = plan.call(call)?;
            plan.calls.push(Call { finish, result: call.result.clone() });
        }
        Ok(Arc::new(plan))
    }

    fn call(&mut self, call: &AggregateCall) -> Result<Finish> {
        use AggregateFunction::*;
        let schema = self.schema.clone();
        let kind = |at: usize| schema.field(at).data_type().clone();
        let arg = |what: &str| {
            call.args.first().copied().ok_or_else(|| Error::internal(format!("{what} without an argument")))
        };
        let filter = call.filter.map(|column| find_or_push(&mut self.filters, column));
        // MIN and MAX of distinct values are MIN and MAX.
        let distinct = call.distinct && !matches!(call.function, Min | Max);
        let (retracts, order) = (self.retracts, self.order);
        let pick = match (distinct, filter) {
            (true, filter) if retracts => Pick::Turned { bag: self.bag(&call.args, None, filter, false)? },
            (true, filter) => self.distinct(&call.args, filter)?,
            (false, None) => Pick::All,
            (false, Some(filter)) => Pick::Filter(filter),
        };
        let name = self.side_name(call, pick);
        Ok(match &call.function {
            Count if distinct || call.args.is_empty() => {
                Finish::Count(Present { base: self.cell(CellKind::Count, 0, pick), nulls: None })
            }
            Count => {
                let lane = self.lane(arg("COUNT")?, LaneKind::Nulls);
                Finish::Count(self.present(lane, pick))
            }
            Sum | Avg => {
                let column = arg("SUM")?;
                let (lane_kind, cell) = match kind(column) {
                    DataType::Int8
                    | DataType::Int16
                    | DataType::Int32
                    | DataType::UInt8
                    | DataType::UInt16
                    | DataType::UInt32 => (LaneKind::Integer, CellKind::SumSmall),
                    DataType::Int64 => (LaneKind::Integer, CellKind::SumInteger),
                    DataType::Decimal128(..) => (LaneKind::Wide, CellKind::SumDecimal),
                    DataType::Float32 | DataType::Float64 => (LaneKind::Float, CellKind::SumFloat),
                    other => {
                        return Err(Error::sql(format!("SUM and AVG take numbers, not {other}"))
                            .remedy("CAST the argument to a number"));
                    }
                };
                let lane = self.lane(column, lane_kind);
                let present = self.present(lane, pick);
                let sum = self.cell(cell, lane, pick);
                if matches!(call.function, Sum) { Finish::Sum(sum, present) } else { Finish::Avg(sum, present) }
            }
            Min | Max if retracts => {
                let bag = self.bag(&[arg("MIN")?], None, filter, false)?;
                Finish::Bag(bag, if matches!(call.function, Min) { BagRead::Least } else { BagRead::Greatest })
            }
            FirstValue | LastValue if retracts => {
                let bag = self.bag(&[arg("FIRST_VALUE")?], order, filter, false)?;
                self.bags[bag].by_place |= order.is_some();
                Finish::Bag(bag, if matches!(call.function, FirstValue) { BagRead::First } else { BagRead::Last })
            }
            ListAgg { separator } if retracts => {
                let bag = self.bag(&[arg("LISTAGG")?], order.filter(|_| !distinct), filter, false)?;
                Finish::Bag(bag, BagRead::List { separator: separator.clone(), once: distinct })
            }
            ArrayAgg if retracts => {
                let bag = self.bag(&[arg("ARRAY_AGG")?], order.filter(|_| !distinct), filter, !distinct)?;
                Finish::Bag(bag, BagRead::Array { once: distinct })
            }
            Collect if retracts => {
                let bag = self.bag(&[arg("COLLECT")?], None, filter, false)?;
                Finish::Bag(bag, BagRead::Multiset { once: distinct })
            }
            ApproxCountDistinct if retracts => {
                let column = arg("APPROX_COUNT_DISTINCT")?;
                self.side(&name, pick, false, false, sketch::counted_distinct(column))
            }
            Kernel(function) if retracts => {
                let name = function.fun().name();
                return Err(Error::sql(format!("{name} cannot take rows back, and its input does")).remedy(
                    "aggregate it over a window or over rows that are only inserted, or use another aggregate",
                ));
            }
            Min | Max => {
                let least = matches!(call.function, Min);
                let column = arg("MIN")?;
                match kind(column) {
                    DataType::Decimal128(..) => {
                        let lane = self.lane(column, LaneKind::Wide);
                        let present = self.present(lane, pick);
                        let cell = if least { CellKind::MinWide } else { CellKind::MaxWide };
                        Finish::Extreme(self.cell(cell, lane, pick), present)
                    }
                    kind if input::fits_lane(&kind) => {
                        let lane = self.lane(column, LaneKind::Ordered);
                        let present = self.present(lane, pick);
                        let cell = if least { CellKind::Min } else { CellKind::Max };
                        Finish::Extreme(self.cell(cell, lane, pick), present)
                    }
                    _ => self.side(&name, pick, true, false, ordered::extreme(column, call.result.data_type(), least)),
                }
            }
            VarPop | VarSamp | StddevPop | StddevSamp => {
                let column = arg("VAR")?;
                let lane = match kind(column) {
                    DataType::Float32 | DataType::Float64 => self.lane(column, LaneKind::Float),
                    DataType::Decimal128(..) => self.lane(column, LaneKind::Wide),
                    k if k.is_integer() => self.lane(column, LaneKind::Integer),
                    other => {
                        return Err(Error::sql(format!("VAR and STDDEV take numbers, not {other}"))
                            .remedy("CAST the argument to a number"));
                    }
                };
                let sample = matches!(call.function, VarSamp | StddevSamp);
                let root = matches!(call.function, StddevPop | StddevSamp);
                let scale = match kind(column) {
                    DataType::Decimal128(_, scale) => i32::from(scale),
                    _ => 0,
                };
                self.side(&name, pick, true, true, sketch::moments(lane, sample, root, scale, call.result.data_type()))
            }
            FirstValue | LastValue => {
                let first = matches!(call.function, FirstValue);
                self.side(&name, pick, true, false, ordered::edge(arg("FIRST_VALUE")?, call.result.data_type(), first))
            }
            ListAgg { separator } => self.side(
                &name,
                pick,
                true,
                false,
                ordered::listagg(arg("LISTAGG")?, &kind(arg("LISTAGG")?), separator, distinct),
            ),
            ArrayAgg => self.side(
                &name,
                pick,
                true,
                false,
                ordered::array_agg(arg("ARRAY_AGG")?, &kind(arg("ARRAY_AGG")?), call.result.data_type(), distinct),
            ),
            Collect => {
                let column = arg("COLLECT")?;
                let make = collect::collect(column, &kind(column), call.result.data_type())?;
                self.side(&name, pick, true, true, make)
            }
            ApproxCountDistinct => {
                let column = arg("APPROX_COUNT_DISTINCT")?;
                self.side(&name, pick, true, false, sketch::approx_count_distinct(column))
            }
            ApproxPercentile { fraction } => {
                let column = arg("APPROX_PERCENTILE")?;
                self.side(
                    &name,
                    pick,
                    true,
                    true,
                    sketch::approx_percentile(column, *fraction, call.result.data_type()),
                )
            }
            Kernel(function) => {
                let make = kernel::kernel(function.clone(), call.args.clone())?;
                self.side(&name, pick, true, false, make)
            }
        })
    }

    fn lane(&mut self, column: usize, kind: LaneKind) -> usize {
        find_or_push(&mut self.lanes, LaneSpec { column, kind })
    }

    /// The cell of this kind, shared with the calls that have it already.
    fn cell(&mut self, kind: CellKind, lane: usize, pick: Pick) -> usize {
        let same = |c: &Cell| c.kind == kind && c.pick == pick && (c.lane == lane || kind == CellKind::Count);
        if let Some(at) = self.cells.iter().position(same) {
            return at;
        }
        self.cells.push(Cell { kind, at: self.stride, lane, pick });
        self.stride += kind.words();
        self.blank.extend_from_slice(kind.blank());
        self.layout.push(Part::Cell(self.cells.len() - 1));
        self.cells.len() - 1
    }

    fn present(&mut self, lane: usize, pick: Pick) -> Present {
        let base = self.cell(CellKind::Count, 0, pick);
        // The NULL counts of a column are one cell, whatever lanes of it are read.
        let column = self.lanes[lane].column;
        let lane = self.lanes.iter().position(|l| l.column == column).unwrap_or(lane);
        let nulls = match pick {
            // A distinct value is never NULL.
            Pick::Fresh { .. } | Pick::Turned { .. } => None,
            _ if !self.schema.field(column).is_nullable() => None,
            _ => Some(self.cell(CellKind::Nulls, lane, pick)),
        };
        Present { base, nulls }
    }

    fn side(
        &mut self,
        name: &str,
        pick: Pick,
        mergeable: bool,
        invertible: bool,
        make: Arc<dyn Fn() -> Box<dyn Side> + Send + Sync>,
    ) -> Finish {
        self.layout.push(Part::Side(self.sides.len()));
        self.sides.push(SideSpec { name: name.to_owned(), pick, make, invertible, mergeable });
        Finish::Side(self.sides.len() - 1)
    }

    /// The pick of rows that are the first with their value in their group, among those of the filter.
    fn distinct(&mut self, args: &[usize], filter: Option<usize>) -> Result<Pick> {
        let set = match self.distincts.iter().position(|d| d.args == args && d.has_room_for(filter)) {
            Some(set) => set,
            None => {
                self.distincts.push(DistinctSpec::new(args, &self.schema)?);
                self.distincts.len() - 1
            }
        };
        let bit = self.distincts[set].bit(filter);
        Ok(Pick::Fresh { set, bit })
    }

    /// The bag of these values, shared with the calls that have it already.
    fn bag(&mut self, args: &[usize], order: Option<usize>, filter: Option<usize>, nulls: bool) -> Result<usize> {
        if let Some(at) = self.bags.iter().position(|b| b.is_of(args, order, filter, nulls)) {
            return Ok(at);
        }
        self.bags.push(BagSpec::new(args, order, filter, nulls, &self.schema)?);
        Ok(self.bags.len() - 1)
    }

    /// Whether a window can be kept by adding new slices and taking old ones away.
    pub fn invertible(&self) -> bool {
        self.distincts.is_empty()
            && self.cells.iter().all(|c| c.kind.invertible())
            && self.sides.iter().all(|s| s.invertible)
    }

    /// Whether everything stands in the records: then they can be aggregated before an exchange.
    pub fn records_only(&self) -> bool {
        self.distincts.is_empty()
            && self.bags.is_empty()
            && self.sides.iter().all(|s| !s.mergeable)
            && self.sides.is_empty()
    }

    /// Bytes of one record.
    pub fn record_bytes(&self) -> usize {
        self.stride * 8
    }

    /// The result columns.
    pub fn results(&self) -> impl Iterator<Item = &Field> {
        self.calls.iter().map(|c| &c.result)
    }

    /// Takes from a batch what the calls read of it, once for all accumulators that its rows go to.
    pub fn prepare(&self, rows: &RecordBatch) -> Result<Prepared> {
        Prepared::new(self, rows)
    }
}

fn find_or_push<T: PartialEq>(list: &mut Vec<T>, item: T) -> usize {
    list.iter().position(|known| *known == item).unwrap_or_else(|| {
        list.push(item);
        list.len() - 1
    })
}

/// The state of all calls, for groups 0, 1, 2 ..
pub struct Accumulators {
    plan: Arc<Plan>,
    groups: usize,
    words: Vec<u64>,
    /// For each cell of a float sum: what does not fit its two words, by group. Empty until it is needed.
    wides: Vec<cells::Wides>,
    distincts: Vec<DistinctSet>,
    bags: Vec<BagSet>,
    sides: Vec<Box<dyn Side>>,
}

impl Accumulators {
    pub fn new(plan: &Arc<Plan>) -> Accumulators {
        Accumulators {
            plan: plan.clone(),
            groups: 0,
            words: Vec::new(),
            wides: plan.cells.iter().map(|_| cells::Wides::default()).collect(),
            distincts: plan.distincts.iter().map(DistinctSpec::set).collect(),
            bags: plan.bags.iter().map(BagSpec::set).collect(),
            sides: plan.sides.iter().map(|s| (s.make)()).collect(),
        }
    }

    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Makes room for groups below `groups`; new ones are blank.
    pub fn resize(&mut self, groups: usize) {
        if groups <= self.groups {
            return;
        }
        if self.plan.blank.iter().all(|w| *w == 0) {
            self.words.resize(groups * self.plan.stride, 0);
        } else {
            self.words.reserve((groups - self.groups) * self.plan.stride);
            for _ in self.groups..groups {
                self.words.extend_from_slice(&self.plan.blank);
            }
        }
        self.groups = groups;
        self.distincts.iter_mut().for_each(|d| d.resize(groups));
        self.bags.iter_mut().zip(&self.plan.bags).for_each(|(b, spec)| b.resize(spec, groups));
        self.sides.iter_mut().for_each(|s| s.resize(groups));
    }

    /// Rows of a group.
    #[inline]
    pub fn rows(&self, group: u32) -> i64 {
        self.words[group as usize * self.plan.stride] as i64
    }

    /// The rows of each group, where they are all that is counted: whoever adds a row may then do so here, and makes
    /// room for a group by pushing zeros. [`Accumulators::resize`] afterwards.
    pub fn counts_only(&mut self) -> Option<&mut Vec<u64>> {
        let plan = &self.plan;
        let only = plan.stride == 1 && plan.cells.len() == 1 && plan.distincts.is_empty() && plan.sides.is_empty();
        let only = only && plan.bags.is_empty();
        only.then_some(&mut self.words)
    }

    /// Adds the rows of the range to their groups, for which there must be room.
    pub fn update(&mut self, groups: Groups<'_>, input: &Prepared, rows: Range<usize>) -> Result<()> {
        let plan = self.plan.clone();
        for (set, values) in self.distincts.iter_mut().zip(&input.distincts) {
            set.update(values, rows.clone(), groups);
        }
        self.add_to_bags(groups, input, rows.clone());
        for (cell, wides) in plan.cells.iter().zip(&mut self.wides) {
            let picked = pick(&self.distincts, &self.bags, input, cell.pick, &rows);
            cell.update(&mut self.words, plan.stride, wides, input, &picked, groups);
        }
        for (side, spec) in self.sides.iter_mut().zip(&plan.sides) {
            side.update(input, &pick(&self.distincts, &self.bags, input, spec.pick, &rows), groups)?;
        }
        Ok(())
    }

    /// Group `i` of `from` joins group `into[i]`.
    pub fn merge(&mut self, into: &[u32], from: &Accumulators) -> Result<()> {
        self.join(into, from, false)
    }

    /// Group `i` of `from`, joined to group `into[i]` before, is taken away again. Only for an invertible plan.
    pub fn unmerge(&mut self, into: &[u32], from: &Accumulators) -> Result<()> {
        debug_assert!(self.plan.invertible());
        self.join(into, from, true)
    }

    fn join(&mut self, into: &[u32], from: &Accumulators, away: bool) -> Result<()> {
        let plan = self.plan.clone();
        self.distincts_join(into, from)?;
        for (at, cell) in plan.cells.iter().enumerate() {
            if !matches!(cell.pick, Pick::Fresh { .. }) {
                cell.merge(&mut self.words, plan.stride, &mut self.wides[at], into, &from.words, &from.wides[at], away);
            }
        }
        for (at, (side, other)) in self.sides.iter_mut().zip(&from.sides).enumerate() {
            if !matches!(plan.sides[at].pick, Pick::Fresh { .. }) {
                side.merge(into, other.as_ref(), away)?;
            }
        }
        Ok(())
    }

    /// What is picked by being new in a distinct set is counted anew from what the set gains.
    fn distincts_join(&mut self, into: &[u32], from: &Accumulators) -> Result<()> {
        let plan = self.plan.clone();
        for (at, spec) in plan.distincts.iter().enumerate() {
            let gained = self.distincts[at].merge(spec, into, &from.distincts[at]);
            self.gain(at, spec, gained)?;
        }
        Ok(())
    }

    fn gain(&mut self, set: usize, spec: &DistinctSpec, gained: distinct::Gained) -> Result<()> {
        let plan = self.plan.clone();
        let is_of = |pick: Pick| matches!(pick, Pick::Fresh { set: s, .. } if s == set);
        let more_than_counts = plan.cells.iter().any(|c| is_of(c.pick) && c.kind != CellKind::Count)
            || plan.sides.iter().any(|s| is_of(s.pick));
        let input = match more_than_counts {
            true => Some(Prepared::new(&plan, &self.distincts[set].values(spec, &gained, &plan.schema)?)?),
            false => None,
        };
        let nothing = Prepared::nothing();
        let input = input.as_ref().unwrap_or(&nothing);
        let groups = Groups::Each(&gained.groups);
        for (cell, wides) in plan.cells.iter().zip(&mut self.wides) {
            if let Pick::Fresh { set: s, bit } = cell.pick
                && s == set
            {
                let picked = Picked::List { rows: &gained.rows[bit], from: 0 };
                cell.update(&mut self.words, plan.stride, wides, input, &picked, groups);
            }
        }
        for (side, of) in self.sides.iter_mut().zip(&plan.sides) {
            if let Pick::Fresh { set: s, bit } = of.pick
                && s == set
            {
                side.update(input, &Picked::List { rows: &gained.rows[bit], from: 0 }, groups)?;
            }
        }
        Ok(())
    }

    /// Group `from` joins group `into` of the same accumulators. `from` keeps its state until it is reset.
    pub fn merge_within(&mut self, into: u32, from: u32) -> Result<()> {
        let plan = self.plan.clone();
        for (at, spec) in plan.distincts.iter().enumerate() {
            let gained = self.distincts[at].merge_within(into, from);
            self.gain(at, spec, gained)?;
        }
        for (at, cell) in plan.cells.iter().enumerate() {
            if !matches!(cell.pick, Pick::Fresh { .. }) {
                cell.merge_within(&mut self.words, plan.stride, &mut self.wides[at], into, from);
            }
        }
        for (at, side) in self.sides.iter_mut().enumerate() {
            if !matches!(plan.sides[at].pick, Pick::Fresh { .. }) {
                side.merge_within(into, from)?;
            }
        }
        Ok(())
    }

    /// Makes a group blank.
    pub fn reset(&mut self, group: u32) {
        let at = group as usize * self.plan.stride;
        self.words[at..at + self.plan.stride].copy_from_slice(&self.plan.blank);
        self.wides.iter_mut().for_each(|w| w.reset(group));
        self.distincts.iter_mut().for_each(|d| d.reset(group));
        self.bags.iter_mut().for_each(|b| b.reset(group));
        self.sides.iter_mut().for_each(|s| s.reset(group));
    }

    /// Removes a group; the last one takes its id.
    pub fn swap_remove(&mut self, group: u32) {
        let (stride, last) = (self.plan.stride, self.groups - 1);
        self.words.copy_within(last * stride.., group as usize * stride);
        self.words.truncate(last * stride);
        self.wides.iter_mut().for_each(|w| w.swap_remove(group, last));
        self.distincts.iter_mut().for_each(|d| d.swap_remove(group));
        self.bags.iter_mut().for_each(|b| b.swap_remove(group));
        self.sides.iter_mut().for_each(|s| s.swap_remove(group));
        self.groups = last;
    }

    /// Forgets all groups and keeps the memory of the records.
    pub fn clear(&mut self) {
        self.words.clear();
        self.groups = 0;
        self.wides.iter_mut().for_each(cells::Wides::clear);
        for (set, spec) in self.distincts.iter_mut().zip(&self.plan.distincts) {
            set.clear(spec);
        }
        for (bag, spec) in self.bags.iter_mut().zip(&self.plan.bags) {
            *bag = spec.set();
        }
        for (side, spec) in self.sides.iter_mut().zip(&self.plan.sides) {
            *side = (spec.make)();
        }
    }

    /// Gives back memory that is not used, of accumulators that will not grow soon.
    pub fn shrink(&mut self) {
        self.words.shrink_to_fit();
        self.distincts.iter_mut().for_each(DistinctSet::shrink);
        self.bags.iter_mut().for_each(BagSet::shrink);
        self.sides.iter_mut().for_each(|s| s.shrink());
    }

    /// The result columns of a run of groups.
    pub fn finish(&self, groups: Range<usize>) -> Result<Vec<ArrayRef>> {
        self.plan.calls.iter().map(|call| self.finish_call(call, &|| groups.clone())).collect()
    }

    /// The result columns of these groups.
    pub fn finish_ids(&self, ids: &[u32]) -> Result<Vec<ArrayRef>> {
        self.plan.calls.iter().map(|call| self.finish_call(call, &|| ids.iter().map(|id| *id as usize))).collect()
    }

    fn finish_call<I: Iterator<Item = usize>>(&self, call: &Call, groups: &dyn Fn() -> I) -> Result<ArrayRef> {
        let plan = &self.plan;
        let array = match call.finish {
            Finish::Bag(bag, ref read) => {
                self.bags[bag].finish(&plan.bags[bag], read, call.result.data_type(), groups())?
            }
            Finish::Count(present) => {
                let counts: Int64Array = groups().map(|g| self.present(present, g)).collect::<Vec<i64>>().into();
                Arc::new(counts)
            }
            Finish::Side(at) => self.sides[at].finish(&mut groups())?,
            Finish::Sum(cell, present) | Finish::Avg(cell, present) | Finish::Extreme(cell, present) => {
                let counts: Vec<i64> = groups().map(|g| self.present(present, g)).collect();
                let lane = plan.lanes[plan.cells[cell].lane].column;
                let source = plan.schema.field(lane).data_type();
                let read = cells::Read {
                    cell: &plan.cells[cell],
                    words: &self.words,
                    stride: plan.stride,
                    wides: &self.wides[cell],
                    source,
                    counts: &counts,
                    result: &call.result,
                };
                match call.finish {
                    Finish::Sum(..) => read.sum(groups())?,
                    Finish::Avg(..) => read.average(groups())?,
                    _ => read.extreme(groups())?,
                }
            }
        };
        if array.data_type() == call.result.data_type() {
            return Ok(array);
        }
        Ok(arrow::compute::cast(&array, call.result.data_type())?)
    }

    #[inline]
    fn present(&self, present: Present, group: usize) -> i64 {
        let record = group * self.plan.stride;
        let base = self.words[record + self.plan.cells[present.base].at] as i64;
        base - present.nulls.map_or(0, |n| self.words[record + self.plan.cells[n].at] as i64)
    }

    /// The records of a run of groups as one column, for an exchange. Only where `records_only` holds; what float sums
    /// hold beside their records comes as a second column.
    pub fn partials(&self, groups: Range<usize>) -> Vec<ArrayRef> {
        let stride = self.plan.stride;
        let words = self.words[groups.start * stride..groups.end * stride].to_vec();
        let records = FixedSizeBinaryArray::new((stride * 8) as i32, arrow::buffer::Buffer::from_vec(words), None);
        vec![Arc::new(records), cells::Wides::encode(&self.wides, groups)]
    }

    /// The records of these groups, in the columns of [`Accumulators::partials`].
    pub fn partials_of(&self, groups: &[u32]) -> Vec<ArrayRef> {
        let stride = self.plan.stride;
        let mut words = Vec::with_capacity(groups.len() * stride);
        for group in groups {
            let at = *group as usize * stride;
            words.extend_from_slice(&self.words[at..at + stride]);
        }
        let records = FixedSizeBinaryArray::new((stride * 8) as i32, arrow::buffer::Buffer::from_vec(words), None);
        vec![Arc::new(records), cells::Wides::encode(&self.wides, groups.iter().map(|g| *g as usize))]
    }

    /// The fields of `partials`.
    pub fn partial_fields(plan: &Plan) -> Vec<Field> {
        vec![
            Field::new("$records", DataType::FixedSizeBinary((plan.stride * 8) as i32), false),
            Field::new("$spilled", DataType::Binary, true),
        ]
    }

    /// Row `i` of the range of the columns that `partials` made joins group `into[i]`.
    pub fn merge_partials(&mut self, into: &[u32], columns: &[ArrayRef], rows: Range<usize>) -> Result<()> {
        let plan = self.plan.clone();
        let records = columns[0].as_fixed_size_binary().slice(rows.start, rows.len());
        let bytes = &records.value_data()[..rows.len() * plan.stride * 8];
        let words: Vec<u64> =
            bytes.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().expect("chunks of eight bytes"))).collect();
        let spilled = cells::Wides::decode(plan.cells.len(), columns[1].as_binary::<i32>(), rows)?;
        for (at, cell) in plan.cells.iter().enumerate() {
            cell.merge(&mut self.words, plan.stride, &mut self.wides[at], into, &words, &spilled[at], false);
        }
        Ok(())
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.words.capacity() * 8
            + self.wides.iter().map(cells::Wides::bytes).sum::<usize>()
            + self.distincts.iter().map(DistinctSet::bytes).sum::<usize>()
            + self.bags.iter().map(BagSet::bytes).sum::<usize>()
            + self.sides.iter().map(|s| s.bytes()).sum::<usize>()
    }
}

fn pick<'a>(
    sets: &'a [DistinctSet],
    bags: &'a [BagSet],
    input: &'a Prepared,
    pick: Pick,
    rows: &Range<usize>,
) -> Picked<'a> {
    match pick {
        Pick::Turned { bag } => Picked::List { rows: bags[bag].turned(), from: rows.start },
        Pick::All => Picked::All(rows.clone()),
        Pick::Filter(at) => Picked::Bits { bits: input.filter(at), rows: rows.clone() },
        Pick::Fresh { set, bit } => Picked::List { rows: sets[set].fresh(bit), from: rows.start },
    }
}

/// Calls `row(i, group)` for each picked row; `i` is its place in the batch.
#[inline(always)]
fn each_row(rows: &Picked<'_>, groups: Groups<'_>, mut row: impl FnMut(usize, usize)) {
    let group = |offset: usize| match groups {
        Groups::One => 0,
        Groups::Each(ids) => ids[offset] as usize,
    };
    match rows {
        Picked::All(range) => range.clone().enumerate().for_each(|(at, i)| row(i, group(at))),
        Picked::Bits { bits, rows } => {
            let slice = bits.slice(rows.start, rows.len());
            slice.set_indices().for_each(|at| row(rows.start + at, group(at)));
        }
        Picked::List { rows, from } => rows.iter().for_each(|i| row(*i as usize, group(*i as usize - from))),
    }
}
