//! Dates and times: the clock, text to time and back, parts, differences, rounding.

use super::kernel::{Call, Function, Kind, Memo, Run, some};
use super::pattern::{Pattern, iso_week, read_date, read_timestamp};
use super::wall::{DAY, HOUR, MILLI, MINUTE, SECOND, Times, Wall, days_of};
use super::zone::SessionZone;
use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int32Type, Int64Type, TimeUnit, TimestampMillisecondType};
use datafusion_common::{Result, ScalarValue, exec_err, plan_err};
use datafusion_expr::ReturnFieldArgs;
use millstream_dataflow::fuse::text::TextColumn;
use std::sync::Arc;

pub(super) fn functions() -> Vec<Function> {
    use DataType::{Date32, Int64, Utf8};
    use Kind::{Any, Long, Temporal, Text};
    let time = DataType::Time32(TimeUnit::Millisecond);
    let mut all = vec![
        Function::new("now", &[], ltz(), clock).volatile(),
        Function::new("current_timestamp", &[], ltz(), clock).volatile(),
        Function::new("current_row_timestamp", &[], ltz(), clock).volatile(),
        Function::new("localtimestamp", &[], timestamp(), clock).volatile(),
        Function::new("current_date", &[], Date32, clock).volatile(),
        Function::new("current_time", &[], time.clone(), clock).volatile(),
        Function::new("localtime", &[], time, clock).volatile(),
        Function::new("date_format", &[Any, Text], Utf8, date_format),
        Function::new("to_timestamp", &[Text, Text], timestamp(), to_timestamp).optional(1),
        Function::new("to_timestamp_ltz", &[Any, Any, Text], ltz(), to_timestamp_ltz).optional(2),
        Function::new("to_date", &[Text, Text], Date32, to_date).optional(1),
        Function::new("from_unixtime", &[Long, Text], Utf8, from_unixtime).optional(1),
        Function::new("unix_timestamp", &[Text, Text], Int64, unix_timestamp).optional(2).volatile(),
        Function::new("convert_tz", &[Text, Text, Text], Utf8, convert_tz),
        Function::new("extract", &[Text, Temporal], Int64, extract).alias("date_part").alias("datepart"),
        Function::new("timestampdiff", &[Text, Temporal, Temporal], DataType::Int32, timestampdiff),
        Function::new("timestampadd", &[Text, Long, Temporal], timestamp(), timestampadd).returns_by_constants(added),
        Function::new("floor_to", &[Temporal, Text], timestamp(), |c| round_to(c, false)).returns(first),
        Function::new("ceil_to", &[Temporal, Text], timestamp(), |c| round_to(c, true)).returns(first),
        Function::new("current_watermark", &[Temporal], timestamp(), current_watermark).returns(watermark).volatile(),
    ];
    let parts: [(&'static str, Run); 10] = [
        ("year", |c| part(c, 0, Unit::Year)),
        ("quarter", |c| part(c, 0, Unit::Quarter)),
        ("month", |c| part(c, 0, Unit::Month)),
        ("week", |c| part(c, 0, Unit::Week)),
        ("dayofyear", |c| part(c, 0, Unit::DayOfYear)),
        ("dayofmonth", |c| part(c, 0, Unit::Day)),
        ("dayofweek", |c| part(c, 0, Unit::DayOfWeek)),
        ("hour", |c| part(c, 0, Unit::Hour)),
        ("minute", |c| part(c, 0, Unit::Minute)),
        ("second", |c| part(c, 0, Unit::Second)),
    ];
    all.extend(parts.into_iter().map(|(name, run)| Function::new(name, &[Temporal], Int64, run)));
    all
}

/// TIMESTAMP(3).
pub(super) fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// TIMESTAMP_LTZ(3).
pub(super) fn ltz() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn first(types: &[DataType]) -> Result<DataType> {
    match types.first() {
        Some(data_type) => Ok(data_type.clone()),
        None => plan_err!("an argument is missing"),
    }
}

fn watermark(types: &[DataType]) -> Result<DataType> {
    Ok(match types.first() {
        Some(DataType::Timestamp(_, zone)) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        _ => return plan_err!("CURRENT_WATERMARK takes the table's event-time column"),
    })
}

fn current_watermark(_: &Call) -> Result<ArrayRef> {
    exec_err!(
        "CURRENT_WATERMARK can stand only in a query straight over a table that declares a WATERMARK; elsewhere there is \
         no watermark to read"
    )
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unit {
    Millennium,
    Century,
    Decade,
    Year,
    IsoYear,
    Quarter,
    Month,
    Week,
    Day,
    DayOfWeek,
    IsoDayOfWeek,
    DayOfYear,
    Hour,
    Minute,
    Second,
    Milli,
    Micro,
    Nano,
    Epoch,
}

const UNITS: [(&str, Unit); 20] = [
    ("MILLENNIUM", Unit::Millennium),
    ("CENTURY", Unit::Century),
    ("DECADE", Unit::Decade),
    ("YEAR", Unit::Year),
    ("ISOYEAR", Unit::IsoYear),
    ("QUARTER", Unit::Quarter),
    ("MONTH", Unit::Month),
    ("WEEK", Unit::Week),
    ("DAY", Unit::Day),
    ("DOW", Unit::DayOfWeek),
    ("ISODOW", Unit::IsoDayOfWeek),
    ("DOY", Unit::DayOfYear),
    ("HOUR", Unit::Hour),
    ("MINUTE", Unit::Minute),
    ("SECOND", Unit::Second),
    ("MILLISECOND", Unit::Milli),
    ("MICROSECOND", Unit::Micro),
    ("NANOSECOND", Unit::Nano),
    ("EPOCH", Unit::Epoch),
    ("DAYOFWEEK", Unit::DayOfWeek),
];

impl Unit {
    /// By its name in any case, in the singular or plural, or as `SQL_TSI_...`.
    fn parse(name: &str) -> Result<Unit> {
        let upper = name.trim().to_uppercase();
        let upper = upper.strip_prefix("SQL_TSI_").unwrap_or(&upper);
        let singular = upper.strip_suffix('S').unwrap_or(upper);
        match UNITS.iter().find(|(n, _)| *n == upper || *n == singular) {
            Some((_, unit)) => Ok(*unit),
            None => {
                let close = millstream_core::error::did_you_mean(upper, UNITS.iter().map(|(n, _)| *n));
                match close {
                    Some(close) => plan_err!("`{name}` is no unit of time; did you mean {close}?"),
                    None => {
                        plan_err!("`{name}` is no unit of time; there are YEAR, MONTH, DAY, HOUR, MINUTE, SECOND, ...")
                    }
                }
            }
        }
    }

    /// Nanoseconds, for units of fixed length.
    fn nanos(self) -> Option<i64> {
        Some(match self {
            Unit::Week => 7 * DAY,
            Unit::Day | Unit::DayOfWeek | Unit::IsoDayOfWeek | Unit::DayOfYear => DAY,
            Unit::Hour => HOUR,
            Unit::Minute => MINUTE,
            Unit::Second | Unit::Epoch => SECOND,
            Unit::Milli => 1_000_000,
            Unit::Micro => 1_000,
            Unit::Nano => 1,
            _ => return None,
        })
    }

    /// Months, for units made of them.
    fn months(self) -> Option<i64> {
        Some(match self {
            Unit::Millennium => 12_000,
            Unit::Century => 1_200,
            Unit::Decade => 120,
            Unit::Year | Unit::IsoYear => 12,
            Unit::Quarter => 3,
            Unit::Month => 1,
            _ => return None,
        })
    }

    fn of(self, wall: Wall) -> i64 {
        let nanos = wall.nanos;
        match self {
            Unit::Hour => return nanos / HOUR,
            Unit::Minute => return nanos / MINUTE % 60,
            Unit::Second => return nanos / SECOND % 60,
            Unit::Milli => return nanos % SECOND / 1_000_000,
            Unit::Micro => return nanos % SECOND / 1_000,
            Unit::Nano => return nanos % SECOND,
            Unit::Epoch => return wall.seconds(),
            Unit::DayOfWeek => return (wall.day + 4).rem_euclid(7) + 1,
            Unit::IsoDayOfWeek => return (wall.day + 3).rem_euclid(7) + 1,
            Unit::Week => return iso_week(wall.day).1,
            Unit::IsoYear => return iso_week(wall.day).0,
            _ => {}
        }
        let (year, month, day) = wall.civil();
        let up = |n: i64| if year > 0 { (year + n - 1) / n } else { (year - n + 1) / n };
        match self {
            Unit::Millennium => up(1000),
            Unit::Century => up(100),
            Unit::Decade => year / 10,
            Unit::Quarter => i64::from(month - 1) / 3 + 1,
            Unit::Month => i64::from(month),
            Unit::Day => i64::from(day),
            Unit::DayOfYear => wall.day - days_of(year, 1, 1) + 1,
            _ => year,
        }
    }

    /// The start of the unit that `wall` lies in. Weeks start on Sunday, as in Flink.
    fn floor(self, wall: Wall) -> Wall {
        let start = |day: i64| Wall { day, nanos: 0 };
        let (year, month, _) = wall.civil();
        match self {
            Unit::Millennium => start(days_of((year - 1).div_euclid(1000) * 1000 + 1, 1, 1)),
            Unit::Century => start(days_of((year - 1).div_euclid(100) * 100 + 1, 1, 1)),
            Unit::Decade => start(days_of(year.div_euclid(10) * 10, 1, 1)),
            Unit::Year | Unit::IsoYear => start(days_of(year, 1, 1)),
            Unit::Quarter => start(days_of(year, (month - 1) / 3 * 3 + 1, 1)),
            Unit::Month => start(days_of(year, month, 1)),
            Unit::Week => start(wall.day - (wall.day + 4).rem_euclid(7)),
            Unit::Hour | Unit::Minute | Unit::Second | Unit::Epoch | Unit::Milli | Unit::Micro | Unit::Nano => {
                let unit = self.nanos().unwrap_or(1);
                Wall { day: wall.day, nanos: wall.nanos / unit * unit }
            }
            _ => start(wall.day),
        }
    }

    fn ceil(self, wall: Wall) -> Option<Wall> {
        let floor = self.floor(wall);
        match (floor == wall, self.months(), self.nanos()) {
            (true, ..) => Some(wall),
            (_, Some(months), _) => floor.add_months(months),
            (_, _, nanos) => floor.add_nanos(i128::from(nanos.unwrap_or(DAY))),
        }
    }
}

// ---- The clock ----

/// What the machine's clock shows, once for a batch.
fn clock(c: &Call) -> Result<ArrayRef> {
    let now = now().in_zone(c.zone);
    c.make_times(|_| Ok(Some(now)))
}

#[expect(
    clippy::disallowed_methods,
    reason = "CURRENT_TIMESTAMP is the machine's clock for whoever asks for it: the one function that is no function of its rows"
)]
fn now() -> Wall {
    let now = chrono::Utc::now();
    Wall::from_seconds(now.timestamp(), i64::from(now.timestamp_subsec_nanos()))
}

