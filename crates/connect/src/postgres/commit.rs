//! Makes the epochs of a table visible, each in one transaction with a note that it was done.
//!
//! ```text
//!  open:    lock the note ─ a later run has it? refuse ─ it is ahead of us? refuse ─ write our generation
//!  commit:  BEGIN ─ lock the note ─ a later run has it? refuse
//!                                 ─ it has this epoch?  nothing to do
//!                                 ─ load all outboxes ─ write the epoch ─ COMMIT
//! ```
//!
//! The note is a row of `millstream_commits`, beside the table, for each job and sink. Rows and note are one
//! transaction, so after any crash the note says what the table holds: an epoch whose end we did not hear of is
//! committed again, and that changes nothing if it was there. The lock on the note lets one run at a time commit, and
//! the generation in it tells a run that was thought dead that another has taken its place.

use super::load::load;
use super::options::Settings;
use super::session::{Link, Session};
use super::sink::connect;
use super::target::Target;
use millstream_core::{Committable, Committer, Error, JobRun, Result, TableSpec};

pub struct EpochCommitter {
    settings: Settings,
    table: TableSpec,
    job: JobRun,
    connected: Option<(Session, Target)>,
}

/// What the server notes of a sink.
struct Note {
    epoch: u64,
    generation: u64,
}

impl EpochCommitter {
    /// Connects, checks the table, and takes the note over from earlier runs.
    pub fn open(settings: Settings, table: TableSpec, job: JobRun) -> Result<EpochCommitter> {
        let (mut session, target) = connect(&settings, &table)?;
        make_notes(&mut session, &target)?;
        session.transaction(async |link| {
            let note = lock(link, &target, &table, &job).await?;
            if note.epoch > job.epoch {
                return Err(ahead(&target, &table, &job, note.epoch));
            }
            write(link, &target, &table, &job, note.epoch).await
        })?;
        Ok(EpochCommitter { settings, table, job, connected: Some((session, target)) })
    }

    fn try_commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        if self.connected.is_none() {
            self.connected = Some(connect(&self.settings, &self.table)?);
        }
        let (session, target) = self.connected.as_mut().expect("connected just now");
        session.transaction(async |link| {
            let note = lock(link, target, &self.table, &self.job).await?;
            if note.epoch >= epoch {
                return Ok(());
            }
            // One after the other: a key may be in several outboxes, and is written once by each statement.
            for committable in committables {
                load(link, target, &committable.outbox).await?;
            }
            write(link, target, &self.table, &self.job, epoch).await
        })
    }
}

impl Committer for EpochCommitter {
    fn commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        if committables.iter().all(|c| c.outbox.iter().all(|b| b.is_empty())) {
            return Ok(());
        }
        let done = self.try_commit(epoch, committables);
        if done.is_err() {
            // In whatever state it is: the next try begins anew.
            self.connected = None;
        }
        done
    }
}

/// Makes the table of notes where it is not there.
fn make_notes(session: &mut Session, target: &Target) -> Result<()> {
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {} (job text NOT NULL, sink text NOT NULL, epoch bigint NOT NULL, \
         generation bigint NOT NULL, PRIMARY KEY (job, sink))",
        target.commits
    );
    let there = async |link: &Link| {
        let row = link.query("SELECT to_regclass($1) IS NOT NULL", &[&target.commits]).await?;
        Ok(row.first().is_some_and(|r| r.get(0)))
    };
    // Looked up first, since a user who may not make it can be given it.
    if session.run(async |link| there(link).await)? {
        return Ok(());
    }
    match session.run(async |link| link.execute(&create).await) {
        Ok(()) => Ok(()),
        // Two at once: one of them fails, and the table is there.
        Err(_) if session.run(async |link| there(link).await)? => Ok(()),
        Err(e) => Err(Error::new(e.kind(), format!("the table of committed epochs cannot be made: {}", e.what()))
            .remedy(format!(
                "let this user create it, or make it as another and GRANT SELECT, INSERT, UPDATE:\n{create};"
            ))),
    }
}

/// Locks the note, made if need be, until the end of the transaction. Refuses a run that was replaced.
async fn lock(link: &Link, target: &Target, table: &TableSpec, job: &JobRun) -> Result<Note> {
    let Target { commits, .. } = target;
    // First, so that there is a row to lock: two runs that both find none would both go on.
    link.query(
        &format!("INSERT INTO {commits} (job, sink, epoch, generation) VALUES ($1, $2, 0, 0) ON CONFLICT DO NOTHING"),
        &[&job.job, &table.name],
    )
    .await?;
    let rows = link
        .query(
            &format!("SELECT epoch, generation FROM {commits} WHERE job = $1 AND sink = $2 FOR UPDATE"),
            &[&job.job, &table.name],
        )
        .await?;
    let Some(row) = rows.first() else {
        return Err(Error::io(format!("the row of job `{}` in {commits} has just been removed", job.job)));
    };
    let note = Note { epoch: row.get::<_, i64>(0).max(0) as u64, generation: row.get::<_, i64>(1).max(0) as u64 };
    if note.generation > job.generation {
        return Err(Error::usage(format!(
            "run {} of the job `{}` has taken over `{}`; this is run {}, and it commits nothing more",
            note.generation, job.job, table.name, job.generation
        ))
        .remedy(format!(
            "if the other run is alive, all is well; if its checkpoints were deleted and the job is to begin anew: {}",
            forget(target, table, job)
        )));
    }
    Ok(note)
}

async fn write(link: &Link, target: &Target, table: &TableSpec, job: &JobRun, epoch: u64) -> Result<()> {
    let number = |n: u64| i64::try_from(n).map_err(|_| Error::internal(format!("{n} is no epoch")));
    link.query(
        &format!("UPDATE {} SET epoch = $3, generation = $4 WHERE job = $1 AND sink = $2", target.commits),
        &[&job.job, &table.name, &number(epoch)?, &number(job.generation)?],
    )
    .await
    .map(drop)
}

fn ahead(target: &Target, table: &TableSpec, job: &JobRun, epoch: u64) -> Error {
    Error::usage(format!(
        "`{}` holds the epochs up to {epoch} of the job `{}`, and this run starts from epoch {}: rows would come twice or be left out",
        table.name, job.job, job.epoch
    ))
    .remedy(format!(
        "start from the checkpoint of epoch {epoch}, or, to begin anew, clear the table and {}",
        forget(target, table, job)
    ))
}

/// The statement that makes the server forget what it notes of this sink.
fn forget(target: &Target, table: &TableSpec, job: &JobRun) -> String {
    let text = |t: &str| format!("'{}'", t.replace('\'', "''"));
    format!("DELETE FROM {} WHERE job = {} AND sink = {}", target.commits, text(&job.job), text(&table.name))
}
