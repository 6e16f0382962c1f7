//! What is not there in streaming, said in terms of the query and at its place.

use super::super::locate::Construct;
use super::Lowering;
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
        let construct = if let Some((name, _)) = what.split_once(" cannot take rows back") {
            let name = name.to_string();
            return self.provider.at(e, query, Construct::Function(&name));
        } else if what.starts_with("INTERSECT") {
            Construct::SetOperation
        } else if what.starts_with("joins")
            || ["FOR SYSTEM_TIME", "ASOF JOIN", "MATCH_CONDITION"].iter().any(|clause| what.contains(clause))
        {
            Construct::Join
        } else if what.starts_with("SELECT DISTINCT") {
            let e = self.provider.at(e, query, Construct::Distinct);
            return self.provider.at(e, query, Construct::SetOperation);
        } else if what.starts_with("ORDER BY") {
            Construct::OrderBy
        } else if what.contains("GROUP BY") || what.contains("grouping set") {
            Construct::GroupBy
        } else if what.starts_with("subqueries") || what.starts_with("IN and EXISTS") {
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
        LogicalPlan::Distinct(_) => Error::sql("DISTINCT ON is not there yet in streaming").remedy(format!(
            "keep one row of each key with ROW_NUMBER() OVER (PARTITION BY key ORDER BY time) = 1, {batch}"
        )),
        LogicalPlan::Sort(_) => Error::sql("ORDER BY is not there in streaming: a stream has no end to sort by")
            .remedy(format!(
                "leave it out, order by the time attribute alone, add LIMIT n to keep the first rows up to date, {batch}"
            )),
        LogicalPlan::RecursiveQuery(_) => Error::sql("recursive queries are not there").remedy("unfold the recursion"),
        LogicalPlan::Unnest(_) => {
            Error::sql("UNNEST in SELECT is not there").remedy("write FROM t CROSS JOIN UNNEST(t.array) AS e (x)")
        }
        other => Error::sql(format!("not there yet in streaming: {}", other.display()))
            .remedy(format!("rewrite the query, {batch}")),
    }
}

/// What no operator can do: subqueries inside expressions that are no joins.
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
    Err(Error::sql("subqueries inside expressions (IN, EXISTS, = (SELECT ..)) that are no condition of WHERE are not there yet in streaming")
        .remedy("write it as a join, or run it over bounded input with SET 'execution.runtime-mode' = 'batch'"))
}
