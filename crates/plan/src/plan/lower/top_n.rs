//! The first rows in an order: `ROW_NUMBER() OVER (..) <= n`, and `ORDER BY .. LIMIT n`.
//!
//! ```text
//!  ROW_NUMBER by a time attribute = 1          Deduplicate: the first or the last row of each key
//!  RANK, DENSE_RANK, ROW_NUMBER <= n           TopN, updated at once
//!  the same, PARTITION BY window_start, ..     TopN of each window, told once
//!  ROW_NUMBER by time, upwards, n > 1          left to OVER, whose rows are final
//! ```

use super::{At, Bound, Col, Lowering, Part, Rel, Versioned, as_column, by, literal, own_name};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::expr::WindowFunctionParams;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{
    Expr as Logical, FetchType, LogicalPlan, Operator, Projection, SkipType, SortExpr, Window as LogicalWindow,
    WindowFunctionDefinition, lit,
};
use datafusion_physical_expr::expressions::{CastExpr, Literal};
use millstream_core::{Error, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    Changes, Deduplicate, Exchange, Input, Keep, NodeKind, RankFunction, SortColumn, StateTtl, TopN, TopNScope,
};
use std::sync::Arc;

/// The largest rank that can be asked for: that many rows of each key are remembered.
const RANKS_MAX: u64 = 1_000_000;

/// What the statement asks of a ranking.
struct Ranking<'p> {
    window: &'p LogicalWindow,
    /// Columns of the window's that are left over.
    through: Option<&'p Projection>,
    /// The rank's column.
    rank: usize,
    function: RankFunction,
    partition: &'p [Logical],
    sort: &'p [SortExpr],
}

/// `ROW_NUMBER() OVER (..)` and nothing else, but for columns that go.
fn ranking(plan: &LogicalPlan) -> Option<Ranking<'_>> {
    let (window, through) = match plan {
        LogicalPlan::Window(window) => (window, None),
        LogicalPlan::Projection(p) if p.expr.iter().all(|e| as_column(e).is_some()) => match p.input.as_ref() {
            LogicalPlan::Window(window) => (window, Some(p)),
            _ => return None,
        },
        _ => return None,
    };
    let [expr] = window.window_expr.as_slice() else { return None };
    let Logical::WindowFunction(f) = strip(expr) else { return None };
    let WindowFunctionDefinition::WindowUDF(udf) = &f.fun else { return None };
    let function = match udf.name() {
        "row_number" => RankFunction::RowNumber,
        "rank" => RankFunction::Rank,
        "dense_rank" => RankFunction::DenseRank,
        _ => return None,
    };
    let WindowFunctionParams { partition_by, order_by, .. } = &f.params;
    let ranked = window.input.schema().fields().len();
    let rank = match through {
        None => Some(ranked),
        Some(p) => {
            p.expr.iter().position(|e| as_column(e).and_then(|c| window.schema.index_of_column(c).ok()) == Some(ranked))
        }
    };
    Some(Ranking { window, through, rank: rank?, function, partition: partition_by, sort: order_by })
}

fn strip(e: &Logical) -> &Logical {
    match e {
        Logical::Alias(a) => strip(&a.expr),
        other => other,
    }
}

