//! Plays timeline scripts: left what happens to an operator, right what comes out of it.
//!
//! ```text
//! rows       12:00:10 ann, 12:00:50 bob, 12:00:59 ann
//! watermark  12:01:00         -> 12:01:00 ann 2, 12:01:00 bob 1
//! rows       12:00:30 ann     -> late 12:00:30 ann
//! clock      12:05:00         # the watermark of processing time
//! end
//! ```
//!
//! A row is its columns, divided by blanks; rows are divided by commas; `null` is NULL. Times are written
//! `12:00:10`, `12:00:10.250`, or as whole milliseconds. A line that begins with `->` goes on with what the line
//! before it expects. A row that is no insert has its change before its columns, on both sides: `-D 12:00:10 ann`.
//! Inside a value that comes out, `, ` prints as `;`.
//!
//! An operator with two inputs ([`Timeline::right`]) has `left` and `right` lines in place of `rows`:
//!
//! ```text
//! left       1 ann
//! right      1 oslo, 2 rome   -> 1 ann 1 oslo
//! right      -D 1 oslo        -> -D 1 ann 1 oslo
//! ```
//!
//! [`Timeline::check`] plays a script as it stands and compares each step. Then it plays it row by row, with
//! neighbouring `rows` lines as one batch, and in batches that go across watermarks with the marks that a source
//! would give them: the final results and the late rows must be the same each time, since batch cuts mean nothing.
//! Rows of the two inputs keep their order of arrival. Where the changes on the way to a result may differ, the final
//! table decides ([`Timeline::by_table`]).
//!
//! Then it crashes: after every line the operator is saved, thrown away and restored from its tables, once on one task
//! with a growing chain of changes, and, for operators that go by key ([`Timeline::keyed`]), on 2 and 7 tasks and with
//! another number of tasks after every line.

mod crew;
mod pressed;
mod table;

use crate::operator::{Event, LateRows, Operator, Output};
use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use millstream_core::{Batch, ChangeKind, Millis, Result, TimeDomain, Watermark};
use millstream_state::tier::MemorySpace;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use crew::{Crew, owners};
pub use pressed::{pressed, pressed_if, pressed_with};
pub use table::Table;

/// `TIMESTAMP(3)`: the usual type of a script's time column.
pub fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, None)
}

/// What an operator pushed in one or more steps, kept for a look at it.
#[derive(Debug, Default)]
pub struct Capture {
    pub emitted: Vec<(usize, Batch)>,
    pub late: Vec<LateRows>,
    pub advanced: Vec<(TimeDomain, Watermark)>,
    /// An emission after an advance in one step is a defect of the operator.
    emitted_after_advance: bool,
}

impl Output for Capture {
    fn emit(&mut self, port: usize, batch: Batch) -> Result<()> {
        self.emitted_after_advance |= !self.advanced.is_empty();
        self.emitted.push((port, batch));
        Ok(())
    }

    fn advance(&mut self, domain: TimeDomain, to: Watermark) -> Result<()> {
        self.advanced.push((domain, to));
        Ok(())
    }

    fn set_aside(&mut self, late: LateRows) -> Result<()> {
        self.late.push(late);
        Ok(())
    }
}

/// How the rows of a script look, and which columns of the result it shows.
#[derive(Clone)]
pub struct Timeline {
    /// Of each input.
    schemas: Vec<SchemaRef>,
    show: Option<Vec<usize>>,
    finals: Finals,
    /// Of each input: the columns that its rows are exchanged by.
    keys: Option<[Vec<usize>; 2]>,
    /// What comes out may come later than a script says.
    delayed: bool,
}

/// What is left of a whole script, to be compared between replays.
#[derive(Clone, Copy)]
enum Finals {
    /// Every change.
    All,
    /// The last word on each result, which its first columns name.
    Last(usize),
    /// The table that the changes describe.
    Table,
}

/// One line of a script: what happens, and what should come of it.
struct Line {
    number: usize,
    act: Act,
    expected: Vec<String>,
}

