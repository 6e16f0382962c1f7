//! What the calls read of a batch, brought into the few forms that the passes over rows are written for.

use super::Plan;
use super::bag::BagInput;
use super::distinct::DistinctInput;
use arrow::array::*;
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::*;
use millstream_core::{Error, Result};
use std::ops::Range;
use std::sync::Arc;

/// Which rows a cell or side takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Pick {
    All,
    /// Those for which a FILTER column is true, by index into the plan's filters.
    Filter(usize),
    /// Those that brought a new value to a distinct set, under one of its filters.
    Fresh {
        set: usize,
        bit: usize,
    },
    /// Those that made their value appear in a bag, or disappear.
    Turned {
        bag: usize,
    },
}

/// The picked rows of a range.
pub(super) enum Picked<'a> {
    All(Range<usize>),
    Bits {
        bits: &'a BooleanBuffer,
        rows: Range<usize>,
    },
    /// Rows by their place in the batch; the range began at `from`.
    List {
        rows: &'a [u32],
        from: usize,
    },
}

/// How the values of a column are read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum LaneKind {
    /// Only whether they are NULL.
    Nulls,
    Integer,
    /// As integers of the same order.
    Ordered,
    /// As i128.
    Wide,
    Float,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LaneSpec {
    pub column: usize,
    pub kind: LaneKind,
}

/// A column's values. Those under NULL mean nothing.
pub(super) struct Lane {
    pub values: LaneValues,
    pub nulls: Option<NullBuffer>,
}

pub(super) enum LaneValues {
    None,
    Integers(ScalarBuffer<i64>),
    Wides(ScalarBuffer<i128>),
    Floats(ScalarBuffer<f64>),
}

impl Lane {
    pub fn integers(&self) -> &[i64] {
        match &self.values {
            LaneValues::Integers(values) => values,
            _ => unreachable!("the plan asked for integers"),
        }
    }

    pub fn wides(&self) -> &[i128] {
        match &self.values {
            LaneValues::Wides(values) => values,
            _ => unreachable!("the plan asked for wide integers"),
        }
    }

    pub fn floats(&self) -> &[f64] {
        match &self.values {
            LaneValues::Floats(values) => values,
            _ => unreachable!("the plan asked for floats"),
        }
    }

    #[inline]
    pub fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|n| n.is_null(row))
    }
}

/// A batch as the calls of a plan read it.
pub struct Prepared {
    pub(super) rows: RecordBatch,
    lanes: Vec<Lane>,
    filters: Vec<BooleanBuffer>,
    pub(super) distincts: Vec<DistinctInput>,
    pub(super) bags: Vec<BagInput>,
    times: Option<ScalarBuffer<i64>>,
    orders: Option<ScalarBuffer<i64>>,
}

impl Prepared {
    pub(super) fn new(plan: &Plan, rows: &RecordBatch) -> Result<Prepared> {
        let lanes = plan.lanes.iter().map(|spec| lane(rows.column(spec.column), spec.kind)).collect::<Result<_>>()?;
        let filters: Vec<BooleanBuffer> = plan.filters.iter().map(|column| truth(rows.column(*column))).collect();
        let distincts = plan.distincts.iter().map(|d| d.read(rows, &filters)).collect::<Result<_>>()?;
        let bags = plan.bags.iter().map(|b| b.read(rows)).collect::<Result<_>>()?;
        let integers = |column: Option<usize>| -> Option<ScalarBuffer<i64>> {
            let column = rows.column(column?);
            (column.data_type().primitive_width() == Some(8)).then(|| shared(column))
        };
        let (times, orders) = (integers(plan.time), integers(plan.order));
        Ok(Prepared { rows: rows.clone(), lanes, filters, distincts, bags, times, orders })
    }

    /// Of no rows: for passes that read nothing of them.
    pub(super) fn nothing() -> Prepared {
        let rows = RecordBatch::new_empty(Arc::new(Schema::empty()));
        Prepared {
            rows,
            lanes: Vec::new(),
            filters: Vec::new(),
            distincts: Vec::new(),
            bags: Vec::new(),
            times: None,
            orders: None,
        }
    }

