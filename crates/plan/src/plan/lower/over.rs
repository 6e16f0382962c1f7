//! `OVER (PARTITION BY .. ORDER BY time ..)`.

use super::super::table::interval_millis;
use super::super::window::no_time_attribute;
use super::calls::CallSpec;
use super::{Col, Lowering, Rel, as_column, by};
use super::{literal, own_name};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{DFSchema, ExprSchema, ScalarValue};
use datafusion_expr::expr::{NullTreatment, WindowFunction, WindowFunctionParams};
use datafusion_expr::{
    Expr as Logical, SortExpr, Window as LogicalWindow, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition,
};
use millstream_core::{Error, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Exchange, Frame, Input, NodeKind, Over, OverCall, OverFunction};
use std::sync::Arc;

/// One call of one OVER clause.
struct Call {
    /// Column of the logical result.
    result: usize,
    field: Field,
    keys: Vec<Logical>,
    time: usize,
    domain: TimeDomain,
    frame: Frame,
    function: Function,
}

enum Function {
    Aggregate(CallSpec),
    RowNumber,
    Rank,
    DenseRank,
    Lag(Logical, u64),
}

impl Lowering<'_, '_> {
    pub fn over(&mut self, rel: Rel, w: &LogicalWindow) -> Result<Rel> {
        let mut rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        self.insert_only(&rel, "OVER")?;
        let input = w.input.schema().clone();
        let width = input.fields().len();
        let mut calls = Vec::with_capacity(w.window_expr.len());
        for (i, e) in w.window_expr.iter().enumerate() {
            calls.push(self.over_call(&rel, w, e, width + i)?);
        }
        let mut results: Vec<Option<usize>> = vec![None; calls.len()];
        // One node for all calls of the same keys and time.
        let mut groups: Vec<Vec<Call>> = Vec::new();
        for call in calls {
            match groups.iter_mut().find(|g| g[0].keys == call.keys && g[0].time == call.time) {
                Some(g) => g.push(call),
                None => groups.push(vec![call]),
            }
        }
        for group in groups {
            let read: Vec<Logical> = group.iter().flat_map(reads).collect();
            if self.repeats_work(&rel, &input, &read)? {
                rel = self.settle(rel)?;
            }
            // The columns that go through, those of earlier calls, then what the calls read.
            let through: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
            let mut wanted = through.clone();
            let order = rel.order.clone().map(|e| {
                wanted.push(e);
                wanted.len() - 1
            });
            let mut keys = Vec::new();
            for e in &group[0].keys {
                wanted.push(self.value(&rel, &input, e, &own_name(e))?);
                keys.push(wanted.len() - 1);
            }
            let mut args_at = Vec::with_capacity(group.len());
            for call in &group {
                let mut args = Vec::new();
                let mut filter = None;
                match &call.function {
                    Function::Aggregate(spec) => {
                        for e in &spec.args {
                            wanted.push(self.value(&rel, &input, e, &own_name(e))?);
                            args.push(wanted.len() - 1);
                        }
                        if let Some(e) = &spec.filter {
                            wanted.push(self.value(&rel, &input, e, "filter")?);
                            filter = Some(wanted.len() - 1);
                        }
                    }
                    Function::Lag(e, _) => {
                        wanted.push(self.value(&rel, &input, e, &own_name(e))?);
                        args.push(wanted.len() - 1);
                    }
                    _ => {}
                }
                args_at.push((args, filter));
            }
            let (time, domain) = (group[0].time, group[0].domain);
            let (node, at) = self.emit(&rel, &wanted)?;
            let schema = self.schema(node);
            let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
            let mut made = Vec::with_capacity(group.len());
            let mut places = Vec::with_capacity(group.len());
            for (call, (args, filter)) in group.into_iter().zip(args_at) {
                places.push(call.result - width);
                let result = call.field.clone();
                let function = match call.function {
                    Function::Aggregate(spec) => {
                        let spec = spec.named(&args, filter, &wanted);
                        let args = args.into_iter().map(|i| at[i]).collect();
                        OverFunction::Aggregate(self.call(spec, &schema, args, filter.map(|i| at[i]))?)
                    }
                    Function::RowNumber => OverFunction::RowNumber { result: result.clone() },
                    Function::Rank => OverFunction::Rank { result: result.clone() },
                    Function::DenseRank => OverFunction::DenseRank { result: result.clone() },
                    Function::Lag(_, offset) => OverFunction::Lag { arg: at[args[0]], offset, result: result.clone() },
                };
                let call = OverCall { function, frame: call.frame };
                fields.push(result.with_name(describe_call(&call)));
                made.push(call);
            }
            let keys: Vec<usize> = keys.into_iter().map(|i| at[i]).collect();
            let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.clone()) };
            let out = Arc::new(Schema::new(fields));
            let names: Vec<String> = made.iter().map(describe_call).collect();
            let label = format!("Over({}{}: {})", schema.field(at[time]).name(), by(&schema, &keys), names.join(", "));
            let base = schema.fields().len();
            let kind = NodeKind::Over(Over { keys, time: at[time], domain, order: order.map(|i| at[i]), calls: made });
            let node = self.graph.add(label, kind, vec![Input { node, port: 0, exchange }], out.clone());

