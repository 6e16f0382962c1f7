//! When a folder of PARTITIONED BY is complete, and how readers learn it.
//!
//! ```text
//!  process-time    first file ──delay──▶ due at the next checkpoint      (no delay: with every checkpoint that adds to it)
//!  partition-time  time in the folder's name + delay < watermark of all writers ──▶ due
//!                                                    due ─▶ _SUCCESS; a file that comes later makes it due again
//! ```
//!
//! Folders that wait are kept in a note beside the data, written before the epoch counts as committed and read by the next
//! run. Each run writes a note of its own, so a run that is thought dead spoils nothing. To mark a folder twice changes
//! nothing; so a crash anywhere in between marks each folder at least once and, as a reader sees it, once.
//!
//! Not here: how files and notes are written ([`Folders`]), and time, which is an argument.

use super::{COMMIT_DELAY, COMMIT_POLICY, COMMIT_TRIGGER, SUCCESS_NAME, SUCCESS_NAME_DEFAULT};
use crate::options::duration;
use crate::position;
use millstream_core::{Error, Millis, Place, Result, TableSpec};
use millstream_formats::text::parse_timestamp;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

pub(super) const TIME_PATTERN: &str = "partition.time-extractor.timestamp-pattern";
pub(super) const TIME_KIND: &str = "partition.time-extractor.kind";
pub(super) const WATERMARK_ZONE: &str = "sink.partition-commit.watermark-time-zone";

/// Folders that may wait at a time; the note holds a line for each.
const WAITING_MAX: usize = 100_000;

/// When folders are marked, and with what.
#[derive(Debug, Clone)]
pub(super) struct Rule {
    /// The name of the file that marks a folder as complete.
    pub success: String,
    delay: Millis,
    trigger: Trigger,
}

#[derive(Debug, Clone)]
enum Trigger {
    ProcessTime,
    PartitionTime(Extractor),
}

/// Reads the time of a folder from the values in its name.
#[derive(Debug, Clone)]
struct Extractor {
    columns: Vec<String>,
    /// `$column` stands for its value. Without it: the value of the first column.
    pattern: Option<String>,
}

impl Rule {
    /// What the options of a table ask for; `None`: nothing is marked.
    pub fn of(table: &TableSpec) -> Result<Option<Rule>> {
        let trigger = match table.option(COMMIT_TRIGGER) {
            None | Some("process-time") => Trigger::ProcessTime,
            Some("partition-time") => Trigger::PartitionTime(Extractor {
                columns: table.partitioned_by.clone(),
                pattern: table.option(TIME_PATTERN).map(str::to_owned),
            }),
            Some(other) => {
                return Err(Error::sql(format!("'{COMMIT_TRIGGER}' cannot be '{other}'"))
                    .remedy("use 'process-time' or 'partition-time'"));
            }
        };
        for (key, wanted) in [(TIME_KIND, "default"), (WATERMARK_ZONE, "UTC")] {
            if let Some(other) = table.option(key).filter(|found| !found.eq_ignore_ascii_case(wanted)) {
                return Err(Error::sql(format!("'{key}' cannot be '{other}'"))
                    .remedy(format!("leave it out, or use '{wanted}'; '{TIME_PATTERN}' says how a time is written")));
            }
        }
        let delay = duration(table, COMMIT_DELAY)?.unwrap_or_default();
        let delay = Millis::try_from(delay.as_millis()).unwrap_or(Millis::MAX);
        match table.option(COMMIT_POLICY) {
            None if table.option(COMMIT_TRIGGER) == Some("partition-time") => {
                return Err(Error::sql(format!("'{COMMIT_TRIGGER}' is set, and '{COMMIT_POLICY}' is not"))
                    .remedy(format!("add '{COMMIT_POLICY}' = 'success-file', or leave both out")));
            }
            None => {}
            Some("success-file") if table.partitioned_by.is_empty() => {
                return Err(Error::sql(format!("'{COMMIT_POLICY}' is set, and the table has no partitions"))
                    .remedy("add PARTITIONED BY (..) to the table, or leave the option out"));
            }
            Some("success-file") => {}
            Some(other) => {
                return Err(Error::sql(format!("'{COMMIT_POLICY}' cannot be '{other}'")).remedy("use 'success-file'"));
            }
        }
        if let Trigger::PartitionTime(extractor) = &trigger {
            extractor.check()?;
        }
        let success = table.option(SUCCESS_NAME).unwrap_or(SUCCESS_NAME_DEFAULT);
        // Any other would be read as rows of the table.
        if !success.starts_with(['_', '.']) || success.contains('/') || success.len() < 2 {
            return Err(Error::sql(format!("'{SUCCESS_NAME}' cannot be '{success}'"))
                .remedy("use a name that begins with _, for example '_SUCCESS'"));
        }
        Ok(table.option(COMMIT_POLICY).map(|_| Rule { success: success.to_owned(), delay, trigger }))
    }

