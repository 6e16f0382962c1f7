//! Topics that bring changes: of a database's log, and by key.

use super::{PATIENCE, World, world};
use crate::changes::{Change, History, grouped, history, stands, told};
use crate::dice::Dice;
use crate::state::wait_until;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use std::time::Duration;

impl World {
    /// A table of a topic. `more`: its columns, then its other options.
    fn table(&self, name: &str, connector: &str, topic: &str, (columns, options): (&str, &str)) -> String {
        format!(
            "CREATE TABLE {name} ({columns}) WITH ('connector' = '{connector}', 'topic' = '{topic}',
               'properties.bootstrap.servers' = '{}', {options});\n",
            self.address
        )
    }

    fn folder(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// What stands of what a script writes into the table `back` of files.
    fn read_back(&self, name: &str, columns: &str, script: &str) -> Vec<String> {
        let back = format!(
            "CREATE TABLE back ({columns}) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'debezium-json');\n",
            self.folder(name)
        );
        let script = self.script(&format!("{name}.sql"), &(back + script));
        let (code, _, err) = self.run(&["run", &script, "-p", "2", "--progress", "none"]);
        assert_eq!(code, 0, "{err}");
        stands(crate::state::lines(&self.folder.path().join(name)).iter().map(String::as_str))
    }

    /// Sends changes, each to the partition of its row.
    fn change(&self, topic: &str, changes: &[Change], partitions: i64) {
        // A row that moves to another key stays in its partition here, as it would not with a key of its own; so its two
        // halves are sent apart, as Debezium does.
        let mut records = Vec::new();
        for change in changes {
            match change {
                Change::Update((id, old), (to, new)) if id != to => {
                    records.push(((id % partitions) as i32, told(&Change::Delete(*id, *old), "debezium-json")));
                    records.push(((to % partitions) as i32, told(&Change::Insert(*to, *new), "debezium-json")));
                }
                Change::Insert(id, _) | Change::Delete(id, _) | Change::Update((id, _), _) => {
                    records.push(((id % partitions) as i32, told(change, "debezium-json")));
                }
            }
        }
        self.produce(topic, &records);
    }
}

const TOTALS: (&str, &str) = (
    "g STRING, n BIGINT, total BIGINT, PRIMARY KEY (g) NOT ENFORCED",
    "'key.format' = 'json', 'value.format' = 'json', 'scan.bounded.mode' = 'latest-offset'",
);

/// A log of Debezium's, summed up by key into a topic, in a job that is killed; read back by key it is what the table has.
#[test]
fn a_log_of_changes_is_summed_up_by_key_and_read_back() {
    let Some(world) = world() else { return };
    let (input, output) = (world.topic("log", 3), world.topic("totals", 2));
    let (changes, last): History = history(&mut Dice(world.unique as u64), 3_000, false);
    let sql = world.table(
        "a",
        "kafka",
        &input,
        (
            "id BIGINT, g STRING, v BIGINT, PRIMARY KEY (id) NOT ENFORCED",
            "'format' = 'debezium-json', 'scan.startup.mode' = 'earliest-offset'",
        ),
    ) + &world.table("totals", "upsert-kafka", &output, TOTALS)
        + "INSERT INTO totals SELECT g, COUNT(*), SUM(v) FROM a WHERE g IS NOT NULL GROUP BY g;";
    let script = world.script("totals.sql", &sql);
    let state = world.state();
    let parts: Vec<&[Change]> = changes.chunks(changes.len() / 6 + 1).collect();
    for (part, parallelism) in parts.iter().zip(["1", "2", "7", "2", "1", "3"]) {
        let before = world.records(&output).len();
        let args = ["run", &script, "--state", &state, "--trigger", "100ms", "-p", parallelism, "--progress", "none"];
        let mut child = world.spawn(&args);
        world.change(&input, part, 3);
        wait_until("something has changed", || {
            assert!(child.0.try_wait().expect("a child can be asked").is_none(), "{}", world.said());
            world.records(&output).len() > before
        });
        // Somewhere on its way.
        std::thread::sleep(Duration::from_millis(100));
        drop(child);
    }
    let args = ["run", &script, "--state", &state, "--available-now", "-p", "2", "--progress", "none"];
    let (code, _, err) = world.run(&args);
    assert_eq!(code, 0, "{err}");
    let back =
        world.table("totals", "upsert-kafka", &output, TOTALS) + "INSERT INTO back SELECT g, n, total FROM totals;";
    let rows = world.read_back("back", "g STRING, n BIGINT, total BIGINT", &back);
    assert_eq!(rows, grouped(&last, false));
}

