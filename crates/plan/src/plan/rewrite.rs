//! Changes to the parsed query before DataFusion plans it.

use super::counted::count_rows;
use super::tuples::{in_condition, in_value, overlaps};
use super::unnest::{UNNEST, UNNEST_WITH_ORDINALITY};
use datafusion_sql::sqlparser::ast::{
    AccessExpr, BinaryOperator, Distinct, DuplicateTreatment, Expr, Fetch, Function, FunctionArg, FunctionArgExpr,
    FunctionArgumentList, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator, LimitClause, NullInclusion,
    ObjectName, Query, Select, SelectItem, Spanned, TableFactor, TableVersion, TableWithJoins, Value, VisitMut,
    VisitorMut,
};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Place, Result};
use std::ops::ControlFlow;

/// Folds joins with UNNEST into one relation and names nested fields, everywhere in the query.
pub fn rewrite_query(query: &mut Box<Query>, file: &str) -> Result<()> {
    match VisitMut::visit(query.as_mut(), &mut Unnests { file }) {
        ControlFlow::Break(e) => Err(e),
        ControlFlow::Continue(()) => Ok(()),
    }
}

struct Unnests<'f> {
    file: &'f str,
}

impl VisitorMut for Unnests<'_> {
    type Break = Error;

    /// `FETCH FIRST n ROWS ONLY` is `LIMIT n` in other words.
    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        if query.limit_clause.is_none()
            && let Some(Fetch { with_ties: false, percent: false, quantity }) = &query.fetch
        {
            let limit = quantity.clone().unwrap_or_else(|| Expr::value(Value::Number("1".into(), false)));
            query.limit_clause =
                Some(LimitClause::LimitOffset { limit: Some(limit), offset: None, limit_by: Vec::new() });
            query.fetch = None;
        }
        count_rows(&mut query.body);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, e: &mut Expr) -> ControlFlow<Error> {
        if counts_distinct_everything(e) {
            let wrong = Error::sql("COUNT(DISTINCT *) names no columns");
            let wrong = wrong.remedy("write SELECT COUNT(*) FROM (SELECT DISTINCT * FROM t)");
            return ControlFlow::Break(self.fail(e, wrong));
        }
        in_value(e);
        overlaps(e);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        if let Some(Distinct::On(columns)) = &select.distinct {
            let e = Error::sql("DISTINCT ON is not there");
            let e = e.remedy("keep one row of each key with ROW_NUMBER() OVER (PARTITION BY key ORDER BY time) = 1");
            return ControlFlow::Break(match columns.first() {
                Some(column) => self.fail(column, e),
                None => e,
            });
        }
        name_nested_fields(select);
        select.selection.iter_mut().for_each(in_condition);
        if let Err(e) = self.versions(&mut select.from) {
            return ControlFlow::Break(e);
        }
        if let Err(e) = self.broadcast(select) {
            return ControlFlow::Break(e);
        }
        select.from.iter_mut().for_each(table_functions);
        match self.fold(std::mem::take(&mut select.from)) {
            Ok(from) => {
                select.from = from;
                ControlFlow::Continue(())
            }
            Err(e) => ControlFlow::Break(e),
        }
    }
}

/// A field of a ROW is called by its own name, `bid.price` is `price`, where DataFusion would call it by its whole path.
fn name_nested_fields(select: &mut Select) {
    let tables: Vec<String> = select
        .from
        .iter()
        .flat_map(|t| std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)))
        .filter_map(relation_name)
        .collect();
    let mut taken: Vec<String> = Vec::new();
    for item in &mut select.projection {
        let field = match item {
            SelectItem::ExprWithAlias { alias, .. } => {
                taken.push(alias.value.clone());
                continue;
            }
            SelectItem::UnnamedExpr(Expr::Identifier(i)) => {
                taken.push(i.value.clone());
                continue;
            }
            SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => match parts.as_slice() {
                [table, column] if tables.contains(&table.value) => {
                    taken.push(column.value.clone());
                    continue;
                }
                [.., field] => field.value.clone(),
                [] => continue,
            },
            SelectItem::UnnamedExpr(Expr::CompoundFieldAccess { access_chain, .. }) => match access_chain.last() {
                Some(AccessExpr::Dot(Expr::Identifier(i))) => i.value.clone(),
                _ => continue,
            },
            _ => continue,
        };
        let mut name = field.clone();
        let mut n = 0;
        while taken.contains(&name) {
            name = format!("{field}{n}");
            n += 1;
        }
        taken.push(name.clone());
        if let SelectItem::UnnamedExpr(expr) = item {
            *item = SelectItem::ExprWithAlias { expr: expr.clone(), alias: Ident::with_quote('`', name) };
        }
    }
}

