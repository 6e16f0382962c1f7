//! Window table functions as plain relational plans.
//!
//! ```text
//!  TUMBLE, HOP, CUMULATE   each row with the list of its windows' ends, unnested; starts follow from the ends
//!  SESSION                 a row that comes more than the gap after the one before it opens a session; a running sum
//!                          of these openings numbers the sessions, whose first and last time bound them
//! ```
//!
//! Written on purpose in another way than the streaming operators, whose results it judges.

use arrow::array::{
    Array, ArrayRef, AsArray, Int64Array, ListBuilder, TimestampMillisecondArray, TimestampMillisecondBuilder,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, TimeUnit, TimestampMillisecondType};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Result, ScalarValue};
use datafusion_expr::expr::WindowFunctionParams;
use datafusion_expr::{
    ColumnarValue, Expr, ExprFunctionExt, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, WindowFunctionDefinition, col, lit, when,
};
use millstream_core::Millis;
use millstream_dataflow::zone::Zone;
use millstream_plan::plan::window::{WindowKind, WindowTvf};
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Replaces every window table function of `plan`. Windows over `TIMESTAMP_LTZ` are cut in `zone`.
pub fn lower(plan: LogicalPlan, zone: &str) -> Result<LogicalPlan> {
    let lowered = plan.transform_up(|node| {
        let LogicalPlan::Extension(extension) = &node else { return Ok(Transformed::no(node)) };
        match extension.node.as_any().downcast_ref::<WindowTvf>() {
            Some(tvf) => Ok(Transformed::yes(window(tvf, zone)?)),
            None => Ok(Transformed::no(node)),
        }
    })?;
    Ok(lowered.data)
}

fn window(tvf: &WindowTvf, zone: &str) -> Result<LogicalPlan> {
    let input = tvf.input.as_ref().clone();
    let columns: Vec<Expr> = input.schema().columns().into_iter().map(Expr::Column).collect();
    let zoned = matches!(tvf.schema.fields().last().map(|f| f.data_type()), Some(DataType::Timestamp(_, Some(_))));
    let cut =
        |step: Step| Cut { kind: tvf.kind, zone: if zoned { zone.to_owned() } else { "UTC".to_owned() }, zoned, step };
    let call = |step: Step, args: Vec<Expr>| ScalarUDF::new_from_impl(cut(step)).call(args);
    let outer = |plan: LogicalPlanBuilder, start: Expr, end: Expr| -> Result<LogicalPlan> {
        let mut all = columns.clone();
        all.push(start.alias(&tvf.names[0]));
        all.push(end.clone().alias(&tvf.names[1]));
        all.push(call(Step::Time, vec![end]).alias(&tvf.names[2]));
        plan.project(all)?.build()
    };
    let with = |name: &str, expr: Expr| columns.iter().cloned().chain([expr.alias(name)]).collect::<Vec<_>>();
    match tvf.kind {
        WindowKind::Session { gap } => {
            let local = call(Step::Local, vec![tvf.time.clone()]);
            let plan = LogicalPlanBuilder::from(input).project(with("$at", local))?;
            let at = || col("$at");
            let order = || vec![at().sort(true, false)];
            let before = datafusion_functions_window::lead_lag::lag(at(), Some(1), None)
                .partition_by(tvf.partition.clone())
                .order_by(order())
                .build()?
                .alias("$before");
            let plan = windowed(plan, before)?;
            let opens = when(col("$before").is_null().or((at() - col("$before")).gt(lit(gap))), lit(1i64))
                .otherwise(lit(0i64))?;
            let plan = plan.project(columns.iter().cloned().chain([at(), opens.alias("$opens")]))?;
            let number = aggregate("sum", col("$opens"), tvf.partition.clone(), order())?.alias("$session");
            let plan = windowed(plan, number)?;
            let mut session = tvf.partition.clone();
            session.push(col("$session"));
            let plan = windowed(plan, aggregate("min", at(), session.clone(), Vec::new())?.alias("$first"))?;
            let plan = windowed(plan, aggregate("max", at(), session, Vec::new())?.alias("$last"))?;
            let bound = |e: Expr| call(Step::Bound, vec![e]);
            outer(plan, bound(col("$first")), bound(col("$last") + lit(gap)))
        }
        _ => {
            let ends = call(Step::Ends, vec![tvf.time.clone()]);
            let plan = LogicalPlanBuilder::from(input).project(with("$end", ends))?;
            let plan = plan.unnest_column(datafusion_common::Column::new_unqualified("$end"))?;
            outer(plan, call(Step::Start, vec![col("$end")]), col("$end"))
        }
    }
}

fn windowed(plan: LogicalPlanBuilder, expr: Expr) -> Result<LogicalPlanBuilder> {
    // `Window` names its column by the expression; the projection behind it gives the name that we want.
    let kept: Vec<Expr> = plan.schema().columns().into_iter().map(Expr::Column).collect();
    let (inner, alias) = match expr {
        Expr::Alias(alias) => (*alias.expr, alias.name),
        other => (other.clone(), other.schema_name().to_string()),
    };
    let made = Expr::Column(datafusion_common::Column::new_unqualified(inner.schema_name().to_string()));
    plan.window(vec![inner])?.project(kept.into_iter().chain([made.alias(alias)]))
}

