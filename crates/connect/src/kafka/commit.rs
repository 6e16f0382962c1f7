//! Makes the epochs of a table visible, each in one transaction with a note that it was done.
//!
//! ```text
//!  connect:  read the note ─ another job's, or of a later run? refuse
//!            take up the transactional id   (ends what was left open, shuts out whoever had it)
//!            read the note again, now that nothing is undecided ─ refuse as above ─ write it with our run
//!            begin ─ writers send rows as they come (see `running`)
//!  commit:   the note has this epoch? nothing to do
//!            what was not sent of the outboxes ─ the note ─ commit
//!            begin ─ …
//! ```
//!
//! Records and note are one transaction: a reader that reads what is committed sees both or neither. So after any crash the
//! note says what the topic holds, whatever became of the answer to a commit. Nothing has to survive in between: the note is
//! written when the checkpoint is safe, and a transaction that fails, that the brokers have given up, or that holds anything
//! else than the epoch, is left behind, and made again from the outboxes.
//!
//! A run that was thought dead finds its producer shut out; it reads the note before it takes up the id again, and ends when
//! that names a later run. Two jobs under one id: the second finds a note that is not its own, before it shuts anybody out.
//!
//! While a transaction is open nobody who reads what is committed sees what others have written behind its first row. So rows
//! are sent into one only where epochs are short beside the time after which the brokers give it up.

use super::client::writer;
use super::encode::Encode;
use super::layout::Writing;
use super::marker::{self, Note};
use super::options::{ID_PREFIX, Settings};
use super::produce::Produce;
use super::running::{AllRunning, Part, Running, Sent};
use millstream_core::{Batch, Committable, Committer, Error, JobRun, Result, TableSpec};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long the brokers may take to end a transaction once all its records have arrived.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// How long is waited for a transaction to be given up; what is left of it is ended when the id is taken up again.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// How much of the time after which brokers give up a transaction rows may be sent into it: half. What is left is for the
/// checkpoint and the commit.
const RUNNING_SHARE: u32 = 2;

/// Rows that are made into records at a time.
pub const STEP_ROWS: usize = 8192;

pub struct EpochCommitter {
    settings: Settings,
    encode: Encode,
    job: JobRun,
    /// The transactional id.
    id: String,
    /// Tells this run from one of another job that has the same name and generation.
    run: u64,
    connected: Option<Connected>,
    running: Arc<Running>,
    /// When the last commit was done.
    last: Instant,
}

struct Connected {
    produce: Arc<Produce>,
    note: Note,
}

/// The id under which a job writes a table.
pub fn transactional_id(settings: &Settings, job: &JobRun) -> String {
    // With a prefix it is the user who tells jobs apart, and the tables of a job are told apart by us. Without one, jobs
    // of one name are told apart by where they write, since the note is not beside the topic but in one for all.
    let prefix = settings.sink.id_prefix.clone();
    let prefix = prefix.unwrap_or_else(|| format!("millstream-{}-{}", job.job, settings.topic()));
    format!("{prefix}-{}", settings.table)
}

impl EpochCommitter {
    /// Connects, looks for the topic, and takes the id over from earlier runs.
    pub fn open(settings: Settings, table: &TableSpec, job: JobRun, all: &AllRunning) -> Result<EpochCommitter> {
        let encode = Encode::new(&Writing::of(table, &settings)?, settings.upsert)?;
        let id = transactional_id(&settings, &job);
        let run = RandomState::new().build_hasher().finish();
        let running = Arc::new(Running::new(run, settings.properties.transaction_timeout() / RUNNING_SHARE));
        let last = Instant::now();
        let mut committer = EpochCommitter { settings, encode, job, id, run, connected: None, running, last };
        let connected = committer.connect(true)?;
        if connected.note.epoch > committer.job.epoch {
            return Err(committer.ahead(connected.note.epoch));
        }
        committer.last = Instant::now();
        committer.go_on(connected);
        all.add(&committer.id, committer.job.generation, &committer.running);
        Ok(committer)
    }

    /// Begins the transaction of the next epoch.
    fn go_on(&mut self, connected: Connected) {
        // Epochs that are longer than a transaction may be are not worth the rows that are sent in vain.
        if self.last.elapsed() <= self.running.age_max {
            match connected.produce.client.begin_transaction() {
                Ok(()) => self.running.open(&connected.produce),
                // The client is no good any more; the next commit takes another one.
                Err(_) => return,
            }
        }
        self.connected = Some(connected);
    }

