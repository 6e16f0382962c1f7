//! `GROUP BY window_start, window_end, ..` to a windowed aggregation.

use super::super::window::{WindowKind, describe};
use super::panes::describe_panes;
use super::{At, Bound, Col, Lowering, Part, Pending, Rel, as_column, by, own_name, window_of};
use crate::emit::Emit;
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::utils::grouping_set_to_exprlist;
use datafusion_expr::{Aggregate, Expr as Logical, GroupingSet};
use datafusion_physical_expr::expressions::Literal;
use millstream_core::{Error, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{
    Exchange, Expand, Input, NodeKind, Panes, Window, WindowAggregate, WindowPanes, WindowTime,
};
use std::sync::Arc;

/// Where a grouping expression ends up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Group {
    Key(usize),
    Window(Part),
}

impl Lowering<'_, '_> {
    pub fn aggregate(&mut self, mut rel: Rel, a: &Aggregate, emit: Option<Emit>) -> Result<Rel> {
        let input = a.input.schema().clone();
        let sets = match a.group_expr.as_slice() {
            [Logical::GroupingSet(set)] => Some(grouping_sets(set)?),
            _ => None,
        };
        let groups: Vec<Logical> = match &sets {
            Some(_) => grouping_set_to_exprlist(&a.group_expr)
                .map_err(|e| self.compiler.fail(e))?
                .into_iter()
                .cloned()
                .collect(),
            None => a.group_expr.clone(),
        };
        // The result's columns: grouping expressions, the grouping id where there are sets, then the calls.
        let first_call = groups.len() + usize::from(sets.is_some());
        let result = a.schema.as_arrow();
        let time = |e: &Logical| match as_column(e).and_then(|c| input.index_of_column(c).ok()) {
            Some(i) => rel.columns[i].time.is_some() || is_time_of(&rel, i),
            None => false,
        };
        let mut specs = Vec::with_capacity(a.aggr_expr.len());
        for (i, e) in a.aggr_expr.iter().enumerate() {
            specs.push(self.call_spec(e, result.field(first_call + i), &time)?);
        }
        let mut read: Vec<Logical> = groups.clone();
        for s in &specs {
            read.extend(s.args.iter().cloned());
            read.extend(s.filter.clone());
        }
        if self.needs_rows(&rel, &input, &read)
            || self.reads_bounds(
                &rel,
                &input,
                &specs.iter().flat_map(|s| s.args.iter().chain(&s.filter)).cloned().collect::<Vec<_>>(),
            )
        {
            rel = self.window_rows(rel)?;
        }
        // Sessions are made for each key; grouped by anything else, their rows are regrouped afterwards.
        if let Some(Pending { kind: WindowKind::Session { .. }, partition, .. }) = &rel.window {
            let mut keys = Vec::new();
            for e in groups.iter().filter(|e| self.bound_of(&rel, &input, e).is_none()) {
                keys.push(self.value(&rel, &input, e, "key")?.physical);
            }
            let same = sets.is_none()
                && keys.len() == partition.len()
                && keys.iter().all(|k| partition.iter().any(|p| *p.physical == **k));
            if !same {
                rel = self.window_rows(rel)?;
            }
        }

        // A grouping set without the window has no end.
        let has_bound = |e: &Logical| self.bound_of(&rel, &input, e).is_some();
        if !groups.iter().any(has_bound) || sets.iter().flatten().any(|set| !set.iter().any(has_bound)) {
            if let Some(emit) = emit {
                return Err(self.no_window(&emit));
            }
            let rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
            return self.group(rel, a, &groups, sets.as_deref(), specs);
        }
        let bounds: Vec<Option<Bound>> = groups.iter().map(|e| self.bound_of(&rel, &input, e)).collect();
        let window = self.grouped_window(&bounds, &groups, &sets)?;
        if self.repeats_work(&rel, &input, &read)? {
            rel = self.settle(rel)?;
        }

        // Columns that the aggregation reads: keys, arguments and filters, then what the window stands on.
        let mut wanted: Vec<Expr> = Vec::new();
        let mut placed: Vec<Group> = Vec::with_capacity(groups.len());
        for (e, bound) in groups.iter().zip(&bounds) {
            placed.push(match bound {
                Some(b) if b.window == window => Group::Window(b.part),
                _ => {
                    wanted.push(self.value(&rel, &input, e, &own_name(e))?);
                    Group::Key(wanted.len() - 1)
                }
            });
        }
        let key_count = wanted.len();
        let mut reads = Vec::with_capacity(specs.len());
        for s in &specs {
            let mut args = Vec::with_capacity(s.args.len());
            for e in &s.args {
                wanted.push(self.value(&rel, &input, e, &own_name(e))?);
                args.push(wanted.len() - 1);
            }
            let mut filter = None;
            if let Some(e) = &s.filter {
                wanted.push(self.value(&rel, &input, e, "filter")?);
                filter = Some(wanted.len() - 1);
            }
            reads.push((args, filter));
        }
        let base = wanted.len();
        let pending = rel.window.clone();
        match &pending {
            Some(p) => {
                wanted.push(p.time.clone());
                wanted.extend(p.partition.iter().cloned());
            }
            None => {
                // The window stands in columns: its bounds, and its time where the rows have it.
                for part in [Part::Start, Part::End] {
                    wanted.push(
                        self.attached(&rel, window, part)
                            .ok_or_else(|| Error::internal("a grouped window without its bounds"))?,
                    );
                }
            }
        }
        if specs.iter().any(|s| super::calls::is_ordered(&s.udf)) {
            wanted.extend(rel.order.clone());
        }
        let ordered = wanted.len() > base + pending.as_ref().map_or(2, |p| 1 + p.partition.len());
        let time_type = match (&pending, self.attached(&rel, window, Part::Time)) {
            (Some(p), _) => p.time.field.data_type().clone(),
            (None, Some(t)) => t.field.data_type().clone(),
            (None, None) => DataType::Timestamp(TimeUnit::Millisecond, None),
        };
        let (domain, local) = match bounds.iter().flatten().find(|b| b.window == window) {
            Some(b) => (b.domain, b.local),
            None => (TimeDomain::Event, false),
        };

        let (panes, lateness) = self.panes(emit, pending.as_ref().map(|p| &p.kind), domain)?;
        let (mut node, mut at) = self.emit(&rel, &wanted)?;
        let mut keys: Vec<usize> = at[..key_count].to_vec();
        if let Some(sets) = &sets {
            let id_type = result.field(groups.len()).data_type().clone();
            let (expanded, moved) = self.expand(node, &at, &keys, &groups, sets, &placed, id_type)?;
            node = expanded;
            keys = moved.keys;
            at = moved.others;
        }
        let schema = self.schema(node);
        let order = ordered.then(|| at[wanted.len() - 1]);
        let (shape, time) = match &pending {
            Some(p) => {
                let partition = at[base + 1..base + 1 + p.partition.len()].to_vec();
                let time = WindowTime { column: at[base], domain, zone: p.zone.clone() };
                (window_of(&p.kind, partition), time)
            }
            None => {
                let window = Window::Attached { start: at[base], end: at[base + 1] };
                let zone = local.then(|| self.provider.catalog.settings.local_time_zone.clone());
                (window, WindowTime { column: at[base], domain, zone })
            }
        };
        let mut calls = Vec::with_capacity(specs.len());
        for (spec, (args, filter)) in specs.into_iter().zip(reads) {
            let spec = spec.named(&args, filter, &wanted);
            let args = args.into_iter().map(|i| at[i]).collect();
            calls.push(self.call(spec, &schema, args, filter.map(|i| at[i]))?);
        }

        let mut fields: Vec<Field> = keys.iter().map(|k| schema.field(*k).clone()).collect();
        let bound = DataType::Timestamp(TimeUnit::Millisecond, None);
        fields.push(Field::new("window_start", bound.clone(), false));
        fields.push(Field::new("window_end", bound, false));
        fields.push(Field::new("window_time", time_type, false));
        fields.extend(calls.iter().map(|c| c.result.clone()));
        let out = Arc::new(Schema::new(fields));
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.clone()) };
        let what = match &pending {
            Some(p) => describe(&p.kind),
            None => "its window".into(),
        };
        let made: Vec<&str> = calls.iter().map(|c| c.result.name().as_str()).collect();
        let made = if made.is_empty() { String::new() } else { format!(": {}", made.join(", ")) };
        let what = format!("{what}{}{made}", by(&schema, &keys));
        let n_keys = keys.len();
        let windows = WindowAggregate { window: shape, time, keys, calls, lateness, order };
        // What is updated has no time of its own any more: it is a table, and not rows that come in an order.
        let updated = panes.as_ref().is_some_and(|p| p.panes == Panes::Retracting);
        let (label, kind) = match panes {
            None => (format!("WindowAggregate({what})"), NodeKind::WindowAggregate(windows)),
            Some(p) => {
                let label = format!("WindowPanes({what}; {})", describe_panes(&p));
                let (early, late, panes) = (p.early, p.late, p.panes);
                (label, NodeKind::WindowPanes(WindowPanes { windows, early, late, panes, update_before: true }))
            }
        };
        let node = self.graph.add(label, kind, vec![Input { node, port: 0, exchange }], out.clone());

        // The logical columns among those of the node.
        let id = self.next_window();
        let mut columns = Vec::with_capacity(result.fields().len());
        for (g, f) in placed.iter().zip(result.fields()) {
            let index = match g {
                Group::Key(k) => *k,
                Group::Window(part) => n_keys + *part as usize,
            };
            let mut col = Col::plain(named(&out, index, f.name()));
            if let Group::Window(part) = g
                && !updated
            {
                col.bound = Some(Bound { part: *part, window: id, domain, local });
                col.time = (*part == Part::Time).then_some(domain);
            }
            columns.push(col);
        }
        if sets.is_some() {
            columns.push(Col::plain(named(&out, n_keys - 1, result.field(groups.len()).name())));
        }
        for i in 0..a.aggr_expr.len() {
            columns.push(Col::plain(Expr::column(&out, n_keys + 3 + i)));
        }
        let tests = std::mem::take(&mut rel.bounds_filter);
        let rel = Rel { node, columns, ..Rel::default() };
        self.apply_bounds_filter(rel, tests, |part| n_keys + part)
    }

    /// The window bound that a grouping expression is.
    fn bound_of(&self, rel: &Rel, schema: &DFSchema, e: &Logical) -> Option<Bound> {
        rel.columns[schema.index_of_column(as_column(e)?).ok()?].bound
    }

    /// Whether an argument is itself a bound of the pending window.
    fn reads_bounds(&self, rel: &Rel, schema: &DFSchema, exprs: &[Logical]) -> bool {
        rel.window.is_some() && exprs.iter().any(|e| self.parts(rel, schema, e).iter().any(Option::is_some))
    }

    fn attached(&self, rel: &Rel, window: u32, part: Part) -> Option<Expr> {
        let is = |c: &&Col| c.bound.is_some_and(|b| b.window == window && b.part == part);
        rel.columns.iter().find(is).and_then(|c| c.value().cloned())
    }

    /// The one window that is grouped by with both of its bounds, in every grouping set.
    fn grouped_window(
        &self,
        bounds: &[Option<Bound>],
        groups: &[Logical],
        sets: &Option<Vec<Vec<Logical>>>,
    ) -> Result<u32> {
        let has = |window: u32, part: Part| bounds.iter().flatten().any(|b| b.window == window && b.part == part);
        let mut windows = bounds.iter().flatten().map(|b| b.window);
        let Some(window) = windows.clone().find(|w| has(*w, Part::Start) && has(*w, Part::End)) else {
            let Some(window) = windows.next() else { return Err(Error::internal("a window without bounds")) };
            let missing = if has(window, Part::Start) { "window_end" } else { "window_start" };
            return Err(Error::sql(format!("GROUP BY has one bound of the window only: {missing} is missing"))
                .remedy("group by both window_start and window_end"));
        };
        if let Some(sets) = sets {
            for part in [Part::Start, Part::End] {
                let in_all = groups.iter().zip(bounds).any(|(g, b)| {
                    b.is_some_and(|b| b.window == window && b.part == part) && sets.iter().all(|s| s.contains(g))
                });
                if !in_all {
                    return Err(Error::sql("a grouping set has one bound of the window only").remedy(
                        "write GROUP BY window_start, window_end, GROUPING SETS (..), so that every set has both",
                    ));
                }
            }
        }
        Ok(window)
    }

    /// Each row once for each grouping set: the keys that are not in the set are NULL, and the id says which they are.
    #[expect(
        clippy::too_many_arguments,
        reason = "one call, whose arguments are the parts of one thing; a struct would only rename them"
    )]
    pub fn expand(
        &mut self,
        node: usize,
        at: &[usize],
        keys: &[usize],
        groups: &[Logical],
        sets: &[Vec<Logical>],
        placed: &[Group],
        id_type: DataType,
    ) -> Result<(usize, Moved)> {
        let input = self.schema(node);
        let width = input.fields().len();
        let mut seen: Vec<(u64, u64)> = Vec::new();
        let mut rows = Vec::with_capacity(sets.len());
        for set in sets {
            // As DataFusion numbers them: a bit for each expression that is left out, the last one lowest; sets that
            // repeat are told apart above those bits.
            let mut mask = 0u64;
            for g in groups {
                mask = (mask << 1) | u64::from(!set.contains(g));
            }
            let twin = match seen.iter_mut().find(|(m, _)| *m == mask) {
                Some((_, n)) => {
                    *n += 1;
                    *n
                }
                None => {
                    seen.push((mask, 0));
                    0
                }
            };
            let mut row: Vec<Expr> = (0..width).map(|i| Expr::column(&input, i)).collect();
            for (g, place) in groups.iter().zip(placed) {
                let Group::Key(k) = place else { continue };
                let field = input.field(keys[*k]).clone().with_nullable(true);
                row.push(if set.contains(g) {
                    let mut e = Expr::column(&input, keys[*k]);
                    e.field = field;
                    e
                } else {
                    let null = ScalarValue::try_from(field.data_type()).map_err(|e| self.compiler.fail(e))?;
                    Expr::new(Arc::new(Literal::new(null)), field, "NULL")
                });
            }
            let id = ScalarValue::UInt64(Some(mask | (twin << groups.len())));
            let id = id.cast_to(&id_type).map_err(|e| self.compiler.fail(e))?;
            let sql = id.to_string();
            row.push(Expr::new(Arc::new(Literal::new(id)), Field::new("$grouping", id_type.clone(), false), sql));
            rows.push(row);
        }
        let fields: Vec<Field> = rows.first().into_iter().flatten().map(|e| e.field.clone()).collect();
        let out = Arc::new(Schema::new(fields));
        let keys = (width..out.fields().len()).collect();
        let label = format!("Expand({} grouping sets)", rows.len());
        let kind = NodeKind::Expand(Expand { rows });
        let node = self.graph.add(label, kind, vec![Input::forward(node)], out);
        Ok((node, Moved { keys, others: at.to_vec() }))
    }
}

