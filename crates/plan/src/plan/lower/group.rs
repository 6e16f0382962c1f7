//! `GROUP BY` without a window: a result that is kept up to date.

use super::aggregate::{Group, Moved, named};
use super::calls::CallSpec;
use super::{Col, Lowering, Rel, by, own_name};
use arrow::datatypes::{Field, Schema};
use datafusion_expr::{Aggregate, Expr as Logical};
use millstream_core::{Error, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{AggregateFunction, Changes, Exchange, GroupAggregate, Input, NodeKind, StateTtl};
use std::sync::Arc;

impl Lowering<'_, '_> {
    /// `groups`: what is grouped by, each expression of all grouping sets once.
    pub fn group(
        &mut self,
        mut rel: Rel,
        a: &Aggregate,
        groups: &[Logical],
        sets: Option<&[Vec<Logical>]>,
        specs: Vec<CallSpec>,
    ) -> Result<Rel> {
        let input = a.input.schema().clone();
        let result = a.schema.as_arrow();
        self.retracting(&rel, "an aggregation")?;
        let mut read: Vec<Logical> = groups.to_vec();
        for s in &specs {
            read.extend(s.args.iter().chain(&s.filter).cloned());
        }
        if self.repeats_work(&rel, &input, &read)? {
            rel = self.settle(rel)?;
        }
        let mut wanted: Vec<Expr> = Vec::new();
        for e in groups {
            wanted.push(self.value(&rel, &input, e, &own_name(e))?);
        }
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
        let mut extra = |e: Option<Expr>| {
            e.map(|e| {
                wanted.push(e);
                wanted.len() - 1
            })
        };
        let order = extra(rel.order.clone().filter(|_| specs.iter().any(|s| super::calls::is_ordered(&s.udf))));
        let keep = self.provider.catalog.settings.state_ttl;
        let time = rel.columns.iter().find(|c| c.time == Some(TimeDomain::Event)).and_then(Col::value).cloned();
        let time = extra(time.filter(|_| keep.is_some()));

        let (mut node, at) = self.emit(&rel, &wanted)?;
        let mut keys: Vec<usize> = at[..groups.len()].to_vec();
        if let Some(sets) = sets {
            let id_type = result.field(groups.len()).data_type().clone();
            let placed: Vec<Group> = (0..groups.len()).map(Group::Key).collect();
            let moved: Moved;
            (node, moved) = self.expand(node, &at, &keys, groups, sets, &placed, id_type)?;
            keys = moved.keys;
        }
        let schema = self.schema(node);
        let retracts = self.graph.nodes[node].changes != Changes::Insert;
        let mut calls = Vec::with_capacity(specs.len());
        for (spec, (args, filter)) in specs.into_iter().zip(reads) {
            let (name, spec) = (spec.udf.name().to_uppercase(), spec.named(&args, filter, &wanted));
            let args = args.into_iter().map(|i| at[i]).collect();
            let call = self.call(spec, &schema, args, filter.map(|i| at[i]))?;
            if retracts && matches!(call.function, AggregateFunction::Kernel(_)) {
                return Err(Error::sql(format!(
                    "{name} cannot take rows back, and its input is a result that is updated"
                ))
                .remedy("use COUNT, SUM, AVG, MIN, MAX, VAR_POP or STDDEV_POP, or aggregate the rows themselves"));
            }
            calls.push(call);
        }
        let mut fields: Vec<Field> = keys.iter().map(|k| schema.field(*k).clone()).collect();
        fields.extend(calls.iter().map(|c| c.result.clone()));
        let out = Arc::new(Schema::new(fields));
        let exchange = if keys.is_empty() { Exchange::Single } else { Exchange::Hash(keys.clone()) };
        let made: Vec<&str> = calls.iter().map(|c| c.result.name().as_str()).collect();
        let by = by(&schema, &keys);
        let what = match (by.trim_start_matches(", "), made.join(", ")) {
            (by, made) if made.is_empty() => by.to_string(),
            ("", made) => made,
            (by, made) => format!("{by}: {made}"),
        };
        let n_keys = keys.len();
        let ttl = keep.zip(time).map(|(keep, i)| StateTtl { keep, times: vec![at[i]] });
        let order = order.map(|i| at[i]);
        let kind = NodeKind::GroupAggregate(GroupAggregate { keys, calls, retracts, update_before: true, ttl, order });
        let input = Input { node, port: 0, exchange };
        let node = self.graph.add(format!("GroupAggregate({what})"), kind, vec![input], out.clone());

        let mut columns: Vec<Col> =
            (0..groups.len()).map(|k| Col::plain(named(&out, k, result.field(k).name()))).collect();
        if sets.is_some() {
            columns.push(Col::plain(named(&out, n_keys - 1, result.field(groups.len()).name())));
        }
        columns.extend((n_keys..out.fields().len()).map(|i| Col::plain(Expr::column(&out, i))));
        Ok(Rel { node, columns, ..Rel::default() })
    }
}