enum Act {
    Rows(usize, Vec<Row>),
    Watermark(TimeDomain, Watermark),
    End,
}

/// A row of a script: what it does, and its columns.
#[derive(Clone)]
struct Row {
    kind: ChangeKind,
    columns: Vec<String>,
}

impl Timeline {
    /// Rows with these columns.
    pub fn new(columns: &[(&str, DataType)]) -> Timeline {
        Timeline { schemas: vec![schema_of(columns)], show: None, finals: Finals::All, keys: None, delayed: false }
    }

    /// A second input, for `right` lines; the first one's are `left`.
    pub fn right(mut self, columns: &[(&str, DataType)]) -> Timeline {
        self.schemas.truncate(1);
        self.schemas.push(schema_of(columns));
        self
    }

    /// The columns of the first input.
    pub fn schema(&self) -> SchemaRef {
        self.schemas[0].clone()
    }

    /// The columns of each input.
    pub fn schemas(&self) -> &[SchemaRef] {
        &self.schemas
    }

    /// Shows only these columns of the result, in this order.
    pub fn show(mut self, columns: &[usize]) -> Timeline {
        self.show = Some(columns.to_vec());
        self
    }

    /// The first `columns` shown columns name a result: a later row replaces an earlier one. For operators that
    /// correct what they have said.
    pub fn identity(mut self, columns: usize) -> Timeline {
        self.finals = Finals::Last(columns);
        self
    }

    /// Replays are compared by the table that is left when all changes have been made. Taking a row back that is not
    /// there is a failure.
    pub fn by_table(mut self) -> Timeline {
        self.finals = Finals::Table;
        self
    }

    /// The rows reach the operator by an exchange over these columns, so it is played on several tasks too.
    pub fn keyed(self, columns: &[usize]) -> Timeline {
        self.keyed_by(columns, columns)
    }

    /// The same with two inputs: the columns of the left rows and those of the right ones.
    pub fn keyed_by(mut self, left: &[usize], right: &[usize]) -> Timeline {
        self.keys = Some([left.to_vec(), right.to_vec()]);
        self
    }

    /// The operator may put off what it says: a script shows what has come out in the end, and not when.
    pub fn delayed(mut self) -> Timeline {
        self.delayed = true;
        self
    }

    /// Plays the script as it stands and in every other cut. Panics with the line where the answer differs.
    pub fn check(&self, make: impl Fn() -> Box<dyn Operator>, script: &str) {
        let lines = self.parse(script);
        let clocked = lines.iter().any(|l| match &l.act {
            Act::Rows(_, rows) => rows.iter().flat_map(|r| &r.columns).any(|f| f.contains(':')),
            _ => false,
        });
        let expected: Vec<String> = lines.iter().flat_map(|l| l.expected.iter().cloned()).collect();
        let mut operator = make();
        for line in lines.iter().filter(|_| !self.delayed) {
            let items = match &line.act {
                Act::Rows(input, rows) => self.step_rows(operator.as_mut(), *input, rows, None, clocked),
                Act::Watermark(domain, to) => self.step(operator.as_mut(), Event::Watermark(*domain, *to), clocked),
                Act::End => self.end(operator.as_mut(), clocked),
            };
            let (mut got, mut wanted) = (items, line.expected.clone());
            got.sort();
            wanted.sort();
            assert_eq!(got, wanted, "line {} of the script, as written (got left, wanted right)", line.number);
        }
        let wanted = self.finals(&expected);
        for cut in [Cut::AsWritten, Cut::RowByRow, Cut::Joined, Cut::Marked(3), Cut::Marked(usize::MAX)] {
            let by_clock = |l: &Line| matches!(l.act, Act::Watermark(TimeDomain::Processing, _));
            if matches!(cut, Cut::Marked(_)) && lines.iter().any(by_clock) {
                continue;
            }
            let mut operator = make();
            let items = self.play(operator.as_mut(), &lines, cut, clocked);
            assert_eq!(self.finals(&items), wanted, "the whole script, played {cut:?} (got left, wanted right)");
        }
        let tasks: &[&[usize]] = match &self.keys {
            Some(_) => &[&[1], &[2], &[7], &[1, 2, 7, 3]],
            None => &[&[1]],
        };
        for (tasks, crash) in tasks.iter().flat_map(|t| [(t, false), (t, true)]) {
            let mut crew = Crew::new(&make, tasks[0]);
            let mut items = Vec::new();
            for (at, line) in lines.iter().enumerate() {
                items.extend(self.step_crew(&mut crew, &line.act, clocked));
                if crash && !matches!(line.act, Act::End) {
                    items.extend(self.flush_crew(&mut crew, clocked));
                    crew = crew.crash(&make, tasks[(at + 1) % tasks.len()]);
                }
            }
            if self.delayed {
                items.extend(self.flush_crew(&mut crew, clocked));
            }
            let how = if crash { "with a crash after every line" } else { "without a crash" };
            assert_eq!(self.finals(&items), wanted, "the script on {tasks:?} tasks {how} (got left, wanted right)");
        }
    }

