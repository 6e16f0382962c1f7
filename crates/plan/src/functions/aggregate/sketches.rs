//! APPROX_COUNT_DISTINCT, APPROX_PERCENTILE and APPROX_MEDIAN, from the sketches of the streaming operators.
//!
//! Names, types and syntax are DataFusion's. Its own accumulators (another HyperLogLog, and a t-digest, which depends
//! on the order of the rows) give way, so that batch mode answers with the bits of streaming.

use super::numbers::{Distinct as OfDistinct, first};
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type, Schema};
use datafusion_common::{Result, ScalarValue, internal_err, plan_err};
use datafusion_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion_expr::utils::format_state_name;
use datafusion_expr::{Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Signature};
use datafusion_functions_aggregate::approx_distinct::approx_distinct_udaf;
use datafusion_functions_aggregate::approx_median::approx_median_udaf;
use datafusion_functions_aggregate::approx_percentile_cont::approx_percentile_cont_udaf;
use datafusion_physical_expr::PhysicalExpr;
use millstream_core::key;
use millstream_dataflow::sketch::{CountedDistinct, Distinct, Quantiles};
use std::sync::Arc;

pub(super) fn functions() -> Vec<AggregateUDF> {
    let sketch = |name, what, of, aliases: &[&str]| {
        let aliases = aliases.iter().map(|a| a.to_string()).collect();
        AggregateUDF::new_from_impl(Sketch { name, what, of, aliases })
    };
    vec![
        sketch("approx_distinct", What::Distinct, approx_distinct_udaf(), &["approx_count_distinct"]),
        sketch("approx_percentile", What::Percentile { within_group: false }, approx_percentile_cont_udaf(), &[]),
        sketch("approx_percentile_cont", What::Percentile { within_group: true }, approx_percentile_cont_udaf(), &[]),
        sketch("approx_median", What::Median, approx_median_udaf(), &[]),
    ]
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum What {
    Distinct,
    /// The fraction is the second argument.
    Percentile {
        within_group: bool,
    },
    Median,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Sketch {
    name: &'static str,
    what: What,
    /// Whose signature and types it has.
    of: Arc<AggregateUDF>,
    aliases: Vec<String>,
}

impl AggregateUDFImpl for Sketch {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        self.of.signature()
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        self.of.return_type(given)
    }

    fn is_nullable(&self) -> bool {
        self.of.is_nullable()
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.of.default_value(data_type)
    }

    fn supports_within_group_clause(&self) -> bool {
        matches!(self.what, What::Percentile { within_group: true })
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        let field = |name: &str, data_type| Arc::new(Field::new(format_state_name(args.name, name), data_type, true));
        if args.is_distinct && self.what != What::Distinct {
            let input = args.input_fields.first().map(|f| f.data_type().clone()).unwrap_or(DataType::Null);
            return Ok(vec![field("values", DataType::new_list(input, true))]);
        }
        Ok(vec![field("sketch", DataType::Binary)])
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let output = args.return_field.data_type().clone();
        if self.what == What::Distinct {
            return Ok(Box::new(Counts { sketch: Distinct::default(), output, hashes: Vec::new() }));
        }
        let fraction = match self.what {
            What::Median => 0.5,
            _ => self.fraction(&args)?,
        };
        let inner = Box::new(Percentiles { fraction, output, sketch: Quantiles::default() });
        match args.expr_fields.first() {
            Some(input) if args.is_distinct => Ok(Box::new(OfDistinct::new(inner, input.data_type().clone()))),
            _ => Ok(inner),
        }
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        if self.what == What::Distinct {
            let output = args.return_field.data_type().clone();
            return Ok(Box::new(Counts { sketch: CountedDistinct::default(), output, hashes: Vec::new() }));
        }
        self.accumulator(args)
    }
}

impl Sketch {
    fn fraction(&self, args: &AccumulatorArgs) -> Result<f64> {
        let fraction = args.exprs.get(1).and_then(constant).filter(|f| (0.0..=1.0).contains(f));
        let Some(fraction) = fraction else {
            return plan_err!("{}: the fraction is a constant from 0 to 1", self.name.to_uppercase());
        };
        let descending = args.order_bys.first().is_some_and(|s| s.options.descending);
        Ok(if descending { 1.0 - fraction } else { fraction })
    }
}

/// The number that an expression without columns is.
fn constant(e: &Arc<dyn PhysicalExpr>) -> Option<f64> {
    let none = RecordBatch::new_empty(Arc::new(Schema::empty()));
    match e.evaluate(&none).ok()? {
        ColumnarValue::Scalar(value) => match value.cast_to(&DataType::Float64).ok()? {
            ScalarValue::Float64(number) => number,
            _ => None,
        },
        ColumnarValue::Array(_) => None,
    }
}

/// The saved sketches of a merge.
fn saved(states: &[ArrayRef]) -> Result<impl Iterator<Item = &[u8]>> {
    Ok(first(states)?.as_binary::<i32>().iter().flatten())
}

#[derive(Debug)]
struct Percentiles {
    fraction: f64,
    output: DataType,
    sketch: Quantiles,
}

impl Percentiles {
    fn each(values: &[ArrayRef], mut act: impl FnMut(f64)) -> Result<()> {
        let values = arrow::compute::cast(first(values)?, &DataType::Float64)?;
        values.as_primitive::<Float64Type>().iter().flatten().for_each(&mut act);
        Ok(())
    }
}

impl Accumulator for Percentiles {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Percentiles::each(values, |v| self.sketch.add(v))
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        Percentiles::each(values, |v| self.sketch.remove(v))
    }

    fn supports_retract_batch(&self) -> bool {
        true
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in saved(states)? {
            match Quantiles::from_bytes(bytes) {
                Some(sketch) => self.sketch.merge(&sketch),
                None => return internal_err!("a saved percentile of {} bytes is damaged", bytes.len()),
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Binary(Some(self.sketch.to_bytes()))])
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::Float64(self.sketch.quantile(self.fraction)).cast_to(&self.output)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.bytes()
    }
}

