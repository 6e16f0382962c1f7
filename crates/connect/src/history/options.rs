//! The options of a `history-then-live` table: its own, and those of its two legs, which their own connectors check.

use super::layout::{Wanted, timed};
use crate::Connector;
use crate::filesystem::Filesystem;
use crate::kafka::Kafka;
use crate::options::{BAD_ROWS, check_keys, duration, required, size};
use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
use millstream_core::error::did_you_mean;
use millstream_core::metadata::ROW_ORDER;
use millstream_core::table::TableUse;
use millstream_core::{ByteSize, Error, Millis, Result, TableSpec};
use millstream_formats::text::parse_timestamp;
use std::sync::Arc;
use std::time::Duration;

const HISTORY: &str = "history.";
const LIVE: &str = "live.";
const HANDOVER: &str = "handover";
const PARTITION_COLUMN: &str = "handover.partition-column";
const OFFSET_COLUMN: &str = "handover.offset-column";
const TIME_COLUMN: &str = "handover.time-column";
const TIME: &str = "handover.time";
const ID_COLUMN: &str = "handover.id-column";
pub const ID_MEMORY: &str = "handover.id-memory";
pub const ID_MEMORY_BYTES: &str = "handover.id-memory-bytes";
const OVERLAP: &str = "handover.overlap";
const STARTUP: &str = "scan.startup.mode";

const OWN: [&str; 11] = [
    HANDOVER,
    PARTITION_COLUMN,
    OFFSET_COLUMN,
    TIME_COLUMN,
    TIME,
    ID_COLUMN,
    ID_MEMORY,
    ID_MEMORY_BYTES,
    OVERLAP,
    "history.connector",
    "live.connector",
];

/// How far back from the history's greatest event time ids are remembered.
const ID_MEMORY_DEFAULT: Duration = Duration::from_secs(600);
/// Bytes that remembered ids may take.
const ID_MEMORY_BYTES_DEFAULT: ByteSize = ByteSize::mib(256);
/// How far event times may be ahead of the timestamps of their records, where the handover goes by event time.
const OVERLAP_DEFAULT: Duration = Duration::from_secs(300);

/// How the live leg begins where the history ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Handover {
    /// Right behind the greatest offset of each partition that the history holds.
    Offset { partition: String, offset: String, time: Option<String> },
    /// Live rows whose ids the end of the history holds are left out.
    Id { id: String, time: String, memory: Millis, bytes_max: ByteSize },
    /// The history before a time, the live leg from it on. `None`: the greatest time of the history.
    EventTime { time: String, at: Option<Millis> },
}

impl Handover {
    /// As the option says it.
    pub fn kind(&self) -> &'static str {
        match self {
            Handover::Offset { .. } => "offset",
            Handover::Id { .. } => "id",
            Handover::EventTime { .. } => "event-time",
        }
    }

    pub fn time_column(&self) -> Option<&str> {
        match self {
            Handover::Offset { time, .. } => time.as_deref(),
            Handover::Id { time, .. } | Handover::EventTime { time, .. } => Some(time),
        }
    }
}

#[derive(Debug, Clone)]
pub struct Settings {
    pub handover: Handover,
    /// How far before the history's greatest time the live leg begins. `None`: it begins where the table says.
    pub overlap: Option<Millis>,
    /// The table of each leg, with all columns that are to be read of it.
    pub history: TableSpec,
    pub live: TableSpec,
    pub wanted: Wanted,
}

impl Settings {
    pub fn of(table: &TableSpec) -> Result<Settings> {
        check_own(table)?;
        let handover = handover(table)?;
        let (history, live) = (leg(table, HISTORY), leg(table, LIVE));
        let overlap = overlap(table, &handover, &live)?;
        let wanted = Wanted::of(table, &handover)?;
        let settings = Settings {
            history: history_table(table, history, &handover, &wanted)?,
            live: live_table(table, live, &handover, &wanted)?,
            handover,
            overlap,
            wanted,
        };
        settings.check_legs()?;
        Ok(settings)
    }

