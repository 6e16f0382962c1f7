//! Joins: which kind of join a condition makes.
//!
//! ```text
//!  window_start = window_start AND window_end = window_end     window join: together with the window
//!  l.time BETWEEN r.time - .. AND r.time + ..                  interval join: rows meet within bounds
//!  anything else                                               regular join: kept for ever, updated
//! ```
//!
//! So a join of endless streams forgets whatever its condition lets it forget.

use super::super::table::interval_millis;
use super::{At, Bound, Col, Lowering, Part, Rel, Versioned, as_column, literal, own_name};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::{DFSchema, NullEquality, ScalarValue};
use datafusion_expr::logical_plan::builder::build_join_schema;
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr as Logical, JoinType, Operator};
use datafusion_physical_expr::expressions::Column;
use millstream_core::{Error, Millis, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Changes, Exchange, Input, Join, JoinKind, JoinScope, NodeKind, StateTtl};
use std::sync::Arc;

/// One side of a join with its columns at their places in the node.
pub struct Side {
    pub rel: Rel,
    pub schema: Arc<Schema>,
    /// Of each logical column.
    pub at: Vec<usize>,
    /// Of each key.
    pub keys: Vec<usize>,
}

impl Lowering<'_, '_> {
    pub fn join(&mut self, left: Rel, right: Rel, j: &datafusion_expr::Join) -> Result<Rel> {
        let kind = match j.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            JoinType::LeftSemi => JoinKind::Semi,
            JoinType::LeftAnti => JoinKind::Anti,
            // The other side, in the same columns.
            JoinType::RightSemi | JoinType::RightAnti => {
                let swapped = swap(j);
                return self.join(right, left, &swapped);
            }
            JoinType::LeftMark => JoinKind::Mark,
            JoinType::RightMark => return Err(Error::internal("a join that marks its right side")),
        };
        if j.null_aware {
            return Err(Error::internal("NOT IN has not been made of marks"));
        }
        let (left_schema, right_schema) = (j.left.schema(), j.right.schema());
        let both = build_join_schema(left_schema, right_schema, &JoinType::Inner).map_err(|e| self.compiler.fail(e))?;
        let on = j.on.clone();
        let mut tests: Vec<Logical> = j.filter.iter().flat_map(split_conjunction).cloned().collect();
        tests.retain(|test| !matches!(literal(test), Some(ScalarValue::Boolean(Some(true)))));
        if let Some(at) = tests.iter().position(super::temporal::is_as_of) {
            let as_of = tests.remove(at);
            if super::lookup::is_lookup(j) {
                return self.lookup_join(left, right, j, kind, &tests, &both);
            }
            return self.temporal_join(left, right, j, kind, &as_of, &tests, &both);
        }
        let (left, right) = (
            self.side(left, left_schema, on.iter().map(|p| &p.0))?,
            self.side(right, right_schema, on.iter().map(|p| &p.1))?,
        );

