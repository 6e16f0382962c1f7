//! Columns that grow value by value, and can be cut back to where a record began.
//!
//! A record that turns out to be bad in its last field has left values in the columns before it. So a column knows how to
//! forget its last rows ([`Column::truncate`]), through lists and structs.

use crate::types::sql_type;
use arrow::array::builder::{BooleanBufferBuilder, NullBufferBuilder};
use arrow::array::{
    ArrayData, ArrayRef, BinaryArray, BooleanArray, ListArray, MapArray, StringArray, StructArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields};
use millstream_core::{Error, Result};
use std::sync::Arc;

pub(crate) struct Column {
    pub field: FieldRef,
    len: usize,
    nulls: NullBufferBuilder,
    pub store: Store,
}

pub(crate) enum Store {
    Boolean(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    I128(Vec<i128>),
    /// Text or bytes, and where each value ends.
    Bytes(Vec<u8>, Vec<i32>),
    List(Box<Column>, Vec<i32>),
    /// Keys and values.
    Map(Box<[Column; 2]>, Vec<i32>),
    Struct(Vec<Column>),
}

impl Column {
    pub fn new(field: &FieldRef) -> Result<Column> {
        let ends = || vec![0];
        let store = match field.data_type() {
            DataType::Boolean => Store::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int8 => Store::I8(Vec::new()),
            DataType::Int16 => Store::I16(Vec::new()),
            DataType::Int32 | DataType::Date32 | DataType::Time32(_) => Store::I32(Vec::new()),
            DataType::Int64 | DataType::Time64(_) | DataType::Timestamp(..) => Store::I64(Vec::new()),
            DataType::Float32 => Store::F32(Vec::new()),
            DataType::Float64 => Store::F64(Vec::new()),
            DataType::Decimal128(..) => Store::I128(Vec::new()),
            DataType::Utf8 | DataType::Binary => Store::Bytes(Vec::new(), ends()),
            DataType::List(item) => Store::List(Box::new(Column::new(item)?), ends()),
            DataType::Map(entries, _) => {
                let DataType::Struct(pair) = entries.data_type() else { return Err(unknown(field)) };
                let [key, value] = &pair[..] else { return Err(unknown(field)) };
                Store::Map(Box::new([Column::new(key)?, Column::new(value)?]), ends())
            }
            DataType::Struct(fields) => Store::Struct(fields.iter().map(Column::new).collect::<Result<_>>()?),
            _ => return Err(unknown(field)),
        };
        Ok(Column { field: field.clone(), len: 0, nulls: NullBufferBuilder::new(0), store })
    }

    pub fn len(&self) -> usize {
        self.len
    }

    /// A value has been added to the store.
    #[inline]
    pub fn added(&mut self) {
        self.len += 1;
        self.nulls.append_non_null();
    }

    /// Adds NULL; an answer says why that may not be.
    pub fn add_null(&mut self) -> Option<String> {
        self.len += 1;
        self.nulls.append_null();
        match &mut self.store {
            Store::Boolean(bits) => bits.append(false),
            Store::I8(v) => v.push(0),
            Store::I16(v) => v.push(0),
            Store::I32(v) => v.push(0),
            Store::I64(v) => v.push(0),
            Store::F32(v) => v.push(0.0),
            Store::F64(v) => v.push(0.0),
            Store::I128(v) => v.push(0),
            Store::Bytes(_, ends) | Store::List(_, ends) | Store::Map(_, ends) => {
                ends.push(ends.last().copied().unwrap_or_default());
            }
            // What lies below a NULL is nobody's, so it may be NULL whatever is declared.
            Store::Struct(columns) => columns.iter_mut().for_each(|c| drop(c.add_null())),
        }
        let field = &self.field;
        (!field.is_nullable()).then(|| {
            format!("column `{}` is NULL, the table declares {} NOT NULL", field.name(), sql_type(field.data_type()))
        })
    }

