//! A declared table with its columns resolved, and what a source must read to hand some of them on.
//!
//! ```text
//!  declared:  physical, metadata and computed columns, WATERMARK          (what SQL sees, a scan's schema)
//!  stored:    physical columns, metadata columns, $proctime               (what computed columns are made of)
//!  raw:       those stored columns that are needed [, $order]             (what the connector reads)
//!  handed on: the declared columns that are asked for [, $order] [, $watermark]   (what the source node emits)
//! ```

use super::errors::explain;
use super::expressions::{Compiler, remap};
use super::provider::Provider;
use super::types::sql_name;
use crate::catalog::{ColumnKind, Span, TableDef, WatermarkDef};
use crate::functions::plain_calls;
use crate::statement::Settings;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use datafusion_common::{Column, DFSchema, DFSchemaRef, ScalarValue};
use datafusion_expr::{BinaryExpr, Expr as Logical, ExprSchemable, Operator};
use datafusion_sql::planner::PlannerContext;
use datafusion_sql::sqlparser::ast;
use millstream_core::metadata::{PROCESSING_TIME, ROW_ORDER, ROW_WATERMARK, ltz_millis};
use millstream_core::table::{BY_KEY, Brings};
use millstream_core::{Connectors, Error, Millis, Place, Result, TimeDomain};
use millstream_dataflow::expr::Expr;
use millstream_dataflow::graph::{Changes, SourceNode, WatermarkSpec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A table as a scan sees it: all declared columns.
#[derive(Debug)]
pub struct DeclaredTable {
    pub name: String,
    pub def: TableDef,
    /// All declared columns.
    pub schema: SchemaRef,
    kinds: Vec<Kind>,
    /// Physical columns, metadata columns, `$proctime`.
    stored: DFSchemaRef,
    physical: usize,
    metadata: Vec<(String, Field)>,
    pub watermark: Option<Watermark>,
}

#[derive(Debug, Clone)]
enum Kind {
    /// Column of `stored`.
    Stored(usize),
    /// Over `stored`.
    Computed(Logical),
    ProcessingTime,
}

/// `WATERMARK FOR`, resolved.
#[derive(Debug, Clone)]
pub struct Watermark {
    /// Among the declared columns.
    pub column: usize,
    /// Over the declared columns.
    pub expression: Logical,
}

/// What a job needs of a table.
#[derive(Debug, Clone, Default)]
pub struct Needed {
    /// Declared columns.
    pub columns: BTreeSet<usize>,
    /// `$order`: something puts the rows in an order of their own.
    pub order: bool,
    /// `$proctime`: a query says `PROCTIME()`.
    pub clock: bool,
    /// `$watermark`: a query says `CURRENT_WATERMARK(..)`.
    pub row_watermarks: bool,
}

/// A source node with the columns it hands on.
#[derive(Debug, Clone)]
pub struct Scan {
    pub node: SourceNode,
    pub schema: SchemaRef,
    /// Where a declared column is among those handed on.
    pub at: BTreeMap<usize, usize>,
    /// Where `$order` is.
    pub order: Option<usize>,
    /// Where `$proctime` is, for `PROCTIME()` in a query.
    pub clock: Option<usize>,
    /// Where `$watermark` is, for `CURRENT_WATERMARK(..)` in a query.
    pub row_watermark: Option<usize>,
    /// The rows have to be remembered by their primary key before anybody else sees them.
    pub by_key: Option<ByKey>,
    /// Of the columns handed on, those that a row taken back has otherwise than when it was given: what is said of a change rather
    /// than of a row.
    pub of_change: BTreeSet<usize>,
}

/// A table that tells of some rows by their key alone.
#[derive(Debug, Clone)]
pub struct ByKey {
    /// The primary key, among the columns handed on.
    pub keys: Vec<usize>,
    /// The columns as they are declared: of the source's own, those beside the key may be NULL.
    pub schema: SchemaRef,
    /// A row that is gone knows when that was: its event time comes with the record, not with the row.
    pub knows_time: bool,
}

impl DeclaredTable {
    pub fn resolve(def: &TableDef, provider: &Provider<'_>) -> Result<DeclaredTable> {
        let place = |span: Span| Place::line_column(provider.file, span.line, span.column);
        let physical_fields = def.physical_fields();
        let metadata: Vec<(String, Field)> = def
            .columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Metadata { data_type, nullable, key, .. } => {
                    Some((key.clone(), Field::new(&c.name, data_type.clone(), *nullable)))
                }
                _ => None,
            })
            .collect();
        let physical = physical_fields.len();
        let mut stored = physical_fields;
        stored.extend(metadata.iter().map(|(_, f)| f.clone()));
        stored.push(Field::new(PROCESSING_TIME, ltz_millis(), false));
        let stored = DFSchema::try_from(Schema::new(stored)).map_err(|e| fail(e, provider))?;
        let stored: DFSchemaRef = Arc::new(stored);

        let compiler = Compiler::new(provider);
        let mut kinds: Vec<Kind> = Vec::with_capacity(def.columns.len());
        let mut fields: Vec<Field> = Vec::with_capacity(def.columns.len());
        for column in &def.columns {
            let index = stored.index_of_column_by_name(None, &column.name);
            let (kind, field) = match (&column.kind, index) {
                (ColumnKind::Physical { .. } | ColumnKind::Metadata { .. }, Some(i)) => {
                    (Kind::Stored(i), stored.field(i).as_ref().clone())
                }
                (ColumnKind::Computed { expression }, _) if is_proctime(expression) => {
                    (Kind::ProcessingTime, Field::new(&column.name, ltz_millis(), false))
                }
                (ColumnKind::Computed { expression }, _) => {
                    let expr =
                        compiler.resolve(expression, &stored).map_err(|e| fail(e, provider).at(place(column.span)))?;
                    let field = expr.to_field(stored.as_ref()).map_err(|e| fail(e, provider))?.1;
                    let field = Field::new(&column.name, field.data_type().clone(), field.is_nullable());
                    (Kind::Computed(expr), field)
                }
                _ => return Err(Error::internal(format!("column `{}` is not stored", column.name))),
            };
            kinds.push(kind);
            fields.push(field);
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let watermark = match &def.watermark {
            Some(w) => Some(resolve_watermark(w, def, &schema, &compiler).map_err(|e| e.at(place(w.span)))?),
            None => None,
        };
        Ok(DeclaredTable {
            name: def.name.clone(),
            def: def.clone(),
            schema,
            kinds,
            stored,
            physical,
            metadata,
            watermark,
        })
    }

    /// Which clock a declared column follows, if it is a time attribute.
    pub fn time_domain(&self, column: usize) -> Option<TimeDomain> {
        match &self.watermark {
            Some(w) if w.column == column => Some(TimeDomain::Event),
            _ => matches!(self.kinds.get(column), Some(Kind::ProcessingTime)).then_some(TimeDomain::Processing),
        }
    }

    /// The declared columns that a sink is given: all but computed columns and virtual metadata.
    pub fn sink_columns(&self) -> Vec<usize> {
        let written = |kind: &ColumnKind| match kind {
            ColumnKind::Physical { .. } => true,
            ColumnKind::Metadata { is_virtual, .. } => !is_virtual,
            ColumnKind::Computed { .. } => false,
        };
        self.def.columns.iter().enumerate().filter(|(_, c)| written(&c.kind)).map(|(i, _)| i).collect()
    }

    /// The source that hands on the declared columns `wanted` (and the event-time column, whose NULLs must be seen) and,
    /// where asked for, `$order`.
    pub fn scan(&self, needed: &Needed, provider: &Provider<'_>, connectors: &dyn Connectors) -> Result<Scan> {
        let brings = connectors.brings(&self.def.to_spec());
        let of_change: BTreeSet<usize> = match brings {
            Brings::All => needed.columns.iter().copied().filter(|i| self.says_of_change(*i)).collect(),
            Brings::Inserts | Brings::Upserts => BTreeSet::new(),
        };
        let keyed = !self.def.primary_key.is_empty();
        let by_key = match brings {
            Brings::Inserts => false,
            Brings::Upserts => true,
            Brings::All if provider.catalog.settings.changes_by_key && !keyed => {
                return Err(Error::sql(format!(
                    "'table.exec.source.cdc-events-duplicate' is on, and `{}`, which brings changes, has no key to know them by",
                    self.name
                ))
                .at(self.def.place.clone())
                .remedy("declare PRIMARY KEY (..) NOT ENFORCED, or turn the setting off"));
            }
            Brings::All => keyed && (provider.catalog.settings.changes_by_key || !of_change.is_empty()),
        };
        let (wanted, order) = (&needed.columns, needed.order);
        let with_clock = needed.clock;
        let row_watermarks = needed.row_watermarks && self.watermark.is_some();
        let settings: &Settings = &provider.catalog.settings;
        let compiler = Compiler::new(provider);
        let declared = self.declared_schema(provider)?;
        let mut wanted = wanted.clone();
        let mut primary_key = Vec::new();
        if by_key {
            for name in &self.def.primary_key {
                let at = self.schema.index_of(name)?;
                if !matches!(self.kinds[at], Kind::Stored(s) if s < self.physical) {
                    return Err(Error::sql(format!(
                        "the key column `{name}` of `{}` is not stored in the table",
                        self.name
                    ))
                    .at(self.def.place.clone())
                    .remedy("name columns that are neither computed nor METADATA"));
                }
                primary_key.push(at);
            }
            wanted.extend(&primary_key);
        }
        if let Some(w) = &self.watermark {
            wanted.insert(w.column);
            wanted.extend(columns_of(&w.expression, &declared));
        }

        // What is stored and needed, then where each of it stands in the raw rows.
        let mut needed = BTreeSet::new();
        if with_clock {
            needed.insert(self.stored.fields().len() - 1);
        }
        for i in &wanted {
            match &self.kinds[*i] {
                Kind::Stored(s) => {
                    needed.insert(*s);
                }
                Kind::Computed(e) => needed.extend(columns_of(e, &self.stored)),
                Kind::ProcessingTime => {
                    needed.insert(self.stored.fields().len() - 1);
                }
            }
        }
        if !needed.iter().any(|s| *s < self.physical) {
            // A batch says how many rows it has by its columns; not every format can say it without one.
            needed.extend(self.narrowest_physical());
        }
        let mut raw: Vec<Field> = Vec::new();
        let mut raw_at = BTreeMap::new();
        let mut projection = Vec::new();
        let mut metadata = Vec::new();
        let clock = self.stored.fields().len() - 1;
        for s in needed.iter().filter(|s| **s < clock) {
            raw_at.insert(*s, raw.len());
            let field = self.stored.field(*s).as_ref().clone();
            // Of a row that is gone, its key alone is known.
            let loose = by_key && *s < self.physical && !self.def.primary_key.contains(field.name());
            raw.push(field.clone().with_nullable(field.is_nullable() || loose));
            if *s < self.physical {
                projection.push(*s);
            } else {
                metadata.push(self.metadata[*s - self.physical].clone());
            }
        }
        let order_field = Field::new(ROW_ORDER, DataType::Int64, false);
        let raw_order = order.then(|| {
            metadata.push((ROW_ORDER.to_string(), order_field.clone()));
            raw.push(order_field.clone());
            raw.len() - 1
        });
        let processing_time = needed.contains(&clock);
        if processing_time {
            raw_at.insert(clock, raw.len());
            raw.push(self.stored.field(clock).as_ref().clone());
        }
        let raw = Schema::new(raw);

        // What is handed on.
        let mut columns: Vec<Expr> = Vec::new();
        let mut at = BTreeMap::new();
        for i in &wanted {
            let name = self.schema.field(*i).name();
            let expr = match &self.kinds[*i] {
                Kind::Stored(s) => Expr::column(&raw, raw_at[s]),
                Kind::ProcessingTime => {
                    let mut e = Expr::column(&raw, raw_at[&clock]);
                    e.field = e.field.with_name(name);
                    e
                }
                Kind::Computed(e) => {
                    let physical = compiler.physical(e, &self.stored).map_err(|e| fail(e, provider))?;
                    let physical = remap(&physical, &|s| raw_at[&s])?;
                    compiler.expr(physical, &raw, name)?
                }
            };
            at.insert(*i, columns.len());
            columns.push(expr);
        }
        let order = raw_order.map(|i| {
            columns.push(Expr::column(&raw, i));
            columns.len() - 1
        });
        let clock_at = with_clock.then(|| {
            columns.push(Expr::column(&raw, raw_at[&clock]));
            columns.len() - 1
        });
        let as_read = columns.len() == raw.fields().len()
            && columns.iter().enumerate().all(|(i, e)| e.as_column() == Some(i) && e.field == *raw.field(i));
        let schema: SchemaRef = Arc::new(Schema::new(columns.iter().map(|e| e.field.clone()).collect::<Vec<_>>()));

        let watermark = match &self.watermark {
            None => None,
            Some(w) => {
                let physical = compiler.physical(&w.expression, &declared).map_err(|e| fail(e, provider))?;
                let physical = remap(&physical, &|d| at[&d])?;
                let expression = compiler.expr(physical, &schema, "watermark")?;
                Some(WatermarkSpec {
                    column: at[&w.column],
                    expression,
                    delay: delay(&w.expression, w.column, &declared),
                })
            }
        };
        let (schema, row_watermark) = match &self.watermark {
            Some(w) if row_watermarks => {
                let time = self.schema.field(w.column).data_type().clone();
                let mut fields: Vec<Arc<Field>> = schema.fields().iter().cloned().collect();
                fields.push(Arc::new(Field::new(ROW_WATERMARK, time, true)));
                let last = fields.len() - 1;
                (Arc::new(Schema::new(fields)), Some(last))
            }
            _ => (schema, None),
        };
        let by_key = by_key.then(|| {
            let mut fields: Vec<Field> = schema.fields().iter().map(|f| f.as_ref().clone()).collect();
            for (declared, i) in &at {
                fields[*i] = fields[*i].clone().with_nullable(self.schema.field(*declared).is_nullable());
            }
            let keys = primary_key.iter().map(|declared| at[declared]).collect();
            let from_record = |column: usize| {
                let stored = |s: usize| {
                    s >= self.physical
                        || primary_key.iter().any(|k| matches!(self.kinds[*k], Kind::Stored(p) if p == s))
                };
                match &self.kinds[column] {
                    Kind::Stored(s) => stored(*s),
                    Kind::Computed(e) => columns_of(e, &self.stored).into_iter().all(stored),
                    Kind::ProcessingTime => true,
                }
            };
            // Formats of changes tell the time of a row that is gone where they tell the row.
            let knows_time = brings == Brings::All || self.watermark.as_ref().is_none_or(|w| from_record(w.column));
            ByKey { keys, schema: Arc::new(Schema::new(fields)), knows_time }
        });
        let mut table = self.def.to_spec();
        if by_key.is_some() && brings == Brings::All {
            table.options.insert(BY_KEY.into(), "true".into());
        }
        if projection.len() < self.physical {
            table.projection = Some(projection);
        }
        table.metadata = metadata;
        if settings.bad_rows_table.is_some() {
            table.options.insert("millstream.bad-rows".into(), "set-aside".into());
        }
        let node = SourceNode {
            table,
            processing_time,
            computed: (!as_read).then_some(columns),
            watermark,
            idle_timeout: (settings.idle_timeout > 0).then_some(settings.idle_timeout),
            wall_clock_fallback: settings.wall_clock_fallback,
            nothing_late: settings.final_results,
            null_time_set_aside: settings.bad_rows_table.is_some(),
            row_watermarks,
            brings: match (brings, &by_key) {
                (Brings::Inserts, _) => Changes::Insert,
                (_, Some(_)) => Changes::Upsert,
                (_, None) => Changes::Retract,
            },
        };
        let mut of_change: BTreeSet<usize> =
            of_change.iter().filter_map(|declared| at.get(declared).copied()).collect();
        of_change.extend(clock_at);
        if by_key.is_some() || brings == Brings::Inserts {
            of_change.clear();
        }
        Ok(Scan { node, schema, at, order, clock: clock_at, row_watermark, by_key, of_change })
    }

    /// Whether a declared column depends on the change that a row came with, and not on the row alone.
    fn says_of_change(&self, column: usize) -> bool {
        let stored = |s: usize| {
            s >= self.physical
                // A row stays where it is.
                && !self.metadata.get(s - self.physical).is_some_and(|(key, _)| ["topic", "partition"].contains(&key.as_str()))
        };
        match &self.kinds[column] {
            Kind::Stored(s) => stored(*s),
            Kind::Computed(e) => columns_of(e, &self.stored).into_iter().any(stored),
            Kind::ProcessingTime => true,
        }
    }

    fn declared_schema(&self, provider: &Provider<'_>) -> Result<DFSchemaRef> {
        Ok(Arc::new(DFSchema::try_from(self.schema.clone()).map_err(|e| fail(e, provider))?))
    }

    fn narrowest_physical(&self) -> Option<usize> {
        (0..self.physical).min_by_key(|i| self.stored.field(*i).data_type().primitive_width().unwrap_or(usize::MAX))
    }
}

