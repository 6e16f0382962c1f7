//! Arrays and maps: where Flink differs in order, in NULLs, or in types.
//!
//! Items are compared through Arrow's row format, which knows every type; two NULLs are the same item.

use super::kernel::{Call, Function, Kind};
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, ListArray, MapArray, StructArray, UInt32Array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, Int32Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_common::{Result, exec_err, plan_err};
use millstream_core::multiset::{cardinalities, element_of};
use std::collections::HashSet;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    use DataType::{Boolean, Int32, Null};
    use Kind::{Any, List, Map};
    vec![
        Function::new("cardinality", &[Any], Int32, cardinality),
        Function::new("element", &[List], Null, element).returns(item),
        Function::new("array_contains", &[List, Any], Boolean, array_contains),
        Function::new("array_position", &[List, Any], Int32, array_position),
        Function::new("array_remove", &[List, Any], Null, array_remove).returns(own),
        Function::new("array_distinct", &[List], Null, |c| set(c, Set::Distinct)).returns(own),
        Function::new("array_union", &[List, List], Null, |c| set(c, Set::Union)).returns(own).unify(0),
        Function::new("array_except", &[List, List], Null, |c| set(c, Set::Except)).returns(own).unify(0),
        Function::new("array_intersect", &[List, List], Null, |c| set(c, Set::Intersect)).returns(own).unify(0),
        Function::new("array_concat", &[List], Null, array_concat).rest(List).returns(own).unify(0),
        Function::new("array_append", &[List, Any], Null, |c| with_item(c, false)).returns(own),
        Function::new("array_prepend", &[List, Any], Null, |c| with_item(c, true)).returns(own),
        Function::new("map_from_arrays", &[List, List], Null, map_from_arrays).returns(map_type),
        Function::new("map_union", &[Map, Map], Null, map_union).returns(own),
    ]
}

fn own(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(data_type) => Ok(data_type.clone()),
        None => plan_err!("an argument is missing"),
    }
}

fn item(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(DataType::List(item) | DataType::LargeList(item)) => Ok(item.data_type().clone()),
        _ => plan_err!("wanted an ARRAY"),
    }
}

fn map_of(key: &DataType, value: &DataType) -> DataType {
    let fields = vec![Field::new("key", key.clone(), false), Field::new("value", value.clone(), true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields.into()), false)), false)
}

fn map_type(types: &[DataType]) -> Result<DataType> {
    Ok(map_of(&item(types)?, &item(types.get(1..).unwrap_or_default())?))
}

/// Argument `i` as lists, one for each row.
fn lists(c: &Call, i: usize) -> Result<ListArray> {
    let array = c.whole(i)?;
    Ok(match array.data_type() {
        DataType::LargeList(item) => {
            arrow::compute::cast(&array, &DataType::List(item.clone()))?.as_list::<i32>().clone()
        }
        _ => array.as_list::<i32>().clone(),
    })
}

fn range(offsets: &[i32], row: usize) -> std::ops::Range<usize> {
    offsets[row] as usize..offsets[row + 1] as usize
}

/// All columns, which must be of one type, in a form whose rows can be compared.
fn comparable<const N: usize>(columns: [&ArrayRef; N]) -> Result<[Rows; N]> {
    let converter = RowConverter::new(vec![SortField::new(columns[0].data_type().clone())])?;
    let rows = columns.iter().map(|c| converter.convert_columns(&[(*c).clone()])).collect::<Result<Vec<_>, _>>()?;
    rows.try_into().map_err(|_| datafusion_common::DataFusionError::Internal("a column was lost".to_string()))
}

/// How many items or entries, or values of a multiset; NULL for NULL.
fn cardinality(c: &Call) -> Result<ArrayRef> {
    let array = c.whole(0)?;
    let count = |offsets: &[i32], row: usize| offsets[row + 1] - offsets[row];
    match array.data_type() {
        DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(..) => {
            let lists = match array.data_type() {
                DataType::List(_) => array.as_list::<i32>().clone(),
                DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
                    arrow::compute::cast(&array, &DataType::List(item.clone()))?.as_list::<i32>().clone()
                }
                _ => return plan_err!("wanted an ARRAY"),
            };
            c.make::<Int32Type>(|row| Ok(lists.is_valid(row).then(|| count(lists.value_offsets(), row))))
        }
        multiset if element_of(multiset).is_some() => {
            let multisets = array.as_map();
            let held = cardinalities(multisets);
            c.make::<Int32Type>(|row| match i32::try_from(held[row]) {
                Ok(count) => Ok(multisets.is_valid(row).then_some(count)),
                Err(_) => exec_err!("CARDINALITY: the multiset holds {} values, more than an INT", held[row]),
            })
        }
        DataType::Map(..) => {
            let maps = array.as_map();
            c.make::<Int32Type>(|row| Ok(maps.is_valid(row).then(|| count(maps.value_offsets(), row))))
        }
        DataType::Null => c.make::<Int32Type>(|_| Ok(None)),
        other => plan_err!("CARDINALITY takes an ARRAY, a MAP or a MULTISET, not {}", super::cast::sql_type(other)),
    }
}

