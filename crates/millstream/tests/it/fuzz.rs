//! Fuzzing on the stable compiler: mutants of real inputs go into everything that reads a user's bytes. Nothing may panic,
//! and what the decoders promise is asserted inside (every line a row or a bad row, however the bytes are cut).
//!
//! A failing mutant is printed with the seed that makes it. `MILLSTREAM_FUZZ=n` plays n mutants of each target instead of
//! the usual few; start another run of them with `MILLSTREAM_SEED=s`.

use crate::dice::{Dice, env};
use std::panic::{AssertUnwindSafe, catch_unwind};

const MUTANTS: u64 = 2_000;

const SQL: &[&str] = &[
    "CREATE TABLE bid (auction BIGINT NOT NULL, price DECIMAL(10, 2), x ROW<a INT, b ARRAY<STRING>>, m MAP<STRING, INT>, \
     ts TIMESTAMP(3), l TIMESTAMP_LTZ(3), p AS PROCTIME(), c AS price * 2, k STRING METADATA FROM 'file.path' VIRTUAL, \
     WATERMARK FOR ts AS ts - INTERVAL '5' SECOND, PRIMARY KEY (auction) NOT ENFORCED) \
     PARTITIONED BY (auction) WITH ('connector' = 'filesystem', 'path' = '/tmp/x', 'format' = 'csv');",
    "SELECT window_start, COUNT(*) FILTER (WHERE price > 1), SUM(DISTINCT price) FROM TABLE(HOP(TABLE bid, DESCRIPTOR(ts), \
     INTERVAL '2' SECOND, INTERVAL '10' SECONDS)) GROUP BY GROUPING SETS ((window_start, window_end), ()) HAVING COUNT(*) > 1",
    "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT * FROM b; INSERT INTO c (x, y) VALUES (1, 'two'), (NULL, U&'\\00e9'); END;",
    "SELECT a.b.c[1], CAST(x AS TIMESTAMP_LTZ(3)), CASE WHEN x IS NOT DISTINCT FROM y THEN ROW(1, 2) END, \
     SUM(v) OVER (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '30' MINUTE PRECEDING AND CURRENT ROW) FROM t \
     CROSS JOIN UNNEST(arr) AS u(e) WHERE x LIKE '%a_' AND EXTRACT(DAY FROM ts) BETWEEN 1 AND 7 -- end",
    "SET 'table.local-time-zone' = 'Europe/Berlin'; SET 'parallelism.default' = '2'; RESET 'pipeline.name'; \
     CREATE TEMPORARY VIEW IF NOT EXISTS v (a, b) AS WITH w AS (SELECT 1) SELECT * FROM w; EXPLAIN SELECT 1; DROP VIEW v;",
];

const CSV: &[&str] = &[
    "1,text,2024-01-01 00:00:00,1.50,true,2.5e3,1;2;3,a;b\n2,\"quoted, \"\"twice\"\"\nand broken\",2024-02-29T23:59:59.999Z,-0.01,false,nan,,\r\n",
    "# comment\n,,,,,,,\n9223372036854775807,\u{e9}\u{1F600},1969-12-31 23:59:59.999,99999999.99,TRUE,-1e-308,0,x;\\N",
];

const JSON: &[&str] = &[
    "{\"i\":1,\"s\":\"te\\u00e9xt\\n\",\"t\":\"2024-01-01 00:00:00\",\"d\":1.5,\"b\":true,\"f\":2.5e3,\"l\":[1,null,3],\"r\":{\"x\":\"a\",\"y\":\"Yg==\"}}\n",
    "{\"f\":\"1\",\"unknown\":{\"deep\":[[[{}]]]},\"d\":\"99999999.99\"}\n\nnull\n{\"i\":99999999999999999999}\n{\"l\":{},\"r\":[]}",
];

const CHANGES: &[&str] = &[
    "{\"before\":null,\"after\":{\"i\":1,\"s\":\"x\",\"r\":{\"x\":\"}\"}},\"source\":{\"ts_ms\":1,\"db\":\"d\"},\"op\":\"c\",\"ts_ms\":2}\n\
     {\"before\":{\"i\":1},\"after\":{\"i\":2,\"l\":[1,2]},\"op\":\"u\"}\n{\"op\":\"d\",\"before\":{\"i\":2}}\n",
    "{\"database\":\"d\",\"table\":\"t\",\"type\":\"update\",\"ts\":1,\"data\":{\"i\":1,\"s\":\"y\"},\"old\":{\"\\u0073\":null}}\n\
     {\"type\":\"insert\",\"data\":{}}\n{\"type\":\"delete\",\"data\":{\"i\":1},\"primary_key_columns\":[\"i\"]}\n",
    "{\"type\":\"UPDATE\",\"data\":[{\"i\":\"1\"},{\"i\":\"2\"}],\"old\":[{\"s\":\"a\"},{}],\"sqlType\":{\"i\":4},\"es\":1,\"pkNames\":[\"i\"]}\n\
     {\"type\":\"INSERT\",\"data\":[],\"old\":null}\n{\"type\":\"CREATE\",\"data\":null}\n",
];