    fn connect(&self, first: bool) -> Result<Connected> {
        let settings = &self.settings;
        if first {
            marker::make_topic(settings)?;
        }
        self.check(marker::read(settings, &self.id, false)?.as_ref(), first)?;
        let produce = Arc::new(Produce::new(settings, writer(&settings.properties, Some(&self.id))?)?);
        produce.begin_life(settings)?;
        let known = marker::read(settings, &self.id, true)?;
        self.check(known.as_ref(), first)?;
        let epoch = known.as_ref().map_or(0, |note| note.epoch);
        let connected = Connected { produce, note: self.note(epoch) };
        // From now on the note names us, to runs that were thought dead and to other jobs.
        if known.as_ref() != Some(&connected.note) && epoch <= self.job.epoch {
            begin(settings, &self.id, &connected.produce)?;
            commit(settings, &self.id, &connected.produce, &connected.note, || Ok(()))?;
        }
        Ok(connected)
    }

    fn note(&self, epoch: u64) -> Note {
        Note {
            job: self.job.job.clone(),
            table: self.settings.table.clone(),
            generation: self.job.generation,
            run: self.run,
            epoch,
        }
    }

    /// Refuses to go on under a note that is not ours.
    fn check(&self, note: Option<&Note>, first: bool) -> Result<()> {
        let Some(note) = note else { return Ok(()) };
        let JobRun { job, generation, .. } = &self.job;
        let (id, table) = (&self.id, &self.settings.table);
        if note.job != *job || note.table != *table {
            return Err(Error::usage(format!(
                "the transactional id '{id}' belongs to the table `{}` of the job `{}`; this is `{table}` of the job `{job}`",
                note.table, note.job
            ))
            .remedy(format!("choose another '{ID_PREFIX}': each job needs one of its own")));
        }
        let ours = note.generation == *generation && note.run == self.run;
        if note.generation > *generation || (note.generation == *generation && !ours) || (!first && !ours) {
            let other =
                if note.generation == *generation { "another job of this name" } else { "a later run of the job" };
            return Err(Error::usage(format!(
                "{other} `{job}` has taken over `{table}` (run {}); this is run {generation}, and it commits nothing more",
                note.generation
            ))
            .remedy(format!(
                "if the other is alive, all is well; to run both, give one of them a name (SET 'pipeline.name') or a \
                 '{ID_PREFIX}' of its own; to begin anew after its checkpoints were deleted: {}",
                self.forget()
            )));
        }
        Ok(())
    }

    fn ahead(&self, epoch: u64) -> Error {
        Error::usage(format!(
            "`{}` holds the epochs up to {epoch} of the job `{}`, and this run starts from epoch {}: rows would come twice or be left out",
            self.settings.table, self.job.job, self.job.epoch
        ))
        .remedy(format!(
            "start from the checkpoint of epoch {epoch}, or, to begin anew, clear the topic and {}",
            self.forget()
        ))
    }

    /// How the note is removed.
    fn forget(&self) -> String {
        format!(
            "choose another '{ID_PREFIX}', or write a record with the key {} and no value to the topic '{}'",
            self.id, self.settings.sink.marker_topic
        )
    }

    fn try_commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        // Out of its place until all is well: in whatever state a failure leaves it, the next try begins anew.
        let mut connected = match self.connected.take() {
            Some(connected) => connected,
            None => self.connect(false)?,
        };
        if connected.note.epoch >= epoch {
            self.connected = Some(connected);
            return Ok(());
        }
        // Nothing is wrong then, the epoch was a long one; the brokers may have given the transaction up, or do so now.
        if self.running.age() > self.running.age_max {
            self.running.close();
            give_up(&connected.produce);
            connected = self.connect(false)?;
        }
        let mine: Vec<Option<Part>> = committables.iter().map(|c| self.part_of(c)).collect();
        let parts: Vec<Part> = mine.iter().flatten().copied().collect();
        let sent = match self.running.close() {
            None => {
                begin(&self.settings, &self.id, &connected.produce)?;
                Sent::default()
            }
            Some(sent) => match sent.unknown() {
                Some(e) => {
                    give_up(&connected.produce);
                    return Err(self.lost(e));
                }
                // Nothing is wrong: a writer was past its barrier when the transaction began, since the commit before took
                // long. What it has sent is in its outbox too. Another client: this one takes what is given up for lost.
                None if sent.of_others(&parts) => {
                    give_up(&connected.produce);
                    connected = self.connect(false)?;
                    begin(&self.settings, &self.id, &connected.produce)?;
                    Sent::default()
                }
                None => sent,
            },
        };
        let note = self.note(epoch);
        let EpochCommitter { settings, encode, id, .. } = self;
        let done = commit(settings, id, &connected.produce, &note, || {
            for (at, (committable, mine)) in committables.iter().zip(&mine).enumerate() {
                let there = mine.as_ref().map_or(0, |part| sent.rows_of(part));
                let writer = mine.as_ref().map_or(at, |part| part.writer);
                for step in steps(&committable.outbox, there)? {
                    connected.produce.send(settings, &encode.encode(&step)?, writer)?;
                }
            }
            Ok(())
        });
        // Whether the rows or the transaction that they were sent into was at fault, the next try shows: it has one of its own.
        done.map_err(|e| if sent.is_empty() { e } else { self.lost(&e) })?;
        connected.note = note;
        self.go_on(connected);
        self.last = Instant::now();
        Ok(())
    }

    /// What an outbox is a part of, if it was written in this run.
    fn part_of(&self, committable: &Committable) -> Option<Part> {
        Part::parse(committable.data.as_ref()).filter(|part| part.run == self.run)
    }

    fn lost(&self, why: &Error) -> Error {
        Error::io(format!(
            "the transaction that rows of `{}` were sent into is lost, and they are sent anew from the checkpoint: {}",
            self.settings.table,
            why.what()
        ))
        .remedy(why.help().unwrap_or("nothing has to be done unless this comes again and again"))
    }
}

