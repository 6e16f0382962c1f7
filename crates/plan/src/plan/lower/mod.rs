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
mod broadcast;
mod calls;
mod group;
mod join;
mod lookup;
mod needs;
mod nodes;
mod of_change;
mod over;
mod panes;
mod refuse;
mod settle;
mod sinks;
mod temporal;
mod top_n;
mod watermark;

use super::as_of::Versions;
use super::broadcast::Broadcast;
use super::emit::EmitNode;
use super::expressions::{Compiler, is_work, substitute};
use super::graph::Graph;
use super::provider::Provider;
use super::table::{DeclaredTable, Scan};
use super::unnest::CrossUnnest;
use super::window::{WindowKind, WindowTvf, no_time_attribute};
use crate::emit::Emit;
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion_common::{Column as LogicalColumn, DFSchema, ScalarValue};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr as Logical, FetchType, LogicalPlan, SkipType};
use datafusion_physical_expr::expressions::{BinaryExpr, Column};
use datafusion_physical_expr::{PhysicalExpr, ScalarFunctionExpr};
use millstream_core::{Connectors, Error, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Exchange, Input, NodeKind, SinkNode, Window};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use needs::wants_order_below;
use top_n::sort_limit;

pub use lookup::mark_lookups;
pub use needs::Needs;
pub use temporal::one_sided;
pub use watermark::says_watermark;

/// Lowers the plans of one job into one graph.
pub struct Lowering<'p, 'c> {
    pub provider: &'p Provider<'c>,
    pub compiler: Compiler<'p, 'c>,
    pub graph: Graph,
    /// One source for each table, with all columns that any plan of the job needs.
    scans: &'p BTreeMap<String, Scan>,
    /// How each table is read that is looked up.
    lookups: &'p BTreeMap<String, Scan>,
    /// What is lowered is the side of a join that is looked up.
    looking_up: bool,
    /// The nodes that each written table takes rows from.
    sinks: Vec<(SinkNode, Vec<usize>)>,
    connectors: &'p dyn Connectors,
    /// Window results made so far, to tell their bounds apart.
    windows: u32,
    /// What is lowered stands straight under a [`Versions`]: see [`Lowering::deduplicate`].
    versions: bool,
    /// The same, and no filter between: every version counts, also one that says that there is none.
    all_versions: bool,
    /// By source node, the columns that say something of a change: see [`of_change`].
    of_change: BTreeMap<usize, BTreeSet<usize>>,
    hints: broadcast::Hints,
    /// The clause of the aggregate that is lowered next.
    emit: Option<Emit>,
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
    /// From when a version holds. `None`: the table is looked up, and has the versions of now alone.
    time: Option<Expr>,
    /// What tells the versions of one thing from those of another, where a view keeps the last of each. `None`: the unique
    /// columns of the node.
    key: Option<Vec<Expr>>,
    /// What a version has to fulfil once it has been chosen: one that does not still ends the one before it.
    passes: Option<Expr>,
}

impl Versioned {
    fn columns(&self) -> impl Iterator<Item = &Expr> {
        self.time.iter().chain(&self.passes).chain(self.key.iter().flatten())
    }

    /// As [`Versioned::columns`].
    fn columns_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.time.iter_mut().chain(&mut self.passes).chain(self.key.iter_mut().flatten())
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

impl<'p, 'c> Lowering<'p, 'c> {
    pub fn new(
        provider: &'p Provider<'c>,
        scans: &'p BTreeMap<String, Scan>,
        lookups: &'p BTreeMap<String, Scan>,
        connectors: &'p dyn Connectors,
    ) -> Lowering<'p, 'c> {
        Lowering {
            provider,
            compiler: Compiler::new(provider),
            graph: Graph::default(),
            scans,
            lookups,
            looking_up: false,
            sinks: Vec::new(),
            connectors,
            windows: 0,
            versions: false,
            all_versions: false,
            of_change: BTreeMap::new(),
            hints: broadcast::Hints::default(),
            emit: None,
            clock: false,
            watermarks: false,
        }
    }