impl Lowering<'_, '_> {
    /// A filter over a ranking. `None`: it is none, or OVER does it.
    ///
    /// `reads_rank`: somebody above reads the rank.
    pub fn ranked(&mut self, predicate: &Logical, input: &LogicalPlan, reads_rank: bool) -> Result<Option<Rel>> {
        let Some(ranking) = ranking(input) else { return Ok(None) };
        let schema = input.schema();
        let rank = ranking.rank;
        let is_rank = |e: &Logical| as_column(e).and_then(|c| schema.index_of_column(c).ok()) == Some(rank);
        let (mut from, mut to, mut rest) = (1u64, None::<u64>, Vec::new());
        for test in split_conjunction(predicate) {
            match bounds(test, &is_rank) {
                Some((low, high)) => {
                    from = from.max(low);
                    to = match (to, high) {
                        (Some(a), Some(b)) => Some(a.min(b)),
                        (a, b) => a.or(b),
                    };
                }
                None => rest.push(test.clone()),
            }
        }
        let Some(to) = to else { return Ok(None) };
        if to >= 1 && to < from {
            // Conditions from different places, which no rank fulfils together.
            rest.push(lit(false));
            from = 1;
        }
        let reads_rank = reads_rank
            || rest.iter().any(|e| e.column_refs().iter().any(|c| schema.index_of_column(c).ok() == Some(rank)));
        let versions = std::mem::take(&mut self.versions);
        let below = self.lower(&ranking.window.input, true)?;
        let rel = if below.window.is_some() { self.window_rows(below)? } else { below };
        let time = match ranking.sort {
            [sort] => as_column(&sort.expr)
                .and_then(|c| ranking.window.input.schema().index_of_column(c).ok())
                .and_then(|i| rel.columns[i].time.map(|domain| (i, domain, sort.asc))),
            _ => None,
        };
        let of_windows = ranking.partition.iter().any(|e| {
            let i = as_column(e).and_then(|c| ranking.window.input.schema().index_of_column(c).ok());
            i.is_some_and(|i| rel.columns[i].bound.is_some())
        });
        let first = (from, to) == (1, 1) && ranking.function == RankFunction::RowNumber;
        if let Some((_, _, true)) = time
            && !first
            && !of_windows
            && self.graph.nodes[rel.node].changes == Changes::Insert
        {
            return Ok(None);
        }
        if to < 1 {
            return Err(Error::sql("no row has such a rank").remedy("compare the rank with a whole number from 1"));
        }
        if to > RANKS_MAX {
            return Err(Error::sql(format!("Top-N keeps {to} rows of each key in memory"))
                .remedy(format!("ask for at most {RANKS_MAX}")));
        }
        let field = schema.field(rank).as_ref().clone();
        let rel = match time {
            Some((column, domain, up))
                if first && !of_windows && self.graph.nodes[rel.node].changes == Changes::Insert =>
            {
                let keep = if up { Keep::First } else { Keep::Last };
                self.versions = versions;
                self.deduplicate(rel, &ranking, column, domain, keep, &field)?
            }
            _ => {
                let rank = reads_rank.then_some(&field);
                let input = ranking.window.input.schema().clone();
                self.top_n(rel, &input, ranking.partition, ranking.sort, ranking.function, (from, to), rank)?
            }
        };
        let rel = match ranking.through {
            Some(p) => self.project(rel, &ranking.window.schema, &p.expr)?,
            None => rel,
        };
        let rel = match rest.into_iter().reduce(Logical::and) {
            Some(predicate) => self.filter(rel, schema, &predicate)?,
            None => rel,
        };
        Ok(Some(rel))
    }

    /// `ORDER BY .. LIMIT n OFFSET m`.
    pub fn sort_limit(&mut self, rel: Rel, input: &DFSchema, sort: &[SortExpr], skip: u64, fetch: u64) -> Result<Rel> {
        let to = skip.saturating_add(fetch);
        if to > RANKS_MAX {
            return Err(Error::sql(format!("ORDER BY .. LIMIT keeps {to} rows in memory"))
                .remedy(format!("ask for at most {RANKS_MAX}")));
        }
        let mut rel = self.top_n(rel, input, &[], sort, RankFunction::RowNumber, (skip + 1, to), None)?;
        rel.columns.truncate(input.fields().len());
        Ok(rel)
    }

