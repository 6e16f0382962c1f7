//! Window table functions: `TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))` and its siblings.
//!
//! ```text
//!  TUMBLE(data, time, size [, offset])          HOP(data, time, slide, size [, offset])
//!  CUMULATE(data, time, step, size [, offset])  SESSION(data [PARTITION BY k, ..], time, gap)
//! ```
//! All become one [`WindowTvf`] node: the columns of the input, then `window_start`, `window_end`, `window_time`.

use super::errors::{external, unknown_name};
use super::table::interval_millis;
use super::types::sql_name;
use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion_common::{DFSchema, DFSchemaRef, DataFusionError, ExprSchema, Result as DfResult};
use datafusion_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion_expr::{Expr, ExprSchemable, Extension, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion_sql::sqlparser::ast::{
    self, FunctionArg, FunctionArgExpr, FunctionArgOperator, FunctionArguments, Ident, Spanned, TableAlias, TableFactor,
};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Millis, Place};
use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// Which windows, with their lengths in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Hash)]
pub enum WindowKind {
    Tumble { size: Millis, offset: Millis },
    Hop { size: Millis, slide: Millis, offset: Millis },
    Cumulate { size: Millis, step: Millis, offset: Millis },
    Session { gap: Millis },
}

impl WindowKind {
    pub fn name(&self) -> &'static str {
        match self {
            WindowKind::Tumble { .. } => "TUMBLE",
            WindowKind::Hop { .. } => "HOP",
            WindowKind::Cumulate { .. } => "CUMULATE",
            WindowKind::Session { .. } => "SESSION",
        }
    }
}

/// A window table function over a plan.
#[derive(Debug, Clone)]
pub struct WindowTvf {
    pub input: Arc<LogicalPlan>,
    pub kind: WindowKind,
    /// The column that the windows follow.
    pub time: Expr,
    /// `PARTITION BY` of a session.
    pub partition: Vec<Expr>,
    /// Names of the three columns added: `window_start`, `window_end`, `window_time`, with a digit behind where the input
    /// has columns of these names already.
    pub names: [String; 3],
    /// Windows over TIMESTAMP_LTZ are cut in this zone; `None` for UTC and for plain TIMESTAMP (rule 33).
    pub zone: Option<String>,
    /// Where the time column stands in the text.
    pub place: Option<Place>,
    pub schema: DFSchemaRef,
}

impl WindowTvf {
    fn new(
        input: Arc<LogicalPlan>,
        kind: WindowKind,
        time: Expr,
        partition: Vec<Expr>,
        names: [String; 3],
        zone: Option<String>,
        place: Option<Place>,
    ) -> DfResult<WindowTvf> {
        let Expr::Column(column) = &time else {
            return datafusion_common::internal_err!("the time of a window is {time}, not a column");
        };
        let time_type = input.schema().field_from_column(column)?.data_type().clone();
        let bound = DataType::Timestamp(TimeUnit::Millisecond, None);
        let mut fields: Vec<_> = input.schema().iter().map(|(q, f)| (q.cloned(), f.clone())).collect();
        for (name, t) in names.iter().zip([bound.clone(), bound, time_type]) {
            fields.push((None, Arc::new(Field::new(name, t, false))));
        }
        let schema = Arc::new(DFSchema::new_with_metadata(fields, Default::default())?);
        Ok(WindowTvf { input, kind, time, partition, names, zone, place, schema })
    }
}

impl PartialEq for WindowTvf {
    fn eq(&self, other: &Self) -> bool {
        self.input == other.input
            && self.kind == other.kind
            && self.time == other.time
            && self.partition == other.partition
            && self.names == other.names
    }
}

impl Eq for WindowTvf {}

impl PartialOrd for WindowTvf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        match self.kind.partial_cmp(&other.kind)? {
            Ordering::Equal => self.input.partial_cmp(&other.input).filter(|o| *o != Ordering::Equal || self == other),
            order => Some(order),
        }
    }
}

impl Hash for WindowTvf {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, &self.kind, &self.time, &self.partition, &self.names).hash(state);
    }
}

impl UserDefinedLogicalNodeCore for WindowTvf {
    fn name(&self) -> &str {
        self.kind.name()
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(self.time.clone()).chain(self.partition.iter().cloned()).collect()
    }