/// A few changes of the kinds that make parsers stumble.
fn mutate(dice: &mut Dice, of: &[&[u8]]) -> Vec<u8> {
    let mut bytes = of[dice.below(of.len() as u64) as usize].to_vec();
    for _ in 0..1 + dice.below(6) {
        let at = dice.below(bytes.len() as u64 + 1) as usize;
        match dice.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << dice.below(8),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.insert(
                at,
                dice.one(&["\"", "'", "(", ")", ",", ";", "\n", "\\", "{", "}", "[", "`", "\0", "-"]).as_bytes()[0],
            ),
            3 => bytes.truncate(at),
            4 => {
                let other = of[dice.below(of.len() as u64) as usize];
                let from = dice.below(other.len() as u64) as usize;
                let piece = other[from..(from + dice.below(40) as usize).min(other.len())].to_vec();
                bytes.splice(at..at, piece);
            }
            5 => {
                let piece = dice.one(&[
                    "INTERVAL",
                    "NULL",
                    "TABLE(",
                    "-9223372036854775808",
                    "1e400",
                    "\u{feff}",
                    "OVER (",
                    "\r\n",
                ]);
                bytes.splice(at..at, piece.bytes());
            }
            _ => {
                let to = (at + dice.below(20) as usize).min(bytes.len());
                let piece = bytes[at..to].to_vec();
                (0..dice.below(30)).for_each(|_| drop(bytes.splice(at..at, piece.iter().copied())));
            }
        }
    }
    bytes
}

fn play(name: &str, corpus: &[&str], target: fn(&[u8])) {
    play_bytes(name, &corpus.iter().map(|text| text.as_bytes()).collect::<Vec<_>>(), target);
}

fn play_bytes(name: &str, corpus: &[&[u8]], target: fn(&[u8])) {
    let first = env("MILLSTREAM_SEED").unwrap_or(0);
    for seed in first..first + env("MILLSTREAM_FUZZ").unwrap_or(MUTANTS) {
        let mutant = mutate(&mut Dice(seed), corpus);
        if catch_unwind(AssertUnwindSafe(|| target(&mutant))).is_err() {
            panic!("{name}, seed {seed}, panics on:\n{}", String::from_utf8_lossy(&mutant));
        }
    }
}

#[test]
fn no_script_makes_the_front_end_panic() {
    play("sql", SQL, millstream_plan::parse::fuzz_script);
}

#[test]
fn no_bytes_make_the_csv_decoder_panic_or_lose_a_line() {
    play("csv", CSV, millstream_formats::fuzz::csv);
}

#[test]
fn no_bytes_make_the_json_decoder_panic_or_lose_a_line() {
    play("json", JSON, millstream_formats::fuzz::json);
}

#[test]
fn no_bytes_make_the_avro_decoder_panic_or_depend_on_cuts() {
    use millstream_formats::avro::Codec;
    let plain = millstream_formats::fuzz::avro_file(Codec::Null);
    let packed = millstream_formats::fuzz::avro_file(Codec::Snappy);
    // Where the records begin: as messages they have no header before them.
    let mark = plain[plain.len() - 16..].to_vec();
    let at = plain.windows(16).position(|w| w == mark).expect("the header ends with it") + 18;
    let framed = [&[0, 0, 0, 0, 0], &plain[at..]].concat();
    play_bytes("avro", &[&plain, &packed, &plain[at..], &framed], millstream_formats::fuzz::avro);
}

#[test]
fn no_bytes_make_the_protobuf_decoder_panic_or_lose_a_record() {
    use millstream_formats::fuzz;
    let record = fuzz::protobuf_record();
    let framed = [&[0, 0, 0, 0, 0, 0], &record[..]].concat();
    let twice = [&record[..], &record[..]].concat();
    play_bytes("protobuf", &[&record, &framed, &twice, fuzz::PROTO.as_bytes()], fuzz::protobuf);
}

#[test]
fn no_bytes_make_the_decoders_of_changes_panic() {
    play("changes", CHANGES, millstream_formats::fuzz::changes);
}
