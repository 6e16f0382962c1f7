//! Statements to a job.
//!
//! ```text
//!  INSERT, SELECT ──provider──▶ logical plan ──settle types──▶ fit to the sink ──optimize──▶ lower ──▶ Dataflow
//!                                    │                                              │
//!                     tables, views, window functions                  kept for the batch engine
//! ```
//!
//! All statements of a job become one graph: a table is read once, with the columns that any of them needs, and what
//! two of them compute alike is computed once.

mod as_of;
mod broadcast;
mod changes;
mod counted;
pub mod emit;
mod errors;
mod expressions;
mod graph;
mod literals;
mod locate;
mod lower;
mod marker;
mod marks;
mod multi;
mod narrow;
mod placed;
mod proctime;
mod provider;
mod pruned;
mod rewrite;
mod sink;
pub mod table;
mod tuples;
pub mod types;
pub mod unnest;
pub mod window;

#[cfg(test)]
mod tests;

use crate::catalog::{Catalog, Span};
use crate::functions::{FlinkCasts, FlinkOperators};
use crate::statement::Insert;
use datafusion_common::DataFusionError;
use datafusion_expr::LogicalPlan;
use datafusion_optimizer::analyzer::function_rewrite::ApplyFunctionRewrites;
use datafusion_optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion_optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion_optimizer::analyzer::{Analyzer, AnalyzerRule};
use datafusion_optimizer::optimizer::{Optimizer, OptimizerContext, OptimizerRule};
use datafusion_sql::sqlparser::ast;
use lower::{Lowering, Needs};
use millstream_core::{Connectors, Error, Millis, Place, Result, TableSpec};
use millstream_dataflow::graph::{Changes, Dataflow, NotNull};
use provider::Provider;
use std::collections::BTreeMap;
use std::sync::Arc;
use table::Scan;

/// Option of the table `result` of a plain SELECT whose rows are updated.
pub const UPDATES: &str = "updates";

