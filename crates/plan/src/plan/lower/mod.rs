//! An optimized logical plan to nodes of the graph.
//!
//! A plan becomes a [`Rel`]: a node of the graph with what is still to be done to its rows. Filters and projections are
//! only noted there, and window functions too, until something has to stand on them:
//!
//! ```text
//!  Aggregate(window_start, window_end, k)         source ─▶ Calc(k, args) ─▶ WindowAggregate
//!    Projection                            ──▶
//!      TUMBLE                                     the projection is in the Calc, the window in the aggregate
//!        TableScan
//! ```
//!
//! So several projections and filters make one Calc, and windows reach the aggregate without rows ever being copied
//! into them. Only what needs the bounds of a window as values makes `WindowRows`.

mod aggregate;
mod calls;
mod group;
mod join;
mod nodes;
mod over;
mod refuse;
mod temporal;
mod top_n;
mod watermark;

use super::PlannedStatement;
use super::as_of::Versions;
use super::changes;
use super::expressions::{Compiler, is_work, substitute};
use super::graph::{Graph, volatile};
use super::provider::Provider;
use super::table::{DeclaredTable, Needed, Scan};
use super::unnest::CrossUnnest;
use super::window::{WindowKind, WindowTvf, describe, no_time_attribute};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column as LogicalColumn, DFSchema, ScalarValue};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr as Logical, FetchType, LogicalPlan, SkipType};
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use datafusion_sql::sqlparser::ast;
use millstream_core::table::Takes;
use millstream_core::{Connectors, Error, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    Calc, Changes, Dataflow, Exchange, Input, NodeKind, SinkNode, Window, WindowRows, WindowTime,
};
use std::collections::BTreeMap;
use std::sync::Arc;

pub use watermark::says_watermark;

/// Lowers the plans of one job into one graph.
pub struct Lowering<'p, 'c> {
    pub provider: &'p Provider<'c>,
    pub compiler: Compiler<'p, 'c>,
    pub graph: Graph,
    /// One source for each table, with all columns that any plan of the job needs.
    scans: &'p BTreeMap<String, Scan>,
    /// The nodes that each written table takes rows from.
    sinks: Vec<(SinkNode, Vec<usize>)>,
    connectors: &'p dyn Connectors,
    /// Window results made so far, to tell their bounds apart.
    windows: u32,
    /// What is lowered stands straight under a [`Versions`]: see [`Lowering::deduplicate`].
    versions: bool,
    /// The statement says `PROCTIME()`.
    clock: bool,
    /// The statement says `CURRENT_WATERMARK(..)`.
    watermarks: bool,
}

/// A node, and what is still to be done to its rows.
#[derive(Debug, Clone, Default)]
pub struct Rel {
    node: usize,
    filter: Option<Expr>,
    /// One for each column of the logical plan.
    columns: Vec<Col>,
    /// A window function on top of filter and columns.
    window: Option<Pending>,
    /// What the bounds of the pending window have to fulfil; columns 0, 1, 2 are its start, end and time.
    bounds_filter: Vec<Arc<dyn PhysicalExpr>>,
    /// `$order`, where the rows still have it.
    order: Option<Expr>,
    /// `$proctime`, where the query still asks for it above.
    clock: Option<Expr>,
    /// The rows are versions, of which a temporal join chooses one for each row of its other side.
    versions: Option<Versioned>,
    /// `$watermark`, where the rows still stand straight over their source and the query asks for it.
    watermark: Option<Expr>,
}

/// What a temporal join has to know of versions.
#[derive(Debug, Clone)]
struct Versioned {
    /// From when a version holds.
    time: Expr,
    /// What tells the versions of one thing from those of another, where a view keeps the last of each. `None`: the unique
    /// columns of the node.
    key: Option<Vec<Expr>>,
    /// What a version has to fulfil once it has been chosen: one that does not still ends the one before it.
    passes: Option<Expr>,
}

impl Versioned {
    fn columns(&self) -> impl Iterator<Item = &Expr> {
        std::iter::once(&self.time).chain(&self.passes).chain(self.key.iter().flatten())
    }

    /// As [`Versioned::columns`].
    fn columns_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        std::iter::once(&mut self.time).chain(&mut self.passes).chain(self.key.iter_mut().flatten())
    }
}

#[derive(Debug, Clone)]
pub struct Col {
    at: At,
    /// The clock that the column follows.
    time: Option<TimeDomain>,
    /// The column is a bound of the window that its row belongs to.
    bound: Option<Bound>,
}

#[derive(Debug, Clone)]
pub enum At {
    /// Over the columns of the node.
    Value(Expr),
    /// A bound of the pending window.
    Window(Part),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Start,
    End,
    Time,
}

/// Which bound of which window result, and what clock closes that window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    part: Part,
    window: u32,
    domain: TimeDomain,
    /// It is a local time of the session's zone: windows over `TIMESTAMP_LTZ`.
    local: bool,
}

#[derive(Debug, Clone)]
struct Pending {
    kind: WindowKind,
    time: Expr,
    domain: TimeDomain,
    zone: Option<String>,
    partition: Vec<Expr>,
}

