//! SUM, AVG, and the variances.

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Decimal128Type, Field, FieldRef, Float64Type, Int64Type, i256};
use datafusion_common::{Result, ScalarValue, exec_err, internal_err, not_impl_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::format_state_name;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, Signature, Volatility};
use millstream_dataflow::exact::{ExactMoments, ExactSum, IntegerMoments};
use std::collections::HashSet;
use std::sync::Arc;

pub(super) fn functions() -> Vec<AggregateUDF> {
    [
        ("sum", What::Sum, &[][..]),
        ("avg", What::Avg, &["mean"]),
        ("var_pop", What::Variance { sample: false, root: false }, &["var_population"]),
        ("var_samp", What::Variance { sample: true, root: false }, &["variance", "var", "var_sample"]),
        ("stddev_pop", What::Variance { sample: false, root: true }, &[]),
        ("stddev_samp", What::Variance { sample: true, root: true }, &["stddev"]),
    ]
    .into_iter()
    .map(|(name, what, aliases)| {
        AggregateUDF::new_from_impl(Numeric {
            name,
            what,
            aliases: aliases.iter().map(|a| a.to_string()).collect(),
            signature: Signature::user_defined(Volatility::Immutable),
        })
    })
    .collect()
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Sum,
    Avg,
    Variance { sample: bool, root: bool },
}

/// An aggregate of one column of numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Numeric {
    name: &'static str,
    what: What,
    aliases: Vec<String>,
    signature: Signature,
}

impl AggregateUDFImpl for Numeric {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        let [given] = given else {
            return plan_err!("{} takes one number, not {} arguments", self.name.to_uppercase(), given.len());
        };
        Ok(vec![match (self.what, given) {
            (_, DataType::Null) => DataType::Float64,
            (_, DataType::Dictionary(_, values)) => return self.coerce_types(&[values.as_ref().clone()]),
            (What::Variance { .. }, DataType::Decimal128(p, _)) if *p <= 18 => given.clone(),
            (What::Variance { .. }, given) if given.is_signed_integer() => DataType::Int64,
            (What::Variance { .. }, given) if given.is_numeric() => DataType::Float64,
            (_, DataType::Decimal32(p, s) | DataType::Decimal64(p, s)) => DataType::Decimal128(*p, *s),
            (_, DataType::Decimal256(_, s)) => DataType::Decimal128(38, *s),
            (_, DataType::Float16) => DataType::Float32,
            (_, given) if given.is_numeric() => given.clone(),
            (_, other) => {
                return plan_err!("{} takes a number, not {other}; CAST it if it holds one", self.name.to_uppercase());
            }
        }])
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let Some(given) = given.first() else { return plan_err!("{} takes one argument", self.name) };
        Ok(match (self.what, given) {
            (What::Variance { .. }, _) => DataType::Float64,
            (What::Sum, DataType::Decimal128(_, s)) => DataType::Decimal128(38, *s),
            (What::Avg, DataType::Decimal128(_, s)) => DataType::Decimal128(38, (*s).max(6)),
            (_, given) => given.clone(),
        })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        let input = args.input_fields.first().map(|f| f.data_type().clone()).unwrap_or(DataType::Null);
        if args.is_distinct {
            return Ok(vec![field("values", DataType::new_list(input, true))]);
        }
        Ok(match (self.what, input) {
            (What::Variance { .. }, _) => vec![field("moments", DataType::Binary)],
            (_, DataType::Float32 | DataType::Float64) => {
                vec![field("count", DataType::Int64), field("sum", DataType::Binary)]
            }
            _ => vec![field("count", DataType::Int64), field("sum", DataType::FixedSizeBinary(32))],
        })
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let input = match args.expr_fields.first() {
            Some(field) => field.data_type().clone(),
            None => return internal_err!("{} has no argument", self.name),
        };
        let output = args.return_field.data_type().clone();
        let inner: Box<dyn Accumulator> = match (self.what, &input) {
            (What::Variance { sample, root }, DataType::Float64 | DataType::Int64 | DataType::Decimal128(..)) => {
                Box::new(Variance { sample, root, input: input.clone(), moments: Moments::of(&input) })
            }
            (what, DataType::Float32 | DataType::Float64) => {
                Box::new(Floats { mean: what == What::Avg, output, count: 0, sum: ExactSum::default() })
            }
            (what, input) if input.is_integer() || matches!(input, DataType::Decimal128(..)) => {
                Box::new(Wholes { mean: what == What::Avg, input: input.clone(), output, count: 0, sum: i256::ZERO })
            }
            (_, other) => return not_impl_err!("{} of {other}", self.name),
        };
        if args.is_distinct {
            return Ok(Box::new(Distinct::new(inner, input)));
        }
        Ok(inner)
    }
}

