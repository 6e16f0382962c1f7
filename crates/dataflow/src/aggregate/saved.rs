//! Accumulators as columns of a table that any tool can read, and back.
//!
//! | what | column |
//! |---|---|
//! | rows, values, NULLs; sums of small integers | `count`, `nulls_price`, `sum_price` BIGINT |
//! | sum of BIGINT | DECIMAL(38, 0) |
//! | sum of DECIMAL(p, s) | DECIMAL(38, s); beyond 38 digits NULL, and `.._wide` has the 192 bits |
//! | exact sum of floats | 128 bits in units of 2^-64; what does not fit there is in `.._wide` ([`Wide`]) |
//! | MIN, MAX | the type of the argument; NULL without values |
//! | all else | what its [`Fold`](super::fold::Fold) makes of it: values, lists, structs, or bytes with a version |
//!
//! A column is named by its aggregate, its argument and its filter: `sum_price_if_cheap`. The columns stand in the order
//! in which the calls asked for them, so a call behind the others changes neither their names nor their places. Numbers
//! are little-endian where they are bytes.
//!
//! Sets of distinct values are tables of their own: what names the group, the values, and `mask`, whose bits are the
//! filters under which the value has been seen. Bags are tables too: what names the group, the values, and `count`.

use super::bag::{BagRows, BagSet};
use super::cells::{self, Cell, CellKind};
use super::input::{self, LaneKind, Pick};
use super::{Accumulators, AggregateCall, AggregateFunction, Part, Plan, distinct};
use arrow::array::*;
use arrow::buffer::Buffer;
use arrow::datatypes::*;
use millstream_core::{Error, Result};
use millstream_state::exact::Wide;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Version of the bytes in a `.._wide` column of a float sum.
const WIDE_VERSION: u8 = 1;

/// Bytes of a decimal sum in its `.._wide` column.
const DECIMAL_BYTES: i32 = 24;

/// The names of a table's columns, each of which is there once.
#[derive(Default)]
pub struct Names(BTreeSet<String>);

impl Names {
    /// The name, or the first of `name_2`, `name_3` .. that is free.
    pub fn take(&mut self, name: &str) -> String {
        let mut own = name.to_owned();
        let mut number = 1;
        while !self.0.insert(own.clone()) {
            number += 1;
            own = format!("{name}_{number}");
        }
        own
    }
}

impl Plan {
    /// Columns of the groups' state, without those of the distinct sets.
    pub fn saved_fields(&self, names: &mut Names) -> Vec<Field> {
        let mut fields = Vec::new();
        for part in &self.layout {
            match *part {
                Part::Cell(at) => self.cell_fields(&self.cells[at], names, &mut fields),
                Part::Side(at) => {
                    let side = &self.sides[at];
                    fields.push(Field::new(names.take(&side.name), (side.make)().saved_type(), true));
                }
            }
        }
        fields
    }

    /// Number of distinct sets.
    pub fn distinct_sets(&self) -> usize {
        self.distincts.len()
    }

    /// What a distinct set is of, for the name of its table: `price`.
    pub fn distinct_name(&self, set: usize) -> String {
        self.columns_name(&self.distincts[set].args)
    }

    fn columns_name(&self, columns: &[usize]) -> String {
        let names: Vec<&str> = columns.iter().map(|a| self.column(*a)).collect();
        names.join("_")
    }

    /// Number of bags.
    pub fn bags(&self) -> usize {
        self.bags.len()
    }

    /// What a bag is of, for the name of its table: `price_if_cheap`.
    pub fn bag_name(&self, bag: usize) -> String {
        format!("{}{}", self.columns_name(&self.bags[bag].args), self.filter_suffix(Pick::Turned { bag }))
    }

    /// Columns of what a bag counts: the values, and their place in the table where it is kept.
    pub fn bag_fields(&self, bag: usize, names: &mut Names) -> Vec<Field> {
        let spec = &self.bags[bag];
        let field = |arg: &usize| {
            let field = self.schema.field(*arg);
            Field::new(names.take(field.name()), field.data_type().clone(), true)
        };
        let mut fields: Vec<Field> = spec.args.iter().map(field).collect();
        if spec.order.is_some() {
            fields.push(Field::new(names.take("place"), DataType::Int64, true));
        }
        fields
    }

    /// Columns of the values of a distinct set.
    pub fn distinct_fields(&self, set: usize, names: &mut Names) -> Vec<Field> {
        let field = |arg: &usize| {
            let field = self.schema.field(*arg);
            Field::new(names.take(field.name()), field.data_type().clone(), true)
        };
        self.distincts[set].args.iter().map(field).collect()
    }