    /// A row's windows do not depend on other rows, so a filter over the input's columns may go below; the rows of a
    /// session do depend on each other.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        match self.kind {
            WindowKind::Session { .. } => self.schema.fields().iter().map(|f| f.name().clone()).collect(),
            _ => self.names.iter().cloned().collect(),
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{:?} time={}", self.kind, self.time)?;
        if !self.partition.is_empty() {
            write!(f, " partition={:?}", self.partition.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, mut exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> DfResult<Self> {
        let (Some(input), false) = (inputs.pop(), exprs.is_empty()) else {
            return datafusion_common::internal_err!("a window function without input or time");
        };
        let time = exprs.remove(0);
        WindowTvf::new(
            Arc::new(input),
            self.kind,
            time,
            exprs,
            self.names.clone(),
            self.zone.clone(),
            self.place.clone(),
        )
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let input = self.input.schema();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|i| *i < input.fields().len()).collect();
        for e in std::iter::once(&self.time).chain(&self.partition) {
            for c in e.column_refs() {
                needed.push(input.index_of_column(c).ok()?);
            }
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// Plans window table functions where they stand in FROM.
#[derive(Debug)]
pub struct WindowPlanner {
    file: String,
}

impl WindowPlanner {
    pub fn new(file: &str) -> WindowPlanner {
        WindowPlanner { file: file.to_string() }
    }
}

/// The call as written.
struct Call {
    name: Ident,
    args: Vec<FunctionArg>,
    alias: Option<TableAlias>,
}

impl RelationPlanner for WindowPlanner {
    fn plan_relation(
        &self,
        relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<RelationPlanning> {
        let call = match window_call(&relation) {
            Some(call) => call,
            None => match unknown_call(&relation) {
                Some(name) => {
                    let e = unknown_name(
                        "table function",
                        &name.value,
                        NAMES,
                        "there are TUMBLE, HOP, CUMULATE and SESSION",
                    );
                    return Err(self.fail(&relation, e));
                }
                None => return Ok(RelationPlanning::Original(Box::new(relation))),
            },
        };
        let plan = self.plan_call(&call, context)?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, call.alias))))
    }
}

const NAMES: [&str; 4] = ["TUMBLE", "HOP", "CUMULATE", "SESSION"];

/// Whether `TABLE(e)` is, or is meant to be, a function of windows: by its name, or since it takes a table.
pub fn is_window(e: &ast::Expr) -> bool {
    let ast::Expr::Function(f) = e else { return false };
    let FunctionArguments::List(list) = &f.args else { return false };
    let takes_table = |arg: &FunctionArg| {
        let (FunctionArg::Unnamed(FunctionArgExpr::Expr(e))
        | FunctionArg::Named { arg: FunctionArgExpr::Expr(e), .. }
        | FunctionArg::ExprNamed { arg: FunctionArgExpr::Expr(e), .. }) = arg
        else {
            return false;
        };
        matches!(e, ast::Expr::Function(f) if f.name.to_string() == crate::dialect::TABLE_ARGUMENT)
    };
    did_you_mean(&f.name.to_string(), NAMES).is_some() || list.args.iter().any(takes_table)
}

/// The name in `TABLE(f(..))` where a function of windows is meant and is none.
fn unknown_call(relation: &TableFactor) -> Option<&ast::Ident> {
    match relation {
        TableFactor::TableFunction { expr: ast::Expr::Function(f), .. } => f.name.0.last()?.as_ident(),
        _ => None,
    }
}

fn window_call(relation: &TableFactor) -> Option<Call> {
    let (name, args, alias) = match relation {
        TableFactor::Table { name, args: Some(args), alias, .. } => (name, args.args.clone(), alias),
        TableFactor::TableFunction { expr: ast::Expr::Function(f), alias } => match &f.args {
            FunctionArguments::List(list) => (&f.name, list.args.clone(), alias),
            _ => return None,
        },
        TableFactor::Function { name, args, alias, lateral: false, .. } => (name, args.clone(), alias),
        _ => return None,
    };
    let [part] = name.0.as_slice() else { return None };
    let name = part.as_ident()?;
    NAMES.iter().any(|n| name.value.eq_ignore_ascii_case(n)).then(|| Call {
        name: name.clone(),
        args,
        alias: alias.clone(),
    })
}

impl WindowPlanner {
    fn place(&self, of: &dyn Spanned) -> Option<Place> {
        let at = of.span().start;
        (at.line > 0).then(|| Place::line_column(&self.file, at.line, at.column))
    }

