//! The options of a `kafka` or `upsert-kafka` table, read once: what is wrong with them is said at the declaration.

use super::properties::Properties;
use crate::options::{BAD_ROWS, GUARANTEE, Guarantee, LocalFiles, check_keys, duration, number, required, size};
use crate::outbox::{OUTBOX_BYTES, OUTBOX_BYTES_MAX_DEFAULT};
use crate::schemas::Registry;
use millstream_core::error::did_you_mean;
use millstream_core::table::TableUse;
use millstream_core::{ByteSize, Error, Result, TableSpec};
use millstream_formats::OnBadRow;
use millstream_formats::records::{self, RecordOptions};
use regex::Regex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub const TOPIC: &str = "topic";
pub const TOPIC_PATTERN: &str = "topic-pattern";
pub const FORMAT: &str = "format";
pub const VALUE_FORMAT: &str = "value.format";
pub const VALUE_FIELDS: &str = "value.fields-include";
pub const KEY_FORMAT: &str = "key.format";
pub const KEY_FIELDS: &str = "key.fields";
pub const KEY_PREFIX: &str = "key.fields-prefix";
pub const STARTUP: &str = "scan.startup.mode";
pub const STARTUP_OFFSETS: &str = "scan.startup.specific-offsets";
pub const STARTUP_MILLIS: &str = "scan.startup.timestamp-millis";
pub const BOUNDED: &str = "scan.bounded.mode";
pub const BOUNDED_OFFSETS: &str = "scan.bounded.specific-offsets";
pub const BOUNDED_MILLIS: &str = "scan.bounded.timestamp-millis";
pub const DISCOVERY: &str = "scan.topic-partition-discovery.interval";
pub const PARTITIONER: &str = "sink.partitioner";
pub const ID_PREFIX: &str = "sink.transactional-id-prefix";
pub const MARKER_TOPIC: &str = "sink.commits-topic";

const OF_BOTH: [&str; 8] =
    [TOPIC, KEY_FORMAT, KEY_FIELDS, KEY_PREFIX, VALUE_FORMAT, VALUE_FIELDS, FORMAT, TOPIC_PATTERN];
const OF_READING: [&str; 7] =
    [STARTUP, STARTUP_OFFSETS, STARTUP_MILLIS, BOUNDED, BOUNDED_OFFSETS, BOUNDED_MILLIS, DISCOVERY];
const OF_WRITING: [&str; 5] = [GUARANTEE, PARTITIONER, ID_PREFIX, MARKER_TOPIC, OUTBOX_BYTES];
/// Of Flink's `upsert-kafka`: how many changes it holds back. Here an epoch's changes are made few in any case.
const OF_FLUSHING: [&str; 2] = ["sink.buffer-flush.max-rows", "sink.buffer-flush.interval"];

/// As in Flink.
const DISCOVERY_DEFAULT: Duration = Duration::from_secs(300);

/// Where the notes of committed epochs are kept, unless the table says otherwise.
const MARKER_TOPIC_DEFAULT: &str = "millstream-commits";

/// What `--available-now` puts in the place of an unbounded [`BOUNDED`]: the ends as each run finds them.
pub const UP_TO_NOW: &str = "available-now";

/// Which topics are read.
#[derive(Debug, Clone)]
pub enum Topics {
    Named(Vec<String>),
    /// All whose whole name matches.
    Matching(Regex),
}

/// Where reading begins, and where it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bound {
    Earliest,
    Latest,
    /// What the group has committed.
    Group,
    /// The first record of this time or later.
    Millis(i64),
    Offsets(BTreeMap<i32, i64>),
}

/// How far a bounded table is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Never,
    At(Bound),
    /// Up to what is there when a run starts; the next run goes on behind it.
    Now,
}

/// One of the two parts of a record.
#[derive(Debug, Clone)]
pub struct Part {
    pub format: RecordOptions,
    /// The columns it holds, as indices into the table's.
    pub columns: Vec<usize>,
    /// How the format calls them.
    pub names: Vec<String>,
    /// Who knows the schemas that its records name.
    pub registry: Option<Arc<Registry>>,
}