        let windows = self.window_scope(&left, &right, &on, left_schema, right_schema);
        let interval = if windows.is_none() { self.interval(&left, &right, &on, &mut tests, &both)? } else { None };
        let changes = [&left, &right].map(|s| self.graph.nodes[s.rel.node].changes);
        let scope = match (windows, interval) {
            (Some(scope), _) | (None, Some(scope)) => {
                let what = if matches!(scope, JoinScope::Window { .. }) { "a window join" } else { "an interval join" };
                self.no_hint(j, what)?;
                self.insert_only(&left.rel, what)?;
                self.insert_only(&right.rel, what)?;
                scope
            }
            (None, None) => {
                for side in [&left, &right] {
                    self.retracting(&side.rel, "a join")?;
                }
                if let Some(scope) = self.broadcast([&left, &right], j, kind)? {
                    return self.joined(left, right, j, kind, scope, &tests, &both);
                }
                let times = [&left, &right].map(|s| s.time(TimeDomain::Event));
                let ttl = match (self.provider.catalog.settings.state_ttl, times) {
                    (Some(keep), [Some(l), Some(r)]) => Some(StateTtl { keep, times: vec![l, r] }),
                    _ => None,
                };
                JoinScope::Always { ttl, retracts: changes.map(|c| c != Changes::Insert) }
            }
        };
        self.joined(left, right, j, kind, scope, &tests, &both)
    }

    /// A side with its keys as columns, nothing pending.
    pub fn side<'e>(&mut self, rel: Rel, schema: &DFSchema, keys: impl Iterator<Item = &'e Logical>) -> Result<Side> {
        let mut rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        let keys: Vec<Logical> = keys.cloned().collect();
        if self.repeats_work(&rel, schema, &keys)? {
            rel = self.settle(rel)?;
        }
        let mut wanted: Vec<Expr> = rel.columns.iter().filter_map(|c| c.value().cloned()).collect();
        let width = wanted.len();
        for key in &keys {
            wanted.push(self.value(&rel, schema, key, &own_name(key))?);
        }
        let hidden = |rel: &Rel| -> Vec<Expr> {
            let versions = rel.versions.iter().flat_map(Versioned::columns);
            rel.order.iter().chain(versions).cloned().collect()
        };
        wanted.extend(hidden(&rel));
        let (node, mut at) = self.emit(&rel, &wanted)?;
        let schema = self.schema(node);
        let mut columns = at.split_off(width + keys.len()).into_iter().map(|i| Expr::column(&schema, i));
        if rel.order.is_some() {
            rel.order = columns.next();
        }
        for (e, column) in rel.versions.iter_mut().flat_map(Versioned::columns_mut).zip(columns) {
            *e = column;
        }
        let keys = at.split_off(width);
        for (c, i) in rel.columns.iter_mut().zip(&at) {
            let name = c.value().map(|e| e.field.name().clone()).unwrap_or_default();
            let mut e = Expr::column(&schema, *i);
            e.field = e.field.with_name(name);
            c.at = At::Value(e);
        }
        rel.node = node;
        rel.filter = None;
        Ok(Side { rel, schema, at, keys })
    }

    /// The node and its columns.
    #[expect(clippy::too_many_arguments, reason = "the parts of one join; a struct would only rename them")]
    fn joined(
        &mut self,
        left: Side,
        right: Side,
        j: &datafusion_expr::Join,
        kind: JoinKind,
        scope: JoinScope,
        tests: &[Logical],
        both: &DFSchema,
    ) -> Result<Rel> {
        let residual = self.residual(&left, &right, tests, both)?;
        let (out, columns) = self.joined_columns(&left, &right, kind, &scope);
        let keys: Vec<(usize, usize)> = left.keys.iter().copied().zip(right.keys.iter().copied()).collect();
        self.same_types(&left, &right, &keys)?;
        let label = {
            let mut conditions: Vec<String> = keys
                .iter()
                .map(|(l, r)| format!("{} = {}", left.schema.field(*l).name(), right.schema.field(*r).name()))
                .collect();
            conditions.extend(residual.iter().map(|e| e.sql.clone()));
            let (what, bounds) = match &scope {
                JoinScope::Always { .. } => ("Join", String::new()),
                JoinScope::Broadcast { small, .. } => {
                    ("BroadcastJoin", format!(", {} in every task", ["left", "right"][*small]))
                }
                JoinScope::Window { .. } => ("WindowJoin", String::new()),
                JoinScope::Interval { lower, upper, times, .. } => {
                    let (l, r) = (left.schema.field(times[0]).name(), right.schema.field(times[1]).name());
                    ("IntervalJoin", format!(", {l} - {r} in {lower} .. {upper} ms"))
                }
            };
            let on = if conditions.is_empty() { "every row".into() } else { conditions.join(" AND ") };
            format!("{what}({} on {on}{bounds})", kind_name(kind))
        };
        let side_keys = |side: &Side| {
            if side.keys.is_empty() { Exchange::Single } else { Exchange::Hash(side.keys.clone()) }
        };
        let exchange = |side: usize| match scope {
            JoinScope::Broadcast { small, .. } if small == side => Exchange::Broadcast,
            JoinScope::Broadcast { .. } => Exchange::Forward,
            _ => side_keys([&left, &right][side]),
        };
        let inputs = [(0, &left), (1, &right)];
        let inputs = inputs.map(|(side, s)| Input { node: s.rel.node, port: 0, exchange: exchange(side) });
        let null_equals_null = vec![j.null_equality == NullEquality::NullEqualsNull; keys.len()];
        let node = NodeKind::Join(Join { kind, keys, null_equals_null, residual, scope });
        let node = self.graph.add(label, node, inputs.to_vec(), out);
        Ok(Rel { node, columns, ..Rel::default() })
    }

    /// What else has to hold, over the columns of the left and then the right node.
    pub fn residual(&self, left: &Side, right: &Side, tests: &[Logical], both: &DFSchema) -> Result<Option<Expr>> {
        let Some(test) = tests.iter().cloned().reduce(Logical::and) else { return Ok(None) };
        if super::reads_proctime(&test) {
            return Err(super::no_clock());
        }
        let width = left.schema.fields().len();
        let fields: Vec<_> = left.schema.fields().iter().chain(right.schema.fields()).cloned().collect();
        let physical = self.compiler.physical(&test, both).map_err(|e| self.compiler.fail(e))?;
        let physical = super::super::expressions::substitute(&physical, &|c: &Column| {
            let i = c.index();
            let at = left
                .at
                .get(i)
                .copied()
                .unwrap_or_else(|| right.at.get(i - left.at.len()).map_or(usize::MAX, |at| width + at));
            Arc::new(Column::new(c.name(), at))
        })?;
        self.compiler.expr(physical, &Schema::new(fields), "filter").map(Some)
    }

    /// The columns of the node, and the logical ones among them.
    pub fn joined_columns(
        &mut self,
        left: &Side,
        right: &Side,
        kind: JoinKind,
        scope: &JoinScope,
    ) -> (Arc<Schema>, Vec<Col>) {
        let (pads_left, pads_right) =
            (matches!(kind, JoinKind::Right | JoinKind::Full), matches!(kind, JoinKind::Left | JoinKind::Full));
        let one_sided = matches!(kind, JoinKind::Semi | JoinKind::Anti | JoinKind::Mark);
        let padded = |fields: &arrow::datatypes::Fields, pads: bool| -> Vec<Field> {
            fields.iter().map(|f| f.as_ref().clone().with_nullable(f.is_nullable() || pads)).collect()
        };
        let mut fields = padded(left.schema.fields(), pads_left);
        let width = fields.len();
        if !one_sided {
            fields.extend(padded(right.schema.fields(), pads_right));
        }
        if kind == JoinKind::Mark {
            fields.push(Field::new("mark", DataType::Boolean, false));
        }
        let out = Arc::new(Schema::new(fields));
        let window = self.next_window();
        // Rows of a regular join come at any time: their times are columns like others. Those that pass by a small table
        // keep their times and windows, and those of the table come before all time.
        let in_time = |side: usize| match scope {
            JoinScope::Always { .. } => false,
            JoinScope::Broadcast { small, .. } => *small != side,
            JoinScope::Window { .. } | JoinScope::Interval { .. } => true,
        };
        let mut columns = Vec::with_capacity(left.at.len() + right.at.len());
        let mut add = |side: &Side, at_side: usize, base: usize, pads: bool| {
            for (c, at) in side.rel.columns.iter().zip(&side.at) {
                let mut e = Expr::column(&out, base + at);
                if let Some(old) = c.value() {
                    e.field = e.field.with_name(old.field.name());
                }
                let time = c.time.filter(|_| in_time(at_side) && !pads);
                let bound = match scope {
                    JoinScope::Window { .. } => c.bound.filter(|_| !pads).map(|b| Bound { window, ..b }),
                    JoinScope::Broadcast { .. } => c.bound.filter(|_| in_time(at_side)),
                    JoinScope::Always { .. } | JoinScope::Interval { .. } => None,
                };
                columns.push(Col { at: At::Value(e), time, bound });
            }
        };
        add(left, 0, 0, pads_left);
        if !one_sided {
            add(right, 1, width, pads_right);
        }
        if kind == JoinKind::Mark {
            columns.push(Col::plain(Expr::column(&out, width)));
        }
        (out, columns)
    }

    pub fn same_types(&self, left: &Side, right: &Side, keys: &[(usize, usize)]) -> Result<()> {
        for (l, r) in keys {
            let (l, r) = (left.schema.field(*l), right.schema.field(*r));
            if l.data_type() != r.data_type() {
                let sql = super::super::types::sql_name;
                let (lt, rt) = (sql(l.data_type()), sql(r.data_type()));
                return Err(Error::sql(format!("joins compare `{}` {lt} with `{}` {rt}", l.name(), r.name()))
                    .remedy(format!("write CAST(.. AS {lt})")));
            }
        }
        Ok(())
    }

    /// Whether the condition says that both rows are of the same window.
    fn window_scope(
        &self,
        left: &Side,
        right: &Side,
        on: &[(Logical, Logical)],
        left_schema: &DFSchema,
        right_schema: &DFSchema,
    ) -> Option<JoinScope> {
        let bound = |side: &Side, schema: &DFSchema, e: &Logical| {
            let i = schema.index_of_column(as_column(e)?).ok()?;
            Some((side.rel.columns[i].bound?, side.at[i]))
        };
        let mut found: [Option<(Bound, Bound, usize, usize)>; 2] = [None, None];
        for (l, r) in on {
            let (Some((lb, l)), Some((rb, r))) = (bound(left, left_schema, l), bound(right, right_schema, r)) else {
                continue;
            };
            if lb.part == rb.part && lb.domain == rb.domain && lb.part != Part::Time {
                found[lb.part as usize] = Some((lb, rb, l, r));
            }
        }
        let [Some((ls, rs, l_start, r_start)), Some((le, re, l_end, r_end))] = found else { return None };
        // Local times are no times of the watermark: such a join keeps its rows, and is right all the same.
        let local = ls.local || rs.local;
        (!local && ls.window == le.window && rs.window == re.window).then_some(JoinScope::Window {
            start: [l_start, r_start],
            end: [l_end, r_end],
            domain: ls.domain,
        })
    }

    /// Bounds between a time attribute of the left and one of the right, taken out of `tests`.
    fn interval(
        &self,
        left: &Side,
        right: &Side,
        on: &[(Logical, Logical)],
        tests: &mut Vec<Logical>,
        both: &DFSchema,
    ) -> Result<Option<JoinScope>> {
        let width = left.at.len();
        let time_of = |i: usize| {
            let side = if i < width { left } else { right };
            side.rel.columns[if i < width { i } else { i - width }].time
        };
        let mut found: Option<(usize, usize, TimeDomain)> = None;
        let (mut lower, mut upper): (Option<Millis>, Option<Millis>) = (None, None);
        let mut rest = Vec::new();
        let equalities: Vec<Logical> = on.iter().map(|(l, r)| l.clone().eq(r.clone())).collect();
        // Equal times are a key as well, which stays.
        for (test, stays) in
            tests.iter().flat_map(between).map(|t| (t, false)).chain(equalities.into_iter().map(|t| (t, true)))
        {
            let bounds = compared_times(&test, both, &time_of, width).filter(|b| {
                let pair = (b.left, b.right, b.domain);
                found.is_none_or(|f| f == pair)
            });
            let Some(b) = bounds else {
                if !stays {
                    rest.push(test);
                }
                continue;
            };
            found = Some((b.left, b.right, b.domain));
            if let Some(at_least) = b.at_least {
                lower = Some(lower.map_or(at_least, |l| l.max(at_least)));
            }
            if let Some(at_most) = b.at_most {
                upper = Some(upper.map_or(at_most, |u| u.min(at_most)));
            }
        }
        let (Some((l, r, domain)), Some(lower), Some(upper)) = (found, lower, upper) else { return Ok(None) };
        *tests = rest;
        let times = [left.at[l], right.at[r - width]];
        Ok(Some(JoinScope::Interval { times, domain, lower, upper }))
    }

    /// # Errors
    /// `what` takes rows that stay, and these are updated.
    pub fn insert_only(&self, rel: &Rel, what: &str) -> Result<()> {
        if self.graph.nodes[rel.node].changes == Changes::Insert {
            return Ok(());
        }
        if let Some(table) = self.changing_table(rel.node) {
            return Err(Error::sql(format!(
                "{what} takes rows that stay as they are, and `{table}` brings changes, which take rows back"
            ))
            .remedy(
                "aggregate it without a window function (GROUP BY), join it or take its first rows: these are kept up to date. A \
                 temporal join takes it on its right",
            ));
        }
        Err(Error::sql(format!("{what} takes rows that stay as they are, and its input is a result that is updated"))
            .remedy("aggregate, join or deduplicate it by windows, so that each row comes once"))
    }

    /// # Errors
    /// `what` has to see the old row when one is updated, and these rows come without (windows with allowed lateness).
    pub fn retracting(&self, rel: &Rel, what: &str) -> Result<()> {
        if self.graph.nodes[rel.node].changes != Changes::Upsert {
            return Ok(());
        }
        Err(Error::sql(format!(
            "{what} needs to see what an update replaces, and windows with allowed lateness say only what replaces it"
        ))
        .remedy("SET 'table.exec.emit.allow-lateness' = '0 ms', or write the windows to a table of their own"))
    }
}

