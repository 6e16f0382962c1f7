//! What has been declared so far: tables, views, settings.

use crate::settings::Taken;
use crate::statement::{Statement, StatementKind};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use datafusion_sql::sqlparser::ast;
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Place, Result, TableSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables, views and settings, by name. Names are kept as written; look-ups ignore case only where the SQL text was not
/// quoted (the parser folds nothing; Flink's identifiers are case-sensitive, and so are ours).
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    pub tables: BTreeMap<String, TableDef>,
    pub views: BTreeMap<String, ViewDef>,
    /// By name in small letters: a function is called in letters of either case.
    pub functions: BTreeMap<String, FunctionDef>,
    pub settings: crate::statement::Settings,
}

/// `CREATE TABLE`.
#[derive(Debug, Clone)]
pub struct TableDef {
    pub name: String,
    /// All columns in the order of their declaration.
    pub columns: Vec<ColumnDef>,
    pub watermark: Option<WatermarkDef>,
    pub primary_key: Vec<String>,
    pub partitioned_by: Vec<String>,
    /// The `WITH` clause: keys and values as written.
    pub options: BTreeMap<String, String>,
    /// `LIKE other`, not yet merged. [`Catalog::apply`] merges it: `None` in every table of a catalog.
    pub like: Option<LikeClause>,
    /// Where `CREATE` stands.
    pub place: Place,
}

/// `LIKE other (INCLUDING | EXCLUDING | OVERWRITING what, ..)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeClause {
    pub table: String,
    pub span: Span,
    /// Pairs as written, in capitals: `("EXCLUDING", "OPTIONS")`. Empty: `INCLUDING ALL OVERWRITING OPTIONS`.
    pub rules: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub struct ColumnDef {
    pub name: String,
    pub kind: ColumnKind,
    pub comment: Option<String>,
    /// Where the column stands in the text.
    pub span: Span,
}

#[derive(Debug, Clone)]
pub enum ColumnKind {
    /// Stored outside.
    Physical { data_type: DataType, nullable: bool },
    /// `name TYPE METADATA [FROM 'key'] [VIRTUAL]`. The key defaults to the column's name.
    Metadata { data_type: DataType, nullable: bool, key: String, is_virtual: bool },
    /// `name AS expression`. `PROCTIME()` as the whole expression makes a processing-time attribute.
    Computed { expression: ast::Expr },
}

/// `WATERMARK FOR column AS expression`.
#[derive(Debug, Clone)]
pub struct WatermarkDef {
    pub column: String,
    pub expression: ast::Expr,
    pub span: Span,
}

/// `CREATE [TEMPORARY] VIEW name [(columns)] AS query`.
#[derive(Debug, Clone)]
pub struct ViewDef {
    pub name: String,
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    pub place: Place,
}

/// `CREATE [TEMPORARY [SYSTEM]] FUNCTION name AS 'target'`: another name for a function that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionDef {
    pub name: String,
    /// A built-in function, or a class whose like is built in ([`built_in`](crate::functions::built_in)).
    pub target: String,
    /// May have the name of a built-in function, and then stands in its place.
    pub system: bool,
    pub place: Place,
}

/// A place in the SQL text: line and column, both from 1; columns count characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    pub line: u64,
    pub column: u64,
}

impl TableDef {
    /// The physical columns as Arrow fields, in the order of their declaration.
    pub fn physical_fields(&self) -> Vec<Field> {
        self.columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Physical { data_type, nullable } => Some(Field::new(&c.name, data_type.clone(), *nullable)),
                _ => None,
            })
            .collect()
    }
}

/// Something that the user should know, and that stops nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    At(Place, String),
    /// A key of Flink's without effect. A script may have many, so they are told together:
    /// [`without_effect`](crate::settings::without_effect).
    WithoutEffect(String),
}

