//! Makes the epochs of a table visible, each in one transaction with a note that it was done.
//!
//! ```text
//!  connect:  read the note ─ another job's, or of a later run? refuse
//!            take up the transactional id   (ends what was left open, shuts out whoever had it)
//!            read the note again, now that nothing is undecided ─ refuse as above ─ write it with our run
//!  commit:   the note has this epoch? nothing to do
//!            begin ─ all outboxes ─ the note ─ commit
//! ```
//!
//! Records and note are one transaction: a reader that reads what is committed sees both or neither. So after any crash the
//! note says what the topic holds, whatever became of the answer to a commit. Nothing has to survive in between: a
//! transaction begins when the checkpoint is safe, and one that fails, or that the brokers have given up, is made again from
//! the outbox.
//!
//! A run that was thought dead finds its producer shut out; it reads the note before it takes up the id again, and ends when
//! that names a later run. Two jobs under one id: the second finds a note that is not its own, before it shuts anybody out.

use super::client::writer;
use super::encode::Encode;
use super::layout::Writing;
use super::marker::{self, Note};
use super::options::{ID_PREFIX, Settings};
use super::produce::Produce;
use millstream_core::{Committable, Committer, Error, JobRun, Result, TableSpec};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// How long the brokers may take to end a transaction once all its records have arrived.
const COMMIT_PATIENCE: Duration = Duration::from_secs(60);

/// How long is waited for a transaction to be given up; what is left of it is ended when the id is taken up again.
const ABORT_PATIENCE: Duration = Duration::from_secs(5);

/// Rows that are made into records at a time.
const STEP_ROWS: usize = 8192;

pub struct EpochCommitter {
    settings: Settings,
    encode: Encode,
    job: JobRun,
    /// The transactional id.
    id: String,
    /// Tells this run from one of another job that has the same name and generation.
    run: u64,
    connected: Option<Connected>,
}

struct Connected {
    produce: Produce,
    note: Note,
}

impl EpochCommitter {
    /// Connects, looks for the topic, and takes the id over from earlier runs.
    pub fn open(settings: Settings, table: &TableSpec, job: JobRun) -> Result<EpochCommitter> {
        let encode = Encode::new(&Writing::of(table, &settings)?, settings.upsert)?;
        // With a prefix it is the user who tells jobs apart, and the tables of a job are told apart by us. Without one, jobs
        // of one name are told apart by where they write, since the note is not beside the topic but in one for all.
        let prefix = settings.sink.id_prefix.clone();
        let prefix = prefix.unwrap_or_else(|| format!("millstream-{}-{}", job.job, settings.topic()));
        let id = format!("{prefix}-{}", settings.table);
        let run = RandomState::new().build_hasher().finish();
        let mut committer = EpochCommitter { settings, encode, job, id, run, connected: None };
        let connected = committer.connect(true)?;
        if connected.note.epoch > committer.job.epoch {
            return Err(committer.ahead(connected.note.epoch));
        }
        committer.connected = Some(connected);
        Ok(committer)
    }

    fn connect(&self, first: bool) -> Result<Connected> {
        let settings = &self.settings;
        if first {
            marker::make_topic(settings)?;
        }
        self.check(marker::read(settings, &self.id, false)?.as_ref(), first)?;
        let produce = Produce::new(settings, writer(&settings.properties, Some(&self.id))?)?;
        produce.begin_life(settings)?;
        let known = marker::read(settings, &self.id, true)?;
        self.check(known.as_ref(), first)?;
        let epoch = known.as_ref().map_or(0, |note| note.epoch);
        let mut connected = Connected { produce, note: self.note(epoch) };
        // From now on the note names us, to runs that were thought dead and to other jobs.
        if known.as_ref() != Some(&connected.note) && epoch <= self.job.epoch {
            transact(settings, &self.id, &mut connected.produce, &connected.note, |_| Ok(()))?;
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
        if connected.note.epoch < epoch {
            let note = self.note(epoch);
            let EpochCommitter { settings, encode, id, .. } = self;
            transact(settings, id, &mut connected.produce, &note, |produce| {
                for (writer, committable) in committables.iter().enumerate() {
                    for batch in &committable.outbox {
                        // One that was read back from a checkpoint may be an epoch by itself.
                        for from in (0..batch.len()).step_by(STEP_ROWS) {
                            let step = batch.slice(from, STEP_ROWS.min(batch.len() - from));
                            produce.send(settings, &encode.encode(&step)?, writer)?;
                        }
                    }
                }
                Ok(())
            })?;
            connected.note = note;
        }
        self.connected = Some(connected);
        Ok(())
    }
}

impl Committer for EpochCommitter {
    fn commit(&mut self, epoch: u64, committables: &[Committable]) -> Result<()> {
        if committables.iter().all(|c| c.outbox.iter().all(|b| b.is_empty())) {
            return Ok(());
        }
        self.try_commit(epoch, committables)
    }
}

/// What `send` sends and the note, in one transaction.
fn transact(
    settings: &Settings,
    id: &str,
    produce: &mut Produce,
    note: &Note,
    send: impl FnOnce(&mut Produce) -> Result<()>,
) -> Result<()> {
    let text = note.write()?;
    produce.client.begin_transaction().map_err(|e| failed(settings, id, produce, "begin a transaction", &e))?;
    let sent = send(produce).and_then(|()| {
        // Last, so that other jobs wait for as short a time as may be.
        let note: BaseRecord<'_, [u8], [u8]> = BaseRecord::to(&settings.sink.marker_topic)
            .partition(marker::PARTITION)
            .key(id.as_bytes())
            .payload(text.as_bytes());
        produce.hand_over(settings, note)
    });
    let done = sent.and_then(|()| {
        let ended = produce.client.commit_transaction(COMMIT_PATIENCE);
        // A record that was refused says more than the transaction that fails by it.
        ended.map_err(|e| {
            produce.check(settings).err().unwrap_or_else(|| failed(settings, id, produce, "commit a transaction", &e))
        })
    });
    if done.is_err() {
        // Best effort: whoever takes up the id next ends it in any case.
        let _ = produce.client.abort_transaction(ABORT_PATIENCE);
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
