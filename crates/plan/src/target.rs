//! What would not run, or would mean something else, on an existing Flink cluster.
//!
//! One script is to serve both engines, and a few things that are natural here are not possible there. This reads
//! statements and warns; it never refuses. What it knows of Flink is its documentation, for the versions 1.20 and 2.2.
//!
//! In the order of a script: settings, tables and their options, then queries from the outside in: window functions,
//! clauses, expressions, function names.

mod functions;

use crate::catalog::{ColumnKind, FunctionDef, Span, TableDef};
use crate::dialect::TABLE_ARGUMENT;
use crate::statement::{Insert, Statement, StatementKind};
use arrow::datatypes::DataType;
use datafusion_sql::sqlparser::ast::{
    BinaryOperator, CastKind, Distinct, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Interval,
    JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem, Spanned, TableFactor, TableVersion, Value,
    Visit, Visitor, WildcardAdditionalOptions,
};
use datafusion_sql::sqlparser::tokenizer::Span as TokenSpan;
use millstream_core::{Millis, Place};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::str::FromStr;

/// The engine that a script should also run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Flink1_20,
    Flink2_2,
}

/// One thing that would not travel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub place: Place,
    pub what: String,
    pub remedy: String,
}

impl FromStr for Target {
    type Err = String;

    /// `flink-1.20`, `flink-2.2`.
    fn from_str(text: &str) -> Result<Target, String> {
        match text.to_lowercase().as_str() {
            "flink-1.20" => Ok(Target::Flink1_20),
            "flink-2.2" => Ok(Target::Flink2_2),
            _ => Err(format!("'{text}' is no target: give flink-1.20 or flink-2.2")),
        }
    }
}

impl Target {
    fn name(self) -> &'static str {
        match self {
            Target::Flink1_20 => "Flink 1.20",
            Target::Flink2_2 => "Flink 2.2",
        }
    }
}

/// All warnings for a script, in the order of the text. `file` is its name.
pub fn lint(statements: &[Statement], target: Target, file: &str) -> Vec<Warning> {
    let mut lint = Lint {
        target,
        file,
        at: Span::default(),
        batch: false,
        tables: BTreeMap::new(),
        sinks: BTreeSet::new(),
        warnings: Vec::new(),
    };
    for statement in statements {
        lint.collect(statement);
    }
    for statement in statements {
        lint.statement(statement);
    }
    lint.zone(statements);
    let mut warnings = lint.warnings;
    // Stable: what stands at the same place keeps its order.
    warnings.sort_by_key(|(span, _)| (span.line, span.column));
    warnings.dedup();
    warnings.into_iter().map(|(_, warning)| warning).collect()
}

struct Lint<'a> {
    target: Target,
    file: &'a str,
    /// The statement at hand, for what has no place of its own.
    at: Span,
    batch: bool,
    tables: BTreeMap<String, TableDef>,
    /// Tables that are written.
    sinks: BTreeSet<String>,
    warnings: Vec<(Span, Warning)>,
}

