//! What the readers of both legs share: how far the history is, how it ended, and the live leg once it is open.

use super::ids::{Ids, ids_of};
use super::layout::{greatest, millis};
use super::options::{Handover, Settings};
use super::{Begin, Legs, LivePartition};
use millstream_core::{Backfill, Error, Millis, PartitionReader, Polled, Result, SavedPartition, Watermark};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a thread that reads ahead of the job waits where nothing has come.
const PAUSE: Duration = Duration::from_micros(200);

/// How a history ended: all that the live leg has to know of it, also after a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ending {
    /// The greatest event time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest: Option<Millis>,
    /// The greatest offset of each partition.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub offsets: BTreeMap<i32, i64>,
    /// The history lies before it, the live leg from it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut: Option<Millis>,
    /// From where on the history is read again for its ids.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
}

/// A place in the history, and the rows from there to the end of it (or to where reading stands).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tail {
    /// The partition of the history's own source.
    pub name: String,
    pub position: String,
    pub rows: u64,
}

impl Ending {
    /// What decides where a partition begins, as text. A live reader that has rows already must not find another one.
    pub fn mark(&self, handover: &Handover, number: Option<i32>) -> String {
        match handover {
            Handover::Offset { .. } => match number.and_then(|n| self.offsets.get(&n)) {
                Some(offset) => format!("behind offset {offset}"),
                None => "at the beginning".into(),
            },
            Handover::Id { .. } => format!("behind {:?}", self.latest),
            Handover::EventTime { .. } => format!("at {:?}", self.cut),
        }
    }

    pub fn begin(&self, settings: &Settings) -> Begin {
        let before = |time: Option<Millis>| match (settings.overlap, time) {
            (None, _) => Begin::AsTheTableSays,
            (Some(_), None) => Begin::Beginning,
            (Some(overlap), Some(time)) => Begin::Time(time.saturating_sub(overlap)),
        };
        match &settings.handover {
            Handover::Offset { .. } => Begin::Offsets(self.offsets.iter().map(|(p, o)| (*p, o + 1)).collect()),
            Handover::Id { .. } => before(self.latest),
            Handover::EventTime { .. } => before(self.cut),
        }
    }
}

pub struct Hub {
    pub settings: Settings,
    pub legs: Box<dyn Legs>,
    state: Mutex<State>,
}

#[derive(Default)]
pub struct State {
    /// The partitions of the live leg, by name: what this run hands out readers for, each with its position where it has one.
    pub known: BTreeMap<String, Option<String>>,
    pub described: BTreeMap<String, LivePartition>,
    /// Live readers that may still meet ids of the history.
    pub comparing: usize,
    /// What the job has made of the history's rows.
    pub watermark: Option<Watermark>,
    pub latest: Option<Millis>,
    /// The greatest event time of each partition in the history.
    pub times: BTreeMap<i32, Millis>,
    pub backfill: Backfill,
    /// The time up to which the history is read, once it is known; `Some(None)`: the history has no time at all.
    pub cut: Option<Option<Millis>>,
    pub ending: Option<Ending>,
    pub ids: Option<Arc<Ids>>,
    /// The live leg is open, and these readers of it wait to be taken.
    open: bool,
    readers: BTreeMap<String, Box<dyn PartitionReader>>,
    /// Partitions that nobody had a reader for.
    extra: Vec<Box<dyn PartitionReader>>,
    failed: Option<Error>,
}