    fn check_legs(&self) -> Result<()> {
        of_history(&self.history, Filesystem.validate(&self.history, TableUse::Source))?;
        if let Some(key) = ["source.monitor-interval"].iter().find(|k| self.history.options.contains_key(**k)) {
            return Err(Error::sql(format!("'{HISTORY}{key}' is set, and a history has an end"))
                .remedy("leave it out: what comes later comes from the live leg"));
        }
        if self.history.option("path").is_some_and(|p| p.trim() == "-") {
            return Err(Error::sql(format!("'{HISTORY}path' is the standard input, which can be read once only"))
                .remedy("put the history into files"));
        }
        of_live(&self.live, Kafka::new(false).validate(&self.live, TableUse::Source))
    }
}

fn check_own(table: &TableSpec) -> Result<()> {
    let mut own = table.clone();
    own.options.retain(|key, _| !key.starts_with(HISTORY) && !key.starts_with(LIVE));
    let known: Vec<&str> = OWN.iter().copied().chain(["history.*", "live.*"]).collect();
    check_keys(&own, &known)?;
    for (key, only) in [("history.connector", "filesystem"), ("live.connector", "kafka")] {
        let said = required(table, key, only)?;
        if said != only {
            let guess = did_you_mean(said, [only]).map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
            return Err(Error::sql(format!("'{key}' cannot be '{said}'"))
                .remedy(format!("{guess}A history is read from 'filesystem', and goes on with 'kafka'")));
        }
    }
    if !table.primary_key.is_empty() {
        return Err(Error::sql(format!("`{}` has a PRIMARY KEY, and its rows are only added", table.name))
            .remedy("leave the key out"));
    }
    Ok(())
}

/// The table as one of its legs sees it: its options, without the prefix.
fn leg(table: &TableSpec, prefix: &str) -> TableSpec {
    let mut leg = table.clone();
    leg.options = table
        .options
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(prefix)?.to_owned(), value.clone())))
        .chain(table.options.get_key_value(BAD_ROWS).map(|(k, v)| (k.clone(), v.clone())))
        .collect();
    leg
}

/// What comes of the history's connector, with keys as the table has them.
pub fn of_history<T>(leg: &TableSpec, result: Result<T>) -> Result<T> {
    named(HISTORY, leg, result)
}

/// The same of the live leg's.
pub fn of_live<T>(leg: &TableSpec, result: Result<T>) -> Result<T> {
    named(LIVE, leg, result)
}

/// An error of a leg, with keys as the table has them.
fn named<T>(prefix: &str, leg: &TableSpec, result: Result<T>) -> Result<T> {
    let whole = |text: &str| whole_keys(prefix, leg, text);
    result.map_err(|e| {
        let named = Error::new(e.kind(), whole(e.what()));
        let named = match e.help() {
            // A list of all options has them as the leg's own connector calls them.
            Some(help) if help.contains("t has ") => named.remedy(format!("{} (each behind '{prefix}')", whole(help))),
            Some(help) => named.remedy(whole(help)),
            None => named,
        };
        match e.place() {
            Some(place) => named.at(place.clone()),
            None => named,
        }
    })
}

/// A text in which quoted keys of a leg get its prefix: `'pth'` becomes `'history.pth'`.
fn whole_keys(prefix: &str, leg: &TableSpec, text: &str) -> String {
    const KEYS: [&str; 4] = ["path", "format", "topic", "topic-pattern"];
    const FAMILIES: [&str; 10] =
        ["scan.", "properties.", "key.", "value.", "source.", "sink.", "json.", "csv.", "parquet.", "lookup."];
    let is_key = |word: &str| {
        leg.options.contains_key(word)
            || KEYS.contains(&word)
            || FAMILIES.iter().any(|f| word.len() > f.len() && word.starts_with(f) && !word.contains(' '))
    };
    let mut out = String::with_capacity(text.len() + 16);
    for (i, part) in text.split('\'').enumerate() {
        if i > 0 {
            out.push('\'');
        }
        // Every other part stands between quotes. A value may be called as a key is; it stands behind `=`.
        if i % 2 == 1 && is_key(part) && !out.ends_with("= '") {
            out.push_str(prefix);
        }
        out.push_str(part);
    }
    out
}

