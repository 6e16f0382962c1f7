//! A table that is written to: made where it is missing, held against its declaration, and committed to.
//!
//! ```text
//!  refresh ─▶ the epoch is in the log? done ─▶ actions ─▶ put the next version ──▶ checkpoint, if it is time
//!     ▲                                                          │ somebody was first
//!     └──────────── is the table still what is declared? ◀───────┘
//! ```
//!
//! The number of the epoch goes into the log together with its files, as the version of an application (`txn`). So after any
//! crash the log says what the table holds, and an epoch whose commit was not heard of is seen and not committed twice.
//!
//! What others commit meanwhile changes nothing for an append. An upsert depends on the files that are there, so its actions
//! are made anew from the newer version.

use super::actions::{Format, Line, Metadata, Snapshot, Txn};
use super::log::{AsOf, Log};
use super::settings::{
    CHECKPOINT_INTERVAL, CHECKPOINT_INTERVAL_DEFAULT, FILE_RETENTION, FILE_RETENTION_DEFAULT, LOG_CLEANUP,
    LOG_RETENTION, LOG_RETENTION_DEFAULT, Settings, interval,
};
use super::{protocol, schema};
use crate::filesystem::{chance, process_id};
use crate::store::now;
use millstream_core::{Error, JobRun, Millis, Place, Result, RetryPolicy};
use serde_json::json;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses between tries to be the first with the next version. Many others may be as eager.
const CONFLICT: RetryPolicy =
    RetryPolicy { first: Duration::from_millis(10), most: Duration::from_secs(1), tries_max: 60 };

/// Old commits are looked for once in so many checkpoints: that takes a listing.
const CLEAN_EVERY: u64 = 10;

pub struct Table {
    pub settings: Settings,
    pub log: Log,
    pub snapshot: Snapshot,
    /// The version of the last checkpoint.
    checkpoint: Option<u64>,
}

/// Whose epochs are committed.
#[derive(Debug, Clone)]
pub struct App {
    job: JobRun,
    pub id: String,
}

impl App {
    pub fn of(job: &JobRun, table: &str) -> App {
        App { job: job.clone(), id: format!("millstream/{}/{table}", job.job) }
    }
}

/// What a commit is for those who read the history of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    Append,
    Upsert,
}

/// This process, unlike any other.
fn writer() -> String {
    format!("{}-{:08x}", process_id(), chance())
}

impl Table {
    /// Opens the table; makes it where it is missing.
    pub fn open(settings: &Settings) -> Result<Table> {
        let log = Log::open(&settings.root, &settings.bucket_options()?)?;
        let snapshot = match log.load(AsOf::Now)? {
            Some(snapshot) => snapshot,
            None => {
                let lines = first_commit(settings)?;
                // Somebody else may make it at the same moment: then it is theirs.
                log.put(0, &lines)?;
                log.load(AsOf::Now)?.ok_or_else(|| {
                    Error::io("the table that was just made is not there").at(Place(settings.root.clone()))
                })?
            }
        };
        let checkpoint = log.last_checkpoint()?;
        let table = Table { settings: settings.clone(), log, snapshot, checkpoint };
        table.check()?;
        Ok(table)
    }

    /// That rows as they are declared are rows of the table.
    fn check(&self) -> Result<()> {
        let (metadata, shown) = (&self.snapshot.metadata, &self.log.shown);
        protocol::check_write(&self.snapshot, shown, !self.settings.table.primary_key.is_empty())?;
        schema::check_write(&self.settings.table, metadata, shown)?;
        for (key, declared) in &self.settings.properties {
            let found = metadata.property(key);
            if found != Some(declared) {
                let found = found.map_or("does not have it".to_owned(), |found| format!("has '{found}'"));
                return Err(Error::data(format!("'{key}' is declared as '{declared}', and the table {found}"))
                    .at(Place(shown.clone()))
                    .remedy(
                        "leave the option out: it is for tables that are made; or ALTER TABLE .. SET TBLPROPERTIES",
                    ));
            }
        }
        Ok(())
    }

