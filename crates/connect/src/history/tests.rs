//! Histories and topics in memory: read in every order of events, cut into other batches, and restored at every poll.

use super::source::HistorySource;
use super::*;
use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, TimeUnit};
use millstream_core::{Error, Polled, SavedPartition, Watermark};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

mod options;

/// `id`, `ts`, and where the row stands in the topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row {
    id: i64,
    ts: i64,
    partition: i32,
    offset: i64,
}

fn table(options: &[(&str, &str)]) -> TableSpec {
    let ts = DataType::Timestamp(TimeUnit::Millisecond, None);
    let common = [
        ("connector", "history-then-live"),
        ("history.connector", "filesystem"),
        ("history.path", "archive"),
        ("history.format", "parquet"),
        ("live.connector", "kafka"),
        ("live.topic", "t"),
        ("live.format", "json"),
        ("live.properties.bootstrap.servers", "localhost:9092"),
    ];
    TableSpec {
        name: "purchases".into(),
        schema: Arc::new(Schema::new(vec![Field::new("id", DataType::Int64, true), Field::new("ts", ts, true)])),
        projection: None,
        metadata: Vec::new(),
        options: common.iter().chain(options).map(|(k, v)| (k.to_string(), v.to_string())).collect(),
        partitioned_by: Vec::new(),
        primary_key: Vec::new(),
        place: None,
    }
}

const BY_OFFSET: &[(&str, &str)] =
    &[("handover", "offset"), ("handover.partition-column", "p"), ("handover.offset-column", "o")];
const BY_ID: &[(&str, &str)] = &[
    ("handover", "id"),
    ("handover.id-column", "id"),
    ("handover.id-memory", "300 ms"),
    ("handover.overlap", "150 ms"),
];
const BY_TIME: &[(&str, &str)] = &[("handover", "event-time"), ("handover.overlap", "80 ms")];

/// What both legs hold.
#[derive(Clone)]
struct World {
    history: Vec<Row>,
    /// By partition and offset; the offset of the first is that of the oldest record.
    topic: Vec<Vec<Row>>,
    /// Rows of one batch.
    cut: usize,
    /// Every so many polls nothing has come.
    pending: u64,
}

struct MemoryReader {
    name: String,
    rows: Vec<Row>,
    at: usize,
    schema: SchemaRef,
    cut: usize,
    pending: u64,
    polls: u64,
    /// Of a topic: positions are offsets.
    topic: bool,
}

impl PartitionReader for MemoryReader {
    fn name(&self) -> &str {
        &self.name
    }

    fn poll(&mut self) -> Result<Polled> {
        self.polls += 1;
        if self.pending > 0 && self.polls.is_multiple_of(self.pending) {
            return Ok(Polled::Pending);
        }
        if self.at == self.rows.len() {
            return Ok(Polled::End);
        }
        let end = (self.at + self.cut).min(self.rows.len());
        let rows = &self.rows[self.at..end];
        self.at = end;
        let columns: Vec<ArrayRef> = self
            .schema
            .fields()
            .iter()
            .map(|f| -> ArrayRef {
                match f.name().as_str() {
                    "id" => Arc::new(rows.iter().map(|r| Some(r.id)).collect::<Int64Array>()),
                    "ts" => Arc::new(rows.iter().map(|r| Some(r.ts)).collect::<TimestampMillisecondArray>()),
                    "p" => Arc::new(rows.iter().map(|r| Some(i64::from(r.partition))).collect::<Int64Array>()),
                    _ => Arc::new(rows.iter().map(|r| Some(r.offset)).collect::<Int64Array>()),
                }
            })
            .collect();
        Ok(Polled::Rows(RecordBatch::try_new(self.schema.clone(), columns)?.into()))
    }

    fn position(&self) -> Result<String> {
        let first = if self.topic { self.rows.first().map_or(0, |r| r.offset) } else { 0 };
        Ok((self.at as i64 + first).to_string())
    }

    fn bytes_done(&self) -> Option<(u64, u64)> {
        Some((self.at as u64, self.rows.len() as u64))
    }
}

struct MemorySource {
    world: World,
    schema: SchemaRef,
}

impl MemorySource {
    fn reader(&self, at: usize) -> Vec<Box<dyn PartitionReader>> {
        let World { history, cut, pending, .. } = self.world.clone();
        let (name, schema) = ("archive".into(), self.schema.clone());
        vec![Box::new(MemoryReader { name, rows: history, at, schema, cut, pending, polls: 0, topic: false })]
    }
}

