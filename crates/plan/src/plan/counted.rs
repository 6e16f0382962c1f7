//! `INTERSECT ALL` and `EXCEPT ALL`: how often a row comes depends on how often it comes on each side.
//!
//! ```text
//!  a ─ Projection(a.*, 1, 0) ─┐
//!                             ├ Union ─ Aggregate(by all columns: SUM, SUM) ─ as often as INTERSECT or EXCEPT says ─ Unnest
//!  b ─ Projection(b.*, 0, 1) ─┘
//! ```
//!
//! Flink plans them alike. DataFusion makes a semi or an anti join of them, which counts one side alone; so
//! [`count_rows`] hands the whole operation over as one relation before DataFusion sees it.

use super::errors::external;
use super::unnest::CrossUnnest;
use datafusion_common::{Column, Result as DfResult};
use datafusion_expr::expr::AggregateFunction;
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, Extension, LogicalPlan, LogicalPlanBuilder, lit, when};
use datafusion_sql::sqlparser::ast::{
    Expr as Ast, Ident, Query, SetExpr, SetOperator, SetQuantifier, Spanned, Statement, TableFactor, TableWithJoins,
};
use datafusion_sql::sqlparser::dialect::GenericDialect;
use datafusion_sql::sqlparser::parser::Parser;
use millstream_core::{Error, Place};
use std::sync::Arc;

/// Names of the relations that [`count_rows`] makes.
const INTERSECT_ALL: &str = "__intersect_all";
const EXCEPT_ALL: &str = "__except_all";

/// Makes one relation of each `INTERSECT ALL` and `EXCEPT ALL` among these.
pub fn count_rows(body: &mut SetExpr) {
    let SetExpr::SetOperation { op, set_quantifier, left, right } = body else { return };
    count_rows(left);
    count_rows(right);
    let name = match (op, set_quantifier) {
        (SetOperator::Intersect, SetQuantifier::All) => INTERSECT_ALL,
        (SetOperator::Except | SetOperator::Minus, SetQuantifier::All) => EXCEPT_ALL,
        _ => return,
    };
    let query = |body: &SetExpr| match body {
        SetExpr::Query(query) => query.clone(),
        body => Box::new(Query { body: Box::new(body.clone()), ..everything() }),
    };
    let table = TableFactor::Derived { lateral: false, subquery: query(left), alias: None, sample: None };
    let relation = TableFactor::Unpivot {
        table: Box::new(table),
        value: Ast::Subquery(query(right)),
        name: Ident::new(name),
        columns: Vec::new(),
        null_inclusion: None,
        alias: None,
    };
    let mut counted = everything();
    if let SetExpr::Select(select) = counted.body.as_mut() {
        select.from = vec![TableWithJoins { relation, joins: Vec::new() }];
    }
    *body = *counted.body;
}

/// `SELECT * FROM t`.
fn everything() -> Query {
    let parsed = Parser::parse_sql(&GenericDialect {}, "SELECT * FROM t").ok().and_then(|mut all| all.pop());
    match parsed {
        Some(Statement::Query(query)) => *query,
        _ => unreachable!("the text above is a query"),
    }
}

#[derive(Debug)]
pub struct CountedPlanner {
    file: String,
}

impl CountedPlanner {
    pub fn new(file: &str) -> CountedPlanner {
        CountedPlanner { file: file.to_string() }
    }
}

impl RelationPlanner for CountedPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let (table, value, name) = match relation {
            TableFactor::Unpivot { table, value, name, .. } if [INTERSECT_ALL, EXCEPT_ALL].contains(&&*name.value) => {
                (table, value, name.value)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let Ast::Subquery(subquery) = value else {
            return datafusion_common::internal_err!("a set operation without a right side");
        };
        let at = subquery.span().start;
        let left = context.plan(*table)?;
        let right = context.plan(TableFactor::Derived { lateral: false, subquery, alias: None, sample: None })?;
        let (operation, is_intersect) =
            if name == INTERSECT_ALL { ("INTERSECT ALL", true) } else { ("EXCEPT ALL", false) };
        let widths = [&left, &right].map(|side| side.schema().fields().len());
        if widths[0] != widths[1] {
            let what = format!("{operation} takes as many columns of each side: {} and {}", widths[0], widths[1]);
            let e = Error::sql(what).remedy("name the same columns, in the same order, in both SELECTs");
            let place = Place::line_column(&self.file, at.line, at.column);
            return Err(external(if at.line > 0 { e.at(place) } else { e }));
        }
        let Some(sum) = context.context_provider().get_aggregate_meta("sum") else {
            return datafusion_common::internal_err!("SUM is not registered");
        };
        let names: Vec<String> = left.schema().fields().iter().map(|f| f.name().clone()).collect();
        // Each row, and on which side it is.
        let side = |plan: LogicalPlan, counts: [i64; 2]| {
            let columns: Vec<Column> = plan.schema().columns();
            let columns = columns.into_iter().zip(&names).map(|(c, name)| Expr::Column(c).alias(name));
            let counts = [lit(counts[0]).alias("$left"), lit(counts[1]).alias("$right")];
            LogicalPlanBuilder::from(plan).project(columns.chain(counts))?.build()
        };
        let both = LogicalPlanBuilder::from(side(left, [1, 0])?).union(side(right, [0, 1])?)?;
        let columns: Vec<Expr> = both.schema().columns().into_iter().map(Expr::Column).collect();
        let (rows, counts) = columns.split_at(names.len());
        let sums = counts.iter().map(|count| {
            let args = vec![count.clone()];
            Expr::AggregateFunction(AggregateFunction::new_udf(sum.clone(), args, false, None, Vec::new(), None))
        });
        let counted = both.aggregate(rows.to_vec(), sums)?;
        let columns: Vec<Expr> = counted.schema().columns().into_iter().map(Expr::Column).collect();
        let (rows, counts) = columns.split_at(names.len());
        let (left, right) = (&counts[0], &counts[1]);
        let (some, times) = match is_intersect {
            true => {
                let fewer = when(left.clone().lt(right.clone()), left.clone()).otherwise(right.clone())?;
                (left.clone().gt(lit(0i64)).and(right.clone().gt(lit(0i64))), fewer)
            }
            false => (left.clone().gt(right.clone()), left.clone() - right.clone()),
        };
        let copies = times.alias("$copies");
        let counted = counted.filter(some)?.project(rows.iter().cloned().chain([copies]))?.build()?;
        let copies = Expr::Column(Column::new_unqualified("$copies"));
        let node = CrossUnnest::new(Arc::new(counted), copies, false, false, None, Vec::new())?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        let plan = LogicalPlanBuilder::from(plan).project(rows.to_vec())?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}
