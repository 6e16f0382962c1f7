//! Files: one file, a folder, a pattern, or `-` for the standard streams; on this machine or in a bucket that speaks S3.
//!
//! All files of a table are one partition, in the order of their paths, since that is the only order that is there on
//! every run. Output goes to part files in a folder, as in Flink; where `path` names a file (`out.csv`,
//! `out.json.gz`), that one file is written by one writer.

#[cfg(feature = "s3")]
mod bucket;
mod commit;
mod files;
mod layout;
mod list;
mod lookup;
mod partition;
mod progress;
mod read;
mod sink;
mod source;
mod write;

pub(crate) use commit::Parts;
pub(crate) use list::{DEFAULT_PARTITION, FileInfo, Logged, local_path, unescape};
pub(crate) use sink::{FileSink, chance, process_id};
pub(crate) use source::FileSource;

use crate::Connector;
use crate::options::{check_keys, duration, required, size};
use arrow::datatypes::{DataType, Field, Fields};
use commit::Guarantee;
use millstream_core::error::did_you_mean;
use millstream_core::table::{Brings, TableUse, Takes};
use millstream_core::{Committer, Error, JobRun, LookedUp, Result, Sink, SinkContext, Source, TableSpec, metadata};
use millstream_formats::changes::ChangeFormat;
use millstream_formats::records;
use millstream_formats::{Format, FormatOptions};
use partition::{Rule, Waiting};
use std::io;

pub struct Filesystem;

const PATH: &str = "path";
const FORMAT: &str = "format";
const MONITOR_INTERVAL: &str = "source.monitor-interval";
const ROLLING_SIZE: &str = "sink.rolling-policy.file-size";

const ROLLOVER_INTERVAL: &str = "sink.rolling-policy.rollover-interval";
const CHECK_INTERVAL: &str = "sink.rolling-policy.check-interval";
const GUARANTEE: &str = "sink.delivery-guarantee";
const COMMIT_TRIGGER: &str = "sink.partition-commit.trigger";
const COMMIT_DELAY: &str = "sink.partition-commit.delay";
const COMMIT_POLICY: &str = "sink.partition-commit.policy.kind";
const SUCCESS_NAME: &str = "sink.partition-commit.success-file.name";
const SUCCESS_NAME_DEFAULT: &str = "_SUCCESS";

const OPTIONS: [&str; 18] = [
    PATH,
    FORMAT,
    MONITOR_INTERVAL,
    ROLLING_SIZE,
    ROLLOVER_INTERVAL,
    CHECK_INTERVAL,
    GUARANTEE,
    COMMIT_TRIGGER,
    COMMIT_DELAY,
    COMMIT_POLICY,
    SUCCESS_NAME,
    partition::TIME_PATTERN,
    partition::TIME_KIND,
    partition::WATERMARK_ZONE,
    lookup::CACHE,
    lookup::STRATEGY,
    lookup::INTERVAL,
    lookup::TTL,
];

/// Flink's keys that ask for what happens here anyway, or for what only Flink's cluster does.
const ACCEPTED: [&str; 3] =
    ["auto-compaction", "source.path.regex-pattern", "lookup.full-cache.periodic-reload.schedule-mode"];

