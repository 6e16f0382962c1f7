//! What is said on standard error: as text for people, or one JSON object a line for whoever collects logs.
//!
//! ```text
//!  text   warning: checkpoint 7 was given up: no space left      json   {"timestamp":"2026-11-26T10:00:00.000Z",
//!           help: see that …                                             "level":"warn","target":"millstream", …}
//! ```
//!
//! Everything that this program says of itself goes through here, the last error too, so that in JSON every line can be
//! parsed. What it never says: rows, statements and secrets. Errors are written by those who know what in them is secret.
//!
//! Not here: rows that a table writes to standard error (`'connector' = 'print'` with `'standard-error'`).

use clap::ValueEnum;
use millstream::Error;
use millstream_core::time::format_millis;
use serde_json::{Map, Value};
use std::io::Write;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// How much is said; each level with those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, ValueEnum)]
pub enum Level {
    /// What ends the job.
    Error,
    /// What went wrong and was lived with.
    Warn,
    /// Progress, and what is worth knowing.
    #[default]
    Info,
    /// Each checkpoint, too.
    Debug,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
        }
    }
}

static HOW: OnceLock<(LogFormat, Level)> = OnceLock::new();
/// The job that is at work.
static JOB: Mutex<Option<String>> = Mutex::new(None);

/// Once, before anything is said. What comes of a panic is said the same way.
pub fn begin(format: LogFormat, level: Level) {
    if HOW.set((format, level)).is_ok() && format == LogFormat::Json {
        std::panic::set_hook(Box::new(|panic| {
            let what = panic.payload();
            let what =
                what.downcast_ref::<&str>().copied().or_else(|| what.downcast_ref::<String>().map(String::as_str));
            let mut event = Event::new(Level::Error, format!("panicked: {}", what.unwrap_or("unknown")));
            event.set("place", panic.location().map(ToString::to_string));
            event.say("");
        }));
    }
}

/// From now on every event says which job it is of.
pub fn of_job(name: Option<&str>) {
    *JOB.lock().unwrap_or_else(PoisonError::into_inner) = name.map(str::to_owned);
}

fn how() -> (LogFormat, Level) {
    HOW.get().copied().unwrap_or_default()
}

pub fn is_json() -> bool {
    how().0 == LogFormat::Json
}

/// Something that is said.
pub struct Event {
    level: Level,
    fields: Map<String, Value>,
    message: String,
}

impl Event {
    pub fn new(level: Level, message: impl Into<String>) -> Event {
        Event { level, message: message.into(), fields: Map::new() }
    }

    /// An error with what it knows.
    pub fn of_error(e: &Error) -> Event {
        let mut event = Event::new(Level::Error, e.what());
        event.set("kind", Some(format!("{:?}", e.kind()).to_lowercase()));
        event.set("place", e.place().map(ToString::to_string));
        event.set("remedy", e.help());
        event
    }

    /// Adds a field, where there is a value.
    pub fn set(&mut self, key: &str, value: Option<impl Into<Value>>) {
        if let Some(value) = value {
            self.fields.insert(key.to_owned(), value.into());
        }
    }

    pub fn with(mut self, key: &str, value: impl Into<Value>) -> Event {
        self.set(key, Some(value));
        self
    }

    /// Says it, if so much is to be said; `text` is how it is put to people.
    pub fn say(self, text: &str) {
        if let Some(line) = self.line(text) {
            // Whoever closed standard error wants to hear nothing.
            let _ = writeln!(std::io::stderr(), "{line}");
        }
    }

    /// What is written, without the end of its line.
    pub fn line(self, text: &str) -> Option<String> {
        let (format, most) = how();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as i64);
        let job = JOB.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (self.level <= most).then(|| match format {
            LogFormat::Text => text.to_owned(),
            LogFormat::Json => self.json(now, job),
        })
    }

    fn json(self, now: i64, job: Option<String>) -> String {
        let mut all = Map::new();
        let mut put = |key: &str, value: String| all.insert(key.to_owned(), Value::String(value));
        put("timestamp", format_millis(now).replacen(' ', "T", 1) + "Z");
        put("level", self.level.name().to_owned());
        put("target", "millstream".to_owned());
        put("message", self.message);
        if let Some(job) = job {
            put("job", job);
        }
        all.extend(self.fields);
        Value::Object(all).to_string()
    }
}

/// Something worth knowing.
pub fn note(text: &str) {
    Event::new(Level::Info, text).say(&format!("note: {text}"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_parses() {
        let e = Error::io("no \"space\"\nleft").at(millstream::Place("s3://state".into())).remedy("buy a disk");
        let line = Event::of_error(&e).with("epoch", 7).json(1_357_035_300_123, Some("orders".into()));
        assert!(!line.contains('\n'));
        let parsed: Value = serde_json::from_str(&line).expect("JSON");
        let wanted = serde_json::json!({
            "timestamp": "2013-01-01T10:15:00.123Z", "level": "error", "target": "millstream", "kind": "io", "epoch": 7,
            "message": "no \"space\"\nleft", "job": "orders", "place": "s3://state", "remedy": "buy a disk",
        });
        assert_eq!(parsed, wanted);
    }
}