impl Catalog {
    /// Takes in one statement: DDL and SET change the catalog, all others leave it as it is. `file` names the script.
    ///
    /// # Errors
    /// A name that is taken or missing, a column that a key or the watermark names and nobody declared, a watermark on a
    /// type that cannot carry one, a setting that is unknown. The catalog is as before then.
    pub fn apply(&mut self, statement: &Statement, file: &str) -> Result<Option<Notice>> {
        let place = statement.place(file);
        match &statement.kind {
            StatementKind::CreateTable { table, if_not_exists } => {
                if self.taken(&table.name, *if_not_exists, &place)? {
                    return Ok(None);
                }
                let table = self.merged(table, file)?;
                table.check(file)?;
                self.tables.insert(table.name.clone(), table);
            }
            StatementKind::CreateView { view, if_not_exists } => {
                if self.taken(&view.name, *if_not_exists, &place)? {
                    return Ok(None);
                }
                for (i, column) in view.columns.iter().enumerate() {
                    if view.columns[..i].contains(column) {
                        return Err(Error::sql(format!("the view has two columns `{column}`"))
                            .at(place)
                            .remedy("give each column a name of its own"));
                    }
                }
                self.views.insert(view.name.clone(), view.clone());
            }
            StatementKind::CreateFunction { function, if_not_exists } => {
                let name = function.name.to_lowercase();
                if self.functions.contains_key(&name) {
                    return match if_not_exists {
                        true => Ok(None),
                        false => Err(Error::sql(format!("the function `{}` exists already", function.name))
                            .at(place)
                            .remedy("choose another name, or write CREATE FUNCTION IF NOT EXISTS")),
                    };
                }
                crate::functions::built_in(function).map_err(|e| e.at(place))?;
                self.functions.insert(name, function.clone());
            }
            StatementKind::DropFunction { name, if_exists } => {
                if self.functions.remove(&name.to_lowercase()).is_none() && !if_exists {
                    let e = Error::sql(format!("the function `{name}` has not been created")).at(place);
                    return Err(match did_you_mean(name, self.functions.keys().map(String::as_str)) {
                        Some(meant) => e.remedy(format!("did you mean `{meant}`?")),
                        None => e.remedy("take it out, or write DROP FUNCTION IF EXISTS"),
                    });
                }
            }
            StatementKind::DropTable { name, if_exists } => {
                if self.tables.remove(name).is_none() && !if_exists {
                    return Err(self.unknown_table(name).at(place));
                }
            }
            StatementKind::DropView { name, if_exists } => {
                if self.views.remove(name).is_none() && !if_exists {
                    return Err(self.unknown_table(name).at(place));
                }
            }
            StatementKind::Set { key, value: Some(value) } => {
                let notice = self.settings.set(key, value).map_err(|e| e.at(place.clone()))?;
                return Ok(notice.map(|taken| match taken {
                    Taken::Foreign => Notice::WithoutEffect(key.clone()),
                    Taken::Slip(what) => Notice::At(place, what),
                }));
            }
            StatementKind::Set { key, value: None } => self.settings.reset(key).map_err(|e| e.at(place))?,
            StatementKind::Insert(_)
            | StatementKind::StatementSet(_)
            | StatementKind::Query(_)
            | StatementKind::Explain { .. } => {}
        }
        Ok(None)
    }

    /// The error for a name that is neither a table nor a view, with what was probably meant.
    pub fn unknown_table(&self, name: &str) -> Error {
        let known = || self.tables.keys().chain(self.views.keys()).map(String::as_str);
        let remedy = if self.views.contains_key(name) {
            format!("`{name}` is a view: write DROP VIEW {name}")
        } else if self.tables.contains_key(name) {
            format!("`{name}` is a table: write DROP TABLE {name}")
        } else {
            match did_you_mean(name, known()) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None if known().next().is_none() => "declare it with CREATE TABLE first".into(),
                None => format!("declared so far: {}", known().collect::<Vec<_>>().join(", ")),
            }
        };
        Error::sql(format!("the table `{name}` is unknown")).remedy(remedy)
    }

    /// True when the name is taken and that is fine.
    fn taken(&self, name: &str, if_not_exists: bool, place: &Place) -> Result<bool> {
        let (what, first) = match (self.tables.get(name), self.views.get(name)) {
            (Some(table), _) => ("table", &table.place),
            (None, Some(view)) => ("view", &view.place),
            (None, None) => return Ok(false),
        };
        if if_not_exists {
            return Ok(true);
        }
        Err(Error::sql(format!("the {what} `{name}` exists already, declared at {first}"))
            .at(place.clone())
            .remedy(format!("choose another name, or write CREATE {} IF NOT EXISTS", what.to_uppercase())))
    }

    /// The table with what it takes over from the table that it is LIKE.
    fn merged(&self, table: &TableDef, file: &str) -> Result<TableDef> {
        let Some(like) = &table.like else { return Ok(table.clone()) };
        let at = || like.span.place(file);
        let other = self.tables.get(&like.table).ok_or_else(|| match self.views.contains_key(&like.table) {
            true => Error::sql(format!("LIKE needs a table, and `{}` is a view", like.table))
                .at(at())
                .remedy("declare the columns"),
            false => self.unknown_table(&like.table).at(at()),
        })?;
        let clash = |what: String| {
            Error::sql(what)
                .at(at())
                .remedy("take it out here, or write OVERWRITING or EXCLUDING in LIKE's parentheses")
        };
        let mut merged = table.clone();
        merged.like = None;
        let mut columns = Vec::new();
        for column in &other.columns {
            let ours = table.columns.iter().any(|c| c.name == column.name);
            let what = match column.kind {
                ColumnKind::Physical { .. } if ours => {
                    return Err(Error::sql(format!("the column `{}` is in `{}` already", column.name, like.table))
                        .at(at())
                        .remedy("take it out here: LIKE brings it"));
                }
                ColumnKind::Physical { .. } => {
                    columns.push(column.clone());
                    continue;
                }
                ColumnKind::Metadata { .. } => "METADATA",
                ColumnKind::Computed { .. } => "GENERATED",
            };
            match (like.rule(what), ours) {
                (Merge::Excluding, _) | (Merge::Overwriting, true) => {}
                (Merge::Including, true) => {
                    return Err(clash(format!("the column `{}` is in `{}` already", column.name, like.table)));
                }
                (_, false) => columns.push(column.clone()),
            }
        }
        columns.append(&mut merged.columns);
        merged.columns = columns;
        if let Some(watermark) = &other.watermark {
            match (like.rule("WATERMARKS"), &merged.watermark) {
                (Merge::Excluding, _) | (Merge::Overwriting, Some(_)) => {}
                (Merge::Including, Some(_)) => {
                    return Err(clash(format!("`{}` has a WATERMARK already", like.table)));
                }
                (_, None) => merged.watermark = Some(watermark.clone()),
            }
        }
        if like.rule("CONSTRAINTS") != Merge::Excluding && !other.primary_key.is_empty() {
            if !merged.primary_key.is_empty() {
                return Err(clash(format!("`{}` has a PRIMARY KEY already", like.table)));
            }
            merged.primary_key.clone_from(&other.primary_key);
        }
        if like.rule("PARTITIONS") != Merge::Excluding && !other.partitioned_by.is_empty() {
            if !merged.partitioned_by.is_empty() {
                return Err(clash(format!("`{}` is PARTITIONED BY already", like.table)));
            }
            merged.partitioned_by.clone_from(&other.partitioned_by);
        }
        let options = like.rule("OPTIONS");
        if options != Merge::Excluding {
            for (key, value) in &other.options {
                if options == Merge::Including && merged.options.contains_key(key) {
                    return Err(clash(format!("the option '{key}' is in `{}` already", like.table)));
                }
                merged.options.entry(key.clone()).or_insert_with(|| value.clone());
            }
        }
        Ok(merged)
    }
}