impl Connector for Filesystem {
    fn validate(&self, table: &TableSpec, use_as: TableUse) -> Result<()> {
        // First of all: a key that nobody knows may be the misspelt one that is missing.
        check_known(table)?;
        let options = format_options(table)?;
        let path = required(table, PATH, "data/orders")?;
        if files::in_bucket(path) {
            files::check_bucket(table, path)?;
        } else if let Some((scheme, _)) = path.split_once("://")
            && scheme != "file"
        {
            return Err(Error::sql(format!("'path' = '{path}': files of '{scheme}://' cannot be opened"))
                .remedy("use a path of this machine, or a bucket that speaks S3: s3://bucket/prefix"));
        }
        if table.option("source.path.regex-pattern").is_some() {
            return Err(Error::sql("'source.path.regex-pattern' is not supported")
                .remedy("use a pattern in 'path', for example 'data/*.csv'"));
        }
        let interval = duration(table, MONITOR_INTERVAL)?;
        if let Some(interval) = interval
            && (interval.is_zero() || path == "-")
        {
            return Err(Error::sql(format!("'{MONITOR_INTERVAL}' cannot be used here"))
                .remedy("give a time greater than zero, and a folder as 'path'"));
        }
        if size(table, ROLLING_SIZE)?.is_some_and(|s| s.0 == 0) {
            return Err(Error::sql(format!("'{ROLLING_SIZE}' cannot be zero")).remedy("write for example '128mb'"));
        }
        for key in [ROLLOVER_INTERVAL, CHECK_INTERVAL] {
            if duration(table, key)?.is_some_and(|d| d.is_zero()) {
                return Err(Error::sql(format!("'{key}' cannot be zero")).remedy("write for example '1 min'"));
            }
        }
        guarantee(table)?;
        Rule::of(table)?;
        lookup::reload(table)?;
        if use_as == TableUse::Lookup && tells_changes(table) {
            return Err(Error::sql(format!(
                "`{}` is looked up, and files of '{}' say what has become of rows, not which rows there are",
                table.name,
                options.format()
            ))
            .remedy("join it without FOR SYSTEM_TIME AS OF, or as of the event time of the left side"));
        }
        if use_as == TableUse::Lookup && path == "-" {
            return Err(Error::sql(format!(
                "`{}` is looked up, and the standard input can be read once only",
                table.name
            ))
            .remedy("put the rows into a file and name it as 'path'"));
        }
        for column in &table.partitioned_by {
            if table.schema.index_of(column).is_err() {
                let known = table.schema.fields().iter().map(|f| f.name().as_str());
                let guess = did_you_mean(column, known).map(|g| format!("did you mean `{g}`?"));
                return Err(Error::sql(format!("PARTITIONED BY names `{column}`, which is no column of the table"))
                    .remedy(guess.unwrap_or_else(|| "name columns of the table".into())));
            }
        }
        if !table.partitioned_by.is_empty() && table.partitioned_by.len() == table.schema.fields().len() {
            return Err(Error::sql("PARTITIONED BY names every column, so nothing is left for the files")
                .remedy("leave at least one column out of PARTITIONED BY"));
        }
        if path == "-" && options.format() == Format::Parquet {
            return Err(Error::sql("Parquet cannot be read from or written to a stream")
                .remedy("give a file or a folder as 'path', or use 'format' = 'csv' or 'json'"));
        }
        if let (TableUse::Sink, FormatOptions::Avro(avro)) = (use_as, &options) {
            let stored = table.schema.fields().iter().filter(|f| !table.partitioned_by.contains(f.name()));
            let stored: Fields = stored.cloned().collect();
            millstream_formats::avro::schema_of(&stored, avro.legacy_timestamps)?;
        }
        if use_as == TableUse::Sink && !matches!(options, FormatOptions::Parquet(_) | FormatOptions::Avro(_)) {
            millstream_formats::json::check_written(table.schema.fields())?;
        }
        if use_as == TableUse::Sink && list::is_pattern(path) {
            return Err(Error::sql(format!("'path' = '{path}' is a pattern, and rows cannot be written to a pattern"))
                .remedy("name one folder or file"));
        }
        Ok(())
    }

    fn metadata(&self, _table: &TableSpec) -> Result<Vec<Field>> {
        Ok(vec![
            Field::new("file.path", DataType::Utf8, false),
            Field::new("file.name", DataType::Utf8, false),
            Field::new("file.size", DataType::Int64, true),
            Field::new("file.modification-time", metadata::ltz_millis(), true),
        ])
    }

    fn finds_fields_by_name(&self, table: &TableSpec) -> bool {
        matches!(format_options(table), Ok(FormatOptions::Json(_) | FormatOptions::Parquet(_) | FormatOptions::Avro(_)))
    }

    fn takes(&self, table: &TableSpec) -> Takes {
        if tells_changes(table) { Takes::Retractions } else { Takes::Inserts }
    }

    fn brings(&self, table: &TableSpec) -> Brings {
        if tells_changes(table) { Brings::All } else { Brings::Inserts }
    }

    fn open_source(&self, table: &TableSpec) -> Result<Box<dyn Source>> {
        self.validate(table, TableUse::Source)?;
        Ok(Box::new(source::FileSource::open(table)?))
    }

    fn open_lookup(&self, table: &TableSpec, _keys: &[usize]) -> Result<LookedUp> {
        self.validate(table, TableUse::Lookup)?;
        lookup::open(table)
    }

    fn open_sink(&self, table: &TableSpec, context: &SinkContext) -> Result<Box<dyn Sink>> {
        self.validate(table, TableUse::Sink)?;
        Ok(Box::new(sink::FileSink::open(table, context)?))
    }

    fn open_committer(&self, table: &TableSpec, job: &JobRun) -> Result<Option<Box<dyn Committer>>> {
        let path = list::local_path(required(table, PATH, "out/orders")?);
        let waiting = Rule::of(table)?.map(|rule| Waiting::new(rule, job.generation));
        // Streams and devices give rows away as they come.
        if path == "-" || sink::names_a_file(path, !table.partitioned_by.is_empty()) {
            return Ok(None);
        }
        #[cfg(feature = "s3")]
        if let files::Files::Bucket(objects) = files::Files::of(table)? {
            return Ok(Some(Box::new(bucket::ObjectCommitter {
                root: objects.key(path).to_owned(),
                objects,
                table: table.name.clone(),
                job: job.clone(),
                guarantee: guarantee(table)?,
                waiting,
            })));
        }
        Ok(Some(Box::new(commit::FileCommitter {
            root: path.into(),
            table: table.name.clone(),
            job: job.clone(),
            guarantee: guarantee(table)?,
            waiting,
            depth: table.partitioned_by.len(),
        })))
    }
}

/// Opens a table whose files are those that are there now, and no others ever after.
#[cfg(feature = "kafka")]
pub(crate) fn open_once(table: &TableSpec) -> Result<Box<dyn Source>> {
    Filesystem.validate(table, TableUse::Source)?;
    Ok(Box::new(source::FileSource::open(table)?.once()?))
}

