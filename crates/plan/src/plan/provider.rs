//! What the SQL planner may ask about the world: tables, views, functions, types.
//!
//! ```text
//!  name ──▶ WITH (DataFusion's own) ──▶ table of the catalog ──▶ DeclaredTable (a scan of all its columns)
//!                                  └──▶ view of the catalog  ──▶ its query, planned in a scope of its own
//! ```

use super::as_of::VersionsPlanner;
use super::broadcast::BroadcastPlanner;
use super::counted::CountedPlanner;
use super::errors::external;
use super::rewrite::rewrite_query;
use super::table::DeclaredTable;
use super::types::SqlTypes;
use super::unnest::UnnestPlanner;
use super::window::WindowPlanner;
use crate::catalog::Catalog;
use crate::functions::{FlinkExprPlanner, FunctionRegistry, SessionZone, built_in, plain_calls, register};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion_common::config::ConfigOptions;
use datafusion_common::{DataFusionError, TableReference};
use datafusion_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableProviderFilterPushDown, TableSource,
    WindowUDF,
};
use datafusion_sql::planner::{ParserOptions, SqlToRel};
use datafusion_sql::sqlparser::ast;
use millstream_core::{Error, Millis, Result};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Views may stand on views, this deep.
const VIEW_DEPTH_MAX: usize = 64;

/// One planning session over a catalog.
pub struct Provider<'a> {
    pub catalog: &'a Catalog,
    pub file: &'a str,
    pub config: Arc<ConfigOptions>,
    /// The job's one reading of the clock, in milliseconds since the epoch.
    pub start: Millis,
    pub zone: SessionZone,
    functions: FunctionRegistry,
    expr_planners: Vec<Arc<dyn ExprPlanner>>,
    relation_planners: Vec<Arc<dyn RelationPlanner>>,
    types: Arc<dyn TypePlanner>,
    /// Views being planned, outermost first: a view that meets itself here stands on itself.
    open_views: RefCell<Vec<String>>,
    /// Tables that are looked up by what has been planned.
    pub looked_up: RefCell<BTreeSet<String>>,
    /// Tables resolved so far: a table is resolved once for a job.
    tables: RefCell<BTreeMap<String, Arc<DeclaredTable>>>,
}