impl Source for MemorySource {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self, _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok(self.reader(0))
    }

    fn resume(&mut self, saved: &[SavedPartition], _: usize) -> Result<Vec<Box<dyn PartitionReader>>> {
        Ok(self.reader(saved[0].position.parse().expect("as saved")))
    }
}

struct MemoryTopic {
    world: World,
    schema: SchemaRef,
}

impl Live for MemoryTopic {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn bounded(&self) -> bool {
        true
    }

    fn partitions(&mut self) -> Result<Vec<LivePartition>> {
        let all = self.world.topic.iter().enumerate();
        Ok(all
            .map(|(i, rows)| LivePartition { name: format!("t[{i}]"), number: i as i32, empty: rows.is_empty() })
            .collect())
    }

    fn open(
        &mut self,
        begin: &Begin,
        known: &BTreeMap<String, Option<String>>,
    ) -> Result<Vec<Box<dyn PartitionReader>>> {
        let mut readers: Vec<Box<dyn PartitionReader>> = Vec::new();
        for (number, rows) in self.world.topic.iter().enumerate() {
            let name = format!("t[{number}]");
            let Some(position) = known.get(&name) else { continue };
            let oldest = rows.first().map_or(0, |r| r.offset);
            let next: i64 = match (position, begin) {
                (Some(at), _) => at.parse().expect("as saved"),
                (None, Begin::Offsets(next)) => next.get(&(number as i32)).copied().unwrap_or(oldest),
                // Records bear the greatest event time that was there when they came.
                (None, Begin::Time(at)) => {
                    let mut stamp = i64::MIN;
                    let before = rows.iter().take_while(|r| {
                        stamp = stamp.max(r.ts);
                        stamp < *at
                    });
                    oldest + before.count() as i64
                }
                (None, _) => oldest,
            };
            if next < oldest {
                return Err(Error::data("a hole"));
            }
            let (cut, pending) = (self.world.cut, self.world.pending);
            readers.push(Box::new(MemoryReader {
                name,
                rows: rows.clone(),
                at: (next - oldest) as usize,
                schema: self.schema.clone(),
                cut,
                pending,
                polls: 0,
                topic: true,
            }));
        }
        Ok(readers)
    }
}

struct Memory {
    world: World,
    settings: Settings,
}

impl Legs for Memory {
    fn history(&self, columns: Option<&[String]>) -> Result<Box<dyn Source>> {
        let table = &self.settings.history;
        let projection = match columns {
            Some(names) => names.iter().map(|n| table.schema.index_of(n).expect("a column")).collect(),
            None => table.projection.clone().expect("always said"),
        };
        let schema = Arc::new(table.schema.project(&projection)?);
        Ok(Box::new(MemorySource { world: self.world.clone(), schema }))
    }

    fn live(&self) -> Result<Box<dyn Live>> {
        let table = &self.settings.live;
        let schema = Arc::new(table.schema.project(table.projection.as_ref().expect("always said"))?);
        Ok(Box::new(MemoryTopic { world: self.world.clone(), schema }))
    }
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n.max(1)
    }
}

/// Rows 0 to `all`, ten milliseconds apart, in an order that is off by up to eight places, in four partitions.
fn rows(all: i64, dice: &mut Dice) -> Vec<Row> {
    let mut ids: Vec<(i64, i64)> = (0..all).map(|id| (id + dice.below(8) as i64, id)).collect();
    ids.sort_unstable();
    let mut ends = [0; 4];
    let place = |(_, id): (i64, i64)| {
        let partition = (id % 4) as usize;
        ends[partition] += 1;
        Row { id, ts: id * 10, partition: partition as i32, offset: ends[partition] - 1 }
    };
    ids.into_iter().map(place).collect()
}

