//! IN and EXISTS where their value counts: inside OR and CASE, in SELECT, and NOT IN.
//!
//! Each becomes a join that marks the rows of its input, and the mark stands in the place of the subquery:
//!
//! ```text
//!  WHERE v > 9 OR EXISTS (SELECT .. WHERE r.k = l.k)   ──▶   Filter(v > 9 OR mark) ─ LeftMark(l.k = r.k)
//! ```
//!
//! `x IN (q)` has three values, of which a mark says one. It is TRUE where a row of `q` equals `x`; else it is unknown where
//! `q` has a NULL, or where `x` is NULL and `q` has any row; else it is FALSE. So it is made of up to three marks:
//!
//! ```text
//!  match   q has a row that equals x
//!  any     q has a row                  where x may be NULL
//!  null    q has a row that is NULL     where q may have NULLs
//! ```
//!
//! Only the first compares keys; of the others, one row of `q` says all. Where NULL does no more than FALSE (a condition under AND
//! and OR alone), `x IN (q)` needs the first mark and no other. DataFusion's own rule, which runs behind this one, makes semi and
//! anti joins of what stands for itself in WHERE, and takes unknown for FALSE elsewhere.

use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{Column, Result, ScalarValue};
use datafusion_expr::expr::InSubquery;
use datafusion_expr::expr_rewriter::{NamePreserver, replace_col};
use datafusion_expr::utils::{conjunction, split_conjunction_owned};
use datafusion_expr::{
    Aggregate, Case, Expr, ExprSchemable, Filter, JoinType, LogicalPlan, LogicalPlanBuilder, Operator, Projection, lit,
};
use datafusion_optimizer::decorrelate::PullUpCorrelatedExpr;
use datafusion_optimizer::optimizer::ApplyOrder;
use datafusion_optimizer::{OptimizerConfig, OptimizerRule};
use std::collections::BTreeSet;
use std::sync::Arc;

#[derive(Debug)]
pub struct Marks;

impl OptimizerRule for Marks {
    fn name(&self) -> &str {
        "marks"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::TopDown)
    }

    fn rewrite(&self, plan: LogicalPlan, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        let plan = plan.map_subqueries(|query| query.transform_down(|p| self.rewrite(p, config)))?.data;
        match plan {
            LogicalPlan::Filter(f) if has_subquery(&f.predicate) => filter(f, config),
            LogicalPlan::Projection(p) if p.expr.iter().any(has_subquery) => {
                let mut marking = Marking::over(&p.input, config);
                let expr = marking.values(p.expr)?;
                let schema = p.schema;
                let marked = Projection::try_new_with_schema(expr, Arc::new(marking.input), schema)?;
                Ok(Transformed::yes(LogicalPlan::Projection(marked)))
            }
            LogicalPlan::Aggregate(a) if a.group_expr.iter().chain(&a.aggr_expr).any(has_subquery) => {
                let mut marking = Marking::over(&a.input, config);
                let (group, calls) = (marking.values(a.group_expr)?, marking.values(a.aggr_expr)?);
                let marked = Aggregate::try_new_with_schema(Arc::new(marking.input), group, calls, a.schema)?;
                Ok(Transformed::yes(LogicalPlan::Aggregate(marked)))
            }
            plan => Ok(Transformed::no(plan)),
        }
    }
}

/// A condition: of what stands for itself NOT IN is made here, the rest is left as it is.
fn filter(f: Filter, config: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
    let columns = f.input.schema().columns();
    let mut marking = Marking::over(&f.input, config);
    let (mut tests, mut changed) = (Vec::new(), false);
    for test in split_conjunction_owned(f.predicate) {
        let negated = match &test {
            Expr::Not(e) => match e.as_ref() {
                Expr::InSubquery(i) => Some(InSubquery { negated: !i.negated, ..i.clone() }),
                _ => None,
            },
            Expr::InSubquery(i) => Some(i.clone()),
            _ => None,
        };
        match negated {
            Some(i) if i.negated => match marking.not_in(&i)? {
                Some(rest) => {
                    tests.extend(rest);
                    changed = true;
                    continue;
                }
                None => tests.push(test),
            },
            Some(_) => tests.push(test),
            None if stands_for_itself(&test) || !has_subquery(&test) => tests.push(test),
            None => {
                tests.push(marking.value(test, true)?);
                changed = true;
            }
        }
    }
    let mut plan = marking.input;
    if let Some(predicate) = conjunction(tests) {
        plan = LogicalPlan::Filter(Filter::try_new(predicate, Arc::new(plan))?);
    }
    if plan.schema().fields().len() != columns.len() {
        plan = LogicalPlanBuilder::from(plan).project(columns.into_iter().map(Expr::Column))?.build()?;
    }
    Ok(if changed { Transformed::yes(plan) } else { Transformed::no(plan) })
}