impl Col {
    fn plain(e: Expr) -> Col {
        Col { at: At::Value(e), time: None, bound: None }
    }

    fn value(&self) -> Option<&Expr> {
        match &self.at {
            At::Value(e) => Some(e),
            At::Window(_) => None,
        }
    }
}

/// Columns of each table that the plans of a job scan, and whether `$order` is wanted.
#[derive(Debug, Default, Clone)]
pub struct Needs {
    pub tables: BTreeMap<String, Needed>,
    /// The batch engine is to run it, which has no use for `$order`.
    pub batch: bool,
    /// The answer depends on the order of rows in their table.
    pub ordered: bool,
}

impl Needs {
    /// Adds what this plan reads. `order`: whether something above it puts rows in an order of their own; `clock`: whether
    /// the statement says `PROCTIME()`; `watermarks`: whether it says `CURRENT_WATERMARK(..)`.
    pub fn add(&mut self, plan: &LogicalPlan, order: bool, clock: bool, watermarks: bool) {
        if let LogicalPlan::TableScan(scan) = plan {
            let Some(table) = scan.source.downcast_ref::<DeclaredTable>() else { return };
            let all = || (0..table.schema.fields().len()).collect();
            let needed = self.tables.entry(table.name.clone()).or_default();
            needed.columns.extend(scan.projection.clone().unwrap_or_else(all));
            needed.order |= order && !self.batch;
            self.ordered |= order;
            needed.clock |= clock;
            needed.row_watermarks |= watermarks;
            return;
        }
        let below = wants_order_below(plan, order);
        for input in plan.inputs() {
            self.add(input, below, clock, watermarks);
        }
    }
}

/// Whether the inputs of this plan have to carry `$order`.
fn wants_order_below(plan: &LogicalPlan, above: bool) -> bool {
    match plan {
        LogicalPlan::Aggregate(a) => a.aggr_expr.iter().any(calls::is_ordered_aggregate),
        // What comes out of a join has no place in a table; the order in which its rows go in decides between versions only.
        LogicalPlan::Join(j) => temporal::has_as_of(j),
        LogicalPlan::Sort(_) => true,
        LogicalPlan::Window(w) => above || w.window_expr.iter().any(over::needs_order),
        // Of several inputs there is no one order.
        LogicalPlan::Union(_) => false,
        _ => above,
    }
}

impl<'p, 'c> Lowering<'p, 'c> {
    pub fn new(
        provider: &'p Provider<'c>,
        scans: &'p BTreeMap<String, Scan>,
        connectors: &'p dyn Connectors,
    ) -> Lowering<'p, 'c> {
        Lowering {
            provider,
            compiler: Compiler::new(provider),
            graph: Graph::default(),
            scans,
            sinks: Vec::new(),
            connectors,
            windows: 0,
            versions: false,
            clock: false,
            watermarks: false,
        }
    }

    /// Adds the nodes of a statement. Its sink comes with [`Lowering::finish`].
    pub fn statement(&mut self, statement: &PlannedStatement, query: &ast::Query) -> Result<()> {
        self.clock = says_proctime(&statement.logical);
        self.watermarks = says_watermark(&statement.logical);
        let lowered = refuse::refuse_unknown(&statement.logical).and_then(|()| self.lower(&statement.logical, false));
        let rel = lowered.map_err(|e| self.locate(e, query).at(statement.place.clone()))?;
        let node = self.emit_exactly(rel, &statement.sink.schema)?;
        match self.sinks.iter_mut().find(|(s, _)| s.table.name == statement.sink.name) {
            Some((_, nodes)) => nodes.push(node),
            None => {
                let sink = SinkNode { table: statement.sink.clone(), not_null: statement.not_null };
                self.sinks.push((sink, vec![node]));
            }
        }
        Ok(())
    }

    /// The whole job. A table that several statements write to has one sink.
    pub fn finish(mut self) -> Result<Dataflow> {
        for (mut sink, mut nodes) in std::mem::take(&mut self.sinks) {
            if nodes.len() > 1 {
                let ports = nodes.iter().map(|n| Input::forward(*n)).collect();
                let schema = self.union_schema(&nodes, &sink.table.schema);
                nodes = vec![self.graph.add("Union".into(), NodeKind::Union, ports, schema)];
            }
            let schema = self.schema(nodes[0]);
            let label = format!("Sink({})", sink.table.name);
            let input = self.sink_input(&sink, nodes[0])?;
            if sink.table.connector() == "result" && self.graph.nodes[nodes[0]].changes != Changes::Insert {
                sink.table.options.insert(super::UPDATES.into(), "true".into());
            }
            self.graph.add(label, NodeKind::Sink(sink), vec![input], schema);
        }
        let mut dataflow = self.graph.into_dataflow();
        let takes: Vec<Option<Takes>> = dataflow
            .nodes
            .iter()
            .map(|n| match &n.kind {
                NodeKind::Sink(sink) => Some(self.connectors.takes(&sink.table)),
                _ => None,
            })
            .collect();
        changes::settle(&mut dataflow.nodes, |sink| takes[sink] != Some(Takes::Upserts));
        Ok(dataflow)
    }