            let mut columns = Vec::with_capacity(rel.columns.len() + places.len());
            for (c, (e, i)) in rel.columns.iter().zip(through.iter().zip(&at)) {
                let mut col = c.clone();
                let mut value = Expr::column(&out, *i);
                value.field = value.field.with_name(e.field.name());
                col.at = super::At::Value(value);
                columns.push(col);
            }
            for (i, place) in places.into_iter().enumerate() {
                results[place] = Some(columns.len());
                columns.push(Col::plain(Expr::column(&out, base + i)));
            }
            let order = order.map(|i| Expr::column(&out, at[i]));
            rel = Rel { node, columns, order, ..Rel::default() };
        }
        // In the order of the query.
        let mut columns: Vec<Col> = rel.columns[..width].to_vec();
        for r in results {
            columns.push(rel.columns[r.ok_or_else(|| Error::internal("an OVER call was left out"))?].clone());
        }
        rel.columns = columns;
        Ok(rel)
    }

    /// `ORDER BY time`: rows wait for the watermark and then come in order, as they do in OVER. `None`: by something else.
    pub fn in_time(&mut self, rel: Rel, input: &DFSchema, by: &[SortExpr]) -> Result<Option<Rel>> {
        let [SortExpr { expr, asc: true, .. }] = by else { return Ok(None) };
        let column = as_column(expr).and_then(|c| input.index_of_column(c).ok());
        let Some((column, domain)) = column.and_then(|i| rel.columns[i].time.map(|d| (i, d))) else { return Ok(None) };
        self.insert_only(&rel, "ORDER BY")?;
        let rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        let mut rel = self.settle(rel)?;
        let schema = self.schema(rel.node);
        let at = |e: Option<&Expr>| e.and_then(Expr::as_column);
        let Some(time) = at(rel.columns[column].value()) else {
            return Err(Error::internal("a settled time attribute that is no column"));
        };
        // A call makes the rows wait; its result is read by nobody.
        let number = Field::new("row_number", DataType::UInt64, false);
        let call = OverCall {
            function: OverFunction::RowNumber { result: number.clone() },
            frame: Frame::Rows { preceding: None },
        };
        let fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).chain([number]).collect();
        let label = format!("Over({}: row_number)", schema.field(time).name());
        let order = at(rel.order.as_ref());
        let kind = NodeKind::Over(Over { keys: Vec::new(), time, domain, order, calls: vec![call] });
        let input = Input { node: rel.node, port: 0, exchange: Exchange::Single };
        rel.node = self.graph.add(label, kind, vec![input], Arc::new(Schema::new(fields)));
        (rel.clock, rel.watermark) = (None, None);
        Ok(Some(rel))
    }

    fn over_call(&self, rel: &Rel, w: &LogicalWindow, e: &Logical, result: usize) -> Result<Call> {
        let call = match e {
            Logical::Alias(a) => return self.over_call(rel, w, &a.expr, result),
            Logical::WindowFunction(f) => f.as_ref(),
            other => return Err(Error::internal(format!("no OVER call: {other}"))),
        };
        let WindowFunction { fun, params } = call;
        let WindowFunctionParams { args, partition_by, order_by, window_frame, filter, null_treatment, distinct } =
            params;
        let name = fun.name().to_uppercase();
        let input = w.input.schema();
        let usage =
            "write OVER (PARTITION BY key ORDER BY time RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW)";
        let sort = match order_by.as_slice() {
            [sort] => sort,
            [] => return Err(Error::sql(format!("{name} OVER has no ORDER BY")).remedy(usage)),
            _ => {
                return Err(Error::sql(format!("{name} OVER is ordered by more than one column"))
                    .remedy("order by the time attribute alone: ties come in the order of the source"));
            }
        };
        let of_window = partition_by.iter().any(|e| {
            as_column(e).and_then(|c| input.index_of_column(c).ok()).is_some_and(|i| rel.columns[i].bound.is_some())
        });
        let by_time = as_column(&sort.expr).and_then(|c| input.index_of_column(c).ok());
        if of_window && by_time.is_none_or(|i| rel.columns[i].time.is_none()) {
            return Err(Error::sql(format!(
                "{name} OVER: the first rows of each window (Top-N) are not there yet in streaming"
            ))
            .remedy(
                "aggregate with MAX or MIN, or run it over bounded input with SET 'execution.runtime-mode' = 'batch'",
            ));
        }
        if !sort.asc {
            return Err(Error::sql(format!("{name} OVER is ordered downwards, and a stream runs upwards"))
                .remedy("order by the time attribute ascending"));
        }
        let time = as_column(&sort.expr).and_then(|c| input.index_of_column(c).ok());
        let Some((time, domain)) = time.and_then(|i| rel.columns[i].time.map(|d| (i, d))) else {
            return Err(match as_column(&sort.expr) {
                Some(c) => {
                    let t = input.data_type(c).map_err(|e| self.compiler.fail(e))?;
                    let e =
                        no_time_attribute(&format!("{name} OVER"), c.name(), c.relation.as_ref().map(|r| r.table()), t);
                    match name.as_str() {
                        "ROW_NUMBER" | "RANK" | "DENSE_RANK" => Error::sql(e.what()).remedy(
                            "for the first rows of each key filter the rank: FROM (SELECT *, ROW_NUMBER() OVER (..) AS rn FROM t) \
                             WHERE rn <= n; else order by a time attribute",
                        ),
                        _ => e,
                    }
                }
                None => Error::sql(format!("{name} OVER is ordered by an expression, `{}`", sort.expr)).remedy(usage),
            });
        };
        let field = w.schema.field(result).as_ref().clone();
        let ignore_nulls = matches!(null_treatment, Some(NullTreatment::IgnoreNulls));
        let frame = |f: &WindowFrame| over_frame(&name, f);
        let whole = Frame::Rows { preceding: None };
        let is_time = |e: &Logical| as_column(e).and_then(|c| input.index_of_column(c).ok()) == Some(time);
        let (function, frame) = match fun {
            WindowFunctionDefinition::AggregateUDF(udf) => {
                let filter = filter.as_deref().cloned();
                let spec = self.call_parts(udf, args, *distinct, filter, &[], ignore_nulls, &field, &is_time)?;
                (Function::Aggregate(spec), frame(window_frame)?)
            }
            WindowFunctionDefinition::WindowUDF(udf) => match udf.name() {
                "row_number" => (Function::RowNumber, whole),
                "rank" => (Function::Rank, whole),
                "dense_rank" => (Function::DenseRank, whole),
                "lag" if !ignore_nulls && args.len() <= 2 => {
                    let offset = match args.get(1).map(literal) {
                        None => 1,
                        Some(Some(v)) => match v.cast_to(&arrow::datatypes::DataType::Int64) {
                            Ok(ScalarValue::Int64(Some(n))) if n >= 0 => n as u64,
                            _ => {
                                return Err(Error::sql("the offset of LAG is no whole number from 0 up")
                                    .remedy("write LAG(x, 1)"));
                            }
                        },
                        Some(None) => {
                            return Err(Error::sql("the offset of LAG is no constant").remedy("write LAG(x, 1)"));
                        }
                    };
                    (Function::Lag(args[0].clone(), offset), whole)
                }
                "first_value" | "last_value" if args.len() == 1 => {
                    let Some(udf) =
                        datafusion_expr::planner::ContextProvider::get_aggregate_meta(self.provider, udf.name())
                    else {
                        return Err(Error::internal(format!("{name} is no aggregate")));
                    };
                    let spec = self.call_parts(&udf, args, false, None, &[], ignore_nulls, &field, &is_time)?;
                    (Function::Aggregate(spec), frame(window_frame)?)
                }
                _ => {
                    return Err(Error::sql(format!("{name} OVER is not there yet in streaming"))
                        .remedy("ROW_NUMBER, RANK, DENSE_RANK, LAG(x [, n]) and all aggregates are"));
                }
            },
        };
        Ok(Call { result, field, keys: partition_by.clone(), time, domain, frame, function })
    }
}