impl<'a> Provider<'a> {
    pub fn new(catalog: &'a Catalog, file: &'a str, start: Millis) -> Result<Provider<'a>> {
        let zone: SessionZone = catalog.settings.local_time_zone.parse()?;
        let mut config = ConfigOptions::default();
        config.execution.time_zone = Some(catalog.settings.local_time_zone.clone());
        config.sql_parser.enable_ident_normalization = false;
        config.sql_parser.parse_float_as_decimal = true;
        config.sql_parser.map_string_types_to_utf8view = false;
        config.sql_parser.collect_spans = true;
        // As in Flink, NULL is the least value.
        config.sql_parser.default_null_ordering = "nulls_min".into();
        config.optimizer.skip_failed_rules = false;
        // A subquery's result changes while rows come: it is joined.
        config.optimizer.enable_physical_uncorrelated_scalar_subquery = false;
        let functions = register(&zone);
        let dialect = FlinkExprPlanner::new(&functions)
            .ok_or_else(|| Error::internal("a function that the dialect has syntax for is not registered"))?;
        Ok(Provider {
            catalog,
            file,
            config: Arc::new(config),
            start,
            zone,
            functions,
            expr_planners: vec![
                // Before DataFusion's: `EXTRACT(DOW ..)` and `SUBSTRING(..)` are the dialect's functions.
                Arc::new(dialect),
                Arc::new(super::literals::LiteralPlanner),
                Arc::new(datafusion_functions::core::planner::CoreFunctionPlanner::default()),
                Arc::new(datafusion_functions_nested::planner::NestedFunctionPlanner),
                Arc::new(datafusion_functions_nested::planner::FieldAccessPlanner),
                Arc::new(datafusion_functions::datetime::planner::DatetimeFunctionPlanner),
                Arc::new(datafusion_functions::unicode::planner::UnicodeFunctionPlanner),
                Arc::new(datafusion_functions_aggregate::planner::AggregateFunctionPlanner),
                Arc::new(datafusion_functions_window::planner::WindowFunctionPlanner),
            ],
            relation_planners: vec![
                Arc::new(WindowPlanner::new(file)),
                Arc::new(UnnestPlanner::new(file)),
                Arc::new(CountedPlanner::new(file)),
                Arc::new(VersionsPlanner),
                Arc::new(BroadcastPlanner { batch: catalog.settings.batch }),
            ],
            types: Arc::new(SqlTypes),
            open_views: RefCell::default(),
            looked_up: RefCell::default(),
            tables: RefCell::default(),
        })
    }

    /// The SQL planner over this session.
    pub fn sql(&self) -> SqlToRel<'_, Provider<'a>> {
        SqlToRel::new_with_options(self, ParserOptions::from(&self.config.sql_parser))
    }

    /// The built-in function that is called by this name.
    fn called<'n>(&'n self, name: &'n str) -> &'n str {
        let created = self.catalog.functions.get(&name.to_lowercase());
        created.and_then(|function| built_in(function).ok()).unwrap_or(name)
    }

    /// The names of all functions, for what may have been meant.
    pub fn function_names(&self) -> Vec<String> {
        let f = &self.functions;
        let created = self.catalog.functions.values().map(|f| f.name.clone()).collect();
        [f.scalar_names(), f.aggregate_names(), f.window_names(), created].concat()
    }

    /// The raw logical plan of a query, in a scope of its own.
    pub fn query(&self, query: &ast::Query) -> Result<LogicalPlan, DataFusionError> {
        let mut query = Box::new(query.clone());
        rewrite_query(&mut query, self.file).map_err(external)?;
        plain_calls(query.as_mut());
        let plan = self.sql().sql_statement_to_plan(ast::Statement::Query(query))?;
        super::emit::place(plan, !self.catalog.settings.batch)
    }

    /// The declared table of this name with its columns resolved.
    pub fn table(&self, name: &str) -> Result<Arc<DeclaredTable>> {
        if let Some(table) = self.tables.borrow().get(name) {
            return Ok(table.clone());
        }
        let Some(def) = self.catalog.tables.get(name) else {
            return Err(self.catalog.unknown_table(name));
        };
        let table = Arc::new(DeclaredTable::resolve(def, self)?);
        self.tables.borrow_mut().insert(name.to_string(), table.clone());
        Ok(table)
    }

    fn view(&self, name: &str) -> Result<LogicalPlan, DataFusionError> {
        let view = &self.catalog.views[name];
        if self.open_views.borrow().iter().any(|v| v == name) {
            let e = Error::sql(format!("view `{name}` stands on itself")).at(view.place.clone());
            return Err(external(e.remedy("name another table in its query")));
        }
        if self.open_views.borrow().len() >= VIEW_DEPTH_MAX {
            let e = Error::sql(format!("views stand on views more than {VIEW_DEPTH_MAX} deep"));
            return Err(external(e.at(view.place.clone()).remedy("join some of them into one")));
        }
        self.open_views.borrow_mut().push(name.to_string());
        let plan = self.query(&view.query);
        self.open_views.borrow_mut().pop();
        let plan = plan?;
        if view.columns.is_empty() {
            return Ok(plan);
        }
        let fields = plan.schema().fields().len();
        if view.columns.len() != fields {
            let e = Error::sql(format!("view `{name}` names {} columns, its query has {fields}", view.columns.len()));
            return Err(external(e.at(view.place.clone()).remedy("name every column of the query, or none")));
        }
        let columns = plan.schema().columns();
        let renamed = columns.into_iter().zip(&view.columns).map(|(c, name)| datafusion_expr::col(c).alias(name));
        LogicalPlanBuilder::from(plan.clone()).project(renamed.collect::<Vec<_>>())?.build()
    }
}

/// A view as the SQL planner sees it: inlined at once.
struct ViewSource {
    schema: SchemaRef,
    plan: LogicalPlan,
}

impl TableSource for ViewSource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn get_logical_plan(&'_ self) -> Option<Cow<'_, LogicalPlan>> {
        Some(Cow::Borrowed(&self.plan))
    }
}

impl TableSource for DeclaredTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    /// The source hands on every row; filters stay where they are.
    fn supports_filters_pushdown(
        &self,
        filters: &[&datafusion_expr::Expr],
    ) -> datafusion_common::Result<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Unsupported; filters.len()])
    }
}

impl ContextProvider for Provider<'_> {
    fn get_table_source(&self, name: TableReference) -> datafusion_common::Result<Arc<dyn TableSource>> {
        // `catalog.database.table` names the table by its last part, as a job in Flink's default catalog does.
        let name = name.table();
        if self.catalog.views.contains_key(name) {
            let plan = self.view(name)?;
            return Ok(Arc::new(ViewSource { schema: plan.schema().inner().clone(), plan }));
        }
        Ok(self.table(name).map_err(external)?)
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        &self.expr_planners
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        &self.relation_planners
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(self.types.clone())
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        if name.eq_ignore_ascii_case(super::proctime::NAME) {
            return Some(Arc::new(super::proctime::proctime()));
        }
        if name == super::as_of::NAME {
            return Some(Arc::new(super::as_of::as_of()));
        }
        if name == super::emit::NAME {
            return Some(Arc::new(super::emit::marker()));
        }
        self.functions.scalar(self.called(name))
    }

    fn get_higher_order_meta(&self, _name: &str) -> Option<Arc<HigherOrderUDF>> {
        None
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.functions.aggregate(self.called(name))
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.functions.window(self.called(name))
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        &self.config
    }

    fn udf_names(&self) -> Vec<String> {
        self.functions.scalar_names()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        Vec::new()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.functions.aggregate_names()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.functions.window_names()
    }
}
