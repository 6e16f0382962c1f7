//! A script of SQL statements, parsed, with what has been declared so far.

use crate::connectors::Tables;
use millstream_core::table::TableUse;
use millstream_core::{Clock, Connectors, Error, Place, Result};
use millstream_plan::catalog::{Catalog, Notice};
use millstream_plan::plan::{Job, Planned, plan_job};
use millstream_plan::settings::without_effect;
use millstream_plan::statement::{Settings, Statement, StatementKind};
use millstream_plan::target::{Target, Warning, lint};
use millstream_runtime::SystemClock;

/// A parsed script.
#[derive(Debug, Clone)]
pub struct Program {
    /// The script's name, for places in messages.
    pub file: String,
    pub text: String,
    pub(crate) statements: Vec<Statement>,
    pub(crate) catalog: Catalog,
    /// Keys of Flink's that were set so far, that have no effect, and that nobody has been told of.
    pub(crate) without_effect: Vec<String>,
}

/// A planned query: what it would do, without doing it.
#[derive(Debug)]
pub struct Plan {
    pub(crate) planned: Planned,
    /// As they stand where the query does.
    pub(crate) settings: Settings,
    /// `EXPLAIN`: nothing would run.
    pub(crate) only_shown: bool,
}

impl Plan {
    /// As an indented graph.
    pub fn text(&self) -> String {
        if self.planned.dataflow.nodes.is_empty() {
            let plans = self.planned.statements.iter().map(|s| s.logical.display_indent().to_string());
            return plans.collect::<Vec<_>>().join("\n\n");
        }
        millstream_plan::explain::text(&self.planned.dataflow)
    }

    /// As a Mermaid diagram.
    pub fn mermaid(&self) -> String {
        millstream_plan::explain::mermaid(&self.planned.dataflow)
    }

    pub fn notices(&self) -> &[String] {
        &self.planned.notices
    }
}

impl Program {
    /// Parses `text`; `file` is the name used in messages.
    ///
    /// # Errors
    /// [`ErrorKind::Sql`](crate::ErrorKind::Sql) with the line and column of what could not be understood.
    pub fn parse(text: &str, file: &str) -> Result<Program> {
        let statements = millstream_plan::parse::script(text, file)?;
        Ok(Program {
            file: file.to_owned(),
            text: text.to_owned(),
            statements,
            catalog: Catalog::default(),
            without_effect: Vec::new(),
        })
    }

    /// Applies a setting before the first statement, as `SET 'key' = 'value'` does.
    pub fn set(&mut self, key: &str, value: &str) -> Result<()> {
        if self.catalog.settings.set(key, value)?.is_some() {
            self.without_effect.push(key.to_owned());
        }
        Ok(())
    }

    /// Takes over the declarations and settings of another script, before the first statement of this one.
    ///
    /// # Errors
    /// A mistake in it, with its place; a query, which has no place there.
    pub fn initialize(&mut self, text: &str, file: &str, tables: &Tables) -> Result<Vec<String>> {
        let mut notices = Vec::new();
        for statement in millstream_plan::parse::script(text, file)? {
            if request(&statement).is_some() {
                let place = Place::line_column(file, statement.span.line, statement.span.column);
                return Err(Error::sql("a script for --init declares, and this is a query")
                    .at(place)
                    .remedy("move it to the script that is run"));
            }
            notices.extend(declare(&mut self.catalog, &statement, file, tables, &mut self.without_effect)?);
        }
        Ok(notices)
    }

    /// Plans every query of the script without running any. Returns the plans, in the order of the statements, and
    /// the notices of the declarations.
    ///
    /// # Errors
    /// The first mistake found: in a name, a type, an option.
    pub fn check(&self, tables: &Tables) -> Result<(Vec<Plan>, Vec<String>)> {
        let mut catalog = self.catalog.clone();
        let mut plans = Vec::new();
        let mut notices = Vec::new();
        let mut ignored = self.without_effect.clone();
        for statement in &self.statements {
            match request(statement) {
                None => notices.extend(declare(&mut catalog, statement, &self.file, tables, &mut ignored)?),
                Some(job) => plans.push(Plan {
                    planned: plan(&catalog, job, &self.file, tables)?,
                    settings: catalog.settings.clone(),
                    only_shown: matches!(statement.kind, StatementKind::Explain { .. }),
                }),
            }
        }
        notices.extend(without_effect(&ignored));
        Ok((plans, notices))
    }

    /// What would not run, or mean something else, in Apache Flink.
    pub fn lint(&self, target: Target) -> Vec<Warning> {
        lint(&self.statements, target, &self.file)
    }
}

/// The query of a statement, if it has one.
pub(crate) fn request(statement: &Statement) -> Option<Job<'_>> {
    match &statement.kind {
        StatementKind::Insert(insert) => Some(Job::Inserts(std::slice::from_ref(insert))),
        StatementKind::StatementSet(inserts) => Some(Job::Inserts(inserts)),
        StatementKind::Query(query) => Some(Job::Query { query, span: statement.span }),
        StatementKind::Explain { statement, .. } => request(statement),
        _ => None,
    }
}

/// Applies a statement that declares something; what is worth knowing about it.
///
/// Keys without effect are collected in `ignored`, to be told together. A table's options are checked at once, by its
/// connector: as a source, or else as a sink.
pub(crate) fn declare(
    catalog: &mut Catalog,
    statement: &Statement,
    file: &str,
    tables: &Tables,
    ignored: &mut Vec<String>,
) -> Result<Option<String>> {
    let notice = catalog.apply(statement, file)?;
    if let StatementKind::CreateTable { table, .. } = &statement.kind
        && let Some(table) = catalog.tables.get(&table.name)
    {
        let as_source = tables.validate(&table.to_spec(), TableUse::Source);
        as_source.or_else(|e| tables.validate(&table.to_sink_spec(), TableUse::Sink).map_err(|_| e))?;
    }
    Ok(match notice {
        None => None,
        Some(Notice::At(place, what)) => Some(format!("{place}: {what}")),
        Some(Notice::WithoutEffect(key)) => {
            ignored.push(key);
            None
        }
    })
}

/// Plans a statement's query. The clock is read once for a job.
pub(crate) fn plan(catalog: &Catalog, job: Job<'_>, file: &str, tables: &Tables) -> Result<Planned> {
    plan_job(catalog, job, file, tables, SystemClock::default().now())
}