impl Side {
    /// The first column that follows a clock of this kind.
    fn time(&self, domain: TimeDomain) -> Option<usize> {
        self.rel.columns.iter().position(|c| c.time == Some(domain)).map(|i| self.at[i])
    }
}

pub fn kind_name(kind: JoinKind) -> &'static str {
    match kind {
        JoinKind::Inner => "inner",
        JoinKind::Left => "left",
        JoinKind::Right => "right",
        JoinKind::Full => "full",
        JoinKind::Semi => "semi",
        JoinKind::Anti => "anti",
        JoinKind::Mark => "mark",
    }
}

fn swap(j: &datafusion_expr::Join) -> datafusion_expr::Join {
    let join_type = match j.join_type {
        JoinType::RightSemi => JoinType::LeftSemi,
        JoinType::RightAnti => JoinType::LeftAnti,
        other => other,
    };
    datafusion_expr::Join {
        left: j.right.clone(),
        right: j.left.clone(),
        on: j.on.iter().map(|(l, r)| (r.clone(), l.clone())).collect(),
        join_type,
        ..j.clone()
    }
}

/// `x BETWEEN a AND b` as its two comparisons, anything else as it is.
pub fn between(e: &Logical) -> Vec<Logical> {
    match e {
        Logical::Between(b) if !b.negated => vec![
            b.expr.as_ref().clone().gt_eq(b.low.as_ref().clone()),
            b.expr.as_ref().clone().lt_eq(b.high.as_ref().clone()),
        ],
        other => vec![other.clone()],
    }
}

