//! Columns as plain Rust values and back: what the accumulators of a frame compute with.
//!
//! Integers, dates, times and BOOLEAN travel as 64-bit words, FLOAT and DOUBLE as `f64`, DECIMAL as `i128`, and
//! everything else as the bytes of Arrow's row format, whose order is the order of the values.

use arrow::array::{Array, ArrayData, ArrayRef, AsArray, BooleanArray, Decimal128Array, Float64Array, make_array};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::*;
use arrow::row::{RowConverter, SortField};
use datafusion_common::ScalarValue;
use millstream_core::{Error, Result};
use std::sync::Arc;

/// Reads a column into values and writes values as a column. What stands at a NULL's place has no meaning.
pub(super) trait Codec: Send {
    type Value: Clone + Send;

    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Self::Value>>;

    fn write(&self, values: Vec<Self::Value>, nulls: Option<NullBuffer>) -> Result<ArrayRef>;

    /// Value that stands at a NULL's place.
    fn blank(&self) -> Self::Value;

    /// Types of the columns that values are read from.
    fn types(&self) -> Vec<DataType>;

    /// All columns that the values were read from; `write` where that is one.
    fn write_all(&self, values: Vec<Self::Value>, nulls: Option<NullBuffer>) -> Result<Vec<ArrayRef>> {
        Ok(vec![self.write(values, nulls)?])
    }

    /// Different values may be read as one, so that they do not come back as they were.
    fn joins(&self) -> bool {
        false
    }
}

/// No value at all: what COUNT(*) needs.
pub(super) struct Nothing;

impl Codec for Nothing {
    type Value = ();

    fn read(&self, _: &[ArrayRef], rows: usize) -> Result<Vec<()>> {
        Ok(vec![(); rows])
    }

    fn write(&self, values: Vec<()>, _: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(arrow::array::new_null_array(&DataType::Null, values.len()))
    }

    fn blank(&self) {}

    fn types(&self) -> Vec<DataType> {
        Vec::new()
    }

    fn write_all(&self, _: Vec<()>, _: Option<NullBuffer>) -> Result<Vec<ArrayRef>> {
        Ok(Vec::new())
    }
}

/// Types of at most 8 bytes that are no floating point numbers.
pub(crate) struct Words(pub DataType);

impl Words {
    pub(super) fn fit(of: &DataType) -> bool {
        use DataType::*;
        matches!(
            of,
            Int8 | Int16
                | Int32
                | Int64
                | UInt8
                | UInt16
                | UInt32
                | Date32
                | Date64
                | Time32(_)
                | Time64(_)
                | Timestamp(_, _)
                | Duration(_)
                | Boolean
        )
    }

    pub(crate) fn of(column: &ArrayRef) -> Result<ScalarBuffer<i64>> {
        macro_rules! widen {
            ($kind:ty) => {
                column.as_primitive::<$kind>().values().iter().map(|v| i64::from(*v)).collect()
            };
        }
        Ok(match column.data_type() {
            DataType::Int8 => widen!(Int8Type),
            DataType::Int16 => widen!(Int16Type),
            DataType::Int32 => widen!(Int32Type),
            DataType::UInt8 => widen!(UInt8Type),
            DataType::UInt16 => widen!(UInt16Type),
            DataType::UInt32 => widen!(UInt32Type),
            DataType::Date32 => widen!(Date32Type),
            DataType::Time32(TimeUnit::Second) => widen!(Time32SecondType),
            DataType::Time32(_) => widen!(Time32MillisecondType),
            DataType::Boolean => column.as_boolean().values().iter().map(i64::from).collect(),
            other if Words::fit(other) => {
                let data = column.to_data();
                ScalarBuffer::new(data.buffers()[0].clone(), data.offset(), data.len())
            }
            other => return Err(Error::internal(format!("a column of type {other} does not fit in a word"))),
        })
    }
}

impl Codec for Words {
    type Value = i64;

    fn read(&self, columns: &[ArrayRef], _: usize) -> Result<Vec<i64>> {
        Ok(Words::of(&columns[0])?.to_vec())
    }