/// SUM and AVG of FLOAT and DOUBLE.
#[derive(Debug)]
struct Floats {
    mean: bool,
    output: DataType,
    count: i64,
    sum: ExactSum,
}

fn doubles(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(arrow::compute::cast(array, &DataType::Float64)?)
}

pub(super) fn first(columns: &[ArrayRef]) -> Result<&ArrayRef> {
    match columns.first() {
        Some(column) => Ok(column),
        None => internal_err!("an accumulator was given no column"),
    }
}

impl Accumulator for Floats {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(first(values)?)?;
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            self.count += 1;
            self.sum.add(value);
        }
        Ok(())
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = doubles(first(values)?)?;
        for value in values.as_primitive::<Float64Type>().iter().flatten() {
            self.count -= 1;
            self.sum.subtract(value);
        }
        Ok(())
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = first(states)?.as_primitive::<Int64Type>();
        let Some(sums) = states.get(1) else { return internal_err!("a saved sum is missing") };
        for (count, sum) in counts.iter().zip(sums.as_binary::<i32>()) {
            let (Some(count), Some(sum)) = (count, sum) else { continue };
            self.count += count;
            match ExactSum::from_bytes(sum) {
                Some(sum) => self.sum.merge(&sum),
                None => return internal_err!("a saved sum of {} bytes is damaged", sum.len()),
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Int64(Some(self.count)), ScalarValue::Binary(Some(self.sum.to_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.count == 0 {
            return ScalarValue::try_from(&self.output);
        }
        let sum = self.sum.value();
        ScalarValue::Float64(Some(if self.mean { sum / self.count as f64 } else { sum })).cast_to(&self.output)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sum.bytes()
    }
}

/// SUM and AVG of integers and DECIMAL, in 256 bits: no number of rows can overflow it.
#[derive(Debug)]
struct Wholes {
    mean: bool,
    input: DataType,
    output: DataType,
    count: i64,
    sum: i256,
}

impl Wholes {
    fn change(&mut self, values: &[ArrayRef], by: i64) -> Result<()> {
        let column = first(values)?;
        let rows = (column.len() - column.logical_null_count()) as i64;
        self.count += by * rows;
        let mut total = i256::ZERO;
        if matches!(column.data_type(), DataType::Decimal128(..)) {
            for value in column.as_primitive::<Decimal128Type>().iter().flatten() {
                total = total.wrapping_add(i256::from_i128(value));
            }
        } else if *column.data_type() == DataType::UInt64 {
            for value in column.as_primitive::<arrow::datatypes::UInt64Type>().iter().flatten() {
                total = total.wrapping_add(i256::from_i128(i128::from(value)));
            }
        } else {
            let longs = arrow::compute::cast(column, &DataType::Int64)?;
            // The sum of a batch of BIGINTs fits 128 bits.
            let sum: i128 = longs.as_primitive::<Int64Type>().iter().flatten().map(i128::from).sum();
            total = i256::from_i128(sum);
        }
        self.sum = if by > 0 { self.sum.wrapping_add(total) } else { self.sum.wrapping_sub(total) };
        Ok(())
    }
}

impl Accumulator for Wholes {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, 1)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.change(values, -1)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let counts = first(states)?.as_primitive::<Int64Type>();
        let sums = match states.get(1) {
            Some(sums) => sums.as_fixed_size_binary(),
            None => return internal_err!("a saved sum is missing"),
        };
        for row in 0..counts.len() {
            if counts.is_valid(row) && counts.value(row) != 0 {
                self.count += counts.value(row);
                match <[u8; 32]>::try_from(sums.value(row)) {
                    Ok(bytes) => self.sum = self.sum.wrapping_add(i256::from_le_bytes(bytes)),
                    Err(e) => return internal_err!("a saved sum: {e}"),
                }
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let sum = self.sum.to_le_bytes().to_vec();
        Ok(vec![ScalarValue::Int64(Some(self.count)), ScalarValue::FixedSizeBinary(32, Some(sum))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        if self.count == 0 {
            return ScalarValue::try_from(&self.output);
        }
        if let DataType::Decimal128(precision, scale) = self.output {
            let value = match self.mean {
                true => decimal_mean(self.sum, self.count, &self.input, scale),
                false => Some(self.sum),
            };
            let limit = 10i128.pow(u32::from(precision).min(38));
            return match value.and_then(|v| v.to_i128()).filter(|v| v.unsigned_abs() < limit.unsigned_abs()) {
                Some(value) => Ok(ScalarValue::Decimal128(Some(value), precision, scale)),
                None => exec_err!("the result does not fit DECIMAL({precision}, {scale}); CAST the argument to DOUBLE"),
            };
        }
        // Toward zero, as Flink divides integers.
        let value = if self.mean { self.sum.wrapping_div(i256::from_i128(i128::from(self.count))) } else { self.sum };
        let wide = value.to_i128().map(|v| ScalarValue::Decimal128(Some(v), 38, 0));
        match wide.and_then(|v| v.cast_to(&self.output).ok()).filter(|v| !v.is_null()) {
            Some(value) => Ok(value),
            None => exec_err!("SUM overflows {}; use SUM(CAST(x AS BIGINT)) or DECIMAL(38, 0)", sql_name(&self.output)),
        }
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }
}

/// `sum / count` at `scale`, rounded half away from zero.
fn decimal_mean(sum: i256, count: i64, input: &DataType, scale: i8) -> Option<i256> {
    let own = if let DataType::Decimal128(_, own) = input { *own } else { 0 };
    let up = u32::try_from(scale - own).ok()?;
    let scaled = sum.checked_mul(i256::from_i128(10).checked_pow(up)?)?;
    let count = i256::from_i128(i128::from(count));
    let (whole, rest) = (scaled.checked_div(count)?, scaled.checked_rem(count)?);
    let twice = rest.wrapping_abs().checked_mul(i256::from_i128(2))?;
    let away = if scaled.is_negative() { i256::MINUS_ONE } else { i256::ONE };
    Some(if twice >= count { whole.wrapping_add(away) } else { whole })
}

fn sql_name(data_type: &DataType) -> String {
    super::super::cast::sql_type(data_type)
}

/// VAR_POP, VAR_SAMP and their roots, from exact moments. A DECIMAL is worked on as the whole number of its last digit.
#[derive(Debug)]
struct Variance {
    sample: bool,
    root: bool,
    input: DataType,
    moments: Moments,
}

#[derive(Debug)]
enum Moments {
    Floats(ExactMoments),
    Integers(IntegerMoments),
}

impl Moments {
    fn of(input: &DataType) -> Moments {
        match input {
            DataType::Float64 => Moments::Floats(ExactMoments::default()),
            _ => Moments::Integers(IntegerMoments::default()),
        }
    }

    fn change(&mut self, column: &ArrayRef, away: bool) -> Result<()> {
        let moments = match self {
            Moments::Floats(moments) => {
                let values = column.as_primitive::<Float64Type>().iter().flatten();
                values.for_each(|v| if away { moments.subtract(v) } else { moments.add(v) });
                return Ok(());
            }
            Moments::Integers(moments) => moments,
        };
        let mut change = |v: i64| if away { moments.subtract(v) } else { moments.add(v) };
        if !matches!(column.data_type(), DataType::Decimal128(..)) {
            column.as_primitive::<Int64Type>().iter().flatten().for_each(change);
            return Ok(());
        }
        for value in column.as_primitive::<Decimal128Type>().iter().flatten() {
            match i64::try_from(value) {
                Ok(value) => change(value),
                Err(_) => return exec_err!("a DECIMAL of more than 18 digits in VAR or STDDEV; CAST it to DOUBLE"),
            }
        }
        Ok(())
    }

    fn merge(&mut self, saved: &[u8]) -> Option<()> {
        match self {
            Moments::Floats(moments) => moments.merge(&ExactMoments::from_bytes(saved)?),
            Moments::Integers(moments) => moments.merge(&IntegerMoments::from_bytes(saved)?),
        }
        Some(())
    }
}

impl Accumulator for Variance {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.moments.change(first(values)?, false)
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.moments.change(first(values)?, true)
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for saved in first(states)?.as_binary::<i32>().iter().flatten() {
            if self.moments.merge(saved).is_none() {
                return internal_err!("a saved variance of {} bytes is damaged", saved.len());
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let bytes = match &self.moments {
            Moments::Floats(moments) => moments.to_bytes(),
            Moments::Integers(moments) => moments.to_bytes(),
        };
        Ok(vec![ScalarValue::Binary(Some(bytes))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let unit = match self.input {
            DataType::Decimal128(_, scale) => 10f64.powi(-i32::from(scale)),
            _ => 1.0,
        };
        let variance = match &self.moments {
            Moments::Floats(moments) => moments.variance(self.sample),
            Moments::Integers(moments) => moments.variance(self.sample, unit),
        };
        Ok(ScalarValue::Float64(if self.root { variance.map(f64::sqrt) } else { variance }))
    }

    fn size(&self) -> usize {
        let held = match &self.moments {
            Moments::Floats(moments) => moments.bytes(),
            Moments::Integers(_) => 0,
        };
        size_of_val(self) + held
    }
}

/// An aggregate over the distinct values of its argument.
#[derive(Debug)]
pub(super) struct Distinct {
    inner: Box<dyn Accumulator>,
    input: DataType,
    seen: HashSet<ScalarValue>,
    bytes: usize,
}

impl Distinct {
    pub(super) fn new(inner: Box<dyn Accumulator>, input: DataType) -> Distinct {
        Distinct { inner, input, seen: HashSet::new(), bytes: 0 }
    }

    fn take(&mut self, column: &ArrayRef) -> Result<()> {
        let mut fresh = Vec::with_capacity(column.len());
        for row in 0..column.len() {
            let new = column.is_valid(row) && {
                let value = ScalarValue::try_from_array(column, row)?;
                let size = value.size();
                let new = self.seen.insert(value);
                self.bytes += if new { size } else { 0 };
                new
            };
            fresh.push(new);
        }
        let fresh = arrow::compute::filter(column, &BooleanArray::from(fresh))?;
        self.inner.update_batch(&[fresh])
    }
}

impl Accumulator for Distinct {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.take(&first(values)?.clone())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let lists = first(states)?.as_list::<i32>();
        for row in (0..lists.len()).filter(|row| lists.is_valid(*row)) {
            self.take(&lists.value(row))?;
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let values: Vec<ScalarValue> = self.seen.iter().cloned().collect();
        Ok(vec![ScalarValue::List(ScalarValue::new_list_nullable(&values, &self.input))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        self.inner.evaluate()
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.inner.size() + self.bytes
    }
}