    /// How rows get to a table that is written to.
    ///
    /// # Errors
    /// A result that is updated, for a table that can only add rows.
    fn sink_input(&mut self, sink: &SinkNode, node: usize) -> Result<Input> {
        if self.graph.nodes[node].changes == Changes::Insert {
            return Ok(Input::forward(node));
        }
        let at = |e: Error| match &sink.table.place {
            Some(place) => e.at(place.clone()),
            None => e,
        };
        match self.connectors.takes(&sink.table) {
            Takes::All => Ok(Input::forward(node)),
            Takes::Inserts if matches!(self.graph.nodes[node].kind, NodeKind::WindowAggregate(_)) => {
                // Late rows within the allowed lateness may never come.
                Ok(Input::forward(node))
            }
            Takes::Inserts => Err(at(Error::sql(format!(
                "the result is updated while rows come, and `{}` ('{}') can only add rows",
                sink.table.name,
                sink.table.connector()
            ))
            .remedy(
                "write to a table with a PRIMARY KEY that takes updates ('jdbc'), or aggregate by windows, whose results are \
                 final; a plain SELECT and 'print' show the changes",
            ))),
            Takes::Upserts => {
                let schema = self.schema(node);
                let key: Option<changes::Key> =
                    sink.table.primary_key.iter().map(|name| schema.index_of(name).ok()).collect();
                let key = key.ok_or_else(|| Error::internal("a primary key that is no column of its table"))?;
                let columns: Vec<usize> = key.iter().copied().collect();
                if self.graph.keys[node].iter().any(|k| k.is_subset(&key)) {
                    return Ok(Input { node, port: 0, exchange: Exchange::Hash(columns) });
                }
                // Rows of one key of the table come from several of the query, in any order.
                let names = sink.table.primary_key.join(", ");
                let exchange = Exchange::Hash(columns.clone());
                let kind = NodeKind::UpsertMaterialize { keys: columns, update_before: true };
                let input = Input { node, port: 0, exchange };
                let node = self.graph.add(format!("UpsertMaterialize(by {names})"), kind, vec![input], schema);
                Ok(Input::forward(node))
            }
        }
    }

    /// The names and types of `schema`; a column may be NULL where it may be in one of the inputs.
    fn union_schema(&self, inputs: &[usize], schema: &Schema) -> SchemaRef {
        let fields = schema.fields().iter().enumerate().map(|(i, f)| {
            let nullable = inputs.iter().any(|n| self.graph.nodes[*n].schema.field(i).is_nullable());
            Field::new(f.name(), f.data_type().clone(), nullable)
        });
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }

    fn lower(&mut self, plan: &LogicalPlan, order: bool) -> Result<Rel> {
        self.versions &=
            matches!(plan, LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_));
        match plan {
            LogicalPlan::TableScan(scan) => {
                let Some(table) = scan.source.downcast_ref::<DeclaredTable>() else {
                    return Err(Error::internal(format!("the table {} is not of the catalog", scan.table_name)));
                };
                self.lower_scan(table, scan.projection.as_deref(), order)
            }
            LogicalPlan::SubqueryAlias(a) => self.lower(&a.input, order),
            LogicalPlan::Subquery(s) => self.lower(&s.subquery, order),
            LogicalPlan::Projection(p) => {
                if let LogicalPlan::Filter(f) = p.input.as_ref() {
                    let reads = top_n::reads_rank(&p.expr, &p.input);
                    if let Some(rel) = self.ranked(&f.predicate, &f.input, reads)? {
                        return self.project(rel, p.input.schema(), &p.expr);
                    }
                }
                if let Some((sort, skip, fetch)) = sort_limit(&p.input)? {
                    let input = self.lower(&sort.input, true)?;
                    let rel = self.sort_limit(input, sort.input.schema(), &sort.expr, skip, fetch)?;
                    return self.project(rel, p.input.schema(), &p.expr);
                }
                let input = self.lower(&p.input, order)?;
                self.project(input, p.input.schema(), &p.expr)
            }
            LogicalPlan::Filter(f) => {
                if let Some(rel) = self.ranked(&f.predicate, &f.input, true)? {
                    return Ok(rel);
                }
                let input = self.lower(&f.input, order)?;
                self.filter(input, f.input.schema(), &f.predicate)
            }
            LogicalPlan::Extension(e) => {
                if let Some(tvf) = e.node.as_any().downcast_ref::<WindowTvf>() {
                    let input = self.lower(&tvf.input, order)?;
                    self.window(input, tvf)
                } else if let Some(versions) = e.node.as_any().downcast_ref::<Versions>() {
                    self.versions = true;
                    let rel = self.lower(&versions.input, order);
                    self.versions = false;
                    self.versions(rel?)
                } else if let Some(unnest) = e.node.as_any().downcast_ref::<CrossUnnest>() {
                    let input = self.lower(&unnest.input, order)?;
                    self.unnest(input, unnest)
                } else {
                    Err(Error::internal(format!("no operator for {}", e.node.name())))
                }
            }
            LogicalPlan::Aggregate(a) => {
                let input = self.lower(&a.input, wants_order_below(plan, order))?;
                self.aggregate(input, a)
            }
            LogicalPlan::Window(w) => {
                let input = self.lower(&w.input, wants_order_below(plan, order))?;
                self.over(input, w)
            }
            LogicalPlan::Union(u) => {
                let inputs = u.inputs.iter().map(|i| self.lower(i, false)).collect::<Result<Vec<_>>>()?;
                self.union(inputs, u.schema.as_arrow())
            }
            LogicalPlan::EmptyRelation(e) => {
                let rows = usize::from(e.produce_one_row);
                self.values(e.schema.as_arrow(), vec![Vec::new(); rows])
            }
            LogicalPlan::Values(v) => {
                let mut rows = Vec::with_capacity(v.values.len());
                for row in &v.values {
                    let empty = DFSchema::empty();
                    let row: Result<Vec<_>> = row
                        .iter()
                        .map(|e| self.compiler.physical(e, &empty).map_err(|e| self.compiler.fail(e)))
                        .collect();
                    rows.push(row?);
                }
                self.values(v.schema.as_arrow(), rows)
            }
            LogicalPlan::Join(j) => {
                let order = temporal::has_as_of(j);
                let (left, right) = (self.lower(&j.left, order)?, self.lower(&j.right, order)?);
                self.join(left, right, j)
            }
            LogicalPlan::Limit(l) => {
                if let Some((sort, skip, fetch)) = sort_limit(plan)? {
                    let input = self.lower(&sort.input, true)?;
                    return self.sort_limit(input, sort.input.schema(), &sort.expr, skip, fetch);
                }
                if let LogicalPlan::Projection(p) = l.input.as_ref()
                    && matches!(p.input.as_ref(), LogicalPlan::Sort(_))
                {
                    // The columns that it is sorted by go when the first rows have been found.
                    let below = LogicalPlan::Limit(datafusion_expr::Limit { input: p.input.clone(), ..l.clone() });
                    let rel = self.lower(&below, order)?;
                    return self.project(rel, p.input.schema(), &p.expr);
                }
                let input = self.lower(&l.input, order)?;
                let skip = l.get_skip_type().map_err(|e| self.compiler.fail(e))?;
                let fetch = l.get_fetch_type().map_err(|e| self.compiler.fail(e))?;
                match (skip, fetch) {
                    (SkipType::Literal(0), FetchType::Literal(Some(n))) => self.limit(input, n as u64),
                    (SkipType::Literal(0), FetchType::Literal(None)) => Ok(input),
                    _ => Err(Error::sql("OFFSET has no meaning in a stream without order")
                        .remedy("leave it out, or run the query with SET 'execution.runtime-mode' = 'batch'")),
                }
            }
            other => Err(refuse::refuse(other)),
        }
    }

    fn lower_scan(&mut self, table: &DeclaredTable, projection: Option<&[usize]>, order: bool) -> Result<Rel> {
        let Some(scan) = self.scans.get(&table.name) else {
            return Err(Error::internal(format!("the source of {} was not foreseen", table.name)));
        };
        let (label, kind) = (format!("Source({})", table.name), NodeKind::Source(scan.node.clone()));
        let node = self.graph.add(label, kind, Vec::new(), scan.schema.clone());
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let columns = projection.unwrap_or(&all).iter().map(|declared| {
            let Some(at) = scan.at.get(declared) else {
                return Err(Error::internal(format!("column {declared} of {} was not foreseen", table.name)));
            };
            Ok(Col { at: At::Value(Expr::column(&scan.schema, *at)), time: table.time_domain(*declared), bound: None })
        });
        Ok(Rel {
            node,
            columns: columns.collect::<Result<_>>()?,
            order: scan.order.filter(|_| order).map(|i| Expr::column(&scan.schema, i)),
            clock: scan.clock.filter(|_| self.clock).map(|i| Expr::column(&scan.schema, i)),
            watermark: scan.row_watermark.filter(|_| self.watermarks).map(|i| Expr::column(&scan.schema, i)),
            ..Rel::default()
        })
    }

    fn schema(&self, node: usize) -> SchemaRef {
        self.graph.nodes[node].schema.clone()
    }

    /// Compiles an expression over the logical columns of a rel to one over its node. Without a name it is called what
    /// it is.
    fn value(&self, rel: &Rel, schema: &DFSchema, e: &Logical, name: &str) -> Result<Expr> {
        let physical = self.compiler.physical(e, schema).map_err(|e| self.compiler.fail(e))?;
        let reads_watermark = watermark::reads(e);
        if reads_watermark {
            watermark::check(rel, &physical)?;
        }
        let replaced = substitute(&physical, &|c: &Column| match rel.columns.get(c.index()).and_then(Col::value) {
            Some(e) => e.physical.clone(),
            // `needs_rows` has been asked before; an index past the node's columns cannot be evaluated unseen.
            None => Arc::new(Column::new(c.name(), usize::MAX)),
        })?;
        let replaced = if reads_proctime(e) { self.read_clock(rel, replaced)? } else { replaced };
        let replaced = if reads_watermark { watermark::put(rel, replaced)? } else { replaced };
        let mut value = self.compiler.expr(replaced, &self.schema(rel.node), name)?;
        if name.is_empty() {
            value.field = value.field.with_name(&value.sql);
        }
        Ok(value)
    }

    /// Puts the source's clock in the place of `PROCTIME()`.
    fn read_clock(&self, rel: &Rel, e: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(clock) = &rel.clock else { return Err(no_clock()) };
        let read = e.transform_down(|node| {
            let is_clock = node.downcast_ref::<ScalarFunctionExpr>().is_some_and(|f| f.name() == super::proctime::NAME);
            Ok(if is_clock {
                Transformed::new(clock.physical.clone(), true, TreeNodeRecursion::Jump)
            } else {
                Transformed::no(node)
            })
        });
        read.map(|t| t.data).map_err(|e| self.compiler.fail(e))
    }

    /// Whether one of these expressions computes with a bound of the pending window, so that rows must carry it.
    fn needs_rows(&self, rel: &Rel, schema: &DFSchema, exprs: &[Logical]) -> bool {
        rel.window.is_some()
            && exprs.iter().any(|e| as_column(e).is_none() && self.parts(rel, schema, e).iter().any(Option::is_some))
    }

    /// For each column that the expression reads: the bound of the pending window that it is, if it is one.
    fn parts(&self, rel: &Rel, schema: &DFSchema, e: &Logical) -> Vec<Option<Part>> {
        let part = |c: &LogicalColumn| match schema.index_of_column(c).ok().map(|i| &rel.columns[i].at) {
            Some(At::Window(part)) => Some(*part),
            _ => None,
        };
        e.column_refs().into_iter().map(part).collect()
    }

    fn project(&mut self, mut rel: Rel, schema: &DFSchema, exprs: &[Logical]) -> Result<Rel> {
        if self.needs_rows(&rel, schema, exprs) {
            rel = self.window_rows(rel)?;
        }
        if self.repeats_work(&rel, schema, exprs)? {
            rel = self.settle(rel)?;
        }
        let mut columns = Vec::with_capacity(exprs.len());
        let mut clock_read = false;
        for e in exprs {
            let (_, name) = e.qualified_name();
            if is_proctime(e) {
                let Some(mut clock) = rel.clock.clone() else { return Err(no_clock()) };
                clock.field = clock.field.with_name(name);
                columns.push(Col { at: At::Value(clock), time: Some(TimeDomain::Processing), bound: None });
                clock_read = true;
                continue;
            }
            clock_read |= reads_proctime(e);
            columns.push(match as_column(e).and_then(|c| schema.index_of_column(c).ok()) {
                Some(i) => {
                    let mut col = rel.columns[i].clone();
                    if let At::Value(e) = &mut col.at {
                        e.field = e.field.clone().with_name(&name);
                    }
                    col
                }
                None => Col::plain(self.value(&rel, schema, e, &name)?),
            });
        }
        rel.columns = columns;
        if clock_read {
            // Read once; what stands above reads the column.
            rel.clock = None;
        }
        Ok(rel)
    }

    /// Whether putting the columns' expressions into these would compute one of them twice.
    fn repeats_work(&self, rel: &Rel, schema: &DFSchema, exprs: &[Logical]) -> Result<bool> {
        // To hand a column on twice costs nothing: the same expression is computed once in one node.
        let (mut inside, mut handed) = (vec![0usize; rel.columns.len()], vec![0usize; rel.columns.len()]);
        for e in exprs {
            if let Some(i) = as_column(e).and_then(|c| schema.index_of_column(c).ok()) {
                handed[i] = 1;
                continue;
            }
            let counted = e.apply(|e| {
                if let Some(i) = compared(e).and_then(|c| schema.index_of_column(c).ok())
                    && rel.columns[i].value().is_some_and(|e| is_lower_of_column(&e.physical))
                {
                    return Ok(TreeNodeRecursion::Jump);
                }
                if let Logical::Column(c) = e
                    && let Ok(i) = schema.index_of_column(c)
                {
                    inside[i] += 1;
                }
                Ok(TreeNodeRecursion::Continue)
            });
            counted.map_err(|e| self.compiler.fail(e))?;
        }
        let uses = inside.into_iter().zip(handed).map(|(a, b)| a + b);
        Ok(rel.columns.iter().zip(uses).any(|(c, n)| n > 1 && c.value().is_some_and(|e| is_work(e.physical.as_ref()))))
    }

    fn filter(&mut self, mut rel: Rel, schema: &DFSchema, predicate: &Logical) -> Result<Rel> {
        if matches!(literal(predicate), Some(ScalarValue::Boolean(Some(true)))) {
            return Ok(rel);
        }
        if rel.window.is_none() {
            return self.filter_rows(rel, schema, predicate);
        }
        let mut here = Vec::new();
        for test in split_conjunction(predicate) {
            let parts = self.parts(&rel, schema, test);
            if !parts.is_empty() && parts.iter().all(Option::is_some) && !test.is_volatile() {
                // It takes whole windows: it can wait until they have been made.
                let physical = self.compiler.physical(test, schema).map_err(|e| self.compiler.fail(e))?;
                let bound = substitute(&physical, &|c: &Column| match rel.columns.get(c.index()).map(|c| &c.at) {
                    Some(At::Window(part)) => Arc::new(Column::new(c.name(), *part as usize)),
                    _ => Arc::new(c.clone()),
                })?;
                rel.bounds_filter.push(bound);
            } else {
                here.push((test.clone(), parts.iter().any(Option::is_some)));
            }
        }
        // Which rows a session has depends on all of them.
        let session = matches!(rel.window, Some(Pending { kind: WindowKind::Session { .. }, .. }));
        if !here.is_empty() && (session || here.iter().any(|(_, of_window)| *of_window)) {
            rel = self.window_rows(rel)?;
        }
        match here.into_iter().map(|(test, _)| test).reduce(Logical::and) {
            Some(predicate) => self.filter_rows(rel, schema, &predicate),
            None => Ok(rel),
        }
    }

    fn filter_rows(&mut self, mut rel: Rel, schema: &DFSchema, predicate: &Logical) -> Result<Rel> {
        // A column that is computed and tested would be computed twice.
        let mut tested = predicate.column_refs().into_iter().filter_map(|c| schema.index_of_column(c).ok());
        if tested.any(|i| rel.columns[i].value().is_some_and(|e| is_work(e.physical.as_ref()))) {
            rel = self.settle(rel)?;
        }
        let test = self.value(&rel, schema, predicate, "filter")?;
        self.and_filter(rel, test.physical)
    }

    /// Adds a test over the columns of the node.
    fn and_filter(&self, mut rel: Rel, test: Arc<dyn PhysicalExpr>) -> Result<Rel> {
        let schema = self.schema(rel.node);
        let before = match &mut rel.versions {
            Some(versions) => &mut versions.passes,
            None => &mut rel.filter,
        };
        let test = match before.take() {
            None => test,
            Some(before) => Arc::new(BinaryExpr::new(before.physical, datafusion_expr::Operator::And, test)),
        };
        *before = Some(self.compiler.expr(test, &schema, "filter")?);
        Ok(rel)
    }

    /// Applies what the bounds of a window have to fulfil, once they stand in columns of the node.
    fn apply_bounds_filter(
        &self,
        mut rel: Rel,
        tests: Vec<Arc<dyn PhysicalExpr>>,
        at: impl Fn(usize) -> usize,
    ) -> Result<Rel> {
        for test in tests {
            let test = super::expressions::remap(&test, &at)?;
            rel = self.and_filter(rel, test)?;
        }
        Ok(rel)
    }

    /// Notes a window function on top of a rel.
    fn window(&mut self, mut rel: Rel, tvf: &WindowTvf) -> Result<Rel> {
        if rel.window.is_some() {
            rel = self.window_rows(rel)?;
        }
        self.insert_only(&rel, &format!("{} windows", tvf.kind.name()))?;
        let input = tvf.input.schema();
        let column = as_column(&tvf.time).ok_or_else(|| Error::internal("the time of a window is no column"))?;
        let index = input.index_of_column(column).map_err(|e| self.compiler.fail(e))?;
        let at = |e: Error| match &tvf.place {
            Some(place) => e.at(place.clone()),
            None => e,
        };
        let time_type = input.field(index).data_type().clone();
        let Some(domain) = rel.columns[index].time else {
            let table = column.relation.as_ref().map(|r| r.table());
            return Err(at(no_time_attribute(tvf.kind.name(), column.name(), table, &time_type)));
        };
        if rel.columns[index].value().is_some_and(|e| is_work(e.physical.as_ref())) {
            rel = self.settle(rel)?;
        }
        let Some(time) = rel.columns[index].value().cloned() else {
            return Err(Error::internal("a time attribute without a column"));
        };
        let mut partition = Vec::with_capacity(tvf.partition.len());
        for e in &tvf.partition {
            partition.push(self.value(&rel, input, e, &e.schema_name().to_string())?);
        }
        let id = self.next_window();
        // Rows of a session wait for its end: the watermark has moved on when they come out.
        rel.watermark = None;
        // A window function takes the time attribute over: its own is window_time (rule 34).
        for c in &mut rel.columns {
            c.time = None;
            c.bound = None;
        }
        let bound = |part| Bound { part, window: id, domain, local: tvf.zone.is_some() };
        for part in [Part::Start, Part::End, Part::Time] {
            let time = (part == Part::Time).then_some(domain);
            rel.columns.push(Col { at: At::Window(part), time, bound: Some(bound(part)) });
        }
        let zone = tvf.zone.clone();
        rel.window = Some(Pending { kind: tvf.kind, time, domain, zone, partition });
        Ok(rel)
    }

    fn next_window(&mut self) -> u32 {
        self.windows += 1;
        self.windows
    }

    /// Does what is noted: afterwards every column is a column of the node, and there is no filter. A pending window
    /// stays pending.
    fn settle(&mut self, rel: Rel) -> Result<Rel> {
        let mut wanted: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        if let Some(w) = &rel.window {
            wanted.push(w.time.clone());
            wanted.extend(w.partition.iter().cloned());
        }
        wanted.extend(rel.order.clone());
        wanted.extend(rel.clock.clone());
        wanted.extend(rel.watermark.clone());
        wanted.extend(rel.versions.iter().flat_map(Versioned::columns).cloned());
        let (node, at) = self.emit(&rel, &wanted)?;
        let schema = self.schema(node);
        let mut at = at.into_iter();
        let mut next = |e: &Expr| {
            let mut column = Expr::column(&schema, at.next().unwrap_or_default());
            column.field = column.field.with_name(e.field.name());
            column
        };
        let mut settled = Rel { node, filter: None, ..rel };
        for c in &mut settled.columns {
            if let At::Value(e) = &mut c.at {
                *e = next(e);
            }
        }
        if let Some(w) = &mut settled.window {
            w.time = next(&w.time);
            w.partition = w.partition.iter().map(&mut next).collect();
        }
        settled.order = settled.order.as_ref().map(&mut next);
        settled.clock = settled.clock.as_ref().map(&mut next);
        settled.watermark = settled.watermark.as_ref().map(&mut next);
        if let Some(v) = &mut settled.versions {
            v.columns_mut().for_each(|e| *e = next(e));
        }
        Ok(settled)
    }

    /// A node that has these expressions among its columns, and where. The node itself where it has just them.
    fn emit(&mut self, rel: &Rel, wanted: &[Expr]) -> Result<(usize, Vec<usize>)> {
        let width = self.schema(rel.node).fields().len();
        let plain: Option<Vec<usize>> = wanted.iter().map(Expr::as_column).collect();
        if let (None, Some(at)) = (&rel.filter, plain)
            && (0..width).all(|i| at.contains(&i))
        {
            return Ok((rel.node, at));
        }
        let mut columns: Vec<Expr> = Vec::new();
        let mut at = Vec::with_capacity(wanted.len());
        for e in wanted {
            let same = |c: &Expr| *c.physical == *e.physical && !volatile(&e.physical);
            at.push(columns.iter().position(same).unwrap_or_else(|| {
                columns.push(e.clone());
                columns.len() - 1
            }));
        }
        Ok((self.calc(rel.node, rel.filter.clone(), columns), at))
    }

    fn calc(&mut self, input: usize, filter: Option<Expr>, columns: Vec<Expr>) -> usize {
        let schema = Arc::new(Schema::new(columns.iter().map(|e| e.field.clone()).collect::<Vec<_>>()));
        let named = |e: &Expr| {
            if e.sql == *e.field.name() { e.sql.clone() } else { format!("{} AS {}", e.sql, e.field.name()) }
        };
        let mut label = columns.iter().map(named).collect::<Vec<_>>().join(", ");
        if let Some(f) = &filter {
            label = format!("{label} WHERE {}", f.sql);
        }
        let kind = NodeKind::Calc(Calc { filter, columns: Some(columns) });
        self.graph.add(format!("Calc({label})"), kind, vec![Input::forward(input)], schema)
    }

    /// A node whose columns are the columns of the rel, in order, under the names of `schema`.
    fn emit_exactly(&mut self, rel: Rel, schema: &Schema) -> Result<usize> {
        let rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        let mut columns: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        let input = self.schema(rel.node);
        for (e, f) in columns.iter_mut().zip(schema.fields()) {
            e.field = e.field.clone().with_name(f.name());
        }
        let as_is = rel.filter.is_none()
            && columns.len() == input.fields().len()
            && columns
                .iter()
                .enumerate()
                .all(|(i, e)| e.as_column() == Some(i) && e.field.name() == input.field(i).name());
        if as_is { Ok(rel.node) } else { Ok(self.calc(rel.node, rel.filter, columns)) }
    }

    /// Gives each row its windows: the bounds become columns.
    fn window_rows(&mut self, rel: Rel) -> Result<Rel> {
        let mut rel = self.settle(rel)?;
        let Some(pending) = rel.window.take() else { return Ok(rel) };
        let column = |e: &Expr| e.as_column().ok_or_else(|| Error::internal("a settled expression is no column"));
        let input = self.schema(rel.node);
        let time = column(&pending.time)?;
        let partition = pending.partition.iter().map(column).collect::<Result<Vec<_>>>()?;
        let order = rel.order.as_ref().map(column).transpose()?;
        let bound = DataType::Timestamp(TimeUnit::Millisecond, None);
        let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        let width = fields.len();
        fields.push(Field::new("window_start", bound.clone(), false));
        fields.push(Field::new("window_end", bound, false));
        fields.push(Field::new("window_time", input.field(time).data_type().clone(), false));
        let schema = Arc::new(Schema::new(fields));
        let exchange = match &pending.kind {
            WindowKind::Session { .. } if partition.is_empty() => Exchange::Single,
            WindowKind::Session { .. } => Exchange::Hash(partition.clone()),
            _ => Exchange::Forward,
        };
        let label = format!("WindowRows({}{})", describe(&pending.kind), by(&input, &partition));
        let kind = NodeKind::WindowRows(WindowRows {
            window: window_of(&pending.kind, partition),
            time: WindowTime { column: time, domain: pending.domain, zone: pending.zone },
            order,
        });
        let node = self.graph.add(label, kind, vec![Input { node: rel.node, port: 0, exchange }], schema.clone());
        rel.node = node;
        for c in &mut rel.columns {
            if let At::Window(part) = c.at {
                let index = width + part as usize;
                c.at = At::Value(Expr::column(&schema, index));
            }
        }
        let tests = std::mem::take(&mut rel.bounds_filter);
        self.apply_bounds_filter(rel, tests, |part| width + part)
    }
}