    /// Plays the script in every cut with hardly any memory, with and without time to catch up. `make`: an operator that goes
    /// to disk; it has to be a keyed one.
    pub fn check_pressed(&self, make: impl Fn() -> Box<dyn Operator>, script: &str) {
        for (every, leisure) in [(1, 1), (2, 1), (1, 0), (2, 3)] {
            let space = Arc::<MemorySpace>::default();
            let timeline = if leisure == 1 { self.clone() } else { self.clone().delayed() };
            timeline.check(|| pressed_with(make(), every, leisure, space.clone()), script);
            assert!(space.created() > 0, "nothing went below");
            assert_eq!(space.runs(), 0, "scratch space is given back");
        }
    }

    fn step_crew(&self, crew: &mut Crew, act: &Act, clocked: bool) -> Vec<String> {
        let mut items = Vec::new();
        match act {
            Act::Rows(input, rows) => {
                let owners = self.owners(*input, rows, crew.tasks.len());
                for (task, operator) in crew.tasks.iter_mut().enumerate() {
                    let mine = rows.iter().zip(&owners).filter(|(_, o)| **o == task).map(|(r, _)| r.clone());
                    let mine: Vec<_> = mine.collect();
                    if !mine.is_empty() {
                        items.extend(self.step_rows(operator.as_mut(), *input, &mine, None, clocked));
                    }
                }
            }
            Act::Watermark(domain, to) => {
                crew.watermarks.advance(*domain, *to);
                for operator in &mut crew.tasks {
                    items.extend(self.step(operator.as_mut(), Event::Watermark(*domain, *to), clocked));
                }
            }
            Act::End => crew.tasks.iter_mut().for_each(|o| items.extend(self.end(o.as_mut(), clocked))),
        }
        items
    }

    fn flush_crew(&self, crew: &mut Crew, clocked: bool) -> Vec<String> {
        let mut capture = Capture::default();
        crew.tasks.iter_mut().for_each(|o| o.flush(&mut capture).expect("the flush succeeds"));
        self.items(&capture, clocked)
    }

    /// The task of each row.
    fn owners(&self, input: usize, rows: &[Row], tasks: usize) -> Vec<usize> {
        let Some(keys) = self.keys.as_ref().map(|k| &k[input]).filter(|k| !k.is_empty()) else {
            return vec![0; rows.len()];
        };
        let batch = self.batch_of(input, rows).rows;
        let columns: Vec<ArrayRef> = keys.iter().map(|k| batch.column(*k).clone()).collect();
        owners(&columns, rows.len(), tasks)
    }