/// Each handover's world, of which every row is to come out once: 100 rows, of which the history has some and the topic
/// has lost the oldest.
fn worlds(dice: &mut Dice) -> Vec<(&'static [(&'static str, &'static str)], World)> {
    let all = rows(100, dice);
    let of = |number: i32| all.iter().filter(move |r| r.partition == number).copied();
    let world = |history: Vec<Row>, kept: &dyn Fn(&Row) -> bool| World {
        history,
        topic: (0..4).map(|number| of(number).skip_while(|r| !kept(r)).collect()).collect(),
        cut: 3,
        pending: 4,
    };
    // Partitions are archived unevenly, and one not at all; the topic still has some of what the history has.
    let ends = [15, 9, 0, 12];
    let archived = all.iter().filter(|r| r.offset < ends[r.partition as usize]).copied().collect();
    let by_offset = world(archived, &|r| r.offset >= ends[r.partition as usize] - 4);
    let first: Vec<Row> = all.iter().filter(|r| r.id < 60).copied().collect();
    let mut by_id = world(first.clone(), &|_| true);
    // Rows that the history has never seen, among those it has.
    by_id.history.retain(|r| r.id % 7 != 3 || r.id < 50);
    vec![(BY_OFFSET, by_offset), (BY_ID, by_id), (BY_TIME, world(first, &|r| r.id >= 35))]
}

fn open(options: &[(&str, &str)], world: &World) -> HistorySource {
    let settings = Settings::of(&table(options)).expect("right");
    let legs = Memory { world: world.clone(), settings: settings.clone() };
    HistorySource::open(settings, Box::new(legs)).expect("opened")
}

/// A reader as a task drives it.
struct Driven {
    reader: Box<dyn PartitionReader>,
    ended: bool,
    latest: i64,
    /// What it has given, in this run and before.
    given: Vec<i64>,
    /// What a checkpoint has of it: its position, whether it has ended, and how much it had given.
    saved: Option<(String, bool, usize)>,
}

const DELAY: i64 = 80;

/// Rows given by each partition over a run that crashes at poll `crash`; readers are asked in an order of the dice, and a
/// checkpoint cuts through each of them at another moment before the crash.
fn play(
    options: &[(&str, &str)],
    world: &World,
    dice: &mut Dice,
    crash: Option<u64>,
) -> Result<BTreeMap<String, Vec<i64>>> {
    let mut before: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let mut source = open(options, world);
    let mut driven = drive(source.partitions(1)?, &before);
    let mut crash = crash;
    let (mut polls, until) = (0u64, Instant::now() + Duration::from_secs(20));
    while driven.iter().any(|d| !d.ended) {
        assert!(Instant::now() < until, "it does not end");
        if crash.is_some_and(|at| polls + 6 >= at) {
            // Barriers reach the readers one after another.
            let all = crash.is_some_and(|at| polls >= at);
            for d in driven.iter_mut().filter(|d| d.saved.is_none()) {
                if all || dice.below(3) == 0 {
                    d.saved = Some((d.reader.position()?, d.ended, d.given.len()));
                }
            }
            if all {
                let mut open = Vec::new();
                let mut ended = Vec::new();
                for mut d in driven {
                    let (position, over, given) = d.saved.take().expect("saved");
                    let name = d.reader.name().to_owned();
                    d.given.truncate(given);
                    before.insert(name.clone(), d.given);
                    if over { &mut ended } else { &mut open }.push(SavedPartition { name, position });
                }
                let mut again = self::open(options, world);
                again.recall(&ended)?;
                let readers = if open.is_empty() { Vec::new() } else { again.resume(&open, 1)? };
                let gone = |name: &str| ended.iter().any(|p| p.name == name);
                driven = drive(readers.into_iter().filter(|r| !gone(r.name())).collect(), &before);
                crash = None;
                continue;
            }
        }
        let at = dice.below(driven.len() as u64) as usize;
        let history_ended = driven.iter().all(|d| d.reader.name() != past::NAME || d.ended);
        let d = &mut driven[at];
        if d.ended {
            continue;
        }
        match d.reader.poll()? {
            Polled::Pending => {
                // A thread may be opening something.
                if history_ended && d.reader.promises().is_some() {
                    std::thread::sleep(Duration::from_micros(50));
                    continue;
                }
            }
            Polled::End => d.ended = true,
            Polled::Rows(read) => {
                assert!(history_ended || d.reader.name() == past::NAME, "a live row before the history has ended");
                d.given.extend(read.rows.column(0).as_primitive::<Int64Type>().values());
                if read.rows.num_rows() > 0 {
                    let times = layout::millis(read.rows.column(1))?;
                    d.latest = d.latest.max(layout::greatest(&times).expect("rows"));
                }
                d.reader.reached(Watermark(d.latest.saturating_sub(DELAY)));
            }
        }
        polls += 1;
    }
    before.extend(driven.into_iter().map(|d| (d.reader.name().to_owned(), d.given)));
    Ok(before)
}

