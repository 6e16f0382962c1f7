//! What the checks of all connectors have in common.

use millstream_core::error::did_you_mean;
use millstream_core::table::{TableUse, cannot_be_looked_up};
use millstream_core::{ByteSize, Error, Result, TableSpec, parse_duration};
use std::time::Duration;

/// The option by which the planner asks a source to set bad rows aside; its one value is `set-aside`.
pub const BAD_ROWS: &str = "millstream.bad-rows";

/// Options that every connector takes: what the planner or the runtime reads, and what Flink knows everywhere.
const EVERYWHERE: [&str; 8] = [
    "connector",
    BAD_ROWS,
    "scan.parallelism",
    "scan.watermark.alignment.group",
    "scan.watermark.emit.strategy",
    "scan.watermark.idle-timeout",
    "sink.parallelism",
    "source.idle-timeout",
];

/// Checks that every option of the table is one of `known` or of those that are known everywhere.
pub fn check_keys(table: &TableSpec, known: &[&str]) -> Result<()> {
    for key in table.options.keys() {
        let key = key.as_str();
        if known.contains(&key) || EVERYWHERE.contains(&key) {
            continue;
        }
        let guess = did_you_mean(key, known.iter().copied().chain(EVERYWHERE));
        let mut all: Vec<&str> = known.iter().copied().chain(["connector"]).collect();
        all.sort_unstable();
        let all = all.join(", ");
        return Err(Error::sql(format!("the connector '{}' has no option '{key}'", table.connector())).remedy(
            match guess {
                Some(guess) => format!("did you mean '{guess}'? It has {all}"),
                None => format!("it has {all}"),
            },
        ));
    }
    match table.option(BAD_ROWS) {
        None | Some("set-aside") => Ok(()),
        Some(other) => Err(Error::sql(format!("'{BAD_ROWS}' cannot be '{other}'")).remedy("use 'set-aside'")),
    }
}

/// The value of an option that must be there.
pub fn required<'a>(table: &'a TableSpec, key: &str, example: &str) -> Result<&'a str> {
    match table.option(key) {
        Some(value) if !value.trim().is_empty() => Ok(value),
        _ => Err(Error::sql(format!("the connector '{}' needs the option '{key}'", table.connector()))
            .remedy(format!("add '{key}' = '{example}' to the table's options"))),
    }
}

pub fn duration(table: &TableSpec, key: &str) -> Result<Option<Duration>> {
    table.option(key).map(|text| parse_duration(text).map_err(|why| Error::sql(format!("'{key}': {why}")))).transpose()
}

pub fn size(table: &TableSpec, key: &str) -> Result<Option<ByteSize>> {
    table.option(key).map(|text| text.parse().map_err(|why: String| Error::sql(format!("'{key}': {why}")))).transpose()
}

/// A number that is written as text.
pub fn number<T: std::str::FromStr>(table: &TableSpec, key: &str, what: &str) -> Result<Option<T>> {
    table
        .option(key)
        .map(|text| {
            text.trim()
                .parse()
                .map_err(|_| Error::sql(format!("'{key}' cannot be '{text}'")).remedy(format!("use {what}")))
        })
        .transpose()
}

/// That a table is used in the only way it can be.
pub fn only(table: &TableSpec, use_as: TableUse, can: TableUse) -> Result<()> {
    if use_as == can {
        return Ok(());
    }
    if use_as == TableUse::Lookup {
        return Err(cannot_be_looked_up(table));
    }
    Err(match can {
        TableUse::Sink => {
            Error::sql(format!("`{}` cannot be read: '{}' only takes rows", table.name, table.connector()))
        }
        TableUse::Source | TableUse::Lookup => {
            Error::sql(format!("`{}` cannot be written to: '{}' only gives rows", table.name, table.connector()))
        }
    }
    .remedy(match can {
        TableUse::Sink => "read from a table of another connector, such as 'filesystem' or 'datagen'",
        TableUse::Source | TableUse::Lookup => {
            "write to a table of another connector, such as 'filesystem', 'print' or 'blackhole'"
        }
    }))
}