    fn play(&self, operator: &mut dyn Operator, lines: &[Line], cut: Cut, clocked: bool) -> Vec<String> {
        let mut items = Vec::new();
        let mut now = Watermark::MIN;
        // Rows of one input that become one batch, with their marks.
        let (mut held, mut marks, mut of): (Vec<Row>, Vec<Millis>, usize) = (Vec::new(), Vec::new(), 0);
        for (at, line) in lines.iter().enumerate() {
            match (&line.act, cut) {
                (Act::Rows(input, rows), Cut::AsWritten) => {
                    items.extend(self.step_rows(operator, *input, rows, None, clocked));
                }
                (Act::Rows(input, rows), Cut::RowByRow) => {
                    for row in rows {
                        items.extend(self.step_rows(operator, *input, std::slice::from_ref(row), None, clocked));
                    }
                }
                (Act::Rows(input, rows), Cut::Joined) => {
                    held.extend(rows.iter().cloned());
                    if !matches!(lines.get(at + 1), Some(Line { act: Act::Rows(next, _), .. }) if next == input) {
                        items.extend(self.step_rows(operator, *input, &std::mem::take(&mut held), None, clocked));
                    }
                }
                (Act::Rows(input, rows), Cut::Marked(size)) => {
                    for row in rows {
                        if *input != of && !held.is_empty() {
                            items.extend(self.step_marked(operator, of, &mut held, &mut marks, clocked));
                            items.extend(self.step(operator, Event::Watermark(TimeDomain::Event, now), clocked));
                        }
                        of = *input;
                        held.push(row.clone());
                        marks.push(now.0);
                        if held.len() == size {
                            items.extend(self.step_marked(operator, of, &mut held, &mut marks, clocked));
                            items.extend(self.step(operator, Event::Watermark(TimeDomain::Event, now), clocked));
                        }
                    }
                }
                (Act::Watermark(TimeDomain::Event, to), Cut::Marked(_)) => now = *to,
                (Act::Watermark(domain, to), _) => {
                    items.extend(self.step(operator, Event::Watermark(*domain, *to), clocked));
                }
                (Act::End, _) => {
                    items.extend(self.step_marked(operator, of, &mut held, &mut marks, clocked));
                    items.extend(self.end(operator, clocked));
                    return items;
                }
            }
        }
        items.extend(self.step_marked(operator, of, &mut held, &mut marks, clocked));
        if matches!(cut, Cut::Marked(_)) {
            items.extend(self.step(operator, Event::Watermark(TimeDomain::Event, now), clocked));
        }
        if self.delayed {
            let mut capture = Capture::default();
            operator.flush(&mut capture).expect("the flush succeeds");
            items.extend(self.items(&capture, clocked));
        }
        items
    }

    /// One batch of the rows held, if there are any.
    fn step_marked(
        &self,
        operator: &mut dyn Operator,
        input: usize,
        held: &mut Vec<Row>,
        marks: &mut Vec<Millis>,
        clocked: bool,
    ) -> Vec<String> {
        let (held, marks) = (std::mem::take(held), std::mem::take(marks));
        match held.is_empty() {
            true => Vec::new(),
            false => self.step_rows(operator, input, &held, Some(&marks), clocked),
        }
    }

    fn end(&self, operator: &mut dyn Operator, clocked: bool) -> Vec<String> {
        let mut items = self.step(operator, Event::Watermark(TimeDomain::Event, Watermark::MAX), clocked);
        items.extend(self.step(operator, Event::Watermark(TimeDomain::Processing, Watermark::MAX), clocked));
        items.extend(self.step(operator, Event::End, clocked));
        items
    }

    fn step_rows(
        &self,
        operator: &mut dyn Operator,
        input: usize,
        rows: &[Row],
        marks: Option<&[Millis]>,
        clocked: bool,
    ) -> Vec<String> {
        let mut batch = self.batch_of(input, rows);
        batch.marks = marks.map(|m| Int64Array::from(m.to_vec()));
        self.step(operator, Event::Batch { input, batch }, clocked)
    }

    fn step(&self, operator: &mut dyn Operator, event: Event, clocked: bool) -> Vec<String> {
        let mut capture = Capture::default();
        let forwarded = match &event {
            Event::Watermark(domain, to) => Some((*domain, *to)),
            _ => None,
        };
        operator.step(event, &mut capture).expect("the step succeeds");
        assert!(!capture.emitted_after_advance, "rows were emitted after the watermark that completed them");
        if let Some((domain, to)) = forwarded.filter(|_| !self.delayed) {
            assert!(capture.advanced.iter().all(|(d, w)| *d == domain && *w <= to), "{:?}", capture.advanced);
        }
        self.items(&capture, clocked)
    }