/// What columns of this relation may be qualified with.
fn relation_name(relation: &TableFactor) -> Option<String> {
    let alias = match relation {
        TableFactor::Table { alias, .. }
        | TableFactor::Derived { alias, .. }
        | TableFactor::TableFunction { alias, .. }
        | TableFactor::Function { alias, .. }
        | TableFactor::UNNEST { alias, .. }
        | TableFactor::NestedJoin { alias, .. }
        | TableFactor::Unpivot { alias, .. } => alias,
        _ => return None,
    };
    match (alias, relation) {
        (Some(alias), _) => Some(alias.name.value.clone()),
        (None, TableFactor::Table { name, args: None, .. }) => {
            name.0.last().and_then(|part| part.as_ident()).map(|i| i.value.clone())
        }
        // Without an alias, the columns of a window function keep the name of its table.
        (None, TableFactor::Table { args: Some(args), .. }) => args.args.iter().find_map(table_argument),
        (None, TableFactor::TableFunction { expr: Expr::Function(f), .. }) => match &f.args {
            FunctionArguments::List(list) => list.args.iter().find_map(table_argument),
            _ => None,
        },
        _ => None,
    }
}

fn table_argument(arg: &FunctionArg) -> Option<String> {
    let (FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) | FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }) =
        arg
    else {
        return None;
    };
    match e {
        Expr::Identifier(i) => Some(i.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|i| i.value.clone()),
        Expr::Function(f) if f.name.to_string() == crate::dialect::TABLE_ARGUMENT => match &f.args {
            FunctionArguments::List(list) => list.args.first().and_then(table_argument),
            _ => None,
        },
        _ => None,
    }
}