/// What LIKE does with one kind of thing of the other table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    Including,
    Excluding,
    Overwriting,
}

impl LikeClause {
    /// The last rule that names `what`, else the last for ALL, else Flink's default.
    fn rule(&self, what: &str) -> Merge {
        let last = |wanted: &str| self.rules.iter().rev().find(|(_, w)| w == wanted);
        match last(what).or_else(|| last("ALL")) {
            Some((how, _)) if how == "EXCLUDING" => Merge::Excluding,
            Some((how, _)) if how == "OVERWRITING" => Merge::Overwriting,
            Some(_) => Merge::Including,
            None if what == "OPTIONS" => Merge::Overwriting,
            None => Merge::Including,
        }
    }
}

impl Span {
    pub fn place(self, file: &str) -> Place {
        Place::line_column(file, self.line, self.column)
    }
}

impl TableDef {
    /// What the parser cannot see: names that refer to each other, and types that fit.
    fn check(&self, file: &str) -> Result<()> {
        if self.columns.is_empty() {
            return Err(Error::sql(format!("the table `{}` has no columns", self.name))
                .at(self.place.clone())
                .remedy("declare its columns"));
        }
        for (i, column) in self.columns.iter().enumerate() {
            if column.name.is_empty() {
                return Err(Error::sql("a column without a name").at(column.span.place(file)).remedy("give it a name"));
            }
            if self.columns[..i].iter().any(|c| c.name == column.name) {
                return Err(Error::sql(format!("the column `{}` is declared twice", column.name))
                    .at(column.span.place(file))
                    .remedy("give each column a name of its own"));
            }
        }
        self.check_watermark(file)?;
        for (what, names) in [("PRIMARY KEY", &self.primary_key), ("PARTITIONED BY", &self.partitioned_by)] {
            for (i, name) in names.iter().enumerate() {
                let column = self.column(name).map_err(|e| e.at(self.place.clone()))?;
                if names[..i].contains(name) {
                    return Err(Error::sql(format!("{what} names `{name}` twice"))
                        .at(self.place.clone())
                        .remedy("name it once"));
                }
                if !matches!(column.kind, ColumnKind::Physical { .. }) {
                    return Err(Error::sql(format!("{what} names `{name}`, which is not stored"))
                        .at(self.place.clone())
                        .remedy("name physical columns only: computed and METADATA columns are not possible here"));
                }
            }
        }
        if self.partitioned_by.len() == self.physical_fields().len() && !self.partitioned_by.is_empty() {
            return Err(Error::sql("every column is in PARTITIONED BY")
                .at(self.place.clone())
                .remedy("leave at least one column to be stored in the files"));
        }
        if !self.options.contains_key("connector") {
            let remedy = match did_you_mean("connector", self.options.keys().map(String::as_str)) {
                Some(slip) => format!("did you mean 'connector' instead of '{slip}'?"),
                None => {
                    "add WITH ('connector' = 'filesystem', ..); others are print, blackhole, datagen and nexmark".into()
                }
            };
            return Err(Error::sql(format!("the table `{}` has no option 'connector'", self.name))
                .at(self.place.clone())
                .remedy(remedy));
        }
        Ok(())
    }