    /// What was pushed, as a script writes it.
    fn items(&self, capture: &Capture, clocked: bool) -> Vec<String> {
        let mut items = Vec::new();
        for (_, batch) in &capture.emitted {
            let shown = match &self.show {
                Some(columns) => batch.rows.project(columns).expect("the columns to show exist"),
                None => batch.rows.clone(),
            };
            for (i, text) in render(&shown, clocked).into_iter().enumerate() {
                let kind = batch.kinds.as_ref().map_or(ChangeKind::Insert, |k| ChangeKind::from_code(k.value(i)));
                items.push(if kind == ChangeKind::Insert { text } else { format!("{} {text}", kind.short()) });
            }
        }
        for late in &capture.late {
            assert_eq!(late.rows.num_rows(), late.times.len());
            assert_eq!(late.rows.num_rows(), late.watermarks.len());
            items.extend(render(&late.rows, clocked).into_iter().map(|text| format!("late {text}")));
        }
        items
    }

    /// What is left in the end: the late rows, and of the results what counts.
    fn finals(&self, items: &[String]) -> Vec<String> {
        let (mut finals, mut by_name, mut table) = (Vec::new(), BTreeMap::new(), Table::default());
        for item in items {
            match self.finals {
                Finals::Last(columns) if !item.starts_with("late ") => {
                    let text = item.strip_prefix("+U ").unwrap_or(item);
                    let name: Vec<&str> = text.split_whitespace().take(columns).collect();
                    by_name.insert(name.join(" "), text.to_string());
                }
                Finals::Table if !item.starts_with("late ") => {
                    let (kind, row) = split_change(item);
                    table.change(kind, row);
                }
                _ => finals.push(item.clone()),
            }
        }
        finals.extend(by_name.into_values());
        finals.extend(table.rows());
        finals.sort();
        finals
    }

    fn parse(&self, script: &str) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        for (index, text) in script.lines().enumerate() {
            let text = text.split('#').next().unwrap_or("").trim();
            let (left, right) = match text.split_once("->") {
                Some((left, right)) => (left.trim(), right.trim()),
                None => (text, ""),
            };
            let expected: Vec<String> = right
                .split(',')
                .map(|item| item.split_whitespace().collect::<Vec<_>>().join(" "))
                .filter(|item| !item.is_empty())
                .collect();
            let (word, rest) = left.split_once(char::is_whitespace).unwrap_or((left, ""));
            let act = match word {
                "" => {
                    if let Some(last) = lines.last_mut() {
                        last.expected.extend(expected);
                    }
                    continue;
                }
                "rows" | "left" => Act::Rows(0, rest.split(',').map(Row::parse).collect()),
                "right" => {
                    assert!(self.schemas.len() == 2, "line {}: there is no right input", index + 1);
                    Act::Rows(1, rest.split(',').map(Row::parse).collect())
                }
                "watermark" => Act::Watermark(TimeDomain::Event, Watermark(parse_time(rest.trim()))),
                "clock" => Act::Watermark(TimeDomain::Processing, Watermark(parse_time(rest.trim()))),
                "end" => Act::End,
                other => panic!("line {}: `{other}` is no word of a timeline script", index + 1),
            };
            lines.push(Line { number: index + 1, act, expected });
        }
        lines
    }

    fn batch_of(&self, input: usize, rows: &[Row]) -> Batch {
        let columns: Vec<Vec<String>> = rows.iter().map(|r| r.columns.clone()).collect();
        let kinds: Vec<i8> = rows.iter().map(|r| r.kind as i8).collect();
        let kinds = kinds.iter().any(|k| *k != ChangeKind::Insert as i8).then(|| kinds.into());
        Batch { kinds, ..self.rows(input, &columns).into() }
    }

    /// Rows of the first input as one batch.
    pub fn batch(&self, rows: &[Vec<String>]) -> RecordBatch {
        self.rows(0, rows)
    }

    fn rows(&self, input: usize, rows: &[Vec<String>]) -> RecordBatch {
        let schema = &self.schemas[input];
        let columns: Vec<ArrayRef> = (0..schema.fields().len())
            .map(|c| {
                let field = schema.field(c);
                let text = |row: &Vec<String>| {
                    let value = row.get(c).unwrap_or_else(|| panic!("the row {row:?} has no `{}`", field.name()));
                    (value != "null").then(|| value.clone())
                };
                if let DataType::Timestamp(TimeUnit::Millisecond, zone) = field.data_type() {
                    let times: Vec<Option<i64>> = rows.iter().map(|r| text(r).map(|t| parse_time(&t))).collect();
                    let times = TimestampMillisecondArray::from(times).with_timezone_opt(zone.clone());
                    return Arc::new(times) as ArrayRef;
                }
                let texts: StringArray = rows.iter().map(text).collect();
                let column = cast(&texts, field.data_type()).expect("the type can be written as text");
                assert_eq!(column.null_count(), texts.null_count(), "a value of `{}` does not parse", field.name());
                column
            })
            .collect();
        RecordBatch::try_new(schema.clone(), columns).expect("columns are as declared")
    }
}

