//! Tables that begin with files and go on with a topic: `./dev servers cargo test -p millstream --test it history`.
//!
//! `MILLSTREAM_TEST_HISTORY_ROWS` says how many rows there are (the full form has 10,000,000), and
//! `MILLSTREAM_TEST_HISTORY_KILLS` how often each job is killed (20).

use crate::kafka::{PATIENCE, World, world};
use crate::state::{lines, wait_until};
use futures::executor::block_on;
use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::cell::Cell;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

/// Event time between two rows, in milliseconds; and how far a row may come behind its time: less than five minutes.
const STEP: u64 = 6;
const SHUFFLE_MAX: u64 = 49_999;
/// 2024-01-01.
const BEGIN: u64 = 1_704_067_200_000;
/// Long after all rows: it closes every window before it.
const LAST: u64 = BEGIN + 400_000_000_000;
const PARTITIONS: u64 = 4;

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// A number that follows from another and looks like none.
fn scattered(number: u64) -> u64 {
    let mixed = (number ^ (number >> 31)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 20
}

fn at(id: u64) -> u64 {
    BEGIN + id * STEP
}

fn partition(id: u64) -> u64 {
    scattered(id) % PARTITIONS
}

/// `n` of a row, which SQL can say as well.
fn n(id: u64) -> u64 {
    id * 17 % 23
}

fn json(id: i64, at: u64, n: u64) -> String {
    format!("{{\"id\":{id},\"at\":{at},\"n\":{n}}}")
}

/// Rows of all, those that the history has, and the first that the topic still has.
struct Sizes {
    all: u64,
    history: u64,
    kept: u64,
}

impl Sizes {
    fn of(all: u64) -> Sizes {
        Sizes { all, history: all / 10 * 6, kept: all / 100 * 55 }
    }
}

/// A topic with all rows, shuffled within five minutes of event time, and two archives of its beginning: `by-offset` as a
/// job copies it, partition and offset beside each row and the partitions unevenly far; and `by-time`, every row of the
/// first six tenths and none of the others.
struct Legs {
    world: World,
    sizes: Sizes,
    topic: String,
    /// Rows that have come to the topic since.
    extra: Cell<u64>,
}

impl Legs {
    fn make(world: World, all: u64) -> Legs {
        let sizes = Sizes::of(all);
        let topic = world.topic("purchases", PARTITIONS as i32);
        let legs = Legs { world, sizes, topic, extra: Cell::new(0) };
        let began = Instant::now();
        let shuffle = SHUFFLE_MAX.min(all / 25);
        let mut order: Vec<(u64, u64)> = (0..all).map(|id| (id + scattered(id + 7) % shuffle, id)).collect();
        order.sort_unstable();
        // Where each partition is when the history ends, and when the topic begins.
        let (mut archived, mut kept) = ([0u64; 4], [0u64; 4]);
        for (number, (_, id)) in (0u64..).zip(&order) {
            let partition = partition(*id);
            // The last one has been archived less far than the others, by far more than the watermark waits.
            let behind = if partition == 3 { all / 10 } else { 0 };
            archived[partition as usize] += u64::from(number < legs.sizes.history - behind);
            kept[partition as usize] += u64::from(number < legs.sizes.kept - behind);
        }
        legs.produce(order.iter().map(|(_, id)| (partition(*id) as i32, json(*id as i64, at(*id), n(*id)))));
        eprintln!("{all} rows sent in {:.1} s", began.elapsed().as_secs_f64());
        legs.archive(&archived);
        legs.forget(&kept);
        let ends = (0..PARTITIONS as i32).map(|p| (p, json(-1 - i64::from(p), LAST, 0)));
        legs.produce(ends);
        legs.check_sent();
        legs
    }

    fn produce(&self, records: impl Iterator<Item = (i32, String)>) {
        let mut config = self.world.config();
        config.set("linger.ms", "20").set("queue.buffering.max.messages", "500000");
        let producer: BaseProducer = config.create().expect("a producer");
        for (partition, value) in records {
            // As a producer that says when its rows were made.
            let time = value.split("\"at\":").nth(1).and_then(|t| t.split(',').next()?.parse().ok()).expect("a time");
            // A broker takes no time that is to come.
            let time = if time == LAST as i64 { BEGIN as i64 } else { time };
            let mut record: BaseRecord<'_, str, str> =
                BaseRecord::to(&self.topic).partition(partition).payload(value.as_str()).timestamp(time);
            loop {
                match producer.send(record) {
                    Ok(()) => break,
                    Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), back)) => {
                        producer.poll(Duration::from_millis(20));
                        record = back;
                    }
                    Err((e, _)) => panic!("not taken: {e}"),
                }
            }
        }
        producer.flush(PATIENCE).expect("arrived");
    }

    /// That all of it has arrived: a producer that asks for no answers hears of none that was refused.
    fn check_sent(&self) {
        let reader: BaseConsumer = self.world.config().set("group.id", "onlooker").create().expect("a consumer");
        let end = |partition| reader.fetch_watermarks(&self.topic, partition, PATIENCE).expect("an answer").1 as u64;
        assert_eq!((0..PARTITIONS as i32).map(end).sum::<u64>(), self.sizes.all + PARTITIONS);
    }

    /// Lets jobs of ours write the archives.
    fn archive(&self, ends: &[u64; 4]) {
        let ends: Vec<String> =
            (0..).zip(ends).map(|(p, end): (u64, _)| format!("partition:{p},offset:{end}")).collect();
        let copy = format!(
            "CREATE TABLE topic (id BIGINT, `at` BIGINT, n BIGINT, p INT METADATA FROM 'partition' VIRTUAL,
               o BIGINT METADATA FROM 'offset' VIRTUAL) WITH ('connector' = 'kafka', 'topic' = '{}',
               'properties.bootstrap.servers' = '{}', 'format' = 'json', 'scan.startup.mode' = 'earliest-offset',
               'scan.bounded.mode' = 'specific-offsets', 'scan.bounded.specific-offsets' = '{}');
             CREATE TABLE archive (id BIGINT, `at` BIGINT, n BIGINT, p INT, o BIGINT) WITH ('connector' = 'filesystem',
               'path' = '{}', 'format' = 'parquet');
             INSERT INTO archive SELECT id, `at`, n, p, o FROM topic;",
            self.topic,
            self.world.address,
            ends.join(";"),
            self.path("by-offset"),
        );
        let made = format!(
            "CREATE TABLE numbers (id BIGINT) WITH ('connector' = 'datagen', 'rows-per-second' = '100000000', 'fields.id.kind' = 'sequence',
               'fields.id.start' = '0', 'fields.id.end' = '{}');
             CREATE TABLE archive (id BIGINT, `at` BIGINT, n BIGINT) WITH ('connector' = 'filesystem', 'path' = '{}',
               'format' = 'parquet');
             INSERT INTO archive SELECT id, {BEGIN} + id * {STEP}, MOD(id * 17, 23) FROM numbers;",
            self.sizes.history - 1,
            self.path("by-time"),
        );
        for (name, sql) in [("copy.sql", copy), ("made.sql", made)] {
            let (code, _, err) =
                self.world.run(&["run", &self.world.script(name, &sql), "-p", "1", "--progress", "none"]);
            assert_eq!(code, 0, "{err}");
        }
    }

    /// Retention takes away what lies before these offsets.
    fn forget(&self, before: &[u64; 4]) {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in (0..).zip(before) {
            list.add_partition_offset(&self.topic, partition, Offset::Offset(*offset as i64)).expect("listed");
        }
        block_on(self.world.admin().delete_records(&list, &AdminOptions::new())).expect("deleted");
    }

    fn path(&self, name: &str) -> String {
        self.world.folder.path().join(name).to_str().expect("UTF-8").to_owned()
    }

    fn purchases(&self, by: &str, more: &str) -> String {
        // Long enough for what both legs have, and twice for the shuffling.
        let memory = (self.sizes.all / 10 + self.sizes.history - self.sizes.kept) * STEP / 60_000 + 12;
        let (columns, archive, handover) = match by {
            "offset" => (
                "p INT METADATA FROM 'partition' VIRTUAL, ",
                "by-offset",
                "'handover.partition-column' = 'p', 'handover.offset-column' = 'o'".to_owned(),
            ),
            "id" => ("", "by-time", format!("'handover.id-column' = 'id', 'handover.id-memory' = '{memory} min'")),
            _ => ("", "by-time", "'handover.overlap' = '1 min'".to_owned()),
        };
        format!(
            "CREATE TABLE purchases (id BIGINT, `at` BIGINT, n BIGINT, {columns}ts AS TO_TIMESTAMP_LTZ(`at`, 3),
               WATERMARK FOR ts AS ts - INTERVAL '5' MINUTE) WITH (
               'connector' = 'history-then-live', 'handover' = '{by}', 'handover.time-column' = 'at', {handover},
               'history.connector' = 'filesystem', 'history.path' = '{}', 'history.format' = 'parquet',
               'live.connector' = 'kafka', 'live.topic' = '{}', 'live.properties.bootstrap.servers' = '{}',
               'live.format' = 'json'{more});\n",
            self.path(archive),
            self.topic,
            self.world.address,
        )
    }

    /// What a job has to have written in the end: rows, and sums of `n`, of the ids and of the partitions.
    fn expected(&self, by: &str) -> [u64; 4] {
        let parts = |id| if by == "offset" { partition(id) } else { 1 };
        (0..self.sizes.all).fold([0; 4], |[count, sum, ids, p], id| [count + 1, sum + n(id), ids + id, p + parts(id)])
    }
}