/// The only item; NULL for an empty array; an error for more than one.
fn element(c: &Call) -> Result<ArrayRef> {
    let lists = lists(c, 0)?;
    let mut picks: Vec<Option<u32>> = Vec::with_capacity(c.rows);
    for row in 0..c.rows {
        let items = range(lists.value_offsets(), row);
        if lists.is_valid(row) && items.len() > 1 {
            return exec_err!("ELEMENT: the array has {} items; it takes one or none", items.len());
        }
        picks.push((lists.is_valid(row) && items.len() == 1).then_some(items.start as u32));
    }
    Ok(take(lists.values(), &UInt32Array::from(picks), None)?)
}

/// The needle, in the type of the items.
fn needle(c: &Call, lists: &ListArray) -> Result<ArrayRef> {
    Ok(arrow::compute::cast(&c.whole(1)?, lists.values().data_type())?)
}

fn array_contains(c: &Call) -> Result<ArrayRef> {
    let lists = lists(c, 0)?;
    let [items, needles] = comparable([lists.values(), &needle(c, &lists)?])?;
    c.make_bools(|row| {
        let found = || range(lists.value_offsets(), row).any(|at| items.row(at) == needles.row(row));
        Ok(lists.is_valid(row).then(found))
    })
}

/// From 1; 0 if it is not there; NULL if either is NULL.
fn array_position(c: &Call) -> Result<ArrayRef> {
    let lists = lists(c, 0)?;
    let wanted = needle(c, &lists)?;
    let [items, needles] = comparable([lists.values(), &wanted])?;
    c.make::<Int32Type>(|row| {
        let place = || range(lists.value_offsets(), row).position(|at| items.row(at) == needles.row(row));
        let known = lists.is_valid(row) && wanted.is_valid(row);
        Ok(known.then(|| place().map_or(0, |at| at as i32 + 1)))
    })
}

/// Lists made of `picks` of `values`: `ends[row]` is where the picks of the row end.
fn list_of(
    values: &ArrayRef,
    picks: Vec<u32>,
    ends: Vec<i32>,
    nulls: Option<NullBuffer>,
    like: &DataType,
) -> Result<ArrayRef> {
    let field = match like {
        DataType::List(field) | DataType::LargeList(field) => field.clone(),
        other => return plan_err!("{other} is no ARRAY"),
    };
    let values = take(values, &UInt32Array::from(picks), None)?;
    let made: ArrayRef = Arc::new(ListArray::try_new(field, OffsetBuffer::new(ends.into()), values, nulls)?);
    Ok(if made.data_type() == like { made } else { arrow::compute::cast(&made, like)? })
}

fn array_remove(c: &Call) -> Result<ArrayRef> {
    let lists = lists(c, 0)?;
    let [items, needles] = comparable([lists.values(), &needle(c, &lists)?])?;
    let (mut picks, mut ends) = (Vec::new(), vec![0]);
    for row in 0..c.rows {
        if lists.is_valid(row) {
            let kept = range(lists.value_offsets(), row).filter(|at| items.row(*at) != needles.row(row));
            picks.extend(kept.map(|at| at as u32));
        }
        ends.push(picks.len() as i32);
    }
    list_of(lists.values(), picks, ends, lists.nulls().cloned(), c.returns)
}

#[derive(Clone, Copy, PartialEq)]
enum Set {
    Distinct,
    Union,
    Except,
    Intersect,
}

/// Without doubles, in the order of the first time; NULL if an argument is.
fn set(c: &Call, how: Set) -> Result<ArrayRef> {
    let a = lists(c, 0)?;
    let b = if how == Set::Distinct { a.clone() } else { lists(c, 1)? };
    let values = arrow::compute::concat(&[a.values().as_ref(), b.values().as_ref()])?;
    let [items] = comparable([&values])?;
    let shift = a.values().len();
    let (mut picks, mut ends, mut valid) = (Vec::new(), vec![0], Vec::with_capacity(c.rows));
    for row in 0..c.rows {
        let known = a.is_valid(row) && b.is_valid(row);
        valid.push(known);
        if known {
            let first = range(a.value_offsets(), row);
            let second = range(b.value_offsets(), row);
            let second = second.start + shift..second.end + shift;
            let other: HashSet<_> = match how {
                Set::Except | Set::Intersect => second.clone().map(|at| items.row(at)).collect(),
                _ => HashSet::new(),
            };
            let more = if how == Set::Union { second } else { 0..0 };
            let mut seen = HashSet::new();
            for at in first.chain(more) {
                let item = items.row(at);
                let wanted = match how {
                    Set::Except => !other.contains(&item),
                    Set::Intersect => other.contains(&item),
                    _ => true,
                };
                if wanted && seen.insert(item) {
                    picks.push(at as u32);
                }
            }
        }
        ends.push(picks.len() as i32);
    }
    list_of(&values, picks, ends, Some(valid.into()), c.returns)
}

