//! Which accumulator computes which call, by the types of its arguments.

use super::frame::{Argument, Call, call};
use super::numbers::{Count, DecimalMoments, DecimalTotals, FloatMoments, FloatTotals, Rank, Spread, WordTotals};
use super::sketches::{DistinctSketches, Hashed, QuantileSketches};
use super::values::{Anew, CountDistinct, Distinct, Ends, Extreme, Extremes, Foreign, Function, Lag, explain};
use super::words::{Bytes, Decimals, Floats, Nothing, Nullable, OrderedFloats, Scalars, Words};
use crate::graph::{AggregateCall, AggregateFunction, Frame, OverCall, OverFunction};
use crate::multiset::collected;
use arrow::array::{Array, ArrayRef, AsArray, ListArray, new_empty_array};
use arrow::buffer::OffsetBuffer;
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::ScalarValue;
use millstream_core::{Error, Millis, Result};
use millstream_state::exact::IntegerMoments;
use std::sync::Arc;

/// How far the bounded RANGE frame of a call reaches back, if it has one.
pub(super) fn bounded_range(call: &OverCall) -> Option<Millis> {
    match (&call.function, call.frame) {
        (OverFunction::Aggregate(_), Frame::Range { preceding }) => preceding,
        _ => None,
    }
}

/// The machine that answers a call. `time` is the column that ranks go by.
pub(super) fn build(spec: &OverCall, input: &SchemaRef, time: usize) -> Result<Box<dyn Call>> {
    let beginning = Frame::Rows { preceding: None };
    let nothing = || Argument { columns: Vec::new(), filter: None, keep_nulls: false };
    Ok(match &spec.function {
        OverFunction::Aggregate(aggregate) => return build_aggregate(aggregate, spec.frame, input),
        OverFunction::RowNumber { result } => {
            call(Count::default(), Nothing, Words(result.data_type().clone()), nothing(), beginning)
        }
        OverFunction::Rank { result } | OverFunction::DenseRank { result } => {
            let dense = matches!(spec.function, OverFunction::DenseRank { .. });
            let times = Argument { columns: vec![time], ..nothing() };
            let from = Words(input.field(time).data_type().clone());
            call(Rank::new(dense), from, Words(result.data_type().clone()), times, beginning)
        }
        OverFunction::Lag { arg, offset, result } => {
            let values = Argument { columns: vec![*arg], filter: None, keep_nulls: true };
            let kind = input.field(*arg).data_type();
            if Words::fit(kind) && kind == result.data_type() {
                call(Lag::new(*offset), Nullable(Words(kind.clone())), Words(kind.clone()), values, beginning)
            } else {
                let (read, write) = (Bytes::new(std::slice::from_ref(kind))?, Bytes::new(std::slice::from_ref(kind))?);
                call(Lag::new(*offset), Nullable(read), write, values, beginning)
            }
        }
    })
}

fn build_aggregate(spec: &AggregateCall, frame: Frame, input: &SchemaRef) -> Result<Box<dyn Call>> {
    use AggregateFunction::*;
    let kinds: Vec<DataType> = spec.args.iter().map(|a| input.field(*a).data_type().clone()).collect();
    let keep_nulls = matches!(spec.function, ArrayAgg | Kernel(_));
    let argument = Argument { columns: spec.args.clone(), filter: spec.filter, keep_nulls };
    let build = Build { spec, frame, kinds, argument };
    match &spec.function {
        Count => build.count(),
        ApproxCountDistinct => build.approx_count_distinct(),
        Sum | Avg => build.total(matches!(spec.function, Avg)),
        Min => build.extreme::<false>(),
        Max => build.extreme::<true>(),
        FirstValue => build.end(false),
        LastValue => build.end(true),
        VarPop => build.spread(false, false),
        VarSamp => build.spread(true, false),
        StddevPop => build.spread(false, true),
        StddevSamp => build.spread(true, true),
        ListAgg { separator } => build.list(separator.clone()),
        ArrayAgg => build.array(),
        Collect => build.collect(),
        ApproxPercentile { fraction } => build.percentile(*fraction),
        Kernel(function) => {
            // One that cannot take rows back says so when it is asked for.
            let retracts = || function.create_sliding_accumulator().is_ok_and(|k| k.supports_retract_batch());
            if bounded(frame) && !retracts() {
                let kernel = function.clone();
                let mut nothing = function.create_accumulator().map_err(explain)?;
                let of_nothing = nothing.evaluate().map_err(explain)?;
                return build.anew_or(of_nothing, move |columns| {
                    let mut accumulator = kernel.create_accumulator().map_err(explain)?;
                    accumulator.update_batch(columns).map_err(explain)?;
                    accumulator.evaluate().map_err(explain)
                });
            }
            let result = Scalars(spec.result.data_type().clone());
            let foreign = Foreign::new(function.clone(), Bytes::new(&build.kinds)?, bounded(frame))?;
            Ok(call(foreign, Bytes::new(&build.kinds)?, result, build.argument, frame))
        }
    }
}

