//! What a declaration says of a table.

use super::log::AsOf;
use super::schema;
use crate::filesystem::{bucket_options, file_options, local_path};
use crate::options::{check_keys, number, size};
use crate::outbox::{OUTBOX_BYTES, OUTBOX_BYTES_MAX_DEFAULT};
use arrow::datatypes::TimeUnit;
use millstream_core::error::did_you_mean;
use millstream_core::table::TableUse;
use millstream_core::{ByteSize, Error, Millis, Result, TableSpec};
use millstream_formats::text::parse_timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub const PATH: &str = "path";
/// Flink's connector calls it so.
pub const TABLE_PATH: &str = "table-path";
pub const VERSION_AS_OF: &str = "versionAsOf";
pub const TIMESTAMP_AS_OF: &str = "timestampAsOf";

pub const CHECKPOINT_INTERVAL: &str = "delta.checkpointInterval";
pub const LOG_RETENTION: &str = "delta.logRetentionDuration";
pub const FILE_RETENTION: &str = "delta.deletedFileRetentionDuration";
pub const LOG_CLEANUP: &str = "delta.enableExpiredLogCleanup";

/// Properties that a table can be made with: those that are kept to here.
const PROPERTIES: [&str; 5] = ["delta.appendOnly", CHECKPOINT_INTERVAL, LOG_RETENTION, FILE_RETENTION, LOG_CLEANUP];

/// Delta's own defaults.
pub const CHECKPOINT_INTERVAL_DEFAULT: u64 = 10;
pub const LOG_RETENTION_DEFAULT: Duration = Duration::from_secs(30 * 86_400);
pub const FILE_RETENTION_DEFAULT: Duration = Duration::from_secs(7 * 86_400);

#[derive(Debug, Clone)]
pub struct Settings {
    /// As it is declared.
    pub table: TableSpec,
    /// The folder of Parquet files that lies behind it, as a table of the connector `filesystem`.
    pub files: TableSpec,
    /// A path of this machine, or `s3://bucket/prefix`.
    pub root: String,
    pub properties: BTreeMap<String, String>,
    pub as_of: AsOf,
    pub outbox_bytes_max: ByteSize,
}

