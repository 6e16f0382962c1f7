//! A reading of the wall clock: days and nanoseconds of the day. All functions of time work on it.
//!
//! A TIMESTAMP is such a reading; a TIMESTAMP_LTZ (a time in UTC) becomes one in the session's zone.

use super::kernel::Call;
use super::zone::SessionZone;
use arrow::array::{
    Array, ArrayRef, AsArray, Date32Array, PrimitiveArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, Date32Type, Date64Type, Time32MillisecondType, Time32SecondType, Time64MicrosecondType,
    Time64NanosecondType, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use datafusion_common::{Result, exec_err, internal_err};
use std::sync::Arc;

pub(super) const DAY: i64 = 86_400_000_000_000;
pub(super) const HOUR: i64 = 3_600_000_000_000;
pub(super) const MINUTE: i64 = 60_000_000_000;
pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const MILLI: i64 = 1_000_000;

/// `day` since 1970-01-01, `nanos` since midnight (`0..DAY`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Wall {
    pub(super) day: i64,
    pub(super) nanos: i64,
}

/// Year, month (1..=12), day (1..=31), in the proleptic Gregorian calendar.
pub(super) type Civil = (i64, u32, u32);

impl Wall {
    pub(super) fn from_seconds(seconds: i64, nanos: i64) -> Wall {
        Wall { day: seconds.div_euclid(86_400), nanos: seconds.rem_euclid(86_400) * SECOND + nanos }
    }

    pub(super) fn seconds(self) -> i64 {
        self.day * 86_400 + self.nanos.div_euclid(SECOND)
    }

    pub(super) fn civil(self) -> Civil {
        civil_of(self.day)
    }

    /// The instant in UTC of this reading in `zone`, as a reading of a clock in UTC.
    pub(super) fn to_utc(self, zone: &SessionZone) -> Wall {
        let seconds = self.seconds();
        Wall::from_seconds(seconds - zone.offset_of_local(seconds), self.nanos.rem_euclid(SECOND))
    }

    /// What the clock in `zone` shows when a clock in UTC shows this.
    pub(super) fn in_zone(self, zone: &SessionZone) -> Wall {
        let seconds = self.seconds();
        Wall::from_seconds(seconds.saturating_add(zone.offset_at(seconds)), self.nanos.rem_euclid(SECOND))
    }

    /// `months` later; the day is cut to the length of the month.
    pub(super) fn add_months(self, months: i64) -> Option<Wall> {
        let (year, month, day) = self.civil();
        let total = year.checked_mul(12)?.checked_add(i64::from(month) - 1)?.checked_add(months)?;
        let (year, month) = (total.div_euclid(12), total.rem_euclid(12) as u32 + 1);
        if year.abs() > 1_000_000 {
            return None;
        }
        Some(Wall { day: days_of(year, month, day.min(month_length(year, month))), nanos: self.nanos })
    }

    pub(super) fn add_nanos(self, nanos: i128) -> Option<Wall> {
        let total = i128::from(self.day) * i128::from(DAY) + i128::from(self.nanos) + nanos;
        let day = i64::try_from(total.div_euclid(i128::from(DAY))).ok()?;
        // Past a million years nothing is a date, and nothing below can overflow.
        (day.abs() < 400_000_000).then_some(())?;
        Some(Wall { day, nanos: total.rem_euclid(i128::from(DAY)) as i64 })
    }

    /// Since 1970-01-01 00:00.
    pub(super) fn total_nanos(self) -> i128 {
        i128::from(self.day) * i128::from(DAY) + i128::from(self.nanos)
    }

    /// Whole units since 1970; `None` where it does not fit.
    fn units(self, unit: TimeUnit) -> Option<i64> {
        let per_day = match unit {
            TimeUnit::Second => 86_400,
            TimeUnit::Millisecond => 86_400_000,
            TimeUnit::Microsecond => 86_400_000_000,
            TimeUnit::Nanosecond => DAY,
        };
        self.day.checked_mul(per_day)?.checked_add(self.nanos / (DAY / per_day))
    }
}