// ---- Text ----

/// DATE_FORMAT(date, timestamp or text, pattern).
fn date_format(c: &Call) -> Result<ArrayRef> {
    let format = c.text(1)?;
    let mut pattern = Memo::new();
    if super::kernel::Text::of(&c.args[0]).is_some() {
        let text = c.text(0)?;
        return c.make_text(|row, out| {
            let (text, format) = (some!(text.at(row)), some!(format.at(row)));
            let wall = some!(read_timestamp(text.trim()));
            pattern.get(format, Pattern::parse)?.write(wall, Some(0), out)?;
            Ok(Some(()))
        });
    }
    if c.args[0].data_type().is_null() {
        return c.make_text(|_, _| Ok(None));
    }
    if !c.args[0].data_type().is_temporal() {
        return plan_err!("DATE_FORMAT takes a DATE, TIME, TIMESTAMP or STRING, not {}", c.args[0].data_type());
    }
    let times = c.times(0)?;
    let zoned = matches!(c.args[0].data_type(), DataType::Timestamp(_, Some(_)));
    if let (true, Some(format), Some(plain), false) = (c.constant[1], format.at(0), times.plain(), zoned) {
        return format_runs(c, format, &times, plain);
    }
    // Neighbouring rows are mostly of the same minute or day: what was written last is written again.
    let mut last: Option<(i64, i64)> = None;
    let (mut last_format, mut written) = ("", String::new());
    c.make_text(|row, out| {
        let (wall, format) = (some!(times.at(row)), some!(format.at(row)));
        let pattern = pattern.get(format, Pattern::parse)?;
        let key = pattern.key(wall);
        if last != Some(key) || last_format != format {
            written.clear();
            let offset = zoned.then(|| c.zone.offset_of_local(wall.seconds()));
            pattern.write(wall, offset, &mut written)?;
            (last, last_format) = (Some(key), format);
        }
        out.push_str(&written);
        Ok(Some(()))
    })
}