/// The sums over all windows that stand in a folder, and how many windows those are.
fn written(folder: &str) -> ([u64; 4], usize) {
    let rows = if std::path::Path::new(folder).exists() { lines(folder.as_ref()) } else { Vec::new() };
    let mut sums = [0; 4];
    for row in &rows {
        let numbers: Vec<u64> = row.split(',').skip(1).map(|v| v.parse().expect("a number")).collect();
        (0..4).for_each(|i| sums[i] += numbers[i]);
    }
    (sums, rows.len())
}

fn killed_again_and_again(legs: &Legs, by: &str, kills: u64) -> String {
    let (out, state) = (legs.path(&format!("out-{by}")), legs.path(&format!("state-{by}")));
    let parts = if by == "offset" { "SUM(p)" } else { "COUNT(*)" };
    let sql = legs.purchases(by, "")
        + &format!(
            "CREATE TABLE sums (w TIMESTAMP(3), events BIGINT, total BIGINT, ids BIGINT, parts BIGINT) WITH (
               'connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv');
             INSERT INTO sums SELECT window_start, COUNT(*), SUM(n), SUM(id), {parts}
               FROM TABLE(TUMBLE(TABLE purchases, DESCRIPTOR(ts), INTERVAL '1' MINUTE))
               GROUP BY window_start, window_end;"
        );
    let script = legs.world.script(&format!("{by}.sql"), &sql);
    let (seed, mut random) = (legs.world.unique as u64, legs.world.unique as u64 ^ scattered(by.len() as u64));
    let mut next = |below: u64| {
        random = scattered(random.wrapping_add(0x1234_5678_9abc));
        random % below
    };
    // Runs that take all of it between them, by what a machine of two cores does in a second.
    let budget = legs.sizes.all / setting("MILLSTREAM_TEST_HISTORY_PACE", 300) / kills.max(1);
    let mut told = String::new();
    for kill in 0..kills {
        let parallelism = ["1", "2", "3"][next(3) as usize];
        let trigger = ["100ms", "300ms"][next(2) as usize];
        let args = ["run", &script, "--state", &state, "--trigger", trigger, "-p", parallelism, "--progress", "none"];
        let began = Instant::now();
        let mut child = legs.world.spawn(&args);
        if kill == 0 {
            let checkpoint = std::path::Path::new(&state).to_owned();
            wait_until("there is a checkpoint", || newest_manifest(&checkpoint).is_some());
        } else if kill == kills / 2 {
            // As soon as it is known that the history has ended, and the live leg is being opened.
            let over =
                || newest_manifest(state.as_ref()).is_some_and(|m| m.replace(' ', "").contains("\"ended\":true"));
            wait_until("the history has ended", over);
            std::thread::sleep(Duration::from_millis(next(100)));
        } else {
            std::thread::sleep(Duration::from_millis(200 + next(2 * budget + 1)));
        }
        let ended = child.0.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "{by}, seed {seed}, kill {kill}: it ended by itself: {}", legs.world.said());
        drop(child);
        let (code, leg, err) = legs.world.run(&[
            "state",
            "query",
            &state,
            "SELECT COUNT(*) AS live FROM partitions WHERE name = 'history' AND ended",
            "--format",
            "csv",
        ]);
        assert_eq!(code, 0, "{err}");
        let live = leg.lines().any(|l| l.trim() == "1");
        let (sums, windows) = written(&out);
        let _ = writeln!(
            told,
            "  kill {kill} after {} ms at parallelism {parallelism}: {}, {windows} windows of {} rows",
            began.elapsed().as_millis(),
            if live { "live" } else { "history" },
            sums[0]
        );
        assert!(kill > 0 || !live, "{by}: the first kill came too late to meet the history");
    }
    let (code, _, err) =
        legs.world.run(&["run", &script, "--state", &state, "--available-now", "-p", "2", "--progress", "plain"]);
    assert_eq!(code, 0, "{by}, seed {seed}: {err}\n{told}");
    assert!(err.contains("history complete") && !err.contains("late"), "{by}, seed {seed}: {err}\n{told}");
    let (sums, windows) = written(&out);
    assert_eq!(sums, legs.expected(by), "{by}, seed {seed}: {windows} windows\n{told}");
    format!("{told}  in the end {windows} windows of {} rows, sums {:?}", sums[0], &sums[1..])
}