pub(super) fn month_length(year: i64, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// H. Hinnant, "chrono-Compatible Low-Level Date Algorithms", days_from_civil.
pub(super) fn days_of(year: i64, month: u32, day: u32) -> i64 {
    let (month, day) = (i64::from(month), i64::from(day));
    let y = year - i64::from(month <= 2);
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

/// The same, civil_from_days.
pub(super) fn civil_of(days: i64) -> Civil {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1_460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let (day, month) = (doy - (153 * mp + 2) / 5 + 1, if mp < 10 { mp + 3 } else { mp - 9 });
    (yoe + era * 400 + i64::from(month <= 2), month as u32, day as u32)
}

/// A column of times, or a constant.
pub(super) struct Times<'a> {
    nulls: Option<&'a NullBuffer>,
    constant: bool,
    /// Where a value is in UTC and is to be read in a zone.
    zone: Option<&'a SessionZone>,
    raw: Raw<'a>,
}

/// Values and how many nanoseconds each unit has.
enum Raw<'a> {
    I64(&'a [i64], i64),
    I32(&'a [i32], i64),
}

impl<'a> Times<'a> {
    pub(super) fn of(array: &'a ArrayRef, zone: &'a SessionZone, constant: bool) -> Result<Times<'a>> {
        use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
        let raw = match array.data_type() {
            DataType::Date32 => Raw::I32(array.as_primitive::<Date32Type>().values(), DAY),
            DataType::Date64 => Raw::I64(array.as_primitive::<Date64Type>().values(), MILLI),
            DataType::Time32(Second) => Raw::I32(array.as_primitive::<Time32SecondType>().values(), SECOND),
            DataType::Time32(_) => Raw::I32(array.as_primitive::<Time32MillisecondType>().values(), MILLI),
            DataType::Time64(Microsecond) => Raw::I64(array.as_primitive::<Time64MicrosecondType>().values(), 1000),
            DataType::Time64(_) => Raw::I64(array.as_primitive::<Time64NanosecondType>().values(), 1),
            DataType::Timestamp(unit, _) => match unit {
                Second => Raw::I64(array.as_primitive::<TimestampSecondType>().values(), SECOND),
                Millisecond => Raw::I64(array.as_primitive::<TimestampMillisecondType>().values(), MILLI),
                Microsecond => Raw::I64(array.as_primitive::<TimestampMicrosecondType>().values(), 1000),
                Nanosecond => Raw::I64(array.as_primitive::<TimestampNanosecondType>().values(), 1),
            },
            other => return internal_err!("{other} is no time"),
        };
        let zoned = matches!(array.data_type(), DataType::Timestamp(_, Some(_))) && *zone != SessionZone::UTC;
        Ok(Times { nulls: array.nulls(), constant, zone: zoned.then_some(zone), raw })
    }

    /// The numbers and the nanoseconds of their unit, where each row has one and reads as it stands.
    pub(super) fn plain(&self) -> Option<(&'a [i64], i64)> {
        match self.raw {
            Raw::I64(values, unit) if !self.constant && self.zone.is_none() => Some((values, unit)),
            _ => None,
        }
    }

    #[inline]
    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(if self.constant { 0 } else { row }))
    }

    #[inline]
    pub(super) fn at(&self, row: usize) -> Option<Wall> {
        let row = if self.constant { 0 } else { row };
        if self.nulls.is_some_and(|nulls| nulls.is_null(row)) {
            return None;
        }
        let (value, unit) = match self.raw {
            Raw::I64(values, unit) => (values[row], unit),
            Raw::I32(values, unit) => (i64::from(values[row]), unit),
        };
        let per_day = DAY / unit;
        let wall = Wall { day: value.div_euclid(per_day), nanos: value.rem_euclid(per_day) * unit };
        Some(match self.zone {
            Some(zone) => wall.in_zone(zone),
            None => wall,
        })
    }
}

impl Call<'_> {
    pub(super) fn times(&self, i: usize) -> Result<Times<'_>> {
        match self.args.get(i) {
            Some(array) => Times::of(array, self.zone, self.constant[i]),
            None => internal_err!("{}: argument {i} is missing", self.name),
        }
    }

    /// A column of times in the function's result type, from readings in the session's zone.
    pub(super) fn make_times(&self, wall: impl FnMut(usize) -> Result<Option<Wall>>) -> Result<ArrayRef> {
        column_of(self.rows, self.returns, self.zone, wall)
    }
}

/// A column of type `data_type`, whose values are the readings of `wall` in `zone`.
pub(super) fn column_of(
    rows: usize,
    data_type: &DataType,
    zone: &SessionZone,
    mut wall: impl FnMut(usize) -> Result<Option<Wall>>,
) -> Result<ArrayRef> {
    let outside = |w: Wall| {
        let (year, month, day) = w.civil();
        exec_err!("the time {year}-{month:02}-{day:02} is outside of what {data_type} can hold")
    };
    match data_type {
        DataType::Date32 => {
            let mut out = Vec::with_capacity(rows);
            for row in 0..rows {
                out.push(match wall(row)? {
                    Some(w) => match i32::try_from(w.day) {
                        Ok(day) => Some(day),
                        Err(_) => return outside(w),
                    },
                    None => None,
                });
            }
            Ok(Arc::new(Date32Array::from(out)))
        }
        DataType::Time32(TimeUnit::Millisecond) => {
            let mut out = Vec::with_capacity(rows);
            for row in 0..rows {
                out.push(wall(row)?.map(|w| (w.nanos / MILLI) as i32));
            }
            Ok(Arc::new(PrimitiveArray::<Time32MillisecondType>::from(out)))
        }
        DataType::Timestamp(unit, tz) => {
            let mut out = Vec::with_capacity(rows);
            for row in 0..rows {
                out.push(match wall(row)? {
                    Some(w) => match (if tz.is_some() { w.to_utc(zone) } else { w }).units(*unit) {
                        Some(units) => Some(units),
                        None => return outside(w),
                    },
                    None => None,
                });
            }
            Ok(match unit {
                TimeUnit::Second => Arc::new(TimestampSecondArray::from(out).with_timezone_opt(tz.clone())),
                TimeUnit::Millisecond => Arc::new(TimestampMillisecondArray::from(out).with_timezone_opt(tz.clone())),
                TimeUnit::Microsecond => Arc::new(TimestampMicrosecondArray::from(out).with_timezone_opt(tz.clone())),
                TimeUnit::Nanosecond => Arc::new(TimestampNanosecondArray::from(out).with_timezone_opt(tz.clone())),
            })
        }
        other => internal_err!("{other} is no type of time that is made here"),
    }
}