/// Times that stand as bare numbers of a unit (in nanoseconds), by one pattern. Neighbouring rows are mostly of the same
/// minute or day, which is told by the number alone, and what was written last is written again.
fn format_runs(c: &Call, format: &str, times: &Times, (values, unit): (&[i64], i64)) -> Result<ArrayRef> {
    let (mut pattern, mut written, mut total) = (Memo::new(), String::new(), 0usize);
    // What is written stands for so many numbers from this one on.
    let (mut from, mut width) = (0i64, 0u64);
    let mut out = TextColumn::with_capacity(c.rows, c.rows * 16);
    for (row, value) in values.iter().enumerate() {
        if times.is_null(row) {
            out.push_null();
            continue;
        }
        if value.wrapping_sub(from) as u64 >= width
            && let Some(wall) = times.at(row)
        {
            let pattern = pattern.get(format, Pattern::parse)?;
            let grain = (pattern.grain() / unit).max(1);
            written.clear();
            pattern.write(wall, None, &mut written)?;
            (from, width) = (value.wrapping_sub(value.rem_euclid(grain)), grain as u64);
        }
        total += written.len();
        c.check_bytes(written.len(), total)?;
        out.push(&written);
    }
    Ok(Arc::new(out.finish()?))
}

/// NULL where the text cannot be read.
fn to_timestamp(c: &Call) -> Result<ArrayRef> {
    let (text, format) = (c.text(0)?, c.optional_text(1)?);
    let mut pattern = Memo::new();
    c.make_times(|row| {
        let text = some!(text.at(row));
        let Some(format) = &format else {
            // Read by `yyyy-MM-dd HH:mm:ss`, which wants seconds where there is a time; CAST does without.
            let no_seconds = text.split_once(' ').is_some_and(|(_, time)| time.matches(':').count() == 1);
            return Ok(if no_seconds { None } else { read_timestamp(text) });
        };
        let read = pattern.get(some!(format.at(row)), Pattern::parse)?.read(text, true);
        // As in Flink, a text that does not fit the pattern may still be in the usual form.
        Ok(read.map(|r| r.wall).or_else(|| read_timestamp(text.trim())))
    })
}

