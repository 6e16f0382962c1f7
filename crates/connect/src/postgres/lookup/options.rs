//! The options of a look-up, with Flink's names: how much is remembered and how often is asked again.

use crate::options::{duration, number};
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Result, TableSpec};
use std::time::Duration;

pub const CACHE: &str = "lookup.cache";
pub const MAX_ROWS: &str = "lookup.partial-cache.max-rows";
pub const AFTER_WRITE: &str = "lookup.partial-cache.expire-after-write";
pub const AFTER_ACCESS: &str = "lookup.partial-cache.expire-after-access";
pub const MISSING: &str = "lookup.partial-cache.cache-missing-key";
pub const MAX_RETRIES: &str = "lookup.max-retries";
/// What Flink called them before.
const OLD_MAX_ROWS: &str = "lookup.cache.max-rows";
const OLD_TTL: &str = "lookup.cache.ttl";
const OLD_MISSING: &str = "lookup.cache.caching-missing-key";

pub const KNOWN: [&str; 9] =
    [CACHE, MAX_ROWS, AFTER_WRITE, AFTER_ACCESS, MISSING, MAX_RETRIES, OLD_MAX_ROWS, OLD_TTL, OLD_MISSING];

/// Rows that a task remembers where the options do not say. Flink then remembers all.
const MAX_ROWS_DEFAULT: usize = 100_000;
const MAX_RETRIES_DEFAULT: u32 = 3;
const MAX_RETRIES_MAX: u32 = 1_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookupSettings {
    /// `None`: every key is asked for each time.
    pub cache: Option<CacheSettings>,
    pub retries: u32,
}

/// What one task remembers of the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheSettings {
    /// A key without rows counts as one.
    pub rows_max: usize,
    pub after_write: Option<Duration>,
    pub after_access: Option<Duration>,
    /// Whether it is remembered that a key has no rows.
    pub missing: bool,
}

impl LookupSettings {
    pub fn of(table: &TableSpec) -> Result<LookupSettings> {
        let retries = number::<u32>(table, MAX_RETRIES, "a number, such as 3")?.unwrap_or(MAX_RETRIES_DEFAULT);
        if retries > MAX_RETRIES_MAX {
            return Err(Error::sql(format!("'{MAX_RETRIES}' cannot be {retries}"))
                .remedy(format!("use a number up to {MAX_RETRIES_MAX}")));
        }
        Ok(LookupSettings { cache: cache(table)?, retries })
    }
}

fn cache(table: &TableSpec) -> Result<Option<CacheSettings>> {
    let either = |new: &'static str, old: &'static str| match (table.option(new), table.option(old)) {
        (Some(_), Some(_)) => Err(Error::sql(format!("'{new}' and '{old}' say the same"))
            .remedy(format!("leave '{old}' out, which is the older name"))),
        (None, Some(_)) => Ok(old),
        _ => Ok(new),
    };
    let (max_rows, after_write, missing) =
        (either(MAX_ROWS, OLD_MAX_ROWS)?, either(AFTER_WRITE, OLD_TTL)?, either(MISSING, OLD_MISSING)?);
    let settings = CacheSettings {
        rows_max: number::<usize>(table, max_rows, "a number of rows, such as 10000")?.unwrap_or(MAX_ROWS_DEFAULT),
        after_write: positive(table, after_write)?,
        after_access: positive(table, AFTER_ACCESS)?,
        missing: match table.option(missing).map(str::to_ascii_lowercase).as_deref() {
            None | Some("true") => true,
            Some("false") => false,
            Some(other) => {
                return Err(Error::sql(format!("'{missing}' cannot be '{other}'")).remedy("use 'true' or 'false'"));
            }
        },
    };
    if settings.rows_max == 0 {
        return Err(Error::sql(format!("'{max_rows}' cannot be 0"))
            .remedy(format!("write '{CACHE}' = 'NONE' to remember nothing")));
    }
    let of_partial = [MAX_ROWS, AFTER_WRITE, AFTER_ACCESS, MISSING].into_iter().find(|k| table.option(k).is_some());
    match table.option(CACHE).map(str::to_ascii_uppercase).as_deref() {
        Some("PARTIAL") => Ok(Some(settings)),
        None | Some("NONE") if of_partial.is_some() => {
            let key = of_partial.unwrap_or_default();
            Err(Error::sql(format!("'{key}' is set, and nothing is remembered: '{CACHE}' is 'NONE'"))
                .remedy(format!("add '{CACHE}' = 'PARTIAL', or leave '{key}' out")))
        }
        Some("NONE") => Ok(None),
        // As in Flink: both of the older options together ask for it.
        None => Ok((table.option(OLD_MAX_ROWS).is_some() && table.option(OLD_TTL).is_some()).then_some(settings)),
        Some("FULL") => Err(Error::sql(format!("'{CACHE}' cannot be 'FULL': PostgreSQL is asked by key"))
            .remedy("use 'PARTIAL' to remember what was asked for, or 'NONE'")),
        Some(other) => {
            let guess = did_you_mean(other, ["NONE", "PARTIAL"]).map(|g| format!("did you mean '{g}'? "));
            Err(Error::sql(format!("'{CACHE}' cannot be '{other}'"))
                .remedy(format!("{}There are NONE and PARTIAL", guess.unwrap_or_default())))
        }
    }
}

fn positive(table: &TableSpec, key: &str) -> Result<Option<Duration>> {
    match duration(table, key)? {
        Some(d) if d.is_zero() => Err(Error::sql(format!("'{key}' cannot be zero"))
            .remedy(format!("write for example '10 min', or '{CACHE}' = 'NONE' to remember nothing"))),
        other => Ok(other),
    }
}