    /// Forgets all but the first rows, and what a row that was never added has left in the columns below.
    pub fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.nulls.truncate(len);
        match &mut self.store {
            Store::Boolean(bits) => bits.truncate(len),
            Store::I8(v) => v.truncate(len),
            Store::I16(v) => v.truncate(len),
            Store::I32(v) => v.truncate(len),
            Store::I64(v) => v.truncate(len),
            Store::F32(v) => v.truncate(len),
            Store::F64(v) => v.truncate(len),
            Store::I128(v) => v.truncate(len),
            Store::Bytes(bytes, ends) => bytes.truncate(cut(ends, len)),
            Store::List(items, ends) => items.truncate(cut(ends, len)),
            Store::Map(pair, ends) => {
                let entries = cut(ends, len);
                pair.iter_mut().for_each(|c| c.truncate(entries));
            }
            Store::Struct(columns) => columns.iter_mut().for_each(|c| c.truncate(len)),
        }
    }

    /// What has been added, as an array; the column is empty afterwards.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let len = std::mem::take(&mut self.len);
        let nulls = self.nulls.finish();
        let of = self.field.data_type();
        Ok(match &mut self.store {
            Store::Boolean(bits) => Arc::new(BooleanArray::new(bits.finish(), nulls)),
            Store::I8(v) => plain(of, v, len, nulls)?,
            Store::I16(v) => plain(of, v, len, nulls)?,
            Store::I32(v) => plain(of, v, len, nulls)?,
            Store::I64(v) => plain(of, v, len, nulls)?,
            Store::F32(v) => plain(of, v, len, nulls)?,
            Store::F64(v) => plain(of, v, len, nulls)?,
            Store::I128(v) => plain(of, v, len, nulls)?,
            Store::Bytes(bytes, ends) => {
                let (bytes, ends) = (Buffer::from_vec(std::mem::take(bytes)), offsets(ends));
                match of {
                    DataType::Utf8 => Arc::new(StringArray::try_new(ends, bytes, nulls)?),
                    _ => Arc::new(BinaryArray::try_new(ends, bytes, nulls)?),
                }
            }
            Store::List(items, ends) => {
                let DataType::List(item) = of else { return Err(unknown(&self.field)) };
                Arc::new(ListArray::try_new(item.clone(), offsets(ends), items.finish()?, nulls)?)
            }
            Store::Map(pair, ends) => {
                let DataType::Map(entries, sorted) = of else { return Err(unknown(&self.field)) };
                let DataType::Struct(fields) = entries.data_type() else { return Err(unknown(&self.field)) };
                let columns = pair.iter_mut().map(Column::finish).collect::<Result<_>>()?;
                let pairs = StructArray::try_new(fields.clone(), columns, None)?;
                Arc::new(MapArray::try_new(entries.clone(), offsets(ends), pairs, nulls, *sorted)?)
            }
            Store::Struct(columns) => {
                let columns = columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>>>()?;
                let DataType::Struct(fields) = of else { return Err(unknown(&self.field)) };
                match fields.is_empty() {
                    true => Arc::new(StructArray::new_empty_fields(len, nulls)),
                    false => Arc::new(StructArray::try_new(fields.clone(), columns, nulls)?),
                }
            }
        })
    }
}

fn plain<T: arrow::datatypes::ArrowNativeType>(
    of: &DataType,
    values: &mut Vec<T>,
    len: usize,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef> {
    let data = ArrayData::builder(of.clone()).len(len).add_buffer(Buffer::from_vec(std::mem::take(values)));
    Ok(make_array(data.nulls(nulls).build()?))
}

/// Where the first values end; the rest is forgotten.
fn cut(ends: &mut Vec<i32>, len: usize) -> usize {
    ends.truncate(len + 1);
    ends.last().map_or(0, |end| *end as usize)
}

fn offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(std::mem::replace(ends, vec![0])))
}

fn unknown(field: &Field) -> Error {
    Error::sql(format!("column `{}` is {}, which records cannot hold", field.name(), sql_type(field.data_type())))
        .remedy("declare it as another type, or cast it")
}

/// That the format has types for all of them.
pub(crate) fn check(fields: &Fields, format: &str) -> Result<()> {
    let unknown = |field: &Field| {
        let of = sql_type(field.data_type());
        Error::sql(format!("column `{}` is {of}, which {format} has no type for", field.name()))
            .remedy("declare it as another type, or cast it")
    };
    fields.iter().try_for_each(|field| Column::new(field).map(drop).map_err(|_| unknown(field)))
}