    fn check_watermark(&self, file: &str) -> Result<()> {
        let Some(watermark) = &self.watermark else { return Ok(()) };
        let at = watermark.span.place(file);
        let name = &watermark.column;
        let column = self.column(name).map_err(|e| e.at(at.clone()))?;
        // The type of a computed column is known only to the planner, which makes the same check.
        let (ColumnKind::Physical { data_type, .. } | ColumnKind::Metadata { data_type, .. }) = &column.kind else {
            return Ok(());
        };
        match data_type {
            DataType::Timestamp(TimeUnit::Millisecond, _) => Ok(()),
            DataType::Timestamp(unit, zone) => {
                let precision = if *unit == TimeUnit::Nanosecond { 9 } else { 6 };
                let declared = if zone.is_some() { "TIMESTAMP_LTZ" } else { "TIMESTAMP" };
                Err(Error::sql(format!(
                    "the watermark's column `{name}` is {declared}({precision}); event time has at most milliseconds"
                ))
                .at(at)
                .remedy(format!(
                    "declare it {declared}(3), or add a column event_time AS CAST({name} AS {declared}(3)) and put the \
                     WATERMARK on that"
                )))
            }
            DataType::Int64 | DataType::Int32 => {
                Err(Error::sql(format!("the watermark's column `{name}` is a number")).at(at).remedy(format!(
                    "add a column event_time AS TO_TIMESTAMP_LTZ({name}, 3) and put the WATERMARK on that"
                )))
            }
            DataType::Utf8 => Err(Error::sql(format!("the watermark's column `{name}` is a string"))
                .at(at)
                .remedy(format!("add a column event_time AS TO_TIMESTAMP({name}) and put the WATERMARK on that"))),
            _ => Err(Error::sql(format!("the watermark's column `{name}` is no timestamp"))
                .at(at)
                .remedy("put the WATERMARK on a column of type TIMESTAMP(3) or TIMESTAMP_LTZ(3)")),
        }
    }

    /// The column of this name.
    ///
    /// # Errors
    /// With what was probably meant, when there is none.
    pub fn column(&self, name: &str) -> Result<&ColumnDef> {
        self.columns.iter().find(|c| c.name == name).ok_or_else(|| {
            let names = || self.columns.iter().map(|c| c.name.as_str());
            Error::sql(format!("the column `{name}` is unknown in the table `{}`", self.name)).remedy(
                match did_you_mean(name, names()) {
                    Some(meant) => format!("did you mean `{meant}`?"),
                    None => format!("its columns are {}", names().collect::<Vec<_>>().join(", ")),
                },
            )
        })
    }

    /// What a connector needs to open the table, all physical columns and no metadata; a planner that reads less sets
    /// `projection` and `metadata` on it.
    ///
    /// For a sink, metadata columns that are not VIRTUAL are written like physical ones: see [`Self::written_fields`].
    pub fn to_spec(&self) -> TableSpec {
        TableSpec {
            name: self.name.clone(),
            schema: Arc::new(Schema::new(self.physical_fields())),
            projection: None,
            metadata: Vec::new(),
            options: self.options.clone(),
            partitioned_by: self.partitioned_by.clone(),
            primary_key: self.primary_key.clone(),
            place: Some(self.place.clone()),
        }
    }

    /// The columns that INSERT INTO fills, in the order of their declaration: physical ones, and metadata columns
    /// without VIRTUAL, as in Flink.
    pub fn written_fields(&self) -> Vec<Field> {
        self.columns
            .iter()
            .filter_map(|c| match &c.kind {
                ColumnKind::Physical { data_type, nullable }
                | ColumnKind::Metadata { data_type, nullable, is_virtual: false, .. } => {
                    Some(Field::new(&c.name, data_type.clone(), *nullable))
                }
                _ => None,
            })
            .collect()
    }

    /// The table for writing: its columns are [`Self::written_fields`].
    pub fn to_sink_spec(&self) -> TableSpec {
        TableSpec { schema: Arc::new(Schema::new(self.written_fields())), ..self.to_spec() }
    }
}

#[cfg(test)]
mod tests;
