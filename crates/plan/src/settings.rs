//! What `SET 'key' = 'value'` changes.
//!
//! ```text
//!  a key of ours or one of Flink's that we follow ──▶ Settings, checked and typed
//!  a key of Flink's that steers Flink's own runtime ──▶ taken, without effect, with a notice
//!  anything else ──▶ an error with "did you mean"
//! ```
//!
//! So one SQL file serves both engines, and a slip of the keyboard is still an error.

use crate::statement::Settings;
use millstream_core::error::did_you_mean;
use millstream_core::{Error, Millis, Result};
use millstream_dataflow::graph::NotNull;

/// The keys that have an effect, with what they expect.
pub const KEYS: [(&str, &str); 23] = [
    ("table.local-time-zone", "a time zone such as 'Europe/Berlin', 'UTC' or '+02:00'"),
    ("table.exec.source.idle-timeout", "a length of time such as '30 s'; '0 ms' is off"),
    ("table.exec.emit.allow-lateness", "a length of time such as '1 h'; '0 ms' is off"),
    ("table.exec.emit.early-fire.enabled", "'true' or 'false'"),
    ("table.exec.emit.early-fire.delay", "a length of time such as '10 s'; '0 ms' is with each row"),
    ("table.exec.emit.late-fire.enabled", "'true' or 'false'"),
    ("table.exec.emit.late-fire.delay", "a length of time such as '10 s'; '0 ms' is with each row"),
    ("table.exec.source.cdc-events-duplicate", "'true' or 'false'"),
    ("table.exec.state.ttl", "a length of time such as '1 d'; '0 ms' is off"),
    ("table.exec.sink.not-null-enforcer", "'ERROR' or 'DROP'"),
    ("millstream.watermark.wall-clock-fallback", "a length of time such as '5 s', or 'off'"),
    ("millstream.late-rows.table", "the name of a declared table"),
    ("millstream.bad-rows.table", "the name of a declared table"),
    ("parallelism.default", "a whole number from 1, or '-1' for the number of cores"),
    ("execution.runtime-mode", "'streaming' or 'batch'"),
    ("pipeline.name", "a name"),
    ("execution.checkpointing.dir", "a folder or the URL of an object store"),
    ("execution.checkpointing.interval", "a length of time such as '10 s'"),
    ("execution.checkpointing.timeout", "a length of time such as '10 min'"),
    ("execution.checkpointing.min-pause", "a length of time such as '500 ms'"),
    ("execution.checkpointing.num-retained", "a whole number from 1"),
    ("state.checkpoints.dir", "a folder or the URL of an object store"),
    ("state.checkpoints.num-retained", "a whole number from 1"),
];

/// Beginnings of Flink's keys that steer what we do not have.
const FOREIGN: [&str; 33] = [
    "akka.",
    "blob.",
    "classloader.",
    "client.",
    "cluster.",
    "containerized.",
    "env.",
    "execution.",
    "fs.",
    "heartbeat.",
    "high-availability",
    "historyserver.",
    "io.",
    "job-result-store.",
    "jobmanager.",
    "jobstore.",
    "kubernetes.",
    "metrics.",
    "parallelism.",
    "pekko.",
    "pipeline.",
    "python.",
    "rest.",
    "restart-strategy",
    "s3.",
    "security.",
    "sql-client.",
    "sql-gateway.",
    "state.",
    "table.",
    "taskmanager.",
    "web.",
    "yarn.",
];

/// The most parallel tasks that can be asked for: key groups are 256.
const PARALLELISM_MAX: usize = 256;

/// A key of Flink's that was taken and has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It steers Flink's own runtime. A script may have many of these: see [`without_effect`].
    Foreign,
    /// It looks like a slip; what was meant, as a sentence.
    Slip(String),
}

/// The one line that tells of all keys that were taken without effect, in the order of the script.
pub fn without_effect(keys: &[String]) -> Option<String> {
    let mut named: Vec<String> = Vec::with_capacity(keys.len());
    for key in keys {
        let key = format!("'{key}'");
        if !named.contains(&key) {
            named.push(key);
        }
    }
    match named.as_slice() {
        [] => None,
        [key] => Some(format!("{key} has no effect here: it steers Flink's own runtime")),
        many => Some(format!("{} have no effect here: they steer Flink's own runtime", many.join(", "))),
    }
}