fn fail(e: datafusion_common::DataFusionError, provider: &Provider<'_>) -> Error {
    explain(e, provider.file, &provider.function_names())
}

fn resolve_watermark(
    def: &WatermarkDef,
    table: &TableDef,
    schema: &SchemaRef,
    compiler: &Compiler<'_, '_>,
) -> Result<Watermark> {
    let Ok(column) = schema.index_of(&def.column) else {
        let known = schema.fields().iter().map(|f| f.name().as_str());
        return Err(super::errors::unknown_name("column", &def.column, known, "WATERMARK FOR names a declared column"));
    };
    let time = schema.field(column).data_type();
    if !matches!(time, DataType::Timestamp(TimeUnit::Millisecond, _)) {
        return Err(Error::sql(format!(
            "WATERMARK FOR `{}`: an event-time column of `{}` is TIMESTAMP(3) or TIMESTAMP_LTZ(3), this one is {}",
            def.column,
            table.name,
            sql_name(time)
        ))
        .remedy(format!(
            "declare it so, or add a computed column: `event_time AS CAST(`{}` AS TIMESTAMP(3))`",
            def.column
        )));
    }
    let declared: DFSchemaRef = Arc::new(DFSchema::try_from(schema.clone()).map_err(|e| compiler.fail(e))?);
    let expression = compiler.resolve(&def.expression, &declared).map_err(|e| compiler.fail(e))?;
    let found = expression.get_type(declared.as_ref()).map_err(|e| compiler.fail(e))?;
    let expression = match &found {
        DataType::Timestamp(TimeUnit::Millisecond, _) => expression,
        DataType::Timestamp(_, _) => expression.cast_to(time, declared.as_ref()).map_err(|e| compiler.fail(e))?,
        _ => {
            return Err(Error::sql(format!("the watermark of `{}` is {}, not a time", table.name, sql_name(&found)))
                .remedy(format!("write WATERMARK FOR {0} AS {0} - INTERVAL '5' SECOND", def.column)));
        }
    };
    Ok(Watermark { column, expression })
}