fn drive(readers: Vec<Box<dyn PartitionReader>>, before: &BTreeMap<String, Vec<i64>>) -> Vec<Driven> {
    let given = |name: &str| before.get(name).cloned().unwrap_or_default();
    readers
        .into_iter()
        .map(|reader| {
            let given = given(reader.name());
            Driven { reader, ended: false, latest: i64::MIN, given, saved: None }
        })
        .collect()
}

fn check_once(given: &BTreeMap<String, Vec<i64>>, about: &str) {
    let mut all: Vec<i64> = given.values().flatten().copied().collect();
    all.sort_unstable();
    let twice: BTreeSet<i64> = all.windows(2).filter(|w| w[0] == w[1]).map(|w| w[0]).collect();
    let missing: Vec<i64> = (0..100).filter(|id| all.binary_search(id).is_err()).collect();
    assert!(twice.is_empty() && missing.is_empty(), "{about}: twice {twice:?}, missing {missing:?}");
}

#[test]
fn every_row_comes_once_however_events_fall_and_batches_are_cut() {
    for seed in 0..60 {
        let mut dice = Dice(seed);
        for (options, mut world) in worlds(&mut dice) {
            world.cut = [1, 2, 5, 8, 64][dice.below(5) as usize];
            world.pending = [0, 2, 3, 7][dice.below(4) as usize].max(2);
            let given = play(options, &world, &mut dice, None).expect("read");
            check_once(&given, &format!("seed {seed}, {}", options[0].1));
            assert!(given.len() > 1 && given.values().all(|g| !g.is_empty()), "a leg gave nothing: {given:?}");
        }
    }
}

#[test]
fn every_row_comes_once_after_a_restore_at_any_poll() {
    for (which, cut) in [(0, 1), (0, 4), (1, 1), (1, 4), (2, 1), (2, 4)] {
        // Runs have at most so many polls.
        let polls = if cut == 1 { 320 } else { 130 };
        for crash in (which as u64..polls).step_by(if cut == 1 { 3 } else { 1 }) {
            let mut dice = Dice(crash + 1000 * which as u64);
            let (options, mut world) = worlds(&mut dice).swap_remove(which);
            world.cut = cut;
            let given = play(options, &world, &mut dice, Some(crash)).expect("read");
            check_once(&given, &format!("{} by {cut}, crash at poll {crash}", options[0].1));
        }
    }
}

/// Reads the history to its end, and gives what each live partition keeps to then.
fn promises(options: &[(&str, &str)], world: &World) -> Vec<(String, i64)> {
    let mut readers = open(options, world).partitions(1).expect("opened");
    let mut latest = i64::MIN;
    loop {
        // One poll before the end, so that nothing is open yet.
        match readers[0].poll().expect("read") {
            Polled::Rows(read) => {
                let times = layout::millis(read.rows.column(1)).expect("times");
                latest = latest.max(layout::greatest(&times).unwrap_or(latest));
                readers[0].reached(Watermark(latest - DELAY));
            }
            Polled::Pending => {}
            Polled::End => break,
        }
    }
    readers[1..].iter().map(|r| (r.name().to_owned(), r.promises().expect("it waits").0)).collect()
}

#[test]
fn a_partition_that_is_archived_less_far_is_not_late_by_the_others() {
    let (options, mut world) = worlds(&mut Dice(3)).swap_remove(0);
    world.topic[2].clear();
    let kept = promises(options, &world);
    let of = |number: i32| world.history.iter().filter(|r| r.partition == number).map(|r| r.ts).max();
    let all = world.history.iter().map(|r| r.ts).max().expect("rows");
    let expected: Vec<i64> = (0..4).map(|p| of(p).unwrap_or(all) - DELAY).collect();
    assert_eq!(kept.iter().map(|k| k.1).collect::<Vec<_>>(), expected, "an empty partition keeps to all of it");
    // The history itself stays behind by the slowest of its partitions.
    world.cut = 1;
    let mut readers = open(options, &world).partitions(1).expect("opened");
    let mut times: BTreeMap<i64, i64> = BTreeMap::new();
    let mut lags = BTreeSet::new();
    for row in world.history.chunks(world.cut) {
        while !matches!(readers[0].poll().expect("read"), Polled::Rows(_)) {}
        for row in row {
            let time = times.entry(i64::from(row.partition)).or_default();
            *time = row.ts.max(*time);
        }
        let lag = times.values().max().expect("rows") - times.values().min().expect("rows");
        let lag = if times.len() < 3 { i64::MAX } else { lag };
        assert_eq!(readers[0].lag(), Some(lag));
        lags.insert(lag);
    }
    assert!(lags.contains(&i64::MAX) && lags.len() > 5, "{lags:?}");
    // Records that the history has none of may be of any time.
    let (options, world) = worlds(&mut Dice(3)).swap_remove(0);
    assert_eq!(promises(options, &world)[2].1, Watermark::MIN.0);
}