/// The text of the manifest that was written last.
fn newest_manifest(state: &std::path::Path) -> Option<String> {
    let (mut folders, mut newest) = (vec![state.to_owned()], None);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.components().any(|c| c.as_os_str() == "manifests") {
                newest = newest.max(path.file_name().map(|name| (name.to_owned(), path.clone())));
            }
        }
    }
    std::fs::read_to_string(newest?.1).ok()
}

#[test]
fn a_history_goes_over_into_its_topic_without_a_gap_and_without_a_double() {
    let Some(world) = world() else { return };
    let began = Instant::now();
    let (all, kills) =
        (setting("MILLSTREAM_TEST_HISTORY_ROWS", 1_000_000), setting("MILLSTREAM_TEST_HISTORY_KILLS", 4));
    let legs = Legs::make(world, all);
    eprintln!("{all} rows, topic and archives made in {:.1} s", began.elapsed().as_secs_f64());
    for by in ["offset", "id", "event-time"] {
        let began = Instant::now();
        let told = killed_again_and_again(&legs, by, kills);
        eprintln!("by {by}, {kills} kills in {:.1} s:\n{told}", began.elapsed().as_secs_f64());
    }
}

#[test]
fn a_bounded_one_is_a_batch_and_a_hole_and_a_topic_that_is_gone_are_said() {
    let Some(world) = world() else { return };
    let legs = Legs::make(world, 10_000);
    for by in ["offset", "id", "event-time"] {
        let query = "SELECT COUNT(*) AS c, SUM(n) AS s, SUM(id) AS i FROM purchases WHERE id >= 0;";
        let sql = legs.purchases(by, ", 'live.scan.bounded.mode' = 'latest-offset'") + query;
        let [count, sum, ids, _] = legs.expected(by);
        for mode in ["batch", "streaming"] {
            let script = legs.world.script("bounded.sql", &sql);
            let (code, out, err) =
                legs.world.run(&["run", &script, "--mode", mode, "--format", "csv", "--progress", "none", "-p", "2"]);
            assert_eq!(code, 0, "{by}, {mode}: {err}");
            let last = out.lines().rfind(|l| l.contains(',')).expect("a row");
            assert!(last.ends_with(&format!("{count},{sum},{ids}")), "{by}, {mode}: {out}");
        }
        let endless = legs.world.script("endless.sql", &(legs.purchases(by, "") + query));
        let (code, _, err) = legs.world.run(&["run", &endless, "--mode", "batch", "--progress", "none"]);
        assert!(code != 0 && err.contains("scan.bounded.mode"), "{code} {err}");
    }
    each_run_goes_on_behind_what_was_there(&legs);
    // Retention goes past what the history has.
    let ends: [u64; 4] = std::array::from_fn(|p| (0..10_000).filter(|id| partition(*id) == p as u64).count() as u64);
    legs.forget(&ends);
    let sql = legs.purchases("offset", "") + "SELECT COUNT(*) FROM purchases;";
    let (code, _, err) = legs.world.run(&["run", &legs.world.script("hole.sql", &sql), "--progress", "none"]);
    assert!(code != 0 && err.contains("a hole between the history and the topic"), "{code} {err}");
    assert!(err.contains(&format!("still has is {}", ends[0])) && err.contains("retention"), "{err}");
    let sql = sql.replace(&legs.topic, "no-such-topic");
    let (code, _, err) = legs.world.run(&["run", &legs.world.script("gone.sql", &sql), "--progress", "none"]);
    assert!(code != 0 && err.contains("live.topic") && err.contains("no-such-topic"), "{code} {err}");
}