/// What differs between counting for good and counting in a frame.
trait Counting: std::fmt::Debug + Send + Sync {
    /// Whether values can be taken away.
    const RETRACTS: bool;

    fn add(&mut self, hash: u64);
    /// `None`: nothing can be taken away.
    fn remove(&mut self, hash: u64) -> Option<()>;
    fn estimate(&self) -> i64;
    fn bytes(&self) -> usize;
    /// `None`: it is not made to be merged.
    fn save(&self) -> Option<Vec<u8>>;
    fn merge(&mut self, saved: &[u8]) -> Option<()>;
}

impl Counting for Distinct {
    const RETRACTS: bool = false;

    fn add(&mut self, hash: u64) {
        Distinct::add(self, hash);
    }

    fn remove(&mut self, _: u64) -> Option<()> {
        None
    }

    fn estimate(&self) -> i64 {
        Distinct::estimate(self)
    }

    fn bytes(&self) -> usize {
        Distinct::bytes(self)
    }

    fn save(&self) -> Option<Vec<u8>> {
        Some(self.to_bytes())
    }

    fn merge(&mut self, saved: &[u8]) -> Option<()> {
        Distinct::from_bytes(saved).map(|other| Distinct::merge(self, &other))
    }
}

impl Counting for CountedDistinct {
    const RETRACTS: bool = true;

    fn add(&mut self, hash: u64) {
        CountedDistinct::add(self, hash);
    }

    fn remove(&mut self, hash: u64) -> Option<()> {
        CountedDistinct::remove(self, hash);
        Some(())
    }

    fn estimate(&self) -> i64 {
        CountedDistinct::estimate(self)
    }

    fn bytes(&self) -> usize {
        CountedDistinct::bytes(self)
    }

    fn save(&self) -> Option<Vec<u8>> {
        None
    }

    fn merge(&mut self, _: &[u8]) -> Option<()> {
        None
    }
}

#[derive(Debug)]
struct Counts<S> {
    sketch: S,
    output: DataType,
    hashes: Vec<u64>,
}

impl<S: Counting> Counts<S> {
    fn each(&mut self, values: &[ArrayRef], mut act: impl FnMut(&mut S, u64) -> Option<()>) -> Result<()> {
        let column = first(values)?;
        key::hash_rows(std::slice::from_ref(column), column.len(), &mut self.hashes)?;
        let nulls = column.logical_nulls();
        for (row, hash) in self.hashes.iter().enumerate() {
            if nulls.as_ref().is_none_or(|n| n.is_valid(row)) && act(&mut self.sketch, *hash).is_none() {
                return internal_err!("no value can be taken away from this sketch");
            }
        }
        Ok(())
    }
}

impl<S: Counting + 'static> Accumulator for Counts<S> {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(values, |sketch, hash| {
            sketch.add(hash);
            Some(())
        })
    }

    fn retract_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.each(values, |sketch, hash| sketch.remove(hash))
    }

    fn supports_retract_batch(&self) -> bool {
        S::RETRACTS
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for bytes in saved(states)? {
            if self.sketch.merge(bytes).is_none() {
                return internal_err!("a saved count of {} bytes is damaged", bytes.len());
            }
        }
        Ok(())
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        match self.sketch.save() {
            Some(bytes) => Ok(vec![ScalarValue::Binary(Some(bytes))]),
            None => internal_err!("the count of a frame is not made to be merged"),
        }
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        ScalarValue::Int64(Some(self.sketch.estimate())).cast_to(&self.output)
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.sketch.bytes() + self.hashes.capacity() * size_of::<u64>()
    }
}
