//! Queries whose results are updated, and those that join two logs.
//!
//! A result must be a function of the rows alone here too:
//! - Rows that are chosen by an order are chosen by one that names all columns, or only those columns are shown that tie.
//! - No row is late where two logs meet.
//! - Of two logs with few keys every row would meet hundreds: joins ask for more than the key.

use crate::dice::Dice;
use crate::workload::{FILTERS, named, windows};

/// Aggregates that do not depend on the order of rows.
const AGGREGATES: &[&str] = &[
    "COUNT(*)",
    "COUNT(v)",
    "COUNT(DISTINCT g)",
    "SUM(v)",
    "AVG(v)",
    "MIN(v)",
    "MAX(g)",
    "SUM(d)",
    "AVG(m)",
    "SUM(DISTINCT v)",
    "COUNT(*) FILTER (WHERE v > 0)",
    "MAX(ts)",
    "STDDEV_POP(v)",
];

const ALL_COLUMNS: &str = "k, g, v, d, m, b, ts";

/// A statement over `events` alone.
pub fn over_one_log(dice: &mut Dice) -> String {
    let filter = if dice.chance(4_000) { format!(" WHERE {}", dice.one(FILTERS)) } else { String::new() };
    match dice.below(6) {
        0 => {
            let keys = dice.some(&["k", "g", "b"], 1, 2).join(", ");
            let calls = named(&dice.some(AGGREGATES, 1, 4));
            let having = dice.one(&["", " HAVING COUNT(*) > 2", " HAVING SUM(v) > 0"]);
            format!("SELECT {keys}{calls} FROM events{filter} GROUP BY {keys}{having}")
        }
        // Results that are taken back reach another aggregate.
        1 => {
            let call = dice.one(&["COUNT(*)", "SUM(v)", "MAX(v)", "MIN(ts)", "SUM(d)"]);
            format!(
                "SELECT n, COUNT(*) AS keys, MIN(x) AS least, MAX(x) AS most FROM \
                 (SELECT k, g, COUNT(*) AS n, {call} AS x FROM events{filter} GROUP BY k, g) GROUP BY n"
            )
        }
        2 => {
            let keys = dice.one(&["k", "g", "b", "k, g"]);
            let order = dice.one(&["v DESC", "v", "ts DESC", "d", "g, v DESC"]);
            let (rank, n) = (dice.one(&["", ", rn"]), 1 + dice.below(5));
            format!(
                "SELECT {ALL_COLUMNS}{rank} FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY {order}, \
                 {ALL_COLUMNS}) AS rn FROM events{filter}) WHERE rn <= {n}"
            )
        }
        // Top-N of what is updated.
        3 => {
            let (n, order) = (1 + dice.below(4), dice.one(&["s DESC", "n", "n DESC, s"]));
            format!(
                "SELECT g, k, n, s FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY g ORDER BY {order}, n, s, k) AS rn FROM \
                 (SELECT g, k, COUNT(*) AS n, SUM(v) AS s FROM events{filter} GROUP BY g, k)) WHERE rn <= {n}"
            )
        }
        4 => {
            let (keys, order) = (dice.one(&["k", "g", "k, b"]), dice.one(&["", " DESC"]));
            format!(
                "SELECT {keys}, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY {keys} ORDER BY ts{order}) AS rn FROM \
                 events{filter}) WHERE rn = 1"
            )
        }
        _ => format!("SELECT DISTINCT k, g, b FROM events{filter}"),
    }
}

/// A statement over `events` and `more`. `hinted`: where a join keeps all rows of one side anyway, every task has them.
pub fn over_two_logs(dice: &mut Dice, hinted: bool) -> String {
    let filter = if dice.chance(3_000) { format!(" WHERE {}", dice.one(FILTERS)) } else { String::new() };
    let kind = dice.one(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
    let condition = dice.one(&["a.k = c.k AND a.v = c.v", "a.k = c.k AND a.b = c.b AND a.v < c.v - 150", "a.v = c.v"]);
    let hint = |kind: &str| match kind {
        "JOIN" | "LEFT JOIN" if hinted => "/*+ BROADCAST(c) */ ",
        "RIGHT JOIN" if hinted => "/*+ BROADCAST(a) */ ",
        _ => "",
    };
    match dice.below(8) {
        0 => format!(
            "SELECT {}a.k, a.g, a.v, a.ts, c.v AS w, c.g AS h FROM events a {kind} more c ON {condition}",
            hint(kind)
        ),
        1 => {
            let (not, on) =
                (dice.one(&["", "NOT "]), dice.one(&["c.k = a.k AND c.v = a.v", "c.v = a.v AND c.b = a.b"]));
            let hint = hint("JOIN");
            format!("SELECT k, g, v, ts FROM events a WHERE {not}EXISTS (SELECT {hint}1 FROM more c WHERE {on})")
        }
        2 => format!(
            "SELECT {}a.g, COUNT(*) AS n, COUNT(c.v) AS met, SUM(c.d) AS s, MAX(c.ts) AS latest FROM events a {kind} more c \
             ON {condition} GROUP BY a.g",
            hint(kind)
        ),
        3 => {
            let (before, after) = (dice.below(6), dice.below(6));
            format!(
                "SELECT a.k, a.v, a.ts, c.v AS w, c.ts AS at FROM events a {kind} more c ON a.k = c.k AND a.g = c.g AND \
                 a.b = c.b AND a.ts BETWEEN c.ts - INTERVAL '{before}' SECOND AND c.ts + INTERVAL '{after}' SECOND"
            )
        }
        4 => {
            // Both sides see the same windows.
            let mut again = dice.clone();
            let (one, other) = (windows(dice, "events"), windows(&mut again, "more"));
            format!(
                "SELECT a.k, a.n, c.n AS m, a.window_start, a.window_end FROM \
                 (SELECT k, window_start, window_end, COUNT(*) AS n FROM {one} GROUP BY k, window_start, window_end) a \
                 {kind} (SELECT k, window_start, window_end, SUM(v) AS n FROM {other} GROUP BY k, window_start, window_end) c \
                 ON a.k = c.k AND a.window_start = c.window_start AND a.window_end = c.window_end"
            )
        }
        5 => {
            let kind = dice.one(&["JOIN", "LEFT JOIN"]);
            format!(
                "CREATE VIEW latest AS SELECT k, ts FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY k ORDER BY ts DESC) AS \
                 rn FROM more) WHERE rn = 1;\n\
                 SELECT e.k, e.g, e.v, e.ts, r.ts AS since FROM events AS e {kind} latest FOR SYSTEM_TIME AS OF e.ts AS r ON \
                 e.k = r.k"
            )
        }
        6 => {
            let all = dice.one(&["UNION", "INTERSECT", "EXCEPT"]);
            format!("SELECT k, g, v FROM events{filter} {all} SELECT k, g, v FROM more")
        }
        _ => format!(
            "SELECT k, v, n FROM (SELECT {}a.k, a.v, c.n, ROW_NUMBER() OVER (PARTITION BY a.k ORDER BY c.n DESC, a.v, a.ts, \
             a.g, a.d, a.m, a.b) AS rn FROM events a JOIN (SELECT v, COUNT(*) AS n FROM more GROUP BY v) c ON a.v = c.v) \
             WHERE rn <= 3",
            hint("JOIN")
        ),
    }
}
