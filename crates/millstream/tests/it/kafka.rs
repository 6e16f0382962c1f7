//! Jobs between topics, in processes that are killed: `./dev servers cargo test -p millstream --test it kafka`.
//!
//! What they leave is read by a client that knows nothing of ours and sees what is committed.

mod changes;

use crate::cli::told;
use crate::metrics::{Scrape, Watched};
use crate::state::{Child, wait_until};
use crate::support::difference;
use futures::executor::block_on;
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// The tests share the broker, but for the one that stops it.
static UP: RwLock<()> = RwLock::new(());

enum Use {
    Shared { _up: RwLockReadGuard<'static, ()> },
    Alone { _up: RwLockWriteGuard<'static, ()> },
}

/// The broker and a folder; `None` where this run is without a broker, which is said loudly, and is a failure in CI.
pub(crate) struct World {
    pub(crate) address: String,
    pub(crate) unique: u128,
    pub(crate) folder: tempfile::TempDir,
    _use: Use,
}

pub(crate) fn world() -> Option<World> {
    let up = UP.read().unwrap_or_else(|e| e.into_inner());
    world_as(Use::Shared { _up: up })
}

/// Nobody else uses its broker.
fn world_alone() -> Option<World> {
    let up = UP.write().unwrap_or_else(|e| e.into_inner());
    world_as(Use::Alone { _up: up })
}

fn world_as(used: Use) -> Option<World> {
    let Some(address) = std::env::var("MILLSTREAM_TEST_KAFKA").ok().filter(|a| !a.is_empty()) else {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_KAFKA is not set, and CI must not skip");
        // Past the test harness, which shows what a test prints only if it fails.
        let _ = writeln!(
            std::io::stderr(),
            "!! SKIPPED: MILLSTREAM_TEST_KAFKA is not set; run ./dev servers cargo test .."
        );
        return None;
    };
    let unique = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970").as_nanos();
    Some(World { address, unique, folder: tempfile::tempdir().expect("a folder"), _use: used })
}

impl World {
    pub(crate) fn config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.address);
        config
    }

