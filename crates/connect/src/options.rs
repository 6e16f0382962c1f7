//! What the checks of all connectors have in common.

use millstream_core::error::did_you_mean;
use millstream_core::rate::{RATE_LIMIT, rate_limit};
use millstream_core::table::{BY_KEY, TableUse, cannot_be_looked_up};
use millstream_core::{ByteSize, Error, Result, TableSpec, parse_duration};
use std::fmt;
use std::time::Duration;

/// The option by which the planner asks a source to set bad rows aside; its one value is `set-aside`.
pub const BAD_ROWS: &str = "millstream.bad-rows";

/// Options that every connector takes: what the planner or the runtime reads, and what Flink knows everywhere.
const EVERYWHERE: [&str; 10] = [
    "connector",
    BAD_ROWS,
    BY_KEY,
    "scan.parallelism",
    RATE_LIMIT,
    "scan.watermark.alignment.group",
    "scan.watermark.emit.strategy",
    "scan.watermark.idle-timeout",
    "sink.parallelism",
    "source.idle-timeout",
];

/// The primary key, where the planner remembers the rows of a table of changes by it; else nothing.
pub fn by_key(table: &TableSpec) -> Vec<String> {
    if table.options.contains_key(BY_KEY) { table.primary_key.clone() } else { Vec::new() }
}

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
    rate_limit(table)?;
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

/// A text that shows itself to nobody.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(pub(crate) String);

impl Secret {
    /// What it is, for a connection.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A file that an option names; `None`: there is none. An error is half a sentence.
pub fn small_file(path: &str, bytes_max: u64) -> std::result::Result<Option<Vec<u8>>, String> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(format!("cannot be read: {e}")),
    };
    let mut bytes = Vec::new();
    let read = std::io::Read::read_to_end(&mut std::io::Read::take(file, bytes_max + 1), &mut bytes);
    read.map_err(|e| format!("cannot be read: {e}"))?;
    match bytes.len() as u64 > bytes_max {
        true => Err(format!("has more than {} KiB", bytes_max >> 10)),
        false => Ok(Some(bytes)),
    }
}

/// The files of this machine, for formats that are described in files.
pub struct LocalFiles;

impl millstream_formats::protobuf::Files for LocalFiles {
    fn read(&self, path: &str) -> std::result::Result<Option<Vec<u8>>, String> {
        small_file(path, millstream_formats::protobuf::SCHEMA_BYTES_MAX as u64)
    }
}

/// A value, or that of the environment variable it refers to: `${NAME}`.
pub fn referenced(key: &str, value: &str) -> Result<String> {
    let Some(name) = value.strip_prefix("${").and_then(|v| v.strip_suffix('}')) else { return Ok(value.to_owned()) };
    std::env::var(name).map_err(|_| {
        Error::usage(format!("'{key}' refers to the environment variable {name}, which is not set"))
            .remedy(format!("export {name}=… before the start"))
    })
}

/// How often a row may reach the outer world.
pub const GUARANTEE: &str = "sink.delivery-guarantee";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guarantee {
    ExactlyOnce,
    AtLeastOnce,
    None,
}

impl Guarantee {
    /// What the table asks for; `None`: the best that the job allows.
    pub fn of(table: &TableSpec) -> Result<Option<Guarantee>> {
        Ok(Some(match table.option(GUARANTEE) {
            None => return Ok(None),
            Some("exactly-once") => Guarantee::ExactlyOnce,
            Some("at-least-once") => Guarantee::AtLeastOnce,
            Some("none") => Guarantee::None,
            Some(other) => {
                let known = ["exactly-once", "at-least-once", "none"];
                return Err(Error::sql(format!("'{GUARANTEE}' cannot be '{other}'")).remedy(
                    match did_you_mean(other, known) {
                        Some(guess) => format!("did you mean '{guess}'? There are {}", known.join(", ")),
                        None => format!("use {}", known.join(", ")),
                    },
                ));
            }
        }))
    }

    /// Whether the epochs of a table wait in an outbox for its committer.
    pub fn commits(asked: Option<Guarantee>, checkpoints: bool) -> Result<bool> {
        match asked {
            Some(Guarantee::ExactlyOnce) if !checkpoints => {
                Err(Error::sql(format!("'{GUARANTEE}' = 'exactly-once' needs checkpoints, and this job takes none"))
                    .remedy("SET 'execution.checkpointing.interval' = '10 s', or take the option out: exactly-once is the default where there are checkpoints"))
            }
            Some(Guarantee::ExactlyOnce) | None => Ok(checkpoints),
            Some(Guarantee::AtLeastOnce | Guarantee::None) => Ok(false),
        }
    }
}