    /// Whether folders may have to wait for longer than the checkpoint that adds to them.
    pub fn waits(&self) -> bool {
        self.delay > 0 || matches!(self.trigger, Trigger::PartitionTime(_))
    }

    /// Checks that a folder has the time that it will be asked for, before a row is written to it.
    pub fn check_folder(&self, folder: &str) -> Result<()> {
        match &self.trigger {
            Trigger::ProcessTime => Ok(()),
            Trigger::PartitionTime(extractor) => extractor.time_of(folder).map(drop),
        }
    }

    /// Whether a folder that has been known since `since` is to be marked.
    fn is_due(&self, folder: &str, since: Millis, watermark: Option<Millis>, now: Millis) -> Result<bool> {
        // The input has ended: nothing will come that could be waited for.
        if watermark == Some(Millis::MAX) {
            return Ok(true);
        }
        Ok(match &self.trigger {
            Trigger::ProcessTime => self.delay == 0 || now >= since.saturating_add(self.delay),
            Trigger::PartitionTime(extractor) => {
                watermark.is_some_and(|w| w > i64::MIN)
                    && watermark > Some(extractor.time_of(folder)?.saturating_add(self.delay))
            }
        })
    }
}

impl Extractor {
    /// That the pattern names columns of PARTITIONED BY.
    fn check(&self) -> Result<()> {
        let Some(pattern) = &self.pattern else { return Ok(()) };
        for named in pattern.split('$').skip(1) {
            if !self.columns.iter().any(|column| named.starts_with(column.as_str())) {
                let columns: Vec<String> = self.columns.iter().map(|c| format!("${c}")).collect();
                return Err(Error::sql(format!(
                    "'{TIME_PATTERN}' = '{pattern}' names a column that is none of PARTITIONED BY"
                ))
                .remedy(format!("there are {}", columns.join(", "))));
            }
        }
        Ok(())
    }

    /// The time of a folder, as `dt=2026-01-01/hour=10` has it.
    fn time_of(&self, folder: &str) -> Result<Millis> {
        let value =
            |column: &str| super::list::partition_value(std::path::Path::new(&format!("{folder}/x")), column).flatten();
        let mut text = match (&self.pattern, self.columns.first()) {
            (Some(pattern), _) => pattern.clone(),
            (None, first) => first.and_then(|column| value(column)).unwrap_or_default(),
        };
        if self.pattern.is_some() {
            // The longest names first: `$day` is not `$d` and `ay`.
            let mut columns: Vec<&String> = self.columns.iter().collect();
            columns.sort_by_key(|column| std::cmp::Reverse(column.len()));
            for column in columns {
                text = text.replace(&format!("${column}"), &value(column).unwrap_or_default());
            }
        }
        instant(&text).ok_or_else(|| {
            Error::data(format!("the partition has no time: '{text}' is none"))
                .at(Place(folder.to_owned()))
                .remedy(format!(
                    "'{TIME_PATTERN}' has to give a time such as '2026-01-31 10:00:00' or '2026-01-31', for example '$dt \
                     $hour:00:00'; filter rows out whose partition columns are NULL"
                ))
        })
    }
}

/// A time as Flink's default reads it: one digit is as good as two, and a day is its midnight.
fn instant(text: &str) -> Option<Millis> {
    let (day, time) = text.trim().split_once([' ', 'T']).unwrap_or((text.trim(), "0:0:0"));
    let padded = |text: &str, by: char| -> Option<Vec<String>> {
        text.split(by).map(|n| (1..=4).contains(&n.len()).then(|| format!("{n:0>2}"))).collect()
    };
    let (day, (time, fraction)) = (padded(day, '-')?, time.split_once('.').unwrap_or((time, "0")));
    let mut time = padded(time, ':')?;
    if day.len() != 3 || !(1..=3).contains(&time.len()) {
        return None;
    }
    time.resize(3, "00".to_owned());
    let text = format!("{} {}.{fraction}", day.join("-"), time.join(":"));
    parse_timestamp(text.as_bytes(), arrow::datatypes::TimeUnit::Millisecond)
}