    pub(crate) fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.config().create().expect("a client")
    }

    pub(crate) fn topic(&self, name: &str, partitions: i32) -> String {
        let name = format!("{name}-{}", self.unique);
        let topic = NewTopic::new(&name, partitions, TopicReplication::Fixed(1)).set("retention.ms", "-1");
        let made = block_on(self.admin().create_topics([&topic], &AdminOptions::new())).expect("an answer");
        made.into_iter().for_each(|made| drop(made.expect("created")));
        name
    }

    fn grow(&self, topic: &str, partitions: usize) {
        let wanted = NewPartitions::new(topic, partitions);
        let grown = block_on(self.admin().create_partitions([&wanted], &AdminOptions::new())).expect("an answer");
        grown.into_iter().for_each(|grown| drop(grown.expect("grown")));
    }

    pub(crate) fn produce(&self, topic: &str, records: &[(i32, String)]) {
        let producer: BaseProducer = self.config().create().expect("a producer");
        for (partition, value) in records {
            let record: BaseRecord<'_, str, str> = BaseRecord::to(topic).partition(*partition).payload(value);
            producer.send(record).map_err(|(e, _)| e).expect("taken");
        }
        producer.flush(PATIENCE).expect("arrived");
    }

    fn reader(&self, isolation: &str) -> BaseConsumer {
        let mut config = self.config();
        config.set("group.id", "onlooker").set("enable.auto.commit", "false").set("enable.partition.eof", "true");
        config.set("isolation.level", isolation).create().expect("a consumer")
    }

    /// What is committed once no transaction is open: a broker says that one is committed a moment before readers see it.
    fn settled(&self, topic: &str) -> Vec<(Option<String>, Option<String>)> {
        let (committed, all) = (self.reader("read_committed"), self.reader("read_uncommitted"));
        let metadata = all.fetch_metadata(Some(topic), PATIENCE).expect("described");
        for partition in 0..metadata.topics()[0].partitions().len() {
            let end = |of: &BaseConsumer| of.fetch_watermarks(topic, partition as i32, PATIENCE).expect("an answer").1;
            wait_until("no transaction is open", || end(&committed) == end(&all));
        }
        self.records(topic)
    }

    /// Values of what is committed in the end, sorted.
    fn values(&self, topic: &str) -> Vec<String> {
        let mut rows: Vec<String> = self.settled(topic).iter().map(|r| plain(r.1.as_ref().expect("a value"))).collect();
        rows.sort();
        rows
    }

    /// Keys and values of what is committed, by partition and offset.
    fn records(&self, topic: &str) -> Vec<(Option<String>, Option<String>)> {
        let reader = self.reader("read_committed");
        let metadata = reader.fetch_metadata(Some(topic), PATIENCE).expect("described");
        let partitions = metadata.topics()[0].partitions().len();
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition_offset(topic, partition as i32, Offset::Beginning).expect("listed");
        }
        reader.assign(&list).expect("assigned");
        let (mut records, mut ended, until) = (Vec::new(), 0, Instant::now() + PATIENCE);
        while ended < partitions {
            assert!(Instant::now() < until, "the topic {topic} has no end");
            match reader.poll(Duration::from_millis(100)) {
                Some(Ok(m)) => {
                    let text = |bytes: Option<&[u8]>| bytes.map(|b| String::from_utf8_lossy(b).into_owned());
                    records.push(((m.partition(), m.offset()), (text(m.key()), text(m.payload()))));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => ended += 1,
                _ => {}
            }
        }
        records.sort_by_key(|r| r.0);
        records.into_iter().map(|r| r.1).collect()
    }

    fn group_offsets(&self, group: &str, topic: &str, partitions: i32) -> Vec<Option<i64>> {
        let mut config = self.config();
        let reader: BaseConsumer = config.set("group.id", group).create().expect("a consumer");
        let mut list = TopicPartitionList::new();
        for partition in 0..partitions {
            list.add_partition(topic, partition);
        }
        let list = reader.committed_offsets(list, PATIENCE).expect("an answer");
        let offset = |offset| if let Offset::Offset(at) = offset { Some(at) } else { None };
        list.elements().iter().map(|e| offset(e.offset())).collect()
    }

    pub(crate) fn script(&self, name: &str, sql: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, sql).expect("written");
        path.to_str().expect("UTF-8").to_owned()
    }

    fn state(&self) -> String {
        self.folder.path().join("state").to_str().expect("UTF-8").to_owned()
    }

    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }

    pub(crate) fn spawn(&self, args: &[&str]) -> Child {
        let said = std::fs::File::create(self.folder.path().join("said")).expect("a file can be made");
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        Child(command.spawn().expect("it runs"))
    }

    pub(crate) fn run(&self, args: &[&str]) -> (i32, String, String) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_millstream"));
        told(&command.args(args).stdin(Stdio::null()).output().expect("the binary runs"))
    }

    fn events(&self, topic: &str, more: &str) -> String {
        format!(
            "CREATE TABLE events (ts TIMESTAMP(3), name STRING, n BIGINT, WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH (
               'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'format' = 'json',
               'scan.startup.mode' = 'earliest-offset'{more});\n",
            self.address
        )
    }
}

/// An event at so many tenths of a second; out of order by less than the watermark waits.
fn event(number: u64) -> (u64, u64, u64) {
    (number - number.min(number * 7 % 40), number * 31 % 10, number * 17 % 23)
}

fn json((tenths, name, n): (u64, u64, u64)) -> String {
    let (seconds, millis) = (tenths / 10, tenths % 10 * 100);
    let (h, m, s) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    format!("{{\"ts\":\"2024-01-01 {h:02}:{m:02}:{s:02}.{millis:03}\",\"name\":\"name{name}\",\"n\":{n}}}")
}

const WINDOWS: &str = "INSERT INTO sums SELECT window_start, name, SUM(n) AS total, COUNT(*) AS events \
                       FROM TABLE(TUMBLE(TABLE events, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                       GROUP BY window_start, window_end, name;";

fn sums(world: &World, topic: &str) -> String {
    format!(
        "CREATE TABLE sums (w TIMESTAMP(3), name STRING, total BIGINT, events BIGINT) WITH (
           'connector' = 'kafka', 'topic' = '{topic}', 'properties.bootstrap.servers' = '{}', 'format' = 'csv',
           'key.format' = 'raw', 'key.fields' = 'name');\n",
        world.address
    )
}

/// What the windows hold, counted here.
fn oracle(events: u64) -> Vec<String> {
    let mut windows: BTreeMap<(u64, u64), (u64, u64)> = BTreeMap::new();
    for number in 0..events {
        let (tenths, name, n) = event(number);
        let sum = windows.entry((tenths / 100, name)).or_default();
        *sum = (sum.0 + n, sum.1 + 1);
    }
    let mut rows: Vec<String> = windows
        .into_iter()
        .map(|((window, name), (total, events))| {
            let at = window * 10;
            format!("2024-01-01 {:02}:{:02}:{:02},name{name},{total},{events}", at / 3600, at / 60 % 60, at % 60)
        })
        .collect();
    rows.sort();
    rows
}