/// (number, precision), (text), (text, pattern), (text, pattern, zone). Texts are in UTC unless a zone is given.
fn to_timestamp_ltz(c: &Call) -> Result<ArrayRef> {
    if super::kernel::Text::of(&c.args[0]).is_some() {
        let (text, format, zone) = (c.text(0)?, c.optional_text(1)?, c.optional_text(2)?);
        let (mut pattern, mut zones) = (Memo::new(), Memo::new());
        return super::wall::column_of(c.rows, c.returns, &SessionZone::UTC, |row| {
            let text = some!(text.at(row));
            let read = match &format {
                Some(format) => pattern.get(some!(format.at(row)), Pattern::parse)?.read(text, true),
                None => read_timestamp(text).map(|wall| super::pattern::Reading { wall, offset: None }),
            };
            let read = some!(read);
            if let Some(offset) = read.offset {
                return Ok(read.wall.add_nanos(-i128::from(offset) * i128::from(SECOND)));
            }
            Ok(match &zone {
                Some(zone) => Some(read.wall.to_utc(zones.get(some!(zone.at(row)), parse_zone)?)),
                None => Some(read.wall),
            })
        });
    }
    if !c.args[0].data_type().is_numeric() && !c.args[0].data_type().is_null() {
        return plan_err!(
            "TO_TIMESTAMP_LTZ takes a number and its precision, or a STRING, not {}",
            c.args[0].data_type()
        );
    }
    let precision = match c.args.get(1) {
        Some(array) if c.constant[1] => ScalarValue::try_from_array(array, 0)?.cast_to(&DataType::Int64)?,
        Some(_) => return plan_err!("TO_TIMESTAMP_LTZ: the precision must be a constant: 0, 3, 6 or 9"),
        None => ScalarValue::Int64(Some(3)),
    };
    let per_second: i64 = match precision {
        ScalarValue::Int64(Some(0)) => 1,
        ScalarValue::Int64(Some(3)) => 1_000,
        ScalarValue::Int64(Some(6)) => 1_000_000,
        ScalarValue::Int64(Some(9)) => SECOND,
        other => {
            return plan_err!(
                "TO_TIMESTAMP_LTZ: {other} is no precision; there are 0 for seconds, 3 for milliseconds, 6 and 9"
            );
        }
    };
    // Fractions are cut off, but for seconds with a fraction of type DOUBLE.
    let numbers = match c.args[0].data_type() {
        DataType::Float32 | DataType::Float64 if per_second == 1 => {
            let doubles = arrow::compute::cast(&c.args[0], &DataType::Float64)?;
            let doubles = doubles.as_primitive::<arrow::datatypes::Float64Type>();
            let millis = doubles.unary::<_, Int64Type>(|v| (v * 1000.0) as i64);
            return super::wall::column_of(c.rows, c.returns, &SessionZone::UTC, |row| {
                let row = if c.constant[0] { 0 } else { row };
                Ok(millis.is_valid(row).then(|| of_epoch(millis.value(row), 1000)))
            });
        }
        DataType::Float32 | DataType::Float64 => {
            let doubles = arrow::compute::cast(&c.args[0], &DataType::Float64)?;
            let doubles = doubles.as_primitive::<arrow::datatypes::Float64Type>();
            Arc::new(doubles.unary::<_, Int64Type>(|v| v as i64)) as ArrayRef
        }
        _ => arrow::compute::cast(&c.args[0], &DataType::Int64)?,
    };
    let numbers = numbers.as_primitive::<Int64Type>();
    super::wall::column_of(c.rows, c.returns, &SessionZone::UTC, |row| {
        let row = if c.constant[0] { 0 } else { row };
        if numbers.is_null(row) {
            return Ok(None);
        }
        let wall = of_epoch(numbers.value(row), per_second);
        // Flink answers NULL outside of the years 0 to 9999.
        Ok((-719_528..2_932_897).contains(&wall.day).then_some(wall))
    })
}