    /// The columns of the rel, then the rank: its value where it is asked for, and else nothing that could be read.
    #[expect(clippy::too_many_arguments, reason = "the parts of one clause; a struct would only rename them")]
    fn top_n(
        &mut self,
        rel: Rel,
        input: &DFSchema,
        partition: &[Logical],
        sort: &[SortExpr],
        function: RankFunction,
        (from, to): (u64, u64),
        rank: Option<&Field>,
    ) -> Result<Rel> {
        self.retracting(&rel, "Top-N")?;
        let rel = match self.told_again(rel.node) {
            // A row is taken back from another place in its table than it was given at, and must be found.
            true => Rel { order: None, ..rel },
            false => rel,
        };
        let mut rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        let read: Vec<Logical> = partition.iter().cloned().chain(sort.iter().map(|s| s.expr.clone())).collect();
        if self.repeats_work(&rel, input, &read)? {
            rel = self.settle(rel)?;
        }
        let mut wanted: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        let width = wanted.len();
        for e in &read {
            wanted.push(self.value(&rel, input, e, &own_name(e))?);
        }
        wanted.extend(rel.order.clone());
        let bounds = self.window_bounds(&rel, input, partition);
        let (node, at) = self.emit(&rel, &wanted)?;
        let schema = self.schema(node);
        let keys: Vec<usize> = at[width..width + partition.len()].to_vec();
        let sorts: Vec<SortColumn> = sort
            .iter()
            .zip(&at[width + partition.len()..])
            .map(|(s, column)| SortColumn { column: *column, descending: !s.asc, nulls_first: s.nulls_first })
            .collect();
        let order = rel.order.is_some().then(|| at[wanted.len() - 1]);
        let changes = self.graph.nodes[node].changes;
        let scope = match bounds {
            Some((start, end)) if changes == Changes::Insert => {
                TopNScope::Window { start: at[start.0], end: at[end.0], domain: start.1.domain }
            }
            _ => TopNScope::Always { ttl: self.ttl(&rel, &at), retracts: changes != Changes::Insert },
        };
        let name = match function {
            RankFunction::RowNumber => "row_number",
            RankFunction::Rank => "rank",
            RankFunction::DenseRank => "dense_rank",
        };
        let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
        let base = fields.len();
        let made = rank.map(|_| Field::new(name, DataType::Int64, false));
        fields.extend(made.clone());
        let out = Arc::new(Schema::new(fields));
        let ranks = if from == 1 { format!("{name} <= {to}") } else { format!("{name} {from} .. {to}") };
        let sorted: Vec<String> = sorts
            .iter()
            .map(|s| format!("{}{}", schema.field(s.column).name(), if s.descending { " DESC" } else { "" }))
            .collect();
        let what = if matches!(scope, TopNScope::Window { .. }) { "WindowTopN" } else { "TopN" };
        let label = format!("{what}({ranks}{}, order {})", by(&schema, &keys), sorted.join(", "));
        let in_window = matches!(scope, TopNScope::Window { .. });
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.clone()) };
        let kind = NodeKind::TopN(TopN {
            partition: keys,
            sort: sorts,
            function,
            from,
            to,
            rank: made,
            scope,
            update_before: true,
            order,
        });
        let node = self.graph.add(label, kind, vec![Input { node, port: 0, exchange }], out.clone());
        let window = self.next_window();
        let mut columns = Vec::with_capacity(width + 1);
        for (c, i) in rel.columns.iter().zip(&at) {
            let mut e = Expr::column(&out, *i);
            if let Some(old) = c.value() {
                e.field = e.field.with_name(old.field.name());
            }
            let bound = c.bound.filter(|_| in_window).map(|b| Bound { window, ..b });
            columns.push(Col { at: At::Value(e), time: c.time.filter(|_| in_window), bound });
        }
        columns.push(Col::plain(match rank {
            Some(f) => self.rank_as(Expr::column(&out, base), f, &out)?,
            None => nothing(),
        }));
        Ok(Rel { node, columns, ..Rel::default() })
    }

    fn deduplicate(
        &mut self,
        rel: Rel,
        ranking: &Ranking<'_>,
        time: usize,
        domain: TimeDomain,
        keep: Keep,
        rank: &Field,
    ) -> Result<Rel> {
        let input = ranking.window.input.schema().clone();
        let mut rel = rel;
        if self.repeats_work(&rel, &input, ranking.partition)? {
            rel = self.settle(rel)?;
        }
        let one = self.one(rank)?;
        // The last row of each key by time, as of a time: every row is a version, and which is the last one depends on the time.
        if std::mem::take(&mut self.versions) && keep == Keep::Last {
            let key = ranking.partition.iter().map(|e| self.value(&rel, &input, e, &own_name(e)));
            let key = Some(key.collect::<Result<_>>()?);
            let time = rel.columns[time].value().cloned().ok_or_else(|| Error::internal("a time without a value"))?;
            rel.versions = Some(Versioned { time: Some(time), key, passes: None });
            rel.columns.push(Col::plain(one));
            return Ok(rel);
        }
        let mut wanted: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        let width = wanted.len();
        for e in ranking.partition {
            wanted.push(self.value(&rel, &input, e, &own_name(e))?);
        }
        wanted.extend(rel.order.clone());
        let (node, at) = self.emit(&rel, &wanted)?;
        let schema = self.schema(node);
        let keys: Vec<usize> = at[width..width + ranking.partition.len()].to_vec();
        let order = rel.order.is_some().then(|| at[wanted.len() - 1]);
        let which = if keep == Keep::First { "first" } else { "last" };
        let label = format!("Deduplicate({which} by {}{})", schema.field(at[time]).name(), by(&schema, &keys));
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.clone()) };
        let ttl = self.ttl(&rel, &at);
        let kind = Deduplicate { keys, time: at[time], domain, keep, update_before: true, ttl, order };
        let input = vec![Input { node, port: 0, exchange }];
        let node = self.graph.add(label, NodeKind::Deduplicate(kind), input, schema.clone());
        let mut columns = Vec::with_capacity(width + 1);
        for (c, i) in rel.columns.iter().zip(&at) {
            let mut e = Expr::column(&schema, *i);
            if let Some(old) = c.value() {
                e.field = e.field.with_name(old.field.name());
            }
            columns.push(Col { at: At::Value(e), time: c.time, bound: None });
        }
        columns.push(Col::plain(one));
        Ok(Rel { node, columns, ..Rel::default() })
    }

    /// The rank where there is one row.
    fn one(&self, rank: &Field) -> Result<Expr> {
        let one = ScalarValue::Int64(Some(1)).cast_to(rank.data_type()).map_err(|e| self.compiler.fail(e))?;
        Ok(Expr::new(Arc::new(Literal::new(one)), Field::new(rank.name(), rank.data_type().clone(), false), "1"))
    }

    /// The rank in the type that the query gives it.
    fn rank_as(&self, rank: Expr, field: &Field, schema: &Schema) -> Result<Expr> {
        if rank.field.data_type() == field.data_type() {
            return Ok(rank);
        }
        let cast = Arc::new(CastExpr::new(rank.physical, field.data_type().clone(), None));
        self.compiler.expr(cast, schema, field.name())
    }

    /// State is forgotten by the first event-time column, where the settings say after how long.
    fn ttl(&self, rel: &Rel, at: &[usize]) -> Option<StateTtl> {
        let keep = self.provider.catalog.settings.state_ttl?;
        let time = rel.columns.iter().position(|c| c.time == Some(TimeDomain::Event))?;
        Some(StateTtl { keep, times: vec![at[time]] })
    }

    /// Where both bounds of one window are partitioned by: their logical columns.
    fn window_bounds(
        &self,
        rel: &Rel,
        input: &DFSchema,
        partition: &[Logical],
    ) -> Option<((usize, Bound), (usize, Bound))> {
        let bounds: Vec<(usize, Bound)> = partition
            .iter()
            .filter_map(|e| {
                let i = input.index_of_column(as_column(e)?).ok()?;
                Some((i, rel.columns[i].bound?))
            })
            .collect();
        // Local times are no times of the watermark: such a Top-N is kept up to date instead.
        let start = bounds.iter().find(|(_, b)| b.part == Part::Start && !b.local)?;
        let end = bounds.iter().find(|(_, b)| b.part == Part::End && b.window == start.1.window)?;
        Some((*start, *end))
    }
}