/// Without the fraction of a second, which is none here, however it is written.
fn plain(row: &str) -> String {
    row.replace(".000", "").replace('T', " ")
}

#[test]
fn a_job_that_is_killed_again_and_again_gives_each_window_once() {
    let Some(world) = world() else { return };
    let kills: u32 = std::env::var("MILLSTREAM_TEST_KAFKA_KILLS").map_or(20, |k| k.parse().expect("a number of kills"));
    let (input, output) = (world.topic("events", 4), world.topic("sums", 3));
    let script = world.script("windows.sql", &(world.events(&input, "") + &sums(&world, &output) + WINDOWS));
    let (state, seed) = (world.state(), world.unique as u64);
    let mut random = seed | 1;
    let mut next = |below: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) % below
    };
    // Some arrive before each run and some while it works.
    let per_kill = 2_000;
    let mut events = 0;
    let mut send = |world: &World, number: u64| {
        let records: Vec<_> = (events..events + number).map(|n| ((n % 4) as i32, json(event(n)))).collect();
        world.produce(&input, &records);
        events += number;
    };
    let mut seen = Vec::new();
    for kill in 0..kills {
        send(&world, per_kill / 2);
        let parallelism = ["1", "2", "3"][next(3) as usize];
        // Long pauses between epochs leave time to be killed after a commit and before anybody notes that it is done.
        let trigger = ["100ms", "1s"][(kill % 2) as usize];
        let args = ["run", &script, "--state", &state, "--trigger", trigger, "-p", parallelism, "--progress", "none"];
        let mut child = world.spawn(&args);
        send(&world, per_kill / 2);
        // Every other time at any instant of its start, else when its rows have just been seen.
        if kill % 2 == 0 {
            std::thread::sleep(Duration::from_millis(next(3000)));
        } else {
            let before = seen.last().copied().unwrap_or_default();
            let until = Instant::now() + PATIENCE;
            while world.records(&output).len() == before && Instant::now() < until {
                let ended = child.0.try_wait().expect("a child can be asked");
                assert!(ended.is_none(), "seed {seed}, kill {kill}: it ended by itself: {}", world.said());
            }
        }
        let ended = child.0.try_wait().expect("a child can be asked");
        assert!(ended.is_none(), "seed {seed}, kill {kill}: it ended by itself: {}", world.said());
        drop(child);
        seen.push(world.records(&output).len());
    }
    // Far in the future: it closes every window before it.
    let end: Vec<_> = (0..4).map(|p| (p, json((800_000, 0, 0)))).collect();
    world.produce(&input, &end);
    let (code, _, err) =
        world.run(&["run", &script, "--state", &state, "--available-now", "-p", "2", "--progress", "none"]);
    assert_eq!(code, 0, "seed {seed}: {err}");
    let rows = world.values(&output);
    let expected = oracle(u64::from(kills) * per_kill);
    assert!(rows == expected, "seed {seed}, {seen:?}: {}", difference(&rows, &expected));
    // Some of it has been visible before the last run, or the kills have shown nothing.
    assert!(seen.last().is_some_and(|n| *n > 0 && *n < expected.len()), "{seen:?} of {}", expected.len());
    eprintln!("{kills} kills, rows visible after each: {seen:?}; in the end {}", rows.len());
}