impl Hub {
    pub fn new(settings: Settings, legs: Box<dyn Legs>) -> Hub {
        Hub { settings, legs, state: Mutex::default() }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn check(&self) -> Result<()> {
        self.state().failed.clone().map_or(Ok(()), Err)
    }

    /// What a live partition keeps to while the history is read: see the story of [`super`].
    pub fn promise(&self, name: &str) -> Watermark {
        let state = self.state();
        let Some(reached) = state.watermark.filter(|w| *w > Watermark::MIN) else { return Watermark::MIN };
        let Handover::Offset { time: Some(_), .. } = &self.settings.handover else { return reached };
        let Some(LivePartition { number, empty, .. }) = state.described.get(name) else { return reached };
        match (state.times.get(number), state.latest) {
            // As far behind as its own latest row is.
            (Some(time), Some(latest)) => Watermark(reached.0.saturating_sub(latest.saturating_sub(*time).max(0))),
            (None, _) if *empty => reached,
            // Its rows are still to come, and may be as old as they like.
            _ => Watermark::MIN,
        }
    }

    /// Whether any reader is left that waits for what a thread is doing.
    fn wanted(self: &Arc<Hub>) -> bool {
        Arc::strong_count(self) > 1
    }

    fn beside(self: &Arc<Hub>, name: &str, work: impl FnOnce(&Arc<Hub>) -> Result<()> + Send + 'static) -> Result<()> {
        let hub = self.clone();
        let started = std::thread::Builder::new().name(name.into()).spawn(move || {
            if let Err(e) = work(&hub) {
                hub.state().failed.get_or_insert(e);
            }
        });
        started
            .map(drop)
            .map_err(|e| Error::io(format!("cannot start a thread for `{}`: {e}", self.settings.history.name)))
    }

    /// Looks for the greatest event time of the history, without holding the job up.
    pub fn find_cut(self: &Arc<Hub>) -> Result<()> {
        self.beside("history-time", |hub| {
            let time = hub.settings.handover.time_column().map(str::to_owned);
            let columns: Vec<String> = time.into_iter().collect();
            let mut source = hub.legs.history(Some(&columns))?;
            let mut latest = None;
            for reader in source.partitions(1)? {
                hub.read_all(reader, &mut |rows| {
                    latest = latest.max(greatest(&millis(rows.column(0))?));
                    Ok(true)
                })?;
            }
            hub.state().cut = Some(latest);
            Ok(())
        })
    }

    /// Reads to the end, or until `take` says that it is enough.
    fn read_all(
        self: &Arc<Hub>,
        mut reader: Box<dyn PartitionReader>,
        take: &mut dyn FnMut(&arrow::array::RecordBatch) -> Result<bool>,
    ) -> Result<()> {
        while self.wanted() {
            match reader.poll()? {
                Polled::End => return Ok(()),
                Polled::Pending => std::thread::sleep(PAUSE),
                Polled::Rows(read) => {
                    if !take(&read.rows)? {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    /// The history has ended. Opens the live leg, without holding the job up: brokers may take their time.
    pub fn hand_over(self: &Arc<Hub>, ending: Ending, ids: Option<Ids>) -> Result<()> {
        {
            let mut state = self.state();
            state.backfill.complete = true;
            state.backfill.done_bytes = state.backfill.all_bytes;
            state.ids = ids.filter(|_| state.comparing > 0).map(Arc::new);
            state.ending = Some(ending.clone());
        }
        self.beside("history-handover", move |hub| hub.open(&ending))
    }

    fn open(self: &Arc<Hub>, ending: &Ending) -> Result<()> {
        self.recall_ids(ending)?;
        let known = self.state().known.clone();
        let readers = self.legs.live()?.open(&ending.begin(&self.settings), &known)?;
        let mut state = self.state();
        for reader in readers {
            if known.contains_key(reader.name()) {
                state.readers.insert(reader.name().to_owned(), reader);
            } else {
                state.extra.push(reader);
            }
        }
        state.open = true;
        Ok(())
    }

    /// After a restart: reads the end of the history again, for its ids alone.
    fn recall_ids(self: &Arc<Hub>, ending: &Ending) -> Result<()> {
        let Handover::Id { id, time, memory, bytes_max } = &self.settings.handover else { return Ok(()) };
        {
            let state = self.state();
            if state.ids.is_some() || state.comparing == 0 {
                return Ok(());
            }
        }
        let mut ids = Ids::new(*memory, bytes_max.0 as usize).again(ending.latest);
        if let Some(tail) = &ending.tail {
            let saved = SavedPartition { name: tail.name.clone(), position: tail.position.clone() };
            let mut source = self.legs.history(Some(&[id.clone(), time.clone()]))?;
            let mut left = usize::try_from(tail.rows).unwrap_or(usize::MAX);
            for reader in source.resume(&[saved], 1)? {
                self.read_all(reader, &mut |rows| {
                    let rows = rows.slice(0, rows.num_rows().min(left));
                    left -= rows.num_rows();
                    ids.remember(&ids_of(rows.column(0))?, &millis(rows.column(1))?);
                    Ok(left > 0)
                })?;
            }
            if left > 0 && self.wanted() {
                return Err(Error::data(format!("the history has become shorter: {left} rows are missing at its end"))
                    .remedy("put its files back as they were, or start the job afresh (another --state)"));
            }
        }
        self.state().ids = Some(Arc::new(ids));
        Ok(())
    }

    /// The reader of a live partition, once it is there.
    pub fn take(&self, name: &str) -> Result<Option<Box<dyn PartitionReader>>> {
        let mut state = self.state();
        if let Some(e) = &state.failed {
            return Err(e.clone());
        }
        if !state.open {
            return Ok(None);
        }
        match state.readers.remove(name) {
            Some(reader) => Ok(Some(reader)),
            None => Err(Error::usage(format!("the live leg has no partition {name} any more"))
                .remedy("put the topic back as it was, or start the job afresh (another --state)")),
        }
    }

    pub fn take_extra(&self) -> Vec<Box<dyn PartitionReader>> {
        std::mem::take(&mut self.state().extra)
    }

    /// A live reader will meet no more ids of the history.
    pub fn compared(&self) {
        let mut state = self.state();
        state.comparing = state.comparing.saturating_sub(1);
        if state.comparing == 0 {
            state.ids = None;
        }
    }
}