fn bounded(frame: Frame) -> bool {
    match frame {
        Frame::Range { preceding } => preceding.is_some(),
        Frame::Rows { preceding } => preceding.is_some(),
    }
}

struct Build<'a> {
    spec: &'a AggregateCall,
    frame: Frame,
    kinds: Vec<DataType>,
    argument: Argument,
}

impl Build<'_> {
    fn result(&self) -> DataType {
        self.spec.result.data_type().clone()
    }

    fn kind(&self) -> Result<&DataType> {
        self.kinds.first().ok_or_else(|| Error::internal(format!("{:?} without an argument", self.spec.function)))
    }

    /// `SUM(price)`, for messages.
    fn name(&self) -> String {
        format!("`{}`", self.spec.result.name())
    }

    fn unfit(&self, kind: &DataType) -> Error {
        Error::sql(format!("{} over an argument of type {kind} is not possible", self.name()))
            .remedy("CAST the argument to a number")
    }

    fn count(self) -> Result<Box<dyn Call>> {
        if self.spec.distinct {
            return self.count_distinct();
        }
        let result = Words(self.result());
        Ok(call(Count::default(), Nothing, result, self.argument, self.frame))
    }

    /// The frame's values are there, and the count could be exact; but a window has the sketch, and both must agree.
    fn approx_count_distinct(self) -> Result<Box<dyn Call>> {
        let (result, kinds) = (Words(self.result()), self.kinds.clone());
        macro_rules! sketch {
            ($input:expr) => {
                call(DistinctSketches::default(), Hashed($input), result, self.argument, self.frame)
            };
        }
        Ok(match kinds.as_slice() {
            [kind] if Words::fit(kind) => sketch!(Words(kind.clone())),
            [kind @ (DataType::Float32 | DataType::Float64)] => sketch!(OrderedFloats(kind.clone())),
            many => sketch!(Bytes::new(many)?),
        })
    }

    fn count_distinct(self) -> Result<Box<dyn Call>> {
        let (result, kinds) = (Words(self.result()), self.kinds.clone());
        Ok(match kinds.as_slice() {
            [kind] if Words::fit(kind) => {
                call(CountDistinct::default(), Words(kind.clone()), result, self.argument, self.frame)
            }
            [kind @ (DataType::Float32 | DataType::Float64)] => {
                call(CountDistinct::default(), OrderedFloats(kind.clone()), result, self.argument, self.frame)
            }
            many => call(CountDistinct::default(), Bytes::new(many)?, result, self.argument, self.frame),
        })
    }

    fn total(self, average: bool) -> Result<Box<dyn Call>> {
        let (kind, result, name) = (self.kind()?.clone(), self.result(), self.name());
        let distinct = self.spec.distinct;
        macro_rules! total {
            ($totals:expr, $input:expr, $output:expr) => {
                if distinct {
                    call(Distinct::new($totals), $input, $output, self.argument, self.frame)
                } else {
                    call($totals, $input, $output, self.argument, self.frame)
                }
            };
        }
        Ok(match (&kind, &result) {
            (DataType::Float32 | DataType::Float64, DataType::Float32 | DataType::Float64) => {
                total!(FloatTotals::new(average), Floats(kind), Floats(result))
            }
            (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) if average && to >= from => {
                let totals = DecimalTotals::average(*precision, *from, *to, name);
                total!(totals, Decimals(38, *from), Decimals(*precision, *to))
            }
            (DataType::Decimal128(_, from), DataType::Decimal128(precision, to)) if !average && from == to => {
                total!(DecimalTotals::sum(*precision, name), Decimals(38, *from), Decimals(*precision, *to))
            }
            (number, whole) if number.is_integer() && Words::fit(number) && whole.is_integer() && Words::fit(whole) => {
                let totals = WordTotals::new(average, &result, name);
                total!(totals, Words(kind), Words(result))
            }
            (kind, _) => return Err(self.unfit(kind)),
        })
    }

    fn extreme<const MAX: bool>(self) -> Result<Box<dyn Call>> {
        let (kind, frame) = (self.kind()?.clone(), self.frame);
        macro_rules! extreme {
            ($codec:expr) => {
                if bounded(frame) {
                    call(Extremes::<_, MAX>::default(), $codec, $codec, self.argument, frame)
                } else {
                    call(Extreme::<_, MAX>::default(), $codec, $codec, self.argument, frame)
                }
            };
        }
        Ok(match kind {
            DataType::Float32 | DataType::Float64 => extreme!(OrderedFloats(kind.clone())),
            DataType::Decimal128(precision, scale) => extreme!(Decimals(precision, scale)),
            _ if Words::fit(&kind) => extreme!(Words(kind.clone())),
            _ => extreme!(Bytes::new(std::slice::from_ref(&kind))?),
        })
    }

    fn end(self, last: bool) -> Result<Box<dyn Call>> {
        let (kind, frame) = (self.kind()?.clone(), self.frame);
        let endless = !bounded(frame);
        Ok(if Words::fit(&kind) {
            call(Ends::new(last, endless), Nullable(Words(kind.clone())), Words(kind), self.argument, frame)
        } else {
            let (read, write) = (Bytes::new(std::slice::from_ref(&kind))?, Bytes::new(std::slice::from_ref(&kind))?);
            call(Ends::new(last, endless), Nullable(read), write, self.argument, frame)
        })
    }

    /// Computed anew for each row; NULL without a value.
    fn anew(self, function: impl Fn(&[ArrayRef]) -> Result<ScalarValue> + Send + 'static) -> Result<Box<dyn Call>> {
        let of_nothing = ScalarValue::try_from(self.spec.result.data_type()).map_err(explain)?;
        self.anew_or(of_nothing, function)
    }

    fn anew_or(
        self,
        of_nothing: ScalarValue,
        function: impl Fn(&[ArrayRef]) -> Result<ScalarValue> + Send + 'static,
    ) -> Result<Box<dyn Call>> {
        let (result, function): (_, Function) = (self.result(), Box::new(function));
        let anew = Anew::new(Bytes::new(&self.kinds)?, function, of_nothing, self.spec.distinct);
        Ok(call(anew, Bytes::new(&self.kinds)?, Scalars(result), self.argument, self.frame))
    }

    fn spread(self, sample: bool, root: bool) -> Result<Box<dyn Call>> {
        let (kind, result) = (self.kind()?.clone(), Floats(self.result()));
        macro_rules! spread {
            ($moments:ty, $unit:expr, $input:expr) => {{
                let spread = Spread::<$moments>::new(sample, root, $unit);
                if self.spec.distinct {
                    call(Distinct::new(spread), $input, result, self.argument, self.frame)
                } else {
                    call(spread, $input, result, self.argument, self.frame)
                }
            }};
        }
        Ok(match kind {
            DataType::Float32 | DataType::Float64 => spread!(FloatMoments, 1.0, Floats(kind)),
            DataType::Decimal128(precision, scale) => {
                spread!(DecimalMoments, 10f64.powi(-i32::from(scale)), Decimals(precision, scale))
            }
            _ if kind.is_integer() && Words::fit(&kind) => spread!(IntegerMoments, 1.0, Words(kind)),
            _ => return Err(self.unfit(&kind)),
        })
    }

    fn list(self, separator: String) -> Result<Box<dyn Call>> {
        let result = self.result();
        self.anew(move |columns| {
            let texts = cast(&columns[0], &DataType::Utf8)?;
            let texts: Vec<&str> = texts.as_string::<i32>().iter().flatten().collect();
            ScalarValue::Utf8(Some(texts.join(&separator))).cast_to(&result).map_err(explain)
        })
    }

    fn array(self) -> Result<Box<dyn Call>> {
        let result = self.result();
        let DataType::List(item) = result.clone() else {
            return Err(Error::internal(format!("ARRAY_AGG with a result of type {result}")));
        };
        self.anew(move |columns| {
            let values = cast(&columns[0], item.data_type())?;
            let offsets = OffsetBuffer::from_lengths([values.len()]);
            Ok(ScalarValue::List(Arc::new(ListArray::try_new(item.clone(), offsets, values, None)?)))
        })
    }

    fn collect(self) -> Result<Box<dyn Call>> {
        let (kind, multiset, once) = (self.kind()?.clone(), self.result(), self.spec.distinct);
        let of_column = {
            let multiset = multiset.clone();
            move |column: &ArrayRef| {
                let collected = collected(column, once, &multiset)?;
                ScalarValue::try_from_array(&collected, 0).map_err(explain)
            }
        };
        let of_nothing = of_column(&new_empty_array(&kind))?;
        self.anew_or(of_nothing, move |columns| of_column(&columns[0]))
    }

    fn percentile(self, fraction: f64) -> Result<Box<dyn Call>> {
        let (kind, result) = (self.kind()?.clone(), Floats(self.result()));
        if !kind.is_numeric() {
            return Err(self.unfit(&kind));
        }
        let quantiles = QuantileSketches::new(fraction);
        Ok(if self.spec.distinct {
            call(Distinct::new(quantiles), Floats(kind), result, self.argument, self.frame)
        } else {
            call(quantiles, Floats(kind), result, self.argument, self.frame)
        })
    }
}