fn schema_of(columns: &[(&str, DataType)]) -> SchemaRef {
    let fields: Vec<Field> = columns.iter().map(|(name, kind)| Field::new(*name, kind.clone(), true)).collect();
    Arc::new(Schema::new(fields))
}

impl Row {
    fn parse(text: &str) -> Row {
        let (kind, columns) = split_change(text.trim());
        Row { kind, columns: columns.split_whitespace().map(str::to_string).collect() }
    }
}

/// The change before a row's columns, and these.
fn split_change(row: &str) -> (ChangeKind, &str) {
    let kinds = [ChangeKind::Insert, ChangeKind::UpdateBefore, ChangeKind::UpdateAfter, ChangeKind::Delete];
    let (word, rest) = row.split_once(char::is_whitespace).unwrap_or((row, ""));
    match kinds.into_iter().find(|k| k.short() == word) {
        Some(kind) => (kind, rest.trim_start()),
        None => (ChangeKind::Insert, row),
    }
}

#[derive(Debug, Clone, Copy)]
enum Cut {
    AsWritten,
    RowByRow,
    Joined,
    Marked(usize),
}

/// `12:00:10`, `12:00:10.250`, whole milliseconds, `min` or `max`.
fn parse_time(text: &str) -> Millis {
    let number = |t: &str| t.parse::<i64>().unwrap_or_else(|_| panic!("`{text}` is not a time"));
    match text {
        "min" => return i64::MIN,
        "max" => return i64::MAX,
        _ => {}
    }
    let parts: Vec<&str> = text.split(':').collect();
    let [hours, minutes, seconds] = parts[..] else { return number(text) };
    let (seconds, millis) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let millis = number(&format!("{millis:0<3}"));
    ((number(hours) * 60 + number(minutes)) * 60 + number(seconds)) * 1000 + millis
}

fn print_time(at: Millis, clocked: bool) -> String {
    if !clocked || at < 0 {
        return at.to_string();
    }
    let (h, m, s, ms) = (at / 3_600_000, at / 60_000 % 60, at / 1000 % 60, at % 1000);
    if ms == 0 { format!("{h:02}:{m:02}:{s:02}") } else { format!("{h:02}:{m:02}:{s:02}.{ms:03}") }
}