/// Where columns are behind an Expand: the keys and the grouping id behind the input's columns, all others as before.
pub struct Moved {
    pub keys: Vec<usize>,
    others: Vec<usize>,
}

pub fn named(schema: &Schema, index: usize, name: &str) -> Expr {
    let mut e = Expr::column(schema, index);
    e.field = e.field.with_name(name);
    e
}

/// Whether the column is the one that the pending window follows.
fn is_time_of(rel: &Rel, column: usize) -> bool {
    match (&rel.window, &rel.columns[column].at) {
        (Some(w), At::Value(e)) => *w.time.physical == *e.physical,
        _ => false,
    }
}

fn grouping_sets(set: &GroupingSet) -> Result<Vec<Vec<Logical>>> {
    Ok(match set {
        GroupingSet::GroupingSets(sets) => sets.clone(),
        GroupingSet::Rollup(exprs) => (0..=exprs.len()).rev().map(|n| exprs[..n].to_vec()).collect(),
        GroupingSet::Cube(exprs) => {
            if exprs.len() > 12 {
                return Err(Error::sql(format!("CUBE of {} columns makes {} sets", exprs.len(), 1u64 << exprs.len()))
                    .remedy("write the sets that are needed: GROUPING SETS ((a, b), (a), ())"));
            }
            let n = exprs.len();
            let chosen =
                |mask: usize| (0..n).filter(|i| mask >> (n - 1 - i) & 1 == 0).map(|i| exprs[i].clone()).collect();
            (0..1usize << n).map(chosen).collect()
        }
    })
}