    fn fail(&self, of: &dyn Spanned, e: Error) -> DataFusionError {
        external(match self.place(of) {
            Some(place) => e.at(place),
            None => e,
        })
    }

    fn fail_at(&self, name: &Ident, e: Error) -> DataFusionError {
        let at = name.span.start;
        external(if at.line > 0 { e.at(Place::line_column(&self.file, at.line, at.column)) } else { e })
    }

    fn plan_call(&self, call: &Call, context: &mut dyn RelationPlannerContext) -> DfResult<LogicalPlan> {
        let name = call.name.value.to_uppercase();
        // Parameters in Flink's order; the last one may be left out, except for SESSION.
        let (parameters, usage): (&[&str], &str) = match name.as_str() {
            "TUMBLE" => {
                (&["DATA", "TIMECOL", "SIZE", "OFFSET"], "TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '10' MINUTE)")
            }
            "HOP" => (
                &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
                "HOP(TABLE t, DESCRIPTOR(time), INTERVAL '5' MINUTE, INTERVAL '10' MINUTE), the slide before the size",
            ),
            "CUMULATE" => (
                &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
                "CUMULATE(TABLE t, DESCRIPTOR(time), INTERVAL '2' MINUTE, INTERVAL '10' MINUTE), the step before the size",
            ),
            _ => (
                &["DATA", "TIMECOL", "GAP"],
                "SESSION(TABLE t PARTITION BY key, DESCRIPTOR(time), INTERVAL '10' MINUTE)",
            ),
        };
        let wrong = |what: String| self.fail_at(&call.name, Error::sql(what).remedy(format!("write {usage}")));
        let mut given: Vec<Option<ast::Expr>> = vec![None; parameters.len()];
        for (i, arg) in call.args.iter().enumerate() {
            let (at, value) = match arg {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (i, e),
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), operator } => {
                    (self.parameter(&name.value, operator, parameters, &wrong)?, e)
                }
                FunctionArg::ExprNamed {
                    name: ast::Expr::Identifier(name),
                    arg: FunctionArgExpr::Expr(e),
                    operator,
                } => (self.parameter(&name.value, operator, parameters, &wrong)?, e),
                other => return Err(wrong(format!("{name} does not understand its argument `{other}`"))),
            };
            match given.get_mut(at) {
                None => return Err(wrong(format!("{name} takes at most {} arguments", parameters.len()))),
                Some(Some(_)) => return Err(wrong(format!("{name} is given {} twice", parameters[at]))),
                Some(slot) => *slot = Some(value.clone()),
            }
        }
        let mut take = |parameter: &str| -> Option<ast::Expr> {
            parameters.iter().position(|p| *p == parameter).and_then(|i| given[i].take())
        };
        let Some(data) = take("DATA") else { return Err(wrong(format!("{name} is given no table"))) };
        let Some(time) = take("TIMECOL") else { return Err(wrong(format!("{name} is given no DESCRIPTOR"))) };
        let mut length = |parameter: &str, context: &mut dyn RelationPlannerContext| -> DfResult<Millis> {
            match take(parameter) {
                None if parameter == "OFFSET" => Ok(0),
                None => Err(wrong(format!("{name} is given no {parameter}"))),
                Some(e) => {
                    let ms = self.interval(&name, parameter, &e, context)?;
                    if parameter != "OFFSET" && ms <= 0 {
                        let what = format!("the {} of {name} is not longer than nothing", parameter.to_lowercase());
                        return Err(self.fail(&e, Error::sql(what).remedy("write an interval above zero")));
                    }
                    Ok(ms)
                }
            }
        };
        let kind = match name.as_str() {
            "TUMBLE" => WindowKind::Tumble { size: length("SIZE", context)?, offset: length("OFFSET", context)? },
            "HOP" => WindowKind::Hop {
                slide: length("SLIDE", context)?,
                size: length("SIZE", context)?,
                offset: length("OFFSET", context)?,
            },
            "CUMULATE" => {
                let (step, size) = (length("STEP", context)?, length("SIZE", context)?);
                if size % step != 0 {
                    let what = format!("CUMULATE: the size ({size} ms) is no multiple of the step ({step} ms)");
                    return Err(
                        self.fail_at(&call.name, Error::sql(what).remedy("choose a step that divides the size"))
                    );
                }
                WindowKind::Cumulate { step, size, offset: length("OFFSET", context)? }
            }
            _ => WindowKind::Session { gap: length("GAP", context)? },
        };
        let (input, partition) = self.data(&name, data, context)?;
        if !partition.is_empty() && !matches!(kind, WindowKind::Session { .. }) {
            return Err(wrong(format!("{name} takes no PARTITION BY; only SESSION does")));
        }
        let place = self.place(&time);
        let time = self.time_column(&name, &time, input.schema())?;
        let partition = partition
            .into_iter()
            .map(|e| match context.sql_to_expr(e.clone(), input.schema())? {
                c @ Expr::Column(_) => Ok(c),
                _ => {
                    let what = "PARTITION BY of SESSION takes columns";
                    Err(self.fail(&e, Error::sql(what).remedy("compute the key in a subquery or a view first")))
                }
            })
            .collect::<DfResult<Vec<_>>>()?;
        let names = added_names(input.schema());
        let zone = match (
            time.get_type(input.schema().as_ref())?,
            &context.context_provider().options().execution.time_zone,
        ) {
            (DataType::Timestamp(_, Some(_)), Some(zone)) if zone != "UTC" => Some(zone.clone()),
            _ => None,
        };
        let tvf = WindowTvf::new(Arc::new(input), kind, time, partition, names, zone, place)?;
        Ok(LogicalPlan::Extension(Extension { node: Arc::new(tvf) }))
    }

    fn parameter(
        &self,
        name: &str,
        operator: &FunctionArgOperator,
        parameters: &[&str],
        wrong: &dyn Fn(String) -> DataFusionError,
    ) -> DfResult<usize> {
        if !matches!(operator, FunctionArgOperator::RightArrow) {
            return Err(wrong(format!("an argument by name is written {name} => ..")));
        }
        parameters
            .iter()
            .position(|p| p.eq_ignore_ascii_case(name))
            .ok_or_else(|| wrong(format!("there is no argument `{name}`; there are {}", parameters.join(", "))))
    }

    fn interval(
        &self,
        function: &str,
        parameter: &str,
        e: &ast::Expr,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<Millis> {
        let planned = context.sql_to_expr(e.clone(), &DFSchema::empty())?;
        let ms = match &planned {
            Expr::Literal(v, _) => interval_millis(v),
            Expr::Negative(inner) => match inner.as_ref() {
                Expr::Literal(v, _) => interval_millis(v).map(|ms| -ms),
                _ => None,
            },
            _ => None,
        };
        ms.ok_or_else(|| {
            let what = format!("{function}: {parameter} is `{e}`, not an interval of a fixed length in milliseconds");
            self.fail(
                e,
                Error::sql(what)
                    .remedy("write for example INTERVAL '10' MINUTE; months and years have no fixed length"),
            )
        })
    }

    /// The plan of the table argument and the keys behind its PARTITION BY.
    fn data(
        &self,
        function: &str,
        data: ast::Expr,
        context: &mut dyn RelationPlannerContext,
    ) -> DfResult<(LogicalPlan, Vec<ast::Expr>)> {
        let mut partition = Vec::new();
        let table = match data {
            ast::Expr::Function(f) if f.name.to_string() == "__table" => {
                let FunctionArguments::List(list) = f.args else {
                    return Err(self.fail(&f.name, Error::sql(format!("{function} is given no table"))));
                };
                let mut args = list.args.into_iter().filter_map(|a| match a {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => Some(e),
                    _ => None,
                });
                let Some(table) = args.next() else {
                    return Err(self.fail(&f.name, Error::sql(format!("{function} is given no table"))));
                };
                partition.extend(args);
                table
            }
            other => other,
        };
        let idents = match table {
            ast::Expr::Identifier(i) => vec![i],
            ast::Expr::CompoundIdentifier(parts) => parts,
            ast::Expr::Subquery(query) => {
                let derived = TableFactor::Derived { lateral: false, subquery: query, alias: None, sample: None };
                return Ok((context.plan(derived)?, partition));
            }
            other => {
                let what = format!("{function}: `{other}` is no table");
                return Err(self.fail(&other, Error::sql(what).remedy("write TABLE and the table's name")));
            }
        };
        let plan = context.plan(TableFactor::Table {
            name: idents.into(),
            alias: None,
            args: None,
            with_hints: Vec::new(),
            version: None,
            with_ordinality: false,
            partitions: Vec::new(),
            json_path: None,
            sample: None,
            index_hints: Vec::new(),
        })?;
        Ok((plan, partition))
    }

    fn time_column(&self, function: &str, e: &ast::Expr, schema: &DFSchemaRef) -> DfResult<Expr> {
        let no_column = || {
            let what = format!("{function}: `{e}` names no time column");
            self.fail(e, Error::sql(what).remedy("write DESCRIPTOR(column)"))
        };
        let ast::Expr::Function(f) = e else { return Err(no_column()) };
        let FunctionArguments::List(list) = &f.args else { return Err(no_column()) };
        let (true, [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))]) =
            (f.name.to_string().eq_ignore_ascii_case("descriptor"), list.args.as_slice())
        else {
            return Err(no_column());
        };
        let name = match column {
            ast::Expr::Identifier(i) => i,
            ast::Expr::CompoundIdentifier(parts) if !parts.is_empty() => &parts[parts.len() - 1],
            _ => return Err(no_column()),
        };
        let found = schema.qualified_fields_with_unqualified_name(&name.value);
        let Some((qualifier, field)) = found.first() else {
            let known = schema.fields().iter().map(|f| f.name().as_str());
            let e = unknown_name("column", &name.value, known, "DESCRIPTOR names a column of the table");
            return Err(self.fail_at(name, e));
        };
        if !matches!(field.data_type(), DataType::Timestamp(TimeUnit::Millisecond, _)) {
            let table = qualifier.map(|q| q.table().to_string());
            let e = no_time_attribute(function, &name.value, table.as_deref(), field.data_type());
            return Err(self.fail_at(name, e));
        }
        Ok(Expr::Column(datafusion_common::Column::from((*qualifier, *field))))
    }
}

