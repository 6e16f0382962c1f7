//! What is not there in streaming, said in terms of the query and at its place.

use super::super::locate::Construct;
use super::Lowering;
use datafusion_common::JoinType;
use datafusion_common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion_expr::{Expr as Logical, LogicalPlan};
use datafusion_sql::sqlparser::ast;
use millstream_core::{Error, Result};

impl Lowering<'_, '_> {
    /// Puts a refusal where its construct stands in the query.
    pub fn locate(&self, e: Error, query: &ast::Query) -> Error {
        if e.place().is_some() {
            return e;
        }
        let what = e.what();
        let construct = if what.starts_with("INTERSECT") {
            Construct::SetOperation
        } else if what.starts_with("joins") {
            Construct::Join
        } else if what.starts_with("SELECT DISTINCT") {
            let e = self.provider.at(e, query, Construct::Distinct);
            return self.provider.at(e, query, Construct::SetOperation);
        } else if what.starts_with("ORDER BY") {
            Construct::OrderBy
        } else if what.contains("GROUP BY") || what.contains("grouping set") {
            Construct::GroupBy
        } else if what.starts_with("subqueries") {
            Construct::Subquery
        } else if what.starts_with("CURRENT_WATERMARK") {
            Construct::Function("current_watermark")
        } else if let Some((name, _)) = what.split_once(" OVER") {
            let name = name.to_string();
            return self.provider.at(e, query, Construct::Function(&name));
        } else {
            return self.provider.placed(e, query);
        };
        self.provider.at(e, query, construct)
    }
}

/// What the engine cannot do in a stream, said in terms of the query.
pub fn refuse(plan: &LogicalPlan) -> Error {
    let batch = "or run it over bounded input with SET 'execution.runtime-mode' = 'batch'";
    match plan {
        LogicalPlan::Join(j) if matches!(j.join_type, JoinType::LeftSemi | JoinType::LeftAnti) => {
            Error::sql("INTERSECT and EXCEPT are joins, and those are not there yet in streaming")
                .remedy(format!("filter with WHERE, {batch}"))
        }
        LogicalPlan::Join(_) => {
            Error::sql("joins are not there yet in streaming").remedy(format!("join outside, {batch}"))
        }
        LogicalPlan::Distinct(_) => Error::sql("SELECT DISTINCT, UNION, INTERSECT and EXCEPT without ALL keep every row they have seen, and updating results are not there yet")
            .remedy(format!("group by a window, or write UNION ALL, {batch}")),
        LogicalPlan::Sort(_) => Error::sql("ORDER BY is not there in streaming: a stream has no end to sort by")
            .remedy(format!("leave it out, {batch}")),
        LogicalPlan::RecursiveQuery(_) => Error::sql("recursive queries are not there").remedy("unfold the recursion"),
        LogicalPlan::Unnest(_) => Error::sql("UNNEST in SELECT is not there").remedy("write FROM t CROSS JOIN UNNEST(t.array) AS e (x)"),
        other => Error::sql(format!("not there yet in streaming: {}", other.display())).remedy(format!("rewrite the query, {batch}")),
    }
}

/// What no operator can do: subqueries inside expressions are joins, and those are not there yet.
pub fn refuse_unknown(plan: &LogicalPlan) -> Result<()> {
    let mut found = false;
    let searched = plan.apply_with_subqueries(|p| {
        p.apply_expressions(|e| {
            e.apply(|e| {
                found |= matches!(
                    e,
                    Logical::ScalarSubquery(_)
                        | Logical::InSubquery(_)
                        | Logical::Exists(_)
                        | Logical::SetComparison(_)
                        | Logical::OuterReferenceColumn(..)
                );
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            })
        })
    });
    searched.map_err(|e| Error::internal(e.strip_backtrace()))?;
    if !found {
        return Ok(());
    }
    Err(Error::sql(
        "subqueries inside expressions (IN, EXISTS, = (SELECT ..)) are joins, and those are not there yet in streaming",
    )
    .remedy("filter by constants, or run it over bounded input with SET 'execution.runtime-mode' = 'batch'"))
}