fn of_epoch(value: i64, per_second: i64) -> Wall {
    Wall::from_seconds(value.div_euclid(per_second), value.rem_euclid(per_second) * (SECOND / per_second))
}

fn parse_zone(name: &str) -> Result<SessionZone> {
    name.parse().map_err(|e: millstream_core::Error| {
        datafusion_common::DataFusionError::Execution(format!("{}; {}", e.what(), e.help().unwrap_or_default()))
    })
}

fn to_date(c: &Call) -> Result<ArrayRef> {
    let (text, format) = (c.text(0)?, c.optional_text(1)?);
    let mut pattern = Memo::new();
    c.make_times(|row| {
        let text = some!(text.at(row));
        Ok(match &format {
            None => read_date(text).map(|day| Wall { day, nanos: 0 }),
            Some(format) => {
                let read = pattern.get(some!(format.at(row)), Pattern::parse)?.read(text, false);
                read.and_then(|r| r.wall.add_nanos(-i128::from(r.offset.unwrap_or(0)) * i128::from(SECOND)))
            }
        })
    })
}

const USUAL: &str = "yyyy-MM-dd HH:mm:ss";

fn from_unixtime(c: &Call) -> Result<ArrayRef> {
    let (seconds, format) = (c.longs(0)?, c.optional_text(1)?);
    let mut pattern = Memo::new();
    c.make_text(|row, out| {
        let seconds = some!(seconds.at(row));
        let format = match &format {
            Some(format) => some!(format.at(row)),
            None => USUAL,
        };
        if seconds.unsigned_abs() > 31_556_889_864_403_199 {
            return Ok(None);
        }
        let wall = Wall::from_seconds(seconds, 0).in_zone(c.zone);
        pattern.get(format, Pattern::parse)?.write(wall, Some(c.zone.offset_at(seconds)), out)?;
        Ok(Some(()))
    })
}