impl Unnests<'_> {
    /// Makes conditions of `FOR SYSTEM_TIME AS OF`: see [`super::as_of`].
    fn versions(&self, from: &mut [TableWithJoins]) -> Result<()> {
        for item in from {
            if let TableFactor::Table { version: Some(_), .. } = &item.relation {
                let e = Error::sql("FOR SYSTEM_TIME AS OF stands behind a table that nothing is joined to");
                let e =
                    e.remedy("write FROM left JOIN versions FOR SYSTEM_TIME AS OF left.time AS v ON left.key = v.key");
                return Err(self.fail(&item.relation, e));
            }
            for join in &mut item.joins {
                let matched = self.nearest(join)?;
                let without = match &join.join_operator {
                    JoinOperator::Join(c) | JoinOperator::Inner(c) => matches!(c, JoinConstraint::None),
                    JoinOperator::Left(c) | JoinOperator::LeftOuter(c) => matches!(c, JoinConstraint::None),
                    JoinOperator::Right(c) | JoinOperator::RightOuter(c) => matches!(c, JoinConstraint::None),
                    JoinOperator::FullOuter(c) => matches!(c, JoinConstraint::None),
                    _ => false,
                };
                if without && !matches!(join.relation, TableFactor::UNNEST { .. }) {
                    let e = Error::sql("JOIN without ON");
                    let e = e.remedy("write JOIN t ON left.key = t.key; every row with every row is CROSS JOIN");
                    return Err(self.fail(&join.relation, e));
                }
                let TableFactor::Table { version, .. } = &join.relation else { continue };
                let Some(version) = version.clone() else { continue };
                let TableVersion::ForSystemTimeAsOf(time) = version else {
                    let e = Error::sql("versions of a table are asked for by FOR SYSTEM_TIME AS OF");
                    return Err(self.fail(&join.relation, e.remedy("write FOR SYSTEM_TIME AS OF left.time")));
                };
                let on = match &mut join.join_operator {
                    JoinOperator::Join(JoinConstraint::On(on))
                    | JoinOperator::Inner(JoinConstraint::On(on))
                    | JoinOperator::Left(JoinConstraint::On(on))
                    | JoinOperator::LeftOuter(JoinConstraint::On(on)) => on,
                    JoinOperator::Right(_) | JoinOperator::RightOuter(_) | JoinOperator::FullOuter(_) => {
                        let e = super::lower::one_sided();
                        return Err(self.fail(&join.relation, e));
                    }
                    _ => {
                        let e = Error::sql("FOR SYSTEM_TIME AS OF takes JOIN or LEFT JOIN with ON");
                        let e = e.remedy("write left JOIN v FOR SYSTEM_TIME AS OF left.time ON left.key = v.key");
                        return Err(self.fail(&join.relation, e));
                    }
                };
                let arg = |e: Expr| FunctionArg::Unnamed(FunctionArgExpr::Expr(e));
                let args = FunctionArgumentList {
                    duplicate_treatment: None,
                    args: vec![arg(time), arg(on.clone()), arg(Expr::value(Value::Boolean(matched)))],
                    clauses: Vec::new(),
                };
                let call = Expr::Function(Function {
                    name: ObjectName::from(vec![Ident::with_quote('`', super::as_of::NAME)]),
                    uses_odbc_syntax: false,
                    parameters: FunctionArguments::None,
                    args: FunctionArguments::List(args),
                    filter: None,
                    null_treatment: None,
                    over: None,
                    within_group: Vec::new(),
                });
                *on = Expr::BinaryOp { left: Box::new(on.clone()), op: BinaryOperator::And, right: Box::new(call) };
            }
        }
        Ok(())
    }

    /// Marks the tables that a hint names: see [`super::broadcast`].
    fn broadcast(&self, select: &mut Select) -> Result<()> {
        for name in crate::parse::broadcast(select) {
            if super::broadcast::mark(&mut select.from, &name, &relation_name) {
                continue;
            }
            let relations = select.from.iter().flat_map(|t| {
                std::iter::once(&t.relation).chain(t.joins.iter().map(|j| &j.relation)).filter_map(relation_name)
            });
            let known: Vec<String> = relations.collect();
            let e = Error::sql(format!("BROADCAST({name}): FROM has no table of this name"));
            let e = match did_you_mean(&name, known.iter().map(String::as_str)) {
                Some(meant) => e.remedy(format!("did you mean `{meant}`?")),
                None => e.remedy("name a table in the FROM of the same SELECT, by its alias where it has one"),
            };
            return Err(self.fail(&select.select_token.0, e));
        }
        select.optimizer_hints.clear();
        Ok(())
    }

    /// Makes a LEFT JOIN of versions of `ASOF JOIN .. MATCH_CONDITION`, whose condition stands where their time would;
    /// says whether it was one.
    fn nearest(&self, join: &mut Join) -> Result<bool> {
        let JoinOperator::AsOf { match_condition, constraint } = &join.join_operator else { return Ok(false) };
        let JoinConstraint::On(on) = constraint.clone() else {
            let e = Error::sql("ASOF JOIN without ON");
            let e = e.remedy("write ASOF JOIN r MATCH_CONDITION (left.time >= r.time) ON left.key = r.key");
            return Err(self.fail(&join.relation, e));
        };
        let matched = TableVersion::ForSystemTimeAsOf(match_condition.clone());
        match &mut join.relation {
            TableFactor::Table { version: version @ None, args: None, .. } => *version = Some(matched),
            other => {
                let e = Error::sql("ASOF JOIN takes a table or a view");
                return Err(self.fail(other, e.remedy("make a view of it: CREATE TEMPORARY VIEW v AS SELECT ..")));
            }
        }
        join.join_operator = JoinOperator::LeftOuter(JoinConstraint::On(on));
        Ok(true)
    }

    fn fold(&self, from: Vec<TableWithJoins>) -> Result<Vec<TableWithJoins>> {
        let mut out: Vec<TableWithJoins> = Vec::with_capacity(from.len());
        for item in from {
            let mut left = match (item.relation, out.pop()) {
                // `FROM t, UNNEST(t.a)` is a cross join.
                (unnest @ TableFactor::UNNEST { .. }, Some(left)) => {
                    TableWithJoins { relation: self.carrier(as_factor(left), unnest, false)?, joins: Vec::new() }
                }
                (unnest @ TableFactor::UNNEST { .. }, None) => TableWithJoins {
                    relation: self.carrier(super::unnest::one_row(), unnest, false)?,
                    joins: Vec::new(),
                },
                (relation, before) => {
                    out.extend(before);
                    TableWithJoins { relation, joins: Vec::new() }
                }
            };
            for join in item.joins {
                let Join { relation, global, join_operator } = join;
                if !matches!(relation, TableFactor::UNNEST { .. }) {
                    left.joins.push(Join { relation, global, join_operator });
                    continue;
                }
                let outer = match &join_operator {
                    JoinOperator::CrossJoin(JoinConstraint::None) => false,
                    JoinOperator::Join(c) | JoinOperator::Inner(c) if always(c) => false,
                    JoinOperator::Left(c) | JoinOperator::LeftOuter(c) if always(c) => true,
                    _ => {
                        let e = Error::sql("UNNEST is joined with a condition");
                        return Err(self.fail(
                            &relation,
                            e.remedy(
                                "write CROSS JOIN UNNEST(..), or LEFT JOIN UNNEST(..) ON TRUE, and filter in WHERE",
                            ),
                        ));
                    }
                };
                left = TableWithJoins { relation: self.carrier(as_factor(left), relation, outer)?, joins: Vec::new() };
            }
            out.push(left);
        }
        Ok(out)
    }

    fn carrier(&self, left: TableFactor, unnest: TableFactor, outer: bool) -> Result<TableFactor> {
        let place = unnest.clone();
        let TableFactor::UNNEST { alias, mut array_exprs, with_offset, with_ordinality, .. } = unnest else {
            return Err(Error::internal("not an UNNEST"));
        };
        if array_exprs.len() != 1 || with_offset {
            let e = Error::sql("UNNEST takes one array");
            return Err(self.fail(&place, e.remedy("write one UNNEST(array) after the other; WITH ORDINALITY numbers")));
        }
        Ok(TableFactor::Unpivot {
            table: Box::new(left),
            value: array_exprs.remove(0),
            name: Ident::new(if with_ordinality { UNNEST_WITH_ORDINALITY } else { UNNEST }),
            columns: Vec::new(),
            null_inclusion: outer.then_some(NullInclusion::IncludeNulls),
            alias,
        })
    }

    fn fail(&self, of: &dyn Spanned, e: Error) -> Error {
        let at = of.span().start;
        if at.line > 0 { e.at(Place::line_column(self.file, at.line, at.column)) } else { e }
    }
}