    /// Takes in what others have committed. A run of the same job that has taken this one's place is told.
    pub fn refresh(&mut self, app: Option<&App>) -> Result<()> {
        while let Some(lines) = self.log.commit(self.snapshot.version + 1)? {
            let changed = lines.iter().any(|line| line.protocol.is_some() || line.meta_data.is_some());
            let by =
                lines.iter().find_map(|line| line.commit_info.as_ref()?.get("writer")?.as_str().map(str::to_owned));
            let committed = lines.iter().filter_map(|line| line.txn.as_ref());
            let committed = committed.filter(|txn| app.is_some_and(|app| app.id == txn.app_id)).map(|txn| txn.version);
            let committed = committed.max();
            self.snapshot.apply(lines)?;
            if let (Some(app), Some(epoch)) = (app, committed)
                && by != Some(writer())
                // Those up to where this run began are of the run before: it may be late, and they are the same epochs.
                && epoch > as_i64(app.job.epoch)
            {
                return Err(self.taken_over(app, epoch));
            }
            if changed {
                self.check()?;
            }
        }
        Ok(())
    }

    fn taken_over(&self, app: &App, epoch: i64) -> Error {
        Error::usage(format!(
            "another run of the job `{}` has just committed epoch {epoch} to the table; this one commits nothing more",
            app.job.job
        ))
        .at(Place(self.log.shown.clone()))
        .remedy("if it is the same job started anew, all is well; if it is another job, give it another name: SET 'pipeline.name' = '..'")
    }

    /// That the table does not hold more of the job than the checkpoint that it starts from.
    pub fn check_not_ahead(&self, app: &App) -> Result<()> {
        match self.snapshot.epoch_of(&app.id) {
            Some(epoch) if epoch > as_i64(app.job.epoch) => Err(Error::usage(format!(
                "the table holds the epochs up to {epoch} of the job `{}`, and this run starts from epoch {}: rows would come twice or be left out",
                app.job.job, app.job.epoch
            ))
            .at(Place(self.log.shown.clone()))
            .remedy(format!(
                "start from the checkpoint of epoch {epoch}; or, to begin anew, take another table, or another name for the job: SET 'pipeline.name' = '..'"
            ))),
            _ => Ok(()),
        }
    }

    pub fn has(&self, app: &App, epoch: u64) -> bool {
        self.snapshot.epoch_of(&app.id).is_some_and(|done| done >= as_i64(epoch))
    }

    /// Commits what `actions` makes of the newest version, once; nothing where that is nothing.
    pub fn commit(
        &mut self,
        app: Option<(&App, u64)>,
        operation: Operation,
        mut actions: impl FnMut(&Table) -> Result<Vec<Line>>,
    ) -> Result<()> {
        let mut tries = CONFLICT.tries(&format!("{}/{}", self.log.shown, writer()));
        loop {
            self.refresh(app.map(|(app, _)| app))?;
            if app.is_some_and(|(app, epoch)| self.has(app, epoch)) {
                return Ok(());
            }
            let mut made = actions(self)?;
            if made.is_empty() {
                return Ok(());
            }
            let mut lines = vec![self.info(app, operation)];
            lines.extend(app.map(|(app, epoch)| Line {
                txn: Some(Txn { app_id: app.id.clone(), version: as_i64(epoch), last_updated: Some(now()) }),
                ..Line::default()
            }));
            lines.append(&mut made);
            if self.log.put(self.snapshot.version + 1, &lines)? {
                self.snapshot.apply(lines)?;
                return self.checkpoint_if_due();
            }
            match tries.after_failure() {
                Some(pause) => std::thread::sleep(pause),
                None => {
                    return Err(Error::io("others commit to the table so often that this one never comes first")
                        .at(Place(self.log.shown.clone()))
                        .remedy("let fewer jobs write to it, or each of them less often"));
                }
            }
        }
    }