/// The rows of an outbox behind the first `there`, in pieces to encode.
fn steps(outbox: &[Batch], there: u64) -> Result<Vec<Batch>> {
    let mut skip = usize::try_from(there).unwrap_or(usize::MAX);
    let mut steps = Vec::new();
    for batch in outbox {
        let begin = skip.min(batch.len());
        skip -= begin;
        // One that was read back from a checkpoint may be an epoch by itself.
        let from = (begin..batch.len()).step_by(STEP_ROWS);
        steps.extend(from.map(|from| batch.slice(from, STEP_ROWS.min(batch.len() - from))));
    }
    match skip {
        0 => Ok(steps),
        _ => Err(Error::internal(format!("{skip} rows more were sent than the outbox holds"))),
    }
}

impl Committer for EpochCommitter {
    fn commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        if committables.iter().all(|c| c.outbox.iter().all(|b| b.is_empty())) {
            self.running.unseal();
            self.last = Instant::now();
            return Ok(());
        }
        self.try_commit(epoch, committables)
    }
}

impl Drop for EpochCommitter {
    fn drop(&mut self) {
        // Else those who read what is committed would wait until the brokers give it up.
        let sent = self.running.close().is_some_and(|sent| !sent.is_empty());
        if let Some(connected) = self.connected.as_ref().filter(|_| sent) {
            give_up(&connected.produce);
        }
    }
}

fn begin(settings: &Settings, id: &str, produce: &Produce) -> Result<()> {
    produce.client.begin_transaction().map_err(|e| failed(settings, id, produce, "begin a transaction", &e))
}

/// Best effort: whoever takes up the id next ends it in any case.
fn give_up(produce: &Produce) {
    let _ = produce.client.abort_transaction(ABORT_PATIENCE);
}

/// Ends the transaction that has been begun, with what `send` sends and the note.
fn commit(
    settings: &Settings,
    id: &str,
    produce: &Produce,
    note: &Note,
    send: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let done = note.write().and_then(|text| {
        send()?;
        // Last, so that other jobs wait for as short a time as may be.
        let note: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&settings.sink.marker_topic)
            .partition(marker::PARTITION)
            .key(id.as_bytes())
            .payload(text.as_bytes());
        produce.hand_over(settings, note)?;
        // The client would wait for it too, but in steps of a tenth of a second.
        produce.arrive_within(settings, COMMIT_PATIENCE)?;
        let ended = produce.client.commit_transaction(COMMIT_PATIENCE);
        // A record that was refused says more than the transaction that fails by it.
        ended.map_err(|e| {
            produce.check(settings).err().unwrap_or_else(|| failed(settings, id, produce, "commit a transaction", &e))
        })
    });
    if done.is_err() {
        give_up(produce);
    }
    done
}

fn failed(settings: &Settings, id: &str, produce: &Produce, doing: &str, e: &KafkaError) -> Error {
    use RDKafkaErrorCode as Code;
    match e.rdkafka_error_code() {
        // By a later run, or because the brokers have given up a transaction that took too long. The note tells which,
        // before the next try.
        Some(Code::ProducerFenced | Code::Fenced | Code::InvalidProducerEpoch) => Error::io(format!(
            "the transactional id '{id}' was taken away while a transaction of `{}` was open",
            settings.table
        ))
        .remedy(
            "if this comes again: transactions take longer than 'properties.transaction.timeout.ms' (raise it, or take \
             checkpoints more often), or another program uses this id",
        ),
        _ => produce.failed(settings, doing, e),
    }
}
