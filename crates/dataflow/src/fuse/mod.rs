//! Puts faster expressions in the place of compiled ones that say the same.
//!
//! An expression is evaluated node by node, and each node makes a column. Here the shapes are looked for that are worth
//! a pass of their own:
//!
//! ```text
//!  CAST(bigint AS DECIMAL) * 0.908        ──scaled──▶ one multiplication, 64 by 64 bits
//!  .. * 0.908 > 1000000                   ──scaled──▶ bigint > 1101321
//!  LOWER(x) IN ('a', 'b'), x = 'a'        ──words───▶ one pass over x that makes no text
//!  f(y) OR x = 'a'                        ──open────▶ x = 'a' first, f on the rows that are still open
//!  kind = 1 AND bid.price > 5             ──open────▶ kind = 1 first, the price of the few rows that are left
//!  CASE WHEN .. THEN 'a' .. ELSE f(y) END ──choice──▶ which branch, for each row; f on its rows; one column
//!  CASE kind WHEN 0 THEN a .. ELSE b END  ──pick────▶ which branch, for each row; each value from its column
//!  CHAR_LENGTH(REPLACE(x, 'c', ''))       ──letters─▶ counts, and makes no text
//!  SPLIT_INDEX(x, '/', 3), .. 4), .. 5)   ──parts───▶ one pass over x for all of them
//! ```
//!
//! Always true:
//! - Values and types are those of the expression that was there.
//! - What can fail is evaluated on the same rows or on fewer, as SQL lets AND, OR and CASE do, and never on more.
//! - Labels and messages keep the SQL of the expression that was there: only [`Expr::physical`] changes.

mod branches;
mod choice;
mod letters;
mod open;
pub mod parts;
mod pick;
pub mod reads;
mod scaled;
mod some_rows;
pub mod text;
mod words;

use crate::expr::Expr;
use crate::floats::{Comparison, is_comparison};
use arrow::datatypes::Schema;
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_expr::Operator;
use datafusion_physical_expr::expressions::{
    BinaryExpr, Column, InListExpr, IsNotNullExpr, IsNullExpr, Literal, NotExpr,
};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use millstream_core::{Error, Result};
use std::sync::Arc;

type Physical = Arc<dyn PhysicalExpr>;

/// The same expression over columns of `input`, faster where it has a shape that is known here.
///
/// # Errors
/// The expression does not fit the columns, which is our mistake.
pub fn fuse(expr: &Expr, input: &Schema) -> Result<Expr> {
    let fused = fuse_tree(&expr.physical, input)
        .map_err(|e| Error::internal(format!("{}, in `{}`", e.strip_backtrace(), expr.sql)))?;
    Ok(Expr::new(fused, expr.field.clone(), expr.sql.clone()))
}

fn fuse_tree(expr: &Physical, input: &Schema) -> datafusion_common::Result<Physical> {
    // From the leaves up, so that each rule sees children that have been through them.
    let fused = expr.clone().transform_up(|node| {
        let rules = [scaled::fuse, words::fuse, letters::fuse, open::fuse, choice::fuse, pick::fuse];
        for rule in rules {
            if let Some(faster) = rule(&node, input)? {
                return Ok(Transformed::yes(faster));
            }
        }
        Ok(Transformed::no(node))
    });
    fused.map(|t| t.data)
}

/// Whether the expression cannot fail and costs little: it may be evaluated on rows that do not need it.
fn is_plain(e: &Physical) -> bool {
    let node = e.as_ref();
    let itself = if let Some(b) = node.downcast_ref::<BinaryExpr>() {
        is_comparison(*b.op()) || matches!(b.op(), Operator::And | Operator::Or)
    } else if let Some(f) = node.downcast_ref::<ScalarFunctionExpr>() {
        matches!(f.name(), "lower" | "upper" | "char_length" | "hour" | "minute" | "second")
            || reads::field_of(e).is_some()
    } else {
        node.is::<Column>()
            || node.is::<Literal>()
            || node.is::<InListExpr>()
            || node.is::<IsNullExpr>()
            || node.is::<IsNotNullExpr>()
            || node.is::<NotExpr>()
            || node.is::<Comparison>()
            || node.is::<words::InWords>()
            || node.is::<letters::Without>()
            || node.downcast_ref::<open::Open>().is_some_and(open::Open::is_plain)
    };
    itself && e.children().into_iter().all(is_plain)
}

/// The value of a constant.
fn literal(e: &Physical) -> Option<&datafusion_common::ScalarValue> {
    e.downcast_ref::<Literal>().map(Literal::value)
}

/// The text of a constant that is one.
fn literal_text(e: &Physical) -> Option<&str> {
    literal(e)?.try_as_str()?
}
