//! Where in the text something stands that the plan no longer knows the place of.

use super::provider::Provider;
use crate::functions::plain_calls;
use datafusion_sql::sqlparser::ast::{
    Distinct, Expr, GroupByExpr, Query, Select, SetExpr, Spanned, TableFactor, Visit, Visitor,
};
use datafusion_sql::sqlparser::tokenizer::Location;
use millstream_core::{Error, Place};
use std::ops::ControlFlow;

/// What to look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Construct<'n> {
    Join,
    Distinct,
    SetOperation,
    OrderBy,
    GroupBy,
    Subquery,
    /// A call of this function, OVER or not.
    Function(&'n str),
}

/// The first of it in the query.
pub fn locate(query: &Query, what: Construct<'_>) -> Option<Location> {
    match query.visit(&mut Finder { what, depth: 0 }) {
        ControlFlow::Break(at) if at.line > 0 => Some(at),
        _ => None,
    }
}

/// Where the value of column `index` stands in SELECT.
pub fn locate_column(query: &Query, index: usize) -> Option<Location> {
    fn of(body: &SetExpr, index: usize) -> Option<Location> {
        match body {
            SetExpr::Select(s) => s.projection.get(index).map(|item| item.span().start),
            SetExpr::Query(q) => of(&q.body, index),
            SetExpr::SetOperation { left, .. } => of(left, index),
            _ => None,
        }
    }
    of(&query.body, index).filter(|at| at.line > 0)
}

struct Finder<'n> {
    what: Construct<'n>,
    depth: usize,
}

impl Visitor for Finder<'_> {
    type Break = Location;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<Location> {
        self.depth += 1;
        match self.what {
            Construct::OrderBy => match &query.order_by {
                Some(o) => ControlFlow::Break(o.span().start),
                None => ControlFlow::Continue(()),
            },
            Construct::SetOperation => match query.body.as_ref() {
                SetExpr::SetOperation { right, .. } => ControlFlow::Break(right.span().start),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<Location> {
        let found = match self.what {
            Construct::Join => {
                let join = select.from.iter().find_map(|t| t.joins.first()).map(|j| j.relation.span().start);
                join.or_else(|| select.from.get(1).map(|t| t.relation.span().start))
            }
            Construct::Distinct => match &select.distinct {
                Some(Distinct::Distinct | Distinct::On(_)) => Some(select.span().start),
                _ => None,
            },
            Construct::GroupBy => match &select.group_by {
                GroupByExpr::Expressions(e, _) => e.first().map(|e| e.span().start),
                GroupByExpr::All(_) => None,
            },
            _ => None,
        };
        found.map_or(ControlFlow::Continue(()), ControlFlow::Break)
    }

    fn pre_visit_table_factor(&mut self, _: &TableFactor) -> ControlFlow<Location> {
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, e: &Expr) -> ControlFlow<Location> {
        let found = match (self.what, e) {
            (Construct::Function(name), Expr::Function(f)) if f.name.to_string().eq_ignore_ascii_case(name) => true,
            (Construct::Subquery, Expr::Subquery(_) | Expr::InSubquery { .. } | Expr::Exists { .. }) => true,
            _ => false,
        };
        if found { ControlFlow::Break(e.span().start) } else { ControlFlow::Continue(()) }
    }
}

impl Provider<'_> {
    /// The error at its construct, where that stands in the query.
    pub fn at(&self, e: Error, query: &Query, what: Construct<'_>) -> Error {
        match locate(query, what) {
            Some(at) => e.at(self.place(at)),
            None => e,
        }
    }

    pub fn place(&self, at: Location) -> Place {
        Place::line_column(self.file, at.line, at.column)
    }

    /// The error at the function it speaks of, where it has no place yet.
    pub fn placed(&self, e: Error, query: &Query) -> Error {
        if e.place().is_some() {
            return e;
        }
        let first = e.what().split(' ').next().unwrap_or_default();
        if ["UNION", "INTERSECT", "EXCEPT"].contains(&first) {
            return self.at(e, query, Construct::SetOperation);
        }
        let quoted = e.what().split(['\'', '`']).skip(1).step_by(2).chain([first]);
        let names: Vec<String> = quoted.map(|q| q.split('(').next().unwrap_or(q).to_string()).collect();
        let found = names.iter().find_map(|name| locate(query, Construct::Function(name))).or_else(|| {
            // `FLOOR(ts TO HOUR)` is called by another name in the plan.
            let mut plain = query.clone();
            plain_calls(&mut plain);
            names.iter().find_map(|name| locate(&plain, Construct::Function(name)))
        });
        match found {
            Some(at) => e.at(self.place(at)),
            None => e,
        }
    }
}