/// Read by key in a job that is restored: every change comes once, whatever is told again.
#[test]
fn a_topic_by_key_is_read_run_after_run() {
    let Some(world) = world() else { return };
    let (input, output) = (world.topic("by-key", 2), world.topic("changes", 1));
    let (changes, last): History = history(&mut Dice(5), 900, false);
    let sql = world.table(
        "a",
        "upsert-kafka",
        &input,
        (
            "v BIGINT, id BIGINT, g STRING, part INT METADATA FROM 'partition' VIRTUAL, PRIMARY KEY (id) NOT ENFORCED",
            "'key.format' = 'json', 'value.format' = 'json', 'value.fields-include' = 'EXCEPT_KEY'",
        ),
    ) + &world.table(
        "out",
        "kafka",
        &output,
        ("g STRING, n BIGINT, total BIGINT", "'format' = 'debezium-json'"),
    ) + "INSERT INTO out SELECT g, COUNT(*), SUM(v) FROM a WHERE part >= 0 GROUP BY g;";
    let script = world.script("by-key.sql", &sql);
    let state = world.state();
    let producer: BaseProducer = world.config().create().expect("a producer");
    let send = |id: i64, row: Option<String>| {
        let key = format!("{{\"id\":{id}}}");
        let record: BaseRecord<'_, str, str> = BaseRecord::to(&input).partition((id % 2) as i32).key(&key);
        let record = match &row {
            Some(row) => record.payload(row),
            None => record,
        };
        producer.send(record).map_err(|(e, _)| e).expect("taken");
    };
    let row = |(g, v): crate::changes::Row| {
        let text = crate::changes::object(0, (g, v));
        Some(format!("{{{}", text.split_once(',').expect("an id in front").1))
    };
    // A tombstone of a key that nobody knows, and one that comes twice.
    send(77, None);
    for (part, parallelism) in changes.chunks(200).zip(["1", "2", "7", "1", "2"]) {
        for change in part {
            match change {
                Change::Insert(id, new) => send(*id, row(*new)),
                Change::Delete(id, _) => (0..2).for_each(|_| send(*id, None)),
                Change::Update((id, _), (to, new)) => {
                    if id != to {
                        send(*id, None);
                    }
                    (0..2).for_each(|_| send(*to, row(*new)));
                }
            }
        }
        producer.flush(PATIENCE).expect("arrived");
        let args = ["run", &script, "--state", &state, "--available-now", "-p", parallelism, "--progress", "none"];
        let (code, _, err) = world.run(&args);
        assert_eq!(code, 0, "{err}");
    }
    let records: Vec<String> = world.settled(&output).into_iter().filter_map(|(_, value)| value).collect();
    assert_eq!(stands(records.iter().map(String::as_str)), grouped(&last, true));
}

#[test]
fn bad_records_are_set_aside_by_topic_partition_and_offset() {
    let Some(world) = world() else { return };
    let (log, keyed) = (world.topic("bad-log", 2), world.topic("bad-keys", 1));
    world.produce(
        &log,
        &[
            (0, r#"{"after":{"id":1,"v":5},"op":"c","source":{"ts_ms":1000}}"#.into()),
            (1, r#"{"after":{"id":2,"v":7},"op":"c","source":{"ts_ms":2000}}"#.into()),
            (1, r#"{"before":null,"after":{"id":2,"v":8},"op":"u"}"#.into()),
            (1, "no JSON".into()),
        ],
    );
    // Without a key.
    world.produce(&keyed, &[(0, r#"{"v":3}"#.into())]);
    let bad = world.folder.path().join("bad.csv");
    let script = format!(
        "SET 'millstream.bad-rows.table' = 'bad';
         CREATE TABLE bad (place STRING, reason STRING) WITH ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n",
        bad.display()
    ) + &world.table(
        "a",
        "kafka",
        &log,
        (
            "id BIGINT, v BIGINT, at TIMESTAMP_LTZ(3) METADATA FROM 'value.source.timestamp' VIRTUAL",
            "'format' = 'debezium-json', 'scan.startup.mode' = 'earliest-offset', 'scan.bounded.mode' = 'latest-offset'",
        ),
    ) + &world.table(
        "b",
        "upsert-kafka",
        &keyed,
        ("id BIGINT, v BIGINT, PRIMARY KEY (id) NOT ENFORCED", TOTALS.1),
    ) + "INSERT INTO back SELECT id, v, CAST(CAST(at AS TIMESTAMP(3)) AS STRING) FROM a
         UNION ALL SELECT id, v, CAST(NULL AS STRING) FROM b;";
    let rows = world.read_back("good", "id BIGINT, v BIGINT, at STRING", &script);
    let row = |id: i64, v: i64| format!("{{\"id\":{id},\"v\":{v},\"at\":\"1970-01-01 00:00:0{id}.000\"}}");
    assert_eq!(rows, [row(1, 5), row(2, 7)]);
    let bad = std::fs::read_to_string(bad).expect("the bad rows");
    assert_eq!(bad.lines().count(), 3, "{bad}");
    for words in [format!("{log}[1]@1"), "REPLICA IDENTITY FULL".into(), format!("{log}[1]@2"), format!("{keyed}[0]@0")]
    {
        assert!(bad.contains(&words), "{words}: {bad}");
    }
}
