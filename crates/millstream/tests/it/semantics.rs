//! The rules of event time, each with a tiny worked example, from SQL to rows. The rows come in the order written; the
//! answer is the same at any parallelism.

use crate::support::run;
use millstream::Mode;

/// A table `t (ts, k, v)` over these rows, in this order, whose watermark is `delay` behind. Times are seconds (with
/// fraction) since the epoch.
struct Table {
    rows: Vec<(f64, &'static str, i64)>,
    delay: &'static str,
    settings: &'static str,
    time: &'static str,
    /// Nothing is late, so batch mode must agree.
    in_batch_too: bool,
}

fn rows(rows: &[(f64, &'static str, i64)]) -> Table {
    Table { rows: rows.to_vec(), delay: "0", settings: "", time: "TIMESTAMP(3)", in_batch_too: false }
}

/// Rows of one key.
fn times(times: &[f64]) -> Table {
    rows(&times.iter().map(|t| (*t, "a", 1)).collect::<Vec<_>>())
}

impl Table {
    fn delay(mut self, seconds: &'static str) -> Table {
        self.delay = seconds;
        self
    }

    fn in_batch_too(mut self) -> Table {
        self.in_batch_too = true;
        self
    }

    fn set(mut self, settings: &'static str) -> Table {
        self.settings = settings;
        self
    }

    fn local_time_zone(mut self) -> Table {
        self.time = "TIMESTAMP_LTZ(3)";
        self
    }

    /// The answer of streaming, which must be the same at any parallelism.
    fn answers(&self, query: &str) -> Vec<String> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("t.csv");
        let lines = self.rows.iter().map(|(t, k, v)| {
            let at = millstream::Watermark((t * 1000.0).round() as i64);
            format!("{at},{k},{v}\n")
        });
        std::fs::write(&file, lines.collect::<String>()).expect("a temporary file can be written");
        let sql = format!(
            "{}CREATE TABLE t (ts {}, k STRING, v BIGINT, WATERMARK FOR ts AS ts - INTERVAL '{}' SECOND) WITH \
             ('connector' = 'filesystem', 'path' = '{}', 'format' = 'csv');\n{query}",
            self.settings,
            self.time,
            self.delay,
            file.display()
        );
        let one = run(&sql, Mode::Streaming, 1).unwrap_or_else(|e| panic!("{e}\n{sql}"));
        if self.in_batch_too {
            let batch = run(&sql, Mode::Batch, 1).unwrap_or_else(|e| panic!("{e}\n{sql}"));
            assert_eq!(one, batch, "batch mode changes the answer of\n{sql}");
        }
        for parallelism in [2, 7] {
            let many = run(&sql, Mode::Streaming, parallelism).unwrap_or_else(|e| panic!("{e}\n{sql}"));
            assert_eq!(one, many, "parallelism {parallelism} changes the answer of\n{sql}");
        }
        one
    }

    /// Windows of `t` as `start..end k count`, in seconds of the day.
    fn windows(&self, function: &str) -> Vec<String> {
        let query = format!(
            "SELECT window_start, window_end, k, COUNT(*), SUM(v) FROM TABLE({function}) GROUP BY window_start, window_end, k"
        );
        let short = |time: &str| {
            let time = time.split('T').nth(1).unwrap_or(time).trim_end_matches('Z').to_owned();
            time.strip_prefix("00:00:").map_or(time.clone(), str::to_owned)
        };
        self.answers(&query)
            .iter()
            .map(|row| {
                let cells: Vec<&str> = row.split('|').collect();
                format!("{}..{} {} {}/{}", short(cells[0]), short(cells[1]), cells[2], cells[3], cells[4])
            })
            .collect()
    }
}

fn tumble(size: u32) -> String {
    format!("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '{size}' SECOND)")
}

#[test]
fn rule_1_window_starts_are_floored_below_the_epoch_too() {
    assert_eq!(times(&[-1.0, 0.0, 9.999]).delay("60").windows(&tumble(10)), ["23:59:50..00 a 1/1", "00..10 a 2/2"]);
}

#[test]
fn rule_1_offsets_move_the_windows_either_way() {
    let t = times(&[4.0]).delay("60");
    let minutes =
        |offset: &str| format!("TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE, INTERVAL '{offset}' MINUTE)");
    assert_eq!(t.windows(&minutes("0")), ["00..00:10:00 a 1/1"]);
    assert_eq!(t.windows(&minutes("-4")), ["23:56:00..00:06:00 a 1/1"]);
    for offset in ["4", "-6", "-16"] {
        assert_eq!(t.windows(&minutes(offset)), ["23:54:00..00:04:00 a 1/1"], "offset {offset}");
    }
}

#[test]
fn rule_4_a_hop_may_be_no_multiple_of_its_slide() {
    let hop = "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND, INTERVAL '5' SECOND)";
    assert_eq!(times(&[7.0]).windows(hop), ["04..09 a 1/1", "06..11 a 1/1"]);
    assert_eq!(times(&[6.0]).windows(hop), ["02..07 a 1/1", "04..09 a 1/1", "06..11 a 1/1"]);
}

#[test]
fn rule_5_cumulating_windows_fire_steps_without_a_new_row() {
    let cumulate = "CUMULATE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' MINUTE, INTERVAL '10' MINUTE)";
    let minute = 60.0;
    let t = rows(&[(11.0 * minute, "a", 3), (13.0 * minute, "a", 1), (17.0 * minute, "a", 6)]).delay("60");
    assert_eq!(
        t.windows(cumulate),
        [
            "00:10:00..00:12:00 a 1/3",
            "00:10:00..00:14:00 a 2/4",
            "00:10:00..00:16:00 a 2/4",
            "00:10:00..00:18:00 a 3/10",
            "00:10:00..00:20:00 a 3/10"
        ]
    );
}

#[test]
fn rules_6_and_7_a_window_closes_one_millisecond_before_its_end() {
    // Whoever comes after the closing is left out; one millisecond earlier it still counts.
    assert_eq!(times(&[1.0, 9.999, 2.0]).windows(&tumble(10)), ["00..10 a 2/2"]);
    assert_eq!(times(&[1.0, 9.998, 2.0]).windows(&tumble(10)), ["00..10 a 3/3"]);
    // SQL's watermark is max - delay, without the further millisecond of the DataStream API.
    assert_eq!(times(&[1.0, 14.999, 2.0]).delay("5").windows(&tumble(10)), ["00..10 a 1/1", "10..20 a 1/1"]);
    assert_eq!(times(&[1.0, 14.998, 2.0]).delay("5").windows(&tumble(10)), ["00..10 a 2/2", "10..20 a 1/1"]);
}

#[test]
fn rule_9_a_row_late_for_one_window_still_counts_in_the_others() {
    let hop = "HOP(TABLE t, DESCRIPTOR(ts), INTERVAL '5' SECOND, INTERVAL '10' SECOND)";
    assert_eq!(times(&[12.0, 8.0]).windows(hop), ["05..15 a 2/2", "10..20 a 1/1"]);
}

#[test]
fn rule_10_within_the_allowed_lateness_the_whole_new_result_comes_again() {
    // Whether the first result is seen too depends on the cut into batches; what is last does not.
    let t = times(&[1.0, 12.0, 2.0]).set("SET 'table.exec.emit.allow-lateness' = '5 s';\n");
    assert_eq!(t.windows(&tumble(10)), ["00..10 a 2/2", "10..20 a 1/1"]);
    let t = times(&[1.0, 15.0, 2.0]).set("SET 'table.exec.emit.allow-lateness' = '5 s';\n");
    assert_eq!(t.windows(&tumble(10)), ["00..10 a 1/1", "10..20 a 1/1"]);
}

fn session(gap: u32) -> String {
    format!("SESSION(TABLE t PARTITION BY k, DESCRIPTOR(ts), INTERVAL '{gap}' SECOND)")
}

#[test]
fn rule_15_rows_exactly_the_gap_apart_are_one_session() {
    assert_eq!(times(&[10.0, 15.0]).windows(&session(5)), ["10..20 a 2/2"]);
    assert_eq!(times(&[10.0, 15.001]).windows(&session(5)), ["10..15 a 1/1", "15.001..20.001 a 1/1"]);
}

#[test]
fn rule_16_a_row_between_bridges_two_sessions() {
    assert_eq!(times(&[10.0, 12.0, 20.0, 16.0]).delay("10").windows(&session(5)), ["10..25 a 4/4"]);
}

#[test]
fn rule_17_a_session_closes_one_millisecond_before_the_gap_is_over() {
    let open = rows(&[(20.0, "a", 1), (24.998, "b", 1), (20.5, "a", 1)]);
    assert_eq!(open.windows(&session(5)), ["20..25.500 a 2/2", "24.998..29.998 b 1/1"]);
    // Closed: the row is too late for that session, but a session of its own is still open.
    let closed = rows(&[(20.0, "a", 1), (24.999, "b", 1), (20.5, "a", 1)]);
    assert_eq!(closed.windows(&session(5)), ["20.500..25.500 a 1/1", "20..25 a 1/1", "24.999..29.999 b 1/1"]);
}

#[test]
fn rule_28_rows_without_a_window_have_no_window() {
    // An aggregate without keys over no rows gives nothing: there is no window to speak of.
    let query = "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                 WHERE v > 100 GROUP BY window_start, window_end";
    assert_eq!(times(&[1.0, 2.0]).answers(query), Vec::<String>::new());
}

#[test]
fn rule_32_the_end_of_the_input_closes_everything() {
    assert_eq!(times(&[1.0]).delay("3600").windows(&tumble(10)), ["00..10 a 1/1"]);
}

#[test]
fn rule_33_windows_over_local_time_shift_with_the_session_zone() {
    let at = 14.0 * 3600.0 + 60.0;
    let function = "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' MINUTE)";
    assert_eq!(times(&[at]).windows(function), ["14:00:00..14:10:00 a 1/1"]);
    let zone = "SET 'table.local-time-zone' = 'Asia/Shanghai';\n";
    assert_eq!(times(&[at]).set(zone).windows(function), ["14:00:00..14:10:00 a 1/1"], "TIMESTAMP knows no zone");
    // A TIMESTAMP_LTZ in a file is an instant, written in UTC as in Flink.
    let local = times(&[at]).local_time_zone().set(zone);
    assert_eq!(local.windows(function), ["22:00:00..22:10:00 a 1/1"]);
    let day = "TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' DAY)";
    assert_eq!(local.windows(day), ["00..00 a 1/1"]);
}

#[test]
fn rule_34_a_window_is_grouped_by_both_its_bounds() {
    let sql = "CREATE TABLE t (ts TIMESTAMP(3), WATERMARK FOR ts AS ts) WITH ('connector' = 'datagen', 'number-of-rows' = '1'); \
               SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '1' SECOND)) GROUP BY window_start";
    let error = run(sql, Mode::Streaming, 1).expect_err("window_end is missing").to_string();
    assert!(error.contains("window_end"), "{error}");
}

#[test]
fn rule_34_windows_chain_by_window_time() {
    let query = "SELECT window_start, window_end, SUM(n) FROM TABLE(TUMBLE(TABLE small, DESCRIPTOR(w), INTERVAL '10' SECOND)) \
                 GROUP BY window_start, window_end";
    let view = "CREATE VIEW small AS SELECT k, window_time AS w, COUNT(*) AS n FROM \
                TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '2' SECOND)) GROUP BY k, window_start, window_end, window_time;\n";
    let answer = times(&[1.0, 3.0, 3.5, 11.0]).answers(&format!("{view}{query}"));
    assert_eq!(answer, ["1970-01-01T00:00:00|1970-01-01T00:00:10|3", "1970-01-01T00:00:10|1970-01-01T00:00:20|1"]);
}

#[test]
fn rule_37_two_inputs_advance_with_the_slower_one() {
    // One branch of the union is delayed by a minute, so the windows wait for it and lose nothing.
    let query = "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE both, DESCRIPTOR(ts), INTERVAL '10' SECOND)) \
                 GROUP BY window_start, window_end";
    let view = "CREATE VIEW both AS SELECT ts, v FROM t WHERE v = 1 UNION ALL SELECT ts, v FROM t WHERE v = 2;\n";
    let t = rows(&[(1.0, "a", 1), (2.0, "a", 2), (11.0, "a", 1), (12.0, "a", 2)]);
    assert_eq!(t.answers(&format!("{view}{query}")), ["1970-01-01T00:00:00|2", "1970-01-01T00:00:10|2"]);
}

#[test]
fn the_current_watermark_is_the_one_before_the_row() {
    let query = "SELECT v, CURRENT_WATERMARK(ts), ts > CURRENT_WATERMARK(ts) FROM t";
    let t = rows(&[(10.0, "a", 1), (12.0, "b", 2), (11.0, "a", 3), (20.0, "b", 4), (12.0, "a", 5), (15.0, "b", 6)]);
    let wanted = [
        "1|NULL|NULL",
        "2|1970-01-01T00:00:05|true",
        "3|1970-01-01T00:00:07|true",
        "4|1970-01-01T00:00:07|true",
        "5|1970-01-01T00:00:15|false",
        "6|1970-01-01T00:00:15|false",
    ];
    assert_eq!(t.delay("5").in_batch_too().answers(query), wanted);
}

#[test]
fn rows_that_are_not_late_are_those_above_the_current_watermark() {
    // Far more rows than one batch, late ones among them, and behind an exchange by key.
    let mut all: Vec<(f64, &'static str, i64)> = Vec::new();
    for i in 0..30_000i64 {
        let back = if i % 7 == 0 { 40.0 } else { (i % 5) as f64 };
        all.push((1_000.0 + i as f64 / 10.0 - back, ["a", "b", "c"][i as usize % 3], i));
    }
    let (mut before, mut kept) = (f64::MIN, [0i64; 3]);
    for (time, _, v) in &all {
        kept[*v as usize % 3] += i64::from(*time > before);
        before = before.max(time - 10.0);
    }
    assert!(kept.iter().sum::<i64>() < 29_000, "some rows are late: {kept:?}");
    let query = "SELECT k, COUNT(*) FROM TABLE(TUMBLE(TABLE punctual, DESCRIPTOR(ts), INTERVAL '1' DAY)) GROUP BY k, \
                 window_start, window_end";
    let view =
        "CREATE VIEW punctual AS SELECT * FROM t WHERE CURRENT_WATERMARK(ts) IS NULL OR ts > CURRENT_WATERMARK(ts);\n";
    let wanted: Vec<String> = ["a", "b", "c"].iter().zip(kept).map(|(k, n)| format!("{k}|{n}")).collect();
    assert_eq!(rows(&all).delay("10").in_batch_too().answers(&format!("{view}{query}")), wanted);
}

#[test]
fn m6_a_sum_of_doubles_does_not_depend_on_the_order() {
    let query = "SELECT SUM(CAST(v AS DOUBLE) / 10), AVG(CAST(v AS DOUBLE) / 3) FROM \
                 TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end";
    let values = [1_000_000_000_000_000, 1, -999_999_999_999_999, 3, 7, -5, 123_456_789_012];
    let forward: Vec<(f64, &'static str, i64)> = values.iter().map(|v| (1.0, "a", *v)).collect();
    let backward: Vec<(f64, &'static str, i64)> = forward.iter().rev().copied().collect();
    assert_eq!(rows(&forward).answers(query), rows(&backward).answers(query));
}

#[test]
fn m8_ties_go_by_their_place_in_the_source() {
    let query = "SELECT k, FIRST_VALUE(v), LAST_VALUE(v), LISTAGG(CAST(v AS STRING), '-') FROM \
                 TABLE(TUMBLE(TABLE t, DESCRIPTOR(ts), INTERVAL '10' SECOND)) GROUP BY window_start, window_end, k";
    let t = rows(&[(3.0, "a", 30), (1.0, "a", 10), (1.0, "a", 11), (3.0, "a", 31), (2.0, "b", 20)])
        .delay("5")
        .in_batch_too();
    assert_eq!(t.answers(query), ["a|10|31|10-11-30-31", "b|20|20|20"]);
}

#[test]
fn over_a_range_takes_in_both_bounds_and_all_peers() {
    let query = "SELECT ts, v, COUNT(*) OVER w, SUM(v) OVER w FROM t \
                 WINDOW w AS (PARTITION BY k ORDER BY ts RANGE BETWEEN INTERVAL '10' SECOND PRECEDING AND CURRENT ROW)";
    let t = rows(&[(10.0, "a", 1), (0.0, "a", 2), (10.0, "a", 4), (20.001, "a", 8), (10.0, "b", 16)]).delay("30");
    assert_eq!(
        t.answers(query),
        [
            "1970-01-01T00:00:00|2|1|2",
            "1970-01-01T00:00:10|16|1|16",
            "1970-01-01T00:00:10|1|3|7",
            "1970-01-01T00:00:10|4|3|7",
            "1970-01-01T00:00:20.001|8|1|8"
        ]
    );
}

#[test]
fn over_rows_counts_rows_in_the_order_of_time_and_source() {
    let query = "SELECT v, SUM(v) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), \
                 COUNT(*) OVER (PARTITION BY k ORDER BY ts ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) FROM t";
    let t = rows(&[(2.0, "a", 1), (1.0, "a", 2), (2.0, "a", 4), (3.0, "a", 8)]).delay("30").in_batch_too();
    assert_eq!(t.answers(query), ["1|3|2", "2|2|1", "4|5|3", "8|12|4"]);
}

#[test]
fn windows_by_processing_time_lose_no_row() {
    let sql = "CREATE TABLE t (n BIGINT, p AS PROCTIME()) WITH ('connector' = 'datagen', 'number-of-rows' = '50000', \
               'fields.n.kind' = 'sequence', 'fields.n.start' = '1', 'fields.n.end' = '50000'); \
               SELECT n / 30000, COUNT(*), SUM(n) FROM TABLE(TUMBLE(TABLE t, DESCRIPTOR(p), INTERVAL '1' DAY)) \
               GROUP BY window_start, window_end, n / 30000";
    for parallelism in [1, 2] {
        let mut counts: Vec<(i64, i64, i64)> = Vec::new();
        for row in run(sql, Mode::Streaming, parallelism).expect("runs") {
            let cells: Vec<i64> = row.split('|').map(|c| c.parse().expect("a number")).collect();
            // The run may stand on midnight, when there are two windows.
            match counts.iter_mut().find(|c| c.0 == cells[0]) {
                Some(c) => {
                    c.1 += cells[1];
                    c.2 += cells[2];
                }
                None => counts.push((cells[0], cells[1], cells[2])),
            }
        }
        counts.sort_unstable();
        assert_eq!(counts, [(0, 29_999, 449_985_000), (1, 20_001, 800_040_000)]);
    }
}