/// Where folders, their marks and the notes are. Paths count from the folder of the table.
pub(super) trait Folders {
    /// Marks a folder, whether or not it is marked already.
    fn mark(&self, folder: &str, success: &str) -> Result<()>;

    /// The notes of all runs of this job, each with its generation.
    fn notes(&self) -> Result<Vec<(u64, String)>>;

    fn write_note(&self, generation: u64, text: &str) -> Result<()>;

    fn remove_note(&self, generation: u64) -> Result<()>;
}

/// Folders that are not marked yet.
pub(super) struct Waiting {
    rule: Rule,
    generation: u64,
    /// Each with the time it was first heard of.
    folders: BTreeMap<String, Millis>,
    /// `None`: the notes of earlier runs have not been read yet.
    noted: Option<BTreeMap<String, Millis>>,
}

#[derive(Serialize, Deserialize)]
struct Note {
    folders: BTreeMap<String, Millis>,
}

impl Waiting {
    pub fn new(rule: Rule, generation: u64) -> Waiting {
        Waiting { rule, generation, folders: BTreeMap::new(), noted: None }
    }

    /// Files of an epoch have come to `folders` and are visible; the watermark is that of all writers.
    pub fn commit(
        &mut self,
        folders: BTreeSet<String>,
        watermark: Option<Millis>,
        now: Millis,
        at: &dyn Folders,
    ) -> Result<()> {
        let mut earlier = Vec::new();
        if self.noted.is_none() && self.rule.waits() {
            for (generation, text) in at.notes()?.into_iter().filter(|(generation, _)| *generation <= self.generation) {
                let note: Note = position::parse(&text, "a note about partitions that are not complete")?;
                for (folder, since) in note.folders {
                    let known = self.folders.entry(folder).or_insert(since);
                    *known = since.min(*known);
                }
                if generation < self.generation {
                    earlier.push(generation);
                }
            }
        }
        for folder in folders {
            self.folders.entry(folder).or_insert(now);
        }
        let mut due = Vec::new();
        for (folder, since) in &self.folders {
            if self.rule.is_due(folder, *since, watermark, now)? {
                due.push(folder.clone());
            }
        }
        for folder in &due {
            at.mark(folder, &self.rule.success)?;
            self.folders.remove(folder);
        }
        if self.folders.len() > WAITING_MAX {
            return Err(Error::data(format!("more than {WAITING_MAX} partitions wait to be complete")).remedy(
                format!("make '{COMMIT_DELAY}' shorter, or choose columns of PARTITIONED BY with fewer values"),
            ));
        }
        if self.rule.waits() && self.noted.as_ref() != Some(&self.folders) {
            if self.folders.is_empty() {
                at.remove_note(self.generation)?;
            } else {
                at.write_note(self.generation, &position::write(&Note { folders: self.folders.clone() })?)?;
            }
        }
        // Only now, when ours has what they had.
        earlier.into_iter().try_for_each(|generation| at.remove_note(generation))?;
        self.noted = Some(self.folders.clone());
        Ok(())
    }
}