/// What a comparison says of `left time - right time`. Columns are those of the joined schema.
pub struct Compared {
    pub left: usize,
    pub right: usize,
    pub domain: TimeDomain,
    pub at_least: Option<Millis>,
    pub at_most: Option<Millis>,
}

pub fn compared_times(
    e: &Logical,
    schema: &DFSchema,
    time_of: &dyn Fn(usize) -> Option<TimeDomain>,
    width: usize,
) -> Option<Compared> {
    let Logical::BinaryExpr(b) = e else { return None };
    let (a, a_shift) = shifted_time(&b.left, schema)?;
    let (c, c_shift) = shifted_time(&b.right, schema)?;
    let (a_domain, c_domain) = (time_of(a)?, time_of(c)?);
    if a_domain != c_domain || (a < width) == (c < width) {
        return None;
    }
    // a + a_shift OP c + c_shift   is   a - c OP shift
    let shift = c_shift.checked_sub(a_shift)?;
    let (mut at_least, mut at_most) = match b.op {
        Operator::Gt => (Some(shift.checked_add(1)?), None),
        Operator::GtEq => (Some(shift), None),
        Operator::Lt => (None, Some(shift.checked_sub(1)?)),
        Operator::LtEq => (None, Some(shift)),
        Operator::Eq => (Some(shift), Some(shift)),
        _ => return None,
    };
    if a >= width {
        // The left one stands on the right of the comparison: the difference has the other sign.
        (at_least, at_most) = (at_most.map(|v| -v), at_least.map(|v| -v));
    }
    let (left, right) = if a < width { (a, c) } else { (c, a) };
    Some(Compared { left, right, domain: a_domain, at_least, at_most })
}