fn handover(table: &TableSpec) -> Result<Handover> {
    let known = ["offset", "id", "event-time"];
    let kind = required(table, HANDOVER, "offset")?;
    let unused: &[&str] = match kind {
        "offset" => &[TIME, ID_COLUMN, ID_MEMORY, ID_MEMORY_BYTES, OVERLAP],
        "id" => &[TIME, PARTITION_COLUMN, OFFSET_COLUMN],
        "event-time" => &[ID_COLUMN, ID_MEMORY, ID_MEMORY_BYTES, PARTITION_COLUMN, OFFSET_COLUMN],
        other => {
            let guess = did_you_mean(other, known).map(|g| format!("did you mean '{g}'? ")).unwrap_or_default();
            return Err(Error::sql(format!("'{HANDOVER}' cannot be '{other}'"))
                .remedy(format!("{guess}There are {}", known.join(", "))));
        }
    };
    if let Some(key) = unused.iter().find(|k| table.options.contains_key(**k)) {
        return Err(Error::sql(format!("'{key}' is set, and '{HANDOVER}' = '{kind}' has no use for it"))
            .remedy("leave it out, or hand over in another way"));
    }
    let time = timed(table, TIME_COLUMN)?;
    let needs_time = || {
        time.clone().ok_or_else(|| {
            Error::sql(format!("'{HANDOVER}' = '{kind}' needs to know which column holds the event time"))
                .remedy(format!("add '{TIME_COLUMN}' = '…': a TIMESTAMP column, or BIGINT milliseconds since 1970"))
        })
    };
    let millis = |d: Duration| Millis::try_from(d.as_millis()).unwrap_or(Millis::MAX / 4).min(Millis::MAX / 4);
    Ok(match kind {
        "offset" => {
            let column = |key: &str, example| required(table, key, example).map(|c| c.trim().to_owned());
            let (partition, offset) = (column(PARTITION_COLUMN, "partition")?, column(OFFSET_COLUMN, "offset")?);
            if partition == offset {
                return Err(Error::sql(format!("'{PARTITION_COLUMN}' and '{OFFSET_COLUMN}' are both `{offset}`"))
                    .remedy("name the two columns of the history that hold them"));
            }
            Handover::Offset { partition, offset, time }
        }
        "id" => {
            let id = required(table, ID_COLUMN, "order_id")?.trim().to_owned();
            let memory = duration(table, ID_MEMORY)?.unwrap_or(ID_MEMORY_DEFAULT);
            let bytes_max = size(table, ID_MEMORY_BYTES)?.unwrap_or(ID_MEMORY_BYTES_DEFAULT);
            if memory.is_zero() || bytes_max.0 == 0 {
                let key = if memory.is_zero() { ID_MEMORY } else { ID_MEMORY_BYTES };
                return Err(Error::sql(format!("'{key}' cannot be zero"))
                    .remedy(format!("write for example '{ID_MEMORY}' = '10 min', '{ID_MEMORY_BYTES}' = '256mb'")));
            }
            Handover::Id { id, time: needs_time()?, memory: millis(memory), bytes_max }
        }
        _ => {
            let at = match table.option(TIME) {
                None => None,
                Some(text) => {
                    let text = text.trim().trim_end_matches('Z');
                    Some(parse_timestamp(text.as_bytes(), TimeUnit::Millisecond).ok_or_else(|| {
                        Error::sql(format!("'{TIME}' cannot be '{text}'"))
                            .remedy("write for example '2026-01-31 00:00:00', in UTC where the column has a time zone")
                    })?)
                }
            };
            Handover::EventTime { time: needs_time()?, at }
        }
    })
}