#[test]
fn how_far_the_history_is_shows_and_ends_with_complete() {
    let (options, world) = worlds(&mut Dice(5)).swap_remove(0);
    let mut readers = open(options, &world).partitions(1).expect("opened");
    let mut seen = vec![readers[1].backfill().expect("a history").percent()];
    while !matches!(readers[0].poll().expect("read"), Polled::End) {
        seen.push(readers[0].backfill().expect("a history").percent());
    }
    assert!(seen.is_sorted() && seen[0] == 0 && seen.iter().all(|p| *p < 100), "{seen:?}");
    assert!(seen.iter().filter(|p| (20..80).contains(*p)).count() > 3, "{seen:?}");
    assert!(readers[1].backfill().expect("a history").complete);
}

#[test]
fn an_id_that_may_have_been_forgotten_is_an_error_and_no_row_twice() {
    let (_, world) = worlds(&mut Dice(7)).swap_remove(1);
    let options = [
        ("handover", "id"),
        ("handover.id-column", "id"),
        ("live.scan.startup.mode", "earliest-offset"),
        ("handover.id-memory", "100 ms"),
    ];
    let e = play(&options, &world, &mut Dice(7), None).expect_err("rows of 0 ms are read again");
    assert!(e.what().contains("may be in the history already"), "{e}");
    assert!(e.help().is_some_and(|h| h.contains("handover.id-memory")), "{e}");
    // Too few bytes for the time that is asked for.
    let options = [BY_ID, &[("handover.id-memory-bytes", "640b")]].concat();
    let e = play(&options, &world, &mut Dice(7), None).expect_err("ten ids at most");
    assert!(e.help().is_some_and(|h| h.contains("handover.id-memory-bytes")), "{e}");
}

#[test]
fn a_job_does_not_go_on_with_another_handover() {
    let (options, world) = worlds(&mut Dice(9)).swap_remove(0);
    let mut source = open(options, &world);
    let readers = source.partitions(1).expect("opened");
    let position = readers[0].position().expect("a position");
    let e = open(BY_TIME, &world)
        .resume(&[SavedPartition { name: past::NAME.into(), position }], 1)
        .err()
        .expect("refused");
    assert!(e.what().contains("'handover' = 'offset'") && e.what().contains("'event-time'"), "{e}");
}

#[test]
fn a_history_that_has_grown_between_runs_is_noticed() {
    let (options, world) = worlds(&mut Dice(9)).swap_remove(0);
    let mut source = open(options, &world);
    let mut readers = source.partitions(1).expect("opened");
    let before = readers[0].position().expect("a position");
    while !matches!(readers[0].poll().expect("read"), Polled::End) {}
    let mut live = readers.swap_remove(1);
    while !matches!(live.poll().expect("read"), Polled::Rows(_)) {
        std::thread::sleep(Duration::from_micros(50));
    }
    let saved = [
        SavedPartition { name: past::NAME.into(), position: before },
        SavedPartition { name: live.name().into(), position: live.position().expect("a position") },
    ];
    let mut grown = world.clone();
    let number: usize = live.name()[2..3].parse().expect("t[n]");
    let next = grown.topic[number].iter().find(|r| !world.history.contains(r)).copied().expect("a live row");
    grown.history.push(next);
    let mut readers = open(options, &grown).resume(&saved, 1).expect("opened");
    let mut poll_all = || -> Result<()> {
        for _ in 0..100_000 {
            for reader in &mut readers {
                if let Polled::Pending = reader.poll()? {
                    std::thread::sleep(Duration::from_micros(20));
                }
            }
        }
        Ok(())
    };
    let e = poll_all().expect_err("a row would come twice");
    assert!(e.what().contains("another one than before"), "{e}");
}