/// The first run of `--available-now` reads the history and the topic, the second one what has come since.
fn each_run_goes_on_behind_what_was_there(legs: &Legs) {
    for by in ["offset", "id", "event-time"] {
        let (out, state) = (legs.path(&format!("rows-{by}")), legs.path(&format!("now-{by}")));
        let sql = legs.purchases(by, "")
            + &format!(
                "CREATE TABLE copies (id BIGINT) WITH ('connector' = 'filesystem', 'path' = '{out}', 'format' = 'csv');
                 INSERT INTO copies SELECT id FROM purchases WHERE id >= 0;"
            );
        let script = legs.world.script("now.sql", &sql);
        let before = legs.extra.get();
        for run in 0..2 {
            if run == 1 {
                let extra = legs.sizes.all + legs.extra.get();
                legs.produce((extra..extra + 100).map(|id| ((id % PARTITIONS) as i32, json(id as i64, at(id), 0))));
                legs.extra.set(legs.extra.get() + 100);
            }
            let (code, _, err) = legs.world.run(&[
                "run",
                &script,
                "--state",
                &state,
                "--available-now",
                "-p",
                "3",
                "--progress",
                "plain",
            ]);
            assert_eq!(code, 0, "{by}: {err}");
            assert!(err.contains("history complete"), "{by}, run {run}: {err}");
            let mut ids: Vec<u64> = lines(out.as_ref()).iter().map(|l| l.parse().expect("an id")).collect();
            ids.sort_unstable();
            let expected: Vec<u64> = (0..legs.sizes.all + before + 100 * run).collect();
            assert!(ids == expected, "{by}, run {run}: {} rows of {}", ids.len(), expected.len());
        }
    }
}
