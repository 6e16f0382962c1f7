//! `FOR SYSTEM_TIME AS OF left.proctime`: each row with what a table says of its key when the row comes by.
//!
//! ```text
//!  Join ─┬─ left                                                left ─▶ LookupJoin(rates, steps: computed, projection)
//!        └─ Versions ─ Projection ─ TableScan(rates)   ──▶
//!                                                               (the source of `rates` is only looked into)
//! ```
//!
//! Which of the two joins the clause means is decided by the clock that its time follows. In batch mode a table that can be
//! read is joined plainly: there all rows come by at the same moment.

use super::super::as_of::Versions;
use super::super::table::DeclaredTable;
use super::temporal::is_as_of;
use super::{Lowering, Rel, as_column, is_proctime, literal};
use datafusion_common::tree_node::Transformed;
use datafusion_common::{DFSchema, NullEquality, ScalarValue};
use datafusion_expr::utils::{conjunction, split_conjunction};
use datafusion_expr::{Expr as Logical, Extension, LogicalPlan, TableScan};
use millstream_core::{Error, Result, TimeDomain};
use millstream_dataflow::graph::{Calc, Input, JoinKind, JoinScope, LookupJoin, NodeKind, SourceNode};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Whether a join looks its right side up: the time that it asks for is a processing time.
pub fn is_lookup(j: &datafusion_expr::Join) -> bool {
    let clause = j.filter.iter().flat_map(split_conjunction).find(|e| is_as_of(e));
    let Some(Logical::ScalarFunction(clause)) = clause else { return false };
    let [time, .., matched] = clause.args.as_slice() else { return false };
    // ASOF JOIN has a condition there.
    if matches!(literal(matched), Some(ScalarValue::Boolean(Some(true)))) {
        return false;
    }
    let column = as_column(time).and_then(|c| j.left.schema().index_of_column(c).ok());
    is_proctime(time) || column.and_then(|c| clock_of(&j.left, c)) == Some(TimeDomain::Processing)
}

/// The clock that a column follows, as far as it is handed through.
fn clock_of(plan: &LogicalPlan, column: usize) -> Option<TimeDomain> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            let table = scan.source.downcast_ref::<DeclaredTable>()?;
            table.time_domain(scan.projection.as_ref().map_or(Some(&column), |p| p.get(column)).copied()?)
        }
        LogicalPlan::Projection(p) => {
            let e = p.expr.get(column)?;
            if is_proctime(e) {
                return Some(TimeDomain::Processing);
            }
            clock_of(&p.input, p.input.schema().index_of_column(as_column(e)?).ok()?)
        }
        LogicalPlan::SubqueryAlias(a) => clock_of(&a.input, column),
        LogicalPlan::Filter(f) => clock_of(&f.input, column),
        LogicalPlan::Join(j) => {
            let width = j.left.schema().fields().len();
            if column < width { clock_of(&j.left, column) } else { clock_of(&j.right, column - width) }
        }
        LogicalPlan::Union(u) => {
            let mut clocks = u.inputs.iter().map(|i| clock_of(i, column));
            let first = clocks.next()??;
            clocks.all(|c| c == Some(first)).then_some(first)
        }
        // Arrays and versions have the columns of their input first.
        LogicalPlan::Extension(e) => match e.node.inputs().as_slice() {
            [input] if column < input.schema().fields().len() => {
                let window = e.node.as_any().is::<super::WindowTvf>();
                clock_of(input, column).filter(|_| !window)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The table that is looked up.
///
/// # Errors
/// What is looked up is no table, nor a view that only picks columns and rows of one.
pub fn looked_up(plan: &LogicalPlan) -> Result<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Ok(scan),
        LogicalPlan::SubqueryAlias(a) => looked_up(&a.input),
        LogicalPlan::Projection(p) => looked_up(&p.input),
        LogicalPlan::Filter(f) => looked_up(&f.input),
        LogicalPlan::Extension(e) => match e.node.as_any().downcast_ref::<Versions>() {
            Some(versions) => looked_up(&versions.input),
            None => Err(no_table()),
        },
        _ => Err(no_table()),
    }
}

fn no_table() -> Error {
    Error::sql("FOR SYSTEM_TIME AS OF a processing time looks a table up, and this is a view that computes").remedy(
        "name the table, or a view that picks columns and rows of one; or use FOR SYSTEM_TIME AS OF an event time",
    )
}

/// A plan that knows which of its joins look a table up, and the tables that are. `plainly`: as joins like others.
pub fn mark_lookups(plan: LogicalPlan, plainly: bool) -> datafusion_common::Result<(LogicalPlan, BTreeSet<String>)> {
    let mut tables = BTreeSet::new();
    let marked = plan.transform_down_with_subqueries(|node| {
        let LogicalPlan::Join(mut j) = node else { return Ok(Transformed::no(node)) };
        if !is_lookup(&j) {
            return Ok(Transformed::no(LogicalPlan::Join(j)));
        }
        if let Ok(scan) = looked_up(&j.right)
            && let Some(table) = scan.source.downcast_ref::<DeclaredTable>()
        {
            tables.insert(table.name.clone());
        }
        if plainly {
            let rest = j.filter.iter().flat_map(split_conjunction).filter(|e| !is_as_of(e)).cloned();
            j.filter = conjunction(rest);
        }
        j.right = Arc::new(mark_versions(&j.right, plainly)?);
        Ok(Transformed::yes(LogicalPlan::Join(j)))
    })?;
    Ok((marked.data, tables))
}

