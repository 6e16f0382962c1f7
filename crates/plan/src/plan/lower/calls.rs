//! DataFusion's aggregate calls to ours.

use super::{Lowering, literal};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{Column as LogicalColumn, DFSchema, ScalarValue};
use datafusion_expr::expr::{AggregateFunction as LogicalCall, AggregateFunctionParams};
use datafusion_expr::{AggregateUDF, Expr as Logical, SortExpr};
use datafusion_physical_expr::aggregate::LoweredAggregateBuilder;
use millstream_core::{Error, Result};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{AggregateCall, AggregateFunction};
use std::sync::Arc;

/// An aggregate call whose arguments have no columns yet.
pub struct CallSpec {
    /// `None`: a kernel of DataFusion's, made once the arguments have columns.
    pub function: Option<AggregateFunction>,
    pub udf: Arc<AggregateUDF>,
    pub args: Vec<Logical>,
    pub distinct: bool,
    pub filter: Option<Logical>,
    pub ignore_nulls: bool,
    pub result: Field,
}

/// Whether the result depends on the order of the rows.
pub fn is_ordered_aggregate(e: &Logical) -> bool {
    match e {
        Logical::Alias(a) => is_ordered_aggregate(&a.expr),
        Logical::AggregateFunction(f) => is_ordered(&f.func),
        _ => false,
    }
}

pub fn is_ordered(f: &AggregateUDF) -> bool {
    matches!(f.name(), "first_value" | "last_value" | "string_agg" | "listagg" | "array_agg")
}

impl CallSpec {
    /// The spec with its result named as one would write the call: `sum(price)`.
    pub fn named(mut self, args: &[usize], filter: Option<usize>, columns: &[Expr]) -> CallSpec {
        let args: Vec<&str> = args.iter().map(|i| columns[*i].sql.as_str()).collect();
        let mut args = if args.is_empty() { "*".into() } else { args.join(", ") };
        match &self.function {
            Some(AggregateFunction::ListAgg { separator }) => args.push_str(&format!(", '{separator}'")),
            Some(AggregateFunction::ApproxPercentile { fraction }) => args.push_str(&format!(", {fraction}")),
            _ => {}
        }
        let distinct = if self.distinct { "DISTINCT " } else { "" };
        let filter = filter.map(|i| format!(" FILTER (WHERE {})", columns[i].sql)).unwrap_or_default();
        self.result = self.result.with_name(format!("{}({distinct}{args}){filter}", self.udf.name()));
        self
    }
}

