//! What the log says of the rows of a file: how many, and of each column the least, the greatest and how many are NULL.
//!
//! They are bounds and need not be values: readers leave a file out by them, and so does an upsert that looks for keys. All
//! come from the footer of the file that was just written. Of columns of floating-point numbers there is no greatest: a NaN,
//! which Spark takes for greater than all numbers, is not counted in the footer.

use arrow::array::{Array, ArrayRef, AsArray, Date32Array, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::{CastOptions, SortOptions, cast_with_options, sort_to_indices, take};
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use millstream_core::{Error, Result};
use millstream_formats::text::{parse_date, parse_timestamp};
use parquet::arrow::arrow_reader::statistics::StatisticsConverter;
use parquet::file::metadata::RowGroupMetaData;
use serde_json::Value;
use std::sync::Arc;

/// Columns that have statistics: the first ones, as Delta's own writers have it.
const COLUMNS_MAX: usize = 32;

/// The statistics of a file as the log has them.
pub fn of_file(footer: &[RowGroupMetaData], schema: &SchemaRef) -> Result<String> {
    let rows: i64 = footer.iter().map(|group| group.num_rows()).sum();
    let groups = footer;
    let Some(parquet) = groups.first().map(|group| group.schema_descr()) else {
        return Ok("{\"numRecords\":0}".to_owned());
    };
    let (mut least, mut greatest, mut nulls) = (Vec::new(), Vec::new(), Vec::new());
    for field in schema.fields().iter().take(COLUMNS_MAX) {
        let converter = match StatisticsConverter::try_new(field.name(), schema, parquet) {
            Ok(converter) if !field.data_type().is_nested() => converter,
            _ => continue,
        };
        let wrong = |e: parquet::errors::ParquetError| Error::internal(format!("statistics of a file: {e}"));
        let counts = converter.row_group_null_counts(groups).map_err(wrong)?;
        let name = serde_json::to_string(field.name()).unwrap_or_default();
        if counts.null_count() == 0 {
            nulls.push(format!("{name}:{}", counts.values().iter().sum::<u64>()));
        }
        let (mins, maxs) =
            (converter.row_group_mins(groups).map_err(wrong)?, converter.row_group_maxes(groups).map_err(wrong)?);
        // Where a group says nothing, all of its values must be NULL.
        let empty = |g: usize| counts.is_valid(g) && counts.value(g) == groups[g].num_rows() as u64;
        let known = |bounds: &ArrayRef| (0..bounds.len()).all(|g| bounds.is_valid(g) || empty(g));
        if known(&mins)
            && let Some(text) = extreme(&mins, false)?
        {
            least.push(format!("{name}:{text}"));
        }
        if known(&maxs)
            && !field.data_type().is_floating()
            && let Some(text) = extreme(&maxs, true)?
        {
            greatest.push(format!("{name}:{text}"));
        }
    }
    Ok(format!(
        "{{\"numRecords\":{rows},\"minValues\":{{{}}},\"maxValues\":{{{}}},\"nullCount\":{{{}}}}}",
        least.join(","),
        greatest.join(","),
        nulls.join(",")
    ))
}

/// The least or greatest of bounds as JSON, where its type has such.
fn extreme(bounds: &ArrayRef, greatest: bool) -> Result<Option<String>> {
    use DataType::*;
    if !matches!(
        bounds.data_type(),
        Int8 | Int16 | Int32 | Int64 | Float32 | Float64 | Decimal128(..) | Date32 | Timestamp(..) | Utf8
    ) {
        return Ok(None);
    }
    let order = SortOptions { descending: greatest, nulls_first: false };
    let first = sort_to_indices(bounds, Some(order), Some(1))?;
    let value = take(bounds, &first, None)?;
    if value.is_empty() || value.is_null(0) {
        return Ok(None);
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    let text = cast_with_options(&value, &Utf8, &strict)?;
    let text = text.as_string::<i32>().value(0).to_owned();
    Ok(match bounds.data_type() {
        Float32 | Float64 => serde_json::from_str::<f64>(&text).ok().filter(|v| v.is_finite()).map(|_| text),
        Int8 | Int16 | Int32 | Int64 | Decimal128(..) => Some(text),
        _ => serde_json::to_string(&text).ok(),
    })
}

/// What the log says of a file, to be asked.
pub struct Stats {
    of: Value,
}

impl Stats {
    pub fn parse(text: Option<&str>) -> Stats {
        Stats { of: text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or(Value::Null) }
    }

    /// Least and greatest of a column, as two values of its type; `None`: not known, or not to be relied upon.
    pub fn bounds(&self, column: &str, of: &DataType) -> Option<(ArrayRef, ArrayRef)> {
        let bound = |which: &str| self.of.get(which)?.get(column);
        Some((bound_of(bound("minValues")?, of, false)?, bound_of(bound("maxValues")?, of, true)?))
    }
}

/// A bound as a value. Numbers with a fraction are left out: JSON readers round them.
fn bound_of(value: &Value, of: &DataType, greatest: bool) -> Option<ArrayRef> {
    use DataType::*;
    match of {
        Int8 | Int16 | Int32 | Int64 => {
            let value: ArrayRef = Arc::new(Int64Array::from(vec![value.as_i64()?]));
            let strict = CastOptions { safe: false, ..CastOptions::default() };
            cast_with_options(&value, of, &strict).ok()
        }
        Utf8 => Some(Arc::new(StringArray::from(vec![value.as_str()?]))),
        Date32 => Some(Arc::new(Date32Array::from(vec![parse_date(value.as_str()?.as_bytes())?]))),
        Timestamp(TimeUnit::Microsecond, zone) => {
            let at = parse_timestamp(value.as_str()?.as_bytes(), TimeUnit::Microsecond)?;
            // Some writers cut off what is below a millisecond.
            let at = if greatest { at.checked_add(999)? } else { at };
            Some(Arc::new(TimestampMicrosecondArray::from(vec![at]).with_timezone_opt(zone.clone())))
        }
        _ => None,
    }
}