/// The side that is looked up: its versions are those of now, or it is a plain table.
fn mark_versions(plan: &LogicalPlan, plainly: bool) -> datafusion_common::Result<LogicalPlan> {
    if let LogicalPlan::Extension(e) = plan
        && let Some(versions) = e.node.as_any().downcast_ref::<Versions>()
    {
        let input = versions.input.clone();
        return Ok(match plainly {
            true => input.as_ref().clone(),
            false => LogicalPlan::Extension(Extension { node: Arc::new(Versions { input, now: true }) }),
        });
    }
    match plan {
        LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_) => {
            let inputs = plan.inputs().into_iter().map(|i| mark_versions(i, plainly));
            plan.with_new_exprs(plan.expressions(), inputs.collect::<datafusion_common::Result<_>>()?)
        }
        other => Ok(other.clone()),
    }
}

impl Lowering<'_, '_> {
    pub fn lookup_join(
        &mut self,
        left: Rel,
        right: Rel,
        j: &datafusion_expr::Join,
        kind: JoinKind,
        tests: &[Logical],
        both: &DFSchema,
    ) -> Result<Rel> {
        let outer = match kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            _ => return Err(super::temporal::one_sided()),
        };
        let left = self.side(left, j.left.schema(), j.on.iter().map(|p| &p.0))?;
        let right = self.side(right, j.right.schema(), j.on.iter().map(|p| &p.1))?;
        self.insert_only(&left.rel, "the left side of a look-up join")?;
        let (source, projection) = self.source_of(right.rel.node)?;
        if source.processing_time {
            return Err(Error::sql(format!(
                "FOR SYSTEM_TIME AS OF a processing time: `{}` is looked up, and its rows have no processing time",
                source.table.name
            ))
            .remedy("leave the column with PROCTIME() of that table out of the query"));
        }
        let mut table = source.table.clone();
        // A row that cannot be read is an error here: nobody could say which rows found it missing.
        table.options.remove("millstream.bad-rows");
        let computed = source.computed.map(|columns| Calc { filter: None, columns: Some(columns) });
        let keys: Vec<(usize, usize)> = left.keys.iter().copied().zip(right.keys.iter().copied()).collect();
        let mut join = LookupJoin {
            table,
            steps: computed.into_iter().chain(projection).collect(),
            looked_up: right.schema.clone(),
            outer,
            keys,
            residual: None,
        };
        let mut tests = tests.to_vec();
        if self.connectors.asked_by_key(&join.table) {
            // A server knows the columns that it has; what is computed of them is compared here.
            let stored = join.stored_keys();
            join.keys = Vec::new();
            for (i, stored) in stored.into_iter().enumerate() {
                match stored {
                    Some(_) => join.keys.push((left.keys[i], right.keys[i])),
                    None => tests.push(j.on[i].0.clone().eq(j.on[i].1.clone())),
                }
            }
        }
        if join.keys.is_empty() || j.null_equality == NullEquality::NullEqualsNull {
            let name = &join.table.name;
            return Err(Error::sql(format!(
                "FOR SYSTEM_TIME AS OF a processing time: ON compares no column of `{name}` with the left side"
            ))
            .remedy(format!(
                "`{name}` is looked up by key: write ON left.key = {name}.key, and further conditions with AND"
            )));
        }
        self.same_types(&left, &right, &join.keys)?;
        let residual = self.residual(&left, &right, &tests, both)?;
        join.residual = self.and_passes(residual, &left, &right)?;
        let scope = JoinScope::Interval { times: [0, 0], domain: TimeDomain::Processing, lower: 0, upper: 0 };
        let (out, mut columns) = self.joined_columns(&left, &right, kind, &scope);
        // Rows come out as they came in: they have the times and the windows of the left.
        for (i, c) in columns.iter_mut().enumerate() {
            match left.rel.columns.get(i) {
                Some(l) => c.bound = l.bound,
                None => c.time = None,
            }
        }
        let mut conditions: Vec<String> = join
            .keys
            .iter()
            .map(|(l, r)| format!("{} = {}", left.schema.field(*l).name(), right.schema.field(*r).name()))
            .collect();
        conditions.extend(join.residual.iter().map(|e| e.sql.clone()));
        let label = format!(
            "LookupJoin({} {} on {})",
            if outer { "left" } else { "inner" },
            join.table.name,
            conditions.join(" AND ")
        );
        let inputs = vec![Input::forward(left.rel.node)];
        let node = self.graph.add(label, NodeKind::LookupJoin(join), inputs, out);
        Ok(Rel { node, columns, ..Rel::default() })
    }

    /// The source that a node of the looked-up side stands over, with what lies between.
    fn source_of(&self, node: usize) -> Result<(SourceNode, Option<Calc>)> {
        let node = &self.graph.nodes[node];
        match (&node.kind, node.inputs.first().map(|i| &self.graph.nodes[i.node].kind)) {
            (NodeKind::Source(source), _) => Ok((source.clone(), None)),
            (NodeKind::Calc(calc), Some(NodeKind::Source(source))) => Ok((source.clone(), Some(calc.clone()))),
            _ => Err(no_table()),
        }
    }
}