/// `ORDER BY .. LIMIT n OFFSET m`: the sort, how many rows are passed over and how many come out.
fn sort_limit(plan: &LogicalPlan) -> Result<Option<(&datafusion_expr::logical_plan::Sort, u64, u64)>> {
    let internal = |e: datafusion_common::DataFusionError| Error::internal(e.strip_backtrace());
    match plan {
        LogicalPlan::Limit(l) => {
            let LogicalPlan::Sort(sort) = l.input.as_ref() else { return Ok(None) };
            match (l.get_skip_type().map_err(internal)?, l.get_fetch_type().map_err(internal)?) {
                (SkipType::Literal(skip), FetchType::Literal(Some(fetch))) => {
                    Ok(Some((sort, skip as u64, fetch as u64)))
                }
                _ => Ok(None),
            }
        }
        LogicalPlan::Sort(sort) => Ok(sort.fetch.map(|fetch| (sort, 0, fetch as u64))),
        _ => Ok(None),
    }
}

/// The column that the expression compares with a constant.
fn compared(e: &Logical) -> Option<&LogicalColumn> {
    match e {
        Logical::BinaryExpr(b) if b.op == datafusion_expr::Operator::Eq => match (b.left.as_ref(), b.right.as_ref()) {
            (Logical::Column(c), Logical::Literal(..)) | (Logical::Literal(..), Logical::Column(c)) => Some(c),
            _ => None,
        },
        _ => None,
    }
}