impl Settings {
    /// Sets one key. Says what is worth knowing of it.
    ///
    /// # Errors
    /// An unknown key, or a value that the key does not take.
    pub fn set(&mut self, key: &str, value: &str) -> Result<Option<Taken>> {
        let wrong =
            |remedy: &str| Error::sql(format!("'{value}' is not possible for '{key}'")).remedy(remedy.to_string());
        match key {
            "table.local-time-zone" => self.local_time_zone = time_zone(value)?,
            "table.exec.source.idle-timeout" => self.idle_timeout = duration(key, value)?,
            "table.exec.emit.allow-lateness" => self.allowed_lateness = duration(key, value)?,
            "table.exec.emit.early-fire.enabled" => self.early_fire = truth(key, value)?,
            "table.exec.emit.early-fire.delay" => self.early_fire_delay = Some(duration(key, value)?),
            "table.exec.emit.late-fire.enabled" => self.late_fire = truth(key, value)?,
            "table.exec.emit.late-fire.delay" => self.late_fire_delay = Some(duration(key, value)?),
            "table.exec.source.cdc-events-duplicate" => self.changes_by_key = truth(key, value)?,
            "table.exec.state.ttl" => self.state_ttl = Some(duration(key, value)?).filter(|ms| *ms > 0),
            "millstream.watermark.wall-clock-fallback" => {
                self.wall_clock_fallback = match value.to_lowercase().as_str() {
                    "off" | "false" | "none" => None,
                    _ => Some(duration(key, value)?),
                }
            }
            "table.exec.sink.not-null-enforcer" => {
                self.not_null = match value.to_lowercase().as_str() {
                    "error" => NotNull::Error,
                    "drop" => NotNull::Drop,
                    _ => {
                        return Err(wrong(
                            "give 'ERROR', to fail the job, or 'DROP', to leave such rows out and count them",
                        ));
                    }
                }
            }
            "millstream.late-rows.table" => self.late_rows_table = Some(table_name(key, value)?),
            "millstream.bad-rows.table" => self.bad_rows_table = Some(table_name(key, value)?),
            "parallelism.default" => {
                self.parallelism = match value.trim().parse::<i64>() {
                    Ok(-1) => None,
                    Ok(n) if n >= 1 && n <= PARALLELISM_MAX as i64 => Some(n as usize),
                    _ => return Err(wrong(&format!("give a whole number from 1 to {PARALLELISM_MAX}"))),
                }
            }
            "execution.runtime-mode" => {
                self.batch = match value.to_lowercase().as_str() {
                    "streaming" => false,
                    "batch" => true,
                    "automatic" => {
                        return Err(wrong("say which is meant: 'streaming' or 'batch'"));
                    }
                    _ => return Err(wrong("give 'streaming' or 'batch'")),
                }
            }
            "pipeline.name" => self.job_name = Some(value.to_string()),
            "execution.checkpointing.dir" | "state.checkpoints.dir" => {
                if value.trim().is_empty() {
                    return Err(wrong("name a folder"));
                }
                self.checkpoint_dir = Some(value.trim().to_string());
            }
            "execution.checkpointing.interval" => self.checkpoint_interval = Some(duration(key, value)?),
            "execution.checkpointing.timeout" => self.checkpoint_timeout = Some(duration(key, value)?),
            "execution.checkpointing.min-pause" => self.checkpoint_min_pause = Some(duration(key, value)?),
            "execution.checkpointing.num-retained" | "state.checkpoints.num-retained" => {
                self.checkpoints_kept = match value.trim().parse::<usize>() {
                    Ok(n) if n >= 1 => Some(n),
                    _ => return Err(wrong("give a whole number from 1")),
                }
            }
            "table.sql-dialect" if !value.eq_ignore_ascii_case("default") => {
                return Err(wrong("there is one dialect: 'default'"));
            }
            _ => return foreign(key).map(Some),
        }
        Ok(None)
    }