    fn write(&self, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let len = values.len();
        macro_rules! narrow {
            ($kind:ty) => {
                Buffer::from_vec(values.iter().map(|v| *v as $kind).collect::<Vec<_>>())
            };
        }
        let buffer = match &self.0 {
            DataType::Int8 => narrow!(i8),
            DataType::UInt8 => narrow!(u8),
            DataType::Int16 => narrow!(i16),
            DataType::UInt16 => narrow!(u16),
            DataType::Int32 | DataType::Date32 | DataType::Time32(_) => narrow!(i32),
            DataType::UInt32 => narrow!(u32),
            DataType::Boolean => {
                let bits = BooleanBuffer::collect_bool(len, |i| values[i] != 0);
                return Ok(Arc::new(BooleanArray::new(bits, nulls)));
            }
            _ => Buffer::from_vec(values),
        };
        let data = ArrayData::builder(self.0.clone()).len(len).add_buffer(buffer).nulls(nulls);
        Ok(make_array(data.build()?))
    }

    fn blank(&self) -> i64 {
        0
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.0.clone()]
    }
}

/// FLOAT and DOUBLE.
pub(super) struct Floats(pub DataType);

impl Codec for Floats {
    type Value = f64;

    fn read(&self, columns: &[ArrayRef], _: usize) -> Result<Vec<f64>> {
        let wide = cast(&columns[0], &DataType::Float64)?;
        Ok(wide.as_primitive::<Float64Type>().values().to_vec())
    }

    fn write(&self, values: Vec<f64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(cast(&Float64Array::new(values.into(), nulls), &self.0)?)
    }

    fn blank(&self) -> f64 {
        0.0
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.0.clone()]
    }
}

/// DOUBLE and FLOAT as words in the order of the values: NaN is the greatest, and `-0.0` is `0.0`.
pub(super) struct OrderedFloats(pub DataType);

impl Codec for OrderedFloats {
    type Value = i64;

    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<i64>> {
        let flip = |bits: i64| bits ^ (((bits >> 63) as u64) >> 1) as i64;
        let floats = Floats(DataType::Float64).read(columns, rows)?;
        let canonical = |v: f64| if v.is_nan() { f64::NAN.abs() } else { v + 0.0 };
        Ok(floats.into_iter().map(|v| flip(canonical(v).to_bits() as i64)).collect())
    }

    fn write(&self, values: Vec<i64>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let flip = |bits: i64| bits ^ (((bits >> 63) as u64) >> 1) as i64;
        let floats = values.into_iter().map(|v| f64::from_bits(flip(v) as u64)).collect();
        Floats(self.0.clone()).write(floats, nulls)
    }

    fn blank(&self) -> i64 {
        0
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.0.clone()]
    }

    fn joins(&self) -> bool {
        true
    }
}

/// DECIMAL(p, s), unscaled.
pub(super) struct Decimals(pub u8, pub i8);

impl Codec for Decimals {
    type Value = i128;

    fn read(&self, columns: &[ArrayRef], _: usize) -> Result<Vec<i128>> {
        let column = columns[0].as_primitive_opt::<Decimal128Type>();
        let column = column.ok_or_else(|| Error::internal(format!("{} is no DECIMAL", columns[0].data_type())))?;
        Ok(column.values().to_vec())
    }

    fn write(&self, values: Vec<i128>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        Ok(Arc::new(Decimal128Array::new(values.into(), nulls).with_precision_and_scale(self.0, self.1)?))
    }

    fn blank(&self) -> i128 {
        0
    }

    fn types(&self) -> Vec<DataType> {
        vec![DataType::Decimal128(self.0, self.1)]
    }
}

/// Any columns, as the bytes of one row.
pub(super) struct Bytes {
    types: Vec<DataType>,
    converter: RowConverter,
    blank: Arc<[u8]>,
}

impl Bytes {
    pub(super) fn new(types: &[DataType]) -> Result<Bytes> {
        let fields = types.iter().map(|t| SortField::new(t.clone())).collect();
        let converter = RowConverter::new(fields).map_err(|e| {
            Error::sql(format!("an OVER window cannot keep these values: {e}"))
                .remedy("pick plain fields out of MAP values")
        })?;
        let nulls: Vec<ArrayRef> = types.iter().map(|t| arrow::array::new_null_array(t, 1)).collect();
        let blank = match nulls.is_empty() {
            true => Arc::from([]),
            false => Arc::from(converter.convert_columns(&nulls)?.row(0).as_ref()),
        };
        Ok(Bytes { types: types.to_vec(), converter, blank })
    }