/// The constant that the watermark stays behind its column, where it has that form.
fn delay(expression: &Logical, column: usize, schema: &DFSchema) -> Option<Millis> {
    let is_column = |e: &Logical| match e {
        Logical::Column(c) => schema.index_of_column(c).ok() == Some(column),
        _ => false,
    };
    match expression {
        e if is_column(e) => Some(0),
        Logical::BinaryExpr(BinaryExpr { left, op: Operator::Minus, right }) if is_column(left) => match right.as_ref()
        {
            Logical::Literal(value, _) => interval_millis(value),
            _ => None,
        },
        _ => None,
    }
}

/// An interval of a fixed length in milliseconds. `None`: not an interval, of months, or finer than a millisecond.
pub fn interval_millis(value: &ScalarValue) -> Option<Millis> {
    match value {
        ScalarValue::IntervalMonthDayNano(Some(i)) if i.months == 0 && i.nanoseconds % 1_000_000 == 0 => {
            i64::from(i.days).checked_mul(86_400_000)?.checked_add(i.nanoseconds / 1_000_000)
        }
        ScalarValue::IntervalDayTime(Some(i)) => {
            i64::from(i.days).checked_mul(86_400_000)?.checked_add(i64::from(i.milliseconds))
        }
        ScalarValue::DurationMillisecond(Some(ms)) => Some(*ms),
        ScalarValue::DurationSecond(Some(s)) => s.checked_mul(1000),
        ScalarValue::DurationMicrosecond(Some(us)) if us % 1000 == 0 => Some(us / 1000),
        ScalarValue::DurationNanosecond(Some(ns)) if ns % 1_000_000 == 0 => Some(ns / 1_000_000),
        _ => None,
    }
}

fn columns_of(e: &Logical, schema: &DFSchema) -> BTreeSet<usize> {
    e.column_refs().into_iter().filter_map(|c: &Column| schema.index_of_column(c).ok()).collect()
}

/// `PROCTIME()` as the whole expression.
fn is_proctime(e: &ast::Expr) -> bool {
    matches!(e, ast::Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("proctime"))
}

impl Compiler<'_, '_> {
    /// A SQL expression over `schema`, with its types settled.
    pub fn resolve(&self, expr: &ast::Expr, schema: &DFSchemaRef) -> datafusion_common::Result<Logical> {
        let mut expr = expr.clone();
        plain_calls(&mut expr);
        let expr = self.provider.sql().sql_to_expr(expr, schema, &mut PlannerContext::new())?;
        self.settle(expr, schema)
    }
}