/// A column, and what is added to it in milliseconds.
fn shifted_time(e: &Logical, schema: &DFSchema) -> Option<(usize, Millis)> {
    match e {
        Logical::Column(c) => Some((schema.index_of_column(c).ok()?, 0)),
        Logical::Alias(a) => shifted_time(&a.expr, schema),
        Logical::Cast(c) if matches!(c.field.data_type(), DataType::Timestamp(..)) => {
            let (column, shift) = shifted_time(&c.expr, schema)?;
            matches!(schema.field(column).data_type(), DataType::Timestamp(..)).then_some((column, shift))
        }
        Logical::BinaryExpr(b) => {
            let constant = |e: &Logical| literal(e).and_then(interval_millis);
            match b.op {
                Operator::Plus => match (constant(&b.left), constant(&b.right)) {
                    (None, Some(ms)) => add(shifted_time(&b.left, schema)?, ms),
                    (Some(ms), None) => add(shifted_time(&b.right, schema)?, ms),
                    _ => None,
                },
                Operator::Minus => add(shifted_time(&b.left, schema)?, constant(&b.right)?.checked_neg()?),
                _ => None,
            }
        }
        _ => None,
    }
}

fn add((column, shift): (usize, Millis), ms: Millis) -> Option<(usize, Millis)> {
    Some((column, shift.checked_add(ms)?))
}