    /// The columns of some rows.
    pub(super) fn columns<'a>(&self, rows: impl Iterator<Item = &'a Arc<[u8]>>) -> Result<Vec<ArrayRef>> {
        let parser = self.converter.parser();
        Ok(self.converter.convert_rows(rows.map(|r| parser.parse(r)))?)
    }

    fn shown<'a>(
        &'a self,
        values: &'a [Arc<[u8]>],
        nulls: Option<&'a NullBuffer>,
    ) -> impl Iterator<Item = &'a Arc<[u8]>> {
        values.iter().enumerate().map(move |(i, v)| match nulls {
            Some(n) if n.is_null(i) => &self.blank,
            _ => v,
        })
    }
}

impl Codec for Bytes {
    type Value = Arc<[u8]>;

    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Arc<[u8]>>> {
        if columns.is_empty() {
            return Ok(vec![self.blank.clone(); rows]);
        }
        Ok(self.converter.convert_columns(columns)?.iter().map(|r| Arc::from(r.as_ref())).collect())
    }

    fn write(&self, values: Vec<Arc<[u8]>>, nulls: Option<NullBuffer>) -> Result<ArrayRef> {
        let mut columns = self.columns(self.shown(&values, nulls.as_ref()))?;
        columns.pop().ok_or_else(|| Error::internal("a result without a column"))
    }

    fn blank(&self) -> Arc<[u8]> {
        self.blank.clone()
    }

    fn types(&self) -> Vec<DataType> {
        self.types.clone()
    }

    fn write_all(&self, values: Vec<Arc<[u8]>>, nulls: Option<NullBuffer>) -> Result<Vec<ArrayRef>> {
        if self.types.is_empty() {
            return Ok(Vec::new());
        }
        self.columns(self.shown(&values, nulls.as_ref()))
    }
}

/// Results that DataFusion computed.
pub(super) struct Scalars(pub DataType);

impl Codec for Scalars {
    type Value = ScalarValue;

    fn read(&self, _: &[ArrayRef], _: usize) -> Result<Vec<ScalarValue>> {
        Err(Error::internal("scalars are results, not arguments"))
    }

    fn write(&self, values: Vec<ScalarValue>, _: Option<NullBuffer>) -> Result<ArrayRef> {
        if values.is_empty() {
            return Ok(arrow::array::new_empty_array(&self.0));
        }
        let column = ScalarValue::iter_to_array(values).map_err(|e| Error::internal(e.to_string()))?;
        Ok(if column.data_type() == &self.0 { column } else { cast(&column, &self.0)? })
    }

    fn blank(&self) -> ScalarValue {
        ScalarValue::try_from(&self.0).unwrap_or(ScalarValue::Null)
    }

    fn types(&self) -> Vec<DataType> {
        vec![self.0.clone()]
    }
}

/// The same values, with NULL as one of them.
pub(super) struct Nullable<C>(pub C);

impl<C: Codec> Codec for Nullable<C> {
    type Value = Option<C::Value>;

    fn read(&self, columns: &[ArrayRef], rows: usize) -> Result<Vec<Option<C::Value>>> {
        let nulls = columns.first().and_then(|c| c.logical_nulls());
        let values = self.0.read(columns, rows)?.into_iter().enumerate();
        Ok(values.map(|(i, v)| nulls.as_ref().is_none_or(|n| n.is_valid(i)).then_some(v)).collect())
    }

    fn write(&self, values: Vec<Option<C::Value>>, left_out: Option<NullBuffer>) -> Result<ArrayRef> {
        let there: NullBuffer = values.iter().map(Option::is_some).collect();
        let values = values.into_iter().map(|v| v.unwrap_or_else(|| self.0.blank())).collect();
        // A value that a filter leaves out is no value either.
        let nulls = NullBuffer::union(Some(&there), left_out.as_ref());
        self.0.write(values, nulls.filter(|n| n.null_count() > 0))
    }

    fn blank(&self) -> Option<C::Value> {
        None
    }

    fn types(&self) -> Vec<DataType> {
        self.0.types()
    }

    fn joins(&self) -> bool {
        self.0.joins()
    }
}