fn overlap(table: &TableSpec, handover: &Handover, live: &TableSpec) -> Result<Option<Millis>> {
    let said = duration(table, OVERLAP)?;
    if let (Some(mode), true) = (live.option(STARTUP), matches!(handover, Handover::Offset { .. })) {
        return Err(Error::sql(format!(
            "'{LIVE}{STARTUP}' = '{mode}' is set, and '{HANDOVER}' = 'offset' begins behind the history"
        ))
        .remedy("leave it out"));
    }
    if live.option(STARTUP).is_some() {
        return match said {
            None => Ok(None),
            Some(_) => Err(Error::sql(format!("'{OVERLAP}' and '{LIVE}{STARTUP}' both say where the live leg begins"))
                .remedy("leave one of the two out")),
        };
    }
    let default = match handover {
        // By the other half rows may come out of order and still be told from those of the history.
        Handover::Id { memory, .. } => Duration::from_millis(*memory as u64 / 2),
        _ => OVERLAP_DEFAULT,
    };
    let overlap = said.unwrap_or(default).as_millis().min((Millis::MAX / 4) as u128) as Millis;
    if let Handover::Id { memory, .. } = handover
        && overlap > *memory
    {
        return Err(Error::sql(format!(
            "'{OVERLAP}' is longer than '{ID_MEMORY}', so rows would come whose ids are forgotten"
        ))
        .remedy(format!("make '{ID_MEMORY}' at least as long")));
    }
    Ok(Some(overlap))
}

/// The history's files: columns of the live leg's METADATA are stored ones here, and offsets may be there that the table
/// does not declare.
fn history_table(table: &TableSpec, mut leg: TableSpec, handover: &Handover, wanted: &Wanted) -> Result<TableSpec> {
    let mut fields: Vec<Field> = table.schema.fields().iter().map(|f| f.as_ref().clone()).collect();
    let stored = fields.len();
    fields.extend(table.metadata.iter().filter(|(key, _)| key != ROW_ORDER).map(|(_, f)| f.clone()));
    if let Handover::Offset { partition, offset, .. } = handover {
        for name in [partition, offset] {
            if !fields.iter().any(|f| f.name() == name) {
                fields.push(Field::new(name, DataType::Int64, true));
            }
        }
    }
    if fields.len() > stored && leg.option("format") == Some("csv") {
        let name = fields[stored].name();
        return Err(Error::sql(format!(
            "'{HISTORY}format' = 'csv' finds columns by their place, and `{name}` has none in the table's stored columns"
        ))
        .remedy("keep the history as Parquet or JSON, where columns go by name"));
    }
    let schema = Schema::new(fields);
    leg.projection = Some(wanted.history.iter().map(|name| Ok(schema.index_of(name)?)).collect::<Result<_>>()?);
    leg.schema = Arc::new(schema);
    leg.metadata.retain(|(key, _)| key == ROW_ORDER);
    Ok(leg)
}

fn live_table(table: &TableSpec, mut leg: TableSpec, handover: &Handover, wanted: &Wanted) -> Result<TableSpec> {
    leg.partitioned_by = Vec::new();
    leg.projection = Some(wanted.live.iter().map(|name| Ok(table.schema.index_of(name)?)).collect::<Result<_>>()?);
    // It begins where the history ends; the connector by itself wants to be told.
    leg.options.entry(STARTUP.into()).or_insert_with(|| "earliest-offset".into());
    if matches!(handover, Handover::Offset { .. })
        && (leg.options.contains_key("topic-pattern") || leg.option("topic").is_some_and(|t| t.contains(';')))
    {
        return Err(Error::sql(format!("'{HANDOVER}' = 'offset' needs one topic, and there may be several"))
            .remedy("name the topic that the history was made of with 'live.topic'; declare a table for each topic"));
    }
    Ok(leg)
}