/// `LOWER(x)` of a column. To compare it with constants takes one pass over `x`, and no text is made: where it is not
/// computed beforehand ([`millstream_dataflow::fuse`]).
fn is_lower_of_column(e: &Arc<dyn PhysicalExpr>) -> bool {
    e.downcast_ref::<ScalarFunctionExpr>()
        .is_some_and(|f| f.name() == "lower" && f.args().iter().all(|a| a.is::<Column>()))
}

/// The column that the expression hands through, under whatever name.
fn as_column(e: &Logical) -> Option<&LogicalColumn> {
    match e {
        Logical::Column(c) => Some(c),
        Logical::Alias(a) => as_column(&a.expr),
        _ => None,
    }
}

/// The name of a column; nothing for what is computed.
fn own_name(e: &Logical) -> String {
    as_column(e).map(|c| c.name.clone()).unwrap_or_default()
}

fn window_of(kind: &WindowKind, partition: Vec<usize>) -> Window {
    match *kind {
        WindowKind::Tumble { size, offset } => Window::Tumble { size, offset },
        WindowKind::Hop { size, slide, offset } => Window::Hop { size, slide, offset },
        WindowKind::Cumulate { size, step, offset } => Window::Cumulate { size, step, offset },
        WindowKind::Session { gap } => Window::Session { gap, partition },
    }
}

