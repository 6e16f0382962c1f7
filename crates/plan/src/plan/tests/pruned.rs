//! Fields of ROW columns that nobody reads are left out by the source.

use super::*;

const TABLES: &str = "
CREATE TABLE s (k BIGINT, r ROW<a BIGINT, b STRING, c ROW<x INT, y INT, m MAP<STRING, INT>>, d STRING>, o ROW<p INT, q INT>,
  ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'by-name');
CREATE TABLE t (k BIGINT, r ROW<a BIGINT, b STRING>) WITH ('connector' = 'x');
CREATE TABLE one (v BIGINT) WITH ('connector' = 'x');
CREATE TABLE two (v STRING) WITH ('connector' = 'x');
";

/// What the sources read, line by line.
#[track_caller]
fn reads(sql: &str, expected: &[&str]) {
    let planned = plan(&format!("{TABLES}{sql}"));
    well_formed(&planned.dataflow);
    let text = explain::text(&planned.dataflow);
    let got: Vec<&str> =
        text.lines().filter_map(|line| line.trim_start_matches([' ', '│']).strip_prefix("reads ")).collect();
    assert_eq!(got, expected, "\n{text}");
}

#[test]
fn only_the_fields_that_are_named_are_read() {
    reads("SELECT r.a FROM s", &["r(a), ts"]);
    reads("SELECT r.d, r.a + 1 FROM s WHERE r.b = 'x'", &["r(a, b, d), ts"]);
    reads("SELECT k, o.q, r.b FROM s", &["k, r(b), o(q), ts"]);
}

#[test]
fn rows_in_rows() {
    reads("SELECT r.c.x FROM s", &["r(c(x)), ts"]);
    reads("SELECT r.c.x, r.c.y, r.a FROM s", &["r(a, c(x, y)), ts"]);
    reads("SELECT r.c.x, r.c FROM s", &["r(c(x, y, m)), ts"]);
    reads("SELECT r.c.m['key'] FROM s", &["r(c(m)), ts"]);
}

#[test]
fn a_row_that_somebody_takes_whole_is_whole() {
    reads("SELECT r, r.a FROM s", &["r(a, b, c(x, y, m), d), ts"]);
    reads("SELECT r.a FROM s WHERE r IS NOT NULL", &["r(a, b, c(x, y, m), d), ts"]);
    reads("SELECT o, COUNT(*) FROM s GROUP BY o", &["o(p, q), ts"]);
    // One statement of a set names fields, another hands the row on.
    let set = |second: &str| {
        format!(
            "EXECUTE STATEMENT SET BEGIN INSERT INTO one SELECT r.a FROM s; INSERT INTO two SELECT {second} FROM s; END"
        )
    };
    reads(&set("r.b"), &["r(a, b), ts"]);
    reads(&set("CAST(r AS STRING)"), &["r(a, b, c(x, y, m), d), ts"]);
}

#[test]
fn behind_a_source_that_is_joined_or_grouped_at_once() {
    // A row goes through a join as it is, a condition of one side does not.
    reads("SELECT x.r.a FROM s x JOIN s y ON x.k = y.k WHERE y.o.p = 1", &["k, r(a, b, c(x, y, m), d), o(p), ts"]);
    reads("SELECT r.b, COUNT(*) FROM s GROUP BY r.b", &["r(b), ts"]);
}

#[test]
fn a_connector_that_goes_by_position_gets_the_whole_row() {
    reads("SELECT r.a FROM t", &["r(a, b)"]);
}

#[test]
fn a_computed_column_and_the_watermark_count_as_readers() {
    reads(
        "CREATE TABLE c (r ROW<t TIMESTAMP(3), a INT, b INT, c INT>, s AS r.a + 1, ts AS r.t, WATERMARK FOR ts AS ts)
           WITH ('connector' = 'by-name');
         SELECT r.b, s FROM c",
        &["r(t, a, b)"],
    );
}