/// A column that nobody reads.
fn nothing() -> Expr {
    let null = ScalarValue::Int64(None);
    Expr::new(Arc::new(Literal::new(null)), Field::new("rank", DataType::Int64, true), "NULL")
}

/// What a comparison with a constant says of the rank.
fn bounds(test: &Logical, is_rank: &dyn Fn(&Logical) -> bool) -> Option<(u64, Option<u64>)> {
    if let Logical::Between(b) = test
        && !b.negated
        && is_rank(&b.expr)
    {
        return Some((number(&b.low)?.max(1) as u64, Some(number(&b.high)?.max(0) as u64)));
    }
    let Logical::BinaryExpr(b) = test else { return None };
    let (op, n) = if is_rank(&b.left) {
        (b.op, number(&b.right)?)
    } else if is_rank(&b.right) {
        (b.op.swap()?, number(&b.left)?)
    } else {
        return None;
    };
    let up_to = |n: i64| Some(n.max(0) as u64);
    match op {
        Operator::LtEq => Some((1, up_to(n))),
        Operator::Lt => Some((1, up_to(n.saturating_sub(1)))),
        Operator::Eq => Some((n.max(1) as u64, up_to(n))),
        Operator::GtEq => Some((n.max(1) as u64, None)),
        Operator::Gt => Some((n.saturating_add(1).max(1) as u64, None)),
        _ => None,
    }
}

fn number(e: &Logical) -> Option<i64> {
    match literal(e)?.cast_to(&DataType::Int64) {
        Ok(ScalarValue::Int64(n)) => n,
        _ => None,
    }
}

/// Whether any of the expressions reads the last column of a ranking.
pub fn reads_rank(exprs: &[Logical], input: &LogicalPlan) -> bool {
    let LogicalPlan::Filter(f) = input else { return true };
    let Some(ranking) = ranking(&f.input) else { return true };
    let rank = ranking.rank;
    exprs.iter().any(|e| e.column_refs().iter().any(|c| f.input.schema().index_of_column(c).ok() == Some(rank)))
}

/// `ORDER BY .. LIMIT n OFFSET m`: the sort, how many rows are passed over and how many come out.
pub fn sort_limit(plan: &LogicalPlan) -> Result<Option<(&datafusion_expr::logical_plan::Sort, u64, u64)>> {
    let internal = |e: datafusion_common::DataFusionError| Error::internal(e.strip_backtrace());
    match plan {
        LogicalPlan::Limit(l) => {
            let LogicalPlan::Sort(sort) = l.input.as_ref() else { return Ok(None) };
            match (l.get_skip_type().map_err(internal)?, l.get_fetch_type().map_err(internal)?) {
                (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) => {
                    Ok(Some((sort, skip as u64, fetch as u64)))
                }
                _ => Ok(None),
            }
        }
        LogicalPlan::Sort(sort) => Ok(sort.fetch.map(|fetch| (sort, 0, fetch as u64))),
        _ => Ok(None),
    }
}