/// The watermark of all writers: what the least advanced of them has, each as it said last.
pub(super) fn watermark_of(writers: impl Iterator<Item = (usize, Option<Millis>)>) -> Option<Millis> {
    let mut by_writer: BTreeMap<usize, Option<Millis>> = BTreeMap::new();
    for (writer, watermark) in writers {
        let said = by_writer.entry(writer).or_default();
        *said = (*said).max(watermark);
    }
    by_writer.into_values().min().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;

    const HOUR: Millis = 3_600_000;

    /// What is marked and noted, in memory; what [`Folders`] does on disks and in buckets is tested there.
    #[derive(Default)]
    struct Memory {
        marked: RefCell<Vec<String>>,
        notes: RefCell<BTreeMap<u64, String>>,
    }

    impl Folders for Memory {
        fn mark(&self, folder: &str, _success: &str) -> Result<()> {
            self.marked.borrow_mut().push(folder.to_owned());
            Ok(())
        }

        fn notes(&self) -> Result<Vec<(u64, String)>> {
            Ok(self.notes.borrow().clone().into_iter().collect())
        }

        fn write_note(&self, generation: u64, text: &str) -> Result<()> {
            self.notes.borrow_mut().insert(generation, text.to_owned());
            Ok(())
        }

        fn remove_note(&self, generation: u64) -> Result<()> {
            self.notes.borrow_mut().remove(&generation);
            Ok(())
        }
    }

    fn extractor(columns: &[&str], pattern: Option<&str>) -> Extractor {
        Extractor { columns: columns.iter().map(|c| (*c).to_owned()).collect(), pattern: pattern.map(str::to_owned) }
    }

    fn by_partition_time(delay: Millis) -> Rule {
        let extractor = extractor(&["dt", "hour"], Some("$dt $hour:00:00"));
        Rule { success: "_SUCCESS".into(), delay, trigger: Trigger::PartitionTime(extractor) }
    }

    fn folders(of: &[&str]) -> BTreeSet<String> {
        of.iter().map(|f| (*f).to_owned()).collect()
    }

    #[test]
    fn the_time_of_a_folder_comes_from_its_name() {
        let at = |pattern: Option<&str>, folder: &str| extractor(&["dt", "hour"], pattern).time_of(folder);
        assert_eq!(at(Some("$dt $hour:00:00"), "dt=1970-01-02/hour=10").unwrap(), 34 * HOUR);
        assert_eq!(at(Some("$dt $hour:00:00"), "dt=1970-1-2/hour=9").unwrap(), 33 * HOUR);
        assert_eq!(at(None, "dt=1970-01-02/hour=10").unwrap(), 24 * HOUR);
        assert_eq!(at(None, "dt=1970-01-02 10%3A00%3A00/hour=1").unwrap(), 34 * HOUR);
        let e = at(Some("$dt $hour:00:00"), "dt=1970-01-02/hour=__DEFAULT_PARTITION__").expect_err("NULL");
        assert!(e.what().contains("1970-01-02 :00:00") && e.help().is_some(), "{e}");
        assert!(at(None, "dt=soon/hour=1").is_err());
        assert!(at(None, "dt=2026-13-01/hour=1").is_err());
    }

    #[test]
    fn a_partition_is_due_when_the_watermark_is_past_its_time_and_the_delay() {
        let (rule, at) = (by_partition_time(HOUR), Memory::default());
        let mut waiting = Waiting::new(rule.clone(), 1);
        let ten = "dt=1970-01-01/hour=10";
        waiting.commit(folders(&[ten]), None, 0, &at).unwrap();
        waiting.commit(folders(&[]), Some(11 * HOUR), 0, &at).unwrap();
        assert_eq!(at.marked.borrow().len(), 0, "the watermark has to be past it");
        // The next run knows from the note what the first one had left.
        let mut waiting = Waiting::new(rule.clone(), 2);
        waiting.commit(folders(&[]), Some(11 * HOUR + 1), 0, &at).unwrap();
        assert_eq!(*at.marked.borrow(), [ten]);
        assert!(at.notes.borrow().is_empty(), "nothing waits");
        // A late file makes it due again, at once.
        waiting.commit(folders(&[ten]), Some(12 * HOUR), 0, &at).unwrap();
        assert_eq!(at.marked.borrow().len(), 2);
        // The end of the input is the end of all waiting.
        waiting.commit(folders(&["dt=1970-01-01/hour=20"]), Some(Millis::MAX), 0, &at).unwrap();
        assert_eq!(at.marked.borrow().len(), 3);
    }

    #[test]
    fn a_delay_counts_from_the_first_file_also_over_a_restart() {
        let rule = Rule { success: "_SUCCESS".into(), delay: 100, trigger: Trigger::ProcessTime };
        let at = Memory::default();
        let mut waiting = Waiting::new(rule.clone(), 1);
        waiting.commit(folders(&["a=1"]), None, 1_000, &at).unwrap();
        waiting.commit(folders(&["a=1", "a=2"]), None, 1_050, &at).unwrap();
        drop(waiting);
        let mut waiting = Waiting::new(rule, 5);
        waiting.commit(folders(&[]), None, 1_100, &at).unwrap();
        assert_eq!(*at.marked.borrow(), ["a=1"]);
        assert_eq!(at.notes.borrow().keys().copied().collect::<Vec<_>>(), [5], "the older note is merged");
        waiting.commit(folders(&[]), None, 1_150, &at).unwrap();
        assert_eq!(*at.marked.borrow(), ["a=1", "a=2"]);
    }

    #[test]
    fn the_least_advanced_writer_counts_with_what_it_said_last() {
        assert_eq!(watermark_of([(0, Some(5)), (1, Some(3))].into_iter()), Some(3));
        assert_eq!(watermark_of([(0, Some(5)), (1, None)].into_iter()), None);
        // An epoch that was given up is committed with the next one.
        assert_eq!(watermark_of([(0, Some(5)), (0, Some(9)), (1, None), (1, Some(7))].into_iter()), Some(7));
        assert_eq!(watermark_of(std::iter::empty()), None);
    }
}