#[test]
fn a_job_lives_through_a_broker_that_stands_still_and_one_that_restarts() {
    let Some(world) = world_alone() else { return };
    let Some(control) = std::env::var("MILLSTREAM_TEST_KAFKA_CONTROL").ok().filter(|c| !c.is_empty()) else {
        assert!(std::env::var_os("CI").is_none(), "MILLSTREAM_TEST_KAFKA_CONTROL is not set, and CI must not skip");
        return;
    };
    let control = |what: &str| {
        let done = Command::new(&control).arg(what).status().expect("it runs");
        assert!(done.success(), "the broker does not {what}");
    };
    let (input, output) = (world.topic("lived", 2), world.topic("lived-sums", 2));
    // Transactions run out while the broker stands still.
    let short = ", 'properties.transaction.timeout.ms' = '2000')";
    let sums = sums(&world, &output).replace(");\n", &format!("{short};\n"));
    let script = world.script("lived.sql", &(world.events(&input, "") + &sums + WINDOWS));
    let state = world.state();
    let args = ["run", &script, "--state", &state, "--trigger", "100ms", "-p", "2", "--progress", "none"];
    let mut child = world.spawn(&args);
    let mut events = 0;
    let mut send = |number: u64| {
        let records: Vec<_> = (events..events + number).map(|n| ((n % 2) as i32, json(event(n)))).collect();
        world.produce(&input, &records);
        events += number;
    };
    let mut seen = 0;
    for what in ["nothing", "pause", "stop"] {
        send(1000);
        match what {
            "pause" => {
                control("pause");
                std::thread::sleep(Duration::from_secs(5));
                control("go-on");
            }
            "stop" => {
                control("stop");
                std::thread::sleep(Duration::from_secs(1));
                control("start");
            }
            _ => {}
        }
        send(1000);
        wait_until(&format!("it goes on after {what}"), || {
            let ended = child.0.try_wait().expect("a child can be asked");
            assert!(ended.is_none(), "after {what} it ended: {}", world.said());
            world.records(&output).len() > seen
        });
        seen = world.records(&output).len();
    }
    drop(child);
    world.produce(&input, &[(0, json((800_000, 0, 0))), (1, json((800_000, 0, 0)))]);
    let (code, _, err) = world.run(&["run", &script, "--state", &state, "--available-now", "--progress", "none"]);
    assert_eq!(code, 0, "{err}");
    let rows = world.values(&output);
    let expected = oracle(6000);
    assert!(rows == expected, "{}", difference(&rows, &expected));
}

#[test]
fn a_running_job_tells_its_group_and_finds_new_partitions() {
    let Some(world) = world() else { return };
    let (input, output) = (world.topic("grows", 1), world.topic("grown", 1));
    let group = format!("group-{}", world.unique);
    let more = format!(
        ", 'properties.group.id' = '{group}', 'scan.topic-partition-discovery.interval' = '300 ms',
         'scan.watermark.idle-timeout' = '1 s'"
    );
    let script = world.script("grows.sql", &(world.events(&input, &more) + &sums(&world, &output) + WINDOWS));
    let state = world.state();
    let args = ["run", &script, "--state", &state, "--trigger", "100ms", "-p", "2", "--progress", "none"];
    world.produce(&input, &(0..300).map(|n| (0, json(event(n)))).collect::<Vec<_>>());
    let mut child = world.spawn(&args);
    let mut alive = || assert!(child.0.try_wait().expect("a child can be asked").is_none(), "{}", world.said());
    wait_until("the first windows are visible", || {
        alive();
        !world.records(&output).is_empty()
    });
    wait_until("the group is told", || world.group_offsets(&group, &input, 1) == [Some(300)]);
    world.grow(&input, 2);
    world.produce(&input, &(300..600).map(|n| (1, json(event(n)))).collect::<Vec<_>>());
    wait_until("the new partition is read", || {
        alive();
        world.group_offsets(&group, &input, 2) == [Some(300), Some(300)]
    });
    drop(child);
    // It is among the partitions of the checkpoint, so nothing of it is read twice.
    world.produce(&input, &[(0, json((800_000, 0, 0))), (1, json((800_000, 0, 0)))]);
    let (code, _, err) = world.run(&["run", &script, "--state", &state, "--available-now", "--progress", "none"]);
    assert_eq!(code, 0, "{err}");
    let rows = world.values(&output);
    let expected = oracle(600);
    assert!(rows == expected, "{}", difference(&rows, &expected));
}

#[test]
fn how_far_a_job_is_behind_its_topic_is_told_by_partition() {
    let Some(world) = world() else { return };
    let (input, output) = (world.topic("lags", 2), world.topic("lagged", 1));
    let records: Vec<(i32, String)> = (0..1000).map(|n| ((n % 5 == 0) as i32, json(event(n)))).collect();
    world.produce(&input, &records);
    let more = ", 'scan.rate-limit.rows-per-second' = '200'";
    let script = world.script("lags.sql", &(world.events(&input, more) + &sums(&world, &output) + WINDOWS));
    let watched = Watched::start(world.folder.path(), &["run", &script, "-p", "2", "--progress", "none"]);
    let lag = |s: &Scrape, partition: u32| {
        s.all("millstream_source_lag_rows", &[("table", "events"), ("partition", &format!("{input}[{partition}]"))])
    };
    let first = watched.until("both partitions are behind", |s| {
        (0..2).all(|p| lag(s, p).len() == 1) && s.sum("millstream_source_rows_total", &[]) >= 50.0
    });
    // Lag is told twice a second, so it may be that of a hundred rows before.
    let (read, behind) = (first.sum("millstream_source_rows_total", &[]), first.sum("millstream_source_lag_rows", &[]));
    assert!((1000.0..=1110.0).contains(&(read + behind)), "{read} read, {behind} behind");
    // Each partition has half of the rate, so the one with fewer records is done first.
    watched.until("the shorter one is read", |s| lag(s, 1) == [0.0] && lag(s, 0)[0] > 0.0);
    let last = watched.until("all is read", |s| s.sum("millstream_source_lag_rows", &[]) == 0.0);
    assert_eq!(last.sum("millstream_source_rows_total", &[("table", "events")]), 1000.0);
}