/// Without arguments the clock; with a text, its seconds since 1970, or the least BIGINT where it cannot be read.
fn unix_timestamp(c: &Call) -> Result<ArrayRef> {
    if c.args.is_empty() {
        let seconds = now().seconds();
        return c.make::<Int64Type>(|_| Ok(Some(seconds)));
    }
    let (text, format) = (c.text(0)?, c.optional_text(1)?);
    let mut pattern = Memo::new();
    c.make::<Int64Type>(|row| {
        let text = some!(text.at(row));
        let format = match &format {
            Some(format) => some!(format.at(row)),
            None => USUAL,
        };
        let read = pattern.get(format, Pattern::parse)?.read(text, false);
        Ok(Some(read.map_or(i64::MIN, |r| match r.offset {
            Some(offset) => r.wall.seconds() - offset,
            None => r.wall.to_utc(c.zone).seconds(),
        })))
    })
}

fn convert_tz(c: &Call) -> Result<ArrayRef> {
    let (text, from, to) = (c.text(0)?, c.text(1)?, c.text(2)?);
    let (mut from_zone, mut to_zone) = (Memo::new(), Memo::new());
    let pattern = Pattern::parse(USUAL)?;
    c.make_text(|row, out| {
        let (text, from, to) = (some!(text.at(row)), some!(from.at(row)), some!(to.at(row)));
        let wall = some!(pattern.read(text, false)).wall.to_utc(from_zone.get(from, parse_zone)?);
        pattern.write(wall.in_zone(to_zone.get(to, parse_zone)?), None, out)?;
        Ok(Some(()))
    })
}

// ---- Parts ----

fn part(c: &Call, i: usize, unit: Unit) -> Result<ArrayRef> {
    // Parts of the day need no calendar: one division for each row of a TIMESTAMP(3).
    if !c.constant[i]
        && *c.args[i].data_type() == timestamp()
        && let Some(times) = c.args[i].as_primitive_opt::<TimestampMillisecondType>()
        && let Some((of, one)) = match unit {
            Unit::Hour => Some((DAY / MILLI, HOUR / MILLI)),
            Unit::Minute => Some((HOUR / MILLI, MINUTE / MILLI)),
            _ => None,
        }
    {
        return Ok(Arc::new(times.unary::<_, Int64Type>(|ms| ms.rem_euclid(of) / one)));
    }
    let times = c.times(i)?;
    c.make::<Int64Type>(|row| Ok(times.at(row).map(|wall| unit.of(wall))))
}