fn aggregate(name: &str, arg: Expr, partition: Vec<Expr>, order: Vec<datafusion_expr::SortExpr>) -> Result<Expr> {
    use datafusion::functions_aggregate::{min_max, sum};
    let function = match name {
        "sum" => sum::sum_udaf(),
        "min" => min_max::min_udaf(),
        _ => min_max::max_udaf(),
    };
    let ordered = !order.is_empty();
    let mut window =
        datafusion_expr::expr::WindowFunction::new(WindowFunctionDefinition::AggregateUDF(function), vec![arg]);
    window.params = WindowFunctionParams {
        partition_by: partition,
        order_by: order,
        window_frame: datafusion_expr::WindowFrame::new(ordered.then_some(false)),
        ..window.params
    };
    Ok(Expr::from(window))
}

/// A step of cutting time into windows, as a scalar function.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Cut {
    kind: WindowKind,
    zone: String,
    /// The time attribute is a `TIMESTAMP_LTZ`.
    zoned: bool,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Step {
    /// Time attribute to local milliseconds.
    Local,
    /// Time attribute to the list of its windows' ends.
    Ends,
    /// End of a window to its start.
    Start,
    /// Local milliseconds to a window bound.
    Bound,
    /// End of a window to its `window_time`.
    Time,
}

impl Hash for Cut {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.zone, self.zoned, self.step).hash(state);
    }
}

fn bound_type() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

impl ScalarUDFImpl for Cut {
    fn name(&self) -> &str {
        match self.step {
            Step::Local => "window_local",
            Step::Ends => "window_ends",
            Step::Start => "window_start_of",
            Step::Bound => "window_bound",
            Step::Time => "window_time_of",
        }
    }

    fn signature(&self) -> &Signature {
        static ANY: std::sync::OnceLock<Signature> = std::sync::OnceLock::new();
        ANY.get_or_init(|| Signature::any(1, Volatility::Immutable))
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(match self.step {
            Step::Local => DataType::Int64,
            Step::Ends => DataType::List(Arc::new(Field::new("item", bound_type(), true))),
            Step::Start | Step::Bound => bound_type(),
            Step::Time if self.zoned => millstream_core::metadata::ltz_millis(),
            Step::Time => bound_type(),
        })
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let array = match &args.args[0] {
            ColumnarValue::Array(array) => array.clone(),
            ColumnarValue::Scalar(value) => ScalarValue::to_array_of_size(value, args.number_rows)?,
        };
        let zone = Zone::parse(&self.zone).map_err(|e| datafusion_common::DataFusionError::External(Box::new(e)))?;
        let map = |f: &dyn Fn(Millis) -> Millis| -> Result<Int64Array> {
            let times = cast(&array, &DataType::Int64)?;
            Ok(times.as_primitive::<arrow::datatypes::Int64Type>().unary(f))
        };
        let as_bound = |times: Int64Array| -> Result<ArrayRef> { Ok(cast(&times, &bound_type())?) };
        let result: ArrayRef = match self.step {
            Step::Local => Arc::new(map(&|t| if self.zoned { zone.to_local(t) } else { t })?),
            Step::Ends => {
                let local = map(&|t| if self.zoned { zone.to_local(t) } else { t })?;
                let mut lists = ListBuilder::new(TimestampMillisecondBuilder::new());
                for i in 0..local.len() {
                    if !local.is_null(i) {
                        self.ends(local.value(i)).into_iter().for_each(|end| lists.values().append_value(end));
                    }
                    lists.append(true);
                }
                Arc::new(lists.finish())
            }
            Step::Start => {
                let size = match self.kind {
                    WindowKind::Tumble { size, .. } | WindowKind::Hop { size, .. } => size,
                    WindowKind::Cumulate { size, offset, .. } => {
                        return Ok(ColumnarValue::Array(as_bound(map(&|end| floor(end - 1, size, offset))?)?));
                    }
                    WindowKind::Session { .. } => 0,
                };
                as_bound(map(&|end| end - size)?)?
            }
            Step::Bound => as_bound(map(&|t| t)?)?,
            Step::Time => {
                let times = map(&|end| if self.zoned { zone.to_epoch(end) - 1 } else { end - 1 })?;
                let times = TimestampMillisecondArray::new(times.values().clone(), times.nulls().cloned());
                Arc::new(if self.zoned { times.with_timezone("UTC") } else { times })
            }
        };
        debug_assert!(self.step != Step::Start || result.as_primitive_opt::<TimestampMillisecondType>().is_some());
        Ok(ColumnarValue::Array(result))
    }
}

impl Cut {
    /// Ends of all windows that hold `t`, by trying every window that could.
    fn ends(&self, t: Millis) -> Vec<Millis> {
        match self.kind {
            WindowKind::Tumble { size, offset } => vec![floor(t, size, offset) + size],
            WindowKind::Hop { size, slide, offset } => {
                let last = floor(t, slide, offset);
                let starts = (0..).map(|i| last - i * slide).take_while(|start| *start > t - size);
                starts.map(|start| start + size).collect()
            }
            WindowKind::Cumulate { size, step, offset } => {
                let start = floor(t, size, offset);
                let ends = (1..=size / step).map(|i| start + i * step);
                ends.filter(|end| t < *end).collect()
            }
            WindowKind::Session { .. } => Vec::new(),
        }
    }
}

/// The greatest `offset + n * size` that is not above `t`.
fn floor(t: Millis, size: Millis, offset: Millis) -> Millis {
    (t - offset).div_euclid(size) * size + offset
}
