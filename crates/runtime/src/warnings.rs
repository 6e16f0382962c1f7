//! What went wrong and was lived with, kept until somebody asks.
//!
//! A job that goes on must not drown its reader in one line: of each kind the newest is kept, with how often it has
//! happened since it was taken last. How often it is told is for whoever tells it.

use crate::exchange::lock;
use millstream_core::Error;
use millstream_state::tier::EXCESS_REMEDY;
use std::collections::BTreeMap;
use std::sync::Mutex;

/// What may go wrong without ending the job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WarningKind {
    /// More is held in memory than the job has, and nothing of it can go to scratch files.
    MemoryExceeded,
    CheckpointGivenUp,
    CommitRetried,
    /// Files of old checkpoints are still there.
    NotTidied,
}

impl WarningKind {
    /// What to do where the error itself does not say it.
    fn remedy(self) -> &'static str {
        match self {
            WarningKind::MemoryExceeded => EXCESS_REMEDY,
            WarningKind::CheckpointGivenUp => {
                "the job goes on and tries again; see that the place of its state can be written and has room"
            }
            WarningKind::CommitRetried => {
                "the rows are safe and shown later; see that the table's target can be reached"
            }
            WarningKind::NotTidied => "nothing is lost; see that files can be deleted where the job keeps its state",
        }
    }
}

/// Something that went wrong and did not end the job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub kind: WarningKind,
    /// The last time that it happened.
    pub what: String,
    pub remedy: String,
    /// Where, if that is known apart from what is said.
    pub place: Option<String>,
    /// The checkpoint that it happened to.
    pub epoch: Option<u64>,
    /// How often it has happened since it was last asked for.
    pub times: u64,
}

/// The warnings that nobody has asked for yet.
#[derive(Debug, Default)]
pub(crate) struct Warnings(Mutex<BTreeMap<WarningKind, Warning>>);

impl Warnings {
    pub fn say(&self, kind: WarningKind, what: String) {
        self.add(Warning { kind, what, remedy: kind.remedy().to_owned(), place: None, epoch: None, times: 0 });
    }

    /// `what` happened because of an error, which may know a better remedy and the place.
    pub fn say_why(&self, kind: WarningKind, what: &str, why: &Error, epoch: Option<u64>) {
        let at = why.place().map(ToString::to_string);
        let place = why.place().map_or_else(String::new, |at| format!(" at {at}"));
        let remedy = why.help().unwrap_or(kind.remedy()).to_owned();
        let what = format!("{what}: {}{place}", why.what());
        self.add(Warning { kind, what, remedy, place: at, epoch, times: 0 });
    }

    fn add(&self, warning: Warning) {
        let mut all = lock(&self.0);
        let times = all.get(&warning.kind).map_or(0, |w| w.times) + 1;
        all.insert(warning.kind, Warning { times, ..warning });
    }

    pub fn take(&self) -> Vec<Warning> {
        std::mem::take(&mut *lock(&self.0)).into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use millstream_core::Place;

    #[test]
    fn the_last_of_each_kind_is_told_with_how_often_it_happened() {
        let warnings = Warnings::default();
        let full = Error::io("no space left").at(Place("s3://state".to_owned()));
        warnings.say_why(WarningKind::CheckpointGivenUp, "checkpoint 1 was given up", &full, Some(1));
        warnings.say_why(
            WarningKind::CheckpointGivenUp,
            "checkpoint 2 was given up",
            &full.clone().remedy("buy a disk"),
            Some(2),
        );
        warnings.say(WarningKind::MemoryExceeded, "too much".to_owned());
        let said: Vec<_> = warnings.take().into_iter().map(|w| (w.what, w.remedy, w.times)).collect();
        let given_up = "checkpoint 2 was given up: no space left at s3://state".to_owned();
        let memory = ("too much".to_owned(), WarningKind::MemoryExceeded.remedy().to_owned(), 1);
        assert_eq!(said, [memory, (given_up, "buy a disk".to_owned(), 2)]);
        assert_eq!(warnings.take(), []);
    }
}