    /// Sets one key back to its default; an empty key means all.
    ///
    /// # Errors
    /// An unknown key.
    pub fn reset(&mut self, key: &str) -> Result<()> {
        let default = Settings::default();
        match key {
            "" => *self = default,
            "table.local-time-zone" => self.local_time_zone = default.local_time_zone,
            "table.exec.source.idle-timeout" => self.idle_timeout = default.idle_timeout,
            "table.exec.emit.allow-lateness" => self.allowed_lateness = default.allowed_lateness,
            "table.exec.emit.early-fire.enabled" => self.early_fire = default.early_fire,
            "table.exec.emit.early-fire.delay" => self.early_fire_delay = default.early_fire_delay,
            "table.exec.emit.late-fire.enabled" => self.late_fire = default.late_fire,
            "table.exec.emit.late-fire.delay" => self.late_fire_delay = default.late_fire_delay,
            "table.exec.source.cdc-events-duplicate" => self.changes_by_key = default.changes_by_key,
            "table.exec.state.ttl" => self.state_ttl = default.state_ttl,
            "millstream.watermark.wall-clock-fallback" => self.wall_clock_fallback = default.wall_clock_fallback,
            "table.exec.sink.not-null-enforcer" => self.not_null = default.not_null,
            "millstream.late-rows.table" => self.late_rows_table = default.late_rows_table,
            "millstream.bad-rows.table" => self.bad_rows_table = default.bad_rows_table,
            "parallelism.default" => self.parallelism = default.parallelism,
            "execution.runtime-mode" => self.batch = default.batch,
            "pipeline.name" => self.job_name = default.job_name,
            "execution.checkpointing.dir" | "state.checkpoints.dir" => self.checkpoint_dir = default.checkpoint_dir,
            "execution.checkpointing.interval" => self.checkpoint_interval = default.checkpoint_interval,
            "execution.checkpointing.timeout" => self.checkpoint_timeout = default.checkpoint_timeout,
            "execution.checkpointing.min-pause" => self.checkpoint_min_pause = default.checkpoint_min_pause,
            "execution.checkpointing.num-retained" | "state.checkpoints.num-retained" => {
                self.checkpoints_kept = default.checkpoints_kept;
            }
            _ => drop(foreign(key)?),
        }
        Ok(())
    }
}

/// What to say of a key of Flink's, or the error for a key of nobody's.
fn foreign(key: &str) -> Result<Taken> {
    let meant = did_you_mean(key, KEYS.iter().map(|(k, _)| *k));
    if FOREIGN.iter().any(|prefix| key.starts_with(prefix)) && !key.ends_with('.') {
        // A long beginning or end in common makes no slip of a key that Flink has: `execution.checkpointing.mode` is not
        // `.dir`. Each part of it has to be meant.
        let parts = |key: &str| key.split('.').map(str::to_owned).collect::<Vec<_>>();
        let alike = |(one, other): (String, String)| one == other || did_you_mean(&one, [other.as_str()]).is_some();
        let slip = |meant: &&str| {
            let (key, meant) = (parts(key), parts(meant));
            key.len() == meant.len() && key.into_iter().zip(meant).all(alike)
        };
        return Ok(match meant.filter(slip) {
            Some(meant) => Taken::Slip(format!("'{key}' has no effect here; did you mean '{meant}'?")),
            None => Taken::Foreign,
        });
    }
    let remedy = match meant {
        Some(meant) => format!("did you mean '{meant}'?"),
        None if key.starts_with("millstream.") => {
            let ours = KEYS.iter().map(|(k, _)| *k).filter(|k| k.starts_with("millstream."));
            format!("keys of our own are {}", ours.collect::<Vec<_>>().join(", "))
        }
        None => format!("keys are {}, and Flink's", KEYS.map(|(k, _)| k).join(", ")),
    };
    Err(Error::sql(format!("the setting '{key}' is unknown")).remedy(remedy))
}

fn truth(key: &str, value: &str) -> Result<bool> {
    match value.trim().to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Error::sql(format!("'{value}' is not possible for '{key}'")).remedy("give 'true' or 'false'")),
    }
}

fn table_name(key: &str, value: &str) -> Result<String> {
    let name = value.trim().trim_matches('`');
    if name.is_empty() {
        return Err(Error::sql(format!("'{key}' names no table")).remedy("give the name of a declared table"));
    }
    Ok(name.to_string())
}