fn is_subquery(e: &Expr) -> bool {
    matches!(e, Expr::InSubquery(_) | Expr::Exists(_))
}

fn has_subquery(e: &Expr) -> bool {
    e.exists(|e| Ok(is_subquery(e))).unwrap_or(false)
}

fn stands_for_itself(e: &Expr) -> bool {
    match e {
        Expr::Not(e) => is_subquery(e),
        e => is_subquery(e),
    }
}

/// What a row of the subquery has to be.
#[derive(Clone, Copy)]
enum Test<'e> {
    /// It is there.
    Any,
    /// Its first column is equal.
    Equals(&'e Expr),
    /// Its first column is NULL.
    Null,
}

/// A plan that is joined with one subquery after another.
struct Marking<'c> {
    input: LogicalPlan,
    config: &'c dyn OptimizerConfig,
}

impl<'c> Marking<'c> {
    fn over(input: &Arc<LogicalPlan>, config: &'c dyn OptimizerConfig) -> Marking<'c> {
        Marking { input: input.as_ref().clone(), config }
    }

    /// Columns, each under its own name.
    fn values(&mut self, exprs: Vec<Expr>) -> Result<Vec<Expr>> {
        let names = NamePreserver::new_for_projection();
        let named = exprs.into_iter().map(|e| {
            let name = names.save(&e);
            Ok(name.restore(self.value(e, false)?))
        });
        named.collect()
    }

    /// The expression with marks in the place of its subqueries. `weak`: NULL does no more than FALSE.
    fn value(&mut self, e: Expr, weak: bool) -> Result<Expr> {
        if !has_subquery(&e) {
            return Ok(e);
        }
        match e {
            Expr::BinaryExpr(b) if matches!(b.op, Operator::And | Operator::Or) => {
                let (left, right) = (self.value(*b.left, weak)?, self.value(*b.right, weak)?);
                Ok(datafusion_expr::binary_expr(left, b.op, right))
            }
            Expr::Case(c) if c.expr.is_none() => {
                let branches = c
                    .when_then_expr
                    .into_iter()
                    .map(|(when, then)| Ok((Box::new(self.value(*when, true)?), Box::new(self.value(*then, weak)?))));
                let branches = branches.collect::<Result<Vec<_>>>()?;
                let last = c.else_expr.map(|e| self.value(*e, weak).map(Box::new)).transpose()?;
                Ok(Expr::Case(Case::new(None, branches, last)))
            }
            Expr::Not(e) => match *e {
                Expr::InSubquery(i) => self.is_in(InSubquery { negated: !i.negated, ..i }, weak),
                e => Ok(Expr::Not(Box::new(self.value(e, false)?))),
            },
            Expr::Exists(x) => {
                let mark = self.mark(&x.subquery.subquery, Test::Any, true)?;
                let negated = x.negated;
                Ok(mark.map_or(Expr::Exists(x), |mark| if negated { !mark } else { mark }))
            }
            Expr::InSubquery(i) => self.is_in(i, weak),
            e => Ok(e.map_children(|e| Ok(Transformed::yes(self.value(e, false)?)))?.data),
        }
    }

    fn is_in(&mut self, i: InSubquery, weak: bool) -> Result<Expr> {
        let query = i.subquery.subquery.clone();
        let Some(matches) = self.mark(&query, Test::Equals(&i.expr), false)? else { return Ok(Expr::InSubquery(i)) };
        let unknown = if weak && !i.negated { Vec::new() } else { self.unknown(&i.expr, &query)? };
        let unknown = unknown.into_iter().reduce(Expr::or);
        Ok(match (unknown, i.negated) {
            (None, false) => matches,
            (None, true) => !matches,
            (Some(unknown), true) if weak => (!matches).and(!unknown),
            (Some(unknown), negated) => {
                let branches = vec![
                    (Box::new(matches), Box::new(lit(!negated))),
                    (Box::new(unknown), Box::new(Expr::Literal(ScalarValue::Boolean(None), None))),
                ];
                Expr::Case(Case::new(None, branches, Some(Box::new(lit(negated)))))
            }
        })
    }

    /// When `x IN (query)` is unknown, if nothing equals `x`.
    fn unknown(&mut self, x: &Expr, query: &LogicalPlan) -> Result<Vec<Expr>> {
        let mut unknown = Vec::new();
        if x.nullable(self.input.schema())?
            && let Some(any) = self.mark(query, Test::Any, false)?
        {
            unknown.push(x.clone().is_null().and(any));
        }
        if query.schema().fields().first().is_none_or(|f| f.is_nullable())
            && let Some(null) = self.mark(query, Test::Null, false)?
        {
            unknown.push(null);
        }
        Ok(unknown)
    }

    /// `x NOT IN (query)` that stands for itself: takes out the rows that have a match, and says what else has to hold.
    /// `None`: nothing is NULL, or it cannot be joined.
    fn not_in(&mut self, i: &InSubquery) -> Result<Option<Vec<Expr>>> {
        let query = i.subquery.subquery.as_ref();
        let nullable =
            i.expr.nullable(self.input.schema())? || query.schema().fields().first().is_none_or(|f| f.is_nullable());
        if !nullable || !self.join(query, Test::Equals(&i.expr), false, JoinType::LeftAnti)? {
            return Ok(None);
        }
        Ok(Some(self.unknown(&i.expr, query)?.into_iter().map(|e| !e).collect()))
    }

    /// The column that says of each row whether the subquery has such a row. `None`: it cannot be joined.
    fn mark(&mut self, query: &LogicalPlan, test: Test<'_>, exists: bool) -> Result<Option<Expr>> {
        if !self.join(query, test, exists, JoinType::LeftMark)? {
            return Ok(None);
        }
        let schema = self.input.schema();
        let (qualifier, field) = schema.qualified_field(schema.fields().len() - 1);
        Ok(Some(Expr::Column(Column::new(qualifier.cloned(), field.name()))))
    }

    /// Joins the subquery. `exists`: it stands in EXISTS, whose LIMIT says nothing.
    fn join(&mut self, query: &LogicalPlan, test: Test<'_>, exists: bool, kind: JoinType) -> Result<bool> {
        // Of IN, the columns of SELECT are kept, whatever else is added; a filter that says the same as IN is left out.
        let predicate = match test {
            _ if exists => None,
            Test::Equals(x) => {
                let first = query.head_output_expr()?;
                Some(first.map_or(lit(true), |first| x.clone().eq(first)))
            }
            Test::Any | Test::Null => Some(lit(true)),
        };
        let mut pull = PullUpCorrelatedExpr::new().with_in_predicate_opt(predicate).with_exists_sub_query(exists);
        let pulled = query.clone().rewrite(&mut pull)?.data;
        if !pull.can_pull_up {
            return Ok(false);
        }
        let alias = self.config.alias_generator().next("__correlated_sq");
        let mut right = LogicalPlanBuilder::from(pulled).alias(alias.as_str())?;
        let first = match right.schema().columns().into_iter().next() {
            Some(first) => Expr::Column(first),
            None => return Ok(false),
        };
        let correlated: BTreeSet<&Column> = pull.correlated_subquery_cols_map.values().flatten().collect();
        let aliased: Vec<Column> =
            correlated.iter().map(|c| Column::new(Some(alias.as_str()), c.name.as_str())).collect();
        let renamed = correlated.into_iter().zip(&aliased).collect();
        let mut on = pull.join_filters.into_iter().map(|e| replace_col(e, &renamed)).collect::<Result<Vec<_>>>()?;
        if let Test::Null = test {
            right = right.filter(first.clone().is_null())?;
        }
        match test {
            Test::Equals(x) => on.push(x.clone().eq(first)),
            // Whatever the rows are, one of them says it all.
            Test::Any | Test::Null if on.is_empty() => {
                right = right.project([lit(true).alias("some")])?.distinct()?.alias(alias.as_str())?;
                on.push(lit(true));
            }
            Test::Any | Test::Null => {}
        }
        let left = LogicalPlanBuilder::from(self.input.clone());
        self.input = left.join_on(right.build()?, kind, on)?.build()?;
        Ok(true)
    }
}
