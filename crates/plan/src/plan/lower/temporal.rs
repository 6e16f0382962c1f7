//! `FOR SYSTEM_TIME AS OF left.time`: each row with the version that held at its time (rule 22). And `ASOF JOIN`: each row with
//! the last row of its key so far, of a table whose rows stay.

use super::super::as_of;
use super::super::changes::Key;
use super::join::{Side, between, compared_times};
use super::{Col, Lowering, Rel, Versioned, as_column, literal};
use arrow::datatypes::{DataType, Schema};
use datafusion_common::{DFSchema, ScalarValue};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{Expr as Logical, ExprSchemable, Operator};
use datafusion_physical_expr::expressions::BinaryExpr;
use millstream_core::{Error, Millis, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Exchange, Input, JoinKind, JoinScope, NodeKind, TemporalJoin};
use std::sync::Arc;

/// Whether a condition carries the clause.
pub fn is_as_of(e: &Logical) -> bool {
    matches!(e, Logical::ScalarFunction(f) if f.name() == as_of::NAME)
}

/// Whether a join chooses between versions.
pub fn has_as_of(j: &datafusion_expr::Join) -> bool {
    j.filter.iter().flat_map(split_conjunction).any(is_as_of)
}

/// Of a MATCH_CONDITION.
fn unmatched(what: String) -> Error {
    Error::sql(what).remedy(
        "write MATCH_CONDITION (left.time >= right.time), where older rows count as none with AND right.time >= left.time - \
         INTERVAL '5' MINUTE; both are the columns of the WATERMARK of their tables",
    )
}

/// Of RIGHT and FULL JOIN, and of IN.
pub fn one_sided() -> Error {
    Error::sql("FOR SYSTEM_TIME AS OF joins the versions to rows of the left")
        .remedy("write JOIN or LEFT JOIN, with the versioned table on the right")
}

