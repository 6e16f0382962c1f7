//! Makes long chains of AND and OR flat.
//!
//! sqlparser reads `a OR b OR c OR ..` into a tree as deep as the chain is long, and every later walk over it (copying,
//! planning, optimising) recurses that deep. AND and OR are associative, with NULL as well, so a chain of `n` becomes a
//! tree of depth log2(n), its operands in the order as written.

use crate::catalog::ColumnKind;
use crate::statement::{Statement, StatementKind};
use datafusion_sql::sqlparser::ast::{BinaryOperator, Expr, Query, Value, VisitMut, VisitorMut};
use std::ops::ControlFlow;

/// Shorter chains stay as they are.
const LONG: usize = 16;

/// All expressions of a statement.
pub(super) fn statement(statement: &mut Statement) {
    if let StatementKind::CreateTable { table, .. } = &mut statement.kind {
        for column in &mut table.columns {
            if let ColumnKind::Computed { expression: e } = &mut column.kind {
                expression(e);
            }
        }
        if let Some(watermark) = &mut table.watermark {
            expression(&mut watermark.expression);
        }
    }
    each_query(statement, &mut |query| {
        let _ = VisitMut::visit(query, &mut Balance);
    });
}

pub(super) fn expression(expression: &mut Expr) {
    let _ = VisitMut::visit(expression, &mut Balance);
}

/// Calls `work` with each query of a statement.
pub(super) fn each_query(statement: &mut Statement, work: &mut dyn FnMut(&mut Query)) {
    match &mut statement.kind {
        StatementKind::Query(query) => work(query),
        StatementKind::CreateView { view, .. } => work(&mut view.query),
        StatementKind::Insert(insert) => work(&mut insert.query),
        StatementKind::StatementSet(inserts) => inserts.iter_mut().for_each(|insert| work(&mut insert.query)),
        StatementKind::Explain { statement, .. } => each_query(statement, work),
        StatementKind::CreateTable { .. }
        | StatementKind::CreateFunction { .. }
        | StatementKind::DropFunction { .. }
        | StatementKind::DropTable { .. }
        | StatementKind::DropView { .. }
        | StatementKind::Set { .. } => {}
    }
}

struct Balance;

impl VisitorMut for Balance {
    type Break = ();

    // Before the children are visited, so that the visit itself does not go as deep as the chain.
    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        for op in [BinaryOperator::And, BinaryOperator::Or] {
            if is_longer_than(expr, &op, LONG) {
                let chain = std::mem::replace(expr, Expr::Value(Value::Null.into()));
                let mut operands = operands(chain, &op);
                *expr = tree(&mut operands, &op);
            }
        }
        ControlFlow::Continue(())
    }
}

fn is_longer_than(mut expr: &Expr, op: &BinaryOperator, length: usize) -> bool {
    for _ in 0..length {
        match expr {
            Expr::BinaryOp { left, op: o, .. } if o == op => expr = left,
            _ => return false,
        }
    }
    true
}

/// The operands of the chain that leans to the left, in their order.
fn operands(mut chain: Expr, op: &BinaryOperator) -> Vec<Expr> {
    let mut operands = Vec::new();
    loop {
        match chain {
            Expr::BinaryOp { left, op: o, right } if o == *op => {
                operands.push(*right);
                chain = *left;
            }
            other => {
                operands.push(other);
                operands.reverse();
                return operands;
            }
        }
    }
}

/// A tree over the operands. They are taken out of the vector.
fn tree(operands: &mut Vec<Expr>, op: &BinaryOperator) -> Expr {
    let half = operands.len() / 2;
    if half == 0 {
        return operands.pop().unwrap_or(Expr::Value(Value::Null.into()));
    }
    let mut right = operands.split_off(half);
    let left = Box::new(tree(operands, op));
    let right = Box::new(tree(&mut right, op));
    // Both halves are of the same operator: written without parentheses they read as the same chain.
    Expr::BinaryOp { left, op: op.clone(), right }
}