impl Part {
    pub fn on_bad_row(&self, table: &TableSpec) -> OnBadRow {
        match table.option(BAD_ROWS) {
            Some(_) => OnBadRow::SetAside,
            None if self.format.ignores_errors() => OnBadRow::Skip,
            None => OnBadRow::Fail,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// By the key as Java's client does it, or any partition where there is no key.
    Default,
    /// All rows of a writer go into one partition.
    Fixed,
    RoundRobin,
}

#[derive(Debug, Clone)]
pub struct SinkSettings {
    /// `None`: the best that the job allows.
    pub guarantee: Option<Guarantee>,
    pub partitioner: Partitioner,
    pub id_prefix: Option<String>,
    pub marker_topic: String,
    pub outbox_bytes_max: ByteSize,
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub table: String,
    pub upsert: bool,
    pub topics: Topics,
    pub properties: Properties,
    pub start: Bound,
    pub end: End,
    /// `None`: new partitions are found at the next start only.
    pub discovery: Option<Duration>,
    pub key: Option<Part>,
    pub value: Part,
    pub sink: SinkSettings,
}

impl Settings {
    /// Reads the options. References to environment variables are followed only with `secrets`, since a script may be
    /// checked where they are not set.
    pub fn of(table: &TableSpec, use_as: TableUse, upsert: bool, secrets: bool) -> Result<Settings> {
        check(table, upsert)?;
        if !table.partitioned_by.is_empty() {
            return Err(Error::sql(format!("`{}` has PARTITIONED BY, which means folders of files", table.name))
                .remedy("leave it out; records go into partitions by 'sink.partitioner'"));
        }
        if upsert && table.primary_key.is_empty() {
            return Err(Error::sql(format!("`{}` has no key, and 'upsert-kafka' goes by it", table.name)).remedy(
                "declare PRIMARY KEY (..) NOT ENFORCED, or use 'connector' = 'kafka' for rows that are only added",
            ));
        }
        if !upsert && !table.primary_key.is_empty() && !tells_changes(table) {
            return Err(Error::sql(format!("`{}` has a PRIMARY KEY, and 'kafka' only adds records", table.name)).remedy(
                "use 'connector' = 'upsert-kafka' or a format that tells changes ('debezium-json'), or leave the key out",
            ));
        }
        let properties = Properties::of(table, secrets)?;
        let topics = topics(table, use_as)?;
        let (mut key, mut value) = parts(table, upsert)?;
        for (part, option, of) in [(Some(&mut value), VALUE_FORMAT, "value"), (key.as_mut(), KEY_FORMAT, "key")] {
            let Some(part) = part.filter(|part| part.format.asks_for_schemas()) else { continue };
            let prefix = if table.option(option).is_some() { format!("{of}.") } else { String::new() };
            // As Confluent's own serializer names it; where several topics are read, none is written.
            let subject = match &topics {
                Topics::Named(names) if names.len() == 1 => Some(format!("{}-{of}", names[0])),
                _ => None,
            };
            part.registry = Some(Registry::of(&table.options, &prefix, part.format.name(), subject, secrets)?);
        }
        let several = !matches!(&topics, Topics::Named(names) if names.len() == 1);
        let start = match upsert && use_as == TableUse::Source {
            true => from_the_beginning(table)?,
            false => start(table, several, use_as, &properties)?,
        };
        let sink = SinkSettings {
            guarantee: Guarantee::of(table)?,
            partitioner: partitioner(table, key.is_some())?,
            id_prefix: table.option(ID_PREFIX).map(str::to_owned),
            marker_topic: topic_name(MARKER_TOPIC, table.option(MARKER_TOPIC).unwrap_or(MARKER_TOPIC_DEFAULT))?,
            outbox_bytes_max: size(table, OUTBOX_BYTES)?.unwrap_or(OUTBOX_BYTES_MAX_DEFAULT),
        };
        if sink.id_prefix.as_deref().is_some_and(|p| p.trim().is_empty()) {
            return Err(
                Error::sql(format!("'{ID_PREFIX}' is empty")).remedy("leave it out: the job's name then stands in it")
            );
        }
        let discovery = duration(table, DISCOVERY)?.unwrap_or(DISCOVERY_DEFAULT);
        Ok(Settings {
            table: table.name.clone(),
            upsert,
            topics,
            end: end(table, several, &properties)?,
            start,
            properties,
            discovery: Some(discovery).filter(|d| !d.is_zero()),
            key,
            value,
            sink,
        })
    }

    /// The one topic that is written to.
    pub fn topic(&self) -> &str {
        match &self.topics {
            Topics::Named(names) => &names[0],
            Topics::Matching(_) => "",
        }
    }
}

/// That every option is known: those of the client library are looked at apart.
fn check(table: &TableSpec, upsert: bool) -> Result<()> {
    let mut known: Vec<String> = OF_BOTH.iter().chain(&OF_READING).chain(&OF_WRITING).map(|k| k.to_string()).collect();
    if upsert {
        known.retain(|k| ![FORMAT, TOPIC_PATTERN, KEY_FIELDS].contains(&k.as_str()));
        known.extend(OF_FLUSHING.map(str::to_owned));
    }
    for (option, prefix) in [(FORMAT, ""), (VALUE_FORMAT, "value."), (KEY_FORMAT, "key.")] {
        if let Some(name) = table.option(option) {
            known.extend(RecordOptions::keys(name).iter().map(|k| format!("{prefix}{k}")));
        }
    }
    let mut rest = table.clone();
    rest.options.retain(|key, _| !key.starts_with("properties."));
    if table.option(FORMAT).or(table.option(VALUE_FORMAT)).is_none() {
        // The key that says it may be misspelt. Those of the format, whichever it is, are not.
        let of_formats: Vec<&str> = records::NAMES.iter().flat_map(|name| RecordOptions::keys(name)).copied().collect();
        rest.options.retain(|key, _| !of_formats.contains(&key.strip_prefix("value.").unwrap_or(key)));
    }
    known.push("properties.bootstrap.servers".into());
    known.push("properties.group.id".into());
    check_keys(&rest, &known.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A name that a topic may have.
fn topic_name(key: &str, name: &str) -> Result<String> {
    let name = name.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 249 || name == "." || name == ".." || !name.chars().all(fits) {
        return Err(Error::sql(format!("'{key}': '{name}' cannot be the name of a topic"))
            .remedy("use letters, digits, '.', '_' and '-', at most 249 of them"));
    }
    Ok(name.to_owned())
}

fn topics(table: &TableSpec, use_as: TableUse) -> Result<Topics> {
    match (table.option(TOPIC), table.option(TOPIC_PATTERN)) {
        (Some(_), Some(_)) => {
            Err(Error::sql(format!("'{TOPIC}' and '{TOPIC_PATTERN}' are both set")).remedy("leave one of the two out"))
        }
        (None, Some(_)) if use_as == TableUse::Sink => {
            Err(Error::sql(format!("'{TOPIC_PATTERN}' is set, and rows cannot be written to a pattern"))
                .remedy(format!("name the one topic with '{TOPIC}'")))
        }
        (None, Some(pattern)) => {
            let whole = Regex::new(&format!("^(?:{pattern})$")).map_err(|e| {
                let why = e.to_string().lines().last().unwrap_or_default().trim().to_owned();
                Error::sql(format!("'{TOPIC_PATTERN}' is no regular expression: {why}"))
                    .remedy("write for example 'orders-.*'")
            })?;
            Ok(Topics::Matching(whole))
        }
        (None, None) => required(table, TOPIC, "orders").map(|_| Topics::Named(Vec::new())),
        (Some(_), None) => {
            let mut names = Vec::new();
            for name in required(table, TOPIC, "orders")?.split(';') {
                let name = topic_name(TOPIC, name)?;
                if names.contains(&name) {
                    return Err(Error::sql(format!("'{TOPIC}' names '{name}' twice")).remedy("name each topic once"));
                }
                names.push(name);
            }
            if use_as == TableUse::Sink && names.len() > 1 {
                return Err(Error::sql(format!("'{TOPIC}' names {} topics, and rows are written to one", names.len()))
                    .remedy("declare a table for each topic, and insert into each of them"));
            }
            Ok(Topics::Named(names))
        }
    }
}

/// Whether the values of the records say what has become of rows.
pub fn tells_changes(table: &TableSpec) -> bool {
    let format = table.option(FORMAT).or(table.option(VALUE_FORMAT));
    format.is_some_and(records::tells_changes)
}

/// What the key and the value of a record hold.
fn parts(table: &TableSpec, upsert: bool) -> Result<(Option<Part>, Part)> {
    let physical: Vec<usize> = (0..table.schema.fields().len())
        .filter(|&i| !table.metadata.iter().any(|(_, f)| f.name() == table.schema.field(i).name()))
        .collect();
    let name = |i: usize| table.schema.field(i).name().as_str();
    let format = |option: &str, prefix: &str| {
        let name = table.option(option);
        name.map(|name| RecordOptions::parse_with(name, prefix, &table.options, &LocalFiles)).transpose()
    };
    let value_format = match (table.option(FORMAT), table.option(VALUE_FORMAT)) {
        (Some(_), Some(_)) => {
            return Err(Error::sql(format!("'{FORMAT}' and '{VALUE_FORMAT}' are both set, and mean the same"))
                .remedy("leave one of the two out"));
        }
        (Some(_), None) => format(FORMAT, "")?,
        _ => format(VALUE_FORMAT, "value.")?,
    };
    let Some(value_format) = value_format else {
        let key = if upsert { VALUE_FORMAT } else { FORMAT };
        return Err(required(table, key, "json").map_or_else(|e| e, |_| Error::internal("the format is there")));
    };
    if upsert && value_format.tells_changes() {
        return Err(Error::sql(format!(
            "the values of 'upsert-kafka' are rows, and '{}' tells changes",
            value_format.name()
        ))
        .remedy("use 'connector' = 'kafka' with this format, or 'value.format' = 'json'"));
    }
    let prefix = table.option(KEY_PREFIX).unwrap_or_default();
    let key_columns: Vec<usize> = if upsert {
        // In the order of the declared key.
        table.primary_key.iter().map(|c| Ok(table.schema.index_of(c)?)).collect::<Result<_>>()?
    } else {
        let mut columns = Vec::new();
        for wanted in table.option(KEY_FIELDS).unwrap_or_default().split(';').map(str::trim).filter(|f| !f.is_empty()) {
            let Some(&found) = physical.iter().find(|&&i| name(i) == wanted) else {
                let guess = did_you_mean(wanted, physical.iter().map(|&i| name(i)));
                return Err(Error::sql(format!(
                    "'{KEY_FIELDS}' names `{wanted}`, which is no stored column of the table"
                ))
                .remedy(
                    guess.map_or_else(|| "name columns, separated by ';'".into(), |g| format!("did you mean `{g}`?")),
                ));
            };
            columns.push(found);
        }
        columns
    };
    let key_format = format(KEY_FORMAT, "key.")?;
    if let Some(changes) = key_format.as_ref().filter(|key| key.tells_changes()) {
        return Err(Error::sql(format!(
            "'{KEY_FORMAT}' cannot be '{}': a key says nothing of changes",
            changes.name()
        ))
        .remedy(format!("use '{KEY_FORMAT}' = 'json'")));
    }
    match (&key_format, key_columns.is_empty()) {
        (Some(_), true) => {
            return Err(Error::sql(format!("'{KEY_FORMAT}' is set, and no column belongs to the key"))
                .remedy(format!("name them: '{KEY_FIELDS}' = 'a;b'")));
        }
        (None, false) => {
            return Err(Error::sql(format!("the key of the records has no format: '{KEY_FORMAT}' is missing"))
                .remedy(format!("add '{KEY_FORMAT}' = 'json'")));
        }
        _ => {}
    }
    let except = match table.option(VALUE_FIELDS) {
        None | Some("ALL") => false,
        Some("EXCEPT_KEY") => true,
        Some(other) => {
            return Err(Error::sql(format!("'{VALUE_FIELDS}' cannot be '{other}'")).remedy("use 'ALL' or 'EXCEPT_KEY'"));
        }
    };
    if !prefix.is_empty() && !except {
        return Err(Error::sql(format!("'{KEY_PREFIX}' is set, and the value has the columns of the key as well"))
            .remedy(format!("set '{VALUE_FIELDS}' = 'EXCEPT_KEY'")));
    }
    let mut key_names = Vec::new();
    for &i in &key_columns {
        match name(i).strip_prefix(prefix) {
            Some(rest) if !rest.is_empty() => key_names.push(rest.to_owned()),
            _ => {
                return Err(Error::sql(format!("column `{}` of the key does not begin with '{prefix}'", name(i)))
                    .remedy(format!("name it `{prefix}{}`, or take '{KEY_PREFIX}' out", name(i))));
            }
        }
    }
    let columns: Vec<usize> = physical.iter().copied().filter(|i| !except || !key_columns.contains(i)).collect();
    if columns.is_empty() {
        return Err(Error::sql("all columns belong to the key, so nothing is left for the value")
            .remedy(format!("set '{VALUE_FIELDS}' = 'ALL', or leave a column out of the key")));
    }
    let value = Part {
        names: columns.iter().map(|&i| name(i).to_owned()).collect(),
        columns,
        format: value_format,
        registry: None,
    };
    let key = key_format.map(|format| Part { format, columns: key_columns, names: key_names, registry: None });
    Ok((key, value))
}

/// `partition:0,offset:42;partition:1,offset:300`.
fn offsets(table: &TableSpec, mode: &str, key: &str, several: bool) -> Result<Bound> {
    let example = "partition:0,offset:42;partition:1,offset:300";
    let text = table.option(key).unwrap_or_default();
    if several {
        return Err(Error::sql(format!("'{mode}' = 'specific-offsets' needs one topic, and there are several"))
            .remedy("declare a table for each topic"));
    }
    let wrong = |why: String| Error::sql(format!("'{key}': {why}")).remedy(format!("write for example '{example}'"));
    let mut found = BTreeMap::new();
    for entry in text.split(';').map(str::trim).filter(|e| !e.is_empty()) {
        let read = entry.split_once(',').and_then(|(p, o)| {
            let partition = p.trim().strip_prefix("partition:")?.trim().parse::<u16>().ok()?;
            let offset = o.trim().strip_prefix("offset:")?.trim().parse::<u64>().ok()?;
            Some((i32::from(partition), i64::try_from(offset).ok()?))
        });
        let Some((partition, offset)) = read else {
            return Err(wrong(format!("'{entry}' names no offset of a partition")));
        };
        if found.insert(partition, offset).is_some() {
            return Err(wrong(format!("partition {partition} is named twice")));
        }
    }
    if found.is_empty() {
        return Err(wrong("it names no partition".into()));
    }
    Ok(Bound::Offsets(found))
}

fn bound(
    table: &TableSpec,
    mode: &str,
    (millis, specific): (&str, &str),
    several: bool,
    properties: &Properties,
) -> Result<Option<Bound>> {
    Ok(Some(match table.option(mode) {
        None => return Ok(None),
        Some("earliest-offset") if mode == STARTUP => Bound::Earliest,
        Some("latest-offset") => Bound::Latest,
        Some("group-offsets") => {
            if properties.group().is_none() {
                return Err(Error::sql(format!("'{mode}' = 'group-offsets' needs a group"))
                    .remedy("add 'properties.group.id' = '…'"));
            }
            Bound::Group
        }
        Some("timestamp") => match number::<i64>(table, millis, "milliseconds since 1970, such as 1700000000000")? {
            Some(at) if at >= 0 => Bound::Millis(at),
            Some(_) => return Err(Error::sql(format!("'{millis}' is negative")).remedy("use milliseconds since 1970")),
            None => {
                return Err(Error::sql(format!("'{mode}' = 'timestamp' needs '{millis}'"))
                    .remedy(format!("add '{millis}' = '1700000000000', milliseconds since 1970")));
            }
        },
        Some("specific-offsets") => offsets(table, mode, specific, several)?,
        Some(other) => {
            let all =
                ["earliest-offset", "latest-offset", "group-offsets", "timestamp", "specific-offsets", "unbounded"];
            let known = if mode == STARTUP { &all[..5] } else { &all[1..] };
            // Kafka's own tools say 'earliest' and 'latest'.
            let guess = known.iter().copied().find(|k| k.split('-').next() == Some(other));
            let guess =
                guess.or_else(|| did_you_mean(other, known.iter().copied())).map(|g| format!("did you mean '{g}'? "));
            return Err(Error::sql(format!("'{mode}' cannot be '{other}'")).remedy(format!(
                "{}There are {}",
                guess.unwrap_or_default(),
                known.join(", ")
            )));
        }
    }))
}

/// A table by key is what all its records make of it.
fn from_the_beginning(table: &TableSpec) -> Result<Bound> {
    match table.option(STARTUP) {
        None | Some("earliest-offset") => Ok(Bound::Earliest),
        Some(other) => Err(Error::sql(format!(
            "'{STARTUP}' cannot be '{other}': 'upsert-kafka' is read from the beginning, or the \
             rows of its keys would not be known"
        ))
        .remedy("leave it out, or read the records as they are with 'connector' = 'kafka'")),
    }
}

/// As in Flink, a table that does not say where it begins begins where its group is.
fn start(table: &TableSpec, several: bool, use_as: TableUse, properties: &Properties) -> Result<Bound> {
    let said = bound(table, STARTUP, (STARTUP_MILLIS, STARTUP_OFFSETS), several, properties)?;
    match said {
        Some(start) => Ok(start),
        None if properties.group().is_some() || use_as == TableUse::Sink => Ok(Bound::Group),
        None => Err(Error::sql(format!("`{}` does not say where reading begins", table.name)).remedy(format!(
            "add '{STARTUP}' = 'earliest-offset' or 'latest-offset', or a 'properties.group.id' whose offsets it goes on from"
        ))),
    }
}

fn end(table: &TableSpec, several: bool, properties: &Properties) -> Result<End> {
    match table.option(BOUNDED) {
        None | Some("unbounded") => Ok(End::Never),
        Some(UP_TO_NOW) => Ok(End::Now),
        _ => {
            Ok(bound(table, BOUNDED, (BOUNDED_MILLIS, BOUNDED_OFFSETS), several, properties)?
                .map_or(End::Never, End::At))
        }
    }
}

fn partitioner(table: &TableSpec, with_key: bool) -> Result<Partitioner> {
    match table.option(PARTITIONER) {
        None | Some("default") => Ok(Partitioner::Default),
        Some("fixed") => Ok(Partitioner::Fixed),
        Some("round-robin") if with_key => {
            Err(Error::sql(format!("'{PARTITIONER}' = 'round-robin' would tear the rows of one key apart"))
                .remedy("leave it out: rows go to partitions by their key"))
        }
        Some("round-robin") => Ok(Partitioner::RoundRobin),
        Some(other) => {
            let known = ["default", "fixed", "round-robin"];
            let guess = did_you_mean(other, known).map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
            Err(Error::sql(format!("'{PARTITIONER}' cannot be '{other}'"))
                .remedy(format!("{guess}There are {}; classes of Java's are not run here", known.join(", "))))
        }
    }
}

#[cfg(test)]
mod tests;
