//! From DataFusion's errors to ours: with the place in the SQL text and the remedy.

use datafusion_common::{Column, DataFusionError, SchemaError};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, ErrorKind, Place};

/// One of our errors on its way through DataFusion's planner.
pub fn external(e: Error) -> DataFusionError {
    DataFusionError::External(Box::new(e))
}

/// `what` of this name is not known; says which was likely meant, or else the remedy.
pub fn unknown_name<'n>(what: &str, name: &str, known: impl IntoIterator<Item = &'n str>, remedy: &str) -> Error {
    let e = Error::sql(format!("{what} `{name}` is unknown"));
    match did_you_mean(name, known) {
        Some(meant) => e.remedy(format!("did you mean `{meant}`?")),
        None => e.remedy(remedy),
    }
}

/// Turns an error of DataFusion's planner into ours.
pub fn explain(e: DataFusionError, file: &str, functions: &[String]) -> Error {
    let mut place = None;
    explain_at(e, file, functions, &mut place)
}

fn explain_at(e: DataFusionError, file: &str, functions: &[String], place: &mut Option<Place>) -> Error {
    let placed = |e: Error, place: &Option<Place>| match place {
        Some(place) => e.at(place.clone()),
        None => e,
    };
    match e {
        DataFusionError::External(inner) => match inner.downcast::<Error>() {
            Ok(ours) => placed(*ours, place),
            Err(other) => placed(Error::sql(other.to_string()), place),
        },
        DataFusionError::Context(_, inner) => explain_at(*inner, file, functions, place),
        DataFusionError::Diagnostic(diagnostic, inner) => {
            if let Some(span) = diagnostic.span
                && span.start.line > 0
            {
                place.get_or_insert_with(|| Place::line_column(file, span.start.line, span.start.column));
            }
            explain_at(*inner, file, functions, place)
        }
        DataFusionError::Collection(mut all) if !all.is_empty() => explain_at(all.remove(0), file, functions, place),
        DataFusionError::Shared(inner) => {
            let e = Error::sql(clean(&inner.strip_backtrace()));
            placed(e, place)
        }
        DataFusionError::SchemaError(e, _) => placed(explain_schema(*e, place, file), place),
        DataFusionError::Plan(what) => placed(explain_plan(&what, functions), place),
        DataFusionError::NotImplemented(what) => placed(Error::sql(format!("not there yet: {}", clean(&what))), place),
        DataFusionError::Internal(what) => placed(Error::new(ErrorKind::Internal, clean(&what)), place),
        other => placed(Error::sql(clean(&other.strip_backtrace())), place),
    }
}

fn explain_schema(e: SchemaError, place: &mut Option<Place>, file: &str) -> Error {
    match e {
        SchemaError::FieldNotFound { field, valid_fields } => {
            locate(&field, place, file);
            let e = Error::sql(format!("column `{}` is unknown", field.flat_name()));
            let mut known: Vec<&str> = Vec::new();
            for f in &valid_fields {
                if !known.contains(&f.name()) {
                    known.push(f.name());
                }
            }
            if field.name().starts_with("window_") {
                return e.remedy("it is a column of a window function: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), INTERVAL '1' MINUTE))");
            }
            if let Some(other) = valid_fields.iter().find(|f| f.name() == field.name()) {
                return e.remedy(format!("did you mean `{}`?", other.flat_name()));
            }
            match did_you_mean(field.name(), known.iter().copied()) {
                Some(meant) => e.remedy(format!("did you mean `{meant}`?")),
                None if known.is_empty() => e.remedy("there are no columns here: is a FROM missing?"),
                None => e.remedy(format!("the columns here are {}", list(&known))),
            }
        }
        SchemaError::AmbiguousReference { field } => {
            locate(&field, place, file);
            Error::sql(format!("column `{}` is ambiguous", field.name()))
                .remedy("write its table before it: `t.column`")
        }
        SchemaError::DuplicateQualifiedField { name, .. } | SchemaError::DuplicateUnqualifiedField { name } => {
            Error::sql(format!("two columns have the name `{name}`")).remedy("give one of them another name with AS")
        }
    }
}

fn locate(column: &Column, place: &mut Option<Place>, file: &str) {
    if let Some(span) = column.spans.first()
        && span.start.line > 0
    {
        place.get_or_insert_with(|| Place::line_column(file, span.start.line, span.start.column));
    }
}

fn explain_plan(what: &str, functions: &[String]) -> Error {
    if let Some(rest) = what.strip_prefix("Invalid function '") {
        let name = rest.split('\'').next().unwrap_or(rest);
        return unknown_name(
            "function",
            name,
            functions.iter().map(String::as_str),
            "the documentation lists the functions that are there",
        );
    }
    if what.starts_with("Column in SELECT must be in GROUP BY or an aggregate function") {
        let column =
            what.split("While expanding wildcard, column \"").nth(1).or_else(|| what.split("column \"").nth(1));
        let column = column.and_then(|c| c.split('"').next()).unwrap_or("");
        return Error::sql(format!("column `{column}` is neither in GROUP BY nor inside an aggregate"))
            .remedy(format!("add `{column}` to GROUP BY, or aggregate it, for example MAX({column})"));
    }
    let e = Error::sql(clean(what));
    if what.contains("coerc") || what.contains("argument types") {
        return e.remedy("write CAST(.. AS ..) where the types differ");
    }
    e
}

fn list(names: &[&str]) -> String {
    const SHOWN: usize = 20;
    let mut out: Vec<String> = names.iter().take(SHOWN).map(|n| format!("`{n}`")).collect();
    if names.len() > SHOWN {
        out.push(format!("and {} more", names.len() - SHOWN));
    }
    out.join(", ")
}

/// DataFusion's words without what is of no use to a person who writes SQL.
fn clean(what: &str) -> String {
    let mut what = what.lines().next().unwrap_or(what).trim();
    for prefix in ["Error during planning: ", "This feature is not implemented: ", "Schema error: ", "Optimizer rule "]
    {
        what = what.strip_prefix(prefix).unwrap_or(what);
    }
    let mut what = what.trim_end_matches('.').to_string();
    for (arrow, sql) in [
        ("LargeUtf8", "STRING"),
        ("Utf8View", "STRING"),
        ("Utf8", "STRING"),
        ("UInt64", "BIGINT"),
        ("Int64", "BIGINT"),
        ("Int32", "INT"),
        ("Int16", "SMALLINT"),
        ("Int8", "TINYINT"),
        ("Float64", "DOUBLE"),
        ("Float32", "FLOAT"),
        ("Decimal128", "DECIMAL"),
        ("Date32", "DATE"),
        ("Timestamp(ms)", "TIMESTAMP(3)"),
        ("Timestamp(µs)", "TIMESTAMP(6)"),
        ("Timestamp(ns)", "TIMESTAMP(9)"),
        ("Timestamp(ms, \"UTC\")", "TIMESTAMP_LTZ(3)"),
    ] {
        what = what.replace(arrow, sql);
    }
    what
}