#[test]
fn counts_by_key_go_into_an_upsert_topic_run_after_run() {
    let Some(world) = world() else { return };
    let (input, output) = (world.topic("counted", 2), world.topic("counts", 2));
    let sql = world.events(&input, "")
        + &format!(
            "CREATE TABLE counts (name STRING, events BIGINT, total BIGINT, PRIMARY KEY (name) NOT ENFORCED) WITH (
               'connector' = 'upsert-kafka', 'topic' = '{output}', 'properties.bootstrap.servers' = '{}',
               'key.format' = 'raw', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY');
             INSERT INTO counts SELECT name, COUNT(*), SUM(n) FROM events GROUP BY name;",
            world.address
        );
    let script = world.script("counts.sql", &sql);
    let state = world.state();
    let mut counts: HashMap<String, (u64, u64)> = HashMap::new();
    for run in 0..3 {
        let numbers = run * 500..(run + 1) * 500;
        world.produce(&input, &numbers.clone().map(|n| ((n % 2) as i32, json(event(n)))).collect::<Vec<_>>());
        for (_, name, n) in numbers.map(event) {
            let count = counts.entry(format!("name{name}")).or_default();
            *count = (count.0 + 1, count.1 + n);
        }
        let (code, _, err) = world.run(&["run", &script, "--state", &state, "--available-now", "--progress", "none"]);
        assert_eq!(code, 0, "{err}");
        // The last record of each key counts, as for whoever reads a compacted topic.
        let last: HashMap<String, Option<String>> =
            world.settled(&output).into_iter().map(|(key, value)| (key.expect("a key"), value)).collect();
        assert_eq!(last.len(), counts.len());
        for (name, (events, total)) in &counts {
            assert_eq!(
                last[name].as_deref(),
                Some(format!("{{\"events\":{events},\"total\":{total}}}").as_str()),
                "{name}"
            );
        }
    }
}

#[test]
fn a_bounded_table_is_a_batch_and_a_stream_with_one_answer() {
    let Some(world) = world() else { return };
    let input = world.topic("bounded", 3);
    world.produce(&input, &(0..2000).map(|n| ((n % 3) as i32, json(event(n)))).collect::<Vec<_>>());
    let sql = world.events(&input, ", 'scan.bounded.mode' = 'latest-offset'")
        + "SELECT name, COUNT(*) AS events, SUM(n) AS total FROM events GROUP BY name;";
    let script = world.script("bounded.sql", &sql);
    let mut answers = Vec::new();
    for mode in ["batch", "streaming"] {
        let (code, out, err) = world.run(&["run", &script, "--mode", mode, "--format", "csv", "--progress", "none"]);
        assert_eq!(code, 0, "{mode}: {err}");
        let mut last: BTreeMap<String, String> = BTreeMap::new();
        for line in out.lines().filter(|l| l.contains("name") && l.chars().any(|c| c.is_ascii_digit())) {
            // Streaming shows each change; the last row of a name is its count.
            let at = line.find("name").expect("looked for");
            let (name, rest) = line[at..].split_once(',').expect("three columns");
            last.insert(name.to_owned(), rest.to_owned());
        }
        answers.push(last);
    }
    assert_eq!(answers[0].len(), 10, "{answers:?}");
    assert_eq!(answers[0], answers[1]);
    let endless = world.script("endless.sql", &(world.events(&input, "") + "SELECT COUNT(*) FROM events;"));
    let (code, _, err) = world.run(&["run", &endless, "--mode", "batch", "--progress", "none"]);
    assert!(code != 0 && err.contains("scan.bounded.mode"), "{code} {err}");
}