/// What is to be run together.
#[derive(Debug, Clone, Copy)]
pub enum Job<'a> {
    /// One INSERT, or those of a statement set.
    Inserts(&'a [Insert]),
    /// A plain SELECT: its rows go to the connector `result`.
    Query { query: &'a ast::Query, span: Span },
}

/// A job, planned.
#[derive(Debug, Clone)]
pub struct Planned {
    /// The graph for the streaming engine. In batch mode it has no nodes.
    pub dataflow: Dataflow,
    pub statements: Vec<PlannedStatement>,
    /// How each table is read that a statement scans, with all columns that any of them needs.
    pub scans: BTreeMap<String, Scan>,
    /// The answer depends on the order of rows in their tables: of rows that tie in an order, or of lists. Or tables are asked
    /// for it that cannot be read. Either way our own operators have to give it.
    pub ordered: bool,
    /// What the user should know though it is no error.
    pub notices: Vec<String>,
    /// The job's one reading of the clock, in milliseconds since the epoch: what `NOW()` says all along.
    pub start: Millis,
}

/// One statement of a job, for the batch engine and for EXPLAIN.
#[derive(Debug, Clone)]
pub struct PlannedStatement {
    pub sink: TableSpec,
    /// What becomes of a row with NULL for a NOT NULL column of the sink. `None`: nothing, for a plain SELECT.
    pub not_null: Option<NotNull>,
    /// Optimized; its columns are those of the sink. Scans are of [`table::DeclaredTable`], window functions
    /// [`window::WindowTvf`], arrays [`unnest::CrossUnnest`].
    pub logical: LogicalPlan,
    pub place: Place,
}

/// Plans a job over what the catalog declares. `start` is the job's one reading of the clock: `NOW()` and
/// `CURRENT_TIMESTAMP` are constants of a job.
///
/// # Errors
/// Whatever is wrong with the statements or not there yet, with its place in `file` and the remedy.
pub fn plan_job(
    catalog: &Catalog,
    job: Job<'_>,
    file: &str,
    connectors: &dyn Connectors,
    start: Millis,
) -> Result<Planned> {
    // Planning goes as deep as the text does.
    crate::parse::with_stack(|| plan_on_stack(catalog, job, file, connectors, start))
}

fn plan_on_stack(
    catalog: &Catalog,
    job: Job<'_>,
    file: &str,
    connectors: &dyn Connectors,
    start: Millis,
) -> Result<Planned> {
    let provider = Provider::new(catalog, file, start)?;
    let mut statements = Vec::new();
    let queries: Vec<&ast::Query> = match job {
        Job::Inserts(inserts) => inserts.iter().map(|i| i.query.as_ref()).collect(),
        Job::Query { query, .. } => vec![query],
    };
    for (i, query) in queries.iter().enumerate() {
        let (span, statement) = match job {
            Job::Inserts(inserts) => (inserts[i].span, Some(&inserts[i])),
            Job::Query { span, .. } => (span, None),
        };
        let place = Place::line_column(file, span.line, span.column);
        let planned = match statement {
            Some(insert) => provider.insert(insert, place.clone()),
            None => provider.select(query, place.clone()),
        };
        statements.push(planned.map_err(|e| provider.placed(quotes(e, query), query).at(place))?);
    }
    if catalog.settings.batch && provider.asks(connectors)? {
        // A table that cannot be read is asked in batch mode too, which our own operators do.
        let mut catalog = catalog.clone();
        (catalog.settings.batch, catalog.settings.final_results) = (false, true);
        let planned = plan_on_stack(&catalog, job, file, connectors, start)?;
        return Ok(Planned { ordered: true, ..planned });
    }
    let mut needs = Needs { batch: catalog.settings.batch, ..Needs::default() };
    for s in &statements {
        let (clock, watermarks) = (lower::says_proctime(&s.logical), lower::says_watermark(&s.logical));
        // Panes by the clock ask the sources for it, though no column does.
        let clock = clock || provider.emits_by_the_clock(&s.logical);
        needs.add(&s.logical, false, clock, watermarks);
    }
    let mut scans = BTreeMap::new();
    for (name, needed) in &needs.tables {
        scans.insert(name.clone(), provider.table(name)?.scan(needed, &provider, connectors)?);
    }
    let mut lookups = BTreeMap::new();
    for (name, needed) in &needs.lookups {
        lookups.insert(name.clone(), provider.table(name)?.scan(needed, &provider, connectors)?);
    }
    provider.validate(&statements, &scans, &lookups, connectors)?;
    if catalog.settings.batch
        && let Some((name, _)) = scans.iter().find(|(_, scan)| scan.node.brings != Changes::Insert)
    {
        return Err(Error::sql(format!("`{name}` brings changes, and batch mode reads rows that stay"))
            .at(provider.table(name)?.def.place.clone())
            .remedy("run it in streaming mode: over bounded input it ends too, and what stands then is the answer"));
    }
    let first = statements.first().map(|s| s.place.clone());
    let (late_output, bad_output) = provider.side_outputs(connectors).map_err(|e| match first {
        Some(place) => e.at(place),
        None => e,
    })?;
    let mut dataflow = Dataflow::default();
    if !catalog.settings.batch {
        let mut lowering = Lowering::new(&provider, &scans, &lookups, connectors);
        for (s, query) in statements.iter().zip(&queries) {
            lowering.statement(s, query)?;
        }
        dataflow = lowering.finish()?;
        pruned::prune(&mut dataflow, connectors);
        multi::merge(&mut dataflow);
    }
    (dataflow.late_output, dataflow.bad_output) = (late_output, bad_output);
    Ok(Planned { ordered: needs.ordered, dataflow, statements, scans, notices: Vec::new(), start })
}

/// An unknown column whose name stands in double quotes was meant for a text.
fn quotes(e: Error, query: &ast::Query) -> Error {
    let Some(name) = e.what().strip_prefix("column `").and_then(|what| what.strip_suffix("` is unknown")) else {
        return e;
    };
    let quoted = ast::visit_expressions(query, |expr| match expr {
        ast::Expr::Identifier(i) if i.quote_style == Some('"') && i.value == name => std::ops::ControlFlow::Break(()),
        _ => std::ops::ControlFlow::Continue(()),
    });
    if quoted.is_continue() {
        return e;
    }
    let meant = Error::sql(e.what()).remedy(format!("a text stands in single quotes: '{name}'"));
    match e.place() {
        Some(place) => meant.at(place.clone()),
        None => meant,
    }
}

impl Provider<'_> {
    /// Settles types: what DataFusion's analyzer does, with the dialect's operators before and its casts behind.
    fn settle(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let rules: Vec<Arc<dyn AnalyzerRule + Send + Sync>> = vec![
            Arc::new(ResolveGroupingFunction::new()),
            Arc::new(FlinkOperators::default()),
            Arc::new(TypeCoercion::new()),
            self.casts(),
        ];
        Analyzer::with_rules(rules).execute_and_check(plan, &self.config, |_, _| {})
    }

    fn casts(&self) -> Arc<ApplyFunctionRewrites> {
        Arc::new(ApplyFunctionRewrites::new(vec![Arc::new(FlinkCasts { zone: self.zone })]))
    }

    fn optimize(&self, plan: LogicalPlan) -> Result<LogicalPlan, DataFusionError> {
        let (plan, tables) = lower::mark_lookups(plan, self.catalog.settings.batch)?;
        self.looked_up.borrow_mut().extend(tables);
        // The columns have been fitted to the sink by casts of their own.
        let plan = self.casts().analyze(plan, &self.config)?;
        let context =
            OptimizerContext::new_with_config_options(self.config.clone()).with_query_execution_start_time(self.now());
        Optimizer::with_rules(rules()).optimize(plan, &context, |_, _| {})
    }

    fn fail(&self, e: DataFusionError) -> Error {
        errors::explain(e, self.file, &self.function_names())
    }
}

/// The rules that hold for endless input too. Left out are those that need an end (limits pushed down, single DISTINCT
/// regrouped), and those that put an empty relation in the place of a table: a filter that nothing passes leaves the stream
/// its time.
fn rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    use datafusion_optimizer as o;
    vec![
        Arc::new(o::rewrite_set_comparison::RewriteSetComparison::new()),
        Arc::new(o::optimize_unions::OptimizeUnions::new()),
        Arc::new(o::simplify_expressions::SimplifyExpressions::new()),
        Arc::new(marks::Marks),
        Arc::new(o::replace_distinct_aggregate::ReplaceDistinctWithAggregate::new()),
        Arc::new(o::decorrelate_predicate_subquery::DecorrelatePredicateSubquery::new()),
        Arc::new(o::scalar_subquery_to_join::ScalarSubqueryToJoin::new()),
        Arc::new(o::decorrelate_lateral_join::DecorrelateLateralJoin::new()),
        Arc::new(o::extract_equijoin_predicate::ExtractEquijoinPredicate::new()),
        Arc::new(o::eliminate_duplicated_expr::EliminateDuplicatedExpr::new()),
        Arc::new(o::eliminate_cross_join::EliminateCrossJoin::new()),
        Arc::new(o::eliminate_outer_join::EliminateOuterJoin::new()),
        Arc::new(o::push_down_filter::PushDownFilter::new()),
        Arc::new(o::common_subexpr_eliminate::CommonSubexprEliminate::new()),
        Arc::new(o::optimize_projections::OptimizeProjections::new()),
    ]
}