impl Lint<'_> {
    fn warn(&mut self, at: Span, what: impl Into<String>, remedy: impl Into<String>) {
        let at = if at.line == 0 { self.at } else { at };
        let warning = Warning { place: at.place(self.file), what: what.into(), remedy: remedy.into() };
        self.warnings.push((at, warning));
    }

    fn collect(&mut self, statement: &Statement) {
        match &statement.kind {
            StatementKind::CreateTable { table, .. } => drop(self.tables.insert(table.name.clone(), table.clone())),
            StatementKind::Insert(insert) => drop(self.sinks.insert(insert.table.clone())),
            StatementKind::StatementSet(inserts) => self.sinks.extend(inserts.iter().map(|i| i.table.clone())),
            StatementKind::Set { key, value: Some(value) } if key == "execution.runtime-mode" => {
                self.batch = value.eq_ignore_ascii_case("batch");
            }
            _ => {}
        }
    }

    fn statement(&mut self, statement: &Statement) {
        self.at = statement.span;
        match &statement.kind {
            StatementKind::Set { key, value } => self.setting(key, value.as_deref()),
            StatementKind::CreateTable { table, .. } => self.table(table),
            StatementKind::CreateView { view, .. } => self.query(&view.query),
            StatementKind::Insert(Insert { query, .. }) => self.query(query),
            StatementKind::StatementSet(inserts) => {
                for insert in inserts {
                    self.at = insert.span;
                    self.query(&insert.query);
                }
            }
            StatementKind::Query(query) => self.query(query),
            StatementKind::Explain { mermaid, statement } => {
                if *mermaid {
                    self.warn(self.at, "EXPLAIN MERMAID is a statement of Millstream's own", "write EXPLAIN PLAN FOR");
                }
                self.statement(statement);
            }
            StatementKind::CreateFunction { function, .. } => self.created(function),
            StatementKind::DropTable { .. } | StatementKind::DropView { .. } | StatementKind::DropFunction { .. } => {}
        }
    }

    fn setting(&mut self, key: &str, value: Option<&str>) {
        if key.starts_with("millstream.") {
            let remedy = match key {
                "millstream.late-rows.table" => "late rows are dropped there, without a trace",
                "millstream.bad-rows.table" => {
                    "bad rows fail the job there, or are skipped by the format's ignore-parse-errors"
                }
                _ => "it may stay: Flink takes the key and does nothing with it",
            };
            self.warn(self.at, format!("'{key}' has no effect in Flink"), remedy);
        }
        if key == "table.local-time-zone" && value.is_some_and(|v| v.starts_with(['+', '-'])) {
            let value = value.unwrap_or_default();
            self.warn(
                self.at,
                format!("Flink does not read the time zone '{value}'"),
                format!("write 'GMT{value}', with two digits each for hours and minutes"),
            );
        }
    }

    /// TIMESTAMP_LTZ is shown, and cut into days, in the session's zone, which is the machine's in Flink.
    fn zone(&mut self, statements: &[Statement]) {
        let set = statements.iter().any(|s| {
            matches!(&s.kind, StatementKind::Set { key, value: Some(v) }
                if key == "table.local-time-zone" && !v.eq_ignore_ascii_case("default"))
        });
        let zoned = self.tables.values().flat_map(|t| &t.columns).find(|c| {
            matches!(&c.kind, ColumnKind::Physical { data_type, .. } | ColumnKind::Metadata { data_type, .. }
                if matches!(data_type, DataType::Timestamp(_, Some(_))))
        });
        if let Some(column) = zoned.filter(|_| !set) {
            let (span, name) = (column.span, column.name.clone());
            self.warn(
                span,
                format!("`{name}` is TIMESTAMP_LTZ and the script names no time zone: Flink takes the machine's, we take UTC"),
                "write SET 'table.local-time-zone' = 'UTC' at the head of the script",
            );
        }
    }

    fn table(&mut self, table: &TableDef) {
        for column in &table.columns {
            if let ColumnKind::Computed { expression } = &column.kind {
                self.walk(expression);
            }
        }
        if let Some(watermark) = &table.watermark {
            self.walk(&watermark.expression);
        }
        self.options(table);
    }

    fn options(&mut self, table: &TableDef) {
        let connector = table.options.get("connector").map_or("", String::as_str);
        if !FLINK_CONNECTORS.contains(&connector) && table.like.is_none() {
            let what = format!("the connector '{connector}' of `{}` is not in Flink", table.name);
            self.warn(
                self.at,
                what,
                "declare the table with another connector there: keep the CREATE TABLE in a file of its own",
            );
            return;
        }
        for key in table.options.keys() {
            if !flink_knows(connector, key) {
                self.warn(
                    self.at,
                    format!("Flink refuses the option '{key}' of `{}`: it does not know it", table.name),
                    "take it out for Flink; settings of our own belong into SET 'millstream....'",
                );
            }
        }
        if connector != "filesystem" {
            return;
        }
        let Some(path) = table.options.get("path") else { return };
        if path == "-" {
            self.warn(
                self.at,
                format!("`{}` reads or writes '-', which Flink takes for a file name", table.name),
                "give a path",
            );
            return;
        }
        if !path.contains("://") && !path.starts_with('/') {
            self.warn(
                self.at,
                format!("the path '{path}' of `{}` is relative; on a cluster it means another folder", table.name),
                "give a full path, such as file:///data/in or s3://bucket/in",
            );
        }
        if path.contains(['*', '?', '[', '{']) {
            self.warn(
                self.at,
                format!("the path '{path}' of `{}` is a pattern; Flink reads it as a name", table.name),
                "name the folder, and use 'source.path.regex-pattern' to choose files",
            );
        }
        let file = [".csv", ".json", ".jsonl", ".parquet", ".gz", ".zst"].iter().any(|end| path.ends_with(end));
        if file && self.sinks.contains(&table.name) {
            self.warn(
                self.at,
                format!(
                    "the sink `{}` names one file; Flink makes a folder of that name with part files in it",
                    table.name
                ),
                "name a folder",
            );
        }
    }

    fn query(&mut self, query: &Query) {
        let _ = Visit::visit(query, self);
    }

    fn walk(&mut self, expr: &Expr) {
        let _ = Visit::visit(expr, self);
    }

    /// A window function with its arguments, wherever it stands.
    fn window(&mut self, name: &str, args: &[FunctionArg], at: Span) {
        for arg in args {
            let FunctionArg::Named { name: arg_name, .. } = arg else { continue };
            if arg_name.quote_style.is_none() && arg_name.value.eq_ignore_ascii_case("OFFSET") {
                self.warn(
                    span_of(arg_name.span),
                    "Flink cannot read OFFSET as a name",
                    "write `OFFSET` => .. in back-quotes",
                );
            }
        }
        let length = |position: usize, wanted: &str| {
            let found = args.iter().enumerate().find_map(|(i, arg)| match arg {
                FunctionArg::Named { name, arg: FunctionArgExpr::Expr(e), .. } => {
                    name.value.eq_ignore_ascii_case(wanted).then_some(e)
                }
                FunctionArg::Unnamed(FunctionArgExpr::Expr(e)) => (i == position).then_some(e),
                _ => None,
            });
            found.and_then(millis)
        };
        let (part, part_name) = match name {
            "HOP" => (length(2, "SLIDE"), "slide"),
            "CUMULATE" => (length(2, "STEP"), "step"),
            _ => (None, ""),
        };
        if let (Some(part), Some(size)) = (part, length(3, "SIZE"))
            && (part <= 0 || size % part != 0)
        {
            self.warn(
                at,
                format!("Flink refuses this {name}: its size is no multiple of its {part_name}"),
                format!("choose a size that is a multiple of the {part_name}"),
            );
        }
        if name == "SESSION" && self.batch {
            self.warn(at, "Flink has no SESSION window in batch mode", "run the script in streaming mode there");
        }
    }

    /// What stands in `TABLE(f(..))` and is no function of windows.
    fn no_table_function(&mut self, e: &Expr) {
        self.warn(
            span_of(e.span()),
            format!("Flink takes a table function in TABLE( ), and {e} returns an array or a map"),
            format!("write CROSS JOIN UNNEST({e})"),
        );
    }

    fn created(&mut self, function: &FunctionDef) {
        if !function.target.contains('.') {
            self.warn(
                Span::default(),
                format!("Flink takes the name of a class in CREATE FUNCTION, and '{}' is none", function.target),
                format!("call {} by its own name", function.target.to_uppercase()),
            );
        }
    }

    fn function(&mut self, function: &Function) {
        if let Some(name) = function.name.0.first().and_then(|part| part.as_ident())
            && name.value == crate::plan::emit::NAME
        {
            let at = Span { line: name.span.start.line, column: name.span.start.column };
            let remedy =
                "SET 'table.exec.emit.early-fire.enabled' and its delay say the same in Flink, for its group windows";
            return self.warn(at, "EMIT is a clause of Millstream's own", remedy);
        }
        let [ObjectNamePart::Identifier(ident)] = function.name.0.as_slice() else { return };
        let (name, at) = (ident.value.to_uppercase(), span_of(ident.span));
        if ident.value == TABLE_ARGUMENT {
            return;
        }
        if let Some(remedy) = functions::missing(&name, self.target) {
            self.warn(at, format!("{} has no function {name}", self.target.name()), remedy);
        }
        match name.as_str() {
            "TUMBLE" | "HOP" | "CUMULATE" | "SESSION" => self.window(&name, args_of(function), at),
            "APPROX_COUNT_DISTINCT" if !self.batch => {
                self.warn(at, "Flink has APPROX_COUNT_DISTINCT in batch mode only", "use COUNT(DISTINCT x) there");
            }
            "ARRAY_AGG" | "LISTAGG" if ordered(function) => {
                self.warn(
                    at,
                    format!("Flink takes no ORDER BY inside {name}"),
                    "take it out; there, the order is that of arrival",
                );
            }
            _ => {}
        }
        if !function.within_group.is_empty() {
            self.warn(at, "Flink has no WITHIN GROUP", "take it out");
        }
    }

    fn wildcard(&mut self, options: &WildcardAdditionalOptions, at: Span) {
        let WildcardAdditionalOptions {
            opt_ilike, opt_exclude, opt_except, opt_replace, opt_rename, opt_alias, ..
        } = options;
        let word = match () {
            () if opt_exclude.is_some() => "EXCLUDE",
            () if opt_except.is_some() => "EXCEPT",
            () if opt_replace.is_some() => "REPLACE",
            () if opt_rename.is_some() => "RENAME",
            () if opt_ilike.is_some() => "ILIKE",
            () if opt_alias.is_some() => "AS",
            () => return,
        };
        self.warn(at, format!("Flink has no * {word}"), "name the columns");
    }
}

