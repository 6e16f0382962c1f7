//! What a statement writes to: the query's columns fitted to the table's.

use super::PlannedStatement;
use super::errors::unknown_name;
use super::locate::locate_column;
use super::narrow::fits_in_flink;
use super::provider::Provider;
use super::table::{DeclaredTable, Scan};
use super::types::{fits, sql_name};
use crate::catalog::ColumnKind;
use crate::statement::Insert;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion_common::ScalarValue;
use datafusion_expr::{Expr, LogicalPlan, LogicalPlanBuilder, cast, lit};
use datafusion_sql::sqlparser::ast;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::table::TableUse;
use millstream_core::{Connectors, Error, Place, Result, TableSpec};
use millstream_dataflow::graph::{SideOutput, bad_schema, late_schema};
use std::collections::BTreeMap;
use std::sync::Arc;

impl Provider<'_> {
    /// A plain SELECT. Columns without a name are called what they were written as.
    pub fn select(&self, query: &ast::Query, place: Place) -> Result<PlannedStatement> {
        let mut query = query.clone();
        name_columns(&mut query.body);
        let plan = self.query(&query).and_then(|p| self.settle(p)).map_err(|e| self.fail(e))?;
        // The optimizer drops projections that only give names.
        let names: Vec<String> = plan.schema().fields().iter().map(|f| f.name().clone()).collect();
        let plan = self.optimize(plan).map_err(|e| self.fail(e))?;
        let fields: Vec<Field> = names
            .into_iter()
            .zip(plan.schema().fields())
            .map(|(name, f)| Field::new(name, f.data_type().clone(), f.is_nullable()))
            .collect();
        let sink = TableSpec {
            name: "result".into(),
            schema: Arc::new(Schema::new(fields)),
            projection: None,
            metadata: Vec::new(),
            options: BTreeMap::from([("connector".to_string(), "result".to_string())]),
            partitioned_by: Vec::new(),
            primary_key: Vec::new(),
            place: Some(place.clone()),
        };
        Ok(PlannedStatement { sink, not_null: None, logical: plan, place })
    }

    pub fn insert(&self, insert: &Insert, place: Place) -> Result<PlannedStatement> {
        let name = insert.table.rsplit('.').next().unwrap_or(&insert.table);
        if self.catalog.views.contains_key(name) {
            return Err(Error::sql(format!("`{name}` is a view, and rows go into tables"))
                .remedy("declare a table with CREATE TABLE and insert into that"));
        }
        let table = self.table(name)?;
        let mut query = insert.query.clone();
        name_columns(&mut query.body);
        let plan = self.query(&query).and_then(|p| self.settle(p)).map_err(|e| self.fail(e))?;
        let columns = self.written_columns(&table, insert)?;
        let plan = self.fit(&table, insert, &columns, plan)?;
        let logical = self.optimize(plan).map_err(|e| self.fail(e))?;
        let mut sink = table.def.to_sink_spec();
        sink.metadata = table
            .def
            .columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Metadata { data_type, nullable, key, is_virtual: false } => {
                    Some((key.clone(), Field::new(&c.name, data_type.clone(), *nullable)))
                }
                _ => None,
            })
            .collect();
        let not_null = Some(self.catalog.settings.not_null);
        Ok(PlannedStatement { sink, not_null, logical, place })
    }

    /// For each column that the sink is given, which column of the query it is. `None`: NULL.
    fn written_columns(&self, table: &DeclaredTable, insert: &Insert) -> Result<Vec<(usize, Option<usize>)>> {
        let writable = table.sink_columns();
        if insert.columns.is_empty() {
            return Ok(writable.into_iter().enumerate().map(|(i, c)| (c, Some(i))).collect());
        }
        for name in &insert.columns {
            let Ok(index) = table.schema.index_of(name) else {
                let known = writable.iter().map(|i| table.schema.field(*i).name().as_str());
                let all: Vec<String> = known.clone().map(|c| format!("`{c}`")).collect();
                let remedy = format!("the columns of `{}` are {}", table.name, all.join(", "));
                let e = unknown_name("column", name, known, &remedy);
                return Err(e);
            };
            if !writable.contains(&index) {
                return Err(Error::sql(format!(
                    "column `{name}` of `{}` is computed or virtual, nothing goes into it",
                    table.name
                ))
                .remedy("leave it out of the list"));
            }
        }
        let place_of = |c: usize| insert.columns.iter().position(|n| n == table.schema.field(c).name());
        for c in &writable {
            let field = table.schema.field(*c);
            if place_of(*c).is_none() && !field.is_nullable() {
                return Err(Error::sql(format!(
                    "column `{}` of `{}` is NOT NULL and gets no value",
                    field.name(),
                    table.name
                ))
                .remedy("add it to the list of columns"));
            }
        }
        Ok(writable.into_iter().map(|c| (c, place_of(c))).collect())
    }

    /// A projection of the query's columns to the types of the sink's.
    fn fit(
        &self,
        table: &DeclaredTable,
        insert: &Insert,
        columns: &[(usize, Option<usize>)],
        plan: LogicalPlan,
    ) -> Result<LogicalPlan> {
        let given = plan.schema().clone();
        let expected = if insert.columns.is_empty() { columns.len() } else { insert.columns.len() };
        let schemas = || {
            let of = |n: &str, t: &DataType| format!("{n} {}", sql_name(t));
            let query: Vec<String> = given.fields().iter().map(|f| of(f.name(), f.data_type())).collect();
            let sink: Vec<String> = columns
                .iter()
                .map(|(c, _)| of(table.schema.field(*c).name(), table.schema.field(*c).data_type()))
                .collect();
            format!("the query gives ({}), the table takes ({})", query.join(", "), sink.join(", "))
        };
        if given.fields().len() != expected {
            return Err(Error::sql(format!(
                "INSERT INTO `{}` takes {expected} columns, the query gives {}",
                table.name,
                given.fields().len()
            ))
            .remedy(schemas()));
        }
        let mut exprs = Vec::with_capacity(columns.len());
        for (c, from) in columns {
            let field = table.schema.field(*c);
            let to = field.data_type();
            let expr = match from {
                None => cast(lit(ScalarValue::Null), to.clone()),
                Some(i) => {
                    let (q, f) = given.qualified_field(*i);
                    let column = Expr::Column(datafusion_common::Column::from((q, f)));
                    if f.data_type() == to {
                        column
                    } else if fits(f.data_type(), to) || fits_in_flink(&plan, *i, to) {
                        cast(column, to.clone())
                    } else {
                        let e = Error::sql(format!(
                            "column `{}` of `{}` is {}, the query gives {} (`{}`)",
                            field.name(),
                            table.name,
                            sql_name(to),
                            sql_name(f.data_type()),
                            f.name()
                        ));
                        let e = match locate_column(&insert.query, *i) {
                            Some(at) => e.at(self.place(at)),
                            None => e,
                        };
                        return Err(e.remedy(format!("write CAST(.. AS {}); {}", sql_name(to), schemas())));
                    }
                }
            };
            exprs.push(expr.alias(field.name()));
        }
        LogicalPlanBuilder::from(plan).project(exprs).and_then(|b| b.build()).map_err(|e| self.fail(e))
    }

    /// Asks the connectors about every table that is used.
    pub fn validate(
        &self,
        statements: &[PlannedStatement],
        scans: &BTreeMap<String, Scan>,
        lookups: &BTreeMap<String, Scan>,
        connectors: &dyn Connectors,
    ) -> Result<()> {
        let lookups = lookups.iter().map(|l| (l, TableUse::Lookup));
        for ((name, scan), use_as) in scans.iter().map(|s| (s, TableUse::Source)).chain(lookups) {
            let table = self.table(name)?;
            let spec = &scan.node.table;
            connectors.validate(spec, use_as).map_err(|e| e.at(table.def.place.clone()))?;
            if spec.metadata.iter().all(|(key, _)| key == ROW_ORDER) {
                continue;
            }
            let known = connectors.metadata(spec).map_err(|e| e.at(table.def.place.clone()))?;
            for (key, field) in spec.metadata.iter().filter(|(key, _)| key != ROW_ORDER) {
                let Some(found) = known.iter().find(|f| f.name() == key) else {
                    let keys = known.iter().map(|f| f.name().as_str());
                    let all = known.iter().map(|f| format!("'{}'", f.name())).collect::<Vec<_>>().join(", ");
                    let remedy = match known.is_empty() {
                        true => "the connector has no metadata".to_string(),
                        false => format!("the connector has {all}"),
                    };
                    let e = unknown_name("metadata column", key, keys, &remedy);
                    return Err(e.at(table.def.place.clone()));
                };
                if found.data_type() != field.data_type() {
                    return Err(Error::sql(format!(
                        "metadata `{key}` is {}, column `{}` declares {}",
                        sql_name(found.data_type()),
                        field.name(),
                        sql_name(field.data_type())
                    ))
                    .at(table.def.place.clone())
                    .remedy(format!("declare it {}", sql_name(found.data_type()))));
                }
            }
        }
        for s in statements.iter().filter(|s| s.sink.connector() != "result") {
            connectors.validate(&s.sink, TableUse::Sink).map_err(|e| e.at(s.place.clone()))?;
        }
        Ok(())
    }

    /// Whether a table is looked up, by what has been planned, that can only be asked.
    pub fn asks(&self, connectors: &dyn Connectors) -> Result<bool> {
        let looked_up = self.looked_up.borrow();
        for name in looked_up.iter() {
            if connectors.asked_by_key(&self.table(name)?.def.to_spec()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The tables for late rows and for bad rows, where the settings name them.
    pub fn side_outputs(&self, connectors: &dyn Connectors) -> Result<(Option<SideOutput>, Option<SideOutput>)> {
        let settings = &self.catalog.settings;
        let late = settings.late_rows_table.as_deref();
        let bad = settings.bad_rows_table.as_deref();
        let late = late.map(|t| self.side_output("millstream.late-rows.table", t, &late_schema(), connectors));
        let bad = bad.map(|t| self.side_output("millstream.bad-rows.table", t, &bad_schema(), connectors));
        Ok((late.transpose()?, bad.transpose()?))
    }

    fn side_output(
        &self,
        setting: &str,
        name: &str,
        schema: &Schema,
        connectors: &dyn Connectors,
    ) -> Result<SideOutput> {
        let table = self.table(name).map_err(|e| {
            Error::sql(format!("'{setting}' names the table `{name}`, which is not declared"))
                .remedy(e.help().unwrap_or("declare it with CREATE TABLE").to_string())
        })?;
        let mut columns = Vec::new();
        let mut fields = Vec::new();
        for c in table.sink_columns() {
            let field = table.schema.field(c);
            let Ok(index) = schema.index_of(field.name()) else {
                let known = schema.fields().iter().map(|f| f.name().as_str());
                let all: Vec<String> =
                    schema.fields().iter().map(|f| format!("{} {}", f.name(), sql_name(f.data_type()))).collect();
                let remedy = format!("a table for '{setting}' may have the columns {}", all.join(", "));
                return Err(unknown_name("column", field.name(), known, &remedy).at(table.def.place.clone()));
            };
            let found = schema.field(index).data_type();
            if found != field.data_type() {
                return Err(Error::sql(format!(
                    "column `{}` of `{name}` is {}, '{setting}' gives {}",
                    field.name(),
                    sql_name(field.data_type()),
                    sql_name(found)
                ))
                .at(table.def.place.clone())
                .remedy(format!("declare it {}", sql_name(found))));
            }
            columns.push(index);
            fields.push(field.clone());
        }
        let mut spec = table.def.to_spec();
        spec.schema = Arc::new(Schema::new(fields));
        connectors.validate(&spec, TableUse::Sink).map_err(|e| e.at(table.def.place.clone()))?;
        Ok(SideOutput { table: spec, columns })
    }
}

/// Gives the columns that have no name of their own the words that they were written in, and those that share one a digit
/// behind it, as Flink does.
pub fn name_columns(body: &mut ast::SetExpr) {
    match body {
        ast::SetExpr::Select(select) => {
            let mut taken: Vec<String> = Vec::new();
            for item in &mut select.projection {
                let (name, written) = match item {
                    ast::SelectItem::UnnamedExpr(ast::Expr::Identifier(i)) => (i.value.clone(), true),
                    ast::SelectItem::UnnamedExpr(ast::Expr::CompoundIdentifier(parts)) => {
                        (parts.last().map(|i| i.value.clone()).unwrap_or_default(), true)
                    }
                    ast::SelectItem::UnnamedExpr(e) => (e.to_string(), false),
                    ast::SelectItem::ExprWithAlias { alias, .. } => (alias.value.clone(), true),
                    _ => continue,
                };
                let mut unique = name.clone();
                let mut n = 0;
                while taken.contains(&unique) {
                    unique = if written { format!("{name}{n}") } else { format!("{name} ({})", n + 2) };
                    n += 1;
                }
                taken.push(unique.clone());
                if written && unique == name {
                    continue;
                }
                let expr = match item {
                    ast::SelectItem::UnnamedExpr(expr) | ast::SelectItem::ExprWithAlias { expr, .. } => expr.clone(),
                    _ => continue,
                };
                *item = ast::SelectItem::ExprWithAlias { expr, alias: ast::Ident::with_quote('`', unique) };
            }
        }
        // The names of a union are those of its first query.
        ast::SetExpr::SetOperation { left, .. } => name_columns(left),
        ast::SetExpr::Query(q) => name_columns(&mut q.body),
        _ => {}
    }
}