    fn info(&self, app: Option<(&App, u64)>, operation: Operation) -> Line {
        let name = match operation {
            Operation::Append => "STREAMING UPDATE",
            Operation::Upsert => "MERGE",
        };
        let mut parameters = json!({"outputMode": if operation == Operation::Append { "Append" } else { "Update" }});
        if let Some((app, epoch)) = app {
            parameters["queryId"] = json!(app.id);
            parameters["epochId"] = json!(epoch.to_string());
        }
        let info = json!({
            "timestamp": now(),
            "operation": name,
            "operationParameters": parameters,
            "readVersion": self.snapshot.version,
            "isolationLevel": "WriteSerializable",
            "isBlindAppend": operation == Operation::Append,
            "engineInfo": concat!("Millstream/", env!("CARGO_PKG_VERSION")),
            "writer": writer(),
        });
        Line { commit_info: Some(info), ..Line::default() }
    }

    fn retention(&self, key: &str, default: Duration) -> Millis {
        let time = self.snapshot.metadata.property(key).and_then(interval).unwrap_or(default);
        now().saturating_sub(Millis::try_from(time.as_millis()).unwrap_or(Millis::MAX))
    }

    fn checkpoint_if_due(&mut self) -> Result<()> {
        let every = self.snapshot.metadata.property(CHECKPOINT_INTERVAL).and_then(|n| n.parse().ok());
        let every: u64 = every.unwrap_or(CHECKPOINT_INTERVAL_DEFAULT).max(1);
        let version = self.snapshot.version;
        if version - self.checkpoint.unwrap_or(0).min(version) < every {
            return Ok(());
        }
        self.log.write_checkpoint(&self.snapshot, self.retention(FILE_RETENTION, FILE_RETENTION_DEFAULT))?;
        self.checkpoint = Some(version);
        let cleans = self.snapshot.metadata.property(LOG_CLEANUP).is_none_or(|v| !v.eq_ignore_ascii_case("false"));
        if cleans && (version / every).is_multiple_of(CLEAN_EVERY) {
            self.log.clean(self.retention(LOG_RETENTION, LOG_RETENTION_DEFAULT))?;
        }
        Ok(())
    }
}

fn as_i64(epoch: u64) -> i64 {
    i64::try_from(epoch).unwrap_or(i64::MAX)
}

/// What makes a table: its columns, and what readers have to know.
fn first_commit(settings: &Settings) -> Result<Vec<Line>> {
    let fields = settings.table.schema.fields();
    let has_ntz = fields.iter().any(|f| schema::has_ntz(f.data_type()));
    let metadata = Metadata {
        id: random_id(),
        name: Some(settings.table.name.clone()),
        description: None,
        format: Format { provider: "parquet".to_owned(), options: Default::default() },
        schema_string: schema::schema_in_log(fields)?.to_string(),
        partition_columns: settings.table.partitioned_by.clone(),
        configuration: settings.properties.iter().map(|(k, v)| (k.clone(), Some(v.clone()))).collect(),
        created_time: Some(now()),
    };
    let info = json!({
        "timestamp": now(),
        "operation": "CREATE TABLE",
        "operationParameters": {"partitionBy": json!(settings.table.partitioned_by).to_string()},
        "engineInfo": concat!("Millstream/", env!("CARGO_PKG_VERSION")),
        "writer": writer(),
    });
    Ok(vec![
        Line { commit_info: Some(info), ..Line::default() },
        Line { protocol: Some(protocol::of_new_table(has_ntz)), ..Line::default() },
        Line { meta_data: Some(metadata), ..Line::default() },
    ])
}

/// A UUID by chance (version 4).
fn random_id() -> String {
    let (a, b) = (RandomState::new().hash_one(writer()), RandomState::new().hash_one(now()));
    let (b, high) = ((b & 0x3fff_ffff_ffff_ffff) | 0x8000_0000_0000_0000, (a & !0xf000) | 0x4000);
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xffff,
        b >> 48,
        b & 0xffff_ffff_ffff
    )
}