    pub(super) fn lane(&self, at: usize) -> Option<&Lane> {
        self.lanes.get(at)
    }

    pub(super) fn filter(&self, at: usize) -> &BooleanBuffer {
        &self.filters[at]
    }

    /// What ties between rows are broken by: time, then place in the table.
    #[inline]
    pub(super) fn order(&self, row: usize) -> (i64, i64) {
        (self.times.as_ref().map_or(0, |t| t[row]), self.orders.as_ref().map_or(0, |o| o[row]))
    }
}

/// True where the column is true; NULL is false.
fn truth(column: &ArrayRef) -> BooleanBuffer {
    let column = column.as_boolean();
    match column.nulls() {
        None => column.values().clone(),
        Some(nulls) => column.values() & nulls.inner(),
    }
}

/// The values of a column of 8-byte integers, not copied.
fn shared(column: &ArrayRef) -> ScalarBuffer<i64> {
    let data = column.to_data();
    ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
}

/// Types whose values fit an integer of 8 bytes, in their order.
pub(super) fn fits_lane(kind: &DataType) -> bool {
    use DataType::*;
    matches!(
        kind,
        Boolean
            | Int8
            | Int16
            | Int32
            | Int64
            | UInt8
            | UInt16
            | UInt32
            | Float32
            | Float64
            | Date32
            | Date64
            | Time32(_)
            | Time64(_)
            | Timestamp(_, _)
            | Duration(_)
    )
}

pub(super) fn lane(column: &ArrayRef, kind: LaneKind) -> Result<Lane> {
    let nulls = column.logical_nulls().filter(|n| n.null_count() > 0);
    let values = match kind {
        LaneKind::Nulls => LaneValues::None,
        LaneKind::Integer => LaneValues::Integers(integers(column)?),
        LaneKind::Ordered => LaneValues::Integers(match column.data_type() {
            DataType::Float32 | DataType::Float64 => floats(column)?.iter().map(|v| ordered(*v)).collect(),
            _ => integers(column)?,
        }),
        LaneKind::Wide => LaneValues::Wides(column.as_primitive::<Decimal128Type>().values().clone()),
        LaneKind::Float => LaneValues::Floats(floats(column)?),
    };
    Ok(Lane { values, nulls })
}

fn integers(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
    macro_rules! widen {
        ($type:ty) => {
            column.as_primitive::<$type>().values().iter().map(|v| i64::from(*v)).collect()
        };
    }
    use DataType::*;
    Ok(match column.data_type() {
        Boolean => column.as_boolean().values().iter().map(i64::from).collect(),
        Int8 => widen!(Int8Type),
        Int16 => widen!(Int16Type),
        Int32 => widen!(Int32Type),
        UInt8 => widen!(UInt8Type),
        UInt16 => widen!(UInt16Type),
        UInt32 => widen!(UInt32Type),
        Date32 => widen!(Date32Type),
        Time32(TimeUnit::Second) => widen!(Time32SecondType),
        Time32(_) => widen!(Time32MillisecondType),
        kind if fits_lane(kind) => shared(column),
        other => return Err(Error::internal(format!("{other} is no integer"))),
    })
}

fn floats(column: &ArrayRef) -> Result<ScalarBuffer<f64>> {
    Ok(match column.data_type() {
        DataType::Float64 => column.as_primitive::<Float64Type>().values().clone(),
        DataType::Float32 => column.as_primitive::<Float32Type>().values().iter().map(|v| f64::from(*v)).collect(),
        other => return Err(Error::internal(format!("{other} is no float"))),
    })
}

/// An integer for each float, in the same order: `-inf .. -0.0 = 0.0 .. inf < NaN`.
#[inline]
pub(super) fn ordered(v: f64) -> i64 {
    let bits = if v.is_nan() { f64::NAN.to_bits() } else { (v + 0.0).to_bits() } as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

#[inline]
pub(super) fn unordered(v: i64) -> f64 {
    f64::from_bits((v ^ ((v >> 63) as u64 >> 1) as i64) as u64)
}