    fn column(&self, at: usize) -> &str {
        self.schema.field(at).name()
    }

    /// `_if_cheap`, for what takes the rows of a filter.
    fn filter_suffix(&self, pick: Pick) -> String {
        let filter = match pick {
            Pick::All => None,
            Pick::Filter(at) => Some(at),
            Pick::Fresh { set, bit } => self.distincts[set].filter(bit),
            Pick::Turned { bag } => self.bags[bag].filter,
        };
        filter.map_or_else(String::new, |at| format!("_if_{}", self.column(self.filters[at])))
    }

    pub(super) fn side_name(&self, call: &AggregateCall, pick: Pick) -> String {
        use AggregateFunction::*;
        let function = match &call.function {
            Min => "min",
            Max => "max",
            VarPop => "var_pop",
            VarSamp => "var_samp",
            StddevPop => "stddev_pop",
            StddevSamp => "stddev_samp",
            FirstValue => "first",
            LastValue => "last",
            ListAgg { .. } => "listagg",
            ArrayAgg => "array_agg",
            Collect => "collect",
            ApproxCountDistinct => "approx_count_distinct",
            ApproxPercentile { .. } => "approx_percentile",
            Kernel(function) => function.fun().name(),
            Count | Sum | Avg => "cell",
        };
        let distinct = if matches!(pick, Pick::Fresh { .. } | Pick::Turned { .. }) { "_distinct" } else { "" };
        let args: String = call.args.iter().map(|a| format!("_{}", self.column(*a))).collect();
        format!("{function}{distinct}{args}{}", self.filter_suffix(pick))
    }

    fn cell_name(&self, cell: &Cell) -> String {
        let (distinct, of) = match cell.pick {
            Pick::Fresh { set, .. } => ("_distinct", self.distinct_name(set)),
            Pick::Turned { bag } => ("_distinct", self.columns_name(&self.bags[bag].args)),
            _ => ("", self.lanes.get(cell.lane).map_or_else(String::new, |l| self.column(l.column).to_owned())),
        };
        let suffix = self.filter_suffix(cell.pick);
        let what = match cell.kind {
            CellKind::Count if distinct.is_empty() => return format!("count{suffix}"),
            CellKind::Count => "count",
            CellKind::Nulls => "nulls",
            CellKind::SumSmall | CellKind::SumInteger | CellKind::SumDecimal | CellKind::SumFloat => "sum",
            CellKind::Min | CellKind::MinWide => "min",
            CellKind::Max | CellKind::MaxWide => "max",
        };
        format!("{what}{distinct}_{of}{suffix}")
    }

    fn cell_fields(&self, cell: &Cell, names: &mut Names, fields: &mut Vec<Field>) {
        let name = names.take(&self.cell_name(cell));
        let wide = |names: &mut Names, kind| Field::new(names.take(&format!("{name}_wide")), kind, true);
        match cell.kind {
            CellKind::Count | CellKind::Nulls | CellKind::SumSmall => {
                fields.push(Field::new(&name, DataType::Int64, true));
            }
            CellKind::SumInteger => fields.push(Field::new(&name, DataType::Decimal128(38, 0), true)),
            CellKind::SumDecimal => {
                fields.push(Field::new(&name, DataType::Decimal128(38, self.scale(cell)), true));
                fields.push(wide(names, DataType::FixedSizeBinary(DECIMAL_BYTES)));
            }
            CellKind::SumFloat => {
                fields.push(Field::new(&name, DataType::FixedSizeBinary(16), true));
                fields.push(wide(names, DataType::Binary));
            }
            CellKind::Min | CellKind::Max | CellKind::MinWide | CellKind::MaxWide => {
                fields.push(Field::new(&name, self.source(cell).clone(), true));
            }
        }
    }

    /// Type of the argument of a cell.
    fn source(&self, cell: &Cell) -> &DataType {
        self.schema.field(self.lanes[cell.lane].column).data_type()
    }

    fn scale(&self, cell: &Cell) -> i8 {
        match self.source(cell) {
            DataType::Decimal128(_, scale) => *scale,
            _ => 0,
        }
    }
}

impl Accumulators {
    /// From now on, keeps note of what the distinct sets gain. Groups are taken note of by whoever adds to them.
    pub fn track(&mut self) {
        self.distincts.iter_mut().for_each(distinct::DistinctSet::track);
        self.bags.iter_mut().for_each(BagSet::track);
    }