impl Settings {
    pub fn of(table: &TableSpec) -> Result<Settings> {
        let path = table.option(PATH).or(table.option(TABLE_PATH)).unwrap_or_default().trim();
        let own = [TABLE_PATH, VERSION_AS_OF, TIMESTAMP_AS_OF, OUTBOX_BYTES];
        let known: Vec<&str> = file_options(path).into_iter().chain(own).chain(PROPERTIES).collect();
        check_keys(table, &known)?;
        if path.is_empty() {
            return Err(Error::sql("the connector 'delta' needs the option 'path'")
                .remedy("add 'path' = 'lake/orders', or 's3://bucket/orders', to the table's options"));
        }
        if table.option(PATH).is_some() && table.option(TABLE_PATH).is_some() {
            return Err(Error::sql("'path' and 'table-path' are the same option").remedy("leave one of them out"));
        }
        let bucket = path.starts_with("s3://");
        if let Some((scheme, _)) = path.split_once("://").filter(|(scheme, _)| !bucket && *scheme != "file") {
            return Err(Error::sql(format!("'path' = '{path}': a table at '{scheme}://' cannot be opened"))
                .remedy("use a path of this machine, or a bucket that speaks S3: s3://bucket/prefix"));
        }
        let root = if bucket { path } else { local_path(path) }.trim_end_matches('/');
        if root.is_empty() || root == "-" || names_files(root) || Path::new(root).is_file() {
            return Err(Error::sql(format!("'path' = '{path}' is no folder, and a Delta table is one"))
                .remedy("name the folder that has, or is to have, the folder _delta_log in it"));
        }
        let mut options = table.options.clone();
        options.retain(|key, _| !own.contains(&key.as_str()) && !PROPERTIES.contains(&key.as_str()));
        options.insert("connector".into(), "filesystem".into());
        options.insert("format".into(), "parquet".into());
        options.insert(PATH.into(), root.to_owned());
        let files =
            TableSpec { schema: schema::stored(&table.schema), options, primary_key: Vec::new(), ..table.clone() };
        let properties: BTreeMap<String, String> = table
            .options
            .iter()
            .filter(|(key, _)| PROPERTIES.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        for (key, value) in &properties {
            check_property(key, value)?;
        }
        let outbox_bytes_max = size(table, OUTBOX_BYTES)?.unwrap_or(OUTBOX_BYTES_MAX_DEFAULT);
        Ok(Settings {
            as_of: as_of(table)?,
            table: table.clone(),
            files,
            root: root.to_owned(),
            properties,
            outbox_bytes_max,
        })
    }

    /// The options of the bucket that the table is in.
    pub fn bucket_options(&self) -> Result<BTreeMap<String, String>> {
        bucket_options(&self.files)
    }
}

/// Whether a path ends as that of one file does.
fn names_files(path: &str) -> bool {
    let ending = path.rsplit('/').next().and_then(|name| name.rsplit_once('.')).map(|(_, ending)| ending);
    ending.is_some_and(|ending| ["avro", "csv", "json", "jsonl", "ndjson", "parquet"].contains(&ending))
}

/// What can be said about a declaration without looking at the table.
pub fn check(table: &TableSpec, use_as: TableUse) -> Result<()> {
    let settings = Settings::of(table)?;
    if use_as == TableUse::Sink && settings.as_of != AsOf::Now {
        return Err(Error::sql(format!(
            "`{}` is a table as it was, and only the table as it is can be written to",
            table.name
        ))
        .remedy(format!("leave out '{VERSION_AS_OF}' and '{TIMESTAMP_AS_OF}'")));
    }
    let columns = || table.schema.fields().iter().map(|f| f.name().as_str());
    for column in &table.partitioned_by {
        let Ok(field) = table.schema.field_with_name(column) else {
            let guess = did_you_mean(column, columns()).map(|g| format!("did you mean `{g}`?"));
            return Err(Error::sql(format!("PARTITIONED BY names `{column}`, which is no column of the table"))
                .remedy(guess.unwrap_or_else(|| "name columns of the table".into())));
        };
        if field.data_type().is_nested() || *field.data_type() == arrow::datatypes::DataType::Binary {
            return Err(Error::sql(format!("`{column}` cannot be a partition column: its values have no text"))
                .remedy("partition by a column of numbers, texts, dates or times"));
        }
    }
    if !table.partitioned_by.is_empty() && table.partitioned_by.len() == table.schema.fields().len() {
        return Err(Error::sql("PARTITIONED BY names every column, so nothing is left for the files")
            .remedy("leave at least one column out of PARTITIONED BY"));
    }
    if use_as == TableUse::Sink {
        schema::schema_in_log(table.schema.fields())?;
    }
    Ok(())
}

fn as_of(table: &TableSpec) -> Result<AsOf> {
    match (number::<u64>(table, VERSION_AS_OF, "the number of a version, such as 12")?, table.option(TIMESTAMP_AS_OF)) {
        (None, None) => Ok(AsOf::Now),
        (Some(version), None) => Ok(AsOf::Version(version)),
        (None, Some(text)) => {
            let text = text.trim();
            let of_day = format!("{text} 00:00:00");
            let at: Option<Millis> = parse_timestamp(text.as_bytes(), TimeUnit::Millisecond)
                .or_else(|| parse_timestamp(of_day.as_bytes(), TimeUnit::Millisecond));
            at.map(AsOf::Time).ok_or_else(|| {
                Error::sql(format!("'{TIMESTAMP_AS_OF}' cannot be '{text}'"))
                    .remedy("write for example '2026-11-26 12:00:00' (UTC) or '2026-11-26'")
            })
        }
        (Some(_), Some(_)) => Err(Error::sql(format!("'{VERSION_AS_OF}' and '{TIMESTAMP_AS_OF}' are both set"))
            .remedy("leave one of them out")),
    }
}

fn check_property(key: &str, value: &str) -> Result<()> {
    let wrong = |remedy: &str| Error::sql(format!("'{key}' cannot be '{value}'")).remedy(remedy);
    let good = match key {
        CHECKPOINT_INTERVAL => value.parse::<u64>().is_ok_and(|n| n > 0),
        LOG_RETENTION | FILE_RETENTION => interval(value).is_some(),
        _ => value.parse::<bool>().is_ok(),
    };
    match key {
        _ if good => Ok(()),
        CHECKPOINT_INTERVAL => Err(wrong("use a number of commits, such as '10'")),
        LOG_RETENTION | FILE_RETENTION => Err(wrong("write it as Delta does, for example 'interval 30 days'")),
        _ => Err(wrong("use 'true' or 'false'")),
    }
}

/// A time as a property of a table has it: `interval 30 days`.
pub fn interval(text: &str) -> Option<Duration> {
    let text = text.trim().to_ascii_lowercase();
    let words: Vec<&str> = text.strip_prefix("interval").unwrap_or(&text).split_whitespace().collect();
    let [number, unit] = words[..] else { return None };
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3_600,
        "day" => 86_400,
        "week" => 7 * 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_delta_writes_them() {
        assert_eq!(interval("interval 30 days"), Some(LOG_RETENTION_DEFAULT));
        assert_eq!(interval("INTERVAL 1 week"), Some(FILE_RETENTION_DEFAULT));
        assert_eq!(interval("168 hours"), Some(FILE_RETENTION_DEFAULT));
        assert_eq!(interval("interval 1 fortnight"), None);
        assert_eq!(interval("interval"), None);
    }
}