/// NULL if an argument is.
fn array_concat(c: &Call) -> Result<ArrayRef> {
    let all = (0..c.args.len()).map(|i| lists(c, i)).collect::<Result<Vec<_>>>()?;
    let values: Vec<&dyn Array> = all.iter().map(|l| l.values().as_ref()).collect();
    let values = arrow::compute::concat(&values)?;
    let (mut picks, mut ends, mut valid) = (Vec::new(), vec![0], Vec::with_capacity(c.rows));
    for row in 0..c.rows {
        let known = all.iter().all(|l| l.is_valid(row));
        valid.push(known);
        let mut shift = 0;
        for list in &all {
            if known {
                picks.extend(range(list.value_offsets(), row).map(|at| (at + shift) as u32));
            }
            shift += list.values().len();
        }
        ends.push(picks.len() as i32);
    }
    list_of(&values, picks, ends, Some(valid.into()), c.returns)
}

/// The array with one more item; NULL only where the array is.
fn with_item(c: &Call, first: bool) -> Result<ArrayRef> {
    let lists = lists(c, 0)?;
    let more = needle(c, &lists)?;
    let values = arrow::compute::concat(&[lists.values().as_ref(), more.as_ref()])?;
    let shift = lists.values().len();
    let (mut picks, mut ends) = (Vec::new(), vec![0]);
    for row in 0..c.rows {
        if lists.is_valid(row) {
            let item = (row + shift) as u32;
            picks.extend(first.then_some(item));
            picks.extend(range(lists.value_offsets(), row).map(|at| at as u32));
            picks.extend((!first).then_some(item));
        }
        ends.push(picks.len() as i32);
    }
    list_of(&values, picks, ends, lists.nulls().cloned(), c.returns)
}

fn map_from_parts(
    keys: &ArrayRef,
    values: &ArrayRef,
    ends: Vec<i32>,
    nulls: Option<NullBuffer>,
    like: &DataType,
) -> Result<ArrayRef> {
    let DataType::Map(entries, sorted) = like else { return plan_err!("{like} is no MAP") };
    let DataType::Struct(fields) = entries.data_type() else { return plan_err!("{like} has no entries") };
    if keys.null_count() > 0 {
        return exec_err!("a key of a MAP is NULL");
    }
    let pairs = StructArray::try_new(fields.clone(), vec![keys.clone(), values.clone()], None)?;
    Ok(Arc::new(MapArray::try_new(entries.clone(), OffsetBuffer::new(ends.into()), pairs, nulls, *sorted)?))
}

/// The arrays must be of the same length.
fn map_from_arrays(c: &Call) -> Result<ArrayRef> {
    let (keys, values) = (lists(c, 0)?, lists(c, 1)?);
    let (mut key_picks, mut value_picks) = (Vec::<u32>::new(), Vec::<u32>::new());
    let (mut ends, mut valid) = (vec![0], Vec::with_capacity(c.rows));
    for row in 0..c.rows {
        let known = keys.is_valid(row) && values.is_valid(row);
        valid.push(known);
        let (k, v) = (range(keys.value_offsets(), row), range(values.value_offsets(), row));
        if known {
            if k.len() != v.len() {
                return exec_err!("MAP_FROM_ARRAYS: {} keys for {} values", k.len(), v.len());
            }
            key_picks.extend(k.map(|at| at as u32));
            value_picks.extend(v.map(|at| at as u32));
        }
        ends.push(key_picks.len() as i32);
    }
    let keys = take(keys.values(), &UInt32Array::from(key_picks), None)?;
    let values = take(values.values(), &UInt32Array::from(value_picks), None)?;
    map_from_parts(&keys, &values, ends, Some(valid.into()), c.returns)
}

/// Of a key that both have, the value of the second stands.
fn map_union(c: &Call) -> Result<ArrayRef> {
    let (a, b) = (c.whole(0)?, arrow::compute::cast(&c.whole(1)?, c.returns)?);
    let (a, b) = (a.as_map(), b.as_map());
    let keys = arrow::compute::concat(&[a.keys().as_ref(), b.keys().as_ref()])?;
    let values = arrow::compute::concat(&[a.values().as_ref(), b.values().as_ref()])?;
    let [rows] = comparable([&keys])?;
    let shift = a.keys().len();
    let (mut picks, mut ends, mut valid) = (Vec::<u32>::new(), vec![0], Vec::with_capacity(c.rows));
    for row in 0..c.rows {
        let known = a.is_valid(row) && b.is_valid(row);
        valid.push(known);
        if known {
            let second = range(b.value_offsets(), row);
            let second = second.start + shift..second.end + shift;
            let newer: HashSet<_> = second.clone().map(|at| rows.row(at)).collect();
            let kept = range(a.value_offsets(), row).filter(|at| !newer.contains(&rows.row(*at)));
            picks.extend(kept.chain(second).map(|at| at as u32));
        }
        ends.push(picks.len() as i32);
    }
    let picks = UInt32Array::from(picks);
    let (keys, values) = (take(&keys, &picks, None)?, take(&values, &picks, None)?);
    let nulls: BooleanArray = valid.into();
    map_from_parts(&keys, &values, ends, Some(NullBuffer::new(nulls.values().clone())), c.returns)
}