impl Visitor for Lint<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        if let Some(qualify) = &select.qualify {
            let at = span_of(qualify.span());
            self.warn(
                at,
                format!("{} has no QUALIFY", self.target.name()),
                "put the query into a subquery and use WHERE",
            );
        }
        if let Some(Distinct::On(on)) = &select.distinct {
            let at = on.first().map_or(Span::default(), |e| span_of(e.span()));
            self.warn(at, "Flink has no DISTINCT ON", "use ROW_NUMBER() in a subquery with WHERE rn = 1");
        }
        for join in select.from.iter().flat_map(|from| &from.joins) {
            if matches!(join.join_operator, JoinOperator::AsOf { .. }) {
                self.warn(
                    span_of(join.relation.span()),
                    "Flink has no ASOF JOIN",
                    "join a view that keeps the last row of each key with FOR SYSTEM_TIME AS OF left.time",
                );
            }
        }
        if !crate::parse::broadcast(select).is_empty() {
            self.warn(
                span_of(select.select_token.0.span),
                "Flink passes over BROADCAST in streaming mode: it keeps both sides of the join, whose result has no time attribute",
                "the rows are the same; where windows stand on the result, join FOR SYSTEM_TIME AS OF a time",
            );
        }
        for item in &select.projection {
            let at = || span_of(item.span());
            match item {
                SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) => {
                    self.wildcard(options, at())
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, args: Some(args), .. } => {
                let ([ObjectNamePart::Identifier(ident)], args) = (name.0.as_slice(), &args.args) else {
                    return ControlFlow::Continue(());
                };
                let (upper, at) = (ident.value.to_uppercase(), span_of(ident.span));
                if ["TUMBLE", "HOP", "CUMULATE", "SESSION"].contains(&upper.as_str()) {
                    self.warn(
                        at,
                        format!("Flink needs TABLE( ) around {upper}"),
                        format!("write FROM TABLE({upper}(..))"),
                    );
                    self.window(&upper, args, at);
                } else {
                    self.warn(at, format!("Flink has no table function {upper}"), "use a table");
                }
            }
            TableFactor::TableFunction { expr, .. } if !crate::plan::window::is_window(expr) => {
                self.no_table_function(expr);
            }
            TableFactor::Function { lateral: true, name, args, .. } => {
                if let ("TABLE", [FunctionArg::Unnamed(FunctionArgExpr::Expr(e))]) =
                    (name.to_string().to_uppercase().as_str(), args.as_slice())
                {
                    self.no_table_function(e);
                }
            }
            TableFactor::Table { name, version: Some(TableVersion::ForSystemTimeAsOf(time)), .. } => {
                let column = matches!(time, Expr::Identifier(_) | Expr::CompoundIdentifier(_));
                let proctime = matches!(time, Expr::Function(f) if f.name.to_string().eq_ignore_ascii_case("PROCTIME"));
                if !column && !proctime {
                    self.warn(
                        name_span(name),
                        "Flink joins a version by a time attribute only",
                        "write FOR SYSTEM_TIME AS OF left.time_column",
                    );
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(function) => self.function(function),
            Expr::Cast { kind: CastKind::DoubleColon, .. } => {
                self.warn(span_of(expr.span()), "Flink has no `::`", "write CAST(x AS TYPE)");
            }
            Expr::ILike { .. } => {
                self.warn(span_of(expr.span()), "Flink has no ILIKE", "write LOWER(x) LIKE 'pattern'");
            }
            Expr::BinaryOp { op, left, .. } => {
                if let Some((shown, remedy)) = foreign_operator(op) {
                    self.warn(span_of(left.span()), format!("Flink has no operator {shown}"), remedy);
                }
            }
            Expr::Identifier(ident) if ident.quote_style == Some('"') => {
                self.warn(
                    span_of(ident.span),
                    format!("Flink does not read names in double quotes: \"{}\"", ident.value),
                    format!("write `{}`, or '{}' if it is a string", ident.value, ident.value),
                );
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// Connectors of Flink, with those that come in jars of their own.
const FLINK_CONNECTORS: &[&str] = &[
    "kafka",
    "upsert-kafka",
    "filesystem",
    "jdbc",
    "datagen",
    "print",
    "blackhole",
    "kinesis",
    "elasticsearch-7",
    "hbase-2.2",
];

/// Whether Flink takes this option; where we do not know all of a connector's options, it is taken.
fn flink_knows(connector: &str, key: &str) -> bool {
    const CSV: &[&str] = &[
        "csv.field-delimiter",
        "csv.disable-quote-character",
        "csv.quote-character",
        "csv.allow-comments",
        "csv.ignore-parse-errors",
        "csv.array-element-delimiter",
        "csv.escape-character",
        "csv.null-literal",
        "csv.write-bigdecimal-in-scientific-notation",
    ];
    const JSON: &[&str] = &[
        "json.fail-on-missing-field",
        "json.ignore-parse-errors",
        "json.timestamp-format.standard",
        "json.map-null-key.mode",
        "json.map-null-key.literal",
        "json.encode.decimal-as-plain-number",
        "json.encode.ignore-null-fields",
        "json.decode.json-parser.enabled",
    ];
    const FILES: &[&str] = &[
        "path",
        "format",
        "source.monitor-interval",
        "source.report-statistics",
        "source.path.regex-pattern",
        "partition.default-name",
        "auto-compaction",
        "compaction.file-size",
        "compaction.parallelism",
    ];
    let formatted = |key: &str| match key.split_once('.').map(|(head, _)| head) {
        Some("csv") => CSV.contains(&key),
        Some("json") => JSON.contains(&key),
        _ => true,
    };
    match connector {
        _ if key == "connector" => true,
        "filesystem" => {
            FILES.contains(&key)
                || (["csv.", "json.", "parquet.", "avro.", "orc.", "raw.", "debezium-json."]
                    .iter()
                    .any(|p| key.starts_with(p))
                    && formatted(key))
                || key.starts_with("sink.rolling-policy.")
                || key.starts_with("sink.partition-commit.")
                || ["sink.shuffle-by-partition.enable", "sink.parallelism"].contains(&key)
                || key.starts_with("partition.time-extractor.")
        }
        "datagen" => {
            let field = |kind: &str| key.starts_with("fields.") && key.ends_with(kind);
            ["rows-per-second", "number-of-rows", "scan.parallelism"].contains(&key)
                || [".kind", ".min", ".max", ".max-past", ".length", ".var-len", ".start", ".end", ".null-rate"]
                    .iter()
                    .any(|k| field(k))
        }
        "print" => ["print-identifier", "standard-error", "sink.parallelism"].contains(&key),
        "blackhole" => false,
        _ => formatted(key),
    }
}

fn foreign_operator(op: &BinaryOperator) -> Option<(String, &'static str)> {
    let remedy = match op {
        BinaryOperator::Spaceship => "write IS NOT DISTINCT FROM",
        BinaryOperator::PGRegexMatch
        | BinaryOperator::PGRegexIMatch
        | BinaryOperator::PGRegexNotMatch
        | BinaryOperator::PGRegexNotIMatch => "use REGEXP(x, 'pattern')",
        BinaryOperator::Arrow
        | BinaryOperator::LongArrow
        | BinaryOperator::HashArrow
        | BinaryOperator::HashLongArrow => "use JSON_VALUE or JSON_QUERY",
        BinaryOperator::BitwiseAnd | BinaryOperator::BitwiseOr | BinaryOperator::BitwiseXor => "use arithmetic",
        BinaryOperator::PGBitwiseShiftLeft | BinaryOperator::PGBitwiseShiftRight => "multiply or divide by POWER(2, n)",
        _ => return None,
    };
    Some((op.to_string(), remedy))
}

fn args_of(function: &Function) -> &[FunctionArg] {
    match &function.args {
        FunctionArguments::List(list) => &list.args,
        _ => &[],
    }
}

/// True when the call has clauses inside its parentheses: ORDER BY.
fn ordered(function: &Function) -> bool {
    matches!(&function.args, FunctionArguments::List(list) if !list.clauses.is_empty())
}

/// The length of `INTERVAL 'n' UNIT`, where it is that simple.
fn millis(expr: &Expr) -> Option<Millis> {
    let Expr::Interval(Interval { value, leading_field: Some(unit), last_field: None, .. }) = expr else { return None };
    let Expr::Value(value) = &**value else { return None };
    let Value::SingleQuotedString(count) = &value.value else { return None };
    let unit = match unit.to_string().to_uppercase().trim_end_matches('S') {
        "MILLISECOND" => 1,
        "SECOND" => 1_000,
        "MINUTE" => 60_000,
        "HOUR" => 3_600_000,
        "DAY" => 86_400_000,
        _ => return None,
    };
    count.trim().parse::<Millis>().ok()?.checked_mul(unit)
}

fn name_span(name: &ObjectName) -> Span {
    span_of(name.span())
}

fn span_of(span: TokenSpan) -> Span {
    Span { line: span.start.line, column: span.start.column }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::script;

    fn warnings(sql: &str, target: Target) -> Vec<String> {
        let statements = script(sql, "t").unwrap_or_else(|e| panic!("{e}"));
        lint(&statements, target, "t").into_iter().map(|w| format!("{}: {}", w.place, w.what)).collect()
    }

    #[test]
    fn a_script_in_the_common_dialect_has_no_warning() {
        let sql = "SET 'table.local-time-zone' = 'UTC'; SET 'parallelism.default' = '2';
            CREATE TABLE bid (auction BIGINT, price BIGINT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts - INTERVAL '5' SECOND)
              WITH ('connector' = 'filesystem', 'path' = 'file:///in', 'format' = 'csv', 'csv.null-literal' = 'NA');
            CREATE TABLE out_t (s TIMESTAMP_LTZ(3), n BIGINT) WITH ('connector' = 'print');
            INSERT INTO out_t SELECT window_start, COUNT(*) FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), INTERVAL '2' SECONDS, INTERVAL '10' SECONDS))
              GROUP BY window_start, window_end;
            SELECT DATE_FORMAT(ts, 'yyyy'), CAST(price AS DOUBLE), SUM(price) OVER (ORDER BY ts), LISTAGG(x, ','), ARRAY_AGG(x), COLLECT(x),
              FLOOR(ts TO DAY), EXTRACT(DAY FROM ts), CASE WHEN a THEN b END FROM bid;";
        for target in [Target::Flink1_20, Target::Flink2_2] {
            assert_eq!(warnings(sql, target), Vec::<String>::new());
        }
    }

    #[test]
    fn what_would_not_run_is_named_at_its_place() {
        for (sql, expected) in [
            (
                "SELECT window_end FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)) GROUP BY window_start, window_end EMIT ON CHANGE",
                "t:1:116: EMIT is a clause of Millstream's own",
            ),
            (
                "SELECT * FROM TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR)",
                "t:1:15: Flink needs TABLE( ) around TUMBLE",
            ),
            (
                "SELECT * FROM TABLE(HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '5' SECOND))",
                "t:1:21: Flink refuses this HOP: its size is no multiple of its slide",
            ),
            (
                "SELECT * FROM TABLE(CUMULATE(DATA => TABLE t, TIMECOL => DESCRIPTOR(ts), STEP => INTERVAL '2' MINUTES, SIZE => INTERVAL '1' HOUR, OFFSET => INTERVAL '1' MINUTE))",
                "t:1:131: Flink cannot read OFFSET as a name",
            ),
            (
                "SET 'execution.runtime-mode' = 'batch'; SELECT * FROM TABLE(SESSION(TABLE t, DESCRIPTOR(ts), INTERVAL '1' HOUR))",
                "t:1:61: Flink has no SESSION window in batch mode",
            ),
            ("SET 'millstream.late-rows.table' = 'x'", "t:1:1: 'millstream.late-rows.table' has no effect in Flink"),
            ("SET 'table.local-time-zone' = '+02:00'", "t:1:1: Flink does not read the time zone '+02:00'"),
            ("EXPLAIN MERMAID SELECT 1", "t:1:1: EXPLAIN MERMAID is a statement of Millstream's own"),
            ("SELECT\n  DATE_TRUNC('day', ts) FROM t", "t:2:3: Flink 1.20 has no function DATE_TRUNC"),
            ("SELECT a::INT FROM t", "t:1:8: Flink has no `::`"),
            ("SELECT * EXCLUDE (a) FROM t", "t:1:8: Flink has no * EXCLUDE"),
            ("SELECT a FROM t QUALIFY ROW_NUMBER() OVER (ORDER BY a) = 1", "t:1:25: Flink 1.20 has no QUALIFY"),
            (
                "SELECT t.a FROM t ASOF JOIN u MATCH_CONDITION (t.ts >= u.ts) ON t.a = u.a",
                "t:1:29: Flink has no ASOF JOIN",
            ),
            (
                "SELECT /*+ BROADCAST(u) */ t.a FROM t JOIN u ON t.a = u.a",
                "t:1:1: Flink passes over BROADCAST in streaming mode: it keeps both sides of the join, whose result has no time attribute",
            ),
            ("SELECT \"a\" FROM t", "t:1:8: Flink does not read names in double quotes: \"a\""),
            (
                "SELECT b FROM t, LATERAL TABLE(SPLIT(a, ',')) AS u (b)",
                "t:1:32: Flink takes a table function in TABLE( ), and SPLIT(a, ',') returns an array or a map",
            ),
            (
                "CREATE FUNCTION f AS 'upper'",
                "t:1:1: Flink takes the name of a class in CREATE FUNCTION, and 'upper' is none",
            ),
            ("SELECT a ILIKE 'x' FROM t", "t:1:8: Flink has no ILIKE"),
            ("SELECT APPROX_COUNT_DISTINCT(a) FROM t", "t:1:8: Flink has APPROX_COUNT_DISTINCT in batch mode only"),
            ("SELECT ARRAY_AGG(a ORDER BY b) FROM t", "t:1:8: Flink takes no ORDER BY inside ARRAY_AGG"),
            ("SELECT DISTINCT ON (a) a FROM t", "t:1:21: Flink has no DISTINCT ON"),
            (
                "CREATE TABLE n (a INT) WITH ('connector' = 'nexmark')",
                "t:1:1: the connector 'nexmark' of `n` is not in Flink",
            ),
            (
                "CREATE TABLE n (a INT) WITH ('connector' = 'filesystem', 'path' = '/in', 'format' = 'csv', 'csv.header' = 'true')",
                "t:1:1: Flink refuses the option 'csv.header' of `n`: it does not know it",
            ),
            (
                "CREATE TABLE n (a INT) WITH ('connector' = 'filesystem', 'path' = '/o.csv', 'format' = 'csv'); INSERT INTO n SELECT 1",
                "t:1:1: the sink `n` names one file; Flink makes a folder of that name with part files in it",
            ),
            (
                "CREATE TABLE n (a INT) WITH ('connector' = 'filesystem', 'path' = 'in', 'format' = 'csv')",
                "t:1:1: the path 'in' of `n` is relative; on a cluster it means another folder",
            ),
            (
                "CREATE TABLE n (a INT) WITH ('connector' = 'filesystem', 'path' = '/in/*.csv', 'format' = 'csv')",
                "t:1:1: the path '/in/*.csv' of `n` is a pattern; Flink reads it as a name",
            ),
            (
                "CREATE TABLE n (a INT) WITH ('connector' = 'filesystem', 'path' = '-', 'format' = 'csv')",
                "t:1:1: `n` reads or writes '-', which Flink takes for a file name",
            ),
            (
                "CREATE TABLE n (a TIMESTAMP_LTZ(3)) WITH ('connector' = 'print')",
                "t:1:17: `a` is TIMESTAMP_LTZ and the script names no time zone: Flink takes the machine's, we take UTC",
            ),
            (
                "CREATE TABLE n (a INT, b AS LENGTH(a)) WITH ('connector' = 'print')",
                "t:1:29: Flink 1.20 has no function LENGTH",
            ),
        ] {
            let found = warnings(sql, Target::Flink1_20);
            assert_eq!(found, [expected], "{sql}");
        }
    }

    #[test]
    fn functions_come_with_their_version() {
        let sql = "SELECT STARTSWITH(a, 'x') FROM t";
        assert_eq!(warnings(sql, Target::Flink1_20), ["t:1:8: Flink 1.20 has no function STARTSWITH"]);
        assert!(warnings(sql, Target::Flink2_2).is_empty());
        assert_eq!("Flink-2.2".parse(), Ok(Target::Flink2_2));
        assert!("flink-3".parse::<Target>().is_err());
    }

    #[test]
    fn statement_sets_and_views_are_looked_into() {
        let sql = "CREATE VIEW v AS SELECT NVL(a, 1) FROM t;
EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT NVL(b, 2) FROM t; END";
        assert_eq!(
            warnings(sql, Target::Flink2_2),
            ["t:1:25: Flink 2.2 has no function NVL", "t:2:50: Flink 2.2 has no function NVL"]
        );
    }
}
