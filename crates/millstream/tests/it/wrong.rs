//! What people write wrong, and what they are told: `wrong.txt` holds each statement with its whole message.
//!
//! ```text
//! > SELECT prise FROM bid
//! column `prise` is unknown
//!   at q.sql:1:8
//!   help: did you mean `price`?
//! ```
//!
//! Every message says where, what and the remedy. `WRITE_WRONG=1 cargo test -p millstream wrong` writes the messages anew, to be
//! read before they are committed.

use millstream::{Program, Tables};
use std::fmt::Write;
use std::path::Path;

const TABLES: &str = "
CREATE TABLE bid (item STRING, price BIGINT, qty INT, tags ARRAY<STRING>, ts TIMESTAMP(3), twice AS price * 2,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND) WITH ('connector' = 'datagen', 'number-of-rows' = '1');
CREATE TABLE auction (id BIGINT, item STRING, seller STRING, ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen');
CREATE TABLE rates (item STRING, rate BIGINT, ts TIMESTAMP(3), PRIMARY KEY (item) NOT ENFORCED, WATERMARK FOR ts AS ts)
  WITH ('connector' = 'datagen');
CREATE TABLE plain (k STRING, v DOUBLE, ts TIMESTAMP(3)) WITH ('connector' = 'datagen');
CREATE TABLE people (name STRING, `user` STRING) WITH ('connector' = 'datagen');
CREATE TABLE totals (item STRING, total BIGINT) WITH ('connector' = 'filesystem', 'path' = 'totals', 'format' = 'json');
CREATE TABLE dear (item STRING, price INT NOT NULL) WITH ('connector' = 'blackhole');
";

/// What is said of the statement; nothing, if it is right. A panic is a failure of one statement like others.
fn said(statement: &str) -> Option<String> {
    let checked = std::panic::catch_unwind(|| {
        let tables = Tables::default();
        Program::parse(statement, "q.sql").and_then(|mut program| {
            program.initialize(TABLES, "tables.sql", &tables)?;
            program.check(&tables)
        })
    });
    match checked {
        Ok(checked) => checked.err().map(|e| e.to_string()),
        Err(_) => Some("a panic".to_owned()),
    }
}

#[test]
fn wrong_statements_are_answered_with_where_what_and_the_remedy() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/wrong.txt");
    let text = std::fs::read_to_string(&file).expect("wrong.txt is there");
    let (mut anew, mut wrong, mut statements) = (String::new(), Vec::new(), 0);
    for block in text.split("\n\n").map(str::trim).filter(|b| !b.is_empty()) {
        let Some(block) = block.strip_prefix("> ") else {
            assert!(block.starts_with('#'), "neither a heading nor a statement: {block}");
            let _ = write!(anew, "{block}\n\n");
            continue;
        };
        statements += 1;
        let (statement, wanted) = block.split_once('\n').unwrap_or((block, ""));
        let said = said(statement).unwrap_or_default();
        let _ = write!(anew, "> {statement}\n{said}\n\n");
        for (part, is_there) in [
            ("what", !said.is_empty()),
            ("where", said.contains("\n  at ")),
            ("the remedy", said.contains("\n  help: ")),
        ] {
            if !is_there {
                wrong.push(format!("> {statement}\ndoes not say {part}: {said}"));
            }
        }
        if said != wanted {
            wrong.push(format!("> {statement}\nwanted: {wanted}\nsaid: {said}"));
        }
    }
    if std::env::var_os("WRITE_WRONG").is_some() {
        std::fs::write(&file, anew.trim_end().to_owned() + "\n").expect("wrong.txt can be written");
    }
    assert!(statements >= 100, "only {statements} statements");
    assert!(wrong.is_empty(), "{} of {statements} statements:\n\n{}", wrong.len(), wrong.join("\n\n"));
}