fn guarantee(table: &TableSpec) -> Result<Guarantee> {
    match table.option(GUARANTEE) {
        None | Some("exactly-once") => Ok(Guarantee::ExactlyOnce),
        Some("at-least-once") => Ok(Guarantee::AtLeastOnce),
        Some("none") => Ok(Guarantee::None),
        Some(other) => Err(Error::sql(format!("'{GUARANTEE}' cannot be '{other}'"))
            .remedy("use 'exactly-once', 'at-least-once' or 'none'")),
    }
}

/// The options that a table may have, with those of a bucket where it is in one.
#[cfg_attr(not(feature = "s3"), expect(unused_mut, unused_variables, reason = "there are no buckets then"))]
fn in_a_bucket<'a>(path: &str, mut known: Vec<&'a str>) -> Vec<&'a str> {
    #[cfg(feature = "s3")]
    if files::in_bucket(path) {
        known.extend(bucket::OPTIONS.map(|(name, _)| name));
    }
    known
}

/// The options of a bucket that a table gives, for a store that lies beside its files.
pub(crate) fn bucket_options(table: &TableSpec) -> Result<std::collections::BTreeMap<String, String>> {
    match table.option(PATH).is_some_and(files::in_bucket) {
        #[cfg(feature = "s3")]
        true => bucket::options(table, crate::options::referenced),
        _ => Ok(Default::default()),
    }
}

/// Names of the options that a table of Parquet files takes in this connector, and that one which keeps a log of such files
/// takes as well.
pub(crate) fn file_options(path: &str) -> Vec<&'static str> {
    in_a_bucket(path, Format::Parquet.keys().iter().copied().chain([PATH, ROLLING_SIZE]).collect())
}

/// Whether the table is written by one writer only: it is one file or a stream, not a folder of part files. The
/// planner gives such a sink a parallelism of one.
pub fn wants_single_writer(table: &TableSpec) -> bool {
    if table.connector() != "filesystem" {
        return false;
    }
    let path = list::local_path(table.option(PATH).unwrap_or_default());
    path == "-" || sink::names_a_file(path, !table.partitioned_by.is_empty())
}

/// Whether the files say what has become of rows.
fn tells_changes(table: &TableSpec) -> bool {
    table.option(FORMAT).is_some_and(|name| ChangeFormat::of(name).is_some())
}

fn check_known(table: &TableSpec) -> Result<()> {
    let own = OPTIONS.iter().chain(&ACCEPTED).copied();
    let in_place = |known| in_a_bucket(table.option(PATH).unwrap_or_default(), known);
    if let Some(Ok(format)) = table.option(FORMAT).map(str::parse::<Format>) {
        return check_keys(table, &in_place(own.chain(format.keys().iter().copied()).collect()));
    }
    // Which format is meant is not known, and so not whether a key of one is wrong.
    let formats: Vec<Format> = Format::NAMES.iter().filter_map(|name| name.parse().ok()).collect();
    let mut rest = table.clone();
    rest.options.retain(|key, _| !formats.iter().any(|format| format.keys().contains(&key.as_str())));
    check_keys(&rest, &in_place(own.collect()))
}

fn format_options(table: &TableSpec) -> Result<FormatOptions> {
    let name = required(table, FORMAT, "csv")?;
    let format: Format = name.parse().map_err(|()| {
        let guess = did_you_mean(name, Format::NAMES).map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
        if records::NAMES.contains(&name) {
            return Error::sql(format!(
                "'{name}' is a format of records, and says nothing of where in a file one ends"
            ))
            .remedy(format!("for files there are {}", Format::NAMES.join(", ")));
        }
        Error::sql(format!("there is no format '{name}'"))
            .remedy(format!("{guess}There are {}", Format::NAMES.join(", ")))
    })?;
    FormatOptions::parse(format, &table.options)
}

/// How a file is compressed, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Packing {
    Plain,
    Gzip,
    Zstd,
}

impl Packing {
    fn of(path: &str) -> Packing {
        match path.rsplit_once('.').map(|(_, e)| e.to_ascii_lowercase()).as_deref() {
            Some("gz" | "gzip") => Packing::Gzip,
            Some("zst" | "zstd") => Packing::Zstd,
            _ => Packing::Plain,
        }
    }
}

/// An error of the file system, with what can be done about it.
pub(crate) fn cannot(what: &str, path: &str, e: &io::Error) -> Error {
    let error = Error::io(format!("cannot {what} {path}: {e}"));
    match e.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            error.remedy("make room on the disk, or choose another 'path'")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            error.remedy("check the permissions of the file and of its folder, or choose another 'path'")
        }
        io::ErrorKind::NotFound => error.remedy(format!(
            "check the path; relative ones count from {}",
            std::env::current_dir().map_or_else(|_| "the working directory".into(), |d| d.display().to_string())
        )),
        io::ErrorKind::BrokenPipe => error.remedy("whoever read the output has gone; nothing more can be written"),
        _ => error.remedy("check the path and the device it is on"),
    }
}
