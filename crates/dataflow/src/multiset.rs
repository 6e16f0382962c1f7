//! What COLLECT keeps: the values of a group that are not NULL, and how often each is there.
//!
//! Values are kept as bytes of the same order, in Arrow's row format, so that a multiset lists them in their order,
//! whatever order they came in. There is one zero and one NaN.

use crate::aggregate::canonical;
use arrow::array::{Array, ArrayRef, AsArray, Int32Array, MapArray, StructArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, Rows, SortField};
use millstream_core::{Error, Result};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes that an entry takes beside its value, about.
const ENTRY_BYTES: usize = 48;

/// By value: how often it is there, which is never 0.
pub type Counts = BTreeMap<Box<[u8]>, i64>;

/// The form of values of one type.
pub struct Values {
    converter: RowConverter,
}

/// What some groups hold, one behind the other.
pub struct Held {
    /// Values of all groups, and for each its count.
    pub values: ArrayRef,
    pub counts: Vec<i64>,
    /// How many of the values each group has.
    pub lengths: Vec<usize>,
}

impl Values {
    /// # Errors
    /// Values of this type have no order.
    pub fn new(kind: &DataType) -> Result<Values> {
        let converter = RowConverter::new(vec![SortField::new(kind.clone())]).map_err(|e| {
            Error::sql(format!("COLLECT cannot count values of this type: {e}"))
                .remedy("collect plain values, or CAST them AS STRING")
        })?;
        Ok(Values { converter })
    }

    /// The values of a column, each as its key among [`Counts`].
    pub fn keys(&self, column: &ArrayRef) -> Result<Rows> {
        Ok(self.converter.convert_columns(&[canonical(column)])?)
    }

    pub fn held<'a>(&self, groups: impl Iterator<Item = &'a Counts>) -> Result<Held> {
        let (mut keys, mut counts, mut lengths): (Vec<&[u8]>, _, _) = (Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            keys.extend(group.keys().map(|key| &key[..]));
            counts.extend(group.values());
            lengths.push(group.len());
        }
        let parser = self.converter.parser();
        let values = self.converter.convert_rows(keys.into_iter().map(|key| parser.parse(key)))?.swap_remove(0);
        Ok(Held { values, counts, lengths })
    }
}

/// Changes how often a value is there.
pub fn change(counts: &mut Counts, key: &[u8], by: i64) {
    match counts.get_mut(key) {
        Some(count) => {
            *count += by;
            if *count == 0 {
                counts.remove(key);
            }
        }
        None => {
            counts.insert(key.into(), by);
        }
    }
}

/// Bytes that these hold, about.
pub fn bytes(counts: &Counts) -> usize {
    counts.keys().map(|key| entry_bytes(key)).sum()
}

pub fn entry_bytes(key: &[u8]) -> usize {
    ENTRY_BYTES + key.len()
}

impl Held {
    /// As a column of type `multiset`.
    ///
    /// # Errors
    /// A value that is there 2^31 times.
    pub fn into_column(self, multiset: &DataType) -> Result<ArrayRef> {
        let DataType::Map(entries, sorted) = multiset else {
            return Err(Error::internal(format!("COLLECT makes multisets, not {multiset}")));
        };
        let DataType::Struct(fields) = entries.data_type() else {
            return Err(Error::internal(format!("entries of a multiset of type {}", entries.data_type())));
        };
        let fits = |count: &i64| {
            i32::try_from(*count).map_err(|_| {
                Error::data(format!("COLLECT: a value is there {count} times, and a MULTISET counts in INT"))
                    .remedy("count the values: GROUP BY them, with COUNT(*)")
            })
        };
        let counts: Int32Array = self.counts.iter().map(fits).collect::<Result<Vec<_>>>()?.into();
        let values = arrow::compute::cast(&self.values, fields[0].data_type())?;
        let held = StructArray::try_new(fields.clone(), vec![values, Arc::new(counts)], None)?;
        let ends = OffsetBuffer::from_lengths(self.lengths);
        Ok(Arc::new(MapArray::try_new(entries.clone(), ends, held, None, *sorted)?))
    }
}

/// The values of a column, those that are not NULL, as one multiset; `once`: each is there once.
pub fn collected(column: &ArrayRef, once: bool, multiset: &DataType) -> Result<ArrayRef> {
    let values = Values::new(column.data_type())?;
    let keys = values.keys(column)?;
    let nulls = column.logical_nulls();
    let mut counts = Counts::new();
    for row in (0..column.len()).filter(|row| nulls.as_ref().is_none_or(|n| n.is_valid(*row))) {
        change(&mut counts, keys.row(row).data(), 1);
    }
    if once {
        counts.values_mut().for_each(|count| *count = 1);
    }
    values.held(std::iter::once(&counts))?.into_column(multiset)
}

/// A column of maps as one of lists of their entries, which can be compared.
pub fn as_lists(maps: &ArrayRef) -> ArrayRef {
    let Some(maps) = maps.as_map_opt() else { return maps.clone() };
    let DataType::Map(entries, _) = maps.data_type() else { unreachable!("an array of maps has their type") };
    let held: ArrayRef = Arc::new(maps.entries().clone());
    Arc::new(arrow::array::ListArray::new(entries.clone(), maps.offsets().clone(), held, maps.nulls().cloned()))
}
