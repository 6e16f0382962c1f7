//! The result of `examples/flights/hourly.sql`, read back and summed up for the chart.
//!
//! Means are weighted by the number of departures: the mean of an hour of the day is the mean over its departures,
//! not over its windows.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float64Type, Int64Type, TimeUnit};
use chrono::{DateTime, Datelike, NaiveDate, Timelike};
use chrono_tz::America::New_York;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// One window of one airport.
#[derive(Debug, Clone, PartialEq)]
pub struct Hour {
    /// Milliseconds since 1970, UTC.
    pub window_start: i64,
    pub origin: String,
    pub departures: i64,
    /// Minutes.
    pub mean_delay: f64,
}

/// For each airport a mean delay in minutes by some point of time.
pub type Curves<T> = BTreeMap<String, BTreeMap<T, f64>>;

/// All rows of the Parquet files in `folder`, in no order.
///
/// # Errors
/// A sentence for the user: the folder is missing or holds no result, a file cannot be read, a column is missing.
pub fn read(folder: &Path) -> Result<Vec<Hour>, String> {
    let mut hours = Vec::new();
    for file in part_files(folder)? {
        read_file(&file, &mut hours).map_err(|e| format!("{}: {e}", file.display()))?;
    }
    if hours.is_empty() {
        return Err(format!("{} holds no rows: run examples/flights/hourly.sql first", folder.display()));
    }
    Ok(hours)
}

/// Hidden files are those that are not complete yet.
fn part_files(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let cannot_read = |e| format!("cannot read the folder {}: {e}", folder.display());
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(cannot_read)? {
        let path = entry.map_err(cannot_read)?.path();
        let hidden = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(['.', '_']));
        if path.is_file() && !hidden {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn read_file(path: &Path, hours: &mut Vec<Hour>) -> Result<(), Box<dyn std::error::Error>> {
    for batch in ParquetRecordBatchReaderBuilder::try_new(File::open(path)?)?.build()? {
        let batch = batch?;
        let millis = column(&batch, "window_start", &DataType::Timestamp(TimeUnit::Millisecond, None))?;
        let millis = cast(&millis, &DataType::Int64)?;
        let origin = column(&batch, "origin", &DataType::Utf8)?;
        let departures = column(&batch, "departures", &DataType::Int64)?;
        let mean = column(&batch, "mean_delay", &DataType::Float64)?;
        // Row by row: about 20,000 rows, once.
        for row in 0..batch.num_rows() {
            hours.push(Hour {
                window_start: millis.as_primitive::<Int64Type>().value(row),
                origin: origin.as_string::<i32>().value(row).to_string(),
                departures: departures.as_primitive::<Int64Type>().value(row),
                mean_delay: mean.as_primitive::<Float64Type>().value(row),
            });
        }
    }
    Ok(())
}

fn column(batch: &RecordBatch, name: &str, as_type: &DataType) -> Result<ArrayRef, Box<dyn std::error::Error>> {
    let found = batch.column_by_name(name).ok_or_else(|| format!("no column `{name}`; is it hourly.sql's result?"))?;
    if found.null_count() > 0 {
        return Err(format!("column `{name}` holds NULL").into());
    }
    Ok(cast(found, as_type)?)
}

/// By hour of the day (0 to 23) in New York, over the whole year. Hours with fewer than 100 departures are left out.
pub fn by_hour_of_day(hours: &[Hour]) -> Curves<u32> {
    means(hours, |hour| local(hour).hour(), 100)
}

/// By day in New York: the mean over the seven days that end with it.
pub fn by_week_up_to(hours: &[Hour]) -> Curves<NaiveDate> {
    let mut sums: BTreeMap<String, BTreeMap<NaiveDate, (f64, i64)>> = BTreeMap::new();
    for hour in hours {
        let day = local(hour).date_naive();
        for later in 0..7 {
            let Some(to) = day.checked_add_days(chrono::Days::new(later)) else { continue };
            let sum = sums.entry(hour.origin.clone()).or_default().entry(to).or_default();
            sum.0 += hour.mean_delay * hour.departures as f64;
            sum.1 += hour.departures;
        }
    }
    let (Some(first), Some(last)) =
        (hours.iter().map(|h| local(h).date_naive()).min(), hours.iter().map(|h| local(h).date_naive()).max())
    else {
        return Curves::new();
    };
    // Days with less than a full week behind them would show one day as if it were a week.
    let whole = |day: &NaiveDate| *day <= last && day.num_days_from_ce() >= first.num_days_from_ce() + 6;
    sums.into_iter()
        .map(|(origin, days)| {
            let curve = days.into_iter().filter(|(day, _)| whole(day)).map(|(day, (sum, n))| (day, sum / n as f64));
            (origin, curve.collect())
        })
        .collect()
}

fn local(hour: &Hour) -> DateTime<chrono_tz::Tz> {
    DateTime::from_timestamp_millis(hour.window_start).unwrap_or_default().with_timezone(&New_York)
}

fn means<T: Ord>(hours: &[Hour], of: impl Fn(&Hour) -> T, departures_min: i64) -> Curves<T> {
    let mut sums: BTreeMap<String, BTreeMap<T, (f64, i64)>> = BTreeMap::new();
    for hour in hours {
        let sum = sums.entry(hour.origin.clone()).or_default().entry(of(hour)).or_default();
        sum.0 += hour.mean_delay * hour.departures as f64;
        sum.1 += hour.departures;
    }
    sums.into_iter()
        .map(|(origin, curve)| {
            let curve = curve.into_iter().filter(|(_, (_, n))| *n >= departures_min);
            (origin, curve.map(|(at, (sum, n))| (at, sum / n as f64)).collect())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour(window_start: &str, departures: i64, mean_delay: f64) -> Hour {
        let at = DateTime::parse_from_rfc3339(window_start).expect("a time of the test").timestamp_millis();
        Hour { window_start: at, origin: "JFK".into(), departures, mean_delay }
    }

    #[test]
    fn an_hour_of_the_day_is_weighted_by_departures_and_follows_daylight_saving_time() {
        // 10:00 in New York is 15:00 UTC in January and 14:00 UTC in July.
        let curves =
            by_hour_of_day(&[hour("2013-01-10T15:00:00Z", 300, 10.0), hour("2013-07-10T14:00:00Z", 100, 30.0)]);
        assert_eq!(curves["JFK"], BTreeMap::from([(10, 15.0)]));
    }

    #[test]
    fn an_hour_with_few_departures_is_left_out() {
        assert!(by_hour_of_day(&[hour("2013-01-10T15:00:00Z", 99, 10.0)])["JFK"].is_empty());
    }

    #[test]
    fn a_day_shows_the_seven_days_up_to_it_once_there_are_seven() {
        let hours: Vec<Hour> =
            (1..=8).map(|d| hour(&format!("2013-01-{d:02}T17:00:00Z"), 10, f64::from(d * 7))).collect();
        let day = |d| NaiveDate::from_ymd_opt(2013, 1, d).expect("a day of January");
        assert_eq!(by_week_up_to(&hours)["JFK"], BTreeMap::from([(day(7), 28.0), (day(8), 35.0)]));
    }

    #[test]
    fn a_folder_without_results_says_what_to_run() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let said = read(folder.path()).expect_err("there is nothing to read");
        assert!(said.contains("run examples/flights/hourly.sql first"), "{said}");
    }
}