    fn lower(&mut self, plan: &LogicalPlan, order: bool) -> Result<Rel> {
        self.versions &=
            matches!(plan, LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::Filter(_));
        self.all_versions &=
            matches!(plan, LogicalPlan::SubqueryAlias(_) | LogicalPlan::Projection(_) | LogicalPlan::TableScan(_));
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
                    self.versions = !self.looking_up;
                    self.all_versions = self.versions;
                    let rel = self.lower(&versions.input, order);
                    (self.versions, self.all_versions) = (false, false);
                    self.versions(rel?)
                } else if let Some(hinted) = e.node.as_any().downcast_ref::<Broadcast>() {
                    self.hints.met(&hinted.name);
                    self.lower(&hinted.input, order)
                } else if let Some(node) = e.node.as_any().downcast_ref::<EmitNode>() {
                    self.emitted(node, order)
                } else if let Some(unnest) = e.node.as_any().downcast_ref::<CrossUnnest>() {
                    let input = self.lower(&unnest.input, order)?;
                    self.unnest(input, unnest)
                } else {
                    Err(Error::internal(format!("no operator for {}", e.node.name())))
                }
            }
            LogicalPlan::Aggregate(a) => {
                let emit = self.emit.take();
                let input = self.lower(&a.input, wants_order_below(plan, order))?;
                self.aggregate(input, a, emit)
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
                if lookup::is_lookup(j) {
                    lookup::looked_up(&j.right)?;
                    let left = self.lower(&j.left, false)?;
                    self.looking_up = true;
                    let right = self.lower(&j.right, false);
                    self.looking_up = false;
                    return self.join(left, right?, j);
                }
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
            LogicalPlan::Sort(s) if s.fetch.is_none() => {
                let input = self.lower(&s.input, true)?;
                self.in_time(input, s.input.schema(), &s.expr)?.ok_or_else(|| refuse::refuse(plan))
            }
            other => Err(refuse::refuse(other)),
        }
    }

    fn lower_scan(&mut self, table: &DeclaredTable, projection: Option<&[usize]>, order: bool) -> Result<Rel> {
        let scans = if self.looking_up { self.lookups } else { self.scans };
        let Some(scan) = scans.get(&table.name) else {
            return Err(Error::internal(format!("the source of {} was not foreseen", table.name)));
        };
        let (label, kind) = (format!("Source({})", table.name), NodeKind::Source(scan.node.clone()));
        let mut node = self.graph.add(label, kind, Vec::new(), scan.schema.clone());
        let mut schema = scan.schema.clone();
        match &scan.by_key {
            // A temporal join goes by key itself, and asks when a row has gone: the row as it was would hide that. Where it is
            // not known, the row was never there, as in Flink.
            Some(by) if !self.all_versions || !by.knows_time => {
                let label = format!("ChangelogNormalize({})", by_alone(&by.schema, &by.keys));
                let kind = NodeKind::Normalize { keys: by.keys.clone(), update_before: true };
                let input = Input { node, port: 0, exchange: Exchange::Hash(by.keys.clone()) };
                schema = by.schema.clone();
                node = self.graph.add(label, kind, vec![input], schema.clone());
            }
            _ if !scan.of_change.is_empty() => drop(self.of_change.insert(node, scan.of_change.clone())),
            _ => {}
        }
        let scan_schema = &schema;
        let all: Vec<usize> = (0..table.schema.fields().len()).collect();
        let columns = projection.unwrap_or(&all).iter().map(|declared| {
            let Some(at) = scan.at.get(declared) else {
                return Err(Error::internal(format!("column {declared} of {} was not foreseen", table.name)));
            };
            Ok(Col { at: At::Value(Expr::column(scan_schema, *at)), time: table.time_domain(*declared), bound: None })
        });
        Ok(Rel {
            node,
            columns: columns.collect::<Result<_>>()?,
            order: scan.order.filter(|_| order).map(|i| Expr::column(scan_schema, i)),
            clock: scan.clock.filter(|_| self.clock).map(|i| Expr::column(scan_schema, i)),
            watermark: scan.row_watermark.filter(|_| self.watermarks).map(|i| Expr::column(scan_schema, i)),
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

/// `by a, b`.
fn by_alone(schema: &Schema, keys: &[usize]) -> String {
    by(schema, keys).trim_start_matches(", ").to_owned()
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
