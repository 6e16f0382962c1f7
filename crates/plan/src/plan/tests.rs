//! Each construct of the language with the graph that it becomes, and each refusal with its words.

use super::*;
use crate::catalog::Catalog;
use crate::explain;
use crate::parse::script;
use crate::statement::StatementKind;
use arrow::datatypes::{DataType, Field, TimeUnit};
use millstream_core::table::TableUse;
use millstream_core::{Connectors, Sink, Source};

/// Every table is fine; there is nothing to open.
struct Anything;

impl Connectors for Anything {
    fn validate(&self, _: &TableSpec, _: TableUse) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, _: &TableSpec) -> Result<Vec<Field>> {
        let time = DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()));
        Ok(vec![Field::new("timestamp", time, true), Field::new("file.path", DataType::Utf8, false)])
    }

    fn open_source(&self, _: &TableSpec) -> Result<Box<dyn Source>> {
        Err(Error::internal("nothing to open"))
    }

    fn open_sink(&self, _: &TableSpec, _: usize, _: usize) -> Result<Box<dyn Sink>> {
        Err(Error::internal("nothing to open"))
    }
}

const TABLES: &str = "
CREATE TABLE bid (auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, qty INT, ts TIMESTAMP(3), tags ARRAY<STRING>,
  items ARRAY<ROW<sku STRING, n INT>>, info ROW<city STRING, zip INT>, fee AS price * 2, at AS PROCTIME(),
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND) WITH ('connector' = 'x');
CREATE TABLE plain (k STRING, v DOUBLE, ts TIMESTAMP(3)) WITH ('connector' = 'x');
CREATE TABLE ltz (k STRING, v INT, ts TIMESTAMP_LTZ(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'x');
CREATE TABLE counts (auction BIGINT, n BIGINT, window_end TIMESTAMP(3)) WITH ('connector' = 'x');
";

fn try_plan(sql: &str) -> Result<Planned> {
    let mut catalog = Catalog::default();
    for s in script(TABLES, "tables.sql")? {
        catalog.apply(&s, "tables.sql")?;
    }
    let mut planned = None;
    for s in script(sql, "q.sql")? {
        let job = match &s.kind {
            StatementKind::Insert(i) => Job::Inserts(std::slice::from_ref(i)),
            StatementKind::StatementSet(all) => Job::Inserts(all),
            StatementKind::Query(query) => Job::Query { query, span: s.span },
            _ => {
                catalog.apply(&s, "q.sql")?;
                continue;
            }
        };
        planned = Some(plan_job(&catalog, job, "q.sql", &Anything, 0)?);
    }
    planned.ok_or_else(|| Error::usage("no query"))
}

fn plan(sql: &str) -> Planned {
    try_plan(sql).unwrap_or_else(|e| panic!("{sql}\n{e}"))
}

fn text(sql: &str) -> String {
    explain::text(&plan(sql).dataflow)
}

#[track_caller]
fn check(sql: &str, expected: &str) {
    let got = text(sql);
    let trim = |s: &str| s.trim_matches('\n').lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
    assert!(trim(&got) == trim(expected), "\n--- {sql}\n{got}");
}

#[track_caller]
fn refused(sql: &str, expected: &str) {
    match try_plan(sql) {
        Ok(p) => panic!("planned: {sql}\n{}", explain::text(&p.dataflow)),
        Err(e) => assert!(e.to_string() == expected.trim(), "\n--- {sql}\n{e}"),
    }
}

#[test]
fn show() {
    for sql in std::fs::read_to_string(std::env::var("SHOW").unwrap_or_default()).unwrap_or_default().split("\n\n") {
        match try_plan(sql) {
            Ok(p) => println!("--- {sql}\n{}", explain::text(&p.dataflow)),
            Err(e) => println!("--- {sql}\nERROR {e}\n"),
        }
    }
}