/// `[LATERAL] TABLE(f(x)) AS t (a)` is `UNNEST(f(x)) AS t (a)`: each element of the array, or entry of the map, that a function
/// returns is a row. Functions of windows stay what they are.
fn table_functions(item: &mut TableWithJoins) {
    for relation in std::iter::once(&mut item.relation).chain(item.joins.iter_mut().map(|j| &mut j.relation)) {
        let (array, alias) = match relation {
            TableFactor::TableFunction { expr, alias } if !super::window::is_window(expr) => {
                (expr.clone(), alias.take())
            }
            TableFactor::Function { lateral: true, name, args, with_ordinality: false, alias } => {
                let [FunctionArg::Unnamed(FunctionArgExpr::Expr(array))] = args.as_slice() else { continue };
                if !name.to_string().eq_ignore_ascii_case("TABLE") {
                    continue;
                }
                (array.clone(), alias.take())
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                table_functions(table_with_joins);
                continue;
            }
            _ => continue,
        };
        *relation = TableFactor::UNNEST {
            alias,
            array_exprs: vec![array],
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        };
    }
}

fn counts_distinct_everything(e: &Expr) -> bool {
    let Expr::Function(f) = e else { return false };
    let FunctionArguments::List(list) = &f.args else { return false };
    f.name.to_string().eq_ignore_ascii_case("count")
        && matches!(list.duplicate_treatment, Some(DuplicateTreatment::Distinct))
        && matches!(list.args.as_slice(), [FunctionArg::Unnamed(FunctionArgExpr::Wildcard)])
}

fn as_factor(t: TableWithJoins) -> TableFactor {
    if t.joins.is_empty() { t.relation } else { TableFactor::NestedJoin { table_with_joins: Box::new(t), alias: None } }
}

/// No condition, or `ON TRUE`.
fn always(c: &JoinConstraint) -> bool {
    match c {
        JoinConstraint::None => true,
        JoinConstraint::On(Expr::Value(v)) => matches!(v.value, Value::Boolean(true)),
        _ => false,
    }
}
