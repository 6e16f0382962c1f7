//! Files that are looked up: read whole, and read again where the options say so.

use super::MONITOR_INTERVAL;
use super::source::FileSource;
use crate::options::duration;
use millstream_core::error::did_you_mean;
use millstream_core::lookup::Reopen;
use millstream_core::{Error, LookedUp, Result, Source, TableSpec};
use std::time::Duration;

pub const CACHE: &str = "lookup.cache";
pub const STRATEGY: &str = "lookup.full-cache.reload-strategy";
pub const INTERVAL: &str = "lookup.full-cache.periodic-reload.interval";
/// What Flink called it before.
pub const TTL: &str = "lookup.cache.ttl";

/// After how long the files are read again. `None`: never.
pub fn reload(table: &TableSpec) -> Result<Option<Duration>> {
    let only = |key: &str, wanted: &str| match table.option(key) {
        Some(found) if !found.eq_ignore_ascii_case(wanted) => {
            let guess = did_you_mean(found, [wanted]).map(|g| format!("did you mean '{g}'? "));
            Err(Error::sql(format!("'{key}' cannot be '{found}'")).remedy(format!(
                "{}files are looked up in memory, all of them: leave it out, or use '{wanted}'",
                guess.unwrap_or_default()
            )))
        }
        _ => Ok(()),
    };
    only(CACHE, "FULL")?;
    only(STRATEGY, "PERIODIC")?;
    let (interval, ttl) = (duration(table, INTERVAL)?, duration(table, TTL)?);
    for (key, value) in [(INTERVAL, interval), (TTL, ttl)] {
        if value.is_some_and(|d| d.is_zero()) {
            return Err(Error::sql(format!("'{key}' cannot be zero"))
                .remedy("write for example '10 min', or leave it out where the files stay as they are"));
        }
    }
    if interval.is_some() && ttl.is_some() {
        return Err(Error::sql(format!("'{INTERVAL}' and '{TTL}' say the same"))
            .remedy(format!("leave '{TTL}' out, which is the older name")));
    }
    if table.option(STRATEGY).is_some() && interval.is_none() {
        return Err(Error::sql(format!("'{STRATEGY}' is set, and '{INTERVAL}' is not"))
            .remedy(format!("add '{INTERVAL}' = '10 min', or leave both out")));
    }
    Ok(interval.or(ttl))
}

pub fn open(table: &TableSpec) -> Result<LookedUp> {
    let reload = reload(table)?;
    let mut table = table.clone();
    // What is there when it is read is the table.
    table.options.remove(MONITOR_INTERVAL);
    let open: Reopen = Box::new(move || Ok(Box::new(FileSource::open(&table)?) as Box<dyn Source>));
    Ok(LookedUp::Whole { open, reload })
}
