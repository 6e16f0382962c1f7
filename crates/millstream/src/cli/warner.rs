//! Tells what goes wrong in a running job and does not end it: at once the first time, then seldom.

use super::log::{Event, Level};
use millstream::{Warning, WarningKind};
use std::collections::BTreeMap;
use std::time::Duration;

/// A warning of one kind is told again after this long at the earliest: a store that is away for a night must not fill
/// the log of the job.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// What has been told.
#[derive(Default)]
pub struct Warner {
    told: BTreeMap<WarningKind, Told>,
}

struct Told {
    /// Since the job began.
    at: Duration,
    /// What has come since then.
    waiting: Option<Warning>,
}

impl Warner {
    /// The warning as it is to be told now, if it is to be told already. `now`: since the job began.
    pub fn tell(&mut self, warning: Warning, now: Duration) -> Option<Warning> {
        let kind = warning.kind;
        match self.told.get_mut(&kind) {
            None => {
                self.told.insert(kind, Told { at: now, waiting: None });
                Some(warning)
            }
            Some(told) => {
                let before = told.waiting.as_ref().map_or(0, |w| w.times);
                told.waiting = Some(Warning { times: warning.times + before, ..warning });
                None
            }
        }
    }

    /// What has waited long enough to be told again.
    pub fn due(&mut self, now: Duration) -> Vec<Warning> {
        let due = self.told.values_mut().filter(|t| now.saturating_sub(t.at) >= AGAIN_AFTER);
        due.filter_map(|told| {
            let warning = told.waiting.take()?;
            told.at = now;
            Some(warning)
        })
        .collect()
    }

    /// What still waits, at the end of the job.
    pub fn rest(self) -> Vec<Warning> {
        self.told.into_values().filter_map(|t| t.waiting).collect()
    }
}

/// A warning as an event, and as text for people.
pub fn event(warning: &Warning) -> (Event, String) {
    let mut event = Event::new(Level::Warn, warning.what.clone());
    event.set("remedy", Some(warning.remedy.clone()));
    event.set("place", warning.place.clone());
    event.set("epoch", warning.epoch);
    event.set("times", Some(warning.times));
    (event, text(warning))
}

fn text(warning: &Warning) -> String {
    let times = if warning.times > 1 { format!(" ({} times like this)", warning.times) } else { String::new() };
    format!("warning: {}{times}\n  help: {}", warning.what, warning.remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warning(kind: WarningKind, what: &str, times: u64) -> Warning {
        Warning { kind, what: what.to_owned(), remedy: "mend it".to_owned(), place: None, epoch: None, times }
    }

    #[test]
    fn the_first_is_told_at_once_and_the_next_ones_together() {
        let mut warner = Warner::default();
        let at = Duration::from_secs;
        let first = warner.tell(warning(WarningKind::CheckpointGivenUp, "checkpoint 1 was given up", 1), at(5));
        let texts = |told: Vec<Warning>| told.iter().map(text).collect::<Vec<_>>();
        let first = first.as_ref().map(text);
        assert_eq!(first.as_deref(), Some("warning: checkpoint 1 was given up\n  help: mend it"));
        assert_eq!(warner.tell(warning(WarningKind::CheckpointGivenUp, "checkpoint 2 was given up", 1), at(6)), None);
        let other = warner.tell(warning(WarningKind::CommitRetried, "a commit is tried again", 1), at(6));
        assert!(other.is_some(), "another kind waits for nobody");
        assert_eq!(warner.tell(warning(WarningKind::CheckpointGivenUp, "checkpoint 5 was given up", 3), at(64)), None);
        assert_eq!(warner.due(at(64)), []);
        assert_eq!(
            texts(warner.due(at(65))),
            ["warning: checkpoint 5 was given up (4 times like this)\n  help: mend it"]
        );
        assert_eq!(warner.due(at(500)), [], "nothing new has come");
        assert_eq!(warner.tell(warning(WarningKind::CommitRetried, "a commit is tried again", 1), at(66)), None);
        assert_eq!(texts(warner.rest()), ["warning: a commit is tried again\n  help: mend it"]);
    }
}
