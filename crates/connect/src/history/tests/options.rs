//! What is said of options that are wrong.

use super::*;

/// The error that the options give, as a user reads it.
fn said(base: &[(&str, &str)], changed: &[(&str, &str)], without: &[&str]) -> String {
    let mut table = table(&[base, changed].concat());
    without.iter().for_each(|key| drop(table.options.remove(*key)));
    let e = HistoryThenLive.validate(&table, TableUse::Source).expect_err("wrong");
    e.to_string()
}

#[test]
fn what_is_right_is_taken() {
    for base in [BY_OFFSET, BY_ID, BY_TIME] {
        HistoryThenLive.validate(&table(base), TableUse::Source).expect("right");
    }
    let explicit = [BY_TIME, &[("handover.time", "2026-01-31 12:00:00"), ("live.scan.bounded.mode", "latest-offset")]];
    HistoryThenLive.validate(&table(&explicit.concat()), TableUse::Source).expect("right");
}

/// The handover, options changed, options left out, and what the error says.
type Case = (&'static str, &'static [(&'static str, &'static str)], &'static [&'static str], &'static [&'static str]);

#[test]
fn errors_name_the_whole_key_and_guess() {
    let cases: [Case; 16] = [
        ("", &[("history.pth", "x")], &[], &["'history.pth'", "did you mean 'history.path'"]),
        ("", &[], &["history.path"], &["'history.path'"]),
        ("", &[("live.topik", "x")], &["live.topic"], &["'live.topik'", "did you mean 'live.topic'"]),
        ("", &[("history.format", "parket")], &[], &["there is no format 'parket'", "parquet"]),
        ("", &[("handover.partition-colum", "p")], &[], &["did you mean 'handover.partition-column'"]),
        ("", &[("handover", "ofset")], &[], &["'handover' cannot be 'ofset'", "did you mean 'offset'"]),
        ("", &[("live.connector", "kafkaa")], &[], &["'live.connector' cannot be 'kafkaa'", "did you mean 'kafka'"]),
        ("", &[], &["handover.offset-column"], &["'handover.offset-column'"]),
        ("", &[("live.scan.startup.mode", "latest-offset")], &[], &["'live.scan.startup.mode'", "begins behind"]),
        ("", &[("live.topic", "a;b")], &[], &["one topic", "'live.topic'"]),
        ("", &[("history.source.monitor-interval", "1 s")], &[], &["'history.source.monitor-interval'", "has an end"]),
        ("", &[("handover.id-column", "id")], &[], &["'handover.id-column' is set", "no use for it"]),
        ("", &[("history.format", "csv")], &[], &["finds columns by their place"]),
        ("id", &[("handover.id-column", "idd")], &[], &["`idd`", "did you mean `id`"]),
        ("id", &[("handover.overlap", "1 h")], &[], &["'handover.overlap' is longer than 'handover.id-memory'"]),
        ("id", &[("live.scan.bounded.mode", "latest")], &[], &["'live.scan.bounded.mode' cannot be 'latest'"]),
    ];
    for (base, changed, without, parts) in cases {
        let text = said(if base == "id" { BY_ID } else { BY_OFFSET }, changed, without);
        for part in parts {
            assert!(text.contains(part), "{changed:?} without {without:?}: no {part:?} in\n{text}");
        }
    }
}

#[test]
fn a_time_that_is_needed_is_asked_for_and_one_that_is_there_is_found() {
    let mut table = table(BY_TIME);
    let times = [Field::new("a", DataType::Date32, true), Field::new("b", DataType::Int64, true)];
    table.schema = Arc::new(Schema::new(times.to_vec()));
    let e = HistoryThenLive.validate(&table, TableUse::Source).expect_err("no TIMESTAMP");
    assert!(e.to_string().contains("'handover.time-column'"), "{e}");
    table.options.insert("handover.time-column".into(), "a".into());
    let e = HistoryThenLive.validate(&table, TableUse::Source).expect_err("a DATE");
    assert!(e.to_string().contains("DATE"), "{e}");
    table.options.insert("handover.time-column".into(), "b".into());
    HistoryThenLive.validate(&table, TableUse::Source).expect("milliseconds");
}

#[test]
fn it_is_read_and_not_written() {
    let e = HistoryThenLive.validate(&table(BY_TIME), TableUse::Sink).expect_err("a sink");
    assert!(e.what().contains("only gives rows"), "{e}");
    assert!(HistoryThenLive.validate(&table(BY_TIME), TableUse::Lookup).is_err());
}
