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

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Decimal128Array, Float64Array, RecordBatch};
    use millstream_formats::options::{Compression, ParquetOptions};
    use millstream_formats::parquet::ParquetWriter;

    /// The statistics of a file of these batches, each a row group.
    fn of_groups(groups: &[RecordBatch]) -> Value {
        let schema = groups[0].schema();
        let options = ParquetOptions { compression: Compression::None };
        let mut writer = ParquetWriter::new(Vec::new(), schema.clone(), &options).expect("types are known");
        for group in groups {
            writer.write(group).and_then(|()| writer.flush()).expect("written");
        }
        let (_, footer) = writer.finish_with_footer().expect("finished");
        assert_eq!(footer.len(), groups.len());
        serde_json::from_str(&of_file(&footer, &schema).expect("statistics")).expect("JSON")
    }

    fn group(ids: [Option<i64>; 2], name: &str, x: f64, price: i128) -> RecordBatch {
        let price = Decimal128Array::from(vec![Some(price), None]).with_precision_and_scale(30, 2).expect("a decimal");
        let columns: [(&str, ArrayRef); 4] = [
            ("id", Arc::new(Int64Array::from(ids.to_vec()))),
            ("name", Arc::new(StringArray::from(vec![name, "m"]))),
            ("x", Arc::new(Float64Array::from(vec![x, 1.5]))),
            ("price", Arc::new(price)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).expect("a batch")
    }

    #[test]
    fn bounds_are_those_of_all_row_groups_and_hold_for_every_row() {
        let long = "z".repeat(500);
        let all_null = group([None, None], "a", f64::NAN, 7);
        let stats = of_groups(&[group([Some(5), Some(9)], &long, 0.5, 12_345_678_901_234_567_890_123), all_null]);
        assert_eq!(stats["numRecords"], 4);
        assert_eq!((&stats["minValues"]["id"], &stats["maxValues"]["id"]), (&5.into(), &9.into()));
        assert_eq!(stats["nullCount"], serde_json::json!({"id": 2, "name": 0, "x": 0, "price": 2}));
        // A NaN is greater than all of them for some readers, so nothing is said.
        assert_eq!((&stats["minValues"]["x"], stats["maxValues"].get("x")), (&0.5.into(), None));
        assert_eq!(stats["minValues"]["name"], "a");
        assert!(stats["maxValues"]["name"].as_str().is_some_and(|max| max >= long.as_str()), "{stats}");
        // With all its digits, which a reader of JSON may then round.
        let text = of_file(&[], &group([None, None], "", 0.0, 0).schema()).expect("no rows");
        assert_eq!(text, r#"{"numRecords":0}"#);

        let asked = Stats::parse(Some(&stats.to_string()));
        let (least, greatest) = asked.bounds("id", &DataType::Int64).expect("known");
        let value = |a: &ArrayRef| a.as_primitive::<arrow::datatypes::Int64Type>().value(0);
        assert_eq!((value(&least), value(&greatest)), (5, 9));
        for (column, of) in
            [("x", DataType::Float64), ("price", DataType::Decimal128(30, 2)), ("none", DataType::Int64)]
        {
            assert!(asked.bounds(column, &of).is_none(), "{column}");
        }
        assert!(Stats::parse(None).bounds("id", &DataType::Int64).is_none());
    }

    #[test]
    fn a_time_that_was_cut_off_is_still_within_its_bounds() {
        let of = DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()));
        let text = r#"{"minValues":{"at":"2024-01-01T00:00:00.123Z"},"maxValues":{"at":"2024-01-01T00:00:00.123Z"}}"#;
        let (least, greatest) = Stats::parse(Some(text)).bounds("at", &of).expect("known");
        let value = |a: &ArrayRef| a.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(0) % 1_000_000;
        assert_eq!((value(&least), value(&greatest)), (123_000, 123_999));
    }
}
