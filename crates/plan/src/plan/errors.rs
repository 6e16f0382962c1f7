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
        DataFusionError::NotImplemented(what) => {
            let e = explain_other(&what);
            let e = match (what.strip_prefix("Unsupported binary operator: "), e.help()) {
                (Some("PGOverlap"), _) => Error::sql("the operator `&&` is not there").remedy("write AND"),
                (_, None) => Error::sql(format!("not there yet: {}", e.what())),
                _ => e,
            };
            placed(e, place)
        }
        DataFusionError::Internal(what) => placed(Error::new(ErrorKind::Internal, clean(&what)), place),
        other => placed(explain_other(&other.strip_backtrace()), place),
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
            match name.to_ascii_uppercase().as_str() {
                "TUMBLE" | "HOP" | "CUMULATE" | "SESSION" => {
                    "windows stand in FROM: FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(time), size)) .. GROUP BY window_start, window_end"
                }
                _ => "the documentation lists the functions that are there",
            },
        );
    }
    if what.starts_with("Column in SELECT must be in GROUP BY or an aggregate function") {
        let column =
            what.split("While expanding wildcard, column \"").nth(1).or_else(|| what.split("column \"").nth(1));
        let column = column.and_then(|c| c.split('"').next()).unwrap_or("");
        return Error::sql(format!("column `{column}` is neither in GROUP BY nor inside an aggregate"))
            .remedy(format!("add `{column}` to GROUP BY, or aggregate it, for example MAX({column})"));
    }
    explain_other(what)
}

/// What DataFusion says in other words than a person who writes SQL needs.
fn explain_other(what: &str) -> Error {
    let types = "write CAST(.. AS ..) where the types differ";
    let what = clean(what);
    // A function's own words, between DataFusion's.
    if let Some((_, own)) = what.split_once("user-defined coercion failed with: ") {
        let own = own.trim_start_matches("Error during planning: ");
        let own = own.split(". No function matches").next().unwrap_or(own);
        return match own.split_once("; ") {
            Some((own, remedy)) => Error::sql(own).remedy(remedy),
            None => Error::sql(own).remedy(types),
        };
    }
    if let Some((own, given)) = what.split_once(". No function matches the given name and argument types '") {
        let given = given.split('\'').next().unwrap_or(given);
        return Error::sql(own).remedy(format!("it is given {given}; {types}"));
    }
    let between =
        |from: &str, to: &str| -> Option<String> { Some(what.split_once(from)?.1.split_once(to)?.0.to_string()) };
    let rewritten = if let Some(name) = between("unique expression names but the expression \"", "\"") {
        Some((format!("two columns have the name `{name}`"), "give one of them another name with AS".to_string()))
    } else if what.starts_with("Cannot create filter with non-boolean predicate") {
        let (column, of) = (between("predicate '", "'"), what.rsplit(' ').next().unwrap_or_default());
        let column = column.unwrap_or_default();
        Some((format!("a condition is TRUE or FALSE, and `{column}` is {of}"), format!("compare it: `{column}` = ..")))
    } else if let Some((_, columns)) = what.split_once("The subquery should only return one column: ") {
        Some((
            format!("the subquery gives more than one column: {columns}"),
            "select one, or compare rows: (a, b) IN (SELECT c, d ..)".to_string(),
        ))
    } else if what.ends_with("queries have different number of columns") {
        let operation = what.split(' ').next().unwrap_or_default();
        Some((
            format!("{operation} takes as many columns of each side"),
            "name the same columns, in the same order, in both SELECTs".to_string(),
        ))
    } else if let Some(rest) = what.strip_prefix("Incompatible inputs for Union: Previous inputs were of type ") {
        let (of, rest) = rest.split_once(", but got incompatible type ").unwrap_or((rest, ""));
        let (other, column) = rest.split_once(" on column ").unwrap_or((rest, ""));
        Some((
            format!("UNION of {of} with {other} in the column {}", column.replace('\'', "`")),
            "write CAST(.. AS ..) in one of the SELECTs".to_string(),
        ))
    } else if what.starts_with("Aggregate functions are not allowed in the WHERE clause") {
        Some((
            "WHERE takes single rows, and no aggregate".to_string(),
            "put the condition behind GROUP BY: HAVING SUM(x) > 1".to_string(),
        ))
    } else if what.starts_with("Aggregate function calls cannot be nested") {
        Some((
            "an aggregate stands inside another".to_string(),
            "aggregate in a subquery: SELECT SUM(m) FROM (SELECT MAX(x) AS m FROM t GROUP BY k)".to_string(),
        ))
    } else if let Some(column) = what
        .starts_with("Column in HAVING")
        .then(|| between("column \"", "\""))
        .flatten()
        .or_else(|| between("HAVING clause references: ", " must appear"))
    {
        Some((
            format!("`{column}` in HAVING is neither in GROUP BY nor inside an aggregate"),
            "conditions on single rows stand in WHERE; or aggregate it, for example MAX(..)".to_string(),
        ))
    } else if let Some(position) = between("Cannot find column with position ", " in SELECT clause") {
        let valid = what.rsplit(": ").next().unwrap_or_default();
        Some((
            format!("there is no column {position} in SELECT"),
            format!("write an expression, or a position from {valid}"),
        ))
    } else if what.contains("Physical plan does not support logical expression WindowFunction") {
        Some((
            "OVER cannot stand in WHERE: it is computed behind".to_string(),
            "compute it in a subquery: FROM (SELECT *, ROW_NUMBER() OVER (..) AS rn FROM t) WHERE rn = 1".to_string(),
        ))
    } else if let Some(from) = between("Unsupported CAST from ", " to ") {
        let to = what.rsplit(" to ").next().unwrap_or_default();
        Some((format!("{from} cannot be cast to {to}"), "pick a part of it that can".to_string()))
    } else if what.starts_with("Cannot access field at argument 1") {
        let of = between("type ", " is not").unwrap_or_default();
        Some((
            format!("{of} has no fields"),
            "an ARRAY is read by the number of the item, from 1: a[1]; a ROW by name; a MAP by key".to_string(),
        ))
    } else if let Some(text) = between("Cannot cast string '", "' to value of ") {
        let to = what.rsplit("to value of ").next().unwrap_or_default().trim_end_matches(" type");
        Some((format!("'{text}' is no {to}"), format!("write a {to}, or CAST the other side AS STRING")))
    } else if let Some(of) = what.strip_prefix("Unary operator 'NOT' requires a boolean expression, got ") {
        Some((format!("NOT takes a condition, and this is {of}"), "compare it: NOT x = ..".to_string()))
    } else if what.starts_with("Unary operator '-' only supports") {
        Some(("this is no number that has a sign".to_string(), "write - CAST(.. AS BIGINT)".to_string()))
    } else {
        None
    };
    match rewritten {
        Some((what, remedy)) => Error::sql(what).remedy(remedy),
        None if what.contains("coerc") || what.contains("argument type") => Error::sql(what).remedy(types),
        None => Error::sql(what),
    }
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
    for prefix in [
        "Arrow error: ",
        "Cast error: ",
        "Execution error: ",
        "Error during planning: ",
        "This feature is not implemented: ",
        "Schema error: ",
        "Optimizer rule ",
    ] {
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
    // From the inside outwards.
    while let Some(at) = what.rfind("List(") {
        let Some(end) = what[at..].find(')').map(|end| at + end) else { break };
        what = format!("{}ARRAY<{}>{}", &what[..at], &what[at + 5..end], &what[end + 1..]);
    }
    what
}