/// An IANA name, `UTC`, `Z`, `+02:00` or `GMT+2`; Flink's `default` is UTC here, so that results never depend on the
/// machine.
fn time_zone(value: &str) -> Result<String> {
    let value = value.trim();
    if ["default", "utc", "z", "gmt"].contains(&value.to_lowercase().as_str()) {
        return Ok("UTC".into());
    }
    if let Some(offset) = offset(value.strip_prefix("GMT").or(value.strip_prefix("UTC")).unwrap_or(value)) {
        return Ok(offset);
    }
    if value.parse::<chrono_tz::Tz>().is_ok() {
        return Ok(value.to_string());
    }
    let remedy = match did_you_mean(value, chrono_tz::TZ_VARIANTS.iter().map(|tz| tz.name())) {
        Some(meant) => format!("did you mean '{meant}'?"),
        None => "give a name such as 'Europe/Berlin', or an offset such as '+02:00'".into(),
    };
    Err(Error::sql(format!("the time zone '{value}' is unknown")).remedy(remedy))
}

/// `+2`, `+02`, `-0800`, `+05:30`, written out as `+05:30`.
fn offset(text: &str) -> Option<String> {
    let (sign, digits) = match text.split_at_checked(1)? {
        (sign @ ("+" | "-"), digits) => (sign, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits.split_once(':') {
        Some((hours, minutes)) if minutes.len() == 2 => (hours, minutes),
        Some(_) => return None,
        None if digits.len() == 4 => digits.split_at_checked(2)?,
        None => (digits, "00"),
    };
    let all_digits = |s: &str| (1..=2).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_digit());
    if !all_digits(hours) || !all_digits(minutes) {
        return None;
    }
    let (h, m) = (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?);
    (h <= 18 && m < 60).then(|| format!("{sign}{h:02}:{m:02}"))
}

/// A length of time as Flink writes it: `10 s`, `500ms`, `1 min`, `2 h`, `1 d`; a bare number is milliseconds.
fn duration(key: &str, value: &str) -> Result<Millis> {
    let text = value.trim();
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let unit = text[digits..].trim().to_lowercase();
    let form = "write a whole number with a unit, such as '500 ms', '10 s', '5 min', '2 h' or '1 d'";
    let wrong = || Error::sql(format!("'{value}' is no length of time for '{key}'")).remedy(form);
    let count: i64 = text[..digits].parse().map_err(|_| wrong())?;
    let millis = match unit.as_str() {
        "" | "ms" | "milli" | "millis" | "millisecond" | "milliseconds" => 1,
        "s" | "sec" | "secs" | "second" | "seconds" => 1_000,
        "m" | "min" | "minute" | "minutes" => 60_000,
        "h" | "hour" | "hours" => 3_600_000,
        "d" | "day" | "days" => 86_400_000,
        _ => return Err(wrong()),
    };
    count.checked_mul(millis).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_taken_and_typed() {
        let mut s = Settings::default();
        for (key, value) in [
            ("table.local-time-zone", "Europe/Berlin"),
            ("table.exec.source.idle-timeout", "30 s"),
            ("table.exec.emit.allow-lateness", "1h"),
            ("table.exec.emit.early-fire.enabled", "TRUE"),
            ("table.exec.emit.early-fire.delay", "10 s"),
            ("table.exec.emit.late-fire.enabled", "true"),
            ("table.exec.emit.late-fire.delay", "0 ms"),
            ("table.exec.source.cdc-events-duplicate", "true"),
            ("table.exec.state.ttl", "1 d"),
            ("table.exec.sink.not-null-enforcer", "DROP"),
            ("millstream.watermark.wall-clock-fallback", "5 min"),
            ("millstream.late-rows.table", "late"),
            ("millstream.bad-rows.table", "`bad`"),
            ("parallelism.default", "7"),
            ("execution.runtime-mode", "BATCH"),
            ("pipeline.name", "my job"),
            ("execution.checkpointing.dir", "/var/lib/jobs"),
            ("execution.checkpointing.interval", "1 s"),
            ("execution.checkpointing.timeout", "1 min"),
            ("execution.checkpointing.min-pause", "100 ms"),
            ("state.checkpoints.num-retained", "5"),
        ] {
            assert_eq!(s.set(key, value), Ok(None), "{key}");
        }
        let expected = Settings {
            local_time_zone: "Europe/Berlin".into(),
            idle_timeout: 30_000,
            wall_clock_fallback: Some(300_000),
            allowed_lateness: 3_600_000,
            early_fire: true,
            early_fire_delay: Some(10_000),
            late_fire: true,
            late_fire_delay: Some(0),
            final_results: false,
            changes_by_key: true,
            state_ttl: Some(86_400_000),
            late_rows_table: Some("late".into()),
            bad_rows_table: Some("bad".into()),
            not_null: NotNull::Drop,
            parallelism: Some(7),
            batch: true,
            job_name: Some("my job".into()),
            checkpoint_dir: Some("/var/lib/jobs".into()),
            checkpoint_interval: Some(1_000),
            checkpoint_timeout: Some(60_000),
            checkpoint_min_pause: Some(100),
            checkpoints_kept: Some(5),
        };
        assert_eq!(s, expected);
        for (key, _) in KEYS {
            s.reset(key).unwrap();
        }
        assert_eq!(s, Settings::default());
    }

    #[test]
    fn keys_of_flink_are_taken_without_effect_and_say_so() {
        let mut s = Settings::default();
        for key in [
            "execution.checkpointing.mode",
            "table.optimizer.agg-phase-strategy",
            "state.backend.type",
            "restart-strategy.type",
            "sql-client.execution.result-mode",
            "table.exec.mini-batch.enabled",
            "pipeline.object-reuse",
            "taskmanager.numberOfTaskSlots",
            "table.dml-sync",
        ] {
            assert_eq!(s.set(key, "x"), Ok(Some(Taken::Foreign)), "{key}");
        }
        assert!(s.set("table.sql-dialect", "default").unwrap().is_some());
        assert_eq!(s, Settings::default());
        assert_eq!(
            s.set("table.exec.source.idle-timout", "1 s").unwrap(),
            Some(Taken::Slip(
                "'table.exec.source.idle-timout' has no effect here; did you mean 'table.exec.source.idle-timeout'?"
                    .into()
            ))
        );
    }

    #[test]
    fn all_keys_without_effect_are_told_in_one_line() {
        let keys = |keys: &[&str]| keys.iter().map(|k| k.to_string()).collect::<Vec<_>>();
        assert_eq!(without_effect(&[]), None);
        let one = "'state.backend.type' has no effect here: it steers Flink's own runtime";
        assert_eq!(without_effect(&keys(&["state.backend.type"; 2])).as_deref(), Some(one));
        assert_eq!(
            without_effect(&keys(&["rest.port", "state.backend.type"])).as_deref(),
            Some("'rest.port', 'state.backend.type' have no effect here: they steer Flink's own runtime")
        );
    }

    #[test]
    fn time_zones_are_names_or_offsets() {
        for (given, taken) in [
            ("default", "UTC"),
            ("UTC", "UTC"),
            ("GMT+8", "+08:00"),
            ("GMT-08:00", "-08:00"),
            ("+05:30", "+05:30"),
            ("-0800", "-08:00"),
            ("Asia/Shanghai", "Asia/Shanghai"),
            ("+2", "+02:00"),
        ] {
            assert_eq!(time_zone(given).unwrap(), taken);
        }
        for wrong in ["", "Europe/Berlim", "+25:00", "+", "+1:2", "+é", "\u{1F600}"] {
            assert!(time_zone(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lengths_of_time_are_flinks() {
        for (given, millis) in
            [("5", 5), ("5ms", 5), ("5 s", 5_000), ("2 min", 120_000), ("1 h", 3_600_000), ("1 day", 86_400_000)]
        {
            assert_eq!(duration("k", given), Ok(millis));
        }
        for wrong in ["", "s", "5 x", "-5 s", "1.5 s", "99999999999999999999 s", "9223372036854775807 d", "5 ns", "é"]
        {
            assert!(duration("k", wrong).is_err(), "{wrong}");
        }
    }
}
