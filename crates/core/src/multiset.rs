//! MULTISET<T>: which values there are, and how often each.
//!
//! In a column it is a map from the values, in their order, to their counts; the name of its entries tells it from a MAP.
//! So whatever takes maps takes it.

use arrow::array::{Array, ArrayRef, AsArray, ListArray, MapArray, UInt32Array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Fields, Int32Type};
use std::sync::Arc;

use crate::error::{Error, Result};

/// The name of the entries.
const ENTRIES: &str = "multiset";

/// The type of multisets of such values.
pub fn multiset_of(element: &DataType) -> DataType {
    let entry =
        Fields::from(vec![Field::new("key", element.clone(), false), Field::new("value", DataType::Int32, false)]);
    DataType::Map(Arc::new(Field::new(ENTRIES, DataType::Struct(entry), false)), false)
}

/// The type of the values; `None` where this is no multiset.
pub fn element_of(multiset: &DataType) -> Option<&DataType> {
    match multiset {
        DataType::Map(entries, _) if entries.name() == ENTRIES => match entries.data_type() {
            DataType::Struct(entry) if entry.len() == 2 => Some(entry[0].data_type()),
            _ => None,
        },
        _ => None,
    }
}

/// How many values each multiset holds, each as often as it is held; those of a NULL mean nothing.
pub fn cardinalities(multisets: &MapArray) -> Vec<i64> {
    let counts = multisets.values().as_primitive::<Int32Type>();
    let of = |bounds: &[i32]| (bounds[0]..bounds[1]).map(|at| times(counts.value(at as usize)) as i64).sum();
    multisets.value_offsets().windows(2).map(of).collect()
}

/// Each multiset as an array that has each value as often as it is held. NULL stays NULL.
///
/// # Errors
/// More than 2^31 values together.
pub fn elements(multisets: &MapArray) -> Result<ListArray> {
    let counts = multisets.values().as_primitive::<Int32Type>();
    let mut picks: Vec<u32> = Vec::new();
    let mut ends = vec![0i32];
    for row in 0..multisets.len() {
        let bounds = &multisets.value_offsets()[row..row + 2];
        let held = if multisets.is_null(row) { 0..0 } else { bounds[0]..bounds[1] };
        for at in held {
            picks.extend(std::iter::repeat_n(at as u32, times(counts.value(at as usize))));
        }
        ends.push(i32::try_from(picks.len()).map_err(|_| {
            Error::data("multisets that are taken apart hold more than 2^31 values together")
                .remedy("take apart fewer of them, or count what they hold")
        })?);
    }
    let values: ArrayRef = take(multisets.keys(), &UInt32Array::from(picks), None)?;
    let item = Arc::new(Field::new("item", values.data_type().clone(), true));
    Ok(ListArray::try_new(item, OffsetBuffer::new(ends.into()), values, multisets.nulls().cloned())?)
}

/// A count that was read from outside may be anything.
fn times(count: i32) -> usize {
    usize::try_from(count).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Int32Array, StringArray, StructArray};
    use arrow::buffer::NullBuffer;

    #[test]
    fn a_multiset_is_told_from_a_map() {
        let multiset = multiset_of(&DataType::Utf8);
        assert_eq!(element_of(&multiset), Some(&DataType::Utf8));
        let DataType::Map(entries, sorted) = multiset else { panic!("a map") };
        let map = DataType::Map(Arc::new(entries.as_ref().clone().with_name("entries")), sorted);
        assert_eq!(element_of(&map), None);
    }

    #[test]
    fn values_come_as_often_as_they_are_held() {
        let DataType::Map(entries, _) = multiset_of(&DataType::Utf8) else { panic!("a map") };
        let DataType::Struct(fields) = entries.data_type() else { panic!("a struct") };
        let values: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(vec!["a", "b", "c", "d"])), Arc::new(Int32Array::from(vec![2, 1, 3, -1]))];
        let held = StructArray::new(fields.clone(), values, None);
        let ends = OffsetBuffer::new(vec![0, 2, 2, 3, 4].into());
        let nulls = NullBuffer::from(vec![true, true, false, true]);
        let multisets = MapArray::new(entries, ends, held, Some(nulls), false);
        assert_eq!(cardinalities(&multisets)[..2], [3, 0]);
        let arrays = elements(&multisets).expect("arrays");
        let texts = |row: usize| arrays.value(row).as_string::<i32>().iter().flatten().collect::<Vec<_>>().join(" ");
        assert_eq!((texts(0), texts(1), texts(3)), ("a a b".into(), String::new(), String::new()));
        assert!(arrays.is_null(2) && arrays.is_valid(1));
    }
}
