//! A whole number of times an interval: `i * INTERVAL '1' SECOND`.

use arrow::array::{Array, ArrayRef, AsArray, IntervalMonthDayNanoArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, IntervalMonthDayNano, IntervalMonthDayNanoType, IntervalUnit};
use datafusion_common::{Result, exec_err};
use datafusion_expr::{ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility};
use std::sync::Arc;

const KIND: DataType = DataType::Interval(IntervalUnit::MonthDayNano);

/// Takes an interval and a whole number.
pub fn interval_times() -> ScalarUDF {
    ScalarUDF::new_from_impl(IntervalTimes { signature: Signature::any(2, Volatility::Immutable) })
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IntervalTimes {
    signature: Signature,
}

impl ScalarUDFImpl for IntervalTimes {
    fn name(&self) -> &str {
        "interval_times"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(KIND)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&args.args)?;
        let [intervals, numbers] = arrays.as_slice() else {
            return datafusion_common::internal_err!("an interval and a number");
        };
        let (intervals, numbers) = (cast(intervals, &KIND)?, cast(numbers, &DataType::Int64)?);
        let (intervals, numbers) =
            (intervals.as_primitive::<IntervalMonthDayNanoType>(), numbers.as_primitive::<Int64Type>());
        let made = (0..intervals.len())
            .map(|row| match intervals.is_valid(row) && numbers.is_valid(row) {
                true => times(intervals.value(row), numbers.value(row)).map(Some),
                false => Ok(None),
            })
            .collect::<Result<IntervalMonthDayNanoArray>>()?;
        Ok(ColumnarValue::Array(Arc::new(made) as ArrayRef))
    }
}

fn times(interval: IntervalMonthDayNano, n: i64) -> Result<IntervalMonthDayNano> {
    let short = |part: i32| i64::from(part).checked_mul(n).and_then(|part| i32::try_from(part).ok());
    let parts = (short(interval.months), short(interval.days), interval.nanoseconds.checked_mul(n));
    match parts {
        (Some(months), Some(days), Some(nanos)) => Ok(IntervalMonthDayNano::new(months, days, nanos)),
        _ => exec_err!("{n} times an interval is longer than an interval can be"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_part_of_an_interval_is_taken_so_many_times() {
        let interval = IntervalMonthDayNano::new(14, -3, 1_500_000_000);
        let made = times(interval, -2).expect("it fits");
        assert_eq!((made.months, made.days, made.nanoseconds), (-28, 6, -3_000_000_000));
        let e = times(interval, i64::from(i32::MAX)).expect_err("the months do not fit");
        assert!(e.to_string().contains("longer than an interval can be"), "{e}");
    }
}