    /// The state of these groups, in the columns of [`Plan::saved_fields`].
    pub fn save(&self, groups: &[u32]) -> Result<Vec<ArrayRef>> {
        let plan = &self.plan;
        let mut columns = Vec::with_capacity(plan.layout.len());
        for part in &plan.layout {
            match *part {
                Part::Cell(at) => self.save_cell(at, groups, &mut columns)?,
                Part::Side(at) => columns.push(self.sides[at].save(groups)?),
            }
        }
        Ok(columns)
    }

    fn save_cell(&self, at: usize, groups: &[u32], columns: &mut Vec<ArrayRef>) -> Result<()> {
        let (plan, cell, wides) = (&self.plan, &self.plan.cells[at], &self.wides[at]);
        let record = |group: &u32| *group as usize * plan.stride + cell.at;
        let wide = |group: &u32| cells::wide_at(&self.words, record(group));
        match cell.kind {
            CellKind::Count | CellKind::Nulls | CellKind::SumSmall => {
                let values = groups.iter().map(|g| self.words[record(g)] as i64);
                columns.push(Arc::new(Int64Array::from_iter_values(values)));
            }
            CellKind::SumInteger => {
                let sums = Decimal128Array::from_iter_values(groups.iter().map(wide));
                columns.push(Arc::new(sums.with_precision_and_scale(38, 0)?));
            }
            CellKind::SumDecimal => {
                let fits = |g: &u32| {
                    let sum = wide(g);
                    let whole = self.words[record(g) + 2] == (sum >> 127) as u64;
                    (whole && sum.unsigned_abs() < 10u128.pow(38)).then_some(sum)
                };
                let sums: Decimal128Array = groups.iter().map(fits).collect();
                columns.push(Arc::new(sums.with_precision_and_scale(38, plan.scale(cell))?));
                let bytes = |g: &u32| {
                    let words = &self.words[record(g)..record(g) + 3];
                    fits(g).is_none().then(|| words.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>())
                };
                let beyond = groups.iter().map(bytes);
                columns.push(Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(beyond, DECIMAL_BYTES)?));
            }
            CellKind::SumFloat => {
                let sums: Vec<i128> = groups.iter().map(wide).collect();
                columns.push(Arc::new(FixedSizeBinaryArray::new(16, Buffer::from_vec(sums), None)));
                let mut beyond = BinaryBuilder::new();
                for group in groups {
                    beyond.append_option(wides.get(*group as usize).map(|wide| {
                        let mut bytes = vec![WIDE_VERSION];
                        wide.write(&mut bytes);
                        bytes
                    }));
                }
                columns.push(Arc::new(beyond.finish()));
            }
            CellKind::Min | CellKind::Max | CellKind::MinWide | CellKind::MaxWide => {
                let blank = cell.kind.blank();
                let has = |g: &u32| i64::from(self.words[record(g)..record(g) + blank.len()] != *blank);
                let counts: Vec<i64> = groups.iter().map(has).collect();
                let field = Field::new("extreme", plan.source(cell).clone(), true);
                let read = cells::Read {
                    cell,
                    words: &self.words,
                    stride: plan.stride,
                    wides,
                    source: plan.source(cell),
                    counts: &counts,
                    result: &field,
                };
                columns.push(read.extreme(groups.iter().map(|g| *g as usize))?);
            }
        }
        Ok(())
    }

    /// Row `i` of columns that [`Accumulators::save`] made is the state of group `groups[i]`, for which there must be
    /// room.
    pub fn load(&mut self, groups: &[u32], columns: &[ArrayRef]) -> Result<()> {
        let plan = self.plan.clone();
        let mut columns = columns.iter();
        let mut next = || columns.next().ok_or_else(|| Error::internal("a table has too few columns of state"));
        for part in &plan.layout {
            match *part {
                Part::Cell(at) => {
                    let cell = &plan.cells[at];
                    let column = next()?;
                    let beyond = match cell.kind {
                        CellKind::SumDecimal | CellKind::SumFloat => Some(next()?),
                        _ => None,
                    };
                    self.load_cell(at, groups, column, beyond)?;
                }
                Part::Side(at) => self.sides[at].load(groups, next()?)?,
            }
        }
        Ok(())
    }

    fn load_cell(&mut self, at: usize, groups: &[u32], column: &ArrayRef, beyond: Option<&ArrayRef>) -> Result<()> {
        let plan = self.plan.clone();
        let cell = &plan.cells[at];
        let record = |group: &u32| *group as usize * plan.stride + cell.at;
        let words = &mut self.words;
        match cell.kind {
            CellKind::Count | CellKind::Nulls | CellKind::SumSmall => {
                let values = column.as_primitive::<Int64Type>();
                groups.iter().zip(values.values()).for_each(|(g, v)| words[record(g)] = *v as u64);
            }
            CellKind::SumInteger => {
                let values = column.as_primitive::<Decimal128Type>();
                groups.iter().zip(values.values()).for_each(|(g, v)| cells::put_wide(words, record(g), *v));
            }
            CellKind::SumDecimal => {
                let values = column.as_primitive::<Decimal128Type>();
                let beyond = beyond.map(|b| b.as_fixed_size_binary());
                for (row, group) in groups.iter().enumerate() {
                    let target = &mut words[record(group)..record(group) + 3];
                    match beyond.filter(|b| b.is_valid(row)) {
                        None => target.copy_from_slice(&cells::three(values.value(row))),
                        Some(beyond) => {
                            let parts = beyond.value(row).chunks_exact(8);
                            for (word, part) in target.iter_mut().zip(parts) {
                                *word = u64::from_le_bytes(part.try_into().expect("chunks of eight bytes"));
                            }
                        }
                    }
                }
            }
            CellKind::SumFloat => {
                let sums = column.as_fixed_size_binary();
                let beyond = beyond.map(|b| b.as_binary::<i32>());
                for (row, group) in groups.iter().enumerate() {
                    let sum = sums.value(row).try_into().map_err(|_| Error::internal("a sum is not of 16 bytes"))?;
                    cells::put_wide(words, record(group), i128::from_le_bytes(sum));
                    if let Some(beyond) = beyond.filter(|b| b.is_valid(row)) {
                        let wide = match beyond.value(row).split_first() {
                            Some((&WIDE_VERSION, bytes)) => Wide::read(bytes),
                            _ => None,
                        };
                        let (wide, _) = wide.ok_or_else(|| unreadable("the wide part of a float sum"))?;
                        self.wides[at].put(*group as usize, wide);
                    }
                }
            }
            CellKind::Min | CellKind::Max => {
                let lane = input::lane(column, LaneKind::Ordered)?;
                let values = lane.integers();
                for (row, group) in groups.iter().enumerate().filter(|(row, _)| !lane.is_null(*row)) {
                    words[record(group)] = values[row] as u64;
                }
            }
            CellKind::MinWide | CellKind::MaxWide => {
                let lane = input::lane(column, LaneKind::Wide)?;
                let values = lane.wides();
                for (row, group) in groups.iter().enumerate().filter(|(row, _)| !lane.is_null(*row)) {
                    cells::put_wide(words, record(group), values[row]);
                }
            }
        }
        Ok(())
    }

    /// Entries of a distinct set: what it has gained since the last call, or all. What it has gained is forgotten.
    pub fn save_distinct(&mut self, set: usize, whole: bool) -> Result<distinct::Entries> {
        self.distincts[set].save(&self.plan.distincts[set], whole)
    }

    /// All entries of a distinct set. What it has gained stays noted.
    pub fn distinct_entries(&self, set: usize) -> Result<distinct::Entries> {
        self.distincts[set].all(&self.plan.distincts[set])
    }

    /// Entries of a bag of these groups: with `whole` all, otherwise those that have changed since the last call. What is
    /// there, and what is gone.
    pub fn save_bag(&mut self, bag: usize, groups: &[u32], whole: bool) -> Result<(BagRows, BagRows)> {
        self.bags[bag].save(&self.plan.bags[bag], groups, whole)
    }

    /// Row `i` is an entry of a bag of group `groups[i]`.
    pub fn load_bag(&mut self, bag: usize, groups: &[u32], columns: &[ArrayRef], counts: &[i64]) -> Result<()> {
        self.bags[bag].load(&self.plan.bags[bag], groups, columns, counts)
    }

    /// Row `i` is an entry of group `groups[i]`. The counts of distinct values come with the groups.
    pub fn load_distinct(&mut self, set: usize, groups: &[u32], values: &[ArrayRef], masks: &Int64Array) -> Result<()> {
        self.distincts[set].load(&self.plan.distincts[set], groups, values, masks)
    }
}

/// Bytes of a table that make no sense.
pub(super) fn unreadable(what: &str) -> Error {
    Error::data(format!("{what} in a checkpoint cannot be read: it was cut short, or a later version wrote it"))
        .remedy("restore from another checkpoint, or with the version of Millstream that wrote this one")
}