/// Each row as text, columns divided by one blank.
pub fn render(rows: &RecordBatch, clocked: bool) -> Vec<String> {
    let options = FormatOptions::new().with_null("null");
    let mut texts = vec![Vec::new(); rows.num_rows()];
    for column in rows.columns() {
        let plain = ArrayFormatter::try_new(column.as_ref(), &options).expect("every type prints");
        for (i, text) in texts.iter_mut().enumerate() {
            text.push(match column.data_type() {
                DataType::Timestamp(TimeUnit::Millisecond, _) if column.is_valid(i) => {
                    print_time(column.as_primitive::<TimestampMillisecondType>().value(i), clocked)
                }
                _ => plain.value(i).to_string().replace(", ", ";").replace(' ', "_"),
            });
        }
    }
    texts.into_iter().map(|t| t.join(" ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hands everything on.
    struct Through;

    impl Operator for Through {
        fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
            match event {
                Event::Batch { batch, .. } => out.emit(0, Batch { marks: None, ..batch }),
                Event::Watermark(domain, to) => out.advance(domain, to),
                Event::End => Ok(()),
            }
        }
    }

    #[test]
    fn a_script_plays_as_written_and_in_every_cut() {
        let timeline = Timeline::new(&[("ts", timestamp()), ("name", DataType::Utf8), ("n", DataType::Int64)]);
        timeline.check(
            || Box::new(Through),
            "
            rows       12:00:10 ann 1, 12:00:50.250 bob null    -> 12:00:10 ann 1
                                                                -> 12:00:50.250 bob null
            watermark  12:01:00
            rows       12:01:10 ann 1                           -> 12:01:10 ann 1   # a comment
            end",
        );
    }

    /// Says of each row which input it came by, beside it.
    struct Side;

    impl Operator for Side {
        fn step(&mut self, event: Event, out: &mut dyn Output) -> Result<()> {
            let Event::Batch { input, batch } = event else { return Ok(()) };
            let side: ArrayRef = Arc::new(Int64Array::from_value(input as i64, batch.len()));
            let columns = batch.rows.columns().iter().cloned().chain([side]).collect();
            let fields = batch.rows.schema().fields().iter().cloned().collect::<Vec<_>>();
            let fields = fields.into_iter().chain([Arc::new(Field::new("side", DataType::Int64, false))]);
            let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
            let rows = RecordBatch::try_new(schema, columns)?;
            out.emit(0, Batch { marks: None, ..batch.with_rows(rows) })
        }
    }

    #[test]
    fn two_inputs_have_their_own_columns_and_changes() {
        let timeline = Timeline::new(&[("n", DataType::Int64), ("name", DataType::Utf8)]).right(&[
            ("price", DataType::Decimal128(5, 2)),
            ("ts", timestamp()),
            ("n", DataType::Int64),
        ]);
        timeline.keyed_by(&[0], &[2]).check(
            || Box::new(Side),
            "
            left       1 ann, -D 2 bob          -> 1 ann 0, -D 2 bob 0
            left       +I 3 eve                 -> 3 eve 0
            right      -U 1.5 10 1, +U 2.5 10 1 -> -U 1.50 10 1 1, +U 2.50 10 1 1
            watermark  20
            right      7 11 2                   -> 7.00 11 2 1
            left       4 joe                    -> 4 joe 0
            end",
        );
    }

    #[test]
    fn the_final_table_decides_where_changes_may_differ() {
        let timeline = Timeline::new(&[("n", DataType::Int64)]).by_table();
        let changes = |text: &str| timeline.finals(&text.split(',').map(str::to_owned).collect::<Vec<_>>());
        assert_eq!(changes("1,2,-D 1,late 7,+U 2"), ["2", "2", "late 7"]);
        assert_eq!(changes("2,2,late 7"), changes("2,-U 2,+U 3,late 7,-U 3,2,2"));
        timeline.check(|| Box::new(Through), "rows 1, -D 1, 2 -> 1, -D 1, 2");
    }

    #[test]
    #[should_panic(expected = "`-D 1` takes back a row that is not there")]
    fn a_row_that_is_not_there_cannot_be_taken_back() {
        Timeline::new(&[("n", DataType::Int64)])
            .by_table()
            .check(|| Box::new(Through), "rows 1, -D 1, -D 1 -> 1, -D 1, -D 1");
    }

    #[test]
    #[should_panic(expected = "line 2 of the script")]
    fn a_wrong_answer_names_its_line() {
        let timeline = Timeline::new(&[("ts", timestamp())]);
        timeline.check(|| Box::new(Through), "\nrows 7, 8 -> 7, 9");
    }
}