impl Lowering<'_, '_> {
    /// `time`: whether a column is the time attribute that the rows are ordered by anyway.
    pub fn call_spec(&self, e: &Logical, result: &Field, time: &dyn Fn(&Logical) -> bool) -> Result<CallSpec> {
        match e {
            Logical::Alias(a) => self.call_spec(&a.expr, result, time),
            Logical::AggregateFunction(LogicalCall { func, params }) => {
                let AggregateFunctionParams { args, distinct, filter, order_by, null_treatment } = params;
                let ignore_nulls = matches!(null_treatment, Some(datafusion_expr::expr::NullTreatment::IgnoreNulls));
                let filter = filter.as_deref().cloned();
                self.call_parts(func, args, *distinct, filter, order_by, ignore_nulls, result, time)
            }
            other => Err(Error::internal(format!("no aggregate call: {other}"))),
        }
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "one call, whose arguments are the parts of one thing; a struct would only rename them"
    )]
    pub fn call_parts(
        &self,
        udf: &Arc<AggregateUDF>,
        args: &[Logical],
        distinct: bool,
        filter: Option<Logical>,
        order_by: &[SortExpr],
        ignore_nulls: bool,
        result: &Field,
        time: &dyn Fn(&Logical) -> bool,
    ) -> Result<CallSpec> {
        let name = udf.name();
        let in_order = order_by.iter().all(|s| s.asc && time(&s.expr));
        let percentile = matches!(name, "approx_percentile_cont" | "approx_percentile");
        if !in_order && !percentile {
            return Err(Error::sql(format!("{name} with an ORDER BY of its own is not there yet"))
                .remedy("leave it out: rows come in the order of their event time"));
        }
        if name == "nth_value" {
            return Err(Error::sql("NTH_VALUE as an aggregate is not there yet")
                .remedy("use FIRST_VALUE or LAST_VALUE, or ARRAY_AGG(x)[n]"));
        }
        let mut args = args.to_vec();
        let mut filter = filter;
        // FIRST_VALUE and LAST_VALUE leave NULLs out by themselves, and so does LISTAGG.
        let by_itself = name != "array_agg";
        if let (true, true, false, Some(value)) = (ignore_nulls, is_ordered(udf), by_itself, args.first()) {
            let known = value.clone().is_not_null();
            filter = Some(filter.map_or(known.clone(), |f| f.and(known)));
        }
        let ignore_nulls = ignore_nulls && !is_ordered(udf);
        let function = match (name, args.len()) {
            ("count", _) if args.iter().all(|a| literal(a).is_some_and(|v| !v.is_null())) && !distinct => {
                args.clear();
                Some(AggregateFunction::Count)
            }
            ("count", 1) => Some(AggregateFunction::Count),
            ("sum", 1) => Some(AggregateFunction::Sum),
            ("avg", 1) => Some(AggregateFunction::Avg),
            ("min", 1) => Some(AggregateFunction::Min),
            ("max", 1) => Some(AggregateFunction::Max),
            ("var_pop", 1) => Some(AggregateFunction::VarPop),
            ("var" | "var_samp", 1) => Some(AggregateFunction::VarSamp),
            ("stddev_pop", 1) => Some(AggregateFunction::StddevPop),
            ("stddev" | "stddev_samp", 1) => Some(AggregateFunction::StddevSamp),
            ("first_value", 1) => Some(AggregateFunction::FirstValue),
            ("last_value", 1) => Some(AggregateFunction::LastValue),
            ("array_agg", 1) => Some(AggregateFunction::ArrayAgg),
            ("collect", 1) => Some(AggregateFunction::Collect),
            ("string_agg" | "listagg", 1 | 2) => {
                let separator = match args.get(1) {
                    None => ",".to_string(),
                    Some(s) => text(s).ok_or_else(|| {
                        Error::sql("the separator of LISTAGG is not a text").remedy("write LISTAGG(x, ', ')")
                    })?,
                };
                args.truncate(1);
                Some(AggregateFunction::ListAgg { separator })
            }
            ("approx_distinct" | "approx_count_distinct", 1) => Some(AggregateFunction::ApproxCountDistinct),
            ("approx_median", 1) => Some(AggregateFunction::ApproxPercentile { fraction: 0.5 }),
            ("approx_percentile_cont" | "approx_percentile", 2 | 3) => {
                let fraction = literal(&args[1]).and_then(number).filter(|f| (0.0..=1.0).contains(f));
                let Some(mut fraction) = fraction else {
                    return Err(Error::sql("the fraction of APPROX_PERCENTILE is no number from 0 to 1")
                        .remedy("write APPROX_PERCENTILE(x, 0.95)"));
                };
                if order_by.first().is_some_and(|s| !s.asc) {
                    fraction = 1.0 - fraction;
                }
                args.truncate(1);
                Some(AggregateFunction::ApproxPercentile { fraction })
            }
            _ => None,
        };
        // MIN and MAX of distinct values are those of all values.
        let distinct = distinct && !matches!(function, Some(AggregateFunction::Min | AggregateFunction::Max));
        Ok(CallSpec { function, udf: udf.clone(), args, distinct, filter, ignore_nulls, result: result.clone() })
    }

    /// The call over columns of `input`. Its arguments stand at `args`.
    pub fn call(
        &self,
        spec: CallSpec,
        input: &Schema,
        args: Vec<usize>,
        filter: Option<usize>,
    ) -> Result<AggregateCall> {
        let function = match spec.function {
            Some(f) => f,
            None => {
                // By index, since names may repeat.
                let fields: Vec<Field> = input
                    .fields()
                    .iter()
                    .enumerate()
                    .map(|(i, f)| f.as_ref().clone().with_name(format!("c{i}")))
                    .collect();
                let renamed = Schema::new(fields);
                let schema = DFSchema::try_from(renamed.clone()).map_err(|e| self.compiler.fail(e))?;
                let of = |(e, i): (&Logical, &usize)| match literal(e) {
                    // Some kernels read a constant, such as a fraction, when they are made.
                    Some(_) => e.clone(),
                    None => Logical::Column(LogicalColumn::from_name(format!("c{i}"))),
                };
                let null_treatment = spec.ignore_nulls.then_some(datafusion_expr::expr::NullTreatment::IgnoreNulls);
                let call = Logical::AggregateFunction(LogicalCall::new_udf(
                    spec.udf.clone(),
                    spec.args.iter().zip(&args).map(of).collect(),
                    // Who runs the kernel hands it each distinct value once.
                    false,
                    None,
                    Vec::new(),
                    null_treatment,
                ));
                let (props, context) = (&self.compiler.props, &self.compiler.context);
                let lowered = LoweredAggregateBuilder::new(&call, &schema, &renamed, props, context)
                    .with_name(spec.result.name())
                    .build()
                    .map_err(|e| self.compiler.fail(e))?;
                AggregateFunction::Kernel(lowered.aggregate)
            }
        };
        Ok(AggregateCall { function, args, distinct: spec.distinct, filter, result: spec.result })
    }
}

fn text(e: &Logical) -> Option<String> {
    match literal(e)? {
        ScalarValue::Utf8(Some(s)) | ScalarValue::LargeUtf8(Some(s)) | ScalarValue::Utf8View(Some(s)) => {
            Some(s.clone())
        }
        _ => None,
    }
}

fn number(v: &ScalarValue) -> Option<f64> {
    match v.cast_to(&DataType::Float64).ok()? {
        ScalarValue::Float64(f) => f,
        _ => None,
    }
}