/// Whether the result of the call depends on how rows of the same time are ordered.
pub fn needs_order(e: &Logical) -> bool {
    match e {
        Logical::Alias(a) => needs_order(&a.expr),
        Logical::WindowFunction(f) => match &f.fun {
            WindowFunctionDefinition::AggregateUDF(udf) => {
                f.params.window_frame.units == WindowFrameUnits::Rows || super::calls::is_ordered(udf)
            }
            WindowFunctionDefinition::WindowUDF(udf) => !matches!(udf.name(), "rank" | "dense_rank"),
        },
        _ => true,
    }
}

fn reads(call: &Call) -> Vec<Logical> {
    let mut all = call.keys.clone();
    match &call.function {
        Function::Aggregate(s) => all.extend(s.args.iter().chain(&s.filter).cloned()),
        Function::Lag(e, _) => all.push(e.clone()),
        _ => {}
    }
    all
}

fn over_frame(name: &str, f: &WindowFrame) -> Result<Frame> {
    let wrong = |what: &str| {
        Err(Error::sql(format!("{name} OVER: {what}")).remedy(
            "write ROWS or RANGE BETWEEN .. PRECEDING AND CURRENT ROW: a row's result never waits for later rows",
        ))
    };
    // CURRENT ROW is also written as 0 rows or no time before it.
    let current = match &f.end_bound {
        WindowFrameBound::CurrentRow => true,
        WindowFrameBound::Preceding(v) | WindowFrameBound::Following(v) => is_zero(v),
    };
    if !current {
        return wrong("the frame does not end at the current row");
    }
    match (f.units, &f.start_bound) {
        (WindowFrameUnits::Groups, _) => wrong("GROUPS frames are not there"),
        (WindowFrameUnits::Range, WindowFrameBound::CurrentRow) => Ok(Frame::Range { preceding: Some(0) }),
        (WindowFrameUnits::Rows, WindowFrameBound::CurrentRow) => Ok(Frame::Rows { preceding: Some(0) }),
        (_, WindowFrameBound::Following(_)) => wrong("the frame begins behind the current row"),
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(v)) if v.is_null() => {
            Ok(Frame::Range { preceding: None })
        }
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(v)) if v.is_null() => Ok(Frame::Rows { preceding: None }),
        (WindowFrameUnits::Range, WindowFrameBound::Preceding(v)) => match interval_millis(v) {
            Some(ms) if ms >= 0 => Ok(Frame::Range { preceding: Some(ms) }),
            _ => wrong("RANGE takes an interval of a fixed length, such as INTERVAL '30' MINUTE"),
        },
        (WindowFrameUnits::Rows, WindowFrameBound::Preceding(v)) => {
            match v.cast_to(&arrow::datatypes::DataType::UInt64) {
                Ok(ScalarValue::UInt64(Some(n))) => Ok(Frame::Rows { preceding: Some(n) }),
                _ => wrong("ROWS takes a whole number"),
            }
        }
    }
}

fn is_zero(v: &ScalarValue) -> bool {
    !v.is_null()
        && (interval_millis(v) == Some(0)
            || matches!(v.cast_to(&arrow::datatypes::DataType::Int64), Ok(ScalarValue::Int64(Some(0)))))
}

fn describe_call(c: &OverCall) -> String {
    use super::super::window::span;
    let name = match &c.function {
        OverFunction::Aggregate(a) => a.result.name().as_str(),
        OverFunction::RowNumber { .. } => return "row_number".into(),
        OverFunction::Rank { .. } => return "rank".into(),
        OverFunction::DenseRank { .. } => return "dense_rank".into(),
        OverFunction::Lag { offset, .. } => return format!("lag {offset}"),
    };
    let name = name.split(" PARTITION BY").next().unwrap_or(name);
    let name = name.split(" ORDER BY").next().unwrap_or(name);
    match c.frame {
        Frame::Range { preceding: Some(ms) } => format!("{name} of the last {}", span(ms)),
        Frame::Rows { preceding: Some(n) } => format!("{name} of {n} rows before and this"),
        Frame::Range { preceding: None } | Frame::Rows { preceding: None } => format!("{name} so far"),
    }
}