/// `column` follows no clock, so windows cannot follow it.
pub fn no_time_attribute(function: &str, column: &str, table: Option<&str>, t: &DataType) -> Error {
    let of = table.map(|t| format!(" of `{t}`")).unwrap_or_default();
    let into = table.map(|t| format!(" in CREATE TABLE {t}")).unwrap_or_default();
    let e = Error::sql(format!("{function} needs a time attribute, and column `{column}`{of} is none"));
    match t {
        DataType::Timestamp(TimeUnit::Millisecond, _) => {
            e.remedy(format!("declare WATERMARK FOR {column} AS {column} - INTERVAL '5' SECOND{into}"))
        }
        _ => e.remedy(format!(
            "it is {}: make it TIMESTAMP(3) (or add `t AS CAST({column} AS TIMESTAMP(3))`) and declare WATERMARK FOR \
             {column} AS {column} - INTERVAL '5' SECOND{into}",
            sql_name(t)
        )),
    }
}

/// As in Flink: `window_start`, or `window_start0` where the input has one already.
fn added_names(input: &DFSchema) -> [String; 3] {
    let taken = |name: &str| input.fields().iter().any(|f| f.name() == name);
    ["window_start", "window_end", "window_time"].map(|base| {
        let mut name = base.to_string();
        let mut n = 0;
        while taken(&name) {
            name = format!("{base}{n}");
            n += 1;
        }
        name
    })
}

/// A window's lengths for people.
pub fn describe(kind: &WindowKind) -> String {
    let with_offset = |text: String, offset: Millis| match offset {
        0 => text,
        o => format!("{text} offset {}", span(o)),
    };
    match *kind {
        WindowKind::Tumble { size, offset } => with_offset(format!("TUMBLE {}", span(size)), offset),
        WindowKind::Hop { size, slide, offset } => {
            with_offset(format!("HOP {} every {}", span(size), span(slide)), offset)
        }
        WindowKind::Cumulate { size, step, offset } => {
            with_offset(format!("CUMULATE {} by {}", span(size), span(step)), offset)
        }
        WindowKind::Session { gap } => format!("SESSION gap {}", span(gap)),
    }
}

/// `90 s`, `1 h`: the largest unit that leaves a whole number.
pub fn span(ms: Millis) -> String {
    let units = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1000, "s")];
    match units.iter().find(|(u, _)| ms != 0 && ms % u == 0) {
        Some((u, name)) => format!("{} {name}", ms / u),
        None => format!("{ms} ms"),
    }
}
