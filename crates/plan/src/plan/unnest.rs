//! `CROSS JOIN UNNEST(array)`: a row for each element.
//!
//! The array is a column of the left side, which DataFusion's planner does not show to the right side of a join. So
//! [`rewrite`](super::rewrite) hands the whole join over as one relation, and it becomes one [`CrossUnnest`] node here.

use super::errors::external;
use super::types::sql_name;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion_common::{DFSchema, DFSchemaRef, Result as DfResult, TableReference};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, ExprSchemable, Extension, LogicalPlan, LogicalPlanBuilder, UserDefinedLogicalNodeCore};
use datafusion_sql::sqlparser::ast::{self, NullInclusion, Spanned, TableFactor};
use millstream_core::multiset::element_of;
use millstream_core::{Error, Place};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Name of the relation that [`rewrite`](super::rewrite) makes of a join with UNNEST.
pub const UNNEST: &str = "__unnest";
pub const UNNEST_WITH_ORDINALITY: &str = "__unnest_with_ordinality";

/// What an UNNEST that stands alone is joined to, as a relation that SQL cannot say: one row without columns.
pub fn one_row() -> TableFactor {
    TableFactor::TableFunction { expr: ast::Expr::value(ast::Value::Null), alias: None }
}

/// Each row of the input once for each element of an array; where the array is a number (INTERSECT ALL), so many times and without
/// columns more.
#[derive(Debug, Clone)]
pub struct CrossUnnest {
    pub input: Arc<LogicalPlan>,
    pub array: Expr,
    /// `LEFT JOIN .. ON TRUE`: a row without elements stays, with NULLs.
    pub outer: bool,
    pub with_ordinality: bool,
    pub alias: Option<TableReference>,
    /// Names of the columns added.
    pub names: Vec<String>,
    pub schema: DFSchemaRef,
}

impl CrossUnnest {
    pub fn new(
        input: Arc<LogicalPlan>,
        array: Expr,
        outer: bool,
        with_ordinality: bool,
        alias: Option<TableReference>,
        names: Vec<String>,
    ) -> DfResult<CrossUnnest> {
        let elements = element_fields(&array.get_type(input.schema().as_ref())?, with_ordinality);
        if elements.len() != names.len() {
            return datafusion_common::internal_err!("UNNEST makes {} columns, not {}", elements.len(), names.len());
        }
        let mut fields: Vec<(Option<TableReference>, FieldRef)> =
            input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        for (f, name) in elements.into_iter().zip(&names) {
            let nullable = f.is_nullable() || outer;
            fields.push((alias.clone(), Arc::new(f.with_name(name).with_nullable(nullable))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(CrossUnnest { input, array, outer, with_ordinality, alias, names, schema })
    }
}

/// What an element gives: a ROW its fields, a MAP key and value, else the element itself, as do the values of a MULTISET.
/// Empty: no collection.
fn element_fields(collection: &DataType, with_ordinality: bool) -> Vec<Field> {
    let of_element = |element: &DataType| match element {
        DataType::Struct(fields) => fields.iter().map(|f| f.as_ref().clone().with_nullable(true)).collect(),
        other => vec![Field::new("f0", other.clone(), true)],
    };
    let mut fields = match collection {
        DataType::List(item) | DataType::LargeList(item) | DataType::FixedSizeList(item, _) => {
            of_element(item.data_type())
        }
        multiset if element_of(multiset).is_some() => element_of(multiset).map(of_element).unwrap_or_default(),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) => fields.iter().map(|f| f.as_ref().clone()).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    if with_ordinality && !fields.is_empty() {
        fields.push(Field::new("ORDINALITY", DataType::Int32, false));
    }
    fields
}

impl PartialEq for CrossUnnest {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
            && self.array == other.array
            && (self.outer, self.with_ordinality) == (other.outer, other.with_ordinality)
            && self.alias == other.alias
            && self.names == other.names
    }
}

impl Eq for CrossUnnest {}

impl PartialOrd for CrossUnnest {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.array.partial_cmp(&other.array)? {
            Ordering::Equal => self.input.partial_cmp(&other.input).filter(|o| *o != Ordering::Equal || self == other),
            order => Some(order),
        }
    }
}

impl Hash for CrossUnnest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.array, self.outer, self.with_ordinality, &self.alias, &self.names).hash(state);
    }
}

impl UserDefinedLogicalNodeCore for CrossUnnest {
    fn name(&self) -> &str {
        "CrossUnnest"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        vec![self.array.clone()]
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.names.iter().cloned().collect()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "CrossUnnest: {}", self.array)
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let (Some(array), Some(input)) = (exprs.pop(), inputs.pop()) else {
            return datafusion_common::internal_err!("UNNEST without array or input");
        };
        let names = self.names.clone();
        CrossUnnest::new(Arc::new(input), array, self.outer, self.with_ordinality, self.alias.clone(), names)
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|i| *i < input.fields().len()).collect();
        for c in self.array.column_refs() {
            needed.push(input.index_of_column(c).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

#[derive(Debug)]
pub struct UnnestPlanner {
    file: String,
}

impl UnnestPlanner {
    pub fn new(file: &str) -> UnnestPlanner {
        UnnestPlanner { file: file.to_string() }
    }
}

impl RelationPlanner for UnnestPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let (table, value, name, outer, alias) = match relation {
            TableFactor::Unpivot { table, value, name, null_inclusion, alias, .. }
                if name.value.starts_with(UNNEST) =>
            {
                (table, value, name, matches!(null_inclusion, Some(NullInclusion::IncludeNulls)), alias)
            }
            other => return Ok(RelationPlanning::Original(Box::new(other))),
        };
        let at = value.span().start;
        let fail =
            |e: Error| external(if at.line > 0 { e.at(Place::line_column(&self.file, at.line, at.column)) } else { e });
        let with_ordinality = name.value == UNNEST_WITH_ORDINALITY;
        let input = match *table {
            one_row if one_row == self::one_row() => LogicalPlanBuilder::empty(true).build()?,
            table => context.plan(table)?,
        };
        let array = context.sql_to_expr(value, input.schema())?;
        let array_type = array.get_type(input.schema().as_ref())?;
        let elements = element_fields(&array_type, with_ordinality);
        if elements.is_empty() {
            let what = format!(
                "UNNEST and TABLE(f(..)) take an ARRAY, a MAP or a MULTISET, and this is {}",
                sql_name(&array_type)
            );
            return Err(fail(Error::sql(what).remedy("name a column of type ARRAY, MAP or MULTISET")));
        }
        let mut names: Vec<String> = elements.iter().map(|f| f.name().clone()).collect();
        let mut qualifier = None;
        if let Some(alias) = alias {
            qualifier = Some(TableReference::bare(alias.name.value));
            if !alias.columns.is_empty() {
                if alias.columns.len() != names.len() {
                    let what = format!("UNNEST makes {} columns, {} are named", names.len(), alias.columns.len());
                    return Err(fail(Error::sql(what).remedy("name them all: AS t (a, b)")));
                }
                names = alias.columns.into_iter().map(|c| c.name.value).collect();
            }
        }
        let node = CrossUnnest::new(Arc::new(input), array, outer, with_ordinality, qualifier, names)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, None))))
    }
}