impl Lowering<'_, '_> {
    /// Takes note of what a temporal join has to know of versions.
    pub fn versions(&mut self, rel: Rel) -> Result<Rel> {
        let mut rel = if rel.window.is_some() { self.window_rows(rel)? } else { rel };
        if rel.versions.is_some() {
            return Ok(rel);
        }
        if self.looking_up {
            rel.versions = Some(Versioned { time: None, key: None, passes: None });
            return Ok(rel);
        }
        let Some(time) = rel.columns.iter().find(|c| c.time == Some(TimeDomain::Event)).and_then(Col::value) else {
            return Err(Error::sql(
                "the table on the right of FOR SYSTEM_TIME AS OF, or of ASOF JOIN, has no time attribute",
            )
            .remedy("declare a WATERMARK on it, and keep the column in the view over it"));
        };
        rel.versions = Some(Versioned { time: Some(time.clone()), key: None, passes: None });
        Ok(rel)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one join; a struct would only rename them")]
    pub fn temporal_join(
        &mut self,
        left: Rel,
        right: Rel,
        j: &datafusion_expr::Join,
        kind: JoinKind,
        clause: &Logical,
        tests: &[Logical],
        both: &DFSchema,
    ) -> Result<Rel> {
        let outer = match kind {
            JoinKind::Inner => false,
            JoinKind::Left => true,
            _ => return Err(one_sided()),
        };
        let Logical::ScalarFunction(clause) = clause else {
            return Err(Error::internal("a clause of a temporal join that is none"));
        };
        let (left_schema, right_schema) = (j.left.schema(), j.right.schema());
        let left = self.side(left, left_schema, j.on.iter().map(|p| &p.0))?;
        let right = self.side(right, right_schema, j.on.iter().map(|p| &p.1))?;
        let [clause, _, matched] = clause.args.as_slice() else {
            return Err(Error::internal("a clause of a temporal join with other arguments"));
        };
        let condition = matches!(clause.get_type(both), Ok(DataType::Boolean));
        match (matches!(literal(matched), Some(ScalarValue::Boolean(Some(true)))), condition) {
            (true, true) => return self.nearest(left, right, kind, clause, tests, both),
            (true, false) => {
                return Err(unmatched("MATCH_CONDITION holds no comparison of the times of both sides".into()));
            }
            (false, true) => {
                return Err(Error::sql("FOR SYSTEM_TIME AS OF takes a time, and this is a condition").remedy(
                    "name the column of the left table that has the WATERMARK; what a row and its version have to fulfil stands in ON. \
                     A condition on both times belongs to ASOF JOIN .. MATCH_CONDITION",
                ));
            }
            (false, false) => {}
        }
        let time = as_column(clause).and_then(|c| left_schema.index_of_column(c).ok());
        let time = match time.map(|i| (i, left.rel.columns[i].time)) {
            Some((i, Some(TimeDomain::Event))) => left.at[i],
            Some((_, Some(TimeDomain::Processing))) => {
                return Err(Error::sql("joins FOR SYSTEM_TIME AS OF processing time look a table up, and where this time comes from is not seen")
                    .remedy("declare it in the left table (proctime AS PROCTIME()), or read it in a subquery straight over that table"));
            }
            _ => {
                let name = as_column(clause).map_or("what is computed".to_owned(), |c| format!("`{}`", c.name));
                return Err(Error::sql(format!(
                    "FOR SYSTEM_TIME AS OF {name}: that is no time attribute of the left side"
                ))
                .remedy("name the column of the left table that has the WATERMARK"));
            }
        };
        self.insert_only(&left.rel, "the left side of a temporal join")?;
        let Some(versions) = &right.rel.versions else {
            return Err(Error::internal("a temporal join without versions"));
        };
        let version = versions.time.as_ref().and_then(Expr::as_column);
        let version = version.ok_or_else(|| Error::internal("a settled expression is no column"))?;
        // The key that tells the versions apart has to be compared; whatever else is, is a condition.
        let known = match &versions.key {
            Some(key) => vec![key.iter().filter_map(Expr::as_column).collect()],
            None => self.graph.keys[right.rel.node].clone(),
        };
        let unique = known.into_iter().find(|key: &Key| key.iter().all(|c| right.keys.contains(c)));
        let Some(unique) = unique else {
            return Err(Error::sql("FOR SYSTEM_TIME AS OF: ON does not compare the primary key of the versioned table").remedy(
                "declare PRIMARY KEY (..) NOT ENFORCED on it, or keep the last row of each key with ROW_NUMBER() OVER (PARTITION \
                 BY key ORDER BY time DESC) = 1, and compare the key in ON",
            ));
        };
        let (mut keys, mut tests) = (Vec::new(), tests.to_vec());
        let mut exchange = [Vec::new(), Vec::new()];
        for (i, (l, r)) in left.keys.iter().zip(&right.keys).enumerate() {
            if unique.contains(r) {
                keys.push((*l, *r));
                exchange[0].push(*l);
                exchange[1].push(*r);
            } else {
                let (l, r) = j.on[i].clone();
                tests.push(l.eq(r));
            }
        }
        let join = TemporalJoin { outer, keys, residual: None, times: [time, version], tolerance: None, order: None };
        self.as_of(left, right, kind, join, exchange, &tests, both)
    }

    /// `ASOF JOIN r MATCH_CONDITION (left.time >= r.time ..)`: as [`Lowering::temporal_join`], where each row of the right is
    /// a version of what has its keys.
    fn nearest(
        &mut self,
        left: Side,
        right: Side,
        kind: JoinKind,
        matched: &Logical,
        tests: &[Logical],
        both: &DFSchema,
    ) -> Result<Rel> {
        let width = left.at.len();
        let time_of = |i: usize| match i.checked_sub(width) {
            None => left.rel.columns[i].time,
            Some(i) => right.rel.columns[i].time,
        };
        let mut found: Option<(usize, usize)> = None;
        let (mut least, mut most): (Option<Millis>, Option<Millis>) = (None, None);
        for test in split_conjunction(matched).into_iter().flat_map(between) {
            let bounds = compared_times(&test, both, &time_of, width);
            let bounds =
                bounds.filter(|b| b.domain == TimeDomain::Event && found.is_none_or(|f| f == (b.left, b.right)));
            let Some(b) = bounds else {
                return Err(unmatched("MATCH_CONDITION compares something else than the times of both sides".into()));
            };
            found = Some((b.left, b.right));
            least = b.at_least.map_or(least, |l| Some(least.map_or(l, |least| least.max(l))));
            most = b.at_most.map_or(most, |m| Some(most.map_or(m, |most| most.min(m))));
        }
        let (Some((time, version)), Some(0)) = (found, least) else {
            return Err(unmatched(
                "MATCH_CONDITION does not say that a row meets the last one at its time or before".into(),
            ));
        };
        if most.is_some_and(|most| most < 0) {
            return Err(unmatched("MATCH_CONDITION holds for no two rows".into()));
        }
        self.insert_only(&left.rel, "the left side of an ASOF JOIN")?;
        self.insert_only(&right.rel, "the right side of an ASOF JOIN")?;
        if left.keys.is_empty() {
            return Err(Error::sql("ASOF JOIN: ON compares no column of both sides").remedy(
                "write ON left.key = right.key; what has no key of its own gets one from a view: SELECT 0 AS k, ..",
            ));
        }
        let keys = left.keys.iter().copied().zip(right.keys.iter().copied()).collect();
        let exchange = [left.keys.clone(), right.keys.clone()];
        let times = [left.at[time], right.at[version - width]];
        // Inner where what is asked of the right leaves no row without one.
        let outer = kind == JoinKind::Left;
        let join = TemporalJoin { outer, keys, residual: None, times, tolerance: most, order: None };
        self.as_of(left, right, kind, join, exchange, tests, both)
    }

    /// The node of `join`, and its columns.
    #[expect(clippy::too_many_arguments, reason = "the parts of one join; a struct would only rename them")]
    fn as_of(
        &mut self,
        left: Side,
        right: Side,
        kind: JoinKind,
        join: TemporalJoin,
        exchange: [Vec<usize>; 2],
        tests: &[Logical],
        both: &DFSchema,
    ) -> Result<Rel> {
        let scope = JoinScope::Interval { times: join.times, domain: TimeDomain::Event, lower: 0, upper: 0 };
        let residual = self.residual(&left, &right, tests, both)?;
        let residual = self.and_passes(residual, &left, &right)?;
        let (out, mut columns) = self.joined_columns(&left, &right, kind, &scope);
        // The result follows the time of the left.
        for c in columns.iter_mut().skip(left.at.len()) {
            c.time = None;
        }
        let names: Vec<&str> = join.keys.iter().map(|(l, _)| left.schema.field(*l).name().as_str()).collect();
        let mut label = format!(
            "TemporalJoin({} on {} as of {}",
            if join.outer { "left" } else { "inner" },
            names.join(", "),
            left.schema.field(join.times[0]).name()
        );
        if let Some(most) = join.tolerance {
            label.push_str(&format!(", at most {most} ms before"));
        }
        if let Some(e) = &residual {
            label.push_str(&format!(" AND {}", e.sql));
        }
        label.push(')');
        let order = left.rel.order.as_ref().and_then(|e| e.as_column());
        let inputs = [&left, &right].into_iter().zip(exchange).map(|(side, keys)| Input {
            node: side.rel.node,
            port: 0,
            exchange: Exchange::Hash(keys),
        });
        let inputs: Vec<Input> = inputs.collect();
        let node = NodeKind::TemporalJoin(TemporalJoin { residual, order, ..join });
        let node = self.graph.add(label, node, inputs, out);
        Ok(Rel { node, columns, ..Rel::default() })
    }

    /// Adds to a condition what the versions of the right have to fulfil by themselves.
    pub fn and_passes(&self, residual: Option<Expr>, left: &Side, right: &Side) -> Result<Option<Expr>> {
        let passes = right.rel.versions.as_ref().and_then(|v| v.passes.as_ref()).and_then(Expr::as_column);
        let Some(passes) = passes else { return Ok(residual) };
        let fields: Vec<_> = left.schema.fields().iter().chain(right.schema.fields()).cloned().collect();
        let all = Schema::new(fields);
        let passes = Expr::column(&all, left.schema.fields().len() + passes).physical;
        let test = match residual {
            None => passes,
            Some(other) => Arc::new(BinaryExpr::new(other.physical, Operator::And, passes)),
        };
        self.compiler.expr(test, &all, "filter").map(Some)
    }
}