fn extract(c: &Call) -> Result<ArrayRef> {
    match c.constant_text(0, "unit")? {
        Some(unit) => part(c, 1, Unit::parse(unit)?),
        None => c.make::<Int64Type>(|_| Ok(None)),
    }
}

/// Whole units from the first time to the second, cut toward zero.
fn timestampdiff(c: &Call) -> Result<ArrayRef> {
    let Some(unit) = c.constant_text(0, "unit")? else { return c.make::<Int32Type>(|_| Ok(None)) };
    let unit = Unit::parse(unit)?;
    let (from, to) = (c.times(1)?, c.times(2)?);
    c.make::<Int32Type>(|row| {
        let (from, to) = (some!(from.at(row)), some!(to.at(row)));
        let whole = match (unit.months(), unit.nanos()) {
            (Some(months), _) => i128::from(months_between(from, to) / months),
            (_, nanos) => (to.total_nanos() - from.total_nanos()) / i128::from(nanos.unwrap_or(DAY)),
        };
        match i32::try_from(whole) {
            Ok(whole) => Ok(Some(whole)),
            Err(_) => exec_err!("TIMESTAMPDIFF: {whole} does not fit INT; use a longer unit"),
        }
    })
}

/// Whole months, cut toward zero. A day that the later month does not have counts as its last: from 31 January to 28
/// February is one.
fn months_between(from: Wall, to: Wall) -> i64 {
    if from > to {
        return -months_between(to, from);
    }
    let ((y1, m1, d1), (y2, m2, d2)) = (from.civil(), to.civil());
    let months = (y2 - y1) * 12 + i64::from(m2) - i64::from(m1);
    let d1 = d1.min(super::wall::month_length(y2, m2));
    months - i64::from((d2, to.nanos) < (d1, from.nanos))
}

/// A DATE stays one when the unit is a day or longer.
fn added(args: &ReturnFieldArgs) -> Result<DataType> {
    let given = args.arg_fields.get(2).map(|f| f.data_type().clone()).unwrap_or(DataType::Null);
    let unit = match args.scalar_arguments.first() {
        Some(Some(unit)) => unit.try_as_str().flatten().map(Unit::parse).transpose()?,
        _ => return plan_err!("TIMESTAMPADD: the unit must be a constant"),
    };
    Ok(match (&given, unit) {
        (DataType::Date32, Some(unit)) if unit.months().is_none() && unit.nanos().is_some_and(|n| n < DAY) => {
            timestamp()
        }
        _ => given,
    })
}

fn timestampadd(c: &Call) -> Result<ArrayRef> {
    let Some(unit) = c.constant_text(0, "unit")? else { return c.make_times(|_| Ok(None)) };
    let unit = Unit::parse(unit)?;
    let (count, times) = (c.longs(1)?, c.times(2)?);
    c.make_times(|row| {
        let (count, wall) = (some!(count.at(row)), some!(times.at(row)));
        let moved = match (unit.months(), unit.nanos()) {
            (Some(months), _) => count.checked_mul(months).and_then(|months| wall.add_months(months)),
            (_, nanos) => wall.add_nanos(i128::from(count) * i128::from(nanos.unwrap_or(DAY))),
        };
        match moved {
            Some(moved) => Ok(Some(moved)),
            None => exec_err!("TIMESTAMPADD: {count} {unit:?} from there is past all calendars"),
        }
    })
}

fn round_to(c: &Call, up: bool) -> Result<ArrayRef> {
    let Some(unit) = c.constant_text(1, "unit")? else { return c.make_times(|_| Ok(None)) };
    let unit = Unit::parse(unit)?;
    let times = c.times(0)?;
    c.make_times(|row| {
        let wall = some!(times.at(row));
        Ok(if up { unit.ceil(wall) } else { Some(unit.floor(wall)) })
    })
}