/// `, by a, b`.
fn by(schema: &Schema, keys: &[usize]) -> String {
    if keys.is_empty() {
        return String::new();
    }
    let names: Vec<&str> = keys.iter().map(|k| schema.field(*k).name().as_str()).collect();
    format!(", by {}", names.join(", "))
}

/// `PROCTIME()`, under whatever name.
fn is_proctime(e: &Logical) -> bool {
    match e {
        Logical::Alias(a) => is_proctime(&a.expr),
        Logical::ScalarFunction(f) => f.name() == super::proctime::NAME,
        _ => false,
    }
}

fn reads_proctime(e: &Logical) -> bool {
    e.exists(|e| Ok(is_proctime(e))).unwrap_or(false)
}

fn no_clock() -> Error {
    Error::sql("PROCTIME() cannot be read here: rows of an aggregate, a union or an array have no such time")
        .remedy("read it before, in a subquery or view over the table")
}

/// Whether a plan reads `PROCTIME()` anywhere.
pub fn says_proctime(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let search = plan.apply(|p| {
        p.apply_expressions(|e| {
            found |= reads_proctime(e);
            Ok(TreeNodeRecursion::Continue)
        })
    });
    search.is_ok() && found
}

fn literal(e: &Logical) -> Option<&ScalarValue> {
    match e {
        Logical::Literal(v, _) => Some(v),
        Logical::Alias(a) => literal(&a.expr),
        Logical::Cast(c) => literal(&c.expr),
        _ => None,
    }
}
